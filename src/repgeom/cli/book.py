"""``repgeom book``: the whole way from texts to the rendered site."""

import time
from collections.abc import Callable
from typing import Any

import click


@click.command(short_help="Sync, execute what changed, render the site.")
@click.option("--no-run", is_flag=True, help="Execute nothing; only say which pages are stale.")
@click.option("--quiet", is_flag=True, help="Print stale pages and errors only.")
def book(no_run: bool, quiet: bool) -> None:
    """Bring notebooks in step, execute what changed, render the site.

    \b
    Example:
      repgeom book

    Exit statuses: 0 built, 1 a page has an unknown tag, a record contradicts
    itself or the site has a warning, 3 a page failed to execute.
    """
    from repgeom.cli.pages import all_pages, find_root
    from repgeom.cli.run import is_stale, run_page
    from repgeom.cli.site import build
    from repgeom.cli.sync import write_twins

    root = find_root()

    def execute() -> None:
        stale = [page for page in all_pages(root) if is_stale(page)]
        if no_run:
            for page in stale:
                click.echo(f"{page.slug} is stale (its code or a module it imports); repgeom run {page.slug}", err=True)
        else:
            for page in stale:
                run_page(page)

    def timed(name: str, step: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = step()
        if not quiet:
            click.echo(f"{name}: {time.perf_counter() - start:.1f} s")
        return result

    timed("notebooks", lambda: write_twins(root))
    timed("stale pages" if no_run else "execute", execute)
    start_page = timed("site", lambda: build(root))
    if not quiet:
        click.echo(f"start page: {start_page}")
