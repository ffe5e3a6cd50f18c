"""Parts of the argument checks: every message names the argument, what it got and what it needs.

Nothing is computed here, and NaN passes: only what can be said without doubt is refused.
"""

import numbers
import operator

import numpy as np

FLOATING = (np.float32, np.float64, np.complex128)
SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


def array(name, value):
    """`value` as an array of a type that the package computes with; TypeError for any other."""
    if type(value) is np.ndarray and (value.dtype is SINGLE or value.dtype is DOUBLE):
        return value
    if value is None or isinstance(value, str | np.ma.MaskedArray):
        raise TypeError(f"{name} is {'None' if value is None else type(value).__name__}; expected an array")
    try:
        a = np.asarray(value)
    except ValueError:
        raise TypeError(f"{name} is a ragged {type(value).__name__}; expected an array") from None
    if a.dtype.type not in FLOATING:
        convert = f" (convert with {name}.astype(np.float32))" if a.dtype.kind in "biu" or a.dtype == np.float16 else ""
        expected = "float32, float64, or complex128 with the NumPy backend"
        raise TypeError(f"{name} has type {a.dtype}; expected {expected}{convert}")
    return a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("="))


def common_type(*values):
    """Type of the results: that of the first array, or complex128 if any array is complex. None and tuples allowed."""
    first = None
    for value in values:
        for leaf in value if isinstance(value, tuple) else (value,):
            if leaf is not None:
                dtype = leaf.dtype.type
                if dtype is np.complex128:
                    return dtype
                first = first or dtype
    return first


def widest_type(*values):
    """Type of the results where no argument leads: the widest of the arrays'. None and nested tuples allowed."""
    leaves = [
        leaf for value in values for leaf in (value if isinstance(value, tuple) else (value,)) if leaf is not None
    ]
    first = leaves[0].dtype
    if all([leaf.dtype is first for leaf in leaves]):
        return first.type
    return np.result_type(*leaves).type


def cast(dtype, value):
    """Arrays, None or tuples of arrays, in `dtype`."""
    if value is None:
        return None
    if isinstance(value, tuple):
        return type(value)(*(cast(dtype, item) for item in value))
    return np.asarray(value, dtype)


def samples(name, x):
    """x (..., m, C) with at least one sample."""
    x = array(name, x)
    if x.ndim < 2:
        raise ValueError(f"{name} has shape {x.shape}; expected (..., m, C): samples, then channels last")
    if x.shape[-2] == 0:
        raise ValueError(f"{name} has shape {x.shape}, no sample (m = 0); expected (..., m, C) with m >= 1")
    return x


def same_shape(name, value, shape, what):
    """An array of exactly `shape`."""
    value = array(name, value)
    if value.shape != tuple(shape):
        raise ValueError(f"{name} has shape {value.shape}; expected {tuple(shape)}, the shape of {what}")
    return value


def channels(name, value, c):
    """One value per channel, or None."""
    if value is None:
        return None
    value = array(name, value)
    if value.shape != (c,):
        raise ValueError(f"{name} has shape {value.shape}; expected ({c},), one value per channel, or None")
    return value


def statistic(name, value, shape):
    """A statistic that broadcasts to `shape` = (..., C) without enlarging it."""
    value = array(name, value)
    if value.ndim == 0 or value.shape[-1] != shape[-1] or not _broadcasts(value.shape, shape):
        shared = f" or ({shape[-1]},)" if len(shape) > 1 else ""
        raise ValueError(f"{name} has shape {value.shape}; expected {shape}{shared}")
    return value


def _broadcasts(small, large):
    return small == large or (
        len(small) <= len(large)
        and all(n in (1, k) for n, k in zip(small, large[len(large) - len(small) :], strict=True))
    )


def _as_moments(mean, var):
    global _moments
    if _moments is None:
        from .moments import Moments as _moments  # here, because moments imports this module
    return _moments(mean, var)


_moments = None


def moments_pair(name, value, shape=None):
    """A pair (mean, var) of equal shapes with var >= 0; with `shape`, broadcastable to it."""
    pair = gradient_pair(name, value, shape)
    within(f"{name}.var", pair.var, 0, np.inf, "a variance, >= 0")
    return pair


def _is_pair(value, shape):
    """Whether value is Moments of two arrays of `shape`, None for any: the usual case, with nothing to convert."""
    if type(value) is not _moments:
        return False
    mean, var = value
    return (
        type(mean) is type(var) is np.ndarray
        and mean.shape == var.shape
        and (mean.shape == shape or (shape is None and mean.ndim > 0))
        and (mean.dtype is SINGLE or mean.dtype is DOUBLE)
        and (var.dtype is SINGLE or var.dtype is DOUBLE)
    )


def gradient_pair(name, value, shape=None):
    """A pair (dmean, dvar) of equal shapes; with `shape`, broadcastable to it."""
    if _is_pair(value, shape):
        return value
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(f"{name} is {type(value).__name__}; expected Moments(mean, var)")
    if shape is None:
        mean, var = array(f"{name}.mean", value[0]), array(f"{name}.var", value[1])
        if mean.ndim == 0:
            raise ValueError(f"{name}.mean has shape (); expected (..., C), a value per channel")
    else:
        mean, var = statistic(f"{name}.mean", value[0], shape), statistic(f"{name}.var", value[1], shape)
    if mean.shape != var.shape:
        raise ValueError(f"{name}.var has shape {var.shape}; expected {mean.shape}, the shape of {name}.mean")
    return _as_moments(mean, var)


def exact_pair(name, value, shape, what):
    """A pair (dmean, dvar), each of exactly `shape`."""
    if _is_pair(value, shape):
        return value
    value = gradient_pair(name, value)
    for field, a in zip(("mean", "var"), value, strict=True):
        same_shape(f"{name}.{field}", a, shape, what)
    return _as_moments(*value)


def number(name, value, low, high=np.inf, expected=None):
    """A real Python or NumPy number within [low, high]."""
    if type(value) is float and low <= value <= high:
        return value
    if not isinstance(value, numbers.Real) or isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {value!r}; expected a real number")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value:g}; expected {expected or f'at least {low:g}'}")
    return float(value)


def scalar_or_channels(name, value, c, low, high, expected):
    """A number or one value per channel, every one within [low, high]; numbers stay float64."""
    if type(value) is float and low <= value <= high:
        return np.asarray(value)
    value = scalar_or_array(name, value)
    if value.shape not in ((), (c,)):
        raise ValueError(f"{name} has shape {value.shape}; expected a scalar or ({c},), one value per channel")
    within(name, value, low, high, expected)
    return value


def scalar_or_array(name, value):
    """An array, or a number as an array of no axes in float64 (complex128)."""
    if isinstance(value, bool | np.bool_ | str):
        raise TypeError(f"{name} is {value!r}; expected a number")
    if isinstance(value, numbers.Number) and not isinstance(value, np.floating | np.complexfloating):
        return np.asarray(value, np.complex128 if isinstance(value, complex) else np.float64)
    return array(name, value)


def within(name, value, low, high, expected):
    """ValueError if any element lies outside [low, high]; NaN does not."""
    if value.dtype.kind == "f" and value.size and value.item(value.argmin()) >= low:
        low_enough = high == np.inf or value.item(value.argmax()) <= high
        if low_enough:  # the usual case, and no NaN
            return
    outside = value.real < low
    if high < np.inf:
        outside |= value.real > high
    if outside.any():
        first = repr(value.real[outside].item(0)).removesuffix(".0")
        raise ValueError(f"{name} has the value {first}; expected {expected}")


def gains(value, c):
    return scalar_or_channels("gain", value, c, 0, 1, "values in [0, 1]")


def whole(name, value, low):
    """An integer of at least `low`."""
    if type(value) is int and value >= low:
        return value
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} is {value!r}; expected an integer")
    value = operator.index(value)
    if value < low:
        raise ValueError(f"{name} is {value}; expected at least {low}")
    return value


def pads(padding):
    """p or ((top, bottom), (left, right)) as the latter."""
    if type(padding) is tuple and [type(pair) for pair in padding] == [tuple, tuple]:
        flat = padding[0] + padding[1]
        if len(padding[0]) == 2 and [type(p) for p in flat] == [int] * 4 and min(flat) >= 0:
            return padding  # as layers hold it
    if type(padding) is int or np.ndim(padding) == 0:
        p = whole("padding", padding, 0)
        return (p, p), (p, p)
    if np.shape(padding) != (2, 2):
        raise ValueError(f"padding is {padding!r}; expected an integer or ((top, bottom), (left, right))")
    return tuple(tuple(whole("padding", p, 0) for p in pair) for pair in padding)


def output_size(size, kernel, stride, padding):
    """Height and width after a convolution."""
    (height, width), (high, wide), ((top, bottom), (left, right)) = size, kernel, padding
    height, width = height + top + bottom, width + left + right
    if height < high or width < wide:
        raise ValueError(f"kernel is {tuple(kernel)}; expected at most the padded image, {(height, width)}")
    return (height - high) // stride + 1, (width - wide) // stride + 1
