"""Optimisers and the one training loop."""

from repgeom.optim.fit import fit
from repgeom.optim.riemannian import RiemannianAdam, RiemannianSGD, parameter_groups

__all__ = ["RiemannianAdam", "RiemannianSGD", "fit", "parameter_groups"]
