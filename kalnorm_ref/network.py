"""Networks: layers in sequence and residual blocks, which carry estimates forwards and their gradients backwards."""

from itertools import pairwise

from . import transport
from .backend import new_buffers, reusing
from .layers.activation import ReLU
from .layers.base import Identity, Layer, Normalizer
from .layers.kalman import KalmanNorm, plus
from .layers.pooling import MaxPool2d
from .maps import add


class Container(Layer):
    """A layer made of named layers; params, grads, running and state are flat dicts of live arrays."""

    def __init__(self, **children):
        self.children = children
        self.buffers = new_buffers()

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
        with reusing(self.buffers):
            return self.carry(x, None, training)[0]

    def backward(self, dy):
        with reusing(self.buffers):
            return self.carry_backward(dy, None)[0]


class Rectified:
    """A normalizer and the ReLU behind it, run as one layer: the normalizer rectifies, the ReLU sees to the estimate."""

    def __init__(self, norm, relu):
        self.norm, self.relu = norm, relu

    def carry(self, x, estimate, training=False):
        return self._rectifying(self.norm.carry, x, estimate, training)

    def fork(self, x, estimate, training=False):
        return self._rectifying(self.norm.fork, x, estimate, training)

    def _rectifying(self, run, x, estimate, training):
        self.norm.rectifies = True
        try:
            y, main, *side = run(x, estimate, training)
        finally:
            self.norm.rectifies = False
        return y, self.relu.carry_estimate(main), *side

    def carry_backward(self, dy, dmoments):
        return self.norm.carry_backward(dy, self.relu.carry_estimate_backward(dmoments))

    def fork_backward(self, dy, dmain, dside):
        return self.norm.fork_backward(dy, self.relu.carry_estimate_backward(dmain), dside)


class Sequential(Container):
    """Layers one after the other. A path is the layer's index, then the parameter's name: "3.weight".

    A ReLU followed by a MaxPool2d runs in the other order: the two commute, and a Gaussian is pooled before it is
    rectified, as the closed form needs (C3). A normalizer followed by a ReLU runs as one: see rectified.py.
    """

    def __init__(self, *layers):
        super().__init__(**{str(i): layer for i, layer in enumerate(layers)})
        order = list(layers)
        for i, (first, second) in enumerate(pairwise(layers)):
            if isinstance(first, ReLU) and isinstance(second, MaxPool2d):
                order[i], order[i + 1] = second, first
        self.order = tuple(paired(order))

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


def paired(layers):
    """The layers, each normalizer with a ReLU behind it as one."""
    pairs = []
    for layer in layers:
        if pairs and isinstance(layer, ReLU) and isinstance(pairs[-1], Normalizer):
            pairs[-1] = Rectified(pairs[-1], layer)
        else:
            pairs.append(layer)
    return pairs


class Residual(Container):
    """y = main(x) + shortcut(x), with paths "main." and "shortcut.".

    Estimates: where they are transformed (analytic, released), both branches do it and the join adds them; a Kalman
    normalizer at the head of the main branch has seen x itself, so the shortcut takes its posterior (or, as an option
    of that layer, the incoming prior). Where they are handed on (learned), the join keeps the main branch's.
    """

    def __init__(self, main, shortcut=None):
        super().__init__(main=main, shortcut=Identity() if shortcut is None else shortcut)
        layers = main.order if isinstance(main, Sequential) else (main,)
        first = layers[0] if layers else None
        self.head = first if isinstance(getattr(first, "norm", first), KalmanNorm) else None
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
            main = main._replace(moments=transport.add(*self._joined))
        return add(y, skip), main

    def carry_backward(self, dy, dmoments):
        dmain, dside = dmoments, None
        if self._joined is not None and dmoments is not None:
            dmain, dside = transport.add_backward(dmoments, *self._joined)
        dskip, dkept = self.children["shortcut"].carry_backward(dy, dside)
        for layer in reversed(self.body):
            dy, dmain = layer.carry_backward(dy, dmain)
        if self.head:
            dx, darrived = self.head.fork_backward(dy, dmain, dkept)
        else:
            dx, darrived = dy, plus(dmain, dkept)
        return add(dx, dskip), darrived
