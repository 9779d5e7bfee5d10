"""The experiments of the page on hyperbolic networks: that they compute what the page says, at small size."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn

from repgeom.chapters import hyperbolic_resnets as chapter
from repgeom.manifolds import poincare
from repgeom.nn.poincare import PoincareBatchNorm2d, PoincareConv2d, PoincareLinear, PoincareResNet
from repgeom.probes.cost import cost

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------------------------------- the ball


@pytest.mark.parametrize("c", [0.0, 0.3, 1.0])
def test_tree_has_equal_edges_and_three_neighbours(c: float) -> None:
    points, parents = chapter.tree(4, 1.2, c)
    assert len(points) == 46 == 1 + 3 * (1 + 2 + 4 + 8) and parents[0] == -1
    edges = poincare.distance(points[1:], points[parents[1:]], c)
    torch.testing.assert_close(edges, torch.full_like(edges, 1.2))
    children = torch.tensor(parents[1:]).bincount(minlength=46)
    assert sorted(children.tolist()) == [0] * 24 + [2] * 21 + [3]
    assert float(points[1, 0]) > 0 and abs(float(points[1, 1])) < 1e-12  # the first branch goes right


def test_crowding_skips_neighbours_and_sees_the_honeycomb() -> None:
    assert chapter.crowding(*chapter.tree(4, 1.2, 0.0), 0.0) < 1e-12
    assert chapter.crowding(*chapter.tree(1, 1.0, 0.0), 0.0) == pytest.approx(math.sqrt(3))  # siblings, not the edge
    points = torch.tensor([[0.0, 0.0], [0.3, 0.0], [0.4, 0.0]], dtype=F64)
    expected = poincare.distance(points[0], points[2])
    assert chapter.crowding(points, [-1, 0, 1], 1.0) == pytest.approx(float(expected))


def test_trees_have_room_from_ln_3_on() -> None:
    close, far = (chapter.crowding(*chapter.tree(9, f * math.log(3), 1.0), 1.0) for f in (0.8, 1.05))
    assert close < 0.3 < 1.5 < far


def test_cloud_is_where_and_as_wide_as_it_says() -> None:
    points = chapter.cloud(4000, 8, 2.0, 0.8, 0, c=0.5)
    middle = poincare.frechet_mean(points, c=0.5)
    assert float(poincare.distance(torch.zeros(8, dtype=F64), middle, 0.5)) == pytest.approx(2.0, abs=0.06)
    assert float(poincare.distance(points, middle, 0.5).square().mean().sqrt()) == pytest.approx(0.8, abs=0.03)


# ------------------------------------------------------------------------------------------------ initialisation, depth


def released_by_hand(t: torch.Tensor, Z: torch.Tensor, r: torch.Tensor, c: float) -> torch.Tensor:
    """The released formulas in the ball."""
    x, s = poincare.expmap0(t, c), math.sqrt(c)
    lam, length = 2 * (1 - c * (x * x).sum(-1, keepdim=True)), Z.norm(dim=0)
    A = s * lam / length * (x @ Z) * (2 * s * r).cosh() - (lam - 1) * (2 * s * r).sinh()
    w = (2 * length * A.asinh()).sinh() / s
    return poincare.logmap0(w / (1 + (1 + c * (w * w).sum(-1, keepdim=True)).sqrt()), c)


@torch.no_grad()
def test_released_layer_is_the_released_formula() -> None:
    layer = chapter.ReleasedLinear(4, 3, 0.7, initialisation="variance", generator=generator(), dtype=F64)
    nn.init.normal_(layer.bias, 0, 0.3, generator=generator(1))
    t = torch.randn(6, 4, generator=generator(2), dtype=F64)
    torch.testing.assert_close(layer(t), released_by_hand(t, layer.weight, layer.bias, 0.7))
    right = PoincareLinear(4, 3, 0.7, dtype=F64)
    right.load_state_dict(layer.state_dict())
    assert float((right(t) - layer(t)).norm() / right(t).norm()) > 0.2
    conv = chapter.ReleasedConv2d(2, 2, 1, c=0.7, dtype=F64)
    images = torch.randn(1, 2, 2, 2, generator=generator(3), dtype=F64)
    torch.testing.assert_close(conv(images), released_by_hand(images, conv.weight, conv.bias, 0.7))


def test_stacks_show_what_the_page_says() -> None:
    identity = chapter.linear_stack("identity", 6, 0)
    assert max(abs(v / identity[0] - 1) for v in identity) < 1e-12 and len(identity) == 7
    normal = chapter.linear_stack("normal", 6, 0)
    assert (normal[6] / normal[1]) ** 0.2 == pytest.approx(math.sqrt(2 / 64), rel=0.15)
    assert chapter.linear_stack("identity", 3, 0, chapter.ReleasedLinear)[3] < 0.3 * identity[0]
    conv = chapter.conv_stack("identity", 3, 0)
    assert all(0.2 < b / a < 0.45 for a, b in itertools.pairwise(conv))
    assert chapter.conv_stack("variance", 3, 0)[3] > 0.7 * conv[0]


# --------------------------------------------------------------------------------------------- ball form, Fréchet mean


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 2, 0), (2, 1, 0)])
def test_convolution_step_by_step_is_the_library_s(kernel: int, stride: int, padding: int) -> None:
    options: dict[str, Any] = {"c": 0.7, "initialisation": "variance", "generator": generator(), "dtype": F64}
    ours = PoincareConv2d(4, 5, kernel, stride, padding, **options)
    nn.init.normal_(ours.bias, 0, 0.2, generator=generator(1))
    other = chapter.BallConv2d(4, 5, kernel, stride, padding, c=0.7, dtype=F64)
    other.load_state_dict(ours.state_dict())
    t = 0.4 * torch.randn(2, 7, 6, 4, generator=generator(2), dtype=F64)
    torch.testing.assert_close(other(t), ours(t), rtol=1e-10, atol=1e-12)


def test_batch_norm_step_by_step_is_the_library_s_in_both_modes() -> None:
    ours, other = PoincareBatchNorm2d(4, 0.7, dtype=F64), chapter.BallBatchNorm2d(4, 0.7, dtype=F64)
    nn.init.normal_(ours.bias, generator=generator())
    nn.init.constant_(ours.variance, 1.7)
    other.load_state_dict(ours.state_dict())
    for _ in range(2):
        t = torch.randn(2, 5, 3, 4, generator=generator(2), dtype=F64)
        torch.testing.assert_close(other(t), ours(t))
    torch.testing.assert_close(dict(other.state_dict()), dict(ours.state_dict()))
    torch.testing.assert_close(other.eval()(t[:1]), ours.eval()(t[:1]))


def test_frechet_batch_norm_centres_at_its_mean() -> None:
    norm = chapter.FrechetBatchNorm2d(3, 0.9, dtype=F64)
    t = torch.randn(4, 3, 2, 3, generator=generator(), dtype=F64) + 0.5
    out = poincare.expmap0(norm(t).flatten(0, -2).detach(), 0.9)
    assert float(poincare.frechet_mean(out, c=0.9).norm()) < 1e-8
    assert float(poincare.distance(out, torch.zeros(3, dtype=F64), 0.9).square().mean()) == pytest.approx(1, abs=1e-5)
    midpoint = poincare.midpoint(out, c=0.9)
    assert float(midpoint.norm()) > 1e-4  # the other mean is not there


# -------------------------------------------------------------------------------------------------- what backward keeps


def test_ways_to_add_agree_and_keep_what_the_page_says() -> None:
    x, y = (0.05 * torch.randn(64, 32, generator=generator(k)) for k in (1, 2))
    c, unit = torch.tensor(0.8), 4 * 64 * 32
    leaves, kept = [x.requires_grad_(), y.requires_grad_()], {}
    ways = (chapter.formula_mobius_add, chapter.rows_mobius_add, chapter.ManualMobiusAdd.apply)
    for way in ways:
        torch.testing.assert_close(way(x, y, c), poincare.mobius_add(x, y, c))
        kept[way] = cost(lambda way=way: way(x, y, c), [*leaves, c]).saved / unit
    assert kept[ways[0]] > 1 > 0.25 > kept[ways[1]] > kept[ways[2]]


def test_hand_written_gradient_is_right_and_the_released_one_only_for_fixed_curvature() -> None:
    a, b = (poincare.random(3, generator(k), F64, size=4).requires_grad_() for k in (1, 2))
    c = torch.tensor(0.7, dtype=F64)
    assert torch.autograd.gradcheck(chapter.ManualMobiusAdd.apply, (a, b, c.clone().requires_grad_()))
    assert torch.autograd.gradcheck(chapter.ReleasedMobiusAdd.apply, (a, b, c))
    assert not torch.autograd.gradcheck(
        chapter.ReleasedMobiusAdd.apply, (a, b, c.requires_grad_()), raise_exception=False
    )


# ------------------------------------------------------------------------------------------------------ how far out


def test_last_point_is_the_last() -> None:
    for dtype in (torch.float32, torch.float64):
        below = torch.nextafter(torch.ones((), dtype=dtype), torch.zeros((), dtype=dtype)).double()
        assert chapter.last_point(dtype) == pytest.approx(2 * math.atanh(below), rel=1e-12)


def test_round_trip_is_exact_near_and_ends_at_the_margin() -> None:
    distances = torch.tensor([1.0, 8.0, 8.6, 12.0], dtype=F64)
    error = chapter.round_trip(distances, torch.float32)
    assert bool((error[:3] < 1e-4).all())
    assert float(error[3]) == pytest.approx(1 - 2 * math.atanh(1 - 2**-11.5) / 12, rel=1e-3)
    assert float(chapter.round_trip(distances, torch.float32, projected=False)[3]) < 0.05


@pytest.mark.parametrize("apart", [None, 1.0])
def test_formulas_agree_with_each_other_in_float64_and_fail_in_order(apart: float | None) -> None:
    distances = torch.tensor([1.0, 2.0, 4.0], dtype=F64)
    assert all(float(error.max()) < 1e-9 for error in chapter.formulas(distances, F64, apart).values())
    far = {k: float(v) for k, v in chapter.formulas(torch.tensor([8.0], dtype=F64), torch.float32, apart).items()}
    assert far["artanh of Möbius"] > 20 * far["arsinh"] > far["tangent vectors"]
    assert (far["hyperboloid"] > 1e-2) == (apart is not None)


# ------------------------------------------------------------------------------------------------------ small networks


def blobs(seed: int = 0) -> chapter.Split:
    y = torch.arange(3).repeat(40)
    x = torch.zeros(120, 1, 8, 8)
    x[y == 0, 0, ::2], x[y == 1, 0, :, ::2], x[y == 2] = 1.0, 1.0, 0.7  # two kinds of stripes, and grey
    x += 0.3 * torch.randn(x.shape, generator=generator(seed))
    return chapter.split(x, y, 30, seed)


def test_split_is_a_partition() -> None:
    part = chapter.split(torch.arange(10), torch.arange(10), 3, 0)
    assert len(part.x) == 7 and sorted(part.x.tolist() + part.test_x.tolist()) == list(range(10))
    assert torch.equal(part.x, part.y) and torch.equal(part.test_x, part.test_y)
    rows, images = chapter.digits(0, images=False), chapter.digits(0)
    assert torch.equal(rows.x[:1077], images.x.flatten(1)) and torch.equal(rows.test_y, images.test_y[360:])
    assert float(rows.x.min()) == -1 and float(rows.x.max()) == 1
    assert images.test_x.shape == (720, 1, 8, 8) and len(rows.x) == 1437


@pytest.mark.parametrize("name", list(chapter.NETWORKS))
def test_networks_learn_and_start_alike_from_the_same_seed(name: str) -> None:
    part, nets = blobs(), [chapter.SmallNet(1, seed=3, **chapter.NETWORKS[name]) for _ in range(2)]
    losses = [chapter.train(net, part.x, part.y, 0, 6, 3e-2, 30) for net in nets]
    assert torch.equal(*losses) and len(losses[0]) == 18 and losses[0][-1] < 0.6 * losses[0][0]
    assert chapter.accuracy(chapter.logits(nets[0], part.test_x), part.test_y) > 0.8
    assert not nets[0].training


def test_tiny_curvature_is_the_flat_limit_and_one_is_not() -> None:
    part = blobs()
    flat, tiny, curved = (
        chapter.logits(chapter.SmallNet(1, c, seed=1), part.x, statistics="batch") for c in (0.0, 1e-6, 1.0)
    )
    torch.testing.assert_close(flat, tiny, rtol=1e-3, atol=1e-3)
    assert float((flat - curved).norm() / flat.norm()) > 0.05


def test_batch_statistics_are_those_of_the_batch_and_leave_no_trace() -> None:
    part, net = blobs(), chapter.SmallNet(1, seed=1)
    chapter.train(net, part.x, part.y, 0, 2, 3e-2, 30)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    whole = chapter.logits(net, part.test_x, 30, "batch")
    torch.testing.assert_close(dict(net.state_dict()), before)
    assert not any(m.training for m in net.modules())
    alone = chapter.logits(net, part.test_x, 1, "batch")
    assert float((whole - alone).abs().max()) > 0.1
    running = [chapter.logits(net, part.test_x, b) for b in (1, 30)]
    torch.testing.assert_close(*running, rtol=1e-4, atol=1e-4)
    with chapter.batch_statistics(net):
        assert [m.training for m in (net, net.norms[0])] == [False, True]


def test_moving_averages_stay_when_asked() -> None:
    part, nets = blobs(), [chapter.SmallNet(1, seed=1) for _ in range(2)]
    for net, again in zip(nets, (True, False), strict=True):
        chapter.train(net, part.x, part.y, 0, 2, 3e-2, 30, again=again)
    torch.testing.assert_close(nets[0].convs[0].weight, nets[1].convs[0].weight)
    assert float((nets[0].norms[0].running_mean - nets[1].norms[0].running_mean).abs().max()) > 1e-4


def test_auroc_takes_a_larger_logsumexp_for_inside() -> None:
    inside, outside = torch.tensor([[3.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 0.0], [2.5, 0.0]])
    assert chapter.auroc(inside, outside) == 0.75 and chapter.auroc(inside, inside - 5) == 1.0
    assert chapter.auroc(torch.ones(1, 2), torch.tensor([[1.5, -9.0]])) == 1.0  # two halves count more than the largest


def test_unit_radii_see_every_norm() -> None:
    net = chapter.SmallNet(1, 0.5, seed=1)
    chapter.train(net, blobs().x, blobs().y, 0, 1, 1e-3, 30)
    found = chapter.unit_radii(net, blobs().test_x)
    assert found.shape == (3, 2) and bool((found[:, 1] >= found[:, 0]).all())
    with torch.no_grad():
        first = net.norms[0](net.convs[0](blobs().test_x.permute(0, 2, 3, 1)))
    assert float(found[0, 0]) == pytest.approx(float(2 * 0.5**0.5 * first.norm(dim=-1).mean()), rel=1e-5)
    assert float((2 * 0.5**0.5 * first.norm(dim=-1) > found[0, 1]).double().mean()) <= 0.01


def test_other_digits_gives_both_statistics() -> None:
    found = chapter.other_digits(0, {"epochs": 1, "lr": 1e-2, "batch": 300})
    assert set(found) == {"digits 5 to 9", "shuffled pixels"}
    assert all(0 <= v <= 1 for row in found.values() for v in row.values())
    assert all(row["running"] != row["batch"] for row in found.values())


def test_cifar_is_small_and_in_range_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    found = chapter.cifar(2)
    if found is not None:
        part, origin = found
        assert part.x.shape == (20, 3, 16, 16) and part.test_x.shape == (20, 3, 16, 16) and origin
        assert float(part.x.min()) < -0.5 and float(part.x.max()) > 0.5 and float(part.x.abs().max()) <= 1

    def unavailable(name: str, **options: object) -> None:
        raise chapter.data.DataUnavailable(f"no {name}")

    monkeypatch.setattr(chapter.data, "load", unavailable)
    assert chapter.cifar(2) is None


# ---------------------------------------------------------------------------------------------------------- full scale


def test_fgsm_moves_each_pixel_by_the_step_and_raises_the_loss() -> None:
    net, x, y = PoincareResNet(8, (8, 8, 8), generator=generator()).eval(), torch.zeros(4, 3, 8, 8), torch.arange(4)
    x[0] = 1.0
    moved = chapter.fgsm(net, x, y, 0.01)
    assert float((moved - x).abs().max()) == pytest.approx(0.01) and float(moved.max()) <= 1
    with torch.no_grad():
        assert nn.functional.cross_entropy(net(moved), y) > nn.functional.cross_entropy(net(x), y)


def tiny() -> tuple[tuple[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]:
    def images(n: int) -> torch.Tensor:
        return torch.randint(256, (n, 3, 16, 16), generator=generator(n), dtype=torch.uint8)

    return (images(16), torch.arange(16) % 10), {
        "images": images(10), "labels": torch.arange(10), "noise": images(6), "cifar100": images(7)
    }  # fmt: skip


SCHEDULE = {"depth": 8, "widths": [8, 8, 8], "epochs": 1, "lr": 1e-3, "decay": 1e-4, "batch": 8, "seeds": 1}


@pytest.mark.parametrize("name", ["Euclidean", "c = 0.1", "released factor", "c = 0"])
def test_resnet_run_at_toy_size(name: str) -> None:
    row, again = (chapter.resnet_run(name, *tiny(), 0, SCHEDULE, torch.device("cpu")) for _ in range(2))
    assert row == again and len(row) == 10
    assert {"accuracy, running", "accuracy, batch", "AUROC noise, batch", "FGSM 3.2, running"} <= set(row)
    assert all(0 <= v <= 1 for v in row.values())
    assert row["AUROC noise, running"] != row["AUROC noise, batch"]


def test_resnet_table_resumes_and_knows_another_schedule(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    calls = []

    def run(name, train_set, tests, seed, schedule, device):
        calls.append((name, seed))
        return {"accuracy, running": 0.5}

    monkeypatch.setattr(chapter, "resnet_run", run)
    monkeypatch.setattr(chapter, "full_data", lambda: (None, {}))
    schedule = {"epochs": 1, "seeds": 2}
    rows = chapter.resnet_table(schedule, torch.device("cpu"), tmp_path)
    assert len(rows) == len(calls) == 8 == len(set(calls)) and "schedule" not in rows[0]
    assert chapter.resnet_table(schedule, torch.device("cpu"), tmp_path) == rows and len(calls) == 8
    chapter.resnet_table({**schedule, "epochs": 2}, torch.device("cpu"), tmp_path)
    assert len(calls) == 16
