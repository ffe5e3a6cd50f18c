"""Holds a normalizer with the ReLU in its loops to the two one after the other: results, masks and gradients.

In networks a normalizer and the ReLU behind it run as one; the same layers by hand, one by one, must give the same.
"""

import numpy as np
import pytest
import tolerances
from test_layers import scattered
from twin_cases import TWINNED, Values, forwards, groupings, same_bits, same_kind

import kalnorm_ref as kr
from kalnorm_ref import backend as backends
from kalnorm_ref import full_covariance, rectified
from kalnorm_ref.gradcheck import max_error
from kalnorm_ref.maps import relu_backward, relu_forward
from kalnorm_ref.network import Container, Rectified

pytestmark = pytest.mark.usefixtures("one_thread")
TYPES = [np.float32, np.float64]

# ---- the pure functions --------------------------------------------------------------------------------------------


def normalizers(v):
    """(forward, arguments, backward) of every normalizer, with and without each optional part."""
    for name, arguments in (*forwards(v), *groupings(v)):
        if name != "standardize":  # whose gradient goes to the moments that are given too: below
            yield TWINNED[name], arguments, TWINNED[f"{name.removesuffix('_forward')}_backward"]
    whole, row = v.pair(*v.statistics), v.pair(v.c)
    filtered = kr.kalman_filter_norm_forward, kr.kalman_filter_norm_backward
    for arguments in ((v.x, v.gamma, v.beta, whole), (v.x, v.gamma, None, row, 0.1), (v.x, None, v.beta, None)):
        yield filtered[0], arguments, filtered[1]
    full = full_covariance.kalman_norm_forward, full_covariance.kalman_norm_backward
    for arguments in (
        (v.x, v.gamma, v.beta, row.mean, v.array(np.eye(v.c)), 0.3),
        (v.x, None, None, None, None, None),
    ):
        yield full[0], arguments, full[1]


def gradients(v, results):
    """What comes from above, in turn: dy with gradients to the estimate, where the backward takes any, and without."""
    y, *moments, cache = results
    dy = v.normal(*y.shape)
    if not hasattr(cache, "prior") and not hasattr(cache, "prior_mean"):
        return [(dy,)]
    if len(moments) == 1:
        return [(dy, v.gradient(*moments[0].mean.shape)), (dy, None)]
    return [(dy, *(v.normal(*a.shape) for a in moments)), (dy, None, None)]


def one_pass(v):
    """Every normalizer rectified, forward and backward: (forward, arguments, results, backward, from above, dx ...)."""
    for forward, arguments, backward in normalizers(v):
        results = rectified.forward(forward, *arguments)
        for dy, *above in gradients(v, results):
            above = (*above, results[-1])
            found = rectified.backward(backward, dy, results[0], *above)
            yield forward, arguments, results, backward, (dy, *above), found


def hold_to_the_two(v):
    """Forward and backward as one give what the two give in turn, in the backend and the kernels in use."""
    limit = tolerances.TWINS if v.dtype == np.float64 else tolerances.TWINS_FLOAT32
    for forward, arguments, results, backward, (dy, *above), found in one_pass(v):
        y, *rest = forward(*arguments)
        same_kind(results, (relu_forward(y), *rest))
        assert same_bits(results, (relu_forward(y), *rest)), forward.__name__
        expected = backward(relu_backward(dy, results[0]), *above)
        same_kind(found, expected)
        assert max_error(found, expected) <= limit, backward.__name__


SHAPES = [(1, 3), (2, 37, 5), (300, 16), (40, 70), (20, 9, 33)]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_one_pass_is_two_in_numpy(shape, dtype):
    with kr.use_backend("numpy"):
        hold_to_the_two(Values(shape, dtype=dtype))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_one_pass_is_two_in_every_set(shape, dtype, each_set):
    with kr.use_backend("cython"):
        for _ in each_set():
            hold_to_the_two(Values(shape, dtype=dtype))


@pytest.mark.parametrize("dtype", TYPES)
def test_standardize_with_given_moments(dtype, backend):
    v = Values((2, 37, 5), dtype=dtype)
    for arguments in [arguments for name, arguments in forwards(v) if name == "standardize"]:
        y, cache = rectified.forward(kr.standardize, *arguments)
        assert same_bits(y, relu_forward(kr.standardize(*arguments)[0]))
        found = rectified.backward(kr.standardize_backward, v.dy, y, cache)
        expected = kr.standardize_backward(relu_backward(v.dy, y), cache)
        same_kind(found, expected)
        assert max_error(found, expected) <= (tolerances.TWINS if dtype == np.float64 else tolerances.TWINS_FLOAT32)


def run_rectified(name, arguments, which):
    with kr.use_backend(which):
        return rectified.forward(TWINNED[name], *arguments)


def on_the_kink(v):
    """Quarters that lie evenly about 4, some on it, so that y = beta there; gamma and beta of 0, -0 and both signs."""
    half = np.round(v.x[..., : v.shape[-2] // 2, :] * 4) / v.dtype(4) - v.dtype(3)
    half[..., ::3, :] = 0
    rest = np.zeros_like(v.x[..., 2 * half.shape[-2] :, :])
    v.x = 4 + np.concatenate([half, -half, rest], axis=-2)
    v.gamma = np.resize(np.array([0.7, -1.3, 0.0, -0.0], v.dtype), v.c)
    v.beta = np.resize(np.array([0.0, -0.0, 0.0, -0.5, 1.5], v.dtype), v.c)
    assert (run_rectified("batch_norm_forward", (v.x, v.gamma, v.beta), "numpy")[0] == 0).mean() > 0.3
    return v


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(2, 64, 5), (257, 16), (16, 70)])
def test_the_mask_is_that_of_y_on_the_kink(shape, dtype, each_set):
    """dx is where y > 0 alone: with a dy of one number, and statistics that are given, what passes is seen."""
    v = on_the_kink(Values(shape, dtype=dtype))
    for which in ("numpy", "cython"):
        with kr.use_backend(which):
            for _ in each_set():
                hold_to_the_two(v)


@pytest.mark.parametrize("size", [1.0, 1e-36, 1e38])
def test_the_mask_does_not_depend_on_the_size_of_the_gradient(size, each_set):
    """beta puts sample 3 and all like it on 0, up to rounding: its float32 y says what passes, also where a gradient
    beyond float32's range makes the sums double."""
    x = np.round(np.random.default_rng(2).normal(0, 3, (256, 16))).astype(np.float32)
    beta = ((x.astype(float).mean(axis=0) - x[3]) / np.sqrt(x.astype(float).var(axis=0) + 1e-5)).astype(np.float32)
    for name in each_set():
        y, _, cache = run_rectified("batch_norm_forward", (x, None, beta), "cython")
        assert (np.abs(y[3]) < 1e-5).all()
        for i in np.flatnonzero((x == x[3]).any(axis=1))[:60]:
            dy = np.zeros_like(x)
            dy[i] = size
            with kr.use_backend("cython"):
                dx, _, dbeta = rectified.backward(kr.batch_norm_backward, dy, y, cache)
            np.testing.assert_array_equal(dbeta != 0, y[i] > 0, err_msg=name)
            np.testing.assert_array_equal(dx[i] != 0, y[i] > 0, err_msg=name)


@pytest.mark.parametrize("dtype", TYPES)
def test_nan_passes_both_ways(dtype, each_set):
    v = Values((3, 40, 17), dtype=dtype)
    for place in ((0, 3, 2), (1, 39, 16), (2, 0, 0)):
        v.x[place] = np.nan
    for which in ("numpy", "cython"):
        for _ in each_set():
            y, _, cache = run_rectified("batch_norm_forward", (v.x, v.gamma, v.beta), which)
            with kr.use_backend(which):
                np.testing.assert_array_equal(y, relu_forward(kr.batch_norm_forward(v.x, v.gamma, v.beta)[0]))
                dx = rectified.backward(kr.batch_norm_backward, v.dy, y, cache)[0]
                right = kr.batch_norm_backward(relu_backward(v.dy, y), cache)[0]
            assert np.isnan(y[0, :, 2]).all() and np.isfinite(y[0, :, 3]).all()
            np.testing.assert_array_equal(np.isnan(dx), np.isnan(right))


def test_the_same_bits_at_any_number_of_threads(monkeypatch):
    for dtype in TYPES:
        found = []
        for threads in (1, 2, 3, 2):
            monkeypatch.setattr(backends, "_num_threads", threads)
            with kr.use_backend("cython"):
                passes = one_pass(Values((2, 3000, 17), dtype=dtype))
                found.append(tuple((results, dx) for *_, results, _, _, dx in passes))
        assert all(same_bits(result, found[0]) for result in found[1:])


# ---- networks ------------------------------------------------------------------------------------------------------

X = np.random.default_rng(3).normal(2.0, 1.5, (6, 8, 8, 2))


def network(norm, model=kr.models.cnn5, **options):
    return scattered(model(norm=norm, in_channels=2, classes=3, statistics_batch_size=2, dtype=np.float64, **options))


def unpaired(layer):
    """The network with every normalizer and every ReLU by itself."""
    if isinstance(layer, Container):
        for child in layer.children.values():
            unpaired(child)
    if isinstance(layer, kr.Sequential):
        layer.order = split(layer.order)
    if isinstance(layer, kr.Residual) and isinstance(layer.head, Rectified):
        layer.head, *first = split([layer.head])
        layer.body = (*first, *layer.body)
    if isinstance(layer, kr.Residual):
        layer.body = split(layer.body)
    return layer


def split(layers):
    pairs = [(layer.norm, layer.relu) if isinstance(layer, Rectified) else (layer,) for layer in layers]
    return tuple(layer for pair in pairs for layer in pair)


def hold_to_layers_by_hand(net, alone, x, training, carry, carry_backward):
    """Logits, gradients and what a network remembers."""
    logits = net.forward(x, training)
    expected, _ = carry(x, None, training)
    assert same_bits(logits, expected)
    dy = np.random.default_rng(8).standard_normal(logits.shape)
    dx, (right, _) = net.backward(dy), carry_backward(dy, None)
    found, grads = (dx, *net.grads.values()), (right, *alone.grads.values())
    assert max_error(found, grads) <= tolerances.BACKENDS
    assert same_bits(tuple(net.state().values()), tuple(alone.state().values()))


@pytest.mark.parametrize("norm", kr.models.NORMS)
def test_a_network_is_its_layers_one_by_one(norm, backend):
    net, alone = network(norm), network(norm)
    assert sum(isinstance(layer, Rectified) for layer in net.order) == (0 if norm == "none" else 5)

    def carry(x, estimate, training):
        for layer in alone.layers:
            x, estimate = layer.carry(x, estimate, training)
        return x, estimate

    def carry_backward(dy, dmoments):
        for layer in reversed(alone.layers):
            dy, dmoments = layer.carry_backward(dy, dmoments)
        return dy, dmoments

    for training in (True, False, True):
        hold_to_layers_by_hand(net, alone, X, training, carry, carry_backward)


@pytest.mark.parametrize("norm", kr.models.NORMS)
def test_a_network_with_residual_units_is_itself_unpaired(norm, backend):
    """Estimates and their gradients fork at the head of a unit, and pass the ReLU as before."""
    options = {"gain": 0.5} if norm == "kn-analytic" else {}
    net, alone = (network(norm, kr.models.resnet, depth=8, **options) for _ in "ab")
    alone = unpaired(alone)
    assert not any(isinstance(layer, Rectified) for layer in alone.order)
    for training in (True, False):
        hold_to_layers_by_hand(net, alone, X, training, alone.carry, alone.carry_backward)


@pytest.mark.parametrize("norm", ["bn", "brn", "kn-analytic"])
def test_inference_with_statistics_of_the_batch_and_an_incomplete_one(norm, backend):
    net, alone = network(norm), unpaired(network(norm))
    for one in (net, alone):
        kr.set_inference(one, "batch")
    hold_to_layers_by_hand(net, alone, X[:5], False, alone.carry, alone.carry_backward)


def test_a_paired_normalizer_by_itself_is_not_rectified(backend):
    norm = kr.BatchNorm(2)
    net, alone = kr.Sequential(norm, kr.ReLU()), kr.BatchNorm(2)
    assert (net.forward(X, training=True) >= 0).all() and norm.rectifies is False
    y = norm.forward(X, training=True)
    np.testing.assert_array_equal(y, alone.forward(X, training=True))
    assert (y < 0).any()
    dy = np.random.default_rng(8).standard_normal(y.shape)
    np.testing.assert_array_equal(norm.backward(dy), alone.backward(dy))


@pytest.mark.parametrize("norm", [kr.BatchNorm(2), kr.KalmanNorm(2), kr.GroupNorm(2, 1), kr.GroupKalmanNorm(2, 1)])
def test_an_exception_inside_leaves_it_as_it_was(norm, backend):
    net = kr.Sequential(norm, kr.ReLU())
    with pytest.raises(ValueError, match=r"^x has shape \(6, 3\); expected 2 channels"):
        net.forward(np.ones((6, 3)), training=True)
    assert norm.rectifies is False and (norm.forward(X, training=True) < 0).any()


def test_what_is_no_pair_stays_as_it_is():
    norm, relu = kr.BatchNorm(2), kr.ReLU()
    for layers in ((relu, norm), (norm, relu, kr.MaxPool2d(2)), (kr.Identity(), relu), (norm, kr.Identity(), relu)):
        assert not any(isinstance(layer, Rectified) for layer in kr.Sequential(*layers).order)
