"""The one training loop of the book."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def fit(
    parameters: Iterable[Tensor],
    loss: Callable[[int], Tensor],
    steps: int,
    *,
    lr: float = 1e-3,
    schedule: str = "one-cycle",
    optimizer: torch.optim.Optimizer | None = None,
    progress: bool = False,
    label: str = "",
) -> Tensor:
    r"""Minimise a loss by Adam, or by an optimiser of the caller's.

    "one-cycle": the rate rises linearly to ``lr`` over the first 5 % of the steps, then falls to zero like a cosine.

    Args:
        parameters: tensors to train.
        loss: loss(step) draws its own batch and returns a scalar. For a stack of networks: the sum over members.
        steps: how many, at least one.
        lr: (peak) learning rate.
        schedule: "one-cycle" or "constant".
        optimizer: steps the parameters in place of Adam; the rates of its groups are the peak rates, which they have
            again afterwards, and ``lr`` counts for nothing.
        progress: show a progress bar on stderr.
        label: its name.

    Returns:
        (steps,) the losses, detached, on the CPU.

    Raises:
        ValueError: no parameters, steps below one, unknown schedule, or a loss that is not a scalar.

    Source: Kingma & Ba 2015 (Adam); after Smith & Topin 2018 (one cycle, here without its momentum cycle).

    >>> x = torch.nn.Parameter(torch.tensor([3.0]))
    >>> losses = fit([x], lambda step: (x - 1).square().sum(), 200, lr=0.1)
    >>> bool(losses[-1] < 1e-3)
    True
    """
    parameters = list(parameters)
    if not parameters or steps < 1 or schedule not in ("one-cycle", "constant"):
        raise ValueError(
            f"parameters, steps, schedule: received {len(parameters)} tensors, {steps} and {schedule!r}; valid is at "
            "least one tensor, at least one step, and 'one-cycle' or 'constant'. Repair: fit([x], loss, 9)."
        )
    optimizer = optimizer or torch.optim.Adam(parameters, lr=lr, fused=True)
    peaks = [group["lr"] for group in optimizer.param_groups]
    losses = torch.empty(steps, device=parameters[0].device)
    for step in _bar(range(steps), label) if progress else range(steps):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * (_one_cycle(step, steps) if schedule == "one-cycle" else 1)
        value = loss(step)
        if value.dim():
            raise ValueError(f"loss: received shape {tuple(value.shape)}; valid is a scalar. Repair: sum it.")
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses[step] = value.detach()
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        group["lr"] = peak
    return losses.cpu()


def _one_cycle(step: int, steps: int) -> float:
    rise = max(1, round(0.05 * steps))
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step + 1 - rise) / (steps - rise))) / 2


def _bar(steps: range, label: str) -> Iterable[int]:
    from tqdm import tqdm

    return tqdm(steps, desc=label)
