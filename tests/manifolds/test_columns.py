"""The SO(n) forms of the 6D and 5D codes."""

import pytest
import torch
from scipy.stats import special_ortho_group
from torch import Tensor

from repgeom.manifolds import rotations as r


def rotations(n: int, count: int = 200) -> Tensor:
    return torch.from_numpy(special_ortho_group.rvs(n, count, random_state=n))


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_round_trip_and_length(n: int) -> None:
    R = rotations(n)
    x, p = r.to_columns(R), r.to_projected_columns(R)
    assert (x.shape[-1], p.shape[-1]) == (n * n - n, n * n - 2 * n + 2)
    for back in (r.from_columns(x), r.from_projected_columns(p)):
        torch.testing.assert_close(back, R, rtol=0, atol=1e-12)
    low = r.from_columns(x.float())
    torch.testing.assert_close(low, R.float(), rtol=0, atol=5e-6)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_any_numbers_decode_to_rotations(n: int) -> None:
    g = torch.Generator().manual_seed(n)
    for decoder, k in ((r.from_columns, n * n - n), (r.from_projected_columns, n * n - 2 * n + 2)):
        for scale in (1e-6, 1.0, 1e6):
            R = decoder(scale * torch.randn(500, k, generator=g, dtype=torch.float64))
            torch.testing.assert_close(R.mT @ R, torch.eye(n, dtype=R.dtype).expand_as(R), rtol=0, atol=1e-13)
            torch.testing.assert_close(torch.linalg.det(R), torch.ones(500, dtype=R.dtype), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [3, 4, 5])
def test_gram_schmidt_is_qr(n: int) -> None:
    """The first columns are the Q of a QR decomposition whose R has a positive diagonal."""
    A = torch.randn(100, n, n - 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    Q, T = torch.linalg.qr(A)
    Q = Q * T.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]
    torch.testing.assert_close(r.from_columns(A.mT.flatten(1))[..., :-1], Q, rtol=0, atol=1e-10)


def test_n_equal_3_is_6d_and_5d() -> None:
    g = torch.Generator().manual_seed(0)
    x, p = (torch.randn(1000, k, generator=g, dtype=torch.float64) for k in (6, 5))
    assert torch.equal(r.from_columns(x), r.from_6d(x))
    assert torch.equal(r.from_projected_columns(p), r.from_5d(p))
    R = rotations(3)
    assert torch.equal(r.to_columns(R), r.to_6d(R))
    assert torch.equal(r.to_projected_columns(R), r.to_5d(R))
    # 6D is the general algorithm too: embed SO(3) in SO(4) as rotations that fix the first axis
    big = torch.zeros(1000, 3, 4, dtype=torch.float64)
    big[:, 0, 0] = 1
    big[:, 1:, 1:] = x.reshape(-1, 2, 3)
    torch.testing.assert_close(r.from_columns(big.flatten(1))[:, 1:, 1:], r.from_6d(x), rtol=0, atol=1e-11)


def test_5d_by_hand() -> None:
    """The formula of the paper on one rotation."""
    R = rotations(3)[0]
    u = torch.stack([R[2, 0], R[0, 1], R[1, 1], R[2, 1]])
    v = u / u.norm()
    torch.testing.assert_close(r.to_5d(R), torch.cat([R[:2, 0], v[1:] / (1 - v[0])]))
    norms = r.to_5d(rotations(3, 20_000))[:, 2:].norm(dim=-1)
    assert 2**0.5 - 1 - 1e-12 < norms.min() < 0.43
    assert 2.39 < norms.max() < 2**0.5 + 1 + 1e-12


@pytest.mark.parametrize("n", [3, 4])
def test_gradients(n: int) -> None:
    g = torch.Generator().manual_seed(1)
    for decoder, k in ((r.from_columns, n * n - n), (r.from_projected_columns, n * n - 2 * n + 2)):
        x = torch.randn(3, k, generator=g, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(decoder, x, atol=1e-6)
        zero = torch.zeros(1, k, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(decoder(zero).sum(), zero)
        assert torch.isfinite(gradient).all()


def test_nearly_parallel_columns_still_give_a_rotation() -> None:
    g = torch.Generator().manual_seed(2)
    a, noise = torch.randn(2, 1000, 3, generator=g)
    R = r.from_6d(torch.cat([a, 3 * a + 1e-5 * noise], dim=-1))
    assert (R.mT @ R - torch.eye(3)).abs().max() < 1e-5


def test_bad_input() -> None:
    for decoder, k in ((r.from_columns, 7), (r.from_projected_columns, 6)):
        with pytest.raises(ValueError, match=rf"x: received last dimension {k}; valid is n\^2.*Repair: "):
            decoder(torch.zeros(2, k))
    with pytest.raises(ValueError, match=r"R: received shape \(2, 4, 3\).*Repair: "):
        r.to_columns(torch.zeros(2, 4, 3))
