r"""Batch normalisation of SPD matrices: move the batch's mean to the identity, scale its spread, move it to a bias."""

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from repgeom.manifolds.spd import affine_invariant, bures_wasserstein, log_cholesky, log_euclidean
from repgeom.manifolds.spd.cone import blame, cholesky, eigh, not_positive, require_square, sym
from repgeom.manifolds.spd.matrix_functions import expm, inv_sqrtm, logm, powm, spectral_function, sqrtm

METRICS = ("bures_wasserstein", "affine_invariant", "log_euclidean", "log_cholesky")


# ----------------------------------------------------------------------- the Bures-Wasserstein steps, gradients by hand
#
# Let K_B[V] = B V + V B. Parallel transport from I to B is Gamma_B = (K_B / 2)^(1/2), which in the eigenbasis of B
# multiplies entry jk by c_jk = sqrt((b_j + b_k) / 2). With R_i = (B^1/2 Y_i B^1/2)^1/2 and T_i = B^-1/2 R_i B^-1/2,
#     centred:  D_i = Gamma_B[T_i] - B^1/2          so that C_i = (I + D_i)^2 and d(Y_i, B)^2 = |D_i|_F^2,
#     placed:   O_i = Z_i G Z_i, Z_i = I + Gamma_G^-1[D_i].
# Derivatives of B-dependent maps are written for B as a whole, never for its eigenvectors: they are finite at B = I.
# The backward passes go through the batch in pieces, whose intermediate results stay in the processor's cache.


def _gram(A: Tensor, B: Tensor) -> Tensor:
    """sum_i A_i^T B_i for (N, n, n) and (N, n, n), as one product."""
    n = A.shape[-1]
    return A.reshape(-1, n).mT @ B.reshape(-1, n)


def _congruence(X: Tensor, K: Tensor) -> Tensor:
    """K^T X_i K for (N, n, n) and (n, n)."""
    return K.mT[None] @ (X @ K)


def _pieces(X: Tensor) -> list[slice]:
    """The batch cut into pieces of 2^15 entries; uncut where there is no cache to care for."""
    size = max(1, 2**15 // X.shape[-1] ** 2) if X.device.type == "cpu" else max(1, len(X))
    return [slice(i, i + size) for i in range(0, len(X), size)]


def _pairs(values: Tensor) -> Tensor:
    return values[..., :, None] + values[..., None, :]


def _eigh(S: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and vectors from the lower triangle of S, without a pass that makes it symmetric."""
    values, vectors = torch.linalg.eigh(S)
    if not bool((values[..., 0] > 0).all()):
        raise not_positive("X", values[..., 0], values[..., -1])
    return values, vectors


def _towards_inner(grad: Tensor, weights: Tensor | float, K: Tensor, roots: Tensor, vectors: Tensor) -> Tensor:
    """The gradient K L_R[w o grad] K^T towards X_i of <w o grad_i, R_i>, R_i = (K^T X_i K)^1/2 with these eigenvectors.

    That towards K is 2 (K^-1 sum_i towards_X_i X_i)^T.
    """
    towards_X = torch.empty(vectors.shape, dtype=vectors.dtype, device=vectors.device)
    grad = grad.expand_as(vectors)
    for piece in _pieces(vectors):
        rows = vectors[piece].mT
        inner = (rows @ (grad[piece] * weights) @ rows.mT).div_(_pairs(roots[piece]))
        rows = rows @ K.mT
        torch.matmul(rows.mT, inner @ rows, out=towards_X[piece])
    return towards_X


def _slope_products(A: Tensor, B: Tensor) -> Tensor:
    """Entry kjm is sum_i A_i[j, k] B_i[k, m], for symmetric A_i and B_i."""
    return A.permute(1, 2, 0) @ B.permute(1, 0, 2)


def _operator_slope(products: Tensor, root: Tensor, power: int) -> Tensor:
    """The gradient towards B of sum_i <A_i, (K_B / 2)^(power / 2)[V_i]>, all in the eigenbasis of B; power is +1 or -1.

    ``products`` are those of A and V, and are overwritten; root_jk = c_jk. Entry jm is sum_k products_kjm f[c_jk^2,
    c_mk^2] with the divided difference of f(x) = x^(1/2), 1 / (c_jk + c_mk), or of x^(-1/2), -1 / (c_jk c_mk (c_jk +
    c_mk)).
    """
    products.div_(root[:, :, None] + root[:, None, :])
    if power < 0:
        products.div_(root[:, :, None]).div_(-root[:, None, :])
    return sym(products.sum(0))


class _MeanRoot(torch.autograd.Function):
    """mean_i (K^T X_i K)^1/2 (n, n) for X (N, n, n) and K (n, n)."""

    @staticmethod
    def forward(ctx: Any, X: Tensor, K: Tensor) -> Tensor:
        values, vectors = _eigh(_congruence(X, K))
        roots, rows = values.sqrt(), vectors.mT
        ctx.save_for_backward(X, K, roots, vectors)
        return sym(_gram(rows, roots[..., None] * rows)) / len(X)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        X, K, roots, vectors = ctx.saved_tensors
        towards_X = _towards_inner(sym(grad), 1 / len(X), K, roots, vectors)
        return towards_X, 2 * torch.linalg.solve(K, _gram(towards_X, X)).mT


class _Centred(torch.autograd.Function):
    """D_i in the eigenbasis U of B, and U, for Y_i = P X_i P."""

    @staticmethod
    def forward(ctx: Any, X: Tensor, P: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
        b, U = eigh("B", B)
        h, c = b.sqrt(), (_pairs(b) / 2).sqrt()
        values, vectors = _eigh(_congruence(X, P @ U * h))
        rows = vectors.mT * values.pow(0.25)[..., None]
        D = (rows.mT @ rows).mul_(c / (h[:, None] * h))
        D.diagonal(dim1=-2, dim2=-1).sub_(h)
        ctx.save_for_backward(X, P, U, b, values.sqrt(), vectors, D)
        ctx.mark_non_differentiable(U)
        return D, U

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        X, P, U, b, roots, vectors, D = ctx.saved_tensors
        h, c = b.sqrt(), (_pairs(b) / 2).sqrt()
        K = P @ U * h
        towards_X = _towards_inner(grad, c / (h[:, None] * h), K, roots, vectors)
        moved = _gram(towards_X, X)
        half = torch.linalg.solve(P, moved)
        towards_P, towards_B = half + half.mT, None
        if ctx.needs_input_grad[2]:
            total = grad.sum(0)
            half = torch.linalg.solve(K, moved) @ K / h
            towards_half = half + half.mT - total
            products = _slope_products(grad, D).div_(c[:, None, :])  # of the gradient and T_i = I + D_i / c
            products.diagonal(dim1=0, dim2=2).add_(total)
            half = (products * c[:, :, None]).sum(0) * h
            towards_inverse_half = half + half.mT
            slopes = 1 / _pairs(h)
            hat = towards_half * slopes - towards_inverse_half * slopes / (h[:, None] * h)
            towards_B = U @ (hat + _operator_slope(products, c, 1)) @ U.mT
        return towards_X, towards_P, towards_B


class _Placed(torch.autograd.Function):
    """outer Z_i G Z_i outer with Z_i = I + Gamma_G^-1[U D_i U^T], and which Z_i fold; U is a constant basis."""

    @staticmethod
    def forward(ctx: Any, D: Tensor, U: Tensor, G: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
        g, V = eigh("G", G)
        Q = U.mT @ V
        Z = _congruence(D, Q).div_((_pairs(g) / 2).sqrt())
        folded = _outside(Z)
        Z.diagonal(dim1=-2, dim2=-1).add_(1)
        ctx.save_for_backward(Z, Q, outer, g, V)
        ctx.mark_non_differentiable(folded)
        half = (Z * g.sqrt()[:, None]) @ (outer @ V).mT
        return half.mT @ half, folded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        Z, Q, outer, g, V = ctx.saved_tensors
        frame, c = outer @ V, (_pairs(g) / 2).sqrt()
        towards_D = torch.empty_like(Z)
        weighed, total, products = (Z.new_zeros(shape) for shape in (g.shape * 2, g.shape * 2, g.shape * 3))
        for piece in _pieces(Z):
            WZ = _congruence(sym(grad[piece]), frame) @ Z[piece]
            weighed += _gram(Z[piece], WZ)
            WZ.mul_(g)
            towards_Z = WZ + WZ.mT
            total += towards_Z.sum(0)
            products += _slope_products(towards_Z, Z[piece])
            torch.matmul(Q[None], towards_Z.div_(c) @ Q.mT, out=towards_D[piece])
        towards_G = towards_outer = None
        if ctx.needs_input_grad[3]:  # of 2 sum_i W_i Z_i G Z_i
            half = torch.linalg.solve(frame.mT, products.sum(0) - g[:, None] * weighed) @ V.mT
            towards_outer = half + half.mT
        if ctx.needs_input_grad[2]:
            products.diagonal(dim1=0, dim2=2).sub_(total)  # now of towards_Z and Z_i - I
            hat = sym(weighed) + _operator_slope(products.mul_(c[:, None, :]), c, -1)
            towards_G = V @ hat @ V.mT
        return towards_D, None, towards_G, towards_outer


def _outside(D: Tensor) -> Tensor:
    """Where I + D_i is not positive definite."""
    with torch.no_grad():
        outside = torch.linalg.vector_norm(D, dim=(-2, -1)) >= 1  # below one, no eigenvalue of I + D_i reaches zero
        if bool(outside.any()):
            steps = D[outside]
            steps.diagonal(dim1=-2, dim2=-1).add_(1)
            outside[outside.clone()] = torch.linalg.cholesky_ex(steps).info > 0
        return outside


def _absolute_slopes(a: Tensor, b: Tensor) -> Tensor:
    difference = torch.where(a == b, torch.ones_like(a), a - b)
    return torch.where(a == b, a.sign(), (a.abs() - b.abs()) / difference)


def _unfolded(D: Tensor) -> tuple[Tensor, Tensor]:
    """|I + D_i| - I, which is D_i where I + D_i > 0; and where it was not."""
    folded = _outside(D)
    if not bool(folded.any()):
        return D, folded
    eye = torch.eye(D.shape[-1], dtype=D.dtype, device=D.device)
    turned = spectral_function(D[folded] + eye, torch.abs, _absolute_slopes, positive=False) - eye
    return D.index_put((folded.nonzero().squeeze(-1),), turned), folded


# ----------------------------------------------------------------------------------------------------------- the layer


class SPDBatchNorm(nn.Module):
    r"""Batch normalisation of SPD matrices under a Riemannian metric.

    In training mode, with mean B and variance v = mean d^2(X_i, B) of the batch: the batch is moved so that B becomes
    the identity, its spread is scaled by s / sqrt(v + eps), and it is moved to the learned bias G. In evaluation mode
    running statistics take the place of B and v.

    * ``bures_wasserstein``: GBWBN. Y = M^-1/2 X^theta M^-1/2, parallel transport from B to I and from I to G in closed
      form. Where a step leaves the domain of the exponential the formula folds the matrix back into the cone, and mean
      and variance are no longer what was asked for; :attr:`folded` says how often.
    * ``affine_invariant`` with ``dispersion=False``: SPDNetBN; with dispersion, Kobler et al. 2022; with ``theta`` and
      ``congruence="cholesky"``, LieBN-AIM.
    * ``log_euclidean`` and ``log_cholesky``: LieBN under these metrics (theta acts on the latter).

    Args:
        size: rows n of the matrices.
        metric: a name in :data:`METRICS`.
        theta: power of the deformation, other than zero.
        learnable_metric: learn the metric matrix M (``bures_wasserstein`` only).
        metric_start: "identity", or "first_batch" (``bures_wasserstein`` only): M becomes the arithmetic mean of the
            first batch's X^theta, and G the same point, M^(1 / theta). The layer then starts as it does with M = G = I
            on data of mean I, nearly free of folding, whatever the unit of the data.
        dispersion: scale by the variance; otherwise only the mean is moved.
        mean_steps: iterations of the batch mean, from the arithmetic mean (no effect where it has a closed form).
        momentum: weight of a new batch in the running statistics.
        eps: added to the variance.
        statistics_gradient: let gradients flow through B and v, as ordinary batch normalisation does. Released code of
            SPDNetBN, LieBN and GBWBN does not.
        congruence: "sqrt" or "cholesky": the factor of B and G that moves the batch (``affine_invariant`` only).
        dtype: float32 or float64; torch's default if omitted.

    Attributes:
        bias: G (n, n), symmetric positive definite. scale: s, a number. metric_matrix: M (n, n), or None.
        running_mean: (n, n), in the deformed space; running_var: a number; folded: share of the last batch that folded.

    Raises:
        ValueError: an unknown name or a number out of range; in ``forward`` a wrong shape or dtype, a training batch of
            one matrix, or a matrix that is not positive definite.

    Source: Wang et al. 2025 (GBWBN); Brooks et al. 2019; Kobler et al. 2022; Chen et al. 2024 (LieBN).

    >>> norm = SPDBatchNorm(3, dtype=torch.float64)
    >>> X = bures_wasserstein.random(50, torch.Generator().manual_seed(0), torch.float64)
    >>> bures_wasserstein.mean(norm(X)).diagonal().round(decimals=2).tolist()
    [1.0, 1.0, 1.0]
    """

    manifolds: ClassVar[dict[str, str]] = {"bias": "spd", "metric_matrix": "spd"}
    running_mean: Tensor
    running_var: Tensor
    folded: Tensor
    batches: Tensor

    def __init__(
        self,
        size: int,
        metric: str = "bures_wasserstein",
        theta: float = 1.0,
        learnable_metric: bool = True,
        *,
        metric_start: str = "identity",
        dispersion: bool = True,
        mean_steps: int = 1,
        momentum: float = 0.1,
        eps: float = 1e-5,
        statistics_gradient: bool = True,
        congruence: str = "sqrt",
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_choice("metric", metric, METRICS)
        _check_choice("metric_start", metric_start, ("identity", "first_batch"))
        _check_choice("congruence", congruence, ("sqrt", "cholesky"))
        if size < 1 or not abs(theta) > 0 or mean_steps < 1 or not 0 < momentum <= 1 or not eps >= 0:
            raise ValueError(
                f"size, theta, mean_steps, momentum, eps: received {size}, {theta}, {mean_steps}, {momentum}, {eps}; "
                "valid are size >= 1, theta other than 0, mean_steps >= 1, 0 < momentum <= 1, eps >= 0. "
                "Repair: the defaults."
            )
        self.size, self.metric, self.theta, self.metric_start = size, metric, float(theta), metric_start
        self.dispersion, self.mean_steps, self.momentum, self.eps = dispersion, mean_steps, momentum, eps
        self.statistics_gradient, self.congruence = statistics_gradient, congruence
        self.bias = nn.Parameter(torch.eye(size, dtype=dtype))
        self.scale = nn.Parameter(torch.ones((), dtype=dtype)) if dispersion else None
        bw = metric == "bures_wasserstein"
        M = torch.eye(size, dtype=dtype)
        if bw and learnable_metric:
            self.metric_matrix: Tensor | None = nn.Parameter(M)
        else:
            self.register_buffer("metric_matrix", M if bw else None)
        self.register_buffer("running_mean", torch.eye(size, dtype=dtype))
        self.register_buffer("running_var", torch.ones((), dtype=dtype))
        self.register_buffer("folded", torch.zeros((), dtype=dtype))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, X: Tensor) -> Tensor:
        """Normalised matrices (..., n, n) for X (..., n, n); all leading dimensions are the batch."""
        self._check(X)
        batch = X.reshape(-1, self.size, self.size)
        with blame(X=X, bias=self.bias, metric_matrix=self.metric_matrix):
            if self.training and self.metric_start == "first_batch" and not int(self.batches):
                self._start_metric(batch)
            normalised = self._bures_wasserstein(batch) if self.metric == "bures_wasserstein" else self._group(batch)
        if self.training:
            self.batches += 1
        return normalised.reshape(X.shape)

    def _bures_wasserstein(self, X: Tensor) -> Tensor:
        X = powm(X, self.theta) if self.theta != 1 else X
        M = cast(Tensor, self.metric_matrix)
        P, outer = inv_sqrtm(M), sqrtm(M)
        G = sym(P @ self._deformed(self.bias) @ P)
        B = self._batch_mean(X, P) if self.training else self.running_mean
        D, U = _Centred.apply(X, P, B)
        var = None
        if self.dispersion:
            var = self._variance(torch.linalg.vector_norm(D).square() / (len(D) * self.theta**2))
        D, folded = self._unfolded_scaled(D, var)
        out, again = _Placed.apply(D, U, G, outer)
        self.folded.copy_((folded | again).sum() / max(len(D), 1))
        self._remember(B, var)
        return powm(out, 1 / self.theta) if self.theta != 1 else out

    def _unfolded_scaled(self, D: Tensor, var: Tensor | None) -> tuple[Tensor, Tensor]:
        """D times s / sqrt(v + eps), each step folded where it leaves the domain, and where one did."""
        if var is None:
            return _unfolded(D)
        factor = self._factor(var)
        if factor > 1:  # where the longer step stays inside, so does the shorter one
            scaled = D * factor
            outside = _outside(scaled)
            if not bool(outside.any()):
                return scaled, outside
        D, folded = _unfolded(D)
        if 0 <= factor <= 1:
            return D * factor, folded
        D, again = _unfolded(D * factor)
        return D, folded | again

    def _batch_mean(self, X: Tensor, P: Tensor) -> Tensor:
        """B <- B^-1/2 (mean_i (B^1/2 Y_i B^1/2)^1/2)^2 B^-1/2 from the arithmetic mean of Y_i = P X_i P."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.statistics_gradient):
            B = sym(P @ X.mean(0) @ P)
            for _ in range(self.mean_steps):
                root = _MeanRoot.apply(X, P @ sqrtm(B))
                inverse = inv_sqrtm(B)
                B = sym(inverse @ root @ root @ inverse)
            return B

    def _group(self, X: Tensor) -> Tensor:
        """The other metrics: coordinates in which the batch is centred by a group operation."""
        deform = self.theta != 1 and self.metric != "log_euclidean"
        X = powm(X, self.theta) if deform else X
        G = self._deformed(self.bias) if deform else self.bias
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.statistics_gradient):
            B = self._metric_mean(X) if self.training else self.running_mean
        if self.metric == "affine_invariant":
            out, var = self._by_congruence(X, B, G)
        else:
            chart = log_euclidean if self.metric == "log_euclidean" else log_cholesky
            V = chart._to(X) - chart._to(B)
            var = self._variance(V.square().sum((-2, -1)).mean() / self._theta_squared()) if self.dispersion else None
            out = chart._back(self._scaled(V, var) + chart._to(G))
        self._remember(B, var)
        return powm(out, 1 / self.theta) if deform else out

    def _by_congruence(self, X: Tensor, B: Tensor, G: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.congruence == "sqrt":
            inverse, factor = inv_sqrtm(B), sqrtm(G)
        else:
            F = cholesky("B", B)
            eye = torch.eye(self.size, dtype=X.dtype, device=X.device)
            inverse, factor = torch.linalg.solve_triangular(F, eye, upper=False), cholesky("bias", G)
        C = sym(inverse @ X @ inverse.mT)
        var = None
        if self.dispersion:
            V = logm(C)
            var = self._variance(V.square().sum((-2, -1)).mean() / self._theta_squared())
            C = expm(self._scaled(V, var))
        return sym(factor @ C @ factor.mT), var

    def _factor(self, var: Tensor) -> Tensor:
        return cast(Tensor, self.scale) / (var + self.eps).sqrt()

    def _scaled(self, V: Tensor, var: Tensor | None) -> Tensor:
        return V if var is None else V * self._factor(var)

    def _theta_squared(self) -> float:
        return 1.0 if self.metric == "log_euclidean" else self.theta**2

    def _metric_mean(self, X: Tensor) -> Tensor:
        if self.metric == "affine_invariant":
            return affine_invariant.mean(X, steps=self.mean_steps)
        return (log_euclidean if self.metric == "log_euclidean" else log_cholesky).mean(X)

    def _deformed(self, G: Tensor) -> Tensor:
        return powm(G, self.theta) if self.theta != 1 else G

    def _variance(self, var: Tensor) -> Tensor:
        """The batch's variance in training (without its gradient where that is not wanted), else the running one."""
        if not self.training:
            return self.running_var
        return var if self.statistics_gradient else var.detach()

    def _remember(self, B: Tensor, var: Tensor | None) -> None:
        """Move the running statistics towards those of the batch: the mean along a geodesic of the metric."""
        if not self.training:
            return
        with torch.no_grad():
            space = {
                "bures_wasserstein": bures_wasserstein,
                "affine_invariant": affine_invariant,
                "log_euclidean": log_euclidean,
                "log_cholesky": log_cholesky,
            }[self.metric]
            self.running_mean.copy_(space.geodesic(self.running_mean, B.detach(), self.momentum))
            if var is not None:
                self.running_var.lerp_(var.detach(), self.momentum)

    @torch.no_grad()
    def _start_metric(self, X: Tensor) -> None:
        if self.metric_matrix is not None:
            M = self._deformed(X).mean(0)
            self.metric_matrix.copy_(M)
            self.bias.copy_(powm(M, 1 / self.theta) if self.theta != 1 else M)

    def _check(self, X: Tensor) -> None:
        require_square("X", X)
        if X.shape[-1] != self.size or X.dtype != self.bias.dtype:
            raise ValueError(
                f"X: received {X.shape[-1]} x {X.shape[-1]} matrices of {X.dtype}; valid are {self.size} x {self.size} "
                f"of {self.bias.dtype}. Repair: SPDBatchNorm(size, dtype=...) as the data are."
            )
        if self.training and X.shape[:-2].numel() < 2:
            raise ValueError(
                f"X: received a training batch of {X.shape[:-2].numel()}; valid are two matrices or more, because one "
                "has no variance. Repair: drop the last batch, or eval()."
            )

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        return f"{self.size}, metric={self.metric!r}, theta={self.theta:g}, dispersion={self.dispersion}"


def _check_choice(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise ValueError(f"{name}: received {value!r}; valid is {' or '.join(valid)}. Repair: use such a name.")
