"""What the measurements share: networks, data, errors.

A measurement is a function that returns the head of a table and its rows, each a label and then cells (form, value).
"""

import functools

import numpy as np

import kalnorm_ref as kr
from kalnorm_ref import inference

UNIT = kr.Moments(np.zeros(1), np.ones(1))
ERRORS = "mean", "log variance"
ROUNDING = 1e-8  # a change below this is rounding, whose digits depend on the machine


def seen_by(net, x):
    """What each normalizer meets in one training forward, by path."""
    found = {}
    with inference.watch(net, found.__setitem__):
        net.forward(x, training=True)
    return found


@functools.cache
def digits(count):
    return kr.data.load("digits", dtype=np.float64).train_images[:count]


def resnet(depth=20, norm="kn-released", **options):
    made = {"in_channels": 1, "statistics_batch_size": 2, "dtype": np.float64, "seed": 1} | options
    return kr.models.resnet(depth, norm, **made)


def mlp(norm="kn-released", factor=1.0, **options):
    """Four rectified layers, p = 1/2; `factor` multiplies the second weight."""
    half = {} if norm == "bn" else {"gain": 0.5, "gain_kind": "constant"}
    made = {"in_channels": 64, "image_size": (1, 1), "eps": 1e-12, "dtype": np.float64} | half | options
    net = kr.models.mlp((64,) * 4, norm, **made)
    net.params["4.weight"][...] *= factor
    return net


def mlp_data():
    return np.random.default_rng(0).normal(0.5, 1, (256, 1, 1, 64))


def squared_errors(value, truth):
    """Mean over the channels of (mean error)^2 / variance and of (log variance error)^2."""
    return np.mean((value.mean - truth.mean) ** 2 / truth.var), np.mean(np.log(value.var / truth.var) ** 2)


def averaged(errors):
    """Cells of the mean of several squared_errors."""
    return [("{:.3f}", error) for error in np.mean(errors, axis=0)]


def change(error, bound):
    """The cell of a change, or the bound below which it is if it is rounding."""
    return (f"< {bound:g}" if error < ROUNDING else "{:.2f}"), error
