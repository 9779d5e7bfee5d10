import json
import os
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


EMPTY = '{"format": 1, "claims": []}'
RECORD = f"import os, pathlib\npathlib.Path(os.environ['REPGEOM_RECORD_DIR'], 'demo.ci.json').write_text('{EMPTY}')"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["x = 1\nraise KeyError('lost')"], "the cell that starts 'x = 1': KeyError: 'lost'"),
        ([RECORD, "print('/usr/share/x')"], "prints /usr/share, a path that only this machine has"),
        ([RECORD, "import os; os._exit(1)"], "the cell that starts 'import os; os._exit(1)': the kernel died"),
        (["y = 1"], "wrote no record"),
        ([RECORD.replace("[]", "3")], "wrote a record that cannot be read ('claims' is not a list)"),
    ],
)
def test_failing_pages_say_where_and_overwrite_nothing(
    executed: Path, cli: Cli, page_of: Callable[..., Page], cells: list[str], message: str
) -> None:
    page_of("demo", *cells)
    before = files(executed)
    result = cli("run", "demo")
    assert result.exit_code == 3
    last = result.output.splitlines()[-1]
    assert last.startswith("Error: book/demo.md") and message in last
    assert "Traceback" not in result.output
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


def test_only_one_gpu_cell(executed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: what the kernel would leave behind is put there by a stand-in for the execution."""
    from repgeom.cli import run

    page = Page(executed, "demo")
    asked = []

    def pretend(page: Page, notebook: nbformat.NotebookNode, folder: Path, full: bool) -> None:
        key = os.environ.get("REPGEOM_ONLY", "all")
        asked.append(key)
        content = json.loads(page.record("ci").read_text()) | {"scale": "full", "results": {key: {"loss": 1.0}}}
        (folder / "demo.full.json").write_text(json.dumps(content))

    monkeypatch.setattr(notebooks, "execute", pretend)
    for only in ("long", "wide"):
        run.run_page(page, ("gpu", "full"), only=only)
    assert asked == ["long", "wide"]
    assert set(json.loads(page.record("full").read_text())["results"]) == {"long", "wide"}
    run.run_page(page, ("gpu", "full"))
    assert set(json.loads(page.record("full").read_text())["results"]) == {"all"}
    page.record("full").write_text(page.record("full").read_text().replace('"all"', '"from-a-gpu"'))
    run.run_page(page, ("full",))  # a machine without a GPU does not throw away what one with a GPU made
    assert set(json.loads(page.record("full").read_text())["results"]) == {"from-a-gpu", "all"}


def test_options_that_do_not_go_together(book: Path, cli: Cli) -> None:
    assert "needs --gpu" in cli("run", "--only", "long", "demo").output
    assert "--changed belongs" in cli("run", "--gpu", "--changed").output
    assert "--changed belongs" in cli("run", "--full", "--changed").output


def test_only_does_not_write_over_a_record_that_cannot_be_read(
    executed: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = executed / "book" / "records" / "demo.full.json"
    full.write_text('{"results": {"wide": ')
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(notebooks, "execute", lambda *words: pytest.fail("executed"))
    result = cli("run", "--gpu", "--only", "long", "demo")
    assert result.exit_code == 1 and "record demo.full.json cannot be read" in result.output
    assert full.read_text() == '{"results": {"wide": '
