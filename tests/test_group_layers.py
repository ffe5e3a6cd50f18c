"""The stateful group forms: gradients, the estimate that travels, training and inference as one computation, initial
values, types, state and what is refused."""

import copy
import re

import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import gradcheck
from kalnorm_ref.layers import Estimate

N, C, G, EPS = 3, 6, 3, 1e-3
rng = np.random.default_rng(71)

MAKERS = {
    "GroupNorm": lambda **dtype: kr.GroupNorm(C, G, EPS, **dtype),
    "LayerNorm": lambda **dtype: kr.LayerNorm(C, EPS, **dtype),
    "InstanceNorm": lambda **dtype: kr.InstanceNorm(C, EPS, **dtype),
    "GKN, first": lambda **dtype: kr.GroupKalmanNorm(C, G, eps=EPS, **dtype),
    "GKN, full": lambda **dtype: kr.GroupKalmanNorm(C, G, 2, 0.6, EPS, **dtype),
    "GKN, square": lambda **dtype: kr.GroupKalmanNorm(C, G, G, 0.6, EPS, gain_kind="learned_per_group", **dtype),
    "GKN, diagonal": lambda **dtype: kr.GroupKalmanNorm(C, G, G, 0.3, EPS, transition="diagonal", **dtype),
    "GKN, constant": lambda **dtype: kr.GroupKalmanNorm(C, G, 1, 0.8, EPS, gain_kind="constant", **dtype),
    "GKN, zero": lambda **dtype: kr.GroupKalmanNorm(C, G, 2, 0.5, EPS, transition="zero", noise=2.0, **dtype),
}
KALMAN = [name for name in MAKERS if name.startswith("GKN")]
WITH_PRIOR = [name for name in KALMAN if name != "GKN, first"]
PREVIOUS = {"GKN, full": 2, "GKN, zero": 2, "GKN, constant": 1}  # else G
each_layer = pytest.mark.parametrize("name", MAKERS)
both_modes = pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])


def images(n=N, *size):
    return rng.normal(7.0, 3.0, (n, *(size or (2, 2)), C))


def estimate(name, n=N):
    shape = n, PREVIOUS.get(name, G)
    return kr.Moments(rng.normal(5.0, 2.0, shape), rng.uniform(2.0, 20.0, shape))


def scattered(layer):
    """The layer with random parameters, so that nothing is 0 or 1 by accident."""
    draw = np.random.default_rng(0)
    for p in layer.params.values():
        p += draw.normal(0.3, 0.4, p.shape)
    return layer


def gradients_of(layer):
    return tuple(layer.grads[key].copy() for key in layer.params)


@each_layer
@both_modes
@pytest.mark.parametrize("shape", [(), (1, 1)], ids=["maps", "one position"])
def test_gradient(name, training, shape, backend):
    layer, x = scattered(MAKERS[name]()), images(N, *shape)
    dy = rng.standard_normal(x.shape)

    def function(x, *params):
        fresh = copy.deepcopy(layer).astype(np.complex128)
        for key, value in zip(layer.params, params, strict=True):
            fresh.params[key][...] = value
        return fresh.forward(x, training)

    y = layer.forward(x, training)
    gradients = (layer.backward(dy), *gradients_of(layer))
    if name == "InstanceNorm" and shape:  # a value by itself: y is beta, and only beta learns
        np.testing.assert_array_equal(y, np.broadcast_to(layer.params["beta"], y.shape))
        gradients = (np.zeros_like(x), *gradients[1:])
    gradcheck.check(function, (x, *layer.params.values()), dy, gradients, tolerances.COMPLEX_STEP)


@pytest.mark.parametrize("name", KALMAN)
@both_modes
def test_gradient_with_an_estimate_on_its_way(name, training, backend):
    """Through x, the moments that arrive, every parameter and the moments that leave."""
    layer, x, arrived = scattered(MAKERS[name]()), images(), estimate(name)
    up = rng.standard_normal(x.shape), kr.Moments(*rng.standard_normal((2, N, G)))

    def function(x, arrived, *params):
        fresh = copy.deepcopy(layer).astype(np.complex128)
        for key, value in zip(layer.params, params, strict=True):
            fresh.params[key][...] = value
        y, left = fresh.carry(x, Estimate(arrived), training)
        return y, left.moments

    layer.carry(x, Estimate(arrived), training)
    dx, darrived = layer.carry_backward(*up)
    gradients = dx, darrived, *gradients_of(layer)
    if name in ("GKN, first", "GKN, zero"):  # knows no other layer
        assert darrived is None
        gradients = dx, kr.Moments(*np.zeros((2, *arrived.mean.shape))), *gradients[2:]
    gradcheck.check(function, (x, arrived, *layer.params.values()), up, gradients, tolerances.COMPLEX_STEP)
    if name in WITH_PRIOR:
        assert all(np.abs(gradient).max() > 1e-6 for gradient in gradients_of(layer))
        layer.grads["log_noise"] += 0.01 * np.abs(layer.grads["log_noise"])  # a mistake is seen
        with pytest.raises(AssertionError, match=r"gradient of argument \d is off by .*; tolerance .*$"):
            gradients = dx, gradients[1], *gradients_of(layer)
            gradcheck.check(function, (x, arrived, *layer.params.values()), up, gradients, tolerances.COMPLEX_STEP)


@pytest.mark.parametrize("name", ["GKN, full", "GKN, square", "GKN, diagonal", "GKN, constant"])
def test_is_group_kalman_norm_of_the_predicted_prior(name, backend):
    layer, x, arrived = scattered(MAKERS[name]()), images(), estimate(name)
    transition, rho = layer.params["transition"], np.exp(layer.params["log_noise"])
    logit = layer.params.get("gain_logit")
    gain = 0.8 if logit is None else 1 / (1 + np.exp(-logit))
    prior = kr.predict(arrived, transition, rho)
    gamma, beta = layer.params["gamma"], layer.params["beta"]
    expected = kr.group_kalman_norm_forward(x.reshape(N, 4, C), gamma, beta, prior, gain, G, EPS)
    y, left = layer.carry(x, Estimate(arrived))
    assert gradcheck.max_error((y.reshape(N, 4, C), left.moments), expected[:2]) <= tolerances.IDENTITY
    assert left.travel == "held"


@each_layer
def test_training_and_inference_are_one_computation_on_each_sample(name, backend):
    layer, x, arrived = scattered(MAKERS[name]()), images(), estimate(name)
    before = layer.state_dict()
    y, left = layer.carry(x, Estimate(arrived), training=True)
    np.testing.assert_array_equal(layer.carry(x, Estimate(arrived), training=False)[0], y)
    for n in range(N):
        alone = Estimate(kr.Moments(*(s[n : n + 1] for s in arrived)))
        y_n, left_n = layer.carry(x[n : n + 1], alone)
        pair = (y_n, *left_n.moments), (y[n : n + 1], *(s[n : n + 1] for s in left.moments))
        assert gradcheck.max_error(*pair) <= tolerances.IDENTITY
    assert not layer.running and not layer.counters
    assert all(np.array_equal(value, before[key]) for key, value in layer.state_dict().items())


def test_gain_1_is_group_norm_and_the_first_of_a_chain_has_no_prior(backend):
    x, arrived = images(), estimate("GKN, square")
    expected = kr.GroupNorm(C, G, EPS).forward(x)
    for layer in (kr.GroupKalmanNorm(C, G, G, 1.0, EPS, gain_kind="constant"), kr.GroupKalmanNorm(C, G, eps=EPS)):
        y, left = layer.carry(x, Estimate(arrived))
        pooled = kr.collapse(kr.observe(x.reshape(N, 4, C)), G)
        assert gradcheck.max_error((y, left.moments), (expected, pooled)) <= tolerances.IDENTITY
    assert set(kr.GroupKalmanNorm(C, G).params) == {"gamma", "beta"}


def test_a_layer_with_a_prior_but_no_estimate_is_group_norm_with_zero_gradients(backend):
    layer, x, dy = kr.GroupKalmanNorm(C, G, G, eps=EPS), images(), rng.standard_normal((N, 2, 2, C))
    for gradient in layer.grads.values():
        gradient[...] = 9.0
    plain = kr.GroupNorm(C, G, EPS)
    results = (layer.forward(x), layer.backward(dy)), (plain.forward(x), plain.backward(dy))
    assert gradcheck.max_error(*results) <= tolerances.IDENTITY
    assert not any(layer.grads[key].any() for key in ("transition", "log_noise", "gain_logit"))


@pytest.mark.parametrize(
    ("previous", "options", "transition", "noise"),
    [
        (3, {}, np.eye(3), 0.1),
        (2, {}, np.full((3, 2), 0.5), 0.5),
        (1, {}, np.ones((3, 1)), 0.1),
        (3, {"transition": "diagonal"}, np.ones(3), 0.1),
        (2, {"transition": "zero"}, None, 1.0),
        (3, {"noise": 0.7}, np.eye(3), 0.7),
    ],
)
def test_initial_values(previous, options, transition, noise):
    layer = kr.GroupKalmanNorm(C, G, previous, **options)
    np.testing.assert_allclose(np.exp(layer.params["log_noise"]), noise, rtol=1e-14)
    np.testing.assert_allclose(layer.gain(), 0.95, rtol=1e-14)
    assert ("transition" in layer.params) == (transition is not None)
    if transition is not None:
        np.testing.assert_array_equal(layer.params["transition"], transition)
    per_group = kr.GroupKalmanNorm(C, G, previous, 0.2, gain_kind="learned_per_group")
    np.testing.assert_allclose(per_group.gain(), np.full(G, 0.2), rtol=1e-14)
    assert "gain_logit" not in kr.GroupKalmanNorm(C, G, previous, gain_kind="constant").params


@each_layer
def test_channel_axis(name, backend):
    last, first = scattered(MAKERS[name]()), scattered(MAKERS[name]())
    first.channel_axis = 1
    x, dy, arrived = images(), rng.standard_normal((N, 2, 2, C)), Estimate(estimate(name))
    move = lambda a: np.moveaxis(a, -1, 1)  # noqa: E731
    y, _ = last.carry(x, arrived)
    np.testing.assert_array_equal(first.carry(move(x).copy(), arrived)[0], move(y))
    np.testing.assert_array_equal(first.carry_backward(move(dy), None)[0], move(last.carry_backward(dy, None)[0]))
    assert all(np.array_equal(first.grads[key], last.grads[key]) for key in last.grads)
    with pytest.raises(ValueError, match=r"^x has shape \(3, 2, 2, 6\); expected 6 channels on axis 1$"):
        first.forward(x)


@each_layer
@pytest.mark.parametrize(
    ("of_x", "of_layer"), [(np.float32, np.float32), (np.float64, np.float32), (np.float32, float)]
)
def test_results_have_the_type_of_x_and_gradients_that_of_their_parameters(name, of_x, of_layer, backend):
    layer, x = MAKERS[name](dtype=of_layer), images().astype(of_x)
    live, arrived = dict(layer.grads), kr.Moments(*(s.astype(of_x) for s in estimate(name)))
    y, left = layer.carry(x, Estimate(arrived), training=True)
    dx, darrived = layer.carry_backward(rng.standard_normal(x.shape).astype(of_x), None)
    assert y.dtype == dx.dtype == of_x and all(s.dtype == of_x for s in left.moments)
    assert darrived is None or name not in WITH_PRIOR or all(np.isfinite(s).all() for s in darrived)
    for key, gradient in live.items():
        assert layer.grads[key] is gradient and gradient.dtype == of_layer and gradient.shape == layer.params[key].shape


@each_layer
def test_state_resumes_to_the_same_bits_and_each_forward_serves_one_backward(name):
    layer, x, arrived = scattered(MAKERS[name]()), images(), Estimate(estimate(name))
    resumed = MAKERS[name]()
    resumed.load_state_dict(layer.state_dict())
    results = []
    for one in (layer, resumed):
        y, _ = one.carry(x, arrived, training=True)
        results.append((y, one.carry_backward(y, None)[0], *gradients_of(one)))
        with pytest.raises(
            RuntimeError, match=r"backward needs a forward before it; each forward serves one backward$"
        ):
            one.backward(y)
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: kr.GroupNorm(6, 4), ValueError, "groups is 4; expected a divisor of the number of channels, 6"),
        (lambda: kr.GroupNorm(6, 0), ValueError, "groups is 0; expected at least 1"),
        (lambda: kr.GroupNorm(0, 1), ValueError, "channels is 0; expected at least 1"),
        (lambda: kr.LayerNorm(6, eps=-1), ValueError, "eps is -1; expected at least 0"),
        (lambda: kr.InstanceNorm(6, channel_axis=1.0), TypeError, "channel_axis is 1.0; expected an integer"),
        (lambda: kr.GroupKalmanNorm(6, 4), ValueError, "groups is 4; expected a divisor of the number of channels, 6"),
        (lambda: kr.GroupKalmanNorm(6, 3, 0), ValueError, "previous_groups is 0; expected at least 1"),
        (lambda: kr.GroupKalmanNorm(6, 3, 3, 1.5), ValueError, "gain is 1.5; expected a value in [0, 1]"),
        (
            lambda: kr.GroupKalmanNorm(6, 3, 3, 1.0),
            ValueError,
            "gain is 1; expected a value strictly between 0 and 1 to be trained",
        ),
        (
            lambda: kr.GroupKalmanNorm(6, 3, 2, transition="diagonal"),
            ValueError,
            "transition is 'diagonal', from 2 to 3 groups; expected equal numbers",
        ),
        (lambda: kr.GroupKalmanNorm(6, 3, 3, noise=0.0), ValueError, None),
        (lambda: kr.GroupNorm(6, 3).forward(images()[..., :5]), ValueError, None),
        (lambda: kr.GroupNorm(6, 3).forward(np.ones((2, 6), int)), TypeError, None),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(
        error, match=r"expected (at least|6 channels|float32)" if message is None else f"^{re.escape(message)}$"
    ):
        make()


@pytest.mark.parametrize("name", ["gain_kind", "transition"])
def test_an_unknown_choice_lists_what_exists(name):
    with pytest.raises(ValueError, match=rf"^{name} is 'per_pixel'; expected one of '.*'$"):
        kr.GroupKalmanNorm(6, 3, 3, **{name: "per_pixel"})


def test_a_chain_in_a_network(backend):
    """Two residual blocks and a pool between them: the estimate passes everything unchanged and comes back."""
    draw, x, labels = np.random.default_rng(2), images(4, 4, 4), np.array([0, 2, 1, 1])

    def block():
        main = kr.Sequential(kr.GroupKalmanNorm(C, G, G, 0.7), kr.ReLU(), kr.Conv2d(C, C, 1, rng=draw))
        return kr.Residual(main)

    layers = kr.GroupKalmanNorm(C, G), block(), kr.AvgPool2d(2), block(), kr.GlobalAvgPool2d(), kr.Linear(C, 3)
    net = kr.Sequential(*layers)
    errors = gradcheck.check_network(net, x, labels)
    assert max(errors.values()) <= tolerances.NETWORK
    alone, y = net.forward(x[:2]), net.forward(x, training=True)
    np.testing.assert_allclose(alone, y[:2], rtol=tolerances.IDENTITY)
    net.backward(rng.standard_normal(y.shape))
    assert all(gradient.any() for gradient in net.grads.values())
