r"""How alike two representations of the same n inputs are, and which change of coordinates a comparison sees through.

A representation is a matrix X (..., n, d): one row per input, one column per neuron; the other one, Y (..., n, e), has
the same rows. Linear CKA, the Procrustes distance and relative representations are blind to rotations and to one common
scale; canonical correlations to every invertible linear map; matching of neurons to permutations only.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from repgeom.manifolds import thresholds
from repgeom.manifolds.checks import require_real

__all__ = [
    "LinearCKA",
    "canonical_correlations",
    "gaussian_gram",
    "hsic",
    "kernel_cka",
    "linear_cka",
    "match_neurons",
    "procrustes_distance",
    "procrustes_map",
    "relative",
    "snr_distance",
    "stitch",
]


# --------------------------------------------------------------------------------------------------------------- checks


def _require_rows(X: Tensor, Y: Tensor, least: int = 2, names: tuple[str, str] = ("X", "Y")) -> None:
    """Raise ``ValueError`` unless both are real (..., n, .) with the same n, at least ``least``, and one dtype."""
    for name, Z in zip(names, (X, Y), strict=True):
        require_real(name, Z)
        if Z.dim() < 2 or Z.shape[-2] < least:
            raise ValueError(
                f"{name}: received shape {tuple(Z.shape)}; valid is (..., n, d) with n >= {least} inputs as rows. "
                f"Repair: {name}.flatten(1) keeps one row per input."
            )
    if X.shape[-2] != Y.shape[-2] or X.dtype != Y.dtype:
        raise ValueError(
            f"{names[1]}: received shape {tuple(Y.shape)} of {Y.dtype} beside {names[0]} of shape {tuple(X.shape)} of "
            f"{X.dtype}; valid are the same n inputs, row by row, in one dtype. Repair: pass both networks one batch."
        )


def _require_varied(names: str, squares: Tensor, floor: Tensor) -> None:
    """Raise ``ValueError`` unless squares are finite and exceed what rounding may leave of zero."""
    if not bool(((squares > floor) & squares.isfinite()).all()):  # written so that NaN fails
        raise ValueError(
            f"{names}: received a representation that is the same for every input (or, debiased, equally far apart for "
            "all), or not finite; valid are finite rows that differ. Repair: leave this layer out."
        )


def _constant(squares: Tensor, eps: float) -> Tensor:
    """What rounding leaves, squared, of a constant with these squared lengths once its mean is subtracted."""
    return (16 * eps) ** 2 * squares


def _centred(X: Tensor) -> Tensor:
    return X - X.mean(-2, keepdim=True)


def _centred_length(name: str, X: Tensor) -> tuple[Tensor, Tensor]:
    """X (..., n, d) without its mean, and the Frobenius norm (...) of that; ``ValueError`` where it is constant."""
    C = _centred(X)
    length = torch.linalg.matrix_norm(C)
    _require_varied(name, length.square(), _constant(torch.linalg.matrix_norm(X).square(), thresholds.eps(X.dtype)))
    return C, length


def _inner(A: Tensor, B: Tensor) -> Tensor:
    return (A * B).sum((-2, -1))


# ------------------------------------------------------------------------------------------------------------------ CKA


def hsic(K: Tensor, L: Tensor, debiased: bool = False) -> Tensor:
    r"""The Hilbert-Schmidt independence criterion of two Gram matrices: how much their centred entries agree.

    Biased: tr(K H L H) / (n-1)^2 with H = I - 1 1^T / n, never negative. Debiased, with the diagonals of K and L set to
    zero: [tr(K L) + (1^T K 1)(1^T L 1) / ((n-1)(n-2)) - 2 / (n-2) 1^T K L 1] / (n (n-3)), whose mean over samples is
    the value for the whole distribution. Both are unchanged when constants are added to rows and columns.

    Args:
        K: (..., n, n) symmetric.
        L: (..., n, n) symmetric; batch dimensions broadcast.
        debiased: the second formula, which needs n >= 4.

    Returns:
        (...) values.

    Raises:
        ValueError: wrong shapes or dtypes, or too few inputs.

    Source: Gretton et al. 2005, "Measuring statistical dependence with Hilbert-Schmidt norms"; Song et al. 2012,
    "Feature selection via dependence maximization", for the debiased one.

    >>> K = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    >>> hsic(K, K)
    tensor(4.)
    """
    _require_gram(K, L, 4 if debiased else 2)
    n = K.shape[-1]
    if not debiased:
        return _inner(_centred(_centred(K).mT), L) / (n - 1) ** 2
    off = 1 - torch.eye(n, dtype=K.dtype, device=K.device)
    K, L = K * off, L * off
    k, m = K.sum(-1), L.sum(-1)
    total = _inner(K, L) + k.sum(-1) * m.sum(-1) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k * m).sum(-1)
    return total / (n * (n - 3))


def _require_gram(K: Tensor, L: Tensor, least: int) -> None:
    _require_rows(K, L, least, ("K", "L"))
    for name, Z in (("K", K), ("L", L)):
        if Z.shape[-1] != Z.shape[-2]:
            raise ValueError(
                f"{name}: received shape {tuple(Z.shape)}; valid is a square Gram matrix (..., n, n). "
                f"Repair: {name} @ {name}.mT, or linear_cka on the features."
            )


def kernel_cka(K: Tensor, L: Tensor, debiased: bool = False) -> Tensor:
    r"""Centred kernel alignment of two Gram matrices: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)).

    A cosine: at most 1, reached where the centred matrices are proportional; the biased one is not negative for
    positive semi-definite matrices.

    Args:
        K: (..., n, n) symmetric, for instance X X^T or :func:`gaussian_gram`.
        L: (..., n, n) symmetric; batch dimensions broadcast.
        debiased: use the debiased HSIC in all three places.

    Returns:
        (...) values.

    Raises:
        ValueError: wrong shapes or dtypes, too few inputs, or a matrix that is constant or not finite.

    Source: Cortes, Mohri & Rostamizadeh 2012; Kornblith et al. 2019, "Similarity of neural network representations
    revisited".

    >>> K = torch.eye(5, dtype=torch.float64)
    >>> kernel_cka(K, 3 * K + 7).round(decimals=4)
    tensor(1., dtype=torch.float64)
    """
    _require_gram(K, L, 4 if debiased else 2)
    own, eps = [], thresholds.eps(K.dtype)
    for name, Z in (("K", K), ("L", L)):
        own.append(hsic(Z, Z, debiased))
        entries = Z.square() - torch.diag_embed(Z.diagonal(dim1=-2, dim2=-1).square()) if debiased else Z.square()
        _require_varied(name, own[-1], _constant(entries.mean((-2, -1)), eps))
    return hsic(K, L, debiased) / (own[0] * own[1]).sqrt()


def gaussian_gram(X: Tensor, fraction: float = 0.5) -> Tensor:
    r"""The Gaussian kernel exp(-|x_i - x_j|^2 / (2 s^2)) with s = fraction times the median distance of the inputs.

    Args:
        X: (..., n, d) representation.
        fraction: width in medians of the n (n-1) / 2 distances; a small one sees neighbours only.

    Returns:
        (..., n, n) with ones on the diagonal.

    Raises:
        ValueError: wrong shape or dtype, a fraction that is not positive, or a median distance of zero.

    Source: Kornblith et al. 2019, section 3, who choose the width in this way.

    >>> gaussian_gram(torch.tensor([[0.0], [1.0]]), 1.0)[0, 1]  # exp(-1/2)
    tensor(0.6065)
    """
    _require_rows(X, X, 2, ("X", "X"))
    if not fraction > 0:
        raise ValueError(f"fraction: received {fraction}; valid is a positive number. Repair: fraction=0.5.")
    squares = torch.cdist(X, X).square()
    pairs = torch.triu_indices(X.shape[-2], X.shape[-2], 1, device=X.device)
    middle = squares[..., pairs[0], pairs[1]].median(-1).values[..., None, None]
    _require_varied("X", middle, _constant(X.square().sum(-1).mean(-1)[..., None, None], thresholds.eps(X.dtype)))
    return (-squares / (2 * fraction**2 * middle)).exp()


class _Sums(NamedTuple):
    """What linear CKA needs of n pairs of rows, biased or debiased; a_i = |x_i|^2, b_i = |y_i|^2. All add up."""

    XX: Tensor
    YY: Tensor
    XY: Tensor
    x: Tensor  # (d) sum of x_i
    y: Tensor
    ax: Tensor  # (d) sum of a_i x_i
    bx: Tensor
    ay: Tensor
    by: Tensor
    squares: Tensor  # (3) sums of a_i^2, b_i^2, a_i b_i


def _sums(X: Tensor, Y: Tensor) -> _Sums:
    both = torch.broadcast_tensors(*(torch.linalg.vector_norm(Z, dim=-1).square() for Z in (X, Y)))
    lengths = torch.stack(both, -2)  # (..., 2, n)
    of_x, of_y = lengths @ X, lengths @ Y  # in this order: a thin product with X^T takes ten times as long
    a, b = both
    squares = torch.stack([(a * a).sum(-1), (b * b).sum(-1), (a * b).sum(-1)], -1)
    vectors = (of_x[..., 0, :], of_x[..., 1, :], of_y[..., 0, :], of_y[..., 1, :])
    return _Sums(X.mT @ X, Y.mT @ Y, X.mT @ Y, X.sum(-2), Y.sum(-2), *vectors, squares)


def _linear_hsic(n: int, C: Tensor, vectors: tuple[Tensor, ...], numbers: tuple[Tensor, ...]) -> Tensor:
    """The debiased HSIC of X X^T and Y Y^T from sums: C = X^T Y; x_i, y_i, b_i x_i, a_i y_i; a_i, b_i, a_i b_i."""
    (x, y, bx, ay), (a, b, ab) = vectors, numbers
    rows = ((x[..., None, :] @ C).squeeze(-2) * y - ay * y).sum(-1) - (x * bx).sum(-1) + ab  # 1^T K L 1
    ones = (x.square().sum(-1) - a) * (y.square().sum(-1) - b)
    return (_inner(C, C) - ab + ones / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows) / (n * (n - 3))


def _linear_cka(n: int, s: _Sums, debiased: bool, eps: float) -> Tensor:
    if debiased:
        aa, bb, ab = s.squares.unbind(-1)
        a, b = (G.diagonal(dim1=-2, dim2=-1).sum(-1) for G in (s.XX, s.YY))
        xx = _linear_hsic(n, s.XX, (s.x, s.x, s.ax, s.ax), (a, a, aa))
        yy = _linear_hsic(n, s.YY, (s.y, s.y, s.by, s.by), (b, b, bb))
        xy = _linear_hsic(n, s.XY, (s.x, s.y, s.bx, s.ay), (a, b, ab))
        for name, own, G in (("X", xx, s.XX), ("Y", yy, s.YY)):  # a difference of numbers as large as |G|^2 / n^2
            _require_varied(name, own, 64 * eps * _inner(G, G) / n**2)
    else:
        pairs = ((s.XX, s.x, s.x), (s.YY, s.y, s.y), (s.XY, s.x, s.y))
        xx, yy, xy = ((C - u[..., :, None] * v[..., None, :] / n).square().sum((-2, -1)) for C, u, v in pairs)
    return xy / (xx * yy).sqrt()


def linear_cka(X: Tensor, Y: Tensor, debiased: bool = False) -> Tensor:
    r"""Linear CKA: |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F) with centred columns; the alignment of X X^T and Y Y^T.

    Unchanged by a rotation (or reflection), a common scale and a translation of X or Y, but not by other linear maps:
    directions count by their variance, squared. With fewer inputs than neurons the biased value is large for whatever
    X and Y, about d / (d + n) for independent Gaussians of d = e; the debiased one is then about zero.
    Differentiable. Works on d x e products where inputs outnumber neurons, else on n x n ones.

    Args:
        X: (..., n, d) representation.
        Y: (..., n, e) representation of the same inputs.
        debiased: replace HSIC by its debiased estimate; needs n >= 4, and can be slightly negative.

    Returns:
        (...) values, at most 1.

    Raises:
        ValueError: wrong shapes or dtypes, too few inputs, or a representation that is constant or not finite.

    Source: Kornblith et al. 2019, "Similarity of neural network representations revisited"; Nguyen, Raghu & Kornblith
    2021 for the debiased HSIC in it.

    >>> X = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> linear_cka(X, X[:, :1]).round(decimals=4)  # one of two equal directions: 1 / sqrt(2)
    tensor(0.7071)
    """
    _require_rows(X, Y, 4 if debiased else 2)
    n, X, Y = X.shape[-2], _centred_length("X", X)[0], _centred_length("Y", Y)[0]
    if n < max(X.shape[-1], Y.shape[-1]):
        return kernel_cka(X @ X.mT, Y @ Y.mT, debiased)
    return _linear_cka(n, _sums(X, Y), debiased, thresholds.eps(X.dtype))


class LinearCKA:
    r"""Linear CKA of more inputs than fit in memory: ``update`` with one batch after the other, then ``value``.

    Not an average over batches: it keeps X^T X, Y^T Y, X^T Y and a few vectors, in float64, and the value is that of
    all inputs at once, debiased or not. The first batch's mean is subtracted throughout, so that a large mean does not
    cancel the digits; no pass over the data is needed for it. Products of one batch are taken in the batch's dtype.

    Raises:
        ValueError: in ``update`` for wrong shapes, dtypes or widths; in ``value`` for too few inputs or a constant.

    Source: ours; formulas of :func:`linear_cka`. Nguyen, Raghu & Kornblith 2021 average HSIC over batches instead.

    >>> X = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    >>> Y, cka = X.relu(), LinearCKA()
    >>> for part in torch.arange(100).split(30):
    ...     cka.update(X[part], Y[part])
    >>> bool((cka.value() - linear_cka(X, Y)).abs() < 1e-5)
    True
    """

    def __init__(self) -> None:
        self.n = 0
        self._shift: tuple[Tensor, Tensor] | None = None
        self._sums: _Sums | None = None

    @torch.no_grad()
    def update(self, X: Tensor, Y: Tensor) -> None:
        """Take in the next rows X (n, d) and Y (n, e)."""
        _require_rows(X, Y, 1)
        if self._shift is None:
            self._shift = X.mean(-2), Y.mean(-2)
        for name, Z, mean in zip("XY", (X, Y), self._shift, strict=True):
            if Z.shape[:-2] + Z.shape[-1:] != mean.shape or Z.dtype != mean.dtype:
                raise ValueError(
                    f"{name}: received shape {tuple(Z.shape)} of {Z.dtype}; valid is as in the first batch, "
                    f"{mean.shape[-1]} columns of {mean.dtype}. Repair: a LinearCKA() for every pair of layers."
                )
        now = _sums(X - self._shift[0], Y - self._shift[1])
        if self._sums is None:
            self._sums = _Sums(*(s.double() for s in now))
        else:
            for kept, s in zip(self._sums, now, strict=True):
                kept += s
        self.n += X.shape[-2]

    def value(self, debiased: bool = False) -> Tensor:
        """The CKA of all rows so far, a float64 scalar."""
        least = 4 if debiased else 2
        if self._sums is None or self.n < least:
            raise ValueError(f"n: received {self.n} inputs so far; valid is at least {least}. Repair: update(X, Y).")
        s, (mean_x, mean_y) = self._sums, cast(tuple[Tensor, Tensor], self._shift)
        for name, G, total, mean in (("X", s.XX, s.x, mean_x), ("Y", s.YY, s.y, mean_y)):
            spread = G.trace() - total.square().sum() / self.n
            size = self.n * mean.double().square().sum() + G.trace()
            _require_varied(name, spread, _constant(size, thresholds.eps(mean.dtype)))
        return _linear_cka(self.n, s, debiased, thresholds.eps(mean_x.dtype))


# ---------------------------------------------------------------------------------------- rotations, maps, permutations


def _padded(X: Tensor, d: int) -> Tensor:
    return nn.functional.pad(X, (0, d - X.shape[-1])) if X.shape[-1] < d else X


def procrustes_map(X: Tensor, Y: Tensor, rotation: bool = False) -> Tensor:
    r"""The orthogonal Q that carries X closest to Y: Q = U V^T minimises |X Q - Y|_F, with X^T Y = U S V^T.

    Nothing is centred here: subtract means first to compare shapes. With d < e the rows of Q are orthonormal, with
    d > e its columns. No gradient flows through Q.

    Args:
        X: (..., n, d) representation.
        Y: (..., n, e) representation of the same inputs.
        rotation: only determinant +1, by turning the direction of the smallest singular value; needs d = e.

    Returns:
        (..., d, e) matrices.

    Raises:
        ValueError: wrong shapes or dtypes, or ``rotation`` with d != e.

    Source: Schonemann 1966, "A generalized solution of the orthogonal Procrustes problem"; Kabsch 1976 for rotations.

    >>> X = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> procrustes_map(X, X.flip(-1)).round(decimals=3)
    tensor([[0., 1.],
            [1., 0.]])
    """
    _require_rows(X, Y, 1)
    if rotation and X.shape[-1] != Y.shape[-1]:
        raise ValueError(
            f"rotation: received True for widths {X.shape[-1]} and {Y.shape[-1]}; valid is equal widths. "
            "Repair: rotation=False."
        )
    with torch.no_grad():
        U, _, Vh = torch.linalg.svd(X.mT @ Y, full_matrices=False)
        if rotation:
            sign = torch.linalg.det(U @ Vh).sign()
            U = torch.cat([U[..., :-1], U[..., -1:] * sign[..., None, None]], -1)
        return U @ Vh


def procrustes_distance(X: Tensor, Y: Tensor) -> Tensor:
    r"""min over orthogonal Q of |X Q - Y|_F, X and Y centred and of Frobenius norm one: sqrt(2 - 2 |X^T Y|_*).

    A metric on shapes: zero exactly if Y is X after rotation, reflection, common scale and translation; at most sqrt 2.
    A narrower representation is continued with zeros. Evaluated as the length of X Q - Y, which keeps its digits near
    zero, where 2 - 2 |X^T Y|_* has none. Differentiable where X^T Y has full rank.

    Args:
        X: (..., n, d) representation.
        Y: (..., n, e) representation of the same inputs.

    Returns:
        (...) distances between 0 and sqrt 2.

    Raises:
        ValueError: wrong shapes or dtypes, or a representation that is constant or not finite.

    Source: Kendall 1984, "Shape manifolds, Procrustean metrics, and complex projective spaces"; Williams et al. 2021
    for networks.

    >>> X = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    >>> turned = 5 * X @ torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64) + 7
    >>> bool(procrustes_distance(X, turned) < 1e-14)
    True
    """
    _require_rows(X, Y)
    width, shapes = max(X.shape[-1], Y.shape[-1]), []
    for name, Z in (("X", X), ("Y", Y)):
        C, length = _centred_length(name, Z)
        shapes.append(_padded(C / length[..., None, None], width))
    return torch.linalg.matrix_norm(shapes[0] @ procrustes_map(shapes[0], shapes[1]) - shapes[1])


def _orthonormal(name: str, X: Tensor) -> Tensor:
    """An orthonormal basis (n, r) of the centred columns of X (n, d), r their rank.

    Columns are brought to length one first, so that the rank does not depend on their units.
    """
    before = torch.linalg.vector_norm(X, dim=0)
    X, _ = _centred_length(name, X)
    lengths = torch.linalg.vector_norm(X, dim=0)
    alive = lengths > 16 * thresholds.eps(X.dtype) * before
    Q, R = torch.linalg.qr(X[:, alive] / lengths[alive])
    U, s, _ = torch.linalg.svd(R)
    rank = int((s > max(X.shape) * thresholds.eps(X.dtype) * s[0]).sum())
    return Q @ U[:, :rank]


def canonical_correlations(X: Tensor, Y: Tensor) -> Tensor:
    r"""The correlations of the best-correlated pairs of directions, each pair uncorrelated with those before.

    The singular values of Q_X^T Q_Y, with Q_X and Q_Y orthonormal bases of the centred columns (QR, then an SVD of R
    that drops directions below max(n, d) eps of the largest). Their mean is the usual index of similarity. Unchanged by
    every invertible linear map, so that a direction of variance 1e-6 counts as much as one of variance 1.
    Of n inputs, ranks r and s with r + s > n - 1 make r + s - n + 1 correlations equal to 1 whatever the data.

    Args:
        X: (n, d) representation.
        Y: (n, e) representation of the same inputs.

    Returns:
        (min(r, s)) correlations between 0 and 1, descending.

    Raises:
        ValueError: wrong shapes or dtypes, or a representation that is constant or not finite.

    Source: Hotelling 1936, "Relations between two sets of variates"; Bjorck & Golub 1973 for the computation;
    Raghu et al. 2017 for networks.

    >>> X = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> canonical_correlations(X, X @ torch.tensor([[1.0, 5.0], [0.0, 1.0]])).round(decimals=4)
    tensor([1., 1.])
    """
    _require_rows(X, Y)
    for name, Z in (("X", X), ("Y", Y)):
        if Z.dim() != 2:
            raise ValueError(f"{name}: received shape {tuple(Z.shape)}; valid is (n, d). Repair: one pair at a time.")
    return torch.linalg.svdvals(_orthonormal("X", X).mT @ _orthonormal("Y", Y)).clamp_max(1.0)


def match_neurons(X: Tensor, Y: Tensor, signed: bool = True) -> tuple[Tensor, Tensor]:
    r"""Pair each neuron of X with one of Y so that the sum of correlations is largest (Hungarian method).

    A neuron that is constant over the inputs correlates 0 with all others. Unchanged by permutations, by a translation
    and by a positive scale for each neuron; not by a rotation.

    Args:
        X: (n, d) representation.
        Y: (n, e) representation of the same inputs, e >= d.
        signed: count a correlation of -1 as bad; if False, as good as +1.

    Returns:
        (d) the neuron of Y for each neuron of X, and (d) their correlations.

    Raises:
        ValueError: wrong shapes or dtypes, e < d, or a value that is not finite.

    Source: Li et al. 2016, "Convergent learning: do different neural networks learn the same representations?".

    >>> X = torch.tensor([[0.0, 1.0], [1.0, 5.0], [2.0, 0.0]])
    >>> match_neurons(X, X.flip(1))[0]
    tensor([1, 0])
    """
    from scipy.optimize import linear_sum_assignment

    _require_rows(X, Y)
    if X.dim() != 2 or Y.dim() != 2 or Y.shape[1] < X.shape[1]:
        raise ValueError(
            f"Y: received shape {tuple(Y.shape)} beside X of shape {tuple(X.shape)}; valid is (n, e) with at least "
            f"{X.shape[-1]} columns. Repair: match_neurons(Y, X)."
        )
    units = []
    for name, Z in (("X", X), ("Y", Y)):
        rounding = 16 * thresholds.eps(Z.dtype) * torch.linalg.vector_norm(Z, dim=0)
        Z = _centred(Z)
        length = torch.linalg.vector_norm(Z, dim=0)
        if not bool(length.isfinite().all()):
            raise ValueError(f"{name}: received a value that is not finite; valid are numbers. Repair: nan_to_num.")
        units.append(Z / torch.where(length > rounding, length, torch.inf))
    C = (units[0].mT @ units[1]).clamp(-1, 1)
    gain = (C if signed else C.abs()).detach().cpu().double().numpy()
    partner = torch.from_numpy(linear_sum_assignment(gain, maximize=True)[1]).to(C.device)
    return partner, C.gather(1, partner[:, None]).squeeze(1)


# --------------------------------------------------------------------------------------------- relative representations


def _directions(name: str, x: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    good = (length > thresholds.smallest_norm(x.dtype)) & length.isfinite()
    if not torch.compiler.is_compiling() and not bool(good.all()):
        rows = (~good).flatten().nonzero()[:5, 0].tolist()
        raise ValueError(
            f"{name}: received {int((~good).sum())} vectors of length zero, or not finite (first at {rows}); valid are "
            "vectors with a direction: a cosine with zero is undefined. Repair: drop these rows, or another center."
        )
    return x / length


def relative(x: Tensor, anchors: Tensor, center: Tensor | None = None) -> Tensor:
    r"""Relative representation: the cosines of each embedding with the embeddings of m anchors.

    r_ij = <x_i - c, a_j - c> / (|x_i - c| |a_j - c|) with c = 0 if there is no center. Exactly unchanged when x and the
    anchors go through one rotation, reflection or scale. A translation changes it, unless c moves along, as
    c = anchors.mean(-2) does. Other linear maps change it.

    Args:
        x: (..., n, d) embeddings.
        anchors: (..., m, d) embeddings of the anchors by the same network; batch dimensions broadcast.
        center: (..., d) point from which directions are taken; the origin if omitted.

    Returns:
        (..., n, m) cosines.

    Raises:
        ValueError: wrong shapes or dtypes, or a vector of length zero (after centring): it has no direction.

    Source: Moschella et al. 2023, "Relative representations enable zero-shot latent space communication".

    >>> relative(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])).round(decimals=4)
    tensor([[0.6000, 0.8000]])
    """
    for name, z in (("x", x), ("anchors", anchors)):
        require_real(name, z)
        if z.dim() < 2 or z.shape[-1] != x.shape[-1] or z.dtype != x.dtype:
            raise ValueError(
                f"{name}: received shape {tuple(z.shape)} of {z.dtype}; valid is (..., rows, {x.shape[-1]}) of "
                f"{x.dtype}. Repair: embed inputs and anchors by one network."
            )
    if center is not None:
        require_real("center", center)
        if center.shape[-1:] != x.shape[-1:]:
            raise ValueError(
                f"center: received shape {tuple(center.shape)}; valid is (..., {x.shape[-1]}). "
                "Repair: center=anchors.mean(-2)."
            )
        x, anchors = x - center[..., None, :], anchors - center[..., None, :]
    return _directions("x", x) @ _directions("anchors", anchors).mT


def stitch(encoder: nn.Module, decoder: nn.Module, x: Tensor, anchors: Tensor, center: bool = False) -> Tensor:
    r"""The decoder of one network after the encoder of another: decoder(relative(encoder(x), encoder(anchors))).

    The decoder must have been trained on relative representations with the same anchor *inputs* in the same order, each
    encoder placing them in its own space. Encoder and decoder are used in evaluation mode, without gradient, and are
    left as they were.

    Args:
        encoder: inputs (n, ...) -> embeddings (n, d).
        decoder: cosines (n, m) -> outputs.
        x: (n, ...) inputs.
        anchors: (m, ...) inputs of the anchors.
        center: take directions from the mean of the anchors' embeddings.

    Returns:
        what the decoder returns for (n, m).

    Raises:
        ValueError: those of :func:`relative`.

    Source: Moschella et al. 2023, section 5.

    >>> encoder, decoder = nn.Linear(3, 2), nn.Linear(4, 10)
    >>> stitch(encoder, decoder, torch.ones(5, 3), torch.eye(4, 3) + 1).shape
    torch.Size([5, 10])
    """
    modes = [(module, module.training) for part in (encoder, decoder) for module in part.modules()]
    try:
        with torch.no_grad():
            encoder.eval()
            decoder.eval()
            z, a = encoder(x), encoder(anchors)
            out: Tensor = decoder(relative(z, a, a.mean(-2) if center else None))
            return out
    finally:
        for module, training in modes:
            module.training = training


# ------------------------------------------------------------------------------------------------------------------ SNR


def snr_distance(anchor: Tensor, other: Tensor) -> Tensor:
    r"""The noise-to-signal ratio of two embeddings: var(other - anchor) / var(anchor), variances over the d features.

    Not symmetric: the anchor comes first. Not a metric, and not rotation invariant: a vector's own mean is removed,
    that is its component along (1, ..., 1). For features of mean zero var(x) = |x|^2 / d, so that it is
    |other - anchor|^2 / |anchor|^2; of length one as well, the squared Euclidean distance and 2 - 2 cos. Where other =
    anchor + noise, uncorrelated with the anchor over the features, their correlation is 1 / sqrt(1 + ratio).

    Args:
        anchor: (..., d) embeddings, d >= 2.
        other: (..., d) embeddings; batch dimensions broadcast.

    Returns:
        (...) ratios, zero or more.

    Raises:
        ValueError: wrong shapes or dtypes, or an anchor whose features are all equal, or not finite.

    Source: Yuan et al. 2019, "Signal-to-noise ratio: a robust distance metric for deep metric learning".

    >>> snr_distance(torch.tensor([1.0, -1.0]), torch.tensor([1.0, 1.0]))  # noise (0, 2): variance 1, of the anchor 1
    tensor(1.)
    """
    for name, z in (("anchor", anchor), ("other", other)):
        require_real(name, z)
        if z.dim() < 1 or z.shape[-1] != anchor.shape[-1] or z.shape[-1] < 2 or z.dtype != anchor.dtype:
            raise ValueError(
                f"{name}: received shape {tuple(z.shape)} of {z.dtype}; valid is (..., d) with one d >= 2 and one "
                "dtype for both. Repair: embed both by one network."
            )
    signal = anchor.var(-1, correction=0)
    rounding = _constant(anchor.square().mean(-1), thresholds.eps(anchor.dtype))
    if not torch.compiler.is_compiling() and not bool(((signal > rounding) & signal.isfinite()).all()):
        raise ValueError(
            "anchor: received a vector whose features are all equal, or not finite; valid are features that vary, as "
            "a signal of variance zero drowns in any noise. Repair: leave it out, or exchange anchor and other."
        )
    return (other - anchor).var(-1, correction=0) / signal
