"""A book of one page in a temporary folder, small enough that running it takes seconds."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from repgeom.cli import main
from repgeom.cli.pages import Page

HEADER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
TOC = """format: jb-book
root: book/index
parts:
- caption: First steps
  chapters:
  - file: book/demo
"""
PAGE = (
    HEADER
    + """# A demonstration

Prose.

```{code-cell}
:tags: [parameters]
scale = "ci"
seed = 0
```

```{code-cell}
import sys
import time
from repgeom import repro
ch = repro.open_chapter("demo", scale=scale, seed=seed)
print("exactly 41", object())
print(f"took {1e6 * time.perf_counter():.3f} s", file=sys.stdout)
print("a warning", file=sys.stderr)
```

```{code-cell}
:tags: [gpu, skip-execution, nbval-skip]
if ch.gpu("long"):
    print("this machine has a GPU")
    ch.store("long", {"loss": 0.25})
```

```{code-cell}
samples = [1.0 + 0.1 * k for k in ch.seeds(3)]
ch.claim("two", says="One and one is two.", source="Peano", paper="2", value=2.0, expect=repro.equals(2))
ch.claim("small", says="It stays small.", source="Peano", value=samples, expect=repro.at_most(3))
print(repro.approx(sum(samples)))
ch.close()
```
"""
)


def write_page(root: Path, slug: str, *cells: str, header: str = HEADER) -> Page:
    """A page of the given cells; a cell may start with option lines such as ``:tags: [gpu]``."""
    body = "".join(f"\n```{{code-cell}}\n{cell}\n```\n" for cell in cells)
    page = Page(root, slug)
    page.md.write_text(f"{header}# {slug}\n{body}", encoding="utf-8")
    return page


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a miniature book, nothing executed yet."""
    root = tmp_path / "mini"
    (root / "book" / "records").mkdir(parents=True)
    (root / "_toc.yml").write_text(TOC, encoding="utf-8")
    (root / "_config.yml").write_text("repository: {url: https://example.org/a/b, branch: main}\n", encoding="utf-8")
    (root / "book" / "demo.md").write_text(PAGE, encoding="utf-8")
    monkeypatch.setenv("REPGEOM_ROOT", str(root))
    monkeypatch.delenv("REPGEOM_RECORD_DIR", raising=False)
    return root


@pytest.fixture(scope="session")
def executed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twin and record of the miniature page, executed once for all tests."""
    from repgeom.cli.run import run_page

    root = tmp_path_factory.mktemp("executed")
    (root / "book" / "records").mkdir(parents=True)
    (root / "book" / "demo.md").write_text(PAGE, encoding="utf-8")
    run_page(Page(root, "demo"))
    return root


@pytest.fixture
def executed(book: Path, executed_once: Path) -> Path:
    """The miniature book with the outputs and the record of its page."""
    shutil.copytree(executed_once / "book", book / "book", dirs_exist_ok=True)
    return book


@pytest.fixture
def page_of(book: Path) -> Callable[..., Page]:
    """Write a page into the miniature book."""

    def write(slug: str, *cells: str) -> Page:
        return write_page(book, slug, *cells)

    return write


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Call ``repgeom`` in this process; an exception that is not a clean exit is a failure of the test."""

    def call(*words: str) -> Result:
        result = CliRunner().invoke(main, list(words))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call
