"""Experiments of the page *What do the limits predict?*: risks, votes, bands, moving kernels and perceptrons.

Samples are rows. Errors are mean squared errors; labels of two classes are +1 and -1.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from repgeom import data
from repgeom.theory import kernels, width_limits

F64 = torch.float64

_CI: dict[str, Any] = {
    "modes": 1000,
    "shapes": ((256, 32), (256, 128), (256, 512), (256, 2000), (64, 256), (512, 256)),
    "pool": 1000,
    "samples": 150,
    "features": (20, 60, 150, 400, 1600),
    "circle": {"train": 300, "test": 1000},
    "nets": 2000,
    "draws": 100,
    "rounds": 10,
    "spread": 20_000,
    "hierarchy": {"sizes": (400, 1600), "d": 10, "width": 128, "steps": 1000},
    "sweep": {"pool": 10_000, "samples": (250, 500, 1000, 2000), "features": (250, 1000, 4000, 16_000), "trials": 5},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {
        "modes": 60,
        "shapes": ((16, 8), (16, 40)),
        "pool": 80,
        "samples": 20,
        "features": (10, 40),
        "circle": {"train": 30, "test": 40},
        "nets": 50,
        "draws": 10,
        "rounds": 1,
        "spread": 500,
        "hierarchy": {"sizes": (40, 60), "d": 4, "width": 8, "steps": 4},
        "sweep": {"pool": 60, "samples": (10, 20), "features": (10, 30), "trials": 2},
    },
    "ci": _CI,
    "full": _CI,
}


def generator(seed: int, *where: int) -> torch.Generator:
    """A generator of its own for each seed and place, so that neighbouring seeds share nothing."""
    number = seed
    for k in where:
        number = (number * 1_000_003 + k + 1) % 2**61
    return torch.Generator().manual_seed(number)


def normal(draw: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=draw, dtype=F64)


# ------------------------------------------------------------------------------------------------------ random features


def power_laws(modes: int, alpha: float = 1.5, beta: float = 1.5) -> tuple[Tensor, Tensor]:
    """Eigenvalues i^-alpha and squared coefficients i^-beta."""
    i = torch.arange(1, modes + 1, dtype=F64)
    return i**-alpha, i**-beta


def ridge_errors(Phi: Tensor, y: Tensor, ridges: Sequence[float], test: Callable[[Tensor], float]) -> list[list[float]]:
    """[test, train] error for each ridge delta: dual weights (Phi Phi^T + delta)^-1 y, by one eigendecomposition."""
    values, U = torch.linalg.eigh(Phi @ Phi.mT)
    z, rows = U.mT @ y, []
    for delta in ridges:
        dual = U @ (z / (values.clamp_min(0) + delta))
        rows.append([test(dual), float((delta * dual).square().mean())])
    return rows


def synthetic_errors(
    spectrum: tuple[Tensor, Tensor], n: int, k: int, ridges: Sequence[float], noise: float, seed: int
) -> list[list[float]]:
    """[test, train] error for each ridge on normal eigenfunctions and normal random features; the test is exact."""
    (lam, v2), draw = spectrum, generator(seed, n, k)
    samples = normal(draw, n, len(lam))
    mix = lam.sqrt()[:, None] * normal(draw, len(lam), k) / math.sqrt(k)
    v = v2.sqrt()
    y = samples @ v + math.sqrt(noise) * normal(draw, n)
    Phi = samples @ mix
    return ridge_errors(Phi, y, ridges, lambda dual: float((mix @ (Phi.mT @ dual) - v).square().sum()) + noise)


class Pool(NamedTuple):
    """Images on a sphere (N, d), labels +-1 (N), and the spectrum of a one-hidden-layer ReLU kernel on them."""

    x: Tensor
    y: Tensor
    eigenvalues: Tensor
    squares: Tensor


def pool(images: Tensor, labels: Tensor) -> Pool:
    """The pool as a whole population: eigenvalues of K / N, and squared coefficients of the labels, with sum one."""
    x = images.to(F64)
    x = x / x.norm(dim=1, keepdim=True) * math.sqrt(x.shape[1])
    y = labels.to(F64)
    values, U = torch.linalg.eigh(feature_kernel(x) / len(x))
    kept = values > 1e-12 * values[-1]
    return Pool(x, y, values[kept].flip(0), (U.mT @ y)[kept].flip(0).square() / len(x))


def feature_kernel(x: Tensor) -> Tensor:
    """What the inner products of :func:`image_errors`' features tend to: E 2 relu(z) relu(z'), one on the diagonal."""
    return kernels.nngp(x, depth=2, weight_std=math.sqrt(2)) / 2  # both layers of the network carry a factor of two


def image_errors(images: Pool, n: int, k: int, ridges: Sequence[float], seed: int) -> list[list[float]]:
    """[test, train] error for each ridge with n images of the pool and k random ReLU features; tested on the pool."""
    draw = generator(seed, n, k)
    rows = torch.randperm(len(images.x), generator=draw)[:n]
    W = normal(draw, images.x.shape[1], k)
    features = (images.x @ W / math.sqrt(len(W))).relu() * math.sqrt(2 / k)
    Phi = features[rows]

    def test(dual: Tensor) -> float:
        return float((features @ (Phi.mT @ dual) - images.y).square().mean())

    return ridge_errors(Phi, images.y[rows], ridges, test)


def digits() -> tuple[Tensor, Tensor]:
    """The bundled digits (1797, 64), and +1 for even ones."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return torch.from_numpy(bunch.data).to(F64), 1 - 2 * torch.from_numpy(bunch.target % 2)


def mnist(count: int) -> tuple[Tensor, Tensor] | None:
    """The first images of MNIST's test set as rows, and +1 for even digits; None without the data."""
    try:
        real = data.load("mnist", progress=False)
    except data.DataUnavailable:
        return None
    x = torch.from_numpy(real.images[:count]).to(F64).flatten(1) / 255
    return x, 1 - 2 * (torch.from_numpy(real.labels[:count]).long() % 2)


def sweep(schedule: dict[str, Any], images: Tensor, labels: Tensor, ridges: Sequence[float]) -> list[dict[str, float]]:
    """Measured and predicted errors for all n and k at each ridge: the table at full scale."""
    everything, rows = pool(images, labels), []
    for n in schedule["samples"]:
        for k in schedule["features"]:
            found = torch.tensor([image_errors(everything, n, k, ridges, t) for t in range(schedule["trials"])])
            theory = width_limits.feature_risk(
                everything.eigenvalues, everything.squares, n, k, torch.tensor(ridges, dtype=F64)
            )
            for j, delta in enumerate(ridges):
                rows.append({"n": n, "k": k, "ridge": delta, "test": float(found[:, j, 0].mean()),
                             "predicted": float(theory.test[j]), "train": float(found[:, j, 1].mean()),
                             "predicted train": float(theory.train[j])})  # fmt: skip
    return rows


# ------------------------------------------------------------------------------------------------------- infinite depth


class Circle(NamedTuple):
    """Points on a quarter of the circle, labels +-1, to learn from and to test on, and the best possible guesses."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    bayes: Tensor


def circle(train: int, test: int, seed: int, prior: float = 0.4) -> Circle:
    """Two Dirichlet classes, (1, 2) for -1 with that prior and (2, 1) for +1, divided by their length."""
    draw = generator(seed, train, test)
    count = train + test
    y = torch.where(torch.rand(count, generator=draw, dtype=F64) < prior, -1.0, 1.0).to(F64)
    # Of two uniform numbers the larger has the density 2t, that of Beta(2, 1).
    larger = torch.rand(count, 2, generator=draw, dtype=F64).max(1).values
    t = torch.where(y > 0, larger, 1 - larger)
    x = torch.stack([t, 1 - t], 1)
    best = torch.where((1 - prior) * t > prior * (1 - t), 1.0, -1.0).to(F64)
    x = x / x.norm(dim=1, keepdim=True)
    return Circle(x[:train], y[:train], x[train:], y[train:], best[train:])


def classify(points: Circle, coefficients: Sequence[float], depth: int, tangent: bool = False) -> Tensor:
    """sign(y^T K^-1 k(x)) of the deep kernel at the test points."""
    K = width_limits.deep_kernel(points.x @ points.x.mT, coefficients, depth, tangent=tangent)
    k = width_limits.deep_kernel(points.test_x @ points.x.mT, coefficients, depth, tangent=tangent)
    K.fill_diagonal_(1.0)
    return (k @ torch.linalg.solve(K, points.y)).sign()


def deep_rows(points: Circle) -> dict[str, Tensor]:
    """Guesses (M) of all classifiers of the page at the test points."""
    nearest = torch.cdist(points.test_x, points.x, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    return {
        "best possible": points.bayes,
        "Hilbert vote, exponent 1": width_limits.vote(points.test_x, points.x, points.y, 1.0).sign(),
        "deep, exponent 1": classify(points, VOTE, 100),
        "1-nearest neighbour": points.y[nearest],
        "deep, h_2": classify(points, NEAREST, 24),
        "majority": points.y.sum().sign().expand(len(points.test_y)),
        "deep, with a constant": classify(points, MAJORITY, 100, tangent=True),
    }


VOTE = (0, 0.5, 0, 0, 0, 0, 0, 0.5)
NEAREST = (0, 0, 1.0)
MAJORITY = (0.3, 0, 0, 0.7)


def singular_exponent(coefficients: Sequence[float], depth: int) -> float:
    """Slope of the log of the deep kernel against log |x - x'| at small distances."""
    gap = torch.tensor([1e-4, 1e-5], dtype=F64)
    logs = width_limits.deep_kernel(1 - gap, coefficients, depth).log()
    return float((logs[1] - logs[0]) / ((2 * gap[1]).sqrt().log() - (2 * gap[0]).sqrt().log()))


# -------------------------------------------------------------------------------------------------------- random scales


def ks_distances(a: float, width: int, nets: int, seed: int) -> tuple[float, float]:
    """Kolmogorov distance of outputs of random ReLU networks with s ~ InvGamma(a, a) to t_{2a}, and to N(0, 1)."""
    from scipy import stats

    d, draw = 10, generator(seed, width, nets)
    x = normal(draw, d)
    x = x / x.norm() * math.sqrt(d)
    hidden = (torch.randn(nets, width, d, generator=draw) @ x.float() / math.sqrt(d)).relu().to(F64)
    out = (hidden * normal(draw, nets, width)).sum(1) * math.sqrt(2 / width)
    gamma = stats.gamma.rvs(a, size=nets, random_state=seed % 2**32)
    out = out * (a / torch.from_numpy(gamma)).sqrt()
    return float(stats.kstest(out.numpy(), stats.t(2 * a).cdf).statistic), float(
        stats.kstest(out.numpy(), "norm").statistic
    )


def coverage(x: Tensor, train: int, factor: float, draws: int, seed: int, level: float = 0.9) -> tuple[float, float]:
    """Share of test values inside the band of that level: Gaussian process, and t process with a = b = 2.

    Values are draws of the Gaussian process of a ReLU network, times the factor, which neither model is told.
    """
    from scipy import stats

    K = kernels.nngp(x, depth=3, weight_std=math.sqrt(2)) + 1e-6 * torch.eye(len(x), dtype=F64)
    f = factor * normal(generator(seed, train, draws), draws, len(x)) @ torch.linalg.cholesky(K).mT
    A, C, B = K[:train, :train], K[train:, :train], K[train:, train:]
    hits = [0.0, 0.0]
    for values in f:
        known, hidden = values[:train], values[train:]
        for j, a in enumerate((1e9, 2.0)):
            found = width_limits.student_process(A, C, B, known, a, a)
            z = (hidden - found.mean).abs() / found.scale.diagonal().sqrt()
            hits[j] += float((z < stats.t(found.freedom).ppf((1 + level) / 2)).double().mean()) / draws
    return hits[0], hits[1]


# ------------------------------------------------------------------------------------------------- deep kernel machines


def learn_grams(
    G0: Tensor, Y: Tensor, nu: Sequence[float], kernel: Callable[[Tensor], Tensor], noise: float, rounds: int
) -> list[Tensor]:
    """Climb the deep kernel objective by L-BFGS from the fixed kernel, G = V V^T with triangular V."""
    start, before = [], G0
    for _ in nu:
        before = kernel(before)
        start.append(torch.linalg.cholesky(before).contiguous().requires_grad_())
    climb = torch.optim.LBFGS(start, max_iter=20, tolerance_grad=1e-12, tolerance_change=1e-15, history_size=30,
                              line_search_fn="strong_wolfe")  # fmt: skip

    def grams() -> list[Tensor]:
        return [V.tril() @ V.tril().mT for V in start]

    def closure() -> Tensor:
        climb.zero_grad()
        loss = -width_limits.deep_kernel_objective(grams(), G0, Y, nu, kernel=kernel, noise=noise)
        loss.backward()
        return loss.detach()

    for _ in range(rounds):
        climb.step(closure)
    return [G.detach() for G in grams()]


def alignment(G: Tensor, Y: Tensor) -> float:
    """Cosine of the centred Gram matrices G and Y Y^T."""
    H = torch.eye(len(G), dtype=G.dtype) - 1 / len(G)
    A, B = H @ G @ H, H @ Y @ Y.mT @ H
    return float((A * B).sum() / (A.norm() * B.norm()))


def three_digits(each: int, seed: int) -> tuple[Tensor, Tensor]:
    """Gram matrix of images of the digits 3, 5 and 8, each of length two, and their one-hot labels."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, label = torch.from_numpy(bunch.data).to(F64), torch.from_numpy(bunch.target)
    order = torch.randperm(len(x), generator=generator(seed))
    rows = torch.cat([order[label[order] == c][:each] for c in (3, 5, 8)])
    x = x[rows] / x[rows].norm(dim=1, keepdim=True)
    return 4 * x @ x.mT, torch.eye(3, dtype=F64).repeat_interleave(each, 0)


# ---------------------------------------------------------------------------------------------- polynomials of features


def hierarchy(n: int, d: int, seed: int) -> tuple[Tensor, Tensor]:
    """Normal inputs (n, d) and h = (z + (z^2 - 1) / sqrt 2) / sqrt 2 of a quadratic z = x^T A x of variance one."""
    draw = generator(seed, n, d)
    A = normal(draw, d, d)
    A = (A + A.mT) / 2
    A = A - torch.eye(d, dtype=F64) * A.trace() / d
    A = A / (math.sqrt(2) * A.norm())
    x = normal(draw, n, d)
    z = ((x @ A) * x).sum(1)
    return x, (z + (z * z - 1) / math.sqrt(2)) / math.sqrt(2)


def score(guess: Tensor, y: Tensor) -> float:
    """R^2: one minus the mean squared error over the variance."""
    return 1 - float((guess - y).square().mean() / y.var())


def hierarchy_scores(n: int, d: int, width: int, steps: int, seed: int, test: int = 1000) -> tuple[float, float]:
    """R^2 on new inputs of NTK ridge regression and of a trained three-layer network; a fifth of n validates both."""
    x, y = hierarchy(n + test, d, seed)
    cut = n - n // 5
    parts = [slice(0, cut), slice(cut, n), slice(n, n + test)]
    K = kernels.ntk(x, x[:cut], depth=3, weight_std=math.sqrt(2), bias_std=0.1)
    values, U = torch.linalg.eigh(K[:cut])
    best = (-math.inf, 0.0)
    for ridge in torch.logspace(-5, 1, 13, dtype=F64) * values.mean():
        guess = K @ (U @ ((U.mT @ y[:cut]) / (values + ridge)))
        best = max(best, (score(guess[parts[1]], y[parts[1]]), score(guess[parts[2]], y[parts[2]])))
    return best[1], network_score(x, y, parts, width, steps, seed)


def network_score(x: Tensor, y: Tensor, parts: Sequence[slice], width: int, steps: int, seed: int) -> float:
    """Three layers, ReLU, readout at zero, Adam on batches of 128; R^2 on the test part where validation was best."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(x.shape[1], width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )
    with torch.no_grad():
        list(net.parameters())[-2].zero_()
    x, y, draw = x.float(), y.float(), generator(seed)
    cut = parts[0].stop
    adam = torch.optim.Adam(net.parameters(), lr=3e-3)
    best = (-math.inf, 0.0)
    for step in range(steps):
        rows = torch.randint(cut, (min(128, cut),), generator=draw)
        loss = (net(x[rows])[:, 0] - y[rows]).square().mean()
        adam.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        adam.zero_grad()
        loss.backward()
        adam.step()
        if step % 50 == 49 or step == steps - 1:
            with torch.no_grad():
                valid, tested = (score(net(x[part])[:, 0], y[part]) for part in parts[1:])
            best = max(best, (valid, tested))
    return best[1]


# -------------------------------------------------------------------------------------------------- logistic regression


def worst_case(n: int) -> tuple[Tensor, Tensor]:
    """(0.5, -1) of class +1 beside n - 1 copies of (-0.5, -1) of class -1."""
    x = torch.tensor([[0.5, -1.0], *[[-0.5, -1.0]] * (n - 1)], dtype=F64)
    return x, torch.tensor([1.0, *[-1.0] * (n - 1)], dtype=F64)


def digit_pair(first: int, second: int) -> tuple[Tensor, Tensor]:
    """All bundled images of two digits, pixels / 16 with a constant, and labels +1, -1."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, label = torch.from_numpy(bunch.data).to(F64) / 16, torch.from_numpy(bunch.target)
    kept = (label == first) | (label == second)
    x = torch.cat([x[kept], torch.ones(int(kept.sum()), 1, dtype=F64)], 1)
    return x, torch.where(label[kept] == first, 1.0, -1.0).to(F64)


def logistic_path(x: Tensor, y: Tensor, lr: float, steps: int) -> list[tuple[float, float]]:
    """[(logistic loss, share of wrong signs)] along plain gradient descent from zero."""
    signed, theta, rows = x * y[:, None], torch.zeros(x.shape[1], dtype=F64), []
    for _ in range(steps + 1):
        margins = signed @ theta
        rows.append((float(nn.functional.softplus(-margins).mean()), float((margins <= 0).double().mean())))
        theta = theta + lr * (torch.sigmoid(-margins) @ signed) / len(signed)
    return rows
