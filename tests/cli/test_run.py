import json
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import torch
from click.testing import Result

from repgeom.cli import notebooks
from repgeom.cli.pages import Page

Cli = Callable[..., Result]


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_a_second_run_changes_no_byte(executed: Path, cli: Cli) -> None:
    before = files(executed)
    result = cli("run", "demo")
    assert result.exit_code == 0 and "demo: executed in" in result.stderr
    assert "wrote to stderr" in result.stderr
    assert files(executed) == before


def test_twin_holds_outputs_without_noise(executed: Path) -> None:
    twin = (executed / "book" / "demo.ipynb").read_text()
    notebook = nbformat.reads(twin, 4)
    nbformat.validate(notebook)
    assert "exactly 41 <object object at 0xADDR>" in twin and '"name": "stderr"' not in twin
    assert "claim-two" in twin and "≈ 3.30" in twin
    assert str(executed) not in twin
    assert not any("execution" in cell.metadata for cell in notebook.cells)
    assert {cell.execution_count for cell in notebook.cells if cell.cell_type == "code"} == {1, 2, 3, 4}


def test_gpu_cell_is_left_alone(executed: Path) -> None:
    cells = nbformat.read(executed / "book" / "demo.ipynb", 4).cells
    fenced = next(cell for cell in cells if "gpu" in cell.metadata.get("tags", []))
    assert fenced.outputs == []


def test_record_has_inputs_and_claims(executed: Path) -> None:
    record = json.loads((executed / "book" / "records" / "demo.ci.json").read_text())
    assert len(record["inputs"]) == len(record["outputs"]) == 32
    assert [(c["id"], c["verdict"]) for c in record["claims"]] == [("two", "reproduced"), ("small", "reproduced")]
    assert record["results"] == {} and record["run"]["commit"]


def test_a_changed_claim_replaces_the_record(executed: Path, cli: Cli) -> None:
    page = Page(executed, "demo")
    page.md.write_text(page.md.read_text().replace("at_most(3)", "at_most(1)"))
    cli("run", "--changed")
    record = json.loads(page.record("ci").read_text())
    assert record["claims"][1]["verdict"] == "inconclusive"
    assert "? inconclusive" in page.twin.read_text()


@pytest.mark.parametrize(
    ("cell", "status", "message"),
    [
        ("x = 1\nraise KeyError('lost')", 3, "the cell that starts 'x = 1': KeyError: 'lost'"),
        ("import os\nprint(os.path.expanduser('~') + '/x')", 3, "prints /usr/share, a path that only this"),
        ("import os; os._exit(1)", 3, "the kernel died"),
        ("y = 1", 3, "wrote no record"),
    ],
)
def test_failing_pages_say_where_and_overwrite_nothing(
    executed: Path, cli: Cli, cell: str, status: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "expanduser" in cell:
        monkeypatch.setenv("HOME", "/usr/share")
    page = Page(executed, "demo")
    end = "" if message == "wrote no record" else "ch.close()\n"
    start = "from repgeom import repro\nch = repro.open_chapter('demo')\n"
    start += "ch.claim('a', says='A', source='B', value=1, expect=repro.equals(1))"
    text = page.md.read_text().split("# A demonstration")[0]
    page.md.write_text(text + "".join(f"\n```{{code-cell}}\n{c}\n```\n" for c in (start, cell, end) if c))
    before = files(executed)
    result = cli("run", "demo")
    assert result.exit_code == status
    assert result.output.splitlines()[-1].startswith("Error: book/demo.md")
    assert message in result.output and "Traceback" not in result.output
    assert files(executed) == before


def test_paths_are_told_from_what_looks_like_them() -> None:
    assert notebooks.local_path("see /usr/lib/python") == "/usr/lib"
    assert notebooks.local_path("2 km/h/s, </td></tr>, https://x.org/usr/lib, and/or/not, 1/usr/2") is None
    assert notebooks.local_path("data:image/png;base64,AAAA/usr/lib+BBBB==") is None


def test_gpu_without_cuda_is_one_line(executed: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = cli("run", "--gpu", "demo")
    assert result.exit_code == 2 and result.output.count("\n") == 1
    assert "needs a CUDA GPU" in result.output


def test_gpu_run_writes_the_full_record_and_only_gpu_outputs(
    executed: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(executed, "demo")
    before = page.twin.read_text()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # here only: the kernel still has no GPU
    result = cli("run", "--gpu", "demo")
    assert result.exit_code == 0, result.output
    full = json.loads(page.record("full").read_text())
    assert full["scale"] == "full" and [c["id"] for c in full["claims"]] == ["two", "small"]
    after = page.twin.read_text()
    assert "Not run here: 'long'" in after  # the gpu cell was executed, and its guard held
    assert "scale full" not in after and "scale ci" in before


def test_run_needs_a_name(book: Path, cli: Cli) -> None:
    result = cli("run")
    assert result.exit_code == 2 and "--changed" in result.output


def test_timings_keep_their_stored_form_and_numbers_do_not(book: Path) -> None:
    from repgeom.cli.notebooks import build, settle

    page = Page(book, "demo")

    def with_output(text: str) -> nbformat.NotebookNode:
        notebook = build(page)
        notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text=text)]
        return notebooks.clean(notebook)

    stored = with_output("took 1.25 s")
    assert settle(page, with_output("took 9 s"), stored).cells[1].outputs[0].text == "took 1.25 s"
    stored = with_output("≈ 1.25, took 1 s")
    assert settle(page, with_output("≈ 1.5, took 9 s"), stored).cells[1].outputs[0].text == "≈ 1.5, took 9 s"
