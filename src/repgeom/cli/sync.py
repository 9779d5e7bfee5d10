"""``repgeom sync``: every page's text to its notebook, one way."""

from pathlib import Path

import click

from repgeom.cli import Failure


@click.command(short_help="Texts of pages to notebooks, one way.")
@click.option("--check", is_flag=True, help="Write nothing; name the twins that differ from their text.")
def sync(check: bool) -> None:
    """Make the notebook of every page anew from its text.

    Outputs of unchanged cells are kept; an edited cell loses its output until the page is run. The text is never
    touched, and nothing depends on timestamps.

    \b
    Example:
      repgeom sync --check

    Exit statuses: 0 in step, 1 a twin is stale (--check) or a page has an unknown tag.
    """
    from repgeom.cli.pages import find_root

    root = find_root()
    if check:
        stale = stale_twins(root)
        if stale:
            raise Failure(f"differs from its text: {', '.join(stale)}; run: repgeom sync", 1)
    else:
        for name in write_twins(root):
            click.echo(f"wrote {name}")


def stale_twins(root: Path) -> list[str]:
    """The names of the twins that differ from what their text gives."""
    from repgeom.cli.notebooks import as_text, build
    from repgeom.cli.pages import all_pages

    texts = {page.twin: as_text(build(page)) for page in all_pages(root)}
    return [twin.name for twin, text in texts.items() if not twin.is_file() or twin.read_bytes() != text.encode()]


def write_twins(root: Path) -> list[str]:
    """Write the twins that differ; their names."""
    from repgeom.cli.notebooks import as_text, build, write_if_changed
    from repgeom.cli.pages import all_pages

    return [page.twin.name for page in all_pages(root) if write_if_changed(page.twin, as_text(build(page)))]
