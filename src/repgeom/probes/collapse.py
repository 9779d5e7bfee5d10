r"""How far class features have collapsed: within-class scatter, the frame of the class means, and how the head fits it.

Features h_i in R^d with labels y_i in 0..K-1 are the rows of (N, d). Of a set of K vectors (class means, or the rows of
a linear head) the rows of A (K, d) are meant. One pass over batches gives :class:`ClassMoments`; all else follows from
these, from the head's weights, or from both. These are measurements: nothing here is recorded for a gradient.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from repgeom.manifolds import thresholds

__all__ = [
    "ClassMoments",
    "CollapseCallback",
    "LayerCollapse",
    "SimplexSpread",
    "alignment_distance",
    "class_lengths",
    "class_moments",
    "frame_distance",
    "layer_metrics",
    "nc1",
    "nearest_mean_disagreement",
    "scatter_ratio",
    "self_duality",
    "simplex_spread",
]

BLOCK = 2**18  # numbers of a block of features: a few copies of it lie in the cache together
PANEL = 128  # columns of a panel of the scatter matrix: its lower triangle is not computed

Target = str | Tensor
Layer = nn.Linear | Tensor
Batches = Iterable[tuple[Any, Tensor]]


def _features(name: str, x: Tensor, *shape: int | None) -> Tensor:
    """x without its graph, or ``ValueError`` unless it is floating point and has this shape (None: any size)."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        received = x.dtype if isinstance(x, Tensor) else type(x).__name__
        repair = f"torch.as_tensor({name}).float()"
        raise ValueError(f"{name}: received {received}; valid is a floating-point tensor. Repair: {repair}.")
    if x.dim() != len(shape) or any(want not in (None, have) for want, have in zip(shape, x.shape, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        valid = f"valid is ({wanted}). Repair: flatten or transpose {name}."
        raise ValueError(f"{name}: received shape {tuple(x.shape)}; {valid}")
    return x.detach()


def _labels(labels: Tensor, samples: int, classes: int | None) -> Tensor:
    """Labels as int64, or ``ValueError`` unless there is one whole number from 0 to classes - 1 per sample."""
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        received = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"labels: received {received}; valid is a tensor of whole numbers. Repair: labels.long().")
    if labels.shape != (samples,):
        raise ValueError(
            f"labels: received shape {tuple(labels.shape)}; valid is ({samples},), one per feature. "
            "Repair: labels.flatten(), or labels.argmax(1) where they are one-hot."
        )
    if samples:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or (classes is not None and high >= classes):
            raise ValueError(
                f"labels: received values from {low} to {high}; valid are 0 to {'K' if classes is None else classes} "
                f"- 1. Repair: classes={high + 1}, or labels from torch.unique(labels, return_inverse=True)."
            )
    return labels.long()


def _rows(name: str, A: Tensor, *shape: int | None) -> Tensor:
    """The few rows of A in float64 on the CPU, or ``ValueError`` where they are not finite or not of this shape."""
    A = _features(name, A, *(shape or (None, None))).cpu().double()
    if not bool(A.isfinite().all()):
        raise ValueError(f"{name}: received NaN or infinite values; valid are numbers. Repair: an earlier checkpoint.")
    return A


class ClassMoments:
    r"""Counts, class means and within-class scatter of features that come in batches, in one pass.

    A block of features is centred by its own class means, in double precision, and joins the sums by Chan's update

        S <- S + S_block + sum_k  n_k n'_k / (n_k + n'_k)  (m_k - m'_k) (m_k - m'_k)^T :

    only squares are added, so nothing cancels, however tight the classes and however far from the origin. (The shortcut
    E[h h^T] - m m^T loses all digits there.) Features are taken relative to the first one of their class, which is
    exact where classes are tight. Memory beyond the features: a (d, d) and two (K, d) matrices, and a few blocks of
    2 MiB, or of 4 K rows if that is more (at most 4096).

    Args:
        classes: number of classes K.
        dim: length d of a feature.
        dtype: of all sums and products; float32 is faster, and good to about six digits of the largest entry.
        device: of all sums; that of the first features if omitted.

    Raises:
        ValueError: ``classes`` or ``dim`` is no positive whole number, or the dtype; at reading, where a class has no
            samples or a feature was not finite.

    Source: Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance".

    >>> moments = ClassMoments(2, 1)
    >>> moments.update(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]))
    >>> moments.update(torch.tensor([[7.0], [9.0]]), torch.tensor([1, 1]))
    >>> moments.means.tolist(), moments.global_mean.tolist()
    ([[2.0], [8.0]], [5.0])
    >>> moments.within.item(), moments.between.item()
    (1.0, 9.0)
    """

    def __init__(
        self, classes: int, dim: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> None:
        for name, value in (("classes", classes), ("dim", dim)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: received {value!r}; valid is a positive whole number. Repair: {name}=1.")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype: received {dtype}; valid is float32 or float64. Repair: dtype=torch.float64.")
        self.classes, self.dim, self.dtype = classes, dim, dtype
        self._device = device
        self._started = False

    def _start(self, device: torch.device) -> None:
        self._started, self._device = True, self._device or device
        self._counts = torch.zeros(self.classes, dtype=torch.int64, device=self._device)
        self._pivots = torch.zeros(self.classes, self.dim, dtype=self.dtype, device=self._device)
        self._means = torch.zeros_like(self._pivots)  # minus the pivots
        self._scatter = self._means.new_zeros(self.dim, self.dim)  # sum of squares, right in its upper triangle only

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Take in one batch of any size: features (B, d) of any floating-point dtype, labels (B,)."""
        features = _features("features", features, None, self.dim)
        labels = _labels(labels, len(features), self.classes)
        if not len(features):
            return
        if not self._started:
            self._start(features.device)
        rows = max(BLOCK // self.dim, min(4 * self.classes, 4096))  # with few rows of a class, joining costs more
        for x, y in zip(features.split(rows), labels.split(rows), strict=True):
            self._take_block(x.to(self._device), y.to(self._device))

    def _take_block(self, x: Tensor, y: Tensor) -> None:
        present, y, counts = torch.unique(y, return_inverse=True, return_counts=True)
        first = torch.full_like(counts, len(y)).scatter_reduce_(0, y, torch.arange(len(y), device=y.device), "amin")
        self._adopt(present, x[first].to(self.dtype))
        x = (x - self._pivots[present][y]).to(self.dtype)
        means = x.new_zeros(len(present), self.dim).index_add_(0, y, x) / counts[:, None]
        x -= means[y]
        self._add_squares(x)
        self._join(present, counts, means)

    def _adopt(self, present: Tensor, pivots: Tensor) -> None:
        """Pivots of those among the classes ``present`` that had no samples yet."""
        new = self._counts[present] == 0
        self._pivots[present[new]] = pivots[new]

    def _join(self, present: Tensor, counts: Tensor, means: Tensor) -> None:
        """Further samples of the classes ``present``: means minus the pivots; their own scatter is added already."""
        before = self._counts[present]
        share = (counts.to(self.dtype) / (before + counts))[:, None]  # n' / (n + n')
        apart = means - self._means[present]
        self._add_squares((apart * (before[:, None] * share).sqrt())[before > 0])
        self._means[present] += apart * share
        self._counts[present] += counts

    def _add_squares(self, rows: Tensor) -> None:
        for j in range(0, self.dim, PANEL):
            self._scatter[j : j + PANEL, j:].addmm_(rows[:, j : j + PANEL].mT, rows[:, j:])

    @torch.no_grad()
    def merge(self, other: "ClassMoments") -> "ClassMoments":
        """Take in what another one has counted, for instance on another worker; ``other`` stays as it is.

        Returns:
            Itself, so that calls can be chained.

        Raises:
            ValueError: another number of classes, or another dimension.
        """
        if (other.classes, other.dim) != (self.classes, self.dim):
            raise ValueError(
                f"other: received {other.classes} classes in dimension {other.dim}; valid are {self.classes} and "
                f"{self.dim}. Repair: ClassMoments({self.classes}, {self.dim})."
            )
        if not other._started:
            return self
        if not self._started:
            self._start(other._counts.device)
        counts = other._counts.to(self._counts)
        present = counts.nonzero().flatten()
        pivots, means = (part.to(self._means)[present] for part in (other._pivots, other._means))
        self._adopt(present, pivots)
        self._scatter += other._scatter.to(self._scatter)
        self._join(present, counts[present], means + (pivots - self._pivots[present]))
        return self

    def pushed(self, weight: Tensor, bias: Tensor | None = None) -> "ClassMoments":
        """The moments of W h + b, without another pass: means W m_k + b and scatter W Sig_W W^T.

        Args:
            weight: W (out, d).
            bias: b (out,), zero if omitted.

        Returns:
            New moments in dimension ``out``.

        Raises:
            ValueError: wrong shape, or a class without samples.
        """
        self._require_all_classes()
        weight = _features("weight", weight, None, self.dim).to(self._means)
        after = ClassMoments(self.classes, len(weight), dtype=self.dtype)
        after._start(weight.device)
        after._pivots = self._pivots @ weight.mT + (0.0 if bias is None else bias.detach().to(self._means))
        after._counts, after._means = self._counts.clone(), self._means @ weight.mT
        after._scatter = weight @ (self.within * self.samples) @ weight.mT
        return after

    def _require_all_classes(self) -> None:
        missing = (self.counts == 0).nonzero().flatten().tolist()
        if missing:
            shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
            raise ValueError(
                f"labels: received no sample of class {shown} ({len(missing)} of {self.classes} classes); valid is at "
                "least one of each. Repair: update() with samples of every class, or number only those that occur."
            )
        if not bool(self._means.isfinite().all()):
            raise ValueError(
                "features: received NaN or infinite values; valid are numbers. Repair: features.isfinite().all(1) "
                "tells which samples to leave out."
            )

    @property
    def counts(self) -> Tensor:
        """(K,) samples of each class."""
        return self._counts.clone() if self._started else torch.zeros(self.classes, dtype=torch.int64)

    @property
    def samples(self) -> int:
        """N, samples of all classes."""
        return int(self.counts.sum())

    @property
    def means(self) -> Tensor:
        """(K, d) class means hbar_k as rows."""
        self._require_all_classes()
        return self._pivots + self._means

    @property
    def global_mean(self) -> Tensor:
        """(d,) mean h_G of all samples: large classes weigh more."""
        return self.means[0] - self.centred[0]

    @property
    def centred(self) -> Tensor:
        """(K, d) rows hbar_k - h_G, with all the digits that ``means - global_mean`` may lose far from the origin."""
        self._require_all_classes()
        near = self._pivots - self._pivots[0] + self._means  # an offset that all share costs no digits
        return near - self._counts.to(self.dtype) @ near / self.samples

    @property
    def within(self) -> Tensor:
        """(d, d) within-class covariance Sig_W = 1/N sum_i (h_i - hbar_{y_i}) (h_i - hbar_{y_i})^T."""
        self._require_all_classes()
        upper = self._scatter.triu() / self.samples
        return upper + upper.triu(1).mT

    @property
    def between(self) -> Tensor:
        """(d, d) between-class covariance Sig_B = 1/K sum_k (hbar_k - h_G) (hbar_k - h_G)^T: each class weighs 1/K."""
        centred = self.centred
        return centred.mT @ centred / self.classes


def class_moments(
    features: Tensor, labels: Tensor, classes: int | None = None, *, dtype: torch.dtype = torch.float64
) -> ClassMoments:
    """The :class:`ClassMoments` of features that lie in one tensor.

    Args:
        features: (N, d) of any floating-point dtype.
        labels: (N,) whole numbers 0 to K - 1.
        classes: K; the largest label plus one if omitted.
        dtype: of sums and products.

    Returns:
        The moments, on the device of the features.

    Raises:
        ValueError: wrong shape, dtype or labels; no samples, where ``classes`` is omitted.

    Source: Papyan, Han & Donoho 2020, "Prevalence of neural collapse", for the moments that matter.

    >>> moments = class_moments(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 4.0]]), torch.tensor([0, 0, 1]))
    >>> moments.counts.tolist(), moments.means.tolist()
    ([2, 1], [[2.0, 0.0], [0.0, 4.0]])
    """
    features = _features("features", features, None, None)
    if classes is None:
        if not len(features):
            raise ValueError("features: received no samples; valid is at least one. Repair: give classes=K.")
        classes = int(_labels(labels, len(features), None).max()) + 1
    moments = ClassMoments(classes, features.shape[1], dtype=dtype, device=features.device)
    moments.update(features, labels)
    return moments


def nc1(moments: ClassMoments, rcond: float = 1e-6) -> float:
    r"""Variability collapse NC1 = trace(Sig_W pinv(Sig_B)) / K: scatter within classes in units of that between them.

    Sig_B has rank at most K - 1. With singular values s_j and right vectors v_j of the centred means / sqrt(K) it is
    sum_j v_j^T Sig_W v_j / s_j^2 / K: no (d, d) matrix is inverted. Invariant to any invertible linear map of the
    features, as long as no direction is dropped. Where classes have collapsed onto each other, Sig_B has directions of
    nearly no extent, and dividing by them tells about rounding, or the last trace of training, not about the classes:
    ``rcond`` drops them, and :func:`scatter_ratio`, which divides by nothing small, is to be reported beside it.

    Args:
        moments: of the features.
        rcond: eigenvalues of Sig_B below this share of the largest count as zero.

    Returns:
        At least 0; ``inf`` where all class means coincide.

    Raises:
        ValueError: a class without samples, features that are not finite, or rcond outside 0 to 1.

    Source: Papyan, Han & Donoho 2020, "Prevalence of neural collapse"; scaled as in the code of Dang et al. 2023.

    >>> nc1(class_moments(torch.tensor([[0.0], [2.0], [4.0], [6.0]]), torch.tensor([0, 0, 1, 1])))  # 1 / 4 / 2
    0.125
    """
    if not 0 <= rcond < 1:
        raise ValueError(f"rcond: received {rcond}; valid is 0 <= rcond < 1. Repair: rcond=1e-6.")
    _, s, Vh = torch.linalg.svd(moments.centred / math.sqrt(moments.classes), full_matrices=False)
    least = max(math.sqrt(rcond), max(moments.classes, moments.dim) * thresholds.eps(s.dtype)) * float(s[0])
    kept = s > max(least, thresholds.smallest_norm(s.dtype))
    if not bool(kept.any()):
        return math.inf
    V = Vh[kept]
    return float((((V @ moments.within) * V).sum(1) / s[kept].square()).sum() / moments.classes)


def scatter_ratio(moments: ClassMoments) -> float:
    r"""trace(Sig_W) / trace(Sig_B): mean squared distance to the class mean, in units of that of the means to h_G.

    Unlike :func:`nc1` it divides by no small direction. It stays meaningful when two classes have one mean, or when
    the means lie on a line.

    Args:
        moments: of the features.

    Returns:
        At least 0; ``inf`` where all class means coincide.

    Raises:
        ValueError: a class without samples, or features that are not finite.

    Source: Hui, Belkin & Nakkiran 2022, "Limitations of neural collapse for understanding generalization".

    >>> scatter_ratio(class_moments(torch.tensor([[0.0], [2.0], [4.0], [6.0]]), torch.tensor([0, 0, 1, 1])))
    0.25
    """
    between = float(moments.centred.square().sum()) / moments.classes
    within = float(moments._scatter.diagonal().sum()) / moments.samples
    return within / between if between > 0 else math.inf


def _target(target: Target, K: int) -> Tensor:
    """The Gram matrix T (K, K) that a target stands for, of norm one."""
    if isinstance(target, str):
        if target not in ("orthogonal", "simplex"):
            raise ValueError(
                f"target: received {target!r}; valid are 'orthogonal', 'simplex', squared lengths ({K},) or a Gram "
                f"matrix ({K}, {K}). Repair: target='simplex'."
            )
        T = torch.eye(K, dtype=torch.float64)
        T = T - 1 / K if target == "simplex" else T
    else:
        T = _rows("target", target, *((K,) if isinstance(target, Tensor) and target.dim() == 1 else (K, K)))
        T = T.diag() if T.dim() == 1 else T
    return _normed("target", T)


def _normed(name: str, G: Tensor) -> Tensor:
    """G / |G|_F, or ``ValueError`` where G is zero."""
    norm = torch.linalg.matrix_norm(G)
    if float(norm) <= thresholds.smallest_norm(G.dtype):
        raise ValueError(
            f"{name}: received only zeros: everything has collapsed to the origin; valid is what has a shape. "
            f"Repair: check {name}.norm() > 0 first."
        )
    return G / norm


def frame_distance(A: Tensor, target: Target = "orthogonal") -> float:
    r"""NC2: how far the Gram matrix of K vectors is from that of a frame, | A A^T / |A A^T|_F - T / |T|_F |_F.

    Both are scaled to norm one, so that only shape counts: 0 is the frame itself, and no value is above sqrt(2) where
    T is a Gram matrix too. Class means of a network with biases, or trained by cross-entropy, are to be centred first
    (``moments.centred``); those of a bias-free head trained by squared error are not: an orthogonal frame, once
    centred, is a simplex, and the two could not be told apart.

    Args:
        A: (K, d) vectors as rows: class means, or the product W_M ... W_1 of the layers of a linear head.
        target: "orthogonal" for T = I, "simplex" for T = I - 1 1^T / K, squared lengths (K,) for a general orthogonal
            frame T = diag(...), or any T (K, K).

    Returns:
        A distance, at least 0.

    Raises:
        ValueError: wrong shape or dtype, not finite, another target, or A or T is zero.

    Source: Papyan, Han & Donoho 2020; as a distance of Gram matrices, Zhu et al. 2021, "A geometric analysis of neural
    collapse with unconstrained features".

    >>> A = torch.eye(3)
    >>> frame_distance(A), round(frame_distance(A, "simplex") ** 2, 4)  # 2 - 2 sqrt((K-1) / K)
    (0.0, 0.367)
    >>> frame_distance(A - A.mean(0), "simplex") < 1e-6, frame_distance(2 * A[:2], torch.tensor([1.0, 1.0]))
    (True, 0.0)
    """
    A = _rows("A", A)
    return float(torch.linalg.matrix_norm(_normed("A", A @ A.mT) - _target(target, len(A))))


def alignment_distance(A: Tensor, means: Tensor, target: Target = "orthogonal") -> float:
    r"""NC3: how far the logits of the class means are from a pattern, | A Hbar / |A Hbar|_F - T / |T|_F |_F.

    Column k of Hbar (d, K) is the mean of class k: entry (j, k) is the logit for class j that the mean of class k gets.
    Zero for T = I says that each classifier row answers to its own class only.

    Args:
        A: (K, d) rows of the classifier.
        means: (K, d) class means as rows; centred ones for the simplex, as in :func:`frame_distance`.
        target: as there; for a general orthogonal frame the logits (K,) that each class gives itself.

    Returns:
        A distance, 0 to 2.

    Raises:
        ValueError: wrong shape or dtype, not finite, another target, or A Hbar is zero.

    Source: Zhu et al. 2021, "A geometric analysis of neural collapse with unconstrained features".

    >>> A, means = torch.tensor([[1.0, 0.0, 5.0], [0.0, 1.0, 0.0]]), torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    >>> alignment_distance(A, means), round(alignment_distance(A, -means), 6)
    (0.0, 2.0)
    """
    A = _rows("A", A)
    means = _rows("means", means, *A.shape)
    return float(torch.linalg.matrix_norm(_normed("A Hbar", A @ means.mT) - _target(target, len(A))))


def self_duality(A: Tensor, means: Tensor) -> float:
    r"""Papyan's NC3: | A / |A|_F - M / |M|_F |_F for classifier rows A and class means M, both scaled to norm one.

    Zero where classifier and means are the same up to one factor, which equal class sizes bring about. It sees what
    :func:`alignment_distance` does not: parts of A to which all class means are blind.

    Args:
        A: (K, d) rows of the classifier.
        means: (K, d) class means as rows, centred in Papyan's definition.

    Returns:
        A distance, 0 to 2; Papyan's figures show its square.

    Raises:
        ValueError: wrong shape or dtype, not finite, or A or M is zero.

    Source: Papyan, Han & Donoho 2020, "Prevalence of neural collapse".

    >>> self_duality(torch.eye(4), 2 * torch.eye(4)), self_duality(torch.eye(4), -torch.eye(4))
    (0.0, 2.0)
    """
    A = _rows("A", A)
    return float(torch.linalg.matrix_norm(_normed("A", A) - _normed("means", _rows("means", means, *A.shape))))


def class_lengths(A: Tensor, rtol: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Squared lengths of K vectors, and the cosines between them; one that has collapsed counts as orthogonal to all.

    A vector of length zero has no direction. Its cosines are reported as 0, the one with itself too: the diagonal is 1
    where a class lives and 0 where it has died.

    Args:
        A: (K, d) vectors as rows.
        rtol: vectors of at most this share of the largest length count as dead: what is left of them is rounding.

    Returns:
        (K,) squared lengths, as they are; (K, K) cosines. Both float64, on the CPU.

    Raises:
        ValueError: wrong shape or dtype, or not finite.

    Source: ours. On classes that die: Fang et al. 2021, "Exploring deep neural networks via layer-peeled model".

    >>> class_lengths(torch.tensor([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]]))[1]
    tensor([[1.0000, 0.8000, 0.0000],
            [0.8000, 1.0000, 0.0000],
            [0.0000, 0.0000, 0.0000]], dtype=torch.float64)
    """
    A = _rows("A", A)
    length = torch.linalg.vector_norm(A, dim=1)
    alive = length > max(rtol * float(length.max()), thresholds.smallest_norm(A.dtype))
    U = torch.where(alive[:, None], A / length.where(alive, 1.0)[:, None], 0.0)
    cosines = (U @ U.mT).clamp(-1, 1)
    return length.square(), cosines.masked_fill_(torch.diag(alive), 1.0)


class SimplexSpread(NamedTuple):
    """How far K vectors are from a regular simplex; all three are zero there. See :func:`simplex_spread`."""

    equinorm: float
    equiangularity: float
    max_angle: float


def simplex_spread(A: Tensor) -> SimplexSpread:
    r"""Papyan's NC2 in three numbers: are lengths equal, are angles equal, are they the largest possible?

    equinorm = std |a_k| / mean |a_k|; equiangularity = std of cos(a_j, a_k) over j != k; max_angle = mean of
    |cos(a_j, a_k) + 1 / (K-1)|. Standard deviations divide by the number of terms.

    Args:
        A: (K, d) vectors as rows, K >= 2: centred class means, or classifier rows. Cosines with a vector that has
            collapsed count as 0, as in :func:`class_lengths`.

    Returns:
        The three, each at least 0.

    Raises:
        ValueError: wrong shape or dtype, not finite, a single vector, or all of them zero.

    Source: Papyan, Han & Donoho 2020, "Prevalence of neural collapse".

    >>> simplex_spread(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    SimplexSpread(equinorm=0.0, equiangularity=0.0, max_angle=0.0)
    >>> simplex_spread(torch.eye(3))  # equal, but the cosine could be -1/2
    SimplexSpread(equinorm=0.0, equiangularity=0.0, max_angle=0.5)
    """
    squares, cosines = class_lengths(A)
    K, length = len(squares), squares.sqrt()
    if K < 2:
        raise ValueError(f"A: received shape {tuple(A.shape)}; valid are at least two rows. Repair: torch.stack two.")
    _normed("A", length[:, None])
    pairs = cosines[~torch.eye(K, dtype=torch.bool)]
    spread = float(length.std(correction=0) / length.mean())
    return SimplexSpread(spread, float(pairs.std(correction=0)), float((pairs + 1 / (K - 1)).abs().mean()))


@torch.no_grad()
def nearest_mean_disagreement(features: Tensor, logits: Tensor, means: Tensor) -> float:
    r"""NC4: share of samples whose largest logit is not that of the nearest class mean.

    Args:
        features: (N, d).
        logits: (N, K) of the same samples, from any head.
        means: (K, d) class means, not centred. Where two coincide the first counts as nearer.

    Returns:
        Between 0 and 1. For batches, average with their sizes as weights.

    Raises:
        ValueError: wrong shape or dtype, or no samples.

    Source: Papyan, Han & Donoho 2020, "Prevalence of neural collapse".

    >>> means, features = torch.tensor([[0.0], [4.0]]), torch.tensor([[0.0], [1.0], [3.0], [4.0]])
    >>> nearest_mean_disagreement(features, torch.cat([1.5 - features, features - 1.5], 1), means)
    0.0
    >>> nearest_mean_disagreement(features, torch.cat([0.5 - features, features - 0.5], 1), means)
    0.25
    """
    means = _features("means", means, None, None)
    features = _features("features", features, None, means.shape[1])
    logits = _features("logits", logits, len(features), len(means))
    if not len(features):
        raise ValueError("features: received no samples; valid is at least one. Repair: skip empty batches.")
    different, rows = 0, max(BLOCK // (means.shape[1] + len(means)), 1)
    wide = torch.promote_types(torch.promote_types(means.dtype, features.dtype), torch.float32)
    means = means.to(features.device, wide)
    origin = means.mean(0)  # an offset that all share costs digits below
    means = means - origin
    half = means.square().sum(1) / 2
    for x, z in zip(features.split(rows), logits.split(rows), strict=True):
        nearest = torch.addmm(half, x.to(wide) - origin, means.mT, beta=-1).argmax(1)
        different += int((nearest != z.to(nearest.device).argmax(1)).sum())
    return different / len(features)


class LayerCollapse(NamedTuple):
    """One linear layer of a head and the features that enter it; see :func:`layer_metrics`.

    nan stands where the shape of a set of vectors is asked for that is zero, inf where class means coincide.
    """

    layer: int
    nc1: float
    scatter: float
    nc2: float
    nc2_means: float
    nc3: float
    rank: int


def _affine(layers: Layer | Iterable[Layer], dim: int | None) -> list[tuple[Tensor, Tensor | None]]:
    """Weight and bias of each layer, in float64 on the CPU, or ``ValueError`` where they do not fit each other."""
    if isinstance(layers, nn.Linear | Tensor):
        layers = [layers]
    pairs: list[tuple[Tensor, Tensor | None]] = []
    for layer in layers:
        if not isinstance(layer, nn.Linear | Tensor):
            raise ValueError(
                f"layers: received {type(layer).__name__}; valid are nn.Linear and weights (out, in). "
                "Repair: only what lies behind the last nonlinearity."
            )
        weight, bias = (layer.weight, layer.bias) if isinstance(layer, nn.Linear) else (layer, None)
        W = _rows(f"layers[{len(pairs)}]", weight, None, dim)
        pairs.append((W, None if bias is None else _rows("bias", bias, len(W))))
        dim = len(W)
    if not pairs:
        raise ValueError("layers: received none; valid is at least one. Repair: layers=[model.head].")
    return pairs


def _or_nan(distance: Callable[..., float], A: Tensor, *rest: Any) -> float:
    """The distance, or nan where there is no shape to measure because A, or its product with the means, is zero."""
    dead = not bool((A if len(rest) < 2 else A @ rest[0].mT).any())
    return math.nan if dead else distance(A, *rest)


def layer_metrics(
    moments: ClassMoments,
    layers: Layer | Iterable[Layer],
    target: Target | Sequence[tuple[Target, Target, Target]] = "orthogonal",
    *,
    center: bool | None = None,
    rcond: float = 1e-6,
    rtol: float = 1e-3,
) -> list[LayerCollapse]:
    r"""NC1, NC2 and NC3 at every layer of a linear head W_M ... W_1, from the moments of the features that enter it.

    Layer j is seen as a classifier A_j = W_M ... W_j on features W_{j-1} ... W_1 h. Their moments follow from those of
    h (:meth:`ClassMoments.pushed`), without another pass over the data. Per layer: :func:`nc1` and
    :func:`scatter_ratio` of its input, :func:`frame_distance` of A_j (``nc2``) and of the class means of its input
    (``nc2_means``), :func:`alignment_distance` of both (``nc3``; the same at each layer if there are no biases), and
    the numerical rank of the class means (``rank``).

    Args:
        moments: of the features h that enter the first layer.
        layers: W_1, ..., W_M in the order in which they act: nn.Linear, or weights (out, in), or a single one. Biases
            move the class means of later layers, and are left out of A_j.
        target: "orthogonal" or "simplex" for all, or a list with three targets for each layer: for A_j, for the means,
            and for the logits. A tensor alone is taken for all three, everywhere; in a general orthogonal frame the
            three differ, and from layer to layer.
        center: subtract h_G from the class means first; if omitted, for the target "simplex" only. Not for ``rank``
            and ``nc1``: NC1 always centres, the rank does as ``nc3`` does.
        rcond: for :func:`nc1`.
        rtol: singular values of the means of at most this share of the largest do not count for the rank.

    Returns:
        One row per layer, the first layer first.

    Raises:
        ValueError: layers that do not fit the moments, each other or the number of classes; another target.

    Source: Dang et al. 2023, "Neural collapse in deep linear networks: from balanced to imbalanced data".

    >>> moments = class_moments(torch.eye(3).repeat(2, 1), torch.tensor([0, 1, 2, 0, 1, 2]))
    >>> for row in layer_metrics(moments, [torch.eye(3), 2 * torch.eye(3)]):
    ...     print(row)
    LayerCollapse(layer=1, nc1=0.0, scatter=0.0, nc2=0.0, nc2_means=0.0, nc3=0.0, rank=3)
    LayerCollapse(layer=2, nc1=0.0, scatter=0.0, nc2=0.0, nc2_means=0.0, nc3=0.0, rank=3)
    """
    pairs, K = _affine(layers, moments.dim), moments.classes
    if len(pairs[-1][0]) != K:
        raise ValueError(
            f"layers: received {len(pairs[-1][0])} outputs for {K} classes; valid is one output per class. "
            f"Repair: ClassMoments(classes={len(pairs[-1][0])}, ...)."
        )
    common = isinstance(target, str | Tensor)
    targets = [(target,) * 3] * len(pairs) if common else list(target)
    if len(targets) != len(pairs) or any(len(three) != 3 for three in targets):
        raise ValueError(
            f"target: received {len(targets)} entries for {len(pairs)} layers; valid is a target, or three for each "
            "layer. Repair: target='orthogonal'."
        )
    center = target == "simplex" if center is None and isinstance(target, str) else bool(center)
    products = [torch.eye(K, dtype=torch.float64)]
    for W, _ in reversed(pairs):
        products.insert(0, products[0] @ W)
    found = []
    for j, ((W, bias), A, (head, own, logits)) in enumerate(zip(pairs, products, targets, strict=False), 1):
        means = (moments.centred if center else moments.means).cpu().double()
        s = torch.linalg.svdvals(means)
        rank = int((s > max(rtol * float(s[0]), thresholds.smallest_norm(s.dtype))).sum())
        nc2, nc2_means = _or_nan(frame_distance, A, head), _or_nan(frame_distance, means, own)
        nc3 = _or_nan(alignment_distance, A, means, logits)
        found.append(LayerCollapse(j, nc1(moments, rcond), scatter_ratio(moments), nc2, nc2_means, nc3, rank))
        moments = moments.pushed(W, bias) if j < len(pairs) else moments
    return found


@contextmanager
def _evaluating(model: object) -> Iterator[None]:
    """No gradients, evaluation mode, and afterwards every module and the random numbers as they were."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    devices = {p.device for module in modules[:1] for p in module.parameters() if p.device.type == "cuda"}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=list(devices)):
            for module in modules:
                module.training = False
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


class CollapseCallback:
    r"""Watches neural collapse in a training loop of your own: call it after each step.

    Every ``every`` steps it passes over the data in evaluation mode without gradients, and appends to ``history`` one
    dictionary per layer of the head: ``step``, the fields of :class:`LayerCollapse`, and ``nc4`` if asked for.
    ``moments`` keeps the last :class:`ClassMoments`. Parameters, gradients, buffers, training modes and torch's random
    numbers are afterwards as before. It does not own: the state of a ``generator`` of your loader, and of Python's and
    NumPy's random numbers. Give it a loader of its own, in fixed order and without augmentation.

    Args:
        model: a module that contains the head, whose features are then what enters the first layer of the head; or any
            function or module whose output is the features (B, d).
        head: the last linear layers, in the order in which they act: a nn.Linear, nn.Sequential or list of nn.Linear.
        batches: called for each pass, returns batches (x, y) with y (B,) whole numbers; or a list or loader of them.
        every: steps between measurements.
        nc4: also measure :func:`nearest_mean_disagreement` of the head, which takes a second pass over the data.
        **options: of :func:`layer_metrics`: ``target``, ``center``, ``rcond``, ``rtol``.

    Raises:
        ValueError: ``every`` is no positive whole number, or the head is not linear; when called, what
            :func:`layer_metrics` and :class:`ClassMoments` raise.

    Source: the measurements of Papyan, Han & Donoho 2020 and Dang et al. 2023.

    >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    >>> data = [(torch.randn(6, 2), torch.tensor([0, 1, 2, 0, 1, 2]))]
    >>> watch = CollapseCallback(model, model[2], data, every=10, target="simplex")
    >>> for step in range(21):
    ...     watch(step)
    >>> [row["step"] for row in watch.history], sorted(watch.history[0])
    ([0, 10, 20], ['layer', 'nc1', 'nc2', 'nc2_means', 'nc3', 'rank', 'scatter', 'step'])
    """

    def __init__(
        self,
        model: Callable[[Any], Tensor],
        head: nn.Linear | Iterable[nn.Module],
        batches: Callable[[], Batches] | Batches,
        every: int = 1,
        *,
        nc4: bool = False,
        **options: Any,
    ) -> None:
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"every: received {every!r}; valid is a positive whole number. Repair: every=100.")
        self.model, self.batches, self.every, self.nc4, self.options = model, batches, every, nc4, options
        self.head: list[Any] = [head] if isinstance(head, nn.Linear) else list(head)
        _affine(self.head, None)  # refuses what is not linear
        self.inside = isinstance(model, nn.Module) and any(m is self.head[0] for m in model.modules())
        self.history: list[dict[str, float]] = []
        self.moments: ClassMoments | None = None

    def __call__(self, step: int) -> None:
        """Measure, if ``step`` is a multiple of ``every``."""
        if step % self.every == 0:
            self.measure(step)

    def measure(self, step: int) -> list[dict[str, float]]:
        """Measure now, and return the rows that were appended to ``history``."""
        with _evaluating(self.model):
            moments = ClassMoments(self.head[-1].out_features, self.head[0].in_features)
            for features, y in self._features():
                moments.update(features, y)
            more = {"nc4": self._disagreement(moments)} if self.nc4 else {}
            measured = layer_metrics(moments, self.head, **self.options)
            rows = [{"step": step, **row._asdict(), **more} for row in measured]
        self.moments = moments
        self.history += rows
        return rows

    def _features(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and labels, batch by batch."""
        caught: list[Tensor] = []
        hook = self.head[0].register_forward_pre_hook(lambda _, args: caught.append(args[0])) if self.inside else None
        try:
            for x, y in self.batches() if callable(self.batches) else self.batches:
                caught.clear()
                output = self.model(x)
                yield (caught[-1] if hook else output), y
        finally:
            if hook:
                hook.remove()

    def _disagreement(self, moments: ClassMoments) -> float:
        different = samples = 0.0
        for features, _ in self._features():
            logits = nn.Sequential(*self.head)(features)
            different += len(features) * nearest_mean_disagreement(features, logits, moments.means)
            samples += len(features)
        return different / samples
