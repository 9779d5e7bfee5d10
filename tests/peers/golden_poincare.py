"""Writes the numbers of geoopt and hypll that ``test_poincare.py`` compares with.

Not run by the suite: it needs an environment of its own with torch, geoopt 0.5.1 and hypll 0.1.1.

    python tests/peers/golden_poincare.py > tests/peers/golden_poincare.json
"""

import json

import geoopt
import torch
from hypll.manifolds.poincare_ball.math import diffgeom, linalg, stats

F64 = torch.float64
N, DIM, OUT = 6, 4, 3


def inputs(c):
    """Vectors of lengths up to 2 / sqrt(c) at the origin, of which the points are made; all written down."""
    g = torch.Generator().manual_seed(0)
    a, b, v, z = (torch.randn(n, DIM, generator=g, dtype=F64) / c**0.5 for n in (N, N, N, OUT))
    return {"a": 0.5 * a, "b": 0.5 * b, "v": v, "z": z.T * c**0.5, "r": 0.3 * torch.randn(OUT, generator=g, dtype=F64)}


def geoopt_values(c, a, b, v, z, r):
    ball = geoopt.PoincareBall(c=torch.tensor(c, dtype=F64))  # a plain number would be rounded to float32
    x, y = ball.expmap0(a, project=False), ball.expmap0(b, project=False)
    return {
        "expmap0": x,
        "logmap0": ball.logmap0(y),
        "mobius_add": ball.mobius_add(x, y, project=False),
        "mobius_scalar_mul": ball.mobius_scalar_mul(torch.tensor(1.7, dtype=F64), x, project=False),
        "expmap": ball.expmap(x, 0.2 * v, project=False),
        "logmap": ball.logmap(x, y),
        "distance": ball.dist(x, y),
        "conformal_factor": ball.lambda_x(x),
        "gyration": ball.gyration(x, y, v),
        "transport": ball.transp(x, y, v),
        "midpoint": ball.weighted_midpoint(x, torch.arange(1.0, N + 1, dtype=F64), reducedim=[0]),
    }


def hypll_values(c, a, b, v, z, r):
    k = torch.tensor(c, dtype=F64)
    x, y = diffgeom.expmap0(a, k, dim=-1), diffgeom.expmap0(b, k, dim=-1)
    return {
        "distance": diffgeom.dist(x, y, k, dim=-1),
        "midpoint": stats.midpoint(x, k, man_dim=-1, batch_dim=0),
        "frechet_mean": stats.frechet_mean(x, k, vec_dim=-1, batch_dim=0),
        "hyperplanes": linalg.poincare_hyperplane_dists(x, z, r, k, dim=-1),
        "fully_connected": linalg.poincare_fully_connected(x, z, r, k, dim=-1),
    }


def plain(values):
    return {name: value.tolist() for name, value in values.items()}


if __name__ == "__main__":
    record = []
    for c in (0.1, 1.0):
        given = inputs(c)
        entry = {"c": c, "inputs": plain(given), "geoopt": plain(geoopt_values(c, **given))}
        record.append(entry | {"hypll": plain(hypll_values(c, **given))})
    print(json.dumps(record))
