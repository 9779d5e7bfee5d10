"""Checks of arguments. Shape and dtype cost nothing and are always checked; checks of values say what they cost."""

import torch
from torch import Tensor

from repgeom.manifolds import thresholds


def require_real(name: str, x: Tensor) -> None:
    """Raise ``ValueError`` unless x is a tensor of float32 or float64."""
    if not isinstance(x, Tensor):
        raise ValueError(
            f"{name}: received {type(x).__name__}; valid is a torch tensor. "
            f"Repair: torch.as_tensor({name}, dtype=torch.float64)."
        )
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name}: received {x.dtype}; valid is float32 or float64. Repair: {name}.to(torch.float32).")


def require_shape(name: str, x: Tensor, *last: int) -> None:
    """Raise ``ValueError`` unless x is real and its last dimensions are ``last``."""
    require_real(name, x)
    if tuple(x.shape[-len(last) :]) != last:
        wanted = ", ".join(["...", *map(str, last)])
        raise ValueError(
            f"{name}: received shape {tuple(x.shape)}; valid is ({wanted}). "
            f"Repair: reshape or slice {name} so that it ends in {', '.join(map(str, last))}."
        )


def require_rotation(name: str, R: Tensor) -> None:
    """Raise ``ValueError`` unless the matrices R (..., n, n) are rotations. Costs a pass over the data."""
    require_real(name, R)
    n = R.shape[-1] if R.dim() > 1 else 0
    if R.dim() < 2 or R.shape[-2] != n:
        raise ValueError(
            f"{name}: received shape {tuple(R.shape)}; valid are square matrices (..., n, n). "
            f"Repair: reshape {name}, for nine numbers a rotation by {name}.unflatten(-1, (3, 3))."
        )
    if not R.numel():
        return
    with torch.no_grad():
        defect = float((R.mT @ R - torch.eye(n, dtype=R.dtype, device=R.device)).abs().amax())
        limit = thresholds.membership(R.dtype)
        if not defect <= limit:  # written so that NaN fails
            raise ValueError(
                f"{name}: received matrices with |R^T R - I| up to {defect:.2g}; valid are rotations, to within "
                f"{limit:.2g} in {R.dtype}. Repair: project({name}), or check=False to convert them as they are."
            )
        if bool((torch.linalg.det(R) < 0).any()):
            raise ValueError(
                f"{name}: received a reflection (determinant -1); valid are rotations (determinant +1). "
                f"Repair: project({name}), which returns the nearest rotation."
            )


def checked_rotation(name: str, R: Tensor, check: bool) -> Tensor:
    """R itself, after :func:`require_rotation` where ``check`` asks for it and R is not part of a training graph."""
    if check and not R.requires_grad and not torch.compiler.is_compiling():
        require_rotation(name, R)
    return R


def shares(name: str, points: Tensor, weights: Tensor | None) -> Tensor:
    """Weights (..., N) that sum to one, for points (..., N, r, c); ``ValueError`` where either does not fit."""
    if points.dim() < 3 or points.shape[-3] == 0:
        raise ValueError(
            f"{name}: received shape {tuple(points.shape)}; valid is (..., N, {points.shape[-2]}, {points.shape[-1]}), "
            "N > 0. Repair: torch.stack the matrices."
        )
    if weights is None:
        return points.new_full((points.shape[-3],), 1 / points.shape[-3])
    require_real("weights", weights)
    if weights.shape[-1:] != points.shape[-3:-2]:
        raise ValueError(
            f"weights: received shape {tuple(weights.shape)}; valid is (..., {points.shape[-3]}), one per matrix. "
            "Repair: give as many weights as matrices."
        )
    total = weights.sum(-1, keepdim=True)
    if not bool((weights >= 0).all() and (total > 0).all()):
        raise ValueError(
            f"weights: received values from {float(weights.min()):.3g} to {float(weights.max()):.3g}; valid are "
            "non-negative numbers with a positive sum. Repair: weights.clamp_min(0)."
        )
    return (weights / total).to(points.dtype)


def as_time(t: Tensor | float, like: Tensor) -> Tensor:
    """t as a tensor (..., 1, 1) that multiplies matrices."""
    return torch.as_tensor(t, dtype=like.dtype, device=like.device)[..., None, None]
