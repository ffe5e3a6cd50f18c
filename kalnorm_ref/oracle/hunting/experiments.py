"""Experiments that anybody can do with a forward and a backward: each says in words what to try, and does it.

The measure of an experiment is 0, but for rounding, where nothing is wrong that it can see.
"""

from typing import NamedTuple

import numpy as np

from ..draws import Draws

PASSES, FAILS = 1e-6, 1e-3  # measures of a quotient of differences, and of a bug
STEP = 1e-5


class Experiment(NamedTuple):
    """Something to try."""

    text: str  # what to do, and what has to come out
    measure: object  # (method, forward, backward) to a number


def batch(method, m=7, channels=5, seed=0, **fixed):
    """Arguments by name: x with a mean far from 0, gamma of both signs, eps not small."""
    draws = Draws("hunting", seed)
    a = {"x": 3 + 2 * draws.normal(m, channels), "gamma": draws.normal(channels), "beta": draws.normal(channels)}
    a |= {"dy": 0.5 + draws.normal(m, channels), "eps": 0.125}
    own = {"r": draws.uniform(0.5, 2, channels), "d": draws.normal(channels)}
    own |= {"prior_mean": 3 + draws.normal(channels), "prior_var": draws.uniform(1, 6, channels), "gain": 0.375}
    return a | {name: own[name] for name in method.extra} | fixed


def forwards(method, forward, a):
    """forward, of arguments by name."""
    return forward(a["x"], a["gamma"], a["beta"], *(a[name] for name in method.extra), eps=a["eps"])


def backwards(method, backward, a):
    """The gradients by name."""
    given = backward(a["dy"], a["x"], a["gamma"], *(a[name] for name in method.extra), eps=a["eps"])
    return dict(zip(method.gradients, given, strict=True))


def _off(got, want):
    got, want = np.asarray(got), np.asarray(want)
    return float(np.max(np.abs(got - want)) / max(np.max(np.abs(want)), 1e-3))


def _slopes(name):
    """A gradient against quotients of differences of the forward."""

    def measure(method, forward, backward):
        a = batch(method)
        argument = name[1:]
        if name not in method.gradients:
            return 0.0
        slopes = np.zeros_like(np.asarray(a[argument], float))
        for index in np.ndindex(slopes.shape):
            step = np.zeros_like(slopes)
            step[index] = STEP
            ahead, behind = (
                np.sum(a["dy"] * forwards(method, forward, a | {argument: a[argument] + sign * step}))
                for sign in (1, -1)
            )
            slopes[index] = (ahead - behind) / (2 * STEP)
        return _off(backwards(method, backward, a)[name], slopes)

    return Experiment(
        f"Compare {name} of backward with quotients of differences of forward, element by element of {name[1:]}. They "
        "have to agree.",
        measure,
    )


def _by_hand(method, forward, backward):
    """x = 1 and 3, and all else so that the moments are 2 and 1."""
    plain = {"x": np.array([[1.0], [3.0]]), "gamma": np.ones(1), "beta": np.zeros(1), "eps": 0.0}
    plain |= {"r": np.ones(1), "d": np.zeros(1), "prior_mean": np.full(1, 2.0), "prior_var": np.ones(1), "gain": 0.5}
    return _off(forwards(method, forward, plain), [[-1.0], [1.0]])


def _eps(method, forward, backward):
    plain = {"x": np.array([[1.0], [3.0]]), "gamma": np.ones(1), "beta": np.zeros(1), "eps": 3.0}
    plain |= {"r": np.ones(1), "d": np.zeros(1), "prior_mean": np.full(1, 2.0), "prior_var": np.ones(1), "gain": 0.5}
    return _off(forwards(method, forward, plain), [[-0.5], [0.5]])


def _corrected(method, forward, backward):
    if "r" not in method.extra:
        return 0.0
    plain = {"x": np.array([[1.0], [3.0]]), "gamma": np.ones(1), "beta": np.zeros(1), "eps": 0.0}
    return _off(forwards(method, forward, plain | {"r": np.full(1, 2.0), "d": np.ones(1)}), [[-1.0], [3.0]])


def _exchange(method, forward, backward):
    a = batch(method)
    order = np.roll(np.arange(len(a["x"])), 3)
    return _off(forwards(method, forward, a | {"x": a["x"][order]}), forwards(method, forward, a)[order])


def _exchange_back(method, forward, backward):
    a = batch(method)
    order = np.roll(np.arange(len(a["x"])), 3)
    one = backwards(method, backward, a)
    other = backwards(method, backward, a | {"x": a["x"][order], "dy": a["dy"][order]})
    return max(_off(other[n], one[n][order] if n == "dx" else one[n]) for n in method.gradients)


def _channel(method, forward, backward):
    """The first channel alone against the first channel among others."""
    a = batch(method)
    alone = {name: v[..., :1] if np.ndim(v) else v for name, v in a.items()}
    return _off(forwards(method, forward, alone), forwards(method, forward, a)[:, :1])


def _channel_back(method, forward, backward):
    a = batch(method)
    alone = {name: v[..., :1] if np.ndim(v) else v for name, v in a.items()}
    one, other = backwards(method, backward, alone), backwards(method, backward, a)
    return max(_off(one[n], other[n][..., :1]) for n in method.gradients if n != "dgain")


def _beta(method, forward, backward):
    a = batch(method)
    return _off(forwards(method, forward, a | {"beta": a["beta"] + 1}) - forwards(method, forward, a), np.ones(1))


def _gamma_sign(method, forward, backward):
    a = batch(method, beta=np.zeros(5))
    return _off(forwards(method, forward, a | {"gamma": -a["gamma"]}), -forwards(method, forward, a))


def _gamma_back(method, forward, backward):
    a = batch(method)
    one, other = backwards(method, backward, a), backwards(method, backward, a | {"gamma": -2 * a["gamma"]})
    return max(_off(other["dx"], -2 * one["dx"]), _off(other["dgamma"], one["dgamma"]))


def _dx_sum(method, forward, backward):
    """Moving x and the prior's mean together changes nothing."""
    found = backwards(method, backward, batch(method))
    total = found["dx"].sum(axis=0) + found.get("dprior_mean", 0)
    return float(np.max(np.abs(total)) / np.max(np.abs(found["dx"])))


def _twice(method, forward, backward):
    a = batch(method)
    double = a | {"x": np.concatenate([a["x"], a["x"]])}
    return _off(forwards(method, forward, double)[: len(a["x"])], forwards(method, forward, a))


def _as_batch_norm(method, forward, backward):
    """With gain 1 the prior does not matter."""
    if "gain" not in method.extra:
        return 0.0
    a = batch(method, gain=1.0)
    other = a | {"prior_mean": a["prior_mean"] + 5, "prior_var": 2 * a["prior_var"]}
    return _off(forwards(method, forward, other), forwards(method, forward, a))


def _prior_alone(method, forward, backward):
    if "gain" not in method.extra:
        return 0.0
    a = batch(method, gain=0.0)
    want = a["gamma"] * (a["x"] - a["prior_mean"]) / np.sqrt(a["prior_var"] + a["eps"]) + a["beta"]
    return _off(forwards(method, forward, a), want)


EXPERIMENTS = (
    Experiment(
        "One channel, x = 1 and 3, gamma 1, beta 0, eps 0 (and r = 1, d = 0; prior mean 2, prior variance 1, gain 0.5, "
        "where they exist): y has to be -1 and 1.",
        _by_hand,
    ),
    Experiment("The same two numbers with eps = 3: y has to be -0.5 and 0.5.", _eps),
    Experiment("The same two numbers with eps = 0, r = 2 and d = 1: y has to be -1 and 3.", _corrected),
    Experiment("Change the order of the samples: y has to change its order with them.", _exchange),
    Experiment("Give every sample twice: y of the first half has to stay as it was.", _twice),
    Experiment("Normalize the first channel alone: its y has to be what it is among the others.", _channel),
    Experiment("Add 1 to beta: every y has to grow by 1.", _beta),
    Experiment("Take beta = 0 and turn the sign of gamma: y has to turn its sign.", _gamma_sign),
    Experiment("Take the gain 1 and another prior: y has to stay as it was.", _as_batch_norm),
    Experiment("Take the gain 0: y has to be x standardized with the prior's mean and variance.", _prior_alone),
    Experiment(
        "Change the order of the samples of x and dy together: dx has to change its order with them, the other "
        "gradients have to stay.",
        _exchange_back,
    ),
    Experiment(
        "Run backward on the first channel alone: its gradients have to be what they are among the others.",
        _channel_back,
    ),
    Experiment("Multiply gamma by -2: dx has to be multiplied by -2, and dgamma has to stay.", _gamma_back),
    Experiment(
        "Add up dx over the samples (and dprior_mean, where there is a prior): moving them all together changes "
        "nothing, so the sum has to vanish.",
        _dx_sum,
    ),
    *(_slopes(name) for name in ("dbeta", "dgamma", "dx", "dprior_mean", "dprior_var", "dgain")),
)
