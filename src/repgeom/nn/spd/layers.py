r"""SPDNet: layers that take symmetric positive definite matrices to such matrices, and the step to a flat space.

A module says in its class attribute ``manifolds`` which of its parameters live on a curved space;
:func:`repgeom.optim.parameter_groups` reads it.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from repgeom.manifolds.spd.cone import require_square, sym
from repgeom.manifolds.spd.matrix_functions import logm, spectral_function


class BiMap(nn.Module):
    r"""X -> W^T X W with orthonormal columns W: a smaller SPD matrix, never larger eigenvalues.

    Args:
        in_size: rows n of the matrices that come in.
        out_size: rows m of those that go out, at most n.
        generator: source of the initial W, uniform on the Stiefel manifold; the global one if omitted.
        dtype: float32 or float64; torch's default if omitted.

    Raises:
        ValueError: sizes that are not 1 <= out_size <= in_size; in ``forward`` a wrong shape.

    Source: Huang & Van Gool 2017, "A Riemannian network for SPD matrix learning", eq. 2.

    >>> BiMap(4, 2, torch.Generator().manual_seed(0))(torch.eye(4)).diagonal().round(decimals=3)
    tensor([1., 1.], grad_fn=<RoundBackward1>)
    """

    manifolds: ClassVar[dict[str, str]] = {"weight": "stiefel"}

    def __init__(
        self,
        in_size: int,
        out_size: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= out_size <= in_size:
            raise ValueError(
                f"in_size, out_size: received {in_size} and {out_size}; valid are 1 <= out_size <= in_size, because a "
                "larger matrix would be singular. Repair: keep the size, or make it smaller."
            )
        self.in_size, self.out_size = in_size, out_size
        Q, R = torch.linalg.qr(torch.randn(in_size, out_size, generator=generator, dtype=dtype))
        self.weight = nn.Parameter(Q * R.diagonal().sign())

    def forward(self, X: Tensor) -> Tensor:
        """W^T X W (..., m, m) for X (..., n, n)."""
        _require_size("X", X, self.in_size)
        return sym(self.weight.mT @ X @ self.weight)

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        return f"{self.in_size}, {self.out_size}"


class ReEig(nn.Module):
    r"""Eigenvalues below a threshold are raised to it; the one place of the package that clamps.

    Args:
        threshold: the least eigenvalue of the output, positive.

    Raises:
        ValueError: a threshold that is not positive; in ``forward`` matrices that are not square.

    Source: Huang & Van Gool 2017, eq. 4.

    >>> ReEig(0.5)(torch.diag(torch.tensor([2.0, 0.1]))).diagonal()
    tensor([2.0000, 0.5000])
    """

    def __init__(self, threshold: float = 1e-4) -> None:
        super().__init__()
        if not threshold > 0:
            raise ValueError(f"threshold: received {threshold}; valid is a positive number. Repair: threshold=1e-4.")
        self.threshold = threshold

    def forward(self, X: Tensor) -> Tensor:
        """max(eigenvalues, threshold), same eigenvectors, (..., n, n)."""
        floor = self.threshold

        def slopes(a: Tensor, b: Tensor) -> Tensor:
            top, low = torch.maximum(a, b), torch.minimum(a, b)
            mixed = (top - floor) / torch.where(top > low, top - low, torch.ones_like(top))
            return torch.where(low > floor, torch.ones_like(a), torch.where(top > floor, mixed, torch.zeros_like(a)))

        return spectral_function(X, lambda values: values.clamp_min(floor), slopes, positive=False)

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        return f"threshold={self.threshold:g}"


class LogEig(nn.Module):
    r"""The matrix logarithm as a vector: its diagonal, then its upper triangle times sqrt(2).

    The factor makes the Euclidean length of the vector the Frobenius norm of the logarithm.

    Raises:
        ValueError: in ``forward``, matrices that are not square or not positive definite.

    Source: Huang & Van Gool 2017, eq. 6, without the repeated entries.

    >>> LogEig()(torch.e * torch.eye(2)).round(decimals=3)
    tensor([1., 1., 0.])
    """

    def forward(self, X: Tensor) -> Tensor:
        """(..., n (n + 1) / 2) numbers for X (..., n, n)."""
        S = logm(X)
        i, j = torch.triu_indices(X.shape[-1], X.shape[-1], offset=1, device=X.device)
        return torch.cat([S.diagonal(dim1=-2, dim2=-1), 2**0.5 * S[..., i, j]], dim=-1)


class SPDNet(nn.Module):
    r"""BiMap, (normalisation,) ReEig, repeated; then LogEig and a linear classifier.

    Args:
        sizes: rows of the matrices: (in, ..., last), at least two, not increasing.
        classes: number of classes.
        norm: makes a normalisation for a size, for instance ``lambda n: SPDBatchNorm(n)``; none if omitted.
        threshold: of the ReEig layers.
        generator: source of the initial weights; the global one if omitted.
        dtype: float32 or float64; torch's default if omitted.

    Raises:
        ValueError: fewer than two sizes, or sizes that BiMap refuses; in ``forward`` a wrong shape, or matrices that
            are not positive definite.

    Source: Huang & Van Gool 2017; Brooks et al. 2019 for the place of the normalisation.

    >>> SPDNet([8, 4], classes=5)(torch.eye(8).expand(3, 8, 8)).shape
    torch.Size([3, 5])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        classes: int,
        norm: Callable[[int], nn.Module] | None = None,
        *,
        threshold: float = 1e-4,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if len(sizes) < 2 or classes < 1:
            raise ValueError(
                f"sizes, classes: received {list(sizes)} and {classes}; valid are two or more sizes and at least one "
                "class. Repair: sizes=[8, 8]."
            )
        blocks: list[nn.Module] = []
        for n, m in pairwise(sizes):
            blocks.append(BiMap(n, m, generator, dtype))
            blocks += [norm(m)] if norm is not None else []
            blocks.append(ReEig(threshold))
        self.features = nn.Sequential(*blocks, LogEig())
        width = sizes[-1] * (sizes[-1] + 1) // 2
        self.classifier = nn.Linear(width, classes, dtype=dtype)
        with torch.no_grad():  # as nn.Linear draws them, but from the generator
            for parameter in self.classifier.parameters():
                parameter.uniform_(-(width**-0.5), width**-0.5, generator=generator)

    def forward(self, X: Tensor) -> Tensor:
        """Class scores (..., classes) for X (..., n, n)."""
        return self.classifier(self.features(X))


def _require_size(name: str, X: Tensor, size: int) -> None:
    require_square(name, X)
    if X.shape[-1] != size:
        raise ValueError(
            f"{name}: received {X.shape[-1]} x {X.shape[-1]} matrices; valid are {size} x {size}. Repair: build the "
            f"layer for size {X.shape[-1]}."
        )
