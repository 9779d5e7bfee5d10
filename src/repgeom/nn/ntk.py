r"""Networks in NTK parametrization: every parameter starts standard normal, the sizes stand in the forward pass.

z = s_w W a / sqrt(fan_in) + s_b b. A learning rate of order one then fits every width, and the tangent kernel has a
limit as the width grows (see ``repgeom.theory.kernels``).
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["NTKLinear", "NTKNetworks", "Pointwise"]

CACHE = 2**18  # numbers: as many weights as are trained together, so that they stay in the processor's cache
Function = Callable[[Tensor], Tensor]
FUNCTIONS: dict[str, tuple[Function, Function]] = {  # and their slopes
    "relu": (torch.relu, lambda z: (z > 0).to(z.dtype)),
    "erf": (torch.erf, lambda z: (2 / math.sqrt(math.pi)) * torch.exp(-z * z)),
}


class NTKLinear(nn.Linear):
    r"""z = s_w W a / sqrt(fan_in) + s_b b, W (fan_out, fan_in) and b (fan_out) standard normal.

    Args:
        fan_in: inputs.
        fan_out: outputs.
        weight_std: s_w; sqrt(2) keeps the size of a ReLU network.
        bias_std: s_b.

    Raises:
        ValueError: a size below one, or a scale that is negative or not finite.

    Source: Jacot, Gabriel & Hongler 2018, with s_w = 1 and s_b = 0.1.

    >>> layer = NTKLinear(4, 2, weight_std=3.0)
    >>> layer.weight_scale, layer.bias_scale
    (1.5, 0.1)
    """

    def __init__(self, fan_in: int, fan_out: int, weight_std: float = 1.0, bias_std: float = 0.1) -> None:
        _require((fan_in, fan_out), weight_std, bias_std)
        super().__init__(fan_in, fan_out)
        self.weight_scale, self.bias_scale = weight_std / math.sqrt(fan_in), bias_std
        nn.init.normal_(self.weight)
        nn.init.normal_(self.bias)

    def forward(self, a: Tensor) -> Tensor:
        """(..., fan_in) to (..., fan_out)."""
        return nn.functional.linear(self.weight_scale * a, self.weight, self.bias_scale * self.bias)


class Pointwise(nn.Module):
    """An elementwise function as a layer: f(z).

    >>> Pointwise(torch.erf)(torch.zeros(1))
    tensor([0.])
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        """f(z)."""
        return self.function(z)


class NTKNetworks:
    r"""S fully connected networks of one shape in NTK parametrization, side by side.

    ``weights`` hold a tensor (S, out, in) a layer, ``biases`` (S, 1, out). Each network draws from its own seed and
    does not depend on who else is there.

    Args:
        widths: (in, hidden, ..., out).
        seeds: one a network.
        activation: "relu" or "erf".
        weight_std: s_w.
        bias_std: s_b.
        dtype: float32 or float64.
        device: where they live; they are drawn on the CPU.

    Raises:
        ValueError: fewer than two widths, no seeds, an unknown activation, a scale that is negative or not finite.

    Source: Jacot, Gabriel & Hongler 2018.

    >>> nets = NTKNetworks((2, 8, 1), seeds=[0, 1, 2])
    >>> nets(torch.zeros(5, 2)).shape
    torch.Size([3, 5, 1])
    """

    def __init__(
        self,
        widths: Sequence[int],
        seeds: Sequence[int],
        activation: str = "relu",
        weight_std: float = 1.0,
        bias_std: float = 0.1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        _require(tuple(widths), weight_std, bias_std)
        if activation not in FUNCTIONS or not len(seeds):
            raise ValueError(
                f"activation, seeds: received {activation!r} and {len(seeds)} seeds; valid are {', '.join(FUNCTIONS)} "
                "and one seed or more. Repair: activation='relu', seeds=[0]."
            )
        self.widths, (self.f, self.slope) = tuple(widths), FUNCTIONS[activation]
        self.weight_std, self.bias_std = weight_std, bias_std
        drawn = [_normal_layers(self.widths, seed, dtype) for seed in seeds]
        self.weights = [torch.stack([W for W, _ in layer]).to(device) for layer in zip(*drawn, strict=True)]
        self.biases = [torch.stack([b for _, b in layer]).to(device) for layer in zip(*drawn, strict=True)]

    def _run(self, x: Tensor, part: slice = slice(None)) -> tuple[list[Tensor], list[Tensor]]:
        """Of each layer the scaled inputs s_w a / sqrt(fan_in) (S, N, in) and the outputs z (S, N, out)."""
        a = x.to(self.weights[0]).expand(len(self.weights[0][part]), *x.shape[-2:])
        ins: list[Tensor] = []
        outs: list[Tensor] = []
        for W, b in zip(self.weights, self.biases, strict=True):
            ins.append((self.f(outs[-1]) if outs else a) * (self.weight_std / math.sqrt(W.shape[2])))
            outs.append(torch.baddbmm(self.bias_std * b[part], ins[-1], W[part].mT))
        return ins, outs

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs (S, N, O) for inputs (N, d), which all receive, or (S, N, d)."""
        return self._run(x)[1][-1]

    def member(self, k: int) -> nn.Sequential:
        """Network k as a module, with a copy of its weights."""
        layers: list[nn.Module] = []
        for W, b in zip(self.weights, self.biases, strict=True):
            with torch.device("meta"):  # no numbers are drawn
                linear = NTKLinear(W.shape[2], W.shape[1], self.weight_std, self.bias_std)
            linear.weight, linear.bias = nn.Parameter(W[k].clone()), nn.Parameter(b[k, 0].clone())
            layers += [linear, Pointwise(self.f)]
        return nn.Sequential(*layers[:-1])

    def descend(self, x: Tensor, y: Tensor, steps: int, lr: float, see: Callable[[int], None] | None = None) -> None:
        """Gradient descent, in place, of each network on its own (1 / 2N) sum |f(x_i) - y_i|^2.

        Args:
            x: (N, d) or (S, N, d).
            y: (N, O) or (S, N, O).
            steps: how many.
            lr: learning rate.
            see: see(t) is called before step t and once after the last.
        """
        S, y = len(self.weights[0]), y.to(self.weights[0])
        y = y.expand(S, *y.shape[-2:])
        group = S if see is not None else max(1, CACHE // sum(W[0].numel() for W in self.weights))
        for part in (slice(k, k + group) for k in range(0, S, group)):
            for t in range(steps):
                if see is not None:
                    see(t)
                self._step(x if x.dim() == 2 else x[part], y[part], lr, part)
        if see is not None:
            see(steps)

    def _step(self, x: Tensor, y: Tensor, lr: float, part: slice) -> None:
        """One step of descent of some of the networks, the chain rule written out."""
        ins, outs = self._run(x, part)
        D = (outs[-1] - y) / x.shape[-2]  # the gradient by the outputs of the layer that is next to learn
        for layer in range(len(outs) - 1, -1, -1):
            W, b = self.weights[layer][part], self.biases[layer][part]
            back = D @ W if layer else D
            W.baddbmm_(D.mT, ins[layer], alpha=-lr)  # in one pass: the gradient itself is never stored
            b.sub_(D.sum(1, keepdim=True), alpha=lr * self.bias_std)
            if layer:
                D = back.mul_(self.weight_std / math.sqrt(W.shape[2])).mul_(self.slope(outs[layer - 1]))


def _normal_layers(widths: Sequence[int], seed: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(m, n, generator=draw, dtype=dtype), torch.randn(1, m, generator=draw, dtype=dtype))
        for n, m in pairwise(widths)
    ]


def _require(widths: tuple[int, ...], weight_std: float, bias_std: float) -> None:
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"widths: received {widths}; valid are two or more sizes >= 1. Repair: (in, hidden, out).")
    if not (0 <= weight_std < math.inf and 0 <= bias_std < math.inf):
        raise ValueError(
            f"weight_std, bias_std: received {weight_std}, {bias_std}; valid are finite numbers >= 0. "
            "Repair: weight_std=1.0, bias_std=0.1."
        )
