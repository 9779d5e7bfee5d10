"""Similarities against slow and obvious twins, by-hand cases, their invariances, and what they refuse."""

import inspect
import math
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from repgeom.probes import similarity as sim

F64 = torch.float64
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
either = pytest.mark.parametrize("debiased", [False, True])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=F64).to(dtype)


def orthogonal(d: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(gaussian(d, d, seed=seed))[0]


def related(n: int, d: int, e: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two representations that share something, with means far from zero."""
    X = gaussian(n, d, seed=seed) * torch.linspace(1, 3, d, dtype=F64) + 2
    return X, X @ gaussian(d, e, seed=seed + 1) + gaussian(n, e, seed=seed + 2) - 1


# ----------------------------------------------------------------------------------------------------------- slow twins


def slow_hsic(K: Tensor, L: Tensor, debiased: bool) -> float:
    """The biased one from centred tables, the debiased one as the mean over quadruples of different inputs."""
    n = len(K)
    if not debiased:
        H = torch.eye(n, dtype=F64) - 1 / n
        return float(torch.trace(K @ H @ L @ H)) / (n - 1) ** 2
    total, count = 0.0, 0
    for i, j, q, r in permutations(range(n), 4):
        total += float(K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q]))
        count += 1
    return total / count


def slow_cka(X: Tensor, Y: Tensor, debiased: bool) -> float:
    K, L = X @ X.mT, Y @ Y.mT
    return slow_hsic(K, L, debiased) / math.sqrt(slow_hsic(K, K, debiased) * slow_hsic(L, L, debiased))


@either
def test_hsic_is_that_of_the_definition(debiased: bool) -> None:
    X, Y = related(7, 3, 4)
    K, L = X @ X.mT, sim.gaussian_gram(Y)
    assert float(sim.hsic(K, L, debiased)) == pytest.approx(slow_hsic(K, L, debiased), rel=1e-10)


@either
def test_hsic_does_not_see_constants_on_rows(debiased: bool) -> None:
    X, Y = related(9, 3, 4)
    K, L, c = X @ X.mT, Y @ Y.mT, gaussian(9, seed=5)
    moved = sim.hsic(K + c[:, None] + c, L + 3, debiased)
    torch.testing.assert_close(moved, sim.hsic(K, L, debiased))


@either
@pytest.mark.parametrize(("n", "d", "e"), [(8, 3, 4), (8, 8, 2), (6, 20, 4), (6, 2, 9)])
def test_linear_cka_on_either_side_of_the_product(n: int, d: int, e: int, debiased: bool) -> None:
    X, Y = related(n, d, e)
    assert float(sim.linear_cka(X, Y, debiased)) == pytest.approx(slow_cka(X, Y, debiased), abs=1e-10)
    by_kernel = sim.kernel_cka(X @ X.mT, Y @ Y.mT, debiased)
    torch.testing.assert_close(by_kernel, sim.linear_cka(X, Y, debiased), rtol=1e-9, atol=1e-12)


@every_dtype
@either
def test_linear_cka_keeps_digits_beside_a_large_mean(dtype: torch.dtype, debiased: bool) -> None:
    X, Y = related(300, 12, 9)
    exact = sim.linear_cka(X, Y, debiased)
    far = sim.linear_cka((X + 300).to(dtype), (Y - 500).to(dtype), debiased)
    assert far.dtype == dtype
    assert abs(float(far - exact)) < (1e-4 if dtype == torch.float32 else 1e-11)


def test_cka_by_hand() -> None:
    square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], dtype=F64)
    assert float(sim.linear_cka(square, square[:, :1])) == pytest.approx(1 / math.sqrt(2))
    assert float(sim.linear_cka(square[:, :1], square[:, 1:])) == 0


@pytest.mark.parametrize("d", [20, 100, 400])
def test_cka_of_noise_is_d_over_d_plus_n_and_debiased_is_zero(d: int) -> None:
    pairs = [(gaussian(40, d, seed=2 * s), gaussian(40, d, seed=2 * s + 1)) for s in range(30)]
    biased, debiased = (sum(float(sim.linear_cka(X, Y, way)) for X, Y in pairs) / 30 for way in (False, True))
    assert biased == pytest.approx(d / (d + 40), abs=0.02)
    assert abs(debiased) < 0.03


@either
def test_cka_of_a_stack_is_pair_by_pair(debiased: bool) -> None:
    X, Y = gaussian(3, 30, 4), gaussian(30, 5, seed=1)
    together = sim.linear_cka(X, Y, debiased)
    each = torch.stack([sim.linear_cka(x, Y, debiased) for x in X])
    torch.testing.assert_close(together, each)
    wide = gaussian(2, 5, 30), gaussian(2, 5, 7, seed=1)
    torch.testing.assert_close(sim.linear_cka(*wide, debiased)[1], sim.linear_cka(wide[0][1], wide[1][1], debiased))


@either
@pytest.mark.parametrize("n", [6, 30])
def test_cka_has_the_slope_of_finite_differences(debiased: bool, n: int) -> None:
    X, Y = related(n, 8, 5)
    assert torch.autograd.gradcheck(
        lambda x, y: sim.linear_cka(x, y, debiased), (X.requires_grad_(), Y.requires_grad_())
    )


def test_gaussian_gram_by_hand() -> None:
    X = torch.tensor([[0.0], [1.0], [3.0]], dtype=F64)  # distances 1, 2, 3: the median is 2
    K = sim.gaussian_gram(X, 0.5)
    assert float(K[0, 1]) == pytest.approx(math.exp(-1 / 2)) and float(K[0, 2]) == pytest.approx(math.exp(-9 / 2))
    torch.testing.assert_close(sim.gaussian_gram(7 * X, 0.5), K)
    assert float(sim.gaussian_gram(X, 2.0)[0, 1]) == pytest.approx(math.exp(-1 / 32))


# ------------------------------------------------------------------------------------------------------------ streaming


@either
@every_dtype
def test_streaming_is_exact(dtype: torch.dtype, debiased: bool) -> None:
    X, Y = related(500, 12, 20)
    X, Y = (X + 1000).to(dtype), Y.to(dtype)
    exact, stream = sim.linear_cka(X.double(), Y.double(), debiased), sim.LinearCKA()
    for rows in torch.arange(500).split([1, 2, 200, 97, 200]):
        stream.update(X[rows], Y[rows])
    assert stream.n == 500 and stream.value(debiased).dtype == F64
    assert abs(float(stream.value(debiased) - exact)) < (2e-5 if dtype == torch.float32 else 1e-11)


def test_streaming_takes_sorted_data() -> None:
    """Batches of one class each, whose means differ: no average over batches would do."""
    X = gaussian(300, 6) + 5 * torch.arange(3).repeat_interleave(100)[:, None]
    Y, stream = X.relu(), sim.LinearCKA()
    for rows in torch.arange(300).split(100):
        stream.update(X[rows], Y[rows])
    torch.testing.assert_close(stream.value(), sim.linear_cka(X, Y))
    torch.testing.assert_close(stream.value(True), sim.linear_cka(X, Y, True))


def test_streaming_adds_up_small_batches_in_float64() -> None:
    X, Y = gaussian(20_000, 2, dtype=torch.float32), gaussian(20_000, 2, seed=1, dtype=torch.float32)
    stream = sim.LinearCKA()
    for rows in torch.arange(20_000).split(50):
        stream.update(X[rows], X[rows] + Y[rows])
    exact = sim.linear_cka(X.double(), (X + Y).double())
    assert abs(float(stream.value() - exact)) < 1e-7


# ------------------------------------------------------------------------------------------------------------ rotations


def test_procrustes_map_finds_the_map() -> None:
    X, Q = gaussian(30, 5), orthogonal(5, 1)
    torch.testing.assert_close(sim.procrustes_map(X, X @ Q), Q)


@given(st.integers(0, 50))
def test_no_orthogonal_map_does_better(seed: int) -> None:
    X, Y = related(12, 3, 3, seed)
    Q = sim.procrustes_map(X, Y)
    best = float((X @ Q - Y).norm())
    for k in range(20):
        small = torch.linalg.matrix_exp((lambda A: 0.3 * (A - A.mT))(gaussian(3, 3, seed=1000 * seed + k)))
        assert best <= float((X @ Q @ small - Y).norm()) + 1e-12
        assert best <= float((X @ orthogonal(3, 1000 * seed + k) - Y).norm()) + 1e-12


def test_only_rotations_are_rotations_and_the_best_ones() -> None:
    X, mirror = gaussian(30, 3), torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=F64))
    Y = X @ orthogonal(3, 2) @ mirror
    R = sim.procrustes_map(X, Y, rotation=True)
    assert float(torch.linalg.det(R)) == pytest.approx(1)
    assert float(torch.linalg.det(sim.procrustes_map(X, X @ mirror))) == pytest.approx(-1)
    for k in range(200):
        Q = orthogonal(3, k)
        Q = Q * torch.linalg.det(Q)
        assert float((X @ R - Y).norm()) <= float((X @ Q - Y).norm()) + 1e-12


@pytest.mark.parametrize(("d", "e"), [(3, 5), (5, 3)])
def test_procrustes_of_different_widths(d: int, e: int) -> None:
    X, Y = related(20, d, e)
    Q = sim.procrustes_map(X, Y)
    small = Q @ Q.mT if d < e else Q.mT @ Q
    torch.testing.assert_close(small, torch.eye(min(d, e), dtype=F64))
    embedded = X @ orthogonal(5, 3)[:3] if d == 3 else X @ torch.linalg.qr(gaussian(5, 5))[0]
    assert float(sim.procrustes_distance(X, embedded)) < 1e-14


@every_dtype
def test_procrustes_distance_by_the_formula_and_at_zero(dtype: torch.dtype) -> None:
    X, Y = (Z.to(dtype) for Z in related(40, 6, 4))
    A, B = ((Z - Z.mean(0)) / (Z - Z.mean(0)).norm() for Z in (X.double(), Y.double()))
    formula = (2 - 2 * torch.linalg.svdvals(A.mT @ B).sum()).sqrt()
    assert float(sim.procrustes_distance(X, Y)) == pytest.approx(float(formula), rel=1e-5)
    turned = (3 * X.double() @ orthogonal(6, 4) + 1).to(dtype)
    assert float(sim.procrustes_distance(X, turned)) < (3e-6 if dtype == torch.float32 else 1e-14)
    torch.testing.assert_close(sim.procrustes_distance(X, Y), sim.procrustes_distance(Y, X))


@given(st.integers(0, 30))
def test_procrustes_distance_is_a_metric(seed: int) -> None:
    A, B, C = (gaussian(8, 3, seed=3 * seed + k) for k in range(3))
    d = sim.procrustes_distance
    assert float(d(A, C)) <= float(d(A, B)) + float(d(B, C)) + 1e-12
    assert 0 <= float(d(A, B)) <= math.sqrt(2)


def test_procrustes_distance_has_the_slope_of_finite_differences() -> None:
    X, Y = related(15, 4, 4)
    assert torch.autograd.gradcheck(sim.procrustes_distance, (X.requires_grad_(), Y.requires_grad_()))


# ------------------------------------------------------------------------------------------- correlations and matchings


def test_canonical_correlations_of_shared_directions() -> None:
    n = 400
    basis = torch.linalg.qr(gaussian(n, 7) - gaussian(n, 7).mean(0))[0]
    basis = torch.linalg.qr(basis - basis.mean(0))[0]
    X = basis[:, :3] @ gaussian(3, 3, seed=1)
    Y = torch.stack([basis[:, 0], 0.6 * basis[:, 1] + 0.8 * basis[:, 5], basis[:, 6]], 1) @ gaussian(3, 3, seed=2)
    expected = torch.tensor([1.0, 0.6, 0.0], dtype=F64)
    torch.testing.assert_close(sim.canonical_correlations(X + 3, Y - 5), expected, atol=1e-12, rtol=0)


@every_dtype
def test_rank_deficiency_is_seen_whatever_the_units(dtype: torch.dtype) -> None:
    X, Y = related(60, 4, 5)
    X = X * torch.tensor([1e-9, 1.0, 1e6, 1.0], dtype=F64)
    copies = torch.cat([X, X[:, :1] + X[:, 2:3] * 1e-15, torch.full((60, 2), 0.1, dtype=F64)], 1)
    found = sim.canonical_correlations(copies.to(dtype), Y.to(dtype))
    assert found.shape == (4,)
    torch.testing.assert_close(found.double(), sim.canonical_correlations(X, Y), atol=2e-4, rtol=0)


def test_forced_correlations_are_counted() -> None:
    found = sim.canonical_correlations(gaussian(30, 20), gaussian(30, 15, seed=1))
    assert found.shape == (15,) and int((found > 1 - 1e-10).sum()) == 20 + 15 - 29
    assert float(found.max()) <= 1


def test_matching_finds_a_permutation_with_scales() -> None:
    X, order = gaussian(50, 6), torch.tensor([3, 1, 5, 0, 4, 2])
    Y = torch.cat([gaussian(50, 2, seed=1), (X * torch.arange(1.0, 7))[:, order] + 4], 1)
    partner, correlations = sim.match_neurons(X, Y)
    assert partner.tolist() == [2 + int((order == k).nonzero()) for k in range(6)]
    torch.testing.assert_close(correlations, torch.ones(6, dtype=F64))


def test_matching_is_the_best_of_all() -> None:
    X, Y = related(20, 4, 4)
    C = torch.corrcoef(torch.cat([X, Y], 1).T)[:4, 4:]
    best = max(sum(float(C[i, p[i]]) for i in range(4)) for p in permutations(range(4)))
    assert float(sim.match_neurons(X, Y)[1].sum()) == pytest.approx(best)
    unsigned = max(sum(abs(float(C[i, p[i]])) for i in range(4)) for p in permutations(range(4)))
    assert float(sim.match_neurons(X, Y, signed=False)[1].abs().sum()) == pytest.approx(unsigned)
    assert float(sim.match_neurons(X, -X, signed=False)[1].sum()) == pytest.approx(-4)


def test_dead_neurons_correlate_with_nobody() -> None:
    X = torch.cat([gaussian(30, 2), torch.full((30, 1), 0.1, dtype=F64)], 1)
    assert sorted(sim.match_neurons(X, X)[1].tolist()) == pytest.approx([0, 1, 1])


# --------------------------------------------------------------------------------------------- what sees which change


CHANGES = {
    "rotation": lambda X: X @ orthogonal(X.shape[1], 9),
    "scale": lambda X: 0.3 * X,
    "translation": lambda X: X + gaussian(X.shape[1], seed=8),
    "linear": lambda X: X @ (gaussian(X.shape[1], X.shape[1], seed=7) + 3 * torch.eye(X.shape[1], dtype=F64)),
    "permutation": lambda X: X.flip(1),
}
SELF = {
    "cka": (lambda X, Y: 1 - sim.linear_cka(X, Y), "rotation scale translation permutation"),
    "debiased": (lambda X, Y: 1 - sim.linear_cka(X, Y, True), "rotation scale translation permutation"),
    "kernel": (
        lambda X, Y: 1 - sim.kernel_cka(sim.gaussian_gram(X), sim.gaussian_gram(Y)),
        "rotation scale translation permutation",
    ),
    "procrustes": (sim.procrustes_distance, "rotation scale translation permutation"),
    "cca": (lambda X, Y: 1 - sim.canonical_correlations(X, Y).mean(), "rotation scale translation linear permutation"),
    "matching": (lambda X, Y: 1 - sim.match_neurons(X, Y)[1].mean(), "scale translation permutation"),
    "relative": (
        lambda X, Y: (sim.relative(X, X[:4]) - sim.relative(Y, Y[:4])).abs().max(),
        "rotation scale permutation",
    ),
    "centred": (
        lambda X, Y: (sim.relative(X, X[:4], X[:4].mean(0)) - sim.relative(Y, Y[:4], Y[:4].mean(0))).abs().max(),
        "rotation scale translation permutation",
    ),
    "snr": (
        lambda X, Y: (sim.snr_distance(X[:5], X[5:10]) - sim.snr_distance(Y[:5], Y[5:10])).abs().max(),
        "scale permutation",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", SELF)
def test_blind_to_what_the_formula_says(name: str, change: str) -> None:
    measure, blind_to = SELF[name]
    X = related(60, 5, 5)[0]
    value = float(measure(X, CHANGES[change](X)))
    assert (abs(value) < 1e-10) == (change in blind_to.split()), value


# --------------------------------------------------------------------------------------------- relative representations


def test_relative_by_hand_and_centred() -> None:
    x, a = torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(sim.relative(x, a), torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(sim.relative(x + 1, a + 1, torch.ones(2)), torch.tensor([[0.6, 0.8]]))
    stack = sim.relative(torch.stack([x, -x]), torch.stack([a, a]), torch.zeros(2, 2))
    torch.testing.assert_close(stack, torch.tensor([[[0.6, 0.8]], [[-0.6, -0.8]]]))


class Turned(nn.Module):
    """An encoder that is another one followed by a rotation, and counts its rows; with a mode that matters."""

    def __init__(self, Q: Tensor) -> None:
        super().__init__()
        self.Q, self.drop = Q, nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x) @ self.Q


def test_stitching_does_not_see_the_encoder_s_coordinates() -> None:
    x, anchors, decoder = gaussian(7, 4), gaussian(5, 4, seed=1), nn.Linear(5, 3, dtype=F64)
    encoders = [Turned(orthogonal(4, seed)) for seed in (2, 3)]
    encoders[0].train()
    decoder.eval()
    said = [sim.stitch(encoder, decoder, x, anchors) for encoder in encoders]
    torch.testing.assert_close(*said)
    torch.testing.assert_close(said[0], decoder(sim.relative(x, anchors)).detach())
    assert encoders[0].training and encoders[0].drop.training and not decoder.training and not said[0].requires_grad
    centred = sim.stitch(encoders[0], decoder, x + 5, anchors + 5, center=True)
    torch.testing.assert_close(centred, decoder(sim.relative(x, anchors, anchors.mean(0))).detach())


def test_stitching_leaves_modes_alone_after_an_error() -> None:
    encoder, decoder = nn.Sequential(nn.Linear(3, 2, bias=False)), nn.Linear(4, 1)
    encoder.train()
    with pytest.raises(ValueError, match="x: received 2 vectors of length zero"):
        sim.stitch(encoder, decoder, torch.zeros(2, 3), torch.eye(4, 3) + 1)
    assert encoder.training and encoder[0].training


# ------------------------------------------------------------------------------------------------------------------ SNR


def test_snr_by_hand_and_not_symmetric() -> None:
    x, y = torch.tensor([1.0, -1.0]), torch.tensor([3.0, 1.0])
    assert float(sim.snr_distance(x, torch.tensor([1.0, 1.0]))) == 1
    assert float(sim.snr_distance(x, y)) == 0, "a shift of all features is no noise"
    x, y = gaussian(2, 6)
    assert float(sim.snr_distance(x, y) * x.var()) == pytest.approx(float(sim.snr_distance(y, x) * y.var()))
    assert float(sim.snr_distance(x, y)) != pytest.approx(float(sim.snr_distance(y, x)))


def test_snr_under_its_conditions() -> None:
    Z = gaussian(10, 8)
    Z = Z - Z.mean(1, keepdim=True)
    D = sim.snr_distance(Z[:, None], Z[None])
    torch.testing.assert_close(D, torch.cdist(Z, Z).square() / Z.square().sum(1, keepdim=True))
    u = nn.functional.normalize(Z, dim=1)
    torch.testing.assert_close(sim.snr_distance(u[:, None], u[None]), 2 - 2 * u @ u.mT)
    noise = Z[1] - (Z[1] @ Z[0]) / (Z[0] @ Z[0]) * Z[0]
    rho = torch.corrcoef(torch.stack([Z[0], Z[0] + noise]))[0, 1]
    torch.testing.assert_close(rho, (1 + sim.snr_distance(Z[0], Z[0] + noise)) ** -0.5)


# --------------------------------------------------------------------------------------------------------------- errors

ONES, X = torch.ones(6, 3), torch.arange(18.0).view(6, 3) ** 2
REFUSED = {
    "one input": (
        lambda: sim.linear_cka(X[:1], X[:1]),
        r"X: received shape \(1, 3\); valid is \(..., n, d\) with n >= 2",
    ),
    "few for debiased": (lambda: sim.linear_cka(X[:3], X[:3], True), "valid is .* n >= 4"),
    "other inputs": (lambda: sim.linear_cka(X, X[:5]), r"Y: received shape \(5, 3\) .* beside X of shape \(6, 3\)"),
    "other dtype": (lambda: sim.procrustes_distance(X, X.double()), "Y: received shape .* of torch.float64 beside"),
    "integers": (lambda: sim.linear_cka(X.long(), X), "X: received torch.int64"),
    "vector": (lambda: sim.canonical_correlations(X[:, 0], X), r"X: received shape \(6,\)"),
    "constant": (
        lambda: sim.linear_cka(0.1 * ONES, X),
        "X: received a representation that is the same for every input",
    ),
    "constant Y": (lambda: sim.linear_cka(X, 0.1 * ONES), "Y: received a representation that is the same"),
    "constant, shape": (lambda: sim.procrustes_distance(X, 0.1 * ONES), "Y: received a representation"),
    "constant, cca": (lambda: sim.canonical_correlations(0.1 * ONES, X), "X: received a representation"),
    "constant gram": (lambda: sim.kernel_cka(torch.ones(5, 5), torch.eye(5)), "K: received a representation"),
    "identity, debiased": (lambda: sim.kernel_cka(torch.eye(5), torch.eye(5), True), "equally far apart"),
    "simplex, debiased": (lambda: sim.linear_cka(torch.eye(6, dtype=F64)[:, :6], X.double(), True), "X: .*equally far"),
    "same points": (lambda: sim.gaussian_gram(0.1 * ONES), "X: received a representation"),
    "fraction": (lambda: sim.gaussian_gram(X, 0.0), r"fraction: received 0\.0"),
    "NaN": (lambda: sim.linear_cka(X * math.nan, X), "X: received .* not finite"),
    "NaN neuron": (lambda: sim.match_neurons(X * math.nan, X), "X: received a value that is not finite"),
    "gram": (lambda: sim.hsic(X, X), r"K: received shape \(6, 3\); valid is a square Gram matrix"),
    "narrow": (lambda: sim.match_neurons(X, X[:, :2]), r"Y: received shape \(6, 2\) beside X of shape \(6, 3\)"),
    "stack": (
        lambda: sim.canonical_correlations(X[None], X[None]),
        r"X: received shape \(1, 6, 3\); valid is \(n, d\)",
    ),
    "widths": (lambda: sim.procrustes_map(X, X[:, :2], rotation=True), "rotation: received True for widths 3 and 2"),
    "zero": (
        lambda: sim.relative(ONES * torch.tensor([[1.0]] * 4 + [[0.0]] * 2), X),
        r"x: received 2 vectors .*\[4, 5\]",
    ),
    "zero anchor": (lambda: sim.relative(X, 0 * ONES), "anchors: received 6 vectors of length zero"),
    "zero by centring": (lambda: sim.relative(X, X, X[2]), r"x: received 1 vectors of length zero.*\[2\]"),
    "center": (lambda: sim.relative(X, X, torch.ones(2)), r"center: received shape \(2,\)"),
    "anchors": (lambda: sim.relative(X, X[:, :2]), r"anchors: received shape \(6, 2\)"),
    "flat signal": (
        lambda: sim.snr_distance(0.1 * torch.ones(3), X[0]),
        "anchor: received a vector whose features are",
    ),
    "one feature": (lambda: sim.snr_distance(X[:, :1], X[:, :1]), r"anchor: received shape \(6, 1\)"),
    "other width": (lambda: sim.snr_distance(X, X[:, :2]), r"other: received shape \(6, 2\)"),
    "nothing yet": (lambda: sim.LinearCKA().value(), "n: received 0 inputs so far"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}.*Repair: "):
        call()


def test_what_streaming_refuses() -> None:
    stream = sim.LinearCKA()
    stream.update(X, X)
    with pytest.raises(ValueError, match=r"Y: received shape \(6, 2\) .*3 columns of torch.float32.*Repair"):
        stream.update(X, X[:, :2])
    with pytest.raises(ValueError, match=r"X: received .*float64; valid is as in the first batch.*Repair"):
        stream.update(X.double(), X.double())
    assert stream.n == 6
    stream = sim.LinearCKA()
    stream.update(0.1 * ONES, X)
    stream.update(0.1 * ONES, X)
    with pytest.raises(ValueError, match=r"X: received a representation .*Repair"):
        stream.value()


@pytest.mark.parametrize("name", sim.__all__)
def test_documented(name: str) -> None:
    text = inspect.getdoc(getattr(sim, name)) or ""
    for part in ("Raises:", "Source:", ">>>", *(() if name == "LinearCKA" else ("Args:", "Returns:"))):
        assert part in text, f"{name} lacks {part}"
