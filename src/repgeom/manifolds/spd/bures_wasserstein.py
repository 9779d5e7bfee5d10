r"""SPD(n) under the Bures-Wasserstein metric, with its generalised form (matrix M) and its power deformation (theta).

g_X(U, V) = tr(L_X[U] V) / 2, where L_X[U] solves X L + L X = U; d^2(A, B) = tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2. It
is the quotient of flat space under A = F F^T: geodesics are projections of straight lines between aligned factors.

Generalised and deformed metrics are pull-backs along f(X) = M^-1/2 X^theta M^-1/2, and d is divided by |theta|. The
cone is not complete under this metric: exp is defined where I + L_X[V] is positive definite (:func:`domain`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from repgeom.manifolds import thresholds
from repgeom.manifolds.checks import as_time
from repgeom.manifolds.gradients import root, with_gradient
from repgeom.manifolds.spd.cone import (
    blame,
    cholesky,
    eigh,
    lyapunov,
    project,
    random,
    require_same_size,
    shares,
    sym,
    symmetric_eigh,
)
from repgeom.manifolds.spd.matrix_functions import derivative, inv_sqrtm, powm, sqrtm

__all__ = [
    "distance",
    "domain",
    "exp",
    "geodesic",
    "inner",
    "log",
    "mean",
    "optimal_map",
    "project",
    "random",
    "transport",
]

_MEAN_STEPS = 200
_COLUMNS = 14  # of the extrapolation that integrates parallel transport
_RATIO = 3.0  # by which lengths change at most along one piece of it


# ------------------------------------------------------------------------------------ the optimal map, and the distance


def _aligned_factors(A: Tensor, B: Tensor) -> tuple[Tensor, ...]:
    """F, E, Q, L, s, R: Cholesky factors F of A and L of B, E = L Q nearest to F, and L^T F = (..) diag(s) R."""
    F, L = cholesky("A", A), cholesky("B", B)
    left, values, right = torch.linalg.svd(L.mT @ F)
    turn = left @ right
    return F, L @ turn, turn, L, values, right


class _OptimalMap(torch.autograd.Function):
    """T with T A T = B. H = F^T T F is positive definite; H E + E H = F^T (dB - T dA T) F gives dT = F^-T E F^-1."""

    @staticmethod
    def forward(ctx: Any, A: Tensor, B: Tensor) -> Tensor:
        F, E, _, _, values, right = _aligned_factors(A, B)
        T = sym(torch.linalg.solve_triangular(F, E, upper=False, left=False))
        ctx.save_for_backward(F, values, right, T)
        ctx.shapes = A.shape, B.shape
        return T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor, Tensor]:
        F, values, right, T = ctx.saved_tensors
        half = torch.linalg.solve_triangular(F, sym(G).expand_as(T), upper=False)
        E = torch.linalg.solve_triangular(F.mT, half, upper=True, left=False)
        Z = right.mT @ ((right @ E @ right.mT) / (values[..., :, None] + values[..., None, :])) @ right
        b = sym(F @ Z @ F.mT)
        return (-T @ b @ T).sum_to_size(ctx.shapes[0]), b.sum_to_size(ctx.shapes[1])


def optimal_map(A: Tensor, B: Tensor) -> Tensor:
    r"""The optimal transport map between centred Gaussians of covariances A and B: the T > 0 with T A T = B.

    T = A^-1/2 (A^1/2 B A^1/2)^1/2 A^-1/2, computed from Cholesky factors and one singular value decomposition.

    Args:
        A: (..., n, n) symmetric positive definite.
        B: (..., n, n) symmetric positive definite; batch dimensions broadcast.

    Returns:
        (..., n, n) symmetric positive definite.

    Raises:
        ValueError: wrong shapes or dtype, or not positive definite.

    Source: Bhatia, Jain & Lim 2019, "On the Bures-Wasserstein distance between positive definite matrices".

    >>> optimal_map(torch.eye(2), torch.diag(torch.tensor([4.0, 9.0]))).diagonal().round(decimals=3)
    tensor([2., 3.])
    """
    require_same_size("A", A, "B", B)
    return _OptimalMap.apply(A, B)


def _nearest_turn(K: Tensor) -> Tensor:
    """The orthogonal matrix nearest to K, its polar factor K (K^T K)^-1/2, at half the price of singular values.

    With K^T K = V l V^T and s^2 = l, it is P V^T, P = K V / s, up to the rounding of K^T K. That leaves a rest
    C = (K V)^T K V - l, and with it the first-order correction P - P X, X_ij = C_ij / (s_j (s_i + s_j)), which squares
    the error. Where K^T K costs more than half of the digits, singular values serve after all.
    """
    values, vectors = torch.linalg.eigh(K.mT @ K)
    if not bool((values[..., 0] > thresholds.membership(K.dtype) * values[..., -1]).all()):
        left, _, right = torch.linalg.svd(K)
        return left @ right
    s = values.sqrt()[..., None, :]
    P = K @ vectors
    X = P.mT @ P
    X.diagonal(dim1=-2, dim2=-1).sub_(values)
    X.div_(s * (s + s.mT))
    P.div_(s)
    return (P - P @ X) @ vectors.mT


def _squared_distance(A: Tensor, B: Tensor) -> Tensor:
    wanted = torch.is_grad_enabled() and (A.requires_grad or B.requires_grad)
    with torch.no_grad():
        F, L = cholesky("A", A), cholesky("B", B)
        turn = _nearest_turn(L.mT @ F)
        gap = F - L @ turn
        squared = torch.linalg.vector_norm(gap, dim=(-2, -1)).square()
        close = squared <= thresholds.eps(A.dtype) * A.diagonal(dim1=-2, dim2=-1).sum(-1)
        if bool(close.any()):
            squared = torch.where((A == B).all(-1).all(-1), torch.zeros_like(squared), squared)
        if not wanted:
            return squared
        # L Q = T F and F Q^T = T' L: the gradients I - T and I - T' are gap F^-1 and -gap Q^T L^-1.
        a = torch.linalg.solve_triangular(F, gap, upper=False, left=False)
        b = torch.linalg.solve_triangular(L, gap @ turn.mT, upper=False, left=False)
        a, b = torch.add(a, a.mT).div_(2), torch.add(b, b.mT).div_(-2)
    return with_gradient(A, B, squared, a, b)


# ------------------------------------------------------------------------------------------- pull-backs along X -> f(X)


class _Chart(NamedTuple):
    """f, its inverse, its derivative at a point, and the inverse of that."""

    to: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    push: Callable[[Tensor, Tensor], Tensor]
    pull: Callable[[Tensor, Tensor], Tensor]


def _chart(X: Tensor, M: Tensor | None, theta: float) -> _Chart | None:
    """f(X) = M^-1/2 X^theta M^-1/2, or None where that is the identity."""
    if not abs(theta) > 0:  # also for NaN
        raise ValueError(f"theta: received {theta}; valid is a number other than zero. Repair: theta=0.5.")
    if M is None and theta == 1:
        return None
    if M is None:
        M = torch.eye(X.shape[-1], dtype=X.dtype, device=X.device)
    require_same_size("X", X, "M", M)
    with blame(M=M):
        outer, inner_ = sqrtm(M), inv_sqrtm(M)

    def congruence(K: Tensor, Y: Tensor) -> Tensor:
        return sym(K @ Y @ K)

    if theta == 1:
        return _Chart(
            lambda X: congruence(inner_, X),
            lambda Y: congruence(outer, Y),
            lambda X, V: congruence(inner_, V),
            lambda X, W: congruence(outer, W),
        )
    return _Chart(
        lambda X: congruence(inner_, powm(X, theta)),
        lambda Y: powm(congruence(outer, Y), 1 / theta),
        lambda X, V: congruence(inner_, derivative("power", X, V, theta)),
        lambda X, W: derivative("power", X, congruence(outer, W), theta, inverse=True),
    )


# ------------------------------------------------------------------------------------------------ the verbs of a space


def distance(A: Tensor, B: Tensor, *, M: Tensor | None = None, theta: float = 1.0) -> Tensor:
    r"""The Bures-Wasserstein distance, accurate for ill-conditioned and for nearby matrices.

    d(A, B) = min over orthogonal Q of |F - E Q|_F with A = F F^T, B = E E^T (Cholesky; Q from one singular value
    decomposition). The trace formula subtracts numbers of the size of tr A and loses half the digits or all of them.
    The gradient of d^2 is (I - T_{A->B}, I - T_{B->A}); equal matrices have distance and gradient zero exactly.

    Args:
        A: (..., n, n) symmetric positive definite.
        B: (..., n, n) symmetric positive definite; batch dimensions broadcast.
        M: (n, n) metric matrix of the generalised distance, symmetric positive definite; the identity if omitted.
        theta: power of the deformation; d(A^theta, B^theta) / |theta|.

    Returns:
        (...) in the unit of the square root of A.

    Raises:
        ValueError: wrong shapes or dtype, not positive definite, or theta zero.

    Source: Bhatia, Jain & Lim 2019; Han et al. 2023 (M); Wang et al. 2025 (theta).

    >>> distance(torch.eye(2), 4 * torch.eye(2)).square().round(decimals=3)
    tensor(2.)
    """
    require_same_size("A", A, "B", B)
    chart = _chart(A, M, theta)
    with blame(A=A, B=B):
        if chart is not None:
            A, B = chart.to(A), chart.to(B)
        return root(_squared_distance(A, B)) / abs(theta)


def inner(X: Tensor, U: Tensor, V: Tensor, *, M: Tensor | None = None, theta: float = 1.0) -> Tensor:
    r"""The scalar product of two tangent vectors: tr(L_X[U] V) / 2.

    At the identity it is tr(U V) / 4. With M = X the generalised one is a quarter of the affine-invariant one at X.

    Args:
        X: (..., n, n) symmetric positive definite.
        U: (..., n, n) symmetric.
        V: (..., n, n) symmetric.
        M: (n, n) metric matrix.
        theta: power of the deformation; the product is divided by theta^2.

    Returns:
        (...) number.

    Raises:
        ValueError: wrong shapes or dtype, X not positive definite, or theta zero.

    Source: Bhatia, Jain & Lim 2019, with the factor 1/2 that makes it the metric of :func:`distance`.

    >>> inner(torch.eye(2), torch.eye(2), torch.eye(2))
    tensor(0.5000)
    """
    require_same_size("X", X, "U", U)
    require_same_size("X", X, "V", V)
    chart = _chart(X, M, theta)
    with blame(X=X):
        if chart is not None:
            X, U, V = chart.to(X), chart.push(X, U), chart.push(X, V)
        return (lyapunov(X, U) * sym(V)).sum((-2, -1)) / (2 * theta**2)


def domain(X: Tensor, V: Tensor, *, M: Tensor | None = None, theta: float = 1.0) -> Tensor:
    r"""Whether exp is defined, and inverted by log, for the tangent vector V at X: whether I + L_X[V] > 0.

    Args:
        X: (..., n, n) symmetric positive definite.
        V: (..., n, n) symmetric.
        M: (n, n) metric matrix.
        theta: power of the deformation.

    Returns:
        (...) bool.

    Raises:
        ValueError: wrong shapes or dtype, X not positive definite, or theta zero.

    Source: Malago, Montrucchio & Pistone 2018, "Wasserstein Riemannian geometry of Gaussian densities".

    >>> domain(torch.eye(2), -3 * torch.eye(2))
    tensor(False)
    """
    require_same_size("X", X, "V", V)
    chart = _chart(X, M, theta)
    with blame(X=X):
        if chart is not None:
            X, V = chart.to(X), chart.push(X, V)
        step = torch.eye(X.shape[-1], dtype=X.dtype, device=X.device) + lyapunov(X, V)
    return torch.linalg.cholesky_ex(step).info == 0


def exp(X: Tensor, V: Tensor, *, M: Tensor | None = None, theta: float = 1.0) -> Tensor:
    r"""The end of the geodesic that leaves X with velocity V: (I + L) X (I + L), L = L_X[V].

    Args:
        X: (..., n, n) symmetric positive definite.
        V: (..., n, n) symmetric: tangent vector at X, in the domain (:func:`domain`).
        M: (n, n) metric matrix.
        theta: power of the deformation.

    Returns:
        (..., n, n) symmetric positive definite.

    Raises:
        ValueError: wrong shapes or dtype, X not positive definite, theta zero, or V outside the domain.

    Source: Malago, Montrucchio & Pistone 2018; Han et al. 2023 (M).

    >>> exp(torch.eye(2), 2 * torch.eye(2)).diagonal().round(decimals=3)
    tensor([4., 4.])
    """
    require_same_size("X", X, "V", V)
    chart = _chart(X, M, theta)
    with blame(X=X):
        Y, W = (X, V) if chart is None else (chart.to(X), chart.push(X, V))
        step = torch.eye(X.shape[-1], dtype=X.dtype, device=X.device) + lyapunov(Y, W)
    failed = torch.linalg.cholesky_ex(step.detach()).info > 0
    if bool(failed.any()):
        worst = float(symmetric_eigh("V", step.detach())[0].min())
        raise ValueError(
            f"V: received a tangent vector that leaves the cone (least eigenvalue of I + L_X[V] is {worst:.3g}, in "
            f"{int(failed.sum())} of {failed.numel()}); valid are vectors with I + L_X[V] positive definite. "
            "Repair: a shorter step."
        )
    end = sym(step @ Y @ step)
    return end if chart is None else chart.back(end)


def log(X: Tensor, Y: Tensor, *, M: Tensor | None = None, theta: float = 1.0) -> Tensor:
    r"""The shortest V with exp(X, V) = Y: (T - I) X + X (T - I), T the optimal map from X to Y.

    Args:
        X: (..., n, n) symmetric positive definite.
        Y: (..., n, n) symmetric positive definite; batch dimensions broadcast.
        M: (n, n) metric matrix.
        theta: power of the deformation.

    Returns:
        (..., n, n) symmetric: tangent vector at X.

    Raises:
        ValueError: wrong shapes or dtype, not positive definite, or theta zero.

    Source: Malago, Montrucchio & Pistone 2018; Han et al. 2023 (M).

    >>> log(torch.eye(2), 4 * torch.eye(2)).diagonal().round(decimals=3)
    tensor([2., 2.])
    """
    require_same_size("X", X, "Y", Y)
    chart = _chart(X, M, theta)
    with blame(X=X, Y=Y):
        base, end = (X, Y) if chart is None else (chart.to(X), chart.to(Y))
        step = optimal_map(base, end) - torch.eye(X.shape[-1], dtype=X.dtype, device=X.device)
    V = 2 * sym(step @ base)
    return V if chart is None else chart.pull(X, V)


def geodesic(X: Tensor, Y: Tensor, t: Tensor | float, *, M: Tensor | None = None, theta: float = 1.0) -> Tensor:
    r"""The point at time t of the geodesic from X to Y: K X K with K = (1 - t) I + t T.

    Args:
        X: (..., n, n) symmetric positive definite.
        Y: (..., n, n) symmetric positive definite.
        t: number or (...) tensor of times in [0, 1]; batch dimensions broadcast.
        M: (n, n) metric matrix.
        theta: power of the deformation.

    Returns:
        (..., n, n) symmetric positive definite.

    Raises:
        ValueError: wrong shapes or dtype, not positive definite, or theta zero.

    Source: McCann 1997, displacement interpolation; Bhatia, Jain & Lim 2019.

    >>> geodesic(torch.eye(2), 9 * torch.eye(2), 0.5).diagonal().round(decimals=3)
    tensor([4., 4.])
    """
    require_same_size("X", X, "Y", Y)
    chart = _chart(X, M, theta)
    t = as_time(t, X)
    with blame(X=X, Y=Y):
        if chart is not None:
            X, Y = chart.to(X), chart.to(Y)
        K = (1 - t) * torch.eye(X.shape[-1], dtype=X.dtype, device=X.device) + t * optimal_map(X, Y)
    point = sym(K @ X @ K)
    return point if chart is None else chart.back(point)


def transport(X: Tensor, Y: Tensor, V: Tensor, *, M: Tensor | None = None, theta: float = 1.0) -> Tensor:
    r"""Parallel transport of V from X to Y along the geodesic.

    With S = L_X[V], a parallel field obeys S' = -L_X[S K X + X K S] along X(t) = (I + t D) X (I + t D), D = T - I and
    K = D (I + t D)^-1: in flat space above, the lift S F changes only vertically. There is no closed form unless X and
    Y commute (then V_ij sqrt((y_i + y_j) / (x_i + x_j)) in their eigenbasis), so the equation is integrated, by the
    midpoint rule extrapolated to step zero until two columns agree, in pieces along which I + t D changes little.

    Args:
        X: (..., n, n) symmetric positive definite.
        Y: (..., n, n) symmetric positive definite.
        V: (..., n, n) symmetric: tangent vector at X; batch dimensions broadcast.
        M: (n, n) metric matrix.
        theta: power of the deformation.

    Returns:
        (..., n, n) symmetric: tangent vector at Y.

    Raises:
        ValueError: wrong shapes or dtype, not positive definite, theta zero; or the integration did not settle, which
            happens for condition numbers above about 1e7.

    Source: derived here from the quotient by the orthogonal group; Takatsu 2011 for the quotient.

    >>> transport(torch.eye(2), 4 * torch.eye(2), torch.eye(2)).diagonal().round(decimals=3)
    tensor([2., 2.])
    """
    require_same_size("X", X, "Y", Y)
    require_same_size("X", X, "V", V)
    chart = _chart(X, M, theta)
    identity = torch.eye(X.shape[-1], dtype=X.dtype, device=X.device)
    with blame(X=X, Y=Y):
        base, end, W = (X, Y, V) if chart is None else (chart.to(X), chart.to(Y), chart.push(X, V))
        D = optimal_map(base, end) - identity
        S = lyapunov(base, W)
    for start, length in _pieces(D.detach()):
        S = _extrapolated(_slope(base, D, start, length), S)
    moved = 2 * sym(S @ end)
    return moved if chart is None else chart.pull(Y, moved)


def _pieces(D: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Starts and lengths (...) of pieces of [0, 1], along each of which no eigenvalue of I + t D changes by _RATIO."""
    values = torch.linalg.eigvalsh(D)
    least, most = values[..., 0], values[..., -1]
    one, tiny = torch.ones_like(least), torch.finfo(D.dtype).tiny
    t, pieces = torch.zeros_like(least), []
    while bool((t < 1).any()):
        growing = t + (_RATIO - 1) * (1 + t * most) / most.clamp_min(tiny)
        shrinking = t + (1 - 1 / _RATIO) * (1 + t * least) / (-least).clamp_min(tiny)
        end = torch.minimum(one, torch.minimum(growing, shrinking))
        pieces.append((t, end - t))
        t = end
    return pieces


def _slope(base: Tensor, D: Tensor, start: Tensor, length: Tensor) -> Callable[[float, Tensor], Tensor]:
    """dS/du at the times t = start + u length."""
    identity = torch.eye(D.shape[-1], dtype=D.dtype, device=D.device)
    path: dict[float, tuple[Tensor, Tensor]] = {}

    def slope(u: float, S: Tensor) -> Tensor:
        if u not in path:
            step = identity + (start + u * length)[..., None, None] * D
            path[u] = sym(step @ base @ step), length[..., None, None] * torch.linalg.solve(step, D)
        point, K = path[u]
        return -2 * lyapunov(point, sym(S @ K @ point))

    return slope


def _extrapolated(slope: Callable[[float, Tensor], Tensor], start: Tensor) -> Tensor:
    """The solution at time one of S' = slope(t, S), S(0) = start: Gragg's midpoint rule, extrapolated in its step^2."""
    row: list[Tensor] = []
    error, best = start.new_tensor(torch.inf), start  # of each matrix by itself, whatever else is in the batch
    limit = 20 * torch.finfo(start.dtype).eps
    for k in range(_COLUMNS):
        n = 2 * (k + 1)
        before, now = start, start + slope(0.0, start) / n
        for i in range(1, n):
            before, now = now, before + 2 * slope(i / n, now) / n
        new = [(before + now + slope(1.0, now) / n) / 2]
        for j, old in enumerate(row, start=1):
            ratio = (n / (n - 2 * j)) ** 2
            new.append(new[-1] + (new[-1] - old) / (ratio - 1))
        if row:
            change = (new[-1] - row[-1]).detach().abs().amax((-2, -1))
            best = torch.where((change < error)[..., None, None], new[-1], best)
            error = torch.fmin(error, change)
            done = error <= limit * best.detach().abs().amax((-2, -1))
            if bool((done | (change > 4 * error) if k > 5 else done).all()):
                break
        row = new
    if not bool((error <= thresholds.membership(start.dtype) * best.detach().abs().amax((-2, -1)).clamp_min(1)).all()):
        symmetric_eigh("V", start.detach())  # tells NaN
        raise ValueError(
            f"X, Y: received end points between which parallel transport did not settle (last change "
            f"{float(error.max()):.2g}); valid are condition numbers up to about 1e7. "
            "Repair: transport in several shorter pieces."
        )
    return best


# The mean. With G = F F^T, F = U diag(g)^1/2, and R_i = (F^T X_i F)^1/2: T_i = F^-T R_i F^-1, so sum_i w_i T_i = I says
# sum_i w_i R_i = diag(g). Moving G to F (I + D) F^T moves the left side by -curvature[D].


def _roots(Xs: Tensor, F: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and vectors of R_i.

    F^T X_i F squares condition numbers. Where that costs more than half of the digits, they come as singular values of
    L_i^T F, X_i = L_i L_i^T, which do not suffer.
    """
    values, vectors = torch.linalg.eigh(F.mT @ Xs @ F)
    if bool((values[..., 0] > thresholds.membership(values.dtype) * values[..., -1]).all()):
        return values.sqrt(), vectors
    _, roots, right = torch.linalg.svd(cholesky("Xs", Xs).mT @ F)
    return roots, right.mT


def _gram(A: Tensor, B: Tensor) -> Tensor:
    """sum_i A_i^T B_i for (..., N, n, n), as one product."""
    *batch, many, n, _ = A.shape
    return A.reshape(*batch, many * n, n).mT @ B.reshape(*batch, many * n, n)


def _in_pieces(Xs: Tensor, w: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Xs (..., N, n, n) and w cut along N, so that what is computed from a piece stays in the processor's cache."""
    many = Xs.shape[-3]
    size = max(1, 2**15 * many // max(Xs.numel(), 1)) if Xs.device.type == "cpu" else many
    return [(Xs[..., i : i + size, :, :], w[..., i : i + size, :, :]) for i in range(0, many, size)]


class _Curvature:
    """D -> sum_i w_i L_{R_i}[R_i D R_i], symmetric and positive, of pieces (w, roots, vectors); to be solved.

    ``relative`` is the accuracy of the solution. Where single precision gives that with a margin, it serves: with
    condition number c of the mean, errors of the image count up to c times as much.
    """

    def __init__(self, pieces: list[tuple[Tensor, Tensor, Tensor]], g: Tensor, relative: float) -> None:
        condition = float((g[..., -1] / g[..., 0]).max()) if g.numel() else 1.0
        dtype = torch.float32 if relative > 100 * condition * thresholds.eps(torch.float32) else g.dtype
        self.relative, self.unit, self.pieces = relative, g[..., -1:, None], []
        for w, roots, vectors in pieces:
            inverse = (self.unit / (w[..., 0] * roots)).to(dtype)  # infinite where the weight is zero
            self.pieces.append((vectors.mT.to(dtype), inverse[..., :, None] + inverse[..., None, :]))
        self.scaling = ((g[..., :, None] + g[..., None, :]) / (g[..., :, None] * g[..., None, :])).sqrt()

    def __call__(self, D: Tensor) -> Tensor:
        D = D if D.dim() == 2 else D[..., None, :, :]  # a single matrix multiplies all at once
        image = torch.zeros((), dtype=D.dtype, device=D.device)
        for rows, kernel in self.pieces:
            image = image + _gram(rows, (rows @ D.to(rows.dtype) @ rows.mT).div_(kernel) @ rows)
        return self.unit * image

    def solve(self, rhs: Tensor, most: int) -> Tensor:
        """Conjugate gradients, after a scaling that makes the operator the identity if all X_i are equal."""
        q, tiny = self.scaling, torch.finfo(rhs.dtype).tiny
        rest = q * rhs
        Y, along, size = torch.zeros_like(rest), rest, rest.square().sum((-2, -1), keepdim=True)
        goal = self.relative**2 * size
        for _ in range(most):
            if not bool((size > goal).any()):
                break
            image = q * self(q * along)
            step = size / (along * image).sum((-2, -1), keepdim=True).clamp_min(tiny)
            Y, rest = Y + step * along, rest - step * image
            before, size = size, rest.square().sum((-2, -1), keepdim=True)
            along = rest + size / before.clamp_min(tiny) * along
        return sym(q * Y)


def _barycentre(Xs: Tensor, w: Tensor, tol: float) -> Tensor:
    """Fixed-point steps G <- F^-T (sum_i w_i R_i)^2 F^-1, near the solution with Newton's correction."""
    eye = torch.eye(Xs.shape[-1], dtype=Xs.dtype, device=Xs.device)
    G, before, newton = sym((w * Xs).sum(-3)), float("inf"), False
    for _ in range(_MEAN_STEPS):
        g, U = eigh("Xs", G)
        F = U * g.sqrt()[..., None, :]
        pieces = [(share, *_roots(part, F[..., None, :, :])) for part, share in _in_pieces(Xs, w)]
        gap = -torch.diag_embed(g)
        for share, roots, vectors in pieces:
            gap = gap + sym(_gram(vectors.mT, (share * roots[..., None]) * vectors.mT))
        relative = gap / (g[..., :, None] * g[..., None, :]).sqrt()
        size = float(relative.square().sum((-2, -1)).max().sqrt()) if gap.numel() else 0.0
        newton = size < 0.1 and (not newton or size < before / 4)
        move = eye + gap / g[..., :, None]
        if newton:  # its correction of the fixed-point step, which by itself is better than first order
            curvature = _Curvature(pieces, g, max(size, tol / max(size, tol)) / 2)
            D = curvature.solve(gap, 12)
            move = move + (D - curvature.scaling.square() * gap) / 2
        half = F @ move
        G = sym(half @ half.mT)
        if size <= tol or (newton and size**2 <= tol):
            return G
        before = size
    raise ValueError(
        f"Xs: received matrices whose mean did not settle in {_MEAN_STEPS} steps (|mean T - I| is {size:.2g}); valid "
        "are condition numbers up to about 1e8. Repair: a larger tol, or steps=10 for an approximate mean."
    )


class _Mean(torch.autograd.Function):
    """The barycentre. From sum_i w_i T_i = I: curvature[D] = sum_i w_i L_{R_i}[F^T dX_i F] + dw_i R_i, dG = F D F^T."""

    @staticmethod
    def forward(ctx: Any, Xs: Tensor, w: Tensor, tol: float) -> Tensor:
        G = _barycentre(Xs, w, tol)
        ctx.save_for_backward(Xs, w, G)
        return G

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        Xs, w, G = ctx.saved_tensors
        g, U = eigh("Xs", G)
        F = U * g.sqrt()[..., None, :]
        roots, vectors = _roots(Xs, F[..., None, :, :])
        Z = _Curvature([(w, roots, vectors)], g, thresholds.converged(G.dtype)).solve(F.mT @ sym(grad) @ F, 200)
        hat = vectors.mT @ (Z[..., None, :, :] @ vectors)
        towards_w = (hat.diagonal(dim1=-2, dim2=-1) * roots).sum(-1)[..., None, None]
        S = vectors @ (hat / (roots[..., :, None] + roots[..., None, :])) @ vectors.mT
        F = F[..., None, :, :]
        return w * (F @ S @ F.mT), towards_w.sum_to_size(w.shape), None


def mean(
    Xs: Tensor,
    weights: Tensor | None = None,
    *,
    M: Tensor | None = None,
    theta: float = 1.0,
    steps: int | None = None,
    tol: float | None = None,
) -> Tensor:
    r"""The Frechet mean (barycentre): the G with sum_i w_i T_{G -> X_i} = I.

    Starts from the weighted arithmetic mean. A fixed-point step G <- S G S, S = sum_i w_i T_{G -> X_i}, is a gradient
    step of unit size and converges at a rate that does not depend on the dimension (Altschuler et al. 2021); near the
    solution Newton's method takes over. The gradient follows from the implicit function theorem.

    Args:
        Xs: (..., N, n, n) symmetric positive definite.
        weights: (..., N) non-negative, summing to anything positive; equal if omitted.
        M: (n, n) metric matrix.
        theta: power of the deformation.
        steps: so many fixed-point steps, whether or not they converge; until convergence if omitted.
        tol: |mean T - I|_F at which it has converged; a few units of rounding per entry if omitted.

    Returns:
        (..., n, n) symmetric positive definite.

    Raises:
        ValueError: wrong shapes or dtype, no matrices, not positive definite, theta zero, steps below one, tol not
            positive, negative weights or weights summing to zero; or no convergence.

    Source: Alvarez-Esteban et al. 2016, "A fixed-point approach to barycenters in Wasserstein space"; Newton's step and
        the gradient are derived here.

    >>> mean(torch.stack([torch.eye(2), 9 * torch.eye(2)])).diagonal().round(decimals=3)
    tensor([4., 4.])
    """
    if (steps is not None and steps < 1) or (tol is not None and not tol > 0):
        raise ValueError(
            f"steps, tol: received {steps} and {tol}; valid are a positive integer and a positive number, or None. "
            "Repair: steps=1."
        )
    w = shares(Xs, weights)
    chart = _chart(Xs, M, theta)
    with blame(Xs=Xs):
        Ys = Xs if chart is None else chart.to(Xs)
        if steps is None:
            G = _Mean.apply(Ys, w, tol or 4 * Xs.shape[-1] * thresholds.converged(Xs.dtype))
        else:
            G = sym((w * Ys).sum(-3))
            for _ in range(steps):
                half, inverse = sqrtm(G), inv_sqrtm(G)
                roots = sqrtm(half[..., None, :, :] @ Ys @ half[..., None, :, :])
                S = sym(inverse @ (w * roots).sum(-3) @ inverse)
                G = sym(S @ G @ S)
    return G if chart is None else chart.back(G)
