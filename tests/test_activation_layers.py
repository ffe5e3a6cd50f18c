"""Holds ReLU at its kink, beyond numbers and on moments, and dropout to draws that are a function of seed and step."""

import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import transport

X = np.random.default_rng(0).normal(2, 3, (4, 4, 4, 3))


def test_relu_at_zero_and_nan():
    layer = kr.ReLU()
    y = layer.forward(np.array([-1.0, -0.0, 0.0, 2.0, np.nan, np.inf, -np.inf]))
    np.testing.assert_array_equal(y, [0, 0, 0, 2, np.nan, np.inf, 0])
    assert not np.signbit(y[:3]).any()
    np.testing.assert_array_equal(layer.backward(np.full(7, 5.0))[[0, 1, 2, 3, 5, 6]], [0, 0, 0, 5, 5, 0])
    assert layer.forward(np.ones(2, np.float32)).dtype == np.float32


def test_dropout():
    x, keep = np.full((200, 500), 3.0, np.float32), 0.7
    layer, twin, other = kr.Dropout(keep, 5), kr.Dropout(keep, 5), kr.Dropout(keep, 6)
    y = layer.forward(x, training=True)
    kept = y != 0
    np.testing.assert_array_equal(layer.backward(np.ones_like(x)), np.where(kept, np.float32(1 / keep), 0))
    np.testing.assert_allclose(y[kept], 3.0 / keep, rtol=1e-6)
    error = np.sqrt((1 - keep) / keep / x.size)  # of the mean over x
    assert abs(y.mean(dtype=float) / 3.0 - 1) <= tolerances.STANDARD_ERRORS * error
    np.testing.assert_array_equal(twin.forward(x, training=True), y)
    assert (other.forward(x, training=True) != y).any()
    saved = layer.state_dict()
    second = layer.forward(x, training=True)
    assert (second != y).any()
    assert layer.forward(x) is x  # inference draws nothing
    resumed = kr.Dropout(keep, 5)
    resumed.load_state_dict(saved)
    np.testing.assert_array_equal(resumed.forward(x, training=True), second)
    np.testing.assert_array_equal(kr.Dropout(1, 5).forward(x, training=True), x)
    for wrong in (0, 1.1, -0.5):
        with pytest.raises(ValueError, match=rf"^keep is {wrong}; expected a probability in \(0, 1\]$"):
            kr.Dropout(wrong, 5)


def test_dropout_takes_its_seed_from_the_state():
    layer, other = kr.Dropout(0.5, 3), kr.Dropout(0.5, 99)
    other.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(layer.forward(X, training=True), other.forward(X, training=True))


def test_nan_passes_relu_both_ways():
    layer = kr.ReLU()
    x = np.array([[np.nan, -1.0, 2.0, 0.0]])
    np.testing.assert_array_equal(layer.forward(x), [[np.nan, 0, 2, 0]])
    np.testing.assert_array_equal(layer.backward(np.full((1, 4), 3.0)), [[3, 0, 3, 0]])


@pytest.mark.parametrize("of_doutput", [np.float32, np.float64])
@pytest.mark.parametrize("of_estimate", [np.float32, np.float64])
def test_the_relu_layer_keeps_what_the_gradient_of_its_last_transport_needs(of_estimate, of_doutput):
    """The values and the type of relu_backward, also after another transport and with results that were written to."""
    rng = np.random.default_rng(211)
    std = rng.uniform(0.4, 3.0, (2, 4, 3))
    pairs = zip(std * np.linspace(-4, 4, 12).reshape(4, 3), std**2, strict=True)
    first, second = (kr.Moments(m.astype(of_estimate), v.astype(of_estimate)) for m, v in pairs)
    doutput = kr.Moments(*(rng.standard_normal((4, 3)).astype(of_doutput) for _ in range(2)))
    layer = kr.ReLU()
    for moments in (first, second):
        for result, expected in zip(layer.transport(moments), transport.relu(moments), strict=True):
            np.testing.assert_array_equal(result, expected)
            result[...] = np.nan
    expected = transport.relu_backward(doutput, second)
    assert np.abs(expected.mean - transport.relu_backward(doutput, first).mean).max() > 0
    for result, right in zip(layer.transport_backward(doutput, second), expected, strict=True):
        assert result.dtype == right.dtype == np.result_type(of_estimate, of_doutput)
        np.testing.assert_allclose(result, right, rtol=0, atol=4 * np.finfo(result.dtype).eps)
    with pytest.raises(RuntimeError, match=r"^ReLU\.transport_backward needs a transport before it"):
        layer.transport_backward(doutput, second)
    layer.transport(second)
    message = r"^doutput.mean has shape \(3,\); expected \(4, 3\), the shape of relu's result$"
    with pytest.raises(ValueError, match=message):
        layer.transport_backward(kr.Moments(*(d[0] for d in doutput)), second)
