r"""The Poincaré ball: points x (..., n) of R^n with c |x|^2 < 1, a space of constant curvature -c.

The metric at x is conformal_factor(x)^2 times the Euclidean one, so d(0, x) is nearly 2 |x| for short x, and the
exponential map at the origin doubles lengths: d(0, expmap0(v)) = 2 |v|. Nothing divides by sqrt(c): every function is
smooth in c, and c = 0 is the flat limit, in which addition is that of vectors and distances are twice the Euclidean.

c is a number or a tensor without dimensions, which may be learned. A point that a function returns stays so far
inside the ball that half the digits of 1 - c |x|^2 are left: sqrt(c) |x| <= 1 - sqrt(eps), which is distance 8.7 from
the origin in float32 and 18.7 in float64, for c = 1. A point that had to be pulled in has no gradient along its ray.

What costs memory and time are arrays of the size of the points. The functions below therefore compute one number per
point where they can, leave the derivatives of these numbers to autograd, and keep little more than their arguments.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from repgeom.manifolds import thresholds
from repgeom.manifolds.checks import require_real

__all__ = [
    "conformal_factor",
    "distance",
    "exp",
    "expmap",
    "expmap0",
    "frechet_mean",
    "geodesic",
    "gyration",
    "inner",
    "log",
    "logmap",
    "logmap0",
    "mean",
    "midpoint",
    "mobius_add",
    "mobius_scalar_mul",
    "project",
    "random",
    "transport",
]

Curvature = Tensor | float

_MEAN_STEPS = 1000
_BLOCK = 1 << 19  # numbers per block of rows: what a processor's cache holds together with its neighbours


def _curvature(c: Curvature, like: Tensor) -> Tensor:
    if isinstance(c, Tensor):
        if c.dim():
            raise ValueError(f"c: received shape {tuple(c.shape)}; valid is a number. Repair: c.squeeze().")
        return c.to(like.dtype)
    if not 0 <= c < float("inf"):  # written so that NaN fails
        raise ValueError(f"c: received {c}; valid is c >= 0, for curvature -c. Repair: c={abs(c)}.")
    return torch.tensor(c, dtype=like.dtype, device=like.device)


def _require_vectors(**vectors: Tensor) -> None:
    first = next(iter(vectors.values()))
    for name, v in vectors.items():
        require_real(name, v)
        if v.dim() < 1 or v.shape[-1:] != first.shape[-1:] or v.dtype != first.dtype:
            raise ValueError(
                f"{name}: received shape {tuple(v.shape)} of {v.dtype}; valid is (..., {first.shape[-1:]}) of "
                f"{first.dtype}, as of {next(iter(vectors))}. Repair: one dimension and one dtype for all vectors."
            )


def _require_points(c: Curvature, **points: Tensor) -> Tensor:
    """c as a tensor; ``ValueError`` for a point outside the ball. Costs a pass, so not inside training loops."""
    _require_vectors(**points)
    c = _curvature(c, next(iter(points.values())))
    for name, x in points.items():
        if x.requires_grad or torch.compiler.is_compiling() or not x.numel():
            continue
        with torch.no_grad():
            worst = float((torch.linalg.vector_norm(x, dim=-1) * c.sqrt()).max())
        if not worst < 1:
            raise ValueError(
                f"{name}: received a point with sqrt(c) |{name}| = {worst:.6g}; valid are points inside the ball, "
                f"below 1. Repair: project({name}, c), or expmap0({name}, c) if {name} holds tangent vectors."
            )
    return c


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(-1, keepdim=True)


def _limit(dtype: torch.dtype) -> float:
    """The longest point, in units of the radius."""
    return 1 - thresholds.membership(dtype)


def _clip(z: Tensor) -> Tensor:
    """The factor that brings points with c |x|^2 = z back to the limit; one where they are within it."""
    limit = _limit(z.dtype)
    beyond = z > limit**2
    return torch.where(beyond, limit / torch.where(beyond, z, 1).sqrt(), 1)


# f(sqrt z) / sqrt z for three odd functions f: smooth in z, also at zero, where a series takes over.


def _quotient(z: Tensor, f: Any, series: tuple[float, ...]) -> Tensor:
    near = z < thresholds.series_radius(z.dtype)
    root = torch.where(near, 1, z).sqrt()
    small = torch.where(near, z, 0)
    value = torch.zeros_like(z)
    for coefficient in reversed(series):
        value = value * small + coefficient
    return torch.where(near, value, f(root) / root)


def _tanhc(z: Tensor) -> Tensor:
    return _quotient(z, torch.tanh, (1, -1 / 3, 2 / 15, -17 / 315))


def _artanhc(z: Tensor) -> Tensor:
    # beyond the limit only for points that were never checked: finite, so that training can go on
    return _quotient(z, lambda r: torch.atanh(r.clamp_max(1 - thresholds.eps(r.dtype))), (1, 1 / 3, 1 / 5, 1 / 7))


def _arsinhc(z: Tensor) -> Tensor:
    return _quotient(z, torch.asinh, (1, -1 / 6, 3 / 40, -15 / 336))


def conformal_factor(x: Tensor, c: Curvature = 1.0) -> Tensor:
    r"""lambda_x = 2 / (1 - c |x|^2): lengths at x are this many times the Euclidean ones.

    Args:
        x: (..., n) points.
        c: minus the curvature.

    Returns:
        (...) at least 2.

    Raises:
        ValueError: a point outside the ball, or c negative.

    Source: Ganea et al. 2018, "Hyperbolic neural networks", section 2.

    >>> conformal_factor(torch.tensor([[0.0, 0.0], [0.6, 0.0]]))
    tensor([2.0000, 3.1250])
    """
    c = _require_points(c, x=x)
    return _factor(x, c).squeeze(-1)


def _factor(x: Tensor, c: Tensor) -> Tensor:
    return 2 / (1 - c * _dot(x, x))


def inner(x: Tensor, u: Tensor, v: Tensor, c: Curvature = 1.0) -> Tensor:
    r"""Scalar product lambda_x^2 <u, v> of two tangent vectors at x.

    Args:
        x: (..., n) points.
        u: (..., n) tangent vectors at x.
        v: (..., n) tangent vectors at x.
        c: minus the curvature.

    Returns:
        (...)

    Raises:
        ValueError: a point outside the ball, c negative, wrong shapes.

    Source: Ganea et al. 2018, section 2.

    >>> inner(torch.zeros(2), torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0]))
    tensor(20.)
    """
    _require_vectors(x=x, u=u, v=v)
    c = _require_points(c, x=x)
    return (_factor(x, c).square() * _dot(u, v)).squeeze(-1)


def _weights(squares: Tensor, c: Tensor, clip: bool) -> tuple[Tensor, ...]:
    """a, b, k with x (+) y = k (a x + b y), and the denominator, from |x|^2, |x + y|^2, |y|^2 (3, rows, 1).

    With |x + y|^2 in place of <x, y> all terms are positive: nothing cancels where x and -y are near the rim together.
    """
    xx, sums, yy = squares
    s, flat = c * sums, 1 - c * xx
    below = torch.addcmul(s, flat, 1 - c * yy)
    a, b = (s + flat) / below, flat / below
    k = _clip(1 - b * (1 - c * yy)) if clip else torch.ones_like(a)  # c |a x + b y|^2 is known without the sum
    return a, b, k, below


def _gradient(rows: Tensor, p: Tensor, q: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    """The weights of u, x, y in dx and of u, x, y in dy, and dc, of :class:`_MobiusAdd`."""
    xx, sums, yy, a, b, k, below = rows
    xy, tiny = (sums - xx - yy) / 2, thresholds.smallest_norm(p.dtype)
    t = a * p + b * q
    # towards a x + b y goes k u - pull (a x + b y): without the part along the ray where k < 1
    along = torch.where(k < 1, k * t, 0)
    zx, zy = a * xx + b * xy, a * xy + b * yy
    pull = along / (a * zx + b * zy).clamp_min(tiny)
    p, q = k * p - pull * zx, k * q - pull * zy
    t, f = k * t - along, 2 * c / below
    both = f * (p - t) - pull * a * b
    in_x, in_y = -f * (c * yy * t + q) - pull * a * a, f * (p - c * xx * t) - pull * b * b
    dc = ((2 * xy + yy) * p - xx * q - 2 * (xy + c * xx * yy) * t) / below - along / (2 * c).clamp_min(tiny)
    return k * a, in_x, both, k * b, both, in_y, dc


def _product(x: Tensor, y: Tensor, out: Tensor, buffer: Tensor) -> None:
    torch.sum(torch.mul(x, y, out=buffer[: len(x)]), -1, keepdim=True, out=out)


class _MobiusAdd(torch.autograd.Function):
    r"""z = (A x + B y) / D. With the upstream gradient u, p = <u, x>, q = <u, y>, t = (A p + B q) / D, f = 2 c / D:

        dx = (A / D) u - f (c |y|^2 t + q) x + f (p - t) y,
        dy = (B / D) u + f (p - t) x         + f (p - c |x|^2 t) y,
        dc = sum [(2 <x,y> + |y|^2) p - |x|^2 q - 2 (<x,y> + c |x|^2 |y|^2) t] / D.

    Rows go through in blocks, so that a block is still at hand for its next product.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, c: Tensor, clip: bool) -> Tensor:
        z, rows = torch.empty_like(x), x.new_empty(7, len(x), 1)
        size = max(1, _BLOCK // max(1, x.shape[-1]))
        buffer = x.new_empty(min(size, len(x)), x.shape[-1])
        for part, v, w, out in zip(rows.split(size, 1), x.split(size), y.split(size), z.split(size), strict=True):
            total = torch.add(v, w, out=out)
            for vector, row in zip((v, total, w), part, strict=False):
                _product(vector, vector, row, buffer)
            a, b, k, _ = weights = _weights(part[:3], c, clip)
            torch.stack(weights, out=part[3:])
            total.mul_(k * b).addcmul_(v, k * (a - b))
        ctx.save_for_backward(x, y, c, rows)
        ctx.size = size
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, y, c, rows = ctx.saved_tensors
        dx, dy, dc = torch.empty_like(x), torch.empty_like(y), torch.zeros_like(c)
        p = x.new_empty(2, min(ctx.size, len(x)), 1)
        buffer = x.new_empty(p.shape[1], x.shape[-1])
        parts = zip(*(t.split(ctx.size) for t in (u, x, y, dx, dy)), rows.split(ctx.size, 1), strict=True)
        for g, v, w, to_x, to_y, part in parts:
            p = p[:, : len(g)]
            _product(g, v, p[0], buffer)
            _product(g, w, p[1], buffer)
            xu, xx, xy, yu, yx, yy, share = _gradient(part, p[0], p[1], c)
            torch.mul(g, xu, out=to_x).addcmul_(v, xx).addcmul_(w, xy)
            torch.mul(g, yu, out=to_y).addcmul_(v, yx).addcmul_(w, yy)
            dc += share.sum()
        return dx, dy, dc, None


def _add(x: Tensor, y: Tensor, c: Tensor, clip: bool = True) -> Tensor:
    x, y = torch.broadcast_tensors(x, y)
    n = x.shape[-1]
    return _MobiusAdd.apply(x.reshape(-1, n), y.reshape(-1, n), c, clip).reshape(x.shape)


def mobius_add(x: Tensor, y: Tensor, c: Curvature = 1.0) -> Tensor:
    r"""Möbius addition: the translation of the ball that takes 0 to x, applied to y.

    x (+) y = [(1 + 2c<x,y> + c|y|^2) x + (1 - c|x|^2) y] / (1 + 2c<x,y> + c^2 |x|^2 |y|^2).

    Neither commutative nor associative; (-x) (+) (x (+) y) = y. The backward pass is written by hand, towards x, y and
    c; it keeps x, y and seven numbers per point. It can be differentiated once.

    Args:
        x: (..., n) points.
        y: (..., n) points; batch dimensions broadcast.
        c: minus the curvature.

    Returns:
        (..., n) points.

    Raises:
        ValueError: a point outside the ball, c negative, wrong shapes.

    Source: Ungar 2008, "A gyrovector space approach to hyperbolic geometry"; Ganea et al. 2018, eq. 2.

    >>> mobius_add(torch.tensor([0.5, 0.0]), torch.tensor([0.5, 0.0]))
    tensor([0.8000, 0.0000])
    """
    c = _require_points(c, x=x, y=y)
    return _add(x, y, c)


def mobius_scalar_mul(r: Tensor | float, x: Tensor, c: Curvature = 1.0) -> Tensor:
    r"""r (*) x: the point at r times the distance of x from the origin, on the same ray.

    Args:
        r: a number, or (...) one per point.
        x: (..., n) points.
        c: minus the curvature.

    Returns:
        (..., n) points.

    Raises:
        ValueError: a point outside the ball, or c negative.

    Source: Ganea et al. 2018, section 2.

    >>> mobius_scalar_mul(2, torch.tensor([0.5, 0.0]))
    tensor([0.8000, 0.0000])
    """
    c = _require_points(c, x=x)
    r = torch.as_tensor(r, dtype=x.dtype, device=x.device)[..., None]
    return _expmap0(r * _logmap0(x, c), c)


def _expmap0(v: Tensor, c: Tensor, clip: bool = True) -> Tensor:
    z = c * _dot(v, v)
    k = _tanhc(z)
    return v * (k * _clip(z * k * k) if clip else k)


def _logmap0(y: Tensor, c: Tensor) -> Tensor:
    return y * _artanhc(c * _dot(y, y))


def expmap0(v: Tensor, c: Curvature = 1.0) -> Tensor:
    r"""Exponential map at the origin: tanh(sqrt(c) |v|) v / (sqrt(c) |v|), at distance 2 |v| from 0.

    Args:
        v: (..., n) tangent vectors at the origin, of any length.
        c: minus the curvature.

    Returns:
        (..., n) points.

    Raises:
        ValueError: c negative, or v not real.

    Source: Ganea et al. 2018, eq. 4.

    >>> expmap0(torch.tensor([[0.0, 0.0], [0.5, 0.0]])).round(decimals=4)
    tensor([[0.0000, 0.0000],
            [0.4621, 0.0000]])
    """
    _require_vectors(v=v)
    return _expmap0(v, _curvature(c, v))


def logmap0(y: Tensor, c: Curvature = 1.0) -> Tensor:
    r"""Logarithm at the origin, the inverse of :func:`expmap0`: artanh(sqrt(c) |y|) y / (sqrt(c) |y|).

    Args:
        y: (..., n) points.
        c: minus the curvature.

    Returns:
        (..., n) tangent vectors at the origin.

    Raises:
        ValueError: a point outside the ball, or c negative.

    Source: Ganea et al. 2018, eq. 4.

    >>> logmap0(torch.tensor([0.5, 0.0])).round(decimals=4)
    tensor([0.5493, 0.0000])
    """
    return _logmap0(y, _require_points(c, y=y))


def expmap(x: Tensor, v: Tensor, c: Curvature = 1.0) -> Tensor:
    r"""The end of the geodesic that leaves x with velocity v and lasts one unit: x (+) expmap0(lambda_x v / 2).

    Args:
        x: (..., n) points.
        v: (..., n) tangent vectors at x.
        c: minus the curvature.

    Returns:
        (..., n) points.

    Raises:
        ValueError: a point outside the ball, c negative, wrong shapes.

    Source: Ganea et al. 2018, lemma 2.

    >>> expmap(torch.tensor([0.5, 0.0]), torch.tensor([0.0, 0.3])).round(decimals=4)
    tensor([0.5522, 0.2750])
    """
    _require_vectors(x=x, v=v)
    c = _require_points(c, x=x)
    return _add(x, _expmap0(_factor(x, c) / 2 * v, c, clip=False), c)


def _separation(x: Tensor, y: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """q and c q (..., 1) with q = |x - y|^2 / ((1 - c|x|^2)(1 - c|y|^2)): d(x, y) = 2 arsinh(sqrt(c q)) / sqrt(c)."""
    e = x - y
    q = _dot(e, e) / ((1 - c * _dot(x, x)) * (1 - c * _dot(y, y)))
    return q, c * q


def logmap(x: Tensor, y: Tensor, c: Curvature = 1.0) -> Tensor:
    r"""The velocity at x of the geodesic that reaches y after one unit: the inverse of :func:`expmap`.

    (2 / lambda_x) logmap0((-x) (+) y), but its length comes from the distance, which keeps its digits where
    artanh has lost them.

    Args:
        x: (..., n) points.
        y: (..., n) points; batch dimensions broadcast.
        c: minus the curvature.

    Returns:
        (..., n) tangent vectors at x.

    Raises:
        ValueError: a point outside the ball, c negative, wrong shapes.

    Source: Ganea et al. 2018, lemma 2.

    >>> logmap(torch.tensor([0.5, 0.0]), torch.tensor([0.5522, 0.2750])).round(decimals=3).abs()
    tensor([0.0000, 0.3000])
    """
    return _logmap(x, y, _require_points(c, x=x, y=y))


def _logmap(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
    _, z = _separation(x, y, c)
    return _add(-x, y, c, clip=False) * (2 * _arsinhc(z) * (1 + z).sqrt() / _factor(x, c))


def distance(x: Tensor, y: Tensor, c: Curvature = 1.0) -> Tensor:
    r"""The geodesic distance, (2 / sqrt c) arsinh(sqrt(c) |x - y| / sqrt((1 - c|x|^2)(1 - c|y|^2))).

    This form keeps its digits both where x and y almost agree and near the rim, where artanh of the Möbius difference
    loses them. The gradient where x and y agree is zero.

    Args:
        x: (..., n) points.
        y: (..., n) points; batch dimensions broadcast.
        c: minus the curvature.

    Returns:
        (...)

    Raises:
        ValueError: a point outside the ball, c negative, wrong shapes.

    Source: Ganea et al. 2018, eq. 1 states its arcosh form.

    >>> distance(torch.tensor([[0.0, 0.0], [0.5, 0.0]]), torch.tensor([0.5, 0.0])).round(decimals=4)
    tensor([1.0986, 0.0000])
    """
    c = _require_points(c, x=x, y=y)
    q, z = _separation(x, y, c)
    apart = q > 0
    root = torch.where(apart, torch.where(apart, q, 1).sqrt(), 0)
    return (2 * root * _arsinhc(z)).squeeze(-1)


def geodesic(x: Tensor, y: Tensor, t: Tensor | float, c: Curvature = 1.0) -> Tensor:
    r"""The point at the fraction t of the way from x to y; any real t.

    Args:
        x: (..., n) points at t = 0.
        y: (..., n) points at t = 1.
        t: a number, or (...) one per pair.
        c: minus the curvature.

    Returns:
        (..., n) points.

    Raises:
        ValueError: a point outside the ball, c negative, wrong shapes.

    Source: Ganea et al. 2018, section 2.

    >>> geodesic(torch.tensor([0.0, 0.0]), torch.tensor([0.8, 0.0]), 0.5)
    tensor([0.5000, 0.0000])
    """
    c = _require_points(c, x=x, y=y)
    t = torch.as_tensor(t, dtype=x.dtype, device=x.device)[..., None]
    return _add(x, _expmap0(_factor(x, c) / 2 * t * _logmap(x, y, c), c, clip=False), c)


def gyration(u: Tensor, v: Tensor, w: Tensor, c: Curvature = 1.0) -> Tensor:
    r"""gyr[u, v] w: the rotation by which Möbius addition fails to be associative.

    u (+) (v (+) w) = (u (+) v) (+) gyr[u, v] w. In closed form w + 2 (A u + B v) / D with
    A = -c^2 <u,w> |v|^2 + c <v,w> + 2 c^2 <u,v> <v,w>,  B = -c^2 <v,w> |u|^2 - c <u,w>,
    D = 1 + 2c <u,v> + c^2 |u|^2 |v|^2: linear in w, which may be any vector.

    Args:
        u: (..., n) points.
        v: (..., n) points.
        w: (..., n) vectors.
        c: minus the curvature.

    Returns:
        (..., n) vectors as long as w.

    Raises:
        ValueError: a point outside the ball, c negative, wrong shapes.

    Source: Ungar 2008, section 3.

    >>> e = torch.eye(2)
    >>> gyration(0.5 * e[0], 0.5 * e[1], e[0]).round(decimals=4)
    tensor([ 0.8824, -0.4706])
    """
    _require_vectors(u=u, v=v, w=w)
    c = _require_points(c, u=u, v=v)
    return _gyration(u, v, w, c)


def _gyration(u: Tensor, v: Tensor, w: Tensor, c: Tensor) -> Tensor:
    uu, uv, vv, uw, vw = _dot(u, u), _dot(u, v), _dot(v, v), _dot(u, w), _dot(v, w)
    below = c * _dot(u + v, u + v) + (1 - c * uu) * (1 - c * vv)  # = D, without cancellation
    a = c * (vw - c * uw * vv + 2 * c * uv * vw) / below
    b = -c * (uw + c * vw * uu) / below
    return w + 2 * (a * u + b * v)


def transport(x: Tensor, y: Tensor, v: Tensor, c: Curvature = 1.0) -> Tensor:
    r"""Parallel transport of v along the geodesic from x to y: (lambda_x / lambda_y) gyr[y, -x] v.

    Args:
        x: (..., n) points.
        y: (..., n) points.
        v: (..., n) tangent vectors at x.
        c: minus the curvature.

    Returns:
        (..., n) tangent vectors at y, of the same Riemannian length.

    Raises:
        ValueError: a point outside the ball, c negative, wrong shapes.

    Source: Ganea et al. 2018, section 3.

    >>> transport(torch.zeros(2), torch.tensor([0.6, 0.0]), torch.tensor([0.0, 1.0])).round(decimals=4)
    tensor([0.0000, 0.6400])
    """
    _require_vectors(x=x, y=y, v=v)
    c = _require_points(c, x=x, y=y)
    return _factor(x, c) / _factor(y, c) * _gyration(y, -x, v, c)


def _shares(x: Tensor, weights: Tensor | None) -> Tensor:
    if x.dim() < 2 or not x.shape[-2]:
        raise ValueError(f"x: received shape {tuple(x.shape)}; valid is (..., N, n), N > 0. Repair: torch.stack them.")
    if weights is None:
        return x.new_full((x.shape[-2], 1), 1 / x.shape[-2])
    require_real("weights", weights)
    total = weights.sum(-1, keepdim=True)
    if weights.shape[-1:] != x.shape[-2:-1] or not bool((weights >= 0).all() and (total > 0).all()):
        raise ValueError(
            f"weights: received shape {tuple(weights.shape)}, sums from {float(total.min()):.3g}; valid is "
            f"(..., {x.shape[-2]}), one per point, not negative, with a positive sum. Repair: weights.clamp_min(0)."
        )
    return (weights / total).to(x.dtype)[..., None]


def midpoint(x: Tensor, weights: Tensor | None = None, c: Curvature = 1.0) -> Tensor:
    r"""The gyromidpoint: a mean in closed form, which minimises the sum of w (cosh(sqrt(c) d) - 1), not of w d^2.

    With m = sum w lambda x / sum w (lambda - 1) it is m / (1 + sqrt(1 - c |m|^2)). On the hyperboloid it is the sum of
    the points, scaled back; for two points it is the middle of their geodesic.

    Args:
        x: (..., N, n) points.
        weights: (..., N) not negative; equal if omitted.
        c: minus the curvature.

    Returns:
        (..., n) points.

    Raises:
        ValueError: a point outside the ball, c negative, weights that do not fit.

    Source: Ungar 2008, chapter 4; the batch norm of van Spengler et al. 2023 replaces the Fréchet mean by it.

    >>> midpoint(torch.tensor([[0.0, 0.0], [0.8, 0.0]]))
    tensor([0.5000, 0.0000])
    """
    c = _require_points(c, x=x)
    w, factor = _shares(x, weights), _factor(x, c)
    space, time = (w * factor * x).sum(-2), (w * (factor - 1)).sum(-2)
    rest = (time.square() - c * _dot(space, space)).clamp_min(thresholds.smallest_norm(x.dtype))
    return space / (time + rest.sqrt())


def frechet_mean(x: Tensor, weights: Tensor | None = None, c: Curvature = 1.0) -> Tensor:
    r"""The point with the least sum of w d(x, .)^2; unique.

    The iteration minimises a bound that touches this sum from above, in float64: with
    y = c |x - m|^2 / ((1 - c|x|^2)(1 - c|m|^2)), alpha = w arsinh(sqrt y) / sqrt(y (1 + y)) / (1 - c|x|^2),
    a = sum alpha (1 + c |x|^2), b = sum alpha x the next m is 2 b / (a + sqrt(a^2 - 4 c |b|^2)). The gradient comes
    from the implicit function theorem: one linear system per mean, no matter how many steps were needed.

    Args:
        x: (..., N, n) points.
        weights: (..., N) not negative; equal if omitted.
        c: minus the curvature.

    Returns:
        (..., n) points.

    Raises:
        ValueError: a point outside the ball, c negative, weights that do not fit.

    Source: Lou et al. 2020, "Differentiating through the Fréchet mean", algorithm 1 and theorem 4.

    >>> frechet_mean(torch.tensor([[0.0, 0.0], [0.8, 0.0]])).round(decimals=6)
    tensor([0.5000, 0.0000])
    """
    c = _require_points(c, x=x)
    w = _shares(x, weights)
    batch = torch.broadcast_shapes(x.shape[:-2], w.shape[:-2])
    x, w = x.expand(*batch, *x.shape[-2:]), w.expand(*batch, *w.shape[-2:])
    return _FrechetMean.apply(x.double(), w.double(), c.double(), thresholds.converged(x.dtype)).to(x.dtype)


def _iterate(x: Tensor, w: Tensor, c: Tensor, tolerance: float) -> Tensor:
    flat = 1 - c * _dot(x, x)
    m = (w * x).sum(-2, keepdim=True)
    for _ in range(_MEAN_STEPS):
        e = x - m
        y = c * _dot(e, e) / (flat * (1 - c * _dot(m, m)))
        alpha = w * _arsinhc(y) / (1 + y).sqrt() / flat
        a, b = (alpha * (2 - flat)).sum(-2, keepdim=True), (alpha * x).sum(-2, keepdim=True)
        new = 2 * b / (a + (a.square() - 4 * c * _dot(b, b)).clamp_min(0).sqrt())
        step = torch.linalg.vector_norm(new - m, dim=-1, keepdim=True) * _factor(new, c)
        m = new
        if not bool((step > tolerance).any()):
            break
    return m.squeeze(-2)


def _slope(m: Tensor, x: Tensor, w: Tensor, c: Tensor) -> Tensor:
    """The Euclidean gradient of sum w d(x, m)^2 / 4 towards m (..., n), as a function that has a graph."""
    flat, here = 1 - c * _dot(x, x), 1 - c * _dot(m, m)[..., None, :]
    e = m[..., None, :] - x
    squared = _dot(e, e)
    z = c * squared / (flat * here)
    # d(q arsinhc(c q)^2) / dq = arsinhc(z) / sqrt(1 + z), with q = squared / (flat here)
    outer = w * _arsinhc(z) / (1 + z).sqrt() / (flat * here)
    return (outer * (2 * e + 2 * c * squared / here * m[..., None, :])).sum(-2)


class _FrechetMean(torch.autograd.Function):
    r"""m solves g(m, x, w, c) = 0 with g the gradient of the objective and H = dg/dm its symmetric Hessian.

    With the upstream gradient u and H s = u: the gradient towards x, w, c is that of -<s, g(m, x, w, c)>.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, c: Tensor, tolerance: float) -> Tensor:
        m = _iterate(x, w, c, tolerance)
        ctx.save_for_backward(x, w, c, m)
        return m

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, w, c, m = (t.detach().requires_grad_() for t in ctx.saved_tensors)
        with torch.enable_grad():
            g = _slope(m, x, w, c)
            rows = [torch.autograd.grad(g[..., i].sum(), m, retain_graph=True)[0] for i in range(m.shape[-1])]
            s = torch.linalg.solve(torch.stack(rows, -2), u[..., None]).squeeze(-1)
            gx, gw, gc = torch.autograd.grad(g, (x, w, c), -s)
        return gx, gw, gc, None


def project(x: Tensor, c: Curvature = 1.0) -> Tensor:
    r"""The nearest point that lies within the ball by a margin: sqrt(c) |x| <= 1 - sqrt(eps).

    Args:
        x: (..., n) any vectors.
        c: minus the curvature.

    Returns:
        (..., n) points; those inside the margin as they were.

    Raises:
        ValueError: c negative, or x not real.

    Source: Nickel & Kiela 2017, eq. 5, with another margin.

    >>> project(torch.tensor([[3.0, 4.0], [0.3, 0.4]])).norm(dim=1).round(decimals=3)
    tensor([1.0000, 0.5000])
    """
    _require_vectors(x=x)
    return x * _clip(_curvature(c, x) * _dot(x, x))


def random(
    n: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    *,
    size: int = 3,
    scale: float = 1.0,
    c: Curvature = 1.0,
) -> Tensor:
    r"""Points expmap0(v) whose vector from the origin has normal coordinates of standard deviation ``scale``.

    Args:
        n: how many.
        generator: source of randomness; it must live on ``device``. The global one if omitted.
        dtype: float32 or float64; torch's default if omitted.
        device: where; torch's default if omitted.
        size: dimension of the ball.
        scale: root mean square distance from the origin, per dimension.
        c: minus the curvature.

    Returns:
        (n, size) points.

    Raises:
        ValueError: n negative, size below one, scale or c negative.

    Source: Nagano et al. 2019, "A wrapped normal distribution on hyperbolic space".

    >>> random(3, torch.Generator().manual_seed(0), size=2).shape
    torch.Size([3, 2])
    """
    if n < 0 or size < 1 or not scale >= 0:
        raise ValueError(
            f"n, size, scale: received {n}, {size} and {scale}; valid are n >= 0, size >= 1 and scale >= 0. "
            "Repair: random(10, size=2, scale=1.0)."
        )
    v = torch.randn(n, size, generator=generator, dtype=dtype, device=device)
    return expmap0(scale / 2 * v, c)


# The names under which every space of the package has these verbs.
exp = expmap
log = logmap
mean = frechet_mean
