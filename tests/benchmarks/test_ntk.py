"""Speed and memory of tangent kernels: of a real network of width 1024, and of an infinite one on many points.

Real: three layers, one output, 256 x 256 inputs, float32; the unit is the GEMMs that no route can avoid: forward,
backward, and two Gram matrices a layer. Infinite: depth 4, ReLU, float64; the unit is the passes over the N x N matrix
that the formula needs, PASSES a layer. Agreement is checked first. Run with ``repgeom bench -k ntk``; for 5000 points
set REPGEOM_BENCH_POINTS=5000.
"""

import math
import os
from collections.abc import Callable

import pytest
import torch
from timing import Row, best_times, gaussian, peak_memory, report
from torch import Tensor, nn

from repgeom.chapters.neural_tangent_kernel import by_jacobian
from repgeom.theory import kernels
from repgeom.theory.empirical_ntk import empirical_ntk

N, INPUTS, WIDTH = 256, 784, 1024
POINTS = int(os.environ.get("REPGEOM_BENCH_POINTS", "2000"))
# A layer: q q', its root, s over it, arccos, pi minus it, c^2, 1 minus it, its root, times c and added, times the root,
# over 2 pi (twice), s_w^2 K + s_b^2, Theta times slope, plus Sigma.
DEPTH, PASSES = 4, 15


def made() -> tuple[nn.Sequential, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(INPUTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)
        )
    return net, gaussian(N, INPUTS), gaussian(N, INPUTS, seed=1)


def gemms(net: nn.Sequential, x1: Tensor, x2: Tensor) -> Callable[[], None]:
    """Forward and backward of both sets of inputs, and the Gram matrices of inputs and of gradients of every layer."""
    W1, W2, W3 = (layer.weight.detach() for layer in net[::2])
    a1, a2, D1, D2, ones = *(gaussian(N, WIDTH, seed=s) for s in range(2, 6)), torch.ones(N, 1)

    def run() -> None:
        for x in (x1, x2):
            x @ W1.T, a1 @ W2.T, a1 @ W3.T
            ones @ W3, D1 @ W2
        x1 @ x2.T, a1 @ a2.T, a2 @ a1.T
        D1 @ D2.T, D2 @ D1.T, ones @ ones.T

    return run


@pytest.mark.benchmark(group="empirical ntk")
def test_real_network(benchmark: Callable[..., object]) -> None:
    net, x1, x2 = made()

    def ours() -> Tensor:
        return empirical_ntk(net, x1, x2, trace=True)

    few = by_jacobian(net, x1[:16], x2[:16])[..., 0, 0]
    torch.testing.assert_close(ours()[:16, :16], few, rtol=1e-5, atol=1e-5 * float(few.abs().max()))
    t = best_times({"gemms": gemms(net, x1, x2), "ours": ours}, 15)
    t |= best_times({"jacobian": lambda: by_jacobian(net, x1, x2)}, 2)
    memory = {"ours": peak_memory(ours), "jacobian": peak_memory(lambda: by_jacobian(net, x1, x2))}
    benchmark.extra_info.update({**t, **{f"{name}, bytes": value for name, value in memory.items()}})
    benchmark.pedantic(ours, rounds=3)
    mib = {name: value / 2**20 for name, value in memory.items()}
    report("Tangent kernel of a real network", f"one thread, {INPUTS}-{WIDTH}-{WIDTH}-1, {N} x {N} inputs, float32", [
        Row("kernel", t["ours"], "torch.func, Jacobians", t["jacobian"], 20.0),
        Row("kernel", t["ours"], "the GEMMs of the lower bound", t["gemms"], 4.0, units=True),
        Row("peak memory (MiB, not ms)", mib["ours"], "torch.func, Jacobians", mib["jacobian"], 10.0),
    ])  # fmt: skip


@pytest.mark.benchmark(group="analytic ntk")
def test_infinite_network(benchmark: Callable[..., object]) -> None:
    x = gaussian(POINTS, 50, dtype=torch.float64)
    matrix = gaussian(POINTS, POINTS, dtype=torch.float64)

    def ours() -> Tensor:
        return kernels.ntk(x, depth=DEPTH, bias_std=0.1)

    def passes() -> None:
        for _ in range(PASSES * (DEPTH - 1)):
            matrix.mul_(-1.0)

    few, whole = slice(0, 40), ours()
    torch.testing.assert_close(whole[few, few], naive(x[few]), rtol=1e-9, atol=1e-9)
    t = best_times({"passes": passes, "ours": ours}, 3)
    memory = peak_memory(ours)
    benchmark.extra_info.update({**t, "bytes": memory})
    benchmark.pedantic(ours, rounds=1)
    limit = 1.5 * 2**30 / 2**20 if POINTS <= 5000 else math.inf
    report("Tangent kernel of infinite width", f"one thread, depth {DEPTH}, {POINTS} points, float64", [
        Row("kernel", t["ours"], f"{PASSES * (DEPTH - 1)} passes over the matrix", t["passes"], 12.0, units=True),
        Row("peak memory (MiB, not ms)", memory / 2**20, "the matrix", POINTS**2 * 8 / 2**20, units=True),
        Row("peak memory (MiB, not ms)", memory / 2**20, "the bound", limit, 1.0, units=True),
    ])  # fmt: skip


def naive(x: Tensor) -> Tensor:
    """The recursion on whole matrices, the diagonal by its own rule."""
    S = x @ x.T / x.shape[1] + 0.01
    theta = S
    for _ in range(DEPTH - 1):
        root = (S.diagonal()[:, None] * S.diagonal()).sqrt()
        angle = (S / root).clamp(-1, 1).fill_diagonal_(1.0).acos()
        share = (math.pi - angle) / (2 * math.pi)
        S = root * (angle.sin() / (2 * math.pi) + share * angle.cos()) + 0.01
        theta = theta * share + S
    return theta
