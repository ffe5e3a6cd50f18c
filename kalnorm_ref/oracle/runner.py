"""Ask a target every case, judge what it returns, and say why it is wrong."""

import time

import numpy as np

from . import bugs
from .arithmetic import evaluate
from .arrays import given, returned
from .diagnosis import EXPLAINED_BY, explanations, explains, fits_law, pattern, predicted, separates
from .target import capabilities, why_not
from .verdict import NEUTRAL, RIGHT, CaseResult, TensorResult, Truth, judge_tensor, severity, shaped

FULLY_TRIED = 3  # failing cases before which every change is tried; later ones only see what explains these
POLICIES = ("one-value-error", "one-value-zeros", "one-value-nan")


def ask(case, want, factory, conventions):
    """The result of one case, before any diagnosis: its verdict is that of its worst tensor.

    What the target declares is added to the set `conventions`.
    """
    start = time.perf_counter()
    try:
        target = factory(case)
    except Exception as error:  # whatever a target raises is its own affair, and a verdict
        return CaseResult(case, "ERROR", (), _said("the factory", error))
    reason = why_not(case, capabilities(target))
    if reason:
        return CaseResult(case, "SKIP", (), reason)
    declared = set(getattr(target, "conventions", ()) or ())
    unknown = declared - set(POLICIES) - {c.name for c in bugs.changes(case.op, convention=True)}
    unknown -= {c.name for op in ("bn", "brn", "kn", "gn", "gkn") for c in bugs.changes(op, convention=True)}
    conventions |= declared
    if unknown:
        return CaseResult(case, "ERROR", (), f"declares {', '.join(sorted(unknown))}; no convention has that name")
    if case.tensors["x"].size == 0 or (case.samples == 1 and case.training and case.op in ("bn", "brn", "kn")):
        return _degenerate(case, want, target, declared)._replace(seconds=time.perf_counter() - start)
    steps = declared_steps(case.op, declared)
    if steps:
        want = {name: np.asarray(a) for name, a in evaluate(case, changes=steps).items()}
    try:
        got, complaints = _questioned(case, target)
        # the same target again, but for a cumulative average, whose count no state has
        again, _ = _questioned(case, target if case.params.get("decay", 0) is not None else factory(case))
    except Exception as error:
        return CaseResult(case, "ERROR", (), _said("the target", error), seconds=time.perf_counter() - start)
    result = judged(Truth(case, want), got, complaints)
    for name, (a, dtype) in again.items():
        if name in got and got[name][0].shape == a.shape and not _same(Truth(case, want), name, got[name][0], a, dtype):
            note = "asked a second time it gave other values"
            result = _with(result, TensorResult(name, "FAIL", np.inf, np.nan, (), np.nan, np.nan, note))
    return result._replace(seconds=time.perf_counter() - start)


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
        if not np.array_equal(a.view(np.uint8), np.ascontiguousarray(tensors[name]).view(np.uint8)):
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


def judged(truth, got, complaints=()):
    """The CaseResult for what a target returned: {name: (values, type)}."""
    case, want = truth.case, truth.want
    tensors = [judge_tensor(truth, name, *got[name]) for name in want if name in got]
    if "y" not in got:
        tensors.append(TensorResult("y", "ERROR", np.inf, np.nan, (), np.nan, np.nan, "was not returned"))
    for name in dict(complaints):
        tensors.append(TensorResult(name, "FAIL", np.inf, np.nan, (), np.nan, np.nan, complaints[name]))
    for i, t in enumerate(tensors):
        if t.verdict == "FAIL" and t.name in got and not t.note:
            tensors[i] = t._replace(note=pattern(shaped(got[t.name][0], want[t.name]), want[t.name], case))
    worst = min((t.verdict for t in tensors), key=severity)
    missing = tuple(name for name in want if name not in got)
    return CaseResult(case, worst, tuple(tensors), missing=missing, returned=got)


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
        right = "y" in got and got["y"][0].size == 0
        return CaseResult(case, "PASS" if right else "FAIL", (), "no sample" if right else "no sample, but values in y")
    if "one-value-error" in declared:
        return CaseResult(case, "FAIL", (), "declares one-value-error, but raised nothing")
    y = got["y"][0] if "y" in got else np.zeros(0)
    if np.isnan(y).all() and "one-value-zeros" not in declared:
        return CaseResult(case, "PASS", (), "one value per channel: NaN")
    return judged(Truth(case, want), got)._replace(note="one value per channel: zeros")


# ---- diagnosis of a whole run ------------------------------------------------------------------------------------


def diagnosed(results, declared=()):
    """The results with a reason for each failure that has one."""
    results = list(results)
    for op in dict.fromkeys(r.case.op for r in results):
        of_op = [i for i, r in enumerate(results) if r.case.op == op and r.returned]
        failing = [i for i in of_op if results[i].verdict not in NEUTRAL]
        if failing:
            _diagnose(results, of_op, failing, declared_steps(op, set(declared)))
    return results


def _diagnose(results, of_op, failing, declared):
    truths = {i: truth_of(results[i].case, declared) for i in of_op}
    candidates = None
    for count, i in enumerate(failing):
        among = None if count < FULLY_TRIED else candidates
        found = explanations(truths[i], results[i].returned, declared, among)
        results[i] = results[i]._replace(explanations=tuple(c.name for c in found))
        names = {c.name for c in found}
        candidates = found if candidates is None else [c for c in candidates if c.name in names]
    passing = [i for i in of_op if results[i].verdict in RIGHT]
    left = [
        c
        for c in candidates
        if all(explains(truths[i], results[i].returned, predicted(results[i].case, c, declared)) for i in passing)
    ]
    for i in failing:
        results[i] = _named(results[i], left, truths[i])
    if len(left) > 1:
        note = _separating(left)
        for i in failing:
            results[i] = results[i]._replace(note=note)


def truth_of(case, declared):
    """The truth under the conventions that a target declares."""
    return Truth(case, {name: np.asarray(a) for name, a in evaluate(case, changes=declared).items()})


def _named(result, left, truth):
    """The result with the verdict that the remaining explanations give it."""
    if left:
        one = left[0]
        verdict = f"{'CONVENTION' if one.convention else 'BUG?'}:{one.name}"
        note = one.text if len(left) == 1 else result.note
        tensors = tuple(t if t.verdict in RIGHT else t._replace(verdict=verdict) for t in result.tensors)
        return result._replace(verdict=verdict, note=note, tensors=tensors)
    if not all(t.verdict in RIGHT or (t.verdict == "FAIL" and np.isfinite(t.ratio)) for t in result.tensors):
        return result
    for kind, verdict in (("single_pass", "SINGLEPASS"), ("low_statistics", "LOWSTAT")):
        if fits_law(truth, result.returned, kind):
            tensors = tuple(t if t.verdict in RIGHT else t._replace(verdict=verdict) for t in result.tensors)
            return result._replace(verdict=verdict, tensors=tensors)
    return result


def _separating(left):
    """Which case would tell the remaining explanations apart."""
    from .catalogue import cases  # here: only an ambiguity needs the whole catalogue

    names = " or ".join(c.name for c in left)
    first, second = left[:2]
    for case in cases(first.ops[0] if len(first.ops) == 1 else None):
        if case.op in first.ops and case.op in second.ops and case.tensors["x"].size and separates(case, first, second):
            return f"{names}: {case.id} tells the first two apart"
    return f"{names}: no case here tells the first two apart"
