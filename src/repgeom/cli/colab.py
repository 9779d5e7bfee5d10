"""Copies of the chapters for Colab and any other Jupyter: plain Markdown, setup first, outputs kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from repgeom.cli import pages, plain, site

FIGURE_DATA = re.compile(r'<script type="application/json">.*?</script>', re.S)
FOLDED = {"remove-cell", "remove-input", "hide-cell", "hide-input"}


def write_copies(root: Path, out: Path) -> None:
    """Write ``out/<slug>.ipynb`` for every chapter; each runs alone, with nothing but the package installed."""
    import nbformat

    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.ipynb"):
        old.unlink()
    book = plain.Book(site.address(root).site, papers=plain.read_papers(root / "book" / "references.bib"))
    twins = {page.slug: nbformat.read(page.twin, as_version=4) for page in pages.all_pages(root) if page.twin.is_file()}
    for md in (root / "book").glob("*.md"):
        heading = re.search(r"^# (.+)$", md.read_text(encoding="utf-8"), re.M)
        book.titles[md.stem] = heading[1].strip() if heading else md.stem
    for slug, notebook in twins.items():  # a first pass, because a page may refer to a label that stands further on
        convert(notebook, plain.Page(book, slug))
    for chapter in site.chapters(root):
        if chapter.slug in twins:
            copy = convert(twins[chapter.slug], plain.Page(book, chapter.slug))
            nbformat.write(copy, out / f"{chapter.slug}.ipynb")


def convert(notebook: Any, page: plain.Page) -> Any:
    """A plain copy of an executed chapter."""
    from nbformat.v4 import new_markdown_cell, new_notebook

    cells: list[Any] = []

    def say(identifier: str, text: str) -> None:
        if text.strip():
            cells.append(new_markdown_cell(text, id=identifier))

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            say(cell.id, page.convert(cell.source))
            continue
        cells.append(code_cell(cell))
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if figure.get("caption"):
            head = f"Figure {page.number('Figure')}"
            page.note_label(figure.get("name"), head)
            say(f"{cell.id}-caption", f"**{head}.** {page.inline(' '.join(figure['caption'].split()))}")
    say("references", page.references())
    setup = next((k for k, c in enumerate(cells) if "setup" in c.metadata.get("tags", [])), None)
    if setup is not None:
        cells.insert(0, cells.pop(setup))
    link = page.book.page_url(page.slug)
    title = page.book.titles[page.slug]
    origin = f"*A copy of [{title}]({link}) from The Geometry of Representations. Text CC BY 4.0, code MIT.*"
    cells.insert(1 if setup is not None else 0, new_markdown_cell(origin, id="origin"))
    metadata = {key: notebook.metadata[key] for key in ("kernelspec", "language_info") if key in notebook.metadata}
    metadata["colab"] = {"provenance": [], "toc_visible": True}
    if any("gpu" in c.metadata.get("tags", []) for c in notebook.cells):
        metadata["accelerator"] = "GPU"
    return new_notebook(cells=cells, metadata=metadata)


def code_cell(cell: Any) -> Any:
    """The cell with its outputs; code that the site folds is folded in Colab too."""
    copy = cell.copy()
    # A copy has no runner that skips cells for it: what needs a graphics card looks for one in its first line.
    tags = [tag for tag in cell.metadata.get("tags", []) if tag not in ("skip-execution", "nbval-skip")]
    copy["metadata"] = {"tags": tags} if tags else {}
    if FOLDED & set(tags):
        copy["metadata"]["cellView"] = "form"
        copy["source"] = "# @title Code (folded)\n" + cell.source
    copy["outputs"] = [still(output) for output in cell.outputs]
    return copy


def still(output: Any) -> Any:
    """An output without the data of an interactive figure: its picture is what shows here."""
    data = output.get("data", {})
    if "interactive-figure" not in "".join(data.get("text/html", "")):
        return output
    plain_output = output.copy()
    plain_output["data"] = {**data, "text/html": FIGURE_DATA.sub("", "".join(data["text/html"]))}
    return plain_output
