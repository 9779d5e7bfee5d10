r"""The rotation nearest to a 3 x 3 matrix: slow and obvious by SVD, fast by a closed form that checks itself.

Speed. LAPACK needs about 2 microseconds for one 3 x 3 SVD, and a batch is a loop. Here the whole batch goes through
every step at once, in these steps (B = M / |M|_F, s' the signed singular values, K(B) Davenport's matrix):

1. lambda = s'_1 + s'_2 + s'_3, the largest root of det(lambda I - K(B)), which is the quartic
   (lambda^2 - |B|^2)^2 - 8 lambda det B - 4 |cof B|^2; Laguerre's iteration from the upper bound sqrt(3) |B|_F;
2. R = [ (kappa + |B|^2) B + lambda cof B - B B^T B ] / zeta with kappa = (lambda^2 - |B|^2) / 2 and
   zeta = kappa lambda - det B = (s'_1 + s'_2)(s'_2 + s'_3)(s'_3 + s'_1)   (Markley's FOAM);
3. one Newton step on the rotation and on its orthogonality. Its size measures the error of step 2. Newton squares
   the error, so rows where the step is below sqrt(eps) are exact to rounding. The others - near the singular set
   s'_2 + s'_3 = 0, where step 2 cancels - are done again by SVD, so the answer is never worse than the slow twin's.

float32 is computed in float64: the same accuracy in float32 would cost a second Newton step.

Tried and dropped: see the end of the file.
"""

from typing import Any

import torch
from torch import Tensor

from repgeom.manifolds import thresholds
from repgeom.manifolds.checks import require_shape
from repgeom.manifolds.rotations.algebra import apply_, axial_, back, cofactors_, front, hat_, matmul_

_CHUNK = 16_384  # matrices at a time: the intermediate results then stay in the processor's cache
_LAGUERRE_STEPS = 6  # enough where (s'_2 + s'_3) / s'_1 > 0.01; beyond that the SVD takes over


def nearest_rotation(M: Tensor) -> Tensor:
    require_shape("M", M, 3, 3)
    return _Nearest.apply(M)


class _Nearest(torch.autograd.Function):
    """The projection and its derivative; see :func:`_derivative`."""

    @staticmethod
    def forward(M: Tensor) -> Tensor:
        flat = M.reshape(-1, 3, 3)
        R = torch.empty_like(flat, memory_format=torch.contiguous_format)
        for rows in range(0, len(flat), _CHUNK):
            R[rows : rows + _CHUNK] = _closed_form(flat[rows : rows + _CHUNK])
        return R.reshape(M.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)
        ctx.save_for_forward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Tensor:
        return _derivative(*ctx.saved_tensors, G)

    @staticmethod
    def jvp(ctx: Any, dM: Tensor) -> Tensor:
        return _derivative(*ctx.saved_tensors, dM)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], M: Tensor) -> tuple[Tensor, int]:
        return _Nearest.apply(M.movedim(in_dims[0], 0)), 0


def _derivative(M: Tensor, R: Tensor, X: Tensor) -> Tensor:
    A = front(R.to(torch.float64), 2).transpose(0, 1)
    B, Y = front(M.to(torch.float64), 2), front(X.to(torch.float64), 2)
    w = _solve(matmul_(A, B), axial_(matmul_(A, Y)), thresholds.eps(M.dtype))
    return back(matmul_(A.transpose(0, 1), hat_(w)), 2).to(M.dtype)


def _solve(A: Tensor, b: Tensor, eps: float) -> Tensor:
    S = (A + A.transpose(0, 1)) / 2
    trace = S[0, 0] + S[1, 1] + S[2, 2]
    H = -S
    H.diagonal(dim1=0, dim2=1).add_(trace[..., None])
    C = cofactors_(H)
    det = (H[0] * C[0]).sum(0)
    return apply_(C, b) / det.clamp_min(eps * trace.abs()**3)


def _closed_form(M):
    B = front(M.to(torch.float64), 2)
    B = B / B.abs().amax((0,1))
    B = B / (B*B).sum((0,1)).sqrt()
    R = _foam(B)
    R, step = _polish(R, B)
    R = back(R,2)
    bad = ~(step < thresholds.eps(torch.float64)**.5)
    if bad.any():
        R[bad] = _svd(M[bad].to(torch.float64))
    return R


def _foam(B):
    C = cofactors_(B)
    n = (B*B).sum((0,1))
    det8 = 8*(B[0]*C[0]).sum(0)
    c4 = 4*(C*C).sum((0,1))
    lam = (3*n).sqrt()
    for _ in range(_LAGUERRE_STEPS):
        g = lam*lam-n
        p = g*g-det8*lam-c4
        p1 = 4*lam*g-det8
        p2 = 12*g+8*n
        lam = lam - 4*p/(p1+(9*p1*p1-12*p*p2).clamp_min_(0).sqrt_())
    kappa = (lam*lam-n)/2
    zeta = kappa*lam-det8/8
    return (B*(kappa+n)).addcmul_(C,lam).sub_(matmul_(B, matmul_(B.transpose(0,1),B))).div_(zeta)


def _polish(R: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    E = matmul_(R.transpose(0, 1), R)
    E.diagonal(dim1=0, dim2=1).sub_(1)
    R = R - matmul_(R, E / 2)
    A = matmul_(R.transpose(0, 1), B)
    w = _solve(A, axial_(A), thresholds.eps(torch.float64))
    step = torch.maximum(w.abs().amax(0), E.abs().amax((0, 1)))
    return R + matmul_(R, hat_(w)), step


def _svd(M: Tensor) -> Tensor:
    U, _, Vh = torch.linalg.svd(M)
    sign = (torch.linalg.det(U) * torch.linalg.det(Vh)).sign()
    U = torch.cat([U[..., :2], U[..., 2:] * sign[..., None, None]], dim=-1)
    return U @ Vh
def from_9d_svd(x: Tensor) -> Tensor:
    require_shape("x", x, 9)
    return _svd(x.unflatten(-1, (3, 3)))
def davenport_matrix(M: Tensor) -> Tensor:
    require_shape("M", M, 3, 3)
    trace = M.diagonal(dim1=-2, dim2=-1).sum(-1)
    z = back(axial_(front(M, 2)), 1)
    eye = torch.eye(3, dtype=M.dtype, device=M.device)
    top = torch.cat([trace[..., None], z], dim=-1)[..., None, :]
    bottom = torch.cat([z[..., None], M + M.mT - trace[..., None, None] * eye], dim=-1)
    return torch.cat([top, bottom], dim=-2)


def from_10d_eigh(x: Tensor) -> Tensor:
    require_shape("x", x, 10)
    A = x.new_zeros(x.shape[:-1] + (4, 4))
    i, j = torch.triu_indices(4, 4, device=x.device)
    A[..., i, j] = x
    A[..., j, i] = x
    q = torch.linalg.eigh(A).eigenvectors[..., 0]
    from repgeom.manifolds.rotations.codes import from_quaternion

    return from_quaternion(q)
