r"""Three decoders with a hand-written derivative: 6D, quaternion and rotation vector.

A decoder is a map x -> R(x) into SO(3), so its differential is a rotation vector in the body frame:

    dR = R [w]x,   w = J(x) dx        (push)
    dL/dx = J(x)^T b,   b = axial(R^T G) = (A21 - A12, A02 - A20, A10 - A01) with A = R^T G, G = dL/dR        (pull)

Each class gives the map, J and J^T; :class:`_Decoder` does the rest. Autograd would keep and revisit every intermediate
tensor; written out, the backward pass costs about as much as the forward pass. Components stand first here: (k, ...).
"""

from typing import Any

import torch
from torch import Tensor

from repgeom.manifolds import thresholds
from repgeom.manifolds.rotations.algebra import back, cross_, dot_, front, hat_, matmul_, unit_


class _Decoder(torch.autograd.Function):
    """What the three share. Everything is batched over leading dimensions, so vmap may be derived from the code."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Keep x and R."""
        ctx.save_for_backward(*inputs, output)
        ctx.save_for_forward(*inputs, output)


def _torque(R: Tensor, G: Tensor) -> Tensor:
    """axial(R^T G) for matrices (3, 3, ...) without forming the product: the sum over rows of G_row x R_row."""
    return cross_(G[0], R[0]) + cross_(G[1], R[1]) + cross_(G[2], R[2])


class SixD(_Decoder):
    r"""x = (a, b) -> columns (first, second, third) by Gram-Schmidt.

    With da, db written in the frame of the columns, beta = first . b and gamma = second . b,
    w = ( (db_3 - da_3 beta / |a|) / gamma,  -da_3 / |a|,  da_2 / |a| ).
    """

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        """R (..., 3, 3) from x (..., k)."""
        a, b = front(x).split(3)
        first = unit_(a)
        third = cross_(first, b)
        # where a and b are nearly parallel, rounding leaves a part along the first column: remove it before scaling up
        third = unit_(third - first * dot_(first, third))
        return back(torch.stack([first, cross_(third, first), third], dim=1), 2)

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Tensor:
        """dL/dx from G = dL/dR."""
        x, R = ctx.saved_tensors
        columns = front(R, 2)
        t = _torque(columns, front(G, 2))
        inverse_a, beta, inverse_gamma = _lengths(front(x), columns)
        db_3 = t[0] * inverse_gamma
        da_2, da_3 = t[2] * inverse_a, -(t[1] + db_3 * beta) * inverse_a
        return back(torch.cat([columns[:, 1] * da_2 + columns[:, 2] * da_3, columns[:, 2] * db_3]), 1)

    @staticmethod
    def jvp(ctx: Any, dx: Tensor) -> Tensor:
        """dR from dx."""
        x, R = ctx.saved_tensors
        columns = front(R, 2)
        inverse_a, beta, inverse_gamma = _lengths(front(x), columns)
        da, db = front(dx).split(3)
        da_2, da_3 = dot_(columns[:, 1], da) * inverse_a, dot_(columns[:, 2], da) * inverse_a
        w = torch.stack([(dot_(columns[:, 2], db) - da_3 * beta) * inverse_gamma, -da_3, da_2])
        return _moved(columns, w)


def _lengths(x: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """1 / |a|, beta and 1 / gamma of :class:`SixD`; where a length is zero the inverse is large but finite."""
    a, b = x.split(3)
    smallest = thresholds.smallest_norm(x.dtype)
    inverse_a = 1 / dot_(columns[:, 0], a).clamp_min(smallest)
    return inverse_a, dot_(columns[:, 0], b), 1 / dot_(columns[:, 1], b).clamp_min(smallest)


class Quaternion(_Decoder):
    r"""q = (w, u) of any length -> R = I + s (w [u]x + [u]x^2) with s = 2 / |q|^2.

    q^-1 dq = (., w / 2), so w = s vec(conj(q) dq) and J^T b = s q (0, b), products of quaternions.
    """

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        """R (..., 3, 3) from x (..., k)."""
        q = front(x)
        sq = q * _scale(q)
        (wx, wy, wz), (xx, xy, xz), (yy, yz), zz = sq[0] * q[1:], sq[1] * q[1:], sq[2] * q[2:], sq[3] * q[3]
        rows = [1 - yy - zz, xy - wz, xz + wy, xy + wz, 1 - xx - zz, yz - wx, xz - wy, yz + wx, 1 - xx - yy]
        return back(torch.stack(rows).unflatten(0, (3, 3)), 2)

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Tensor:
        """dL/dx from G = dL/dR."""
        x, R = ctx.saved_tensors
        q = front(x)
        b = _torque(front(R, 2), front(G, 2))
        return back(torch.cat([-dot_(q[1:], b)[None], q[0] * b + cross_(q[1:], b)]) * _scale(q), 1)

    @staticmethod
    def jvp(ctx: Any, dx: Tensor) -> Tensor:
        """dR from dx."""
        x, R = ctx.saved_tensors
        q, dq = front(x), front(dx)
        w = (q[0] * dq[1:] - dq[0] * q[1:] - cross_(q[1:], dq[1:])) * _scale(q)
        return _moved(front(R, 2), w)


def _scale(q: Tensor) -> Tensor:
    return 2 / dot_(q, q).clamp_min(thresholds.smallest_norm(q.dtype) ** 2)


class RotationVector(_Decoder):
    r"""v -> R = I + A [v]x + B [v]x^2 with A = sin t / t, B = (1 - cos t) / t^2, t = |v|.

    J = I - B [v]x + C [v]x^2 with C = (t - sin t) / t^3, the right Jacobian of the exponential.
    """

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        """R (..., 3, 3) from x (..., k)."""
        v = front(x)
        A, B, _ = _rodrigues(dot_(v, v))
        (xx, xy, xz), (yy, yz), zz = B * v[0] * v, B * v[1] * v[1:], B * v[2] * v[2]
        x_, y_, z_ = A * v
        rows = [1 - yy - zz, xy - z_, xz + y_, xy + z_, 1 - xx - zz, yz - x_, xz - y_, yz + x_, 1 - xx - yy]
        return back(torch.stack(rows).unflatten(0, (3, 3)), 2)

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Tensor:
        """dL/dx from G = dL/dR."""
        x, R = ctx.saved_tensors
        v, b = front(x), _torque(front(R, 2), front(G, 2))
        _, B, C = _rodrigues(dot_(v, v))
        vb = cross_(v, b)
        return back(b + B * vb + C * cross_(v, vb), 1)

    @staticmethod
    def jvp(ctx: Any, dx: Tensor) -> Tensor:
        """dR from dx."""
        x, R = ctx.saved_tensors
        v, dv = front(x), front(dx)
        _, B, C = _rodrigues(dot_(v, v))
        vd = cross_(v, dv)
        return _moved(front(R, 2), dv - B * vd + C * cross_(v, vd))


def _rodrigues(square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A, B and C of :class:`RotationVector` from the squared angle, without cancellation near zero."""
    t2 = square.clamp_min(thresholds.smallest_norm(square.dtype))  # below, A = 1, B = 1/2, C = 1/6 to rounding anyhow
    t = t2.sqrt()
    half = (t / 2).sin() / (t / 2)
    A, B = half * (t / 2).cos(), half * half / 2
    series = 1 / 6 - t2 * (1 / 120 - t2 * (1 / 5040 - t2 / 362880))
    return A, B, torch.where(t2 < thresholds.series_radius(square.dtype), series, (1 - A) / t2)


def _moved(R: Tensor, w: Tensor) -> Tensor:
    """The tangent R [w]x, from components to (..., 3, 3)."""
    return back(matmul_(R, hat_(w)), 2)
