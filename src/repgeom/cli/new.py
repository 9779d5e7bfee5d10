"""``repgeom new``: the three hand-written files of a chapter."""

import keyword
from pathlib import Path
from string import Template

import click

from repgeom.cli import Failure

SETUP = """import importlib.util, sys
if importlib.util.find_spec("repgeom") is None and "google.colab" in sys.modules:
    %pip install -q --no-deps "repgeom @ git+$url@$branch" geomstats pymanopt"""

PAGE = Template("""---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
# $title

One sentence without formulas says what this chapter is about.

:::{admonition} Before you start
**Papers**: author and year. **Prerequisites**: other chapters. **CPU**: 1 minute. **GPU**: none.
**Data**: none.
:::

```{code-cell}
:tags: [remove-cell, setup]
$setup
```

```{code-cell}
:tags: [parameters]
scale = "ci"
seed = 0
```

```{code-cell}
from repgeom import repro
from repgeom.chapters import $slug as chapter

ch = repro.open_chapter("$slug", scale=scale, seed=seed)
```

## What does the idea look like?

The picture first. Then the mathematics in small steps, with a case small enough to redo by hand.

```{code-cell}
by_hand = [(1 + 2 + 3) / 3]
assert by_hand == [chapter.mean([1.0, 2.0, 3.0])]
repro.show(chapter.mean)
```

## Where it breaks

The numerical horizon, the wrong variants, the defects in published code, each shown by running it.

## At full scale

```{code-cell}
:tags: [gpu, skip-execution, nbval-skip]
if ch.gpu("long-run"):
    ch.store("long-run", {"mean": chapter.experiment(ch.generator(), draws=10**8)})
```

```{code-cell}
long_run = ch.stored("long-run")
```

## Claims

```{code-cell}
means = [chapter.experiment(ch.generator(k), draws=1000) for k in range(5)]
ch.claim(
    "mean-is-zero",
    says="The mean of standard normal numbers is zero.",
    source="Author and year, table",
    paper="0",
    value=means,
    expect=repro.between(-0.2, 0.2),
)
ch.close()
```

## Exercises

At least five, graded (check, derive, code, experiment, open), with folded solutions that are executed cells.

## Replication statement

What was replicated, what deviates, what stood in the way, what we think.
""")

MODULE = Template('''"""The experiments of the chapter ``$slug``."""

from collections.abc import Sequence

import torch


def mean(numbers: Sequence[float]) -> float:
    """The mean of ``numbers``.

    >>> mean([1.0, 2.0, 6.0])
    3.0
    """
    return sum(numbers) / len(numbers)


def experiment(generator: torch.Generator, draws: int) -> float:
    """The mean of ``draws`` standard normal numbers."""
    return torch.randn(draws, generator=generator).mean().item()
''')

TEST = Template("""import torch

from repgeom.chapters import $slug as chapter


def test_mean_of_three_numbers() -> None:
    assert chapter.mean([1.0, 2.0, 6.0]) == 3.0


def test_experiment_depends_on_its_generator_only() -> None:
    first, again, other = (chapter.experiment(torch.Generator().manual_seed(s), draws=10) for s in (1, 1, 2))
    assert first == again != other
""")


@click.command(short_help="The three files of a new chapter.")
@click.argument("slug")
def new(slug: str) -> None:
    """Write the three hand-written files of a new chapter, from a template that already runs.

    SLUG is a noun: lower-case letters, digits and underscores, at most 25 of them.

    \b
    Example:
      repgeom new normal_numbers

    Exit statuses: 0 written, 2 SLUG is not a valid name or is taken.
    """
    from repgeom.cli.pages import LONGEST_SLUG, SLUG, find_root

    root = find_root()
    if not SLUG.fullmatch(slug) or len(slug) > LONGEST_SLUG:
        raise Failure(f"slug '{slug}': lower-case letters, digits and '_', a letter first, at most {LONGEST_SLUG}", 2)
    if keyword.iskeyword(slug):
        raise Failure(f"slug '{slug}' is a word of Python and cannot name its module; take another noun", 2)
    for path in contents(root, slug):
        if path.exists():
            raise Failure(f"slug '{slug}' is taken: {path.relative_to(root)} exists", 2)
    for path, text in contents(root, slug).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        click.echo(f"wrote {path.relative_to(root)}")
    click.echo(f"now add to _toc.yml, below its part:\n  - file: book/{slug}\nthen: repgeom run {slug}")


def contents(root: Path, slug: str) -> dict[Path, str]:
    """The three files of a chapter and what stands in them at first."""
    title = slug.replace("_", " ").capitalize()
    return {
        root / "book" / f"{slug}.md": PAGE.substitute(slug=slug, title=title, setup=setup_cell(root)),
        root / "src" / "repgeom" / "chapters" / f"{slug}.py": MODULE.substitute(slug=slug),
        root / "tests" / "chapters" / f"test_{slug}.py": TEST.substitute(slug=slug),
    }


def setup_cell(root: Path) -> str:
    """The source of the setup cell, with the repository of ``_config.yml``, where it stands once for all pages."""
    import yaml

    path = root / "_config.yml"
    if not path.is_file():
        raise Failure("no _config.yml; its entry 'repository' gives the address that the setup cell installs", 2)
    place = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("repository", {})
    return Template(SETUP).substitute(url=place.get("url", ""), branch=place.get("branch", "main"))
