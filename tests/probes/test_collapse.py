"""Measurements of collapse: against slow formulas in NumPy and mpmath, published code, exact frames, invariances."""

import copy
import inspect
import itertools
import math
import pickle
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from repgeom.probes import collapse

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clouds(counts: list[int], d: int, spread: float, seed: int = 0, dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
    """Gaussian classes in mixed order, of this spread around means of size one."""
    g = generator(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=g)]
    means = torch.randn(len(counts), d, generator=g, dtype=F64)
    return (means[labels] + spread * torch.randn(len(labels), d, generator=g, dtype=F64)).to(dtype), labels


# -------------------------------------------------------------------------------------------------------- the slow twin


def slow(features: Tensor, labels: Tensor) -> dict[str, np.ndarray]:
    """Each moment by its definition, one sample after the other, in extended precision."""
    H, y = features.numpy().astype(np.longdouble), labels.numpy()
    N, K = len(H), int(y.max()) + 1
    counts = np.array([sum(y == k) for k in range(K)])
    means = np.stack([sum(H[i] for i in range(N) if y[i] == k) / counts[k] for k in range(K)])
    centre = sum(H) / N
    within = sum(np.outer(H[i] - means[y[i]], H[i] - means[y[i]]) for i in range(N)) / N
    between = sum(np.outer(means[k] - centre, means[k] - centre) for k in range(K)) / K
    return {"counts": counts, "means": means, "global_mean": centre, "within": within, "between": between}


def slow_nc1(moments: dict[str, np.ndarray], rcond: float = 1e-6) -> float:
    within, between = (moments[name].astype(float) for name in ("within", "between"))
    return float(np.trace(within @ np.linalg.pinv(between, rcond=rcond)) / len(moments["counts"]))


def slow_target(target: str | np.ndarray, K: int) -> np.ndarray:
    named = {"orthogonal": np.eye(K), "simplex": np.eye(K) - np.ones((K, K)) / K}
    T = named[target] if isinstance(target, str) else np.diag(target) if target.ndim == 1 else target
    return T / np.linalg.norm(T)


def close(found: object, expected: object, rtol: float = 1e-10) -> bool:
    a, b = np.asarray(found, float), np.asarray(expected, float)
    return bool(np.abs(a - b).max() <= rtol * np.abs(b).max())


CASES = {
    "loose": ([7, 5, 9, 4], 6, 1.0),
    "tight": ([7, 5, 9, 4], 6, 1e-4),
    "nearly collapsed": ([7, 5, 9, 4], 6, 1e-9),
    "more classes than dimensions": ([3] * 8, 4, 0.3),
    "unequal": ([40, 11, 3, 2], 7, 0.5),
    "single samples": ([9, 1, 1], 5, 0.5),
    "wide": ([6, 8], 300, 0.5),
    "one class": ([6], 3, 0.5),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("dtype", [torch.float32, F64, torch.bfloat16])
def test_moments_are_their_definitions(case: tuple, dtype: torch.dtype) -> None:
    features, labels = clouds(*case, dtype=dtype)
    expected, moments = slow(features.double(), labels), collapse.class_moments(features, labels)
    for name, value in expected.items():
        scale = np.abs(expected["means"]).max() if name in ("means", "global_mean") else np.abs(value).max()
        found = np.asarray(getattr(moments, name), float)
        assert np.abs(found - value.astype(float)).max() <= 1e-12 * scale, name
    assert close(moments.centred, expected["means"] - expected["global_mean"]) or len(expected["counts"]) == 1
    assert moments.samples == len(labels)


@pytest.mark.parametrize("name", [name for name in CASES if name != "one class"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_nc1_and_scatter_are_their_formulas(name: str, dtype: torch.dtype) -> None:
    features, labels = clouds(*CASES[name], dtype=dtype)
    expected, moments = slow(features.double(), labels), collapse.class_moments(features, labels)
    ratio = float(np.trace(expected["within"]) / np.trace(expected["between"]))
    assert collapse.nc1(moments) == pytest.approx(slow_nc1(expected), rel=1e-10)
    assert collapse.scatter_ratio(moments) == pytest.approx(ratio, rel=1e-12)


def test_published_code_agrees() -> None:
    """Values of two published programs on the same numbers.

    tding1/Neural-Collapse, validate_NC.py at 0106f93: compute_Sigma_W, compute_Sigma_B, the trace with scipy's pinv
    over K. rhubarbwu/neural-collapse, measure.py at c3864c2: covariance_pinv and covariance_ratio, which divide Sig_B
    by the dimension instead of the number of classes (here a factor 5/4), simplex_etf_error, and self_duality_error,
    which is our alignment distance. All in float64 but the template of the first: its NC2 and NC3 have 8 digits.
    """
    t = torch.arange(24 * 5, dtype=F64).reshape(24, 5)
    labels = torch.tensor([0] * 12 + [1] * 7 + [2] * 4 + [3])
    A = torch.cos(0.3 * torch.arange(20, dtype=F64).reshape(4, 5) ** 2)
    features = torch.sin(1.7 * t * t) + torch.cos(t) + 3 * A[labels]
    moments = collapse.class_moments(features, labels)
    assert collapse.nc1(moments) == pytest.approx(0.13919925628999089, rel=1e-12)
    assert collapse.nc1(moments) * 5 / 4 == pytest.approx(0.17399907036248852, rel=1e-12)
    assert collapse.scatter_ratio(moments) * 5 / 4 == pytest.approx(0.2975337752025095, rel=1e-12)
    assert collapse.frame_distance(moments.centred, "simplex") == pytest.approx(0.6651620856507877, rel=1e-12)
    assert collapse.alignment_distance(A, moments.centred, "simplex") == pytest.approx(0.7099699524477358, rel=1e-12)
    assert collapse.alignment_distance(A, moments.centred, "simplex") == pytest.approx(0.7099699460763833, rel=2e-8)
    assert collapse.frame_distance(A, "simplex") == pytest.approx(0.663494516687687, rel=2e-8)


@pytest.mark.parametrize(("dtype", "spread"), [(F64, 1e-6), (torch.float32, 0.01)])
def test_tight_classes_far_from_the_origin_keep_their_digits(dtype: torch.dtype, spread: float) -> None:
    """Offset 1e4. Subtracting squares of moments would leave no digit: 1e8 times the rounding is above spread^2."""
    features, labels = clouds([30, 11, 5], 4, spread, dtype=F64)
    features = (features + 1e4).to(dtype)
    moments = collapse.class_moments(features, labels)
    with mpmath.workdps(50):
        rows = [[mpmath.mpf(float(v)) for v in row] for row in features]
        y, N, K, d = labels.tolist(), len(labels), 3, 4
        n = [y.count(k) for k in range(K)]
        means = [
            [mpmath.fsum(r[j] for r, c in zip(rows, y, strict=True) if c == k) / n[k] for j in range(d)]
            for k in range(K)
        ]
        centre = [mpmath.fsum(r[j] for r in rows) / N for j in range(d)]
        off = [[v - means[c][j] for j, v in enumerate(r)] for r, c in zip(rows, y, strict=True)]
        within = [[mpmath.fsum(r[i] * r[j] for r in off) / N for j in range(d)] for i in range(d)]
        apart = [[means[k][j] - centre[j] for j in range(d)] for k in range(K)]
        between = mpmath.fsum(v * v for row in apart for v in row) / K
        ratio = float(mpmath.fsum(within[i][i] for i in range(d)) / between)
        within, apart = np.array(within, float), np.array(apart, float)
    assert close(moments.within, within, 1e-12)
    assert close(moments.centred, apart, 1e-13)
    assert collapse.scatter_ratio(moments) == pytest.approx(ratio, rel=1e-12)
    fast = collapse.class_moments(features, labels, dtype=torch.float32)
    assert close(fast.within, within, 1e-5), "with sums in float32, too"
    assert collapse.scatter_ratio(fast) == pytest.approx(ratio, rel=1e-5)
    squares = features.double().mT @ features.double() / N - sum(
        n[k] / N * torch.outer(m, m) for k, m in enumerate(moments.means)
    )
    assert not close(squares, within, 1e-5), "the shortcut is as bad as it is said to be"


def test_float32_sums_are_good_to_six_digits() -> None:
    features, labels = clouds([3000, 900, 100], 50, 0.5, dtype=torch.float32)
    exact = collapse.class_moments(features + 100, labels)
    fast = collapse.class_moments(features + 100, labels, dtype=torch.float32)
    assert fast.within.dtype == torch.float32 and exact.within.dtype == F64
    assert close(fast.within, exact.within, 3e-6) and not close(fast.within, exact.within, 1e-9)
    assert collapse.nc1(fast) == pytest.approx(collapse.nc1(exact), rel=1e-5)


# --------------------------------------------------------------------------------------------- streaming and invariance


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.lists(st.integers(0, 9), max_size=8),
    st.integers(1, 5),
    st.sampled_from([1e-8, 1.0]),
    st.integers(0, 1000),
)
def test_batches_give_what_the_whole_gives(
    counts: list[int], cuts: list[int], d: int, spread: float, seed: int
) -> None:
    features, labels = clouds(counts, d, spread, seed)
    whole = collapse.class_moments(features, labels, len(counts))
    ends = sorted({min(c, len(labels)) for c in np.cumsum(cuts).tolist()} | {0, len(labels)})
    parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
    streamed, merged = collapse.ClassMoments(len(counts), d), collapse.ClassMoments(len(counts), d)
    for part in parts:
        streamed.update(features[part], labels[part])
        worker = collapse.ClassMoments(len(counts), d)
        worker.update(features[part], labels[part])
        merged.merge(worker)
    for other in (streamed, merged):
        assert torch.equal(other.counts, whole.counts)
        assert torch.allclose(other.means, whole.means, rtol=1e-13, atol=1e-14)
        assert close(other.within, whole.within, 1e-9) or not whole.within.any()


def test_blocks_inside_a_batch_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds([50, 30, 20], 10, 0.1)
    whole = collapse.class_moments(features, labels)
    monkeypatch.setattr(collapse, "BLOCK", 130)  # 13 rows
    monkeypatch.setattr(collapse, "PANEL", 3)
    blocks = collapse.class_moments(features, labels)
    assert torch.allclose(blocks.within, whole.within, rtol=1e-12, atol=1e-15)
    assert torch.allclose(blocks.means, whole.means, rtol=1e-13)
    assert collapse.nearest_mean_disagreement(features, features[:, :3], whole.means) == pytest.approx(
        float((torch.cdist(features, whole.means).argmin(1) != features[:, :3].argmax(1)).double().mean())
    )


def test_merging_leaves_the_other_alone_and_works_on_itself() -> None:
    features, labels = clouds([8, 5], 3, 0.5)
    one, other = (
        collapse.class_moments(features[:6], labels[:6], 2),
        collapse.class_moments(features[6:], labels[6:], 2),
    )
    before = copy.deepcopy(other)
    assert one.merge(other) is one
    assert torch.equal(other.within, before.within) and torch.equal(other.means, before.means)
    twice = collapse.class_moments(features, labels)
    twice.merge(twice)
    assert twice.samples == 26 and torch.allclose(twice.within, one.within) and torch.allclose(twice.means, one.means)
    empty = collapse.ClassMoments(2, 3)
    assert torch.equal(pickle.loads(pickle.dumps(one)).merge(empty).within, one.within)
    copied = empty.merge(one)
    copied.update(features, labels)
    assert one.samples == 13, "a copy shares nothing"


def test_features_are_read_only_and_without_graph() -> None:
    features, labels = clouds([8, 5], 3, 0.5)
    given_features, given_labels = features.clone().requires_grad_(), labels.clone()
    moments = collapse.class_moments(given_features, given_labels)
    assert torch.equal(given_features, features) and torch.equal(given_labels, labels)
    assert not moments.within.requires_grad and not moments.means.requires_grad
    moments.counts[0] = moments.means[0] = 99
    assert moments.samples == 13 and float(moments.means[0, 0]) != 99
    assert collapse.frame_distance(given_features[:2]) >= 0


@pytest.mark.parametrize("counts", [[9, 9, 9], [20, 5, 2]])
def test_order_and_rotation_and_scale_do_not_matter(counts: list[int]) -> None:
    features, labels = clouds(counts, 5, 0.4)
    A = torch.randn(3, 5, generator=generator(1), dtype=F64)
    Q = torch.linalg.qr(torch.randn(5, 5, generator=generator(2), dtype=F64))[0]
    order, new = torch.randperm(len(labels), generator=generator(3)), torch.tensor([2, 0, 1])

    def measured(features: Tensor, labels: Tensor, A: Tensor, target: Tensor) -> list[float]:
        m = collapse.class_moments(features, labels)
        return [
            collapse.nc1(m), collapse.scatter_ratio(m), collapse.frame_distance(m.means),
            collapse.frame_distance(A, "simplex"), collapse.frame_distance(A, target),
            collapse.alignment_distance(A, m.centred, "simplex"), collapse.alignment_distance(A, m.means, target),
            collapse.self_duality(A, m.centred), *collapse.simplex_spread(m.centred),
            collapse.nearest_mean_disagreement(features, features @ A.mT, m.means),
        ]  # fmt: skip

    lengths = torch.tensor([1.0, 2.0, 5.0], dtype=F64)
    first = measured(features, labels, A, lengths)
    permuted_A, permuted_lengths = torch.empty_like(A), torch.empty_like(lengths)
    permuted_A[new], permuted_lengths[new] = A, lengths
    assert measured(features[order], labels[order], A, lengths) == pytest.approx(first, rel=1e-10)
    assert measured(features, new[labels], permuted_A, permuted_lengths) == pytest.approx(first, rel=1e-10)
    assert measured(7 * features @ Q, labels, 3 * A @ Q, lengths) == pytest.approx(first, rel=1e-10)
    stretched = features * torch.tensor([1, 2, 3, 4, 5.0], dtype=F64)
    everything = [collapse.class_moments(x, labels) for x in (features[:, :2], stretched[:, :2])]
    assert collapse.nc1(everything[0]) == pytest.approx(collapse.nc1(everything[1]), rel=1e-9), "any invertible map"
    moved = collapse.class_moments(features + 1000, labels)
    assert collapse.nc1(moved) == pytest.approx(first[0], rel=1e-9)


def test_large_classes_weigh_more_in_the_centre_only() -> None:
    features, labels = torch.tensor([[0.0], [0.0], [0.0], [4.0]]), torch.tensor([0, 0, 0, 1])
    moments = collapse.class_moments(features, labels)
    assert moments.global_mean.tolist() == [1.0]
    assert moments.between.tolist() == [[5.0]], "(1 + 9) / 2, not (3 + 9) / 4"
    assert collapse.nc1(moments) == collapse.scatter_ratio(moments) == 0


def test_coinciding_means() -> None:
    features, labels = torch.tensor([[1.0, 0], [-1, 0], [2, 0], [-2, 0]]), torch.tensor([0, 0, 1, 1])
    moments = collapse.class_moments(features, labels)
    assert collapse.nc1(moments) == collapse.scatter_ratio(moments) == math.inf
    assert collapse.nc1(moments.pushed(torch.zeros(2, 2))) == math.inf


def test_rcond_drops_directions_of_nearly_no_extent() -> None:
    """Two classes have almost one mean: nearly all of NC1 comes from the direction between these two."""
    means = torch.tensor([[1.0, 0], [0, 1e-4], [0, -1e-4]], dtype=F64)
    off = 1e-3 * torch.tensor([[1.0, 1], [-1, -1]], dtype=F64)
    moments = collapse.class_moments((means[:, None] + off).flatten(0, 1), torch.arange(3).repeat_interleave(2))
    expected = slow(torch.as_tensor((means[:, None] + off).flatten(0, 1)), torch.arange(3).repeat_interleave(2))
    for rcond in (1e-6, 1e-12, 0.0):
        assert collapse.nc1(moments, rcond) == pytest.approx(slow_nc1(expected, rcond), rel=1e-7)
    assert collapse.nc1(moments) < 2e-6 and collapse.nc1(moments, 1e-12) > 50
    assert collapse.scatter_ratio(moments) == pytest.approx(9e-6, rel=1e-6)


def test_pushed_moments_are_those_of_the_pushed_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collapse, "PANEL", 2)  # so that a part of the scatter is not computed
    features, labels = clouds([20, 9, 4], 6, 0.3)
    W, b = torch.randn(4, 6, generator=generator(1), dtype=F64), torch.randn(4, generator=generator(2), dtype=F64)
    moments = collapse.class_moments(features, labels)
    for bias in (None, b):
        after = moments.pushed(W.float().double().requires_grad_(), bias)
        direct = collapse.class_moments(nn.functional.linear(features, W.float().double(), bias), labels)
        for name in ("counts", "means", "global_mean", "centred", "within", "between"):
            torch.testing.assert_close(getattr(after, name), getattr(direct, name), rtol=1e-11, atol=1e-13)
    more, more_labels = clouds([3, 3, 3], 6, 1.0, 5)
    after.update(nn.functional.linear(more, W.float().double(), b), more_labels)
    moments.update(more, more_labels)
    torch.testing.assert_close(after.within, moments.pushed(W.float().double()).within, rtol=1e-11, atol=1e-13)


# --------------------------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize("K", [2, 3, 10])
def test_exact_frames(K: int) -> None:
    Q = torch.linalg.qr(torch.randn(12, K, generator=generator(K), dtype=F64))[0].mT
    simplex = 3 * (Q - Q.mean(0))
    apart = math.sqrt(2 - 2 * math.sqrt((K - 1) / K))  # of I / sqrt(K) and (I - 11^T / K) / sqrt(K - 1), by hand
    lengths = torch.arange(1.0, K + 1, dtype=F64)
    assert collapse.frame_distance(5 * Q) < 1e-14
    assert collapse.frame_distance(simplex, "simplex") < 1e-14
    assert collapse.frame_distance(Q, "simplex") == pytest.approx(apart, rel=1e-12)
    assert collapse.frame_distance(simplex) == pytest.approx(apart, rel=1e-12)
    assert collapse.frame_distance(lengths.sqrt()[:, None] * Q, 7 * lengths) < 1e-14
    assert collapse.frame_distance(lengths.sqrt()[:, None] * Q, torch.diag(lengths)) < 1e-14
    cosine = float(lengths.sum() / lengths.norm() / math.sqrt(K))
    assert collapse.frame_distance(lengths.sqrt()[:, None] * Q) == pytest.approx(math.sqrt(2 - 2 * cosine), rel=1e-12)
    assert collapse.alignment_distance(Q, 2 * Q) < 1e-14
    assert collapse.alignment_distance(simplex, simplex, "simplex") < 1e-14
    assert collapse.alignment_distance(Q, lengths[:, None] * Q, lengths) < 1e-14
    assert collapse.alignment_distance(Q, -Q) == pytest.approx(2)
    assert collapse.self_duality(simplex, 2 * simplex) < 1e-14
    assert collapse.self_duality(Q, lengths[:, None] * Q) == pytest.approx(
        math.sqrt(2 - 2 * cosine_of(lengths)), rel=1e-12
    )
    assert max(collapse.simplex_spread(simplex)) < 1e-14
    assert collapse.simplex_spread(Q) == pytest.approx((0, 0, 1 / (K - 1)), abs=1e-14)
    squares, cosines = collapse.class_lengths(simplex)
    assert squares.tolist() == pytest.approx([9 * (K - 1) / K] * K)
    assert cosines[0].tolist() == pytest.approx([1] + [-1 / (K - 1)] * (K - 1))


def cosine_of(lengths: Tensor) -> float:
    """Of sqrt(1) and the lengths, as vectors."""
    return float(lengths.sum() / lengths.norm() / math.sqrt(len(lengths)))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("kind", ["orthogonal", "simplex", "lengths", "gram"])
def test_frames_are_their_formulas(kind: str, dtype: torch.dtype) -> None:
    A, means = (torch.randn(5, 7, generator=generator(s), dtype=F64).to(dtype) for s in (1, 2))
    B = torch.rand(5, 5, generator=generator(3), dtype=F64)
    target = {"lengths": B[0], "gram": B @ B.mT}.get(kind, kind)
    T = slow_target(target if isinstance(target, str) else target.numpy(), 5)
    a, m = A.double().numpy(), means.double().numpy()
    G, logits = a @ a.T, a @ m.T
    assert collapse.frame_distance(A, target) == pytest.approx(np.linalg.norm(G / np.linalg.norm(G) - T), rel=1e-12)
    expected = np.linalg.norm(logits / np.linalg.norm(logits) - T)
    assert collapse.alignment_distance(A, means, target) == pytest.approx(expected, rel=1e-12)
    dual = np.linalg.norm(a / np.linalg.norm(a) - m / np.linalg.norm(m))
    assert collapse.self_duality(A, means) == pytest.approx(dual, rel=1e-12)
    length, pairs = np.linalg.norm(a, axis=1), []
    for j in range(5):
        pairs += [a[j] @ a[k] / length[j] / length[k] for k in range(5) if k != j]
    spread = (length.std() / length.mean(), np.std(pairs), np.mean(np.abs(np.array(pairs) + 1 / 4)))
    assert collapse.simplex_spread(A) == pytest.approx(spread, rel=1e-10)
    squares, cosines = collapse.class_lengths(A)
    assert close(squares, length**2, 1e-13) and close(cosines, G / np.outer(length, length), 1e-13)


def test_the_order_of_logits_is_class_by_mean() -> None:
    """Entry (j, k): the logit for class j that the mean of class k gets."""
    A, means = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 3.0], [0.0, 1.0]])
    assert collapse.alignment_distance(A, means, torch.tensor([[1.0, 0.0], [3.0, 1.0]])) == 0
    assert collapse.alignment_distance(A, means, torch.tensor([[1.0, 3.0], [0.0, 1.0]])) > 0.1


def test_what_died_has_no_direction() -> None:
    A = torch.tensor([[3.0, 0], [1, 1], [0, 0], [1e-9, 0]])
    squares, cosines = collapse.class_lengths(A)
    assert squares.tolist() == pytest.approx([9, 2, 0, 1e-18], rel=1e-6)
    assert cosines.diagonal().tolist() == [1, 1, 0, 0] and cosines[2:].abs().sum() == 0
    assert float(collapse.class_lengths(A, rtol=1e-12)[1][3, 0]) == 1
    assert collapse.class_lengths(0 * A)[1].abs().sum() == 0
    assert collapse.simplex_spread(A[:3]).equiangularity < 1 and collapse.frame_distance(A) < 1


def test_nearest_mean_by_hand() -> None:
    features = torch.tensor([[0.0, 0], [2, 0], [0, 2], [1.2, 1]]) + 1e4
    means, logits = features[:3], torch.eye(4)[[0, 1, 1, 2]][:, :3]
    assert collapse.nearest_mean_disagreement(features, logits, means) == 0.5
    assert collapse.nearest_mean_disagreement(features.bfloat16(), logits.half(), means.double()) >= 0


# ---------------------------------------------------------------------------------------------- layers and the callback


def head_of(sizes: list[int], bias: bool, seed: int = 0) -> list[nn.Linear]:
    layers = [nn.Linear(a, b, bias=bias) for a, b in itertools.pairwise(sizes)]
    with torch.no_grad():
        for layer in layers:
            for p in layer.parameters():
                p.copy_(torch.randn(p.shape, generator=generator(seed + p.numel())))
    return layers


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("target", ["orthogonal", "simplex"])
def test_layers_are_measured_as_if_by_separate_passes(bias: bool, target: str) -> None:
    features, labels = clouds([12, 7, 5], 6, 0.4, dtype=torch.float32)
    layers = head_of([6, 5, 4, 3], bias)
    rows = collapse.layer_metrics(collapse.class_moments(features, labels), layers, target)
    assert [row.layer for row in rows] == [1, 2, 3]
    H, weights = features.double(), [layer.weight.detach().double() for layer in layers]
    for j, row in enumerate(rows):
        moments, A = collapse.class_moments(H, labels), torch.eye(3, dtype=F64)
        for W in reversed(weights[j:]):
            A = A @ W
        means = moments.centred if target == "simplex" else moments.means
        expected = (
            collapse.nc1(moments), collapse.scatter_ratio(moments), collapse.frame_distance(A, target),
            collapse.frame_distance(means, target), collapse.alignment_distance(A, means, target),
            int(torch.linalg.matrix_rank(means, rtol=1e-3)),
        )  # fmt: skip
        assert row[1:] == pytest.approx(expected, rel=1e-9)
        H = H @ weights[j].mT + (layers[j].bias.detach().double() if bias else 0)
    alike = [row.nc3 for row in rows]
    assert (max(alike) - min(alike) < 1e-12) == (not bias or target == "simplex"), "biases move the means alone"


def test_each_layer_can_have_targets_of_its_own() -> None:
    """A general orthogonal frame, exactly: singular values s of each of three layers, one of the classes dead."""
    s, Q = (
        torch.tensor([1.3, 0.8, 0.0], dtype=F64),
        torch.linalg.qr(torch.randn(5, 5, generator=generator(4), dtype=F64))[0],
    )
    first = torch.zeros(5, 5, dtype=F64)
    first[:3] = s[:, None] * Q[:3]
    layers = [first, torch.diag(torch.cat([s, s[:2]])), torch.diag(s) @ torch.eye(3, 5, dtype=F64)]
    means = s[:, None] ** 3 / (s[:, None] ** 6 + 0.1) * Q[:3]
    moments = collapse.class_moments(means.repeat(2, 1), torch.arange(3).repeat(2))
    lengths, logits = means.square().sum(1), s**6 / (s**6 + 0.1)
    targets = [(s ** (6 - 2 * j), lengths * s ** (2 * j), logits) for j in range(3)]
    for row in collapse.layer_metrics(moments, layers, targets):
        assert max(row.nc1, row.scatter, row.nc2, row.nc2_means, row.nc3) < 1e-12 and row.rank == 2
    assert min(row.nc2 for row in collapse.layer_metrics(moments, layers)) > 0.1


def test_a_dead_head_is_reported_not_refused() -> None:
    features, labels = clouds([4, 4], 3, 0.1)
    row, after = collapse.layer_metrics(collapse.class_moments(features, labels), [torch.zeros(3, 3), torch.ones(2, 3)])
    assert math.isnan(row.nc2) and math.isnan(row.nc3) and row.nc1 < math.inf and row.rank == 2
    assert after.nc1 == after.scatter == math.inf and math.isnan(after.nc2_means) and after.rank == 0


class Net(nn.Module):
    """Dropout, batch normalisation, one part that stays in evaluation mode, and a head of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 6))
        self.frozen = nn.BatchNorm1d(6).eval()
        self.head = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.frozen(self.body(x)))


def trained(watched: bool) -> tuple[Net, list[dict], torch.Tensor]:
    torch.manual_seed(0)
    x, y = torch.randn(30, 5), torch.arange(3).repeat(10)
    net = Net()
    net.frozen.eval()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=7, shuffle=True)
    watch = collapse.CollapseCallback(net, net.head, loader, every=4, nc4=True, target="simplex")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
    for step in range(9):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        if watched:
            gradients = [p.grad.clone() for p in net.parameters()]
            watch(step)
            assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
            assert net.training and net.body[1].training and not net.frozen.training
            assert not net.head[0]._forward_pre_hooks
        optimizer.step()
    return net, watch.history, torch.rand(3)


def test_watching_changes_nothing() -> None:
    (net, history, draw), (alone, none, same) = trained(True), trained(False)
    assert torch.equal(draw, same) and none == []
    assert all(map(torch.equal, net.state_dict().values(), alone.state_dict().values()))
    assert [(row["step"], row["layer"]) for row in history] == [(s, j) for s in (0, 4, 8) for j in (1, 2)]
    assert history[-1]["scatter"] < history[0]["scatter"]


@pytest.mark.parametrize("inside", [True, False])
def test_callback_measures_what_enters_the_head(inside: bool) -> None:
    torch.manual_seed(0)
    net, x, y = Net(), torch.randn(40, 5), torch.arange(3).repeat(14)[:40]
    for _ in range(3):
        net(x)  # statistics for the evaluation mode
    features_of = nn.Sequential(net.body, net.frozen)
    batches = list(zip(x.split(9), y.split(9), strict=True))
    watch = collapse.CollapseCallback(net if inside else features_of, list(net.head), lambda: iter(batches), nc4=True)
    rows = watch.measure(3)
    assert rows == watch.history and net.training
    net.eval()
    with torch.no_grad():
        features = features_of(x)
        moments = collapse.class_moments(features, y)
        expected = collapse.layer_metrics(moments, net.head)
        share = collapse.nearest_mean_disagreement(features, net.head(features), moments.means)
    assert watch.moments.samples == 40 and torch.allclose(watch.moments.within, moments.within, rtol=1e-5)
    assert 0 < share < 1
    for row, wanted in zip(rows, expected, strict=True):
        assert row.pop("step") == 3 and row.pop("nc4") == pytest.approx(share)
        assert row == pytest.approx(wanted._asdict(), rel=1e-4)


def test_callback_with_one_layer_and_a_function() -> None:
    features, y = clouds([6, 6], 4, 0.1, dtype=torch.float32)
    head = nn.Linear(4, 2)
    watch = collapse.CollapseCallback(lambda x: x, head, [(features, y)], every=2)
    for step in range(5):
        assert watch(step) is None
    assert [row["step"] for row in watch.history] == [0, 2, 4] and "nc4" not in watch.history[0]
    assert watch.history[0]["nc1"] == pytest.approx(collapse.nc1(collapse.class_moments(features, y)))


def test_callback_cleans_up_after_an_error() -> None:
    net = Net()
    watch = collapse.CollapseCallback(net, net.head, [(torch.randn(4, 5), torch.tensor([0, 1, 1, 7]))])
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="labels: received values from 0 to 7"):
        watch(0)
    assert net.training and net.body.training and watch.history == [] and not net.head[0]._forward_pre_hooks
    assert torch.equal(torch.get_rng_state(), state) and torch.is_grad_enabled()


# --------------------------------------------------------------------------------------------------------------- errors

X, Y = torch.eye(4)[:, :3], torch.tensor([0, 0, 1, 1])
MOMENTS = collapse.class_moments(X, Y)
ONES = torch.ones(2, 2)


def halves(**options: object) -> Callable[[], object]:
    return lambda: collapse.layer_metrics(MOMENTS, [torch.ones(2, 3)], **options)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "classes": (lambda: collapse.ClassMoments(0, 3), "classes: received 0; valid is a positive whole number"),
    "dim": (lambda: collapse.ClassMoments(2, True), "dim: received True"),
    "sums": (lambda: collapse.ClassMoments(2, 3, dtype=torch.float16), "dtype: received torch.float16"),
    "integers": (lambda: collapse.class_moments(X.long(), Y), "features: received torch.int64; valid is a floating"),
    "list": (lambda: collapse.class_moments([[1.0]], Y), "features: received list"),
    "images": (lambda: MOMENTS.update(X[None], Y), r"features: received shape \(1, 4, 3\); valid is \(any, 3\)"),
    "width": (lambda: MOMENTS.update(X[:, :2], Y), r"features: received shape \(4, 2\); valid is \(any, 3\)"),
    "real labels": (lambda: MOMENTS.update(X, Y.double()), "labels: received torch.float64"),
    "one-hot": (lambda: MOMENTS.update(X, torch.eye(4).long()), r"labels: received shape \(4, 4\); valid is \(4,\)"),
    "many": (lambda: MOMENTS.update(X, Y + 1), "labels: received values from 1 to 2; valid are 0 to 2 - 1"),
    "negative": (lambda: collapse.class_moments(X, Y - 1), "labels: received values from -1 to 0"),
    "nothing": (lambda: collapse.class_moments(X[:0], Y[:0]), "features: received no samples"),
    "empty": (lambda: collapse.ClassMoments(2, 3).means, r"labels: received no sample of class 0, 1 \(2 of 2"),
    "missing": (lambda: collapse.class_moments(X, 3 * Y, 5).within, r"labels: received no sample of class 1, 2, 4 \(3"),
    "missing push": (lambda: collapse.class_moments(X, Y, 3).pushed(X), "labels: received no sample of class 2"),
    "missing scatter": (lambda: collapse.scatter_ratio(collapse.class_moments(X, Y, 3)), "no sample of class 2"),
    "NaN": (lambda: collapse.nc1(collapse.class_moments(X * math.nan, Y)), "features: received NaN or infinite"),
    "inf": (lambda: collapse.class_moments(X / 0, Y).between, "features: received NaN or infinite"),
    "merge": (lambda: MOMENTS.merge(collapse.ClassMoments(2, 4)), "other: received 2 classes in dimension 4"),
    "push": (lambda: MOMENTS.pushed(torch.ones(2, 4)), r"weight: received shape \(2, 4\); valid is \(any, 3\)"),
    "rcond": (lambda: collapse.nc1(MOMENTS, 1.0), "rcond: received 1.0"),
    "zero frame": (lambda: collapse.frame_distance(0 * ONES), "A: received only zeros"),
    "zero target": (lambda: collapse.frame_distance(ONES, torch.zeros(2)), "target: received only zeros"),
    "one simplex": (lambda: collapse.frame_distance(ONES[:1], "simplex"), "target: received only zeros"),
    "word": (lambda: collapse.frame_distance(ONES, "etf"), "target: received 'etf'; valid are 'orthogonal', 'simplex'"),
    "target": (lambda: collapse.frame_distance(ONES, torch.ones(3)), r"target: received shape \(3,\); valid is \(2\)"),
    "Gram": (lambda: collapse.frame_distance(ONES, torch.ones(2, 3)), r"target: received shape \(2, 3\)"),
    "NaN rows": (lambda: collapse.frame_distance(ONES * math.nan), "A: received NaN or infinite values"),
    "means": (lambda: collapse.alignment_distance(ONES, X), r"means: received shape \(4, 3\); valid is \(2, 2\)"),
    "orthogonal": (lambda: collapse.alignment_distance(torch.eye(2)[:, :1], 0 * X[:2, :1]), "A Hbar: received only"),
    "dual": (lambda: collapse.self_duality(ONES, 0 * ONES), "means: received only zeros"),
    "flat": (lambda: collapse.class_lengths(ONES[0]), r"A: received shape \(2,\); valid is \(any, any\)"),
    "alone": (lambda: collapse.simplex_spread(ONES[:1]), r"A: received shape \(1, 2\); valid are at least two rows"),
    "all dead": (lambda: collapse.simplex_spread(0 * ONES), "A: received only zeros"),
    "logits": (lambda: collapse.nearest_mean_disagreement(X, X, X[:2]), r"logits: received shape \(4, 3\)"),
    "no samples": (lambda: collapse.nearest_mean_disagreement(X[:0], X[:0], X[:3]), "features: received no samples"),
    "no layers": (lambda: collapse.layer_metrics(MOMENTS, []), "layers: received none"),
    "ReLU": (lambda: collapse.layer_metrics(MOMENTS, [nn.ReLU()]), "layers: received ReLU; valid are nn.Linear"),
    "chain": (lambda: collapse.layer_metrics(MOMENTS, [torch.ones(4, 3), ONES]), r"layers\[1\]: received shape"),
    "outputs": (lambda: collapse.layer_metrics(MOMENTS, torch.ones(4, 3)), "layers: received 4 outputs for 2 classes"),
    "few targets": (halves(target=[]), "target: received 0 entries for 1 layers"),
    "pairs": (halves(target=[("simplex", "simplex")]), "target: received 1 entries for 1 layers"),
    "every": (lambda: collapse.CollapseCallback(nn.Linear(3, 2), nn.Linear(3, 2), [], 0), "every: received 0"),
    "head": (lambda: collapse.CollapseCallback(nn.Linear(3, 2), [nn.ReLU()], []), "layers: received ReLU"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message + ".*Repair: "):
        call()
    assert MOMENTS.samples == 4, "a refused batch leaves no trace"


@pytest.mark.parametrize("name", collapse.__all__)
def test_documented(name: str) -> None:
    thing = getattr(collapse, name)
    text = inspect.getdoc(thing) or ""
    parts = ("Args:", "Raises:", "Source:", ">>>")
    if isinstance(thing, type) and issubclass(thing, tuple):
        parts = ("See :func:", "zero") if name == "SimplexSpread" else ("see :func:",)
    for part in parts if isinstance(thing, type) else (*parts, "Returns:"):
        assert part in text, f"{name} lacks {part}"
