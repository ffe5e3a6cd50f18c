"""The compiled backend takes what comes: any memory layout, any number of threads, NaN, Inf and wrong calls."""

import re
import warnings

import numpy as np
import pytest
import threadpoolctl
import tolerances
from twin_cases import Values, backwards, cases, convolutions, core, run, same_bits

import kalnorm_ref as kr
from kalnorm_ref import backend
from kalnorm_ref.convolution import conv2d_backward, conv2d_forward
from kalnorm_ref.gradcheck import leaves


def strided(a):
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1] + 1), np.nan, a.dtype)
    wide[..., 1::2] = a
    return wide[..., 1::2]


def unaligned(a):
    raw = np.empty(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def between_nan(a):
    room = np.full(a.size + 64, np.nan, a.dtype)
    view = room[32 : 32 + a.size].reshape(a.shape)
    view[...] = a
    return view


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "strided": strided,
    "negative strides": backwards,
    "transposed axes": lambda a: np.swapaxes(np.swapaxes(a, 0, -1).copy(), 0, -1),
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "unaligned": unaligned,
    "between NaN": between_nan,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout_gives_the_same_bits_and_leaves_its_arguments_alone(layout, dtype):
    def lay(a):
        a = LAYOUTS[layout](a) if a.ndim else a
        a.flags.writeable = False
        return a

    for plain, laid in zip(
        cases(Values((3, 21, 5), dtype=dtype)), cases(Values((3, 21, 5), lay, dtype=dtype)), strict=True
    ):
        name, arguments = laid
        before = tuple(a.copy() for a in leaves(arguments))
        assert same_bits(run(name, arguments, "cython"), run(name, plain[1], "cython")), name
        assert same_bits(before, arguments), name


@pytest.mark.parametrize("shape", [(40000, 3), (150, 700), (64, 300, 4), (1, 20000, 16)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_same_bits_at_any_number_of_threads(shape, dtype, monkeypatch):
    results = []
    for threads in (1, 2, 4, 3, 2):
        monkeypatch.setattr(backend, "_num_threads", threads)
        results.append(tuple(run(name, arguments, "cython") for name, arguments in cases(Values(shape, dtype=dtype))))
    assert all(same_bits(result, results[0]) for result in results[1:])


def test_blas_keeps_its_threads():
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = threadpoolctl.threadpool_info()
        assert 2 in [library["num_threads"] for library in before]
        for name, arguments in convolutions(Values((4, 3))):
            run(name, arguments, "cython")
        assert threadpoolctl.threadpool_info() == before


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_values_reach_what_they_reach_in_numpy(bad):
    """Each array of each call in turn gets one bad number; exactly NumPy's results are not finite, or NaN for NaN."""
    for position in range(12):
        for name, arguments in cases(Values((2, 12, 3))):
            spoilt = replaced(arguments, position, bad)
            try:
                expected = leaves(run(name, spoilt, "numpy"))
            except ValueError:  # an infinite gain, a negative variance
                with pytest.raises(ValueError, match="expected"):
                    run(name, spoilt, "cython")
            else:
                for a, b in zip(leaves(run(name, spoilt, "cython")), expected, strict=True):
                    np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b), err_msg=f"{name} {position}")
                    if np.isnan(bad):
                        np.testing.assert_array_equal(np.isnan(a), np.isnan(b), err_msg=f"{name} {position}")


def replaced(arguments, position, bad):
    """The arguments with one bad number in the array at `position`, counted over nested tuples."""
    count = iter(range(-position, 100))

    def walk(value):
        if isinstance(value, tuple):
            items = [walk(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        if not isinstance(value, np.ndarray) or next(count) != 0 or not value.size:
            return value
        value = value.copy()
        value.reshape(-1)[value.size // 2] = bad
        return value

    return walk(arguments)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_variance_without_eps_is_silent_and_numpys(dtype):
    x = np.full((64, 2), 3.0, dtype)
    x[:, 1] = np.arange(64)
    dy = np.random.default_rng(2).standard_normal(x.shape).astype(dtype)
    results = []
    for which in backend.BACKENDS:
        with warnings.catch_warnings(), kr.use_backend(which):
            warnings.simplefilter("error")
            y, _, cache = kr.batch_norm_forward(x, None, None, 0.0)
            results.append((y, *kr.batch_norm_backward(dy, cache)[:1]))
    for a, b in zip(*results, strict=True):
        assert np.isnan(a[:, 0]).all() and np.isnan(b[:, 0]).all()
        np.testing.assert_allclose(a[:, 1], b[:, 1], rtol=0, atol=tolerances.TWINS_FLOAT32 * np.abs(b[:, 1]).max())


def test_complex_data_is_refused_by_every_twin():
    for name, arguments in cases(Values((4, 3), lambda a: a.astype(complex))):
        message = f'{name} got complex data, which only the NumPy backend takes: use_backend("numpy")'
        with pytest.raises(TypeError, match=rf"^{re.escape(message)}$"):
            run(name, arguments, "cython")


def test_convolutions_at_once_in_several_python_threads():
    from concurrent.futures import ThreadPoolExecutor

    v = Values((4, 3))
    x, weight, dy = v.normal(9, 16, 16, 8), v.normal(3, 3, 8, 8), v.normal(9, 16, 16, 8)

    def both():
        with kr.use_backend("cython"):
            y, cache = conv2d_forward(x, weight, None, 1, 1)
            return (y, *conv2d_backward(dy, cache)[:2])

    expected, before = both(), threadpoolctl.threadpool_info()
    with ThreadPoolExecutor(4) as pool:
        assert all(same_bits(future.result(), expected) for future in [pool.submit(both) for _ in range(40)])
    assert threadpoolctl.threadpool_info() == before


def test_called_directly_a_twin_refuses_what_its_loops_would_overrun():
    v = Values((6, 3))
    cache = run("batch_norm_forward", (v.x, v.gamma, v.beta), "cython")[-1]
    with pytest.raises(ValueError, match=r"^an array has shape \(5, 3\); expected \(6, 3\)$"):
        core.batch_norm_backward(v.dy[:5], cache)
    with pytest.raises(ValueError, match=r"^x has shape \(6,\); expected \(\.\.\., m, C\)$"):
        core.observe(v.x[:, 0])
    with pytest.raises(ValueError, match="broadcast"):
        core.standardize(v.x, v.pair(2), None, None, 0.0)
    with pytest.raises(ValueError, match="broadcast"):
        core.predict(v.pair(3), v.normal(4, 4), np.array(0.0))
    with pytest.raises(ValueError, match=r"^x has 3 channels and stride is 1; expected 2 and at least 1$"):
        core.conv2d_forward(v.normal(1, 4, 4, 3), v.normal(3, 3, 2, 2), None, 1, ((0, 0), (0, 0)))
    np.testing.assert_array_equal(
        core.batch_norm_backward(v.dy.astype(np.float32), cache)[0],
        core.batch_norm_backward(v.dy.astype(np.float32).astype(float), cache)[0],
    )
