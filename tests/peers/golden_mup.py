"""Writes the numbers of the package mup that ``test_mup.py`` compares with.

Not run by the suite: it needs an environment of its own with torch and mup 1.0.0 (whose plots import seaborn).

    python tests/peers/golden_mup.py
"""

import json

import torch
from mup import MuAdam, MuReadout, MuSGD, set_base_shapes
from torch import nn

torch.set_default_dtype(torch.float64)


def network(n):
    return nn.Sequential(nn.Linear(6, n), nn.ReLU(), nn.Linear(n, n), nn.LayerNorm(n), nn.ReLU(), MuReadout(n, 3))


def fill(model):
    """A start without random numbers."""
    with torch.no_grad():
        for k, p in enumerate(model.parameters()):
            waves = torch.sin(torch.arange(p.numel()) * (0.37 + 0.11 * k) + k)
            p.copy_(waves.view(p.shape) / max(p.shape[-1], 1) ** 0.5)


def run(optimiser):
    base, delta, model = network(4), network(8), network(16)
    fill(model)
    set_base_shapes(model, base, delta=delta)
    names = {id(p): name for name, p in model.named_parameters()}
    stepper = optimiser(model.parameters(), lr=0.1, weight_decay=0.01)
    groups = {names[id(p)]: [g["lr"], g["weight_decay"]] for g in stepper.param_groups for p in g["params"]}
    x, y, losses = torch.cos(torch.arange(30.0)).view(5, 6), torch.tensor([0, 1, 2, 0, 1]), []
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(x), y)
        losses.append(loss.item())
        stepper.zero_grad()
        loss.backward()
        stepper.step()
    end = {name: [p.detach().sum().item(), p.detach().norm().item()] for name, p in model.named_parameters()}
    return {"groups": groups, "losses": losses, "end": end}


print(json.dumps({"sgd": run(MuSGD), "adam": run(MuAdam)}, indent=1))
