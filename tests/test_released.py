"""Holds kn-released to what the published code does: its draws, its residual units, its padding, its guard."""

import numpy as np
import pytest
import tolerances
from test_layers import images, scattered

import kalnorm_ref as kr
from kalnorm_ref import gradcheck, inference, transport
from kalnorm_ref.layers import Estimate
from kalnorm_ref.layers.base import Sampler

rng = np.random.default_rng(89)
pytestmark = pytest.mark.usefixtures("reseeded")
C = 3
F64 = {"dtype": np.float64}
X, LABELS = np.random.default_rng(1).normal(3.0, 2.0, (6, 8, 8, 2)), np.array([0, 1, 2, 2, 1, 0])
EMPTY = Sampler(np.random.default_rng(0), "per_batch")


def released(previous=C, **options):
    return kr.KalmanNorm(C, previous, "released", **options, **F64)


def draws(seed, forward, shape):
    """What a generator of that seed, at that training forward, draws."""
    return np.random.default_rng([*seed, forward]).standard_normal(shape)


def test_the_prior_is_drawn_through_the_convolution(backend):
    """z = mu + s n for each position, ReLU, convolution, moments of the map: anew in each forward."""
    conv, first = (
        kr.Conv2d(C, 4, 3, 2, ((0, 1), (0, 1)), bias=True, rng=1, **F64),
        scattered(released(None, seed=[7, 3])),
    )
    conv.params["bias"][...] = rng.normal(size=4)
    net, x = kr.Sequential(first, kr.ReLU(), conv), images(4, 6, 6)
    first.statistics_batch_size = 2
    found = []
    for forward in range(3):
        _, estimate = net.carry(x, None, training=True)
        rows = x.reshape(2, -1, C)
        own = kr.Moments(rows.mean(axis=1), rows.var(axis=1))  # of its input: gamma and beta are skipped
        expected = transport.sampled(own, draws([7, 3], forward, (2, 6, 6, C)), conv.params["weight"], 2, conv.padding)
        expected = expected._replace(mean=expected.mean + conv.params["bias"])
        assert gradcheck.max_error(estimate.moments, expected) <= tolerances.LOOPS
        assert estimate.travel == "sampled"
        found.append(estimate.moments.mean)
    assert gradcheck.max_error(found[0], found[1]) > 0.01


def test_a_linear_layer_draws_a_row_for_each_example(backend):
    """The released code has convolutions only: here as many synthetic examples as the statistics batch has."""
    linear, moments = kr.Linear(C, 4, rng=1, **F64), kr.Moments(rng.normal(1, 2, (2, C)), rng.uniform(2, 9, (2, C)))
    linear.params["bias"][...] = rng.normal(size=4)
    sampler = Sampler(np.random.default_rng(11), "per_batch")
    _, estimate = linear.carry(rng.normal(size=(10, C)), Estimate(moments, "sampled", sampler), training=True)
    n = np.random.default_rng(11).standard_normal((2, 5, 1, C))[:, :, 0]
    h = np.maximum(moments.mean[:, None] + np.sqrt(moments.var)[:, None] * n, 0) @ linear.params["weight"]
    expected = h.mean(axis=1) + linear.params["bias"], h.var(axis=1)
    assert gradcheck.max_error(tuple(estimate.moments), expected) <= tolerances.LOOPS


@pytest.mark.parametrize("shortcut", ["posterior", "prior"])
def test_a_residual_unit_adds_what_the_shortcut_carries(shortcut, backend):
    """m + m3 and v + v3: with the incoming prior, as released, or with the posterior of the unit's first normalizer."""
    head, conv = scattered(released(gain=0.3, shortcut=shortcut, seed=4)), kr.Conv2d(C, C, 3, padding=1, rng=2, **F64)
    unit, x = kr.Residual(kr.Sequential(head, kr.ReLU(), conv)), images(2, 4, 4)
    prior = kr.Moments(np.full((1, C), 6.0), np.full((1, C), 4.0))
    _, joined = unit.carry(x, Estimate(prior, "sampled", EMPTY), training=True)
    posterior = kr.fuse(prior, kr.observe(x.reshape(1, -1, C)), 0.3)
    main = transport.sampled(posterior, draws([4], 0, (1, 4, 4, C)), conv.params["weight"], 1, 1)
    expected = transport.add(main, {"posterior": posterior, "prior": prior}[shortcut])
    assert gradcheck.max_error(joined.moments, expected) <= tolerances.LOOPS


def test_what_the_released_code_leaves_alone():
    """ReLU waits for the convolution, average pooling leaves the variance, dropout and global pooling do nothing."""
    moments = kr.Moments(rng.normal(0, 2, (2, C)), rng.uniform(2, 9, (2, C)))
    for layer in (kr.ReLU(), kr.AvgPool2d(2), kr.Dropout(0.5, 1), kr.GlobalAvgPool2d(), kr.Identity()):
        _, estimate = layer.carry(images(4, 4, 4), Estimate(moments, "sampled", EMPTY), training=True)
        assert estimate.moments is moments
    _, estimate = kr.MaxPool2d(2).carry(images(4, 4, 4), Estimate(moments, "sampled", EMPTY), training=True)
    assert gradcheck.max_error(estimate.moments, transport.max_pool(moments, 2)) == 0
    flat = kr.Flatten().carry(images(4, 2, 2), Estimate(moments, "sampled", EMPTY), training=True)[1].moments
    np.testing.assert_array_equal(flat.mean, np.hstack([moments.mean] * 4))


# ---- the padding of a widening shortcut ------------------------------------------------------------------------


def padded(moments, padding, side):
    layer = kr.PadChannels(side, side)
    sampler = Sampler(np.random.default_rng(0), padding)
    x = np.ones((len(moments.mean), 2, 2, moments.mean.shape[-1]))
    return layer.carry(x, Estimate(moments, "sampled", sampler), training=True)[1].moments


def test_padding_of_two_batches_of_two_channels():
    """[a0 a1 b0 b1], padded at both ends as one vector: batch a gets (0, 0, a0, a1), batch b (b0, b1, 0, 0)."""
    moments = kr.Moments(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]]))
    each, end_to_end = padded(moments, "per_batch", 1), padded(moments, "concatenated", 1)
    np.testing.assert_array_equal(each.mean, [[0, 1, 2, 0], [0, 3, 4, 0]])
    np.testing.assert_array_equal(end_to_end.mean, [[0, 0, 1, 2], [3, 4, 0, 0]])
    np.testing.assert_array_equal(end_to_end.var, [[0, 0, 5, 6], [7, 8, 0, 0]])
    front = transport.pad_concatenated(moments, 1, 0)  # [0 0 a0 a1 b0 b1] in two
    np.testing.assert_array_equal(front.mean, [[0, 0, 1], [2, 3, 4]])
    one = kr.Moments(*(a[:1] for a in moments))
    np.testing.assert_array_equal(padded(one, "concatenated", 1), padded(one, "per_batch", 1))


def test_padding_of_64_batches_of_16_channels():
    """The published micro-batch setting: nothing is where it belongs, and half of the batches have zeros alone."""
    moments = kr.Moments(1 + np.arange(64 * 16.0).reshape(64, 16), np.ones((64, 16)))
    each, end_to_end = padded(moments, "per_batch", 8).mean, padded(moments, "concatenated", 8).mean
    assert np.count_nonzero(each) == np.count_nonzero(end_to_end) == 1024
    assert np.count_nonzero((each == end_to_end) & (each != 0)) == 0
    assert np.count_nonzero(~end_to_end.any(axis=1)) == 32 and each.any(axis=1).all()


# ---- the guard ---------------------------------------------------------------------------------------------------


def guarded(x, prior, guard, **options):
    layer = released(gain=0.3, guard=guard, **options)
    layer.params["gamma"][...], layer.params["beta"][...] = [0.5, 2.0, -1.5], [1.0, -1.0, 0.3]
    y, _ = layer.carry(x, Estimate(prior, "sampled", EMPTY), training=True)
    return layer, y


@pytest.mark.parametrize("reason", ["ratio", "nan", "dead channel"])
def test_the_guard_rejects_a_prior(reason, backend):
    """Then the layer is batch normalization, and what arrived gets no gradient; unless a shortcut takes it on."""
    x, dy = images(4), rng.standard_normal((4, 2, 2, C))
    if reason == "dead channel":
        x[..., 1] = 2.0  # S = 0: no eps in the ratio
    rows = x.reshape(2, -1, C)
    prior = kr.Moments(np.full((2, C), 6.0), rows.var(axis=1) * [2.0, 3.0, 7.0])
    prior.var[0, 0] *= np.nan if reason == "nan" else 1
    limit = np.mean([2, 3, 7]) * (1 - 1e-12) if reason == "ratio" else 1e9
    plain = kr.BatchNorm(C, statistics_batch_size=2, **F64)
    for shortcut in ("posterior", "prior"):
        layer, y = guarded(x, prior, limit, statistics_batch_size=2, gain_kind="learned", shortcut=shortcut)
        plain.params["gamma"][...], plain.params["beta"][...] = layer.params["gamma"], layer.params["beta"]
        assert gradcheck.max_error(y, plain.forward(x, training=True)) <= tolerances.LOOPS
        side = kr.Moments(*(rng.standard_normal((2, C)) for _ in "mv"))
        dx, darrived = layer.fork_backward(dy, None, side if shortcut == "prior" else None)
        assert gradcheck.max_error(dx, plain.backward(dy)) <= tolerances.LOOPS
        assert gradcheck.max_error(darrived, side if shortcut == "prior" else (np.zeros((2, C)),) * 2) == 0
        assert layer.grads["gain_logit"] == 0


def test_the_guard_lets_a_prior_pass(backend):
    """Below the threshold, over the mean of all channels and statistics batches, the layer is what it is without."""
    x = images(4)
    prior = kr.Moments(np.full((2, C), 6.0), x.reshape(2, -1, C).var(axis=1) * [[2.0, 3.0, 190.0], [1.0, 1.0, 1.0]])
    seen = []
    for guard in (None, 33 * (1 + 1e-12), 33 * (1 - 1e-12)):  # (2 + 3 + 190 + 3) / 6 = 33
        layer, y = guarded(x, prior, guard, statistics_batch_size=2)
        dx, darrived = layer.carry_backward(np.ones_like(y) + y, None)
        seen.append((y, dx, darrived.var))
    assert gradcheck.max_error(seen[1], seen[0]) == 0 and gradcheck.max_error(seen[2][0], seen[0][0]) > 0.01
    assert seen[0][2].any() and not seen[2][2].any()


# ---- running averages and draws --------------------------------------------------------------------------------


@pytest.mark.parametrize("unbiased", [False, True])
def test_running_averages_of_the_first_statistics_batch(unbiased, backend):
    x, decay = images(6), 0.7
    prior = kr.Moments(np.full((3, C), 6.0), np.full((3, C), 4.0))
    mean, var = kr.fuse(prior, kr.observe(x.reshape(3, -1, C)), 0.3)
    var = var * 8 / 7 if unbiased else var
    for running_from, rows in (("first", slice(0, 1)), ("all", slice(None))):
        options = {"decay": decay, "statistics_batch_size": 2, "unbiased_running_var": unbiased}
        layer, _ = guarded(x, prior, None, running_from=running_from, **options)
        expected = (1 - decay) * mean[rows].mean(axis=0), decay + (1 - decay) * var[rows].mean(axis=0)
        assert gradcheck.max_error(tuple(layer.running.values()), expected) <= tolerances.LOOPS


def network(seed=3):
    options = {"in_channels": 2, "classes": 3, "statistics_batch_size": 2, "gain": 0.4}
    return scattered(kr.models.resnet(8, "kn-released", seed=seed, preset="as_released", **options))


def steps(net, count):
    """The bits of every logit and gradient of some training steps."""
    found = []
    for _ in range(count):
        logits = net.forward(X.astype(np.float32), training=True)
        net.backward(kr.cross_entropy(logits, LABELS)[1])
        found.append(b"".join(a.tobytes() for a in (logits, *net.grads.values(), *net.running.values())))
    return found


def test_the_same_seed_gives_the_same_bits_and_a_resumed_run_the_same_draws(backend):
    net, again, other = network(), network(), network()
    first = steps(net, 4)
    assert first == steps(again, 4) and len(set(first)) == 4
    for place, layer in enumerate(layer for _, layer in inference.normalizers(other)):
        layer.counters["seed"][...] = [99, place]  # the weights are the same; only the draws differ
    assert steps(other, 1) != first[:1]
    resumed, saved = network(), network()
    steps(saved, 2)
    resumed.load_state_dict(saved.state_dict())
    assert steps(resumed, 2) == first[2:]


def test_draws_differ_between_layers_and_between_forwards():
    net, found = network(), []
    for _ in range(2):
        looked = []
        with inference.watch(net, lambda path, seen, looked=looked: looked.append(seen.prior)):
            for _ in range(2):
                net.forward(X.astype(np.float32), training=True)
        found.append([prior.mean for prior in looked if prior is not None])
    first, second = found[0][:6], found[0][6:]
    assert all((a != b).all() for a, b in zip(first, second, strict=True))
    # the counters of draws went back at the end: watched again, the same
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))
    make = kr.models.norm_maker("kn-released", None, np.float64, {}, seed=6)
    assert [make(C).options["seed"] for _ in range(3)] == [[6, 0], [6, 1], [6, 2]]
