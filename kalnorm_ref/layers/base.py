"""What every layer is: a forward that keeps one cache, a backward that uses it up, and an estimate carried beside x."""

import threading
from typing import NamedTuple

import numpy as np

from .. import _arguments, rectified
from ..moments import Moments


class Sampler(NamedTuple):
    """How a sampled estimate travels (the authors' released code)."""

    rng: np.random.Generator  # of the normalizer that sent it
    channel_padding: str  # "per_batch" or "concatenated"
    training: bool = True

    def draw(self, moments, *shape):
        """Standard normal draws (G, *shape, C) for moments (G, C).

        In inference every statistics batch gets the same draws, so that no image's output depends on its place.
        """
        groups, c = moments.mean.shape
        draws = self.rng.standard_normal((groups if self.training else 1, *shape, c), moments.mean.real.dtype)
        return draws if self.training else np.repeat(draws, groups, axis=0)


class Estimate(NamedTuple):
    """What travels beside the activations from one Kalman normalizer to the next.

    moments: a pair of arrays with a row for each statistics batch, (G, C) each (the second (G, C, C) with full
    covariance). travel: what the layers on the way do to them. "held": nothing (learned). "closed": transform them as
    they transform the activations, in closed form (analytic). "sampled": by drawing, with `sampler` (released).
    """

    moments: Moments
    travel: str = "held"
    sampler: Sampler | None = None


def arriving(estimate):
    """The moments of an estimate, or None; TypeError for what is no Estimate."""
    if estimate is None:
        return None
    if not isinstance(estimate, Estimate):
        raise TypeError(f"estimate is {type(estimate).__name__}; expected kr.layers.Estimate(moments), or None")
    return estimate.moments


def channels_last(x, channels, axis):
    """x with the channels, that it has on `axis`, on the last axis; ValueError for another number of them."""
    x = _arguments.array("x", x)
    if x.ndim < 2 or not -x.ndim <= axis < x.ndim or x.shape[axis] != channels:
        raise ValueError(f"x has shape {x.shape}; expected {channels} channels on axis {axis}")
    return x if axis in (-1, x.ndim - 1) else np.moveaxis(x, axis, -1)


def channels_back(y, axis):
    """The inverse of channels_last."""
    return y if axis in (-1, y.ndim - 1) else np.moveaxis(y, -1, axis)


class Layer:
    """A differentiable map with parameters.

    params, grads: dicts of arrays with the same keys; backward overwrites grads. running: running averages, if any.
    counters: numbers that training advances, as 0-d arrays. Sub-classes define `forward` and `backward`, and, if they
    change moments, `transport` (closed form) and `sample` (the released code's way) with their backwards.
    """

    def __init__(self, **params):
        self.params = params
        self.grads = {name: np.zeros_like(p) for name, p in params.items()}
        self.running = {}
        self.counters = {}
        self._cache = None
        self._carried = None

    def forward(self, x, training=False):
        """y for x; keeps what backward needs."""
        raise NotImplementedError

    def backward(self, dy):
        """dx for dy; overwrites grads and frees the cache. RuntimeError without a forward before it."""
        raise NotImplementedError

    def transport(self, moments):
        """Moments of the output for those of the input; the same unless a layer says otherwise."""
        return moments

    def transport_backward(self, dmoments, moments):
        """Gradient of the last transport to its moments; adds to grads what reaches the parameters this way."""
        return dmoments

    def sample(self, moments, sampler):
        """Moments behind this layer as the released code has them; the same unless a layer says otherwise."""
        return moments

    def sample_backward(self, dmoments, moments, sampler):
        """Gradient of the last sample; adds to grads what reaches the parameters this way."""
        return dmoments

    def carry(self, x, estimate, training=False):
        """forward with the estimate that travels beside x: returns y and the estimate behind this layer."""
        return self.forward(x, training), self.carry_estimate(estimate)

    def carry_estimate(self, estimate):
        """The estimate behind this layer, whose forward has run."""
        arrived = arriving(estimate)
        self._carried = estimate
        if estimate is None or estimate.travel == "held":
            return estimate
        closed, sampler = estimate.travel == "closed", estimate.sampler
        return estimate._replace(moments=self.transport(arrived) if closed else self.sample(arrived, sampler))

    def carry_backward(self, dy, dmoments):
        """backward of carry: dx and the gradient to the incoming moments. None stands for zeros, or for no estimate."""
        return self.backward(dy), self.carry_estimate_backward(dmoments)

    def carry_estimate_backward(self, dmoments):
        """The gradient to the moments that arrived; the layer's own backward has run."""
        carried, self._carried = self._carried, None
        if dmoments is None or carried is None or carried.travel == "held":
            return dmoments
        if carried.travel == "closed":
            return self.transport_backward(dmoments, carried.moments)
        return self.sample_backward(dmoments, carried.moments, carried.sampler)

    def keep(self, y, *cache):
        """Keep for one backward what it needs, and the shape of y, which its dy must have. Returns y."""
        self._cache = np.shape(y), cache
        return y

    def take(self, dy):
        """Hand out what was kept, once."""
        if self._cache is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward needs a forward before it; each forward serves one backward"
            )
        shape, cache = self._cache
        if np.shape(dy) != shape:
            raise ValueError(f"dy has shape {np.shape(dy)}; expected {shape}, the shape of y")
        self._cache = None
        return cache

    def set_grads(self, **gradients):
        """Overwrite gradients by name, in place; None is left out."""
        for name, gradient in gradients.items():
            kept = self.grads[name] if gradient is not None else None
            if kept is not gradient:
                kept[...] = gradient if np.shape(gradient) == kept.shape else np.reshape(gradient, kept.shape)

    def add_grads(self, **gradients):
        """Add to gradients by name; None is left out."""
        self.set_grads(**{name: self.grads[name] + g for name, g in gradients.items() if g is not None})

    def state(self):
        """All arrays, live, that inference and exact resumption need."""
        return {**self.params, **self.running, **self.counters}

    def state_dict(self):
        """Copies of all arrays that inference and exact resumption need, by name."""
        return {name: a.copy() for name, a in self.state().items()}

    def load_state_dict(self, state):
        """Take over the arrays of state_dict(). ValueError, and nothing changed, if a name or a shape differs."""
        live = self.state()
        if live.keys() != state.keys():
            missing, extra = sorted(live.keys() - state.keys()), sorted(state.keys() - live.keys())
            raise ValueError(f"the state does not fit this network: missing {missing[:3]}, not known {extra[:3]}")
        for name, a in live.items():
            given = np.asarray(state[name])
            if given.shape != a.shape:
                raise ValueError(f"the state's {name} has shape {given.shape}; expected {a.shape}")
            if not np.can_cast(given.dtype, a.dtype, "same_kind"):
                raise ValueError(f"the state's {name} has type {given.dtype}; expected {a.dtype}")
        for name, a in live.items():
            a[...] = state[name]

    def astype(self, dtype):
        """Cast parameters and running averages to `dtype`, in this layer itself; returns it."""
        for arrays in (self.params, self.grads, self.running):
            for name in arrays:
                arrays[name] = arrays[name].astype(dtype)
        return self


class HandedDown:
    """An attribute that a network sets for the length of a call; each thread has its own, since several may infer."""

    def __init__(self, default):
        self.default, self.values = default, threading.local()

    def __get__(self, layer, kind=None):
        values = self.values.__dict__  # of this thread, by the id of the layer; most often empty
        return values.get(id(layer), self.default) if values else self.default

    def __set__(self, layer, value):
        values = self.values.__dict__
        if value is not self.default:
            values[id(layer)] = value
        elif values:
            values.pop(id(layer), None)


class Normalizer(Layer):
    """A layer that may do the work of a ReLU behind it, and of what else stands around it: a network tells it so."""

    rectifies = HandedDown(False)  # or "now", or "later": the convolution behind does it
    plus = HandedDown(None)  # what the next backward adds to dx, and then forgets
    observed = HandedDown(None)  # what is known of the next x, from the convolution that wrote it

    def run(self, forward, *arguments):
        """The results of a pure forward; its y rectified while this layer `rectifies`."""
        if not self.rectifies:
            return forward(*arguments)
        observed, self.observed = self.observed, None
        return rectified.forward(forward, *arguments, later=self.rectifies == "later", observed=observed)

    def run_backward(self, backward, dy, *arguments, y):
        """The results of a pure backward; y is the rectified one of `run`, or None."""
        if y is None:
            return backward(dy, *arguments)
        plus, self.plus = self.plus, None
        return rectified.backward(backward, dy, y, *arguments, plus=plus)


class Identity(Layer):
    """y = x: the plain shortcut of a residual block, and the normalizer "none"."""

    def forward(self, x, training=False):
        return self.keep(x)

    def backward(self, dy):
        self.take(dy)
        return dy
