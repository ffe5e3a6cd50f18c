"""What the catalogue must contain, feature by feature; and which results a NaN in it reaches, worked out by hand."""

import functools

import numpy as np
import pytest

from kalnorm_ref.oracle.case import LAYOUTS, OPS, UNITS, VIEWS, to_rows
from kalnorm_ref.oracle.catalogue import cases
from kalnorm_ref.oracle.reference import expected
from kalnorm_ref.oracle.verdict import judged

each_op = pytest.mark.parametrize("op", OPS)


@functools.cache
def core(op):
    """The cases that have a sample."""
    return [case for case in cases(op) if case.tensors["x"].size]


# ---- NaN and Inf, by hand ------------------------------------------------------------------------------------------

ONE, ALL = (..., 1), ...  # channel 1, or row 1 of a transition's gradient; everything
ROW, LAST_ROW, PAIR = (0, ..., slice(0, 2)), (-1, ..., slice(0, 2)), slice(0, 2)  # group 0 holds channels 0 and 1
OF_BATCH = "y dx mean var rstd dgamma running_mean running_var"
OF_RENORM = "y dx mean var rstd corr_r corr_d dgamma running_mean running_std"
OF_ESTIMATE = "y dx dgamma estimate_mean estimate_var running_mean running_var"
BEFORE = (ALL, "dprevious_mean dprevious_var")
TO_PRIOR = [(1, "dgain dnoise dtransition"), BEFORE]
IN_GROUP = (0, "dgain dnoise dtransition")
FIRST_ROW = [(ROW, "y dx"), (PAIR, "dgamma"), ((0, 0), "estimate_mean estimate_var"), IN_GROUP]
SECOND = [((..., slice(2, 4)), "y dx dgamma"), *TO_PRIOR]  # group 1 in every sample
EVERYTHING = "y dx dgamma estimate_mean estimate_var dgain dnoise dtransition dprevious_mean dprevious_var"
LOST = {  # (where, which results); the layout is channels last
    "bn/nan": [(ONE, OF_BATCH)],
    "bn/infinity": [(ONE, OF_BATCH)],
    "bn/nan-dy": [(ONE, "dx dgamma dbeta")],
    "bn/nan-gamma": [(ONE, "y dx")],
    "bn/inference-nan": [((0, 0, 0, 1), "y"), (1, "dgamma")],
    "bn/inference-infinity": [((0, 0, 0, 1), "y"), (1, "dgamma")],
    "brn/nan": [(ONE, OF_RENORM)],
    "brn/infinity": [(ONE, OF_RENORM)],
    "brn/nan-dy": [(ONE, "dx dgamma dbeta")],
    "brn/nan-gamma": [(ONE, "y dx")],
    "kn/nan": [(ONE, OF_ESTIMATE), *TO_PRIOR],
    "kn/infinity": [(ONE, OF_ESTIMATE), *TO_PRIOR],
    "kn/nan-dy": [(ONE, "dx dgamma dbeta"), *TO_PRIOR],
    "kn/nan-gamma": [(ONE, "y dx"), *TO_PRIOR],
    "kn/nan-gain": [(ONE, OF_ESTIMATE), *TO_PRIOR],
    "kn/nan-noise": [(ONE, "y dx dgamma estimate_var running_var"), *TO_PRIOR],
    "kn/nan-previous": [(ALL, EVERYTHING + " running_mean running_var")],
    "gn/nan": [(ROW, "y dx"), (PAIR, "dgamma")],
    "gn/infinity": [(ROW, "y dx"), (PAIR, "dgamma")],
    "gn/nan-dy": [(LAST_ROW, "dx"), (1, "dgamma dbeta")],
    "gn/nan-gamma": [(ONE, "y"), ((..., PAIR), "dx")],
    "gkn/nan": [*FIRST_ROW, (0, "dprevious_mean dprevious_var")],
    "gkn/infinity": [*FIRST_ROW, (0, "dprevious_mean dprevious_var")],
    "gkn/nan-dy": [(LAST_ROW, "dx"), (1, "dgamma dbeta"), IN_GROUP, (-1, "dprevious_mean dprevious_var")],
    "gkn/nan-gamma": [(ONE, "y"), ((..., PAIR), "dx"), IN_GROUP, BEFORE],
    "gkn/nan-gain": [*SECOND, (ONE, "estimate_mean estimate_var")],
    "gkn/nan-noise": [*SECOND, (ONE, "estimate_var")],
    "gkn/nan-previous": [(ALL, EVERYTHING)],
}


@each_op
def test_what_is_lost_is_what_depends_on_it(op):
    for case in core(op):
        want = expected(case)
        lost = {name: np.zeros(a.shape, bool) for name, a in want.items()}
        for index, names in LOST.get(case.id.rpartition("/")[0], ()):
            for name in names.split():
                lost[name][index] = True
        for name, a in want.items():
            at = judged(case, a.shape)
            assert np.array_equal(~np.isfinite(a)[at], lost[name][at]), f"{case.id} {name}"


def test_every_loss_that_is_worked_out_has_its_case():
    assert LOST.keys() <= {case.id.rpartition("/")[0] for case in cases()}


# ---- what must be there ----------------------------------------------------------------------------------------------


def moments(case):
    """Mean and deviation behind each statistic."""
    rows = to_rows(case.tensors["x"], case)
    if case.op in ("gn", "gkn"):
        n, length, c = rows.shape
        groups = case.params["groups"]
        rows = np.swapaxes(rows.reshape(n, length, groups, -1), 2, 3).reshape(n, length * c // groups, groups)
    with np.errstate(all="ignore"):
        return rows.mean(axis=1), rows.std(axis=1)


def offset(least, dtype):
    """The mean is that many deviations of the sample, which the storage type still holds."""

    def has(case):
        mean, deviation = moments(case)
        return case.dtype == dtype and bool((deviation > 1).all() and (mean > least * deviation).all())

    return has


def eps(value):
    """As large as the variance; or 0, and the variance healthy."""

    def has(case):
        var = moments(case)[1] ** 2
        return case.params["eps"] == value and bool((var > value / 9).all() and (value == 0 or (var < 9 * value).all()))

    return has


def x(case):
    return case.tensors["x"]


def dy(case):
    return case.upstream["dy"]


def gamma(case):
    return case.tensors.get("gamma", np.ones(case.channels))


def images(case):
    return len(x(case))


def positions(case):
    return x(case).size // (images(case) * case.channels)


def outlier_first(case):
    mean, _ = moments(case)
    first = to_rows(x(case), case)[0, 0, 0]
    return abs(first) > 1000 and mean.flat[0] < first / 100


def equal(case):
    t, s = case.tensors, case.state
    same = np.array_equal(x(case), dy(case)) and len(set(gamma(case))) > 1
    return same and np.array_equal(t["gamma"], s["running_var"]) and np.array_equal(t["beta"], s["running_mean"])


def steps_differ(case):
    means = [to_rows(b, case).mean(axis=1) for b in case.before]
    return len(means) == 5 and bool((np.ptp(means, axis=0) > 1).all())


def powers_of_two(n):
    return n & (n - 1) == 0


PLAIN = {
    **{f"an ordinary case in {d}": lambda c, d=d: c.id == f"{c.op}/ordinary/{d}" for d in UNITS},
    **{f"100 deviations in {d}": offset(60, d) for d in UNITS},
    **{f"1000 deviations in {d}": offset(600, d) for d in ("float64", "float32", "float16")},
    **{f"100000 deviations in {d}": offset(60000, d) for d in ("float64", "float32")},
    "m of 500": lambda c: c.samples >= 500,
    "C = 1": lambda c: c.channels == 1,
    "an outlier first": outlier_first,
}
EVERY = {
    **{f"layout {layout}": lambda c, layout=layout: c.layout == layout for layout in LAYOUTS},
    **{f"view {view}": lambda c, view=view: c.view == view and c.layout == "NCHW" for view in VIEWS},
    **{f"view {view} of NHWC": lambda c, view=view: c.view == view and c.layout == "NHWC" for view in VIEWS},
    **{f"eps {value:g}": eps(value) for value in (0.0, 1e-12, 1e-5, 1e-3, 1.0)},
    "m = 2": lambda c: c.samples == 2 and c.training,
    "m = 3 to 12": lambda c: 3 <= c.samples <= 12,
    "one image of several positions": lambda c: images(c) == 1 and positions(c) > 1,
    "one position": lambda c: positions(c) == 1 and images(c) > 2,
    "odd C": lambda c: c.channels % 2 == 1 and c.channels > 1 and not powers_of_two(c.channels),
    "all axes equal": lambda c: len(set(x(c).shape)) == 1,
    "no variance": lambda c: bool((moments(c)[1] < 1e-9).any() and (moments(c)[0] > 1).any()),
    "variance far below eps": lambda c: bool(
        (moments(c)[1] > 0).all() and (moments(c)[1] ** 2 < 1e-3 * c.params["eps"]).all()
    ),
    "a square that overflows": lambda c: c.dtype == "float32" and np.abs(x(c)).max() > 1e29 and len(c.unjudged) > 0,
    "close to 65504": lambda c: c.dtype == "float16" and np.abs(x(c)).min() > 60000,
    "subnormal float16": lambda c: c.dtype == "float16" and 0 < np.abs(x(c)).max() < 2**-14,
    "subnormal float32": lambda c: c.dtype == "float32" and 0 < np.abs(x(c)).max() < 2**-126,
    "-0": lambda c: bool((np.signbit(x(c)) & (x(c) == 0)).any() and (~np.signbit(x(c)) & (x(c) == 0)).any()),
    "NaN in x": lambda c: np.isnan(x(c)).sum() == 1,
    "Inf in x": lambda c: np.isinf(x(c)).sum() == 1,
    "NaN in dy": lambda c: np.isnan(dy(c)).sum() == 1,
    "gamma zero in some channels": lambda c: 0 < (gamma(c) == 0).sum() < c.channels,
    "gamma negative": lambda c: bool((gamma(c) < 0).all()),
    "no gamma": lambda c: "gamma" not in c.tensors and "beta" in c.tensors,
    "no beta": lambda c: "beta" not in c.tensors and "gamma" in c.tensors,
    "neither": lambda c: "beta" not in c.tensors and "gamma" not in c.tensors,
    "sparse whole dy": lambda c: bool((dy(c) % 1 == 0).all()) and 3 <= (dy(c) != 0).sum() < dy(c).size / 2,
    "one-hot dy": lambda c: (dy(c) == 1).sum() == 1 and (dy(c) == 0).sum() == dy(c).size - 1,
    "dy of ones": lambda c: bool((dy(c) == 1).all()) and dy(c).size > 1,
    "ones and zeros": lambda c: bool((gamma(c) == 1).all()) and "beta" in c.tensors and not c.tensors["beta"].any(),
}
STATEFUL = {
    "decay 0": lambda c: c.params["decay"] == 0,
    "decay 1": lambda c: c.params["decay"] == 1,
    "decay 0.9": lambda c: c.params["decay"] == 0.9,
    "cumulative, first step": lambda c: c.params["decay"] is None and not c.before,
    "cumulative, later": lambda c: c.params["decay"] is None and len(c.before) >= 3,
    "five unlike steps before": steps_differ,
    "inference after training": lambda c: not c.training and len(c.before) == 5,
    "inference with given values": lambda c: not c.training and not c.before,
    "one value per channel": lambda c: c.samples == 1 and c.training,
}
OF_OP = {
    "bn": {
        "many channels of few values": lambda c: c.channels >= 64 and c.samples <= 4,
        "m of 1000": lambda c: c.samples >= 1000,
        "twenty steps before": lambda c: len(c.before) == 20 and c.dtype == "float64",
        "far running values": lambda c: bool((c.state["running_var"] > 100 * moments(c)[1] ** 2).all()),
        "equal tensors": equal,
        "new layer": lambda c: bool((c.state["running_var"] == 1).all() and (gamma(c) == 1).all()),
        "one value per channel, by name": lambda c: c.id.startswith("bn/one-value-per-channel/") and c.samples == 1,
        "NaN in inference": lambda c: not c.training and np.isnan(x(c)).any(),
        "statistics batches": lambda c: c.batches > 1,
        "undiluted running variance": lambda c: bool((c.state["running_var"] == 0).all()) and c.samples <= 12,
        **{f"inference in {d}": lambda c, d=d: not c.training and c.dtype == d for d in UNITS},
    },
    "gn": {
        "many groups of few values": lambda c: c.params["groups"] >= 32 and c.samples <= 4,
        "m of 1000": lambda c: c.samples >= 1000,
        "groups 1": lambda c: c.params["groups"] == 1 and c.channels > 1,
        "groups C": lambda c: c.params["groups"] == c.channels > 3 and positions(c) > 1,
        "groups between": lambda c: 1 < c.params["groups"] < c.channels,
        "more channels than groups": lambda c: c.params["groups"] ** 2 < c.channels and c.params["groups"] > 1,
        "L = 1": lambda c: positions(c) == 1 and c.samples > 1,
        "m = 1": lambda c: c.samples == 1,
        "inference": lambda c: not c.training,
        "dy equal to x": lambda c: np.array_equal(x(c), dy(c)),
    },
}


def required(op):
    """Predicates by feature. PLAIN: of bn and gn, the plainest of the normalizers."""
    stateful, plain = STATEFUL if op in ("bn", "brn", "kn") else {}, PLAIN if op in ("bn", "gn") else {}
    return EVERY | stateful | plain | OF_OP.get(op, {})


@pytest.mark.parametrize(("op", "feature"), [(op, feature) for op in OPS for feature in required(op)])
def test_features(op, feature):
    assert any(required(op)[feature](case) for case in core(op)), f"no case of {op} has {feature}"


def test_empty_batches():
    empty = {case.id: case for case in cases() if case.tensors["x"].size == 0}
    assert {"bn/empty-batch/float32", "bn/empty-batch-inference/float32", "gn/empty-batch/float32"} <= empty.keys()
    assert all(len(case.tensors["x"]) == 0 and case.channels > 0 for case in empty.values())
    assert [case.training for key, case in empty.items() if key.startswith("bn/")] == [True, False]
