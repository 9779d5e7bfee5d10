from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from click.testing import Result

from repgeom.cli.pages import Page

Cli = Callable[..., Result]


def outputs(page: Page) -> list[int]:
    cells = nbformat.read(page.twin, 4).cells
    return [len(cell.outputs) for cell in cells if cell.cell_type == "code"]


def test_twin_is_valid_and_the_same_every_time(book: Path, cli: Cli) -> None:
    twin = book / "book" / "demo.ipynb"
    assert cli("sync").output == "wrote demo.ipynb\n"
    first = twin.read_bytes()
    nbformat.validate(nbformat.reads(first.decode(), 4))
    assert cli("sync").output == ""
    twin.unlink()
    cli("sync")
    assert twin.read_bytes() == first


def test_text_is_never_touched_whatever_the_timestamps(book: Path, cli: Cli) -> None:
    md = book / "book" / "demo.md"
    cli("sync")
    md.write_text(md.read_text().replace("Prose.", "New prose."))
    text = md.read_bytes()
    (book / "book" / "demo.ipynb").touch()
    cli("sync")
    assert md.read_bytes() == text
    assert "New prose." in (book / "book" / "demo.ipynb").read_text()


def test_check_names_stale_twins_and_writes_nothing(book: Path, cli: Cli) -> None:
    assert cli("sync", "--check").exit_code == 1
    assert not (book / "book" / "demo.ipynb").exists()
    cli("sync")
    assert cli("sync", "--check").exit_code == 0
    twin = book / "book" / "demo.ipynb"
    twin.write_text(twin.read_text().replace("Prose", "Rose"))
    before = twin.read_bytes()
    result = cli("sync", "--check")
    assert result.exit_code == 1 and "demo.ipynb" in result.output
    assert twin.read_bytes() == before


def test_an_edited_cell_loses_its_output_and_no_other_does(executed: Path, cli: Cli) -> None:
    page = Page(executed, "demo")
    assert cli("sync", "--check").exit_code == 0
    assert outputs(page) == [0, 1, 0, 2]
    page.md.write_text(page.md.read_text().replace("repro.approx(sum", "repro.approx( sum"))  # one blank
    cli("sync")
    assert outputs(page) == [0, 1, 0, 0]


def test_prose_may_be_edited_without_losing_outputs(executed: Path, cli: Cli) -> None:
    page = Page(executed, "demo")
    page.md.write_text(page.md.read_text().replace("Prose.", "Other prose.\n\nAnd more."))
    cli("sync")
    assert outputs(page) == [0, 1, 0, 2]


def test_equal_cells_keep_their_own_outputs(book: Path, cli: Cli, page_of: Callable[..., Page]) -> None:
    page = page_of("twice", "print(1)", "print(1)")
    cli("sync")
    twin = nbformat.read(page.twin, 4)
    for k, cell in enumerate(twin.cells[1:]):
        cell.outputs = [nbformat.v4.new_output("stream", text=f"{k}")]
    nbformat.write(twin, page.twin)
    cli("sync")
    assert [cell.outputs[0].text for cell in nbformat.read(page.twin, 4).cells[1:]] == ["0", "1"]


def test_equal_cells_have_different_ids(book: Path, cli: Cli, page_of: Callable[..., Page]) -> None:
    page = page_of("twice", "x = 1", "x = 1")
    cli("sync")
    ids = [cell.id for cell in nbformat.read(page.twin, 4).cells]
    assert len(set(ids)) == len(ids) == 3


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (":tags: [hide-inptu]\nx = 1", "unknown tag 'hide-inptu'"),
        (":tags: [gpu, nbval-skip]\nif ch.gpu('a'):\n    pass", "carries all of"),
        (":tags: [gpu, skip-execution, nbval-skip]\nx = 1", "starts with 'if ch.gpu"),
        (":tags: [full, nbval-skip]\nif ch.full('a'):\n    pass", "a full cell carries all of"),
        (":tags: [full, skip-execution, nbval-skip]\nif ch.gpu('a'):\n    pass", "starts with 'if ch.full"),
    ],
)
def test_wrong_tags_fail(book: Path, cli: Cli, page_of: Callable[..., Page], cell: str, message: str) -> None:
    page = page_of("wrong", "y = 0", cell)
    result = cli("sync")
    assert result.exit_code == 1
    assert message in result.output and "wrong.md, code cell 1" in result.output
    assert not page.twin.exists()


def test_data_tags_are_known(book: Path, cli: Cli, page_of: Callable[..., Page]) -> None:
    page_of("real", ":tags: [data-mamem_ssvep]\nx = 1")
    assert cli("sync").exit_code == 0


def test_text_without_a_kernel_is_no_page(book: Path, cli: Cli) -> None:
    (book / "book" / "index.md").write_text("# Start\n")
    cli("sync")
    assert not (book / "book" / "index.ipynb").exists()


def test_broken_twin_is_one_clear_line(book: Path, cli: Cli) -> None:
    (book / "book" / "demo.ipynb").write_text('{"cells": [')
    result = cli("sync")
    assert result.exit_code == 1
    assert result.output.startswith("Error: demo.ipynb: not a notebook") and result.output.count("\n") == 1


def test_a_damaged_header_is_noticed(executed: Path, cli: Cli) -> None:
    md = executed / "book" / "demo.md"
    md.write_text(md.read_text().replace("---\n", "---  \n", 1))
    assert cli("sync", "--check").exit_code == 0  # trailing blanks do not damage it
    md.write_text(md.read_text().replace("---", "--", 1))
    result = cli("sync", "--check")
    assert result.exit_code == 1 and result.output.count("\n") == 1
    assert "no page for demo.ipynb, demo.ci.json" in result.output


def test_empty_parts_of_the_table_of_contents(book: Path) -> None:
    from repgeom.cli.pages import parts

    toc = book / "_toc.yml"
    toc.write_text(toc.read_text() + "- caption: Later\n  chapters:\n")
    assert parts(book) == [("First steps", ["demo"]), ("Later", [])]


@pytest.mark.parametrize(
    "text",
    ["- a", "just words", "parts: 3", "parts: [book/demo]", "parts: [{chapters: {file: book/demo}}]",
     "chapters: [{file: 3}]", "chapters: [book/demo]", "chapters: [{file: book/demo, sections: 3}]", "a: [",
    ],
)  # fmt: skip
def test_a_misshapen_table_of_contents_is_one_line(book: Path, cli: Cli, text: str) -> None:
    (book / "_toc.yml").write_text(text)
    result = cli("sync", "--check")
    assert result.exit_code == 2 and result.output.count("\n") == 1
    assert result.output.startswith("Error: _toc.yml cannot be read: ")
