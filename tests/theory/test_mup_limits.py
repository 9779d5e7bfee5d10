"""Limits against small cases by hand, against networks that are wide, and against autograd."""

import pytest
import torch

from repgeom.theory import mup_limits as limits

F64 = torch.float64


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_start_is_two_blocks() -> None:
    U, V = limits.linear_start(2, 1, s1=3.0, s2=0.5)
    assert U.tolist() == [[3, 0], [0, 3], [0, 0]] and V.tolist() == [[0, 0, 0.5]]
    assert not (V @ U).any()


def test_steps_are_those_of_autograd() -> None:
    U, V, x, y = gaussian(6, 4), gaussian(2, 6, seed=1), gaussian(7, 4, seed=2), gaussian(7, 2, seed=3)
    path = limits.linear_path(U, V, x, y, 0.03)
    u, v = U.clone().requires_grad_(), V.clone().requires_grad_()
    for t in range(7):
        assert torch.allclose(path[t], v @ u, atol=1e-12)
        loss = (v @ u @ x[t] - y[t]).square().sum() / 2
        gu, gv = torch.autograd.grad(loss, (u, v))
        u, v = (u - 0.03 * gu).detach().requires_grad_(), (v - 0.03 * gv).detach().requires_grad_()
    assert path.shape == (8, 2, 4) and torch.allclose(path[7], v @ u, atol=1e-12)


def test_four_numbers_are_the_network_of_width_two() -> None:
    x, y = gaussian(50, 1), gaussian(50, 1, seed=1)
    network = limits.linear_path(*limits.linear_start(1, 1), x, y, 0.1)[:, 0, 0]
    assert torch.allclose(limits.scalar_path(x[:, 0], y[:, 0], 0.1), network, atol=1e-12)


def test_two_steps_by_hand() -> None:
    x = torch.tensor([1.0, 2.0], dtype=F64)
    # B = C = 1/4 after the first; then f(2) = 1, chi = -1, and everything moves by lr chi x = -1/2 at once
    A, B = 1 + 0.25 / 2, 0.25 + 1 / 2
    assert limits.scalar_path(x, torch.tensor([1.0, 2.0], dtype=F64), 0.25).tolist() == [0, 0.5, 2 * A * B]


def test_zero_readout_needs_width_d_only() -> None:
    x, y = gaussian(30, 5), gaussian(30, 3, seed=1)
    U, V = limits.linear_start(5, 3, s2=0.0)
    whole, part = limits.linear_path(U, V, x, y, 0.03), limits.linear_path(U[:5], V[:, :5], x, y, 0.03)
    assert torch.allclose(whole, part, atol=1e-12) and bool((whole[-1].abs() > 0.05).any())


def test_wide_networks_approach_the_limit_like_the_root() -> None:
    x, y = gaussian(30, 3), gaussian(30, 2, seed=1)
    U, V = limits.linear_start(3, 2)
    limit, errors = limits.linear_path(U, V, x, y, 0.03), []
    for n in (100, 6400):
        wide = limits.sample_width(U, V, n, torch.Generator().manual_seed(0), runs=20)
        paths = limits.linear_path(*wide, x[:, None].expand(-1, 20, -1), y[:, None].expand(-1, 20, -1), 0.03)
        errors.append(float((paths - limit[:, None]).square().mean().sqrt()))
    assert 6 < errors[0] / errors[1] < 11, errors


def test_samples_have_entries_of_size_root_n() -> None:
    U, V = limits.sample_width(*limits.linear_start(3, 2, 2.0, 1.0), 4000, torch.Generator().manual_seed(1), runs=3)
    assert U.shape == (3, 4000, 3) and V.shape == (3, 2, 4000)
    assert float(U.std()) == pytest.approx(2 / 4000**0.5, rel=0.03)
    assert float(V.std()) == pytest.approx(1 / 4000**0.5, rel=0.03)
    assert not torch.equal(U[0], U[1])


def cbow_by_hand(E, O, contexts, targets, lr, multiplier):
    """Sample by sample, by autograd: the gradient of sum_j log sigmoid(+-m O_j . h)."""
    for context, words in zip(contexts.tolist(), targets.tolist(), strict=True):
        E, O = E.clone().requires_grad_(), O.clone().requires_grad_()
        h = sum(E[c] for c in context) / len(context)
        score = 0.0
        for k, j in enumerate(words):
            logit = multiplier * (O[j] @ h)
            score = score + torch.nn.functional.logsigmoid(logit if k == 0 else -logit)
        gE, gO = torch.autograd.grad(score, (E, O))
        E, O = (E + lr * gE).detach(), (O + lr * gO).detach()
    return E, O


@pytest.mark.parametrize("multiplier", [1.0, 0.3])
def test_word2vec_is_the_gradient_with_repeated_words(multiplier: float) -> None:
    draw = torch.Generator().manual_seed(0)
    E, O = gaussian(3, 6, 4), gaussian(3, 6, 4, seed=1)
    contexts = torch.randint(6, (40, 3, 3), generator=draw)
    targets = torch.randint(6, (40, 3, 5), generator=draw)
    kept = E.clone(), O.clone()
    ours = limits.cbow(E, O, contexts, targets, 0.2, multiplier=multiplier)
    assert torch.equal(E, kept[0]) and torch.equal(O, kept[1]), "the arguments are left as they were"
    for run in range(3):
        E_run, O_run = cbow_by_hand(E[run], O[run], contexts[:, run], targets[:, run], 0.2, multiplier)
        assert torch.allclose(ours[0][run], E_run, atol=1e-10)
        assert torch.allclose(ours[1][run], O_run, atol=1e-10)


def test_wide_word_vectors_approach_the_identity_start() -> None:
    draw = torch.Generator().manual_seed(0)
    contexts, targets = (torch.randint(8, (200, 1, k), generator=draw) for k in (2, 4))
    E, O = limits.cbow_start(8, dtype=F64)
    E, O = limits.cbow(E[None], O[None], contexts, targets, 0.1)
    limit, deviations = O @ E.mT, []
    for n in (100, 10_000):
        E, O = gaussian(1, 8, n) / n**0.5, torch.zeros(1, 8, n, dtype=F64)
        E, O = limits.cbow(E, O, contexts, targets, 0.1)
        deviations.append(float((O @ E.mT - limit).norm() / limit.norm()))
    assert deviations[1] < 0.03 and 5 < deviations[0] / deviations[1] < 20


def test_bad_input_is_refused() -> None:
    for call in (lambda: limits.linear_start(0, 1), lambda: limits.cbow_start(0), lambda: limits.linear_start(1, True)):
        with pytest.raises(ValueError, match=r"received .*; valid is a whole number, at least 1\. Repair"):
            call()
    U, V = limits.linear_start(2, 1)
    with pytest.raises(ValueError, match=r"U, V: received shapes \(2, 3\)"):
        limits.sample_width(U.mT, V, 4)
    with pytest.raises(ValueError, match="n: received 0"):
        limits.sample_width(U, V, 0)
    for path in (
        lambda x, y: limits.linear_path(U, V, x, y, 0.1),
        lambda x, y: limits.scalar_path(x[:, 0], y[:, 0], 0.1),
    ):
        with pytest.raises(ValueError, match="received 3 inputs and 2 outputs"):
            path(gaussian(3, 2), gaussian(2, 1))
    E, O = limits.cbow_start(3)
    with pytest.raises(ValueError, match="E, O, contexts, targets: received shapes"):
        limits.cbow(E, O, torch.zeros(1, 1, 1, dtype=torch.long), torch.zeros(1, 1, 2, dtype=torch.long), 0.1)


def test_adapting_is_gradient_descent_task_by_task() -> None:
    draw = torch.Generator().manual_seed(0)
    U, V, x = (torch.randn(*s, generator=draw, dtype=torch.float64) for s in ((7, 4), (5, 7), (2, 10, 4)))
    labels = torch.arange(5).repeat_interleave(2)
    for features in (True, False):
        u, v = limits.adapt(U, V, x, steps=2, lr=0.3, features=features)
        for t in range(2):
            a, b = U.clone().requires_grad_(), V.clone().requires_grad_()
            for _ in range(2):
                loss = torch.nn.functional.cross_entropy(x[t] @ a.mT @ b.mT, labels)
                da, db = torch.autograd.grad(loss, (a, b))
                a = (a - 0.3 * da if features else a).detach().requires_grad_()
                b = (b - 0.3 * db).detach().requires_grad_()
            torch.testing.assert_close(u[t], a.detach())
            torch.testing.assert_close(v[t], b.detach())


def test_a_maml_step_moves_the_start_by_the_mean_gradient_at_the_adapted_networks() -> None:
    draw = torch.Generator().manual_seed(1)
    U, V, s, q = (torch.randn(*z, generator=draw, dtype=torch.float64) for z in ((6, 4), (3, 6), (2, 3, 4), (2, 6, 4)))
    found = limits.maml_step(U, V, s, q, steps=1, lr=0.5, meta_lr=0.2)
    u, v = (A.clone().requires_grad_() for A in limits.adapt(U, V, s, steps=1, lr=0.5))
    labels = torch.arange(3).repeat_interleave(2)
    loss = sum(torch.nn.functional.cross_entropy(z, labels) for z in q @ u.mT @ v.mT)
    for new, old, slope in zip(found, (U, V), torch.autograd.grad(loss, (u, v)), strict=True):
        torch.testing.assert_close(new, old - 0.2 * slope.mean(0))
    frozen = limits.maml_step(U, V, s, q, steps=1, lr=0.5, meta_lr=0.2, features=False)
    assert torch.equal(frozen[0], U) and not torch.equal(frozen[1], V)


def test_wide_networks_meta_learn_like_the_limit() -> None:
    draw = torch.Generator().manual_seed(2)
    U, V = limits.linear_start(4, 3, s2=0.0)
    s, q = (
        torch.randn(8, 3, 4, generator=draw, dtype=torch.float64),
        torch.randn(8, 6, 4, generator=draw, dtype=torch.float64),
    )
    gaps = []
    for n in (64, 4096):
        u, v = (A[0] for A in limits.sample_width(U, V, n, draw))
        a, b = U, V
        for _ in range(5):
            u, v = limits.maml_step(u, v, s, q, steps=2, lr=1.0, meta_lr=0.5)
            a, b = limits.maml_step(a, b, s, q, steps=2, lr=1.0, meta_lr=0.5)
        gaps.append(float((v @ u - b @ a).norm() / (b @ a).norm()))
    assert gaps[1] < 0.1 and gaps[1] < gaps[0] / 3


def test_adapt_refuses_classes_of_unequal_size() -> None:
    U, V = limits.linear_start(4, 3)
    with pytest.raises(ValueError, match="x: received shape"):
        limits.adapt(U, V, torch.zeros(2, 4, 4, dtype=torch.float64), steps=1, lr=0.1)
