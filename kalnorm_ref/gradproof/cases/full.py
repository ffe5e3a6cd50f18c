"""Cases of the full covariance, its noise, and the filter on the mean. No matrix is symmetric: a transpose shows."""

import numpy as np

from ... import full_covariance as full
from ... import kalman_filter
from ..loops import full as loops
from ..loops import kalman_filter as filter_loops
from ..pairs import EPS, C, G, M, pair


def covariance(draw, *shape):
    """As positive as one, but not symmetric: a gradient is that of each element by itself."""
    return draw.normal(*shape, shape[-1]) + 10 * np.eye(shape[-1])


@pair(full, "full.predict", "mean cov transition noise_cov", loops)
def predict(draw):
    arguments = draw.normal(G, 2, mean=5.0), covariance(draw, G, 2), draw.normal(C, 2), covariance(draw, C)
    yield "", arguments, (draw.normal(G, C), draw.normal(G, C, C))


@pair(full, "full.kalman_norm", "x gamma beta prior_mean prior_cov gain", loops, "cache")
def kalman_normalize(draw):
    start, above = (
        (draw.x(G, M, C), draw.gamma(), draw.beta()),
        (draw.normal(G, M, C), draw.normal(G, C), draw.normal(G, C, C)),
    )
    yield "a prior each", (*start, draw.normal(G, C, mean=5.0), covariance(draw, G, C), 0.6, EPS), above
    yield "one prior", (*start, draw.normal(C, mean=5.0), covariance(draw, C), 0.3, EPS), above
    yield "no prior", (*start, None, None, None, EPS), above


@pair(full, "full.scalar_noise", "log_noise", loops)
def scalar_noise(draw):
    yield "", (-0.7, C), (draw.normal(C, C),)


@pair(full, "full.diagonal_noise", "log_noise", loops)
def diagonal_noise(draw):
    yield "", (draw.normal(C),), (draw.normal(C, C),)


@pair(full, "full.cholesky_noise", "factor", loops)
def cholesky_noise(draw):
    yield "", (draw.normal(C, C),), (draw.normal(C, C),)


@pair(kalman_filter, "kalman_filter_norm", "x gamma beta prior", filter_loops, "cache")
def filter_mean(draw):
    start, above = (draw.x(G, M, C), draw.gamma(), draw.beta()), (draw.normal(G, M, C), draw.gradient(G, C))
    yield "a prior each", (*start, draw.moments(G, C), EPS), above
    yield "one prior", (*start, draw.moments(C), EPS), above
    yield "no prior", (*start, None, EPS), above
