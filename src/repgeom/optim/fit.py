"""The one training loop of the book."""

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor


def fit(
    parameters: Iterable[Tensor],
    loss: Callable[[int], Tensor],
    steps: int,
    *,
    lr: float = 1e-3,
    schedule: Literal["one-cycle", "constant"] = "one-cycle",
    progress: bool = False,
    label: str = "",
) -> Tensor:
    """Minimise ``loss`` by Adam and return its values."""
    if schedule not in ("one-cycle", "constant"):
        raise ValueError(f"schedule: received {schedule!r}; valid is 'one-cycle' or 'constant'.")
    if steps < 1:
        raise ValueError(f"steps: received {steps}; valid is a positive integer.")
    parameters = list(parameters)
    optimizer = torch.optim.Adam(parameters, lr=lr, fused=True)
    losses = torch.empty(steps)
    warm = max(1, round(0.05 * steps))
    bar: Iterable[int] = range(steps)
    if progress:
        from tqdm import tqdm

        bar = tqdm(bar, desc=label, leave=False)
    for step in bar:
        if schedule == "one-cycle":
            up, down = (step + 1) / warm, (step + 1 - warm) / max(1, steps - warm)
            factor = up if up <= 1 else (1 + math.cos(math.pi * down)) / 2
            for group in optimizer.param_groups:
                group["lr"] = lr * factor
        optimizer.zero_grad()
        value = loss(step)
        value.backward()
        optimizer.step()
        losses[step] = value.detach()
    return losses
