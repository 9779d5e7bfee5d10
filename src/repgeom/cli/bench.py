"""``repgeom bench``: the benchmarks with their output."""

import os
import subprocess
import sys

import click

from repgeom.cli import Failure

STORAGE = "--benchmark-storage=file://_build/benchmarks"  # it makes this folder even when nothing is stored


@click.command(short_help="Speed as ratios to peers and limits.", context_settings={"ignore_unknown_options": True})
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def bench(pytest_arguments: tuple[str, ...]) -> None:
    """Measure speed against peers and against the physical limit, as ratios from one run, with one thread.

    Further arguments go to pytest.

    \b
    Example:
      repgeom bench -k from_6d

    Exit statuses: 0 all targets met, 1 one was missed or an answer disagreed, 2 wrong usage.
    """
    from repgeom.cli.pages import find_root

    root = find_root()
    folder = root / "tests" / "benchmarks"
    if not any(folder.glob("test_*.py")):
        raise Failure("no benchmarks in tests/benchmarks", 2)
    command = [sys.executable, "-m", "pytest", "-c", "tests/pytest.ini", "--rootdir", ".", "-s"]
    command += ["-o", f"addopts=-p no:cacheprovider --import-mode=importlib {STORAGE}", "-o", "norecursedirs=_build .*"]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run([*command, *pytest_arguments, str(folder)], cwd=root, env={**os.environ, **threads})
    if done.returncode == 1:
        raise Failure("a target was missed, or an answer disagreed: see above", 1)
    if done.returncode:
        none = done.returncode == 5
        raise Failure("no benchmark selected" if none else f"pytest did not run (status {done.returncode})", 2)
