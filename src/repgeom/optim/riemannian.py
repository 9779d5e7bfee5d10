r"""Riemannian SGD and Adam: every parameter group says by name on which space its parameters live.

A space here is three functions: the gradient in coordinates of the tangent space, a move along such coordinates, and
how coordinates are carried to the new point. State (momentum) is kept in these coordinates, so it is in ``state_dict``.

* ``euclidean``: ordinary parameters.
* ``stiefel``: W (..., n, m) with orthonormal columns. Coordinates are ambient: E - W sym(W^T E); the move is the Q of a
  QR decomposition with positive diagonal; carried by projection.
* ``grassmann``: S (..., n, k) with orthonormal columns, standing for their span. Coordinates are ambient: E - S S^T E;
  the move is a geodesic; carried by projection. :class:`repgeom.optim.GrassmannSGD` does the same faster.
* ``spd``: affine-invariant. Coordinates are those of the orthonormal frame X^1/2 . X^1/2: S = X^1/2 sym(E) X^1/2,
  that is X^-1/2 grad X^-1/2. The move X^1/2 exp(S) X^1/2 is a geodesic; carried by parallel transport, a rotation of S.
* ``spd_bures_wasserstein``: coordinates are L_X[grad] = 2 sym(E). The move is (I + L) X (I + L), a geodesic, needs no
  eigen-decomposition, and is shortened to |L| <= 1/2 so that it stays in the cone; coordinates are carried unchanged.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from repgeom.manifolds import grassmann
from repgeom.manifolds.spd.cone import sym
from repgeom.manifolds.spd.matrix_functions import expm, inv_sqrtm, sqrtm


class _Space(NamedTuple):
    gradient: Callable[[Tensor, Tensor], Tensor]  # point, Euclidean gradient -> coordinates
    move: Callable[[Tensor, Tensor], Tensor]  # point, coordinates -> new point
    carry: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # old, step, new point, coordinates -> coordinates


def _stiefel_tangent(W: Tensor, E: Tensor) -> Tensor:
    return E - W @ sym(W.mT @ E)


def _qr_retraction(W: Tensor, V: Tensor) -> Tensor:
    Q, R = torch.linalg.qr(W + _stiefel_tangent(W, V))
    return Q * torch.where(R.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(Q.dtype)[..., None, :]


def _grassmann_move(S: Tensor, G: Tensor) -> Tensor:
    G = grassmann.project_tangent(S, G)  # Adam scales entries one by one, which leaves the tangent space
    return grassmann.reorthonormalize(grassmann.exp(S, G))


def _frame_gradient(X: Tensor, E: Tensor) -> Tensor:
    half = sqrtm(X)
    return sym(half @ sym(E) @ half)


def _spd_move(X: Tensor, S: Tensor) -> Tensor:
    half = sqrtm(X)
    return sym(half @ expm(S) @ half)


def _spd_carry(X: Tensor, step: Tensor, new: Tensor, S: Tensor) -> Tensor:
    """Transport in the two frames: O S O^T with the orthogonal O = new^-1/2 X^1/2 exp(step / 2)."""
    O = inv_sqrtm(new) @ sqrtm(X) @ expm(step / 2)
    return sym(O @ S @ O.mT)


def _bw_move(X: Tensor, L: Tensor) -> Tensor:
    size = torch.linalg.matrix_norm(L, ord=2, keepdim=True)
    step = torch.eye(X.shape[-1], dtype=X.dtype, device=X.device) + L / (2 * size).clamp_min(1)
    return sym(step @ X @ step)


SPACES: dict[str, _Space] = {
    "euclidean": _Space(lambda x, g: g, lambda x, v: x + v, lambda x, v, y, m: m),
    "stiefel": _Space(_stiefel_tangent, _qr_retraction, lambda x, v, y, m: _stiefel_tangent(y, m)),
    "grassmann": _Space(grassmann.project_tangent, _grassmann_move, lambda x, v, y, m: grassmann.project_tangent(y, m)),
    "spd": _Space(_frame_gradient, _spd_move, _spd_carry),
    "spd_bures_wasserstein": _Space(lambda X, E: 2 * sym(E), _bw_move, lambda x, v, y, m: m),
}


def parameter_groups(model: nn.Module, **options: Any) -> list[dict[str, Any]]:
    r"""The parameters of a model, one group per space: modules name theirs in an attribute ``manifolds``.

    Args:
        model: any module; parameters that no module claims are Euclidean.
        options: entries of every group, for instance ``lr``.

    Returns:
        Groups for :class:`RiemannianSGD` and :class:`RiemannianAdam`, with "params", "manifold" and the options; add
        options of one space to the group that carries its name.

    Raises:
        ValueError: a module names a space that does not exist.

    Source: this book.

    >>> from repgeom.nn.spd import SPDNet
    >>> [group["manifold"] for group in parameter_groups(SPDNet([8, 4], 5), lr=0.1)]
    ['euclidean', 'stiefel']
    """
    claimed: dict[int, str] = {}
    for module in model.modules():
        for name, space in getattr(module, "manifolds", {}).items():
            parameter = getattr(module, name, None)
            if isinstance(parameter, nn.Parameter):
                claimed[id(parameter)] = _known(space)
    groups: dict[str, list[Tensor]] = {}
    for parameter in model.parameters():
        groups.setdefault(claimed.get(id(parameter), "euclidean"), []).append(parameter)
    return [{"params": groups[space], "manifold": space, **options} for space in SPACES if space in groups]


def _known(space: str) -> str:
    if space not in SPACES:
        raise ValueError(f"manifold: received {space!r}; valid is one of {', '.join(SPACES)}. Repair: use such a name.")
    return space


class _Riemannian(torch.optim.Optimizer):
    """What the two share: groups with a space, weight decay of Euclidean parameters, the step over all parameters."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        lr, decay = defaults["lr"], defaults["weight_decay"]
        if not (lr >= 0 and decay >= 0):
            raise ValueError(
                f"lr, weight_decay: received {lr} and {decay}; valid are numbers >= 0. Repair: lr=0.01, weight_decay=0."
            )
        super().__init__(params, {"manifold": "euclidean", **defaults})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in ``torch.optim``; the name of the space is checked."""
        _known(param_group.get("manifold", "euclidean"))
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One step for every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            space = SPACES[group["manifold"]]
            for point in group["params"]:
                if point.grad is None:
                    continue
                grad = point.grad
                if group["weight_decay"] and group["manifold"] == "euclidean":
                    grad = grad.add(point, alpha=group["weight_decay"])
                coordinates = space.gradient(point, grad)
                direction, carried = self._direction(self.state[point], group, coordinates)
                move = direction.mul(-group["lr"])
                new = space.move(point, move)
                for name in carried:
                    self.state[point][name] = space.carry(point, move, new, self.state[point][name])
                point.copy_(new)
        return loss

    def _direction(self, state: dict[str, Any], group: dict[str, Any], grad: Tensor) -> tuple[Tensor, tuple[str, ...]]:
        raise NotImplementedError


class RiemannianSGD(_Riemannian):
    r"""Stochastic gradient descent with momentum on mixed spaces.

    m <- momentum * m + g, x <- move(x, -lr m), then m is carried to the new point. With only Euclidean groups it equals
    ``torch.optim.SGD``.

    Args:
        params: parameters, or groups that name their "manifold" (:func:`parameter_groups`).
        lr: learning rate.
        momentum: in [0, 1).
        nesterov: step along g + momentum * m.
        weight_decay: of Euclidean parameters; the others keep their norm, or have no natural zero.

    Raises:
        ValueError: a number out of range, or a space that does not exist.

    Source: Bonnabel 2013, "Stochastic gradient descent on Riemannian manifolds".

    >>> X = nn.Parameter(4 * torch.eye(2, dtype=torch.float64))
    >>> optimizer = RiemannianSGD([{"params": [X], "manifold": "spd"}], lr=0.5)
    >>> for _ in range(50):
    ...     optimizer.zero_grad()
    ...     (X.trace() - torch.logdet(X)).backward()
    ...     optimizer.step()
    >>> X.detach().round(decimals=3).diagonal().tolist()
    [1.0, 1.0]
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum: received {momentum}; valid is 0 <= momentum < 1. Repair: momentum=0.9.")
        super().__init__(params, {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay})

    def _direction(self, state: dict[str, Any], group: dict[str, Any], grad: Tensor) -> tuple[Tensor, tuple[str, ...]]:
        if not group["momentum"]:
            return grad, ()
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = grad.clone()
        else:
            state["momentum_buffer"].mul_(group["momentum"]).add_(grad)
        m = state["momentum_buffer"]
        return (grad + group["momentum"] * m if group["nesterov"] else m), ("momentum_buffer",)


class RiemannianAdam(_Riemannian):
    r"""Adam (or AMSGrad) on mixed spaces; second moments are kept entry by entry of the coordinates.

    With only Euclidean groups it equals ``torch.optim.Adam``.

    Args:
        params: parameters, or groups that name their "manifold" (:func:`parameter_groups`).
        lr: learning rate.
        betas: decay of the two moments, each in [0, 1).
        eps: added to the root of the second moment.
        weight_decay: of Euclidean parameters.
        amsgrad: use the largest second moment so far.

    Raises:
        ValueError: a number out of range, or a space that does not exist.

    Source: Becigneul & Ganea 2019, "Riemannian adaptive optimization methods"; Kingma & Ba 2015; Reddi et al. 2018.

    >>> W = nn.Parameter(torch.eye(3, 1, dtype=torch.float64))
    >>> optimizer = RiemannianAdam([{"params": [W], "manifold": "stiefel"}], lr=0.1)
    >>> for _ in range(200):
    ...     optimizer.zero_grad()
    ...     (W - torch.tensor([[0.0], [0.6], [0.8]])).square().sum().backward()
    ...     optimizer.step()
    >>> W.detach().round(decimals=2).abs().flatten().tolist()
    [0.0, 0.6, 0.8]
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        if not (0 <= betas[0] < 1 and 0 <= betas[1] < 1 and eps >= 0):
            raise ValueError(
                f"betas, eps: received {betas} and {eps}; valid are 0 <= beta < 1 and eps >= 0. Repair: the defaults."
            )
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, defaults)

    def _direction(self, state: dict[str, Any], group: dict[str, Any], grad: Tensor) -> tuple[Tensor, tuple[str, ...]]:
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float64)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(grad), torch.zeros_like(grad)
            if group["amsgrad"]:
                state["max_exp_avg_sq"] = torch.zeros_like(grad)
        first, second = group["betas"]
        state["step"] += 1
        state["exp_avg"].lerp_(grad, 1 - first)
        state["exp_avg_sq"].mul_(second).addcmul_(grad, grad, value=1 - second)
        squares = state["exp_avg_sq"]
        if group["amsgrad"]:
            squares = torch.maximum(state["max_exp_avg_sq"], squares, out=state["max_exp_avg_sq"])
        step = float(state["step"])
        scale = (squares / (1 - second**step)).sqrt_().add_(group["eps"])
        return state["exp_avg"] / (1 - first**step) / scale, ("exp_avg",)
