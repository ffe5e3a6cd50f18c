"""The stateful BatchNorm and BatchRenorm: parameters and running averages around the pure functions."""

import numpy as np

from .. import _arguments
from ..batch_norm import batch_norm_backward, batch_norm_forward
from ..batch_renorm import batch_renorm_backward, batch_renorm_forward, renorm_corrections
from ..moments import Moments, observe
from .statistics import BatchNormalizer, Seen


class BatchNorm(BatchNormalizer):
    """Batch normalization with running averages.

    Equations: batch_norm_forward in training; gamma (x - M) / sqrt(V + eps) + beta in inference;
        M <- decay M + (1 - decay) xbar, V likewise with the biased variance, or the unbiased one if so asked (B1, A9).
        For inference other than "running" see A13.
    Departs: PyTorch averages the unbiased variance: unbiased_running_var=True, and its momentum is 1 - decay.
    Reference: Ioffe and Szegedy 2015, arXiv 1502.03167.
    """

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

    def normalize(self, x, arrived, training):
        y, moments, cache = self.run(batch_norm_forward, x, self.params["gamma"], self.params["beta"], self.eps)
        return y, None, cache, Seen(x.shape[1], moments, None, moments, None)

    def normalize_backward(self, dy, y, destimate, dobserved, cache):
        dx, dgamma, dbeta = self.run_backward(batch_norm_backward, dy, cache, y=y)
        return dx, None, {"gamma": dgamma, "beta": dbeta}


class BatchRenorm(BatchNormalizer):
    """Batch renormalization with running mean and running standard deviation.

    Equations: batch_renorm_forward with renorm_corrections from the running values before this batch's update; then
        M <- decay M + (1 - decay) mu, Sg <- decay Sg + (1 - decay) s, s = sqrt(var + eps). Inference:
        gamma (x - M) / Sg + beta (B2). r_max and d_max: numbers or functions of the step (see optim.renorm_schedule).
        Inference "batch" is that of batch normalization: r = 1, d = 0; "population" averages what training normalizes
        with, mean - d s/r and (s/r)^2 - eps, which is M and Sg^2 - eps where nothing is clipped (A13).
    Departs: nothing. Elsewhere the variance is averaged in place of s.
    Reference: Ioffe 2017, arXiv 1702.03275.
    """

    second = "running_std"

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
        super().__init__(channels, eps, decay, statistics_batch_size, inference, channel_axis, dtype)
        if unbiased_running_var:
            raise ValueError("unbiased_running_var is True; expected False, since BRN averages standard deviations")
        self.limits = tuple(limit if callable(limit) else float(limit) for limit in (r_max, d_max))
        for name, limit, low in zip(("r_max", "d_max"), self.limits, (1, 0), strict=True):
            _arguments.number(name, limit(0) if callable(limit) else limit, low)

    def corrections(self, moments, training):
        """r and d for these statistics batches; 1 and 0 in inference."""
        if not training:
            return 1.0, 0.0
        r_max, d_max = (limit(self.step) if callable(limit) else limit for limit in self.limits)
        mean, std = self.running["running_mean"], self.running["running_std"]
        return renorm_corrections(moments, mean, std, r_max, d_max, self.eps)

    def normalize(self, x, arrived, training):
        r, d = self.corrections(observe(x), training)
        gamma, beta = self.params["gamma"], self.params["beta"]
        y, moments, cache = self.run(batch_renorm_forward, x, gamma, beta, r, d, self.eps)
        std = np.sqrt(moments.var + self.eps)
        # x_hat = (x - mean) r / std + d = (x - (mean - d std / r)) / (std / r)
        used = Moments(moments.mean - d * std / r, np.maximum(((std / r) ** 2).real - self.eps, 0))
        return y, None, cache, Seen(x.shape[1], moments, None, used, None)

    def normalize_backward(self, dy, y, destimate, dobserved, cache):
        dx, dgamma, dbeta = self.run_backward(batch_renorm_backward, dy, cache, y=y)
        return dx, None, {"gamma": dgamma, "beta": dbeta}

    def averaged(self, seen):
        return {"running_mean": seen.observed.mean, "running_std": np.sqrt(seen.observed.var + self.eps)}

    def running_moments(self):
        return Moments(self.running["running_mean"], self.running["running_std"] ** 2), 0.0  # the std contains eps
