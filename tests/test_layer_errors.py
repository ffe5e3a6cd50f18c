"""Layers refuse what does not fit, in words."""

import re

import numpy as np
import pytest

import kalnorm_ref as kr
from kalnorm_ref import transport
from kalnorm_ref.layers import Estimate

X = np.random.default_rng(0).normal(2, 3, (4, 4, 4, 3))


def exactly(message):
    return rf"^{re.escape(message)}$"


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (kr.ReLU(), (4, 4, 4, 3)),
        (kr.Conv2d(3, 5, 3), (4, 2, 2, 5)),
        (kr.MaxPool2d(2), (4, 2, 2, 3)),
        (kr.AvgPool2d(2), (4, 2, 2, 3)),
        (kr.GlobalAvgPool2d(), (4, 3)),
        (kr.Flatten(), (4, 48)),
        (kr.PadChannels(1, 1), (4, 4, 4, 5)),
        (kr.Identity(), (4, 4, 4, 3)),
        (kr.Dropout(0.5, 0), (4, 4, 4, 3)),
        (kr.BatchNorm(3), (4, 4, 4, 3)),
        (kr.BatchRenorm(3), (4, 4, 4, 3)),
        (kr.KalmanNorm(3), (4, 4, 4, 3)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_dy_that_would_broadcast_is_refused_and_the_cache_stays(layer, shape):
    y = layer.forward(X, training=True)
    wrong = (1, *shape[1:])
    message = f"dy has shape {wrong}; expected {shape}, the shape of y"
    with pytest.raises(ValueError, match=exactly(message)):
        layer.backward(np.ones(wrong))
    assert layer.backward(np.ones_like(y)).shape == X.shape


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: kr.Conv2d(3, 4, 0), ValueError, "kernel is 0; expected at least 1"),
        (lambda: kr.Conv2d(3, 4, (3, 0)), ValueError, "kernel is 0; expected at least 1"),
        (
            lambda: kr.Conv2d(3, 4, 3).forward(X[..., :2]),
            ValueError,
            "x has shape (4, 4, 4, 2); expected (N, H, W, 3), the C_in of weight (3, 3, 3, 4)",
        ),
        (
            lambda: kr.BatchRenorm(3, unbiased_running_var=True),
            ValueError,
            "unbiased_running_var is True; expected False, since BRN averages standard deviations",
        ),
        (lambda: kr.models.cnn5(classes=0), ValueError, "classes is 0; expected at least 1"),
        (lambda: kr.models.cnn5(in_channels=0), ValueError, "in_channels is 0; expected at least 1"),
        (lambda: kr.models.resnet(8, seed=-1), ValueError, "seed is -1; expected at least 0"),
        (
            lambda: kr.models.cnn5(dtype=np.float16),
            TypeError,
            "dtype is float16; expected float32, float64, or complex128 with the NumPy backend",
        ),
        (lambda: kr.models.mlp(64), ValueError, "hidden is 64; expected a sequence of widths, such as (64, 64)"),
        (lambda: kr.models.mlp((0,)), ValueError, "hidden is 0; expected at least 1"),
        (lambda: kr.Conv2d(3, 4, 3, stride=0), ValueError, "stride is 0; expected at least 1"),
        (lambda: kr.Conv2d(3, 4, 3, padding=-1), ValueError, "padding is -1; expected at least 0"),
        (lambda: kr.Linear(0, 3), ValueError, "c_in is 0; expected at least 1"),
        (lambda: kr.AvgPool2d(2, correlation=7), ValueError, "correlation is 7; expected a value in [-0.333, 1]"),
        (lambda: kr.Dropout(0.5, -1), ValueError, "seed is -1; expected at least 0"),
        (lambda: kr.BatchNorm(3, channel_axis=None), TypeError, "channel_axis is None; expected an integer"),
        (
            lambda: kr.BatchNorm(3, channel_axis=9).forward(X),
            ValueError,
            "x has shape (4, 4, 4, 3); expected 3 channels on axis 9",
        ),
        (
            lambda: kr.KalmanNorm(4, 3, "analytic", noise=0.5),
            ValueError,
            "noise is 0.5; expected none, since the variant 'analytic' has no noise",
        ),
        (
            lambda: kr.KalmanNorm(4, 3, push="belief"),
            ValueError,
            "push is 'belief'; expected none, since the variant 'learned' has no push",
        ),
        (lambda: kr.ReLU().forward(np.ones((2, 3), int)), TypeError, None),
        (lambda: kr.AvgPool2d(2).forward(np.ones((2, 4, 4, 3), int)), TypeError, None),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(
        error, match="^x has type int64; expected float32, .*$" if message is None else exactly(message)
    ):
        make()


def test_the_first_batch_decides_on_the_features_of_an_mlp():
    x = X.astype(np.float32)
    net, again = (kr.models.mlp((5, 4), in_channels=3, seed=2) for _ in range(2))
    logits = net.forward(x, training=True)
    assert net.params["1.weight"].shape == (48, 5) and logits.shape == (4, 10)
    np.testing.assert_array_equal(logits, again.forward(x, training=True))
    optimizer = kr.SGD(kr.models.mlp((5, 4), in_channels=3, seed=2), lr=0.5, momentum=0.5, weight_decay=0)
    optimizer.net.backward(optimizer.net.forward(x, training=True))
    optimizer.step()
    moved = net.params["1.weight"] - 0.5 * optimizer.net.grads["1.weight"]
    np.testing.assert_array_equal(optimizer.net.params["1.weight"], moved)
    with pytest.raises(ValueError, match=exactly("x has shape (4, 12); expected (N, 48), examples then features")):
        net.forward(x[:, :2, :2])
    sized = kr.models.mlp((5,), in_channels=3, image_size=(8, 8))
    with pytest.raises(ValueError, match=exactly("x has shape (4, 48); expected (N, 192), examples then features")):
        sized.forward(x)


def test_results_of_transport_are_never_the_arguments():
    moments = kr.Moments(np.zeros(3), np.ones(3))
    for result in (
        transport.avg_pool(moments, 1),
        transport.dropout(moments, 1.0),
        transport.max_pool(moments, 1),
        transport.push("released", moments, None, None, None),
        transport.pad_channels_backward(moments, moments, 0, 0),
    ):
        assert not any(np.shares_memory(part, given) for part in result for given in moments)


def test_a_cross_entropy_of_inf_is_silent():
    loss, _ = kr.cross_entropy(np.array([[np.inf, 0.0]]), np.array([0]))
    assert np.isnan(loss)


def test_a_belief_does_not_depend_on_the_mean():
    moments = transport.push("belief", kr.Moments(np.array([np.nan]), np.array([1.0])), None, np.ones(1), np.ones(1))
    np.testing.assert_array_equal(moments.mean, [1.0])


def test_a_state_of_another_type_is_refused():
    layer = kr.BatchNorm(3)
    message = "the state's gamma has type <U1; expected float64"
    with pytest.raises(ValueError, match=exactly(message)):
        layer.load_state_dict({**layer.state_dict(), "gamma": np.array(["a", "b", "c"])})


def test_a_head_without_a_prior_leaves_its_posterior_to_the_shortcut():
    branch = kr.Sequential(kr.KalmanNorm(3, variant="analytic", shortcut="prior"), kr.ReLU())
    _, estimate = kr.Residual(branch).carry(X, None, training=True)
    posterior = kr.observe(X.reshape(1, -1, 3))
    rectified = transport.relu(kr.Moments(np.zeros((1, 3)), posterior.var / (posterior.var + 1e-5)))
    np.testing.assert_allclose(estimate.moments.mean, posterior.mean + rectified.mean, rtol=1e-12)
    assert isinstance(estimate, Estimate) and estimate.travel == "closed"


def test_an_extreme_logit_is_a_gain_of_0_or_1_without_a_warning():
    layer = kr.KalmanNorm(3, 2)
    for logit, gain in ((-200, 0), (200, 1)):
        layer.params["gain_logit"][...] = logit
        assert layer.gain() == pytest.approx(gain, abs=1e-80)


def test_the_optimizer_refuses_a_velocity_that_it_does_not_know():
    optimizer = kr.SGD(kr.Sequential(kr.Linear(2, 2)))
    message = "the optimizer's state has a velocity for 1.weight, which the network does not have"
    with pytest.raises(ValueError, match=exactly(message)):
        optimizer.load_state_dict({**optimizer.state_dict(), "1.weight": np.zeros((2, 2))})
