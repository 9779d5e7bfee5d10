"""Fully connected layer, convolution and classifier of the Poincaré ball, from tangent vectors to tangent vectors.

A point of the ball of curvature -c is carried as t = log_0(x), its tangent vector at the origin, and s = sqrt(c).
Its coordinates on the hyperboloid, sinh(2s|t|) t/|t| and cosh(2s|t|), have no boundary: nothing here divides by
1 - c|x|^2, nothing is projected, and every formula is a smooth function of c that stays right at c = 0.
"""

import math
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from repgeom.manifolds import thresholds
from repgeom.manifolds.checks import require_shape

FARTHEST = 30.0
"""Points whose distance from the origin, times sqrt(c), is larger count as being that far: sinh(30)^2 is 3e25, and no
sum of such squares overflows in float32."""
LARGEST = math.sinh(FARTHEST) * (1 - 1e-6)

Initialisation = Literal["identity", "normal", "variance", "orthogonal"]


def _cosh_sinhc(x: Tensor, limit: float) -> tuple[Tensor, Tensor, Tensor]:
    """cosh n and sinh n / n of x = n^2 >= 0, and n; beyond the limit the numerators stay constant."""
    n = x.clamp_min(thresholds.smallest_norm(x.dtype)).sqrt_()
    near = n.clamp_max(limit)
    return near.cosh(), near.sinh() / n, n


def _slope(n: Tensor, cosh: Tensor, sinhc: Tensor, limit: float, along_cosh: Tensor, along_sinhc: Tensor) -> Tensor:
    """The gradient towards x, from those of cosh n and sinh n / n: slopes S / 2 and (C - S) / 2x.

    The difference cancels near zero, where its error is eps / x. But what x is made of, c|t|^2, passes on the slope
    times 2c t to a sum that has the factor t already: an error of eps arrives.
    """
    inside = n <= limit
    return torch.addcmul(along_cosh * sinhc * inside, along_sinhc, (cosh * inside - sinhc) / (n * n)) / 2


class _CoshSinhc(torch.autograd.Function):
    """cosh n and sinh n / n of x = n^2 >= 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float) -> tuple[Tensor, Tensor]:
        cosh, sinhc, n = _cosh_sinhc(x, limit)
        ctx.limit = limit
        ctx.save_for_backward(n, cosh, sinhc)
        return cosh, sinhc

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, along_cosh: Tensor, along_sinhc: Tensor) -> tuple[Tensor, None]:
        n, cosh, sinhc = ctx.saved_tensors
        return _slope(n, cosh, sinhc, ctx.limit, along_cosh, along_sinhc), None


class _Arsinhc(torch.autograd.Function):
    """arsinh n / n of x = n^2 >= 0. Slope: ((1 + x)^-1/2 - arsinh n / n) / 2x, which cancels as harmlessly."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        n = x.clamp_min(thresholds.smallest_norm(x.dtype)).sqrt_()
        value = n.asinh() / n
        ctx.save_for_backward(n, value)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        n, value = ctx.saved_tensors
        x = n * n
        return grad * ((1 + x).rsqrt_() - value) / (2 * x)


def cosh_sinhc(x: Tensor, limit: float = FARTHEST) -> tuple[Tensor, Tensor]:
    """cosh n and sinh n / n of x = n^2, smooth at zero."""
    return cast(tuple[Tensor, Tensor], _CoshSinhc.apply(x, limit))


def arsinhc(x: Tensor) -> Tensor:
    """arsinh n / n of x = n^2, smooth at zero."""
    return cast(Tensor, _Arsinhc.apply(x))


def squared_norm(t: Tensor) -> Tensor:
    """|t|^2 with the last axis kept: (..., n) -> (..., 1)."""
    return (t * t).sum(-1, keepdim=True)


def _arsinh(A: Tensor, R: Tensor) -> Tensor:
    """arsinh A = log(1 + |A| + A^2 / (1 + R)) with the sign of A, R = sqrt(1 + A^2): in torch five times as fast."""
    size = A.abs()
    return torch.addcmul(size, size, size / (1 + R)).log1p_().copysign_(A)


class _Arguments(torch.autograd.Function):
    """a = 2 S g cosh(2s r) - C sinh(2s r) / s with C, S = cosh n, sinh n / n of n^2 = 4c q.

    g (N, m) are inner products, q (N, 1) squared norms, r (m,) offsets. Given the gradient G, with Q = G o g:
    g gets 2 S G o cosh(2s r); S gets 2 Q cosh(2s r); C gets -G sinh(2s r) / s; r gets 4s sinh(2s r) S^T Q
    - 2 cosh(2s r) C^T G; and q gets 2c (dC S + dS (C - S) / n^2).
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, q: Tensor, r: Tensor, c: float) -> Tensor:
        s = c**0.5
        C, S, n = _cosh_sinhc(4 * c * q, FARTHEST)
        offset = 2 * s * r
        along, across = 2 * offset.cosh(), offset.sinh() / s
        ctx.save_for_backward(g, n, C, S, along, across)
        ctx.c = c
        return torch.addcmul(g * S * along, C, across, value=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        g, n, C, S, along, across = ctx.saved_tensors
        m = len(along)
        Q = (G * g).reshape(-1, m)
        flat = G.reshape(-1, m)
        towards_r = 4 * ctx.c * across * (S.reshape(1, -1) @ Q)[0] - along * (C.reshape(1, -1) @ flat)[0]
        slope = _slope(n, C, S, FARTHEST, -(flat @ across).view_as(n), (Q @ along).view_as(n))
        return G * S * along, 4 * ctx.c * slope, towards_r, None


class _Point(torch.autograd.Function):
    """t' = arsinh(|W|) W / (2s|W|), W = sinh(nu arsinh(s a)), for a (N, m) and nu = 2|z| (m,).

    With R = sqrt(1 + s^2 a^2), L = arsinh(s a), p = |W|^2 and H = arsinh(|W|) / |W|, and given the gradient G: s W gets
    half of D = H G + <G, W> ((1 + p)^-1/2 - H) / p W, so that with E = D o sqrt(1 + W^2), a gets nu E / 2R and nu gets
    sum(L o E) / 2s. Where a distance was limited, E is zero.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, nu: Tensor, c: float) -> Tensor:
        s = c**0.5
        A = s * a
        R = (A * A).add_(1).sqrt_()
        L = _arsinh(A, R)
        W = (nu * L).clamp_(-FARTHEST, FARTHEST).sinh_()
        n = torch.linalg.vector_norm(W, dim=-1, keepdim=True).clamp_min_(thresholds.smallest_norm(W.dtype))
        H = n.asinh() / n
        ctx.save_for_backward(nu, R, L, W, n, H)
        ctx.s = s
        return W * (H / (2 * s))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor, Tensor, None]:
        nu, R, L, W, n, H = ctx.saved_tensors
        p = n * n
        k = (G * W).sum(-1, keepdim=True) * ((1 + p).rsqrt_() - H) / p
        E = torch.addcmul(H * G, k, W)
        E *= (W * W).add_(1).sqrt_()
        E *= W.abs() < LARGEST
        towards_nu = (L * E).reshape(-1, len(nu)).sum(0) / (2 * ctx.s)
        return E.mul_(nu / 2).div_(R), towards_nu, None


def curvature(c: float) -> float:
    """c itself, where it is a finite number >= 0."""
    if not 0 <= float(c) < math.inf:
        raise ValueError(f"c: received {c}; valid is a finite number >= 0 (curvature is -c). Repair: c=0.1.")
    return float(c)


def _start(
    n: int, m: int, kind: str, generator: torch.Generator | None, dtype: torch.dtype | None, device: Any
) -> Tensor:
    """(n, m) weights: half an identity; N(0, 1 / 2nm); N(0, 1 / 4m); half of orthonormal columns (rows if n < m)."""
    Z = torch.empty(n, m, dtype=dtype, device=device)
    if kind == "identity":
        return nn.init.eye_(Z) / 2
    if kind == "normal":
        return Z.normal_(0, (2 * n * m) ** -0.5, generator=generator)
    if kind == "variance":
        return Z.normal_(0, (4 * m) ** -0.5, generator=generator)
    if kind == "orthogonal":
        return nn.init.orthogonal_(Z, generator=generator) / 2
    raise ValueError(
        f"initialisation: received {kind!r}; valid are 'identity', 'normal', 'variance' and 'orthogonal'. "
        "Repair: initialisation='identity'."
    )


class _Hyperplanes(nn.Module):
    """m hyperplanes of the ball: directions, columns z_k of ``weight`` (n, m), and offsets r_k, ``bias`` (m,)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        c: float = 0.1,
        *,
        initialisation: Initialisation = "identity",
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        n, m = in_features, out_features
        if n < 1 or m < 1:
            raise ValueError(f"features: received {n} in and {m} out; valid are positive. Repair: 16 and 8.")
        self.in_features, self.out_features, self.c = n, m, curvature(c)
        self.weight = nn.Parameter(_start(n, m, initialisation, generator, dtype, device))
        self.bias = nn.Parameter(torch.zeros(m, dtype=dtype, device=device))

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        return f"{self.in_features}, {self.out_features}, c={self.c:g}"

    def distances(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`arguments` of tangent vectors (..., n), and 2|z_k|."""
        require_shape("t", t, self.in_features)
        unit, length = self.directions()
        return self.arguments(t @ unit, squared_norm(t)), length

    def directions(self) -> tuple[Tensor, Tensor]:
        """[z_k] = z_k / |z_k| (n, m) and 2|z_k| (m,). A column of zeros keeps a finite gradient."""
        length = torch.linalg.vector_norm(self.weight, dim=0).clamp_min(thresholds.smallest_norm(self.weight.dtype))
        return self.weight / length, 2 * length

    def arguments(self, inner: Tensor, squared: Tensor) -> Tensor:
        r"""sinh(s d_k) / s for the signed distances d_k to the hyperplanes, of a point given by inner products.

        a_k = 2 sinhc(2s|t|) <t, [z_k]> cosh(2s r_k) - cosh(2s|t|) sinh(2s r_k) / s, sinhc(n) = sinh(n) / n. The
        argument of arsinh in the papers is s a_k; without s there is a limit at c = 0, 2 <t, [z_k]> - 2 r_k. In ball
        coordinates s a_k = lambda <s x, [z_k]> cosh(2s r_k) - (lambda - 1) sinh(2s r_k), lambda = 2 / (1 - c|x|^2).

        Args:
            inner: (..., m) the products <t, [z_k]>.
            squared: (..., 1) the squared norm |t|^2.

        Returns:
            (..., m). A subclass that overrides this method is another layer with the same weights.
        """
        if not self.c:
            return 2 * (inner - self.bias)
        return cast(Tensor, _Arguments.apply(inner, squared, self.bias, self.c))

    def outputs(self, a: Tensor, length: Tensor) -> Tensor:
        """v_k = 2|z_k| arsinh(s a_k) / s, the distances times 2|z_k|."""
        if not self.c:
            return length * a
        s = self.c**0.5
        return length * (s * a).asinh() / s

    def point(self, a: Tensor, length: Tensor) -> Tensor:
        """The tangent vector t' of the point with signed distances v_k to the coordinate hyperplanes.

        w_k = sinh(s v_k) / s and t' = arsinh(s|w|) / (2s|w|) w.
        """
        if not self.c:
            return a * (length / 2)
        return cast(Tensor, _Point.apply(a, length, self.c))


class PoincareLinear(_Hyperplanes):
    r"""The fully connected layer of the ball: output k is a signed hyperbolic distance to hyperplane k.

    With n = 2s|t|, a_k of :meth:`arguments` and v_k = (2|z_k| / s) arsinh(s a_k), the output is the tangent vector
    t' = arsinh(|W|) / (2s|W|) W, W_k = sinh(s v_k). At c = 0 this is the linear map 2 Z^T t - 2|z_k| r_k. If 2 Z is
    orthogonal and r = 0 it is the rotation t' = (2 Z)^T t, at every c.

    Args:
        in_features: n.
        out_features: m.
        c: minus the curvature, >= 0.
        initialisation: "identity" (half the identity matrix), "normal" (variance 1 / 2nm, which shrinks norms by
            sqrt(2 / n)), "variance" (variance 1 / 4m, which keeps them) or "orthogonal" (half an orthonormal matrix).
        generator: source of random weights; the global one if omitted.
        dtype: float32 (default) or float64.
        device: where.

    Attributes:
        weight: Z (n, m).
        bias: r (m,), zero at first.

    Raises:
        ValueError: sizes not positive, c negative, unknown initialisation; in ``forward`` a wrong width.

    Source: Shimizu, Mukuta & Harada 2021, "Hyperbolic Neural Networks++"; initialisations after van Spengler, Berkhout
    & Mettes 2023, "Poincaré ResNet".

    >>> PoincareLinear(3, 2)(torch.tensor([0.3, 0.4, 0.0])).detach()
    tensor([0.3000, 0.4000])
    """

    def forward(self, t: Tensor) -> Tensor:
        """Tangent vectors (..., m) of tangent vectors (..., n)."""
        return self.point(*self.distances(t))


class PoincareClassifier(_Hyperplanes):
    r"""Logits v_k = (2|z_k| / s) arsinh(s a_k): signed distances to one hyperplane a class, times 2|z_k|.

    At c = 0 they are 4 <t, z_k> - 4|z_k| r_k. See :class:`PoincareLinear` for the formula of a_k.

    Args:
        in_features: n.
        out_features: how many classes m.
        c: minus the curvature, >= 0.
        initialisation: as in :class:`PoincareLinear`.
        generator: source of random weights; the global one if omitted.
        dtype: float32 (default) or float64.
        device: where.

    Attributes:
        weight: Z (n, m).
        bias: r (m,), zero at first.

    Raises:
        ValueError: sizes not positive, c negative, unknown initialisation; in ``forward`` a wrong width.

    Source: Shimizu, Mukuta & Harada 2021, "Hyperbolic Neural Networks++".

    >>> PoincareClassifier(3, 2)(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """

    def forward(self, t: Tensor) -> Tensor:
        """Logits (..., m) of tangent vectors (..., n)."""
        return self.outputs(*self.distances(t))


def beta_ratio(total: int, part: int) -> float:
    """B(total / 2, 1 / 2) / B(part / 2, 1 / 2): what keeps the expected norm when parts are glued to a long vector."""

    def log_beta(n: int) -> float:
        return math.lgamma(n / 2) - math.lgamma((n + 1) / 2)

    return math.exp(log_beta(total) - log_beta(part))


class PoincareConv2d(_Hyperplanes):
    r"""The fully connected layer of every k x k patch, on images whose pixels are tangent vectors: channels last.

    The k^2 vectors of a patch, zeros outside the image, are glued to one of length n = k^2 C times the constant
    B(n/2, 1/2) / B(C/2, 1/2) (beta-concatenation), which goes through the layer of :class:`PoincareLinear`. Nothing is
    unfolded: inner products with the kernels are an ordinary convolution, the squared norm of a patch is a sum of
    |t|^2 over the window.

    Args:
        in_channels: C.
        out_channels: m.
        kernel_size: k.
        stride: of the window.
        padding: zeros (origins) on each side.
        c: minus the curvature, >= 0.
        initialisation: as in :class:`PoincareLinear`, of the (n, m) matrix.
        generator: source of random weights; the global one if omitted.
        dtype: float32 (default) or float64.
        device: where.

    Attributes:
        weight: Z (C k^2, m); row (channel k + i) k + j belongs to that channel of the pixel in row i and column j of
            the window, the order of :func:`torch.nn.functional.unfold`.
        bias: r (m,), zero at first.

    Raises:
        ValueError: sizes not positive, padding or c negative; in ``forward`` a wrong shape or an image too small.

    Source: van Spengler, Berkhout & Mettes 2023, "Poincaré ResNet"; Shimizu, Mukuta & Harada 2021 for the glue.

    >>> PoincareConv2d(3, 8, 3, padding=1)(torch.zeros(2, 5, 6, 3)).shape
    torch.Size([2, 5, 6, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        c: float = 0.1,
        *,
        initialisation: Initialisation = "identity",
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if kernel_size < 1 or stride < 1 or padding < 0:
            raise ValueError(
                f"kernel_size, stride, padding: received {kernel_size}, {stride} and {padding}; valid are positive "
                "integers, padding >= 0. Repair: kernel_size=3, padding=1."
            )
        n = in_channels * kernel_size**2
        super().__init__(
            n, out_channels, c, initialisation=initialisation, generator=generator, dtype=dtype, device=device
        )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.glue = beta_ratio(n, in_channels)

    def forward(self, t: Tensor) -> Tensor:
        """(B, H', W', m) of (B, H, W, C), H' = floor((H + 2 padding - k) / stride) + 1."""
        require_shape("t", t, self.in_channels)
        k, p = self.kernel_size, self.padding
        if t.dim() != 4 or min(t.shape[1:3]) + 2 * p < k:
            raise ValueError(
                f"t: received shape {tuple(t.shape)}; valid is (B, H, W, {self.in_channels}), H and W at least "
                f"{max(1, k - 2 * p)}. Repair: images.permute(0, 2, 3, 1)."
            )
        unit, length = self.directions()
        if k == 1:  # one matrix product; oneDNN's weight gradient of a strided 1 x 1 kernel may write out of bounds
            if p:
                t = nn.functional.pad(t, (0, 0, p, p, p, p))
            t = t[:, :: self.stride, :: self.stride]
            return self.point(self.arguments(t @ unit, squared_norm(t)), length)
        t = t.contiguous()  # so that the convolution sees, and returns, channels last
        kernels = (self.glue * unit).mT.reshape(-1, self.in_channels, k, k)
        inner = nn.functional.conv2d(t.permute(0, 3, 1, 2), kernels, stride=self.stride, padding=p)
        box = t.new_full((1, 1, k, k), self.glue**2)
        squared = nn.functional.conv2d(squared_norm(t).permute(0, 3, 1, 2), box, stride=self.stride, padding=p)
        a = self.arguments(inner.permute(0, 2, 3, 1), squared.permute(0, 2, 3, 1))
        return self.point(a, length)

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, c={self.c:g}"
        )
