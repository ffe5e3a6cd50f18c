"""Holds the networks to their architecture, counted by hand, to their initial values, to the complex step and to
learning something."""

import copy

import numpy as np
import pytest
import tolerances
from test_layers import scattered

import kalnorm_ref as kr
from kalnorm_ref import models

KALMAN = ["kn-learned", "kn-shrink", "kn-released", "kn-analytic", "kn-filter"]
NORMS = ["bn", "brn", *KALMAN, "gn", "ln", "in", "gkn", "none"]
F64 = {"dtype": np.float64}
FLOOR = 1e-3  # a gradient that is zero in exact arithmetic is compared with this
rng = np.random.default_rng(97)
X, LABELS = rng.normal(3.0, 2.0, (6, 8, 8, 2)), np.array([0, 1, 2, 2, 1, 0])


def count(net):
    return sum(p.size for p in net.params.values())


def test_the_list_of_normalizers():
    assert list(models.NORMS) == NORMS


# 3x3 convolutions of resnet(8): 3-16, 16-16, 16-16, 16-32, 32-32, 32-64, 64-64; normalizers after them: gamma, beta of
# 16 (first), 16, 16 + 32, 32 + 64, 64 (last) channels, as the first unit has no leading one; linear 64-10 with bias.
RESNET_8 = 9 * (3 * 16 + 2 * 16**2 + 16 * 32 + 32**2 + 32 * 64 + 64**2), 2 * (16 + 16 + 48 + 96 + 64), 650
# resnet(20): 6 more convolutions at 16, of 2 more units; 4 at 32 and 64; 4 more normalizers at each width.
RESNET_20 = RESNET_8[0] + 9 * 4 * (16**2 + 32**2 + 64**2), RESNET_8[1] + 2 * 4 * (16 + 32 + 64), 650
CNN_5 = 9 * (3 * 16 + 16**2 + 16 * 32 + 32**2 + 32 * 64), 2 * (16 + 16 + 32 + 32 + 64), 650
# transitions along the chain 16 16 16 32 32 64 64; a gain and a noise for each of the 6 normalizers with a prior
LEARNED_8 = 16**2 + 16**2 + 16 * 32 + 32**2 + 32 * 64 + 64**2 + 2 * 6


def test_parameters_counted_by_hand():
    assert count(models.resnet(20)) == sum(RESNET_20) == 269722
    assert count(models.resnet(8)) == sum(RESNET_8)
    assert count(models.resnet(8, "brn")) == count(models.resnet(8, "kn-analytic")) == sum(RESNET_8)
    assert count(models.resnet(8, "none")) == RESNET_8[0] + 650
    assert count(models.resnet(8, "kn-learned")) == sum(RESNET_8) + LEARNED_8
    assert count(models.resnet(8, "kn-shrink")) == sum(RESNET_8) + 2 * 6
    assert count(models.resnet(8, in_channels=1, classes=4)) == sum(RESNET_8) - 9 * 2 * 16 - 6 * 65
    assert count(models.cnn5()) == sum(CNN_5)
    assert count(models.mlp((5, 7), in_channels=1)) == 64 * 5 + 5 * 7 + 2 * 12 + 7 * 10 + 10
    assert count(models.mlp((5,), "none")) == 3072 * 5 + 5 * 10 + 10


def layers_of(net, kind):
    """All layers of a kind, in the order of the forward."""
    found = []
    for layer in getattr(net, "layers", None) or net.children.values():
        found += [layer] if isinstance(layer, kind) else layers_of(layer, kind) if hasattr(layer, "children") else []
    return found


def test_resnet_layout():
    net = models.resnet(14, "bn")
    convolutions = layers_of(net, kr.Conv2d)
    widths = [16] * 5 + [32] * 4 + [64] * 4
    assert [layer.params["weight"].shape for layer in convolutions] == [
        (3, 3, before, after) for before, after in zip([3, *widths], widths, strict=False)
    ]
    assert [i for i, layer in enumerate(convolutions) if layer.stride == 2] == [5, 9]
    assert {layer.stride for layer in convolutions} == {1, 2} and {layer.padding for layer in convolutions} == {
        ((1, 1), (1, 1))
    }
    assert not any(path.endswith("bias") for path in net.params if path != f"{len(net.layers) - 1}.bias")
    units = [layer for layer in net.layers if isinstance(layer, kr.Residual)]
    kinds = [[type(layer).__name__ for layer in unit.children["main"].layers] for unit in units]
    lead, rest = ["BatchNorm", "ReLU"], ["Conv2d", "BatchNorm", "ReLU", "Conv2d"]
    assert kinds == [rest] + 5 * [lead + rest]
    widening = [isinstance(unit.children["shortcut"], kr.Sequential) for unit in units]
    assert widening == [False, False, True, False, True, False]
    for unit, side in ((units[2], 8), (units[4], 16)):
        pool, pad = unit.children["shortcut"].layers
        assert isinstance(pool, kr.AvgPool2d) and (pool.size, pad.before, pad.after) == (2, side, side)
    assert [type(layer).__name__ for layer in (*net.layers[:3], *net.layers[-4:])] == [
        *("Conv2d", "BatchNorm", "ReLU"),
        *("BatchNorm", "ReLU", "GlobalAvgPool2d", "Linear"),
    ]
    x = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    y = kr.Sequential(*net.layers[:-3]).forward(x, training=True)
    assert y.shape == (2, 8, 8, 64) and net.forward(x).shape == (2, 10)


def test_shortcut_of_a_widening_unit():
    """With the main branch silenced, what remains are means of 2x2 blocks between channels of zeros."""
    unit = next(layer for layer in models.resnet(8, dtype=np.float64).layers[4:5])
    unit.children["main"].layers[-1].params["weight"][...] = 0
    x = rng.normal(size=(2, 4, 4, 16))
    y = unit.forward(x)
    np.testing.assert_array_equal(y[..., :8], 0)
    np.testing.assert_array_equal(y[..., 24:], 0)
    means = (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
    np.testing.assert_allclose(y[..., 8:24], means, rtol=1e-13)


def test_cnn5_layout():
    net = models.cnn5("kn-learned", in_channels=1)
    convolutions = layers_of(net, kr.Conv2d)
    assert [layer.params["weight"].shape[2:] for layer in convolutions] == [
        (1, 16),
        (16, 16),
        (16, 32),
        (32, 32),
        (32, 64),
    ]
    assert [layer.stride for layer in convolutions] == [1, 1, 2, 1, 2]
    assert [type(layer).__name__ for layer in net.layers] == [
        *("Conv2d", "KalmanNorm", "ReLU") * 5,
        *("GlobalAvgPool2d", "Linear"),
    ]
    assert [path for path in net.params if path.endswith("bias")] == ["16.bias"]


@pytest.mark.parametrize("model", [models.resnet, models.cnn5, models.mlp])
def test_weights_are_a_function_of_the_seed_alone(model):
    first, again, other = model(seed=3), model(seed=3), model(seed=4)
    weights = [path for path in first.params if path.endswith("weight")]
    for path, p in first.params.items():
        assert p.dtype == np.float32
        np.testing.assert_array_equal(p, again.params[path])
    assert all((first.params[path] != other.params[path]).any() for path in weights)
    for norm in NORMS:
        net = model(norm=norm, seed=3, statistics_batch_size=2)
        assert [path for path in net.params if path.endswith("weight")] == weights
        for path in weights:
            np.testing.assert_array_equal(net.params[path], first.params[path])


def test_standard_deviation_of_the_weights():
    """He fan-out for convolutions, 2 / c_in where a ReLU follows a linear map, 1 / c_in at the end."""
    convolutions = layers_of(models.resnet(8, seed=1), kr.Conv2d)
    *hidden, last = layers_of(models.mlp((300, 200), seed=1), kr.Linear)
    variances = [(layer, 2 / (9 * layer.params["weight"].shape[3])) for layer in convolutions]
    variances += [(layer, 2 / len(layer.params["weight"])) for layer in hidden] + [(last, 1 / 200)]
    for layer, var in variances:
        w = layer.params["weight"].astype(float)
        assert abs(w.std() / np.sqrt(var) - 1) <= tolerances.STANDARD_ERRORS / np.sqrt(2 * w.size)
        assert abs(w.mean()) <= tolerances.STANDARD_ERRORS * np.sqrt(var / w.size)


@pytest.mark.parametrize(("size", "gain"), [(None, 0.95), (9, 0.95), (8, 0.1), (2, 0.1)])
def test_initial_gain(size, gain):
    """0.1 at statistics batches of 8 or fewer images, where the batch says little (A5)."""
    for options in ({}, {"gain_kind": "learned_per_channel"}, {"gain_kind": "constant"}, {"variant": "analytic"}):
        layer = kr.KalmanNorm(4, 3, statistics_batch_size=size, dtype=np.float64, **options)
        np.testing.assert_allclose(layer.gain(), gain, rtol=1e-14)
        assert np.shape(layer.gain()) == ((4,) if "per_channel" in str(options) else ())
        assert ("gain_logit" in layer.params) == (len(options) == 0 or "per_channel" in str(options))


@pytest.mark.parametrize(
    ("channels", "previous", "options", "transition", "noise"),
    [
        (3, 3, {}, np.eye(3), 0.1),
        (3, 4, {}, np.full((3, 4), 0.25), 0.75),
        (4, 1, {}, np.ones((4, 1)), 0.1),
        (3, 3, {"transition": "diagonal"}, np.ones(3), 0.1),
        (3, 4, {"transition": "zero"}, None, 1.0),
        (3, 4, {"noise": 0.3}, np.full((3, 4), 0.25), 0.3),
        (3, 4, {"variant": "filter"}, np.full((3, 4), 0.25), 0.75),
        (3, 4, {"covariance": "full"}, np.full((3, 4), 0.25), 0.1),
        (3, 4, {"covariance": "full", "transition": "zero"}, None, 1.0),
    ],
)
def test_initial_transition_and_noise(channels, previous, options, transition, noise):
    params = kr.KalmanNorm(channels, previous, dtype=np.float64, **options).params
    assert np.exp(params["log_noise"]) == pytest.approx(noise, rel=1e-14) and params["log_noise"].shape == ()
    each = kr.KalmanNorm(channels, previous, noise_form="diagonal", dtype=np.float64, **options).params["log_noise"]
    np.testing.assert_array_equal(each, [params["log_noise"]] * channels)
    if transition is None:
        assert "transition" not in params
    else:
        np.testing.assert_array_equal(params["transition"], transition)


@pytest.mark.parametrize("norm", ["kn-learned", "kn-shrink", "kn-released", "kn-analytic"])
def test_first_of_a_chain_has_no_kalman_parameters(norm):
    first, *later = layers_of(models.cnn5(norm, gain_kind="learned"), kr.KalmanNorm)
    assert first.params.keys() == first.grads.keys() == {"gamma", "beta"} and not first.has_prior
    assert all(layer.params.keys() == layer.grads.keys() > {"gain_logit"} for layer in later)


MODELS = {
    "resnet": lambda *norm, **options: models.resnet(8, *norm, in_channels=2, classes=3, **F64, **options),
    "cnn5": lambda *norm, **options: models.cnn5(*norm, in_channels=2, classes=3, **F64, **options),
    "mlp": lambda *norm, **options: models.mlp(
        (16, 8), *norm, in_channels=2, classes=3, image_size=(8, 8), **F64, **options
    ),
}
VARIED = {norm: {} for norm in NORMS} | {
    "kn-learned, full covariance": {"covariance": "full", "noise_form": "cholesky"},
    "kn-learned, shared noise": {"noise": "shared", "gain": 0.4},
    "kn-shrink, shared noise": {"noise": "shared", "gain_kind": "constant", "gain": 0.4},
    "kn-filter, shared noise": {"noise": "shared"},
    "kn-filter, noise per channel": {"noise_form": "diagonal"},
    "kn-released, as released": {"preset": "as_released"},
    "kn-released, trained gain": {"gain_kind": "pseudo_count", "gain": 0.3},
    "kn-analytic, pseudo-count": {"gain_kind": "pseudo_count", "push": "observed", "gain": 0.6},
    "gkn, per group": {"gain_kind": "learned_per_group", "gain": 0.5},
}


# but for the map of one position, where instance normalization gives beta whatever x is
GRADIENTS = [(model, name) for name in VARIED for model in MODELS if (model, name) != ("mlp", "in")]


@pytest.mark.parametrize(("model", "name"), GRADIENTS)
def test_gradient_of_a_model(model, name, backend):
    """One direction through all parameters and x together, in which every tensor weighs about the same."""
    size = 2 if "released" in name else 3
    net = scattered(MODELS[model](name.split(",")[0], statistics_batch_size=size, **VARIED[name]))
    draw, step, shifted = np.random.default_rng(4), 1e-30, copy.deepcopy(net).astype(np.complex128)
    dlogits = kr.cross_entropy(net.forward(X, training=True), LABELS)[1]
    gradients = {"x": net.backward(dlogits)} | net.grads
    z, total, weight = X.astype(np.complex128), 0.0, 0.0
    for path, gradient in gradients.items():
        direction = draw.standard_normal(gradient.shape) / max(np.linalg.norm(gradient), FLOOR)
        (z if path == "x" else shifted.params[path])[...] += 1j * step * direction
        total, weight = total + np.sum(direction * gradient), weight + abs(np.sum(direction * gradient))
    with kr.use_backend("numpy"):
        loss, _ = kr.cross_entropy(shifted.forward(z, training=True), LABELS)
    assert all(gradient.any() for gradient in gradients.values())
    assert abs(loss.imag / step - total) <= tolerances.NETWORK * weight


@pytest.mark.parametrize("name", VARIED)
def test_training_lowers_the_loss(name, backend):
    """On six random images, learned by heart from micro-batches of two, in float32."""
    net = models.cnn5(name.split(",")[0], in_channels=2, classes=3, statistics_batch_size=2, **VARIED[name])
    optimizer, losses = kr.SGD(net, lr=0.02), []
    for _ in range(12):
        loss, dlogits = kr.cross_entropy(net.forward(X.astype(np.float32), training=True), LABELS)
        net.backward(dlogits)
        optimizer.step()
        losses.append(loss)
    assert np.isfinite(losses).all() and np.mean(losses[-3:]) < 0.8 * losses[0]
    assert all(p.dtype == np.float32 and np.isfinite(p).all() for p in net.params.values())
    assert np.isfinite(net.forward(X.astype(np.float32))).all()
