import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from repgeom.cli import inputs
from repgeom.cli.notebooks import build, outputs_hash
from repgeom.cli.pages import Page

Cli = Callable[..., Result]
SOURCES = {
    "__init__.py": "",
    "repro.py": "",
    "nn/__init__.py": "",
    "nn/rotations.py": "from ..manifolds import rotations as r",
    "manifolds/__init__.py": "",
    "manifolds/rotations.py": "def f():\n    from . import constants",
    "manifolds/constants.py": "LIMIT = 1",
    "manifolds/poincare.py": "from repgeom.manifolds.constants import LIMIT",
    "viz.py": "",
    "probes/__init__.py": "from .linear import fit",
    "probes/linear.py": "",
}


@pytest.fixture
def package(book: Path) -> Path:
    for name, text in SOURCES.items():
        path = book / "src" / "repgeom" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return book / "src" / "repgeom"


@pytest.mark.parametrize(
    ("source", "reached"),
    [
        ("from repgeom.nn import rotations", "nn nn.rotations manifolds manifolds.rotations manifolds.constants"),
        ("import repgeom.nn.rotations as r", "nn nn.rotations manifolds manifolds.rotations manifolds.constants"),
        ("from repgeom import repro, viz", "repro viz"),
        ("from repgeom.manifolds.poincare import anything", "manifolds manifolds.poincare manifolds.constants"),
        ("import repgeom\nrepgeom.viz.use_style()", "viz"),
        ("import repgeom.probes", "probes probes.linear"),
        ("import numpy, repgeomancy", None),
        ("x = 1", None),
    ],
)
def test_modules_that_are_reached(package: Path, source: str, reached: str | None) -> None:
    found = inputs.reached(package, inputs.imports_of(source))
    expected = set() if reached is None else {"repgeom", *(f"repgeom.{name}" for name in reached.split())}
    assert set(found) == expected


def test_magics_are_read_over() -> None:
    source = "if x:\n    %pip install y\n!ls\nfrom repgeom import viz"
    assert inputs.imports_of(inputs.python_of(source)) == {"repgeom", "repgeom.viz"}


def mark_as_run(page: Page) -> None:
    """Leave behind what a run leaves, without running."""
    notebook = build(page)
    content = {"format": 1, "claims": [], "inputs": inputs.digest(page, notebook), "outputs": outputs_hash(notebook)}
    page.record("ci").write_text(json.dumps(content))


@pytest.fixture
def two_pages(package: Path, page_of: Callable[..., Page], cli: Cli, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two pages that are up to date; returns the list to which executed slugs are added."""
    (package.parents[1] / "book" / "demo.md").unlink()
    turning = page_of("turning", "from repgeom.nn import rotations")
    bending = page_of("bending", "from repgeom import repro", "from repgeom.manifolds import poincare")
    cli("sync")
    mark_as_run(turning)
    mark_as_run(bending)
    ran: list[str] = []
    monkeypatch.setattr("repgeom.cli.run.run_page", lambda page, full, only: ran.append(page.slug))
    return ran


@pytest.mark.parametrize(
    ("module", "pages"),
    [
        ("nn/rotations.py", ["turning"]),
        ("manifolds/rotations.py", ["turning"]),
        ("manifolds/poincare.py", ["bending"]),
        ("manifolds/constants.py", ["bending", "turning"]),
        ("nn/__init__.py", ["turning"]),
        ("repro.py", ["bending"]),
        ("__init__.py", ["bending", "turning"]),
        ("viz.py", []),
    ],
)
def test_a_changed_module_touches_the_pages_that_reach_it(
    two_pages: list[str], package: Path, cli: Cli, module: str, pages: list[str]
) -> None:
    cli("run", "--changed")
    assert two_pages == []
    (package / module).write_text(SOURCES[module] + "\n# changed\n")
    cli("run", "--changed")
    assert two_pages == pages


def test_a_changed_page_touches_itself_only_and_prose_nothing(two_pages: list[str], book: Path, cli: Cli) -> None:
    md = book / "book" / "turning.md"
    md.write_text(md.read_text() + "\nMore prose.\n")
    cli("sync")
    cli("run", "--changed")
    assert two_pages == []
    md.write_text(md.read_text() + "\n```{code-cell}\nx = 1\n```\n")
    cli("run", "--changed")
    assert two_pages == ["turning"]


def test_a_changed_tag_counts(two_pages: list[str], book: Path, cli: Cli) -> None:
    md = book / "book" / "turning.md"
    md.write_text(md.read_text().replace("{code-cell}\n", "{code-cell}\n:tags: [hide-input]\n"))
    cli("run", "--changed")
    assert two_pages == ["turning"]


def test_a_lost_output_counts(executed: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr("repgeom.cli.run.run_page", lambda page, full, only: ran.append(page.slug))
    cli("run", "--changed")
    assert ran == []
    (executed / "book" / "demo.ipynb").unlink()
    cli("sync")
    cli("run", "--changed")
    assert ran == ["demo"]


def test_a_new_full_scale_result_counts_but_not_its_rerun(two_pages: list[str], book: Path) -> None:
    page = Page(book, "turning")
    before = inputs.digest(page, build(page))
    full_before = inputs.digest(page, build(page), "full")
    page.record("full").write_text(json.dumps({"results": {"long": {"loss": 1}}, "inputs": "a"}))
    with_result = inputs.digest(page, build(page))
    page.record("full").write_text(json.dumps({"results": {"long": {"loss": 1}}, "inputs": "b"}))
    assert before != with_result == inputs.digest(page, build(page))
    assert full_before == inputs.digest(page, build(page), "full")


def test_the_digest_does_not_depend_on_where_the_book_lies(book: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(book, tmp_path / "elsewhere")
    here, there = Page(book, "demo"), Page(tmp_path / "elsewhere", "demo")
    assert inputs.digest(here, build(here)) == inputs.digest(there, build(there))
