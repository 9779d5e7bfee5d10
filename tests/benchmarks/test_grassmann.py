"""Speed of the subspace head and its optimiser: one thread, 1000 classes, 512 features, k = 8, batch 256, float32.

The unit is the one GEMM of the head's forward pass, (256, 512) times (512, 8000). Agreement is checked first. Run with
``repgeom bench -k grassmann``. Ratios are measured in one run; see ``timing`` on busy machines.
"""

from collections.abc import Callable

import pymanopt
import pytest
import torch
from timing import Call, Row, best_times, forward, gaussian, peak_memory, report
from torch import Tensor

from repgeom.manifolds import grassmann
from repgeom.nn.grassmann import SubspaceClassifier
from repgeom.optim import GrassmannSGD

N, WIDTH, K, BATCH = 1000, 512, 8, 256
CONDITIONS = f"one thread, N = {N}, n = {WIDTH}, k = {K}, batch {BATCH}, float32"
UNIT = "the GEMM of the forward pass"


def made() -> tuple[SubspaceClassifier, Tensor, Tensor]:
    head = SubspaceClassifier(WIDTH, N, K, generator=torch.Generator().manual_seed(0))
    return head, gaussian(BATCH, WIDTH).requires_grad_(), gaussian(BATCH, N, seed=1)


def gemm(head: SubspaceClassifier, x: Tensor) -> Call:
    rows, u = head.bases.detach().mT.reshape(-1, WIDTH), torch.nn.functional.normalize(x.detach(), dim=-1)
    return lambda: u @ rows.T


def step_by_svd(S: Tensor, D: Tensor, buffer: Tensor, lr: float, momentum: float) -> Tensor:
    """The textbook step, in the order of the paper; what one writes first."""
    buffer.mul_(momentum).add_(D)
    buffer.copy_(grassmann.project_tangent(S, buffer))
    U, s, Vh = torch.linalg.svd(buffer, full_matrices=False)
    s = lr * s
    return (S @ Vh.mT * s.cos()[..., None, :] - U * s.sin()[..., None, :]) @ Vh


@pytest.mark.benchmark(group="grassmann head")
def test_head(benchmark: Callable[..., object]) -> None:
    head, x, G = made()
    u = torch.nn.functional.normalize(x, dim=-1)
    naive = torch.stack([head.scale * (u @ S).norm(dim=1) for S in head.bases], 1)
    torch.testing.assert_close(head(x), naive, rtol=0, atol=1e-4)

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(head(x), (x, head.bases), G)

    t = best_times({"gemm": gemm(head, x), "forward": forward(head, x), "both": both}, 40)
    benchmark.extra_info.update(t)
    benchmark.pedantic(both, rounds=3)
    rows = [
        Row("forward", t["forward"], UNIT, t["gemm"], units=True),
        Row("forward + backward", t["both"], UNIT, t["gemm"], 3.3, units=True),
    ]
    report("Subspace head", CONDITIONS, rows)


@pytest.mark.benchmark(group="grassmann step")
def test_step(benchmark: Callable[..., object]) -> None:
    """With momentum and the usual re-orthonormalisation; peers without it, which favours them."""
    head, x, G = made()
    (head(x) * G / BATCH).sum().backward()
    S, D = head.bases.detach().clone(), head.bases.grad
    optimizer = GrassmannSGD([head.bases], lr=0.1, momentum=0.9)
    optimizer.step()
    by_svd = step_by_svd(S, D, torch.zeros_like(S), 0.1, 0.9)
    assert float(grassmann.distance(head.bases.detach(), by_svd).max()) < 1e-5
    manifold = pymanopt.manifolds.Grassmann(WIDTH, K, k=N)
    point, gradient, buffer = S.contiguous().numpy(), D.contiguous().numpy(), torch.zeros_like(S)

    def pymanopt_step(move: str) -> Call:
        return lambda: getattr(manifold, move)(point, -0.1 * manifold.projection(point, gradient))

    calls: dict[str, Call] = {
        "gemm": gemm(head, x),
        "forward": forward(head, x),
        "ours": optimizer.step,
        "svd": lambda: step_by_svd(S, D, buffer, 0.1, 0.9),
        "pymanopt exp": pymanopt_step("exp"),
        "pymanopt retraction": pymanopt_step("retraction"),
    }
    t = best_times(calls, 15)
    benchmark.extra_info.update(t)
    benchmark.pedantic(optimizer.step, rounds=3)
    rows = [
        Row("one step", t["ours"], "the head's forward", t["forward"], 1.0, units=True),
        Row("one step", t["ours"], UNIT, t["gemm"], units=True),
        Row("one step", t["ours"], "geodesic by SVD", t["svd"], 4.0),
        Row("one step", t["ours"], "pymanopt, exp", t["pymanopt exp"], 4.0),
        Row("one step", t["ours"], "pymanopt, retraction", t["pymanopt retraction"]),
    ]
    report("GrassmannSGD", CONDITIONS, rows)


@pytest.mark.benchmark(group="grassmann memory")
def test_memory(benchmark: Callable[..., object]) -> None:
    """Forward, backward and one step, gradient and momentum included: at most three times the bases."""
    head, x, G = made()
    optimizer = GrassmannSGD([head.bases], lr=0.1, momentum=0.9)

    def once() -> None:
        head.bases.grad = None
        (head(x.detach()) * G).sum().backward()
        optimizer.step()

    size = head.bases.numel() * head.bases.element_size()
    most = peak_memory(once)
    benchmark.pedantic(once, rounds=1)
    report("Memory of forward, backward and step", CONDITIONS, [
        Row("peak (MiB)", most / 2**20, "the bases", size / 2**20, 3.0, units=True)
    ])  # fmt: skip
