"""The figure that the reader moves on the page about neural collapse, in headless Chromium, without the site."""

import itertools
import random
import re

import pytest

from repgeom.theory import ufm

START = {"counts": [100, 60, 30], "decay": 8e-3, "depth": 2, "depths": [1, 2, 3, 6], "cases": []}
# n = (100, 60, 30), every decay 8e-3: loss, squared lengths of rows and of means, logits.
GOLDEN = {
    1: (0.1675455381, (8.48, 6.22596669, 3.95722558),
        (0.0848, 0.10376611, 0.13190752), (0.848, 0.80376884, 0.72248724)),
    2: (0.1349383442, (19.49178201, 13.26174913, 7.56314461),
        (0.0441495, 0.06069447, 0.09167057), (0.92765963, 0.89717049, 0.83265707)),
    3: (0.1299492525, (29.31347082, 19.23377736, 10.4576668),
        (0.03083347, 0.04465502, 0.07289376), (0.95070292, 0.92676032, 0.87309715)),
    6: (0.1486915194, (49.16034259, 30.77802111, 15.75990072),
        (0.01913973, 0.02950454, 0.0527802), (0.9700081, 0.95293829, 0.91203653)),
}  # fmt: skip


@pytest.fixture
def figure(show_figure):
    return show_figure("collapse", "interactive_collapse.js", START)


def solution(figure, counts: list[float], decay: float, depth: int) -> dict:
    return figure.page.evaluate("([n, lam, M]) => collapseSolution(n, lam, M)", [counts, decay, depth])


def said(figure) -> str:
    return figure.locator(".numbers").inner_text()


@pytest.mark.parametrize("depth", GOLDEN)
def test_script_knows_the_solution(figure, depth: int) -> None:
    loss, w2, h2, logits = GOLDEN[depth]
    found = solution(figure, [100, 60, 30], 8e-3, depth)
    assert found["loss"] == pytest.approx(loss, abs=1e-9)
    for name, expected in (("w2", w2), ("h2", h2), ("logits", logits)):
        assert found[name] == pytest.approx(list(expected), rel=2e-7), name


def test_script_agrees_with_the_library(figure) -> None:
    draw, dead = random.Random(0), 0
    for depth in (1, 2, 3, 6):
        for _ in range(40):
            counts, decay = [draw.randint(2, 200) for _ in range(3)], 10 ** draw.uniform(-4, -1)
            found, expected = solution(figure, counts, decay, depth), ufm.solve(counts, [decay] * depth, decay)
            assert found["logits"] == pytest.approx(expected.logits.tolist(), rel=1e-9, abs=1e-12)
            assert found["w2"] == pytest.approx(expected.classifier.tolist(), rel=1e-9, abs=1e-12)
            assert found["h2"] == pytest.approx((expected.features / expected.counts).tolist(), rel=1e-9, abs=1e-12)
            assert found["loss"] == pytest.approx(expected.loss, rel=1e-12)
            assert found["critical"] == pytest.approx(
                ufm.critical_count(sum(counts), [decay] * depth, decay), rel=1e-12
            )
            dead += found["logits"].count(0)
    assert 100 < dead < 400, "the draw holds living classes and dead ones"


@pytest.mark.parametrize(("depth", "logit"), [(1, 0), (2, 1 / 2), (3, 2 / 3), (6, 5 / 6)])
def test_a_class_dies_where_it_is_said_to(figure, depth: int, logit: float) -> None:
    death = figure.page.evaluate("([n, N, M]) => collapseDeath(n, N, M)", [30, 190, depth])
    assert death == pytest.approx(ufm.critical_decay(30, 190, depth), rel=1e-12)
    before, after = (solution(figure, [100, 60, 30], death * factor, depth) for factor in (1 - 1e-6, 1 + 1e-6))
    assert after["logits"][2] == after["w2"][2] == after["h2"][2] == 0
    assert 0 < before["logits"][2] == pytest.approx(logit, abs=1e-5)
    assert before["critical"] < 30 < after["critical"]


def test_figure_says_what_the_script_computes(figure) -> None:
    found = solution(figure, [100, 60, 30], 8e-3, 2)
    numbers = [float(x) for x in re.findall(r"\d+\.\d+", said(figure))]
    assert numbers == pytest.approx([8e-3, found["critical"], *found["logits"], found["loss"]], abs=0.06, rel=1e-3)
    cells = [[float(x) for x in row.inner_text().split()] for row in figure.locator("tbody tr").all()]
    expected = zip((1, 2, 3), (100, 60, 30), found["w2"], found["h2"], found["logits"], strict=True)
    assert [row == pytest.approx(list(wanted), rel=6e-3) for row, wanted in zip(cells, expected, strict=True)] == [
        True
    ] * 3
    assert "No class has died" in said(figure)


def test_figure_follows_the_keyboard(figure) -> None:
    for slider in figure.get_by_role("slider").all():
        before = said(figure)
        slider.press("ArrowRight")
        assert said(figure) != before
    decay = figure.get_by_role("slider", name="Weight decay")
    decay.press("End")
    assert "Classes 1, 2 and 3 have died" in said(figure) and "Logits 0.000, 0.000, 0.000" in said(figure)
    assert figure.locator(".collapse-arrow").count() == 0 and "w₁ = 0" in figure.inner_text()
    decay.fill("-2.1")
    figure.get_by_role("combobox").select_option("6")
    figure.get_by_role("slider", name="Class 3").press("Home")
    assert "M = 6" in said(figure) and "Class 3 has died" in said(figure)
    assert figure.locator(".collapse-arrow").count() == 4


def test_the_view_turns_by_key_and_pointer_and_changes_no_number(figure) -> None:
    drawings = figure.locator("svg[tabindex]")
    arrows = lambda: [line.get_attribute("x2") for line in figure.locator(".collapse-arrow").all()]  # noqa: E731
    words, seen = said(figure), [arrows()]
    drawings.first.press("ArrowLeft")
    seen.append(arrows())
    drawings.first.press("ArrowUp")
    seen.append([line.get_attribute("y2") for line in figure.locator(".collapse-arrow").all()])
    box, mouse = drawings.nth(1).bounding_box(), figure.page.mouse
    mouse.move(box["x"] + 40, box["y"] + 40)
    mouse.down()
    mouse.move(box["x"] + 90, box["y"] + 60, steps=4)
    mouse.up()
    seen.append(arrows())
    assert all(a != b for a, b in itertools.pairwise(seen)) and said(figure) == words
    mouse.move(box["x"] + 20, box["y"] + 30)
    mouse.down()
    assert arrows() == seen[-1], "the hand had let go, and now takes hold elsewhere"
    mouse.up()


def test_the_decay_can_be_dragged(figure) -> None:
    chart = figure.locator("svg.draggable").nth(2)
    chart.scroll_into_view_if_needed()
    box, mouse = chart.bounding_box(), figure.page.mouse
    mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.5)
    mouse.down()
    mouse.move(box["x"] + box["width"] * 0.99, box["y"] + box["height"] * 0.5, steps=4)
    mouse.up()
    assert "λ = 0.100" in said(figure)


def test_it_fits_on_a_phone_and_is_described(figure) -> None:
    assert figure.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    for drawing in figure.locator("svg").all():
        assert len(drawing.get_attribute("aria-label")) > 20
    assert figure.get_by_role("slider", name="Weight decay").get_attribute("aria-valuetext") == "0.00800"
