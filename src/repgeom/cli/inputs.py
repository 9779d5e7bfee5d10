"""The digest of what a page's numbers depend on: its code cells and every repgeom module that they reach."""

import ast
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from repgeom.cli.pages import Page

PACKAGE = "repgeom"


def package_dir(root: Path) -> Path:
    """The sources of the package: those of the checkout, else the installed ones."""
    inside = root / "src" / PACKAGE
    return inside if inside.is_dir() else Path(__file__).resolve().parents[1]


def module_file(package: Path, name: str) -> Path | None:
    """The file of the dotted module ``name``, or None where it names no module of the package."""
    words = name.split(".")
    if words[0] != PACKAGE:
        return None
    base = package.joinpath(*words[1:])
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file() and (path.name == "__init__.py" or len(words) > 1):
            return path
    return None


def imports_of(source: str, module: str = "", is_package: bool = False) -> set[str]:
    """Dotted names that ``source`` may import, in functions too; attribute chains on the package count."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")
                above = above[: len(above) - node.level + is_package]
                base = ".".join([*above, *([base] if base else [])])
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            found.add(_dotted(node))
    return {name for name in found if name.split(".")[0] == PACKAGE}


def _dotted(node: ast.AST) -> str:
    words: list[str] = []
    while isinstance(node, ast.Attribute):
        words.insert(0, node.attr)
        node = node.value
    return ".".join([node.id, *words]) if isinstance(node, ast.Name) else ""


def reached(package: Path, names: Iterable[str]) -> dict[str, Path]:
    """All modules reached from ``names``, the ``__init__`` of every package above them included."""
    todo, files = list(names), {}
    while todo:
        words = todo.pop().split(".")
        for k in range(1, len(words) + 1):
            name = ".".join(words[:k])
            path = module_file(package, name)
            if path is None or name in files:
                continue
            files[name] = path
            todo += imports_of(path.read_text(encoding="utf-8"), name, path.name == "__init__.py")
    return files


def python_of(source: str) -> str:
    """The source of a cell with ``pass`` where a magic or a shell line stands."""
    lines = []
    for line in source.splitlines():
        lines.append(line[: len(line) - len(line.lstrip())] + "pass" if _is_magic(line) else line)
    return "\n".join(lines)


def _is_magic(line: str) -> bool:
    return line.lstrip().startswith(("%", "!"))


def digest(page: Page, notebook: Any, scale: str = "ci") -> str:
    """What a run of ``page`` at ``scale`` depends on, as one number.

    Prose does not count. The stored full-scale results count at the other scales, because the page shows them.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    names: set[str] = set()
    for cell in cells:
        try:
            names |= imports_of(python_of(cell.source))
        except SyntaxError:
            continue  # the page fails with this error when it is executed
    parts: list[Any] = [[cell.source, sorted(cell.metadata.get("tags", []))] for cell in cells]
    for name, path in sorted(reached(package_dir(page.root), names).items()):
        parts.append([name, hashlib.sha256(path.read_bytes()).hexdigest()])
    full = page.record("full")
    if scale != "full" and full.is_file():
        try:
            parts.append(["full", json.loads(full.read_text(encoding="utf-8"))["results"]])
        except (ValueError, KeyError):
            parts.append(["full", full.read_text(encoding="utf-8")])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
