"""The backbone: its shape, its size, and that its weights depend on the seed alone."""

import pytest
import torch

from repgeom.nn.resnet import ResNet18, random_crops


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


def test_crops_move_by_at_most_four_pixels_and_half_are_mirrored() -> None:
    images = torch.zeros(400, 3, 32, 32, dtype=torch.uint8)
    images[:, :, 16, 10] = 255
    moved = random_crops(images, torch.Generator().manual_seed(0))
    where = moved[:, 0].flatten(1).argmax(1)
    rows, columns = where // 32, where % 32
    assert moved.shape == images.shape and bool((moved.sum((1, 2, 3)) == 3 * 255).all())
    assert rows.min() == 12 and rows.max() == 20
    straight, mirrored = (columns - 10).abs() <= 4, (columns - 21).abs() <= 4
    assert bool((straight ^ mirrored).all()) and 150 < int(straight.sum()) < 250
    assert len(rows.unique()) == 9
    again = random_crops(images, torch.Generator().manual_seed(0))
    assert torch.equal(moved, again) and moved.dtype == torch.uint8
    still = random_crops(images, torch.Generator().manual_seed(0), padding=0)
    assert bool(((still == images).flatten(1).all(1) | (still == images.flip(-1)).flatten(1).all(1)).all())


def test_crops_are_checked() -> None:
    with pytest.raises(ValueError, match="images, padding: received shape"):
        random_crops(torch.zeros(3, 32, 32))
