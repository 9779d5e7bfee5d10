"""Speed of the closed form of the unconstrained-feature model: 1000 classes, six layers, one thread, float64.

Agreement is checked first, against bisection. The target is a time and not a ratio: no peer solves this. Run with
``repgeom bench -k ufm``.
"""

from collections.abc import Callable

import pytest
import torch
from timing import Call, Row, best_times, report

from repgeom.theory import ufm

CLASSES, M, DECAY = 1000, 6, 1e-6


def by_bisection(b: torch.Tensor) -> torch.Tensor:
    """The slow, obvious way: halve an interval that holds the largest root."""
    low = torch.full_like(b, ((M - 1) / (M + 1)) ** (1 / M))
    high = (M / b) ** (1 / (M + 1)) + 1
    for _ in range(60):
        x = (low + high) / 2
        right = M * x ** (M - 1) / (1 + x**M) ** 2 > b
        low, high = torch.where(right, x, low), torch.where(right, high, x)
    return low


@pytest.mark.benchmark(group="ufm")
def test_closed_form(benchmark: Callable[..., object]) -> None:
    counts = torch.arange(10.0, 10.0 + CLASSES, dtype=torch.float64)
    decays, N = [DECAY] * M, float(counts.sum())
    b = M * N * (N * DECAY ** (M + 1)) ** (1 / M) / counts
    torch.testing.assert_close(ufm.largest_root(b, M), by_bisection(b), rtol=1e-12, atol=0)
    exact = ufm.solve(counts, decays, DECAY)
    assert bool((exact.logits > 0).all())
    calls: dict[str, Call] = {
        "solve": lambda: ufm.solve(counts, decays, DECAY),
        "root": lambda: ufm.largest_root(b, M),
        "bisection": lambda: by_bisection(b),
    }
    t = best_times(calls, 20)
    benchmark.extra_info.update(t)
    benchmark.pedantic(calls["solve"], rounds=3)
    rows = [
        Row("whole solution", t["solve"], "ten milliseconds", 10.0, 1.0, units=True),
        Row("largest root", t["root"], "60 bisections", t["bisection"]),
    ]
    report("Closed form", f"one thread, {CLASSES} classes, M = {M}, float64", rows)
