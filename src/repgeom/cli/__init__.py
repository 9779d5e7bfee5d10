"""What a maintainer calls: the command ``repgeom``.

Only click is imported here; the module of a subcommand when it is used.
"""

import difflib
import importlib
import os

import click

COMMANDS = ("sync", "run", "rerun", "ledger", "book", "bench", "new", "data")


class LazyGroup(click.Group):
    """A group whose commands live in modules of the same name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of a maintainer's day, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module now; an unknown name gets one line with the nearest one."""
        if cmd_name not in COMMANDS:
            near = difflib.get_close_matches(cmd_name, COMMANDS, 1, 0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(COMMANDS)}."
            raise Failure(f"no command '{cmd_name}'; {hint}", 2)
        return getattr(importlib.import_module(f"repgeom.cli.{cmd_name}"), cmd_name)


class Failure(click.ClickException):
    """One clear line on stderr and an exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc]  # click declares it on the class


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Build, check and re-run the book.

    \b
    Example:
      repgeom book
      repgeom rerun rotation_representations --seeds 0,1,2 --out _build/rerun

    Exit statuses of all commands: 0 all is well, 1 something does not hold (each command says what),
    2 wrong usage, 3 a page failed to execute.
    """
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # the kernel's debugger warns on frozen modules
