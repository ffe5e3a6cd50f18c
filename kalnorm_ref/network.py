"""Networks: layers in sequence and residual blocks, which carry estimates forwards and their gradients backwards."""

from itertools import pairwise

from . import transport
from .backend import new_buffers, reusing
from .layers.activation import ReLU
from .layers.base import Identity, Layer, Normalizer
from .layers.convolution import Conv2d
from .layers.kalman import KalmanNorm, plus
from .layers.pooling import MaxPool2d
from .layers.statistics import BatchNormalizer
from .maps import add


class Container(Layer):
    """A layer made of named layers; params, grads, running and state are flat dicts of live arrays."""

    def __init__(self, **children):
        self.children = children
        self.leaves = {}  # by path: the layers that are no containers
        for name, child in children.items():
            inner = {"": child} if not isinstance(child, Container) else child.leaves
            self.leaves |= {f"{name}.{path}".removesuffix("."): leaf for path, leaf in inner.items()}
        self.buffers = new_buffers()

    @property
    def params(self):
        return {f"{path}.{key}": a for path, leaf in self.leaves.items() for key, a in leaf.params.items()}

    @property
    def grads(self):
        return {f"{path}.{key}": a for path, leaf in self.leaves.items() for key, a in leaf.grads.items()}

    @property
    def running(self):
        return {f"{path}.{key}": a for path, leaf in self.leaves.items() for key, a in leaf.running.items()}

    def state(self):
        return {f"{path}.{key}": a for path, leaf in self.leaves.items() for key, a in leaf.state().items()}

    def astype(self, dtype):
        for child in self.children.values():
            child.astype(dtype)
        return self

    def forward(self, x, training=False):
        with reusing(self.buffers):
            return self.carry(x, None, training)[0]

    def backward(self, dy, input_gradient=True):
        """dx for dy; overwrites grads. Training needs no gradient to the images: without input_gradient dx is None."""
        self._ask_for_dx(input_gradient)
        with reusing(self.buffers):
            dx = self.carry_backward(dy, None)[0]
        return dx if input_gradient else None

    def _ask_for_dx(self, wanted):
        """Tell the layer that reads x whether its dx is wanted, if it can save the work."""


class Rectified:
    """A normalizer and the ReLU behind it, run as one layer: the normalizer rectifies, the ReLU sees to the estimate.

    later: in training the convolution behind rectifies, while it reads. See rectified.py.
    """

    def __init__(self, norm, relu, later=False):
        self.norm, self.relu, self.later = norm, relu, later

    def carry(self, x, estimate, training=False):
        return self._rectifying(self.norm.carry, x, estimate, training)

    def fork(self, x, estimate, training=False):
        return self._rectifying(self.norm.fork, x, estimate, training)

    def _rectifying(self, run, x, estimate, training):
        self.norm.rectifies, self.trained = "later" if self.later and training else "now", training
        try:
            y, main, *side = run(x, estimate, training)
        finally:
            self.norm.rectifies = False
        return y, self.relu.carry_estimate(main), *side

    def carry_backward(self, dy, dmoments, plus=None):
        return self._adding(plus, self.norm.carry_backward, dy, self.relu.carry_estimate_backward(dmoments))

    def fork_backward(self, dy, dmain, dside, plus=None):
        return self._adding(plus, self.norm.fork_backward, dy, self.relu.carry_estimate_backward(dmain), dside)

    def _adding(self, plus, run, *arguments):
        """What `run` returns, with plus added to dx."""
        if plus is None or not self.trained:
            dx, *rest = run(*arguments)
            return dx if plus is None else add(dx, plus), *rest
        self.norm.plus = plus
        try:
            return run(*arguments)
        finally:
            self.norm.plus = None


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
        for before, behind in pairwise(self.order):
            link(last_convolution(before), first_normalizer(behind))

    @property
    def layers(self):
        return tuple(self.children.values())

    def carry(self, x, estimate, training=False):
        for layer in self.order:
            x, estimate = layer.carry(x, estimate, training)
        return x, estimate

    def _ask_for_dx(self, wanted):
        if self.order and isinstance(self.order[0], Conv2d):
            self.order[0].makes_dx = wanted

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
            continue
        if pairs and isinstance(layer, Conv2d) and isinstance(pairs[-1], Rectified):
            pairs[-1].later = True
        pairs.append(layer)
    return pairs


def last_convolution(layer):
    """The convolution that writes what this layer returns, or None."""
    if isinstance(layer, Residual):
        layer = layer.body[-1] if layer.body else None
    return layer if isinstance(layer, Conv2d) else None


def first_normalizer(layer):
    """The batch normalizer that, with its ReLU, reads what this layer is given, or None."""
    if isinstance(layer, Residual):
        layer = layer.head or (layer.body[0] if layer.body else None)
    return layer.norm if isinstance(layer, Rectified) and isinstance(layer.norm, BatchNormalizer) else None


def link(convolution, normalizer):
    """Let the convolution observe, while it writes, what a normalizer of the whole batch will ask for."""
    if convolution is not None and normalizer is not None and normalizer.statistics_batch_size is None:
        convolution.normalizer = normalizer


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
        for layer in self.body[:-1]:
            y, main = layer.carry(y, main, training)
        skip, side = self.children["shortcut"].carry(x, kept, training)
        last = self.body[-1] if self.body else Identity()
        joins = isinstance(last, Conv2d)  # such a layer adds the shortcut while it writes
        if joins:
            last.plus = skip
        y, main = last.carry(y, main, training)
        self._joined = None
        if main is not None and side is not None and main.travel != "held":
            self._joined = main.moments, side.moments
            main = main._replace(moments=transport.add(*self._joined))
        return y if joins else add(y, skip), main

    def carry_backward(self, dy, dmoments):
        dmain, dside = dmoments, None
        if self._joined is not None and dmoments is not None:
            dmain, dside = transport.add_backward(dmoments, *self._joined)
        dskip, dkept = self.children["shortcut"].carry_backward(dy, dside)
        first = None if self.head or not self.body else self.body[0]
        for layer in reversed(self.body if first is None else self.body[1:]):
            dy, dmain = layer.carry_backward(dy, dmain)
        if self.head:
            return self._with_skip(self.head, self.head.fork_backward, dskip, dy, dmain, dkept)
        if first is None:
            return add(dy, dskip), plus(dmain, dkept)
        dx, darrived = self._with_skip(first, first.carry_backward, dskip, dy, dmain)
        return dx, plus(darrived, dkept)

    def _with_skip(self, layer, backward, dskip, *arguments):
        """backward(*arguments) with dskip added to its dx, by the layer itself if it can."""
        if isinstance(layer, Rectified):
            return backward(*arguments, plus=dskip)
        dx, darrived = backward(*arguments)
        return add(dx, dskip), darrived
