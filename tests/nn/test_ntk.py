"""Networks in NTK parametrization: equal to ordinary modules, trained like them, standard normal at the start."""

import pytest
import torch

from repgeom.nn import ntk
from repgeom.nn.ntk import NTKLinear, NTKNetworks

F64 = torch.float64


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize(
    "network", [{"activation": "relu"}, {"activation": "erf", "weight_std": 1.5, "bias_std": 0.05}], ids=["relu", "erf"]
)
def test_networks_are_their_members_and_descend_like_autograd(network) -> None:
    widths, seeds, lr = (3, 8, 7, 2), [4, 9, 5], 0.2
    x, y = gaussian(6, 3), gaussian(3, 6, 2, seed=1)
    nets = NTKNetworks(widths, seeds, **network, dtype=F64)
    members = [nets.member(k) for k in range(3)]
    torch.testing.assert_close(nets(x), torch.stack([m(x) for m in members]))
    alone = NTKNetworks(widths, [9], **network, dtype=F64)
    assert torch.equal(alone.weights[1][0], nets.weights[1][1]), "a network does not depend on who is beside it"
    seen = []
    nets.descend(x, y, 3, lr, seen.append)
    assert seen == [0, 1, 2, 3]
    for k, model in enumerate(members):
        descent = torch.optim.SGD(model.parameters(), lr=lr)
        for _ in range(3):
            descent.zero_grad()
            ((model(x) - y[k]).square().sum() / (2 * len(x))).backward()
            descent.step()
        torch.testing.assert_close(nets(x)[k], model(x))
        for own, layer in zip(nets.biases, model[::2], strict=True):
            torch.testing.assert_close(own[k, 0], layer.bias.detach())


def test_groups_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = gaussian(3, 5, 2), gaussian(3, 5, 1, seed=1)
    whole, parts = (NTKNetworks((2, 9, 1), [0, 1, 2], dtype=F64) for _ in range(2))
    whole.descend(x, y, 4, 0.3)
    monkeypatch.setattr(ntk, "CACHE", 60)
    parts.descend(x, y, 4, 0.3)
    torch.testing.assert_close(whole.weights[0], parts.weights[0])
    assert bool((whole.weights[0] != NTKNetworks((2, 9, 1), [0, 1, 2], dtype=F64).weights[0]).all())


def test_parameters_start_standard_normal() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = NTKLinear(300, 400)
    nets = NTKNetworks((300, 400, 1), [0])
    for W, b in ((layer.weight.detach(), layer.bias.detach()), (nets.weights[0], nets.biases[0])):
        assert abs(float(W.mean())) < 0.02 and float(W.std()) == pytest.approx(1, abs=0.02)
        assert float(b.std()) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: NTKLinear(0, 1), "widths"),
        (lambda: NTKLinear(1, 1, -1.0), "weight_std, bias_std"),
        (lambda: NTKNetworks((2,), [0]), "widths"),
        (lambda: NTKNetworks((2, 1), []), "activation, seeds"),
        (lambda: NTKNetworks((2, 1), [0], "tanh"), "activation, seeds"),
        (lambda: NTKNetworks((2, 1), [0], bias_std=float("nan")), "weight_std, bias_std"),
    ],
)
def test_bad_arguments_are_named_with_a_repair(build, named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named}: received .*valid .*Repair: "):
        build()
