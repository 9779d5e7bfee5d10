"""Coding rates and doubly stochastic memberships: closed forms, gradients, inequalities, limits, refusals."""

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.autograd import gradcheck

from repgeom.nn import coding_rate as rates
from repgeom.nn.coding_rate import coding_rate, coding_rate_of_groups, rate_reduction, sinkhorn

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=F64)


def shares(k: int, n: int, seed: int = 0) -> Tensor:
    return (2 * gaussian(k, n, seed=seed)).softmax(0)


def one_hot(labels: Tensor, k: int) -> Tensor:
    return torch.nn.functional.one_hot(labels, k).T.to(F64)


def close(a: Tensor, b: Tensor | float, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), rtol=0, atol=atol)


# ------------------------------------------------------------------------------------------------------------- the rate


@pytest.mark.parametrize(("n", "d"), [(1, 1), (5, 3), (3, 5), (7, 7), (40, 6)])
def test_rate_is_its_formula_and_both_gram_matrices_give_it(n: int, d: int) -> None:
    Z, eps = gaussian(n, d), 0.7
    alpha = d / (n * eps**2)
    by_features = torch.logdet(torch.eye(d, dtype=F64) + alpha * Z.T @ Z) / 2
    by_points = torch.logdet(torch.eye(n, dtype=F64) + alpha * Z @ Z.T) / 2
    close(by_features, by_points)
    close(coding_rate(Z, eps), by_features)


def test_rate_of_two_lines_by_hand() -> None:
    for angle in (0.0, 0.4, math.pi / 2):
        Z = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]], dtype=F64)
        close(coding_rate(Z, 1.0), 0.5 * math.log(4 - math.cos(angle) ** 2))
        close(rate_reduction(Z, torch.eye(2, dtype=F64), 1.0), 0.5 * math.log((4 - math.cos(angle) ** 2) / 3))


@pytest.mark.parametrize(("n", "d"), [(6, 3), (3, 6)])
def test_gradient_of_the_rate_in_closed_form(n: int, d: int) -> None:
    Z, eps = gaussian(n, d).requires_grad_(), 0.6
    alpha = d / (n * eps**2)
    (slope,) = torch.autograd.grad(coding_rate(Z, eps), Z)
    close(slope, (alpha * Z @ torch.linalg.inv(torch.eye(d, dtype=F64) + alpha * Z.mT @ Z)).detach())
    assert gradcheck(lambda z: coding_rate(z, eps), Z)


def test_rates_know_neither_order_nor_axes_and_batches_are_independent() -> None:
    Z, P = gaussian(4, 9, 5), shares(3, 9)
    Q = torch.linalg.qr(gaussian(5, 5, seed=1))[0]
    order = torch.randperm(9, generator=generator(2))
    for f, g in (
        (coding_rate(Z), coding_rate(Z @ Q)),
        (coding_rate(Z), coding_rate(Z[:, order])),
        (coding_rate_of_groups(Z, P), coding_rate_of_groups(Z @ Q, P)),
        (coding_rate_of_groups(Z, P), coding_rate_of_groups(Z[:, order], P[:, order])),
        (coding_rate_of_groups(Z, P), coding_rate_of_groups(Z, P.flip(0))),
        (rate_reduction(Z, P), torch.stack([rate_reduction(z, P) for z in Z])),
    ):
        close(f, g)
    assert coding_rate(Z.float()).dtype == torch.float32


# ----------------------------------------------------------------------------------------------------------- the groups


@pytest.mark.parametrize(("n", "d"), [(9, 4), (4, 9)])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_group_rate_is_its_formula(n: int, d: int, k: int) -> None:
    Z, P, eps = gaussian(n, d), shares(k, n), 0.5
    total = 0.0
    for p in P:
        second = Z.T @ torch.diag(p) @ Z
        total += float(p.sum() / (2 * n) * torch.logdet(torch.eye(d, dtype=F64) + d / (p.sum() * eps**2) * second))
    close(coding_rate_of_groups(Z, P, eps), total)


def test_one_group_saves_nothing_and_neither_do_equal_shares() -> None:
    Z = gaussian(8, 3)
    close(rate_reduction(Z, torch.ones(1, 8, dtype=F64)), 0.0)
    close(rate_reduction(Z, torch.full((4, 8), 0.25, dtype=F64)), 0.0)
    close(rate_reduction(Z, torch.full((8, 8), 1 / 8, dtype=F64)), 0.0)


@pytest.mark.parametrize("seed", range(8))
def test_groups_never_cost_more(seed: int) -> None:
    Z, P = gaussian(12, 4, seed=seed), shares(3, 12, seed=seed + 100)
    assert float(rate_reduction(Z, P)) >= 0
    doubly = sinkhorn(gaussian(12, 12, seed=seed), 0.5)
    assert float(rate_reduction(Z, doubly)) >= 0


def test_orthogonal_subspaces_save_most() -> None:
    """The reduction falls with the angle between two planes, and at right angles it is what Fischer's bound allows."""
    n, eps, rows = 20, 0.5, gaussian(2, 20, 2)
    rows = torch.nn.functional.normalize(rows, dim=-1)
    P = one_hot(torch.arange(2).repeat_interleave(n), 2)
    saved, bound = [], []
    for angle in torch.linspace(math.pi / 2, 0, 7, dtype=F64):
        first, second = torch.eye(4, dtype=F64)[:2], torch.eye(4, dtype=F64)[2:]
        Z = torch.cat([rows[0] @ first, rows[1] @ (angle.cos() * first + angle.sin() * second)])
        saved.append(float(rate_reduction(Z, P, eps)))
        alpha = 4 / (2 * n * eps**2)
        parts = [torch.logdet(torch.eye(n, dtype=F64) + alpha * z @ z.T) / 2 for z in Z.split(n)]
        bound.append(float(sum(parts) - coding_rate_of_groups(Z, P, eps)))
    assert saved == sorted(saved, reverse=True)
    assert saved[0] == pytest.approx(bound[0], abs=1e-12)
    assert all(s < b - 1e-6 for s, b in zip(saved[1:], bound[1:], strict=True))


@pytest.mark.parametrize(("n", "d"), [(6, 3), (3, 5)])
def test_slopes_of_the_reduction(n: int, d: int) -> None:
    Z, scores = gaussian(n, d).requires_grad_(), gaussian(2, n, seed=3).requires_grad_()
    assert gradcheck(lambda z, s: rate_reduction(z, s.softmax(0), 0.6), (Z, scores))


@pytest.mark.parametrize(("n", "d"), [(6, 3), (3, 5)])
def test_an_empty_group_counts_as_zero_with_finite_slopes(n: int, d: int) -> None:
    Z = gaussian(n, d).requires_grad_()
    P = torch.cat([torch.ones(1, n, dtype=F64), torch.zeros(1, n, dtype=F64)]).requires_grad_()
    value = coding_rate_of_groups(Z, P)
    close(value.detach(), coding_rate(Z).detach())
    slopes = torch.autograd.grad(value, (Z, P))
    assert all(bool(torch.isfinite(s).all()) for s in slopes)


def test_everybody_alone_is_the_cheapest_doubly_stochastic_membership() -> None:
    Z = torch.nn.functional.normalize(gaussian(10, 4), dim=-1)
    least = coding_rate_of_groups(Z, torch.eye(10, dtype=F64), 0.5)
    close(least, 0.5 * math.log(1 + 4 / 0.25))
    for temperature in (0.01, 0.1, 1.0):
        assert float(coding_rate_of_groups(Z, sinkhorn(Z @ Z.T, temperature), 0.5)) >= float(least) - 1e-9


# ------------------------------------------------------------------------------------------------------------- sinkhorn


@pytest.mark.parametrize("temperature", [3.0, 0.3, 0.05, 0.01])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_rows_and_columns_sum_to_one(temperature: float, symmetric: bool, dtype: torch.dtype) -> None:
    scores = gaussian(2, 7, 7)
    scores = (scores @ scores.mT / 7 if symmetric else scores).to(dtype)
    P = sinkhorn(scores, temperature)
    limit = 3.5e-4 if dtype == torch.float32 else 1.5e-8
    close(P.sum(-1), torch.ones(2, 7), limit)
    close(P.sum(-2), torch.ones(2, 7), limit)
    assert P.dtype == dtype and bool((P >= 0).all())
    if symmetric:
        assert torch.equal(P, P.mT)


def test_the_logarithm_is_the_scores_plus_potentials() -> None:
    scores = gaussian(6, 6)
    left = sinkhorn(scores, 0.5, tol=1e-13).log() - scores / 0.5
    left = left - left.mean(0) - left.mean(1, keepdim=True) + left.mean()
    close(left, torch.zeros(6, 6), 1e-10)
    offsets = gaussian(6, 1, seed=1) + gaussian(1, 6, seed=2)
    close(sinkhorn(scores + offsets, 0.5, tol=1e-13), sinkhorn(scores, 0.5, tol=1e-13), 1e-11)


def test_two_by_two_by_hand() -> None:
    for s in (0.0, 0.7, -2.0):
        P = sinkhorn(torch.tensor([[s, 0.0], [0.0, s]], dtype=F64), 0.5)
        close(P[0, 0], 1 / (1 + math.exp(-s / 0.5)), 1e-8)


def test_permuting_the_scores_permutes_the_answer() -> None:
    scores, order = gaussian(8, 8), torch.randperm(8, generator=generator(1))
    P = sinkhorn(scores, 0.3, tol=1e-12)
    close(sinkhorn(scores[order], 0.3, tol=1e-12), P[order], 1e-10)
    close(sinkhorn(scores[:, order], 0.3, tol=1e-12), P[:, order], 1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_a_cold_one_is_the_best_assignment_and_a_hot_one_is_flat(seed: int) -> None:
    scores = gaussian(6, 6, seed=seed)
    rows, columns = linear_sum_assignment(-scores.numpy())
    best = torch.zeros(6, 6, dtype=F64)
    best[rows, columns] = 1
    close(sinkhorn(scores, 0.001), best, 1e-2)
    close(sinkhorn(scores, 1e6), torch.full((6, 6), 1 / 6), 1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_slopes_of_sinkhorn(temperature: float) -> None:
    scores = gaussian(2, 5, 5).requires_grad_()
    assert gradcheck(lambda s: sinkhorn(s, temperature, tol=1e-13), scores)
    codes = gaussian(5, 3, seed=1).requires_grad_()
    assert gradcheck(lambda c: sinkhorn(c @ c.mT, temperature, tol=1e-13), codes)


def test_backward_is_the_adjoint_of_the_derivative() -> None:
    scores, along, G = gaussian(7, 7), gaussian(7, 7, seed=1), gaussian(7, 7, seed=2)
    leaf = scores.clone().requires_grad_()
    (slope,) = torch.autograd.grad(sinkhorn(leaf, 0.4, tol=1e-14), leaf, G)
    h = 1e-5
    ahead, behind = (sinkhorn(scores + s * h * along, 0.4, tol=1e-14) for s in (1, -1))
    close((slope * along).sum(), (G * (ahead - behind) / (2 * h)).sum(), 1e-8)
    close(slope.sum(0), torch.zeros(7), 1e-10)  # offsets of rows and columns change nothing
    close(slope.sum(1), torch.zeros(7), 1e-10)


def test_slopes_stay_finite_where_the_answer_is_a_permutation_or_blocks() -> None:
    for scores in (4 * torch.eye(5, dtype=F64), torch.block_diag(torch.ones(3, 3), torch.ones(2, 2)).double()):
        leaf = scores.clone().requires_grad_()
        (slope,) = torch.autograd.grad(sinkhorn(leaf, 0.01), leaf, gaussian(5, 5))
        assert bool(torch.isfinite(slope).all())


def test_codes_need_no_more_than_the_symmetric_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, iterate = [], rates._iterate
    monkeypatch.setattr(rates, "_iterate", lambda *a: seen.append(a[-1]) or iterate(*a))
    C = torch.nn.functional.normalize(gaussian(60, 8), dim=-1)
    sinkhorn(C @ C.T, 0.1, max_steps=60)
    assert seen and all(seen)


def test_slow_cases_end_by_newtons_method(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = gaussian(6, 6, seed=3)
    fast = sinkhorn(scores, 0.05, tol=1e-10, max_steps=400)
    close(fast.sum(0), torch.ones(6), 1e-10)
    tied = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=F64)  # tends to a swap like 1 / sqrt, slowly
    assert float((sinkhorn(tied, 0.02).sum(0) - 1).abs().max()) < 1.5e-8
    monkeypatch.setattr(rates, "PATIENCE", 10**9)
    with pytest.raises(ValueError, match="off by"):
        sinkhorn(scores, 0.05, tol=1e-10, max_steps=5)


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coding_rate(torch.zeros(3)), r"^Z: received shape \(3,\).*Repair"),
        (lambda: coding_rate(torch.zeros(0, 3)), r"^Z: received shape \(0, 3\)"),
        (lambda: coding_rate(torch.zeros(3, 2).long()), r"^Z: received torch.int64"),
        (lambda: coding_rate(torch.zeros(3, 2), 0.0), r"^eps: received 0.0; .*Repair"),
        (lambda: coding_rate(torch.zeros(3, 2), math.nan), r"^eps: received nan"),
        (lambda: coding_rate(torch.full((3, 2), math.nan)), r"^Z: received numbers whose Gram .*Repair"),
        (lambda: coding_rate_of_groups(torch.zeros(3, 2), torch.ones(1, 2)), r"^membership: received shape \(1, 2\)"),
        (lambda: coding_rate_of_groups(torch.zeros(3, 2), torch.ones(2, 3)), r"^membership: received columns .*Repair"),
        (lambda: coding_rate_of_groups(torch.zeros(3, 2), torch.ones(1, 3).double()), r"^membership: received .*64"),
        (lambda: rate_reduction(torch.zeros(1, 2), torch.tensor([[2.0], [-1.0]])), r"least entry of -1"),
        (lambda: sinkhorn(torch.zeros(2, 3), 1.0), r"^scores: received shape \(2, 3\).*Repair"),
        (lambda: sinkhorn(torch.zeros(2, 2), 0.0), r"^temperature, tol, max_steps: received 0.0"),
        (lambda: sinkhorn(torch.full((2, 2), math.inf), 1.0), r"^scores: received NaN or infinity.*Repair"),
        (lambda: sinkhorn(gaussian(4, 4), 0.5, tol=1e-12, max_steps=1), r"^temperature: received 0.5.*Repair"),
    ],
)
def test_refusals_name_the_argument_and_the_repair(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_membership_in_training_is_not_checked() -> None:
    wild = torch.full((2, 3), 0.9, dtype=F64, requires_grad=True)
    assert bool(torch.isfinite(coding_rate_of_groups(gaussian(3, 2), wild)))
