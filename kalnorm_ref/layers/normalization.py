"""The stateful batch normalizers: parameters, running averages and statistics batches around the pure functions.

A gradient batch of N images is split into G = N / statistics_batch_size groups of consecutive images, each normalized
with statistics of its own (A10). Training updates the running averages once per gradient batch, with the mean over the
groups (A9); inference normalizes with them.
"""

import numpy as np

from .. import _arguments
from ..batch_norm import batch_norm_backward, batch_norm_forward
from ..batch_renorm import batch_renorm_backward, batch_renorm_forward, renorm_corrections
from ..moments import Moments, observe, standardize, standardize_backward
from ..running import running_average, unbiased
from .base import Layer


class BatchNormalizer(Layer):
    """What BatchNorm, BatchRenorm and KalmanNorm share.

    Parameters: channels; eps, added to the variance; decay, the weight of the OLD running value, None for the
    cumulative average; statistics_batch_size in images, None for the whole batch; inference, "running";
    channel_axis, where the channels are; dtype of parameters and running averages.
    """

    def __init__(
        self, channels, eps, decay, statistics_batch_size, inference, channel_axis, dtype, second="running_var"
    ):
        c = _arguments.whole("channels", channels, 1)
        super().__init__(gamma=np.ones(c, dtype), beta=np.zeros(c, dtype))
        self.running = {"running_mean": np.zeros(c, dtype), second: np.ones(c, dtype)}
        self.counters = {"step": np.zeros((), np.int64)}
        self.eps = _arguments.number("eps", eps, 0)
        self.decay = None if decay is None else _arguments.number("decay", decay, 0, 1, "a value in [0, 1], or None")
        size = statistics_batch_size
        self.statistics_batch_size = None if size is None else _arguments.whole("statistics_batch_size", size, 1)
        if inference != "running":
            raise ValueError(f"inference is {inference!r}; this version has 'running'")
        if isinstance(channel_axis, bool) or not isinstance(channel_axis, int):
            raise TypeError(f"channel_axis is {channel_axis!r}; expected an integer")
        self.channel_axis = channel_axis

    @property
    def step(self):
        """Number of training forwards so far."""
        return int(self.counters["step"])

    def grouped(self, x, training):
        """x as (G, m, C): in training G statistics batches, in inference one."""
        x = _arguments.array("x", x)
        c = len(self.params["gamma"])
        within = -x.ndim <= self.channel_axis < x.ndim
        if x.ndim < 2 or not within or x.shape[self.channel_axis] != c:
            raise ValueError(f"x has shape {x.shape}; expected {c} channels on axis {self.channel_axis}")
        x = np.moveaxis(x, self.channel_axis, -1)
        n, size = len(x), self.statistics_batch_size
        if not training or size is None:
            return x.reshape(1, -1, c), x.shape
        if n == 0 or n % size:
            raise ValueError(f"the batch has {n} images; expected a multiple of the statistics batch size {size}")
        return x.reshape(n // size, -1, c), x.shape

    def ungrouped(self, y, shape):
        """The inverse of grouped."""
        return np.moveaxis(y.reshape(shape), -1, self.channel_axis)

    def infer(self, x, var, eps):
        """Standardize with the running mean and the variance `var`."""
        grouped, shape = self.grouped(x, training=False)
        moments = Moments(self.running["running_mean"], var)
        y, cache = standardize(grouped, moments, self.params["gamma"], self.params["beta"], eps)
        return self.keep(self.ungrouped(y, shape), shape, "inference", cache)

    def infer_backward(self, dy, shape, cache):
        """Backward of infer: the statistics are constants."""
        dx, _, dgamma, dbeta = standardize_backward(self._like(dy, cache), cache)
        self.set_grads(gamma=dgamma, beta=dbeta)
        return self.ungrouped(dx, shape)

    def backward(self, dy):
        shape, mode, cache = self.take(dy)
        if mode == "inference":
            return self.infer_backward(dy, shape, cache)
        dx, dgamma, dbeta = self.training_backward(self._like(dy, cache), cache)
        self.set_grads(gamma=dgamma, beta=dbeta)
        return self.ungrouped(dx, shape)

    def _like(self, dy, cache):
        return np.moveaxis(dy, self.channel_axis, -1).reshape(cache.x.shape)

    def running_variance(self, var, m):
        """What the running variance averages: the biased variance of m samples, or the unbiased one if so asked."""
        return unbiased(var, m) if self.unbiased_running_var else var

    def update_running(self, **statistics):
        """Move each running average towards the mean over the statistics batches, once."""
        for name, value in statistics.items():
            average = running_average(self.running[name], value.real.mean(axis=0), self.decay, self.step)
            self.running[name] = average.astype(self.running[name].dtype)
        self.counters["step"] += 1


class BatchNorm(BatchNormalizer):
    """Batch normalization with running averages.

    Equations: batch_norm_forward in training; gamma (x - M) / sqrt(V + eps) + beta in inference;
        M <- decay M + (1 - decay) xbar, V likewise with the biased variance, or the unbiased one if so asked (B1, A9).
    Departs: PyTorch averages the unbiased variance: unbiased_running_var=True, and its momentum is 1 - decay.
    Reference: Ioffe and Szegedy 2015, arXiv 1502.03167.
    """

    training_backward = staticmethod(batch_norm_backward)

    def __init__(
        self,
        channels,
        eps=1e-5,
        decay=0.9,
        statistics_batch_size=None,
        unbiased_running_var=False,
        inference="running",
        channel_axis=-1,
        *,
        dtype=np.float64,
    ):
        super().__init__(channels, eps, decay, statistics_batch_size, inference, channel_axis, dtype)
        self.unbiased_running_var = unbiased_running_var

    def forward(self, x, training=False):
        if not training:
            return self.infer(x, self.running["running_var"], self.eps)
        x, shape = self.grouped(x, training)
        y, moments, cache = batch_norm_forward(x, self.params["gamma"], self.params["beta"], self.eps)
        self.update_running(running_mean=moments.mean, running_var=self.running_variance(moments.var, x.shape[1]))
        return self.keep(self.ungrouped(y, shape), shape, "training", cache)


class BatchRenorm(BatchNormalizer):
    """Batch renormalization with running mean and running standard deviation.

    Equations: batch_renorm_forward with renorm_corrections from the running values before this batch's update; then
        M <- decay M + (1 - decay) mu, Sg <- decay Sg + (1 - decay) s, s = sqrt(var + eps). Inference:
        gamma (x - M) / Sg + beta (B2). r_max and d_max: numbers or functions of the step (see optim.renorm_schedule).
    Departs: nothing. Elsewhere the variance is averaged in place of s.
    Reference: Ioffe 2017, arXiv 1702.03275.
    """

    training_backward = staticmethod(batch_renorm_backward)

    def __init__(
        self,
        channels,
        eps=1e-5,
        decay=0.99,
        statistics_batch_size=None,
        unbiased_running_var=False,
        inference="running",
        channel_axis=-1,
        r_max=3.0,
        d_max=5.0,
        *,
        dtype=np.float64,
    ):
        super().__init__(channels, eps, decay, statistics_batch_size, inference, channel_axis, dtype, "running_std")
        if unbiased_running_var:
            raise ValueError("unbiased_running_var is True; expected False, since BRN averages standard deviations")
        self.limits = tuple(limit if callable(limit) else float(limit) for limit in (r_max, d_max))
        for name, limit, low in zip(("r_max", "d_max"), self.limits, (1, 0), strict=True):
            _arguments.number(name, limit(0) if callable(limit) else limit, low)

    def forward(self, x, training=False):
        if not training:
            return self.infer(x, self.running["running_std"] ** 2, 0.0)  # the standard deviation contains eps
        x, shape = self.grouped(x, training)
        moments = observe(x)
        r_max, d_max = (limit(self.step) if callable(limit) else limit for limit in self.limits)
        mean, std = self.running["running_mean"], self.running["running_std"]
        corrections = renorm_corrections(moments, mean, std, r_max, d_max, self.eps)
        y, moments, cache = batch_renorm_forward(x, self.params["gamma"], self.params["beta"], *corrections, self.eps)
        self.update_running(running_mean=moments.mean, running_std=np.sqrt(moments.var + self.eps))
        return self.keep(self.ungrouped(y, shape), shape, "training", cache)
