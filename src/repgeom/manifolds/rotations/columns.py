"""The continuous codes of Zhou et al. for every SO(n): columns completed by Gram-Schmidt, and their projected form."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from repgeom.manifolds.checks import checked_rotation, require_real, require_shape
from repgeom.manifolds.rotations.algebra import nonzero, unit
from repgeom.manifolds.rotations.decoders import SixD


def from_columns(x: Tensor) -> Tensor:
    r"""SO(n) from its first n - 1 columns, by Gram-Schmidt (n = 3: the 6D code).

    b_1 = a_1 / |a_1|, b_i = N(a_i - sum_{j<i} (b_j . a_i) b_j) for i < n, and b_n the generalised cross product: the
    unit vector orthogonal to the others with det [b_1 ... b_n] = +1. Continuous where the a_i are linearly independent;
    where they are not, the result is not a rotation, but it and its gradients are finite.

    Args:
        x: (..., n^2 - n) the columns a_1, ..., a_{n-1}, one after the other. n is read off the length.

    Returns:
        (..., n, n) rotation.

    Raises:
        ValueError: the last dimension is not of the form n^2 - n, or the dtype is neither float32 nor float64.

    Source: Zhou et al. 2019, p. 4-5, the map f_GS.

    >>> from_columns(torch.tensor([2.0, 0.0]))
    tensor([[1., 0.],
            [0., 1.]])
    """
    n = _size(x, lambda n: n * n - n, "n^2 - n, that is 2, 6, 12, 20, ...")
    if n == 3:
        return SixD.apply(x)[0]
    columns: list[Tensor] = []
    for a in x.unflatten(-1, (n - 1, n)).unbind(-2):
        for _ in range(2):  # twice is enough: the second round removes what rounding left of the first
            for b in columns:
                a = a - (b * a).sum(-1, keepdim=True) * b
            a = unit(a)
        columns.append(a)
    return _completed(torch.stack(columns, dim=-1))


def _completed(B: Tensor) -> Tensor:
    """Append to the orthonormal columns B (..., n, n-1) the one that makes the determinant +1."""
    n = B.shape[-2]
    with torch.no_grad():  # start from the axis furthest from their span; the result does not depend on this choice
        furthest = B.square().sum(-1).argmin(-1)
        last = torch.nn.functional.one_hot(furthest, n).to(B.dtype)
    for _ in range(2):
        last = unit(last - (B @ (B.mT @ last[..., None])).squeeze(-1))
    with torch.no_grad():
        sign = torch.linalg.det(torch.cat([B, last[..., None]], dim=-1)).sign()
    return torch.cat([B, (last * sign[..., None])[..., None]], dim=-1)


def to_columns(R: Tensor, *, check: bool = True) -> Tensor:
    r"""The first n - 1 columns of a rotation, one after the other (n = 3: the 6D code).

    Args:
        R: (..., n, n) rotation.
        check: verify that R is a rotation; costs a pass over the data, so turn it off in training loops.

    Returns:
        (..., n^2 - n).

    Raises:
        ValueError: R is not a rotation (with ``check``), or the dtype is neither float32 nor float64.

    Source: Zhou et al. 2019, p. 4, the map g_GS.

    >>> to_columns(torch.eye(3))
    tensor([1., 0., 0., 0., 1., 0.])
    """
    return checked_rotation("R", R, check)[..., :-1].mT.flatten(-2)


def from_projected_columns(x: Tensor) -> Tensor:
    r"""SO(n) from n^2 - 2n + 2 numbers: undo n - 2 stereographic projections, then Gram-Schmidt (n = 3: the 5D code).

    Q(p) = ((|p|^2 - 1) / (2 |p|), p / |p|) lifts each block p of n numbers to n + 1; its first number returns to the
    first column, the others are a column. Undefined, but finite, where a block is zero. The published decoder first
    scales the blocks to the reach of a network's outputs; this one does not.

    Args:
        x: (..., n^2 - 2n + 2): the first two entries of column 1, then the blocks of columns 2 to n - 1.

    Returns:
        (..., n, n) rotation.

    Raises:
        ValueError: the last dimension is not of the form n^2 - 2n + 2, or the dtype is neither float32 nor float64.

    Source: Zhou et al. 2019, p. 5-6, with one projection per column.

    >>> R = from_projected_columns(to_projected_columns(torch.eye(4, dtype=torch.float64)))
    >>> torch.allclose(R, torch.eye(4, dtype=torch.float64))
    True
    """
    n = _size(x, lambda n: n * n - 2 * n + 2, "n^2 - 2n + 2, that is 2, 5, 10, 17, ...")
    p = x[..., 2:].unflatten(-1, (n - 2, n)) if n > 2 else x.new_zeros(*x.shape[:-1], 0, n)
    norm = nonzero(torch.linalg.vector_norm(p, dim=-1))
    first = torch.cat([x[..., :2], (norm - 1 / norm) / 2], dim=-1)
    return from_columns(torch.cat([first, (p / norm[..., None]).flatten(-2)], dim=-1))


def to_projected_columns(R: Tensor, *, check: bool = True) -> Tensor:
    r"""n^2 - 2n + 2 numbers of a rotation in SO(n): each middle column projected with an entry of the first.

    P(u) = (v_2, ..., v_m) / (1 - v_1), v = u / |u|, for u = (entry j + 1 of column 1, column j), 2 <= j <= n - 1.
    The pole v_1 = 1 is never met, because column j has length one.

    Args:
        R: (..., n, n) rotation.
        check: verify that R is a rotation; costs a pass over the data, so turn it off in training loops.

    Returns:
        (..., n^2 - 2n + 2): the first two entries of column 1, then one block of n numbers per column 2 to n - 1.

    Raises:
        ValueError: R is not a rotation (with ``check``), or the dtype is neither float32 nor float64.

    Source: Zhou et al. 2019, p. 5-6, with one projection per column.

    >>> to_projected_columns(torch.eye(3))
    tensor([1., 0., 0., 1., 0.])
    """
    R = checked_rotation("R", R, check)
    v = unit(torch.cat([R[..., 2:, :1], R[..., 1:-1].mT], dim=-1))
    return torch.cat([R[..., :2, 0], (v[..., 1:] / (1 - v[..., :1])).flatten(-2)], dim=-1)


def from_5d(x: Tensor) -> Tensor:
    r"""SO(3) from five numbers, the fewest that a continuous code can have: :func:`from_projected_columns` for n = 3.

    Args:
        x: (..., 5): R00, R10, then the projection of (R20, second column). Its last three numbers must not all be zero.

    Returns:
        (..., 3, 3) rotation.

    Raises:
        ValueError: the last dimension is not 5, or the dtype is neither float32 nor float64.

    Source: Zhou et al. 2019, p. 5-6, without the scaling of the published decoder.

    >>> from_5d(torch.tensor([2.0, 0.0, 0.0, 1.0, 0.0]))
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    require_shape("x", x, 5)
    return from_projected_columns(x)


def to_5d(R: Tensor, *, check: bool = True) -> Tensor:
    r"""Five numbers of a rotation: R00, R10, and the stereographic projection of (R20, R01, R11, R21) to three.

    Args:
        R: (..., 3, 3) rotation.
        check: verify that R is a rotation; costs a pass over the data, so turn it off in training loops.

    Returns:
        (..., 5); the norm of the last three lies between sqrt(2) - 1 and sqrt(2) + 1.

    Raises:
        ValueError: R is not a rotation (with ``check``), or the dtype is neither float32 nor float64.

    Source: Zhou et al. 2019, p. 5-6.

    >>> to_5d(torch.eye(3))
    tensor([1., 0., 0., 1., 0.])
    """
    require_shape("R", R, 3, 3)
    return to_projected_columns(R, check=check)


def _size(x: Tensor, length: Callable[[int], int], valid: str) -> int:
    """The n >= 2 with length(n) numbers in the last dimension of x."""
    require_real("x", x)
    k = x.shape[-1] if x.dim() else 0
    n = math.isqrt(k) + 1
    for candidate in (n, n + 1):
        if candidate >= 2 and length(candidate) == k:
            return candidate
    raise ValueError(f"x: received last dimension {k}; valid is {valid}. Repair: give all the numbers of one SO(n).")
