"""The stateful Kalman normalizer: where its prior comes from, how its gain is trained, and what it sends on.

    learned    prior = predict(previous estimate, A, rho): A, rho = e^w and q = sigmoid(w) are trained         (B5)
    analytic   prior = the previous normalizer's push, transported in closed form by the layers between      (C1-C4)

Then kalman_norm fuses, standardizes, and its estimate travels to the next normalizer; backward sends gradients back.
"""

import numpy as np

from .. import _arguments
from ..kalman_norm import kalman_norm_backward, kalman_norm_forward
from ..moments import Moments, observe_backward, predict, predict_backward
from ..transport import push, push_backward
from ..transport.push import MODES
from .base import Estimate
from .normalization import BatchNormalizer

VARIANTS = ("learned", "analytic")
TRANSITIONS = ("full", "diagonal", "zero")
GAINS = ("learned", "learned_per_channel", "constant")
SMALL_STATISTICS_BATCH = 8


def _choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; this version has {', '.join(map(repr, choices))}")
    return value


class KalmanNorm(BatchNormalizer):
    """Batch Kalman normalization with running averages of what it normalizes with.

    Parameters beyond BatchNorm's:
        previous_channels: channels of the previous normalizer; None for the first of a chain, which has no prior (A4).
        variant: "learned" (the paper) or "analytic" (closed form, this project's own).
        gain: initial gain in (0, 1), in [0, 1] if constant; None: 0.1 at statistics batches of 8 or fewer images,
            else 0.95 (A5).
        gain_kind: "learned" (sigmoid of one logit), "learned_per_channel" or "constant"; None: learned for the variant
            "learned", constant for "analytic".
        transition: "full" (C, C'; the default), "diagonal" (C,) or "zero": frozen at 0, so that the prior N(0, rho)
            knows no other layer (the control A12). Only for "learned".
        noise: initial variance rho; None: 0.1 for a transition that starts as the identity, 1 - 1/C' for one that
            starts as 1/C', 1 for zero (A5, and a prior variance of about 1 in each case). Only for "learned".
        push: "belief" (the default), "observed" or "released" (C4). shortcut: what the shortcut of a residual block
            gets, the "posterior" (the default) or the incoming "prior" if there is one. Only for "analytic".
    Equations: see kalman_norm; M <- decay M + (1 - decay) mu, V likewise, averaged over the statistics batches (A9).
    Departs: the paper's covariance is full; this keeps its diagonal (covariance="diagonal"). The paper does not say
        how A, rho and q start.
    Reference: Wang et al. 2018, arXiv 1802.03133, Algorithm 1; docs/equations.md, sections B and C.
    """

    def __init__(
        self,
        channels,
        previous_channels=None,
        variant="learned",
        gain=None,
        covariance="diagonal",
        eps=1e-5,
        decay=0.9,
        statistics_batch_size=None,
        unbiased_running_var=False,
        inference="running",
        channel_axis=-1,
        gain_kind=None,
        transition=None,
        noise=None,
        push=None,
        shortcut=None,
        *,
        dtype=np.float64,
    ):
        super().__init__(channels, eps, decay, statistics_batch_size, inference, channel_axis, dtype)
        self.variant = _choice("variant", variant, VARIANTS)
        self.covariance = _choice("covariance", covariance, ("diagonal",))
        learned, analytic = {"transition": transition, "noise": noise}, {"push": push, "shortcut": shortcut}
        for name, value in (analytic if variant == "learned" else learned).items():
            if value is not None:
                raise ValueError(f"{name} is {value!r}; expected none, since the variant {variant!r} has no {name}")
        self.transition = _choice("transition", "full" if transition is None else transition, TRANSITIONS)
        self.push = _choice("push", "belief" if push is None else push, MODES)
        self.shortcut = _choice("shortcut", "posterior" if shortcut is None else shortcut, ("posterior", "prior"))
        self.unbiased_running_var = unbiased_running_var
        default = "learned" if variant == "learned" else "constant"
        self.gain_kind = _choice("gain_kind", default if gain_kind is None else gain_kind, GAINS)
        if gain is None:
            small = statistics_batch_size is not None and statistics_batch_size <= SMALL_STATISTICS_BATCH
            gain = 0.1 if small else 0.95
        self.initial_gain = _arguments.number("gain", gain, 0, 1, "a value in [0, 1]")
        self.has_prior = previous_channels is not None
        if self.has_prior:
            self._start(channels, _arguments.whole("previous_channels", previous_channels, 1), noise, dtype)
        self.grads = {name: np.zeros_like(p) for name, p in self.params.items()}

    def _start(self, channels, previous, noise, dtype):
        """Initial values of the Kalman parameters (A5)."""
        if self.gain_kind != "constant":
            if not 0 < self.initial_gain < 1:
                raise ValueError(
                    f"gain is {self.initial_gain:g}; expected a value strictly between 0 and 1 to be trained"
                )
            shape = (channels,) if self.gain_kind == "learned_per_channel" else ()
            logit = np.log(self.initial_gain / (1 - self.initial_gain))
            self.params["gain_logit"] = np.full(shape, logit, dtype)
        if self.variant != "learned":
            return
        alike = channels == previous
        if self.transition == "diagonal" and not alike:
            raise ValueError(
                f"transition is 'diagonal', from {previous} to {channels} channels; expected equal numbers"
            )
        if self.transition == "full":
            start = np.eye(channels) if alike else np.full((channels, previous), 1 / previous)
            self.params["transition"] = start.astype(dtype)
        elif self.transition == "diagonal":
            self.params["transition"] = np.ones(channels, dtype)
        if noise is None:
            noise = 1.0 if self.transition == "zero" else 0.1 if alike or previous == 1 else 1 - 1 / previous
        self.params["log_noise"] = np.full((), np.log(_arguments.number("noise", noise, np.finfo(dtype).tiny)), dtype)

    def gain(self):
        """The gain q in use, a number or one value per channel."""
        if "gain_logit" not in self.params:
            return self.initial_gain
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-self.params["gain_logit"]))

    def prior(self, estimate, groups):
        """Prior for each statistics batch from the estimate that arrives; None if there is none."""
        if not self.has_prior:
            return None
        if self.variant == "learned" and self.transition == "zero":
            shape = (groups, len(self.params["gamma"]))
            zeros = np.zeros(shape, self.params["gamma"].dtype)
            return Moments(zeros, zeros + np.exp(self.params["log_noise"]))
        if estimate is None:
            return None
        if self.variant == "learned":
            return predict(estimate.moments, self.params["transition"], np.exp(self.params["log_noise"]))
        return estimate.moments

    def fork(self, x, estimate, training=False):
        """Forward at the head of a residual block: y, the estimate for the main branch, the one for the shortcut."""
        if not training:
            return self.infer(x, self.running["running_var"], self.eps), None, None
        x, shape = self.grouped(x, training)
        prior, gain = self.prior(estimate, len(x)), self.gain()
        y, fused, cache = kalman_norm_forward(x, self.params["gamma"], self.params["beta"], prior, gain, self.eps)
        self.update_running(running_mean=fused.mean, running_var=self.running_variance(fused.var, x.shape[1]))
        y = self.keep(self.ungrouped(y, shape), shape, "training", cache, estimate)
        posterior = cache.estimate
        if self.variant == "learned":
            return y, Estimate(posterior, False), None
        pushed = push(self.push, posterior, cache.observed, cache.gamma, cache.beta, self.eps)
        return y, Estimate(pushed, True), estimate if self._keeps_prior(estimate) else Estimate(posterior, True)

    def _keeps_prior(self, estimate):
        return self.shortcut == "prior" and estimate is not None

    def fork_backward(self, dy, dpushed, dkept):
        """Backward of fork: dx and the gradient to the moments that arrived."""
        shape, mode, cache, *rest = self.take(dy)
        for gradient in self.grads.values():
            gradient[...] = 0
        if mode == "inference":
            return self.infer_backward(dy, shape, cache), None
        (arrived,) = rest
        dposterior, dobserved, through_push = dpushed, None, (None, None)
        if self.variant == "analytic" and dpushed is not None:
            arguments = self.push, cache.estimate, cache.observed, cache.gamma, cache.beta, self.eps
            dposterior, dobserved, *through_push = push_backward(dpushed, *arguments)
        if not self._keeps_prior(arrived):
            dposterior, dkept = plus(dposterior, dkept), None
        dx, dgamma, dbeta, dprior, dgain = kalman_norm_backward(self._like(dy, cache), dposterior, cache)
        if dobserved is not None and self.push == "observed":
            dx = dx + observe_backward(dobserved, cache.x, Moments(*(s.astype(dx.dtype) for s in cache.observed)))
        self.set_grads(gamma=dgamma, beta=dbeta)
        self.add_grads(gamma=through_push[0], beta=through_push[1])
        if dprior is not None:
            dkept = plus(dkept, self._prior_backward(dprior, dgain, arrived))
        return self.ungrouped(dx, shape), dkept

    def _prior_backward(self, dprior, dgain, arrived):
        """Gradients of the Kalman parameters; returns the gradient to the moments that arrived, None for none."""
        if "gain_logit" in self.params:
            gain = self.gain()
            self.set_grads(gain_logit=dgain * gain * (1 - gain))  # q = sigmoid(w)
        if self.variant != "learned":
            return dprior
        noise = np.exp(self.params["log_noise"])  # rho = e^w
        if self.transition == "zero":
            self.set_grads(log_noise=dprior.var.sum() * noise)
            return None
        darrived, dtransition, dnoise = predict_backward(dprior, arrived.moments, self.params["transition"], noise)
        self.set_grads(transition=dtransition, log_noise=dnoise * noise)
        return darrived

    def carry(self, x, estimate, training=False):
        y, pushed, _ = self.fork(x, estimate, training)
        return y, pushed

    def carry_backward(self, dy, dpushed):
        return self.fork_backward(dy, dpushed, None)

    def forward(self, x, training=False):
        """Forward without an estimate from elsewhere: no prior (unless the transition is frozen at zero)."""
        return self.carry(x, None, training)[0]

    def backward(self, dy):
        return self.carry_backward(dy, None)[0]


def plus(a, b):
    """Sum of two gradients to moments, None standing for zeros."""
    if a is None or b is None:
        return b if a is None else a
    return Moments(a.mean + b.mean, a.var + b.var)
