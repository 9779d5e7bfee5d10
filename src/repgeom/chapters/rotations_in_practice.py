"""Experiments of the page *Rotations in practice*: real hands, real aeroplanes, a chain of two bodies.

Zhou et al., "On the Continuity of Rotation Representations in Neural Networks" (CVPR 2019, p. 7-8), with
Levinson et al. 2020, Bregier 2021, Gu et al. 2023, Geist et al. 2024 and Choy 2026. One network per code and per seed;
all of them are trained at once, and each draws its weights and its data from its own seed. Rotations are (..., 3, 3)
and act on column vectors; angles are radians inside and degrees where a name says so; lengths are metres inside and
centimetres where a name says so. The wrong variants at the end are the few lines that differ in released code.
"""

import base64
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from repgeom import data
from repgeom.manifolds import rotations
from repgeom.nn.blocks import StackedMLP
from repgeom.nn.rotations import WIDTH, decode
from repgeom.optim import fit

# Every schedule of the page in one place: keyword arguments of the functions below.
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {
        "hands": {"steps": 4, "batch": 16},
        "planes": {"steps": 3, "batch": 8, "points": 16},
        "chain": {"steps": 4, "batch": 16},
        "balanced": {"steps": 4, "batch": 16, "both_sides": True},
        "turns": 3,
        "poses": 200,
    },
    "ci": {
        "hands": {"steps": 800},
        "planes": {"steps": 1_200},
        "chain": {"steps": 1_800},
        "balanced": {"steps": 900, "both_sides": True},
        "turns": 600,
        "poses": 20_000,
    },
    "full": {
        "hands": {"steps": 20_000},
        "planes": {"steps": 20_000},
        "chain": {"steps": 50_000},
        "balanced": {"steps": 50_000, "both_sides": True},
        "turns": 2_000,
        "poses": 100_000,
    },
}


# ------------------------------------------------------------------------------------------- codes, streams, training


def width(code: str) -> int:
    """Numbers that a network writes for `code`: those of `repgeom.nn.rotations`, and nine for "raw9".

    >>> width("6d"), width("raw9")
    (6, 9)
    """
    if code != "raw9" and code not in WIDTH:
        raise ValueError(f"code: received {code!r}; valid is raw9, {', '.join(WIDTH)}. Repair: choose one of these.")
    return 9 if code == "raw9" else WIDTH[code]


def matrix_in_training(code: str, y: Tensor) -> Tensor:
    """The matrix (..., 3, 3) that the loss sees. "raw9" shows its nine numbers as they are: no rotation in general.

    >>> matrix_in_training("raw9", torch.arange(9.0))[1]
    tensor([3., 4., 5.])
    """
    return y.unflatten(-1, (3, 3)) if code == "raw9" else decode(code, y)


def rotation_at_test(code: str, y: Tensor) -> Tensor:
    """The rotation (..., 3, 3) that is scored. "raw9" is replaced by the nearest rotation, here and only here.

    >>> rotation_at_test("raw9", 2 * torch.eye(3).flatten()).diagonal()
    tensor([1., 1., 1.])
    """
    return decode("9d" if code == "raw9" else code, y)


class Streams:
    """One stream of random numbers per seed: what seed s draws does not depend on which other seeds run.

    >>> both, alone = Streams([3, 4]).normal(2), Streams([4]).normal(2)
    >>> bool((both[1] == alone[0]).all())
    True
    """

    def __init__(self, seeds: Sequence[int], salt: int = 1_000_003, device: str | torch.device = "cpu") -> None:
        self.generators = [torch.Generator(device=device).manual_seed(seed + salt) for seed in seeds]
        self.device = device

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers (K, *shape)."""
        return torch.stack([torch.randn(*shape, generator=g, device=self.device) for g in self.generators])

    def integers(self, high: int, *shape: int) -> Tensor:
        """Integers in [0, high), (K, *shape)."""
        return torch.stack([torch.randint(high, shape, generator=g, device=self.device) for g in self.generators])

    def rotations(self, *shape: int) -> Tensor:
        """Haar rotations (K, *shape, 3, 3): normalised Gaussian quaternions."""
        return rotations.from_quaternion(self.normal(*shape, 4))

    def small_rotations(self, n: int, max_angle: float) -> Tensor:
        """Rotations (K, n, 3, 3) whose rotation vectors fill the ball of radius `max_angle` evenly."""
        u = torch.stack([torch.rand(n, 1, generator=g, device=self.device) for g in self.generators])
        axis = nn.functional.normalize(self.normal(n, 3), dim=-1)
        return rotations.from_rotvec(max_angle * u ** (1 / 3) * axis)


class Networks(nn.Module):
    """One network per (code, seed), trained side by side; the same seed starts from the same weights in every code.

    `body(seeds)` builds a module (K, B, ...) -> (K, B, 9) for K members; a code of width k reads the first k outputs.
    """

    def __init__(self, codes: Sequence[str], seeds: Sequence[int], body: Callable[[Sequence[int]], nn.Module]) -> None:
        super().__init__()
        self.codes, self.seeds = tuple(codes), tuple(seeds)
        self.widths = [width(code) for code in codes]
        self.body = body([seed for _ in codes for seed in seeds])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Outputs (S, B, width) of every code for inputs x (S, B, ...), one batch per seed."""
        y = self.body(x.repeat(len(self.codes), *[1] * (x.dim() - 1))).unflatten(0, (len(self.codes), len(self.seeds)))
        return {code: y[c, ..., :k] for c, (code, k) in enumerate(zip(self.codes, self.widths, strict=True))}

    def decoded(self, x: Tensor) -> dict[str, Tensor]:
        """Rotations (S, B, 3, 3) that are scored, without gradient."""
        with torch.no_grad():
            return {code: rotation_at_test(code, y) for code, y in self(x).items()}


def _frobenius(outputs: dict[str, Tensor], target: Tensor) -> Tensor:
    """Sum over networks of the batch mean of |M - R|_F^2, where M is the matrix that the loss sees."""
    errors = [(matrix_in_training(code, y) - target).square().sum((-2, -1)) for code, y in outputs.items()]
    return torch.stack(errors).mean(-1).sum()


def degrees_between(predicted: dict[str, Tensor], target: Tensor) -> dict[str, Tensor]:
    """Angle in degrees between each predicted rotation and its target, per code.

    >>> degrees_between({"6d": torch.eye(3)}, torch.diag(torch.tensor([1.0, -1.0, -1.0])))["6d"]
    tensor(180.)
    """
    return {code: torch.rad2deg(rotations.geodesic_angle(R, target)) for code, R in predicted.items()}


# ---------------------------------------------------------------------------------------------------------- hands

PALM = (0, 1, 2, 6, 10, 14, 18)  # wrist, palm and the root of each finger: they hardly move against each other


def kabsch(source: Tensor, target: Tensor) -> Tensor:
    """Rotation R that minimises sum_j |R s_j - t_j|^2 for two sets of points (..., J, 3), not centred here.

    R is the nearest rotation to sum_j t_j s_j^T: expand the square, only the term -2 tr(R^T sum_j t_j s_j^T) moves.

    >>> R = rotations.from_euler(torch.tensor([0.3, -0.2, 1.0]))
    >>> bool(torch.allclose(kabsch(torch.eye(3), torch.eye(3) @ R.T), R, atol=1e-6))
    True
    """
    if source.shape[-1] != 3 or source.shape[-2:] != target.shape[-2:]:
        raise ValueError(
            f"source, target: received shapes {tuple(source.shape)} and {tuple(target.shape)}; valid are (..., J, 3) "
            "with the same joints in the same order. Repair: select the same joints from both."
        )
    return rotations.project(target.mT @ source)


def align_hands(hands: Tensor) -> tuple[Tensor, Tensor]:
    """Hands (N, J, 3) in one common pose, and the orientations (N, 3, 3) that they had.

    Each hand is moved to the centre of its palm, scaled to a palm of root-mean-square radius one, and turned onto the
    palm of the first hand: hand_i ~ R_i hand_0. Returns (R_i^T hand_i, R_i).
    """
    palm = hands[:, PALM]
    centre = palm.mean(1, keepdim=True)
    radius = (palm - centre).square().sum(-1).mean(1).sqrt()[:, None, None]
    hands = (hands - centre) / radius
    R = kabsch(hands[:1, PALM].expand(len(hands), -1, -1), hands[:, PALM])
    return hands @ R, R


def split_hands(hands: Tensor) -> tuple[Tensor, Tensor]:
    """Every fourth hand is held out: 40 to learn from and 13 to test on, both with open and closed hands."""
    held = torch.arange(len(hands)) % 4 == 3
    return hands[~held], hands[held]


def turned_hands(
    hands: Tensor, streams: Streams, n: int, max_angle: float | None = None, noise: float = 0.02
) -> tuple[Tensor, Tensor]:
    """Inputs (K, n, 3 J): random hands, turned, plus noise in palm radii; and the rotations that turned them.

    The rotations are Haar, or evenly spread over all rotation vectors shorter than `max_angle` (radians).
    """
    x = hands[streams.integers(len(hands), n)]
    R = streams.rotations(n) if max_angle is None else streams.small_rotations(n, max_angle)
    x = x @ R.mT
    return (x + noise * streams.normal(*x.shape[1:])).flatten(-2), R


def train_hands(
    codes: Sequence[str],
    seeds: Sequence[int],
    hands: Tensor,
    steps: int,
    batch: int = 64,
    max_angle: float | None = None,
) -> Networks:
    """Networks 66-128-128-128-k that read the orientation of a hand from its 22 joints; loss |M - R|_F^2."""
    networks = Networks(codes, seeds, lambda members: StackedMLP((3 * hands.shape[1], 128, 128, 128, 9), members))
    streams = Streams(seeds)

    def loss(step: int) -> Tensor:
        x, R = turned_hands(hands, streams, batch, max_angle)
        return _frobenius(networks(x), R)

    fit(networks.parameters(), loss, steps)
    return networks


def hand_errors(networks: Networks, hands: Tensor, turns: int, max_angle: float | None = None) -> dict[str, Tensor]:
    """Errors in degrees (S, len(hands) * turns) on hands drawn from `hands`, in random orientations."""
    x, R = turned_hands(hands, Streams(networks.seeds, salt=2_000_003), turns * len(hands), max_angle)
    return degrees_between(networks.decoded(x), R)


# ------------------------------------------------------------------------------------------------------ aeroplanes


def procedural_planes(n: int, points: int, generator: torch.Generator | None = None) -> Tensor:
    """Stand-in aeroplanes (n, points, 3) for readers without the real ones: x fuselage, y up, z wings.

    Ellipsoid fuselage, swept wings with dihedral, tailplane and fin, proportions drawn at random; rms radius about 0.2
    as in the real data. Results on them are never reported as results on real aeroplanes.

    >>> procedural_planes(2, 10, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 10, 3])
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, generator=generator)

    u, v, w = torch.rand(3, n, points, generator=generator).unbind(0)
    side = torch.where(torch.rand(n, points, generator=generator) < 0.5, -1.0, 1.0)
    part = torch.rand(n, points, generator=generator)
    along, around = 2 * u - 1, 2 * math.pi * v
    radius = uniform(0.035, 0.06) * (1 - along.square()).clamp_min(0).sqrt()
    body = torch.stack([0.35 * along, radius * around.cos(), radius * around.sin()], -1)
    span, chord = uniform(0.26, 0.36), uniform(0.08, 0.14)
    x = 0.05 - uniform(0.1, 0.8) * span * u + chord * (1 - 0.6 * u) * (v - 0.5)
    wing = torch.stack([x, uniform(0.0, 0.15) * span * u + 0.005 * w, side * span * u], -1)
    tail = torch.stack([-0.3 - 0.04 * u + 0.06 * (v - 0.5), 0.02 + 0.005 * w, side * uniform(0.08, 0.13) * u], -1)
    fin = torch.stack([-0.3 - 0.05 * u + 0.07 * (v - 0.5), uniform(0.08, 0.13) * u, 0.005 * (w - 0.5)], -1)
    part = part[..., None]
    return torch.where(part < 0.45, body, torch.where(part < 0.8, wing, torch.where(part < 0.92, tail, fin)))


def load_planes(generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, bool]:
    """Aeroplanes to learn from and to test on, (N, 1024, 3) each, and whether they are the real ones.

    Coordinates are divided by 0.2, which makes the mean distance from the origin about one; not centred, as in the
    released code. Without the data (no folder, no network) stand-ins are drawn.
    """
    try:
        real = data.load("shapenet_planes", progress=False)
    except data.DataUnavailable:
        clouds = procedural_planes(400, 1024, generator) / 0.2
        return clouds[:300], clouds[300:], False
    return torch.from_numpy(real.train) / 0.2, torch.from_numpy(real.test) / 0.2, True


class PointNets(nn.Module):
    """K small PointNets (K, B, P, 3) -> (K, B, 9): the same layers for every point, a maximum, then a head.

    LeakyReLU is increasing, so max(LeakyReLU(z)) = LeakyReLU(max z): it is applied after the maximum, to P times fewer
    numbers. The members' heads draw from their seeds shifted by 10^6, so that they do not repeat the first layers.
    """

    def __init__(self, seeds: Sequence[int], points: Sequence[int] = (3, 32, 64, 256), head: int = 128) -> None:
        super().__init__()
        self.points = StackedMLP(points, seeds)
        self.head = StackedMLP((points[-1], head, 9), [seed + 10**6 for seed in seeds])

    def forward(self, clouds: Tensor) -> Tensor:
        """Nine numbers per cloud; the order of its points does not matter."""
        features = self.points(clouds.flatten(1, 2)).unflatten(1, clouds.shape[1:3]).max(2).values
        return self.head(nn.functional.leaky_relu(features, 0.01))


def turned_planes(planes: Tensor, streams: Streams, n: int, points: int) -> tuple[Tensor, Tensor]:
    """Clouds (K, n, points, 3) of random aeroplanes (one choice of points per batch), turned; and the rotations."""
    which, where = streams.integers(len(planes), n), streams.integers(planes.shape[1], points)
    R = streams.rotations(n)
    return planes[which[:, :, None], where[:, None, :]] @ R.mT, R


def train_planes(
    codes: Sequence[str],
    seeds: Sequence[int],
    planes: Tensor,
    steps: int,
    batch: int = 32,
    points: int = 64,
    lr: float = 1.5e-3,
) -> Networks:
    """PointNets that read the orientation of an aeroplane from `points` points of it; loss |M - R|_F^2."""
    networks = Networks(codes, seeds, PointNets)
    streams = Streams(seeds)

    def loss(step: int) -> Tensor:
        x, R = turned_planes(planes, streams, batch, points)
        return _frobenius(networks(x), R)

    fit(networks.parameters(), loss, steps, lr=lr)
    return networks


def plane_errors(
    networks: Networks, planes: Tensor, turns: int = 5, points: int = 64
) -> tuple[dict[str, Tensor], Tensor]:
    """Errors in degrees (S, N * turns) on every aeroplane in `turns` orientations, and which aeroplane (N * turns,)."""
    streams = Streams(networks.seeds, salt=2_000_003)
    errors: dict[str, list[Tensor]] = {code: [] for code in networks.codes}
    for _ in range(turns):
        R = streams.rotations(len(planes))
        x = planes[:, streams.integers(planes.shape[1], points)].movedim(1, 0) @ R.mT
        for code, e in degrees_between(networks.decoded(x), R).items():
            errors[code].append(e)
    return {code: torch.cat(e, 1) for code, e in errors.items()}, torch.arange(len(planes)).repeat(turns)


class SiamesePlanes(nn.Module):
    """Zhou et al.'s network for C codes at once: features of the reference cloud and of the turned one, joined.

    Point layers 3-64-128-1024 with a maximum over points, shared by both clouds; then 2048-512-k (as released; the
    paper's text has one more layer). No LeakyReLU after the maximum, as released.
    """

    def __init__(self, seeds: Sequence[int], points: Sequence[int] = (3, 64, 128, 1024), head: int = 512) -> None:
        super().__init__()
        self.points = StackedMLP(points, seeds)
        self.head = StackedMLP((2 * points[-1], head, 9), [seed + 10**6 for seed in seeds])

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        """Nine numbers (C, B, 9) from a reference cloud (P, 3) and turned clouds (B, P, 3)."""
        reference, turned = pair
        first = self.points(reference).amax(1, keepdim=True)
        second = self.points(turned.flatten(0, 1)).unflatten(1, turned.shape[:2]).amax(2)
        return self.head(torch.cat([first.expand_as(second), second], -1))


def siamese_planes(
    codes: Sequence[str],
    seed: int,
    steps: int,
    device: str | torch.device,
    planes: tuple[Tensor, Tensor],
    *,
    batch: int = 10,
    turns: int = 100,
    checkpoints: int = 8,
    lr: float = 1e-5,
    schedule: Literal["one-cycle", "constant"] = "constant",
    layers: Sequence[int] = (3, 64, 128, 1024),
) -> dict[str, Any]:
    """The paper's aeroplane experiment: one cloud and `batch` random turns of it per step, mean-square matrix loss.

    Args:
        codes: Codes trained side by side on the same data from the same initial weights.
        seed: Seed of weights and data.
        steps: Optimiser steps (the released settings say about 2.6 million at lr 1e-5, batch 10).
        device: "cpu" or "cuda".
        planes: Training clouds (N, P, 3) and test clouds (M, P, 3).
        batch: Turns per step.
        turns: Turns of each test cloud in the last evaluation; checkpoints use a tenth of them.
        checkpoints: Number of evaluations on the way, evenly spaced.
        lr: Peak learning rate of Adam.
        schedule: "constant" as released, or "one-cycle".
        layers: Widths of the point layers.

    Returns:
        {"steps": [...], "curves": {code: [[21 percentiles in degrees], ...]}, "final": {code: {"mean", "median",
        "p95", "max", "percentiles"}}, and the settings}. Turns are Haar; the released sampler draws axis and angle
        uniformly.
    """
    train, test = (clouds.to(device) for clouds in planes)
    networks = SiamesePlanes([seed] * len(codes), layers).to(device)
    streams, widths = Streams([seed], device=device), [width(code) for code in codes]
    marks = {round(steps * (i + 1) / checkpoints) for i in range(checkpoints - 1)}
    curves: dict[str, list[list[float]]] = {code: [] for code in codes}
    quantiles = torch.linspace(0, 1, 21, dtype=torch.float64)

    def outputs(cloud: Tensor, R: Tensor) -> dict[str, Tensor]:
        y = networks((cloud, cloud @ R.mT))
        return {code: y[c, :, :k] for c, (code, k) in enumerate(zip(codes, widths, strict=True))}

    def errors(n: int) -> dict[str, Tensor]:
        draws = Streams([seed], salt=2_000_003, device=device)
        found: dict[str, list[Tensor]] = {code: [] for code in codes}
        with torch.no_grad():
            for cloud in test:
                R = draws.rotations(n)[0]
                decoded = {code: rotation_at_test(code, y) for code, y in outputs(cloud, R).items()}
                for code, e in degrees_between(decoded, R).items():
                    found[code].append(e.double().cpu())
        return {code: torch.cat(e) for code, e in found.items()}

    def loss(step: int) -> Tensor:
        if step in marks:
            for code, e in errors(max(1, turns // 10)).items():
                curves[code].append(e.quantile(quantiles).tolist())
        cloud = train[streams.integers(len(train), 1)[0, 0]]
        R = streams.rotations(batch)[0]
        return _frobenius(outputs(cloud, R), R) / 9

    fit(networks.parameters(), loss, steps, lr=lr, schedule=schedule)
    last, final = errors(turns), {}
    for code, e in last.items():
        curves[code].append(e.quantile(quantiles).tolist())
        final[code] = {
            "mean": e.mean().item(),
            "median": e.median().item(),
            "p95": e.quantile(0.95).item(),
            "max": e.max().item(),
            "percentiles": curves[code][-1],
        }
    settings = {"seed": seed, "batch": batch, "turns": turns, "lr": lr, "schedule": schedule, "points": train.shape[1]}
    return {"steps": [*sorted(marks), steps], "curves": curves, "final": final, "settings": settings}


# ---------------------------------------------------------------------------------------------- chains of bodies

# Parents and offsets (metres): body 1 sits half a metre up body 0.
CHAIN = ((-1, 0), ((0.0, 0.0, 0.0), (0.0, 0.5, 0.0)))
MARKER = 0.3  # metres from a body's origin to each of its three markers, one along each of its axes


def tree_levels(parents: Sequence[int]) -> list[list[int]]:
    """Nodes by depth: roots (parent -1) first, then their children, and so on.

    >>> tree_levels([1, -1, 1, 0])
    [[1], [0, 2], [3]]
    """
    levels = [[j for j, parent in enumerate(parents) if parent == -1]]
    while levels[-1]:
        levels.append([j for j, parent in enumerate(parents) if parent in levels[-1]])
    levels.pop()
    if sum(map(len, levels)) != len(parents):
        raise ValueError(
            f"parents: received {list(parents)}; valid is a forest: -1 for a root, else the index of another node, "
            "without a circle. Repair: follow the parents of each node; every path must end at a -1."
        )
    return levels


def forward_kinematics(parents: Sequence[int], offsets: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (..., J, 3) and frames (..., J, 3, 3) of the nodes of a tree whose joints turn by R (..., J, 3, 3).

    G_j = G_parent R_j and p_j = p_parent + G_parent offset_j; a root has G = R_j and p = offset_j. All nodes of one
    depth are done in one batched product. R need not be a rotation: a matrix that stretches, stretches the bones.

    Args:
        parents: Index of each node's parent, -1 for a root; any order.
        offsets: (J, 3), position of each node in its parent's frame (metres).
        R: (..., J, 3, 3), turn of each node against its parent.

    Raises:
        ValueError: `parents` has a circle, or the shapes do not fit.

    >>> quarter = rotations.from_rotvec(torch.tensor([[0.0, 0.0, torch.pi / 2], [0.0, 0.0, 0.0]]))
    >>> forward_kinematics([-1, 0], torch.tensor(CHAIN[1]), quarter)[0][1].round(decimals=4)
    tensor([-0.5000, -0.0000,  0.0000])
    """
    levels = tree_levels(parents)
    if offsets.shape != (len(parents), 3) or R.shape[-3:] != (len(parents), 3, 3):
        raise ValueError(
            f"offsets, R: received shapes {tuple(offsets.shape)} and {tuple(R.shape)}; valid are "
            f"({len(parents)}, 3) and (..., {len(parents)}, 3, 3) for {len(parents)} parents."
        )
    turns = R.unbind(-3)
    frames = {j: turns[j] for j in levels[0]}
    positions = {j: offsets[j].expand(*R.shape[:-3], 3) for j in levels[0]}
    for level in levels[1:]:
        above = torch.stack([frames[parents[j]] for j in level], -3)
        turned = above @ torch.stack([turns[j] for j in level], -3)
        reached = torch.stack([positions[parents[j]] for j in level], -2) + (above @ offsets[level, :, None]).squeeze(
            -1
        )
        frames |= dict(zip(level, turned.unbind(-3), strict=True))
        positions |= dict(zip(level, reached.unbind(-2), strict=True))
    order = range(len(parents))
    return torch.stack([positions[j] for j in order], -2), torch.stack([frames[j] for j in order], -3)


def markers(R: Tensor, both_sides: bool = False) -> Tensor:
    """The markers in metres of the two-body chain with joint turns R (..., 2, 3, 3): (..., 6, 3), body 0 first.

    Markers of a body sit 0.3 m along its axes: origin + 0.3 times each column of its frame. With `both_sides` there
    are as many again at minus 0.3 m, (..., 12, 3), so that the centroid of a body's markers is its origin.

    >>> markers(torch.eye(3).expand(2, 3, 3))[3]
    tensor([0.3000, 0.5000, 0.0000])
    """
    offsets = torch.tensor(CHAIN[1], dtype=R.dtype, device=R.device)
    positions, frames = forward_kinematics(CHAIN[0], offsets, R)
    arms = MARKER * frames.mT
    return (positions[..., :, None, :] + (torch.cat([arms, -arms], -2) if both_sides else arms)).flatten(-3, -2)


class _Pairs(StackedMLP):
    """A stacked network whose 18 outputs are read as two times nine."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).unflatten(-1, (2, 9))


def train_chain(
    codes: Sequence[str],
    seeds: Sequence[int],
    steps: int,
    batch: int = 64,
    lr: float = 2e-3,
    both_sides: bool = False,
) -> Networks:
    """Networks 18-192-192-192-2k: six markers in, two joint turns out; the loss sees only where the markers end up."""
    inputs = 36 if both_sides else 18
    networks = Networks(codes, seeds, lambda members: _Pairs((inputs, 192, 192, 192, 18), members))
    streams = Streams(seeds)

    def loss(step: int) -> Tensor:
        target = markers(streams.rotations(batch, 2), both_sides)
        answers = networks(target.flatten(-2)).items()
        predicted = markers(torch.stack([matrix_in_training(code, y) for code, y in answers]), both_sides)
        return (predicted - target).square().sum(-1).mean((-2, -1)).sum()

    fit(networks.parameters(), loss, steps, lr=lr)
    return networks


def _marker_cm(P: Tensor, R: Tensor, both_sides: bool = False) -> Tensor:
    """Mean distance in centimetres of the markers under P from those under R, both (..., 2, 3, 3)."""
    return 100 * (markers(P, both_sides) - markers(R, both_sides)).norm(dim=-1).mean(-1)


def chain_errors_cm(networks: Networks, poses: int, both_sides: bool = False) -> tuple[dict[str, Tensor], Tensor]:
    """Mean distance of the markers from their targets in centimetres, (S, poses) per code; and the true turns."""
    R = Streams(networks.seeds, salt=2_000_003).rotations(poses, 2)
    predicted = networks.decoded(markers(R, both_sides).flatten(-2))
    return {code: _marker_cm(P, R, both_sides) for code, P in predicted.items()}, R


def raw_readings(networks: Networks, poses: int, both_sides: bool = False) -> dict[str, Tensor]:
    """What the chain's "raw9" networks wrote, read in four ways, and its shape; one number per seed.

    "as written" sends the nine numbers through the chain as they are; "nearest rotation" projects them first;
    "Gram-Schmidt" reads the first two columns as 6D; "as released" makes all three columns orthonormal and leaves the
    determinant alone, so that only mirrors tell it from "Gram-Schmidt". "mirrors" is the share of child
    matrices with a negative determinant; "largest", "middle" and "smallest" are their mean singular values; "evenness"
    is the mean |cosine| between the smallest right singular vector and (1, 1, 1), the centroid of the child's markers;
    "tilt" is how far the bone that M draws goes from the child's joint (0) towards that centroid (1).
    """
    R = Streams(networks.seeds, salt=2_000_003).rotations(poses, 2)
    with torch.no_grad():
        M = matrix_in_training("raw9", networks(markers(R, both_sides).flatten(-2))["raw9"])
    readings = {
        "as written": M,
        "nearest rotation": rotations.project(M),
        "Gram-Schmidt": rotations.from_6d(M[..., :2].mT.flatten(-2)),
        "as released": matrix_without_determinant(M),
    }
    _, s, Vh = torch.linalg.svd(M[:, :, 1])
    joint = chain_points(R)[0][..., 1, :]
    way = markers(R)[..., 3:, :].mean(-2) - joint
    tilt = ((chain_points(M)[0][..., 1, :] - joint) * way).sum(-1) / way.square().sum(-1)
    return {
        **{name: _marker_cm(P, R, both_sides).mean(1) for name, P in readings.items()},
        "mirrors": (torch.linalg.det(M[:, :, 1]) < 0).float().mean(1),
        **dict(zip(("largest", "middle", "smallest"), s.mean(1).unbind(-1), strict=True)),
        "evenness": (Vh[:, :, 2].sum(-1).abs() / math.sqrt(3)).mean(1),
        "tilt": tilt.mean(1),
    }


def full_turn(R: Tensor, body: int, axis: int, n: int = 121) -> Tensor:
    """Poses (n, 2, 3, 3) on the way as one body of the pose R (2, 3, 3) turns once about one of its own axes."""
    v = torch.zeros(n, 3)
    v[:, axis] = torch.linspace(-math.pi, math.pi, n)
    loop = R.expand(n, 2, 3, 3).clone()
    loop[:, body] = R[body] @ rotations.from_rotvec(v)
    return loop


def chain_points(R: Tensor) -> tuple[Tensor, Tensor]:
    """Bone ends (..., 2, 3) and markers (..., 6, 3) of the chain, for drawing."""
    positions, _ = forward_kinematics(CHAIN[0], torch.tensor(CHAIN[1], dtype=R.dtype), R)
    return positions, markers(R)


def loop_errors_cm(networks: Networks, loop: Tensor) -> dict[str, Tensor]:
    """Mean marker error in centimetres of the first seed's networks along the poses `loop` (n, 2, 3, 3), per code."""
    x = markers(loop).flatten(-2).expand(len(networks.seeds), -1, -1)
    return {code: _marker_cm(P, loop)[0] for code, P in networks.decoded(x).items()}


def network_for_browser(networks: Networks, code: str, seed_index: int = 0) -> list[dict[str, Any]]:
    """Layers of one network of the chain for a script: weights as signed bytes, one scale per output.

    W[o, i] = scale[o] * byte[o, i]; the rounding moves a marker by a few millimetres (tested).
    """
    member = networks.codes.index(code) * len(networks.seeds) + seed_index
    body = networks.body
    if not isinstance(body, StackedMLP):
        raise ValueError(f"networks: received {type(body).__name__}; valid are networks of train_chain.")
    linear = [layer for layer in body.member(member) if isinstance(layer, nn.Linear)]
    keep = [j * 9 + i for j in range(2) for i in range(width(code))]
    layers = []
    for layer in linear:
        W, b = layer.weight.detach(), layer.bias.detach()
        if layer is linear[-1]:
            W, b = W[keep], b[keep]
        scale = W.abs().amax(1) / 127
        raw = (W / scale[:, None]).round().to(torch.int8).cpu().numpy().tobytes()
        layers.append({"bytes": base64.b64encode(raw).decode(), "scale": scale.tolist(), "bias": b.tolist()})
    return layers


# -------------------------------------------------------------------- wrong variants, as found in released code
# Found by reading papagina/RotationContinuity at commit 758b0ce and martius-lab/hitchhiking-rotations (files
# cfg_pcd_to_pose.py at 6a8cc7d, scripts/train.py at 82fbfbe, utils/metrics.py at 1741151). The lines are ours.


def matrix_without_determinant(M: Tensor) -> Tensor:
    """Gram-Schmidt of all three columns of M (..., 3, 3): orthogonal, but a reflection wherever det M < 0.

    `compute_rotation_matrix_from_matrix` in shapenet/code/tools.py and Inverse_Kinematics/code/tools.py.

    >>> round(float(torch.linalg.det(matrix_without_determinant(torch.diag(torch.tensor([1.0, 1.0, -0.1]))))))
    -1
    """
    a, b, c = M.unbind(-1)
    a = nn.functional.normalize(a, dim=-1)
    b = nn.functional.normalize(b - (a * b).sum(-1, keepdim=True) * a, dim=-1)
    c = c - (a * c).sum(-1, keepdim=True) * a
    c = nn.functional.normalize(c - (b * c).sum(-1, keepdim=True) * b, dim=-1)
    return torch.stack([a, b, c], -1)


def angle_by_trace(A: Tensor, B: Tensor) -> Tensor:
    """arccos((tr(A B^T) - 1)/2) with the cosine clamped: it gives an "angle" even when A is a reflection.

    >>> float(angle_by_trace(torch.diag(torch.tensor([1.0, 1.0, -1.0])), torch.eye(3)).rad2deg())
    90.0
    """
    return (((A * B).sum((-2, -1)) - 1) / 2).clamp(-1, 1).acos()


def quaternion_by_trace(R: Tensor) -> Tensor:
    """Quaternion by w = sqrt(1 + tr R)/2, floored at 1e-8, then (R21 - R12, ...)/(4 w): breaks near half turns.

    `compute_quaternions_from_rotation_matrices` in Inverse_Kinematics/code/tools.py. Rounding can make 1 + tr R
    negative, and then the square root is not a number, which the floor lets through.
    """
    w = (1 + R.diagonal(dim1=-2, dim2=-1).sum(-1)).sqrt() / 2
    w = torch.maximum(w, torch.full_like(w, 1e-8))
    axis = torch.stack([R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], -1)
    return torch.cat([w[..., None], axis / (4 * w[..., None])], -1)


def distance_picking(q: Tensor, target: Tensor) -> Tensor:
    """min(|q - t|^2, |q + t|^2): a quaternion and its negative are the same answer. (..., 4) -> (...).

    >>> distance_picking(torch.tensor([-1.0, 0, 0, 0]), torch.tensor([1.0, 0, 0, 0]))
    tensor(0.)
    """
    return torch.minimum((q - target).square().sum(-1), (q + target).square().sum(-1))


def distance_picking_as_released(q: Tensor, target: Tensor) -> Tensor:
    """The released loss `l2_dp`: the target against its own w >= 0 version, so -t is never tried when w >= 0.

    >>> distance_picking_as_released(torch.tensor([-1.0, 0, 0, 0]), torch.tensor([1.0, 0, 0, 0]))
    tensor(4.)
    """
    upper = torch.where(target[..., :1] < 0, -target, target)
    return torch.minimum((q - target).square().sum(-1), (q - upper).square().sum(-1))
