import json
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from repgeom import repro
from repgeom.repro import records

CFG = Path(__file__).parents[1] / "nbval.cfg"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "book" / "records").mkdir(parents=True)
    monkeypatch.setenv("REPGEOM_ROOT", str(tmp_path))
    monkeypatch.delenv("REPGEOM_RECORD_DIR", raising=False)
    return tmp_path


def claim(ch: repro.Chapter, id: str = "a", value: object = 1.0, **more: object) -> None:
    ch.claim(id, **{"says": "It is so.", "source": "Us", "value": value, "expect": repro.at_most(2), **more})


def full_record(root: Path, results: dict) -> None:
    content = {"format": 1, "slug": "demo", "scale": "full", "claims": [], "results": results}
    (root / "book" / "records" / "demo.full.json").write_text(json.dumps(content))


def test_seeds_of_different_base_seeds_are_disjoint(root: Path) -> None:
    seeds = [seed for base in range(4) for seed in repro.open_chapter("demo", seed=base).seeds(5)]
    assert seeds == list(range(20))


def test_generator_depends_on_slug_seed_and_k(root: Path) -> None:
    def draw(slug: str, seed: int, k: int) -> float:
        return torch.rand(1, generator=repro.open_chapter(slug, seed=seed).generator(k), dtype=torch.float64).item()

    assert draw("demo", 1, 2) == draw("demo", 1, 2)
    assert len({draw("demo", 1, 2), draw("demo", 1, 3), draw("demo", 2, 2), draw("omed", 1, 2)}) == 4


def test_opening_seeds_what_draws_without_a_generator(root: Path) -> None:
    drawn = []
    for _ in range(2):
        repro.open_chapter("demo", seed=3)
        drawn.append((torch.rand(1).item(), np.random.rand()))  # noqa: NPY002
    assert drawn[0] == drawn[1]


def test_version_line_is_one_line_and_nbval_ignores_it(root: Path, capsys: pytest.CaptureFixture) -> None:
    repro.open_chapter("demo")
    said = capsys.readouterr().out
    pattern, replacement = re.findall(r"^regex: (.*)$\n^replace: (.*)$", CFG.read_text(), re.MULTILINE)[0]
    assert re.sub(pattern, replacement, said) == "VERSIONS\n"
    assert f"torch {torch.__version__}" in said and "scale ci" in said


@pytest.mark.parametrize(("scale", "seed"), [("large", 0), ("ci", -1), ("ci", 1.5), ("ci", True)])
def test_wrong_scale_or_seed(root: Path, scale: str, seed: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        repro.open_chapter("demo", scale=scale, seed=seed)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"id": "Two Words"}, "lower-case"),
        ({"value": None}, "go together"),
        ({"missing": "mnist"}, "go together"),
        ({"value": float("nan")}, "not finite"),
    ],
)
def test_wrong_claims(root: Path, words: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        claim(repro.open_chapter("demo"), **words)


def test_an_id_serves_one_claim_but_a_cell_may_be_run_again(root: Path) -> None:
    ch = repro.open_chapter("demo")
    claim(ch, value=1.0)
    claim(ch, value=1.5)
    assert ch.claims["a"].value == 1.5
    with pytest.raises(ValueError, match="used twice"):
        claim(ch, says="Another statement.")


def test_closing_writes_the_record_where_asked(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    ch = repro.open_chapter("demo", seed=2)
    claim(ch, "exact", 1.0, paper="0.9", unit="deg")
    claim(ch, "spread", [1.0, 1.1, 1.2], drift=0.5)
    claim(ch, "absent", None, missing="mnist")
    monkeypatch.setenv("REPGEOM_RECORD_DIR", str(root / "out"))
    ch.close()
    record = json.loads((root / "out" / "demo.ci.json").read_text())
    assert [(c["id"], c["kind"], c["verdict"]) for c in record["claims"]] == [
        ("exact", "exact", "reproduced"),
        ("spread", "empirical", "reproduced"),
        ("absent", "exact", "skipped"),
    ]
    spread = record["claims"][1]
    assert spread["samples"] == [1.0, 1.1, 1.2] and spread["drift"] == 0.5
    assert (spread["low"], spread["high"], spread["expect"]) == (None, 2.0, "at most 2")
    assert (record["format"], record["slug"], record["scale"], record["seed"]) == (1, "demo", "ci", 2)
    assert set(record["run"]) == {"wall_s", "peak_mib", "device", "versions", "commit", "date", "data"}
    assert record["run"]["peak_mib"] > 50 and record["run"]["device"] == "cpu"
    said = capsys.readouterr().out
    assert "✓ reproduced: exact" in said and "ours: 1.00 deg" in said and "ours: ≈ 1.10 [0.852, 1.35]" in said
    assert "– skipped: absent" in said and "no data (mnist)" in said


def test_closing_writes_nothing_where_not_asked(root: Path) -> None:
    ch = repro.open_chapter("demo")
    claim(ch)
    ch.close()
    assert not list(root.rglob("*.json"))


def test_closing_without_a_claim(root: Path) -> None:
    with pytest.raises(ValueError, match="without a claim"):
        repro.open_chapter("demo").close()


def test_smoke_judges_nothing(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("REPGEOM_RECORD_DIR", str(root))
    ch = repro.open_chapter("demo", scale="smoke")
    claim(ch, "good", 1.0)
    claim(ch, "bad", 3.0)
    ch.close()
    record = json.loads((root / "demo.smoke.json").read_text())
    assert [c["verdict"] for c in record["claims"]] == ["not judged", "not judged"]
    assert "reproduced" not in capsys.readouterr().out


def test_claims_table_has_anchors_and_verdicts_in_words(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from repgeom.repro import chapter

    shown = []
    monkeypatch.setattr(chapter, "emit", lambda rich, plain: shown.append(rich))
    ch = repro.open_chapter("demo")
    claim(ch, "worse", 3.0)
    claim(ch, "open", [0.0, 2.0, 4.0])
    ch.close()
    assert '<tr id="claim-worse">' in shown[0] and '<tr id="claim-open">' in shown[0]
    assert '<span class="verdict verdict-not-reproduced">✗ not reproduced</span>' in shown[0]
    assert '<span class="verdict verdict-inconclusive">? inconclusive</span>' in shown[0]


def test_rounding_noise_and_drifting_numbers_are_marked_as_moving(root: Path) -> None:
    from repgeom.repro.chapter import value_text

    ch = repro.open_chapter("demo")
    claim(ch, "noise", 3e-16)
    claim(ch, "loose", 1.25, drift=0.1)
    claim(ch, "firm", 1.25)
    claim(ch, "count", 2)
    assert [value_text(c) for c in ch.claims.values()] == ["≈ 3.00e-16", "≈ 1.25", "1.25", "2"]


def test_gpu_guard_without_cuda(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert repro.open_chapter("demo").gpu("long") is False
    assert repro.open_chapter("demo", scale="full").gpu("long") is False
    assert capsys.readouterr().out.count("Not run here: 'long'") == 2


def test_gpu_guard_with_cuda(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Imaginary GPU")
    ch = repro.open_chapter("demo", scale="full")
    assert ch.device.type == "cuda" and ch.gpu("long") is True
    ch.store("long", {"loss": 0.25})
    assert ch.record()["results"]["long"]["provenance"]["device"] == "Imaginary GPU"
    assert repro.open_chapter("demo", scale="ci").gpu("long") is False
    monkeypatch.setenv("REPGEOM_ONLY", "wide")
    assert ch.gpu("long") is False and ch.gpu("wide") is True


def test_full_guard_needs_no_gpu(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert repro.open_chapter("demo").full("table") is False
    assert "Not run here: 'table', because it needs scale" in capsys.readouterr().out
    ch = repro.open_chapter("demo", scale="full")
    assert ch.full("table") is True
    monkeypatch.setenv("REPGEOM_ONLY", "other")
    assert ch.full("table") is False and ch.full("other") is True
    assert ch.stored("table", gpu=False) is None
    assert "repgeom run --full demo" in capsys.readouterr().out


def test_nothing_is_stored_below_full_scale(root: Path) -> None:
    with pytest.raises(ValueError, match="only at full scale"):
        repro.open_chapter("demo").store("long", {})
    with pytest.raises(ValueError, match="not JSON"):
        repro.open_chapter("demo", scale="full").store("long", {"t": torch.ones(1)})
    with pytest.raises(ValueError, match="not JSON"):
        repro.open_chapter("demo", scale="full").store("long", {"t": float("nan")})


def test_stored_names_the_command_where_nothing_was_run(root: Path, capsys: pytest.CaptureFixture) -> None:
    assert repro.open_chapter("demo").stored("long") is None
    assert "Not yet run at full scale" in capsys.readouterr().out


def test_stored_shows_result_and_provenance(root: Path, capsys: pytest.CaptureFixture) -> None:
    made = {"device": "GPU X", "versions": {"torch": "9.9"}, "date": "2030-01-02T00:00:00Z", "commit": "c" * 40}
    result = {"loss": 0.25, "rows": [{"code": "6d", "error": 1.5}], "curve": [1.0, 2.0]}
    full_record(root, {"long": {**result, "provenance": {**made, "wall_s": 12.0}}})
    assert repro.open_chapter("demo").stored("long") == result
    said = capsys.readouterr().out
    assert "Full scale: GPU X, torch 9.9, 2030-01-02, commit cccccccccc, 12 s." in said
    assert "loss      0.250" in said and "6d    1.50" in said
    assert repro.open_chapter("demo").stored("other") is None


def test_broken_record_is_one_clear_error(root: Path) -> None:
    (root / "book" / "records" / "demo.full.json").write_text('{"format": 1, "cla')
    with pytest.raises(ValueError, match=r"demo\.full\.json cannot be read"):
        repro.open_chapter("demo").stored("long")
    (root / "book" / "records" / "demo.full.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format 99"):
        repro.open_chapter("demo").stored("long")


def test_table_marks_measured_numbers(root: Path, capsys: pytest.CaptureFixture) -> None:
    ch = repro.open_chapter("demo")
    ch.table([["6d", 0.5]], ["code", "error"], caption="Errors")
    ch.table([["6d", 0.5]], ["code", "error"], measured=False)
    said = capsys.readouterr().out
    assert "Errors" in said and "6d    ≈ 0.500" in said and "6d    0.500" in said


def test_data_checksums_come_from_what_was_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = types.ModuleType("repgeom.data")
    stand_in.checksums = lambda: {"mnist": "ab"}
    monkeypatch.setitem(sys.modules, "repgeom.data", stand_in)
    assert records.data_checksums() == {"mnist": "ab"}
    monkeypatch.delitem(sys.modules, "repgeom.data")
    assert records.data_checksums() == {}


def test_commit(root: Path) -> None:
    assert records.commit() == "unknown"

    def git(*words: str) -> None:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *words], cwd=root, check=True, capture_output=True)

    (root / "src").mkdir()
    (root / "src" / "a.py").write_text("x = 1\n")
    git("init", "--quiet")
    git("add", "-A")
    git("commit", "--quiet", "-m", "first", "--no-verify")
    assert re.fullmatch("[0-9a-f]{40}", records.commit())
    (root / "book" / "records" / "x.json").write_text("{}")
    assert re.fullmatch("[0-9a-f]{40}", records.commit())  # a fresh record is not a change of sources
    (root / "src" / "a.py").write_text("x = 2\n")
    assert records.commit().endswith("+dirty")


def test_records_are_found_in_the_installed_package_without_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPGEOM_ROOT", raising=False)
    monkeypatch.setattr(records, "root", lambda: None)
    assert records.records_dir() == Path(repro.__file__).parents[1] / "records"


def test_a_record_is_written_whole_or_not_at_all(root: Path) -> None:
    path = root / "book" / "records" / "demo.ci.json"
    records.save(path, {"format": 1})
    with pytest.raises(TypeError):
        records.save(path, {"format": object()})
    assert json.loads(path.read_text()) == {"format": 1}
    assert [p.name for p in path.parent.iterdir()] == ["demo.ci.json"]
