"""The options of KalmanNorm that belong to one variant or two, with their choices and defaults."""

import numpy as np

from .. import _arguments
from ..transport.push import MODES
from .transition import NOISE_FORMS, TRANSITIONS

# variant -> the options that it has, each with its choices (the first is the default), or None where a number
# (for seed also several) will do
OPTIONS = {
    "learned": {"transition": TRANSITIONS, "noise": None, "noise_form": NOISE_FORMS},
    "analytic": {"push": MODES, "shortcut": ("posterior", "prior")},
    "released": {
        "shortcut": ("posterior", "prior"),
        "channel_padding": ("per_batch", "concatenated"),
        "running_from": ("all", "first"),
        "guard": None,
        "seed": None,
    },
    "filter": {"transition": ("full", "diagonal"), "noise": None, "noise_form": NOISE_FORMS[:2]},
}
AS_RELEASED = {"shortcut": "prior", "channel_padding": "concatenated", "running_from": "first", "guard": 100.0}


def choice(name, value, choices, where=""):
    """`value` if it is one of the choices, else ValueError."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, choices))}{where}")
    return value


def chosen(variant, given, preset):
    """The options of a variant, each with its value: what is given and not None, the preset's, or the default.

    Raises: ValueError for an option that the variant does not have, a value that is none of its choices, a preset of
    another variant.
    """
    known, given = OPTIONS[variant], {name: value for name, value in given.items() if value is not None}
    if preset is not None:
        if variant != "released":
            raise ValueError(f"preset is {preset!r}; expected none, since the variant {variant!r} has no preset")
        choice("preset", preset, ("as_released",))
        given = AS_RELEASED | given
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"{name} is {value!r}; expected none, since the variant {variant!r} has no {name}")
        if known[name]:
            choice(name, value, known[name], f" for the variant {variant!r}")
    if "guard" in given:
        given["guard"] = _arguments.number("guard", given["guard"], 0)
    options = {name: choices[0] if choices else None for name, choices in known.items()} | given
    if "seed" in options:
        seeds = np.atleast_1d(0 if options["seed"] is None else options["seed"]).tolist()
        options["seed"] = [_arguments.whole("seed", seed, 0) for seed in seeds]
    return options
