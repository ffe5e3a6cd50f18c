"""How a number, and an array, is written: in decimals, and as a fraction where that is exact enough to mean it."""

from fractions import Fraction

import numpy as np

LARGEST_DENOMINATOR = 1024
MANY = 128  # an array of more elements is summarized
ROWS, COLUMNS = 8, 8  # of a large matrix, as many are shown
MATRICES = ("u", "w", "both")  # other names of (C, C) matrices in full_covariance.py
ROWS_OF_GROUPS = ("batch_norm_forward", "batch_norm_backward", "kalman_norm_forward", "kalman_norm_backward")


def decimal(value):
    """A number to six digits; without trailing zeros; a signed zero is a zero."""
    if isinstance(value, complex | np.complexfloating):
        return f"{decimal(value.real)}{'-' if value.imag < 0 else '+'}{decimal(abs(value.imag))}i"
    if isinstance(value, np.floating | float):
        return f"{value:.6g}".replace("-0", "0") if value == 0 else f"{value:.6g}"
    return str(value)


def fraction(value):
    """A number as "7/4", "3"; None where no fraction of a denominator up to 1024 is within rounding of it."""
    if isinstance(value, complex | np.complexfloating) or not np.isfinite(value):
        return None
    near = Fraction(float(value)).limit_denominator(LARGEST_DENOMINATOR)
    return str(near) if abs(float(near) - value) <= 1e-14 * max(1, abs(value)) else None


def number(value, fractions=False):
    """A number as text: "1.75", or with `fractions` "7/4 = 1.75"."""
    exact = fraction(value) if fractions else None
    return decimal(value) if exact is None or "/" not in exact else f"{exact} = {decimal(value)}"


def summary(array):
    """One line on an array: how many values, from where to where, their mean."""
    if array.dtype.kind == "c":
        return f"{array.size} complex values"
    finite = array[np.isfinite(array)]
    odd = "" if finite.size == array.size else f", {array.size - finite.size} not finite"
    if not finite.size:
        return f"{array.size} values{odd}"
    low, high, mean = (decimal(f(finite)) for f in (np.min, np.max, np.mean))
    return f"{array.size} values from {low} to {high}, mean {mean}{odd}"


def tables(array):
    """An array as matrices: (index of the axes before, matrix, whether more was left out); of a large one a corner."""
    matrices = array.reshape((1,) * (2 - array.ndim) + array.shape)
    if array.size > MANY:
        first = (0,) * (matrices.ndim - 2)
        yield first, matrices[first][:ROWS, :COLUMNS], True
        return
    for index in np.ndindex(matrices.shape[:-2]):
        yield index, matrices[index], False


def axes(name, path, array):
    """What the axes of an array are: words for its rows, its columns and the axes before; "" where there are none."""
    group = next((i for i, f in enumerate(path) if f.startswith("group_")), None)
    inner = group is not None and not set(path[group + 1 :]).isdisjoint(ROWS_OF_GROUPS)
    name = name.removeprefix("d")
    if name == "transition":
        words = ("to channel", "from channel", "batch")
    elif name == "weight":
        words = ("from channel", "to channel", "tap")
    elif "conv2d" in path or "conv2d_backward" in path:
        words = ("tap", "tap" if name in ("f", "g") else "channel", "")
    elif "sampled" in path or "sampled_backward" in path:
        words = ("column", "channel", "row") if array.ndim == 3 else ("position", "channel", "map and row")
    elif "cov" in name or name in MATRICES:
        words = ("channel", "channel", "batch")
    elif group is None and not {"run_gn", "run_gkn"} & {*path}:
        words = ("sample", "channel", "batch")
    elif inner or (name in ("rows", "x_hat") and array.ndim > 2):
        words = ("value", "group", "sample") if array.ndim > 2 else ("sample", "group", "")
    else:
        words = ("position", "channel", "sample") if array.ndim > 2 else ("sample", "group", "")
        words = ("", "channel", "") if array.ndim < 2 else words
    return words if array.ndim > 1 else ("", words[1], "")


def listed(array):
    """Nested lists of Python numbers for JSON; what is not finite is None, complex numbers are [real, imaginary]."""
    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag], -1)
    listed = array.astype(object)
    listed[~np.isfinite(array)] = None
    return listed.tolist()
