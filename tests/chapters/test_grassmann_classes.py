"""The experiments of the page on classes as subspaces: that they compute what the page says, at smoke size."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from repgeom import data
from repgeom.chapters import grassmann_classes as gcr
from repgeom.manifolds import grassmann
from repgeom.nn.grassmann import VectorClassifier
from repgeom.theory import frames


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def toy(n: int = 300, seed: int = 0) -> gcr.Split:
    """Three classes, each along a plane of R^12 with a little noise; not separable by signed directions."""
    planes = grassmann.random(3, generator(1), size=12, subspace_dim=2)
    y = torch.arange(n) % 3
    inside = torch.randn(n, 2, 1, generator=generator(seed))
    x = (planes[y] @ inside)[..., 0] + 0.05 * torch.randn(n, 12, generator=generator(seed + 1))
    half = n // 2
    return gcr.Split(x[:half], y[:half], x[half:], y[half:])


# ---------------------------------------------------------------------------------------------------------------- data


def test_digits_are_split_without_overlap_and_by_the_seed() -> None:
    a, b, c = gcr.digits(0), gcr.digits(0), gcr.digits(1)
    assert len(a.x) == 1200 and len(a.test_x) == 597
    assert torch.equal(a.x, b.x) and not torch.equal(a.x, c.x)
    both = torch.cat([a.x, a.test_x])
    assert float(both.sum()) == pytest.approx(float(torch.cat([c.x, c.test_x]).sum()), rel=1e-6)
    assert float(both.max()) == 1 and float(both.min()) == 0


def test_without_data_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(name: str, **options: object) -> None:
        raise data.DataUnavailable(f"no {name}")

    monkeypatch.setattr(data, "load", unavailable)
    assert gcr.mnist_pixels(0, 100) is None
    assert gcr.cifar_features(10, 8, 16) is None


@pytest.mark.skipif(not data.available("mnist"), reason="MNIST is not on this machine")
def test_mnist_pixels() -> None:
    split = gcr.mnist_pixels(0, 500)
    assert split is not None
    assert split.x.shape == (500, 196) and split.test_x.shape == (2000, 196)
    assert 0 <= float(split.x.min()) and float(split.x.max()) <= 1


@pytest.mark.skipif(not data.available("cifar10"), reason="CIFAR-10 is not on this machine")
def test_cifar_features_are_white_on_the_training_half() -> None:
    found = gcr.cifar_features(30, 12, 20)
    assert found is not None and "CIFAR-10" in found[1]
    split = found[0]
    assert split.x.shape == split.test_x.shape == (300, 20)
    assert torch.allclose(split.x.T.cov(correction=0), torch.eye(20), atol=1e-2)
    assert split.y.bincount().tolist() == [30] * 10


def test_patch_features_ignore_brightness_and_contrast() -> None:
    images = torch.rand(4, 3, 32, 32, generator=generator())
    bank = gcr.whitened_patches(images, 5, generator(1))
    assert bank.shape == (5, 3, 6, 6)
    features = gcr.patch_features(images, bank)
    assert features.shape == (4, 40)
    assert torch.allclose(features, gcr.patch_features(0.5 * images + 0.2, bank), atol=1e-4)


# --------------------------------------------------------------------------------------------------------- no training


def test_longest_shadow_finds_planes_that_no_direction_could() -> None:
    split = toy()
    bases = gcr.class_bases(split.x, split.y, 2)
    assert gcr.shadow_accuracy(bases, split.test_x, split.test_y) > 0.95
    assert gcr.shadow_accuracy(bases[..., :1], split.test_x, split.test_y) < 0.9
    assert torch.allclose(bases.mT @ bases, torch.eye(2).expand(3, 2, 2), atol=1e-5)


def test_near_half_agrees_with_the_head() -> None:
    bases = [torch.eye(3)[:, :1], torch.eye(3)[:, 1:2], torch.eye(3)[:, 2:]]
    right, up, winner = gcr.near_half(bases, pixels=41)
    assert bool(winner[right**2 + up**2 > 1.001].isnan().all())
    assert float(winner[20, 20]) == 0 and float(winner[20, 39]) == 1 and float(winner[39, 20]) == 2


# ------------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("name", ["softmax", "cosine", "GCR-3", "frozen GCR-3", "EBV", "orthoplex", "random"])
def test_heads_by_name(name: str) -> None:
    head = gcr.make_head(name, 6, 8, seed=3)
    assert head(torch.ones(2, 6)).shape == (2, 8)
    learned = any(p.requires_grad for p in head.parameters())
    assert learned == (name in ("softmax", "cosine", "GCR-3"))
    for a, b in zip(head.state_dict().values(), gcr.make_head(name, 6, 8, seed=3).state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_code_books_are_what_they_are_called() -> None:
    assert frames.coherence(gcr.code_book("EBV", 10, 5, generator())) <= 1.25 * frames.welch_bound(10, 5) + 2e-4
    assert frames.coherence(gcr.code_book("orthoplex", 10, 5, None), signed=True) == 0
    assert torch.equal(gcr.code_book("one-hot", 4, 4, None), torch.eye(4))
    simplex = gcr.code_book("simplex", 4, 4, None)
    assert torch.allclose(simplex @ simplex.T, torch.eye(4) * 4 / 3 - 1 / 3, atol=1e-6)


def test_each_parameter_has_one_optimiser() -> None:
    features = gcr.backbone(12, 8, 0)
    for name, kinds in (("GCR-2", ["SGD", "GrassmannSGD"]), ("frozen GCR-2", ["SGD"]), ("softmax", ["SGD"])):
        head = gcr.make_head(name, 8, 3, 0)
        found = gcr.optimizers(features, head, 0.1)
        assert [type(o).__name__ for o in found] == kinds
        held = [id(p) for o in found for g in o.param_groups for p in g["params"]]
        wanted = [id(p) for p in (*features.parameters(), *head.parameters()) if p.requires_grad]
        assert sorted(held) == sorted(wanted)


@pytest.mark.parametrize("name", ["GCR-2", "frozen GCR-2", "softmax"])
def test_networks_learn_and_depend_on_the_seed_alone(name: str) -> None:
    split, state = toy(), torch.get_rng_state()
    first, again = (gcr.run(name, split, 12, 4, width=16, batch=32) for _ in range(2))
    assert first.losses == again.losses and first.accuracy == again.accuracy
    assert first.accuracy > 0.8 and first.losses[-1] < first.losses[0]
    assert torch.equal(state, torch.get_rng_state())
    before, after = gcr.make_head(name, 16, 3, 4).state_dict(), first.head.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before) == (name == "frozen GCR-2")


def test_rate_falls_like_a_cosine_for_both_optimisers() -> None:
    seen: list[tuple[float, ...]] = []
    features, head = gcr.backbone(12, 8, 0), gcr.make_head("GCR-2", 8, 3, 0)
    together = gcr.optimizers(features, head, 0.2)
    together[1].register_step_post_hook(lambda *_: seen.append(tuple(o.param_groups[0]["lr"] for o in together)))
    split = toy()
    gcr.train(features, head, split.x, split.y, 2, 0, lr=0.2, batch=50, together=together)
    expected = [0.1 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]
    assert [a for a, b in seen if a == b] == pytest.approx(expected)


def test_batches_cover_an_epoch() -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x[:, 0])
            return x

    x = torch.arange(40.0)[:, None].expand(40, 3).contiguous()
    gcr.train(Spy(), gcr.make_head("softmax", 3, 2, 0), x, torch.arange(40) % 2, 2, 0, lr=1e-6, batch=20)
    assert sorted(torch.cat(seen[:2]).tolist()) == sorted(torch.cat(seen[2:]).tolist()) == list(range(40))


def test_head_only_leaves_features_and_starts_equal() -> None:
    split = toy()
    free = gcr.Unconstrained(12, 3, 2, seed=5)
    bound = gcr.make_head("GCR-2", 12, 3, 5)
    assert torch.allclose(free(split.x), bound(split.x), atol=1e-4)
    for name in ("GCR-2", "unconstrained-2", "frozen GCR-2"):
        now = gcr.head_only(name, split, 10, 5)
        assert isinstance(now.features, nn.Identity)
        assert (now.accuracy > 0.9) == (name != "frozen GCR-2")
    S = gcr.head_only("unconstrained-2", split, 10, 5).head.weight.detach()
    assert float((S.mT @ S - torch.eye(2)).abs().max()) > 0.05  # nothing holds it on the manifold


# --------------------------------------------------------------------------------------------------------- measurements


def test_spread_and_separation_by_hand() -> None:
    z, y = torch.eye(4), torch.tensor([0, 0, 1, 1])
    assert gcr.within_class_angle(3 * z, y) == pytest.approx(90)
    assert gcr.class_separation(3 * z, y) == pytest.approx(1 / 3)
    collapsed = torch.eye(2)[y]
    assert gcr.within_class_angle(collapsed, y) == pytest.approx(0, abs=1e-3)
    assert gcr.class_separation(collapsed, y) == pytest.approx(1)


def test_separation_is_its_definition() -> None:
    z, y = torch.randn(60, 5, generator=generator()).double(), torch.arange(60) % 3
    d = 1 - gcr.unit(z) @ gcr.unit(z).T
    same = y[:, None] == y
    weights = 1 / y.bincount()[y].double()
    within = (d * same * (weights[:, None] * weights)).sum() / 3
    total = (d * (weights[:, None] * weights)).sum() / 9
    assert gcr.class_separation(z, y) == pytest.approx(float(1 - within / total))


def test_coarse_and_held_out_have_a_row_a_seed() -> None:
    splits, seeds = [gcr.digits(s) for s in (0, 1)], [0, 1]
    coarse = gcr.coarse(("GCR-2",), splits, 1, seeds)["GCR-2"]
    assert coarse.shape == (2, 4) and bool((coarse[:, 0] > 0.5).all())
    assert bool((coarse[:, 3] > 0.6).all())  # the fine label survives
    assert gcr.held_out(("softmax",), splits, 1, seeds)["softmax"].shape == (2,)


def test_probe_reads_what_is_linear() -> None:
    split = toy()
    target = (split.x[:, 0] > 0).long(), (split.test_x[:, 0] > 0).long()
    assert gcr.probe(nn.Identity(), split.x, target[0], split.test_x, target[1]) > 0.9


def test_tail_is_geometric_and_keeps_the_test_set() -> None:
    split = gcr.digits(0)
    tail = gcr.long_tail(split, 3)
    counts = sorted(tail.y.bincount().tolist())
    assert counts[0] == 3 and counts[-1] == 110 and sum(counts) == len(tail.x)
    ratios = torch.tensor(counts[1:]).double() / torch.tensor(counts[:-1])
    assert bool(((ratios > 1.2) & (ratios < 1.9)).all())
    assert torch.equal(tail.test_x, split.test_x)
    assert gcr.long_tail(split, 4).y.bincount().tolist() != tail.y.bincount().tolist()


def test_balanced_accuracy_weighs_classes_alike() -> None:
    """A head that always answers zero is right on one class of ten, however many examples that has."""
    always = VectorClassifier(torch.cat([torch.ones(1, 2), -torch.ones(9, 2)]))
    y = torch.cat([torch.zeros(90), torch.arange(1, 10)]).long()
    split = gcr.Split(torch.ones(2, 2), torch.tensor([0, 9]), torch.ones(len(y), 2), y)
    assert gcr.balanced_accuracy(gcr.Trained(nn.Identity(), always, 0.0, []), split) == pytest.approx(0.1)


def test_variants_reach_the_optimiser() -> None:
    split = gcr.digits(0)
    plain, never = (gcr.variant(split, 3, 0, reorthonormalize_every=k) for k in (5, 0))
    assert gcr.defect(plain.head) < gcr.defect(never.head) < 1e-4
    assert gcr.variant(split, 1, 0, order="accumulate").losses[-1] != gcr.variant(split, 1, 0).losses[-1]


def test_shared_counter_by_hand() -> None:
    assert gcr.shared_counter(1, 10).tolist() == [2]
    assert gcr.shared_counter(5, 4).tolist() == [4, 0, 0, 0, 0]
    assert gcr.shared_counter(2, 10).tolist() == [2, 2]  # harmless where heads and interval have no common factor


def test_resuming_with_the_state_is_exact_and_without_is_not() -> None:
    assert gcr.resumed(True) < 1e-12
    assert gcr.resumed(False) > 1e-2


def test_referee_agrees() -> None:
    split = toy()
    found = gcr.referee(split.x, split.y, 1, steps=150)
    assert found["ours"] < found["start"]
    assert found["ours"] <= 1.01 * found["pymanopt"] < found["start"]


# ----------------------------------------------------------------------------------------------------------- full scale


def small_images() -> gcr.Images:
    draw = generator()
    x = torch.randint(256, (60, 3, 32, 32), generator=draw, dtype=torch.uint8)
    y = torch.arange(60) % 10
    x[torch.arange(60), 0, 3 * y] = 255
    return gcr.Images(x[:40], y[:40], x[40:], y[40:], (x[:40], y[:40] // 2, x[40:], y[40:] // 2))


@pytest.mark.skipif(not (data.available("cifar10") and data.available("mnist")), reason="no CIFAR-10 or MNIST here")
def test_real_images_have_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    load = data.load
    monkeypatch.setattr(data, "load", lambda name: load(name, per_class=3) if name == "cifar10" else load(name))
    images = gcr.cifar10_and_mnist()
    assert images.x.shape == images.test_x.shape == (30, 3, 32, 32) and images.x.dtype == torch.uint8
    assert images.probe[0].shape == images.probe[2].shape == (5000, 3, 32, 32) and images.probe[1].max() == 9


def test_superclasses_to_train_on_and_classes_to_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.zeros(6, 3, 32, 32, dtype=torch.uint8).numpy(), torch.arange(6)
    made = data.Cifar100(x, y.numpy(), x, y.numpy(), (y // 3).numpy(), (y // 3).numpy(), (), (), "made up")
    monkeypatch.setattr(data, "load", lambda name: made)
    images = gcr.cifar100_coarse()
    assert images.y.tolist() == images.test_y.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.probe[1].tolist() == images.probe[3].tolist() == list(range(6))


def test_table_runs_resumes_and_does_not_trust_another_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcr, "RESNET_HEADS", ("softmax", "frozen GCR-2"))
    schedule, cpu = {"width": 4, "epochs": 2, "seeds": 1}, torch.device("cpu")
    first = gcr.resnet_table(small_images(), schedule, cpu, tmp_path)
    assert [row["head"] for row in first] == ["softmax", "frozen GCR-2"]
    for row in first:
        assert set(row) == {"head", "seed", "accuracy", "angle", "separation", "probe"}
        assert 0 <= row["accuracy"] <= 1 and 0 < row["angle"] < 180
    runs: list[str] = []
    monkeypatch.setattr(gcr, "resnet_run", lambda name, *_: runs.append(name) or {"accuracy": 0.5})
    assert gcr.resnet_table(small_images(), schedule, cpu, tmp_path) == first and not runs
    (tmp_path / "softmax-0.json").unlink()
    gcr.resnet_table(small_images(), schedule, cpu, tmp_path)
    assert runs == ["softmax"]
    gcr.resnet_table(small_images(), schedule | {"epochs": 3}, cpu, tmp_path)
    assert runs == ["softmax", "softmax", "frozen GCR-2"]
    assert json.loads((tmp_path / "softmax-0.json").read_text())["schedule"]["epochs"] == 3


def test_scales_have_the_same_schedules() -> None:
    assert gcr.SETTINGS["ci"].keys() == gcr.SETTINGS["smoke"].keys() == gcr.SETTINGS["full"].keys()


def test_quoted_table_is_consistent() -> None:
    for top, angle, r2, probes, printed in gcr.TABLE3.values():
        assert len(probes) == 6 and abs(sum(probes) / 6 - printed) < 0.0051
        assert 70 < top < 80 and 50 < angle < 70 and 0.3 < r2 < 0.6
