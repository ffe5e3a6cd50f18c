"""The layer Conv2d, which holds a weight around the pure pair of convolution.py, and how moments pass through it."""

import numpy as np

from .. import _arguments, transport
from ..convolution import convolve, convolve_gradients
from .base import HandedDown, Layer


class Conv2d(Layer):
    """Convolution of NHWC maps with a weight (kh, kw, c_in, c_out) and, if asked, a bias.

    kernel k or (kh, kw); padding p or ((top, bottom), (left, right)). The weight starts normal with variance
    2 / (kh kw c_out), He fan-out; the bias at 0. `rng` is a generator or a seed.
    """

    plus = HandedDown(None)  # what the next forward adds to y, and then forgets: the shortcut of a residual block
    makes_dx = HandedDown(True)  # or not, in the next backward: nobody asks for the gradient to images

    def __init__(self, c_in, c_out, kernel, stride=1, padding=0, bias=False, *, rng=0, dtype=np.float64):
        kh, kw = kernel if np.shape(kernel) == (2,) else (kernel, kernel)
        for name, value in (("c_in", c_in), ("c_out", c_out), ("kernel", kh), ("kernel", kw)):
            _arguments.whole(name, value, 1)
        std = np.sqrt(2 / (kh * kw * c_out))
        weight = np.random.default_rng(rng).normal(0, std, (kh, kw, c_in, c_out)).astype(dtype)
        super().__init__(weight=weight, **({"bias": np.zeros(c_out, dtype)} if bias else {}))
        self.normalizer = None  # a network sets it: the one that reads y, in one statistics batch
        self.stride, self.padding = _arguments.whole("stride", stride, 1), _arguments.pads(padding)

    def forward(self, x, training=False):
        plus, self.plus = self.plus, None
        bias = self.params.get("bias")
        observe = training and self.normalizer is not None
        y, cache, observed = convolve(x, self.params["weight"], bias, self.stride, self.padding, plus, observe)
        if observe:
            self.normalizer.observed = observed
        self.input_size = x.shape[1:3]
        return self.keep(y, cache)

    def backward(self, dy):
        (cache,) = self.take(dy)
        wanted, self.makes_dx = self.makes_dx, True
        dx, dweight, dbias = convolve_gradients(dy, cache, wanted, self.grads["weight"])
        self.set_grads(weight=dweight, bias=dbias)
        return dx

    def transport(self, moments):
        moments = transport.conv2d(moments, self.params["weight"], self.stride, self.padding, self.input_size)
        return moments._replace(mean=moments.mean + self.params["bias"]) if "bias" in self.params else moments

    def transport_backward(self, dmoments, moments):
        arguments = moments, self.params["weight"], self.stride, self.padding, self.input_size
        destimate, dweight = transport.conv2d_backward(dmoments, *arguments)
        self.add_grads(weight=dweight, bias=dmoments.mean.sum(axis=0) if "bias" in self.params else None)
        return destimate

    def sample(self, moments, sampler):
        self._draws = sampler.draw(moments, *self.input_size)
        moments = transport.sampled(moments, self._draws, self.params["weight"], self.stride, self.padding)
        return moments._replace(mean=moments.mean + self.params["bias"]) if "bias" in self.params else moments

    def sample_backward(self, dmoments, moments, sampler):
        arguments = moments, self._draws, self.params["weight"], self.stride, self.padding
        destimate, _, dweight = transport.sampled_backward(dmoments, *arguments)
        self.add_grads(weight=dweight, bias=dmoments.mean.sum(axis=0) if "bias" in self.params else None)
        return destimate
