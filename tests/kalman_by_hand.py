"""BRN, KN and GKN on small cases, as loops over single 50-digit numbers written from the definitions.

Gradients are central differences of the loss, so that no formula of a backward enters; the variance of a fusion is that
of a mixture, E x^2 - (E x)^2.
"""

from collections import defaultdict

import numpy as np
from mpmath import mp, mpf, sqrt

STEP = mpf("1e-17")  # the error of a difference is of order STEP^2
INPUTS = ("x", "gamma", "beta", "previous_mean", "previous_var", "transition", "noise", "gain")


def by_hand(case):
    """The results of a case by name, float64."""
    with mp.workdps(50):
        given = {name: exact(a) for name, a in {**case.tensors, **case.upstream}.items()}
        state = {name: exact(a) for name, a in case.state.items()}
        for updates, x in enumerate(case.before):
            state = forward(case, given | {"x": exact(x)}, state, updates)[1]
        out, new_state = forward(case, given, state, len(case.before))
        corrections = out.get("corr_r"), out.get("corr_d")  # held constant while their inputs move
        for name in INPUTS:
            if name in given:
                out["d" + name] = derivative(lambda t: forward(case, t, state, 0, corrections)[0]["loss"], given, name)
        return {name: numbers(a) for name, a in {**out, **new_state}.items() if name != "loss" and a is not None}


def exact(a):
    return np.vectorize(mpf, otypes=[object])(a)


def numbers(a):
    return np.vectorize(float, otypes=[float])(a)


def derivative(loss, given, name):
    gradient = np.empty(given[name].shape, object)
    for index in np.ndindex(gradient.shape):
        both = []
        for h in (STEP, -STEP):
            moved = given[name].copy()
            moved[index] += h
            both.append(loss(given | {name: moved}))
        gradient[index] = (both[0] - both[1]) / (2 * STEP)
    return gradient


def at(a, *index):
    """The element of an array that may lack leading axes, or be one number."""
    return a[index[len(index) - a.ndim :]]


def unit(case, index):
    """Which statistic an element of x enters: statistics batch and channel, or sample and group."""
    n, c = index[0], index[case.layout.index("C")]
    if case.op == "gkn":
        return n, c * case.params["groups"] // case.channels
    return n * case.batches // case.tensors["x"].shape[0], c


def forward(case, t, state, updates, corrections=(None, None)):
    """Results and loss, and the state after."""
    p, eps = case.params, mpf(case.params["eps"])
    members = defaultdict(list)
    for index in np.ndindex(t["x"].shape):
        members[unit(case, index)].append(t["x"][index])
    leads, units = (1 + max(key[i] for key in members) for i in (0, 1))
    mean, var, corr_r, corr_d = (np.empty((leads, units), object) for _ in range(4))
    for (b, u), values in members.items():
        mean[b, u] = sum(values) / len(values)
        var[b, u] = sum((value - mean[b, u]) ** 2 for value in values) / len(values)
        if "gain" in t:
            mean[b, u], var[b, u] = mixture(t, b, u, mean[b, u], var[b, u])
        if case.op == "brn":
            s, centre, scale = sqrt(var[b, u] + eps), state["running_mean"][u], state["running_std"][u]
            corr_r[b, u] = min(max(s / scale, 1 / mpf(p["r_max"])), mpf(p["r_max"]))
            corr_d[b, u] = min(max((mean[b, u] - centre) / scale, -mpf(p["d_max"])), mpf(p["d_max"]))
    y, loss = np.empty(t["x"].shape, object), mpf(0)
    for index in np.ndindex(y.shape):
        (b, u), c = unit(case, index), index[case.layout.index("C")]
        y[index] = (t["x"][index] - mean[b, u]) / sqrt(var[b, u] + eps)
        if case.op == "brn":
            r, d = (corr_r, corr_d) if corrections[0] is None else corrections
            y[index] = y[index] * at(r, b, u) + at(d, b, u)
        y[index] = y[index] * (t["gamma"][c] if "gamma" in t else 1) + (t["beta"][c] if "beta" in t else 0)
        loss += t["dy"][index] * y[index]
    for name, estimate in (("destimate_mean", mean), ("destimate_var", var)):
        if name in t:
            loss += sum(at(t[name], *index) * estimate[index] for index in np.ndindex(estimate.shape))
    one = (lambda a: a) if case.op == "gkn" or leads > 1 else (lambda a: a[0])
    out = {"y": y, "loss": loss}
    if case.op == "brn":
        rstd = np.vectorize(lambda v: 1 / sqrt(v + eps), otypes=[object])(var)
        values = {"mean": mean, "var": var, "rstd": rstd, "corr_r": corr_r, "corr_d": corr_d}
    else:
        values = {"estimate_mean": mean, "estimate_var": var}
    out |= {name: one(a) for name, a in values.items()}
    decay = mpf(updates) / (updates + 1) if p.get("decay") is None else mpf(p["decay"])
    new = {"running_mean": mean, "running_var": var, "running_std": None}
    if "running_std" in state:
        new["running_std"] = np.vectorize(lambda v: sqrt(v + eps), otypes=[object])(var)
    return out, {k: decay * a + (1 - decay) * sum(new[k]) / leads for k, a in state.items()}


def mixture(t, b, u, mean, var):
    """Moments of the mixture of prior and batch."""
    row, q = t["transition"], at(t["gain"], u)
    terms = [(u, row[u])] if row.ndim == 1 else list(enumerate(row[u]))
    a = sum(weight * at(t["previous_mean"], b, k) for k, weight in terms)
    spread = sum(weight**2 * at(t["previous_var"], b, k) for k, weight in terms) + at(t["noise"], u)
    fused = (1 - q) * a + q * mean
    return fused, (1 - q) * (spread + a**2) + q * (var + mean**2) - fused**2
