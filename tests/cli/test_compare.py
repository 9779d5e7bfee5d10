import copy
import math

import numpy as np
import pytest
import scipy.stats

from repgeom.cli.compare import PASSING, compare, drift_band
from repgeom.repro.claims import Claim, Expectation, at_most, equals, numbers_of

SAMPLES = [1.0, 1.2, 1.4, 1.1, 1.3]


def claim(value: object, expect: Expectation, id: str = "a", drift: float | None = None) -> dict:
    kind, number, samples = numbers_of(id, value)
    return Claim(id, "says", "source", None, expect, kind, samples, number, drift=drift).as_record()


def record(*claims: dict) -> dict:
    return {"claims": copy.deepcopy(list(claims))}


def status(old: dict | None, *new: dict) -> str:
    (outcome,) = compare(old, [record(c) for c in new])
    return outcome.status


def test_the_same_again_is_ok() -> None:
    for value in (1.5, True, 2, SAMPLES):
        c = claim(value, at_most(2))
        assert status(record(c), c) == "ok"


@pytest.mark.parametrize(("moved", "expected"), [(1 + 0.9e-6, "ok"), (1 + 1.1e-6, "drifted"), (1 - 1.1e-6, "drifted")])
def test_exact_numbers_may_move_by_a_millionth(moved: float, expected: str) -> None:
    assert status(record(claim(1.5, at_most(2))), claim(1.5 * moved, at_most(2))) == expected


def test_rounding_noise_is_no_drift() -> None:
    assert status(record(claim(2e-16, at_most(1e-9))), claim(3e-15, at_most(1e-9))) == "ok"
    assert status(record(claim(2e-16, at_most(1e-9))), claim(3e-11, at_most(1e-9))) == "drifted"


def test_drift_overrides_with_an_absolute_band() -> None:
    for new, expected in ((1.6, "ok"), (1.7, "drifted"), (1.4, "ok"), (1.3, "drifted")):
        old = claim(1.5, at_most(2), drift=0.125)
        assert status(record(old), claim(new, at_most(2), drift=0.125)) == expected
    shifted = [s + 0.05 for s in SAMPLES]
    old = claim(SAMPLES, at_most(9), drift=0.01)
    assert status(record(old), claim(shifted, at_most(9), drift=0.01)) == "drifted"


def test_band_is_three_standard_errors_widened_by_student() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.normal(0, 1, 5), rng.normal(0, 2, 10)
    band, _ = drift_band(claim(old, at_most(9)), claim(new, at_most(9)))
    shares = old.var(ddof=1) / 5, new.var(ddof=1) / 10
    df = sum(shares) ** 2 / (shares[0] ** 2 / 4 + shares[1] ** 2 / 9)
    factor = scipy.stats.t.ppf(scipy.stats.norm.cdf(3), df)
    assert band == pytest.approx(factor * math.sqrt(sum(shares)), rel=1e-9)
    assert factor > 3


def test_empirical_drift_at_the_band() -> None:
    old = claim(SAMPLES, at_most(9))
    band, _ = drift_band(old, claim([s + 0.1 for s in SAMPLES], at_most(9)))  # a shift leaves the band as it is
    assert status(record(old), claim([s + 0.999 * band for s in SAMPLES], at_most(9))) == "ok"
    assert status(record(old), claim([s + 1.001 * band for s in SAMPLES], at_most(9))) == "drifted"


def test_samples_without_spread_count_as_exact() -> None:
    old = claim([1.0, 1.0, 1.0], at_most(9))
    assert status(record(old), claim([1.0, 1.0, 1.0], at_most(9))) == "ok"
    assert status(record(old), claim([1.001] * 3, at_most(9))) == "drifted"


def test_base_seeds_are_pooled() -> None:
    old = claim(SAMPLES, at_most(1.5))
    (outcome,) = compare(record(old), [record(claim(SAMPLES, at_most(1.5))), record(claim([1.2, 1.25], at_most(1.5)))])
    assert (outcome.status, outcome.samples) == ("ok", 7)
    assert outcome.value == pytest.approx(np.mean([*SAMPLES, 1.2, 1.25]))


def test_the_verdict_is_that_of_the_pool() -> None:
    wide = [0.5, 1.0, 1.5]  # inconclusive alone
    old = claim(wide, at_most(1.3))
    assert old["verdict"] == "inconclusive"
    (outcome,) = compare(record(old), [record(old), record(claim([0.9, 1.0, 1.1, 1.0, 1.0, 1.0], at_most(1.3)))])
    assert (outcome.verdict, outcome.status) == ("reproduced", "settled")


def test_more_samples_may_settle_what_the_record_left_open_and_nothing_else() -> None:
    goal = at_most(1.3)
    open_record = record(claim(SAMPLES, goal))
    assert open_record["claims"][0]["verdict"] == "inconclusive"
    again = [claim(list(np.array(SAMPLES) + shift), goal) for shift in (0.0, 0.001, -0.001)]
    (outcome,) = compare(open_record, [record(c) for c in again])
    assert (outcome.status, outcome.verdict, outcome.samples) == ("settled", "reproduced", 15)
    assert status(open_record, claim(list(np.array(SAMPLES) - 0.14), goal)) == "verdict changed"  # no more samples
    assert status(record(claim([1.1, 1.11, 1.12], goal)), *again[:1]) == "verdict changed"  # unsettled again
    far = [claim(list(np.array(SAMPLES) - 1), goal)] * 3
    assert status(open_record, *far) == "drifted"


def test_an_exact_claim_must_hold_at_every_seed() -> None:
    old, other = claim(1.0, equals(1.0, tol=0.5), drift=9), claim(2.0, equals(1.0, tol=0.5), drift=9)
    assert status(record(old), old, old) == "ok"
    assert status(record(old), old, other) == "verdict changed"
    assert status(record(claim(1.0, at_most(9))), claim(1.0, at_most(9)), claim(1.1, at_most(9))) == "drifted"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("value", 1.19),
        ("verdict", "not reproduced"),
        ("samples", [1.0, 1.2, 1.4, 1.1, 1.4]),
        ("interval", [1.0, 1.5]),
        ("interval", None),
        ("high", 1.1),
    ],
)
def test_a_falsified_record_contradicts_itself(field: str, value: object) -> None:
    honest = claim(SAMPLES, at_most(2))
    assert status(record({**honest, field: value}), honest) == "record contradicts itself"


def test_a_consistently_falsified_record_is_caught_by_the_numbers() -> None:
    honest = claim(SAMPLES, at_most(2))
    assert status(record(claim([s + 0.5 for s in SAMPLES], at_most(2))), honest) == "drifted"
    assert status(record(claim([s + 5 for s in SAMPLES], at_most(2))), honest) == "verdict changed"
    assert status(record(claim(SAMPLES, at_most(3))), honest) == "expectation changed"
    assert status(record(claim(1.2, at_most(2))), honest) == "expectation changed"


def test_falsified_exact_verdict() -> None:
    honest = claim(3.0, at_most(2))
    assert status(record({**honest, "verdict": "reproduced"}), honest) == "record contradicts itself"
    assert status(record({**honest, "value": 1.0}), honest) == "record contradicts itself"


def test_claims_that_come_and_go_fail() -> None:
    a, b = claim(1.0, at_most(2)), claim(1.0, at_most(2), id="b")
    states = {o.id: o.status for o in compare(record(a), [record(b)])}
    assert states == {"a": "missing", "b": "new"}
    assert [o.status for o in compare(None, [record(a)])] == ["new"]
    assert [o.status for o in compare(None, [record(a)], against=False)] == ["nothing to compare"]
    assert [o.status for o in compare(record(a), [record(a), record()])] == ["missing"]  # gone at one seed


def test_skipped_passes_only_where_the_re_run_has_no_data() -> None:
    there, away = claim(1.0, at_most(2)), claim(None, at_most(2))
    (outcome,) = compare(record(there), [record(away)])
    assert (outcome.status, outcome.verdict, outcome.value) == ("skipped", "skipped", None)
    assert outcome.status in PASSING
    assert status(record(away), away) == "skipped"
    assert status(record(away), there) == "record has no number" and "record has no number" not in PASSING
    empirical = claim(SAMPLES, at_most(2))
    assert status(record(empirical), away) == "skipped"
    assert status(record(empirical), claim(None, at_most(3))) == "expectation changed"
    assert status(record({**away, "verdict": "reproduced"}), away) == "record contradicts itself"


@pytest.mark.parametrize("numbers", [{"samples": SAMPLES}, {"interval": [1.0, 1.5]}])
def test_a_number_hidden_behind_skipped_is_a_contradiction(numbers: dict) -> None:
    away = claim(None, at_most(2))
    assert status(record({**away, **numbers}), away) == "record contradicts itself"


@pytest.mark.parametrize("key", ["expect", "paper", "says", "source", "unit", "drift"])
@pytest.mark.parametrize("value", [1.0, None])
def test_a_record_must_say_what_the_page_says(key: str, value: float | None) -> None:
    honest = claim(value, at_most(2))
    (outcome,) = compare(record({**honest, key: 9.0 if key == "drift" else "something else"}), [record(honest)])
    assert outcome.status == "text differs from the page" and outcome.status not in PASSING
    assert outcome.detail.startswith(f"{key}: ")


@pytest.mark.parametrize("change", [{"value": 9e-13}, {"interval": [0.0, 9e-13]}])
def test_tiny_numbers_are_falsified_no_more_easily(change: dict) -> None:
    honest = claim([s * 1e-14 for s in SAMPLES], at_most(1e-9))
    assert status(record(honest), honest) == "ok"
    assert status(record({**honest, **change}), honest) == "record contradicts itself"
