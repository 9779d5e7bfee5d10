"""Riemannian SGD and Adam: torch's own on flat space, closed forms and known optima on the curved ones."""

import copy
import io
import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pymanopt
import pytest
import torch
from torch import Tensor, nn

from repgeom.manifolds.spd import affine_invariant, bures_wasserstein, random, sqrtm
from repgeom.nn.spd import SPDBatchNorm, SPDNet
from repgeom.optim import RiemannianAdam, RiemannianSGD, parameter_groups
from repgeom.optim.riemannian import SPACES

F64 = torch.float64
Loss = Callable[..., Tensor]


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def spd(n: int, size: int = 3, seed: int = 0, spread: float = 0.5) -> Tensor:
    return random(n, torch.Generator().manual_seed(seed), F64, size=size, spread=spread)


def orthonormal(*shape: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(gaussian(*shape, seed=seed))[0]


def sym(A: Tensor) -> Tensor:
    return (A + A.mT) / 2


def on(space: str, *points: Tensor, **options: Any) -> dict[str, Any]:
    return {"params": [nn.Parameter(point.clone()) for point in points], "manifold": space, **options}


def run(optimizer: torch.optim.Optimizer, loss: Loss, steps: int) -> list[float]:
    losses = []
    points = [p for group in optimizer.param_groups for p in group["params"]]
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(*points)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def close(a: Tensor, b: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a.detach(), b.detach(), rtol=0, atol=atol)


def assert_orthonormal(W: Tensor, atol: float = 1e-12) -> None:
    close(W.mT @ W, torch.eye(W.shape[-1], dtype=W.dtype).expand(*W.shape[:-2], -1, -1), atol)


# -------------------------------------------------------------------------------------------------------- on flat space

SGD = [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"weight_decay": 0.1}]
SGD += [{"momentum": 0.5, "nesterov": True, "weight_decay": 0.1}]
ADAM = [{}, {"amsgrad": True}, {"weight_decay": 0.1}, {"betas": (0.5, 0.9), "eps": 1e-3, "amsgrad": True}]


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [(RiemannianSGD, torch.optim.SGD, o) for o in SGD] + [(RiemannianAdam, torch.optim.Adam, o) for o in ADAM],
    ids=str,
)
def test_on_flat_space_it_is_torch(ours: type, theirs: type, options: dict[str, Any]) -> None:
    start = gaussian(4, 3), gaussian(5, seed=1)

    def loss(W: Tensor, b: Tensor) -> Tensor:
        return (W.square().sum(-1) - 1).square().sum() + (b - b.roll(1) ** 2).cos().sum()

    paths = []
    for kind in (ours, theirs):
        points = [nn.Parameter(x.clone()) for x in start]
        run(kind(points, lr=0.02, **options), loss, 20)
        paths.append(points)
    assert (paths[0][0] - start[0]).abs().max() > 0.1
    for a, b in zip(*paths, strict=True):
        close(a, b)


# ----------------------------------------------------------------------------------------------------------- on Stiefel


@pytest.mark.parametrize("kind", [RiemannianSGD, RiemannianAdam])
def test_stiefel_stays_orthonormal_and_solves_pca(kind: type) -> None:
    """Brockett's cost -tr(W^T S W N): its minimum has the leading eigenvectors as columns, in order."""
    Q = orthonormal(6, 6)
    S, N = Q @ torch.diag(torch.tensor([6.0, 5, 3, 2, 1, 0.5], dtype=F64)) @ Q.mT, torch.tensor([3.0, 2, 1], dtype=F64)
    options = {"lr": 0.02, "momentum": 0.8} if kind is RiemannianSGD else {"lr": 0.03, "betas": (0.9, 0.9)}
    group = on("stiefel", orthonormal(6, 3, seed=1))
    optimizer = kind([group], **options)
    W = group["params"][0]

    def loss(W: Tensor) -> Tensor:
        return -((S @ W) * W * N).sum()

    run(optimizer, loss, 300)
    assert_orthonormal(W)
    for _ in range(2):  # the last step of Adam is as long as its rate
        optimizer.param_groups[0]["lr"] /= 10
        run(optimizer, loss, 50)
    close((Q[:, :3].mT @ W).abs(), torch.eye(3, dtype=F64), 1e-7 if kind is RiemannianSGD else 1e-4)


def test_stiefel_step() -> None:
    """The Q factor, with positive diagonal of R, of W - lr (E - W sym(W^T E)); momentum is projected to the new W."""
    W, E = orthonormal(5, 2), gaussian(5, 2, seed=1)
    group = on("stiefel", W)
    optimizer = RiemannianSGD([group], lr=0.3, momentum=0.9)
    run(optimizer, lambda W: (E * W).sum(), 1)
    tangent = E - W @ sym(W.mT @ E)
    Q, R = torch.linalg.qr(W - 0.3 * tangent)
    new = group["params"][0].detach()
    close(new, Q * R.diagonal().sign())
    close(optimizer.state[group["params"][0]]["momentum_buffer"], tangent - new @ sym(new.mT @ tangent))


# ---------------------------------------------------------------------------------------------------------- on the cone


def log_det(S: Tensor) -> Loss:
    """Gaussian maximum likelihood: least where X = S."""
    return lambda X: (torch.logdet(X) + torch.linalg.solve(X, S).diagonal(dim1=-2, dim2=-1).sum(-1)).sum()


@pytest.mark.parametrize("kind", [RiemannianSGD, RiemannianAdam])
@pytest.mark.parametrize("space", ["spd", "spd_bures_wasserstein"])
def test_log_det_optimum(space: str, kind: type) -> None:
    S = spd(1)[0]
    options = {"momentum": 0.5} if kind is RiemannianSGD else {"betas": (0.9, 0.9)}
    lr = 0.02 if kind is RiemannianAdam else {"spd": 0.2, "spd_bures_wasserstein": 0.05}[space]
    group = on(space, torch.eye(3, dtype=F64))
    optimizer = kind([group], lr=lr, **options)
    run(optimizer, log_det(S), 100)
    if kind is RiemannianAdam:  # its last step is as long as its rate
        for _ in range(2):
            optimizer.param_groups[0]["lr"] /= 10
            run(optimizer, log_det(S), 50)
    X = group["params"][0]
    assert torch.equal(X, X.mT)
    close(X, S, 1e-3 if kind is RiemannianAdam else 1e-6)


@pytest.mark.parametrize("size", [0.01, 1.0])
def test_affine_invariant_step_is_a_geodesic_and_momentum_is_transported(size: float) -> None:
    """The Euclidean gradient need not be symmetric: only its symmetric part counts."""
    X, E = spd(1, seed=1)[0], size * gaussian(3, 3, seed=2)
    group = on("spd", X)
    optimizer = RiemannianSGD([group], lr=0.3, momentum=0.9)
    run(optimizer, lambda X: (E * X).sum(), 1)
    new = group["params"][0].detach()
    grad = X @ sym(E) @ X
    close(new, affine_invariant.exp(X, -0.3 * grad))
    buffer = optimizer.state[group["params"][0]]["momentum_buffer"]
    half = sqrtm(new)
    close(half @ buffer @ half, affine_invariant.transport(X, new, grad))
    inner = affine_invariant.inner(X, grad, grad)
    close(buffer.square().sum(), inner, 1e-12 * float(inner))  # coordinates of an orthonormal frame


def test_bures_wasserstein_step_is_a_geodesic() -> None:
    """(I - 2 lr E) X (I - 2 lr E), without an eigen-decomposition."""
    X, E, lr = spd(1, seed=1)[0], gaussian(3, 3, seed=2), 0.02
    group = on("spd_bures_wasserstein", X)
    run(RiemannianSGD([group], lr=lr), lambda X: (E * X).sum(), 1)
    new, E = group["params"][0], sym(E)
    step = torch.eye(3, dtype=F64) - 2 * lr * E
    close(new, step @ X @ step)
    close(new, bures_wasserstein.exp(X, -lr * 2 * (X @ E + E @ X)))


@pytest.mark.parametrize("kind", [RiemannianSGD, RiemannianAdam])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_huge_gradient_stays_in_the_cone(dtype: torch.dtype, kind: type) -> None:
    """A Bures-Wasserstein step is shortened to |L| <= 1/2: no eigenvalue falls below a quarter of the least."""
    X = spd(2, seed=1).to(dtype)
    group = on("spd_bures_wasserstein", X)
    optimizer = kind([group], lr=10.0)
    least = torch.linalg.eigvalsh(X).min()
    for seed in range(5):
        E = 1e6 * gaussian(2, 3, 3, seed=seed).to(dtype)
        run(optimizer, lambda X, E=E: (E * X).sum(), 1)
        values = torch.linalg.eigvalsh(group["params"][0].detach())
        assert values.min() >= 0.999 * least / 4
        least = values.min()


def test_weight_decay_is_for_flat_space() -> None:
    for space, point in (("stiefel", orthonormal(4, 2)), ("spd", spd(1)[0]), ("spd_bures_wasserstein", spd(1)[0])):
        for kind in (RiemannianSGD, RiemannianAdam):
            ends = []
            for decay in (0.0, 0.5):
                group = on(space, point)
                run(kind([group], lr=0.1, weight_decay=decay), lambda x: x.sum(), 3)
                ends.append(group["params"][0])
            assert torch.equal(*ends)


# -------------------------------------------------------------------------------------------- as any optimiser of torch

KINDS = [
    (RiemannianSGD, {"momentum": 0.9}),
    (RiemannianSGD, {"momentum": 0.9, "nesterov": True}),
    (RiemannianAdam, {"amsgrad": True}),
]


def mixed() -> list[dict[str, Any]]:
    return [
        on("euclidean", gaussian(3), lr=0.03),
        on("stiefel", orthonormal(5, 3)),
        on("spd", spd(1)[0], spd(1, seed=1)[0], lr=0.02),
        on("spd_bures_wasserstein", spd(1, seed=2)[0], lr=0.005),
    ]


def mixed_loss(b: Tensor, W: Tensor, *Xs: Tensor) -> Tensor:
    A = gaussian(5, 5, seed=7)
    Y = W.mT @ (A @ A.mT) @ W + b.diag_embed()
    return (Y * sum(Xs, torch.zeros_like(Y))).sum() - sum(torch.logdet(X) for X in Xs) + b.square().sum()


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
def test_a_saved_state_continues_the_same_path(kind: type, options: dict[str, Any]) -> None:
    """Saved, loaded into an optimiser that was built with other rates; spaces travel with the state."""
    groups = mixed()
    optimizer = kind(groups, lr=0.01, **options)
    run(optimizer, mixed_loss, 6)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    saved = copy.deepcopy(groups)
    run(optimizer, mixed_loss, 6)

    names = ("params", "manifold")
    other = kind([{name: group[name] for name in names} for group in saved], lr=1.0)
    other.load_state_dict(torch.load(file))
    assert [group["manifold"] for group in other.param_groups] == [group["manifold"] for group in groups]
    run(other, mixed_loss, 6)
    for a, b in zip(groups, saved, strict=True):
        for x, y in zip(a["params"], b["params"], strict=True):
            assert torch.equal(x, y)


def test_groups_have_rates_of_their_own() -> None:
    X, lr = spd(1)[0], (0.1, 0.4)
    groups = [on("spd", X, lr=lr[0]), on("spd", X, lr=lr[1]), on("spd", X)]
    run(RiemannianSGD(groups, lr=0.2), lambda *Xs: sum(x.sum() for x in Xs), 1)
    for group, rate in zip(groups, (*lr, 0.2), strict=True):
        close(group["params"][0], affine_invariant.exp(X, -rate * X @ torch.ones_like(X) @ X))
    assert run(RiemannianSGD([on("spd", X)], lr=0.0), lambda x: x.sum(), 2)[0] == pytest.approx(float(X.sum()))


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
@pytest.mark.parametrize("space", SPACES)
def test_a_batch_of_points_is_many_points(space: str, kind: type, options: dict[str, Any]) -> None:
    shape = {"euclidean": gaussian(4, 5, 3), "stiefel": orthonormal(4, 5, 3), "grassmann": orthonormal(4, 5, 3)}
    points = shape.get(space, spd(4))
    C = gaussian(*points.shape, seed=3)
    C[1] *= 1 if space == "spd" else 30  # one of the Bures-Wasserstein steps is cut short
    together, apart = on(space, points), on(space, *points)
    run(kind([together], lr=0.05, **options), lambda x: (C * x).sum(), 6)
    run(kind([apart], lr=0.05, **options), lambda *x: sum((c * y).sum() for c, y in zip(C, x, strict=True)), 6)
    close(together["params"][0], torch.stack(list(apart["params"])))
    if space in ("stiefel", "grassmann"):
        assert_orthonormal(together["params"][0])


def test_clipping_and_schedules() -> None:
    X, E = spd(1)[0], sym(gaussian(3, 3))
    group = on("spd", X)
    optimizer = RiemannianSGD([group], lr=0.1)
    (E * group["params"][0]).sum().backward()
    norm = nn.utils.clip_grad_norm_(group["params"], 0.5)
    assert float(norm) == pytest.approx(float(E.norm()))
    optimizer.step()
    close(group["params"][0], affine_invariant.exp(X, -0.1 * X @ (0.5 / E.norm() * E) @ X), 1e-6)

    for kind in (RiemannianSGD, RiemannianAdam):
        group = on("spd", X, lr=0.4)
        optimizer = kind([group], lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
        rates = []
        for _ in range(5):
            rates.append(optimizer.param_groups[0]["lr"])
            run(optimizer, lambda x: x.sum(), 1)
            schedule.step()
        assert rates == pytest.approx([0.4, 0.4, 0.2, 0.2, 0.1])


def test_closure_and_parameters_without_gradient() -> None:
    group, idle = on("spd", spd(1)[0]), on("stiefel", orthonormal(4, 2))
    optimizer = RiemannianAdam([group, idle], lr=0.01)
    X, W = group["params"][0], idle["params"][0]
    before = W.clone()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = X.trace()
        loss.backward()
        return loss

    assert optimizer.step() is None
    first, second = optimizer.step(closure), optimizer.step(closure)
    assert first is not None and second is not None and second < first
    assert torch.equal(W, before)
    assert W not in optimizer.state and X in optimizer.state
    assert not X.grad.requires_grad and X.requires_grad


# ---------------------------------------------------------------------------------------------------- whose space it is


class Odd(nn.Module):
    manifolds: ClassVar[dict[str, str]] = {"weight": "sphere"}

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))


def test_parameter_groups() -> None:
    net = SPDNet([6, 4, 3], 2, lambda n: SPDBatchNorm(n))
    groups = parameter_groups(net, lr=0.3, momentum=0.5)
    names = {parameter: name.removeprefix("features.") for name, parameter in net.named_parameters()}
    assert {group["manifold"]: [names[p] for p in group["params"]] for group in groups} == {
        "euclidean": ["1.scale", "4.scale", "classifier.weight", "classifier.bias"],
        "stiefel": ["0.weight", "3.weight"],
        "spd": ["1.bias", "1.metric_matrix", "4.bias", "4.metric_matrix"],
    }
    assert all(group["lr"] == 0.3 and group["momentum"] == 0.5 for group in groups)
    optimizer = RiemannianSGD(groups)
    assert [group["momentum"] for group in optimizer.param_groups] == [0.5] * 3
    assert sum(len(group["params"]) for group in groups) == len(names)

    fixed = parameter_groups(SPDBatchNorm(3, learnable_metric=False))  # there M is a buffer
    assert [(group["manifold"], len(group["params"])) for group in fixed] == [("euclidean", 1), ("spd", 1)]
    twice = nn.Sequential(net.features[0], net.features[0])
    assert [len(group["params"]) for group in parameter_groups(twice)] == [1]
    assert parameter_groups(nn.ReLU()) == []
    with pytest.raises(ValueError, match=r"manifold: received 'sphere'; valid is one of euclidean, .*Repair"):
        parameter_groups(nn.Sequential(nn.Linear(2, 2), Odd()))


def test_refusals() -> None:
    x = [nn.Parameter(torch.zeros(2))]
    for call, message in (
        (lambda: RiemannianSGD(x, lr=-1), "lr, weight_decay: received -1 and 0"),
        (lambda: RiemannianSGD(x, lr=math.nan), "lr, weight_decay: received nan"),
        (lambda: RiemannianAdam(x, weight_decay=-0.1), "lr, weight_decay: received 0.001 and -0.1"),
        (lambda: RiemannianSGD(x, momentum=1.0), "momentum: received 1.0; valid is 0 <= momentum < 1"),
        (lambda: RiemannianSGD(x, momentum=-0.1), "momentum: received -0.1"),
        (lambda: RiemannianAdam(x, betas=(0.9, 1.0)), r"betas, eps: received \(0.9, 1.0\)"),
        (lambda: RiemannianAdam(x, eps=-1.0), "betas, eps: received .* and -1.0"),
        (lambda: RiemannianSGD([{"params": x, "manifold": "so3"}]), "manifold: received 'so3'; valid is one of eucl"),
        (lambda: RiemannianAdam(x).add_param_group({"params": [nn.Parameter(x[0])], "manifold": "so3"}), "'so3'"),
    ):
        with pytest.raises(ValueError, match=f"{message}.*Repair: "):
            call()
    with pytest.raises(ValueError, match="empty parameter list"):
        RiemannianSGD([])


# -------------------------------------------------------------------------------------------------- a referee: pymanopt


def test_pymanopt_finds_the_same_optimum_on_the_cone() -> None:
    """log det X + tr(X^-1 S) + tr(X^2 H): a problem without a closed form."""
    S, H = spd(1, 4, seed=1)[0], spd(1, 4, seed=2)[0]
    group = on("spd", torch.eye(4, dtype=F64))
    losses = run(RiemannianSGD([group], lr=0.1, momentum=0.5), lambda X: log_det(S)(X) + (X @ X * H).sum(), 150)

    manifold = pymanopt.manifolds.SymmetricPositiveDefinite(4)

    @pymanopt.function.numpy(manifold)
    def cost(X: np.ndarray) -> float:
        return float(np.linalg.slogdet(X)[1] + np.trace(np.linalg.solve(X, S.numpy())) + np.sum(X @ X * H.numpy()))

    @pymanopt.function.numpy(manifold)
    def gradient(X: np.ndarray) -> np.ndarray:
        inverse = np.linalg.inv(X)
        return inverse - inverse @ S.numpy() @ inverse + X @ H.numpy() + H.numpy() @ X

    problem = pymanopt.Problem(manifold, cost, euclidean_gradient=gradient)
    found = pymanopt.optimizers.ConjugateGradient(verbosity=0, min_gradient_norm=1e-9).run(
        problem, initial_point=np.eye(4)
    )
    assert losses[-1] == pytest.approx(found.cost, abs=1e-10)
    close(group["params"][0], torch.from_numpy(found.point), 1e-6)


def test_pymanopt_finds_the_same_optimum_on_stiefel() -> None:
    S, N = spd(1, 6, spread=1.0)[0], torch.tensor([2.0, 1.0], dtype=F64)
    start = orthonormal(6, 2, seed=1)
    group = on("stiefel", start)
    run(RiemannianSGD([group], lr=0.02, momentum=0.9), lambda W: -((S @ W) * W * N).sum(), 400)

    manifold = pymanopt.manifolds.Stiefel(6, 2)

    @pymanopt.function.numpy(manifold)
    def cost(W: np.ndarray) -> float:
        return -float(np.sum(S.numpy() @ W * W * N.numpy()))

    @pymanopt.function.numpy(manifold)
    def gradient(W: np.ndarray) -> np.ndarray:
        return -2 * S.numpy() @ W * N.numpy()

    problem = pymanopt.Problem(manifold, cost, euclidean_gradient=gradient)
    found = pymanopt.optimizers.ConjugateGradient(verbosity=0, min_gradient_norm=1e-9).run(
        problem, initial_point=start.numpy()
    )
    W = group["params"][0].detach()
    assert -float(((S @ W) * W * N).sum()) == pytest.approx(found.cost, abs=1e-9)
    close((W.mT @ torch.from_numpy(found.point)).abs(), torch.eye(2, dtype=F64), 1e-6)
