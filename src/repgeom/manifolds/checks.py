"""Checks of arguments. Those here are cheap (shape and dtype only) unless their name says otherwise."""

import torch
from torch import Tensor

from repgeom.manifolds import thresholds


def require_floating(name: str, x: Tensor) -> None:
    """Raise ``ValueError`` unless x is a real floating-point tensor."""
    if not isinstance(x, Tensor):
        raise ValueError(
            f"{name}: received {type(x).__name__}; valid is a torch tensor. Repair: torch.as_tensor({name}, dtype=torch.float64)."
        )
    if not x.is_floating_point():
        raise ValueError(
            f"{name}: received dtype {x.dtype}; valid is a real floating-point dtype. Repair: {name}.to(torch.float64)."
        )


def require_shape(name: str, x: Tensor, *last: int, repair: str = "") -> None:
    """Raise ``ValueError`` unless x is floating point and its last dimensions are ``last``."""
    require_floating(name, x)
    if tuple(x.shape[-len(last) :]) != last:
        wanted = ", ".join(["..."] + [str(k) for k in last])
        repair = repair or f"reshape {name} so that its last dimension{'s are' if len(last) > 1 else ' is'} {last if len(last) > 1 else last[0]}"
        raise ValueError(f"{name}: received shape {tuple(x.shape)}; valid is ({wanted}). Repair: {repair}.")


def require_rotation(name: str, R: Tensor) -> None:
    """Raise ``ValueError`` unless the matrices R (..., n, n) are rotations. Costs a pass over the data."""
    n = R.shape[-1]
    require_shape(name, R, n, n)
    with torch.no_grad():
        defect = (R.mT @ R - torch.eye(n, dtype=R.dtype, device=R.device)).abs().amax() if R.numel() else R.new_zeros(())
        limit = thresholds.membership(R.dtype)
        if not bool(defect <= limit):  # written so that NaN fails
            raise ValueError(
                f"{name}: received matrices with |R^T R - I| up to {float(defect):.2g}; valid are rotations, to within "
                f"{limit:.2g} in {R.dtype}. Repair: project({name}), or check=False to convert them as they are."
            )
        if bool((torch.linalg.det(R) < 0).any()):
            raise ValueError(
                f"{name}: received a reflection (determinant -1); valid are rotations (determinant +1). "
                f"Repair: project({name}), which returns the nearest rotation."
            )
