"""Holds the closed-form transport to its gradients, to 50-digit arithmetic, to scalar loops and to its limits.

The gradient cases cover every pair and every array argument; for each pair, each mistake that loops.MISTAKES can plant
is rejected by the check that the right gradient passes.
"""

import mpmath
import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import gradcheck, transport
from kalnorm_ref.gradproof.loops import transport as loops
from kalnorm_ref.transport.pooling import largest_of

rng = np.random.default_rng(31)
C, OUT, G = 3, 2, 4  # channels in, channels out, statistics batches
ASYMMETRIC = ((0, 2), (1, 0))


def estimate(*shape):
    return kr.Moments(rng.normal(2.0, 3.0, shape), rng.uniform(0.5, 9.0, shape))


def with_tails(*shape):
    """Moments whose t = m/s covers [-8, 8]."""
    s = rng.uniform(0.4, 3.0, shape)
    return kr.Moments(s * np.linspace(-8, 8, s.size).reshape(shape), s**2)


def weight(*shape):
    return rng.normal(0.4, 0.7, shape)


GAMMA, BETA = rng.uniform(0.5, 2.0, C) * [1, -1, 1], rng.normal(0.5, 1.0, C)


def conv(label, stride, padding, size, kernel=(3, 3), lead=()):
    return f"conv2d: {label}", (estimate(*lead, C), weight(*kernel, C, OUT), stride, padding, size)


CASES = dict(
    [
        ("relu: tails", (with_tails(33),)),
        ("relu: batches", (with_tails(G, 5),)),
        ("leaky_relu: tails", (with_tails(33), 0.1)),
        ("leaky_relu: batches, negative slope", (with_tails(2, G, 3), -0.7)),
        ("leaky_relu: slope above 1", (with_tails(11), 1.5)),
        ("dropout: batches", (estimate(G, C), 0.7)),
        ("dropout: keep 1", (estimate(C), 1.0)),
        ("linear: bias", (estimate(C), weight(C, OUT), weight(OUT))),
        ("linear: no bias", (estimate(G, C), weight(C, OUT), None)),
        ("linear: bias, batches on two axes", (estimate(2, G, C), weight(C, OUT), weight(OUT))),
        conv("stride 1, padding 0", 1, 0, (5, 5)),
        conv("stride 1, padding 1", 1, 1, (4, 6), lead=(G,)),
        conv("stride 2, padding 1", 2, 1, (6, 5), lead=(2, G)),
        conv("stride 2, padding 0, kernel (2, 3)", 2, 0, (7, 5), (2, 3)),
        conv("asymmetric padding, kernel (3, 2)", 2, ASYMMETRIC, (5, 4), (3, 2), (G,)),
        conv("padding wider than the image", 1, 3, (2, 1), lead=(G,)),
        conv("1x1", 2, 0, (5, 4), (1, 1)),
        ("avg_pool: independent", (estimate(C), 2)),
        ("avg_pool: correlated", (estimate(G, C), 3, 0.3)),
        ("max_pool: batches", (estimate(G, C), 2)),
        ("add: alike", (estimate(G, C), estimate(G, C))),
        ("add: one for all batches", (estimate(C), estimate(2, G, C))),
        ("add: axis of length 1", (estimate(G, C), estimate(1, C))),
        ("pad_channels: uneven", (estimate(G, C), 2, 1)),
        *(("mixture: a shorter last one", (estimate(2, 5, C), 2)), ("mixture: all rows", (estimate(G, C), 7))),
        ("pad_concatenated: uneven", (estimate(G, C), 2, 1)),
        ("sampled: batches", (estimate(G, C), rng.standard_normal((G, 4, 3, C)), weight(2, 3, C, OUT), 2, ASYMMETRIC)),
        *(
            (f"push: {mode}, {name}", (mode, estimate(*lead, C), observed and estimate(*lead, C), gamma, beta, 0.1))
            for mode in ("belief", "observed", "released")
            for name, lead, observed, gamma, beta in (
                ("batches", (G,), True, GAMMA, BETA),
                ("no gamma", (), True, None, BETA),
                ("no beta", (2, G), True, GAMMA, None),
                ("neither", (G,), True, None, None),
                ("observed None", (G,), None, GAMMA, BETA),
            )
            if observed or mode != "observed"
        ),
    ]
)
each_case = pytest.mark.parametrize("case", CASES)


def prepared(case):
    """The forward, its arguments, its random upstream and a first argument that is no array (mode), if any."""
    name, arguments = case.split(":")[0], CASES[case]
    function = getattr(transport, name)
    mode = arguments[:1] if name == "push" else ()
    rest = arguments[len(mode) :]
    draw = np.random.default_rng(7)
    upstream = kr.Moments(*(draw.standard_normal(s.shape) for s in function(*arguments)))
    return name, lambda *a: function(*mode, *a), mode, rest, upstream


def gradients(name, upstream, mode, rest):
    result = getattr(transport, f"{name}_backward")(upstream, *mode, *rest)
    return (result,) if isinstance(result, kr.Moments) else result


@each_case
@pytest.mark.parametrize("method", [gradcheck.complex_step, gradcheck.central_difference], ids=["step", "difference"])
def test_gradient(case, method, backend):
    name, function, mode, rest, upstream = prepared(case)
    tolerance = tolerances.COMPLEX_STEP if method is gradcheck.complex_step else tolerances.CENTRAL_DIFFERENCE
    gradcheck.check(function, rest, upstream, gradients(name, upstream, mode, rest), tolerance, method)


@each_case
def test_backward_agrees_with_loops(case):
    name, _, mode, rest, upstream = prepared(case)
    expected = getattr(loops, f"{name}_backward")(upstream, *mode, *rest)
    assert gradcheck.max_error(gradients(name, upstream, mode, rest), expected) <= tolerances.TRANSPORT_LOOPS


FIRST = {case.split(":")[0]: case for case in reversed(CASES)}  # the first case of each pair
CONTRAST = FIRST | {  # where every mistake shows
    "conv2d": "conv2d: asymmetric padding, kernel (3, 2)",
    "avg_pool": "avg_pool: correlated",
    "add": "add: one for all batches",
}
ONE_MODE = {"eps_term_dropped": "belief", "half_forgotten": "observed", "mean_to_gamma_dropped": "observed"}
PLANTED = [
    (case, mistake)
    for name, mistakes in loops.MISTAKES.items()
    for mistake in mistakes.split()
    for case in (
        [f"push: {mode}, batches" for mode in ("belief", "observed") if ONE_MODE.get(mistake, mode) == mode]
        if name == "push"
        else [CONTRAST[name]]
    )
]


@pytest.mark.parametrize(("case", "mistake"), PLANTED)
def test_planted_mistake_is_rejected(case, mistake):
    name, function, mode, rest, upstream = prepared(case)
    backward = getattr(loops, f"{name}_backward")
    gradcheck.check(function, rest, upstream, backward(upstream, *mode, *rest), tolerances.COMPLEX_STEP)
    with pytest.raises(AssertionError, match=r"^gradient of argument \d is off by .*; tolerance 1e-12$"):
        wrong = backward(upstream, *mode, *rest, mistake=mistake)
        gradcheck.check(function, rest, upstream, wrong, tolerances.COMPLEX_STEP)


@each_case
def test_results_have_the_type_and_the_shapes_of_the_arguments(case):
    name, _, mode, rest, upstream = prepared(case)

    def narrow(value):
        if isinstance(value, kr.Moments):
            return kr.Moments(*map(narrow, value))
        return value.astype(np.float32) if isinstance(value, np.ndarray) else value

    result = gradients(name, narrow(upstream), mode, tuple(map(narrow, rest)))
    for gradient, argument in zip(result, rest, strict=False):
        for a, b in zip(gradcheck.leaves(gradient), gradcheck.leaves(argument), strict=True):
            assert a.shape == b.shape and a.dtype == np.float32
    assert all(s.dtype == np.float32 for s in getattr(transport, name)(*mode, *map(narrow, rest)))


# ---- the rectified Gaussian --------------------------------------------------------------------------------------


def exact_relu(m, v):
    """Mean, variance, dmean/dm, dmean/dv, dvar/dm, dvar/dv in 50 digits, each from its definition."""
    with mpmath.workdps(50):
        m, v = mpmath.mpf(float(m)), mpmath.mpf(float(v))
        s = mpmath.sqrt(v)
        t = m / s
        phi, below = mpmath.npdf(t), mpmath.erfc(t / mpmath.sqrt(2)) / 2
        cdf = mpmath.erfc(-t / mpmath.sqrt(2)) / 2
        mean = m * cdf + s * phi
        var = (m**2 + v) * cdf + m * s * phi - mean**2
        return [float(a) for a in (mean, var, cdf, phi / (2 * s), 2 * mean * below, cdf - mean * phi / s)]


def package_relu(m, v):
    pair = kr.Moments(np.asarray(m, float), np.asarray(v, float))
    one, zero = np.ones(pair.mean.shape), np.zeros(pair.mean.shape)
    of_mean = transport.relu_backward(kr.Moments(one, zero), pair)
    of_var = transport.relu_backward(kr.Moments(zero, one), pair)
    return np.stack([*transport.relu(pair), *of_mean, *of_var])


@pytest.mark.parametrize("v", [1e-12, 1.0, 7.3, 1e10])
def test_relu_in_50_digits(v):
    t = np.concatenate([np.linspace(-37, 40, 400), [np.nextafter(-4, -5), -4, -1e-9, 0, 1e-9, 4, 300.1, 1e3, 1e5]])
    m = t * np.sqrt(v)
    expected = np.array([exact_relu(a, v) for a in m]).T
    subnormal = np.abs(expected) < 1e-290  # dmean/dv and dvar/dm in the far right tail
    error = np.abs(package_relu(m, np.full_like(m, v)) - expected) / np.where(subnormal, 1, np.abs(expected))
    assert error.max() <= tolerances.RELU


def test_variance_as_a_difference_is_rejected_at_300():
    """E z^2 - M^2, right on paper, cancels where t is large: the test above must see that."""
    v, m = 2.7, np.sqrt(2.7) * np.linspace(300, 301, 50)
    naive = (m**2 + v) - m**2  # Phi = 1 and phi = 0 in float64
    expected = np.array([exact_relu(a, v)[1] for a in m])
    assert np.max(np.abs(naive - expected) / expected) > tolerances.RELU
    assert np.max(np.abs(package_relu(m, np.full(50, v))[1] - expected) / expected) <= tolerances.RELU


def test_relu_beyond_the_tails():
    m = np.array([-1e300, -1e30, -100.0, -39.0, -38.6, -37.9, 41.0, 1e5, 1e30, 1e300])
    result = package_relu(m, np.ones(10))
    assert np.isfinite(result).all() and (result >= 0).all()
    np.testing.assert_array_equal(result[0, 6:], m[6:])
    np.testing.assert_array_equal(result[1, 6:], 1.0)
    np.testing.assert_array_equal(result[:, :4], 0.0)


def test_relu_of_a_vanishing_variance():
    m = np.array([-2.0, -1e-20, 0.0, 1e-20, 3.0])
    for v in (0.0, 1e-300, 5e-324):
        mean, var, *derivatives = package_relu(m, np.full(5, v))
        np.testing.assert_allclose(mean, np.maximum(m, 0), rtol=1e-15, atol=np.sqrt(v))
        assert (var >= 0).all() and var.max() <= v
        assert np.isfinite(derivatives).all() and np.min(derivatives) >= 0
    single = kr.Moments(np.float32([-1, 0, 1]), np.zeros(3, np.float32))
    assert all(np.isfinite(a).all() for a in transport.relu_backward(single, single))


def test_relu_is_monotone_and_bounded():
    t = np.linspace(-37, 40, 3001)
    mean, var, *_ = package_relu(t, np.ones(t.size))
    assert (np.diff(mean) > 0).all() and (mean > np.maximum(t, 0) - 1e-13).all()
    assert (np.diff(var) >= -1e-15).all() and (var > 0).all() and (var <= 1).all()  # rectifying only shrinks


def test_nan_and_inf_stay_where_they_are():
    m, v = np.array([np.nan, 1.0, np.inf, -np.inf, 1.0]), np.array([1.0, np.nan, 1.0, 1.0, 2.0])
    mean, var = transport.relu(kr.Moments(m, v))
    np.testing.assert_array_equal(np.isnan(mean), [True, True, False, False, False])
    assert mean[2] == np.inf and var[2] == 1 and mean[3] == var[3] == 0
    assert mean[4] == transport.relu(kr.Moments(m[4:], v[4:])).mean[0]


def test_limits():
    """Slope 1 is the identity, 0 is relu, -1 is |z|, with z's second moment; correlation 1 leaves an average alone."""
    pair = with_tails(33)
    assert gradcheck.max_error(transport.leaky_relu(pair, 1.0), pair) <= tolerances.IDENTITY
    assert gradcheck.max_error(transport.leaky_relu(pair, 0.0), transport.relu(pair)) <= tolerances.IDENTITY
    mean, var = transport.leaky_relu(pair, -1.0)
    second = pair.mean**2 + pair.var
    assert gradcheck.max_error(mean**2 + var, second) <= tolerances.IDENTITY
    assert gradcheck.max_error(transport.avg_pool(pair, 3, 1.0), pair) <= tolerances.IDENTITY


# ---- linear maps, pooling, joins ---------------------------------------------------------------------------------


def test_linear_of_exact_mixtures():
    """A few equally likely inputs, independent per channel: every combination enumerated."""
    values = np.array([[-1.0, 2.0, 7.0], [3.0, 5.0, 5.0]])  # two values for each of three channels
    every = np.array([[values[i, 0], values[j, 1], values[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    w, b = weight(C, OUT), weight(OUT)
    result = transport.linear(kr.Moments(values.mean(axis=0), values.var(axis=0)), w, b)
    y = every @ w + b
    assert gradcheck.max_error(result, kr.Moments(y.mean(axis=0), y.var(axis=0))) <= tolerances.IDENTITY


@pytest.mark.parametrize(
    ("k", "mean", "var"),
    [
        (1, 0, 1),
        (2, 1 / np.sqrt(np.pi), 1 - 1 / np.pi),
        (3, 1.5 / np.sqrt(np.pi), (4 * np.pi - 9 + 2 * np.sqrt(3)) / (4 * np.pi)),
        (4, *loops.largest_of_4()),
    ],
)
def test_largest_of_k(k, mean, var):
    assert largest_of(k) == pytest.approx((mean, var), rel=tolerances.MAX_CONSTANTS, abs=1e-14)


def test_max_pool_of_four():
    mean, var = transport.max_pool(kr.Moments(np.array([5.0]), np.array([4.0])), 2)
    assert mean.item() == pytest.approx(5 + 2 * 1.0294, abs=1e-4) and var.item() == pytest.approx(4 * 0.4917, abs=4e-4)


def test_every_statistics_batch_by_itself():
    a, b = estimate(G, C), estimate(G, C)
    row = lambda pair, g: kr.Moments(pair.mean[g], pair.var[g])  # noqa: E731
    for function in (
        lambda a, b: transport.add(a, b),
        lambda a, b: transport.pad_channels(a, 1, 2),
        lambda a, b: transport.conv2d(a, CASES["conv2d: 1x1"][1], 1, 1, (3, 4)),
        lambda a, b: transport.push("observed", a, b, GAMMA, BETA),
    ):
        together = function(a, b)
        for g in range(G):
            alone = function(row(a, g), row(b, g))
            assert gradcheck.max_error(row(together, g), alone) <= tolerances.IDENTITY
    padded = transport.pad_channels(a, 1, 2)
    assert not padded.mean[:, [0, 4, 5]].any() and not padded.var[:, [0, 4, 5]].any()
    np.testing.assert_array_equal(padded.mean[:, 1:4], a.mean)
