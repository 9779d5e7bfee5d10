"""Stochastic gradient descent on many subspaces at once, in a few passes over memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from repgeom.manifolds import thresholds
from repgeom.manifolds.grassmann import cos_sinc, polish

ORDERS = ("project", "accumulate")
_BLOCK = 2**18  # bytes of one tensor that are worked on at a time on a CPU, so that they stay in its cache


class GrassmannSGD(torch.optim.Optimizer):
    r"""Gradient descent with momentum where every parameter is a stack of subspaces, moved along exact geodesics.

    With D the Euclidean gradient at S and Pi(Z) = Z - S S^T Z:

    * order "project": m <- Pi(momentum m + D), S <- exp(S, -lr m): momentum is carried by projection;
    * order "accumulate": b <- momentum b + D, S <- exp(S, -lr Pi(b)): b is never projected. The two differ by the part
      of old gradients that leaves the tangent space as S turns, which is of second order in lr.

    One step reads bases and gradient about twice and needs products with k x k matrices only. It is a real optimiser
    with its state in ``state_dict``, so it works beside another one for the rest of a network, with gradient clipping
    and with ``torch.amp.GradScaler`` (step both, update the scaler once). There is no weight decay: shrinking S does
    not move its span, and Pi(S) = 0.

    Args:
        params: tensors (..., n, k) with orthonormal columns, or groups of them.
        lr: learning rate.
        momentum: in [0, 1).
        order: "project" or "accumulate".
        reorthonormalize_every: every so many steps rounding is removed by a polar factor; 0 never does.

    Raises:
        ValueError: a number out of range, an unknown order, or a parameter whose columns are not orthonormal; in
            ``step``, a gradient that is not finite (the bases stay as they were, the momentum starts anew).

    Source: Wang, Li & Zhang 2023, "Get the Best of Both Worlds: Improving Accuracy and Transferability by Grassmann
    Class Representation": "project" is the order of their poster, "accumulate" that of their code.

    >>> S, x = torch.nn.Parameter(torch.tensor([[1.0], [0.0]])), torch.tensor([0.6, 0.8])
    >>> optimizer = GrassmannSGD([S], lr=0.1, momentum=0.5)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     (1 - (x @ S).square().sum()).backward()
    ...     optimizer.step()
    >>> S.detach().flatten().round(decimals=3).tolist()
    [0.6000000238418579, 0.800000011920929]
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        *,
        momentum: float = 0.9,
        order: str = "project",
        reorthonormalize_every: int = 5,
    ) -> None:
        if not (lr >= 0 and 0 <= momentum < 1 and reorthonormalize_every >= 0) or order not in ORDERS:
            raise ValueError(
                f"lr, momentum, reorthonormalize_every, order: received {lr}, {momentum}, {reorthonormalize_every} and "
                f"{order!r}; valid are lr >= 0, 0 <= momentum < 1, an integer >= 0 and one of {', '.join(ORDERS)}. "
                "Repair: the defaults."
            )
        defaults = {"lr": lr, "momentum": momentum, "order": order, "reorthonormalize_every": reorthonormalize_every}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in ``torch.optim``; the parameters must have orthonormal columns. Costs a product."""
        super().add_param_group(param_group)
        try:
            for S in self.param_groups[-1]["params"]:
                _require_orthonormal(S)
        except ValueError:
            del self.param_groups[-1]
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One step for every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for S in group["params"]:
                if S.grad is not None:
                    self._move(S, S.grad, group)
        return loss

    def _move(self, S: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[S]
        state["step"] = state.get("step", 0) + 1
        momentum, project = group["momentum"], group["order"] == "project"
        if momentum and "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(S)
        buffer = state["momentum_buffer"] if momentum else grad
        every = group["reorthonormalize_every"]
        rows, gradients, kept = (_rows(x) for x in (S, grad, buffer))
        carried = momentum and project  # then the buffer itself is tangent
        overlaps, squares = [], []
        for s, d, m in _blocks(rows, gradients, kept):
            if momentum:
                m.mul_(momentum).add_(d)
            overlap = m @ s.mT  # the part of m inside the subspace: overlap @ s
            tangent = torch.baddbmm(m, overlap, s, alpha=-1, out=m if carried else None)
            squares.append(tangent @ tangent.mT)
            overlaps.append(overlap)
        try:
            cos, sinc = cos_sinc(group["lr"] ** 2 * torch.cat(squares))
        except torch.linalg.LinAlgError:
            del self.state[S]
            raise ValueError(
                "grad: received NaN or infinity; valid are finite gradients. The bases are unchanged, their momentum "
                "starts anew. Repair: a smaller learning rate, or clip the gradients."
            ) from None
        sinc = group["lr"] * sinc
        stay = cos if carried else cos + sinc @ torch.cat(overlaps)
        for s, m, keep, turn in _blocks(rows, kept, stay, sinc):
            new = torch.baddbmm(keep @ s, turn, m, alpha=-1)
            s.copy_(polish(new @ new.mT) @ new if every and state["step"] % every == 0 else new)
        for x, copy in ((S, rows), (buffer, kept)):
            if momentum or x is S:
                _write_back(x, copy)


def _rows(x: Tensor) -> Tensor:
    """(..., n, k) as (N, k, n); a view wherever there is one."""
    return x.mT.reshape(-1, x.shape[-1], x.shape[-2])


def _write_back(x: Tensor, rows: Tensor) -> None:
    """Into x what was written into its rows, where these are a copy."""
    if rows.data_ptr() != x.data_ptr():
        x.copy_(rows.view(x.mT.shape).mT)


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Slices along the first dimension, each small enough for the cache of a CPU; elsewhere everything at once."""
    first = tensors[0]
    size = (
        max(1, _BLOCK // max(1, first[:1].numel() * first.element_size())) if first.device.type == "cpu" else len(first)
    )
    return zip(*(x.split(max(1, size)) for x in tensors), strict=True)


def _require_orthonormal(S: Tensor) -> None:
    if S.dtype not in (torch.float32, torch.float64) or S.dim() < 2 or not 1 <= S.shape[-1] <= S.shape[-2]:
        raise ValueError(
            f"params: received shape {tuple(S.shape)} of {S.dtype}; valid is (..., n, k) with k <= n, float32 or "
            "float64. Repair: columns span the subspace; keep them in float32 under mixed precision."
        )
    with torch.no_grad():
        one = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
        defect = float((S.mT @ S - one).abs().amax()) if S.numel() else 0.0
    if not defect <= thresholds.membership(S.dtype):
        raise ValueError(
            f"params: received columns with |S^T S - I| up to {defect:.2g}; valid are orthonormal columns. "
            "Repair: start from repgeom.manifolds.grassmann.project(S) or random(...)."
        )
