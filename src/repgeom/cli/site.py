"""Render the site: Jupyter Book, then the Colab copies and the ledger as data."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repgeom.cli import Failure, ledger, pages


@dataclass(frozen=True)
class Chapter:
    """A page of ``_toc.yml`` that is a notebook."""

    part: str
    slug: str


@dataclass(frozen=True)
class Address:
    """Where the book lives: everything is derived from ``repository`` and one branch name in ``_config.yml``."""

    owner: str
    repository: str
    branch: str
    copies_branch: str

    @property
    def site(self) -> str:
        """Address of the published site, with a slash at its end."""
        return f"https://{self.owner}.github.io/{self.repository}/"

    @property
    def git(self) -> str:
        """Address of the repository."""
        return f"https://github.com/{self.owner}/{self.repository}"

    def colab(self, slug: str) -> str:
        """Address that opens the generated copy of a chapter in Colab."""
        host = "https://colab.research.google.com/github"
        return f"{host}/{self.owner}/{self.repository}/blob/{self.copies_branch}/colab/{slug}.ipynb"


def config(root: Path) -> dict[str, Any]:
    """Read ``_config.yml``."""
    import yaml

    return yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))


def address(root: Path) -> Address:
    """Read owner, repository and branches from ``_config.yml``."""
    settings = config(root)
    owner, repository = settings["repository"]["url"].rstrip("/").split("/")[-2:]
    copies = settings["sphinx"]["config"]["repgeom_copies_branch"]
    return Address(owner, repository, settings["repository"]["branch"], copies)


def chapters(root: Path) -> list[Chapter]:
    """Pages of ``_toc.yml`` that are notebooks, in the order of the book."""
    notebooks = {page.slug for page in pages.all_pages(root)}
    return [Chapter(part, slug) for part, slugs in pages.parts(root) for slug in slugs if slug in notebooks]


def sources_digest(root: Path) -> str:
    """SHA-256 over everything the site is made of; it says whether a rendered site is still fresh."""
    files = [root / "_config.yml", root / "_toc.yml"]
    for folder in ("book", "src/repgeom"):
        files += sorted(p for p in (root / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def render(root: Path) -> str:
    """Run Jupyter Book with warnings as errors and return what it printed; Failure with the warnings if any."""
    program = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", program, "build", str(root), "-W", "-n", "--keep-going", "--all"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    printed = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    if done.returncode:
        warnings = [line for line in printed.splitlines() if re.search(r"WARNING|ERROR|CRITICAL|Error", line)]
        raise Failure("the site was not built:\n" + "\n".join(warnings or printed.splitlines()[-20:]))
    return printed


def write_ledger(root: Path, out: Path) -> None:
    """Write the claims of all chapters beside the pages, as ledger.json and ledger.csv."""
    rows = ledger.rows(root)
    (out / "ledger.json").write_text(ledger.as_json(rows), encoding="utf-8")
    (out / "ledger.csv").write_text(ledger.as_csv(rows), encoding="utf-8")


def build(root: Path) -> Path:
    """Render the site with its Colab copies and return the start page.

    Args:
        root: The folder of the book, with ``_config.yml`` and ``_toc.yml``.

    Returns:
        ``root/_build/html/index.html``.

    Raises:
        Failure: A record contradicts itself, or Jupyter Book warned about something; the message says what.
    """
    from repgeom.cli import colab

    ledger.rows(root)  # before anything is rendered: a page would show its numbers
    digest = sources_digest(root)
    out, stamp = root / "_build" / "html", root / "_build" / "site.json"
    stamp.unlink(missing_ok=True)
    render(root)
    colab.write_copies(root, out / "colab")
    write_ledger(root, out)
    # Written last: it exists only beside a whole site that was built without a warning.
    stamp.write_text(json.dumps({"sources": digest}) + "\n", encoding="utf-8")
    return out / "index.html"


def is_fresh(root: Path) -> bool:
    """Whether ``_build/html`` was built, without a warning, from the sources as they are now."""
    stamp = root / "_build" / "site.json"
    return stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8"))["sources"] == sources_digest(root)
