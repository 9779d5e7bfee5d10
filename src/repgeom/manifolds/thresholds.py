"""Every numerical threshold of the package, as a function of the dtype, with the reason it has this size."""

import torch


def eps(dtype: torch.dtype) -> float:
    """Spacing of floating-point numbers next to one: 1.2e-7 in float32, 2.2e-16 in float64."""
    return torch.finfo(dtype).eps


def smallest_norm(dtype: torch.dtype) -> float:
    """Vectors shorter than this count as zero: they are not normalised, so that their gradients stay finite.

    The square root of the smallest normal number (1e-19 in float32, 1e-154 in float64): below it the squares that make
    up the norm underflow anyhow.
    """
    return torch.finfo(dtype).tiny ** 0.5


def series_radius(dtype: torch.dtype) -> float:
    """Below this argument a quotient such as atan(x) / x is replaced by four terms of its Taylor series.

    eps ** (1/4) is 0.019 in float32 and 1.2e-4 in float64: the first dropped term, x ** 8, is far below eps, and the
    derivative of the quotient, which cancels like eps / x, still has eps ** (3/4) left.
    """
    return eps(dtype) ** 0.25


def membership(dtype: torch.dtype) -> float:
    """Largest entry of a defect (such as R^T R - I) that still counts as lying in the space: the square root of eps.

    3.5e-4 in float32, 1.5e-8 in float64: far above the rounding of long products, far below a real mistake.
    """
    return eps(dtype) ** 0.5


def converged(dtype: torch.dtype) -> float:
    """An iteration stops when its step is smaller than this: a few units of rounding."""
    return 8 * eps(dtype)
