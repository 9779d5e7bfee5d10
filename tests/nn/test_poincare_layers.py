"""Fully connected layer, convolution and classifier of the ball, against the slow formulas in ball coordinates."""

import io
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from repgeom.manifolds import poincare
from repgeom.nn.poincare import PoincareClassifier, PoincareConv2d, PoincareLinear

F64 = torch.float64
CURVATURES = [1e-3, 0.1, 1.0, 4.0]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 1, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a.detach(), b.detach(), rtol=tolerance, atol=tolerance)


def exp0(t: Tensor, c: float) -> Tensor:
    n = c**0.5 * t.norm(dim=-1, keepdim=True).clamp_min(1e-100)
    return t * n.tanh() / n


def log0(x: Tensor, c: float) -> Tensor:
    n = c**0.5 * x.norm(dim=-1, keepdim=True).clamp_min(1e-100)
    return x * n.atanh() / n


def ball_distances(x: Tensor, Z: Tensor, r: Tensor, c: float) -> Tensor:
    """v_k of Shimizu et al., as it is printed: conformal factor, arsinh, one hyperplane at a time."""
    s = c**0.5
    factor = 2 / (1 - c * x.square().sum(-1))
    columns = []
    for k in range(Z.shape[1]):
        length = Z[:, k].norm()
        argument = factor * (s * x @ (Z[:, k] / length)) * (2 * s * r[k]).cosh() - (factor - 1) * (2 * s * r[k]).sinh()
        columns.append(2 * length / s * argument.asinh())
    return torch.stack(columns, -1)


def ball_linear(t: Tensor, Z: Tensor, r: Tensor, c: float) -> Tensor:
    w = (c**0.5 * ball_distances(exp0(t, c), Z, r, c)).sinh() / c**0.5
    return log0(w / (1 + (1 + c * w.square().sum(-1, keepdim=True)).sqrt()), c)


def ball_conv(layer: PoincareConv2d, t: Tensor) -> Tensor:
    """Every patch by unfold, glued by beta-concatenation, through the layer above."""
    k, C = layer.kernel_size, layer.in_channels
    patches = nn.functional.unfold(t.permute(0, 3, 1, 2), k, padding=layer.padding, stride=layer.stride).mT

    def beta(n: int) -> float:
        return math.gamma(n / 2) * math.gamma(1 / 2) / math.gamma((n + 1) / 2)

    out = ball_linear(patches * (beta(k * k * C) / beta(C)), layer.weight, layer.bias, layer.c)
    rows = (t.shape[1] + 2 * layer.padding - k) // layer.stride + 1
    return out.unflatten(1, (rows, -1))


def linear(n: int, m: int, c: float, seed: int = 0, bias: float = 0.3, **options: object) -> PoincareLinear:
    options = {"initialisation": "variance", "dtype": F64, "generator": generator(seed), **options}
    layer = PoincareLinear(n, m, c, **options)  # type: ignore[arg-type]
    nn.init.normal_(layer.bias, 0, bias, generator=generator(seed + 1))
    return layer


@pytest.mark.parametrize("c", CURVATURES)
def test_linear_is_that_of_the_ball(c: float) -> None:
    layer, t = linear(7, 5, c, bias=0.3 / c**0.5), draw(40, 7)
    t = t / t.norm(dim=1, keepdim=True) * torch.linspace(0, 3, 40, dtype=F64)[:, None] / c**0.5
    close(layer(t) * c**0.5, ball_linear(t, layer.weight, layer.bias, c) * c**0.5)


@given(n=st.integers(1, 9), m=st.integers(1, 9), c=st.floats(1e-2, 10), radius=st.floats(0, 3), seed=st.integers(0, 99))
def test_linear_is_that_of_the_ball_everywhere(n: int, m: int, c: float, radius: float, seed: int) -> None:
    layer, t = linear(n, m, c, seed), draw(3, n, seed=seed)
    t = t / t.norm(dim=1, keepdim=True) * (radius / c**0.5)
    expected = ball_linear(t, layer.weight, layer.bias, c)
    if bool((expected.norm(dim=1) < 4 / c**0.5).all()):  # beyond, the ball has lost the digits
        close(layer(t), expected, 1e-9)


@pytest.mark.parametrize("c", [0.0, *CURVATURES])
def test_half_an_orthogonal_matrix_is_a_rotation(c: float) -> None:
    layer, t = PoincareLinear(6, 6, c, initialisation="orthogonal", generator=generator(), dtype=F64), draw(20, 6)
    close(layer(t), t @ (2 * layer.weight), 1e-13)
    close(layer(t).norm(dim=1), t.norm(dim=1), 1e-13)
    assert bool((layer.weight - torch.eye(6)).abs().max() > 0.1)


@pytest.mark.parametrize("c", CURVATURES)
def test_logits_are_distances_to_hyperplanes(c: float) -> None:
    head, t = PoincareClassifier(4, 3, c, initialisation="normal", generator=generator(), dtype=F64), draw(9, 4)
    t = t / 2 / c**0.5
    x = exp0(t, c)
    length = head.weight.norm(dim=0)
    for k in range(3):  # through the origin: half the distance to the mirror image
        z = (head.weight[:, k] / length[k]).detach()
        mirror = x - 2 * (x @ z)[:, None] * z
        close(head(t)[:, k].abs(), length[k] * poincare.distance(x, mirror, c))
        assert torch.equal(head(t)[:, k] > 0, x @ z > 0)
    with torch.no_grad():
        head.bias.copy_(draw(3) * 0.3)
    close(head(t), ball_distances(x, head.weight, head.bias, c))
    close(head(torch.zeros(4, dtype=F64)), -4 * length * head.bias, 1e-12)


def test_without_curvature_layers_are_the_ordinary_ones() -> None:
    t, images = draw(11, 6), draw(2, 6, 5, 3)
    layer = linear(6, 4, 0.0)
    offset = 2 * layer.weight.norm(dim=0) * layer.bias
    close(layer(t), nn.functional.linear(t, 2 * layer.weight.mT, -offset), 1e-14)
    head = PoincareClassifier(6, 4, 0.0, dtype=F64)
    head.load_state_dict(layer.state_dict())
    close(head(t), 2 * layer(t), 1e-14)
    conv = PoincareConv2d(3, 4, 3, 1, 1, 0.0, initialisation="variance", generator=generator(), dtype=F64)
    nn.init.normal_(conv.bias, generator=generator(3))
    twin = nn.Conv2d(3, 4, 3, 1, 1, dtype=F64)
    with torch.no_grad():
        twin.weight.copy_(2 * conv.glue * conv.weight.mT.reshape(4, 3, 3, 3))
        twin.bias.copy_(-2 * conv.weight.norm(dim=0) * conv.bias)  # type: ignore[union-attr]
    close(conv(images), twin(images.permute(0, 3, 1, 2)).permute(0, 2, 3, 1), 1e-13)


@pytest.mark.parametrize("c", [1e-4, 1e-8, 1e-16, 1e-30])
def test_layers_go_over_into_their_limits(c: float) -> None:
    for make in (linear, lambda n, m, c: PoincareClassifier(n, m, c, dtype=F64)):
        layer, limit = make(6, 4, c), make(6, 4, 0.0)
        t = draw(5, 6).requires_grad_()
        close(layer(t), limit(t), max(100 * c, 1e-13))
        slopes = [torch.autograd.grad(f(t).square().sum(), [t, *f.parameters()]) for f in (layer, limit)]
        for ours, theirs in zip(*slopes, strict=True):
            close(ours, theirs, max(1000 * c, 1e-12))


@pytest.mark.parametrize("a", [0.01, 3.0])
def test_units_of_length_do_not_matter(a: float) -> None:
    layer, t, c = linear(5, 4, 0.7), draw(6, 5), 0.7
    other = linear(5, 4, a * a * c)
    with torch.no_grad():
        other.bias /= a
    close(other(t / a) * a, layer(t), 1e-12)


@pytest.mark.parametrize("c", [0.1, 1.0])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [(3, 1, 1, (5, 6)), (3, 2, 1, (7, 6)), (3, 2, 0, (8, 5)), (1, 2, 0, (5, 5)), (1, 1, 1, (3, 2)), (5, 3, 4, (4, 9))],
)
def test_conv_is_the_layer_of_every_patch(
    kernel: int, stride: int, padding: int, size: tuple[int, int], c: float
) -> None:
    options = {"initialisation": "variance", "generator": generator(), "dtype": F64}
    conv = PoincareConv2d(3, 4, kernel, stride, padding, c, **options)  # type: ignore[arg-type]
    nn.init.normal_(conv.bias, 0, 0.3, generator=generator(2))
    images = draw(2, *size, 3)
    close(conv(images), ball_conv(conv, images))
    pixels = images.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)  # another order in memory
    close(conv(pixels), conv(images), 1e-13)
    twin = nn.functional.conv2d(
        images.permute(0, 3, 1, 2), torch.zeros(4, 3, kernel, kernel, dtype=F64), None, stride, padding
    )
    assert conv(images).shape == (2, *twin.shape[2:], 4)


def test_one_by_one_conv_is_the_linear_layer_of_each_pixel() -> None:
    conv, layer, images = PoincareConv2d(5, 4, 1, c=1.0, dtype=F64), linear(5, 4, 1.0), draw(2, 3, 3, 5)
    conv.load_state_dict(layer.state_dict())
    close(conv(images), layer(images), 1e-13)


@pytest.mark.parametrize(("channels", "ratio"), [(1, 0.27344), (3, 0.30996), (16, 0.32874), (64, 0.33218)])
def test_glue_of_nine_vectors(channels: int, ratio: float) -> None:
    assert PoincareConv2d(channels, 2, 3).glue == pytest.approx(ratio, abs=6e-6)
    assert PoincareConv2d(channels, 2, 1).glue == 1.0


def test_glue_keeps_the_expected_norm_of_a_coordinate() -> None:
    """A uniform unit vector of R^n has E|u_k| = B(n/2, 1/2) / pi."""
    for n in (4, 36):
        u = nn.functional.normalize(draw(200_000, n), dim=1)
        beta = math.exp(math.lgamma(n / 2) + math.lgamma(0.5) - math.lgamma((n + 1) / 2))
        assert float(u.abs().mean()) == pytest.approx(beta / math.pi, rel=0.01)


@pytest.mark.parametrize(
    ("kind", "factor"), [("identity", 1.0), ("normal", (2 / 128) ** 0.5), ("variance", 1.0), ("orthogonal", 1.0)]
)
def test_starts_keep_or_shrink_the_norm(kind: str, factor: float) -> None:
    t = 1e-3 * draw(50, 128)
    layer = PoincareLinear(128, 128, 1.0, initialisation=kind, generator=generator(), dtype=F64)  # type: ignore[arg-type]
    assert float((layer(t).detach().norm(dim=1) / t.norm(dim=1)).mean()) == pytest.approx(factor, rel=0.03)
    wide = PoincareLinear(96, 32, initialisation=kind, generator=generator()).weight  # type: ignore[arg-type]
    variance = {"normal": 1 / (2 * 96 * 32), "variance": 1 / (4 * 32)}.get(kind)
    if variance is None:
        close(wide.mT @ wide, torch.eye(32) / 4, 1e-6)
    else:
        assert float(wide.detach().square().mean()) == pytest.approx(variance, rel=0.05)
    if kind == "identity":
        assert torch.equal(wide, torch.eye(96, 32) / 2)
    again = PoincareLinear(96, 32, initialisation=kind, generator=generator()).weight  # type: ignore[arg-type]
    assert torch.equal(wide, again)
    tall = PoincareConv2d(2, 3, 3, initialisation=kind).weight  # type: ignore[arg-type]
    assert tall.shape == (18, 3)


def gradients(f: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Gradcheck, and <J'g, v> = <g, Jv> to 1e-9, with Jv by differences of order four."""
    inputs = tuple(x.detach().clone().requires_grad_() for x in inputs)
    assert torch.autograd.gradcheck(f, inputs, atol=1e-7)
    out = f(*inputs)
    g = torch.randn(out.shape, generator=generator(5), dtype=F64)
    ways = [torch.randn(x.shape, generator=generator(6), dtype=F64) for x in inputs]
    left = sum((a * v).sum() for a, v in zip(torch.autograd.grad(out, inputs, g), ways, strict=True))
    h = 2e-4
    with torch.no_grad():
        at = {k: f(*(x + k * h * v for x, v in zip(inputs, ways, strict=True))) for k in (-2, -1, 1, 2)}
        right = (g * (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)).sum()
    torch.testing.assert_close(torch.as_tensor(left), right, rtol=1e-9, atol=1e-9)


def functional(layer: nn.Module) -> Callable[..., Tensor]:
    names = [name for name, _ in layer.named_parameters()]

    def f(t: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (t,))

    return f


@pytest.mark.parametrize("c", [0.0, 1e-6, 0.1, 1.0])
def test_hand_written_gradients(c: float) -> None:
    layer = linear(4, 3, c)
    gradients(functional(layer), draw(5, 4), *layer.parameters())
    head = PoincareClassifier(4, 3, c, dtype=F64)
    head.load_state_dict(layer.state_dict())
    gradients(functional(head), draw(5, 4), *head.parameters())
    conv = PoincareConv2d(2, 3, 3, 2, 1, c, initialisation="variance", generator=generator(), dtype=F64)
    nn.init.normal_(conv.bias, 0, 0.3, generator=generator(2))
    gradients(functional(conv), draw(1, 4, 3, 2) / 2, *conv.parameters())


@pytest.mark.parametrize("length", [0.0, 1e-200, 1e-9, 1e-4])
def test_gradients_at_and_near_the_origin_are_those_of_the_limit(length: float) -> None:
    layer, limit = linear(4, 3, 1.0, bias=0.0), linear(4, 3, 0.0, bias=0.0)
    t = (length * nn.functional.normalize(draw(5, 4), dim=1)).requires_grad_()
    ours, theirs = (torch.autograd.grad(f(t), [t, *f.parameters()], draw(5, 3)) for f in (layer, limit))
    for a, b in zip(ours, theirs, strict=True):
        close(a, b, max(1e-13, 10 * length**2))
    if length < 1e-3:
        assert torch.autograd.gradcheck(layer, (t.detach().requires_grad_(),), atol=1e-5)


def test_column_of_zeros_keeps_a_gradient_and_can_leave() -> None:
    """Half an identity has zero columns where there are more outputs than inputs."""
    layer, t = PoincareLinear(2, 3, 1.0, dtype=F64), 1e-3 * draw(8, 2)
    assert float(layer(t).detach()[:, 2].abs().max()) == 0
    (gradient,) = torch.autograd.grad(layer(t)[:, 2].sum(), layer.weight)
    close(gradient[:, 2], 2 * t.sum(0), 1e-6)
    zero = PoincareConv2d(2, 3, 3, padding=1)
    nn.init.zeros_(zero.weight)
    zero(torch.ones(1, 4, 4, 2)).sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in zero.parameters() if p.grad is not None)


@pytest.mark.parametrize("c", [1e-3, 0.1, 1.0, 10.0])
def test_single_precision_keeps_its_digits_to_distance_twenty(c: float) -> None:
    layer, t = linear(8, 8, c, initialisation="orthogonal", bias=0.0), draw(200, 8)
    t = t / t.norm(dim=1, keepdim=True) * torch.linspace(0.01, 10, 200, dtype=F64)[:, None] / c**0.5
    single = PoincareLinear(8, 8, c)
    single.load_state_dict({k: v.float() for k, v in layer.state_dict().items()})
    with torch.no_grad():
        error = (single(t.float()).double() - layer(t)).norm(dim=1) / layer(t).norm(dim=1)
    assert float(error.max()) < 3e-6


@pytest.mark.parametrize("c", [0.0, 1e-4, 0.1, 10.0])
@pytest.mark.parametrize("radius", [0.0, 1e-30, 1e-5, 1.0, 10.0, 1e3, 1e6])
def test_nothing_overflows_in_single_precision(c: float, radius: float) -> None:
    t = nn.functional.normalize(draw(2, 5, 5, 4, dtype=torch.float32), dim=-1) * radius / max(c, 1e-2) ** 0.5
    t[0, 0] = 0
    for start in ("identity", "variance"):
        layers: list[nn.Module] = [
            PoincareLinear(4, 6, c, initialisation=start, generator=generator()),  # type: ignore[arg-type]
            PoincareClassifier(4, 3, c, initialisation=start, generator=generator()),  # type: ignore[arg-type]
            PoincareConv2d(4, 6, 3, 1, 1, c, initialisation=start, generator=generator()),  # type: ignore[arg-type]
        ]
        for layer in layers:
            nn.init.normal_(layer.bias, 0, 0.3, generator=generator())  # type: ignore[arg-type]
            x = t.clone().requires_grad_()
            out = layer(x)
            slopes = torch.autograd.grad(out.sum(), [x, *layer.parameters()])
            assert all(bool(torch.isfinite(y).all()) for y in (out, *slopes))


def test_beyond_the_limit_distance_stays_and_has_no_gradient() -> None:
    layer = PoincareLinear(3, 3, 1.0, dtype=F64)
    far = torch.tensor([[20.0, 0.0, 0.0]], dtype=F64, requires_grad=True)  # distance 40, taken for 30
    out = layer(far)
    close(out, torch.tensor([[15.0, 0.0, 0.0]], dtype=F64), 1e-9)
    (slope,) = torch.autograd.grad(out[0, 0], far)
    assert abs(float(slope[0, 0])) < 1e-9
    with torch.no_grad():
        layer.weight *= 10  # the output's distance is ten times the input's
    near = torch.tensor([[5.0, 0.0, 0.0]], dtype=F64, requires_grad=True)
    slopes = torch.autograd.grad(layer(near)[0, 0], [near, layer.weight])
    assert float(layer(near).detach().norm()) == pytest.approx(15, abs=0.01)
    assert abs(float(slopes[0][0, 0])) < 1e-9 and abs(float(slopes[1][0, 0])) < 1e-9


def test_subclass_may_change_the_arguments_alone() -> None:
    class Doubled(PoincareLinear):
        def arguments(self, inner: Tensor, squared: Tensor) -> Tensor:
            assert inner.shape == (6, 3) and squared.shape == (6, 1)
            return super().arguments(2 * inner, 4 * squared)

    t, plain = draw(6, 4), linear(4, 3, 1.0)
    other = Doubled(4, 3, 1.0, dtype=F64)
    other.load_state_dict(plain.state_dict())
    close(other(t), plain(2 * t), 1e-13)


def test_state_is_saved_and_loaded() -> None:
    conv, other = (PoincareConv2d(2, 3, 3, initialisation="variance", generator=generator(k)) for k in (1, 2))
    stream = io.BytesIO()
    torch.save(conv.state_dict(), stream)
    stream.seek(0)
    other.load_state_dict(torch.load(stream))
    images = draw(1, 4, 4, 2, dtype=torch.float32)
    assert torch.equal(conv(images), other(images))
    assert sorted(conv.state_dict()) == ["bias", "weight"]
    assert "c=0.1" in repr(conv) and "c=0.1" in repr(PoincareLinear(2, 3)) and "2, 3" in repr(PoincareClassifier(2, 3))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PoincareLinear(0, 3), "features: received 0 in and 3 out"),
        (lambda: PoincareClassifier(3, 0), "features: received 3 in and 0 out"),
        (lambda: PoincareLinear(3, 3, -0.1), "c: received -0.1"),
        (lambda: PoincareLinear(3, 3, math.nan), "c: received nan"),
        (lambda: PoincareLinear(3, 3, initialisation="he"), "initialisation: received 'he'"),  # type: ignore[arg-type]
        (lambda: PoincareConv2d(3, 3, 0), "kernel_size, stride, padding: received 0, 1 and 0"),
        (lambda: PoincareConv2d(3, 3, 3, 0), "kernel_size, stride, padding: received 3, 0 and 0"),
        (lambda: PoincareConv2d(3, 3, 3, 1, -1), "kernel_size, stride, padding: received 3, 1 and -1"),
        (lambda: PoincareLinear(3, 3)(torch.ones(2, 4)), r"t: received shape \(2, 4\)"),
        (lambda: PoincareClassifier(3, 3)(torch.ones(2, 3).int()), "t: received torch.int32"),
        (lambda: PoincareConv2d(3, 3, 3)(torch.ones(2, 3, 4, 4)), r"t: received shape \(2, 3, 4, 4\)"),
        (
            lambda: PoincareConv2d(3, 3, 3)(torch.ones(4, 4, 3)),
            r"t: received shape \(4, 4, 3\); valid is \(B, H, W, 3\)",
        ),
        (lambda: PoincareConv2d(3, 3, 3)(torch.ones(1, 2, 4, 3)), "H and W at least 3"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        make()
    assert "Repair:" in str(error.value)
