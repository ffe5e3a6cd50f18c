"""Holds the gains to what they promise of the batch size, and a noise that layers share to one gradient."""

import copy

import numpy as np
import pytest
import tolerances
from test_layers import images, scattered

import kalnorm_ref as kr
from kalnorm_ref import gradcheck, inference
from kalnorm_ref.layers import Estimate

rng = np.random.default_rng(79)
pytestmark = pytest.mark.usefixtures("reseeded")
C, PREVIOUS = 3, 2
F64 = {"dtype": np.float64}
X, LABELS = np.random.default_rng(5).normal(3.0, 2.0, (6, 6, 6, 2)), np.array([0, 1, 2, 2, 1, 0])


def arrives(groups=1, previous=PREVIOUS):
    return Estimate(kr.Moments(rng.normal(3, 2, (groups, previous)), rng.uniform(2, 9, (groups, previous))))


def counting(size, **options):
    return kr.KalmanNorm(C, PREVIOUS, gain_kind="pseudo_count", statistics_batch_size=size, **options, **F64)


@pytest.mark.parametrize(("size", "initial"), [(2, 0.1), (8, 0.1), (12, 0.95), (None, 0.95)])
def test_a_pseudo_count_starts_at_the_usual_initial_gain(size, initial):
    """Its first training batch has the gain of A5; from then on q = m / (m + n0) with that n0."""
    layer, n = counting(size), size or 12
    assert layer.params["log_pseudo_count"].shape == () and layer.counters["pseudo_count_start"] == 0
    for m in (1, 7, 1000):
        assert layer.gain(m) == pytest.approx(initial, rel=1e-14)  # not yet tied to a batch size
    layer.carry(images(n, 3, 5), arrives(), training=True)
    m = n * 15
    n0 = m * (1 - initial) / initial
    assert layer.counters["pseudo_count_start"] == pytest.approx(n0, rel=1e-14)
    for other in (1, 6, m, 10 * m):
        assert layer.gain(other) == pytest.approx(other / (other + n0), rel=1e-14)
    layer.carry(images(n, 2, 2), arrives(), training=True)  # another size: the first one stays
    assert layer.counters["pseudo_count_start"] == pytest.approx(n0, rel=1e-14)


@pytest.mark.parametrize("options", [{"gain": 0.4}, {"gain": 0.4, "covariance": "full"}])
def test_a_pseudo_count_is_the_pool_of_real_and_virtual_samples(options, backend):
    """What it normalizes with has the moments of the m samples and n0 virtual ones of the prior, at any m."""
    layer = counting(3, **options)
    full = "covariance" in options
    pair = kr.Moments(np.zeros((1, PREVIOUS)), np.stack([np.eye(PREVIOUS)] if full else [np.ones(PREVIOUS)]))
    layer.carry(images(3, 2, 2), Estimate(pair), training=True)
    layer.params["log_pseudo_count"][...] = 0.7
    n0 = 12 * 0.6 / 0.4 * np.exp(0.7)
    seen = []
    with inference.watch(layer, lambda path, one: seen.append(one)):
        for size in ((1, 1), (2, 3), (9, 9)):
            layer.carry(images(3, *size), Estimate(pair), training=True)
    for one, m in zip(seen, (3, 18, 243), strict=True):
        assert one.m == m and one.gain == pytest.approx(m / (m + n0), rel=1e-14)
        for c in range(C):
            a, b, xbar, s = (float(pair_[0, c]) for pair_ in (*one.prior, *one.observed))
            mean = (n0 * a + m * xbar) / (n0 + m)
            var = (n0 * (b + (a - mean) ** 2) + m * (s + (xbar - mean) ** 2)) / (n0 + m)
            assert one.used.mean[0, c] == pytest.approx(mean, rel=1e-12)
            assert one.used.var[0, c] == pytest.approx(var, rel=1e-12)


def test_gradient_of_a_pseudo_count(backend):
    """dw = -q (1 - q) dq: the gradient of a logit of the same q with the other sign, and a difference of the loss."""
    layer, x, prior, dy = counting(2, gain=0.3), images(4), arrives(2), rng.standard_normal((4, 2, 2, C))
    layer.params["log_pseudo_count"][...] = -0.4
    twin = kr.KalmanNorm(C, PREVIOUS, gain=0.5, statistics_batch_size=2, **F64)
    layer.carry(x, prior, training=True)
    q = layer.gain(8)
    assert q == pytest.approx(1 / (1 + 7 / 3 * np.exp(-0.4)), rel=1e-14)
    twin.params["gain_logit"][...] = np.log(q / (1 - q))
    twin.carry(x, prior, training=True)
    layer.carry_backward(dy, None)
    twin.carry_backward(dy, None)
    error = gradcheck.max_error(-layer.grads["log_pseudo_count"], twin.grads["gain_logit"])
    assert error <= tolerances.IDENTITY and layer.grads["log_pseudo_count"] != 0

    def loss(w):
        layer.params["log_pseudo_count"][...] = w
        return np.sum(dy * layer.carry(x, prior, training=True)[0])

    difference = (loss(-0.4 + 1e-5) - loss(-0.4 - 1e-5)) / 2e-5
    assert gradcheck.max_error(layer.grads["log_pseudo_count"], difference) <= tolerances.CENTRAL_DIFFERENCE


def test_a_pseudo_count_resumes_from_its_state(backend):
    layer, x, prior = counting(2), images(4), arrives(2)
    layer.carry(images(2, 5, 5), arrives(1), training=True)  # m = 50, which the resumed layer must not start from
    layer.params["log_pseudo_count"] += 0.3
    other = counting(2)
    other.load_state_dict(layer.state_dict())
    for _ in range(2):
        np.testing.assert_array_equal(layer.carry(x, prior, True)[0], other.carry(x, prior, True)[0])
        np.testing.assert_array_equal(layer.gain(8), other.gain(8))
    fresh = counting(2)
    fresh.carry(x, prior, training=True)
    assert fresh.gain(8) != pytest.approx(other.gain(8), rel=1e-3)


def test_watching_does_not_start_a_pseudo_count():
    layer = counting(2)
    with inference.watch(layer, lambda path, seen: None):
        layer.carry(images(4), arrives(2), training=True)
        assert layer.counters["pseudo_count_start"] > 0
    assert layer.counters["pseudo_count_start"] == 0


def test_there_is_no_gain_where_none_is_in_use():
    assert kr.KalmanNorm(C).gain() is None and kr.KalmanNorm(C, PREVIOUS, "filter").gain() is None
    np.testing.assert_allclose(kr.KalmanNorm(C, C, gain_kind="learned_per_channel").gain(), [0.95] * C)


# ---- one noise for the network -----------------------------------------------------------------------------------

SHARED = {
    "kn-learned": {"gain": 0.4},
    "kn-learned, covariance": {"covariance": "full", "gain": 0.4},
    "kn-shrink": {"gain": 0.4},
    "kn-filter": {},
}


def shared(name):
    """A network with one noise, and the same with a noise of its own in each layer; equal values."""
    nets = []
    for noise in ({"noise": "shared"}, {}):
        made = {"in_channels": 2, "classes": 3, "statistics_batch_size": 2, **F64, **SHARED[name], **noise}
        nets.append(kr.models.cnn5(name.split(",")[0], **made))
    one, each = nets
    scattered(one)
    for path, p in each.params.items():
        p[...] = one.params["4.log_noise" if path.endswith("log_noise") else path]
    return one, each


@pytest.mark.parametrize("name", SHARED)
def test_gradient_of_a_shared_noise(name, backend):
    """The sum of what the layers would have had on their own; and the complex step through all of them."""
    one, each = shared(name)
    losses = []
    for net in (one, each, one):
        loss, dlogits = kr.cross_entropy(net.forward(X, training=True), LABELS)
        net.backward(dlogits)
        losses.append(loss)
    parts = [g for path, g in each.grads.items() if path.endswith("log_noise")]
    assert len(parts) == 4 and all(parts) and losses[0] == losses[1] == losses[2]
    # the third backward is the second of this network: nothing is left over from the first
    assert gradcheck.max_error(one.grads["4.log_noise"], sum(parts)) <= tolerances.LOOPS
    shifted = copy.deepcopy(one).astype(np.complex128)
    shifted.params["4.log_noise"][...] += 1e-30j
    with kr.use_backend("numpy"):
        loss, _ = kr.cross_entropy(shifted.forward(X, training=True), LABELS)
    assert gradcheck.max_error(one.grads["4.log_noise"], loss.imag / 1e-30) <= tolerances.NETWORK


def test_a_shared_noise_after_an_interrupted_backward(backend):
    """What the later layers have sent when a backward stops half way does not count in the next one."""
    one, _ = shared("kn-learned")
    dlogits = kr.cross_entropy(one.forward(X, training=True), LABELS)[1]
    one.backward(dlogits)
    expected = one.grads["4.log_noise"].copy()
    dy, dmoments = dlogits, None
    one.forward(X, training=True)
    for layer in reversed(one.order[7:]):
        dy, dmoments = layer.carry_backward(dy, dmoments)
    one.forward(X, training=True)
    one.backward(dlogits)
    np.testing.assert_array_equal(one.grads["4.log_noise"], expected)


def test_a_shared_noise_follows_copies_and_types():
    one, _ = shared("kn-learned")
    twin = copy.deepcopy(one).astype(np.float32)
    layers = [layer for layer in twin.layers if isinstance(layer, kr.KalmanNorm)]
    assert all(layer.transition.lender is layers[1] for layer in layers[2:])
    twin.params["4.log_noise"][...] = 3.0
    noises = {float(layer.transition.log_noise(layer.params)) for layer in layers[1:]}
    assert noises == {3.0} and one.params["4.log_noise"] != 3.0
    dlogits = kr.cross_entropy(twin.forward(X.astype(np.float32), training=True), LABELS)[1]
    twin.backward(dlogits)
    assert twin.grads["4.log_noise"].dtype == np.float32 and twin.grads["4.log_noise"] != 0
    inference.set_inference(twin, "running")
    twin.forward(X.astype(np.float32))
    twin.backward(dlogits)
    assert twin.grads["4.log_noise"] == 0  # running averages are constants


def test_the_name_of_a_kind_serves_as_gain():
    named, plain = kr.KalmanNorm(C, 2, gain="pseudo_count"), kr.KalmanNorm(C, 2, gain_kind="pseudo_count")
    assert named.params.keys() == plain.params.keys() and named.gain(9) == plain.gain(9)
    with pytest.raises(ValueError, match=r"^gain_kind is 'often'; expected one of 'constant', "):
        kr.KalmanNorm(C, 2, gain="often")
