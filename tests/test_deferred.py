"""What is put off: a rectified y that the convolution behind computes while it reads, a shortcut that is added while a
map is written. Both give what the steps one after the other give."""

import copy
import pickle
import re

import numpy as np
import pytest
import tolerances
from test_rectified import normalizers, unpaired
from twin_cases import TWINNED, Values, core, forwards, same_bits, same_kind

import kalnorm_ref as kr
from kalnorm_ref import backend as backends
from kalnorm_ref import rectified
from kalnorm_ref.convolution import conv2d_backward, conv2d_forward, convolve
from kalnorm_ref.gradcheck import max_error
from kalnorm_ref.layers.statistics import BatchNormalizer
from kalnorm_ref.maps import add, relu_forward

pytestmark = pytest.mark.usefixtures("one_thread")

GEOMETRY = [  # images in two statistics batches, size, kernel, output channels, stride, padding
    (2, (5, 4), (3, 3), 7, 1, ((1, 1), (1, 1))),
    (4, (6, 7), (1, 1), 16, 2, ((0, 0), (0, 0))),
    (6, (3, 8), (2, 5), 33, 3, ((0, 2), (3, 1))),
    (2, (2, 3), (2, 2), 1, 1, ((4, 4), (4, 4))),
    (34, (12, 9), (3, 3), 5, 1, ((1, 1), (1, 1))),
]


def put_off(v, n, size):
    """(y now, y later) as images, of every twinned normalizer but the group forms, which come with their own shape."""
    for name, arguments in forwards(v):
        now, later = (rectified.forward(TWINNED[name], *arguments, later=later)[0] for later in (False, True))
        yield name, *(y.reshape((n, *size, v.c)) for y in (now, later))
    x = v.x.reshape(n, -1, v.c)
    for groups in (1, v.c):
        grouped = kr.group_norm_forward, x, v.gamma, v.beta, groups
        now, later = (rectified.forward(*grouped, later=later)[0] for later in (False, True))
        yield f"group_norm of {groups}", *(y.reshape((n, *size, v.c)) for y in (now, later))


@pytest.mark.parametrize("c", [1, 3, 16, 17, 70, 300])
@pytest.mark.parametrize("geometry", GEOMETRY, ids=str)
def test_a_convolution_standardizes_and_rectifies_while_it_reads(geometry, c, each_set):
    """The border is 0, not what 0 would be standardized to; every image has the statistics of its batch."""
    n, size, kernel, c_out, stride, padding = geometry
    v = Values((2, n // 2 * size[0] * size[1], c), dtype=np.float32)
    weight, bias = v.normal(*kernel, c, c_out), v.normal(c_out)
    for _ in each_set():
        with kr.use_backend("cython"):
            for name, now, later in put_off(v, n, size):
                assert backends.is_deferred(later) and isinstance(now, np.ndarray), name
                assert (later.shape, later.ndim, later.dtype) == (now.shape, 4, now.dtype)
                assert same_bits(np.asarray(later), now), name
                y, cache = conv2d_forward(now, weight, bias, stride, padding)
                found, kept, _ = convolve(later, weight, bias, stride, padding)
                assert same_bits(found, y), name
                dy = np.random.default_rng(5).standard_normal(y.shape).astype(np.float32)
                assert same_bits(conv2d_backward(dy, kept), conv2d_backward(dy, cache)), name


def test_what_float32_does_not_hold_is_not_put_off(each_set):
    """Float64, statistics beyond float32, NaN and Inf: y is there at once, as it would be."""
    x = np.random.default_rng(1).normal(3, 2, (40, 5))
    spoilt = x.astype(np.float32)
    spoilt[7, 2] = np.nan
    tiny = (x * 1e-35).astype(np.float32)
    constant = x.astype(np.float32)
    constant[:, 1] = 0.5
    with kr.use_backend("cython"):
        for _ in each_set():
            for given, eps in ((x, 1e-5), (spoilt, 1e-5), (tiny, 0.0), (constant, 0.0)):
                y = rectified.forward(kr.batch_norm_forward, given, None, None, eps, later=True)[0]
                assert isinstance(y, np.ndarray)
                assert same_bits(y, relu_forward(kr.batch_norm_forward(given, None, None, eps)[0]))
    with kr.use_backend("numpy"):
        y = rectified.forward(kr.batch_norm_forward, x.astype(np.float32), None, None, later=True)[0]
        assert isinstance(y, np.ndarray)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda y: pickle.loads(pickle.dumps(y))], ids=["copy", "pickle"])
def test_a_copy_of_it(twin):
    with kr.use_backend("cython"):
        later = rectified.forward(kr.batch_norm_forward, Values((40, 5), dtype=np.float32).x, None, None, later=True)[0]
        assert same_bits(np.asarray(twin(later)), np.asarray(later))


def test_the_other_backend_takes_it():
    v = Values((2, 12, 5), dtype=np.float32)
    weight = v.normal(3, 3, 5, 4)
    with kr.use_backend("cython"):
        y, _, cache = rectified.forward(kr.batch_norm_forward, v.x, v.gamma, v.beta, later=True)
        z, kept, _ = convolve(y.reshape((2, 3, 4, 5)), weight, None, 1, ((1, 1), (1, 1)))
        dy, dz = v.normal(2, 12, 5), v.normal(*z.shape)
        expected = z, *conv2d_backward(dz, kept), rectified.backward(kr.batch_norm_backward, dy, y, cache)
    with kr.use_backend("numpy"):
        z, *_ = convolve(y.reshape((2, 3, 4, 5)), weight, None, 1, ((1, 1), (1, 1)))
        found = z, *conv2d_backward(dz, kept), rectified.backward(kr.batch_norm_backward, dy, y, cache)
    same_kind(found, expected)
    assert max_error(found, expected) <= tolerances.TWINS_FLOAT32


# ---- what is added -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("geometry", GEOMETRY, ids=str)
def test_a_convolution_adds_a_map_while_it_writes(geometry, dtype, each_set):
    n, size, kernel, few, stride, padding = geometry
    v = Values((1, 1), dtype=dtype)
    for c_out in (few, 16, 70):
        x, weight, bias = v.normal(n, *size, 3), v.normal(*kernel, 3, c_out), v.normal(c_out)
        for which in ("numpy", "cython"):
            with kr.use_backend(which):
                for _ in each_set():
                    y, _ = conv2d_forward(x, weight, bias, stride, padding)
                    plus = np.random.default_rng(3).standard_normal(y.shape).astype(dtype)
                    assert same_bits(convolve(x, weight, bias, stride, padding, plus)[0], add(y, plus))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 3), (2, 37, 5), (300, 16), (20, 9, 33)])
@pytest.mark.parametrize("size", [1.0, 1e-36], ids=["", "tiny gradients"])
def test_a_backward_adds_a_map_while_it_writes(shape, dtype, size, each_set):
    v = Values(shape, dtype=dtype)
    limit = tolerances.TWINS if dtype == np.float64 else tolerances.TWINS_FLOAT32
    for which in ("numpy", "cython"):
        with kr.use_backend(which):
            for _ in each_set():
                for forward, arguments, backward in normalizers(v):
                    y, *_, cache = rectified.forward(forward, *arguments)
                    dy, plus = v.normal(*y.shape) * dtype(size), v.normal(*y.shape)
                    above = above_of(forward, cache)
                    dx, *rest = rectified.backward(backward, dy, y, *above, cache)
                    found = rectified.backward(backward, dy, y, *above, cache, plus=plus)
                    same_kind(found, (dx, *rest))
                    assert same_bits(found[1:], tuple(rest)) and max_error(found[0], add(dx, plus)) <= limit


def above_of(forward, cache):
    """No gradient to the estimate, where the backward takes one."""
    if not hasattr(cache, "prior") and not hasattr(cache, "prior_mean"):
        return ()
    return (None, None) if hasattr(cache, "prior_mean") else (None,)


@pytest.mark.parametrize("shape", [(2, 4, 4, 3), (2, 4, 1, 12)])
def test_a_map_of_another_shape_is_refused(shape, backend):
    """Also one of as many numbers."""
    x, plus = np.ones((2, 4, 4, 3)), np.ones(shape)
    message = f"has shape {shape}; expected (2, 2, 2, 12)"
    with pytest.raises(ValueError, match=re.escape(message)):
        convolve(x, np.ones((3, 3, 3, 12)), None, 2, 1, plus)
    with pytest.raises(ValueError, match=re.escape("has shape (2, 4, 4, 3); expected (2, 2, 2, 12)")):
        kr.Residual(kr.Sequential(kr.Conv2d(3, 12, 3, stride=2, padding=1))).forward(x)


# ---- what is observed ----------------------------------------------------------------------------------------------

SEEN = [(64, (8, 8), 3), (16, (32, 16), 16), (64, (8, 4), 64), (16, (16, 16), 300), (5, (16, 32), 1), (40, (8, 8), 5)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "size", "c"), SEEN)
def test_a_convolution_observes_what_it_writes(n, size, c, dtype, each_set):
    """The bits of the normalizer that reads y itself, with and without a map that is added, rectified now or later."""
    v = Values((1, 1), dtype=dtype)
    weight, x = v.normal(1, 1, 2, c), v.normal(n, *size, 2, mean=2.0)
    given = v.normal(c), v.normal(c)
    calls = {
        kr.batch_norm_forward: given,
        kr.batch_renorm_forward: (*given, v.positive(c), v.normal(c)),
        kr.kalman_norm_forward: (*given, v.pair(c), 0.4),
    }
    for plus in (None, v.normal(n, *size, c)):
        for _ in each_set():
            for forward, arguments in calls.items():
                for later in (False, True):
                    with kr.use_backend("cython"):
                        y, _, seen = convolve(x, weight, None, 1, 0, plus, observe=True)
                        whole = y.reshape(-1, c)
                        found = rectified.forward(forward, whole, *arguments, later=later, observed=seen)
                        expected = rectified.forward(forward, whole, *arguments, later=later)
                    assert same_bits(*((np.asarray(y), *rest) for y, *rest in (found, expected)))


def test_what_was_observed_of_another_array_does_not_count(each_set):
    x, weight = (Values((1, 1), dtype=np.float32).normal(*shape) for shape in ((64, 16, 16, 2), (1, 1, 2, 3)))
    for _ in each_set():
        with kr.use_backend("cython"):
            y, _, seen = convolve(x, weight, None, 1, 0, observe=True)
            assert isinstance(seen, core.Observed)
            for other in (y.reshape(-1, 3) + 1, y.reshape(2, -1, 3), y.reshape(-1, 3)[:512]):
                found = rectified.forward(kr.batch_norm_forward, other, None, None, observed=seen)
                assert same_bits(found, rectified.forward(kr.batch_norm_forward, other, None, None))


def test_what_was_observed_counts_once():
    """A normalizer of the same array asks again: it has the same statistics."""
    x, weight = (Values((1, 1), dtype=np.float32).normal(*shape) for shape in ((64, 16, 16, 2), (1, 1, 2, 3)))
    with kr.use_backend("cython"):
        y, _, seen = convolve(x, weight, None, 1, 0, observe=True)
        calls = [rectified.forward(kr.batch_norm_forward, y.reshape(-1, 3), None, None, observed=seen) for _ in "ab"]
    assert same_bits(*calls)


# ---- networks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of_batch", [2, None])
@pytest.mark.parametrize("norm", kr.models.NORMS)
def test_a_float32_network_is_its_layers_one_by_one(norm, of_batch):
    """Training, where convolutions rectify, add and observe; inference, where they do not."""
    options = {"groups": 2} if norm in ("gn", "gkn") else {}
    net, alone = (kr.models.resnet(8, norm, statistics_batch_size=of_batch, **options) for _ in "ab")
    linked = any(getattr(leaf, "normalizer", None) for leaf in net.leaves.values())
    assert linked == (of_batch is None and isinstance(net.layers[1], BatchNormalizer))
    x = np.random.default_rng(3).normal(0.5, 1.5, (4, 16, 16, 3)).astype(np.float32)
    alone = by_itself(unpaired(alone))
    for training in (True, False, True):
        logits = net.forward(x, training)
        expected, _ = alone.carry(x, None, training)
        assert same_bits(logits, expected)
        dy = np.random.default_rng(8).standard_normal(logits.shape).astype(np.float32)
        found, (right, _) = (net.backward(dy), *net.grads.values()), alone.carry_backward(dy, None)
        assert max_error(found, (right, *alone.grads.values())) <= tolerances.TWINS_FLOAT32
        assert same_bits(tuple(net.state().values()), tuple(alone.state().values()))


def by_itself(net):
    """No residual unit's last convolution is seen as one, so that it is followed by a plain sum; none observes."""
    for layer in net.order:
        if isinstance(layer, kr.Residual):
            layer.body = (*layer.body, kr.Identity())
    for leaf in net.leaves.values():
        if isinstance(leaf, kr.Conv2d):
            leaf.normalizer = None
    return net


@pytest.mark.parametrize("training", [True, False])
def test_what_one_forward_puts_off_does_not_reach_the_next(training, backend):
    """A unit's convolution, and its normalizer, by themselves after a pass of the unit, and after one that failed."""
    conv, norm = kr.Conv2d(3, 3, 3, padding=1), kr.BatchNorm(3)
    unit = kr.Residual(kr.Sequential(norm, kr.ReLU(), conv))
    x = np.random.default_rng(4).normal(1.0, 2.0, (4, 5, 5, 3))
    before = conv.forward(x), norm.forward(x)
    unit.backward(unit.forward(x, training))
    assert same_bits((conv.forward(x), norm.forward(x)), before) or training
    with pytest.raises(ValueError, match="expected"):
        unit.forward(x[..., :2], training)
    assert same_bits(conv.forward(x), before[0]) and conv.plus is None and norm.plus is None
    assert (norm.forward(x) < 0).any()


def test_a_network_trained_in_one_backend_goes_back_in_the_other():
    x = np.random.default_rng(3).normal(0.5, 1.5, (4, 8, 8, 3)).astype(np.float32)
    grads = []
    for back in ("cython", "numpy"):
        net = kr.models.resnet(8, "kn-analytic", statistics_batch_size=2)
        with kr.use_backend("cython"):
            logits = net.forward(x, training=True)
        with kr.use_backend(back):
            grads.append((net.backward(kr.cross_entropy(logits, np.arange(4))[1]), *net.grads.values()))
    assert max_error(*grads) <= 10 * tolerances.TWINS_FLOAT32
