r"""Gr(n, k): the k-dimensional subspaces of R^n, each held as a matrix S (..., n, k) with orthonormal columns.

S and S Q, Q orthogonal (k, k), are the same point. A tangent vector at S is G (..., n, k) with S^T G = 0; for another
matrix S Q of the same subspace it is G Q. Its length is the Frobenius norm, so distances are in radians. Functions that
return a point return one of its matrices: compare points by :func:`distance`, or by the projectors S S^T.

Nothing below inverts a matrix or divides by a small angle. With the singular value decomposition S^T T = A cos(t) B^T,
k x k, the columns of E = T B - S A cos(t) have the lengths sin(t), and t = atan2(sin, cos) keeps its digits throughout.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from repgeom.manifolds import checks, thresholds
from repgeom.manifolds.checks import as_time, require_real
from repgeom.manifolds.gradients import with_gradient

__all__ = [
    "chordal_distance",
    "distance",
    "exp",
    "frechet_mean",
    "geodesic",
    "inner",
    "log",
    "mean",
    "principal_angles",
    "project",
    "project_tangent",
    "random",
    "reorthonormalize",
    "retract_qr",
    "transport",
]

_MEAN_STEPS = 200


def _require_frame(name: str, S: Tensor) -> None:
    require_real(name, S)
    if S.dim() < 2 or not 1 <= S.shape[-1] <= S.shape[-2]:
        raise ValueError(
            f"{name}: received shape {tuple(S.shape)}; valid is (..., n, k) with 1 <= k <= n. "
            f"Repair: columns span the subspace, so {name}.mT where rows do."
        )


def _require_pair(name: str, S: Tensor, other: str, T: Tensor, same: bool = True) -> None:
    _require_frame(name, S)
    _require_frame(other, T)
    fits = S.shape[-2:] == T.shape[-2:] if same else S.shape[-2] == T.shape[-2]
    if not fits or S.dtype != T.dtype:
        valid = f"(..., {S.shape[-2]}, {S.shape[-1] if same else 'l'}) of {S.dtype}"
        raise ValueError(
            f"{other}: received shape {tuple(T.shape)} of {T.dtype} beside {name} of shape {tuple(S.shape)}; valid is "
            f"{valid}. Repair: compare subspaces of the same R^n{' and dimension' if same else ''}, in one dtype."
        )


class _Relative(NamedTuple):
    """T as seen from S; B turns T's matrix into the one nearest to S A A^T."""

    A: Tensor  # (..., k, k)
    B: Tensor  # (..., k, k)
    cos: Tensor  # (..., k)
    sin: Tensor  # (..., k)
    E: Tensor  # (..., n, k): orthogonal to S, column lengths sin

    @property
    def angles(self) -> Tensor:
        return torch.atan2(self.sin, self.cos)

    def log(self) -> Tensor:
        """E (t / sin t) A^T; the quotient is one where both vanish."""
        flat = self.sin == 0
        ratio = torch.where(flat, torch.ones_like(self.sin), self.angles / torch.where(flat, 1, self.sin))
        return self.E * ratio[..., None, :] @ self.A.mT


def _relative(S: Tensor, T: Tensor) -> _Relative:
    A, cos, Bh = torch.linalg.svd(S.mT @ T)
    E = T @ Bh.mT - S @ (A * cos[..., None, :])
    return _Relative(A, Bh.mT, cos, torch.linalg.vector_norm(E, dim=-2), E)


def principal_angles(S: Tensor, T: Tensor) -> Tensor:
    r"""The angles between two subspaces, from the smallest to the largest; their dimensions may differ.

    cos t_j are the singular values of S^T T, sin t_j those of T - S S^T T; each angle is taken from both.

    Args:
        S: (..., n, k) orthonormal columns.
        T: (..., n, l) orthonormal columns; batch dimensions broadcast.

    Returns:
        (..., min(k, l)) angles in [0, pi / 2], ascending, in radians.

    Raises:
        ValueError: wrong shapes or dtype.

    Source: Bjorck & Golub 1973, "Numerical methods for computing angles between linear subspaces".

    >>> I = torch.eye(3)
    >>> principal_angles(I[:, :2], I[:, 1:]).round(decimals=4)
    tensor([0.0000, 1.5708])
    """
    _require_pair("S", S, "T", T, same=False)
    if T.shape[-1] > S.shape[-1]:
        S, T = T, S
    overlap = S.mT @ T
    cos = torch.linalg.svdvals(overlap)
    sin = torch.linalg.svdvals(T - S @ overlap).flip(-1)
    return torch.atan2(sin, cos)


def distance(S: Tensor, T: Tensor) -> Tensor:
    r"""The geodesic distance: the root of the sum of squared principal angles.

    Differentiable wherever no principal angle is pi / 2; the gradient where S and T agree is zero.

    Args:
        S: (..., n, k) orthonormal columns.
        T: (..., n, k) orthonormal columns; batch dimensions broadcast.

    Returns:
        (...) radians, at most sqrt(k) pi / 2.

    Raises:
        ValueError: wrong shapes or dtype.

    Source: Edelman, Arias & Smith 1998, "The geometry of algorithms with orthogonality constraints", section 4.3.

    >>> I = torch.eye(3)
    >>> distance(I[:, :2], I[:, 1:]).round(decimals=4)
    tensor(1.5708)
    """
    _require_pair("S", S, "T", T)
    differentiate = torch.is_grad_enabled() and (S.requires_grad or T.requires_grad)
    with torch.no_grad():
        there = _relative(S, T)
        d = torch.linalg.vector_norm(there.angles, dim=-1)
        if not differentiate:
            return d
        length = torch.where(d == 0, 1, d)[..., None, None]
        towards_s, towards_t = -there.log() / length, -_relative(T, S).log() / length
    return with_gradient(S, T, d, towards_s, towards_t)


def chordal_distance(S: Tensor, T: Tensor) -> Tensor:
    r"""The root of the sum of squared sines of the principal angles: |S S^T - T T^T|_F / sqrt(2).

    Computed as |T - S S^T T|_F, so that nearby subspaces keep their digits; sqrt(k - |S^T T|_F^2) would lose half.

    Args:
        S: (..., n, k) orthonormal columns.
        T: (..., n, k) orthonormal columns; batch dimensions broadcast.

    Returns:
        (...) number, at most sqrt(k).

    Raises:
        ValueError: wrong shapes or dtype.

    Source: Conway, Hardin & Sloane 1996, "Packing lines, planes, etc.".

    >>> I = torch.eye(3)
    >>> chordal_distance(I[:, :2], I[:, 1:])
    tensor(1.)
    """
    _require_pair("S", S, "T", T)
    return torch.linalg.matrix_norm(T - S @ (S.mT @ T))


def inner(S: Tensor, U: Tensor, V: Tensor) -> Tensor:
    r"""The scalar product of two tangent vectors, tr(U^T V).

    Args:
        S: (..., n, k) orthonormal columns; only its shape counts, the product is the same everywhere.
        U: (..., n, k) tangent vector at S.
        V: (..., n, k) tangent vector at S.

    Returns:
        (...) number, in squared radians.

    Raises:
        ValueError: wrong shapes or dtype.

    Source: Edelman, Arias & Smith 1998, section 2.5.

    >>> inner(torch.eye(2, 1), torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [3.0]]))
    tensor(6.)
    """
    _require_pair("S", S, "U", U)
    _require_pair("S", S, "V", V)
    return (U * V).sum((-2, -1))


def project_tangent(S: Tensor, Z: Tensor) -> Tensor:
    r"""The tangent part of any matrix: Z - S S^T Z. Of a Euclidean gradient it makes the Riemannian one.

    Args:
        S: (..., n, k) orthonormal columns.
        Z: (..., n, k) anything; batch dimensions broadcast.

    Returns:
        (..., n, k) G with S^T G = 0.

    Raises:
        ValueError: wrong shapes or dtype.

    Source: Edelman, Arias & Smith 1998, section 2.5.

    >>> project_tangent(torch.eye(2, 1), torch.tensor([[3.0], [4.0]]))
    tensor([[0.],
            [4.]])
    """
    _require_pair("S", S, "Z", Z)
    return Z - S @ (S.mT @ Z)


def _cos_slopes(p: Tensor, q: Tensor) -> Tensor:
    """(cos p - cos q) / (p^2 - q^2), without a difference that could cancel."""
    return -0.5 * torch.sinc((p + q) / (2 * torch.pi)) * torch.sinc((p - q) / (2 * torch.pi))


@cache
def _nodes() -> tuple[Tensor, Tensor]:
    """Forty Gauss-Legendre nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)


def _sinc_slopes(p: Tensor, q: Tensor) -> Tensor:
    """(sin p / p - sin q / q) / (p^2 - q^2) = the integral over s in [0, 1] of s^2 times the cosine slopes at s p, s q.

    Forty nodes are exact to rounding for angles up to 40.
    """
    s, w = (x.to(p) for x in _nodes())
    return (_cos_slopes(p[..., None] * s, q[..., None] * s) * s.square() * w).sum(-1)


class _CosSinc(torch.autograd.Function):
    """cos(C^1/2) and sin(C^1/2) C^-1/2 of symmetric C >= 0: entire functions of C, so nothing happens at zero."""

    @staticmethod
    def forward(ctx: Any, C: Tensor) -> tuple[Tensor, Tensor]:
        values, V = torch.linalg.eigh(C)
        z = values.clamp_min(0).sqrt()
        ctx.save_for_backward(z, V)
        return V * z.cos()[..., None, :] @ V.mT, V * torch.sinc(z / torch.pi)[..., None, :] @ V.mT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, along_cos: Tensor, along_sinc: Tensor) -> Tensor:
        z, V = ctx.saved_tensors
        p, q = z[..., :, None], z[..., None, :]
        inside = _cos_slopes(p, q) * (V.mT @ along_cos @ V) + _sinc_slopes(p, q) * (V.mT @ along_sinc @ V)
        inside = V @ inside @ V.mT
        return (inside + inside.mT) / 2


def cos_sinc(C: Tensor) -> tuple[Tensor, Tensor]:
    """cos(C^1/2) and sin(C^1/2) C^-1/2 of symmetric C (..., k, k) >= 0, by a power series where C is small.

    Where no gradient is asked for and every trace is at most a quarter, so that angles are at most half a radian, the
    series to the dtype's last digit is a few products of small matrices; an eigen-decomposition elsewhere.
    """
    graph = torch.is_grad_enabled() and C.requires_grad
    if graph or not C.numel() or not bool(C.diagonal(dim1=-2, dim2=-1).sum(-1).amax() <= 0.25):
        if not bool(torch.isfinite(C.detach()).all()):
            raise torch.linalg.LinAlgError("C: received NaN or infinity")
        return _CosSinc.apply(C)
    k = C.shape[-1]
    one = torch.eye(k, dtype=C.dtype, device=C.device)
    X, cos, sinc = C.reshape(-1, k, k), one.expand(1, k, k), one.expand(1, k, k)
    for j in range(4 if C.dtype == torch.float32 else 8, 0, -1):
        cos = torch.baddbmm(one, X, cos.expand_as(X), alpha=-1 / (2 * j * (2 * j - 1)))
        sinc = torch.baddbmm(one, X, sinc.expand_as(X), alpha=-1 / (2 * j * (2 * j + 1)))
    return cos.view_as(C), sinc.view_as(C)


def exp(S: Tensor, G: Tensor) -> Tensor:
    r"""The end of the geodesic that leaves S with velocity G: S cos(C^1/2) + G sin(C^1/2) C^-1/2, C = G^T G.

    Needs at most one k x k eigen-decomposition, no singular value decomposition; exact, differentiable everywhere.

    Args:
        S: (..., n, k) orthonormal columns.
        G: (..., n, k) tangent vector at S (S^T G = 0, which is not checked: :func:`project_tangent` makes it so).

    Returns:
        (..., n, k) orthonormal columns.

    Raises:
        ValueError: wrong shapes or dtype, or NaN.

    Source: Edelman, Arias & Smith 1998, theorem 2.3, with the singular value decomposition of G multiplied out.

    >>> exp(torch.eye(2, 1), torch.tensor([[0.0], [torch.pi / 2]])).round(decimals=4).abs()
    tensor([[0.],
            [1.]])
    """
    _require_pair("S", S, "G", G)
    try:
        cos, sinc = cos_sinc(G.mT @ G)
    except torch.linalg.LinAlgError:
        raise ValueError("G: received NaN or infinity; valid are finite numbers. Repair: see isfinite(G).") from None
    return S @ cos + G @ sinc


def retract_qr(S: Tensor, G: Tensor) -> Tensor:
    r"""A cheaper move along G: the orthonormal factor of S + G, with positive diagonal of the other factor.

    Turns by atan(s) where :func:`exp` turns by s, for every singular value s of G: never beyond a right angle. The
    polar factor of S + G spans the same subspace.

    Args:
        S: (..., n, k) orthonormal columns.
        G: (..., n, k) tangent vector at S.

    Returns:
        (..., n, k) orthonormal columns.

    Raises:
        ValueError: wrong shapes or dtype.

    Source: Absil, Mahony & Sepulchre 2008, "Optimization Algorithms on Matrix Manifolds", section 4.1.

    >>> retract_qr(torch.eye(2, 1), torch.tensor([[0.0], [1.0]])).round(decimals=4)
    tensor([[0.7071],
            [0.7071]])
    """
    _require_pair("S", S, "G", G)
    Q, R = torch.linalg.qr(S + G)
    return Q * torch.where(R.diagonal(dim1=-2, dim2=-1) < 0, -1, 1).to(Q.dtype)[..., None, :]


def log(S: Tensor, T: Tensor) -> Tensor:
    r"""The shortest tangent vector G at S with exp(S, G) = T: E (t / sin t) A^T, in the notation of the module's head.

    Where a principal angle is pi / 2 there are several; one of them is returned.

    Args:
        S: (..., n, k) orthonormal columns.
        T: (..., n, k) orthonormal columns; batch dimensions broadcast.

    Returns:
        (..., n, k) tangent vector at S; its singular values are the principal angles, in radians.

    Raises:
        ValueError: wrong shapes or dtype.

    Source: Bendokat, Zimmermann & Absil 2024, "A Grassmann manifold handbook", section 5.2. Gradients pass through a
    singular value decomposition, which has none where principal angles coincide; that of :func:`distance` is exact.

    >>> log(torch.eye(2, 1), torch.tensor([[0.0], [1.0]])).round(decimals=4)
    tensor([[0.0000],
            [1.5708]])
    """
    _require_pair("S", S, "T", T)
    return _relative(S, T).log()


def geodesic(S: Tensor, T: Tensor, t: Tensor | float) -> Tensor:
    r"""The point at time t of the shortest path from S to T: exp(S, t log(S, T)).

    Args:
        S: (..., n, k) orthonormal columns.
        T: (..., n, k) orthonormal columns.
        t: number or (...) tensor of times; batch dimensions broadcast.

    Returns:
        (..., n, k) orthonormal columns; at t = 1 the matrix of T that is nearest to S.

    Raises:
        ValueError: wrong shapes or dtype.

    Source: Edelman, Arias & Smith 1998, theorem 2.3.

    >>> geodesic(torch.eye(2, 1), torch.tensor([[0.0], [1.0]]), 0.5).round(decimals=4)
    tensor([[0.7071],
            [0.7071]])
    """
    return exp(S, as_time(t, S) * log(S, T))


def transport(S: Tensor, T: Tensor, H: Tensor) -> Tensor:
    r"""Parallel transport of H from S to T along the shortest path.

    (H - S A E^T H - E (1 + cos t)^-1 E^T H) A B^T: textbook transport with the division by sin t multiplied out, then
    turned into the coordinates of the given matrix T.

    Args:
        S: (..., n, k) orthonormal columns.
        T: (..., n, k) orthonormal columns; batch dimensions broadcast.
        H: (..., n, k) tangent vector at S.

    Returns:
        (..., n, k) tangent vector at T.

    Raises:
        ValueError: wrong shapes or dtype.

    Source: Edelman, Arias & Smith 1998, theorem 2.4.

    >>> transport(torch.eye(2, 1), torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]])).round(decimals=4)
    tensor([[-1.],
            [ 0.]])
    """
    _require_pair("S", S, "T", T)
    _require_pair("S", S, "H", H)
    there = _relative(S, T)
    along = there.E.mT @ H
    carried = H - S @ (there.A @ along) - there.E @ (along / (1 + there.cos)[..., None])
    return carried @ there.A @ there.B.mT


@torch.no_grad()
def mean(Ss: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""The Frechet mean: the subspace with the least weighted sum of squared distances. No gradient flows through it.

    Starts from the leading k-dimensional subspace of sum_i w_i S_i S_i^T and repeats S <- exp(S, sum_i w_i log(S, S_i))
    until the step is rounding. Within a ball of radius pi / 4 there is exactly one minimum; for wider samples a local
    one is returned.

    Args:
        Ss: (..., N, n, k) orthonormal columns.
        weights: (..., N) non-negative, summing to anything positive; equal if omitted.

    Returns:
        (..., n, k) orthonormal columns.

    Raises:
        ValueError: wrong shapes or dtype, no subspaces, negative weights or weights summing to zero; or no convergence.

    Source: Afsari 2011 (uniqueness); Marrinan et al. 2014, "Finding the subspace mean or median to fit your need".

    >>> lines = torch.tensor([[[1.0], [0.0]], [[0.8], [0.6]], [[0.8], [-0.6]]])
    >>> mean(lines).abs().round(decimals=4)
    tensor([[1.],
            [0.]])
    """
    _require_frame("Ss", Ss)
    share = checks.shares("Ss", Ss, weights)[..., None, None]
    n, k = Ss.shape[-2:]
    limit = thresholds.converged(Ss.dtype) * (n * k) ** 0.5
    stacked = (share.sqrt() * Ss).transpose(-3, -2).flatten(-2)
    center = torch.linalg.svd(stacked, full_matrices=False).U[..., :k]
    for _ in range(_MEAN_STEPS):
        step = (share * log(center[..., None, :, :], Ss)).sum(-3)
        center = exp(center, step)
        if bool((torch.linalg.matrix_norm(step) <= limit).all()):
            return center
    raise ValueError(
        f"Ss: received subspaces whose mean did not settle in {_MEAN_STEPS} steps (last step "
        f"{float(torch.linalg.matrix_norm(step).amax()):.2g} rad); valid are subspaces near each other, no NaN. "
        "Repair: average nearby subspaces, or take the leading singular vectors of all columns."
    )


frechet_mean = mean  # the field's name, beside the verb that every space has


def project(M: Tensor) -> Tensor:
    r"""The span of any matrix of full rank, as the nearest matrix with orthonormal columns: the polar factor U V^T.

    Args:
        M: (..., n, k) of rank k.

    Returns:
        (..., n, k) orthonormal columns that span what those of M span.

    Raises:
        ValueError: wrong shape or dtype, NaN, or columns that are linearly dependent to rounding.

    Source: Fan & Hoffman 1955 (nearest unitary matrix); Higham 1989 for rectangular ones.

    >>> project(torch.tensor([[2.0], [0.0]]))
    tensor([[1.],
            [0.]])
    """
    _require_frame("M", M)
    try:
        U, values, Vh = torch.linalg.svd(M, full_matrices=False)
        full = not M.numel() or bool((values[..., -1] > thresholds.eps(M.dtype) * M.shape[-2] * values[..., 0]).all())
    except torch.linalg.LinAlgError:
        full = False
    if not full:
        raise ValueError(
            "M: received a matrix with linearly dependent columns, or NaN; valid are matrices of rank k. "
            "Repair: drop the dependent columns, or add noise to them."
        )
    return U @ Vh


def reorthonormalize(S: Tensor) -> Tensor:
    r"""Remove rounding errors from a matrix that is nearly orthonormal: twice S <- S (3 I - S^T S) / 2.

    Both Newton-Schulz steps act on the k x k matrix S^T S, so that S is read twice and written once. The limit is the
    polar factor: columns stay where they are, unlike after a QR decomposition, and tangent vectors stay aligned.

    Args:
        S: (..., n, k) with S^T S within about 0.1 of the identity.

    Returns:
        (..., n, k) orthonormal columns, to rounding where S was within 1e-4 of them.

    Raises:
        ValueError: wrong shape or dtype.

    Source: Bjorck & Bowie 1971; Higham 2008, "Functions of Matrices", section 8.3.

    >>> reorthonormalize(torch.tensor([[1.001], [0.0]])).round(decimals=4)
    tensor([[1.],
            [0.]])
    """
    _require_frame("S", S)
    return S @ polish(S.mT @ S)


def polish(C: Tensor) -> Tensor:
    """The factor P (..., k, k) of :func:`reorthonormalize`: P C P is closer to the identity than C = S^T S is."""
    once = 1.5 * torch.eye(C.shape[-1], dtype=C.dtype, device=C.device) - C / 2
    return once @ (3 * torch.eye(C.shape[-1], dtype=C.dtype, device=C.device) - once @ C @ once) / 2


def random(
    n: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    *,
    size: int = 5,
    subspace_dim: int = 2,
) -> Tensor:
    r"""Subspaces that are uniformly distributed: the orthonormal factor of Gaussian matrices.

    Args:
        n: how many.
        generator: source of randomness; it must live on ``device``. The global one if omitted.
        dtype: float32 or float64; torch's default if omitted.
        device: where; torch's default if omitted.
        size: dimension of the space around.
        subspace_dim: dimension k of the subspaces.

    Returns:
        (n, size, subspace_dim) orthonormal columns. In memory rows of columns, so that S.mT is contiguous.

    Raises:
        ValueError: n negative, or not 1 <= subspace_dim <= size.

    Source: Chikuse 2003, "Statistics on Special Manifolds".

    >>> random(3, torch.Generator().manual_seed(0), size=4, subspace_dim=2).shape
    torch.Size([3, 4, 2])
    """
    if n < 0 or not 1 <= subspace_dim <= size:
        raise ValueError(
            f"n, size, subspace_dim: received {n}, {size} and {subspace_dim}; valid are n >= 0 and "
            "1 <= subspace_dim <= size. Repair: random(10, size=64, subspace_dim=4)."
        )
    gaussian = torch.randn(n, size, subspace_dim, generator=generator, dtype=dtype, device=device)
    return torch.linalg.qr(gaussian).Q.mT.contiguous().mT
