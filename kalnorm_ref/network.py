"""Networks: layers in sequence and residual blocks, which carry estimates forwards and their gradients backwards."""

from itertools import pairwise

from .layers.activation import ReLU
from .layers.base import Identity, Layer
from .layers.kalman import KalmanNorm, plus
from .layers.pooling import MaxPool2d
from .transport import add, add_backward


class Container(Layer):
    """A layer made of named layers; params, grads, running and state are flat dicts of live arrays."""

    def __init__(self, **children):
        self.children = children

    def _collect(self, of):
        return {f"{name}.{key}": a for name, child in self.children.items() for key, a in of(child).items()}

    @property
    def params(self):
        return self._collect(lambda child: child.params)

    @property
    def grads(self):
        return self._collect(lambda child: child.grads)

    @property
    def running(self):
        return self._collect(lambda child: child.running)

    def state(self):
        return self._collect(lambda child: child.state())

    def astype(self, dtype):
        for child in self.children.values():
            child.astype(dtype)
        return self

    def forward(self, x, training=False):
        return self.carry(x, None, training)[0]

    def backward(self, dy):
        return self.carry_backward(dy, None)[0]


class Sequential(Container):
    """Layers one after the other. A path is the layer's index, then the parameter's name: "3.weight".

    A ReLU followed by a MaxPool2d runs in the other order: the two commute, and a Gaussian is pooled before it is
    rectified, as the closed form needs (C3).
    """

    def __init__(self, *layers):
        super().__init__(**{str(i): layer for i, layer in enumerate(layers)})
        order = list(layers)
        for i, (first, second) in enumerate(pairwise(layers)):
            if isinstance(first, ReLU) and isinstance(second, MaxPool2d):
                order[i], order[i + 1] = second, first
        self.order = tuple(order)

    @property
    def layers(self):
        return tuple(self.children.values())

    def carry(self, x, estimate, training=False):
        for layer in self.order:
            x, estimate = layer.carry(x, estimate, training)
        return x, estimate

    def carry_backward(self, dy, dmoments):
        for layer in reversed(self.order):
            dy, dmoments = layer.carry_backward(dy, dmoments)
        return dy, dmoments


class Residual(Container):
    """y = main(x) + shortcut(x), with paths "main." and "shortcut.".

    Estimates: where they are transformed (analytic, released), both branches do it and the join adds them; a Kalman
    normalizer at the head of the main branch has seen x itself, so the shortcut takes its posterior (or, as an option
    of that layer, the incoming prior). Where they are handed on (learned), the join keeps the main branch's.
    """

    def __init__(self, main, shortcut=None):
        super().__init__(main=main, shortcut=Identity() if shortcut is None else shortcut)
        layers = main.order if isinstance(main, Sequential) else (main,)
        self.head = layers[0] if layers and isinstance(layers[0], KalmanNorm) else None
        self.body = layers[1:] if self.head else layers
        self._joined = None

    def carry(self, x, estimate, training=False):
        y, main, kept = self.head.fork(x, estimate, training) if self.head else (x, estimate, estimate)
        for layer in self.body:
            y, main = layer.carry(y, main, training)
        skip, side = self.children["shortcut"].carry(x, kept, training)
        self._joined = None
        if main is not None and side is not None and main.travel != "held":
            self._joined = main.moments, side.moments
            main = main._replace(moments=add(*self._joined))
        return y + skip, main

    def carry_backward(self, dy, dmoments):
        dmain, dside = dmoments, None
        if self._joined is not None and dmoments is not None:
            dmain, dside = add_backward(dmoments, *self._joined)
        dskip, dkept = self.children["shortcut"].carry_backward(dy, dside)
        for layer in reversed(self.body):
            dy, dmain = layer.carry_backward(dy, dmain)
        if self.head:
            dx, darrived = self.head.fork_backward(dy, dmain, dkept)
        else:
            dx, darrived = dy, plus(dmain, dkept)
        return dx + dskip, darrived
