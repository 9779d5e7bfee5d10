"""``repgeom sync``: every page's text to its notebook, one way."""

from pathlib import Path

import click

from repgeom.cli import Failure


@click.command(short_help="Texts of pages to notebooks, one way.")
@click.option("--check", is_flag=True, help="Write nothing; name what differs from the texts.")
def sync(check: bool) -> None:
    """Make the notebook of every page anew from its text.

    Outputs of unchanged cells are kept; an edited cell loses its output until the page is run. The text is never
    touched, and nothing depends on timestamps.

    \b
    Example:
      repgeom sync --check

    Exit statuses: 0 in step, 1 a page has an unknown tag or, with --check, a twin is stale or a twin or record has
    no page.
    """
    from repgeom.cli.pages import find_root

    root = find_root()
    if check:
        stale = stale_twins(root)
        lost = without_page(root)
        said = [f"differs from its text: {', '.join(stale)}; run: repgeom sync"] if stale else []
        said += [f"no page for {', '.join(lost)}: is the header of its text damaged?"] if lost else []
        if said:
            raise Failure("; ".join(said), 1)
    else:
        for name in write_twins(root):
            click.echo(f"wrote {name}")


def stale_twins(root: Path) -> list[str]:
    """The names of the twins that differ from what their text gives."""
    from repgeom.cli.notebooks import as_text, build
    from repgeom.cli.pages import all_pages

    texts = {page.twin: as_text(build(page)) for page in all_pages(root)}
    return [twin.name for twin, text in texts.items() if not twin.is_file() or twin.read_bytes() != text.encode()]


def without_page(root: Path) -> list[str]:
    """Twins and records that belong to no page: its text is gone, or its header no longer names a kernel."""
    from repgeom.cli.pages import all_pages

    slugs = {page.slug for page in all_pages(root)}
    twins = [path.name for path in sorted((root / "book").glob("*.ipynb")) if path.stem not in slugs]
    records = sorted((root / "book" / "records").glob("*.json"))
    return twins + [path.name for path in records if path.stem.rpartition(".")[0] not in slugs]


def write_twins(root: Path) -> list[str]:
    """Write the twins that differ; their names."""
    from repgeom.cli.notebooks import as_text, build, write_if_changed
    from repgeom.cli.pages import all_pages

    return [page.twin.name for page in all_pages(root) if write_if_changed(page.twin, as_text(build(page)))]
