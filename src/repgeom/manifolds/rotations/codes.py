"""Ways to write a rotation as numbers, and back. What holds for every SO(n), 5D included, stands in :mod:`.columns`."""

import torch
from torch import Tensor

from repgeom.manifolds import thresholds
from repgeom.manifolds.checks import checked_rotation, require_shape
from repgeom.manifolds.rotations.algebra import back, unit
from repgeom.manifolds.rotations.columns import to_columns
from repgeom.manifolds.rotations.decoders import Quaternion, RotationVector, SixD
from repgeom.manifolds.rotations.procrustes import nearest_rotation


def _checked(R: Tensor, check: bool) -> Tensor:
    require_shape("R", R, 3, 3)
    return checked_rotation("R", R, check)


def from_6d(x: Tensor) -> Tensor:
    r"""Gram-Schmidt on two columns: the 6D code.

    b_1 = a_1 / |a_1|, b_3 = N(b_1 x a_2), b_2 = b_3 x b_1, where N divides by the norm. Undefined where a_1 and a_2 are
    parallel: there columns are zero, and gradients finite. Rounding grows as |a_1| |a_2| / |a_1 x a_2|.

    Args:
        x: (..., 6) first column a_1, then second column a_2; any length.

    Returns:
        (..., 3, 3) rotation.

    Raises:
        ValueError: the last dimension is not 6, or the dtype is neither float32 nor float64.

    Source: Zhou et al. 2019, p. 4-5; derivative in :mod:`.decoders`.

    >>> from_6d(torch.tensor([2.0, 0.0, 0.0, 5.0, 3.0, 0.0]))
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    require_shape("x", x, 6)
    return SixD.apply(x)[0]


def to_6d(R: Tensor, *, check: bool = True) -> Tensor:
    r"""The first two columns of a rotation, one after the other.

    Args:
        R: (..., 3, 3) rotation.
        check: verify that R is a rotation; costs a pass over the data, so turn it off in training loops.

    Returns:
        (..., 6).

    Raises:
        ValueError: R is not a rotation (with ``check``), or the dtype is neither float32 nor float64.

    Source: Zhou et al. 2019, p. 4.

    >>> to_6d(torch.eye(3))
    tensor([1., 0., 0., 0., 1., 0.])
    """
    require_shape("R", R, 3, 3)
    return to_columns(R, check=check)


def from_9d(x: Tensor) -> Tensor:
    r"""The rotation nearest to any 3 x 3 matrix: the 9D code, decoded by SVD ("SVDO+").

    M = U diag(s) V^T -> R = U diag(1, 1, det U det V) V^T; computed without an SVD, see :mod:`.procrustes`. Undefined
    where s_2 + sign(det M) s_3 = 0: there one of the nearest rotations is returned, and gradients are finite.

    Args:
        x: (..., 9) matrix M row by row, of any scale.

    Returns:
        (..., 3, 3) rotation.

    Raises:
        ValueError: the last dimension is not 9, or the dtype is neither float32 nor float64.

    Source: Levinson et al. 2020; ``from_9d_svd`` is the slow twin.

    >>> from_9d(torch.tensor([3.0, 0, 0, 0, 2, 0, 0, 0, 1]))
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    require_shape("x", x, 9)
    return nearest_rotation(x.unflatten(-1, (3, 3)))


def to_9d(R: Tensor, *, check: bool = True) -> Tensor:
    r"""The matrix itself, row by row (the result may share memory with R).

    Args:
        R: (..., 3, 3) rotation.
        check: verify that R is a rotation; costs a pass over the data, so turn it off in training loops.

    Returns:
        (..., 9).

    Raises:
        ValueError: R is not a rotation (with ``check``), or the dtype is neither float32 nor float64.

    Source: Levinson et al. 2020.

    >>> to_9d(torch.eye(3))
    tensor([1., 0., 0., 0., 1., 0., 0., 0., 1.])
    """
    return _checked(R, check).flatten(-2)


def from_10d(x: Tensor) -> Tensor:
    r"""The eigenvector of the smallest eigenvalue of a symmetric 4 x 4 matrix, read as a quaternion: the 10D code.

    A = A(x), A q = lambda_min q, R = R(q). The eigenvector of the smallest eigenvalue of A is that of the largest of
    K(M) = (tr A / 4) I - A, which is Davenport's matrix of exactly one M. So this is :func:`from_9d` in other
    coordinates, and computed that way. Undefined where the smallest eigenvalue is double; finite there, as from_9d.

    Args:
        x: (..., 10) upper triangle of A row by row: ww, wx, wy, wz, xx, xy, xz, yy, yz, zz.

    Returns:
        (..., 3, 3) rotation.

    Raises:
        ValueError: the last dimension is not 10, or the dtype is neither float32 nor float64.

    Source: Peretroukhin et al. 2020; ``from_10d_eigh`` is the slow twin.

    >>> from_10d(torch.tensor([-1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    require_shape("x", x, 10)
    ww, wx, wy, wz, xx, xy, xz, yy, yz, zz = x.unbind(-1)
    half = (ww + xx + yy + zz) / 2
    rows = [half - ww - xx, wz - xy, -xz - wy, -xy - wz, half - ww - yy, wx - yz, wy - xz, -yz - wx, half - ww - zz]
    return nearest_rotation(torch.stack(rows, dim=-1).unflatten(-1, (3, 3)))


def to_10d(R: Tensor, *, check: bool = True) -> Tensor:
    r"""The traceless matrix A = I / 4 - q q^T of the quaternion q of R, which does not depend on the sign of q.

    A = -K(R) / 4 with K from :func:`davenport_matrix`: linear in R, so this code is as continuous as 9D.

    Args:
        R: (..., 3, 3) rotation.
        check: verify that R is a rotation; costs a pass over the data, so turn it off in training loops.

    Returns:
        (..., 10) upper triangle of A row by row: ww, wx, wy, wz, xx, xy, xz, yy, yz, zz.

    Raises:
        ValueError: R is not a rotation (with ``check``), or the dtype is neither float32 nor float64.

    Source: Peretroukhin et al. 2020 for the decoder; they leave the encoder open.

    >>> to_10d(torch.eye(3)) + 0.0
    tensor([-0.7500,  0.0000,  0.0000,  0.0000,  0.2500,  0.0000,  0.0000,  0.2500,
             0.0000,  0.2500])
    """
    a, b, c, d, e, f, g, h, i = _checked(R, check).flatten(-2).unbind(-1)
    squares = [-a - e - i, e + i - a, a + i - e, a + e - i]
    ww, xx, yy, zz = squares
    wx, wy, wz, xy, xz, yz = f - h, g - c, b - d, -b - d, -c - g, -f - h
    return torch.stack([ww, wx, wy, wz, xx, xy, xz, yy, yz, zz], dim=-1) / 4


def from_quaternion(x: Tensor) -> Tensor:
    r"""The rotation of a quaternion of any length.

    R = I + s (w [u]x + [u]x^2) for q = (w, u), s = 2 / |q|^2. The zero quaternion gives the identity.

    Args:
        x: (..., 4) quaternion (w, x, y, z), scalar first.

    Returns:
        (..., 3, 3) rotation.

    Raises:
        ValueError: the last dimension is not 4, or the dtype is neither float32 nor float64.

    Source: standard; derivative in :mod:`.decoders`.

    >>> from_quaternion(torch.tensor([0.0, 2.0, 0.0, 0.0]))
    tensor([[ 1.,  0.,  0.],
            [ 0., -1.,  0.],
            [ 0.,  0., -1.]])
    """
    require_shape("x", x, 4)
    return Quaternion.apply(x)[0]


def to_quaternion(R: Tensor, *, check: bool = True) -> Tensor:
    r"""The unit quaternion with w >= 0, accurate for every rotation.

    4 q q^T is linear in R; its column with the largest diagonal entry, which is at least 1, is normalised.

    Args:
        R: (..., 3, 3) rotation.
        check: verify that R is a rotation; costs a pass over the data, so turn it off in training loops.

    Returns:
        (..., 4) quaternion (w, x, y, z); rotations by 180 degrees have two, of which one is returned.

    Raises:
        ValueError: R is not a rotation (with ``check``), or the dtype is neither float32 nor float64.

    Source: Bar-Itzhack 2000; Shepperd 1978 for the choice of column.

    >>> to_quaternion(torch.diag(torch.tensor([1.0, -1.0, -1.0])))
    tensor([0., 1., 0., 0.])
    """
    a, b, c, d, e, f, g, h, i = _checked(R, check).flatten(-2).unbind(-1)
    ww, xx, yy, zz = 1 + a + e + i, 1 + a - e - i, 1 - a + e - i, 1 - a - e + i
    wx, wy, wz, xy, xz, yz = h - f, c - g, d - b, d + b, c + g, h + f
    w_or_x, y_or_z = ww >= xx, yy >= zz
    w_and_x = torch.maximum(ww, xx) >= torch.maximum(yy, zz)

    def column(of_w: Tensor, of_x: Tensor, of_y: Tensor, of_z: Tensor) -> Tensor:
        return torch.where(w_and_x, torch.where(w_or_x, of_w, of_x), torch.where(y_or_z, of_y, of_z))

    rows = [column(ww, wx, wy, wz), column(wx, xx, xy, xz), column(wy, xy, yy, yz), column(wz, xz, yz, zz)]
    q = torch.stack(rows)
    q = q * torch.where(q[0] < 0, -1, 1) / q.square().sum(0).sqrt()
    return back(q, 1)


def from_rotvec(x: Tensor) -> Tensor:
    r"""The exponential map: the rotation by |v| radians about v (Rodrigues).

    R = I + A [v]x + B [v]x^2, A = sin t / t, B = (1 - cos t) / t^2, t = |v|; smooth at v = 0.

    Args:
        x: (..., 3) rotation vector v, radians; v and (1 - 2 pi / |v|) v are the same rotation.

    Returns:
        (..., 3, 3) rotation.

    Raises:
        ValueError: the last dimension is not 3, or the dtype is neither float32 nor float64.

    Source: Rodrigues; derivative in :mod:`.decoders`.

    >>> from_rotvec(torch.tensor([0.0, 0.0, torch.pi / 2], dtype=torch.float64)).round(decimals=6) + 0.0
    tensor([[ 0., -1.,  0.],
            [ 1.,  0.,  0.],
            [ 0.,  0.,  1.]], dtype=torch.float64)
    """
    require_shape("x", x, 3)
    return RotationVector.apply(x)[0]


def to_rotvec(R: Tensor, *, check: bool = True) -> Tensor:
    r"""The logarithm: the rotation vector of length at most pi, accurate near 0 and near pi.

    v = 2 atan2(|u|, w) u / |u| for the unit quaternion (w, u) with w >= 0; a series replaces the quotient near zero.

    Args:
        R: (..., 3, 3) rotation.
        check: verify that R is a rotation; costs a pass over the data, so turn it off in training loops.

    Returns:
        (..., 3) rotation vector, radians; rotations by pi have two, of which one is returned.

    Raises:
        ValueError: R is not a rotation (with ``check``), or the dtype is neither float32 nor float64.

    Source: standard; through the quaternion because the formula with R - R^T loses all digits near pi.

    >>> to_rotvec(torch.diag(torch.tensor([1.0, -1.0, -1.0])))
    tensor([3.1416, 0.0000, 0.0000])
    """
    q = to_quaternion(R, check=check)
    w, u = q[..., :1], q[..., 1:]
    square = u.square().sum(-1, keepdim=True)
    small = square < thresholds.series_radius(R.dtype) ** 2
    # both branches get harmless arguments where the other one is used, so that neither puts NaN into the gradient
    ratio = torch.where(small, square / w.square().clamp_min(0.5), 0)
    series = 2 / w.clamp_min(0.5) * (1 - ratio * (1 / 3 - ratio * (1 / 5 - ratio / 7)))
    sine = torch.where(small, 1, square).sqrt()
    return u * torch.where(small, series, 2 * torch.atan2(sine, w) / sine)


def from_axis_angle(x: Tensor) -> Tensor:
    r"""The rotation by an angle about an axis of any length: :func:`from_rotvec` of angle * axis / |axis|.

    A zero axis gives the identity.

    Args:
        x: (..., 4) (angle in radians, axis_x, axis_y, axis_z).

    Returns:
        (..., 3, 3) rotation.

    Raises:
        ValueError: the last dimension is not 4, or the dtype is neither float32 nor float64.

    Source: Zhou et al. 2019, supplement; their decoder also squashes the angle by pi tanh, this one does not.

    >>> from_axis_angle(torch.tensor([torch.pi, 2.0, 0.0, 0.0])).diagonal().round()
    tensor([ 1., -1., -1.])
    """
    require_shape("x", x, 4)
    return from_rotvec(x[..., :1] * unit(x[..., 1:]))


def to_axis_angle(R: Tensor, *, check: bool = True) -> Tensor:
    r"""Angle in [0, pi] and unit axis; the identity gets the axis (1, 0, 0).

    Args:
        R: (..., 3, 3) rotation.
        check: verify that R is a rotation; costs a pass over the data, so turn it off in training loops.

    Returns:
        (..., 4): (angle in radians, axis_x, axis_y, axis_z).

    Raises:
        ValueError: R is not a rotation (with ``check``), or the dtype is neither float32 nor float64.

    Source: standard.

    >>> to_axis_angle(torch.diag(torch.tensor([-1.0, 1.0, -1.0])))
    tensor([3.1416, 0.0000, 1.0000, 0.0000])
    """
    v = to_rotvec(R, check=check)
    angle = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    first = torch.eye(3, dtype=v.dtype, device=v.device)[0]
    return torch.cat([angle, torch.where(angle == 0, first, unit(v))], dim=-1)


def from_euler(x: Tensor) -> Tensor:
    r"""Intrinsic ZYX angles: R = Rz(yaw) Ry(pitch) Rx(roll).

    Args:
        x: (..., 3) (yaw, pitch, roll), radians.

    Returns:
        (..., 3, 3) rotation.

    Raises:
        ValueError: the last dimension is not 3, or the dtype is neither float32 nor float64.

    Source: standard; scipy's ``from_euler('ZYX', ...)``.

    >>> from_euler(torch.tensor([torch.pi / 2, 0.0, 0.0])).round() + 0.0
    tensor([[ 0., -1.,  0.],
            [ 1.,  0.,  0.],
            [ 0.,  0.,  1.]])
    """
    require_shape("x", x, 3)
    (ca, cb, cc), (sa, sb, sc) = x.cos().unbind(-1), x.sin().unbind(-1)
    rows = [
        ca * cb, ca * sb * sc - sa * cc, ca * sb * cc + sa * sc,
        sa * cb, sa * sb * sc + ca * cc, sa * sb * cc - ca * sc,
        -sb, cb * sc, cb * cc,
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def to_euler(R: Tensor, *, check: bool = True) -> Tensor:
    r"""Intrinsic ZYX angles of R = Rz(yaw) Ry(pitch) Rx(roll), yaw and roll in [-pi, pi], pitch in [-pi / 2, pi / 2].

    Near gimbal lock (cos pitch = 0) yaw and roll are badly determined, but their combination is not: roll is computed
    after undoing yaw, so that the angles still decode to R. In lock itself roll is set to zero.

    Args:
        R: (..., 3, 3) rotation.
        check: verify that R is a rotation; costs a pass over the data, so turn it off in training loops.

    Returns:
        (..., 3): (yaw, pitch, roll), radians.

    Raises:
        ValueError: R is not a rotation (with ``check``), or the dtype is neither float32 nor float64.

    Source: standard.

    >>> to_euler(from_euler(torch.tensor([0.3, 0.2, 0.1]))).round(decimals=4)
    tensor([0.3000, 0.2000, 0.1000])
    """
    a, b, c, d, e, f, g, _, _ = _checked(R, check).flatten(-2).unbind(-1)
    locked = torch.maximum(a.abs(), d.abs()) < 8 * thresholds.eps(R.dtype)
    # hypot, and atan2 at (0, 0), have NaN gradients: in lock they get (1, 0), and the branch below decides
    cos_pitch = torch.hypot(torch.where(locked, 1, a), torch.where(locked, 0, d))
    pitch = torch.atan2(-g, torch.where(locked, 0, cos_pitch))
    yaw = torch.atan2(torch.where(locked, -b, d), torch.where(locked, e, a))
    roll = torch.atan2(yaw.sin() * c - yaw.cos() * f, yaw.cos() * e - yaw.sin() * b)
    return torch.stack([yaw, pitch, roll], dim=-1)
