"""The experiments of the page spd_bures_wasserstein, at a size that takes seconds."""

import math
from itertools import pairwise

import pytest
import torch

from repgeom.chapters import spd_bures_wasserstein as chapter
from repgeom.manifolds import spd
from repgeom.manifolds.spd import affine_invariant, bures_wasserstein
from repgeom.nn.spd import SPDBatchNorm

F64 = torch.float64


def generator(k: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(k)


def test_matrices_have_the_condition_number_asked_for() -> None:
    X = chapter.with_condition(1e4, 6, generator(), 5)
    torch.testing.assert_close(chapter.condition(X), torch.full((5,), 1e4, dtype=F64), rtol=1e-8, atol=0)
    assert not torch.allclose(X[0], X[1])


def test_cloud_lies_around_its_center() -> None:
    center = chapter.with_condition(100.0, 4, generator())
    X = chapter.cloud(center, 0.1, generator(1), 400)
    assert float(affine_invariant.distance(affine_invariant.mean(X), center)) < 0.05
    logs = spd.logm(spd.inv_sqrtm(center) @ X @ spd.inv_sqrtm(center))
    assert logs[:, 0, 0].std().item() == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize(("cost", "powers"), [("half_squared_distance", (0, 1, 2)), ("likelihood", (2, 1, 0))])
def test_hessian_conditions_are_powers_of_kappa(cost: str, powers: tuple[int, ...]) -> None:
    A = chapter.with_condition(50.0, 3, generator())
    for metric, power in zip(("Euclid", "BW", "AIM"), powers, strict=True):
        found = chapter.hessian_condition(getattr(chapter, cost)(A), metric, A)
        assert math.log(found) / math.log(50) == pytest.approx(power, abs=1e-6)


def test_descent_reaches_the_matrix_on_both_manifolds() -> None:
    A = chapter.with_condition(5.0, 4, generator())
    for metric in ("AIM", "BW"):
        curve, iterations = chapter.descend(A, metric, 100)
        assert curve[-1] < 1e-6 and curve[0] > 0.1 and iterations <= 100
        assert all(b <= a for a, b in pairwise(curve))


def test_centred_batch_is_that_of_the_layer_and_has_mean_one() -> None:
    X = chapter.cloud(chapter.with_condition(20.0, 4, generator()), 0.3, generator(1), 30)
    norm = SPDBatchNorm(4, dispersion=False, mean_steps=60, dtype=F64)
    C = chapter.centred(X)
    torch.testing.assert_close(C, norm(X), rtol=0, atol=1e-10)
    torch.testing.assert_close(bures_wasserstein.mean(C), torch.eye(4, dtype=F64), rtol=0, atol=1e-10)
    half = chapter.centred(X, M=X.mean(0), theta=0.5)
    torch.testing.assert_close(bures_wasserstein.mean(half), torch.eye(4, dtype=F64), rtol=0, atol=1e-10)


def test_votes_follow_the_law() -> None:
    votes = chapter.vote_ratios(1e4, (1.0, 0.5), 300, generator())
    assert votes["BW, theta 1"] == pytest.approx(100, rel=0.25)
    assert votes["BW, theta 0.5"] == pytest.approx(10, rel=0.25)
    assert votes["AIM"] == pytest.approx(1, rel=0.25) and votes["GBW, M = mean"] == pytest.approx(1, rel=0.25)


def test_classes_differ_where_they_should() -> None:
    frame = torch.eye(20, dtype=F64)
    for signal, where in (("large", 0), ("small", 4)):
        X, y = chapter.two_classes(100.0, signal, 200, generator(), frame)
        logs = X.diagonal(dim1=1, dim2=2).log()
        gap = (logs[y == 1].mean(0) - logs[y == 0].mean(0)).abs()
        assert gap[where] > 0.5 and gap[where + 1] > 0.5
        others = [k for k in range(20) if k not in (where, where + 1)]
        assert gap[others].max() < 0.35
    assert float(X[0, 0, 0]) > 10 * float(X[0, 10, 10])


def test_nearest_mean_separates_what_is_separate() -> None:
    X = torch.cat([chapter.cloud(s * torch.eye(3, dtype=F64), 0.1, generator(k), 10) for k, s in enumerate((1.0, 4.0))])
    y = torch.arange(2).repeat_interleave(10)
    for metric in chapter.METRICS:
        assert chapter.nearest_mean_accuracy(metric, (X, y), (X, y)) == 1.0
    assert chapter.nearest_mean_accuracy("BW", (X, y), (X, 1 - y), theta=0.5) == 0.0


def test_bet_grid_has_a_row_for_every_cell() -> None:
    grid = chapter.bet_grid((0, 1), 6, (1.0, 100.0))
    assert len(grid["rows"]) == 2 * 2 * 4
    assert {row["signal"] for row in grid["rows"]} == {"large", "small"}
    assert all(0 <= row["accuracy"] <= 1 for row in grid["rows"])


def test_emg_windows_are_covariances_within_one_gesture() -> None:
    windows = chapter.emg_windows(4000)
    assert set(windows) == {"mg_s1", "mg_s2", "rr_s1", "rr_s2"}
    for X, y in windows.values():
        spd.require_spd("X", X)
        assert len(X) == len(y) > 20 and set(y.tolist()) <= set(range(5))
    (train, test), *rest = chapter.emg_pairs(windows)
    assert torch.equal(train[0], windows["mg_s1"][0]) and torch.equal(test[0], windows["mg_s2"][0]) and len(rest) == 3


def test_one_step_error_grows_with_dispersion_and_is_zero_for_equal_matrices() -> None:
    center = chapter.with_condition(100.0, 4, generator())
    small, large = (chapter.one_step_error("BW", chapter.cloud(center, d, generator(1), 20)) for d in (0.1, 0.8))
    assert small < large / 10
    assert chapter.one_step_error("BW", center.expand(5, 4, 4)) < 1e-12


def test_invariants_hold_until_the_unit_is_too_large() -> None:
    X = chapter.cloud(chapter.with_condition(20.0, 4, generator()), 0.8, generator(1), 30)
    X = X / X.diagonal(dim1=1, dim2=2).sum(1).mean()
    good, bad, cured = (chapter.layer_invariants(*a) for a in ((X, None), (100 * X, None), (100 * X, 100 * X.mean(0))))
    assert good["folded"] == cured["folded"] == 0 < bad["folded"]
    assert max(good["mean off by"], cured["mean off by"]) < 1e-10 < 0.1 < bad["mean off by"]
    assert max(good["variance off by"], cured["variance off by"]) < 1e-10 < bad["variance off by"]


def test_exact_distance_agrees_where_everything_is_easy() -> None:
    A, B = chapter.with_condition(10.0, 4, generator(), 2)
    for metric in ("AIM", "BW"):
        ours = float(chapter.METRICS[metric].distance(A, B))
        assert chapter.exact_distance(metric, A, B) == pytest.approx(ours, rel=1e-13)
    assert float(chapter.trace_formula(A, B)) == pytest.approx(chapter.exact_distance("BW", A, B), rel=1e-10)
    assert float(chapter.eigenvalue_formula(A, B)) == pytest.approx(chapter.exact_distance("AIM", A, B), rel=1e-10)


@pytest.mark.filterwarnings("ignore")  # importing geomstats warns about its own dependencies
def test_horizon_tells_formulas_apart() -> None:
    errors = chapter.horizon((1e2, 1e8), 1, generator())
    assert errors["BW", "repgeom"][1] < 1e-11 < 1e-8 < errors["BW", "trace formula"][1]
    assert errors["AIM", "repgeom, float32"][1] > 0.1  # rounding has changed the matrix, or made it indefinite
    assert all(len(curve) == 2 and max(curve) <= 1 for curve in errors.values())


def test_released_power_is_wrong_as_described_and_ours_is_not() -> None:
    X = chapter.with_condition(10.0, 4, generator())
    for theta, power, right in (
        (1.0, chapter.released_power, True),
        (0.5, chapter.released_power, False),
        (0.5, spd.powm, True),
    ):
        analytic, numeric = chapter.directional_derivatives(power, X, theta)
        assert (abs(analytic / numeric - 1) < 1e-6) is right
    one = torch.eye(4, dtype=F64)
    released, ours = (chapter.metric_gradient(power, X, one) for power in (chapter.released_power, spd.powm))
    torch.testing.assert_close(released.diagonal(), ours.diagonal())
    assert released.triu(1).abs().max() == 0 < ours.triu(1).abs().max()


def test_uncentred_variance_contains_the_way_to_the_identity() -> None:
    X = chapter.cloud(9 * torch.eye(3, dtype=F64), 0.05, generator(), 20)
    assert chapter.uncentred_variance(X) == pytest.approx(3 * (3 - 1) ** 2, rel=0.1)


def test_frozen_bimap_stays_and_a_trained_one_moves() -> None:
    pair = chapter.emg_pairs(chapter.emg_windows(4000))[0]
    start = chapter.SPDNet([8, 4], 5, generator=generator(3), dtype=F64).features[0].weight
    moved, kept = (
        chapter.train_emg(pair, 3, 1, size=4, train_bimap=flag)[1].features[0].weight for flag in (True, False)
    )
    torch.testing.assert_close(kept, start)
    assert (moved - start).abs().max() > 1e-4
    torch.testing.assert_close(moved.mT @ moved, torch.eye(4, dtype=F64))
