"""The Poincaré ball and its layers against geoopt 0.5.1 and hypll 0.1.1 (recorded), and geomstats (c = 1).

The recorded numbers were written by ``golden_poincare.py`` beside this file, in float64.
"""

import json
from pathlib import Path

import pytest
import torch

from repgeom.manifolds import poincare as P
from repgeom.nn.poincare import PoincareClassifier, PoincareLinear

F64 = torch.float64
RECORD = json.loads(Path(__file__).with_name("golden_poincare.json").read_text(encoding="utf-8"))
by_curvature = pytest.mark.parametrize("entry", RECORD, ids=lambda entry: f"c={entry['c']}")


def tensors(values: dict[str, list]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value, dtype=F64) for name, value in values.items()}


def ball(c: float, a: torch.Tensor, b: torch.Tensor, v: torch.Tensor) -> dict[str, torch.Tensor]:
    x, y = P.expmap0(a, c), P.expmap0(b, c)
    return {
        "expmap0": x,
        "logmap0": P.logmap0(y, c),
        "mobius_add": P.mobius_add(x, y, c),
        "mobius_scalar_mul": P.mobius_scalar_mul(1.7, x, c),
        "expmap": P.expmap(x, 0.2 * v, c),
        "logmap": P.logmap(x, y, c),
        "distance": P.distance(x, y, c),
        "conformal_factor": P.conformal_factor(x, c),
        "gyration": P.gyration(x, y, v, c),
        "transport": P.transport(x, y, v, c),
        "midpoint": P.midpoint(x, torch.arange(1.0, len(x) + 1, dtype=F64), c),
    }


@by_curvature
@pytest.mark.parametrize("name", sorted(RECORD[0]["geoopt"]))
def test_the_ball_against_geoopt(entry, name):
    given = tensors(entry["inputs"])
    ours = ball(entry["c"], given["a"], given["b"], given["v"])
    assert sorted(ours) == sorted(entry["geoopt"])
    torch.testing.assert_close(ours[name], tensors(entry["geoopt"])[name], rtol=1e-9, atol=1e-12)


@by_curvature
def test_means_and_distance_against_hypll(entry):
    given, theirs, c = tensors(entry["inputs"]), tensors(entry["hypll"]), entry["c"]
    x, y = P.expmap0(given["a"], c), P.expmap0(given["b"], c)
    torch.testing.assert_close(P.distance(x, y, c), theirs["distance"], rtol=1e-9, atol=0)
    torch.testing.assert_close(P.midpoint(x, None, c), theirs["midpoint"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(P.frechet_mean(x, None, c), theirs["frechet_mean"], rtol=1e-6, atol=1e-6)


@by_curvature
def test_layers_against_hypll(entry):
    """Ours go from tangent vectors to tangent vectors, without a ball in between."""
    given, theirs, c = tensors(entry["inputs"]), tensors(entry["hypll"]), entry["c"]
    layers = (PoincareLinear(4, 3, c, dtype=F64), PoincareClassifier(4, 3, c, dtype=F64))
    for layer in layers:
        with torch.no_grad():
            layer.weight.copy_(given["z"])
            layer.bias.copy_(given["r"])
    linear, classifier = layers
    wanted = P.logmap0(theirs["fully_connected"], c)
    torch.testing.assert_close(linear(given["a"]).detach(), wanted, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(classifier(given["a"]).detach(), theirs["hyperplanes"], rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore")
def test_the_ball_against_geomstats():
    from geomstats.geometry.poincare_ball import PoincareBall

    x, y = P.expmap0(0.6 * torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(0), dtype=F64))
    metric = PoincareBall(3).metric
    theirs = torch.as_tensor(metric.dist(x.numpy(), y.numpy()))
    torch.testing.assert_close(P.distance(x, y), theirs, rtol=1e-9, atol=0)
    log = torch.as_tensor(metric.log(y.numpy(), x.numpy()))
    torch.testing.assert_close(P.logmap(x, y), log, rtol=1e-7, atol=1e-9)
