r"""Symmetric positive definite matrices: matrix functions, and one module per metric with equal verbs.

Points are (..., n, n) symmetric positive definite, tangent vectors (..., n, n) symmetric. The metrics are
:mod:`~repgeom.manifolds.spd.affine_invariant`, :mod:`~repgeom.manifolds.spd.log_euclidean`,
:mod:`~repgeom.manifolds.spd.log_cholesky` and :mod:`~repgeom.manifolds.spd.bures_wasserstein` (with a metric matrix M
and a power theta). A matrix that is not positive definite raises ``ValueError`` with its worst eigenvalue and index.
"""

from repgeom.manifolds.spd import affine_invariant, bures_wasserstein, log_cholesky, log_euclidean
from repgeom.manifolds.spd.cone import lyapunov, project, random, require_spd
from repgeom.manifolds.spd.matrix_functions import expm, inv_sqrtm, logm, powm, spectral_function, sqrtm

__all__ = [
    "affine_invariant",
    "bures_wasserstein",
    "expm",
    "inv_sqrtm",
    "log_cholesky",
    "log_euclidean",
    "logm",
    "lyapunov",
    "powm",
    "project",
    "random",
    "require_spd",
    "spectral_function",
    "sqrtm",
]
