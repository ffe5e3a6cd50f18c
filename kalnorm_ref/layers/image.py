"""The first normalizer of a chain, with statistics of each image by itself, in training and in inference."""

from ..transport import mixture, mixture_backward
from .base import arriving
from .kalman import KalmanNorm
from .options import choice


class ImageKalmanNorm(KalmanNorm):
    """KalmanNorm without a prior that standardizes each image with the image's own mean and variance, in every mode.

    The first normalizer of a chain has no prior (A4). At a statistics batch of one image it removes what sets an image
    apart, brightness and contrast of each channel, and no statistic fixed at inference does that: the layers behind,
    which have a prior, then meet maps that they never saw. This layer does the same thing in training and inference.

    Parameters: KalmanNorm's, with the variants "learned" and "analytic" and without previous_channels;
        statistics_batch_size is that of the layers behind, for which the moments of its images are mixed.
    Equations: xbar, S of each image (B0, B1); what it sends on is the mixture of what its images would (C6).
        A map of one position has nothing but its mean: y = beta.
    Departs: the paper says nothing of the first normalizer.
    """

    def __init__(self, channels, previous_channels=None, *, covariance="diagonal", **options):
        if previous_channels is not None:
            raise ValueError(f"previous_channels is {previous_channels}; expected None, since this layer has no prior")
        choice("covariance", covariance, ("diagonal",), " for statistics of each image")
        super().__init__(channels, covariance=covariance, **options)
        choice("variant", self.variant, ("learned", "analytic"), " for statistics of each image")
        self._mixed = None, None, None  # of the last forward: rows sent to the main branch, to the shortcut, size

    def fork(self, x, estimate, training=False):
        arriving(estimate)  # there is no prior to use it, but it has to be one
        y, main, side = super().fork(x, None, training)
        self._mixed = None, None, None
        if super().fixed(training):
            return y, None, None  # those behind do inference with fixed statistics and read none
        size = self.statistics_batch_size or len(main.moments.mean)
        self._mixed = *(None if e is None else e.moments for e in (main, side)), size
        return y, *(None if e is None else e._replace(moments=mixture(e.moments, size)) for e in (main, side))

    def fork_backward(self, dy, dmain, dside):
        *rows, size = self._mixed
        pairs = zip((dmain, dside), rows, strict=True)
        back = (None if d is None or of is None else mixture_backward(d, of, size) for d, of in pairs)
        return super().fork_backward(dy, *back)

    def groups(self, n, training):
        if n == 0:
            raise ValueError("x has no image; expected at least one")
        super().groups(n, training)  # refuses what those behind refuse
        return [(slice(0, n), slice(0, n))]

    def fixed(self, training):
        return False
