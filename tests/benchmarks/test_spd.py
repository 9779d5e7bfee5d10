"""Speed of the Bures-Wasserstein operations: one thread, 256 matrices of 32 x 32, float64, ratios measured in one run.

The unit is one ``torch.linalg.eigh`` of the batch: what a method cannot do without. Run with ``repgeom bench -k spd``.
Agreement is checked first. A processor that shares its arithmetic with a busy neighbour slows products more than
eigen-decompositions, so ratios on a busy machine are too high; the best of many turns is the nearest to the truth. The
unit is timed several in a row, about as long as what it is compared with: quiet moments then favour neither.
"""

from collections.abc import Callable

import pytest
import torch
from pyriemann.geometry.mean import mean_wasserstein
from spd_learn import functional as spd_learn
from timing import Call, Row, best_times, forward, gaussian, peak_memory, report
from torch import Tensor

from repgeom.manifolds.spd import bures_wasserstein, inv_sqrtm
from repgeom.nn.spd import SPDBatchNorm

N, SIZE = 256, 32
CONDITIONS = f"one thread, {N} matrices of {SIZE} x {SIZE}, float64"
F64 = torch.float64
UNIT = "one batched eigh"


def covariances(seed: int = 0) -> Tensor:
    Z = gaussian(N, SIZE, 2 * SIZE, seed=seed, dtype=F64)
    return Z @ Z.mT / (2 * SIZE)


def with_eigh(calls: dict[str, Call], X: Tensor, turns: int, in_a_row: int) -> dict[str, float]:
    def unit() -> None:
        for _ in range(in_a_row):
            torch.linalg.eigh(X)

    times = best_times({"eigh": unit, **calls}, turns)
    return {**times, "eigh": times["eigh"] / in_a_row}


@pytest.mark.benchmark(group="spd distance")
def test_spd_distance(benchmark: Callable[..., object]) -> None:
    """Forward and backward, towards both arguments."""
    A, B = covariances().requires_grad_(), covariances(1).requires_grad_()
    weights = gaussian(N, seed=2, dtype=F64)

    def both(distance: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], tuple[Tensor, ...]]:
        return lambda: torch.autograd.grad(distance(A, B), (A, B), weights)

    ours, theirs = bures_wasserstein.distance, spd_learn.bures_wasserstein_distance
    torch.testing.assert_close(ours(A, B), theirs(A, B), rtol=1e-12, atol=0)
    for a, b in zip(both(ours)(), both(theirs)(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)

    def plain(distance: Callable[[Tensor, Tensor], Tensor]) -> Call:
        return forward(lambda X: distance(X, B), A)

    calls = {"ours": both(ours), "spd_learn": both(theirs), "forward": plain(ours), "spd_learn forward": plain(theirs)}
    t = with_eigh(calls, A.detach(), 40, 2)
    benchmark.extra_info.update(t)
    benchmark.pedantic(calls["ours"], rounds=3)
    rows = [
        Row("forward + backward", t["ours"], UNIT, t["eigh"], 2.5, units=True),
        Row("forward + backward, spd_learn", t["spd_learn"], UNIT, t["eigh"], units=True),
        Row("forward", t["forward"], UNIT, t["eigh"], units=True),
        Row("forward + backward", t["ours"], "spd_learn", t["spd_learn"]),
        Row("forward", t["forward"], "spd_learn", t["spd_learn forward"]),
    ]
    report("Bures-Wasserstein distance", CONDITIONS, rows)


def loosest(mean: Callable[[float], Tensor], exact: Tensor) -> float:
    """The largest tolerance, a power of ten, with which a mean has a relative error of at most 1e-10."""
    for tol in (10.0**-k for k in range(6, 14)):
        if (mean(tol) - exact).norm() <= 1e-10 * exact.norm():
            return tol
    raise AssertionError("no tolerance reaches a relative error of 1e-10")


@pytest.mark.benchmark(group="spd mean")
def test_spd_mean(benchmark: Callable[..., object]) -> None:
    """The mean to a relative error of 1e-10; each peer at its loosest tolerance that reaches that."""
    X = covariances()
    exact = bures_wasserstein.mean(X)
    gap = bures_wasserstein.optimal_map(exact, X).mean(0) - torch.eye(SIZE, dtype=F64)
    assert gap.norm() < 1e-12
    assert (bures_wasserstein.mean(X, tol=1e-10) - exact).norm() <= 1e-10 * exact.norm()
    means: dict[str, Callable[[float], Tensor]] = {
        "pyriemann, numpy": lambda tol: torch.from_numpy(mean_wasserstein(X.numpy(), tol=tol, maxiter=200)),
        "pyriemann, torch": lambda tol: mean_wasserstein(X, tol=tol, maxiter=200),
        "spd_learn": lambda tol: spd_learn.bures_wasserstein_mean(X, max_iter=500, tol=tol),
    }
    tolerances = {name: loosest(mean, exact) for name, mean in means.items()}
    ours = {"ours": lambda: bures_wasserstein.mean(X, tol=1e-10)}
    t = with_eigh(ours, X, 40, 4)
    t |= best_times({name: lambda mean=mean, tol=tolerances[name]: mean(tol) for name, mean in means.items()}, 3)
    benchmark.extra_info.update(t)
    benchmark.pedantic(ours["ours"], rounds=3)
    rows = [Row("mean to 1e-10", t["ours"], UNIT, t["eigh"], 5.0, units=True)]
    rows += [Row("mean to 1e-10", t["ours"], f"{name}, tol={tolerances[name]:g}", t[name], 1.0) for name in means]
    report("Bures-Wasserstein mean", CONDITIONS, rows)


def naive_forward(X: Tensor, M: Tensor, G: Tensor, s: float, eps: float) -> Tensor:
    """The layer with public functions and the eigenbasis formula of parallel transport to and from I."""
    P, outer = inv_sqrtm(M), torch.linalg.inv(inv_sqrtm(M))
    Y, G = P @ X @ P, P @ G @ P
    B = bures_wasserstein.mean(Y, steps=1)
    v = bures_wasserstein.distance(Y, B).square().mean()
    eye = torch.eye(len(M), dtype=M.dtype)

    def moved(point: Tensor, V: Tensor, power: float) -> Tensor:
        values, U = torch.linalg.eigh(point)
        return U @ ((U.mT @ V @ U) * ((values[:, None] + values) / 2) ** power) @ U.mT

    V = s / (v + eps).sqrt() * moved(B, bures_wasserstein.log(B, Y), -0.5)
    assert bures_wasserstein.domain(eye, V).all()
    return outer @ bures_wasserstein.exp(G, moved(G, V, 0.5)) @ outer


def toy() -> Tensor:
    a, b = torch.empty(1000, dtype=F64), torch.empty(500, dtype=F64)
    del a
    c = torch.empty(200, dtype=F64)  # 5.6 kB at once by now, after 12 kB
    return b + c.sum()


def test_spd_peak_memory_is_measured_right() -> None:
    assert peak_memory(toy) == 12_000
    x = gaussian(100, 100, dtype=F64).requires_grad_()
    # exp(x) and its exponential are kept; then come the gradients towards both, and the engine's first one
    assert 3 <= peak_memory(lambda: torch.autograd.grad(x.exp().exp().sum(), x)) / (8 * x.numel()) <= 4


@pytest.mark.benchmark(group="spd batch normalisation")
def test_spd_batch_normalisation(benchmark: Callable[..., object]) -> None:
    """A training step of the generalised layer, with gradients towards X, M, G and s."""
    X, G = covariances().requires_grad_(), gaussian(N, SIZE, SIZE, seed=1, dtype=F64)

    def layer(**options: bool) -> SPDBatchNorm:
        norm = SPDBatchNorm(SIZE, metric_start="first_batch", dtype=F64, **options)
        norm(X)
        return norm

    def step(norm: SPDBatchNorm) -> Callable[[], tuple[Tensor, ...]]:
        inputs = (X, *norm.parameters())
        assert len(inputs) == 4
        return lambda: torch.autograd.grad(norm(X), inputs, G)

    norm, constant = layer(), layer(statistics_gradient=False)
    M, bias = norm.metric_matrix, norm.bias
    expected = naive_forward(X.detach(), M.detach(), bias.detach(), 1.0, norm.eps)
    torch.testing.assert_close(norm(X), expected, rtol=0, atol=1e-11)
    assert norm.folded == 0
    directions = [gaussian(*p.shape, seed=i, dtype=F64) for i, p in enumerate((X, *norm.parameters()))]
    directions = [V if V.dim() == 0 else (V + V.mT) / 2 for V in directions]
    slope = sum((g * V).sum() for g, V in zip(step(norm)(), directions, strict=True))
    ends, h = [], 1e-6
    with torch.no_grad():
        for change in (h, -2 * h, h):
            for point, V in zip((X, *norm.parameters()), directions, strict=True):
                point += change * V
            ends.append((norm(X) * G).sum())
    assert abs((ends[0] - ends[1]) / (2 * h) / slope - 1) < 1e-6

    calls = {"ours": step(norm), "constant": step(constant), "forward": forward(norm, X)}
    t = with_eigh(calls, X.detach(), 30, 5)
    benchmark.extra_info.update(t)
    benchmark.pedantic(calls["ours"], rounds=3)
    memory = peak_memory(calls["ours"]) / (X.numel() * 8)
    print(f"\n\n  peak memory of a training step: {memory:.2f} times its input   target <= 8")
    rows = [
        Row("forward + backward", t["ours"], UNIT, t["eigh"], 6.0, units=True),
        Row("the same, statistics constant", t["constant"], UNIT, t["eigh"], units=True),
        Row("forward", t["forward"], UNIT, t["eigh"], units=True),
    ]
    report("SPDBatchNorm, generalised Bures-Wasserstein", CONDITIONS, rows)
    assert memory <= 8
