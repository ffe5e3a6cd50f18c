"""Holds a hand-written backward against its forward alone: by the complex step, and by central differences.

    complex step        dL/da = Im L(a + i h) / h ,  h = 1e-30: nothing is subtracted, so nothing cancels        (G1)
    central difference  dL/da = ( L(a + h) - L(a - h) ) / 2h: independent of complex arithmetic, good to about 1e-9 (G2)
    error               max |t - t'| / max |t'| for each tensor t'                                               (G3)

L = sum(upstream * function(*arguments)). Draw the upstream gradients at random: ones make the gradient of batch
normalization vanish identically, and whatever is compared with nothing passes.
"""

import copy

import numpy as np

from .backend import use_backend


def complex_step(function, arguments, index, upstream, step=1e-30):
    """Gradient of sum(upstream * function(*arguments)) to one argument, element by element, by the complex step.

    Equations: (G1), in the NumPy backend whatever the context says.
    Shapes: arguments[index] is a number, an array or nested tuples of arrays (Moments), in float64; upstream has the
        structure of the function's result, with None for every part that does not count, such as a cache.
    Returns: the gradient, with the structure and the shapes of arguments[index].
    Raises: ValueError if upstream does not fit the result.
    Departs: nothing.
    Reference: Squire and Trapp 1998, SIAM Review 40(1); the function must be analytic: no abs, maximum or conjugate.

    >>> import numpy as np, kalnorm_ref as kr
    >>> from kalnorm_ref.gradcheck import complex_step
    >>> complex_step(kr.observe, (np.array([[1.0], [3.0]]),), 0, kr.Moments(np.array([0.0]), np.array([1.0]))).tolist()
    [[-1.0], [1.0]]
    """

    def derivative(shifted):
        with use_backend("numpy"):
            return _project(function(*shifted(1j * step)), upstream).imag / step

    return _by_element(derivative, arguments, index, np.complex128)


def central_difference(function, arguments, index, upstream, step=1e-5):
    """The same gradient by central differences, in the backend of the context.

    Equations: (G2), with h = step * max |argument| (step alone for an argument of zeros).
    Shapes, Returns, Raises: as complex_step. An argument at the end of its range (gain 1, variance 0) has no difference
        to both sides: the function itself then raises.
    """
    size = max((float(np.max(np.abs(leaf), initial=0)) for leaf in leaves(arguments[index])), default=0.0) or 1.0

    def derivative(shifted):
        above, below = function(*shifted(step * size)), function(*shifted(-step * size))
        return _project(above, upstream, below) / (2 * step * size)

    return _by_element(derivative, arguments, index, np.float64)


def check(function, arguments, upstream, gradients, tolerance, method=complex_step):
    """Compare the gradients that a backward returned with a numerical derivative of its forward.

    Shapes: gradients[i] belongs to arguments[i], and is None exactly where the argument is None. Arguments beyond the
        last gradient are constants (eps).
    Returns: the largest error (G3).
    Raises: AssertionError naming the argument whose error is not within `tolerance`; ValueError for a gradient without
        its argument's shape, or one that is missing.
    """
    worst = 0.0
    for index, gradient in enumerate(gradients):
        if (gradient is None) != (arguments[index] is None):
            raise ValueError(f"argument {index} and its gradient must both be None, or neither")
        if gradient is not None:
            error = max_error(gradient, method(function, arguments, index, upstream))
            if not error <= tolerance:  # so that NaN fails
                raise AssertionError(f"gradient of argument {index} is off by {error:.2g}; tolerance {tolerance:g}")
            worst = max(worst, error)
    return worst


def max_error(value, expected):
    """max |value - expected| / max |expected|, the largest over the tensors of nested tuples (G3).

    Zero against zero is 0; anything else against zeros is inf; NaN anywhere is NaN. Raises ValueError where the
    structures or shapes differ.
    """
    pairs = list(zip(leaves(value), leaves(expected), strict=True))
    for a, b in pairs:
        if a.shape != b.shape:
            raise ValueError(f"value has shape {a.shape}; expected {b.shape}")
    return float(max((_tensor_error(a, b) for a, b in pairs), key=lambda e: (np.isnan(e), e), default=0.0))


def _tensor_error(a, b):
    difference, scale = np.max(np.abs(a - b), initial=0), np.max(np.abs(b), initial=0)
    if difference == 0:
        return 0.0
    return difference / scale if scale else np.nan if np.isnan(difference) else np.inf


def check_network(net, x, labels, seed=0, step=1e-30, floor=1e-6):
    """Check the whole backward of a network: one random direction through each parameter tensor, and one through x.

    Equations: <direction, gradient> from net.backward against the complex step (G1) of the loss along the direction.
    Shapes: x and labels as net.forward and cross_entropy take them; float64, or the float32 gradients set the accuracy.
    Returns: dict from "x" and each path of net.params to |a - b| / max(|a|, |b|, floor). The floor is for gradients
        that are zero in exact arithmetic, such as a bias before batch normalization, where a and b are rounding alone.
    Departs: nothing here changes the net; everything runs on copies, so that running averages, the step of a schedule
        and random generators are the same in each. Corrections of batch renormalization are constants to both sides.
    """
    from . import cross_entropy  # here, so that this module can be used while the layers are under test

    rng = np.random.default_rng(seed)
    used = copy.deepcopy(net)
    _, dlogits = cross_entropy(used.forward(x, training=True), labels)
    gradients = {"x": used.backward(dlogits)} | {path: used.grads[path] for path in used.params}

    def derivative(path, direction):
        shifted = copy.deepcopy(net).astype(np.complex128)
        z = np.array(x, np.complex128)
        (z if path == "x" else shifted.params[path])[...] += 1j * step * direction
        with use_backend("numpy"):
            loss, _ = cross_entropy(shifted.forward(z, training=True), labels)
        return loss.imag / step

    errors = {}
    for path, gradient in gradients.items():
        direction = rng.standard_normal(np.shape(gradient))
        a, b = float(np.sum(direction * gradient)), float(derivative(path, direction))
        errors[path] = abs(a - b) / max(abs(a), abs(b), floor)
    return errors


def leaves(value):
    """The arrays of nested tuples, in order, as a list; None has none."""
    if value is None:
        return []
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [np.asarray(value)]


def _rebuild(value, arrays):
    """`value` with its leaves taken from the iterator `arrays`."""
    if value is None:
        return None
    if isinstance(value, tuple):
        items = [_rebuild(item, arrays) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return next(arrays)


def _by_element(derivative, arguments, index, dtype):
    """derivative(shifted) for each element, where shifted(h) is `arguments` with that element moved by h."""
    argument = arguments[index]
    gradients = [np.zeros(leaf.shape) for leaf in leaves(argument)]
    for position, gradient in enumerate(gradients):
        for element in np.ndindex(gradient.shape):

            def shifted(h, position=position, element=element):
                moved = [np.array(leaf, dtype) for leaf in leaves(argument)]
                moved[position][element] += h
                return (*arguments[:index], _rebuild(argument, iter(moved)), *arguments[index + 1 :])

            gradient[element] = derivative(shifted)
    return _rebuild(argument, iter(gradients))


def _project(result, upstream, minus=None):
    """sum(upstream * (result - minus)) over all parts of the result that have an upstream gradient."""
    if upstream is None:
        return np.float64(0)
    if isinstance(upstream, tuple):
        minus = (None,) * len(result) if minus is None else minus
        if not isinstance(result, tuple) or len(result) != len(upstream):
            raise ValueError("upstream and the result of the function differ in structure")
        return sum(_project(r, u, s) for r, u, s in zip(result, upstream, minus, strict=True))
    if np.shape(result) != np.shape(upstream):
        raise ValueError(f"upstream has shape {np.shape(upstream)}; expected {np.shape(result)}, that of the result")
    return np.sum(upstream * (result if minus is None else result - minus))
