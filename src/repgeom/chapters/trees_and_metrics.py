r"""Experiments of the page *Which metric does a hierarchy need?*: graphs, fitted metrics, four points, class discovery.

A graph of N nodes is its matrix D (N, N) of distances along edges. A fit seeks points of the plane, the sphere or the
ball whose distances agree with D; R runs are fitted side by side. All spaces have two dimensions unless said, and a
scale that is trained, which for the sphere and the ball is their curvature.

HypCD is "Hyperbolic Category Discovery" (CVPR 2025, arXiv 2504.06120); settings of its released code are named so.
"""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from repgeom import data
from repgeom.data.store import checkpoints as checkpoints
from repgeom.data.views import digits as digits
from repgeom.data.views import principal
from repgeom.manifolds import poincare
from repgeom.nn.blocks import StackedMLP
from repgeom.optim import fit

SPACES = ("plane", "sphere", "ball", "snowflake")
TURN = math.log(4 / 3)  # what a turn of 120 degrees between long edges saves in the hyperbolic plane
RELEASED = {"c": 0.1, "radius": 1.2, "supervised": 0.35}  # HypCD's code: curvature, smallest clip radius, weight

_CI: dict[str, Any] = {
    "trees": {"depths": (6, 7, 8), "steps": (150, 120, 80), "runs": (5, 3, 3)},
    "graphs": {"steps": 250, "depth": 5},
    "points": 64,
    "features": {"steps": 150, "per_class": 100},
    "discovery": {"steps": 200, "batch": 64, "checks": 4, "starts": 20},
    "cifar": {"per_class": 500, "steps": 2000, "batch": 256, "checks": 1, "starts": 20},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {
        "trees": {"depths": (2, 3, 4), "steps": (3, 3, 3), "runs": (3, 3, 3)},
        "graphs": {"steps": 3, "depth": 3},
        "points": 10,
        "features": {"steps": 3, "per_class": 10},
        "discovery": {"steps": 4, "batch": 16, "checks": 2, "starts": 3},
        "cifar": {"per_class": 4, "steps": 2, "batch": 8, "checks": 1, "starts": 3},
    },
    "ci": _CI,
    "full": _CI,
}


def generator(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


# ---- graphs


def path_lengths(edges: Sequence[tuple[int, int]]) -> Tensor:
    """D (N, N) of an undirected graph with edges of length one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import shortest_path

    i, j = zip(*edges, strict=True)
    N = max(*i, *j) + 1
    return torch.from_numpy(shortest_path(coo_array(([1.0] * len(i), (i, j)), (N, N)).tocsr(), directed=False))


def tree(depth: int) -> Tensor:
    """The balanced binary tree, node i with children 2 i + 1 and 2 i + 2: N = 2^(depth + 1) - 1.

    >>> tree(1).int().tolist()
    [[0, 1, 1], [1, 0, 2], [1, 2, 0]]
    """
    return path_lengths([(child, (child - 1) // 2) for child in range(1, 2 ** (depth + 1) - 1)])


def graph(name: str, depth: int = 5) -> Tensor:
    """D of "tree", its "leaves" alone, "cycle" (24 nodes), "grid" (6 x 6), "karate" (Zachary's club, 34 people)."""
    if name in ("tree", "leaves"):
        return tree(depth) if name == "tree" else tree(depth)[-(2**depth) :, -(2**depth) :]
    if name == "cycle":
        return path_lengths([(i, (i + 1) % 24) for i in range(24)])
    if name == "grid":
        across = [(6 * i + j, 6 * i + j + 1) for i in range(6) for j in range(5)]
        return path_lengths(across + [(6 * i + j, 6 * i + j + 6) for i in range(5) for j in range(6)])
    if name != "karate":
        raise ValueError(f"name: received {name!r}; valid are tree, leaves, cycle, grid, karate. Repair: name='tree'.")
    import networkx

    return path_lengths(list(networkx.karate_club_graph().edges()))


def fan(depth: int) -> Tensor:
    """The tree laid out as a fan (N, 2): radius = level, and each node in the middle of its share of the circle."""
    places = []
    for level in range(depth + 1):
        angle = 2 * math.pi * (torch.arange(2**level, dtype=torch.float64) + 0.5) / 2**level
        places.append(level * torch.stack([angle.cos(), angle.sin()], -1))
    return torch.cat(places)


def plane_bound(depth: int) -> float:
    """No map of the tree into the plane has a worst distortion below this: max over j of (j+1)(2^((h-j)/2) - 1) / h."""
    return max((j + 1) * (2 ** ((depth - j) / 2) - 1) / depth for j in range(depth))


# ---- the exact tree in the ball


def sarkar(depth: int, edge: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """The tree in the ball (N, 2), c = 1, with edges of that length and turns of 120 degrees, by Möbius addition."""
    points = [torch.zeros(1, 2, dtype=dtype)]
    toward = torch.tensor([[math.pi]], dtype=dtype).squeeze(-1)  # where the parent is, seen from the node
    for _ in range(depth):
        parents = points[-1].repeat_interleave(2, 0)
        turns = 2 * math.pi / 3 * torch.tensor([1.0, 2.0], dtype=dtype).repeat(len(toward))
        angles = toward.repeat_interleave(2) + turns
        step = math.tanh(edge / 2) * torch.stack([angles.cos(), angles.sin()], -1)
        points.append(poincare.mobius_add(parents, step))
        back = poincare.mobius_add(-points[-1], parents)
        toward = torch.atan2(back[:, 1], back[:, 0])
    return torch.cat(points)


def sarkar_distances(depth: int, edge: float) -> Tensor:
    """Distances (N, N) of :func:`sarkar` without any ball: each pair in polar coordinates around its last common node.

    Nothing is cancelled and nothing has a rim, so edges may be long.
    """
    order, r, theta, D = [0], torch.zeros(1).double(), torch.zeros(1).double(), torch.zeros(1, 1).double()
    for _ in range(depth):
        across = math.sinh(edge) * r.cosh() + math.cosh(edge) * r.sinh() * theta.cos()
        far = torch.acosh((math.cosh(edge) * r.cosh() + math.sinh(edge) * r.sinh() * theta.cos()).clamp_min(1))
        turn = torch.atan2(r.sinh() * theta.sin(), across)
        between = turn[:, None] - turn - 2 * math.pi / 3
        cosh = far.cosh()[:, None] * far.cosh() - far.sinh()[:, None] * far.sinh() * between.cos()
        cross = torch.acosh(cosh.clamp_min(1))
        inner = torch.cat([torch.cat([D, cross], 1), torch.cat([cross.T, D], 1)])
        D = nn.functional.pad(inner, (1, 0, 1, 0))
        r, theta = torch.cat([r[:1], far, far]), torch.cat([theta[:1], turn - math.pi / 3, turn + math.pi / 3])
        D[0], D[:, 0] = r, r
        order = [0, *(_heap(i, 1) for i in order), *(_heap(i, 2) for i in order)]
    place = torch.tensor(order).argsort()
    return D[place][:, place]


def _heap(i: int, child: int) -> int:
    """The number of node i of a subtree in the tree whose root has that subtree as its first or second."""
    level = (i + 1).bit_length() - 1
    return 2 ** (level + 1) - 1 + (child - 1) * 2**level + i + 1 - 2**level


# ---- distortion, delta


def pairs(N: int) -> tuple[Tensor, Tensor]:
    """Indices i < j of all pairs."""
    i, j = torch.triu_indices(N, N, 1)
    return i, j


def best_scale(d: Tensor, D: Tensor) -> Tensor:
    """The factor a with the least mean of (a d / D - 1)^2 over pairs: mean (d / D) / mean (d / D)^2."""
    ratio = d / D
    return ratio.mean(-1) / ratio.square().mean(-1)


def average_distortion(d: Tensor, D: Tensor) -> Tensor:
    """Mean over pairs of |d / D - 1|: fitted distances d (..., P) against D (P,)."""
    return (d / D - 1).abs().mean(-1)


def worst_distortion(d: Tensor, D: Tensor) -> Tensor:
    """Largest stretch over smallest: max (d / D) / min (d / D), which no scale can change."""
    ratio = d / D
    return ratio.amax(-1) / ratio.amin(-1)


def gromov_delta(D: Tensor) -> float:
    r"""Gromov's delta: half the largest gap, over all quadruples, between the two largest sums of opposite sides.

    With the products (i|j) = (D_0i + D_0j - D_ij) / 2 from a base point 0 it is the largest over i, j, k and the base
    of min((i|k), (k|j)) - (i|j): N^4 numbers, so keep N below a hundred or two.
    """
    worst = 0.0
    for base in D:
        product = (base[:, None] + base - D) / 2
        best = product.new_full(product.shape, -torch.inf)
        for rows, out in zip(product.split(32), best.split(32), strict=True):
            torch.amax(torch.minimum(rows[:, :, None], product), 1, out=out)
        worst = max(worst, float((best - product).max()))
    return worst


def relative_delta(D: Tensor) -> float:
    """2 delta / diameter: 0 for a tree, at most 1."""
    return 2 * gromov_delta(D) / float(D.max())


# ---- trainable snowflake


class Snowflake(nn.Module):
    r"""A trainable function of a distance: f(t) = (w_0 t + w_1 t^a + w_2 log(1 + t / u) + w_3 (1 - exp(-t / v)))^p.

    All w >= 0, not all zero, u, v > 0, 0 < a < 1. With p = 1 (``power=False``) f is concave and increasing with
    f(0) = 0, so that f of a metric is a metric. With a trained p >= 1 the triangle inequality is lost.

    Args:
        runs: how many functions side by side.
        power: train p as well, from 1 upwards.

    Source: terms in the spirit of Saez de Ocariz Borde & Kratsios 2024 (neural snowflakes); one layer, arranged here.

    >>> Snowflake(1)(torch.zeros(1, 1)).tolist()
    [[0.0]]
    """

    def __init__(self, runs: int, power: bool = False, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.tensor([0.5, -1.0, -1.0, -1.0], dtype=dtype).repeat(runs, 1))
        self.shape = nn.Parameter(torch.zeros(runs, 3, dtype=dtype))  # a, u, v
        self.exponent = nn.Parameter(torch.full((runs, 1), 0.1, dtype=dtype)) if power else None

    def forward(self, t: Tensor) -> Tensor:
        """f(t) for distances t (runs, P)."""
        w = nn.functional.softplus(self.raw)[..., None]
        a, (u, v) = self.shape[:, :1].sigmoid(), self.shape[:, 1:].exp().T[..., None]
        away = t > 0
        root = torch.where(away, torch.where(away, t, 1) ** a, 0)  # its slope at zero is infinite
        value = w[:, 0] * t + w[:, 1] * root + w[:, 2] * (t / u).log1p() - w[:, 3] * torch.expm1(-t / v)
        if self.exponent is None:
            return value
        return torch.where(away, torch.where(away, value, 1) ** (1 + self.exponent.abs()), 0)


# ---- fitted metrics


class Fit(NamedTuple):
    """Points (R, N, n), distances of pairs (R, P), stress, average and worst distortion (R), the function or None."""

    points: Tensor
    d: Tensor
    stress: Tensor
    average: Tensor
    worst: Tensor
    function: nn.Module | None

    def best_of_two(self) -> "Fit":
        """Of runs k and k + R / 2 the one with less stress."""
        half = len(self.stress) // 2
        keep = torch.arange(half) + half * (self.stress[half:] < self.stress[:half])
        points, d, stress, average, worst = (part[keep] for part in self[:5])
        return Fit(points, d, stress, average, worst, self.function)

    def matrix(self, run: int) -> Tensor:
        """The distances of one run (N, N)."""
        N = self.points.shape[1]
        D = self.d.new_zeros(N, N)
        i, j = pairs(N)
        D[i, j] = self.d[run]
        return D + D.T


def _unit_distances(space: str, z: Tensor) -> tuple[Tensor, Tensor]:
    """Points of that space, from coordinates z (R, N, 2 or 3), and distances of all pairs before the scale."""
    i, j = pairs(z.shape[1])
    if space == "ball":
        x = poincare.expmap0(z)
        return x, poincare.distance(x.index_select(1, i), x.index_select(1, j))
    x = nn.functional.normalize(z, dim=-1) if space == "sphere" else z
    chord = (x.index_select(1, i) - x.index_select(1, j)).square().sum(-1).clamp_min(1e-24).sqrt()
    return x, 2 * torch.asin((chord / 2).clamp_max(1 - 1e-12)) if space == "sphere" else chord


def fit_metric(D: Tensor, space: str, starts: Tensor, steps: int, lr: float = 0.1) -> Fit:
    """Least mean of (d / D - 1)^2 over pairs by Adam with exact gradients in float64, from starts (R, N, 2).

    On the sphere a start is lifted to height one and pushed to length one. The snowflake is the plane with f on top;
    "power" is the snowflake with a trained exponent.
    """
    N = len(D)
    target = D[pairs(N)]
    if space == "sphere":
        starts = torch.cat([starts, torch.ones_like(starts[..., :1])], -1)
    z = nn.Parameter(starts.clone())
    f = Snowflake(len(z), power=space == "power") if space in ("snowflake", "power") else None

    def unscaled() -> tuple[Tensor, Tensor]:
        x, d = _unit_distances(space, z)
        return x, d if f is None else f(d)

    with torch.no_grad():
        scale = nn.Parameter(best_scale(unscaled()[1], target).log()[:, None])

    def stress() -> Tensor:
        return (scale.exp() * unscaled()[1] / target - 1).square().mean(-1)

    fit([z, scale, *(f.parameters() if f is not None else [])], lambda step: stress().sum(), steps, lr=lr)
    with torch.no_grad():
        x, d = unscaled()
        d = scale.exp() * d
        return Fit(
            x.detach(),
            d,
            (d / target - 1).square().mean(-1),
            average_distortion(d, target),
            worst_distortion(d, target),
            f,
        )


def starts(D: Tensor, seeds: Sequence[int]) -> Tensor:
    """Two starts a seed, (2 S, N, 2): classical scaling with noise of a tenth, then random normal points."""
    N = len(D)
    centre = torch.eye(N, dtype=D.dtype) - 1 / N
    values, vectors = torch.linalg.eigh(-centre @ D.square() @ centre / 2)
    classical = vectors[:, -2:] * values[-2:].clamp_min(0).sqrt()
    classical = classical / classical.square().mean().sqrt()
    noise = [torch.randn(2, N, 2, generator=generator(seed), dtype=D.dtype) for seed in seeds]
    return torch.stack([classical + 0.1 * e[0] for e in noise] + [e[1] for e in noise])


def compare(
    name: str, seeds: Sequence[int], steps: int, depth: int = 5, spaces: Sequence[str] = SPACES
) -> dict[str, Fit]:
    """A graph in every space, the better of two starts a seed."""
    D = graph(name, depth)
    return {space: fit_metric(D, space, starts(D, seeds), steps).best_of_two() for space in spaces}


def tree_in(space: str, depth: int, seeds: Sequence[int], steps: int) -> Fit:
    """The tree from its fan, with noise of a twentieth of a level; in the ball the fan is one of tangent vectors."""
    noise = [torch.randn(2 ** (depth + 1) - 1, 2, generator=generator(seed), dtype=torch.float64) for seed in seeds]
    return fit_metric(tree(depth), space, 0.5 * torch.stack([fan(depth) + 0.05 * e for e in noise]), steps, lr=0.2)


# ---- features of networks


def cifar(per_class: int) -> tuple[Tensor, Tensor, str] | None:
    """CIFAR-10, the first images of each class: principal coordinates (N, 64), labels, where from. Or None."""
    try:
        real = data.load("cifar10", progress=False, per_class=per_class)
    except data.DataUnavailable:
        return None
    return principal(real.train_images), torch.from_numpy(real.train_labels), real.provenance


def held_out(N: int) -> Tensor:
    """Every fourth row (N,): those on which nothing is trained."""
    return torch.arange(N) % 4 == 0


def trained_features(x: Tensor, y: Tensor, seeds: Sequence[int], steps: int, width: int = 32) -> tuple[Tensor, Tensor]:
    """Features (S, N, width) of small classifiers, before training and after 3/4 of the rows were trained on."""
    network = StackedMLP([x.shape[1], 128, width], seeds)
    head = StackedMLP([width, int(y.max()) + 1], seeds)
    held = held_out(len(y))
    with torch.no_grad():
        before = network(x).relu()

    def loss(step: int) -> Tensor:
        out = head(network(x[~held]).relu())
        return nn.functional.cross_entropy(out.flatten(0, 1), y[~held].repeat(len(seeds))) * len(seeds)

    fit([*network.parameters(), *head.parameters()], loss, steps, lr=5e-3)
    with torch.no_grad():
        return before[:, held], network(x).relu()[:, held]


def cloud_delta(x: Tensor, seeds: Sequence[int], points: int, draws: int = 4) -> list[float]:
    """Relative delta of that many rows of x (N, d), or of x[k] for the seed k; a seed's number is a mean over draws."""
    found = []
    for k, seed in enumerate(seeds):
        rows = x if x.dim() == 2 else x[k]
        draw, total = generator(seed), 0.0
        for _ in range(draws):
            some = rows[torch.randperm(len(rows), generator=draw)[:points]].double()
            total += relative_delta(torch.cdist(some, some, compute_mode="donot_use_mm_for_euclid_dist"))
        found.append(total / draws)
    return found


# ---- class discovery


class Task(NamedTuple):
    """Rows x (S, N, d), labels y (S, N), which rows show their label (S, N), which classes are old (K)."""

    x: Tensor
    y: Tensor
    labelled: Tensor
    old: Tensor


def gaussian_tree(seeds: Sequence[int], each: int = 60, size: int = 20) -> Task:
    """Four superclasses of three classes, one of them new: standard deviations 2, then 0.5, then 1 for the samples."""
    x, labels = [], torch.arange(12).repeat_interleave(each)
    for seed in seeds:
        draw = generator(seed)
        upper, lower = torch.randn(4, size, generator=draw), torch.randn(12, size, generator=draw)
        centres = 2 * upper.repeat_interleave(3, 0) + 0.5 * lower
        x.append(centres[labels] + torch.randn(len(labels), size, generator=draw))
    return _task(torch.stack(x), labels, torch.arange(12) % 3 < 2, seeds)


def image_task(x: Tensor, y: Tensor, old: Sequence[int], seeds: Sequence[int]) -> Task:
    """The same images for all seeds (each other labels shown), some classes old."""
    known = torch.zeros(int(y.max()) + 1, dtype=torch.bool)
    known[list(old)] = True
    return _task((x / x.std()).expand(len(seeds), -1, -1), y, known, seeds)


def _task(x: Tensor, y: Tensor, old: Tensor, seeds: Sequence[int]) -> Task:
    """Half of the rows of old classes show their labels."""
    shown = torch.stack([torch.rand(len(y), generator=generator(1000 + seed)) < 0.5 for seed in seeds])
    return Task(x, y.expand(len(seeds), -1), shown & old[y], old)


def clip(v: Tensor, radius: float) -> Tensor:
    """min(1, radius / |v|) v: longer vectors end on the sphere, and have no gradient along their ray."""
    return v * (radius / v.norm(dim=-1, keepdim=True).clamp_min(1e-12)).clamp_max(1)


def all_distances(x: Tensor, c: float) -> Tensor:
    """:func:`poincare.distance` of all pairs of x (..., B, n), by one product (away from the rim, in training only)."""
    squared = x.square().sum(-1)
    apart = (squared[..., :, None] + squared[..., None, :] - 2 * x @ x.mT).clamp_min(1e-10)
    flat = 1 - c * squared
    root = (apart / (flat[..., :, None] * flat[..., None, :])).sqrt()
    return 2 * (root if c == 0 else torch.asinh(math.sqrt(c) * root) / math.sqrt(c))


def contrast(similarity: Tensor, positives: Sequence[Tensor]) -> list[Tensor]:
    """Per member and kind of positives: mean of -log softmax at them, over rows that have any; the row itself is none.

    similarity (S, B, B), each kind bool (S, B, B); one (S,) for each kind.
    """
    diagonal = torch.eye(similarity.shape[-1], dtype=torch.bool)
    log, means = similarity.masked_fill(diagonal, -torch.inf).log_softmax(-1), []
    for kind in positives:
        positive = kind & ~diagonal
        count = positive.sum(-1)
        rows = torch.where(positive, log, 0).sum(-1) / count.clamp_min(1)
        means.append(-rows.sum(-1) / (count > 0).sum(-1).clamp_min(1))
    return means


class Discovery(NamedTuple):
    """Tangent features after the clip (S, N, n); accuracy (all, old, new) along (T, S, 3); share clipped (S)."""

    features: Tensor
    curve: Tensor
    clipped: Tensor

    @property
    def last(self) -> Tensor:
        """Accuracies at the end (S, 3)."""
        return self.curve[-1]


def discover(
    task: Task,
    seeds: Sequence[int],
    geometry: str,
    schedule: dict[str, int],
    radius: float = RELEASED["radius"],
    c: float = RELEASED["c"],
    temperature: float = 0.2,
    distance_temperature: float = 0.2,
    width: int = 16,
) -> Discovery:
    """Train encoders by contrast, cluster their features by k-means, and count.

    geometry "cosine": similarity is the cosine, over the temperature. "ball": (1 - t) times that loss plus t times the
    loss with minus the ball's distance as similarity, t from 0 to 1 along the training; features are clipped and mapped
    by expmap0. c = 0 is the flat twin of the same loss. Both losses: two noisy views of a row belong together, and
    rows that show the same label do, with weights 0.65 and 0.35.
    """
    S, N, size = task.x.shape
    network, draw = StackedMLP([size, 128, width], seeds), generator(seeds[0])
    member, steps = torch.arange(S)[:, None], schedule["steps"]
    curve: list[Tensor] = []

    def features(x: Tensor) -> Tensor:
        return network(x) if geometry == "cosine" else clip(network(x), radius)

    def loss(step: int) -> Tensor:
        now = torch.randint(N, (S, schedule["batch"]), generator=draw)
        views = task.x[member, now].repeat(1, 2, 1)
        views = views + 0.5 * torch.randn(views.shape, generator=draw)
        views = views * (torch.rand(views.shape, generator=draw) > 0.2)
        v, twice, label = features(views), now.repeat(1, 2), task.y[member, now].repeat(1, 2)
        shown = task.labelled[member, twice]
        twins = twice[:, :, None] == twice[:, None, :]
        alike = (label[:, :, None] == label[:, None, :]) & shown[:, :, None] & shown[:, None, :]

        def both(similarity: Tensor) -> Tensor:
            twin, same = contrast(similarity, [twins, alike])
            return torch.lerp(twin, same, RELEASED["supervised"])

        unit = nn.functional.normalize(v, dim=-1)
        total = both(unit @ unit.mT / temperature)
        if geometry != "cosine":
            t = step / max(1, steps - 1)
            total = (1 - t) * total + t * both(-all_distances(poincare.expmap0(v, c), c) / distance_temperature)
        if step in marks:
            curve.append(_scores(task, features(task.x).detach(), seeds, geometry, c, schedule["starts"]))
        return total.sum()

    marks = {steps * k // schedule["checks"] for k in range(1, schedule["checks"])}
    fit(network.parameters(), loss, steps, lr=5e-3)
    with torch.no_grad():
        v = features(task.x)
        curve.append(_scores(task, v, seeds, geometry, c, schedule["starts"]))
        share = (network(task.x).norm(dim=-1) > radius).double().mean(-1)
    return Discovery(v, torch.stack(curve), share * (geometry != "cosine"))


def coordinates(v: Tensor, geometry: str, c: float) -> Tensor:
    """What k-means sees: unit vectors, or points of the ball (for c = 0 the vectors themselves)."""
    return nn.functional.normalize(v, dim=-1) if geometry == "cosine" else poincare.expmap0(v, c)


def _scores(task: Task, v: Tensor, seeds: Sequence[int], geometry: str, c: float, starts: int) -> Tensor:
    places = coordinates(v, geometry, c)
    return torch.stack([score(kmeans(places[k], len(task.old), seed, starts), task, k) for k, seed in enumerate(seeds)])


def kmeans(x: Tensor, K: int, seed: int, starts: int = 20) -> Tensor:
    """Clusters (N) of x (N, n) by scikit-learn's k-means, the best of so many starts."""
    from sklearn.cluster import KMeans

    return torch.from_numpy(KMeans(K, n_init=starts, random_state=seed).fit_predict(x.detach().numpy())).long()


def ball_kmeans(x: Tensor, clusters: Tensor, c: float, steps: int = 20) -> Tensor:
    """Lloyd's steps with the ball's distance and midpoints, from given clusters (N) of points x (N, n)."""
    K = int(clusters.max()) + 1
    for _ in range(steps):
        weights = nn.functional.one_hot(clusters, K).to(x.dtype).T + 1e-12  # an empty cluster gets the mean of all
        centres = poincare.midpoint(x, weights, c)
        new = poincare.distance(x[:, None], centres, c).argmin(1)
        if torch.equal(new, clusters):
            break
        clusters = new
    return clusters


def score(clusters: Tensor, task: Task, k: int) -> Tensor:
    """Accuracy of member k's clusters on rows without a shown label: all, old classes, new classes (3).

    Clusters get class names by one assignment for all, which maximises the number of right rows.
    """
    from scipy.optimize import linear_sum_assignment

    hidden, K = ~task.labelled[k], len(task.old)
    y, found = task.y[k][hidden], clusters[hidden]
    table = torch.zeros(K, K).index_put_((found, y), torch.ones(1), accumulate=True)
    names = torch.from_numpy(linear_sum_assignment(-table.numpy())[1])
    right, old = names[found] == y, task.old[y]
    return torch.stack([right.double().mean(), right[old].double().mean(), right[~old].double().mean()])


def clip_distance(angle: Tensor, radius: float, c: float) -> Tensor:
    """The ball's distance of two vectors of length R at that angle: (2 / s) arsinh(sinh(2 s R) sin(angle / 2))."""
    s = math.sqrt(c)
    return 2 / s * torch.asinh(math.sinh(2 * s * radius) * (angle / 2).sin())


def cifar_table(
    schedule: dict[str, int], seeds: Sequence[int], folder: Path, load: Callable[..., Any] = cifar
) -> list[dict[str, Any]]:
    """Discovery on CIFAR-10 in principal coordinates, five old classes; finished rows are read back from the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    real, rows = load(schedule["per_class"]), []
    if real is None:
        raise data.DataUnavailable("cifar10 is not here; the table needs it")
    task = image_task(real[0], real[1], range(5), seeds)
    for (geometry, c), radius in itertools.product((("cosine", 0.0), ("ball", 0.1), ("ball", 0.0)), (1.2, 2.3)):
        file, key = folder / f"{geometry}-{c}-{radius}.json", {**schedule, "seeds": list(seeds)}
        row = json.loads(file.read_text()) if file.exists() else {}
        if row.get("schedule") != key:
            found = discover(task, seeds, geometry, schedule, radius, c)
            row = {"geometry": geometry, "c": c, "R": radius, "schedule": key}
            row |= {name: found.last[:, k].mean().item() for k, name in enumerate(("all", "old", "new"))}
            file.write_text(json.dumps(row))
        rows.append({k: v for k, v in row.items() if k != "schedule"})
    return rows
