"""GrassmannSGD: its steps against the textbook, its memory layouts, its state, its company, its errors."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repgeom.manifolds import grassmann
from repgeom.nn.grassmann import SubspaceClassifier
from repgeom.optim import GrassmannSGD, RiemannianSGD, parameter_groups
from repgeom.optim import grassmann as module

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bases(*lead: int, size: int = 7, k: int = 2, seed: int = 0, dtype: torch.dtype = F64) -> nn.Parameter:
    S = grassmann.random(math.prod(lead), generator(seed), dtype, size=size, subspace_dim=k)
    return nn.Parameter(S.reshape(*lead, size, k))


def gradients(shape: torch.Size, steps: int, dtype: torch.dtype = F64, seed: int = 1) -> list[Tensor]:
    draw = generator(seed)
    return [torch.randn(shape, generator=draw, dtype=dtype) for _ in range(steps)]


def apply(optimizer: torch.optim.Optimizer, S: nn.Parameter, given: list[Tensor]) -> None:
    for D in given:
        S.grad = D.clone()
        optimizer.step()


def textbook(S: Tensor, given: list[Tensor], lr: float, momentum: float, order: str) -> Tensor:
    """The two orders as the paper and its code state them, with a thin singular value decomposition."""
    buffer = torch.zeros_like(S)
    for D in given:
        if order == "project":
            buffer = momentum * (buffer - S @ (S.mT @ buffer)) + D - S @ (S.mT @ D)
            M = buffer
        else:
            buffer = momentum * buffer + D
            M = buffer - S @ (S.mT @ buffer)
        U, s, Vh = torch.linalg.svd(M, full_matrices=False)
        S = (S @ Vh.mT * (lr * s).cos()[..., None, :] - U * (lr * s).sin()[..., None, :]) @ Vh
    return S


def close(a: Tensor, b: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a.detach(), b.detach(), rtol=0, atol=atol)


def defect(S: Tensor) -> float:
    S = S.detach().double()
    return float((S.mT @ S - torch.eye(S.shape[-1], dtype=S.dtype)).abs().amax())


@pytest.mark.parametrize("order", ["project", "accumulate"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("lr", [0.01, 0.4])  # the series, and the eigen-decomposition
def test_steps_are_the_textbook_s(order: str, momentum: float, lr: float) -> None:
    S = bases(4)
    given = gradients(S.shape, 6)
    expected = textbook(S.detach().clone(), given, lr, momentum, order)
    apply(GrassmannSGD([S], lr=lr, momentum=momentum, order=order), S, given)
    close(S, expected)


def test_orders_differ_in_second_order_of_the_rate() -> None:
    def apart(lr: float) -> float:
        ends = []
        for order in module.ORDERS:
            S = bases(3)
            apply(GrassmannSGD([S], lr=lr, momentum=0.9, order=order), S, gradients(S.shape, 3))
            ends.append(S.detach())
        return float(grassmann.distance(*ends).max())

    assert apart(1e-3) > 1e-9
    assert apart(1e-3) / apart(1e-4) == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize("order", ["project", "accumulate"])
def test_memory_layout_and_blocks_do_not_matter(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for layout in ("rows", "columns", "stacked"):
        S = bases(6)
        if layout == "columns":
            S = nn.Parameter(S.detach().contiguous())
        elif layout == "stacked":
            S = nn.Parameter(S.detach().reshape(2, 3, 7, 2).contiguous())
        given = [D.reshape(S.shape) for D in gradients(torch.Size((6, 7, 2)), 7)]
        apply(GrassmannSGD([S], lr=0.1, order=order), S, given)
        ends.append(S.detach().reshape(6, 7, 2))
    close(ends[0], ends[1], 1e-14)
    close(ends[0], ends[2], 1e-14)
    swapped = nn.Parameter(bases(6).detach().reshape(2, 3, 7, 2).transpose(0, 1))  # no view as a list of matrices
    given = [D.reshape(2, 3, 7, 2).transpose(0, 1) for D in gradients(torch.Size((6, 7, 2)), 7)]
    apply(GrassmannSGD([swapped], lr=0.1, order=order), swapped, given)
    close(ends[0].reshape(2, 3, 7, 2), swapped.transpose(0, 1), 1e-14)
    monkeypatch.setattr(module, "_BLOCK", 1)  # one subspace at a time
    S = bases(6)
    apply(GrassmannSGD([S], lr=0.1, order=order), S, gradients(S.shape, 7))
    close(ends[0], S, 1e-14)


def test_it_is_the_grassmann_space_of_riemannian_sgd() -> None:
    ours, theirs = bases(3), bases(3)
    given = gradients(ours.shape, 8)
    apply(GrassmannSGD([ours], lr=0.05, momentum=0.8, reorthonormalize_every=1), ours, given)
    apply(RiemannianSGD([{"params": [theirs], "manifold": "grassmann"}], lr=0.05, momentum=0.8), theirs, given)
    close(ours, theirs)


def test_weight_decay_would_change_nothing() -> None:
    plain, decayed = bases(3), bases(3)
    one, other = GrassmannSGD([plain], lr=0.1), GrassmannSGD([decayed], lr=0.1)
    for D in gradients(plain.shape, 6):
        plain.grad, decayed.grad = D.clone(), D + 0.5 * decayed.detach()
        one.step()
        other.step()
    close(plain, decayed, 1e-13)


def test_finds_the_leading_subspace() -> None:
    Q = torch.linalg.qr(torch.randn(7, 7, generator=generator(3), dtype=F64)).Q
    A = Q * torch.tensor([7.0, 6, 3, 2, 1, 0.5, 0.1], dtype=F64) @ Q.T
    S = bases(5)
    optimizer = GrassmannSGD([S], lr=0.02, momentum=0.8)
    for _ in range(200):
        optimizer.zero_grad()
        (-(S.mT @ A @ S).diagonal(dim1=-2, dim2=-1).sum()).backward()
        optimizer.step()
    assert float(grassmann.distance(S.detach(), Q[:, :2].expand_as(S)).max()) < 1e-6


@pytest.mark.parametrize(("every", "limit"), [(1, 2e-6), (5, 1e-5)])
def test_columns_stay_orthonormal_in_single_precision(every: int, limit: float) -> None:
    S = bases(10, size=64, k=4, dtype=torch.float32)
    apply(GrassmannSGD([S], lr=0.02, reorthonormalize_every=every), S, gradients(S.shape, 540, torch.float32))
    assert defect(S) < limit
    free = bases(10, size=64, k=4, dtype=torch.float32)
    apply(GrassmannSGD([free], lr=0.02, reorthonormalize_every=0), free, gradients(S.shape, 540, torch.float32))
    assert defect(free) > defect(S)


def test_state_dict_resumes_exactly() -> None:
    given = gradients(torch.Size((3, 7, 2)), 9)
    S, T = bases(3), bases(3)
    through = GrassmannSGD([S], lr=0.1, momentum=0.9)
    apply(through, S, given)
    first = GrassmannSGD([T], lr=0.1, momentum=0.9)
    apply(first, T, given[:4])
    second = GrassmannSGD([T], lr=7.0)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    apply(second, T, given[4:])
    assert torch.equal(S, T)


def test_beside_another_optimiser_with_clipping_and_a_scaler() -> None:
    """Scaled and clipped, both parts move as they do without the scaler."""
    ends = []
    x, y = torch.randn(40, 6, generator=generator(4)), torch.arange(40) % 5
    for scaled in (False, True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            body = nn.Linear(6, 8)
        head = SubspaceClassifier(8, 5, 2, generator=generator())
        both = [torch.optim.AdamW(body.parameters(), lr=1e-2), GrassmannSGD(head.parameters(), lr=0.1)]
        scaler = torch.amp.GradScaler("cpu", enabled=scaled)
        for _ in range(7):
            for optimizer in both:
                optimizer.zero_grad()
            scaler.scale(nn.functional.cross_entropy(head(body(x)), y)).backward()
            for optimizer in both:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_([*body.parameters(), *head.parameters()], 0.1)
            for optimizer in both:
                scaler.step(optimizer)
            scaler.update()
        ends.append((body.weight.detach(), head.bases.detach()))
    for a, b in zip(*ends, strict=True):
        close(a, b, 1e-5)


def test_scaler_skips_a_step_that_overflowed() -> None:
    S = bases(2, dtype=torch.float32)
    before, optimizer, scaler = S.detach().clone(), GrassmannSGD([S], lr=0.1), torch.amp.GradScaler("cpu")
    scaler.scale(S.sum()).backward()
    S.grad.fill_(math.inf)
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(S, before) and not optimizer.state[S]


def test_closure_and_parameters_without_gradient() -> None:
    S, idle = bases(2), bases(2, seed=1)
    before = idle.detach().clone()
    optimizer = GrassmannSGD([S, idle], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (S - 1).square().sum()
        loss.backward()
        return loss.detach()

    first = optimizer.step(closure)
    assert optimizer.step(closure) < first
    assert torch.equal(idle, before)


def test_a_gradient_that_is_not_finite_leaves_the_bases() -> None:
    S = bases(3)
    optimizer = GrassmannSGD([S], lr=0.1)
    apply(optimizer, S, gradients(S.shape, 2))
    before = S.detach().clone()
    with pytest.raises(ValueError, match="grad: received NaN or infinity"):
        apply(optimizer, S, [torch.full_like(S, math.nan)])
    assert torch.equal(S, before)
    apply(optimizer, S, gradients(S.shape, 1))
    assert bool(torch.isfinite(S).all()) and not torch.equal(S, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr, momentum"),
        ({"momentum": 1.0}, "lr, momentum"),
        ({"order": "newton"}, "'newton'"),
        ({"reorthonormalize_every": -1}, "reorthonormalize_every"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GrassmannSGD([bases(2)], **options)


@pytest.mark.parametrize(
    "S", [torch.ones(3, 2), torch.eye(2, 3), torch.eye(3, 2).half()], ids=["columns", "wide", "half"]
)
def test_parameters_are_checked(S: Tensor) -> None:
    with pytest.raises(ValueError, match="params: received"):
        GrassmannSGD([nn.Parameter(S)])
    optimizer = GrassmannSGD([bases(2)])
    with pytest.raises(ValueError, match="params: received"):
        optimizer.add_param_group({"params": [nn.Parameter(S)]})
    assert len(optimizer.param_groups) == 1


def test_parameter_groups_know_the_head() -> None:
    model = nn.Sequential(nn.Linear(6, 8), SubspaceClassifier(8, 5, 2))
    groups = {group["manifold"]: group["params"] for group in parameter_groups(model)}
    assert [id(p) for p in groups["grassmann"]] == [id(model[1].bases)] and len(groups["euclidean"]) == 2
