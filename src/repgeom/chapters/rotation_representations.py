"""Experiments of the chapter *Why four numbers are not enough*.

Zhou et al., "On the Continuity of Rotation Representations in Neural Networks" (CVPR 2019), with Levinson et al. 2020,
Bregier 2021 and Geist et al. 2024. Every function is pure: randomness enters through seeds or a generator. Angles are
radians inside and degrees where a name says so; rotations are (..., 3, 3) and act on column vectors.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from math import pi
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from repgeom.manifolds import rotations
from repgeom.nn.blocks import StackedMLP
from repgeom.nn.rotations import WIDTH, decode, encode
from repgeom.optim import fit

CODES = (*rotations.CODES, "raw9")
LIFTED = ("quaternion", "rotvec", "axis_angle", "euler")
RANDOM_SIGN = "quaternion_random_sign"
LOSSES = ("frobenius", "geodesic", "representation")

# Every schedule of the page in one place. Entries named after an experiment are keyword arguments of `train`.
# "full" holds the schedule of the paper's released script (Adam 1e-5 for 10 000 steps, then 1e-6) and a long one-cycle.
_TINY: dict[str, Any] = {"steps": 20, "batch": 32, "hidden": 32}
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {
        "seeds": 2, "test_rotations": 500, "loops": 20, "loop_points": 60, "noise_trials": 2_000, "pairs": 2_000,
        "sanity": _TINY, "small_angles": _TINY, "targets": {**_TINY, "loss": "representation"},
        "confidence": {**_TINY, "noise": 1.0}, "interactive": {"steps": 20},
    },
    "ci": {
        "seeds": 5, "test_rotations": 20_000, "loops": 200, "loop_points": 360, "noise_trials": 200_000,
        "pairs": 20_000, "sanity": {"steps": 1_000}, "small_angles": {"steps": 500},
        "targets": {"steps": 500, "loss": "representation"}, "confidence": {"steps": 1_000, "noise": 1.0},
        "interactive": {"steps": 1_200},
    },
    "full": {
        "seeds": 5, "test_rotations": 100_000, "loops": 1_000, "loop_points": 720, "noise_trials": 1_000_000,
        "pairs": 100_000, "sanity": {"steps": 50_000}, "small_angles": {"steps": 10_000},
        "targets": {"steps": 10_000, "loss": "representation"}, "confidence": {"steps": 10_000, "noise": 1.0},
        "interactive": {"steps": 1_200}, "sanity_as_released": {"steps": 500_000, "batch": 64, "schedule": "released"},
    },
}  # fmt: skip


# ---------------------------------------------------------------------------------------------- laws of rotations


def axis_angle_uniform(n: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw n rotations with uniform axis and angle uniform on [0, pi], the law of the released axis-angle sampler.

    This is not the Haar law, whose angle has density (1 - cos t)/pi: half turns are half as frequent here (density
    1/pi against 2/pi at pi), so codes that break at half turns look better. The released sanity script trains on Haar
    and prints errors under this law.

    >>> axis_angle_uniform(2, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 3])
    """
    axis = nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=-1)
    return rotations.from_rotvec(pi * torch.rand(n, 1, generator=generator) * axis)


def small_rotations(n: int, max_angle: float, generator: torch.Generator | None = None) -> Tensor:
    """Draw n rotations whose rotation vectors are uniform in the ball of radius `max_angle` (radians, at most pi).

    Angle = max_angle u^(1/3), axis uniform. For a small ball this is close to Haar restricted to the ball; for
    max_angle = pi it is NOT Haar (density 3 t^2/pi^3 against (1 - cos t)/pi): the full group needs `random_rotations`.

    >>> r = small_rotations(100, 0.5, torch.Generator().manual_seed(0))
    >>> bool((rotations.geodesic_angle(r, torch.eye(3)) <= 0.5 + 1e-6).all())
    True
    """
    if not 0 < max_angle <= pi:
        raise ValueError(f"max_angle is {max_angle}; give an angle in radians in (0, pi], such as 0.785 for 45 degrees")
    axis = nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=-1)
    return rotations.from_rotvec(max_angle * torch.rand(n, 1, generator=generator) ** (1 / 3) * axis)


def input_noise(n: int, largest: float, generator: torch.Generator | None = None) -> Tensor:
    """Draw n Gaussian 3 x 3 matrices, each with its own standard deviation, uniform on [0, largest].

    >>> input_noise(2, 0.0, torch.Generator().manual_seed(0)).abs().max()
    tensor(0.)
    """
    deviation = largest * torch.rand(n, 1, 1, generator=generator)
    return deviation * torch.randn(n, 3, 3, generator=generator)


# -------------------------------------------------------------------------------------------- training and errors


def train(
    codes: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int,
    batch: int = 128,
    lr: float = 1e-3,
    schedule: Literal["one-cycle", "constant", "released"] = "one-cycle",
    sampler: Callable[..., Tensor] | None = None,
    loss: str = "frobenius",
    noise: float = 0.0,
    hidden: int = 128,
    layers: int = 3,
    progress: bool = False,
    device: str | torch.device = "cpu",
) -> dict[str, StackedMLP]:
    """Train the sanity test of Zhou et al. (2019, p. 6-7): nine entries of R in, R out through a code.

    Network 9 -> `hidden` x `layers` -> k with LeakyReLU, as in the paper; one stack per code with one member per seed.
    Member k draws its weights and its batches from its own seed, so it does not depend on its company, and members
    with one seed see the same rotations whatever their code. We differ from the paper in the schedule: Adam with a
    one-cycle rate (peak `lr`) over few steps of batch 128; "released" is theirs (1e-5 for the first 10 000 steps, then
    1e-6; here Adam's moments restart at the change).

    Losses: "frobenius" mean |R' - R|_F^2; "geodesic" mean angle; "representation" mean |y - g(R)|^2, no decoder.
    Codes: the eight of `rotations.CODES`; "raw9" (the matrix itself is regressed, SVD at test only: Levinson's
    SVD-Inference); "quaternion_random_sign" (only with "representation": the target is g(R) or -g(R) by a coin).
    `sampler(n, generator=...)` gives (n, 3, 3); default Haar. `noise` adds `input_noise` of that size to what the
    network sees, not to the target.

    >>> sorted(train(["6d"], [0, 1], steps=3, hidden=8))
    ['6d']
    """
    if loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}; choose one of {', '.join(LOSSES)}")
    networks = {}
    for code in codes:
        if code == RANDOM_SIGN and loss != "representation":
            raise ValueError(f"{code!r} is a choice of targets and loss is {loss!r}; use loss='representation'")
        network = StackedMLP([9, *[hidden] * layers, _width(code)], seeds).to(device)
        draw = _batches(seeds, batch, sampler or rotations.random_rotations, device)
        objective = _objective(code, loss, network, draw, seeds, noise)
        parameters = list(network.parameters())
        if schedule == "released":
            first = min(10_000, steps // 2)
            for part, rate in ((first, 1e-5), (steps - first, 1e-6)):
                fit(parameters, objective, part, lr=rate, schedule="constant", progress=progress, label=code)
        else:
            fit(parameters, objective, steps, lr=lr, schedule=schedule, progress=progress, label=code)
        networks[code] = network
    return networks


def _width(code: str) -> int:
    widths = {**WIDTH, "raw9": 9, RANDOM_SIGN: 4}
    if code not in widths:
        raise ValueError(f"code is {code!r}; choose one of {', '.join(widths)}")
    return widths[code]


def _generators(seeds: Sequence[int], stream: int) -> list[torch.Generator]:
    """One generator per seed, for a stream that is not the one of the weights (stream 0)."""
    return [torch.Generator().manual_seed(seed + 1_000_003 * stream) for seed in seeds]


def _batches(
    seeds: Sequence[int], batch: int, sampler: Callable[..., Tensor], device: str | torch.device, ahead: int = 64
) -> Callable[[], Tensor]:
    """Return a function that gives the next batch (K, batch, 3, 3), one stream per seed, drawn `ahead` at a time."""
    generators = _generators(seeds, 1)
    waiting: list[Tensor] = []

    def draw() -> Tensor:
        if not waiting:
            stock = torch.stack([sampler(ahead * batch, generator=generator) for generator in generators])
            waiting.extend(stock.to(device).unflatten(1, (ahead, batch)).unbind(1))
        return waiting.pop()

    return draw


def _objective(
    code: str, loss: str, network: StackedMLP, draw: Callable[[], Tensor], seeds: Sequence[int], noise: float
) -> Callable[[int], Tensor]:
    """Return loss(step): the sum over members of their batch means, so that members stay independent under Adam."""
    coins, noises = _generators(seeds, 2), _generators(seeds, 4)

    def objective(step: int) -> Tensor:
        R = draw()
        seen = R
        if noise:
            seen = R + torch.stack([input_noise(R.shape[1], noise, g) for g in noises]).to(R.device)
        y = network(seen.flatten(-2))
        if code == "raw9":
            each = (y - R.flatten(-2)).square().sum(-1)
        elif loss == "frobenius":
            each = (decode(code, y) - R).square().sum((-1, -2))
        elif loss == "geodesic":
            each = rotations.geodesic_angle(decode(code, y), R)
        else:
            target = encode("quaternion" if code == RANDOM_SIGN else code, R)
            if code == RANDOM_SIGN:
                coin = torch.stack([torch.randint(0, 2, R.shape[1:2], generator=g) for g in coins]).to(R.device)
                target = target * (2 * coin - 1).unsqueeze(-1)
            each = (y - target).square().sum(-1)
        return each.mean(-1).sum()

    return objective


@torch.no_grad()
def predict(code: str, network: nn.Module, R: Tensor) -> Tensor:
    """Decode the network's answer to the rotations R (B, 3, 3): (K, B, 3, 3) for a stack, (B, 3, 3) for a member.

    "raw9" is projected to the nearest rotation here, and only here; "quaternion_random_sign" decodes as a quaternion.

    >>> predict("6d", StackedMLP([9, 8, 6], [0, 1]), torch.eye(3).expand(5, 3, 3)).shape
    torch.Size([2, 5, 3, 3])
    """
    _width(code)
    return decode({"raw9": "9d", RANDOM_SIGN: "quaternion"}.get(code, code), network(R.flatten(-2)))


def errors(code: str, network: nn.Module, R: Tensor) -> Tensor:
    """Angles in degrees between predictions and the rotations R, (B, 3, 3) or one batch per member (K, B, 3, 3).

    Returns (K, B) for a stack, (B,) for a member.

    >>> errors("6d", StackedMLP([9, 8, 6], [0, 1]), torch.eye(3).expand(5, 3, 3)).shape
    torch.Size([2, 5])
    """
    return torch.rad2deg(rotations.geodesic_angle(predict(code, network, R), R))


def summary(degrees: Tensor) -> dict[str, Tensor]:
    """Per-member mean, 99 % and 99.9 % quantile, maximum, and percentage above 30 degrees of errors (K, B).

    >>> summary(torch.tensor([[0.0, 40.0]]))["above 30 (%)"]
    tensor([50.])
    """
    quantiles = torch.quantile(degrees, torch.tensor([0.99, 0.999], dtype=degrees.dtype), dim=-1)
    return {
        "mean": degrees.mean(-1),
        "p99": quantiles[0],
        "p99.9": quantiles[1],
        "max": degrees.amax(-1),
        "above 30 (%)": 100 * (degrees > 30).to(degrees.dtype).mean(-1),
    }


# ------------------------------------------------------------------------------------- the 180-degree theorem


def random_loops(n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw n full-turn loops R0 exp(t [axis]x): Haar R0 (n, 3, 3) and uniform unit axis (n, 3), float64.

    >>> [tuple(x.shape) for x in random_loops(4, torch.Generator().manual_seed(0))]
    [(4, 3, 3), (4, 3)]
    """
    start = rotations.random_rotations(n, generator=generator, dtype=torch.float64)
    axis = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return start, nn.functional.normalize(axis, dim=-1)


def along_loop(R0: Tensor, axis: Tensor, t: Tensor) -> Tensor:
    """Rotations R0 exp(t [axis]x) for R0 (*n, 3, 3), axis (*n, 3) and t (*n, *points) in radians: (*n, *points, 3, 3).

    >>> R0, axis = random_loops(2, torch.Generator().manual_seed(0))
    >>> along_loop(R0, axis, torch.zeros(2, 7, dtype=torch.float64)).shape
    torch.Size([2, 7, 3, 3])
    """
    n = axis.shape[:-1]
    if t.shape[: len(n)] != n:
        raise ValueError(f"t has shape {tuple(t.shape)}; its first dimensions must be those of the loops, {tuple(n)}")
    ones = (1,) * (t.ndim - len(n))
    return rotations.exp(R0.reshape(*n, *ones, 3, 3), t.unsqueeze(-1) * axis.reshape(*n, *ones, 3))


def lift(code: str, y: Tensor) -> Tensor:
    """Continuous map L from code numbers y (..., k) to unit quaternions (..., 4), w first, with rot(L(y)) = decode(y).

    quaternion y/|y|; rotvec (cos |v|/2, sin(|v|/2) v/|v|); axis_angle (cos a/2, sin(a/2) n/|n|); euler the product of
    three half-angle quaternions. The other codes have no such lift (their domain keeps the loop of SO(3)): ValueError.

    >>> lift("rotvec", torch.zeros(3))
    tensor([1., 0., 0., 0.])
    """
    if code not in LIFTED:
        raise ValueError(f"code {code!r} has no continuous lift to unit quaternions; choose one of {', '.join(LIFTED)}")
    if code == "quaternion":
        return nn.functional.normalize(y, dim=-1)
    if code == "rotvec":
        half = torch.linalg.vector_norm(y, dim=-1, keepdim=True) / 2
        return torch.cat([half.cos(), torch.sinc(half / pi) * y / 2], -1)  # torch.sinc(x) is sin(pi x)/(pi x)
    if code == "axis_angle":
        return _turn(y[..., 0], nn.functional.normalize(y[..., 1:], dim=-1))
    yaw, pitch, roll = (_turn(y[..., i], y.new_tensor([i == 2, i == 1, i == 0])) for i in range(3))
    return _multiply(_multiply(yaw, pitch), roll)


def _turn(angle: Tensor, axis: Tensor) -> Tensor:
    """Quaternion (cos a/2, sin(a/2) axis) of the turn by `angle` (...) about a unit axis (..., 3)."""
    half = angle.unsqueeze(-1) / 2
    return torch.cat([half.cos(), half.sin() * axis], -1)


def _multiply(p: Tensor, q: Tensor) -> Tensor:
    """Quaternion product, w first."""
    v, u = p[..., 1:], q[..., 1:]
    w = p[..., :1] * q[..., :1] - (v * u).sum(-1, keepdim=True)
    return torch.cat([w, p[..., :1] * u + q[..., :1] * v + torch.linalg.cross(*torch.broadcast_tensors(v, u))], -1)


class Crossing(NamedTuple):
    """Where a regressor is exactly wrong: t (n,) in radians, error (n,) in degrees, the rotations (n, 3, 3)."""

    t: Tensor
    error_degrees: Tensor
    rotation: Tensor


@torch.no_grad()
def crossing(code: str, member: nn.Module, R0: Tensor, axis: Tensor, halvings: int = 50) -> Crossing:
    """Find on every loop a rotation where the regressor is wrong by 180 degrees.

    Along the loop the true quaternion q(t) = q0 (cos t/2, sin(t/2) axis) ends at -q(0), while the network's lifted
    answer L(net(R(t))) returns to its start. So s(t) = <L, q> ends at -s(0) and vanishes on the way; the error is
    2 acos |s|, i.e. exactly 180 degrees there. Bisection of s in float64 (the network is copied to double); the error
    is measured with the decoder, not with s. Valid for ANY continuous network whose output avoids the decoder's
    singular set (y = 0, axis = 0). Raises ValueError for codes without a lift.

    >>> R0, axis = random_loops(3, torch.Generator().manual_seed(0))
    >>> found = crossing("quaternion", StackedMLP([9, 8, 4], [0]).member(0), R0, axis)
    >>> [round(e, 6) for e in found.error_degrees.tolist()]
    [180.0, 180.0, 180.0]
    """
    network = deepcopy(member).double()
    q0 = rotations.to_quaternion(R0)

    def overlap(t: Tensor) -> Tensor:
        answer = lift(code, network(along_loop(R0, axis, t).flatten(-2)))
        return (answer * _multiply(q0, _turn(t, axis))).sum(-1)

    low, high = torch.zeros_like(axis[..., 0]), torch.full_like(axis[..., 0], 2 * pi)
    start = overlap(low).sign()
    for _ in range(halvings):
        middle = (low + high) / 2
        before = overlap(middle) * start > 0
        low, high = torch.where(before, middle, low), torch.where(before, high, middle)
    t = (low + high) / 2
    rotation = along_loop(R0, axis, t)
    return Crossing(t, errors(code, network, rotation), rotation)


@torch.no_grad()
def worst_on_loops(code: str, member: nn.Module, R0: Tensor, axis: Tensor, points: int = 360) -> Tensor:
    """Largest error in degrees (n,) among `points` equally spaced rotations of each loop, any code, float64.

    >>> R0, axis = random_loops(3, torch.Generator().manual_seed(0))
    >>> worst_on_loops("6d", StackedMLP([9, 8, 6], [0]).member(0), R0, axis, points=8).shape
    torch.Size([3])
    """
    t = torch.arange(points, dtype=axis.dtype) * (2 * pi / points)
    return errors(code, deepcopy(member).double(), along_loop(R0, axis, t.expand(*axis.shape[:-1], points))).amax(-1)


# -------------------------------------------------------------------------------------- exact small experiments


class Noise(NamedTuple):
    """Squared Frobenius errors (n,) and angles (n,) in radians of two projections of the same noisy matrices."""

    svd: Tensor
    gram_schmidt: Tensor
    svd_angle: Tensor
    gram_schmidt_angle: Tensor


def noise_trial(sigma: float, n: int, generator: torch.Generator | None = None) -> Noise:
    """Project n noisy matrices R + sigma N (R Haar, N standard Gaussian 3 x 3) by SVD and by Gram-Schmidt, float64.

    To first order E|SVD - R|_F^2 = 3 sigma^2 and E|GS - R|_F^2 = 6 sigma^2 (Levinson et al. 2020, p. 4).

    >>> trial = noise_trial(0.01, 1000, torch.Generator().manual_seed(0))
    >>> bool(trial.svd.mean() < trial.gram_schmidt.mean())
    True
    """
    R = rotations.random_rotations(n, generator=generator, dtype=torch.float64)
    M = R + sigma * torch.randn(n, 3, 3, generator=generator, dtype=torch.float64)
    svd, gram_schmidt = rotations.from_9d(M.flatten(-2)), rotations.from_6d(M[..., :2].mT.flatten(-2))
    return Noise(
        (svd - R).square().sum((-1, -2)),
        (gram_schmidt - R).square().sum((-1, -2)),
        rotations.geodesic_angle(svd, R),
        rotations.geodesic_angle(gram_schmidt, R),
    )


class Ratios(NamedTuple):
    """|g(R) - g(R')| / t for Haar-random pairs (n,) and for pairs that straddle the classical cuts (3 n,)."""

    random: Tensor
    at_cuts: Tensor


def lipschitz_ratios(code: str, distance: float, n: int, generator: torch.Generator | None = None) -> Ratios:
    """Ratios |g(R) - g(R')| / t for pairs of rotations at geodesic distance t = `distance` (radians), float64.

    After Geist et al. (2024). `random`: R Haar, R' = R exp(t axis). `at_cuts`, the same pairs for every code,
    so that the supremum does not hang on luck: pairs on both sides of a half turn, of yaw = pi, and of the identity.
    A continuous g has bounded ratios on a compact group if it is Lipschitz (6d, 9d: at most sqrt 2).

    >>> bool(lipschitz_ratios("9d", 0.01, 100, torch.Generator().manual_seed(0)).at_cuts.max() < 2**0.5 + 1e-9)
    True
    """
    R, axis = random_loops(n, generator)
    t = torch.full((n,), float(distance), dtype=torch.float64)
    half, identity = torch.full_like(t, pi), torch.eye(3, dtype=torch.float64).expand(n, 3, 3)
    middle = rotations.to_euler(R)
    yaw = [rotations.from_euler(torch.stack([half + s * t / 2, *middle[:, 1:].unbind(-1)], -1)) for s in (-1, 1)]
    turn = [along_loop(identity, axis, half + s * t / 2) for s in (-1, 1)]
    small = [along_loop(identity, axis, s * t / 2) for s in (-1, 1)]

    def ratio(a: Tensor, b: Tensor) -> Tensor:
        return torch.linalg.vector_norm(encode(code, a) - encode(code, b), dim=-1) / distance

    return Ratios(ratio(R, along_loop(R, axis, t)), torch.cat([ratio(*pair) for pair in (turn, yaw, small)]))


def confidence(M: Tensor) -> tuple[Tensor, Tensor]:
    """Spectrum (..., 4), ascending, of Davenport's K(M) for matrices M (..., 3, 3), and its top gap (...).

    The eigenvalues are s1+s2+s3', s1-s2-s3', -s1+s2-s3', -s1-s2+s3' with the signed singular values s' of M; the gap
    2 (s2 + s3') is the denominator of the gradient of the SVD projection, and 0 where the projection is undefined.
    It is 4 for a rotation.

    >>> round(float(confidence(torch.eye(3))[1]), 4)
    4.0
    """
    spectrum = torch.linalg.eigvalsh(rotations.davenport_matrix(M))
    return spectrum, spectrum[..., 3] - spectrum[..., 2]


@torch.no_grad()
def confidence_curve(network: nn.Module, R: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean gap and mean error in degrees (K, 10) in the tenths of the inputs with the smallest to the largest gap.

    `network` maps the inputs (B, 9) to nine numbers M, for the rotations R (B, 3, 3) behind them; `nn.Identity()`
    judges the inputs themselves and gives (10,). If the gap is a confidence, errors fall from left to right. A network
    trained as "raw9" approaches the mean of R given the input, which shrinks with doubt; through the decoder the size
    of M, and so its gap, is not seen by the loss.

    >>> R = rotations.random_rotations(100, generator=torch.Generator().manual_seed(0))
    >>> confidence_curve(nn.Identity(), R, R.flatten(-2))[0].shape
    torch.Size([10])
    """
    M = network(inputs)
    gap = confidence(M.unflatten(-1, (3, 3)))[1]
    degrees = torch.rad2deg(rotations.geodesic_angle(rotations.from_9d(M), R))
    order = gap.argsort(-1)[..., : gap.shape[-1] // 10 * 10]
    tenths = [values.gather(-1, order).unflatten(-1, (10, -1)).mean(-1) for values in (gap, degrees)]
    return tenths[0], tenths[1]


def other_sheet_share(network: nn.Module, R: Tensor) -> Tensor:
    """Share (K,) of the rotations R (B, 3, 3) that a quaternion network answers with -q, q the canonical one (w >= 0).

    On rotations that stay below 180 degrees a continuous regressor may use one sheet only: share 0 or 1. Anything
    between means that the network has cut the set in two, with errors of 180 degrees along the cut.

    >>> one_sheet = nn.Linear(9, 4)
    >>> _ = nn.init.zeros_(one_sheet.weight), nn.init.constant_(one_sheet.bias, -1.0)
    >>> float(other_sheet_share(one_sheet, torch.eye(3).expand(5, 3, 3)))
    1.0
    """
    answer = network(R.flatten(-2)).detach()
    return ((answer * rotations.to_quaternion(R)).sum(-1) < 0).to(answer.dtype).mean(-1)


def bingham_from_matrix(M: Tensor) -> Tensor:
    """Ten numbers (..., 10), row-major upper triangle of A = -K(M), such that from_10d(them) = from_9d(M).

    So the 10D map is the 9D map in rotated coordinates plus the trace of A, which no rotation depends on.

    >>> M = torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> same = rotations.from_10d_eigh(bingham_from_matrix(M)) - rotations.from_9d_svd(M.flatten(-2))
    >>> bool(same.abs().max() < 1e-9)
    True
    """
    row, column = torch.triu_indices(4, 4)
    return -rotations.davenport_matrix(M)[..., row, column]


def interactive_networks(steps: int, hidden: int = 32, seed: int = 0) -> dict[str, Any]:
    """Train small 9-h-h-k networks for the figure that readers drag: quaternion and 6d, weights to 4 digits.

    Returns {"networks": {code: [{"weight": out x in, "bias": out}, ...]}, "slope": 0.01}, ready for JSON.

    >>> [len(layer["bias"]) for layer in interactive_networks(2, hidden=8)["networks"]["6d"]]
    [8, 8, 6]
    """
    trained = train(["quaternion", "6d"], [seed], steps=steps, hidden=hidden, layers=2)

    def layers(network: StackedMLP) -> list[dict[str, Any]]:
        linear = [layer for layer in network.member(0) if isinstance(layer, nn.Linear)]
        return [{"weight": _rounded(layer.weight.tolist()), "bias": _rounded(layer.bias.tolist())} for layer in linear]

    return {"networks": {code: layers(network) for code, network in trained.items()}, "slope": 0.01}


def interactive_errors(exported: dict[str, Any], code: str, R: Tensor) -> Tensor:
    """Errors in degrees (...) of one exported network on the rotations R (..., 3, 3), evaluated as the figure does.

    >>> interactive_errors(interactive_networks(2, hidden=8), "6d", torch.eye(3).expand(5, 3, 3)).shape
    torch.Size([5])
    """
    layers = exported["networks"][code]
    y = R.flatten(-2)
    for depth, layer in enumerate(layers):
        y = y @ y.new_tensor(layer["weight"]).mT + y.new_tensor(layer["bias"])
        if depth < len(layers) - 1:
            y = nn.functional.leaky_relu(y, exported["slope"])
    return rotations.geodesic_angle(decode(code, y), R).rad2deg()


def _rounded(values: Any) -> Any:
    return [_rounded(v) for v in values] if isinstance(values, list) else float(f"{values:.4g}")


def sanity_as_released(
    seeds: Sequence[int],
    codes: Sequence[str] = ("6d", "5d", "quaternion", "axis_angle", "euler"),
    *,
    device: str | torch.device = "cpu",
    progress: bool = True,
    **schedule: Any,
) -> dict[str, Any]:
    """Run the sanity test with the long schedule of the released script and summarise it, ready for JSON.

    One row a code: errors in degrees on Haar test rotations, averaged over the seeds. `schedule` overrides entries of
    `SETTINGS["full"]["sanity_as_released"]`.

    >>> rows = sanity_as_released([0], ["6d"], progress=False, steps=4, hidden=8)["errors in degrees"]
    >>> sorted(rows[0])
    ['above 30 (%)', 'code', 'max', 'mean', 'p99', 'p99.9']
    """
    schedule = {**SETTINGS["full"]["sanity_as_released"], **schedule}
    networks = train(codes, seeds, device=device, progress=progress, **schedule)
    generator = torch.Generator().manual_seed(2**31 - 1)
    R = rotations.random_rotations(SETTINGS["full"]["test_rotations"], generator=generator).to(device)
    rows = []
    for code, network in networks.items():
        row = {name: round(float(value.mean()), 4) for name, value in summary(errors(code, network, R).cpu()).items()}
        rows.append({"code": code, **row})
    settings = {name: value for name, value in schedule.items() if isinstance(value, int | float | str)}
    return {**settings, "seeds": len(seeds), "errors in degrees": rows}


# ------------------------------------------------------- wrong variants and defects of the released code
# Found by reading the public repository papagina/RotationContinuity at commit 758b0ce (September 2020, its last change
# of code). Each function is ours and does what the named lines do, in this book's conventions.


def axis_angle_full_angle_released(x: Tensor) -> Tensor:
    """Decode (angle, axis) with theta where theta/2 belongs: the result turns by twice the angle.

    `compute_rotation_matrix_from_axisAngle` of shapenet/code and Inverse_Kinematics/code, and the three-number
    "Rodriguez" decoder everywhere; commit 758b0ce repairs sanity_test/code only. We leave out its pi tanh(.) of x0.

    >>> R = axis_angle_full_angle_released(torch.tensor([0.5, 0.0, 0.0, 1.0]))
    >>> round(float(rotations.geodesic_angle(R, torch.eye(3))), 4)
    1.0
    """
    return rotations.from_quaternion(_turn(2 * x[..., 0], nn.functional.normalize(x[..., 1:], dim=-1)))


def half_quaternion_released(x: Tensor) -> Tensor:
    """Decode the "half quaternion": multiply by sign(last number) + 0.5, then normalise. It does nothing.

    `Quaternion_half` in sanity_test/code/model.py (commit 758b0ce): the factor is 1.5 or -0.5, and q, -q and 3 q are
    the same rotation; besides, the last number is z, while the half sphere that was meant has w >= 0.

    >>> x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    >>> bool(torch.allclose(half_quaternion_released(x), rotations.from_quaternion(x), atol=1e-6))
    True
    """
    return rotations.from_quaternion(x * (torch.sign(x[..., 3:]) + 0.5))


def euler_sin_cos_released(x: Tensor) -> Tensor:
    """Decode six numbers as (sin, cos) of three angles after tanh, without normalising the pairs: not a rotation.

    `euler_sin_cos` in sanity_test/code (commit 758b0ce), intrinsic XZY with the order (x, z, y) of their code.

    >>> R = euler_sin_cos_released(torch.ones(6))
    >>> bool((R.mT @ R - torch.eye(3)).abs().max() > 0.1)
    True
    """
    s1, c1, s2, c2, s3, c3 = torch.tanh(x).unbind(-1)
    rows = (
        (c2 * c3, -s2, c2 * s3),
        (c1 * s2 * c3 + s1 * s3, c1 * c2, c1 * s2 * s3 - s1 * c3),
        (s1 * s2 * c3 - c1 * s3, s1 * c2, s1 * s2 * s3 + c1 * c3),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def trained_by_released_script(code: str) -> str:
    """Name of the model that the released sanity script trains in the block that is labelled `code`.

    The last three blocks of sanity_test/code/train.py (commit 758b0ce, issue 10 there) build their own model and then
    pass `model_emp` or `model_emg`, the Euler networks of an earlier block, to `train`.

    >>> trained_by_released_script("Rodriguez-vectors"), trained_by_released_script("ortho6d")
    ('euler', 'ortho6d')
    """
    passed = {code: code for code in ("ortho6d", "ortho5d", "Quaternion", "AxisAngle", "euler")}
    passed |= dict.fromkeys(("Rodriguez-vectors", "euler_sin_cos", "Quaternion_half"), "euler")
    if code not in passed:
        raise ValueError(f"code is {code!r}; the released script has blocks for {', '.join(passed)}")
    return passed[code]


def angle_arccos(a: Tensor, b: Tensor) -> Tensor:
    """Angle acos((tr(a b^T) - 1)/2), cosine clamped to [-1, 1]: infinite gradient at a perfect prediction.

    `compute_geodesic_distance_from_two_matrices`, all folders (commit 758b0ce, issue 11 there). In float32 it also
    loses half of the digits near 0 and near pi.

    >>> round(float(angle_arccos(torch.eye(3), torch.eye(3))), 4)
    0.0
    """
    return torch.acos((((a * b).sum((-1, -2)) - 1) / 2).clamp(-1, 1))
