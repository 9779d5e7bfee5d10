"""What a forward and a backward pass cost, in counts that are the same on every machine."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Cost", "cost"]


class Cost(NamedTuple):
    """What :func:`cost` counted."""

    nodes: int  # of the graph
    saved: int  # bytes kept for the backward pass
    forward: int  # operations
    backward: int

    @property
    def operations(self) -> int:
        """Forward and backward."""
        return self.forward + self.backward


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))


def cost(run: Callable[[], Tensor], known: Sequence[Tensor] = ()) -> Cost:
    r"""What one forward and one backward pass of ``run()`` cost: nodes of the graph, bytes kept, operations.

    Views are no operations. Bytes are those of the distinct storages that autograd keeps. A number that a layer reads
    back to Python, as by ``tolist``, is not an operation and is not counted, though a GPU has to wait for it.

    Args:
        run: returns a tensor that requires gradients; gradients are added up in the leaves as usual.
        known: tensors whose storage counts as free: inputs and parameters.

    Returns:
        Four numbers; ``operations`` is the sum of the last two.

    Raises:
        ValueError: a result without a graph.

    >>> x = torch.ones(5, requires_grad=True)
    >>> cost(lambda: (x.exp() * x).sum(), [x])[:2]
    (4, 20)
    """
    free, kept = {t.untyped_storage().data_ptr() for t in known}, {}

    def keep(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in free:
            kept[storage.data_ptr()] = (storage.nbytes(), t)  # held, so that the address is not used again
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), _Counter() as forward:
        out = run()
    if out.grad_fn is None:
        raise ValueError(
            "run: received a result without a graph; valid is one that requires gradients. Repair: inputs or "
            "parameters with requires_grad, outside of no_grad."
        )
    nodes: set[Any] = set()
    todo: list[Any] = [out.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            todo += [parent for parent, _ in node.next_functions]
    with _Counter() as backward:
        out.backward(torch.ones_like(out))
    return Cost(len(nodes), sum(size for size, _ in kept.values()), forward.count, backward.count)
