"""The Poincaré ball beyond the laws that every space obeys: identities, limits, gradients, the far end, bad input."""

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from repgeom.manifolds import poincare as P
from repgeom.manifolds import thresholds

F64 = torch.float64
CURVATURES = (1e-3, 0.1, 1.0, 2.5)
cases = settings(max_examples=25, database=None, deadline=None, derandomize=True)
seeds = given(seed=st.integers(0, 2**32 - 1), c=st.sampled_from(CURVATURES))


def points(seed: int, c: float, count: int = 3, n: int = 12, size: int = 4, scale: float = 1.0) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [P.random(n, g, F64, size=size, scale=scale / max(c, 1e-2) ** 0.5, c=c) for _ in range(count)]


def close(a: Tensor, b: Tensor, atol: float = 1e-11) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=atol)


def naive_add(x: Tensor, y: Tensor, c: Tensor | float) -> Tensor:
    xx, xy, yy = ((a * b).sum(-1, keepdim=True) for a, b in ((x, x), (x, y), (y, y)))
    return ((1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y) / (1 + 2 * c * xy + c**2 * xx * yy)


@cases
@seeds
def test_identities_of_the_gyrogroup(seed, c):
    x, y, z = points(seed, c)
    add = lambda a, b: P.mobius_add(a, b, c)  # noqa: E731
    close(add(x, y), naive_add(x, y, c))
    close(add(-x, add(x, y)), y)
    close(add(x, torch.zeros_like(x)), x)
    close(add(torch.zeros_like(x), x), x)
    close(add(x, add(y, z)), add(add(x, y), P.gyration(x, y, z, c)))
    w = 10 * torch.randn(z.shape, generator=torch.Generator().manual_seed(seed), dtype=F64)
    close(P.gyration(x, y, w, c).norm(dim=-1), w.norm(dim=-1))
    close(add(x, y), P.gyration(x, y, add(y, x), c))
    close(P.mobius_scalar_mul(3, x, c), add(x, add(x, x)))


@cases
@seeds
def test_distance_is_that_of_the_mobius_difference_and_survives_translation(seed, c):
    x, y, z = points(seed, c)
    root = c**0.5
    close(P.distance(x, y, c), 2 / root * torch.atanh(root * naive_add(-x, y, c).norm(dim=-1)), 1e-9)
    close(P.distance(P.mobius_add(z, x, c), P.mobius_add(z, y, c), c), P.distance(x, y, c), 1e-9)
    close(P.distance(0 * x, x, c), 2 * P.logmap0(x, c).norm(dim=-1))


@cases
@seeds
def test_curvature_is_a_unit_of_length(seed, c):
    x, y, z = points(seed, c)
    a = 1.7
    for f in (P.mobius_add, P.expmap, P.logmap):
        close(f(x, y, c), f(x / a, y / a, a * a * c) * a)
    close(P.distance(x, y, c), a * P.distance(x / a, y / a, a * a * c))
    close(P.transport(x, y, z, c), a * P.transport(x / a, y / a, z / a, a * a * c))
    for f in (P.midpoint, P.frechet_mean):
        close(f(x, None, c), a * f(x / a, None, a * a * c), 1e-10)


@cases
@given(seed=st.integers(0, 2**32 - 1))
def test_without_curvature_everything_is_flat(seed):
    x, y, v = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(seed), dtype=F64)
    for c in (0.0, 1e-12):
        flat = {"rtol": 1e-9, "atol": 1e-10}
        same = lambda a, b, flat=flat: torch.testing.assert_close(a, b, **flat)  # noqa: E731
        same(P.mobius_add(x, y, c), x + y)
        same(P.mobius_scalar_mul(1.5, x, c), 1.5 * x)
        same(P.expmap0(v, c), v)
        same(P.logmap0(x, c), x)
        same(P.expmap(x, v, c), x + v)
        same(P.logmap(x, y, c), y - x)
        same(P.distance(x, y, c), 2 * (x - y).norm(dim=-1))
        same(P.transport(x, y, v, c), v)
        same(P.midpoint(x, None, c), x.mean(0))
        same(P.frechet_mean(x, None, c), x.mean(0))
        same(P.project(9 * x, c), 9 * x)
        same(P.geodesic(x, y, 0.3, c), 0.7 * x + 0.3 * y)


@cases
@seeds
def test_midpoint_minimises_its_objective_and_moves_along(seed, c):
    (x, y), g = points(seed, c, 2), torch.Generator().manual_seed(seed)
    w = torch.rand(len(x), generator=g, dtype=F64)
    m = P.midpoint(x, w, c)

    def spread(at):
        return (w * torch.cosh(c**0.5 * P.distance(at, x, c))).sum()

    at = m.clone().requires_grad_()
    assert torch.autograd.grad(spread(at), at)[0].abs().max() < 1e-9 * spread(m)
    close(P.midpoint(P.mobius_add(y[:1], x, c), w, c), P.mobius_add(y[0], m, c), 1e-10)
    Q = torch.linalg.qr(torch.randn(4, 4, generator=g, dtype=F64)).Q
    close(P.midpoint(x @ Q, w, c), m @ Q)
    close(P.midpoint(torch.stack([x, y], -2), None, c), P.geodesic(x, y, 0.5, c))
    klein = 2 * x / (1 + c * x.square().sum(-1, keepdim=True))  # the Einstein mean of Klein coordinates
    gamma = w[:, None] / (1 - c * klein.square().sum(-1, keepdim=True)).sqrt()
    k = (gamma * klein).sum(0) / gamma.sum(0)
    close(m, k / (1 + (1 - c * k.square().sum()).sqrt()))


def test_the_two_means_part_at_third_order():
    v = torch.randn(200, 4, generator=torch.Generator().manual_seed(3), dtype=F64)
    wide, narrow = ((P.midpoint(x) - P.frechet_mean(x)).norm() for x in (P.expmap0(0.1 * v), P.expmap0(0.01 * v)))
    assert 800 < wide / narrow < 1100


HARD = (1e-9, 1e-4, 0.02, 0.3)  # lengths around the radius of the series, and ordinary ones


@pytest.mark.parametrize("scale", HARD)
@pytest.mark.parametrize("c", [0.0, 0.1, 1.0])
def test_gradients(scale, c):
    x, y, v = scale * torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    c = torch.tensor(c, dtype=F64, requires_grad=True)
    arguments = [t.requires_grad_() for t in (x, y, v)]
    x, y, v = arguments
    w = torch.tensor([[0.3, 1.0], [2.0, 0.1]], dtype=F64, requires_grad=True)
    check = lambda f, *inputs: torch.autograd.gradcheck(f, inputs, eps=1e-7, atol=2e-6, rtol=1e-5)  # noqa: E731
    if not c:  # the numerical derivative would need c < 0
        c = c.detach()
    assert check(P.mobius_add, x, y, c)
    assert check(P.expmap0, v, c)
    assert check(P.logmap0, y, c)
    assert check(P.expmap, x, v, c)
    assert check(P.transport, x, y, v, c)
    assert check(P.gyration, x, y, v, c)
    assert check(P.conformal_factor, x, c)
    assert check(P.midpoint, x, w[0], c)
    assert check(P.frechet_mean, torch.stack([x, y]), w, c)
    if scale > 1e-6:  # the distance has a kink at zero, of this size
        assert check(P.distance, x, y, c)
        assert check(P.logmap, x, y, c)


def test_gradient_towards_curvature_at_zero():
    x, y = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    u = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    c = torch.tensor(0.0, dtype=F64, requires_grad=True)
    x.requires_grad_()
    by_hand = torch.autograd.grad((P.mobius_add(x, y, c) * u).sum(), c)[0]
    plain = torch.autograd.grad((naive_add(x, y, c) * u).sum(), c)[0]
    close(by_hand, plain)


@pytest.mark.parametrize("block", [1, 7, 1 << 19])
def test_mobius_addition_by_hand_against_autograd(block, monkeypatch):
    monkeypatch.setattr(P, "_BLOCK", block)
    x, y = points(5, 0.7, 2, n=11)
    u = torch.randn(11, 4, generator=torch.Generator().manual_seed(1), dtype=F64)
    c = torch.tensor(0.7, dtype=F64, requires_grad=True)
    inputs = (x.requires_grad_(), y.requires_grad_(), c)
    for got, wanted in zip(
        torch.autograd.grad((P.mobius_add(*inputs) * u).sum(), inputs),
        torch.autograd.grad((naive_add(*inputs) * u).sum(), inputs),
        strict=True,
    ):
        close(got, wanted)


def test_mobius_addition_broadcasts():
    (x,) = points(0, 1.0, 1)
    table = P.mobius_add(x[:, None], x[None, :5])
    assert table.shape == (12, 5, 4)
    close(table[3, 2], P.mobius_add(x[3], x[2]))
    a = x[0].clone().requires_grad_()
    P.mobius_add(a, x).sum().backward()
    b = x[0].clone().requires_grad_()
    naive_add(b, x, 1.0).sum().backward()
    close(a.grad, b.grad)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("c", [0.5, 1.0])
def test_sums_beyond_the_limit_are_pulled_in(dtype, c):
    limit = 1 - thresholds.membership(dtype)
    far = 0.6 * torch.atanh(torch.tensor(limit, dtype=F64))  # two such points in line end beyond, none is close to it
    x = P.expmap0(torch.tensor([[0.6, 0.8], [-1.0, 0.0]], dtype=dtype) * far.to(dtype) / c**0.5, c)
    reach = P.mobius_add(x, x, c).norm(dim=-1) * c**0.5
    torch.testing.assert_close(reach, torch.full_like(reach, limit), rtol=4 * thresholds.eps(dtype), atol=0)
    assert bool((P.project(2 * x, c).norm(dim=-1) * c**0.5 <= limit * (1 + thresholds.eps(dtype))).all())


@pytest.mark.parametrize("c", [0.5, 1.0])
def test_a_point_that_was_pulled_in_has_no_gradient_along_its_ray(c):
    k = torch.tensor(c, dtype=F64, requires_grad=True)
    near, far = (P.expmap0(torch.tensor([[0.6, 0.8], [0.1, 0.2]], dtype=F64) * r / c**0.5, c) for r in (1.5, 8.5))
    inputs = (near.requires_grad_(), far.requires_grad_(), k)

    def clipped(x, y, c):
        z = naive_add(x, y, c)
        r = (1 - thresholds.membership(F64)) / c.sqrt()
        return torch.cat([r * z[:1] / z[:1].norm(), z[1:]])

    u = torch.tensor([[0.3, -1.0], [0.5, 0.7]], dtype=F64)
    got, wanted = P.mobius_add(*inputs), clipped(*inputs)
    torch.testing.assert_close(got, wanted, rtol=1e-8, atol=0)
    for a, b in zip(
        torch.autograd.grad((got * u).sum(), inputs), torch.autograd.grad((wanted * u).sum(), inputs), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
    v = torch.tensor([[30.0, 40.0]], dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad((P.expmap0(v, c) * torch.tensor([[3.0, 4.0]])).sum(), v)
    assert slope.abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_quotients_join_their_series(dtype):
    for ours, exact in ((P._tanhc, mpmath.tanh), (P._artanhc, mpmath.atanh), (P._arsinhc, mpmath.asinh)):
        z = torch.logspace(-12, -0.1, 60, dtype=dtype)
        with mpmath.workdps(30):
            roots = [mpmath.sqrt(mpmath.mpf(float(t))) for t in z]
            wanted = torch.tensor([float(exact(r) / r) for r in roots], dtype=F64)
        assert ((ours(z).double() / wanted - 1).abs().max()) < 8 * thresholds.eps(dtype)
        z = torch.tensor([1e-6, 0.99, 1.01], dtype=F64) * thresholds.series_radius(F64)
        z.requires_grad_()
        (slope,) = torch.autograd.grad(ours(z).sum(), z)
        assert (slope / slope[0] - 1).abs().max() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("c", [1e-4, 0.1, 1.0, 30.0])
def test_nothing_breaks_for_long_vectors(dtype, c):
    g = torch.Generator().manual_seed(0)
    v = torch.randn(400, 5, generator=g, dtype=dtype)
    v = v / v.norm(dim=-1, keepdim=True) * torch.logspace(-30, 1, 400, dtype=dtype)[:, None] / c**0.5
    v[0] = 0
    v.requires_grad_()
    k = torch.tensor(c, dtype=dtype, requires_grad=True)
    x = P.expmap0(v, k)
    assert bool((x.detach().norm(dim=-1) * c**0.5 < 1).all())
    y = P.mobius_add(x, x.flip(0), k)
    outputs = [y, P.logmap0(x, k), P.logmap(x, y, k), P.expmap(x, v, k), P.distance(x, y, k), P.distance(x, x, k)]
    outputs += [P.transport(x, y, v, k), P.midpoint(x, None, k), P.geodesic(x, y, 0.5, k), P.frechet_mean(x, None, k)]
    for out in outputs:
        assert out.dtype == dtype
        assert bool(torch.isfinite(out).all())
        for slope in torch.autograd.grad(out.sum(), (v, k), retain_graph=True):
            assert bool(torch.isfinite(slope).all())


@pytest.mark.parametrize("gap", [1e-12, 1e-6, 1e-2, 0.9])
@pytest.mark.parametrize("rim", [0.1, 0.9, 1 - 1e-7])
def test_distance_against_forty_digits(rim, gap):
    x = torch.tensor([rim, 0.0], dtype=F64)
    y = torch.tensor([rim * (1 - gap), rim * gap * 0.3], dtype=F64)
    with mpmath.workdps(40):
        a, b = ([mpmath.mpf(float(t)) for t in p] for p in (x, y))
        off = sum((s - t) ** 2 for s, t in zip(a, b, strict=True))
        exact = mpmath.acosh(1 + 2 * off / ((1 - a[0] ** 2 - a[1] ** 2) * (1 - b[0] ** 2 - b[1] ** 2)))
    assert abs(float(P.distance(x, y)) / float(exact) - 1) < 2e-15 / (1 - rim) + 1e-14


def test_addition_of_points_on_opposite_sides_keeps_its_digits_in_float32():
    g = torch.Generator().manual_seed(0)
    x = P.expmap0(3.5 * torch.nn.functional.normalize(torch.randn(500, 3, generator=g), dim=-1))
    y = P.expmap0(P.logmap0(-x) + 0.001 * torch.randn(500, 3, generator=g))
    wanted = naive_add(x.double(), y.double(), 1.0)
    ours, plain = (P.distance(z.double(), wanted).max() for z in (P.mobius_add(x, y), naive_add(x, y, 1.0)))
    assert ours < 2e-4 < 2e-2 < plain


def test_means_of_a_batch_and_of_one_point():
    x, y, z = points(1, 1.0)
    both = torch.stack([x, y])
    w = torch.rand(12, generator=torch.Generator().manual_seed(0), dtype=F64)
    for f in (P.midpoint, P.frechet_mean):
        close(f(both, w)[1], f(y, w))
        close(f(x[:, None]), x)
    pull = (w[:, None] * P.logmap(P.frechet_mean(x, w)[None], x)).sum(0)
    assert pull.abs().max() < 1e-13
    assert not z.requires_grad


BAD = {
    "outside": (lambda: P.distance(torch.tensor([0.6, 0.9]), torch.zeros(2)), r"x: .*= 1\.08167.*project\(x, c\)"),
    "outside-c": (lambda: P.logmap0(torch.tensor([0.0, 0.5]), 4.0), r"y: .*= 1;"),
    "second": (lambda: P.mobius_add(torch.zeros(2), torch.tensor([2.0, 0.0])), "y: .*= 2"),
    "nan": (lambda: P.logmap0(torch.tensor([float("nan"), 0.0])), "y: .*= nan"),
    "negative": (lambda: P.expmap0(torch.zeros(2), -1.0), "c: received -1"),
    "nan-c": (lambda: P.expmap0(torch.zeros(2), float("nan")), "c: received nan"),
    "vector-c": (lambda: P.expmap0(torch.zeros(2), torch.ones(2)), r"c: received shape \(2,\)"),
    "integers": (lambda: P.expmap0(torch.zeros(2, dtype=torch.int64)), "v: received torch.int64"),
    "shapes": (lambda: P.mobius_add(torch.zeros(2), torch.zeros(3)), r"y: received shape \(3,\)"),
    "dtypes": (lambda: P.distance(torch.zeros(2), torch.zeros(2, dtype=F64)), "y: .*float64"),
    "one point": (lambda: P.midpoint(torch.zeros(2)), r"x: received shape \(2,\)"),
    "weights": (lambda: P.frechet_mean(torch.zeros(3, 2), torch.ones(2)), r"weights: received shape \(2,\)"),
    "weights-sign": (lambda: P.midpoint(torch.zeros(2, 2), torch.tensor([1.0, -1.0])), "weights: .*sums from 0"),
    "random": (lambda: P.random(-1), "n, size, scale: received -1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_error(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_kept_for_backward():
    x, y = (0.05 * torch.randn(2, 4096, 64, generator=torch.Generator().manual_seed(0))).unbind()
    kept: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    own = {t.untyped_storage().data_ptr() for t in (x, y)}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        P.mobius_add(x.requires_grad_(), y.requires_grad_())
    assert sum(size for where, size in kept.items() if where not in own) < 0.12 * 4096 * 64 * 4
