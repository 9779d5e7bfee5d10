"""Writes the numbers of neural_tangents that tests and a page compare with.

Not run by the suite: it needs an environment of its own, Python 3.11 with neural-tangents 0.6.5, jax and jaxlib 0.4.30,
tf2jax 0.3.6, numpy below 2 and scipy below 1.14.

    python tests/peers/golden_neural_tangents.py
"""

import math

import jax
import jax.numpy as np
import neural_tangents as nt
from neural_tangents import stax

jax.config.update("jax_enable_x64", True)
NETWORKS = {
    "relu4": (4, stax.Relu, 1.0, 0.1),
    "relu3": (3, stax.Relu, math.sqrt(2), 0.0),
    "erf": (3, stax.Erf, 1.5, 0.05),
    "sin": (2, stax.Sin, 1.2, 0.1),
    "gelu": (2, stax.Gelu, 1.5, 0.1),
}


def kernel(depth, activation, weight_std, bias_std):
    layers = [stax.Dense(64, weight_std, bias_std), activation()] * (depth - 1)
    return stax.serial(*layers, stax.Dense(1, weight_std, bias_std))[2]


def circle(angles):
    return np.stack([np.cos(np.array(angles)), np.sin(np.array(angles))], 1)


x = circle([math.radians(a) for a in (0, 30, 90, 150, 180)])
for name, network in NETWORKS.items():
    found = kernel(*network)(x[:1], x, ("nngp", "ntk"))
    print(name, *(", ".join(f"{float(v):.12f}" for v in row[0]) for row in (found.nngp, found.ntk)), sep="\n  ")

y, new = np.array([1, -1, 0.5, 0, -0.5])[:, None], circle([0.3, 2.0])
predict = nt.predict.gradient_descent_mse_ensemble(kernel(*NETWORKS["erf"]), x, y, learning_rate=1.0)
for name, t, get in (("10", 10.0, "ntk"), ("end", None, "ntk"), ("posterior", None, "nngp")):
    found = predict(t=t, x_test=new, get=get, compute_cov=True)
    print(name, found.mean.ravel(), np.diag(found.covariance))
