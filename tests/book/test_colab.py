"""Colab copies: no MyST left, and each runs alone with nothing but the built wheel and its dependencies."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from repgeom.cli import colab, pages, plain

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / "_build" / "colab-env"
CHAPTERS = [page.slug for page in pages.all_pages(ROOT)]
RAW_MYST = {
    "directive": re.compile(r"^[> \t]*(:{3,}|`{3,}|~{3,})[ \t]*\{", re.M),
    "colon fence": re.compile(r"^[> \t]*:{3,}", re.M),
    "role": re.compile(r"\{[\w:+.-]+\}`"),
    "target": re.compile(r"^\([\w:.-]+\)=\s*$", re.M),
    "labelled equation": re.compile(r"\$\$[ \t]*\([\w:.-]+\)"),
    "option": re.compile(r"^[> \t]*:(label|name|class|alt|width|tags):", re.M),
    "comment or block break": re.compile(r"^(% |\+\+\+)", re.M),
    "empty link": re.compile(r"(?<!!)\[\]\("),
    "link into the sources": re.compile(r"\]\([^)\s]*\.(md|ipynb)(#[^)]*)?\)"),
    "footnote": re.compile(r"\[\^"),
}


def raw_myst(text: str) -> list[str]:
    """Kinds of MyST syntax left in a text, code set aside."""
    text = re.sub(r"^(`{3,})[^`{]*\n.*?^\1\s*$", "", text, flags=re.M | re.S)
    return [kind for kind, pattern in RAW_MYST.items() if pattern.search(re.sub(r"(?<!\})`[^`\n]+`", "``", text))]


MYST = """(sec-one)=
# Title

:::{admonition} Before you start
:class: before

**Papers.** {cite:t}`zhou2019continuity` and {cite:p}`zhou2019continuity`. See the [other page](other.ipynb).
**Time.** None.
:::

$$
a = b
$$ (eq-a)

By {eq}`eq-a`, {numref}`fig-a`, {ref}`ex-a` and [](#sec-one), with `{math}` in code and {math}`x^2`[^n].

[^n]: A note.

::::{prf:theorem} Half a turn
:label: thm-a

Inside:
:::{tip}
deep
:::
::::

```python
{not}`a role`
```

```{exercise} check
:label: ex-a

Why?
```

:::{solution} ex-a
:class: dropdown

Because of {prf:ref}`thm-a`.
:::

```{list-table}
:header-rows: 1

* - one
  - two
* - {math}`1`
  - 2
```
"""


@pytest.fixture
def book() -> plain.Book:
    papers = {"zhou2019continuity": plain.Paper("Zhou et al.", "2019", "https://example.org", "Entry")}
    return plain.Book("https://site/", titles={"one": "One", "other": "Other"}, papers=papers)


def notebook() -> nbformat.NotebookNode:
    figure = {"tags": ["hide-input"], "mystnb": {"figure": {"name": "fig-a", "caption": "It *rises*."}}}
    cells = [
        new_markdown_cell(MYST, id="text"),
        new_code_cell("pass", metadata={"tags": ["remove-cell", "setup"]}, id="setup"),
        new_code_cell("plot()", metadata=figure, id="plot"),
        new_code_cell("if True: pass", metadata={"tags": ["gpu", "skip-execution", "nbval-skip"]}, id="gpu"),
    ]
    return new_notebook(cells=cells)


def test_converter_leaves_no_myst(book):
    assert set(raw_myst(MYST)) >= {
        "directive",
        "colon fence",
        "role",
        "target",
        "labelled equation",
        "option",
        "footnote",
    }
    colab.convert(notebook(), plain.Page(book, "one"))  # labels that stand further on are known to the second pass
    copy = colab.convert(notebook(), plain.Page(book, "one"))
    nbformat.validate(copy)
    assert [cell.id for cell in copy.cells] == ["setup", "origin", "text", "plot", "plot-caption", "gpu", "references"]
    text = copy.cells[2].source
    assert raw_myst(text) == []
    assert "\n>\n> **Time.** None." in text
    assert (
        "> **Papers.** [Zhou et al. (2019)](https://example.org) and ([Zhou et al., 2019](https://example.org))."
        in text
    )
    assert "[other page](https://site/book/other.html)" in text
    assert "\\tag{1}" in text and "By (1), Figure 1, Exercise 1 and [Title](https://site/book/one.html#sec-one)" in text
    assert "with `{math}` in code and $x^2$<sup>n</sup>" in text and "{not}`a role`" in text
    assert "> **Theorem 1 (Half a turn)**" in text and "> > **Tip**" in text
    assert "<summary>Solution to exercise 1</summary>\n\nBecause of Theorem 1." in text
    assert "| one | two |\n| --- | --- |\n| $1$ | 2 |" in text
    assert copy.cells[4].source == "**Figure 1.** It *rises*."
    assert copy.metadata["accelerator"] == "GPU"
    assert "skip-execution" not in copy.cells[5].metadata["tags"]


def test_interactive_figure_becomes_its_picture():
    shown = '<figure class="interactive-figure"><script type="application/json">{"x":1}</script><img alt="a"></figure>'
    output = nbformat.v4.new_output("display_data", {"text/html": shown})
    assert colab.still(output)["data"]["text/html"] == '<figure class="interactive-figure"><img alt="a"></figure>'


@pytest.mark.parametrize("slug", CHAPTERS)
def test_copy_is_plain_markdown(html, slug):
    copy = nbformat.read(html / "colab" / f"{slug}.ipynb", as_version=4)
    nbformat.validate(copy)
    assert "setup" in copy.cells[0].metadata["tags"]
    gpu = any("gpu" in cell.metadata.get("tags", []) for cell in copy.cells)
    assert copy.metadata.get("accelerator") == ("GPU" if gpu else None)
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            assert raw_myst(cell.source) == [], cell.source


def run(*command: str | Path, **options) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> Path:
    """An environment of its own with the wheel built now; its dependencies are installed once for each lock."""
    wheels = tmp_path_factory.mktemp("wheel")
    locked = hashlib.sha256(
        (ROOT / "constraints.txt").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    ).hexdigest()
    ENVIRONMENT.parent.mkdir(exist_ok=True)
    with (ENVIRONMENT.parent / "colab-env.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        run(*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, ROOT)
        wheel = next(wheels.glob("*.whl"))
        python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "lock.sha256"
        inside = [*pip, "--python", python, "install", "--quiet"]
        if not stamp.is_file() or stamp.read_text() != locked:
            shutil.rmtree(ENVIRONMENT, ignore_errors=True)
            run(sys.executable, "-m", "venv", "--without-pip", ENVIRONMENT)
            run(*inside, "--no-compile", "-c", ROOT / "constraints.txt", wheel, "ipykernel")
            stamp.write_text(locked)
        run(*inside, "--no-deps", "--force-reinstall", wheel)
    kernel = ENVIRONMENT / "share" / "jupyter" / "kernels" / "repgeom-alone"
    kernel.mkdir(parents=True, exist_ok=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "repgeom alone", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    return ENVIRONMENT


@pytest.mark.parametrize("slug", CHAPTERS)
def test_copy_runs_alone(html, environment, tmp_path, slug):
    folder = tmp_path / "empty"
    folder.mkdir()
    shutil.copy(html / "colab" / f"{slug}.ipynb", folder)
    ours = {"PYTHONPATH", "REPGEOM_ROOT", "REPGEOM_RECORD_DIR", "REPGEOM_DATA"}
    alone = {key: value for key, value in os.environ.items() if key not in ours}
    alone |= {"JUPYTER_PATH": str(environment / "share" / "jupyter"), "REPGEOM_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    where = "import repgeom, sys; sys.exit(sys.prefix not in repgeom.__file__)"
    run(environment / "bin" / "python", "-c", where, cwd=folder, env=alone)
    papermill = [sys.executable, "-m", "papermill", f"{slug}.ipynb", "out.ipynb", "-k", "repgeom-alone"]
    run(*papermill, "-p", "scale", "smoke", "--no-progress-bar", cwd=folder, env=alone)
    done = nbformat.read(folder / "out.ipynb", as_version=4)
    counts = [cell.execution_count for cell in done.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "every cell ran, in order"
    assert {path.name for path in folder.iterdir()} == {"out.ipynb", f"{slug}.ipynb"}, "nothing else was written"
