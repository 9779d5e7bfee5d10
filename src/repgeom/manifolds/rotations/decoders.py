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
from repgeom.manifolds.rotations.algebra import CYCLE, add_product_, back, cross_, dot_, front, hat_, matmul_, nonzero


class _Decoder(torch.autograd.Function):
    """What the three share. ``forward`` returns R (..., 3, 3), R with components first, and what else a subclass wants.

    Only R has a derivative. A second derivative needs everything written in terms of x and R; the other outputs are
    a shortcut for the first one.
    """

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, ...]) -> None:
        """Keep everything; only the first output is differentiable."""
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *output)
        ctx.save_for_forward(*inputs, *output)

    @classmethod
    def backward(cls, ctx: Any, G: Tensor | None, *_: None) -> Tensor | None:
        """dL/dx from G = dL/dR."""
        return None if G is None else back(cls.pull(ctx, front(G, 2)), 1)

    @classmethod
    def jvp(cls, ctx: Any, dx: Tensor) -> tuple[Tensor | None, ...]:
        """dR from dx."""
        R, w = cls.push(ctx, front(dx))
        return back(matmul_(R, hat_(w)), 2), *[None] * (len(ctx.saved_tensors) - 2)

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int], x: Tensor) -> tuple[Any, tuple[int, ...]]:
        """Everything is batched over leading dimensions already."""
        output = cls.apply(x.movedim(in_dims[0], 0))
        return output, (0, 2, 1)[: len(output)]

    @staticmethod
    def pull(ctx: Any, G: Tensor) -> Tensor:
        """J^T b (k, ...) from G (3, 3, ...)."""
        raise NotImplementedError

    @staticmethod
    def push(ctx: Any, dx: Tensor) -> tuple[Tensor, Tensor]:
        """R (3, 3, ...) and w (3, ...) from dx (k, ...)."""
        raise NotImplementedError


def _torque(R: Tensor, G: Tensor) -> list[Tensor]:
    """The three components of b = axial(R^T G) for matrices (3, 3, ...), without forming the product."""
    torque = []
    for i, j in CYCLE:
        total = add_product_(G[0, i] * R[0, j], G[0, j], R[0, i], -1)
        for row in (1, 2):
            total = add_product_(add_product_(total, G[row, i], R[row, j]), G[row, j], R[row, i], -1)
        torque.append(total)
    return torque


class SixD(_Decoder):
    r"""x = (a, b) -> columns (first, second, third) by Gram-Schmidt.

    With da, db written in the frame of the columns, beta = first . b and gamma = second . b,
    w = ( (db_3 - da_3 beta / |a|) / gamma,  -da_3 / |a|,  da_2 / |a| ).
    """

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, ...]:
        """R, R with components first, and 1 / |a|, beta, 1 / gamma."""
        a, b = front(x).split(3)
        inverse_a = _inverse_length(a)
        first = a * inverse_a
        third = cross_(first, b)
        # where a and b are nearly parallel, rounding leaves a part along the first column: remove it before scaling up
        third = add_product_(third, first, dot_(first, third), -1)
        inverse_gamma = _inverse_length(third)
        third = third * inverse_gamma
        columns = torch.stack([first, cross_(third, first), third], dim=1)
        return back(columns, 2), columns, torch.stack([inverse_a, dot_(first, b), inverse_gamma])

    @staticmethod
    def pull(ctx: Any, G: Tensor) -> Tensor:
        """The transpose of the formula above."""
        columns, (inverse_a, beta, inverse_gamma) = _frame(ctx)
        t = _torque(columns, G)
        db_3 = t[0] * inverse_gamma
        da_2, da_3 = t[2] * inverse_a, -(t[1] + db_3 * beta) * inverse_a
        return torch.cat([add_product_(columns[:, 1] * da_2, columns[:, 2], da_3), columns[:, 2] * db_3])

    @staticmethod
    def push(ctx: Any, dx: Tensor) -> tuple[Tensor, Tensor]:
        """The formula above."""
        columns, (inverse_a, beta, inverse_gamma) = _frame(ctx)
        da, db = dx.split(3)
        da_2, da_3 = dot_(columns[:, 1], da) * inverse_a, dot_(columns[:, 2], da) * inverse_a
        return columns, torch.stack([(dot_(columns[:, 2], db) - da_3 * beta) * inverse_gamma, -da_3, da_2])


def _inverse_length(a: Tensor) -> Tensor:
    """1 / |a|, large but finite for zero; in place, so for use without a graph."""
    return dot_(a, a).clamp_min_(thresholds.smallest_norm(a.dtype) ** 2).rsqrt_()


def _frame(ctx: Any) -> tuple[Tensor, Tensor]:
    """Columns, and 1 / |a|, beta, 1 / gamma of :class:`SixD`: as saved, or as functions of x and R."""
    x, R, columns, lengths = ctx.saved_tensors
    if not torch.is_grad_enabled():
        return columns, lengths
    a, b = front(x).split(3)
    columns = front(R, 2)
    inverse_a, inverse_gamma = (1 / nonzero(dot_(columns[:, i], y)) for i, y in ((0, a), (1, b)))
    return columns, torch.stack([inverse_a, dot_(columns[:, 0], b), inverse_gamma])


def _rotation(ctx: Any) -> tuple[Tensor, Tensor]:
    """x and R with components first, for the two decoders below: as saved, or as functions of x and R."""
    x, R, rows = ctx.saved_tensors
    return front(x), front(R, 2) if torch.is_grad_enabled() else rows


def _rows(u: Tensor, su: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """R = I + [w]x + s [u]x^2, entry by entry, from u, s u and w."""
    xx, yy, zz = su * u
    yz, xz, xy = su[1] * u[2], su[2] * u[0], su[0] * u[1]
    x, y, z = w
    entries = [1 - yy - zz, xy - z, xz + y, xy + z, 1 - xx - zz, yz - x, xz - y, yz + x, 1 - xx - yy]
    rows = torch.stack(entries).unflatten(0, (3, 3))
    return back(rows, 2), rows


class Quaternion(_Decoder):
    r"""q = (w, u) of any length -> R = I + s (w [u]x + [u]x^2) with s = 2 / |q|^2.

    q^-1 dq = (., w / 2), so w = s vec(conj(q) dq) and J^T b = s q (0, b), products of quaternions.
    """

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, ...]:
        """R, and R with components first."""
        q = front(x)
        u, su = q[1:], q[1:] * _scale(q)
        return _rows(u, su, su * q[0])

    @staticmethod
    def pull(ctx: Any, G: Tensor) -> Tensor:
        """The transpose of the formula above."""
        q, R = _rotation(ctx)
        b = torch.stack(_torque(R, G))
        return torch.cat([-dot_(q[1:], b)[None], add_product_(cross_(q[1:], b), q[0], b)]) * _scale(q)

    @staticmethod
    def push(ctx: Any, dx: Tensor) -> tuple[Tensor, Tensor]:
        """The formula above."""
        q, R = _rotation(ctx)
        return R, (q[0] * dx[1:] - dx[0] * q[1:] - cross_(q[1:], dx[1:])) * _scale(q)


def _scale(q: Tensor) -> Tensor:
    return 2 / nonzero(dot_(q, q).sqrt()).square()


class RotationVector(_Decoder):
    r"""v -> R = I + A [v]x + B [v]x^2 with A = sin t / t, B = (1 - cos t) / t^2, t = |v|.

    J = I - B [v]x + C [v]x^2 with C = (t - sin t) / t^3, the right Jacobian of the exponential.
    """

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, ...]:
        """R, and R with components first."""
        v = front(x)
        A, B, _ = _rodrigues(dot_(v, v))
        return _rows(v, B * v, A * v)

    @staticmethod
    def pull(ctx: Any, G: Tensor) -> Tensor:
        """The transpose of the formula above."""
        v, R = _rotation(ctx)
        b = torch.stack(_torque(R, G))
        _, B, C = _rodrigues(dot_(v, v))
        vb = cross_(v, b)
        return b + B * vb + C * cross_(v, vb)

    @staticmethod
    def push(ctx: Any, dx: Tensor) -> tuple[Tensor, Tensor]:
        """The formula above."""
        v, R = _rotation(ctx)
        _, B, C = _rodrigues(dot_(v, v))
        vd = cross_(v, dx)
        return R, dx - B * vd + C * cross_(v, vd)


def _rodrigues(square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A, B and C of :class:`RotationVector` from the squared angle, without cancellation near zero."""
    t2 = square.clamp_min(thresholds.smallest_norm(square.dtype))  # below, A = 1, B = 1/2, C = 1/6 to rounding anyhow
    t = t2.sqrt()
    half = (t / 2).sin() / (t / 2)
    A, B = half * (t / 2).cos(), half * half / 2
    series = 1 / 6 - t2 * (1 / 120 - t2 * (1 / 5040 - t2 / 362880))
    return A, B, torch.where(t2 < thresholds.series_radius(square.dtype), series, (1 - A) / t2)
