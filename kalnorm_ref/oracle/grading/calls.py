"""Calls a student's function on the data sets, and says in words what is wrong with the form of its answer."""

import inspect
import linecache
import traceback
import types
import warnings
from typing import NamedTuple

import numpy as np


class Answer(NamedTuple):
    """What came back for one data set."""

    data: object  # the DataSet
    results: dict | None  # float64 arrays by name, None where the answer has the wrong form
    fault: str | None  # in words
    written: bool = True
    dtype: str = "float64"


def ask(function, exercise):
    """One Answer for each data set."""
    return [_ask(function, exercise, data) for data in exercise.sets]


def _ask(function, exercise, data):
    given = copied(data.arguments)
    try:
        returned = call(function, given)
    except NotImplementedError:
        return Answer(data, None, None, written=False)
    except Exception as error:
        return Answer(data, None, raised(function, error, data))
    if returned is None or returned is Ellipsis:
        return Answer(data, None, None, written=False)
    fault = _form(returned, exercise, data)
    if fault:
        return Answer(data, None, fault)
    parts = _parts(returned, exercise)
    dtype = "float32" if all(np.asarray(a).dtype == np.float32 for a in parts) else "float64"
    results = {o.name: np.array(a, np.float64) for o, a in zip(exercise.outputs, parts, strict=True)}
    fault = _changed_arguments(given, data) or _changing(function, data, results, exercise)
    return Answer(data, results, fault, dtype=dtype)


def call(function, arguments):
    """Call it, without the warnings of NumPy: what they warn of is judged."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return function(*arguments.values())


def copes(function, edge):
    """Whether it answers a question at the edge, to six digits."""
    try:
        found = call(function, copied(edge.arguments))
        return all(
            np.shape(a) == np.shape(want) and np.allclose(a, want, rtol=1e-6, atol=0)
            for a, want in zip(found, edge.results, strict=True)
        )
    except Exception:
        return False


def copied(arguments):
    """Arguments that may be spoilt."""
    return {name: np.array(a) if isinstance(a, np.ndarray) else a for name, a in arguments.items()}


def raised(function, error, data):
    """An exception in words: its type, message and line."""
    file = getattr(getattr(inspect.unwrap(function), "__code__", None), "co_filename", None)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file]
    text = f"The function raised {type(error).__name__}: {error}, on {quoted(data)}"
    if not own:
        return text + "."
    line = linecache.getline(own[-1].filename, own[-1].lineno).strip()
    return text + f", in line {own[-1].lineno}" + (f": {line}" if line else ".")


def quoted(data):
    return f"the data set “{data.name}”"


def signature_fault(function, exercise):
    """What is wrong with the parameters, or None."""
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    want = ", ".join(exercise.parameters)
    try:
        found.bind(*exercise.parameters)
    except TypeError:
        return f"The function takes ({', '.join(found.parameters)}); it is called with ({want})."
    names = tuple(found.parameters)
    if names != exercise.parameters and set(names) == set(exercise.parameters):
        return f"The parameters are in another order: ({', '.join(names)}); the function is called with ({want})."
    return None


def outside_numbers(function):
    """Names and values of numbers and arrays that the function reads from outside."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return {}
    there = inspect.unwrap(function).__globals__
    names = [name for one in _codes(code) for name in one.co_names if name in there]
    return {name: there[name] for name in names if isinstance(there[name], int | float | np.ndarray | np.generic)}


def _codes(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _parts(returned, exercise):
    """The results as a sequence."""
    if len(exercise.outputs) == 1 and not isinstance(returned, tuple | list):
        return (returned,)
    return returned


def _form(returned, exercise, data):
    """What is wrong with the number, the types or the shapes of the results."""
    names = [o.name for o in exercise.outputs]
    want = names[0] if len(names) == 1 else f"{len(names)} results: {', '.join(names)}"
    if len(names) > 1 and not isinstance(returned, tuple | list):
        what = f"one array of shape {returned.shape}" if isinstance(returned, np.ndarray) else f"a {_kind(returned)}"
        return f"The function returns {what}; expected {want}."
    parts = _parts(returned, exercise)
    if len(names) == 1 and isinstance(returned, list):
        return f"{names[0]} is a list; expected a NumPy array."
    if len(parts) != len(names):
        return f"The function returns {len(parts)} results; expected {want}."
    for output, a in zip(exercise.outputs, parts, strict=True):
        fault = _part(output, a, data)
        if fault:
            return fault
    return None


def _part(output, a, data):
    shape = np.shape(data.arguments[output.like])
    if a is None or a is Ellipsis:
        return f"{output.name} is {a}: it is not computed yet."
    if not isinstance(a, np.ndarray | np.generic) and not (isinstance(a, float | int) and shape == ()):
        return f"{output.name} is a {_kind(a)}; expected a NumPy array of shape {shape}, on {quoted(data)}."
    a = np.asarray(a)
    if a.dtype.kind in "iub":
        return f"{output.name} has the type {a.dtype}: whole numbers, which cut off what comes after the point."
    if a.dtype.kind != "f":
        return f"{output.name} has the type {a.dtype}; expected real floating-point numbers."
    if a.dtype.itemsize < 4:
        return f"{output.name} has the type {a.dtype}, which has too few digits; expected float64."
    if a.shape != shape:
        hint = ""
        if a.T.shape == shape:
            hint = " It is transposed."
        elif a.size == np.prod(shape):
            hint = " The number of elements is right: keepdims, or an axis of length 1, is too many or missing."
        elif a.shape == np.shape(data.arguments.get("x")):
            hint = " A sum over the samples is missing."
        elif np.ndim(a) == 0:
            hint = " It was summed over all axes: the axis is missing."
        elif "x" in data.arguments and a.shape == data.arguments["x"].shape[:1]:
            hint = " The sum runs over the wrong axis."
        return f"{output.name} has shape {a.shape}; expected {shape}, on {quoted(data)}.{hint}"
    return None


def _kind(a):
    return type(a).__name__


def _changed_arguments(given, data):
    for name, a in given.items():
        if isinstance(a, np.ndarray) and not np.array_equal(a, data.arguments[name]):
            return f"The function changes its argument {name} in place. Its caller still needs it."
    return None


def _changing(function, data, results, exercise):
    """Whether a second call returns something else."""
    try:
        again = _parts(call(function, copied(data.arguments)), exercise)
        same = all(
            np.allclose(np.asarray(a, float), results[o.name], rtol=1e-6, atol=0, equal_nan=True)
            for o, a in zip(exercise.outputs, again, strict=True)
        )
    except Exception as error:
        return f"A second call with the same arguments raised {type(error).__name__}: {error}"
    if same:
        return None
    return "A second call with the same arguments returns something else: the result may depend on nothing but them."
