"""Holds rectifying, pooling, padding of channels and adding of maps to their definitions at the edges of both types.

That the gradients are right is shown by the gradient proof; that the twins agree, by test_twins.
"""

import re

import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import gradcheck
from kalnorm_ref.maps import (
    add,
    avg_pool_backward,
    avg_pool_forward,
    pad_channels_backward,
    pad_channels_forward,
    relu_backward,
    relu_forward,
)

rng = np.random.default_rng(29)
X = rng.normal(4.0, 2.0, (2, 4, 6, 3))
TYPES = [np.float32, np.float64]
EDGES = [-np.inf, -1.0, -1e-45, -0.0, 0.0, 1e-45, 2.0, np.inf, np.nan]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("length", [len(EDGES), 40_000])
def test_relu_at_its_edges(dtype, length, backend):
    """Subnormal numbers pass, both zeros give +0, NaN passes both ways."""
    x, dy = np.resize(np.array(EDGES, dtype), length), rng.standard_normal(length).astype(dtype)
    y = relu_forward(x)
    np.testing.assert_array_equal(y, np.resize(np.array([0, 0, 0, 0, 0, 1e-45, 2.0, np.inf, np.nan], dtype), length))
    assert y.dtype == dtype and not np.signbit(y[~np.isnan(y)]).any()
    passes = np.resize(np.array([False] * 5 + [True] * 4), length)
    np.testing.assert_array_equal(relu_backward(dy, y), np.where(passes, dy, 0))
    np.testing.assert_array_equal(relu_backward(dy, x), np.where(passes, dy, 0))


def test_a_gradient_that_is_nan_stops_where_the_rectifier_is_closed(backend):
    dx = relu_backward(np.array([np.nan, np.nan, np.inf, np.inf]), np.array([0.0, 1.0, 0.0, 1.0]))
    np.testing.assert_array_equal(dx, [0, np.nan, 0, np.inf])


@pytest.mark.parametrize("shape", [(), (7,), (0, 3), (3, 0), (2, 3, 1, 2, 5)])
def test_elementwise_maps_take_any_shape(shape, backend):
    a, b = rng.standard_normal(shape), rng.standard_normal(shape)
    for result, expected in (
        (relu_forward(a), np.maximum(a, 0)),
        (relu_backward(a, b), np.where(b > 0, a, 0)),
        (add(a, b), a + b),
    ):
        assert result.shape == shape and result.dtype == np.float64
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(("high", "wide"), [(1, 1), (2, 3), (4, 1), (1, 6), (4, 6)])
@pytest.mark.parametrize("dtype", TYPES)
def test_pooling_is_the_mean_of_each_block_and_its_gradient_spreads(high, wide, dtype, backend):
    x = X.astype(dtype)
    y = avg_pool_forward(x, high, wide)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = avg_pool_backward(dy, high, wide)
    assert (y.dtype, dx.dtype, dx.shape) == (dtype, dtype, x.shape)
    limit = tolerances.LOOPS if dtype == np.float64 else tolerances.ROUNDED_TO_FLOAT32 * 4
    for i, j in np.ndindex(4 // high, 6 // wide):
        rows, columns = slice(i * high, (i + 1) * high), slice(j * wide, (j + 1) * wide)
        mean = x[:, rows, columns].astype(float).mean(axis=(1, 2))
        assert gradcheck.max_error(y[:, i, j], mean) <= limit
        spread = np.broadcast_to(dy[:, i : i + 1, j : j + 1].astype(float) / (high * wide), (2, high, wide, 3))
        assert gradcheck.max_error(dx[:, rows, columns], spread) <= limit


@pytest.mark.parametrize("side", [8, 32, 224])
@pytest.mark.parametrize("value", [0.1, -1e3])
def test_the_mean_of_a_large_float32_map_of_one_value_is_that_value(side, value, backend):
    x = np.full((1, side, side, 3), value, np.float32)
    np.testing.assert_allclose(avg_pool_forward(x, side, side), x[:, :1, :1], rtol=tolerances.TWINS_FLOAT32)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 0), (0, 3), (1, 4)])
@pytest.mark.parametrize("shape", [(2, 3, 3, 4), (5, 1), (3,), (4, 0), (0, 2)])
@pytest.mark.parametrize("dtype", TYPES)
def test_channels_of_zeros_are_added_and_taken_away(before, after, shape, dtype, backend):
    x = rng.normal(3.0, 1.0, shape).astype(dtype)
    x[..., :1] = np.nan
    y = pad_channels_forward(x, before, after)
    assert (y.shape, y.dtype) == ((*shape[:-1], before + shape[-1] + after), dtype)
    np.testing.assert_array_equal(y[..., before : before + shape[-1]], x)
    assert (y[..., :before] == 0).all() and (y[..., before + shape[-1] :] == 0).all()
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = pad_channels_backward(dy, before, after)
    assert dx.dtype == dtype
    np.testing.assert_array_equal(dx, dy[..., before : before + shape[-1]])


def test_results_are_new_arrays(backend):
    """No result shares memory with an argument, also where the values are the same."""
    x = np.abs(X)
    results = relu_forward(x), relu_backward(x, x), avg_pool_forward(x, 1, 1), avg_pool_backward(x, 1, 1)
    for result in (*results, pad_channels_forward(x, 0, 0), pad_channels_backward(x, 0, 0)):
        np.testing.assert_array_equal(result, x)
        assert result.base is None and not np.shares_memory(result, x)


def test_complex_numbers_in_numpy():
    """Relu goes by the real part, as the complex step needs; the rest is linear."""
    z = X - 4 + 1j * rng.standard_normal(X.shape)
    with kr.use_backend("numpy"):
        np.testing.assert_array_equal(relu_forward(z), np.where(z.real > 0, z, 0))
        np.testing.assert_array_equal(relu_backward(X, relu_forward(z)), np.where(z.real > 0, X, 0))
        for function, arguments in ((avg_pool_forward, (2, 3)), (pad_channels_forward, (1, 2))):
            both = function(z.real, *arguments) + 1j * function(z.imag, *arguments)
            assert gradcheck.max_error(function(z, *arguments), both) <= tolerances.LOOPS
        np.testing.assert_array_equal(add(z, X), z + X)


def test_two_types_make_one(backend):
    """The type of the first argument, as everywhere."""
    narrow = X.astype(np.float32)
    assert [add(narrow, X).dtype, add(X, narrow).dtype] == [np.float32, np.float64]
    np.testing.assert_array_equal(add(narrow, X), narrow + narrow)
    assert relu_backward(narrow, X).dtype == np.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: relu_forward(np.arange(3)), "x has type int64; expected float32, float64, or complex128"),
        (lambda: relu_backward(X[:1], X), "dy has shape (1, 4, 6, 3); expected (2, 4, 6, 3), the shape of y"),
        (lambda: add(X, X[..., :1]), "b has shape (2, 4, 6, 1); expected (2, 4, 6, 3), the shape of a"),
        (lambda: avg_pool_forward(X[0], 2, 2), "x has shape (4, 6, 3); expected (N, H, W, C), channels last"),
        (
            lambda: avg_pool_forward(X, 3, 2),
            "x has shape (2, 4, 6, 3); expected a height and width that are multiples of the pool size 3 x 2",
        ),
        (lambda: avg_pool_forward(X, 0, 1), "high is 0; expected at least 1"),
        (lambda: avg_pool_backward(X, 2, 1.0), "wide is 1.0; expected an integer"),
        (lambda: pad_channels_forward(np.array(1.0), 1, 1), "x has shape (); expected (..., C), channels last"),
        (lambda: pad_channels_forward(X, -1, 1), "before is -1; expected at least 0"),
        (lambda: pad_channels_backward(X, 2, 2), "dy has shape (2, 4, 6, 3); expected at least 4 channels"),
    ],
)
def test_wrong_arguments(call, message, backend):
    with pytest.raises((TypeError, ValueError), match=rf"^{re.escape(message)}"):
        call()
