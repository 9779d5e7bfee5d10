"""The Lie algebra so(3), and arithmetic on matrices stored component by component.

A batch of small matrices is slow as (..., 3, 3): every product is a library call on nine numbers. Stored as
(3, 3, ...), one tensor operation handles the same component of the whole batch, and the processor's vector units are
busy. The decoders therefore move components to the front, compute there, and move them back once.
"""

import torch
from torch import Tensor

from repgeom.manifolds import thresholds
from repgeom.manifolds.checks import require_shape


def hat(v: Tensor) -> Tensor:
    r"""The cross-product matrix [v]x, with [v]x u = v x u.

    Args:
        v: (..., 3) vector.

    Returns:
        (..., 3, 3) antisymmetric matrix [[0, -v3, v2], [v3, 0, -v1], [-v2, v1, 0]].

    Raises:
        ValueError: the last dimension is not 3, or the dtype is neither float32 nor float64.

    Source: standard.

    >>> hat(torch.tensor([1.0, 2.0, 3.0]))
    tensor([[ 0., -3.,  2.],
            [ 3.,  0., -1.],
            [-2.,  1.,  0.]])
    """
    require_shape("v", v, 3)
    return back(hat_(front(v)), 2)


def vee(A: Tensor) -> Tensor:
    r"""The vector of the antisymmetric part of A; the inverse of :func:`hat`.

    v = (A21 - A12, A02 - A20, A10 - A01) / 2, so that hat(vee(A)) = (A - A^T) / 2.

    Args:
        A: (..., 3, 3) matrix; its symmetric part is ignored.

    Returns:
        (..., 3) vector.

    Raises:
        ValueError: the last two dimensions are not (3, 3), or the dtype is neither float32 nor float64.

    Source: standard.

    >>> vee(hat(torch.tensor([1.0, 2.0, 3.0])))
    tensor([1., 2., 3.])
    """
    require_shape("A", A, 3, 3)
    return back(axial_(front(A, 2)), 1) / 2


def unit(x: Tensor) -> Tensor:
    """x / |x| along the last dimension; zero goes to zero, with a finite gradient."""
    return x / nonzero(torch.linalg.vector_norm(x, dim=-1, keepdim=True))


def nonzero(norm: Tensor) -> Tensor:
    """Lengths to divide by: one instead of zero."""
    return torch.where(norm < thresholds.smallest_norm(norm.dtype), 1, norm)


# Below, components stand first: vectors (3, ...), matrices (3, 3, ...). The names end in an underscore to say so.

CYCLE = ((1, 2), (2, 0), (0, 1))


# torch copies transposed matrices by a routine half as fast as its strided copy; the extra dimension below avoids it.


def front(x: Tensor, dims: int = 1) -> Tensor:
    """Move the last ``dims`` dimensions to the front, contiguously."""
    if dims == 1:
        return front(x[..., None, :], 2)[0]
    return x.movedim((-2, -1), (0, 1)).contiguous()


def back(x: Tensor, dims: int) -> Tensor:
    """Move the first ``dims`` dimensions to the end, contiguously: the inverse of :func:`front`."""
    if dims == 1:
        return back(x[None], 2)[..., 0, :]
    return x.movedim((0, 1), (-2, -1)).contiguous()


def add_product_(total: Tensor, a: Tensor, b: Tensor, sign: int = 1) -> Tensor:
    """total + sign a b; without a graph in one pass over memory and in place, so give it a fresh ``total``."""
    if torch.is_grad_enabled():  # also under torch.func, for which addcmul_ has no batching rule
        return total + a * b if sign > 0 else total - a * b
    return total.addcmul_(a, b, value=sign)


def dot_(a: Tensor, b: Tensor) -> Tensor:
    """Scalar product of vectors (k, ...)."""
    total = a[0] * b[0]
    for i in range(1, len(a)):
        total = add_product_(total, a[i], b[i])
    return total


def cross_(a: Tensor, b: Tensor) -> Tensor:
    """Cross product of vectors (3, ...)."""
    return torch.stack([add_product_(a[i] * b[j], a[j], b[i], -1) for i, j in CYCLE])


def unit_(a: Tensor) -> Tensor:
    """a / |a| for vectors (k, ...); zero goes to zero."""
    return a / nonzero(dot_(a, a).sqrt())


def matmul_(A: Tensor, B: Tensor) -> Tensor:
    """Product of matrices (3, 3, ...)."""
    return add_product_(add_product_(A[:, 0, None] * B[0], A[:, 1, None], B[1]), A[:, 2, None], B[2])


def apply_(A: Tensor, v: Tensor) -> Tensor:
    """Matrix (3, 3, ...) times vector (3, ...)."""
    return add_product_(add_product_(A[:, 0] * v[0], A[:, 1], v[1]), A[:, 2], v[2])


def hat_(v: Tensor) -> Tensor:
    """:func:`hat` for vectors (3, ...)."""
    zero = torch.zeros_like(v[0])
    return torch.stack([zero, -v[2], v[1], v[2], zero, -v[0], -v[1], v[0], zero]).unflatten(0, (3, 3))


def axial_(A: Tensor) -> Tensor:
    """(A21 - A12, A02 - A20, A10 - A01): the gradient of <A, hat(w)> with respect to w, which is twice the vee."""
    return torch.stack([A[2, 1] - A[1, 2], A[0, 2] - A[2, 0], A[1, 0] - A[0, 1]])


def cofactors_(A: Tensor) -> Tensor:
    """Cofactor matrix of (3, 3, ...): its rows are cross products of the rows of A; its transpose is the adjugate."""
    return torch.stack([cross_(A[1], A[2]), cross_(A[2], A[0]), cross_(A[0], A[1])])
