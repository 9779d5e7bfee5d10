"""Addition, midpoint and batch normalisation of points of the Poincaré ball that are carried as tangent vectors.

With s = sqrt(c), a point t has the half coordinates h = cosh(s|t|) and v = sinh(s|t|) t / (s|t|), h^2 - c|v|^2 = 1.
"""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from repgeom.manifolds import thresholds
from repgeom.manifolds.checks import require_real, require_shape
from repgeom.nn.poincare.layers import FARTHEST, arsinhc, cosh_sinhc, curvature, squared_norm


class _SquaredSum(torch.autograd.Function):
    """|w|^2 (N, 1) of w = a x + b z for numbers a, b (N, 1) and vectors x (N, n), z (N, n) or (n,).

    Given the gradient g, with D = 2 g w: a gets <D, x>, x gets a D, b gets <D, z>, z gets b D. Nothing of full size is
    kept but x and z: w is computed anew.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, x: Tensor, b: Tensor, z: Tensor) -> Tensor:
        ctx.save_for_backward(a, x, b, z)
        w = torch.addcmul(a * x, b, z)
        return w.mul_(w).sum(-1, keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, ...]:
        a, x, b, z = ctx.saved_tensors
        D = torch.addcmul(a * x, b, z).mul_(2 * g)
        towards_a = (D * x).sum(-1, keepdim=True)
        if z.dim() < x.dim():
            return towards_a, a * D, (D @ z)[..., None], D.T @ b[..., 0]
        return towards_a, a * D, (D * z).sum(-1, keepdim=True), b * D


class _Tangent(torch.autograd.Function):
    """t = H u / 2 of u = sinh(2s|t|) t / (s|t|), H = arsinh n / n, n = s|u|.

    Given the gradient G, u gets half of H G + c <G, u> ((1 + n^2)^-1/2 - H) / n^2 u.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, c: float) -> Tensor:
        n = (torch.linalg.vector_norm(u, dim=-1, keepdim=True) * c**0.5).clamp_min_(thresholds.smallest_norm(u.dtype))
        H = n.asinh() / n
        ctx.save_for_backward(u, n, H)
        ctx.c = c
        return u * (H / 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor, None]:
        u, n, H = ctx.saved_tensors
        p = n * n
        k = (G * u).sum(-1, keepdim=True) * ((1 + p).rsqrt_() - H) / p
        return torch.addcmul(G * (H / 2), k, u, value=ctx.c / 2), None


def _halves(t: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """h = cosh(s|t|) (..., 1) and sinh(s|t|) / (s|t|) (..., 1), by which t is multiplied to give v."""
    return cosh_sinhc(c * squared_norm(t), FARTHEST / 2)


def tangent_add(x: Tensor, y: Tensor, c: float) -> Tensor:
    r"""log_0(exp_0(x) (+) exp_0(y)): Möbius addition of two points that are given, and returned, as tangent vectors.

    In half coordinates w = h_x v_y + h_y v_x has the length sinh(s d / 2) / s, d the distance of the sum from the
    origin, and the sum has the direction of h_y w + c|w|^2 v_x, a vector of length h_x |w| sqrt(1 + c|w|^2). No
    boundary appears, and at c = 0 the result is x + y.

    Args:
        x: (..., n).
        y: (..., n), of a shape that broadcasts with x.
        c: minus the curvature, >= 0.

    Returns:
        (..., n).

    Raises:
        ValueError: x or y not real tensors, or c negative.

    Source: Ungar 2008, "A Gyrovector Space Approach to Hyperbolic Geometry", for the sum; half coordinates are ours.

    >>> tangent_add(torch.tensor([0.5, 0.0]), torch.tensor([0.25, 0.0]), c=1.0)
    tensor([0.7500, 0.0000])
    """
    require_real("x", x)
    require_real("y", y)
    c = curvature(c)
    x, y = torch.broadcast_tensors(x, y)
    (hx, sx), (hy, sy) = _halves(x, c), _halves(y, c)
    a, b = hy * sx, hx * sy
    u = c * _SquaredSum.apply(a, x, b, y)
    factor = arsinhc(u) * (1 + u).rsqrt() / hx
    return factor * (hy * a + u * sx) * x + factor * hy * b * y


def _centre(h: Tensor, sinhc: Tensor, t: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """Half coordinates of the midpoint of t (N, n): with T = mean(2h^2 - 1) and m = mean(h v), the hyperboloid's mean
    is (T, 2m), its length rho = sqrt(T^2 - 4c|m|^2), and the halves are k / rho and m / k, k^2 = rho (T + rho) / 2."""
    m = ((h * sinhc).mT @ t)[0] / len(t)
    T = 2 * h.square().mean() - 1
    square = T.square() - 4 * c * m.square().sum()
    rho = (_minkowski(h, sinhc, t, T, m, c) + (square - square.detach())).sqrt()  # its value, that gradient
    k = (rho * (T + rho) / 2).sqrt()
    return k / rho, m / k


@torch.no_grad()
def _minkowski(h: Tensor, sinhc: Tensor, t: Tensor, T: Tensor, m: Tensor, c: float) -> Tensor:
    """T^2 - 4c|m|^2 >= 1 without the cancellation that leaves no digit far out: with the unit vector e along m,

    T - 2s|m| is the mean of |s v_i - h_i e|^2.
    """
    s = c**0.5
    length = torch.linalg.vector_norm(m)
    e = m / length.clamp_min(thresholds.smallest_norm(t.dtype))
    less = torch.linalg.vector_norm(torch.addcmul((s * sinhc) * t, h, e, value=-1)).square() / len(t)
    return ((T + 2 * s * length) * torch.where(s * length > thresholds.eps(t.dtype), less, T)).clamp_min(1)


def tangent_midpoint(t: Tensor, c: float) -> Tensor:
    r"""The midpoint of N points t (N, n), as a tangent vector (n,): the normalised sum of hyperboloid coordinates.

    Coordinates T_i = cosh(2s|t_i|) and u_i = sinh(2s|t_i|) t_i / (s|t_i|); mean (T, u), which is divided by
    rho = sqrt(T^2 - c|u|^2) >= 1. At c = 0 it is the mean vector.

    Args:
        t: (N, n).
        c: minus the curvature, >= 0.

    Returns:
        (n,).

    Raises:
        ValueError: wrong shape, or c negative.

    Source: Ungar 2008; as batch mean van Spengler, Berkhout & Mettes 2023, "Poincaré ResNet".

    >>> tangent_midpoint(torch.tensor([[0.5, 0.0], [-0.5, 0.0]]), c=1.0)
    tensor([0., 0.])
    """
    require_real("t", t)
    c = curvature(c)
    if t.dim() != 2 or not len(t):
        raise ValueError(f"t: received shape {tuple(t.shape)}; valid is (N, n), N > 0. Repair: t.flatten(0, -2).")
    _, v = _centre(*_halves(t, c), t, c)
    return v * arsinhc(c * squared_norm(v))


class PoincareBatchNorm2d(nn.Module):
    r"""Batch normalisation on the ball: all pixels of a batch get a learned midpoint and one learned variance.

    With mu the midpoint of the N = B H W points, v the mean of squared distances to it, b and gamma the parameters:
    out_i = exp_beta( sqrt(gamma / (v + eps)) PT_{mu -> beta} log_mu(x_i) ), beta = exp_0(b). Distances are those of the
    ball, so at c = 0, where they are 2|t - mu|, the output has a mean |t - b|^2 of gamma / 4. There is one scale for
    all channels, not one for each.

    ``train()`` uses the statistics of the batch and updates the running ones, ``eval()`` uses the running ones.

    Args:
        channels: C.
        c: minus the curvature, >= 0.
        momentum: weight of the newest batch in the running statistics; None averages over all batches alike.
        eps: added to the variance.
        dtype: float32 (default) or float64.
        device: where.

    Attributes:
        bias: b (C,), a tangent vector at the origin, zero at first.
        variance: gamma (), one at first. Below zero, where an optimiser may drive it, it counts as zero.
        running_mean: (C,) average of midpoints, as tangent vectors.
        running_var: () average of variances (divided by N).
        num_batches_tracked: () how many batches.

    Raises:
        ValueError: channels not positive, c negative; in ``forward`` a wrong shape.

    Source: van Spengler, Berkhout & Mettes 2023, "Poincaré ResNet"; running statistics are added here.

    >>> norm = PoincareBatchNorm2d(3)
    >>> norm(torch.ones(2, 4, 4, 3)).shape
    torch.Size([2, 4, 4, 3])
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        channels: int,
        c: float = 0.1,
        momentum: float | None = 0.1,
        eps: float = 1e-6,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if channels < 1 or not eps >= 0 or not (momentum is None or 0 <= momentum <= 1):
            raise ValueError(
                f"channels, momentum, eps: received {channels}, {momentum} and {eps}; valid are channels >= 1, "
                "momentum in [0, 1] or None, and eps >= 0. Repair: PoincareBatchNorm2d(16)."
            )
        self.channels, self.c, self.momentum, self.eps = channels, curvature(c), momentum, eps
        self.bias = nn.Parameter(torch.zeros(channels, dtype=dtype, device=device))
        self.variance = nn.Parameter(torch.ones((), dtype=dtype, device=device))
        self.register_buffer("running_mean", torch.zeros(channels, dtype=dtype, device=device))
        self.register_buffer("running_var", torch.ones((), dtype=dtype, device=device))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long, device=device))

    def reset_running_stats(self) -> None:
        """Forget the running statistics."""
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_batches_tracked.zero_()

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.to(var.dtype)
        self.running_mean += share * (mean - self.running_mean)
        self.running_var += share * (var - self.running_var)

    def forward(self, t: Tensor) -> Tensor:
        """(B, H, W, C) of (B, H, W, C)."""
        require_shape("t", t, self.channels)
        rows, c = t.reshape(-1, self.channels), self.c
        if not len(rows):
            raise ValueError(f"t: received shape {tuple(t.shape)}; valid is one point or more. Repair: drop the batch.")
        h, sinhc = _halves(rows, c)
        if self.training:
            hm, vm = _centre(h, sinhc, rows, c)
        else:
            hm, sinhc_mean = _halves(self.running_mean, c)
            vm = sinhc_mean * self.running_mean
        w2 = _SquaredSum.apply(hm * sinhc, rows, -h, vm)  # sinh^2(s d_i / 2) / c
        y = c * w2
        half = arsinhc(y)
        var = self.running_var
        if self.training:
            var = 4 * (w2 * half.square()).mean()
            self._track(vm * arsinhc(c * squared_norm(vm)), var)
        return self._moved(rows, h, sinhc, hm, vm, y, half, var).view_as(t)

    def _moved(
        self, t: Tensor, h: Tensor, sinhc: Tensor, hm: Tensor, vm: Tensor, y: Tensor, half: Tensor, var: Tensor
    ) -> Tensor:
        """Points drawn towards the midpoint M or away from it, then carried with it to B along their geodesic.

        On the hyperboloid, with d = d(X, M) and scale k: X' = (sinh(k d) X + sinh((1 - k) d) M) / sinh d,
        and the translation that takes M to B is Y = X' - 2<X', M> B + <X', M + B> (M + B) / (1 - <M, B>).
        """
        c = self.c
        scale = (self.variance.clamp_min(thresholds.smallest_norm(t.dtype)) / (var + self.eps)).sqrt()
        d2 = 4 * y * half.square()
        shrink = half * (1 + y).rsqrt()  # s d / sinh(s d)
        alpha = scale * cosh_sinhc(scale.square() * d2)[1] * shrink
        beta = (1 - scale) * cosh_sinhc((1 - scale).square() * d2)[1] * shrink
        hb, sinhc_bias = _halves(self.bias, c)
        vb = sinhc_bias * self.bias
        Tb = 2 * hb.square() - 1
        omega = 2 + 2 * c * squared_norm(hm * vb - hb * vm)  # 1 - <M, B>
        g = h * sinhc
        P0 = 1 + 2 * y
        P1 = (2 * h.square() - 1) * Tb - 4 * c * hb * (g * (t @ vb)[:, None])
        common = alpha * (P0 + P1) / omega
        K = torch.cat([-hm * common, hb * (2 * alpha * P0 + beta - common)], 1)
        u = torch.addcmul(K @ torch.stack([2 * vm, 2 * vb]), 2 * alpha * g, t)
        return cast(Tensor, _Tangent.apply(u, c))

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        return f"{self.channels}, c={self.c:g}, momentum={self.momentum}, eps={self.eps}"


@torch.no_grad()
def reestimate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    r"""Running statistics of every batch norm of the model, anew, as plain averages over the batches.

    A short training with a large step leaves moving averages that belong to older weights; this repairs them.

    Args:
        model: with any number of :class:`PoincareBatchNorm2d`, ``BatchNorm1d``, ``BatchNorm2d`` or ``BatchNorm3d``.
            Which modules train and which evaluate is afterwards as it was.
        batches: inputs of the model.

    Raises:
        ValueError: no batches.

    >>> norm = PoincareBatchNorm2d(3, c=0.0).eval()
    >>> reestimate(norm, [torch.ones(1, 2, 2, 3), torch.zeros(1, 2, 2, 3)])
    >>> norm.running_mean, norm.training
    (tensor([0.5000, 0.5000, 0.5000]), False)
    """
    kinds = (PoincareBatchNorm2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    norms = [module for module in model.modules() if isinstance(module, kinds)]
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise ValueError("batches: received none; valid is at least one batch. Repair: reestimate(model, [images]).")
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        model.train()
        model(first)
        for batch in batches:
            model(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training
