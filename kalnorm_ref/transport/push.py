"""Which Gaussian does a normalizer send on to the layers behind it? Three answers (C4).

    belief     mean = beta                         var = gamma^2 v r^2    its output, if its estimate (mu, v) held
    observed   mean = beta + gamma (xbar - mu) r   var = gamma^2 S r^2    its output, as the batch says
    released   mean = mu                           var = v                its input: the authors' released code
                                                   with r = (v + eps)^(-1/2)

Belief and observed keep the invariance to the scale of the incoming weights up to eps; released does not. In belief
mode, without residual streams, the next prior depends on gamma, beta and the weights only, again up to eps: nothing of
the data is remembered.
"""

import numpy as np

from .. import _transport_checks
from ..backend import checked
from ..moments import Moments, sum_to_shape

MODES = ("belief", "observed", "released")


@checked(_transport_checks.push)
def push(mode, estimate, observed, gamma, beta, eps=1e-5):
    """The Gaussian that a normalizer sends on.

    Equations: at the head of this file (C4).
    Shapes: mode "belief", "observed" or "released"; estimate (mu, v) and observed (xbar, S) each (..., C), observed may
        be None unless the mode is "observed"; gamma, beta (C,) or None; eps >= 0.
    Returns: Moments (..., C).
    """
    if mode == "released":
        return estimate
    gamma, beta = _or(gamma, 1), _or(beta, 0)
    mu, v = estimate
    r = 1 / np.sqrt(v + eps)
    if mode == "belief":
        return Moments(beta + np.zeros_like(mu), gamma**2 * v * r**2)
    xbar, s = observed
    return Moments(beta + gamma * (xbar - mu) * r, gamma**2 * s * r**2)


@checked(_transport_checks.push_backward)
def push_backward(doutput, mode, estimate, observed, gamma, beta, eps=1e-5):
    """Gradient of push: destimate, dobserved, dgamma, dbeta, each with the shape of its argument, None for None.

    Equations (C4): released: dmu = dtm ; dv = dtv. belief: dbeta = dtm ; dgamma = 2 gamma v r^2 dtv ;
        dv = gamma^2 eps r^4 dtv. observed: dbeta = dtm ; dgamma = (xbar - mu) r dtm + 2 gamma S r^2 dtv ;
        dxbar = gamma r dtm = -dmu ; dv = -1/2 gamma (xbar - mu) r^3 dtm - gamma^2 S r^4 dtv ; dS = gamma^2 r^2 dtv.
    """
    dtm, dtv = doutput
    mu, v = estimate
    dmu = dv = dxbar = ds = dg = db = None  # for zeros
    if mode == "released":
        dmu, dv = dtm, dtv
    else:
        g = _or(gamma, 1)
        r = 1 / np.sqrt(v + eps)
        db = dtm
        if mode == "belief":
            dg, dv = 2 * g * v * r**2 * dtv, (g * r**2) ** 2 * eps * dtv
        else:
            xbar, s = observed
            dg = (xbar - mu) * r * dtm + 2 * g * s * r**2 * dtv
            dxbar, ds = g * r * dtm, g**2 * r**2 * dtv
            dmu, dv = -dxbar, -g * (xbar - mu) * r**3 * dtm / 2 - g**2 * s * r**4 * dtv
    destimate, dobserved = _shaped((dmu, dv), estimate), _shaped((dxbar, ds), observed)
    return destimate, dobserved, _summed(dg, gamma), _summed(db, beta)


def _summed(gradient, like):
    """Gradient of an argument from that of its broadcast, None for zeros; None for None."""
    if like is None:
        return None
    return np.zeros_like(like) if gradient is None else sum_to_shape(gradient, like.shape)


def _shaped(pair, like):
    return None if like is None else Moments(*(_summed(d, a) for d, a in zip(pair, like, strict=True)))


def _or(parameter, absent):
    return absent if parameter is None else parameter
