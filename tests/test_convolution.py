"""Holds convolution and pooling of maps, and the moments after them, to loops, to sampling, to PyTorch and to complex
steps, at every stride and padding."""

import re

import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import gradcheck, transport
from kalnorm_ref.convolution import conv2d_backward, conv2d_forward
from kalnorm_ref.gradproof.loops import images as image_loops
from kalnorm_ref.gradproof.loops import transport as loops
from kalnorm_ref.layers import Estimate

rng = np.random.default_rng(43)
N, C, OUT = 2, 3, 2
GEOMETRIES = {  # stride, padding, (H, W), kernel
    "stride 1, padding 0": (1, 0, (5, 4), (3, 3)),
    "stride 1, padding 1": (1, 1, (4, 5), (3, 3)),
    "stride 2, padding 1": (2, 1, (6, 5), (3, 3)),
    "stride 2, padding 0, last column unread": (2, 0, (5, 6), (3, 3)),
    "stride 3, padding 2": (3, 2, (5, 7), (3, 3)),
    "asymmetric padding, kernel (3, 2)": (2, ((0, 2), (1, 0)), (5, 4), (3, 2)),
    "padding (0, 1) of TensorFlow": (2, ((0, 1), (0, 1)), (6, 6), (3, 3)),
    "kernel of the image's size": (1, 0, (3, 4), (3, 4)),
    "padding wider than the kernel": (1, 3, (2, 1), (2, 2)),
    "1x1": (1, 0, (3, 4), (1, 1)),
    "1x1, stride 2": (2, 0, (5, 4), (1, 1)),
    "5x5, padding 2": (1, 2, (4, 4), (5, 5)),
}


class Case:
    """Random images, weight and bias of one geometry, with an upstream gradient."""

    def __init__(self, label, bias=True):
        self.stride, self.padding, size, kernel = GEOMETRIES[label]
        draw = np.random.default_rng(len(label))
        self.x = draw.normal(4.0, 2.0, (N, *size, C))
        self.weight = draw.normal(0.3, 0.6, (*kernel, C, OUT))
        self.bias = draw.normal(1.0, 2.0, OUT) if bias else None
        self.arguments = self.x, self.weight, self.bias, self.stride, self.padding
        self.y, self.cache = conv2d_forward(*self.arguments)
        self.dy = draw.standard_normal(self.y.shape)


each_geometry = pytest.mark.parametrize("label", GEOMETRIES)


@each_geometry
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_pair_agrees_with_loops(label, bias, backend):
    case = Case(label, bias)
    assert gradcheck.max_error(case.y, image_loops.conv2d(*case.arguments)) <= tolerances.LOOPS
    expected = image_loops.conv2d_backward(case.dy, *case.arguments)
    assert gradcheck.max_error(conv2d_backward(case.dy, case.cache), expected) <= tolerances.LOOPS


@each_geometry
@pytest.mark.parametrize("method", [gradcheck.complex_step, gradcheck.central_difference], ids=["step", "difference"])
def test_gradient(label, method, backend):
    case = Case(label)
    tolerance = tolerances.COMPLEX_STEP if method is gradcheck.complex_step else tolerances.CENTRAL_DIFFERENCE
    gradients = conv2d_backward(case.dy, case.cache)
    gradcheck.check(conv2d_forward, case.arguments, (case.dy, None), gradients, tolerance, method)


def test_flipped_kernel_is_rejected():
    case = Case("stride 1, padding 1")
    wrong = image_loops.conv2d_backward(case.dy, *case.arguments, mistake="flipped")
    with pytest.raises(AssertionError, match=r"^gradient of argument 0 is off by .*; tolerance 1e-12$"):
        gradcheck.check(conv2d_forward, case.arguments, (case.dy, None), wrong, tolerances.COMPLEX_STEP)


@each_geometry
def test_agrees_with_torch(label, backend):
    torch = pytest.importorskip("torch", reason="torch is an optional peer")
    case = Case(label)
    (top, bottom), (left, right) = case.padding if np.ndim(case.padding) else ((case.padding,) * 2,) * 2
    x, w, b = (torch.tensor(a, requires_grad=True) for a in (case.x, case.weight, case.bias))
    images = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    y = torch.nn.functional.conv2d(images, w.permute(3, 2, 0, 1), b, case.stride).permute(0, 2, 3, 1)
    y.backward(torch.tensor(case.dy))
    assert gradcheck.max_error(case.y, y.detach().numpy()) <= tolerances.LOOPS
    expected = tuple(t.grad.numpy() for t in (x, w, b))
    assert gradcheck.max_error(conv2d_backward(case.dy, case.cache), expected) <= tolerances.LOOPS


@each_geometry
def test_float32_stays_float32(label, backend):
    case = Case(label)
    narrow = [a.astype(np.float32) for a in case.arguments[:3]]
    y, cache = conv2d_forward(*narrow, *case.arguments[3:])
    result = y, *conv2d_backward(case.dy.astype(np.float32), cache)
    assert all(a.dtype == np.float32 for a in result)
    assert gradcheck.max_error(result, (case.y, *conv2d_backward(case.dy, case.cache))) <= tolerances.FLOAT32_CONV


def test_views_and_read_only_arrays(backend):
    case = Case("stride 2, padding 1")
    x = np.asfortranarray(np.repeat(case.x, 2, axis=3))[..., ::2]
    weight = np.ascontiguousarray(case.weight.T).T
    for a in (x, weight):
        a.flags.writeable = False
    y, cache = conv2d_forward(x, weight, *case.arguments[2:])
    dy = np.repeat(case.dy, 2, axis=1)[:, ::2]
    result = conv2d_backward(dy, cache)
    assert gradcheck.max_error((y, *result), (case.y, *conv2d_backward(case.dy, case.cache))) <= tolerances.LOOPS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones((2, 3, 4))}, "x has shape (2, 3, 4); expected (N, H, W, C), channels last"),
        (
            {"weight": np.ones((3, 3, 2, 4))},
            "x has shape (2, 5, 4, 3); expected (N, H, W, 2), the C_in of weight (3, 3, 2, 4)",
        ),
        ({"weight": np.ones((9, 3, 3, 4))}, "kernel is (9, 3); expected at most the padded image, (7, 6)"),
        ({"bias": np.ones(3)}, "bias has shape (3,); expected (2,), one value per channel, or None"),
        ({"stride": 0}, "stride is 0; expected at least 1"),
        ({"padding": -1}, "padding is -1; expected at least 0"),
        ({"padding": (1, 1)}, "padding is (1, 1); expected an integer or ((top, bottom), (left, right))"),
    ],
)
def test_bad_arguments(change, message, backend):
    given = dict(zip(("x", "weight", "bias", "stride", "padding"), Case("stride 1, padding 0").arguments, strict=True))
    given["padding"] = 1
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        conv2d_forward(**given | change)


def test_backward_of_a_wrong_shape(backend):
    case = Case("stride 1, padding 0")
    message = "dy has shape (2, 3, 1, 2); expected (2, 3, 2, 2), the shape of y"
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        conv2d_backward(case.dy[:, :, :1], case.cache)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_layer_holds_the_pair(bias, backend):
    layer = kr.Conv2d(C, OUT, 3, stride=2, padding=1, bias=bias, rng=4, dtype=np.float64)
    case = Case("stride 2, padding 1", bias)
    layer.load_state_dict({"weight": case.weight} | ({"bias": case.bias} if bias else {}))
    np.testing.assert_array_equal(layer.forward(case.x, training=True), case.y)
    live = layer.grads["weight"]
    dx, dweight, dbias = conv2d_backward(case.dy, case.cache)
    np.testing.assert_array_equal(layer.backward(case.dy), dx)
    np.testing.assert_array_equal(layer.grads["weight"], dweight)
    assert layer.grads["weight"] is live
    assert layer.params.keys() == layer.grads.keys() == ({"weight", "bias"} if bias else {"weight"})
    if bias:
        np.testing.assert_array_equal(layer.grads["bias"], dbias)


# ---- moments after a convolution ---------------------------------------------------------------------------------


def pair_of(label, *lead):
    """An estimate, and the other arguments of transport.conv2d in that geometry."""
    stride, padding, size, kernel = GEOMETRIES[label]
    estimate = kr.Moments(rng.normal(2.0, 3.0, (*lead, C)), rng.uniform(0.5, 9.0, (*lead, C)))
    return estimate, rng.normal(0.4, 0.7, (*kernel, C, OUT)), stride, padding, size


@each_geometry
def test_moments_against_positions(label):
    arguments = pair_of(label, 2)
    result, expected = transport.conv2d(*arguments), loops.conv2d(*arguments)
    assert gradcheck.max_error(tuple(result), expected) <= tolerances.TRANSPORT_LOOPS


@pytest.mark.parametrize("label", ["stride 1, padding 0", "stride 2, padding 1", "asymmetric padding, kernel (3, 2)"])
def test_moments_against_sampling(label):
    estimate, weight, stride, padding, size = pair_of(label)
    draw, batches, n = np.random.default_rng(5), 60, 250
    x = estimate.mean + np.sqrt(estimate.var) * draw.standard_normal((batches * n, *size, C))
    y, _ = conv2d_forward(x, weight, None, stride, padding)
    y = y.reshape(batches, -1, OUT)
    result = transport.conv2d(estimate, weight, stride, padding, size)
    spread = ((y - result.mean) ** 2).mean(axis=1)  # about the known mean, so that each batch is unbiased
    deviations = []
    for values, expected in ((y.mean(axis=1), result.mean), (spread, result.var)):
        error = values.std(axis=0, ddof=1) / np.sqrt(batches)
        deviations.append(np.abs(values.mean(axis=0) - expected) / error)
    assert np.max(deviations) <= tolerances.STANDARD_ERRORS


def test_layer_transports_its_bias():
    layer = kr.Conv2d(C, OUT, 3, 2, 1, bias=True, dtype=np.float64)
    bias = layer.params["bias"]
    bias[...] = [5.0, -3.0]
    layer.forward(np.zeros((1, 6, 5, C)))
    estimate = pair_of("stride 2, padding 1", 4)[0]
    plain = transport.conv2d(estimate, layer.params["weight"], 2, 1, (6, 5))
    result = layer.transport(estimate)
    np.testing.assert_array_equal(result.var, plain.var)
    np.testing.assert_array_equal(result.mean, plain.mean + bias)


# ---- pooling of maps ---------------------------------------------------------------------------------------------

POOLS = {
    "average": (kr.AvgPool2d(2), (2, 4, 6, C)),
    "average of 3": (kr.AvgPool2d(3), (2, 3, 6, C)),
    "maximum": (kr.MaxPool2d(2), (2, 4, 6, C)),
    "global": (kr.GlobalAvgPool2d(), (2, 3, 5, C)),
    "channels": (kr.PadChannels(2, 1), (2, 2, 3, C)),
    "flat": (kr.Flatten(), (2, 2, 3, C)),
}


@pytest.mark.parametrize("name", POOLS)
def test_pooling_gradient(name, backend):
    layer, shape = POOLS[name]
    x = rng.permuted(np.linspace(-5.0, 20.0, np.prod(shape))).reshape(shape)  # no two alike
    dy = rng.standard_normal(layer.forward(x).shape)
    gradients = (layer.backward(dy),)
    for method, tolerance in (
        (gradcheck.complex_step, tolerances.COMPLEX_STEP),
        (gradcheck.central_difference, tolerances.CENTRAL_DIFFERENCE),
    ):
        gradcheck.check(layer.forward, (x,), dy, gradients, tolerance, method)


MOMENTS = kr.Moments(np.array([[3.0, -1.0, 0.5], [0.2, 5.0, 1.0]]), np.array([[4.0, 9.0, 0.5], [2.0, 1.0, 7.0]]))
AFTER = {  # of 15 positions; a block of 4; 6 positions side by side; keep 0.8
    "global": (*POOLS["global"], (MOMENTS.mean, MOMENTS.var / 15)),
    "average": (*POOLS["average"], (MOMENTS.mean, MOMENTS.var / 4)),
    "maximum": (*POOLS["maximum"], loops.max_pool(MOMENTS, 2)),
    "channels": (*POOLS["channels"], tuple(np.pad(s, ((0, 0), (2, 1))) for s in MOMENTS)),
    "flat": (*POOLS["flat"], tuple(np.concatenate([s] * 6, axis=1) for s in MOMENTS)),
    "dropout": (kr.Dropout(0.8, 1), (2, C), (MOMENTS.mean, (MOMENTS.var + 0.2 * MOMENTS.mean**2) / 0.8)),
    "identity": (kr.Identity(), (2, C), MOMENTS),
}


@pytest.mark.parametrize("name", AFTER)
def test_moments_through_a_layer(name):
    layer, shape, expected = AFTER[name]

    def function(moments):
        return layer.carry(np.zeros(shape), Estimate(moments, "closed"), training=True)[1].moments

    result = function(MOMENTS)
    assert gradcheck.max_error(tuple(result), tuple(expected)) <= tolerances.LOOPS
    up = kr.Moments(*(rng.standard_normal(s.shape) for s in result))
    _, gradient = layer.carry_backward(np.zeros_like(layer.carry(np.zeros(shape), None)[0]), up)
    assert gradient is up  # no estimate came, so none is transformed
    y, _ = layer.carry(np.zeros(shape), Estimate(MOMENTS, "closed"), training=True)
    _, gradient = layer.carry_backward(y, up)
    gradcheck.check(function, (MOMENTS,), up, (gradient,), tolerances.COMPLEX_STEP)


def test_estimates_that_no_layer_changes():
    """Dropout outside training, and every layer on the way of an estimate that is handed on as it is."""
    dropout, x = kr.Dropout(0.5, 1), np.zeros((2, C))
    assert dropout.carry(x, Estimate(MOMENTS, "closed"))[1].moments is MOMENTS
    assert dropout.carry_backward(x, MOMENTS)[1] is MOMENTS
    for layer, shape, _ in AFTER.values():
        y, carried = layer.carry(np.zeros(shape), Estimate(MOMENTS, "held"), training=True)
        assert carried.moments is MOMENTS and layer.carry_backward(y, MOMENTS)[1] is MOMENTS


def test_pools_by_hand():
    x = np.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(kr.AvgPool2d(2).forward(x)[0, ..., 0], [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_array_equal(kr.MaxPool2d(2).forward(x)[0, ..., 0], [[5, 7], [13, 15]])
    np.testing.assert_array_equal(kr.GlobalAvgPool2d().forward(x), [[7.5]])
    np.testing.assert_array_equal(kr.PadChannels(1, 2).forward(x)[0, 0, :2, :], [[0, 0, 0, 0], [0, 1, 0, 0]])
    np.testing.assert_array_equal(kr.Flatten().forward(x), np.arange(16.0)[None])


def test_max_pool_gives_the_gradient_of_ties_to_the_first():
    layer = kr.MaxPool2d(2)
    x = np.array([[3.0, 3.0, -1.0, -1.0], [3.0, 3.0, -2.0, -1.0]]).reshape(1, 2, 4, 1)
    layer.forward(x, training=True)
    dx = layer.backward(np.array([7.0, 5.0]).reshape(1, 1, 2, 1))
    np.testing.assert_array_equal(dx[0, ..., 0], [[7, 0, 5, 0], [0, 0, 0, 0]])


def test_max_pool_passes_nan_on():
    layer = kr.MaxPool2d(2)
    x = np.array([[3.0, np.nan, 1.0, 2.0], [9.0, 0.0, 4.0, -np.inf]]).reshape(1, 2, 4, 1)
    np.testing.assert_array_equal(layer.forward(x)[0, ..., 0], [[np.nan, 4.0]])
    np.testing.assert_array_equal(layer.backward(np.ones((1, 1, 2, 1)))[0, ..., 0], [[0, 1, 0, 0], [0, 0, 1, 0]])


@pytest.mark.parametrize("pool", [kr.AvgPool2d, kr.MaxPool2d])
def test_indivisible_map(pool):
    message = "x has shape (1, 4, 5, 2); expected a height and width that are multiples of the pool size 2"
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        pool(2).forward(np.ones((1, 4, 5, 2)))
    with pytest.raises(ValueError, match=r"^size is 0; expected at least 1$"):
        pool(0)
