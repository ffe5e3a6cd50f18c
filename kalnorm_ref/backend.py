"""Which implementation answers: the NumPy definitions, or their compiled twins of the same name and signature.

Every public computation is written in NumPy, to be read. The four primitives, BN, BRN, KN, the group forms, convolution
and sampling also have a compiled twin in `_core.pyx`, to be fast. `twinned` joins the two: it checks the arguments,
then runs the one that the context asks for. The rest is NumPy in either backend: `checked`.
"""

import contextlib
import contextvars
import functools
import os

import numpy as np

from . import _arguments

# Threads that wait spin for a fraction of a millisecond, then sleep. Waking one takes longer than most kernels here;
# but where other work shares the cores, threads that spin for ever cost ten times the run.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

try:
    from . import _core
except ImportError:  # built without a C compiler; asking for "cython" then raises, see use_backend
    _core = None

INSTRUCTION_SET = "KALNORM_INSTRUCTION_SET"  # environment variable: the kernels to run, for the same bits elsewhere
if _core is not None:
    _core.use_instruction_set(os.environ.get(INSTRUCTION_SET, _core.instruction_sets()[-1]))

BACKENDS = ("numpy", "cython")
_backend = contextvars.ContextVar("kalnorm_ref_backend", default="numpy" if _core is None else "cython")


def get_backend():
    """Name of the backend in use here: "numpy" or "cython"."""
    return _backend.get()


def use_backend(name):
    """Context manager: run the public functions inside it with the backend `name`, "numpy" or "cython".

    Raises: ValueError for another name; ImportError, at the call, for "cython" where the extension is not built.

    >>> import kalnorm_ref as kr
    >>> with kr.use_backend("numpy"):
    ...     kr.get_backend()
    'numpy'
    """
    if name not in BACKENDS:
        raise ValueError(f"backend is {name!r}; expected one of {', '.join(map(repr, BACKENDS))}")
    if name == "cython" and _core is None:
        raise ImportError(
            "the compiled backend of kalnorm_ref is not built; install a C compiler and reinstall, "
            'or continue with use_backend("numpy")'
        )
    return _using(name)


@contextlib.contextmanager
def _using(name):
    token = _backend.set(name)
    try:
        yield
    finally:
        _backend.reset(token)


def available_cores():
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


_num_threads = available_cores()


def set_num_threads(n):
    """Let the compiled kernels use `n` threads (n >= 1). Results have the same bits at every n. Returns nothing."""
    global _num_threads
    _num_threads = _arguments.whole("number of threads", n, 1)


def get_num_threads():
    """Number of threads that the compiled kernels may use; at first the number of available cores."""
    return _num_threads


def instruction_set():
    """Which kernels the compiled backend runs: "portable", "avx2" or "avx512"; None where it is not built.

    The best that the machine has, unless the environment variable KALNORM_INSTRUCTION_SET names another when the
    package is imported. Results have the same bits on every machine that runs the same set with the same libraries.
    """
    return None if _core is None else _core.instruction_set()


def twinned(check, cache=False, own=1):
    """Make a NumPy definition public: check its arguments, then run it or its compiled twin of the same name.

    `check` has the definition's signature and returns `(dtype, arguments)`: the type of the results, and the arguments
    as arrays. The definition itself always computes in float64 (complex128 for complex input); its results are rounded
    to `dtype` here. With `cache=True` the last result is a cache for the backward: it keeps the caller's own x, or the
    first `own` arguments, and the unrounded statistics.
    """

    def decorate(define):
        name = define.__name__
        compiled = getattr(_core, name, None)
        interpreted = checked(check, cache, own)(define)

        @functools.wraps(define)
        def public(*args, **kwargs):
            if _backend.get() == "numpy":
                return interpreted(*args, **kwargs)
            dtype, args = check(*args, **kwargs)
            if dtype is np.complex128:
                _refuse_complex(name, dtype)
            if compiled is None:
                raise ImportError(f"the compiled backend has no {name}: it is older than this source; reinstall")
            return compiled(*args)

        public.check = check
        return public

    return decorate


def runs_compiled(function):
    """Whether the backend in use has a compiled twin of this public function."""
    return _backend.get() == "cython" and hasattr(function, "check")


def compiled(function, how, arguments, *more):
    """Run the compiled twin of a public function in another way, `how` (rectified.py): arguments checked as ever."""
    dtype, arguments = function.check(*arguments)
    _refuse_complex(function.__name__, dtype)
    return getattr(_core, how)(function.__name__, *more, *arguments)


def reusing(buffers):
    """Context manager: the compiled functions inside it make their results in `buffers`, from new_buffers()."""
    return contextlib.nullcontext() if buffers is None else _reusing(buffers)


@contextlib.contextmanager
def _reusing(buffers):
    token = _core.reusing(buffers)
    try:
        yield
    finally:
        _core.not_reusing(token)


def is_deferred(x):
    """Whether x is a rectified result that a compiled normalizer has left to the convolution behind (rectified.py)."""
    return _core is not None and isinstance(x, _core.Deferred)


def convolved(*arguments):
    """The compiled convolution of convolution.convolve."""
    return _core.convolved(*arguments)


def convolved_gradients(*arguments):
    """The compiled gradient of convolution.convolve_gradients."""
    return _core.convolved_gradients(*arguments)


def average(old, new, weight):
    """Run the compiled running.update_average; False, and nothing done, where it is not for these arrays."""
    return _backend.get() == "cython" and _core.average(old, new, weight)


def sgd_updates(slots, *rates):
    """Run the compiled optim.update on (w, grad, v, decay) of each slot; returns those that are left to NumPy."""
    return _core.sgd_updates(slots, *rates) if _backend.get() == "cython" else slots


def new_buffers():
    """Memory that a network uses again and again; None where the compiled backend is not built."""
    return None if _core is None else _core.Buffers()


def checked(check, cache=False, own=1):
    """As twinned, for a definition without a compiled twin: its work is small, or in matrix products."""

    def decorate(define):
        @functools.wraps(define)
        def public(*args, **kwargs):
            dtype, args = check(*args, **kwargs)
            _refuse_complex(define.__name__, dtype)
            wide = tuple([_map(_widen, a) for a in args])
            with np.errstate(all="ignore"):  # NaN and Inf are results here, not accidents
                result = define(*wide)
                if not cache:
                    return _map(lambda a: np.array(a, dtype), result)  # a copy, also of what is an argument
                *outputs, kept = result
                kept = _map(lambda a: next((args[i] for i in range(own) if a is wide[i]), a), kept)
                return *(_map(lambda a: np.asarray(a, dtype), out) for out in outputs), kept

        return public

    return decorate


def _refuse_complex(name, dtype):
    """TypeError for complex data where the compiled backend is in use."""
    if dtype == np.complex128 and get_backend() != "numpy":
        raise TypeError(f'{name} got complex data, which only the NumPy backend takes: use_backend("numpy")')


def _widen(a):
    return a.astype(np.float64) if a.dtype.type is np.float32 else a


def _map(function, value):
    """Apply `function` to every array in nested tuples; None and Python values stay."""
    if isinstance(value, tuple):
        return tuple.__new__(type(value), [_map(function, item) for item in value])
    if type(value) is np.ndarray or isinstance(value, np.ndarray | np.generic):
        return function(value)
    return value
