"""Small networks that several chapters train."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class StackedMLP(nn.Module):
    r"""K independent multilayer perceptrons of one shape, trained at once.

    Member k computes x <- x W_k + b_k layer by layer, LeakyReLU between layers; one batched product serves all members,
    which on small layers costs little more than one member. Weights are uniform on +-1 / sqrt(fan_in), as in
    ``torch.nn.Linear``, and member k draws them from its own generator: it equals ``nn.Sequential`` built after
    ``torch.manual_seed(seeds[k])`` and does not depend on who else is in the stack. Train with the sum over members of
    the members' own losses, so that they stay independent under Adam.

    Args:
        widths: (in, hidden, ..., out), at least two positive integers.
        seeds: one integer per member.
        negative_slope: of the LeakyReLU.

    Raises:
        ValueError: fewer than two widths, a width below one, no seeds; in ``forward`` a wrong shape.

    Source: the sanity-test network of Zhou et al. 2019 is widths = (9, 128, 128, 128, k).

    >>> net = StackedMLP([9, 128, 6], seeds=[0, 1, 2])
    >>> net(torch.zeros(5, 9)).shape
    torch.Size([3, 5, 6])
    """

    def __init__(self, widths: Sequence[int], seeds: Sequence[int], negative_slope: float = 0.01) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(
                f"widths: received {list(widths)}; valid are two or more positive integers. Repair: (in, hidden, out)."
            )
        if len(seeds) < 1:
            raise ValueError("seeds: received none; valid is one integer per member. Repair: seeds=[0].")
        self.widths = tuple(widths)
        self.seeds = tuple(seeds)
        self.negative_slope = negative_slope
        members = [_linear_layers(self.widths, seed) for seed in self.seeds]
        self.weights = nn.ParameterList([torch.stack([W for W, _ in layer]) for layer in zip(*members, strict=True)])
        self.biases = nn.ParameterList([torch.stack([b for _, b in layer]) for layer in zip(*members, strict=True)])

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (K, B, out) for inputs (K, B, in), or for (B, in), which every member receives."""
        members, fan_in = len(self.seeds), self.widths[0]
        if x.shape[-1:] != (fan_in,) or x.dim() not in (2, 3) or (x.dim() == 3 and x.shape[0] != members):
            raise ValueError(
                f"x: received shape {tuple(x.shape)}; valid is (B, {fan_in}) or ({members}, B, {fan_in}). "
                "Repair: flatten each example, and give one batch, or one per member."
            )
        x = x.expand(members, -1, -1)
        for layer, (W, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(b, x if layer == 0 else nn.functional.leaky_relu(x, self.negative_slope), W)
        return x

    def member(self, k: int) -> nn.Sequential:
        """Member k as an ordinary network of ``Linear`` and ``LeakyReLU`` layers, with a copy of its weights."""
        layers: list[nn.Module] = []
        for W, b in zip(self.weights, self.biases, strict=True):
            linear = nn.Linear(W.shape[1], W.shape[2], device=W.device, dtype=W.dtype)
            with torch.no_grad():
                linear.weight.copy_(W[k].T)
                linear.bias.copy_(b[k, 0])
            layers += [linear, nn.LeakyReLU(self.negative_slope)]
        return nn.Sequential(*layers[:-1])

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        return f"widths={self.widths}, seeds={self.seeds}, negative_slope={self.negative_slope}"


def _linear_layers(widths: tuple[int, ...], seed: int) -> list[tuple[Tensor, Tensor]]:
    """Weights (in, out) and biases (1, out) of one member, drawn in the order and shape of ``nn.Linear``."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, bound: float) -> Tensor:
        return torch.empty(*shape).uniform_(-bound, bound, generator=generator)

    return [
        (uniform(fan_out, fan_in, bound=fan_in**-0.5).T, uniform(1, fan_out, bound=fan_in**-0.5))
        for fan_in, fan_out in pairwise(widths)
    ]
