import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from repgeom.repro import at_least, at_most, between, claims, equals, holds, student_t_quantile


@pytest.mark.parametrize("df", [0.7, 1, 2, 2.35, 4, 9, 30, 150.5, 1e4])
@pytest.mark.parametrize("p", [0.0005, 0.025, 0.3, 0.5, 0.9, 0.975, 0.99865, 0.999999])
def test_student_quantile_is_scipys(p: float, df: float) -> None:
    assert student_t_quantile(p, df) == pytest.approx(scipy.stats.t.ppf(p, df), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("p", "df"), [(0.0, 3), (1.0, 3), (0.5, 0), (0.5, -1), (math.nan, 3)])
def test_student_quantile_refuses(p: float, df: float) -> None:
    with pytest.raises(ValueError, match="need 0 < p < 1"):
        student_t_quantile(p, df)


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=12))
def test_interval_is_scipys(samples: list[float]) -> None:
    low, high = claims.interval(samples)
    error = scipy.stats.sem(samples)
    if error == 0:
        assert low == high == pytest.approx(samples[0])
    else:
        expected = scipy.stats.t.interval(0.95, len(samples) - 1, np.mean(samples), error)
        assert (low, high) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_exact_verdict_at_the_boundary() -> None:
    assert claims.verdict_exact(0.5, at_most(0.5)) == "reproduced"
    assert claims.verdict_exact(math.nextafter(0.5, 1), at_most(0.5)) == "not reproduced"
    assert claims.verdict_exact(2.0, at_least(2.0)) == "reproduced"
    assert claims.verdict_exact(1.0, between(1.0, 2.0)) == claims.verdict_exact(2.0, between(1.0, 2.0)) == "reproduced"
    assert claims.verdict_exact(3.25, equals(3.0, tol=0.25)) == "reproduced"
    assert claims.verdict_exact(3.2501, equals(3.0, tol=0.25)) == "not reproduced"
    assert claims.verdict_exact(True, holds()) == "reproduced"
    assert claims.verdict_exact(False, holds()) == "not reproduced"


SAMPLES = [1.0, 2.0, 3.0]
LOW, HIGH = claims.interval(SAMPLES)


@pytest.mark.parametrize(
    ("expect", "verdict"),
    [
        (at_most(HIGH), "reproduced"),
        (at_most(math.nextafter(HIGH, 0)), "inconclusive"),
        (at_most(LOW), "inconclusive"),
        (at_most(math.nextafter(LOW, -1)), "not reproduced"),
        (at_least(LOW), "reproduced"),
        (at_least(math.nextafter(LOW, 1)), "inconclusive"),
        (at_least(HIGH), "inconclusive"),
        (at_least(math.nextafter(HIGH, 9)), "not reproduced"),
        (between(LOW, HIGH), "reproduced"),
        (between(1.9, 2.1), "inconclusive"),
        (between(5, 6), "not reproduced"),
    ],
)
def test_empirical_verdict_follows_from_where_the_interval_lies(expect: claims.Expectation, verdict: str) -> None:
    assert claims.verdict_empirical(SAMPLES, expect) == verdict


def test_two_samples_decide_nothing() -> None:
    assert claims.verdict_empirical([0.0, 0.0], at_most(1)) == "inconclusive"
    assert claims.verdict_empirical([0.0, 0.0, 0.0], at_most(1)) == "reproduced"


def test_bools_over_seeds() -> None:
    kind, _, samples = claims.numbers_of("x", [True, True, False])
    assert (kind, samples) == ("empirical", [1.0, 1.0, 0.0])
    assert claims.verdict_empirical(samples, holds()) == "inconclusive"
    assert claims.verdict_empirical([0.0, 0.0, 0.0], holds()) == "not reproduced"


@pytest.mark.parametrize(
    ("value", "sorted_as"),
    [
        (2, ("exact", 2, [])),
        (True, ("exact", True, [])),
        (torch.tensor(1.5), ("exact", 1.5, [])),
        (np.float32(0.5), ("exact", 0.5, [])),
        (torch.tensor([1.0, 3.0]), ("empirical", 2.0, [1.0, 3.0])),
        ((1, 2, 3), ("empirical", 2.0, [1.0, 2.0, 3.0])),
        (None, ("exact", None, [])),
    ],
)
def test_values_are_sorted_into_exact_and_empirical(value: object, sorted_as: tuple) -> None:
    assert claims.numbers_of("x", value) == sorted_as


@pytest.mark.parametrize("value", [math.nan, math.inf, [1.0, math.nan], []])
def test_a_number_that_is_not_finite_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="claim 'x'"):
        claims.numbers_of("x", value)


def test_empty_expectations_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        between(2, 1)
    with pytest.raises(ValueError, match="empty"):
        at_most(math.nan)
    with pytest.raises(ValueError, match="tol"):
        equals(1, tol=-0.1)
