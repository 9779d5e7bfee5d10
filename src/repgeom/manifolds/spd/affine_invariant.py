r"""SPD(n) under the affine-invariant metric g_X(U, V) = tr(X^-1 U X^-1 V).

Every congruence X -> C X C^T is an isometry. Everything is computed after the congruence by the inverse Cholesky factor
of the base point, which takes it to the identity, where exp and log are those of matrices.
"""

import torch
from torch import Tensor

from repgeom.manifolds import thresholds
from repgeom.manifolds.checks import as_time
from repgeom.manifolds.gradients import root, with_gradient
from repgeom.manifolds.spd.cone import blame, cholesky, project, random, require_same_size, shares, sym
from repgeom.manifolds.spd.matrix_functions import expm, logm, sqrtm

__all__ = ["distance", "exp", "geodesic", "inner", "log", "mean", "project", "random", "transport"]

_MEAN_STEPS = 500
_PATIENCE = 5  # short steps in a row, none shorter than before: rounding, which grows with the condition number


def _whitened(F: Tensor, V: Tensor) -> Tensor:
    """F^-1 V F^-T for a lower triangular F."""
    half = torch.linalg.solve_triangular(F, V, upper=False)
    return sym(torch.linalg.solve_triangular(F, half.mT, upper=False))


def distance(A: Tensor, B: Tensor) -> Tensor:
    r"""|log(A^-1/2 B A^-1/2)|_F, from the singular values s of L_A^-1 L_B: 2 |log s|.

    Singular values keep the digits of a ratio that eigenvalues, their squares, lose: half as many digits go for the
    same condition number. Equal matrices have distance and gradient zero exactly.

    Args:
        A: (..., n, n) symmetric positive definite.
        B: (..., n, n) symmetric positive definite; batch dimensions broadcast.

    Returns:
        (...) number without unit.

    Raises:
        ValueError: wrong shapes or dtype, or not positive definite.

    Source: Pennec, Fillard & Ayache 2006.

    >>> distance(torch.eye(2), torch.e * torch.eye(2)).square().round(decimals=3)
    tensor(2.)
    """
    require_same_size("A", A, "B", B)
    wanted = torch.is_grad_enabled() and (A.requires_grad or B.requires_grad)
    with torch.no_grad():
        F, L = cholesky("A", A), cholesky("B", B)
        left, values, right = torch.linalg.svd(torch.linalg.solve_triangular(F, L, upper=False))
        squared = (2 * values.log()).square().sum(-1)
        squared = torch.where((A == B).all(-1).all(-1), torch.zeros_like(squared), squared)
        if not wanted:
            return root(squared)
        # A = W W^T and B = W s^2 W^T with W = F P, and B = W' W'^T with W' = L R^T.
        slope = 4 * values.log()[..., None, :]
        a = torch.linalg.solve_triangular(F.mT.expand_as(left), left, upper=True)
        b = torch.linalg.solve_triangular(L.mT.expand_as(right), right.mT, upper=True)
        a, b = -a * slope @ a.mT, b * slope @ b.mT
    return root(with_gradient(A, B, squared, a, b))


def inner(X: Tensor, U: Tensor, V: Tensor) -> Tensor:
    r"""The scalar product tr(X^-1 U X^-1 V) of two tangent vectors.

    Args:
        X: (..., n, n) symmetric positive definite.
        U: (..., n, n) symmetric.
        V: (..., n, n) symmetric.

    Returns:
        (...) number.

    Raises:
        ValueError: wrong shapes or dtype, or X not positive definite.

    Source: Pennec, Fillard & Ayache 2006.

    >>> inner(2 * torch.eye(2), torch.eye(2), torch.eye(2))
    tensor(0.5000)
    """
    require_same_size("X", X, "U", U)
    require_same_size("X", X, "V", V)
    F = cholesky("X", X)
    return (_whitened(F, U) * _whitened(F, V)).sum((-2, -1))


def exp(X: Tensor, V: Tensor) -> Tensor:
    r"""The end of the geodesic that leaves X with velocity V: L exp(L^-1 V L^-T) L^T, X = L L^T.

    Args:
        X: (..., n, n) symmetric positive definite.
        V: (..., n, n) symmetric: tangent vector at X.

    Returns:
        (..., n, n) symmetric positive definite.

    Raises:
        ValueError: wrong shapes or dtype, or X not positive definite.

    Source: Pennec, Fillard & Ayache 2006; with L in place of X^1/2, which invariance allows.

    >>> exp(torch.eye(2), torch.zeros(2, 2)).diagonal().round(decimals=3)
    tensor([1., 1.])
    """
    require_same_size("X", X, "V", V)
    F = cholesky("X", X)
    return sym(F @ expm(_whitened(F, V)) @ F.mT)


def log(X: Tensor, Y: Tensor) -> Tensor:
    r"""The V with exp(X, V) = Y: L log(L^-1 Y L^-T) L^T, X = L L^T.

    Args:
        X: (..., n, n) symmetric positive definite.
        Y: (..., n, n) symmetric positive definite; batch dimensions broadcast.

    Returns:
        (..., n, n) symmetric: tangent vector at X.

    Raises:
        ValueError: wrong shapes or dtype, or not positive definite; also when L^-1 Y L^-T is not so in this precision.

    Source: Pennec, Fillard & Ayache 2006.

    >>> log(torch.eye(2), torch.e * torch.eye(2)).diagonal().round(decimals=3)
    tensor([1., 1.])
    """
    require_same_size("X", X, "Y", Y)
    with blame(X=X, Y=Y):
        F = cholesky("X", X)
        return sym(F @ logm(_whitened(F, Y)) @ F.mT)


def geodesic(X: Tensor, Y: Tensor, t: Tensor | float) -> Tensor:
    r"""The point at time t of the geodesic from X to Y: L (L^-1 Y L^-T)^t L^T, X = L L^T.

    Args:
        X: (..., n, n) symmetric positive definite.
        Y: (..., n, n) symmetric positive definite.
        t: number or (...) tensor of times; batch dimensions broadcast.

    Returns:
        (..., n, n) symmetric positive definite.

    Raises:
        ValueError: wrong shapes or dtype, or not positive definite.

    Source: Pennec, Fillard & Ayache 2006.

    >>> geodesic(torch.eye(2), 9 * torch.eye(2), 0.5).diagonal().round(decimals=3)
    tensor([3., 3.])
    """
    require_same_size("X", X, "Y", Y)
    with blame(X=X, Y=Y):
        F = cholesky("X", X)
        return sym(F @ expm(as_time(t, X) * logm(_whitened(F, Y))) @ F.mT)


def transport(X: Tensor, Y: Tensor, V: Tensor) -> Tensor:
    r"""Parallel transport of V from X to Y along the geodesic: E V E^T, E = (Y X^-1)^1/2.

    Args:
        X: (..., n, n) symmetric positive definite.
        Y: (..., n, n) symmetric positive definite.
        V: (..., n, n) symmetric: tangent vector at X; batch dimensions broadcast.

    Returns:
        (..., n, n) symmetric: tangent vector at Y.

    Raises:
        ValueError: wrong shapes or dtype, or not positive definite.

    Source: Sra & Hosseini 2015; Yair, Ben-Chen & Talmon 2019. Here E = L (L^-1 Y L^-T)^1/2 L^-1.

    >>> transport(torch.eye(2), 4 * torch.eye(2), torch.eye(2)).diagonal().round(decimals=3)
    tensor([4., 4.])
    """
    require_same_size("X", X, "Y", Y)
    require_same_size("X", X, "V", V)
    with blame(X=X, Y=Y):
        F = cholesky("X", X)
        half = F @ sqrtm(_whitened(F, Y))
    return sym(half @ _whitened(F, V) @ half.mT)


def mean(Xs: Tensor, weights: Tensor | None = None, *, steps: int | None = None) -> Tensor:
    r"""The Frechet mean (Karcher mean): the G with sum_i w_i log(G, X_i) = 0.

    Starts from the weighted arithmetic mean and repeats G <- exp(G, sum_i w_i log(G, X_i)), with half the step where
    that would lengthen the next one. The minimum is unique: the curvature is not positive.

    Args:
        Xs: (..., N, n, n) symmetric positive definite.
        weights: (..., N) non-negative, summing to anything positive; equal if omitted.
        steps: so many full steps, whether or not they converge; until convergence if omitted.

    Returns:
        (..., n, n) symmetric positive definite.

    Raises:
        ValueError: wrong shapes or dtype, no matrices, not positive definite, negative weights or weights summing to
            zero, steps below one; or no convergence.

    Source: Moakher 2005; Pennec, Fillard & Ayache 2006.

    >>> mean(torch.stack([torch.eye(2), 9 * torch.eye(2)])).diagonal().round(decimals=3)
    tensor([3., 3.])
    """
    if steps is not None and steps < 1:
        raise ValueError(f"steps: received {steps}; valid is a positive integer, or None. Repair: steps=1.")
    w = shares(Xs, weights)
    G = sym((w * Xs).sum(-3))
    size, before, shortest, waited = 1.0, float("inf"), float("inf"), 0
    for _ in range(steps or _MEAN_STEPS):
        with blame(Xs=Xs):
            F = cholesky("Xs", G)
            step = (w * logm(_whitened(F[..., None, :, :], Xs))).sum(-3)
        length = float(step.detach().abs().amax()) if step.numel() else 0.0
        short = length <= thresholds.membership(Xs.dtype)  # there, a step that grows is rounding
        if steps is None and length > before and not short:
            size = size / 2
        before = length
        waited = 0 if length < shortest else waited + 1
        shortest = min(shortest, length)
        G = sym(F @ expm(size * step) @ F.mT)
        if steps is None and (length <= 4 * thresholds.converged(Xs.dtype) or (short and waited >= _PATIENCE)):
            break
    else:
        if steps is None:
            raise ValueError(
                f"Xs: received matrices whose mean did not settle in {_MEAN_STEPS} steps (last step {length:.2g}); "
                "valid are condition numbers up to about 1e8. Repair: float64, or steps=10 for an approximate mean."
            )
    return G
