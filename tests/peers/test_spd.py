"""geomstats, pyRiemann, pymanopt and spd_learn as referees of the four metrics on SPD(n)."""

import math
import os
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

from repgeom.manifolds import spd
from repgeom.manifolds.spd import affine_invariant as aim
from repgeom.manifolds.spd import bures_wasserstein as bw
from repgeom.manifolds.spd import log_cholesky as lcm
from repgeom.manifolds.spd import log_euclidean as lem

pytestmark = pytest.mark.filterwarnings("ignore")  # importing them warns about their own dependencies

F64 = torch.float64
CLOSE = {1e2: 1e-10, 1e4: 1e-8, 1e6: 1e-6}  # relative agreement by condition number
CLOSE_AIM = {1e2: 1e-10, 1e4: 1e-6, 1e6: 1e-4}  # theirs goes through eigenvalues of A^-1/2 B A^-1/2
WEIGHTS = torch.tensor([1.0, 2.0, 3.0, 1.0], dtype=F64)
every_condition = pytest.mark.parametrize("kappa", CLOSE)


def sym(A: Tensor) -> Tensor:
    return (A + A.mT) / 2


def conditioned(kappa: float, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """A 6 x 6 matrix with random eigenvectors and eigenvalues from 1 down to 1 / kappa, and a factor of it."""
    Q = torch.linalg.qr(torch.randn(6, 6, generator=g, dtype=F64)).Q
    values = torch.logspace(0, -math.log10(kappa), 6, dtype=F64)
    return sym(Q * values @ Q.mT), Q * values.sqrt()


def sample(kappa: float) -> tuple[Tensor, Tensor, Tensor]:
    """Four pairs, and tangent vectors of the size of the first of each."""
    g = torch.Generator().manual_seed(0)
    factors = [conditioned(kappa, g) for _ in range(8)]
    A, B = (torch.stack([X for X, _ in half]) for half in (factors[:4], factors[4:]))
    F = torch.stack([F for _, F in factors[:4]])
    return A, B, sym(F @ torch.randn(4, 6, 6, generator=g, dtype=F64) @ F.mT)


def near(kappa: float) -> tuple[Tensor, Tensor]:
    """Two matrices at affine-invariant distance 0.05."""
    g = torch.Generator().manual_seed(0)
    A, F = conditioned(kappa, g)
    S = sym(torch.randn(6, 6, generator=g, dtype=F64))
    return A, sym(F @ spd.expm(0.05 * S / S.norm()) @ F.mT)


def agree(theirs: object, ours: Tensor, tolerance: float) -> None:
    """Relative to the largest entry."""
    theirs = torch.as_tensor(np.asarray(theirs))
    assert theirs.shape == ours.shape
    error = float((theirs - ours).abs().max() / ours.abs().max())
    assert error < tolerance, f"relative difference {error:.2g}, allowed {tolerance:.2g}"


@pytest.fixture(scope="module")
def geomstats() -> Callable[..., object]:
    """Its metric of a given name on n x n matrices."""
    os.environ["GEOMSTATS_BACKEND"] = "numpy"
    from geomstats.geometry import spd_matrices

    def metric(name: str, n: int = 6) -> object:
        space = spd_matrices.SPDMatrices(n, equip=False)
        space.equip_with_metric(getattr(spd_matrices, name))
        return space.metric

    return metric


@pytest.fixture(scope="module")
def pyriemann() -> SimpleNamespace:
    from pyriemann.geometry import distance, geodesic, mean, tangentspace

    return SimpleNamespace(distance=distance, geodesic=geodesic, mean=mean, tangent=tangentspace)


@pytest.fixture(scope="module")
def spd_learn() -> ModuleType:
    from spd_learn import functional

    return functional


def pymanopt_distance(A: Tensor, B: Tensor) -> float:
    """The quotient of flat space by the orthogonal group that pymanopt calls PSDFixedRank, of full rank here."""
    from pymanopt.manifolds import PSDFixedRank

    def factor(X: Tensor) -> np.ndarray:
        values, vectors = np.linalg.eigh(X.numpy())
        return vectors * np.sqrt(values)

    return PSDFixedRank(len(A), len(A)).dist(factor(A), factor(B))


# ------------------------------------------------------------------------------------------------------------ geomstats


GEOMSTATS = {"SPDBuresWassersteinMetric": bw, "SPDAffineMetric": aim, "SPDLogEuclideanMetric": lem}


@every_condition
@pytest.mark.parametrize("name", GEOMSTATS)
def test_geomstats(name: str, kappa: float, geomstats: Callable[..., object]) -> None:
    """Conventions are the same, with the factor 1/2 of the Bures-Wasserstein metric."""
    metric = GEOMSTATS[name]
    theirs, (A, B, V), close = geomstats(name), sample(kappa), (CLOSE_AIM if metric is aim else CLOSE)[kappa]
    a, b, step = A.numpy(), B.numpy(), 0.3 * metric.log(A, B)
    agree(theirs.dist(a, b), metric.distance(A, B), close)
    agree(theirs.log(b, a), metric.log(A, B), close)
    agree(theirs.exp(step.numpy(), a), metric.exp(A, step), close)
    agree(theirs.inner_product(V.numpy(), step.numpy(), a), metric.inner(A, V, step), close)
    if metric is not bw:
        agree(theirs.parallel_transport(V.numpy(), a, end_point=b), metric.transport(A, B, V), close)


def test_geomstats_bures_wasserstein_transport(geomstats: Callable[..., object]) -> None:
    """It integrates too, with a fixed number of steps: between commuting points, and between any of condition 4."""
    theirs, (A, _, V) = geomstats("SPDBuresWassersteinMetric"), sample(10.0)
    root = spd.powm(A, 0.3)
    carried = theirs.parallel_transport(V.numpy(), A.numpy(), end_point=root.numpy(), n_steps=40)
    agree(carried, bw.transport(A, root, V), 1e-6)
    A, B, V = sample(4.0)
    carried = theirs.parallel_transport(V.numpy(), A.numpy(), end_point=B.numpy(), n_steps=40)
    agree(carried, bw.transport(A, B, V), 1e-6)


# ------------------------------------------------------------------------------------------------------------ pyRiemann


PYRIEMANN = {"wasserstein": bw, "riemann": aim, "logeuclid": lem, "logchol": lcm}


@every_condition
@pytest.mark.parametrize("name", PYRIEMANN)
def test_pyriemann(name: str, kappa: float, pyriemann: SimpleNamespace) -> None:
    metric = PYRIEMANN[name]
    (A, B, V), close = sample(kappa), (CLOSE_AIM if metric is aim else CLOSE)[kappa]
    a, b, w = A.numpy(), B.numpy(), WEIGHTS.numpy()
    agree(getattr(pyriemann.distance, f"distance_{name}")(a, b), metric.distance(A, B), close)
    agree(getattr(pyriemann.geodesic, f"geodesic_{name}")(a, b, 0.3), metric.geodesic(A, B, 0.3), close)
    tight = {"tol": 1e-12, "maxiter": 500} if metric in (bw, aim) else {}  # the others are in closed form
    for weights in (None, WEIGHTS):
        theirs = getattr(pyriemann.mean, f"mean_{name}")(a, sample_weight=None if weights is None else w, **tight)
        agree(theirs, metric.mean(A, weights), close)
    at_a = ({"C12": True}, {"Cm12": True}) if metric is aim else ({}, {})  # without, its tangent vectors are whitened
    step = 0.3 * metric.log(A[0], B)
    agree(getattr(pyriemann.tangent, f"log_map_{name}")(b, a[0], **at_a[0]), metric.log(A[0], B), close)
    agree(getattr(pyriemann.tangent, f"exp_map_{name}")(step.numpy(), a[0], **at_a[1]), metric.exp(A[0], step), close)
    if metric is not bw:
        carried = getattr(pyriemann.tangent, f"transport_{name}")(V.numpy(), a[0], b[0])
        agree(carried, metric.transport(A[0], B[0], V), close)


# ------------------------------------------------------------------------------------------------------------- pymanopt


@pytest.mark.parametrize("kappa", [1e2, 1e4, 1e6, 1e8, 1e10, 1e12])
def test_pymanopt_is_the_reference_for_the_bures_wasserstein_distance(kappa: float) -> None:
    A, B, _ = sample(kappa)
    agree([pymanopt_distance(a, b) for a, b in zip(A, B, strict=True)], bw.distance(A, B), 1e-13)
    A, B = near(kappa)
    agree(pymanopt_distance(A, B), bw.distance(A, B), 2e-12)  # each is off by 3e-13 or so


@pytest.mark.parametrize("kappa", [1e2, 1e4])
def test_pymanopt_affine_invariant(kappa: float) -> None:
    from pymanopt.manifolds import SymmetricPositiveDefinite

    theirs, (A, B, _) = SymmetricPositiveDefinite(6), sample(kappa)
    for a, b in zip(A, B, strict=True):
        agree(theirs.dist(a.numpy(), b.numpy()), aim.distance(a, b), CLOSE_AIM[kappa])
        agree(theirs.log(a.numpy(), b.numpy()), aim.log(a, b), CLOSE_AIM[kappa])


# ------------------------------------------------------------------------------------------------------------ spd_learn


SPD_LEARN = {  # and what it calls the parallel transport
    "bures_wasserstein": (bw, None),
    "airm": (aim, "airm"),
    "log_euclidean": (lem, "lem"),
    "log_cholesky": (lcm, "log_cholesky"),
}


@every_condition
@pytest.mark.parametrize("name", SPD_LEARN)
def test_spd_learn(name: str, kappa: float, spd_learn: ModuleType) -> None:
    metric, transport = SPD_LEARN[name]
    (A, B, V), close = sample(kappa), (CLOSE_AIM if metric is aim else CLOSE)[kappa]
    agree(getattr(spd_learn, f"{name}_distance")(A, B), metric.distance(A, B), close)
    agree(getattr(spd_learn, f"{name}_geodesic")(A, B, 0.3), metric.geodesic(A, B, 0.3), close)
    if transport is not None:
        carried = getattr(spd_learn, f"parallel_transport_{transport}")(V, A, B)
        agree(carried, metric.transport(A, B, V), close)


def test_spd_learn_bures_wasserstein_transport_is_another_map(spd_learn: ModuleType) -> None:
    """What it calls transport pushes a covariance forward, V -> T V T. That is no isometry of tangent spaces."""
    A, B, V = sample(10.0)
    T = bw.optimal_map(A, B)
    theirs = spd_learn.bures_wasserstein_transport(A, B, V)
    agree(theirs, T @ V @ T, 1e-12)
    before = bw.inner(A, V, V)
    assert ((bw.inner(B, theirs, theirs) / before - 1).abs() > 0.1).any()
    assert ((bw.inner(B, bw.transport(A, B, V), bw.transport(A, B, V)) / before - 1).abs() < 1e-10).all()


@every_condition
def test_spd_learn_matrix_functions(kappa: float, spd_learn: ModuleType) -> None:
    """Values and gradients."""
    A, _, G = sample(kappa)
    for theirs, ours in (
        (spd_learn.matrix_sqrt.apply, spd.sqrtm),
        (lambda X: spd_learn.matrix_sqrt_inv.apply(X)[1], spd.inv_sqrtm),
        (spd_learn.matrix_log.apply, spd.logm),
        (spd_learn.matrix_exp.apply, spd.expm),
    ):
        a, b = A.clone().requires_grad_(), A.clone().requires_grad_()
        agree(theirs(a).detach(), ours(b).detach(), CLOSE[kappa])
        expected = torch.autograd.grad(ours(b), b, G)[0]
        agree(torch.autograd.grad(theirs(a), a, G)[0], expected, CLOSE[kappa])


# --------------------------------------------------------------------------------------------- where the others give up


def test_nearby_pairs(geomstats: Callable[..., object], pyriemann: SimpleNamespace, spd_learn: ModuleType) -> None:
    """The Bures-Wasserstein distance of a nearby pair: ours has eight digits left at condition 1e12.

    The least condition number at which a peer is off by more than 1e-3, or has no answer, is printed; it is no claim.
    """
    distances = {
        "repgeom": lambda A, B: bw.distance(A, B).item(),
        "pymanopt": pymanopt_distance,
        "geomstats": lambda A, B: geomstats("SPDBuresWassersteinMetric").dist(A.numpy(), B.numpy()),
        "pyRiemann": lambda A, B: pyriemann.distance.distance_wasserstein(A.numpy(), B.numpy()),
        "spd_learn": lambda A, B: spd_learn.bures_wasserstein_distance(A, B).item(),
    }
    gives_up = dict.fromkeys(distances, "never")
    for exponent in range(12, 1, -1):
        A, B = near(10.0**exponent)
        with mpmath.workdps(60):
            a, b = mpmath.matrix(A.tolist()), mpmath.matrix(B.tolist())
            product = mpmath.eig(a * b, left=False, right=False)
            trace = mpmath.fsum(a[i, i] + b[i, i] for i in range(6))
            exact = float(mpmath.sqrt(trace - 2 * mpmath.fsum(mpmath.sqrt(mpmath.re(value)) for value in product)))
        for name, distance in distances.items():
            try:
                error = abs(float(np.real(distance(A, B))) / exact - 1)
            except (ArithmeticError, RuntimeError, ValueError, np.linalg.LinAlgError):
                error = math.nan
            if not error < 1e-3:
                gives_up[name] = f"1e{exponent}"
            if name == "repgeom":
                assert error < 1e-8, exponent
    print("off by more than 1e-3 from condition number", gives_up)
