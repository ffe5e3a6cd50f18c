"""Holds whole networks to the complex step, and the estimates they carry to the claims made for them: what joins, what
is forgotten, what no rescaling changes."""

import copy
import re

import derivations
import numpy as np
import pytest
import tolerances
from test_layers import as_function, images, scattered

import kalnorm_ref as kr
from kalnorm_ref import gradcheck, transport
from kalnorm_ref.layers import Estimate

rng = np.random.default_rng(71)
C, PREVIOUS = 3, 2
F64 = {"dtype": np.float64}

KALMAN = {
    "full": {"transition": "full"},
    "full, gain per channel": {"gain_kind": "learned_per_channel", "statistics_batch_size": 2},
    "diagonal, constant gain": {"transition": "diagonal", "gain_kind": "constant", "gain": 0.3},
    "belief": {"variant": "analytic", "gain": 0.4, "statistics_batch_size": 3},
    "observed": {"variant": "analytic", "push": "observed", "gain": 0.4, "gain_kind": "learned"},
    "observed, prior kept": {"variant": "analytic", "push": "observed", "shortcut": "prior", "gain": 0.6},
    "released": {"variant": "analytic", "push": "released", "gain_kind": "learned_per_channel", "gain": 0.8},
    "belief, prior kept": {"variant": "analytic", "shortcut": "prior", "gain": 0.2, "statistics_batch_size": 2},
}


@pytest.mark.parametrize("name", KALMAN)
def test_gradient_of_a_kalman_layer_in_a_chain(name, backend):
    """To x, to the moments that arrive and to every parameter, from y and from both estimates that leave."""
    options = KALMAN[name]
    analytic, x = "variant" in options, images()
    groups = len(x) // options.get("statistics_batch_size", len(x))
    previous = PREVIOUS if not analytic and options.get("transition") != "diagonal" else C
    layer = scattered(kr.KalmanNorm(C, previous, eps=0.1, **options, **F64))
    arrives = kr.Moments(rng.normal(3, 2, (groups, previous)), rng.uniform(2, 9, (groups, previous)))

    def run(layer, x, moments):
        y, pushed, kept = layer.fork(x, Estimate(moments, analytic), training=True)
        return y, pushed.moments, kept and kept.moments

    function = as_function(copy.deepcopy(layer), run=run)
    y, pushed, kept = run(layer, x, arrives)
    up = [
        None if pair is None else kr.Moments(*(rng.standard_normal(s.shape) for s in pair)) for pair in (pushed, kept)
    ]
    dy = rng.standard_normal(y.shape)
    gradients = (*layer.fork_backward(dy, *up), *(layer.grads[key] for key in layer.params))
    assert (kept is None) == (not analytic)
    arguments = (x, arrives, *layer.params.values())
    gradcheck.check(function, arguments, (dy, *up), gradients, tolerances.COMPLEX_STEP)


def test_constant_gain_1_is_batch_norm(backend):
    x, dy = images(), rng.standard_normal((6, 2, 2, C))
    plain = scattered(kr.BatchNorm(C, statistics_batch_size=3, **F64))
    kalman = kr.KalmanNorm(C, PREVIOUS, gain=1, gain_kind="constant", statistics_batch_size=3, **F64)
    for key in ("gamma", "beta"):
        kalman.params[key][...] = plain.params[key]
    prior = Estimate(kr.Moments(np.full((2, PREVIOUS), 30.0), np.full((2, PREVIOUS), 9.0)), False)
    y, _ = kalman.carry(x, prior, training=True)
    assert gradcheck.max_error(y, plain.forward(x, training=True)) <= tolerances.LOOPS
    dx, _ = kalman.carry_backward(dy, None)
    assert gradcheck.max_error(dx, plain.backward(dy)) <= tolerances.LOOPS
    for key, value in {**plain.grads, **plain.running}.items():
        assert gradcheck.max_error({**kalman.grads, **kalman.running}[key], value) <= tolerances.LOOPS


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
}
X, LABELS = np.random.default_rng(1).normal(3.0, 2.0, (6, 8, 8, 2)), np.array([0, 1, 2, 2, 1, 0])


def everything(norm, **options):
    """A small network with every kind of layer, both kinds of residual unit and a bias where one is rare."""
    make = kr.models.norm_maker(norm, 3, np.float64, options if norm == "none" else {"eps": 1e-2, **options})
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


@pytest.mark.parametrize(
    ("layer", "method", "mistake", "first_wrong"),
    [
        (kr.Conv2d, "transport_backward", wrong_conv, "3.main.0.weight"),
        (kr.ReLU, "transport_backward", lambda self, dmoments, moments: dmoments, "1.gamma"),
        (kr.MaxPool2d, "transport_backward", lambda self, dmoments, moments: dmoments, "1.gamma"),
        (kr.KalmanNorm, "_prior_backward", lambda self, dprior, dgain, arrived: None, "1.gamma"),
    ],
    ids=["weight path dropped", "relu ignored", "max pool ignored", "prior ignored"],
)
def test_planted_mistake_is_found(layer, method, mistake, first_wrong, monkeypatch):
    net = network("kn-analytic, observed")
    with kr.use_backend("numpy"):
        assert max(gradcheck.check_network(net, X, LABELS, floor=FLOOR).values()) <= tolerances.NETWORK
        monkeypatch.setattr(layer, method, mistake)
        errors = gradcheck.check_network(net, X, LABELS, floor=FLOOR)
    wrong = [path for path, error in errors.items() if error > tolerances.NETWORK]
    assert first_wrong in wrong
    if mistake is wrong_conv:  # every convolution between two normalizers, and nothing else
        assert wrong == [path for path, p in net.params.items() if p.ndim == 4 or path == "4.main.3.bias"][1:]


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
    carried = net.carry(x, Estimate(pair, True))[1].moments
    expected = transport.relu(transport.max_pool(pair, 2))
    assert gradcheck.max_error(carried, expected) <= tolerances.IDENTITY
    assert [type(layer) for layer in net.layers] == [kr.ReLU, kr.MaxPool2d]
    carried = kr.Residual(net, kr.AvgPool2d(2)).carry(x, Estimate(pair, True))[1].moments
    assert gradcheck.max_error(carried, transport.add(expected, transport.avg_pool(pair, 2))) <= tolerances.IDENTITY


@pytest.mark.parametrize("shortcut", ["posterior", "prior"])
def test_join_of_a_residual_unit(shortcut, backend):
    """Analytic: the moments of both branches add. The shortcut takes the head's posterior, or its prior."""
    head = scattered(kr.KalmanNorm(C, C, "analytic", 0.3, shortcut=shortcut, **F64))
    linear = kr.Linear(C, C, **F64)
    x, prior = images(5, 1, 1)[:, 0, 0], kr.Moments(np.full((1, C), 6.0), np.full((1, C), 4.0))
    y, joined = kr.Residual(kr.Sequential(head, kr.ReLU(), linear)).carry(x, Estimate(prior, True), training=True)
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
    _, carried = unit.carry(x, Estimate(prior, False), training=True)
    transported = derivations.predict(prior, norm.params["transition"], np.exp(norm.params["log_noise"]))
    mean, var = derivations.fuse(transported, derivations.observe(x.reshape(3, -1, C)), 0.3)
    assert gradcheck.max_error(tuple(carried.moments), (mean, var)) <= tolerances.LOOPS and not carried.transported
    running = 0.2 * mean.mean(axis=0), 0.8 + 0.2 * var.mean(axis=0)  # of what it normalizes with, fused
    assert gradcheck.max_error(tuple(norm.running.values()), running) <= tolerances.LOOPS


def chain(push):
    """Three normalizers with convolutions between them, and no residual stream."""
    draw, layers = np.random.default_rng(3), []
    for before, after in ((2, 4), (4, 4), (4, 5)):
        norm = kr.KalmanNorm(after, before if layers else None, "analytic", 0.4, eps=1e-12, push=push, **F64)
        layers += [kr.ReLU()] if layers else []
        layers += [kr.Conv2d(before, after, 3, padding=1, rng=draw, **F64), scattered(norm, seed=len(layers))]
    return kr.Sequential(*layers)


@pytest.mark.parametrize(("push", "forgets"), [("belief", True), ("observed", False), ("released", False)])
def test_a_belief_forgets_the_data(push, forgets):
    """Without residual streams the next prior is a function of gamma, beta and the weights (C.4)."""
    before_last = kr.Sequential(*chain(push).layers[:-1])
    first, second = (before_last.carry(x, None, training=True)[1].moments for x in (X, 9 * X**2 - 4))
    error = gradcheck.max_error(first, second)
    assert error <= tolerances.FORGOTTEN if forgets else error > 1e-3


@pytest.mark.parametrize(("push", "invariant"), [("belief", True), ("observed", True), ("released", False)])
def test_scale_of_the_weights(push, invariant):
    net, scaled = chain(push), chain(push)
    scaled.params["3.weight"][...] *= 7
    y, z = (n.forward(X, training=True) for n in (net, scaled))
    assert (y.std(axis=(0, 1, 2)) > 0.05).all()  # no dead channel, which nothing would change
    error = gradcheck.max_error(z, y)
    assert error <= tolerances.SCALED_WEIGHTS if invariant else error > 0.1


def test_shrink_knows_no_other_layer(backend):
    layer, x = kr.KalmanNorm(C, PREVIOUS, transition="zero", gain=0.2, **F64), images()
    outputs = []
    for mean in (0.0, 1e6):
        arrives = kr.Moments(np.full((1, PREVIOUS), mean), np.full((1, PREVIOUS), mean + 1))
        outputs.append(copy.deepcopy(layer).carry(x, Estimate(arrives, False), training=True)[0])
    outputs.append(copy.deepcopy(layer).forward(x, training=True))
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])


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
