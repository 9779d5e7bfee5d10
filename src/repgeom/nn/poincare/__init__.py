"""Layers of a residual network on the Poincaré ball. Between layers, points are tangent vectors at the origin."""

from repgeom.nn.poincare.layers import PoincareClassifier, PoincareConv2d, PoincareLinear
from repgeom.nn.poincare.norm import PoincareBatchNorm2d, reestimate, tangent_add, tangent_midpoint
from repgeom.nn.poincare.resnet import PoincareResNet

__all__ = [
    "PoincareBatchNorm2d",
    "PoincareClassifier",
    "PoincareConv2d",
    "PoincareLinear",
    "PoincareResNet",
    "reestimate",
    "tangent_add",
    "tangent_midpoint",
]
