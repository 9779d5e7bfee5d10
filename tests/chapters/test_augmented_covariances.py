"""The experiments of the page on covariances with delays: that they compute what the page says, at smoke size."""

import json
import math
from pathlib import Path

import pytest
import torch

from repgeom.chapters import augmented_covariances as augmented
from repgeom.manifolds.spd import affine_invariant, bures_wasserstein, log_euclidean


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def signals(n: int, channels: int = 8, samples: int = 125, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, channels, samples, generator=generator(seed), dtype=torch.float64).cumsum(-1)


# ------------------------------------------------------------------------------------------------ signals and delays


def test_embedding_stacks_the_past_and_drops_what_has_none() -> None:
    x = torch.arange(12.0).reshape(2, 6)
    z = augmented.delay_embedding(x, order=3, lag=2)
    assert z.shape == (6, 2)
    assert z[:, 0].tolist() == [4, 10, 2, 8, 0, 6]  # both channels now, then two and four samples ago
    assert torch.equal(augmented.delay_embedding(x, 1), x)


@pytest.mark.parametrize(("order", "lag"), [(0, 1), (1, 0), (6, 1), (3, 3)])
def test_embedding_refuses_orders_that_leave_no_two_samples(order: int, lag: int) -> None:
    with pytest.raises(ValueError, match="order, lag"):
        augmented.delay_embedding(torch.zeros(2, 6), order, lag)


def test_augmented_covariance_of_a_cosine() -> None:
    omega = 2 * math.pi / 25
    S = augmented.augmented_covariance(torch.cos(omega * torch.arange(25_004.0).double())[None], order=2, lag=4)
    c = math.cos(4 * omega)
    assert torch.allclose(S, torch.tensor([[1, c], [c, 1]], dtype=torch.float64) / 2, atol=1e-3)


def test_covariance_is_the_textbook_one() -> None:
    x = signals(3)
    assert torch.allclose(augmented.covariance(x)[1], x[1].cov())
    assert torch.allclose(augmented.covariance(x, 0.5)[1], x[1].cov() + 0.5 * torch.eye(8, dtype=torch.float64))


def test_autocovariances_of_a_constant_sign_pattern() -> None:
    x = torch.tensor([1.0, -1.0]).repeat(50)[None, None]
    assert torch.allclose(augmented.autocovariances(x, 3), torch.tensor([[1.0, -1.0, 1.0, -1.0]]))


def test_stand_ins_have_the_labels_and_rhythms_of_the_real_ones() -> None:
    trials, labels = augmented.stand_in_ssvep(2, generator())
    assert trials.shape == (2, 500, 8, 125)
    assert all(labels[100 * s : 100 * s + 100].bincount().tolist() == [20, 20, 24, 20, 16] for s in range(5))
    assert bool((labels.view(-1, 4) == labels[::4, None]).all())
    t = torch.arange(125) / augmented.RATE
    for k, frequency in enumerate(augmented.FREQUENCIES):  # the class has most power at its own frequency
        wave = torch.exp(2j * math.pi * frequency * t).to(torch.complex128)
        power = (trials.to(torch.complex128) @ wave).abs().square().mean((0, 2))
        assert int(torch.stack([power[labels == c].mean() for c in range(5)]).argmax()) == k


def test_load_falls_back_on_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(name: str, **options: object) -> None:
        raise augmented.data.DataUnavailable(f"no {name}")

    monkeypatch.setattr(augmented.data, "load", unavailable)
    trials, labels, real = augmented.load_ssvep((1, 2), generator())
    assert (len(trials), len(labels), real) == (2, 500, False)


# ------------------------------------------------------------------------------------------------------- the dial


def two_classes(n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Covariances that differ in the smallest direction only."""
    labels = torch.arange(n) % 2
    x = torch.randn(n, 3, 200, generator=generator(), dtype=torch.float64) * torch.tensor([10.0, 1.0, 0.01])[:, None]
    x[labels == 1, 2] *= 1.5
    return augmented.covariance(x), labels


def test_readings_see_a_small_direction_unless_they_weigh_by_variance() -> None:
    X, labels = two_classes()
    train = torch.arange(40) < 20
    assert augmented.tangent_accuracy(X, labels, train) > 0.9
    for space in (affine_invariant, log_euclidean):
        assert augmented.nearest_mean_accuracy(space, X, labels, train) > 0.8
    assert augmented.nearest_mean_accuracy(bures_wasserstein, X, labels, train) < 0.8


def test_turned_features_give_the_same_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    X, labels = two_classes()
    train = torch.arange(40) % 4 < 2
    whiten = augmented.inv_sqrtm(affine_invariant.mean(X[train], steps=1))
    V = augmented.LogEig()(whiten @ X @ whiten).numpy()
    plain = LogisticRegression(max_iter=200).fit(V[train], labels[train].numpy()).score(V[~train], labels[~train])
    assert augmented.tangent_accuracy(X, labels, train) == pytest.approx(plain)


def test_dial_has_one_row_a_person_and_its_condition_numbers_grow() -> None:
    trials, labels = augmented.stand_in_ssvep(2, generator())
    found = augmented.dial(trials[:, ::5], labels[::5], (1, 2), augmented.SESSIONS[::5] < 3)
    assert set(found) == {*augmented.READINGS, "condition"}
    assert found["condition"].shape == (2, 2)
    assert bool((found["condition"][:, 1] > found["condition"][:, 0]).all())


# ------------------------------------------------------------------------------------------------------ the network


@pytest.mark.parametrize("training", [True, False])
def test_composed_front_is_the_front_layer_by_layer(training: bool) -> None:
    x = signals(6)
    nets = [augmented.SsvepNet(None, 3).double().train(training) for _ in range(2)]
    with torch.no_grad():
        for net in nets:
            for norm in (net.norm1, net.norm2):
                norm.running_mean.normal_(generator=generator(1))
                norm.running_var.uniform_(0.5, 2, generator=generator(2))
    slow, fast = nets[0].plain(x), nets[1].covariances(x)
    assert torch.allclose(slow, fast, rtol=1e-10)
    weights = torch.randn(slow.shape, generator=generator(4), dtype=torch.float64)
    for S in (slow, fast):
        (S * weights).sum().backward()
    for (name, a), b in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        if a.grad is not None and b.grad is not None:
            assert torch.allclose(a.grad, b.grad, rtol=1e-7, atol=1e-9), name
    assert nets[0].conv1.weight.grad is not None and nets[1].conv1.weight.grad is not None
    for a, b in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
        assert a.dtype == torch.int64 or torch.allclose(a, b, rtol=1e-10)


def test_convolution_then_covariance_is_a_bilinear_map() -> None:
    x, filters = signals(2), torch.randn(4, 8, 5, generator=generator(1), dtype=torch.float64)
    convolved = augmented.covariance(torch.nn.functional.conv1d(x, filters))
    F = filters.flip(-1).permute(0, 2, 1).flatten(1)
    assert torch.allclose(convolved, F @ augmented.augmented_covariance(x, 5) @ F.mT, rtol=1e-9)


def test_methods_start_from_the_same_weights_and_every_one_trains() -> None:
    trials, labels = augmented.stand_in_ssvep(1, generator())
    x, train = trials[0, ::5], augmented.SESSIONS[::5] < 3
    start = [augmented.SsvepNet(norm, 7) for norm in augmented.METHODS.values()]
    for net in start[1:]:
        assert torch.equal(net.conv2.weight, start[0].conv2.weight)
        assert torch.equal(net.spd.features[0].weight, start[0].spd.features[0].weight)
        assert torch.equal(net.spd.classifier.weight, start[0].spd.classifier.weight)
    assert not torch.equal(start[0].conv1.weight, augmented.SsvepNet(None, 8).conv1.weight)
    for (name, norm), before in zip(augmented.METHODS.items(), start, strict=True):
        after = augmented.train_ssvep(norm, x, labels[::5], train, 7, steps=2)
        assert not torch.equal(after.spd.features[0].weight, before.spd.features[0].weight), name
        found = augmented.judge_ssvep(after, x, labels[::5])
        assert 0 <= found["accuracy"] <= 1 and found["entering"] >= 1
        assert ("G" in found) == (norm is not None) and ("M" in found) == (name == "GBWBN")


def test_network_learns_a_rhythm() -> None:
    trials, labels = augmented.stand_in_ssvep(1, generator())
    train = augmented.SESSIONS < 3
    net = augmented.train_ssvep(augmented.METHODS["SPDNetBN"], trials[0], labels, train, 0, steps=40)
    assert augmented.judge_ssvep(net, trials[0][~train], labels[~train])["accuracy"] > 0.35  # chance 0.24


def test_loudness_is_a_ratio_of_powers() -> None:
    quiet = signals(100)[None]
    loud = quiet.clone()
    loud[:, :20] *= 10
    assert torch.allclose(augmented.loudness(7 * quiet), augmented.loudness(quiet))
    assert float(augmented.loudness(loud)) > 20 * float(augmented.loudness(quiet))


def test_session_splits_are_the_ten_choices_of_three() -> None:
    splits = augmented.session_splits(10)
    assert len(set(splits)) == 10 and all(len(set(split)) == 3 for split in splits)
    assert {s for split in splits for s in split} == set(range(5))


def test_table_resumes_and_does_not_trust_another_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials, labels = augmented.stand_in_ssvep(2, generator())
    monkeypatch.setattr(augmented, "METHODS", {"none": None})
    trained: list[int] = []
    monkeypatch.setattr(augmented, "train_ssvep", lambda *a: trained.append(a[4]))
    monkeypatch.setattr(augmented, "judge_ssvep", lambda *a: {"accuracy": 0.25 * len(trained)})
    first = augmented.ssvep_table((4, 9), trials, labels, 2, 3, folder=tmp_path)
    assert list(first) == ["4:0", "4:1", "9:0", "9:1"] and trained == [0, 1, 0, 1]
    assert augmented.ssvep_table((4, 9), trials, labels, 2, 3, folder=tmp_path) == first and len(trained) == 4
    (tmp_path / "ssvep-9-1.json").unlink()
    augmented.ssvep_table((4, 9), trials, labels, 2, 3, folder=tmp_path)
    assert len(trained) == 5
    augmented.ssvep_table((4, 9), trials, labels, 2, 4, folder=tmp_path)
    assert len(trained) == 9
    assert json.loads((tmp_path / "ssvep-4-0.json").read_text())["schedule"]["steps"] == 4
    assert augmented.by_subject(first)["none"] == [0.375, 0.875]


def test_a_failed_training_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    trials, labels = augmented.stand_in_ssvep(1, generator())

    def fails(*arguments: object) -> None:
        raise ValueError("X: received a matrix with eigenvalue -1")

    monkeypatch.setattr(augmented, "train_ssvep", fails)
    found = augmented.ssvep_table((1,), trials, labels, 1, 1)["1:0"]["GBWBN"]
    assert found == {"accuracy": 48 / 200, "failed": 1.0}


# ------------------------------------------------------------------------------------------------------------- EMG


def test_windows_hold_one_gesture_and_follow_the_ones_before() -> None:
    (windows, before, labels), (second, _, _) = augmented.emg_windows()
    assert windows.shape == (len(labels), 8, 100) == before.shape and 400 < len(second) < 460
    assert labels.bincount().min() > 80
    whole = torch.cat([before, windows], -1)[0]
    emg = augmented.data.load("emg", progress=False)
    signal = torch.from_numpy(emg.signal[emg.recordings == emg.recording_names.index("mg_s1")]).double().T
    start = int((signal[:, :20_000].unfold(-1, 200, 400) == whole[:, None]).all(-1).all(0).nonzero()[0]) * 400
    assert torch.equal(signal[:, start : start + 200], whole)


def test_affine_invariant_normalisation_is_blind_to_the_unit_and_the_bare_network_is_not() -> None:
    (windows, _, labels), _ = augmented.emg_windows()
    X = augmented.covariance(windows[::4])
    nets = {
        (name, c): augmented.train_emg(augmented.METHODS[name], c * X, labels[::4], 0, 15)
        for name in ("none", "SPDNetBN")
        for c in (1.0, 1e-4)
    }
    scores = {key: net.train()(key[1] * X).detach() for key, net in nets.items()}  # by the batch's own mean
    assert torch.allclose(scores["SPDNetBN", 1.0], scores["SPDNetBN", 1e-4], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(scores["none", 1.0], scores["none", 1e-4], rtol=0.05, atol=0.05)


def test_emg_accuracies_have_units_and_seeds() -> None:
    found = augmented.emg_accuracies(("none",), (1, 0.1), (0, 1, 2), steps=2)
    assert found["none"].shape == (2, 3)
    assert not torch.equal(found["none"][:, 0], found["none"][:, 1])


# ---------------------------------------------------------------------------------------------------------- FCCov


def by_loops(X: torch.Tensor, D: torch.Tensor) -> float:
    n, total = len(X), 0.0
    for j in range(n):
        for k in range(n):
            total += float(((X - X.mean(0)) * (D[:, j] <= D[k, j])[:, None]).mean(0).square().sum())
    return total / n**2


@pytest.mark.parametrize("ties", [False, True])
def test_fccov_is_its_definition(ties: bool) -> None:
    X = torch.randn(12, 2, generator=generator(), dtype=torch.float64)
    y = torch.randn(12, 3, generator=generator(1), dtype=torch.float64)
    y = (2 * y).round() if ties else y
    D = torch.cdist(y, y)
    assert float(augmented.fccov(X, augmented.neighbourhoods(D))) == pytest.approx(by_loops(X, D), abs=1e-14)


def test_fccov_knows_the_order_of_distances_only_and_sees_dependence() -> None:
    y = torch.randn(200, 1, generator=generator())
    D = torch.cdist(y, y)
    values = [float(augmented.fccov(y, augmented.neighbourhoods(f(D)))) for f in (torch.clone, torch.square, torch.exp)]
    assert values[0] == values[1] == values[2]
    unrelated = torch.randn(200, 1, generator=generator(1))
    assert values[0] > 10 * float(augmented.fccov(unrelated, augmented.neighbourhoods(D)))
    assert augmented.permutation_p(y, y, 19, generator(2)) == 0.05
    assert augmented.permutation_p(unrelated, y, 19, generator(2)) > 0.05


def test_responses_move_with_g_alone_and_outliers_are_as_many_as_asked() -> None:
    X, g, S = augmented.spd_responses(4000, 0)
    assert torch.equal(g, X[:, 0] ** 2 + X[:, 1])
    assert augmented.spearman(augmented.first_component(S.flatten(1)).abs(), g.sub(g.mean()).abs()) > 0.5
    wild = augmented.spd_responses(4000, 0, outliers=0.1)[2]
    assert 0.07 < float((wild != S).any(-1).any(-1).double().mean()) < 0.13


def test_fccov_network_finds_the_direction() -> None:
    g, ours, theirs = augmented.recovered(150, 0, 80, 0.0)
    assert g.shape == ours.shape == theirs.shape == (500,)
    assert abs(augmented.spearman(ours, g)) > 0.7


def test_neighbour_regression_by_hand() -> None:
    features, V = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([[0.0], [2.0], [7.0]])
    error = augmented.neighbour_regression(features, V, torch.tensor([[0.4]]), torch.tensor([[3.0]]), neighbours=2)
    assert error == pytest.approx(4.0)
