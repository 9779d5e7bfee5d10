"""The experiments of the page on the predictions of width, at small size, and the figure that the reader moves."""

import math
import random
import re

import pytest
import torch

from repgeom.chapters import width_predictions as chapter
from repgeom.theory import width_limits

F64 = torch.float64
START = {"modes": 200, "alpha": 1.5, "beta": 1.5, "n": 60, "k": 100, "ridge": 1e-3, "noise": 0.1, "cases": []}


# ---------------------------------------------------------------------------------------------------------- experiments


def test_dual_ridge_is_ridge() -> None:
    draw = chapter.generator(0)
    Phi, y = chapter.normal(draw, 8, 5), chapter.normal(draw, 8)
    w = torch.linalg.solve(Phi.mT @ Phi + 0.7 * torch.eye(5, dtype=F64), Phi.mT @ y)
    weights = []
    rows = chapter.ridge_errors(Phi, y, [0.7], lambda dual: weights.append(Phi.mT @ dual) or 1.5)
    assert torch.allclose(weights[0], w) and rows[0][0] == 1.5
    assert rows[0][1] == pytest.approx(float((Phi @ w - y).square().mean()))


def test_seeds_and_places_share_no_numbers() -> None:
    first = [float(chapter.normal(chapter.generator(s, n, k), 1)) for s in (0, 1, 2) for n in (1, 2) for k in (1, 2)]
    assert len(set(first)) == 12


def test_synthetic_errors_lie_on_the_prediction() -> None:
    spectrum = chapter.power_laws(200)
    found = torch.tensor([chapter.synthetic_errors(spectrum, 60, 90, [0.1, 1.0], 0.5, s) for s in range(15)]).mean(0)
    risk = width_limits.feature_risk(*spectrum, 60, 90, torch.tensor([0.1, 1.0]), 0.5)
    assert (found[:, 0] / risk.test).tolist() == pytest.approx([1, 1], abs=0.1)
    assert (found[:, 1] / risk.train).tolist() == pytest.approx([1, 1], abs=0.15)


def test_a_pool_is_a_population() -> None:
    images, labels = chapter.digits()
    assert images.shape == (1797, 64) and set(labels.tolist()) == {1, -1} and int(labels[0]) == 1 == -int(labels[1])
    pool = chapter.pool(images[:40], labels[:40])
    assert pool.x.norm(dim=1).tolist() == pytest.approx([8.0] * 40)
    assert float(pool.squares.sum()) == pytest.approx(1) and bool((pool.eigenvalues.diff() <= 0).all())
    # Its eigenvalues sum to the mean of K(x, x), which He scaling makes one.
    assert float(pool.eigenvalues.sum()) == pytest.approx(1.0)


def test_image_features_approximate_the_kernel() -> None:
    images, labels = chapter.digits()
    pool = chapter.pool(images[:60], labels[:60])
    found = chapter.image_errors(pool, 60, 20_000, [0.5], 0)
    K = chapter.feature_kernel(pool.x)
    dual = torch.linalg.solve(K + 0.5 * torch.eye(60, dtype=F64), pool.y)
    assert found[0][0] == pytest.approx(float((K @ dual - pool.y).square().mean()), rel=0.05)
    assert found[0][0] == pytest.approx(found[0][1])  # all images were learned from


def test_the_sweep_has_a_row_for_each_cell() -> None:
    images, labels = chapter.digits()
    rows = chapter.sweep(chapter.SETTINGS["smoke"]["sweep"], images[:60], labels[:60], [0.1, 1.0])
    assert [(r["n"], r["k"], r["ridge"]) for r in rows[:3]] == [(10, 10, 0.1), (10, 10, 1.0), (10, 30, 0.1)]
    assert len(rows) == 8 and all(0.2 < r["test"] / r["predicted"] < 5 for r in rows)


def test_the_circle_has_the_densities_it_says() -> None:
    points = chapter.circle(10, 40_000, 0)
    assert points.test_x.norm(dim=1).tolist() == pytest.approx([1.0] * 40_000)
    assert float((points.test_y < 0).double().mean()) == pytest.approx(0.4, abs=0.01)
    assert float((points.bayes == points.test_y).double().mean()) == pytest.approx(0.76, abs=0.01)  # by hand
    t = points.test_x[:, 0] / points.test_x.sum(1)
    assert float(t[points.test_y > 0].mean()) == pytest.approx(2 / 3, abs=0.01)
    assert float(t[points.test_y < 0].mean()) == pytest.approx(1 / 3, abs=0.01)


def test_deep_classifiers_are_what_the_limits_say() -> None:
    points = chapter.circle(120, 300, 1)
    guesses = chapter.deep_rows(points)
    agree = lambda a, b: float((guesses[a] == guesses[b]).double().mean())  # noqa: E731
    assert agree("deep, exponent 1", "Hilbert vote, exponent 1") > 0.98
    assert agree("deep, with a constant", "majority") == 1 and agree("deep, h_2", "1-nearest neighbour") > 0.7
    told = guesses["deep, h_2"] != 0  # far from all points every weight has become zero
    assert float((guesses["deep, h_2"] == guesses["1-nearest neighbour"])[told].double().mean()) > 0.99
    assert agree("deep, exponent 1", "1-nearest neighbour") < 0.97
    assert chapter.singular_exponent(chapter.VOTE, 60) == pytest.approx(-1, abs=1e-3)


def test_random_scales_have_heavy_tails() -> None:
    student, gauss = chapter.ks_distances(1.0, 64, 1500, 0)
    assert student < 0.05 < gauss


def test_coverage_of_both_bands() -> None:
    x = torch.randn(30, 6, generator=chapter.generator(0), dtype=F64)
    gauss, student = chapter.coverage(x, 20, 1.0, 100, 0)
    assert gauss == pytest.approx(0.9, abs=0.05) and student == pytest.approx(0.9, abs=0.06)
    gauss, student = chapter.coverage(x, 20, 4.0, 50, 0)
    assert gauss < 0.5 < 0.8 < student


def test_grams_are_learned() -> None:
    G0, Y = chapter.three_digits(3, 0)
    assert G0.shape == (9, 9) and G0.diagonal().tolist() == pytest.approx([4.0] * 9) and Y.sum(0).tolist() == [3, 3, 3]
    fixed = chapter.alignment(width_limits.squared_exponential(G0), Y)
    tied, free = (
        chapter.alignment(chapter.learn_grams(G0, Y, [nu], width_limits.squared_exponential, 0.1, 3)[0], Y)
        for nu in (1e4, 1.0)
    )
    assert tied == pytest.approx(fixed, abs=0.01) and free > fixed + 0.1
    assert chapter.alignment(Y @ Y.mT + 1, Y) == pytest.approx(1)


def test_the_hierarchical_target_has_its_moments() -> None:
    _, h = chapter.hierarchy(100_000, 8, 0)
    assert float(h.mean()) == pytest.approx(0, abs=0.03) and 0.9 < float(h.var()) < 2.5
    x, h = chapter.hierarchy(50, 8, 0)
    assert x.shape == (50, 8)
    assert torch.allclose(chapter.hierarchy(50, 8, 0)[1], h) and float((-x @ x.mT).trace()) < 0


def test_scores_of_kernel_and_network() -> None:
    assert chapter.score(torch.zeros(4), torch.tensor([1.0, -1, 1, -1])) == pytest.approx(0.25)  # unbiased variance
    kernel, network = chapter.hierarchy_scores(300, 3, 64, 400, 0, test=300)
    assert kernel > 0.5 and network > 0.5


def test_logistic_paths_may_rise_on_the_way() -> None:
    x, y = torch.tensor([[1.0, -1.0], [-1.0, -4.0]], dtype=F64), torch.tensor([1.0, -1.0], dtype=F64)
    path = chapter.logistic_path(x, y, 1000.0, 2)
    assert path[0] == (pytest.approx(math.log(2)), 1.0)
    assert path[1] == (pytest.approx(125.0), 0.5) and path[2][1] == 0
    assert width_limits.separation_steps(x, y, 1000.0, normalized=False) == 2
    x, y = chapter.digit_pair(3, 8)
    assert x.shape == (357, 65) and float(y.sum()) == 183 - 174 and bool((x[:, -1] == 1).all())
    x, y = chapter.worst_case(5)
    assert x.tolist()[0] == [0.5, -1.0] and y.tolist() == [1, -1, -1, -1, -1]


# --------------------------------------------------------------------------------------------------------------- figure


@pytest.fixture
def figure(show_figure):
    return show_figure("width", "interactive_width.js", START)


def said(figure) -> str:
    return figure.locator(".numbers").inner_text()


def test_script_agrees_with_the_library(figure) -> None:
    draw, spectrum = random.Random(0), chapter.power_laws(200)
    for _ in range(40):
        n, k = draw.randint(10, 150), round(10 ** draw.uniform(1, 3))
        ridge, noise = 10 ** draw.uniform(-4, 1), draw.uniform(0, 1)
        found = figure.page.evaluate("(a) => widthRisk(widthSpectrum(200, 1.5, 1.5), ...a)", [n, k, ridge, noise])
        expected = width_limits.feature_risk(*spectrum, n, k, ridge, noise)
        for name in ("test", "train", "kappa", "gamma"):
            assert found[name] == pytest.approx(float(getattr(expected, name)), rel=1e-6), (name, n, k, ridge)


def test_the_thin_curve_is_never_above(figure) -> None:
    ridges = torch.logspace(-4, 1, 16, dtype=F64)
    for k in (15, 60, 700):
        best = figure.page.evaluate("(k) => widthBest(widthSpectrum(200, 1.5, 1.5), 60, k, 0.1)", k)
        expected = width_limits.feature_risk(*chapter.power_laws(200), 60, k, ridges, 0.1).test.min()
        assert best == pytest.approx(float(expected), rel=1e-6)


def test_figure_says_what_the_script_computes(figure) -> None:
    risk = width_limits.feature_risk(*chapter.power_laws(200), 60, 100, 1e-3, 0.1)
    numbers = [float(x) for x in re.findall(r"\d+\.\d+", said(figure))]
    assert numbers[0] == pytest.approx(float(risk.test), abs=6e-4)
    assert numbers[1] == pytest.approx(float(risk.train), abs=6e-4)
    assert numbers[3] == pytest.approx(float(risk.gamma), rel=6e-3)


def test_figure_follows_keyboard_and_pointer(figure) -> None:
    for slider in figure.get_by_role("slider").all():
        before = said(figure)
        slider.press("ArrowRight")
        assert said(figure) != before
    figure.get_by_role("slider", name="Samples").press("Home")
    figure.get_by_role("slider", name="Features").press("End")
    assert "n = 10, k = 1000" in said(figure)
    chart = figure.locator("svg.draggable")
    chart.scroll_into_view_if_needed()
    box, mouse = chart.bounding_box(), figure.page.mouse
    mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    mouse.down()
    mouse.move(box["x"] + 1, box["y"] + box["height"] * 0.5, steps=3)
    mouse.up()
    assert "k = 10:" in said(figure)


def test_it_fits_on_a_phone_and_is_described(figure) -> None:
    assert figure.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert len(figure.locator("svg").get_attribute("aria-label")) > 20
    assert figure.get_by_role("slider", name="Ridge").get_attribute("aria-valuetext") == "0.001"
    assert figure.locator("polyline").count() == 4, "the test error leaves the frame at the peak"
