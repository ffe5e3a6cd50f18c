# cython: language_level=3, cdivision=True
"""The compiled twins of the public NumPy functions: the same names, signatures and results, for speed.

Design. Arguments come checked (see `twinned`). Here x is (batches, m, C), contiguous, float or double; every statistic
is double, one number per batch and channel, in one row of them all. Three loops touch the data: tile_moments (observe),
tile_sums (sum dy and sum dy x_hat) and group_combine (weight dy + scale (x - centre) + shift, which is every y and
every dx). What lies between them works on statistics alone, one scalar loop per equation. The loops written here are
what double storage runs, and what float storage falls back on where its range does not do; otherwise float storage runs
those of _kernels_statistics.h, which exist for each instruction set, as do the loops of convolution.

Accuracy and repeatability. A batch is cut into tiles of at most ROWS samples; a tile's sums are about its own mean
and leave it as double; tiles are merged in groups of a few, and groups by a binary tree. The cut depends on the shape
only, never on the number of threads, so a result has the same bits at any number. A ReLU behind a normalizer may be
part of its loops, and a convolution may do part of a normalizer's work: see rectified.py.
"""

import contextvars
import math

import numpy as np

cimport numpy as cnp
from cpython.object cimport PyObject
from cython.parallel cimport prange, threadid
from libc.math cimport sqrt
from libc.string cimport memcpy, memset

cnp.import_array()

ctypedef fused real:  # the storage of x, y, dy, dx, weights
    float
    double

cdef extern from "_kernels.h" nogil:
    ctypedef struct Sweep:
        Py_ssize_t row, down, step, high, run, c_out, out_down, out_step, rows, columns
    ctypedef struct Block:
        Py_ssize_t samples, stride, width
    ctypedef struct Affine:
        const float *centre
        const float *scale
        const float *shift
    ctypedef struct Kernels:
        void (*sweep_float)(
            const Sweep *, const float *, const float *, const float *, const float *, float *
        ) noexcept nogil
        void (*sweep_double)(
            const Sweep *, const double *, const double *, const double *, const double *, double *
        ) noexcept nogil
        void (*gather_float)(const Sweep *, const float *, const float *, float *) noexcept nogil
        void (*gather_double)(const Sweep *, const double *, const double *, double *) noexcept nogil
        int (*moments)(const Block *, const float *, double *, double *, double *) noexcept nogil
        int (*sums)(
            const Block *, const float *, const float *, const float *, const float *, const Affine *, double *,
            double *
        ) noexcept nogil
        void (*combine)(
            const Block *, const float *, const float *, const float *, const float *, const float *, const float *,
            const Affine *, int, const float *, float *
        ) noexcept nogil
        int (*passes)(float, float, float, float) noexcept nogil
        void (*stretch)(Py_ssize_t, Py_ssize_t, const float *, const Affine *, float *) noexcept nogil
    const Kernels *kernels
    void fetch(const void *, Py_ssize_t, int)
    int usable_sets()
    const char *set_name(int)
    const char *chosen_set()
    void choose_set(int)

cdef enum:
    ROWS = 256  # samples of a tile, at most
    COLUMNS = 256  # channels of a tile, at most
    TILE = 8192  # numbers of a tile, about
    GROUP = 4  # tiles that one thread merges: what one core writes and another reads is slow to arrive
    ALONE = 65536  # numbers below which one thread does the work
    MANY = 16  # batches from which the threads share out batches, not the tiles of one batch
    ALIGNMENT = 64  # bytes
    SMALL = 16384  # bytes below which memory is not kept
    CALLS = 8  # calls of a network after which unused memory is given back
    SLACK = 16  # numbers behind a weight or a bias that a vector may read


cdef struct Layout:
    Py_ssize_t batches, m, channels
    Py_ssize_t size  # m * channels, the numbers of a batch
    Py_ssize_t samples  # of a tile, at most
    Py_ssize_t down, across  # groups of tiles of a batch
    Py_ssize_t plane  # down * channels, the numbers of one sum of every group
    int outer, inner  # threads over batches, threads over the tiles of one
    bint observed  # the planes of group_moments are there already


cdef struct Tile:
    Py_ssize_t start  # first number of the tile, counted from the batch's
    Py_ssize_t column  # first channel
    Block block


cdef struct Terms:  # of a pass over the data; a number per batch and channel each, NULL where a term is absent
    const double *weight
    const double *centre
    const double *scale
    const double *shift
    const double *y_centre  # with a ReLU behind y = (x - y_centre) y_scale + y_shift, dy counts only where y > 0
    const double *y_scale
    const double *y_shift
    bint rectify  # the result is 0 where it is below


# ---- instruction sets ----------------------------------------------------------------------------------------------


def instruction_sets():
    """Names of the sets of kernels that this machine can run, the fastest last."""
    return tuple([set_name(i).decode() for i in range(usable_sets())])


def instruction_set():
    """Name of the set in use."""
    return chosen_set().decode()


def use_instruction_set(name):
    """Run the kernels of the set `name` from now on; ValueError for one that this machine cannot run."""
    if name not in instruction_sets():
        raise ValueError(f"instruction set is {name!r}; expected one of {', '.join(instruction_sets())}")
    choose_set(instruction_sets().index(name))


# ---- arrays --------------------------------------------------------------------------------------------------------

cdef dict _named = {}


cdef named(module, name):
    """A class of another module, looked up at its first use, since that module imports this one."""
    found = _named.get(name)
    if found is None:
        found = _named[name] = getattr(__import__(f"kalnorm_ref.{module}", fromlist=[name]), name)
    return found


cdef extern from *:
    """
    /* A named tuple of the type `cls`, without the way through its Python constructor. */
    static PyObject *named_tuple(PyObject *cls, PyObject *values)
    {
        PyObject *arguments = PyTuple_Pack(1, values), *made = NULL;
        if (arguments) made = PyTuple_Type.tp_new((PyTypeObject *)cls, arguments, NULL);
        Py_XDECREF(arguments);
        return made;
    }
    """
    object named_tuple(object cls, object values)


cdef moments_pair(mean, var):
    return named_tuple(named("moments", "Moments"), (mean, var))


cdef cnp.ndarray empty(tuple shape, int kind=cnp.NPY_FLOAT64):
    cdef cnp.npy_intp sizes[32]
    cdef int i, axes = len(shape)
    for i in range(axes):
        sizes[i] = shape[i]
    return cnp.PyArray_EMPTY(axes, sizes, kind, 0)


cdef class Buffers:
    """Memory for the arrays of a network: what no array uses any more, by its count of references, is used again.

    An array of few numbers, or one made outside of `reusing`, has memory of its own. What no call has needed for a
    while is given back.
    """

    cdef dict kept  # by size in bytes: a list of [buffer, number of the call that used it last]
    cdef Py_ssize_t calls

    def __cinit__(self):
        self.kept, self.calls = {}, 0

    def __reduce__(self):  # a copy of a network has buffers of its own
        return Buffers, ()

    cdef cnp.ndarray take(self, tuple shape, int kind, Py_ssize_t size):
        cdef cnp.npy_intp sizes[32]
        cdef cnp.ndarray buffer, out
        cdef list entry
        cdef int i, axes = len(shape)
        for entry in self.kept.setdefault(size, []):
            buffer = entry[0]
            if (<PyObject *>buffer).ob_refcnt == 2:  # the entry's reference and `buffer`
                break
        else:
            buffer = np.empty(size + ALIGNMENT, np.uint8)
            entry = [buffer, 0]
            self.kept[size].append(entry)
        entry[1] = self.calls
        for i in range(axes):
            sizes[i] = shape[i]
        out = cnp.PyArray_SimpleNewFromData(
            axes, sizes, kind, <char *>data(buffer) + ALIGNMENT - <Py_ssize_t>data(buffer) % ALIGNMENT
        )
        cnp.set_array_base(out, buffer)
        return out

    cdef give_back(self):
        """Forget what the last calls have not needed."""
        self.calls += 1
        for size, entries in list(self.kept.items()):
            self.kept[size] = [entry for entry in entries if entry[1] > self.calls - CALLS]
            if not self.kept[size]:
                del self.kept[size]


_buffers = contextvars.ContextVar("kalnorm_ref_buffers", default=None)


def reusing(Buffers buffers):
    """Take the memory of results from `buffers` in this context; returns what undoes it."""
    buffers.give_back()
    return _buffers.set(buffers)


def not_reusing(token):
    """Undo `reusing`."""
    _buffers.reset(token)


cdef cnp.ndarray fresh(tuple shape, int kind):
    """An array for a result, not set to anything."""
    cdef Py_ssize_t i, size = 4 if kind == cnp.NPY_FLOAT32 else 8
    for i in range(len(shape)):
        size *= <Py_ssize_t>shape[i]
    cdef Buffers buffers = None if size < SMALL else _buffers.get()
    return empty(shape, kind) if buffers is None else buffers.take(shape, kind, size)


cdef Buffers _scratch = Buffers()


cdef cnp.ndarray scratch(tuple shape, int kind):
    """An array that no result keeps: its memory is used again, outside of networks too."""
    cdef Py_ssize_t i, size = 4 if kind == cnp.NPY_FLOAT32 else 8
    for i in range(len(shape)):
        size *= <Py_ssize_t>shape[i]
    if size < SMALL:
        return empty(shape, kind)
    cdef Buffers buffers = _buffers.get()
    return (_scratch if buffers is None else buffers).take(shape, kind, size)


cdef cnp.ndarray row(Py_ssize_t size):
    cdef cnp.npy_intp length = size
    return cnp.PyArray_EMPTY(1, &length, cnp.NPY_FLOAT64, 0)


cdef cnp.ndarray contiguous(x, like=None, shape=None):
    """x as a C-contiguous, aligned, native array, itself where it is that already; of the type of `like` if given.

    The loops below trust shapes and types, so this refuses a `shape` other than x's.
    """
    if shape is not None and x.shape != shape:
        raise ValueError(f"an array has shape {x.shape}; expected {shape}")
    cdef cnp.ndarray given = x if like is None else like
    cdef int kind = cnp.NPY_FLOAT32 if cnp.PyArray_TYPE(given) == cnp.NPY_FLOAT32 else cnp.NPY_FLOAT64
    if is_ready(x, kind):
        return x
    return cnp.PyArray_FROM_OTF(
        x, kind, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED | cnp.NPY_ARRAY_FORCECAST
    )


cdef bint is_ready(x, int kind):
    return (
        isinstance(x, cnp.ndarray) and cnp.PyArray_TYPE(<cnp.ndarray>x) == kind
        and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>x)
    )


cdef tuple shape_of(cnp.ndarray a):
    return tuple([a.shape[i] for i in range(a.ndim)])


cdef joined(plus, cnp.ndarray like):
    """What is to be added to a result like `like`: None, or contiguous and of its type and number of numbers."""
    if plus is None:
        return None
    cdef cnp.ndarray more = contiguous(plus, like)
    if cnp.PyArray_SIZE(more) != cnp.PyArray_SIZE(like):
        raise ValueError(f"plus has shape {plus.shape}; expected the numbers of {shape_of(like)}")
    return more


cdef tuple statistics_shape(cnp.ndarray x):
    if x.ndim == 2:
        return (x.shape[1],)
    if x.ndim < 2:
        raise ValueError(f"x has shape {shape_of(x)}; expected (..., m, C)")
    return (*[x.shape[i] for i in range(x.ndim - 2)], x.shape[x.ndim - 1])


cdef cnp.ndarray spread(value, tuple shape, double absent=0):
    """A statistic broadcast to `shape`, contiguous doubles, itself where it is that; `absent` stands for None."""
    cdef cnp.ndarray given, full
    cdef Py_ssize_t i, size = 1
    for i in range(len(shape)):
        size *= <Py_ssize_t>shape[i]
    if value is None:
        full = row(size)
        for i in range(size):
            numbers(full)[i] = absent
        return full
    given = doubles(value)
    if cnp.PyArray_SIZE(given) == size and given.ndim <= len(shape) and trailing(given, shape):
        return given
    if given.ndim == 0:
        full = row(size)
        for i in range(size):
            numbers(full)[i] = numbers(given)[0]
        return full
    return np.ascontiguousarray(np.broadcast_to(given, shape))


cdef bint trailing(cnp.ndarray a, tuple shape):
    """Whether the shape of `a` is the end of `shape`."""
    cdef int i, more = len(shape) - a.ndim
    for i in range(a.ndim):
        if a.shape[i] != <Py_ssize_t>shape[more + i]:
            return False
    return True


cdef cnp.ndarray doubles(value):
    """A statistic as contiguous doubles, itself where it is that."""
    cdef cnp.ndarray out
    cdef Py_ssize_t i
    if is_ready(value, cnp.NPY_FLOAT64):
        return value
    if not is_ready(value, cnp.NPY_FLOAT32):
        return cnp.PyArray_FROM_OTF(value, cnp.NPY_FLOAT64, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED)
    out = empty(shape_of(value))
    for i in range(cnp.PyArray_SIZE(out)):
        numbers(out)[i] = (<float *>data(value))[i]
    return out


cdef wide(value):
    """What a cache keeps of a statistic or a parameter: float64 in its own shape, None, or Moments of them."""
    if value is None:
        return None
    if isinstance(value, tuple):
        return named_tuple(type(value), [wide(a) for a in value])
    return doubles(value)


cdef cnp.ndarray rounded(cnp.ndarray statistic, int kind):
    """A copy of a statistic in the type of the results."""
    cdef cnp.ndarray a = statistic if cnp.PyArray_IS_C_CONTIGUOUS(statistic) else statistic.copy()
    cdef cnp.ndarray out = empty(shape_of(a), kind)
    cdef Py_ssize_t i, size = cnp.PyArray_SIZE(a)
    if kind == cnp.NPY_FLOAT64:
        memcpy(data(out), data(a), size * sizeof(double))
    else:
        for i in range(size):
            (<float *>data(out))[i] = <float>numbers(a)[i]
    return out


cdef narrow(cnp.ndarray statistic, cnp.ndarray like):
    """A copy of a statistic in the type of x."""
    return rounded(statistic, cnp.PyArray_TYPE(like))


cdef moments_like(moments, x):
    """Copies of the cache's moments in the type of the results."""
    return moments_pair(narrow(moments[0], x), narrow(moments[1], x))


cdef int widest(arrays) except -1:
    """Type of the results where no argument leads; a scalar gain or noise has no say."""
    for a in arrays:
        if a.ndim and not is_single(a):
            return cnp.NPY_FLOAT64
    return cnp.NPY_FLOAT32


cdef sum_to(const double *gradient, tuple full, argument, int kind):
    """Sum a gradient of shape `full` over the axes along which its argument was broadcast; None stays None."""
    cdef cnp.ndarray given, out
    cdef Py_ssize_t i, g, size, count = 1
    cdef double total
    if argument is None:
        return None
    given = argument if isinstance(argument, np.ndarray) else np.asarray(argument)
    for i in range(len(full)):
        count *= <Py_ssize_t>full[i]
    if given.ndim > len(full) or not trailing(given, full):  # an axis in the middle, or one of length 1
        return rounded(summed_along(gradient, full, shape_of(given), count), kind)
    size = cnp.PyArray_SIZE(given)
    out = empty(shape_of(given), kind)
    for i in range(size):
        total = 0
        for g in range(count // size):
            total += gradient[g * size + i]
        if kind == cnp.NPY_FLOAT32:
            (<float *>data(out))[i] = <float>total
        else:
            numbers(out)[i] = total
    return out


cdef cnp.ndarray summed_along(const double *gradient, tuple full, tuple shape, Py_ssize_t count):
    cdef cnp.ndarray values = empty(full)
    memcpy(data(values), gradient, count * sizeof(double))
    more = len(full) - len(shape)
    axes = tuple([i for i in range(len(full)) if i < more or shape[i - more] == 1])
    return np.ascontiguousarray(values.sum(axis=axes).reshape(shape))


cdef void *data(cnp.ndarray a) noexcept nogil:
    return cnp.PyArray_DATA(a)


cdef double *numbers(cnp.ndarray statistic) noexcept nogil:
    return <double *>cnp.PyArray_DATA(statistic)


cdef bint is_single(cnp.ndarray a) noexcept:
    return cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32


cdef int threads_for(Py_ssize_t size) except -1:
    if size < ALONE:
        return 1
    return named("backend", "get_num_threads")()


cdef Layout layout_of(cnp.ndarray x) except *:
    cdef Layout at
    cdef Py_ssize_t i
    cdef int threads = threads_for(cnp.PyArray_SIZE(x))
    at.channels, at.m, at.batches = x.shape[x.ndim - 1], x.shape[x.ndim - 2], 1
    for i in range(x.ndim - 2):
        at.batches *= x.shape[i]
    if at.channels == 0:  # nothing to do, and nothing to divide by
        at.batches, at.channels = 0, 1
    at.size = at.m * at.channels
    at.across = (at.channels + COLUMNS - 1) // COLUMNS
    at.samples = max(16, min(ROWS, TILE // min(at.channels, COLUMNS)))
    at.down = max(1, (at.m + GROUP * at.samples - 1) // (GROUP * at.samples))
    at.plane = at.down * at.channels
    at.observed = False
    at.outer = threads if at.batches >= MANY else 1
    at.inner = 1 if at.batches >= MANY else threads
    return at


# ---- one tile, and one group of tiles ------------------------------------------------------------------------------


cdef Tile tile_at(Layout at, Py_ssize_t place, Py_ssize_t column) noexcept nogil:
    """The tile `place` of the channels from `column` on; without samples, behind the last one."""
    cdef Tile t
    t.column, t.start = column, place * at.samples * at.channels + column
    t.block.samples = max(0, min(at.m - place * at.samples, at.samples))
    t.block.stride, t.block.width = at.channels, min(at.channels - column, COLUMNS)
    return t


cdef void tile_moments(
    const real *x, Layout at, Tile t, double *centre, double *rest, double *square
) noexcept nogil:
    """Per channel: mean, sum d and sum d^2, d = x - mean. The sum of d is what rounding left in the mean."""
    cdef Py_ssize_t i, j
    cdef double d
    cdef bint done = False
    x += t.start
    if real is float:
        done = kernels.moments(&t.block, x, centre, rest, square)
    if not done:
        for j in range(t.block.width):
            centre[j] = rest[j] = square[j] = 0
        for i in range(t.block.samples):
            for j in range(t.block.width):
                centre[j] += x[i * at.channels + j]
        for j in range(t.block.width):
            centre[j] /= t.block.samples
        for i in range(t.block.samples):
            for j in range(t.block.width):
                d = x[i * at.channels + j] - centre[j]
                rest[j] += d
                square[j] += d * d


cdef void group_moments(const real *x, Layout at, Py_ssize_t index, double *planes) noexcept nogil:
    """As tile_moments, of a group of tiles; the first plane has the sums."""
    cdef double local[3 * GROUP * COLUMNS]
    cdef Py_ssize_t column = index % at.across * COLUMNS, place = index // at.across, k, j, samples = 0
    cdef double *total = planes + place * at.channels + column
    cdef double *centre = total + at.plane
    cdef double *rest = centre + at.plane
    cdef double *square = rest + at.plane
    cdef double *part
    cdef double delta
    cdef Tile t
    for j in range(min(at.channels - column, COLUMNS)):
        total[j] = rest[j] = square[j] = 0
    for k in range(GROUP):
        t = tile_at(at, place * GROUP + k, column)
        if t.block.samples > 0:
            part = local + 3 * k * COLUMNS
            tile_moments(x, at, t, part, part + COLUMNS, part + 2 * COLUMNS)
            samples += t.block.samples
            for j in range(t.block.width):
                total[j] += t.block.samples * part[j] + part[COLUMNS + j]
    for j in range(min(at.channels - column, COLUMNS)):
        centre[j] = total[j] / samples
    for k in range(GROUP):
        t = tile_at(at, place * GROUP + k, column)
        if t.block.samples > 0:
            part = local + 3 * k * COLUMNS
            for j in range(t.block.width):  # Chan et al.: sum (x - mean)^2 = sum d^2 + 2 delta sum d + n delta^2
                delta = part[j] - centre[j]
                rest[j] += part[COLUMNS + j] + t.block.samples * delta
                square[j] += part[2 * COLUMNS + j] + delta * (2 * part[COLUMNS + j] + t.block.samples * delta)


cdef bint passes(real x, const Terms *terms, Py_ssize_t c, const float *mask, Py_ssize_t channels) noexcept nogil:
    """Whether a ReLU behind the normalizer lets the gradient pass: not where y <= 0, so that NaN passes.

    mask: the terms of y in float, where y was computed in float.
    """
    if terms.y_scale == NULL:
        return True
    if real is float:
        if mask != NULL:
            return kernels.passes(x, mask[0], mask[channels], mask[2 * channels])
    return not (x - terms.y_centre[c]) * terms.y_scale[c] + terms.y_shift[c] <= 0


cdef void tile_sums(
    const real *dy, const real *x, Layout at, Tile t, Py_ssize_t c, const Terms *terms, const float *single,
    const float *mask, double *sum_dy, double *sum_dy_x_hat
) noexcept nogil:
    """Per channel: sum dy and sum dy (x - centre) scale, from channel c of the terms on."""
    cdef Py_ssize_t i, j, k
    cdef double g
    cdef Affine relu
    cdef bint done = False
    x += t.start
    dy += t.start
    c += t.column
    if mask != NULL:
        mask += t.column
    if real is float:
        if single != NULL:
            single += t.column
            relu = affine(single, at.channels)
            done = kernels.sums(
                &t.block, dy, x, single, single + at.channels, &relu if terms.y_scale != NULL else NULL, sum_dy,
                sum_dy_x_hat
            )
        if done:
            for j in range(t.block.width):  # what rounding centre and scale to float has changed
                if single[at.channels + j] != 0:
                    sum_dy_x_hat[j] *= terms.scale[c + j] / single[at.channels + j]
                sum_dy_x_hat[j] -= sum_dy[j] * (terms.centre[c + j] - single[j]) * terms.scale[c + j]
            return
    for j in range(t.block.width):
        sum_dy[j] = sum_dy_x_hat[j] = 0
    for i in range(t.block.samples):
        k = i * at.channels
        for j in range(t.block.width):
            g = dy[k + j] if passes(x[k + j], terms, c + j, mask + j if mask != NULL else NULL, at.channels) else 0
            sum_dy[j] += g
            sum_dy_x_hat[j] += g * ((x[k + j] - terms.centre[c + j]) * terms.scale[c + j])


cdef void group_sums(
    const real *dy, const real *x, Layout at, Py_ssize_t index, Py_ssize_t c, const Terms *terms, const float *single,
    const float *mask, double *planes
) noexcept nogil:
    """As tile_sums, of a group of tiles."""
    cdef double local[2 * COLUMNS]
    cdef Py_ssize_t column = index % at.across * COLUMNS, place = index // at.across, k, j
    cdef double *sum_dy = planes + place * at.channels + column
    cdef double *sum_dy_x_hat = sum_dy + at.plane
    cdef Tile t
    for j in range(min(at.channels - column, COLUMNS)):
        sum_dy[j] = sum_dy_x_hat[j] = 0
    for k in range(GROUP):
        t = tile_at(at, place * GROUP + k, column)
        if t.block.samples > 0:
            tile_sums(dy, x, at, t, c, terms, single, mask, local, local + COLUMNS)
            for j in range(t.block.width):
                sum_dy[j] += local[j]
                sum_dy_x_hat[j] += local[COLUMNS + j]


cdef void group_combine(
    const real *dy, const real *x, Layout at, Py_ssize_t index, Py_ssize_t c, const Terms *terms,
    const float *single, const float *mask, const real *plus, real *out
) noexcept nogil:
    """out = weight dy + scale (x - centre) + shift + plus, from channel c of the terms on; NULL drops a term."""
    cdef Tile t = tile_at(at, index // at.across * GROUP, index % at.across * COLUMNS)
    cdef Py_ssize_t i, j, k
    cdef double value
    cdef Affine relu
    t.block.samples = min(at.m - index // at.across * GROUP * at.samples, GROUP * at.samples)
    x += t.start
    out += t.start
    c += t.column
    if mask != NULL:
        mask += t.column
    if dy != NULL:
        dy += t.start
    if plus != NULL:
        plus += t.start
    if real is float:
        if single != NULL:
            single += t.column
            relu = affine(single, at.channels)
            kernels.combine(
                &t.block, dy, x, single + 3 * at.channels, single, single + at.channels, single + 2 * at.channels,
                &relu if terms.y_scale != NULL else NULL, terms.rectify, plus, out
            )
            return
    for i in range(t.block.samples):
        k = i * at.channels
        for j in range(t.block.width):
            value = (x[k + j] - terms.centre[c + j]) * terms.scale[c + j] + terms.shift[c + j]
            if dy != NULL and passes(x[k + j], terms, c + j, mask + j if mask != NULL else NULL, at.channels):
                value += terms.weight[c + j] * dy[k + j]
            out[k + j] = 0 if terms.rectify and value <= 0 else <real>value
            if plus != NULL:
                out[k + j] += plus[k + j]


cdef Affine affine(const float *single, Py_ssize_t channels) noexcept nogil:
    """The standardization below a ReLU, among the terms in float."""
    cdef Affine relu
    relu.centre, relu.scale, relu.shift = single + 4 * channels, single + 5 * channels, single + 6 * channels
    return relu


cdef const float *singles(
    const Terms *terms, Py_ssize_t c, Py_ssize_t channels, float *room, const float **mask
) noexcept nogil:
    """The terms of one batch in float, a row of channels each: centre, scale, shift, weight, and those of y.

    What rounding takes from a centre goes into the shift. NULL where float does not hold them; `mask` is set to those
    of y, or to NULL where float does not hold these or there is no ReLU.
    """
    cdef Py_ssize_t j
    cdef bint held = True, y_held = terms.y_scale != NULL
    for j in range(channels):
        room[j], room[channels + j] = <float>terms.centre[c + j], <float>terms.scale[c + j]
        held &= in_float(terms.centre[c + j]) and in_float(terms.scale[c + j])
        if terms.shift != NULL:
            room[2 * channels + j] = <float>moved(terms.centre, terms.scale, terms.shift, room[j], c + j)
        if terms.weight != NULL:
            room[3 * channels + j] = <float>terms.weight[c + j]
            held &= in_float(terms.weight[c + j])
        if terms.y_scale != NULL:
            room[4 * channels + j], room[5 * channels + j] = <float>terms.y_centre[c + j], <float>terms.y_scale[c + j]
            room[6 * channels + j] = <float>moved(
                terms.y_centre, terms.y_scale, terms.y_shift, room[4 * channels + j], c + j
            )
            y_held &= in_float(terms.y_centre[c + j]) and in_float(terms.y_scale[c + j])
    mask[0] = room + 4 * channels if y_held else NULL
    return room if held and (y_held or terms.y_scale == NULL) else NULL


cdef double moved(
    const double *centre, const double *scale, const double *shift, float rounded, Py_ssize_t i
) noexcept nogil:
    return shift[i] - (centre[i] - rounded) * scale[i]


cdef bint in_float(double value) noexcept nogil:
    """Whether float holds the value to its full precision, far from both ends of its range."""
    return value == 0 or 1e-30 <= abs(value) <= 1e30


# ---- one batch -----------------------------------------------------------------------------------------------------


cdef void merge(double *plane, Layout at) noexcept nogil:
    """Add up the groups' sums by a binary tree; the first C numbers of the plane are then the channels' sums."""
    cdef Py_ssize_t step = 1, i, j
    while step < at.down:
        i = 0
        while i + step < at.down:
            for j in range(at.channels):
                plane[i * at.channels + j] += plane[(i + step) * at.channels + j]
            i += 2 * step
        step *= 2


cdef void batch_moments(
    const real *x, Layout at, Py_ssize_t g, double *mean, double *var, double *planes
) noexcept nogil:
    """Mean and variance of batch g (B1)."""
    cdef double *centre = planes + at.plane
    cdef double *rest = centre + at.plane
    cdef double *square = rest + at.plane
    cdef Py_ssize_t index, place, j, k, samples
    cdef double delta
    x += g * at.size
    mean += g * at.channels
    var += g * at.channels
    if at.observed:
        pass  # the tiles were seen when x was written
    elif at.inner == 1:
        for index in range(at.down * at.across):
            group_moments(x, at, index, planes)
    else:
        for index in prange(at.down * at.across, num_threads=at.inner, schedule="static"):
            group_moments(x, at, index, planes)
    merge(planes, at)
    for j in range(at.channels):
        mean[j] = planes[j] / at.m
    for place in range(at.down):
        samples = min(at.m - place * GROUP * at.samples, GROUP * at.samples)
        for j in range(at.channels):  # as in group_moments
            k = place * at.channels + j
            delta = centre[k] - mean[j]
            square[k] += delta * (2 * rest[k] + samples * delta)
    merge(square, at)
    for j in range(at.channels):
        var[j] = 0 if square[j] < 0 else square[j] / at.m  # only rounding makes it negative


cdef void batch_sums(
    const real *dy, const real *x, Layout at, Py_ssize_t g, const Terms *terms, double *sum_dy, double *sum_dy_x_hat,
    double *planes
) noexcept nogil:
    """Per channel of batch g: sum dy and sum dy (x - centre) scale."""
    cdef Py_ssize_t c = g * at.channels, index, j
    cdef const float *mask
    cdef const float *single = singles(terms, c, at.channels, <float *>(planes + 2 * at.plane), &mask)
    if at.inner == 1:
        for index in range(at.down * at.across):
            group_sums(dy + g * at.size, x + g * at.size, at, index, c, terms, single, mask, planes)
    else:
        for index in prange(at.down * at.across, num_threads=at.inner, schedule="static"):
            group_sums(dy + g * at.size, x + g * at.size, at, index, c, terms, single, mask, planes)
    merge(planes, at)
    merge(planes + at.plane, at)
    for j in range(at.channels):
        sum_dy[c + j], sum_dy_x_hat[c + j] = planes[j], planes[at.plane + j]


cdef void batch_combine(
    const real *dy, const real *x, Layout at, Py_ssize_t g, const Terms *terms, const real *plus, real *out,
    double *room
) noexcept nogil:
    """weight dy + scale (x - centre) + shift + plus over batch g.

    Each thread goes backwards over its groups: those that it summed up last still lie in its cache.
    """
    cdef Py_ssize_t c = g * at.channels, index, t, groups = at.down * at.across
    cdef const float *mask
    cdef const float *single = singles(terms, c, at.channels, <float *>room, &mask)
    if dy != NULL:
        dy += g * at.size
    if plus != NULL:
        plus += g * at.size
    if at.inner == 1:
        for index in range(groups - 1, -1, -1):
            group_combine(dy, x + g * at.size, at, index, c, terms, single, mask, plus, out + g * at.size)
    else:
        for t in prange(at.inner, num_threads=at.inner, schedule="static"):
            for index in range(groups * (t + 1) // at.inner - 1, groups * t // at.inner - 1, -1):
                group_combine(dy, x + g * at.size, at, index, c, terms, single, mask, plus, out + g * at.size)


# ---- all batches: every loop over x is one of these three ----------------------------------------------------------
# Threads share out the batches, or the groups of one: a parallel loop within another would start new threads each time.


cdef void all_moments(const real *x, Layout at, double *mean, double *var, double *planes) noexcept nogil:
    cdef Py_ssize_t g
    if at.outer == 1:
        for g in range(at.batches):
            batch_moments(x, at, g, mean, var, planes)
    else:
        for g in prange(at.batches, num_threads=at.outer, schedule="static"):
            batch_moments(x, at, g, mean, var, planes + threadid() * 4 * at.plane)


cdef void all_sums(
    const real *dy, const real *x, Layout at, const Terms *terms, double *sum_dy, double *sum_dy_x_hat, double *planes
) noexcept nogil:
    cdef Py_ssize_t g
    if at.outer == 1:
        for g in range(at.batches):
            batch_sums(dy, x, at, g, terms, sum_dy, sum_dy_x_hat, planes)
    else:
        for g in prange(at.batches, num_threads=at.outer, schedule="static"):
            batch_sums(
                dy, x, at, g, terms, sum_dy, sum_dy_x_hat, planes + threadid() * (2 * at.plane + 4 * at.channels)
            )


cdef void all_combined(
    const real *dy, const real *x, Layout at, const Terms *terms, const real *plus, real *out, double *room
) noexcept nogil:
    cdef Py_ssize_t g
    if at.outer == 1:
        for g in range(at.batches):
            batch_combine(dy, x, at, g, terms, plus, out, room)
    else:
        for g in prange(at.batches, num_threads=at.outer, schedule="static"):
            batch_combine(dy, x, at, g, terms, plus, out, room + threadid() * 4 * at.channels)


cdef class Observed:
    """What group_moments says of the tiles of y, one batch, from when it was written; it serves once."""

    cdef readonly cnp.ndarray y
    cdef cnp.ndarray planes
    cdef Layout at


cdef int moments_of(cnp.ndarray x, Layout at, double *mean, double *var, observed=None) except -1:
    """Mean and variance of a contiguous x; `observed`, if it is of x itself, saves reading it."""
    cdef cnp.ndarray room
    cdef bint single = is_single(x)
    cdef Observed seen
    if observed is not None:
        seen = observed
        at.observed = (
            seen.planes is not None and data(seen.y) == data(x) and seen.at.m == at.m and at.batches == 1
            and seen.at.channels == at.channels
        )
    if at.observed:
        room, seen.planes = seen.planes, None  # merging overwrites them
    else:
        room = scratch((at.outer * 4 * at.plane,), cnp.NPY_FLOAT64)
    with nogil:
        if single:
            all_moments(<const float *>data(x), at, mean, var, numbers(room))
        else:
            all_moments(<const double *>data(x), at, mean, var, numbers(room))
    return 0


cdef int sums_of(
    cnp.ndarray dy, cnp.ndarray x, Layout at, const Terms *terms, double *sum_dy, double *sum_dy_x_hat
) except -1:
    """sum dy and sum dy (x - centre) scale; dy and x contiguous."""
    cdef cnp.ndarray room = scratch((at.outer * (2 * at.plane + 4 * at.channels),), cnp.NPY_FLOAT64)
    cdef bint single = is_single(x)
    with nogil:
        if single:
            all_sums(
                <const float *>data(dy), <const float *>data(x), at, terms, sum_dy, sum_dy_x_hat, numbers(room)
            )
        else:
            all_sums(
                <const double *>data(dy), <const double *>data(x), at, terms, sum_dy, sum_dy_x_hat, numbers(room)
            )
    return 0


cdef cnp.ndarray combine(cnp.ndarray x, Layout at, const Terms *terms, cnp.ndarray dy=None, plus=None):
    """weight dy + scale (x - centre) + shift + plus in the type of x; None drops a term. All contiguous."""
    cdef cnp.ndarray out = fresh(shape_of(x), cnp.PyArray_TYPE(x)), room = row(at.outer * 4 * at.channels), more
    cdef bint single = is_single(x)
    cdef void *of_dy = NULL if dy is None else data(dy)
    cdef void *of_plus = NULL
    if plus is not None:
        more = plus
        of_plus = data(more)
    with nogil:
        if single:
            all_combined(
                <const float *>of_dy, <const float *>data(x), at, terms, <const float *>of_plus, <float *>data(out),
                numbers(room)
            )
        else:
            all_combined(
                <const double *>of_dy, <const double *>data(x), at, terms, <const double *>of_plus,
                <double *>data(out), numbers(room)
            )
    return out


cdef class Deferred:
    """max(y, 0) of a normalizer, not yet computed: a convolution computes it while it reads x. See rectified.py."""

    cdef readonly tuple shape
    cdef readonly cnp.ndarray x  # (G, m, C), contiguous float32
    cdef cnp.ndarray centre, scale, shift  # a number per batch and channel

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def dtype(self):
        return self.x.dtype

    def reshape(self, tuple shape):
        cdef Deferred other = Deferred()
        other.x, other.shape = self.x, shape
        other.centre, other.scale, other.shift = self.centre, self.scale, self.shift
        return other

    def __array__(self, dtype=None, copy=None):
        cdef Terms terms = affine_terms(numbers(self.centre), numbers(self.scale), numbers(self.shift))
        terms.rectify = True
        return combine(self.x, layout_of(self.x), &terms).reshape(self.shape).astype(dtype or self.x.dtype, copy=False)


cdef enum:  # what becomes of y
    PLAIN = 0
    RECTIFIED = 1
    LATER = 2  # rectified, but by the convolution behind


cdef written(cnp.ndarray x, Layout at, Terms *terms, int relu):
    """y = scale (x - centre) + shift, or, rectified LATER, a Deferred where float holds its terms."""
    cdef Deferred made = Deferred()
    cdef Py_ssize_t i, n = at.batches * at.channels
    cdef bint held = is_single(x)
    terms.rectify = relu != PLAIN
    if relu == LATER:
        for i in range(n):
            held &= in_float(terms.centre[i]) and in_float(terms.scale[i]) and in_float(terms.shift[i])
        if held:
            made.x, made.shape, made.centre, made.scale, made.shift = x, shape_of(x), row(n), row(n), row(n)
            memcpy(data(made.centre), terms.centre, n * sizeof(double))
            memcpy(data(made.scale), terms.scale, n * sizeof(double))
            memcpy(data(made.shift), terms.shift, n * sizeof(double))
            return made
    return combine(x, at, terms)


# ---- loops over statistics, an equation each -----------------------------------------------------------------------


cdef double clip(double value, double low, double high) noexcept nogil:
    """value within [low, high]; NaN passes."""
    return low if value < low else high if value > high else value


cdef void rstd_of(const double *var, double eps, Py_ssize_t n, double *rstd) noexcept nogil:
    """r = (var + eps)^(-1/2) (B0)."""
    cdef Py_ssize_t i
    for i in range(n):
        rstd[i] = 1 / sqrt(var[i] + eps)


cdef void multiply(const double *a, const double *b, Py_ssize_t n, double *out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = a[i] * b[i]


cdef void multiply_add(const double *a, const double *b, const double *c, Py_ssize_t n, double *out) noexcept nogil:
    """a b + c."""
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = a[i] * b[i] + c[i]


cdef void repeated(const double *statistic, Py_ssize_t k, Py_ssize_t n, double *out) noexcept nogil:
    """The statistic of each of n rows k times, once for each of its channels."""
    cdef Py_ssize_t i, j
    for i in range(n):
        for j in range(k):
            out[i * k + j] = statistic[i]


cdef void summed(const double *channel, Py_ssize_t k, Py_ssize_t n, double *out) noexcept nogil:
    """Sum over the k channels of each of n rows; in place if need be."""
    cdef Py_ssize_t i, j
    cdef double total
    for i in range(n):
        total = 0
        for j in range(k):
            total += channel[i * k + j]
        out[i] = total


cdef void collapsed(
    const double *mu, const double *v, Py_ssize_t k, Py_ssize_t n, double *mean, double *var
) noexcept nogil:
    """mean_g = mean_c mu_c ; var_g = mean_c (v_c + (mu_c - mean_g)^2), over the k channels of each of n rows (B6)."""
    cdef Py_ssize_t i, j
    cdef double delta
    for i in range(n):
        mean[i] = var[i] = 0
        for j in range(k):
            mean[i] += mu[i * k + j] / k
        for j in range(k):
            delta = mu[i * k + j] - mean[i]
            var[i] += (v[i * k + j] + delta * delta) / k


cdef void fused(
    const double *a, const double *b, const double *xbar, const double *s, const double *q, Py_ssize_t n, double *mu,
    double *v
) noexcept nogil:
    """mu = p a + q xbar ; v = p b + q S + p q delta^2 ; delta = xbar - a ; p = 1 - q (A1, B5)."""
    cdef Py_ssize_t i
    cdef double p, delta
    for i in range(n):
        p, delta = 1 - q[i], xbar[i] - a[i]
        mu[i] = p * a[i] + q[i] * xbar[i]
        v[i] = p * b[i] + q[i] * s[i] + p * q[i] * (delta * delta)


cdef void through_fuse(
    const double *dmu, const double *dv, const double *a, const double *b, const double *xbar, const double *s,
    const double *q, Py_ssize_t n, double *out
) noexcept nogil:
    """da = dmu - ddelta ; db = p dv ; dxbar = ddelta = q dmu + 2 p q dv delta ; dS = q dv ;
    dq = dmu delta + dv (S - b + (1 - 2q) delta^2): n numbers each (B5)."""
    cdef Py_ssize_t i
    cdef double p, delta, ddelta
    for i in range(n):
        p, delta = 1 - q[i], xbar[i] - a[i]
        ddelta = q[i] * dmu[i] + 2 * p * q[i] * dv[i] * delta
        out[i] = dmu[i] - ddelta
        out[n + i] = p * dv[i]
        out[2 * n + i] = ddelta
        out[3 * n + i] = q[i] * dv[i]
        out[4 * n + i] = dmu[i] * delta + dv[i] * (s[i] - b[i] + (1 - 2 * q[i]) * (delta * delta))


cdef void through_standardize(
    const double *sum_dy, const double *sum_dy_x_hat, const double *rstd, const double *gamma, Py_ssize_t n,
    double *weight, double *dmean, double *dvar
) noexcept nogil:
    """With g = gamma dy: the weight of dy in dx, r gamma ; dmean = -r sum g ; dvar = -1/2 r^2 sum g x_hat (B0)."""
    cdef Py_ssize_t i
    for i in range(n):
        weight[i] = rstd[i] * gamma[i]
        dmean[i] = -weight[i] * sum_dy[i]
        dvar[i] = -weight[i] * rstd[i] * sum_dy_x_hat[i] / 2


cdef void through_observe(
    const double *dmean, const double *dvar, Py_ssize_t m, Py_ssize_t n, double *scale, double *shift
) noexcept nogil:
    """dx = 2 dvar/m (x - mean) + dmean/m: scale and shift of that; in place if need be (B1)."""
    cdef Py_ssize_t i
    for i in range(n):
        shift[i], scale[i] = dmean[i] / m, 2 * dvar[i] / m


# ---- twins of moments.py -------------------------------------------------------------------------------------------


def observe(x):
    cdef cnp.ndarray source = contiguous(x), mean, var
    shape = statistics_shape(source)
    mean, var = empty(shape), empty(shape)
    moments_of(source, layout_of(source), numbers(mean), numbers(var))
    return moments_pair(narrow(mean, source), narrow(var, source))


def observe_backward(dmoments, x, moments):
    cdef cnp.ndarray source = contiguous(x)
    shape = statistics_shape(source)
    cdef cnp.ndarray mean = spread(moments.mean, shape), dmean = spread(dmoments.mean, shape)
    cdef cnp.ndarray dvar = spread(dmoments.var, shape), room = row(2 * mean.size)
    cdef Layout at = layout_of(source)
    cdef Py_ssize_t n = mean.size
    cdef Terms terms
    memset(&terms, 0, sizeof(terms))
    through_observe(numbers(dmean), numbers(dvar), at.m, n, numbers(room), numbers(room) + n)
    terms.centre, terms.scale, terms.shift = numbers(mean), numbers(room), numbers(room) + n
    return combine(source, at, &terms)


def fuse(prior, observed, gain):
    cdef tuple shape = np.broadcast_shapes(prior.mean.shape, observed.mean.shape)
    cdef cnp.ndarray a, b, xbar, s, q, mean = empty(shape), var = empty(shape)
    a, b, xbar, s, q = [spread(value, shape) for value in (*prior, *observed, gain)]
    fused(
        numbers(a), numbers(b), numbers(xbar), numbers(s), numbers(q), mean.size, numbers(mean), numbers(var)
    )
    kind = widest((*prior, *observed, gain))
    return moments_pair(rounded(mean, kind), rounded(var, kind))


def fuse_backward(dmoments, prior, observed, gain):
    cdef tuple shape = dmoments.mean.shape, arguments = (*prior, *observed, gain)
    cdef cnp.ndarray dmu, dv, a, b, xbar, s, q, gradients
    cdef Py_ssize_t n
    kind = widest((*dmoments, *arguments))
    dmu, dv, a, b, xbar, s, q = [spread(value, shape) for value in (*dmoments, *arguments)]
    n = cnp.PyArray_SIZE(dmu)
    gradients = empty((5, n))
    through_fuse(
        numbers(dmu), numbers(dv), numbers(a), numbers(b), numbers(xbar), numbers(s), numbers(q), n,
        numbers(gradients)
    )
    da, db, dxbar, ds, dgain = [
        sum_to(numbers(gradients) + <Py_ssize_t>i * n, shape, value, kind) for i, value in enumerate(arguments)
    ]
    return moments_pair(da, db), moments_pair(dxbar, ds), dgain


def standardize(x, moments, gamma, beta, eps):
    return standardized(x, moments, gamma, beta, eps, PLAIN)


cdef tuple standardized(x, moments, gamma, beta, double eps, int relu):
    cdef cnp.ndarray source = contiguous(x)
    cdef tuple shape = statistics_shape(source)
    cdef cnp.ndarray mean = wide(moments.mean), var = wide(moments.var), rstd = empty(shape_of(var))
    cdef cnp.ndarray full_mean = spread(mean, shape), scale = row(full_mean.size), full_rstd
    cdef cnp.ndarray full_gamma = spread(gamma, shape, 1), shift = spread(beta, shape)
    cdef Terms terms
    memset(&terms, 0, sizeof(terms))
    rstd_of(numbers(var), eps, var.size, numbers(rstd))
    full_rstd = spread(rstd, shape)
    multiply(numbers(full_rstd), numbers(full_gamma), scale.size, numbers(scale))
    terms.centre, terms.scale, terms.shift = numbers(full_mean), numbers(scale), numbers(shift)
    y = written(source, layout_of(source), &terms, relu)
    kept = (x, moments_pair(mean, var), rstd, wide(gamma), wide(beta))
    return y, named_tuple(named("moments", "StandardizeCache"), kept)


def standardize_backward(dy, cache):
    x, moments, rstd, gamma, beta = cache
    cdef cnp.ndarray source = contiguous(x), d = contiguous(dy, source, x.shape)
    cdef tuple shape = statistics_shape(source)
    cdef cnp.ndarray mean = spread(moments.mean, shape), r = spread(rstd, shape), full_gamma = spread(gamma, shape, 1)
    cdef cnp.ndarray rows = empty((6, mean.size))
    cdef Py_ssize_t n = mean.size
    cdef double *part = numbers(rows)
    cdef int kind = cnp.PyArray_TYPE(source)
    cdef Layout at = layout_of(source)
    cdef Terms terms
    memset(&terms, 0, sizeof(terms))
    terms.centre, terms.scale = numbers(mean), numbers(r)
    sums_of(d, source, at, &terms, part, part + n)
    through_standardize(part, part + n, numbers(r), numbers(full_gamma), n, part + 2 * n, part + 3 * n, part + 4 * n)
    memset(part + 5 * n, 0, n * sizeof(double))
    terms.centre, terms.scale, terms.shift = part + 5 * n, part + 2 * n, part + 5 * n
    dgamma, dbeta = sum_to(part + n, shape, gamma, kind), sum_to(part, shape, beta, kind)
    dmean, dvar = sum_to(part + 3 * n, shape, moments.mean, kind), sum_to(part + 4 * n, shape, moments.var, kind)
    return combine(d, at, &terms), moments_pair(dmean, dvar), dgamma, dbeta


cdef void mapped(
    const double *mu, const double *v, const double *transition, const double *rho, Py_ssize_t batches,
    Py_ssize_t c_from, Py_ssize_t c_to, bint diagonal, double *a, double *b
) noexcept nogil:
    """a = A mu' ; b = (A*A) v' + rho (B5). A diagonal A is the vector of its diagonal."""
    cdef Py_ssize_t g, i, j
    cdef double w, mean, var
    for g in range(batches):
        for i in range(c_to):
            mean, var = 0, rho[i]
            for j in range(i if diagonal else 0, i + 1 if diagonal else c_from):
                w = transition[j if diagonal else i * c_from + j]
                mean += w * mu[g * c_from + j]
                var += w * w * v[g * c_from + j]
            a[g * c_to + i], b[g * c_to + i] = mean, var


cdef void through_map(
    const double *da, const double *db, const double *mu, const double *v, const double *transition,
    Py_ssize_t batches, Py_ssize_t c_from, Py_ssize_t c_to, bint diagonal, double *dmu, double *dv,
    double *dtransition
) noexcept nogil:
    """dmu' = A^T da ; dv' = (A*A)^T db ; dA = da mu'^T + 2 A * (db v'^T), each added (B5)."""
    cdef Py_ssize_t g, i, j, k
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


def predict(estimate, transition, noise):
    cdef tuple lead = estimate.mean.shape[:-1]
    cdef Py_ssize_t c_to = transition.shape[0], c_from = transition.shape[-1]
    cdef cnp.ndarray mu = spread(estimate.mean, (*lead, c_from)), v = spread(estimate.var, (*lead, c_from))
    cdef cnp.ndarray matrix = spread(transition, transition.shape), rho = spread(noise, (c_to,))
    cdef cnp.ndarray mean = empty((*lead, c_to)), var = empty((*lead, c_to))
    mapped(
        numbers(mu), numbers(v), numbers(matrix), numbers(rho), math.prod(lead), c_from, c_to, transition.ndim == 1,
        numbers(mean), numbers(var)
    )
    kind = widest((*estimate, transition, noise))
    return moments_pair(rounded(mean, kind), rounded(var, kind))


def predict_backward(dprior, estimate, transition, noise):
    cdef tuple lead = estimate.mean.shape[:-1]
    cdef Py_ssize_t c_to = transition.shape[0], c_from = transition.shape[-1]
    cdef cnp.ndarray mu = spread(estimate.mean, (*lead, c_from)), v = spread(estimate.var, (*lead, c_from))
    cdef cnp.ndarray da = spread(dprior.mean, (*lead, c_to)), db = spread(dprior.var, (*lead, c_to))
    cdef cnp.ndarray matrix = spread(transition, transition.shape)
    cdef cnp.ndarray dmu = np.zeros((*lead, c_from)), dv = np.zeros((*lead, c_from))
    cdef cnp.ndarray da_matrix = np.zeros(transition.shape)
    through_map(
        numbers(da), numbers(db), numbers(mu), numbers(v), numbers(matrix), math.prod(lead), c_from, c_to,
        transition.ndim == 1, numbers(dmu), numbers(dv), numbers(da_matrix)
    )
    kind = widest((*dprior, *estimate, transition, noise))
    dnoise = sum_to(numbers(db), (*lead, c_to), noise, kind)
    return moments_pair(rounded(dmu, kind), rounded(dv, kind)), rounded(da_matrix, kind), dnoise

# ---- twins of batch_norm.py, batch_renorm.py and kalman_norm.py ----------------------------------------------------


def batch_norm_forward(x, gamma, beta, eps=1e-5):
    return batch_forward(x, gamma, beta, eps, PLAIN)


cdef tuple batch_forward(x, gamma, beta, eps, int relu, observed=None):
    cdef tuple made = kalman_forward(x, gamma, beta, None, None, eps, None, relu, observed)  # without a prior
    cache = named_tuple(named("moments", "StandardizeCache"), (x, made[2], made[3], made[4], made[5]))
    return made[0], moments_like(made[2], made[1]), cache


def batch_norm_backward(dy, cache):
    return batch_backward(dy, cache, False, None)


cdef tuple batch_backward(dy, cache, bint relu, plus):
    cdef tuple made = kalman_backward(dy, None, (*cache, cache[1], None, None), relu, plus)
    return made[0], made[1], made[2]


def renorm_corrections(moments, running_mean, running_std, r_max, d_max, eps=1e-5):
    """r = clip(s / Sg, 1/r_max, r_max) ; d = clip((mu - M) / Sg, -d_max, d_max) ; s = (var + eps)^(1/2) (B2)."""
    cdef tuple shape = moments.mean.shape
    cdef cnp.ndarray mu = spread(moments.mean, shape), v = spread(moments.var, shape)
    cdef cnp.ndarray m = spread(running_mean, shape), std = spread(running_std, shape)
    cdef cnp.ndarray r = empty(shape), d = empty(shape)
    cdef double wide_eps = eps, r_most = r_max, d_most = d_max
    cdef Py_ssize_t i
    for i in range(mu.size):
        numbers(r)[i] = clip(sqrt(numbers(v)[i] + wide_eps) / numbers(std)[i], 1 / r_most, r_most)
        numbers(d)[i] = clip((numbers(mu)[i] - numbers(m)[i]) / numbers(std)[i], -d_most, d_most)
    return narrow(r, moments.mean), narrow(d, moments.mean)


def batch_renorm_forward(x, gamma, beta, corr_r, corr_d, eps=1e-5):
    return renorm_forward(x, gamma, beta, corr_r, corr_d, eps, PLAIN)


cdef tuple renorm_forward(x, gamma, beta, corr_r, corr_d, double eps, int relu, observed=None):
    cdef cnp.ndarray source = contiguous(x)
    cdef tuple shape = statistics_shape(source)
    cdef Layout at = layout_of(source)
    cdef cnp.ndarray mean = empty(shape), var = empty(shape), rstd = empty(shape), rows = empty((2, mean.size))
    cdef Terms terms
    moments_of(source, at, numbers(mean), numbers(var), observed)
    rstd_of(numbers(var), eps, var.size, numbers(rstd))
    renorm_terms(&terms, mean, rstd, gamma, beta, corr_r, corr_d, shape, rows)
    terms.centre, terms.scale, terms.shift = terms.y_centre, terms.y_scale, terms.y_shift
    terms.y_scale = NULL
    y, moments = written(source, at, &terms, relu), moments_pair(mean, var)
    kept = (x, moments, rstd, wide(gamma), wide(beta), wide(corr_r), wide(corr_d))
    return y, moments_like(moments, source), named_tuple(named("batch_renorm", "BatchRenormCache"), kept)


cdef int renorm_terms(
    Terms *terms, cnp.ndarray mean, cnp.ndarray rstd, gamma, beta, corr_r, corr_d, tuple shape, cnp.ndarray rows
) except -1:
    """y = (x - mean) (rstd r gamma) + (gamma d + beta), in two rows."""
    cdef cnp.ndarray full_gamma = spread(gamma, shape, 1), full_beta = spread(beta, shape)
    cdef cnp.ndarray r = spread(corr_r, shape), d = spread(corr_d, shape)
    cdef Py_ssize_t n = mean.size
    cdef double *scale = numbers(rows)
    multiply(numbers(rstd), numbers(r), n, scale)
    multiply(scale, numbers(full_gamma), n, scale)
    multiply_add(numbers(full_gamma), numbers(d), numbers(full_beta), n, scale + n)
    memset(terms, 0, sizeof(Terms))
    terms.y_centre, terms.y_scale, terms.y_shift = numbers(mean), scale, scale + n
    return 0


def batch_renorm_backward(dy, cache):
    return renorm_backward(dy, cache, False, None)


cdef tuple renorm_backward(dy, cache, bint relu, plus):
    x, moments, rstd_, gamma, beta, corr_r, corr_d = cache
    cdef cnp.ndarray source = contiguous(x), d = contiguous(dy, source, x.shape)
    cdef tuple shape = statistics_shape(source)
    cdef Layout at = layout_of(source)
    cdef cnp.ndarray mean = spread(moments.mean, shape), rstd = spread(rstd_, shape), r = spread(corr_r, shape)
    cdef cnp.ndarray full_d = spread(corr_d, shape), full_gamma = spread(gamma, shape, 1), rows = empty((7, mean.size))
    cdef Py_ssize_t n = mean.size, i
    cdef int kind = cnp.PyArray_TYPE(source)
    cdef double *part = numbers(rows)
    cdef Terms terms
    renorm_terms(&terms, mean, rstd, gamma, beta, corr_r, corr_d, shape, rows)
    if not relu:
        terms.y_scale = NULL
    terms.centre, terms.scale = numbers(mean), numbers(rstd)
    sums_of(d, source, at, &terms, part + 2 * n, part + 3 * n)  # of dy and of dy z, z = (x - mean) rstd
    multiply(numbers(full_gamma), numbers(r), n, part + 6 * n)
    through_standardize(
        part + 2 * n, part + 3 * n, numbers(rstd), part + 6 * n, n, part + 4 * n, part + 5 * n, part + 6 * n
    )
    for i in range(n):  # x_hat = r z + d
        part[3 * n + i] = numbers(r)[i] * part[3 * n + i] + numbers(full_d)[i] * part[2 * n + i]
    through_observe(part + 5 * n, part + 6 * n, at.m, n, part + 6 * n, part + 5 * n)
    terms.weight, terms.scale, terms.shift = part + 4 * n, part + 6 * n, part + 5 * n
    dgamma, dbeta = sum_to(part + 3 * n, shape, gamma, kind), sum_to(part + 2 * n, shape, beta, kind)
    return combine(source, at, &terms, d, joined(plus, source)), dgamma, dbeta


def kalman_norm_forward(x, gamma, beta, prior, gain, eps=1e-5):
    return fusing_forward(x, gamma, beta, prior, gain, eps, PLAIN)


cdef tuple fusing_forward(x, gamma, beta, prior, gain, eps, int relu, observed=None):
    y, source, *kept = kalman_forward(x, gamma, beta, prior, gain, eps, None, relu, observed)
    return y, moments_like(kept[0], source), named_tuple(named("kalman_norm", "KalmanNormCache"), [x, *kept])


def kalman_norm_backward(dy, destimate, cache):
    return kalman_backward(dy, destimate, cache, False, None)


cdef tuple kalman_forward(x, gamma, beta, prior, gain, double eps, tuple shape, int relu, observed=None):
    """Kalman normalization of a channel, or, with a `shape` (..., G) of the statistics, of a row of k = C/G channels.

    Returns: y, x contiguous, then everything in the cache behind x.
    """
    cdef cnp.ndarray source = contiguous(x), xbar, s, mean, var, rstd, rows, full_gamma, shift, a, b, q
    cdef tuple channels = statistics_shape(source)
    shape = channels if shape is None else shape
    cdef Layout at = layout_of(source)
    cdef Py_ssize_t k = channels_of_one(channels, shape), n
    cdef double *part
    cdef Terms terms
    gamma, beta = wide(gamma), wide(beta)
    full_gamma, shift = spread(gamma, channels, 1), spread(beta, channels)
    n = cnp.PyArray_SIZE(full_gamma)
    rows = row(3 * n)
    part = numbers(rows)
    xbar, s, rstd = empty(shape), empty(shape), empty(shape)
    if k == 1:
        moments_of(source, at, numbers(xbar), numbers(s), observed)
    else:
        moments_of(source, at, part, part + n)
        collapsed(part, part + n, k, n // k, numbers(xbar), numbers(s))
    observed = estimate = moments_pair(xbar, s)
    mean, var = xbar, s
    if prior is None:
        gain = None
    else:
        a, b, q = spread(prior[0], shape), spread(prior[1], shape), spread(gain, shape)
        mean, var = empty(shape), empty(shape)
        fused(
            numbers(a), numbers(b), numbers(xbar), numbers(s), numbers(q), n // k, numbers(mean), numbers(var)
        )
        estimate = moments_pair(mean, var)
    rstd_of(numbers(var), eps, n // k, numbers(rstd))
    standardization(&terms, mean, rstd, full_gamma, shift, k, n, part)
    terms.centre, terms.scale, terms.shift = terms.y_centre, terms.y_scale, terms.y_shift
    terms.y_scale = NULL
    y = written(source, at, &terms, relu)
    return y, source, estimate, rstd, gamma, beta, observed, wide(prior), wide(gain)


cdef void standardization(
    Terms *terms, cnp.ndarray mean, cnp.ndarray rstd, cnp.ndarray gamma, cnp.ndarray shift, Py_ssize_t k,
    Py_ssize_t n, double *rows
):
    """y = (x - mean) (rstd gamma) + beta, of n channels, k of which share a statistic; takes up to three rows."""
    memset(terms, 0, sizeof(Terms))
    repeated(numbers(rstd), k, n // k, rows)
    multiply(rows, numbers(gamma), n, rows)
    terms.y_centre, terms.y_scale, terms.y_shift = numbers(mean), rows, numbers(shift)
    if k > 1:
        repeated(numbers(mean), k, n // k, rows + n)
        terms.y_centre = rows + n


cdef tuple kalman_backward(dy, destimate, cache, bint relu, plus):
    """dx + plus, dgamma, dbeta, dprior, dgain of kalman_forward."""
    x, estimate, rstd_, gamma, beta, observed, prior, gain = cache
    cdef cnp.ndarray source = contiguous(x), d = contiguous(dy, source, x.shape), full_gamma, shift, mean, rstd, centre
    cdef cnp.ndarray a, b, xbar, s, q, extra, more, gradients, rows
    cdef tuple channels = statistics_shape(source), shape = shape_of(estimate[0])
    cdef Layout at = layout_of(source)
    cdef Py_ssize_t k = channels_of_one(channels, shape), n, r, i
    cdef int kind = cnp.PyArray_TYPE(source)
    cdef double *part
    cdef double *dmu
    cdef double *dv
    cdef Terms terms
    full_gamma, shift = spread(gamma, channels, 1), spread(beta, channels)
    mean, rstd, centre = spread(estimate[0], shape), spread(rstd_, shape), spread(observed[0], shape)
    n = cnp.PyArray_SIZE(full_gamma)
    r = n // k  # statistics
    rows = row(9 * n)
    part = numbers(rows)
    standardization(&terms, mean, rstd, full_gamma, shift, k, n, part)
    terms.centre = terms.y_centre
    if not relu:
        terms.y_scale = NULL
    repeated(numbers(rstd), k, r, part + 2 * n)
    terms.scale = part + 2 * n
    sums_of(d, source, at, &terms, part + 3 * n, part + 4 * n)
    dmu, dv = part + 6 * n, part + 7 * n
    through_standardize(part + 3 * n, part + 4 * n, part + 2 * n, numbers(full_gamma), n, part + 5 * n, dmu, dv)
    if k > 1:
        summed(dmu, k, r, dmu)
        summed(dv, k, r, dv)
    if destimate is not None:
        extra, more = spread(destimate[0], shape), spread(destimate[1], shape)
        for i in range(r):
            dmu[i] += numbers(extra)[i]
            dv[i] += numbers(more)[i]
    dprior = dgain = None
    if prior is not None:
        a, b, q = spread(prior[0], shape), spread(prior[1], shape), spread(gain, shape)
        xbar, s = centre, spread(observed[1], shape)
        gradients = row(5 * r)
        through_fuse(
            dmu, dv, numbers(a), numbers(b), numbers(xbar), numbers(s), numbers(q), r, numbers(gradients)
        )
        dprior = moments_pair(
            sum_to(numbers(gradients), shape, prior[0], kind), sum_to(numbers(gradients) + r, shape, prior[1], kind)
        )
        dgain = sum_to(numbers(gradients) + 4 * r, shape, gain, kind)
        dmu, dv = numbers(gradients) + 2 * r, numbers(gradients) + 3 * r
    through_observe(dmu, dv, at.m * k, r, part + 7 * n, part + 6 * n)
    terms.weight, terms.centre, terms.scale, terms.shift = part + 5 * n, numbers(centre), part + 7 * n, part + 6 * n
    if k > 1:  # from the last row on, so that none is read after it was overwritten
        repeated(part + 7 * n, k, r, part + 8 * n)
        repeated(part + 6 * n, k, r, part + 7 * n)
        repeated(numbers(centre), k, r, part + 6 * n)
        terms.centre, terms.shift, terms.scale = part + 6 * n, part + 7 * n, part + 8 * n
    dgamma, dbeta = sum_to(part + 4 * n, channels, gamma, kind), sum_to(part + 3 * n, channels, beta, kind)
    return combine(source, at, &terms, d, joined(plus, source)), dgamma, dbeta, dprior, dgain


# ---- twins of group_norm.py and group_kalman_norm.py: the moments of a row are those of its channels, merged -------


cdef Py_ssize_t channels_of_one(channels, shape) except 0:
    """How many consecutive channels share one statistic."""
    if shape is channels:
        return 1
    if shape[:-1] != channels[:-1] or shape[-1] != channels[-1] and (shape[-1] < 1 or channels[-1] % shape[-1]):
        raise ValueError(f"statistics have shape {shape}; expected {channels[:-1]} and a divisor of {channels[-1]}")
    return 1 if shape == channels else channels[-1] // shape[-1]


def group_norm_forward(x, gamma, beta, groups, eps=1e-5):
    return grouped_forward(x, gamma, beta, groups, eps, PLAIN)


cdef tuple grouped_forward(x, gamma, beta, groups, eps, int relu):
    y, source, *kept = kalman_forward(x, gamma, beta, None, None, eps, (x.shape[0], groups), relu)
    return y, moments_like(kept[0], source), named_tuple(named("group_norm", "GroupNormCache"), [x, *kept[:4]])


def group_norm_backward(dy, cache):
    return batch_backward(dy, cache, False, None)


def group_kalman_norm_forward(x, gamma, beta, prior, gain, groups, eps=1e-5):
    return group_fusing_forward(x, gamma, beta, prior, gain, groups, eps, PLAIN)


cdef tuple group_fusing_forward(x, gamma, beta, prior, gain, groups, eps, int relu):
    y, source, *kept = kalman_forward(x, gamma, beta, prior, gain, eps, (x.shape[0], groups), relu)
    cache = named_tuple(named("group_kalman_norm", "GroupKalmanNormCache"), [x, *kept])
    return y, moments_like(kept[0], source), cache


def group_kalman_norm_backward(dy, destimate, cache):
    return kalman_backward(dy, destimate, cache, False, None)


# ---- the same with a ReLU behind, in the same loops: twins of rectified.py -----------------------------------------


def rectified_forward(name, later, observed, x, *rest):
    """The forward `name` with its y rectified, now or later; `observed` is what there is known of x, or None."""
    cdef int relu = LATER if later else RECTIFIED
    if name == "batch_norm_forward":
        return batch_forward(x, rest[0], rest[1], rest[2], relu, observed)
    if name == "batch_renorm_forward":
        return renorm_forward(x, rest[0], rest[1], rest[2], rest[3], rest[4], relu, observed)
    if name == "kalman_norm_forward":
        return fusing_forward(x, rest[0], rest[1], rest[2], rest[3], rest[4], relu, observed)
    if name == "group_norm_forward":
        return grouped_forward(x, rest[0], rest[1], rest[2], rest[3], relu)
    if name == "group_kalman_norm_forward":
        return group_fusing_forward(x, rest[0], rest[1], rest[2], rest[3], rest[4], rest[5], relu)
    return standardized(x, rest[0], rest[1], rest[2], rest[3], relu)


def rectified_backward(name, plus, dy, *rest):
    """The backward `name` of such a forward, for the gradient of the rectified y; plus is added to dx, or None."""
    if name in ("batch_norm_backward", "group_norm_backward"):
        return batch_backward(dy, rest[0], True, plus)
    if name == "batch_renorm_backward":
        return renorm_backward(dy, rest[0], True, plus)
    return kalman_backward(dy, rest[0], rest[1], True, plus)


# ---- convolution ---------------------------------------------------------------------------------------------------
# Each image is copied into a border of zeros, so that the numbers that a row of the kernel meets lie in one run: kw
# C_in of them, or, going back, the C_out of consecutive pixels of dy. Then y is one sweep, and dx one for each remainder
# (u, v) mod stride, whose pixels meet the same rows and columns of the kernel.

cdef enum:
    BANDS = 16  # runs of images, at most, that add up a gradient of the weight of their own
    GRADIENTS = 1 << 24  # numbers, at most, in those gradients, or else fewer bands
    WORK = 1 << 20  # multiplications from which threads share out the images
    BLOCK = 8  # rows of a weight that are transposed together
    AHEAD = 4  # rows between what is computed and what is fetched from memory
    CACHED = 8192  # numbers of x and dy, about, that a pass over the patches reads again and again
    FEW = 2  # images, at most, whose gradient of the weight is shared out by its numbers; a sum of two has no order
    HELD = 1 << 18  # numbers, at most, of those images in their borders
    RUN = 24  # numbers of a row of the kernel that are one share of it
    PERIOD = 256  # numbers of a term of a Feed, at most, unless there are more channels
    PART = 1024  # numbers of the bands' gradients that are added up together


cdef struct Conv:
    Py_ssize_t images, height, width, c_in  # x
    Py_ssize_t rows, columns, c_out  # y
    Py_ssize_t kh, kw, stride, top, left
    Py_ssize_t tall, wide  # x in its border, as much of it as the kernel meets
    Py_ssize_t above, before, dy_tall, dy_wide  # dy in its border
    Py_ssize_t taps  # numbers of the weight
    Py_ssize_t kw_met  # columns of the kernel that some column of pixels meets: all but for maps below the stride
    Py_ssize_t x_room, dy_room  # numbers of an image in its border
    Py_ssize_t feed_room  # numbers for the terms of a Feed
    Py_ssize_t bands  # as many whatever the number of threads
    bint few  # whether dweight is shared out by its numbers, and not by bands of images
    int threads


cdef Conv conv_of(x, weight, stride, padding) except *:
    cdef Conv at
    cdef Py_ssize_t v
    at.images, at.height, at.width, at.c_in = x.shape
    at.kh, at.kw, c_in, at.c_out = weight.shape
    (at.top, bottom), (at.left, right) = padding
    at.stride = stride
    if c_in != at.c_in or stride < 1:
        raise ValueError(f"x has {x.shape[3]} channels and stride is {stride}; expected {c_in} and at least 1")
    at.rows = (at.height + at.top + bottom - at.kh) // at.stride + 1
    at.columns = (at.width + at.left + right - at.kw) // at.stride + 1
    at.tall, at.wide = (at.rows - 1) * at.stride + at.kh, (at.columns - 1) * at.stride + at.kw
    at.above, at.before = (at.kh - 1) // at.stride + 1, (at.kw - 1) // at.stride + 1
    at.dy_tall = at.above + max(at.rows, (at.height - 1 + at.top) // at.stride + 1)
    at.dy_wide = at.before + max(at.columns, (at.width - 1 + at.left) // at.stride + 1)
    at.taps = at.kh * at.kw * at.c_in * at.c_out
    at.kw_met = 0
    for v in range(min(at.stride, at.width)):
        at.kw_met += met(at.kw, (v + at.left) % at.stride, at.stride)
    at.x_room, at.dy_room = at.tall * at.wide * at.c_in, at.dy_tall * at.dy_wide * at.c_out + SLACK
    at.feed_room = 3 * max(PERIOD, at.c_in)
    at.bands = max(1, min(BANDS, at.images, GRADIENTS // max(1, at.taps)))
    at.few = 1 <= at.images <= FEW and at.images * (at.x_room + at.dy_room) <= HELD
    at.threads = 1
    if at.images * at.rows * at.columns * at.taps >= WORK:
        at.threads = named("backend", "get_num_threads")()
    return at


cdef void bordered(
    const real *image, Feed feed, Py_ssize_t height, Py_ssize_t width, Py_ssize_t channels, Py_ssize_t top,
    Py_ssize_t left, Py_ssize_t wide, Py_ssize_t first, Py_ssize_t last, real *out
) noexcept nogil:
    """Rows first..last of a map that holds an image from row `top` and column `left` on, and zeros around it; what of
    the image juts out of its `wide` columns is cut off."""
    cdef Py_ssize_t u, line = wide * channels, inside = max(0, min(width, wide - left)) * channels
    cdef Py_ssize_t low = min(left, wide) * channels
    out += first * line
    for u in range(first, last):
        if top <= u < top + height:
            memset(out, 0, low * sizeof(real))
            if real is float:
                if feed.period:
                    kernels.stretch(
                        inside, feed.period, image + (u - top) * width * channels, &feed.terms, out + low
                    )
                else:
                    memcpy(out + low, image + (u - top) * width * channels, inside * sizeof(real))
            else:
                memcpy(out + low, image + (u - top) * width * channels, inside * sizeof(real))
            memset(out + low + inside, 0, (line - low - inside) * sizeof(real))
        else:
            memset(out, 0, line * sizeof(real))
        out += line


cdef struct Feed:  # x standardized and rectified while it is copied, or, with a period of 0, as it is
    Affine terms
    Py_ssize_t period  # numbers of each term, repeated: a multiple of the channels


cdef struct Source:  # what a Deferred says of its images; one array of terms has C numbers for each batch
    const double *centre
    const double *scale
    const double *shift
    Py_ssize_t channels, images  # of a batch


cdef Source source_at(const Source *source, Py_ssize_t image) noexcept nogil:
    """That of one image."""
    cdef Source here
    cdef Py_ssize_t c
    memset(&here, 0, sizeof(here))
    if source != NULL and source.channels:
        here = source[0]
        c = image // source.images * source.channels
        here.centre, here.scale, here.shift = source.centre + c, source.scale + c, source.shift + c
    return here


cdef Feed feed_of(const Source *source, real *room) noexcept nogil:
    """The terms of one image in float, repeated over a period; `room` is for them."""
    cdef Feed feed
    cdef Terms terms
    cdef Py_ssize_t j, k
    cdef float *part = <float *>room
    cdef const float *mask
    memset(&feed, 0, sizeof(feed))
    if source == NULL or source.channels == 0:
        return feed
    feed.period = source.channels
    while 2 * feed.period <= PERIOD:
        feed.period *= 2
    memset(&terms, 0, sizeof(terms))
    terms.centre, terms.scale, terms.shift = source.centre, source.scale, source.shift
    singles(&terms, 0, source.channels, part, &mask)
    for k in range(2, -1, -1):  # from the last term on, so that none is read after it was overwritten
        for j in range(feed.period - 1, -1, -1):
            part[k * feed.period + j] = part[k * source.channels + j % source.channels]
    feed.terms.centre, feed.terms.scale, feed.terms.shift = part, part + feed.period, part + 2 * feed.period
    return feed


cdef Sweep forward_sweep(Conv at) noexcept nogil:
    cdef Sweep s
    s.row, s.down, s.step = at.wide * at.c_in, at.stride * at.wide * at.c_in, at.stride * at.c_in
    s.high, s.run, s.c_out = at.kh, at.kw * at.c_in, at.c_out
    s.out_down, s.out_step, s.rows, s.columns = at.columns * at.c_out, at.c_out, at.rows, at.columns
    return s


cdef void image_forward(
    const real *x, const Source *source, const real *weight, const real *bias, const real *plus, real *y, Conv at,
    real *room
) noexcept nogil:
    """y of one image, row by row; `room` is for x in its border."""
    cdef Sweep s = forward_sweep(at)
    cdef Feed feed = feed_of(source, room + at.x_room)
    cdef Py_ssize_t r, done = 0, until, x_line = at.width * at.c_in
    s.rows = 1
    for r in range(at.rows):
        until = r * at.stride + at.kh
        fetch(x + (until + AHEAD) * x_line, at.stride * x_line * sizeof(real), False)
        fetch(y + (r + 1) * s.out_down, s.out_down * sizeof(real), True)
        if plus != NULL:
            fetch(plus + (r + 1) * s.out_down, s.out_down * sizeof(real), False)
        bordered(x, feed, at.height, at.width, at.c_in, at.top, at.left, at.wide, done, until, room)
        if real is float:
            kernels.sweep_float(
                &s, room + r * s.down, weight, bias, plus + r * s.out_down if plus != NULL else NULL, y + r * s.out_down
            )
        else:
            kernels.sweep_double(
                &s, room + r * s.down, weight, bias, plus + r * s.out_down if plus != NULL else NULL, y + r * s.out_down
            )
        done = until


cdef void sweep_rows(const real *source, Sweep s, const real *weight, real *out) noexcept nogil:
    """All rows of a sweep, one by one, each fetching the place of the next."""
    cdef Py_ssize_t r, rows = s.rows
    s.rows = 1
    for r in range(rows):
        fetch(out + (r + 1) * s.out_down, s.columns * s.out_step * sizeof(real), True)
        if real is float:
            kernels.sweep_float(&s, source + r * s.down, weight, NULL, NULL, out + r * s.out_down)
        else:
            kernels.sweep_double(&s, source + r * s.down, weight, NULL, NULL, out + r * s.out_down)


cdef void image_backward(
    const real *x, const Source *source, const real *transposed, const real *dy, real *dx, real *dweight, Conv at,
    real *room
) noexcept nogil:
    """dx of one image, unless it is NULL; what it gives to dweight is added there. `room` is for x and dy in their
    borders."""
    cdef real *map = room + at.x_room
    cdef Py_ssize_t line = at.dy_wide * at.c_out, r = 0, x_done = 0, dy_done = 0, until
    cdef Feed feed = feed_of(source, map + at.dy_room), plain
    cdef Sweep s = weight_sweep(at)
    plain.period = 0
    while r < at.rows:
        s.rows = rows_at(at, s, r)
        until = (r + s.rows - 1) * at.stride + at.kh
        bordered(x, feed, at.height, at.width, at.c_in, at.top, at.left, at.wide, x_done, until, room)
        fetch(x + (until + 1) * at.width * at.c_in, s.rows * at.stride * at.width * at.c_in * sizeof(real), False)
        fetch(dy + (r + s.rows) * at.columns * at.c_out, s.rows * at.columns * at.c_out * sizeof(real), False)
        x_done, until = until, at.above + r + s.rows
        bordered(dy, plain, at.rows, at.columns, at.c_out, at.above, at.before, at.dy_wide, dy_done, until, map)
        dy_done = until
        gather(s, room + r * s.down, map + (at.above + r) * line + at.before * at.c_out, dweight)
        r += s.rows
    if dx != NULL:
        bordered(dy, plain, at.rows, at.columns, at.c_out, at.above, at.before, at.dy_wide, dy_done, at.dy_tall, map)
        image_dx(map, transposed, dx, at)


cdef Sweep weight_sweep(Conv at) noexcept nogil:
    """Of gather, which meets x in its border and dy in its own."""
    cdef Sweep s = forward_sweep(at)
    s.out_down = at.dy_wide * at.c_out
    return s


cdef Py_ssize_t rows_at(Conv at, Sweep s, Py_ssize_t r) noexcept nogil:
    """How many rows of dy, from row r on, a pass over the patches takes together."""
    return min(max(1, CACHED // max(1, s.down + s.out_down)), at.rows - r)


cdef void gather(Sweep s, const real *x, const real *dy, real *dweight) noexcept nogil:
    if real is float:
        kernels.gather_float(&s, x, dy, dweight)
    else:
        kernels.gather_double(&s, x, dy, dweight)


cdef void image_dx(const real *map, const real *transposed, real *dx, Conv at) noexcept nogil:
    """dx of one image from its dy in its border."""
    cdef Py_ssize_t u, v, a, b, line = at.dy_wide * at.c_out
    cdef Sweep s = forward_sweep(at)
    s.row = s.down = line
    s.step, s.c_out = at.c_out, at.c_in
    s.out_down, s.out_step = at.stride * at.width * at.c_in, at.stride * at.c_in
    for u in range(min(at.stride, at.height)):
        for v in range(min(at.stride, at.width)):
            # rows a, a + stride, ... of the kernel reach pixel rows u, u + stride, ... ; (u + top - a) / stride of dy
            a, b = (u + at.top) % at.stride, (v + at.left) % at.stride
            s.high, s.run = met(at.kh, a, at.stride), met(at.kw, b, at.stride) * at.c_out
            s.rows, s.columns = met(at.height, u, at.stride), met(at.width, v, at.stride)
            a = at.above + (u + at.top - a) // at.stride - s.high + 1
            b = at.before + (v + at.left - b) // at.stride - met(at.kw, b, at.stride) + 1
            sweep_rows(map + a * line + b * at.c_out, s, transposed, dx + (u * at.width + v) * at.c_in)
            transposed += s.high * s.run * at.c_in


cdef Py_ssize_t met(Py_ssize_t size, Py_ssize_t first, Py_ssize_t stride) noexcept nogil:
    """How many of first, first + stride, ... are below size."""
    return (size - first + stride - 1) // stride if first < size else 0


cdef void tap_for_dx(const real *weight, Conv at, Py_ssize_t tap, real *out) noexcept nogil:
    """Tap (a, b) of the weight to its place among what the sweeps of image_dx meet.

    They come by remainder (u, v), as a and b do; those of one remainder from the last to the first, each (C_out, C_in).
    """
    cdef Py_ssize_t a = tap // at.kw, b = tap % at.kw, s = at.stride
    cdef Py_ssize_t u = remainder(a - at.top, s), v = remainder(b - at.left, s), before = 0, i
    if u >= at.height or v >= at.width:
        return  # no pixel meets it
    for i in range(u):
        before += met(at.kh, (i + at.top) % s, s) * at.kw_met
    for i in range(v):
        before += met(at.kh, (u + at.top) % s, s) * met(at.kw, (i + at.left) % s, s)
    before += (met(at.kh, a % s, s) - 1 - a // s) * met(at.kw, b % s, s) + met(at.kw, b % s, s) - 1 - b // s
    tap_transposed(weight + tap * at.c_in * at.c_out, at, out + before * at.c_in * at.c_out)


cdef Py_ssize_t remainder(Py_ssize_t a, Py_ssize_t s) noexcept nogil:
    """a mod s, in 0..s-1."""
    return (a % s + s) % s


cdef void tap_transposed(const real *tap, Conv at, real *out) noexcept nogil:
    """(C_in, C_out) as (C_out, C_in), in blocks that stay in the cache's lines."""
    cdef Py_ssize_t c = 0, o, k
    while c + BLOCK <= at.c_in:
        for o in range(at.c_out):
            for k in range(BLOCK):
                out[o * at.c_in + c + k] = tap[(c + k) * at.c_out + o]
        c += BLOCK
    for o in range(at.c_out):
        for k in range(c, at.c_in):
            out[o * at.c_in + k] = tap[k * at.c_out + o]


cdef void all_forward(
    const real *x, const Source *source, const real *weight, const real *bias, const real *plus, real *y, Conv at,
    Py_ssize_t beside, Layout of_y, double *planes, real *rooms
) noexcept nogil:
    """y of all images, `beside` of them at a time; then, if there are planes, group_moments of what they fill."""
    cdef Py_ssize_t k
    for k in prange((at.images + beside - 1) // beside, num_threads=at.threads, schedule="dynamic"):
        some_forward(
            x, source, weight, bias, plus, y, at, k, beside, of_y, planes,
            rooms + threadid() * (at.x_room + at.feed_room)
        )


cdef void some_forward(
    const real *x, const Source *source, const real *weight, const real *bias, const real *plus, real *y, Conv at,
    Py_ssize_t k, Py_ssize_t beside, Layout of_y, double *planes, real *room
) noexcept nogil:
    cdef Py_ssize_t n, group, groups = beside * at.rows * at.columns // (GROUP * of_y.samples) * of_y.across
    for n in range(k * beside, min((k + 1) * beside, at.images)):
        one_forward(x, source, weight, bias, plus, y, at, n, room)
    if planes != NULL:
        for group in range(k * groups, (k + 1) * groups):
            group_moments(y, of_y, group, planes)


cdef void one_forward(
    const real *x, const Source *source, const real *weight, const real *bias, const real *plus, real *y, Conv at,
    Py_ssize_t n, real *room
) noexcept nogil:
    cdef Py_ssize_t size = at.rows * at.columns * at.c_out
    cdef Source here = source_at(source, n)
    image_forward(
        x + n * at.height * at.width * at.c_in, &here, weight, bias, plus + n * size if plus != NULL else NULL,
        y + n * size, at, room
    )


cdef void band_backward(
    const real *x, const Source *source, const real *transposed, const real *dy, real *dx, real *dweight, Conv at,
    Py_ssize_t band, real *room
) noexcept nogil:
    """Consecutive images, which add to the same dweight."""
    cdef Py_ssize_t n
    cdef Source here
    memset(dweight, 0, at.taps * sizeof(real))
    for n in range(at.images * band // at.bands, at.images * (band + 1) // at.bands):
        here = source_at(source, n)
        image_backward(
            x + n * at.height * at.width * at.c_in, &here, transposed, dy + n * at.rows * at.columns * at.c_out,
            dx + n * at.height * at.width * at.c_in if dx != NULL else NULL, dweight, at, room
        )


cdef void all_backward(
    const real *x, const Source *source, const real *weight, real *transposed, const real *dy, real *dx,
    real *dweights, Conv at, real *rooms
) noexcept nogil:
    cdef Py_ssize_t band, tap, taps = at.kh * at.kw if dx != NULL else 0
    for tap in prange(taps, num_threads=at.threads, schedule="static"):
        tap_for_dx(weight, at, tap, transposed)
    for band in prange(at.bands, num_threads=at.threads, schedule="dynamic"):
        band_backward(
            x, source, transposed, dy, dx, dweights + band * at.taps, at, band, rooms + threadid() * room_of_one(at)
        )


cdef void gradients_of(
    const real *x, const Source *source, const real *weight, real *transposed, const real *dy, real *dx,
    real *dweight, Conv at, real *rooms, real *parts
) noexcept nogil:
    """dx of all images, unless it is NULL, and dweight, or, of many images, the gradients of the bands in `parts`."""
    if at.few:
        few_backward(x, source, weight, transposed, dy, dx, dweight, at, rooms, parts)
    else:
        all_backward(x, source, weight, transposed, dy, dx, parts, at, rooms)


cdef void few_backward(
    const real *x, const Source *source, const real *weight, real *transposed, const real *dy, real *dx,
    real *dweight, Conv at, real *rooms, real *shares
) noexcept nogil:
    """all_backward of few images: dx image by image, dweight share by share, to the bits that bands of one image give.

    `rooms` is for all images in their borders; `shares`, for each thread, for a share of each image.
    """
    cdef Py_ssize_t n, task, images = 0, taps = 0
    if dx != NULL:
        images, taps = at.images, at.kh * at.kw
    for n in prange(at.images + taps, num_threads=at.threads, schedule="dynamic"):
        if n < at.images:
            image_bordered(x, source, dy, at, n, rooms)
        else:
            tap_for_dx(weight, at, n - at.images, transposed)
    for task in prange(images + at.kh * row_shares(at), num_threads=at.threads, schedule="dynamic"):
        if task < images:
            image_dx(
                rooms + task * room_of_one(at) + at.x_room, transposed, dx + task * at.height * at.width * at.c_in, at
            )
        else:
            share_of_weights(rooms, at, task - images, shares + threadid() * at.images * RUN * at.c_out, dweight)


cdef Py_ssize_t row_shares(Conv at) noexcept nogil:
    return (at.kw * at.c_in + RUN - 1) // RUN


cdef Py_ssize_t room_of_one(Conv at) noexcept nogil:
    return at.x_room + at.dy_room + at.feed_room


cdef void image_bordered(
    const real *x, const Source *source, const real *dy, Conv at, Py_ssize_t n, real *rooms
) noexcept nogil:
    """x and dy of one image in their borders."""
    cdef real *room = rooms + n * room_of_one(at)
    cdef real *map = room + at.x_room
    cdef Source here = source_at(source, n)
    cdef Feed feed = feed_of(&here, map + at.dy_room), plain
    plain.period = 0
    x += n * at.height * at.width * at.c_in
    dy += n * at.rows * at.columns * at.c_out
    bordered(x, feed, at.height, at.width, at.c_in, at.top, at.left, at.wide, 0, at.tall, room)
    bordered(dy, plain, at.rows, at.columns, at.c_out, at.above, at.before, at.dy_wide, 0, at.dy_tall, map)


cdef void share_of_weights(const real *rooms, Conv at, Py_ssize_t share, real *own, real *dweight) noexcept nogil:
    """At most RUN numbers of a row of the kernel, for every channel of y: each image's own, then their sum, which is
    rounded as that of part_of_sum, since of two numbers every type has it right."""
    cdef Sweep s = weight_sweep(at)
    cdef Py_ssize_t run = s.run, a = share // row_shares(at), l = share % row_shares(at) * RUN, n, i, r, size
    cdef const real *x
    cdef const real *dy
    s.high, s.run = 1, min(RUN, run - l)
    size = s.run * at.c_out
    memset(own, 0, at.images * size * sizeof(real))
    for n in range(at.images):
        x = rooms + n * room_of_one(at) + a * s.row + l
        dy = rooms + n * room_of_one(at) + at.x_room + (at.above * at.dy_wide + at.before) * at.c_out
        r = 0
        while r < at.rows:
            s.rows = rows_at(at, s, r)
            gather(s, x + r * s.down, dy + r * s.out_down, own + n * size)
            r += s.rows
    dweight += (a * run + l) * at.c_out
    for i in range(size):
        dweight[i] = own[i] + (own[size + i] if at.images > 1 else 0)


cdef cnp.ndarray slackened(cnp.ndarray a):
    """A copy in one row, aligned to the lines of the cache, with slack behind it for vectors that read past its end."""
    cdef Py_ssize_t size = cnp.PyArray_SIZE(a), width = cnp.PyArray_ITEMSIZE(a)
    cdef cnp.ndarray out = scratch((size + SLACK + ALIGNMENT,), cnp.PyArray_TYPE(a))
    out = out[(ALIGNMENT - <Py_ssize_t>data(out) % ALIGNMENT) % ALIGNMENT // width:]
    memcpy(data(out), data(a), size * width)
    memset(<char *>data(out) + size * width, 0, SLACK * width)
    return out


cdef void part_of_sum(const real *bands, Conv at, Py_ssize_t first, real *out) noexcept nogil:
    cdef double total[PART]
    cdef Py_ssize_t i, band, size = min(PART, at.taps - first)
    memset(total, 0, sizeof(total))
    for band in range(at.bands):
        for i in range(size):
            total[i] += bands[band * at.taps + first + i]
    for i in range(size):
        out[first + i] = <real>total[i]


cdef int sum_bands(cnp.ndarray bands, Conv at, cnp.ndarray out) except -1:
    """Add up the bands' gradients, in their order."""
    cdef bint single = is_single(bands)
    cdef Py_ssize_t part
    cdef int threads = at.threads if at.bands * at.taps >= ALONE else 1  # waking one costs more than a small sum
    for part in prange((at.taps + PART - 1) // PART, nogil=True, num_threads=threads, schedule="static"):
        if single:
            part_of_sum(<const float *>data(bands), at, part * PART, <float *>data(out))
        else:
            part_of_sum(<const double *>data(bands), at, part * PART, <double *>data(out))
    return 0


cdef Source source_of(x):
    """What to do to x on the way: nothing, unless it is a Deferred."""
    cdef Source source
    cdef Deferred d
    memset(&source, 0, sizeof(source))
    if isinstance(x, Deferred):
        d = x
        source.centre, source.scale, source.shift = numbers(d.centre), numbers(d.scale), numbers(d.shift)
        source.channels = d.shape[len(d.shape) - 1]
        source.images = max(1, <Py_ssize_t>d.shape[0] * source.channels // max(1, cnp.PyArray_SIZE(d.centre)))
    return source


def conv2d_forward(x, weight, bias, stride, padding):
    y, cache, _ = convolved(x, weight, bias, stride, padding, None, False)
    return y, cache


def convolved(x, weight, bias, stride, padding, plus, observe):
    """conv2d_forward, of an x that may be a Deferred; plus is added to y, or None. Third: y Observed, or None."""
    cdef Conv at = conv_of(x, weight, stride, padding)
    cdef Source source = source_of(x)
    cdef cnp.ndarray image = contiguous(x.x if isinstance(x, Deferred) else x), w = contiguous(weight, image), b, more
    cdef int kind = cnp.PyArray_TYPE(image)
    cdef cnp.ndarray y = fresh((at.images, at.rows, at.columns, at.c_out), kind)
    cdef cnp.ndarray rooms = scratch((at.threads * (at.x_room + at.feed_room),), kind)
    cdef bint single = is_single(image)
    cdef void *of_b = NULL
    cdef void *of_plus = NULL
    cdef double *planes = NULL
    cdef Py_ssize_t beside = max(1, min(4, at.images // BANDS)), group  # neighbours in memory for one thread
    cdef Observed seen = None
    cdef Layout of_y
    if at.c_out % SLACK or <Py_ssize_t>data(w) % ALIGNMENT:
        w = slackened(w)
    if bias is not None:
        b = slackened(contiguous(bias, image, weight.shape[3:]))
        of_b = data(b)
    if plus is not None:
        more = contiguous(plus, image)
        if shape_of(more) != shape_of(y):
            raise ValueError(f"the map to add has shape {shape_of(more)}; expected {shape_of(y)}, the shape of y")
        of_plus = data(more)
    of_y = layout_of(y.reshape(at.images * at.rows * at.columns, at.c_out))
    group = beside  # of images, so many that groups of tiles end where they do
    while group < 16 and group * at.rows * at.columns % (GROUP * of_y.samples):
        group *= 2
    if observe and at.images % group == 0 and group * at.rows * at.columns % (GROUP * of_y.samples) == 0:
        seen, beside = Observed(), group
        seen.y, seen.at, seen.planes = y, of_y, fresh((4 * of_y.plane,), cnp.NPY_FLOAT64)
        planes = numbers(seen.planes)
    with nogil:
        if single:
            all_forward(
                <const float *>data(image), &source, <const float *>data(w), <const float *>of_b,
                <const float *>of_plus, <float *>data(y), at, beside, of_y, planes, <float *>data(rooms)
            )
        else:
            all_forward(
                <const double *>data(image), &source, <const double *>data(w), <const double *>of_b,
                <const double *>of_plus, <double *>data(y), at, beside, of_y, planes, <double *>data(rooms)
            )
    return y, named_tuple(named("convolution", "Conv2dCache"), (x, weight, bias, stride, padding)), seen


def conv2d_backward(dy, cache):
    return convolved_gradients(dy, cache, True, None)


def conv2d_weight_backward(dy, cache):
    return convolved_gradients(dy, cache, False, None)[1:]


def convolved_gradients(dy, cache, bint wanted, into):
    """dx, or None unless it is wanted, dweight and dbias. dweight is made in `into`, if that is an array for it."""
    _scratch.give_back()
    x, weight, bias, stride, padding = cache
    cdef Conv at = conv_of(x, weight, stride, padding)
    cdef Source source = source_of(x)
    cdef cnp.ndarray image = contiguous(x.x if isinstance(x, Deferred) else x), w = contiguous(weight, image)
    cdef cnp.ndarray d = contiguous(dy, image, (at.images, at.rows, at.columns, at.c_out)), pixels, dbias
    cdef int kind = cnp.PyArray_TYPE(image)
    cdef cnp.ndarray dx = fresh(x.shape, kind) if wanted else None
    cdef cnp.ndarray dweight = into if is_for(into, w) else empty(shape_of(w), kind)
    cdef cnp.ndarray transposed = scratch((at.taps + SLACK,), kind)
    cdef cnp.ndarray rooms = scratch(((at.images if at.few else at.threads) * room_of_one(at),), kind), parts
    cdef bint single = is_single(image)
    cdef Terms terms
    cdef void *into_dx = data(dx) if wanted else NULL
    if at.few:
        parts = scratch((at.threads * at.images * RUN * at.c_out,), kind)
    else:
        parts = scratch((at.bands, at.taps), kind)
    with nogil:
        if single:
            gradients_of(
                <const float *>data(image), &source, <const float *>data(w), <float *>data(transposed),
                <const float *>data(d), <float *>into_dx, <float *>data(dweight), at, <float *>data(rooms),
                <float *>data(parts)
            )
        else:
            gradients_of(
                <const double *>data(image), &source, <const double *>data(w), <double *>data(transposed),
                <const double *>data(d), <double *>into_dx, <double *>data(dweight), at, <double *>data(rooms),
                <double *>data(parts)
            )
    if not at.few:
        sum_bands(parts, at, dweight)
    if bias is None:
        return dx, dweight, None
    pixels, dbias = d.reshape(at.images * at.rows * at.columns, at.c_out), np.zeros((3, at.c_out))
    memset(&terms, 0, sizeof(terms))
    terms.centre = terms.scale = numbers(dbias)
    sums_of(pixels, pixels, layout_of(pixels), &terms, numbers(dbias) + at.c_out, numbers(dbias) + 2 * at.c_out)
    return dx, dweight, narrow(dbias[1], image)


cdef bint is_for(into, cnp.ndarray like):
    """Whether a result like this array can be made in `into`."""
    return (
        isinstance(into, cnp.ndarray) and is_ready(into, cnp.PyArray_TYPE(like))
        and cnp.PyArray_ISWRITEABLE(<cnp.ndarray>into) and shape_of(into) == shape_of(like)
    )


# ---- twins of maps.py ----------------------------------------------------------------------------------------------

cdef enum:
    STRIP = 16384  # numbers that a thread takes at a time


cdef Py_ssize_t strips(Py_ssize_t size) noexcept nogil:
    return (size + STRIP - 1) // STRIP


cdef void strip_rectified(const real *x, Py_ssize_t first, Py_ssize_t last, real *y) noexcept nogil:
    """0 where x <= 0, else x: NaN passes."""
    cdef Py_ssize_t i
    for i in range(first, last):
        y[i] = <real>0 if x[i] <= 0 else x[i]


cdef void strip_passed(const real *dy, const real *y, Py_ssize_t first, Py_ssize_t last, real *dx) noexcept nogil:
    """0 where y <= 0, else dy."""
    cdef Py_ssize_t i
    for i in range(first, last):
        dx[i] = <real>0 if y[i] <= 0 else dy[i]


cdef void strip_added(const real *a, const real *b, Py_ssize_t first, Py_ssize_t last, real *out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(first, last):
        out[i] = a[i] + b[i]


cdef void strip_of(
    int what, const real *a, const real *b, Py_ssize_t strip, Py_ssize_t size, real *out
) noexcept nogil:
    cdef Py_ssize_t first = strip * STRIP, last = min(strip * STRIP + STRIP, size)
    if what == 0:
        strip_rectified(a, first, last, out)
    elif what == 1:
        strip_passed(a, b, first, last, out)
    else:
        strip_added(a, b, first, last, out)


cdef cnp.ndarray elementwise(int what, cnp.ndarray a, cnp.ndarray b):
    """rectified, passed or added, in strips that threads share out."""
    cdef cnp.ndarray out = fresh(shape_of(a), cnp.PyArray_TYPE(a))
    cdef Py_ssize_t strip, size = cnp.PyArray_SIZE(a)
    cdef bint single = is_single(a)
    cdef int threads = threads_for(size)
    for strip in prange(strips(size), nogil=True, num_threads=threads, schedule="static"):
        if single:
            strip_of(what, <const float *>data(a), <const float *>data(b), strip, size, <float *>data(out))
        else:
            strip_of(what, <const double *>data(a), <const double *>data(b), strip, size, <double *>data(out))
    return out


def relu_forward(x):
    cdef cnp.ndarray source = contiguous(x)
    return elementwise(0, source, source)


def relu_backward(dy, y):
    cdef cnp.ndarray d = contiguous(dy)
    return elementwise(1, d, contiguous(y, d, dy.shape))


def add(a, b):
    cdef cnp.ndarray first = contiguous(a)
    return elementwise(2, first, contiguous(b, first, a.shape))


cdef struct Pool:
    Py_ssize_t rows, width, channels, high, wide  # pooled rows of all images, x's width, channels, sides of a block


cdef void row_pooled(const real *x, Pool at, Py_ssize_t r, double *total, real *y) noexcept nogil:
    """Row r of y: the mean of each block. `total` is room for a row of doubles."""
    cdef Py_ssize_t a, v, c, columns = at.width // at.wide, line = at.width * at.channels
    x += r * at.high * line
    y += r * columns * at.channels
    memset(total, 0, columns * at.channels * sizeof(double))
    for a in range(at.high):
        for v in range(at.width):
            for c in range(at.channels):
                total[v // at.wide * at.channels + c] += x[a * line + v * at.channels + c]
    for c in range(columns * at.channels):
        y[c] = <real>(total[c] / (at.high * at.wide))


cdef void row_spread(const real *dy, Pool at, Py_ssize_t r, real *dx) noexcept nogil:
    """What row r of dy sends to its blocks."""
    cdef Py_ssize_t a, v, c, columns = at.width // at.wide, line = at.width * at.channels
    cdef real part = <real>1 / (at.high * at.wide)
    dx += r * at.high * line
    dy += r * columns * at.channels
    for v in range(at.width):
        for c in range(at.channels):
            dx[v * at.channels + c] = dy[v // at.wide * at.channels + c] * part
    for a in range(1, at.high):
        memcpy(dx + a * line, dx, line * sizeof(real))


cdef Pool pool_of(shape, high, wide):
    cdef Pool at
    at.rows, at.width, at.channels, at.high, at.wide = shape[0] * (shape[1] // high), shape[2], shape[3], high, wide
    return at


def avg_pool_forward(x, high, wide):
    cdef Pool at = pool_of(x.shape, high, wide)
    cdef cnp.ndarray source = contiguous(x)
    n, height, width, c = x.shape
    cdef cnp.ndarray y = fresh((n, height // high, width // wide, c), cnp.PyArray_TYPE(source))
    cdef bint single = is_single(source)
    cdef int threads = threads_for(cnp.PyArray_SIZE(source))
    cdef Py_ssize_t r, line = at.width // at.wide * at.channels
    cdef cnp.ndarray room = row(threads * line)
    for r in prange(at.rows, nogil=True, num_threads=threads, schedule="static"):
        if single:
            row_pooled(<const float *>data(source), at, r, numbers(room) + threadid() * line, <float *>data(y))
        else:
            row_pooled(<const double *>data(source), at, r, numbers(room) + threadid() * line, <double *>data(y))
    return y


def avg_pool_backward(dy, high, wide):
    n, rows, columns, c = dy.shape
    shape = (n, rows * high, columns * wide, c)
    cdef Pool at = pool_of(shape, high, wide)
    cdef cnp.ndarray d = contiguous(dy), dx = fresh(shape, cnp.PyArray_TYPE(d))
    cdef bint single = is_single(d)
    cdef int threads = threads_for(cnp.PyArray_SIZE(dx))
    cdef Py_ssize_t r
    for r in prange(at.rows, nogil=True, num_threads=threads, schedule="static"):
        if single:
            row_spread(<const float *>data(d), at, r, <float *>data(dx))
        else:
            row_spread(<const double *>data(d), at, r, <double *>data(dx))
    return dx


cdef void row_padded(
    const real *x, Py_ssize_t r, Py_ssize_t before, Py_ssize_t channels, Py_ssize_t wide, real *y, bint back
) noexcept nogil:
    """Row r of `channels` numbers to the place `before` in a row of `wide`, zeros around it; or, going back, from it."""
    if back:
        memcpy(y + r * channels, x + r * wide + before, channels * sizeof(real))
    else:
        memset(y + r * wide, 0, wide * sizeof(real))
        memcpy(y + r * wide + before, x + r * channels, channels * sizeof(real))


cdef cnp.ndarray padded(cnp.ndarray source, Py_ssize_t before, Py_ssize_t channels, Py_ssize_t wide, bint back):
    cdef cnp.ndarray out = fresh((*shape_of(source)[:-1], channels if back else wide), cnp.PyArray_TYPE(source))
    cdef bint single = is_single(source)
    cdef int threads = threads_for(cnp.PyArray_SIZE(source))
    cdef Py_ssize_t r, rows = math.prod(shape_of(source)[:-1])
    for r in prange(rows, nogil=True, num_threads=threads, schedule="static"):
        if single:
            row_padded(<const float *>data(source), r, before, channels, wide, <float *>data(out), back)
        else:
            row_padded(<const double *>data(source), r, before, channels, wide, <double *>data(out), back)
    return out


def pad_channels_forward(x, before, after):
    cdef cnp.ndarray source = contiguous(x)
    cdef Py_ssize_t channels = source.shape[source.ndim - 1]
    return padded(source, before, channels, before + channels + after, False)


def pad_channels_backward(dy, before, after):
    cdef cnp.ndarray d = contiguous(dy)
    cdef Py_ssize_t wide = d.shape[d.ndim - 1]
    return padded(d, before, wide - <Py_ssize_t>before - <Py_ssize_t>after, wide, True)


# ---- twin of optim.py's update -------------------------------------------------------------------------------------


cdef void update(
    real *w, const real *grad, real *v, Py_ssize_t n, real lr, real momentum, real decay, real scale
) noexcept nogil:
    """g = scale grad + decay w ; v <- momentum v + g ; w <- w - lr v, in one pass (D1)."""
    cdef Py_ssize_t i
    for i in range(n):
        v[i] = momentum * v[i] + (scale * grad[i] + decay * w[i])
        w[i] -= lr * v[i]


cdef void blend(real *old, const real *new, Py_ssize_t n, real weight, real rest) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        old[i] = weight * old[i] + rest * new[i]


def average(old, new, double weight):
    """old <- weight old + (1 - weight) new, in place (A9). False, and nothing done, for arrays of two types or sizes."""
    cdef cnp.ndarray into, of
    cdef int kind
    if not (isinstance(old, cnp.ndarray) and isinstance(new, cnp.ndarray)):
        return False
    into, of = old, new
    kind = cnp.PyArray_TYPE(into)
    if not (
        (kind == cnp.NPY_FLOAT32 or kind == cnp.NPY_FLOAT64) and is_ready(into, kind) and is_ready(of, kind)
        and cnp.PyArray_ISWRITEABLE(into) and shape_of(into) == shape_of(of)
    ):
        return False
    if kind == cnp.NPY_FLOAT32:
        blend(<float *>data(into), <const float *>data(of), cnp.PyArray_SIZE(into), <float>weight, <float>(1 - weight))
    else:
        blend(<double *>data(into), <const double *>data(of), cnp.PyArray_SIZE(into), weight, 1 - weight)
    return True


def sgd_updates(list slots, double lr, double momentum, double scale):
    """Update (w, grad, v, decay) of each slot in place, and return the slots whose arrays are not ones for it: those
    that are not contiguous, of one size and of one type, float32 or float64."""
    cdef cnp.ndarray w, grad, v
    cdef int kind
    cdef Py_ssize_t n
    cdef double decay
    cdef list left = []
    for slot in slots:
        w, grad, v, decay = slot
        kind, n = cnp.PyArray_TYPE(w), cnp.PyArray_SIZE(w)
        if not (
            (kind == cnp.NPY_FLOAT32 or kind == cnp.NPY_FLOAT64)
            and is_ready(w, kind) and is_ready(grad, kind) and is_ready(v, kind)
            and cnp.PyArray_ISWRITEABLE(w) and cnp.PyArray_ISWRITEABLE(v)
            and cnp.PyArray_SIZE(grad) == n and cnp.PyArray_SIZE(v) == n
        ):
            left.append(slot)
        elif kind == cnp.NPY_FLOAT32:
            update(
                <float *>data(w), <const float *>data(grad), <float *>data(v), n, <float>lr, <float>momentum,
                <float>decay, <float>scale
            )
        else:
            update(
                <double *>data(w), <const double *>data(grad), <double *>data(v), n, lr, momentum, decay, scale
            )
    return left


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


cdef Terms affine_terms(const double *centre, const double *scale, const double *shift) noexcept nogil:
    """Those of scale (x - centre) + shift."""
    cdef Terms terms
    memset(&terms, 0, sizeof(terms))
    terms.centre, terms.scale, terms.shift = centre, scale, shift
    return terms


cdef void one_map(const real *draws, const real *weight, Maps at, Py_ssize_t g, real *h, double *planes) noexcept nogil:
    """h = max(z, 0) with z = mu + v^(1/2) n, then u = conv(h, W) behind it, and the moments of u (C5)."""
    cdef real *u = h + at.z.size
    cdef Py_ssize_t i = g * at.z.channels, o = g * at.u.channels
    cdef Terms terms = affine_terms(at.zero + i, at.std + i, at.mean + i)
    terms.rectify = True
    batch_combine(<const real *>NULL, draws + g * at.z.size, at.z, 0, &terms, <const real *>NULL, h, planes)
    image_forward(h, NULL, weight, <const real *>NULL, <const real *>NULL, u, at.conv, u + at.u.size)
    batch_moments(u, at.u, 0, at.of_mean + o, at.of_var + o, planes)


cdef void one_map_backward(
    const real *draws, const real *transposed, Maps at, Py_ssize_t g, real *h, const double *scale,
    const double *shift, real *ddraws, real *dweight, double *dmean, double *along, double *planes
) noexcept nogil:
    """du = dM/P + 2 dV/P (u - M) ; dz = dh where z > 0 ; dmu = sum dz ; along = sum dz n ; dn = v^(1/2) dz (C5)."""
    cdef real *u = h + at.z.size
    cdef real *dz = ddraws + g * at.z.size
    cdef Py_ssize_t i = g * at.z.channels, o = g * at.u.channels
    cdef Terms of_u = affine_terms(at.of_mean + o, scale + o, shift + o)
    cdef Terms plain = affine_terms(at.zero + i, at.one + i, NULL)
    cdef Terms of_draws = affine_terms(at.zero + i, at.std + i, at.zero + i)
    batch_combine(<const real *>NULL, u, at.u, 0, &of_u, <const real *>NULL, u, planes)
    image_backward(h, NULL, transposed, u, dz, dweight, at.conv, u + at.u.size)
    positive(h, dz, at.z.size)
    batch_sums(dz, draws + g * at.z.size, at.z, 0, &plain, dmean + i, along + i, planes)
    batch_combine(<const real *>NULL, dz, at.z, 0, &of_draws, <const real *>NULL, dz, planes)


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
    cdef Py_ssize_t band, size = at.conv.taps
    for band in prange(at.conv.bands, num_threads=at.conv.threads, schedule="static"):
        band_of_maps(
            draws, weight, transposed, at, band, rooms + threadid() * at.room, scale, shift, ddraws,
            dweights + band * size, dmean, along, planes + threadid() * at.planes
        )


cdef Maps maps_of(draws, weight, stride, padding) except *:
    cdef Maps at
    memset(&at, 0, sizeof(at))
    cdef Conv conv = conv_of(draws, weight, stride, padding)
    at.z = layout_of(np.empty((1, conv.height * conv.width, conv.c_in), draws.dtype))
    at.u = layout_of(np.empty((1, conv.rows * conv.columns, conv.c_out), draws.dtype))
    at.z.inner = at.u.inner = 1  # the threads share out maps
    at.room = at.z.size + at.u.size + conv.x_room + conv.dy_room + conv.feed_room
    at.planes = 4 * max(at.z.plane + at.z.channels, at.u.plane + at.u.channels)
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
    cdef cnp.ndarray of_mean = empty(shape), of_var = empty(shape)
    cdef cnp.ndarray rooms = np.empty(at.conv.threads * at.room, source.dtype)
    cdef cnp.ndarray planes = np.empty(at.conv.threads * at.planes)
    cdef cnp.ndarray transposed, scale, shift, dmean, along, ddraws, dweights
    cdef Py_ssize_t tap
    cdef bint single = is_single(source), back = doutput is not None
    at.mean, at.std, at.zero, at.one = numbers(mean), numbers(std), numbers(zero), numbers(one)
    at.of_mean, at.of_var = numbers(of_mean), numbers(of_var)
    if at.conv.c_out % SLACK:
        w = slackened(w)
    if back:
        transposed = np.empty(at.conv.taps + SLACK, source.dtype)
        for tap in range(at.conv.kh * at.conv.kw):
            if single:
                tap_for_dx(<const float *>data(w), at.conv, tap, <float *>data(transposed))
            else:
                tap_for_dx(<const double *>data(w), at.conv, tap, <double *>data(transposed))
        shift, scale = spread(doutput.mean, shape) / at.u.m, 2 * spread(doutput.var, shape) / at.u.m
        dmean, along, ddraws = np.zeros(mean.size), np.zeros(mean.size), np.zeros_like(source)
        dweights = np.zeros((at.conv.bands, at.conv.taps), source.dtype)
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
    if not back:
        return of_mean, of_var
    dweight = empty(weight.shape, cnp.PyArray_TYPE(dweights))
    sum_bands(dweights, at.conv, dweight)
    return dmean, along, std, ddraws, dweight


def sampled(estimate, draws, weight, stride, padding):
    kind = widest((*estimate, draws, weight))
    mean, var = sampling(None, estimate, draws, weight, stride, padding)
    return moments_pair(rounded(mean, kind), rounded(var, kind))


def sampled_backward(doutput, estimate, draws, weight, stride, padding):
    from .transport.activation import SMALLEST_VAR

    kind = widest((*doutput, *estimate, draws, weight))
    dtype, shape = np.float32 if kind == cnp.NPY_FLOAT32 else np.float64, estimate.mean.shape
    dmean, along, std, ddraws, dweight = sampling(doutput, estimate, draws, weight, stride, padding)
    dvar = along / (2 * np.maximum(std.reshape(-1), SMALLEST_VAR**0.5))
    destimate = moments_pair(rounded(dmean.reshape(shape), kind), rounded(dvar.reshape(shape), kind))
    return destimate, ddraws.reshape(draws.shape).astype(dtype, copy=False), dweight.astype(dtype, copy=False)
