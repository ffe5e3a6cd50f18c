"""Holds the gradients of convolution of few and of many images, which the compiled backend computes in two ways, to the
gradients of the images one by one."""

import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref.backend import get_num_threads
from kalnorm_ref.convolution import conv2d_backward, conv2d_forward, conv2d_weight_backward, convolve_gradients

# more channels than two vectors hold, and numbers of a row of the kernel that are no multiple of a share; the largest
# images are too large to be held together
compiled = pytest.mark.parametrize("backend", ["cython"], indirect=True)
SIZES = {"small": (7, 6, 17, 33, 2), "one number of channels": (5, 4, 3, 1, 1), "large": (150, 60, 20, 5, 1)}
WORK_FOR_THREADS = (16, 16, 32, 33, 1)  # two such images, held together


def problem(images, size, dtype=np.float64):
    h, w, c_in, c_out, stride = SIZES.get(size, size)
    rng = np.random.default_rng(images)
    x, weight = rng.normal(4, 2, (images, h, w, c_in)), rng.normal(0.3, 0.6, (3, 3, c_in, c_out))
    bias = rng.normal(1, 2, c_out)
    y, cache = conv2d_forward(x.astype(dtype), weight.astype(dtype), bias.astype(dtype), stride, 1)
    return rng.standard_normal(y.shape).astype(dtype), cache


def of_one(dy, cache, n):
    """The gradients of image n alone."""
    _, alone = conv2d_forward(cache.x[n : n + 1], *cache[1:])
    return conv2d_backward(dy[n : n + 1], alone)


@compiled
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("images", [0, 1, 2, 3])
def test_gradients_are_those_of_the_definition(images, size, backend):
    dy, cache = problem(images, size)
    found = conv2d_backward(dy, cache)
    with kr.use_backend("numpy"):
        expected = conv2d_backward(dy, cache)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerances.TWINS * max(1, np.abs(b).max(initial=0)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("images", [2, 3, 18])
def test_gradients_are_those_of_the_images_one_by_one(images, size, backend):
    dy, cache = problem(images, size)
    dx, *of_parameters = conv2d_backward(dy, cache)
    parts = [of_one(dy, cache, n) for n in range(images)]
    for n, part in enumerate(parts):
        np.testing.assert_allclose(dx[n : n + 1], part[0], rtol=0, atol=tolerances.IDENTITY * np.abs(dx).max())
    for i, gradient in enumerate(of_parameters, 1):
        expected = sum((part[i] for part in parts), np.zeros_like(gradient))
        scale = 1 + sum(np.abs(part[i]).max() for part in parts)
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=tolerances.IDENTITY * scale)


@compiled
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_weight_of_two_images_has_the_bits_of_the_sum(size, dtype, backend):
    dy, cache = problem(2, size, dtype)
    parts = [of_one(dy, cache, n)[1] for n in range(2)]
    np.testing.assert_array_equal(conv2d_backward(dy, cache)[1], parts[0] + parts[1])


@compiled
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("images", [1, 2, 3])
def test_same_bits_at_any_number_of_threads(images, dtype, backend):
    dy, cache = problem(images, WORK_FOR_THREADS, dtype)
    before, results = get_num_threads(), []
    try:
        for threads in (1, 2, 3, 4):
            kr.set_num_threads(threads)
            results += [conv2d_backward(dy, cache) for _ in range(20)]
    finally:
        kr.set_num_threads(before)
    for result in results:
        np.testing.assert_equal(result, results[0])


@pytest.mark.parametrize("images", [2, 3])
def test_gradients_of_the_parameters_alone(images, backend):
    dy, cache = problem(images, "small")
    np.testing.assert_equal(conv2d_weight_backward(dy, cache), conv2d_backward(dy, cache)[1:])


@compiled
@pytest.mark.parametrize("images", [2, 3])
def test_weight_is_made_where_it_is_asked_for(images, backend):
    dy, cache = problem(images, "small")
    dx, dweight, dbias = conv2d_backward(dy, cache)
    place = np.full_like(dweight, np.nan)
    found = convolve_gradients(dy, cache, True, place)
    assert found[1] is place
    np.testing.assert_equal(found, (dx, dweight, dbias))


@compiled
@pytest.mark.parametrize("change", ["another type", "another shape", "not contiguous", "read-only", "none"])
def test_a_place_that_is_not_one_for_it_stays_as_it_was(change, backend):
    dy, cache = problem(2, "small")
    place = {
        "another type": np.zeros((3, 3, 17, 33), np.float32),
        "another shape": np.zeros((9, 17, 33)),
        "not contiguous": np.zeros((3, 3, 33, 17)).swapaxes(2, 3),
        "read-only": np.broadcast_to(0.0, (3, 3, 17, 33)).copy(),
        "none": None,
    }[change]
    if change == "read-only":
        place.flags.writeable = False
    found = convolve_gradients(dy, cache, True, place)
    np.testing.assert_equal(found, conv2d_backward(dy, cache))
    assert place is None or not place.any()
