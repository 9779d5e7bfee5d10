"""What the laws do not say about SO(3): the angle, Haar measure, the mean's messages."""

import math

import pytest
import torch

from repgeom.manifolds import rotations as r

EPS = {torch.float32: 1.2e-7, torch.float64: 2.3e-16}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-3, 1e-2, 1.0, 2.0, math.pi - 1e-2, math.pi - 1e-3, math.pi - 1e-4])
def test_angle_is_accurate_everywhere(angle: float, dtype: torch.dtype) -> None:
    """Two rotations in double precision at a known angle, then rounded."""
    a = r.random_rotations(5000, generator(), torch.float64)
    axis = torch.randn(5000, 3, generator=generator(1), dtype=torch.float64)
    b = r.exp(a, angle * axis / axis.norm(dim=-1, keepdim=True))
    assert (r.geodesic_angle(a.to(dtype), b.to(dtype)).double() - angle).abs().max() < 8 * EPS[dtype]


@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_gradient_of_the_angle(dtype: torch.dtype) -> None:
    a = r.random_rotations(100, generator(), dtype)
    half_turn = a @ torch.diag(torch.tensor([1, -1, -1], dtype=dtype))
    for b in (a, half_turn):
        x = a.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(r.geodesic_angle(x, b).sum(), x)
        assert torch.isfinite(gradient).all()
    v = torch.tensor([0.3, -0.2, 0.5], dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(r.geodesic_angle(a[0], r.exp(a[0], v)), v)
    torch.testing.assert_close(gradient, (v / v.norm()).detach())


def test_angle_broadcasts() -> None:
    a, b = r.random_rotations(4, generator()), r.random_rotations(3, generator(1))
    table = r.geodesic_angle(a[:, None], b)
    assert table.shape == (4, 3)
    torch.testing.assert_close(table[2, 1], r.geodesic_angle(a[2], b[1]))


def test_haar_statistics() -> None:
    """Mean angle pi / 2 + 2 / pi, median 132.35 degrees, 32.6 % beyond 150 degrees; first moments of R vanish."""
    R = r.random_rotations(200_000, generator(), torch.float64)
    angle = r.geodesic_angle(torch.eye(3, dtype=R.dtype), R)
    assert angle.mean().item() == pytest.approx(math.pi / 2 + 2 / math.pi, abs=0.005)
    grid = torch.linspace(0.2, 3.1, 30, dtype=R.dtype)
    below = (angle[:, None] < grid).double().mean(0)
    assert (below - (grid - grid.sin()) / math.pi).abs().max() < 0.005
    assert angle.rad2deg().median().item() == pytest.approx(132.35, abs=0.5)
    assert (angle.rad2deg() > 150).double().mean().item() == pytest.approx(0.326, abs=0.005)
    assert R.mean(0).abs().max() < 0.006
    assert (R.square().mean(0) - 1 / 3).abs().max() < 0.005


def test_random_arguments() -> None:
    assert r.random_rotations(3).dtype == torch.get_default_dtype()
    assert r.random(3, dtype=torch.float64).dtype == torch.float64
    with pytest.raises(ValueError, match=r"n: received -1; valid is .*Repair: "):
        r.random_rotations(-1)


def test_mean_messages() -> None:
    R = r.random_rotations(4, generator())
    with pytest.raises(ValueError, match=r"Rs: received shape \(0, 3, 3\); .*Repair: "):
        r.mean(R[:0])
    with pytest.raises(ValueError, match=r"weights: received shape \(3,\); .*Repair: "):
        r.mean(R, torch.ones(3))
    with pytest.raises(ValueError, match=r"weights: received values from -1 to 1; .*Repair: "):
        r.mean(R, torch.tensor([1.0, -1, 1, 1]))
    with pytest.raises(ValueError, match=r"Rs: received rotations whose mean did not settle .*Repair: "):
        r.mean(torch.full((4, 3, 3), torch.nan))


def test_mean_is_differentiable() -> None:
    v = torch.tensor([[0.1, 0.2, 0.3], [0.3, -0.2, 0.1], [0, 0.4, 0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: r.mean(r.from_rotvec(v)), v, atol=1e-6)


def test_verbs_refuse_wrong_shapes() -> None:
    R, v = torch.eye(3), torch.zeros(4)
    for call in (
        lambda: r.exp(R, v),
        lambda: r.log(R, v),
        lambda: r.transport(R, R, v),
        lambda: r.geodesic_angle(R, v),
        lambda: r.project(v),
        lambda: r.hat(v),
        lambda: r.vee(v),
        lambda: r.davenport_matrix(v),
        lambda: r.mean(v),
    ):
        with pytest.raises(ValueError, match=r"\w+: received shape \(4,\); valid is .*Repair: "):
            call()


def test_geodesic_times() -> None:
    R, S = r.random_rotations(2, generator(), torch.float64)
    times = torch.linspace(0, 1, 5, dtype=torch.float64)
    path = r.geodesic(R, S, times)
    assert path.shape == (5, 3, 3)
    torch.testing.assert_close(path[2], r.geodesic(R, S, 0.5))
