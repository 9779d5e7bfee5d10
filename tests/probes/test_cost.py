"""What a pass costs."""

import pytest
import torch

from repgeom.probes.cost import cost


def test_counts_against_a_graph_that_one_can_see() -> None:
    x = torch.randn(8, 5, requires_grad=True)
    found = cost(lambda: (x.exp() * x).sum(), [x])
    assert found.saved == 4 * 40 and found.nodes == 4 and found.forward == 3  # exp, mul, sum, and the leaf
    assert found.operations == found.forward + found.backward > 5
    assert cost(lambda: x.t().sum(), [x])[1:3] == (0, 1)  # views are free
    assert cost(lambda: (x.exp() * x).sum()).saved == 2 * 4 * 40
    assert cost(lambda: x.exp().exp().exp().sum(), [x]).saved == 3 * 4 * 40  # no storage is counted twice
    y = x.exp()
    assert cost(lambda: y * y, [x, y]).saved == 0


def test_a_result_without_a_graph_is_an_error() -> None:
    with pytest.raises(ValueError, match="run: received a result without a graph"):
        cost(lambda: torch.ones(3).exp())
