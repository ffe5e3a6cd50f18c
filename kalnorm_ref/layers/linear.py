"""The linear layer y = x W + b, and the flattening before it."""

import numpy as np

from .. import _arguments, transport
from ..moments import Moments
from .base import Layer


class Linear(Layer):
    """y = x W + b.

    Equations: dW = x^T dy ; db = sum dy ; dx = dy W^T.
    Shapes: x (N, c_in); W (c_in, c_out); b (c_out,) or none. W starts normal with variance `scale` / c_in (1 unless
        given; 2 before a ReLU is He's), b at 0.
    """

    def __init__(self, c_in, c_out, bias=True, *, scale=1.0, rng=0, dtype=np.float64):
        for name, value in (("c_in", c_in), ("c_out", c_out)):
            _arguments.whole(name, value, 1)
        weight = np.random.default_rng(rng).normal(0, np.sqrt(scale / c_in), (c_in, c_out)).astype(dtype)
        super().__init__(weight=weight, **({"bias": np.zeros(c_out, dtype)} if bias else {}))
        self.scale, self._fit = scale, None

    def fits_first_batch(self, seed):
        """Let the first batch decide on c_in: where it has other features, the weight is drawn anew from `seed`."""
        self._fit = seed

    def forward(self, x, training=False):
        x, weight = _arguments.array("x", x), self.params["weight"]
        if self._fit is not None and x.ndim == 2 and x.shape[1] != len(weight):
            fresh = Linear(x.shape[1], weight.shape[1], scale=self.scale, rng=self._fit, dtype=weight.dtype)
            self.params["weight"], self.grads["weight"] = weight, _ = fresh.params["weight"], fresh.grads["weight"]
        self._fit = None
        if x.ndim != 2 or x.shape[1] != weight.shape[0]:
            raise ValueError(f"x has shape {x.shape}; expected (N, {weight.shape[0]}), examples then features")
        self._examples = len(x)
        dtype = _arguments.common_type(x, *self.params.values())
        y = x.astype(dtype, copy=False) @ weight.astype(dtype, copy=False)
        return self.keep(y + self.params["bias"].astype(dtype, copy=False) if "bias" in self.params else y, x)

    def backward(self, dy):
        (x,) = self.take(dy)
        self.set_grads(weight=x.T @ dy, bias=dy.sum(axis=0) if "bias" in self.params else None)
        return dy @ self.params["weight"].T.astype(dy.dtype, copy=False)

    def transport(self, moments):
        return transport.linear(moments, self.params["weight"], self.params.get("bias"))

    def transport_backward(self, dmoments, moments):
        arguments = moments, self.params["weight"], self.params.get("bias")
        destimate, dweight, dbias = transport.linear_backward(dmoments, *arguments)
        self.add_grads(weight=dweight, bias=dbias)
        return destimate

    def sample(self, moments, sampler):
        """Of as many synthetic rows as a statistics batch has examples; the released code has convolutions only."""
        self._draws = sampler.draw(moments, -(-self._examples // len(moments.mean)), 1)
        moments = transport.sampled(moments, self._draws, self.params["weight"][None, None], 1, 0)
        return moments._replace(mean=moments.mean + self.params["bias"]) if "bias" in self.params else moments

    def sample_backward(self, dmoments, moments, sampler):
        arguments = moments, self._draws, self.params["weight"][None, None], 1, 0
        destimate, _, dweight = transport.sampled_backward(dmoments, *arguments)
        self.add_grads(weight=dweight[0, 0], bias=dmoments.mean.sum(axis=0) if "bias" in self.params else None)
        return destimate


class Flatten(Layer):
    """(N, H, W, C) to (N, H W C); a map's moments are repeated for each of its positions."""

    def forward(self, x, training=False):
        self.positions = int(np.prod(x.shape[1:-1]))
        return self.keep(x.reshape(len(x), -1), x.shape)

    def backward(self, dy):
        (shape,) = self.take(dy)
        return dy.reshape(shape)

    def transport(self, moments):
        return Moments(*(np.tile(s, self.positions) for s in moments))

    def transport_backward(self, dmoments, moments):
        return Moments(*(d.reshape(*d.shape[:-1], self.positions, -1).sum(axis=-2) for d in dmoments))

    def sample(self, moments, sampler):
        return self.transport(moments)

    def sample_backward(self, dmoments, moments, sampler):
        return self.transport_backward(dmoments, moments)
