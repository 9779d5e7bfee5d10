"""Layers for covariance matrices: SPDNet, and batch normalisation under four metrics."""

from repgeom.nn.spd.layers import BiMap, LogEig, ReEig, SPDNet
from repgeom.nn.spd.norm import SPDBatchNorm

__all__ = ["BiMap", "LogEig", "ReEig", "SPDBatchNorm", "SPDNet"]
