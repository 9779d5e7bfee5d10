"""``repgeom run``: execute pages, store their outputs and records."""

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from repgeom.cli import Failure
from repgeom.cli.pages import Page


@click.command()
@click.argument("slugs", nargs=-1)
@click.option("--changed", is_flag=True, help="Only pages whose code or imported modules differ from the record's.")
@click.option("--gpu", is_flag=True, help="At full scale, gpu cells included; writes <slug>.full.json. Needs CUDA.")
def run(slugs: tuple[str, ...], changed: bool, gpu: bool) -> None:
    """Execute pages and store their outputs and records.

    Without SLUGS: with --changed the changed pages, otherwise nothing is run.

    \b
    Example:
      repgeom run rotation_representations
      repgeom run --changed

    Exit statuses: 0 done, 1 a page cannot be read, 2 wrong usage or no CUDA for --gpu, 3 a page failed to execute
    (nothing of it is overwritten).
    """
    from repgeom.cli.pages import find_root, select

    if not slugs and not changed:
        raise Failure("name a chapter, or give --changed for those that need it", 2)
    pages = select(find_root(), slugs)
    scale = "full" if gpu else "ci"
    if gpu:
        import torch

        if not torch.cuda.is_available():
            raise Failure("--gpu needs a CUDA GPU, and this machine has none; without --gpu the CI scale is run", 2)
    if changed:
        pages = [page for page in pages if is_stale(page, scale)]
        if not pages:
            click.echo("nothing changed", err=True)
    for page in pages:
        run_page(page, gpu)


def is_stale(page: Page, scale: str = "ci") -> bool:
    """Whether a page must be executed: no record, other inputs than the record's, or a twin that lost an output."""
    from repgeom.cli.inputs import digest
    from repgeom.cli.notebooks import build

    record = page.record(scale)
    if not record.is_file() or not page.twin.is_file():
        return True
    try:
        known = json.loads(record.read_text(encoding="utf-8")).get("inputs")
    except ValueError:
        return True
    return known != digest(page, build(page), scale)


def run_page(page: Page, gpu: bool = False) -> None:
    """Execute one page; write twin and record only when all of it went well."""
    from repgeom.cli.inputs import digest
    from repgeom.cli.notebooks import as_text, build, execute, read_twin, settle, write_if_changed
    from repgeom.repro import records

    start, scale = time.perf_counter(), "full" if gpu else "ci"
    notebook = build(page)
    inputs = digest(page, notebook, scale)
    folder = Path(tempfile.mkdtemp(prefix="repgeom-"))
    try:
        if gpu:
            at_full_scale(page, notebook)
        execute(page, notebook, folder, gpu)
        fresh = folder / f"{page.slug}.{scale}.json"
        if not fresh.is_file():
            raise Failure(f"book/{page.md.name}: wrote no record; open_chapter('{page.slug}') and ch.close() do that", 3)
        record = json.loads(fresh.read_text(encoding="utf-8"))
        record["inputs"] = inputs
        if gpu:
            notebook = with_gpu_outputs(page, notebook)
        settled = settle(page, notebook, read_twin(page))
        write_if_changed(page.twin, as_text(settled))
        if not same_numbers(page.record(scale), record):
            records.save(page.record(scale), record)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    click.echo(f"{page.slug}: executed in {time.perf_counter() - start:.1f} s", err=True)


def at_full_scale(page: Page, notebook: Any) -> None:
    """Set the parameters cell to full scale."""
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = 'scale = "full"\nseed = 0'
            return
    raise Failure(f"book/{page.md.name}: no cell tagged 'parameters'", 1)


def with_gpu_outputs(page: Page, executed: Any) -> Any:
    """The page at CI scale with the outputs of its gpu cells only: the rest of a full-scale run is not the page."""
    from repgeom.cli.notebooks import build

    notebook = build(page)
    for cell, done in zip(notebook.cells, executed.cells, strict=True):
        if "gpu" in cell.metadata.get("tags", []):
            cell.outputs = done.outputs
    return notebook


def same_numbers(path: Path, record: dict[str, Any]) -> bool:
    """Whether the record on disk says the same; then it is kept, so that timings do not churn."""
    if not path.is_file():
        return False
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return all(old.get(key) == record.get(key) for key in ("format", "inputs", "seed", "claims")) and plain_results(
        old
    ) == plain_results(record)


def plain_results(record: dict[str, Any]) -> dict[str, Any]:
    """The stored results without their provenance."""
    results = record.get("results", {})
    return {key: {k: v for k, v in result.items() if k != "provenance"} for key, result in results.items()}
