"""How far an honest implementation may be from the truth: the error law, tensor by tensor.

    mean           C u rms(x)
    var            C u (var + rms(x) var^(1/2)) + (C u rms(x))^2 :  two passes, Welford or chunks; the middle term is
                   Welford's, who rounds his running mean; E[x^2] - E[x]^2 needs C u (var + mean^2)
    everything     what these and the rounding of each step come to, propagated through the steps (bounds.py)
    stored         + half an ulp of the storage type

u is the unit roundoff of the type that computes; C = 8 for sums like trees, 8 + 2 m^(1/2) for serial ones, which holds
while roundings go both ways: a serial sum of one repeated value, all of whose roundings may go one way, can be m u/4
off, and no case here has more than 100 such values. So

    |y' - y| <= C u |gamma| (kappa (1 + |x_hat|/2) + |x_hat|) + C u (|gamma x_hat| + |beta|)
    kappa = rms(x) / (var + eps)^(1/2)

and the rest likewise: the budget knows how ill-conditioned a case is, and nothing else loosens it.
"""

import numpy as np

from .arithmetic import EXACT, given_values, history, named, sums
from .bounds import Bounded, clipped, parts, square_root
from .case import COMPUTED_IN, UNITS, half_ulp

TREE = 8.0
TINY = {"float64": 2.0**-1022, "float32": 2.0**-126}  # results below are flushed to zero on some machines


def serial(m):
    """C for sums in one accumulator."""
    return TREE + 2 * np.sqrt(m)


def budget(case, c=TREE, single_pass=False, low_statistics=False):
    """Bound on the error of each result of a case, before the rounding to storage.

    c: the C above. single_pass: of E[x^2] - E[x]^2. low_statistics: of statistics kept in the storage type.
    """
    compute = COMPUTED_IN[case.dtype]
    options = c, UNITS[compute], single_pass, UNITS[case.dtype] if low_statistics else 0.0

    with np.errstate(all="ignore"):
        values = history(case, lambda case, updates: _given(case, updates, *options), _steps(case.op, *options))
        out = named({name: _error_of(value) for name, value in values.items()}, case)
        return {name: np.abs(a) + 4 * TINY[compute] for name, a in out.items()}


def _error_of(value):
    if isinstance(value, Bounded):
        return value.error + 0 * value.value
    return np.zeros_like(value) if isinstance(value, np.ndarray) else value


INEXACT = ("gamma", "previous_mean", "previous_var", "running_mean", "running_var", "running_std")


def _given(case, updates, c, u, *_):
    values = given_values(case, EXACT, updates)
    exact = sums(EXACT, values["shape"])

    def bounded(name):
        def f(a):
            value, error = parts(a)
            size = exact[name](np.abs(value))
            return Bounded(exact[name](value), exact[name](error + 0 * value) + c * u * size, u)

        return f

    def by(f):
        def g(a):
            value, error = parts(a)
            return Bounded(f(value), f(error + 0 * value) + c * u * f(np.abs(value)), u)

        return g

    values |= {name: bounded(name) for name in exact}
    values |= {name: by(values[name]) for name in ("to_gain", "to_noise")}
    to_transition = values["to_transition"]
    values["to_transition"] = lambda a: a.apply(to_transition)
    values |= {
        name: Bounded(values[name], 0.0, u) for name in INEXACT if name in values
    }  # exact, but what they enter rounds
    values["decay"] = Bounded(values["decay"], u * values["decay"], u)
    return values | {"sqrt": square_root, "clip": clipped}


def _steps(op, c, u, single_pass, stored):
    """The moments of the batch. Their law is not that of their steps: in var the errors of x - mean cancel."""

    def mean(x, average):
        size = np.sqrt(average(x**2).value)
        value = average(x).value
        return Bounded(value, c * u * size + stored * np.abs(value), u)

    def var_of(x, centre, average):
        value = average((x - centre) ** 2).value
        rms = np.sqrt(average(x**2).value)
        error = c * u * (value + rms * np.sqrt(value)) + (c * u * rms) ** 2 + 2 * stored * value  # u of rstd
        return Bounded(value, error + (c * u * (value + centre**2) if single_pass else 0), u)

    def var(x, mean, average):
        return var_of(x, mean.value, average)

    def observed_var(x, observed_mean, average):
        return var_of(x, observed_mean.value, average)

    def fixed_mean(running_mean):  # in inference many fold it into x a + b, and round b
        value, error = parts(running_mean)
        return Bounded(value, error + c * u * np.abs(value), u)

    fixed = {"fixed_mean": fixed_mean}
    if op in ("kn", "gkn"):
        return {"observed_mean": mean, "observed_var": observed_var} | fixed
    return {"mean": mean, "var": var} | fixed


def stored(budget, expected, case, dtypes):
    """The budget with half an ulp of each tensor's storage type added; dtypes: by name, of what a target returned."""
    return {
        name: budget[name] + half_ulp(np.abs(expected[name]) + budget[name], dtypes.get(name, case.dtype))
        for name in budget
    }
