"""``repgeom data``: what data the book uses, where it lies, whether it is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from repgeom.cli import Failure

if TYPE_CHECKING:
    from repgeom.data.catalog import Source
    from repgeom.data.store import Found


@click.group()
def data() -> None:
    """List, download and check the data sets of the book.

    \b
    Example:
      repgeom data list
      repgeom data fetch mnist omniglot
      repgeom data verify

    Data is looked for in the folder $REPGEOM_DATA, then in the cache ($REPGEOM_CACHE, or the system's place for
    caches), and downloaded to the cache otherwise. $REPGEOM_OFFLINE=1 forbids downloads.

    Exit statuses: 0 all is well, 1 something is missing or damaged, 2 wrong usage.
    """


@data.command("list", short_help="Show every data set, its size, where it is, its licence.")
def list_() -> None:
    """Show every data set, its size, where it is on this machine, its licence.

    \b
    Example:
      repgeom data list

    Files are looked for, not checked: `repgeom data verify` does that. Exit status: 0.
    """
    from repgeom.data import store
    from repgeom.data.catalog import CATALOG

    rows = [("NAME", "SIZE", "WHERE", "LICENCE")]
    for source in CATALOG.values():
        found = next(iter(store.everywhere(source)), None)
        edition = found.edition if found else source.download or source.editions[0]
        size = f"{edition.size / 1e6:.1f} MB"
        rows.append((source.name, size, _where(found) if found else "not here", source.licence))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for name, size, where, licence in rows:
        click.echo(f"{name:<{widths[0]}}  {size:>{widths[1]}}  {where:<{widths[2]}}  {licence}")


@data.command(short_help="Download data sets to the cache.")
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "everything", is_flag=True, help="All data sets that are not here yet.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def fetch(names: tuple[str, ...], everything: bool, quiet: bool) -> None:
    """Download data sets to the cache, with a progress bar; a damaged file in the cache is replaced.

    \b
    Example:
      repgeom data fetch mnist omniglot
      repgeom data fetch --all

    What is in $REPGEOM_DATA or bundled with a package is not downloaded. A file is checked before it gets its name.

    Exit statuses: 0 all is here and whole, 1 something could not be had, 2 wrong usage.
    """
    if bool(names) == everything:
        raise Failure("give the names of data sets, or --all (`repgeom data list` shows the names)", 2)
    failures = [_fetch_one(source, quiet) for source in _chosen(names)]
    if any(failures):
        raise SystemExit(1)


def _fetch_one(source: Source, quiet: bool) -> bool:
    """True if it failed; the reason was printed."""
    from repgeom.data import fetch as fetching
    from repgeom.data import store
    from repgeom.data.errors import DataUnavailable

    found = store.find(source)
    if found:
        damage = found.damage() if found.place == "folder" else ""
        if damage:
            click.echo(f"Error: data set '{source.name}': {damage}; nothing in ${store.FOLDER} is replaced", err=True)
        else:
            click.echo(f"{source.name}: already here ({_where(found)})")
        return bool(damage)
    try:
        found = fetching.fetch(source, progress=not quiet)
    except DataUnavailable as error:
        click.echo(f"Error: {error}", err=True)
        return True
    click.echo(f"{source.name}: downloaded ({_where(found)})")
    return False


@data.command(short_help="Compare the files that are here with the pinned checksums.")
@click.argument("names", nargs=-1, metavar="[NAME...]")
def verify(names: tuple[str, ...]) -> None:
    """Compare the files that are here with the pinned checksums; without a name, of all data sets.

    \b
    Example:
      repgeom data verify
      repgeom data verify mnist && echo whole

    A data set that is not here is a failure only if it was named. `repgeom data fetch` replaces what is damaged in
    the cache; what is damaged in $REPGEOM_DATA is its owner's to replace.

    Exit statuses: 0 all is whole, 1 something is damaged, or was named and is not here, 2 wrong usage.
    """
    from repgeom.data import store

    failed = False
    for source in _chosen(names):
        founds = store.everywhere(source)
        if not founds:
            failed = failed or bool(names)
            click.echo(f"{source.name}: not here")
        for found in founds:
            damage = found.damage()
            if not damage and found.place == "folder":
                damage = store.list_differs(found.root, found.edition.files)
            failed = failed or bool(damage)
            click.echo(f"{source.name}: {f'DAMAGED {damage}' if damage else f'whole ({_where(found)})'}")
    if failed:
        raise SystemExit(1)


def _chosen(names: tuple[str, ...]) -> list[Source]:
    from repgeom.data.catalog import CATALOG, nearest

    for name in names:
        if name not in CATALOG:
            raise Failure(nearest(name), 2)
    return [CATALOG[name] for name in dict.fromkeys(names)] if names else list(CATALOG.values())


def _where(found: Found) -> str:
    """Where a set of files is, in words; the edition where a data set has several."""
    from repgeom.data.catalog import CATALOG

    if found.place == "package":
        return f"bundled with {found.edition.package}"
    several = any(len(s.editions) > 1 and found.edition in s.editions for s in CATALOG.values())
    return f"{found.place} {found.root}" + (f", {found.edition.label}" if several else "")
