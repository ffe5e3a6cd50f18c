"""Questions: what to ask and why; each is asked small in the core, larger and with other draws in the extended tier."""

from typing import NamedTuple

from ..case import UNITS
from .build import case

TIERS = ("core", "extended")
BY_RANK = {2: "NC", 3: "NLC", 4: "NHWC", 5: "NDHWC"}
LARGE = {2: (256, 48), 3: (16, 50, 48), 4: (8, 9, 11, 48), 5: (4, 3, 5, 7, 48)}
FURTHER_SEEDS = 2
ALL = tuple(UNITS)


class Question(NamedTuple):
    """One row of the catalogue."""

    name: str
    why: str
    shape: tuple
    layout: str
    dtypes: tuple  # in the core
    more: tuple  # in the extended tier
    large: tuple | None  # the larger shape; None: it is not asked larger
    larger: dict  # what else changes then
    change: dict  # as in build.case

    def case(self, op, dtype, seed, suffix="", **change):
        """It as a case."""
        given = {"shape": self.shape, "layout": self.layout} | self.change | change
        return case(op, self.name + suffix, self.why, dtype=dtype, seed=seed, **given)


def ask(name, why, shape, *dtypes, layout=None, more=ALL, large=(), larger=None, **change):
    """A Question: float32, channels last and the shape of LARGE where nothing else is said."""
    rank = len(shape)
    large = LARGE[rank] if large == () else large
    return Question(
        name, why, shape, layout or BY_RANK[rank], dtypes or ("float32",), more, large, larger or {}, change
    )


def asked(op, questions, tier, seed):
    """The cases of a tier, each made when it is asked for."""
    for q in questions:
        if tier == "core":
            yield from (q.case(op, dtype, seed) for dtype in q.dtypes)
            continue
        for other in range(seed + 1, seed + 1 + FURTHER_SEEDS):
            yield from (q.case(op, dtype, other, f"-seed-{other}") for dtype in q.more)
        if q.large is not None:
            yield from (q.case(op, dtype, seed, "-large", shape=q.large, **q.larger) for dtype in q.more)
