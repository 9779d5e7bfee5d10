"""SO(3) as a space: the verbs that every space of the package has, for the bi-invariant metric |v|."""

import torch
from torch import Tensor

from repgeom.manifolds import thresholds
from repgeom.manifolds.checks import require_shape
from repgeom.manifolds.rotations.codes import from_quaternion, from_rotvec, to_rotvec
from repgeom.manifolds.rotations.procrustes import nearest_rotation


def geodesic_angle(a: Tensor, b: Tensor) -> Tensor:
    require_shape("a", a, 3, 3)
    require_shape("b", b, 3, 3)
    a, b = torch.broadcast_tensors(a, b)
    sine = torch.linalg.vector_norm(torch.linalg.cross(a, b - a, dim=-2).sum(-1), dim=-1)
    return torch.atan2(sine, (a * b).sum((-2, -1)) - 1)


def distance(a: Tensor, b: Tensor) -> Tensor:
    return geodesic_angle(a, b)


def exp(R: Tensor, v: Tensor) -> Tensor:
    require_shape("R", R, 3, 3)
    require_shape("v", v, 3)
    return R @ from_rotvec(v)


def log(R: Tensor, S: Tensor) -> Tensor:
    require_shape("R", R, 3, 3)
    require_shape("S", S, 3, 3)
    return to_rotvec(R.mT @ S, check=False)


def geodesic(R: Tensor, S: Tensor, t: Tensor | float) -> Tensor:
    t = torch.as_tensor(t, dtype=R.dtype, device=R.device)
    return exp(R, t[..., None] * log(R, S))


def transport(R: Tensor, S: Tensor, v: Tensor) -> Tensor:
    return (from_rotvec(-log(R, S) / 2) @ v[..., None]).squeeze(-1)


def mean(Rs: Tensor, weights: Tensor | None = None) -> Tensor:
    require_shape("Rs", Rs, 3, 3)
    n = Rs.shape[-3]
    if weights is None:
        weights = Rs.new_full((n,), 1 / n)
    weights = (weights / weights.sum(-1, keepdim=True))[..., None]
    R = nearest_rotation((weights[..., None] * Rs).sum(-3))
    for _ in range(100):
        step = (weights * log(R[..., None, :, :], Rs)).sum(-2)
        R = exp(R, step)
        if float(step.detach().abs().amax()) < thresholds.converged(R.dtype):
            break
    return R


def project(M: Tensor) -> Tensor:
    return nearest_rotation(M)


def random_rotations(
    n: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    return from_quaternion(torch.randn(n, 4, generator=generator, dtype=dtype, device=device))


def random(
    n: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    return random_rotations(n, generator, dtype, device)
