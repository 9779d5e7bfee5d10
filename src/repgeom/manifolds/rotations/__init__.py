r"""The rotation group SO(3): eight codes, and the verbs of a space.

Conventions: column vectors, active rotations, ``R[..., :, i]`` is the image of axis i; angles in radians; quaternions
(w, x, y, z); tangent vectors at R are rotation vectors v in the body frame, so that the curve is R Exp(t v).

``from_<code>`` decodes numbers to matrices (and is what a network's last layer does), ``to_<code>`` encodes matrices to
numbers. The code names stand in :data:`CODES`.
"""

from repgeom.manifolds.rotations.algebra import hat, vee
from repgeom.manifolds.rotations.codes import (
    from_6d,
    from_9d,
    from_10d,
    from_axis_angle,
    from_euler,
    from_quaternion,
    from_rotvec,
    to_6d,
    to_9d,
    to_10d,
    to_axis_angle,
    to_euler,
    to_quaternion,
    to_rotvec,
)
from repgeom.manifolds.rotations.columns import (
    from_5d,
    from_columns,
    from_projected_columns,
    to_5d,
    to_columns,
    to_projected_columns,
)
from repgeom.manifolds.rotations.procrustes import davenport_matrix, from_9d_svd, from_10d_eigh, nearest_rotation
from repgeom.manifolds.rotations.space import (
    distance,
    exp,
    geodesic,
    geodesic_angle,
    log,
    mean,
    project,
    random,
    random_rotations,
    transport,
)

CODES = ("6d", "5d", "9d", "10d", "quaternion", "rotvec", "axis_angle", "euler")

__all__ = [
    "CODES",
    "davenport_matrix",
    "distance",
    "exp",
    "from_5d",
    "from_6d",
    "from_9d",
    "from_9d_svd",
    "from_10d",
    "from_10d_eigh",
    "from_axis_angle",
    "from_columns",
    "from_euler",
    "from_projected_columns",
    "from_quaternion",
    "from_rotvec",
    "geodesic",
    "geodesic_angle",
    "hat",
    "log",
    "mean",
    "nearest_rotation",
    "project",
    "random",
    "random_rotations",
    "to_5d",
    "to_6d",
    "to_9d",
    "to_10d",
    "to_axis_angle",
    "to_columns",
    "to_euler",
    "to_projected_columns",
    "to_quaternion",
    "to_rotvec",
    "transport",
    "vee",
]
