"""Experiments of the page *Which learning rate does a wider network need?*: width, parametrisation, transfer.

Yang & Hu 2021 (infinite-width networks that learn features) and Yang et al. 2022 (hyperparameter transfer). Networks
of several seeds are trained side by side: weights (S, in, out), inputs (S, B, in). A rate is given as log2 throughout.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from repgeom import data
from repgeom.data.views import digits as digits
from repgeom.data.views import principal
from repgeom.theory import abc, mup_limits

# Every schedule of the page in one place: widths start with the base width; rates are powers of two.
_CI: dict[str, Any] = {
    "digits": {"widths": (32, 64, 128, 256, 512), "steps": 50, "batch": 32},
    "rates": {"adam": tuple(range(-13, -3)), "sgd": tuple(range(-6, 1))},
    "images": {"widths": (32, 512), "steps": 50, "batch": 32, "rates": tuple(range(-10, -3))},
    "conv": {"widths": (8, 64), "steps": 40, "batch": 16, "rates": tuple(range(-6, -1))},
    "attention": {"widths": (16, 128), "steps": 40, "batch": 16, "rates": tuple(range(-9, -3))},
    "check": (128, 256, 512, 1024, 2048),
    "drift": (64, 128, 256, 512, 1024),
    "heads": (64, 128, 256, 512),
    "linear": (64, 256, 1024, 4096, 16384),
    "words": {"widths": (16, 64, 256, 1024), "steps": 6000},
    "few_shot": {
        "widths": (2, 8, 32, 128, 512, 2048),
        "steps": 300,
        "tasks": 16,
        "tests": 400,
        "inner": 3,
        "lr": 4.0,
        "meta": 1.0,
    },
    "full": {"widths": (64, 256, 1024, 4096, 8192), "steps": 2000, "batch": 256, "rates": tuple(range(-15, -4))},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {
        "digits": {"widths": (4, 8), "steps": 3, "batch": 8},
        "rates": {"adam": (-13, -12, -11, -6), "sgd": (-6, -4, -3)},
        "images": {"widths": (4, 8), "steps": 3, "batch": 8, "rates": (-8, -6)},
        "conv": {"widths": (4, 8), "steps": 2, "batch": 4, "rates": (-8, -6)},
        "attention": {"widths": (8, 16), "steps": 2, "batch": 4, "rates": (-8, -6)},
        "check": (8, 16),
        "drift": (8, 16),
        "heads": (8, 16),
        "linear": (16, 64),
        "words": {"widths": (16, 64), "steps": 20},
        "few_shot": {"widths": (2, 4), "steps": 2, "tasks": 2, "tests": 4, "inner": 1, "lr": 4.0, "meta": 1.0},
        "full": {"widths": (4, 8), "steps": 2, "batch": 8, "rates": (-8, -6)},
    },
    "ci": _CI,
    "full": _CI,
}


def generator(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


# ----------------------------------------------------------------------------------------------------------------- data


def load_images(name: str) -> tuple[Tensor, Tensor, str] | None:
    """MNIST's test set or 400 CIFAR-10 images a class as :func:`principal` coordinates, labels, origin; or None."""
    try:
        if name == "MNIST":
            hands = data.load("mnist", progress=False)
            return principal(hands.images), torch.from_numpy(hands.labels), "MNIST"
        real = data.load("cifar10", progress=False, per_class=400)
    except data.DataUnavailable:
        return None
    halved = real.train_images.reshape(-1, 16, 2, 16, 2, 3).mean((2, 4), dtype="float32")  # 16 x 16: a smaller eigh
    return principal(halved), torch.from_numpy(real.train_labels), real.provenance


# ------------------------------------------------------------------------------------------------ many networks at once


class Stack:
    """S bias-free ReLU networks (d, n, ..., n, K), one a seed, under a scheme relative to a base width.

    Entries of member s are a fixed draw of its seed at that width times sqrt(2 / fan_in), the readout's times
    1 / sqrt(fan_in), and then what the scheme asks for.
    """

    def __init__(
        self,
        rules: abc.Scheme,
        widths: Sequence[int],
        base: int,
        seeds: Sequence[int],
        *,
        zero_readout: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self.rules, self.roles = rules, ["input", *["hidden"] * (len(widths) - 3), "output"]
        self.ratio = widths[1] / base
        self.weights, self.multipliers = [], []
        draws = [generator(seed) for seed in seeds]
        for role, (fan_in, fan_out) in zip(self.roles, itertools.pairwise(widths), strict=True):
            a, b, _ = rules.rule(role)
            std = ((1 if role == "output" else 2) / fan_in) ** 0.5
            std *= self.ratio ** float(-b if role == "input" else Fraction(1, 2) - b)
            W = torch.stack([torch.randn(fan_in, fan_out, generator=draw) for draw in draws]) * std
            start = W * (0.0 if zero_readout and role == "output" else 1.0)
            self.weights.append(start.to(device).requires_grad_())
            self.multipliers.append(self.ratio ** -float(a))

    def groups(self, lr: float) -> list[dict[str, Any]]:
        """One parameter group a layer."""
        rates = [lr * self.ratio ** -float(self.rules.rule(role).c) for role in self.roles]
        return [{"params": [W], "lr": rate} for W, rate in zip(self.weights, rates, strict=True)]

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (S, B, K) for inputs (S, B, d)."""
        if x.dim() == 2:
            x = x.expand(len(self.weights[0]), -1, -1)
        for layer, (W, k) in enumerate(zip(self.weights, self.multipliers, strict=True)):
            x = (x.relu() if layer else x) @ W * k
        return x


def batches(N: int, steps: int, batch: int, seeds: Sequence[int]) -> Tensor:
    """Rows of every step (steps, S, batch), drawn with replacement; the same for all widths and rates."""
    return torch.stack([torch.randint(N, (steps, batch), generator=generator(900_000 + seed)) for seed in seeds], 1)


def final_losses(
    model: Callable[[Tensor], Tensor],
    groups: list[dict[str, Any]],
    x: Tensor,
    y: Tensor,
    rows: Tensor,
    optimizer: str,
) -> Tensor:
    """Cross-entropy (S,) of the stack, averaged over the last third of the steps; infinite where it is not a number."""
    step = torch.optim.SGD(groups, momentum=0.9) if optimizer == "sgd" else torch.optim.Adam(groups, fused=True)
    history = []
    for now in rows:
        losses = nn.functional.cross_entropy(model(x[now]).transpose(1, 2), y[now], reduction="none").mean(1)
        history.append(losses.detach().cpu())
        step.zero_grad()
        losses.sum().backward()
        step.step()
    return torch.stack(history[-max(1, len(rows) // 3) :]).mean(0).nan_to_num(math.inf, math.inf)


class Sweep(NamedTuple):
    """Final losses (widths, rates, S) of one scheme and optimiser."""

    widths: tuple[int, ...]
    rates: tuple[int, ...]
    losses: Tensor

    def lowest(self) -> Tensor:
        """Measured log2 rate with the lowest loss (widths, S)."""
        return torch.tensor(self.rates)[self.losses.argmin(1)]

    def best(self) -> Tensor:
        """Best log2 rate (widths, S): lowest point of a parabola through log losses, up to two rates to each side.

        At most one octave from :meth:`lowest`, which it is where fewer than three rates train or the parabola opens
        downwards. The grid has whole octaves only, and near a flat minimum noise picks one of them.
        """
        rates, found = torch.tensor(self.rates, dtype=torch.float64), self.lowest().double()
        for i, k in itertools.product(range(len(found)), range(found.shape[1])):
            near = (rates - found[i, k]).abs() <= 2
            near &= self.losses[i, :, k].isfinite()
            x, y = rates[near] - found[i, k], self.losses[i, near, k].double().log()
            if len(x) < 3:
                continue
            _, slope, curvature = torch.linalg.lstsq(torch.stack([x**0, x, x**2], 1), y[:, None]).solution[:, 0]
            if curvature > 0:
                found[i, k] += float((-slope / (2 * curvature)).clamp(-1, 1))
        return found

    def shift(self) -> list[float]:
        """Octaves from the best rate of the smallest width to that of the largest, for each seed."""
        best = self.best()
        return (best[-1] - best[0]).tolist()

    def gap(self, smallest: int = 3) -> list[float]:
        """Largest relative difference (S) of narrowest and widest at the smallest rates, over the narrowest."""
        low = self.losses[:, :smallest]
        return ((low[-1] - low[0]).abs() / low[0]).amax(0).tolist()

    def payload(self) -> list[list[float | None]]:
        """:meth:`mean_curve` with None where a run was lost."""
        return [[round(v, 4) if math.isfinite(v) else None for v in row] for row in self.mean_curve().tolist()]

    def mean_curve(self) -> Tensor:
        """Losses averaged over seeds (widths, rates)."""
        return self.losses.mean(-1)


def sweep(
    rules: abc.Scheme, x: Tensor, y: Tensor, seeds: Sequence[int], rates: Sequence[int], schedule: dict[str, Any]
) -> Sweep:
    """Train networks of every width at every rate, where x is; schedule: widths (the base first), steps, batch."""
    widths, d, K = schedule["widths"], x.shape[1], int(y.max()) + 1
    rows = batches(len(x), schedule["steps"], schedule["batch"], seeds).to(x.device)
    losses = []
    for width, rate in itertools.product(widths, rates):
        stack = Stack(rules, (d, width, width, K), widths[0], seeds, device=x.device)
        losses.append(final_losses(stack, stack.groups(2.0**rate), x, y, rows, rules.optimizer))
    return Sweep(tuple(widths), tuple(rates), torch.stack(losses).unflatten(0, (len(widths), len(rates))))


# ------------------------------------------------------------------------------------------ other kinds of architecture


class SmallConv(nn.Module):
    """Two convolutions with n channels on 8 x 8 images, the mean over positions, a readout."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, n, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(n, n, 3, padding=1, bias=False)
        self.readout = nn.Linear(n, 10, bias=False)
        for layer in (self.first, self.second):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 10) of images (B, 64)."""
        h = self.second(self.first(x.view(-1, 1, 8, 8)).relu()).relu()
        return self.readout(h.mean((2, 3)))


class SmallAttention(nn.Module):
    """One block of attention (two heads) and MLP on the 8 rows of an image as tokens of width n.

    Scores are q . k sqrt(d_0) / d with heads of width d (d_0 at the base), or q . k / sqrt(d) where ``sharp``.
    """

    def __init__(self, n: int, base: int, sharp: bool = False) -> None:
        super().__init__()
        d, d_base = n // 2, base // 2
        self.scale = d**-0.5 if sharp else d_base**0.5 / d
        self.embed, self.places = nn.Linear(8, n), nn.Parameter(0.3 * torch.randn(8, n))
        self.norm, self.norm_mlp, self.norm_out = nn.LayerNorm(n), nn.LayerNorm(n), nn.LayerNorm(n)
        self.query, self.key, self.value = (nn.Linear(n, n, bias=False) for _ in range(3))
        self.mix, self.up, self.down = nn.Linear(n, n, bias=False), nn.Linear(n, 2 * n), nn.Linear(2 * n, n)
        self.scores, self.readout = nn.Identity(), nn.Linear(n, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 10) of images (B, 64)."""
        h = self.embed(x.view(-1, 8, 8)) + self.places
        z = self.norm(h)
        q, k, v = (part(z).unflatten(-1, (2, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        scores = self.scores(q @ k.mT * self.scale)
        h = h + self.mix((scores.softmax(-1) @ v).transpose(1, 2).flatten(-2))
        h = h + self.down(self.up(self.norm_mlp(h)).relu())
        return self.readout(self.norm_out(h).mean(1))


class _Single:
    """One network in the shape of a stack: logits (1, B, K) for inputs (1, B, d)."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, x: Tensor) -> Tensor:
        return self.model(x[0])[None]


def module_sweep(
    make_model: Callable[[int], nn.Module],
    name: str,
    x: Tensor,
    y: Tensor,
    seeds: Sequence[int],
    schedule: dict[str, Any],
    narrowest: Tensor | None = None,
) -> Sweep:
    """:func:`sweep` for networks of any architecture under Adam; schedule: widths, steps, batch, rates.

    ``narrowest``: losses (rates, S) at the base width from another scheme, which is the same network there.
    """
    rules, widths, rates = abc.scheme(name, "adam"), schedule["widths"], schedule["rates"]
    rows = batches(len(x), schedule["steps"], schedule["batch"], seeds)
    losses = torch.empty(len(widths), len(rates), len(seeds))
    for (i, width), (j, rate), (k, seed) in itertools.product(enumerate(widths), enumerate(rates), enumerate(seeds)):
        if i == 0 and narrowest is not None:
            losses[i, j, k] = narrowest[j, k]
            continue
        base, model = built(make_model, widths[0], seed), built(make_model, width, seed)
        groups = abc.parametrise(model, base, rules, 2.0**rate, zero_readout=True)
        losses[i, j, k] = final_losses(_Single(model), groups, x, y, rows[:, k : k + 1], "adam")[0]
    return Sweep(tuple(widths), tuple(rates), losses)


def built(make_model: Callable[[int], nn.Module], width: int, seed: int) -> nn.Module:
    """A model built from a seed, torch's global generator left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make_model(width)


# ---------------------------------------------------------------------------------------------------- coordinate checks


def mlp(n: int) -> nn.Sequential:
    """A bias-free ReLU network 64-n-n-10 with entries of size 1, sqrt(2 / n) and sqrt(1 / n)."""
    layers = [nn.Linear(64, n, bias=False), nn.Linear(n, n, bias=False), nn.Linear(n, 10, bias=False)]
    for layer, std in zip(layers, (1.0, (2 / n) ** 0.5, n**-0.5), strict=True):
        nn.init.normal_(layer.weight, std=std)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


MODULES = {"0": "h1", "2": "h2"}  # of mlp: pre-activations


def check(
    rules: abc.Scheme,
    x: Tensor,
    y: Tensor,
    widths: Sequence[int],
    seeds: Sequence[int],
    lr: float,
    steps: int = 1,
    length: float = 1.0,
) -> abc.CoordinateCheck:
    """The coordinate check of :func:`mlp` on a batch whose inputs have that length."""
    return abc.coordinate_check(
        lambda n: mlp(n).to(x.device),
        widths,
        length * nn.functional.normalize(x, dim=1),
        lambda out: nn.functional.cross_entropy(out, y),
        rules=rules,
        lr=lr,
        base=1,  # no base width: exponents as they stand
        steps=steps,
        seeds=seeds,
        modules=MODULES,
    )


def attention_check(
    name: str, sharp: bool, x: Tensor, y: Tensor, widths: Sequence[int], seeds: Sequence[int]
) -> dict[str, list[float]]:
    """Slopes of the change of attention scores and outputs after four Adam steps, one a seed."""
    found = abc.coordinate_check(
        lambda n: SmallAttention(n, widths[0], sharp),
        widths,
        x,
        lambda out: nn.functional.cross_entropy(out, y),
        rules=abc.scheme(name, "adam"),
        lr=2.0**-5,
        steps=4,
        seeds=seeds,
        modules={"scores": "scores"},
        zero_readout=True,
    )
    return found.slopes(step=5)


def same_function(e: abc.Exponents, other: abc.Exponents, n: int, x: Tensor, y: Tensor, steps: int, seed: int) -> float:
    """Largest difference of outputs of two parametrisations of one float64 network after SGD steps of size 0.1."""
    outputs = []
    for a, b, c in (each[:3] for each in (e, other)):
        draw, widths = generator(seed), (x.shape[1], *[n] * (len(a) - 1), 10)
        ws = [
            (torch.randn(p, q, generator=draw, dtype=torch.float64) * n ** -float(b[layer])).requires_grad_()
            for layer, (p, q) in enumerate(itertools.pairwise(widths))
        ]
        for _ in range(steps + 1):
            h = x.double()
            for layer, w in enumerate(ws):
                h = (h.tanh() if layer else h) @ w * n ** -float(a[layer])
            loss = nn.functional.cross_entropy(h, y)
            for layer, g in enumerate(torch.autograd.grad(loss, ws)):
                ws[layer] = (ws[layer] - 0.1 * n ** -float(c[layer]) * g).detach().requires_grad_()
        outputs.append(h.detach())
    return float((outputs[0] - outputs[1]).abs().max())


def census(hidden: int = 2) -> dict[str, int]:
    """How many exponents a, b in half steps from -1 to 1, with c = 0, are in each regime; how many are maximal."""
    steps = [Fraction(k, 2) for k in range(-2, 3)]
    found: dict[str, int] = {}
    for numbers in itertools.product(steps, repeat=2 * (hidden + 1)):
        a, b = numbers[: hidden + 1], numbers[hidden + 1 :]
        verdict = abc.judge(abc.Exponents(a, b, (Fraction(0),) * (hidden + 1)))
        keys = [verdict.regime, *(["maximal"] if verdict.maximal else [])]
        if verdict.regime == "features" and a[-1] + b[-1] > Fraction(1, 2):
            keys.append("features, outputs start at zero")
        for key in keys:
            found[key] = found.get(key, 0) + 1
    return found


# ---------------------------------------------------------------------------------------------- limits that one can run


def linear_errors(widths: Sequence[int], seeds: Sequence[int], steps: int = 60, lr: float = 0.05) -> Tensor:
    """Largest Frobenius distance (widths, S) over time of linear muP networks (5 to 3) from their limit."""
    errors = torch.empty(len(widths), len(seeds), dtype=torch.float64)
    for k, seed in enumerate(seeds):
        draw = generator(seed)
        x = torch.randn(steps, 5, generator=draw, dtype=torch.float64)
        y = x @ torch.randn(5, 3, generator=draw, dtype=torch.float64) / 5**0.5
        U, V = mup_limits.linear_start(5, 3)
        limit = mup_limits.linear_path(U, V, x, y, lr)
        for i, n in enumerate(widths):
            U_n, V_n = mup_limits.sample_width(U, V, n, draw)
            path = mup_limits.linear_path(U_n[0], V_n[0], x, y, lr)
            errors[i, k] = torch.linalg.matrix_norm(path - limit).max()
    return errors


def slope(widths: Sequence[int], values: Tensor) -> list[float]:
    """Slope of log values (widths, S) against log width, for each seed."""
    x = torch.tensor(widths, dtype=torch.float64).log2()
    x, y = x - x.mean(), values.double().log2()
    return ((x[:, None] * y).sum(0) / x.square().sum()).tolist()


WORDS, TOPICS = 60, 4


def pairs(steps: int, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Contexts (steps, S, 1) and words with five negatives (steps, S, 6): words of one topic meet 8 times as often."""
    topic = torch.arange(WORDS) % TOPICS
    weight = 1.0 + 7.0 * (topic[:, None] == topic)
    weight.fill_diagonal_(0)
    contexts, targets = [], []
    for seed in seeds:
        draw = generator(seed)
        joint = torch.multinomial(weight.flatten(), steps, replacement=True, generator=draw)
        contexts.append(joint[:, None] // WORDS)
        targets.append(torch.cat([joint[:, None] % WORDS, torch.randint(WORDS, (steps, 5), generator=draw)], 1))
    return torch.stack(contexts, 1), torch.stack(targets, 1)


def purity(E: Tensor) -> Tensor:
    """Share (S) of words whose nearest neighbour by cosine in E (S, words, n) has their topic."""
    unit = nn.functional.normalize(E, dim=-1)
    cosines = unit @ unit.mT - 3 * torch.eye(WORDS)
    topic = torch.arange(WORDS) % TOPICS
    return (topic[cosines.argmax(-1)] == topic).float().mean(-1)


class Words(NamedTuple):
    """Toy corpus, one entry a seed: for each width the deviation of logits from the limit, purities, and movement."""

    deviation: Tensor  # (widths, S), relative
    purity: Tensor  # (widths, S), muP
    purity_limit: Tensor  # (S)
    kernel_purity: Tensor  # (widths, S), neural tangent parametrisation
    kernel_move: Tensor  # (widths, S), |E - E_0| / |E_0|
    embeddings: dict[str, Tensor]  # of the first seed: the limit, and the widest under both


def word_vectors(widths: Sequence[int], steps: int, seeds: Sequence[int], lr: float = 0.15) -> Words:
    """Word2Vec on :func:`pairs` at every width under muP and NTP, and in the muP limit."""
    contexts, targets = pairs(steps, seeds)
    E, O = mup_limits.cbow_start(WORDS)
    limit_E, limit_O = mup_limits.cbow(
        E.expand(len(seeds), -1, -1), O.expand(len(seeds), -1, -1), contexts, targets, lr
    )
    logits = limit_O @ limit_E.mT
    deviation, pure, kernel_pure, move = [], [], [], []
    for n in widths:
        noise = torch.stack([torch.randn(2, WORDS, n, generator=generator(10_000 + seed)) for seed in seeds])
        E, O = mup_limits.cbow(noise[:, 0] / n**0.5, torch.zeros_like(noise[:, 0]), contexts, targets, lr)
        deviation.append(torch.linalg.matrix_norm(O @ E.mT - logits) / torch.linalg.matrix_norm(logits))
        pure.append(purity(E))
        K, _ = mup_limits.cbow(noise[:, 0], noise[:, 1], contexts, targets, lr, multiplier=n**-0.5)
        kernel_pure.append(purity(K))
        move.append(torch.linalg.matrix_norm(K - noise[:, 0]) / torch.linalg.matrix_norm(noise[:, 0]))
    last = {"limit": limit_E[0], "muP": E[0], "NTP": K[0]}
    return Words(
        torch.stack(deviation), torch.stack(pure), purity(limit_E), torch.stack(kernel_pure), torch.stack(move), last
    )


def plane(E: Tensor) -> Tensor:
    """Coordinates (words, 2) of embeddings along their two principal directions."""
    E = E - E.mean(0)
    U, S, _ = torch.linalg.svd(E, full_matrices=False)
    return U[:, :2] * S[:2]


# ----------------------------------------------------------------------------------------------------------- full scale


def large_transfer(schedule: dict[str, Any], device: torch.device, seeds: Sequence[int]) -> dict[str, Any]:
    """CIFAR-10, all training images, widths to 8192: curves of SP and muP under Adam, slopes of a coordinate check."""
    real = data.load("cifar10", progress=False)
    x, y = principal(real.train_images, 256).to(device), torch.from_numpy(real.train_labels).long().to(device)
    rows, slopes = list[dict[str, Any]](), list[dict[str, Any]]()
    for name in ("sp", "mup"):
        found = sweep(abc.scheme(name, "adam"), x, y, seeds, schedule["rates"], schedule)
        for width, best, curve in zip(found.widths, found.best(), found.payload(), strict=True):
            rows.append({"scheme": name, "width": width, "best": best.mean().item(), "losses": curve})
        moved = check(abc.scheme(name, "adam"), x[:32, :64], y[:32], schedule["widths"], seeds, 2.0**-8, steps=3)
        slopes.extend({"scheme": name, **row} for row in moved.table())
    return {"transfer": rows, "drift": slopes, "rates": list(schedule["rates"])}


WAYS = 5  # characters a task tells apart, from one drawing each


def omniglot() -> tuple[Tensor, Tensor]:
    """Drawings (characters, 20, 64) as principal coordinates of length one, and the alphabet of each character."""
    real = data.load("omniglot", progress=False)
    order = real.labels.argsort(kind="stable")
    pooled = nn.functional.avg_pool2d(torch.from_numpy(real.images[order]).float()[:, None], 5)
    x = nn.functional.normalize(principal(pooled.numpy()), dim=1)
    return x.unflatten(0, (-1, 20)), torch.from_numpy(real.alphabets[order][::20])


def tasks(x: Tensor, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each task five of the characters x (C, drawings, d): one drawing each (T, 5, d), three more (T, 15, d)."""
    characters = torch.rand(count, len(x), generator=draw).argsort(1)[:, :WAYS, None]
    drawings = torch.rand(count, WAYS, x.shape[1], generator=draw).argsort(2)[..., :4]
    found = x[characters, drawings]
    return found[:, :, 0], found[:, :, 1:].flatten(1, 2)


def few_shot(
    U: Tensor, V: Tensor, x: Tensor, test: Tensor, schedule: dict[str, Any], seed: int, features: bool = True
) -> float:
    """Accuracy on tasks of unseen characters after meta-learning of f = V U x; without features, of V only."""
    draw, inner = generator(seed), {"steps": schedule["inner"], "lr": schedule["lr"], "features": features}
    for _ in range(schedule["steps"]):
        U, V = mup_limits.maml_step(U, V, *tasks(x, schedule["tasks"], draw), meta_lr=schedule["meta"], **inner)
    support, query = tasks(test, schedule["tests"], generator(10_000 + seed))
    u, v = mup_limits.adapt(U, V, support, **inner)
    return float(((query @ u.mT @ v.mT).argmax(-1) == torch.arange(WAYS).repeat_interleave(3)).double().mean())


def few_shot_table(x: Tensor, alphabets: Tensor, plan: dict[str, Any], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Few-shot accuracy on the last two alphabets: networks of several widths, their limit, and frozen features."""
    old = alphabets < alphabets.max() - 1
    limit = mup_limits.linear_start(x.shape[2], WAYS, s2=0.0, dtype=x.dtype)
    rows: list[dict[str, Any]] = []
    for name in (*plan["widths"], "limit", "limit, frozen"):
        found = []
        for seed in seeds:
            U, V = limit if isinstance(name, str) else mup_limits.sample_width(*limit, name, generator(20_000 + seed))
            U, V = U.view(U.shape[-2:]), V.view(V.shape[-2:])
            found.append(few_shot(U, V, x[old], x[~old], plan, seed, features=name != "limit, frozen"))
        rows.append({"width": str(name), "accuracy": found})
    return rows
