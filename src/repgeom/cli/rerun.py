"""``repgeom rerun``: all pages anew through papermill, against the committed records."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from repgeom.cli import Failure
from repgeom.cli.pages import Page, load_record, misshapen


@click.command(short_help="Re-run against the committed records.")
@click.argument("slugs", nargs=-1)
@click.option("--part", help="Only the chapters below this caption of _toc.yml.")
@click.option("--scale", type=click.Choice(["ci", "full"]), default="ci", show_default=True)
@click.option("--seeds", default="0", show_default=True, help="Base seeds, separated by commas; samples are pooled.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the results.  [default: _build/rerun]")
def rerun(slugs: tuple[str, ...], part: str | None, scale: str, seeds: str, out: Path | None) -> None:
    """Re-run chapters (all of them without SLUGS) and compare with the committed records.

    OUT receives the executed notebooks, a record of each run, and report.txt, report.json and report.html. An
    interrupted re-run resumes: a run whose inputs have not changed since is not repeated.

    \b
    Example:
      repgeom rerun rotation_representations --seeds 0,1,2 --out _build/rerun

    Exit statuses: 0 all claims hold as recorded, 1 a verdict changed or a value drifted, 2 wrong usage,
    3 a page failed to execute.
    """
    from repgeom.cli.pages import find_root, part_of, select

    root = find_root()
    base_seeds = parse_seeds(seeds)
    pages = select(root, slugs, part)
    committed = {page.slug: load_record(page, scale) for page in pages}  # a broken one must not be found hours later
    out = usable(out or root / "_build" / "rerun")
    chapters, captions = [], part_of(root)
    for page, runs, error in execute_all(pages, base_seeds, scale, out.resolve()):
        chapters.append(chapter_report(page, captions.get(page.slug, ""), scale, committed[page.slug], runs, error))
    status = finish(chapters, scale, base_seeds, out)
    if status:
        sys.exit(status)


def usable(out: Path) -> Path:
    """The folder of the results, made and tried."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise Failure(
            f"--out {out} cannot be used: {error.strerror}; give a folder that can be written to", 2
        ) from None
    return out


def parse_seeds(text: str) -> list[int]:
    """``"0,1,2"`` to ``[0, 1, 2]``."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise Failure(f"--seeds {text!r}: give integers >= 0 separated by commas, such as 0,1,2", 2)
    numbers = [int(word) for word in words]
    if len(set(numbers)) < len(numbers):
        raise Failure(f"--seeds {text!r}: a seed stands there twice, which would count its samples twice", 2)
    return numbers


def execute_all(pages: list[Page], seeds: list[int], scale: str, out: Path) -> list[tuple[Page, list[dict], str]]:
    """Every page at every seed; per page the records of its runs, and what broke."""
    from tqdm import tqdm

    results = []
    with tqdm(total=len(pages) * len(seeds), unit="run", file=sys.stderr, mininterval=1) as bar:
        for page in pages:
            runs, errors = [], []
            for seed in seeds:
                bar.set_description(f"{page.slug} seed {seed}")
                try:
                    runs.append(execute_one(page, seed, scale, out))
                except Failure as error:
                    errors.append(f"seed {seed}: {error.message}")
                    tqdm.write(f"{page.slug}, {errors[-1]}", file=sys.stderr)
                bar.update()
            results.append((page, runs, "; ".join(errors)))
    return results


def execute_one(page: Page, seed: int, scale: str, out: Path) -> dict[str, Any]:
    """One page at one seed; the record of a finished run with the same inputs is taken as it stands."""
    from repgeom.cli.inputs import digest
    from repgeom.cli.notebooks import build
    from repgeom.repro import records

    notebook = build(page)
    inputs = digest(page, notebook, scale)
    finished = out / f"{page.slug}.{scale}.{seed}.json"
    if finished.is_file():
        try:
            record = json.loads(finished.read_text(encoding="utf-8"))
            if record["inputs"] == inputs and not misshapen(record):
                return record
        except (ValueError, KeyError, TypeError):
            pass  # half a file of an interrupted copy: run again
    with tempfile.TemporaryDirectory(prefix="repgeom-") as folder:
        papermill(page, notebook, seed, scale, finished.with_suffix(".ipynb"), Path(folder))
        written = Path(folder, f"{page.slug}.{scale}.json")
        if not written.is_file():
            raise Failure(f"book/{page.md.name} wrote no record; open_chapter('{page.slug}') and ch.close() do that", 3)
        record = {**json.loads(written.read_text(encoding="utf-8")), "inputs": inputs}
    records.save(finished, record)
    return record


def papermill(page: Page, notebook: Any, seed: int, scale: str, target: Path, record_dir: Path) -> None:
    """Execute with the parameters of this run; fenced cells only at full scale, where they guard themselves."""
    import papermill as pm
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    from repgeom.cli.notebooks import CELL_TIMEOUT, KERNEL_ARGUMENTS, environment, failed_cell

    try:
        with environment(REPGEOM_RECORD_DIR=str(record_dir), REPGEOM_ROOT=str(page.root)):
            pm.execute_notebook(
                notebook,
                str(target),
                parameters={"scale": scale, "seed": seed},
                cwd=str(page.md.parent),
                kernel_name="python3",
                progress_bar=False,
                skip_cells_with_tag="never" if scale == "full" else "skip-execution",
                execution_timeout=None if scale == "full" else CELL_TIMEOUT,
                extra_arguments=KERNEL_ARGUMENTS,
            )
    except pm.PapermillExecutionError as error:
        raise failed_cell(page, error.source, f"{error.ename}: {error.evalue}") from None
    except (CellTimeoutError, DeadKernelError) as error:
        raise Failure(f"book/{page.md.name}: {' '.join(str(error).split())[:200]}", 3) from None


def chapter_report(
    page: Page, part: str, scale: str, record: dict[str, Any] | None, runs: list[dict], error: str
) -> dict[str, Any]:
    """What the report says of one chapter; at full scale there need not be a record."""
    from repgeom.cli.compare import compare

    outcomes = compare(record, runs, against=record is not None or scale == "ci") if runs else []
    return {
        "slug": page.slug,
        "part": part,
        "error": error,
        "record": page.record(scale).name if record else None,
        "claims": [outcome.as_dict() for outcome in outcomes],
        "runs": [{"seed": run["seed"], **run["run"]} for run in runs],
    }


def finish(chapters: list[dict[str, Any]], scale: str, seeds: list[int], out: Path) -> int:
    """Write the three reports, print the text one, return the exit status."""
    from repgeom.cli import report
    from repgeom.cli.compare import PASSING

    bad = any(claim["status"] not in PASSING for chapter in chapters for claim in chapter["claims"])
    status = 3 if any(chapter["error"] for chapter in chapters) else int(bad)
    content = {"format": 1, "scale": scale, "seeds": seeds, "status": status, "chapters": chapters}
    text = report.as_text(content)
    (out / "report.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "report.txt").write_text(text, encoding="utf-8")
    (out / "report.html").write_text(report.as_html(content), encoding="utf-8")
    click.echo(text, nl=False)
    click.echo(f"executed notebooks and reports in {out}", err=True)
    return status
