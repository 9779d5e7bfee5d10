"""From the text of a page to its byte-stable notebook, and execution of that notebook."""

import hashlib
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from repgeom.cli import Failure
from repgeom.cli.pages import Page

KNOWN_TAGS = frozenset(
    "parameters setup remove-cell hide-input hide-cell remove-input remove-stderr gpu full skip-execution "
    "nbval-skip".split()
)
FENCED = ("gpu", "full")  # cells of the full scale only: with a GPU, and without
FENCE = frozenset({"skip-execution", "nbval-skip"})
KERNEL_ARGUMENTS = ["--IPKernelApp.log_level=ERROR"]  # ipykernel 7 warns of its own default transport
CELL_TIMEOUT = 1800  # seconds
KEPT_METADATA = ("tags", "mystnb")
ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
# What differs between two runs on one machine. A cell whose output differs in nothing else keeps its stored output.
TIMING = re.compile(r"\d+(?:\.\d+)? ?(?:ns|µs|us|ms|s|seconds|min|minutes|MiB|GiB)\b")
ABSOLUTE_PATH = re.compile(r"(?<![\w.+/=:<-])/([\w.-]+)/[\w.-]+")
EMBEDDED = re.compile(r"base64,[A-Za-z0-9+/=]+")


def build(page: Page) -> Any:
    """The notebook of a page: inputs from the text, outputs from the stored twin for cells that did not change."""
    import jupytext

    try:
        notebook = jupytext.read(page.md, fmt="md:myst")
    except Exception as error:  # jupytext raises many kinds for a malformed text
        raise Failure(f"{page.md.name}: not a MyST notebook: {' '.join(str(error).split())[:300]}", 1) from error
    check_tags(page, notebook)
    take_outputs(notebook, read_twin(page))
    return clean(notebook)


def read_twin(page: Page) -> Any:
    """The stored twin, or None."""
    import nbformat

    if not page.twin.is_file():
        return None
    try:
        return nbformat.read(page.twin, 4)
    except Exception as error:
        raise Failure(f"{page.twin.name}: not a notebook ({error}); delete it and run the page", 1) from error


def take_outputs(notebook: Any, stored: Any) -> None:
    """Give each code cell the outputs of the stored cell with the same source; an edited cell gets none.

    jupytext's own combination also pairs cells that merely look alike, so that an edited cell keeps a stale output.
    """
    by_source: dict[str, list[Any]] = defaultdict(list)
    for cell in stored.cells if stored is not None else []:
        if cell.cell_type == "code":
            by_source[cell.source].append(cell.outputs)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            same = by_source[cell.source]
            cell.outputs = same.pop(0) if same else []


def check_tags(page: Page, notebook: Any) -> None:
    """Fail on an unknown tag, and on a gpu or full cell that is not fenced."""
    for number, cell in enumerate(code_cells(notebook)):
        tags = set(cell.metadata.get("tags", []))
        unknown = sorted(tag for tag in tags - KNOWN_TAGS if not re.fullmatch(r"data-[a-z0-9_]+", tag))
        where = f"{page.md.name}, code cell {number}"
        if unknown:
            known = ", ".join(sorted(KNOWN_TAGS))
            raise Failure(f"{where}: unknown tag '{unknown[0]}'; known: {known}, data-<name>", 1)
        for kind in tags.intersection(FENCED):
            if not tags >= FENCE:
                raise Failure(f"{where}: a {kind} cell carries all of {', '.join(sorted(FENCE | {kind}))}", 1)
            if not cell.source.lstrip().startswith(f"if ch.{kind}("):
                raise Failure(f"{where}: a {kind} cell starts with 'if ch.{kind}(\"key\"):'", 1)


def code_cells(notebook: Any) -> list[Any]:
    """The code cells, in order; messages count them from 0 as nbval does."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def clean(notebook: Any) -> Any:
    """Make the notebook a function of its content: ids from the source, counts in order, no metadata of a run."""
    seen: dict[str, int] = defaultdict(int)
    count = 0
    for cell in notebook.cells:
        name = hashlib.sha256((cell.cell_type + cell.source).encode()).hexdigest()[:8]
        seen[name] += 1
        cell["id"] = name if seen[name] == 1 else f"{name}-{seen[name]}"
        cell.metadata = type(cell.metadata)({k: cell.metadata[k] for k in KEPT_METADATA if k in cell.metadata})
        if cell.cell_type == "code":
            count += 1  # nbval does not compare a cell without a count
            cell["execution_count"] = count
            cell.outputs = [clean_output(o, count) for o in cell.outputs if o.get("name") != "stderr"]
    language = {"name": "python"}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = type(notebook.metadata)({"kernelspec": kernel, "language_info": language})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def clean_output(output: Any, count: int) -> Any:
    """Drop addresses and counts that change from run to run."""
    if output.output_type == "execute_result":
        output["execution_count"] = count
    if "text" in output:
        output["text"] = ADDRESS.sub("0xADDR", output["text"])
    for kind, content in output.get("data", {}).items():
        if isinstance(content, str):
            output["data"][kind] = ADDRESS.sub("0xADDR", content)
    return output


def as_text(notebook: Any) -> str:
    """The bytes of the twin."""
    import nbformat

    return nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n"


def write_if_changed(path: Path, text: str) -> bool:
    """Write whole or not at all, and only where the content differs."""
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8", newline="\n")
    part.replace(path)
    return True


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Environment variables for the kernels started inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def execute(page: Page, notebook: Any, record_dir: Path, full: bool = False) -> None:
    """Run the notebook in place; a failing cell becomes one line with page, cell and exception."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from tqdm import tqdm

    bar = tqdm(total=len(notebook.cells), desc=page.slug, unit="cell", file=sys.stderr, mininterval=1, leave=False)
    current = 0

    def on_start(cell: Any, cell_index: int) -> None:
        nonlocal current
        current = cell_index
        bar.update(cell_index - bar.n)

    client = NotebookClient(
        notebook,
        timeout=None if full else CELL_TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=KERNEL_ARGUMENTS,
        resources={"metadata": {"path": str(page.md.parent)}},
        skip_cells_with_tag="never" if full else "skip-execution",
        on_cell_execute=on_start,
    )
    try:
        with environment(REPGEOM_RECORD_DIR=str(record_dir), REPGEOM_ROOT=str(page.root)):
            client.execute()
    except CellExecutionError as error:
        raise failed_cell(page, notebook.cells[current].source, f"{error.ename}: {error.evalue}") from None
    except CellTimeoutError:
        raise failed_cell(page, notebook.cells[current].source, f"stopped after {CELL_TIMEOUT} s") from None
    except DeadKernelError:
        raise failed_cell(page, notebook.cells[current].source, "the kernel died (out of memory?)") from None
    finally:
        bar.close()


def failed_cell(page: Page, source: str, what: str) -> Failure:
    """The one line that says where a page broke."""
    first = next(iter(source.strip().splitlines()), "")
    return Failure(f"book/{page.md.name}, the cell that starts '{first[:60]}': {' '.join(what.split())[:400]}", 3)


def settle(page: Page, fresh: Any, stored: Any) -> Any:
    """Turn an executed notebook into the twin; outputs that differ in a timing only keep their stored form."""
    noisy = [k for k, c in enumerate(code_cells(fresh)) if any(o.get("name") == "stderr" for o in c.outputs)]
    if noisy:
        print(f"{page.slug}: code cells {noisy} wrote to stderr, which the twin leaves out", file=sys.stderr)
    clean(fresh)
    for cell in code_cells(fresh):
        path = next(filter(None, map(local_path, texts(cell))), None)
        if path:
            raise failed_cell(page, cell.source, f"prints {path}, a path that only this machine has")
    by_id = {cell["id"]: cell for cell in code_cells(stored)} if stored is not None else {}
    for cell in code_cells(fresh):
        old = by_id.get(cell["id"])
        if old is not None and TIMING.sub("T", sorted_json(old.outputs)) == TIMING.sub("T", sorted_json(cell.outputs)):
            cell.outputs = old.outputs
    return fresh


def local_path(text: str) -> str | None:
    """The first absolute path in ``text`` that begins with a folder of this machine."""
    for match in ABSOLUTE_PATH.finditer(EMBEDDED.sub("", text)):
        if Path("/", match[1]).is_dir():
            return match[0]
    return None


def outputs_hash(notebook: Any) -> str:
    """One number for all stored outputs; the record keeps it, so that a twin that lost an output is noticed."""
    outputs = [cell.outputs for cell in code_cells(notebook)]
    return hashlib.sha256(sorted_json(outputs).encode()).hexdigest()[:32]


def sorted_json(content: Any) -> str:
    """JSON that does not depend on the order in which keys were set."""
    return json.dumps(content, sort_keys=True, ensure_ascii=False)


def texts(cell: Any) -> Iterator[str]:
    """All text a cell has put out."""
    for output in cell.outputs:
        if "text" in output:
            yield output["text"]
        yield from (str(content) for content in output.get("data", {}).values())
