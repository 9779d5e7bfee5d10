"""Experiments of the page *What of a representation is the task's, and what is the seed's?*

Moschella et al. 2023 (relative representations, 2209.15430), Kornblith et al. 2019 (CKA, 1905.00414), Li et al. 2018
(intrinsic dimension, 1804.08838), Alleman et al. 2024 (tanh and ReLU, 2401.13558), Yuan et al. 2019 (SNR distance,
1904.02616). Representations are rows: (n, d) for one network, (K, n, d) for a stack of K networks, one per seed.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repgeom import data
from repgeom.nn.blocks import StackedMLP
from repgeom.nn.resnet import ResNet18, random_crops
from repgeom.optim import fit
from repgeom.probes import similarity
from repgeom.probes.similarity import linear_cka, procrustes_map, relative, snr_distance

# Every schedule of the page in one place. "long" is the run behind the stored result of more seeds.
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {
        "images": 300,
        "mnist": 300,
        "stitch": 5,
        "anchors": (3, 10),
        "depth": 2,
        "layers": 3,
        "widths": (4, 16, 32),
    }
    | {"points": 3, "parity": 3, "dims": (20, 100, 400), "subspace": 3, "metric": 3, "long": 2}
    | {"resnet": {"seeds": 2, "width": 2, "epochs": 1, "anchors": 12, "decoder": 2}},
    "ci": {"images": 1797, "mnist": 10_000, "stitch": 400, "anchors": (3, 10, 30, 100, 300), "depth": 6, "layers": 400}
    | {"widths": (16, 64, 256), "points": 2000, "parity": 1000, "dims": (50, 100, 200, 400), "subspace": 400}
    | {"metric": 200, "long": 20, "resnet": {"seeds": 3, "width": 64, "epochs": 24, "anchors": 300, "decoder": 400}},
}
SETTINGS["full"] = SETTINGS["ci"]


def generator(seed: int) -> torch.Generator:
    """A generator of its own for one draw."""
    return torch.Generator().manual_seed(seed)


# ----------------------------------------------------------------------------------------------------------------- data


class Split(NamedTuple):
    """Images as rows, labels, and the same for the test."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def load_digits(images: int = 1797) -> Split:
    """The bundled digits (n, 64) between 0 and 1, two thirds to train on, in an order drawn once for the page."""
    from sklearn.datasets import load_digits as bundled

    X, y = bundled(return_X_y=True)
    order = torch.randperm(1797, generator=generator(0))[:images]
    x, labels, cut = torch.from_numpy(X[order]).float() / 16, torch.from_numpy(y[order]).long(), 2 * images // 3
    return Split(x[:cut], labels[:cut], x[cut:], labels[cut:])


def load_mnist(images: int) -> tuple[Split, bool]:
    """MNIST test images at half the resolution (n, 196), four fifths to train on; whether they are real.

    Without the data: the bundled digits. Results on them are never reported as results on MNIST.
    """
    try:
        real = data.load("mnist", progress=False)
    except data.DataUnavailable:
        return load_digits(min(images, 1797)), False
    x = F.avg_pool2d(torch.from_numpy(real.images[:images])[:, None].float() / 255, 2).flatten(1)
    y, cut = torch.from_numpy(real.labels[:images]).long(), 4 * images // 5
    return Split(x[:cut], y[:cut], x[cut:], y[cut:]), True


# ------------------------------------------------------------------------------------ many seeds at once, and stitching


def draws(n: int, seeds: Sequence[int], batch: int) -> Callable[[], Tensor]:
    """Batches of row numbers (K, batch), each seed from a generator of its own."""
    own = [generator(10_000 + seed) for seed in seeds]
    return lambda: torch.stack([torch.randint(n, (batch,), generator=g) for g in own])


def fit_classifiers(
    parameters: Iterable[Tensor], logits: Callable[[Tensor], Tensor], y: Tensor, seeds: Sequence[int], steps: int
) -> None:
    """Minimise the summed cross-entropies of K networks; logits(rows) is (K, B, c) for rows (K, B) of the data."""
    draw = draws(len(y), seeds, 128)

    def loss(step: int) -> Tensor:
        rows = draw()
        return F.cross_entropy(logits(rows).flatten(0, 1), y[rows].flatten(), reduction="sum") / rows.shape[1]

    fit(parameters, loss, steps, lr=3e-3)


def read_relative(z: Tensor, anchors: Tensor, norm: bool = True, center: bool = False) -> Tensor:
    """What a decoder is given: cosines (..., n, m), each row at mean zero and variance one unless ``norm`` is False."""
    r = relative(z, anchors, anchors.mean(-2) if center else None)
    return F.layer_norm(r, r.shape[-1:]) if norm else r


class Nets(NamedTuple):
    """K encoders and decoders, one pair per seed."""

    encoder: StackedMLP
    decoder: StackedMLP

    def codes(self, x: Tensor) -> Tensor:
        """Latents (K, n, d) of inputs (n, .)."""
        with torch.no_grad():
            return cast(Tensor, self.encoder(x))


def train(split: Split, seeds: Sequence[int], steps: int, anchors: Tensor | None = None, norm: bool = True) -> Nets:
    """Encoders (., 128, 128, 32) and decoders (., 64, 10); with rows of anchors the decoders read cosines."""
    encoder = StackedMLP((split.x.shape[1], 128, 128, 32), seeds)
    reads = 32 if anchors is None else len(anchors)
    decoder = StackedMLP((reads, 64, int(split.y.max()) + 1), [5000 + seed for seed in seeds])

    def logits(rows: Tensor) -> Tensor:
        z = encoder(split.x[rows])
        out: Tensor = decoder(z if anchors is None else read_relative(z, encoder(split.x[anchors]), norm))
        return out

    fit_classifiers([*encoder.parameters(), *decoder.parameters()], logits, split.y, seeds, steps)
    return Nets(encoder, decoder)


def train_decoders(R: Tensor, y: Tensor, seeds: Sequence[int], steps: int) -> StackedMLP:
    """Decoders of fixed representations R (K, n, m)."""
    decoder = StackedMLP((R.shape[-1], 64, int(y.max()) + 1), [6000 + seed for seed in seeds])
    members = torch.arange(len(seeds))[:, None]
    fit_classifiers(decoder.parameters(), lambda rows: decoder(R[members, rows]), y, seeds, steps)
    return decoder


def crossed(says: Callable[[int, int], Tensor] | Tensor, decoder: StackedMLP, y: Tensor) -> Tensor:
    """Accuracies (K, K): decoder j on what encoder i says, says(i, j) (n, m), or says[i] whoever listens."""
    K, rows = len(decoder.seeds), []
    with torch.no_grad():
        for i in range(K):
            said = torch.stack([says[i] if isinstance(says, Tensor) else says(i, j) for j in range(K)])
            rows.append((decoder(said).argmax(-1) == y).double().mean(-1))
    return torch.stack(rows)


def own_and_other(table: Tensor) -> tuple[list[float], list[float]]:
    """Per encoder: its accuracy with its own decoder, and the mean with all others'."""
    own = table.diagonal()
    return own.tolist(), ((table.sum(1) - own) / (len(table) - 1)).tolist()


def by_rotation(z: Tensor, anchors: Tensor) -> Callable[[int, int], Tensor]:
    """Latents z (K, n, d) of network i carried to network j by the rotation that fits the anchors (K, m, d) best."""
    mean = anchors.mean(1)

    def translate(i: int, j: int) -> Tensor:
        Q = procrustes_map(anchors[i] - mean[i], anchors[j] - mean[j])
        return (z[i] - mean[i]) @ Q + mean[j]

    return translate


def by_least_squares(z: Tensor, anchors: Tensor) -> Callable[[int, int], Tensor]:
    """The same by the affine map that fits the anchors best; of the shortest where there are too few of them."""
    one = F.pad(anchors, (0, 1), value=1.0).double()

    def translate(i: int, j: int) -> Tensor:
        A = torch.linalg.pinv(one[i]) @ anchors[j].double()
        return (F.pad(z[i], (0, 1), value=1.0).double() @ A).to(z.dtype)

    return translate


def stitched(split: Split, seeds: Sequence[int], steps: int, count: int = 100) -> dict[str, Any]:
    """Every way to put a decoder of one seed behind an encoder of another, with ``count`` anchors.

    Per way the accuracies of encoders with their own decoder, and with those of others; participation ratios; cosines
    between seeds; and, of the ordinary networks, the latents of test, anchors and training images.
    """
    anchors = torch.randperm(len(split.x), generator=generator(1))[:count]
    plain, y = train(split, seeds, steps), split.test_y
    z, a, z_train = (plain.codes(x) for x in (split.test_x, split.x[anchors], split.x))
    tables = {"as it is": crossed(z, plain.decoder, y), "rotated": crossed(by_rotation(z, a), plain.decoder, y)}
    tables["affine map"] = crossed(by_least_squares(z, a), plain.decoder, y)
    for name, center in (("relative, afterwards", False), ("relative, afterwards, centred", True)):
        decoder = train_decoders(read_relative(z_train, a, center=center), split.y, seeds, steps)
        tables[name] = crossed(read_relative(z, a, center=center), decoder, y)
    ranks = {"ordinary": [rank_of(e) for e in z]}
    for name, norm in (("relative, trained", True), ("relative, trained, bare", False)):
        nets = train(split, seeds, steps, anchors, norm)
        e = nets.codes(split.test_x)
        tables[name] = crossed(read_relative(e, nets.codes(split.x[anchors]), norm), nets.decoder, y)
        ranks[name] = [rank_of(e_k) for e_k in e]
    cosines = {
        name: F.cosine_similarity(v, v.roll(1, 0), dim=-1).mean(-1).tolist()
        for name, v in (("absolute", z), ("relative", relative(z, a)))
    }
    accuracy = {name: own_and_other(table) for name, table in tables.items()}
    return {"accuracy": accuracy, "ranks": ranks, "cosines": cosines, "z": z, "a": a, "z_train": z_train, "nets": plain}


def rank_of(X: Tensor) -> tuple[float, float]:
    """How many directions share the variance, (sum of variances)^2 / sum of squares, and its share outside three."""
    variances = torch.linalg.svdvals(X - X.mean(0)).double().square()
    total = variances.sum()
    return float(total**2 / variances.square().sum()), float(variances[3:].sum() / total)


def by_anchors(
    split: Split, seeds: Sequence[int], found: dict[str, Any], counts: Sequence[int], steps: int
) -> dict[str, list[float]]:
    """Mean stitched accuracy against the number of anchors: rotation, affine map and relative, all afterwards."""
    nets, z, y = found["nets"], found["z"], split.test_y
    order = torch.randperm(len(split.x), generator=generator(1))
    rows: dict[str, list[float]] = {"rotated": [], "affine map": [], "relative": []}
    for m in counts:
        a = nets.codes(split.x[order[:m]])
        decoder = train_decoders(read_relative(found["z_train"], a), split.y, seeds, steps)
        tables = [crossed(by(z, a), nets.decoder, y) for by in (by_rotation, by_least_squares)]
        for name, table in zip(rows, [*tables, crossed(read_relative(z, a), decoder, y)], strict=True):
            rows[name].append(sum(own_and_other(table)[1]) / len(seeds))
    return rows


def seen_together(found: dict[str, Any], y: Tensor) -> list[list[float]]:
    """Class means [x, y, u, v] of two seeds in the leading plane of the first: its own x, y and the second's u, v.

    The second is carried onto the first by the best orthogonal map. Units: the first has mean square length one.
    """
    A, B = (torch.stack([z[y == c].mean(0) for c in y.unique()]).double() for z in found["z"][:2])
    A, B = A - A.mean(0), B - B.mean(0)
    plane = torch.linalg.svd(A, full_matrices=False)[2][:2].mT
    A, B = A @ plane, B @ procrustes_map(B, A) @ plane
    unit = A.square().sum(1).mean().sqrt()
    return cast(list[list[float]], (torch.cat([A, B], 1) / unit).tolist())


def turned(points: list[list[float]], angle: float, scale: float, shift: float) -> tuple[Tensor, Tensor]:
    """The moving figure: points of the first seed, and those of the second turned, scaled, shifted."""
    both, a = torch.tensor(points, dtype=torch.float64), math.radians(angle)
    R = torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]], dtype=torch.float64)
    return both[:, :2], scale * both[:, 2:] @ R + torch.tensor([shift, 0.0], dtype=torch.float64)


# ----------------------------------------------------------------------------------------- measures and their blindness


def invertible(d: int, draw: torch.Generator, condition: float = 10.0) -> Tensor:
    """A random d x d matrix whose singular values run evenly from 1 to ``condition``."""
    U, V = (torch.linalg.qr(torch.randn(d, d, generator=draw, dtype=torch.float64))[0] for _ in range(2))
    return U * torch.linspace(1, condition, d, dtype=torch.float64) @ V


def transformed(X: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
    """X (n, d) after each kind of change of coordinates."""
    d = X.shape[1]
    Q = torch.linalg.qr(torch.randn(d, d, generator=draw, dtype=X.dtype))[0]
    return {
        "permutation": X[:, torch.randperm(d, generator=draw)],
        "rotation": X @ Q,
        "scale": 3 * X,
        "translation": X + X.std() * torch.randn(d, generator=draw, dtype=X.dtype),
        "linear map": X @ invertible(d, draw),
    }


def pairwise_snr(Z: Tensor) -> Tensor:
    """SNR distances (..., n, n) between all rows; the row's index is the anchor."""
    return snr_distance(Z[..., :, None, :], Z[..., None, :, :])


MEASURES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "matched neurons": lambda X, Y: 1 - float(similarity.match_neurons(X, Y)[1].mean()),
    "SNR distances": lambda X, Y: float((pairwise_snr(X[:40]) - pairwise_snr(Y[:40])).abs().max()),
    "relative": lambda X, Y: float((relative(X, X[:20]) - relative(Y, Y[:20])).abs().max()),
    "relative, centred": lambda X, Y: float(
        (relative(X, X[:20], X[:20].mean(0)) - relative(Y, Y[:20], Y[:20].mean(0))).abs().max()
    ),
    "Procrustes": lambda X, Y: float(similarity.procrustes_distance(X, Y)),
    "linear CKA": lambda X, Y: 1 - float(linear_cka(X, Y)),
    "debiased CKA": lambda X, Y: 1 - float(linear_cka(X, Y, debiased=True)),
    "Gaussian CKA": lambda X, Y: (
        1 - float(similarity.kernel_cka(similarity.gaussian_gram(X), similarity.gaussian_gram(Y)))
    ),
    "mean CCA": lambda X, Y: 1 - float(similarity.canonical_correlations(X, Y).mean()),
}


def blindness(X: Tensor, draw: torch.Generator, tol: float = 1e-9) -> dict[str, dict[str, bool]]:
    """Whether each measure finds X (n, d), float64, and its transform to be the same."""
    changed = transformed(X, draw)
    return {name: {how: abs(measure(X, Y)) < tol for how, Y in changed.items()} for name, measure in MEASURES.items()}


def layers_of(net: StackedMLP, x: Tensor) -> list[Tensor]:
    """Activations (K, n, width) after every layer but the last, of inputs (n, .)."""
    found, h = [], x.expand(len(net.seeds), -1, -1)
    with torch.no_grad():
        for W, b in list(zip(net.weights, net.biases, strict=True))[:-1]:
            h = F.leaky_relu(torch.baddbmm(b, h, W), net.negative_slope)
            found.append(h)
    return found


def classifiers(split: Split, widths: Sequence[int], seeds: Sequence[int], steps: int) -> StackedMLP:
    """Ordinary classifiers with hidden layers of these widths."""
    net = StackedMLP((split.x.shape[1], *widths, int(split.y.max()) + 1), seeds)
    fit_classifiers(net.parameters(), lambda rows: net(split.x[rows]), split.y, seeds, steps)
    return net


def likeness(X: Tensor, Y: Tensor) -> dict[str, float]:
    """Four similarities of two representations (n, d), (n, e), d <= e: 1 is the same."""
    return {
        "linear CKA": float(linear_cka(X, Y)),
        "Procrustes": 1 - float(similarity.procrustes_distance(X, Y)) ** 2 / 2,
        "mean CCA": float(similarity.canonical_correlations(X, Y).mean()),
        "matched neurons": float(similarity.match_neurons(X, Y)[1].mean()),
    }


def layer_tables(net: StackedMLP, x: Tensor) -> dict[str, Tensor]:
    """Per measure (K, L, L): layer of seed k against layer of seed k + 1, in double precision."""
    found = [h.double() for h in layers_of(net, x)]
    K, L = len(net.seeds), len(found)
    tables: dict[str, Tensor] = {}
    for k in range(K):
        for i in range(L):
            for j in range(L):
                for name, value in likeness(found[i][k], found[j][(k + 1) % K]).items():
                    tables.setdefault(name, torch.zeros(K, L, L))[k, i, j] = value
    return tables


def identified(table: Tensor) -> list[float]:
    """Per pair of seeds, table (K, L, L), the share of layers whose most similar layer in the other is the same."""
    return (table.argmax(-1) == torch.arange(table.shape[-1])).double().mean(-1).tolist()


def biased(n: int, d: int, seed: int) -> tuple[float, float]:
    """Linear CKA of two unrelated Gaussian representations (n, d), biased and debiased."""
    X, Y = torch.randn(2, n, d, generator=generator(seed), dtype=torch.float64)
    return float(linear_cka(X, Y)), float(linear_cka(X, Y, debiased=True))


def one_shared(scale: float, seed: int, n: int = 2000, d: int = 32) -> dict[str, float]:
    """Two representations that share one direction of standard deviation ``scale``; d - 1 others of 1 are unrelated."""
    draw = generator(seed)
    g = scale * torch.randn(n, 1, generator=draw, dtype=torch.float64)
    X, Y = (torch.cat([g, torch.randn(n, d - 1, generator=draw, dtype=torch.float64)], 1) for _ in range(2))
    return likeness(X, Y)


def shuffled_tail(X: Tensor, keep: int, draw: torch.Generator) -> Tensor:
    """X (n, d) with all but its ``keep`` leading principal directions shuffled over the inputs."""
    mean = X.mean(0)
    V = torch.linalg.svd(X - mean, full_matrices=False)[2].mT
    coordinates = (X - mean) @ V
    for k in range(keep, V.shape[1]):
        coordinates[:, k] = coordinates[torch.randperm(len(X), generator=draw), k]
    return coordinates @ V.mT + mean


def probe(X: Tensor, y: Tensor, test_X: Tensor, test_y: Tensor) -> float:
    """Test accuracy of ridge regression on one-hot labels, read off fixed representations."""
    one = F.pad(X, (0, 1), value=1.0).double()
    G = one.mT @ one + 1e-3 * len(X) * torch.eye(one.shape[1], dtype=torch.float64)
    W = torch.linalg.solve(G, one.mT @ F.one_hot(y).double())
    return float(((F.pad(test_X, (0, 1), value=1.0).double() @ W).argmax(1) == test_y).double().mean())


# ----------------------------------------------------------------------------------------------- tanh, ReLU, and labels

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "ReLU": torch.relu}


def hidden(net: StackedMLP, x: Tensor, activation: str) -> Tensor:
    """Hidden layer (K, n, h) of networks with one, for inputs (n, d) or (K, n, d)."""
    return ACTIVATIONS[activation](torch.baddbmm(net.biases[0], x.expand(len(net.seeds), -1, -1), net.weights[0]))


def train_hidden(x: Tensor, y: Tensor, activation: str, seeds: Sequence[int], steps: int, batch: int = 0) -> StackedMLP:
    """Networks (d, 128, 1) by the logistic loss on labels y = +-1; x (n, d) or (K, n, d); batch 0 is all of them."""
    net, draw = StackedMLP((x.shape[-1], 128, 1), seeds), draws(x.shape[-2], seeds, batch or 1)
    x, y = x.expand(len(seeds), -1, -1), y.expand(len(seeds), -1)
    members = torch.arange(len(seeds))[:, None]

    def loss(step: int) -> Tensor:
        xs, ys = x, y
        if batch:
            rows = draw()
            xs, ys = x[members, rows], y[members, rows]
        out = torch.baddbmm(net.biases[1], hidden(net, xs, activation), net.weights[1])[..., 0]
        return F.softplus(-ys * out).mean(1).sum()

    fit(net.parameters(), loss, steps, lr=1e-3, schedule="constant")
    return net


def points_of(kind: str, seeds: Sequence[int], dim: int = 64) -> tuple[Tensor, Tensor]:
    """Sixteen inputs (K, 16, dim) of length sqrt(dim), labels (K, 16): unstructured, or four factors and an XOR."""
    xs, ys = [], []
    for seed in seeds:
        draw = generator(20_000 + seed)
        factors = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4)
        if kind == "unstructured":
            x = torch.randn(16, dim, generator=draw)
            y = torch.ones(16)
            y[torch.randperm(16, generator=draw)[:8]] = -1
        else:
            axes = torch.linalg.qr(torch.randn(dim, 4, generator=draw))[0]
            x, y = factors @ axes.mT, factors[:, 0] * factors[:, 1]
        xs.append(F.normalize(x, dim=1) * math.sqrt(dim))
        ys.append(y)
    return torch.stack(xs), torch.stack(ys)


def parity(split: Split, seeds: Sequence[int], steps: int) -> dict[str, list[float]]:
    """Odd or even digits: accuracy and leanings of the hidden layer on the test, for tanh and ReLU."""
    y, test_y, found = split.y % 2 * 2.0 - 1, split.test_y % 2 * 2.0 - 1, {}
    for activation in ACTIVATIONS:
        net = train_hidden(split.x, y, activation, seeds, steps, 128)
        with torch.no_grad():
            h = hidden(net, split.test_x, activation)
            out = torch.baddbmm(net.biases[1], h, net.weights[1])[..., 0]
        found[f"{activation}, accuracy"] = (out.sign() == test_y).double().mean(-1).tolist()
        found[f"{activation}, labels"], found[f"{activation}, inputs"] = leaning(h, split.test_x, test_y)
    return found


def leaning(h: Tensor, x: Tensor, y: Tensor, debiased: bool = False) -> tuple[list[float], list[float]]:
    """Linear CKA of hidden layers h (K, n, .) with the labels (K, n) and with the inputs (K, n, d), per network."""
    h, x, y = h.detach().double(), x.double().expand(len(h), -1, -1), y.double().expand(len(h), -1)[..., None]
    return linear_cka(h, y, debiased).tolist(), linear_cka(h, x, debiased).tolist()


# ----------------------------------------------------------------------------------------------------- random subspaces


def block_residual(d: int, seed: int, D: int = 1000, blocks: int = 10) -> float:
    """The least squared error on ``blocks`` prescribed block sums of D numbers, searched in a random d-space."""
    draw = generator(seed)
    start, P = (torch.randn(D, k, generator=draw, dtype=torch.float64) for k in (1, d))
    sums = torch.eye(blocks, dtype=torch.float64).repeat_interleave(D // blocks, 1)
    A, b = sums @ (P / P.norm(dim=0)), torch.arange(1.0, blocks + 1, dtype=torch.float64)[:, None] - sums @ start
    return float((A @ (torch.linalg.pinv(A) @ b) - b).square().sum())


def in_subspace(
    split: Split, d: int, seeds: Sequence[int], steps: int, hidden: int = 100
) -> tuple[list[float], Tensor]:
    """Train classifiers in random d-dimensional subspaces; test accuracies and hidden layers (K, n, hidden).

    theta = theta_0 + s * (P z), z = 0 at the start: P has random unit columns, and every seed its own signs s,
    which make the subspace another one and let one product serve all seeds.
    """
    net = StackedMLP((split.x.shape[1], hidden, hidden, int(split.y.max()) + 1), seeds)
    own = [p.detach().flatten(1) for p in (*net.weights, *net.biases)]
    theta, sizes = torch.cat(own, 1), [p.shape[1] for p in own]
    P = F.normalize(torch.randn(d, theta.shape[1], generator=generator(30_000 + d)), dim=1)  # transposed: faster
    signs = torch.stack([torch.randint(2, theta.shape[1:], generator=generator(31_000 + s)) for s in seeds]) * 2.0 - 1
    z = torch.zeros(len(seeds), d, requires_grad=True)

    def outputs(x: Tensor) -> tuple[Tensor, Tensor]:
        moved, h = (theta + signs * (30 * z @ P)).split(sizes, 1), x.expand(len(seeds), -1, -1)  # 30: longer steps
        ps = [m.view_as(p) for m, p in zip(moved, (*net.weights, *net.biases), strict=True)]
        for k in range(2):
            h = F.leaky_relu(torch.baddbmm(ps[3 + k], h, ps[k]), 0.01)
        return h, torch.baddbmm(ps[5], h, ps[2])

    fit_classifiers([z], lambda rows: outputs(split.x[rows])[1], split.y, seeds, steps)
    with torch.no_grad():
        h, out = outputs(split.test_x)
    return (out.argmax(-1) == split.test_y).double().mean(-1).tolist(), h


# ------------------------------------------------------------------------------------------------------------------ SNR


def pair_loss(D: Tensor, same: Tensor, near: float = 0.0, far: float = 1.0) -> Tensor:
    """Contrastive: relu(D - near) over pairs of one class plus relu(far - D) over others; D (K, n, n), a sum over K."""
    apart, itself = ~same, torch.eye(D.shape[-1], dtype=torch.bool)
    pulls = ((D - near).relu() * (same & ~itself)).sum((-2, -1)) / (same & ~itself).sum((-2, -1)).clamp_min(1)
    pushes = ((far - D).relu() * apart).sum((-2, -1)) / apart.sum((-2, -1)).clamp_min(1)
    return (pulls + pushes).sum()


def metric_distances(Z: Tensor, how: str) -> Tensor:
    """(K, n, n) distances between rows of Z (K, n, d): "SNR", "Euclid", or "unit" for Euclid at length one; squared."""
    if how == "SNR":
        return pairwise_snr(Z)
    Z = F.normalize(Z, dim=-1) if how == "unit" else Z
    return (Z[..., :, None, :] - Z[..., None, :, :]).square().sum(-1)


def metric_learning(split: Split, how: str, seeds: Sequence[int], steps: int, zero_mean: float = 0.1) -> Tensor:
    """Train embeddings (., 128, 32) on digits 0 to 4 with :func:`pair_loss`; recall at 1 (K) among digits 5 to 9."""
    x, y = split.x[split.y < 5], split.y[split.y < 5]
    net, draw = StackedMLP((x.shape[1], 128, 32), seeds), draws(len(x), seeds, 80)

    def loss(step: int) -> Tensor:
        rows = draw()
        Z, labels = net(x[rows]), y[rows]
        value = pair_loss(metric_distances(Z, how), labels[..., :, None] == labels[..., None, :])
        return value + (zero_mean * Z.mean(-1).abs().mean(-1).sum() if how == "SNR" else 0)

    fit(net.parameters(), loss, steps, lr=1e-3)
    new = split.test_y >= 5
    with torch.no_grad():
        Z, labels = net(split.test_x[new]), split.test_y[new]
        D = torch.stack([metric_distances(z, how) for z in Z])
    nearest = D.diagonal_scatter(torch.full(D.shape[:2], math.inf), dim1=-2, dim2=-1).argmin(-1)
    return (labels[nearest] == labels).double().mean(-1)


# -------------------------------------------------------------------------------------------------------- the long runs


def long_run(seed: int, settings: dict[str, Any], progress: bool = False) -> list[dict[str, float]]:
    """More seeds for what five leave open: layers found, odd digits by tanh and ReLU, SNR and Euclid; a row a seed."""
    from tqdm import tqdm

    split, n, rows = load_digits(settings["images"]), settings["long"], []
    for first in tqdm(range(n * seed, n * seed + n, 5), desc="five seeds", disable=not progress):
        seeds = range(first, min(first + 5, n * seed + n))
        net = classifiers(split, (64,) * settings["depth"], seeds, settings["layers"])
        found = {f"layers, {m}": identified(t) for m, t in layer_tables(net, split.test_x).items()}
        found |= parity(split, seeds, settings["parity"])
        for how in ("SNR", "Euclid", "unit"):
            found[f"recall, {how}"] = metric_learning(split, how, seeds, settings["metric"]).tolist()
        rows += [{name: values[k] for name, values in found.items()} for k in range(len(seeds))]
    return rows


class Pixels(nn.Module):
    """Bytes (B, 3, H, W) to numbers between -1 and 1."""

    def forward(self, images: Tensor) -> Tensor:
        """Float images of the same shape."""
        return (images.float() / 127.5 - 1).contiguous()  # on CPU torch crashes on channels last with few channels


def train_resnet(
    images: Split, seed: int, schedule: dict[str, int], device: torch.device
) -> tuple[nn.Module, nn.Module]:
    """ResNet-18 and a linear head: batches of 256, SGD at 0.1 falling like a cosine, decay 5e-4, crops and mirrors."""
    x, y = images.x.to(device), images.y.to(device)
    backbone = ResNet18(schedule["width"], seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Linear(backbone.out_features, int(y.max()) + 1).to(device)
    encoder = nn.Sequential(Pixels(), backbone).to(device)
    parameters, draw = [*encoder.parameters(), *head.parameters()], torch.Generator(device).manual_seed(seed)
    batch = min(256, len(x))

    def loss(step: int) -> Tensor:
        rows = torch.randint(len(x), (batch,), generator=draw, device=device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            z = encoder(random_crops(x[rows], draw))
        return F.cross_entropy(head(z.float()), y[rows])

    optimizer = torch.optim.SGD(parameters, 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    fit(parameters, loss, schedule["epochs"] * (len(x) // batch), optimizer=optimizer)
    return encoder.eval(), head.eval()


def embed(encoder: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """Features of images, a thousand at a time."""
    with torch.no_grad():
        return torch.cat([encoder(part.to(device)).float() for part in images.split(1000)])


def resnet_stitched(images: Split, schedule: dict[str, int], device: torch.device) -> list[dict[str, Any]]:
    """Every encoder before every decoder: accuracies, and how alike the features of the test images are."""
    anchors = images.x[torch.randperm(len(images.x), generator=generator(1))[: schedule["anchors"]]].to(device)
    m, y, test_y, nets = len(anchors), images.y[:10_000].to(device), images.test_y.to(device), []
    for seed in range(schedule["seeds"]):
        encoder, head = train_resnet(images, seed, schedule, device)
        a, z = embed(encoder, anchors, device), embed(encoder, images.test_x, device)
        r = relative(embed(encoder, images.x[:10_000], device), a)
        decoder = nn.Sequential(nn.LayerNorm(m, elementwise_affine=False), nn.Linear(m, int(y.max()) + 1)).to(device)

        def loss(step: int, decoder: nn.Module = decoder, r: Tensor = r) -> Tensor:
            return F.cross_entropy(decoder(r), y)

        fit(decoder.parameters(), loss, schedule["decoder"], lr=1e-2)
        nets.append((encoder, head, decoder, a, z))
    rows = []
    for i, (encoder, _, _, a, z) in enumerate(nets):
        for j, (_, head, decoder, b, w) in enumerate(nets):
            Q, cka = procrustes_map(a - a.mean(0), b - b.mean(0)), similarity.LinearCKA()
            for part in torch.arange(len(z), device=device).split(1000):
                cka.update(z[part], w[part])
            said = [head(z), head((z - a.mean(0)) @ Q + b.mean(0))]
            parts = [similarity.stitch(encoder, decoder, x.to(device), anchors) for x in images.test_x.split(1000)]
            right = [float((out.argmax(1) == test_y).double().mean()) for out in (*said, torch.cat(parts))]
            alike = [float(cka.value()), float(similarity.procrustes_distance(z, w))]
            names = ("encoder", "decoder", "as it is", "rotated", "relative", "CKA", "Procrustes")
            rows.append(dict(zip(names, (i, j, *right, *alike), strict=True)))
    return rows


def load_cifar10() -> Split:
    """All of CIFAR-10, as bytes."""
    return Split(*map(torch.from_numpy, data.load("cifar10")[:4]))
