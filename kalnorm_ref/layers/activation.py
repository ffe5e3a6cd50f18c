"""ReLU and dropout."""

import numpy as np

from .. import _arguments, transport
from ..maps import relu_backward, relu_forward
from ..transport.activation import relu_and_slopes, relu_from_slopes
from .base import Layer


class ReLU(Layer):
    """y = max(x, 0) ; dx = 0 where x <= 0, else dy: NaN passes. The sign of a complex x is that of its real part."""

    def __init__(self):
        super().__init__()
        self._slopes = None  # of the last transport

    def forward(self, x, training=False):
        y = relu_forward(x)
        return self.keep(y, y)

    def backward(self, dy):
        (y,) = self.take(dy)
        return relu_backward(dy, y)

    def transport(self, moments):
        moments, self._slopes = relu_and_slopes(moments)
        return moments

    def transport_backward(self, dmoments, moments):
        slopes, self._slopes = self._slopes, None
        if slopes is None:
            raise RuntimeError("ReLU.transport_backward needs a transport before it; each serves one backward")
        return relu_from_slopes(dmoments, moments, slopes)


class Dropout(Layer):
    """Inverted dropout: in training each value is kept with probability `keep` and divided by it, else it is 0.

    The draws are a function of the seed and of the number of training forwards so far, so that a resumed run repeats
    them. Reference: Srivastava et al. 2014, JMLR 15.
    """

    def __init__(self, keep, seed):
        super().__init__()
        self.keep_probability = _arguments.number("keep", keep, np.finfo(float).tiny, 1, "a probability in (0, 1]")
        self.counters["seed"] = np.array(_arguments.whole("seed", seed, 0), np.int64)
        self.counters["step"] = np.zeros((), np.int64)

    def forward(self, x, training=False):
        if not training:
            return self.keep(x, None)
        draws = np.random.default_rng([int(self.counters[name]) for name in ("seed", "step")]).random(x.shape)
        self.counters["step"] += 1
        factor = (draws < self.keep_probability).astype(x.real.dtype) / x.real.dtype.type(self.keep_probability)
        return self.keep(x * factor, factor)

    def backward(self, dy):
        (factor,) = self.take(dy)
        return dy if factor is None else dy * factor

    def carry(self, x, estimate, training=False):
        self.training = training
        return super().carry(x, estimate, training)

    def transport(self, moments):
        return transport.dropout(moments, self.keep_probability) if self.training else moments

    def transport_backward(self, dmoments, moments):
        return transport.dropout_backward(dmoments, moments, self.keep_probability) if self.training else dmoments
