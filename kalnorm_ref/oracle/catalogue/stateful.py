"""Questions to normalizers with running values: what they average, when, and how inference takes them."""

from . import values as v
from .questions import ask

SHAPE = (3, 2, 2, 5)


def running():
    steps = {"x": v.unlike_steps}
    why = "Six steps whose batches differ: what the running values average, and before or after which use."
    yield ask("sequence", why, SHAPE, "float64", "float32", "bfloat16", before=5, **steps)
    why = "Twenty-one steps: a mistake of parts in a thousand adds up."
    yield ask("long-sequence", why, (3, 2, 5), "float64", before=20, **steps)
    why = "decay is the weight of the old value: 0 replaces it, where others freeze it."
    yield ask("decay-0", why, SHAPE, before=2, decay=0.0, **steps)
    why = "decay 1 freezes the running values, where others replace them."
    yield ask("decay-1", why, SHAPE, before=2, decay=1.0, **steps)
    why = "Slow averages: a lost update is small, and must be seen all the same."
    yield ask("decay-0.99", why, SHAPE, before=5, decay=0.99, **steps)
    why = "decay None weighs every batch alike, whatever the initial values; a counter one off does not."
    yield ask("cumulative", why, SHAPE, before=3, decay=None, **steps)
    why = "The first step of a cumulative average forgets the initial values."
    yield ask("cumulative-first", why, SHAPE, decay=None)
    why = "The running values as they are, without an update; and dx has no path through the batch."
    yield ask("inference", why, SHAPE, "float32", "bfloat16", training=False)
    why = "A large eps: added once where the running value is a variance, not again where it is a deviation."
    yield ask("inference-eps-1", why, SHAPE, "float32", "bfloat16", training=False, eps=1.0)
    why = "Inference with what five training steps left."
    yield ask("inference-after-training", why, SHAPE, before=5, training=False, **steps)
    why = "Inference without gamma and beta: another path."
    yield ask("inference-no-parameters", why, SHAPE, training=False, gamma=None, beta=None)
