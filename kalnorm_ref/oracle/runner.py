"""Ask a target every case, judge what it returns, and say why it is wrong."""

import functools
import time
import warnings

import numpy as np

from . import bugs
from .arithmetic import evaluate
from .arrays import given, returned
from .case import UNITS
from .diagnosis import EXPLAINED_BY, explained, explanations, fits_law, pattern, separates
from .target import capabilities, why_not
from .verdict import RIGHT, CaseResult, TensorResult, Truth, judge_tensor, severity, shaped

FULLY_TRIED = 3  # failing cases before which every change is tried; later ones only see what explains these
ENOUGH = 0.7  # of the failing cases must be explained, before an explanation is named
POLICIES = ("one-value-error", "one-value-zeros", "one-value-nan")


def ask(case, want, factory, conventions, truth=None):
    """The result of one case, before any diagnosis: its verdict is that of its worst tensor.

    What the target declares is added to the set `conventions`. truth: the Truth of case and want, where there is one.
    """
    start = time.perf_counter()
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # the cases hold NaN and overflow on purpose
        warnings.simplefilter("ignore")
        return _asked(case, want, factory, conventions, truth)._replace(seconds=time.perf_counter() - start)


def _asked(case, want, factory, conventions, truth):
    reason = None
    if isinstance(factory, type) and hasattr(factory, "capabilities"):  # it may want parameters of its own op
        reason = why_not(case, capabilities(factory))
    try:
        target = None if reason else factory(case)
    except NotImplementedError as error:
        return CaseResult(case, "SKIP", (), f"the factory has no target for it: {error}")
    except Exception as error:  # whatever a target raises is its own affair, and a verdict
        return CaseResult(case, "ERROR", (), _said("the factory", error))
    reason = reason or getattr(target, "refuses", None) or why_not(case, capabilities(target))
    if reason:
        return CaseResult(case, "SKIP", (), reason)
    declared = set(getattr(target, "conventions", ()) or ())
    unknown = declared - set(POLICIES) - {c.name for c in bugs.changes(case.op, convention=True)}
    unknown -= {c.name for op in ("bn", "brn", "kn", "gn", "gkn") for c in bugs.changes(op, convention=True)}
    conventions |= declared
    if unknown:
        return CaseResult(case, "ERROR", (), f"declares {', '.join(sorted(unknown))}; no convention has that name")
    if case.tensors["x"].size == 0 or has_one_value(case):
        return _degenerate(case, want, target, declared)
    steps = declared_steps(case.op, declared)
    if truth is None or steps:
        truth = truth_of(case, steps) if steps else Truth(case, want)
    try:
        got, complaints = _questioned(case, target)
        # the same target again, but for a cumulative average, whose count no state has
        again, _ = _questioned(case, target if case.params.get("decay", 0) is not None else factory(case))
    except Exception as error:
        return CaseResult(case, "ERROR", (), _said("the target", error))
    result = judged(truth, got, complaints)
    for name, (a, dtype) in again.items():
        if name in got and got[name][0].shape == a.shape and not _same(truth, name, got[name][0], a, dtype):
            note = "asked a second time it gave other values"
            result = _with(result, TensorResult(name, "FAIL", np.inf, np.nan, (), np.nan, np.nan, note))
    return result


def has_one_value(case):
    """Whether each statistic has one value behind it, and nothing else: then several answers are right."""
    return case.samples == 1 and case.training and case.op in ("bn", "brn", "kn") and "gain" not in case.tensors


def declared_steps(op, declared):
    """The steps of the conventions that a target declares."""
    steps = {}
    for change in bugs.changes(op, convention=True):
        if change.name in declared:
            steps |= change.steps
    return steps


def _said(who, error):
    return f"{who} raised {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _questioned(case, target):
    """What a target returns for a case, {name: (values, type)}, and complaints {name: text}."""
    able = capabilities(target)
    if case.state and f"{case.op}.state" in able:
        target.set_state({name: given(case, name, a) for name, a in case.state.items()})
    tensors = {name: given(case, name, a) for name, a in case.tensors.items()}
    for x in case.before:
        target.forward({**tensors, "x": given(case, "x", x)}, True)
    out, complaints = {}, {}
    kept = {name: a.copy() for name, a in tensors.items()}
    out |= _checked(target.forward(tensors, case.training), "forward")
    if f"{case.op}.backward" in able:
        upstream = {name: given(case, name, a) for name, a in case.upstream.items()}
        kept |= {name: a.copy() for name, a in upstream.items()}
        tensors |= upstream
        out |= _checked(target.backward(**upstream), "backward")
    if case.state and f"{case.op}.state" in able:
        out |= _checked(target.get_state(), "get_state")
    for name, a in kept.items():
        if a.tobytes() != tensors[name].tobytes():
            complaints[name] = "the target changed its input"
    return {name: returned(value) for name, value in out.items() if value is not None}, complaints


def _checked(result, method):
    if not isinstance(result, dict):
        raise TypeError(f"{method} returned {type(result).__name__}; expected a dict of tensors by name")
    return result


def _same(truth, name, first, second, dtype):
    """Whether two answers to the same question agree within the budget; atomics may add in any order."""
    if name not in truth.want:
        return True
    first, second = (shaped(a, truth.want[name]) for a in (first, second))
    if first is None or np.array_equal(first, second, equal_nan=True):
        return True
    return bool((truth.ratios(name, second, dtype, "serial", first, EXPLAINED_BY) <= 1).all())


def judged(truth, got, complaints=(), needed=("y",)):
    """The CaseResult for what a target returned: {name: (values, type)}."""
    case, want = truth.case, truth.want
    tensors = [judge_tensor(truth, name, *got[name]) for name in want if name in got]
    for name in needed:
        if name not in got:
            tensors.append(TensorResult(name, "ERROR", np.inf, np.nan, (), np.nan, np.nan, "was not returned"))
    for name in dict(complaints):
        tensors.append(TensorResult(name, "FAIL", np.inf, np.nan, (), np.nan, np.nan, complaints[name]))
    for i, t in enumerate(tensors):
        if t.verdict == "FAIL" and t.name in got and not t.note:
            tensors[i] = t._replace(note=pattern(shaped(got[t.name][0], want[t.name]), want[t.name], case))
    worst = min((t.verdict for t in tensors), key=severity)
    missing = tuple(name for name in want if name not in got)
    return CaseResult(
        case, worst, tuple(tensors), missing=missing, returned={name: got[name] for name in want if name in got}
    )


def _with(result, tensor):
    tensors = (*result.tensors, tensor)
    return result._replace(tensors=tensors, verdict=min((t.verdict for t in tensors), key=severity))


def _degenerate(case, want, target, declared):
    """One value per channel, or none at all: an error, zeros (y = beta) or NaN, as the target declares."""
    try:
        got, _ = _questioned(case, target)
    except Exception as error:
        if declared & {"one-value-zeros", "one-value-nan"}:
            return CaseResult(case, "ERROR", (), _said("the target", error))
        return CaseResult(case, "PASS", (), _said("as it may, the target", error))
    if case.tensors["x"].size == 0:
        if "y" not in got or got["y"][0].size:
            return CaseResult(case, "FAIL", (), "no sample, but values in y, or no y")
        lost = [name for name in case.state if name in got and not np.isfinite(got[name][0]).all()]
        # 0/0 is NaN, and whoever averages it in has lost what was there: said, but nobody's mistake
        return CaseResult(case, "PASS", (), f"no sample: {' and '.join(lost)} became NaN" if lost else "no sample")
    if "one-value-error" in declared:
        return CaseResult(case, "FAIL", (), "declares one-value-error, but raised nothing")
    y = got["y"][0] if "y" in got else np.zeros(0)
    if y.size and np.isnan(y).all() and "one-value-zeros" not in declared:
        return CaseResult(case, "PASS", (), "one value per channel: NaN")
    return judged(Truth(case, want), got)._replace(note="one value per channel: zeros")


# ---- diagnosis of a whole run ------------------------------------------------------------------------------------


def diagnosed(results, declared=(), truth=None):
    """The results with a reason for each failure that has one. truth: where there is one, the Truth of a case."""
    truth = truth or truth_of
    results = list(results)
    for op in dict.fromkeys(r.case.op for r in results):
        of_op = [i for i, r in enumerate(results) if r.case.op == op and r.returned]
        failing = [i for i in of_op if any(wrong_value(t) for t in results[i].tensors)]
        if failing:
            steps = declared_steps(op, set(declared))
            _diagnose(results, {i: truth(results[i].case, steps) for i in of_op}, failing, steps)
    return results


def _diagnose(results, truths, failing, declared):
    """Name what explains most of what fails and contradicts nothing that passed; a case it does not explain keeps its
    own verdict: under a wrong formula NaN and overflow are nobody's prediction."""
    failing = sorted(failing, key=lambda i: (results[i].verdict == "NONFINITE", UNITS[results[i].case.dtype]))
    candidates, found = None, {}
    for count, i in enumerate(failing):
        among = None if count < FULLY_TRIED else candidates
        found[i] = explanations(truths[i], results[i].returned, declared, among)
        results[i] = results[i]._replace(explanations=tuple(c.name for c in found[i]))
        if count < FULLY_TRIED:
            candidates = list({c.name: c for c in [*(candidates or []), *found[i]]}.values())
    explained_by = {c.name: sum(c in found[i] for i in failing) for c in candidates}
    most = max(explained_by.values(), default=0)
    passing = [i for i in truths if results[i].verdict in RIGHT]
    left = [
        c
        for c in candidates
        if explained_by[c.name] == most >= ENOUGH * len(failing)
        and all(explained(truths[i], results[i].returned, c, declared) for i in passing)
    ]
    verdict = _changed_verdict(left[0]) if left else _law(results, truths, failing)
    for i in failing if verdict else ():
        if not left or left[0] in found[i]:
            results[i] = _renamed(results[i], verdict, left[0].text if left else results[i].note)
    if len(left) > 1:
        note = f"{' or '.join(c.name for c in left)}: {_separating(left[0].name, left[1].name)}"
        for i in failing:
            results[i] = results[i]._replace(note=note)


def truth_of(case, declared):
    """The truth under the conventions that a target declares."""
    return Truth(case, {name: np.asarray(a) for name, a in evaluate(case, changes=declared).items()})


def wrong_value(tensor):
    """Whether a tensor's values are wrong, and not something else about it."""
    return tensor.verdict not in RIGHT and not (np.isnan(tensor.got) and np.isnan(tensor.want))


def _changed_verdict(change):
    return f"{'CONVENTION' if change.convention else 'BUG?'}:{change.name}"


def _law(results, truths, failing):
    """The looser law that everything which fails obeys; None without one."""
    for kind, verdict in (("single_pass", "SINGLEPASS"), ("low_statistics", "LOWSTAT")):
        if all(fits_law(truths[i], results[i].returned, kind) for i in failing):
            return verdict
    return None


def _renamed(result, verdict, note):
    """The result with another verdict for its wrong values."""
    tensors = tuple(t._replace(verdict=verdict) if wrong_value(t) else t for t in result.tensors)
    return result._replace(tensors=tensors, verdict=min((t.verdict for t in tensors), key=severity), note=note)


@functools.cache
def _separating(first, second):
    """Which case would tell two changes apart."""
    from .catalogue import cases  # here: only an ambiguity needs the whole catalogue

    first, second = bugs.find(first), bugs.find(second)
    for case in cases(first.ops[0] if len(first.ops) == 1 else None):
        if case.op in first.ops and case.op in second.ops and case.tensors["x"].size and separates(case, first, second):
            return f"{case.id} tells the first two apart"
    return "no case here tells the first two apart"
