"""ResNet-18 for small images, the usual backbone of experiments on CIFAR, and the crops it is usually trained on."""

from typing import cast

import torch
from torch import Tensor, nn


class _Block(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation, added to the input (or to a 1 x 1 convolution of it)."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return cast(Tensor, (y + self.shortcut(x)).relu())


class ResNet18(nn.Sequential):
    r"""Features (B, 8 width) of images (B, 3, H, W): a 3 x 3 stem without pooling, four stages of two blocks, the mean.

    Convolutions start as in He et al. 2015 with fan-out; everything is drawn from the seed.

    Args:
        width: channels of the first stage; 64 is the usual network, whose features have length 512.
        seed: of the weights.

    Raises:
        ValueError: width below one.

    Source: He et al. 2016, "Deep residual learning", with the stem that is customary on 32 x 32 images.

    >>> ResNet18(width=4)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 32])
    """

    def __init__(self, width: int = 64, seed: int = 0) -> None:
        if width < 1:
            raise ValueError(f"width: received {width}; valid is a positive integer. Repair: width=64.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # nn.Conv2d takes no generator
            layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
            for stage in range(4):
                now = width * 2**stage
                layers += [_Block(before, now, 1 if stage == 0 else 2), _Block(now, now, 1)]
                before = now
            super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.out_features = 8 * width


def random_crops(images: Tensor, generator: torch.Generator | None = None, padding: int = 4) -> Tensor:
    r"""Each image shifted by up to ``padding`` pixels either way, with zeros from outside, and half of them mirrored.

    Args:
        images: (B, C, H, W) of any dtype.
        generator: source of randomness; it must live on the device of the images. The global one if omitted.
        padding: largest shift in pixels.

    Returns:
        (B, C, H, W) of the same dtype.

    Raises:
        ValueError: wrong number of dimensions, or padding negative.

    Source: He et al. 2016, section 4.2.

    >>> random_crops(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
    torch.Size([2, 3, 32, 32])
    """
    if images.dim() != 4 or padding < 0:
        raise ValueError(
            f"images, padding: received shape {tuple(images.shape)} and {padding}; valid are (B, C, H, W) and >= 0. "
            "Repair: images[None] for a single one."
        )
    B, _, H, W = images.shape
    device = images.device
    rows, columns = torch.randint(2 * padding + 1, (2, B, 1), generator=generator, device=device)
    mirrored = torch.rand(B, 1, generator=generator, device=device) < 0.5
    i, j = rows + torch.arange(H, device=device), columns + torch.arange(W, device=device)
    j = torch.where(mirrored, j.flip(1), j)
    padded = nn.functional.pad(images, (padding,) * 4)
    return padded[torch.arange(B, device=device)[:, None, None], :, i[:, :, None], j[:, None, :]].movedim(-1, 1)
