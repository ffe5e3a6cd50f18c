"""Networks name the normalizers and options that exist, hand them on, and refuse the rest in words."""

import inspect
import re

import numpy as np
import pytest
from test_models import NORMS, layers_of

import kalnorm_ref as kr
from kalnorm_ref import models

OPTIONS = {
    "bn": "decay, eps, first, inference, unbiased_running_var",
    "brn": "d_max, decay, eps, first, inference, r_max, unbiased_running_var",
    "kn-learned": "covariance, decay, eps, first, gain, gain_kind, inference, noise, noise_form, transition, "
    "unbiased_running_var",
    "kn-shrink": "covariance, decay, eps, first, gain, gain_kind, inference, noise, noise_form, unbiased_running_var",
    "kn-released": "channel_padding, conv_padding, decay, eps, gain, gain_kind, guard, inference, preset, "
    "running_from, shortcut, unbiased_running_var",
    "kn-analytic": "decay, eps, first, gain, gain_kind, inference, push, shortcut, unbiased_running_var",
    "kn-filter": "decay, eps, inference, noise, noise_form, transition, unbiased_running_var",
    "gn": "eps, groups",
    "ln": "eps",
    "in": "eps",
    "gkn": "eps, gain, gain_kind, groups, noise, transition",
    "none": "none",
}
each_model = pytest.mark.parametrize("model", [models.resnet, models.cnn5, models.mlp])


def refused(message, error=ValueError):
    return pytest.raises(error, match=rf"^{re.escape(message)}$")


@each_model
def test_what_does_not_exist_is_listed(model):
    listed = (
        "bn, brn, kn-learned, kn-shrink, kn-released, kn-analytic, kn-filter, gn, ln, in, gkn, none"  # all, in order
    )
    for norm in ("BN", "kn", None):
        with refused(f"norm is {norm!r}; expected one of {listed}"):
            model(norm=norm)
    assert list(OPTIONS) == NORMS
    for norm, known in OPTIONS.items():
        assert ", ".join(models.norm_options(norm)) == ("" if norm == "none" else known)
        with refused(f"norm option 'seeds' does not exist for {norm}; its options are: {known}"):
            model(norm=norm, seeds=4)
    assert list(inspect.signature(model).parameters)[-1] == "norm_options"


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "none"])
def test_every_listed_option_reaches_its_layers(norm):
    values = {
        "eps": 0.3,
        "decay": 0.4,
        "gain": 0.6,
        "gain_kind": "learned",
        "inference": "batch",
        "groups": 2,
        "transition": "diagonal",
        "push": "observed",
        "shortcut": "prior",
        "channel_padding": "concatenated",
        "running_from": "first",
        "guard": 7.0,
    }
    for option in set(models.norm_options(norm)) & set(values):
        make = models.norm_maker(norm, None, np.float64, {option: values[option]})
        for layer in (make(4), make(4)):
            held = {**vars(layer), **getattr(layer, "options", {})}
            if option in ("gain", "gain_kind"):
                held[option] = layer.gain_rule.initial if option == "gain" else layer.gain_rule.kind
            if norm == "gkn" and option == "transition":
                held[option] = values[option] if layer.transition is None else layer.transition.kind
            assert held[option] == values[option]


@pytest.mark.parametrize(
    ("norm", "options", "message"),
    [
        (
            "kn-analytic",
            {"push": "prior"},
            "push is 'prior'; expected one of 'belief', 'observed', 'released' for the variant 'analytic'",
        ),
        ("kn-shrink", {"transition": "full"}, None),
        ("kn-filter", {"gain": 0.3}, None),
        (
            "kn-filter",
            {"transition": "zero"},
            "transition is 'zero'; expected one of 'full', 'diagonal' for the variant 'filter'",
        ),
        (
            "kn-filter",
            {"noise_form": "cholesky"},
            "noise_form is 'cholesky'; expected one of 'scalar', 'diagonal' for the variant 'filter'",
        ),
        ("kn-released", {"preset": "paper"}, "preset is 'paper'; expected one of 'as_released'"),
        ("kn-released", {"guard": -1}, "guard is -1; expected at least 0"),
        (
            "kn-released",
            {"shortcut": "both"},
            "shortcut is 'both'; expected one of 'posterior', 'prior' for the variant 'released'",
        ),
        (
            "kn-released",
            {"channel_padding": "same"},
            "channel_padding is 'same'; expected one of 'per_batch', 'concatenated' for the variant 'released'",
        ),
        (
            "kn-released",
            {"running_from": "last"},
            "running_from is 'last'; expected one of 'all', 'first' for the variant 'released'",
        ),
        ("kn-released", {"conv_padding": 1}, "conv_padding is 1; expected 'symmetric' or 'same'"),
        ("bn", {"inference": "none"}, "inference is 'none'; expected one of 'running', 'batch', 'population'"),
        (
            "kn-learned",
            {"covariance": "full", "gain_kind": "learned_per_channel"},
            "gain_kind is 'learned_per_channel'; expected one of 'constant', 'learned', 'pseudo_count'"
            " with full covariance",
        ),
        (
            "kn-learned",
            {"noise": "shared", "noise_form": "diagonal"},
            "noise is shared; expected noise_form 'scalar' in both layers",
        ),
    ],
)
def test_bad_options_of_a_network(norm, options, message):
    (option, *_) = options
    message = message or f"norm option {option!r} does not exist for {norm}; its options are: {OPTIONS[norm]}"
    with refused(message):
        models.cnn5(norm, **options)


CHOICES = "expected one of"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gain": 1.5}, "gain is 1.5; expected a value in [0, 1]"),
        ({"gain": 1}, "gain is 1; expected a value strictly between 0 and 1 to be trained"),
        (
            {"gain": 0, "gain_kind": "pseudo_count"},
            "gain is 0; expected a value strictly between 0 and 1 to be trained",
        ),
        ({"variant": "sampled"}, f"variant is 'sampled'; {CHOICES} 'learned', 'analytic', 'released', 'filter'"),
        ({"covariance": "scalar"}, f"covariance is 'scalar'; {CHOICES} 'diagonal', 'full' for the variant 'learned'"),
        (
            {"covariance": "full", "variant": "analytic"},
            f"covariance is 'full'; {CHOICES} 'diagonal' for the variant 'analytic'",
        ),
        (
            {"covariance": "full", "variant": "filter"},
            f"covariance is 'full'; {CHOICES} 'diagonal' for the variant 'filter'",
        ),
        (
            {"gain_kind": "sigmoid"},
            f"gain_kind is 'sigmoid'; {CHOICES} 'constant', 'learned', 'learned_per_channel', 'pseudo_count'",
        ),
        ({"transition": "diagonal"}, "transition is 'diagonal', from 3 to 4 channels; expected equal numbers"),
        (
            {"transition": "identity"},
            f"transition is 'identity'; {CHOICES} 'full', 'diagonal', 'zero' for the variant 'learned'",
        ),
        (
            {"noise_form": "full"},
            f"noise_form is 'full'; {CHOICES} 'scalar', 'diagonal', 'cholesky' for the variant 'learned'",
        ),
        (
            {"noise_form": "cholesky"},
            "noise_form is 'cholesky'; expected 'scalar' or 'diagonal', since the covariance is diagonal",
        ),
        ({"noise": 0}, "noise is 0; expected a variance above 0"),
        ({"noise": kr.KalmanNorm(4)}, "noise is shared; expected noise_form 'scalar' in both layers"),
        ({"noise": kr.Linear(4, 3)}, "noise is shared; expected noise_form 'scalar' in both layers"),
        (
            {"noise": kr.KalmanNorm(4, 3, noise_form="diagonal")},
            "noise is shared; expected noise_form 'scalar' in both layers",
        ),
        (
            {"noise": kr.KalmanNorm(4, 3), "noise_form": "diagonal"},
            "noise is shared; expected noise_form 'scalar' in both layers",
        ),
        (
            {"variant": "filter", "gain_kind": "learned"},
            "gain_kind is 'learned'; expected none, since the filter computes its gain",
        ),
        ({"variant": "filter", "gain": 0.5}, "gain is 0.5; expected none, since the filter computes its gain"),
        (
            {"variant": "filter", "push": "belief"},
            "push is 'belief'; expected none, since the variant 'filter' has no push",
        ),
        ({"guard": 100}, "guard is 100; expected none, since the variant 'learned' has no guard"),
        ({"seed": 1}, "seed is 1; expected none, since the variant 'learned' has no seed"),
        (
            {"variant": "analytic", "running_from": "first"},
            "running_from is 'first'; expected none, since the variant 'analytic' has no running_from",
        ),
        (
            {"variant": "analytic", "channel_padding": "per_batch"},
            "channel_padding is 'per_batch'; expected none, since the variant 'analytic' has no channel_padding",
        ),
        (
            {"variant": "released", "transition": "full"},
            "transition is 'full'; expected none, since the variant 'released' has no transition",
        ),
        (
            {"preset": "as_released"},
            "preset is 'as_released'; expected none, since the variant 'learned' has no preset",
        ),
        ({"variant": "released", "seed": -1}, "seed is -1; expected at least 0"),
        ({"variant": "released", "seed": [3, -2]}, "seed is -2; expected at least 0"),
        ({"inference": None}, "inference is None; expected one of 'running', 'batch', 'population'"),
    ],
)
def test_bad_kalman_options(options, message):
    with refused(message):
        kr.KalmanNorm(4, 3, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "released", "seed": 1.5}, "seed is 1.5; expected an integer"),
        ({"variant": "released", "guard": "on"}, "guard is 'on'; expected a real number"),
        ({"noise": "shared"}, "noise is 'shared'; expected a real number"),
    ],
)
def test_kalman_options_of_the_wrong_type(options, message):
    with refused(message, TypeError):
        kr.KalmanNorm(4, 3, **options)


def test_the_first_of_a_chain_refuses_a_bad_noise_too():
    """It has no prior and therefore no noise; what cannot be right in any layer is still refused."""
    with refused("noise_form is 'full'; expected one of 'scalar', 'diagonal', 'cholesky' for the variant 'learned'"):
        kr.KalmanNorm(4, noise_form="full")


@pytest.mark.parametrize(
    ("depth", "message"),
    [(9, "depth is 9; expected 6 n + 2: 8, 14, 20, 26, 32, ..."), (2, "depth is 2; expected at least 8")],
)
def test_depth(depth, message):
    with refused(message):
        models.resnet(depth)


# ---- what options do to a network --------------------------------------------------------------------------------


def test_the_preset_of_the_released_code_and_what_overrides_it():
    preset = models.resnet(8, "kn-released", preset="as_released", statistics_batch_size=2)
    for place, layer in enumerate(layers_of(preset, kr.KalmanNorm)):
        assert layer.options == {
            "shortcut": "prior",
            "channel_padding": "concatenated",
            "running_from": "first",
            "guard": 100.0,
            "seed": [0, place],  # draws of its own for each layer
        }
        assert layer.gain_rule.kind == "constant" and layer.gain() == (None if place == 0 else 0.1)
    plain = layers_of(models.resnet(8, "kn-released", seed=5), kr.KalmanNorm)[2]
    corrected = {"shortcut": "posterior", "channel_padding": "per_batch", "running_from": "all", "guard": None}
    assert plain.options == corrected | {"seed": [5, 2]} and plain.gain() == 0.95
    own = {"shortcut": "posterior", "channel_padding": "per_batch", "running_from": "all", "guard": 3.0}
    layer = kr.KalmanNorm(4, 4, "released", preset="as_released", seed=(4, 1), **own)
    assert layer.options == own | {"seed": [4, 1]}


@pytest.mark.parametrize("model", [models.resnet, models.cnn5])
def test_padding_of_the_strided_convolutions(model):
    """TensorFlow's SAME pads an even map below and right only where the stride is 2."""
    made = {"depth": 8} if model is models.resnet else {}
    for options, same in (
        ({}, False),
        ({"conv_padding": "same"}, True),
        ({"preset": "as_released"}, True),
        ({"preset": "as_released", "conv_padding": "symmetric"}, False),
    ):
        convolutions = layers_of(model(norm="kn-released", **made, **options), kr.Conv2d)
        assert {(c.stride, c.padding) for c in convolutions} == {
            (1, ((1, 1), (1, 1))),
            (2, ((0, 1), (0, 1)) if same else ((1, 1), (1, 1))),
        }
    with refused("norm option 'conv_padding' is for networks with convolutions; an mlp has none"):
        models.mlp(norm="kn-released", conv_padding="same")


def test_noise_shared_by_the_network_is_one_parameter():
    for norm in ("kn-learned", "kn-shrink", "kn-filter"):
        net = models.cnn5(norm, noise="shared")
        assert [path for path in net.params if "noise" in path] == ["4.log_noise"]
        first, *others = layers_of(net, kr.KalmanNorm)[1:]
        assert first.transition.lender is None and all(layer.transition.lender is first for layer in others)
    assert len([path for path in models.cnn5("kn-learned").params if "noise" in path]) == 4
