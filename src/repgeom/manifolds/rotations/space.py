r"""SO(3) as a space: the verbs that every space of the package has.

The metric is |v|, v the rotation vector of a tangent R [v]x in the body frame; it is bi-invariant, so left and right
multiplication by a rotation are isometries, and geodesics are R Exp(t v). Distances are angles in radians.
"""

import torch
from torch import Tensor

from repgeom.manifolds import thresholds
from repgeom.manifolds.checks import require_shape, shares
from repgeom.manifolds.rotations.codes import from_quaternion, from_rotvec, to_rotvec
from repgeom.manifolds.rotations.procrustes import nearest_rotation

_MEAN_STEPS = 500


def geodesic_angle(a: Tensor, b: Tensor) -> Tensor:
    r"""The angle of a^T b in radians, accurate near 0 and near pi.

    angle = atan2(|w|, tr(a^T b) - 1), w = sum over columns of a_i x (b_i - a_i), |w| = 2 sin(angle); so equal matrices
    have angle zero exactly. The gradient is finite everywhere, and zero at angles 0 and pi, where the angle has a kink.

    Args:
        a: (..., 3, 3) rotation.
        b: (..., 3, 3) rotation; batch dimensions broadcast.

    Returns:
        (...) angle in [0, pi].

    Raises:
        ValueError: the last two dimensions are not (3, 3), or the dtype is neither float32 nor float64.

    Source: standard; acos((tr - 1) / 2) has lost half the digits near 0 and pi, asin(|a - b| / sqrt(8)) near pi.

    >>> geodesic_angle(torch.eye(3), torch.diag(torch.tensor([1.0, -1.0, -1.0])))
    tensor(3.1416)
    """
    require_shape("a", a, 3, 3)
    require_shape("b", b, 3, 3)
    a, b = torch.broadcast_tensors(a, b)
    sine = torch.linalg.vector_norm(torch.linalg.cross(a, b - a, dim=-2).sum(-1), dim=-1)
    return torch.atan2(sine, (a * b).sum((-2, -1)) - 1)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Geodesic distance; the same as :func:`geodesic_angle`, under the name that every space has.

    Args:
        a: (..., 3, 3) rotation.
        b: (..., 3, 3) rotation; batch dimensions broadcast.

    Returns:
        (...) angle in [0, pi], radians.

    Raises:
        ValueError: as :func:`geodesic_angle`.

    Source: standard.

    >>> distance(torch.eye(3), torch.eye(3))
    tensor(0.)
    """
    return geodesic_angle(a, b)


def exp(R: Tensor, v: Tensor) -> Tensor:
    r"""The end of the geodesic that leaves R with velocity v: R Exp([v]x).

    Args:
        R: (..., 3, 3) rotation.
        v: (..., 3) tangent vector at R: a rotation vector in the body frame, radians.

    Returns:
        (..., 3, 3) rotation.

    Raises:
        ValueError: wrong last dimensions, or the dtype is neither float32 nor float64.

    Source: standard.

    >>> exp(torch.eye(3), torch.tensor([torch.pi, 0.0, 0.0])).diagonal().round()
    tensor([ 1., -1., -1.])
    """
    require_shape("R", R, 3, 3)
    require_shape("v", v, 3)
    return R @ from_rotvec(v)


def log(R: Tensor, S: Tensor) -> Tensor:
    r"""The shortest v with exp(R, v) = S: the rotation vector of R^T S.

    Args:
        R: (..., 3, 3) rotation.
        S: (..., 3, 3) rotation; batch dimensions broadcast.

    Returns:
        (..., 3) tangent vector at R in the body frame, radians, of length at most pi; of two at pi one is returned.

    Raises:
        ValueError: wrong last dimensions, or the dtype is neither float32 nor float64.

    Source: standard.

    >>> log(torch.eye(3), torch.diag(torch.tensor([-1.0, -1.0, 1.0])))
    tensor([0.0000, 0.0000, 3.1416])
    """
    require_shape("R", R, 3, 3)
    require_shape("S", S, 3, 3)
    return to_rotvec(R.mT @ S, check=False)


def geodesic(R: Tensor, S: Tensor, t: Tensor | float) -> Tensor:
    r"""The point at time t of the shortest geodesic from R (t = 0) to S (t = 1): R Exp(t log(R, S)).

    Args:
        R: (..., 3, 3) rotation.
        S: (..., 3, 3) rotation.
        t: number or (...) tensor of times; batch dimensions broadcast. Other values than 0 to 1 extrapolate.

    Returns:
        (..., 3, 3) rotation.

    Raises:
        ValueError: wrong last dimensions, or the dtype is neither float32 nor float64.

    Source: standard ("slerp").

    >>> geodesic(torch.eye(3), torch.diag(torch.tensor([-1.0, -1.0, 1.0])), 0.5).round() + 0.0
    tensor([[ 0., -1.,  0.],
            [ 1.,  0.,  0.],
            [ 0.,  0.,  1.]])
    """
    t = torch.as_tensor(t, dtype=R.dtype, device=R.device)
    return exp(R, t[..., None] * log(R, S))


def transport(R: Tensor, S: Tensor, v: Tensor) -> Tensor:
    r"""Parallel transport of v from R to S along the shortest geodesic: Exp(-log(R, S) / 2) v.

    A field of constant body-frame components is not parallel: along R Exp(t w) parallel means v' = -(w x v) / 2.

    Args:
        R: (..., 3, 3) rotation.
        S: (..., 3, 3) rotation.
        v: (..., 3) tangent vector at R in the body frame; batch dimensions broadcast.

    Returns:
        (..., 3) tangent vector at S in the body frame.

    Raises:
        ValueError: wrong last dimensions, or the dtype is neither float32 nor float64.

    Source: Levi-Civita connection of a bi-invariant metric, nabla_X Y = [X, Y] / 2 on left-invariant fields (do Carmo).

    >>> S = exp(torch.eye(3), torch.tensor([0.0, 0.0, torch.pi / 2]))
    >>> transport(torch.eye(3), S, torch.tensor([1.0, 0.0, 0.0]))
    tensor([ 0.7071, -0.7071,  0.0000])
    """
    require_shape("v", v, 3)
    return (from_rotvec(-log(R, S) / 2) @ v[..., None]).squeeze(-1)


def mean(Rs: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""The Frechet mean: the rotation with the least weighted sum of squared distances.

    Starts from the projected weighted sum of the matrices and repeats R <- R Exp(sum_i w_i log(R, R_i)) until the step
    is rounding. Within a ball of radius pi / 2 there is exactly one minimum; for wider samples a local one is returned.

    Args:
        Rs: (..., n, 3, 3) rotations.
        weights: (..., n) non-negative, summing to anything positive; equal if omitted.

    Returns:
        (..., 3, 3) rotation.

    Raises:
        ValueError: wrong dimensions or dtype, no rotations, negative weights or weights summing to zero; or no
            convergence, which happens for samples spread over the whole group.

    Source: Manton 2004; Hartley et al. 2013, "Rotation averaging".

    >>> v = torch.tensor([[0.0, 0.0, 0.1], [0.0, 0.0, 0.3]], dtype=torch.float64)
    >>> to_rotvec(mean(from_rotvec(v)))
    tensor([0.0000, 0.0000, 0.2000], dtype=torch.float64)
    """
    require_shape("Rs", Rs, 3, 3)
    w = shares("Rs", Rs, weights)[..., None]
    R = nearest_rotation((w[..., None] * Rs).sum(-3))
    for _ in range(_MEAN_STEPS):
        step = (w * log(R[..., None, :, :], Rs)).sum(-2)
        R = exp(R, step)
        if bool((step.detach().abs() < thresholds.converged(R.dtype)).all()):
            return R
    raise ValueError(
        f"Rs: received rotations whose mean did not settle in {_MEAN_STEPS} steps (last step "
        f"{float(step.detach().abs().amax()):.2g} rad); valid are rotations within a ball of radius pi / 2, no NaN. "
        "Repair: average nearby rotations, or take project(Rs.mean(-3))."
    )


def project(M: Tensor) -> Tensor:
    r"""The rotation nearest to any 3 x 3 matrix, as :func:`nearest_rotation`, under the name that every space has.

    Args:
        M: (..., 3, 3) any matrix.

    Returns:
        (..., 3, 3) rotation.

    Raises:
        ValueError: as :func:`nearest_rotation`.

    Source: Levinson et al. 2020.

    >>> project(2 * torch.eye(3))
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    return nearest_rotation(M)


def random_rotations(
    n: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Haar-distributed rotations: a Gaussian quaternion, normalised.

    The angle has density (1 - cos t) / pi on [0, pi] and mean pi / 2 + 2 / pi (126.5 degrees).

    Args:
        n: how many.
        generator: source of randomness; it must live on ``device``. The global one if omitted.
        dtype: float32 or float64; torch's default if omitted.
        device: where; torch's default if omitted.

    Returns:
        (n, 3, 3) rotations.

    Raises:
        ValueError: n is negative, or the dtype is neither float32 nor float64.

    Source: Shoemake 1992 for the idea; Muller 1959 for the sphere.

    >>> random_rotations(2, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 3])
    """
    if n < 0:
        raise ValueError(f"n: received {n}; valid is a count, zero or more. Repair: pass a non-negative integer.")
    return from_quaternion(torch.randn(n, 4, generator=generator, dtype=dtype, device=device))


def random(
    n: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """The same as :func:`random_rotations`, under the name that every space has.

    Args:
        n: how many.
        generator: source of randomness; it must live on ``device``. The global one if omitted.
        dtype: float32 or float64; torch's default if omitted.
        device: where; torch's default if omitted.

    Returns:
        (n, 3, 3) rotations.

    Raises:
        ValueError: as :func:`random_rotations`.

    Source: as :func:`random_rotations`.

    >>> random(2, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 3])
    """
    return random_rotations(n, generator, dtype, device)
