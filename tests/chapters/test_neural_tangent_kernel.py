"""The experiments of the page on the tangent kernel, at toy size, and its moving figure in headless Chromium."""

import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from repgeom.chapters import neural_tangent_kernel as chapter
from repgeom.theory import kernels as theory
from repgeom.theory.empirical_ntk import empirical_ntk

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=F64)


def fake_images(n: int = 80, side: int = 8, seed: int = 0) -> chapter.Images:
    """Ten noisy patterns in [0, 1], as rows."""
    y = torch.arange(n) % 10
    x = (torch.rand(10, side * side, generator=generator(1), dtype=F64)[y] + gaussian(n, side * side).abs() / 9) / 2
    return chapter.Images(x.clamp(0, 1), y, "made up")


# ----------------------------------------------------------------------------------------------------------- networks


def test_networks_start_where_the_limit_says() -> None:
    x = chapter.circle(torch.tensor([0.0, 1.0], dtype=F64))
    nets = chapter.Networks((2, 400, 400, 1), range(300), **chapter.ERF)
    f = nets(x)[..., 0].double()
    told = theory.nngp(x, depth=3, **chapter.ERF)
    assert float(((f.T @ f / 300 - told) / told.diagonal().mean()).abs().max()) < 4.5 * math.sqrt(2 / 300)


def test_kernels_of_networks() -> None:
    nets = chapter.Networks((3, 10, 2), [0, 1], dtype=F64)
    x, z = gaussian(4, 3), gaussian(2, 3, seed=1)
    found = nets.ntk(x, z)
    assert found.shape == (2, 4, 2)
    full = empirical_ntk(nets.member(1), x, z, structured=False)
    torch.testing.assert_close(found[1], full.diagonal(dim1=2, dim2=3).mean(2))


def test_slopes_and_points() -> None:
    values = torch.tensor([[8.0, 5.0], [4.0, 5.0], [2.0, 5.0]])
    torch.testing.assert_close(chapter.log_slope((10, 20, 40), values), torch.tensor([-1.0, 0.0], dtype=F64))
    angles = chapter.even_angles(8)
    assert float(angles[0]) == -math.pi and 0 in angles.tolist()
    torch.testing.assert_close(chapter.circle(angles).norm(dim=1), torch.ones(8, dtype=F64))
    assert chapter.starts([0, 2], 2) == [0, 1, 2000, 2001]


# -------------------------------------------------------------------------------------------------------- experiments


def test_concentration_falls_with_width() -> None:
    found = chapter.concentration((16, 256), [0, 1, 2], 2, points=8)
    assert found["error"].shape == (2, 3) and found["mean"].shape == (2,)
    assert float(found["error"][1].mean()) < 0.5 * float(found["error"][0].mean())
    one = chapter.Networks((2, 16, 16, 16, 1), [1000], **chapter.JACOT).ntk(chapter.circle(chapter.even_angles(8)))[0]
    limit = theory.ntk(chapter.circle(chapter.even_angles(8)), depth=4, bias_std=0.1)
    alone = chapter.concentration((16,), [1], 1, points=8)["error"]
    assert float(alone) == pytest.approx(float((one - limit).norm() / limit.norm()), rel=1e-5)


def test_drift_grows_and_shrinks_with_width() -> None:
    found = chapter.drift((16, 128), [0, 1], (3, 1), 60)
    assert found.before.shape == found.after.shape == (2, 2, 48)
    assert found.inflation.shape == found.change.shape == found.loss.shape == (2, 2)
    assert float(found.inflation[1].mean()) < float(found.inflation[0].mean())
    assert found.least <= float(found.inflation.min())
    still = chapter.drift((16,), [0], (1,), 0)
    assert torch.equal(still.before, still.after) and float(still.change) == 0
    net = chapter.Networks((2, 16, 16, 16, 1), [0], **chapter.JACOT)
    around = chapter.circle(still.angles).float()
    torch.testing.assert_close(still.before[0, 0].float(), net.ntk(torch.tensor([[1.0, 0.0]]), around)[0, 0])


def test_golden_dynamics_and_the_linear_model() -> None:
    for name, told in chapter.golden_dynamics().items():
        assert np.allclose(told.numpy(), chapter.GOLDEN_DYNAMICS[name], atol=1e-7, rtol=0)
    assert chapter.simulated_linear_model(50, 0.4, 3) < 1e-12


def test_networks_against_their_twin() -> None:
    x = chapter.circle(chapter.even_angles(6, 0.1))
    y, new = x.prod(1)[:, None], chapter.circle(chapter.even_angles(5))
    found = chapter.against_linear(x, y, new, (8, 128), [0, 1], (4, 2), 30, 0.3)
    assert found.gap.shape == found.change.shape == found.size.shape == (2, 2)
    assert float(found.gap[1].mean()) < 0.5 * float(found.gap[0].mean())
    assert float(found.gap[1].mean()) < 0.2 * float(found.size[1].mean())
    none = chapter.against_linear(x, y, new, (8,), [0], (2,), 0, 0.3)
    assert float(none.gap) < 1e-6 and float(none.change) == 0


def test_band_is_the_limit_at_that_step() -> None:
    found = chapter.band(30, 20, 2.0, [0, 1], 3)
    assert found.outputs.shape == (2, 3, 60) and found.points.shape == (3, 60)
    assert bool((found.points[0] < found.points[1]).all() and (found.points[1] < found.points[2]).all())
    made = chapter.Band(torch.tensor([[[0.0, 2.0]], [[1.0, 1.0]]]), torch.tensor([[0.5, 0.5], [1.0, 1.0], [1.5, 1.5]]))
    assert made.inside.tolist() == [0.0, 1.0]
    prior = chapter.band(30, 0, 2.0, [0], 1).points
    q = float(theory.nngp(chapter.circle(torch.zeros(1, dtype=F64)), depth=4, bias_std=0.1))
    torch.testing.assert_close(prior[2], torch.full((60,), 1.2815515655446004 * math.sqrt(q), dtype=F64))


def test_components_start_on_the_line() -> None:
    x = fake_images(24).x
    values, V = chapter.kernel_pca(x, 0.1)
    torch.testing.assert_close(theory.ntk(x, depth=4, bias_std=0.1) / 24 @ V[:, 1], values[1] * V[:, 1])
    assert bool((values[:-1] >= values[1:]).all())
    found = chapter.components(x, (8, 256), [0, 1], 40, 5.0)
    assert found.along.shape == found.rest.shape == (2, 2, len(found.time)) and len(found.time) == len(found.law)
    torch.testing.assert_close(found.along[..., 0], torch.full((2, 2), 0.5, dtype=F64), rtol=0, atol=1e-5)
    assert float(found.rest[..., 0].max()) < 1e-5
    off = (found.along - found.law).abs().amax((1, 2))
    assert float(off[1]) < 0.6 * float(off[0])
    torch.testing.assert_close(found.law[-1], 0.5 * torch.exp(-values[1] * 200.0))


def test_images_fall_back_on_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(name: str, **options: object) -> None:
        raise chapter.data.DataUnavailable(f"no {name}")

    chapter.images.cache_clear()
    monkeypatch.setattr(chapter.data, "load", unavailable)
    assert chapter.images("MNIST") is None and chapter.images("CIFAR-10") is None
    found = chapter.images("digits")
    chapter.images.cache_clear()
    assert found.x.shape == (1797, 64) and float(found.x.max()) == 1


def test_images_are_scaled_and_picked() -> None:
    found = fake_images()
    x = chapter.unit_variance(found.x)
    assert float(x.mean(0).abs().max()) < 1e-12 and float(x.square().mean()) == pytest.approx(1)
    rows, labels = chapter.pick(found, 20, 3)
    where = [int((found.x == row).all(1).nonzero()[0, 0]) for row in rows]
    assert labels.tolist() == found.y[where].tolist() and where != sorted(where)
    colour = chapter.Images(gaussian(2, 3072), torch.zeros(2), "")
    small = chapter.coarse(colour)
    assert small.x.shape == (2, 768)
    corner = colour.x[0].reshape(3, 32, 32)[1, 4:6, 8:10].mean()
    assert float(small.x[0].reshape(3, 16, 16)[1, 2, 4]) == pytest.approx(float(corner))


def test_image_gap_and_regression_run_on_made_up_images() -> None:
    gap, change = chapter.image_gap(fake_images(), (8, 64), 12, 5, [0, 1])
    assert gap.shape == change.shape == (2, 2) and bool((gap > 0).all())
    scores = chapter.regression(fake_images(200), 100, 60, 0)
    assert set(scores) == {"NTK", "NNGP", "linear"} and min(scores.values()) > 0.8


def test_image_gap_teaches_large_labels_against_small(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def record(x, y, new, widths, seeds, each, steps, lr):
        seen.append((x, y, new, lr))
        return chapter.Linearised(*(torch.ones(2, 1) for _ in range(3)))

    monkeypatch.setattr(chapter, "against_linear", record)
    found = fake_images()
    chapter.image_gap(found, (8, 64), 12, 5, [3])
    (x, y, new, lr), (rows, labels) = seen[0], chapter.pick(found, 24, 3)
    assert y[:, 0].tolist() == [1.0 if label >= 5 else -1.0 for label in labels[:12]]
    torch.testing.assert_close(torch.cat([x, new]), chapter.unit_variance(rows))
    assert lr == pytest.approx(theory.largest_rate(theory.ntk(x, depth=3, **chapter.ERF)) / 2)


def test_scikit_learn_agrees() -> None:
    for name, value in chapter.against_sklearn(40, 10).items():
        assert value < 1e-9, name


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch.func.jvp itself
def test_routes_agree_and_cost_what_the_formulas_say() -> None:
    shape, N = (20, 128, 128, 4), 16
    net = chapter.Networks(shape, [0], dtype=F64).member(0)
    x1, x2 = gaussian(N, 20), gaussian(N, 20, seed=1)
    found = [route(net, x1, x2) for route in chapter.ROUTES.values()]
    for K in found:
        torch.testing.assert_close(K, found[0])
    formula = chapter.counted(shape, N)
    cost = {route: chapter.flops(route, net, x1, x2) for route in chapter.ROUTES}
    assert cost["Jacobians"] == pytest.approx(formula["Jacobians"], rel=0.02)
    assert cost["structured"] == pytest.approx(formula["structured"], rel=0.1)  # and a pass of one sample or two
    assert cost["structured"] < cost["vector products"] < cost["Jacobians"]


def test_what_breaks() -> None:
    stays, leaves = chapter.diverges(0.9, 0, n=64), chapter.diverges(1.3, 0, n=64)
    assert stays[1] < 1 and leaves[1] > 1e3
    assert chapter.standard_kernel(256, 0) > 2.5 * chapter.standard_kernel(64, 0)
    assert float(chapter.depth_error(8, 32, [0, 1, 2], 4).mean()) > float(
        chapter.depth_error(2, 32, [0, 1, 2], 4).mean()
    )


def test_full_scale_at_toy_size_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cifar:
        train_images = np.random.default_rng(0).integers(0, 255, (160, 3, 32, 32)).astype(np.uint8)
        train_labels = np.arange(160) % 10
        provenance = "made up"

    monkeypatch.setattr(chapter.data, "load", lambda name, **options: Cifar)
    schedule = chapter.SETTINGS["smoke"]["wide"]
    found = chapter.wide_table(schedule, [0, 1, 2], torch.device("cpu"), tmp_path)
    assert [(r["width"], r["seed"]) for r in found["drift"]] == [(16, 0), (16, 1), (32, 0), (32, 1)]
    assert found["CIFAR-10, images"] == 60 and 0 <= found["CIFAR-10, NTK"] <= 1
    monkeypatch.setattr(chapter, "drift", None)  # finished widths are read back
    assert chapter.wide_table(schedule, [0, 1, 2], torch.device("cpu"), tmp_path) == found


# --------------------------------------------------------------------------------------------------- the moving figure

ANGLES = chapter.even_angles(24).tolist()
LINE = theory.ntk(
    chapter.circle(torch.zeros(1, dtype=F64)), chapter.circle(chapter.even_angles(24)), depth=4, bias_std=0.1
)[0]


def curves(spread: float, rise: float, seed: int) -> list[list[float]]:
    return (LINE * (1 + rise) + spread * gaussian(3, 24, seed=seed)).tolist()


START = {
    "depth": 4, "bias": 0.1, "angles": ANGLES, "widths": [25, 100, 400], "width": 1,
    "before": [curves(s, 0.0, k) for k, s in enumerate((0.1, 0.05, 0.02))],
    "after": [curves(s, 4 * s, k + 5) for k, s in enumerate((0.1, 0.05, 0.02))],
}  # fmt: skip


@pytest.fixture
def figure(show_figure):
    return show_figure("ntk-circle", "interactive_ntk.js", START)


def said(figure) -> str:
    return figure.locator(".numbers").inner_text()


def test_script_knows_the_recursion(figure) -> None:
    golden = [0.2825, 0.207364321198, 0.092702110174, 0.064134367488, 0.064353770145]
    for degrees, value in zip((0, 30, 90, 150, 180), golden, strict=True):
        found = figure.page.evaluate("([a, L, b]) => ntkCircle(a, L, b)", [math.radians(degrees), 4, 0.1])
        assert found[1] == pytest.approx(value, abs=1e-11)
    draw = random.Random(0)
    for _ in range(40):
        angle, depth, bias = draw.uniform(-math.pi, math.pi), draw.randint(1, 8), draw.uniform(0, 1)
        found = figure.page.evaluate("([a, L, b]) => ntkCircle(a, L, b)", [angle, depth, bias])
        points = chapter.circle(torch.tensor([0.0, angle], dtype=F64))
        both = theory.kernels(points, depth=depth, bias_std=bias)
        assert found == pytest.approx([float(both.nngp[0, 1]), float(both.ntk[0, 1])], rel=1e-9, abs=1e-12)


def test_figure_says_what_the_numbers_are(figure) -> None:
    for place, (state, name) in enumerate([("start", "before"), ("trained", "after")]):
        figure.get_by_role("combobox").select_option(state)
        for w, width in enumerate(START["widths"]):
            figure.get_by_role("slider", name="Width").fill(str(w))
            found = torch.tensor(START[name][w], dtype=F64)
            error = 100 * (found - LINE).square().mean().sqrt() / LINE.square().mean().sqrt()
            peak = 100 * (found.mean(0)[12] / LINE[12] - 1)
            words = said(figure)
            assert f"Width {width}, {name} training: the 3 curves" in words, place
            told = [float(v) for v in re.findall(r"-?\d+\.\d+", words)]
            at = found[:, 12]
            expected = [float(error), float(peak), float(LINE[12]), float(at.min()), float(at.max())]
            assert told[:2] == pytest.approx(expected[:2], abs=0.06)
            assert told[2:] == pytest.approx(expected[2:], abs=6e-5)


def test_figure_follows_keyboard_and_pointer(figure) -> None:
    for slider in figure.get_by_role("slider").all():
        before = said(figure)
        slider.press("ArrowRight")
        assert said(figure) != before
    figure.get_by_role("slider", name="Width").press("End")
    assert "Width 400" in said(figure)
    assert figure.get_by_role("slider", name="Width").get_attribute("aria-valuetext") == "400"
    chart = figure.locator("svg.draggable")
    chart.scroll_into_view_if_needed()
    box, mouse = chart.bounding_box(), figure.page.mouse
    mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    mouse.down()
    mouse.move(box["x"] + box["width"] * (40 + 392 / 4) / 440, box["y"] + box["height"] * 0.5, steps=4)
    mouse.up()
    assert "At -90°" in said(figure)
    assert chart.locator("polyline").count() == 5 and chart.locator("circle").count() == 3


def test_it_fits_on_a_phone_and_is_described(figure) -> None:
    assert figure.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    for drawing in figure.locator("svg").all():
        assert len(drawing.get_attribute("aria-label")) > 20
