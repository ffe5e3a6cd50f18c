"""What a seeded bug is, and how one formula serves several steps."""

import inspect
from typing import NamedTuple

ALL = ("bn", "brn", "kn", "gn", "gkn")
BATCH = ("bn", "brn", "kn")  # moments over the batch, and running values
KALMAN = ("kn", "gkn")


class Change(NamedTuple):
    """A change of one or more steps of some operations (see steps.py)."""

    name: str  # short, in words with hyphens: "dx-lacks-projection"
    text: str  # what is wrong, as a report says it: "dx lacks the projection term"
    ops: tuple  # of "bn", "brn", "kn", "gn", "gkn"
    steps: dict  # by the name of a function in steps.py, its other body
    convention: bool = False


def change(name, text, *ops, **steps):
    """A Change; `steps` are the other bodies, functions whose parameters are names of earlier values."""
    return Change(name, text, ops, steps)


def renamed(f, **names):
    """A step with the formula `f`, which calls the value names[n] by the name n."""
    parameters = [names.get(n, n) for n in inspect.signature(f).parameters]

    def step(**given):
        return f(*(given[n] for n in parameters))

    kind = inspect.Parameter.KEYWORD_ONLY
    step.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in parameters])
    return step


def observing(mean=None, var=None):
    """The moments of the batch, for every operation: `mean` and `var` as in shared_steps.py."""
    steps = {}
    if mean is not None:
        steps |= {"mean": mean, "observed_mean": mean}
    if var is not None:
        steps |= {"var": var, "observed_var": renamed(var, mean="observed_mean")}
    return steps


TERMS = {"dx": "renorm_dx", "mean_dx_hat": "mean_g", "projection": "projection_on_z"}


def terms(**formulas):
    """Steps of dx, written for batch normalization; in batch renormalization g and z are where dx_hat and x_hat are."""
    in_renorm = {"dx_hat": "g", "mean_dx_hat": "mean_g", "x_hat": "z"}
    return formulas | {TERMS[name]: renamed(f, **in_renorm) for name, f in formulas.items()}


def averaging(f):
    """Moments, and the means of dx, by f(values, average, images) in the place of average(values)."""
    moments = observing(
        mean=lambda x, average, images: f(x, average, images),
        var=lambda x, mean, average, images: f((x - mean) ** 2, average, images),
    )
    return moments | terms(
        mean_dx_hat=lambda dx_hat, average, images: f(dx_hat, average, images),
        projection=lambda dx_hat, x_hat, average, images: f(dx_hat * x_hat, average, images),
    )


def running(f, *statistics):
    """The new running values by f(old, new, ...), where `new` are the statistics; of all, or of the named ones only."""
    return {
        f"next_{name}": renamed(f, old=f"running_{name}", new=name) for name in statistics or ("mean", "var", "std")
    }
