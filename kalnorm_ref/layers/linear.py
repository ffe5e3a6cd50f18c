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

    def __init__(self, c_in, c_out, bias=True, *, scale=1.0, rng=0, dtype=np.float32):
        weight = np.random.default_rng(rng).normal(0, np.sqrt(scale / c_in), (c_in, c_out)).astype(dtype)
        super().__init__(weight=weight, **({"bias": np.zeros(c_out, dtype)} if bias else {}))

    def forward(self, x, training=False):
        x, weight = _arguments.array("x", x), self.params["weight"]
        if x.ndim != 2 or x.shape[1] != weight.shape[0]:
            raise ValueError(f"x has shape {x.shape}; expected (N, {weight.shape[0]}), examples then features")
        self.keep(x)
        y = x @ weight
        return y + self.params["bias"] if "bias" in self.params else y

    def backward(self, dy):
        (x,) = self.take()
        self.grads["weight"] = x.T @ dy
        if "bias" in self.params:
            self.grads["bias"] = dy.sum(axis=0)
        return dy @ self.params["weight"].T

    def transport(self, moments):
        return transport.linear(moments, self.params["weight"], self.params.get("bias"))

    def transport_backward(self, dmoments, moments):
        destimate, *dparams = transport.linear_backward(
            dmoments, moments, self.params["weight"], self.params.get("bias")
        )
        for name, d in zip(("weight", "bias"), dparams, strict=True):
            if d is not None:
                self.grads[name] = self.grads[name] + d.astype(self.grads[name].dtype, copy=False)
        return destimate


class Flatten(Layer):
    """(N, H, W, C) to (N, H W C); a map's moments are repeated for each of its positions."""

    def forward(self, x, training=False):
        self.keep(x.shape)
        self.positions = int(np.prod(x.shape[1:-1]))
        return x.reshape(len(x), -1)

    def backward(self, dy):
        (shape,) = self.take()
        return dy.reshape(shape)

    def transport(self, moments):
        return Moments(*(np.tile(s, self.positions) for s in moments))

    def transport_backward(self, dmoments, moments):
        return Moments(*(d.reshape(*d.shape[:-1], self.positions, -1).sum(axis=-2) for d in dmoments))
