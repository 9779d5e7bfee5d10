"""pyproject.toml (ranges), constraints.txt (exact pins) and environment.yml (conda) say the same."""

import importlib.metadata
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [Requirement(line) for line in [*PROJECT["dependencies"], *EXTRAS["book"], *EXTRAS["test"]]]
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(package): version.split(";")[0].strip() for package, version in pairs}


@pytest.mark.parametrize("requirement", DECLARED, ids=lambda r: r.name)
def test_pin_lies_inside_the_range(requirement):
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)], prereleases=True)


def needed() -> set[str]:
    """All packages that the declared ones need on this machine, directly or not."""
    todo, seen = [(r.name, frozenset(r.extras)) for r in DECLARED], set()
    while todo:
        package, extras = todo.pop()
        if (package, extras) in seen:
            continue
        seen.add((package, extras))
        for line in importlib.metadata.requires(package) or []:
            inner = Requirement(line)
            if any(inner.marker is None or inner.marker.evaluate({"extra": extra}) for extra in extras | {""}):
                todo.append((canonicalize_name(inner.name), frozenset(inner.extras)))
    return {canonicalize_name(package) for package, _ in seen}


def test_everything_needed_is_pinned():
    assert needed() <= set(pins())


def test_installed_versions_are_the_pinned_ones():
    wrong = {}
    for package in needed() & set(pins()):
        installed = importlib.metadata.version(package).split("+")[0]  # torch adds +cpu or +cu128
        if installed != pins()[package]:
            wrong[package] = (installed, pins()[package])
    assert not wrong, "installed, pinned: run make again, it reinstalls"


def test_conda_form_has_the_same_ranges():
    ranges = {canonicalize_name(r.name): r.specifier for r in DECLARED}
    ranges["python"] = SpecifierSet(PROJECT["requires-python"])
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    conda = [Requirement(line) for line in listed if isinstance(line, str) and line != "pip"]
    assert len(conda) >= 5
    for requirement in conda:
        assert requirement.specifier == ranges[CONDA_NAMES.get(requirement.name, requirement.name)], requirement.name
    assert [line for line in listed if isinstance(line, dict)] == [{"pip": ["-e .[book,test]"]}]


def test_torch_and_numpy_bounds_that_others_rely_on():
    ranges = {r.name: r.specifier for r in DECLARED}
    assert ranges["jupyter-book"] == SpecifierSet(">=1.0.4.post1,<2")
    assert "2.4.0" not in ranges["numpy"] and "1.26.0" in ranges["numpy"] and "2.4.0" in ranges["torch"]
