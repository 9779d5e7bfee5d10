"""Decoders as layers."""

import pytest
import torch

from repgeom.manifolds import rotations
from repgeom.nn.rotations import WIDTH, RotationDecoder, decode, encode


def test_every_code_has_a_width() -> None:
    assert tuple(WIDTH) == rotations.CODES
    R = rotations.random_rotations(5, torch.Generator().manual_seed(0))
    assert {code: encode(code, R).shape[-1] for code in WIDTH} == WIDTH


@pytest.mark.parametrize("code", WIDTH)
def test_layer(code: str) -> None:
    layer = RotationDecoder(code)
    x = torch.randn(2, 5, layer.in_features, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer(x), getattr(rotations, f"from_{code}")(x))
    assert torch.equal(layer(x), decode(code, x))
    assert not layer.state_dict()
    assert code in repr(layer)


def test_unknown_code() -> None:
    x, R = torch.zeros(7), torch.eye(3)
    for call in (lambda: RotationDecoder("7d"), lambda: decode("7d", x), lambda: encode("7d", R)):
        with pytest.raises(ValueError, match=r"code: received '7d'; valid is one of 6d, .*Repair: "):
            call()


def test_encode_checks_only_when_asked() -> None:
    with pytest.raises(ValueError, match="R: received matrices"):
        encode("6d", 2 * torch.eye(3), check=True)
    assert encode("6d", 2 * torch.eye(3)).tolist() == [2, 0, 0, 0, 2, 0]
