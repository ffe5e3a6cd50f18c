"""Holds the loss to its definition and the optimizer and schedules to hand-written steps and corner points."""

import math
import re

import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import gradcheck, optim, running

rng = np.random.default_rng(83)
LOGITS, LABELS = rng.normal(1.0, 3.0, (5, 4)), np.array([3, 0, 1, 1, 2])


# ---- cross-entropy -----------------------------------------------------------------------------------------------


def test_cross_entropy_by_its_definition():
    loss, dlogits = kr.cross_entropy(LOGITS, LABELS)
    total, expected = 0.0, np.zeros((5, 4))
    for n, label in enumerate(LABELS):
        shares = [math.exp(z) / sum(math.exp(other) for other in LOGITS[n]) for z in LOGITS[n]]
        total -= math.log(shares[label]) / 5
        for k in range(4):
            expected[n, k] = (shares[k] - (k == label)) / 5
    assert isinstance(loss, float) and loss == pytest.approx(total, rel=1e-14)
    assert gradcheck.max_error(dlogits, expected) <= tolerances.LOOPS


@pytest.mark.parametrize("method", [gradcheck.complex_step, gradcheck.central_difference], ids=["step", "difference"])
def test_cross_entropy_gradient(method):
    tolerance = tolerances.COMPLEX_STEP if method is gradcheck.complex_step else tolerances.CENTRAL_DIFFERENCE
    function = lambda logits: np.array(kr.cross_entropy(logits, LABELS)[0])  # noqa: E731
    up = np.array(0.7)
    _, dlogits = kr.cross_entropy(LOGITS, LABELS)
    gradcheck.check(function, (LOGITS,), up, (0.7 * dlogits,), tolerance, method)
    with pytest.raises(AssertionError, match=r"^gradient of argument 0 is off by .*; tolerance .*$"):
        gradcheck.check(function, (LOGITS,), up, (0.7 * 5 * dlogits,), tolerance, method)  # the 1/N forgotten


def test_cross_entropy_of_huge_logits():
    logits = np.array([[1e4, -1e4, 0.0], [-1e300, 1e300, 0.0], [700.0, 710.0, -1e5]])
    loss, dlogits = kr.cross_entropy(logits, np.array([0, 1, 0]))
    assert loss == pytest.approx((10 + math.log1p(math.exp(-10))) / 3, rel=1e-13)
    share = 1 / (1 + math.exp(-10))
    np.testing.assert_allclose(dlogits[2], [-share / 3, share / 3, 0], rtol=1e-12)
    np.testing.assert_array_equal(dlogits[:2], 0)
    assert kr.cross_entropy(logits, np.array([1, 1, 0]))[0] > 6000
    single, dsingle = kr.cross_entropy(np.float32([[300, -300]]), np.array([1]))
    assert single == pytest.approx(600) and dsingle.dtype == np.float32


def test_cross_entropy_does_not_depend_on_a_shift():
    loss, dlogits = kr.cross_entropy(LOGITS, LABELS)
    moved, dmoved = kr.cross_entropy(LOGITS + rng.normal(0, 50, (5, 1)), LABELS)
    assert moved == pytest.approx(loss, rel=1e-13) and gradcheck.max_error(dmoved, dlogits) <= tolerances.LOOPS
    assert np.abs(dlogits.sum(axis=1)).max() <= 1e-16


@pytest.mark.parametrize(
    ("logits", "labels", "error", "message"),
    [
        (LOGITS[0], LABELS, ValueError, "logits has shape (4,); expected (N, K), N >= 1 examples and K classes"),
        (LOGITS[:0], LABELS[:0], ValueError, "logits has shape (0, 4); expected (N, K), N >= 1 examples and K classes"),
        (LOGITS, LABELS[:4], ValueError, "labels has shape (4,); expected (5,), one for each row of logits"),
        (LOGITS, LABELS + 1, ValueError, "labels has values from 1 to 4; expected 0 to 3"),
        (LOGITS, LABELS - 1, ValueError, "labels has values from -1 to 2; expected 0 to 3"),
        (LOGITS, LABELS + 0.0, TypeError, "labels has type float64; expected integers"),
    ],
)
def test_cross_entropy_errors(logits, labels, error, message):
    with pytest.raises(error, match=rf"^{re.escape(message)}$"):
        kr.cross_entropy(logits, labels)
    with pytest.raises(TypeError, match=r"^logits has type int64; expected .*convert with logits.*\)$"):
        kr.cross_entropy(LABELS[:, None], LABELS)


# ---- stochastic gradient descent ---------------------------------------------------------------------------------


class Net:
    """Parameters of every kind that the optimizer tells apart, with gradients set by hand."""

    def __init__(self, dtype=np.float64):
        shapes = {"0.weight": (2, 3), "0.bias": (3,), "1.gamma": (3,), "1.beta": (3,), "1.transition": (3, 3)}
        shapes |= {"1.gain_logit": (), "1.log_noise": (), "2.main.0.weight": (1, 1, 3, 2)}
        draw = np.random.default_rng(1)
        self.params = {path: np.array(draw.normal(2, 1, shape), dtype) for path, shape in shapes.items()}
        self.grads = {}
        self.draw(0)

    def draw(self, seed):
        draw = np.random.default_rng(seed)
        self.grads = {path: np.array(draw.normal(0, 3, p.shape), p.dtype) for path, p in self.params.items()}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("clip_norm", [None, 2.0, 1e6])
def test_steps_by_hand(momentum, weight_decay, clip_norm):
    net = Net()
    live, w = dict(net.params), {path: p.copy() for path, p in net.params.items()}
    v = dict.fromkeys(w, 0.0)
    optimizer = kr.SGD(net, 0.2, momentum, weight_decay, clip_norm)
    for step in range(4):
        net.draw(step)
        optimizer.lr = 0.2 / (step + 1)  # as a schedule sets it
        norm = math.sqrt(sum(float((g**2).sum()) for g in net.grads.values()))
        scale = min(1, clip_norm / norm) if clip_norm else 1
        before = {path: g.copy() for path, g in net.grads.items()}
        optimizer.step()
        for path in w:
            g = scale * before[path] + weight_decay * w[path] * path.endswith("weight")
            v[path] = momentum * v[path] + g
            w[path] = w[path] - 0.2 / (step + 1) * v[path]
            np.testing.assert_allclose(net.params[path], w[path], rtol=1e-13)
            np.testing.assert_array_equal(net.grads[path], before[path])
            assert net.params[path] is live[path]  # in place


def test_decay_shrinks_weights_alone():
    net = Net()
    before = {path: p.copy() for path, p in net.params.items()}
    net.grads = {path: np.zeros_like(p) for path, p in net.params.items()}
    kr.SGD(net, lr=0.5, momentum=0.0, weight_decay=0.1).step()
    for path, p in net.params.items():
        np.testing.assert_allclose(p, before[path] * (0.95 if path.endswith("weight") else 1), rtol=1e-15)


def test_float32_stays_float32():
    net = Net(np.float32)
    optimizer = kr.SGD(net, 0.1, clip_norm=0.5)
    optimizer.step()
    assert all(a.dtype == np.float32 for a in (*net.params.values(), *optimizer.velocity.values()))


def test_momentum_resumes_to_the_same_bits():
    net, other = Net(), Net()
    optimizer = kr.SGD(net)
    optimizer.step()
    state = optimizer.state_dict()
    resumed = kr.SGD(other)
    resumed.load_state_dict(state)
    for path, p in net.params.items():
        other.params[path][...] = p
    for _ in range(2):
        optimizer.step()
        resumed.step()
    assert all(np.array_equal(net.params[path], p) for path, p in other.params.items())
    assert all((optimizer.velocity[path] != v).any() for path, v in state.items())  # the state was a copy


@pytest.mark.parametrize("change", [lambda s: s.pop("1.beta"), lambda s: s.update({"1.beta": np.ones(4)})])
def test_velocities_that_do_not_fit_change_nothing(change):
    optimizer = kr.SGD(Net())
    state = {path: v + 1 for path, v in optimizer.state_dict().items()}
    change(state)
    message = "the optimizer's state has no velocity of shape (3,) for 1.beta"
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        optimizer.load_state_dict(state)
    assert not any(v.any() for v in optimizer.velocity.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.1}, "lr is -0.1; expected at least 0"),
        ({"momentum": 1.5}, "momentum is 1.5; expected a value in [0, 1]"),
        ({"weight_decay": -1}, "weight_decay is -1; expected at least 0"),
        ({"clip_norm": -2.0}, "clip_norm is -2; expected at least 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        kr.SGD(Net(), **options)


def test_gradient_norm():
    assert optim.gradient_norm({"a": np.array([[3.0], [4.0]]), "b": np.array(12.0)}) == 13
    assert optim.gradient_norm({"a": np.zeros(3)}) == 0


# ---- schedules ---------------------------------------------------------------------------------------------------


def test_constant_and_step_decay():
    assert [optim.constant(0.3)(step) for step in (0, 10**6)] == [0.3, 0.3]
    at = optim.step_decay(0.1, [82, 123], 0.2)
    assert [at(step) for step in (0, 81)] == [0.1, 0.1]
    assert [at(step) for step in (82, 122, 123, 10**6)] == pytest.approx([0.02, 0.02, 0.004, 0.004], rel=1e-14)
    assert optim.step_decay(0.1, [])(5) == 0.1


def test_cosine():
    at = optim.cosine(0.4, 100, warmup=20)
    assert [at(step) for step in (0, 9, 19)] == pytest.approx([0.02, 0.2, 0.4], rel=1e-14)
    assert at(20) == 0.4 and at(60) == pytest.approx(0.2) and at(40) == pytest.approx(0.2 * (1 + math.sqrt(0.5)))
    assert at(100) == at(101) == at(10**6) == 0
    assert (np.diff([at(step) for step in range(19, 101)]) <= 0).all()
    assert optim.cosine(0.4, 100)(0) == 0.4 and optim.cosine(0.4, 10, warmup=10)(10) == 0.4


def test_renorm_schedule():
    """Plain batch normalization at first; then each limit to its end by a step of its own."""
    r_max, d_max = optim.renorm_schedule(5000, 40000, 25000)
    assert [(r_max(step), d_max(step)) for step in (0, 5000)] == [(1, 0), (1, 0)]
    assert (r_max(22500), d_max(15000)) == pytest.approx((2, 2.5), rel=1e-14)
    assert (r_max(40000), d_max(25000), r_max(10**6), d_max(10**6)) == pytest.approx((3, 5, 3, 5), rel=1e-15)
    assert d_max(24999) < 5 and r_max(39999) < 3
    r_max, d_max = optim.renorm_schedule(10, 10, 10, 2.0, 1.0)  # a jump, not a division by zero
    assert (r_max(10), d_max(10), r_max(11), d_max(11)) == (1, 0, 2, 1)


def test_renorm_schedule_drives_a_layer(backend):
    """With r = 1 and d = 0, as on the first steps, the layer is BN; then the corrections come in."""
    r_max, d_max = optim.renorm_schedule(1, 3, 2)
    layer, plain = kr.BatchRenorm(3, r_max=r_max, d_max=d_max), kr.BatchNorm(3)
    x = rng.normal(7, 3, (20, 3))
    seen = [gradcheck.max_error(layer.forward(x, training=True), plain.forward(x, training=True)) for _ in range(4)]
    assert max(seen[:2]) <= tolerances.IDENTITY and 0.1 < seen[2] < seen[3]


# ---- in one pass ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_pass_has_numpys_bits(dtype, backend):
    """The update with decay and a scale, and a running average, against the lines of NumPy that define them."""
    w, grad, v, new = rng.normal(1.0, 3.0, (4, 5, 7)).astype(dtype)
    lr, momentum, decay, scale = (dtype(number) for number in (0.3, 0.9, 0.02, 0.7))
    expected_v = momentum * v + (scale * grad + decay * w)
    expected_w = w - lr * expected_v
    mean, average = w[0].copy(), running.running_average(w[0], new[0], 0.9, 3)
    running.update_average(mean, new[0], 0.9, 3)
    np.testing.assert_array_equal(mean, average)
    for slot in optim.backend.sgd_updates([(w, grad, v, 0.02)], 0.3, 0.9, 0.7):
        optim.update(*slot, 0.3, 0.9, 0.7)
    np.testing.assert_array_equal(v, expected_v)
    np.testing.assert_array_equal(w, expected_w)


def test_one_pass_leaves_what_it_cannot_do_to_numpy(backend):
    """Arrays of two types, or not contiguous."""
    for old in (np.ones(4, np.float32), np.ones(8)[::2]):
        new, grad = np.full(4, 3.0), np.full(4, 2.0)
        running.update_average(old, new, None, 1)
        np.testing.assert_array_equal(old, 2.0)
        optim.update(*optim.backend.sgd_updates([(old, grad, np.zeros(4), 0.0)], 0.5, 0.9, 1.0)[0], 0.5, 0.9, 1.0)
        np.testing.assert_array_equal(old, 1.0)
