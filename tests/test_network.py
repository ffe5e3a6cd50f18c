"""Holds whole networks to the complex step, and the estimates they carry to the claims made for them: what joins
where a shortcut ends, and what the layers on the way do to them."""

import copy
import re

import numpy as np
import pytest
import tolerances
from test_layers import images, scattered

import kalnorm_ref as kr
from kalnorm_ref import gradcheck, transport
from kalnorm_ref.gradproof.loops import normalizers as derivations
from kalnorm_ref.layers import Estimate

rng = np.random.default_rng(71)
pytestmark = pytest.mark.usefixtures("reseeded")
C, PREVIOUS = 3, 2
F64 = {"dtype": np.float64}

# ---- whole networks ----------------------------------------------------------------------------------------------

NORMS = {
    "bn": {},
    "brn": {"r_max": 1.1, "d_max": 0.2},
    "none": {},
    "kn-learned": {"gain": 0.4},
    "kn-learned, per channel": {"gain_kind": "learned_per_channel"},
    "kn-learned, constant": {"gain_kind": "constant", "gain": 0.2},
    "kn-shrink": {},
    "kn-analytic, belief": {"push": "belief", "gain": 0.3},
    "kn-analytic, belief, prior kept": {"push": "belief", "shortcut": "prior", "gain_kind": "learned"},
    "kn-analytic, observed": {"push": "observed", "gain": 0.6},
    "kn-analytic, observed, prior kept": {"push": "observed", "shortcut": "prior", "gain": 0.4},
    "kn-analytic, released": {"push": "released", "gain_kind": "learned_per_channel"},
    "kn-analytic, released, prior kept": {"push": "released", "shortcut": "prior", "gain": 0.7},
    "kn-analytic, pseudo-count": {"gain_kind": "pseudo_count", "gain": 0.4},
    "kn-learned, pseudo-count": {"gain_kind": "pseudo_count"},
    "kn-learned, noise per channel": {"noise_form": "diagonal", "gain": 0.6},
    "kn-learned, shared noise": {"noise": "shared", "gain": 0.4},
    "kn-learned, full covariance": {"covariance": "full", "gain": 0.4},
    "kn-learned, full covariance, any noise": {"covariance": "full", "noise_form": "cholesky", "gain": 0.2},
    "kn-learned, full covariance, shared noise": {"covariance": "full", "noise": "shared", "gain_kind": "pseudo_count"},
    "kn-shrink, full covariance": {"covariance": "full", "noise_form": "diagonal"},
    "kn-filter": {},
    "kn-filter, shared noise": {"noise": "shared"},
    "bn, first by image": {"first": "image"},
    "brn, first by image": {"first": "image", "r_max": 1.1, "d_max": 0.2},
    "kn-learned, first by image": {"first": "image", "gain": 0.4},
    "kn-shrink, first by image": {"first": "image"},
    "kn-analytic, first by image, belief": {"first": "image", "gain_kind": "learned"},
    "kn-analytic, first by image, observed": {"first": "image", "push": "observed", "gain": 0.6},
    "kn-analytic, first by image, released": {"first": "image", "push": "released", "gain": 0.3},
    "kn-released": {"gain": 0.3},
    "kn-released, as released": {"preset": "as_released", "gain": 0.3},
    "kn-released, trained": {"shortcut": "prior", "gain_kind": "learned_per_channel"},
    "gn": {"groups": 1},
    "gkn": {"groups": 1},
}
X, LABELS = np.random.default_rng(1).normal(3.0, 2.0, (6, 8, 8, 2)), np.array([0, 1, 2, 2, 1, 0])


def everything(norm, **options):
    """A small network with every kind of layer, both kinds of residual unit and a bias where one is rare."""
    make = kr.models.norm_maker(norm, 3, np.float64, options if norm == "none" else {"eps": 1e-2, **options}, seed=8)
    draw = np.random.default_rng(2)
    conv = lambda *a, **k: kr.Conv2d(*a, **k, rng=draw, dtype=np.float64)  # noqa: E731
    start = conv(2, 4, 3, padding=1), make(4), kr.ReLU()
    same = kr.Sequential(conv(4, 4, 3, padding=1), make(4), kr.ReLU(), conv(4, 4, 1))
    head = make(4), kr.ReLU(), kr.Dropout(0.8, 3)
    wide = kr.Sequential(*head, conv(4, 6, 3, 2, ((0, 1), (1, 0)), bias=True), make(6), kr.ReLU(), conv(6, 6, 1))
    narrow = kr.Sequential(kr.AvgPool2d(2, 0.3), kr.PadChannels(1, 1))
    middle = kr.ReLU(), kr.MaxPool2d(2), kr.Flatten(), kr.Linear(24, 5, rng=draw, **F64), make(5), kr.ReLU()
    end = kr.Linear(5, 3, rng=draw, **F64)
    net = kr.Sequential(*start, kr.Residual(same), kr.Residual(wide, narrow), *middle, end)
    return scattered(net)


def network(name):
    return everything(name.split(",")[0], **NORMS[name])


FLOOR = 1e-3  # a gradient that is zero in exact arithmetic, such as a bias before BN, is compared with this


@pytest.mark.parametrize("name", NORMS)
def test_gradient_of_a_network(name):
    net = network(name)
    with kr.use_backend("numpy"):
        net.forward(X + 1, training=True)  # running averages, and the draws of dropout, that are not the first
        errors = gradcheck.check_network(net, X, LABELS, floor=FLOOR)
    assert errors.keys() == {"x", *net.params} and max(errors.values()) <= tolerances.NETWORK, errors


@pytest.mark.parametrize("name", NORMS)
def test_backends_give_the_same_gradients(name, backend):
    net, results = network(name), []
    for choice in ("numpy", backend):
        fresh = copy.deepcopy(net)
        with kr.use_backend(choice):
            loss, dlogits = kr.cross_entropy(fresh.forward(X, training=True), LABELS)
            results.append([np.array(loss), fresh.backward(dlogits), *fresh.grads.values(), *fresh.running.values()])
    for a, b in zip(*results, strict=True):
        assert np.max(np.abs(a - b)) <= tolerances.BACKENDS * max(np.max(np.abs(b)), FLOOR)


def wrong_conv(self, dmoments, moments):
    arguments = moments, self.params["weight"], self.stride, self.padding, self.input_size
    return transport.conv2d_backward(dmoments, *arguments)[0]


def wrong_sample(self, dmoments, moments, sampler):
    arguments = moments, self._draws, self.params["weight"], self.stride, self.padding
    return transport.sampled_backward(dmoments, *arguments)[0]


def prior_ignored(self, *arguments, right=kr.KalmanNorm.normalize_backward):
    dx, _, grads = right(self, *arguments)
    return dx, None, grads


def not_lent(self, grads):
    return {name: gradient for name, gradient in grads.items() if self.transition.lender is None or name != "log_noise"}


def own_batch(self, dmoments, moments, sampler):
    return transport.pad_channels_backward(dmoments, moments, self.before, self.after)


MISTAKES = {
    "weight path dropped": ("kn-analytic, observed", kr.Conv2d, "transport_backward", wrong_conv, "3.main.0.weight"),
    "relu ignored": ("kn-analytic, observed", kr.ReLU, "transport_backward", lambda self, d, moments: d, "1.gamma"),
    "max pool ignored": (
        "kn-analytic, observed",
        *(kr.MaxPool2d, "transport_backward", lambda self, d, moments: d, "1.gamma"),
    ),
    "prior ignored": ("kn-analytic, observed", kr.KalmanNorm, "normalize_backward", prior_ignored, "1.gamma"),
    "prior of a held estimate ignored": (
        "kn-learned, full covariance",
        *(kr.KalmanNorm, "normalize_backward", prior_ignored, "3.main.1.transition"),
    ),
    "shared noise not lent": ("kn-learned, shared noise", kr.KalmanNorm, "_own", not_lent, "3.main.1.log_noise"),
    "sampled weight path dropped": ("kn-released", kr.Conv2d, "sample_backward", wrong_sample, "3.main.0.weight"),
    "padding of its own batch": (
        "kn-released, as released",
        *(kr.PadChannels, "sample_backward", own_batch, "3.main.3.weight"),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistake_is_found(mistake, monkeypatch):
    name, layer, method, wrong, first_wrong = MISTAKES[mistake]
    net = network(name)
    with kr.use_backend("numpy"):
        assert max(gradcheck.check_network(net, X, LABELS, floor=FLOOR).values()) <= tolerances.NETWORK
        monkeypatch.setattr(layer, method, wrong)
        errors = gradcheck.check_network(net, X, LABELS, floor=FLOOR)
    found = [path for path, error in errors.items() if error > tolerances.NETWORK]
    assert first_wrong in found
    if wrong is wrong_conv:  # every convolution between two normalizers, and nothing else
        assert found == [path for path, p in net.params.items() if p.ndim == 4 or path == "4.main.3.bias"][1:]
    if wrong is not_lent:
        assert found == [first_wrong]


# ---- what is carried ---------------------------------------------------------------------------------------------


def test_relu_and_max_pool_swap_unseen():
    """The two commute: listed or swapped, outputs and gradients are the same, but a Gaussian is pooled first."""
    net = kr.Sequential(kr.ReLU(), kr.MaxPool2d(2))
    x = rng.normal(-0.5, 1.0, (3, 4, 6, 2)).round(1)  # ties, zeros, and blocks without a positive value
    dy = rng.standard_normal((3, 2, 3, 2))
    relu, pool = kr.ReLU(), kr.MaxPool2d(2)
    np.testing.assert_array_equal(net.forward(x, training=True), pool.forward(relu.forward(x)))
    np.testing.assert_array_equal(net.backward(dy), relu.backward(pool.backward(dy)))
    pair = kr.Moments(rng.normal(size=(1, 2)), np.ones((1, 2)))
    carried = net.carry(x, Estimate(pair, "closed"))[1].moments
    expected = transport.relu(transport.max_pool(pair, 2))
    assert gradcheck.max_error(carried, expected) <= tolerances.IDENTITY
    assert [type(layer) for layer in net.layers] == [kr.ReLU, kr.MaxPool2d]
    carried = kr.Residual(net, kr.AvgPool2d(2)).carry(x, Estimate(pair, "closed"))[1].moments
    assert gradcheck.max_error(carried, transport.add(expected, transport.avg_pool(pair, 2))) <= tolerances.IDENTITY


@pytest.mark.parametrize("shortcut", ["posterior", "prior"])
def test_join_of_a_residual_unit(shortcut, backend):
    """Analytic: the moments of both branches add. The shortcut takes the head's posterior, or its prior."""
    head = scattered(kr.KalmanNorm(C, C, "analytic", 0.3, shortcut=shortcut, **F64))
    linear = kr.Linear(C, C, **F64)
    x, prior = images(5, 1, 1)[:, 0, 0], kr.Moments(np.full((1, C), 6.0), np.full((1, C), 4.0))
    y, joined = kr.Residual(kr.Sequential(head, kr.ReLU(), linear)).carry(x, Estimate(prior, "closed"), training=True)
    posterior = kr.Moments(*derivations.fuse(prior, derivations.observe(x[None]), 0.3))
    pushed = transport.push("belief", posterior, None, head.params["gamma"], head.params["beta"], head.eps)
    main = transport.linear(transport.relu(pushed), *linear.params.values())
    expected = transport.add(main, {"posterior": posterior, "prior": prior}[shortcut])
    assert gradcheck.max_error(joined.moments, expected) <= tolerances.LOOPS
    normalized = np.maximum(derivations.standardize(x[None], posterior, *head.params.values(), head.eps)[0], 0)
    out = normalized @ linear.params["weight"] + linear.params["bias"] + x
    assert gradcheck.max_error(y, out) <= tolerances.LOOPS


@pytest.mark.parametrize("leading", [True, False], ids=["head", "no head"])
def test_join_of_learned_estimates_keeps_the_main_branch(leading, backend):
    norm = kr.KalmanNorm(C, PREVIOUS, gain=0.3, decay=0.8, statistics_batch_size=2, **F64)
    prior = kr.Moments(rng.normal(6, 1, (3, PREVIOUS)), rng.uniform(2, 4, (3, PREVIOUS)))
    unit = kr.Residual(kr.Sequential(*([] if leading else [kr.Identity()]), norm, kr.ReLU()))
    x = images()
    _, carried = unit.carry(x, Estimate(prior), training=True)
    transported = derivations.predict(prior, norm.params["transition"], np.exp(norm.params["log_noise"]))
    mean, var = derivations.fuse(transported, derivations.observe(x.reshape(3, -1, C)), 0.3)
    assert gradcheck.max_error(tuple(carried.moments), (mean, var)) <= tolerances.LOOPS and carried.travel == "held"
    running = 0.2 * mean.mean(axis=0), 0.8 + 0.2 * var.mean(axis=0)  # of what it normalizes with, fused
    assert gradcheck.max_error(tuple(norm.running.values()), running) <= tolerances.LOOPS


def test_a_join_is_forgotten_by_the_next_forward():
    """A gradient to moments that were handed on, after a forward that added them: it is not split again."""
    unit, x = kr.Residual(kr.Sequential(kr.ReLU())), images()
    pair, dmoments = (kr.Moments(rng.normal(size=(1, C)), rng.uniform(1, 2, (1, C))) for _ in "ab")
    unit.carry(x, Estimate(pair, "closed"), training=True)
    unit.carry(x, Estimate(pair, "held"), training=True)
    _, back = unit.carry_backward(rng.standard_normal(x.shape), dmoments)
    assert gradcheck.max_error(back, dmoments) == 0


# ---- containers --------------------------------------------------------------------------------------------------


def test_params_are_flat_and_live():
    net = network("kn-learned")
    assert list(net.params) == list(net.grads)
    assert {"0.weight", "1.gamma", "3.main.1.transition", "4.main.3.bias", "9.gain_logit"} <= net.params.keys()
    assert {"1.running_mean", "4.main.0.running_var"} <= net.running.keys()
    assert net.params["3.main.1.gamma"] is net.layers[3].children["main"].layers[1].params["gamma"]
    y = net.forward(X)
    net.params["11.bias"] += 1
    np.testing.assert_allclose(net.forward(X), y + 1, rtol=1e-12)
    _, dlogits = kr.cross_entropy(y, LABELS)
    net.backward(dlogits)
    assert net.grads["0.weight"].any()
    first = {path: g.copy() for path, g in net.grads.items()}
    net.forward(X)
    net.backward(dlogits)
    assert all(np.array_equal(net.grads[path], g) for path, g in first.items())  # overwritten, not added to


def test_training_needs_no_gradient_to_the_images(backend):
    net = kr.models.resnet(8, "kn-analytic", statistics_batch_size=2)
    x = np.random.default_rng(5).normal(3, 2, (4, 8, 8, 3)).astype(np.float32)
    dlogits = np.random.default_rng(6).normal(size=net.forward(x, training=True).shape).astype(np.float32)
    dx = net.backward(dlogits)
    assert dx.shape == x.shape
    grads = {path: g.copy() for path, g in net.grads.items()}
    net.forward(x, training=True)
    assert net.backward(dlogits, input_gradient=False) is None
    assert all(np.array_equal(net.grads[path], g) for path, g in grads.items())
    net.forward(x, training=True)
    np.testing.assert_array_equal(net.backward(dlogits), dx)  # asked for again, it is there again


def test_one_backward_for_each_forward():
    net = network("kn-analytic, belief")
    dy = np.ones_like(net.forward(X, training=True))
    net.backward(dy)
    message = "Linear.backward needs a forward before it; each forward serves one backward"
    with pytest.raises(RuntimeError, match=rf"^{re.escape(message)}$"):
        net.backward(dy)


@pytest.mark.parametrize("name", NORMS)
def test_state_resumes_to_the_same_bits(name, backend):
    net, other = network(name), scattered(network(name), seed=9)
    net.forward(X, training=True)
    other.load_state_dict(net.state_dict())
    for training in (False, True, False):
        np.testing.assert_array_equal(net.forward(X, training), other.forward(X, training))
    state = net.state_dict()
    state.pop("0.weight")
    message = "the state does not fit this network: missing ['0.weight'], not known []"
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        other.load_state_dict(state)
    np.testing.assert_array_equal(net.forward(X), other.forward(X))
