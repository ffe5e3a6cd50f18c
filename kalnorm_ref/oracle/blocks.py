"""A large case in blocks of channels, each a case of its own: what one block needs fits into the cache.

Statistics of bn, brn and kn belong to a channel, those of gn and gkn to a group: what comes of some channels, or of
groups, is what the whole case has there. Not so the gradients that sum over all of them: those to a previous estimate
that a matrix mixes, and to a gain or noise that is one number; a case with one of these returned stays whole.
"""

import numpy as np

from .case import MAPS, channel_axis
from .verdict import CaseResult, severity

ELEMENTS = 2**17  # of x in a block, about


def split(case, got, elements=ELEMENTS):
    """[(start, case, results)]: blocks of a case and of what a target returned, {name: (values, type)}; start is the
    channel, or group, of the whole case at which a block starts."""
    units = case.params["groups"] if case.op in ("gn", "gkn") else case.channels
    width = max(1, elements * units // case.tensors["x"].size)
    if width >= units or mixing(case) & got.keys():
        return [(0, case, got)]
    return [(i, *_part(case, got, i, min(i + width, units))) for i in range(0, units, width)]


def mixing(case):
    """Names of the results that sum over channels."""
    t = case.tensors
    names = {f"d{name}" for name in ("gain", "noise") if name in t and t[name].ndim == 0}
    return names | ({"dprevious_mean", "dprevious_var"} if "transition" in t and t["transition"].ndim == 2 else set())


def _part(case, got, start, stop):
    def of(name, a):
        axis = unit_axis(case, name, a)
        if axis is None:
            return a
        size = case.channels // case.params["groups"] if _of_channels(case, name) and "groups" in case.params else 1
        return a[(slice(None),) * axis + (slice(start * size, stop * size),)]

    given = {
        field: {name: np.ascontiguousarray(of(name, a)) for name, a in getattr(case, field).items()}
        for field in ("tensors", "upstream", "state")
    }
    params = case.params | ({"groups": stop - start} if "groups" in case.params else {})
    return case._replace(params=params, **given), {name: (of(name, a), dtype) for name, (a, dtype) in got.items()}


def _of_channels(case, name):
    return name in (*MAPS, "gamma", "beta", "dgamma", "dbeta")


def unit_axis(case, name, a):
    """The axis of a tensor that goes through channels or groups; None where it has none."""
    if name in MAPS:
        return channel_axis(case.layout)
    source = name.removeprefix("d")
    if source in ("previous_mean", "previous_var") and case.tensors["transition"].ndim == 2:
        return None
    if source == "transition":
        return 0
    return a.ndim - 1 if a.ndim else None


def merged(case, starts, results, got):
    """The CaseResult of a whole case from those of its blocks: for each tensor the worst."""
    found = {}
    for start, result in zip(starts, results, strict=True):
        for t in result.tensors:
            place = _moved(t, case, got, start)
            if t.name not in found or rank(place) < rank(found[t.name]):
                found[t.name] = place
    tensors = tuple(found.values())
    verdict = min((t.verdict for t in tensors), key=severity)
    return CaseResult(case, verdict, tensors, missing=results[0].missing, returned=got)


def rank(t):
    """Sorts TensorResults, the worst first."""
    return severity(t.verdict), -t.ratio


def _moved(t, case, got, start):
    """A TensorResult of a block with its index in the whole tensor."""
    axis = unit_axis(case, t.name, got[t.name][0]) if t.index else None
    if axis is None:
        return t
    size = case.channels // case.params["groups"] if _of_channels(case, t.name) and "groups" in case.params else 1
    return t._replace(index=tuple(n + start * size * (i == axis) for i, n in enumerate(t.index)))
