"""Holds the loops of every instruction set to the NumPy definitions, at the shapes and values where loops go wrong.

Convolution in both types, over kernels, strides, borders and channels that leave every kind of rest; the normalizers in
float32, whose sums are float32 within a tile, to the error law.
"""

import numpy as np
import pytest
import tolerances
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twin_cases import Values, over_budget, run

import kalnorm_ref as kr

pytestmark = pytest.mark.usefixtures("one_thread")

# ---- convolution ---------------------------------------------------------------------------------------------------

KERNELS = (3, 3), (1, 1), (5, 3), (2, 2), (1, 4)
STRIDES = 1, 2, 3
PADDINGS = 1, 0, 6, ((0, 1), (2, 0))  # 6 is beyond every kernel
SIZES = (8, 8), (1, 1), (7, 5), (1, 7), (4, 33), (9, 2)
CHANNELS = 1, 3, 5, 16, 17, 31, 32, 33, 40, 64, 70
IMAGES = 2, 1, 3, 17, 40
WORK = 4_000_000  # multiplications of a case, at most


def geometry(kernel, stride, padding, size, c_in, c_out, images):
    """The case, or as much of it as fits: a kernel beyond the image gets a border, much work fewer images."""
    if isinstance(padding, int) and any(k > n + 2 * padding for k, n in zip(kernel, size, strict=True)):
        padding = 2
    if padding == PADDINGS[3] and (kernel[0] > size[0] + 1 or kernel[1] > size[1] + 2):
        padding = 2
    pixels = kernel[0] * kernel[1] * c_in * c_out * size[0] * size[1]
    return kernel, stride, padding, size, c_in, c_out, max(1, min(images, WORK // pixels))


def turn(values, i):
    return values[i % len(values)]


COVER = [
    geometry(turn(KERNELS, i), turn(STRIDES, i // 5), turn(PADDINGS, i // 3), turn(SIZES, i // 2), *channels, images)
    for i in range(44)
    for channels, images in [((turn(CHANNELS, i), turn(CHANNELS, 3 * i + i // 11)), turn(IMAGES, i // 4))]
]
NARROW = [  # images narrower than the stride, of which only some columns of the kernel are met
    ((2, 2), 3, 1, (9, 2), 5, 17, 2),
    ((3, 4), 5, ((2, 1), (1, 3)), (7, 2), 16, 3, 3),
    ((4, 2), 4, ((1, 0), (2, 1)), (6, 1), 1, 5, 2),
]


def test_the_cases_cover_every_value():
    for place, values in enumerate((KERNELS, STRIDES, PADDINGS, SIZES, CHANNELS, CHANNELS, IMAGES)):
        assert {case[place] for case in COVER} >= set(values)
    assert len(set(COVER)) == len(COVER)


def both_ways(x, weight, bias, stride, padding, dy, which):
    y, cache = run("conv2d_forward", (x, weight, bias, stride, padding), which)
    return y, *run("conv2d_backward", (dy, cache), which)


def hold_convolution(case, sets, seed=0):
    """Every result, element by element, over the sum of the absolute values that it is a sum of."""
    kernel, stride, padding, size, c_in, c_out, images = case
    v = Values((1, 1), seed=seed)
    x, weight, bias = v.normal(images, *size, c_in, mean=1.0), v.normal(*kernel, c_in, c_out), v.normal(c_out)
    for dtype, limit in ((np.float64, tolerances.TWINS), (np.float32, tolerances.FLOAT32_SUMS)):
        given = [a.astype(dtype) for a in (x, weight, bias)]
        wide = [a.astype(float) for a in given]
        dy = v.normal(*run("conv2d_forward", (*wide, stride, padding), "numpy")[0].shape).astype(dtype)
        exact = both_ways(*wide, stride, padding, dy.astype(float), "numpy")
        sizes = both_ways(*map(np.abs, wide), stride, padding, np.abs(dy.astype(float)), "numpy")
        for _ in sets():
            for got, right, of in zip(both_ways(*given, stride, padding, dy, "cython"), exact, sizes, strict=True):
                assert got.dtype == dtype and got.shape == right.shape
                assert (np.abs(got - right) <= limit * of).all(), case


@pytest.mark.parametrize("case", COVER + NARROW, ids=str)
def test_convolution_at_hard_shapes(case, each_set):
    hold_convolution(case, each_set)


channels = st.one_of(st.sampled_from(CHANNELS), st.integers(1, 72))


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(1, 5),
    st.tuples(st.tuples(st.integers(0, 6), st.integers(0, 6)), st.tuples(st.integers(0, 6), st.integers(0, 6))),
    st.tuples(st.one_of(st.integers(1, 4), st.integers(1, 12)), st.one_of(st.integers(1, 4), st.integers(1, 35))),
    channels,
    channels,
    st.integers(1, 20),
)
def test_convolution_at_any_shape(each_set, kernel, stride, padding, size, c_in, c_out, images):
    for side, n, (before, after) in zip(kernel, size, padding, strict=True):
        if side > n + before + after:
            return
    pixels = kernel[0] * kernel[1] * c_in * c_out * size[0] * size[1]
    images = max(1, min(images, WORK // pixels))
    hold_convolution((kernel, stride, padding, size, c_in, c_out, images), each_set, seed=images)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_bad_number_reaches_what_it_reaches_in_numpy(bad, dtype, each_set):
    """A bad weight reaches more of dx: the zeros that stand around dy meet it, as those around x do going forward."""
    v, (stride, padding) = Values((1, 1), dtype=dtype), (2, ((0, 2), (1, 0)))
    x, weight, bias = v.normal(3, 7, 6, 5, mean=1.0), v.normal(3, 2, 5, 19), v.normal(19)
    dy = v.normal(*run("conv2d_forward", (x, weight, bias, stride, padding), "numpy")[0].shape)
    for spoilt in range(4):
        for place in range(0, (x, weight, bias, dy)[spoilt].size, 41):
            given = [a.copy() for a in (x, weight, bias, dy)]
            given[spoilt].reshape(-1)[place] = bad
            arguments = *given[:3], stride, padding, given[3]
            y, dx, dweight, dbias = map(np.isfinite, both_ways(*arguments, "numpy"))
            for _ in each_set():
                got = [np.isfinite(a) for a in both_ways(*arguments, "cython")]
                np.testing.assert_array_equal(got[0], y)
                assert not (got[1] & ~dx).any() if spoilt == 1 else (got[1] == dx).all()
                np.testing.assert_array_equal(got[2], dweight)
                np.testing.assert_array_equal(got[3], dbias)


# ---- normalizers ---------------------------------------------------------------------------------------------------

METHODS = "BN", "BRN", "KN"
WIDTHS = 1, 3, 5, 16, 17, 64, 100, 256, 257, 600
SAMPLES = 1, 2, 15, 255, 256, 257, 1000, 4500


def hold_to_the_law(v, eps, each_set, label=""):
    """Every tensor of every method within its budget, in every set."""
    square = (v.x.astype(float) ** 2).mean(axis=0).clip(1e-38, 1e38).astype(np.float32)
    given = {"BN": (), "BRN": v.corrections, "KN": (kr.Moments(v.x[-1], square), v.unit(v.c))}
    for name in each_set():
        for method in METHODS:
            found = over_budget(method, v, given[method], eps)
            assert max(found.values()) <= 1, (label, name, method, found)


@pytest.mark.parametrize("offset", [0, 300, 1000])
@pytest.mark.parametrize("c", WIDTHS)
def test_the_error_law_at_hard_shapes(c, offset, each_set):
    for m in SAMPLES:
        if m * c <= 100_000:
            hold_to_the_law(Values((m, c), dtype=np.float32, offset=1.5 * offset, seed=m + c), 1e-5, each_set, m)


def constant(v):
    v.x[:, ::2] = 7.3


def outlier(v):
    v.x[0] = 1500


def huge_number(v):
    v.x[len(v.x) // 2, v.c // 2] = 3e38


def every_size(v):
    v.x *= np.float32(10.0) ** np.linspace(-28, 28, v.c).astype(np.float32)


def no_gamma(v):
    v.gamma *= 0


def times(name, factor):
    def spoil(v):
        setattr(v, name, getattr(v, name) * np.float32(factor))

    spoil.__name__ = f"{name} times {factor}"
    return spoil


HARD = [(constant, 1e-5), (outlier, 1e-5), (huge_number, 1e-5), (every_size, 0.0), (no_gamma, 1e-5)]
HARD += [(times("x", size), 0.0) for size in (1e30, 1e15, 1e-12, 1e-14, 1e-25, 1e-30)] + [(times("x", 1e-30), 1e-5)]
HARD += [(times("dy", size), 1e-5) for size in (1e37, 1e30, 1e-30)] + [(times("gamma", 1e-35), 1e-5)]


@pytest.mark.parametrize(("spoil", "eps"), HARD, ids=[f"{spoil.__name__}, eps {eps}" for spoil, eps in HARD])
def test_the_error_law_at_hard_values(spoil, eps, each_set):
    """Constant channels, outliers, values and gradients near both ends of float32: nothing turns Inf, NaN or 0."""
    for m, c in ((300, 3), (257, 16), (128, 64), (1000, 70), (40, 300)):
        v = Values((m, c), dtype=np.float32, seed=c)
        with np.errstate(over="ignore"):
            spoil(v)
        hold_to_the_law(v, eps, each_set, (m, c))


@pytest.mark.parametrize("offset", [300, 30_000])
@pytest.mark.parametrize("c", [1, 3, 16, 17, 70, 300])
def test_rounding_the_mean_to_float32_costs_nothing(c, offset, each_set):
    """Far from zero y and both gradients are as exact as x itself is, although the loops subtract a rounded mean."""
    v = Values((1000, c), dtype=np.float32, offset=1.5 * offset, seed=5)
    x, dy, unit = v.x.astype(float), v.dy + np.float32(3), tolerances.FAR_FROM_ZERO * 2.0**-24
    r = 1 / np.sqrt(x.var(axis=0) + 1e-5)
    hat, d = (x - x.mean(axis=0)) * r, dy.astype(float)
    along, size = (d * hat).sum(axis=0), np.abs(d * hat).sum(axis=0)
    for name in each_set():
        y, _, cache = run("batch_norm_forward", (v.x, np.ones(c, np.float32), None), "cython")
        dx, dgamma, _ = run("batch_norm_backward", (dy, cache), "cython")
        assert (np.abs(y - hat) <= unit * (1 + np.abs(hat))).all(), name
        assert (np.abs(dgamma - along) <= unit * size).all(), name
        parts = np.abs(d) + np.abs(d).mean(axis=0) + np.abs(hat) * size / len(x)
        assert (np.abs(dx / r - (d - d.mean(axis=0) - hat * along / len(x))) <= unit * parts).all(), name


@pytest.mark.parametrize("sigmas", [10, 800, 4000, 73000])
def test_small_squares_are_not_lost_beside_a_large_one(sigmas, each_set):
    """An outlier stands first, so that all other squares are added to its own."""
    for c in (16, 32, 64):
        x = np.random.default_rng(0).uniform(-1, 1, (256, c)).astype(np.float32)
        x[0] = sigmas
        for name in each_set():
            found = run("observe", (x,), "cython").var
            error = np.abs(found / x.astype(float).var(axis=0) - 1).max()
            assert error <= tolerances.ERROR_LAW_VAR * 2.0**-24, (name, c)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("c", [1, 3, 16, 17, 70])
def test_a_bad_number_anywhere_in_a_tile_spoils_its_channel_alone(c, bad, each_set):
    v = Values((2, 77, c), dtype=np.float32)
    given = {"batch_norm": (), "batch_renorm": v.corrections, "kalman_norm": (v.pair(c), v.unit(c))}
    for place in np.random.default_rng(1).integers(0, v.x.size, 6):
        for spoilt in ("x", "dy"):
            values = {"x": v.x.copy(), "dy": v.dy.copy()}
            values[spoilt].reshape(-1)[place] = bad
            batch, channel = place // (77 * c), place % c
            for _ in each_set():
                for name, more in given.items():
                    y, moments, cache = run(f"{name}_forward", (values["x"], v.gamma, v.beta, *more), "cython")
                    back = (values["dy"], None, cache) if name == "kalman_norm" else (values["dy"], cache)
                    dx = run(f"{name}_backward", back, "cython")[0]
                    for result in (dx, *((y, *moments) if spoilt == "x" else ())):
                        clean = np.isfinite(result)
                        clean[(batch, ..., channel)] ^= True
                        assert clean.all(), (name, place)
