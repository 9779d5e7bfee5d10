"""The rules of the house that a program can check."""

import ast
import re
import subprocess
import tokenize
from pathlib import Path

import nbformat
import pytest

from repgeom.cli import compare, inputs, pages, site
from repgeom.cli.run import is_stale

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "repgeom"
MODULES = sorted(PACKAGE.rglob("*.py"))
TOOLS = {"repro", "data", "viz"}
BELOW = {  # what a room may import besides itself
    "manifolds": set(),
    "nn": {"manifolds"},
    "optim": {"manifolds"},
    "theory": {"manifolds"},
    "probes": {"manifolds"},
    "chapters": {"manifolds", "nn", "optim", "theory", "probes"} | TOOLS,
    "repro": set(),
    "data": set(),
    "viz": set(),
    "cli": {"repro", "data", "viz"},
}


def name(path: Path) -> str:
    return ".".join(["repgeom", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, in functions too."""
    found = inputs.imports_of(path.read_text(encoding="utf-8"), name(path), path.name == "__init__.py")
    return {full for full in found if inputs.module_file(PACKAGE, full)}


def test_rooms_are_the_closed_list():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= set(BELOW) | {"records"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: name(p))
def test_imports_point_downwards(path):
    words = name(path).split(".")
    if len(words) == 1:
        assert not imported(path) - {"repgeom"}
        return
    rooms = {full.split(".")[1] for full in imported(path) if full.count(".")}
    assert rooms - {words[1]} <= BELOW[words[1]]


@pytest.mark.parametrize("page", pages.all_pages(ROOT), ids=lambda p: p.slug)
def test_the_committed_run_is_that_of_this_code(page):
    assert not is_stale(page), f"repgeom run {page.slug}"


@pytest.mark.parametrize("page", pages.all_pages(ROOT), ids=lambda p: p.slug)
@pytest.mark.parametrize("scale", ["ci", "full"])
def test_committed_records_agree_with_themselves(page, scale):
    record = pages.load_record(page, scale)
    assert {
        c["id"]: compare.contradiction(c) for c in (record or {}).get("claims", []) if compare.contradiction(c)
    } == {}


@pytest.mark.parametrize("path", sorted((PACKAGE / "chapters").glob("*.py")), ids=lambda p: p.stem)
def test_no_chapter_imports_another(path):
    chapters = {full for full in imported(path) if full.startswith("repgeom.chapters.")}
    assert chapters <= {name(path)}


@pytest.mark.parametrize("page", pages.all_pages(ROOT), ids=lambda p: p.slug)
def test_no_page_uses_another_chapters_code(page):
    cells = nbformat.read(page.twin, as_version=4).cells
    code = "\n".join(inputs.python_of(cell.source) for cell in cells if cell.cell_type == "code")
    chapters = {full.split(".")[2] for full in inputs.imports_of(code) if full.startswith("repgeom.chapters.")}
    assert chapters <= {page.slug}


def code_lines(path: Path) -> int:
    """Lines that hold code: no blanks, comments or docstrings."""
    held: set[int] = set()
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    with path.open("rb") as stream:
        for token in tokenize.tokenize(stream.readline):
            if token.type not in (*silent, tokenize.ENCODING):
                held.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            held -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(held)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: name(p))
def test_modules_stay_short(path):
    assert code_lines(path) <= 400


def test_setup_cells_are_identical_and_name_the_repository():
    setups = set()
    for page in pages.all_pages(ROOT):
        cells = nbformat.read(page.twin, as_version=4).cells
        first = next(cell for cell in cells if cell.cell_type == "code")
        assert {"setup", "remove-cell"} <= set(first.metadata.get("tags", [])), f"{page.slug}: setup comes first"
        setups.add(first.source)
    assert len(setups) == 1
    address = site.address(ROOT)
    assert f"git+{address.git}@{address.branch}" in setups.pop()


def test_every_mention_of_the_repository_is_the_configured_one():
    address = site.address(ROOT)
    for path in [*(ROOT / "book").glob("*.md"), ROOT / "README.md", ROOT / "CITATION.cff", ROOT / "CONTRIBUTING.md"]:
        for owner, repository in re.findall(r"github\.com/([\w-]+)/([\w-]+)", path.read_text(encoding="utf-8")):
            if "geometry-of-representations" in repository or "repgeom" in owner:
                assert (owner, repository) == (address.owner, address.repository), path.name


def test_moving_a_chapter_touches_the_table_of_contents_only():
    for chapter in site.chapters(ROOT):
        files = [path for path in ROOT.rglob(f"*{chapter.slug}*") if path.is_file()]
        files = [p for p in files if not {"_build", ".venv", ".git", "__pycache__"} & set(p.relative_to(ROOT).parts)]
        assert {path.suffix for path in files} >= {".md", ".ipynb", ".py"}
        for path in files:
            assert chapter.part not in path.read_text(encoding="utf-8"), f"{path} names its part"


def test_no_large_file_is_tracked():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    tracked = [ROOT / line for line in done.stdout.split("\0") if line]
    assert tracked
    large = [path.name for path in tracked if path.is_file() and path.stat().st_size > 2_000_000]
    assert not large
