"""Moments after a linear map or a convolution, of inputs that are independent between channels and positions.

    linear   mean = mu W + b ;  var = v (W*W)                                                 (C2)
    conv     a_ok = sum_c W_kco mu_c                                  at each tap k of the kernel
             mean_o = sum_k f_k a_ok ;  var_o = sum_kc f_k W_kco^2 v_c + sum_kl G_kl a_ok a_ol  (C2)

With zero padding, the border makes the mean differ between positions; f and G (see `border`) account for it.
"""

import functools

import numpy as np

from .. import _transport_checks
from ..backend import checked
from ..moments import Moments, sum_outer, sum_to_shape


@checked(_transport_checks.linear)
def linear(estimate, weight, bias=None):
    """Mean and variance after y = x W + b.

    Equations: mean = mu W + b, exact ; var = v (W*W), exact for uncorrelated inputs (C2).
    Shapes: estimate each (..., C_in); weight (C_in, C_out); bias (C_out,) or None.
    Returns: Moments (..., C_out).
    """
    mean = estimate.mean @ weight
    return Moments(mean if bias is None else mean + bias, estimate.var @ weight**2)


@checked(_transport_checks.linear_backward)
def linear_backward(doutput, estimate, weight, bias=None):
    """Gradient of linear: destimate, dweight, dbias (None without bias).

    Equations: dmu = dmean W^T ; dv = dvar (W*W)^T ; dW = mu^T dmean + 2 W * (v^T dvar) ; dbias = sum dmean (C2).
    """
    dmean, dvar = doutput
    dweight = sum_outer(estimate.mean, dmean) + 2 * weight * sum_outer(estimate.var, dvar)
    destimate = Moments(dmean @ weight.T, dvar @ (weight**2).T)
    return destimate, dweight, None if bias is None else sum_to_shape(dmean, bias.shape)


@functools.lru_cache(maxsize=256)
def border(kernel, stride, padding, input_size):
    """How zero padding covers a kernel of K taps: the share f (K,) of output positions at which each tap is inside the
    image, and the covariance G (K, K) over the positions of "tap k inside" and "tap l inside" (C2)."""

    def inside(n, k, pads):  # 1 where tap a of output position i is inside the image, (positions, k)
        i, a = np.ogrid[: (n + sum(pads) - k) // stride + 1, :k]
        at = i * stride + a - pads[0]
        return ((at >= 0) & (at < n)).astype(float)

    along = [inside(*axis) for axis in zip(input_size, kernel, padding, strict=True)]
    f = np.kron(*(m.mean(axis=0) for m in along))
    both = np.kron(*(m.T @ m / len(m) for m in along))
    return f, both - np.outer(f, f)


@checked(_transport_checks.conv2d)
def conv2d(estimate, weight, stride, padding, input_size):
    """Mean and variance, over samples and positions, after a convolution with zero padding.

    Equations: a_ok = sum_c W_kco mu_c ; mean_o = sum_c (sum_k f_k W_kco) mu_c ;
        var_o = sum_c (sum_k f_k W_kco^2) v_c + sum_kl G_kl a_ok a_ol (C2), f and G as in `border`.
    Shapes: estimate each (..., C_in); weight (kh, kw, C_in, C_out); stride >= 1; padding p or ((top, bottom),
        (left, right)); input_size (H, W).
    Returns: Moments (..., C_out). Exact for inputs independent over channels and positions.
    """
    f, g = border(weight.shape[:2], stride, padding, input_size)
    mu, v = _rows(estimate.mean), _rows(estimate.var)
    flat = weight.reshape(-1, *weight.shape[2:])  # (K, C_in, C_out)
    a = mu @ flat  # (K, rows, C_out)
    mean, var = mu @ _across(f, flat), v @ _across(f, flat**2) + (a * _across(g, a)).sum(axis=0)
    shape = (*estimate.mean.shape[:-1], weight.shape[-1])
    return Moments(mean.reshape(shape), var.reshape(shape))


@checked(_transport_checks.conv2d_backward)
def conv2d_backward(doutput, estimate, weight, stride, padding, input_size):
    """Gradient of conv2d: destimate, dweight.

    Equations: da_ok = f_k dmean_o + 2 dvar_o sum_l G_kl a_ol ; dmu_c = sum_ok W_kco da_ok ;
        dv_c = sum_o (sum_k f_k W_kco^2) dvar_o ; dW_kco = sum mu_c da_ok + 2 f_k W_kco sum v_c dvar_o (C2).
    """
    f, g = border(weight.shape[:2], stride, padding, input_size)
    mu, v = _rows(estimate.mean), _rows(estimate.var)
    dmean, dvar = _rows(doutput.mean), _rows(doutput.var)
    flat = weight.reshape(-1, *weight.shape[2:])
    da = np.multiply.outer(f, dmean) + 2 * dvar * _across(g, mu @ flat)
    dmu, dv = (da @ flat.swapaxes(1, 2)).sum(axis=0), dvar @ _across(f, flat**2).T
    dweight = mu.T @ da + flat * np.multiply.outer(2 * f, v.T @ dvar)
    shape = estimate.mean.shape
    return Moments(dmu.reshape(shape), dv.reshape(shape)), dweight.reshape(weight.shape)


def _rows(statistic):
    """(..., C) -> (rows, C)."""
    return statistic.reshape(-1, statistic.shape[-1])


def _across(weights, taps):
    """sum_l weights_l taps_l, for each k where the weights are (K, K)."""
    return (weights @ taps.reshape(len(taps), -1)).reshape(*weights.shape[:-1], *taps.shape[1:])
