"""Pages of the book: where they lie, what they are called, in which part they stand."""

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from repgeom.cli import Failure

SLUG = re.compile(r"[a-z][a-z0-9_]*")
LONGEST_SLUG = 25


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
        if head.startswith("---\n") and "kernelspec:" in head.split("\n---", 1)[0]:
            slugs.append(path.stem)
    listed = [slug for _, group in parts(root) for slug in group]
    slugs.sort(key=lambda slug: (listed.index(slug) if slug in listed else len(listed), slug))
    return [Page(root, slug) for slug in slugs]


def parts(root: Path) -> list[tuple[str, list[str]]]:
    """Captions of ``_toc.yml`` with the slugs below each."""
    import yaml

    path = root / "_toc.yml"
    if not path.is_file():
        return []
    try:
        toc = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise Failure(f"_toc.yml cannot be read: {' '.join(str(error).split())}", 2) from error
    groups = toc.get("parts") or [toc]
    return [(group.get("caption", ""), _slugs(group)) for group in groups]


def _slugs(node: dict) -> list[str]:
    found = []
    for entry in [*node.get("chapters", []), *node.get("sections", [])]:
        if "file" in entry:
            found.append(Path(entry["file"]).name)
        found += _slugs(entry)
    return found


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
