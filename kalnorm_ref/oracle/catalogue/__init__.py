"""The catalogue of cases: chosen questions to a normalizer, each with the reason why it is asked."""

from importlib import import_module
from itertools import chain

from ..case import OPS
from .questions import TIERS


def cases(op=None, tier="core", seed=0):
    """The cases of one operation, or of all in the order of OPS, made one by one as they are asked for.

    tier: "core", small and fixed; "extended", larger and with other draws. seed: of all draws; ids do not hold it.
    """
    if op not in (None, *OPS):
        raise ValueError(f"op is {op!r}; expected None or one of {', '.join(OPS)}")
    if tier not in TIERS:
        raise ValueError(f"tier is {tier!r}; expected one of {', '.join(TIERS)}")
    ops = OPS if op is None else (op,)
    return chain.from_iterable(import_module(f".{name}", __name__).cases(tier, seed) for name in ops)
