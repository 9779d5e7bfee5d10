"""Pages of the book: where they lie, what they are called, in which part they stand."""

import difflib
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repgeom.cli import Failure

SLUG = re.compile(r"[a-z][a-z0-9_]*")
LONGEST_SLUG = 25
HEADER = re.compile(r"---[ \t]*\n")
CLAIM_KEYS = tuple("id says source paper kind expect low high value samples interval verdict unit drift".split())


@dataclass(frozen=True)
class Page:
    """One page: ``book/<slug>.md`` and what is generated from it."""

    root: Path
    slug: str

    @property
    def md(self) -> Path:
        """The text that people edit."""
        return self.root / "book" / f"{self.slug}.md"

    @property
    def twin(self) -> Path:
        """The generated notebook."""
        return self.root / "book" / f"{self.slug}.ipynb"

    def record(self, scale: str) -> Path:
        """The committed record at a scale."""
        return self.root / "book" / "records" / f"{self.slug}.{scale}.json"


def find_root() -> Path:
    """The book: ``$REPGEOM_ROOT``, else the nearest folder upwards that holds ``_toc.yml`` and ``book/``."""
    if os.environ.get("REPGEOM_ROOT"):
        root = Path(os.environ["REPGEOM_ROOT"]).resolve()
        if not (root / "book").is_dir():
            raise Failure(f"REPGEOM_ROOT={root} holds no folder 'book'", 2)
        return root
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "_toc.yml").is_file() and (folder / "book").is_dir():
            return folder
    raise Failure("no book here: run inside the repository (a folder with _toc.yml and book/) or set REPGEOM_ROOT", 2)


def all_pages(root: Path) -> list[Page]:
    """Every ``book/*.md`` whose header names a kernel, in the order of ``_toc.yml``, the unlisted ones last."""
    slugs = []
    for path in sorted((root / "book").glob("*.md")):
        head = path.read_text(encoding="utf-8")[:1000]
        if HEADER.match(head) and "kernelspec:" in head.split("\n---", 1)[0]:
            slugs.append(path.stem)
    listed = [slug for _, group in parts(root) for slug in group]
    slugs.sort(key=lambda slug: (listed.index(slug) if slug in listed else len(listed), slug))
    return [Page(root, slug) for slug in slugs]


def parts(root: Path) -> list[tuple[str, list[str]]]:
    """Captions of ``_toc.yml`` with the slugs below each; Failure where it is not a table of contents."""
    import yaml

    path = root / "_toc.yml"
    if not path.is_file():
        return []
    try:
        toc = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        groups = _entries(toc, "parts") or [toc]
        return [(str(group.get("caption") or ""), _slugs(group)) for group in groups]
    except (yaml.YAMLError, ValueError) as error:
        raise Failure(f"_toc.yml cannot be read: {' '.join(str(error).split())}", 2) from error


def _entries(node: Any, key: str) -> list[dict]:
    """The list below ``key``; a key with nothing below it counts as an empty list."""
    if not isinstance(node, dict):
        raise ValueError(f"{node!r} stands where an entry such as 'file: book/index' belongs")
    found = node.get(key) or []
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ValueError(f"below '{key}:' belongs a list of entries such as '- file: book/index'")
    return found


def _slugs(node: dict) -> list[str]:
    found = []
    for entry in [*_entries(node, "chapters"), *_entries(node, "sections")]:
        if "file" in entry:
            if not isinstance(entry["file"], str):
                raise ValueError(f"'file: {entry['file']}' names no file")
            found.append(Path(entry["file"]).name)
        found += _slugs(entry)
    return found


def load_record(page: Page, scale: str) -> dict[str, Any] | None:
    """The committed record, or None where there is none; Failure in one line for one of another shape."""
    from repgeom.repro import records

    path = page.record(scale)
    try:
        record = records.load(page.slug, scale, path.parent)
    except (ValueError, OSError) as error:
        raise Failure(" ".join(str(error).split())) from None
    wrong = misshapen(record) if record is not None else ""
    if wrong:
        raise Failure(f"record {path.name} cannot be read ({wrong}); restore it from version control")
    return record


def misshapen(record: Any) -> str:
    """Why this is no record, or an empty string. Whether its numbers fit together is another question."""
    if not isinstance(record, dict) or not isinstance(record.get("claims"), list):
        return "'claims' is not a list"
    if not isinstance(record.get("results", {}), dict):
        return "'results' is not a table"
    seen = set()
    for place, claim in enumerate(record["claims"]):
        if not isinstance(claim, dict) or not isinstance(claim.get("id"), str):
            return f"claim number {place} has no id"
        name = claim["id"]
        if name in seen:
            return f"claim '{name}' stands there twice"
        seen.add(name)
        missing = [key for key in CLAIM_KEYS if key not in claim]
        if missing:
            return f"claim '{name}' has no '{missing[0]}'"
        wrong = next((key for key in CLAIM_KEYS if not _fits(key, claim[key])), None)
        if wrong:
            return f"claim '{name}': '{wrong}' is {claim[wrong]!r}"
        if None not in (claim["low"], claim["high"]) and claim["low"] > claim["high"]:
            return f"claim '{name}': 'low' is above 'high'"
    return ""


def _fits(key: str, value: Any) -> bool:
    """Whether an entry of a claim is of its kind."""
    if key == "kind":
        return value in ("exact", "empirical")
    if key in ("low", "high", "drift"):
        return value is None or _is_number(value)
    if key == "value":
        return value is None or isinstance(value, bool) or _is_number(value)
    if key == "samples":
        return isinstance(value, list) and all(map(_is_number, value))
    if key == "interval":
        return value is None or (isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)))
    return isinstance(value, str) or (key == "paper" and value is None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def part_of(root: Path) -> dict[str, str]:
    """The caption under which each slug stands."""
    return {slug: caption for caption, group in parts(root) for slug in group}


def nearest(word: str, known: list[str], what: str) -> Failure:
    """The one line for a name that does not exist."""
    near = difflib.get_close_matches(word, known, 1, 0.4)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known) or 'none'}."
    return Failure(f"no {what} '{word}'; {hint}", 2)


def select(root: Path, slugs: tuple[str, ...], part: str | None = None) -> list[Page]:
    """The pages named, or all; a wrong name gets one line with the nearest one."""
    pages = all_pages(root)
    known = [page.slug for page in pages]
    for slug in slugs:
        if slug not in known:
            raise nearest(slug, known, "chapter")
    if part is not None:
        captions = {caption: group for caption, group in parts(root) if caption}
        if part not in captions:
            raise nearest(part, list(captions), "part")
        pages = [page for page in pages if page.slug in captions[part]]
    if slugs:
        pages = [page for page in pages if page.slug in slugs]
    if not pages:
        raise Failure("no page to work on: book/ holds no .md file with a kernelspec header in this selection", 2)
    return pages
