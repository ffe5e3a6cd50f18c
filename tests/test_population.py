"""Holds population statistics to sums by hand over the training data, and to changing nothing else."""

import copy
import re

import numpy as np
import pytest
import tolerances
from test_inference import NETWORKS, equal_states, network, trained
from test_layers import images, scattered

import kalnorm_ref as kr
from kalnorm_ref import gradcheck, inference

rng = np.random.default_rng(103)
pytestmark = pytest.mark.usefixtures("reseeded")
C = 3
F64 = {"dtype": np.float64}
POPULATION = "population_mean", "population_var"
EMPTY = (
    "the population statistics are not there yet, or set_inference forgot them; call recompute_population(net, batches)"
)


def by_hand(batches):
    """M and V of statistics batches (m, mean, var), each with the weight m, one number at a time."""
    total, channels = sum(m for m, _, _ in batches), range(C)
    mean = [sum(m * float(mu[c]) for m, mu, _ in batches) / total for c in channels]
    within = [sum(m * float(v[c]) for m, _, v in batches) / total for c in channels]
    between = [sum(m * (float(mu[c]) - mean[c]) ** 2 for m, mu, _ in batches) / total for c in channels]
    return np.array(mean), np.array([w + b for w, b in zip(within, between, strict=True)])


@pytest.mark.parametrize("kind", ["BatchNorm", "BatchRenorm", "shrink", "covariance"])
def test_population_by_hand(kind, backend):
    """M = mean(mu), V = mean(v) + var(mu) over all statistics batches, weighted by m; then inference with eps."""
    options = {"statistics_batch_size": 2, **F64}
    prior = {"transition": "zero", "gain": 0.3, "noise": 5.0}
    layer = scattered(
        {
            "BatchNorm": lambda: kr.BatchNorm(C, 0.1, **options),
            "BatchRenorm": lambda: kr.BatchRenorm(C, 0.1, r_max=1.0, d_max=0.0, **options),
            "shrink": lambda: kr.KalmanNorm(C, 2, eps=0.1, **prior, **options),
            "covariance": lambda: kr.KalmanNorm(C, 2, eps=0.1, covariance="full", **prior, **options),
        }[kind]()
    )
    data = images(6), images(2, 5, 1) + 9, images(4, 1, 1) - 9
    statistics = []
    for x in data:
        for start in range(0, len(x), 2):
            rows = x[start : start + 2].reshape(-1, C)
            mean, var = rows.mean(axis=0), rows.var(axis=0)
            if kind in ("shrink", "covariance"):
                q, rho = layer.gain(), np.exp(layer.params["log_noise"])
                mean, var = q * mean, (1 - q) * rho + q * var + (1 - q) * q * mean**2
            statistics.append((len(rows), mean, var))
    inference.recompute_population(layer, iter(data))
    expected = by_hand(statistics)
    found = tuple(layer.running[name] for name in POPULATION)
    assert layer.inference == "population" and gradcheck.max_error(found, expected) <= tolerances.LOOPS
    x, dy = images(7), rng.standard_normal((7, 2, 2, C))
    deviation, gamma = np.sqrt(expected[1] + 0.1), layer.params["gamma"]
    y = (x - expected[0]) / deviation * gamma + layer.params["beta"]
    assert gradcheck.max_error(layer.forward(x), y) <= tolerances.LOOPS
    assert gradcheck.max_error(layer.backward(dy), dy * gamma / deviation) <= tolerances.LOOPS
    assert not any(layer.grads[key].any() for key in layer.grads.keys() - {"gamma", "beta"})


def test_population_of_batch_norm_is_that_of_the_pooled_data(backend):
    """However the data fall into gradient batches, as long as every statistics batch has the same size."""
    x = images(12, 3, 1)
    for size, cuts in ((2, (4, 6)), (3, (3, 9)), (1, (5,)), (12, ()), (None, (4, 8))):
        layer = kr.BatchNorm(C, statistics_batch_size=size, **F64)
        inference.recompute_population(layer, np.split(x, cuts))
        pooled = x.reshape(-1, C).mean(axis=0), x.reshape(-1, C).var(axis=0)
        assert gradcheck.max_error(tuple(layer.running[name] for name in POPULATION), pooled) <= tolerances.LOOPS


def test_population_of_batch_renorm_is_what_training_normalizes_with(backend):
    """mu - d s/r and (s/r)^2 - eps: where nothing is clipped, the running values themselves (A13)."""
    layer, eps = kr.BatchRenorm(C, 1e-3, 0.5, statistics_batch_size=2, r_max=1e9, d_max=1e9, **F64), 1e-3
    for _ in range(3):
        layer.forward(images(4), training=True)
    mean, std = (a.copy() for a in layer.running.values())
    inference.recompute_population(layer, [images(4), images(6)])
    found = tuple(layer.running[name] for name in POPULATION)
    assert gradcheck.max_error(found, (mean, std**2 - eps)) <= tolerances.IDENTITY
    x = images(5)
    y = layer.forward(x)
    layer.set_inference("running")
    assert gradcheck.max_error(y, layer.forward(x)) <= tolerances.IDENTITY
    clipped = kr.BatchRenorm(C, eps, 0.5, r_max=1.5, d_max=0.4, **F64)
    inference.recompute_population(clipped, [x])
    rows = x.reshape(-1, C)
    r, d = 1.5, 0.4  # far from the initial 0 and 1: both at their limits
    s = np.sqrt(rows.var(axis=0) + eps)
    expected = rows.mean(axis=0) - d * s / r, (s / r) ** 2 - eps
    found = tuple(clipped.running[name] for name in POPULATION)
    assert gradcheck.max_error(found, expected) <= tolerances.LOOPS
    y, normalized = clipped.forward(x, training=True), clipped.forward(x)
    assert gradcheck.max_error(normalized, y) <= tolerances.LOOPS


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_with_population_statistics(name, backend):
    """Each layer has the moments that it normalized with, and nothing else has changed: no parameter, no running
    average, no counter, no draw."""
    net = trained(name)
    twin, before, data = copy.deepcopy(net), net.state_dict(), [images(4, 8, 8)[..., :2], images(2, 8, 8)[..., 1:]]
    used = {}
    with inference.watch(twin, lambda path, seen: used.setdefault(path, []).append(seen)):
        for x in data:
            twin.forward(x, training=True)
    inference.recompute_population(net, data)
    state = net.state_dict()
    for path, layer in inference.normalizers(net):
        rows = kr.Moments(*(np.concatenate([one.used[part] for one in used[path]]) for part in (0, 1)))
        expected = rows.mean.mean(axis=0), rows.var.mean(axis=0) + rows.mean.var(axis=0)
        found = tuple(state.pop(f"{path}.{part}") for part in POPULATION)
        assert gradcheck.max_error(found, expected) <= tolerances.LOOPS and layer.inference == "population"
    assert equal_states(state, before)
    state, y = net.state_dict(), net.forward(data[0])
    assert equal_states(net.state(), state)
    assert gradcheck.max_error(net.forward(data[0][:1]), y[:1]) <= tolerances.LOOPS  # no image knows another
    # one training forward, which changes the running averages and not the population
    np.testing.assert_array_equal(net.forward(data[0], training=True), twin.forward(data[0], training=True))
    np.testing.assert_array_equal(net.forward(data[0]), y)


def test_dropout_is_drawn_as_if_nothing_had_happened():
    net = kr.Sequential(kr.Linear(C, 4, **F64), kr.Dropout(0.5, 3), kr.BatchNorm(4, **F64))
    twin, x = copy.deepcopy(net), images(8)[:, 0, 0]
    inference.recompute_population(net, [x, x])
    means = net.running["2.population_mean"]
    one = copy.deepcopy(twin)
    inference.recompute_population(one, [x])
    assert (one.running["2.population_mean"] != means).any()  # inside, the second forward had other draws
    np.testing.assert_array_equal(net.forward(x, training=True), twin.forward(x, training=True))


def test_population_statistics_that_are_not_there():
    net = network("kn-analytic")
    inference.set_inference(net, "population")
    with pytest.raises(RuntimeError, match=rf"^{re.escape(EMPTY)}$"):
        net.forward(images(2, 8, 8)[..., :2])
    layer = kr.BatchNorm(C, inference="population")
    with pytest.raises(RuntimeError, match=rf"^{re.escape(EMPTY)}$"):
        layer.forward(images(2))
    inference.recompute_population(layer, [images(2)])
    y = layer.forward(images(2))
    layer.set_inference("running")
    assert layer.running.keys() == {"running_mean", "running_var"} and y.shape == (2, 2, 2, C)
    layer.set_inference("population")  # chosen anew: what it had is forgotten
    with pytest.raises(RuntimeError, match=rf"^{re.escape(EMPTY)}$"):
        layer.forward(images(2))


def test_population_of_no_batch():
    layer = kr.BatchNorm(C, **F64)
    for batches in ([], iter(())):
        with pytest.raises(ValueError, match=r"^batches is empty; expected at least one gradient batch$"):
            inference.recompute_population(layer, batches)
    assert layer.inference == "running" and layer.running.keys() == {"running_mean", "running_var"}
    inference.recompute_population(kr.ReLU(), [])  # nothing to compute
    incomplete = kr.BatchNorm(C, statistics_batch_size=4, **F64)
    message = "the batch has 6 images; expected a multiple of the statistics batch size 4"
    with pytest.raises(ValueError, match=rf"^{message}$"):
        inference.recompute_population(incomplete, [images(8), images(6)])
    assert incomplete.inference == "running" and incomplete.observer is None and incomplete.step == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_population_statistics_in_a_state(dtype, backend):
    """They are saved and restored with the rest; a network of another inference has no place for them."""
    net = network("kn-released", dtype=dtype)
    x = images(4, 8, 8)[..., :2].astype(dtype)
    inference.recompute_population(net, [x])
    y, saved = net.forward(x), net.state_dict()
    assert {a.dtype for key, a in saved.items() if "population" in key} == {np.dtype(dtype)} and y.dtype == dtype
    other = network("kn-released", dtype=dtype, seed=9)
    with pytest.raises(
        ValueError, match=r"^the state does not fit this network: missing \[\], not known \['1.pop.*\]$"
    ):
        other.load_state_dict(saved)
    inference.set_inference(other, "population")
    other.load_state_dict(saved)
    np.testing.assert_array_equal(other.forward(x), y)
    net.running["1.population_mean"][...] += 1  # a copy was saved
    np.testing.assert_array_equal(other.forward(x), y)
    cast = copy.deepcopy(other).astype(np.float64)
    assert gradcheck.max_error(cast.forward(x.astype(np.float64)), y) <= tolerances.FLOAT32_INPUT


def test_population_of_complex_data_is_that_of_the_real_part():
    with kr.use_backend("numpy"):
        real, layer = (kr.KalmanNorm(C, 2, transition="zero", **F64) for _ in range(2))
        x = images(4)
        inference.recompute_population(real, [x])
        inference.recompute_population(layer, [x + 1e-3j])
    for name in POPULATION:
        assert layer.running[name].dtype == np.float64
    np.testing.assert_allclose(layer.running["population_mean"], real.running["population_mean"], rtol=1e-12)
