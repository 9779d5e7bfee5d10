"""Experiments of the page *Where do the last layers end up?*: free features, trained networks, what they agree in.

Dang et al., "Neural Collapse in Deep Linear Networks: From Balanced to Imbalanced Data" (ICML 2023). Networks of
several seeds are trained side by side: features (S, N, d), layers (S, out, in). Counts are class sizes; decays are
equal for all layers and the features unless said.
"""

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from repgeom import data
from repgeom.data.store import checkpoints as checkpoints
from repgeom.data.views import digits as digits
from repgeom.data.views import principal
from repgeom.nn.blocks import StackedMLP
from repgeom.nn.resnet import ResNet18, random_crops
from repgeom.optim import fit
from repgeom.probes import collapse
from repgeom.theory import frames, ufm

COUNTS = (80, 80, 60, 60, 40, 40, 20, 20, 10, 10)  # of digits: 420 images
STEPS = (10, 10, 20, 20, 30, 30, 40, 40, 50, 50)  # of MNIST and CIFAR-10: a tenth of the released scripts' sizes

# Every schedule of the page in one place. Decays of networks stand on the page, beside the thresholds.
_CI: dict[str, Any] = {
    "digits": {"widths": (128, 32), "steps": 800},
    "images": {"widths": (256, 32), "steps": 450},
    "starts": 8,
    "descent": 2000,
    "entropy": 3000,
    "resnet": {"width": 64, "steps": 12_000, "seeds": 3, "every": 400},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {
        "digits": {"widths": (16, 12), "steps": 20},
        "images": {"widths": (16, 12), "steps": 20},
        "starts": 2,
        "descent": 100,
        "entropy": 60,
        "resnet": {"width": 4, "steps": 2, "seeds": 1, "every": 1},
    },
    "ci": _CI,
    "full": _CI,
}


def generator(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


# -------------------------------------------------------------------------------------------------------- free features


class Agreement(NamedTuple):
    """How far descent on free features ended from the closed form (relative to its largest number)."""

    loss: float
    classifier: float
    means: float
    outputs: float
    layers: float
    frame: float  # largest |cos| between two classifier rows


def best_of(
    starts: int, counts: Sequence[float], decays: Sequence[float], lam_H: float, seed: int, **options: Any
) -> ufm.Trained:
    """The lowest of several descents by L-BFGS from random starts."""
    draw = generator(seed)
    found = [ufm.minimize(counts, decays, lam_H, generator=draw, **options) for _ in range(starts)]
    return min(found, key=lambda f: float(f.loss))


def compare(found: ufm.Trained, exact: ufm.Solution) -> Agreement:
    """Descent against the closed form, in all that the loss does not leave open."""
    W, K = found.classifier, len(exact.counts)
    outputs = W @ found.H if found.bias is None else W @ found.H + found.bias[:, None]

    def gap(ours: Tensor, theirs: Tensor) -> float:
        return float((ours - theirs).abs().max() / theirs.abs().max())

    widest = torch.stack([torch.linalg.svdvals(layer)[:K] for layer in found.weights])
    gram = W @ W.mT
    lengths = gram.diagonal().clamp_min(torch.finfo(W.dtype).tiny).sqrt()
    return Agreement(
        loss=abs(float(found.loss) - exact.loss),
        classifier=gap(gram, exact.classifier_gram),
        means=gap(found.H.mT @ found.H, exact.means_gram),
        outputs=gap(outputs, exact.outputs),
        layers=gap(widest, exact.layers.sort(descending=True).values),
        frame=float((gram / lengths / lengths[:, None] - torch.eye(K)).abs().max()),
    )


def threshold_sweep(sizes: Sequence[int], M: int, decay: float, starts: int, seed: int) -> list[dict[str, float]]:
    """A smallest class of each size beside classes of 100 and 60: its logit in closed form and by descent.

    The best of random starts, and of one at 1 % from the branch on which every class lives.
    """
    rows = []
    for size in sizes:
        counts, decays = (100, 60, size), [decay] * M
        exact = ufm.solve(counts, decays, decay)
        found = [
            ufm.minimize(counts, decays, decay, width=4, std=0.7, generator=generator(seed + k)) for k in range(starts)
        ]
        hits = sum(float(f.loss) < exact.loss + 1e-9 for f in found)
        near = ufm.minimize(counts, decays, decay, width=4, start=living_branch(counts, decays, decay, seed))
        best = min([*found, near], key=lambda f: float(f.loss))
        rows.append({
            "size": size,
            "size / threshold": size / ufm.critical_count(sum(counts), decays, decay),
            "closed form": float(exact.logits[2]),
            "descent": float((best.classifier @ best.H)[2, 2]),
            "F minus F*": float(best.loss) - exact.loss,
            "starts that reach F*": hits,
        })  # fmt: skip
    return rows


def living_branch(
    counts: Sequence[float], decays: Sequence[float], lam_H: float, seed: int, noise: float = 0.01
) -> tuple[list[Tensor], Tensor]:
    """Layers and means (d = K + 1) where all classes live, even where that is not the lowest branch; with noise."""
    n, M, draw = torch.tensor(counts, dtype=torch.float64), len(decays), generator(seed)
    N, K = float(n.sum()), len(counts)
    product = math.prod(decays) * lam_H
    x = ufm.largest_root(M * N * (N * product) ** (1 / M) / n, M)
    shared = (product * (n.sqrt() * x**M / (1 + x**M)).square()) ** (1 / (M + 1))
    eye = torch.eye(K + 1, dtype=torch.float64)[:K]  # every layer keeps the coordinates, one more is idle

    def noisy(A: Tensor) -> Tensor:
        return A + noise * torch.randn(A.shape, generator=draw, dtype=A.dtype)

    layers = [eye.mT @ torch.diag((shared / lam).sqrt()) @ eye for lam in decays]
    layers[-1] = eye @ layers[-1]
    return [noisy(W) for W in layers], noisy(eye.mT * (shared / lam_H / n).sqrt())


def approach(
    M: int, decay: float, seed: int, std: float, readings: int = 6, lr: float = 0.1, momentum: float = 0.9
) -> tuple[float, Tensor]:
    """Steps a decade near the minimum, fitted, and log10 of the distance of W W^T from it, read each half a decade."""
    counts, decays = [50] * 4, [decay] * M
    exact = ufm.solve(counts, decays, decay).classifier_gram
    chunk = round(ufm.steps_per_decade(decay, lr, momentum) / 2)
    now = ufm.descend(
        counts, decays, decay, width=16, steps=4 * chunk, std=std, lr=lr, momentum=momentum, generator=generator(seed)
    )
    errors = []
    for _ in range(readings):
        now = ufm.descend(
            counts, decays, decay, width=16, steps=chunk, lr=lr, momentum=momentum, start=[now.H, *now.weights]
        )
        gram = now.classifier @ now.classifier.mT
        errors.append(float(torch.linalg.matrix_norm(gram - exact) / torch.linalg.matrix_norm(exact)))
    log = torch.tensor(errors, dtype=torch.float64).log10()
    steps = chunk * torch.arange(readings, dtype=torch.float64)
    slope = ((steps - steps.mean()) * (log - log.mean())).sum() / (steps - steps.mean()).square().sum()
    return -1 / float(slope), log


def survivors(
    counts: Sequence[int], M: int, decay: float, sizes: Sequence[float], steps: int, runs: int, seed: int
) -> Tensor:
    """Logits (sizes, runs, K) of the true classes after descent from entries of those sizes; one column a class."""
    K, draw = len(counts), generator(seed)
    shapes = [(16, K), *[(16, 16)] * (M - 1), (K, 16)]
    std = torch.tensor(sizes, dtype=torch.float64).repeat_interleave(runs)[:, None, None]
    start = [std * torch.randn(len(std), *shape, generator=draw, dtype=torch.float64) for shape in shapes]
    found = ufm.descend(counts, [decay] * M, decay, width=16, steps=steps, every_sample=False, start=start)
    logits = (found.classifier @ found.H).diagonal(dim1=-2, dim2=-1)
    return logits.unflatten(0, (len(sizes), runs))


def switched(
    states: Sequence[Sequence[bool]], counts: Sequence[int], M: int, decay: float, steps: int, seed: int
) -> list[list[bool]]:
    """Start where only some classes live, with noise 1e-3, and descend: which live at the end? One row a state."""
    weights, H = living_branch(counts, [decay] * M, decay, seed, noise=0.0)
    K, draw = len(counts), generator(seed)
    kept = torch.tensor(states, dtype=H.dtype)[:, None, :]
    idle = torch.ones(len(states), 1, 1, dtype=H.dtype)
    parts = [H * kept, *(W * torch.cat([kept, idle], -1) for W in weights)]  # layers are diagonal here
    parts = [p + 1e-3 * torch.randn(p.shape, generator=draw, dtype=p.dtype) for p in parts]
    found = ufm.descend(
        counts, [decay] * M, decay, width=K + 1, steps=steps, every_sample=False, start=parts
    )  # fmt: skip
    return ((found.classifier @ found.H).diagonal(dim1=-2, dim2=-1) > 0.1).tolist()


# -------------------------------------------------------------------------------------------------------- cross-entropy


def cross_polytope(K: int) -> Tensor:
    """Logits (K, K) of K classes as opposite pairs on K / 2 axes: V V^T with rows +-e_j."""
    V = frames.orthoplex(K, (K + 1) // 2, dtype=torch.float64)
    return V @ V.mT


def simplex_logits(K: int) -> Tensor:
    """Logits (K, K) of the simplex: I - 1 1^T / K."""
    return torch.eye(K, dtype=torch.float64) - 1 / K


def entropy_race(K: int, M: int, decay: float, n: int = 50) -> dict[str, float]:
    """The lowest cross-entropy objective of a simplex, and of opposite pairs, each at its best scale."""
    counts, decays = [n] * K, [decay] * M
    values = [ufm.best_scale(Z, counts, decays, decay)[1] for Z in (simplex_logits(K), cross_polytope(K))]
    return {"K": K, "M": M, "decay": decay, "simplex": values[0], "opposite pairs": values[1]}


def simplex_value(K: int, M: int, decay: float, n: int) -> float:
    """The lowest cross-entropy objective of a simplex."""
    return ufm.best_scale(simplex_logits(K), [n] * K, [decay] * M, decay)[1]


def effective_rank(Z: Tensor, share: float = 0.05) -> Tensor:
    """How many singular values of the matrices Z (..., K, K) exceed that share of the largest: (...)."""
    values = torch.linalg.svdvals(Z)
    return (values > share * values[..., :1]).sum(-1)


def entropy_descent(
    K: int, M: int, decay: float, n: int, steps: int, runs: int, seed: int, width: int = 16, std: float = 0.3
) -> dict[str, Tensor]:
    """Descent on free features with cross-entropy: F, rank of W Hbar, distance of its shape to the simplex; (runs)."""
    found = ufm.descend(
        [n] * K,
        [decay] * M,
        decay,
        width=width,
        steps=steps,
        lr=0.5,
        cosine=True,
        loss="ce",
        std=std,
        runs=runs,
        every_sample=False,
        generator=generator(seed),
    )
    Z = found.classifier @ found.H
    return {"F": found.loss, "rank": effective_rank(Z), "distance": shape_distance(Z), "outputs": Z}


def shape_distance(Z: Tensor) -> Tensor:
    """|Z / |Z| - T / |T|| of logits Z (..., K, K), centred over classes, to the simplex T: 0 to sqrt 2."""
    Z = Z - Z.mean(-2, keepdim=True)
    Z = Z / torch.linalg.matrix_norm(Z)[..., None, None]
    T = simplex_logits(Z.shape[-1]).to(Z.dtype)
    return torch.linalg.matrix_norm(Z - T / torch.linalg.matrix_norm(T))


def seli_distances(counts: Sequence[int], decay: float, seed: int, starts: int = 2) -> tuple[float, float]:
    """Distance of the shape of W W^T at the minimum of cross-entropy, one layer, to SELI and to the simplex."""
    found = best_of(starts, counts, [decay], decay, seed, width=len(counts) + 1, loss="ce", steps=20_000)
    W = found.classifier
    ours, theirs = W @ W.mT, ufm.seli(counts).classifier_gram
    simplex = simplex_logits(len(counts))
    unit = [G / torch.linalg.matrix_norm(G) for G in (ours, theirs, simplex)]
    return float(torch.linalg.matrix_norm(unit[0] - unit[1])), float(torch.linalg.matrix_norm(unit[0] - unit[2]))


def minority_gap(small: int, decay: float, bias: bool, seed: int) -> float:
    """Distance of the two classifier rows of classes of that size beside two of 100, one layer, cross-entropy."""
    found = best_of(3, (100, 100, small, small), [decay], decay, seed, width=5, loss="ce", bias=bias)
    return float(torch.linalg.vector_norm(found.classifier[2] - found.classifier[3]))


# -------------------------------------------------------------------------------------------------------- real networks


class Split(NamedTuple):
    """Images as rows (S, N, pixels) with labels (N,), and as many of each class to test on (S, T, pixels), (T,)."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def subsets(x: Tensor, y: Tensor, counts: Sequence[int], seeds: Sequence[int], tests: int = 60) -> Split:
    """For each seed another random subset with those class sizes, and ``tests`` others of each class."""
    trained, tested = [], []
    for seed in seeds:
        order = torch.randperm(len(y), generator=generator(seed))
        rows = [order[y[order] == c] for c in range(len(counts))]
        trained.append(x[torch.cat([r[:n] for r, n in zip(rows, counts, strict=True)])])
        tested.append(x[torch.cat([r[n : n + tests] for r, n in zip(rows, counts, strict=True)])])
    classes = torch.arange(len(counts))
    labels = classes.repeat_interleave(torch.tensor(counts)), classes.repeat_interleave(tests)
    return Split(torch.stack(trained), labels[0], torch.stack(tested), labels[1])


def mnist() -> tuple[Tensor, Tensor] | None:
    """MNIST's test set as :func:`principal` coordinates (10000, 64), and labels; None without the data."""
    try:
        real = data.load("mnist", progress=False)
    except data.DataUnavailable:
        return None
    return principal(real.images), torch.from_numpy(real.labels)


def cifar(per_class: int = 400) -> tuple[Tensor, Tensor, str] | None:
    """CIFAR-10, the first images of each class, as :func:`principal` coordinates; labels; where from. Or None."""
    try:
        real = data.load("cifar10", progress=False, per_class=per_class)
    except data.DataUnavailable:
        return None
    return principal(real.train_images), torch.from_numpy(real.train_labels), real.provenance


class Networks(NamedTuple):
    """Networks of several seeds after training: layers on top, features (S, N, d), F (S), test predictions (S, T)."""

    weights: list[Tensor]
    features: Tensor
    bias: Tensor | None
    loss: Tensor
    answers: Tensor
    split: Split

    @property
    def classifier(self) -> Tensor:
        """W_M ... W_1 (S, K, d)."""
        return ufm.Trained(self.weights, self.features, None, self.loss, self.loss).classifier

    @property
    def means(self) -> Tensor:
        """Class means (S, d, K)."""
        one = nn.functional.one_hot(self.split.y).to(self.features.dtype)
        return self.features.mT @ (one / one.sum(0))

    @property
    def logits(self) -> Tensor:
        """Mean output for the true class (S, K), without bias."""
        return (self.classifier @ self.means).diagonal(dim1=-2, dim2=-1)

    def accuracy(self, classes: Sequence[int] | None = None) -> Tensor:
        """Test accuracy (S), over all classes or some."""
        y = self.split.test_y
        among = torch.ones_like(y, dtype=torch.bool) if classes is None else torch.isin(y, torch.tensor(classes))
        return (self.answers == y)[:, among].double().mean(1)


def train(
    split: Split,
    seeds: Sequence[int],
    M: int,
    decay: float,
    steps: int,
    widths: Sequence[int],
    *,
    loss: str = "mse",
    bias: bool = False,
    rectified: bool = False,
    lr: float = 1e-2,
) -> Networks:
    """Full-batch training of F with features from a network: ReLU layers, a linear map to features, M linear layers.

    Decay is on the linear layers and on the features, as in the model, and on nothing else. ``rectified`` puts a ReLU
    after the features, which the model does not allow.
    """
    K, d = int(split.y.max()) + 1, widths[-1]
    network = StackedMLP([split.x.shape[-1], *widths], seeds, negative_slope=0.0)
    shapes = [(d, d)] * (M - 1) + [(K, d)]
    start = [[_orthogonal(shape, 1000 * seed + m) for m, shape in enumerate(shapes)] for seed in seeds]
    weights = [nn.Parameter(torch.stack(layer)) for layer in zip(*start, strict=True)]
    b = nn.Parameter(torch.zeros(len(seeds), K)) if bias else None

    def features(x: Tensor) -> Tensor:
        h = network(x)
        return cast(Tensor, h.relu()) if rectified else cast(Tensor, h)

    def F(h: Tensor) -> Tensor:
        return ufm.objective(weights, h.mT, split.y, [decay] * M, decay, bias=b, loss=loss)

    parameters = [*network.parameters(), *weights, *([] if b is None else [b])]
    fit(parameters, lambda step: F(features(split.x)).sum(), steps, lr=lr)
    with torch.no_grad():
        h, out = features(split.x), features(split.test_x)
        for W in weights:
            out = out @ W.mT
        out = out if b is None else out + b[:, None]
        return Networks(
            [W.detach() for W in weights], h, None if b is None else b.detach(), F(h), out.argmax(-1), split
        )


def _orthogonal(shape: tuple[int, int], seed: int) -> Tensor:
    """Orthonormal rows, or columns where there are more rows."""
    A = torch.randn(max(shape), min(shape), generator=generator(seed))
    Q = torch.linalg.qr(A).Q
    return Q if shape[0] >= shape[1] else Q.mT.contiguous()


def collapse_rows(found: Networks, target: str | Tensor) -> list[dict[str, float]]:
    """NC1 (two forms) and NC2 of each seed, all linear layers taken together."""
    rows = []
    for W, h in zip(found.classifier, found.features, strict=True):
        moments = collapse.class_moments(h, found.split.y)
        rows.append({
            "NC1": collapse.nc1(moments),
            "within / between": collapse.scatter_ratio(moments),
            "NC2": collapse.frame_distance(W.double(), target),
        })  # fmt: skip
    return rows


# ---------------------------------------------------------------------------------------------------- the released code


def released_root(counts: Sequence[float], M: int, decay: float) -> list[float]:
    """Logits by the largest real root alone, never compared with zero; NaN where the released rule finds none."""
    n = torch.tensor(counts, dtype=torch.float64)
    N = float(n.sum())
    x = ufm.largest_root(M * N * (N * decay ** (M + 1)) ** (1 / M) / n, M)
    return torch.where(x > 0, x**M / (1 + x**M), torch.nan).tolist()


def scaled_loss(counts: Sequence[int], M: int, decay: float, factor: float, seed: int) -> tuple[float, float]:
    """Descend with the data term over factor: distance of the shape of W W^T to that at decay, and at factor decay."""
    K = len(counts)
    found = best_of(6, counts, [factor * decay] * M, factor * decay, seed, width=K + 1)  # F / factor has these minima
    targets = [ufm.solve(counts, [lam] * M, lam).classifier for lam in (decay, factor * decay)]
    return collapse.frame_distance(found.classifier, targets[0]), collapse.frame_distance(found.classifier, targets[1])


# ---------------------------------------------------------------------------------------------- pymanopt as the referee


def nearest_frame(means: Tensor) -> tuple[float, float, float]:
    """Nearest orthogonal frame of equal lengths to the columns of means (d, K): residual over norm, by two ways.

    |A - a P| with P^T P = I is least for the polar factor P = U V^T and a = mean singular value. The second number lets
    pymanopt climb tr(P^T A) on the Stiefel manifold, without knowing that; the third is the largest difference of P.
    """
    import pymanopt

    A = means.double()
    d, K = A.shape
    U, s, Vt = torch.linalg.svd(A, full_matrices=False)
    manifold = pymanopt.manifolds.Stiefel(d, K)

    @pymanopt.function.pytorch(manifold)  # type: ignore[untyped-decorator, unused-ignore]
    def cost(P: Tensor) -> Tensor:
        return -(P * A).sum()

    start = torch.linalg.qr(torch.randn(d, K, generator=generator(0), dtype=A.dtype)).Q
    solver = pymanopt.optimizers.ConjugateGradient(verbosity=0, min_gradient_norm=1e-10, max_iterations=500)
    found = solver.run(pymanopt.Problem(manifold, cost), initial_point=start.numpy())
    P, norm = torch.from_numpy(found.point), float(torch.linalg.matrix_norm(A))
    ours = float(torch.linalg.matrix_norm(A - s.mean() * U @ Vt)) / norm
    a = float((P * A).sum()) / K
    return ours, float(torch.linalg.matrix_norm(A - a * P)) / norm, float((P - U @ Vt).abs().max())


# --------------------------------------------------------------------------------------------------------- full scale


def cifar_images(counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The first images of each class of CIFAR-10 in file order, uint8 (N, 3, 32, 32), and labels."""
    c = data.load("cifar10")
    x, y = torch.from_numpy(c.train_images), torch.from_numpy(c.train_labels)
    rows = torch.cat([torch.nonzero(y == k)[:n, 0] for k, n in enumerate(counts)])
    return x[rows], y[rows]


def layer_targets(exact: ufm.Solution) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each layer j: squared lengths of the rows of W_M ... W_j and of the means of its input, and the logits.

    Needs equal decays and no bias: then all layers have the same singular values s.
    """
    squares, M = exact.layers[0].square(), len(exact.layers)
    inputs = exact.features / exact.counts
    return [(squares ** (M - j), inputs * squares**j, exact.logits) for j in range(M)]


def resnet_run(
    x: Tensor, y: Tensor, M: int, loss: str, seed: int, schedule: dict[str, int], device: torch.device
) -> dict[str, Any]:
    """ResNet-18, a linear map to free features, M linear layers; a fifth of the decay at which a class would vanish.

    SGD with momentum and a cosine on F alone: decay on features and linear layers only. The feature decay of a batch is
    scaled by N / B, which the released code omits. Returns NC metrics along the way and, for squared error, logits.
    """
    counts, N, d = y.bincount(), len(y), 8 * schedule["width"]
    decay = 0.2 * ufm.critical_decay(float(counts.min()), N, M)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Linear(d, d, bias=False) for _ in range(M - 1)]
        head = nn.Sequential(*layers, nn.Linear(d, len(counts), bias=False)).to(device)
        features = nn.Sequential(ResNet18(schedule["width"], seed), nn.Linear(d, d)).to(device)
    for layer in head:
        nn.init.orthogonal_(cast(nn.Linear, layer).weight, generator=torch.Generator(device).manual_seed(seed))
    weights = [cast(nn.Linear, layer).weight for layer in head]
    network, batch, draw = nn.Sequential(features, head), min(256, N), torch.Generator(device).manual_seed(seed)
    x, y = x.to(device), y.to(device)
    exact = ufm.solve(counts, [decay] * M, decay)
    target: Any = "simplex" if loss == "ce" else layer_targets(exact)

    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format

    def scaled(images: Tensor) -> Tensor:  # torch crashes on the CPU with channels last where channels are few
        return (images.float() / 127.5 - 1).contiguous(memory_format=layout)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in zip(x.split(1000), y.split(1000), strict=True):
            yield scaled(images), labels

    record = collapse.CollapseCallback(network, head, batches, schedule["every"], target=target)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for step in range(schedule["steps"]):
        now = torch.randint(N, (batch,), generator=draw, device=device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            h = features(scaled(random_crops(x[now], draw)))
        F = ufm.objective(weights, h.float().mT, y[now], [decay] * M, decay * N / batch, loss=loss)
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / schedule["steps"])) / 2
        optimizer.zero_grad()
        F.backward()
        optimizer.step()
        record(step)
    record.measure(schedule["steps"])
    with torch.no_grad():
        W = torch.linalg.multi_dot([w.double() for w in weights[::-1]]) if M > 1 else weights[0].double()
        moments = cast(collapse.ClassMoments, record.moments)
        logits = (W @ moments.means.mT).diagonal().tolist()
    found = {"logits": logits, "curves": [row for row in record.history if row["layer"] == 1]}
    return found if loss == "ce" else {**found, "predicted": exact.logits.tolist()}


def resnet_table(schedule: dict[str, int], device: torch.device, folder: Path) -> list[dict[str, Any]]:
    """:func:`resnet_run` for balanced and unequal classes, three depths and two losses; finished runs are read back."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, counts in (("balanced", (5000,) * 10), ("unequal", tuple(10 * n for n in STEPS))):
        x, y = cifar_images(counts)
        for M, loss, seed in itertools.product((1, 3, 6), ("mse", "ce"), range(schedule["seeds"])):
            file = folder / f"{name}-{M}-{loss}-{seed}.json"
            row = json.loads(file.read_text()) if file.exists() else {}
            if row.get("schedule") != schedule:
                row = {"classes": name, "M": M, "loss": loss, "seed": seed, "schedule": schedule}
                row |= resnet_run(x, y, M, loss, seed, schedule, device)
                file.write_text(json.dumps(row))
            rows.append({key: value for key, value in row.items() if key != "schedule"})
    return rows
