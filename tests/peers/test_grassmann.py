"""The Grassmannian against pymanopt and geomstats."""

import numpy as np
import pymanopt
import pytest
import torch
from torch import Tensor

from repgeom.manifolds import grassmann

F64 = torch.float64
N, SIZE, K = 5, 8, 3


def pair(dtype: torch.dtype = F64, length: float = 1.1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    S = grassmann.random(N, g, dtype, size=SIZE, subspace_dim=K)
    G = grassmann.project_tangent(S, torch.randn(S.shape, generator=g, dtype=dtype))
    return S, length * G / torch.linalg.matrix_norm(G)[:, None, None]


def projector(S: Tensor | np.ndarray) -> Tensor:
    S = torch.as_tensor(S)
    return S @ S.mT


def close(a: Tensor, b: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def theirs() -> pymanopt.manifolds.Grassmann:
    return pymanopt.manifolds.Grassmann(SIZE, K, k=N)


@pytest.mark.parametrize(("dtype", "atol"), [(F64, 1e-12), (torch.float32, 1e-5)])
def test_pymanopt_exp(dtype: torch.dtype, atol: float) -> None:
    S, G = pair(dtype)
    close(projector(grassmann.exp(S, G)), projector(theirs().exp(S.numpy(), G.numpy())), atol)


def test_pymanopt_log_distance_projection_retraction() -> None:
    S, G = pair()
    T = grassmann.exp(S, G)
    close(grassmann.log(S, T), torch.as_tensor(theirs().log(S.numpy(), T.numpy())))
    total = grassmann.distance(S, T).square().sum().sqrt()  # theirs is that of the product of all factors
    assert float(total) == pytest.approx(theirs().dist(S.numpy(), T.numpy()), abs=1e-12)
    Z = torch.randn(S.shape, generator=torch.Generator().manual_seed(3), dtype=F64)
    close(grassmann.project_tangent(S, Z), torch.as_tensor(theirs().projection(S.numpy(), Z.numpy())))
    close(projector(grassmann.retract_qr(S, G)), projector(theirs().retraction(S.numpy(), G.numpy())))


def test_pymanopt_momentum_by_projection_differs_from_transport() -> None:
    """Projection is the first-order substitute: it agrees for short steps and shortens the vector for long ones."""
    gaps = []
    for length in (1e-2, 1e-3):
        S, G = pair(length=length)
        H = grassmann.project_tangent(S, torch.ones_like(S))
        T = grassmann.exp(S, G)
        exact, cheap = (
            grassmann.transport(S, T, H),
            torch.as_tensor(theirs().transport(S.numpy(), T.numpy(), H.numpy())),
        )
        assert bool((torch.linalg.matrix_norm(cheap) < torch.linalg.matrix_norm(exact)).all())
        gaps.append(float((exact - cheap).norm()))
    assert gaps[0] / gaps[1] == pytest.approx(100, rel=0.05)


@pytest.mark.filterwarnings("ignore")  # importing geomstats warns about its own dependencies
def test_geomstats_exp_and_distance() -> None:
    """Points are projectors there, and lengths sqrt(2) times ours."""
    import geomstats.backend as gs
    from geomstats.geometry.grassmannian import Grassmannian

    space = Grassmannian(SIZE, K)
    S, G = pair()
    T = grassmann.exp(S, G)
    base, end = projector(S), projector(T)
    vector = G @ S.mT + S @ G.mT
    close(torch.as_tensor(np.asarray(space.metric.exp(gs.array(vector.numpy()), gs.array(base.numpy())))), end, 1e-10)
    found = torch.as_tensor(np.asarray(space.metric.norm(gs.array(vector.numpy()), gs.array(base.numpy()))))
    close(found, 2**0.5 * torch.linalg.matrix_norm(G), 1e-10)
    carried = space.metric.parallel_transport(
        gs.array(vector.numpy()), gs.array(base.numpy()), direction=gs.array(vector.numpy())
    )
    H = grassmann.transport(S, T, G)
    close(torch.as_tensor(np.asarray(carried)), H @ T.mT + T @ H.mT, 1e-9)
