"""Optimisers and the one training loop."""

from repgeom.optim.fit import fit

__all__ = ["fit"]
