r"""Where the last layers end up: the unconstrained-feature model with M linear layers on free features.

K classes with n_k samples, N in all; features H (d, N), one column a sample; W = W_M ... W_1 (K, d). Minimise

    F = 1/N sum_i l(W h_i + b, y_i) + sum_m lam_{W_m} / 2 ||W_m||^2 + lam_H / 2 ||H||^2

with l half the squared distance to the one-hot label ("mse") or the cross-entropy ("ce"). With squared error the
minimum is known for any class sizes, any depth and any decays: K problems in one unknown each. Write
Lam_W = prod_m lam_{W_m}; a mode k has target t_k (without bias t_k^2 = n_k) and

    g_k(x) = 1 / (1 + x^M) + b_k x,    b_k = M N (N Lam_W lam_H)^{1/M} / t_k^2,    F = sum_k t_k^2 / (2N) min_x g_k(x).

Source: Dang et al. 2023, "Neural collapse in deep linear networks: from balanced to imbalanced data"; every formula
here was derived again from F. All in float64 unless the arguments say otherwise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Seli",
    "Solution",
    "Trained",
    "Transition",
    "arrangement_value",
    "best_scale",
    "critical_count",
    "critical_decay",
    "descend",
    "largest_root",
    "minimize",
    "nested_minima",
    "objective",
    "seli",
    "solve",
    "steps_per_decade",
    "transition",
]


def _counts(counts: Tensor | Sequence[float]) -> Tensor:
    """Class sizes (K,) in float64, or ``ValueError``."""
    n = torch.as_tensor(counts, dtype=torch.float64)
    if n.dim() != 1 or not n.numel() or not bool(((n > 0) & n.isfinite()).all()):
        raise ValueError(
            f"counts: received {counts!r}; valid is a row of positive class sizes, at least one. "
            "Repair: counts=labels.bincount() without the classes that never occur."
        )
    return n


def _decays(lam_W: Sequence[float], lam_H: float) -> tuple[int, float]:
    """Depth M and the product lam_H * prod lam_W, or ``ValueError``."""
    if isinstance(lam_W, float | int) or not len(lam_W) or not all(0 < v < math.inf for v in (*lam_W, lam_H)):
        raise ValueError(
            f"lam_W, lam_H: received {lam_W!r} and {lam_H!r}; valid are positive decays, lam_W one a layer. "
            "Repair: lam_W=[1e-3] * M."
        )
    return len(lam_W), math.prod(lam_W) * lam_H


# ----------------------------------------------------------------------------------------------- one mode at a time


class Transition(NamedTuple):
    """Where a mode lets go: at b > ``death`` zero is lower, at b > ``spinodal`` nothing else is left."""

    death: float
    spinodal: float
    logit: float  # of the living branch at the death


def _depth(M: int) -> None:
    if not isinstance(M, int) or isinstance(M, bool) or M < 1:
        raise ValueError(f"M: received {M!r}; valid is a whole number of layers, at least 1. Repair: M=1.")


def transition(M: int) -> Transition:
    r"""Where 1/(1+x^M) + b x changes its lowest point, b* = (M-1)^{(M-1)/M} / M with x^M = M - 1, and loses the other.

    For M = 1 the two coincide at b = 1 and the logit falls to zero continuously. For M >= 2 it jumps from (M-1)/M, and
    a local minimum survives up to b = (M+1)^2 / (4M) ((M-1)/(M+1))^{(M-1)/M}, where g' and g'' vanish together.

    Args:
        M: number of linear layers.

    Returns:
        The two values of b, and the logit x^M / (1 + x^M) at the first.

    Raises:
        ValueError: M is not a whole number of at least one.

    Source: derived from g' = 0 with g = 1 and with g'' = 0; the first agrees with the condition of Dang et al. 2023.

    >>> [round(v, 6) for v in transition(2)]
    [0.5, 0.649519, 0.5]
    """
    _depth(M)
    power = (M - 1) / M
    return Transition((M - 1) ** power / M, (M + 1) ** 2 / (4 * M) * ((M - 1) / (M + 1)) ** power, (M - 1) / M)


def largest_root(b: Tensor, M: int) -> Tensor:
    r"""The largest x with M x^{M-1} / (1 + x^M)^2 = b: the living local minimum of g; zero where there is none.

    In u = log x the equation log M + (M-1) u - 2 log(1 + e^{Mu}) = log b has a concave left side. Newton's method from
    the upper bound x = (M/b)^{1/(M+1)} therefore comes down to the largest root and never passes it.

    Args:
        b: (...) positive.
        M: number of linear layers.

    Returns:
        (...) x, a local minimum of g; whether it is below g(0) = 1 is for the caller to ask.

    Raises:
        ValueError: b is not positive, or M.

    Source: stationarity of the scalar problem in Dang et al. 2023.

    >>> x = largest_root(torch.tensor([0.5, 0.7], dtype=torch.float64), 2)
    >>> x.round(decimals=6)
    tensor([1., 0.], dtype=torch.float64)
    """
    _depth(M)
    b = torch.as_tensor(b)
    if not bool((b > 0).all()):
        raise ValueError(f"b: received {float(b.min()):.3g}; valid are positive numbers. Repair: positive decays.")
    if M == 1:
        return (b.rsqrt() - 1).clamp_min(0)
    spinodal = transition(M).spinodal
    target = b.clamp_max(spinodal).log()  # beyond it there is no root to look for
    u = (math.log(M) - target) / (M + 1)
    enough = 8 * torch.finfo(b.dtype).eps * (1 + target.abs())
    for _ in range(60):  # converges quadratically, except at the spinodal, where the distance only halves
        value = math.log(M) + (M - 1) * u - 2 * torch.logaddexp(M * u, torch.zeros_like(u)) - target
        if not bool((value.abs() > enough).any()):
            break
        u = u - value / (M - 1 - 2 * M * torch.sigmoid(M * u)).clamp_max(-torch.finfo(b.dtype).eps)
    return torch.where(b <= spinodal, u.exp(), torch.zeros_like(b))


def critical_count(N: float, lam_W: Sequence[float], lam_H: float) -> float:
    r"""Classes with fewer samples vanish at the minimum of squared error: M^2 (M-1)^{-(M-1)/M} N (N Lam_W lam_H)^{1/M}.

    For M = 1, N^2 lam_W lam_H, this is also the size at or below which the small classes of a two-level problem become
    one under cross-entropy.

    Args:
        N: number of samples in all.
        lam_W: decay of each linear layer.
        lam_H: decay of the features.

    Returns:
        A number of samples, not rounded.

    Raises:
        ValueError: decays that are not positive.

    Source: b = b* in :func:`transition`.

    >>> round(critical_count(180, [8e-3], 8e-3), 4)
    2.0736
    """
    M, product = _decays(lam_W, lam_H)
    return M * N * (N * product) ** (1 / M) / transition(M).death


def critical_decay(count: float, N: float, M: int) -> float:
    r"""The decay, equal for all M layers and the features, above which a class of this size vanishes.

    lam = [(b* n_k / (M N))^M / N]^{1/(M+1)}, which is :func:`critical_count` solved for lam.

    Args:
        count: samples of the class.
        N: samples in all.
        M: number of linear layers.

    Returns:
        A decay.

    Raises:
        ValueError: M, or counts that are not positive.

    Source: b = b* in :func:`transition`.

    >>> round(critical_decay(20, 840, 1), 6), round(critical_decay(20, 840, 6), 6)
    (0.005324, 0.002271)
    """
    death = transition(M).death
    if not 0 < count <= N:
        raise ValueError(f"count, N: received {count} and {N}; valid are 0 < count <= N. Repair: N=counts.sum().")
    return ((death * count / (M * N)) ** M / N) ** (1 / (M + 1))


# ------------------------------------------------------------------------------------------------- the whole solution


@dataclass(frozen=True)
class Solution:
    """The minimum of squared error, by modes: singular vectors of the target. Without bias modes are classes.

    Attributes:
        counts: (K,) class sizes.
        loss: F at the minimum.
        logits: (K,) y / (1 + y), the share of its target that a mode reaches; 0 for a mode that vanished.
        classifier: (K,) squared singular values of W; without bias the squared lengths of its rows.
        features: (K,) squared singular values of Hbar D, D = diag(sqrt n_k); without bias n_k |hbar_k|^2.
        layers: (M, K) singular values of W_1, ..., W_M.
        targets: (K,) t_k, the singular values of the target.
        bias: (K,) or None.
        left: (K, K) orthonormal columns, or None for the identity.
        right: (K, K) likewise, on the side of the classes.
    """

    counts: Tensor
    loss: float
    logits: Tensor
    classifier: Tensor
    features: Tensor
    layers: Tensor
    targets: Tensor
    bias: Tensor | None = None
    left: Tensor | None = None
    right: Tensor | None = None

    @property
    def classifier_gram(self) -> Tensor:
        """W W^T (K, K)."""
        return _conjugated(self.left, self.classifier, self.left)

    @property
    def means_gram(self) -> Tensor:
        """Hbar^T Hbar (K, K), the inner products of the class means."""
        return _conjugated(self.right, self.features, self.right) / self._sizes / self._sizes[:, None]

    @property
    def outputs(self) -> Tensor:
        """W Hbar + b 1^T (K, K): column k is what the network says of a sample of class k."""
        Z = _conjugated(self.left, self.targets * self.logits, self.right) / self._sizes
        return Z if self.bias is None else Z + self.bias[:, None]

    @property
    def _sizes(self) -> Tensor:
        return self.counts.sqrt()


def _conjugated(U: Tensor | None, values: Tensor, V: Tensor | None) -> Tensor:
    return torch.diag(values) if U is None or V is None else U * values @ V.mT


def solve(
    counts: Tensor | Sequence[float],
    lam_W: Sequence[float],
    lam_H: float,
    *,
    bias_decay: float | None = None,
    width: int | None = None,
) -> Solution:
    r"""The global minimum of squared error for M = len(lam_W) linear layers on free features.

    Without bias each class is its own mode, t_k = sqrt n_k: rows, means and outputs are orthogonal. A bias without
    decay takes the average away: modes are those of (I - n 1^T / N) D, the bias is n / N, and equal classes form a
    simplex. A bias with decay lam_b is solved for equal classes only: the average keeps the share lam_b / (1 + lam_b)
    of its weight.

    Args:
        counts: (K,) class sizes.
        lam_W: decay of each linear layer, the one next to the features first.
        lam_H: decay of the features.
        bias_decay: None: no bias; 0.0: a bias without decay; above: with decay lam_b / 2 |b|^2.
        width: the least of d and the widths between layers, where it is below K: only so many modes live. Which of
            several equal modes live is then not determined, and the first ones are taken.

    Returns:
        The minimum. A mode is alive if and only if its logit is not 0.

    Raises:
        ValueError: counts or decays that are not positive, a negative bias_decay, a positive one with unequal classes,
            or a width below one.

    Source: Dang et al. 2023 (without bias, and balanced with bias); unequal classes with bias derived here, by the
    substitution of the target.

    >>> found = solve([100, 60, 30], [8e-3], 8e-3)
    >>> round(found.loss, 10), found.logits.round(decimals=6).tolist()
    (0.1675455381, [0.848, 0.803769, 0.722487])
    """
    n = _counts(counts)
    M, product = _decays(lam_W, lam_H)
    if bias_decay is not None and not (bias_decay == 0 or (bias_decay > 0 and bool((n == n[0]).all()))):
        raise ValueError(
            f"bias_decay: received {bias_decay} for counts {n.tolist()[:4]}...; valid is None, 0.0, or, for equal "
            "classes only, a positive decay. Repair: bias_decay=0.0."
        )
    if width is not None and width < 1:
        raise ValueError(f"width: received {width}; valid is at least 1. Repair: width=None.")
    N, K = float(n.sum()), len(n)
    left = right = None
    targets, weight = n.sqrt(), torch.ones_like(n)
    if bias_decay == 0:
        left, targets, right_t = torch.linalg.svd(torch.diag(n.sqrt()) - n[:, None] * n.sqrt() / N)
        right = right_t.mT
    elif bias_decay is not None:
        left = right = torch.linalg.svd(torch.ones(K, 1, dtype=n.dtype)).U  # the average first, then contrasts
        weight[0] = bias_decay / (1 + bias_decay)
    b = M * N * (N * product / weight ** (M + 1)) ** (1 / M) / targets.square().clamp_min(torch.finfo(n.dtype).tiny)
    x = largest_root(b, M)
    g = 1 / (1 + x**M) + b * x
    x = torch.where(g < 1, x, torch.zeros_like(x))
    gain = weight * targets.square() * (1 - g).clamp_min(0)
    if width is not None and width < K:
        x[gain.argsort(descending=True, stable=True)[width:]] = 0.0
    logits = x**M / (1 + x**M)
    alive = x > 0
    loss = float((weight * targets.square() * torch.where(alive, g, torch.ones_like(g))).sum()) / (2 * N)
    shared = (product * (targets * logits).square()) ** (1 / (M + 1))  # lam_m s_m^2, the same in every layer
    decays = torch.as_tensor(lam_W, dtype=n.dtype)
    bias = None
    if bias_decay is not None:
        bias = n / N if bias_decay == 0 else (1 - logits[0]) / (1 + bias_decay) * n / N
    return Solution(
        counts=n,
        loss=loss,
        logits=logits,
        classifier=(shared[:, None] / decays).prod(1),
        features=shared / lam_H,
        layers=(shared / decays[:, None]).sqrt(),
        targets=targets,
        bias=bias,
        left=left,
        right=right,
    )


def nested_minima(counts: Tensor | Sequence[float], lam_W: Sequence[float], lam_H: float) -> list[float]:
    r"""F at the local minima without bias: only the r largest classes live, r = 0, 1, ..., as long as they can.

    For M >= 2 zero is a strict local minimum of each g_k, and these are all local minima: a state in which a class is
    off while a smaller one is on goes down by turning into it. For M = 1 only the last one is a minimum.

    Args:
        counts: (K,) class sizes.
        lam_W: decay of each linear layer.
        lam_H: decay of the features.

    Returns:
        F for r = 0, 1, ..., up to the last class that has a living branch.

    Raises:
        ValueError: counts or decays that are not positive.

    Source: derived here from the scalar problems and the second variation.

    >>> [round(F, 4) for F in nested_minima([100, 60, 30], [8e-3] * 2, 8e-3)]
    [0.5, 0.2912, 0.1787, 0.1349]
    """
    n = _counts(counts).sort(descending=True).values
    M, product = _decays(lam_W, lam_H)
    N = float(n.sum())
    b = M * N * (N * product) ** (1 / M) / n
    x = largest_root(b, M)
    saved = (n * (1 - 1 / (1 + x**M) - b * x) / (2 * N))[x > 0]
    return [0.5, *(0.5 - saved.cumsum(0)).tolist()]


# -------------------------------------------------------------------------------------------------- objective, descent


def objective(
    weights: Sequence[Tensor],
    H: Tensor,
    labels: Tensor,
    lam_W: Sequence[float],
    lam_H: float,
    *,
    multiplicity: Tensor | None = None,
    bias: Tensor | None = None,
    bias_decay: float = 0.0,
    loss: str = "mse",
) -> Tensor:
    r"""F itself. A column may stand for several equal samples: at any critical point equal labels have equal features.

    Args:
        weights: W_1 (..., d_1, d), ..., W_M (..., K, d_{M-1}), the one next to the features first.
        H: (..., d, P) one column a sample, or a class mean.
        labels: (P,) integers.
        lam_W: decay of each layer.
        lam_H: decay of the features.
        multiplicity: (P,) how many samples a column stands for; ones if omitted.
        bias: (..., K) or None.
        bias_decay: lam_b.
        loss: "mse" or "ce".

    Returns:
        (...) F.

    Raises:
        ValueError: an unknown loss, or another number of decays than of layers.

    Source: Dang et al. 2023, with the scale 1/(2N) of their synthetic experiments.

    >>> eye = torch.eye(2, dtype=torch.float64)
    >>> float(objective([eye], eye, torch.arange(2), [0.5], 0.5))
    1.0
    """
    if loss not in ("mse", "ce") or len(weights) != len(lam_W):
        raise ValueError(
            f"loss, lam_W: received {loss!r}, {len(lam_W)} decays for {len(weights)} layers; valid is 'mse' or 'ce', "
            "one decay a layer. Repair: loss='mse', lam_W=[1e-3] * len(weights)."
        )
    m = H.new_ones(H.shape[-1]) if multiplicity is None else multiplicity
    Z = H
    for W in weights:
        Z = W @ Z
    if bias is not None:
        Z = Z + bias[..., :, None]
    picked = Z.gather(-2, labels.expand(*Z.shape[:-2], 1, -1)).squeeze(-2)
    each = Z.square().sum(-2) / 2 - picked + 0.5 if loss == "mse" else Z.logsumexp(-2) - picked
    decay = lam_H * (m * H.square().sum(-2)).sum(-1)
    for lam, W in zip(lam_W, weights, strict=True):
        decay = decay + lam * W.square().sum((-2, -1))
    if bias is not None:
        decay = decay + bias_decay * bias.square().sum(-1)
    return (m * each).sum(-1) / m.sum() + decay / 2


class Trained(NamedTuple):
    """What a descent ended with: layers, features, bias, F, and F along the way where it was recorded."""

    weights: list[Tensor]
    H: Tensor
    bias: Tensor | None
    loss: Tensor
    history: Tensor

    @property
    def classifier(self) -> Tensor:
        """W_M ... W_1 (..., K, d)."""
        W = self.weights[0]
        for layer in self.weights[1:]:
            W = layer @ W
        return W


def _start(
    widths: Sequence[int], columns: int, std: float, lead: tuple[int, ...], generator: torch.Generator | None
) -> list[Tensor]:
    """Gaussian features (d, columns), then layers between the given widths."""
    shapes = [(widths[0], columns), *((b, a) for a, b in pairwise(widths))]
    return [std * torch.randn(*lead, *s, generator=generator, dtype=torch.float64) for s in shapes]


def minimize(
    counts: Tensor | Sequence[float],
    lam_W: Sequence[float],
    lam_H: float,
    *,
    width: int,
    loss: str = "mse",
    bias: bool = False,
    bias_decay: float = 0.0,
    std: float = 0.5,
    steps: int = 5000,
    start: tuple[Sequence[Tensor], Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Trained:
    """A local minimum of F by L-BFGS, on one column a class.

    The unknowns are the layers and X = Hbar D, so that all of them have curvatures of one size.

    Args:
        counts: (K,) class sizes.
        lam_W: decay of each linear layer.
        lam_H: decay of the features.
        width: d and every width between layers.
        loss: "mse" or "ce".
        bias: with a last-layer bias.
        bias_decay: its decay.
        std: standard deviation of the entries at the start.
        steps: most iterations.
        start: layers and class means (d, K) to begin with, in place of random ones.
        generator: source of randomness; the global one if omitted.

    Returns:
        The end point; H (d, K) holds class means. The history is empty.

    Raises:
        ValueError: counts or decays that are not positive, or an unknown loss.

    Source: Byrd, Lu, Nocedal & Zhu 1995, as in SciPy.

    >>> found = minimize([30, 20], [8e-3], 8e-3, width=4, generator=torch.Generator().manual_seed(0))
    >>> bool(abs(found.loss - solve([30, 20], [8e-3], 8e-3).loss) < 1e-10)
    True
    """
    import numpy as np
    from scipy.optimize import minimize as scipy_minimize

    n = _counts(counts)
    M, _ = _decays(lam_W, lam_H)
    K = len(n)
    if start is None:
        X, *weights = _start([width] * M + [K], K, std, (), generator)
    else:
        weights, X = [W.double() for W in start[0]], start[1].double() * n.sqrt()
    parts = [X, *weights] + ([torch.zeros(K, dtype=n.dtype)] if bias else [])
    sizes, labels = [p.numel() for p in parts], torch.arange(K)

    def unpack(flat: Tensor) -> tuple[list[Tensor], Tensor, Tensor | None]:
        X, *rest = (f.view(p.shape) for f, p in zip(flat.split(sizes), parts, strict=True))
        return rest[:M], X / n.sqrt(), rest[M] if bias else None

    def F(flat: Tensor) -> Tensor:
        W, H, b = unpack(flat)
        return objective(W, H, labels, lam_W, lam_H, multiplicity=n, bias=b, bias_decay=bias_decay, loss=loss)

    def both(flat: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.from_numpy(flat.copy()).requires_grad_()
        value = F(point)
        (slope,) = torch.autograd.grad(value, point)
        return float(value.detach()), slope.numpy()

    options = {"maxiter": steps, "maxfun": 2 * steps, "maxcor": 40, "ftol": 0.0, "gtol": 1e-11}
    begin = torch.cat([p.flatten() for p in parts]).numpy()
    end = torch.from_numpy(scipy_minimize(both, begin, jac=True, method="L-BFGS-B", options=options).x.copy())
    W, H, b = unpack(end)
    return Trained(W, H, b, F(end), end.new_empty(0))


def descend(
    counts: Tensor | Sequence[float],
    lam_W: Sequence[float],
    lam_H: float,
    *,
    width: int,
    steps: int,
    lr: float = 0.1,
    momentum: float = 0.9,
    cosine: bool = False,
    loss: str = "mse",
    std: float = 0.1,
    runs: int = 1,
    every_sample: bool = True,
    every: int = 0,
    start: Sequence[Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Trained:
    """Gradient descent with momentum on F, several independent runs side by side.

    Args:
        counts: (K,) class sizes.
        lam_W: decay of each linear layer.
        lam_H: decay of the features.
        width: d and every width between layers.
        steps: how many.
        lr: learning rate.
        momentum: of the heavy ball.
        cosine: let the rate fall to zero like a cosine.
        loss: "mse" or "ce".
        std: standard deviation of the entries at the start.
        runs: how many starts; the leading dimension of what is returned.
        every_sample: one free column a sample, as the model says; else one a class, which has the same minima.
        every: record F each so many steps; 0 for never.
        start: features (runs, d, P) and layers to begin with, in place of random ones.
        generator: source of randomness; the global one if omitted.

    Returns:
        The end points, (runs, ...); ``history`` is (steps / every, runs).

    Raises:
        ValueError: counts or decays that are not positive, an unknown loss, or a descent that left all bounds.

    Source: the optimiser of the synthetic experiments of Dang et al. 2023.

    >>> g = torch.Generator().manual_seed(0)
    >>> found = descend([3, 2], [0.02], 0.02, width=2, steps=3000, generator=g)
    >>> bool(abs(found.loss[0] - solve([3, 2], [0.02], 0.02).loss) < 1e-10)
    True
    """
    n = _counts(counts)
    M, _ = _decays(lam_W, lam_H)
    K = len(n)
    labels = torch.arange(K).repeat_interleave(n.long()) if every_sample else torch.arange(K)
    m = None if every_sample else n
    parts = _start([width] * M + [K], len(labels), std, (runs,), generator) if start is None else start
    parts = [p.clone().requires_grad_() for p in parts]
    optimizer = torch.optim.SGD(parts, lr=lr, momentum=momentum)
    history = []
    for step in range(steps):
        value = objective(parts[1:], parts[0], labels, lam_W, lam_H, multiplicity=m, loss=loss)
        if every and step % every == 0:
            history.append(value.detach())
        optimizer.zero_grad()
        value.sum().backward()
        if cosine:
            optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.step()
    H, *weights = (p.detach() for p in parts)
    with torch.no_grad():
        end = objective(weights, H, labels, lam_W, lam_H, multiplicity=m, loss=loss)
    if not bool(end.isfinite().all()):
        raise ValueError(f"lr: received {lr}, with which F left all bounds; valid is less. Repair: lr={lr / 10:g}.")
    return Trained(weights, H, None, end, torch.stack(history) if history else end.new_empty(0))


def steps_per_decade(decay: float, lr: float, momentum: float = 0.0) -> float:
    r"""Steps in which descent near the minimum gains one decimal digit: ln 10 (1 - momentum) / (2 decay lr).

    Why so slow: what two adjacent layers disagree in, W_1 W_1^T - ..., is not seen by the data term and decays like
    exp(-2 decay t) under the weight decay alone, with time t = lr / (1 - momentum) a step.

    Args:
        decay: the common decay of layers and features.
        lr: learning rate.
        momentum: of the heavy ball.

    Returns:
        A number of steps, not rounded.

    Raises:
        ValueError: decay or lr not positive, or momentum outside [0, 1).

    Source: derived here.

    >>> round(steps_per_decade(5e-4, 0.1, 0.9))
    2303
    """
    if not (decay > 0 and lr > 0 and 0 <= momentum < 1):
        raise ValueError(
            f"decay, lr, momentum: received {decay}, {lr}, {momentum}; valid are positive ones and momentum in [0, 1). "
            "Repair: momentum=0.9."
        )
    return math.log(10) * (1 - momentum) / (2 * decay * lr)


# ------------------------------------------------------------------------------------------------------ cross-entropy


def arrangement_value(Z: Tensor, counts: Tensor | Sequence[float], lam_W: Sequence[float], lam_H: float) -> Tensor:
    r"""The least cross-entropy objective of all layers and features with given logits Z = W Hbar.

    1/N sum_k n_k CE(z_k, k) + (M+1)/2 Lam^{1/(M+1)} sum_i sigma_i(Z D)^{2/(M+1)}, Lam = Lam_W lam_H: the cheapest
    factorisation of a matrix shares its singular values evenly among M + 1 factors. Needs widths of at least rank Z.

    Args:
        Z: (..., K, K), column k the logits of class k.
        counts: (K,) class sizes.
        lam_W: decay of each linear layer.
        lam_H: decay of the features.

    Returns:
        (...) values.

    Raises:
        ValueError: counts or decays that are not positive, or Z of another shape.

    Source: Srebro 2004 (M = 1) and Shang et al. 2016, "Schatten quasi-norm" by products of factors.

    >>> round(float(arrangement_value(torch.zeros(3, 3), [1, 1, 1], [0.1], 0.1)), 4)  # log 3
    1.0986
    """
    n = _counts(counts).to(Z.dtype)
    M, product = _decays(lam_W, lam_H)
    if Z.shape[-2:] != (len(n), len(n)):
        raise ValueError(f"Z: received {tuple(Z.shape)}; valid is (..., {len(n)}, {len(n)}). Repair: one row a class.")
    entropy = ((Z.logsumexp(-2) - Z.diagonal(dim1=-2, dim2=-1)) * n).sum(-1) / n.sum()
    values = torch.linalg.svdvals(Z * n.sqrt())
    return entropy + (M + 1) / 2 * product ** (1 / (M + 1)) * values.pow(2 / (M + 1)).sum(-1)


def best_scale(
    Z: Tensor, counts: Tensor | Sequence[float], lam_W: Sequence[float], lam_H: float
) -> tuple[float, float]:
    """The scale a >= 0 at which :func:`arrangement_value` of a Z is least.

    Args:
        Z: (K, K) logits up to scale.
        counts: (K,) class sizes.
        lam_W: decay of each linear layer.
        lam_H: decay of the features.

    Returns:
        a and the value there.

    Raises:
        ValueError: as in :func:`arrangement_value`.

    Source: a search over a grid, then Brent's method between its neighbours.

    >>> simplex = torch.eye(4, dtype=torch.float64) - 0.25
    >>> a, _ = best_scale(simplex, [50] * 4, [1e-3], 1e-3)
    >>> round(a, 5), round(math.log(1 / math.sqrt(50 * 1e-6) - 3), 5)
    (4.9303, 4.9303)
    """
    from scipy.optimize import minimize_scalar

    grid = torch.cat([Z.new_zeros(1), torch.logspace(-3, 3, 400, dtype=Z.dtype)])
    values = arrangement_value(grid[:, None, None] * Z, counts, lam_W, lam_H)
    k = int(values.argmin())
    if k == 0:
        return 0.0, float(values[0])
    low, high = float(grid[k - 1]), float(grid[min(k + 1, len(grid) - 1)])
    found = minimize_scalar(
        lambda a: float(arrangement_value(a * Z, counts, lam_W, lam_H)),
        bounds=(low, high), method="bounded", options={"xatol": 1e-10},
    )  # fmt: skip
    return float(found.x), float(found.fun)


class Seli(NamedTuple):
    """The geometry of simplex-encoded labels: logits, inner products of classifier rows and of class means, (K, K)."""

    logits: Tensor
    classifier_gram: Tensor
    means_gram: Tensor


def seli(counts: Tensor | Sequence[float]) -> Seli:
    r"""Where cross-entropy with one layer goes as the decay vanishes, up to scale, for any class sizes.

    The labels, centred over classes: Zhat = (I - 1 1^T / K) Y. With the compact singular value decomposition
    Zhat = V L U^T: W W^T = V L V^T and H^T H = U L U^T. Equal classes: the simplex.

    Args:
        counts: (K,) class sizes.

    Returns:
        Logits (one column a class) and the two Gram matrices.

    Raises:
        ValueError: counts that are not positive.

    Source: Thrampoulidis et al. 2022, "Imbalance trouble: revisiting neural-collapse geometry".

    >>> lengths = seli([10, 10, 1, 1]).classifier_gram.diagonal()
    >>> round(float(lengths[0] / lengths[2]), 4)
    1.9952
    """
    n = _counts(counts)
    K = len(n)
    logits = torch.eye(K, dtype=n.dtype) - 1 / K
    V, L, Ut = torch.linalg.svd(logits * n.sqrt())
    return Seli(logits, V * L @ V.mT, Ut.mT * L @ Ut / n.sqrt() / n.sqrt()[:, None])
