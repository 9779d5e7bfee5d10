"""What a maintainer calls: the command ``repgeom``."""

import click


@click.group()
def main() -> None:
    """Build, check and re-run the book."""
