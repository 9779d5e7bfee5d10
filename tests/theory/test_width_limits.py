"""Predictions of the limits of width, against independent computations and known cases."""

import math

import mpmath
import pytest
import torch

from repgeom.theory import width_limits as limits

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def power(modes: int, alpha: float = 1.5, beta: float = 1.5) -> tuple[torch.Tensor, torch.Tensor]:
    i = torch.arange(1, modes + 1, dtype=F64)
    return i**-alpha, i**-beta


# ------------------------------------------------------------------------------------------------------ random features


@pytest.mark.parametrize(("n", "k", "ridge"), [(50, 80, 0.1), (80, 20, 1e-3), (60, 60, 1e-6), (10, 1000, 10.0)])
def test_the_two_equations_hold(n: int, k: int, ridge: float) -> None:
    lam, v2 = power(200)
    risk = limits.feature_risk(lam, v2, n, k, ridge, 0.3)
    z = (lam / (lam + risk.gamma)).sum()
    assert float(z + ridge / risk.kappa) == pytest.approx(n, rel=1e-9)
    assert float(z + k * risk.kappa / risk.gamma) == pytest.approx(k, rel=1e-9)
    assert float(risk.ratio) == pytest.approx(ridge / (n * float(risk.kappa)), rel=1e-7)
    assert float(risk.train) == pytest.approx(float(risk.ratio) ** 2 * float(risk.test), rel=1e-12)


def test_the_formula_of_the_test_error_term_by_term() -> None:
    lam, v2 = power(200)
    n, k, noise = 50, 80, 0.3
    risk = limits.feature_risk(lam, v2, n, k, 0.1, noise)
    gamma, kappa = float(risk.gamma), float(risk.kappa)
    z = sum(float(l / (l + gamma)) for l in lam)
    q = sum(float(l / (l + gamma)) ** 2 for l in lam)
    bias = sum(
        float((gamma / (l + gamma) - kappa * l / (l + gamma) ** 2 * k / (k - q)) * v)
        for l, v in zip(lam, v2, strict=True)
    )
    assert float(risk.test) == pytest.approx((bias + noise) / (1 - (q * (k - 2 * z) + z * z) / (n * (k - q))), rel=1e-9)


def test_many_features_are_the_kernel() -> None:
    lam, v2 = power(200)
    kernel = limits.feature_risk(lam, v2, 50, math.inf, 0.1, 0.3)
    many = limits.feature_risk(lam, v2, 50, 1e9, 0.1, 0.3)
    for name in ("test", "train", "kappa", "gamma"):
        assert float(getattr(many, name)) == pytest.approx(float(getattr(kernel, name)), rel=1e-6), name
    s = lam / (lam + kernel.gamma)
    q = float(s.square().sum())
    assert float(kernel.test) == pytest.approx(float(((1 - s) ** 2 * v2).sum() + 0.3) * 50 / (50 - q), rel=1e-9)


@pytest.mark.parametrize("k", [20, 49, 51, 90, math.inf])
def test_no_ridge_is_the_limit_of_a_small_one(k: float) -> None:
    lam, v2 = power(200)
    none, small = (limits.feature_risk(lam, v2, 50, k, delta, 0.1) for delta in (0.0, 1e-11))
    assert float(none.test) == pytest.approx(float(small.test), rel=1e-4)
    assert float(none.train) == pytest.approx(float(small.train), rel=1e-4, abs=1e-9)
    assert float(none.kappa) == pytest.approx(float(small.kappa), rel=1e-4, abs=1e-9)


def test_peak_at_as_many_features_as_samples() -> None:
    lam, v2 = power(200)
    assert float(limits.feature_risk(lam, v2, 50, 50).test) == math.inf
    test = limits.feature_risk(lam, v2, 50, torch.tensor([25.0, 50.0, 100.0]), 1e-5).test
    assert float(test[1]) > 5 * float(test[0].maximum(test[2]))


def test_a_flat_spectrum_is_known_by_hand() -> None:
    flat = torch.full((100,), 0.01, dtype=F64)
    n = torch.tensor([10.0, 30.0, 90.0], dtype=F64)
    assert torch.allclose(limits.feature_risk(flat, flat, n).test, 1 - n / 100, rtol=1e-9)


def test_risk_is_that_of_simulated_regression() -> None:
    lam, v2 = power(300)
    draw, n, k, ridge = generator(), 100, 150, 0.1
    errors = []
    for _ in range(12):
        x = torch.randn(n, 300, generator=draw, dtype=F64)
        mix = lam.sqrt()[:, None] * torch.randn(300, k, generator=draw, dtype=F64) / k**0.5
        y = x @ v2.sqrt() + 0.5 * torch.randn(n, generator=draw, dtype=F64)
        Phi = x @ mix
        w = torch.linalg.solve(Phi.mT @ Phi + ridge * torch.eye(k, dtype=F64), Phi.mT @ y)
        errors.append([float((mix @ w - v2.sqrt()).square().sum()) + 0.25, float((Phi @ w - y).square().mean())])
    found, risk = torch.tensor(errors).mean(0), limits.feature_risk(lam, v2, n, k, ridge, 0.25)
    assert float(found[0]) == pytest.approx(float(risk.test), rel=0.08)
    assert float(found[1]) == pytest.approx(float(risk.train), rel=0.12)


def test_more_is_better_at_the_best_ridge_only() -> None:
    lam, v2 = power(400)
    sizes, ridges = torch.tensor([16.0, 32, 64, 128], dtype=F64), torch.logspace(-5, 2, 50, dtype=F64)
    best = limits.feature_risk(lam, v2, sizes[:, None, None], sizes[:, None], ridges, 0.5).test.min(2).values
    assert best.shape == (4, 4) and bool((best.diff(dim=0) < 0).all()) and bool((best.diff(dim=1) < 0).all())
    assert bool((limits.feature_risk(lam, v2, 64, sizes, 1e-3, 0.5).test.diff() > 0).any())


def test_optimal_ratio() -> None:
    assert limits.optimal_ratio(2, 1.5) == pytest.approx(1 / 3)
    assert limits.optimal_ratio(1.5, 2) == 0 and limits.optimal_ratio(1.5, 2, noise=2.0) > 0.2
    r, s = limits.optimal_ratio(2, 1.5, 1.0), 1.0
    assert 0.5 - 1.5 * r + 2 * s * (1 - r) ** 1.5 == pytest.approx(0, abs=1e-12)
    assert r == pytest.approx(0.632, abs=2e-3)
    assert limits.optimal_ratio(3, 2, 1.0) == pytest.approx((16 - 88**0.5) / 12)  # 6 r^2 - 16 r + 7 = 0
    lam, v2 = power(2000, 3.0, 2.0)
    exact = float(limits.feature_risk(lam, v2, 60, noise=1 / 2000.5).test)
    noisy = limits.feature_risk(lam, v2, 60, ridge=torch.logspace(-5, 0, 60, dtype=F64), noise=exact + 1 / 2000.5)
    assert float(noisy.ratio[noisy.test.argmin()]) == pytest.approx(limits.optimal_ratio(3, 2, 1.0), abs=0.05)
    modes, n = 4000, 60
    lam, v2 = power(modes, 2.0, 1.5)
    risk = limits.feature_risk(lam, v2, n, ridge=torch.logspace(-5, 0, 60, dtype=F64), noise=2 / (modes + 0.5) ** 0.5)
    assert float(risk.ratio[risk.test.argmin()]) == pytest.approx(1 / 3, abs=0.05)


def test_bad_spectra_and_counts_are_named() -> None:
    lam, v2 = power(10)
    with pytest.raises(ValueError, match=r"eigenvalues.*Repair"):
        limits.feature_risk(-lam, v2, 5, ridge=1.0)
    with pytest.raises(ValueError, match=r"eigenvalues, squares"):
        limits.feature_risk(lam, v2[:5], 5, ridge=1.0)
    with pytest.raises(ValueError, match=r"ridge.*10 modes"):
        limits.feature_risk(lam, v2, 10)
    for bad in ({"n": 0}, {"n": 5, "k": -1}, {"n": 5, "ridge": -1.0}, {"n": math.inf}, {"n": 5, "noise": -1}):
        with pytest.raises(ValueError, match="Repair"):
            limits.feature_risk(lam, v2, **{"ridge": 1.0, **bad})
    with pytest.raises(ValueError, match="alpha"):
        limits.optimal_ratio(1.0, 2.0)


# ------------------------------------------------------------------------------------------------------- infinite depth


@pytest.mark.parametrize(
    ("coefficients", "kind", "exponent"),
    [
        ([0, 0.5, 0, 0, 0, 0, 0, 0.5], "vote", 1),
        ([0, 0.25, 0.5, 0.25], "vote", 4),
        ([0, 1 / 16, 7 / 8, 1 / 16], "vote", 8),
        ([0.1, 0.5, 0, 0.4], "majority", 0),
        ([0, 0, 0.5, 0.5], "nearest", math.inf),
    ],
)
def test_the_three_limits(coefficients: list[float], kind: str, exponent: float) -> None:
    found = limits.deep_limit(coefficients)
    assert found.kind == kind and found.exponent == pytest.approx(exponent)
    assert limits.deep_limit([0, 1.0]).kind == "other"


@pytest.mark.parametrize("coefficients", [[0, 0.5, 0, 0.5], [0.3, 0, 0, 0.7], [0, 0.25, 0.5, 0.25]])
@pytest.mark.parametrize("tangent", [False, True])
def test_deep_kernels_to_many_digits(coefficients: list[float], tangent: bool) -> None:
    cosines = torch.tensor([1.0, 1 - 1e-13, 1 - 1e-3, 0.5, 0.0, -0.7], dtype=F64)
    found = limits.deep_kernel(cosines, coefficients, 40, tangent=tangent)
    with mpmath.workdps(60):
        a = [mpmath.mpf(str(c)) for c in coefficients]  # these sum to one exactly
        for value, cosine in zip(found.tolist(), cosines.tolist(), strict=True):
            xi = theta = mpmath.mpf(cosine)
            peak = mpmath.mpf(1)
            for _ in range(40):
                slope = sum(k * c * xi ** (k - 1) for k, c in enumerate(a) if k)
                xi = sum(c * xi**k for k, c in enumerate(a))
                theta, peak = xi + theta * slope, 1 + peak * sum(k * c for k, c in enumerate(a))
            assert value == pytest.approx(float(theta / peak if tangent else xi), rel=1e-9, abs=1e-60)


def test_depth_zero_is_the_cosine() -> None:
    cosines = torch.linspace(-1, 1, 5, dtype=F64)
    assert torch.equal(limits.deep_kernel(cosines, [0, 0, 1], 0), cosines)


def test_the_exponent_is_that_of_the_deep_kernel() -> None:
    for p in ([0, 0.5, 0, 0.5], [0, 0.25, 0.5, 0.25]):
        gap = torch.tensor([1e-7, 1e-8], dtype=F64)
        k = limits.deep_kernel(1 - gap, p, 70).log()
        assert -2 * float((k[1] - k[0]) / (gap[1] / gap[0]).log()) == pytest.approx(
            limits.deep_limit(p).exponent, abs=1e-3
        )


def test_votes() -> None:
    x, y = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]), torch.tensor([1.0, -1.0, -1.0])
    at = torch.tensor([[0.0, 1.0], [0.0, 4.0]])
    found = limits.vote(at, x, y, 2.0)
    assert float(found[0]) == pytest.approx(1 - 1 / 10 - 1 / 9)  # in units of the nearest, at distance one
    assert float(found[1]) == pytest.approx(-1.0) and bool(limits.vote(x, x, y, 1.0).sign().eq(y).all())
    assert limits.vote(at, x, y, 0.0).tolist() == [-1.0, -1.0]
    assert limits.vote(at, x, y, math.inf).tolist() == [1.0, -1.0]


def test_bad_coefficients_are_named() -> None:
    for bad in ([0.5, 0.4], [1.5, -0.5], [1.0]):
        with pytest.raises(ValueError, match=r"coefficients.*Repair"):
            limits.deep_limit(bad)
    with pytest.raises(ValueError, match="cosines"):
        limits.deep_kernel(torch.tensor([1.1]), [0, 1.0], 1)
    with pytest.raises(ValueError, match="exponent"):
        limits.vote(torch.zeros(1, 2), torch.zeros(3, 2), torch.ones(3), -1.0)


# ------------------------------------------------------------------------------------------------------- scale mixtures


def test_student_process_is_an_average_over_scales() -> None:
    draw = generator(1)
    A = torch.randn(5, 5, generator=draw, dtype=F64)
    K, y, a, b = A @ A.T + torch.eye(5, dtype=F64), torch.randn(3, generator=draw, dtype=F64), 2.5, 1.5
    found = limits.student_process(K[:3, :3], K[3:, :3], K[3:, 3:], y, a, b)
    # Importance sampling: s from the prior, weighted by the likelihood of y.
    s = b / torch.from_numpy(__import__("scipy.stats").stats.gamma.rvs(a, size=400_000, random_state=0))
    alpha = torch.linalg.solve(K[:3, :3], y)
    weights = s**-1.5 * (-(y @ alpha) / (2 * s)).exp()
    mean_s = float((weights * s).sum() / weights.sum())
    conditional = K[3:, 3:] - K[3:, :3] @ torch.linalg.solve(K[:3, :3], K[:3, 3:])
    covariance = found.scale * found.freedom / (found.freedom - 2)
    assert torch.allclose(covariance, mean_s * conditional, rtol=0.02)
    assert torch.allclose(found.mean, K[3:, :3] @ alpha) and found.freedom == 8


def test_student_process_tends_to_the_gaussian_one_and_knows_noise() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF

    x, at, y = torch.tensor([[0.0], [1.0], [2.5]]), torch.tensor([[0.4], [3.0]]), torch.tensor([1.0, -1.0, 0.5])
    k = lambda p, q: (-(torch.cdist(p, q) ** 2) / 2).exp().to(F64)  # noqa: E731
    peer = GaussianProcessRegressor(RBF(1.0), alpha=0.1, optimizer=None).fit(x.numpy(), y.numpy())
    mean, covariance = peer.predict(at.numpy(), return_cov=True)
    found = limits.student_process(k(x, x), k(at, x), k(at, at), y, 1e9, 1e9, noise=0.1)
    assert found.mean.tolist() == pytest.approx(mean.tolist(), rel=1e-6)
    assert torch.allclose(found.scale, torch.from_numpy(covariance), rtol=1e-6)
    with pytest.raises(ValueError, match=r"a, b, noise.*Repair"):
        limits.student_process(k(x, x), k(at, x), k(at, at), y, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"K, cross"):
        limits.student_process(k(x, x), k(x, x), k(at, at), y, 1.0, 1.0)


# ------------------------------------------------------------------------------------------------- deep kernel machines


def test_objective_is_made_of_normal_densities() -> None:
    draw = generator(3)
    G0, G1, G2 = (B @ B.T + torch.eye(4, dtype=F64) for B in torch.randn(3, 4, 4, generator=draw, dtype=F64))
    Y = torch.randn(4, 2, generator=draw, dtype=F64)
    normal = torch.distributions.MultivariateNormal
    zero, eye = torch.zeros(4, dtype=F64), torch.eye(4, dtype=F64)
    K = limits.squared_exponential
    like = normal(zero, G2 + 0.3 * eye).log_prob(Y.T).sum() + 4 * math.log(2 * math.pi)
    kl = torch.distributions.kl_divergence
    expected = like - 2 * kl(normal(zero, G1), normal(zero, K(G0))) - 5 * kl(normal(zero, G2), normal(zero, K(G1)))
    assert float(limits.deep_kernel_objective([G1, G2], G0, Y, [2, 5], noise=0.3)) == pytest.approx(float(expected))
    with pytest.raises(ValueError, match="grams, nu"):
        limits.deep_kernel_objective([G1, G2], G0, Y, [2.0])


def test_squared_exponential_is_that_of_the_points() -> None:
    x = torch.randn(5, 3, generator=generator(), dtype=F64)
    assert torch.allclose(limits.squared_exponential(x @ x.T), (-(torch.cdist(x, x) ** 2) / 2).exp())


def test_linear_grams_are_stationary_and_law() -> None:
    draw = generator(4)
    A, Y = torch.randn(2, 4, 4, generator=draw, dtype=F64)
    G0, top = A @ A.T + torch.eye(4, dtype=F64), Y @ Y.T / 4 + 0.1 * torch.eye(4, dtype=F64)
    Y = 2 * torch.linalg.cholesky(top)  # so that Y Y^T / 4 = top
    grams = [G.requires_grad_() for G in limits.linear_grams(G0, top, 3)]
    value = limits.deep_kernel_objective(grams, G0, Y, [4.0] * 3, kernel=lambda G: G)
    for gradient in torch.autograd.grad(value, grams):
        assert float((gradient + gradient.mT).abs().max()) < 1e-9
    step = torch.linalg.solve(G0, grams[0].detach())
    assert torch.allclose(G0 @ torch.linalg.matrix_power(step, 4), top)
    with pytest.raises(ValueError, match="layers"):
        limits.linear_grams(G0, top, 0)


# -------------------------------------------------------------------------------------------------- logistic regression


def worst(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.tensor([[0.5, -1.0], *[[-0.5, -1.0]] * (n - 1)], dtype=F64)
    return x, torch.tensor([1.0, *[-1.0] * (n - 1)], dtype=F64)


def test_published_counts_of_steps() -> None:
    x, y = worst(1000)
    assert [limits.separation_steps(x, y, rate) for rate in (100.0, 10.0, 1.0, 0.1)] == [2, 2, 16, 157]
    assert limits.separation_steps(x, y, 100.0, normalized=False) == 308
    assert limits.separation_steps(x, y, 1000.0, normalized=False) == 301
    assert limits.separation_steps(x, y, math.inf, normalized=False) == 301
    assert limits.separation_steps(x, y, math.inf) == 2


def test_steps_obey_the_bound_and_may_run_out() -> None:
    draw = generator(5)
    x = torch.randn(60, 4, generator=draw, dtype=F64)
    w = torch.tensor([1.0, -1.0, 0.5, 2.0], dtype=F64)
    w = w / w.norm()
    x = x[(x @ w).abs() > 0.2]
    y, R, mu = (x @ w).sign(), float(x.norm(dim=1).max()), float((x @ w).abs().min())
    for rate in (0.1, 1.0, 10.0):
        steps = limits.separation_steps(x, y, rate)
        assert steps is not None
        assert 0 < steps <= R**2 / mu**2 + 2 * math.log(2 * len(x) - 1) / (rate * mu**2)
    assert limits.separation_steps(torch.tensor([[1.0], [1.0]]), torch.tensor([1.0, -1.0]), 1.0, limit=20) is None
    with pytest.raises(ValueError, match=r"x, y, lr.*Repair"):
        limits.separation_steps(x, y, 0.0)
