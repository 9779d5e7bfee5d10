"""Optimisers and the one training loop."""

from repgeom.optim.fit import fit
from repgeom.optim.grassmann import GrassmannSGD
from repgeom.optim.riemannian import RiemannianAdam, RiemannianSGD, parameter_groups

__all__ = ["GrassmannSGD", "RiemannianAdam", "RiemannianSGD", "fit", "parameter_groups"]
