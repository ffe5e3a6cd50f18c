"""Arrays on their way to a target and back: storage types, strides, and what other libraries return."""

import numpy as np

from .case import MAPS, UNITS, channel_axis

try:
    from ml_dtypes import bfloat16  # NumPy's only bfloat16; without it a target is given float32 with the same values
except ImportError:
    bfloat16 = None


def storage(case, name):
    """Name of the type in which a tensor of a case is stored: maps in the case's, the rest at least in float32."""
    if name in MAPS or case.dtype in ("float64", "float32"):
        return case.dtype
    return "float32"


def stored(a, dtype):
    """An array in a storage type, by name; it must be representable."""
    if dtype == "bfloat16":
        return np.asarray(a, np.float32 if bfloat16 is None else bfloat16)
    return np.array(a, dtype)


def given(case, name, a):
    """A fresh array of a case as a target receives it, with the strides that the case asks for."""
    a = stored(a, storage(case, name))
    if name not in MAPS or case.view is None:
        return a
    if case.view == "reversed":
        return np.ascontiguousarray(a[::-1])[::-1]
    axis = channel_axis(case.layout)
    room = np.full([n + 3 if i == axis else n for i, n in enumerate(a.shape)], np.nan, a.dtype)
    view = room[tuple(slice(0, n) for n in a.shape)]
    view[...] = a
    return view


def returned(value):
    """What a target returned, as float64 values and the name of the type that it had.

    Takes NumPy arrays and numbers, PyTorch tensors on any device, and whatever has __dlpack__ or __array__.
    """
    if hasattr(value, "detach"):  # PyTorch: DLPack wants no gradient, and NumPy no bfloat16
        value = value.detach()
        name = str(value.dtype).removeprefix("torch.")
        return np.asarray(value.double().cpu().numpy(), np.float64), name
    if hasattr(value, "get") and type(value).__module__.startswith("cupy"):
        value = value.get()
    elif not isinstance(value, np.ndarray | np.generic | float | int | list) and hasattr(value, "__dlpack__"):
        try:
            value = np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError):  # another device, or a type that NumPy lacks
            value = np.asarray(value)
    a = np.asarray(value)
    name = a.dtype.name
    if name not in UNITS:
        raise TypeError(f"has type {name}; expected one of {', '.join(UNITS)}")
    return a.astype(np.float64), name
