"""The stateful Kalman normalizer: where its prior comes from, how its gain is trained, and what it sends on.

    learned    prior = predict(previous estimate, A, R): A, R and the gain are trained                       (B3, B5)
    analytic   prior = the previous normalizer's push, transported in closed form by the layers between      (C1-C4)
    released   prior = the previous estimate itself, transported by drawing from it                             (C5)
    filter     for contrast: the Kalman filter of the true mean, whose gain nobody trains                       (B7)

Then it fuses, standardizes, and its estimate travels to the next normalizer; backward sends gradients back.
"""

from functools import partial

import numpy as np

from .. import _arguments
from ..moments import Moments, observe, observe_backward
from ..transport import push, push_backward
from .base import Estimate, Sampler, arriving
from .forms import FORMS, variances
from .gain import GAINS, Gain
from .options import OPTIONS, choice, chosen
from .statistics import BatchNormalizer, Seen
from .transition import Transition

SMALL_STATISTICS_BATCH = 8


class KalmanNorm(BatchNormalizer):
    """Batch Kalman normalization with running averages of what it normalizes with.

    Parameters beyond BatchNorm's:
        previous_channels: channels of the previous normalizer; None for the first of a chain, which has no prior (A4).
        variant: "learned" (the paper), "analytic" (closed form, this project's own), "released" (the authors' code) or
            "filter" (the Kalman filter of the mean, for contrast).
        gain: initial gain in (0, 1), in [0, 1] if constant; None: 0.1 at statistics batches of 8 or fewer images,
            else 0.95 (A5); or the name of a gain_kind, which then starts there. The filter computes its own.
        covariance: "diagonal", or "full" for the variant "learned".
        gain_kind: "learned" (sigmoid of one logit), "learned_per_channel", "pseudo_count" (A3) or "constant"; None:
            learned for the variant "learned", else constant. With full covariance one gain for all channels.
        transition: "full" (C, C'; the default), "diagonal" (C,) or "zero": frozen at 0, so that the prior N(0, R)
            knows no other layer (the control A12). For "learned"; without "zero" for "filter".
        noise: initial variance rho; None: 0.1 for a transition that starts as the identity, 1 - 1/C' for one that
            starts as 1/C' (0.1 with full covariance), 1 for zero (A5); or a KalmanNorm whose noise this one shares.
            noise_form: "scalar", "diagonal" or, with full covariance, "cholesky". For "learned" and "filter".
        push: "belief" (the default), "observed" or "released" (C4), for "analytic".
        shortcut: what the shortcut of a residual block gets, the "posterior" (the default) or the incoming "prior" if
            there is one. For "analytic" and "released".
        channel_padding: "per_batch" or, as the released code has it, "concatenated"; running_from: running averages of
            "all" statistics batches or of the "first"; guard: no prior in a forward where the mean over channels and
            batches of prior variance / batch variance is not below it, None for no guard; seed: of the draws, an
            integer or several; preset: "as_released" sets channel_padding, running_from, guard=100 and
            shortcut="prior" as the published code has them. For "released"; see docs/paper_and_code.md. The models
            have conv_padding beside these.
    Equations: see kalman_norm; M <- decay M + (1 - decay) mu, V likewise, averaged over the statistics batches (A9).
    Departs: the paper's covariance is full; the default here keeps its diagonal. The paper does not say how A, R and
        q start.
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
        noise_form=None,
        push=None,
        shortcut=None,
        channel_padding=None,
        running_from=None,
        guard=None,
        seed=None,
        preset=None,
        *,
        dtype=np.float64,
    ):
        super().__init__(channels, eps, decay, statistics_batch_size, inference, channel_axis, dtype)
        self.unbiased_running_var = unbiased_running_var
        self.variant = choice("variant", variant, tuple(OPTIONS))
        choices = ("diagonal", "full") if variant == "learned" else ("diagonal",)
        self.covariance = choice("covariance", covariance, choices, f" for the variant {variant!r}")
        self.form = FORMS["filter" if variant == "filter" else covariance]
        given = {"transition": transition, "noise": noise, "noise_form": noise_form, "push": push, "shortcut": shortcut}
        given |= {"channel_padding": channel_padding, "running_from": running_from, "guard": guard, "seed": seed}
        self.options = chosen(self.variant, given, preset)
        self.gain_rule = self._make_gain_rule(gain, gain_kind)  # None for the filter
        self.transition = None  # where A and R are parameters; else the prior is what arrives
        self.has_prior = previous_channels is not None
        if self.has_prior:
            self._start(channels, _arguments.whole("previous_channels", previous_channels, 1), dtype)
        if self.variant == "released":
            self.counters |= {"seed": np.array(self.options["seed"], np.int64), "draws": np.zeros((), np.int64)}
        self.grads = {name: np.zeros_like(p) for name, p in self.params.items()}
        self._borrowers_dnoise = 0.0  # to this layer's log_noise, from the layers that share it

    def _start(self, channels, previous, dtype):
        """The Kalman parameters, at their initial values (A5)."""
        if self.gain_rule is not None:
            params, counters = self.gain_rule.start(channels, dtype)
            self.params |= params
            self.counters |= counters
        if "transition" in self.options:
            kind, noise, noise_form = (self.options[name] for name in ("transition", "noise", "noise_form"))
            self.transition = Transition(kind, channels, previous, self.covariance == "full", noise, noise_form, dtype)
            self.params |= self.transition.start(dtype)

    def _make_gain_rule(self, gain, kind):
        if self.variant == "filter":
            if gain is not None or kind is not None:
                name, value = ("gain", gain) if gain is not None else ("gain_kind", kind)
                raise ValueError(f"{name} is {value!r}; expected none, since the filter computes its gain")
            return None
        if isinstance(gain, str) and kind is None:
            gain, kind = None, gain
        kinds = GAINS if self.covariance == "diagonal" else tuple(k for k in GAINS if k != "learned_per_channel")
        default = "learned" if self.variant == "learned" else "constant"
        where = " with full covariance" if self.covariance == "full" else ""
        kind = choice("gain_kind", default if kind is None else kind, kinds, where)
        if gain is None:
            size = self.statistics_batch_size
            gain = 0.1 if size is not None and size <= SMALL_STATISTICS_BATCH else 0.95
        return Gain(kind, gain)

    def gain(self, m=1):
        """The gain q in use, a number or one value per channel; pseudo_count needs m, samples of a statistics batch.

        None without a prior, and for the filter, which computes a gain for each batch.
        """
        return (
            None
            if self.gain_rule is None or not self.has_prior
            else self.gain_rule.value(self.params, self.counters, m)
        )

    # ---- the groups of one forward ----

    def prior(self, arrived, groups):
        """Prior for each statistics batch from the moments that arrive; None if there is none."""
        if not self.has_prior or (arrived is None and self.options.get("transition") != "zero"):
            return None
        return arrived if self.transition is None else self.transition.prior(self.params, arrived, groups)

    def _trusted(self, prior, x):
        """The prior, or None where the released code's guard rejects it."""
        guard = self.options.get("guard")
        if guard is None or prior is None:
            return prior
        with np.errstate(all="ignore"):
            ratio = np.mean(prior.var.real / observe(x).var.real)
        return prior if ratio < guard else None  # NaN is rejected too

    def normalize(self, x, arrived, training):
        prior = self._trusted(self.prior(arrived, len(x)), x)
        gain = None
        if prior is not None and self.gain_rule is not None:
            gain = self.gain_rule.value(self.params, self.counters, x.shape[1], training)
        forward, _ = self.form
        fused = forward(self.run, x, self.params["gamma"], self.params["beta"], prior, gain, self.eps)
        shown = prior
        if prior is not None and self.covariance == "full":
            shown = Moments(prior.mean, variances(prior.var))
        seen = Seen(x.shape[1], fused.observed, shown, fused.used, fused.gain)
        return fused.y, fused.estimate, (fused.cache, arrived, prior is not None, gain), seen

    def normalize_backward(self, dy, y, destimate, dobserved, kept):
        cache, arrived, had_prior, gain = kept
        _, backward = self.form
        dx, dgamma, dbeta, dprior, dgain = backward(partial(self.run_backward, y=y), dy, destimate, cache)
        if dobserved is not None:
            dx = dx + observe_backward(dobserved, cache.x, Moments(*(s.astype(dx.dtype) for s in cache.observed)))
        grads = {"gamma": dgamma, "beta": dbeta}
        darrived = None
        if had_prior:
            if self.gain_rule is not None:
                grads |= self.gain_rule.backward(dgain, gain)
            darrived = dprior
            if self.transition is not None:
                darrived, of_law = self.transition.backward(dprior, self.params, arrived)
                grads |= self._own(of_law)
        elif arrived is not None:
            darrived = Moments(*(np.zeros_like(s) for s in arrived))
        return dx, darrived, grads

    def _own(self, grads):
        """The gradients that are this layer's; that of a shared noise goes to the layer that lends it."""
        if self.transition.lender is not None:
            self.transition.lender._borrowers_dnoise += grads.pop("log_noise")
        return grads

    # ---- the estimate on its way ----

    def fork(self, x, estimate, training=False):
        """Forward at the head of a residual block: y, the estimate for the main branch, the one for the shortcut."""
        self._borrowers_dnoise = 0.0
        if self.fixed(training):
            y, cache = self.infer(x)
            return self.keep(y, "fixed", cache), None, None
        arrived = arriving(estimate)
        y, posterior, observed, kept = self.over_groups(x, arrived, training)
        observed = observed if self.options.get("push") == "observed" else None
        self.keep(y, "groups", kept, (posterior, observed), self._keeps_prior(estimate))
        sampler = self._sampler(training) if self.variant == "released" else None
        travel = {"analytic": "closed", "released": "sampled"}.get(self.variant, "held")
        main = side = Estimate(posterior, travel, sampler)
        if self.variant == "analytic":
            main = main._replace(moments=self._push(posterior, observed))
        if self._keeps_prior(estimate):
            side = estimate
        elif travel == "held":
            side = None  # the join keeps the main branch's
        return y, main, side

    def _keeps_prior(self, estimate):
        return self.options.get("shortcut") == "prior" and estimate is not None

    def _push(self, posterior, observed):
        return push(self.options["push"], posterior, observed, self.params["gamma"], self.params["beta"], self.eps)

    def _sampler(self, training):
        """A generator whose draws are a function of the seed and of the number of training forwards so far."""
        rng = np.random.default_rng([*self.counters["seed"].tolist(), int(self.counters["draws"])])
        if training:
            self.counters["draws"] += 1
        return Sampler(rng, self.options["channel_padding"], training)

    def fork_backward(self, dy, dmain, dside):
        """Backward of fork: dx and the gradient to the moments that arrived."""
        mode, kept, *rest = self.take(dy)
        if mode == "fixed":
            return self.infer_backward(dy, kept), None
        (posterior, observed), keeps_prior = rest
        dposterior, dobserved, through_push = dmain, None, {}
        if self.variant == "analytic" and dmain is not None:
            arguments = self.options["push"], posterior, observed, self.params["gamma"], self.params["beta"], self.eps
            dposterior, dobserved, dgamma, dbeta = push_backward(dmain, *arguments)
            through_push = {"gamma": dgamma, "beta": dbeta}
        if not keeps_prior:
            dposterior, dside = plus(dposterior, dside), None
        dx, darrived = self.over_groups_backward(dy, dposterior, kept, dobserved)
        self.add_grads(**through_push)
        return dx, plus(darrived, dside)

    def _overwrite(self, grads):
        super()._overwrite(grads)
        if "log_noise" in self.params:
            self.add_grads(log_noise=self._borrowers_dnoise)  # layers behind this one ran their backward before

    def carry(self, x, estimate, training=False):
        y, main, _ = self.fork(x, estimate, training)
        return y, main

    def carry_backward(self, dy, dmoments):
        return self.fork_backward(dy, dmoments, None)

    def forward(self, x, training=False):
        """Forward without an estimate from elsewhere: no prior (unless the transition is frozen at zero)."""
        return self.carry(x, None, training)[0]

    def backward(self, dy):
        return self.carry_backward(dy, None)[0]

    # ---- running averages ----

    def averaged_rows(self):
        return slice(0, 1) if self.options.get("running_from") == "first" else slice(None)


def plus(a, b):
    """Sum of two gradients to moments, None standing for zeros."""
    if a is None or b is None:
        return b if a is None else a
    return Moments(a.mean + b.mean, a.var + b.var)
