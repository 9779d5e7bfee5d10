"""Experiments of the page *Who is with whom, when nobody gives the labels?*: subspaces, rate reduction, novel classes.

Ding, Tong, Chan, Dai, Ma & Haeffele, "Unsupervised Manifold Linearizing and Clustering" (ICCV 2023, 2301.01805), with
Yu et al. 2020 (maximal coding rate reduction, 2006.08558) and Lu et al. 2012 (least-squares representation);
Troisemaine et al., "A Practical Approach to Novel Class Discovery in Tabular Data" (2311.05440). Features are rows
(n, d); labels and clusters are (n,) integers from 0.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repgeom import data
from repgeom.nn.coding_rate import coding_rate, coding_rate_of_groups, sinkhorn
from repgeom.optim import fit

WEIGHTS = (0.0, 1.0, 10.0, 100.0)  # of the reconstruction in PBN: the one dial that is tuned
DEFAULT_WEIGHT = 1.0

# Every schedule of the page in one place. "long" is the run behind the stored result.
_CI: dict[str, Any] = {
    "toy": {"angles": (90, 60, 40, 20, 10), "points": 50, "starts": 6},
    "digits": {"images": 1797, "starts": 2},
    "mlc": {"warm": 300, "steps": 60, "batch": 250},
    "ncd": {"splits": 5, "folds": 2, "steps": 150},
    "mnist": {"images": 1000, "starts": 2},
    "long": {"seeds": 8, "warm": 400, "steps": 100, "batch": 250, "images": 5000, "starts": 1, "splits": 15},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {
        "toy": {"angles": (90, 60, 20), "points": 12, "starts": 2},
        "digits": {"images": 300, "starts": 1},
        "mlc": {"warm": 3, "steps": 2, "batch": 60},
        "ncd": {"splits": 3, "folds": 2, "steps": 3},
        "mnist": {"images": 150, "starts": 1},
        "long": {"seeds": 1, "warm": 3, "steps": 2, "batch": 60, "images": 200, "starts": 1, "splits": 1},
    },
    "ci": _CI,
    "full": _CI,
}


# ---------------------------------------------------------------------------------------------------------------- data


def unit(X: Tensor) -> Tensor:
    """Rows of X (n, d) divided by their lengths."""
    return F.normalize(X, dim=-1)


def subspaces(
    angle: float, points: int, generator: torch.Generator, groups: int = 3, r: int = 3, d: int = 30, noise: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Unit points (groups * points, d) near `groups` subspaces of dimension r, any two at the same angle, and labels.

    Subspace j is spanned by cos(a) e_i + sin(a) e_{(j+1) r + i} with cos(a)^2 = cos(angle), randomly turned: all r
    principal angles between two of them are `angle` degrees. The noise is Gaussian, of length `noise` beside one.
    """
    a = math.sqrt(math.cos(math.radians(angle)))
    b = math.sqrt(1 - a * a)
    Q = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0]
    rows = []
    for j in range(1, groups + 1):
        basis = a * Q[:r] + b * Q[j * r : (j + 1) * r]
        rows.append(unit(torch.randn(points, r, generator=generator, dtype=torch.float64)) @ basis)
    X = torch.cat(rows)
    X = X + noise / math.sqrt(d) * torch.randn(X.shape, generator=generator, dtype=torch.float64)
    return unit(X), torch.arange(groups).repeat_interleave(points)


def load_digits(images: int = 1797) -> tuple[Tensor, Tensor]:
    """Pixels (n, 64) of the bundled digits, each image of length one, and labels (n,)."""
    from sklearn.datasets import load_digits as bundled

    X, y = bundled(return_X_y=True)
    return unit(torch.from_numpy(X[:images])), torch.from_numpy(y[:images]).long()


def load_mnist(images: int) -> tuple[Tensor, Tensor, bool]:
    """The first MNIST test images in 64 numbers, labels, and whether they are real.

    The 64 are coordinates along the leading directions through the origin, each image of length one. Without the data:
    the bundled digits. Results on them are never reported as results on MNIST.
    """
    try:
        real = data.load("mnist", progress=False)
    except data.DataUnavailable:
        return *load_digits(images), False
    X = unit(torch.from_numpy(real.images[:images].astype(np.float64)).flatten(1))
    leading = torch.linalg.eigh(X.mT @ X).eigenvectors[:, -64:]
    return unit(X @ leading), torch.from_numpy(real.labels[:images]).long(), True


def flipped(X: Tensor, generator: torch.Generator) -> Tensor:
    """Every row of X (n, d) multiplied by +1 or -1, at random: what a subspace cannot see."""
    signs = torch.randint(2, (len(X), 1), generator=generator) * 2 - 1
    return X * signs.to(X.dtype)


# ------------------------------------------------------------------------------------------------------------- judging


def accuracy(labels: Tensor, clusters: Tensor) -> float:
    """Share of points whose cluster is their class, after the best one-to-one naming of clusters (Hungarian method).

    >>> accuracy(torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 1]))
    0.75
    """
    from scipy.optimize import linear_sum_assignment

    k = int(max(labels.max(), clusters.max())) + 1
    table = torch.bincount(k * labels + clusters, minlength=k * k).view(k, k).numpy()
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum()) / len(labels)


def one_hot(clusters: Tensor, k: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Memberships (k, n) of hard clusters (n,)."""
    return F.one_hot(clusters, k).T.to(dtype)


# ------------------------------------------------------------------------------------------------------------ rivals


def k_means(X: Tensor, k: int, seed: int, starts: int = 10) -> Tensor:
    """Clusters (n,) of scikit-learn's k-means."""
    from sklearn.cluster import KMeans

    return torch.from_numpy(KMeans(k, n_init=starts, random_state=seed).fit_predict(X.numpy())).long()


def spectral(affinity: Tensor, k: int, seed: int) -> Tensor:
    """Clusters (n,) of scikit-learn's spectral clustering from an affinity (n, n)."""
    from sklearn.cluster import SpectralClustering

    model = SpectralClustering(k, affinity="precomputed", random_state=seed)
    return torch.from_numpy(model.fit_predict(affinity.double().numpy())).long()


def leading_spectral(P: Tensor, k: int, seed: int) -> Tensor:
    """Clusters (n,) of k-means on the k leading eigenvectors of a symmetric doubly stochastic P (n, n).

    This is spectral clustering: all degrees are one, so that the Laplacian is I - P.
    """
    from scipy.sparse.linalg import eigsh

    start = np.random.default_rng(seed).standard_normal(len(P))
    vectors = eigsh(P.double().numpy(), k, which="LA", v0=start)[1]
    return k_means(torch.from_numpy(vectors), k, seed)


def neighbour_spectral(X: Tensor, k: int, seed: int, neighbours: int = 10) -> Tensor:
    """Clusters (n,) of spectral clustering on the graph of nearest neighbours, which may fall into parts."""
    from sklearn.cluster import SpectralClustering

    model = SpectralClustering(k, affinity="nearest_neighbors", n_neighbors=neighbours, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Graph is not fully connected")
        return torch.from_numpy(model.fit_predict(X.numpy())).long()


def least_squares_affinity(X: Tensor, ridge: float = 1.0) -> Tensor:
    """|C| without its diagonal, C = (G + ridge I)^-1 G the ridge regression of all points on all points, G = X X^T."""
    G = X @ X.mT
    C = torch.linalg.solve(G + ridge * torch.eye(len(X), dtype=X.dtype), G).abs()
    C = (C + C.mT) / 2
    return C - torch.diag(C.diagonal())


def moments(X: Tensor, membership: Tensor) -> Tensor:
    """Second moments (k, d, d) of the groups: sums of m x x^T."""
    return torch.stack([X.mT @ (m[:, None] * X) for m in membership])


def energies(X: Tensor, clusters: Tensor, k: int, r: int) -> Tensor:
    """(k, n) squared lengths of all projections on the leading r directions of each cluster."""
    bases = torch.linalg.eigh(moments(X, one_hot(clusters, k, X.dtype))).eigenvectors[..., -r:]
    return (X @ bases).square().sum(-1)


def k_subspaces(
    X: Tensor, k: int, r: int, generator: torch.Generator, starts: int = 10, steps: int = 60
) -> tuple[Tensor, float]:
    """Clusters (n,) by alternating bases and largest projections, and the mean captured share: the best of all starts.

    A start draws k random subspaces. A cluster that runs empty keeps the directions eigh gives for a zero matrix.
    """
    best, value = torch.zeros(len(X), dtype=torch.long), -1.0
    for _ in range(starts):
        bases = torch.linalg.qr(torch.randn(k, X.shape[1], r, generator=generator, dtype=X.dtype))[0]
        clusters, captured = settle(X, (X @ bases).square().sum(-1).argmax(0), k, r, steps)
        if captured > value:
            best, value = clusters, captured
    return best, value


def settle(X: Tensor, clusters: Tensor, k: int, r: int, steps: int = 60) -> tuple[Tensor, float]:
    """Alternate from given clusters until nothing moves: clusters (n,) and the mean captured share."""
    for _ in range(steps):
        old, clusters = clusters, energies(X, clusters, k, r).argmax(0)
        if torch.equal(old, clusters):
            break
    return clusters, float(energies(X, clusters, k, r).amax(0).mean())


# ----------------------------------------------------------------------------------- the least rate with fixed features


def rate_slopes(X: Tensor, membership: Tensor, eps: float) -> Tensor:
    """(k, n) the slopes of n R_c with respect to the membership (k, n), whose groups must not be empty."""
    alpha, size = X.shape[1] / eps**2, membership.sum(-1)
    second = moments(X, membership) * (alpha / size)[:, None, None]
    L = torch.linalg.cholesky(torch.eye(X.shape[1], dtype=X.dtype) + second)
    inverse = torch.cholesky_inverse(L)
    inside = ((X @ inverse) * X).sum(-1)
    spent = (inverse * second).sum((-2, -1))
    return L.diagonal(dim1=-2, dim2=-1).log().sum(-1)[:, None] + (alpha * inside - spent[:, None]) / 2


def rate_clusters(
    X: Tensor, k: int, eps: float, generator: torch.Generator, starts: int = 10, start: Tensor | None = None
) -> tuple[Tensor, float]:
    """Clusters (n,) of least coding rate R_c with fixed features, and that rate: the best of all random starts.

    R_c is concave in the membership, so it lies below its tangent: giving every point to the group of least slope never
    raises it. Memberships are mixed with 1 % of the uniform one, which keeps groups from running empty.
    """
    best, least = torch.zeros(len(X), dtype=torch.long), math.inf
    for _ in range(1 if start is not None else starts):
        clusters = torch.randint(k, (len(X),), generator=generator) if start is None else start
        for _ in range(60):
            old, mixed = clusters, 0.99 * one_hot(clusters, k, X.dtype) + 0.01 / k
            clusters = rate_slopes(X, mixed, eps).argmin(0)
            if torch.equal(old, clusters):
                break
        rate = float(coding_rate_of_groups(X, one_hot(clusters, k, X.dtype), eps))
        if rate < least:
            best, least = clusters, rate
    return best, least


# ----------------------------------------------------------------------------------------- what the page runs on both


def on_subspaces(angle: float, seed: int, points: int, starts: int) -> dict[str, float]:
    """Accuracies on three subspaces at one angle."""
    generator = torch.Generator().manual_seed(seed)
    X, y = subspaces(angle, points, generator)
    found = {
        "k-means": k_means(X, 3, seed),
        "neighbour graph": neighbour_spectral(X, 3, seed),
        "K-subspaces": k_subspaces(X, 3, 3, generator, starts)[0],
        "least squares": spectral(least_squares_affinity(X, 0.1), 3, seed),
    }
    found |= {f"least rate, eps {eps:g}": rate_clusters(X, 3, eps, generator, starts)[0] for eps in (0.1, 0.5, 3.0)}
    return {name: accuracy(y, clusters) for name, clusters in found.items()}


def on_pixels(X: Tensor, y: Tensor, seed: int, starts: int, r: int = 3, eps: float = 0.5) -> dict[str, float]:
    """Accuracies on pixels, with and without random signs; captured shares and rates at the end of the searches."""
    k, generator = int(y.max()) + 1, torch.Generator().manual_seed(seed)
    turned, simple = flipped(X, generator), k_means(X, k, seed)
    lines, captured = k_subspaces(X, k, r, generator, starts)
    groups, rate = rate_clusters(X, k, eps, generator, starts)
    better, better_rate = rate_clusters(X, k, eps, generator, start=simple)
    found = {
        "k-means": simple,
        "neighbour graph": neighbour_spectral(X, k, seed),
        "K-subspaces": lines,
        "least rate": groups,
        "least rate from k-means": better,
        "k-means, signs": k_means(turned, k, seed),
        "neighbour graph, signs": neighbour_spectral(turned, k, seed),
    }
    numbers = {"captured": captured, "rate": rate, "rate, k-means": better_rate}
    return {name: accuracy(y, clusters) for name, clusters in found.items()} | numbers


def from_classes(X: Tensor, y: Tensor, r: int = 3, eps: float = 0.5) -> dict[str, float]:
    """The same for K-subspaces and the least rate started from the classes: nothing random in it."""
    k = int(y.max()) + 1
    lines, captured = settle(X, y, k, r)
    groups, rate = rate_clusters(X, k, eps, torch.Generator(), start=y)
    found = {"K-subspaces from classes": accuracy(y, lines), "least rate from classes": accuracy(y, groups)}
    return found | {"captured, classes": captured, "rate, classes": rate}


def hinted(y: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The classes (n,) with a share of the labels replaced by random ones: errors without a pattern."""
    k, wrong = int(y.max()) + 1, torch.rand(len(y), generator=generator) < share
    return torch.where(wrong, torch.randint(k, y.shape, generator=generator), y)


def merged(y: Tensor, generator: torch.Generator) -> Tensor:
    """The classes (n,) with one class given to another and a third cut in random halves: few errors, with a pattern."""
    given, taker, cut = torch.randperm(int(y.max()) + 1, generator=generator)[:3]
    half = (y == cut) & (torch.rand(len(y), generator=generator) < 0.5)
    return torch.where(half, given, torch.where(y == given, taker, y))


# ----------------------------------------------------------------------- features and membership together (after MLC)


class TwoHeads(nn.Module):
    """A trunk with two heads of unit rows: features Z (n, d), whose rates count, and codes C (n, d) for membership."""

    def __init__(self, inputs: int, seed: int, width: int = 256, d: int = 16) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # nn.Linear takes no generator
            self.trunk = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
            self.features, self.codes = nn.Linear(width, d), nn.Linear(width, d)

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Features and codes of inputs (n, inputs)."""
        h = self.trunk(X)
        return unit(self.features(h)), unit(self.codes(h))


def moved(X: Tensor, generator: torch.Generator, noise: float = 0.05) -> Tensor:
    """Square images (n, s * s), each moved by up to one pixel each way, with noise, of length one again."""
    n, s = len(X), math.isqrt(X.shape[1])
    padded = F.pad(X.view(n, s, s), (1, 1, 1, 1))
    down, right = torch.randint(3, (2, n, 1), generator=generator)
    rows, columns = (down + torch.arange(s))[:, :, None], (right + torch.arange(s))[:, None]
    shifted = padded[torch.arange(n)[:, None, None], rows, columns].flatten(1)
    return unit(shifted + noise * torch.randn(shifted.shape, generator=generator))


def membership_of(C: Tensor, temperature: float) -> Tensor:
    """The doubly stochastic membership (n, n) of codes (n, d)."""
    scores = C @ C.mT
    return sinkhorn((scores + scores.mT) / 2, temperature)


def warm_up(
    network: TwoHeads, X: Tensor, steps: int, batch: int, seed: int, eps: float = 0.5, alike: float = 20
) -> None:
    """First stage: maximise R + alike * cos between two views of an image. Then the codes copy the features."""
    generator = torch.Generator().manual_seed(seed)

    def loss(step: int) -> Tensor:
        x = X[torch.randperm(len(X), generator=generator)[:batch]]
        (Z, _), (W, _) = network(moved(x, generator)), network(moved(x, generator))
        return -(coding_rate(Z, eps) + coding_rate(W, eps)) / 2 - alike * (Z * W).sum(1).mean()

    fit(network.parameters(), loss, steps, lr=1e-3, schedule="constant")
    network.codes.load_state_dict(network.features.state_dict())


def learn_membership(
    network: TwoHeads, X: Tensor, steps: int, batch: int, seed: int, eps: float = 0.5, temperature: float = 0.15
) -> dict[str, float]:
    """Second stage: maximise R(Z) - R_c(Z, Pi) over features and membership; the last batch's numbers."""
    generator = torch.Generator().manual_seed(seed + 1)
    last: dict[str, float] = {}

    def loss(step: int) -> Tensor:
        x = X[torch.randperm(len(X), generator=generator)[:batch]]
        (Z, C), (_, D) = network(moved(x, generator)), network(moved(x, generator))
        P = membership_of(unit(C + D), temperature)
        R, Rc = coding_rate(Z, eps), coding_rate_of_groups(Z, P, eps)
        last.update(R=R.item(), Rc=Rc.item(), alone=P.diagonal().mean().item())
        return Rc - R

    fit(network.parameters(), loss, steps, lr=1e-3, schedule="constant")
    return last


@torch.no_grad()
def read(network: TwoHeads, X: Tensor, labels: Tensor, seed: int, temperature: float = 0.15) -> tuple[float, float]:
    """Accuracies of k-means on the features, and of spectral clustering on the membership, of all images."""
    k, (Z, C) = int(labels.max()) + 1, network(X)
    in_groups = leading_spectral(membership_of(C, temperature), k, seed)
    return accuracy(labels, k_means(Z, k, seed)), accuracy(labels, in_groups)


def two_stages(
    X: Tensor, labels: Tensor, seed: int, schedule: dict[str, int], warm: bool = True, temperature: float = 0.15
) -> tuple[TwoHeads, dict[str, float]]:
    """The network, its readings after the first stage (where there is one) and after the second, and the last batch."""
    X, network = X.float(), TwoHeads(X.shape[1], seed)
    found: dict[str, float] = {}
    if warm:
        warm_up(network, X, schedule["warm"], schedule["batch"], seed)
        found["features, stage 1"], found["membership, stage 1"] = read(network, X, labels, seed, temperature)
    last = learn_membership(network, X, schedule["steps"], schedule["batch"], seed, temperature=temperature)
    found["features, stage 2"], found["membership, stage 2"] = read(network, X, labels, seed, temperature)
    return network, found | last


# ------------------------------------------------------------------------------------------------------- novel classes


def splits(n: int, seed: int, classes: int = 10) -> list[tuple[list[int], list[int]]]:
    """n pairs (known, novel) of sorted classes; 3, 4, 5, 3, 4, ... are novel, drawn anew each time."""
    pairs = []
    for k in range(n):
        order = torch.randperm(classes, generator=torch.Generator().manual_seed(1000 * seed + k)).tolist()
        hidden = 3 + k % 3
        pairs.append((sorted(order[hidden:]), sorted(order[:hidden])))
    return pairs


def of_classes(X: Tensor, labels: Tensor, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The rows of X (n, d) whose label is among the sorted classes, and their labels counted from 0."""
    wanted = torch.tensor(classes)
    inside = torch.isin(labels, wanted)
    return X[inside], torch.searchsorted(wanted, labels[inside])


def novel_k_means(
    X: Tensor, known: Tensor, k: int, generator: torch.Generator, starts: int = 10, steps: int = 100
) -> Tensor:
    """Clusters (n,) of unlabelled X (n, d): k centres move, the known ones (m, d), class means, stay where they are.

    Novel centres start as in k-means++, far from all centres so far, the known included. A point that lies nearest to a
    known centre moves no novel one; in the end every point goes to its nearest novel centre.
    """
    m, best, least = len(known), torch.zeros(len(X), dtype=torch.long), math.inf
    for _ in range(starts):
        centres = known
        for _ in range(k):
            far = torch.cdist(X, centres).amin(1).square()
            centres = torch.cat([centres, X[torch.multinomial(far, 1, generator=generator)]])
        for _ in range(steps):
            nearest = torch.cdist(X, centres).argmin(1)
            sums = one_hot(nearest, m + k, X.dtype) @ X
            counts = nearest.bincount(minlength=m + k)[:, None]
            moving = (counts > 0) & (torch.arange(m + k) >= m)[:, None]
            old, centres = centres, torch.where(moving, sums / counts.clamp(min=1), centres)
            if torch.equal(old, centres):
                break
        distances = torch.cdist(X, centres)
        inertia = float(distances.amin(1).square().sum())
        if inertia < least:
            best, least = distances[:, m:].argmin(1), inertia
    return best


def latent(
    labelled: Tensor, labels: Tensor, unlabelled: Tensor, weight: float, seed: int, steps: int, width: int = 16
) -> tuple[Tensor, Tensor]:
    """Codes (., width) of both sets after PBN: cross-entropy on the labelled, plus weight * reconstruction of all."""
    d, classes = labelled.shape[1], int(labels.max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = nn.Sequential(nn.Linear(d, 64), nn.ReLU(), nn.Linear(64, width))
        decoder = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, d))
        head = nn.Linear(width, classes)
    generator, everything = torch.Generator().manual_seed(seed), torch.cat([labelled, unlabelled])

    def loss(step: int) -> Tensor:
        some = torch.randint(len(labelled), (100,), generator=generator)
        any_ = torch.randint(len(everything), (100,), generator=generator)
        x = everything[any_]
        apart = F.cross_entropy(head(encoder(labelled[some])), labels[some])
        return apart + weight * (decoder(encoder(x)) - x).square().sum(1).mean()

    parameters = [p for part in (encoder, decoder, head) for p in part.parameters()]
    fit(parameters, loss, steps, lr=5e-3)
    with torch.no_grad():
        return encoder(labelled), encoder(unlabelled)


def hiding(
    X: Tensor, labels: Tensor, known: Sequence[int], weight: float, seed: int, folds: int, steps: int, hidden: int = 2
) -> float:
    """Mean accuracy on known classes that are hidden in turn: what a weight is worth, without a novel label."""
    scores = []
    for fold in range(folds):
        away = [known[(fold * hidden + k) % len(known)] for k in range(hidden)]
        kept, kept_labels = of_classes(X, labels, [c for c in known if c not in away])
        out, truth = of_classes(X, labels, sorted(away))
        codes = latent(kept, kept_labels, out, weight, seed, steps)[1]
        scores.append(accuracy(truth, k_means(codes, hidden, seed)))
    return sum(scores) / len(scores)


def silhouette_count(X: Tensor, seed: int, most: int = 10) -> int:
    """The number of clusters, 2 to `most`, whose k-means has the largest silhouette."""
    from sklearn.metrics import silhouette_score

    scores = [silhouette_score(X.numpy(), k_means(X, k, seed, 3).numpy()) for k in range(2, most + 1)]
    return 2 + int(np.argmax(scores))


def discover(
    X: Tensor, labels: Tensor, known: Sequence[int], novel: Sequence[int], seed: int, schedule: dict[str, int]
) -> dict[str, Any]:
    """One split: accuracies on the novel classes by every method, tuned weights, estimated numbers of classes."""
    k, steps = len(novel), schedule["steps"]
    (seen, seen_labels), (new, truth) = of_classes(X, labels, known), of_classes(X, labels, novel)
    means = torch.stack([seen[seen_labels == c].mean(0) for c in range(len(known))])
    found: dict[str, Any] = {
        "k-means": accuracy(truth, k_means(new, k, seed)),
        "NCD k-means": accuracy(truth, novel_k_means(new, means, k, torch.Generator().manual_seed(seed))),
        "spectral": accuracy(truth, neighbour_spectral(new, k, seed)),
    }
    codes = {w: latent(seen, seen_labels, new, w, seed, steps)[1] for w in WEIGHTS}
    oracle = {w: accuracy(truth, k_means(z, k, seed)) for w, z in codes.items()}
    guess = {w: hiding(X, labels, known, w, seed, schedule["folds"], steps) for w in WEIGHTS}
    tuned, best = max(guess, key=lambda w: guess[w]), max(oracle, key=lambda w: oracle[w])
    found |= {
        "PBN, default": oracle[DEFAULT_WEIGHT],
        "PBN, tuned by hiding": oracle[tuned],
        "PBN, tuned on the answer": oracle[best],
        "by weight": oracle,
        "hidden by weight": guess,
        "weights": (tuned, best),
        "count": k,
        "counted in pixels": silhouette_count(new, seed),
        "counted in codes": silhouette_count(codes[tuned], seed),
    }
    return found


# ------------------------------------------------------------------------------------------------------- the long run


def long_run(seed: int, settings: dict[str, Any], progress: bool = False) -> dict[str, list[dict[str, float]]]:
    """Both stages on digits, with and without the first; pixels of MNIST test images; novel classes: a row a run."""
    from tqdm import tqdm

    schedule, (X, y) = settings["long"], load_digits()
    Z, labels, there = load_mnist(schedule["images"])
    own = from_classes(Z, labels) if there else {}
    rows: dict[str, list[dict[str, float]]] = {"both stages": [], "second stage only": [], "MNIST": [], "novel": []}
    first = schedule["seeds"] * seed
    for s in tqdm(range(first, first + schedule["seeds"]), desc="seed", disable=not progress):
        rows["both stages"].append(two_stages(X, y, s, schedule)[1])
        rows["second stage only"].append(two_stages(X, y, s, schedule, warm=False)[1])
        if there and s < first + 3:
            rows["MNIST"].append(on_pixels(Z, labels, s, schedule["starts"]) | own)
    for k, (known, novel) in enumerate(tqdm(splits(schedule["splits"], seed), desc="split", disable=not progress)):
        found = discover(X.float(), y, known, novel, 1000 * seed + k, settings["ncd"])
        rows["novel"].append({name: v for name, v in found.items() if isinstance(v, int | float)})
    return rows
