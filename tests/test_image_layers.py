"""The first normalizer with statistics of each image by itself: what it computes, sends on, and in which modes."""

import re
from itertools import pairwise

import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import gradcheck, inference, models, transport
from kalnorm_ref.experiments.evaluate import population_gap
from kalnorm_ref.layers import ImageKalmanNorm, InstanceNorm

X = np.random.default_rng(3).normal(2.0, 3.0, (6, 8, 8, 3))
DY = np.random.default_rng(4).standard_normal((6, 5))
MODES = inference.INFERENCE


def resnet(norm, size=2, **options):
    net = models.resnet(8, norm, 3, 5, size, seed=1, dtype=np.float64, **options)
    draw = np.random.default_rng(5)
    for p in net.params.values():
        p += 0.1 * draw.standard_normal(p.shape)
    return net


def stepped(net):
    """What one training step leaves: logits, gradients, running averages but for those of the first normalizer."""
    y = net.forward(X, training=True)
    running = [a for name, a in net.running.items() if not name.startswith("1.")]
    return y, net.backward(DY), *net.grads.values(), *running


@pytest.mark.parametrize("norm", ["bn", "kn-learned", "kn-shrink", "kn-analytic"])
def test_a_statistics_batch_of_one_image_trains_alike(norm, backend):
    plain, image = stepped(resnet(norm, 1)), stepped(resnet(norm, 1, first="image"))
    assert len(plain) == len(image) and max(map(gradcheck.max_error, plain, image)) <= tolerances.LOOPS
    two = stepped(resnet(norm, 2, first="image"))
    assert gradcheck.max_error(plain[0], two[0]) > 1e-3  # a statistics batch of two is something else


def test_it_is_instance_normalization(backend):
    layer, plain = ImageKalmanNorm(3, statistics_batch_size=2), InstanceNorm(3)
    dy = np.random.default_rng(6).standard_normal(X.shape)
    for params in (layer.params, plain.params):
        params["gamma"][...], params["beta"][...] = [0.5, 2, -1], [1, 2, 3]
    for training, mode in ((True, "running"), *((False, mode) for mode in MODES)):
        layer.set_inference(mode)
        assert gradcheck.max_error(layer.forward(X, training), plain.forward(X, training)) <= tolerances.LOOPS
        assert gradcheck.max_error(layer.backward(dy), plain.backward(dy)) <= tolerances.LOOPS
        assert gradcheck.max_error(tuple(layer.grads.values()), tuple(plain.grads.values())) <= tolerances.LOOPS


@pytest.mark.parametrize(("size", "rows"), [(2, [2, 2, 2]), (4, [4, 2]), (None, [6])])
def test_what_it_sends_on(size, rows):
    layer = ImageKalmanNorm(3, variant="learned", statistics_batch_size=size, inference="batch")
    layer.params["gamma"][...], layer.params["beta"][...] = [0.5, 2, -1], [1, 2, 3]
    _, sent = layer.carry(X, None)
    bounds = np.cumsum([0, *rows])
    parts = [X[a:b].reshape(-1, 3) for a, b in pairwise(bounds)]
    expected = (
        [part.mean(axis=0) for part in parts],
        [part.var(axis=0) for part in parts],
    )  # of the whole statistics batch
    assert gradcheck.max_error(tuple(sent.moments), tuple(map(np.array, expected))) <= tolerances.LOOPS
    layer = ImageKalmanNorm(3, variant="analytic", statistics_batch_size=size, inference="batch", eps=0.5)
    layer.params["gamma"][...], layer.params["beta"][...] = [0.5, 2, -1], [1, 2, 3]
    _, sent = layer.carry(X, None)
    v = X.reshape(6, -1, 3).var(axis=1)
    beliefs = np.array([0.5, 2, -1]) ** 2 * v / (v + 0.5)
    expected = [beliefs[a:b].mean(axis=0) for a, b in pairwise(bounds)]
    assert gradcheck.max_error(sent.moments.var, np.array(expected)) <= tolerances.LOOPS
    np.testing.assert_array_equal(sent.moments.mean, np.tile([1.0, 2.0, 3.0], (len(rows), 1)))


@pytest.mark.parametrize("mode", ["running", "population"])
def test_inference_of_an_image_does_not_depend_on_the_others(mode, backend):
    net = resnet("kn-analytic", 2, first="image")
    for _ in range(3):
        net.forward(X, training=True)
    if mode == "population":
        inference.recompute_population(net, [X])
    together = net.forward(X)
    alone = np.concatenate([net.forward(X[i : i + 1]) for i in range(len(X))])
    assert gradcheck.max_error(alone, together) <= tolerances.LOOPS
    first = next(layer for _, layer in inference.normalizers(net))
    assert isinstance(first, ImageKalmanNorm) and len(list(inference.normalizers(net))) == 7
    assert first.carry(X[..., :1] * np.ones(16), None)[1] is None  # fixed statistics behind it read no estimate


def test_the_whole_batch_behind_it(backend):
    """What a convolution observes for a normalizer of the whole batch is not what one of each image asks for."""
    net = resnet("kn-analytic", None, first="image")
    again = resnet("kn-analytic", 6, first="image", gain=0.95)
    assert max(map(gradcheck.max_error, stepped(net), stepped(again))) <= tolerances.LOOPS


def test_a_backward_needs_its_forward_and_survives_a_wrong_dy():
    layer, moments = ImageKalmanNorm(3, statistics_batch_size=2), kr.Moments(np.ones((3, 3)), np.ones((3, 3)))
    with pytest.raises(RuntimeError, match=r"^ImageKalmanNorm\.backward needs a forward before it"):
        layer.backward(X)
    layer.carry(X, None, training=True)
    with pytest.raises(ValueError, match=r"^dy has shape"):
        layer.carry_backward(X[:2], moments)
    assert np.isfinite(layer.carry_backward(X, moments)[0]).all()
    with pytest.raises(RuntimeError, match=r"^ImageKalmanNorm\.backward needs a forward before it"):
        layer.carry_backward(X, moments)
    dx = []
    for upstream in (moments, None):  # nothing was sent, so nothing comes back
        layer.carry(X, None)
        dx.append(layer.carry_backward(X, upstream)[0])
    np.testing.assert_array_equal(*dx)
    with pytest.raises(TypeError, match=r"^estimate is int; expected kr\.layers\.Estimate"):
        layer.carry(X, 5)


@pytest.mark.parametrize("push", ["belief", "observed", "released"])
def test_gradient_at_the_head_of_a_residual_block(push):
    """There the shortcut takes a mixture too; in inference "batch" the last statistics batch is a smaller one."""
    inside = kr.Conv2d(3, 3, 3, padding=1, dtype=np.float64, rng=np.random.default_rng(7))
    last = kr.KalmanNorm(3, 3, variant="analytic", push=push, statistics_batch_size=4, gain=0.4, inference="batch")
    head = ImageKalmanNorm(3, variant="analytic", push=push, statistics_batch_size=4, inference="batch", eps=0.1)
    net = kr.Sequential(kr.Residual(kr.Sequential(head, kr.ReLU(), inside)), last)
    head.params["gamma"][...], head.params["beta"][...] = [0.5, 2, -1], [1, 2, 3]
    dy = np.random.default_rng(8).standard_normal(X.shape)
    with kr.use_backend("numpy"):
        for training in (False, True):
            x = X[:4] if training else X
            net.forward(x, training)
            dx = net.backward(dy[: len(x)])
            arguments = (x,), dy[: len(x)], (dx,)
            gradcheck.check(lambda x, t=training: net.forward(x, t), *arguments, tolerances.COMPLEX_STEP)


def test_channels_on_another_axis():
    x = X.transpose(3, 0, 1, 2)
    layer = ImageKalmanNorm(3, channel_axis=0, inference="batch")
    y, sent = layer.carry(x, None)
    expected, there = ImageKalmanNorm(3, inference="batch").carry(X, None)
    assert sent.moments.mean.shape == (1, 3)
    assert gradcheck.max_error(y, expected.transpose(3, 0, 1, 2)) <= tolerances.LOOPS
    assert gradcheck.max_error(tuple(sent.moments), tuple(there.moments)) <= tolerances.LOOPS


def test_it_takes_no_part_in_the_population_gap():
    net = resnet("kn-analytic", 2, first="image")
    for _ in range(3):
        net.forward(X, training=True)
    inference.recompute_population(net, [X])
    before = population_gap(net)
    first = next(layer for _, layer in inference.normalizers(net))
    first.running["running_mean"] += 100
    assert population_gap(net) == before
    second = list(inference.normalizers(net))[1][1]
    second.running["running_mean"] += 100
    assert population_gap(net)["mean_error"] > 2 * before["mean_error"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImageKalmanNorm(3).forward(X[:0]), "x has no image; expected at least one"),
        (lambda: models.cnn5("bn", first="images"), "first is 'images'; expected one of 'batch', 'image'"),
        (
            lambda: models.cnn5("kn-learned", first="image", covariance="full"),
            "covariance is 'full'; expected one of 'diagonal' for statistics of each image",
        ),
        (lambda: ImageKalmanNorm(3, 2), "previous_channels is 2; expected None, since this layer has no prior"),
        (
            lambda: ImageKalmanNorm(3, variant="released"),
            "variant is 'released'; expected one of 'learned', 'analytic' for statistics of each image",
        ),
        (
            lambda: ImageKalmanNorm(3, statistics_batch_size=4).forward(X, training=True),
            "the batch has 6 images; expected a multiple of the statistics batch size 4",
        ),
        (
            lambda: models.mlp((4,), "kn-analytic", first="image"),
            "norm option 'first' is for networks with convolutions; an mlp has none",
        ),
        (
            lambda: transport.mixture(kr.Moments(np.zeros(3), np.ones(3)), 2),
            "estimate.mean has shape (3,); expected (..., n, C) with at least one row",
        ),
        (
            lambda: transport.mixture(kr.Moments(np.zeros((0, 3)), np.ones((0, 3))), 2),
            "estimate.mean has shape (0, 3); expected (..., n, C) with at least one row",
        ),
        (lambda: transport.mixture(kr.Moments(np.zeros((2, 3)), np.ones((2, 3))), 0), "size is 0; expected at least 1"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
