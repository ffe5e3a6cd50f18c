"""What can be said of a case: its reason and contents, its conditioning, its budgets, and the bugs that it kills."""

import textwrap

import numpy as np

from . import bugs
from .conditioning import conditioning
from .core import truth
from .selftest import Question
from .verdict import NEUTRAL

WIDTH = 110  # of the list of bugs


def about(case):
    """What a list shows of a case, as plain values."""
    return {
        "id": case.id,
        "op": case.op,
        "dtype": case.dtype,
        "layout": case.layout,
        "shape": list(case.tensors["x"].shape),
        "training": case.training,
        "why": case.why,
    }


def explained(case):
    """Everything, as plain values."""
    question = Question(case, truth(case))
    given = {**case.tensors, **case.upstream, **case.state}
    return {
        **about(case),
        "convention": dict(case.convention),
        "params": dict(case.params),
        "steps_before": len(case.before),
        "view": case.view,
        "unjudged_channels": list(case.unjudged),
        "m": case.samples,
        "kappa": _range(conditioning(case)) if case.tensors["x"].size else None,
        "tensors": {name: list(np.shape(a)) for name, a in given.items()},
        "budgets": {name: _budget(question.truth, name) for name in question.want},
        "kills": killed(question) if question.ordinary else [],
    }


def _range(a):
    return [_plain(a.min()), _plain(a.max())]


def _plain(a):
    return float(a) if np.isfinite(a) else str(float(a))


def _budget(truth, name):
    """Median and largest budget of one result before storage, and its typical size."""
    want = np.abs(truth.want[name])
    figures = {"shape": list(want.shape), "size": _plain(np.median(want)) if want.size else 0.0}
    for kind in ("tree", "serial"):
        a = truth.budget(kind)[name]
        figures[kind] = {"median": _plain(np.median(a)), "max": _plain(a.max())} if a.size else None
    return figures


def killed(question):
    """Names of the seeded bugs, and of the undeclared conventions, that a case kills."""
    changes = bugs.changes(question.case.op)
    return [c.name for c in changes if question.under(c.steps).verdict not in NEUTRAL]


def lines(found):
    """What `explained` returns, as lines of text."""
    shape = "x".join(map(str, found["shape"]))
    kind = "training" if found["training"] else "inference"
    text = [
        found["id"],
        *textwrap.wrap(found["why"], WIDTH),
        "",
        f"x         {shape} {found['dtype']}, {found['layout']}, {kind}",
    ]
    if found["steps_before"]:
        text.append(f"before    {found['steps_before']} training steps")
    if found["view"]:
        text.append(f"memory    x and dy are {found['view']} views")
    if found["unjudged_channels"]:
        text.append(f"unjudged  channels {', '.join(map(str, found['unjudged_channels']))}")
    text.append("params    " + ", ".join(f"{name} {value}" for name, value in found["params"].items()))
    text.append("given     " + ", ".join(f"{n} {'x'.join(map(str, s)) or '1'}" for n, s in found["tensors"].items()))
    text.append(f"m         {found['m']} values behind each statistic")
    if found["kappa"]:
        low, high = (a if isinstance(a, str) else f"{a:.4g}" for a in found["kappa"])
        text.append(f"kappa     {low} to {high}")
    text += ["", "convention"]
    text += [f"  {name}: {value}" for name, value in found["convention"].items()]
    text += ["", f"{'budget':<16}{'typical size':>14}{'tree median':>14}{'max':>12}{'serial median':>16}{'max':>12}"]
    for name, budget in found["budgets"].items():
        kinds = [budget[kind] or {"median": 0.0, "max": 0.0} for kind in ("tree", "serial")]
        tree, serial = [[_figure(kind[key]) for key in ("median", "max")] for kind in kinds]
        text.append(f"{name:<16}{_figure(budget['size']):>14}{tree[0]:>14}{tree[1]:>12}{serial[0]:>16}{serial[1]:>12}")
    kills = f"kills {len(found['kills'])} seeded bugs and conventions: {', '.join(found['kills']) or 'none'}"
    return [*text, "", *textwrap.wrap(kills, WIDTH, subsequent_indent="  ", break_on_hyphens=False)]


def _figure(a):
    return a if isinstance(a, str) else f"{a:.3g}"
