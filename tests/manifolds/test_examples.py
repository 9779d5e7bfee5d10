"""The examples in the docstrings are run, and every public function has one."""

import doctest
import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import repgeom.manifolds
import repgeom.nn
import repgeom.optim
from repgeom.manifolds import rotations


def modules() -> list[ModuleType]:
    found = []
    for room in (repgeom.manifolds, repgeom.nn, repgeom.optim):
        names = [m.name for m in pkgutil.walk_packages(room.__path__, room.__name__ + ".")]
        found += [importlib.import_module(name) for name in names]
    return found


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_examples(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.failed == 0


@pytest.mark.parametrize("name", [name for name in rotations.__all__ if name != "CODES"])
def test_documented(name: str) -> None:
    text = inspect.getdoc(getattr(rotations, name)) or ""
    for part in ("Args:", "Returns:", "Raises:", "Source:", ">>>"):
        assert part in text, f"{name} lacks {part}"
