"""How a Kalman normalizer's gain q is held and trained.

constant             q
learned              q = sigmoid(w), one w for the layer ;  dw = q (1 - q) dq
learned_per_channel  the same, one w for each channel
pseudo_count         q = m / (m + n0) ,  n0 = n_start e^w ;  dw = -q (1 - q) dq                                 (A3)
"""

import numpy as np

from .. import _arguments

GAINS = ("constant", "learned", "learned_per_channel", "pseudo_count")


class Gain:
    """The gain of one layer; its parameter and its state live in the layer's dicts, given to each method.

    `initial` is the value at which q starts; a pseudo-count starts where the first training batch has that gain, and
    then adapts to the number m of samples in a statistics batch by itself.
    """

    def __init__(self, kind, initial):
        self.kind, self.initial = kind, _arguments.number("gain", initial, 0, 1, "a value in [0, 1]")
        if kind != "constant" and not 0 < self.initial < 1:
            raise ValueError(f"gain is {self.initial:g}; expected a value strictly between 0 and 1 to be trained")

    def start(self, channels, dtype):
        """(params, counters) at the beginning."""
        if self.kind == "constant":
            return {}, {}
        if self.kind == "pseudo_count":
            return {"log_pseudo_count": np.zeros((), dtype)}, {"pseudo_count_start": np.zeros(())}
        shape = (channels,) if self.kind == "learned_per_channel" else ()
        return {"gain_logit": np.full(shape, np.log(self.initial / (1 - self.initial)), dtype)}, {}

    def value(self, params, counters, m, training=False):
        """q for statistics batches of m samples. The first training call fixes n_start of a pseudo-count."""
        if self.kind == "constant":
            return self.initial
        with np.errstate(over="ignore"):
            if self.kind != "pseudo_count":
                return 1 / (1 + np.exp(-params["gain_logit"]))
            usual = m * (1 - self.initial) / self.initial  # the n0 with which q is the initial gain
            start = counters["pseudo_count_start"]
            if training and start == 0:
                start[...] = usual
            n0 = (start or usual) * np.exp(params["log_pseudo_count"])  # before training as in the first batch
            return 1 / (1 + n0 / m)

    def backward(self, dgain, q):
        """Gradient to the parameter, by name."""
        if self.kind == "constant" or dgain is None:
            return {}
        if self.kind == "pseudo_count":
            return {"log_pseudo_count": -q * (1 - q) * dgain}
        return {"gain_logit": q * (1 - q) * dgain}
