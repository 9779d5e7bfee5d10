"""Similarities against scipy, scikit-learn, geomstats and pymanopt."""

import numpy as np
import pymanopt
import pytest
import scipy.linalg
import scipy.spatial
import torch
from sklearn.cross_decomposition import CCA
from torch import Tensor

from repgeom.probes import similarity as sim

F64 = torch.float64


def pair(n: int, d: int, e: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    X = torch.randn(n, d, generator=draw, dtype=F64) + 1
    return X, X @ torch.randn(d, e, generator=draw, dtype=F64) + torch.randn(n, e, generator=draw, dtype=F64)


@pytest.mark.parametrize("seed", range(5))
def test_procrustes_is_scipy_s(seed: int) -> None:
    X, Y = pair(40, 6, 6, seed)
    Q, total = scipy.linalg.orthogonal_procrustes(X.numpy(), Y.numpy())
    ours = sim.procrustes_map(X, Y)
    torch.testing.assert_close(ours, torch.from_numpy(Q))
    assert float((ours * (X.mT @ Y)).sum()) == pytest.approx(total)
    disparity = scipy.spatial.procrustes(X.numpy(), Y.numpy())[
        2
    ]  # 1 - |X^T Y|_*^2: scipy scales the second one as well
    half = 1 - float(sim.procrustes_distance(X, Y)) ** 2 / 2
    assert 1 - half**2 == pytest.approx(disparity)


def test_rotations_are_scipy_s_in_space() -> None:
    X, Y = pair(20, 3, 3)
    Y = Y @ torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=F64))
    R = scipy.spatial.transform.Rotation.align_vectors(Y.numpy(), X.numpy())[0].as_matrix()
    torch.testing.assert_close(sim.procrustes_map(X, Y, rotation=True).mT, torch.from_numpy(R), atol=1e-7, rtol=0)


def test_no_rotation_of_pymanopt_is_better() -> None:
    X, Y = pair(30, 5, 5, 3)
    G = (X.mT @ Y).numpy()
    manifold = pymanopt.manifolds.SpecialOrthogonalGroup(5)
    problem = pymanopt.Problem(
        manifold,
        pymanopt.function.numpy(manifold)(lambda R: -np.sum(R * G)),
        euclidean_gradient=pymanopt.function.numpy(manifold)(lambda R: -G),
        euclidean_hessian=pymanopt.function.numpy(manifold)(lambda R, V: 0 * V),
    )
    found = pymanopt.optimizers.TrustRegions(verbosity=0).run(problem, initial_point=np.eye(5))
    ours = -float((sim.procrustes_map(X, Y, rotation=True) * (X.mT @ Y)).sum())
    assert -1e-9 < found.cost - ours < 1e-6


@pytest.mark.filterwarnings("ignore")
def test_shapes_are_those_of_geomstats() -> None:
    """Its pre-shapes are centred matrices of norm one, and its bundle aligns two of them by a rotation."""
    from geomstats.geometry.pre_shape import PreShapeBundle, PreShapeSpace

    X, Y = pair(12, 3, 3, 1)
    space = PreShapeSpace(12, 3)
    A, B = (torch.from_numpy(space.projection((Z - Z.mean(0)).numpy())) for Z in (X, Y))
    aligned = torch.from_numpy(PreShapeBundle(space).align(A.numpy(), B.numpy()))
    torch.testing.assert_close(A @ sim.procrustes_map(A, B, rotation=True), aligned)
    assert float(sim.procrustes_distance(X, Y)) <= float((aligned - B).norm()) + 1e-12


@pytest.mark.parametrize(("d", "e"), [(4, 4), (5, 3)])
def test_canonical_correlations_are_those_of_scikit_learn(d: int, e: int) -> None:
    X, Y = pair(200, d, e, 2)
    k = min(d, e)
    U, V = CCA(k, max_iter=5000, tol=1e-12).fit_transform(X.numpy(), Y.numpy())
    expected = [np.corrcoef(U[:, i], V[:, i])[0, 1] for i in range(k)]
    assert sim.canonical_correlations(X, Y).tolist() == pytest.approx(expected, abs=1e-5)


def test_angles_are_those_of_scipy() -> None:
    X, Y = pair(50, 4, 6, 4)
    angles = scipy.linalg.subspace_angles((X - X.mean(0)).numpy(), (Y - Y.mean(0)).numpy())
    assert sim.canonical_correlations(X, Y).flip(0).tolist() == pytest.approx(np.cos(angles).tolist(), abs=1e-12)
