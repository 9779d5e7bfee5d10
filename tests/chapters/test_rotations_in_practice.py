"""The experiments of the page rotations_in_practice, at a size that takes seconds."""

import base64
import math

import numpy as np
import pytest
import torch

from repgeom.chapters import rotations_in_practice as practice
from repgeom.manifolds import rotations
from repgeom.nn.rotations import WIDTH


def generator(k: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(k)


def turn(axis: int, degrees: float) -> torch.Tensor:
    v = torch.zeros(3, dtype=torch.float64)
    v[axis] = math.radians(degrees)
    return rotations.from_rotvec(v)


def draw(n: int, k: int = 0) -> torch.Tensor:
    return rotations.random_rotations(n, generator=generator(k), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------ codes and streams


def test_raw9_is_the_matrix_in_training_and_a_rotation_at_test() -> None:
    y = torch.randn(20, 9, generator=generator(), dtype=torch.float64)
    assert torch.equal(practice.matrix_in_training("raw9", y), y.reshape(20, 3, 3))
    R = practice.rotation_at_test("raw9", y)
    assert torch.allclose(R.mT @ R, torch.eye(3, dtype=torch.float64).expand(20, 3, 3), atol=1e-9)
    assert torch.allclose(torch.linalg.det(R), torch.ones(20, dtype=torch.float64))


@pytest.mark.parametrize("code", sorted(WIDTH))
def test_other_codes_are_the_same_in_training_and_at_test(code: str) -> None:
    y = torch.randn(20, practice.width(code), generator=generator(), dtype=torch.float64)
    assert torch.equal(practice.matrix_in_training(code, y), practice.rotation_at_test(code, y))


def test_unknown_code_names_what_is_valid() -> None:
    with pytest.raises(ValueError, match=r"code: received '7d'.*quaternion"):
        practice.width("7d")


def test_streams_do_not_depend_on_company() -> None:
    together, alone = practice.Streams([5, 6]), practice.Streams([6])
    assert torch.equal(together.rotations(3)[1], alone.rotations(3)[0])
    assert torch.equal(together.integers(100, 4)[1], alone.integers(100, 4)[0])
    x = together.normal(3)
    assert not torch.equal(x[0], x[1])


def test_small_rotations_stay_small_and_fill_the_ball() -> None:
    R = practice.Streams([0]).small_rotations(20_000, 0.5)[0]
    angle = rotations.geodesic_angle(R, torch.eye(3))
    assert float(angle.max()) <= 0.5 + 1e-5
    assert abs(float((angle < 0.25).float().mean()) - 0.125) < 0.01  # an eighth of the ball's volume


# --------------------------------------------------------------------------------------------------------- hands


def fake_hands(n: int = 9) -> torch.Tensor:
    shape = torch.randn(22, 3, generator=generator(3), dtype=torch.float64)
    wobble = 0.01 * torch.randn(n, 22, 3, generator=generator(4), dtype=torch.float64)
    moved = (1.7 * shape + wobble) @ draw(n, 5).mT
    return moved + torch.randn(n, 1, 3, generator=generator(6), dtype=torch.float64)


def test_kabsch_finds_the_rotation_and_beats_its_neighbours() -> None:
    source = torch.randn(7, 3, generator=generator(), dtype=torch.float64)
    true = draw(1)[0]
    assert torch.allclose(practice.kabsch(source, source @ true.T), true, atol=1e-9)
    target = source @ true.T + 0.3 * torch.randn(7, 3, generator=generator(1), dtype=torch.float64)
    best = practice.kabsch(source, target)
    cost = (source @ best.T - target).square().sum()
    for v in 0.05 * torch.randn(50, 3, generator=generator(2), dtype=torch.float64):
        near = rotations.exp(best, v)
        assert cost < (source @ near.T - target).square().sum()


def test_kabsch_rejects_different_joints() -> None:
    with pytest.raises(ValueError, match=r"\(7, 3\) and \(6, 3\)"):
        practice.kabsch(torch.zeros(7, 3), torch.zeros(6, 3))


def test_align_hands_removes_place_size_and_orientation() -> None:
    hands = fake_hands()
    aligned, R = practice.align_hands(hands)
    assert float((aligned - aligned[0]).abs().max()) < 0.1
    palm = aligned[:, practice.PALM]
    assert torch.allclose(palm.mean(1), torch.zeros(9, 3, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(palm.square().sum(-1).mean(1), torch.ones(9, dtype=torch.float64))
    assert torch.allclose(R[0], torch.eye(3, dtype=torch.float64), atol=1e-9)
    _, S = practice.align_hands(hands @ turn(1, 70).T)
    assert torch.allclose(S @ turn(1, 70), turn(1, 70) @ R, atol=1e-8)


def test_split_hands_is_forty_and_thirteen_without_overlap() -> None:
    seen, unseen = practice.split_hands(torch.arange(53.0)[:, None])
    assert (len(seen), len(unseen)) == (40, 13)
    assert unseen.flatten().tolist() == list(range(3, 53, 4))
    assert sorted(torch.cat([seen, unseen]).flatten().tolist()) == list(range(53))


def test_turned_hands_are_turned_by_what_is_returned() -> None:
    hands = fake_hands().float()
    x, R = practice.turned_hands(hands, practice.Streams([0, 1]), 5, noise=0.0)
    back = (x.unflatten(-1, (22, 3)) @ R).double()
    nearest = (back[:, :, None] - hands.double()).abs().amax((-2, -1)).amin(-1)
    assert x.shape == (2, 5, 66)
    assert float(nearest.max()) < 1e-4


def test_hand_networks_learn_and_do_not_depend_on_company() -> None:
    hands = practice.align_hands(fake_hands())[0].float()
    both = practice.train_hands(("6d", "quaternion"), (3, 4), hands, steps=60, batch=16)
    alone = practice.train_hands(("quaternion",), (4,), hands, steps=60, batch=16)
    e = practice.hand_errors(both, hands, turns=20)
    f = practice.hand_errors(alone, hands, turns=20)
    assert e["6d"].shape == (2, 180)
    assert float(e["6d"].mean()) < 60  # chance is 126.5
    assert torch.allclose(e["quaternion"][1].mean(), f["quaternion"][0].mean(), rtol=0.02)


# ---------------------------------------------------------------------------------------------------- aeroplanes


def test_stand_in_aeroplanes_look_like_aeroplanes() -> None:
    planes = practice.procedural_planes(20, 2000, generator())
    x, y, z = (planes[..., i].amax(1) - planes[..., i].amin(1) for i in range(3))
    assert float((x / y).min()) > 2 and float((z / y).min()) > 2
    assert 0.1 < float(planes.square().sum(-1).mean().sqrt()) < 0.3
    assert abs(float(planes[..., 2].mean())) < 0.01  # mirror symmetric on average
    assert not torch.equal(planes, practice.procedural_planes(20, 2000, generator(1)))


def test_load_planes_falls_back_on_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(name: str, **options: object) -> None:
        raise practice.data.DataUnavailable(f"no {name}")

    monkeypatch.setattr(practice.data, "load", unavailable)
    train, test, real = practice.load_planes(generator())
    assert (train.shape, test.shape, real) == ((300, 1024, 3), (100, 1024, 3), False)


def test_load_planes_takes_the_real_ones_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    clouds = np.ones((2, 4, 3), dtype=np.float32)
    found = practice.data.Planes(train=clouds, test=clouds[:1], provenance="a test")
    monkeypatch.setattr(practice.data, "load", lambda name, **options: found)
    train, test, real = practice.load_planes()
    assert real and len(test) == 1
    assert torch.allclose(train, torch.full((2, 4, 3), 5.0)) and torch.equal(test, train[:1])


def test_turned_planes_are_turned_by_what_is_returned() -> None:
    plane = practice.procedural_planes(1, 64, generator())
    x, R = practice.turned_planes(plane, practice.Streams([0, 1]), 3, points=16)
    distance = torch.cdist((x @ R).flatten(0, 2), plane[0])
    assert x.shape == (2, 3, 16, 3)
    assert float(distance.amin(1).max()) < 1e-3


def test_siamese_training_shows_the_cloud_and_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    planes, pairs = practice.procedural_planes(3, 32, generator()), []

    class Spy(practice.SiamesePlanes):
        def forward(self, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            pairs.append(pair)
            return super().forward(pair)

    monkeypatch.setattr(practice, "SiamesePlanes", Spy)
    practice.siamese_planes(("6d",), 7, 1, "cpu", (planes, planes[:1]), batch=4, turns=1, checkpoints=1, layers=(3, 8))
    streams = practice.Streams([7])
    cloud, R = planes[streams.integers(3, 1)[0, 0]], streams.rotations(4)[0]
    assert torch.equal(pairs[0][0], cloud)
    assert torch.allclose(practice.kabsch(cloud.expand(4, -1, -1), pairs[0][1]), R, atol=1e-4)


def test_pointnet_ignores_the_order_of_points_and_keeps_members_apart() -> None:
    net = practice.PointNets([0, 1])
    clouds = torch.randn(2, 3, 16, 3, generator=generator())
    y = net(clouds)
    assert torch.allclose(y, net(clouds[:, :, torch.randperm(16, generator=generator(1))]), atol=1e-6)
    assert torch.allclose(y[1], practice.PointNets([1])(clouds[1:])[0], atol=1e-6)
    assert not torch.allclose(y, net(clouds.roll(1, 0)), atol=1e-3)


def test_activation_after_the_maximum_is_the_activation_before_it() -> None:
    net = practice.PointNets([0])
    cloud = torch.randn(1, 4, 16, 3, generator=generator())
    features = torch.nn.functional.leaky_relu(net.points(cloud.flatten(1, 2)), 0.01).unflatten(1, (4, 16)).amax(2)
    assert torch.allclose(net(cloud), net.head(features), atol=1e-6)


def test_plane_experiment_runs_and_learns_one_aeroplane() -> None:
    planes = practice.procedural_planes(1, 128, generator()) / 0.2
    networks = practice.train_planes(("raw9",), (0, 1), planes, steps=150, batch=16, points=32)
    errors, which = practice.plane_errors(networks, planes, turns=100, points=32)
    assert errors["raw9"].shape == (2, 100) and which.shape == (100,)
    assert float(errors["raw9"].mean()) < 115  # chance is 126.5


def test_siamese_network_at_smoke_size() -> None:
    planes = practice.procedural_planes(6, 64, generator()) / 0.2
    result = practice.siamese_planes(
        ("6d", "raw9"), 0, 6, "cpu", (planes[:4], planes[4:]), batch=3, turns=10, checkpoints=3, layers=(3, 8, 8, 16)
    )
    assert result["steps"] == [2, 4, 6]
    assert [len(curve) for curve in result["curves"]["6d"]] == [21, 21, 21]
    final = result["final"]["raw9"]
    assert final["percentiles"] == sorted(final["percentiles"]) and final["max"] == final["percentiles"][-1] <= 180
    assert result["curves"]["6d"][0] != result["curves"]["6d"][2]


def test_siamese_network_reads_both_clouds() -> None:
    net = practice.SiamesePlanes([0, 0], (3, 8, 16), 8)
    reference, turned = torch.randn(5, 3, generator=generator()), torch.randn(4, 5, 3, generator=generator(1))
    y = net((reference, turned))
    assert y.shape == (2, 4, 9)
    assert torch.equal(y[0], y[1])  # codes of one seed start from the same weights
    assert not torch.allclose(y, net((2 * reference, turned)), atol=1e-4)
    assert not torch.allclose(y, net((reference, 2 * turned)), atol=1e-4)


# --------------------------------------------------------------------------------------------------------- chains


def test_forward_kinematics_of_two_links_in_closed_form() -> None:
    a, b = 0.7, -1.9
    R = torch.stack([turn(2, math.degrees(a)), turn(2, math.degrees(b)), torch.eye(3, dtype=torch.float64)])
    offsets = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [3.0, 0.0, 0.0]], dtype=torch.float64)
    positions, frames = practice.forward_kinematics([-1, 0, 1], offsets, R)
    tip = [2 * math.cos(a) + 3 * math.cos(a + b), 2 * math.sin(a) + 3 * math.sin(a + b), 0.0]
    assert torch.allclose(positions[2], torch.tensor(tip, dtype=torch.float64))
    assert torch.allclose(frames[2], turn(2, math.degrees(a + b)))


def test_forward_kinematics_does_not_depend_on_the_numbering() -> None:
    parents, n = [-1, 0, 0, 1, 3, 2], 6
    R, offsets = draw(4 * n).reshape(4, n, 3, 3), torch.randn(n, 3, generator=generator(), dtype=torch.float64)
    positions, frames = practice.forward_kinematics(parents, offsets, R)
    new = [3, 5, 0, 4, 1, 2]  # new[i]: the old number of node i
    renamed = [-1 if parents[old] == -1 else new.index(parents[old]) for old in new]
    p, G = practice.forward_kinematics(renamed, offsets[new], R[:, new])
    assert torch.allclose(p, positions[:, new]) and torch.allclose(G, frames[:, new])


def test_forward_kinematics_takes_two_roots_and_stretching_matrices() -> None:
    offsets = torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 1.0]], dtype=torch.float64)
    R = 3 * torch.eye(3, dtype=torch.float64).expand(3, 3, 3)
    positions, _ = practice.forward_kinematics([-1, -1, 1], offsets, R)
    assert torch.allclose(positions, torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 2, 3]], dtype=torch.float64))


@pytest.mark.parametrize("parents", [[1, 0], [-1, 2, 1], [-1, 5], [0]])
def test_circles_and_strangers_among_parents_are_named(parents: list[int]) -> None:
    with pytest.raises(ValueError, match="parents"):
        practice.tree_levels(parents)


def test_forward_kinematics_rejects_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"valid are \(2, 3\)"):
        practice.forward_kinematics([-1, 0], torch.zeros(3, 3), torch.eye(3).expand(2, 3, 3))


def test_markers_by_hand() -> None:
    R = torch.stack([turn(2, 90), turn(2, -90)])
    expected = [[0, 0.3, 0], [-0.3, 0, 0], [0, 0, 0.3], [-0.2, 0, 0], [-0.5, 0.3, 0], [-0.5, 0, 0.3]]
    assert torch.allclose(practice.markers(R), torch.tensor(expected, dtype=torch.float64), atol=1e-12)
    both = practice.markers(R, both_sides=True)
    assert torch.allclose(both[:6].mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(both[6:].mean(0), torch.tensor([-0.5, 0, 0], dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("both_sides", [False, True])
def test_chain_networks_learn_and_are_read_in_three_ways(both_sides: bool) -> None:
    before = practice.train_chain(("6d", "raw9"), (0, 1), steps=1, batch=8, both_sides=both_sides)
    after = practice.train_chain(("6d", "raw9"), (0, 1), steps=40, batch=32, both_sides=both_sides)
    errors = [practice.chain_errors_cm(n, 300, both_sides)[0]["6d"].mean() for n in (before, after)]
    assert float(errors[1]) < 0.8 * float(errors[0])
    readings = practice.raw_readings(after, 300, both_sides)
    raw = practice.chain_errors_cm(after, 300, both_sides)[0]["raw9"].mean(1)
    assert torch.allclose(readings["nearest rotation"], raw, rtol=1e-4)
    assert readings["as written"].shape == (2,)
    assert bool((readings["largest"] >= readings["middle"]).all() & (readings["middle"] >= readings["smallest"]).all())


class Oracle:
    """Writes the true turns, with the root's bone tilted by a share of the way to the child's markers' centroid."""

    seeds = (0,)

    def __init__(self, share: float, child_sign: float = 1.0) -> None:
        self.share, self.child_sign = share, child_sign

    def __call__(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        seen = x.unflatten(-1, (6, 3))
        root = (seen[..., :3, :] / 0.3).mT
        joint = 0.5 * root[..., 1]
        child = root.mT @ ((seen[..., 3:, :] - joint.unsqueeze(-2)) / 0.3).mT
        centroid = seen[..., 3:, :].mean(-2)
        root = root.clone()
        root[..., 1] += self.share * (centroid - joint) / 0.5
        child[..., 2] *= self.child_sign
        return {"raw9": torch.stack([root, child], -3).flatten(-2)}


def test_raw_readings_of_known_answers() -> None:
    exact = practice.raw_readings(Oracle(0.0), 200)
    for way in ("as written", "nearest rotation", "Gram-Schmidt", "as released"):
        assert float(exact[way]) < 1e-3
    assert float(exact["tilt"].abs()) < 1e-5 and float(exact["mirrors"]) == 0.0
    assert float(practice.raw_readings(Oracle(0.75), 200)["tilt"]) == pytest.approx(0.75, abs=1e-4)
    mirrored = practice.raw_readings(Oracle(0.0, child_sign=-1.0), 200)
    assert float(mirrored["mirrors"]) == 1.0
    assert float(mirrored["Gram-Schmidt"]) < 1e-3 < 5 < float(mirrored["as released"])  # only mirrors tell them apart


def test_full_turn_moves_one_body_and_comes_home() -> None:
    R = rotations.random_rotations(2, generator=generator())
    loop = practice.full_turn(R, body=1, axis=0, n=7)
    assert torch.equal(loop[:, 0], R[0].expand(7, 3, 3))
    assert torch.allclose(loop[0], loop[-1], atol=1e-5) and torch.allclose(loop[3], R, atol=1e-6)
    steps = rotations.geodesic_angle(loop[:-1, 1], loop[1:, 1]).rad2deg()
    assert torch.allclose(steps, torch.full((6,), 60.0), atol=1e-3)


def test_network_for_browser_is_the_network_up_to_rounding() -> None:
    networks = practice.train_chain(("6d", "quaternion"), (0, 1), steps=5, batch=8)
    R = practice.Streams([9]).rotations(50, 2)[0]
    x = practice.markers(R).flatten(-2)
    for code in ("6d", "quaternion"):
        y = x
        layers = practice.network_for_browser(networks, code, seed_index=1)
        for depth, layer in enumerate(layers):
            W = torch.frombuffer(bytearray(base64.b64decode(layer["bytes"])), dtype=torch.int8).float()
            scale = torch.tensor(layer["scale"])
            y = y @ (W.reshape(len(scale), -1) * scale[:, None]).T + torch.tensor(layer["bias"])
            if depth < len(layers) - 1:
                y = torch.nn.functional.leaky_relu(y, 0.01)
        exact = networks.decoded(x.expand(2, -1, -1))[code][1]
        served = practice.rotation_at_test(code, y.unflatten(-1, (2, practice.width(code))))
        assert float((practice.markers(served) - practice.markers(exact)).norm(dim=-1).quantile(0.9)) < 0.03  # metres


# ---------------------------------------------------------------------------- wrong variants: that they are wrong


def test_released_matrix_reading_gives_mirrors_and_the_trace_gives_them_angles() -> None:
    M = torch.randn(4000, 3, 3, generator=generator(), dtype=torch.float64)
    Q = practice.matrix_without_determinant(M)
    assert torch.allclose(Q.mT @ Q, torch.eye(3, dtype=torch.float64).expand(4000, 3, 3), atol=1e-8)
    mirrors = torch.linalg.det(Q) < 0
    assert torch.equal(mirrors, torch.linalg.det(M) < 0)
    assert 0.45 < float(mirrors.double().mean()) < 0.55
    R = draw(1)[0]
    assert torch.allclose(practice.matrix_without_determinant(R), R)
    assert not bool(practice.angle_by_trace(Q, R.expand_as(Q)).isnan().any())
    assert torch.allclose(
        practice.angle_by_trace(turn(0, 50), torch.eye(3, dtype=torch.float64)).rad2deg(), torch.tensor(50.0).double()
    )


def test_trace_quaternion_is_right_away_from_half_turns_and_lost_at_them() -> None:
    R = rotations.from_rotvec(2.0 * torch.nn.functional.normalize(torch.randn(100, 3, generator=generator()), dim=-1))
    assert torch.allclose(rotations.from_quaternion(practice.quaternion_by_trace(R)), R, atol=1e-5)
    half = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    read = rotations.from_quaternion(practice.quaternion_by_trace(half))
    assert float(rotations.geodesic_angle(read, half).rad2deg()) > 179.9


def test_released_distance_picking_tries_the_negative_only_below_the_equator() -> None:
    t = torch.nn.functional.normalize(torch.randn(1000, 4, generator=generator()), dim=-1)
    assert float(practice.distance_picking(-t, t).max()) < 1e-9
    released = practice.distance_picking_as_released(-t, t)
    assert torch.allclose(released, torch.where(t[:, 0] < 0, 0.0, 4.0), atol=1e-5)
    assert float(practice.distance_picking_as_released(t, t).max()) == 0
