"""How the steps compute: in which precision, and how they sum. What an honest implementation may choose freely.

exact      float64, pairwise sums: the reference
tree       the samples are added in pairs, then the pairs, ... as GPU reductions do
serial     one after the other, in one accumulator
chunked    serial within chunks of 256 samples, then serial over the chunks
welford    mean and sum of squares updated sample by sample, as many CPU and GPU kernels do
"""

from typing import NamedTuple

import numpy as np

from . import steps as plans
from .case import MAPS, from_rows, rounded, to_rows

CHUNK = 256


class Arithmetic(NamedTuple):
    """A precision and a way to sum."""

    dtype: str = "float64"
    sums: str = "exact"  # exact, tree, serial, chunked, welford

    def sum(self, a, axis):
        """Sum over one axis, kept with length 1."""
        return SUMS[self.sums](a.swapaxes(axis, 0))[None].swapaxes(axis, 0)


def _pairwise(a):
    return np.ascontiguousarray(np.moveaxis(a, 0, -1)).sum(axis=-1)  # NumPy adds in pairs along the last axis only


def _tree(a):
    if len(a) == 0:
        return a.sum(axis=0)
    while len(a) > 1:
        half = len(a) // 2
        pairs = a[:half] + a[half : 2 * half]
        a = np.concatenate([pairs, a[2 * half :]])
    return a[0]


def _serial(a):
    return np.add.accumulate(a, axis=0)[-1] if len(a) else a.sum(axis=0)


def _chunked(a):
    parts = [_serial(a[i : i + CHUNK]) for i in range(0, len(a), CHUNK)]
    return _serial(np.stack(parts)) if parts else a.sum(axis=0)


EXACT = Arithmetic()
SUMS = {"exact": _pairwise, "tree": _tree, "serial": _serial, "chunked": _chunked, "welford": _serial}


class Shape(NamedTuple):
    """The axes of a case within the steps: (B, m, C), or (N, L, G, k) where k channels share a statistic."""

    grouped: int | None  # G

    def split(self, rows):
        """Rows (B, m, C) in the axes of the steps."""
        return rows if self.grouped is None else rows.reshape(*rows.shape[:2], self.grouped, -1)

    def channels(self, a):
        """One value per channel (C,), likewise."""
        return a if self.grouped is None else a.reshape(self.grouped, -1)

    def expand(self, statistics):
        """Statistics (B, C) or (N, G) with the axes of x."""
        return statistics[:, None, :] if self.grouped is None else statistics[:, None, :, None]

    def flat(self, statistics):
        """The inverse of expand."""
        return statistics[:, 0, :] if self.grouped is None else statistics[:, 0, :, 0]

    def gain(self, a):
        """A gain, one number or one per channel or group, against statistics."""
        return a if np.ndim(a) == 0 or self.grouped is None else a[:, None]


def sums(arithmetic, shape):
    """average, samples_sum, total and over_batches of the steps."""

    def samples_sum(a):
        for axis in (1,) if shape.grouped is None else (1, 3):
            a = arithmetic.sum(a, axis)
        return a

    def average(a):
        count = a.shape[1] * (1 if shape.grouped is None else a.shape[3])
        return samples_sum(a) / count

    def total(a):  # over everything but the channels
        return arithmetic.sum(a.reshape(a.shape[0] * a.shape[1], -1), 0).reshape(-1)

    def over_batches(a):
        return arithmetic.sum(shape.flat(a), 0)[0] / a.shape[0]

    return {"average": average, "samples_sum": samples_sum, "total": total, "over_batches": over_batches}


def welford_mean(x):
    """Means by Welford's recurrence."""
    mean = np.zeros_like(x[:, :1])
    for i in range(x.shape[1]):
        mean = mean + (x[:, i : i + 1] - mean) / x.dtype.type(i + 1)
    return mean


def welford_var(x):
    """Biased variances by Welford's recurrence."""
    mean, squares = np.zeros_like(x[:, :1]), np.zeros_like(x[:, :1])
    for i in range(x.shape[1]):
        step = x[:, i : i + 1] - mean
        mean = mean + step / x.dtype.type(i + 1)
        squares = squares + step * (x[:, i : i + 1] - mean)
    return squares / x.dtype.type(max(1, x.shape[1]))


def given_values(case, arithmetic, updates):
    """What the steps of a case are given: its tensors in the axes of the steps, its parameters, and how to sum."""
    dtype = np.dtype(arithmetic.dtype).type
    shape = Shape(case.params["groups"] if case.op in ("gn", "gkn") else None)
    values = {}
    for name, a in {**case.tensors, **case.upstream, **case.state}.items():
        a = np.asarray(a).astype(dtype)
        values[name] = shape.split(to_rows(a, case)) if name in MAPS else a
    x = values["x"]
    channels = x.shape[-1] if shape.grouped is None else (x.shape[2], x.shape[3])
    for name, absent in (("gamma", 1), ("beta", 0)):
        a = values.get(name)
        values[name] = np.full(channels, absent, dtype) if a is None else shape.channels(a)
    batches = x.shape[0]
    if "previous_mean" in values:
        for name in ("previous_mean", "previous_var"):
            a = values[name]
            values[name] = np.broadcast_to(a, (batches, a.shape[-1]))
        values["gain_given"], values["gain"] = values["gain"], shape.gain(values["gain"])
        values["transition_given"] = values["transition"]
        if values["transition"].ndim == 1:
            values["transition"] = np.diag(values["transition"])
    if case.op in ("kn", "gkn"):
        for name in ("destimate_mean", "destimate_var"):
            a = values.get(name)
            count = x.shape[2]
            values[name] = shape.expand(np.broadcast_to(dtype(0) if a is None else a, (batches, count)))
    p, decay = case.params, case.params.get("decay")
    values["decay"] = dtype(updates / (updates + 1) if decay is None else decay)  # None: the cumulative average
    values |= {"updates": updates, "cumulative": decay is None, "images": len(case.tensors["x"]) // max(1, batches)}
    values |= {"eps": dtype(p["eps"]), "r_max": dtype(p.get("r_max", 1)), "d_max": dtype(p.get("d_max", 0))}
    values |= {"m": dtype(x.shape[1] if shape.grouped is None else x.shape[1] * x.shape[3]), "sqrt": np.sqrt}
    values |= {"clip": _clip, "expand": shape.expand, "flat": shape.flat, "shape": shape, "batches": batches}
    values |= {"to_gain": _summed_like(values.get("gain_given"), shape), "to_noise": _noise_sum(values.get("noise"))}
    values |= {"to_transition": _diagonal_if(values.get("transition_given"))}
    return values | sums(arithmetic, shape)


def _clip(a, low, high):
    return np.clip(a, low, high)


def _summed_like(gain, shape):
    if gain is None or gain.ndim == 0:
        return lambda a: a.sum()
    return lambda a: shape.flat(a).sum(axis=0)


def _noise_sum(noise):
    if noise is None or noise.ndim == 0:
        return lambda a: a.sum()
    return lambda a: a.sum(axis=0)


def _diagonal_if(transition):
    if transition is not None and transition.ndim == 1:
        return np.diagonal
    return lambda a: a


def evaluate(case, arithmetic=EXACT, changes=None, storage=None, updates=0):
    """The results of a case by their names in the protocol, computed by the steps with `changes` in them.

    changes: other bodies, by the name of the function in steps.py that each takes the place of.
    storage: type in which y and dx (and nothing else) are stored; None leaves them as computed. updates: training
    steps that the state has behind it.
    """
    changes = dict(changes or {})
    if arithmetic.sums == "welford" and case.op not in ("gn", "gkn"):
        first = "observed_" if case.op == "kn" else ""
        changes = {first + "mean": welford_mean, first + "var": welford_var} | changes
    with np.errstate(all="ignore"):
        values = history(case, lambda case, updates: given_values(case, arithmetic, updates), changes, updates)
        out = named(values, case)
    return out if storage is None else stored_maps(out, storage)


def stored_maps(out, storage):
    """The results with y and dx rounded to a storage type."""
    return out | {name: rounded(out[name], storage).astype(out[name].dtype) for name in ("y", "dx")}


def history(case, given, changes, done=0):
    """Values of the judged step of a case, after its training steps before; given(case, updates) starts each."""
    state = {}
    for updates, x in enumerate(case.before, done):
        step = case._replace(training=True, tensors={**case.tensors, "x": x})
        start = given(step, updates) | state
        values = plans.run(changed(step, changes, start), start)
        state = state_of(values, case)
    start = given(case, done + len(case.before)) | state
    return plans.run(changed(case, changes, start), start)


def changed(case, changes, given):
    """The steps of a case with the changes that find all they need there: no z in inference, say."""
    plan = plans.of(case)
    known = {*given, *plan}
    fitting = {name: step for name, step in changes.items() if known.issuperset(plans.parameters(step))}
    return {name: fitting.get(step.__name__, step) for name, step in plan.items()}


STATE = {"running_mean": "next_mean", "running_var": "next_var", "running_std": "next_std"}


def state_of(values, case):
    """The running values after the step."""
    return {name: values.get(STATE[name], values[name]) for name in case.state}


NAMES = {"mean": "saved_mean", "var": "saved_var", "rstd": "saved_rstd", "corr_r": "corr_r", "corr_d": "corr_d"}
TO_ESTIMATES = ("dprevious_mean", "dprevious_var", "dtransition", "dnoise", "dgain")


def named(values, case):
    """Values of the steps under the names, and in the shapes, of the protocol."""
    shape, out = values["shape"], {}
    for name in ("y", "dx"):
        a = values[name]
        out[name] = from_rows(a.reshape(*a.shape[:2], -1), case)
    if case.op in ("bn", "brn") and case.training:
        out |= {name: _statistic(values[key], case, shape) for name, key in NAMES.items() if key in values}
    elif case.op in ("kn", "gkn") and (case.training or case.op == "gkn"):
        out |= {"estimate_" + name: _statistic(values["saved_" + name], case, shape) for name in ("mean", "var")}
    for name in ("gamma", "beta"):
        if case.tensors.get(name) is not None:
            out["d" + name] = values["d" + name].reshape(-1)
    for name in TO_ESTIMATES:
        if name in values:
            a = values[name]
            out[name] = a.sum(axis=0) if name.startswith("dprev") and case.tensors[name[1:]].ndim == 1 else a
    return out | state_of(values, case)


def _statistic(a, case, shape):
    a = shape.flat(a)
    return a[0] if case.op != "gkn" and case.batches == 1 else a
