r"""Fully connected networks of infinite width: their Gaussian process, their tangent kernel, and how they train.

A network of depth L has L weight matrices, z_1 = s_w W_1 x / sqrt(n_0) + s_b b_1 and, for l >= 1,
z_{l+1} = s_w W_{l+1} f(z_l) / sqrt(n_l) + s_b b_{l+1}, all W and b standard normal ("NTK parametrization"). As all
widths n_l grow, one output is a Gaussian process with covariance Sigma_L (NNGP), and J J^T becomes Theta_L (NTK):

    Sigma_1 = Theta_1 = s_w^2 x.x' / n_0 + s_b^2
    Sigma_{l+1} = s_w^2 K(Sigma_l) + s_b^2              K = E[f(u) f(v)]
    Theta_{l+1} = s_w^2 Theta_l K'(Sigma_l) + Sigma_{l+1}   K' = E[f'(u) f'(v)]

with (u, v) jointly normal, variances q1, q2 and covariance s. All is computed in float64, in square blocks.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from repgeom.manifolds.checks import require_real

__all__ = [
    "Ensemble",
    "Kernels",
    "dual",
    "ensemble_dynamics",
    "hermite_coefficients",
    "kernels",
    "largest_rate",
    "linearized_dynamics",
    "nngp",
    "ntk",
]

F64 = torch.float64
Activation = str | Tensor | Callable[[Tensor], Tensor]
TAIL = 1e-6  # share of E[f^2] that a Hermite series may miss before it is refused


class Kernels(NamedTuple):
    """Both kernels (N1, N2) of an infinitely wide network, float64."""

    nngp: Tensor
    ntk: Tensor


class Ensemble(NamedTuple):
    """Outputs of trained networks over starts: mean (..., M) or (..., M, O), covariance (..., M, M) of one output."""

    mean: Tensor
    covariance: Tensor


# ------------------------------------------------------------------------------------------------- one layer: K and K'


def _relu(q1: Tensor, q2: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    r = (q1 * q2).sqrt_().clamp_min_(torch.finfo(F64).tiny)  # the root of q^2 is exactly q, so c = 1 on the diagonal
    c = (s / r).clamp_(-1, 1)
    open_ = c.acos().neg_().add_(math.pi)  # pi - angle
    sine = torch.addcmul(torch.ones((), dtype=F64, device=s.device), c, c, value=-1).sqrt_()
    return sine.addcmul_(open_, c).mul_(r).div_(2 * math.pi), open_.div_(2 * math.pi)


def _erf(q1: Tensor, q2: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    a = (1 + 2 * q1) * (1 + 2 * q2)
    return (2 * s / a.sqrt()).asin_().mul_(2 / math.pi), (a - 4 * s * s).rsqrt_().mul_(4 / math.pi)


def _gelu(q1: Tensor, q2: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    P, q = (1 + q1) * (1 + q2), q1 * q2
    D2 = P - s * s
    D = D2.sqrt()
    turn = torch.atan2(s, D)
    K = ((s * s + q * D2) / (P * D) + s * turn) / (2 * math.pi) + s / 4
    return K, (1 / D2 + (1 - q) / P + 1) * s / (2 * math.pi * D) + 0.25 + turn / (2 * math.pi)


def _sin(q1: Tensor, q2: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    half = (q1 + q2) / 2
    near, far = (s - half).exp_(), (-s - half).exp_()
    return (near - far).div_(2), (near + far).div_(2)


_CLOSED = {"relu": _relu, "erf": _erf, "gelu": _gelu, "sin": _sin}


@functools.lru_cache(maxsize=4)
def _gauss_hermite(nodes: int) -> tuple[Tensor, Tensor]:
    """Nodes x (n) of the normal distribution, and V (n, n) with V[k, j] = sqrt(w_j) h_k(x_j), h_k orthonormal.

    Golub and Welsch: the recurrence sqrt(k+1) h_{k+1} = x h_k - sqrt(k) h_{k-1} is a symmetric tridiagonal matrix with
    these eigenvalues and eigenvectors.
    """
    root = torch.arange(1, nodes, dtype=F64).sqrt()
    x, V = torch.linalg.eigh(torch.diag(root, 1) + torch.diag(root, -1))
    return x, V * torch.where(V[0] < 0, -1.0, 1.0)


def _polynomial(a: Tensor, z: Tensor) -> Tensor:
    """sum_k a_k h_k(z), by the recurrence."""
    before, now, total = torch.zeros_like(z), torch.ones_like(z), a[0] * torch.ones_like(z)
    for k in range(1, len(a)):
        before, now = now, (z * now - math.sqrt(k - 1) * before) / math.sqrt(k)
        total = total + a[k] * now
    return total


def hermite_coefficients(f: Activation, variance: Tensor | float = 1.0, degree: int = 128) -> Tensor:
    r"""Coefficients a_k(q) = E[f(sqrt(q) z) h_k(z)] in normalised Hermite polynomials, z standard normal.

    Then E[f(u) f(v)] = sum_k a_k(q1) a_k(q2) c^k for correlation c (Mehler), whatever f is. For q = 1 and f = h_k it is
    c^k. Gauss-Hermite quadrature with 2 (degree + 1) nodes: exact for polynomials.

    Args:
        f: elementwise function of a tensor; or the coefficients (k + 1) at variance one.
        variance: q > 0, any shape (...).
        degree: the highest k.

    Returns:
        (..., degree + 1), float64.

    Raises:
        ValueError: an unknown activation, a variance that is not positive, or a negative degree.

    Source: Daniely, Frostig & Singer 2016, "Toward deeper understanding of neural networks" (dual activations).

    >>> [round(abs(float(a)), 4) for a in hermite_coefficients(lambda z: z**2, degree=3)]  # z^2 = 1 + sqrt(2) h_2
    [1.0, 0.0, 1.4142, 0.0]
    """
    q = torch.as_tensor(variance, dtype=F64)
    if degree < 0 or not bool((q > 0).all()):
        raise ValueError(
            f"variance, degree: received a least variance of {float(q.min()):.3g} and degree {degree}; valid are "
            "positive variances and degree >= 0. Repair: bias_std > 0, or leave out inputs of length zero."
        )
    x, V = _gauss_hermite(2 * (degree + 1))
    values = _evaluate(f, q[..., None] ** 0.5 * x.to(q.device))
    return (values * V[0].to(q.device)) @ V[: degree + 1].T.to(q.device)


def _evaluate(f: Activation, z: Tensor) -> Tensor:
    if isinstance(f, Tensor):
        return _polynomial(f.to(F64), z)
    if callable(f):
        return f(z).to(F64)
    raise ValueError(
        f"activation: received {f!r}; valid is one of {', '.join(sorted(_CLOSED))}, a function of a tensor, or a "
        "tensor of Hermite coefficients. Repair: activation='relu'."
    )


def _coefficients(f: Activation, q: Tensor, degree: int) -> Tensor:
    """Hermite coefficients (N, degree + 1), refused where they miss more than a share ``TAIL`` of E[f^2]."""
    degree = len(f) - 1 if isinstance(f, Tensor) else degree
    a = hermite_coefficients(f, q, degree)
    x, V = _gauss_hermite(2 * (degree + 1))
    power = _evaluate(f, q[..., None] ** 0.5 * x.to(q.device)).square() @ V[0].square().to(q.device)
    missing = float(((power - a.square().sum(-1)) / power.clamp_min(torch.finfo(F64).tiny)).max())
    if missing > TAIL:
        raise ValueError(
            f"activation: {degree + 1} Hermite coefficients miss {missing:.1e} of its mean square; valid is a share of "
            f"{TAIL:g}. Repair: a larger degree, or for a kinked function one of {', '.join(sorted(_CLOSED))}."
        )
    return a


def _series(a1: Tensor, a2: Tensor, q1: Tensor, q2: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """K = sum_k a_k(q1) a_k(q2) c^k by Horner's rule, and its derivative by s, which is K' (Price)."""
    r = (q1 * q2).sqrt()
    c = (s / r).clamp_(-1, 1)
    K, slope = torch.zeros_like(c), torch.zeros_like(c)
    for k in range(a1.shape[-1] - 1, -1, -1):
        slope = slope.mul_(c).add_(K)
        K = K.mul_(c).addcmul_(a1[..., k].expand_as(K), a2[..., k].expand_as(K))
    return K, slope.div_(r)


def dual(activation: Activation, q1: Tensor, q2: Tensor, s: Tensor, degree: int = 128) -> tuple[Tensor, Tensor]:
    r"""K = E[f(u) f(v)] and K' = E[f'(u) f'(v)] for (u, v) normal with variances q1, q2 and covariance s.

    Closed forms for "relu", "erf", "gelu" (exact, with the normal distribution function) and "sin"; otherwise
    K = sum_k a_k(q1) a_k(q2) c^k with :func:`hermite_coefficients`, and K' = dK / ds, so that f' is never needed.

    Args:
        activation: a name, an elementwise function, or a tensor (k + 1) of normalised Hermite coefficients.
        q1: (...) variances; q1, q2 and s broadcast.
        q2: (...) variances.
        s: (...) covariances, s^2 <= q1 q2.
        degree: of the series, for functions.

    Returns:
        K and K' (...), float64.

    Raises:
        ValueError: an unknown name; or a series that misses more than a millionth of E[f^2], as for kinked functions.

    Source: Cho & Saul 2009 (ReLU), Williams 1998 (erf); the tangent kernel of Jacot, Gabriel & Hongler 2018 uses both.

    >>> one, half = torch.tensor(1.0), torch.tensor(0.5)
    >>> [round(float(v), 4) for v in dual("relu", one, one, half)]
    [0.3045, 0.3333]
    >>> [round(float(v), 4) for v in dual(torch.tensor([0.0, 0.0, 1.0]), one, one, half)]  # h_2: c^2 and 2c
    [0.25, 1.0]
    """
    q1, q2, s = (torch.as_tensor(t).to(F64) for t in (q1, q2, s))
    shape = torch.broadcast_shapes(q1.shape, q2.shape, s.shape)
    if isinstance(activation, str):
        closed = _closed(activation)
        return closed(q1.expand(shape), q2.expand(shape), s.expand(shape))
    a1, a2 = (_coefficients(activation, q, degree) for q in (q1, q2))
    return _series(a1, a2, q1, q2, s.expand(shape))


def _closed(name: str) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    if name not in _CLOSED:
        _evaluate(name, torch.zeros(()))  # raises
    return _CLOSED[name]


# ----------------------------------------------------------------------------------------------------------- all layers


class _Points(NamedTuple):
    """Inputs (N, d), and for each layer their variances (N) and, for a series, coefficients (N, degree + 1)."""

    x: Tensor
    variances: list[Tensor]
    coefficients: list[Tensor | None]
    theta: Tensor  # diagonal of the NTK


def _points(x: Tensor, depth: int, f: Activation, sw: float, sb: float, degree: int) -> _Points:
    q = sw**2 * x.square().sum(-1) / x.shape[-1] + sb**2
    variances, coefficients, theta = [q], [], q
    for _ in range(depth - 1):
        a = None if isinstance(f, str) else _coefficients(f, q, degree)
        K, slope = _closed(f)(q, q, q) if isinstance(f, str) else _series(a, a, q, q, q)  # type: ignore[arg-type]
        q = sw**2 * K + sb**2
        theta = sw**2 * theta * slope + q
        variances.append(q)
        coefficients.append(a)
    return _Points(x, variances, coefficients, theta)


def _blocks(N1: int, N2: int, side: int, symmetric: bool) -> Iterator[tuple[slice, slice]]:
    for i in range(0, N1, side):
        for j in range(i if symmetric else 0, N2, side):
            yield slice(i, min(i + side, N1)), slice(j, min(j + side, N2))


def _both(
    x1: Tensor,
    x2: Tensor | None,
    depth: int,
    activation: Activation,
    weight_std: float,
    bias_std: float,
    degree: int,
    block: int,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The wanted ones of NNGP and NTK, block by block; where x2 is None only blocks on and above the diagonal."""
    _require_network(x1, x2, depth, weight_std, bias_std, block)
    sw, sb, series = weight_std, bias_std, not isinstance(activation, str)
    p1 = _points(x1.to(F64), depth, activation, sw, sb, degree)
    p2 = p1 if x2 is None else _points(x2.to(F64), depth, activation, sw, sb, degree)
    shape = (len(p1.x), len(p2.x))
    out = [torch.empty(shape, dtype=F64, device=x1.device) if want else None for want in wanted]
    for i, j in _blocks(*shape, block, x2 is None):
        s = (p1.x[i] @ p2.x[j].T).mul_(sw**2 / p1.x.shape[-1]).add_(sb**2)
        theta = s.clone()
        for layer in range(depth - 1):
            q1, q2 = p1.variances[layer][i, None], p2.variances[layer][None, j]
            if series:
                a1, a2 = p1.coefficients[layer], p2.coefficients[layer]
                K, slope = _series(a1[i, None], a2[None, j], q1, q2, s)  # type: ignore[index]
            else:
                K, slope = _closed(activation)(q1, q2, s)  # type: ignore[arg-type]
            s = K.mul_(sw**2).add_(sb**2)
            theta = theta.mul_(slope).mul_(sw**2).add_(s)
        for target, values, diagonal in zip(out, (s, theta), (p1.variances[-1], p1.theta), strict=True):
            if target is None:
                continue
            if x2 is None and i == j:
                values = values.triu(1)  # rounding on the diagonal would come out as its root at a kink
                values = (values + values.T).diagonal_scatter(diagonal[i])
            target[i, j] = values
            if x2 is None and i != j:
                target[j, i] = values.T
    return out


def _require_network(x1: Tensor, x2: Tensor | None, depth: int, weight_std: float, bias_std: float, block: int) -> None:
    for name, x in (("x1", x1), ("x2", x1 if x2 is None else x2)):
        require_real(name, x)
        if x.dim() != 2 or x.shape[1] != x1.shape[-1] or x.shape[1] == 0:
            raise ValueError(
                f"{name}: received shape {tuple(x.shape)}; valid is (N, {x1.shape[-1]}), the same width for both. "
                f"Repair: {name}.flatten(1)."
            )
        if not bool(x.isfinite().all()):
            raise ValueError(f"{name}: received values that are not finite; valid are real numbers. Repair: drop them.")
    for name, value, least in (("depth", depth, 1), ("block", block, 1)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name}: received {value!r}; valid is a whole number >= {least}. Repair: {name}={least}.")
    if not (weight_std > 0 and bias_std >= 0 and math.isfinite(weight_std + bias_std)):
        raise ValueError(
            f"weight_std, bias_std: received {weight_std}, {bias_std}; valid are weight_std > 0 and bias_std >= 0. "
            "Repair: weight_std=1.0, bias_std=0.1."
        )


def kernels(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int,
    activation: Activation = "relu",
    weight_std: float = 1.0,
    bias_std: float = 0.0,
    degree: int = 128,
    block: int = 256,
) -> Kernels:
    r"""Both kernels of a fully connected network of infinite width: Sigma_L and Theta_L (formulas above).

    Args:
        x1: (N1, d) inputs, one a row.
        x2: (N2, d); if omitted x1, and then only blocks on and above the diagonal are computed.
        depth: the number L of weight matrices; L - 1 activations lie between them.
        activation: "relu", "erf", "gelu", "sin", an elementwise function, or Hermite coefficients (see :func:`dual`).
        weight_std: s_w.
        bias_std: s_b.
        degree: of the Hermite series, for functions.
        block: side of a block; the working memory is about ten such squares, beside the result.

    Returns:
        Kernels (N1, N2), float64. Of several outputs each has this kernel, and two have none together.

    Raises:
        ValueError: shapes, values or counts that do not fit, or an activation as in :func:`dual`.

    Source: Jacot, Gabriel & Hongler 2018, "Neural tangent kernel: convergence and generalization in neural networks".

    >>> circle = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> kernels(circle, depth=4, bias_std=0.1).ntk  # ReLU, as in the figures of the paper
    tensor([[0.2825, 0.0927],
            [0.0927, 0.2825]], dtype=torch.float64)
    """
    both = _both(x1, x2, depth, activation, weight_std, bias_std, degree, block, (True, True))
    return Kernels(*both)  # type: ignore[arg-type]


def nngp(x1: Tensor, x2: Tensor | None = None, **network: object) -> Tensor:
    r"""Sigma_L (N1, N2), the covariance of an output over random starts; arguments as in :func:`kernels`.

    Args:
        x1: (N1, d) inputs.
        x2: (N2, d); if omitted x1.
        **network: depth, activation, weight_std, bias_std, degree, block.

    Returns:
        (N1, N2), float64.

    Raises:
        ValueError: as :func:`kernels`.

    Source: Lee et al. 2018, "Deep neural networks as Gaussian processes".

    >>> nngp(torch.eye(2), depth=2, weight_std=2**0.5)  # variances stay, correlations rise
    tensor([[1.0000, 0.3183],
            [0.3183, 1.0000]], dtype=torch.float64)
    """
    return _both(x1, x2, **_filled(network), wanted=(True, False))[0]  # type: ignore[arg-type, return-value]


def ntk(x1: Tensor, x2: Tensor | None = None, **network: object) -> Tensor:
    r"""Theta_L (N1, N2), the tangent kernel; arguments as in :func:`kernels`.

    Args:
        x1: (N1, d) inputs.
        x2: (N2, d); if omitted x1.
        **network: depth, activation, weight_std, bias_std, degree, block.

    Returns:
        (N1, N2), float64.

    Raises:
        ValueError: as :func:`kernels`.

    Source: Jacot, Gabriel & Hongler 2018.

    >>> ntk(torch.eye(2), depth=2, weight_std=2**0.5)
    tensor([[2.0000, 0.3183],
            [0.3183, 2.0000]], dtype=torch.float64)
    """
    return _both(x1, x2, **_filled(network), wanted=(False, True))[1]  # type: ignore[arg-type, return-value]


def _filled(network: dict[str, object]) -> dict[str, object]:
    """The arguments of :func:`kernels` with their defaults."""
    defaults = kernels.__kwdefaults__ or {}
    unknown = set(network) - {"depth", *defaults}
    if unknown or "depth" not in network:
        raise ValueError(
            f"network: received {sorted(network)}; valid are depth (needed) and {', '.join(sorted(defaults))}. "
            "Repair: depth=4."
        )
    return {**defaults, **network}


# ------------------------------------------------------------------------------------------------------------- training


def largest_rate(kernel: Tensor) -> float:
    """The learning rate 2 N / lambda_max beyond which descent on squared error over N points diverges.

    Args:
        kernel: (N, N) Theta on the training points.

    Returns:
        A rate; infinite for a kernel of zeros.

    Raises:
        ValueError: a shape or dtype that does not fit.

    Source: the growth factors 1 - lr lambda / N of :func:`linearized_dynamics`.

    >>> largest_rate(torch.eye(3))
    6.0
    """
    _require_kernel("kernel", kernel, None)
    top = float(torch.linalg.eigvalsh(kernel.to(F64))[-1])
    return 2 * len(kernel) / top if top > 0 else math.inf


def _require_kernel(name: str, kernel: Tensor, shape: tuple[int, int] | None) -> None:
    require_real(name, kernel)
    if kernel.dim() != 2 or tuple(kernel.shape) != (shape or (len(kernel), len(kernel))) or not kernel.numel():
        wanted = shape or "(N, N) with N >= 1"
        raise ValueError(f"{name}: received shape {tuple(kernel.shape)}; valid is {wanted}. Repair: flatten outputs.")


class _Modes(NamedTuple):
    """Eigenvectors V (N, N) of the kernel and, for each time (T), the shares learned p (T, N) and p / lambda (T, N)."""

    V: Tensor
    learned: Tensor
    inverse: Tensor


def _modes(kernel: Tensor, time: Tensor | Sequence[float] | float, lr: float, discrete: bool) -> _Modes:
    values, V = torch.linalg.eigh(kernel.to(F64))
    floor = len(values) * torch.finfo(F64).eps * values[-1].clamp_min(torch.finfo(F64).tiny)
    values = values.clamp_min(0)
    t = torch.as_tensor(time, dtype=F64, device=V.device)[..., None]
    if bool((t < 0).any()) or not lr > 0 or (discrete and not bool(((t == t.round()) | t.isinf()).all())):
        raise ValueError(
            f"time, lr: received times from {float(t.min()):g} and lr {lr:g}; valid are lr > 0 and times >= 0, whole "
            "numbers of steps where discrete. Repair: time=100, lr=1.0."
        )
    x = lr * values / len(values)  # the decay of a mode in one unit of time
    alive = values > floor  # at infinite time a mode of rounding would be divided by itself
    if discrete:
        # (1 - x)^t: by logarithms where x is small, else directly, as the base may be negative
        small = -torch.expm1(t * torch.log1p(-x.clamp_max(0.5)))
        learned = torch.where(x < 0.5, small, 1 - (1 - x) ** t)
    else:
        learned = -torch.expm1(-x * t)
    ends = alive & ((x < 2) if discrete else torch.ones_like(alive))
    learned = torch.where(t.isinf(), torch.where(ends, 1.0, torch.where(alive, torch.nan, 0.0)), learned)
    limit = lr / len(values) * torch.where(t.isinf(), 0.0, t)  # of learned / lambda as lambda goes to zero
    inverse = torch.where(alive, learned / values.clamp_min(torch.finfo(F64).tiny), limit)
    return _Modes(V, learned, inverse)


def linearized_dynamics(
    kernel: Tensor,
    y: Tensor,
    time: Tensor | Sequence[float] | float,
    *,
    lr: float = 1.0,
    discrete: bool = False,
    start: Tensor | None = None,
    cross: Tensor | None = None,
    start_cross: Tensor | None = None,
) -> Tensor:
    r"""Outputs of a model with a frozen tangent kernel, trained on the loss (1 / 2N) sum_i |f(x_i) - y_i|^2.

    With T = Theta / N: f_t = y + exp(-lr T t) (f_0 - y) under gradient flow, (I - lr T)^t in place of the exponential
    after t steps of descent; at other points f_t = f_0 - Theta(x, X) Theta^{-1} (I - exp(-lr T t)) (f_0(X) - y). If
    only the last layer is trained, Theta is the NNGP. Time may be infinite.

    Args:
        kernel: (N, N) Theta on the training points, symmetric.
        y: (N) or (N, O) targets.
        time: one time or (T) of them; whole numbers where ``discrete``.
        lr: learning rate.
        discrete: steps of descent in place of gradient flow.
        start: f_0 (N) or (N, O) on the training points; zero if omitted.
        cross: (M, N) Theta between other points and the training points; if omitted, the answer is for the latter.
        start_cross: f_0 (M) or (M, O) at the other points; zero if omitted.

    Returns:
        (T, M) or (T, M, O), without T for a single time, float64. NaN at infinite time where descent diverges.

    Raises:
        ValueError: shapes that do not fit, a negative time, a part of a step, or lr <= 0.

    Source: Lee et al. 2019, "Wide neural networks of any depth evolve as linear models under gradient descent".

    >>> two = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> linearized_dynamics(two, torch.tensor([1.0, 1.0]), [0, 1, 2], discrete=True)  # rates 2 / 2 and 1 / 2
    tensor([[0.0000, 0.0000],
            [1.0000, 0.5000],
            [1.0000, 0.7500]], dtype=torch.float64)
    """
    N = len(kernel)
    _require_kernel("kernel", kernel, None)
    if cross is not None:
        _require_kernel("cross", cross, (len(cross), N))
    points = N if cross is None else len(cross)
    at_points = start if cross is None else start_cross
    for name, value, n in (("y", y, N), ("start", start, N), ("start_cross", at_points, points)):
        if value is not None and tuple(value.shape) != (n, *y.shape[1:]):
            raise ValueError(
                f"{name}: received shape {tuple(value.shape)}; valid is {(n, *y.shape[1:])}. Repair: one row a point."
            )
    V, learned, inverse = _modes(kernel, time, lr, discrete)
    gap = (y if start is None else y - start).to(F64).reshape(N, -1)
    seen = (learned if cross is None else inverse)[..., None] * (V.T @ gap)
    moved = (V if cross is None else cross.to(F64) @ V) @ seen
    moved = moved.reshape(*moved.shape[:-1], *y.shape[1:])
    return moved if at_points is None else moved + at_points.to(F64)


def ensemble_dynamics(
    train: Kernels,
    cross: Kernels,
    nngp_test: Tensor,
    y: Tensor,
    time: Tensor | Sequence[float] | float,
    *,
    lr: float = 1.0,
    discrete: bool = False,
) -> Ensemble:
    r"""Mean and covariance, over random starts, of infinitely wide networks trained for a time on squared error.

    With G = Theta(x, X) Theta^{-1} (I - exp(-lr Theta t / N)): mean G y, covariance Sigma(x, x) - G Sigma(X, x)
    - Sigma(x, X) G^T + G Sigma(X, X) G^T. With the NNGP in both places of ``train`` and ``cross`` only
    the last layer is trained, and at infinite time this is the posterior of the Gaussian process.

    Args:
        train: kernels (N, N) on the training points.
        cross: kernels (M, N) between test points and training points.
        nngp_test: (M, M) NNGP on the test points.
        y: (N) or (N, O) targets.
        time: one time or (T) of them; may be infinite.
        lr: learning rate.
        discrete: steps of descent in place of gradient flow.

    Returns:
        Ensemble of the mean and the covariance that each output has, with a leading T for several times.

    Raises:
        ValueError: as :func:`linearized_dynamics`.

    Source: Lee et al. 2019, as above.

    >>> prior = torch.eye(2)
    >>> told = ensemble_dynamics(Kernels(prior, prior), Kernels(prior, prior), prior, torch.ones(2), math.inf)
    >>> told.mean, told.covariance.abs().max() < 1e-12
    (tensor([1., 1.], dtype=torch.float64), tensor(True))
    """
    N, M = len(train.ntk), len(cross.ntk)
    for name, kernel, shape in (
        ("train.nngp", train.nngp, (N, N)), ("cross.nngp", cross.nngp, (M, N)), ("nngp_test", nngp_test, (M, M)),
    ):  # fmt: skip
        _require_kernel(name, kernel, shape)
    mean = linearized_dynamics(train.ntk, y, time, lr=lr, discrete=discrete, cross=cross.ntk)
    V, _, inverse = _modes(train.ntk, time, lr, discrete)
    G = (cross.ntk.to(F64) @ V * inverse[..., None, :]) @ V.T
    mixed = G @ cross.nngp.to(F64).T
    covariance = nngp_test.to(F64) - mixed - mixed.mT + G @ train.nngp.to(F64) @ G.mT
    return Ensemble(mean, covariance)
