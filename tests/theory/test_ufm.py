"""The unconstrained-feature model: closed forms against golden values, mpmath, grids and descent."""

import itertools
import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from repgeom.theory import frames, ufm

F64 = torch.float64
# n = (100, 60, 30), all decays 8e-3: F*, |w_k|^2, |hbar_k|^2, logits. Made once by bisection, to the digits shown.
GOLDEN = {
    1: (
        0.1675455381,
        [8.48, 6.22596669, 3.95722558],
        [0.0848, 0.10376611, 0.13190752],
        [0.848, 0.80376884, 0.72248724],
    ),
    2: (
        0.1349383442,
        [19.49178201, 13.26174913, 7.56314461],
        [0.0441495, 0.06069447, 0.09167057],
        [0.92765963, 0.89717049, 0.83265707],
    ),
    3: (
        0.1299492525,
        [29.31347082, 19.23377736, 10.4576668],
        [0.03083347, 0.04465502, 0.07289376],
        [0.95070292, 0.92676032, 0.87309715],
    ),
    6: (
        0.1486915194,
        [49.16034259, 30.77802111, 15.75990072],
        [0.01913973, 0.02950454, 0.0527802],
        [0.9700081, 0.95293829, 0.91203653],
    ),
}
AUTHORS = {  # n = (200, 100, 50, 50), all decays 5e-4
    1: (0.0189421356, [13.94213562, 9.8, 6.87106781]),
    2: (0.0133466140, [33.93259065, 21.27726334, 13.30475554]),
    3: (0.0122184004, [52.8826755, 31.32229822, 18.50220621]),
    6: (0.0132203534, [93.48033664, 51.45141385, 28.24929492]),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def near(found: Tensor, wanted: list[float], tol: float) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=F64), rtol=tol, atol=tol)


def exact_root(b: str, M: int) -> mpmath.mpf:
    """The largest root by bisection to 40 digits, beyond the top of the right side."""
    with mpmath.workdps(40):
        b, top = mpmath.mpf(b), mpmath.mpf(M - 1) / (M + 1)
        low, high = top ** (mpmath.mpf(1) / M), mpmath.mpf(10) ** 8
        for _ in range(200):
            x = (low + high) / 2
            low, high = (x, high) if M * x ** (M - 1) / (1 + x**M) ** 2 > b else (low, x)
        return low


# ------------------------------------------------------------------------------------------------------ one mode


@pytest.mark.parametrize("M", [2, 3, 6, 9])
@pytest.mark.parametrize("b", ["1e-9", "0.01", "0.3", "0.5"])
def test_largest_root_against_40_digits(M: int, b: str) -> None:
    found = float(ufm.largest_root(torch.tensor(float(b), dtype=F64), M))
    assert found == pytest.approx(float(exact_root(b, M)), rel=1e-13)


def test_one_layer_is_the_soft_threshold() -> None:
    b = torch.tensor([0.25, 0.99, 1.0, 1.5], dtype=F64)
    near(ufm.largest_root(b, 1), [1.0, 0.99**-0.5 - 1, 0.0, 0.0], 1e-14)


@pytest.mark.parametrize("M", [2, 3, 6])
def test_beyond_the_spinodal_there_is_no_root_and_at_it_there_is(M: int) -> None:
    spinodal = ufm.transition(M).spinodal
    below, above = ufm.largest_root(torch.tensor([spinodal * (1 - 1e-12), spinodal * (1 + 1e-12)], dtype=F64), M)
    assert float(below) ** M == pytest.approx((M - 1) / (M + 1), abs=1e-4)
    assert float(above) == 0.0


def test_single_precision_stays_single() -> None:
    b = torch.tensor([0.01, 0.4], dtype=torch.float32)
    found = ufm.largest_root(b, 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, ufm.largest_root(b.double(), 3).float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("M", "row"),
    [
        (1, (1, 1, 0)),
        (2, (0.5, 0.649519, 0.5)),
        (3, (0.529134, 0.839947, 0.666667)),
        (4, (0.569877, 1.065206, 0.75)),
        (6, (0.637270, 1.542451, 0.833333)),
        (9, (0.705512, 2.278008, 0.888889)),
    ],
)
def test_transition_table(M: int, row: tuple[float, ...]) -> None:
    assert tuple(ufm.transition(M)) == pytest.approx(row, abs=5e-7)


@pytest.mark.parametrize("M", [1, 2, 3, 6])
def test_transition_is_where_a_grid_says(M: int) -> None:
    x = torch.linspace(0, 5, 100_001, dtype=F64)
    death = ufm.transition(M).death
    for factor, alive in ((1 - 1e-3, True), (1 + 1e-3, False)):
        least = float((1 / (1 + x**M) + factor * death * x).min())
        assert (least < 1) is alive


def test_critical_count_and_decay_are_inverse() -> None:
    for M in (1, 2, 5):
        lam = ufm.critical_decay(20, 840, M)
        assert ufm.critical_count(840, [lam] * M, lam) == pytest.approx(20, rel=1e-12)
    found = [ufm.critical_decay(20, 840, M) for M in (1, 2, 3, 6, 9)]
    assert found == pytest.approx([0.005324, 0.003481, 0.003064, 0.002271, 0.001784], abs=5e-7)
    unequal = ufm.critical_count(100, [1e-3, 4e-3], 2e-3)
    assert unequal == pytest.approx(4 * 100 * (100 * 8e-9) ** 0.5)


# -------------------------------------------------------------------------------------------------- the whole solution


@pytest.mark.parametrize("M", [1, 2, 3, 6])
def test_golden_values(M: int) -> None:
    F, rows, means, logits = GOLDEN[M]
    found = ufm.solve([100, 60, 30], [8e-3] * M, 8e-3)
    assert found.loss == pytest.approx(F, abs=1e-10)
    near(found.classifier, rows, 1e-8)
    near(found.features / found.counts, means, 1e-8)
    near(found.logits, logits, 1e-8)
    F, rows = AUTHORS[M]
    found = ufm.solve([200, 100, 50, 50], [5e-4] * M, 5e-4)
    assert found.loss == pytest.approx(F, abs=1e-10)
    near(found.classifier, [*rows, rows[-1]], 1e-8)


def test_one_layer_closed_form_to_the_last_digit() -> None:
    found = ufm.solve([100, 60, 30], [8e-3], 2e-3)
    n, N, root = torch.tensor([100.0, 60, 30], dtype=F64), 190.0, 4e-3
    torch.testing.assert_close(found.logits, 1 - N * root / n.sqrt(), rtol=1e-13, atol=0)
    torch.testing.assert_close(found.classifier, (n * 2e-3 / 8e-3).sqrt() - N * 2e-3, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.features / n, (8e-3 / (n * 2e-3)).sqrt() - N * 8e-3 / n, rtol=1e-12, atol=0)


CASES = [
    ([100, 60, 30], [8e-3], 8e-3, None),
    ([100, 60, 30], [2e-3, 5e-4, 1e-3], 3e-3, None),
    ([40, 40, 40, 40], [4e-3] * 2, 1e-3, 0.0),
    ([100, 60, 30, 15], [5e-3, 2e-3], 5e-3, 0.0),
    ([50] * 4, [5e-3], 5e-3, 0.3),
    ([50] * 4, [5e-3] * 2, 5e-3, 3.0),
    ([90, 60, 2], [1e-2], 1e-2, None),  # the last class is dead
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_descent_finds_the_closed_form(case: tuple[list[float], list[float], float, float | None]) -> None:
    counts, lam_W, lam_H, bias_decay = case
    exact = ufm.solve(counts, lam_W, lam_H, bias_decay=bias_decay)
    options = {"width": 6, "bias": bias_decay is not None, "bias_decay": bias_decay or 0.0}
    runs = [ufm.minimize(counts, lam_W, lam_H, generator=generator(k), **options) for k in range(4)]
    found = min(runs, key=lambda f: float(f.loss))
    assert float(found.loss) == pytest.approx(exact.loss, abs=1e-12)
    W, H = found.classifier, found.H
    outputs = W @ H if found.bias is None else W @ H + found.bias[:, None]
    pairs = [(W @ W.mT, exact.classifier_gram), (H.mT @ H, exact.means_gram), (outputs, exact.outputs)]
    for layer, values in zip(found.weights, exact.layers, strict=True):
        pairs.append((torch.linalg.svdvals(layer)[: len(counts)], values.sort(descending=True).values))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    if bias_decay is not None:
        torch.testing.assert_close(found.bias, exact.bias, rtol=1e-5, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 200), min_size=1, max_size=6),
    M=st.integers(1, 5),
    scale=st.floats(1e-5, 5e-2),
    seed=st.integers(0, 10_000),
)
def test_the_loss_of_the_solution_is_the_loss_and_no_perturbation_is_lower(
    counts: list[int], M: int, scale: float, seed: int
) -> None:
    lam_W, lam_H = [scale * (1 + 0.5 * m) for m in range(M)], 0.7 * scale
    exact = ufm.solve(counts, lam_W, lam_H)
    n, K = torch.tensor(counts, dtype=F64), len(counts)
    layers, H = [torch.diag(s) for s in exact.layers], torch.diag((exact.features / n).sqrt())
    labels = torch.arange(K)

    def F(weights: list[Tensor], means: Tensor) -> float:
        return float(ufm.objective(weights, means, labels, lam_W, lam_H, multiplicity=n))

    assert F(layers, H) == pytest.approx(exact.loss, rel=1e-9, abs=1e-12)
    draw = generator(seed)
    for size in (1e-3, 0.1, 1.0):
        moved = [A + size * torch.randn(A.shape, generator=draw, dtype=F64) for A in (*layers, H)]
        assert F(moved[:-1], moved[-1]) >= exact.loss - 1e-12


def test_a_column_a_class_is_as_good_as_a_column_a_sample() -> None:
    counts, labels = torch.tensor([3, 2, 1]), torch.tensor([0, 0, 0, 1, 1, 2])
    draw = generator()
    weights = [torch.randn(5, 4, generator=draw, dtype=F64), torch.randn(3, 5, generator=draw, dtype=F64)]
    H, b = torch.randn(4, 3, generator=draw, dtype=F64), torch.randn(3, generator=draw, dtype=F64)
    for loss in ("mse", "ce"):
        options = {"loss": loss, "bias": b, "bias_decay": 0.3}
        few = ufm.objective(weights, H, torch.arange(3), [0.1, 0.2], 0.3, multiplicity=counts.double(), **options)
        many = ufm.objective(weights, H[:, labels], labels, [0.1, 0.2], 0.3, **options)
        torch.testing.assert_close(few, many, rtol=1e-14, atol=0)


def test_objective_against_torchs_losses_and_in_batches() -> None:
    draw, labels = generator(1), torch.tensor([0, 2, 1, 1])
    W, H, b = (torch.randn(*s, generator=draw, dtype=F64) for s in ((2, 3, 5), (2, 5, 4), (2, 3)))
    for loss in ("mse", "ce"):
        found = ufm.objective([W], H, labels, [0.2], 0.4, bias=b, bias_decay=0.6, loss=loss)
        for k in range(2):
            Z = (W[k] @ H[k] + b[k][:, None]).mT
            one = torch.nn.functional.one_hot(labels, 3).double()
            data = (
                (Z - one).square().sum(1).mean() / 2 if loss == "mse" else torch.nn.functional.cross_entropy(Z, labels)
            )
            wanted = data + 0.1 * W[k].square().sum() + 0.2 * H[k].square().sum() + 0.3 * b[k].square().sum()
            torch.testing.assert_close(found[k], wanted, rtol=1e-13, atol=0)


@pytest.mark.parametrize("M", [2, 3, 6])
def test_between_death_and_spinodal_zero_is_lower(M: int) -> None:
    lam = ufm.critical_decay(20, 180, M)
    exact = ufm.solve([100, 61, 19], [lam] * M, lam)
    assert (exact.logits > 0).tolist() == [True, True, False]
    assert exact.classifier[2] == 0 == exact.features[2] and len(ufm.nested_minima([100, 61, 19], [lam] * M, lam)) == 4
    assert exact.loss < ufm.nested_minima([100, 61, 19], [lam] * M, lam)[3]


def test_width_below_the_number_of_classes_keeps_the_largest() -> None:
    full, narrow = ufm.solve([10, 90, 50], [2e-3] * 2, 2e-3), ufm.solve([10, 90, 50], [2e-3] * 2, 2e-3, width=2)
    assert (narrow.logits > 0).tolist() == [False, True, True]
    near(narrow.logits[1:], full.logits[1:].tolist(), 1e-14)
    runs = [ufm.minimize([10, 90, 50], [2e-3] * 2, 2e-3, width=2, generator=generator(k)) for k in range(6)]
    assert min(float(f.loss) for f in runs) == pytest.approx(narrow.loss, abs=1e-10)


def test_balanced_with_bias_is_a_simplex_with_the_same_root() -> None:
    plain, biased = ufm.solve([50] * 5, [5e-3] * 2, 5e-3), ufm.solve([50] * 5, [5e-3] * 2, 5e-3, bias_decay=0.0)
    simplex = torch.eye(5, dtype=F64) - 0.2
    torch.testing.assert_close(biased.classifier_gram, plain.classifier[0] * simplex, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(biased.bias, torch.full((5,), 0.2, dtype=F64))
    near(biased.outputs.sum(0), [1.0] * 5, 1e-12)


def test_dying_classes_with_a_bias_become_one() -> None:
    gram = ufm.solve([100, 100, 15, 15, 15], [2.2e-2], 2.2e-2, bias_decay=0.0).classifier_gram
    near(gram[0, :2], [2.348, -2.262], 1e-3)
    near(gram[2, 2:], [0.019] * 3, 1e-3)


def test_nested_minima_are_stationary_levels_and_end_at_the_minimum() -> None:
    levels = ufm.nested_minima([30, 100, 60], [8e-3] * 2, 8e-3)
    assert levels[0] == 0.5 and levels[-1] == pytest.approx(0.1349383442, abs=1e-10)
    assert levels == sorted(levels, reverse=True)
    ends = set()
    for k in range(30):
        found = ufm.minimize([30, 100, 60], [8e-3] * 2, 8e-3, width=3, std=0.05 + 0.03 * k, generator=generator(k))
        ends.add(min(range(4), key=lambda r: abs(levels[r] - float(found.loss))))
        assert min(abs(level - float(found.loss)) for level in levels) < 1e-9
    assert len(ends) >= 3


def test_nested_minima_stop_where_no_branch_is_left() -> None:
    lam = ufm.critical_decay(20, 180, 2)
    assert len(ufm.nested_minima([100, 60, 20], [lam] * 2, lam)) == 4  # metastable, not lower than without it
    assert len(ufm.nested_minima([100, 79, 1], [lam] * 2, lam)) == 3


def test_unbalancedness_decays_at_the_stated_speed() -> None:
    counts, lam, lr = [20, 10], 2e-2, 0.02
    start = [0.4 * torch.randn(1, *s, generator=generator(3), dtype=F64) for s in ((4, 30), (4, 4), (2, 4))]

    def defect(found: ufm.Trained) -> float:
        W = found.weights[0][0]
        return float((W @ W.mT - found.weights[1][0].mT @ found.weights[1][0]).norm())

    first = ufm.descend(counts, [lam] * 2, lam, width=4, steps=1, lr=lr, momentum=0.0, start=start)
    steps = round(ufm.steps_per_decade(lam, lr))
    later = ufm.descend(counts, [lam] * 2, lam, width=4, steps=1 + steps, lr=lr, momentum=0.0, start=start)
    assert defect(later) / defect(first) == pytest.approx(0.1, rel=0.05)


def test_descend_runs_are_independent_and_recorded() -> None:
    options = {"width": 3, "steps": 40, "every": 10, "std": 0.3}
    start = [torch.randn(2, *s, generator=generator(), dtype=F64) for s in ((3, 5), (2, 3))]
    both = ufm.descend([3, 2], [1e-2], 1e-2, start=start, **options)
    for k in range(2):
        one = ufm.descend([3, 2], [1e-2], 1e-2, start=[p[k : k + 1] for p in start], **options)
        torch.testing.assert_close(one.loss[0], both.loss[k])
        torch.testing.assert_close(one.classifier[0], both.classifier[k])
    assert both.history.shape == (4, 2) and bool((both.history[-1] < both.history[0]).all())


def test_descent_that_leaves_all_bounds_names_the_rate() -> None:
    with pytest.raises(ValueError, match=r"lr: received 100"):
        ufm.descend([3, 2], [1e-2] * 3, 1e-2, width=3, steps=50, lr=100.0, std=1.0, generator=generator())


# ------------------------------------------------------------------------------------------------------- cross-entropy


@pytest.mark.parametrize(("K", "n", "a"), [(4, 50, 4.930302), (10, 30, 5.156605)])
def test_one_layer_simplex_amplitude(K: int, n: int, a: float) -> None:
    simplex = torch.eye(K, dtype=F64) - 1 / K
    found, value = ufm.best_scale(simplex, [n] * K, [1e-3], 1e-3)
    assert found == pytest.approx(a, abs=1e-5) == math.log(1 / math.sqrt(n * 1e-6) - (K - 1))
    trained = ufm.minimize([n] * K, [1e-3], 1e-3, width=K, loss="ce", generator=generator())
    assert float(trained.loss) == pytest.approx(value, abs=1e-8)


def test_simplex_beyond_its_decay_is_zero() -> None:
    simplex = torch.eye(4, dtype=F64) - 0.25
    lam = 1 / math.sqrt(16 * 50)
    assert ufm.best_scale(simplex, [50] * 4, [1.01 * lam], 1.01 * lam) == (0.0, pytest.approx(math.log(4)))
    assert ufm.best_scale(simplex, [50] * 4, [0.9 * lam], 0.9 * lam)[0] > 0


@pytest.mark.parametrize("M", [1, 2, 3])
def test_arrangement_value_is_what_factors_reach_and_never_more(M: int) -> None:
    counts, lam_W, lam_H = [30, 20, 10], [2e-3 * (m + 1) for m in range(M)], 5e-3
    found = ufm.minimize(counts, lam_W, lam_H, width=5, loss="ce", std=1.0, generator=generator(2))
    Z = found.classifier @ found.H
    value = ufm.arrangement_value(Z, counts, lam_W, lam_H)
    assert float(value) == pytest.approx(float(found.loss), abs=1e-9)
    draw = generator(1)
    layers = [torch.randn(5, 5, generator=draw, dtype=F64) for _ in range(M - 1)] + [
        torch.randn(3, 5, generator=draw, dtype=F64)
    ]
    H, n = torch.randn(5, 3, generator=draw, dtype=F64), torch.tensor(counts, dtype=F64)
    W = layers[0]
    for layer in layers[1:]:
        W = layer @ W
    paid = ufm.objective(layers, H, torch.arange(3), lam_W, lam_H, multiplicity=n, loss="ce")
    assert float(ufm.arrangement_value(W @ H, counts, lam_W, lam_H)) < float(paid)


GRID = [
    (K, M, n, decay) for K, M, n, decay in itertools.product((4, 6, 8), (2, 3), (20, 50), (1e-4, 1e-3))
    if K / 2 * 2 ** (2 / (M + 1)) <= K - 1
]  # fmt: skip


@pytest.mark.parametrize(("K", "M", "n", "decay"), GRID)
def test_opposite_pairs_beat_the_simplex_where_counting_says_so(K: int, M: int, n: int, decay: float) -> None:
    V = frames.orthoplex(K, K // 2, dtype=F64)
    pairs, simplex = V @ V.mT, torch.eye(K, dtype=F64) - 1 / K
    values = [ufm.best_scale(Z, [n] * K, [decay] * M, decay)[1] for Z in (pairs, simplex)]
    assert values[0] < values[1]


def test_cross_entropy_table() -> None:
    rows = {
        (4, 1, 1e-3): (0.12602894, 0.14853462),
        (4, 3, 1e-3): (0.04492876, 0.04135490),
        (10, 2, 3e-4): (0.06213161, 0.05483034),
    }
    for (K, M, decay), wanted in rows.items():
        V = frames.orthoplex(K, K // 2, dtype=F64)
        arrangements = torch.eye(K, dtype=F64) - 1 / K, V @ V.mT
        found = [ufm.best_scale(Z, [50] * K, [decay] * M, decay)[1] for Z in arrangements]
        assert found == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("R", [1, 10, 100])
def test_seli_against_the_two_level_formulas(R: int) -> None:
    K, found = 4, ufm.seli([R, R, 1, 1])
    root, mix, share = R**0.5, ((R + 1) / 2) ** 0.5 / 4, 0.5
    rows, means = found.classifier_gram.diagonal(), found.means_gram.diagonal()
    assert float(rows[0] / rows[2]) == pytest.approx((share * root + mix) / (share + mix), rel=1e-12)
    assert float(means[0] / means[2]) == pytest.approx(
        (share / root + 0.25 / (mix * 4)) / (share + 0.25 / (mix * 4)), rel=1e-12
    )
    torch.testing.assert_close(found.logits, torch.eye(K, dtype=F64) - 0.25)
    if R == 1:
        torch.testing.assert_close(found.classifier_gram, found.logits, rtol=1e-12, atol=1e-12)


def test_seli_factors_multiply_to_the_logits() -> None:
    found = ufm.seli([9, 5, 2])
    n = torch.tensor([9.0, 5, 2], dtype=F64)
    Z = found.logits * n.sqrt()
    squared = found.classifier_gram @ found.classifier_gram  # V L^2 V^T = Z Z^T
    torch.testing.assert_close(squared, Z @ Z.mT, rtol=1e-10, atol=1e-10)
    scaled = found.means_gram * n.sqrt() * n.sqrt()[:, None]
    torch.testing.assert_close(scaled @ scaled, Z.mT @ Z, rtol=1e-10, atol=1e-10)


def test_minorities_merge_at_the_size_at_which_squared_error_kills() -> None:
    gaps = []
    for small in (11, 12):
        found = ufm.minimize([100, 100, small, small], [0.015], 0.015, width=5, loss="ce", generator=generator())
        gaps.append(float((found.classifier[2] - found.classifier[3]).norm()))
        assert (small > ufm.critical_count(200 + 2 * small, [0.015], 0.015)) is (small == 12)
    assert gaps[0] < 1e-3 and gaps[1] > 0.5


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: ufm.solve([], [1e-3], 1e-3), "counts"),
        (lambda: ufm.solve([3, 0], [1e-3], 1e-3), "counts"),
        (lambda: ufm.solve([3, 2], 1e-3, 1e-3), "lam_W"),
        (lambda: ufm.solve([3, 2], [], 1e-3), "lam_W"),
        (lambda: ufm.solve([3, 2], [1e-3, -1.0], 1e-3), "lam_W"),
        (lambda: ufm.solve([3, 2], [1e-3], math.nan), "lam_H"),
        (lambda: ufm.solve([3, 2], [1e-3], 1e-3, bias_decay=0.1), "bias_decay"),
        (lambda: ufm.solve([3, 3], [1e-3], 1e-3, bias_decay=-0.1), "bias_decay"),
        (lambda: ufm.solve([3, 2], [1e-3], 1e-3, width=0), "width"),
        (lambda: ufm.transition(0), "M"),
        (lambda: ufm.transition(True), "M"),
        (lambda: ufm.largest_root(torch.tensor([0.1, 0.0]), 2), "b"),
        (lambda: ufm.critical_decay(5, 4, 1), "count"),
        (lambda: ufm.steps_per_decade(1e-3, 0.1, 1.0), "momentum"),
        (lambda: ufm.objective([torch.eye(2)], torch.eye(2), torch.arange(2), [0.1], 0.1, loss="hinge"), "loss"),
        (lambda: ufm.objective([torch.eye(2)], torch.eye(2), torch.arange(2), [0.1] * 2, 0.1), "lam_W"),
        (lambda: ufm.arrangement_value(torch.eye(3), [1, 1], [0.1], 0.1), "Z"),
    ],
)
def test_bad_input_names_the_argument(call, name: str) -> None:
    with pytest.raises(ValueError, match=name) as error:
        call()
    assert "Repair" in str(error.value)


def test_speed_law_value() -> None:
    assert ufm.steps_per_decade(5e-4, 0.1, 0.9) == pytest.approx(math.log(10) * 0.1 / (2 * 5e-4 * 0.1))
