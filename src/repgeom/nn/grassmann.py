"""Heads whose classes are geometric objects: subspaces that are learned, or unit vectors, learned or fixed."""

import math

import torch
from torch import Tensor, nn

from repgeom.manifolds import grassmann
from repgeom.manifolds.checks import require_real


def _features(x: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Unit vectors in the dtype of the head, so that their lengths are right under mixed precision too."""
    if not isinstance(x, Tensor) or x.dim() < 1 or x.shape[-1] != width:
        received = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x: received {received}; valid is (..., {width}). Repair: in_features must be their width.")
    return nn.functional.normalize(x.to(dtype), dim=-1)


class SubspaceClassifier(nn.Module):
    r"""Class i is a k-dimensional subspace S_i of feature space; its logit is the length of the feature's shadow on it.

    l_i = scale |S_i^T u|, u = x / |x|, in [0, scale]. For k = 1 this is scale |<s_i, u>|, cosine softmax without the
    sign. Subspaces start uniformly distributed. Train them by :class:`repgeom.optim.GrassmannSGD`, or by one optimiser
    for all :func:`repgeom.optim.parameter_groups`; an ordinary optimiser would leave the Grassmannian.

    Args:
        in_features: width n of the features.
        num_classes: how many classes N.
        subspace_dim: dimension k of each subspace.
        scale: inverse temperature of the softmax.
        generator: source of the random start; the global one if omitted.
        dtype: float32 (default) or float64.
        device: where.

    Attributes:
        bases: (N, n, k) parameter with orthonormal columns; in memory rows of columns, so that the logits are one GEMM.

    Raises:
        ValueError: not 1 <= subspace_dim <= in_features, no classes, scale not positive; in ``forward`` a wrong width.

    Source: Wang, Li & Zhang 2023, "Get the Best of Both Worlds: Improving Accuracy and Transferability by Grassmann
    Class Representation".

    >>> head = SubspaceClassifier(64, 10, subspace_dim=4)
    >>> head(torch.ones(5, 64)).shape, bool((head(torch.ones(5, 64)) <= 25).all())
    (torch.Size([5, 10]), True)
    """

    manifolds = {"bases": "grassmann"}  # noqa: RUF012 - what parameter_groups reads

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        subspace_dim: int,
        scale: float = 25.0,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 1 or not 1 <= subspace_dim <= in_features or not 0 < scale < math.inf:
            raise ValueError(
                f"in_features, num_classes, subspace_dim, scale: received {in_features}, {num_classes}, {subspace_dim} "
                f"and {scale}; valid are 1 <= subspace_dim <= in_features, num_classes >= 1 and scale > 0. "
                "Repair: SubspaceClassifier(512, 10, subspace_dim=8)."
            )
        self.in_features, self.num_classes, self.subspace_dim, self.scale = (
            in_features,
            num_classes,
            subspace_dim,
            scale,
        )
        start = grassmann.random(num_classes, generator, dtype, device, size=in_features, subspace_dim=subspace_dim)
        self.bases = nn.Parameter(start)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (..., N) of features x (..., n)."""
        u = _features(x, self.in_features, self.bases.dtype)
        rows = self.bases.mT.reshape(-1, self.in_features)
        shadows = nn.functional.linear(u, rows).to(self.bases.dtype)
        return self.scale * torch.linalg.vector_norm(shadows.unflatten(-1, (-1, self.subspace_dim)), dim=-1)

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        return f"{self.in_features}, {self.num_classes}, subspace_dim={self.subspace_dim}, scale={self.scale}"


class VectorClassifier(nn.Module):
    r"""Class i is a unit vector w_i; its logit is scale <w_i, u> with u = x / |x|. Learned (cosine softmax) or fixed.

    With ``trainable=False`` and vectors of :mod:`repgeom.theory.frames` it is the head of equiangular basis vectors, or
    a simplex classifier: nothing of it is learned, the features move to the vectors.

    Args:
        vectors: (N, d) one row a class; lengths do not count.
        scale: inverse temperature of the softmax; 1 / 0.07 for equiangular basis vectors.
        trainable: whether the vectors are a parameter, or a buffer.

    Attributes:
        vectors: (N, d).

    Raises:
        ValueError: vectors not (N, d) or with a zero row, or scale not positive; in ``forward`` a wrong width.

    Source: Shen, Sun & Wei 2023, "Equiangular Basis Vectors"; cosine softmax in Kornblith et al. 2021.

    >>> VectorClassifier(torch.eye(3), scale=1.0, trainable=False)(torch.tensor([0.0, 3.0, 4.0]))
    tensor([0.0000, 0.6000, 0.8000])
    """

    vectors: Tensor

    def __init__(self, vectors: Tensor, scale: float = 25.0, *, trainable: bool = True) -> None:
        super().__init__()
        require_real("vectors", vectors)
        flawed = vectors.dim() != 2 or not bool((torch.linalg.vector_norm(vectors, dim=-1) > 0).all())
        if flawed or not 0 < scale < math.inf:
            raise ValueError(
                f"vectors, scale: received shape {tuple(vectors.shape)} and {scale}; valid are (N, d) without a zero "
                "row or NaN, and scale > 0. Repair: vectors=torch.eye(10)."
            )
        self.scale = scale
        if trainable:
            self.vectors = nn.Parameter(vectors.detach().clone())
        else:
            self.register_buffer("vectors", vectors.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Logits (..., N) of features x (..., d)."""
        u = _features(x, self.vectors.shape[1], self.vectors.dtype)
        return self.scale * nn.functional.linear(u, nn.functional.normalize(self.vectors, dim=-1)).to(u.dtype)

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        n, d = self.vectors.shape
        return f"{n} vectors of length {d}, scale={self.scale}, trainable={isinstance(self.vectors, nn.Parameter)}"
