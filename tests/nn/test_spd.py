"""Layers for covariance matrices: what each computes, its gradients, and what normalisation promises."""

import copy
import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.func import functional_call

from repgeom.manifolds.spd import (
    affine_invariant,
    bures_wasserstein,
    expm,
    log_cholesky,
    log_euclidean,
    logm,
    powm,
    random,
    sqrtm,
)
from repgeom.nn.spd import BiMap, LogEig, ReEig, SPDBatchNorm, SPDNet
from repgeom.nn.spd.norm import METRICS
from repgeom.optim import RiemannianSGD, parameter_groups

F64 = torch.float64
EYE = torch.eye(3, dtype=F64)
OTHERS = METRICS[1:]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=F64)


def points(n: int, size: int = 3, seed: int = 0, spread: float = 0.5) -> Tensor:
    return random(n, generator(seed), F64, size=size, spread=spread)


def sym(A: Tensor) -> Tensor:
    return (A + A.mT) / 2


def diagonal(*values: float) -> Tensor:
    return torch.diag(torch.tensor(values, dtype=F64))


def rotated(*values: float) -> Tensor:
    Q = torch.linalg.qr(gaussian(len(values), len(values), seed=9))[0]
    return sym(Q @ diagonal(*values) @ Q.mT)


def close(a: Tensor, b: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a.detach(), b.detach(), rtol=0, atol=atol)


def right_slopes(f: Callable[..., Tensor], *inputs: Tensor, every_entry: bool = True) -> None:
    """gradcheck of a random linear form of f to 1e-6: entry by entry, or along a random direction of each input."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    C = gaussian(*f(*leaves).shape, seed=5)
    options = {"eps": 1e-5, "atol": 1e-6, "rtol": 1e-6, "fast_mode": not every_entry}
    assert gradcheck(lambda *x: (C * f(*x)).sum(), leaves, **options)


# ----------------------------------------------------------------------------------------------------------- the layers


def test_bimap_starts_uniformly_on_the_stiefel_manifold() -> None:
    """Q of a QR decomposition with positive diagonal."""
    W = BiMap(7, 4, generator(3), F64).weight
    close(W.mT @ W, torch.eye(4, dtype=F64), 1e-14)
    R = W.mT @ gaussian(7, 4, seed=3)
    assert R.tril(-1).abs().max() < 1e-14
    assert R.diagonal().min() > 0
    assert not torch.equal(W, BiMap(7, 4, generator(4), F64).weight)
    assert BiMap(7, 4).weight.dtype == torch.float32


def test_bimap_formula_and_gradient() -> None:
    layer, X = BiMap(5, 3, generator(), F64), points(4, 5).reshape(2, 2, 5, 5)
    W = layer.weight
    Y = layer(X)
    close(Y, torch.einsum("na,...nm,mb->...ab", W, X, W))
    assert torch.equal(Y, Y.mT)
    C, X = gaussian(2, 2, 3, 3), X.clone().requires_grad_()
    to_X, to_W = torch.autograd.grad((C * layer(X)).sum(), (X, W))
    close(to_X, W @ sym(C) @ W.mT)
    close(to_W, (2 * X @ W @ sym(C)).sum((0, 1)))
    right_slopes(lambda X, W: functional_call(layer, {"weight": W}, (X,)), X, W)


def test_bimap_refuses() -> None:
    for sizes in ((4, 5), (4, 0), (0, 0)):
        with pytest.raises(ValueError, match=rf"in_size, out_size: received {sizes[0]} and {sizes[1]}; valid .*Repair"):
            BiMap(*sizes)
    layer = BiMap(4, 2)
    with pytest.raises(ValueError, match=r"X: received 3 x 3 matrices; valid are 4 x 4\. Repair: "):
        layer(torch.eye(3))
    with pytest.raises(ValueError, match=r"X: received shape \(4, 3\); valid are square"):
        layer(torch.zeros(4, 3))
    assert "4, 2" in repr(layer)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_reeig_formula(dtype: torch.dtype) -> None:
    X = sym(gaussian(6, 4, 4)).to(dtype)
    values, vectors = torch.linalg.eigh(X)
    Y = ReEig(0.3)(X)
    torch.testing.assert_close(Y, vectors @ torch.diag_embed(values.clamp_min(0.3)) @ vectors.mT)
    torch.testing.assert_close(torch.linalg.eigvalsh(Y), values.clamp_min(0.3))
    high = X @ X + torch.eye(4, dtype=dtype)
    torch.testing.assert_close(ReEig(0.3)(high), high)


@pytest.mark.parametrize(
    "values",
    [
        *[(0.7, 1.0, 2.0), (0.1, 1.0, 2.0), (-1.0, 0.1, 3.0), (-1.0, 0.1, 0.2), (2.0, 2.0, 3.0), (0.1, 0.1, 0.1)],
        *[(0.1, 0.1, 2.0), (0.1, 2.0, 2.0), (2.0, 2.0, 2.0)],
    ],
    ids=str,
)
def test_reeig_gradient(values: tuple[float, ...]) -> None:
    """Above, mixed, below, repeated; a plain eigh differentiates repeated eigenvalues to NaN."""
    right_slopes(lambda X: ReEig(0.5)(sym(X)), torch.stack([diagonal(*values), rotated(*values)]))


def test_reeig_at_the_threshold() -> None:
    """There the slope is that from below, as clamp_min has it where it is not differentiable: finite, not NaN."""
    C, X = sym(gaussian(3, 3)), diagonal(0.5, 0.5, 2.0).requires_grad_()
    gradient = torch.autograd.grad((C * ReEig(0.5)(X)).sum(), X)[0]
    keep = torch.tensor([[0, 0, 1], [0, 0, 1], [1, 1, 1]], dtype=F64)
    close(gradient, keep * C)


def test_reeig_refuses() -> None:
    for threshold in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"threshold: received .*; valid is a positive number"):
            ReEig(threshold)
    with pytest.raises(ValueError, match="X: received a matrix with NaN"):
        ReEig()(torch.full((2, 2), math.nan))
    with pytest.raises(ValueError, match=r"X: received shape \(2, 3\)"):
        ReEig()(torch.zeros(2, 3))
    assert "threshold=0.0001" in repr(ReEig())


def test_logeig_order_norm_and_gradient() -> None:
    S = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]], dtype=F64) / 4
    r = 2**0.5
    close(4 * LogEig()(expm(S)), torch.tensor([1, 4, 6, 2 * r, 3 * r, 5 * r], dtype=F64))
    X = points(10, 4).reshape(2, 5, 4, 4)
    v = LogEig()(X)
    assert v.shape == (2, 5, 10)
    close(v.norm(dim=-1), logm(X).norm(dim=(-2, -1)))
    right_slopes(lambda X: LogEig()(sym(X)), torch.stack([EYE, rotated(1.0, 1.0, 2.0), points(1)[0]]))
    with pytest.raises(ValueError, match="X: received a matrix with eigenvalue -1"):
        LogEig()(diagonal(1.0, -1.0))


def two_classes(n: int, size: int) -> tuple[Tensor, Tensor]:
    """Covariances of noise; in the second class two channels move together."""
    z, label = gaussian(n, size, 40, seed=2), torch.arange(n) % 2
    z[label == 1, 1] += z[label == 1, 0]
    return z @ z.mT / 40, label


def classifier(norm: Callable[[int], nn.Module] | None = None, seed: int = 0) -> SPDNet:
    return SPDNet([6, 5, 3], 2, norm, generator=generator(seed), dtype=F64)


def test_spdnet_shapes_and_generator() -> None:
    X, _ = two_classes(8, 6)
    net = classifier()
    assert net(X).shape == (8, 2)
    assert net(X.reshape(2, 4, 6, 6)).shape == (2, 4, 2)
    assert torch.equal(net(X), classifier()(X))
    assert not torch.equal(net(X), classifier(seed=1)(X))
    kinds = [type(layer).__name__ for layer in classifier(lambda n: SPDBatchNorm(n, dtype=F64)).features]
    assert kinds == ["BiMap", "SPDBatchNorm", "ReEig"] * 2 + ["LogEig"]
    assert max(p.abs().max() for p in net.classifier.parameters()) <= 6**-0.5
    assert all(p.dtype == torch.float32 for p in SPDNet([4, 2], 3).parameters())


@pytest.mark.parametrize("metric", [None, *METRICS])
def test_spdnet_learns(metric: str | None) -> None:
    """The loss falls, W stays orthonormal, G and M stay positive definite."""
    X, label = two_classes(40, 6)
    net = classifier(None if metric is None else lambda n: SPDBatchNorm(n, metric, dtype=F64))
    optimizer = RiemannianSGD(parameter_groups(net, lr=0.05), momentum=0.9)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(X), label)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    for module in net.modules():
        if isinstance(module, BiMap):
            W = module.weight
            close(W.mT @ W, torch.eye(W.shape[1], dtype=F64), 1e-13)
        if isinstance(module, SPDBatchNorm):
            for P in (module.bias, module.metric_matrix):
                if P is not None:
                    assert torch.equal(P, P.mT)
                    assert torch.linalg.eigvalsh(P).min() > 0
                    assert not torch.allclose(P, torch.eye(len(P), dtype=F64))


def test_spdnet_refuses() -> None:
    for sizes, classes in (([8], 2), ([8, 4], 0)):
        with pytest.raises(ValueError, match=r"sizes, classes: received \[.*; valid are two or more sizes"):
            SPDNet(sizes, classes)
    with pytest.raises(ValueError, match="in_size, out_size: received 4 and 8"):
        SPDNet([4, 8], 2)
    with pytest.raises(ValueError, match="X: received 5 x 5 matrices; valid are 6 x 6"):
        classifier()(torch.eye(5, dtype=F64))


# ------------------------------------------------------------------------------------------------- the layer's gradient

GENERIC = (points(3, seed=1), points(1, seed=2)[0], points(1, seed=3)[0], 0.8)  # X, M, G, s
AT_IDENTITY = (points(3, seed=1), EYE, EYE, 1.0)
REPEATED = (torch.stack([c * diagonal(1, 1, 2) for c in (0.5, 1, 2)]), diagonal(1, 1, 2), diagonal(1, 1, 2), 0.8)
PLACES = {"generic": GENERIC, "M = G = I": AT_IDENTITY, "repeated": REPEATED}
OPTIONS = [
    *[{"metric": "bures_wasserstein", "theta": t, "mean_steps": k} for t, k in product((1, 0.5), (1, 3))],
    *[
        {"metric": "affine_invariant", "theta": t, "mean_steps": k, "congruence": c}
        for t, k, c in product((1, 0.5), (1, 3), ("sqrt", "cholesky"))
    ],
    {"metric": "log_euclidean"},
    *[{"metric": "log_cholesky", "theta": t} for t in (1, 0.5)],
]


def brief(options: dict[str, object]) -> str:
    return "-".join(str(value) for value in options.values())


def parameters_of(layer: SPDBatchNorm, M: Tensor, G: Tensor, s: float) -> dict[str, Tensor]:
    values = {"bias": G, "metric_matrix": M, "scale": torch.tensor(s, dtype=F64)}
    return {name: values[name] for name, _ in layer.named_parameters()}


def whole(layer: SPDBatchNorm, names: list[str]) -> Callable[..., Tensor]:
    """The layer as a function of X and its parameters, all made symmetric, running statistics reset."""
    fresh = {name: buffer.clone() for name, buffer in layer.named_buffers()}

    def function(X: Tensor, *parameters: Tensor) -> Tensor:
        for name, buffer in layer.named_buffers():
            buffer.copy_(fresh[name])
        symmetric = [p if p.dim() == 0 else sym(p) for p in parameters]
        return functional_call(layer, dict(zip(names, symmetric, strict=True)), (sym(X),))

    return function


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("options", OPTIONS, ids=brief)
def test_gradient_of_the_whole_layer(options: dict[str, object], place: str) -> None:
    """In training mode, towards X, M, G and s; entry by entry for the layer as released."""
    layer = SPDBatchNorm(3, dtype=F64, **options)
    X, *rest = PLACES[place]
    inputs = parameters_of(layer, *rest)
    assert set(inputs) == {"bias", "scale"} | ({"metric_matrix"} if "bures" in str(options["metric"]) else set())
    every_entry = options["metric"] == "bures_wasserstein" and options["mean_steps"] == 1
    right_slopes(whole(layer, list(inputs)), X, *inputs.values(), every_entry=every_entry)


@pytest.mark.parametrize("place", ["generic", "M = G = I"])
@pytest.mark.parametrize("theta", [1, 0.5])
@pytest.mark.parametrize("metric", METRICS)
def test_gradient_where_samples_fold(metric: str, theta: float, place: str) -> None:
    """Data 200 times as large. Folding is a matter of Bures-Wasserstein; the others must not mind either."""
    layer = SPDBatchNorm(3, metric, theta, dtype=F64)
    X, *rest = PLACES[place]
    X = points(5, seed=1, spread=1.0)
    inputs = parameters_of(layer, *rest)
    f = whole(layer, list(inputs))
    f(200 * X, *inputs.values())
    assert (layer.folded > 0) == (metric == "bures_wasserstein")
    right_slopes(lambda X, *p: f(200 * X, *p), X, *inputs.values(), every_entry=False)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("changes", [{"dispersion": False}, {"statistics_gradient": False}], ids=str)
def test_gradient_of_variants(metric: str, changes: dict[str, bool]) -> None:
    """Without dispersion; and in evaluation mode, where statistics are constants."""
    layer = SPDBatchNorm(3, metric, dtype=F64, **changes)
    X, *rest = GENERIC
    layer(X)
    layer.train("dispersion" in changes)
    inputs = parameters_of(layer, *rest)
    assert ("scale" in inputs) == ("dispersion" not in changes)
    right_slopes(whole(layer, list(inputs)), X, *inputs.values(), every_entry=False)


@pytest.mark.parametrize("theta", [1, 0.5])
@pytest.mark.parametrize("metric", METRICS)
def test_without_their_gradient_statistics_are_constants(metric: str, theta: float) -> None:
    """As in evaluation mode with running statistics that are the batch's; with it, the gradient differs."""
    X, *rest = GENERIC
    gradients = []
    for flow, training in ((False, True), (False, False), (True, True)):
        layer = SPDBatchNorm(3, metric, theta, momentum=1.0, statistics_gradient=flow, dtype=F64)
        inputs = parameters_of(layer, *rest)
        functional_call(layer, inputs, (X,))  # leaves the statistics of the batch
        layer.train(training)
        leaves = [x.clone().requires_grad_() for x in (X, *inputs.values())]
        out = functional_call(layer, dict(zip(inputs, leaves[1:], strict=True)), (leaves[0],))
        gradients.append(torch.autograd.grad((gaussian(3, 3, 3) * out).sum(), leaves))
    for detached, constant in zip(gradients[0], gradients[1], strict=True):
        close(detached, constant, 1e-9)
    assert (gradients[0][0] - gradients[2][0]).abs().max() > 1e-2


# ---------------------------------------------------------------------------------------------- what the layer promises


def with_parameters(
    layer: SPDBatchNorm, M: Tensor | None = None, G: Tensor | None = None, s: float = 1
) -> SPDBatchNorm:
    with torch.no_grad():
        for parameter, value in ((layer.metric_matrix, M), (layer.bias, G)):
            if parameter is not None and value is not None:
                parameter.copy_(value)
        if layer.scale is not None:
            layer.scale.fill_(s)
    return layer


def mean_under(layer: SPDBatchNorm, X: Tensor) -> Tensor:
    theta = layer.theta
    if layer.metric == "bures_wasserstein":
        return bures_wasserstein.mean(X, M=layer.metric_matrix, theta=theta)
    if layer.metric == "log_euclidean":
        return log_euclidean.mean(X)
    space = affine_invariant if layer.metric == "affine_invariant" else log_cholesky
    return powm(space.mean(powm(X, theta)), 1 / theta)


def variance_under(layer: SPDBatchNorm, X: Tensor, centre: Tensor) -> Tensor:
    theta = layer.theta
    if layer.metric == "bures_wasserstein":
        return bures_wasserstein.distance(X, centre, M=layer.metric_matrix, theta=theta).square().mean()
    if layer.metric == "log_euclidean":
        return log_euclidean.distance(X, centre).square().mean()
    space = affine_invariant if layer.metric == "affine_invariant" else log_cholesky
    return space.distance(powm(X, theta), powm(centre, theta)).square().mean() / theta**2


CONVERGED = [
    (metric, theta, congruence)
    for metric in METRICS
    for theta in (1.0, 0.5)
    for congruence in (("sqrt", "cholesky") if metric == "affine_invariant" else ("sqrt",))
]


@pytest.mark.parametrize(("metric", "theta", "congruence"), CONVERGED)
def test_mean_and_variance_are_what_was_asked_for(metric: str, theta: float, congruence: str) -> None:
    """With a converged mean and no folding, to rounding."""
    X, M, G = points(20, 4, seed=1, spread=0.3), points(1, 4, seed=2)[0], 2 * points(1, 4, seed=3)[0]
    steps = 50 if metric == "affine_invariant" else 30
    options = {"theta": theta, "mean_steps": steps, "congruence": congruence, "dtype": F64}
    eye = torch.eye(4, dtype=F64)

    centring = SPDBatchNorm(4, metric, dispersion=False, **options)
    C = centring(X)
    assert centring.folded == 0
    close(mean_under(centring, C), eye)
    v = variance_under(centring, X, mean_under(centring, X))
    close(variance_under(centring, C, eye), v)

    centring = with_parameters(centring, M, G)
    C = centring(X)
    close(mean_under(centring, C), G)
    v = variance_under(centring, X, mean_under(centring, X))
    close(variance_under(centring, C, G), v)

    layer = with_parameters(SPDBatchNorm(4, metric, **options), M, G, s=0.4)
    Y = layer(X)
    assert layer.folded == 0
    close(mean_under(layer, Y), G)
    close(variance_under(layer, Y, G), 0.4**2 * v / (v + layer.eps))


def test_large_data_fold_and_the_first_batch_as_metric_cures_it() -> None:
    X = points(30, 5, seed=1)
    shares, errors, eye = [], [], torch.eye(5, dtype=F64)
    for unit in (1, 3, 10, 100):
        layer = SPDBatchNorm(5, mean_steps=30, dispersion=False, dtype=F64)
        Y = layer(unit * X).detach()
        shares.append(float(layer.folded))
        errors.append(float((bures_wasserstein.mean(Y) - eye).norm()))
    assert shares[0] == 0 and shares[3] == 1
    assert shares == sorted(shares)
    assert errors[0] < 1e-12 and errors[1] > 0.1 and errors[3] > 10

    for theta, unit, dispersion in product((1.0, 0.5), (0.01, 1, 100), (True, False)):
        options = {"metric_start": "first_batch", "mean_steps": 30, "dispersion": dispersion}
        layer = SPDBatchNorm(5, "bures_wasserstein", theta, **options, dtype=F64)
        layer = with_parameters(layer, s=0.5)
        Y = layer(unit * X)
        assert layer.folded == 0
        M = powm(unit * X, theta).mean(0)
        close(layer.metric_matrix / unit, M / unit)
        close(layer.bias / unit, powm(M, 1 / theta) / unit)
        close(mean_under(layer, Y) / unit, layer.bias / unit)
        layer(X)
        close(layer.metric_matrix / unit, M / unit)  # from the first batch only


@pytest.mark.parametrize("theta", [1.0, 0.5])
def test_a_small_bias_folds_and_is_counted(theta: float) -> None:
    """Around a G near the surface of the cone there is no room for the spread of the batch."""
    X = points(30, 4, seed=1)
    folded = []
    for g in (1.0, 0.1, 1e-4):
        layer = SPDBatchNorm(4, "bures_wasserstein", theta, mean_steps=30, dispersion=False, dtype=F64)
        Y = with_parameters(layer, G=g ** (1 / theta) * torch.eye(4, dtype=F64))(X)
        folded.append(float(layer.folded))
        assert ((mean_under(layer, Y) - layer.bias).norm() > 1e-2 * layer.bias.norm()) == (layer.folded > 0)
    assert folded[0] == 0 and 0 < folded[1] <= folded[2] == 1


def test_affine_invariant_without_dispersion_is_spdnetbn() -> None:
    """G^1/2 B^-1/2 X B^-1/2 G^1/2; the unit of the data cancels, and a congruence but for a rotation."""
    X, G = points(12, 4, seed=1), points(1, 4, seed=2)[0]
    layer = with_parameters(SPDBatchNorm(4, "affine_invariant", dispersion=False, dtype=F64), G=G)
    B = affine_invariant.mean(X, steps=1)
    root, factor = torch.linalg.inv(sqrtm(B)), sqrtm(G)
    close(layer(X), factor @ root @ X @ root @ factor)
    for c in (1e-4, 3.0, 1e6):
        close(layer(c * X), layer(X))
    centring = SPDBatchNorm(4, "affine_invariant", dispersion=False, dtype=F64)
    A = gaussian(4, 4, seed=3)
    Y, Z = centring(X), centring(A @ X @ A.mT)
    assert (Y - Z).abs().max() > 0.1
    close(torch.linalg.eigvalsh(Y), torch.linalg.eigvalsh(Z), 1e-11)
    close(torch.einsum("iab,jbc,kca->ijk", Y, Y, Y), torch.einsum("iab,jbc,kca->ijk", Z, Z, Z), 1e-9)


def test_lie_normalisation_written_out() -> None:
    """LieBN: subtract, multiply, add in log or log-Cholesky coordinates; translate by Cholesky factors under AIM."""
    X, G, s, eps = points(6, seed=1).numpy(), points(1, seed=2)[0].numpy(), 0.7, 1e-5
    mlog, mexp = scipy.linalg.logm, scipy.linalg.expm

    def layer(metric: str, theta: float = 1.0, **options: object) -> np.ndarray:
        norm = with_parameters(SPDBatchNorm(3, metric, theta, dtype=F64, **options), G=torch.from_numpy(G), s=s)
        return norm(torch.from_numpy(X)).detach().numpy()

    S = np.stack([mlog(x) for x in X])
    V = S - S.mean(0)
    v = np.mean([np.sum(x**2) for x in V])
    expected = np.stack([mexp(s / np.sqrt(v + eps) * x + mlog(G)) for x in V])
    for theta in (1.0, 0.5):  # a power only multiplies these coordinates
        np.testing.assert_allclose(layer("log_euclidean", theta), expected, rtol=0, atol=1e-12)

    def coordinates(A: np.ndarray) -> np.ndarray:
        L = np.linalg.cholesky(A)
        return np.tril(L, -1) + np.diag(np.log(np.diag(L)))

    def back(S: np.ndarray) -> np.ndarray:
        L = np.tril(S, -1) + np.diag(np.exp(np.diag(S)))
        return L @ L.T

    def power(A: np.ndarray, p: float) -> np.ndarray:
        return scipy.linalg.fractional_matrix_power(A, p).real

    for theta in (1.0, 0.5, -0.5):
        S = np.stack([coordinates(power(x, theta)) for x in X])
        V = S - S.mean(0)
        v = np.mean([np.sum(x**2) for x in V]) / theta**2
        moved = [back(s / np.sqrt(v + eps) * x + coordinates(power(G, theta))) for x in V]
        expected = np.stack([power(y, 1 / theta) for y in moved])
        np.testing.assert_allclose(layer("log_cholesky", theta), expected, rtol=0, atol=1e-11)

    for theta in (1.0, 0.5):
        Y = np.stack([power(x, theta) for x in X])
        B = affine_invariant.mean(torch.from_numpy(Y), steps=1).numpy()
        K, F = np.linalg.inv(np.linalg.cholesky(B)), np.linalg.cholesky(power(G, theta))
        V = np.stack([mlog(K @ y @ K.T) for y in Y])
        v = np.mean([np.sum(x**2) for x in V]) / theta**2
        expected = np.stack([power(F @ mexp(s / np.sqrt(v + eps) * x) @ F.T, 1 / theta) for x in V])
        ours = layer("affine_invariant", theta, congruence="cholesky")
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-11)


def naive_bures_wasserstein(
    X: np.ndarray, M: np.ndarray, G: np.ndarray, s: float, theta: float, eps: float, dispersion: bool = True
) -> tuple[np.ndarray, np.ndarray, float]:
    """GBWBN one matrix at a time, from the formulas of its geometry; also the mean and the variance of the batch."""
    eye = np.eye(len(M))

    def root(A: np.ndarray) -> np.ndarray:
        return np.real(scipy.linalg.sqrtm(A))

    def power(A: np.ndarray, p: float) -> np.ndarray:
        return np.real(scipy.linalg.fractional_matrix_power(A, p))

    def from_identity(B: np.ndarray, V: np.ndarray, inverse: bool = False) -> np.ndarray:
        """Parallel transport from I to B is the square root of the operator V -> (B V + V B) / 2."""
        operator = root((np.kron(B, eye) + np.kron(eye, B)) / 2)
        flat = np.linalg.solve(operator, V.ravel()) if inverse else operator @ V.ravel()
        return flat.reshape(V.shape)

    def log(A: np.ndarray, B: np.ndarray) -> np.ndarray:
        half = root(A)
        inverse = np.linalg.inv(half)
        T = inverse @ root(half @ B @ half) @ inverse
        return A @ T + T @ A - 2 * A

    def exp(A: np.ndarray, V: np.ndarray) -> np.ndarray:
        L = scipy.linalg.solve_sylvester(A, A, V)
        return (eye + L) @ A @ (eye + L)

    outer = root(M)
    inner = np.linalg.inv(outer)
    Y = [inner @ power(x, theta) @ inner for x in X]
    Ghat = inner @ power(G, theta) @ inner
    B = np.mean(Y, axis=0)
    B = exp(B, np.mean([log(B, y) for y in Y], axis=0))
    cross = [np.trace(root(root(B) @ y @ root(B))) for y in Y]
    v = float(np.mean([np.trace(y) + np.trace(B) - 2 * c for y, c in zip(Y, cross, strict=True)]) / theta**2)
    out = []
    for y in Y:
        C = exp(eye, from_identity(B, log(B, y), inverse=True))
        if dispersion:
            C = exp(eye, 2 * s / np.sqrt(v + eps) * (root(C) - eye))
        O = exp(Ghat, from_identity(Ghat, 2 * (root(C) - eye)))
        out.append(power(outer @ O @ outer, 1 / theta))
    return np.stack(out), B, v


@pytest.mark.parametrize(
    ("unit", "s"), [(1.0, 0.3), (1.0, 3.0), (1.0, -0.5), (30.0, 0.3), (30.0, -2.0), (1.0, None), (30.0, None)]
)
@pytest.mark.parametrize("theta", [1.0, 0.5, -0.5])
def test_bures_wasserstein_written_out(theta: float, unit: float, s: float | None) -> None:
    """Against loops with scipy's matrix functions, where nothing folds and where much does; None is no dispersion."""
    X, M, G = unit * points(5, seed=1, spread=1.0), points(1, seed=2)[0], points(1, seed=3)[0]
    dispersion, s = s is not None, s or 1.0
    layer = SPDBatchNorm(3, "bures_wasserstein", theta, dispersion=dispersion, dtype=F64)
    Y = with_parameters(layer, M, G, s)(X)
    expected, B, v = naive_bures_wasserstein(X.numpy(), M.numpy(), G.numpy(), s, theta, layer.eps, dispersion)
    np.testing.assert_allclose(Y.detach().numpy(), expected, rtol=1e-10, atol=1e-10)
    R = bures_wasserstein.geodesic(EYE, torch.from_numpy(B), 0.1)
    torch.testing.assert_close(layer.running_mean, R, rtol=1e-11, atol=1e-11)
    assert float(layer.running_var) == pytest.approx(0.9 + 0.1 * v if dispersion else 1, rel=1e-11)


# ------------------------------------------------------------------------------------------------- statistics and state


@pytest.mark.parametrize("metric", METRICS)
def test_running_statistics(metric: str) -> None:
    """They move by the momentum, along a geodesic; after many equal batches evaluation agrees with training."""
    X, M, G = points(10, seed=1), points(1, seed=2)[0], points(1, seed=3)[0]
    layer, slow, fast = (
        with_parameters(SPDBatchNorm(3, metric, 0.5, momentum=momentum, dtype=F64), M, G, 0.9)
        for momentum in (0.5, 0.1, 1.0)
    )
    trained = layer(X)
    slow(X)
    fast(X)
    space = dict(zip(METRICS, (bures_wasserstein, affine_invariant, log_euclidean, log_cholesky), strict=True))[metric]
    close(slow.running_mean, space.geodesic(EYE, fast.running_mean, 0.1))
    close(slow.running_var, 0.9 + 0.1 * fast.running_var)
    assert int(slow.batches) == 1
    with torch.no_grad():
        for _ in range(50):
            layer(X)
    layer.eval()
    state = copy.deepcopy(layer.state_dict())
    close(layer(X), trained)
    close(layer(X[3]), trained[3])  # one matrix, by itself
    close(layer(X[3:4]), trained[3:4])
    assert layer(X[:0]).shape == (0, 3, 3)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("metric", METRICS)
def test_state_survives(metric: str) -> None:
    """state_dict, and deepcopy of a layer that was trained."""
    X, M, G = points(10, seed=1), points(1, seed=2)[0], points(1, seed=3)[0]
    options = {"theta": 0.5, "metric_start": "first_batch", "dtype": F64}
    layer, other = SPDBatchNorm(3, metric, **options), SPDBatchNorm(3, metric, **options)
    layer(X)
    with_parameters(layer, M, G, 0.9)(2 * X).sum().backward()
    twin = copy.deepcopy(layer)
    assert other.load_state_dict(layer.state_dict()).missing_keys == []
    outputs = [(module.eval()(X), module.train()(X)) for module in (layer, other, twin)]  # M does not start again
    for module, (evaluated, trained) in zip((other, twin), outputs[1:], strict=True):
        assert torch.equal(evaluated, outputs[0][0])
        assert torch.equal(trained, outputs[0][1])
        for name, value in module.state_dict().items():
            assert torch.equal(value, layer.state_dict()[name]), name


def test_what_is_a_parameter() -> None:
    state = {"bias", "running_mean", "running_var", "folded", "batches"}
    learned, fixed = SPDBatchNorm(3), SPDBatchNorm(3, learnable_metric=False)
    assert {name for name, _ in learned.named_parameters()} == {"bias", "scale", "metric_matrix"}
    assert {name for name, _ in fixed.named_parameters()} == {"bias", "scale"}
    assert "metric_matrix" in dict(fixed.named_buffers())
    for layer in (learned, fixed):
        assert set(layer.state_dict()) == state | {"scale", "metric_matrix"}
    for metric in OTHERS:
        assert set(SPDBatchNorm(3, metric).state_dict()) == state | {"scale"}
        assert SPDBatchNorm(3, metric).metric_matrix is None
    assert set(SPDBatchNorm(3, "log_cholesky", dispersion=False).state_dict()) == state
    X, M = points(5), points(1, seed=2)[0]
    fixed = with_parameters(SPDBatchNorm(3, learnable_metric=False, dtype=F64), M)
    torch.testing.assert_close(fixed(X), with_parameters(SPDBatchNorm(3, dtype=F64), M)(X), rtol=0, atol=0)
    assert fixed.double().metric_matrix.dtype == F64 and fixed.float().metric_matrix.dtype == torch.float32
    started = SPDBatchNorm(3, learnable_metric=False, metric_start="first_batch", dtype=F64)
    started(X)
    close(started.metric_matrix, X.mean(0))


@pytest.mark.parametrize("theta", [1, 0.5])
@pytest.mark.parametrize("metric", METRICS)
def test_float32_and_leading_dimensions(metric: str, theta: float) -> None:
    X = points(10, 4, seed=1).reshape(2, 5, 4, 4)
    layer = SPDBatchNorm(4, metric, theta, dtype=F64)
    Y = layer(X)
    assert Y.shape == X.shape
    close(Y.reshape(10, 4, 4), SPDBatchNorm(4, metric, theta, dtype=F64)(X.reshape(10, 4, 4)), 0)
    strided = X.movedim(1, 0).contiguous().movedim(0, 1)
    close(SPDBatchNorm(4, metric, theta, dtype=F64)(strided), Y, 0)
    single = SPDBatchNorm(4, metric, theta)
    x = X.float().requires_grad_()
    Z = single(x)
    assert Z.dtype == torch.float32
    torch.testing.assert_close(Z.double(), Y, rtol=0, atol=1e-4)
    gradient = torch.autograd.grad((gaussian(2, 5, 4, 4).float() * Z).sum(), x)[0]
    x64 = X.clone().requires_grad_()
    exact = torch.autograd.grad((gaussian(2, 5, 4, 4).float().double() * layer(x64)).sum(), x64)[0]
    torch.testing.assert_close(gradient.double(), exact, rtol=0, atol=1e-3)
    close(exact, exact.mT)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("theta", [1, 0.5])
@pytest.mark.parametrize("metric", METRICS)
def test_not_positive_definite(metric: str, theta: float, training: bool) -> None:
    """The message names the argument, its worst eigenvalue and where it is; statistics are left as they were."""
    layer = SPDBatchNorm(3, metric, theta, dtype=F64).train(training)
    X = points(6).reshape(2, 3, 3, 3)
    X[1, 0] = rotated(1.0, 2.0, -0.25)
    state = copy.deepcopy(layer.state_dict())
    with pytest.raises(ValueError, match=r"^X: received .* eigenvalue -0.25 \(largest 2\) at index \(1, 0\);"):
        layer(X)
    X[1, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"^X: received a matrix with eigenvalue nan .* at index \(1, 0\);"):
        layer(X)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, state[name]), name
    X = points(6)
    layer = with_parameters(layer, G=rotated(1.0, 2.0, -0.5))
    with pytest.raises(ValueError, match=r"^bias: received a matrix with eigenvalue -0.5"):
        layer(X)
    if metric == "bures_wasserstein":
        layer = with_parameters(layer, M=rotated(1.0, 2.0, -0.5), G=EYE)
        with pytest.raises(ValueError, match=r"^metric_matrix: received a matrix with eigenvalue -0.5"):
            layer(X)


def test_refusals() -> None:
    for options, message in (
        ({"metric": "euclidean"}, "metric: received 'euclidean'; valid is bures_wasserstein or "),
        ({"metric_start": "mean"}, "metric_start: received 'mean'; valid is identity or first_batch"),
        ({"congruence": "qr"}, "congruence: received 'qr'; valid is sqrt or cholesky"),
        ({"size": 0}, "size, theta, mean_steps, momentum, eps: received 0, 1.0"),
        ({"theta": 0}, "valid are size >= 1, theta other than 0"),
        ({"theta": math.nan}, "valid are size >= 1, theta other than 0"),
        ({"mean_steps": 0}, "mean_steps >= 1"),
        ({"momentum": 0.0}, "0 < momentum <= 1"),
        ({"momentum": 1.1}, "0 < momentum <= 1"),
        ({"eps": -1.0}, "eps >= 0"),
    ):
        with pytest.raises(ValueError, match=f"{message}.*Repair: "):
            SPDBatchNorm(**{"size": 3, **options})
    layer = SPDBatchNorm(3, dtype=F64)
    for X, message in (
        (points(4, 4), "X: received 4 x 4 matrices of torch.float64; valid are 3 x 3 of torch.float64"),
        (points(4).float(), "X: received 3 x 3 matrices of torch.float32; valid are 3 x 3 of torch.float64"),
        (points(1), "X: received a training batch of 1; valid are two matrices or more"),
        (points(1)[0], "X: received a training batch of 1"),
        (points(2)[:0], "X: received a training batch of 0"),
        (torch.zeros(4, 3, 2, dtype=F64), r"X: received shape \(4, 3, 2\)"),
    ):
        with pytest.raises(ValueError, match=f"{message}.*Repair: "):
            layer(X)
    assert "metric='bures_wasserstein', theta=1" in repr(layer)
