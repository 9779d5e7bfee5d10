"""Small networks that several chapters train."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class StackedMLP(nn.Module):
    r"""K independent multilayer perceptrons of one shape, trained at once.

    Layer l computes y_k = x_k W_k^l + b_k^l for all members k in one batched product, with LeakyReLU between layers.
    """

    def __init__(self, widths: Sequence[int], seeds: Sequence[int], negative_slope: float = 0.01) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths: received {list(widths)}; valid are at least two positive integers (in, ..., out).")
        if len(seeds) < 1:
            raise ValueError("seeds: received none; valid is one integer per member. Repair: seeds=[0].")
        self.widths = tuple(widths)
        self.seeds = tuple(seeds)
        self.negative_slope = negative_slope
        weights: list[list[Tensor]] = [[] for _ in widths[1:]]
        biases: list[list[Tensor]] = [[] for _ in widths[1:]]
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            for layer, (fan_in, fan_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
                bound = fan_in**-0.5
                # drawn in nn.Linear's order and shape, so a member equals nn.Sequential built after torch.manual_seed(seed)
                weights[layer].append(torch.empty(fan_out, fan_in).uniform_(-bound, bound, generator=generator).T)
                biases[layer].append(torch.empty(fan_out).uniform_(-bound, bound, generator=generator))
        self.weights = nn.ParameterList([torch.stack(w) for w in weights])
        self.biases = nn.ParameterList([torch.stack(b)[:, None, :] for b in biases])

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (K, B, out) for inputs (K, B, in), or (B, in) given to every member."""
        if x.dim() not in (2, 3) or x.shape[-1] != self.widths[0] or (x.dim() == 3 and x.shape[0] != len(self.seeds)):
            raise ValueError(
                f"x: received shape {tuple(x.shape)}; valid is (B, {self.widths[0]}) or "
                f"({len(self.seeds)}, B, {self.widths[0]})."
            )
        x = x.expand(len(self.seeds), *x.shape[-2:])
        for layer, (W, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                x = nn.functional.leaky_relu(x, self.negative_slope)
            x = torch.baddbmm(b, x, W)
        return x

    def member(self, k: int) -> nn.Sequential:
        """Member k as an ordinary ``nn.Sequential`` of ``Linear`` and ``LeakyReLU`` with a copy of its weights."""
        layers: list[nn.Module] = []
        for W, b in zip(self.weights, self.biases, strict=True):
            if layers:
                layers.append(nn.LeakyReLU(self.negative_slope))
            linear = nn.Linear(W.shape[1], W.shape[2], device=W.device, dtype=W.dtype)
            with torch.no_grad():
                linear.weight.copy_(W[k].T)
                linear.bias.copy_(b[k, 0])
            layers.append(linear)
        return nn.Sequential(*layers)
