"""Experiments of the page *What if a class is a subspace?*: heads, fixed code books, and what features make of them.

Wang, Li & Zhang, "Get the Best of Both Worlds: Improving Accuracy and Transferability by Grassmann Class
Representation" (ICCV 2023, GCR); Shen, Sun & Wei, "Equiangular Basis Vectors" (CVPR 2023, EBV).
Features are (B, n), bases (N, n, k).
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from repgeom import data
from repgeom.data.store import checkpoints as checkpoints
from repgeom.manifolds import grassmann
from repgeom.nn.grassmann import SubspaceClassifier, VectorClassifier
from repgeom.nn.resnet import ResNet18, random_crops
from repgeom.optim import GrassmannSGD
from repgeom.theory import frames

TEMPERATURE = 0.07  # of equiangular basis vectors

# Table 3 of the paper (ResNet50-D on ImageNet-1K): top-1, within-class angle in degrees, R^2, accuracy of linear probes
# on CIFAR-10, CIFAR-100, Food, Pets, Cars and Flowers, and their printed average.
TABLE3: dict[str, tuple[float, float, float, tuple[float, ...], float]] = {
    "softmax": (78.04, 60.12, 0.495, (90.79, 67.76, 72.13, 92.49, 51.55, 93.17), 77.98),
    "cosine": (78.30, 56.87, 0.528, (89.34, 65.32, 64.79, 91.68, 43.92, 87.28), 73.72),
    "GCR-1": (78.42, 56.50, 0.534, (89.98, 66.34, 64.34, 91.37, 42.97, 86.85), 73.64),
    "GCR-4": (78.68, 61.48, 0.459, (90.56, 67.45, 67.58, 91.37, 50.24, 90.08), 76.21),
    "GCR-8": (79.26, 63.49, 0.430, (90.13, 67.90, 70.06, 91.85, 53.25, 92.64), 77.64),
    "GCR-16": (79.21, 65.79, 0.395, (91.09, 69.58, 71.28, 91.99, 55.93, 93.80), 78.95),
    "GCR-32": (78.63, 67.74, 0.365, (91.35, 69.49, 71.80, 92.47, 58.05, 95.04), 79.70),
}
# Measured on the basis files that the authors of EBV publish, 1000 vectors each: length d, largest |cos|.
SHIPPED = {100: 0.1350, 200: 0.0800, 300: 0.0580, 400: 0.0440, 500: 0.0350}
RESNET_HEADS = ("softmax", "cosine", "GCR-1", "GCR-4", "GCR-8", "GCR-20", "frozen GCR-8", "EBV")

# Every schedule of the page in one place.
_CI: dict[str, Any] = {
    "epochs": 15,
    "head_epochs": 30,
    "tail_epochs": 60,
    "cifar": {"per_class": 400, "filters": 192, "width": 256, "epochs": 8},
    "mnist": {"train": 3000, "epochs": 12},
    "referee": {"samples": 200, "steps": 400},
    "resnet": {"width": 64, "epochs": 24, "seeds": 3},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {
        "epochs": 1,
        "head_epochs": 1,
        "tail_epochs": 1,
        "cifar": {"per_class": 12, "filters": 16, "width": 32, "epochs": 1},
        "mnist": {"train": 300, "epochs": 1},
        "referee": {"samples": 120, "steps": 5},
        "resnet": {"width": 4, "epochs": 1, "seeds": 1},
    },
    "ci": _CI,
    "full": _CI,
}


class Split(NamedTuple):
    """Features and labels, to train on and to test on."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def generator(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def digits(seed: int, train: int = 1200) -> Split:
    """The bundled digits, pixels in [0, 1], split at random: (1200, 64) and (597, 64)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = torch.from_numpy(bunch.data).float() / 16, torch.from_numpy(bunch.target)
    order = torch.randperm(len(y), generator=generator(seed))
    a, b = order[:train], order[train:]
    return Split(x[a], y[a], x[b], y[b])


def unit(x: Tensor) -> Tensor:
    """Rows of length one."""
    return nn.functional.normalize(x, dim=-1)


def mnist_pixels(seed: int, train: int) -> Split | None:
    """MNIST's test set, pooled to 14 x 14, split at random (2000 to test on); None without the data."""
    try:
        real = data.load("mnist", progress=False)
    except data.DataUnavailable:
        return None
    x = nn.functional.avg_pool2d(torch.from_numpy(real.images).float()[:, None] / 255, 2).flatten(1)
    y = torch.from_numpy(real.labels)
    order = torch.randperm(len(y), generator=generator(seed))
    a, b = order[:train], order[-2000:]
    return Split(x[a], y[a], x[b], y[b])


def patch_features(images: Tensor, filters: Tensor) -> Tensor:
    """Two-sided rectified responses to filters (f, 3, 6, 6) every third pixel, pooled over quarters: (B, 8 f)."""
    x = images - images.mean((1, 2, 3), keepdim=True)
    y = nn.functional.conv2d(x / x.std((1, 2, 3), keepdim=True), filters, stride=3)
    return nn.functional.adaptive_avg_pool2d(torch.cat([(y - 0.25).relu(), (-y - 0.25).relu()], 1), 2).flatten(1)


def whitened_patches(images: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """Filters (count, 3, 6, 6): random patches of the images, whitened and of length one."""
    picked = torch.randint(len(images), (20 * count,), generator=draw)
    rows, columns = torch.randint(27, (2, 20 * count), generator=draw)
    patches = torch.stack([images[i, :, r : r + 6, c : c + 6] for i, r, c in zip(picked, rows, columns, strict=True)])
    flat = patches.flatten(1)
    flat = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True).clamp_min(0.05)
    values, vectors = torch.linalg.eigh(flat.T.cov())
    white = vectors * (values + 0.1).rsqrt() @ vectors.T  # both sides of a filter act on raw patches: white twice
    return (unit(flat[:count] @ white) @ white).view(-1, 3, 6, 6)


def cifar_features(per_class: int, filters: int, width: int) -> tuple[Split, str] | None:
    """Fixed features of CIFAR-10: whitened random patches, then the leading principal directions at variance one.

    The train half and the test half hold ``per_class`` images of each class. With the words on where the images come
    from; None without the data.
    """
    try:
        real = data.load("cifar10", progress=False, per_class=per_class)
    except data.DataUnavailable:
        return None
    images = [torch.from_numpy(x).float() / 255 for x in (real.train_images, real.test_images)]
    bank = whitened_patches(images[0], filters, generator(0))
    x, test_x = (torch.cat([patch_features(some, bank) for some in part.split(250)]) for part in images)
    center = x.mean(0)
    _, values, V = torch.linalg.svd(x - center, full_matrices=False)
    V = V[:width].T / (values[:width] / len(x) ** 0.5)
    labels, test_labels = torch.from_numpy(real.train_labels), torch.from_numpy(real.test_labels)
    return Split((x - center) @ V, labels, (test_x - center) @ V, test_labels), real.provenance


# ------------------------------------------------------------------------------------------------------ no training


def class_bases(x: Tensor, labels: Tensor, k: int) -> Tensor:
    """The leading k left singular vectors of each class's features (uncentred): (N, n, k)."""
    return torch.stack([torch.linalg.svd(x[labels == c].T, full_matrices=False).U[:, :k] for c in labels.unique()])


def shadow_accuracy(bases: Tensor, x: Tensor, labels: Tensor) -> float:
    """How often the class subspace with the longest shadow is the right one."""
    shadows = torch.linalg.vector_norm(torch.einsum("nik,bi->bnk", bases, x), dim=-1)
    return float((shadows.argmax(1) == labels).double().mean())


def near_half(bases: Sequence[Tensor], pixels: int = 201) -> tuple[Tensor, Tensor, Tensor]:
    """Who wins where on the near half of the sphere, seen along the first axis: right, up, class (NaN outside)."""
    right, up = torch.meshgrid(*2 * [torch.linspace(-1, 1, pixels)], indexing="xy")
    towards = (1 - right**2 - up**2).clamp_min(0).sqrt()
    u = torch.stack([towards, right, up], -1)
    winner = torch.stack([torch.linalg.vector_norm(u @ S, dim=-1) for S in bases]).argmax(0)
    return right, up, winner.double().masked_fill(towards == 0, torch.nan)


# ---------------------------------------------------------------------------------------------------------- networks


def make_head(name: str, width: int, classes: int, seed: int) -> nn.Module:
    """A head by name: "softmax", "cosine", "GCR-4", "frozen GCR-4", or a name of :func:`code_book`."""
    draw = generator(10_000 + seed)
    if name == "softmax":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(10_000 + seed)  # nn.Linear takes no generator
            return nn.Linear(width, classes)
    if "GCR" in name:
        head = SubspaceClassifier(width, classes, int(name.rpartition("-")[2]), generator=draw)
        head.bases.requires_grad_(not name.startswith("frozen"))
        return head
    if name == "cosine":
        return VectorClassifier(frames.random_unit_vectors(classes, width, generator=draw))
    return VectorClassifier(code_book(name, classes, width, draw), scale=1 / TEMPERATURE, trainable=False)


def code_book(name: str, classes: int, width: int, draw: torch.Generator | None) -> Tensor:
    """Fixed unit vectors (classes, width): "one-hot", "simplex", "orthoplex", "random", or "EBV" at 1.25 x Welch."""
    if name == "EBV":
        alpha = 1.25 * frames.welch_bound(classes, width)
        return frames.equiangular_basis_vectors(classes, width, alpha, generator=draw)
    made: dict[str, Callable[[], Tensor]] = {
        "one-hot": lambda: torch.eye(classes, width),
        "simplex": lambda: frames.simplex_etf(classes, width),
        "orthoplex": lambda: frames.orthoplex(classes, width),
        "random": lambda: frames.random_unit_vectors(classes, width, generator=draw),
    }
    return made[name]()


def backbone(inputs: int, width: int, seed: int, last_relu: bool = True) -> nn.Sequential:
    """inputs - 256 - width, batch normalisation after both maps, ReLU after the first and, if asked for, the last."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # nn.Linear takes no generator
        layers: list[nn.Module] = [nn.Linear(inputs, 256), nn.BatchNorm1d(256), nn.ReLU()]
        layers += [nn.Linear(256, width), nn.BatchNorm1d(width)]
    return nn.Sequential(*layers, nn.ReLU()) if last_relu else nn.Sequential(*layers)


def optimizers(features: nn.Module, head: nn.Module, lr: float, decay: float = 1e-4) -> list[torch.optim.Optimizer]:
    """SGD with momentum 0.9 and weight decay; beside it GrassmannSGD where the head holds subspaces to learn."""
    subspaces = [head.bases] if isinstance(head, SubspaceClassifier) and head.bases.requires_grad else []
    held = {id(S) for S in subspaces}
    flat = [p for p in (*features.parameters(), *head.parameters()) if p.requires_grad and id(p) not in held]
    found: list[torch.optim.Optimizer] = []
    if flat:
        found.append(torch.optim.SGD(flat, lr=lr, momentum=0.9, weight_decay=decay, fused=True))
    if subspaces:
        found.append(GrassmannSGD(subspaces, lr=lr, momentum=0.9))
    return found


def train(
    features: nn.Module,
    head: nn.Module,
    x: Tensor,
    labels: Tensor,
    epochs: int,
    seed: int,
    *,
    lr: float = 0.1,
    batch: int = 64,
    together: Sequence[torch.optim.Optimizer] | None = None,
) -> list[float]:
    """Minimise cross-entropy by all optimisers side by side, the rate falling like a cosine; returns the losses."""
    together = optimizers(features, head, lr) if together is None else together
    steps, draw, losses = epochs * (len(x) // batch), generator(20_000 + seed), []
    order = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(x), generator=draw)
        now, order = order[:batch], order[batch:]
        loss = nn.functional.cross_entropy(head(features(x[now])), labels[now])
        for optimizer in together:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in together:
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.step()
        losses.append(float(loss.detach()))
    return losses


class Trained(NamedTuple):
    """A network after training, with its test accuracy."""

    features: nn.Module
    head: nn.Module
    accuracy: float
    losses: list[float]


def accuracy(features: nn.Module, head: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Share of right answers, with running statistics."""
    features.eval()
    with torch.no_grad():
        return float((head(features(x)).argmax(1) == labels).double().mean())


def run(
    name: str,
    split: Split,
    epochs: int,
    seed: int,
    *,
    width: int = 64,
    last_relu: bool = True,
    batch: int = 64,
) -> Trained:
    """Train backbone and head of that name. Equal seeds start from the same backbone and see equal batches."""
    classes = int(split.y.max()) + 1
    features = backbone(split.x.shape[1], width, seed, last_relu)
    head = make_head(name, width, classes, seed)
    losses = train(features, head, split.x, split.y, epochs, seed, batch=batch)
    return Trained(features, head, accuracy(features, head, split.test_x, split.test_y), losses)


def accuracies(
    names: Sequence[str], splits: Sequence[Split], epochs: int, seeds: Sequence[int], **options: Any
) -> dict[str, Tensor]:
    """Test accuracy (seeds) of each head; seed i uses split i."""
    pairs = list(zip(splits, seeds, strict=True))
    return {
        name: torch.tensor([run(name, split, epochs, seed, **options).accuracy for split, seed in pairs])
        for name in names
    }


def head_only(name: str, split: Split, epochs: int, seed: int) -> Trained:
    """A head on fixed features of length one. "unconstrained-4": the same logits without orthonormal columns."""
    x, test_x = unit(split.x), unit(split.test_x)
    classes, nothing = int(split.y.max()) + 1, nn.Identity()
    if name.startswith("unconstrained"):
        head: nn.Module = Unconstrained(x.shape[1], classes, int(name.rpartition("-")[2]), seed)
    else:
        head = make_head(name, x.shape[1], classes, seed)
    if not any(p.requires_grad for p in head.parameters()):
        return Trained(nothing, head, accuracy(nothing, head, test_x, split.test_y), [])
    together = optimizers(nothing, head, 0.1, decay=0.0)  # so that only the constraint differs
    losses = train(nothing, head, x, split.y, epochs, seed, together=together)
    return Trained(nothing, head, accuracy(nothing, head, test_x, split.test_y), losses)


class Unconstrained(nn.Module):
    """The head without its manifold: logit scale |W_i^T u| with W (N, n, k) free, from the same start."""

    def __init__(self, width: int, classes: int, k: int, seed: int, scale: float = 25.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(grassmann.random(classes, generator(10_000 + seed), size=width, subspace_dim=k))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, N) of features (B, n)."""
        return self.scale * torch.linalg.vector_norm(torch.einsum("nik,bi->bnk", self.weight, unit(x)), dim=-1)


# ------------------------------------------------------------------------------------------------------ measurements


def within_class_angle(z: Tensor, labels: Tensor) -> float:
    """Mean angle in degrees between two different features of a class, averaged over classes; z (B, n)."""
    angles = []
    for c in labels.unique():
        u = unit(z[labels == c].double())
        pairs = torch.triu_indices(len(u), len(u), offset=1)
        angles.append(torch.rad2deg((u @ u.T)[pairs[0], pairs[1]].clamp(-1, 1).acos()).mean())
    return float(torch.stack(angles).mean())


def class_separation(z: Tensor, labels: Tensor) -> float:
    """R^2 = 1 - mean_c (1 - |mu_c|^2) / (1 - |mean of mu_c|^2) with the means mu_c of features of length one."""
    means = torch.stack([unit(z[labels == c].double()).mean(0) for c in labels.unique()])
    return float(1 - (1 - means.square().sum(1)).mean() / (1 - means.mean(0).square().sum()))


def probe(features: nn.Module, x: Tensor, y: Tensor, test_x: Tensor, test_y: Tensor) -> float:
    """Test accuracy of a linear support vector machine on frozen features of length one."""
    from sklearn.svm import LinearSVC

    features.eval()
    with torch.no_grad():
        z, test_z = unit(features(x)).numpy(), unit(features(test_x)).numpy()
    model = LinearSVC(dual=False).fit(z, y.numpy())
    return float(model.score(test_z, test_y.numpy()))


def coarse(names: Sequence[str], splits: Sequence[Split], epochs: int, seeds: Sequence[int]) -> dict[str, Tensor]:
    """Train on five classes (digit // 2); per head (seeds, 4): accuracy, within-class angle, R^2, fine-label probe."""
    found: dict[str, Tensor] = {}
    for name in names:
        rows = []
        for split, seed in zip(splits, seeds, strict=True):
            now = run(name, split._replace(y=split.y // 2, test_y=split.test_y // 2), epochs, seed)
            with torch.no_grad():
                z = now.features(split.test_x)
            spread = within_class_angle(z, split.test_y // 2), class_separation(z, split.test_y // 2)
            rows.append([now.accuracy, *spread, probe(now.features, *split)])
        found[name] = torch.tensor(rows, dtype=torch.float64)
    return found


def held_out(names: Sequence[str], splits: Sequence[Split], epochs: int, seeds: Sequence[int]) -> dict[str, Tensor]:
    """Train on digits 0 to 4 only; per head (seeds) the accuracy of a linear probe on digits 5 to 9."""
    found = {}
    for name in names:
        values = []
        for s, seed in zip(splits, seeds, strict=True):
            seen, seen_test = s.y < 5, s.test_y < 5
            now = run(name, Split(s.x[seen], s.y[seen], s.test_x[seen_test], s.test_y[seen_test]), epochs, seed)
            values.append(probe(now.features, s.x[~seen], s.y[~seen], s.test_x[~seen_test], s.test_y[~seen_test]))
        found[name] = torch.tensor(values)
    return found


def long_tail(split: Split, seed: int, most: int = 110, least: int = 3) -> Split:
    """The class of rank r keeps its first most * (least / most)^(r / 9) samples; ranks are drawn at random."""
    rank = torch.randperm(10, generator=generator(30_000 + seed))
    keep = [round(most * (least / most) ** (r / 9)) for r in rank.tolist()]
    rows = torch.cat([torch.nonzero(split.y == c)[:n, 0] for c, n in enumerate(keep)])
    return split._replace(x=split.x[rows], y=split.y[rows])


def balanced_accuracy(now: Trained, split: Split) -> float:
    """The mean over classes of the share of right answers."""
    return (
        sum(
            accuracy(now.features, now.head, split.test_x[split.test_y == c], split.test_y[split.test_y == c])
            for c in range(10)
        )
        / 10
    )


def defect(head: nn.Module) -> float:
    """Largest entry of |S^T S - I| of a head of subspaces."""
    S = cast(SubspaceClassifier, head).bases.detach().double()
    return float((S.mT @ S - torch.eye(S.shape[-1], dtype=S.dtype)).abs().amax())


def variant(split: Split, epochs: int, seed: int, **options: Any) -> Trained:
    """:func:`run` of "GCR-4" with options of its GrassmannSGD: order, reorthonormalize_every."""
    features, head = backbone(split.x.shape[1], 64, seed), make_head("GCR-4", 64, int(split.y.max()) + 1, seed)
    together = optimizers(features, head, 0.1)
    together[1].param_groups[0].update(options)
    losses = train(features, head, split.x, split.y, epochs, seed, together=together)
    return Trained(features, head, accuracy(features, head, split.test_x, split.test_y), losses)


def shared_counter(heads: int, steps: int, every: int = 5) -> Tensor:
    """How often each head is re-orthonormalised when one global counter advances once a head: the released code."""
    counts = torch.arange(heads * steps).view(steps, heads)
    return (counts % every == 0).sum(0)


def resumed(keep_state: bool, seed: int = 0) -> float:
    """Distance (radians) between bases trained for twenty steps, and for ten, saved, loaded and ten more.

    Without the optimiser's state, as where it hides inside another optimiser, momentum starts from zero.
    """
    draw = generator(seed)
    S = nn.Parameter(grassmann.random(3, draw, torch.float64, size=8, subspace_dim=2))
    T, given = nn.Parameter(S.detach().clone()), torch.randn(20, *S.shape, generator=draw, dtype=torch.float64)
    straight, first, second = GrassmannSGD([S], lr=0.01), GrassmannSGD([T], lr=0.01), GrassmannSGD([T], lr=0.01)
    for step, D in enumerate(given):
        if step == 10 and keep_state:
            second.load_state_dict(first.state_dict())
        for optimizer, point in ((straight, S), (first if step < 10 else second, T)):
            point.grad = D
            optimizer.step()
    return float(grassmann.distance(S.detach(), T.detach()).max())


# --------------------------------------------------------------------------------------------- pymanopt as the referee


def referee(x: Tensor, labels: Tensor, k: int, steps: int, scale: float = 10.0) -> dict[str, float]:
    """The best subspaces for fixed features: full-batch loss by pymanopt's conjugate gradients and by GrassmannSGD."""
    import pymanopt

    classes, n = int(labels.max()) + 1, x.shape[1]
    x = unit(x).double()
    start = class_bases(x, labels, k)

    def loss(S: Tensor) -> Tensor:
        shadows = torch.linalg.vector_norm(torch.einsum("nik,bi->bnk", S, x), dim=-1)
        return nn.functional.cross_entropy(scale * shadows, labels)

    manifold = pymanopt.manifolds.Grassmann(n, k, k=classes)

    @pymanopt.function.pytorch(manifold)  # type: ignore[untyped-decorator, unused-ignore]
    def cost(S: Tensor) -> Tensor:
        return loss(S)

    solver = pymanopt.optimizers.ConjugateGradient(max_iterations=steps, verbosity=0, min_gradient_norm=1e-7)
    theirs = solver.run(pymanopt.Problem(manifold, cost), initial_point=start.numpy())
    S = nn.Parameter(start.clone())
    optimizer = GrassmannSGD([S], lr=0.5, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(S).backward()
        optimizer.step()
    with torch.no_grad():
        apart = grassmann.distance(S, torch.from_numpy(theirs.point)).amax()
        ours, before = float(loss(S)), float(loss(start))
    return {"start": before, "pymanopt": float(theirs.cost), "ours": ours, "apart": float(apart)}


# --------------------------------------------------------------------------------------------------------- full scale


class Images(NamedTuple):
    """Images (B, 3, H, W) uint8 with labels to train on; ``probe`` is what a linear probe must read off features."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    probe: tuple[Tensor, Tensor, Tensor, Tensor]


def cifar10_and_mnist() -> Images:
    """CIFAR-10 to train on; the probe reads MNIST, padded to 32 x 32, half of it to learn from."""
    cifar, mnist = data.load("cifar10"), data.load("mnist")
    digits = nn.functional.pad(torch.from_numpy(mnist.images)[:, None].expand(-1, 3, -1, -1), (2, 2, 2, 2))
    labels = torch.from_numpy(mnist.labels)
    x, y, test_x, test_y = map(torch.from_numpy, cifar[:4])
    return Images(x, y, test_x, test_y, (digits[:5000], labels[:5000], digits[5000:], labels[5000:]))


def cifar100_coarse() -> Images:
    """The twenty superclasses of CIFAR-100 to train on; the probe reads the hundred classes off the same images."""
    c = data.load("cifar100")
    x, fine, test_x, test_fine, coarse, test_coarse = map(torch.from_numpy, c[:6])
    return Images(x, coarse, test_x, test_coarse, (x, fine, test_x, test_fine))


def resnet_run(name: str, images: Images, seed: int, width: int, epochs: int, device: torch.device) -> dict[str, float]:
    """Train ResNet-18 with a head: accuracy, angle and R^2 on the test set, and the accuracy of the linear probe.

    Batches of 256, SGD at 0.1 falling like a cosine, weight decay 5e-4, crops and mirror images, bfloat16 on a GPU.
    """
    x, y = images.x.to(device), images.y.to(device)
    features = ResNet18(width, seed).to(device)
    head = make_head(name, features.out_features, int(y.max()) + 1, seed).to(device)
    together, draw = optimizers(features, head, 0.1, decay=5e-4), torch.Generator(device).manual_seed(seed)
    steps, batch = epochs * max(1, len(x) // 256), min(256, len(x))

    gpu = device.type == "cuda"
    layout = torch.channels_last if gpu else torch.contiguous_format  # torch crashes on the former with few channels

    def embed(images: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=gpu):
            return cast(Tensor, features((images.float() / 127.5 - 1).contiguous(memory_format=layout)))

    order = torch.empty(0, dtype=torch.long, device=device)
    for step in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(x), generator=draw, device=device)
        now, order = order[:batch], order[batch:]
        loss = nn.functional.cross_entropy(head(embed(random_crops(x[now], draw)).float()), y[now])
        for optimizer in together:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * (1 + math.cos(math.pi * step / steps)) / 2
        loss.backward()
        for optimizer in together:
            optimizer.step()
    features.eval()

    def embedded(these: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([embed(part.to(device)).float() for part in these.split(1000)])

    z, test_y = embedded(images.test_x), images.test_y
    with torch.no_grad():
        right = float((head(z).argmax(1).cpu() == test_y).double().mean())
    some, labels, rest, rest_labels = images.probe
    transferred = probe(nn.Identity(), embedded(some).cpu(), labels, embedded(rest).cpu(), rest_labels)
    z = z.cpu()
    return {
        "accuracy": right,
        "angle": within_class_angle(z, test_y),
        "separation": class_separation(z, test_y),
        "probe": transferred,
    }


def resnet_table(images: Images, schedule: dict[str, int], device: torch.device, folder: Path) -> list[dict[str, Any]]:
    """:func:`resnet_run` for every head and seed; a finished run of the same schedule is read from its file."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(schedule["seeds"]):
        for name in RESNET_HEADS:
            file = folder / f"{name.replace(' ', '-')}-{seed}.json"
            row = json.loads(file.read_text()) if file.exists() else {}
            if row.get("schedule") != schedule:
                found = resnet_run(name, images, seed, schedule["width"], schedule["epochs"], device)
                row = {"head": name, "seed": seed, **found, "schedule": schedule}
                file.write_text(json.dumps(row))
            rows.append({key: value for key, value in row.items() if key != "schedule"})
    return rows
