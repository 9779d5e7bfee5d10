r"""Functions of symmetric positive definite matrices with gradients that are right at repeated eigenvalues.

For f(X) = U f(l) U^T the derivative in direction V is U (K o (U^T V U)) U^T with the divided differences
K_ij = (f(l_i) - f(l_j)) / (l_i - l_j), K_ii = f'(l_i) (Daleckii & Krein 1965). Differentiating through ``eigh`` instead
divides by l_i - l_j and gives NaN at the identity. Each K below is written without a difference of eigenvalues that
could cancel, so no threshold decides between the two cases.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from repgeom.manifolds.checks import require_real
from repgeom.manifolds.spd.cone import eigh, require_same_size, require_square, sym, symmetric_eigh

Values = Callable[[Tensor], Tensor]
Slopes = Callable[[Tensor, Tensor], Tensor]


def _log_ratio(a: Tensor, b: Tensor) -> Tensor:
    """log(a / b), to full relative accuracy also where a and b nearly agree."""
    r = (a - b) / (a + b)
    return torch.where(r.abs() < 0.5, 2 * torch.atanh(r.clamp(-0.5, 0.5)), (a / b).log())


def _log_slopes(a: Tensor, b: Tensor) -> Tensor:
    difference = a - b
    slopes = _log_ratio(a, b) / torch.where(difference == 0, torch.ones_like(a), difference)
    return torch.where(difference == 0, 1 / a, slopes)


def _exp_slopes(a: Tensor, b: Tensor) -> Tensor:
    """exp(max) (1 - exp(-d)) / d with d = |a - b|."""
    d = (a - b).abs()
    quotient = torch.where(d == 0, torch.ones_like(d), -torch.expm1(-d) / torch.where(d == 0, torch.ones_like(d), d))
    return torch.maximum(a, b).exp() * quotient


def _power_slopes(p: float) -> Slopes:
    """max^(p-1) (1 - exp(-p u)) / (1 - exp(-u)) with u = log(max / min)."""

    def slopes(a: Tensor, b: Tensor) -> Tensor:
        top = torch.maximum(a, b)
        u = _log_ratio(top, torch.minimum(a, b))
        same = u == 0
        safe = torch.where(same, torch.ones_like(u), u)
        quotient = torch.expm1(-p * safe) / torch.expm1(-safe)
        return top.pow(p - 1) * torch.where(same, torch.full_like(u, p), quotient)

    return slopes


def _sqrt_slopes(a: Tensor, b: Tensor) -> Tensor:
    return 1 / (a.sqrt() + b.sqrt())


def _inv_sqrt_slopes(a: Tensor, b: Tensor) -> Tensor:
    x, y = a.sqrt(), b.sqrt()
    return -1 / (x * y * (x + y))


class _SpectralFunction(torch.autograd.Function):
    """f(X) = U f(l) U^T, with the divided differences of f as its derivative."""

    @staticmethod
    def forward(ctx: Any, X: Tensor, f: Values, slopes: Slopes, positive: bool, name: str) -> Tensor:
        values, vectors = eigh(name, X) if positive else symmetric_eigh(name, X)
        ctx.save_for_backward(values, vectors)
        ctx.slopes = slopes
        return vectors * f(values)[..., None, :] @ vectors.mT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor, None, None, None, None]:
        values, vectors = ctx.saved_tensors
        K = ctx.slopes(values[..., :, None], values[..., None, :])
        return vectors @ (K * (vectors.mT @ sym(G) @ vectors)) @ vectors.mT, None, None, None, None


def spectral_function(X: Tensor, f: Values, slopes: Slopes, *, positive: bool = True) -> Tensor:
    r"""f applied to the eigenvalues of X, differentiable through its divided differences.

    Args:
        X: (..., n, n) symmetric.
        f: function of the eigenvalues, elementwise.
        slopes: slopes(a, b) = (f(a) - f(b)) / (a - b), and f'(a) where a = b; elementwise, symmetric.
        positive: refuse matrices that are not positive definite.

    Returns:
        (..., n, n) symmetric.

    Raises:
        ValueError: not square, wrong dtype, or (with ``positive``) not positive definite.

    Source: Daleckii & Krein 1965; Brooks et al. 2019, eq. 13.

    >>> spectral_function(torch.diag(torch.tensor([1.0, 2.0])), lambda l: l**2, lambda a, b: a + b)
    tensor([[1., 0.],
            [0., 4.]])
    """
    require_square("X", X)
    return _SpectralFunction.apply(X, f, slopes, positive, "X")


def sqrtm(X: Tensor) -> Tensor:
    r"""The symmetric positive definite square root.

    Args:
        X: (..., n, n) symmetric positive definite.

    Returns:
        (..., n, n) symmetric positive definite.

    Raises:
        ValueError: not square, wrong dtype, or not positive definite (with the worst eigenvalue and its index).

    Source: standard; K_ij = 1 / (sqrt(l_i) + sqrt(l_j)).

    >>> sqrtm(torch.diag(torch.tensor([4.0, 9.0]))).diagonal().round(decimals=3)
    tensor([2., 3.])
    """
    return spectral_function(X, torch.sqrt, _sqrt_slopes)


def inv_sqrtm(X: Tensor) -> Tensor:
    r"""The inverse of the square root.

    Args:
        X: (..., n, n) symmetric positive definite.

    Returns:
        (..., n, n) symmetric positive definite.

    Raises:
        ValueError: as :func:`sqrtm`.

    Source: standard; K_ij = -1 / (sqrt(l_i l_j) (sqrt(l_i) + sqrt(l_j))).

    >>> inv_sqrtm(torch.diag(torch.tensor([4.0, 16.0]))).diagonal().round(decimals=3)
    tensor([0.5000, 0.2500])
    """
    return spectral_function(X, torch.rsqrt, _inv_sqrt_slopes)


def powm(X: Tensor, power: float) -> Tensor:
    r"""X^power.

    Args:
        X: (..., n, n) symmetric positive definite.
        power: any real number.

    Returns:
        (..., n, n) symmetric positive definite.

    Raises:
        ValueError: as :func:`sqrtm`.

    Source: standard; with u = log(max / min), K_ij = max^(p-1) (1 - e^(-p u)) / (1 - e^(-u)).

    >>> powm(torch.diag(torch.tensor([1.0, 2.0])), 3.0).diagonal().round(decimals=3)
    tensor([1., 8.])
    """
    return spectral_function(X, lambda values: values.pow(power), _power_slopes(power))


def logm(X: Tensor) -> Tensor:
    r"""The symmetric logarithm.

    Args:
        X: (..., n, n) symmetric positive definite.

    Returns:
        (..., n, n) symmetric.

    Raises:
        ValueError: as :func:`sqrtm`.

    Source: standard; K_ij = (2 / (l_i - l_j)) artanh((l_i - l_j) / (l_i + l_j)).

    >>> logm(torch.eye(2)).abs().max().round(decimals=3)
    tensor(0.)
    """
    return spectral_function(X, torch.log, _log_slopes)


def expm(V: Tensor) -> Tensor:
    r"""The exponential of a symmetric matrix: symmetric positive definite.

    Args:
        V: (..., n, n) symmetric.

    Returns:
        (..., n, n) symmetric positive definite.

    Raises:
        ValueError: not square, wrong dtype, or NaN.

    Source: standard; with d = |l_i - l_j|, K_ij = e^max (1 - e^(-d)) / d.

    >>> expm(torch.zeros(2, 2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    require_square("V", V)
    return _SpectralFunction.apply(V, torch.exp, _exp_slopes, False, "V")


def derivative(function: str, X: Tensor, V: Tensor, power: float = 1.0, *, inverse: bool = False) -> Tensor:
    r"""The derivative of a matrix function at X in direction V, or the direction that has V as its derivative.

    Differentiable in V; X must not require a gradient.

    Args:
        function: "log", "exp" or "power".
        X: (..., n, n) symmetric, positive definite except for "exp".
        V: (..., n, n) symmetric.
        power: the exponent of "power".
        inverse: apply the inverse of the derivative instead.

    Returns:
        (..., n, n) symmetric.

    Raises:
        ValueError: unknown function, wrong shapes or dtype, X not positive definite, or X that requires a gradient.

    Source: Daleckii & Krein 1965.

    >>> derivative("log", 2 * torch.eye(2), torch.eye(2))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    require_same_size("X", X, "V", V)
    slopes = {"log": _log_slopes, "exp": _exp_slopes, "power": _power_slopes(power)}.get(function)
    if slopes is None:
        raise ValueError(f"function: received {function!r}; valid is log, exp or power. Repair: use such a name.")
    if X.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "X: received a tensor that requires a gradient; valid is a fixed base point, because the second derivative "
            "is not implemented. Repair: X.detach()."
        )
    require_real("V", V)
    values, vectors = symmetric_eigh("X", X) if function == "exp" else eigh("X", X)
    K = slopes(values[..., :, None], values[..., None, :])
    hat = vectors.mT @ sym(V) @ vectors
    return vectors @ (hat / K if inverse else K * hat) @ vectors.mT
