r"""SPD(n) under the log-Cholesky metric: flat space, seen through the Cholesky factor with a logarithmic diagonal.

f(X) = strictly lower part of L plus log of its diagonal, X = L L^T. A commutative group whose translations are
isometries. No eigen-decomposition is needed, and the order of rows and columns matters.
"""

import torch
from torch import Tensor

from repgeom.manifolds.checks import as_time
from repgeom.manifolds.gradients import root
from repgeom.manifolds.spd.cone import blame, cholesky, project, random, require_same_size, shares, sym

__all__ = ["distance", "exp", "geodesic", "inner", "log", "mean", "project", "random", "transport"]


def _to(X: Tensor) -> Tensor:
    L = cholesky("X", X)
    return L.tril(-1) + torch.diag_embed(L.diagonal(dim1=-2, dim2=-1).log())


def _factor(S: Tensor) -> Tensor:
    return S.tril(-1) + torch.diag_embed(S.diagonal(dim1=-2, dim2=-1).exp())


def _back(S: Tensor) -> Tensor:
    L = _factor(S)
    return sym(L @ L.mT)


def _push(X: Tensor, V: Tensor) -> Tensor:
    """dL = L P with P the lower half of L^-1 V L^-T, its diagonal halved; d log L_ii = dL_ii / L_ii."""
    L = cholesky("X", X)
    half = torch.linalg.solve_triangular(L, sym(V), upper=False)
    P = torch.linalg.solve_triangular(L, half.mT, upper=False).tril()
    P = P - torch.diag_embed(P.diagonal(dim1=-2, dim2=-1) / 2)
    return (L @ P).tril(-1) + torch.diag_embed(P.diagonal(dim1=-2, dim2=-1))


def _pull(X: Tensor, W: Tensor) -> Tensor:
    L = cholesky("X", X)
    diagonal = L.diagonal(dim1=-2, dim2=-1) * W.diagonal(dim1=-2, dim2=-1)
    return 2 * sym((W.tril(-1) + torch.diag_embed(diagonal)) @ L.mT)


def distance(A: Tensor, B: Tensor) -> Tensor:
    r"""The Euclidean distance of the factors, with logarithms on their diagonals: |f(A) - f(B)|_F.

    Args:
        A: (..., n, n) symmetric positive definite.
        B: (..., n, n) symmetric positive definite; batch dimensions broadcast.

    Returns:
        (...) number without unit.

    Raises:
        ValueError: wrong shapes or dtype, or not positive definite.

    Source: Lin 2019, "Riemannian geometry of SPD matrices via Cholesky decomposition".

    >>> distance(torch.eye(2), torch.e * torch.eye(2)).square().round(decimals=3)
    tensor(0.5000)
    """
    require_same_size("A", A, "B", B)
    with blame(A=A, B=B):
        return root((_to(A) - _to(B)).square().sum((-2, -1)))


def inner(X: Tensor, U: Tensor, V: Tensor) -> Tensor:
    r"""The scalar product of two tangent vectors: the Euclidean product of Df_X[U] and Df_X[V].

    Args:
        X: (..., n, n) symmetric positive definite.
        U: (..., n, n) symmetric.
        V: (..., n, n) symmetric.

    Returns:
        (...) number.

    Raises:
        ValueError: wrong shapes or dtype, or X not positive definite.

    Source: Lin 2019, "Riemannian geometry of SPD matrices via Cholesky decomposition".

    >>> inner(2 * torch.eye(2), torch.eye(2), torch.eye(2))
    tensor(0.1250)
    """
    require_same_size("X", X, "U", U)
    require_same_size("X", X, "V", V)
    return (_push(X, U) * _push(X, V)).sum((-2, -1))


def exp(X: Tensor, V: Tensor) -> Tensor:
    r"""The end of the geodesic that leaves X with velocity V: f^-1(f(X) + Df_X[V]), f as in the head of the module.

    Args:
        X: (..., n, n) symmetric positive definite.
        V: (..., n, n) symmetric: tangent vector at X.

    Returns:
        (..., n, n) symmetric positive definite.

    Raises:
        ValueError: wrong shapes or dtype, or X not positive definite.

    Source: Lin 2019, "Riemannian geometry of SPD matrices via Cholesky decomposition".

    >>> exp(torch.eye(2), torch.zeros(2, 2)).diagonal().round(decimals=3)
    tensor([1., 1.])
    """
    require_same_size("X", X, "V", V)
    return _back(_to(X) + _push(X, V))


def log(X: Tensor, Y: Tensor) -> Tensor:
    r"""The V with exp(X, V) = Y: the V whose Df_X[V] is f(Y) - f(X), f as in the head of the module.

    Args:
        X: (..., n, n) symmetric positive definite.
        Y: (..., n, n) symmetric positive definite; batch dimensions broadcast.

    Returns:
        (..., n, n) symmetric: tangent vector at X.

    Raises:
        ValueError: wrong shapes or dtype, or not positive definite.

    Source: Lin 2019, "Riemannian geometry of SPD matrices via Cholesky decomposition".

    >>> log(torch.eye(2), torch.e * torch.eye(2)).diagonal().round(decimals=3)
    tensor([1., 1.])
    """
    require_same_size("X", X, "Y", Y)
    with blame(X=X, Y=Y):
        return _pull(X, _to(Y) - _to(X))


def geodesic(X: Tensor, Y: Tensor, t: Tensor | float) -> Tensor:
    r"""The point at time t of the geodesic from X to Y: f^-1((1 - t) f(X) + t f(Y)), f as in the head of the module.

    Args:
        X: (..., n, n) symmetric positive definite.
        Y: (..., n, n) symmetric positive definite.
        t: number or (...) tensor of times; batch dimensions broadcast.

    Returns:
        (..., n, n) symmetric positive definite.

    Raises:
        ValueError: wrong shapes or dtype, or not positive definite.

    Source: Lin 2019, "Riemannian geometry of SPD matrices via Cholesky decomposition".

    >>> geodesic(torch.eye(2), 9 * torch.eye(2), 0.5).diagonal().round(decimals=3)
    tensor([3., 3.])
    """
    require_same_size("X", X, "Y", Y)
    t = as_time(t, X)
    with blame(X=X, Y=Y):
        return _back((1 - t) * _to(X) + t * _to(Y))


def transport(X: Tensor, Y: Tensor, V: Tensor) -> Tensor:
    r"""Parallel transport of V from X to Y: the vector at Y with the same Df as V at X, f as in the head of the module.

    Args:
        X: (..., n, n) symmetric positive definite.
        Y: (..., n, n) symmetric positive definite.
        V: (..., n, n) symmetric: tangent vector at X; batch dimensions broadcast.

    Returns:
        (..., n, n) symmetric: tangent vector at Y.

    Raises:
        ValueError: wrong shapes or dtype, or not positive definite.

    Source: Lin 2019; the metric is flat, so the path does not matter.

    >>> transport(torch.eye(2), 4 * torch.eye(2), torch.eye(2)).diagonal().round(decimals=3)
    tensor([4., 4.])
    """
    require_same_size("X", X, "Y", Y)
    require_same_size("X", X, "V", V)
    with blame(X=X, Y=Y):
        return _pull(Y, _push(X, V))


def mean(Xs: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""The Frechet mean, in closed form: f^-1(sum_i w_i f(X_i)), f as in the head of the module.

    Args:
        Xs: (..., N, n, n) symmetric positive definite.
        weights: (..., N) non-negative, summing to anything positive; equal if omitted.

    Returns:
        (..., n, n) symmetric positive definite.

    Raises:
        ValueError: wrong shapes or dtype, no matrices, not positive definite, negative weights or weights summing to
            zero.

    Source: Lin 2019, "Riemannian geometry of SPD matrices via Cholesky decomposition".

    >>> mean(torch.stack([torch.eye(2), 9 * torch.eye(2)])).diagonal().round(decimals=3)
    tensor([3., 3.])
    """
    w = shares(Xs, weights)
    with blame(Xs=Xs):
        return _back((w * _to(Xs)).sum(-3))
