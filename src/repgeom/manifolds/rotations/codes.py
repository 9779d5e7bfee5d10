"""Eight ways to write a rotation as numbers, and back; here those of SO(3), in :mod:`.columns` those of every SO(n)."""

import torch
from torch import Tensor

from repgeom.manifolds import thresholds
from repgeom.manifolds.checks import require_rotation, require_shape
from repgeom.manifolds.rotations.algebra import matrix, unit
from repgeom.manifolds.rotations.procrustes import nearest_rotation


def _checked(R: Tensor, check: bool) -> Tensor:
    require_shape("R", R, 3, 3)
    if check and not R.requires_grad and not torch.compiler.is_compiling():
        require_rotation("R", R)
    return R


def from_6d(x: Tensor) -> Tensor:
    require_shape("x", x, 6)
    a, b = x[..., :3], x[..., 3:]
    first = unit(a)
    third = unit(torch.linalg.cross(first, b, dim=-1))
    return torch.stack([first, torch.linalg.cross(third, first, dim=-1), third], dim=-1)


def to_6d(R: Tensor, *, check: bool = True) -> Tensor:
    return _checked(R, check)[..., :2].mT.flatten(-2)


def from_9d(x: Tensor) -> Tensor:
    require_shape("x", x, 9)
    return nearest_rotation(x.unflatten(-1, (3, 3)))


def to_9d(R: Tensor, *, check: bool = True) -> Tensor:
    return _checked(R, check).flatten(-2)


def from_10d(x: Tensor) -> Tensor:
    require_shape("x", x, 10)
    ww, wx, wy, wz, xx, xy, xz, yy, yz, zz = x.unbind(-1)
    half = (ww + xx + yy + zz) / 2
    M = matrix(half - ww - xx, wz - xy, -xz - wy, -xy - wz, half - ww - yy, wx - yz, wy - xz, -yz - wx, half - ww - zz)
    return nearest_rotation(M)


def to_10d(R: Tensor, *, check: bool = True) -> Tensor:
    q = to_quaternion(R, check=check)
    A = torch.eye(4, dtype=R.dtype, device=R.device) / 4 - q[..., :, None] * q[..., None, :]
    i, j = torch.triu_indices(4, 4, device=R.device)
    return A[..., i, j]


def from_quaternion(x: Tensor) -> Tensor:
    require_shape("x", x, 4)
    w, i, j, k = unit(x).unbind(-1)
    return matrix(
        1 - 2 * (j * j + k * k), 2 * (i * j - k * w), 2 * (i * k + j * w),
        2 * (i * j + k * w), 1 - 2 * (i * i + k * k), 2 * (j * k - i * w),
        2 * (i * k - j * w), 2 * (j * k + i * w), 1 - 2 * (i * i + j * j),
    )  # fmt: skip


def to_quaternion(R: Tensor, *, check: bool = True) -> Tensor:
    a, b, c, d, e, f, g, h, i = _checked(R, check).flatten(-2).unbind(-1)
    ww, xx, yy, zz = 1 + a + e + i, 1 + a - e - i, 1 - a + e - i, 1 - a - e + i
    wx, wy, wz, xy, xz, yz = h - f, c - g, d - b, d + b, c + g, h + f
    is_w = (ww >= xx) & (ww >= yy) & (ww >= zz)
    is_x = (xx >= yy) & (xx >= zz)
    is_y = yy >= zz

    def pick(from_w: Tensor, from_x: Tensor, from_y: Tensor, from_z: Tensor) -> Tensor:
        return torch.where(is_w, from_w, torch.where(is_x, from_x, torch.where(is_y, from_y, from_z)))

    q = torch.stack([pick(ww, wx, wy, wz), pick(wx, xx, xy, xz), pick(wy, xy, yy, yz), pick(wz, xz, yz, zz)], dim=-1)
    q = unit(q)
    return torch.where(q[..., :1] < 0, -q, q)


def from_rotvec(x: Tensor) -> Tensor:
    require_shape("x", x, 3)
    half = (x.square().sum(-1, keepdim=True).clamp_min(thresholds.smallest_norm(x.dtype)) / 4).sqrt()
    return from_quaternion(torch.cat([half.cos(), half.sin() / half * (x / 2)], dim=-1))


def to_rotvec(R: Tensor, *, check: bool = True) -> Tensor:
    q = to_quaternion(R, check=check)
    w, u = q[..., :1], q[..., 1:]
    square = u.square().sum(-1, keepdim=True)
    small = square < thresholds.series_radius(R.dtype) ** 2
    sine = torch.where(small, torch.ones_like(square), square).sqrt()
    cosine = torch.where(small, w, torch.ones_like(w))
    r2 = torch.where(small, square, torch.zeros_like(square)) / cosine.square()
    series = 2 / cosine * (1 - r2 * (1 / 3 - r2 * (1 / 5 - r2 / 7)))
    return u * torch.where(small, series, 2 * torch.atan2(sine, w) / sine)


def from_axis_angle(x: Tensor) -> Tensor:
    require_shape("x", x, 4)
    half = x[..., :1] / 2
    return from_quaternion(torch.cat([half.cos(), half.sin() * unit(x[..., 1:])], dim=-1))


def to_axis_angle(R: Tensor, *, check: bool = True) -> Tensor:
    v = to_rotvec(R, check=check)
    angle = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    axis = unit(v)
    first = torch.zeros_like(v)
    first[..., 0] = 1
    return torch.cat([angle, torch.where(angle == 0, first, axis)], dim=-1)


def from_euler(x: Tensor) -> Tensor:
    require_shape("x", x, 3)
    (ca, cb, cc), (sa, sb, sc) = x.cos().unbind(-1), x.sin().unbind(-1)
    return matrix(
        ca * cb, ca * sb * sc - sa * cc, ca * sb * cc + sa * sc,
        sa * cb, sa * sb * sc + ca * cc, sa * sb * cc - ca * sc,
        -sb, cb * sc, cb * cc,
    )  # fmt: skip


def to_euler(R: Tensor, *, check: bool = True) -> Tensor:
    R = _checked(R, check)
    cos_pitch = torch.hypot(R[..., 0, 0], R[..., 1, 0])
    locked = cos_pitch < 8 * thresholds.eps(R.dtype)
    pitch = torch.atan2(-R[..., 2, 0], cos_pitch)
    yaw = torch.atan2(torch.where(locked, -R[..., 0, 1], R[..., 1, 0]), torch.where(locked, R[..., 1, 1], R[..., 0, 0]))
    one = torch.ones_like(pitch)
    roll = torch.atan2(
        torch.where(locked, torch.zeros_like(one), R[..., 2, 1]), torch.where(locked, one, R[..., 2, 2])
    )
    return torch.stack([yaw, pitch, roll], dim=-1)
