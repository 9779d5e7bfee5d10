"""The examples in the docstrings are run, and every public function has one."""

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import ModuleType

import pytest

import repgeom.manifolds
import repgeom.nn
import repgeom.optim
from repgeom.manifolds import rotations, spd
from repgeom.manifolds.spd import affine_invariant, bures_wasserstein, log_cholesky, log_euclidean, matrix_functions


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


def public() -> dict[str, Callable[..., object]]:
    """The functions in each ``__all__``, and those that the module of matrix functions defines."""
    found: dict[str, Callable[..., object]] = {}
    for module in (rotations, spd, affine_invariant, bures_wasserstein, log_cholesky, log_euclidean):
        named = {name: getattr(module, name) for name in module.__all__}
        found |= {f"{module.__name__}.{name}": value for name, value in named.items() if inspect.isfunction(value)}
    for name, value in inspect.getmembers(matrix_functions, inspect.isfunction):
        if value.__module__ == matrix_functions.__name__ and not name.startswith("_"):
            found[f"{matrix_functions.__name__}.{name}"] = value
    return found


@pytest.mark.parametrize("name", public())
def test_documented(name: str) -> None:
    text = inspect.getdoc(public()[name]) or ""
    for part in ("Args:", "Returns:", "Raises:", "Source:", ">>>"):
        assert part in text, f"{name} lacks {part}"


def test_there_is_much_to_document() -> None:
    assert sum("rotations" in name for name in public()) > 20
    assert sum("spd" in name for name in public()) > 40
