"""Holds the stateful layers to their pure functions and promises: gradients, one cache, running averages, statistics
batches, state that resumes to the same bits."""

import copy
import re

import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import gradcheck, inference
from kalnorm_ref.gradproof.loops import normalizers as derivations

rng = np.random.default_rng(57)
pytestmark = pytest.mark.usefixtures("reseeded")
C, EPS = 3, 1e-3
F64 = {"dtype": np.float64}


def images(n=6, *size):
    return rng.normal(7.0, 3.0, (n, *(size or (2, 2)), C))


def scattered(layer, seed=0):
    """The layer with random parameters (weights are already), so that nothing is 0 or 1 by accident."""
    draw = np.random.default_rng(seed)
    for path, p in layer.params.items():
        p += 0 if path.endswith("weight") else draw.normal(0.3, 0.4, p.shape)
    return layer


MAKERS = {
    "Linear": lambda **dtype: kr.Linear(C, 4, **dtype),
    "Linear without bias": lambda **dtype: kr.Linear(C, 4, bias=False, **dtype),
    "Conv2d": lambda **dtype: kr.Conv2d(C, 2, 2, bias=True, **dtype),
    "ReLU": lambda **dtype: kr.ReLU(),
    "Dropout": lambda **dtype: kr.Dropout(0.6, 3),
    "BatchNorm": lambda **dtype: kr.BatchNorm(C, EPS, statistics_batch_size=3, **dtype),
    "BatchRenorm": lambda **dtype: kr.BatchRenorm(C, EPS, statistics_batch_size=2, r_max=1.2, d_max=6.9, **dtype),
    "KalmanNorm, first": lambda **dtype: kr.KalmanNorm(C, eps=EPS, **dtype),
    "KalmanNorm, shrink": lambda **dtype: kr.KalmanNorm(
        C, 2, transition="zero", statistics_batch_size=2, eps=EPS, **dtype
    ),
    "KalmanNorm, shrink, full covariance": lambda **dtype: kr.KalmanNorm(
        *(C, 2, "learned", 0.4, "full", EPS), transition="zero", noise_form="cholesky", **dtype
    ),
    "KalmanNorm, shrink, pseudo-count": lambda **dtype: kr.KalmanNorm(
        *(C, 2, "learned", 0.4, "diagonal", EPS), transition="zero", gain_kind="pseudo_count", **dtype
    ),
    "KalmanNorm, no prior arrives": lambda **dtype: kr.KalmanNorm(C, 2, eps=EPS, **dtype),
    "KalmanNorm, analytic": lambda **dtype: kr.KalmanNorm(C, C, "analytic", eps=EPS, **dtype),
    "KalmanNorm, released": lambda **dtype: kr.KalmanNorm(
        C, C, "released", eps=EPS, preset="as_released", statistics_batch_size=3, **dtype
    ),
    "KalmanNorm, filter": lambda **dtype: kr.KalmanNorm(C, 2, "filter", eps=EPS, **dtype),
    "GroupNorm": lambda **dtype: kr.GroupNorm(C, 1, EPS, **dtype),
    "LayerNorm": lambda **dtype: kr.LayerNorm(C, EPS, **dtype),
    "InstanceNorm": lambda **dtype: kr.InstanceNorm(C, EPS, **dtype),
    "GroupKalmanNorm, no prior arrives": lambda **dtype: kr.GroupKalmanNorm(C, 1, 2, eps=EPS, **dtype),
    "GroupKalmanNorm, shrink": lambda **dtype: kr.GroupKalmanNorm(C, 3, 2, transition="zero", eps=EPS, **dtype),
    "MaxPool2d": lambda **dtype: kr.MaxPool2d(2),
    "AvgPool2d": lambda **dtype: kr.AvgPool2d(2),
    "GlobalAvgPool2d": lambda **dtype: kr.GlobalAvgPool2d(),
    "PadChannels": lambda **dtype: kr.PadChannels(1, 1),
    "Flatten": lambda **dtype: kr.Flatten(),
    "Identity": lambda **dtype: kr.Identity(),
}
NORMALIZERS = [name for name in MAKERS if name.startswith(("Batch", "Kalman"))]
each_layer = pytest.mark.parametrize("name", MAKERS)
each_normalizer = pytest.mark.parametrize("name", NORMALIZERS)


def input_of(name):
    return images()[:, 0, 0] if "Linear" in name else images()


def as_function(layer, training=True, run=None, dtype=np.complex128):
    """The layer's forward as a pure function of x (and of what else `run` takes), then its parameters."""
    run = run or (lambda layer, x: layer.forward(x, training))
    count = run.__code__.co_argcount - 1

    def function(*arguments):
        fresh = copy.deepcopy(layer).astype(dtype)
        for name, value in zip(layer.params, arguments[count:], strict=True):
            fresh.params[name][...] = value
        return run(fresh, *arguments[:count])

    return function


@each_layer
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_gradient(name, training, backend):
    layer, x = scattered(MAKERS[name](**F64)), input_of(name)
    layer.running = {key: np.abs(rng.normal(4.0, 1.0, value.shape)) for key, value in layer.running.items()}
    function = as_function(copy.deepcopy(layer), training)
    dy = rng.standard_normal(layer.forward(x, training).shape)
    gradients = (layer.backward(dy), *(layer.grads[key] for key in layer.params))
    gradcheck.check(function, (x, *layer.params.values()), dy, gradients, tolerances.COMPLEX_STEP)


@each_layer
def test_one_backward_for_each_forward(name):
    layer, x = MAKERS[name](), input_of(name).astype(np.float32)
    kind = type(layer).__name__
    message = rf"^{kind}\.backward needs a forward before it; each forward serves one backward$"
    with pytest.raises(RuntimeError, match=message):
        layer.backward(x)
    dy = np.ones_like(layer.forward(x, training=True))
    layer.backward(dy)
    with pytest.raises(RuntimeError, match=message):
        layer.backward(dy)


@each_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_gradients_look_like_parameters(name, dtype, training, backend):
    layer = MAKERS[name](dtype=dtype)
    x = input_of(name).astype(dtype)
    for _ in range(2):
        assert [(k, g.shape, g.dtype) for k, g in layer.grads.items()] == [
            (k, p.shape, p.dtype) for k, p in layer.params.items()
        ]
        y = layer.forward(x, training)
        dx = layer.backward(y)
        assert y.dtype == dx.dtype == dtype and dx.shape == x.shape
    assert all(value.dtype == dtype for value in layer.running.values())


@each_normalizer
def test_channel_axis(name, backend):
    last, first = MAKERS[name](**F64), MAKERS[name](**F64)
    first.channel_axis = 1
    x, dy = images(), rng.standard_normal((6, 2, 2, C))
    move = lambda a: np.moveaxis(a, -1, 1)  # noqa: E731
    for mode in ("training", "running", "batch", "population"):
        training = mode == "training"
        for layer, data in () if training else ((last, x), (first, move(x))):
            layer.set_inference(mode)
            if mode == "population":
                inference.recompute_population(layer, [data, 2 * data])
        y, dx = last.forward(x, training), last.backward(dy)
        np.testing.assert_array_equal(first.forward(move(x).copy(), training), move(y))
        np.testing.assert_array_equal(first.backward(move(dy)), move(dx))
        for key, value in {**last.grads, **last.running}.items():
            np.testing.assert_array_equal({**first.grads, **first.running}[key], value)
    assert kr.BatchNorm(C, channel_axis=1).channel_axis == 1
    with pytest.raises(ValueError, match=r"^x has shape \(6, 2, 2, 3\); expected 3 channels on axis 1$"):
        first.forward(x, training=True)


@pytest.mark.parametrize("name", ["BatchNorm", "BatchRenorm", "KalmanNorm, shrink"])
def test_statistics_batches_are_separate_calls(name, backend):
    together, x, dy = scattered(MAKERS[name](**F64)), images(), rng.standard_normal((6, 2, 2, C))
    size, state = together.statistics_batch_size, together.state_dict()
    y, dx = together.forward(x, training=True), together.backward(dy)
    grads, running = dict.fromkeys(together.grads, 0.0), dict.fromkeys(together.running, 0.0)
    for start in range(0, 6, size):
        alone, here = MAKERS[name](**F64), slice(start, start + size)
        alone.load_state_dict(state)
        np.testing.assert_allclose(alone.forward(x[here], training=True), y[here], rtol=1e-13)
        np.testing.assert_allclose(alone.backward(dy[here]), dx[here], rtol=1e-11, atol=1e-14)
        grads = {key: grads[key] + alone.grads[key] for key in grads}
        running = {key: running[key] + alone.running[key] * size / 6 for key in running}
    assert max(gradcheck.max_error(together.grads[key], grads[key]) for key in grads) <= tolerances.LOOPS
    assert max(gradcheck.max_error(together.running[key], running[key]) for key in running) <= tolerances.LOOPS
    assert together.step == 1  # one update for all of them
    message = rf"^the batch has 5 images; expected a multiple of the statistics batch size {size}$"
    with pytest.raises(ValueError, match=message):
        together.forward(x[:5], training=True)
    assert together.step == 1
    assert together.forward(x[:5]).shape == x[:5].shape  # inference takes any number


@pytest.mark.parametrize("decay", [0.9, 0.0, 1.0, None])
@pytest.mark.parametrize("unbiased", [False, True], ids=["biased", "unbiased"])
def test_running_averages(decay, unbiased, backend):
    """decay weighs the OLD value; None is the plain mean over the steps, without the initial 0 and 1."""
    layer = kr.BatchNorm(C, EPS, decay, 2, unbiased, **F64)
    mean, var, seen = np.zeros(C), np.ones(C), []
    for step in range(3):
        x = images()
        layer.forward(x, training=True)
        rows = x.reshape(3, 8, C)
        seen.append((rows.mean(axis=1).mean(axis=0), rows.var(axis=1, ddof=int(unbiased)).mean(axis=0)))
        if decay is None:
            mean, var = np.mean(seen, axis=0)
        else:
            mean, var = decay * mean + (1 - decay) * seen[-1][0], decay * var + (1 - decay) * seen[-1][1]
        result = layer.running["running_mean"], layer.running["running_var"]
        assert gradcheck.max_error(result, (mean, var)) <= tolerances.LOOPS and layer.step == step + 1


@pytest.mark.parametrize("kind", [kr.BatchNorm, kr.KalmanNorm])
def test_unbiased_variance_of_one_sample(kind, backend):
    layer = kind(C, unbiased_running_var=True, statistics_batch_size=1)
    message = "^the unbiased running variance needs at least 2 samples per channel, got m = 1$"
    before = layer.state_dict()
    with pytest.raises(ValueError, match=message):
        layer.forward(np.ones((4, C), np.float32), training=True)
    for key, value in before.items():
        np.testing.assert_array_equal(layer.state_dict()[key], value)
    layer.forward(np.ones((4, 1, 2, C), np.float32), training=True)


def test_batch_renorm_corrects_with_the_old_averages(backend):
    limits = {"r_max": lambda step: 1 + 0.2 * step, "d_max": lambda step: 0.5 * step}
    layer = scattered(kr.BatchRenorm(C, EPS, 0.7, **limits, **F64))
    mean, std = np.zeros(C), np.ones(C)
    for step in range(4):
        x = images(5, 1, 1)
        moments = derivations.observe(x.reshape(5, C))
        corrections = derivations.renorm_corrections(moments, mean, std, 1 + 0.2 * step, 0.5 * step, EPS)
        gamma, beta = layer.params.values()
        expected, _ = derivations.batch_renorm(x.reshape(5, C), gamma, beta, *corrections, EPS)
        assert gradcheck.max_error(layer.forward(x, training=True).reshape(5, C), expected) <= tolerances.LOOPS
        mean, std = 0.7 * mean + 0.3 * moments[0], 0.7 * std + 0.3 * np.sqrt(moments[1] + EPS)
        assert gradcheck.max_error((layer.running["running_mean"],), (mean,)) <= tolerances.LOOPS
        assert gradcheck.max_error((layer.running["running_std"],), (std,)) <= tolerances.LOOPS
        resumed = kr.BatchRenorm(C, EPS, 0.7, **limits, **F64)
        resumed.load_state_dict(layer.state_dict())  # the step too, or the limits would start anew
        np.testing.assert_array_equal(
            copy.deepcopy(layer).forward(x + 1, training=True), resumed.forward(x + 1, training=True)
        )
    x = images()
    expected = gamma * (x - mean) / std + beta  # eps is inside the running deviation already
    assert gradcheck.max_error(layer.forward(x), expected) <= tolerances.LOOPS


@each_normalizer
def test_inference_uses_running_averages_alone(name, backend):
    layer = scattered(MAKERS[name](**F64))
    layer.backward(layer.forward(images(), training=True))
    x, dy, before = images(7), rng.standard_normal((7, 2, 2, C)), layer.state_dict()
    mean, second = layer.running.values()
    deviation = second if name == "BatchRenorm" else np.sqrt(second + EPS)
    x_hat, gamma, beta = (x - mean) / deviation, layer.params["gamma"], layer.params["beta"]
    assert gradcheck.max_error(layer.forward(x), gamma * x_hat + beta) <= tolerances.LOOPS
    np.testing.assert_allclose(layer.forward(x[:1]), layer.forward(x)[:1], rtol=1e-13)
    layer.forward(x)
    assert gradcheck.max_error(layer.backward(dy), gamma * dy / deviation) <= tolerances.LOOPS
    sums = (dy * x_hat).sum(axis=(0, 1, 2)), dy.sum(axis=(0, 1, 2))
    assert gradcheck.max_error((layer.grads["gamma"], layer.grads["beta"]), sums) <= tolerances.LOOPS
    assert not any(layer.grads[key].any() for key in layer.grads.keys() - {"gamma", "beta"})
    for key, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


@each_layer
def test_state_resumes_to_the_same_bits(name, backend):
    layer = scattered(MAKERS[name]())
    for _ in range(2):
        layer.forward(input_of(name).astype(np.float32), training=True)
    saved = layer.state_dict()
    resumed = MAKERS[name]()
    resumed.load_state_dict(saved)
    x = input_of(name).astype(np.float32)
    y = layer.forward(x, training=True)
    np.testing.assert_array_equal(resumed.forward(x, training=True), y)
    dx = layer.backward(y)
    np.testing.assert_array_equal(resumed.backward(y), dx)
    for a, b in ((layer.grads, resumed.grads), (layer.state(), resumed.state())):
        assert a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)
    fresh = MAKERS[name]()
    fresh.load_state_dict(saved)  # a copy: what the first layer did since has not changed it
    assert all(np.array_equal(fresh.state()[key], value) for key, value in saved.items())


@each_normalizer
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("beta"), "the state does not fit this network: missing ['beta'], not known []"),
        (lambda s: s.update(delta=1), "the state does not fit this network: missing [], not known ['delta']"),
        (lambda s: s.update(beta=np.ones(4)), "the state's beta has shape (4,); expected (3,)"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(name, change, message):
    layer = scattered(MAKERS[name]())
    before, state = layer.state_dict(), {key: value + 1 for key, value in layer.state_dict().items()}
    change(state)
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        layer.load_state_dict(state)
    assert all(np.array_equal(layer.state()[key], value) for key, value in before.items())
