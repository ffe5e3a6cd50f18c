"""Holds inference with the statistics of the batch at hand to the training forward, and a watched forward to leaving no
trace."""

import copy
import re

import numpy as np
import pytest
import tolerances
from test_layers import as_function, images, scattered

import kalnorm_ref as kr
from kalnorm_ref import gradcheck, inference
from kalnorm_ref.layers import Estimate

rng = np.random.default_rng(101)
pytestmark = pytest.mark.usefixtures("reseeded")
C = 3
F64 = {"dtype": np.float64}
X = np.random.default_rng(1).normal(3.0, 2.0, (7, 8, 8, 2))
NETWORKS = {
    "bn": {},
    "brn": {"r_max": 1.2, "d_max": 0.3},
    "kn-learned": {"gain": 0.4},
    "kn-learned, covariance": {"covariance": "full", "gain": 0.4},
    "kn-learned, pseudo-count": {"gain_kind": "pseudo_count"},
    "kn-shrink": {"gain": 0.4},
    "kn-analytic": {"push": "observed", "gain": 0.4},
    "kn-released": {"preset": "as_released", "gain": 0.4},
    "kn-filter": {},
}
each_network = pytest.mark.parametrize("name", NETWORKS)


def network(name, size=2, seed=0, **options):
    made = {"in_channels": 2, "classes": 3, "statistics_batch_size": size, **F64, **NETWORKS[name], **options}
    return scattered(kr.models.resnet(8, name.split(",")[0], **made), seed)


def trained(name, size=2, **options):
    net = network(name, size, **options)
    for step in range(2):
        net.forward(X[: 2 * size] + step, training=True)
    return net


def equal_states(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key], equal_nan=True) for key in a)


@each_network
def test_batch_inference_is_the_training_forward_without_its_updates(name, backend):
    net = trained(name)
    twin = copy.deepcopy(net)
    inference.set_inference(net, "batch")
    before = net.state_dict()
    y = net.forward(X[:6])
    assert equal_states(net.state(), before)
    if name == "brn":  # r = 1 and d = 0: batch normalization
        plain = network("bn")
        plain.load_state_dict({key.replace("running_std", "running_var"): a for key, a in before.items()})
        twin = plain
    same = slice(2) if name == "kn-released" else slice(None)  # its draws are those of the first batch for every batch
    np.testing.assert_array_equal(y[same], twin.forward(X[:6], training=True)[same])
    assert gradcheck.max_error(y[same], copy.deepcopy(net).forward(X[:6], training=True)[same]) == 0 or name == "brn"


@each_network
def test_a_smaller_last_statistics_batch(name, backend):
    """7 images in batches of 3: the last one is normalized by itself, with an estimate of its own."""
    net = trained(name, 3, inference="batch")
    y = net.forward(X)
    assert net.forward(X[:1]).shape == (1, 3)
    if name != "kn-released":  # whose concatenated padding mixes the statistics batches
        parts = [net.forward(X[start : start + 3]) for start in (0, 3, 6)]
        assert gradcheck.max_error(y, np.concatenate(parts)) <= tolerances.LOOPS
    with pytest.raises(
        ValueError, match=r"^the batch has 7 images; expected a multiple of the statistics batch size 3$"
    ):
        net.forward(X, training=True)


def test_the_place_of_an_image_does_not_matter_to_released_batch_inference(backend):
    options = {"in_channels": 2, "classes": 3, "statistics_batch_size": 1, "inference": "batch", **F64}
    net = kr.models.resnet(8, "kn-released", **options)
    whole, parts = net.forward(X), [net.forward(X[i : i + 1]) for i in range(len(X))]
    assert gradcheck.max_error(whole, np.concatenate(parts)) <= tolerances.LOOPS
    assert np.ptp(whole, axis=0).min() > 0


LAYERS = {
    "BatchNorm": lambda **o: kr.BatchNorm(C, 0.1, inference="batch", **F64, **o),
    "BatchRenorm": lambda **o: kr.BatchRenorm(C, 0.1, inference="batch", r_max=1.1, d_max=0.1, **F64, **o),
    "KalmanNorm": lambda **o: kr.KalmanNorm(C, 2, transition="zero", eps=0.1, inference="batch", **F64, **o),
}


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("size", [None, 2, 5])
@pytest.mark.parametrize("name", LAYERS)
def test_gradient_of_batch_inference(name, size, axis, backend):
    """Of a layer alone; test_kalman_layers has the variants in a chain. The last batch is smaller."""
    layer = scattered(LAYERS[name](statistics_batch_size=size, channel_axis=axis))
    x = np.moveaxis(images(7), -1, axis)
    dy = rng.standard_normal(x.shape)
    function = as_function(copy.deepcopy(layer), training=False)
    layer.forward(x)
    gradients = (layer.backward(dy), *(layer.grads[key] for key in layer.params))
    gradcheck.check(function, (x, *layer.params.values()), dy, gradients, tolerances.COMPLEX_STEP)
    assert not np.allclose(np.sum(gradients[0] * x), 0) or name != "KalmanNorm"  # a prior is no batch normalization


@pytest.mark.parametrize("name", LAYERS)
def test_batch_inference_of_rows(name, backend):
    """x of two axes: the same as maps of one position; a batch of one image has no variance of its own."""
    layer, rows = scattered(LAYERS[name](statistics_batch_size=2)), rng.normal(5, 3, (5, C))
    y = layer.forward(rows)
    np.testing.assert_array_equal(y, layer.forward(rows[:, None, None]).reshape(5, C))
    if name != "KalmanNorm":
        np.testing.assert_array_equal(y[4], layer.params["beta"])


def test_batch_inference_of_no_image():
    layer = kr.BatchNorm(C, statistics_batch_size=2, inference="batch")
    with pytest.raises(
        ValueError, match=r"^the batch has 0 images; expected a multiple of the statistics batch size 2$"
    ):
        layer.forward(np.ones((0, C)))


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_an_estimate_of_other_statistics_batches_is_refused(rows):
    """Of a normalizer with another statistics batch size, say: rows must not be dropped or repeated."""
    layer = kr.KalmanNorm(C, 2, statistics_batch_size=2)
    moments = kr.Moments(np.ones((rows, 2)), np.ones((rows, 2)))
    message = f"the estimate has {rows} rows; expected 2, one for each statistics batch"
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        layer.carry(images(4), Estimate(moments), training=True)


@pytest.mark.parametrize("mode", ["mean", "", None])
def test_modes_that_do_not_exist(mode):
    net = network("bn")
    message = f"inference is {mode!r}; expected one of 'running', 'batch', 'population'"
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        inference.set_inference(net, mode)
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        kr.BatchRenorm(C, inference=mode)
    assert {layer.inference for _, layer in inference.normalizers(net)} == {"running"}


def test_normalizers_in_forward_order():
    net = network("bn")
    paths = [path for path, _ in inference.normalizers(net)]
    assert paths == ["1", *("3.main.1", "4.main.0", "4.main.3", "5.main.0", "5.main.3"), "6"]
    assert all(net.params[f"{path}.gamma"] is layer.params["gamma"] for path, layer in inference.normalizers(net))
    layer = kr.KalmanNorm(C)
    assert list(inference.normalizers(layer)) == [("", layer)] and not list(inference.normalizers(kr.ReLU()))
    assert not list(inference.normalizers(network("bn").layers[0]))


def test_modes_of_a_layer_are_those_of_its_network():
    net = network("kn-learned", inference="batch")
    assert {layer.inference for _, layer in inference.normalizers(net)} == {"batch"}
    y = net.forward(X[:2])
    inference.set_inference(net, "running")
    assert gradcheck.max_error(net.forward(X[:2]), y) > 0.01
    inference.set_inference(net, "batch")
    np.testing.assert_array_equal(net.forward(X[:2]), y)


# ---- watch -------------------------------------------------------------------------------------------------------


@each_network
def test_a_watched_forward_leaves_no_trace(name, backend):
    net = trained(name)
    before, looked = net.state_dict(), []
    with inference.watch(net, lambda path, seen: looked.append((path, seen))):
        watched = [net.forward(X[:4], training=True) for _ in range(2)]
    assert equal_states(net.state(), before)
    order = [path for path, _ in inference.normalizers(net)]
    assert [path for path, _ in looked] == 2 * order
    after = net.forward(X[:4], training=True)  # the same as if it had not been watched
    np.testing.assert_array_equal(after, watched[0])
    assert len(looked) == 14 and not equal_states(net.state(), before)
    if name == "kn-released":
        assert gradcheck.max_error(watched[1], watched[0]) > 1e-3  # other draws
    else:
        np.testing.assert_array_equal(watched[1], watched[0])


@each_network
def test_a_watch_that_fails_restores_the_state(name):
    net = trained(name)
    before = net.state_dict()

    def fail(path, seen):
        if path == "4.main.3":
            raise KeyError("stop")

    with pytest.raises(KeyError, match=r"^'stop'$"), inference.watch(net, fail):
        net.forward(X[:4], training=True)
    assert equal_states(net.state(), before)
    net.forward(X[:4], training=True)  # nobody watches any more
    assert net.state()["4.main.3.step"] == before["4.main.3.step"] + 1


def test_what_is_seen(backend):
    """Observed, prior, what x was standardized with, the gain, and how many samples a statistics batch had."""
    layer, x = (
        scattered(kr.KalmanNorm(C, 2, gain_kind="learned_per_channel", statistics_batch_size=2, **F64)),
        images(6),
    )
    arrives = kr.Moments(rng.normal(3, 2, (3, 2)), rng.uniform(2, 9, (3, 2)))
    seen = []
    with inference.watch(layer, lambda path, one: seen.append((path, one))):
        layer.carry(x, Estimate(arrives), training=True)
        layer.forward(x)  # inference is not watched
    ((path, one),) = seen
    prior = kr.predict(arrives, layer.params["transition"], np.exp(layer.params["log_noise"]))
    observed = kr.observe(x.reshape(3, -1, C))
    assert path == "" and one.m == 8 and np.shape(one.gain) == (C,)
    assert gradcheck.max_error(one.gain, layer.gain()) == 0
    for found, expected in ((one.observed, observed), (one.prior, prior)):
        assert gradcheck.max_error(found, expected) <= tolerances.LOOPS
    assert gradcheck.max_error(one.used, kr.fuse(prior, observed, layer.gain())) <= tolerances.LOOPS


def test_dropout_draws_go_on_inside_a_watch_and_back_at_its_end():
    net = kr.Sequential(kr.Dropout(0.5, 3), kr.BatchNorm(2, **F64))
    with inference.watch(net, lambda path, seen: None):
        first, second = (net.forward(X, training=True) for _ in range(2))
    assert (first != second).any()
    np.testing.assert_array_equal(net.forward(X, training=True), first)


def test_a_watch_may_see_the_first_batch_of_an_mlp():
    """The weight that the first batch resizes keeps its new size."""
    net, looked = kr.models.mlp((5,), in_channels=2, **F64), []
    with inference.watch(net, lambda path, seen: looked.append(path)):
        net.forward(X, training=True)
    assert looked == ["2"] and net.params["1.weight"].shape == (128, 5)
    assert net.state()["2.step"] == 0
