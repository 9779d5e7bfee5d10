"""Zhou's continuous codes for every SO(n): drop the last column, and Gram-Schmidt it back; 5D is the shorter form."""

import math

import torch
from torch import Tensor

from repgeom.manifolds.checks import require_floating, require_rotation
from repgeom.manifolds.rotations.algebra import unit


def from_columns(x: Tensor) -> Tensor:
    require_floating("x", x)
    k = x.shape[-1]
    n = (1 + math.isqrt(1 + 4 * k)) // 2
    if n * n - n != k or n < 2:
        raise ValueError(f"x: received last dimension {k}; valid is n^2 - n, that is 2, 6, 12, 20, ... Repair: give the first n - 1 columns.")
    return _gram_schmidt(x.unflatten(-1, (n - 1, n)).mT)


def _gram_schmidt(A: Tensor) -> Tensor:
    n = A.shape[-2]
    columns: list[Tensor] = []
    for a in A.unbind(-1):
        for _ in range(2):
            for b in columns:
                a = a - (b * a).sum(-1, keepdim=True) * b
            a = unit(a)
        columns.append(a)
    B = torch.stack(columns, dim=-1)
    with torch.no_grad():
        axis = torch.nn.functional.one_hot(B.square().sum(-1).argmin(-1), n).to(B.dtype)
    last = axis
    for _ in range(2):
        last = unit(last - (B @ (B.mT @ last[..., None])).squeeze(-1))
    R = torch.cat([B, last[..., None]], dim=-1)
    with torch.no_grad():
        sign = torch.linalg.det(R).sign()
    return torch.cat([B, (last * sign[..., None])[..., None]], dim=-1)


def to_columns(R: Tensor, *, check: bool = True) -> Tensor:
    if check and not R.requires_grad and not torch.compiler.is_compiling():
        require_rotation("R", R)
    return R[..., :-1].mT.flatten(-2)


def _project(u: Tensor) -> Tensor:
    v = unit(u)
    return v[..., 1:] / (1 - v[..., :1])


def _lift(p: Tensor) -> Tensor:
    from repgeom.manifolds import thresholds

    norm = torch.linalg.vector_norm(p, dim=-1, keepdim=True).clamp_min(thresholds.smallest_norm(p.dtype))
    return torch.cat([(norm - 1 / norm) / 2, p / norm], dim=-1)


def from_projected_columns(x: Tensor) -> Tensor:
    require_floating("x", x)
    k = x.shape[-1]
    n = 1 + math.isqrt(max(k - 1, 0))
    if n * n - 2 * n + 2 != k or n < 2:
        raise ValueError(f"x: received last dimension {k}; valid is n^2 - 2n + 2, that is 2, 5, 10, 17, ...")
    if n == 2:
        return from_columns(x)
    lifted = _lift(x[..., 2:].unflatten(-1, (n - 2, n)))
    first = torch.cat([x[..., :2], lifted[..., 0]], dim=-1)
    return from_columns(torch.cat([first, lifted[..., 1:].flatten(-2)], dim=-1))


def to_projected_columns(R: Tensor, *, check: bool = True) -> Tensor:
    if check and not R.requires_grad and not torch.compiler.is_compiling():
        require_rotation("R", R)
    borrowed = R[..., 2:, :1]
    blocks = _project(torch.cat([borrowed, R[..., 1:-1].mT], dim=-1))
    return torch.cat([R[..., :2, 0], blocks.flatten(-2)], dim=-1)


def from_5d(x: Tensor) -> Tensor:
    return from_projected_columns(x)


def to_5d(R: Tensor, *, check: bool = True) -> Tensor:
    return to_projected_columns(R, check=check)
