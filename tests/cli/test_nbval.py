"""nbval itself, as ``make test`` calls it, on miniature twins."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from repgeom.cli.pages import Page

REPOSITORY = Path(__file__).parents[2]


def nbval(page: Page, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-c", "tests/pytest.ini", "--rootdir", ".", "-q", str(page.twin)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "REPGEOM_DATA"))}
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env={**environment, **variables})


def test_a_fresh_twin_passes_and_its_gpu_cell_is_skipped(executed: Path) -> None:
    done = nbval(Page(executed, "demo"))
    assert "3 passed, 1 skipped" in done.stdout, done.stdout


def falsify(page: Page, old: str, new: str) -> None:
    """Change the stored outputs, not the code that is executed."""
    notebook = nbformat.read(page.twin, 4)
    changed = 0
    for cell in notebook.cells:
        if cell.cell_type == "code" and old in json.dumps(cell.outputs, ensure_ascii=False):
            cell.outputs = nbformat.from_dict(
                json.loads(json.dumps(cell.outputs, ensure_ascii=False).replace(old, new))
            )
            changed += 1
    assert changed
    nbformat.write(notebook, page.twin)


def test_measured_numbers_are_not_compared_and_exact_ones_are(executed: Path) -> None:
    page = Page(executed, "demo")
    falsify(page, "≈ 1.10 [0.852, 1.35]", "≈ 12.5 [-3.1, 1e+03]")
    falsify(page, "≈ 3.30", "≈ 3.9")
    falsify(page, "exactly 41", "exactly 42")
    done = nbval(page)
    assert "1 failed, 2 passed, 1 skipped" in done.stdout and "FAILED ::Cell 1" in done.stdout, done.stdout


@pytest.mark.parametrize(("old", "new"), [("✓ reproduced", "✗ not reproduced"), ("ours: 2.00", "ours: 2.01")])
def test_a_falsified_claims_table_fails(executed: Path, old: str, new: str) -> None:
    page = Page(executed, "demo")
    falsify(page, old, new)
    done = nbval(page)
    assert "1 failed, 2 passed, 1 skipped" in done.stdout and "FAILED ::Cell 3" in done.stdout, done.stdout


def test_what_is_sanitised(page_of: Callable[..., Page], cli: Callable) -> None:
    """A page whose second execution prints other noise, and nothing else different."""
    page = page_of(
        "noisy",
        "import os, sys\nfrom repgeom import repro\nch = repro.open_chapter('noisy')\nk = int(os.getenv('K', '1'))",
        "from IPython.display import HTML, SVG, display",
        'display(SVG(f\'<svg xmlns="http://www.w3.org/2000/svg"><path d="M{k} 0"/>\\n</svg>\'))',
        'display(HTML(f\'<figure class="interactive-figure" data-k="{k}">\\n<img></figure> 7\'))',
        "print(f'took {k}.5 s, {k} MiB, at {hex(10**9 + k)}, ≈ {k * 9.7:>5.3g} %, ≈ -{k}e-05 ± 0.{k}')",
        "ch.table([['a', 9.5 * k], ['b', -1e-7 * k]], ['name', 'measured'])",
        "print('noise', file=sys.stderr) if k > 1 else None",
        "ch.claim('a', says='A.', source='B', value=[k, k, k + 1e-3], expect=repro.at_least(0))\nch.close()",
    )
    assert cli("run", "noisy").exit_code == 0
    done = nbval(page, K="123")
    assert "8 passed" in done.stdout, done.stdout


def test_cells_on_missing_data_are_executed_but_not_compared(page_of: Callable[..., Page], cli: Callable) -> None:
    record = "import os, pathlib\nfolder = os.environ.get('REPGEOM_RECORD_DIR')\n"
    record += "if folder:\n    pathlib.Path(folder, 'real.ci.json').write_text('{\"format\": 1, \"claims\": []}')"
    page = page_of("real", record, ":tags: [data-hands]\nprint('loaded 5')", "print('always 5')")
    cli("run", "real")
    twin = page.twin.read_text()
    page.twin.write_text(twin.replace("loaded 5\\n", "loaded 6\\n"))
    plugin = page.root / "stand_in.py"
    plugin.write_text(
        "import os, sys, types\nmodule = types.ModuleType('repgeom.data')\n"
        "known = {'hands': os.environ['HERE'] == 'hands'}\nmodule.available = lambda name: known[name]\n"
        "import repgeom\nrepgeom.data = sys.modules['repgeom.data'] = module\n"
    )
    path = os.pathsep.join([str(page.root), os.environ.get("PYTHONPATH", "")])
    extra = {"PYTHONPATH": path, "PYTEST_PLUGINS": "stand_in"}
    missing = nbval(page, HERE="none", **extra)
    assert missing.returncode == 0 and "real.ipynb Cell 1 (no hands)" in missing.stdout, missing.stdout
    there = nbval(page, HERE="hands", **extra)
    assert there.returncode == 1 and "loaded 6" in there.stdout
    wrong = twin.replace("always 5\\n", "always 6\\n").replace("data-hands", "data-hand")
    page.twin.write_text(wrong)
    done = nbval(page, HERE="none", **extra)
    assert "2 failed, 1 passed" in done.stdout and "tag of real.ipynb Cell 1: 'hand'" in done.stdout, done.stdout


def test_an_edited_and_synced_page_fails_until_it_is_run(executed: Path, cli: Callable) -> None:
    page = Page(executed, "demo")
    page.md.write_text(page.md.read_text().replace("exactly 41", "exactly 43"))
    cli("sync")
    done = nbval(page)
    assert done.returncode == 1 and "Unexpected output fields" in done.stdout
    assert all(cell.get("outputs", []) == [] for cell in json.loads(page.twin.read_text())["cells"][2:3])
