"""The stack of networks: its members are ordinary networks, and independent."""

import pytest
import torch
from torch import Tensor, nn

from repgeom.nn.blocks import StackedMLP
from repgeom.optim import fit

WIDTHS = (4, 16, 16, 3)


def ordinary(seed: int) -> nn.Sequential:
    """The network that a reader would write."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 16), nn.LeakyReLU(), nn.Linear(16, 16), nn.LeakyReLU(), nn.Linear(16, 3))


def batch(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_members_are_ordinary_networks() -> None:
    stack = StackedMLP(WIDTHS, seeds=[3, 1, 4])
    x = batch(7, 4)
    for k, seed in enumerate([3, 1, 4]):
        for ours, theirs in zip(stack.member(k).parameters(), ordinary(seed).parameters(), strict=True):
            assert torch.equal(ours, theirs)
        torch.testing.assert_close(stack(x)[k], ordinary(seed)(x))
        torch.testing.assert_close(stack.member(k)(x), stack(x)[k])


def test_members_receive_their_own_batch() -> None:
    stack = StackedMLP(WIDTHS, seeds=[0, 1])
    x = batch(2, 7, 4)
    torch.testing.assert_close(stack(x), torch.stack([stack.member(0)(x[0]), stack.member(1)(x[1])]))
    torch.testing.assert_close(stack(x[:1].expand(2, -1, -1)), stack(x[0]))


def test_negative_slope() -> None:
    stack = StackedMLP(WIDTHS, seeds=[0], negative_slope=0.5)
    x = batch(7, 4)
    torch.testing.assert_close(stack.member(0)(x), stack(x)[0])
    assert not torch.allclose(stack(x), StackedMLP(WIDTHS, seeds=[0])(x))


def test_training_together_is_training_alone() -> None:
    """Under Adam with the summed loss a member's path does not depend on who else is in the stack."""

    def train(seeds: list[int]) -> StackedMLP:
        stack = StackedMLP(WIDTHS, seeds)
        x = batch(32, 4)
        fit(stack.parameters(), lambda step: (stack(x) - x[:, :3].sin()).square().mean((1, 2)).sum(), 30, lr=1e-2)
        return stack

    together, alone = train([5, 6, 7]), train([6])
    for ours, theirs in zip(together.member(1).parameters(), alone.member(0).parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert (together.member(1)[0].weight - StackedMLP(WIDTHS, [6]).member(0)[0].weight).abs().max() > 0.01


def test_member_is_a_copy() -> None:
    stack = StackedMLP(WIDTHS, seeds=[0])
    before = stack(batch(1, 4))
    with torch.no_grad():
        stack.member(0)[0].weight.zero_()
    assert torch.equal(stack(batch(1, 4)), before)


def test_global_generator_is_untouched() -> None:
    state = torch.get_rng_state()
    StackedMLP(WIDTHS, seeds=[0])
    assert torch.equal(state, torch.get_rng_state())


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"widths: received \[4\]; .*Repair: "):
        StackedMLP([4], [0])
    with pytest.raises(ValueError, match=r"widths: received \[4, 0\]; .*Repair: "):
        StackedMLP([4, 0], [0])
    with pytest.raises(ValueError, match=r"seeds: received none; .*Repair: "):
        StackedMLP(WIDTHS, [])
    stack = StackedMLP(WIDTHS, [0, 1])
    for shape in ((7, 5), (3, 7, 4), (4,), (1, 2, 7, 4)):
        with pytest.raises(ValueError, match=r"x: received shape .*; valid is \(B, 4\) or \(2, B, 4\)\. Repair: "):
            stack(torch.zeros(*shape))
