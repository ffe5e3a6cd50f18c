"""Networks in several Python threads: each its own, all the same one, and what is left behind when they are done."""

import contextlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from test_buffers import images, mapping, reused
from twin_cases import core, same_bits

import kalnorm_ref as kr
from kalnorm_ref import backend
from kalnorm_ref.maps import relu_forward

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.usefixtures("compiled")]


@pytest.fixture
def compiled():
    with kr.use_backend("cython"):
        yield


def test_two_networks_in_two_threads():
    def train(seed):
        net, results = mapping(seed, "kn-learned"), []
        for step in range(10):
            y = net.forward(images(3 + step % 2, step), training=True)
            results.append((y, net.backward(y - 1)))
        return tuple(results), tuple(net.grads.values())

    expected = [train(seed) for seed in range(4)]
    with impatient(), ThreadPoolExecutor(4) as pool:
        assert all(map(same_bits, pool.map(train, range(4)), expected))


@contextlib.contextmanager
def impatient():
    """Python changes threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_one_network_infers_in_several_threads():
    net = mapping()
    inputs = [images(seed=seed) for seed in range(12)]
    expected = [net.forward(x).copy() for x in inputs]
    with impatient(), ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert all(map(np.array_equal, pool.map(net.forward, inputs), expected))


@pytest.mark.parametrize("place", ["1.main.0", "1.main.2", "2"])
def test_a_network_is_in_use_twice_at_one_place(place):
    """One thread waits before a normalizer with a ReLU behind it, or before the convolution where a shortcut joins."""
    net, inputs = mapping(), [images(seed=1), images(seed=2)]
    expected, layer = [net.forward(x).copy() for x in inputs], net.leaves[place]
    arrived, go, found = threading.Event(), threading.Event(), []

    def carry(*arguments, **options):
        if threading.current_thread() is other:
            arrived.set()
            assert go.wait(10)
        return type(layer).carry(layer, *arguments, **options)

    layer.carry = carry
    other = threading.Thread(target=lambda: found.append(net.forward(inputs[1])))
    other.start()
    assert arrived.wait(10)
    found.insert(0, net.forward(inputs[0]))
    go.set()
    other.join()
    assert [np.array_equal(*pair) for pair in zip(found, expected, strict=True)] == [True, True]


def test_buffers_belong_to_one_thread():
    """Two threads enter in turn and leave in the same order: what is made afterwards has memory of its own."""
    entered, leave, x, inside = threading.Event(), threading.Event(), images(16), []

    def hold():
        with backend.reusing(core.Buffers()):
            entered.set()
            assert leave.wait(10)

    other = threading.Thread(target=hold)
    other.start()
    assert entered.wait(10)
    inside.append(reused(relu_forward(x)))
    with backend.reusing(core.Buffers()):
        leave.set()
        other.join()
        inside.append(reused(relu_forward(x)))
    inside.append(reused(relu_forward(x)))
    assert inside == [False, True, False]
