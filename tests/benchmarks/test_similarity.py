"""Speed of streamed CKA: one thread, 50 batches of 1024 inputs, two representations of width 512, float32.

The unit is the three products X^T X, Y^T Y, X^T Y of all batches: no linear CKA can do with less, but for the symmetry
of the first two. Agreement is checked first. Run with ``repgeom bench -k similarity``.
"""

from collections.abc import Callable

import pytest
import torch
from timing import Row, best_times, gaussian, report

from repgeom.probes import similarity

BATCHES, BATCH, WIDTH = 50, 1024, 512
CONDITIONS = f"one thread, {BATCHES} batches of {BATCH} x {WIDTH} twice, float32"


@pytest.mark.benchmark(group="streamed CKA")
def test_streamed_cka(benchmark: Callable[..., object]) -> None:
    X = gaussian(BATCHES * BATCH, WIDTH) + 3
    Y = X.roll(1, 1).relu()
    pairs = list(zip(X.split(BATCH), Y.split(BATCH), strict=True))

    def streamed() -> similarity.LinearCKA:
        stream = similarity.LinearCKA()
        for x, y in pairs:
            stream.update(x, y)
        return stream

    def values() -> tuple[torch.Tensor, torch.Tensor]:
        stream = streamed()
        return stream.value(), stream.value(debiased=True)

    def products() -> None:
        for x, y in pairs:
            x.mT @ x, y.mT @ y, x.mT @ y

    for got, debiased in zip(values(), (False, True), strict=True):
        exact = float(similarity.linear_cka(X.double(), Y.double(), debiased))
        assert abs(float(got) - exact) < 1e-5
    t = best_times({"products": products, "streamed": values, "at once": lambda: similarity.linear_cka(X, Y)}, 6)
    benchmark.extra_info.update(t)
    benchmark.pedantic(values, rounds=1)
    rows = [
        Row("updates and both values", t["streamed"], "its three products", t["products"], 1.5, units=True),
        Row("all inputs at once, one value", t["at once"], "its three products", t["products"], units=True),
    ]
    report("Streamed linear CKA", CONDITIONS, rows)


@pytest.mark.benchmark(group="CKA of few inputs")
def test_few_inputs_go_by_their_inner_products(benchmark: Callable[..., object]) -> None:
    X, Y = gaussian(256, 4096), gaussian(256, 4096, seed=1)

    def by_features() -> torch.Tensor:
        x, y = X - X.mean(0), Y - Y.mean(0)
        return (x.mT @ y).square().sum() / ((x.mT @ x).norm() * (y.mT @ y).norm())

    exact = float(similarity.linear_cka(X.double(), Y.double()))
    assert abs(float(similarity.linear_cka(X, Y)) - exact) < 1e-5
    assert abs(float(by_features()) - exact) < 1e-2  # its sums of 16 million squares lose digits in float32
    t = best_times({"ours": lambda: similarity.linear_cka(X, Y), "features": by_features}, 5)
    benchmark.extra_info.update(t)
    benchmark.pedantic(lambda: similarity.linear_cka(X, Y), rounds=1)
    report("Linear CKA of 256 inputs and 4096 neurons", "one thread, float32", [
        Row("by inner products of inputs", t["ours"], "by products of neurons", t["features"], 4.0)
    ])  # fmt: skip
