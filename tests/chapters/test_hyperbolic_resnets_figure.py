"""The figure that the reader moves on the page about hyperbolic networks, in headless Chromium, without the site."""

import math
import random
import re

import pytest
import torch

from repgeom.chapters import hyperbolic_resnets as chapter
from repgeom.manifolds import poincare

START = {
    "c": 1.0,
    "edge": 1.5,
    "depth": 5,
    "root": [0.3, 0.12],
    "places": [[0.9, 0.8], [-0.9, 0.9], [-1.2, -0.5], [0.1, -1.3], [1.5, -0.6]],
}


@pytest.fixture
def figure(show_figure):
    return show_figure("poincare", "interactive_poincare.js", START)


def said(figure) -> str:
    return figure.locator(".numbers").inner_text()


def root(figure) -> tuple[float, float]:
    handle = figure.locator("circle.handle")
    return float(handle.get_attribute("cx")), float(handle.get_attribute("cy"))


def distances(figure) -> list[float]:
    return [float(row.inner_text().split()[1]) for row in figure.locator("tbody tr").all()]


def vector(v) -> torch.Tensor:
    return torch.tensor(v, dtype=torch.float64)


def test_script_agrees_with_the_library(figure) -> None:
    draw, page = random.Random(0), figure.page
    for c in (0.0, 1e-12, 1e-4, 0.3, 1.0):
        for _ in range(10):
            u, v = ([draw.gauss(0, 0.8), draw.gauss(0, 0.8)] for _ in range(2))
            x, y = (page.evaluate("([v, c]) => poincareExp(v, c)", [w, c]) for w in (u, v))
            X, Y = (poincare.expmap0(vector(w), c) for w in (u, v))
            assert x == pytest.approx(X.tolist(), rel=1e-9) and y == pytest.approx(Y.tolist(), rel=1e-9)
            args = [x, y, c]
            for code, expected in (
                ("poincareAdd(x, y, c)", poincare.mobius_add(X, Y, c)),
                ("poincareGeodesic(x, y, 0.3, c)", poincare.geodesic(X, Y, 0.3, c)),
                ("poincareLog(x, c)", vector(u)),
            ):
                assert page.evaluate(f"([x, y, c]) => {code}", args) == pytest.approx(expected.tolist(), abs=1e-8), code
            d = page.evaluate("([x, y, c]) => poincareDistance(x, y, c)", args)
            assert d == pytest.approx(float(poincare.distance(X, Y, c)), rel=1e-7)


@pytest.mark.parametrize("c", [0.0, 0.4, 1.0])
def test_script_grows_the_same_tree(figure, c: float) -> None:
    found = figure.page.evaluate("c => poincareTree(4, 1.3, c)", c)
    points, parents = chapter.tree(4, 1.3, c)
    torch.testing.assert_close(vector(found["points"]), points)
    assert found["parents"] == parents
    crowding = figure.page.evaluate("([tree, c]) => poincareCrowding(tree, c)", [found, c])
    assert crowding == pytest.approx(chapter.crowding(points, parents, c), abs=1e-9)


def test_figure_says_what_the_library_computes(figure) -> None:
    here = poincare.expmap0(vector(START["root"]))
    wanted = [float(poincare.distance(here, poincare.expmap0(vector(v)))) for v in START["places"]]
    assert distances(figure) == pytest.approx(wanted, abs=6e-4)
    numbers = [float(x) for x in re.findall(r"\d+\.?\d*", said(figure).replace("ln 3", ""))]
    closest = chapter.crowding(*chapter.tree(5, 1.5, 1.0), 1.0)
    assert numbers == pytest.approx([1, 1.5, 94, closest, math.log(3)], abs=6e-4)


def test_the_root_moves_by_key_and_pointer_and_the_tree_keeps_its_shape(figure) -> None:
    svg, words, places = figure.locator("svg[tabindex]"), said(figure), [root(figure)]
    shape = lambda: figure.locator(".poincare-edge").first.get_attribute("points")  # noqa: E731
    shapes = [shape()]
    for key in ("ArrowLeft", "ArrowUp"):
        svg.press(key)
        places.append(root(figure))
        shapes.append(shape())
    assert places[1][0] < places[0][0] and places[1][1] == pytest.approx(places[0][1], abs=3)
    assert places[2][1] < places[1][1]
    assert len(set(shapes)) == 3 and said(figure) == words, "moving is an isometry"
    before, box, mouse = distances(figure), svg.bounding_box(), figure.page.mouse
    mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    mouse.down()
    mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.6 * box["height"], steps=3)
    mouse.up()
    assert root(figure) == pytest.approx((0.7 * 340, 0.6 * 340), abs=3) and distances(figure) != before
    mouse.move(box["x"] + 0.02 * box["width"], box["y"] + 0.02 * box["height"])
    mouse.down()
    mouse.up()
    assert math.dist(root(figure), (170, 170)) < 160, "the root stays inside"
    for _ in range(60):
        svg.press("ArrowRight")
    assert math.dist(root(figure), (170, 170)) < 160


def test_the_ball_becomes_the_plane(figure) -> None:
    curvature, edge = figure.get_by_role("slider", name="Curvature"), figure.get_by_role("slider", name="edge")
    curvature.press("Home")
    assert "c = 0.00" in said(figure) and "Two nodes lie on one another" in said(figure)
    assert figure.locator(".poincare-rim").count() == 0
    on_paper = [[float(x) for x in row.inner_text().split()[1:]] for row in figure.locator("tbody tr").all()]
    assert all(d == pytest.approx(2 * e, abs=2e-3) for d, e in on_paper)
    curvature.press("ArrowRight")
    assert "c = 0.02" in said(figure) and figure.locator(".poincare-rim").count() == 1
    curvature.press("End")
    before = said(figure)
    edge.press("ArrowLeft")
    assert said(figure) != before and "edge 1.45" in said(figure)
    assert curvature.get_attribute("aria-valuetext") == "1.00"


def test_it_fits_on_a_phone_and_is_described(figure) -> None:
    assert figure.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    for drawing in figure.locator("svg").all():
        assert len(drawing.get_attribute("aria-label")) > 20
