"""Kernels of infinite width: golden values, Monte Carlo, mpmath and quadrature twins, and how such networks train."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from repgeom.theory import kernels as theory
from repgeom.theory.kernels import Kernels

F64 = torch.float64
FUNCTIONS = {"relu": torch.relu, "erf": torch.erf, "gelu": torch.nn.functional.gelu, "sin": torch.sin}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=F64)


def circle(*angles: float) -> torch.Tensor:
    a = torch.tensor(angles, dtype=F64)
    return torch.stack([a.cos(), a.sin()], 1)


# By tests/peers/golden_neural_tangents.py; points of the circle at 0, and at 0, 30, 90, 150, 180 degrees.
AROUND = [math.radians(a) for a in (0, 30, 90, 150, 180)]
GOLDEN = [
    ({"depth": 4, "bias_std": 0.1},
     [0.081250000000, 0.075168211615, 0.055760277603, 0.048488180978, 0.048096589795],
     [0.282500000000, 0.207364321198, 0.092702110174, 0.064134367488, 0.064353770145]),
    ({"depth": 3, "weight_std": math.sqrt(2)},
     [1.0, 0.893261729059, 0.493731090200, 0.325753517924, 0.318309886184],
     [3.0, 2.244232387262, 0.685708636283, 0.260382515606, 0.318309886184]),
    ({"depth": 3, "activation": "erf", "weight_std": 1.5, "bias_std": 0.05},
     [1.087837350361, 0.885763512060, 0.006711183498, -0.869271915020, -1.069220532415],
     [4.140204548379, 3.081412119467, 0.012893721422, -3.031765620246, -4.066702581605]),
    ({"depth": 2, "activation": "sin", "weight_std": 1.2, "bias_std": 0.1},
     [0.562789882195, 0.479649106271, 0.016939605116, -0.442983217681, -0.525155058530],
     [1.210453268193, 1.010513149275, 0.023879441551, -0.951428042504, -1.147350090562]),
    ({"depth": 2, "activation": "gelu", "weight_std": 1.5, "bias_std": 0.1},
     [1.115226242362, 0.964452106195, 0.231714088154, -0.139463795978, -0.159881912403],
     [2.298466520262, 1.909545222725, 0.237375253145, -0.308126717646, -0.264853389579]),
]  # fmt: skip
ERF = GOLDEN[2][0]


@pytest.mark.parametrize(("network", "sigma", "tau"), GOLDEN, ids=["relu4", "relu3", "erf", "sin", "gelu"])
def test_golden_kernels(network, sigma, tau) -> None:
    found = theory.kernels(circle(0.0), circle(*AROUND), **network)
    assert found.nngp[0].tolist() == pytest.approx(sigma, abs=1e-11)
    assert found.ntk[0].tolist() == pytest.approx(tau, abs=1e-11)
    function = FUNCTIONS[network.get("activation", "relu")]
    if function is not torch.relu:
        series = theory.kernels(circle(0.0), circle(*AROUND), **{**network, "activation": function})
        assert series.nngp[0].tolist() == pytest.approx(sigma, abs=1e-9)
        assert series.ntk[0].tolist() == pytest.approx(tau, abs=1e-9)


# ---------------------------------------------------------------------------------------------------------- one layer

CASES = [(0.7, 1.9, 0.4), (1.3, 1.3, -0.9), (2.5, 0.3, 0.0), (0.5, 0.8, 0.6)]


def expectation(f, q1: float, q2: float, s: float) -> float:
    """E f(u) f(v) by nested integrals of scipy, broken where u or v changes its sign."""
    r, c = math.sqrt(q1), s / math.sqrt(q1)
    rest = math.sqrt(q2 - c * c)

    def normal(z: float) -> float:
        return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    def inner(z: float) -> float:
        kink = min(8.0, max(-8.0, -c * z / rest))
        return sum(quad(lambda w: f(c * z + rest * w) * normal(w), *ends)[0] for ends in ((-9, kink), (kink, 9)))

    return sum(quad(lambda z: f(r * z) * normal(z) * inner(z), *ends)[0] for ends in ((-9, 0), (0, 9)))


def bell(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


PLAIN = {
    "relu": (lambda x: max(x, 0.0), lambda x: float(x > 0)),
    "erf": (math.erf, lambda x: 2 / math.sqrt(math.pi) * math.exp(-x * x)),
    "gelu": (lambda x: x * (1 + math.erf(x / 2**0.5)) / 2, lambda x: (1 + math.erf(x / 2**0.5)) / 2 + x * bell(x)),
    "sin": (math.sin, math.cos),
}


@pytest.mark.parametrize("name", PLAIN)
def test_one_layer_against_nested_integrals(name: str) -> None:
    q1, q2, s = 0.7, 1.9, 0.4
    K, slope = theory.dual(name, *(torch.tensor(v, dtype=F64) for v in (q1, q2, s)))
    for ours, f in zip((K, slope), PLAIN[name], strict=True):
        assert float(ours) == pytest.approx(expectation(f, q1, q2, s), rel=1e-9)


def test_nearly_equal_points_against_mpmath() -> None:
    """cos = 1 - delta: K to 1e-12, and K' to the root of rounding, as its slope is infinite there."""
    for delta in (1e-2, 1e-6, 1e-10):
        with mpmath.workdps(40):
            angle = mpmath.acos(1 - mpmath.mpf(delta))
            share = (mpmath.pi - angle) / (2 * mpmath.pi)
            K = mpmath.sin(angle) / (2 * mpmath.pi) + share * mpmath.cos(angle)
        one = torch.ones((), dtype=F64)
        ours = theory.dual("relu", one, one, one - delta)
        assert float(ours[0]) == pytest.approx(float(K), rel=1e-12)
        assert float(ours[1]) == pytest.approx(float(share), abs=3e-16 / delta**0.5)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("case", CASES)
def test_one_layer_against_monte_carlo(name: str, case: tuple[float, float, float]) -> None:
    q1, q2, s = (torch.tensor(v, dtype=F64) for v in case)
    n = 200_000
    z = gaussian(2, n, seed=1)
    u = q1.sqrt() * z[0]
    v = s / q1.sqrt() * z[0] + (q2 - s * s / q1).sqrt() * z[1]
    u.requires_grad_(), v.requires_grad_()
    values = [FUNCTIONS[name](t) for t in (u, v)]
    slopes = [torch.autograd.grad(f.sum(), t)[0] for f, t in zip(values, (u, v), strict=True)]
    for told, product in zip(theory.dual(name, q1, q2, s), (values[0] * values[1], slopes[0] * slopes[1]), strict=True):
        product = product.detach()
        assert abs(float(told - product.mean())) < 4.5 * float(product.std()) / math.sqrt(n)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_slope_is_the_derivative(name: str) -> None:
    q1, q2 = torch.tensor(0.8, dtype=F64), torch.tensor(1.4, dtype=F64)
    s = torch.linspace(-0.9, 0.9, 7, dtype=F64)
    up, down = (theory.dual(name, q1, q2, s + h)[0] for h in (1e-6, -1e-6))
    torch.testing.assert_close((up - down) / 2e-6, theory.dual(name, q1, q2, s)[1], rtol=0, atol=1e-8)


@pytest.mark.parametrize("k", [0, 1, 2, 5])
def test_hermite_polynomials_are_powers(k: int) -> None:
    one, s = torch.ones((), dtype=F64), torch.linspace(-1, 1, 9, dtype=F64)
    K, slope = theory.dual(torch.eye(6, dtype=F64)[k], one, one, s)
    torch.testing.assert_close(K, s**k, rtol=0, atol=1e-12)
    torch.testing.assert_close(slope, k * s ** max(k - 1, 0), rtol=0, atol=1e-11)


def test_coefficients_and_function_agree_at_any_variance() -> None:
    a = torch.tensor([0.3, 1.0, -0.5, 0.2], dtype=F64)  # 0.3 + z - 0.5 (z^2 - 1) / sqrt 2 + 0.2 (z^3 - 3 z) / sqrt 6

    def f(z: torch.Tensor) -> torch.Tensor:
        return 0.3 + z - 0.5 * (z**2 - 1) / math.sqrt(2) + 0.2 * (z**3 - 3 * z) / math.sqrt(6)

    q1, q2, s = (torch.tensor(v, dtype=F64) for v in (0.6, 2.0, -0.7))
    for ours, theirs in zip(theory.dual(a, q1, q2, s), theory.dual(f, q1, q2, s), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0)
    torch.testing.assert_close(theory.hermite_coefficients(f, degree=3), a, rtol=0, atol=1e-12)


def test_quadrature_agrees_with_numpy() -> None:
    x, w = np.polynomial.hermite_e.hermegauss(80)
    second = (w * np.tanh(x) * (x**3 - 3 * x)).sum() / np.sqrt(2 * np.pi) / np.sqrt(6)
    assert float(theory.hermite_coefficients(torch.tanh)[3]) == pytest.approx(second, abs=1e-9)


def test_a_kinked_function_is_refused_and_a_wiggly_one_needs_degree() -> None:
    one = torch.ones((), dtype=F64)
    with pytest.raises(ValueError, match=r"Hermite coefficients miss .* Repair"):
        theory.dual(torch.relu, one, one, one / 2)
    with pytest.raises(ValueError, match="miss"):
        theory.dual(lambda z: torch.sin(4 * z), one, one, one / 2, degree=16)
    K, _ = theory.dual(lambda z: torch.sin(4 * z), one, one, one / 2, degree=120)
    assert float(K) == pytest.approx((math.exp(-8) - math.exp(-24)) / 2, rel=1e-9)


def test_the_diagonal_of_a_relu_is_exact() -> None:
    q = gaussian(1000, seed=3).square()
    K, slope = theory.dual("relu", q, q, q)
    assert bool((slope == 0.5).all())
    torch.testing.assert_close(K, q / 2, rtol=1e-15, atol=0)


# --------------------------------------------------------------------------------------------------------- all layers


@pytest.mark.parametrize("activation", ["relu", "erf", torch.tanh])
@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_blocks_and_symmetry_change_nothing(activation, block: int) -> None:
    x = gaussian(10, 4)
    options = {"depth": 3, "activation": activation, "weight_std": 1.2, "bias_std": 0.3}
    whole, parts = theory.kernels(x, **options), theory.kernels(x, block=block, **options)
    apart = theory.kernels(x, x + 0.0, block=block, **options)
    for a, b, c in zip(whole, parts, apart, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)
        assert torch.equal(b, b.T)
        torch.testing.assert_close(a, c, rtol=0, atol=3e-7)  # at a kink rounding of equal points shows as its root
        assert torch.linalg.eigvalsh(a)[0] > -1e-12
    assert torch.equal(theory.nngp(x, block=block, **options), parts.nngp)
    assert torch.equal(theory.ntk(x, block=block, **options), parts.ntk)


def test_depth_one_is_linear_and_deep_relu_has_a_closed_diagonal() -> None:
    x = gaussian(5, 3)
    one = theory.kernels(x, depth=1, weight_std=2.0, bias_std=0.5)
    torch.testing.assert_close(one.nngp, 4 * x @ x.T / 3 + 0.25)
    assert torch.equal(one.nngp, one.ntk)
    unit = x / x.norm(dim=1, keepdim=True) * math.sqrt(3)
    deep = theory.ntk(unit, depth=7, weight_std=math.sqrt(2))
    torch.testing.assert_close(deep.diagonal(), torch.full((5,), 14.0, dtype=F64))


def test_float32_inputs_and_zero_inputs() -> None:
    x = gaussian(4, 3).float()
    assert theory.ntk(x, depth=3).dtype == F64
    torch.testing.assert_close(theory.ntk(x, depth=3), theory.ntk(x.double(), depth=3))
    x[0] = 0
    K = theory.kernels(x, depth=3)
    assert bool(torch.isfinite(K.ntk).all()) and float(K.nngp[0].abs().max()) < 1e-150
    with pytest.raises(ValueError, match="bias_std > 0"):
        theory.ntk(x, depth=3, activation=torch.tanh)


def test_real_networks_have_this_covariance() -> None:
    """Monte Carlo over 400 networks of width 300: errors of 1 / sqrt(400), and 1 / 300."""
    x, runs, n = gaussian(3, 5), 400, 300
    draw, outs = generator(2), []
    for _ in range(runs):
        a, z = x, None
        for m, k in ((5, n), (n, n), (n, 1)):
            z = 1.3 * a @ torch.randn(m, k, generator=draw, dtype=F64) / math.sqrt(m)
            z = z + 0.2 * torch.randn(k, generator=draw, dtype=F64)
            a = torch.erf(z)
        outs.append(z[:, 0])
    f = torch.stack(outs)
    told = theory.nngp(x, depth=3, activation="erf", weight_std=1.3, bias_std=0.2)
    error = (f.T @ f / runs - told).abs() / (told.diagonal()[:, None] * told.diagonal()).sqrt()
    assert float(error.max()) < 4.5 * math.sqrt(2 / runs)


BAD = [
    (lambda x: theory.kernels(x[0], depth=2), "x1"),
    (lambda x: theory.kernels(x, x[:, :2], depth=2), "x2"),
    (lambda x: theory.kernels(x * math.nan, depth=2), "x1"),
    (lambda x: theory.kernels(x.long(), depth=2), "x1"),
    (lambda x: theory.kernels(x, depth=0), "depth"),
    (lambda x: theory.kernels(x, depth=True), "depth"),
    (lambda x: theory.kernels(x, depth=2, block=0), "block"),
    (lambda x: theory.kernels(x, depth=2, weight_std=0.0), "weight_std"),
    (lambda x: theory.kernels(x, depth=2, bias_std=-1.0), "weight_std, bias_std"),
    (lambda x: theory.kernels(x, depth=2, activation="swish"), "activation"),
    (lambda x: theory.kernels(x, depth=2, activation=3), "activation"),
    (lambda x: theory.ntk(x, deep=3), "network"),
    (lambda x: theory.nngp(x), "network"),
    (lambda x: theory.hermite_coefficients(torch.tanh, -1.0), "variance"),
    (lambda x: theory.largest_rate(x), "kernel"),
    (lambda x: theory.linearized_dynamics(x, x[:, 0], 1.0), "kernel"),
    (lambda x: theory.linearized_dynamics(x @ x.T, x[:2, 0], 1.0), "y"),
    (lambda x: theory.linearized_dynamics(x @ x.T, x[:, 0], -1.0), "time"),
    (lambda x: theory.linearized_dynamics(x @ x.T, x[:, 0], 1.5, discrete=True), "time"),
    (lambda x: theory.linearized_dynamics(x @ x.T, x[:, 0], 1.0, lr=0.0), "time, lr"),
    (lambda x: theory.linearized_dynamics(x @ x.T, x[:, 0], 1.0, cross=x), "cross"),
    (lambda x: theory.linearized_dynamics(x @ x.T, x[:, 0], 1.0, start=x), "start"),
    (lambda x: theory.ensemble_dynamics(*[Kernels(x @ x.T, x @ x.T)] * 2, x, x[:, 0], 1.0), "nngp_test"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "names"), BAD)
def test_bad_input_is_named_with_a_repair(call, names: str) -> None:
    with pytest.raises(ValueError, match=f"^{names}.*: received .*[Vv]alid .*Repair: "):
        call(gaussian(4, 3))


# ------------------------------------------------------------------------------------------------------------ training


def problem(N: int = 6, M: int = 3):
    x, new = gaussian(N, 4), gaussian(M, 4, seed=1)
    both, cross = theory.kernels(x, depth=3, bias_std=0.1), theory.kernels(new, x, depth=3, bias_std=0.1)
    return (
        both,
        cross,
        theory.nngp(new, depth=3, bias_std=0.1),
        gaussian(N, 2, seed=2),
        gaussian(N, 2, seed=3),
        gaussian(M, 2, seed=4),
    )


def test_steps_are_those_of_the_linear_model() -> None:
    both, cross, _, y, start, start_new = problem()
    lr, f, g = 0.4 * theory.largest_rate(both.ntk), start.clone(), start_new.clone()
    seen = [(f, g)]
    for _ in range(30):
        push = lr / len(y) * (y - f)
        f, g = f + both.ntk @ push, g + cross.ntk @ push
        seen.append((f, g))
    times = list(range(31))
    options = {"lr": lr, "discrete": True, "start": start}
    at_train = theory.linearized_dynamics(both.ntk, y, times, **options)
    at_new = theory.linearized_dynamics(both.ntk, y, times, cross=cross.ntk, start_cross=start_new, **options)
    torch.testing.assert_close(at_train, torch.stack([f for f, _ in seen]), rtol=0, atol=1e-10)
    torch.testing.assert_close(at_new, torch.stack([g for _, g in seen]), rtol=0, atol=1e-10)
    torch.testing.assert_close(theory.linearized_dynamics(both.ntk, y, 7, **options), at_train[7])


def test_flow_is_a_matrix_exponential_and_the_limit_of_small_steps() -> None:
    both, cross, _, y, start, start_new = problem()
    T = both.ntk / len(y)
    flow = theory.linearized_dynamics(both.ntk, y, 12.5, lr=0.8, start=start)
    torch.testing.assert_close(flow, y + torch.linalg.matrix_exp(-0.8 * 12.5 * T) @ (start - y), rtol=0, atol=1e-12)
    options = {"start": start, "cross": cross.ntk, "start_cross": start_new}
    flow = theory.linearized_dynamics(both.ntk, y, 12.5, lr=0.8, **options)
    steps = theory.linearized_dynamics(both.ntk, y, 125_000, lr=0.8e-4, discrete=True, **options)
    torch.testing.assert_close(flow, steps, rtol=0, atol=1e-4)
    G = cross.ntk @ torch.linalg.inv(both.ntk) @ (torch.eye(6, dtype=F64) - torch.linalg.matrix_exp(-10 * T))
    torch.testing.assert_close(flow, start_new + G @ (y - start), rtol=0, atol=1e-11)


def test_the_end_is_kernel_regression() -> None:
    both, cross, _, y, *_ = problem()
    end = theory.linearized_dynamics(both.ntk, y, [math.inf], cross=cross.ntk)
    torch.testing.assert_close(end, (cross.ntk @ torch.linalg.solve(both.ntk, y))[None], rtol=0, atol=1e-10)
    for discrete in (False, True):
        late = theory.linearized_dynamics(both.ntk, y, 10**7, cross=cross.ntk, discrete=discrete)
        torch.testing.assert_close(late, end[0], rtol=0, atol=1e-8)
    too_fast = theory.linearized_dynamics(both.ntk, y, math.inf, lr=1.01 * theory.largest_rate(both.ntk), discrete=True)
    assert bool(too_fast.isnan().any())


def test_descent_diverges_beyond_the_largest_rate_only() -> None:
    both, _, _, y, *_ = problem()
    top = theory.largest_rate(both.ntk)
    sizes = [
        float((theory.linearized_dynamics(both.ntk, y, 3000, lr=f * top, discrete=True) - y).norm())
        for f in (0.99, 1.01)
    ]
    assert sizes[0] < float(y.norm()) and sizes[1] > 1e6


def test_a_singular_kernel_stays_finite() -> None:
    K = torch.ones(3, 3, dtype=F64)
    y = torch.tensor([1.0, 2.0, 6.0], dtype=F64)
    torch.testing.assert_close(theory.linearized_dynamics(K, y, math.inf), torch.full((3,), 3.0, dtype=F64))
    cross = torch.ones(1, 3, dtype=F64)
    assert float(theory.linearized_dynamics(K, y, math.inf, cross=cross)) == pytest.approx(3.0, abs=1e-9)
    assert bool(theory.linearized_dynamics(K, y, 5.0, cross=cross).isfinite().all())


def test_modes_of_rounding_are_left_alone() -> None:
    A = gaussian(12, 3)
    K, cross, y = A @ A.T, gaussian(4, 3, seed=1) @ A.T, gaussian(12, seed=2)
    told = cross @ torch.linalg.pinv(K, rtol=1e-10) @ y
    for discrete in (False, True):
        end = theory.linearized_dynamics(K, y, math.inf, cross=cross, discrete=discrete)
        torch.testing.assert_close(end, told, rtol=0, atol=1e-11)


GOLDEN_DYNAMICS = [
    (10, False, [-0.16611842, 0.53577078], [0.00629875, 0.06633087]),
    (math.inf, False, [-0.11930042, 0.71104072], [0.00524704, 0.06030354]),
    (math.inf, True, [-0.0979057, 0.9359885], [0.00514916, 0.05692681]),
]


@pytest.mark.parametrize(("time", "last", "mean", "variance"), GOLDEN_DYNAMICS)
def test_golden_ensembles(time, last, mean, variance) -> None:
    x, new = circle(*AROUND), circle(0.3, 2.0)
    y = torch.tensor([1, -1, 0.5, 0, -0.5], dtype=F64)
    train, cross, prior = theory.kernels(x, **ERF), theory.kernels(new, x, **ERF), theory.nngp(new, **ERF)
    if last:
        train, cross = Kernels(train.nngp, train.nngp), Kernels(cross.nngp, cross.nngp)
    found = theory.ensemble_dynamics(train, cross, prior, y, time)
    assert found.mean.tolist() == pytest.approx(mean, abs=1e-7)
    assert found.covariance.diagonal().tolist() == pytest.approx(variance, abs=1e-7)


def test_the_ensemble_is_that_of_its_members() -> None:
    both, cross, prior, y, *_ = problem()
    joint = torch.cat([torch.cat([both.nngp, cross.nngp.T], 1), torch.cat([cross.nngp, prior], 1)])
    starts = torch.linalg.cholesky(joint + 1e-10 * torch.eye(9, dtype=F64)) @ gaussian(9, 60_000, seed=5)
    target = y[:, :1].expand(6, 60_000)
    ends = theory.linearized_dynamics(
        both.ntk, target, 40.0, start=starts[:6], cross=cross.ntk, start_cross=starts[6:]
    )  # fmt: skip
    told = theory.ensemble_dynamics(both, cross, prior, y[:, 0], 40.0)
    spread = told.covariance.diagonal().sqrt()
    assert float(((ends.mean(1) - told.mean) / spread).abs().max()) < 4.5 / math.sqrt(60_000)
    off = (torch.cov(ends) - told.covariance).abs() / (spread[:, None] * spread)
    assert float(off.max()) < 4.5 * math.sqrt(2 / 60_000)
    several = theory.ensemble_dynamics(both, cross, prior, y, [0.0, 40.0])
    assert several.mean.shape == (2, 3, 2) and several.covariance.shape == (2, 3, 3)
    torch.testing.assert_close(several.covariance[0], prior)


@given(st.integers(2, 5), st.floats(0.5, 2), st.floats(0, 1), st.sampled_from(["relu", "erf", "gelu", "sin"]))
def test_kernels_are_covariances(depth: int, sw: float, sb: float, activation: str) -> None:
    x = gaussian(6, 3, seed=depth)
    for K in theory.kernels(x, depth=depth, activation=activation, weight_std=sw, bias_std=sb):
        assert torch.equal(K, K.T)
        assert float(torch.linalg.eigvalsh(K)[0]) > -1e-9 * float(K.diagonal().max())
