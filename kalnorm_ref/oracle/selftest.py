"""Is the kit itself to be trusted? Every seeded bug before every case of its operation, and every honest computation.

A case kills a bug if its verdict on it is no right one; a bug that no case in float32 kills survives. An honest
emulation computes in the compute type of the case; a verdict on it that is no right one is a false alarm. Between them
stands E[x^2] - E[x]^2: right where its budget is that of the others, SINGLEPASS or worse where that is far larger.
"""

import functools
import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from . import bugs, core
from .arithmetic import Arithmetic
from .bad_targets import BAD_TARGETS
from .case import OPS
from .conditioning import conditioning
from .emulation import Emulation
from .replay import Replay
from .report import worst_ratio
from .runner import ask, diagnosed
from .verdict import NEUTRAL, RIGHT, CaseResult, Truth, judge_tensor, severity

SUMS = ("tree", "serial", "welford", "chunked")
HARMLESS, SEEN = 3.0, 100.0  # its own budget over the others': E[x^2] - E[x]^2 must pass up to here; not from there on
KILLERS, PASSING = 6, 10  # cases for a diagnosis: from killers of few bugs to those of many; such as kill many others


class Bug(NamedTuple):
    """What became of one seeded bug, in one operation."""

    name: str
    text: str
    op: str
    kind: str  # "bug", "convention", or "target": a bug of a whole target, bad_targets.py
    ratios: dict  # the largest error over budget, by case
    killers: tuple  # ids, in the order of the core
    margin: float  # the largest error over budget among its killers that compute in float32; 0 without one
    diagnosis: str = ""  # "named", "ambiguous: a or b", "taken for a"; empty for a target


class Honest(NamedTuple):
    """What became of one honest emulation, in one operation."""

    name: str
    op: str
    cases: int
    ratio: float  # the largest error over budget where x is stored in the type that computes
    where: str  # there: case and tensor
    ratio_16: float  # likewise where x has 16 bits; the last rounding alone comes close to 1
    alarms: tuple  # (case id, verdict) that should not be


class Selftest(NamedTuple):
    """What became of the kit."""

    bugs: tuple  # of Bug
    honest: tuple  # of Honest

    @property
    def survivors(self):
        return [bug for bug in self.bugs if bug.margin == 0]

    @property
    def alarms(self):
        return [honest for honest in self.honest if honest.alarms]

    @property
    def passed(self):
        return not self.survivors and not self.alarms


class Question:
    """A case with its truth and an honest answer, shared by all bugs that are run on it."""

    def __init__(self, case, want):
        self.case, self.want = case, want
        fixed = not case.training or case.op in ("gn", "gkn")
        self.ordinary = case.tensors["x"].size > 0 and (fixed or case.samples > 1)  # else no bug can show
        self.truth = Truth(case, want)
        if self.ordinary:
            self.replay = Replay(case, Arithmetic(case.compute_dtype, "tree"), case.dtype)
            self.tensors = {name: self._judged(name, self.replay.results[name]) for name in want}

    def _judged(self, name, a):
        return judge_tensor(self.truth, name, np.asarray(a, np.float64), self.case.compute_dtype)

    def asked(self, factory):
        """The CaseResult of a target."""
        return ask(self.case, self.want, factory, set(), self.truth)

    def under(self, changes):
        """The CaseResult of a float32 emulation with changes in its steps."""
        out, honest = self.replay.under(changes), self.replay.results
        same = {name: np.array_equal(out[name], honest[name], equal_nan=True) for name in self.want}
        tensors = tuple(self.tensors[name] if same[name] else self._judged(name, out[name]) for name in self.want)
        returned = {name: (np.asarray(out[name], np.float64), self.case.compute_dtype) for name in self.want}
        return CaseResult(self.case, min((t.verdict for t in tensors), key=severity), tensors, returned=returned)


def selftest(ops=OPS, processes=1, progress=lambda work, total: work):
    """Run every seeded bug and every honest emulation of some operations: a Selftest.

    processes: at the same time; more than one need a main module that can be imported. progress: wraps an iterable of
    `total` results, as tqdm does; it is called twice, for the runs and for the diagnoses.
    """
    runs = [(op, kind, i) for op in ops for kind, things in things_of(op).items() for i in range(len(things))]
    pool = None
    if processes > 1:
        pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
    each = functools.partial(pool.map, chunksize=4) if pool else map
    try:
        found = list(progress(each(_run, runs), len(runs)))
        seen = [one for one in found if isinstance(one, Bug)]
        kills = {op: Counter(name for bug in seen if bug.op == op for name in bug.killers) for op in ops}
        tried = [bug for bug in seen if bug.kind != "target"]
        named = list(progress(each(diagnosed_as, tried, (kills[bug.op] for bug in tried)), len(tried)))
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
        questions_of.cache_clear()
    calls = {(bug.op, bug.name): name for bug, name in zip(tried, named, strict=True)}
    seen = [bug._replace(diagnosis=calls.get((bug.op, bug.name), "")) for bug in seen]
    return Selftest(tuple(seen), tuple(one for one in found if isinstance(one, Honest)))


def things_of(op):
    """What is run on the cases of an operation: by the name of the function that runs it."""
    return {
        "seeded": bugs.changes(op),
        "bad_target": [bad for bad in BAD_TARGETS if op in bad.ops],
        "honest": ("exact", *SUMS),
        "single_pass": ("single pass",),
    }


def _run(place):
    """One result; places travel between processes, changes and targets do not."""
    op, kind, i = place
    return globals()[kind](op, things_of(op)[kind][i], questions_of(op))


@functools.cache
def questions_of(op):
    """The Questions of an operation."""
    return [Question(case, want) for case, want in core.questions([f"{op}/*"])]


def seeded(op, change, questions):
    """The Bug of a change of steps, computed in sums like trees."""
    results = [q.under(change.steps) for q in questions if q.ordinary]
    return _bug(change.name, change.text, op, "convention" if change.convention else "bug", results)


def bad_target(op, bad, questions):
    """The Bug of a target that is wrong as a whole, asked as any target is."""
    factory = bad.factory()
    return _bug(bad.name, bad.text, op, "target", [q.asked(factory) for q in questions if q.ordinary])


def _bug(name, text, op, kind, results):
    ratios = {r.case.id: np.inf if r.verdict == "ERROR" else worst_ratio(r) for r in results}
    killed = [r.case for r in results if r.verdict not in NEUTRAL]
    margin = max((ratios[case.id] for case in killed if case.compute_dtype == "float32"), default=0.0)
    return Bug(name, text, op, kind, ratios, tuple(case.id for case in killed), margin)


def diagnosed_as(bug, kills):
    """What the diagnosis calls a bug, on those cases that tell most: "named", "ambiguous: a or b", "taken for a".

    kills: number of bugs that each case kills.
    """
    killers = sorted(bug.killers, key=lambda name: kills[name])
    killers = killers[:: -(-len(killers) // KILLERS)] if killers else []
    passing = sorted(set(bug.ratios) - set(bug.killers), key=lambda name: (-kills[name], name))[:PASSING]
    chosen = [q for q in questions_of(bug.op) if q.case.id in (*killers, *passing)]
    steps = bugs.find(bug.name).steps
    return _called(diagnosed([q.under(steps) for q in chosen], truth=_truths(chosen)), bug.name)


def _truths(questions):
    """A function that returns the Truth of a case among them."""
    truths = {q.case.id: q.truth for q in questions}
    return lambda case, _: truths[case.id]


def _called(results, name):
    """What a diagnosis calls the bug of that name."""
    failing = [r for r in results if r.verdict not in NEUTRAL]
    for names in sorted({r.note.partition(":")[0] for r in failing}):
        if " or " in names and name in names.split(" or "):
            return f"ambiguous: {names}"
    given = {r.verdict.partition(":")[2] for r in failing} - {""}
    found = given or {r.verdict for r in failing}
    return "named" if found == {name} else f"taken for {', '.join(sorted(found))}" if found else ""


def honest(op, sums, questions):
    """The Honest of an emulation that sums in one of SUMS, or in float64 with pairwise sums; asked as any target is."""

    def factory(case):
        return Emulation(case, Arithmetic("float64" if sums == "exact" else case.compute_dtype, sums))

    allowed = RIGHT if sums in ("serial", "welford") else ("PASS", "EXACT")
    results = [q.asked(factory) for q in questions]
    return _honest(f"{sums} sums", op, results, [(r.case.id, r.verdict) for r in results if r.verdict not in allowed])


def single_pass(op, name, questions):
    """The Honest of E[x^2] - E[x]^2 in float32: right where it can be, and found out where it cannot."""
    step = {"kn": {"observed_var": _observed}, "gkn": {"observed_var": _observed}}.get(op, {"var": _squares})
    asked = [q for q in questions if q.ordinary and q.case.compute_dtype == "float32"]
    results, alarms = diagnosed([q.under(step) for q in asked], truth=_truths(asked)), []
    for q, result in zip(asked, results, strict=True):
        harm = _harm(q.truth)
        if (harm <= HARMLESS and result.verdict not in RIGHT) or (harm >= SEEN and result.verdict in RIGHT):
            alarms.append((q.case.id, f"{result.verdict}, where its budget is {harm:.3g} times the others'"))
    return _honest(name, op, results, alarms)


def _harm(truth):
    """How much larger the budget of E[x^2] - E[x]^2 is; 10 for a constant channel, where it may be right by chance."""
    with np.errstate(all="ignore"):
        ratios = [truth.budget("single_pass")[name] / truth.budget("serial")[name] for name in truth.want]
    harm = max(float(np.max(a, initial=1.0, where=np.isfinite(a))) for a in ratios)
    return harm if conditioning(truth.case, 0.0).max() < 1e6 else 10.0


def _squares(x, mean, average):
    return average(x * x) - mean * mean


def _observed(x, observed_mean, average):
    return average(x * x) - observed_mean * observed_mean


def _honest(name, op, results, alarms):
    right = [(t.ratio, r.case, t.name) for r in results for t in r.tensors if t.verdict in RIGHT]
    full = [(ratio, f"{case.id}: {tensor}") for ratio, case, tensor in right if case.dtype == case.compute_dtype]
    ratio, where = max(full, default=(0.0, ""))
    ratio_16 = max((ratio for ratio, case, _ in right if case.dtype != case.compute_dtype), default=0.0)
    return Honest(name, op, len(results), ratio, where, ratio_16, tuple(alarms))
