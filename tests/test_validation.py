"""Bad input is refused before any work, with a message that names the argument, what it got and what it needs."""

import re

import numpy as np
import pytest

import kalnorm_ref as kr
from kalnorm_ref import backend

C = 2
X = np.random.default_rng(5).normal(7, 3, (5, C))
PAIR = kr.Moments(np.array([5.0, 6.0]), np.array([4.0, 9.0]))
NEGATIVE = kr.Moments(PAIR.mean, np.array([4.0, -0.5]))
ZERO_AXES = kr.Moments(np.array(1.0), np.array(2.0))
ONE = kr.Moments(np.ones(1), np.ones(1))
THREE = kr.Moments(np.ones(3), np.ones(3))
ONES, THREES = np.ones(C), np.ones(3)
BN_CACHE = kr.batch_norm_forward(X, None, None)[-1]
BRN_CACHE = kr.batch_renorm_forward(X, None, None, 1.0, 0.0)[-1]
KN_CACHE = kr.kalman_norm_forward(X, None, None, PAIR, 0.5)[-1]


def exactly(message):
    return rf"^{re.escape(message)}$"


def arguments(function, **changed):
    """The valid call of `function`, with some arguments changed."""
    valid = {
        "observe": {"x": X},
        "observe_backward": {"dmoments": PAIR, "x": X, "moments": PAIR},
        "fuse": {"prior": PAIR, "observed": PAIR, "gain": 0.5},
        "fuse_backward": {"dmoments": PAIR, "prior": PAIR, "observed": PAIR, "gain": 0.5},
        "standardize": {"x": X, "moments": PAIR, "gamma": ONES, "beta": ONES, "eps": 0.1},
        "standardize_backward": {"dy": X, "cache": BN_CACHE},
        "predict": {"estimate": PAIR, "transition": np.ones((3, C)), "noise": 0.5},
        "predict_backward": {"dprior": THREE, "estimate": PAIR, "transition": np.ones((3, C)), "noise": 0.5},
        "batch_norm_forward": {"x": X, "gamma": ONES, "beta": ONES, "eps": 0.1},
        "batch_norm_backward": {"dy": X, "cache": BN_CACHE},
        "batch_renorm_backward": {"dy": X, "cache": BRN_CACHE},
        "renorm_corrections": {
            "moments": PAIR, "running_mean": ONES, "running_std": ONES, "r_max": 3.0, "d_max": 5.0, "eps": 0.1
        },
        "batch_renorm_forward": {"x": X, "gamma": ONES, "beta": ONES, "corr_r": 1.0, "corr_d": 0.0, "eps": 0.1},
        "kalman_norm_forward": {"x": X, "gamma": ONES, "beta": ONES, "prior": PAIR, "gain": 0.5, "eps": 0.1},
        "kalman_norm_backward": {"dy": X, "destimate": PAIR, "cache": KN_CACHE},
    }[function]  # fmt: skip
    return getattr(kr, function), {**valid, **changed}


FORWARDS = ("standardize", "batch_norm_forward", "batch_renorm_forward", "kalman_norm_forward")
CACHED = ("standardize_backward", "batch_norm_backward", "batch_renorm_backward", "kalman_norm_backward")
FUSIONS = ("fuse", "fuse_backward", "kalman_norm_forward")
PREDICTIONS = ("predict", "predict_backward")


def rows(functions, name, *cases):
    """(function, argument, bad value, message) for every function and every (bad value, message)."""
    return [(f, name, value, f"{name}{message}") for f in functions for value, message in cases]


VALUE_ERRORS = [
    *rows(
        ("observe", "observe_backward", *FORWARDS),
        "x",
        (X[0], " has shape (2,); expected (..., m, C): samples, then channels last"),
        (np.array(1.0), " has shape (); expected (..., m, C): samples, then channels last"),
        (X[:0], " has shape (0, 2), no sample (m = 0); expected (..., m, C) with m >= 1"),
        (X[None, :0], " has shape (1, 0, 2), no sample (m = 0); expected (..., m, C) with m >= 1"),
    ),
    *rows(FORWARDS, "gamma", (THREES, " has shape (3,); expected (2,), one value per channel, or None")),
    *rows(FORWARDS, "gamma", (np.array(1.0), " has shape (); expected (2,), one value per channel, or None")),
    *rows(FORWARDS, "beta", (ONES[None], " has shape (1, 2); expected (2,), one value per channel, or None")),
    *rows((*FORWARDS, "renorm_corrections"), "eps", (-1e-5, " is -1e-05; expected at least 0")),
    *rows(CACHED, "dy", (X[:4], " has shape (4, 2); expected (5, 2), the shape of x")),
    *rows(CACHED, "dy", (X[None], " has shape (1, 5, 2); expected (5, 2), the shape of x")),
    *rows(
        FUSIONS,
        "gain",
        (-0.1, " has the value -0.1; expected values in [0, 1]"),
        (2, " has the value 2; expected values in [0, 1]"),
        (np.float32(1.5), " has the value 1.5; expected values in [0, 1]"),
        (np.array(1.5), " has the value 1.5; expected values in [0, 1]"),
        (np.array([0.5, 1.25]), " has the value 1.25; expected values in [0, 1]"),
        (np.array([-0.25, 0.5]), " has the value -0.25; expected values in [0, 1]"),
        (THREES, " has shape (3,); expected a scalar or (2,), one value per channel"),
        (ONES[None], " has shape (1, 2); expected a scalar or (2,), one value per channel"),
    ),
    *rows(
        PREDICTIONS,
        "noise",
        (-0.1, " has the value -0.1; expected a variance, >= 0"),
        (np.array(-1.0), " has the value -1; expected a variance, >= 0"),
        (np.array([1.0, -2.0, 3.0]), " has the value -2; expected a variance, >= 0"),
        (ONES, " has shape (2,); expected a scalar or (3,), one value per channel"),
    ),
    *rows(
        PREDICTIONS,
        "transition",
        *(
            (
                np.ones(shape),
                f" has shape {shape}; expected (C, 2), or (2,) for a diagonal one, where the estimate has 2 channels",
            )
            for shape in ((), (3,), (2, 3), (1, 2, 2))
        ),
    ),
    *(
        (function, name, NEGATIVE, f"{name}.var has the value -0.5; expected a variance, >= 0")
        for function, name in (
            *((f, n) for f in ("fuse", "fuse_backward") for n in ("prior", "observed")),
            *((f, "estimate") for f in PREDICTIONS),
            ("standardize", "moments"),
            ("renorm_corrections", "moments"),
            ("kalman_norm_forward", "prior"),
        )
    ),
    *(
        (f, n, kr.Moments(ONES, THREES), f"{n}.var has shape (3,); expected (2,), the shape of {n}.mean")
        for f, n in (
            ("fuse", "prior"),
            ("fuse", "observed"),
            ("predict", "estimate"),
            ("renorm_corrections", "moments"),
        )
    ),
    *(
        (f, n, THREE, f"{n}.mean has shape (3,); expected (2,), the shape of {what}")
        for f, n, what in (
            ("observe_backward", "dmoments", "observe(x)"),
            ("observe_backward", "moments", "observe(x)"),
            ("fuse_backward", "dmoments", "the fused moments"),
            ("kalman_norm_backward", "destimate", "the estimate"),
        )
    ),
    ("predict_backward", "dprior", PAIR, "dprior.mean has shape (2,); expected (3,), the shape of the prior"),
    ("fuse", "prior", THREE, "prior.mean has shape (3,); expected one that broadcasts against observed.mean, (2,)"),
    ("fuse", "prior", ONE, "prior.mean has shape (1,); expected one that broadcasts against observed.mean, (2,)"),
    ("fuse", "prior", kr.Moments(1.0, 2.0), "prior.mean has shape (); expected (..., C), a value per channel"),
    ("fuse", "prior", ZERO_AXES, "prior.mean has shape (); expected (..., C), a value per channel"),
    ("renorm_corrections", "r_max", 0.5, "r_max is 0.5; expected at least 1"),
    ("renorm_corrections", "d_max", -1, "d_max is -1; expected at least 0"),
    (
        "renorm_corrections",
        "running_std",
        -ONES,
        "running_std has the value -1; expected a standard deviation, >= 0",
    ),
]
WRONG_STATISTIC = [  # only the start of these messages is fixed here: see ODD
    ("standardize", "moments", THREE, "moments.mean"),
    ("kalman_norm_forward", "prior", THREE, "prior.mean"),
    ("kalman_norm_forward", "prior", ONE, "prior.mean"),
    ("renorm_corrections", "running_mean", THREES, "running_mean"),
    ("renorm_corrections", "running_std", np.array(1.0), "running_std"),
    ("batch_renorm_forward", "corr_r", THREES, "corr_r"),
    ("batch_renorm_forward", "corr_d", X, "corr_d"),
]
ODD = [  # odd numbers
    ("kalman_norm_forward", "gain", "0.5", TypeError, "gain is '0.5'; expected a number"),
    ("predict", "noise", "1", TypeError, "noise is '1'; expected a number"),
    ("batch_renorm_forward", "corr_r", "1", TypeError, "corr_r is '1'; expected a number"),
    ("batch_norm_forward", "eps", None, TypeError, "eps is None; expected a real number"),
    ("batch_norm_forward", "eps", np.True_, TypeError, "eps is np.True_; expected a real number"),
    ("renorm_corrections", "r_max", None, TypeError, "r_max is None; expected a real number"),
    ("renorm_corrections", "r_max", 3 + 0j, TypeError, "r_max is (3+0j); expected a real number"),
    ("fuse", "gain", 1 + 2**-52, ValueError, "gain has the value 1.0000000000000002; expected values in [0, 1]"),
    ("fuse", "gain", np.array([np.nan, 3.0]), ValueError, "gain has the value 3; expected values in [0, 1]"),
    ("standardize", "moments", THREE, ValueError, "moments.mean has shape (3,); expected (2,)"),
]
ARRAYS = {
    "observe": ["x"],
    "standardize": ["x", "gamma", "beta"],
    "batch_norm_forward": ["x", "gamma", "beta"],
    "batch_renorm_forward": ["x", "gamma", "beta", "corr_r", "corr_d"],
    "kalman_norm_forward": ["x", "gamma", "beta", "gain"],
    "batch_norm_backward": ["dy"],
    "standardize_backward": ["dy"],
    "kalman_norm_backward": ["dy"],
    "renorm_corrections": ["running_mean", "running_std"],
    "predict": ["transition", "noise"],
    "fuse": ["gain"],
}


def label(value):
    return value if isinstance(value, str) else ""


def test_the_valid_calls_are_valid(backend):
    for name in {function for function, *_ in VALUE_ERRORS}:
        function, given = arguments(name)
        function(**given)


@pytest.mark.parametrize(("name", "argument", "value", "message"), VALUE_ERRORS, ids=label)
def test_value_errors(name, argument, value, message):
    function, given = arguments(name, **{argument: value})
    with pytest.raises(ValueError, match=exactly(message)):
        function(**given)


@pytest.mark.parametrize(("name", "argument", "value", "field"), WRONG_STATISTIC, ids=label)
def test_statistics_of_the_wrong_shape(name, argument, value, field):
    function, given = arguments(name, **{argument: value})
    shape = re.escape(str(np.shape(value[0] if isinstance(value, tuple) else value)))
    with pytest.raises(ValueError, match=rf"^{field} has shape {shape}; expected \(2,\).*$"):
        function(**given)


@pytest.mark.parametrize(("name", "argument", "value", "error", "message"), ODD, ids=label)
def test_odd_numbers(name, argument, value, error, message):
    function, given = arguments(name, **{argument: value})
    with pytest.raises(error, match=exactly(message)):
        function(**given)


@pytest.mark.parametrize("dtype", [np.int64, object, bool, np.float16, np.longdouble, np.complex64])
@pytest.mark.parametrize(("name", "argument"), [(f, a) for f, names in ARRAYS.items() for a in names])
def test_only_three_types_of_data(name, argument, dtype):
    shape = (5, C) if argument in ("x", "dy") else (C,)
    function, given = arguments(name, **{argument: np.ones(shape).astype(dtype)})
    harmless = dtype in (np.int64, bool, np.float16)
    message = (
        f"{argument} has type {np.dtype(dtype)}; expected float32, float64, or complex128 with the NumPy backend"
        + f" (convert with {argument}.astype(np.float32))" * harmless
    )
    with pytest.raises(TypeError, match=exactly(message)):
        function(**given)


@pytest.mark.parametrize("field", ["mean", "var"])
@pytest.mark.parametrize(("name", "argument"), [("fuse", "prior"), ("predict", "estimate"), ("standardize", "moments")])
def test_moments_of_integers(name, argument, field):
    function, given = arguments(name, **{argument: PAIR._replace(**{field: np.array([1, 2])})})
    with pytest.raises(TypeError, match=rf"^{argument}\.{field} has type int64; expected float32, .*\)$"):
        function(**given)


@pytest.mark.parametrize(("name", "argument"), [("fuse", "prior"), ("predict", "estimate"), ("standardize", "moments")])
def test_moments_must_be_a_pair(name, argument):
    for value, kind in (([ONES, ONES], "list"), (np.ones((2, C)), "ndarray"), (None, "NoneType"), ((ONES,), "tuple")):
        function, given = arguments(name, **{argument: value})
        with pytest.raises(TypeError, match=exactly(f"{argument} is {kind}; expected Moments(mean, var)")):
            function(**given)


@pytest.mark.parametrize(("name", "argument"), [("batch_norm_forward", "eps"), ("renorm_corrections", "r_max")])
def test_settings_must_be_real_numbers(name, argument):
    for value in (True, "3", 3j, np.array([3.0])):
        function, given = arguments(name, **{argument: value})
        with pytest.raises(TypeError, match=exactly(f"{argument} is {value!r}; expected a real number")):
            function(**given)
    for name, argument in (("fuse", "gain"), ("predict", "noise")):
        function, given = arguments(name, **{argument: True})
        with pytest.raises(TypeError, match=exactly(f"{argument} is True; expected a number")):
            function(**given)


def test_plain_pairs_lists_and_numbers_are_welcome(backend):
    expected = kr.kalman_norm_forward(X, ONES, None, PAIR, 0.5)[0]
    given = (X.tolist(), [1.0, 1.0], None, ([5.0, 6.0], [4.0, 9.0]), [0.5, 0.5])
    np.testing.assert_array_equal(kr.kalman_norm_forward(*given)[0], expected)
    assert kr.fuse(PAIR, PAIR, 1).mean.dtype == np.float64


COMPLEX = np.array([1 + 1j, 2 - 1j])


def with_complex_statistics():
    y, _, cache = kr.kalman_norm_forward(X, None, None, PAIR, 0.5)
    return (
        lambda: kr.renorm_corrections(PAIR, COMPLEX, np.ones(2), 3, 5),
        lambda: kr.renorm_corrections(PAIR, np.ones(2), COMPLEX, 3, 5),
        lambda: kr.kalman_norm_backward(y, PAIR._replace(mean=COMPLEX), cache)[3].mean,
    )


@pytest.mark.parametrize("position", range(3))
def test_no_complex_statistic_is_cut_to_its_real_part(position):
    call = with_complex_statistics()[position]
    with kr.use_backend("numpy"):
        assert np.asarray(call()).dtype == np.complex128
    if backend._core is not None:
        with kr.use_backend("cython"), pytest.raises(TypeError, match=r'which only the NumPy backend takes: .*"\)$'):
            call()
