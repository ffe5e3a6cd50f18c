"""What inference normalizes with, for a whole network: the choice, population statistics, and a look at every layer.

    running      the running averages of training                                                              (A9)
    batch        the statistics of each statistics batch at hand, Kalman normalizers fused with their prior
    population   M = mean(mu) ,  V = mean(v) + var(mu)  over the statistics batches of the training data           (A13)

In "population" a statistics batch counts with its number m of samples; the variance of the means is what one batch's
variance misses (law of total variance).
"""

import contextlib
import functools

import numpy as np

from .layers.options import choice
from .layers.statistics import INFERENCE, BatchNormalizer


def normalizers(net):
    """(path, layer) of every batch normalizer of a network, in forward order; a lone layer has the path ""."""
    if isinstance(net, BatchNormalizer):
        yield "", net
    for name, child in getattr(net, "children", {}).items():
        for path, layer in normalizers(child):
            yield f"{name}.{path}".removesuffix("."), layer


def set_inference(net, mode):
    """Let every batch normalizer of the network do inference with "running", "batch" or "population" statistics.

    Raises: ValueError for another mode. "population" needs recompute_population before the next inference.
    """
    choice("inference", mode, INFERENCE)
    for _, layer in normalizers(net):
        layer.set_inference(mode)


@contextlib.contextmanager
def watch(net, observer):
    """While this context is open, training forwards change no state, and `observer(path, seen)` is told of each one.

    seen: layers.statistics.Seen, what the normalizer at `path` met: m, observed, prior, used, gain. Counters (draws,
    dropout) go on inside, so that forwards differ, and are put back at the end.
    """
    params = net.params.keys()
    before = {name: a.copy() for name, a in net.state().items() if name not in params}
    layers = list(normalizers(net))
    for path, layer in layers:
        layer.observer = functools.partial(observer, path)
    try:
        yield
    finally:
        for _, layer in layers:
            layer.observer = None
        after = net.state()
        for name, a in before.items():
            after[name][...] = a


def recompute_population(net, batches):
    """Set the population statistics of every batch normalizer by one training-mode pass over `batches`.

    batches: arrays x as net.forward takes them, each a whole number of statistics batches. What each layer normalizes
    with, (mu, v) of G statistics batches of m samples, is accumulated as mean(mu) and mean(v) + var(mu), weighted by m
    (A13). Running averages, counters and parameters stay as they are. The network then does inference with them.
    Raises: ValueError if there is no batch.
    """
    found = {}

    def accumulate(path, seen):
        mean, var = (np.asarray(s.real, np.float64) for s in seen.used)
        weight = float(seen.m * len(mean))
        update = weight, mean.mean(axis=0), var.mean(axis=0) + mean.var(axis=0)
        found[path] = pooled(found[path], update) if path in found else update

    with watch(net, accumulate):
        for x in batches:
            net.forward(x, training=True)
    layers = list(normalizers(net))
    if layers and not found:
        raise ValueError("batches is empty; expected at least one gradient batch")
    for path, layer in layers:
        layer.set_inference("population")
        _, mean, var = found[path]
        layer.running["population_mean"][...], layer.running["population_var"][...] = mean, var


def pooled(a, b):
    """Weight, mean and variance of two sets together: the variance of their means adds to the mean of the variances."""
    (n, mean_a, var_a), (m, mean_b, var_b) = a, b
    w_a, w_b = n / (n + m), m / (n + m)
    return n + m, w_a * mean_a + w_b * mean_b, w_a * var_a + w_b * var_b + w_a * w_b * (mean_b - mean_a) ** 2
