"""Claims and the rule that turns numbers into verdicts. Pure functions, no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
INCONCLUSIVE = "inconclusive"
SKIPPED = "skipped"
NOT_JUDGED = "not judged"

FEWEST_SAMPLES = 3  # below three samples an interval says nothing
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Expectation:
    """The closed set ``[low, high]`` in which a number was expected to lie before it was seen."""

    low: float
    high: float
    text: str

    def __post_init__(self) -> None:
        """Refuse an empty set."""
        if not self.low <= self.high:  # also false for NaN
            raise ValueError(f"expectation [{self.low}, {self.high}] is empty; give low <= high, both numbers")

    def contains(self, value: float) -> bool:
        """Whether ``value`` lies in the closed set."""
        return self.low <= value <= self.high


def at_most(threshold: float) -> Expectation:
    """Expect a number of at most ``threshold``.

    >>> at_most(0.5).contains(0.5), at_most(0.5).contains(0.51)
    (True, False)
    """
    return Expectation(-math.inf, float(threshold), f"at most {threshold:g}")


def at_least(threshold: float) -> Expectation:
    """Expect a number of at least ``threshold``.

    >>> at_least(2).text
    'at least 2'
    """
    return Expectation(float(threshold), math.inf, f"at least {threshold:g}")


def between(low: float, high: float) -> Expectation:
    """Expect a number in the closed interval ``[low, high]``.

    >>> between(1, 2).contains(2.0)
    True
    """
    return Expectation(float(low), float(high), f"between {low:g} and {high:g}")


def equals(value: float, tol: float = 0.0) -> Expectation:
    """Expect ``value`` up to the absolute tolerance ``tol``.

    >>> equals(3.0, tol=0.1).contains(3.05)
    True
    """
    if not tol >= 0:
        raise ValueError(f"tol={tol}: must be zero or positive; give the absolute tolerance")
    text = f"{value:g}" if tol == 0 else f"{value:g} ± {tol:g}"
    return Expectation(float(value) - tol, float(value) + tol, text)


def holds() -> Expectation:
    """Expect that a statement is true.

    >>> holds().contains(True), holds().contains(False)
    (True, False)
    """
    return Expectation(1.0, 1.0, "holds")


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Continued fraction of the incomplete beta function, by Lentz's method (Numerical Recipes 6.4)."""
    tiny = 1e-300
    c, d = 1.0, 1.0 / max(1.0 - (a + b) * x / (a + 1.0), tiny)
    h = d
    for m in range(1, 500):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + step * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + step / c
            c = c if abs(c) > tiny else tiny
            h *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return h


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b)."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _beta_fraction(a, b, x) / a
    return 1.0 - front * _beta_fraction(b, a, 1.0 - x) / b


def student_t_quantile(p: float, df: float) -> float:
    """Quantile of Student's t: the ``t`` with ``P(T <= t) = p``, for ``0 < p < 1`` and any ``df > 0``.

    From ``P(T > t) = I_x(df/2, 1/2) / 2`` with ``x = df / (df + t^2)``, solved for ``t`` by bisection.

    >>> round(student_t_quantile(0.975, 4), 6)
    2.776445
    """
    if not 0.0 < p < 1.0 or not df > 0.0:
        raise ValueError(f"p={p}, df={df}: need 0 < p < 1 and df > 0")
    if p == 0.5:
        return 0.0
    tail = min(p, 1.0 - p)
    low, high = 0.0, 1.0

    def upper_tail(t: float) -> float:
        return 0.5 * _incomplete_beta(df / 2.0, 0.5, df / (df + t * t))

    while upper_tail(high) > tail:
        high *= 2.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if upper_tail(middle) > tail else (low, middle)
    return math.copysign(0.5 * (low + high), p - 0.5)


def interval(samples: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Student-t interval of the mean, or None for fewer than three samples.

    >>> interval([1.0, 2.0])
    >>> low, high = interval([1.0, 2.0, 3.0])
    >>> round(low, 4), round(high, 4)
    (-0.4841, 4.4841)
    """
    n = len(samples)
    if n < FEWEST_SAMPLES:
        return None
    mean, deviation = float(np.mean(samples)), float(np.std(samples, ddof=1))
    half = student_t_quantile(0.5 + confidence / 2, n - 1) * deviation / math.sqrt(n)
    return mean - half, mean + half


def verdict_exact(value: float, expect: Expectation) -> str:
    """An exact claim is reproduced when its number lies in the expected set, and not reproduced otherwise."""
    return REPRODUCED if expect.contains(value) else NOT_REPRODUCED


def verdict_empirical(samples: Sequence[float], expect: Expectation) -> str:
    """Where the 95 % interval of the mean lies decides: inside, outside, or neither.

    >>> verdict_empirical([0.1, 0.2, 0.3], at_most(0.5))
    'reproduced'
    >>> verdict_empirical([0.1, 0.2, 0.3], at_most(0.2))
    'inconclusive'
    """
    bounds = interval(samples)
    if bounds is None:
        return INCONCLUSIVE
    low, high = bounds
    if expect.low <= low and high <= expect.high:
        return REPRODUCED
    return NOT_REPRODUCED if high < expect.low or low > expect.high else INCONCLUSIVE


@dataclass
class Claim:
    """One statement of a page with the numbers that decide it."""

    id: str
    says: str
    source: str
    paper: str | None
    expect: Expectation
    kind: str  # "exact" or "empirical"
    samples: list[float]
    value: float | bool | None
    unit: str = ""
    drift: float | None = None
    digits: int = 3
    missing: str | None = None
    judged: bool = True

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean of an empirical claim."""
        return interval(self.samples) if self.kind == "empirical" else None

    @property
    def verdict(self) -> str:
        """The verdict, derived anew at each call."""
        if self.value is None:
            return SKIPPED
        if not self.judged:
            return NOT_JUDGED
        if self.kind == "exact":
            return verdict_exact(float(self.value), self.expect)
        return verdict_empirical(self.samples, self.expect)

    def as_record(self) -> dict[str, Any]:
        """The claim as it stands in a record (an unbounded side of the expected set is null)."""
        bounds = self.interval
        return {
            "id": self.id,
            "says": self.says,
            "source": self.source,
            "paper": self.paper,
            "kind": self.kind,
            "expect": self.expect.text,
            "low": self.expect.low if math.isfinite(self.expect.low) else None,
            "high": self.expect.high if math.isfinite(self.expect.high) else None,
            "value": self.value,
            "samples": self.samples,
            "interval": list(bounds) if bounds else None,
            "verdict": self.verdict,
            "unit": self.unit,
            "drift": self.drift,
        }


def expectation_of(record: dict[str, Any]) -> Expectation:
    """The expectation of a claim as a record holds it."""
    low = -math.inf if record["low"] is None else float(record["low"])
    high = math.inf if record["high"] is None else float(record["high"])
    return Expectation(low, high, record["expect"])


def verdict_of(record: dict[str, Any], samples: Sequence[float] | None = None) -> str:
    """Derive the verdict of a recorded claim from its numbers, or from other ``samples`` of it."""
    if record["value"] is None:
        return SKIPPED
    expect = expectation_of(record)
    if record["kind"] == "exact":
        return verdict_exact(float(record["value"]), expect)
    return verdict_empirical(record["samples"] if samples is None else samples, expect)


def numbers_of(claim_id: str, value: Any) -> tuple[str, float | bool | None, list[float]]:
    """Sort a page's value into ``(kind, value, samples)``; a tensor or array counts as a sequence or a number."""
    if value is None:
        return "exact", None, []
    if hasattr(value, "tolist"):  # tensors, arrays and their scalars
        value = value.tolist()
    if isinstance(value, bool):
        return "exact", value, []
    if isinstance(value, int | float):
        kind, numbers = "exact", [float(value)]
    else:
        numbers = [float(v) for v in value]
        kind = "empirical"
    if not numbers or not all(math.isfinite(v) for v in numbers):
        raise ValueError(
            f"claim {claim_id!r}: value={value!r} holds a number that is not finite, or none at all; "
            "claim a bool (for example that training diverged) where a number can be infinite"
        )
    return ("exact", value, []) if kind == "exact" else (kind, float(np.mean(numbers)), numbers)
