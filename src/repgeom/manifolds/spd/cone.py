r"""What the metrics on SPD(n) share: membership, projection, random points, the Lyapunov equation.

SPD(n) is the open cone of symmetric positive definite matrices. A tangent vector at any of its points is a symmetric
matrix; coordinates are the ambient ones. Matrices are (..., n, n); that they are symmetric is not checked.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from repgeom.manifolds import checks, thresholds
from repgeom.manifolds.checks import require_real


def sym(A: Tensor) -> Tensor:
    """The symmetric part (A + A^T) / 2 of A (..., n, n)."""
    return (A + A.mT) / 2


def require_square(name: str, A: Tensor) -> None:
    """Raise ``ValueError`` unless A is real and square (..., n, n). Costs nothing."""
    require_real(name, A)
    if A.dim() < 2 or A.shape[-1] != A.shape[-2] or A.shape[-1] == 0:
        raise ValueError(
            f"{name}: received shape {tuple(A.shape)}; valid are square matrices (..., n, n). "
            f"Repair: reshape {name} so that its last two dimensions are equal."
        )


def require_same_size(name: str, A: Tensor, other: str, B: Tensor) -> None:
    """Raise ``ValueError`` unless both are square and of the same size n."""
    require_square(name, A)
    require_square(other, B)
    if A.shape[-1] != B.shape[-1]:
        raise ValueError(
            f"{other}: received {B.shape[-1]} x {B.shape[-1]} matrices beside {name} of size {A.shape[-1]}; valid are "
            f"equal sizes. Repair: compare matrices of the same number of channels."
        )
    if A.dtype != B.dtype:
        raise ValueError(
            f"{other}: received {B.dtype} beside {name} of {A.dtype}; valid are equal dtypes. "
            f"Repair: {other}.to({A.dtype})."
        )


class _NotPositive(ValueError):
    """What :func:`not_positive` makes, so that :func:`blame` can tell it from other errors."""


def _marks(X: Tensor) -> Tensor:
    """(...) one for each finite matrix, NaN for the others."""
    finite = torch.isfinite(X.detach()).all(-1).all(-1)
    return torch.where(finite, torch.ones_like(finite, dtype=X.dtype), torch.nan)


@contextmanager
def blame(**matrices: Tensor | None) -> Iterator[None]:
    """Inside, an error about an intermediate matrix becomes one about the argument that caused it, with its index."""
    try:
        yield
    except (_NotPositive, torch.linalg.LinAlgError) as error:
        for name, X in matrices.items():
            if X is not None:
                try:
                    require_spd(name, sym(X.detach()))
                except ValueError as better:
                    raise better from None
        raise error


def not_positive(name: str, smallest: Tensor, largest: Tensor) -> ValueError:
    """The error for matrices whose least eigenvalues (...) are not all positive; names the worst and its place."""
    flat = smallest.detach().reshape(-1)
    worst = int(torch.where(flat.isnan(), torch.full_like(flat, -torch.inf), flat).argmin())
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), smallest.shape)) if smallest.dim() else ()
    top = float(largest.detach().reshape(-1)[worst])
    return _NotPositive(
        f"{name}: received a matrix with eigenvalue {float(flat[worst]):.3g} (largest {top:.3g}) at index {index}; "
        f"valid are symmetric positive definite matrices without NaN. Repair: add a multiple of the identity, use "
        f"float64, or project({name})."
    )


def require_spd(name: str, X: Tensor) -> None:
    """Refuse X unless every matrix of it is symmetric positive definite. Costs an eigen-decomposition.

    Symmetric means up to the square root of the rounding unit of the largest entry.

    Args:
        name: what to call X in the message.
        X: (..., n, n) anything.

    Returns:
        Nothing.

    Raises:
        ValueError: wrong shape or dtype, NaN, not symmetric, or not positive definite (naming the worst eigenvalue).

    Source: standard.

    >>> require_spd("X", torch.eye(2))
    """
    require_square(name, X)
    if not X.numel():
        return
    with torch.no_grad():
        size = X.abs().amax((-2, -1))
        skew = float(((X - X.mT).abs().amax((-2, -1)) - thresholds.membership(X.dtype) * size).amax())
        if skew > 0:
            raise ValueError(
                f"{name}: received a matrix that differs from its transpose by {float((X - X.mT).abs().amax()):.2g}; "
                f"valid are symmetric positive definite matrices. Repair: ({name} + {name}.mT) / 2."
            )
        if not bool(torch.isfinite(X).all()):
            raise not_positive(name, _marks(X), _marks(X))
        values = torch.linalg.eigvalsh(sym(X))
        if not bool((values[..., 0] > 0).all()):
            raise not_positive(name, values[..., 0], values[..., -1])


def eigh(name: str, X: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (..., n), ascending, and eigenvectors (..., n, n) of X, which must be positive definite."""
    try:
        values, vectors = torch.linalg.eigh(sym(X))
    except torch.linalg.LinAlgError:
        raise not_positive(name, _marks(X), _marks(X)) from None
    if X.numel() and not bool((values > 0).all()):  # all of them, because of NaN
        raise not_positive(name, values[..., 0] * _marks(X), values[..., -1] * _marks(X))
    return values, vectors


def symmetric_eigh(name: str, X: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of X, positive definite or not; ``ValueError`` where X has NaN or infinity."""
    try:
        values, vectors = torch.linalg.eigh(sym(X))
        failed = not bool(torch.isfinite(values.detach()).all())
    except torch.linalg.LinAlgError:
        failed = True
    if failed:
        raise ValueError(
            f"{name}: received a matrix with NaN or infinity; valid are finite symmetric matrices. "
            f"Repair: see where torch.isfinite({name}) is false."
        )
    return values, vectors


def cholesky(name: str, X: Tensor) -> Tensor:
    """The lower factor L with L L^T = X, or ``ValueError`` naming the worst eigenvalue."""
    L, info = torch.linalg.cholesky_ex(X)
    if X.numel() and bool((info > 0).any() | L.detach().diagonal(dim1=-2, dim2=-1).isfinite().logical_not().any()):
        require_spd(name, X.detach())
        values = torch.linalg.eigvalsh(X.detach())  # positive by a rounding error only: still not factored
        raise not_positive(name, values[..., 0] - torch.finfo(X.dtype).eps * values[..., -1], values[..., -1])
    return L


def project(M: Tensor, floor: float | None = None) -> Tensor:
    r"""The nearest symmetric matrix, in Frobenius norm, whose eigenvalues are at least a floor.

    Args:
        M: (..., n, n) any matrices.
        floor: least eigenvalue of the result; if omitted, the largest absolute eigenvalue of M times the square root of
            the rounding unit (1.5e-8 in float64, 3.5e-4 in float32).

    Returns:
        (..., n, n) symmetric positive definite.

    Raises:
        ValueError: not square, wrong dtype, NaN, a floor that is not positive, or M without any eigenvalue but zero.

    Source: Higham 1988, "Computing a nearest symmetric positive semidefinite matrix", with a floor.

    >>> project(torch.tensor([[2.0, 0.0], [0.0, -1.0]]), floor=0.5)
    tensor([[2.0000, 0.0000],
            [0.0000, 0.5000]])
    """
    require_square("M", M)
    if floor is not None and not floor > 0:
        raise ValueError(f"floor: received {floor}; valid is a positive number. Repair: floor=1e-6.")
    values, vectors = symmetric_eigh("M", M)
    least = values.abs().amax(-1, keepdim=True) * thresholds.membership(M.dtype)
    least = torch.full_like(least, floor) if floor is not None else least
    if M.numel() and not bool((least > 0).all()):
        raise ValueError("M: received a matrix of zeros; valid is any other matrix. Repair: give a floor.")
    return sym(vectors * torch.maximum(values, least)[..., None, :] @ vectors.mT)


def random(
    n: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    *,
    size: int = 3,
    spread: float = 0.5,
) -> Tensor:
    r"""Log-normal matrices exp(S): S symmetric Gaussian, its diagonal of variance spread^2, the rest of half of that.

    The distribution does not change under X -> Q X Q^T for orthogonal Q.

    Args:
        n: how many.
        generator: source of randomness; it must live on ``device``. The global one if omitted.
        dtype: float32 or float64; torch's default if omitted.
        device: where; torch's default if omitted.
        size: rows of each matrix.
        spread: standard deviation of the logarithm's diagonal.

    Returns:
        (n, size, size) symmetric positive definite.

    Raises:
        ValueError: n negative, size below one, or spread not positive.

    Source: Schwartzman 2016, "Lognormal distributions and geometric averages of symmetric positive definite matrices".

    >>> random(2, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 3])
    """
    if n < 0 or size < 1 or not spread > 0:
        raise ValueError(
            f"n, size, spread: received {n}, {size} and {spread}; valid are n >= 0, size >= 1 and spread > 0. "
            "Repair: random(10, size=4)."
        )
    S = spread * sym(torch.randn(n, size, size, generator=generator, dtype=dtype, device=device))
    return sym(torch.linalg.matrix_exp(S))


class _Lyapunov(torch.autograd.Function):
    """Y X + X Y = V. With Y = L_X[V]: V-bar = L_X[Y-bar], X-bar = -(V-bar Y + Y V-bar)."""

    @staticmethod
    def forward(ctx: Any, X: Tensor, V: Tensor) -> Tensor:
        values, vectors = eigh("X", X)
        total = values[..., :, None] + values[..., None, :]
        Y = vectors @ ((vectors.mT @ sym(V) @ vectors) / total) @ vectors.mT
        ctx.save_for_backward(vectors, total, Y)
        ctx.shapes = X.shape, V.shape
        return Y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor, Tensor]:
        vectors, total, Y = ctx.saved_tensors
        V = vectors @ ((vectors.mT @ sym(G) @ vectors) / total) @ vectors.mT
        X = -2 * sym(V @ Y)
        return X.sum_to_size(ctx.shapes[0]), V.sum_to_size(ctx.shapes[1])


def lyapunov(X: Tensor, V: Tensor) -> Tensor:
    r"""The solution Y = L_X[V] of X Y + Y X = V; in the eigenbasis of X, Y_ij = V_ij / (l_i + l_j).

    Differentiable in both arguments, without differences of eigenvalues.

    Args:
        X: (..., n, n) symmetric positive definite.
        V: (..., n, n) symmetric; batch dimensions broadcast.

    Returns:
        (..., n, n) symmetric.

    Raises:
        ValueError: wrong shapes or dtype, or X not positive definite.

    Source: standard.

    >>> lyapunov(torch.diag(torch.tensor([1.0, 3.0])), torch.ones(2, 2))
    tensor([[0.5000, 0.2500],
            [0.2500, 0.1667]])
    """
    require_same_size("X", X, "V", V)
    return _Lyapunov.apply(X, V)


def shares(Xs: Tensor, weights: Tensor | None) -> Tensor:
    """Weights (..., N, 1, 1) that sum to one, for matrices Xs (..., N, n, n)."""
    require_square("Xs", Xs)
    return checks.shares("Xs", Xs, weights)[..., None, None]
