r"""Coding rates: how many nats features take, how many fewer if they are coded by groups, and who is with whom.

Features are rows, Z (..., n, d). A membership (..., k, n) says how much of each point belongs to each of k groups; what
a point gives to all groups sums to one. A doubly stochastic (n, n) matrix is one too: every point leads a group of its
own. All objectives are in nats, differentiable, and batched over leading dimensions.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from repgeom.manifolds import thresholds
from repgeom.manifolds.checks import require_real

COOLING = 0.5  # factor between the temperatures that lead down to the wanted one
MILD = 40.0  # scores that spread less than this many temperatures can be exponentiated once, also in float32
PATIENCE = 25  # every so many iterations one step of Newton's method is tried: they cost more, and end slow cases


def coding_rate(Z: Tensor, eps: float = 0.5) -> Tensor:
    r"""R(Z) = 1/2 log det(I + d / (n eps^2) Z^T Z): the nats that code n features up to a distortion eps.

    The determinant is that of the smaller of the two Gram matrices, d x d or n x n: they are equal (Sylvester). The
    gradient is alpha Z (I + alpha Z^T Z)^-1 with alpha = d / (n eps^2).

    Args:
        Z: (..., n, d) features as rows, usually of length one.
        eps: distortion, a positive length in the unit of Z.

    Returns:
        (...) rates, zero for features that are all zero.

    Raises:
        ValueError: no tensor of float32 or float64, fewer than two dimensions, no rows or columns, a bad eps, or NaN.

    Source: Ma, Derksen, Hong & Wright 2007 (lossy coding length); Yu et al. 2020, arXiv 2006.08558.

    >>> coding_rate(torch.eye(2), eps=1.0)  # alpha = 1: log(1 + 1)
    tensor(0.6931)
    """
    n, d = _shape_of(Z, eps)
    gram = Z.mT @ Z if d <= n else Z @ Z.mT
    return _half_log_det("Z", gram * (d / (n * eps**2)))


def coding_rate_of_groups(Z: Tensor, membership: Tensor, eps: float = 0.5) -> Tensor:
    r"""R_c(Z, Pi) = sum_j tr(Pi_j) / (2 n) log det(I + d / (tr(Pi_j) eps^2) Z^T Pi_j Z): the rate of coding by groups.

    Pi_j is the diagonal matrix of row j. The logarithm of the determinant is concave, and the groups' second moments
    average to that of all: so R_c <= R, with equality where all groups have the same second moment. For a doubly
    stochastic (n, n) membership every trace is one and R_c = sum_j log det(I + d / eps^2 Z^T Pi_j Z) / (2 n).

    Args:
        Z: (..., n, d) features as rows.
        membership: (..., k, n) non-negative, columns sum to one (hard: zeros and ones). An empty group counts as zero.
        eps: distortion, a positive length in the unit of Z.

    Returns:
        (...) rates.

    Raises:
        ValueError: what :func:`coding_rate` raises; other points or dtype than Z; a membership that is negative, NaN or
            does not sum to one. The last is not checked where the membership is part of a training graph.

    Source: Yu et al. 2020, arXiv 2006.08558; with one group a point: after Ding et al. 2023, arXiv 2301.01805.

    >>> Z, one_each = torch.eye(2), torch.eye(2)
    >>> coding_rate_of_groups(Z, one_each, eps=1.0)  # each point alone: 2 * 1/4 log(1 + 2)
    tensor(0.5493)
    """
    n, d = _shape_of(Z, eps)
    _check_membership(Z, membership)
    size = membership.sum(-1)
    some = size > 0
    alpha = d / (torch.where(some, size, 1.0) * eps**2)[..., None, None]
    if d <= n:
        if membership.shape[-2] <= d:
            gram = (membership[..., None] * Z.unsqueeze(-3)).mT @ Z.unsqueeze(-3)
        else:  # one product for all groups
            squares = (Z[..., :, None] * Z[..., None, :]).flatten(-2)
            gram = (membership @ squares).unflatten(-1, (d, d))
        rates = _half_log_det("Z or membership", alpha * gram)
    else:  # not symmetric, but without the root of a membership, whose slope at zero is infinite
        gram = (Z @ Z.mT).unsqueeze(-3) * membership.unsqueeze(-2)
        rates = torch.linalg.slogdet(torch.eye(n, dtype=Z.dtype, device=Z.device) + alpha * gram).logabsdet / 2
    return torch.where(some, size * rates, 0.0).sum(-1) / n


def rate_reduction(Z: Tensor, membership: Tensor, eps: float = 0.5) -> Tensor:
    r"""R(Z) - R_c(Z, Pi): the nats a feature saves when the groups are known. Never negative.

    For given shapes of the groups it is largest where features of different groups are orthogonal (Fischer's
    inequality for the n x n Gram matrix).

    Args:
        Z: (..., n, d) features as rows; without a bound on their length the reduction has none.
        membership: (..., k, n) as in :func:`coding_rate_of_groups`.
        eps: distortion, a positive length in the unit of Z.

    Returns:
        (...) reductions.

    Raises:
        ValueError: as the two rates.

    Source: Yu et al. 2020, arXiv 2006.08558 (maximal coding rate reduction).

    >>> rate_reduction(torch.eye(2), torch.eye(2), eps=1.0)  # 1/2 log(4/3)
    tensor(0.1438)
    """
    return coding_rate(Z, eps) - coding_rate_of_groups(Z, membership, eps)


def sinkhorn(scores: Tensor, temperature: float, tol: float | None = None, max_steps: int = 2000) -> Tensor:
    r"""The doubly stochastic P that maximises <P, scores> + temperature * entropy(P).

    P_ij = exp((scores_ij + u_i + v_j) / temperature), with u and v found in the log domain: by the symmetric iteration
    u <- (u - temperature * logsumexp_j((scores_ij + u_j) / temperature)) / 2 where the scores are symmetric up to
    rounding, so that P is symmetric too, and by alternating rows and columns otherwise. Cold problems are reached
    through warmer ones. The gradient is that of the solution, not that of the iteration (:class:`_Sinkhorn`).

    Args:
        scores: (..., n, n) any finite numbers: similarities, not costs.
        temperature: positive, in the unit of the scores. Small: nearly the best assignment; large: nearly 1 / n.
        tol: largest distance of a row or column sum from one; by default the square root of the rounding unit
            (1.5e-8 in float64, 3.5e-4 in float32).
        max_steps: iterations at each temperature before giving up.

    Returns:
        (..., n, n) positive matrices whose rows and columns sum to one.

    Raises:
        ValueError: not square, wrong dtype, NaN, a temperature, tol or max_steps that is not positive, or no
            convergence, naming what is left.

    Source: Sinkhorn & Knopp 1967; Cuturi 2013 (temperature); Knight, Ruiz & Ucar 2014 (symmetric iteration).

    >>> sinkhorn(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), temperature=1.0)  # e / (e + 1) on the diagonal
    tensor([[0.7311, 0.2689],
            [0.2689, 0.7311]])
    """
    require_real("scores", scores)
    if scores.dim() < 2 or scores.shape[-1] != scores.shape[-2] or scores.shape[-1] == 0:
        raise ValueError(
            f"scores: received shape {tuple(scores.shape)}; valid are square matrices (..., n, n). "
            "Repair: for codes C (n, d) give C @ C.mT."
        )
    tol = thresholds.membership(scores.dtype) if tol is None else tol
    if not (0 < temperature < float("inf") and tol > 0 and max_steps >= 1):
        raise ValueError(
            f"temperature, tol, max_steps: received {temperature}, {tol} and {max_steps}; valid are positive numbers. "
            "Repair: sinkhorn(scores, temperature=0.1)."
        )
    if not bool(torch.isfinite(scores.detach()).all()):
        raise ValueError(
            "scores: received NaN or infinity; valid are finite numbers. "
            "Repair: see where torch.isfinite(scores) is false; for a forbidden pair use a large negative score."
        )
    return _Sinkhorn.apply(scores, float(temperature), float(tol), int(max_steps))


class _Sinkhorn(torch.autograd.Function):
    r"""Forward: iterate to the solution. Backward: differentiate what the solution satisfies.

    With H = G * P / temperature, G the gradient at P, the gradient at the scores is H - P * (a 1^T + 1 b^T) where
    a + P b = H 1 and P^T a + b = H^T 1: what is left when the parts that change row and column sums are removed.
    The system is solved in float64 (:func:`_balance`).
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, temperature: float, tol: float, max_steps: int) -> Tensor:
        P = _solve(scores, temperature, tol, max_steps)
        ctx.save_for_backward(P)
        ctx.temperature = temperature
        return P

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (saved,) = ctx.saved_tensors
        P = saved.double()
        H = grads[0].double() * P / ctx.temperature
        one = torch.ones_like(P[..., :1])
        a, b = _balance(P, one, one, H.sum(-1, keepdim=True), H.sum(-2)[..., None])
        return (H - P * (a + b.mT)).to(saved.dtype), None, None, None


def _solve(scores: Tensor, temperature: float, tol: float, max_steps: int) -> Tensor:
    """The converged P; a cold one through temperatures that halve from a part of the spread down to the wanted one."""
    if not scores.numel():
        return scores.clone()
    spread = float((scores.amax((-2, -1)) - scores.amin((-2, -1))).amax())
    limit = 8 * thresholds.eps(scores.dtype) * float(scores.abs().amax())
    symmetric = bool((scores - scores.mT).abs().amax() <= limit)
    scores = (scores + scores.mT) / 2 if symmetric else scores
    scores = scores - scores.amax((-2, -1), keepdim=True)  # the potentials take it up
    v, warm = torch.zeros_like(scores[..., :1, :]), spread / 16
    while warm > temperature:
        v = warm * _iterate(scores / warm, v / warm, 0.1, 100, symmetric)[1]
        warm *= COOLING
    S = scores / temperature
    u, v, error = _iterate(S, v / temperature, tol, max_steps, symmetric)
    if symmetric and not error <= tol:  # a nearly bipartite P, which swaps two halves, slows the symmetric iteration
        u, v, _ = _iterate(S, v, tol, max_steps, False)
        u, v = (u + v.mT) / 2, (u.mT + v) / 2
        error = float(_defect((S + u + v).exp()).amax())
    if not error <= tol:
        raise ValueError(
            f"temperature: received {temperature:g} for scores that spread over {spread:.3g}; after {max_steps} steps "
            f"a row or column sum is off by {error:.2g}, valid is at most {tol:.2g}. Repair: a higher temperature, "
            "more max_steps, or float64."
        )
    return (S + (u + v)).exp()  # in this order: symmetric to the last digit where S is


def _iterate(S: Tensor, v: Tensor, goal: float, steps: int, symmetric: bool) -> tuple[Tensor, Tensor, float]:
    """Potentials u (..., n, 1) and v (..., 1, n) of exp(S + u + v), and how far its sums are from one."""
    u, error = v.mT, float("inf")
    K = S.exp() if bool((S >= -MILD).all()) else None  # one exponential for all steps, where none can underflow

    def log_rows(v: Tensor) -> Tensor:
        return torch.logsumexp(S + v, -1, keepdim=True) if K is None else (K @ v.mT.exp()).log()

    def log_columns(u: Tensor) -> Tensor:
        return torch.logsumexp(S + u, -2, keepdim=True) if K is None else (u.mT.exp() @ K).log()

    for step in range(1, steps + 1):
        old = u
        if step % PATIENCE == 0:
            u, v = _newton(S, u, v)
        elif symmetric:
            u = (u - log_rows(v)) / 2
        else:
            u = -log_rows(v)
            v = -log_columns(u)
        if symmetric:
            u = (u + v.mT) / 2 if step % PATIENCE == 0 else u
            v = u.mT
        if bool((u - old).abs().amax() <= goal):  # cheap; the sums are what counts
            error = float(_defect((S + u + v).exp()).amax())
            if error <= goal:
                return u, v, error
    return u, v, float(_defect((S + u + v).exp()).amax())


def _newton(S: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """One step of Newton's method on the sums; a matrix that it does not improve keeps its potentials."""
    P = (S + u + v).exp()
    rows, columns = P.sum(-1, keepdim=True).double(), P.sum(-2)[..., None].double()
    du, dv = _balance(P.double(), rows, columns, 1 - rows, 1 - columns)
    U, V = u + du.to(u.dtype), v + dv.mT.to(v.dtype)
    better = (_defect((S + U + V).exp()) < _defect(P))[..., None, None]
    return torch.where(better, U, u), torch.where(better, V, v)


def _balance(P: Tensor, rows: Tensor, columns: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """x and y with rows * x + P y = a and P^T x + columns * y = b, the sums of P beside it; all (..., n, 1), float64.

    Eliminating x leaves an n x n system. Adding 1 / n to it pins the direction x + 1, y - 1, which changes nothing; a
    shift of a few rounding units keeps it regular in the cold limit, where P is a permutation.
    """
    n = P.shape[-1]
    scaled = P / rows
    system = torch.diag_embed(columns[..., 0] + 8 * n * thresholds.eps(P.dtype)) - P.mT @ scaled + 1 / n
    y = torch.linalg.solve(system, b - scaled.mT @ a)
    return a / rows - scaled @ y, y


def _defect(P: Tensor) -> Tensor:
    """How far a row or column sum of P (..., n, n) is from one, (...); infinite where it is not a number."""
    worst = torch.maximum((P.sum(-1) - 1).abs().amax(-1), (P.sum(-2) - 1).abs().amax(-1))
    return torch.nan_to_num(worst, nan=torch.inf, posinf=torch.inf)


def _half_log_det(name: str, gram: Tensor) -> Tensor:
    """1/2 log det(I + gram) of positive semidefinite matrices (..., m, m)."""
    L, info = torch.linalg.cholesky_ex(gram + torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device))
    diagonal = L.diagonal(dim1=-2, dim2=-1)
    if not bool(torch.isfinite(diagonal.detach()).all() & (info == 0).all()):
        raise ValueError(
            f"{name}: received numbers whose Gram matrix is not finite or not positive; valid are finite features and "
            "memberships that are not negative. Repair: see where torch.isfinite is false; in float32 shorten the "
            "features or use float64."
        )
    return diagonal.log().sum(-1)


def _shape_of(Z: Tensor, eps: float) -> tuple[int, int]:
    """n and d of Z (..., n, d), after the checks that cost nothing."""
    require_real("Z", Z)
    if Z.dim() < 2 or 0 in Z.shape[-2:]:
        raise ValueError(
            f"Z: received shape {tuple(Z.shape)}; valid is (..., n, d), features as rows, n and d at least 1. "
            "Repair: Z[:, None] for n numbers."
        )
    if not 0 < eps < float("inf"):
        raise ValueError(f"eps: received {eps}; valid is a positive number. Repair: eps=0.5 for unit features.")
    return Z.shape[-2], Z.shape[-1]


def _check_membership(Z: Tensor, membership: Tensor) -> None:
    """Shape and dtype always; that columns are shares of one unless the membership is being trained."""
    require_real("membership", membership)
    n = Z.shape[-2]
    if membership.dim() < 2 or membership.shape[-1] != n or membership.shape[-2] == 0:
        raise ValueError(
            f"membership: received shape {tuple(membership.shape)} for {n} features; valid is (..., k, {n}), a row for "
            "each group. Repair: for labels, torch.nn.functional.one_hot(labels).T.to(Z.dtype)."
        )
    if membership.dtype != Z.dtype:
        raise ValueError(
            f"membership: received {membership.dtype} beside Z of {Z.dtype}; valid are equal dtypes. "
            f"Repair: membership.to({Z.dtype})."
        )
    if membership.requires_grad or torch.compiler.is_compiling() or not membership.numel():
        return
    off, least = float((membership.sum(-2) - 1).abs().amax()), float(membership.amin())
    limit = max(10 * thresholds.membership(Z.dtype), 1e-5)
    if not (off <= limit and least >= 0):  # written so that NaN fails
        raise ValueError(
            f"membership: received columns that sum to one within {off:.2g} and a least entry of {least:.2g}; valid "
            f"are non-negative shares of each point that sum to one within {limit:.2g}. "
            "Repair: membership / membership.sum(-2, keepdim=True)."
        )
