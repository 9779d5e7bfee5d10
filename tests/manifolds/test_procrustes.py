"""The nearest rotation: closed form against SVD and mpmath, derivative, 9D against 10D."""

from unittest import mock

import mpmath
import pytest
import torch
from torch import Tensor

from repgeom.manifolds import rotations as r
from repgeom.manifolds.rotations import procrustes


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def composed(signed: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices with given signed singular values (n, 3) and their nearest rotations."""
    U, V = (r.random_rotations(len(signed), generator(seed), torch.float64) for seed in (1, 2))
    return U * signed[:, None, :] @ V.mT, U @ V.mT


def families() -> dict[str, Tensor]:
    """Signed singular values, from easy to nearly singular; the name ends in the relative gap s2 + s3'."""
    u = torch.rand(500, 3, generator=generator(), dtype=torch.float64)
    one = torch.ones(500, dtype=torch.float64)
    found = {"rotations 2": torch.ones(500, 3, dtype=torch.float64), "nearly rotations 2": 1 + 1e-6 * u}
    for gap in (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-6):
        s2 = gap + (1 - gap) * u[:, 0]
        found[f"reflected {gap:g}"] = torch.stack([one, s2, gap - s2], dim=-1)
        found[f"nearly rank one {gap:g}"] = torch.stack([one, 0.7 * gap * one, 0.3 * gap * one], dim=-1)
    found["rank two 0.1"] = torch.stack([one, 0.1 + u[:, 0], 0 * one], dim=-1)
    return found


@pytest.mark.parametrize("name", families())
def test_never_worse_than_the_svd(name: str) -> None:
    """Rounding of the input alone moves the answer by eps / gap; the closed form stays within a few of these."""
    M, R = composed(families()[name])
    gap = float(name.split()[-1])
    for scale in (1.0, 1e-150, 1e150):
        ours = r.from_9d((scale * M).flatten(1))
        assert (ours - R).abs().max() < 60 * torch.finfo(torch.float64).eps / gap
        assert (ours.mT @ ours - torch.eye(3, dtype=torch.float64)).abs().max() < 1e-14
    low = r.from_9d(M.flatten(1).float())
    assert (low - R).abs().max() < 6 * torch.finfo(torch.float32).eps / gap
    assert (low.mT @ low - torch.eye(3)).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_svd_on_gaussian_matrices(dtype: torch.dtype) -> None:
    """Half of them have a negative determinant. The referee computes in float64 throughout."""
    M = torch.randn(40_000, 9, generator=generator(), dtype=torch.float64).to(dtype)
    s = torch.linalg.svdvals(M.double().reshape(-1, 3, 3))
    gap = (s[:, 1] + torch.linalg.det(M.double().reshape(-1, 3, 3)).sign() * s[:, 2]) / s[:, 0]
    error = (r.from_9d(M).double() - r.from_9d_svd(M.double())).abs().amax((1, 2))
    assert ((gap > 0.05) & (gap < 0.1)).any()
    assert error[gap > 0.05].max() < (1e-6 if dtype == torch.float32 else 1e-12)
    assert (error * gap).max() < (1e-6 if dtype == torch.float32 else 1e-14)


def test_against_mpmath() -> None:
    """Twelve badly conditioned matrices, with 40 digits."""
    signed = torch.tensor([[1, 0.5, -0.49], [1, 1e-2, 1e-3], [1, 1, -0.99], [1, 0.3, 0]], dtype=torch.float64)
    M, _ = composed(signed.repeat(3, 1))
    for one, ours, gap in zip(M, r.from_9d(M.flatten(1)), (signed[:, 1] + signed[:, 2]).repeat(3), strict=True):
        with mpmath.workdps(40):
            U, _, V = mpmath.svd_r(mpmath.matrix(one.tolist()))
            d = mpmath.sign(mpmath.det(U) * mpmath.det(V))
            exact = U * mpmath.diag([1, 1, d]) * V
            error = max(abs(exact[i, j] - float(ours[i, j])) for i in range(3) for j in range(3))
        assert float(error) < 20 * torch.finfo(torch.float64).eps / float(gap)


def test_the_fallback_is_rare_and_works() -> None:
    M = torch.randn(40_000, 3, 3, generator=generator(), dtype=torch.float64)
    with mock.patch.object(procrustes, "_svd", wraps=procrustes._svd) as svd:
        r.nearest_rotation(M)
        rows = sum(len(call.args[0]) for call in svd.call_args_list)
        assert rows < 40
        svd.reset_mock()
        near = composed(families()["reflected 1e-06"])[0]
        r.nearest_rotation(near)
        assert sum(len(call.args[0]) for call in svd.call_args_list) == len(near)


def test_singular_and_broken_rows() -> None:
    M = torch.zeros(5, 3, 3)
    M[1, 0, 0] = 1  # rank one
    M[2] = -torch.eye(3)  # three equal singular values and a reflection: every half turn is nearest
    M[3, 0, 0] = torch.nan
    M[4] = torch.diag(torch.tensor([torch.inf, 1, 1]))
    R = r.nearest_rotation(M)
    assert (R[:3].mT @ R[:3] - torch.eye(3)).abs().max() < 1e-6
    assert (torch.linalg.det(R[:3]) > 0).all()
    assert torch.isnan(R[3:]).all()
    for dtype in (torch.float32, torch.float64):
        tiny = torch.finfo(dtype).tiny * torch.eye(3, dtype=dtype)
        huge = torch.finfo(dtype).max * torch.eye(3, dtype=dtype)
        assert torch.equal(r.nearest_rotation(torch.stack([tiny, huge])), torch.eye(3, dtype=dtype).expand(2, 3, 3))


def test_it_is_the_nearest() -> None:
    M = torch.randn(200, 1, 3, 3, generator=generator(), dtype=torch.float64)
    others = r.random_rotations(5000, generator(1), torch.float64)
    nearest = (r.nearest_rotation(M) - M).square().sum((-2, -1))
    assert (nearest <= (others - M).square().sum((-2, -1))).all()


def test_equivariant_on_both_sides() -> None:
    M, A, B = (r.random_rotations(300, generator(k), torch.float64) for k in range(3))
    M = M + 0.5 * torch.randn(300, 3, 3, generator=generator(4), dtype=torch.float64)
    torch.testing.assert_close(r.project(A @ M @ B), A @ r.project(M) @ B, rtol=0, atol=1e-11)


def test_derivative_against_the_formula_with_the_svd() -> None:
    """dL/dM = U' W V^T, W_kl = (B_kl - B_lk) / (s'_k + s'_l), B = U'^T G V, for both signs of the determinant."""
    M = torch.randn(2000, 3, 3, generator=generator(), dtype=torch.float64)
    G = torch.randn(2000, 3, 3, generator=generator(1), dtype=torch.float64)
    U, s, Vh = torch.linalg.svd(M)
    d = torch.linalg.det(U @ Vh)
    sign = torch.stack([torch.ones_like(d), torch.ones_like(d), d], dim=-1)
    U, s = U * sign[:, None, :], s * sign
    B = U.mT @ G @ Vh.mT
    sums = s[:, :, None] + s[:, None, :] + torch.eye(3, dtype=torch.float64)
    expected = U @ ((B - B.mT) / sums) @ Vh
    M.requires_grad_()
    (gradient,) = torch.autograd.grad((r.nearest_rotation(M) * G).sum(), M)
    size = expected.abs().amax((-2, -1), keepdim=True)
    assert ((gradient - expected).abs() / (1 + size**2)).max() < 1e-12


def test_the_derivative_is_symmetric() -> None:
    """The projection is the gradient of s1 + s2 + s3', so its Jacobian is a Hessian."""
    J = torch.autograd.functional.jacobian(r.from_9d, torch.randn(9, generator=generator(), dtype=torch.float64))
    J = J.reshape(9, 9)
    torch.testing.assert_close(J, J.T)
    assert torch.linalg.matrix_rank(J, atol=1e-9) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_repeated_singular_values_have_an_exact_gradient(dtype: torch.dtype) -> None:
    """At M = c I the differential is the antisymmetric part over c; autograd through the SVD gives NaN there."""
    M = (2 * torch.eye(3, dtype=dtype)).requires_grad_()
    G = torch.randn(3, 3, generator=generator(), dtype=dtype)
    (gradient,) = torch.autograd.grad((r.nearest_rotation(M) * G).sum(), M)
    torch.testing.assert_close(gradient, (G - G.mT) / 4)
    for scale in (1e-30, 1e30):
        N = (scale * torch.eye(3, dtype=dtype)).requires_grad_()
        (gradient,) = torch.autograd.grad((r.nearest_rotation(N) * G).sum(), N)
        torch.testing.assert_close(gradient * scale, (G - G.mT) / 2)


def test_gradient_next_to_the_singular_set_grows_and_stays_finite() -> None:
    sizes = []
    for gap in (1e-2, 1e-4, 1e-6, 0.0):
        M = torch.diag(torch.tensor([1, 0.5, gap - 0.5], dtype=torch.float64)).requires_grad_()
        (gradient,) = torch.autograd.grad(r.nearest_rotation(M)[2, 1], M)
        sizes.append(gradient.abs().max().item())
    assert sizes[:3] == pytest.approx([1e2, 1e4, 1e6], rel=1e-6)
    assert 1e10 < sizes[3] < 1e18


def test_davenport_matrix() -> None:
    M = torch.randn(5000, 3, 3, generator=generator(), dtype=torch.float64)
    K = r.davenport_matrix(M)
    torch.testing.assert_close(K, K.mT)
    torch.testing.assert_close(K.flatten(1).norm(dim=1), 2 * M.flatten(1).norm(dim=1))
    s = torch.linalg.svdvals(M)
    s = torch.stack([s[:, 0], s[:, 1], s[:, 2] * torch.linalg.det(M).sign()], dim=-1)
    signs = torch.tensor([[-1, -1, 1], [-1, 1, -1], [1, -1, -1], [1, 1, 1]], dtype=torch.float64)
    L, Q = torch.linalg.eigh(K)
    torch.testing.assert_close(L, s @ signs.T)
    torch.testing.assert_close(r.from_quaternion(Q[..., -1]), r.from_9d_svd(M.flatten(1)), rtol=0, atol=1e-9)
    R = r.random_rotations(5, generator(), torch.float64)
    q = r.to_quaternion(R)
    torch.testing.assert_close(r.davenport_matrix(R), 4 * q[:, :, None] * q[:, None] - torch.eye(4, dtype=q.dtype))


def test_9d_and_10d_are_one_map() -> None:
    """A = c I - K(M) decodes to the rotation nearest to M, whatever c; the eigendecomposition is the referee."""
    M = torch.randn(5000, 3, 3, generator=generator(), dtype=torch.float64)
    i, j = torch.triu_indices(4, 4)
    for c in (0.0, 3.0):
        x = (c * torch.eye(4, dtype=torch.float64) - r.davenport_matrix(M))[:, i, j]
        torch.testing.assert_close(r.from_10d_eigh(x), r.from_9d_svd(M.flatten(1)), rtol=0, atol=1e-9)
        torch.testing.assert_close(r.from_10d(x), r.from_10d_eigh(x), rtol=0, atol=1e-9)
    y = torch.randn(5000, 10, generator=generator(1), dtype=torch.float64)
    torch.testing.assert_close(r.from_10d(y), r.from_10d_eigh(y), rtol=0, atol=1e-9)


def test_float32_arithmetic_would_do_too() -> None:
    """The method itself is not tied to float64: with float32 throughout it is as good as a float32 SVD."""
    M = torch.randn(5000, 3, 3, generator=generator())
    exact = r.nearest_rotation(M.double())
    with mock.patch.object(procrustes.torch, "float64", torch.float32):
        ours = procrustes._project(M)
    assert ours.dtype == torch.float32
    assert (ours - exact).abs().max() <= 3 * (procrustes._svd(M) - exact).abs().max()
