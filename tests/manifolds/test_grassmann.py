"""The Grassmannian beyond the laws: closed forms, peers' formulas, accuracy at both ends, gradients, errors."""

import math

import mpmath
import pytest
import torch
from torch import Tensor

from repgeom.manifolds import grassmann

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(n: int, size: int = 7, k: int = 3, seed: int = 0, dtype: torch.dtype = F64) -> Tensor:
    return grassmann.random(n, generator(seed), dtype, size=size, subspace_dim=k)


def tangent(S: Tensor, length: float = 1.0, seed: int = 1) -> Tensor:
    G = grassmann.project_tangent(S, torch.randn(S.shape, generator=generator(seed), dtype=S.dtype))
    return length * G / torch.linalg.matrix_norm(G)[..., None, None]


def projector(S: Tensor) -> Tensor:
    return S @ S.mT


def turned(S: Tensor, seed: int = 5) -> Tensor:
    """Another matrix of each subspace."""
    k = S.shape[-1]
    Q = torch.linalg.qr(torch.randn(len(S), k, k, generator=generator(seed), dtype=S.dtype)).Q
    return S @ Q


def planes_at(*angles: float, size: int = 6, dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
    """Two subspaces with these principal angles, neither along the axes."""
    k, t = len(angles), torch.tensor(angles, dtype=dtype)
    eye = torch.eye(size, dtype=dtype)
    S = eye[:, :k]
    T = eye[:, :k] * t.cos() + eye[:, k : 2 * k] * t.sin()
    Q = torch.linalg.qr(torch.randn(size, size, generator=generator(9), dtype=dtype)).Q
    return Q @ S, Q @ T


def close(a: Tensor, b: Tensor, atol: float = 1e-13) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


# -------------------------------------------------------------------------------------------------------- angles


@pytest.mark.parametrize("angles", [(0.3, 0.7), (1e-9, 1.2), (0.5, math.pi / 2 - 1e-9), (1e-12, 1e-6)])
def test_principal_angles_keep_their_digits_at_both_ends(angles: tuple[float, float]) -> None:
    S, T = planes_at(*angles)
    close(grassmann.principal_angles(S, T), torch.tensor(sorted(angles), dtype=F64), 4e-16)


def test_principal_angles_of_subspaces_of_different_dimensions() -> None:
    S, T = points(4, k=3), points(4, k=1, seed=1)
    expected = torch.linalg.svdvals(S.mT @ T).acos()
    close(grassmann.principal_angles(S, T), expected)
    close(grassmann.principal_angles(T, S), expected)


@pytest.mark.parametrize("angles", [(1e-8, 3e-8), (1e-5, 1.0), (0.4, 0.4), (math.pi / 2 - 1e-7, 0.1)])
def test_distances_against_high_precision(angles: tuple[float, float]) -> None:
    S, T = planes_at(*angles)
    with mpmath.workdps(50):
        s, t = (mpmath.matrix(X.tolist()) for X in (S, T))
        s, t = (mpmath.qr(X, mode="skinny")[0] for X in (s, t))  # orthonormal to fifty digits
        cosines = mpmath.svd_r(s.T * t, compute_uv=False)
        found = [mpmath.acos(min(mpmath.mpf(1), c)) for c in cosines]
        d = float(mpmath.sqrt(sum(x * x for x in found)))
        chord = float(mpmath.sqrt(sum(mpmath.sin(x) ** 2 for x in found)))
    assert float(grassmann.distance(S, T)) == pytest.approx(d, abs=1e-15, rel=1e-14)
    assert float(grassmann.chordal_distance(S, T)) == pytest.approx(chord, abs=1e-15, rel=1e-14)


def test_chordal_distance_is_that_of_projectors() -> None:
    S, T = points(5), points(5, seed=1)
    close(grassmann.chordal_distance(S, T), torch.linalg.matrix_norm(projector(S) - projector(T)) / 2**0.5)


def test_distances_do_not_depend_on_the_matrices() -> None:
    S, T = points(5), points(5, seed=1)
    for distance in (grassmann.distance, grassmann.chordal_distance, grassmann.principal_angles):
        close(distance(turned(S), turned(T, 6)), distance(S, T))


# ---------------------------------------------------------------------------------------------------- geodesics


def by_svd(S: Tensor, G: Tensor) -> Tensor:
    """The textbook: (S V cos(s) + U sin(s)) V^T of the thin decomposition G = U s V^T."""
    U, s, Vh = torch.linalg.svd(G, full_matrices=False)
    return (S @ Vh.mT * s.cos()[..., None, :] + U * s.sin()[..., None, :]) @ Vh


@pytest.mark.parametrize(("dtype", "atol"), [(F64, 1e-14), (torch.float32, 1e-6)])
@pytest.mark.parametrize("length", [0.0, 1e-9, 0.3, 2.0, 30.0])
def test_exp_is_the_textbook_formula(dtype: torch.dtype, atol: float, length: float) -> None:
    S = points(6, dtype=dtype)
    G = tangent(S, length)
    close(grassmann.exp(S, G), by_svd(S, G), atol * max(1, length))
    with torch.enable_grad():  # through the eigen-decomposition, whatever the length
        close(grassmann.exp(S, G.clone().requires_grad_()).detach(), by_svd(S, G), atol * max(1, length))


def test_series_and_eigen_decomposition_agree() -> None:
    G = tangent(points(8), 0.49)
    C = G.mT @ G
    assert float(C.diagonal(dim1=-2, dim2=-1).sum(-1).amax()) < 0.25
    for a, b in zip(grassmann.cos_sinc(C), grassmann.cos_sinc(C.clone().requires_grad_()), strict=True):
        close(a, b.detach(), 1e-15)


def test_log_of_orthogonal_directions_has_right_angles() -> None:
    I = torch.eye(4, dtype=F64)
    G = grassmann.log(I[:, :2], I[:, 2:])
    close(torch.linalg.svdvals(G), torch.full((2,), math.pi / 2, dtype=F64))
    close(projector(grassmann.exp(I[:, :2], G)), projector(I[:, 2:]))


def test_log_where_all_angles_agree() -> None:
    S, T = planes_at(0.4, 0.4, 0.4)
    G = grassmann.log(S, T)
    close(torch.linalg.svdvals(G), torch.full((3,), 0.4, dtype=F64))
    close(projector(grassmann.exp(S, G)), projector(T))


def test_transport_is_the_textbook_formula() -> None:
    S = points(5)
    G, H = tangent(S, 0.9), tangent(S, seed=2)
    U, s, Vh = torch.linalg.svd(G, full_matrices=False)
    along = (-S @ Vh.mT * s.sin()[..., None, :] + U * s.cos()[..., None, :]) @ U.mT
    expected = along @ H + H - U @ (U.mT @ H)
    T = grassmann.exp(S, G)
    close(grassmann.transport(S, T, H), expected, 1e-12)
    Q = torch.linalg.qr(torch.randn(5, 3, 3, generator=generator(3), dtype=F64)).Q
    close(grassmann.transport(S, T @ Q, H), expected @ Q, 1e-12)


def test_qr_retraction_is_a_clipped_geodesic() -> None:
    """Both turn in the same planes: by s along the geodesic, by atan(s) along the retraction."""
    S = points(4)
    G = tangent(S, 1.5)
    s = torch.linalg.svdvals(G).flip(-1)
    close(grassmann.principal_angles(S, grassmann.retract_qr(S, G)), s.atan())
    close(grassmann.principal_angles(S, grassmann.exp(S, G)), s)
    close(projector(grassmann.retract_qr(S, G)), projector(grassmann.project(S + G)))  # as the polar factor
    R = grassmann.retract_qr(S, G).mT @ (S + G)
    assert bool((R.diagonal(dim1=-2, dim2=-1) > 0).all())
    close(R.tril(-1), torch.zeros_like(R))


def test_stretched_qr_retraction_is_the_geodesic() -> None:
    S = points(4)
    G = tangent(S, 1.2)
    U, s, Vh = torch.linalg.svd(G, full_matrices=False)
    stretched = U * s.tan()[..., None, :] @ Vh
    close(projector(grassmann.retract_qr(S, stretched)), projector(grassmann.exp(S, G)))


def test_project_tangent_removes_what_only_changes_the_matrix() -> None:
    S = points(3)
    A = torch.randn(3, 3, 3, generator=generator(4), dtype=F64)
    close(grassmann.project_tangent(S, S @ A), torch.zeros_like(S))
    G = tangent(S)
    close(grassmann.project_tangent(S, G + S @ A), G)


# --------------------------------------------------------------------------------------------------------- means


def test_mean_of_two_is_the_middle_and_weights_slide_it() -> None:
    S = points(1)[0]
    T = grassmann.exp(S, tangent(S, 0.8))
    pair = torch.stack([S, T])
    assert float(grassmann.distance(grassmann.mean(pair), grassmann.geodesic(S, T, 0.5))) < 1e-12
    weighted = grassmann.frechet_mean(pair, torch.tensor([3.0, 1.0], dtype=F64))
    assert float(grassmann.distance(weighted, grassmann.geodesic(S, T, 0.25))) < 1e-12


def test_mean_that_does_not_settle_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grassmann, "_MEAN_STEPS", 1)
    with pytest.raises(ValueError, match=r"Ss: received subspaces whose mean did not settle in 1 steps"):
        grassmann.mean(points(9))


# ----------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("length", [0.0, 1e-5, 0.8, 3.0])
def test_gradient_of_exp(length: float) -> None:
    """Also where the velocity vanishes and where its singular values agree."""
    S = points(2, size=5, k=2)
    for G in (tangent(S, length), length * grassmann.log(*(x.expand(2, 6, 2) for x in planes_at(0.5, 0.5)))[:, :5]):
        assert torch.autograd.gradcheck(grassmann.exp, (S.clone().requires_grad_(), G.clone().requires_grad_()))


@pytest.mark.parametrize(("p", "q"), [(0.0, 0.0), (1e-9, 0.0), (1e-3, 2e-3), (0.7, 0.7), (3.0, 0.0), (12.0, 11.9)])
def test_divided_differences_against_high_precision(p: float, q: float) -> None:
    with mpmath.workdps(60):
        a, b = mpmath.mpf(p), mpmath.mpf(q)
        if a == b:
            b = a + mpmath.mpf(10) ** -20
        cos = (mpmath.cos(a) - mpmath.cos(b)) / (a**2 - b**2)
        sinc = (mpmath.sinc(a) - mpmath.sinc(b)) / (a**2 - b**2)
    tensors = torch.tensor(p, dtype=F64), torch.tensor(q, dtype=F64)
    assert float(grassmann._cos_slopes(*tensors)) == pytest.approx(float(cos), abs=1e-15)
    assert float(grassmann._sinc_slopes(*tensors)) == pytest.approx(float(sinc), abs=1e-15)


def test_gradient_of_distance_is_minus_the_unit_log() -> None:
    S, T = (x.requires_grad_() for x in (points(3), points(3, seed=1)))
    d = grassmann.distance(S, T)
    a, b = torch.autograd.grad(d.sum(), (S, T))
    scale = d.detach()[:, None, None]
    close(a, -grassmann.log(S, T).detach() / scale)
    close(b, -grassmann.log(T, S).detach() / scale)
    step = 1e-6
    V = tangent(S.detach(), seed=8)
    ends = [grassmann.distance(grassmann.exp(S.detach(), h * V), T.detach()) for h in (step, -step)]
    close((ends[0] - ends[1]) / (2 * step), (a * V).sum((-2, -1)), 1e-8)


def test_gradient_of_distance_at_zero_is_zero() -> None:
    S = points(2).requires_grad_()
    d = grassmann.distance(S, S.detach())
    (g,) = torch.autograd.grad(d.sum(), S)
    assert bool(torch.isfinite(g).all()) and float(g.norm()) < 2  # zero, or a unit vector of rounding


# ----------------------------------------------------------------------------------------- matrices and their repair


def test_reorthonormalize_keeps_the_columns_in_place() -> None:
    S = points(4)
    rough = S + 1e-3 * torch.randn(S.shape, generator=generator(2), dtype=F64)
    smooth = grassmann.reorthonormalize(rough)
    eye = torch.eye(3, dtype=F64).expand(4, -1, -1)
    close(smooth.mT @ smooth, eye, 1e-9)
    close(smooth, grassmann.project(rough), 1e-9)  # the nearest orthonormal matrix
    close(grassmann.reorthonormalize(smooth).mT @ grassmann.reorthonormalize(smooth), eye, 1e-15)


def test_random_subspaces_are_uniform() -> None:
    """|S^T u|^2 of a fixed unit u is Beta(k/2, (n-k)/2): mean k/n and its variance."""
    n, k, N = 10, 3, 20_000
    S = points(N, size=n, k=k)
    share = S[:, 0].square().sum(-1)
    mean, var = k / n, 2 * k * (n - k) / (n * n * (n + 2))
    assert abs(float(share.mean()) - mean) < 4 * (var / N) ** 0.5
    assert float(share.var()) == pytest.approx(var, rel=0.05)
    assert S.mT.is_contiguous()


SHAPES = (
    ("distance", (torch.eye(4)[:, :2], torch.eye(4)[:, :3]), "T: received shape (4, 3)"),
    ("distance", (torch.eye(4)[:, :2], torch.eye(4, dtype=F64)[:, :2]), "T: received shape (4, 2) of torch.float64"),
    ("principal_angles", (torch.eye(4)[:, :2], torch.eye(3)[:, :2]), "T: received shape (3, 2)"),
    ("exp", (torch.eye(2, 4), torch.eye(2, 4)), "S: received shape (2, 4)"),
    ("exp", (torch.eye(4, 2), torch.full((4, 2), math.nan)), "G: received NaN"),
    ("log", (torch.ones(4), torch.eye(4, 2)), "S: received shape (4,)"),
    ("project", (torch.ones(4, 2),), "M: received a matrix with linearly dependent columns"),
    ("project", (torch.full((4, 2), math.nan),), "M: received a matrix with linearly dependent columns, or NaN"),
    ("project", (torch.ones(4, 2, dtype=torch.int64),), "M: received torch.int64"),
    ("mean", (torch.eye(4, 2),), "Ss: received shape (4, 2)"),
    ("mean", (torch.eye(4, 2).expand(3, 4, 2), torch.tensor([1.0, -1.0, 1.0])), "weights: received values from -1"),
    ("random", (-1,), "n, size, subspace_dim: received -1"),
)


@pytest.mark.parametrize(("verb", "arguments", "message"), SHAPES, ids=lambda x: x if isinstance(x, str) else "")
def test_errors_name_the_argument(verb: str, arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        getattr(grassmann, verb)(*arguments)
    assert message in str(caught.value) and "Repair" in str(caught.value)
