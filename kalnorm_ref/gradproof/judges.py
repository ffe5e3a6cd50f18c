"""Four judges of one case: each finds the gradients of a pair without the package's backward.

    complex_step         the package's forward, moved by i h                                     (G1)
    central_difference   the package's forward, moved by h to both sides                         (G2)
    mpmath               the loops' forward in 50 digits, moved by 1e-17 to both sides           (G4)
    loops                the loops' backward on Python floats: a second derivation               (G5)

The first two ask whether a backward belongs to its own forward, the last two whether both belong to the equations.
Gradients are lists, one for each argument that `places` names; results are tuples of all outputs but the cache.
"""

import numpy as np

from .. import gradcheck
from ..backend import use_backend

DIGITS = 50


def results(case):
    """What the package's forward returns, without its cache."""
    return _forward(case.pair, case.arguments)


def _forward(pair, arguments):
    result = getattr(pair.owner, pair.forward)(*arguments)
    if pair.kind == "cache":
        return result[:-1]
    return result[:1] if pair.kind == "loss" else _as_tuple(result)


def gradients(case):
    """What the package's backward returns."""
    pair, arguments, given = case.pair, case.arguments, case.given
    forward = getattr(pair.owner, pair.forward)
    match pair.kind:
        case "loss":
            return _chosen(case, given[0] * forward(*arguments)[1])
        case "cache":
            after = forward(*arguments)[-1:]
        case "result":
            after = (*arguments, forward(*arguments))
        case "result alone":
            after = (forward(*arguments),)
        case "options":
            after = [a for i, a in enumerate(arguments) if i not in dict(pair.differentiable)]
        case "arguments":
            after = arguments
    return _chosen(case, getattr(pair.owner, pair.backward)(*given, *after))


def places(case):
    """The arguments that have a gradient in this case: (index, name)."""
    return [(i, name) for i, name in case.pair.differentiable if case.arguments[i] is not None]


def complex_step(case):
    return _of_the_forward(case, gradcheck.complex_step)


def central_difference(case):
    return _of_the_forward(case, gradcheck.central_difference)


def _of_the_forward(case, method):
    def function(*arguments):
        return _forward(case.pair, arguments)

    with use_backend("numpy"):
        upstream = (*case.given, *[None] * (len(results(case)) - len(case.given)))
        return [method(function, case.arguments, i, upstream) for i, _ in places(case)]


def loops(case, mistake=None):
    """With a `mistake`, gradients that every judge must reject."""
    return _chosen(case, case.pair.loop_backward(*case.given, *case.arguments, mistake=mistake))


def loops_results(case):
    return _as_tuple(case.pair.loop(*case.arguments))


def fifty_digits(case):
    """Gradients and results, rounded from 50 digits to float64. ImportError without mpmath, which is optional."""
    import mpmath

    context = mpmath.mp.clone()
    context.dps = DIGITS
    step = context.mpf(10) ** -(DIGITS // 3 + 1)
    arguments, given = (_exact(value, context) for value in (case.arguments, case.given))
    given = gradcheck.leaves(given)

    def loss(index, moved):
        found = gradcheck.leaves(case.pair.loop(*arguments[:index], moved, *arguments[index + 1 :]))
        parts = zip(given, found, strict=False)  # what comes from above belongs to the first results
        return sum(g.item(e) * r.item(e) for g, r in parts for e in np.ndindex(g.shape))

    def gradient(index):
        leaves = gradcheck.leaves(arguments[index])
        found = [np.zeros(leaf.shape) for leaf in leaves]
        for position, leaf in enumerate(leaves):
            for element in np.ndindex(leaf.shape):
                above, below = (loss(index, _moved(arguments[index], position, element, h)) for h in (step, -step))
                found[position][element] = (above - below) / (2 * step)
        return tuple(found)

    rounded = tuple(leaf.astype(np.float64) for leaf in gradcheck.leaves(case.pair.loop(*arguments)))
    return [gradient(index) for index, _ in places(case)], rounded


def _exact(value, context):
    """`value` with every float in it as a number of the context; arrays of them hold objects."""
    if isinstance(value, tuple):
        return tuple(_exact(item, context) for item in value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        exact = np.empty(value.shape, object)
        for element in np.ndindex(value.shape):
            exact[element] = context.mpf(value.item(element))
        return exact
    return context.mpf(value) if isinstance(value, float) else value


def _moved(value, position, element, step):
    """`value`, a number, an array or a tuple of arrays, with one element of its leaf `position` moved by step."""
    if isinstance(value, tuple):
        return tuple(_moved(v, 0, element, step) if i == position else v for i, v in enumerate(value))
    moved = np.array(value)
    moved[element] += step
    return moved


def _as_tuple(result):
    """Moments, an array or a number alone become a tuple of one."""
    return result if type(result) is tuple else (result,)


def _chosen(case, found):
    """The gradients of `places` from those of all arguments, which are None exactly where the argument is."""
    found, pair = _as_tuple(found), case.pair
    if len(found) != len(pair.differentiable):
        raise ValueError(f"{pair.backward} returned {len(found)} gradients; expected {len(pair.differentiable)}")
    for gradient, (i, name) in zip(found, pair.differentiable, strict=True):
        if (gradient is None) != (case.arguments[i] is None):
            raise ValueError(f"{pair.backward}: {name} and its gradient must both be None, or neither")
    return [gradient for gradient in found if gradient is not None]
