"""Every example in a docstring of the package is run."""

import doctest
import importlib
import pkgutil

import pytest

import repgeom

MODULES = [module.name for module in pkgutil.walk_packages(repgeom.__path__, "repgeom.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(module, optionflags=flags)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples in {name} fail"


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    modules = map(importlib.import_module, ("repgeom.repro.claims", "repgeom.repro.display"))
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) >= 8
