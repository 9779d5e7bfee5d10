"""Experiments of the page *A wide network is a kernel machine*: kernels at the start, their drift, training, cost.

Jacot, Gabriel & Hongler, "Neural Tangent Kernel: Convergence and Generalization in Neural Networks" (NeurIPS 2018);
Lee et al. 2019 (linearised training); Novak et al. 2022 (cost). Networks have standard normal weights and factors
s_w / sqrt(fan_in), s_b in the forward pass. S networks of one shape are trained side by side.
"""

import copy
import functools
import json
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp, vjp, vmap
from torch.utils.flop_counter import FlopCounterMode

from repgeom import data
from repgeom.data.store import checkpoints as checkpoints
from repgeom.nn.ntk import NTKLinear as NTKLinear
from repgeom.nn.ntk import NTKNetworks
from repgeom.theory import kernels as theory
from repgeom.theory.empirical_ntk import empirical_ntk

F64 = torch.float64
JACOT: dict[str, Any] = {"activation": "relu", "weight_std": 1.0, "bias_std": 0.1}  # of all figures of the paper
ERF: dict[str, Any] = {"activation": "erf", "weight_std": 1.5, "bias_std": 0.05}
_CI: dict[str, Any] = {
    "concentration": {"widths": (64, 128, 256, 512, 1024, 2048), "starts": 4},
    "drift": {"widths": (125, 250, 500), "starts": (3, 2, 1), "steps": 200},
    "linear": {"widths": (64, 128, 256, 512), "steps": 400, "starts": (12, 6, 3, 2), "lr": 0.5},
    "band": {"starts": 10, "runs": ((50, 1000, 1.0), (500, 75, 4.0))},
    "components": {"widths": (100, 400), "digits": 256, "steps": 100, "lr": 10.0},
    "images": {"widths": (64, 128, 256, 512), "points": 48, "steps": 60},
    "regression": {"train": 1000, "test": 797},
    "moving": {"widths": (16, 32, 64), "starts": (1, 1, 1), "steps": 200},
    "wide": {"widths": (1024, 2048, 4096, 8192), "starts": 5, "steps": 200, "cifar": 10_000},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {
        "concentration": {"widths": (16, 64, 128), "starts": 1},
        "drift": {"widths": (16, 32), "starts": (2, 1), "steps": 3},
        "linear": {"widths": (16, 32), "steps": 3, "starts": (2, 1), "lr": 0.5},
        "band": {"starts": 1, "runs": ((8, 3, 1.0), (16, 2, 4.0))},
        "components": {"widths": (8, 16), "digits": 24, "steps": 2, "lr": 1.0},
        "images": {"widths": (8, 16), "points": 12, "steps": 2},
        "regression": {"train": 60, "test": 40},
        "moving": {"widths": (8,), "starts": (1,), "steps": 2},
        "wide": {"widths": (16, 32), "starts": 2, "steps": 2, "cifar": 60},
    },
    "ci": _CI,
    "full": _CI,
}


def generator(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def circle(angles: Tensor) -> Tensor:
    """Points (N, 2) at those angles, float64."""
    return torch.stack([angles.cos(), angles.sin()], -1).to(F64)


def even_angles(N: int, turn: float = 0.0) -> Tensor:
    """N evenly spaced angles from -pi + turn, float64."""
    return torch.arange(N, dtype=F64) * (2 * math.pi / N) - math.pi + turn


def log_slope(widths: Sequence[float], values: Tensor) -> Tensor:
    """Least-squares slope of log values (W, ...) against log widths: (...)."""
    x = torch.tensor([math.log(w) for w in widths], dtype=F64)
    x = x - x.mean()
    return (x @ values.to(F64).log().flatten(1)).reshape(values.shape[1:]) / x.square().sum()


# Both kernels between the points of the unit circle at angle 0 and at 0, 30, 90, 150 and 180 degrees, by
# neural_tangents 0.6.5 in float64; and the trained ensemble of the erf network (see golden_dynamics).
GOLDEN: dict[str, tuple[dict[str, Any], list[float], list[float]]] = {
    "ReLU, 4 layers, bias 0.1": ({"depth": 4, **JACOT},
        [0.081250000000, 0.075168211615, 0.055760277603, 0.048488180978, 0.048096589795],
        [0.282500000000, 0.207364321198, 0.092702110174, 0.064134367488, 0.064353770145]),
    "ReLU, 3 layers, no bias": ({"depth": 3, "activation": "relu", "weight_std": math.sqrt(2)},
        [1.0, 0.893261729059, 0.493731090200, 0.325753517924, 0.318309886184],
        [3.0, 2.244232387262, 0.685708636283, 0.260382515606, 0.318309886184]),
    "erf, 3 layers": ({"depth": 3, **ERF},
        [1.087837350361, 0.885763512060, 0.006711183498, -0.869271915020, -1.069220532415],
        [4.140204548379, 3.081412119467, 0.012893721422, -3.031765620246, -4.066702581605]),
    "sine, 2 layers": ({"depth": 2, "activation": "sin", "weight_std": 1.2, "bias_std": 0.1},
        [0.562789882195, 0.479649106271, 0.016939605116, -0.442983217681, -0.525155058530],
        [1.210453268193, 1.010513149275, 0.023879441551, -0.951428042504, -1.147350090562]),
    "GELU, 2 layers": ({"depth": 2, "activation": "gelu", "weight_std": 1.5, "bias_std": 0.1},
        [1.115226242362, 0.964452106195, 0.231714088154, -0.139463795978, -0.159881912403],
        [2.298466520262, 1.909545222725, 0.237375253145, -0.308126717646, -0.264853389579]),
}  # fmt: skip
GOLDEN_DYNAMICS: dict[str, list[list[float]]] = {  # mean and variance at 0.3 and 2.0 radians
    "10": [[-0.16611842, 0.53577078], [0.00629875, 0.06633087]],
    "end": [[-0.11930042, 0.71104072], [0.00524704, 0.06030354]],
    "posterior": [[-0.0979057, 0.9359885], [0.00514916, 0.05692681]],
}
SMOOTH: dict[Any, Callable[[Tensor], Tensor]] = {"erf": torch.erf, "sin": torch.sin, "gelu": nn.functional.gelu}


# ---------------------------------------------------------------------------------------------------------- networks


class Networks(NTKNetworks):
    """S networks side by side (see ``repgeom.nn.ntk``), with their tangent kernels."""

    def ntk(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """Tangent kernels (S, N1, N2), the mean over outputs."""
        like = self.weights[0]
        points = (x1.to(like), None if x2 is None else x2.to(like))
        return torch.stack([empirical_ntk(self.member(k), *points, trace=True) for k in range(len(like))])


def starts(seeds: Sequence[int], each: int) -> list[int]:
    """``each`` seeds of networks for every seed; different base seeds give different ones."""
    return [1000 * seed + k for seed in seeds for k in range(each)]


# --------------------------------------------------------------------------------------------- at the start and after


def concentration(widths: Sequence[int], seeds: Sequence[int], each: int, points: int = 32) -> dict[str, Tensor]:
    """Four layers, points on the circle: relative RMS error (W, S) of one network's kernel, and of the mean of all (W).

    Errors are relative to the RMS of the kernel in the limit; for each seed the RMS over ``each`` starts.
    """
    x = circle(even_angles(points))
    limit = theory.ntk(x, depth=4, bias_std=JACOT["bias_std"])
    rows, means = [], []
    for n in widths:
        found = torch.stack(
            [Networks((2, n, n, n, 1), [s], **JACOT).ntk(x)[0].double() for s in starts(seeds, each)]
        ).unflatten(0, (len(seeds), each))
        rows.append((found - limit).square().mean((1, 2, 3)).sqrt() / limit.square().mean().sqrt())
        means.append(float((found.mean((0, 1)) - limit).norm() / limit.norm()))
    return {"error": torch.stack(rows), "mean": torch.tensor(means)}


class Drift(NamedTuple):
    """Of the first start of each seed the kernel from (1, 0) to the angles, before and after training (W, S, A); means
    over starts of inflation, change and loss (W, S), and the least inflation of all runs."""

    angles: Tensor
    before: Tensor
    after: Tensor
    inflation: Tensor
    change: Tensor
    loss: Tensor
    least: float


def drift(
    widths: Sequence[int],
    seeds: Sequence[int],
    each: Sequence[int],
    steps: int,
    lr: float = 1.0,
    device: torch.device | str = "cpu",
) -> Drift:
    """Four layers trained on f*(x) = x_1 x_2 at 128 normal points in the plane, as in the first figure of the paper.

    ``each``: starts for every seed, one number a width; every seed has its own points. Inflation: relative growth of
    the mean diagonal of the kernel on the points; change: relative Frobenius norm.
    """
    angles = even_angles(48)
    probe = circle(angles).float().to(device)
    first = torch.tensor([[1.0, 0.0]], device=device)
    rows: list[list[Tensor]] = []
    least = math.inf
    for n, runs in zip(widths, each, strict=True):
        for seed in seeds:
            x = torch.randn(128, 2, generator=generator(seed)).to(device)
            y = (x[:, 0] * x[:, 1])[:, None]
            net = Networks((2, n, n, n, 1), starts([seed], runs), **JACOT, device=device)
            K0, k0 = net.ntk(x), net.ntk(first, probe)[0, 0]
            net.descend(x, y, steps, lr)
            K1, k1 = net.ntk(x), net.ntk(first, probe)[0, 0]
            grown = K1.diagonal(dim1=1, dim2=2).mean(1) / K0.diagonal(dim1=1, dim2=2).mean(1) - 1
            change = torch.linalg.matrix_norm(K1 - K0) / torch.linalg.matrix_norm(K0)
            least = min(least, float(grown.min()))
            rows.append([k0, k1, grown.mean(), change.mean(), (net(x) - y).square().mean() / 2])
    shaped = [torch.stack(c).unflatten(0, (len(widths), len(seeds))).double().cpu() for c in zip(*rows, strict=True)]
    return Drift(angles, *cast(list[Any], [*shaped, least]))


# ---------------------------------------------------------------------------------------- networks and linearised ones


def golden_dynamics() -> dict[str, Tensor]:
    """The closed forms at the golden case: erf, three layers, five angles; mean and variance at two test angles."""
    x = circle(torch.tensor([0, 30, 90, 150, 180], dtype=F64) * math.pi / 180)
    new, y = circle(torch.tensor([0.3, 2.0], dtype=F64)), torch.tensor([1, -1, 0.5, 0, -0.5], dtype=F64)
    train, cross = theory.kernels(x, depth=3, **ERF), theory.kernels(new, x, depth=3, **ERF)
    prior = theory.nngp(new, depth=3, **ERF)
    last = theory.Kernels(train.nngp, train.nngp), theory.Kernels(cross.nngp, cross.nngp)
    told = {
        "10": theory.ensemble_dynamics(train, cross, prior, y, 10),
        "end": theory.ensemble_dynamics(train, cross, prior, y, math.inf),
        "posterior": theory.ensemble_dynamics(*last, prior, y, math.inf),
    }
    return {name: torch.stack([e.mean, e.covariance.diagonal()]) for name, e in told.items()}


def simulated_linear_model(steps: int, lr: float, seed: int) -> float:
    """Descend on w in f_0 + J (w - w_0), J written down, erf, 12 points; largest distance from the closed form."""
    x, new = circle(even_angles(12, 0.1)), circle(even_angles(7))
    y = (x[:, 0] * x[:, 1])[:, None]
    net = Networks((2, 32, 32, 1), [seed], **ERF, dtype=F64)
    model = net.member(0)
    held = {name: p.detach() for name, p in model.named_parameters()}
    parts = jacrev(lambda p: functional_call(model, p, (torch.cat([x, new]),))[:, 0])(held)
    J = torch.cat([part.flatten(1) for part in parts.values()], 1)
    f0 = net(torch.cat([x, new]))[0]
    w = torch.zeros(J.shape[1], dtype=F64)
    for _ in range(steps):
        w = w - lr / 12 * J[:12].T @ (f0[:12, 0] + J[:12] @ w - y[:, 0])
    told = theory.linearized_dynamics(
        net.ntk(x)[0], y, steps, lr=lr, discrete=True, start=f0[:12], cross=net.ntk(new, x)[0], start_cross=f0[12:]
    )
    return float((told[:, 0] - f0[12:, 0] - J[12:] @ w).abs().max())


class Linearised(NamedTuple):
    """RMS distance at new points from the own linearisation (W, S), relative change of the kernel (W, S), the spread of
    the outputs there (W, S)."""

    gap: Tensor
    change: Tensor
    size: Tensor


def against_linear(
    x: Tensor,
    y: Tensor,
    new: Tensor,
    widths: Sequence[int],
    seeds: Sequence[int],
    each: Sequence[int],
    steps: int,
    lr: float,
) -> Linearised:
    """Three-layer erf networks after descent, against closed-form descent with the kernel of their start."""
    rows = []
    for n, runs in zip(widths, each, strict=True):
        net = Networks((x.shape[1], n, n, 1), starts(seeds, runs), **ERF)
        K, cross, f0, g0 = net.ntk(x), net.ntk(new, x), net(x), net(new)
        net.descend(x, y, steps, lr)
        told = torch.stack([
            theory.linearized_dynamics(K_, y, steps, lr=lr, discrete=True, start=f_, cross=C_, start_cross=g_)
            for K_, f_, C_, g_ in zip(K, f0, cross, g0, strict=True)
        ])  # fmt: skip
        gap = (net(new) - told).square().mean((1, 2))
        change = (net.ntk(x) - K).square().sum((1, 2)) / K.square().sum((1, 2))
        parts = (gap, change, (told - g0).square().mean((1, 2)))
        rows.append([part.double().unflatten(0, (len(seeds), runs)).mean(1).sqrt() for part in parts])
    return Linearised(*(torch.stack(column) for column in zip(*rows, strict=True)))


class Band(NamedTuple):
    """Trained networks (S, each, A) at the angles, and the 10, 50 and 90 % points (3, A) of the limit."""

    outputs: Tensor
    points: Tensor

    @property
    def inside(self) -> Tensor:
        """Share of outputs between the 10 % and the 90 % point, for each seed (S)."""
        low, _, high = self.points
        return ((self.outputs > low) & (self.outputs < high)).double().mean((1, 2))


FOUR = torch.tensor([-2.4, -1.0, 0.5, 1.8], dtype=F64)  # training angles: the paper does not state its own


def band(n: int, steps: int, lr: float, seeds: Sequence[int], each: int) -> Band:
    """Four points on the circle, f* = x_1 x_2, four layers: outputs all around, and what the limit says then."""
    x, new = circle(FOUR), circle(even_angles(60))
    y = (x[:, 0] * x[:, 1])[:, None]
    net = Networks((2, n, n, n, 1), starts(seeds, each), **JACOT)
    net.descend(x, y, steps, lr)
    options = {"depth": 4, **JACOT}
    told = theory.ensemble_dynamics(
        theory.kernels(x, **options), theory.kernels(new, x, **options), theory.nngp(new, **options), y, steps, lr=lr,
        discrete=True,
    )  # fmt: skip
    width = 1.2815515655446004 * told.covariance.diagonal().sqrt()  # the 90 % point of the normal distribution
    middle = told.mean[:, 0]
    outputs = net(new)[..., 0].double().unflatten(0, (len(seeds), each))
    return Band(outputs, torch.stack([middle - width, middle, middle + width]))


# ------------------------------------------------------------------------------------------------------------- images


class Images(NamedTuple):
    """Images as rows in [0, 1] (N, pixels), labels (N), where from."""

    x: Tensor
    y: Tensor
    source: str


@functools.lru_cache(maxsize=3)
def images(name: str) -> Images | None:
    """Digits (1797, 64); MNIST's test set (10000, 784); CIFAR-10 (4000, 3072). None without the data."""
    if name == "digits":
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return Images(torch.from_numpy(bunch.data) / 16, torch.from_numpy(bunch.target), "scikit-learn")
    try:
        if name == "MNIST":
            found = data.load("mnist", progress=False)
            return Images(_flat(found.images), torch.from_numpy(found.labels), "MNIST test set")
        real = data.load("cifar10", progress=False, per_class=400)
        return Images(_flat(real.train_images), torch.from_numpy(real.train_labels), real.provenance)
    except data.DataUnavailable:
        return None


def _flat(pixels: Any) -> Tensor:
    return torch.from_numpy(pixels).double().flatten(1) / 255


def coarse(found: Images) -> Images:
    """Colour images (N, 3 * 32 * 32) at half the resolution: (N, 768)."""
    return found._replace(x=nn.functional.avg_pool2d(found.x.unflatten(1, (3, 32, 32)), 2).flatten(1))


def unit_variance(x: Tensor) -> Tensor:
    """Rows without the mean image, scaled so that their mean square is one."""
    x = x - x.mean(0)
    return x / x.square().mean().sqrt()


def pick(found: Images, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n images in random order, and their labels."""
    order = torch.randperm(len(found.y), generator=generator(seed))[:n]
    return found.x[order], found.y[order]


def kernel_pca(x: Tensor, bias_std: float) -> tuple[Tensor, Tensor]:
    """Eigenvalues (N), falling, of Theta / N without centring, four layers of ReLU, and eigenvectors (N, N)."""
    values, V = torch.linalg.eigh(theory.ntk(x, depth=4, bias_std=bias_std) / len(x))
    return values.flip(0), V.flip(1)


class Components(NamedTuple):
    """Times (T); the component of f_t - f* along the second principal component (W, S, T), the RMS of the rest
    (W, S, T), and the law 0.5 exp(-lambda_2 t) (T) in the limit."""

    time: Tensor
    along: Tensor
    rest: Tensor
    law: Tensor


def components(
    x: Tensor, widths: Sequence[int], seeds: Sequence[int], steps: int, lr: float, size: float = 0.5
) -> Components:
    """Each network learns its own start plus ``size`` times the second principal component of the limiting kernel.

    A component is normalised to mean square one over the images. The error starts along it alone.
    """
    values, V = kernel_pca(x, JACOT["bias_std"])
    second = V[:, 1] * math.sqrt(len(x))
    along, rest = [], []
    for n in widths:
        net = Networks((x.shape[1], n, n, n, 1), [1000 * s for s in seeds], **JACOT)
        target = net(x).double() - size * second[:, None]
        seen: list[tuple[Tensor, Tensor]] = []

        def see(t: int, net: Networks = net, target: Tensor = target, seen: list[tuple[Tensor, Tensor]] = seen) -> None:
            if t % max(1, steps // 20) == 0:
                with torch.no_grad():
                    error = (net(x).double() - target)[..., 0]
                c = error @ second / len(x)
                seen.append((c, (error - c[:, None] * second).square().mean(1).sqrt()))

        net.descend(x, target, steps, lr, see)
        along.append(torch.stack([c for c, _ in seen], 1))
        rest.append(torch.stack([r for _, r in seen], 1))
    time = lr * torch.arange(0, steps + 1, max(1, steps // 20), dtype=F64)
    return Components(time, torch.stack(along), torch.stack(rest), size * torch.exp(-values[1] * time))


def image_gap(
    found: Images, widths: Sequence[int], points: int, steps: int, seeds: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Own linearisation against networks on images (large labels against small): gap over spread (W, S), change (W, S).

    The rate is half of the largest one of the limit; each seed draws its own images.
    """
    gaps, changes = [], []
    for seed in seeds:
        x, labels = pick(found, 2 * points, seed)
        x = unit_variance(x)
        y = torch.where(labels >= 5, 1.0, -1.0)[:, None].double()
        lr = theory.largest_rate(theory.ntk(x[:points], depth=3, **ERF)) / 2
        got = against_linear(x[:points], y[:points], x[points:], widths, [seed], [1] * len(widths), steps, lr)
        gaps.append(got.gap[:, 0] / got.size[:, 0])
        changes.append(got.change[:, 0])
    return torch.stack(gaps, 1), torch.stack(changes, 1)


RIDGES = (1e-3, 1e-2, 1e-1, 1.0)  # shares of the mean diagonal


def regression(found: Images, train: int, test: int, seed: int) -> dict[str, float]:
    """Test accuracy of kernel ridge regression on one-hot labels by scikit-learn: NTK, NNGP and the linear kernel.

    Each kernel at the best of ``RIDGES``.
    """
    from sklearn.kernel_ridge import KernelRidge

    x, y = pick(found, train + test, seed)
    x = unit_variance(x)
    both = theory.kernels(x, depth=3, activation="relu", weight_std=math.sqrt(2), bias_std=0.1)
    target = nn.functional.one_hot(y[:train], 10).double() - 0.1
    scores: dict[str, float] = {}
    for name, K in (("NTK", both.ntk), ("NNGP", both.nngp), ("linear", x @ x.T / x.shape[1])):
        for ridge in RIDGES:
            alpha = ridge * float(K.diagonal().mean())
            machine = KernelRidge(alpha=alpha, kernel="precomputed").fit(K[:train, :train].numpy(), target.numpy())
            answer = torch.from_numpy(machine.predict(K[train:, :train].numpy())).argmax(1)
            scores[name] = max(scores.get(name, 0.0), float((answer == y[train:]).double().mean()))
    return scores


def against_sklearn(n: int = 120, new: int = 40) -> dict[str, float]:
    """Digits: largest differences of our closed forms at infinite time from scikit-learn's two machines."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import DotProduct
    from sklearn.kernel_ridge import KernelRidge

    class NNGP(DotProduct):  # type: ignore[misc, unused-ignore]
        """Our kernel with the interface of scikit-learn; DotProduct lends the bookkeeping."""

        def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
            other = None if Y is None else torch.from_numpy(Y)
            return theory.nngp(torch.from_numpy(X), other, depth=3, **ERF).numpy()

        def diag(self, X: Any) -> Any:
            return self(X).diagonal()

    found = cast(Images, images("digits"))
    x, y = unit_variance(found.x)[: n + new], found.y[: n + new].double() - 4.5
    both, a, b = theory.kernels(x, depth=3, **ERF), slice(n), slice(n, None)
    ours = theory.linearized_dynamics(both.ntk[a, a], y[a], math.inf, cross=both.ntk[b, a])
    machine = KernelRidge(alpha=0.0, kernel="precomputed").fit(both.ntk[a, a].numpy(), y[a].numpy())
    ridge = torch.from_numpy(machine.predict(both.ntk[b, a].numpy()))
    last = theory.Kernels(both.nngp[a, a], both.nngp[a, a]), theory.Kernels(both.nngp[b, a], both.nngp[b, a])
    told = theory.ensemble_dynamics(*last, both.nngp[b, b], y[a], math.inf)
    process = GaussianProcessRegressor(NNGP(), alpha=1e-14, optimizer=None).fit(x[a].numpy(), y[a].numpy())
    mean, covariance = map(torch.from_numpy, process.predict(x[b].numpy(), return_cov=True))
    return {
        "KernelRidge": float((ours - ridge).abs().max()),
        "posterior mean": float((told.mean - mean).abs().max()),
        "posterior covariance": float((told.covariance - covariance).abs().max()),
    }


# --------------------------------------------------------------------------------------------------------------- cost


def by_jacobian(model: nn.Module, x1: Tensor, x2: Tensor) -> Tensor:
    """The torch.func recipe: every gradient of every output, then one contraction; (N1, N2, O, O)."""
    held = {name: p.detach() for name, p in model.named_parameters()}

    def single(p: dict[str, Tensor], x: Tensor) -> Tensor:
        return cast(Tensor, functional_call(model, p, (x[None],)))[0]

    first, second = (vmap(jacrev(single), (None, 0))(held, x) for x in (x1, x2))
    pairs = [(first[name].flatten(2), second[name].flatten(2)) for name in held]
    return cast(Tensor, sum(torch.einsum("Naf,Mbf->NMab", J, K) for J, K in pairs))


def by_vector_products(model: nn.Module, x1: Tensor, x2: Tensor) -> Tensor:
    """For each pair of inputs and each output: back through one network, forward through the other."""
    held = {name: p.detach() for name, p in model.named_parameters()}

    def pair(a: Tensor, b: Tensor) -> Tensor:
        def at(x: Tensor) -> Callable[[dict[str, Tensor]], Tensor]:
            return lambda p: cast(Tensor, functional_call(model, p, (x[None],)))[0]

        out, back = cast(tuple[Tensor, Callable[[Tensor], Any]], vjp(at(a), held))

        def column(e: Tensor) -> Tensor:
            return cast(Tensor, jvp(at(b), (held,), back(e))[1])

        return cast(Tensor, vmap(column)(torch.eye(len(out), dtype=out.dtype, device=out.device))).T

    return cast(Tensor, vmap(vmap(pair, (None, 0)), (0, None))(x1, x2)).mT


ROUTES: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "Jacobians": by_jacobian,
    "vector products": by_vector_products,
    "structured": empirical_ntk,
}


def flops(route: str, model: nn.Module, x1: Tensor, x2: Tensor) -> int:
    """Floating-point operations of matrix products, counted by torch on tensors without contents."""
    with FlopCounterMode(display=False) as counter:
        ROUTES[route](copy.deepcopy(model).to("meta"), x1.to("meta"), x2.to("meta"))
    return int(counter.get_total_flops())


def counted(widths: Sequence[int], N: int) -> dict[str, float]:
    """The formulas, for two sets of N inputs each and widths (n_0, ..., n_L = O): operations (2 a multiply-add)."""
    P = sum(a * b for a, b in pairwise(widths))
    first, O = widths[0] * widths[1], widths[-1]
    run = 2 * N * (2 * P + 2 * O * (P - first))  # forward, and back to all layers for every output
    return {
        "Jacobians": 2 * N**2 * O**2 * P + 2 * N * (2 * P + O * (2 * (P - first) + 2 * P)),
        "structured": 2 * N**2 * (O**2 * sum(widths[1:]) + sum(widths[:-1])) + run,
    }


# ---------------------------------------------------------------------------------------------------- where it breaks


def diverges(factor: float, seed: int, n: int = 256, steps: int = 60) -> tuple[float, float]:
    """RMS of f - y after descent at that multiple of the largest rate: of a network, and of its linearisation."""
    x = circle(even_angles(12, 0.1))
    y = (x[:, 0] * x[:, 1])[:, None]
    net = Networks((2, n, n, 1), [seed], **ERF, dtype=F64)
    K, f0 = net.ntk(x)[0], net(x)[0]
    lr = factor * theory.largest_rate(K)
    net.descend(x, y, steps, lr)
    told = theory.linearized_dynamics(K, y, steps, lr=lr, discrete=True, start=f0)
    return float((net(x)[0] - y).square().mean().sqrt()), float((told - y).square().mean().sqrt())


def standard_kernel(n: int, seed: int) -> float:
    """Mean diagonal of the kernel of a network of plain ``nn.Linear`` layers with variance 2 / fan_in."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(2, n), nn.Linear(n, n), nn.Linear(n, 1)]
        for layer in layers:
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features))
        net = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    return float(empirical_ntk(net, circle(even_angles(8)).float(), trace=True).diagonal().mean())


def depth_error(depth: int, n: int, seeds: Sequence[int], each: int) -> Tensor:
    """Relative RMS error (S) of the kernel of a ReLU network (s_w^2 = 2, no bias) of that depth and width."""
    x = circle(even_angles(8))
    limit = theory.ntk(x, depth=depth, weight_std=math.sqrt(2))
    net = Networks((2, *[n] * (depth - 1), 1), starts(seeds, each), "relu", math.sqrt(2), 0.0)
    off = (net.ntk(x).double() - limit).square().mean((1, 2)).unflatten(0, (len(seeds), each)).mean(1)
    return off.sqrt() / limit.square().mean().sqrt()


# --------------------------------------------------------------------------------------------------------- full scale


def wide_table(schedule: dict[str, Any], seeds: Sequence[int], device: torch.device, folder: Path) -> dict[str, Any]:
    """Drift at large widths, one row a width and seed, and kernel regression on many CIFAR-10 images.

    Finished widths are read back from ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for n in schedule["widths"]:
        for seed in list(seeds)[: schedule["starts"]]:
            file = folder / f"drift-{n}-{seed}.json"
            row = json.loads(file.read_text()) if file.exists() else {}
            if row.get("steps") != schedule["steps"]:
                got = drift([n], [seed], [1], schedule["steps"], device=device)
                limit = theory.ntk(circle(torch.zeros(1, dtype=F64)), circle(got.angles), depth=4, **JACOT)[0]
                error = float((got.before[0, 0] - limit).norm() / limit.norm())
                row = {"width": n, "seed": seed, "steps": schedule["steps"], "error at start": error}
                row |= {"inflation": float(got.inflation), "change": float(got.change), "loss": float(got.loss)}
                file.write_text(json.dumps(row))
            rows.append(row)
    real = data.load("cifar10", per_class=schedule["cifar"] // 10 + 200)
    found = Images(_flat(real.train_images), torch.from_numpy(real.train_labels), real.provenance)
    size = min(schedule["cifar"], len(found.y) - 100)
    scores = regression(found, size, min(2000, len(found.y) - size), seeds[0])
    return {"drift": rows, "CIFAR-10, images": size, **{f"CIFAR-10, {name}": v for name, v in scores.items()}}
