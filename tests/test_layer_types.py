"""Holds layers to the types of x and of their parameters, and to arrays that nobody shares with them."""

import copy
import re

import numpy as np
import pytest
import tolerances
from test_kalman_layers import KALMAN, in_a_chain
from test_layers import images

import kalnorm_ref as kr
from kalnorm_ref import gradcheck
from kalnorm_ref.layers import Estimate

rng = np.random.default_rng(107)
pytestmark = pytest.mark.usefixtures("reseeded")
C = 3
X = np.random.default_rng(0).normal(2, 3, (4, 4, 4, C))
LAYERS = [kr.Conv2d(C, C, 1, bias=True), kr.BatchNorm(C), kr.BatchRenorm(C), kr.KalmanNorm(C)]
every_kalman = pytest.mark.parametrize("name", KALMAN)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize(("of_x", "of_layer"), [(np.float64, np.float32), (np.float32, np.float64)])
def test_results_have_the_type_of_x_and_gradients_that_of_their_parameters(layer, of_x, of_layer, backend):
    layer = copy.deepcopy(layer).astype(of_layer)
    live = dict(layer.grads)
    for training in (True, False):
        y = layer.forward(X.astype(of_x), training)
        assert y.dtype == of_x and layer.backward(y).dtype == of_x
        assert {g.dtype for g in layer.grads.values()} == {np.dtype(of_layer)}
        assert all(layer.grads[name] is gradient and gradient.any() for name, gradient in live.items())


@every_kalman
@pytest.mark.parametrize("of_layer", [np.float64, np.float32])
def test_a_float32_batch_in_a_chain(name, of_layer, backend):
    """Results in the type of x, gradients and state in that of the layer; all close to those of float64."""
    layer, x, arrives, run = in_a_chain(KALMAN[name])
    results, up = [], None
    for of_x, of in ((np.float64, np.float64), (np.float32, of_layer)):
        one = copy.deepcopy(layer).astype(of)
        y, sent, _ = run(one, x.astype(of_x), kr.Moments(*(s.astype(of_x) for s in arrives)))
        up = up or [rng.standard_normal(a.shape) for a in (y, *sent)]
        dy, *dsent = (d.astype(of_x) for d in up)
        dx, darrives = one.fork_backward(dy, kr.Moments(*dsent), None)
        assert y.dtype == dx.dtype == of_x
        assert {a.dtype for a in (*one.grads.values(), *one.running.values())} == {np.dtype(of)}
        results.append((y, *sent, dx, *(darrives or ()), *one.grads.values(), *one.running.values()))
    assert gradcheck.max_error(results[1], results[0]) <= tolerances.FLOAT32_INPUT


def test_a_lone_layer_keeps_float64():
    layer = kr.BatchNorm(C)
    layer.forward(X, training=True)
    np.testing.assert_allclose(layer.running["running_mean"], 0.1 * X.mean(axis=(0, 1, 2)), rtol=1e-14)


@every_kalman
def test_complex_data_in_training_leave_their_real_part_to_the_state(name):
    with kr.use_backend("numpy"):
        plain, x, arrives, run = in_a_chain(KALMAN[name])
        layer = copy.deepcopy(plain)
        y, sent, _ = run(plain, x, arrives)
        z, moments, _ = run(layer, x + 1e-30j, arrives)
        assert z.dtype == moments.mean.dtype == np.complex128
        assert gradcheck.max_error((z.real, moments.mean.real), (y, sent.mean)) <= tolerances.LOOPS
        for key, value in plain.state().items():
            assert layer.state()[key].dtype == value.dtype
            assert gradcheck.max_error(layer.state()[key], value) <= tolerances.LOOPS
        for kind in (kr.BatchNorm, kr.BatchRenorm):
            layer = kind(C)
            layer.forward(X + 1e-30j, training=True)
            assert all(a.dtype == np.float64 for a in layer.running.values())


@every_kalman
def test_nothing_that_leaves_is_an_array_of_the_layer(name, backend):
    """Results may be written to: neither parameters and state nor the gradients change with them."""
    layer, x, arrives, run = in_a_chain(KALMAN[name])
    given = x.copy(), *(s.copy() for s in arrives)
    y, sent, _ = run(layer, x, arrives)
    dx, darrives = layer.fork_backward(rng.standard_normal(y.shape), None, None)
    held = (*layer.state().values(), *layer.grads.values())
    for result in (y, *sent, dx, *(darrives or ())):
        assert not any(np.shares_memory(result, own) for own in held)
        assert not np.shares_memory(result, x)
    assert all(np.array_equal(a, b) for a, b in zip(given, (x, *arrives), strict=True))  # nor are arguments changed


@every_kalman
def test_backward_overwrites_and_a_copy_goes_its_own_way(name, backend):
    """Forward and backward twice give the gradients once; a copy taken between the two shares nothing."""
    layer, x, arrives, run = in_a_chain(KALMAN[name])
    dy, found = rng.standard_normal(x.shape), []
    for one in (layer, layer):
        run(one, x, arrives)
        between = copy.deepcopy(one)
        dx, _ = one.fork_backward(dy, None, None)
        found.append((dx, *(g.copy() for g in one.grads.values())))
        between.fork_backward(-dy, None, None)
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))
    message = r"^KalmanNorm.backward needs a forward before it; each forward serves one backward$"
    with pytest.raises(RuntimeError, match=message):
        layer.backward(dy)


def test_rows_and_maps_of_one_position_are_the_same(backend):
    """x of two axes, also with its channels first."""
    x, dy = images(6)[:, 0, 0], rng.standard_normal((6, C))
    moments = kr.Moments(rng.normal(3, 2, (2, 2)), rng.uniform(2, 9, (2, 2)))
    results = []
    for shape, axis in (((6, C), -1), ((6, 1, 1, C), -1), ((6, C), 1), ((6, C, 1), 1)):
        layer = kr.KalmanNorm(C, 2, gain=0.4, statistics_batch_size=3, channel_axis=axis)
        y, sent = layer.carry(x.reshape(shape), Estimate(moments), training=True)
        dx, dmoments = layer.carry_backward(dy.reshape(shape), None)
        results.append((y.reshape(6, C), *sent.moments, dx.reshape(6, C), *dmoments, *layer.grads.values()))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("layer", [kr.KalmanNorm(3, 3), kr.GroupKalmanNorm(3, 1, 1), kr.ReLU()])
def test_an_estimate_that_is_none_is_named(layer):
    message = "estimate is Moments; expected kr.layers.Estimate(moments), or None"
    with pytest.raises(TypeError, match=rf"^{re.escape(message)}$"):
        layer.carry(np.ones((2, 3)), kr.Moments(np.zeros((1, 3)), np.ones((1, 3))), training=True)


def test_set_inference_looks_at_the_mode_first():
    with pytest.raises(ValueError, match=r"^inference is 'foo'; expected one of 'running', 'batch', 'population'$"):
        kr.set_inference(kr.models.cnn5("gn"), "foo")


def test_a_group_layer_without_a_prior_has_no_gain():
    assert kr.GroupKalmanNorm(8, 2).gain() is None
