"""Holds `oracle.check` to one clear sentence for each way in which tensors and parameters do not fit together."""

import numpy as np
import pytest

import kalnorm_ref as kr

X = np.linspace(-2, 3, 24).reshape(4, 6)
ONE = {"x": X, "dy": X[::-1].copy()}
BRN = {"running_mean": np.zeros(6), "running_std": np.ones(6)}
PRIOR = {
    **{"previous_mean": np.zeros(3), "previous_var": np.ones(3), "transition": np.ones((6, 3))},
    **{"noise": np.array(0.1), "gain": np.array(0.5)},
}
LIMITS = {"r_max": 3.0, "d_max": 5.0}


@pytest.mark.parametrize(
    ("op", "given", "returned", "params", "message"),
    [
        ("ln", ONE, {}, {}, "op is 'ln'; expected one of bn, brn, kn, gn, gkn"),
        ("bn", {"dy": X}, {"y": X}, {}, "given has no x; expected the input of the normalizer"),
        (
            "bn", ONE | {"weight": X}, {"y": X}, {},
            "given has 'weight'; expected some of x, gamma, beta, dy, running_mean, running_var",
        ),
        ("bn", ONE, {"z": X}, {}, "returned has 'z'; from what was given follow y, mean, var, rstd, dx"),
        ("bn", ONE, {"dgamma": X[0]}, {}, "returned has 'dgamma'; from what was given follow y, mean, var, rstd, dx"),
        ("bn", ONE, {}, {}, "returned has no tensor; expected some of y, mean, var, rstd, dx"),
        ("bn", ONE, {"y": X.T}, {}, "returned y has shape (6, 4); expected (4, 6)"),
        ("bn", ONE | {"gamma": np.ones(4)}, {"y": X}, {}, "gamma has shape (4,); expected (6,) for x of shape (4, 6)"),
        ("bn", ONE | {"dy": X.T}, {"y": X}, {}, "dy has shape (6, 4); expected (4, 6) for x of shape (4, 6)"),
        ("bn", {"x": X[:0]}, {"y": X}, {}, "x has shape (0, 6); expected 2 to 5 axes and at least one element"),
        ("bn", {"x": X[0]}, {"y": X}, {}, "x has shape (6,); expected 2 to 5 axes and at least one element"),
        (
            "bn", ONE, {"y": X}, {"momentum": 0.1},
            "params has 'momentum'; expected some of eps, layout, training, dtype",
        ),
        ("bn", ONE, {"y": X}, {"layout": "NHWC"}, "layout is 'NHWC'; expected NC for x of shape (4, 6)"),
        (
            "bn", ONE, {"y": X}, {"dtype": "int8"},
            "dtype is 'int8'; expected one of float64, float32, bfloat16, float16",
        ),
        (
            "bn", ONE, {"y": X}, {"dtype": "float16"},
            "x has values that float16 does not have; expected x as the kernel was given it",
        ),
        ("bn", ONE, {"y": X}, {"eps": -1.0}, "eps is -1.0; expected at least 0"),
        ("bn", ONE, {"y": X}, {"decay": 1.5}, "decay is 1.5; expected the weight of the old running value, in [0, 1]"),
        (
            "bn", ONE, {"y": X}, {"statistics_batches": 3},
            "statistics_batches is 3; expected a divisor of the 4 samples of x",
        ),
        (
            "bn", ONE, {"y": X}, {"training": False},
            "given has no running_mean and running_var; with training=False they are what normalizes",
        ),
        (
            "bn", ONE | {"running_mean": X[0]}, {"y": X}, {},
            "given has running_mean, but not running_var; they go together",
        ),
        (
            "bn", ONE | {"running_mean": X[0], "running_var": X[3] ** 2}, {"running_mean": X[0]}, {},
            "returned has running values, but params has no decay, the weight of the old ones",
        ),
        ("brn", ONE, {"y": X}, LIMITS, "brn needs either running_mean and running_std, or corr_r and corr_d"),
        (
            "brn", ONE | BRN | {"corr_r": np.ones(6), "corr_d": np.ones(6)}, {"y": X}, LIMITS,
            "brn needs either running_mean and running_std, or corr_r and corr_d",
        ),
        ("brn", ONE | BRN, {"y": X}, {}, "params has no r_max and d_max; r and d are clipped with them"),
        ("brn", ONE | BRN, {"y": X}, {"r_max": 0.5, "d_max": 1.0}, "r_max is 0.5; expected at least 1"),
        ("brn", ONE | {"corr_r": np.ones(6)}, {"y": X}, {}, "given has corr_r, but not corr_d; they go together"),
        (
            "brn", ONE | {"corr_r": np.zeros(6), "corr_d": np.zeros(6)}, {"y": X}, {},
            "corr_r has values that are not positive; r is a ratio of standard deviations",
        ),
        ("gn", ONE, {"y": X}, {}, "params has groups None; expected a divisor of the 6 channels"),
        ("gn", ONE, {"y": X}, {"groups": 4}, "params has groups 4; expected a divisor of the 6 channels"),
        (
            "gn", ONE, {"y": X}, {"groups": 2, "decay": 0.9},
            "params has 'decay'; expected some of eps, layout, training",
        ),
        (
            "kn", ONE | {"gain": np.array(0.5)}, {"y": X}, {},
            "given has gain, but not previous_mean, previous_var, transition, noise; they go together",
        ),
        (
            "kn", ONE | PRIOR | {"transition": np.ones((3, 6))}, {"y": X}, {},
            "transition has shape (3, 6); expected (6, 3) for x of shape (4, 6)",
        ),
        (
            "kn", ONE | PRIOR | {"gain": np.ones(3)}, {"y": X}, {},
            "gain has shape (3,); expected () or (6,) for x of shape (4, 6)",
        ),
        (
            "kn", {"x": X, "destimate_mean": X[0]}, {"y": X}, {},
            "given has destimate_mean, but not dy; they go together",
        ),
        (
            "kn", ONE | PRIOR | {"running_mean": X[0], "running_var": X[3] ** 2}, {"dgain": np.ones(())},
            {"training": False}, "returned has 'dgain'; from what was given follow y, dx, running_mean, running_var",
        ),
        (
            "gkn", ONE | PRIOR, {"y": X}, {"groups": 2},
            "transition has shape (6, 3); expected (2, 3) for x of shape (4, 6)",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(op, given, returned, params, message):
    with pytest.raises(ValueError) as caught:
        kr.oracle.check(op, given, returned, params)
    assert str(caught.value).startswith(message)


def test_types_that_are_not_known_are_said():
    with pytest.raises(TypeError, match=r"^x has type int64; expected one of float64, float32, bfloat16, float16$"):
        kr.oracle.check("bn", {"x": np.ones((2, 3), np.int64)}, {"y": X})
