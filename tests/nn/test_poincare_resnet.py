"""Addition, midpoint, batch norm and residual network of the ball, against the formulas in ball coordinates."""

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from repgeom.manifolds import poincare
from repgeom.nn.poincare import (
    PoincareBatchNorm2d,
    PoincareClassifier,
    PoincareConv2d,
    PoincareResNet,
    reestimate,
    tangent_add,
    tangent_midpoint,
)
from repgeom.probes.cost import cost

F64 = torch.float64
CURVATURES = [1e-3, 0.1, 1.0, 4.0]
OPERATIONS = 12_200


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 1, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a.detach(), b.detach(), rtol=tolerance, atol=tolerance)


def cloud(c: float = 1.0, dtype: torch.dtype = F64) -> Tensor:
    """(3, 2, 4, 5) points that are not centred, at distances of about one unit of the curvature."""
    t = draw(3, 2, 4, 5) / 3 + torch.tensor([0.5, -0.3, 0.2, 0.0, 0.4], dtype=F64)
    return (t / c**0.5 if c else t).to(dtype)


def norm(
    c: float = 1.0, gamma: float = 1.7, bias: float = 0.4, channels: int = 5, **options: Any
) -> PoincareBatchNorm2d:
    layer = PoincareBatchNorm2d(channels, c, **{"dtype": F64, **options})
    with torch.no_grad():
        unit = c**0.5 if c else 1.0
        layer.bias.copy_(draw(channels, seed=4) * bias / unit)
        layer.variance.fill_(gamma / unit**2)
    return layer


# addition and midpoint


@pytest.mark.parametrize("c", CURVATURES)
def test_sum_is_that_of_the_ball(c: float) -> None:
    x, y = draw(30, 4) / c**0.5, draw(30, 4, seed=2) / 2 / c**0.5
    expected = poincare.logmap0(poincare.mobius_add(poincare.expmap0(x, c), poincare.expmap0(y, c), c), c)
    close(tangent_add(x, y, c) * c**0.5, expected * c**0.5, 1e-9)
    close(tangent_add(x, tangent_add(-x, y, c), c), y, 1e-11)
    close(tangent_add(x[0], y, c), tangent_add(x[:1].expand_as(y), y, c), 1e-13)


def test_sum_without_curvature_and_with_little() -> None:
    x, y = draw(9, 4), draw(9, 4, seed=2)
    close(tangent_add(x, y, 0.0), x + y, 1e-15)
    close(tangent_add(x, y, 1e-12), x + y, 1e-10)


@given(n=st.integers(1, 6), c=st.floats(0, 4), a=st.floats(0, 2), b=st.floats(0, 2), seed=st.integers(0, 99))
def test_left_cancellation(n: int, c: float, a: float, b: float, seed: int) -> None:
    x, y = a * draw(n, seed=seed), b * draw(n, seed=seed + 1)
    close(tangent_add(-x, tangent_add(x, y, c), c), y, 1e-8 if c * (x.norm() + y.norm()) ** 2 < 40 else 1)


@pytest.mark.parametrize("c", CURVATURES)
def test_midpoint_is_that_of_the_ball(c: float) -> None:
    t = cloud(c).flatten(0, 2)
    close(tangent_midpoint(t, c), poincare.logmap0(poincare.midpoint(poincare.expmap0(t, c), c=c), c), 1e-11)
    close(tangent_midpoint(t[:1], c), t[0], 1e-12)
    shift = draw(5, seed=3) / 2 / c**0.5  # a translation of all points moves the midpoint along
    moved = tangent_midpoint(tangent_add(shift, t, c), c)
    close(moved, tangent_add(shift, tangent_midpoint(t, c), c), 1e-11)
    close(tangent_midpoint(t, 0.0), t.mean(0), 1e-15)


@pytest.mark.parametrize("distance", [2.0, 6.0, 10.0])
def test_far_clouds_keep_digits_in_single_precision(distance: float) -> None:
    """A direction of tangent vectors resolves eps e^distance, and no more than that is lost."""
    centre = torch.zeros(5, dtype=F64)
    centre[0] = distance / 2
    t = tangent_add(centre, cloud() * 0.3, 1.0).float()
    rows, allowed = t.flatten(0, 2), 20 * 1.2e-7 * math.exp(distance)
    close(tangent_midpoint(rows, 1.0).double(), tangent_midpoint(rows.double(), 1.0), allowed / 10)
    single, double = norm(dtype=torch.float32, bias=0.1), norm(bias=0.1)
    close(single(t).double(), double(t.double()), allowed)


# batch norm


def ball_norm(t: Tensor, layer: PoincareBatchNorm2d, mean: Tensor | None = None, var: Tensor | None = None) -> Tensor:
    """Logarithm at the midpoint, transport, scale, exponential: as the paper writes it."""
    c, x = layer.c, poincare.expmap0(t.flatten(0, 2), layer.c)
    mu = poincare.midpoint(x, c=c) if mean is None else poincare.expmap0(mean, c)
    v = poincare.distance(x, mu, c).square().mean() if var is None else var
    beta = poincare.expmap0(layer.bias.detach(), c)
    u = poincare.transport(mu, beta, poincare.logmap(mu, x, c), c)
    return poincare.logmap0(
        poincare.expmap(beta, u * (layer.variance.detach() / (v + layer.eps)).sqrt(), c), c
    ).view_as(t)


@pytest.mark.parametrize("c", CURVATURES)
@pytest.mark.parametrize(("gamma", "bias"), [(1.0, 0.0), (1.7, 0.4), (0.2, 1.0)])
def test_norm_is_that_of_the_ball(c: float, gamma: float, bias: float) -> None:
    layer, t = norm(c, gamma, bias), cloud(c)
    close(layer(t) * c**0.5, ball_norm(t, layer) * c**0.5, 1e-9)
    layer.eval()
    other = tangent_add(draw(5, seed=8) / 4 / c**0.5, t, c)
    with torch.no_grad():
        layer.running_var.fill_(0.8 / c)
        layer.running_mean.copy_(draw(5, seed=9) / 3 / c**0.5)
    close(layer(other) * c**0.5, ball_norm(other, layer, layer.running_mean, layer.running_var) * c**0.5, 1e-9)


@pytest.mark.parametrize("c", [0.0, *CURVATURES])
def test_after_the_norm_the_variance_is_gamma_about_the_bias(c: float) -> None:
    layer, t = norm(c), cloud(c)
    out = layer(t).flatten(0, 2)
    rows = t.flatten(0, 2)
    var = 4 * tangent_add(-tangent_midpoint(rows, c), rows, c).square().sum(-1).mean()
    spread = 4 * tangent_add(-layer.bias, out, c).square().sum(-1).mean()
    close(spread, layer.variance * var / (var + layer.eps), 1e-11)
    # the bias is the midpoint exactly where no distance changes, or without curvature
    with torch.no_grad():
        layer.variance.copy_(var + layer.eps)
    close(tangent_midpoint(layer(t).flatten(0, 2), c), layer.bias, 1e-11)
    if not c:
        close(out.mean(0), layer.bias, 1e-12)


def test_without_curvature_it_is_the_vector_norm_with_one_scale() -> None:
    layer, t = norm(0.0), cloud(0.0)
    centred = t - t.flatten(0, 2).mean(0)
    var = 4 * centred.square().sum(-1).mean()
    expected = layer.bias + centred * (layer.variance / (var + layer.eps)).sqrt()
    close(layer(t), expected, 1e-14)
    near = norm(0.0)
    near.c = 1e-12
    close(near(t), expected, 1e-10)


def test_units_of_length_do_not_matter() -> None:
    a, c, t = 7.0, 0.5, cloud()
    layer, other = norm(c), norm(c * a * a, eps=1e-6 / a**2)
    with torch.no_grad():
        other.bias.copy_(layer.bias / a)
        other.variance.copy_(layer.variance / a**2)
    close(other(t / a) * a, layer(t), 1e-11)


def test_rotated_channels_give_rotated_outputs() -> None:
    Q = torch.linalg.qr(draw(5, 5)).Q
    layer, other = norm(), norm()
    with torch.no_grad():
        other.bias.copy_(layer.bias @ Q)
    close(other(cloud() @ Q), layer(cloud()) @ Q, 1e-12)


def test_running_statistics_are_moving_averages_of_those_of_the_batches() -> None:
    layer, t = norm(), cloud()
    rows = t.flatten(0, 2)
    mean = tangent_midpoint(rows, 1.0)
    var = poincare.distance(poincare.expmap0(rows), poincare.expmap0(mean)).square().mean()
    layer(t)
    close(layer.running_mean, 0.1 * mean, 1e-12)
    close(layer.running_var, 0.9 + 0.1 * var, 1e-12)
    for _ in range(300):
        layer(t)
    close(layer.running_mean, mean, 1e-9)
    close(layer.running_var, var, 1e-9)
    trained = layer(t)
    assert int(layer.num_batches_tracked) == 302
    layer.eval()
    close(layer(t), trained, 1e-8)
    assert int(layer.num_batches_tracked) == 302
    layer.reset_running_stats()
    assert float(layer.running_mean.abs().max()) == 0 and float(layer.running_var) == 1


def test_evaluation_does_not_depend_on_the_batch() -> None:
    layer, t = norm(), cloud()
    layer(t)
    layer.eval()
    close(torch.cat([layer(t[k : k + 1]) for k in range(3)]), layer(t), 1e-14)
    close(layer(t[:1, :1, :1]), layer(t)[:1, :1, :1], 1e-14)


@pytest.mark.parametrize("c", [0.0, 1e-6, 0.1, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_gradients(c: float, training: bool) -> None:
    layer = norm(momentum=0.0).train(training)
    layer.c = c
    names = [name for name, _ in layer.named_parameters()]

    def f(t: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (t,))

    t = (cloud()[:, :1, :2] if c < 1 else cloud()[:, :1, :2] / 2).clone().requires_grad_()
    assert torch.autograd.gradcheck(f, (t, *layer.parameters()), atol=1e-6)
    x, y = draw(3, 4).requires_grad_(), draw(3, 4, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: tangent_add(x, y, c), (x, y), atol=1e-7)
    assert torch.autograd.gradcheck(lambda x: tangent_midpoint(x, c), (x,), atol=1e-7)
    assert torch.autograd.gradcheck(lambda x, y: tangent_add(x[0], y, c), (x, y), atol=1e-7)
    assert torch.autograd.gradcheck(lambda x, y: tangent_add(x[0], y[0], c), (x, y), atol=1e-7)


@pytest.mark.parametrize("c", [0.1, 1.0])
def test_adjoint_identity(c: float) -> None:
    """<J'g, v> = <g, Jv>, Jv by differences of order four."""
    layer, t, v, h = norm(c, momentum=0.0), cloud(c).requires_grad_(), draw(3, 2, 4, 5, seed=5), 1e-3
    out = layer(t)
    g = draw(*out.shape, seed=6)
    (towards_t,) = torch.autograd.grad(out, t, g)
    with torch.no_grad():
        at = {k: layer(t + k * h * v) for k in (-2, -1, 1, 2)}
        right = (g * (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)).sum()
    torch.testing.assert_close((towards_t * v).sum(), right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("c", [0.0, 1e-4, 0.1, 10.0])
@pytest.mark.parametrize("radius", [0.0, 1e-30, 1e-5, 1.0, 9.0, 10.0, 14.0, 1e3])
def test_nothing_overflows_in_single_precision(c: float, radius: float) -> None:
    directions = nn.functional.normalize(draw(2, 4, 4, 5, dtype=torch.float32), dim=-1) * radius / max(c, 1e-2) ** 0.5
    same = directions[:1, :1, :1].expand(2, 4, 4, 5)
    holed = directions.clone()
    holed[0, 0] = 0
    for t in (directions, same, holed):
        for f in (norm(c, dtype=torch.float32), norm(c, bias=0.0, dtype=torch.float32).eval(), *(
            lambda x, y=y: tangent_add(x, y, c) for y in (t, -t, directions.flip(0))
        )):  # fmt: skip
            x = t.clone().requires_grad_()
            out = f(x)
            parameters = list(f.parameters()) if isinstance(f, nn.Module) else []
            slopes = torch.autograd.grad(out.sum(), [x, *parameters])
            assert all(bool(torch.isfinite(y).all()) for y in (out, *slopes)), f


def test_points_that_coincide_go_to_the_bias() -> None:
    layer = norm()
    for t in (torch.zeros(2, 3, 3, 5, dtype=F64), cloud()[:1, :1, :1].expand(2, 3, 3, 5)):
        close(layer(t), layer.bias.expand_as(t), 1e-7)


@pytest.mark.parametrize("gamma", [0.0, -0.5])
def test_variance_below_zero_counts_as_zero(gamma: float) -> None:
    layer, t = norm(gamma=gamma), cloud().requires_grad_()
    out = layer(t)
    close(out, layer.bias.expand_as(out), 1e-12)
    out.square().sum().backward()
    assert float(layer.variance.grad) == 0 and bool(t.grad.isfinite().all())  # type: ignore[arg-type, union-attr]


# re-estimation


def test_reestimate_averages_over_the_batches_and_restores_modes() -> None:
    model = nn.Sequential(norm(momentum=0.3), nn.Identity()).train()
    model[0].eval()
    batches = [cloud(), cloud().flip(0) * 0.5, -0.2 * cloud()]
    before = [p.detach().clone() for p in model.parameters()]
    reestimate(model, (batch for batch in batches))
    means = torch.stack([tangent_midpoint(b.flatten(0, 2), 1.0) for b in batches])
    close(model[0].running_mean, means.mean(0), 1e-12)
    assert model.training and not model[0].training and model[0].momentum == 0.3
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_reestimate_serves_the_euclidean_twin() -> None:
    model, images = PoincareResNet(8, (2, 2, 2), euclidean=True, generator=generator()).eval(), draw(6, 3, 8, 8).float()
    reestimate(model, [images[:3], images[3:]])
    stem = model.conv(images).detach()
    close(model.norm.running_mean, stem.mean((0, 2, 3)), 1e-5)  # type: ignore[arg-type]
    assert not model.training and model.norm.momentum == 0.1


def test_reestimate_restores_after_an_error_and_wants_batches() -> None:
    model = norm().eval()
    with pytest.raises(ValueError, match="batches: received none"):
        reestimate(model, [])
    with pytest.raises(ValueError, match="t: received shape"):
        reestimate(model, [torch.ones(2, 2, 2, 4, dtype=F64)])
    assert not model.training and model.momentum == 0.1


# the network


def test_numbers_of_parameters() -> None:
    """Per norm, C + 1 against 2 C: the released network has 32 curvatures besides."""

    def number(**options: Any) -> int:
        return sum(p.numel() for p in PoincareResNet(20, **options).parameters())

    widths = [8] * 7 + [16] * 6 + [32] * 6
    assert number(euclidean=True) == 69_082
    assert number() == 68_757 == 69_082 - sum(C - 1 for C in widths)
    assert 68_789 == number() + 3 + 9 * 3 + 2  # three balls, three a block, one a shortcut


@pytest.mark.parametrize("c", [0.0, 0.1])
def test_block_adds_on_the_channels(c: float) -> None:
    model = PoincareResNet(8, (3, 4, 5), c=c, initialisation="variance", generator=generator()).double()
    block, t = model.blocks[1], cloud()[..., :3]
    y = block.norm2(block.conv2(block.norm1(block.conv1(t)).relu()))
    close(block(t), tangent_add(y, block.shortcut(t), c).relu(), 1e-12)
    assert block(t).shape == (3, 1, 2, 4) and block.shortcut.kernel_size == 1 and block.shortcut.stride == 2
    if c:
        assert (
            float((tangent_add(y, block.shortcut(t), c) - tangent_add(block.shortcut(t), y, c)).detach().abs().max())
            > 1e-6
        )


def test_logits_are_those_of_the_layers_in_turn() -> None:
    model, images = PoincareResNet(8, (3, 4, 5), generator=generator()).double(), draw(2, 3, 8, 9)
    t = model.norm(model.conv(images.permute(0, 2, 3, 1))).relu()
    for block in model.blocks:
        t = block(t)
    assert t.shape == (2, 2, 3, 5) and isinstance(model.head, PoincareClassifier)
    close(model.features(images), t.mean((1, 2)), 1e-12)
    close(model(images), model.head(t.mean((1, 2))), 1e-12)
    twin = PoincareResNet(8, (3, 4, 5), euclidean=True, generator=generator()).double()
    assert twin(images).shape == (2, 10) and twin.features(images).shape == (2, 5)
    assert {type(m) for m in twin.modules()} >= {nn.Conv2d, nn.BatchNorm2d, nn.Linear}


def test_small_curvature_goes_over_into_none() -> None:
    images, logits = draw(2, 3, 8, 8), []
    for c in (0.0, 1e-10):
        model = PoincareResNet(8, (3, 4, 5), c=c, initialisation="variance", generator=generator()).double()
        logits.append(model(images))
    close(*logits, 1e-6)  # type: ignore[call-arg]


def test_seeds_decide_the_start_and_state_is_saved() -> None:
    for options in ({"initialisation": "variance"}, {"euclidean": True}):
        one, same, other = (PoincareResNet(8, (2, 3, 4), generator=generator(k), **options) for k in (0, 0, 1))
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
        images = draw(2, 3, 8, 8).float()
        one(images)
        assert not torch.equal(one(images), other(images))
        stream = io.BytesIO()
        torch.save(one.state_dict(), stream)
        stream.seek(0)
        other.load_state_dict(torch.load(stream))
        assert torch.equal(one.eval()(images), other.eval()(images))


def test_variants_of_layers_are_taken() -> None:
    class Conv(PoincareConv2d):
        pass

    class Norm(PoincareBatchNorm2d):
        pass

    model = PoincareResNet(14, (2, 3, 4), 7, 0.3, in_channels=1, conv=Conv, norm=Norm, initialisation="normal")
    convs = [m for m in model.modules() if isinstance(m, PoincareConv2d)]
    norms = [m for m in model.modules() if isinstance(m, PoincareBatchNorm2d)]
    assert len(convs) == 15 and len(norms) == 13 and {type(m) for m in (*convs, *norms)} == {Conv, Norm}
    assert {m.c for m in (*convs, *norms, model.head)} == {0.3}  # type: ignore[union-attr]
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 7)


def test_a_few_steps_lower_the_loss() -> None:
    model = PoincareResNet(8, (4, 6, 8), 3, generator=generator())
    images, labels = draw(24, 3, 8, 8).float(), torch.arange(24) % 3
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_cost_of_a_training_step() -> None:
    """The released code keeps 25 to 30 MB an image in 23 to 34 thousand operations; see the chapter."""
    model, images = PoincareResNet(20, generator=generator()), draw(4, 3, 32, 32).float()
    found = cost(lambda: nn.functional.cross_entropy(model(images), torch.arange(4)), [*model.parameters()])
    assert found.saved / 4 / 1e6 <= 6
    assert found.operations <= OPERATIONS


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PoincareResNet(18), "depth, widths, classes, in_channels: received 18"),
        (lambda: PoincareResNet(2), "received 2"),
        (lambda: PoincareResNet(20, (8, 16)), r"received 20, \(8, 16\)"),
        (lambda: PoincareResNet(20, (8, 16, 0)), r"received 20, \(8, 16, 0\)"),
        (lambda: PoincareResNet(8, classes=0), r"received 8, \(8, 16, 32\), 0 and 3"),
        (lambda: PoincareResNet(8, c=-1.0), "c: received -1.0"),
        (lambda: PoincareResNet(8)(torch.zeros(3, 8, 8)), r"images: received shape \(3, 8, 8\)"),
        (lambda: PoincareBatchNorm2d(0), "channels, momentum, eps: received 0"),
        (lambda: PoincareBatchNorm2d(3, momentum=1.5), "received 3, 1.5"),
        (lambda: PoincareBatchNorm2d(3, eps=-1.0), "received 3, 0.1 and -1.0"),
        (lambda: PoincareBatchNorm2d(3, c=math.inf), "c: received inf"),
        (lambda: PoincareBatchNorm2d(3)(torch.zeros(2, 4)), r"t: received shape \(2, 4\)"),
        (lambda: PoincareBatchNorm2d(3)(torch.zeros(0, 2, 2, 3)), "t: received shape"),
        (lambda: tangent_add(torch.zeros(3).int(), torch.zeros(3), 1.0), "x: received torch.int32"),
        (lambda: tangent_add(torch.zeros(3), torch.zeros(3), -1.0), "c: received -1.0"),
        (lambda: tangent_midpoint(torch.zeros(3), 1.0), r"t: received shape \(3,\)"),
        (lambda: tangent_midpoint(torch.zeros(0, 3), 1.0), r"t: received shape \(0, 3\)"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        make()
    assert "Repair:" in str(error.value)
