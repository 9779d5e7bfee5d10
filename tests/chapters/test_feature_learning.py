"""The experiments of the page on width and learning rates, at small size, and the figure that the reader moves."""

import copy
import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from repgeom.chapters import feature_learning as chapter
from repgeom.theory import abc, mup_limits

SMOKE = chapter.SETTINGS["smoke"]


@pytest.fixture(scope="module")
def digits():
    return chapter.digits()


# --------------------------------------------------------------------------------------------------------- many at once


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["sp", "ntp", "mup"])
@pytest.mark.parametrize("zero_readout", [True, False])
def test_a_stack_is_its_members_under_parametrise(name: str, optimizer: str, zero_readout: bool, digits) -> None:
    """Second writing: ordinary modules, whose start the scheme rescales, one seed at a time."""
    x, y = digits
    rules, seeds = abc.scheme(name, optimizer), (3, 8)
    stack = chapter.Stack(rules, (64, 24, 24, 10), 8, seeds, zero_readout=zero_readout)
    rows = chapter.batches(len(x), 9, 16, seeds)
    ours = chapter.final_losses(stack, stack.groups(0.05), x, y, rows, optimizer)
    for k, seed in enumerate(seeds):
        draw = chapter.generator(seed)
        layers = [nn.Linear(p, q, bias=False) for p, q in ((64, 24), (24, 24), (24, 10))]
        for layer, gain in zip(layers, (2, 2, 1), strict=True):
            fan_out, fan_in = layer.weight.shape
            drawn = torch.randn(fan_in, fan_out, generator=draw) * (gain / fan_in) ** 0.5
            layer.weight.data = drawn.T.contiguous()
        model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        base = nn.Sequential(
            nn.Linear(64, 8, bias=False),
            nn.ReLU(),
            nn.Linear(8, 8, bias=False),
            nn.ReLU(),
            nn.Linear(8, 10, bias=False),
        )
        groups = abc.parametrise(model, base, rules, 0.05, zero_readout=zero_readout)
        step = torch.optim.SGD(groups, momentum=0.9) if optimizer == "sgd" else torch.optim.Adam(groups)
        history = []
        for now in rows[:, k]:
            loss = nn.functional.cross_entropy(model(x[now]), y[now])
            history.append(loss.item())
            step.zero_grad()
            loss.backward()
            step.step()
        assert float(ours[k]) == pytest.approx(sum(history[-3:]) / 3, rel=2e-3)
        for ours_W, layer in zip(stack.weights, layers, strict=True):
            assert torch.allclose(ours_W[k].T, layer.weight, atol=2e-3)


def test_batches_do_not_depend_on_company() -> None:
    both, alone = chapter.batches(50, 4, 5, (1, 2)), chapter.batches(50, 4, 5, (2,))
    assert both.shape == (4, 2, 5) and torch.equal(both[:, 1], alone[:, 0])
    assert not torch.equal(both[:, 0], both[:, 1])


def test_lost_runs_are_infinite(digits) -> None:
    x, y = digits
    stack = chapter.Stack(abc.scheme("sp"), (64, 8, 8, 10), 8, (0,))
    rows = chapter.batches(len(x), 9, 16, (0,))
    assert math.isinf(float(chapter.final_losses(stack, stack.groups(1e30), x, y, rows, "sgd")[0]))


def test_readings_of_a_sweep() -> None:
    losses = torch.tensor([[[2.0, 2], [1, 3], [4, 1]], [[1, 1], [3, 2], [math.inf, 5]]])  # (2 widths, 3 rates, 2 seeds)
    found = chapter.Sweep((4, 8), (-5, -4, -3), losses)
    assert found.lowest().tolist() == [[-4, -3], [-5, -5]]
    assert found.gap(1) == [0.5, 0.5] and found.gap(2) == [2.0, 0.5]
    assert found.payload() == [[2, 2, 2.5], [1, 2.5, None]]
    assert float(found.best()[1, 0]) == -5, "two finite points have no parabola"
    assert float(found.best()[0, 0]) == pytest.approx(-4 - 1 / 6)  # logs 1, 0, 2 (base 2): slope 1/2, curvature 3/2


def test_best_rates_are_lowest_points_of_parabolas() -> None:
    rates, centres = tuple(range(-10, -2)), torch.tensor([[-6.3, -5.0], [-8.8, -9.4]])
    x = torch.tensor(rates)[None, :, None]
    losses = (0.3 * (x - centres[:, None]) ** 2 - 1).exp()
    found = chapter.Sweep((4, 8), rates, losses)
    assert torch.allclose(found.best(), centres.double(), atol=1e-4)
    assert found.shift() == pytest.approx([-2.5, -4.4], abs=1e-3)
    falling = chapter.Sweep((4,), rates, (-0.4 * x + 0 * centres[:1, None]).exp())
    assert falling.best().tolist() == [[-3, -3]] or bool((falling.best() <= -2).all())


def test_sweeps_share_the_base_width(digits) -> None:
    x, y = digits
    rates = SMOKE["rates"]["adam"]
    sp, mup = (chapter.sweep(abc.scheme(n, "adam"), x, y, (0, 1), rates, SMOKE["digits"]) for n in ("sp", "mup"))
    assert sp.losses.shape == (2, 4, 2)
    assert torch.equal(sp.losses[0], mup.losses[0]) and not torch.equal(sp.losses[1], mup.losses[1])


def test_mup_transfers_where_sp_does_not(digits) -> None:
    """The page's main effect at a quarter of its size: losses at one small rate, sixteen times the width."""
    x, y = digits
    schedule = {"widths": (16, 256), "steps": 30, "batch": 32}
    sp, mup = (chapter.sweep(abc.scheme(n, "adam"), x, y, (0, 1), (-12, -11), schedule) for n in ("sp", "mup"))
    assert max(mup.gap(2)) < 0.02 < 0.1 < min(sp.gap(2))


@pytest.mark.parametrize("kind", ["conv", "attention"])
def test_other_architectures_learn_and_keep_the_generator(kind: str, digits) -> None:
    x, y = digits
    make = chapter.SmallConv if kind == "conv" else lambda n: chapter.SmallAttention(n, 8)
    state = torch.get_rng_state()
    schedule = {"widths": (8, 16), "steps": 30, "batch": 16, "rates": (-5,)}
    found = chapter.module_sweep(make, "mup", x, y, (0,), schedule)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.losses.shape == (2, 1, 1) and float(found.losses.max()) < 2.25
    rows = abc.plan(make(16), make(8), abc.scheme("mup", "adam"))
    assert {row.role for row in rows if "readout.weight" in row.parameter} == {"output"}
    assert {row.role for row in rows} >= {"input", "hidden", "output"}


def test_scores_of_attention_are_divided_as_said() -> None:
    at_base = [chapter.SmallAttention(8, 8, sharp).scale for sharp in (True, False)]
    assert at_base[0] == at_base[1] == 0.5
    assert chapter.SmallAttention(32, 8).scale == pytest.approx(0.5 / 4)
    assert chapter.SmallAttention(32, 8, True).scale == pytest.approx(0.5 / 2)


def test_attention_looks_at_all_rows() -> None:
    model = chapter.built(lambda n: chapter.SmallAttention(n, 8), 8, 0)
    x = torch.randn(3, 64, generator=chapter.generator(0), requires_grad=True)
    model(x).sum().backward()
    assert bool((x.grad.view(3, 8, 8).abs().sum((0, 2)) > 0).all())


# ---------------------------------------------------------------------------------------------------- exponents, limits


def test_same_network_and_another() -> None:
    x, y = torch.randn(6, 64, generator=chapter.generator(0)), torch.arange(6)
    mup = abc.exponents(abc.scheme("mup"), 2)
    for c in (-1, 0, 1):
        assert chapter.same_function(mup, abc.same_rate(mup, c), 48, x, y, 5, 0) < 1e-12
    assert chapter.same_function(mup, abc.exponents(abc.scheme("ntp"), 2), 48, x, y, 5, 0) > 1e-3


def test_census_of_one_hidden_layer() -> None:
    counted = chapter.census(1)
    parts = [counted[k] for k in ("unstable", "trivial", "kernel", "features")]
    assert sum(parts) == 5**4 and counted["maximal"] == 1
    assert counted["features, outputs start at zero"] == counted["features"]


def test_checks_start_from_unit_lengths(digits) -> None:
    x, y = digits
    found = chapter.check(abc.scheme("mup"), x[:8], y[:8], (8, 16), (0,), 0.1)
    assert {row.module for row in found.rows} == {"h1", "h2", "output"}
    longer = chapter.check(abc.scheme("mup"), x[:8], y[:8], (8, 16), (0,), 0.1, length=3.0)
    pairs = zip(found.rows, longer.rows, strict=True)
    assert all(b.size == pytest.approx(3 * a.size, rel=1e-4) for a, b in pairs if a.step == 1)


def test_linear_errors_shrink_and_slopes_are_fits() -> None:
    errors = chapter.linear_errors((64, 4096), (0, 1, 2))
    assert errors.shape == (2, 3) and bool((errors[1] < errors[0] / 3).all())
    assert chapter.slope((2, 4, 8), torch.tensor([[1.0, 3], [2, 3], [4, 3]])) == pytest.approx([1, 0])


def test_pairs_prefer_their_topic() -> None:
    contexts, targets = chapter.pairs(4000, (0, 1))
    assert contexts.shape == (4000, 2, 1) and targets.shape == (4000, 2, 6)
    same = (contexts[..., 0] % 4 == targets[..., 0] % 4).float().mean()
    assert float(same) == pytest.approx(14 * 8 / (14 * 8 + 45), abs=0.02)
    assert not (contexts[..., 0] == targets[..., 0]).any()
    assert float((contexts[..., 0] % 4 == targets[..., 3] % 4).float().mean()) == pytest.approx(0.25, abs=0.02)


def test_purity_of_known_embeddings() -> None:
    topic = torch.arange(chapter.WORDS) % chapter.TOPICS
    pure = torch.eye(chapter.TOPICS)[topic] + 0.01 * torch.randn(chapter.WORDS, 4, generator=chapter.generator(0))
    noise = torch.randn(20, chapter.WORDS, 50, generator=chapter.generator(1))
    assert float(chapter.purity(pure[None])[0]) == 1
    assert float(chapter.purity(noise).mean()) == pytest.approx(14 / 59, abs=0.05)


def test_word_vectors_have_the_shapes_of_the_page() -> None:
    found = chapter.word_vectors(**SMOKE["words"], seeds=(0, 1, 2))
    assert found.deviation.shape == found.kernel_move.shape == found.purity.shape == (2, 3)
    assert bool((found.kernel_move[1] < found.kernel_move[0]).all())
    assert set(found.embeddings) == {"limit", "muP", "NTP"}
    coordinates = chapter.plane(found.embeddings["muP"])
    assert coordinates.shape == (chapter.WORDS, 2)
    assert float(coordinates[:, 0].norm()) >= float(coordinates[:, 1].norm())


def test_word_vectors_are_the_library(monkeypatch) -> None:
    calls = []
    original = mup_limits.cbow
    monkeypatch.setattr(mup_limits, "cbow", lambda *a, **k: calls.append(k.get("multiplier", 1.0)) or original(*a, **k))
    chapter.word_vectors((16,), 3, (0,))
    assert calls == [1.0, 1.0, 0.25]


def test_real_images_or_none(monkeypatch) -> None:
    def unavailable(name, **options):
        raise chapter.data.DataUnavailable(f"no {name}")

    monkeypatch.setattr(chapter.data, "load", unavailable)
    assert chapter.load_images("MNIST") is None and chapter.load_images("CIFAR-10") is None


def test_full_scale_runs_at_toy_size(monkeypatch) -> None:
    class Stub:
        train_images = torch.randint(256, (90, 10, 10, 3), generator=chapter.generator(0), dtype=torch.uint8).numpy()
        train_labels = (torch.arange(90) % 10).numpy()

    monkeypatch.setattr(chapter.data, "load", lambda name, **options: Stub)
    table = chapter.large_transfer(SMOKE["full"], torch.device("cpu"), (0, 1))
    assert [(row["scheme"], row["width"]) for row in table["transfer"]] == [
        ("sp", 4), ("sp", 8), ("mup", 4), ("mup", 8)
    ]  # fmt: skip
    assert all(len(row["losses"]) == 2 for row in table["transfer"]) and table["rates"] == [-8, -6]
    assert {row["module"] for row in table["drift"]} == {"h1", "h2", "output"}


def test_every_scale_has_every_schedule() -> None:
    assert all(set(s) == set(SMOKE) for s in chapter.SETTINGS.values())
    for schedule in chapter.SETTINGS.values():
        assert all(schedule["digits"]["widths"][0] <= w for w in schedule["digits"]["widths"])


# --------------------------------------------------------------------------------------------------- the moving figure

SP = [[2.0, 1.5, 0.5, 0.9], [1.8, 0.4, 0.6, 2.0], [0.2, 0.3, 0.8, None]]
MUP = [[2.0, 1.5, 0.5, 0.9], [2.0, 1.5, 0.4, 0.9], [2.0, 1.4, 0.3, 0.8]]
START = {
    "widths": [32, 64, 128],
    "rates": {"adam": [-8, -7, -6, -5], "sgd": [-4, -3, -2, -1]},
    "losses": {"adam": {"sp": SP, "mup": MUP}, "sgd": {"sp": SP, "mup": [[*row[:2], None, None] for row in MUP]}},
}


@pytest.fixture
def figure(show_figure):
    return show_figure("transfer", "interactive_transfer.js", START)


def said(figure) -> str:
    return figure.locator(".numbers").inner_text()


def test_script_agrees_with_the_library(figure) -> None:
    draw = chapter.generator(0)
    for _ in range(50):
        losses = torch.rand(4, 6, 1, generator=draw)
        losses[torch.rand(4, 6, 1, generator=draw) < 0.2] = math.inf
        losses[:, 2] = losses[:, 2].clamp(max=1)  # every width trains somewhere
        found = chapter.Sweep((4, 8, 16, 32), (-9, -8, -7, -6, -5, -4), losses)
        curves = found.payload()
        readings = figure.page.evaluate(
            "([rates, curves]) => curves.map((_, k) => transferReading(rates, curves, k))", [list(found.rates), curves]
        )
        assert [r["best"] for r in readings] == found.lowest()[:, 0].tolist()
        assert readings[-1]["shift"] == float(found.lowest()[-1, 0] - found.lowest()[0, 0])
        narrow = int(losses[0, :, 0].argmin())
        for row, reading in zip(losses[..., 0], readings, strict=True):
            assert reading["loss"] == pytest.approx(float(row.min()), abs=1e-4)
            if math.isinf(row[narrow]):
                assert reading["cost"] is None
            else:
                assert reading["cost"] == pytest.approx(float(row[narrow] / row.min()), rel=0.05)


def test_figure_follows_the_keyboard(figure) -> None:
    assert "Adam, standard, n = 128" in said(figure) and "2 octaves to the left" in said(figure)
    assert "4.00 times" in said(figure)
    width = figure.get_by_role("slider", name="Width")
    width.press("ArrowLeft")
    assert "n = 64" in said(figure) and "1 octave to the left" in said(figure) and "1.50 times" in said(figure)
    width.press("Home")
    assert "where it is for the narrowest" in said(figure) and "1.00 times" in said(figure)
    width.press("End")
    figure.get_by_role("combobox", name="Scaling rule").select_option("mup")
    assert "maximal update, n = 128" in said(figure) and "where it is" in said(figure)
    figure.get_by_role("combobox", name="Optimiser").select_option("sgd")
    assert "SGD, maximal update" in said(figure) and "2⁻³" in said(figure)
    assert figure.get_by_role("slider", name="Width").get_attribute("aria-valuetext") == "128"


def test_figure_draws_every_width_and_one_in_front(figure) -> None:
    assert figure.locator(".transfer-faint").count() == 3 and figure.locator(".transfer-now").count() == 1
    points = lambda: figure.locator(".transfer-now").get_attribute("points")  # noqa: E731
    dot, cursor = figure.locator(".transfer-dot"), figure.locator(".cursor")
    seen = [points()]
    assert len(re.findall(r",", seen[0])) == 3, "a lost run is left out"
    assert float(dot.get_attribute("cx")) < float(cursor.get_attribute("x1"))
    figure.get_by_role("combobox", name="Scaling rule").select_option("mup")
    assert points() != seen[0] and len(re.findall(r",", points())) == 4
    assert float(dot.get_attribute("cx")) == pytest.approx(float(cursor.get_attribute("x1")))


def test_it_fits_on_a_phone_and_is_described(figure) -> None:
    assert figure.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    for drawing in figure.locator("svg").all():
        assert len(drawing.get_attribute("aria-label")) > 20


def test_plans_leave_the_model_alone() -> None:
    model = chapter.built(chapter.mlp, 8, 0)
    before = copy.deepcopy(model.state_dict())
    abc.plan(model, chapter.mlp(4), abc.scheme("mup"))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_tasks_take_four_drawings_of_five_characters_each() -> None:
    x = torch.arange(9 * 20).float().view(9, 20, 1)
    support, query = chapter.tasks(x, 40, torch.Generator().manual_seed(0))
    assert support.shape == (40, 5, 1) and query.shape == (40, 15, 1)
    both = torch.cat([support, query.unflatten(1, (5, 3)).flatten(2)[..., None].flatten(2)], 2)
    characters = both // 20
    assert bool((characters == characters[..., :1]).all())
    assert all(len(set(row)) == 5 for row in characters[..., 0].tolist())
    assert all(len(set(row)) == 20 for row in both.flatten(1).tolist())


def test_few_shots_learn_features_and_wide_networks_meet_the_limit() -> None:
    draw = torch.Generator().manual_seed(1)
    centres = torch.randn(30, 1, 6, generator=draw)  # characters differ in six of twelve coordinates, drawings in all
    x = torch.cat([centres.expand(-1, 20, -1), torch.zeros(30, 20, 6)], 2) + torch.randn(30, 20, 12, generator=draw)
    x = torch.nn.functional.normalize(x, dim=2)
    schedule = {"widths": (2, 256), "steps": 150, "tasks": 8, "tests": 150, "inner": 3, "lr": 4.0, "meta": 1.0}
    rows = chapter.few_shot_table(x, torch.arange(30) // 5, schedule, [0, 1])
    found = {row["width"]: sum(row["accuracy"]) / 2 for row in rows}
    assert list(found) == ["2", "256", "limit", "limit, frozen"]
    assert abs(found["256"] - found["limit"]) < 0.04 and found["limit"] > found["2"] + 0.05
    assert 0.25 < found["limit, frozen"] < found["limit"] - 0.02


def test_omniglot_in_64_numbers_of_length_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stub:
        images = np.random.default_rng(0).integers(0, 2, (80, 105, 105)).astype(np.uint8)
        labels = np.tile(np.arange(4), 20)
        alphabets = labels // 2

    monkeypatch.setattr(chapter.data, "load", lambda name, **options: Stub)
    x, alphabets = chapter.omniglot()
    assert x.shape == (4, 20, 64) and alphabets.tolist() == [0, 0, 1, 1]
    torch.testing.assert_close(x.norm(dim=2), torch.ones(4, 20))
