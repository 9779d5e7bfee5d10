"""The figure that the reader moves on the page about trees and metrics, in headless Chromium, without the site."""

import re

import pytest
import torch

from repgeom.chapters import trees_and_metrics as chapter
from repgeom.manifolds import poincare

START = {"depth": 5, "edge": 1.5, "exponent": 0.7}


@pytest.fixture
def figure(show_figure):
    return show_figure("trees", "interactive_trees.js", START)


def state(figure, depth: int, edge: float, exponent: float) -> dict:
    return figure.page.evaluate("([h, e, a]) => treesState(h, e, a)", [depth, edge, exponent])


def said(figure) -> str:
    return figure.locator(".numbers").inner_text()


@pytest.mark.parametrize(("depth", "edge", "exponent"), [(1, 3.0, 1.0), (3, 0.5, 0.3), (5, 1.5, 0.7), (6, 2.5, 0.45)])
def test_script_agrees_with_python(figure, depth: int, edge: float, exponent: float) -> None:
    found, (i, j) = state(figure, depth, edge, exponent), chapter.pairs(2 ** (depth + 1) - 1)
    D, fan = chapter.tree(depth)[i, j], chapter.fan(depth)
    ball = chapter.sarkar(depth, edge)
    torch.testing.assert_close(torch.tensor(found["fan"], dtype=torch.float64), fan)
    torch.testing.assert_close(torch.tensor(found["disc"], dtype=torch.float64), ball, rtol=0, atol=1e-12)
    flat = (fan[i] - fan[j]).norm(dim=-1)
    for name, d in (("plane", flat), ("snowflake", flat**exponent), ("ball", poincare.distance(ball[i], ball[j]))):
        scaled = chapter.best_scale(d, D) * d
        assert found[name]["average"] == pytest.approx(float(chapter.average_distortion(scaled, D)), rel=1e-6)
        assert found[name]["worst"] == pytest.approx(float(chapter.worst_distortion(d, D)), rel=1e-6)
        a, b = found[name]["pair"]
        k = int(((i == a) & (j == b)).nonzero())
        assert float((d / D)[k]) == pytest.approx(float((d / D).min()), rel=1e-6)
    assert found["bits"] == pytest.approx(depth * edge / 0.6931471805599453, abs=1)


def test_figure_says_what_the_script_computes(figure) -> None:
    found = state(figure, 5, 1.5, 0.7)
    numbers = [float(x) for x in re.findall(r"\d+\.\d+", said(figure))]
    expected = [found[k][what] for what in ("average", "worst") for k in ("plane", "snowflake", "ball")]
    assert numbers == pytest.approx([*expected, 7.5], abs=6e-3)
    assert said(figure).startswith("63 nodes") and f"{found['bits']} binary digits" in said(figure)
    assert figure.locator(".trees-edge").count() == 2 * 62 and figure.locator(".trees-pair").count() == 4


def test_figure_follows_the_keyboard(figure) -> None:
    for slider in figure.get_by_role("slider").all():
        before = said(figure)
        slider.press("ArrowLeft")
        assert said(figure) != before
    figure.get_by_role("slider", name="Depth").press("Home")
    assert said(figure).startswith("3 nodes")
    figure.get_by_role("slider", name="Depth").press("End")
    figure.get_by_role("slider", name="Edge").press("End")
    assert said(figure).startswith("127 nodes") and "distance 18.00" in said(figure)


def test_it_fits_on_a_phone_and_is_described(figure) -> None:
    assert figure.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    for drawing in figure.locator("svg").all():
        assert len(drawing.get_attribute("aria-label")) > 20
    assert figure.get_by_role("slider", name="Edge").get_attribute("aria-valuetext") == "1.50"
