"""Our muP against the package ``mup`` 1.0.0: same groups, same weights after three steps.

The numbers below were written by ``golden_mup.py`` beside this file (torch 2.13, float64).
"""

import pytest
import torch
from torch import nn

from repgeom.theory import abc

F64 = torch.float64
# name: (learning rate, weight decay); losses before each step; name: (sum, norm) of the weights after three steps.
GOLDEN = {
    "sgd": {
        "groups": {
            "0.bias": [0.4, 0.0025],
            "0.weight": [0.4, 0.0025],
            "2.bias": [0.4, 0.0025],
            "2.weight": [0.1, 0.01],
            "3.bias": [0.4, 0.0025],
            "3.weight": [0.4, 0.0025],
            "5.bias": [0.1, 0.01],
            "5.weight": [0.4, 0.0025],
        },
        "losses": [1.074068774841594, 1.0713437713833858, 1.0690165571590646],
        "end": {
            "0.weight": [1.8765012543641937, 2.7918907815023184],
            "0.bias": [0.6684247777960579, 0.7471475284426865],
            "2.weight": [0.10074741518219155, 2.821812954120872],
            "2.bias": [-0.8467009180742384, 1.363963400825635],
            "3.weight": [-0.07565570717379336, 0.7010246407153088],
            "3.bias": [-0.3532673083339255, 0.6908634084166463],
            "5.weight": [0.3799750625753845, 2.4227992788099906],
            "5.bias": [2.0269122818502803, 1.3386678938405059],
        },
    },
    "adam": {
        "groups": {
            "0.bias": [0.1, 0.01],
            "0.weight": [0.1, 0.01],
            "2.bias": [0.1, 0.01],
            "2.weight": [0.025, 0.04],
            "3.bias": [0.1, 0.01],
            "3.weight": [0.1, 0.01],
            "5.bias": [0.1, 0.01],
            "5.weight": [0.1, 0.01],
        },
        "losses": [1.074068774841594, 1.0554748528374456, 1.0592679111479688],
        "end": {
            "0.weight": [0.35304979380591045, 0.7672854037072264],
            "0.bias": [-0.1435068859114363, 0.23916270297590578],
            "2.weight": [-0.022439474628408666, 1.821373572117971],
            "2.bias": [-0.6836932152618559, 0.6458848423368186],
            "3.weight": [-0.16376819211879956, 0.42754519986878814],
            "3.bias": [-0.03233397840133423, 0.4126747859060783],
            "5.weight": [0.5994982218878919, 1.0177385232885305],
            "5.bias": [2.146753320827951, 1.3254282023039856],
        },
    },
}


def make(n: int) -> nn.Sequential:
    layers = (nn.Linear(6, n), nn.ReLU(), nn.Linear(n, n), nn.LayerNorm(n), nn.ReLU(), nn.Linear(n, 3))
    return nn.Sequential(*layers).to(F64)


def fill(model: nn.Module) -> None:
    """A start without random numbers."""
    with torch.no_grad():
        for k, p in enumerate(model.parameters()):
            wave = torch.sin(torch.arange(p.numel(), dtype=F64) * (0.37 + 0.11 * k) + k)
            p.copy_(wave.view(p.shape) / max(p.shape[-1], 1) ** 0.5)


def three_steps(optimizer: str) -> tuple[nn.Module, list[dict], list[float]]:
    model = make(16)
    fill(model)
    groups = abc.parametrise(model, make(4), abc.scheme("mup", optimizer), 0.1, weight_decay=0.01)
    step = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](groups)
    x, y, losses = torch.cos(torch.arange(30, dtype=F64)).view(5, 6), torch.tensor([0, 1, 2, 0, 1]), []
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(x), y)
        losses.append(loss.item())
        step.zero_grad()
        loss.backward()
        step.step()
    return model, groups, losses


@pytest.mark.parametrize("optimizer", GOLDEN)
def test_groups_are_those_of_the_package(optimizer: str) -> None:
    model, groups, _ = three_steps(optimizer)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert found.keys() == GOLDEN[optimizer]["groups"].keys()
    for name, expected in GOLDEN[optimizer]["groups"].items():
        assert found[name] == pytest.approx(tuple(expected), rel=1e-12), name


@pytest.mark.parametrize("optimizer", GOLDEN)
def test_three_steps_give_the_weights_of_the_package(optimizer: str) -> None:
    model, _, losses = three_steps(optimizer)
    assert losses == pytest.approx(GOLDEN[optimizer]["losses"], rel=1e-9)
    for name, p in model.named_parameters():
        total, norm = GOLDEN[optimizer]["end"][name]
        assert float(p.detach().sum()) == pytest.approx(total, abs=1e-8), name
        assert float(p.detach().norm()) == pytest.approx(norm, rel=1e-8), name
