"""The experiments of the page on relative representations: that they compute what the page says, at smoke size."""

import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from repgeom.chapters import relative_representations as chapter
from repgeom.nn.blocks import StackedMLP
from repgeom.probes.similarity import linear_cka, relative, snr_distance

F64 = torch.float64
SMOKE = chapter.SETTINGS["smoke"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


@pytest.fixture(scope="module")
def digits() -> chapter.Split:
    return chapter.load_digits(300)


# --------------------------------------------------------------------------------------------------------------- data


def test_digits_are_split_once_and_without_overlap() -> None:
    whole = chapter.load_digits()
    assert whole.x.shape == (1198, 64) and whole.test_x.shape == (599, 64)
    assert 0 <= float(whole.x.min()) and float(whole.x.max()) == 1
    rows = {tuple(row) for row in whole.x.tolist()} & {tuple(row) for row in whole.test_x.tolist()}
    assert len(rows) < 5, "only images that occur twice in the data"
    assert torch.equal(chapter.load_digits(300).x, torch.cat([whole.x, whole.test_x])[:200])


def test_mnist_is_halved_or_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stub:
        images = np.repeat(np.arange(50, dtype=np.uint8)[:, None], 784, 1).reshape(50, 28, 28)
        labels = np.arange(50) % 10

    monkeypatch.setattr(chapter.data, "load", lambda name, **options: Stub)
    split, real = chapter.load_mnist(50)
    assert real and split.x.shape == (40, 196) and split.test_y.tolist() == [k % 10 for k in range(40, 50)]
    assert float(split.x[7, 0]) == pytest.approx(7 / 255)

    def unavailable(name: str, **options: object) -> None:
        raise chapter.data.DataUnavailable(f"no {name}")

    monkeypatch.setattr(chapter.data, "load", unavailable)
    split, real = chapter.load_mnist(300)
    assert not real and torch.equal(split.x, chapter.load_digits(300).x)


# ----------------------------------------------------------------------------------------------------- stacks of seeds


def test_batches_of_a_seed_do_not_depend_on_the_others() -> None:
    draw, alone = chapter.draws(100, [3, 4], 16), chapter.draws(100, [4], 16)
    for _ in range(3):
        assert torch.equal(draw()[1], alone()[0])


def test_a_network_does_not_depend_on_its_company(digits: chapter.Split) -> None:
    together, alone = chapter.train(digits, [0, 1], 4), chapter.train(digits, [1], 4)
    torch.testing.assert_close(together.codes(digits.test_x)[1], alone.codes(digits.test_x)[0], rtol=1e-3, atol=1e-5)
    assert not torch.allclose(together.codes(digits.test_x)[0], together.codes(digits.test_x)[1], atol=1e-2)


def test_training_learns(digits: chapter.Split) -> None:
    for anchors in (None, torch.arange(30)):
        nets = chapter.train(digits, [0], 120, anchors)
        z = nets.codes(digits.test_x)
        r = z if anchors is None else chapter.read_relative(z, nets.codes(digits.x[anchors]))
        assert float(chapter.crossed(r, nets.decoder, digits.test_y)) > 0.8


def test_what_a_decoder_is_given() -> None:
    z, a = gaussian(2, 5, 4), gaussian(2, 6, 4, seed=1)
    torch.testing.assert_close(chapter.read_relative(z, a, norm=False), relative(z, a))
    centred = chapter.read_relative(z, a, norm=False, center=True)
    torch.testing.assert_close(centred[1], relative(z[1], a[1], a[1].mean(0)))
    r = chapter.read_relative(z, a)
    torch.testing.assert_close(r.mean(-1), torch.zeros(2, 5, dtype=F64))
    torch.testing.assert_close(r.var(-1, correction=0), torch.ones(2, 5, dtype=F64), rtol=1e-2, atol=0)


def test_crossing_feeds_encoder_i_to_decoder_j() -> None:
    """Decoders that answer with the class of largest input, or of the least: a table that can be read off."""
    decoder = StackedMLP((3, 3), [0, 1])
    with torch.no_grad():
        decoder.weights[0].copy_(torch.stack([torch.eye(3), -torch.eye(3)]))
        decoder.biases[0].zero_()
    z = torch.stack([torch.eye(3), torch.eye(3) + 2 * torch.eye(3).roll(1, 0)])
    y = torch.arange(3)
    table = chapter.crossed(z, decoder, y)
    assert table.shape == (2, 2) and table[0].tolist() == [1, 0] and table[1, 0] == 0
    by_pair = chapter.crossed(lambda i, j: z[i] if j == 0 else -z[i], decoder, y)
    assert by_pair[0].tolist() == [1, 1]
    own, other = chapter.own_and_other(torch.tensor([[1.0, 0.2, 0.4], [0.0, 0.9, 0.0], [0.1, 0.3, 0.8]]))
    assert own == pytest.approx([1.0, 0.9, 0.8]) and other == pytest.approx([0.3, 0.0, 0.2])


def test_translations_find_their_maps() -> None:
    z, a = gaussian(20, 4), gaussian(9, 4, seed=1)
    Q, shift = torch.linalg.qr(gaussian(4, 4, seed=2))[0], gaussian(4, seed=3)
    turned = chapter.by_rotation(torch.stack([z, z @ Q]), torch.stack([a, a @ Q + shift]))
    torch.testing.assert_close(turned(0, 1), z @ Q + shift)
    A = gaussian(4, 4, seed=5)
    mapped = chapter.by_least_squares(torch.stack([z, z @ A]), torch.stack([a, a @ A + shift]))
    torch.testing.assert_close(mapped(0, 1), z @ A + shift)


def test_stitched_reports_every_way(digits: chapter.Split) -> None:
    found = chapter.stitched(digits, [0, 1, 2], 5, count=20)
    assert list(found["accuracy"]) == [
        "as it is",
        "rotated",
        "affine map",
        "relative, afterwards",
        "relative, afterwards, centred",
        "relative, trained",
        "relative, trained, bare",
    ]
    assert all(len(values) == 3 for pair in found["accuracy"].values() for values in pair)
    assert {name: len(v) for name, v in found["ranks"].items()} == dict.fromkeys(found["ranks"], 3)
    z = found["z"]
    cosine = torch.nn.functional.cosine_similarity(z[0], z[2], dim=-1).mean()
    assert found["cosines"]["absolute"][0] == pytest.approx(float(cosine))
    rows = chapter.by_anchors(digits, [0, 1, 2], found, (3, 20), 5)
    assert rows["rotated"][1] == pytest.approx(sum(found["accuracy"]["rotated"][1]) / 3)
    assert all(len(values) == 2 for values in rows.values())


def test_participation_ratio_counts_directions() -> None:
    X = torch.cat([torch.eye(4), -torch.eye(4)]).double()
    assert chapter.rank_of(X + 3) == pytest.approx((4, 1 / 4))
    assert chapter.rank_of(X[:, :1] + 0 * X) == pytest.approx((1, 0))


def test_the_moving_figure_has_two_shapes_on_one_another() -> None:
    z, y = gaussian(60, 6), torch.arange(10).repeat(6)
    z = z + 4 * torch.nn.functional.one_hot(y, 10).double() @ gaussian(10, 6, seed=1)
    Q = torch.linalg.qr(gaussian(6, 6, seed=2))[0]
    points = chapter.seen_together({"z": torch.stack([z, z @ Q + 5])}, y)
    first, second = chapter.turned(points, 0, 1.0, 0.0)
    torch.testing.assert_close(first, second)
    assert float(first.square().sum(1).mean()) == pytest.approx(1)
    _, moved = chapter.turned(points, 90, 2.0, 0.5)
    torch.testing.assert_close(moved[:, 0], -2 * first[:, 1] + 0.5)
    torch.testing.assert_close(moved[:, 1], 2 * first[:, 0])


# ------------------------------------------------------------------------------------------------------------ measures


def test_transformations_are_what_they_are_called() -> None:
    X = gaussian(30, 5)
    changed = chapter.transformed(X, generator())
    torch.testing.assert_close(changed["rotation"] @ changed["rotation"].T, X @ X.T)
    torch.testing.assert_close(changed["permutation"].sort(1).values, X.sort(1).values)
    difference = changed["translation"] - X
    torch.testing.assert_close(difference, difference[:1].expand(30, 5))
    A = torch.linalg.lstsq(X, changed["linear map"]).solution
    assert float(torch.linalg.cond(A)) == pytest.approx(10)


def test_every_measure_sees_and_overlooks_something() -> None:
    seen = chapter.blindness(gaussian(60, 8) + 0.5, generator())
    assert set(seen) == set(chapter.MEASURES) and all(row["permutation"] and row["scale"] for row in seen.values())
    assert [name for name, row in seen.items() if row["linear map"]] == ["mean CCA"]
    assert {name for name, row in seen.items() if not row["translation"]} == {"SNR distances", "relative"}
    assert {name for name, row in seen.items() if not row["rotation"]} == {"SNR distances", "matched neurons"}


def test_layers_are_those_of_the_network(digits: chapter.Split) -> None:
    net = chapter.classifiers(digits, (7, 5), [0, 1], 2)
    found = chapter.layers_of(net, digits.test_x)
    member = net.member(1)
    torch.testing.assert_close(found[0][1], member[:2](digits.test_x).detach())
    torch.testing.assert_close(found[1][1], member[:4](digits.test_x).detach())
    assert len(found) == 2


def test_layer_tables_compare_a_seed_with_the_next(digits: chapter.Split) -> None:
    net = chapter.classifiers(digits, (7, 7), [0, 1, 2], 2)
    tables = chapter.layer_tables(net, digits.test_x)
    h = [layer.double() for layer in chapter.layers_of(net, digits.test_x)]
    assert float(tables["linear CKA"][2, 0, 1]) == pytest.approx(float(linear_cka(h[0][2], h[1][0])), abs=1e-6)
    assert tables["mean CCA"].shape == (3, 2, 2)


def test_identified_counts_the_diagonal() -> None:
    table = torch.tensor([[[0.9, 0.1], [0.8, 0.3]], [[0.2, 0.1], [0.1, 0.2]]])
    assert chapter.identified(table) == [0.5, 1.0]


def test_one_shared_direction_follows_the_formula() -> None:
    found = chapter.one_shared(3.0, 0, n=20_000)
    assert found["linear CKA"] == pytest.approx(81 / (81 + 31), abs=0.01)
    assert found["Procrustes"] == pytest.approx(9 / (9 + 31), abs=0.05)
    assert found["mean CCA"] == pytest.approx(1 / 32, abs=0.05)


def test_shuffling_the_tail_keeps_the_head() -> None:
    X = gaussian(200, 6) * torch.tensor([9.0, 5.0, 3.0, 1.0, 1.0, 1.0], dtype=F64) + 2
    Z = chapter.shuffled_tail(X, 2, generator())
    V = torch.linalg.svd(X - X.mean(0), full_matrices=False)[2].T
    torch.testing.assert_close((Z - X.mean(0)) @ V[:, :2], (X - X.mean(0)) @ V[:, :2])
    assert abs(float(torch.corrcoef(torch.stack([(Z @ V)[:, 2], (X @ V)[:, 2]]))[0, 1])) < 0.2
    torch.testing.assert_close((Z @ V)[:, 2].sort().values, (X @ V)[:, 2].sort().values)
    torch.testing.assert_close(chapter.shuffled_tail(X, 6, generator()), X)


def test_probe_reads_what_is_linear() -> None:
    y = torch.arange(60) % 3
    X = torch.eye(3, dtype=F64)[y] + 0.1 * gaussian(60, 3) + 7
    assert chapter.probe(X[:40], y[:40], X[40:], y[40:]) == 1


# -------------------------------------------------------------------------------------------- activations and subspaces


def test_points_have_their_tasks() -> None:
    x, y = chapter.points_of("unstructured", [0, 1])
    assert x.shape == (2, 16, 64) and y.sum(1).tolist() == [0, 0] and not torch.equal(x[0], x[1])
    torch.testing.assert_close(x.norm(dim=-1), torch.full((2, 16), 8.0))
    x, y = chapter.points_of("XOR", [0])
    assert torch.linalg.matrix_rank(x[0]) == 4 and y.sum() == 0
    opposite = (x[0] @ -x[0].T).argmax(1)
    torch.testing.assert_close(x[0][opposite], -x[0], rtol=0, atol=1e-5)
    assert torch.equal(y[0][opposite], y[0]), "the answer for -x is that for x"
    assert float((x[0].T @ y[0]).norm()) < 1e-4, "no linear readout of the inputs finds it"


def test_hidden_layers_learn_their_points() -> None:
    x, y = chapter.points_of("unstructured", [0, 1])
    for activation, function in (("tanh", torch.tanh), ("ReLU", torch.relu)):
        net = chapter.train_hidden(x, y, activation, [0, 1], 300)
        h = chapter.hidden(net, x, activation)
        member = net.member(1)
        torch.testing.assert_close(h[1], function(member[0](x[1])))
        out = torch.baddbmm(net.biases[1], h, net.weights[1])[..., 0]
        assert bool((out.sign() == y).all())


def test_leaning_measures_both_sides() -> None:
    y = torch.tensor([1.0, 1.0, -1.0, -1.0, 1.0, -1.0])
    labels, inputs = chapter.leaning(torch.stack([y[:, None].repeat(1, 3)]), gaussian(6, 4).float(), y)
    assert labels == pytest.approx([1.0]) and inputs[0] < 1
    x = gaussian(1, 6, 4)
    assert chapter.leaning(2 * x, x, y)[1] == pytest.approx([1.0])


def test_parity_reports_both_activations(digits: chapter.Split) -> None:
    found = chapter.parity(digits, [0, 1], 60)
    assert len(found) == 6 and all(len(v) == 2 for v in found.values())
    assert min(found["ReLU, accuracy"]) > 0.7


@pytest.mark.parametrize("seed", range(3))
def test_ten_block_sums_need_ten_directions(seed: int) -> None:
    assert chapter.block_residual(9, seed) > 0.5
    assert chapter.block_residual(10, seed) < 1e-20


def test_subspaces_start_at_the_ordinary_network_and_stay_inside(
    digits: chapter.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Tensor] = []
    monkeypatch.setattr(
        chapter, "fit_classifiers", lambda parameters, logits, y, seeds, steps: kept.extend([*parameters, logits])
    )
    right, h = chapter.in_subspace(digits, 12, [0, 1], 5, hidden=9)
    plain = StackedMLP((64, 9, 9, 10), [0, 1])
    torch.testing.assert_close(h, chapter.layers_of(plain, digits.test_x)[1])
    assert len(right) == 2 and kept[0].shape == (2, 12)

    def moved(z: Tensor) -> Tensor:
        with torch.no_grad():
            kept[0].copy_(z)
            return kept[1](torch.arange(6).expand(2, 6)).detach().clone()

    zero, e = torch.zeros(2, 12), torch.zeros(2, 12)
    e[0, 3] = 1
    assert not torch.allclose(moved(e)[0], moved(zero)[0]) and torch.equal(moved(e)[1], moved(zero)[1])


def test_subspaces_train(digits: chapter.Split) -> None:
    right, _ = chapter.in_subspace(digits, 300, [0], 150, hidden=30)
    assert right[0] > 0.6


# ------------------------------------------------------------------------------------------------------------------ SNR


def test_pair_loss_by_hand() -> None:
    D = torch.tensor([[[0.0, 0.5, 0.3], [0.7, 0.0, 2.0], [0.4, 0.9, 0.0]]])
    same = torch.tensor([[[True, True, False], [True, True, False], [False, False, True]]])
    pulls, pushes = (0.5 + 0.7) / 2, (0.7 + 0.0 + 0.6 + 0.1) / 4
    assert float(chapter.pair_loss(D, same)) == pytest.approx(pulls + pushes)
    assert float(chapter.pair_loss(D, same, near=0.6)) == pytest.approx(0.1 / 2 + pushes)


def test_metric_distances_are_their_names() -> None:
    Z = gaussian(2, 5, 6)
    snr, euclid, unit = (chapter.metric_distances(Z, how) for how in ("SNR", "Euclid", "unit"))
    assert float(snr[1, 2, 3]) == pytest.approx(float(snr_distance(Z[1, 2], Z[1, 3])))
    torch.testing.assert_close(euclid, torch.cdist(Z, Z).square())
    u = torch.nn.functional.normalize(Z, dim=-1)
    torch.testing.assert_close(unit, 2 - 2 * u @ u.mT)


def test_metric_learning_helps(digits: chapter.Split) -> None:
    for how in ("SNR", "unit"):
        recall = chapter.metric_learning(digits, how, [0, 1], 20)
        assert recall.shape == (2,) and float(recall.min()) > 0.5


# ------------------------------------------------------------------------------------------------------- the long runs


def test_long_run_has_a_row_a_seed() -> None:
    rows = chapter.long_run(0, SMOKE)
    assert len(rows) == SMOKE["long"] and len(rows[0]) == 13
    assert all(math.isfinite(v) for row in rows for v in row.values())


def images(n: int, test: int, size: int = 8) -> chapter.Split:
    """Classes 0 and 1 are dark and bright."""
    y, test_y = torch.arange(n) % 2, torch.arange(test) % 2
    noise = lambda labels, seed: torch.randint(60, (len(labels), 3, size, size), generator=generator(seed))  # noqa: E731
    x, test_x = (noise(v, k) + 180 * v[:, None, None, None] for k, v in enumerate((y, test_y)))
    return chapter.Split(x.to(torch.uint8), y, test_x.to(torch.uint8), test_y)


def test_resnets_are_stitched_at_toy_size() -> None:
    schedule = SMOKE["resnet"] | {"epochs": 12, "decoder": 60}
    rows = chapter.resnet_stitched(images(48, 20), schedule, torch.device("cpu"))
    assert [(row["encoder"], row["decoder"]) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for row in rows:
        if row["encoder"] == row["decoder"]:
            assert row["CKA"] == pytest.approx(1, abs=1e-5) and row["Procrustes"] < 1e-4
            assert row["as it is"] == pytest.approx(row["rotated"], abs=0.06) and row["relative"] > 0.8
        assert 0 <= min(row["CKA"], row["as it is"], row["relative"]) and row["CKA"] <= 1 + 1e-6
    assert rows[1]["CKA"] == pytest.approx(rows[2]["CKA"], abs=1e-5)


def test_resnets_that_are_rotations_of_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins whose features are rotated pixels: any way but "as it is" reads them as well as their own."""
    turns = [torch.linalg.qr(gaussian(12, 12, seed=seed))[0].float() for seed in range(4)]

    def train(split: chapter.Split, seed: int, schedule: dict, device: torch.device) -> tuple[nn.Module, nn.Module]:
        turn, head = nn.Linear(12, 12), nn.Linear(12, 2)
        with torch.no_grad():
            turn.weight.copy_(turns[seed].T)
            turn.bias.zero_()
            read = torch.stack([-torch.ones(12), torch.ones(12)])  # dark or bright
            head.weight.copy_(read @ turns[seed])
            head.bias.copy_(torch.zeros(2))
        return nn.Sequential(chapter.Pixels(), nn.Flatten(), turn), head

    monkeypatch.setattr(chapter, "train_resnet", train)
    rows = chapter.resnet_stitched(
        images(48, 40, 2), SMOKE["resnet"] | {"decoder": 200, "seeds": 4}, torch.device("cpu")
    )
    for row in rows:
        assert row["CKA"] == pytest.approx(1, abs=1e-4) and row["Procrustes"] < 1e-3
        assert row["rotated"] > 0.95 and row["relative"] > 0.95
    assert min(row["as it is"] for row in rows) < 0.9


def test_pixels_are_around_zero() -> None:
    seen = chapter.Pixels()(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 2, 2))
    assert float(seen[0].max()) == -1 and float(seen[1].min()) == 1 and seen.is_contiguous()


def test_cifar_is_the_whole_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = [np.zeros((n, 3, 2, 2), np.uint8) if k == 0 else np.zeros(n, np.int64) for n in (4, 2) for k in (0, 1)]
    monkeypatch.setattr(chapter.data, "load", lambda name: (*arrays, ("a",), "words"))
    split = chapter.load_cifar10()
    assert split.x.shape == (4, 3, 2, 2) and split.test_y.shape == (2,)


# ---------------------------------------------------------------------------------------------------- the moving figure

POINTS = [[math.cos(k), math.sin(2 * k), 0.9 * math.cos(k) + 0.1, math.sin(2 * k) - 0.1] for k in range(10)]


@pytest.fixture
def figure(show_figure):
    return show_figure(
        "relative-seeds", "interactive_relative.js", {"points": POINTS, "angle": 140, "scale": 0.6, "shift": 0.0}
    )


def said(figure) -> list[float]:
    return [float(v) for v in re.findall(r"\d+\.\d+", figure.locator(".numbers").inner_text())]


def expected(angle: float, scale: float, shift: float) -> list[float]:
    """Scale, shift, and the mean differences of coordinates and of cosines, by the library."""
    first, moved = chapter.turned(POINTS, angle, scale, shift)
    second = torch.tensor(POINTS, dtype=F64)[:, 2:]
    now, gap = relative(moved, moved), lambda A, B: float((A - B).abs().mean())
    return [scale, shift, gap(first, moved), gap(relative(first, first), now), gap(relative(second, second), now)]


def test_figure_says_what_the_library_computes(figure) -> None:
    assert said(figure) == pytest.approx(expected(140, 0.6, 0.0), abs=0.006)
    assert said(figure)[-1] == 0
    for slider, key, times in (("Turn", "ArrowRight", 7), ("Scale", "ArrowLeft", 2), ("Shift", "ArrowRight", 4)):
        figure.get_by_role("slider", name=slider).focus()
        for _ in range(times):
            figure.page.keyboard.press(key)
    assert "Turned 147°" in figure.locator(".numbers").inner_text()
    assert said(figure) == pytest.approx(expected(147, 0.4, 0.4), abs=0.006)
    assert said(figure)[-1] > 0.1
    wide = figure.page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0


def test_figure_turns_by_the_pointer_and_only_a_shift_moves_the_table(figure) -> None:
    def cells() -> list[str]:
        return figure.page.evaluate("[...document.querySelectorAll('rect[fill]')].map((r) => r.getAttribute('fill'))")

    before, drawing = cells(), figure.locator("svg.draggable")
    assert len(before) == 200
    box = drawing.bounding_box()
    figure.page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    figure.page.mouse.down()
    figure.page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.1 * box["height"])
    figure.page.mouse.up()
    assert "Turned 90°" in figure.locator(".numbers").inner_text() and cells() == before
    figure.get_by_role("slider", name="Shift").focus()
    figure.page.keyboard.press("ArrowRight")
    assert cells()[:100] == before[:100] and cells()[100:] != before[100:]
