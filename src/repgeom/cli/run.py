"""``repgeom run``: execute pages, store their outputs and records."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from repgeom.cli import Failure
from repgeom.cli.pages import Page, load_record, misshapen


@click.command(short_help="Execute pages, store outputs and records.")
@click.argument("slugs", nargs=-1)
@click.option("--changed", is_flag=True, help="Only pages whose code or imported modules differ from the record's.")
@click.option("--gpu", is_flag=True, help="At full scale, gpu cells included; writes <slug>.full.json. Needs CUDA.")
@click.option(
    "--full", is_flag=True, help="At full scale on any machine: full cells, and gpu cells where there is one."
)
@click.option("--only", metavar="KEY", help="With these: only the fenced cell of this key; other stored results stay.")
def run(slugs: tuple[str, ...], changed: bool, gpu: bool, full: bool, only: str | None) -> None:
    """Execute pages and store their outputs and records.

    Without SLUGS: with --changed the changed pages, otherwise nothing is run.

    \b
    Example:
      repgeom run rotation_representations
      repgeom run --changed
      repgeom run --gpu --only long-run rotation_representations

    Exit statuses: 0 done, 1 a page cannot be read, 2 wrong usage or no CUDA for --gpu, 3 a page failed to execute
    (nothing of it is overwritten).
    """
    from repgeom.cli.pages import find_root, select

    if (gpu or full) and changed:
        raise Failure("--gpu and --full run what is named; --changed belongs to the CI scale", 2)
    if only and not (gpu or full):
        raise Failure("--only names a fenced cell and needs --gpu or --full", 2)
    if not slugs and not changed:
        raise Failure("name a chapter, or give --changed for those that need it", 2)
    pages = select(find_root(), slugs)
    kinds: tuple[str, ...] = ()
    if gpu or full:
        import torch

        kinds = ("gpu", "full") if torch.cuda.is_available() else ("full",)
        if gpu and kinds == ("full",):
            raise Failure("--gpu needs a CUDA GPU, and this machine has none; without --gpu the CI scale is run", 2)
    if changed:
        pages = [page for page in pages if is_stale(page)]
        if not pages:
            click.echo("nothing changed", err=True)
    for page in pages:
        run_page(page, kinds, only)


def is_stale(page: Page) -> bool:
    """Whether a page must be executed.

    That is so without a record that can be read and agrees with itself, with other inputs than its record, and with
    other outputs than its run left.
    """
    from repgeom.cli.compare import contradiction
    from repgeom.cli.inputs import digest
    from repgeom.cli.notebooks import build, outputs_hash

    try:
        known = load_record(page, "ci")
    except Failure:
        return True
    if known is None or not page.twin.is_file() or any(map(contradiction, known["claims"])):
        return True
    notebook = build(page)
    return known.get("inputs") != digest(page, notebook) or known.get("outputs") != outputs_hash(notebook)


def read_record(path: Path) -> dict[str, Any] | None:
    """A record, or None where there is none that can be read: then the page is executed again."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def run_page(page: Page, kinds: tuple[str, ...] = (), only: str | None = None) -> None:
    """Execute one page, at full scale the fenced cells of these kinds too; write only when all of it went well."""
    from repgeom.cli.inputs import digest
    from repgeom.cli.notebooks import (
        as_text,
        build,
        environment,
        execute,
        outputs_hash,
        read_twin,
        settle,
        write_if_changed,
    )
    from repgeom.repro import records

    start, scale = time.perf_counter(), "full" if kinds else "ci"
    keep = bool(only) or kinds == ("full",)  # what this run does not make
    others = (load_record(page, scale) or {}).get("results", {}) if keep else {}
    notebook = build(page)
    inputs = digest(page, notebook, scale)
    with tempfile.TemporaryDirectory(prefix="repgeom-") as folder:
        if kinds:
            at_full_scale(page, notebook)
        with environment(**({"REPGEOM_ONLY": only} if only else {})):
            execute(page, notebook, Path(folder), bool(kinds))
        record = read_record(Path(folder, f"{page.slug}.{scale}.json"))
    if record is None:
        raise Failure(f"book/{page.md.name} wrote no record; open_chapter('{page.slug}') and ch.close() do that", 3)
    wrong = misshapen(record)
    if wrong:
        raise Failure(f"book/{page.md.name} wrote a record that cannot be read ({wrong})", 3)
    if only and only not in record["results"]:
        raise Failure(f"book/{page.md.name}: no fenced cell stored a result '{only}'", 2)
    if keep:
        record["results"] = {**others, **record["results"]}
    if kinds:
        notebook = with_fenced_outputs(page, notebook, kinds, only)
    notebook = settle(page, notebook, read_twin(page))
    record = {**record, "inputs": inputs, "outputs": outputs_hash(notebook)}
    write_if_changed(page.twin, as_text(notebook))
    if not same_numbers(read_record(page.record(scale)), record):
        records.save(page.record(scale), record)
    click.echo(f"{page.slug}: executed in {time.perf_counter() - start:.1f} s", err=True)


def at_full_scale(page: Page, notebook: Any) -> None:
    """Set the parameters cell to full scale."""
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = 'scale = "full"\nseed = 0'
            return
    raise Failure(f"book/{page.md.name}: no cell tagged 'parameters'", 1)


def with_fenced_outputs(page: Page, executed: Any, kinds: tuple[str, ...], only: str | None = None) -> Any:
    """The page at CI scale with the outputs of its fenced cells only: the rest of a full-scale run is not the page."""
    from repgeom.cli.notebooks import build

    notebook = build(page)
    for cell, done in zip(notebook.cells, executed.cells, strict=True):
        asked_for = only is None or f'"{only}"' in cell.source or f"'{only}'" in cell.source
        if set(kinds) & set(cell.metadata.get("tags", [])) and asked_for:
            cell.outputs = done.outputs
    return notebook


def same_numbers(old: dict[str, Any] | None, new: dict[str, Any]) -> bool:
    """Whether the record on disk says the same as the new one; then it is kept, so that timings do not churn."""
    keys = ("format", "inputs", "outputs", "seed", "claims")
    return old is not None and all(old.get(k) == new[k] for k in keys) and plain_results(old) == plain_results(new)


def plain_results(record: dict[str, Any]) -> dict[str, Any]:
    """The stored results without their provenance."""
    results = record.get("results", {})
    return {key: {k: v for k, v in result.items() if k != "provenance"} for key, result in results.items()}
