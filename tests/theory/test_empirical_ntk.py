"""The tangent kernel of real networks: against explicit gradients, whatever the layers are."""

import pytest
import torch
from torch import Tensor, nn

from repgeom.theory import empirical_ntk as module
from repgeom.theory.empirical_ntk import empirical_ntk

F64 = torch.float64


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def by_gradients(model: nn.Module, x1: Tensor, x2: Tensor) -> Tensor:
    """Theta (N1, N2, O, O) from gradients, one output of one sample at a time."""

    def rows(x: Tensor) -> Tensor:
        parameters = [p for p in model.parameters() if p.requires_grad]
        found = []
        for sample in x:
            for out in model(sample[None]).reshape(-1):
                grads = torch.autograd.grad(
                    out, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                found.append(torch.cat([g.flatten() for g in grads]))
        return torch.stack(found).unflatten(0, (len(x), -1))

    return torch.einsum("iap,jbp->ijab", rows(x1), rows(x2))


class Scaled(nn.Linear):
    weight_scale, bias_scale = 0.3, 0.7

    def forward(self, a: Tensor) -> Tensor:
        return nn.functional.linear(0.3 * a, self.weight, 0.7 * self.bias)


class Odd(nn.Linear):
    """A subclass that does not say what it does."""

    def forward(self, a: Tensor) -> Tensor:
        return nn.functional.linear(a, 2 * self.weight, self.bias)


class Twice(nn.Module):
    """One layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.once, self.again = nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.again(torch.tanh(self.again(self.once(x))))


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.tanh(self.one(x)))


class Own(nn.Module):
    """A parameter of its own beside a layer, and a layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.gain, self.idle = nn.Linear(4, 3), nn.Parameter(torch.rand(3)), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x)) * self.gain


class Flat(nn.Module):
    """Outputs (N), without a dimension for outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[:, 0].tanh()


class Square(nn.Module):
    def forward(self, W: Tensor) -> Tensor:
        return W * W


def squared(layer: nn.Linear) -> nn.Linear:
    """A layer whose weight is the square of its parameter."""
    nn.utils.parametrize.register_parametrization(layer, "weight", Square())
    return layer


def ends() -> tuple[nn.Module, nn.Module]:
    return nn.Flatten(), nn.LazyLinear(2)


def conv(**options: object) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 3, **options), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 3)), (4,)),
    "no bias": (lambda: nn.Sequential(nn.Linear(4, 9, bias=False), nn.Tanh(), nn.Linear(9, 2)), (4,)),
    "in place": (lambda: nn.Sequential(nn.Linear(4, 9), nn.ReLU(inplace=True), nn.Linear(9, 2)), (4,)),
    "scaled": (lambda: nn.Sequential(Scaled(4, 9), nn.Tanh(), Scaled(9, 2)), (4,)),
    "silent subclass": (lambda: nn.Sequential(Odd(4, 9), nn.Tanh(), nn.Linear(9, 2)), (4,)),
    "sequence": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 6), *ends()), (3, 4)),
    "conv": (conv, (2, 6, 5)),
    "conv, strides": (lambda: conv(stride=(2, 1), padding=(1, 2), dilation=(1, 2)), (2, 6, 7)),
    "conv, same": (lambda: conv(padding="same"), (2, 6, 5)),
    "conv, uneven same": (lambda: nn.Sequential(nn.Conv2d(2, 3, (2, 3), padding="same"), *ends()), (2, 6, 5)),
    "conv, valid": (lambda: conv(padding="valid", bias=False), (2, 6, 5)),
    "conv, groups": (lambda: conv(groups=1, padding_mode="circular", padding=1), (2, 6, 5)),
    "conv, one position": (lambda: nn.Sequential(nn.Conv2d(2, 3, 4), nn.Flatten(), nn.Linear(3, 2)), (2, 4, 4)),
    "conv 1d": (lambda: nn.Sequential(nn.Conv1d(3, 4, 4, stride=2, padding=1), nn.Tanh(), *ends()), (3, 9)),
    "conv 1d, even and same": (lambda: nn.Sequential(nn.Conv1d(3, 4, 4, padding="same", dilation=3), *ends()), (3, 9)),
    "norms": (lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.BatchNorm1d(6), nn.Linear(6, 2)).eval(), (4,)),
    "twice": (Twice, (4,)),
    "tied": (Tied, (4,)),
    "own": (Own, (4,)),
    "parametrized": (lambda: nn.Sequential(squared(nn.Linear(4, 5)), nn.Tanh()), (4,)),
}  # fmt: skip


def made(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    build, shape = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = build().double()
        with torch.no_grad():
            model(gaussian(2, *shape))  # lazy layers
    return model, shape


@pytest.mark.filterwarnings("ignore:.*Lazy modules.*")
@pytest.mark.filterwarnings("ignore:.*padding='same'.*")
@pytest.mark.parametrize("name", MODELS)
def test_kernel_is_that_of_the_gradients(name: str) -> None:
    model, shape = made(name)
    x1, x2 = gaussian(5, *shape, seed=1), gaussian(3, *shape, seed=2)
    told, own = by_gradients(model, x1, x2), by_gradients(model, x1, x1)
    close = {"rtol": 1e-11, "atol": 1e-11 * float(told.abs().max())}
    torch.testing.assert_close(empirical_ntk(model, x1, x2), told, **close)
    torch.testing.assert_close(empirical_ntk(model, x1, x2, structured=False), told, **close)
    mean = told.diagonal(dim1=2, dim2=3).mean(2)
    torch.testing.assert_close(empirical_ntk(model, x1, x2, trace=True), mean, **close)
    for block in (1, 2, 4):
        torch.testing.assert_close(empirical_ntk(model, x1, block=block), own, **close)
        torch.testing.assert_close(empirical_ntk(model, x1, x2, block=block, trace=True), mean, **close)


@pytest.mark.filterwarnings("ignore:.*Lazy modules.*")
@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize(("name", "few"), [("conv", True), ("sequence", True), ("conv", False)])
def test_both_orders_of_positions_agree(monkeypatch: pytest.MonkeyPatch, name: str, few: bool, trace: bool) -> None:
    """Gradients first, or Gram matrices of positions first: forced by a stub of the cost rule."""
    model, shape = made(name)
    x = gaussian(4, *shape)
    told = by_gradients(model, x, x)
    told = told.diagonal(dim1=2, dim2=3).mean(2) if trace else told
    monkeypatch.setattr(module, "_gradients_first", lambda *_: few)
    torch.testing.assert_close(empirical_ntk(model, x, trace=trace), told)


def test_the_structured_route_is_taken_where_it_can_be() -> None:
    names = {
        "mlp": set(),
        "scaled": set(),
        "conv": set(),
        "conv 1d": set(),
        "own": {"gain", "idle.weight", "idle.bias"},
    }
    names |= {"twice": {"again.weight", "again.bias"}, "silent subclass": {"0.weight", "0.bias"}}
    names |= {"tied": {"one.weight", "one.bias"}, "norms": {"1.weight", "1.bias", "2.weight", "2.bias"}}
    for name, left in names.items():
        model, shape = made(name)
        assert set(module._sorted(model, gaussian(1, *shape), True)[1]) == left, name


def test_frozen_parameters_do_not_count() -> None:
    model, shape = made("mlp")
    x = gaussian(4, *shape)
    model.requires_grad_(False)
    model[4].weight.requires_grad_()
    hidden = model[:4](x)
    torch.testing.assert_close(empirical_ntk(model, x, trace=True), hidden @ hidden.T)
    model[4].weight.requires_grad_(False)
    model[0].bias.requires_grad_()
    torch.testing.assert_close(empirical_ntk(model, x), by_gradients(model, x, x))


def test_a_model_without_output_dimension() -> None:
    model = Flat().double()
    x = gaussian(4, 4)
    told = by_gradients(model, x, x)[..., 0, 0]
    for trace in (False, True):
        torch.testing.assert_close(empirical_ntk(model, x, trace=trace), told)


def test_nothing_is_left_behind() -> None:
    model, shape = made("mlp")
    before = {name: p.clone() for name, p in model.state_dict().items()}
    found = empirical_ntk(model, gaussian(3, *shape))
    assert not found.requires_grad and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], p) for name, p in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())
    with torch.no_grad():
        assert torch.equal(empirical_ntk(model, gaussian(3, *shape)), found)


def test_blocks_are_chosen_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model, shape = made("mlp")
    x = gaussian(9, *shape)
    layers, rest = module._sorted(model, x[:1], True)
    assert module._block_size(model, x[:1], layers, rest, 3) > 9
    whole = empirical_ntk(model, x)
    monkeypatch.setattr(module, "MEMORY", 4000)
    assert 1 <= module._block_size(model, x[:1], layers, rest, 3) < 9
    torch.testing.assert_close(empirical_ntk(model, x), whole)


@pytest.mark.parametrize(
    ("model", "x", "named"),
    [
        (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), torch.ones(3, 2), "BatchNorm1d '1'"),
        (nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.1)), torch.ones(3, 2), "Dropout '1'"),
        (nn.BatchNorm1d(2, track_running_stats=False).eval(), torch.ones(3, 2), "BatchNorm1d"),
        (nn.Linear(2, 3).requires_grad_(False), torch.ones(3, 2), "trainable"),
        (nn.Linear(2, 3), torch.ones(3, 4, 2), "outputs of shape"),
        (nn.Linear(2, 3), torch.ones(0, 2), "outputs of shape"),
    ],
)
def test_bad_models_are_named_with_a_repair(model: nn.Module, x: Tensor, named: str) -> None:
    with pytest.raises(ValueError, match=rf"^model: received .*{named}.*valid is .*Repair: "):
        empirical_ntk(model, x)


def test_bad_block() -> None:
    with pytest.raises(ValueError, match=r"^block: received 0"):
        empirical_ntk(nn.Linear(2, 1), torch.ones(2, 2), block=0)
