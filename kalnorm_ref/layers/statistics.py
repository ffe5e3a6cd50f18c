"""What the stateful batch normalizers share: statistics batches, running averages, and three ways to do inference.

A gradient batch of N images is split into N / statistics_batch_size groups of consecutive images, each normalized
with statistics of its own (A10). Training updates the running averages once per gradient batch, with the mean over the
groups (A9). Inference normalizes with them ("running"), with the statistics of the groups at hand ("batch"), or with
moments of the training data that inference.recompute_population has accumulated ("population").
"""

from typing import NamedTuple

import numpy as np

from .. import _arguments
from ..maps import relu_backward
from ..moments import Moments, standardize, standardize_backward
from ..running import unbiased, update_average
from .base import Normalizer, channels_back, channels_last

INFERENCE = ("running", "batch", "population")
ABSENT = -1  # a population variance before there is one; NaN would be that of a run that diverged


class Seen(NamedTuple):
    """What a normalizer met in one forward, for those who watch it."""

    m: int  # samples of a channel in one statistics batch
    observed: Moments  # of the statistics batches, each (G, C)
    prior: Moments | None  # each (G, C)
    used: Moments  # what x was standardized with, each (G, C)
    gain: np.ndarray | float | None  # weight of the observation, number or (C,); None without a prior


class BatchNormalizer(Normalizer):
    """What BatchNorm, BatchRenorm and KalmanNorm share.

    Parameters: channels; eps, added to the variance; decay, the weight of the OLD running value, None for the
    cumulative average; statistics_batch_size in images, None for the whole batch; inference, "running", "batch" or
    "population"; channel_axis, where the channels are; dtype of parameters and running averages.
    Sub-classes define `normalize` and `normalize_backward` over groups (G, m, C).
    """

    second = "running_var"

    def __init__(self, channels, eps, decay, statistics_batch_size, inference, channel_axis, dtype):
        c = _arguments.whole("channels", channels, 1)
        super().__init__(gamma=np.ones(c, dtype), beta=np.zeros(c, dtype))
        self.running = {"running_mean": np.zeros(c, dtype), self.second: np.ones(c, dtype)}
        self.counters = {"step": np.zeros((), np.int64)}
        self.eps = _arguments.number("eps", eps, 0)
        self.decay = None if decay is None else _arguments.number("decay", decay, 0, 1, "a value in [0, 1], or None")
        size = statistics_batch_size
        self.statistics_batch_size = None if size is None else _arguments.whole("statistics_batch_size", size, 1)
        if isinstance(channel_axis, bool) or not isinstance(channel_axis, int):
            raise TypeError(f"channel_axis is {channel_axis!r}; expected an integer")
        self.channel_axis = channel_axis
        self.unbiased_running_var = False
        self.observer = None  # called with what a training forward has Seen, which then updates nothing
        self.set_inference(inference)

    def set_inference(self, mode):
        """Choose what inference normalizes with; "population" forgets the population that it had."""
        if mode not in INFERENCE:
            raise ValueError(f"inference is {mode!r}; expected one of {', '.join(map(repr, INFERENCE))}")
        self.inference = mode
        for name, absent in (("population_mean", 0), ("population_var", ABSENT)):
            self.running.pop(name, None)
            if mode == "population":
                self.running[name] = np.full_like(self.params["gamma"], absent)

    @property
    def step(self):
        """Number of training forwards so far."""
        return int(self.counters["step"])

    def normalize(self, x, arrived, training):
        """y, the estimate to send on, the cache and what was Seen, for x (G, m, C) and the moments that arrived."""
        raise NotImplementedError

    def normalize_backward(self, dy, y, destimate, dobserved, cache):
        """dx, the gradient to the moments that arrived, and a dict of gradients to parameters.

        dy of the groups; y, if it was rectified, else None; destimate and dobserved, the gradients to the estimate and
        (push "observed" only) to the moments of the groups, are None for zeros.
        """
        raise NotImplementedError

    def averaged(self, seen):
        """What the running averages take in, by name, each (G, C)."""
        return {"running_mean": seen.used.mean, "running_var": self.running_variance(seen.used.var, seen.m)}

    def running_moments(self):
        """(Moments, eps) that inference "running" standardizes with."""
        return Moments(self.running["running_mean"], self.running["running_var"]), self.eps

    # ---- forward and backward ----

    def fixed(self, training):
        """Whether this forward normalizes with moments from elsewhere, and not with those of the batch at hand."""
        return not training and self.inference != "batch"

    def groups(self, n, training):
        """(slice of images, slice of rows of the estimate) for n images: one pair for all groups of full size, in
        inference another for a smaller last one."""
        size = self.statistics_batch_size
        if size is None:
            return [(slice(0, n), slice(0, 1))]
        if n == 0 or (training and n % size):
            raise ValueError(f"the batch has {n} images; expected a multiple of the statistics batch size {size}")
        full, rest = n // size, n % size
        parts = [(slice(0, full * size), slice(0, full))] if full else []
        return [*parts, (slice(full * size, n), slice(full, full + 1))] if rest else parts

    def _last(self, x):
        return channels_last(x, len(self.params["gamma"]), self.channel_axis)

    def over_groups(self, x, arrived, training):
        """Normalize group by group: y, the estimate to send on, the moments of the groups, and what backward needs."""
        x = self._last(x)
        bounds = self.groups(len(x), training)
        expected = bounds[-1][1].stop
        if arrived is not None and len(arrived.mean) != expected:
            raise ValueError(
                f"the estimate has {len(arrived.mean)} rows; expected {expected}, one for each statistics batch"
            )
        if len(bounds) == 1:
            y, estimate, cache, seen = self.normalize(grouped(x, expected), arrived, training)
            if training:
                self._after_training(seen)
            observed, kept = seen.observed, [(bounds[0], cache, y if self.rectifies else None)]
        else:
            parts = [self.normalize(grouped(x[i], r.stop - r.start), pick(arrived, r), training) for i, r in bounds]
            ys, estimates, caches, seen = zip(*parts, strict=True)
            y, estimate = np.concatenate([y.reshape(-1, x.shape[-1]) for y in ys]), join(estimates)
            observed = join([part.observed for part in seen])
            kept = list(zip(bounds, caches, ys if self.rectifies else [None] * len(ys), strict=True))
        return channels_back(y.reshape(x.shape), self.channel_axis), estimate, observed, kept

    def over_groups_backward(self, dy, destimate, kept, dobserved=None):
        """dx and the gradient to the moments that arrived; overwrites grads."""
        dy = self._last(dy)
        if len(kept) == 1:
            (((_, rows), cache, y),) = kept
            dx, darrived, grads = self.normalize_backward(grouped(dy, rows.stop), y, destimate, dobserved, cache)
        else:
            dxs, rows_of, grads = [], [], {}
            for (images, rows), cache, y in kept:
                group, given = grouped(dy[images], rows.stop - rows.start), pick(destimate, rows)
                part, darrived, more = self.normalize_backward(group, y, given, pick(dobserved, rows), cache)
                grads = {name: gradient + grads[name] for name, gradient in more.items()} if grads else more
                dxs.append(part.reshape(-1, dy.shape[-1]))
                rows_of.append(darrived)
            dx, darrived = np.concatenate(dxs), join(rows_of)
        self._overwrite(grads)
        return channels_back(dx.reshape(dy.shape), self.channel_axis), darrived

    def _overwrite(self, grads):
        """Set the gradients given; the others, of Kalman parameters without a prior, are zero."""
        if len(grads) < len(self.grads):
            for name in self.grads.keys() - grads.keys():
                self.grads[name][...] = 0
        self.set_grads(**grads)

    def infer(self, x):
        """Standardize with running or population statistics; both are constants to the backward."""
        x = self._last(x)
        moments, eps = self.running_moments()
        if self.inference == "population":
            moments, eps = Moments(self.running["population_mean"], self.running["population_var"]), self.eps
            if (moments.var == ABSENT).all():
                raise RuntimeError(
                    "the population statistics are not there yet, or set_inference forgot them; "
                    "call recompute_population(net, batches)"
                )
        group = x.reshape(1, -1, x.shape[-1])
        y, cache = self.run(standardize, group, moments, self.params["gamma"], self.params["beta"], eps)
        return channels_back(y.reshape(x.shape), self.channel_axis), (cache, y if self.rectifies else None)

    def infer_backward(self, dy, kept):
        cache, y = kept
        dy = self._last(dy)
        given = dy.reshape(cache.x.shape)
        dx, _, dgamma, dbeta = standardize_backward(given if y is None else relu_backward(given, y), cache)
        self._overwrite({"gamma": dgamma, "beta": dbeta})
        return channels_back(dx.reshape(dy.shape), self.channel_axis)

    def forward(self, x, training=False):
        if self.fixed(training):
            y, cache = self.infer(x)
            return self.keep(y, "fixed", cache)
        y, _, _, kept = self.over_groups(x, None, training)
        return self.keep(y, "groups", kept)

    def backward(self, dy):
        mode, kept = self.take(dy)
        return self.infer_backward(dy, kept) if mode == "fixed" else self.over_groups_backward(dy, None, kept)[0]

    # ---- running averages ----

    def _after_training(self, seen):
        """Tell who watches, or else update the running averages and the step."""
        if self.observer is not None:
            self.observer(seen)
            return
        step = self.counters["step"]
        for name, new in self.averaged(seen).items():
            # .real: the imaginary part of a complex step has no place in an average
            new = new.real if len(new) == 1 else new.real[self.averaged_rows()]
            update_average(self.running[name], new[0] if len(new) == 1 else new.mean(axis=0), self.decay, step)
        step += 1

    def averaged_rows(self):
        """The statistics batches that enter the running averages."""
        return slice(None)

    def running_variance(self, var, m):
        """The variance to average: biased, or unbiased where asked for."""
        return unbiased(var, m) if self.unbiased_running_var else var


def grouped(x, groups):
    """Maps as statistics batches: (N, ..., C) to (G, m, C)."""
    return x.reshape(groups, -1, x.shape[-1])


def pick(pair, rows):
    """The rows of a pair of statistics; None for None."""
    return None if pair is None else type(pair)(*(s[rows] for s in pair))


def join(pairs):
    """Pairs of statistics one after the other, row by row; None where they are None."""
    if pairs[0] is None or len(pairs) == 1:
        return pairs[0]
    return type(pairs[0])(*(np.concatenate(s) for s in zip(*pairs, strict=True)))
