"""The stateful group forms: each sample is normalized by itself, so that training and inference are one computation.

    GroupNorm        statistics of each sample's groups of channels; LayerNorm has one group, InstanceNorm one a channel
    GroupKalmanNorm  prior = predict(previous estimate, A, rho): A, rho = e^w and q = sigmoid(w) are trained      (B6)

Nothing is averaged and there is no statistics batch. The Kalman estimate, a row for each sample, travels in both modes.
"""

import math

import numpy as np

from .. import _arguments, _group_checks
from ..group_kalman_norm import group_kalman_norm_backward, group_kalman_norm_forward
from ..group_norm import group_norm_backward, group_norm_forward
from .base import Estimate, Normalizer, arriving, channels_back, channels_last
from .gain import Gain
from .options import choice
from .transition import TRANSITIONS, Transition

GAINS = {"learned": "learned", "learned_per_group": "learned_per_channel", "constant": "constant"}  # names in gain.py


class GroupNorm(Normalizer):
    """Group normalization.

    Parameters: channels; groups, a divisor of it; eps, added to the variance; channel_axis, where the channels are;
    dtype of the parameters. x is (N, C), (N, H, W, C) or what has its channels on another axis than the last.
    Equations: group_norm_forward (B6), in training and inference.
    Departs: nothing.
    Reference: Wu and He 2018, arXiv 1803.08494.
    """

    def __init__(self, channels, groups, eps=1e-5, channel_axis=-1, *, dtype=np.float64):
        c = _arguments.whole("channels", channels, 1)
        self.groups = _group_checks.divisor(groups, c)
        super().__init__(gamma=np.ones(c, dtype), beta=np.zeros(c, dtype))
        self.eps = _arguments.number("eps", eps, 0)
        if isinstance(channel_axis, bool) or not isinstance(channel_axis, int):
            raise TypeError(f"channel_axis is {channel_axis!r}; expected an integer")
        self.channel_axis = channel_axis

    def positions(self, x):
        """x as (N, L, C), and its shape with the channels last."""
        c = len(self.params["gamma"])
        x = channels_last(x, c, self.channel_axis)
        return x.reshape(len(x), math.prod(x.shape[1:-1]), c), x.shape

    def images(self, y, shape):
        """The inverse of positions."""
        return channels_back(y.reshape(shape), self.channel_axis)

    def forward(self, x, training=False):
        x, shape = self.positions(x)
        gamma, beta = self.params["gamma"], self.params["beta"]
        y, _, cache = self.run(group_norm_forward, x, gamma, beta, self.groups, self.eps)
        return self.keep(self.images(y, shape), cache, y if self.rectifies else None)

    def backward(self, dy):
        cache, y = self.take(dy)
        dy = channels_last(dy, len(self.params["gamma"]), self.channel_axis)
        dx, dgamma, dbeta = self.run_backward(group_norm_backward, dy.reshape(cache.x.shape), cache, y=y)
        self.set_grads(gamma=dgamma, beta=dbeta)
        return self.images(dx, dy.shape)


class LayerNorm(GroupNorm):
    """Layer normalization: one group, all channels and positions of a sample together.

    Departs: gamma and beta belong to channels. In PyTorch the LayerNorm of a whole map has one of each for every
        position too, and that of the last axis has statistics for every position.
    Reference: Ba et al. 2016, arXiv 1607.06450.
    """

    def __init__(self, channels, eps=1e-5, channel_axis=-1, *, dtype=np.float64):
        super().__init__(channels, 1, eps, channel_axis, dtype=dtype)


class InstanceNorm(GroupNorm):
    """Instance normalization: a group for each channel, so that a channel of a sample is normalized by itself.

    Departs: PyTorch's default has no gamma and beta, and refuses maps of one position: here they give y = beta.
    Reference: Ulyanov et al. 2016, arXiv 1607.08022.
    """

    def __init__(self, channels, eps=1e-5, channel_axis=-1, *, dtype=np.float64):
        super().__init__(channels, channels, eps, channel_axis, dtype=dtype)


class GroupKalmanNorm(GroupNorm):
    """Group Kalman normalization; this project's own definition, see group_kalman_norm_forward.

    Parameters beyond GroupNorm's:
        previous_groups: groups of the previous normalizer; None for the first of a chain, which has no prior (A4).
        gain: initial gain in (0, 1), in [0, 1] if constant; None: 0.95 (A5).
        gain_kind: "learned" (the default: sigmoid of one logit), "learned_per_group" or "constant".
        transition: "full" (G, G'; the default), "diagonal" (G,) or "zero": frozen at 0 (A12).
        noise: initial variance rho; None: as for KalmanNorm, with groups in place of channels (A5).
    Equations: prior = predict(previous estimate, A, rho) for each sample; then group_kalman_norm_forward (B6).
    Departs: the source names the method without equations; another public code of this name is a temporal average.
    Reference: Wang et al. 2018 (NeurIPS), by name; docs/equations.md, section B6.
    """

    def __init__(
        self,
        channels,
        groups,
        previous_groups=None,
        gain=None,
        eps=1e-5,
        channel_axis=-1,
        gain_kind=None,
        transition=None,
        noise=None,
        *,
        dtype=np.float64,
    ):
        super().__init__(channels, groups, eps, channel_axis, dtype=dtype)
        kind = choice("gain_kind", "learned" if gain_kind is None else gain_kind, tuple(GAINS))
        self.gain_rule = Gain(GAINS[kind], 0.95 if gain is None else gain)
        transition = choice("transition", "full" if transition is None else transition, TRANSITIONS)
        self.transition = None
        if previous_groups is not None:
            previous = _arguments.whole("previous_groups", previous_groups, 1)
            if transition == "diagonal" and previous != self.groups:
                raise ValueError(
                    f"transition is 'diagonal', from {previous} to {self.groups} groups; expected equal numbers"
                )
            noise = None if noise is None else _arguments.number("noise", noise, np.finfo(dtype).tiny)
            self.transition = Transition(transition, self.groups, previous, False, noise, "scalar", dtype)
            self.params |= self.gain_rule.start(self.groups, dtype)[0] | self.transition.start(dtype)
        self.grads = {name: np.zeros_like(p) for name, p in self.params.items()}

    def gain(self):
        """The gain q in use, a number or one value per group; None without a prior."""
        return None if self.transition is None else self.gain_rule.value(self.params, self.counters, None)

    def prior(self, arrived, n):
        """Prior for each of n samples from the moments that arrive; None if there is none."""
        if self.transition is None or (arrived is None and self.transition.kind != "zero"):
            return None
        return self.transition.prior(self.params, arrived, n)

    def carry(self, x, estimate, training=False):
        x, shape = self.positions(x)
        arrived = arriving(estimate)
        prior = self.prior(arrived, len(x))
        gain = None if prior is None else self.gain()
        gamma, beta = self.params["gamma"], self.params["beta"]
        arguments = x, gamma, beta, prior, gain, self.groups, self.eps
        y, posterior, cache = self.run(group_kalman_norm_forward, *arguments)
        kept = cache, y if self.rectifies else None, arrived, gain
        return self.keep(self.images(y, shape), *kept), Estimate(posterior)

    def carry_backward(self, dy, dmoments):
        cache, y, arrived, gain = self.take(dy)
        dy = channels_last(dy, len(self.params["gamma"]), self.channel_axis)
        arguments = dy.reshape(cache.x.shape), dmoments, cache
        dx, dgamma, dbeta, dprior, dgain = self.run_backward(group_kalman_norm_backward, *arguments, y=y)
        grads = {name: np.zeros_like(g) for name, g in self.grads.items()} | {"gamma": dgamma, "beta": dbeta}
        darrived = None
        if dprior is not None:
            darrived, of_law = self.transition.backward(dprior, self.params, arrived)
            grads |= of_law | self.gain_rule.backward(dgain, gain)
        self.set_grads(**grads)
        return self.images(dx, dy.shape), darrived

    def forward(self, x, training=False):
        """Forward without an estimate from elsewhere: no prior (unless the transition is frozen at zero)."""
        return self.carry(x, None, training)[0]

    def backward(self, dy):
        return self.carry_backward(dy, None)[0]
