"""The spaces of the package and the laws that each of them obeys. A new space is one line in ``SPACES``."""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from repgeom.manifolds import grassmann, poincare, rotations
from repgeom.manifolds.spd import affine_invariant, bures_wasserstein, log_cholesky, log_euclidean
from repgeom.manifolds.spd.matrix_functions import expm, logm

Draw = torch.Generator


def gaussian_vectors(*shape: int) -> Callable[[Tensor, Draw], Tensor]:
    """Tangent vectors with independent standard normal coordinates."""
    return lambda point, g: torch.randn(len(point), *shape, generator=g, dtype=point.dtype)


@dataclass(frozen=True)
class Space:
    """What the laws must know beyond the verbs."""

    module: ModuleType
    tangent: Callable[[Tensor, Draw], Tensor]  # random tangent vectors at n points, of length about one
    inner: Callable[[Tensor, Tensor, Tensor], Tensor]  # scalar product of two tangent vectors at a point
    isometry: Callable[[Tensor, Tensor], Tensor]  # (g, x): the first, a point, moves the second
    ambient: tuple[int, ...]  # shape of what `project` receives
    defect: Callable[[Tensor], Tensor]  # how far an ambient array is from the space
    reach: float  # exp is one-to-one on tangent vectors shorter than this
    symmetric: bool  # a symmetric space: the pole ladder transports exactly
    rounding: float = 1.0  # allowed besides: by how much points that are not orthogonal matrices amplify rounding
    examples: int = 20  # how many random seeds each law is tried on
    embed: Callable[[Tensor], Tensor] = torch.clone  # one array per point, where points have several matrices

    @property
    def name(self) -> str:
        return self.module.__name__.split(".")[-1]

    @property
    def stride(self) -> float:
        """The length of a long step that leaves every point within reach: one, or less."""
        return min(1.0, 0.9 * self.reach)

    def slack(self, dtype: torch.dtype) -> float:
        return self.rounding * 50 * torch.finfo(dtype).eps

    def close(self, actual: Tensor, expected: Tensor, scale: float = 1.0) -> None:
        limit = scale * self.slack(actual.dtype)
        assert actual.dtype == expected.dtype
        error = (actual - expected).abs().max()
        assert error <= limit, f"off by {float(error):.3g}, allowed {limit:.3g}"

    def same(self, actual: Tensor, expected: Tensor, scale: float = 1.0) -> None:
        """The same points."""
        self.close(self.embed(actual), self.embed(expected), scale)


def orthogonality_defect(R: Tensor) -> Tensor:
    return torch.maximum((R.mT @ R - torch.eye(3, dtype=R.dtype)).abs().amax((-2, -1)), (torch.linalg.det(R) - 1).abs())


def euclidean(point: Tensor, u: Tensor, v: Tensor) -> Tensor:
    return (u * v).sum(-1)


def symmetric_vectors(point: Tensor, g: Draw) -> Tensor:
    """F S F^T with point = F F^T and a random symmetric S of Frobenius norm one: so small that X + V is positive."""
    F, S = torch.linalg.cholesky(point), torch.randn(point.shape, generator=g, dtype=point.dtype)
    return congruence(F, (S + S.mT) / torch.linalg.matrix_norm(S + S.mT)[..., None, None])


def positivity_defect(X: Tensor) -> Tensor:
    return torch.maximum((X - X.mT).abs().amax((-2, -1)), -torch.linalg.eigvalsh(X)[..., 0])


def congruence(g: Tensor, x: Tensor) -> Tensor:
    return g @ x @ g.mT


def turn(g: Tensor, x: Tensor) -> Tensor:
    return congruence(torch.linalg.eigh(g).eigenvectors, x)


def log_product(g: Tensor, x: Tensor) -> Tensor:
    return expm(logm(g) + logm(x))


def cholesky_product(g: Tensor, x: Tensor) -> Tensor:
    """The factors' strictly lower parts are added, their diagonals multiplied."""
    a, b = torch.linalg.cholesky(g), torch.linalg.cholesky(x)
    F = (a + b).tril(-1) + torch.diag_embed(a.diagonal(dim1=-2, dim2=-1) * b.diagonal(dim1=-2, dim2=-1))
    return F @ F.mT


def horizontal_vectors(point: Tensor, g: Draw) -> Tensor:
    """Tangent vectors of length about one."""
    Z = torch.randn(point.shape, generator=g, dtype=point.dtype)
    return grassmann.project_tangent(point, Z) / 2


def orthonormality_defect(S: Tensor) -> Tensor:
    return (S.mT @ S - torch.eye(S.shape[-1], dtype=S.dtype)).abs().amax((-2, -1))


def projector(S: Tensor) -> Tensor:
    return S @ S.mT


def turn_by_first(g: Tensor, x: Tensor) -> Tensor:
    """An orthogonal map of the space around, made from a point: the reflection at its subspace."""
    return x - 2 * grassmann.project_tangent(g, x)


def unit_vectors(point: Tensor, g: Draw) -> Tensor:
    return gaussian_vectors(3)(point, g) / poincare.conformal_factor(point)[:, None]


def inside(x: Tensor) -> Tensor:
    """How far beyond the longest point that `project` leaves."""
    return (x.norm(dim=-1) - poincare.project(1e3 * torch.ones_like(x)).norm(dim=-1)).clamp_min(0)


def positive(module: ModuleType, isometry: Callable[[Tensor, Tensor], Tensor], reach: float, **more: Any) -> Space:
    more = {"examples": 12} | more
    return Space(module, symmetric_vectors, module.inner, isometry, (3, 3), positivity_defect, reach, **more)


SPACES = (
    Space(rotations, gaussian_vectors(3), euclidean, torch.matmul, (3, 3), orthogonality_defect, pi, symmetric=True),
    Space(grassmann, horizontal_vectors, grassmann.inner, turn_by_first, (5, 2), orthonormality_defect, pi / 2,
          symmetric=True, rounding=4, embed=projector),
    Space(poincare, unit_vectors, poincare.inner, poincare.mobius_add, (3,), inside, 2.0, symmetric=True,
          rounding=20, examples=6),
    positive(affine_invariant, congruence, reach=2.0, symmetric=True, rounding=20),  # any reach, below too
    positive(log_euclidean, log_product, reach=2.0, symmetric=True, rounding=20),
    positive(log_cholesky, cholesky_product, reach=2.0, symmetric=True, rounding=5),
    positive(bures_wasserstein, turn, reach=0.15, symmetric=False, rounding=20, examples=4),  # reach^2 < any eigenvalue
)  # fmt: skip


def draw(space: Space, dtype: torch.dtype, seed: int, n: int = 20) -> tuple[Draw, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return g, space.module.random(n, g, dtype), space.module.random(n, g, dtype)


def short(space: Space, point: Tensor, g: Draw, length: float) -> Tensor:
    """Tangent vectors of lengths up to ``length``, some of them tiny, one zero."""
    v = space.tangent(point, g)
    size = length * torch.rand(len(point), generator=g, dtype=point.dtype) * 10.0 ** -torch.arange(len(point)).fmod(5)
    size[0] = 0
    shape = (-1,) + (1,) * (v.dim() - 1)
    return v / space.inner(point, v, v).sqrt().reshape(shape) * size.to(point.dtype).reshape(shape)


def logarithm_inverts_exponential(space: Space, dtype: torch.dtype, seed: int) -> None:
    g, x, y = draw(space, dtype, seed)
    v = short(space, x, g, 0.99 * space.reach)
    space.close(space.module.log(x, space.module.exp(x, v)), v, 10)
    space.same(space.module.exp(x, space.module.log(x, y)), y)


def distance_is_a_metric(space: Space, dtype: torch.dtype, seed: int) -> None:
    g, x, y = draw(space, dtype, seed)
    z = space.module.random(len(x), g, dtype)
    d = space.module.distance
    space.close(d(x, x), torch.zeros_like(d(x, x)))
    assert (d(x, y) > 0).all()
    space.close(d(x, y), d(y, x))
    assert (d(x, z) <= d(x, y) + d(y, z) + space.slack(dtype)).all()
    v = space.module.log(x, y)
    space.close(d(x, y), space.inner(x, v, v).sqrt())
    near = short(space, x, g, 1e-3)
    space.close(d(x, space.module.exp(x, near)), space.inner(x, near, near).sqrt())


def distance_is_invariant(space: Space, dtype: torch.dtype, seed: int) -> None:
    g, x, y = draw(space, dtype, seed)
    move = space.module.random(len(x), g, dtype)
    space.close(space.module.distance(space.isometry(move, x), space.isometry(move, y)), space.module.distance(x, y))


def geodesics_join_at_constant_speed(space: Space, dtype: torch.dtype, seed: int) -> None:
    g, x, y = draw(space, dtype, seed)
    s, t = torch.rand(2, len(x), generator=g, dtype=dtype)
    path = space.module.geodesic
    space.same(path(x, y, 0.0), x)
    space.same(path(x, y, 1.0), y)
    space.same(path(y, x, 1 - t), path(x, y, t), 10)
    space.close(space.module.distance(path(x, y, s), path(x, y, t)), (s - t).abs() * space.module.distance(x, y))


def transport_is_an_isometry_along_geodesics(space: Space, dtype: torch.dtype, seed: int) -> None:
    g, x, y = draw(space, dtype, seed)
    u, v = space.tangent(x, g), space.tangent(x, g)
    carry, log = space.module.transport, space.module.log
    space.close(space.inner(y, carry(x, y, u), carry(x, y, v)), space.inner(x, u, v))
    space.close(carry(x, y, log(x, y)), -log(y, x), 10)  # the velocity of a geodesic is parallel
    space.close(carry(y, x, carry(x, y, v)), v, 10)
    middle = space.module.geodesic(x, y, 0.5)
    space.close(carry(middle, y, carry(x, middle, v)), carry(x, y, v), 10)


def transport_agrees_with_the_pole_ladder(space: Space, dtype: torch.dtype, seed: int) -> None:
    """Reflect the end of v through the middle of the geodesic: exact in symmetric spaces, and uses exp and log only."""
    if not space.symmetric:
        return
    g, x, _ = draw(space, dtype, seed)
    y = space.module.exp(x, short(space, x, g, space.stride))
    v = short(space, x, g, 0.5)
    middle = space.module.geodesic(x, y, 0.5)
    pole = space.module.exp(middle, -space.module.log(middle, space.module.exp(x, v)))
    space.close(space.module.transport(x, y, v), -space.module.log(y, pole), 10)


def mean_minimises_and_moves_along(space: Space, dtype: torch.dtype, seed: int) -> None:
    g, x, _ = draw(space, dtype, seed)
    points = space.module.exp(x[:1], short(space, x[:1].expand_as(x), g, space.stride))
    weights = torch.rand(len(x), generator=g, dtype=dtype)
    for w in (None, weights):
        share = torch.ones_like(weights) if w is None else w
        center = space.module.mean(points, w)
        pull = torch.einsum("n,n...->...", share, space.module.log(center[None], points))
        space.close(pull, torch.zeros_like(pull), 20)

        def spread(at: Tensor, share: Tensor = share) -> Tensor:
            return (share * space.module.distance(at, points).square()).sum()

        aside = space.module.exp(center[None], 0.1 * space.tangent(center[None], g))
        assert spread(aside[0]) > spread(center)
        move = space.module.random(1, g, dtype)
        space.same(space.module.mean(space.isometry(move, points), w), space.isometry(move[0], center), 10)
    space.same(space.module.mean(points.flip(0), weights.flip(0)), space.module.mean(points, 3 * weights), 10)
    space.same(space.module.mean(x[:1].expand_as(x)), x[0])
    batch = torch.stack([points, points.flip(0)])
    space.same(space.module.mean(batch)[0], space.module.mean(points), 10)


def projection_is_idempotent(space: Space, dtype: torch.dtype, seed: int) -> None:
    g, x, _ = draw(space, dtype, seed)
    space.same(space.module.project(x), x)
    ambient = torch.randn(len(x), *space.ambient, generator=g, dtype=dtype)
    once = space.module.project(ambient)
    space.close(space.defect(once), torch.zeros_like(space.defect(once)))
    space.same(space.module.project(once), once)


def random_points_lie_in_the_space(space: Space, dtype: torch.dtype, seed: int) -> None:
    state = torch.get_rng_state()
    g, x, y = draw(space, dtype, seed)
    space.close(space.defect(x), torch.zeros_like(space.defect(x)))
    assert torch.equal(x, space.module.random(len(x), torch.Generator().manual_seed(seed), dtype))
    assert (space.module.distance(x, y) > 0).all()
    assert torch.equal(state, torch.get_rng_state()), "the global generator was used"
    assert len(space.module.random(0, g, dtype)) == 0


def verbs_are_batched(space: Space, dtype: torch.dtype, seed: int) -> None:
    g, x, y = draw(space, dtype, seed, n=6)
    v = space.tangent(x, g)
    m = space.module

    def grid(a: Tensor) -> Tensor:
        return a.reshape(2, 3, *a.shape[1:])

    for together, apart in (
        (m.distance(grid(x), grid(y)), [m.distance(a, b) for a, b in zip(x, y, strict=True)]),
        (m.exp(grid(x), grid(v)), [m.exp(a, b) for a, b in zip(x, v, strict=True)]),
        (m.log(grid(x), grid(y)), [m.log(a, b) for a, b in zip(x, y, strict=True)]),
        (m.geodesic(grid(x), grid(y), 0.3), [m.geodesic(a, b, 0.3) for a, b in zip(x, y, strict=True)]),
        (m.transport(grid(x), grid(y), grid(v)), [m.transport(a, b, c) for a, b, c in zip(x, y, v, strict=True)]),
        (m.project(grid(x)), [m.project(a) for a in x]),
    ):
        space.close(together.flatten(0, 1), torch.stack(apart))


LAWS = (
    logarithm_inverts_exponential,
    distance_is_a_metric,
    distance_is_invariant,
    geodesics_join_at_constant_speed,
    transport_is_an_isometry_along_geodesics,
    transport_agrees_with_the_pole_ladder,
    mean_minimises_and_moves_along,
    projection_is_idempotent,
    random_points_lie_in_the_space,
    verbs_are_batched,
)
