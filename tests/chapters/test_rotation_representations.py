import json
from functools import partial
from math import pi, radians

import pytest
import torch

from repgeom.chapters import rotation_representations as exp
from repgeom.manifolds import rotations
from repgeom.nn.blocks import StackedMLP
from repgeom.nn.rotations import WIDTH, decode, encode

SMOKE = exp.SETTINGS["smoke"]
EYE = torch.eye(3, dtype=torch.float64)
CONTINUOUS = ("6d", "5d", "9d", "10d")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def haar(n, seed=0):
    return rotations.random_rotations(n, generator=seeded(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def trained():
    return exp.train(exp.CODES, [0, 1], steps=300, batch=64, hidden=64)


# ---------------------------------------------------------------------------------------------- laws of rotations


def test_axis_angle_uniform_has_uniform_angle_and_not_the_haar_angle():
    angle = rotations.geodesic_angle(exp.axis_angle_uniform(20_000, seeded()).double(), EYE)
    deciles = torch.quantile(angle, torch.linspace(0.1, 0.9, 9, dtype=torch.float64))
    assert torch.allclose(deciles, pi * torch.linspace(0.1, 0.9, 9, dtype=torch.float64), atol=0.06)
    assert abs(torch.rad2deg(angle).mean() - 90) < 1.5  # Haar: 126.5


def test_small_rotations_fill_the_ball_uniformly():
    r = exp.small_rotations(20_000, 0.7, seeded()).double()
    angle = rotations.geodesic_angle(r, EYE)
    assert angle.max() <= 0.7 + 1e-6
    assert abs((angle < 0.35).double().mean() - 1 / 8) < 0.01  # half the radius, an eighth of the volume
    assert r.mean(0).sub(EYE * r.mean(0).trace() / 3).abs().max() < 0.01  # no preferred axis


@pytest.mark.parametrize("angle", [0.0, -1.0, 3.2])
def test_small_rotations_rejects_an_angle_outside_the_group(angle):
    with pytest.raises(ValueError, match="max_angle is"):
        exp.small_rotations(3, angle)


# -------------------------------------------------------------------------------------------- training and errors


def test_training_lowers_the_error_of_every_code(trained):
    R = haar(500, seed=9).float()
    for code, network in trained.items():
        start = StackedMLP([9, 64, 64, 64, WIDTH.get(code, 9)], [0, 1])
        before, after = exp.errors(code, start, R).mean(-1), exp.errors(code, network, R).mean(-1)
        assert after.shape == (2,)
        assert (after < 0.5 * before).all(), code  # 5d starts slowly: its back-map is steep


@pytest.mark.parametrize("loss", exp.LOSSES)
def test_a_member_does_not_depend_on_its_company(loss):
    codes = ["quaternion", *([exp.RANDOM_SIGN] if loss == "representation" else [])]
    settings = {"steps": 70, "batch": 8, "hidden": 16, "loss": loss}  # 70 steps: past the first stock of batches
    together, alone = (exp.train(codes, seeds, **settings) for seeds in ([3, 5], [5]))
    for code in codes:
        for a, b in zip(together[code].parameters(), alone[code].parameters(), strict=True):
            assert torch.allclose(a[1], b[0], atol=1e-4)
            assert not torch.allclose(a[0], b[0], atol=1e-2)


def test_seeds_decide_everything_and_leave_the_global_generator_alone():
    torch.manual_seed(0)
    first = exp.train(["6d"], [4], steps=3, batch=8, hidden=8)["6d"]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    second = exp.train(["6d"], [4], steps=3, batch=8, hidden=8)["6d"]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_rotations_depend_on_the_seed_and_not_on_the_code():
    seen = []

    def spy(n, generator):
        seen.append(rotations.random_rotations(n, generator=generator))
        return seen[-1]

    exp.train(["6d", "rotvec"], [7, 8], steps=2, batch=4, hidden=8, sampler=spy)
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])
    assert not torch.allclose(seen[0], seen[1], atol=0.1)


def test_released_schedule_moves_less_than_one_cycle():
    start = StackedMLP([9, 8, 8, 8, 6], [0])
    moved = [
        max((a - b).abs().max().item() for a, b in zip(start.parameters(), network.parameters(), strict=True))
        for schedule in ("released", "one-cycle")
        for network in exp.train(["6d"], [0], steps=20, batch=8, hidden=8, schedule=schedule).values()
    ]
    assert 5e-5 < moved[0] < 1.5e-4  # ten steps of 1e-5, then ten of 1e-6
    assert moved[1] > 1e-3


def test_raw9_is_a_matrix_in_training_and_a_rotation_at_test(trained):
    R = haar(50).float()
    raw = trained["raw9"](R.flatten(-2)).unflatten(-1, (3, 3))
    out = exp.predict("raw9", trained["raw9"], R)
    assert (raw.mT @ raw - EYE.float()).abs().max() > 0.05
    assert torch.allclose(out.mT @ out, EYE.float().expand_as(out), atol=1e-5)
    assert torch.allclose(out, rotations.from_9d_svd(raw.flatten(-2)), atol=1e-4)


def test_random_sign_is_label_noise():
    """The mean of +q and -q is 0, so the network's answers shrink; with canonical targets they do not."""
    settings = {"steps": 200, "batch": 64, "hidden": 64, "loss": "representation"}
    nets = exp.train(["quaternion", exp.RANDOM_SIGN], [0, 1], **settings)
    R = haar(500).float()
    noisy, clean = (exp.errors(code, nets[code], R).mean(-1) for code in (exp.RANDOM_SIGN, "quaternion"))
    assert (noisy > 60).all()
    assert (clean < 40).all()
    norm = {code: torch.linalg.vector_norm(net(R.flatten(-2)), dim=-1).mean() for code, net in nets.items()}
    assert norm[exp.RANDOM_SIGN] < 0.5 < norm["quaternion"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exp.train(["7d"], [0], steps=1), "code is '7d'"),
        (lambda: exp.train(["6d"], [0], steps=1, loss="l1"), "loss is 'l1'"),
        (lambda: exp.train([exp.RANDOM_SIGN], [0], steps=1), "loss='representation'"),
        (lambda: exp.predict("7d", StackedMLP([9, 4], [0]), EYE.float().expand(2, 3, 3)), "code is '7d'"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_summary_by_hand():
    found = exp.summary(torch.arange(1001.0).repeat(2, 1) / 10)
    assert found["mean"].tolist() == pytest.approx([50, 50])
    assert found["p99"].tolist() == pytest.approx([99, 99])
    assert found["p99.9"].tolist() == pytest.approx([99.9, 99.9])
    assert found["max"].tolist() == pytest.approx([100, 100])
    assert found["above 30 (%)"].tolist() == pytest.approx([100 * 700 / 1001] * 2)


def test_errors_are_degrees_of_the_decoded_rotation():
    class Constant(torch.nn.Module):
        def forward(self, x):
            return torch.tensor([0.0, 0.0, radians(30)], dtype=x.dtype).expand(*x.shape[:-1], 3)

    assert exp.errors("rotvec", Constant(), EYE.expand(2, 3, 3)).tolist() == pytest.approx([30, 30])


def test_released_summary_is_json_and_bounded(monkeypatch):
    monkeypatch.setitem(exp.SETTINGS["full"], "test_rotations", 300)
    found = exp.sanity_as_released([0, 1], ["6d", "euler"], progress=False, steps=4, hidden=8)
    assert json.loads(json.dumps(found)) == found
    assert (found["steps"], found["batch"], found["schedule"], found["seeds"]) == (4, 64, "released", 2)
    assert [row["code"] for row in found["errors in degrees"]] == ["6d", "euler"]
    assert all(0 < row["mean"] <= row["p99"] <= row["max"] <= 180 for row in found["errors in degrees"])


def test_the_sampler_reaches_training():
    """Trained within 5 degrees, a rotation vector network is lost outside, and good inside."""
    sampler = partial(exp.small_rotations, max_angle=radians(5))
    network = exp.train(["rotvec"], [0, 1], steps=100, batch=32, hidden=32, sampler=sampler)["rotvec"]
    inside, outside = sampler(300, generator=seeded(1)), haar(300).float()
    assert (exp.errors("rotvec", network, inside).mean(-1) < 6).all()  # a constant answer is already within 5
    assert (exp.errors("rotvec", network, outside).mean(-1) > 40).all()


# ------------------------------------------------------------------------------------- the 180-degree theorem


def test_loops_close_after_a_full_turn_and_turn_at_unit_speed():
    R0, axis = exp.random_loops(20, seeded())
    t = torch.tensor([0.0, 0.25, pi, 2 * pi], dtype=torch.float64).expand(20, 4)
    R = exp.along_loop(R0, axis, t)
    assert torch.allclose(R[:, 0], R0, atol=1e-12) and torch.allclose(R[:, 3], R0, atol=1e-12)
    turned = rotations.geodesic_angle(R, R0[:, None])
    assert torch.allclose(turned[:, :3], t[:, :3], atol=1e-7)
    assert torch.allclose((R @ axis[:, None, :, None])[:, 1], R0 @ axis[..., None], atol=1e-12)  # the axis stays
    with pytest.raises(ValueError, match="t has shape"):
        exp.along_loop(R0, axis, torch.zeros(3))


@pytest.mark.parametrize("code", exp.LIFTED)
def test_lift_is_a_unit_quaternion_of_the_decoded_rotation(code):
    y = 4 * torch.randn(500, WIDTH[code], generator=seeded(), dtype=torch.float64)
    q = exp.lift(code, y)
    assert torch.allclose(torch.linalg.vector_norm(q, dim=-1), torch.ones(500, dtype=torch.float64))
    assert torch.allclose(rotations.from_quaternion(q), decode(code, y), atol=1e-12)


@pytest.mark.parametrize("code", exp.LIFTED)
def test_lift_is_continuous_where_the_canonical_quaternion_is_not(code):
    """Along a long straight line of code numbers the lift moves in small steps; `to_quaternion` of the result jumps."""
    start, end = 3 * torch.randn(2, 50, WIDTH[code], generator=seeded(), dtype=torch.float64)
    y = start + torch.linspace(0, 1, 2_000, dtype=torch.float64)[:, None, None] * (end - start)
    steps = exp.lift(code, y).diff(dim=0).norm(dim=-1)
    jumps = rotations.to_quaternion(decode(code, y)).diff(dim=0).norm(dim=-1)
    assert steps.max() < 0.3
    assert jumps.max() > 1.9


@pytest.mark.parametrize("code", CONTINUOUS)
def test_codes_without_a_lift_say_so(code):
    R0, axis = exp.random_loops(2, seeded())
    with pytest.raises(ValueError, match="no continuous lift"):
        exp.lift(code, torch.ones(3, WIDTH[code]))
    with pytest.raises(ValueError, match="no continuous lift"):
        exp.crossing(code, StackedMLP([9, 8, WIDTH[code]], [0]).member(0), R0, axis)


@pytest.mark.parametrize("code", exp.LIFTED)
@pytest.mark.parametrize("kind", ["untrained", "briefly trained", "sine"])
def test_every_loop_has_a_rotation_that_is_wrong_by_180_degrees(code, kind, trained):
    """The theorem holds for any continuous network: any weights, any activation."""
    if kind == "briefly trained":
        member = trained[code].member(1)
    else:
        member = StackedMLP([9, 16, 16, WIDTH[code]], [11]).member(0)
        if kind == "sine":
            member.append(Sine(WIDTH[code]))
    R0, axis = exp.random_loops(100, seeded(2))
    found = exp.crossing(code, member, R0, axis)
    assert found.error_degrees.min() > 180 - 1e-6
    assert found.rotation.dtype == torch.float64 and next(member.parameters()).dtype == torch.float32
    assert ((found.t > 0) & (found.t < 2 * pi)).all()
    assert torch.allclose(found.rotation, exp.along_loop(R0, axis, found.t))


class Sine(torch.nn.Module):
    """A smooth last layer that is far from any decoder's habits and keeps away from zero."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("shift", 2 + torch.arange(width, dtype=torch.float32))

    def forward(self, x):
        return torch.sin(5 * x) + self.shift


def test_few_halvings_do_not_reach_the_crossing(trained):
    R0, axis = exp.random_loops(100, seeded(2))
    assert exp.crossing("quaternion", trained["quaternion"].member(0), R0, axis, halvings=2).error_degrees.min() < 170


@pytest.mark.parametrize("code", ["6d", "quaternion"])
def test_worst_on_loops_finds_the_largest_error_on_a_grid(code, trained):
    R0, axis = exp.random_loops(5, seeded())
    member = trained[code].member(0)
    worst = exp.worst_on_loops(code, member, R0, axis, points=12)
    for k in range(5):
        loop = torch.stack([rotations.exp(R0[k], 2 * pi * i / 12 * axis[k]) for i in range(12)]).float()
        assert worst[k].item() == pytest.approx(exp.errors(code, member, loop).max().item(), abs=1e-2)


def test_a_continuous_code_escapes_the_theorem(trained):
    """A fine enough grid sees the quaternion fail on every loop; the continuous code is nowhere that wrong."""
    R0, axis = exp.random_loops(50, seeded())
    assert exp.worst_on_loops("6d", trained["6d"].member(0), R0, axis, points=60).max() < 60
    assert exp.worst_on_loops("quaternion", trained["quaternion"].member(0), R0, axis, points=5_000).min() > 90


# -------------------------------------------------------------------------------------- exact small experiments


@pytest.mark.parametrize("sigma", [0.01, 0.125])
def test_gram_schmidt_doubles_the_squared_error_of_svd(sigma):
    trial = exp.noise_trial(sigma, 40_000, seeded())
    svd, gram_schmidt = trial.svd.mean() / sigma**2, trial.gram_schmidt.mean() / sigma**2
    assert svd == pytest.approx(3, rel=0.03) and gram_schmidt == pytest.approx(6, rel=0.05)
    assert gram_schmidt / svd == pytest.approx(2, abs=0.05)
    assert (trial.gram_schmidt < trial.svd).double().mean() == pytest.approx(0.225, abs=0.01)
    assert torch.allclose(trial.svd, 8 * (trial.svd_angle / 2).sin() ** 2, atol=1e-9)
    assert torch.allclose(trial.gram_schmidt, 8 * (trial.gram_schmidt_angle / 2).sin() ** 2, atol=1e-9)


@pytest.mark.parametrize("code", rotations.CODES)
def test_only_low_dimensional_codes_have_unbounded_lipschitz_ratios(code):
    highest = [exp.lipschitz_ratios(code, t, 400, seeded()).at_cuts.max().item() for t in (0.1, 0.01, 0.001)]
    bound = {"6d": 2**0.5, "9d": 2**0.5, "10d": 2**0.5, "5d": 4.0}
    if code in bound:
        assert max(highest) <= bound[code] + 1e-9
    else:
        assert highest[1] > 5 * highest[0] and highest[2] > 5 * highest[1]


def test_lipschitz_pairs_are_at_the_stated_distance(monkeypatch):
    pairs = []
    monkeypatch.setattr(exp, "encode", lambda code, R: pairs.append(R) or encode(code, R))
    exp.lipschitz_ratios("9d", 0.01, 50, seeded())
    for a, b in zip(pairs[::2], pairs[1::2], strict=True):
        assert torch.allclose(rotations.geodesic_angle(a, b), torch.full((50,), 0.01, dtype=torch.float64), atol=1e-12)
    assert len(pairs) == 8


def test_confidence_is_the_davenport_gap():
    M = torch.randn(200, 3, 3, generator=seeded(), dtype=torch.float64)
    spectrum, gap = exp.confidence(M)
    s = torch.linalg.svdvals(M) * torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    s[:, 2] *= torch.linalg.det(M).sign()
    assert torch.allclose(gap, 2 * (s[:, 1] + s[:, 2]), atol=1e-10)
    assert torch.allclose(spectrum[:, 3], s.sum(-1), atol=1e-10)
    assert exp.confidence(haar(5))[1].tolist() == pytest.approx([4] * 5)


def test_confidence_curve_by_hand():
    """Twenty rotations; the size of M grows with the index and so does its gap; only the smallest are wrong."""
    R = haar(20)
    size = torch.arange(1, 21, dtype=torch.float64)
    wrong = rotations.exp(R, torch.tensor([0.5, 0, 0], dtype=torch.float64))
    M = size[:, None, None] * torch.where((size <= 2)[:, None, None], wrong, R)
    shuffled = torch.randperm(20, generator=seeded())
    gap, degrees = exp.confidence_curve(torch.nn.Identity(), R[shuffled], M[shuffled].flatten(-2))
    assert torch.allclose(gap, 4 * size.unflatten(0, (10, 2)).mean(-1))
    assert degrees.tolist() == pytest.approx([torch.rad2deg(torch.tensor(0.5)).item()] + [0] * 9, abs=1e-4)


def test_input_noise_reaches_the_network_but_not_the_target():
    settings = {"steps": 200, "batch": 64, "hidden": 64}
    R = haar(500).float()
    clean, noisy = (exp.train(["raw9"], [0, 1], noise=noise, **settings)["raw9"] for noise in (0.0, 1.0))
    assert (exp.errors("raw9", clean, R).mean(-1) < exp.errors("raw9", noisy, R).mean(-1)).all()
    seen = (R + exp.input_noise(500, 1.0, seeded(1))).flatten(-2)
    gap, degrees = exp.confidence_curve(noisy, R, seen)
    assert gap.shape == (2, 10)
    assert (gap[:, 0] < 0.6 * gap[:, 9]).all()  # doubt shrinks the answer
    assert (degrees[:, 0] > 1.5 * degrees[:, 9]).all()


def test_input_noise_has_its_own_deviation_per_matrix():
    deviation = exp.input_noise(4_000, 0.8, seeded()).square().mean((-1, -2)).sqrt()
    assert deviation.mean() == pytest.approx(0.4, abs=0.02)
    assert deviation.min() < 0.02 and 0.7 < deviation.max() < 1.4


def test_other_sheet_share_counts_answers_of_the_other_sign():
    class Half(torch.nn.Module):
        def forward(self, x):
            sign = torch.where(torch.arange(len(x)) < 30, -1.0, 1.0)
            return torch.stack([rotations.to_quaternion(x.unflatten(-1, (3, 3))) * sign[:, None] * f for f in (1, 2)])

    assert exp.other_sheet_share(Half(), haar(120)).tolist() == pytest.approx([0.25, 0.25])


def test_ten_numbers_and_nine_numbers_decode_alike():
    M = torch.randn(2_000, 3, 3, generator=seeded(), dtype=torch.float64)
    M = M[exp.confidence(M)[1] > 1e-2]
    assert (torch.linalg.det(M) < 0).double().mean() > 0.4  # the identity holds for both signs
    A = exp.bingham_from_matrix(M)
    assert torch.allclose(rotations.from_10d_eigh(A), rotations.from_9d_svd(M.flatten(-2)), atol=1e-9)
    dead = torch.tensor([1.0, 0, 0, 0, 1, 0, 0, 1, 0, 1], dtype=torch.float64)  # the identity matrix
    assert torch.allclose(rotations.from_10d(A + 3 * dead), rotations.from_10d_eigh(A), atol=1e-9)


def test_interactive_networks_are_small_json_that_works_without_torch():
    data = exp.interactive_networks(200, seed=3)
    assert len(json.dumps(data)) < 60_000
    R = haar(200).float()
    network = exp.train(["quaternion", "6d"], [3], steps=200, hidden=32, layers=2)
    mean = {}
    for code, layers in data["networks"].items():
        assert [len(layer["bias"]) for layer in layers] == [32, 32, WIDTH[code]]
        shown = exp.interactive_errors(data, code, R)
        assert (shown - exp.errors(code, network[code], R)[0]).abs().median() < 0.3  # four digits are enough
        mean[code] = shown.mean()
    assert mean["6d"] < 25 and mean["6d"] < mean["quaternion"] < 60


# ------------------------------------------------------- wrong variants and defects of the released code


def test_full_angle_decoder_turns_twice_too_far():
    small = rotations.project(exp.small_rotations(100, 1.5, seeded()).double())
    wrong = exp.axis_angle_full_angle_released(rotations.to_axis_angle(small))
    assert torch.allclose(wrong, small @ small, atol=1e-6)
    assert rotations.geodesic_angle(wrong, small).max() > 1


def test_half_quaternion_is_a_no_op():
    x = torch.randn(1_000, 4, generator=seeded(), dtype=torch.float64)
    assert torch.allclose(exp.half_quaternion_released(x), rotations.from_quaternion(x), atol=1e-14)


def test_unnormalised_sines_do_not_decode_to_a_rotation():
    x = torch.randn(100, 6, generator=seeded(), dtype=torch.float64)
    R = exp.euler_sin_cos_released(x)
    assert (R.mT @ R - EYE).abs().amax((-1, -2)).median() > 0.3
    # with honest sines and cosines the same nine products are a rotation: only the normalisation is missing
    e = torch.randn(100, 3, generator=seeded(1), dtype=torch.float64)
    honest = torch.stack([e.sin(), e.cos()], -1).flatten(-2).atanh()
    R = exp.euler_sin_cos_released(honest)
    assert torch.allclose(R.mT @ R, EYE.expand(100, 3, 3), atol=1e-12)


def test_released_script_trains_euler_three_times_too_often():
    asked = ("ortho6d", "ortho5d", "Quaternion", "AxisAngle", "euler", "Rodriguez-vectors", "euler_sin_cos")
    assert [c for c in asked if exp.trained_by_released_script(c) == "euler"] == list(asked[-3:])
    assert exp.trained_by_released_script("Quaternion_half") == "euler"
    with pytest.raises(ValueError, match="code is 'hopf'"):
        exp.trained_by_released_script("hopf")


def test_arccos_angle_has_no_finite_gradient_at_a_perfect_prediction():
    R = torch.eye(3).requires_grad_()
    (wrong,) = torch.autograd.grad(exp.angle_arccos(R, torch.eye(3)), R)
    (right,) = torch.autograd.grad(rotations.geodesic_angle(R, torch.eye(3)), R)
    assert not wrong.isfinite().all()
    assert right.isfinite().all()
    Q = haar(50)
    assert torch.allclose(exp.angle_arccos(Q, EYE), rotations.geodesic_angle(Q, EYE), atol=1e-7)


# ----------------------------------------------------------------------------------------------------- settings


def test_every_scale_names_the_same_experiments_and_smoke_runs_them():
    required = set(SMOKE)
    assert set(exp.SETTINGS) == {"smoke", "ci", "full"}
    assert all(required <= set(settings) for settings in exp.SETTINGS.values())
    seeds = list(range(SMOKE["seeds"]))
    for code, network in exp.train(["6d", "euler"], seeds, **SMOKE["sanity"]).items():
        assert exp.errors(code, network, haar(SMOKE["test_rotations"]).float()).shape == (2, SMOKE["test_rotations"])
    sampler = partial(exp.small_rotations, max_angle=radians(45))
    assert set(exp.train(["rotvec"], seeds, sampler=sampler, **SMOKE["small_angles"])) == {"rotvec"}
    assert set(exp.train([exp.RANDOM_SIGN], seeds, **SMOKE["targets"])) == {exp.RANDOM_SIGN}
    assert set(exp.train(["raw9", "9d"], seeds, **SMOKE["confidence"])) == {"raw9", "9d"}
    assert set(exp.interactive_networks(**SMOKE["interactive"])) == {"networks", "slope"}
    released = exp.SETTINGS["full"]["sanity_as_released"]
    assert released == {"steps": 500_000, "batch": 64, "schedule": "released"}
