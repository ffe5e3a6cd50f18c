"""What the results of a case are: the pure functions of this package in float64, under the names of the protocol."""

import numpy as np

import kalnorm_ref as kr

from ..backend import use_backend
from ..moments import Moments
from ..running import running_average
from .case import from_rows, to_rows


def expected(case):
    """The results of a case in float64, by name; NumPy's definitions compute them, whatever backend is in use."""
    with use_backend("numpy"), np.errstate(all="ignore"):
        state = {name: np.asarray(a, np.float64) for name, a in case.state.items()}
        for updates, x in enumerate(case.before):
            given = case._replace(training=True, tensors={**case.tensors, "x": x})
            _, state = _result(given, state, updates)
        results, state = _result(case, state, len(case.before))
        return {name: np.asarray(a, np.float64) for name, a in {**results, **state}.items()}


def _result(case, state, updates):
    """The results and the new state of one forward and backward."""
    t = {name: np.asarray(a, np.float64) for name, a in {**case.tensors, **case.upstream}.items()}
    x, dy = to_rows(t["x"], case), to_rows(t["dy"], case)
    gamma, beta = t.get("gamma"), t.get("beta")
    fixed = not case.training and case.op in ("bn", "brn", "kn")
    compute = _inference if fixed else {"bn": _bn, "brn": _brn, "kn": _kn, "gn": _gn, "gkn": _kn}[case.op]
    out, new = compute(case, t, x, gamma, beta, dy, state)
    out = {name: a for name, a in out.items() if a is not None}
    out |= {name: from_rows(out[name], case) for name in ("y", "dx")}
    decay = case.params.get("decay")
    return out, {
        name: running_average(state[name], _mean_of(new[name]), decay, updates) if name in new else state[name]
        for name in state
    }


def _mean_of(statistics):
    """Over the statistics batches."""
    return statistics.mean(axis=0)


def _one(statistics, case):
    """(C,) for one statistics batch."""
    return statistics[0] if case.op != "gkn" and case.batches == 1 else statistics


def _inference(case, t, x, gamma, beta, dy, state):
    eps = case.params["eps"]
    moments = Moments(
        state["running_mean"], state["running_var"] if "running_var" in state else state["running_std"] ** 2
    )
    y, cache = kr.standardize(x, moments, gamma, beta, 0.0 if case.op == "brn" else eps)
    dx, _, dgamma, dbeta = kr.standardize_backward(dy, cache)
    out = {"y": y, "dx": dx, "dgamma": dgamma, "dbeta": dbeta}
    return out, {}


def _bn(case, t, x, gamma, beta, dy, state):
    y, moments, cache = kr.batch_norm_forward(x, gamma, beta, case.params["eps"])
    dx, dgamma, dbeta = kr.batch_norm_backward(dy, cache)
    out = {"y": y, "dx": dx, "dgamma": dgamma, "dbeta": dbeta}
    out |= {"mean": _one(moments.mean, case), "var": _one(moments.var, case), "rstd": _one(cache.rstd, case)}
    return out, {"running_mean": moments.mean, "running_var": moments.var}


def _brn(case, t, x, gamma, beta, dy, state):
    p = case.params
    moments = kr.observe(x)
    limits = p["r_max"], p["d_max"]
    corrections = kr.renorm_corrections(moments, state["running_mean"], state["running_std"], *limits, p["eps"])
    y, moments, cache = kr.batch_renorm_forward(x, gamma, beta, *corrections, p["eps"])
    dx, dgamma, dbeta = kr.batch_renorm_backward(dy, cache)
    out = {"y": y, "dx": dx, "dgamma": dgamma, "dbeta": dbeta}
    out |= {"mean": _one(moments.mean, case), "var": _one(moments.var, case), "rstd": _one(cache.rstd, case)}
    out |= {"corr_r": _one(corrections[0], case), "corr_d": _one(corrections[1], case)}
    return out, {"running_mean": moments.mean, "running_std": np.sqrt(moments.var + p["eps"])}


def _gn(case, t, x, gamma, beta, dy, state):
    y, _, cache = kr.group_norm_forward(x, gamma, beta, case.params["groups"], case.params["eps"])
    dx, dgamma, dbeta = kr.group_norm_backward(dy, cache)
    return {"y": y, "dx": dx, "dgamma": dgamma, "dbeta": dbeta}, {}


def _kn(case, t, x, gamma, beta, dy, state):
    prior = gain = None
    if "previous_mean" in t:
        previous, gain = Moments(t["previous_mean"], t["previous_var"]), t["gain"]
        prior = kr.predict(previous, t["transition"], t["noise"])
    eps = case.params["eps"]
    if case.op == "kn":
        y, estimate, cache = kr.kalman_norm_forward(x, gamma, beta, prior, gain, eps)
        backward = kr.kalman_norm_backward
    else:
        y, estimate, cache = kr.group_kalman_norm_forward(x, gamma, beta, prior, gain, case.params["groups"], eps)
        backward = kr.group_kalman_norm_backward
    zeros = np.zeros_like(estimate.mean)
    destimate = Moments(*(zeros + t.get(f"destimate_{name}", 0.0) for name in ("mean", "var")))
    dx, dgamma, dbeta, dprior, dgain = backward(dy, destimate, cache)
    out = {"y": y, "dx": dx, "dgamma": dgamma, "dbeta": dbeta, "dgain": dgain}
    out |= {"estimate_mean": _one(estimate.mean, case), "estimate_var": _one(estimate.var, case)}
    if prior is not None:
        dprevious, out["dtransition"], out["dnoise"] = kr.predict_backward(
            dprior, previous, t["transition"], t["noise"]
        )
        out |= {"dprevious_mean": dprevious.mean, "dprevious_var": dprevious.var}
    return out, {"running_mean": estimate.mean, "running_var": estimate.var}
