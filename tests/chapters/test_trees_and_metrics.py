"""Experiments of the page *Which metric does a hierarchy need?*."""

import itertools
import math

import networkx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repgeom.chapters import trees_and_metrics as chapter
from repgeom.manifolds import poincare

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- graphs


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("tree", networkx.balanced_tree(2, 5)),
        ("cycle", networkx.cycle_graph(24)),
        ("grid", networkx.grid_2d_graph(6, 6)),
        ("karate", networkx.karate_club_graph()),
    ],
)
def test_graph_distances_are_those_of_networkx(name: str, theirs: networkx.Graph) -> None:
    plain = networkx.Graph(theirs.edges())  # the karate club's edges have weights, which we do not use
    expected = torch.from_numpy(networkx.floyd_warshall_numpy(plain, sorted(plain)))
    assert torch.equal(chapter.graph(name), expected)


def test_leaves_are_the_last_level_and_ultrametric() -> None:
    D = chapter.graph("leaves", 4)
    assert D.shape == (16, 16) and torch.equal(D, chapter.tree(4)[15:, 15:])
    assert bool((D[:, None] <= torch.maximum(D[:, :, None], D.T[None])).all())


def test_an_unknown_graph_is_refused() -> None:
    with pytest.raises(ValueError, match="Repair: name='tree'"):
        chapter.graph("torus")


def test_the_fan_has_levels_as_radii_and_parents_between_children() -> None:
    points = chapter.fan(4)
    radii = points.norm(dim=-1)
    torch.testing.assert_close(radii, torch.tensor([0.0, *[1] * 2, *[2] * 4, *[3] * 8, *[4] * 16]).double())
    for parent in range(1, 15):
        middle = (points[2 * parent + 1] + points[2 * parent + 2]) / 2
        torch.testing.assert_close(middle / middle.norm(), points[parent] / points[parent].norm())


def test_the_bound_for_the_plane_and_that_a_fan_obeys_it() -> None:
    assert chapter.plane_bound(8) == 3 * 7 / 8  # j = 2
    for depth in (4, 6, 8):
        i, j = chapter.pairs(2 ** (depth + 1) - 1)
        fan = chapter.fan(depth)
        worst = chapter.worst_distortion((fan[i] - fan[j]).norm(dim=-1), chapter.tree(depth)[i, j])
        assert float(worst) >= chapter.plane_bound(depth)


# ---- the tree in the ball


@pytest.mark.parametrize("edge", [0.7, 1.5, 2.5])
def test_the_constructed_tree_has_equal_edges_and_turns_and_the_exact_distances(edge: float) -> None:
    x, D = chapter.sarkar(5, edge), chapter.tree(5)
    child, parent = (D == 1).nonzero().T
    torch.testing.assert_close(poincare.distance(x[child], x[parent]), torch.full((len(child),), edge).double())
    siblings = poincare.distance(x[1], x[2])
    wanted = math.acosh(math.cosh(edge) ** 2 + math.sinh(edge) ** 2 / 2)  # 120 degrees
    assert float(siblings) == pytest.approx(wanted) == pytest.approx(float(poincare.distance(x[0], x[3])))
    torch.testing.assert_close(
        poincare.distance(x[:, None], x), chapter.sarkar_distances(5, edge), rtol=1e-8, atol=1e-8
    )


def test_exact_distances_have_no_horizon_and_a_turn_costs_log_four_thirds() -> None:
    D = chapter.sarkar_distances(4, 30.0)
    steps = chapter.tree(4)
    expected = 30 * steps - chapter.TURN * (steps - 1).clamp_min(0)
    torch.testing.assert_close(D, expected, rtol=1e-12, atol=1e-9)
    assert pytest.approx(-2 * math.log(math.sin(math.pi / 3))) == chapter.TURN
    far = chapter.sarkar(4, 30.0)
    assert float((poincare.distance(far[:1], far[-1]) - 120).abs()) > 50, "the ball has a horizon"


def test_numbers_of_nodes_of_subtrees() -> None:
    assert [chapter._heap(i, 1) for i in range(7)] == [1, 3, 4, 7, 8, 9, 10]
    assert [chapter._heap(i, 2) for i in range(7)] == [2, 5, 6, 11, 12, 13, 14]


# ---- distortion, delta


def test_distortions_by_hand() -> None:
    d, D = torch.tensor([[1.0, 3.0], [2.0, 4.0]]), torch.tensor([1.0, 2.0])
    assert chapter.average_distortion(d, D).tolist() == [0.25, 1.0]
    assert chapter.worst_distortion(d, D).tolist() == [1.5, 1.0]
    scale = chapter.best_scale(d, D)
    assert scale.tolist() == pytest.approx([1.25 / 1.625, 0.5])
    for factor in (0.99, 1.01):
        at = lambda a: (a[:, None] * d / D - 1).square().mean(-1)  # noqa: E731
        assert bool((at(scale) <= at(factor * scale) + 1e-12).all())


def naive_delta(D: torch.Tensor) -> float:
    worst = 0.0
    for a, b, c, d in itertools.combinations(range(len(D)), 4):
        sums = sorted([D[a, b] + D[c, d], D[a, c] + D[b, d], D[a, d] + D[b, c]])
        worst = max(worst, float(sums[2] - sums[1]) / 2)
    return worst


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 10), st.integers(1, 4), st.integers(0, 10**6))
def test_delta_is_that_of_all_quadruples(N: int, dimensions: int, seed: int) -> None:
    x = torch.randn(N, dimensions, generator=generator(seed), dtype=F64)
    D = (x[:, None] - x).norm(dim=-1)
    assert chapter.gromov_delta(D) == pytest.approx(naive_delta(D), abs=1e-12)


def test_delta_of_known_graphs() -> None:
    assert [chapter.gromov_delta(chapter.graph(n)) for n in ("tree", "leaves", "cycle", "grid")] == [0, 0, 6, 5]
    assert chapter.relative_delta(chapter.graph("cycle")) == 1.0
    big = chapter.graph("cycle").repeat(2, 2)  # more rows than one block
    assert chapter.gromov_delta(big) == 6


# ---- trainable snowflake


def snowflake(seed: int, power: bool = False) -> chapter.Snowflake:
    f = chapter.Snowflake(1, power=power)
    with torch.no_grad():
        for p in f.parameters():
            p.copy_(2 * torch.randn(p.shape, generator=generator(seed), dtype=F64))
    return f


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.floats(0, 1e3), min_size=2, max_size=8))
def test_the_snowflake_is_a_metric_on_the_line(seed: int, places: list[float]) -> None:
    f, x = snowflake(seed), torch.tensor(places, dtype=F64)
    t = (x[:, None] - x).abs()
    d = f(t.reshape(1, -1)).detach().reshape(t.shape)
    assert torch.equal(d, d.T) and bool((d >= 0).all())
    assert bool(((d == 0) == (t == 0)).all())
    excess = d[:, None, :] - d[:, :, None] - d[None]  # [x, y, z]: d(x,z) - d(x,y) - d(y,z)
    assert float(excess.max()) <= 1e-9 * (1 + float(d.max()))


@pytest.mark.parametrize("seed", range(5))
def test_the_snowflake_is_concave_and_increasing_and_a_power_is_not_concave(seed: int) -> None:
    t = torch.linspace(0, 4, 300, dtype=F64)[None]
    value = snowflake(seed)(t)[0].detach()
    assert float(value[0]) == 0 and bool((value.diff() > 0).all())
    assert bool((value.diff().diff() <= 1e-10 * float(value.max())).all())
    f = chapter.Snowflake(1, power=True)
    with torch.no_grad():
        f.exponent.fill_(1.0)
        zero, one, two = f(torch.tensor([[0.0, 1.0, 2.0]], dtype=F64))[0].tolist()
    assert zero == 0 and two > 2 * one


def test_gradients_of_the_snowflake_and_each_run_has_its_own_function() -> None:
    f, t = chapter.Snowflake(2, power=True), torch.tensor([[0.0, 0.5, 2.0]]).double().expand(2, 3).clone()
    f(t).sum().backward()
    assert all(bool(p.grad.isfinite().all()) and bool((p.grad != 0).any()) for p in f.parameters())
    with torch.no_grad():
        f.raw[1] += 1
    a, b = f(t).detach()
    assert bool((b[1:] > a[1:]).all())
    t = torch.rand(2, 4, generator=generator(), dtype=F64) + 0.1
    assert torch.autograd.gradcheck(f, t.requires_grad_())


# ---- fitted metrics


def test_unit_distances_are_those_of_the_spaces() -> None:
    z = torch.randn(2, 5, 3, generator=generator(), dtype=F64)
    i, j = chapter.pairs(5)
    x, d = chapter._unit_distances("ball", z)
    torch.testing.assert_close(d, poincare.distance(poincare.expmap0(z)[:, i], poincare.expmap0(z)[:, j]))
    x, d = chapter._unit_distances("sphere", z)
    torch.testing.assert_close(d.cos(), (x[:, i] * x[:, j]).sum(-1))
    torch.testing.assert_close(chapter._unit_distances("plane", z)[1], (z[:, i] - z[:, j]).norm(dim=-1))


@pytest.mark.parametrize("space", [*chapter.SPACES, "power"])
def test_a_path_fits_in_every_space_and_numbers_belong_together(space: str) -> None:
    D = chapter.path_lengths([(0, 1), (1, 2)])
    found = chapter.fit_metric(D, space, chapter.starts(D, [0, 1]), 300)
    limit = 0.03 if space in ("snowflake", "power") else 5e-3
    assert bool((found.stress < limit**2).any()) and found.d.shape == (4, 3)
    target = D[chapter.pairs(3)]
    torch.testing.assert_close(found.average, (found.d / target - 1).abs().mean(-1))
    torch.testing.assert_close(found.stress, (found.d / target - 1).square().mean(-1))
    assert not found.points.requires_grad and not found.d.requires_grad
    best = found.best_of_two()
    assert torch.equal(best.stress, torch.minimum(found.stress[:2], found.stress[2:]))
    M = found.matrix(1)
    assert torch.equal(M, M.T) and float(M[0, 2]) == float(found.d[1, 1])


def test_runs_do_not_depend_on_their_neighbours() -> None:
    D = chapter.graph("cycle")
    both = chapter.fit_metric(D, "ball", chapter.starts(D, [0, 1]), 5)
    one = chapter.fit_metric(D, "ball", chapter.starts(D, [1]), 5)
    torch.testing.assert_close(both.points[[1, 3]], one.points)


def test_the_disc_beats_the_plane_on_a_tree_and_the_sphere_takes_a_cycle() -> None:
    plane, ball = (chapter.tree_in(space, 5, [0], 120) for space in ("plane", "ball"))
    assert float(plane.average / ball.average) > 2.5 and float(plane.worst) > chapter.plane_bound(5)
    cycle = chapter.compare("cycle", [0], 250, spaces=("plane", "sphere"))
    assert float(cycle["sphere"].average) < 2e-3 < 0.05 < float(cycle["plane"].average)


def test_a_snowflake_takes_the_leaves_of_a_tree() -> None:
    found = chapter.compare("leaves", [0], 250, depth=4, spaces=("plane", "snowflake"))
    assert float(found["snowflake"].average) < 0.4 * float(found["plane"].average)


# ---- features


def test_a_cloud_is_seeded_and_dimension_concentrates_it() -> None:
    flat, high = torch.randn(100, 2, generator=generator()), torch.randn(100, 300, generator=generator())
    assert chapter.cloud_delta(flat, [0, 1], 30) == chapter.cloud_delta(torch.stack([flat, flat]), [0, 1], 30)
    low, dense = (sum(chapter.cloud_delta(x, range(3), 30)) / 3 for x in (high, flat))
    assert low < 0.6 * dense


def test_features_are_of_rows_that_were_not_trained_on() -> None:
    x, y = torch.randn(40, 6, generator=generator()), torch.arange(40) % 2
    before, after = chapter.trained_features(x, y, [0, 1], 5, width=8)
    assert before.shape == after.shape == (2, 10, 8) and not torch.equal(before, after)
    assert float(after.min()) == 0


def test_without_data_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    def unavailable(name: str, **options: object) -> None:
        raise chapter.data.DataUnavailable(f"no {name}")

    monkeypatch.setattr(chapter.data, "load", unavailable)
    assert chapter.cifar(3) is None
    with pytest.raises(chapter.data.DataUnavailable):
        chapter.cifar_table(chapter.SETTINGS["smoke"]["cifar"], [0], tmp_path)


# ---- class discovery


def test_clip_shortens_long_vectors_only_and_leaves_no_gradient_along_the_ray() -> None:
    v = torch.tensor([[0.3, 0.4], [3.0, 4.0]], dtype=F64, requires_grad=True)
    out = chapter.clip(v, 1.2)
    torch.testing.assert_close(out.norm(dim=-1), torch.tensor([0.5, 1.2]).double())
    (g,) = torch.autograd.grad((out * torch.tensor([1.0, 2.0])).sum(), v)
    assert float((g[1] * v[1].detach()).sum()) == pytest.approx(0, abs=1e-12) and float(g[1].norm()) > 0.05
    torch.testing.assert_close(g[0], torch.tensor([1.0, 2.0]).double())


@pytest.mark.parametrize("c", [0.0, 0.1, 1.0])
def test_all_distances_are_those_of_the_ball(c: float) -> None:
    x = poincare.expmap0(torch.randn(2, 7, 4, generator=generator(), dtype=F64), c)
    away = ~torch.eye(7, dtype=torch.bool)
    torch.testing.assert_close(
        chapter.all_distances(x, c)[:, away], poincare.distance(x[:, :, None], x[:, None], c)[:, away]
    )


def test_the_formula_on_the_clip() -> None:
    angle = torch.linspace(0, math.pi, 9, dtype=F64)
    v = 1.7 * torch.stack([angle.cos(), angle.sin()], -1)
    x = poincare.expmap0(v, 0.3)
    torch.testing.assert_close(chapter.clip_distance(angle, 1.7, 0.3), poincare.distance(x, x[:1], 0.3))


def test_contrast_by_hand() -> None:
    similarity = torch.randn(1, 4, 4, generator=generator(), dtype=F64)
    kinds = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)[None]
    s, total = similarity[0], 0.0
    for i, mates in ((0, (1, 2)), (1, (0,)), (2, (0,))):  # the last row has no mate
        below = sum(math.exp(s[i, k]) for k in range(4) if k != i)
        total += sum(-math.log(math.exp(s[i, k]) / below) for k in mates) / len(mates) / 3
    found = chapter.contrast(similarity, [kinds, torch.zeros_like(kinds)])
    assert float(found[0]) == pytest.approx(total) and float(found[1]) == 0


def test_tasks_show_labels_of_old_classes_only() -> None:
    task = chapter.gaussian_tree([0, 1], each=30, size=5)
    assert task.x.shape == (2, 360, 5) and task.old.sum() == 8
    assert bool(task.old[task.y[task.labelled]].all())
    shown = task.labelled.double().mean()
    assert 0.25 < float(shown) < 0.42 and not torch.equal(task.labelled[0], task.labelled[1])
    centres = torch.stack([task.x[0, task.y[0] == k].mean(0) for k in range(12)])
    near, far = torch.pdist(centres[:3]).mean(), torch.cdist(centres[:3], centres[3:]).mean()
    assert float(far) > 2 * float(near)


def test_score_counts_hidden_rows_with_one_assignment() -> None:
    y = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2]])
    labelled = torch.tensor([[True, *[False] * 7]])
    task = chapter.Task(torch.zeros(1, 8, 1), y, labelled, torch.tensor([True, True, False]))
    clusters = torch.tensor([1, 2, 2, 0, 0, 1, 1, 0])  # the first would be wrong, but shows its label
    assert chapter.score(clusters, task, 0).tolist() == pytest.approx([6 / 7, 1.0, 2 / 3])
    assert chapter.score(y[0], task, 0).tolist() == [1, 1, 1]


@pytest.mark.parametrize(("geometry", "c"), [("cosine", 0.0), ("ball", 0.1), ("ball", 0.0)])
def test_discovery_learns_and_is_seeded(geometry: str, c: float) -> None:
    task = chapter.gaussian_tree([0, 1], each=25, size=8)
    schedule = {"steps": 40, "batch": 32, "checks": 2, "starts": 3}
    found = chapter.discover(task, [0, 1], geometry, schedule, 1.2, c)
    again = chapter.discover(task, [0, 1], geometry, schedule, 1.2, c)
    assert torch.equal(found.curve, again.curve) and found.curve.shape == (2, 2, 3)
    assert bool((found.last[:, 0] > 0.3).all()) and found.features.shape == (2, 300, 16)
    if geometry == "ball":
        assert float(found.features.norm(dim=-1).max()) <= 1.2 + 1e-6
    else:
        assert found.clipped.tolist() == [0, 0]


def test_ball_and_twin_see_the_same_batches_and_differ_by_curvature_alone() -> None:
    task = chapter.gaussian_tree([0], each=10, size=4)
    schedule = {"steps": 3, "batch": 16, "checks": 1, "starts": 3}
    twin, close = (chapter.discover(task, [0], "ball", schedule, 1.2, c) for c in (0.0, 1e-6))
    torch.testing.assert_close(twin.features, close.features, rtol=1e-2, atol=1e-2)
    curved = chapter.discover(task, [0], "ball", schedule, 1.2, 1.0)
    assert float((curved.features - twin.features).abs().max()) > 1e-3


def test_lloyd_in_the_ball_separates_clusters() -> None:
    centres = torch.tensor([[2.0, 0.0], [-2.0, 0.0]]).repeat_interleave(20, 0)
    x = poincare.expmap0((centres + 0.2 * torch.randn(40, 2, generator=generator())).double(), 1.0)
    wrong = torch.arange(40) % 2
    wrong[:20] = 0
    found = chapter.ball_kmeans(x, wrong, 1.0)
    assert found[:20].unique().numel() == found[20:].unique().numel() == 1 and found[0] != found[-1]
    assert torch.equal(chapter.ball_kmeans(x, found, 1.0), found)


def test_the_table_resumes_and_knows_another_schedule(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    calls = []
    x, y = torch.randn(40, 6, generator=generator()), torch.arange(40) % 10
    original = chapter.discover

    def discover(*args, **options):
        calls.append(args[2])
        return original(*args, **options)

    monkeypatch.setattr(chapter, "discover", discover)
    schedule = {"per_class": 4, "steps": 2, "batch": 8, "checks": 1, "starts": 3}
    rows = chapter.cifar_table(schedule, [0], tmp_path, load=lambda n: (x, y, "drawn"))
    assert len(rows) == 6 == len(calls) and {(r["geometry"], r["c"], r["R"]) for r in rows} >= {("ball", 0.1, 2.3)}
    assert all(0 <= r["all"] <= 1 and "schedule" not in r for r in rows)
    assert chapter.cifar_table(schedule, [0], tmp_path, load=lambda n: (x, y, "drawn")) == rows and len(calls) == 6
    chapter.cifar_table({**schedule, "steps": 3}, [0], tmp_path, load=lambda n: (x, y, "drawn"))
    assert len(calls) == 12
