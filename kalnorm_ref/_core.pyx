# cython: language_level=3, cdivision=True
"""The compiled twins of the public NumPy functions: the same names, signatures and results, for speed.

Design. Arguments come checked (see `twinned`). Here x is (batches, m, C), contiguous, float or double; every statistic
is double, one number per batch and channel. Three loops touch the data: tile_moments (observe), tile_sums (sum dy and
sum dy x_hat) and tile_combine (weight dy + scale (x - centre) + shift, which is every y and every dx). What lies
between them works on statistics alone, one scalar function or loop per equation.

Accuracy and repeatability. A batch is cut into tiles of at most ROWS rows; a tile's sums are double, about its own
mean, and tiles are merged by a binary tree. The cut depends on the shape only, never on the number of threads, so a
result has the same bits at any number. Where C is small, samples lie side by side in rows of about LANES numbers, to
give the compiler a long inner loop; an incomplete last row is the tile's `tail`.
"""

import functools
import math
import threading

import numpy as np
from threadpoolctl import ThreadpoolController

cimport cython
cimport numpy as cnp
from cython.parallel cimport prange, threadid
from libc.math cimport sqrt
from libc.string cimport memcpy, memset
from scipy.linalg.cython_blas cimport dgemm, sgemm

cnp.import_array()

ctypedef fused real:  # the storage of x, y, dy, dx, weights
    float
    double

ctypedef const double[::1] Statistic  # flat: a number per batch and channel

cdef enum:
    LANES = 32  # numbers in a row of samples laid side by side
    ROWS = 128  # rows of a tile
    COLUMNS = 256  # columns of a tile
    ALONE = 32768  # numbers below which one thread does the work; for a convolution, numbers of patches
    MANY = 16  # batches from which the threads share out batches, not the tiles of one batch


cdef struct Layout:
    Py_ssize_t batches, m, channels
    Py_ssize_t size  # m * channels, the numbers of a batch
    Py_ssize_t width  # numbers in a row: channels, or a multiple of them
    Py_ssize_t down, across  # tiles of a batch
    Py_ssize_t plane  # down * width, the numbers of one column sum of every tile
    int outer, inner  # threads over batches, threads over the tiles of one


cdef struct Tile:
    Py_ssize_t start  # first number of the tile, counted from the batch's
    Py_ssize_t column  # first column
    Py_ssize_t into  # where its column sums go in a plane
    Py_ssize_t rows, width
    Py_ssize_t tail  # length of an incomplete row below the others, in the last tile


# ---- arrays --------------------------------------------------------------------------------------------------------


cdef cnp.ndarray contiguous(x, like=None, shape=None):
    """x as a C-contiguous, aligned, native array, itself where it is that already; of the type of `like` if given.

    The loops below trust shapes and types, so this refuses a `shape` other than x's.
    """
    if shape is not None and x.shape != shape:
        raise ValueError(f"an array has shape {x.shape}; expected {shape}")
    kind = cnp.NPY_FLOAT32 if (x if like is None else like).dtype.type is np.float32 else cnp.NPY_FLOAT64
    return cnp.PyArray_FROM_OTF(x, kind, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED)


cdef tuple statistics_shape(x):
    if x.ndim < 2:
        raise ValueError(f"x has shape {x.shape}; expected (..., m, C)")
    return x.shape[:-2] + x.shape[-1:]


cdef cnp.ndarray spread(value, shape, double absent=0):
    """A statistic broadcast to `shape`, as a flat array of doubles; `absent` stands for None."""
    given = np.asarray(absent if value is None else value, np.float64)
    return contiguous(given if given.shape == shape else np.broadcast_to(given, shape)).reshape(-1)


cdef moments_pair(mean, var, shape, dtype=np.float64):
    """Moments (..., C) of flat statistics."""
    from .moments import Moments

    return Moments(mean.reshape(shape).astype(dtype, copy=False), var.reshape(shape).astype(dtype, copy=False))


cdef wide(value):
    """What a cache keeps of a statistic or a parameter: float64 in its own shape, None, or Moments of them."""
    if isinstance(value, tuple):
        return type(value)(*[wide(a) for a in value])
    return None if value is None else np.asarray(value, np.float64)


cdef widest(arrays):
    """Type of the results where no argument leads; a scalar gain or noise has no say."""
    return np.result_type(*[a for a in arrays if a.ndim])


cdef sum_to(Statistic gradient, full, argument, dtype):
    """Sum a gradient of shape `full` over the axes along which its argument was broadcast; None stays None."""
    if argument is None:
        return None
    total = np.zeros(np.shape(argument))
    place = np.broadcast_to(np.arange(total.size, dtype=np.intp).reshape(total.shape), full)
    add_at(gradient, np.ascontiguousarray(place).reshape(-1), total.reshape(-1))
    return total.astype(dtype, copy=False)


@cython.boundscheck(False)
cdef void add_at(Statistic gradient, const Py_ssize_t[::1] place, double[::1] total) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(gradient.shape[0]):
        total[place[i]] += gradient[i]


cdef void *data(cnp.ndarray a) noexcept nogil:
    return cnp.PyArray_DATA(a)


cdef double *numbers(cnp.ndarray statistic) noexcept nogil:
    return <double *>cnp.PyArray_DATA(statistic)


cdef bint is_single(cnp.ndarray a) noexcept:
    return cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32


cdef int threads_for(Py_ssize_t size) except -1:
    from .backend import get_num_threads

    return get_num_threads() if size >= ALONE else 1


cdef Layout layout_of(cnp.ndarray x) except *:
    cdef Layout at
    cdef Py_ssize_t whole_rows
    cdef int threads = threads_for(x.size), i
    at.channels, at.m, at.batches = x.shape[x.ndim - 1], x.shape[x.ndim - 2], 1
    for i in range(x.ndim - 2):
        at.batches *= x.shape[i]
    if at.channels == 0:  # nothing to do, and nothing to divide by
        at.batches, at.channels = 0, 1
    at.size = at.m * at.channels
    at.width = at.channels * max(1, min(at.m, LANES // at.channels))
    whole_rows = at.size // at.width
    at.down, at.across = max(1, (whole_rows + ROWS - 1) // ROWS), (at.width + COLUMNS - 1) // COLUMNS
    at.plane = at.down * at.width
    at.outer = threads if at.batches >= MANY else 1
    at.inner = 1 if at.batches >= MANY else threads
    return at


# ---- one tile ------------------------------------------------------------------------------------------------------


cdef Tile tile_at(Layout at, Py_ssize_t index) noexcept nogil:
    cdef Tile t
    cdef Py_ssize_t row = index // at.across, whole_rows = at.size // at.width
    t.column = index % at.across * COLUMNS
    t.start, t.into = row * ROWS * at.width + t.column, row * at.width + t.column
    t.rows, t.width = min(whole_rows - row * ROWS, ROWS), min(at.width - t.column, COLUMNS)
    t.tail = at.size - whole_rows * at.width if row == at.down - 1 else 0
    return t


cdef void add_rows(const real *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t width, double *total) noexcept nogil:
    """Add every row of x to `total`."""
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(width):
            total[j] += x[i * stride + j]


cdef void tile_moments(const real *x, Layout at, Py_ssize_t index, double *planes) noexcept nogil:
    """Per column: sum, mean, sum d and sum d^2, d = x - mean. The sum of d is what rounding left in the mean."""
    cdef Tile t = tile_at(at, index)
    cdef double *total = planes + t.into
    cdef double *centre = total + at.plane
    cdef double *rest = centre + at.plane
    cdef double *square = rest + at.plane
    cdef Py_ssize_t i, j
    cdef double d
    x += t.start
    for j in range(t.width):
        total[j] = rest[j] = square[j] = 0
    add_rows(x, t.rows, at.width, t.width, total)
    add_rows(x + t.rows * at.width, 1, at.width, t.tail, total)
    for j in range(t.width):
        centre[j] = total[j] / (t.rows + (j < t.tail))
    for i in range(t.rows + 1):
        for j in range(t.width if i < t.rows else t.tail):
            d = x[i * at.width + j] - centre[j]
            rest[j] += d
            square[j] += d * d


cdef void tile_sums(const real *dy, const real *x, Layout at, Py_ssize_t index, double *planes) noexcept nogil:
    """Per column: sum dy and sum dy x_hat. A row of means and one of rstd follow the two planes."""
    cdef Tile t = tile_at(at, index)
    cdef double *sum_dy = planes + t.into
    cdef double *sum_dy_x_hat = sum_dy + at.plane
    cdef double *mean = planes + 2 * at.plane + t.column
    cdef double *rstd = mean + at.width
    cdef Py_ssize_t i, j
    cdef double g
    x += t.start
    dy += t.start
    for j in range(t.width):
        sum_dy[j] = sum_dy_x_hat[j] = 0
    for i in range(t.rows + 1):
        for j in range(t.width if i < t.rows else t.tail):
            g = dy[i * at.width + j]
            sum_dy[j] += g
            sum_dy_x_hat[j] += g * ((x[i * at.width + j] - mean[j]) * rstd[j])


cdef void tile_combine(
    const real *dy, const real *x, Layout at, Py_ssize_t index, const double *rows, real *out
) noexcept nogil:
    """out = weight dy + scale (x - centre) + shift; without the first term where dy is NULL."""
    cdef Tile t = tile_at(at, index)
    cdef const double *weight = rows + t.column
    cdef const double *centre = weight + at.width
    cdef const double *scale = centre + at.width
    cdef const double *shift = scale + at.width
    cdef Py_ssize_t i, j, k
    x += t.start
    out += t.start
    if dy != NULL:
        dy += t.start
    for i in range(t.rows + 1):
        k = i * at.width
        if dy == NULL:
            for j in range(t.width if i < t.rows else t.tail):
                out[k + j] = <real>((x[k + j] - centre[j]) * scale[j] + shift[j])
        else:
            for j in range(t.width if i < t.rows else t.tail):
                out[k + j] = <real>(weight[j] * dy[k + j] + (x[k + j] - centre[j]) * scale[j] + shift[j])


# ---- one batch -----------------------------------------------------------------------------------------------------


cdef void merge(double *plane, Layout at) noexcept nogil:
    """Add up the tiles' column sums by a binary tree; the first C numbers of the plane are then the channels' sums."""
    cdef Py_ssize_t step = 1, i, j
    while step < at.down:
        i = 0
        while i + step < at.down:
            for j in range(at.width):
                plane[i * at.width + j] += plane[(i + step) * at.width + j]
            i += 2 * step
        step *= 2
    for j in range(at.channels, at.width):
        plane[j % at.channels] += plane[j]


cdef void side_by_side(const double *statistic, Layout at, double *row) noexcept nogil:
    """Repeat one number per channel over the width of a row."""
    cdef Py_ssize_t j
    for j in range(at.width):
        row[j] = statistic[j] if j < at.channels else row[j - at.channels]


cdef void batch_moments(
    const real *x, Layout at, Py_ssize_t g, double *mean, double *var, double *planes
) noexcept nogil:
    """Mean and variance of batch g (B1)."""
    cdef double *centre = planes + at.plane
    cdef double *rest = centre + at.plane
    cdef double *square = rest + at.plane
    cdef Py_ssize_t index, row, j, k
    cdef double delta
    cdef Tile t
    x += g * at.size
    mean += g * at.channels
    var += g * at.channels
    for index in prange(at.down * at.across, num_threads=at.inner, schedule="static"):
        tile_moments(x, at, index, planes)
    merge(planes, at)
    for j in range(at.channels):
        mean[j] = planes[j] / at.m
    for row in range(at.down):
        t = tile_at(at, row * at.across)
        for j in range(at.width):  # Chan et al.: sum (x - mean)^2 = sum d^2 + 2 delta sum d + n delta^2
            k = row * at.width + j
            delta = centre[k] - mean[j % at.channels]
            square[k] += delta * (2 * rest[k] + (t.rows + (j < t.tail)) * delta)
    merge(square, at)
    for j in range(at.channels):
        var[j] = 0 if square[j] < 0 else square[j] / at.m  # only rounding makes it negative


cdef void batch_sums(
    const real *dy, const real *x, Layout at, Py_ssize_t g, const double *mean, const double *rstd, double *sum_dy,
    double *sum_dy_x_hat, double *planes
) noexcept nogil:
    """Per channel of batch g: sum dy and sum dy x_hat."""
    cdef Py_ssize_t c = g * at.channels, index, j
    side_by_side(mean + c, at, planes + 2 * at.plane)
    side_by_side(rstd + c, at, planes + 2 * at.plane + at.width)
    for index in prange(at.down * at.across, num_threads=at.inner, schedule="static"):
        tile_sums(dy + g * at.size, x + g * at.size, at, index, planes)
    merge(planes, at)
    merge(planes + at.plane, at)
    for j in range(at.channels):
        sum_dy[c + j], sum_dy_x_hat[c + j] = planes[j], planes[at.plane + j]


cdef void batch_combine(
    const real *dy, const real *x, Layout at, Py_ssize_t g, const double *weight, const double *centre,
    const double *scale, const double *shift, real *out, double *rows
) noexcept nogil:
    """weight dy + scale (x - centre) + shift over batch g."""
    cdef Py_ssize_t c = g * at.channels, index
    if dy != NULL:
        dy += g * at.size
        side_by_side(weight + c, at, rows)
    side_by_side(centre + c, at, rows + at.width)
    side_by_side(scale + c, at, rows + 2 * at.width)
    side_by_side(shift + c, at, rows + 3 * at.width)
    for index in prange(at.down * at.across, num_threads=at.inner, schedule="static"):
        tile_combine(dy, x + g * at.size, at, index, rows, out + g * at.size)


# ---- all batches: every loop over x is one of these three ----------------------------------------------------------


cdef tuple moments_of(cnp.ndarray x):
    """Mean and variance of a contiguous x, flat."""
    cdef Layout at = layout_of(x)
    cdef cnp.ndarray mean = np.empty(at.batches * at.channels), var = np.empty(at.batches * at.channels)
    cdef cnp.ndarray room = np.empty(at.outer * 4 * at.plane)
    cdef bint single = is_single(x)
    cdef double *planes
    cdef Py_ssize_t g
    for g in prange(at.batches, nogil=True, num_threads=at.outer, schedule="static"):
        planes = numbers(room) + threadid() * 4 * at.plane
        if single:
            batch_moments(<const float *>data(x), at, g, numbers(mean), numbers(var), planes)
        else:
            batch_moments(<const double *>data(x), at, g, numbers(mean), numbers(var), planes)
    return mean, var


cdef tuple sums_of(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray mean, cnp.ndarray rstd):
    """sum dy and sum dy x_hat, flat; dy and x contiguous."""
    cdef Layout at = layout_of(x)
    cdef cnp.ndarray one = np.empty(at.batches * at.channels), two = np.empty(at.batches * at.channels)
    cdef cnp.ndarray room = np.empty(at.outer * 2 * (at.plane + at.width))
    cdef bint single = is_single(x)
    cdef double *planes
    cdef Py_ssize_t g
    for g in prange(at.batches, nogil=True, num_threads=at.outer, schedule="static"):
        planes = numbers(room) + threadid() * 2 * (at.plane + at.width)
        if single:
            batch_sums(
                <const float *>data(dy), <const float *>data(x), at, g, numbers(mean), numbers(rstd), numbers(one),
                numbers(two), planes
            )
        else:
            batch_sums(
                <const double *>data(dy), <const double *>data(x), at, g, numbers(mean), numbers(rstd), numbers(one),
                numbers(two), planes
            )
    return one, two


cdef combine(
    cnp.ndarray x, cnp.ndarray centre, cnp.ndarray scale, cnp.ndarray shift, cnp.ndarray dy=None,
    cnp.ndarray weight=None
):
    """weight dy + scale (x - centre) + shift in the type of x; without dy only the rest. dy and x contiguous."""
    cdef Layout at = layout_of(x)
    cdef cnp.ndarray out = np.empty((<object>x).shape, x.dtype), room = np.empty(at.outer * 4 * at.width)
    cdef bint single = is_single(x)
    cdef void *of_dy = NULL if dy is None else data(dy)
    cdef double *of_weight = NULL if dy is None else numbers(weight)
    cdef double *rows
    cdef Py_ssize_t g
    for g in prange(at.batches, nogil=True, num_threads=at.outer, schedule="static"):
        rows = numbers(room) + threadid() * 4 * at.width
        if single:
            batch_combine(
                <const float *>of_dy, <const float *>data(x), at, g, of_weight, numbers(centre), numbers(scale),
                numbers(shift), <float *>data(out), rows
            )
        else:
            batch_combine(
                <const double *>of_dy, <const double *>data(x), at, g, of_weight, numbers(centre), numbers(scale),
                numbers(shift), <double *>data(out), rows
            )
    return out


# ---- loops over statistics, an equation each -----------------------------------------------------------------------


cdef double clip(double value, double low, double high) noexcept nogil:
    """value within [low, high]; NaN passes."""
    return low if value < low else high if value > high else value


@cython.boundscheck(False)
cdef rstd_of(Statistic var, double eps):
    """r = (var + eps)^(-1/2) (B0)."""
    cdef double[::1] rstd = np.empty(var.shape[0])
    cdef Py_ssize_t i
    for i in range(var.shape[0]):
        rstd[i] = 1 / sqrt(var[i] + eps)
    return np.asarray(rstd)


@cython.boundscheck(False)
cdef multiply_add(Statistic a, Statistic b, Statistic c=None):
    """a b + c, or a b."""
    cdef double[::1] out = np.empty(a.shape[0])
    cdef bint add = c is not None
    cdef Py_ssize_t i
    for i in range(a.shape[0]):
        out[i] = a[i] * b[i] + c[i] if add else a[i] * b[i]
    return np.asarray(out)


@cython.boundscheck(False)
cdef tuple fused(Statistic a, Statistic b, Statistic xbar, Statistic s, Statistic q):
    """mu = p a + q xbar ; v = p b + q S + p q delta^2 ; delta = xbar - a ; p = 1 - q (A1, B5)."""
    cdef double[:, ::1] out = np.empty((2, a.shape[0]))
    cdef Py_ssize_t i
    cdef double p, delta
    for i in range(a.shape[0]):
        p, delta = 1 - q[i], xbar[i] - a[i]
        out[0, i] = p * a[i] + q[i] * xbar[i]
        out[1, i] = p * b[i] + q[i] * s[i] + p * q[i] * (delta * delta)
    return tuple(np.asarray(out))


@cython.boundscheck(False)
cdef tuple through_fuse(
    Statistic dmu, Statistic dv, Statistic a, Statistic b, Statistic xbar, Statistic s, Statistic q
):
    """da = dmu - ddelta ; db = p dv ; dxbar = ddelta = q dmu + 2 p q dv delta ; dS = q dv ;
    dq = dmu delta + dv (S - b + (1 - 2q) delta^2) (B5)."""
    cdef double[:, ::1] out = np.empty((5, a.shape[0]))
    cdef Py_ssize_t i
    cdef double p, delta, ddelta
    for i in range(a.shape[0]):
        p, delta = 1 - q[i], xbar[i] - a[i]
        ddelta = q[i] * dmu[i] + 2 * p * q[i] * dv[i] * delta
        out[0, i] = dmu[i] - ddelta
        out[1, i] = p * dv[i]
        out[2, i] = ddelta
        out[3, i] = q[i] * dv[i]
        out[4, i] = dmu[i] * delta + dv[i] * (s[i] - b[i] + (1 - 2 * q[i]) * (delta * delta))
    return tuple(np.asarray(out))


@cython.boundscheck(False)
cdef tuple through_standardize(Statistic sum_dy, Statistic sum_dy_x_hat, Statistic rstd, Statistic gamma):
    """With g = gamma dy: the weight of dy in dx, r gamma ; dmean = -r sum g ; dvar = -1/2 r^2 sum g x_hat (B0)."""
    cdef double[:, ::1] out = np.empty((3, rstd.shape[0]))
    cdef Py_ssize_t i
    for i in range(rstd.shape[0]):
        out[0, i] = rstd[i] * gamma[i]
        out[1, i] = -out[0, i] * sum_dy[i]
        out[2, i] = -out[0, i] * rstd[i] * sum_dy_x_hat[i] / 2
    return tuple(np.asarray(out))


@cython.boundscheck(False)
cdef through_observe(x, mean, Statistic dmean, Statistic dvar, dy=None, weight=None, Py_ssize_t k=1):
    """dx = weight dy + 2 dvar/m (x - mean) + dmean/m (B1), with the samples of k channels in m."""
    cdef double[::1] scale = np.empty(dmean.shape[0]), shift = np.empty(dmean.shape[0])
    cdef Py_ssize_t i, m = x.shape[x.ndim - 2] * k
    for i in range(dmean.shape[0]):
        scale[i], shift[i] = 2 * dvar[i] / m, dmean[i] / m
    return combine(x, mean, np.asarray(scale), np.asarray(shift), dy, weight)


# ---- twins of moments.py -------------------------------------------------------------------------------------------


def observe(x):
    shape = statistics_shape(x)
    mean, var = moments_of(contiguous(x))
    return moments_pair(mean, var, shape, x.dtype.type)


def observe_backward(dmoments, x, moments):
    shape = statistics_shape(x)
    mean, dmean, dvar = [spread(a, shape) for a in (moments.mean, *dmoments)]
    return through_observe(contiguous(x), mean, dmean, dvar)


def fuse(prior, observed, gain):
    shape = np.broadcast_shapes(prior.mean.shape, observed.mean.shape)
    a, b, xbar, s, q = [spread(value, shape) for value in (*prior, *observed, gain)]
    mean, var = fused(a, b, xbar, s, q)
    return moments_pair(mean, var, shape, widest((*prior, *observed, gain)))


def fuse_backward(dmoments, prior, observed, gain):
    shape, arguments = dmoments.mean.shape, (*prior, *observed, gain)
    dtype = widest((*dmoments, *arguments))
    dmu, dv, a, b, xbar, s, q = [spread(value, shape) for value in (*dmoments, *arguments)]
    gradients = through_fuse(dmu, dv, a, b, xbar, s, q)
    da, db, dxbar, ds, dgain = [sum_to(g, shape, value, dtype) for g, value in zip(gradients, arguments)]
    return type(prior)(da, db), type(observed)(dxbar, ds), dgain


def standardize(x, moments, gamma, beta, eps):
    from .moments import StandardizeCache

    shape, moments = statistics_shape(x), wide(moments)
    rstd = rstd_of(contiguous(moments.var).reshape(-1), eps).reshape(moments.var.shape)
    scale = multiply_add(spread(rstd, shape), spread(gamma, shape, 1))
    y = combine(contiguous(x), spread(moments.mean, shape), scale, spread(beta, shape))
    return y, StandardizeCache(x, moments, rstd, wide(gamma), wide(beta))


def standardize_backward(dy, cache):
    x, moments, rstd, gamma, beta = cache
    shape, dtype, dy = statistics_shape(x), x.dtype.type, contiguous(dy, x, x.shape)
    mean, r = spread(moments.mean, shape), spread(rstd, shape)
    sum_dy, sum_dy_x_hat = sums_of(dy, contiguous(x), mean, r)
    weight, dmean, dvar = through_standardize(sum_dy, sum_dy_x_hat, r, spread(gamma, shape, 1))
    zero = np.zeros(mean.size)
    dmoments = type(moments)(*[sum_to(g, shape, a, dtype) for g, a in zip((dmean, dvar), moments)])
    dgamma, dbeta = sum_to(sum_dy_x_hat, shape, gamma, dtype), sum_to(sum_dy, shape, beta, dtype)
    return combine(dy, zero, weight, zero), dmoments, dgamma, dbeta


@cython.boundscheck(False)
cdef tuple mapped(
    Statistic mu, Statistic v, Statistic transition, Statistic rho, Py_ssize_t batches, Py_ssize_t c_from,
    Py_ssize_t c_to, bint diagonal
):
    """a = A mu' ; b = (A*A) v' + rho (B5). A diagonal A is the vector of its diagonal."""
    cdef Py_ssize_t g, i, j
    cdef double[:, ::1] out = np.empty((2, batches * c_to))
    cdef double w, mean, var
    for g in range(batches):
        for i in range(c_to):
            mean, var = 0, rho[i]
            for j in range(i if diagonal else 0, i + 1 if diagonal else c_from):
                w = transition[j if diagonal else i * c_from + j]
                mean += w * mu[g * c_from + j]
                var += w * w * v[g * c_from + j]
            out[0, g * c_to + i], out[1, g * c_to + i] = mean, var
    return tuple(np.asarray(out))


@cython.boundscheck(False)
cdef tuple through_map(
    Statistic da, Statistic db, Statistic mu, Statistic v, Statistic transition, Py_ssize_t c_from, Py_ssize_t c_to,
    bint diagonal
):
    """dmu' = A^T da ; dv' = (A*A)^T db ; dA = da mu'^T + 2 A * (db v'^T) (B5)."""
    cdef Py_ssize_t g, i, j, k, batches = da.shape[0] // max(1, c_to)
    cdef double[::1] dmu = np.zeros(mu.shape[0]), dv = np.zeros(mu.shape[0])
    cdef double[::1] dtransition = np.zeros(transition.shape[0])
    cdef double w, dmean, dvar
    for g in range(batches):
        for i in range(c_to):
            dmean, dvar = da[g * c_to + i], db[g * c_to + i]
            for j in range(i if diagonal else 0, i + 1 if diagonal else c_from):
                k = j if diagonal else i * c_from + j
                w = transition[k]
                dmu[g * c_from + j] += w * dmean
                dv[g * c_from + j] += w * w * dvar
                dtransition[k] += dmean * mu[g * c_from + j] + 2 * w * dvar * v[g * c_from + j]
    return np.asarray(dmu), np.asarray(dv), np.asarray(dtransition)


def predict(estimate, transition, noise):
    c_to, c_from = transition.shape[0], transition.shape[-1]
    shape = estimate.mean.shape[:-1] + (c_to,)
    mu, v = [spread(value, shape[:-1] + (c_from,)) for value in estimate]
    matrix, rho = spread(transition, transition.shape), spread(noise, (c_to,))
    mean, var = mapped(mu, v, matrix, rho, math.prod(shape[:-1]), c_from, c_to, transition.ndim == 1)
    return moments_pair(mean, var, shape, widest((*estimate, transition, noise)))


def predict_backward(dprior, estimate, transition, noise):
    dtype = widest((*dprior, *estimate, transition, noise))
    c_to, c_from = transition.shape[0], transition.shape[-1]
    lead, matrix = estimate.mean.shape[:-1], spread(transition, transition.shape)
    mu, v = [spread(value, lead + (c_from,)) for value in estimate]
    da, db = [spread(value, lead + (c_to,)) for value in dprior]
    dmu, dv, dtransition = through_map(da, db, mu, v, matrix, c_from, c_to, transition.ndim == 1)
    destimate = moments_pair(dmu, dv, estimate.mean.shape, dtype)
    dtransition = dtransition.reshape(transition.shape).astype(dtype, copy=False)
    return destimate, dtransition, sum_to(db, dprior.var.shape, noise, dtype)


# ---- twins of batch_norm.py, batch_renorm.py and kalman_norm.py ----------------------------------------------------


def batch_norm_forward(x, gamma, beta, eps=1e-5):
    from .moments import StandardizeCache

    y, moments, cache = kalman_norm_forward(x, gamma, beta, None, None, eps)  # without a prior: batch normalization
    return y, moments, StandardizeCache(*cache[:5])


def batch_norm_backward(dy, cache):
    dx, dgamma, dbeta, _, _ = kalman_norm_backward(dy, None, (*cache, cache.moments, None, None))
    return dx, dgamma, dbeta


@cython.boundscheck(False)
cdef tuple corrections(
    Statistic mean, Statistic var, Statistic running_mean, Statistic running_std, double r_max, double d_max, double eps
):
    """r = clip(s / Sg, 1/r_max, r_max) ; d = clip((mu - M) / Sg, -d_max, d_max) ; s = (var + eps)^(1/2) (B2)."""
    cdef double[:, ::1] out = np.empty((2, mean.shape[0]))
    cdef Py_ssize_t i
    for i in range(mean.shape[0]):
        out[0, i] = clip(sqrt(var[i] + eps) / running_std[i], 1 / r_max, r_max)
        out[1, i] = clip((mean[i] - running_mean[i]) / running_std[i], -d_max, d_max)
    return tuple(np.asarray(out))


def renorm_corrections(moments, running_mean, running_std, r_max, d_max, eps=1e-5):
    shape, dtype = moments.mean.shape, moments.mean.dtype.type
    mu, v, m, std = [spread(value, shape) for value in (*moments, running_mean, running_std)]
    r, d = corrections(mu, v, m, std, r_max, d_max, eps)
    return r.reshape(shape).astype(dtype, copy=False), d.reshape(shape).astype(dtype, copy=False)


def batch_renorm_forward(x, gamma, beta, corr_r, corr_d, eps=1e-5):
    from .batch_renorm import BatchRenormCache

    shape, source = statistics_shape(x), contiguous(x)
    mean, var = moments_of(source)
    rstd, wide_gamma = rstd_of(var, eps), spread(gamma, shape, 1)
    scale = multiply_add(multiply_add(rstd, spread(corr_r, shape)), wide_gamma)
    y = combine(source, mean, scale, multiply_add(wide_gamma, spread(corr_d, shape), spread(beta, shape)))
    cache = BatchRenormCache(
        x, moments_pair(mean, var, shape), rstd.reshape(shape), wide(gamma), wide(beta), wide(corr_r), wide(corr_d)
    )
    return y, moments_pair(mean, var, shape, x.dtype.type), cache


def batch_renorm_backward(dy, cache):
    x, moments, rstd, gamma, beta, corr_r, corr_d = cache
    shape, dtype, dy, source = statistics_shape(x), x.dtype.type, contiguous(dy, x, x.shape), contiguous(x)
    mean, r = spread(moments.mean, shape), spread(rstd, shape)
    corr_r, corr_d = spread(corr_r, shape), spread(corr_d, shape)
    sum_dy, sum_dy_z = sums_of(dy, source, mean, r)
    weight, dmean, dvar = through_standardize(sum_dy, sum_dy_z, r, multiply_add(spread(gamma, shape, 1), corr_r))
    dx = through_observe(source, mean, dmean, dvar, dy, weight)
    sum_dy_x_hat = multiply_add(corr_r, sum_dy_z, multiply_add(corr_d, sum_dy))
    return dx, sum_to(sum_dy_x_hat, shape, gamma, dtype), sum_to(sum_dy, shape, beta, dtype)


def kalman_norm_forward(x, gamma, beta, prior, gain, eps=1e-5):
    from .kalman_norm import KalmanNormCache

    y, *rest = kalman_forward(x, gamma, beta, prior, gain, eps, statistics_shape(x))
    return y, moments_like(rest[0], x.dtype.type), KalmanNormCache(x, *rest)


def kalman_norm_backward(dy, destimate, cache):
    return kalman_backward(dy, destimate, cache)


cdef moments_like(moments, dtype):
    """Copies of the cache's moments in the type of the results."""
    return type(moments)(*[a.astype(dtype) for a in moments])


cdef tuple kalman_forward(x, gamma, beta, prior, gain, double eps, shape):
    """Kalman normalization of a channel, where `shape` is (..., C), or of a row of k = C/G channels: (..., G).

    Returns: y, then everything in the cache behind x.
    """
    channels, source = statistics_shape(x), contiguous(x)
    cdef Py_ssize_t k = channels_of_one(channels, shape)
    mean, var = moments_of(source)
    xbar, s = mean, var = collapsed(mean, var, k)
    if prior is None:
        gain = None
    else:
        a, b, q = [spread(value, shape) for value in (*prior, gain)]
        mean, var = fused(a, b, xbar, s, q)
    rstd = rstd_of(var, eps)
    scale = multiply_add(repeated(rstd, k), spread(gamma, channels, 1))
    y = combine(source, repeated(mean, k), scale, spread(beta, channels))
    estimate, observed = moments_pair(mean, var, shape), moments_pair(xbar, s, shape)
    return y, estimate, rstd.reshape(shape), wide(gamma), wide(beta), observed, wide(prior), wide(gain)


cdef tuple kalman_backward(dy, destimate, cache):
    """dx, dgamma, dbeta, dprior, dgain of kalman_forward."""
    x, estimate, rstd, gamma, beta, observed, prior, gain = cache
    channels, shape, dtype = statistics_shape(x), estimate.mean.shape, x.dtype.type
    cdef Py_ssize_t k = channels_of_one(channels, shape)
    dy, source = contiguous(dy, x, x.shape), contiguous(x)
    mean, r = repeated(spread(estimate.mean, shape), k), repeated(spread(rstd, shape), k)
    sum_dy, sum_dy_x_hat = sums_of(dy, source, mean, r)
    weight, dmean, dvar = through_standardize(sum_dy, sum_dy_x_hat, r, spread(gamma, channels, 1))
    dxbar, ds = summed(dmean, k), summed(dvar, k)
    if destimate is not None:
        ones = spread(None, shape, 1)
        dxbar, ds = [multiply_add(d, ones, spread(g, shape)) for d, g in zip((dxbar, ds), destimate)]
    dprior = dgain = None
    if prior is not None:
        a, b, xbar, s, q = [spread(value, shape) for value in (*prior, *observed, gain)]
        da, db, dxbar, ds, dq = through_fuse(dxbar, ds, a, b, xbar, s, q)
        dprior = type(prior)(*[sum_to(g, shape, value, dtype) for g, value in zip((da, db), prior)])
        dgain = sum_to(dq, shape, gain, dtype)
    centre = repeated(spread(observed.mean, shape), k)
    dx = through_observe(source, centre, repeated(dxbar, k), repeated(ds, k), dy, weight, k)
    return dx, sum_to(sum_dy_x_hat, channels, gamma, dtype), sum_to(sum_dy, channels, beta, dtype), dprior, dgain


# ---- twins of group_norm.py and group_kalman_norm.py: the moments of a row are those of its channels, merged -------


cdef Py_ssize_t channels_of_one(channels, shape) except 0:
    """How many consecutive channels share one statistic."""
    if shape[:-1] != channels[:-1] or shape[-1] != channels[-1] and (shape[-1] < 1 or channels[-1] % shape[-1]):
        raise ValueError(f"statistics have shape {shape}; expected {channels[:-1]} and a divisor of {channels[-1]}")
    return 1 if shape == channels else channels[-1] // shape[-1]


cdef repeated(statistic, Py_ssize_t k):
    """The statistic of each row k times, once for each of its channels."""
    return statistic if k == 1 else np.repeat(statistic, k)


@cython.boundscheck(False)
cdef summed(Statistic channel, Py_ssize_t k):
    """Sum over the k channels of each row."""
    cdef double[::1] total = np.zeros(channel.shape[0] // k)
    cdef Py_ssize_t i
    for i in range(channel.shape[0]):
        total[i // k] += channel[i]
    return np.asarray(total)


@cython.boundscheck(False)
cdef tuple collapsed(mean, var, Py_ssize_t k):
    """mean_g = mean_c mu_c ; var_g = mean_c (v_c + (mu_c - mean_g)^2), over the k channels of each row (B6)."""
    cdef Statistic mu = mean, v = var
    cdef double[:, ::1] out = np.zeros((2, mu.shape[0] // k))
    cdef Py_ssize_t i
    cdef double delta
    if k == 1:
        return mean, var
    for i in range(mu.shape[0]):
        out[0, i // k] += mu[i] / k
    for i in range(mu.shape[0]):
        delta = mu[i] - out[0, i // k]
        out[1, i // k] += (v[i] + delta * delta) / k
    return tuple(np.asarray(out))


def group_norm_forward(x, gamma, beta, groups, eps=1e-5):
    from .group_norm import GroupNormCache

    y, *rest = kalman_forward(x, gamma, beta, None, None, eps, (x.shape[0], groups))
    return y, moments_like(rest[0], x.dtype.type), GroupNormCache(x, *rest[:4])


def group_norm_backward(dy, cache):
    return kalman_backward(dy, None, (*cache, cache.moments, None, None))[:3]


def group_kalman_norm_forward(x, gamma, beta, prior, gain, groups, eps=1e-5):
    from .group_kalman_norm import GroupKalmanNormCache

    y, *rest = kalman_forward(x, gamma, beta, prior, gain, eps, (x.shape[0], groups))
    return y, moments_like(rest[0], x.dtype.type), GroupKalmanNormCache(x, *rest)


def group_kalman_norm_backward(dy, destimate, cache):
    return kalman_backward(dy, destimate, cache)


# ---- convolution ---------------------------------------------------------------------------------------------------
# A row of y, `columns` pixels of one image, takes as many patches of x, each kh kw C_in numbers in the weight's order
# (a, b, c). A chunk of consecutive rows shares a buffer of patches that fits the cache; a band is a run of chunks.

cdef enum:
    BUFFER = 16384  # numbers in a buffer of patches, about
    PIXELS = 128  # pixels of y, at least, whose part of dweight is one product
    BANDS = 16  # bands a convolution is cut into, at most
    GRADIENTS = 1 << 24  # numbers, at most, in the bands' own gradients of the weight, or else fewer bands


cdef struct Conv:
    Py_ssize_t images, height, width, c_in  # x
    Py_ssize_t rows, columns, c_out  # y
    Py_ssize_t kh, kw, stride, top, left
    Py_ssize_t patch  # kh kw c_in
    Py_ssize_t chunk  # rows of y whose patches fill the buffer
    Py_ssize_t bands  # as many whatever the number of threads
    bint plain  # 1x1, stride 1, no padding: x is its own matrix of patches
    int threads


cdef Conv conv_of(x, weight, stride, padding) except *:
    cdef Conv at
    at.images, at.height, at.width, at.c_in = x.shape
    at.kh, at.kw, c_in, at.c_out = weight.shape
    (at.top, bottom), (at.left, right) = padding
    at.stride = stride
    if c_in != at.c_in or stride < 1:
        raise ValueError(f"x has {x.shape[3]} channels and stride is {stride}; expected {c_in} and at least 1")
    at.rows = (at.height + at.top + bottom - at.kh) // at.stride + 1
    at.columns = (at.width + at.left + right - at.kw) // at.stride + 1
    at.patch = at.kh * at.kw * at.c_in
    at.chunk = max(1, BUFFER // max(1, at.columns * at.patch))
    at.bands = max(1, min(BANDS, GRADIENTS // max(1, at.patch * at.c_out)))
    at.plain = at.kh == at.kw == at.stride == 1 and (at.top, bottom, at.left, right) == (0, 0, 0, 0)
    at.threads = threads_for(at.images * at.rows * at.columns * max(at.patch, at.c_out))
    return at


cdef void matmul(
    bint transposed, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t inner, const real *a, const real *b, real beta,
    real *c
) noexcept nogil:
    """c = a b + beta c, or a^T b + beta c, contiguous by rows. BLAS counts by columns: it gets c^T = b^T a^T."""
    cdef char plain = c'N', op_a = c'T' if transposed else c'N'
    cdef int m = columns, n = rows, k = inner
    cdef int lda = max(1, rows if transposed else inner), ldb = max(1, columns)
    cdef real alpha = 1
    if real is float:
        sgemm(&plain, &op_a, &m, &n, &k, &alpha, <float *>b, &ldb, <float *>a, &lda, &beta, c, &ldb)
    else:
        dgemm(&plain, &op_a, &m, &n, &k, &alpha, <double *>b, &ldb, <double *>a, &lda, &beta, c, &ldb)


cdef void patches(real *x, Conv at, Py_ssize_t first, Py_ssize_t last, real *buffer, bint back) noexcept nogil:
    """Copy the patches of rows first..last of y from x to the buffer; or, going back, add them from there to x."""
    cdef Py_ssize_t r, j, a, k, u, v, low, high, line = at.kw * at.c_in
    cdef real *inside
    for r in range(first, last):
        for j in range(at.columns):
            v = j * at.stride - at.left
            low = min(max(0, -v), at.kw)  # of a patch's line, low..high lies inside the image
            high = max(low, min(at.kw, at.width - v))
            for a in range(at.kh):
                u = r % at.rows * at.stride + a - at.top
                inside = x + ((r // at.rows * at.height + u) * at.width + v + low) * at.c_in
                if 0 <= u < at.height and back:
                    for k in range((high - low) * at.c_in):
                        inside[k] += buffer[low * at.c_in + k]
                elif not back:
                    if u < 0 or u >= at.height:
                        memset(buffer, 0, line * sizeof(real))
                    else:
                        if high - low < at.kw:
                            memset(buffer, 0, line * sizeof(real))
                        memcpy(buffer + low * at.c_in, inside, (high - low) * at.c_in * sizeof(real))
                buffer += line


cdef void band_forward(
    real *x, const real *weight, const real *bias, real *y, Conv at, Py_ssize_t first, Py_ssize_t last, real *buffer
) noexcept nogil:
    """Rows first..last of y: patches times weight, plus bias."""
    cdef Py_ssize_t until, pixels, i, image_row = at.columns * at.c_out
    cdef const real *source
    while first < last:
        until = min(first + at.chunk, last)
        pixels = (until - first) * at.columns
        source = x + first * at.columns * at.c_in
        if not at.plain:
            patches(x, at, first, until, buffer, False)
            source = buffer
        if bias != NULL:
            for i in range(pixels):
                memcpy(y + first * image_row + i * at.c_out, bias, at.c_out * sizeof(real))
        matmul(False, pixels, at.c_out, at.patch, source, weight, <real>(bias != NULL), y + first * image_row)
        first = until


cdef void band_backward(
    real *x, const real *transposed, const real *dy, real *dx, real *dweight, Conv at, Py_ssize_t first,
    Py_ssize_t last, real *buffer
) noexcept nogil:
    """What rows first..last of y send to dx and dweight; `transposed` is the weight as (C_out, kh kw C_in)."""
    cdef Py_ssize_t until, pixels
    cdef real *source = buffer
    cdef real *target = buffer
    cdef const real *dy_rows
    while first < last:
        until = min(first + at.chunk, last)
        pixels = (until - first) * at.columns
        dy_rows = dy + first * at.columns * at.c_out
        if at.plain:
            source, target = x + first * at.columns * at.c_in, dx + first * at.columns * at.c_in
        else:
            patches(x, at, first, until, buffer, False)
        matmul(True, at.patch, at.c_out, pixels, <const real *>source, dy_rows, <real>1, dweight)
        matmul(False, pixels, at.patch, at.c_out, dy_rows, transposed, <real>0, target)
        if not at.plain:
            patches(dx, at, first, until, buffer, True)
        first = until


@cython.boundscheck(False)
cdef sum_bands(const double[:, ::1] bands, shape, dtype):
    """Add up the bands' gradients, in their order."""
    cdef double[::1] total = np.zeros(bands.shape[1])
    cdef Py_ssize_t i, j
    for i in range(bands.shape[0]):
        for j in range(bands.shape[1]):
            total[j] += bands[i, j]
    return np.asarray(total).reshape(shape).astype(dtype, copy=False)


@functools.cache
def _blas_libraries():
    return ThreadpoolController()


_limit = None  # keeps BLAS on one thread while ours call it: one limit, however many calls there are at a time
_calls = 0
_lock = threading.Lock()


cdef blas_alone(int step):
    """Step 1 before our threads call BLAS, -1 after."""
    global _limit, _calls
    with _lock:
        _calls += step
        if _calls == 1 and step == 1:
            _limit = _blas_libraries().limit(limits=1, user_api="blas")
        elif _calls == 0:
            _limit.restore_original_limits()


def conv2d_forward(x, weight, bias, stride, padding):
    from .convolution import Conv2dCache

    cdef Conv at = conv_of(x, weight, stride, padding)
    cdef Py_ssize_t room = 0 if at.plain else at.chunk * at.columns * at.patch, rows = at.images * at.rows
    cdef Py_ssize_t band, first, last
    cdef cnp.ndarray source = contiguous(x), w = contiguous(weight, x)
    cdef cnp.ndarray b = None if bias is None else contiguous(bias, x, weight.shape[3:])
    cdef cnp.ndarray y = np.empty((at.images, at.rows, at.columns, at.c_out), source.dtype)
    cdef cnp.ndarray buffers = np.empty(at.threads * room, source.dtype)
    cdef void *of_b = NULL if b is None else data(b)
    cdef bint single = is_single(source)
    blas_alone(1)
    for band in prange(at.bands, nogil=True, num_threads=at.threads, schedule="static"):
        first, last = rows * band // at.bands, rows * (band + 1) // at.bands
        if single:
            band_forward(
                <float *>data(source), <const float *>data(w), <const float *>of_b, <float *>data(y), at, first, last,
                <float *>data(buffers) + threadid() * room
            )
        else:
            band_forward(
                <double *>data(source), <const double *>data(w), <const double *>of_b, <double *>data(y), at, first,
                last, <double *>data(buffers) + threadid() * room
            )
    blas_alone(-1)
    return y, Conv2dCache(x, wide(weight), wide(bias), stride, padding)


def conv2d_backward(dy, cache):
    x, weight, bias, stride, padding = cache
    cdef Conv at = conv_of(x, weight, stride, padding)
    at.chunk = max(at.chunk, PIXELS // max(1, at.columns))
    cdef Py_ssize_t room = 0 if at.plain else at.chunk * at.columns * at.patch, size = at.patch * at.c_out
    cdef Py_ssize_t band, first, last
    cdef cnp.ndarray source = contiguous(x), d = contiguous(dy, x, (at.images, at.rows, at.columns, at.c_out))
    cdef cnp.ndarray transposed = np.ascontiguousarray(weight.reshape(at.patch, at.c_out).T, source.dtype)
    cdef cnp.ndarray dx = np.zeros(x.shape, source.dtype), dweights = np.zeros((at.bands, size), source.dtype)
    cdef cnp.ndarray buffers = np.empty(at.threads * room, source.dtype)
    cdef bint single = is_single(source)
    blas_alone(1)
    for band in prange(at.bands, nogil=True, num_threads=at.threads, schedule="static"):
        # whole images, so that no two bands add to the same dx; each band has a dweight of its own
        first = at.images * band // at.bands * at.rows
        last = at.images * (band + 1) // at.bands * at.rows
        if single:
            band_backward(
                <float *>data(source), <const float *>data(transposed), <const float *>data(d), <float *>data(dx),
                <float *>data(dweights) + band * size, at, first, last, <float *>data(buffers) + threadid() * room
            )
        else:
            band_backward(
                <double *>data(source), <const double *>data(transposed), <const double *>data(d), <double *>data(dx),
                <double *>data(dweights) + band * size, at, first, last, <double *>data(buffers) + threadid() * room
            )
    blas_alone(-1)
    dweight = sum_bands(dweights.astype(np.float64, copy=False), weight.shape, dx.dtype)
    if bias is None:
        return dx, dweight, None
    pixels, zeros = d.reshape(at.images * at.rows * at.columns, at.c_out), np.zeros(at.c_out)
    return dx, dweight, sums_of(pixels, pixels, zeros, zeros)[0].astype(dx.dtype)


# ---- twins of transport/sampled.py: a synthetic map is drawn, convolved and summed up within a thread's own room -----


cdef struct Maps:
    Conv conv
    Layout z, u  # of one map, as a batch of H W and of P samples
    Py_ssize_t room, planes  # numbers that a thread needs: of the maps' type, double
    double *mean  # of z, a number per map and channel; then v^(1/2), 0 and 1 likewise
    double *std
    double *zero
    double *one
    double *of_mean  # M and V of u, likewise
    double *of_var


cdef void positive(const real *h, real *value, Py_ssize_t size) noexcept nogil:
    """0 where h <= 0, else value; NaN passes."""
    cdef Py_ssize_t i
    for i in range(size):
        value[i] = <real>0 if h[i] <= 0 else value[i]


cdef void one_map(const real *draws, const real *weight, Maps at, Py_ssize_t g, real *h, double *planes) noexcept nogil:
    """h = max(z, 0) with z = mu + v^(1/2) n, then u = conv(h, W) behind it, and the moments of u (C5)."""
    cdef real *u = h + at.z.size
    cdef Py_ssize_t i = g * at.z.channels, o = g * at.u.channels
    batch_combine(
        <const real *>NULL, draws + g * at.z.size, at.z, 0, NULL, at.zero + i, at.std + i, at.mean + i, h, planes
    )
    positive(h, h, at.z.size)
    band_forward(h, weight, <const real *>NULL, u, at.conv, 0, at.conv.rows, u + at.u.size)
    batch_moments(u, at.u, 0, at.of_mean + o, at.of_var + o, planes)


cdef void one_map_backward(
    const real *draws, const real *transposed, Maps at, Py_ssize_t g, real *h, const double *scale,
    const double *shift, real *ddraws, real *dweight, double *dmean, double *along, double *planes
) noexcept nogil:
    """du = dM/P + 2 dV/P (u - M) ; dz = dh where z > 0 ; dmu = sum dz ; along = sum dz n ; dn = v^(1/2) dz (C5)."""
    cdef real *u = h + at.z.size
    cdef real *dz = ddraws + g * at.z.size
    cdef Py_ssize_t i = g * at.z.channels, o = g * at.u.channels
    batch_combine(<const real *>NULL, u, at.u, 0, NULL, at.of_mean + o, scale + o, shift + o, u, planes)
    band_backward(h, transposed, u, dz, dweight, at.conv, 0, at.conv.rows, u + at.u.size)
    positive(h, dz, at.z.size)
    batch_sums(dz, draws + g * at.z.size, at.z, 0, at.zero + i, at.one + i, dmean + i, along + i, planes)
    batch_combine(<const real *>NULL, dz, at.z, 0, NULL, at.zero + i, at.std + i, at.zero + i, dz, planes)


cdef void all_maps(const real *draws, const real *weight, Maps at, real *rooms, double *planes) noexcept nogil:
    cdef Py_ssize_t g
    for g in prange(at.conv.images, num_threads=at.conv.threads, schedule="static"):
        one_map(draws, weight, at, g, rooms + threadid() * at.room, planes + threadid() * at.planes)


cdef void band_of_maps(
    const real *draws, const real *weight, const real *transposed, Maps at, Py_ssize_t band, real *h,
    const double *scale, const double *shift, real *ddraws, real *dweight, double *dmean, double *along, double *planes
) noexcept nogil:
    """Consecutive maps, which add to the same dweight."""
    cdef Py_ssize_t g
    for g in range(at.conv.images * band // at.conv.bands, at.conv.images * (band + 1) // at.conv.bands):
        one_map(draws, weight, at, g, h, planes)
        one_map_backward(draws, transposed, at, g, h, scale, shift, ddraws, dweight, dmean, along, planes)


cdef void all_maps_backward(
    const real *draws, const real *weight, const real *transposed, Maps at, real *rooms, const double *scale,
    const double *shift, real *ddraws, real *dweights, double *dmean, double *along, double *planes
) noexcept nogil:
    cdef Py_ssize_t band, size = at.conv.patch * at.conv.c_out
    for band in prange(at.conv.bands, num_threads=at.conv.threads, schedule="static"):
        band_of_maps(
            draws, weight, transposed, at, band, rooms + threadid() * at.room, scale, shift, ddraws,
            dweights + band * size, dmean, along, planes + threadid() * at.planes
        )


cdef Maps maps_of(draws, weight, stride, padding) except *:
    cdef Maps at
    cdef Conv conv = conv_of(draws, weight, stride, padding)
    conv.chunk = min(max(conv.chunk, PIXELS // max(1, conv.columns)), conv.rows)
    at.z = layout_of(np.empty((1, conv.height * conv.width, conv.c_in), draws.dtype))
    at.u = layout_of(np.empty((1, conv.rows * conv.columns, conv.c_out), draws.dtype))
    at.z.inner = at.u.inner = 1  # the threads share out maps
    at.room = at.z.size + at.u.size + (0 if conv.plain else conv.chunk * conv.columns * conv.patch)
    at.planes = 4 * max(at.z.plane, at.u.plane)
    if at.z.batches == 0 or at.u.batches == 0:  # no channel
        conv.images = 0
    at.conv = conv
    return at


cdef tuple sampling(doutput, estimate, draws, weight, stride, padding):
    """M and V of u (C5), flat; or, given their gradients, dmu, sum dz n, v^(1/2), dn and the dW of each band."""
    cdef cnp.ndarray source = contiguous(draws.reshape(-1, *draws.shape[-3:])), w = contiguous(weight, source)
    cdef Maps at = maps_of(source, weight, stride, padding)
    given, shape = draws.shape[:-3] + draws.shape[-1:], draws.shape[:-3] + weight.shape[3:]
    cdef cnp.ndarray mean = spread(estimate.mean, given), std = np.sqrt(spread(estimate.var, given))
    cdef cnp.ndarray zero = spread(None, given, 0), one = spread(None, given, 1)
    cdef cnp.ndarray of_mean = np.empty(math.prod(shape)), of_var = np.empty(math.prod(shape))
    cdef cnp.ndarray rooms = np.empty(at.conv.threads * at.room, source.dtype)
    cdef cnp.ndarray planes = np.empty(at.conv.threads * at.planes)
    cdef cnp.ndarray transposed, scale, shift, dmean, along, ddraws, dweights
    cdef bint single = is_single(source), back = doutput is not None
    at.mean, at.std, at.zero, at.one = numbers(mean), numbers(std), numbers(zero), numbers(one)
    at.of_mean, at.of_var = numbers(of_mean), numbers(of_var)
    if back:
        transposed = np.ascontiguousarray(w.reshape(at.conv.patch, at.conv.c_out).T)
        shift, scale = spread(doutput.mean, shape) / at.u.m, 2 * spread(doutput.var, shape) / at.u.m
        dmean, along, ddraws = np.zeros(mean.size), np.zeros(mean.size), np.zeros_like(source)
        dweights = np.zeros((at.conv.bands, at.conv.patch * at.conv.c_out), source.dtype)
    blas_alone(1)
    with nogil:
        if single and back:
            all_maps_backward(
                <const float *>data(source), <const float *>data(w), <const float *>data(transposed), at,
                <float *>data(rooms), numbers(scale), numbers(shift), <float *>data(ddraws), <float *>data(dweights),
                numbers(dmean), numbers(along), numbers(planes)
            )
        elif single:
            all_maps(
                <const float *>data(source), <const float *>data(w), at, <float *>data(rooms), numbers(planes)
            )
        elif back:
            all_maps_backward(
                <const double *>data(source), <const double *>data(w), <const double *>data(transposed), at,
                <double *>data(rooms), numbers(scale), numbers(shift), <double *>data(ddraws),
                <double *>data(dweights), numbers(dmean), numbers(along), numbers(planes)
            )
        else:
            all_maps(
                <const double *>data(source), <const double *>data(w), at, <double *>data(rooms), numbers(planes)
            )
    blas_alone(-1)
    return (dmean, along, std, ddraws, dweights) if back else (of_mean, of_var)


def sampled(estimate, draws, weight, stride, padding):
    mean, var = sampling(None, estimate, draws, weight, stride, padding)
    shape = draws.shape[:-3] + weight.shape[3:]
    return moments_pair(mean, var, shape, widest((*estimate, draws, weight)))


def sampled_backward(doutput, estimate, draws, weight, stride, padding):
    from .transport.activation import SMALLEST_VAR

    dtype = widest((*doutput, *estimate, draws, weight))
    dmean, along, std, ddraws, dweights = sampling(doutput, estimate, draws, weight, stride, padding)
    dvar = along / (2 * np.maximum(std, SMALLEST_VAR**0.5))
    dweight = sum_bands(dweights.astype(np.float64, copy=False), weight.shape, dtype)
    destimate = moments_pair(dmean, dvar, estimate.mean.shape, dtype)
    return destimate, ddraws.reshape(draws.shape).astype(dtype, copy=False), dweight
