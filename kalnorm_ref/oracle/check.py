"""Score what a kernel returned for tensors of one's own: the same truth, budgets and diagnosis as for the cases."""

import numpy as np

from .arrays import returned as as_values
from .blocks import merged, rank, split
from .case import OPS, UNITS, Case, rounded, to_rows
from .core import truth
from .judge import Recorded, check_conventions
from .names import BACKWARD, ESTIMATE, FORWARD, PRIOR, STATE, STATISTICS
from .report import Report
from .runner import ask, declared_steps, diagnosed, has_one_value, judged, truth_of
from .verdict import RIGHT, Truth, shaped

LAYOUT = {2: "NC", 3: "NLC", 4: "NHWC", 5: "NDHWC"}  # by the number of axes
LAYOUTS = {2: ("NC",), 3: ("NLC", "NCL"), 4: ("NHWC", "NCHW"), 5: ("NDHWC", "NCDHW")}
COMMON = ("eps", "layout", "training", "dtype", "conventions")
PARAMS = {
    "bn": (*COMMON, "decay", "statistics_batches"),
    "brn": (*COMMON, "decay", "statistics_batches", "r_max", "d_max"),
    "kn": (*COMMON, "decay", "statistics_batches"),
    "gn": (*COMMON, "groups"),
    "gkn": (*COMMON, "groups"),
}
TRIED = 2  # wrong blocks of a large case, and right ones, that an explanation must fit
CORRECTIONS = ("corr_r", "corr_d")


def check(op, given, returned, params=None):
    """Judge what a kernel returned for given tensors.

    op: "bn", "brn", "kn", "gn", "gkn". given and returned: dicts of tensors (NumPy, PyTorch, whatever has DLPack):

        op       given                                           returned
        bn       x gamma beta dy running_mean running_var        y dx dgamma dbeta mean var rstd
                                                                 running_mean running_var
        brn      x gamma beta dy running_mean running_std, or    as bn, with running_std for running_var; corr_r corr_d
                 corr_r and corr_d in place of running values
        kn gkn   x gamma beta dy previous_mean previous_var      y dx dgamma dbeta estimate_mean estimate_var
                 transition noise gain destimate_mean            dprevious_mean dprevious_var dtransition dnoise dgain;
                 destimate_var; kn: running_mean running_var     kn: running_mean running_var
        gn       x gamma beta dy                                 y dx dgamma dbeta

    Only x must be given; running values are those before the step. Without dy there are no gradients to judge. What is
    not returned is reported as not covered.
    params: eps (1e-5), layout (channels last: NC, NLC, NHWC, NDHWC), training (True), dtype (that of x), groups,
    decay (weight of the old running value; None is the first step of a cumulative average), r_max, d_max,
    statistics_batches, conventions (names of those that the kernel follows on purpose).
    Returns: Report of one case.
    Raises: ValueError for what does not fit together, TypeError for types that are not known.
    """
    params = dict(params or {})
    case = case_of(op, given, params)
    names = determined(case, given)
    got = _values(returned)
    _check_returned(case, names, got, params)
    declared = set(params.get("conventions", ()))
    check_conventions(declared)
    if has_one_value(case):
        values = {name: a for name, a in returned.items() if a is not None}
        result = ask(case, _only(truth(case), names), lambda _: Recorded(values, declared), set())
        return _report(case, result, declared)
    got = {name: (shaped(a, np.empty(names[name])), dtype) for name, (a, dtype) in got.items()}
    steps, parts = declared_steps(op, declared), split(case, got)
    results = [judged(_truth(part, names, steps), some, needed=()) for _, part, some in parts]
    result = merged(case, [start for start, _, _ in parts], results, got)
    return _report(case, _explained(result, results, declared), declared)


def _explained(result, results, declared):
    """The result with a reason, if there is one for the worst of its blocks."""
    results = sorted(results, key=lambda block: min(map(rank, block.tensors)))
    failing = [block for block in results if block.verdict not in RIGHT]
    if not failing:
        return result
    right = [block for block in results if block.verdict in RIGHT]
    told = diagnosed([*failing[:TRIED], *right[:TRIED]], declared)[0]
    if told.verdict == failing[0].verdict:
        return result._replace(explanations=told.explanations, note=told.note)
    tensors = tuple(t if t.verdict in RIGHT else t._replace(verdict=told.verdict) for t in result.tensors)
    return result._replace(verdict=told.verdict, tensors=tensors, note=told.note, explanations=told.explanations)


def _report(case, result, declared):
    name = f"{case.op} of {case.tensors['x'].shape} {case.dtype}"
    return Report(name, (result,), declared=tuple(sorted(declared)))


def _truth(case, names, steps):
    want = truth_of(case, steps).want if steps else truth(case)
    return Truth(case, _only(want, names))


def _only(want, names):
    return {name: a for name, a in want.items() if name in names}


# ---- the case ----------------------------------------------------------------------------------------------------


def case_of(op, given, params):
    """The Case that tensors and parameters make."""
    if op not in OPS:
        raise ValueError(f"op is {op!r}; expected one of {', '.join(OPS)}")
    _check_names("params", params, PARAMS[op])
    known = (*FORWARD[op], *BACKWARD[op], *STATE[op], *(CORRECTIONS if op == "brn" else ()))
    _check_names("given", given, known)
    arrays = _values(given)
    if "x" not in arrays:
        raise ValueError("given has no x; expected the input of the normalizer")
    x, dtype = arrays["x"]
    dtype = params.get("dtype", dtype)
    _check_x(x, dtype)
    layout = params.get("layout", LAYOUT[x.ndim])
    if layout not in LAYOUTS[x.ndim]:
        raise ValueError(f"layout is {layout!r}; expected {' or '.join(LAYOUTS[x.ndim])} for x of shape {x.shape}")
    values = {name: a for name, (a, _) in arrays.items()}
    plain = {"eps": float(params.get("eps", 1e-5))}
    plain |= {
        name: params[name] for name in ("decay", "statistics_batches", "groups", "r_max", "d_max") if name in params
    }
    training = bool(params.get("training", True))
    why = "These tensors are your own."
    case = Case(f"{op}/given/{dtype}", op, why, dtype, layout, plain, {"x": x}, {}, {}, training=training)
    _check_params(case)
    _check_shapes(case, values)
    _check_complete(case, values)
    groups = {
        "tensors": {name: values[name] for name in FORWARD[op] if name in values},
        "upstream": {"dy": np.zeros_like(x)} | {name: values[name] for name in BACKWARD[op] if name in values},
        "state": {name: values.get(name, np.ones(case.channels)) for name in STATE[op]},
    }
    case = case._replace(**groups)
    return _corrected(case, values) if "corr_r" in values else case


def _values(tensors):
    """{name: (float64 values, type)}, without those that are None."""
    found = {}
    for name, a in tensors.items():
        if a is not None:
            try:
                found[name] = as_values(a)
            except TypeError as error:
                raise TypeError(f"{name} {error}") from error
    return found


def _check_names(what, found, known):
    for name in found:
        if name not in known:
            raise ValueError(f"{what} has {name!r}; expected some of {', '.join(known)}")


def _check_x(x, dtype):
    if dtype not in UNITS:
        raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(UNITS)}")
    if x.ndim not in LAYOUT or x.size == 0:
        raise ValueError(f"x has shape {x.shape}; expected 2 to 5 axes and at least one element")
    if not np.array_equal(rounded(x, dtype), x, equal_nan=True):
        raise ValueError(f"x has values that {dtype} does not have; expected x as the kernel was given it")


def _check_params(case):
    p, x = case.params, case.tensors["x"]
    groups, batches = p.get("groups"), case.batches
    if case.op in ("gn", "gkn") and (groups is None or groups < 1 or case.channels % groups):
        raise ValueError(f"params has groups {groups}; expected a divisor of the {case.channels} channels")
    if batches < 1 or len(x) % batches:
        raise ValueError(f"statistics_batches is {batches}; expected a divisor of the {len(x)} samples of x")
    for name, low in (("eps", 0), ("decay", 0), ("r_max", 1), ("d_max", 0)):
        if p.get(name) is not None and not p[name] >= low:
            raise ValueError(f"{name} is {p[name]}; expected at least {low}")
    if p.get("decay") is not None and p["decay"] > 1:
        raise ValueError(f"decay is {p['decay']}; expected the weight of the old running value, in [0, 1]")


def shapes(case, previous=None):
    """Shapes that the tensors of a case may have, by name: a tuple of them, the usual one first. previous: C'."""
    c, op, batches = case.channels, case.op, case.batches
    units = case.params["groups"] if op in ("gn", "gkn") else c
    lead = (len(case.tensors["x"]),) if op == "gkn" else (batches,) if batches > 1 else ()
    statistic = ((*lead, units),)
    found = dict.fromkeys(("x", "y", "dy", "dx"), (case.tensors["x"].shape,))
    found |= dict.fromkeys(("gamma", "beta", *STATE[op]), ((c,),))
    found |= dict.fromkeys((*STATISTICS[op], *CORRECTIONS), statistic)
    found |= dict.fromkeys((f"d{name}" for name in ESTIMATE), (*statistic, (units,)))
    found |= dict.fromkeys(("previous_mean", "previous_var"), ((*lead, previous), (previous,)))
    found |= dict.fromkeys(("noise", "gain"), ((), (units,)))
    return found | {"transition": ((units, previous), *([(units,)] if previous == units else []))}


def _check_shapes(case, values):
    mean = values.get("previous_mean")
    allowed = shapes(case, mean.shape[-1] if mean is not None and mean.ndim else 0)
    for name, a in values.items():
        if a.shape not in allowed[name]:
            expected = " or ".join(map(str, dict.fromkeys(allowed[name])))
            raise ValueError(
                f"{name} has shape {a.shape}; expected {expected} for x of shape {case.tensors['x'].shape}"
            )


def _check_complete(case, values):
    """ValueError where one tensor needs another that is not there."""
    needs = {name: PRIOR for name in PRIOR} | {name: STATE[case.op] for name in STATE[case.op]}
    needs |= {name: CORRECTIONS for name in CORRECTIONS} | {f"d{name}": ("dy",) for name in ESTIMATE}
    for name in values:
        lacking = [other for other in needs.get(name, ()) if other not in values]
        if lacking:
            raise ValueError(f"given has {name}, but not {', '.join(lacking)}; they go together")
    running = all(name in values for name in STATE[case.op])
    if case.op in ("bn", "brn", "kn") and not case.training and not running:
        raise ValueError(f"given has no {' and '.join(STATE[case.op])}; with training=False they are what normalizes")
    if case.op == "brn" and case.training:
        if running == ("corr_r" in values):
            raise ValueError("brn needs either running_mean and running_std, or corr_r and corr_d")
        lacking = [name for name in ("r_max", "d_max") if running and name not in case.params]
        if lacking:
            raise ValueError(f"params has no {' and '.join(lacking)}; r and d are clipped with them")


def _corrected(case, values):
    """The case whose running values give the corrections that were given, with nothing clipped."""
    if case.batches > 1 or not case.training:
        raise ValueError("corr_r and corr_d are of one statistics batch in training; give running values instead")
    if not (values["corr_r"] > 0).all():
        raise ValueError("corr_r has values that are not positive; r is a ratio of standard deviations")
    rows = to_rows(case.tensors["x"], case)[0]
    running_std = np.sqrt(rows.var(axis=0) + case.params["eps"]) / values["corr_r"]
    state = {"running_mean": rows.mean(axis=0) - values["corr_d"] * running_std, "running_std": running_std}
    return case._replace(state=state, params=case.params | {"r_max": np.inf, "d_max": np.inf})


# ---- the results -------------------------------------------------------------------------------------------------


def determined(case, given):
    """Shapes of the results that follow from what was given, by name."""
    allowed, op = shapes(case), case.op
    found = {"y": allowed["y"][0]}
    if op == "gkn" or case.training:
        found |= {name: allowed[name][0] for name in STATISTICS[op] if given.get(name) is None}
    if given.get("dy") is not None:
        through = FORWARD["bn"] if op == "kn" and not case.training else FORWARD[op]
        found |= {f"d{name}": a.shape for name, a in case.tensors.items() if name in through}
    return found | {name: (case.channels,) for name in STATE[op] if given.get(name) is not None}


def _check_returned(case, names, got, params):
    if not got:
        raise ValueError(f"returned has no tensor; expected some of {', '.join(names)}")
    for name, (a, _) in got.items():
        if name not in names:
            raise ValueError(f"returned has {name!r}; from what was given follow {', '.join(names)}")
        if shaped(a, np.empty(names[name])) is None:
            raise ValueError(f"returned {name} has shape {a.shape}; expected {names[name]}")
    if "decay" not in params and case.training and not got.keys().isdisjoint(STATE[case.op]):
        raise ValueError("returned has running values, but params has no decay, the weight of the old ones")
