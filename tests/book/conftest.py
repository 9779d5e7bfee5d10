"""The rendered site: the one that ``make test`` has just built, or a fresh one."""

import fcntl
from pathlib import Path

import pytest

from repgeom.cli import site

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def html() -> Path:
    (ROOT / "_build").mkdir(exist_ok=True)
    with (ROOT / "_build" / "site.lock").open("w") as lock:  # two test processes must not build at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not site.is_fresh(ROOT):
            site.build(ROOT)
    return ROOT / "_build" / "html"
