r"""How far apart N directions or subspaces can lie, and sets that lie that far apart.

A code book of N classes is N unit vectors w_i in R^d, the rows of W (N, d), or N subspaces of R^n with orthonormal
bases S_i (n, k). Bounds say what no code book can beat; the sets here reach them, or come near.
"""

import math

import torch
from torch import Tensor

from repgeom.manifolds import thresholds
from repgeom.manifolds.checks import require_real

__all__ = [
    "coherence",
    "equiangular_basis_vectors",
    "fusion_frame_operator",
    "orthoplex",
    "random_unit_vectors",
    "rankin_bound",
    "simplex_etf",
    "subspace_welch_bound",
    "welch_bound",
]

MOMENTUM = 0.9  # of the heavy ball in equiangular_basis_vectors: near the bound 5 to 10 times fewer steps than without


def _require_counts(**counts: tuple[int, int]) -> None:
    """Raise ``ValueError`` unless each value is a whole number, at least the one beside it."""
    for name, (value, least) in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(
                f"{name}: received {value!r}; valid is a whole number, at least {least}. Repair: {name}={least}."
            )


def _require_room(N: int, d: int, most: int, least: int) -> None:
    """Raise ``ValueError`` where the construction holds fewer than N vectors in R^d."""
    if N > most:
        raise ValueError(f"N: received {N} in dimension d = {d}; valid is at most {most} there. Repair: d={least}.")


def _resolved(dtype: torch.dtype | None) -> torch.dtype:
    dtype = dtype or torch.get_default_dtype()
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype: received {dtype}; valid is float32 or float64. Repair: dtype=torch.float32.")
    return dtype


def _directions(name: str, W: Tensor) -> Tensor:
    """The rows of W (..., N, d) at length one, or ``ValueError``. Costs a pass over the data."""
    length = torch.linalg.vector_norm(W, dim=-1, keepdim=True)
    if not bool((length.isfinite() & (length > thresholds.smallest_norm(W.dtype))).all()):
        raise ValueError(
            f"{name}: received a row of length zero, or not finite; valid are directions. "
            f"Repair: {name}[{name}.norm(dim=-1) > 0]."
        )
    return W / length


def _turned(W: Tensor, d: int, generator: torch.Generator | None) -> Tensor:
    """The rows of W (N, r) in R^d: followed by zeros, or turned by a random isometry where there is a generator."""
    N, r = W.shape
    if generator is None:
        return torch.cat([W, W.new_zeros(N, d - r)], 1)
    Q, R = torch.linalg.qr(torch.randn(d, r, generator=generator, dtype=W.dtype, device=W.device))
    return W @ (Q * torch.where(R.diagonal() < 0, -1.0, 1.0)).mT


def welch_bound(N: int, d: int, order: int = 1) -> float:
    r"""What the largest |cos| between two of N vectors in R^d is at least: mu^{2m} = (N / C(d+m-1, m) - 1) / (N - 1).

    The powers <w_i, w_j>^m form a Gram matrix of rank at most C(d+m-1, m), so their squares sum to at least
    N^2 / C(d+m-1, m); N of that is the diagonal. Order m = 1 is reached by equiangular tight frames only, which need
    N <= d (d+1) / 2; higher orders are sharper for larger N. Zero where the right side is not positive.

    Args:
        N: number of unit vectors, at least 2.
        d: dimension.
        order: the power m, at least 1.

    Returns:
        A cosine between 0 and 1.

    Raises:
        ValueError: a count that is not a whole number or is too small.

    Source: Welch 1974, "Lower bounds on the maximum cross correlation of signals". For real vectors the moments of the
    sphere, 1 3 ... (2m-1) / (d (d+2) ... (d+2m-2)) in place of 1 / C(d+m-1, m), sharpen orders above one.

    >>> round(welch_bound(1000, 500), 4)
    0.0316
    >>> round(welch_bound(100, 3), 2), round(welch_bound(100, 3, order=8), 2)  # a hundred lines in space
    (0.57, 0.76)
    """
    _require_counts(N=(N, 2), d=(d, 1), order=(order, 1))
    power = (N / math.comb(d + order - 1, order) - 1) / (N - 1)
    return max(power, 0.0) ** (1 / (2 * order))


def subspace_welch_bound(N: int, n: int, k: int) -> float:
    r"""What the largest overlap ||S_i^T S_j||_F^2 of two of N k-dimensional subspaces of R^n is at least.

    The overlap is a sum of k squared cosines, of the principal angles, and so between 0 and k. Simplex bound:
    k (N k - n) / (n (N - 1)), or zero where N k <= n; reached by equi-chordal tight fusion frames only, and only for
    N <= n (n+1) / 2. Orthoplex bound, beyond that: k^2 / n, the mean overlap of random subspaces. In squared chordal
    distances d^2 = k - overlap they say min d^2 <= k (n-k) / n N / (N-1) and min d^2 <= k (n-k) / n.

    Both are :func:`rankin_bound` for the matrices S_i S_i^T - (k/n) I: their products are overlap - k^2 / n, their
    squared length is k (n-k) / n, and they lie in the traceless symmetric matrices, of dimension n (n+1) / 2 - 1.

    Args:
        N: number of subspaces, at least 2.
        n: dimension of the space.
        k: dimension of each subspace, at most n.

    Returns:
        A squared Frobenius norm between 0 and k; for k = 1 a squared cosine.

    Raises:
        ValueError: a count that is not a whole number or is too small, or k > n.

    Source: Conway, Hardin & Sloane 1996, "Packing lines, planes, etc.: packings in Grassmannian spaces".

    >>> round(subspace_welch_bound(100, 512, 8), 4), 8**2 / 512  # the bound, and random subspaces
    (0.0455, 0.125)
    """
    _require_counts(N=(N, 2), n=(n, 1), k=(k, 1))
    if k > n:
        raise ValueError(f"k: received {k} in dimension n = {n}; valid is 1 <= k <= n. Repair: k={n}.")
    if N > n * (n + 1) // 2:
        return k * k / n
    return max(k * (N * k - n) / (n * (N - 1)), 0.0)


def rankin_bound(N: int, d: int) -> float:
    r"""What the largest signed cosine between two of N vectors in R^d is at least: -1 / (N - 1), or 0 for N >= d + 2.

    The first from 0 <= |sum_i w_i|^2 <= N + N (N-1) max cos, reached by the simplex. Of d + 2 vectors some two are not
    more than a right angle apart; up to N = 2d zero is reached by the orthoplex. Beyond 2d the true value is positive,
    but no more than that is known here; d = 1 is the exception, where two of three vectors coincide.

    Args:
        N: number of unit vectors, at least 2.
        d: dimension.

    Returns:
        A cosine between -1 and 0; 1 for d = 1 and N >= 3.

    Raises:
        ValueError: a count that is not a whole number or is too small.

    Source: Rankin 1955, "The closest packing of spherical caps in n dimensions".

    >>> rankin_bound(11, 10), rankin_bound(20, 10)
    (-0.1, 0.0)
    """
    _require_counts(N=(N, 2), d=(d, 1))
    if N <= d + 1:
        return -1 / (N - 1)
    return 1.0 if d == 1 else 0.0


def random_unit_vectors(
    N: int,
    d: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Directions drawn evenly from the sphere: normalised Gaussians. Their cosines have mean square 1 / d.

    Args:
        N: how many.
        d: dimension.
        generator: source of randomness; it must live on ``device``. The global one if omitted.
        dtype: float32 or float64; torch's default if omitted.
        device: where; torch's default if omitted.

    Returns:
        (N, d) unit rows.

    Raises:
        ValueError: a count that is not a whole number or is too small, or the dtype.

    Source: Muller 1959, "A note on a method for generating points uniformly on n-dimensional spheres".

    >>> random_unit_vectors(2, 3, torch.Generator().manual_seed(0)).norm(dim=1).round(decimals=3)
    tensor([1., 1.])
    """
    _require_counts(N=(N, 0), d=(d, 1))
    W = torch.randn(N, d, generator=generator, dtype=_resolved(dtype), device=device)
    return torch.nn.functional.normalize(W, dim=-1)


def simplex_etf(
    N: int,
    d: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""The corners of a regular simplex around the origin: every cosine is -1 / (N - 1), the least that all can have.

    sqrt(N / (N-1)) (I - 1 1^T / N), written in the N - 1 coordinates that it needs (Helmert's basis).

    Args:
        N: how many, at least 2.
        d: dimension, at least N - 1.
        generator: turns the simplex at random; it must live on ``device``. If omitted, the set is always the same and
            zero from coordinate N on.
        dtype: float32 or float64; torch's default if omitted.
        device: where; torch's default if omitted.

    Returns:
        (N, d) unit rows.

    Raises:
        ValueError: a count that is not a whole number or is too small, N > d + 1, or the dtype.

    Source: Papyan, Han & Donoho 2020, "Prevalence of neural collapse", where class means end up like this.

    >>> W = simplex_etf(3, 2)
    >>> (W @ W.mT).round(decimals=3)
    tensor([[ 1.0000, -0.5000, -0.5000],
            [-0.5000,  1.0000, -0.5000],
            [-0.5000, -0.5000,  1.0000]])
    """
    _require_counts(N=(N, 2), d=(d, 1))
    _require_room(N, d, d + 1, N - 1)
    j = torch.arange(1, N, dtype=_resolved(dtype), device=device)
    diagonal = torch.diag(j)
    H = torch.cat([torch.ones_like(j)[None], torch.ones_like(diagonal).triu(1) - diagonal])  # j ones, -j, zeros
    return _turned(H * (N / (N - 1) / (j * (j + 1))).sqrt(), d, generator)


def orthoplex(
    N: int,
    d: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""The first N of e_1, ..., e_d, -e_1, ..., -e_d: no two are less than a right angle apart.

    Args:
        N: how many, at most 2d.
        d: dimension.
        generator: turns the set at random; it must live on ``device``. If omitted, the set is always the same.
        dtype: float32 or float64; torch's default if omitted.
        device: where; torch's default if omitted.

    Returns:
        (N, d) unit rows.

    Raises:
        ValueError: a count that is not a whole number or is too small, N > 2d, or the dtype.

    Source: Rankin 1955, "The closest packing of spherical caps in n dimensions".

    >>> orthoplex(3, 2)
    tensor([[ 1.,  0.],
            [ 0.,  1.],
            [-1.,  0.]])
    """
    _require_counts(N=(N, 0), d=(d, 1))
    _require_room(N, d, 2 * d, (N + 1) // 2)
    basis = torch.eye(d, dtype=_resolved(dtype), device=device)
    return _turned(torch.cat([basis, 0 - basis])[:N], d, generator)


def coherence(W: Tensor, signed: bool = False) -> Tensor:
    r"""The largest |cos| between two different rows of W, or the largest cos: max_{i != j} <w_i, w_j> / (|w_i| |w_j|).

    Args:
        W: (..., N, d) with N >= 2 rows that are not zero, of any length.
        signed: leave out the absolute value.

    Returns:
        (...) cosines.

    Raises:
        ValueError: wrong shape or dtype, fewer than two rows, or a row that is zero or not finite.

    Source: Welch 1974, whose bound is about this number.

    >>> coherence(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])), coherence(torch.eye(3), signed=True)
    (tensor(1.), tensor(0.))
    """
    require_real("W", W)
    if W.dim() < 2 or W.shape[-2] < 2:
        raise ValueError(
            f"W: received shape {tuple(W.shape)}; valid is (..., N, d) with N >= 2. Repair: torch.stack two vectors."
        )
    W = _directions("W", W)
    cosines = W @ W.mT
    itself = torch.eye(W.shape[-2], dtype=torch.bool, device=W.device)
    return (cosines if signed else cosines.abs()).masked_fill(itself, -2.0).amax((-2, -1))


def fusion_frame_operator(S: Tensor) -> Tensor:
    r"""The sum of the projections on N subspaces, F = sum_i S_i S_i^T: trace N k, and (N k / n) I if tight.

    The squared shadows of a vector u on all subspaces sum to u^T F u: in a tight frame, to the same for every u.

    Args:
        S: (..., N, n, k) orthonormal bases; that they are orthonormal is not checked.

    Returns:
        (..., n, n) symmetric.

    Raises:
        ValueError: wrong dtype, or fewer than three dimensions.

    Source: Casazza & Kutyniok 2004, "Frames of subspaces".

    >>> fusion_frame_operator(torch.eye(2)[:, :, None])  # two orthogonal lines
    tensor([[1., 0.],
            [0., 1.]])
    """
    require_real("S", S)
    if S.dim() < 3:
        raise ValueError(
            f"S: received shape {tuple(S.shape)}; valid is (..., N, n, k). Repair: S.unsqueeze(-1) for lines (N, n)."
        )
    A = S.transpose(-3, -2).flatten(-2)
    return A @ A.mT


def _require_possible(N: int, d: int, alpha: float, signed: bool) -> None:
    """Raise ``ValueError`` where it is certain that no N unit vectors in R^d have all (absolute) cosines <= alpha."""
    if not (-1 if signed else 0) <= alpha < 1:
        raise ValueError(
            f"alpha: received {alpha}; valid is a cosine from {-1 if signed else 0} to below 1. "
            "Repair: alpha=1.2 * welch_bound(N, d)."
        )
    name, bound = "Welch", max(welch_bound(N, d, order) for order in range(1, 17))
    if signed:
        name, bound = "Rankin", rankin_bound(N, d)
    crowded = signed and bound == 0 and N > 2 * d
    if alpha < bound or (crowded and alpha <= 0):
        least = f"above 0, as only 2d = {2 * d} vectors reach 0" if crowded else f"at least {bound:.6g}"
        raise ValueError(
            f"alpha: received {alpha:.6g} for N = {N} vectors in dimension d = {d}; valid is {least}: no set does "
            f"better ({name}'s bound). Repair: a larger alpha, 1.1 to 1.4 times a positive bound, or a larger d."
        )


def _redraw(W: Tensor, V: Tensor, C: Tensor, limit: float, generator: torch.Generator | None) -> None:
    """New directions, in place, for the rows that are nearly collinear with an earlier one: nothing else parts them."""
    rows = (C.tril(-1) > limit).any(1)
    fresh = random_unit_vectors(int(rows.sum()), W.shape[1], generator, W.dtype, W.device)
    W[rows], V[rows] = fresh, 0.0


@torch.no_grad()
def equiangular_basis_vectors(
    N: int,
    d: int,
    alpha: float,
    *,
    signed: bool = False,
    steps: int = 3000,
    lr: float = 1.0,
    tolerance: float = 1e-4,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""N unit vectors in R^d whose |cos| (or cos, if signed) all are at most alpha + tolerance, found by descent.

    The paper lowers the hinges relu(|<w_i, w_j>| - alpha), summed over i != j, with a fixed learning rate. The sum f of
    their squares is zero for the same sets, and since zero is known to be its least value, the step can have Polyak's
    length lr f / |grad f|^2: large far away, small nearby, nothing to tune. Momentum 0.9; rows are normalised after
    each step. Two collinear vectors stay so under any such descent, as each is pulled along itself: one of them is
    drawn anew.

    Ask for 1.1 to 1.4 times the bound, more where N / d is large. For N <= d + 1 and N <= 2d the best signed sets are
    known: :func:`simplex_etf` and :func:`orthoplex`. A step costs 4 N^2 d operations and a few matrices (N, N).

    Args:
        N: how many, at least 2.
        d: dimension. If d >= N and not signed, an orthonormal set is returned at once: the standard basis, or a random
            one if there is a generator.
        alpha: largest cosine asked for.
        signed: cap cosines, not their absolute values: what matters where a class is found by its largest cosine.
        steps: most steps before giving up.
        lr: factor of the step, above 0 and below 2.
        tolerance: by how much alpha may be exceeded.
        start: (N, d) rows to begin with, of any length but zero; random directions if omitted.
        generator: source of randomness; it must live on ``device``. The global one if omitted.
        dtype: float32 or float64; that of ``start``, or torch's default, if omitted.
        device: where; that of ``start``, or torch's default, if omitted.

    Returns:
        (N, d) unit rows.

    Raises:
        ValueError: before any step: alpha below :func:`welch_bound` (of orders 1 to 16) or :func:`rankin_bound`, or
            another argument that is not valid.
        RuntimeError: steps ran out; the message has the value that was reached.

    Source: Shen, Sun & Wei 2023, "Equiangular Basis Vectors"; Polyak 1969 for the step.

    >>> W = equiangular_basis_vectors(20, 10, 0.3, generator=torch.Generator().manual_seed(0))
    >>> W.shape, bool(coherence(W) <= 0.3001)
    (torch.Size([20, 10]), True)
    """
    _require_counts(N=(N, 2), d=(d, 1), steps=(steps, 1))
    _require_possible(N, d, alpha, signed)
    if not (0 < lr < 2 and tolerance > 0):
        raise ValueError(
            f"lr, tolerance: received {lr} and {tolerance}; valid are 0 < lr < 2 and tolerance > 0. Repair: lr=1.0."
        )
    if d >= N and not signed:
        return _turned(torch.eye(N, dtype=_resolved(dtype), device=device), d, generator)
    if start is None:
        W = random_unit_vectors(N, d, generator, dtype, device)
    else:
        require_real("start", start)
        if start.shape != (N, d):
            raise ValueError(f"start: received shape {tuple(start.shape)}; valid is {(N, d)}. Repair: start=None.")
        W = _directions("start", start.to(device, _resolved(dtype or start.dtype)))
    V, nearest = torch.zeros_like(W), math.inf
    for _ in range(steps):
        G = (W @ W.mT).fill_diagonal_(-2.0 if signed else 0.0)
        C = G if signed else G.abs()
        largest = float(C.max())
        nearest = min(nearest, largest)
        if largest <= alpha + tolerance:
            return W
        if largest > 1 - 0.01 * (1 - alpha):
            _redraw(W, V, C, 1 - 0.01 * (1 - alpha), generator)
            continue
        hinge = (C - alpha).clamp_min(0)
        D = 4 * (hinge if signed else hinge * G.sign()) @ W
        D -= (D * W).sum(1, keepdim=True) * W  # along the sphere
        V = MOMENTUM * V - lr * hinge.square().sum() / D.square().sum().clamp_min(thresholds.smallest_norm(W.dtype)) * D
        W = torch.nn.functional.normalize(W + V, dim=1)
    raise RuntimeError(
        f"alpha: {steps} steps reached a largest {'cos' if signed else '|cos|'} of {nearest:.4g}, not {alpha:.4g}. "
        "Repair: a larger alpha, more steps, or another seed of the generator."
    )
