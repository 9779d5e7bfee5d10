"""The experiments of the page on clustering by subspaces: that they compute what the page says, at smoke size."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from repgeom.chapters import subspace_clustering as chapter
from repgeom.nn.coding_rate import coding_rate_of_groups

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def planes(noise: float = 0.0, points: int = 30, angle: float = 60) -> tuple[torch.Tensor, torch.Tensor]:
    return chapter.subspaces(angle, points, generator(), noise=noise)


# --------------------------------------------------------------------------------------------------------------- data


@pytest.mark.parametrize("angle", [90, 50, 10])
def test_subspaces_stand_at_the_angle(angle: float) -> None:
    X, y = planes(angle=angle)
    assert X.shape == (90, 30) and y.bincount().tolist() == [30, 30, 30]
    torch.testing.assert_close(X.norm(dim=1), torch.ones(90, dtype=F64))
    bases = [torch.linalg.svd(X[y == j])[2][:3] for j in range(3)]
    for j in range(3):
        assert torch.linalg.matrix_rank(X[y == j], rtol=1e-8) == 3
        cosines = torch.linalg.svdvals(bases[j] @ bases[j - 1].T)
        torch.testing.assert_close(cosines, torch.full((3,), math.cos(math.radians(angle)), dtype=F64))


def test_noise_has_the_length_asked_for() -> None:
    X, y = chapter.subspaces(90, 2000, generator(), noise=0.3)
    outside = torch.linalg.svd(X[y == 0])[2][3:]
    assert (X[y == 0] @ outside.T).norm(dim=1).square().mean().item() == pytest.approx(0.09 * 0.9 / 1.09, rel=0.05)


def test_digits_are_unit_and_mnist_falls_back_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = chapter.load_digits(200)
    torch.testing.assert_close(X.norm(dim=1), torch.ones(200, dtype=F64))

    def unavailable(name: str, **options: object) -> None:
        raise chapter.data.DataUnavailable(f"no {name}")

    monkeypatch.setattr(chapter.data, "load", unavailable)
    Z, labels, real = chapter.load_mnist(200)
    assert torch.equal(Z, X) and torch.equal(labels, y) and not real


def test_mnist_in_64_numbers_keeps_what_64_can(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 255, (80, 28, 28)).astype(np.uint8)

    class Stub:
        labels = np.arange(80) % 10

    Stub.images = images
    monkeypatch.setattr(chapter.data, "load", lambda name, **options: Stub)
    Z, labels, real = chapter.load_mnist(50)
    assert Z.shape == (50, 64) and real and labels.tolist() == [k % 10 for k in range(50)]
    flat = chapter.unit(torch.from_numpy(images[:50].reshape(50, -1).astype(float)))
    torch.testing.assert_close(Z @ Z.T, flat @ flat.T)  # 50 images lie in 50 dimensions


def test_signs_are_signs() -> None:
    X = torch.rand(100, 3, generator=generator(), dtype=F64)
    ratio = chapter.flipped(X, generator(1)) / X
    assert torch.equal(ratio.abs(), torch.ones(100, 3, dtype=F64)) and torch.equal(ratio[:, 0], ratio[:, 2])
    assert 30 < int((ratio[:, 0] > 0).sum()) < 70


# ------------------------------------------------------------------------------------------------------------ judging


def test_accuracy_is_that_of_the_best_naming() -> None:
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    assert chapter.accuracy(y, torch.tensor([2, 2, 0, 0, 1, 1])) == 1
    assert chapter.accuracy(y, torch.zeros(6, dtype=torch.long)) == pytest.approx(1 / 3)
    assert chapter.accuracy(y, torch.arange(6)) == pytest.approx(1 / 2)  # more clusters than classes


# ------------------------------------------------------------------------------------------------------------- rivals


def test_subspace_methods_find_planes_and_k_means_does_not() -> None:
    X, y = planes()
    assert chapter.accuracy(y, chapter.k_subspaces(X, 3, 3, generator(), 6)[0]) == 1
    assert chapter.accuracy(y, chapter.rate_clusters(X, 3, 0.5, generator(), 6)[0]) == 1
    assert chapter.accuracy(y, chapter.spectral(chapter.least_squares_affinity(X, 0.1), 3, 0)) == 1
    assert chapter.accuracy(y, chapter.k_means(X, 3, 0)) < 0.7


def test_captured_share_is_one_on_exact_planes_and_never_falls() -> None:
    X, y = planes()
    clusters, captured = chapter.settle(X, y, 3, 3)
    assert torch.equal(clusters, y) and captured == pytest.approx(1)
    digits, _ = chapter.load_digits(200)
    groups = torch.randint(10, (200,), generator=generator())
    shares = [chapter.settle(digits, groups, 10, 3, steps)[1] for steps in (0, 1, 2, 5, 60)]
    assert shares == sorted(shares)


def test_least_squares_affinity_is_ridge_regression() -> None:
    X, _ = planes(noise=0.3, points=5)
    A = chapter.least_squares_affinity(X, 0.7)
    G = X @ X.T
    C = torch.linalg.inv(G + 0.7 * torch.eye(15, dtype=F64)) @ G
    torch.testing.assert_close(A, ((C + C.T) / 2).abs().fill_diagonal_(0))


def test_slopes_of_the_rate_are_those_of_autograd() -> None:
    X, _ = planes(noise=0.3, points=6)
    P = (2 * torch.randn(3, 18, generator=generator(), dtype=F64)).softmax(0).requires_grad_()
    (slope,) = torch.autograd.grad(18 * coding_rate_of_groups(X, P, 0.4), P)
    torch.testing.assert_close(chapter.rate_slopes(X, P.detach(), 0.4), slope)


def test_the_rate_never_rises_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    X, _ = chapter.load_digits(300)
    seen = []
    slopes = chapter.rate_slopes
    monkeypatch.setattr(chapter, "rate_slopes", lambda X, P, eps: seen.append(P) or slopes(X, P, eps))
    chapter.rate_clusters(X, 10, 0.5, generator(), 1)
    rates = [float(coding_rate_of_groups(X, P, 0.5)) for P in seen]
    assert len(rates) > 3 and all(b <= a + 1e-12 for a, b in pairwise(rates))


def test_subspace_methods_are_blind_to_signs() -> None:
    X, _ = chapter.load_digits(200)
    for method in (
        lambda x: chapter.k_subspaces(x, 10, 3, generator(1), 1)[0],
        lambda x: chapter.rate_clusters(x, 10, 0.5, generator(1), 1)[0],
    ):
        assert torch.equal(method(X), method(chapter.flipped(X, generator(2))))


def test_spectral_reading_finds_blocks() -> None:
    P = torch.block_diag(*(torch.full((n, n), 1 / n) for n in (5, 8, 7)))
    clusters = chapter.leading_spectral(0.9 * P + 0.1 / 20, 3, 0)
    assert chapter.accuracy(torch.arange(3).repeat_interleave(torch.tensor([5, 8, 7])), clusters) == 1


def test_runs_on_subspaces_and_pixels_have_their_names() -> None:
    found = chapter.on_subspaces(60, 0, 12, 2)
    assert len(found) == 7 and all(0.3 <= v <= 1 for v in found.values())
    X, y = chapter.load_digits(150)
    found = chapter.on_pixels(X, y, 0, 1) | chapter.from_classes(X, y)
    assert found["least rate from classes"] > 0.9 and found["rate, classes"] <= found["rate"]
    assert found["captured"] < 1 and len(found) == 14


def test_cheating_starts_are_as_wrong_as_they_say() -> None:
    y = torch.arange(10).repeat(200)
    assert chapter.accuracy(y, chapter.hinted(y, 0.8, generator())) == pytest.approx(0.28, abs=0.03)
    merged = chapter.merged(y, generator())
    assert chapter.accuracy(y, merged) == pytest.approx(0.85, abs=0.01)
    sizes = sorted(merged.bincount(minlength=10).tolist())
    assert sizes[2:9] == [200] * 7 and sizes[9] == 400 and sizes[0] + sizes[1] == 200


# ------------------------------------------------------------------------------------------------ features and groups


def test_views_are_moved_by_at_most_a_pixel() -> None:
    X = torch.zeros(400, 64)
    X[:, 27] = 1  # row 3, column 3
    seen = chapter.moved(X, generator(), noise=0.0).view(-1, 8, 8).nonzero()
    offsets = {(int(r) - 3, int(c) - 3) for _, r, c in seen}
    assert offsets == {(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)}


def test_both_stages_train_and_the_codes_start_as_the_features() -> None:
    X, _ = chapter.load_digits(120)
    network = chapter.TwoHeads(64, 0)
    before = [p.clone() for p in network.parameters()]
    chapter.warm_up(network, X.float(), 2, 50, 0)
    assert torch.equal(network.codes.weight, network.features.weight)
    assert not torch.equal(network.trunk[0].weight, before[0])
    last = chapter.learn_membership(network, X.float(), 2, 50, 0)
    assert not torch.equal(network.codes.weight, network.features.weight)
    assert 0 < last["Rc"] < last["R"] and 1 / 50 < last["alone"] < 1
    Z, C = network(X.float())
    torch.testing.assert_close(Z.norm(dim=1), torch.ones(120))
    P = chapter.membership_of(C.detach(), 0.15)
    torch.testing.assert_close(P.sum(0), torch.ones(120), rtol=0, atol=4e-4)
    assert torch.equal(P, P.T)


def test_the_first_stage_makes_views_alike_and_spreads_images() -> None:
    X = chapter.load_digits(200)[0].float()

    def cosine_and_rate(alike: float) -> tuple[float, float]:
        network = chapter.TwoHeads(64, 0)
        chapter.warm_up(network, X, 25, 100, 0, alike=alike)
        with torch.no_grad():
            Z, W = (network(chapter.moved(X, generator(k)))[0] for k in (1, 2))
        return float((Z * W).sum(1).mean()), float(chapter.coding_rate(Z))

    untrained = float(chapter.coding_rate(chapter.TwoHeads(64, 0)(X)[0].detach()))
    alike, spread = cosine_and_rate(20), cosine_and_rate(0)
    assert alike[0] > spread[0] + 0.1
    assert spread[1] > alike[1] > untrained + 1


def test_rates_fall_apart_with_training() -> None:
    """The second stage raises R - R_c of the same batch of networks: it maximises, and does not minimise."""
    X, y = chapter.load_digits(300)
    short, long = ({"warm": 5, "steps": steps, "batch": 100} for steps in (1, 25))
    first, last = (chapter.two_stages(X, y, 0, schedule)[1] for schedule in (short, long))
    assert last["R"] - last["Rc"] > first["R"] - first["Rc"] + 0.5


def test_the_first_stage_can_be_left_out() -> None:
    X, y = chapter.load_digits(120)
    schedule = chapter.SETTINGS["smoke"]["mlc"]
    with_it, without = (chapter.two_stages(X, y, 0, schedule, warm)[1] for warm in (True, False))
    assert set(with_it) - set(without) == {"features, stage 1", "membership, stage 1"}


# -------------------------------------------------------------------------------------------------------- novel classes


def test_splits_hide_three_to_five_classes() -> None:
    pairs = chapter.splits(6, 0)
    assert [len(novel) for _, novel in pairs] == [3, 4, 5, 3, 4, 5]
    assert all(sorted(known + novel) == list(range(10)) for known, novel in pairs)
    assert chapter.splits(6, 1) != pairs


def test_classes_are_counted_from_zero() -> None:
    X, y = torch.arange(6.0)[:, None], torch.tensor([7, 2, 5, 7, 2, 9])
    rows, labels = chapter.of_classes(X, y, [2, 7])
    assert rows[:, 0].tolist() == [0, 1, 3, 4] and labels.tolist() == [1, 0, 1, 0]


def test_known_centres_stay_and_hold_what_is_nearest_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two novel clouds far from a known centre, and a few points near it: they move neither it nor a novel centre."""
    measure, firsts = torch.cdist, []
    monkeypatch.setattr(torch, "cdist", lambda X, centres: firsts.append(centres[0].tolist()) or measure(X, centres))
    clouds = torch.tensor([[10.0, 0.0], [0.0, 10.0]]).repeat_interleave(20, 0)
    X = torch.cat([clouds + 0.1 * torch.randn(40, 2, generator=generator()), torch.full((5, 2), 0.5)])
    clusters = chapter.novel_k_means(X, torch.zeros(1, 2), 2, generator(1))
    assert chapter.accuracy(torch.arange(2).repeat_interleave(20), clusters[:40]) == 1
    assert set(clusters.tolist()) == {0, 1}
    assert len(firsts) > 20 and all(first == [0, 0] for first in firsts)


def test_a_classifier_keeps_the_known_apart_and_reconstruction_remembers() -> None:
    X, y = chapter.load_digits(400)
    (seen, labels), (new, _) = (chapter.of_classes(X.float(), y, c) for c in ([0, 1, 2, 3, 4], [5, 6, 7]))
    codes, novel = chapter.latent(seen, labels, new, 1.0, 0, 60)
    assert codes.shape == (len(seen), 16) and novel.shape == (len(new), 16)
    assert chapter.accuracy(labels, chapter.k_means(codes, 5, 0)) > 0.8


def test_hiding_takes_other_classes_in_every_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = chapter.load_digits(300)
    hidden = []

    def spy(kept: torch.Tensor, labels: torch.Tensor, out: torch.Tensor, *rest: object) -> tuple[torch.Tensor, ...]:
        hidden.append((int(labels.max()) + 1, len(out)))
        return kept, out

    monkeypatch.setattr(chapter, "latent", spy)
    score = chapter.hiding(X, y, [1, 3, 4, 6, 8], 1.0, 0, 2, 3)
    sizes = [int((y == c).sum()) for c in range(10)]
    assert hidden == [(3, sizes[1] + sizes[3]), (3, sizes[4] + sizes[6])] and 0.5 < score <= 1


def test_silhouette_counts_clear_clouds() -> None:
    X = 10 * torch.eye(4).repeat_interleave(15, 0) + 0.1 * torch.randn(60, 4, generator=generator())
    assert chapter.silhouette_count(X, 0, most=6) == 4


def test_discover_reports_every_method() -> None:
    X, y = chapter.load_digits(300)
    known, novel = chapter.splits(1, 0)[0]
    found = chapter.discover(X.float(), y, known, novel, 0, chapter.SETTINGS["smoke"]["ncd"])
    accuracies = {name: v for name, v in found.items() if isinstance(v, float)}
    assert len(accuracies) == 6 and all(0 < v <= 1 for v in accuracies.values())
    assert found["PBN, tuned on the answer"] == max(found["by weight"].values()) >= found["PBN, tuned by hiding"]
    assert found["hidden by weight"][found["weights"][0]] == max(found["hidden by weight"].values())


def test_long_run_has_a_row_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chapter, "load_digits", lambda images=300, load=chapter.load_digits: load(min(images, 300)))
    rows = chapter.long_run(0, chapter.SETTINGS["smoke"])
    assert len(rows["both stages"]) == len(rows["second stage only"]) == len(rows["novel"]) == 1
    assert "count" in rows["novel"][0] and not any(isinstance(v, dict) for v in rows["novel"][0].values())
