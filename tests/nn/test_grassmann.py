"""Heads of subspaces and of vectors: logits, closed-form gradients, layouts, mixed precision, errors."""

import copy
import io
import math

import pytest
import torch
from torch import Tensor, nn

from repgeom.manifolds import grassmann
from repgeom.nn.grassmann import SubspaceClassifier, VectorClassifier

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def features(n: int = 9, width: int = 12, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(n, width, generator=generator(7), dtype=dtype)


def head(k: int = 3, dtype: torch.dtype = F64, **options: float) -> SubspaceClassifier:
    return SubspaceClassifier(12, 5, k, generator=generator(), dtype=dtype, **options)


def close(a: Tensor, b: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a.detach(), b.detach(), rtol=0, atol=atol)


def test_logit_is_the_length_of_the_shadow() -> None:
    x, gcr = features(), head(scale=7.0)
    u = x / x.norm(dim=1, keepdim=True)
    P = gcr.bases @ gcr.bases.mT
    expected = 7 * torch.einsum("bi,nij,bj->bn", u, P, u).sqrt()
    close(gcr(x), expected)
    close(gcr(3 * x), expected)
    close(gcr(x.reshape(3, 3, 12)), expected.reshape(3, 3, 5))


def test_logit_is_the_cosine_of_the_principal_angle() -> None:
    x, gcr = features(4), head(scale=1.0)
    u = (x / x.norm(dim=1, keepdim=True))[:, None, :, None]
    close(gcr(x), grassmann.principal_angles(gcr.bases, u)[..., 0].cos())


def test_logits_do_not_depend_on_the_matrix_of_a_subspace() -> None:
    x, gcr = features(), head()
    before = gcr(x)
    with torch.no_grad():
        gcr.bases.copy_(gcr.bases @ torch.linalg.qr(torch.randn(5, 3, 3, generator=generator(1), dtype=F64)).Q)
    close(gcr(x), before)


def test_one_dimension_is_the_absolute_cosine() -> None:
    x, gcr = features(), head(k=1)
    signed = VectorClassifier(gcr.bases.detach()[..., 0])
    close(gcr(x), signed(x).abs())
    assert bool((signed(x) < 0).any())


def test_gradient_in_closed_form() -> None:
    """D_i = A_i S_i with A_i = scale^2 sum_b (p_bi / l_bi) u_b u_b^T, and S_i^T D_i is symmetric."""
    x, labels, gcr = features(), torch.arange(9) % 5, head()
    logits = gcr(x)
    nn.functional.cross_entropy(logits, labels).backward()
    u = x / x.norm(dim=1, keepdim=True)
    p = (logits.softmax(1) - nn.functional.one_hot(labels, 5)) / len(x)
    A = gcr.scale**2 * torch.einsum("bn,bi,bj->nij", p / logits, u, u)
    D = gcr.bases.grad
    close(D, A @ gcr.bases)
    inside = gcr.bases.mT @ D
    close(inside, inside.mT, 1e-14)


def test_gradients_at_a_feature_without_shadow_are_finite() -> None:
    gcr = head()
    outside = torch.linalg.svd(gcr.bases[0].detach(), full_matrices=True).U[:, -1]
    x = torch.stack([outside, torch.zeros(12, dtype=F64)]).requires_grad_()
    gcr(x).sum().backward()
    assert bool(torch.isfinite(x.grad).all() & torch.isfinite(gcr.bases.grad).all())
    logits = gcr(x).detach()
    assert float(logits[0, 0]) < 1e-12 and float(logits[1].abs().max()) == 0


def test_start_is_uniform_and_logits_start_near_scale_times_root_of_the_share() -> None:
    gcr = SubspaceClassifier(64, 400, 8, generator=generator())
    share = (gcr(features(50, 64, torch.float32)) / gcr.scale).square().detach()
    assert float(share.mean()) == pytest.approx(8 / 64, rel=0.03)
    close(gcr.bases.mT @ gcr.bases, torch.eye(8).expand(400, 8, 8), 1e-6)
    again = SubspaceClassifier(64, 400, 8, generator=generator())
    assert torch.equal(gcr.bases, again.bases)


def test_layout_survives_copies_and_saving() -> None:
    gcr = head()
    assert gcr.bases.mT.is_contiguous() and gcr.bases.shape == (5, 12, 3)
    stream = io.BytesIO()
    torch.save(gcr.state_dict(), stream)
    stream.seek(0)
    loaded = SubspaceClassifier(12, 5, 3, dtype=F64)
    loaded.load_state_dict(torch.load(stream))
    for other in (copy.deepcopy(gcr), loaded):
        assert torch.equal(other.bases, gcr.bases) and other.bases.mT.is_contiguous()


def test_mixed_precision_keeps_lengths_in_the_dtype_of_the_bases() -> None:
    gcr = head(dtype=torch.float32)
    x = 1e4 * features(dtype=torch.float32)  # its square overflows half precision
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = gcr(x.bfloat16())
    assert mixed.dtype == torch.float32
    close(mixed, gcr(x), 0.3)
    fixed = VectorClassifier(torch.eye(12), trainable=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fixed(x.bfloat16()).dtype == torch.float32


def test_vectors_are_used_at_length_one_and_stay_fixed_when_told() -> None:
    W = 5 * features(4)
    x = features()
    learned, fixed = VectorClassifier(W, scale=3.0), VectorClassifier(W, scale=3.0, trainable=False)
    expected = 3 * nn.functional.normalize(x, dim=1) @ nn.functional.normalize(W, dim=1).T
    close(learned(x), expected)
    close(fixed(x), expected)
    assert len(list(learned.parameters())) == 1 and not list(fixed.parameters())
    assert torch.equal(fixed.state_dict()["vectors"], W)


@pytest.mark.parametrize("arguments", [(4, 3, 5), (4, 0, 2), (4, 3, 0), (4, 3, 2, 0.0), (4, 3, 2, math.inf)])
def test_wrong_sizes_are_refused(arguments: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="in_features, num_classes, subspace_dim, scale: received"):
        SubspaceClassifier(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "W", [torch.ones(3), torch.zeros(2, 3), torch.full((2, 3), math.nan)], ids=["flat", "zero", "nan"]
)
def test_wrong_vectors_are_refused(W: Tensor) -> None:
    with pytest.raises(ValueError, match="vectors, scale: received"):
        VectorClassifier(W)


def test_wrong_features_are_refused() -> None:
    for model in (head(), VectorClassifier(torch.eye(12, dtype=F64))):
        with pytest.raises(ValueError, match=r"x: received \(2, 5\); valid is \(..., 12\)"):
            model(torch.ones(2, 5))
