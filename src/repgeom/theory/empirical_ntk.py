r"""The tangent kernel of a real network: Theta(x, x') = sum_p (df(x)/dp) (df(x')/dp)^T over its trainable parameters.

A linear layer z = W a + b has the gradient D a^T by W, with D = df/dz. So no gradient need ever be written down:
sum_p (D a^T)_p (D' a'^T)_p = <D, D'> <a, a'>, a product of two Gram matrices a layer. Convolutions are linear layers on
patches, with a sum over positions. What is neither goes through its Jacobian.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

__all__ = ["empirical_ntk"]

_PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d)
MEMORY = 2**28  # bytes that the factors of a pair of blocks may take


class _Layer(NamedTuple):
    """A linear or convolutional layer, with the factors in front of its weight and bias; 0 where one is frozen."""

    module: nn.Module
    weight: float
    bias: float


class _Factors(NamedTuple):
    """Of one layer for a block of inputs: a (N, P, in), D (N, O, P, out), over P positions."""

    a: Tensor
    D: Tensor


def empirical_ntk(
    model: nn.Module,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    trace: bool = False,
    block: int | None = None,
    structured: bool = True,
) -> Tensor:
    r"""Theta(x1, x2) = J(x1) J(x2)^T, J the Jacobian by all parameters that require a gradient.

    Layers of the types Linear, Conv1d and Conv2d that are called once with weights of their own take the route above;
    so do their subclasses with float attributes ``weight_scale`` and ``bias_scale``, whose forward uses these multiples
    of weight and bias. All other parameters take their Jacobian. Freeze what should not count: with all but the last
    layer frozen this is the Gram matrix of its inputs.

    Args:
        model: maps (N, ...) to (N, O) or (N), each sample by itself.
        x1: (N1, ...) inputs.
        x2: (N2, ...); if omitted x1, and then only half of the blocks are computed.
        trace: the mean over outputs of the diagonal blocks, (1/O) sum_o Theta[..., o, o].
        block: inputs a block; if omitted as many as keep the factors of two blocks in 256 MiB.
        structured: False sends every parameter through its Jacobian, as a slow twin to compare with.

    Returns:
        (N1, N2, O, O), or (N1, N2) with ``trace`` or a model without output dimension.

    Raises:
        ValueError: no trainable parameter, a model that mixes samples (BatchNorm in training) or draws (Dropout in
            training), or an output or block that does not fit.

    Source: Novak, Sohl-Dickstein & Schoenholz 2022, "Fast finite width neural tangent kernel".

    >>> line = torch.nn.Linear(2, 1)
    >>> empirical_ntk(line, torch.eye(2), trace=True)  # x.x' + 1
    tensor([[2., 1.],
            [1., 2.]])
    """
    _require_model(model, block)
    one = _probe(model, x1[:1])
    layers, rest = _sorted(model, x1[:1], structured)
    size = block or _block_size(model, x1[:1], layers, rest, one.numel())
    other = x1 if x2 is None else x2
    O = one.numel()
    shape = (len(x1), len(other)) if trace else (len(x1), len(other), O, O)
    out = torch.zeros(shape, dtype=one.dtype, device=one.device)
    single = len(x1) <= size and len(other) <= size
    for i in range(0, len(x1), size):
        left = _factors(model, x1[i : i + size], layers, rest, O)
        for j in range(i if x2 is None else 0, len(other), size):
            same = x2 is None and i == j
            right = left if same else _factors(model, other[j : j + size], layers, rest, O)
            value = _contract(layers, left, right, trace)
            if single:
                out = value
                continue
            out[i : i + size, j : j + size] = value
            if x2 is None and not same:
                out[j : j + size, i : i + size] = value.transpose(0, 1) if trace else value.permute(1, 0, 3, 2)
    return out[..., 0, 0] if one.dim() == 1 and not trace else out


def _require_model(model: nn.Module, block: int | None) -> None:
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(
            "model: received no trainable parameter; valid is one or more. Repair: model.requires_grad_()."
        )
    for name, module in model.named_modules():
        mixes = isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None)
        if mixes or (isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0):
            raise ValueError(
                f"model: received {type(module).__name__} '{name}' in training, which mixes samples or draws; valid is "
                "a function of each sample. Repair: model.eval(), with running statistics."
            )
    if block is not None and block < 1:
        raise ValueError(f"block: received {block}; valid is a whole number >= 1, or None. Repair: block=None.")


def _probe(model: nn.Module, x: Tensor) -> Tensor:
    """The output for one sample, (1) or (1, O)."""
    with torch.no_grad():
        one = model(x)
    if one.dim() not in (1, 2) or len(one) != 1:
        raise ValueError(
            f"model: received outputs of shape {tuple(one.shape)} for one input; valid is (1, O) or (1). "
            "Repair: flatten the outputs, and give at least one input."
        )
    return cast(Tensor, one)


def _sorted(model: nn.Module, x: Tensor, structured: bool) -> tuple[list[_Layer], dict[str, Tensor]]:
    """Layers for the structured route, and the trainable parameters that are left."""
    trainable: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not structured:
        return [], trainable
    calls: dict[nn.Module, int] = {}
    owners: dict[Tensor, int] = {}
    for module in model.modules():
        for p in module.parameters(recurse=False):
            owners[p] = owners.get(p, 0) + 1
    candidates = [m for m in model.modules() if _scales(m) and all(owners[p] == 1 for p in m.parameters(recurse=False))]

    def count(module: nn.Module, *_: object) -> None:
        calls[module] = calls.get(module, 0) + 1

    hooks = [m.register_forward_hook(count) for m in candidates]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    layers, taken = [], set()
    for module in candidates:
        own = dict(module.named_parameters(recurse=False))
        scales = cast(tuple[float, float], _scales(module))
        kept = [
            s if n in own and own[n].requires_grad else 0.0 for s, n in zip(scales, ("weight", "bias"), strict=True)
        ]
        if calls.get(module) == 1 and set(own) <= {"weight", "bias"} and any(kept):
            layers.append(_Layer(module, *kept))
            taken |= set(own.values())
    return layers, {name: p for name, p in trainable.items() if p not in taken}


def _scales(module: nn.Module) -> tuple[float, float] | None:
    """Factors of weight and bias of a layer that the structured route knows; None for others."""
    if isinstance(module, _PLAIN) and not _parametrized(module):
        if isinstance(module, nn.Conv1d | nn.Conv2d) and (module.groups > 1 or module.padding_mode != "zeros"):
            return None
        if type(module) in _PLAIN:
            return 1.0, 1.0
        if hasattr(module, "weight_scale") and hasattr(module, "bias_scale"):
            return float(cast(float, module.weight_scale)), float(cast(float, module.bias_scale))
    return None


def _parametrized(module: nn.Module) -> bool:
    return nn.utils.parametrize.is_parametrized(module)


def _record(model: nn.Module, x: Tensor, layers: list[_Layer]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Outputs (N, O), and inputs and outputs of each layer. The graph knows the outputs of layers only."""
    ins: dict[nn.Module, Tensor] = {}
    outs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        ins[module], outs[module] = args[0].detach().clone(), out
        return out.clone()  # what follows may write in place

    hooks = [layer.module.register_forward_hook(keep) for layer in layers]
    try:
        f = model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return f.reshape(len(x), -1), [ins[la.module] for la in layers], [outs[la.module] for la in layers]


def _factors(
    model: nn.Module, x: Tensor, layers: list[_Layer], rest: dict[str, Tensor], O: int
) -> tuple[list[_Factors], Tensor | None]:
    """Factors of all layers, and the Jacobian (N, O, p) by the rest, for one block of inputs."""
    found: list[_Factors] = []
    if layers:
        options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
        with torch.enable_grad():
            f, ins, outs = _record(model, x, layers)
            rows = [torch.autograd.grad(f[:, o].sum(), outs, retain_graph=o < O - 1, **options) for o in range(O)]
        found = [
            _arranged(layer, a, torch.stack(D, 1))
            for layer, a, D in zip(layers, ins, zip(*rows, strict=True), strict=True)
        ]
    if not rest:
        return found, None
    fixed = {n: t.detach() for n, t in [*model.named_parameters(), *model.named_buffers()] if n not in rest}

    def single(moving: dict[str, Tensor], sample: Tensor) -> Tensor:
        return cast(Tensor, functional_call(model, {**fixed, **moving}, (sample[None],))).reshape(-1)

    jacobian = cast(Callable[..., dict[str, Tensor]], vmap(jacrev(single), (None, 0)))
    parts = jacobian({n: p.detach() for n, p in rest.items()}, x)
    return found, torch.cat([part.flatten(2) for part in parts.values()], 2)


def _arranged(layer: _Layer, a: Tensor, D: Tensor) -> _Factors:
    """Inputs as (N, P, in) and gradients as (N, O, P, out), patches for convolutions."""
    module = layer.module
    if isinstance(module, nn.Linear):
        return _Factors(a.reshape(len(a), -1, a.shape[-1]), D.reshape(*D.shape[:2], -1, D.shape[-1]))
    conv = cast(nn.Conv2d, module)
    flat = isinstance(module, nn.Conv1d)
    wide = (lambda v: (1, *v)) if flat else (lambda v: tuple(v))
    padding = conv.padding
    if isinstance(padding, str):  # "same" pads unevenly where the reach is odd
        reach = [d * (k - 1) if padding == "same" else 0 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        a = nn.functional.pad(a, [side for r in reversed(reach) for side in (r // 2, r - r // 2)])
        padding = (0,) * len(reach)
    image = a[:, :, None] if flat else a
    pads = (0, *padding) if flat else tuple(padding)
    patches = nn.functional.unfold(image, wide(conv.kernel_size), wide(conv.dilation), pads, wide(conv.stride))
    return _Factors(patches.mT, D.flatten(3).mT)


def _contract(
    layers: list[_Layer],
    left: tuple[list[_Factors], Tensor | None],
    right: tuple[list[_Factors], Tensor | None],
    trace: bool,
) -> Tensor:
    """The kernel of a pair of blocks: the sum of all layers and of the rest."""
    total: Tensor | None = None
    for layer, one, two in zip(layers, left[0], right[0], strict=True):
        part = _layer_kernel(layer, one, two, trace)
        total = part if total is None else total.add_(part)
    if left[1] is not None and right[1] is not None:
        part = _outer(left[1], right[1], trace)
        total = part if total is None else total.add_(part)
    return cast(Tensor, total)


def _outer(J1: Tensor, J2: Tensor, trace: bool) -> Tensor:
    """J1 (N1, O, p) with J2 (N2, O, p): (N1, N2, O, O), or the mean of the diagonal (N1, N2). One GEMM either way."""
    O = J1.shape[1]
    if trace:
        return J1.flatten(1) @ J2.flatten(1).T / O
    return (J1.flatten(0, 1) @ J2.flatten(0, 1).T).unflatten(0, (-1, O)).unflatten(2, (-1, O)).transpose(1, 2)


def _layer_kernel(layer: _Layer, one: _Factors, two: _Factors, trace: bool) -> Tensor:
    """<D, D'> (w^2 <a, a'> + b^2) for a single position; otherwise whichever of the two orders costs less."""
    (_, P, n), O, m = one.a.shape, one.D.shape[1], one.D.shape[-1]
    w, b = layer.weight, layer.bias
    if P == 1:
        gram = (one.a[:, 0] @ two.a[:, 0].T).mul_(w * w).add_(b * b)
        delta = _outer(one.D[:, :, 0], two.D[:, :, 0], trace)
        return delta.mul_(gram if trace else gram[..., None, None])
    if _gradients_first(P, n, m, O if trace else O * O):
        total: Tensor = torch.zeros((), dtype=one.D.dtype, device=one.D.device)
        if w:
            grads = [(f.D.mT @ f.a[:, None]).flatten(2).mul_(w) for f in (one, two)]
            total = total + _outer(grads[0], grads[1], trace)
        return total + b * b * _outer(one.D.sum(2), two.D.sum(2), trace) if b else total
    rows = []
    for a, D in zip(one.a, one.D, strict=True):  # one sample at a time: (P, N2, P) and (O, P, N2, O, P)
        gram = torch.einsum("pn,jqn->pjq", a, two.a).mul_(w * w).add_(b * b)
        if trace:
            rows.append(
                sum(torch.einsum("pm,jqm->pjq", D[o], two.D[:, o]).mul_(gram).sum((0, 2)) for o in range(O)) / O
            )
        else:
            rows.append(torch.einsum("opm,jrqm,pjq->jor", D, two.D, gram))
    return torch.stack(cast(list[Tensor], rows))


def _gradients_first(P: int, n: int, m: int, pairs: int) -> bool:
    """Whether inner products of gradients (out, in) cost less than Gram matrices of P positions."""
    return n * m * pairs < P * P * (n + 2 * pairs * m)


def _block_size(model: nn.Module, x: Tensor, layers: list[_Layer], rest: dict[str, Tensor], O: int) -> int:
    """Inputs a block, so that factors, gradients and Jacobians of two blocks stay within ``MEMORY``."""
    found, _ = _factors(model, x, layers, {}, O)
    numbers = sum(f.a.numel() + 2 * f.D.numel() for f in found) + O * sum(p.numel() for p in rest.values())
    numbers += max((O * f.a.shape[-1] * f.D.shape[-1] for f in found if f.a.shape[1] > 1), default=0)
    return max(1, MEMORY // (2 * max(1, numbers) * x.element_size()))
