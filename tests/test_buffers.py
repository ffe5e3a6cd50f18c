"""Memory that a network uses again is never memory that anything still looks at, and it does not grow."""

import copy
import gc
import pickle
import tracemalloc

import numpy as np
import pytest
from twin_cases import Values, cases, core, run, same_bits

import kalnorm_ref as kr
from kalnorm_ref import backend
from kalnorm_ref.gradcheck import leaves
from kalnorm_ref.maps import relu_forward

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.usefixtures("compiled")]
SHAPE = 8, 16, 16, 3  # 24 KiB: what is smaller has memory of its own


@pytest.fixture
def compiled():
    with kr.use_backend("cython"):
        yield


def images(n=SHAPE[0], seed=0):
    return np.random.default_rng(seed).normal(0.5, 1.5, (n, *SHAPE[1:])).astype(np.float32)


def mapping(seed=0, norm="bn"):
    """A network whose result is a map, so that it comes from the buffers."""
    make = kr.models.norm_maker(norm, None, np.float32, {})
    draw = np.random.default_rng(seed)
    first, second = (kr.Conv2d(c, 16, 3, padding=1, rng=draw, dtype=np.float32) for c in (3, 16))
    unit = kr.Residual(kr.Sequential(make(16), kr.ReLU(), second))
    return kr.Sequential(first, unit, make(16), kr.ReLU())


def without_buffers(net):
    net.buffers = None
    return net


# ---- the buffers themselves ----------------------------------------------------------------------------------------


def reused(a):
    """Whether an array has memory of some buffers, which is bytes."""
    return a.base is not None and a.base.dtype == np.uint8


def address(a):
    return a.__array_interface__["data"][0]


def test_memory_is_used_again_once_nothing_looks_at_it():
    x, buffers = images(16), core.Buffers()
    with backend.reusing(buffers):
        y = relu_forward(x)
        assert address(y) % 64 == 0 and y.flags.writeable and y.flags.c_contiguous and reused(y)
        first, second = address(y), address(relu_forward(x))
        assert first != second
        assert address(relu_forward(x)) == second
        del y
        assert address(relu_forward(x)) == first


class Other(np.ndarray):
    """An array of another class."""


KEPT = {
    "the array": lambda y: y,
    "a view": lambda y: y[1:, ::2],
    "a view of a view": lambda y: y.reshape(-1)[5:9][::2],
    "a view of one number": lambda y: y[0, 0, 0, :1],
    "its transpose in a dict": lambda y: {"kept": [y.T]},
    "a part of a memoryview": lambda y: memoryview(y)[1:],
    "an array of another class": lambda y: y.view(Other)[2:],
    "its bytes": lambda y: y.view(np.uint8),
    "an iterator": np.nditer,
    "windows": lambda y: np.lib.stride_tricks.sliding_window_view(y, 2, axis=1),
    "a broadcast": lambda y: np.broadcast_to(y, (2, *y.shape)),
    "its ctypes": lambda y: y.ctypes,
    "DLPack": np.from_dlpack,
}


@pytest.mark.parametrize("keep", KEPT.values(), ids=KEPT)
def test_memory_that_anything_looks_at_is_not_used_again(keep):
    x, buffers = images(16), core.Buffers()
    with backend.reusing(buffers):
        y = relu_forward(x)
        kept, place = keep(y), address(y)
        del y
        gc.collect()
        others = [relu_forward(x) for _ in range(12)]
        assert place not in map(address, others) and len({address(y) for y in others}) == 12
        del kept, others
        assert place in [address(y) for y in [relu_forward(x) for _ in range(13)]]


def test_a_number_of_calls_later_unused_memory_is_given_back():
    x, buffers = images(64), core.Buffers()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        with backend.reusing(buffers):
            relu_forward(x)
        held = tracemalloc.get_traced_memory()[0] - before
        for _ in range(10):
            with backend.reusing(buffers):
                pass
        assert held > x.nbytes and tracemalloc.get_traced_memory()[0] - before < x.nbytes / 10
    finally:
        tracemalloc.stop()


def test_small_arrays_and_those_made_outside_have_memory_of_their_own():
    """Also after a network has failed, and within another network's forward."""
    net, x = mapping(), images(16)
    with pytest.raises(ValueError, match="expected"):
        net.forward(images()[..., :2])
    assert not reused(relu_forward(x))
    with backend.reusing(core.Buffers()):
        assert not reused(relu_forward(x[:1])) and reused(relu_forward(x))
        with backend.reusing(core.Buffers()):
            net.forward(x)
        assert reused(relu_forward(x))
    assert not reused(relu_forward(x))


@pytest.mark.parametrize("shape", [(4000, 6), (150, 700)])
def test_pure_functions_give_arrays_of_their_own(shape):
    mapping().forward(images())
    for name, arguments in cases(Values(shape, dtype=np.float32)):
        result = run(name, arguments, "cython")
        if isinstance(result, tuple) and hasattr(result[-1], "x"):
            result = result[:-1]  # a cache holds the caller's arrays
        assert not any(map(reused, leaves(result))), name


# ---- results of networks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_results_keep_their_values(training):
    """Whole, or a part of them, through later passes of the same network and of another."""
    net, other = mapping(), mapping(1, "kn-analytic")
    kept, values = [], []
    for step in range(8):
        x = images(seed=step)
        y = net.forward(x, training)
        z = other.forward(x, training)
        dy = np.random.default_rng(step).standard_normal(y.shape).astype(np.float32)
        dx = net.backward(dy)
        assert reused(y) and reused(z) and reused(dx)
        parts = {"rows": y[1:3], "channel": z[..., 2], "some": dx.reshape(-1)[::7]}
        part = parts if step % 2 else {"y": y, "z": z, "dx": dx}
        kept.append(part)
        values.append({name: a.copy() for name, a in part.items()})
        other.backward(dy)
    for part, value in zip(kept, values, strict=True):
        assert all(np.array_equal(part[name], value[name]) for name in part)


@pytest.mark.parametrize("norm", ["bn", "brn", "kn-learned", "kn-released", "gn", "gkn"])
def test_training_is_the_same_without_buffers(norm):
    options = {"groups": 2} if norm in ("gn", "gkn") else {}
    nets = [kr.models.resnet(8, norm, statistics_batch_size=2, **options) for _ in "ab"]
    without_buffers(nets[1])
    found = []
    for net in nets:
        optimizer, kept = kr.SGD(net, lr=0.1), []
        for step, n in enumerate((4, 8, 4, 2, 6, 4)):
            logits = net.forward(images(n, step), training=True)
            kept.append((logits, net.backward(kr.cross_entropy(logits, np.arange(n) % 10)[1])))
            optimizer.step()
        found.append((tuple(kept), tuple(net.state().values()), net.forward(images(3))))
    assert same_bits(*found)


def test_the_result_of_one_network_is_the_input_of_another_and_of_itself():
    nets = [kr.Sequential(kr.BatchNorm(16), kr.ReLU()) for _ in range(2)]
    expected = y = mapping().forward(images(), training=True)
    for _ in range(4):
        for net in nets:
            y = net.forward(y, training=True)
            expected = relu_forward(kr.batch_norm_forward(expected.reshape(-1, 16), None, None)[0]).reshape(y.shape)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-4)


class Nested(kr.layers.base.Layer):
    """A network in the place of a layer."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, training=False):
        return self.net.forward(x, training)

    def backward(self, dy):
        return self.net.backward(dy)


def test_a_network_within_a_network():
    inner, flat = mapping(2), mapping(2)
    net = kr.Sequential(kr.BatchNorm(3, dtype=np.float32), Nested(inner), kr.ReLU())
    parts = [kr.Sequential(kr.BatchNorm(3, dtype=np.float32)), flat, kr.Sequential(kr.ReLU())]
    for step in range(5):
        y = z = images(seed=step)
        y = net.forward(y, training=True)
        for part in parts:
            z = part.forward(z, training=True)
        d = np.random.default_rng(step).standard_normal(y.shape).astype(np.float32)
        assert same_bits((y, net.backward(d)), (z, parts[0].backward(flat.backward(parts[2].backward(d)))))


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_a_copy_has_buffers_of_its_own(twin):
    net = mapping(norm="kn-analytic")
    y = net.forward(images(), training=True)
    other = twin(net)
    assert isinstance(other.buffers, core.Buffers) and other.buffers is not net.buffers
    dy = np.random.default_rng(3).standard_normal(y.shape).astype(np.float32)
    assert same_bits(net.backward(dy), other.backward(dy))
    other.params["0.weight"][...] = 0
    assert other.grads["0.weight"].any() and other.layers[2] is other.order[2].norm
    values, later = y.copy(), other.forward(images(seed=5))
    assert not np.array_equal(later, values) and np.array_equal(y, values)
    assert same_bits(tuple(twin(net).state_dict().values()), tuple(net.state_dict().values()))


# ---- how much ------------------------------------------------------------------------------------------------------


def held_after_steps(net, sizes):
    """Bytes held after each step of training with batches of these sizes."""
    found = []
    tracemalloc.start()
    try:
        for n in sizes:
            logits = net.forward(images(n), training=True)
            net.backward(kr.cross_entropy(logits, np.arange(n) % 10)[1])
            found.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    return found


@pytest.mark.parametrize("norm", ["bn", "kn-analytic"])
def test_memory_does_not_grow(norm):
    """Fifteen sizes of batches, twice; then thirty steps of one size."""
    sizes = np.random.default_rng(0).permutation(np.arange(2, 32, 2)).tolist()
    net = kr.models.cnn5(norm, statistics_batch_size=2)
    held = held_after_steps(net, sizes * 2)
    assert max(held[15:]) <= 1.05 * max(held[:15])
    steady = held_after_steps(net, [30] * 30)
    assert max(steady[10:]) <= 1.05 * steady[10] and steady[10] <= max(held)
