"""Residual networks on the Poincaré ball for small images, and their ordinary twin."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from repgeom.manifolds.checks import require_real
from repgeom.nn.poincare.layers import Initialisation, PoincareClassifier, PoincareConv2d, curvature
from repgeom.nn.poincare.norm import PoincareBatchNorm2d, tangent_add

Layer = Callable[..., nn.Module]


class _Block(nn.Module):
    """z = F(x) (+) x, then ReLU; F is convolution, norm, ReLU, convolution, norm. The sum is over channels."""

    def __init__(self, conv: Layer, norm: Layer, before: int, width: int, stride: int, c: float | None) -> None:
        super().__init__()
        self.c = c
        self.conv1, self.norm1 = conv(before, width, 3, stride, 1), norm(width)
        self.conv2, self.norm2 = conv(width, width, 3, 1, 1), norm(width)
        self.shortcut = conv(before, width, 1, stride, 0) if stride != 1 or before != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        x = self.shortcut(x)
        return (y + x if self.c is None else tangent_add(y, x, self.c)).relu()


def _uniform(module: nn.Module, generator: torch.Generator | None) -> None:
    """The usual start of nn.Conv2d and nn.Linear, U(-1, 1) / sqrt(fan-in), drawn from the generator."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        bound = module.weight[0].numel() ** -0.5
        for parameter in module.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)


class PoincareResNet(nn.Module):
    r"""A residual network of depth 6n + 2 whose every layer acts on the Poincaré ball, from the pixels on.

    A 3 x 3 convolution of the pixels, taken as tangent vectors at the origin; three groups of n blocks, the second and
    third begin with stride 2; the mean of tangent vectors; logits are signed distances to hyperplanes. A block is
    ReLU(F(x) (+) x), F = norm(conv(ReLU(norm(conv(x))))); where the shape changes, x goes through a 1 x 1 convolution
    without norm. ReLU acts on tangent vectors.

    Args:
        depth: 6n + 2 for n >= 1: 8, 14, 20, 26, 32, ...
        widths: channels of the three groups.
        classes: how many.
        c: minus the curvature, >= 0. At 0 the same layers are a Euclidean network whose norm has one scale.
        in_channels: of the images.
        initialisation: of all convolutions and the classifier, as in :class:`PoincareLinear`.
        euclidean: the ordinary network of the same shape instead: nn.Conv2d with bias, nn.BatchNorm2d, nn.Linear.
        conv: class of the convolutions, a :class:`PoincareConv2d` or a variant of it.
        norm: class of the norms, a :class:`PoincareBatchNorm2d` or a variant of it.
        generator: source of random weights; the global one if omitted.

    Raises:
        ValueError: depth not 6n + 2, not three positive widths, c negative; in ``forward`` not images.

    Source: van Spengler, Berkhout & Mettes 2023, "Poincaré ResNet"; shape of He et al. 2016 for CIFAR.

    >>> model = PoincareResNet(8, widths=(2, 4, 8))
    >>> model(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        depth: int,
        widths: Sequence[int] = (8, 16, 32),
        classes: int = 10,
        c: float = 0.1,
        *,
        in_channels: int = 3,
        initialisation: Initialisation = "identity",
        euclidean: bool = False,
        conv: Layer = PoincareConv2d,
        norm: Layer = PoincareBatchNorm2d,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2 or len(widths) != 3 or min(*widths, classes, in_channels) < 1:
            raise ValueError(
                f"depth, widths, classes, in_channels: received {depth}, {tuple(widths)}, {classes} and {in_channels}; "
                "valid are depth = 6n + 2 >= 8, three positive widths and positive numbers. Repair: depth=20."
            )
        self.c, self.euclidean = curvature(c), euclidean

        def convolution(before: int, width: int, kernel: int, stride: int, padding: int) -> nn.Module:
            if euclidean:
                return nn.Conv2d(before, width, kernel, stride, padding)
            start: dict[str, Any] = {"initialisation": initialisation, "generator": generator}
            return conv(before, width, kernel, stride, padding, c, **start)

        def normalisation(width: int) -> nn.Module:
            return nn.BatchNorm2d(width) if euclidean else norm(width, c)

        self.conv, self.norm = convolution(in_channels, widths[0], 3, 1, 1), normalisation(widths[0])
        blocks, before = [], widths[0]
        for group, width in enumerate(widths):
            for k in range((depth - 2) // 6):
                stride = 2 if group and not k else 1
                blocks.append(_Block(convolution, normalisation, before, width, stride, None if euclidean else self.c))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.head: nn.Module = (
            nn.Linear(before, classes)
            if euclidean
            else PoincareClassifier(before, classes, c, initialisation=initialisation, generator=generator)
        )
        if euclidean:
            for module in self.modules():
                _uniform(module, generator)

    def features(self, images: Tensor) -> Tensor:
        """(B, widths[2]): what the classifier sees, tangent vectors at the origin."""
        require_real("images", images)
        if images.dim() != 4:
            raise ValueError(
                f"images: received shape {tuple(images.shape)}; valid is (B, C, H, W). Repair: images[None] for one."
            )
        t = images if self.euclidean else images.permute(0, 2, 3, 1)
        t = self.blocks(self.norm(self.conv(t)).relu())
        return cast(Tensor, t.mean((2, 3) if self.euclidean else (1, 2)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W)."""
        return cast(Tensor, self.head(self.features(images)))
