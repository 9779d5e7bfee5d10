"""The backbone: its shape, its size, and that its weights depend on the seed alone."""

import pytest
import torch

from repgeom.nn.resnet import ResNet18


def test_size_is_that_of_the_usual_network() -> None:
    net = ResNet18()
    assert sum(p.numel() for p in net.parameters()) == 11_168_832  # 11 173 962 with a linear layer to ten classes
    assert net.out_features == 512


def test_features_have_the_promised_width_at_any_size() -> None:
    net = ResNet18(width=4).eval()
    assert net(torch.zeros(2, 3, 32, 32)).shape == net(torch.zeros(2, 3, 20, 24)).shape == (2, net.out_features)


def test_weights_depend_on_the_seed_alone() -> None:
    state = torch.get_rng_state()
    a, b, c = (torch.cat([p.flatten() for p in ResNet18(4, seed).parameters()]) for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(state, torch.get_rng_state())


def test_every_stage_halves_the_image_but_the_first() -> None:
    x, sizes = torch.zeros(1, 3, 32, 32), []
    for layer in ResNet18(width=2).eval():
        x = layer(x)
        if type(layer).__name__ == "_Block":
            sizes.append(x.shape[-1])
    assert sizes == [32, 32, 16, 16, 8, 8, 4, 4]


def test_width_is_checked() -> None:
    with pytest.raises(ValueError, match="width: received 0"):
        ResNet18(width=0)
