import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from repgeom.cli import COMMANDS, ledger

Cli = Callable[..., Result]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "data"])
def test_help_has_an_example_and_exit_statuses(cli: Cli, command: str) -> None:
    result = cli(command, "--help")
    assert result.exit_code == 0
    assert f"repgeom {command}" in result.output.split("Example:")[1]
    assert "Exit statuses: 0" in " ".join(result.output.split())


def test_main_help_names_all_commands(cli: Cli) -> None:
    said = cli("--help").output
    assert all(f"\n  {command} " in said for command in COMMANDS) and "Exit statuses" in said


def test_unknown_command_suggests_the_nearest(cli: Cli) -> None:
    result = cli("ledgr")
    assert result.exit_code == 2 and result.output == "Error: no command 'ledgr'; did you mean 'ledger'?\n"


def test_outside_a_book(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPGEOM_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    result = cli("sync")
    assert result.exit_code == 2 and "no book here" in result.output
    monkeypatch.setenv("REPGEOM_ROOT", str(tmp_path))
    assert "holds no folder 'book'" in cli("sync").output


def test_the_book_is_found_from_below(book: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPGEOM_ROOT")
    monkeypatch.chdir(book / "book" / "records")
    assert cli("sync").exit_code == 0 and (book / "book" / "demo.ipynb").is_file()


@pytest.mark.parametrize("slug", ["Upper", "1st", "with-hyphen", "x" * 26, "a/b", ""])
def test_new_refuses_bad_slugs(book: Path, cli: Cli, slug: str) -> None:
    result = cli("new", slug)
    assert result.exit_code == 2 and "at most 25" in result.output


@pytest.mark.parametrize("slug", ["class", "lambda", "import"])
def test_new_refuses_words_of_python(book: Path, cli: Cli, slug: str) -> None:
    result = cli("new", slug)
    assert result.exit_code == 2 and "word of Python" in result.output and not (book / "src").exists()


def test_new_refuses_a_taken_slug(book: Path, cli: Cli) -> None:
    result = cli("new", "demo")
    assert result.exit_code == 2 and "book/demo.md exists" in result.output
    assert not (book / "src").exists()


def test_new_chapter_is_in_order_and_runs(book: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    import repgeom

    shutil.copytree(Path(repgeom.__file__).parent / "repro", book / "src" / "repgeom" / "repro")
    (book / "src" / "repgeom" / "__init__.py").write_text('__version__ = "0.0.1"\n')
    result = cli("new", "normal_numbers")
    assert result.exit_code == 0 and "- file: book/normal_numbers" in result.output
    assert "git+https://example.org/a/b@main" in (book / "book" / "normal_numbers.md").read_text()
    assert cli("sync").exit_code == cli("sync", "--check").exit_code == 0
    monkeypatch.setenv("PYTHONPATH", str(book / "src"))
    result = cli("run", "normal_numbers")
    assert result.exit_code == 0, result.output
    record = json.loads((book / "book" / "records" / "normal_numbers.ci.json").read_text())
    assert record["claims"][0]["verdict"] == "reproduced" and record["run"]["versions"]["repgeom"] == "0.0.1"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/chapters"],
        cwd=book,
        capture_output=True,
        text=True,
    )
    assert "2 passed" in done.stdout, done.stdout


def test_ledger_rows(executed: Path) -> None:
    rows = ledger.rows(executed)
    assert [row["id"] for row in rows] == ["two", "small"]
    assert rows[0]["paper"] == "2" and rows[0]["part"] == "First steps" and rows[0]["title"] == "A demonstration"
    assert rows[0]["link"] == "demo.html#claim-two" and rows[0]["ci_verdict"] == "reproduced"
    assert rows[1]["ci_value"] == pytest.approx(1.1) and rows[1]["ci_samples"] == 3 and len(rows[1]["ci_interval"]) == 2
    assert rows[0]["full_value"] is None and rows[0]["full_verdict"] is None


def test_ledger_joins_scales(executed: Path) -> None:
    records = executed / "book" / "records"
    full = json.loads((records / "demo.ci.json").read_text())
    full["claims"] = [
        {**full["claims"][0], "value": 2.5, "verdict": "not reproduced"},
        {**full["claims"][0], "id": "only-full"},
    ]
    (records / "demo.full.json").write_text(json.dumps(full))
    rows = {row["id"]: row for row in ledger.rows(executed)}
    assert (rows["two"]["ci_value"], rows["two"]["full_value"]) == (2.0, 2.5)
    assert rows["only-full"]["ci_value"] is None and list(rows) == ["two", "small", "only-full"]


def without(key: str) -> Callable[[dict], object]:
    return lambda record: record["claims"][0].pop(key)


MISSHAPEN: list[tuple[Callable[[dict], object], str]] = [
    (lambda r: r["claims"].append(r["claims"][0]), "claim 'two' stands there twice"),
    (lambda r: r.update(claims={}), "'claims' is not a list"),
    (lambda r: r.update(claims=[3]), "claim number 0 has no id"),
    (without("id"), "claim number 0 has no id"),
    (without("low"), "claim 'two' has no 'low'"),
    (lambda r: r["claims"][0].update(value="2"), "claim 'two': 'value' is '2'"),
    (lambda r: r["claims"][0].update(value=float("nan")), "claim 'two': 'value' is nan"),
    (lambda r: r["claims"][1].update(samples=[1.0, None]), "claim 'small': 'samples' is [1.0, None]"),
    (lambda r: r["claims"][1].update(interval=[1.0]), "claim 'small': 'interval' is [1.0]"),
    (lambda r: r["claims"][0].update(low=3.0), "claim 'two': 'low' is above 'high'"),
    (lambda r: r["claims"][0].update(kind="guess"), "claim 'two': 'kind' is 'guess'"),
    (lambda r: r.update(results=[]), "'results' is not a table"),
]


@pytest.mark.parametrize(("change", "message"), MISSHAPEN)
@pytest.mark.parametrize("words", [["ledger"], ["rerun", "demo"]])
def test_misshapen_records_are_one_line(
    executed: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict], object],
    message: str,
    words: list[str],
) -> None:
    from repgeom.cli import rerun
    from repgeom.cli.pages import Page
    from repgeom.cli.run import is_stale

    monkeypatch.setattr(rerun, "execute_all", lambda *words: pytest.fail("executed before the record was read"))
    path = executed / "book" / "records" / "demo.ci.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    result = cli(*words)
    said = f"Error: record demo.ci.json cannot be read ({message}); restore it from version control\n"
    assert (result.exit_code, result.output) == (1, said)
    assert is_stale(Page(executed, "demo"))


@pytest.mark.parametrize("scale", ["ci", "full"])
def test_a_record_that_contradicts_itself_is_not_published(
    executed: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, scale: str
) -> None:
    from repgeom.cli import site
    from repgeom.cli.pages import Page
    from repgeom.cli.run import is_stale

    monkeypatch.setattr(site, "render", lambda root: pytest.fail("rendered"))
    page = Page(executed, "demo")
    assert not is_stale(page)
    record = json.loads(page.record("ci").read_text())
    record["claims"][1]["verdict"] = "not reproduced"
    page.record(scale).write_text(json.dumps(record))
    for words in (["ledger"], ["book", "--no-run", "--quiet"]):
        result = cli(*words)
        line = result.output.splitlines()[-1]
        assert result.exit_code == 1 and line.startswith(f"Error: record demo.{scale}.json, claim 'small' contradicts")
    if scale == "ci":
        assert is_stale(page)


def test_ledger_formats_agree(executed: Path, cli: Cli) -> None:
    rows = ledger.rows(executed)
    assert json.loads(cli("ledger", "--format", "json").output) == rows
    read = list(csv.DictReader(io.StringIO(cli("ledger", "--format", "csv").output)))
    assert [float(line["ci_low"]) for line in read[1:]] == [rows[1]["ci_interval"][0]]
    assert [line["verdict" if "verdict" in line else "ci_verdict"] for line in read] == ["reproduced", "reproduced"]
    text = cli("ledger").output
    assert "First steps: A demonstration (demo)" in text and "1.10 [0.852, 1.35]" in text


def test_ledger_without_records(book: Path, cli: Cli) -> None:
    assert "no records yet" in cli("ledger").output
    assert cli("ledger", "--format", "csv").output == ""
    (book / "book" / "records" / "demo.ci.json").write_text("[]")
    result = cli("ledger")
    assert result.exit_code == 1 and "demo.ci.json cannot be read" in result.output


def test_book_runs_what_is_stale_and_renders(executed: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from repgeom.cli import run, site

    ran: list[str] = []
    monkeypatch.setattr(run, "run_page", lambda page: ran.append(page.slug))
    monkeypatch.setattr(site, "build", lambda root: root / "_build" / "html" / "index.html")
    result = cli("book")
    assert result.exit_code == 0 and ran == []
    assert f"start page: {executed / '_build' / 'html' / 'index.html'}" in result.stdout
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["notebooks", "execute", "site", "start page"]
    md = executed / "book" / "demo.md"
    md.write_text(md.read_text().replace("at_most(3)", "at_most(4)"))
    result = cli("book", "--no-run", "--quiet")
    assert ran == [] and result.stdout == "" and "demo is stale" in result.stderr
    cli("book", "--quiet")
    assert ran == ["demo"]


def test_bench_shows_output_and_passes_the_status_on(
    book: Path, cli: Cli, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # it switches benchmarks off in the inner run
    assert cli("bench").exit_code == 2
    folder = book / "tests" / "benchmarks"
    folder.mkdir(parents=True)
    (book / "tests" / "pytest.ini").write_text("[pytest]\naddopts = --benchmark-disable\nnorecursedirs = benchmarks\n")
    (folder / "test_speed.py").write_text(
        "def test_ratio(benchmark):\n    benchmark(sum, [1])\n    print('ratio', benchmark.stats.stats.rounds > 1)\n"
        "def test_slow():\n    assert False\n"
    )
    assert cli("bench", "-k", "ratio", "--benchmark-max-time=0.01", "--benchmark-min-rounds=2").exit_code == 0
    assert "ratio True" in capfd.readouterr().out
    assert cli("bench").exit_code == 1
    result = cli("bench", "-k", "nothing_of_this_name")
    assert (result.exit_code, result.output) == (2, "Error: no benchmark selected\n")
    result = cli("bench", "--no-such-option")
    assert (result.exit_code, result.output) == (2, "Error: pytest did not run (status 4)\n")
    assert not (book / ".benchmarks").exists() and (book / "_build" / "benchmarks").is_dir()


def test_the_configuration_of_pytest_leaves_no_benchmarks_folder(book: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    (book / "test_one.py").write_text("def test_one():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(root / "tests" / "pytest.ini"), "--rootdir", "."]
    done = subprocess.run([*command, "-p", "no:nbval", "-o", f"addopts={ini_options(root)}", "test_one.py"], cwd=book)
    assert done.returncode == 0 and not (book / ".benchmarks").exists()


def ini_options(root: Path) -> str:
    """The options of tests/pytest.ini without those of nbval."""
    import configparser

    parser = configparser.ConfigParser()
    parser.read(root / "tests" / "pytest.ini")
    return " ".join(word for word in parser["pytest"]["addopts"].split() if "benchmark" in word)


HELP = """
from click.testing import CliRunner
from repgeom.cli import main
assert 'rerun' in CliRunner().invoke(main, ['--help']).output
"""
LIGHT = [
    ("import repgeom", "torch numpy geomstats matplotlib pymanopt scipy"),
    ("from repgeom import repro", "torch geomstats matplotlib pymanopt IPython scipy jupytext"),
    ("from repgeom.cli import main", "torch numpy jupytext papermill nbformat nbclient"),
    (HELP, "torch numpy jupytext papermill nbformat nbclient yaml"),
]


@pytest.mark.parametrize(("code", "unwanted"), LIGHT)
def test_imports_are_light(code: str, unwanted: str) -> None:
    check = f"{code}\nimport sys\nprint([m for m in {unwanted.split()} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


WITHOUT_TORCH = """
import sys
from repgeom.cli.ledger import rows
from repgeom.cli.pages import all_pages, find_root
from repgeom.cli.run import is_stale
from repgeom.cli.sync import write_twins
root = find_root()
print(write_twins(root), [is_stale(p) for p in all_pages(root)], len(rows(root)), 'torch' in sys.modules)
"""


def test_sync_and_staleness_do_without_torch(executed: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] [False] 2 False"
