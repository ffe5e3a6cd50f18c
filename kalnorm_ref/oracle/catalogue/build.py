"""How a case is made: a geometry, an operation and what is special about it; the rest is ordinary, and never ones."""

import numpy as np

from ..case import Case, channel_axis, rounded
from ..draws import Draws

STATEFUL = ("bn", "brn", "kn")
MEAN, DEVIATION = 3.1, 1.9  # no short binary fractions, of which sums are exact and squares round to one side
CHANGES = {
    *("offset", "scale", "x", "dy", "gamma", "beta", "before", "training", "batches", "groups", "eps", "decay"),
    *("r_max", "d_max", "state", "prior", "transition", "previous", "gain", "noise", "previous_mean", "previous_var"),
    *("destimate_mean", "destimate_var", "view", "unjudged", "kills"),
}


def case(op, name, why, shape=(4, 3, 5, 6), layout="NHWC", dtype="float32", *, seed=0, **change):
    """A case called op/name/dtype; `shape` is (N, positions ..., C), whatever the layout.

    Ordinary values: x with mean 3.1 and deviation 1.9, dy normal, gamma around 1, beta around 0; running values unlike
    those of the batch. `change` may have
        offset, scale    of x; or x, a function of the draws and the shape that returns x channels last
        dy, gamma, beta  likewise functions of the draws and the shape; None leaves gamma or beta out
        before           training steps that come first; training=False: the judged forward is inference
        batches          statistics batches (kn, bn); groups; eps, decay, r_max, d_max
        state            running values by name, in place of ordinary ones: arrays or functions
        prior            False: the first normalizer of a chain. transition "matrix", "diagonal", array or function
        previous         channels of the previous normalizer
        gain, noise, previous_mean, previous_var    arrays or functions
        destimate_mean, destimate_var               likewise; None leaves one out
        view, unjudged, kills   see Case
    """
    unknown = change.keys() - CHANGES
    if unknown:
        raise TypeError(f"case {op}/{name} got {', '.join(sorted(unknown))}; expected {', '.join(sorted(CHANGES))}")
    if len(shape) != len(layout):
        raise ValueError(f"case {op}/{name} has shape {shape}; expected {len(layout)} axes for layout {layout}")
    draws = Draws(f"{op}/{name}", seed)
    parameters = dtype if dtype in ("float64", "float32") else "float32"
    n, c, batches = shape[0], shape[-1], change.get("batches", 1)

    def maps(key="x"):
        make = change.get(key) or ORDINARY[key]
        if key == "x" and "x" not in change:
            a = change.get("offset", MEAN) + change.get("scale", DEVIATION) * draws.normal(*shape)
        else:
            a = make(draws, shape)
        return rounded(np.ascontiguousarray(np.moveaxis(a, -1, channel_axis(layout))), dtype)

    def parameter(a):
        return rounded(a, parameters)

    tensors = {"x": maps()}
    for key in ("gamma", "beta"):
        make = change.get(key, ORDINARY[key])
        if make is not None:
            tensors[key] = parameter(make(draws, (c,)))
    upstream = {"dy": maps("dy")}
    params = {"eps": change.get("eps", 1e-5)}
    if batches > 1:
        params["statistics_batches"] = batches
    if op in STATEFUL:
        params["decay"] = change.get("decay", 0.9)
    if op in ("gn", "gkn"):
        params["groups"] = change.get("groups", 3)
    if op == "brn":
        params |= {"r_max": change.get("r_max", 1.5), "d_max": change.get("d_max", 0.5)}
    if op in ("kn", "gkn"):
        _prior(op, draws, change, tensors, upstream, params, parameter, c, n)
    state = {}
    if op in STATEFUL:
        second = "running_std" if op == "brn" else "running_var"
        ordinary = {"running_mean": draws.normal(c), second: draws.uniform(0.5, 3, c)}
        if op == "brn":  # it contains eps in training: less than eps^(1/2) is nobody's, and some floor it
            ordinary[second] = np.sqrt(ordinary[second] ** 2 + params["eps"])
        state = ordinary | change.get("state", {})
        state = {key: parameter(np.broadcast_to(_made(a, draws, (c,)), (c,))) for key, a in state.items()}
    before = tuple(maps() for _ in range(change.get("before", 0)))
    training, view = change.get("training", True), change.get("view")
    unjudged, kills = tuple(change.get("unjudged", ())), tuple(change.get("kills", ()))
    full = f"{op}/{name}/{dtype}"
    return Case(full, op, why, dtype, layout, params, tensors, upstream, state, before, training, view, unjudged, kills)


ORDINARY = {
    "x": None,
    "dy": lambda draws, shape: 1.1 * draws.normal(*shape),
    "gamma": lambda draws, shape: 1 + draws.normal(*shape) / 2,
    "beta": lambda draws, shape: draws.normal(*shape),
}


def _prior(op, draws, change, tensors, upstream, params, parameter, c, n):
    """The tensors of a Kalman normalizer: what comes from the previous one, and what comes back from the next."""
    size = c if op == "kn" else params["groups"]
    lead = (n,) if op == "gkn" else (change["batches"],) if change.get("batches", 1) > 1 else ()
    if change.get("prior", True):
        transition = change.get("transition", "matrix")
        previous = (
            size if isinstance(transition, str) and transition == "diagonal" else change.get("previous", size + 1)
        )
        if callable(transition):
            ordinary = transition(draws, (size, previous))
            previous = ordinary.shape[-1]
        elif isinstance(transition, str):
            ordinary = (
                draws.normal(size) if transition == "diagonal" else draws.normal(size, previous) / np.sqrt(previous)
            )
        else:
            ordinary, previous = np.asarray(transition, float), np.shape(transition)[-1]
        given = {
            "previous_mean": 2 + draws.normal(*lead, previous),
            "previous_var": draws.uniform(0.5, 3, *lead, previous),
            "transition": ordinary,
            "noise": draws.uniform(0.1, 0.6, size),
            "gain": draws.uniform(0.1, 0.9, size),
        }
        special = [key for key in given if key in change and key != "transition"]
        given |= {key: _made(change[key], draws, given[key].shape) for key in special}
        tensors |= {key: parameter(a) for key, a in given.items()}
    for key in ("destimate_mean", "destimate_var"):
        make = change.get(key, ORDINARY["dy"])
        if make is not None:
            upstream[key] = parameter(_made(make, draws, (*lead, size)))


def _made(value, draws, shape):
    """An array, or what a function makes of the draws and the shape."""
    return value(draws, shape) if callable(value) else np.asarray(value, float)
