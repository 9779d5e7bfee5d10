"""The codes of :mod:`repgeom.manifolds.rotations` as a network's last layer and as its targets."""

from torch import Tensor, nn

from repgeom.manifolds import rotations

WIDTH: dict[str, int] = {
    "6d": 6, "5d": 5, "9d": 9, "10d": 10, "quaternion": 4, "rotvec": 3, "axis_angle": 4, "euler": 3,
}  # fmt: skip


def _known(code: str) -> str:
    if code not in WIDTH:
        raise ValueError(f"code: received {code!r}; valid is one of {', '.join(WIDTH)}. Repair: choose one of these names.")
    return code


def decode(code: str, x: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) from the numbers x (..., WIDTH[code])."""
    return getattr(rotations, f"from_{_known(code)}")(x)


def encode(code: str, R: Tensor, *, check: bool = False) -> Tensor:
    """The numbers (..., WIDTH[code]) of the rotation matrices R (..., 3, 3)."""
    return getattr(rotations, f"to_{_known(code)}")(R, check=check)


class RotationDecoder(nn.Module):
    """A network's last layer: numbers (..., in_features) to rotation matrices (..., 3, 3)."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self.code = _known(code)
        self.in_features = WIDTH[code]

    def forward(self, x: Tensor) -> Tensor:
        """Decode x (..., in_features)."""
        return decode(self.code, x)

    def extra_repr(self) -> str:
        """Shown by ``print(module)``."""
        return f"{self.code!r}, in_features={self.in_features}"
