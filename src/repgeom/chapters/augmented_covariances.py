"""Experiments of the page *How far back should a covariance look?*: EEG and EMG with delays, and SPD-valued responses.

Carrara & Papadopoulo, "Classification of BCI-EEG based on augmented covariance matrix" (2302.04508); Wang et al.,
"Learning to Normalize on the SPD Manifold under Bures-Wasserstein Geometry" (CVPR 2025, GBWBN) with Brooks et al. 2019
(SPDNetBN) and Chen et al. 2024 (LieBN); Yuan, Wang & Yu, "Frechet Cumulative Covariance Net" (2502.15374).
Signals are (..., C, T): channel, sample. Covariances are double precision.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from repgeom import data
from repgeom.data.store import checkpoints as checkpoints
from repgeom.manifolds.spd import affine_invariant, bures_wasserstein, inv_sqrtm, log_euclidean
from repgeom.nn.spd import LogEig, SPDBatchNorm, SPDNet
from repgeom.optim import RiemannianAdam, fit, parameter_groups

RATE = 125  # samples a second
FREQUENCIES = (12.0, 10.0, 8.57, 7.5, 6.66)  # Hz: the flicker of labels 0 to 4, as their spectra show it
SESSIONS = torch.arange(500) // 100  # of each segment: five sessions of 100 one-second segments
RIDGE = 1e-5  # of the released network: added to the diagonal of its covariance

# What stands where the normalisation stands. Gradients flow through the batch's mean and variance in all of them.
METHODS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "SPDNetBN": {"metric": "affine_invariant", "dispersion": False},
    "LieBN AIM": {"metric": "affine_invariant", "congruence": "cholesky"},
    "LieBN LEM": {"metric": "log_euclidean"},
    "LieBN LCM": {"metric": "log_cholesky"},
    "GBWBN": {"metric": "bures_wasserstein"},
}

# Every schedule of the page in one place. "table" is the long run behind the stored result.
_CI: dict[str, Any] = {
    "dial": {"subjects": (1, 3, 6, 9, 11), "orders": (1, 2, 4, 8)},
    "ssvep": {"subjects": (1, 6, 11), "splits": 1, "steps": 80},
    "emg": {"steps": 80},
    "fccov": {"n": 300, "steps": 150, "shuffles": 199},
    "table": {"subjects": tuple(range(1, 12)), "splits": 10, "steps": 150},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {
        "dial": {"subjects": (1, 6, 11), "orders": (1, 2)},
        "ssvep": {"subjects": (1, 6, 11), "splits": 1, "steps": 2},
        "emg": {"steps": 2},
        "fccov": {"n": 60, "steps": 3, "shuffles": 9},
        "table": {"subjects": (11,), "splits": 1, "steps": 2},
    },
    "ci": _CI,
    "full": _CI,
}


# ------------------------------------------------------------------------------------------- signals and their delays


def stand_in_ssvep(subjects: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Generated trials (S, 500, 8, 125) and labels (500,): slow noise and a flicker with a harmonic; runs of four.

    Results on them are never reported as results on real EEG.

    >>> stand_in_ssvep(1, torch.Generator().manual_seed(0))[0].shape
    torch.Size([1, 500, 8, 125])
    """
    session = torch.cat([torch.full((k,), c) for c, k in enumerate((5, 5, 6, 5, 4))])
    runs = torch.cat([session[torch.randperm(25, generator=generator)] for _ in range(5)])
    noise = torch.randn(subjects, 125, 8, 520, generator=generator, dtype=torch.float64)
    slow = noise.cumsum(-1)
    slow = slow - nn.functional.avg_pool1d(slow.flatten(0, 2)[:, None], 41, 1, 20)[:, 0].view_as(slow)
    mixing = torch.randn(subjects, 1, 8, 8, generator=generator, dtype=torch.float64) / 3
    phase = 6.2832 * torch.rand(subjects, 125, 1, 1, generator=generator, dtype=torch.float64)
    angle = 6.2832 * torch.tensor(FREQUENCIES)[runs][:, None, None] * torch.arange(500) / RATE + phase
    loud = torch.rand(subjects, 1, 8, 1, generator=generator, dtype=torch.float64)
    x = mixing @ slow[..., 10:510] + 0.7 * loud * (angle.cos() + 0.5 * (2 * angle).cos())
    return x.unflatten(-1, (4, 125)).transpose(2, 3).flatten(1, 2), runs.repeat_interleave(4)


def load_ssvep(subjects: Sequence[int], generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, bool]:
    """Trials (S, 500, 8, 125), labels (500,), and whether they are the real ones; stand-ins without the data."""
    try:
        real = data.load("mamem_ssvep", progress=False, subjects=list(subjects))
    except data.DataUnavailable:
        return *stand_in_ssvep(len(subjects), generator), False
    return torch.from_numpy(real.trials), torch.from_numpy(real.labels[0]), True


def delay_embedding(x: Tensor, order: int, lag: int = 1) -> Tensor:
    """Stack x(t), x(t - lag), ..., x(t - (order - 1) lag): (..., C, T) -> (..., order * C, T - (order - 1) lag).

    Only times at which all delays exist are kept: nothing is rolled around from the end of the signal to its start.

    >>> delay_embedding(torch.arange(5.0)[None], order=2, lag=2)
    tensor([[2., 3., 4.],
            [0., 1., 2.]])
    """
    T = x.shape[-1]
    first = (order - 1) * lag
    if order < 1 or lag < 1 or first > T - 2:
        raise ValueError(
            f"order, lag: received {order} and {lag} for {T} samples; valid are order >= 1, lag >= 1 and at least two "
            "samples with all delays. Repair: a lower order or lag."
        )
    return torch.cat([x[..., first - k * lag : T - k * lag] for k in range(order)], dim=-2)


def covariance(x: Tensor, ridge: float = 0.0) -> Tensor:
    """Covariances (..., C, C) over time of signals (..., C, T), centred, with divisor T - 1, plus ridge * identity."""
    x = x.double()
    x = x - x.mean(-1, keepdim=True)
    S = x @ x.mT / (x.shape[-1] - 1)
    return S + ridge * torch.eye(S.shape[-1], dtype=S.dtype) if ridge else S


def augmented_covariance(x: Tensor, order: int, lag: int = 1, ridge: float = 0.0) -> Tensor:
    """Covariances (..., order * C, order * C) of signals (..., C, T) with their delays.

    >>> augmented_covariance(torch.tensor([[0.0, 1.0, 0.0, -1.0, 0.0]]), order=2).shape
    torch.Size([2, 2])
    """
    return covariance(delay_embedding(x, order, lag), ridge)


def autocovariances(x: Tensor, lags: int) -> Tensor:
    """Mean over trials and times of x(t) x(t - k) for k = 0 ... lags: signals (N, C, T) -> (C, lags + 1)."""
    x = x - x.mean(-1, keepdim=True)
    return torch.stack([(x[..., k:] * x[..., : x.shape[-1] - k]).mean((0, 2)) for k in range(lags + 1)], -1)


# --------------------------------------------------------------------------------------------- the dial: four readings


def tangent_accuracy(X: Tensor, labels: Tensor, train: Tensor) -> float:
    """Accuracy of logistic regression on log(G^-1/2 X G^-1/2), G the affine-invariant mean of what is trained on.

    The features are turned into the (at most as many as matrices) directions that training spans: with an L2 penalty
    the weights have no part outside, so nothing changes but the time.
    """
    from sklearn.linear_model import LogisticRegression

    whiten = inv_sqrtm(affine_invariant.mean(X[train], steps=1))
    V = LogEig()(whiten @ X @ whiten)
    V = V @ torch.linalg.svd(V[train], full_matrices=False).Vh.mT
    model = LogisticRegression(max_iter=200).fit(V[train].numpy(), labels[train].numpy())
    return float(model.score(V[~train].numpy(), labels[~train].numpy()))


def nearest_mean_accuracy(space: Any, X: Tensor, labels: Tensor, train: Tensor) -> float:
    """Accuracy of the nearest class mean under a metric; means by one step where there is no closed form."""
    steps = {} if space is log_euclidean else {"steps": 1}
    means = [space.mean(X[train & (labels == k)], **steps) for k in labels.unique()]
    nearest = torch.stack([space.distance(X[~train], G) for G in means]).argmin(0)
    return float((labels.unique()[nearest] == labels[~train]).double().mean())


READINGS: dict[str, Callable[[Tensor, Tensor, Tensor], float]] = {
    "tangent space": tangent_accuracy,
    "nearest mean, AIM": lambda *a: nearest_mean_accuracy(affine_invariant, *a),
    "nearest mean, LEM": lambda *a: nearest_mean_accuracy(log_euclidean, *a),
    "nearest mean, BW": lambda *a: nearest_mean_accuracy(bures_wasserstein, *a),
}


def dial(trials: Tensor, labels: Tensor, orders: Sequence[int], train: Tensor) -> dict[str, Tensor]:
    """Accuracies (S, len(orders)) of every reading, and "condition": the median condition number, for S subjects."""
    table: dict[str, list[list[float]]] = {name: [] for name in (*READINGS, "condition")}
    for x in trials:
        covariances = [augmented_covariance(x, order) for order in orders]
        for name, read in READINGS.items():
            table[name].append([read(X, labels, train) for X in covariances])
        table["condition"].append([float(torch.linalg.cond(X).median()) for X in covariances])
    return {name: torch.tensor(rows, dtype=torch.float64) for name, rows in table.items()}


# ------------------------------------------------------------------------------------------------ the released network


class SsvepNet(nn.Module):
    r"""The released MAMEM network: convolutions with batch norm, a 15 x 15 covariance, SPDNet 15 -> 12, five classes.

    Everything before the covariance is linear, so :meth:`covariances` composes it into one convolution with 15 x 8 x 36
    numbers; :meth:`plain` runs it layer by layer.
    """

    def __init__(self, norm: dict[str, Any] | None, seed: int, channels: int = 8, taps: int = 36) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # nn.Conv2d takes no generator
            self.conv1 = nn.Conv2d(1, 125, (channels, 1))
            self.conv2 = nn.Conv2d(125, 15, (1, taps), padding=(0, taps // 2))
        self.norm1, self.norm2 = nn.BatchNorm2d(125), nn.BatchNorm2d(15)
        layer = None if norm is None else lambda n: SPDBatchNorm(n, dtype=torch.float64, **norm)
        generator = torch.Generator().manual_seed(seed)
        self.spd = SPDNet([15, 12], 5, layer, threshold=1e-5, generator=generator, dtype=torch.float64)
        self.taps = taps

    def plain(self, x: Tensor) -> Tensor:
        """Covariances (N, 15, 15) of signals (N, C, T) layer by layer: the slow, obvious twin."""
        y = self.norm1(self.conv1(x.to(self.conv1.weight.dtype)[:, None]))
        return covariance(self.norm2(self.conv2(y))[:, :, 0], RIDGE)

    def composed(self, level: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """The first three layers as one: filters (15, C, taps), and those of the constant one (15, 1, taps)."""
        W, K = self.conv1.weight[:, 0, :, 0], self.conv2.weight[:, :, 0]
        slope = self.norm1.weight / (var + self.norm1.eps).sqrt()
        filters = torch.einsum("ofk,fc->ock", K, slope[:, None] * W)
        shift = slope * (_bias(self.conv1) - level) + self.norm1.bias
        return filters, torch.einsum("ofk,f->ok", K, shift)[:, None]

    def covariances(self, x: Tensor) -> Tensor:
        """The same covariances from one convolution."""
        x, pad, W = x.to(self.conv1.weight.dtype), self.taps // 2, self.conv1.weight[:, 0, :, 0]
        if self.training:  # W x + b has mean W m + b and variance diag(W S W^T), with mean m and covariance S of x
            flat = x.transpose(0, 1).flatten(1)
            mean = flat.mean(1)
            flat = flat - mean[:, None]
            S = flat @ flat.T / flat.shape[1]
            level, var = W @ mean + _bias(self.conv1), ((W @ S) * W).sum(1)
            _remember(self.norm1, level, var, flat.shape[1])
        else:
            level, var = _statistics(self.norm1)
        filters, constant = self.composed(level, var)
        inside = x.new_ones(1, 1, x.shape[-1])  # a constant before zero padding is not a constant after it
        y = nn.functional.conv1d(x, filters, padding=pad) + nn.functional.conv1d(inside, constant, padding=pad)
        if self.training:
            level = y.mean((0, 2))
            var = (y - level[:, None]).square().mean((0, 2))
            _remember(self.norm2, level + _bias(self.conv2), var, y[:, 0].numel())
        else:
            _, var = _statistics(self.norm2)
        return covariance(y * (self.norm2.weight / (var + self.norm2.eps).sqrt())[:, None], RIDGE)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (N, 5) of signals (N, C, T)."""
        return self.spd(self.covariances(x))


def _bias(layer: nn.Conv2d) -> Tensor:
    return cast(Tensor, layer.bias)


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    return cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)


@torch.no_grad()
def _remember(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor, n: int) -> None:
    """Update the running statistics as the layer itself would: with the unbiased variance of n numbers."""
    running_mean, running_var = _statistics(norm)
    running_mean.lerp_(mean, cast(float, norm.momentum))
    running_var.lerp_(var * (n / (n - 1)), cast(float, norm.momentum))


def session_splits(n: int) -> list[tuple[int, int, int]]:
    """The first n of the ten ways to choose three training sessions of five.

    >>> session_splits(10)[0], session_splits(10)[-1]
    ((0, 1, 2), (2, 3, 4))
    """
    return list(combinations(range(5), 3))[:n]


def train_ssvep(
    norm: dict[str, Any] | None, x: Tensor, labels: Tensor, train: Tensor, seed: int, steps: int, batch: int = 30
) -> SsvepNet:
    """The network after `steps` Riemannian Adam steps (peak rate 0.01, one cycle) on the segments `train` (500,).

    Weights and batches depend on the seed only: all methods start equal and see the same segments.
    """
    network, generator = SsvepNet(norm, seed), torch.Generator().manual_seed(seed)
    x, labels = x[train].float(), labels[train]

    def loss(step: int) -> Tensor:
        some = torch.randperm(len(x), generator=generator)[:batch]
        return nn.functional.cross_entropy(network(x[some]), labels[some])

    optimizer = RiemannianAdam(parameter_groups(network, lr=1e-2))
    fit(network.parameters(), loss, steps, optimizer=optimizer)
    return network.eval()


@torch.no_grad()
def judge_ssvep(network: SsvepNet, x: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy; condition numbers of what enters the normalisation (median, 95th percentile); those of M and G."""
    X = network.covariances(x)
    bimap, norm = network.spd.features[0], network.spd.features[1]
    entering = torch.linalg.cond(bimap(X))
    found = {
        "accuracy": float((network.spd(X).argmax(1) == labels).double().mean()),
        "entering": float(entering.median()),
        "entering95": float(entering.quantile(0.95)),
    }
    if isinstance(norm, SPDBatchNorm):
        found["G"] = float(torch.linalg.cond(norm.bias))
        found["folded"] = float(norm.folded)
        if isinstance(norm.metric_matrix, nn.Parameter):
            found["M"] = float(torch.linalg.cond(norm.metric_matrix))
    return found


def ssvep_table(
    subjects: Sequence[int],
    trials: Tensor,
    labels: Tensor,
    splits: int,
    steps: int,
    seed: int = 0,
    folder: Path | None = None,
    progress: bool = False,
) -> dict[str, dict[str, dict[str, float]]]:
    """Every method on every split of every subject: table["11:0"]["none"]["accuracy"], the key is subject:split.

    With a folder each finished subject and split is kept there, and taken from there when the run starts again with
    the same schedule and code. A training that fails is marked "failed" and gets the share of the largest class.
    """
    parts: list[Any] = [SsvepNet, train_ssvep, judge_ssvep]
    code = "".join(inspect.getsource(part) for part in parts) + str(METHODS)
    schedule = {"steps": steps, "seed": seed, "code": hashlib.sha256(code.encode()).hexdigest()}
    jobs = [(s, k, split) for s in range(len(subjects)) for k, split in enumerate(session_splits(splits))]
    table = {}
    for s, k, split in _bar(jobs, "subject and split") if progress else jobs:
        key = f"{subjects[s]}:{k}"
        kept = folder / f"ssvep-{subjects[s]}-{k}.json" if folder else None
        if kept and kept.is_file() and (known := json.loads(kept.read_text()))["schedule"] == schedule:
            table[key] = known["found"]
            continue
        train = torch.isin(SESSIONS, torch.tensor(split))
        found = {}
        for name, norm in METHODS.items():
            try:
                network = train_ssvep(norm, trials[s], labels, train, 1000 * seed + k, steps)
                found[name] = judge_ssvep(network, trials[s][~train], labels[~train])
            except ValueError:  # a matrix left the cone: counted as one class for everything, and marked
                found[name] = {"accuracy": float(labels[~train].bincount().max()) / int((~train).sum()), "failed": 1.0}
        table[key] = found
        if kept:
            part = kept.with_suffix(".part")
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({"schedule": schedule, "found": found}))
            part.replace(kept)
    return table


def loudness(trials: Tensor) -> Tensor:
    """How loud the loud segments of each person (S, 500, C, T) are: 95th percentile of power over its median, (S,)."""
    power = trials.var(-1).mean(-1)
    return power.quantile(0.95, dim=1) / power.median(1).values


def _bar(jobs: list[Any], label: str) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(jobs, desc=label)


def by_subject(table: dict[str, dict[str, dict[str, float]]], what: str = "accuracy") -> dict[str, list[float]]:
    """The mean over splits of every method, one number per subject in the order of the table.

    >>> by_subject({"1:0": {"none": {"accuracy": 0.5}}, "1:1": {"none": {"accuracy": 0.7}}})
    {'none': [0.6]}
    """
    subjects = list(dict.fromkeys(key.split(":")[0] for key in table))
    methods = [name for name, found in next(iter(table.values())).items() if what in found]
    rows = {m: [[f[m] for key, f in table.items() if key.split(":")[0] == s] for s in subjects] for m in methods}
    return {m: [_mean([f[what] for f in row if what in f]) for row in subject] for m, subject in rows.items()}


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


# ----------------------------------------------------------------------------------------------------- forearm muscles


def emg_windows(person: str = "mg", rows: int = 100, stride: int = 400) -> tuple[tuple[Tensor, Tensor, Tensor], ...]:
    """Of both sessions of a person: windows (N, 8, rows) in which one gesture is held, those just before, and labels.

    Windows start every `stride` samples; the one before ends where the window begins.
    """
    emg = data.load("emg", progress=False)
    sessions = []
    for session in ("s1", "s2"):
        here = emg.recordings == emg.recording_names.index(f"{person}_{session}")
        signal, gesture = torch.from_numpy(emg.signal[here]).double(), torch.from_numpy(emg.labels[here])
        pieces, labels = signal.unfold(0, 2 * rows, stride), gesture.unfold(0, 2 * rows, stride)
        one = (labels == labels[:, :1]).all(1)
        sessions.append((pieces[one][..., rows:], pieces[one][..., :rows], labels[one, 0]))
    return tuple(sessions)


def train_emg(
    norm: dict[str, Any] | None, X: Tensor, labels: Tensor, seed: int, steps: int, threshold: float = 1e-10
) -> SPDNet:
    """SPDNet 8 -> 8 after `steps` Riemannian Adam steps (peak rate 0.01, one cycle) on batches of 30."""
    layer = None if norm is None else lambda n: SPDBatchNorm(n, dtype=torch.float64, **norm)
    generator = torch.Generator().manual_seed(seed)
    network = SPDNet([8, 8], 5, layer, threshold=threshold, generator=generator, dtype=torch.float64)

    def loss(step: int) -> Tensor:
        some = torch.randperm(len(X), generator=generator)[:30]
        return nn.functional.cross_entropy(network(X[some]), labels[some])

    optimizer = RiemannianAdam(parameter_groups(network, lr=1e-2))
    fit(network.parameters(), loss, steps, optimizer=optimizer)
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, X: Tensor, labels: Tensor) -> float:
    """Share of matrices (N, n, n) whose class gets the largest score."""
    return float((network(X).argmax(1) == labels).double().mean())


def emg_accuracies(
    methods: Sequence[str], scales: Sequence[float], seeds: Sequence[int], steps: int
) -> dict[str, Tensor]:
    """Accuracies (len(scales), len(seeds)) of every method on signals multiplied by a scale; session 1 to session 2.

    A training that leaves the cone counts as one that answers the largest class.
    """
    (train, _, labels), (test, _, answers) = emg_windows()
    X, Z = covariance(train), covariance(test)

    def score(norm: dict[str, Any] | None, c: float, seed: int) -> float:
        try:
            return accuracy(train_emg(norm, c**2 * X, labels, seed, steps), c**2 * Z, answers)
        except ValueError:
            return float(answers.bincount().max()) / len(answers)

    table = {name: [[score(METHODS[name], c, s) for s in seeds] for c in scales] for name in methods}
    return {name: torch.tensor(rows, dtype=torch.float64) for name, rows in table.items()}


# ------------------------------------------------------------------------------------- responses in a metric space


def neighbourhoods(D: Tensor) -> tuple[Tensor, Tensor]:
    """The order (n, n) of the points by distance to each centre, and (n, n) how many lie within each such distance.

    D (n, n): column j holds the distances to centre j. Equal distances are within each other.
    """
    near, order = D.sort(0)
    within = torch.searchsorted(near.T.contiguous(), near.T.contiguous(), right=True).T
    return order, within


def fccov(X: Tensor, around: tuple[Tensor, Tensor]) -> Tensor:
    r"""Sample FCCov(X | Y): the mean over centres j and radii k of |cov_i(X_i, 1{D_ij <= D_kj})|^2.

    X (n, p), and the neighbourhoods of the responses' distance matrix D: sorting costs O(n^2 log n), the sums O(n^2).

    >>> x = torch.tensor([[0.0], [1.0], [2.0]])
    >>> fccov(x, neighbourhoods((x - x.T).abs())).round(decimals=4)
    tensor(0.0494)
    """
    order, within = around
    sums = (X - X.mean(0))[order].cumsum(0) / len(X)
    return sums.gather(0, (within - 1)[..., None].expand_as(sums)).square().sum(-1).mean()


def coordinate_network(p: int, d: int, seed: int) -> nn.Sequential:
    """An MLP p -> 64 -> 64 -> d with ReLU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(p, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, d))


def train_fccov(X: Tensor, D: Tensor, d: int, seed: int, steps: int) -> nn.Sequential:
    """f: R^p -> R^d that maximises FCCov(f(X) | Y) - 0.1 |cov f(X) - I|_F^2, by Adam on all of the data at once."""
    network, around, eye = coordinate_network(X.shape[1], d, seed), neighbourhoods(D), torch.eye(d)

    def loss(step: int) -> Tensor:
        Z = network(X)
        return 0.1 * (Z.T.cov().reshape(d, d) - eye).square().sum() - fccov(Z, around)

    fit(network.parameters(), loss, steps, lr=1e-2)
    return network


def train_least_squares(X: Tensor, V: Tensor, seed: int, steps: int) -> nn.Sequential:
    """The same network with as many outputs as V (n, q) has columns, fitted to V by least squares."""
    network = coordinate_network(X.shape[1], V.shape[1], seed)
    fit(network.parameters(), lambda step: (network(X) - V).square().mean(), steps, lr=1e-2)
    return network


def first_component(V: Tensor) -> Tensor:
    """(n,) the coordinate of V (n, q) along its direction of largest variance."""
    V = V - V.mean(0)
    return V @ torch.linalg.svd(V, full_matrices=False).Vh[0]


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation of two (n,) tensors without ties.

    >>> round(spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 8.0, 9.0])), 6)
    1.0
    """
    ranks = torch.stack([v.argsort().argsort().double() for v in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


def spd_responses(n: int, seed: int, outliers: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Predictors X (n, 5), the number g = x_1^2 + x_2 that matters, and logarithms (n, 3, 3) of the responses.

    log Y = g A + noise, A = diag(1, 0, -1) / 2 turned by a random rotation; noise 0.3 per entry. A share `outliers` of
    the responses is replaced: log Y becomes 10 times a random symmetric matrix.
    """
    generator = torch.Generator().manual_seed(seed)

    def symmetric(n: int) -> Tensor:
        E = torch.randn(n, 3, 3, generator=generator)
        return (E + E.mT) / 2

    X = torch.randn(n, 5, generator=generator)
    g = X[:, 0] ** 2 + X[:, 1]
    Q = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
    A = Q @ torch.diag(torch.tensor([0.5, 0.0, -0.5])) @ Q.T
    S = g[:, None, None] * A + 0.3 * symmetric(n)
    wild = torch.rand(n, generator=generator) < outliers
    return X, g, torch.where(wild[:, None, None], 10 * symmetric(n), S)


def recovered(n: int, seed: int, steps: int, outliers: float) -> tuple[Tensor, Tensor, Tensor]:
    """On 500 new X: the truth g, the FCCov coordinate learned from n responses, and that of least squares."""
    X, _, S = spd_responses(n, seed, outliers)
    new, g, _ = spd_responses(500, seed + 10_000)
    V = S.flatten(1)
    ours, theirs = train_fccov(X, torch.cdist(V, V), 1, seed, steps), train_least_squares(X, V, seed, steps)
    with torch.no_grad():
        return g, ours(new)[:, 0], first_component(theirs(new))


def log_spread(windows: Tensor) -> Tensor:
    """Logarithms of the standard deviations (N, C) of windows (N, C, T)."""
    return windows.std(-1).log().float()


def neighbour_regression(features: Tensor, V: Tensor, new: Tensor, answers: Tensor, neighbours: int = 10) -> float:
    """Mean squared log-Euclidean error when the response is the mean of those of the nearest neighbours' features."""
    nearest = torch.cdist(new, features).topk(neighbours, largest=False).indices
    return float((V[nearest].mean(1) - answers).square().sum(-1).mean())


def log_vectors(windows: Tensor) -> Tensor:
    """Logarithms of the windows' covariances as vectors (N, C (C + 1) / 2), of the Frobenius length."""
    return LogEig()(covariance(windows)).float()


def permutation_p(X: Tensor, V: Tensor, shuffles: int, generator: torch.Generator) -> float:
    """How often shuffled X (n, p) depend on the responses V (n, q) as much as X do: (1 + count) / (1 + shuffles)."""
    X, around = (X - X.mean(0)) / X.std(0), neighbourhoods(torch.cdist(V, V))
    observed = float(fccov(X, around))
    chance = [float(fccov(X[torch.randperm(len(X), generator=generator)], around)) for _ in range(shuffles)]
    return (1 + sum(c >= observed for c in chance)) / (1 + shuffles)
