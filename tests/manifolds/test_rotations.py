"""Codes of SO(3): round trips, conventions, degenerate points, messages."""

import math

import mpmath
import pytest
import torch
from torch import Tensor

from repgeom.manifolds import rotations as r
from repgeom.nn.rotations import WIDTH, decode, encode

CODES = r.CODES
DTYPES = {"float32": torch.float32, "float64": torch.float64}
# importing torch's forward mode compiles some decompositions with a deprecated tool
FORWARD_MODE = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def half_turns(dtype: torch.dtype) -> Tensor:
    """Rotations by pi about the axes and about diagonals."""
    axes = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, -1, 1], [1, -1, 1]], dtype=dtype)
    u = axes / axes.norm(dim=-1, keepdim=True)
    return 2 * u[:, :, None] * u[:, None, :] - torch.eye(3, dtype=dtype)


def special(dtype: torch.dtype) -> Tensor:
    """Where codes break: the identity, half turns, gimbal lock, and their neighbours."""
    v = torch.tensor([[0, 0, 0], [1e-30, 0, 0], [1e-8, -1e-8, 0], [1e-4, 0, 1e-4], [0, math.pi / 2, 0]], dtype=dtype)
    lock = r.from_euler(torch.tensor([[0.3, s * (math.pi / 2 - d), -0.7] for s in (1, -1) for d in (0, 1e-7, 1e-3)]))
    return torch.cat([r.from_rotvec(v), half_turns(dtype), r.project(lock.to(dtype))])


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("code", CODES)
def test_round_trip(code: str, dtype: torch.dtype) -> None:
    R = torch.cat([r.random_rotations(10_000, generator(), dtype), special(dtype)])
    x = encode(code, R, check=True)
    assert x.shape == (len(R), WIDTH[code])
    assert (decode(code, x) - R).abs().max() < (5e-6 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("code", CODES)
def test_output_is_a_rotation(code: str, scale: float, dtype: torch.dtype) -> None:
    """Angles grow with the scale, and a float32 angle of 1e6 is known to 0.06: still a rotation, to rounding."""
    x = scale * torch.randn(10_000, WIDTH[code], generator=generator(), dtype=dtype)
    R = decode(code, x)
    limit = 20 * torch.finfo(dtype).eps
    assert (R.mT @ R - torch.eye(3, dtype=dtype)).abs().max() < limit
    assert (torch.linalg.det(R) - 1).abs().max() < limit


@pytest.mark.parametrize("code", ["6d", "9d", "10d", "quaternion"])
def test_scale_does_not_matter(code: str) -> None:
    x = torch.randn(1000, WIDTH[code], generator=generator(), dtype=torch.float64)
    for scale in (1e-100, 1e100):
        torch.testing.assert_close(decode(code, scale * x), decode(code, x), rtol=0, atol=1e-10)


def test_conventions_by_hand() -> None:
    """A quarter turn about z sends x to y; every code agrees on it."""
    R = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    half = math.sqrt(0.5)
    by_hand = {
        "6d": [0, 1, 0, -1, 0, 0],
        "5d": [0, 1, -1, 0, 0],
        "9d": [0, -1, 0, 1, 0, 0, 0, 0, 1],
        "10d": [-0.25, 0, 0, -0.5, 0.25, 0, 0, 0.25, 0, -0.25],
        "quaternion": [half, 0, 0, half],
        "rotvec": [0, 0, math.pi / 2],
        "axis_angle": [math.pi / 2, 0, 0, 1],
        "euler": [math.pi / 2, 0, 0],
    }
    assert set(by_hand) == set(CODES)
    for code, numbers in by_hand.items():
        x = torch.tensor(numbers, dtype=torch.float64)
        torch.testing.assert_close(encode(code, R), x, rtol=0, atol=1e-15, msg=code)
        torch.testing.assert_close(decode(code, x), R, rtol=0, atol=1e-15, msg=code)


def test_euler_order() -> None:
    """R = Rz(yaw) Ry(pitch) Rx(roll)."""
    a, b, c = 0.3, -0.5, 1.1
    z, y, x = (torch.tensor(v, dtype=torch.float64) for v in ([0, 0, a], [0, b, 0], [c, 0, 0]))
    product = r.from_rotvec(z) @ r.from_rotvec(y) @ r.from_rotvec(x)
    torch.testing.assert_close(r.from_euler(torch.tensor([a, b, c], dtype=torch.float64)), product)


def test_6d_by_rows_is_6d_of_the_transpose() -> None:
    """pytorch3d keeps the first two rows: its six numbers for R are ours for R^T."""
    R = r.random_rotations(100, generator(), torch.float64)
    rows = R[:, :2].flatten(1)
    assert torch.equal(r.to_6d(R.mT), rows)
    torch.testing.assert_close(r.from_6d(rows).mT, R)


def test_opposite_vectors_of_one_rotation() -> None:
    v = torch.randn(1000, 3, generator=generator(), dtype=torch.float64)
    other = (1 - 2 * math.pi / v.norm(dim=-1, keepdim=True)) * v
    torch.testing.assert_close(r.from_rotvec(other), r.from_rotvec(v), rtol=0, atol=1e-14)
    q = torch.randn(1000, 4, generator=generator(), dtype=torch.float64)
    assert torch.equal(r.from_quaternion(-q), r.from_quaternion(q))


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("angle", ["1e-12", "1e-7", "2.3e-4", "0.036", "1", "3", "pi-1e-3", "pi-1e-6", "pi-1e-9"])
def test_logarithm_against_mpmath(angle: str, dtype: torch.dtype) -> None:
    """The matrix is computed with 50 digits and rounded; its rotation vector must be right to that rounding."""
    with mpmath.workdps(50):
        theta = mpmath.pi - mpmath.mpf(angle[3:]) if angle.startswith("pi") else mpmath.mpf(angle)
        axis = mpmath.matrix([2, -6, 9]) / 11
        K = mpmath.matrix([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        exact = mpmath.eye(3) + mpmath.sin(theta) * K + (1 - mpmath.cos(theta)) * K * K
        R = torch.tensor([[float(exact[i, j]) for j in range(3)] for i in range(3)], dtype=torch.float64).to(dtype)
        v = torch.tensor([float(theta * a) for a in axis], dtype=torch.float64)
    eps = torch.finfo(dtype).eps
    assert (r.to_rotvec(R).double() - v).abs().max() < 4 * eps * max(1.0, float(theta))
    assert (r.from_rotvec(v.to(dtype)).double() - R.double()).abs().max() < 4 * eps * max(1.0, float(theta))
    half = torch.tensor([float(theta / 2)], dtype=torch.float64)
    q = torch.cat([half.cos(), half.sin() * torch.tensor([2, -6, 9]) / 11])
    assert (r.to_quaternion(R).double() - q).abs().max() < 4 * eps
    assert r.geodesic_angle(torch.eye(3, dtype=dtype), R).double().item() == pytest.approx(float(theta), abs=4 * eps)


@pytest.mark.parametrize("angle", [1e-30, 1e-12, 1e-8])
def test_small_rotations_keep_their_relative_accuracy(angle: float) -> None:
    v = angle * torch.tensor([0.6, 0.0, -0.8])
    torch.testing.assert_close(r.to_rotvec(r.from_rotvec(v)), v, rtol=1e-6, atol=0)


def sensible(code: str, n: int = 6, seed: int = 0) -> Tensor:
    """Inputs in double precision that no code breaks on."""
    return torch.randn(n, WIDTH[code], generator=generator(seed), dtype=torch.float64)


@FORWARD_MODE
@pytest.mark.parametrize("code", CODES)
def test_gradients_of_decoders(code: str) -> None:
    x = sensible(code).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: decode(code, x), x, check_forward_ad=True, atol=1e-6)
    assert torch.autograd.gradgradcheck(lambda x: decode(code, x), x, atol=1e-5)


@pytest.mark.parametrize("code", CODES)
def test_gradients_of_encoders(code: str) -> None:
    """Along the group: x(t) = code of R Exp(t v)."""
    R = r.random_rotations(6, generator(1), torch.float64)
    v = torch.zeros(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: encode(code, r.exp(R, v)), v, atol=1e-6)


@FORWARD_MODE
@pytest.mark.parametrize("code", CODES)
def test_adjoint_identity(code: str) -> None:
    """<J' g, v> = <g, J v>: backward and forward mode are written separately, and must be transposes."""
    x = sensible(code, 1000)
    v = torch.randn(x.shape, generator=generator(2), dtype=torch.float64)
    g = torch.randn(1000, 3, 3, generator=generator(3), dtype=torch.float64)
    R, Jv = torch.func.jvp(lambda x: decode(code, x), (x,), (v,))
    _, pull = torch.func.vjp(lambda x: decode(code, x), x)
    left, right = (pull(g)[0] * v).sum(-1), (g * Jv).sum((-2, -1))
    assert ((left - right).abs() / (1 + left.abs())).max() < 1e-9
    assert (R.mT @ Jv + Jv.mT @ R).abs().max() < 1e-9 * Jv.abs().max()  # tangent to the group


@FORWARD_MODE
@pytest.mark.parametrize("code", CODES)
def test_per_sample_jacobians(code: str) -> None:
    """vmap, forward and reverse, gives the Jacobian that one sample has alone."""
    x = sensible(code, 5)
    forward = torch.func.vmap(torch.func.jacfwd(lambda x: decode(code, x)))(x)
    reverse = torch.func.vmap(torch.func.jacrev(lambda x: decode(code, x)))(x)
    torch.testing.assert_close(forward, reverse)
    alone = torch.autograd.functional.jacobian(lambda x: decode(code, x), x[3])
    torch.testing.assert_close(forward[3], alone)


DEGENERATE = {
    "6d": [[0, 0, 0, 0, 0, 0], [1, 0, 0, 2, 0, 0], [0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0]],
    "5d": [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]],
    "9d": [
        [0] * 9,
        [1, *[0] * 8],
        [1, 0, 0, 0, 1, 0, 0, 0, 1],
        [1, 0, 0, 0, 1, 0, 0, 0, -1],
        [2, 0, 0, 0, 1, *[0] * 4],
    ],
    "10d": [[0] * 10, [1, 0, 0, 0, 1, 0, 0, 1, 0, 1], [-1, 0, 0, 0, 1, 0, 0, 1, 0, 1], [1, 0, 0, 0, 0, 0, 0, 1, 0, 0]],
    "quaternion": [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]],
    "rotvec": [[0, 0, 0], [math.pi, 0, 0], [0, 2 * math.pi, 0], [1e-30, 0, 0]],
    "axis_angle": [[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [math.pi, 0, 0, 1]],
    "euler": [[0, 0, 0], [0.3, math.pi / 2, 0.2]],
}


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("code", CODES)
def test_gradients_are_finite_at_degenerate_points(code: str, dtype: torch.dtype) -> None:
    x = torch.tensor(DEGENERATE[code], dtype=dtype, requires_grad=True)
    R = decode(code, x)
    assert torch.isfinite(R).all()
    weights = torch.randn(R.shape, generator=generator(), dtype=dtype)
    (gradient,) = torch.autograd.grad((R * weights).sum(), x)
    assert torch.isfinite(gradient).all()
    R = special(dtype).requires_grad_()
    y = encode(code, R)
    weights = torch.randn(y.shape, generator=generator(), dtype=dtype)
    (gradient,) = torch.autograd.grad((y * weights).sum(), R)
    assert torch.isfinite(gradient).all()


def test_gradient_of_the_exponential_at_zero_is_exact() -> None:
    """dR = [dv]x at v = 0, not a rounded or a dropped one."""
    J = torch.autograd.functional.jacobian(r.from_rotvec, torch.zeros(3))
    assert torch.equal(J, torch.stack([r.hat(e) for e in torch.eye(3)], dim=-1))


@pytest.mark.parametrize("size", [1e-9, 1e-3, 9e-3, 2e-2, 0.1, 0.2, 1.0, 3.0])
def test_derivative_of_the_exponential_against_its_series(size: float) -> None:
    """R^T dR = [J dv]x with J = sum over k of (-[v]x)^k / (k + 1)!, on both sides of every switch to a series."""
    direction = torch.tensor([2.0, -6.0, 9.0], dtype=torch.float64) / 11
    for dtype in DTYPES.values():
        v = (size * direction).to(dtype)
        power = J = torch.eye(3, dtype=torch.float64)
        for k in range(1, 40):
            power = power @ -r.hat(v.double()) / (k + 1)
            J = J + power
        R = r.from_rotvec(v.double())
        dR = torch.autograd.functional.jacobian(r.from_rotvec, v).double()
        w = r.vee(R.mT @ dR.movedim(-1, 0)).mT
        assert (w - J).abs().max() < 8 * torch.finfo(dtype).eps


def test_hat_and_vee() -> None:
    u, v = torch.randn(2, 50, 3, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close((r.hat(u) @ v[..., None]).squeeze(-1), torch.linalg.cross(u, v))
    assert torch.equal(r.vee(r.hat(v)), v)
    A = torch.randn(5, 3, 3, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(r.hat(r.vee(A)), (A - A.mT) / 2)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("batch", [(), (0,), (2, 3), (1, 0, 2)])
def test_batch_shapes(code: str, batch: tuple[int, ...]) -> None:
    x = torch.randn(*batch, WIDTH[code], generator=generator())
    R = decode(code, x)
    assert R.shape == (*batch, 3, 3)
    assert R.is_contiguous()
    assert encode(code, R, check=True).shape == x.shape


@pytest.mark.parametrize("code", CODES)
def test_bad_input(code: str) -> None:
    k = WIDTH[code]
    with pytest.raises(ValueError, match=r"x: received .*; valid is .*Repair: "):
        decode(code, torch.zeros(4, k + 1))
    with pytest.raises(ValueError, match=r"x: received torch.int64; valid is float32 or float64.*Repair: "):
        decode(code, torch.zeros(4, k, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"x: received list; valid is a torch tensor.*Repair: "):
        decode(code, [0.0] * k)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"R: received shape \(4, 3\); .*Repair: "):
        encode(code, torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"R: received matrices with .* up to 3; .*Repair: project"):
        encode(code, 2 * torch.eye(3), check=True)
    with pytest.raises(ValueError, match=r"R: received matrices .* up to nan; .*Repair: project"):
        encode(code, torch.full((3, 3), torch.nan), check=True)
    with pytest.raises(ValueError, match=r"R: received a reflection .*Repair: project"):
        encode(code, -torch.eye(3), check=True)


def test_checks_of_values_are_off_in_training_graphs() -> None:
    """A matrix that requires gradients belongs to a training loop: it is converted as it is."""
    r.to_6d((2 * torch.eye(3)).requires_grad_())
    r.to_6d(2 * torch.eye(3), check=False)


@pytest.mark.filterwarnings("ignore")  # torch.compile warns about its own internals
@pytest.mark.parametrize("code", ["6d", "9d", "quaternion", "rotvec"])
def test_torch_compile_changes_nothing(code: str) -> None:
    """The code writes into tensors in place here and there; tracing must see that. No compiler is needed for this."""
    x = torch.randn(64, WIDTH[code], generator=generator(), requires_grad=True)
    G = torch.randn(64, 3, 3, generator=generator(1))
    torch._dynamo.reset()
    traced = torch.compile(lambda x: decode(code, x), backend="aot_eager")
    R, S = decode(code, x), traced(x)
    torch.testing.assert_close(S, R, rtol=0, atol=1e-5)
    ours, theirs = (torch.autograd.grad((out * G).sum(), x)[0] for out in (R, S))
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
