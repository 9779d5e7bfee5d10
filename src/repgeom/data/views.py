"""Images as rows that small networks can read at once."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["digits", "principal"]


def digits() -> tuple[Tensor, Tensor]:
    """The digits bundled with scikit-learn, pixels / 16 without their mean.

    Returns:
        (1797, 64) float32 and (1797) int64 labels.

    >>> x, y = digits()
    >>> x.shape, bool(x.mean(0).abs().max() < 1e-6)
    (torch.Size([1797, 64]), True)
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.from_numpy(bunch.data).float() / 16
    return x - x.mean(0), torch.from_numpy(bunch.target)


def principal(images: Any, directions: int = 64) -> Tensor:
    """Images without their mean in their leading principal directions, scaled to variance one on average.

    Args:
        images: (N, ...) NumPy array, of any number type.
        directions: how many.

    Returns:
        (N, directions) float32, the direction of largest variance first.

    >>> import numpy as np
    >>> principal(np.eye(5).reshape(5, 1, 5), 2).shape
    torch.Size([5, 2])
    """
    x = torch.from_numpy(images).float().flatten(1) / 255
    x = x - x.mean(0)
    x = x @ torch.linalg.eigh(x.T @ x).eigenvectors[:, -directions:].flip(1)
    return x / x.std()
