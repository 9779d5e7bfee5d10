import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from repgeom.cli import rerun
from repgeom.cli.pages import Page

Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def done(executed_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of an honest re-run at seeds 0 and 1, for tests that only change what it is compared with."""
    out = tmp_path_factory.mktemp("rerun")
    for seed in (0, 1):
        rerun.execute_one(Page(executed_once, "demo"), seed, "ci", out)
    return out


@pytest.fixture
def out(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "out"))


@pytest.fixture
def no_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object) -> None:
        raise AssertionError("a finished run was repeated")

    monkeypatch.setattr(rerun, "papermill", refuse)


def falsify(root: Path, change: Callable[[dict], None]) -> None:
    path = root / "book" / "records" / "demo.ci.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_executed_notebooks_and_records(done: Path) -> None:
    assert sorted(p.name for p in done.iterdir()) == [f"demo.ci.{s}.{e}" for s in "01" for e in ("ipynb", "json")]
    samples = [json.loads((done / f"demo.ci.{s}.json").read_text())["claims"][1]["samples"] for s in "01"]
    assert samples == [pytest.approx([1.0, 1.1, 1.2]), pytest.approx([1.3, 1.4, 1.5])]
    notebook = (done / "demo.ci.1.ipynb").read_text()
    assert "injected-parameters" in notebook and "seed 1" in notebook
    assert "Not run here" not in notebook  # the gpu cell was left out, not merely guarded


def test_honest_record_passes_and_finished_runs_are_not_repeated(
    executed: Path, out: Path, cli: Cli, no_execution: None
) -> None:
    result = cli("rerun", "demo", "--seeds", "0", "--out", str(out))
    assert result.exit_code == 0
    assert "2 ok. Status 0" in result.stdout
    report = json.loads((out / "report.json").read_text())
    assert (report["status"], report["seeds"], report["scale"]) == (0, [0], "ci")
    assert [c["status"] for c in report["chapters"][0]["claims"]] == ["ok", "ok"]
    assert report["chapters"][0]["part"] == "First steps"
    assert (out / "report.txt").read_text() == result.stdout
    page = (out / "report.html").read_text()
    assert page.startswith("<!doctype html>") and "small" in page and not re.search(r"(src|href)=", page)


def test_samples_of_all_seeds_are_pooled(executed: Path, out: Path, cli: Cli, no_execution: None) -> None:
    assert cli("rerun", "--seeds", "0,1", "--out", str(out)).exit_code == 0
    claims = json.loads((out / "report.json").read_text())["chapters"][0]["claims"]
    assert claims[1]["samples"] == 6 and claims[1]["value"] == pytest.approx(1.25)


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        (lambda r: r["claims"][0].update(value=2.001), "record contradicts itself"),
        (lambda r: r["claims"][0].update(verdict="not reproduced"), "record contradicts itself"),
        (lambda r: r["claims"][0].update(value=1.9, low=1.0), "expectation changed"),
        (lambda r: r["claims"][1].update(value=1.9, samples=[1.8, 1.9, 2.0], interval=None), "contradicts itself"),
        (lambda r: r["claims"][1].update(verdict="inconclusive"), "record contradicts itself"),
        (lambda r: r["claims"].pop(0), "new"),
        (lambda r: r["claims"].append({**r["claims"][0], "id": "gone"}), "missing"),
    ],
)
def test_a_falsified_record_fails(
    executed: Path, out: Path, cli: Cli, no_execution: None, change: Callable[[dict], None], remark: str
) -> None:
    falsify(executed, change)
    result = cli("rerun", "demo", "--out", str(out))
    assert result.exit_code == 1
    assert remark in result.stdout and "!!" in result.stdout
    assert 'class="bad"' in (out / "report.html").read_text()


def test_a_moved_value_fails(executed: Path, out: Path, cli: Cli, no_execution: None) -> None:
    path = out / "demo.ci.0.json"  # as if this run had given other numbers
    run = json.loads(path.read_text())
    run["claims"][1]["samples"] = [2.5, 2.6, 2.7]
    path.write_text(json.dumps(run))
    result = cli("rerun", "demo", "--out", str(out))
    assert result.exit_code == 1 and "drifted: moved by 1.5" in result.stdout


def test_without_a_record_every_claim_is_new(executed: Path, out: Path, cli: Cli, no_execution: None) -> None:
    (executed / "book" / "records" / "demo.ci.json").unlink()
    result = cli("rerun", "demo", "--out", str(out))
    assert result.exit_code == 1 and "no committed record at scale ci" in result.stdout


def test_broken_record_is_one_line(executed: Path, out: Path, cli: Cli, no_execution: None) -> None:
    (executed / "book" / "records" / "demo.ci.json").write_text("{")
    result = cli("rerun", "demo", "--out", str(out))
    assert result.exit_code == 1 and "demo.ci.json cannot be read" in result.output


def test_changed_code_and_half_written_results_are_run_again(
    executed: Path, out: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def pretend(page: Page, notebook: object, seed: int, scale: str, target: Path, record_dir: Path) -> None:
        ran.append(seed)
        shutil.copy(executed / "book" / "records" / "demo.ci.json", record_dir / "demo.ci.json")

    monkeypatch.setattr(rerun, "papermill", pretend)
    (out / "demo.ci.1.json").write_text('{"inputs": ')
    cli("rerun", "--seeds", "0,1", "--out", str(out))
    assert ran == [1]
    md = executed / "book" / "demo.md"
    md.write_text(md.read_text().replace("at_most(3)", "at_most(4)"))
    cli("rerun", "--seeds", "0,1", "--out", str(out))
    assert ran == [1, 0, 1]


def test_a_page_that_breaks_does_not_stop_the_others(
    executed: Path, out: Path, cli: Cli, page_of: Callable[..., Page]
) -> None:
    page_of("broken", ":tags: [parameters]\nscale = 'ci'\nseed = 0", "1 / 0")
    result = cli("rerun", "--out", str(out))
    assert result.exit_code == 3
    assert "FAILED to execute: seed 0: book/broken.md, the cell that starts '1 / 0': ZeroDivisionError" in result.stdout
    assert "Traceback" not in result.output
    assert "ok  small" in result.stdout


def test_full_scale_without_a_record_says_so(executed: Path, out: Path, cli: Cli) -> None:
    result = cli("rerun", "demo", "--scale", "full", "--out", str(out))
    assert result.exit_code == 0
    assert "no committed record at scale full" in result.stdout and "2 nothing to compare" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dem"], "no chapter 'dem'; did you mean 'demo'?"),
        (["demo", "--part", "First step"], "no part 'First step'; did you mean 'First steps'?"),
        (["--seeds", "0,x"], "give integers"),
        (["--seeds", "0,-1"], "give integers"),
        (["--seeds", ""], "give integers"),
        (["--seeds", "1,1"], "twice"),
    ],
)
def test_wrong_usage_is_one_line(book: Path, tmp_path: Path, cli: Cli, words: list[str], message: str) -> None:
    result = cli("rerun", *words, "--out", str(tmp_path / "o"))
    assert result.exit_code == 2
    assert message in result.output and result.output.count("\n") == 1


def test_part_selects_its_chapters(book: Path, page_of: Callable[..., Page]) -> None:
    from repgeom.cli.pages import select

    page_of("unlisted", "x = 1")
    assert [p.slug for p in select(book, ())] == ["demo", "unlisted"]
    assert [p.slug for p in select(book, (), "First steps")] == ["demo"]


def test_out_has_a_default(executed: Path, out: Path, cli: Cli, no_execution: None) -> None:
    shutil.copytree(out, executed / "_build" / "rerun")
    assert cli("rerun", "demo").exit_code == 0
    assert (executed / "_build" / "rerun" / "report.json").is_file()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_out_that_cannot_be_used_is_one_line(executed: Path, tmp_path: Path, cli: Cli, place: str) -> None:
    (tmp_path / "file").write_text("")
    result = cli("rerun", "demo", "--out", str(tmp_path / place))
    assert result.exit_code == 2 and result.output.count("\n") == 1 and "cannot be used" in result.output


def test_at_full_scale_a_claim_missing_from_the_record_fails(executed: Path) -> None:
    page = Page(executed, "demo")
    run = json.loads(page.record("ci").read_text())
    record = {**run, "claims": run["claims"][1:]}
    report = rerun.chapter_report(page, "", "full", record, [run], "")
    assert [claim["status"] for claim in report["claims"]] == ["new", "ok"]
