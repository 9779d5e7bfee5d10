r"""The rotation nearest to a 3 x 3 matrix: slow and obvious by SVD, fast by a closed form that checks itself.

LAPACK needs about 2 microseconds for one 3 x 3 SVD, and a batch is a loop over them. Here the whole batch goes through
every step at once. B = M / |M|_F, s' = signed singular values (s1, s2, sign(det M) s3), K(B) = Davenport's matrix:

1. lambda = s'_1 + s'_2 + s'_3 is the largest eigenvalue of K(B), whose characteristic polynomial is
   (lambda^2 - |B|^2)^2 - 8 lambda det B - 4 |cof B|^2. All its roots are real, so Laguerre's iteration from the upper
   bound sqrt(3) |B|_F falls on the largest one from above, and cubically.
2. R = [ (kappa + |B|^2) B + lambda cof B - B B^T B ] / zeta with kappa = (lambda^2 - |B|^2) / 2 and
   zeta = kappa lambda - det B = (s'_1 + s'_2)(s'_2 + s'_3)(s'_3 + s'_1): Markley's FOAM, J. Astronaut. Sci. 41, 1993.
3. One Newton step, on orthogonality and on the maximum of tr(R^T B). Its size is the error of step 2, and Newton
   squares the error: where the step is below sqrt(eps), the result is exact to rounding. The other rows lie near the
   singular set s'_2 + s'_3 = 0, where step 2 cancels; they are done by SVD. So the answer is never worse than that.

float32 is computed in float64, where an error of sqrt(eps) after step 2 is an eighth of a float32 rounding. There the
orthogonality defect alone is measured (a wrong lambda, and rounding, both show in it), and no step taken.

One call costs about half a millisecond however few the rows: below some 150 rows a loop of SVDs is quicker, on a CPU.
Under ``torch.compile`` the test for doubtful rows breaks the graph; the result is the same, and nothing is gained.

Tried and dropped, with the reason:
- Newton's iteration for lambda: the same accuracy near a double root takes 12 to 16 steps instead of 6; Halley 8.
- No Newton step: 5e-14 on Gaussian matrices but 1e-7 at (s'_2 + s'_3) / s'_1 = 0.01, and no way to tell which rows.
- Newton step without orthogonalising first: the defect leaks into the rotation, 4e-12 where the SVD has 4e-14.
- float32 throughout: 1e-7 / gap^2 before the Newton step sends many rows to the SVD, and the step costs what was saved.
- Repeated squaring of K: 12 products of 4 x 4 matrices, slower than all of the above. Cyclic Jacobi: not tried, since
  a sweep costs as much as step 3 and four are needed.
"""

from typing import Any

import torch
from torch import Tensor

from repgeom.manifolds import thresholds
from repgeom.manifolds.checks import require_shape
from repgeom.manifolds.rotations.algebra import apply_, axial_, back, cofactors_, front, hat_, matmul_
from repgeom.manifolds.rotations.decoders import Quaternion

_CHUNK = 16_384  # matrices at a time: intermediate results then stay in the processor's cache
_LAGUERRE_STEPS = 6  # leaves 1 of 100 000 Gaussian matrices to the SVD; five leave 24, four leave 418


def nearest_rotation(M: Tensor) -> Tensor:
    r"""The rotation nearest to M in the Frobenius norm ("special Procrustes", SVDO+).

    M = U diag(s) V^T -> R = U diag(1, 1, det U det V) V^T = argmin over SO(3) of |R - M|_F = argmax of tr(R^T M).

    Undefined where s'_2 + s'_3 = 0 (rank at most one; or det M < 0 and s_2 = s_3): there one of the nearest rotations
    is returned. Differentiable, in forward mode too and twice; see :func:`derivative`.

    Args:
        M: (..., 3, 3) any matrix; NaN or infinite entries give NaN for that matrix.

    Returns:
        (..., 3, 3) rotation.

    Raises:
        ValueError: the last two dimensions are not (3, 3), or the dtype is neither float32 nor float64.

    Source: Levinson et al. 2020; Umeyama 1991 for the determinant.

    >>> nearest_rotation(torch.diag(torch.tensor([3.0, 2.0, 1.0])))
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    require_shape("M", M, 3, 3)
    return _Nearest.apply(M)


class _Nearest(torch.autograd.Function):
    """The projection with :func:`derivative` as its derivative, forward and backward: the Jacobian is symmetric."""

    @staticmethod
    def forward(M: Tensor) -> Tensor:
        flat = M.reshape(-1, 3, 3)
        R = torch.empty_like(flat, memory_format=torch.contiguous_format)
        for row in range(0, len(flat), _CHUNK):
            R[row : row + _CHUNK] = _project(flat[row : row + _CHUNK])
        return R.reshape(M.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)
        ctx.save_for_forward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Tensor:
        return derivative(G, *ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, dM: Tensor) -> Tensor:
        return derivative(dM, *ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], M: Tensor) -> tuple[Tensor, int]:
        return _Nearest.apply(M.movedim(in_dims[0], 0)), 0


def derivative(X: Tensor, M: Tensor, R: Tensor) -> Tensor:
    r"""The differential of :func:`nearest_rotation` at M, with R its value, applied to X (all (..., 3, 3)).

    R^T M = S is symmetric. Differentiating, with dR = R [w]x, the antisymmetric part of R^T dM = [w]x S + dS gives

        (tr(S) I - S) w = axial(R^T dM),   axial(A) = (A21 - A12, A02 - A20, A10 - A01).

    The matrix has the eigenvalues s'_i + s'_j: equal singular values are harmless, no SVD is needed, and only the
    singular set divides by zero; there the determinant is kept at eps tr(S)^3, and the derivative is large but finite.
    The map dM -> dR is its own adjoint (the projection is the gradient of s'_1 + s'_2 + s'_3), so this is also the
    backward pass. Written with an SVD it is W_kl = (B_kl - B_lk) / (s'_k + s'_l), as in Levinson et al. 2020.
    """
    A = front(R, 2).transpose(0, 1)
    B = front(M, 2)
    scale = B.detach().abs().amax((0, 1)).clamp_min(thresholds.smallest_norm(M.dtype))
    w = _solve(matmul_(A, B / scale), axial_(matmul_(A, front(X, 2)))) / scale
    return back(matmul_(A.transpose(0, 1), hat_(w)), 2)


def _solve(A: Tensor, b: Tensor) -> Tensor:
    """w with (tr(S) I - S) w = b, S the symmetric part of A, by cofactors; the determinant is kept positive."""
    H = -(A + A.transpose(0, 1)) / 2
    trace = -(H[0, 0] + H[1, 1] + H[2, 2])
    H = H + torch.eye(3, dtype=H.dtype, device=H.device).reshape(3, 3, *[1] * trace.dim()) * trace
    C = cofactors_(H)
    least = (thresholds.eps(A.dtype) * trace.detach().abs() ** 3).clamp_min(torch.finfo(A.dtype).tiny)
    return apply_(C, b) / torch.maximum((H[0] * C[0]).sum(0), least)


def _project(M: Tensor) -> Tensor:
    """Steps 1 to 3 of the module's docstring for one chunk (N, 3, 3), computed and returned in float64."""
    refine = M.dtype == torch.float64
    M = M.to(torch.float64)
    B = front(M, 2)
    B = B / B.abs().amax((0, 1))  # before squaring, so that nothing over- or underflows
    R = _foam(B / (B * B).sum((0, 1)).sqrt())
    defect = matmul_(R.transpose(0, 1), R)
    defect.diagonal(dim1=0, dim2=1).sub_(1)
    error = defect.abs().amax((0, 1))
    if refine:
        R, step = _newton(R, defect, B)
        error = torch.maximum(error, step)
    R = back(R, 2)
    doubtful = ~(error < thresholds.eps(R.dtype) ** 0.5)  # written so that NaN counts as doubtful
    if bool(doubtful.any()):
        R[doubtful] = _svd(M[doubtful])
    return R


def _foam(B: Tensor) -> Tensor:
    C = cofactors_(B)
    square, det8, cofactor4 = (B * B).sum((0, 1)), 8 * (B[0] * C[0]).sum(0), 4 * (C * C).sum((0, 1))
    root = (3 * square).sqrt()
    for _ in range(_LAGUERRE_STEPS):
        g = root * root - square
        p = g * g - det8 * root - cofactor4
        slope = 4 * (root * g) - det8
        curvature = 12 * g + 8 * square
        root = root - 4 * p / (slope + (9 * (slope * slope) - 12 * (p * curvature)).clamp_min_(0).sqrt_())
    kappa = (root * root - square) / 2
    zeta = kappa * root - det8 / 8
    return (B * (kappa + square)).addcmul_(C, root).sub_(matmul_(B, matmul_(B.transpose(0, 1), B))).div_(zeta)


def _newton(R: Tensor, defect: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """R after one Newton step, given R^T R - I: towards orthogonality, then along the group; and the second's size."""
    R = R - matmul_(R, defect / 2)
    A = matmul_(R.transpose(0, 1), B)
    w = _solve(A, axial_(A))
    return R + matmul_(R, hat_(w)), w.abs().amax(0)


def _svd(M: Tensor) -> Tensor:
    finite = torch.isfinite(M).all(-1).all(-1)[..., None, None]
    U, _, Vh = torch.linalg.svd(torch.where(finite, M, torch.zeros_like(M)))  # LAPACK refuses NaN
    sign = (torch.linalg.det(U) * torch.linalg.det(Vh)).sign()
    R = torch.cat([U[..., :2], U[..., 2:] * sign[..., None, None]], dim=-1) @ Vh
    return torch.where(finite, R, torch.full_like(R, torch.nan))


def from_9d_svd(x: Tensor) -> Tensor:
    r"""The slow, obvious twin of ``from_9d``: one LAPACK SVD per matrix and autograd through it. A referee for tests.

    R = U diag(1, 1, det U det V) V^T for M = U diag(s) V^T. Its gradient is NaN at equal singular values.

    Args:
        x: (..., 9) matrix M row by row.

    Returns:
        (..., 3, 3) rotation.

    Raises:
        ValueError: the last dimension is not 9, or the dtype is neither float32 nor float64.

    Source: Levinson et al. 2020.

    >>> from_9d_svd(torch.tensor([3.0, 0, 0, 0, 2, 0, 0, 0, 1])).diagonal()
    tensor([1., 1., 1.])
    """
    require_shape("x", x, 9)
    return _svd(x.unflatten(-1, (3, 3)))


def from_10d_eigh(x: Tensor) -> Tensor:
    r"""The slow, obvious twin of ``from_10d``: one LAPACK eigendecomposition per matrix. A referee for tests.

    Args:
        x: (..., 10) upper triangle of the symmetric matrix A, row by row, in the order (w, x, y, z).

    Returns:
        (..., 3, 3) rotation of the unit eigenvector of the smallest eigenvalue.

    Raises:
        ValueError: the last dimension is not 10, or the dtype is neither float32 nor float64.

    Source: Peretroukhin et al. 2020.

    >>> from_10d_eigh(torch.tensor([-1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0])).diagonal()
    tensor([1., 1., 1.])
    """
    require_shape("x", x, 10)
    A = x.new_zeros(*x.shape[:-1], 4, 4)
    i, j = torch.triu_indices(4, 4, device=x.device)
    A[..., i, j] = x
    A[..., j, i] = x
    return Quaternion.apply(torch.linalg.eigh(A).eigenvectors[..., 0])[0]


def davenport_matrix(M: Tensor) -> Tensor:
    r"""Davenport's symmetric 4 x 4 matrix K(M): its top eigenvector is the quaternion of the rotation nearest to M.

    K(M) = [[tr M, z^T], [z, M + M^T - (tr M) I]], z = (M21 - M12, M02 - M20, M10 - M01), in the order (w, x, y, z).
    Linear, |K(M)|_F = 2 |M|_F, trace zero; eigenvalues s1+s2+s3', s1-s2-s3', -s1+s2-s3', -s1-s2+s3'.

    Args:
        M: (..., 3, 3) any matrix.

    Returns:
        (..., 4, 4) symmetric matrix.

    Raises:
        ValueError: the last two dimensions are not (3, 3), or the dtype is neither float32 nor float64.

    Source: Davenport's q-method (Wahba's problem), as in Markley 1993.

    >>> torch.linalg.eigvalsh(davenport_matrix(torch.eye(3, dtype=torch.float64))).round()
    tensor([-1., -1., -1.,  3.], dtype=torch.float64)
    """
    require_shape("M", M, 3, 3)
    trace = M.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None]
    z = back(axial_(front(M, 2)), 1)
    corner = M + M.mT - trace[..., None] * torch.eye(3, dtype=M.dtype, device=M.device)
    top, bottom = torch.cat([trace, z], dim=-1), torch.cat([z[..., None], corner], dim=-1)
    return torch.cat([top[..., None, :], bottom], dim=-2)
