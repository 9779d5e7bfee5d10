"""What the laws do not say about SPD(n): accuracy against 60 digits, gradients, the M and theta, messages."""

import math
import re
from collections.abc import Callable
from itertools import pairwise, product
from types import ModuleType

import mpmath
import pytest
import torch
from torch import Tensor

from repgeom.manifolds import spd
from repgeom.manifolds.spd import affine_invariant as aim
from repgeom.manifolds.spd import bures_wasserstein as bw
from repgeom.manifolds.spd import log_cholesky as lcm
from repgeom.manifolds.spd import log_euclidean as lem
from repgeom.manifolds.spd.matrix_functions import derivative

F64 = torch.float64
METRICS = (aim, lem, lcm, bw)
EYE = torch.eye(3, dtype=F64)
every_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__.split(".")[-1])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sym(A: Tensor) -> Tensor:
    return (A + A.mT) / 2


def symmetric(*shape: int, seed: int = 1) -> Tensor:
    return sym(torch.randn(*shape, generator=generator(seed), dtype=F64))


def points(*shape: int, seed: int = 0, size: int = 3) -> Tensor:
    return spd.random(math.prod(shape), generator(seed), F64, size=size).reshape(*shape, size, size)


def orthogonal(n: int, g: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(n, n, generator=g, dtype=F64)).Q


def conditioned(n: int, kappa: float, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """X with random eigenvectors and eigenvalues from 1 down to 1 / kappa, and a factor of it."""
    Q, values = orthogonal(n, g), torch.logspace(0, -math.log10(kappa), n, dtype=F64)
    return sym(Q * values @ Q.mT), Q * values.sqrt()


def pair(kind: str, kappa: float, seed: int) -> tuple[Tensor, Tensor]:
    """6 x 6: independent of each other, or at affine-invariant distance 0.05."""
    g = generator(seed)
    A, F = conditioned(6, kappa, g)
    if kind == "far":
        return A, conditioned(6, kappa, g)[0]
    S = sym(torch.randn(6, 6, generator=g, dtype=F64))
    return A, sym(F @ spd.expm(0.05 * S / S.norm()) @ F.mT)


def in_mpmath(f: Callable[[mpmath.mpf], mpmath.mpf], X: mpmath.matrix) -> mpmath.matrix:
    values, vectors = mpmath.eigsy((X + X.T) / 2)
    return vectors * mpmath.diag([f(value) for value in values]) * vectors.T


def exact_bures_wasserstein(A: Tensor, B: Tensor) -> mpmath.mpf:
    a, b = mpmath.matrix(A.tolist()), mpmath.matrix(B.tolist())
    half = in_mpmath(mpmath.sqrt, a)
    middle = in_mpmath(mpmath.sqrt, half * b * half)
    return mpmath.sqrt(mpmath.fsum(a[i, i] + b[i, i] - 2 * middle[i, i] for i in range(a.rows)))


def exact_affine_invariant(A: Tensor, B: Tensor) -> mpmath.mpf:
    inverse = in_mpmath(lambda value: 1 / mpmath.sqrt(value), mpmath.matrix(A.tolist()))
    logarithm = in_mpmath(mpmath.log, inverse * mpmath.matrix(B.tolist()) * inverse)
    return mpmath.mnorm(logarithm, "f")


def relative_error(value: Tensor, exact: mpmath.mpf) -> float:
    return float(abs(value.item() - exact) / abs(exact))


# ----------------------------------------------------------------------------------------------------- matrix functions

FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[..., mpmath.mpf], Callable[..., mpmath.mpf]]] = {
    "sqrtm": (spd.sqrtm, mpmath.sqrt, lambda x: 1 / (2 * mpmath.sqrt(x))),
    "inv_sqrtm": (spd.inv_sqrtm, lambda x: 1 / mpmath.sqrt(x), lambda x: -1 / (2 * x * mpmath.sqrt(x))),
    "logm": (spd.logm, mpmath.log, lambda x: 1 / x),
    "expm": (spd.expm, mpmath.exp, mpmath.exp),
}  # each with its function of an eigenvalue and the derivative of that
for power in (0.3, 2.0, -1.7):
    FUNCTIONS[f"powm {power}"] = (
        lambda X, power=power: spd.powm(X, power),
        lambda x, power=power: mpmath.power(x, power),
        lambda x, power=power: power * mpmath.power(x, mpmath.mpf(power) - 1),
    )

EIGENVALUES = {
    "generic": (0.4, 1.1, 2.5),
    "identity": (1.0, 1.0, 1.0),
    "repeated": (0.5, 0.5, 2.0),
    "nearly repeated": (0.5, 0.5 + 1e-9, 2.0),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)
every_spectrum = pytest.mark.parametrize("values", EIGENVALUES.values(), ids=EIGENVALUES)


def turned(values: tuple[float, ...]) -> Tensor:
    Q = orthogonal(3, generator(3))
    return EYE.clone() if set(values) == {1.0} else sym(Q * torch.tensor(values, dtype=F64) @ Q.mT)


@every_function
@every_spectrum
def test_gradient_of_matrix_functions(name: str, values: tuple[float, ...]) -> None:
    X = turned(values).requires_grad_()
    assert torch.autograd.gradcheck(FUNCTIONS[name][0], X, atol=1e-7, rtol=1e-6)


@every_function
def test_values_of_matrix_functions(name: str) -> None:
    """At condition 1e4 each entry against 60 digits, relative to what rounding of the input alone would do."""
    function, scalar, slope = FUNCTIONS[name]
    X, _ = conditioned(4, 1e4, generator())
    with mpmath.workdps(60):
        exact = torch.tensor(in_mpmath(scalar, mpmath.matrix(X.tolist())).tolist(), dtype=F64).reshape(4, 4)
        steepest = max(abs(float(slope(mpmath.mpf(value)))) for value in torch.linalg.eigvalsh(X).tolist())
    size = max(steepest, float(exact.abs().max()))
    assert (function(X) - exact).abs().max() < 10 * torch.finfo(F64).eps * size


@every_function
def test_divided_differences(name: str) -> None:
    """The gradient of entry (0, 1) at diag(a, b) is half the divided difference of a and b, whatever their gap."""
    function, scalar, slope = FUNCTIONS[name]
    for base, gap in product((1e-6, 0.37, 123.0), (1e12, 1e6, 3.0, 1.0, 1e-3, 1e-8, 1e-14, 0.0)):
        a, b = base, base * (1 + gap)
        if name == "expm":  # there the eigenvalues' difference counts, not their ratio
            a, b = math.log(base), math.log(base) + min(gap, 30)
        X = torch.diag(torch.tensor([b, a], dtype=F64)).requires_grad_()
        (gradient,) = torch.autograd.grad(function(X)[0, 1], X)
        with mpmath.workdps(60):
            a, b = mpmath.mpf(a), mpmath.mpf(b)
            exact = slope(a) if a == b else (scalar(a) - scalar(b)) / (a - b)
            assert relative_error(2 * gradient[0, 1], exact) < 1e-14, (base, gap)
        assert gradient[0, 1] == gradient[1, 0]


def test_differentiating_through_eigh_fails_where_we_do_not() -> None:
    def naive(X: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(X)
        return vectors * values.sqrt() @ vectors.mT

    for function, works in ((naive, False), (spd.sqrtm, True)):
        X = EYE.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((function(X) * symmetric(3, 3)).sum(), X)
        assert bool(gradient.isfinite().all()) is works
    torch.testing.assert_close(gradient, symmetric(3, 3) / 2)


@every_spectrum
@pytest.mark.parametrize("function, power", [("log", 1.0), ("exp", 1.0), ("power", 0.3), ("power", -1.7)])
def test_derivative(function: str, power: float, values: tuple[float, ...]) -> None:
    """Against the backward pass, <D f[V], G> = <V, D f'[G]>; and its inverse."""
    forward = {"log": spd.logm, "exp": spd.expm, "power": lambda X: spd.powm(X, power)}[function]
    X, V, G = turned(values), symmetric(5, 3, 3), symmetric(5, 3, 3, seed=2)
    moved = derivative(function, X, V, power)
    x = X.expand(5, 3, 3).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(forward(x), x, G)
    torch.testing.assert_close((moved * G).sum((1, 2)), (gradient * V).sum((1, 2)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(derivative(function, X, moved, power, inverse=True), V, rtol=0, atol=1e-12)
    v = V[:1].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: derivative(function, X, v, power), v)


def test_derivative_messages() -> None:
    with pytest.raises(ValueError, match=r"function: received 'sin'; valid is log, exp or power\. Repair: "):
        derivative("sin", EYE, EYE)
    for call in (derivative, lambda name, X, V: lem.exp(X, V)):
        with pytest.raises(ValueError, match=r"X: received a tensor that requires a gradient; .*Repair: X\.detach"):
            call("log", EYE.clone().requires_grad_(), EYE)


def test_spectral_function_of_indefinite_matrices() -> None:
    X = turned((-1.0, 0.5, 2.0)).requires_grad_()
    cube = spd.spectral_function(X, lambda l: l**3, lambda a, b: a * a + a * b + b * b, positive=False)
    torch.testing.assert_close(cube, X @ X @ X)
    (gradient,) = torch.autograd.grad(cube.trace(), X)
    torch.testing.assert_close(gradient, (3 * X @ X).detach())


def test_lyapunov_solves_its_equation() -> None:
    X, V = conditioned(6, 1e8, generator())[0], symmetric(6, 6)
    Y = spd.lyapunov(X, V)
    assert (X @ Y + Y @ X - V).abs().max() < 1e-15 * 1e8
    torch.testing.assert_close(spd.lyapunov(EYE, V[:3, :3]), V[:3, :3] / 2, rtol=0, atol=1e-15)


def test_lyapunov_adjoint() -> None:
    """<J'g, v> = <g, Jv>, with Jv from Kronecker products; one matrix beside a batch of right-hand sides."""
    X, V = points(), symmetric(2, 4, 3, 3)
    dX, dV, g = symmetric(3, 3, seed=2), symmetric(2, 4, 3, 3, seed=3), symmetric(2, 4, 3, 3, seed=4)
    K = torch.kron(X, EYE) + torch.kron(EYE, X)

    def slow(V: Tensor) -> Tensor:
        return torch.linalg.solve(K, V.flatten(-2)[..., None]).reshape(V.shape)

    x, v = X.clone().requires_grad_(), V.clone().requires_grad_()
    Y = spd.lyapunov(x, v)
    torch.testing.assert_close(Y.detach(), slow(V), rtol=0, atol=1e-13)
    to_x, to_v = torch.autograd.grad(Y, (x, v), g)
    assert to_x.shape == X.shape
    forward = slow(dV - dX @ slow(V) - slow(V) @ dX)
    assert abs((to_x * dX).sum() + (to_v * dV).sum() - (g * forward).sum()) < 1e-9
    assert torch.autograd.gradcheck(spd.lyapunov, (EYE.clone().requires_grad_(), V[0, 0].clone().requires_grad_()))
    many = points(5).requires_grad_()
    one = V[0, 0].clone().requires_grad_()
    to_many, to_one = torch.autograd.grad(spd.lyapunov(many, one).sum(), (many, one))
    assert to_many.shape == (5, 3, 3) and to_one.shape == (3, 3)


# ------------------------------------------------------------------------------------------------------------ distances

CONDITIONS = (1e2, 7e3, 1e4, 1e6, 1e8, 1e10, 1e12)
every_close_or_far = pytest.mark.parametrize("kind", ["far", "near"])
every_pair = pytest.mark.parametrize("kind, kappa", list(product(("far", "near"), CONDITIONS)))


@every_pair
def test_bures_wasserstein_distance_is_accurate(kind: str, kappa: float) -> None:
    """The trace formula is wrong in the second digit for the nearby pair at condition 1e8."""
    for seed in range(3):
        A, B = pair(kind, kappa, seed)
        with mpmath.workdps(60):
            exact = exact_bures_wasserstein(A, B)
        for d in (bw.distance(A, B), bw.distance(B, A), bw.distance(A, B, M=torch.eye(6, dtype=F64))):
            assert relative_error(d, exact) < (1e-15 if kind == "far" else 1e-12) * 5


@every_pair
def test_affine_invariant_distance_is_accurate(kind: str, kappa: float) -> None:
    """Rounding of A moves its least eigenvalue by kappa units of rounding: no algorithm does better."""
    for seed in range(3):
        A, B = pair(kind, kappa, seed)
        with mpmath.workdps(60):
            exact = exact_affine_invariant(A, B)
        size = float(exact)
        for d in (aim.distance(A, B), aim.distance(B, A)):
            assert relative_error(d, exact) < 5 * kappa * torch.finfo(F64).eps / size + 1e-15


@every_metric
def test_gradient_of_the_squared_distance(metric: ModuleType) -> None:
    """Against finite differences; -2 log towards the point, in the metric's own scalar product."""
    A, B = points(2), points(2, seed=1)
    a, b = A.clone().requires_grad_(), B.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: metric.distance(sym(a), sym(b)).square(), (a, b), atol=1e-7)
    (gradient,) = torch.autograd.grad(metric.distance(a, B).square().sum(), a)
    V = symmetric(2, 3, 3)
    slope = -2 * metric.inner(A, metric.log(A, B), V)
    torch.testing.assert_close((gradient * V).sum((1, 2)), slope, rtol=1e-10, atol=1e-10)


def test_gradient_of_the_bures_wasserstein_distance() -> None:
    """I - T, also at condition 1e12, with a batch beside one matrix."""
    for kappa in (1e2, 3e3, 1e5, 1e12):
        A, F = conditioned(6, kappa, generator())
        B = sym(F @ spd.expm(0.3 * symmetric(5, 6, 6)) @ F.mT)
        a, b = A.clone().requires_grad_(), B.clone().requires_grad_()
        to_a, to_b = torch.autograd.grad(bw.distance(a, b).square().sum(), (a, b))
        identity = torch.eye(6, dtype=F64)
        expected = identity - bw.optimal_map(A, B), identity - bw.optimal_map(B, A)
        for ours, theirs in ((to_a, expected[0].sum(0)), (to_b, expected[1])):
            assert (ours - theirs).abs().max() < 1e-13 * kappa**0.5 * theirs.abs().max()


@every_metric
def test_equal_matrices_have_distance_and_gradient_zero(metric: ModuleType) -> None:
    for A in (points(4), EYE.expand(4, 3, 3), torch.stack([conditioned(3, 1e12, generator(s))[0] for s in range(4)])):
        for power in (1.0, 2.0):
            a, b = A.clone().requires_grad_(), A.clone().requires_grad_()
            d = metric.distance(a, b)
            assert (d == 0).all()
            for gradient in torch.autograd.grad(d.pow(power).sum(), (a, b)):
                assert (gradient == 0).all()


@every_metric
def test_gradients_of_the_other_verbs(metric: ModuleType) -> None:
    """Towards everything, except that log-Euclidean tangent vectors stand at a fixed point."""
    X, Y = (spd.powm(points(seed=seed, size=2), 0.3).requires_grad_() for seed in (0, 1))
    V = (0.05 * symmetric(2, 2)).requires_grad_()
    base = X.detach() if metric is lem else X
    end = Y.detach() if metric is lem else Y
    for verb, arguments in (
        (lambda X, V: metric.exp(sym(X), sym(V)), (base, V)),
        (lambda X, Y: metric.log(sym(X), sym(Y)), (base, Y)),
        (lambda X, Y: metric.geodesic(sym(X), sym(Y), 0.3), (X, Y)),
        (lambda X, Y, V: metric.transport(sym(X), sym(Y), sym(V)), (base, end, V)),
        (lambda X, V: metric.inner(sym(X), sym(V), sym(V)), (base, V)),
    ):
        assert torch.autograd.gradcheck(verb, arguments, atol=1e-7)


def test_affine_invariant_distance_ignores_units() -> None:
    """A congruence of condition 1e6 takes matrices of condition 10 to some of condition 1e12."""
    A, B = points(size=4), points(seed=1, size=4)
    C = torch.diag(torch.logspace(0, -6, 4, dtype=F64)) @ orthogonal(4, generator())
    move = sym(C @ A @ C.mT), sym(C @ B @ C.mT)
    assert torch.linalg.cond(move[0]) > 1e11
    assert aim.distance(*move).item() == pytest.approx(aim.distance(A, B).item(), rel=1e-4)
    C = conditioned(4, 1e3, generator())[0]
    move = sym(C @ A @ C.mT), sym(C @ B @ C.mT)
    assert torch.linalg.cond(move[0]) > 1e5
    assert aim.distance(*move).item() == pytest.approx(aim.distance(A, B).item(), rel=1e-10)


def test_scaling() -> None:
    """Bures-Wasserstein distances are in the unit of sqrt(A), the others have none."""
    A, B = points(5), points(5, seed=1)
    for metric in (aim, lem):
        torch.testing.assert_close(metric.distance(9 * A, 9 * B), metric.distance(A, B))
    torch.testing.assert_close(bw.distance(9 * A, 9 * B), 3 * bw.distance(A, B))


# --------------------------------------------------------------------------------------- Bures-Wasserstein, M and theta


def test_optimal_map() -> None:
    A, B = points(4), points(4, seed=1)
    T = bw.optimal_map(A, B)
    torch.testing.assert_close(T @ A @ T, B)
    torch.testing.assert_close(T @ bw.optimal_map(B, A), EYE.expand(4, 3, 3))
    assert (torch.linalg.eigvalsh(T) > 0).all()
    for a in (A[0], B[0], EYE):
        arguments = (a.clone().requires_grad_(), B[:1].clone().requires_grad_())
        assert torch.autograd.gradcheck(lambda a, b: bw.optimal_map(sym(a), sym(b)), arguments, atol=1e-7)


def test_bures_wasserstein_geodesic() -> None:
    """(1 - t)^2 A + t^2 B + t (1 - t) (A T + T A) at five times; at the identity everything is a square."""
    A, B = points(), points(seed=1)
    t = torch.linspace(0, 1, 5, dtype=F64)
    path, s = bw.geodesic(A, B, t), t[:, None, None]
    T = bw.optimal_map(A, B)
    torch.testing.assert_close(path, (1 - s) ** 2 * A + s**2 * B + s * (1 - s) * (A @ T + T @ A))
    torch.testing.assert_close(path[1], bw.geodesic(A, B, 0.25))
    torch.testing.assert_close(bw.log(EYE, B), 2 * (spd.sqrtm(B) - EYE))
    torch.testing.assert_close(bw.exp(EYE, 0.3 * T), (EYE + 0.15 * T) @ (EYE + 0.15 * T))


@every_metric
def test_geodesics_broadcast_times(metric: ModuleType) -> None:
    A, B = points(2, 3), points(3, seed=1)
    t = torch.rand(2, 3, generator=generator(), dtype=F64)
    path = metric.geodesic(A, B, t)
    assert path.shape == (2, 3, 3, 3)
    torch.testing.assert_close(path[1, 2], metric.geodesic(A[1, 2], B[2], t[1, 2].item()))


M = points(seed=7)
GENERALISED = {"M": {"M": M}, "theta 0.5": {"theta": 0.5}, "M, theta -0.7": {"M": M, "theta": -0.7}}
generalised = pytest.mark.parametrize("options", GENERALISED.values(), ids=GENERALISED)


@generalised
def test_generalised_exp_and_log(options: dict) -> None:
    A, B = points(4), points(4, seed=1)
    V = bw.log(A, B, **options)
    torch.testing.assert_close(bw.exp(A, V, **options), B)
    torch.testing.assert_close(bw.log(A, bw.exp(A, 0.2 * V, **options), **options), 0.2 * V)
    d = bw.distance(A, B, **options)
    torch.testing.assert_close(bw.inner(A, V, V, **options), d.square())
    path = bw.geodesic(A, B, 0.3, **options)
    torch.testing.assert_close(path, bw.exp(A, 0.3 * V, **options))
    torch.testing.assert_close(bw.distance(A, path, **options), 0.3 * d)
    assert bw.domain(A, V, **options).all()


@generalised
def test_generalised_transport(options: dict) -> None:
    A, B, U, V = points(4), points(4, seed=1), symmetric(4, 3, 3), symmetric(4, 3, 3, seed=2)
    moved = bw.transport(A, B, U, **options), bw.transport(A, B, V, **options)
    torch.testing.assert_close(bw.inner(B, *moved, **options), bw.inner(A, U, V, **options))
    velocity = bw.transport(A, B, bw.log(A, B, **options), **options)
    torch.testing.assert_close(velocity, -bw.log(B, A, **options))


@generalised
def test_generalised_mean(options: dict) -> None:
    Xs, weights = points(6), torch.rand(6, generator=generator(), dtype=F64)
    G = bw.mean(Xs, weights, **options)
    pull = (weights[:, None, None] * bw.log(G, Xs, **options)).sum(0)
    torch.testing.assert_close(pull, torch.zeros_like(pull), rtol=0, atol=1e-12)


@generalised
def test_generalised_gradients(options: dict) -> None:
    A, B = points(seed=3).requires_grad_(), points(seed=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda A, B: bw.distance(sym(A), sym(B), **options).square(), (A, B), atol=1e-7)
    if "M" in options:
        theta, metric = options.get("theta", 1.0), M.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda M: bw.distance(A.detach(), B, M=M, theta=theta), metric, atol=1e-7)


def test_the_identity_as_metric_matrix_is_plain() -> None:
    A, B, V = points(4), points(4, seed=1), 0.1 * symmetric(4, 3, 3)
    for plain, with_m in (
        (bw.distance(A, B), bw.distance(A, B, M=EYE)),
        (bw.log(A, B), bw.log(A, B, M=EYE)),
        (bw.exp(A, V), bw.exp(A, V, M=EYE, theta=1.0)),
        (bw.inner(A, V, V), bw.inner(A, V, V, M=EYE)),
        (bw.geodesic(A, B, 0.3), bw.geodesic(A, B, 0.3, M=EYE)),
        (bw.transport(A, B, V), bw.transport(A, B, V, M=EYE)),
        (bw.mean(A), bw.mean(A, M=EYE)),
    ):
        torch.testing.assert_close(plain, with_m, rtol=0, atol=1e-12)


def test_metric_matrix_at_the_point_is_affine_invariant() -> None:
    for X, U, V in zip(points(4), symmetric(4, 3, 3), symmetric(4, 3, 3, seed=2), strict=True):
        torch.testing.assert_close(bw.inner(X, U, V, M=X), aim.inner(X, U, V) / 4)


def test_metric_matrix_is_a_congruence() -> None:
    """d(A, B; M) = d(M^-1/2 A M^-1/2, ...), and any other root of M^-1 does as well."""
    A, B = points(4), points(4, seed=1)
    for root in (spd.inv_sqrtm(M), torch.linalg.inv(torch.linalg.cholesky(M))):
        moved = bw.distance(sym(root @ A @ root.mT), sym(root @ B @ root.mT))
        torch.testing.assert_close(bw.distance(A, B, M=M), moved)


def test_power_deformation_tends_to_log_euclidean() -> None:
    A, B = points(4), points(4, seed=1)
    limit = lem.distance(A, B) / 2
    for theta in (1e-3, -1e-3):
        torch.testing.assert_close(bw.distance(A, B, theta=theta), limit, rtol=2e-3, atol=0)
    errors = [(bw.distance(A, B, theta=theta) - limit).abs().max().item() for theta in (1e-1, 1e-2, 1e-3, 1e-4)]
    assert errors == sorted(errors, reverse=True)
    torch.testing.assert_close(bw.distance(A, B, theta=0.5), 2 * bw.distance(spd.sqrtm(A), spd.sqrtm(B)))


def test_domain_of_the_exponential() -> None:
    """I + L_X[V] > 0. Along log(X, Y) it ends at time t with (1 - t) I + t T singular."""
    X, Y = points(), points(seed=1)
    V = bw.log(X, Y)
    least = torch.linalg.eigvalsh(bw.optimal_map(X, Y))[0].item()
    end = 1 / (1 - least)
    assert least < 1 < end
    assert bw.domain(X, torch.stack([-V * 0, 0.999 * end * V, 1.001 * end * V])).tolist() == [True, True, False]
    close = bw.exp(X, 0.999 * end * V)
    torch.testing.assert_close(bw.log(X, close), 0.999 * end * V)
    message = r"^V: received a tangent vector that leaves the cone \(least eigenvalue of I \+ L_X\[V\] is -0\.001, "
    for options in ({}, {"M": EYE}, {"theta": 1.0}):
        with pytest.raises(ValueError, match=message + r"in 1 of 2\); valid are .*Repair: a shorter step"):
            bw.exp(X, torch.stack([V, 1.001 * end * V]), **options)
    assert bw.domain(X, 100 * V, theta=0.5).item() is False
    with pytest.raises(ValueError, match="leaves the cone"):
        bw.exp(X, 100 * V, theta=0.5)
    torch.testing.assert_close(bw.exp(X, torch.zeros_like(X)), X)


def test_bures_wasserstein_mean() -> None:
    """The mean of the optimal maps is the identity; the mean of commuting matrices is the square of the mean root."""
    Xs, weights = points(2, 7), torch.rand(7, generator=generator(), dtype=F64)
    for w in (None, weights, 5 * weights):
        G = bw.mean(Xs, w)
        assert G.shape == (2, 3, 3)
        share = torch.full((7,), 1 / 7, dtype=F64) if w is None else w / w.sum()
        T = (share[:, None, None] * bw.optimal_map(G[:, None], Xs)).sum(1)
        torch.testing.assert_close(T, EYE.expand(2, 3, 3), rtol=0, atol=1e-13)
    torch.testing.assert_close(bw.mean(Xs, weights), bw.mean(Xs, 5 * weights))
    torch.testing.assert_close(bw.mean(Xs[0], torch.eye(7, dtype=F64)[3]), Xs[0, 3])
    roots = torch.rand(5, 3, generator=generator(), dtype=F64) + 0.1
    torch.testing.assert_close(bw.mean(torch.diag_embed(roots**2)), torch.diag(roots.mean(0) ** 2))


@every_close_or_far
@pytest.mark.parametrize("kappa", [1e2, 1e4, 1e6, 1e8])
def test_bures_wasserstein_mean_of_ill_conditioned_matrices(kind: str, kappa: float) -> None:
    _, F = conditioned(6, kappa, generator())
    far = torch.stack([conditioned(6, kappa, generator(seed))[0] for seed in range(8)])
    Xs = far if kind == "far" else sym(F @ spd.expm(0.3 * symmetric(8, 6, 6)) @ F.mT)
    T = bw.optimal_map(bw.mean(Xs), Xs).mean(0)
    assert (T - torch.eye(6, dtype=F64)).abs().max() < 1e-9 + 1e-16 * kappa


def test_one_step_of_the_mean_is_a_gradient_step() -> None:
    Xs, weights = points(7), torch.rand(7, generator=generator(), dtype=F64)
    share = (weights / weights.sum())[:, None, None]
    start = (share * Xs).sum(0)
    once = bw.exp(start, (share * bw.log(start, Xs)).sum(0))
    torch.testing.assert_close(bw.mean(Xs, weights, steps=1), once)
    twice = bw.exp(once, (share * bw.log(once, Xs)).sum(0))
    torch.testing.assert_close(bw.mean(Xs, weights, steps=2), twice)
    once = aim.exp(start, (share * aim.log(start, Xs)).sum(0))
    torch.testing.assert_close(aim.mean(Xs, weights, steps=1), once)


@pytest.mark.parametrize("steps", [None, 3])
def test_gradient_of_the_bures_wasserstein_mean(steps: int | None) -> None:
    Xs, weights = points(4, seed=5).requires_grad_(), torch.tensor([1.0, 2, 0.5, 1], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda X, w: bw.mean(sym(X), w, steps=steps), (Xs, weights), atol=1e-7)
    same = EYE.repeat(4, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda X: bw.mean(sym(X), steps=steps), same, atol=1e-7)


def test_transport_between_commuting_matrices() -> None:
    """V_ij sqrt((y_i + y_j) / (x_i + x_j)) in the common eigenbasis, at condition 1e4."""
    Q = orthogonal(5, generator())
    x, y = torch.logspace(0, -4, 5, dtype=F64), torch.logspace(-2, 0, 5, dtype=F64)
    V = symmetric(5, 5)
    expected = Q @ (V * ((y[:, None] + y) / (x[:, None] + x)).sqrt()) @ Q.mT
    X, Y = sym(Q * x @ Q.mT), sym(Q * y @ Q.mT)
    error = bw.transport(X, Y, Q @ V @ Q.mT) - expected
    assert error.abs().max() < 1e-11 * expected.abs().max()


@every_close_or_far
@pytest.mark.parametrize("kappa", [1e2, 1e4, 1e6])
def test_transport_is_an_isometry(kind: str, kappa: float) -> None:
    """Also where the optimal map stretches some directions a hundredfold."""
    for seed in range(2):
        A, B = pair(kind, kappa, seed)
        F = torch.linalg.cholesky(A)
        U, V = (sym(F @ symmetric(6, 6, seed=seed) @ F.mT) for seed in (2, 3))
        before = bw.inner(A, U, V)
        after = bw.inner(B, bw.transport(A, B, U), bw.transport(A, B, V))
        assert abs(after / before - 1) < 1e-10


def test_transport_is_the_limit_of_the_pole_ladder() -> None:
    """Rungs made of exp and log only. The ladder's error falls like the square of their number."""
    A, B, V = points(seed=3), points(seed=4), symmetric(3, 3)
    exact, errors = bw.transport(A, B, V), []
    for rungs in (8, 16, 32):
        times = torch.linspace(0, 1, 2 * rungs + 1, dtype=F64)
        path = bw.geodesic(A, B, times)
        v = V / (4 * rungs**2)
        for k in range(0, 2 * rungs, 2):
            start, middle, end = path[k : k + 3]
            pole = bw.exp(middle, -bw.log(middle, bw.exp(start, v)))
            v = -bw.log(end, pole)
        errors.append((4 * rungs**2 * v - exact).abs().max().item())
    assert errors[2] < 1e-3
    assert all(3 < coarse / fine < 5 for coarse, fine in pairwise(errors)), errors


def test_transport_says_when_it_did_not_settle() -> None:
    A, B = (conditioned(6, 1e12, generator(seed))[0] for seed in (0, 1))
    with pytest.raises(ValueError, match=r"X, Y: received end points .* did not settle .*Repair: .*shorter pieces"):
        bw.transport(A, B, symmetric(6, 6))


# ------------------------------------------------------------------------------------------------ affine-invariant mean


def test_affine_invariant_mean_moves_along() -> None:
    Xs, C = points(10, size=4), conditioned(4, 1e2, generator())[0]
    moved = aim.mean(sym(C @ Xs @ C.mT))
    expected = sym(C @ aim.mean(Xs) @ C.mT)
    assert aim.distance(moved, expected) < 1e-9
    assert aim.distance(aim.mean(torch.linalg.inv(Xs)), torch.linalg.inv(aim.mean(Xs))) < 1e-10
    determinant = torch.linalg.det(Xs).log().mean()
    torch.testing.assert_close(torch.linalg.det(aim.mean(Xs)).log(), determinant)


@pytest.mark.parametrize("kappa", [1e2, 1e4, 1e6])
def test_affine_invariant_mean_of_scattered_matrices(kappa: float) -> None:
    """Random eigenvectors: a full step overshoots. It settles at rounding, which grows with the condition number."""
    Xs = torch.stack([conditioned(6, kappa, generator(seed))[0] for seed in range(8)])
    G = aim.mean(Xs)
    L = torch.linalg.cholesky(G)
    pull = torch.linalg.solve_triangular(L, aim.log(G, Xs).mean(0), upper=False)
    pull = torch.linalg.solve_triangular(L, pull.mT, upper=False)
    assert pull.abs().max() < 1e-14 * kappa


def test_affine_invariant_mean_in_single_precision() -> None:
    """At condition 1e3 rounding keeps the steps above the unit of rounding; it must stop all the same."""
    for seed in range(5):
        C = conditioned(3, 30.0, generator(seed))[0]
        Xs = sym(C @ points(20, seed=seed) @ C.mT)
        assert aim.distance(aim.mean(Xs.float()).double(), aim.mean(Xs)) < 1e-3


# ---------------------------------------------------------------------------------------------------- shapes, precision


def verbs(metric: ModuleType) -> dict[str, Callable[..., Tensor]]:
    """Functions of two points and a tangent vector at the first."""
    named = {
        "distance": lambda X, Y, V: metric.distance(X, Y),
        "inner": lambda X, Y, V: metric.inner(X, V, V),
        "exp": lambda X, Y, V: metric.exp(X, V),
        "log": lambda X, Y, V: metric.log(X, Y),
        "geodesic": lambda X, Y, V: metric.geodesic(X, Y, 0.3),
        "transport": lambda X, Y, V: metric.transport(X, Y, V),
    }
    if metric is bw:
        named["optimal_map"] = lambda X, Y, V: bw.optimal_map(X, Y)
        named["domain"] = lambda X, Y, V: bw.domain(X, V)
        for title, options in GENERALISED.items():
            named[f"transport {title}"] = lambda X, Y, V, options=options: bw.transport(X, Y, V, **options)
    return named


@every_metric
def test_leading_dimensions_broadcast(metric: ModuleType) -> None:
    X, Y, V = points(2, 3), points(2, 3, seed=1), 0.05 * symmetric(2, 3, 3, 3)
    for name, verb in verbs(metric).items():
        whole = verb(X, Y, V)
        assert whole.shape[:2] == (2, 3), name
        torch.testing.assert_close(whole[1, 2], verb(X[1, 2], Y[1, 2], V[1, 2]))
        for one_x, one_y in ((X[0, 0], Y), (X, Y[0, 0])):
            spread = verb(one_x, one_y, V[0, 0])
            expanded = verb(one_x.expand_as(X), one_y.expand_as(X), V[:1, :1].expand_as(X))
            torch.testing.assert_close(spread.expand_as(expanded), expanded)
        assert verb(X[:0], Y[:0], V[:0]).shape == (0, *whole.shape[1:])
    together = metric.mean(X.transpose(0, 1))
    assert together.shape == (3, 3, 3)
    torch.testing.assert_close(together[1], metric.mean(X[:, 1]))
    assert metric.mean(X[:0]).shape == (0, 3, 3)
    weights = torch.rand(4, 1, 2, generator=generator(), dtype=F64)
    assert metric.mean(X.transpose(0, 1), weights).shape == (4, 3, 3, 3)


@every_metric
def test_single_precision(metric: ModuleType) -> None:
    X, Y, V = points(20), points(20, seed=1), 0.05 * symmetric(20, 3, 3)
    for name, verb in verbs(metric).items():
        low = verb(X.float(), Y.float(), V.float()) if "M" not in name else verb(X, Y, V).float()
        assert low.dtype in (torch.float32, torch.bool), name
        torch.testing.assert_close(low, verb(X, Y, V).to(low.dtype), rtol=1e-4, atol=1e-5)
    weights = torch.rand(20, generator=generator(), dtype=F64)
    low = metric.mean(X.float(), weights)  # of other precision than the matrices
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, metric.mean(X, weights.float()).float(), rtol=1e-4, atol=1e-5)
    for kappa in (1e2, 1e4):
        A, B = (conditioned(6, kappa, generator(seed))[0] for seed in (0, 1))
        exact = bw.distance(A, B)
        torch.testing.assert_close(bw.distance(A.float(), B.float()).double(), exact, rtol=1e-4, atol=0)


def test_one_by_one_matrices() -> None:
    x, y = torch.tensor([[4.0]], dtype=F64), torch.tensor([[9.0]], dtype=F64)
    assert bw.distance(x, y).item() == pytest.approx(1.0)
    assert bw.mean(torch.stack([x, y])).item() == pytest.approx(2.5**2)
    for metric, expected in ((aim, math.log(9 / 4)), (lem, math.log(9 / 4)), (lcm, math.log(3 / 2))):
        assert metric.distance(x, y).item() == pytest.approx(expected)
        assert metric.mean(torch.stack([x, y])).item() == pytest.approx(6.0)


# ------------------------------------------------------------------------------------------------------------- messages


def broken(entries: tuple[float, float, float]) -> Tensor:
    """A batch of good matrices with one bad one, at (1, 2)."""
    X = points(2, 3)
    X[1, 2] = torch.diag(torch.tensor(entries, dtype=F64))
    return X


BAD = {
    "indefinite": (broken((1.0, -0.25, 2.0)), r"-0\.25 \(largest 2\)"),
    "singular": (broken((0.0, 1.0, 2.0)), r"\S+ \(largest 2\)"),
    "zero": (broken((0.0, 0.0, 0.0)), r"0 \(largest 0\)"),
    "NaN": (broken((1.0, math.nan, 2.0)), r"nan \(largest nan\)"),
    "infinite": (broken((1.0, math.inf, 2.0)), r"nan \(largest nan\)"),
}
bad = pytest.mark.parametrize("X, value", BAD.values(), ids=BAD)


def refuses(call: Callable[[], object], name: str, value: str, index: str = r"\(1, 2\)") -> None:
    expected = (
        rf"^{name}: received a matrix with eigenvalue {value} at index {index}; "
        rf"valid are symmetric positive definite .*Repair: .*project\({name}\)\.$"
    )
    with pytest.raises(ValueError, match=expected):
        call()


@bad
@every_metric
def test_verbs_refuse_matrices_that_are_not_positive_definite(metric: ModuleType, X: Tensor, value: str) -> None:
    good, V = points(2, 3, seed=1), 0.01 * symmetric(2, 3, 3, 3)
    with_options = metric is bw and not torch.linalg.det(X[1, 2]) == 0  # a congruence makes zero a rounding error
    for options in ({}, *GENERALISED.values()) if with_options else ({},):
        refuses(lambda options=options: metric.distance(X, good, **options), "A", value)
        refuses(lambda options=options: metric.distance(good, X, **options), "B", value)
        refuses(lambda options=options: metric.inner(X, V, V, **options), "X", value)
        refuses(lambda options=options: metric.exp(X, V, **options), "X", value)
        refuses(lambda options=options: metric.log(X, good, **options), "X", value)
        refuses(lambda options=options: metric.log(good, X, **options), "Y", value)
        refuses(lambda options=options: metric.geodesic(X, good, 0.5, **options), "X", value)
        refuses(lambda options=options: metric.geodesic(good, X, 0.5, **options), "Y", value)
        refuses(lambda options=options: metric.transport(X, good, V, **options), "X", value)
        refuses(lambda options=options: metric.transport(good, X, V, **options), "Y", value)
        refuses(lambda options=options: metric.mean(X, **options), "Xs", value)
        if metric in (aim, bw):
            refuses(lambda options=options: metric.mean(X, steps=2, **options), "Xs", value)
    x = X.clone().requires_grad_()
    refuses(lambda: metric.distance(x, good), "A", value)


@bad
def test_the_rest_refuses_them_too(X: Tensor, value: str) -> None:
    good, V = points(2, 3, seed=1), symmetric(2, 3, 3, 3)
    refuses(lambda: bw.optimal_map(X, good), "A", value)
    refuses(lambda: bw.optimal_map(good, X), "B", value)
    refuses(lambda: bw.domain(X, V), "X", value)
    refuses(lambda: bw.distance(good, good, M=X[1, 2]), "M", value, r"\(\)")
    refuses(lambda: spd.require_spd("X", X), "X", value)
    refuses(lambda: spd.lyapunov(X, V), "X", value)
    refuses(lambda: derivative("log", X, V), "X", value)
    for function in (spd.sqrtm, spd.inv_sqrtm, spd.logm, lambda X: spd.powm(X, 0.3)):
        refuses(lambda function=function: function(X), "X", value)


@every_metric
def test_verbs_do_not_hide_bad_tangent_vectors(metric: ModuleType) -> None:
    X, Y, V = points(2), points(2, seed=1), torch.full((2, 3, 3), math.nan, dtype=F64)
    for call in (lambda: metric.exp(X, V), lambda: metric.transport(X, Y, V), lambda: metric.inner(X, V, V)):
        try:
            assert call().isnan().all()
        except ValueError as error:
            assert re.match("V: received a matrix with NaN or infinity; valid are finite .*Repair: ", str(error))


def test_functions_of_symmetric_matrices_refuse_nan() -> None:
    for entry in (math.nan, math.inf):
        X = torch.full((2, 3, 3), entry, dtype=F64)
        for call, name in ((spd.expm, "V"), (spd.project, "M"), (lambda X: derivative("exp", X, EYE), "X")):
            with pytest.raises(ValueError, match=rf"^{name}: received a matrix with NaN or infinity; .*Repair: "):
                call(X)


@every_metric
def test_verbs_refuse_wrong_shapes_and_dtypes(metric: ModuleType) -> None:
    X = points(2)
    for wrong, received, repair in (
        (torch.zeros(2, 3, dtype=F64), r"shape \(2, 3\); valid are square", "last two dimensions"),
        (torch.zeros(3, dtype=F64), r"shape \(3,\); valid are square", "last two dimensions"),
        (torch.zeros(0, 0, dtype=F64), r"shape \(0, 0\); valid are square", "last two dimensions"),
        (torch.eye(3).long(), r"torch\.int64; valid is float32 or float64", r"\.to\(torch\.float32\)"),
        (EYE.half(), r"torch\.float16; valid is float32 or float64", r"\.to\(torch\.float32\)"),
        ([[1.0]], r"list; valid is a torch tensor", r"torch\.as_tensor"),
        (torch.eye(4, dtype=F64), r"4 x 4 matrices beside \w+ of size 3; valid are equal sizes", "same number"),
        (torch.eye(3), r"torch\.float32 beside \w+ of torch\.float64; valid are equal", r"\.to\(torch\.float64\)"),
    ):
        for name, call in (
            ("B", lambda wrong=wrong: metric.distance(X, wrong)),
            ("U", lambda wrong=wrong: metric.inner(X, wrong, X)),
            ("V", lambda wrong=wrong: metric.inner(X, X, wrong)),
            ("V", lambda wrong=wrong: metric.exp(X, wrong)),
            ("Y", lambda wrong=wrong: metric.log(X, wrong)),
            ("Y", lambda wrong=wrong: metric.geodesic(X, wrong, 0.5)),
            ("Y", lambda wrong=wrong: metric.transport(X, wrong, X)),
            ("V", lambda wrong=wrong: metric.transport(X, X, wrong)),
        ):
            with pytest.raises(ValueError, match=rf"^{name}: received {received}.*Repair: .*{repair}"):
                call()
    for name, call in (("A", lambda: metric.distance(X[0, 0], X)), ("Xs", lambda: metric.mean(X[0, 0]))):
        with pytest.raises(ValueError, match=rf"^{name}: received shape \(3,\); valid are square"):
            call()
    with pytest.raises(ValueError, match=r"^M: received 4 x 4 matrices beside X of size 3"):
        bw.distance(X, X, M=torch.eye(4, dtype=F64))


@every_metric
def test_mean_messages(metric: ModuleType) -> None:
    Xs = points(4)
    for call, message in (
        (lambda: metric.mean(Xs[0]), r"Xs: received shape \(3, 3\); valid is \(\.\.\., N, 3, 3\), N > 0\. Repair: "),
        (lambda: metric.mean(Xs[:0]), r"Xs: received shape \(0, 3, 3\); valid is .*Repair: "),
        (lambda: metric.mean(Xs, torch.ones(3)), r"weights: received shape \(3,\); valid is \(\.\.\., 4\).*Repair: "),
        (lambda: metric.mean(Xs, torch.tensor([1.0, -1, 1, 1])), r"weights: received values from -1 to 1; .*Repair: "),
        (lambda: metric.mean(Xs, torch.zeros(4)), r"weights: received values from 0 to 0; .*Repair: "),
        (lambda: metric.mean(Xs, torch.full((4,), math.nan)), r"weights: received values from nan to nan; .*Repair: "),
        (lambda: metric.mean(Xs, torch.ones(4).long()), r"weights: received torch\.int64; .*Repair: "),
    ):
        with pytest.raises(ValueError, match="^" + message):
            call()


def test_numbers_out_of_range() -> None:
    X = points(4)
    for metric, steps in product((aim, bw), (0, -1)):
        with pytest.raises(ValueError, match=rf"^steps\b.*: received {steps}\b.*Repair: steps=1\.$"):
            metric.mean(X, steps=steps)
    for theta in (0, 0.0, math.nan):
        message = rf"^theta: received {theta}; valid is a number other than zero\. Repair: "
        for call in (
            lambda theta=theta: bw.distance(X, X, theta=theta),
            lambda theta=theta: bw.inner(X, X, X, theta=theta),
            lambda theta=theta: bw.domain(X, X, theta=theta),
            lambda theta=theta: bw.exp(X, X, theta=theta),
            lambda theta=theta: bw.log(X, X, theta=theta),
            lambda theta=theta: bw.geodesic(X, X, 0.5, theta=theta),
            lambda theta=theta: bw.transport(X, X, X, theta=theta),
            lambda theta=theta: bw.mean(X, theta=theta),
        ):
            with pytest.raises(ValueError, match=message):
                call()


def test_nothing_is_clamped() -> None:
    """One negative eigenvalue at rounding level is an error, and so is a factorisation that only rounding allows."""
    Q = orthogonal(3, generator())
    for least in (-1e-17, -1e-14):
        X = sym(Q * torch.tensor([least, 1.0, 1.0], dtype=F64) @ Q.mT) - abs(least) * EYE * 10
        for metric in METRICS:
            with pytest.raises(ValueError, match="received a matrix with eigenvalue -"):
                metric.distance(X, EYE)
    tiny = 1e-200 * points()
    for metric in METRICS:
        assert metric.distance(tiny, 4 * tiny) > 0


def test_require_spd() -> None:
    X = points(2)
    assert spd.require_spd("X", X) is None
    assert spd.require_spd("X", X[:0]) is None
    spd.require_spd("X", X + 1e-10 * torch.tensor([[0, 1, 0], [0, 0, 0], [0, 0, 0]], dtype=F64))
    skew = X + torch.tensor([[0, 0.5, 0], [0, 0, 0], [0, 0, 0]], dtype=F64)
    with pytest.raises(ValueError, match=r"X: received a matrix that differs from its transpose by 0\.5; .*Repair: "):
        spd.require_spd("X", skew)


# ------------------------------------------------------------------------------------------------- projection, sampling


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_project(dtype: torch.dtype) -> None:
    """Nearest in Frobenius norm: the residual is orthogonal to the face of the cone that was reached."""
    A = torch.randn(50, 4, 4, generator=generator(), dtype=dtype)
    X = spd.project(A)
    assert X.dtype == dtype
    spd.require_spd("X", X)
    values, vectors = torch.linalg.eigh(sym(A))
    floor = values.abs().amax(-1) * torch.finfo(dtype).eps ** 0.5
    nearest = vectors * torch.maximum(values, floor[:, None])[:, None, :] @ vectors.mT
    torch.testing.assert_close(X, nearest)
    for candidate in (spd.project(A, floor=0.01), X + 0.01 * torch.eye(4, dtype=dtype), X.roll(1, 0)):
        assert ((candidate - A).norm(dim=(1, 2)) > (X - A).norm(dim=(1, 2))).all()
    good = points(5, size=4).to(dtype)
    torch.testing.assert_close(spd.project(good), good)
    low = torch.linalg.eigvalsh(spd.project(A, floor=0.5))[:, 0]
    assert low.min().item() == pytest.approx(0.5, rel=1e-5)
    assert spd.project(A.reshape(5, 10, 4, 4)).shape == (5, 10, 4, 4)


def test_project_messages() -> None:
    for floor in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=rf"floor: received {floor}; valid is a positive number\. Repair: "):
            spd.project(EYE, floor=floor)
    with pytest.raises(ValueError, match=r"M: received a matrix of zeros; .*Repair: give a floor"):
        spd.project(torch.stack([EYE, 0 * EYE]))
    assert spd.project(0 * EYE, floor=2.0).diagonal().tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match=r"M: received shape \(3,\)"):
        spd.project(EYE[0])


def test_random() -> None:
    """log X is Gaussian: variance spread^2 on the diagonal, half of it beside; it does not depend on the axes."""
    X = spd.random(20_000, generator(), F64, size=4, spread=0.3)
    assert X.shape == (20_000, 4, 4) and X.dtype == F64
    spd.require_spd("X", X)
    Q = orthogonal(4, generator(5))
    for S in (spd.logm(X), Q @ spd.logm(X) @ Q.mT):
        assert S.mean(0).abs().max() < 0.01
        expected = 0.3**2 * (torch.ones(4, 4, dtype=F64) + torch.eye(4, dtype=F64)) / 2
        torch.testing.assert_close(S.square().mean(0), expected, rtol=0.05, atol=0)
    assert spd.random(2).dtype == torch.get_default_dtype()
    assert spd.random(2, dtype=F64, device="cpu").shape == (2, 3, 3)
    assert spd.random(0, size=1).shape == (0, 1, 1)
    assert aim.random is bw.random is lem.random is lcm.random is spd.random


def test_random_messages() -> None:
    for options in ({"n": -1}, {"n": 2, "size": 0}, {"n": 2, "spread": 0.0}, {"n": 2, "spread": math.nan}):
        with pytest.raises(ValueError, match=r"n, size, spread: received .*; valid are n >= 0, .*Repair: "):
            spd.random(**options)
