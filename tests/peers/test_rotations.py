"""RoMa, scipy and geomstats as referees of the rotations."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
import roma
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from repgeom.manifolds import rotations as r

CLOSE = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(scope="module")
def sample() -> Tensor:
    return r.random_rotations(2000, torch.Generator().manual_seed(0), torch.float64)


def gaussian(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def test_roma_gram_schmidt() -> None:
    x = gaussian(2000, 6)
    torch.testing.assert_close(r.from_6d(x), roma.special_gramschmidt(x.reshape(-1, 2, 3).mT), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_roma_procrustes(dtype: torch.dtype) -> None:
    """Away from the singular set, where (s2 + s3') / s1 > 0.05, forward and backward."""
    M = gaussian(20_000, 3, 3, dtype=dtype)
    s = torch.linalg.svdvals(M)
    M = M[(s[:, 1] + torch.linalg.det(M).sign() * s[:, 2]) / s[:, 0] > 0.05]
    assert len(M) > 19_000
    G = gaussian(*M.shape, dtype=dtype)
    ours, theirs = M.clone().requires_grad_(), M.clone().requires_grad_()
    R, S = (
        r.project(ours),
        roma.special_procrustes(theirs, gradient_eps=1e-12),
    )  # its default alters the gradient in the 9th digit
    torch.testing.assert_close(R, S, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)
    (R * G).sum().backward()
    (S * G).sum().backward()
    size = theirs.grad.abs().amax((1, 2), keepdim=True)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert ((ours.grad - theirs.grad).abs() / (1 + size**2)).max() < tolerance


def test_roma_10d() -> None:
    """Its quaternions are (x, y, z, w): the rows and columns of the matrix are permuted likewise."""
    x = gaussian(2000, 10)
    A = x.new_zeros(2000, 4, 4)
    i, j = torch.triu_indices(4, 4)
    A[:, i, j] = A[:, j, i] = x
    order = torch.tensor([1, 2, 3, 0])
    q = roma.symmatrixvec_to_unitquat(A[:, order][:, :, order][:, i, j])
    torch.testing.assert_close(r.from_10d(x), roma.unitquat_to_rotmat(q), rtol=0, atol=1e-9)


def test_roma_conversions(sample: Tensor) -> None:
    v = gaussian(2000, 3)
    torch.testing.assert_close(r.from_rotvec(v), roma.rotvec_to_rotmat(v), **CLOSE)
    torch.testing.assert_close(r.to_rotvec(sample), roma.rotmat_to_rotvec(sample), rtol=0, atol=1e-10)
    angle = roma.rotmat_geodesic_distance(sample, sample.roll(1, 0))
    torch.testing.assert_close(r.geodesic_angle(sample, sample.roll(1, 0)), angle, rtol=0, atol=1e-7)


def test_scipy_codes(sample: Tensor) -> None:
    peer = Rotation.from_matrix(sample.numpy())
    quaternion = peer.as_quat(canonical=True, scalar_first=True)
    np.testing.assert_allclose(r.to_quaternion(sample).numpy(), quaternion, rtol=0, atol=1e-12)
    np.testing.assert_allclose(r.to_rotvec(sample).numpy(), peer.as_rotvec(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(r.to_euler(sample).numpy(), peer.as_euler("ZYX"), rtol=0, atol=1e-10)
    q, e = gaussian(2000, 4), gaussian(2000, 3)
    expected = Rotation.from_quat(q.numpy(), scalar_first=True).as_matrix()
    np.testing.assert_allclose(r.from_quaternion(q).numpy(), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(r.from_euler(e).numpy(), Rotation.from_euler("ZYX", e.numpy()).as_matrix(), atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 1e-2, np.pi - 1e-2, np.pi - 1e-5, np.pi - 1e-9])
def test_scipy_magnitude_near_zero_and_pi(angle: float, sample: Tensor) -> None:
    axis = gaussian(2000, 3).numpy()
    turn = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis, axis=1, keepdims=True))
    b = torch.from_numpy((Rotation.from_matrix(sample.numpy()) * turn).as_matrix())
    np.testing.assert_allclose(r.geodesic_angle(sample, b).numpy(), turn.magnitude(), rtol=0, atol=2e-15)


def test_scipy_mean(sample: Tensor) -> None:
    """scipy minimises the chordal distance: where we start. Of two rotations both means are the midpoint."""
    pair = torch.stack([sample[0], r.exp(sample[0], torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64))])
    np.testing.assert_allclose(r.mean(pair).numpy(), Rotation.from_matrix(pair.numpy()).mean().as_matrix(), atol=1e-12)


@pytest.fixture(scope="module")
def geomstats_so3() -> Iterator[object]:
    os.environ["GEOMSTATS_BACKEND"] = "numpy"
    from geomstats.geometry.special_orthogonal import SpecialOrthogonal

    yield SpecialOrthogonal(3, point_type="matrix", equip=True)


@pytest.mark.filterwarnings("ignore")  # importing geomstats warns about its own dependencies
def test_geomstats(geomstats_so3: object, sample: Tensor) -> None:
    """Distance up to its normalisation of the metric, geodesic, projection, transport by its own formula."""
    so3 = geomstats_so3
    a, b = sample[:100], sample[100:200]
    near = r.geodesic_angle(a, b) < 3.0
    a, b = a[near], b[near]
    tangent = so3.metric.log(b.numpy(), a.numpy())
    v = r.log(a, b)
    np.testing.assert_allclose((a @ r.hat(v)).numpy(), tangent, rtol=0, atol=1e-9)
    np.testing.assert_allclose(so3.metric.exp(tangent, a.numpy()), b.numpy(), rtol=0, atol=1e-9)
    ratio = so3.metric.dist(a.numpy(), b.numpy()) / r.distance(a, b).numpy()
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-8)
    M = gaussian(100, 3, 3)
    M = M[torch.linalg.det(M) > 0]  # for negative determinants its result is a rotation, but not the nearest one
    np.testing.assert_allclose(so3.projection(M.numpy()), r.project(M).numpy(), rtol=0, atol=1e-8)
    u = gaussian(len(a), 3)
    carried = so3.metric.parallel_transport((a @ r.hat(u)).numpy(), a.numpy(), direction=tangent)
    np.testing.assert_allclose((b @ r.hat(r.transport(a, b, u))).numpy(), carried, rtol=0, atol=1e-8)
