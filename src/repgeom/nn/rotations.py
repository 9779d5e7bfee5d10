"""The codes of :mod:`repgeom.manifolds.rotations` as a network's last layer and as its targets."""

from torch import Tensor, nn

from repgeom.manifolds import rotations

WIDTH: dict[str, int] = {
    "6d": 6,
    "5d": 5,
    "9d": 9,
    "10d": 10,
    "quaternion": 4,
    "rotvec": 3,
    "axis_angle": 4,
    "euler": 3,
}
"""How many numbers each code uses."""


def _known(code: str) -> str:
    if code not in WIDTH:
        raise ValueError(f"code: received {code!r}; valid is one of {', '.join(WIDTH)}. Repair: use such a name.")
    return code


def decode(code: str, x: Tensor) -> Tensor:
    """Rotations from a network's outputs; ``from_<code>`` chosen by name.

    Args:
        code: a name in :data:`WIDTH`.
        x: (..., WIDTH[code]) numbers; angles in radians.

    Returns:
        (..., 3, 3) rotation.

    Raises:
        ValueError: unknown code, wrong last dimension or dtype.

    Source: :mod:`repgeom.manifolds.rotations`.

    >>> import torch
    >>> decode("quaternion", torch.tensor([1.0, 0.0, 0.0, 0.0])).diagonal()
    tensor([1., 1., 1.])
    """
    return getattr(rotations, f"from_{_known(code)}")(x)


def encode(code: str, R: Tensor, *, check: bool = False) -> Tensor:
    """Regression targets from rotations; ``to_<code>`` chosen by name.

    Args:
        code: a name in :data:`WIDTH`.
        R: (..., 3, 3) rotation.
        check: verify that R is a rotation; costs a pass over the data.

    Returns:
        (..., WIDTH[code]) numbers; angles in radians.

    Raises:
        ValueError: unknown code, wrong shape or dtype, or (with ``check``) R is not a rotation.

    Source: :mod:`repgeom.manifolds.rotations`.

    >>> import torch
    >>> encode("quaternion", torch.eye(3))
    tensor([1., 0., 0., 0.])
    """
    return getattr(rotations, f"to_{_known(code)}")(R, check=check)


class RotationDecoder(nn.Module):
    """A network's last layer: numbers (..., in_features) to rotations (..., 3, 3). No parameters.

    Args:
        code: a name in :data:`WIDTH`; ``in_features`` is its number.

    Raises:
        ValueError: unknown code; in ``forward`` wrong last dimension or dtype.

    Source: :mod:`repgeom.manifolds.rotations`.

    >>> import torch
    >>> decoder = RotationDecoder("6d")
    >>> net = nn.Sequential(nn.Linear(9, 64), nn.LeakyReLU(), nn.Linear(64, decoder.in_features), decoder)
    >>> net(torch.ones(5, 9)).shape
    torch.Size([5, 3, 3])
    """

    def __init__(self, code: str) -> None:
        super().__init__()
        self.code = _known(code)
        self.in_features = WIDTH[code]

    def forward(self, x: Tensor) -> Tensor:
        """Rotations (..., 3, 3) from x (..., in_features)."""
        return decode(self.code, x)

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        return f"{self.code!r}, in_features={self.in_features}"
