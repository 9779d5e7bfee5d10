"""Experiments of the page *Is there more room in a ball?*: initialisation, means, graphs, horizons, small networks.

van Spengler, Berkhout and Mettes, "Poincaré ResNet" (ICCV 2023). Features between layers are tangent vectors at the
origin, channels last. What the released code does differently stands here as classes and functions named ``Released``.
"""

import copy
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repgeom import data
from repgeom.data.store import checkpoints as checkpoints
from repgeom.manifolds import poincare, thresholds
from repgeom.nn import poincare as hyperbolic
from repgeom.nn.resnet import random_crops
from repgeom.optim import fit

# Every schedule of the page in one place.
_CI: dict[str, Any] = {
    "mlp": {"epochs": 12, "lr": 1e-3, "batch": 128},
    "digits": {"epochs": 7, "lr": 3e-2, "batch": 128},
    "cifar": {"epochs": 5, "lr": 3e-2, "batch": 100},
    "per_class": 100,
    "resnet": {"depth": 20, "widths": [8, 16, 32], "epochs": 100, "lr": 1e-3, "decay": 1e-4, "batch": 128, "seeds": 3},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {
        "mlp": {"epochs": 1, "lr": 1e-3, "batch": 512},
        "digits": {"epochs": 1, "lr": 5e-3, "batch": 512},
        "cifar": {"epochs": 1, "lr": 5e-3, "batch": 64},
        "per_class": 8,
    },
    "ci": _CI,
    "full": _CI,
}


Start = hyperbolic.layers.Initialisation
Layer = Callable[..., nn.Module]


def generator(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------------------------------- the ball


def tree(depth: int, edge: float, c: float) -> tuple[Tensor, list[int]]:
    """Nodes (N, 2) of the tree with three edges of equal length at every node, and the index of each node's parent.

    A subtree is built once about its own root; Möbius addition moves it along an edge, a rotation turns it.
    """
    step = poincare.expmap0(torch.tensor([edge / 2, 0.0], dtype=torch.float64), c)

    def join(points: Tensor, parents: list[int], angles: Sequence[float]) -> tuple[Tensor, list[int]]:
        moved, nodes, above = poincare.mobius_add(step, points, c), [torch.zeros(1, 2, dtype=step.dtype)], [-1]
        for angle in angles:
            a, b = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            turn = torch.tensor([[a, b], [-b, a]], dtype=step.dtype)  # acts from the right
            above += [0 if p < 0 else p + len(above) for p in parents]
            nodes.append(moved @ turn)
        return torch.cat(nodes), above

    points, parents = torch.zeros(1, 2, dtype=step.dtype), [-1]
    for _ in range(depth - 1):
        points, parents = join(points, parents, (-60, 60))
    return join(points, parents, (0, 120, 240))


def crowding(points: Tensor, parents: Sequence[int], c: float) -> float:
    """The smallest distance between two nodes that are not neighbours."""
    d = poincare.distance(points[:, None], points[None], c)
    child = torch.arange(1, len(parents))
    parent = torch.tensor(parents[1:])
    d[child, parent] = d[parent, child] = torch.inf
    return float(d.fill_diagonal_(torch.inf).min())


def cloud(count: int, dim: int, centre: float, spread: float, seed: int, c: float = 1.0) -> Tensor:
    """Points (count, dim): a normal cloud of rms distance about spread around a point at that distance, float64."""
    draw = generator(seed)
    m = torch.randn(dim, generator=draw, dtype=torch.float64)
    mu = poincare.expmap0(m / m.norm() * centre / 2, c)
    v = torch.randn(count, dim, generator=draw, dtype=torch.float64) * spread / (2 * math.sqrt(dim))
    return poincare.expmap(mu, poincare.transport(torch.zeros_like(mu), mu, v, c), c)


# ------------------------------------------------------------------------------------------------ initialisation, depth


def released_arguments(layer: Any, inner: Tensor, squared: Tensor) -> Tensor:
    """Multiplies where it should divide: the conformal factor 2 (1 - c|x|^2) in the distance to a hyperplane.

    Argument of arsinh over s, for inner products (..., m) of t with unit normals and squared norms (..., 1). With
    half = s |t|: s|x| = tanh(half) and 1 - c|x|^2 = 1 / cosh(half)^2.
    """
    s = math.sqrt(layer.c)
    half = s * squared.clamp_min(thresholds.smallest_norm(squared.dtype)).sqrt()
    factor, offset = 2 / half.cosh().square(), 2 * s * layer.bias
    return cast(Tensor, factor * half.tanh() / half * inner * offset.cosh() - (factor - 1) * offset.sinh() / s)


class ReleasedLinear(hyperbolic.PoincareLinear):
    """A linear layer with the released conformal factor."""

    arguments = released_arguments


class ReleasedConv2d(hyperbolic.PoincareConv2d):
    """A convolution with the released conformal factor."""

    arguments = released_arguments


class PoincareMLP(nn.Sequential):
    """Layers of equal width with ReLU on tangent vectors, and signed distances to hyperplanes as logits."""

    def __init__(self, width: int, depth: int, c: float, initialisation: Start, linear: Layer, seed: int) -> None:
        draw, layers = generator(seed), []
        for _ in range(depth):
            layers += [linear(width, width, c, initialisation=initialisation, generator=draw), nn.ReLU()]
        super().__init__(*layers, hyperbolic.PoincareClassifier(width, 10, c, generator=draw))


@torch.no_grad()
def norms_by_depth(layers: Sequence[nn.Module], t: Tensor) -> list[float]:
    """Mean norm of the tangent vectors (last axis) before the first layer and after each."""
    norms = [float(t.norm(dim=-1).mean())]
    for layer in layers:
        t = layer(t)
        norms.append(float(t.norm(dim=-1).mean()))
    return norms


def linear_stack(
    initialisation: Start, depth: int, seed: int, linear: Layer = hyperbolic.PoincareLinear
) -> list[float]:
    """:func:`norms_by_depth` of linear layers of width 64 at c = 1, without ReLU, for points with s|x| about 0.83."""
    draw = generator(seed)
    options: dict[str, Any] = {"initialisation": initialisation, "generator": draw, "dtype": torch.float64}
    layers = [linear(64, 64, 1.0, **options) for _ in range(depth)]
    return norms_by_depth(layers, 0.15 * torch.randn(256, 64, generator=draw, dtype=torch.float64))


def conv_stack(initialisation: Start, depth: int, seed: int) -> list[float]:
    """:func:`norms_by_depth` of 3 x 3 convolutions, 16 channels, 16 x 16 pixels, c = 0.1, without norm and ReLU."""
    draw = generator(seed)
    layers = [
        hyperbolic.PoincareConv2d(16, 16, 3, padding=1, c=0.1, initialisation=initialisation, generator=draw)
        for _ in range(depth)
    ]
    return norms_by_depth(layers, torch.randn(4, 16, 16, 16, generator=draw) / 3)


# -------------------------------------------------------------------------------------------- ball form, Fréchet mean


class BallConv2d(hyperbolic.PoincareConv2d):
    """The same convolution step by step: unfold, to the ball, distances to hyperplanes, back; autograd throughout."""

    def forward(self, t: Tensor) -> Tensor:
        """Features (B, H, W, C_in) to (B, H', W', C_out)."""
        k, stride, pad = self.kernel_size, self.stride, self.padding
        patches = F.unfold(t.movedim(-1, 1), k, 1, pad, stride)
        y = ball_linear(patches.mT * self.glue, self.weight, self.bias, self.c)
        H = (t.shape[1] + 2 * pad - k) // stride + 1
        return y.unflatten(1, (H, -1))


def ball_linear(t: Tensor, Z: Tensor, r: Tensor, c: float) -> Tensor:
    """Tangent vectors (..., n) through a linear layer Z (n, m), r (m) in the ball, and back: (..., m)."""
    s, length = math.sqrt(c), Z.norm(dim=0).clamp_min(1e-15)
    x = poincare.expmap0(t, c)
    squared = c * (x * x).sum(-1, keepdim=True)
    A = (2 * s * (x @ (Z / length)) * (2 * s * r).cosh() - (1 + squared) * (2 * s * r).sinh()) / (1 - squared)
    w = (2 * length * A.asinh()).sinh() / s
    y = w / (1 + (1 + c * (w * w).sum(-1, keepdim=True)).sqrt())
    return poincare.logmap0(poincare.project(y, c), c)


class BallBatchNorm2d(hyperbolic.PoincareBatchNorm2d):
    """Batch normalisation step by step in the ball, with running statistics."""

    @staticmethod
    def mean(x: Tensor, c: float) -> Tensor:
        """Of points (N, C)."""
        return poincare.midpoint(x, c=c)

    def forward(self, t: Tensor) -> Tensor:
        """Features (..., C) to features of the same shape."""
        x, c = poincare.expmap0(t.flatten(0, -2), self.c), self.c
        if self.training:
            mu = self.mean(x, c)
            variance = poincare.distance(x, mu, c).square().mean()
            self._track(poincare.logmap0(mu.detach(), c), variance.detach())
        else:
            mu, variance = poincare.expmap0(self.running_mean, c), self.running_var
        beta = poincare.expmap0(self.bias, c)
        u = poincare.transport(mu, beta, poincare.logmap(mu, x, c), c)
        u = u * (self.variance / (variance + self.eps)).sqrt()
        return poincare.logmap0(poincare.expmap(beta, u, c), c).view_as(t)


class FrechetBatchNorm2d(BallBatchNorm2d):
    """The same around the Fréchet mean."""

    @staticmethod
    def mean(x: Tensor, c: float) -> Tensor:
        """Of points (N, C)."""
        return poincare.frechet_mean(x, c=c)


# -------------------------------------------------------------------------------------------------- what backward keeps


def formula_mobius_add(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """Möbius addition as its formula is usually typed."""
    xx, yy, xy = (x * x).sum(-1, keepdim=True), (y * y).sum(-1, keepdim=True), (x * y).sum(-1, keepdim=True)
    return ((1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y) / (1 + 2 * c * xy + c**2 * xx * yy)


def rows_mobius_add(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """The same, dividing the two numbers of each row in place of the row."""
    xx, yy, xy = (x * x).sum(-1, keepdim=True), (y * y).sum(-1, keepdim=True), (x * y).sum(-1, keepdim=True)
    below = 1 + 2 * c * xy + c**2 * xx * yy
    return (1 + 2 * c * xy + c * yy) / below * x + (1 - c * xx) / below * y


class ManualMobiusAdd(torch.autograd.Function):
    """Möbius addition with the hand-written backward of the page; apply(x, y, c)."""

    released = False

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """Keeps x, y, c and six numbers a row."""
        xx, yy, xy = (x * x).sum(-1, keepdim=True), (y * y).sum(-1, keepdim=True), (x * y).sum(-1, keepdim=True)
        A, B, D = 1 + 2 * c * xy + c * yy, 1 - c * xx, 1 + 2 * c * xy + c**2 * xx * yy
        ctx.save_for_backward(x, y, c, xx, yy, xy, A, B, D)
        return (A * x + B * y) / D

    @classmethod
    def backward(cls, ctx: Any, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """With p = <u, x>, q = <u, y>, h = (A p + B q) / D."""
        x, y, c, xx, yy, xy, A, B, D = ctx.saved_tensors
        p, q = (u * x).sum(-1, keepdim=True), (u * y).sum(-1, keepdim=True)
        h, k = (A * p + B * q) / D, 2 * c / D
        dx = A / D * u - k * (h * c * yy + q) * x - k * (h - p) * y
        dy = B / D * u + k * (p - h) * x + k * (p - c * xx * h) * y
        direct = (2 * xy + yy) * p - xx * q
        first = 1 / (D * direct.clamp_min(1e-15)) if cls.released else direct / D
        return dx, dy, (first - 2 * (xy + c * xx * yy) * h / D).sum()


class ReleasedMobiusAdd(ManualMobiusAdd):
    """With the released gradient towards c: the reciprocal of a term, clamped to positive numbers, for the term."""

    released = True


# ------------------------------------------------------------------------------------------------------ how far out


def round_trip(distances: Tensor, dtype: torch.dtype, projected: bool = True) -> Tensor:
    """Relative error of d(0, x) after a tangent vector of that distance went to the ball (c = 1) and back."""
    n = distances.to(dtype) / 2
    x = torch.tanh(n)
    x = x.clamp_max(1 - torch.finfo(dtype).eps ** 0.5) if projected else x
    return (2 * torch.atanh(x).double() / distances - 1).abs()


def last_point(dtype: torch.dtype) -> float:
    """Distance from the origin (c = 1) of the largest number of that type below one."""
    gap = torch.finfo(dtype).eps / 2
    return math.log((2 - gap) / gap)


def formulas(distances: Tensor, dtype: torch.dtype, apart: float | None = None) -> dict[str, Tensor]:
    """Relative error of d(x, y), c = 1, for two points at that distance from the origin (N), by five formulas.

    The points are ``apart`` from each other, or at right angles. The reference works on the same rounded tangent
    vectors in float64, with sinh(d/2)^2 = sinh((a-b)/2)^2 + sinh a sinh b |u-v|^2 / 4 for directions u, v.
    """
    reach = distances.double()
    angle = torch.full_like(reach, math.pi / 2)
    if apart is not None:
        angle = 2 * (math.sinh(apart / 2) / reach.sinh()).clamp_max(1).asin()
    turns = torch.stack([math.pi / 4 - angle / 2, math.pi / 4 + angle / 2])
    t = (reach / 2 * torch.stack([turns.cos(), turns.sin()])).movedim(1, -1).to(dtype)  # (2, N, 2)

    def tangent(t: Tensor) -> Tensor:
        a, b = 2 * t.norm(dim=-1)
        u, v = t / t.norm(dim=-1, keepdim=True)
        chord = ((a - b) / 2).sinh().square() + a.sinh() * b.sinh() * (u - v).square().sum(-1) / 4
        return 2 * chord.sqrt().asinh()

    n = t.norm(dim=-1, keepdim=True)
    x, y = n.tanh() * t / n
    S, T = (2 * n).sinh() * t / n, (2 * n).cosh()[..., 0]
    flat, gap = (1 - (x * x).sum(-1)) * (1 - (y * y).sum(-1)), (x - y).square().sum(-1)
    found = {
        "artanh of Möbius": 2 * formula_mobius_add(-x, y, torch.ones((), dtype=dtype)).norm(dim=-1).atanh(),
        "arcosh": (1 + 2 * gap / flat).acosh(),
        "arsinh": 2 * (gap / flat).sqrt().asinh(),
        "hyperboloid": (T[0] * T[1] - (S[0] * S[1]).sum(-1)).acosh(),
        "tangent vectors": tangent(t),
    }
    return {name: (d.double() / tangent(t.double()) - 1).abs() for name, d in found.items()}


# ------------------------------------------------------------------------------------------------------ small networks


class Split(NamedTuple):
    """Training and test data."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def split(x: Tensor, y: Tensor, tests: int, seed: int) -> Split:
    """The last ``tests`` of a random order are for testing."""
    order = torch.randperm(len(y), generator=generator(seed))
    return Split(x[order[:-tests]], y[order[:-tests]], x[order[-tests:]], y[order[-tests:]])


def digits(seed: int, images: bool = True) -> Split:
    """Digits as images (N, 1, 8, 8), 720 for testing, or rows (N, 64), 360; in [-1, 1] as the released code scales."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = torch.from_numpy(bunch.data).float() / 8 - 1, torch.from_numpy(bunch.target)
    return split(x.view(-1, 1, 8, 8), y, 720, seed) if images else split(x, y, 360, seed)


def cifar(per_class: int) -> tuple[Split, str] | None:
    """The first images of each class of CIFAR-10, halved to 16 x 16 pixels in [-1, 1]; where from. Or None."""
    try:
        real = data.load("cifar10", progress=False, per_class=per_class)
    except data.DataUnavailable:
        return None
    parts = [F.avg_pool2d(torch.from_numpy(x).float() / 127.5 - 1, 2) for x in (real.train_images, real.test_images)]
    train_y, test_y = (torch.from_numpy(y) for y in (real.train_labels, real.test_labels))
    return Split(parts[0], train_y, parts[1], test_y), real.provenance


def train(
    model: nn.Module, x: Tensor, y: Tensor, seed: int, epochs: int, lr: float, batch: int, again: bool = True
) -> Tensor:
    """Cross-entropy by Adam on random batches; losses (steps,). Then norms estimate their statistics ``again``."""
    draw, steps = generator(seed), max(1, len(y) // batch) * epochs
    size = min(batch, len(y))
    orders = torch.cat([torch.randperm(len(y), generator=draw)[: len(y) // size * size] for _ in range(epochs)])

    def loss(step: int) -> Tensor:
        rows = orders[step * size : (step + 1) * size]
        return F.cross_entropy(model(x[rows]), y[rows])

    model.train()
    losses = fit(model.parameters(), loss, steps, lr=lr)
    if again:
        hyperbolic.reestimate(model, x.split(size))
    model.eval()
    return losses


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, every norm uses the statistics of the batch at hand, as the released code does when it evaluates."""
    norms = [m for m in model.modules() if isinstance(m, hyperbolic.PoincareBatchNorm2d | nn.BatchNorm2d)]
    before = [(m.training, copy.deepcopy(dict(m.named_buffers()))) for m in norms]
    for m in norms:
        m.train()
    try:
        yield
    finally:
        for m, (training, buffers) in zip(norms, before, strict=True):
            m.train(training)
            for name, value in m.named_buffers():
                value.copy_(buffers[name])


@torch.no_grad()
def logits(model: nn.Module, x: Tensor, batch: int = 360, statistics: str = "running") -> Tensor:
    """Outputs for x in batches, with "running" statistics or with those of each "batch"."""
    model.eval()
    if statistics == "running":
        return torch.cat([model(part) for part in x.split(batch)])
    with batch_statistics(model):
        return torch.cat([model(part) for part in x.split(batch)])


def accuracy(out: Tensor, y: Tensor) -> float:
    """Share of rows whose largest entry is at the label."""
    return float((out.argmax(-1) == y).double().mean())


def auroc(inside: Tensor, outside: Tensor) -> float:
    """Probability that logsumexp, minus the energy, of logits is larger inside the distribution than outside."""
    from sklearn.metrics import roc_auc_score

    scores = torch.cat([inside.logsumexp(-1), outside.logsumexp(-1)])
    return float(roc_auc_score(torch.arange(len(scores)) < len(inside), scores))


class SmallNet(nn.Module):
    """A residual network of one block, images to logits: a convolution with stride 2, F(x) (+) x, mean, hyperplanes.

    F = norm(conv(ReLU(norm(conv(x))))). ``euclidean`` makes the ordinary twin.
    """

    def __init__(
        self, in_channels: int, c: float = 0.1, *, width: int = 16, euclidean: bool = False, seed: int = 0,
        conv: Layer = hyperbolic.PoincareConv2d, norm: Layer = hyperbolic.PoincareBatchNorm2d,
    ) -> None:  # fmt: skip
        super().__init__()
        self.c, self.euclidean, draw = c, euclidean, generator(seed)
        sizes = ((in_channels, 2), (width, 1), (width, 1))
        if euclidean:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)  # nn.Conv2d takes no generator
                self.convs = nn.ModuleList(nn.Conv2d(before, width, 3, stride, 1) for before, stride in sizes)
                self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in sizes)
                self.head: nn.Module = nn.Linear(width, 10)
        else:
            self.convs = nn.ModuleList(conv(before, width, 3, stride, 1, c, generator=draw) for before, stride in sizes)
            self.norms = nn.ModuleList(norm(width, c) for _ in sizes)
            self.head = hyperbolic.PoincareClassifier(width, 10, c, generator=draw)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, in_channels, H, W) to logits (B, 10)."""
        t = images if self.euclidean else images.permute(0, 2, 3, 1)
        t = self.norms[0](self.convs[0](t)).relu()
        y = self.norms[2](self.convs[2](self.norms[1](self.convs[1](t)).relu()))
        t = (y + t if self.euclidean else hyperbolic.tangent_add(y, t, self.c)).relu()
        return cast(Tensor, self.head(t.mean((2, 3) if self.euclidean else (1, 2))))


NETWORKS: dict[str, dict[str, Any]] = {
    "Euclidean": {"euclidean": True},
    "c = 0": {"c": 0.0},
    "c = 1e-4": {"c": 1e-4},
    "c = 0.1": {"c": 0.1},
    "c = 1": {"c": 1.0},
    "Fréchet": {"c": 0.1, "norm": FrechetBatchNorm2d},
    "released factor": {"c": 0.1, "conv": ReleasedConv2d},
    "released factor, c = 1": {"c": 1.0, "conv": ReleasedConv2d},
}


@torch.no_grad()
def unit_radii(model: nn.Module, x: Tensor) -> Tensor:
    """sqrt(c) d(0, .) = 2 sqrt(c) |t| of the outputs of every norm: mean, and 99th percentile, (norms, 2) float64."""
    found: list[list[float]] = []

    def hook(module: nn.Module, inputs: Any, t: Tensor) -> None:
        radii = 2 * math.sqrt(cast(hyperbolic.PoincareBatchNorm2d, module).c) * t.norm(dim=-1).flatten()
        found.append([float(radii.mean()), float(radii.kthvalue(math.ceil(0.99 * len(radii))).values)])

    handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, hyperbolic.PoincareBatchNorm2d)]
    model.eval()
    model(x)
    for handle in handles:
        handle.remove()
    return torch.tensor(found, dtype=torch.float64)


def other_digits(seed: int, schedule: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Trained on digits below five, c = 0.1: AUROC against the others and against shuffled pixels, both statistics."""
    part, draw = digits(seed), generator(seed)
    known, net = part.y < 5, SmallNet(1, seed=seed)
    train(net, part.x[known], part.y[known], seed, **schedule)
    inside, other = part.test_x[part.test_y < 5], part.test_x[part.test_y >= 5]
    order = torch.rand(inside.flatten(1).shape, generator=draw).argsort(1)
    outside = {"digits 5 to 9": other, "shuffled pixels": inside.flatten(1).gather(1, order).view_as(inside)}
    return {
        name: {how: auroc(logits(net, inside, 64, how), logits(net, x, 64, how)) for how in ("running", "batch")}
        for name, x in outside.items()
    }


# ---------------------------------------------------------------------------------------------------------- full scale


def fgsm(model: nn.Module, x: Tensor, y: Tensor, size: float) -> Tensor:
    """Images moved by that much in each pixel, along the sign of the gradient of the loss; range [-1, 1] kept."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(model(x), y), x)
    return (x + size * slope.sign()).clamp(-1, 1).detach()


def resnet_run(
    name: str, train_set: tuple[Tensor, Tensor], tests: dict[str, Tensor], seed: int, schedule: dict[str, Any],
    device: torch.device,
) -> dict[str, Any]:  # fmt: skip
    """One of :data:`NETWORKS` on CIFAR-10 (uint8): accuracy, OOD AUROC and FGSM, like for like, both statistics."""
    x, y = (t.to(device) for t in train_set)
    options = {"generator": generator(seed), **NETWORKS[name]}
    model = hyperbolic.PoincareResNet(schedule["depth"], schedule["widths"], **options).to(device)
    draw, batch = torch.Generator(device).manual_seed(seed), min(schedule["batch"], len(y))
    adam = torch.optim.Adam(model.parameters(), lr=schedule["lr"], weight_decay=schedule["decay"])

    def scaled(images: Tensor) -> Tensor:
        return images.to(device).float() / 127.5 - 1

    def loss(step: int) -> Tensor:
        rows = torch.randint(len(y), (batch,), generator=draw, device=device)
        return F.cross_entropy(model(scaled(random_crops(x[rows], draw))), y[rows])

    model.train()
    fit(model.parameters(), loss, schedule["epochs"] * (len(y) // batch), optimizer=adam, progress=True, label=name)
    hyperbolic.reestimate(model, [scaled(part) for part in x[: 40 * batch].split(batch)])
    row: dict[str, Any] = {}
    images, labels = tests["images"], tests["labels"].to(device)
    for statistics in ("running", "batch"):
        inside = logits(model, scaled(images), 200, statistics)
        row[f"accuracy, {statistics}"] = accuracy(inside, labels)
        for other in ("cifar100", "noise"):
            row[f"AUROC {other}, {statistics}"] = auroc(
                inside.cpu(), logits(model, scaled(tests[other]), 200, statistics).cpu()
            )
    for step in (0.8, 1.6, 2.4, 3.2):  # of 255, in the units of [-1, 1]
        model.eval()
        parts = zip(scaled(images).split(200), labels.split(200), strict=True)
        moved = torch.cat([fgsm(model, a, b, step / 255) for a, b in parts])
        row[f"FGSM {step:g}, running"] = accuracy(logits(model, moved, 200), labels)
    return row


def resnet_table(schedule: dict[str, Any], device: torch.device, folder: Path) -> list[dict[str, Any]]:
    """:func:`resnet_run` for four networks and all seeds; finished runs are read back."""
    folder.mkdir(parents=True, exist_ok=True)
    train_set, tests = full_data()
    rows = []
    for seed in range(schedule["seeds"]):
        for name in ("Euclidean", "c = 0.1", "released factor", "c = 0"):
            file = folder / f"{name.replace(' ', '_')}-{seed}.json"
            row = json.loads(file.read_text()) if file.exists() else {}
            if row.get("schedule") != schedule:
                row = {"network": name, "seed": seed, "schedule": schedule}
                row |= resnet_run(name, train_set, tests, seed, schedule, device)
                file.write_text(json.dumps(row))
            rows.append({key: value for key, value in row.items() if key != "schedule"})
    return rows


def full_data() -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]]:
    """CIFAR-10, and what does not belong to it: test images of CIFAR-100, and noise."""
    ten, hundred = data.load("cifar10"), data.load("cifar100")
    images = torch.from_numpy(ten.test_images)
    noise = torch.randint(256, images[:2000].shape, generator=generator(0), dtype=torch.uint8)
    tests = {"images": images, "labels": torch.from_numpy(ten.test_labels), "noise": noise}
    tests["cifar100"] = torch.from_numpy(hundred.test_images)[:2000]
    return (torch.from_numpy(ten.train_images), torch.from_numpy(ten.train_labels)), tests
