"""Holds the variant "released" to the authors' code: every statistic of a ResNet against a second one in scalar loops.

Their code was read (docs/paper_and_code.md says where) and described; tests/released_loops.py follows the description
with nothing of the package but its parameters and draws. Each of the places where their code looks mistaken is an
option, and each option is held to the loops at both values.
"""

import functools

import numpy as np
import pytest
import released_loops
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import gradcheck
from kalnorm_ref.inference import normalizers, watch

SEED, SIZE, BATCHES, EPS = 5, 2, 3, 1e-3
X = np.random.default_rng(1).normal(3, 2, (BATCHES * SIZE, 8, 4, 2))
AS_RELEASED = {
    "shortcut": "prior",
    "channel_padding": "concatenated",
    "running_from": "first",
    "guard": 100.0,
    "conv_padding": "same",
}
CORRECTED = {
    "shortcut": "posterior",
    "channel_padding": "per_batch",
    "running_from": "all",
    "guard": None,
    "conv_padding": "symmetric",
}
LOUD = 20.0  # the guard fires where the second convolution is so much larger


def network(depth=8, scale=1.0, prior_weight=0.9, **options):
    """A network with gamma, beta and bias of its own; `scale` multiplies its second convolution."""
    options = {"eps": EPS, "gain": 1 - prior_weight} | options
    net = kr.models.resnet(
        depth, norm="kn-released", in_channels=2, classes=3, statistics_batch_size=SIZE, seed=SEED, dtype=np.float64,
        **options,
    )  # fmt: skip
    rng = np.random.default_rng(3)
    for name, a in net.params.items():
        if name.endswith(("gamma", "beta", "bias")):
            a[...] = rng.normal(float(name.endswith("gamma")) + 0.2, 0.4, a.shape)
    net.params["3.main.0.weight"][...] *= scale
    return net


def by_package(net, forwards=1):
    """What the package makes of X: logits, and for each normalizer priors, fused, running, each (mean, variance)."""
    found = {"priors": [], "fused": [], "running": []}

    def observer(path, seen):
        found["priors"].append(None if seen.prior is None else tuple(map(np.ravel, seen.prior)))
        found["fused"].append(tuple(map(np.ravel, seen.used)))

    for _ in range(forwards - 1):
        net.forward(X, training=True)
    with watch(net, observer):
        found["logits"] = net.forward(X, training=True)
    net.forward(X, training=True)
    found["running"] = [(n.running["running_mean"], n.running["running_var"]) for _, n in normalizers(net)]
    return found


def draws_of(net, forward):
    """The draws of each normalizer but the last in a training forward, in the shape of the next convolution's input."""
    sizes = [X.shape[1:3]]
    for name, a in net.params.items():
        if name.endswith("weight") and a.ndim == 4:
            halve = sizes[1:] and a.shape[3] == 2 * a.shape[2]
            sizes.append(tuple(n // 2 for n in sizes[-1]) if halve else sizes[-1])
    for k, (_, norm) in enumerate(list(normalizers(net))[:-1]):
        rng = np.random.default_rng([SEED, k, forward])
        yield rng.standard_normal((BATCHES, *sizes[k + 1], len(norm.params["gamma"]))).tolist()


def by_loops(net, rules, forward=0, running_before=None, mistake=None):
    lent = {"convolutions": [], "norms": [], "linear": []}
    for name, a in net.params.items():
        kind = "linear" if name.endswith("bias") or a.ndim == 2 else "convolutions" if a.ndim == 4 else "norms"
        lent[kind].append(a.tolist())
    lent["norms"] = list(zip(lent["norms"][::2], lent["norms"][1::2], strict=True))
    if running_before is None:
        running_before = [([0.0] * len(gamma), [1.0] * len(gamma)) for gamma, _ in lent["norms"]]
    rules = {"batches": BATCHES, "prior_weight": 0.9, "eps": EPS, "decay": 0.9} | rules
    return released_loops.resnet(X.tolist(), lent, list(draws_of(net, forward)), running_before, rules, mistake)


def errors(package, expected):
    """The largest error of the logits, and of each kind of statistic at each normalizer; 0 for priors that are None."""
    found = {"logits": [gradcheck.max_error(package["logits"], np.array(expected["logits"]))]}
    for kind in ("priors", "fused", "running"):
        pairs = zip(package[kind], expected[kind], strict=True)
        found[kind] = [0.0 if None in (a, b) else gradcheck.max_error(a, tuple(map(np.array, b))) for a, b in pairs]
    return found


def worst(package, loops):
    return max(max(found) for found in errors(package, loops).values())


@functools.cache
def reference(scale=1.0, **switched):
    """The loops' results, without mistake."""
    rules = AS_RELEASED | switched
    return by_loops(network(scale=scale, **rules), rules)


def test_every_statistic_is_that_of_the_loops(backend):
    net = network(preset="as_released")
    package = by_package(net)
    assert [prior is None for prior in package["priors"]] == [True] + 6 * [False]
    assert worst(package, reference()) <= tolerances.RELEASED_LOOPS


def test_preset_is_the_options_spelled_out(backend):
    preset, spelled = (by_package(network(**options)) for options in ({"preset": "as_released"}, AS_RELEASED))
    assert worst(preset, spelled) == 0.0


def test_gain_of_statistics_batches_of_two_is_the_micro_batch_one():
    """Their prior weight for 2 images a statistics batch, 0.9, is what the package has unless told otherwise."""
    net = kr.models.resnet(8, norm="kn-released", statistics_batch_size=SIZE, preset="as_released")
    assert {norm.gain() for _, norm in list(normalizers(net))[1:]} == {0.1}


@pytest.mark.parametrize("prior_weight", [0.05, 0.4])
def test_other_prior_weights(prior_weight):
    """0.05 is theirs for large batches."""
    package = by_package(network(preset="as_released", prior_weight=prior_weight))
    net, rules = network(preset="as_released", prior_weight=prior_weight), AS_RELEASED | {"prior_weight": prior_weight}
    assert worst(package, by_loops(net, rules)) <= tolerances.RELEASED_LOOPS
    assert worst(package, reference()) > 0.01


def test_units_whose_shortcut_is_the_identity():
    """Two units a stage: the second of each has a normalizer at its head and widens nothing."""
    options = {"preset": "as_released"}
    package = by_package(network(14, **options))
    assert len(package["fused"]) == 13
    assert worst(package, by_loops(network(14, **options), AS_RELEASED)) <= tolerances.RELEASED_LOOPS


def test_second_forward_has_draws_and_running_averages_of_its_own():
    first, net = reference(), network(preset="as_released")
    package = by_package(net, forwards=2)
    second = by_loops(network(preset="as_released"), AS_RELEASED, forward=1, running_before=first["running"])
    assert worst(package, second) <= tolerances.RELEASED_LOOPS
    assert worst(package, first) > 0.01


# option -> the normalizers whose statistics change with it, and those whose running averages do
REACHES = {
    "shortcut": ([4, 5, 6], [4, 5, 6]),
    "channel_padding": ([4, 5, 6], [4, 5, 6]),
    "conv_padding": ([3, 4, 5, 6], [3, 4, 5, 6]),
    "running_from": ([], [0, 1, 2, 3, 4, 5, 6]),
    "guard": ([], []),
}


@pytest.mark.parametrize("name", REACHES)
def test_corrected_option(name):
    """Alone it changes what it should and nothing before that, and equals the loops with the same option."""
    switched = {name: CORRECTED[name]}
    package = by_package(network(**AS_RELEASED | switched))
    assert worst(package, reference(**switched)) <= tolerances.RELEASED_LOOPS
    changed = errors(package, reference())
    for kind, expected in zip(("fused", "running"), REACHES[name], strict=True):
        assert [k for k, error in enumerate(changed[kind]) if error > 0.01] == expected
        assert max([error for k, error in enumerate(changed[kind]) if k not in expected], default=0.0) <= (
            tolerances.RELEASED_LOOPS
        )


def test_all_corrected_at_once_is_the_default():
    package = by_package(network())
    assert worst(package, reference(**CORRECTED)) <= tolerances.RELEASED_LOOPS


def test_guard_fires_and_what_follows(backend):
    """A convolution 20 times as large: the priors behind it leave the hundredfold of what the batches have.

    Inside the blocks both the prior and the batch pass through the same convolution, so there it does not fire.
    """
    package = by_package(network(scale=LOUD, preset="as_released"))
    assert [k for k, prior in enumerate(package["priors"]) if prior is None] == [0, 2, 4, 6]
    assert worst(package, reference(LOUD)) <= tolerances.RELEASED_LOOPS


def test_guard_off_where_it_would_fire():
    package = by_package(network(scale=LOUD, **AS_RELEASED | {"guard": None}))
    assert [k for k, prior in enumerate(package["priors"]) if prior is None] == [0]
    assert worst(package, reference(LOUD, guard=None)) <= tolerances.RELEASED_LOOPS
    changed = errors(package, reference(LOUD))["fused"]
    assert [k for k, error in enumerate(changed) if error > 0.01] == [2, 3, 4, 5, 6]


def test_guard_rejects_what_is_not_below_it():
    """Strictly below, and NaN is not."""
    for prior, batch, kept in ((2.0, 1.0, True), (100.0, 1.0, False), (1.0, 0.0, False), (0.0, 0.0, False)):
        norm = kr.KalmanNorm(1, 1, "released", gain=0.5, preset="as_released")
        x = np.array([[-1.0], [1.0]]) * batch**0.5
        _, estimate = norm.carry(
            x, kr.layers.Estimate(kr.Moments(np.array([[3.0]]), np.array([[prior]])), "sampled"), True
        )
        assert estimate.moments.mean[0, 0] == (1.5 if kept else 0.0)


def test_padding_end_to_end():
    """Two statistics batches of two channels: (0, 0, a0, a1), (b0, b1, 0, 0), where (0, a0, a1, 0) would be right."""
    estimate = kr.Moments(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]]))
    mean, var = kr.transport.pad_concatenated(estimate, 1, 1)
    np.testing.assert_array_equal(mean, [[0, 0, 1, 2], [3, 4, 0, 0]])
    np.testing.assert_array_equal(var, [[0, 0, 5, 6], [7, 8, 0, 0]])
    np.testing.assert_array_equal(kr.transport.pad_channels(estimate, 1, 1).mean, [[0, 1, 2, 0], [0, 3, 4, 0]])
    uneven, _ = kr.transport.pad_concatenated(estimate, 0, 1)
    np.testing.assert_array_equal(uneven, [[1, 2, 3], [4, 0, 0]])


@pytest.mark.parametrize("mistake", released_loops.MISTAKES)
def test_planted_mistake_is_seen(mistake):
    loops = by_loops(network(preset="as_released"), AS_RELEASED, mistake=mistake)
    assert worst(by_package(network(preset="as_released")), loops) > 1e-3


@pytest.mark.parametrize("mistake", released_loops.GUARD_MISTAKES)
def test_planted_mistake_in_the_guard_is_seen(mistake):
    loops = by_loops(network(scale=LOUD, preset="as_released"), AS_RELEASED, mistake=mistake)
    assert worst(by_package(network(scale=LOUD, preset="as_released")), loops) > 1e-3
