"""Bounds are reached by the frames that are known to reach them and broken by none; sets are what they say."""

import inspect
import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from repgeom.theory import frames

F64 = torch.float64
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cosines(W: Tensor) -> Tensor:
    """Of all pairs of different rows, in double precision."""
    W = W.to(F64)
    return (W @ W.mT)[~torch.eye(len(W), dtype=torch.bool)]


def overlap(S: Tensor) -> float:
    """Largest squared Frobenius norm of S_i^T S_j over pairs, by a loop."""
    return max(float((A.mT @ B).square().sum()) for A, B in combinations(S, 2))


def random_subspaces(N: int, n: int, k: int, seed: int) -> Tensor:
    return torch.linalg.qr(torch.randn(N, n, k, generator=generator(seed), dtype=F64)).Q


# -------------------------------------------------------------------------------------------------------- known frames


def mercedes_benz() -> Tensor:
    angles = torch.arange(3, dtype=F64) * (2 * math.pi / 3)
    return torch.stack([angles.cos(), angles.sin()], -1)


def icosahedron() -> Tensor:
    golden = (1 + math.sqrt(5)) / 2
    corners = [[0, 1, golden], [0, 1, -golden], [1, golden, 0], [1, -golden, 0], [golden, 0, 1], [-golden, 0, 1]]
    return torch.nn.functional.normalize(torch.tensor(corners, dtype=F64), dim=-1)


def sixteen_lines() -> Tensor:
    """From the Clebsch graph: four-bit words, neighbours where one bit or all four bits differ."""
    bits = torch.tensor([[bin(a ^ b).count("1") for a in range(16)] for b in range(16)])
    gram = (1 - 2 * ((bits == 1) | (bits == 4)).to(F64)).div(3).fill_diagonal_(1)
    values, vectors = torch.linalg.eigh(gram)
    assert int((values > 1e-9).sum()) == 6
    return vectors[:, -6:] * values[-6:].sqrt()


def twenty_eight_lines() -> Tensor:
    """Two threes and six minus ones: orthogonal to the ones, so in R^7."""
    W = torch.full((28, 8), -1.0, dtype=F64)
    for row, pair in zip(W, combinations(range(8), 2), strict=True):
        row[list(pair)] = 3
    _, _, basis = torch.linalg.svd(W, full_matrices=False)
    return torch.nn.functional.normalize(W @ basis[:7].mT, dim=-1)


EQUIANGULAR = {
    "Mercedes-Benz": mercedes_benz(),
    "icosahedron": icosahedron(),
    "16 in R^6": sixteen_lines(),
    "28 in R^7": twenty_eight_lines(),
    "simplex": frames.simplex_etf(8, 7, dtype=F64),
    "orthonormal": torch.eye(5, dtype=F64),
}
every_frame = pytest.mark.parametrize("W", EQUIANGULAR.values(), ids=EQUIANGULAR)


@every_frame
def test_equiangular_tight_frames_reach_welch(W: Tensor) -> None:
    N, d = W.shape
    assert W.norm(dim=-1) == pytest.approx(torch.ones(N, dtype=F64))
    assert float(cosines(W).abs().max() - cosines(W).abs().min()) < 1e-12
    assert float(frames.coherence(W)) == pytest.approx(frames.welch_bound(N, d), abs=1e-12)


def test_icosahedron_in_numbers() -> None:
    assert frames.welch_bound(6, 3) == pytest.approx(1 / math.sqrt(5), rel=1e-14)


@every_frame
@pytest.mark.parametrize("k", [1, 2, 3])
def test_equichordal_tight_fusion_frames_reach_the_subspace_bound(W: Tensor, k: int) -> None:
    N, d = W.shape
    S = torch.stack([torch.kron(w[:, None], torch.eye(k, dtype=F64)) for w in W])  # k copies of each line
    assert overlap(S) == pytest.approx(frames.subspace_welch_bound(N, d * k, k), abs=1e-12)
    F = frames.fusion_frame_operator(S)
    assert torch.allclose(F, N / d * torch.eye(d * k, dtype=F64), atol=1e-12)


def test_complements_of_equiangular_lines_reach_the_subspace_bound() -> None:
    for W in (icosahedron(), sixteen_lines(), twenty_eight_lines()):
        N, n = W.shape
        planes = torch.stack([torch.linalg.svd(w[None]).Vh[1:].mT for w in W])
        assert planes.shape == (N, n, n - 1)
        assert overlap(planes) == pytest.approx(frames.subspace_welch_bound(N, n, n - 1), rel=1e-12)
        chordal = n - 1 - frames.subspace_welch_bound(N, n, n - 1)
        assert chordal == pytest.approx((n - 1) / n * N / (N - 1), rel=1e-12)


def test_orthogonal_subspaces_overlap_by_nothing() -> None:
    S = torch.eye(12, dtype=F64).reshape(12, 4, 3).movedim(1, 0)
    assert overlap(S) == frames.subspace_welch_bound(4, 12, 3) == 0
    assert frames.subspace_welch_bound(2, 12, 3) == 0
    assert torch.equal(frames.fusion_frame_operator(S), torch.eye(12, dtype=F64))


def test_mutually_unbiased_bases_reach_the_orthoplex_bound() -> None:
    """Three bases of R^4, twelve lines, more than ten: the simplex bound is out of reach."""
    hadamard = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=F64) / 2
    W = torch.cat([torch.eye(4, dtype=F64), hadamard, hadamard * torch.tensor([1, 1, 1, -1], dtype=F64)])
    bound = frames.subspace_welch_bound(12, 4, 1)
    assert float(frames.coherence(W)) ** 2 == pytest.approx(bound, abs=1e-14) == 1 / 4
    assert bound > frames.welch_bound(12, 4) ** 2
    assert frames.subspace_welch_bound(10, 4, 1) == pytest.approx(frames.welch_bound(10, 4) ** 2, rel=1e-14)


# --------------------------------------------------------------------------------------------------------------- bounds


@given(st.integers(2, 30), st.integers(1, 8), st.integers(1, 5), st.integers(0, 1000))
def test_no_random_set_beats_the_bounds(N: int, d: int, order: int, seed: int) -> None:
    W = frames.random_unit_vectors(N, d, generator(seed), F64)
    assert float(frames.coherence(W)) >= frames.welch_bound(N, d, order) - 1e-12
    assert float(frames.coherence(W, signed=True)) >= frames.rankin_bound(N, d) - 1e-12


@given(st.integers(2, 12), st.integers(1, 6), st.data())
def test_no_random_subspaces_beat_the_bound(N: int, n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    S = random_subspaces(N, n, k, data.draw(st.integers(0, 1000)))
    assert overlap(S) >= frames.subspace_welch_bound(N, n, k) - 1e-12


@pytest.mark.parametrize("order", [1, 2, 3])
def test_order_of_welch_against_the_powers_of_a_gram_matrix(order: int) -> None:
    N, d = 40, 3
    W = frames.random_unit_vectors(N, d, generator(), F64)
    powers = (W @ W.mT) ** order
    dimension = int(torch.linalg.matrix_rank(powers, rtol=1e-10))
    assert dimension == math.comb(d + order - 1, order)
    least = N * N / dimension  # of the sum of squares: the eigenvalues sum to N, and so many are not zero
    assert float(powers.square().sum()) >= least
    mean = (least - N) / (N * (N - 1))
    assert frames.welch_bound(N, d, order) == pytest.approx(mean ** (1 / (2 * order)), rel=1e-12)


def test_orders_for_few_and_many_vectors() -> None:
    assert frames.welch_bound(100, 2, order=2) > frames.welch_bound(100, 2) + 0.04
    assert frames.welch_bound(4, 3, order=2) == 0 < frames.welch_bound(4, 3)
    assert frames.welch_bound(5, 5) == frames.welch_bound(4, 5) == 0


def test_rankin() -> None:
    assert frames.rankin_bound(5, 4) == -0.25
    assert frames.rankin_bound(6, 4) == frames.rankin_bound(100, 4) == 0
    assert (frames.rankin_bound(2, 1), frames.rankin_bound(3, 1)) == (-1, 1)


# d, largest |cos|, rms cos, Welch and largest / Welch of the basis files for N = 1000 that came with the paper
SHIPPED = [
    (100, 0.1350, 0.0952, 0.0949, 1.42),
    (200, 0.0800, 0.0637, 0.0633, 1.26),
    (300, 0.0580, 0.0490, 0.0483, 1.20),
    (400, 0.0440, 0.0395, 0.0387, 1.14),
    (500, 0.0350, 0.0326, 0.0316, 1.11),
]


@pytest.mark.parametrize(("d", "largest", "rms", "welch", "ratio"), SHIPPED)
def test_shipped_basis_files(d: int, largest: float, rms: float, welch: float, ratio: float) -> None:
    bound = frames.welch_bound(1000, d)
    assert round(bound, 4) == welch
    assert round(largest / bound, 2) == ratio
    assert bound < rms < 1.032 * bound  # nearly tight frames


def test_subspace_bound_of_the_paper_s_heads() -> None:
    assert frames.subspace_welch_bound(1000, 2048, 8) == pytest.approx(0.0233, abs=5e-5)
    assert frames.subspace_welch_bound(100, 512, 8) == pytest.approx(0.0455, abs=5e-5)


# ----------------------------------------------------------------------------------------------------------- known sets


@every_dtype
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(("N", "d"), [(2, 1), (2, 6), (5, 4), (5, 9), (40, 39)])
def test_simplex(N: int, d: int, seed: int | None, dtype: torch.dtype) -> None:
    W = frames.simplex_etf(N, d, None if seed is None else generator(seed), dtype)
    rounding = 20 * torch.finfo(dtype).eps
    assert W.shape == (N, d) and W.dtype == dtype
    assert float((W.norm(dim=1) - 1).abs().max()) < rounding
    assert float((cosines(W) + 1 / (N - 1)).abs().max()) < rounding
    assert float(W.sum(0).abs().max()) < N * rounding
    assert float(frames.coherence(W, signed=True)) == pytest.approx(frames.rankin_bound(N, d), abs=rounding)


@every_dtype
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(("N", "d"), [(4, 4), (6, 4), (8, 4), (2, 1)])
def test_orthoplex(N: int, d: int, seed: int | None, dtype: torch.dtype) -> None:
    W = frames.orthoplex(N, d, None if seed is None else generator(seed), dtype)
    assert W.shape == (N, d) and W.dtype == dtype
    values = cosines(W)
    assert int((values + 1).abs().lt(1e-6).sum()) == 2 * max(0, N - d)  # opposite pairs, counted twice
    assert int(values.abs().lt(1e-6).sum()) == N * (N - 1) - 2 * max(0, N - d)
    if N > d + 1:
        assert float(frames.coherence(W, signed=True)) == pytest.approx(frames.rankin_bound(N, d), abs=1e-6)


def test_turned_sets_are_the_same_set_in_another_place() -> None:
    for make in (frames.simplex_etf, frames.orthoplex):
        still, turned, other = (make(6, 5, g, F64) for g in (None, generator(1), generator(2)))
        assert torch.equal(still, make(6, 5, dtype=F64)) and torch.equal(turned, make(6, 5, generator(1), F64))
        assert torch.allclose(still @ still.mT, turned @ turned.mT, atol=1e-14)
        assert float((turned - other).abs().max()) > 0.1


def test_random_unit_vectors() -> None:
    W = frames.random_unit_vectors(2000, 20, generator(), F64)
    assert torch.allclose(W.norm(dim=1), torch.ones(2000, dtype=F64))
    assert float(cosines(W).square().mean()) == pytest.approx(1 / 20, rel=0.01)
    assert float(W.mean(0).abs().max()) < 0.02
    assert frames.random_unit_vectors(0, 3).shape == (0, 3)


def test_coherence() -> None:
    W = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-3.0, -4.0]], dtype=F64)
    assert float(frames.coherence(W)) == pytest.approx(0.8)
    assert float(frames.coherence(W, signed=True)) == 0
    assert frames.coherence(torch.stack([W, W, W])[:, None]).shape == (3, 1)
    assert float(frames.coherence(-frames.simplex_etf(3, 2, dtype=F64), signed=True)) == pytest.approx(-0.5)


def test_fusion_frame_operator_is_the_sum_of_projections() -> None:
    S = random_subspaces(10, 6, 2, 0).reshape(2, 5, 6, 2)
    F = frames.fusion_frame_operator(S)
    expected = torch.stack([sum(A @ A.mT for A in sets) for sets in S])
    assert torch.allclose(F, expected, atol=1e-14)
    assert F.diagonal(dim1=-2, dim2=-1).sum(-1) == pytest.approx(torch.full((2,), 10.0, dtype=F64))


# -------------------------------------------------------------------------------------------- equiangular basis vectors


@every_dtype
def test_equiangular_basis_vectors(dtype: torch.dtype) -> None:
    W = frames.equiangular_basis_vectors(100, 64, 0.09, generator=generator(), dtype=dtype)
    assert W.shape == (100, 64) and W.dtype == dtype
    assert float((W.norm(dim=1) - 1).abs().max()) < 1e-6
    rms = float(cosines(W).square().mean().sqrt())
    assert frames.welch_bound(100, 64) < rms < float(frames.coherence(W)) <= 0.0901


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("N", "d", "alpha", "signed"),
    [
        (100, 64, 0.082, False),
        (100, 32, 0.18, False),
        (10, 2, 0.96, False),
        (28, 7, 0.3334, False),  # an equiangular tight frame, found without being told
        (11, 10, -0.09, True),
        (6, 10, -0.15, True),
        (20, 10, 0.0, True),
        (100, 64, 0.01, True),
    ],
)
def test_descent_arrives(N: int, d: int, alpha: float, signed: bool, seed: int) -> None:
    W = frames.equiangular_basis_vectors(N, d, alpha, signed=signed, generator=generator(seed), dtype=F64)
    assert float(frames.coherence(W, signed=signed)) <= alpha + 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_descent_is_quick_near_the_bound(seed: int) -> None:
    """140 steps here; ten times as many without momentum."""
    W = frames.equiangular_basis_vectors(100, 64, 0.082, steps=300, generator=generator(seed), dtype=F64)
    assert float(frames.coherence(W)) < 1.09 * frames.welch_bound(100, 64)


def test_signed_cosines_may_be_smaller_than_absolute_ones() -> None:
    W = frames.equiangular_basis_vectors(11, 10, -0.09, signed=True, generator=generator())
    assert frames.rankin_bound(11, 10) <= float(frames.coherence(W, signed=True)) < -0.089
    W = frames.equiangular_basis_vectors(100, 64, 0.01, signed=True, generator=generator())
    assert float(frames.coherence(W, signed=True)) < frames.welch_bound(100, 64) < float(frames.coherence(W))


@pytest.mark.parametrize("copies", [[(1, 0, 1.0)], [(5, 7, -2.0)], [(1, 0, 1.0), (2, 0, -1.0), (9, 8, 1.0)]])
def test_collinear_vectors_are_parted(copies: list[tuple[int, int, float]]) -> None:
    start = frames.random_unit_vectors(100, 64, generator(1))
    for i, j, factor in copies:
        start[i] = factor * start[j]
    given = start.clone()
    W = frames.equiangular_basis_vectors(100, 64, 0.09, start=start, generator=generator())
    assert float(frames.coherence(W)) <= 0.0901
    assert torch.equal(start, given)


def test_a_good_start_is_returned_as_it_is() -> None:
    W = icosahedron()
    found = frames.equiangular_basis_vectors(6, 3, 0.4473, start=3 * W, steps=1)
    assert found.dtype == F64 and torch.allclose(found, W, atol=1e-15)


@pytest.mark.parametrize("seed", [None, 4])
def test_enough_dimensions_need_no_descent(seed: int | None) -> None:
    g = None if seed is None else generator(seed)
    W = frames.equiangular_basis_vectors(50, 60, 0.0, steps=1, generator=g, dtype=F64)
    assert torch.allclose(W @ W.mT, torch.eye(50, dtype=F64), atol=1e-14)
    assert torch.equal(W, torch.eye(50, 60, dtype=F64)) == (seed is None)


def test_randomness_comes_from_the_generator() -> None:
    def everything(seed: int) -> list[Tensor]:
        g = generator(seed)
        return [
            frames.random_unit_vectors(5, 4, g),
            frames.simplex_etf(5, 4, g),
            frames.orthoplex(5, 4, g),
            frames.equiangular_basis_vectors(5, 4, 0.5, generator=g),
            frames.equiangular_basis_vectors(4, 4, 0.5, generator=g),
            frames.equiangular_basis_vectors(30, 10, 0.35, start=torch.ones(30, 10), generator=g),
        ]

    before = torch.get_rng_state()
    first, again, other = everything(0), everything(0), everything(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other))


# --------------------------------------------------------------------------------------------------------------- errors

ONES = torch.ones(2, 2)
REFUSED = {
    "one vector": (lambda: frames.welch_bound(1, 3), "N: received 1; valid is a whole number, at least 2"),
    "half a vector": (lambda: frames.rankin_bound(2.5, 3), "N: received 2.5"),
    "order": (lambda: frames.welch_bound(3, 3, 0), "order: received 0"),
    "truth": (lambda: frames.welch_bound(3, True), "d: received True"),
    "k": (lambda: frames.subspace_welch_bound(3, 4, 5), "k: received 5 in dimension n = 4; valid is 1 <= k <= n"),
    "simplex": (lambda: frames.simplex_etf(5, 3), "N: received 5 in dimension d = 3; valid is at most 4"),
    "orthoplex": (lambda: frames.orthoplex(7, 3), "N: received 7 in dimension d = 3; valid is at most 6"),
    "half": (lambda: frames.simplex_etf(2, 3, dtype=torch.float16), "dtype: received torch.float16"),
    "whole": (lambda: frames.random_unit_vectors(2, 3, dtype=torch.int64), "dtype: received torch.int64"),
    "shape": (lambda: frames.coherence(torch.ones(1, 3)), r"W: received shape \(1, 3\); valid is \(..., N, d\)"),
    "integers": (lambda: frames.coherence(ONES.long()), "W: received torch.int64"),
    "zero": (lambda: frames.coherence(ONES * torch.tensor([[1.0], [0.0]])), "W: received a row of length zero"),
    "NaN": (lambda: frames.coherence(ONES * math.nan), "W: received a row .* not finite"),
    "bases": (lambda: frames.fusion_frame_operator(ONES), r"S: received shape \(2, 2\); valid is \(..., N, n, k\)"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message + ".*Repair: "):
        call()


@pytest.mark.parametrize(
    ("N", "d", "options", "message"),
    [
        (1000, 512, {"alpha": 0.002}, r"alpha: received 0\.002 .*valid is at least 0\.030888\d: .*Welch"),
        (100, 64, {"alpha": 0.07}, r"at least 0\.0753778: .*Welch"),
        (100, 3, {"alpha": 0.7}, r"at least 0\.768\d+: .*Welch"),  # allowed by order one
        (11, 10, {"alpha": -0.2, "signed": True}, r"at least -0\.1: .*Rankin"),
        (12, 10, {"alpha": -0.01, "signed": True}, r"at least 0: .*Rankin"),
        (21, 10, {"alpha": 0.0, "signed": True}, r"above 0, as only 2d = 20 vectors reach 0: .*Rankin"),
        (5, 10, {"alpha": -0.1}, r"alpha: received -0\.1; valid is a cosine from 0 to below 1"),
        (5, 10, {"alpha": math.nan, "signed": True}, r"alpha: received nan; valid is a cosine from -1 to below 1"),
        (9, 4, {"alpha": 1.0}, r"alpha: received 1\.0"),
        (9, 4, {"alpha": 0.9, "lr": 2.0}, r"lr, tolerance: received 2\.0 and 0\.0001"),
        (9, 4, {"alpha": 0.9, "tolerance": 0.0}, r"lr, tolerance: received 1\.0 and 0\.0"),
        (9, 4, {"alpha": 0.9, "steps": 0}, r"steps: received 0"),
        (9, 4, {"alpha": 0.9, "start": torch.ones(4, 9)}, r"start: received shape \(4, 9\); valid is \(9, 4\)"),
        (9, 4, {"alpha": 0.9, "start": torch.zeros(9, 4)}, r"start: received a row of length zero"),
        (9, 4, {"alpha": 0.9, "start": torch.ones(1, 9, 4)}, r"start: received shape \(1, 9, 4\)"),
        (9, 4, {"alpha": 0.9, "dtype": torch.bfloat16}, r"dtype: received torch\.bfloat16"),
    ],
)
def test_what_descent_refuses(N: int, d: int, options: dict, message: str) -> None:
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=message + ".*Repair: "):
        frames.equiangular_basis_vectors(N, d, **options)
    assert torch.equal(torch.get_rng_state(), before), "refused before anything is drawn"


@pytest.mark.parametrize(("signed", "reached"), [(False, r"\|cos\| of 0\.\d+"), (True, r"cos of 0\.0\d+")])
def test_descent_gives_up_with_what_it_reached(signed: bool, reached: str) -> None:
    alpha = 0.001 if signed else 0.077
    with pytest.raises(RuntimeError, match=rf"alpha: 60 steps reached a largest {reached}, not {alpha}. Repair: "):
        frames.equiangular_basis_vectors(100, 64, alpha, signed=signed, steps=60, generator=generator())


@pytest.mark.parametrize("name", frames.__all__)
def test_documented(name: str) -> None:
    text = inspect.getdoc(getattr(frames, name)) or ""
    for part in ("Args:", "Returns:", "Raises:", "Source:", ">>>"):
        assert part in text, f"{name} lacks {part}"
