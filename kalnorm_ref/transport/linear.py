"""Moments after a linear map or a convolution, of inputs that are independent between channels and positions.

    linear   mean = mu W + b ;  var = v (W*W)                                                 (C2)
    conv     a_ok = sum_c W_kco mu_c ;  w_ok = sum_c W_kco^2 v_c      at each tap k of the kernel
             mean_o = sum_k f_k a_ok ;  var_o = sum_k f_k w_ok + sum_kl G_kl a_ok a_ol         (C2)

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

    Equations: a_ok = sum_c W_kco mu_c ; w_ok = sum_c W_kco^2 v_c ; mean_o = sum_k f_k a_ok ;
        var_o = sum_k f_k w_ok + sum_kl G_kl a_ok a_ol (C2), f and G as in `border`.
    Shapes: estimate each (..., C_in); weight (kh, kw, C_in, C_out); stride >= 1; padding p or ((top, bottom),
        (left, right)); input_size (H, W).
    Returns: Moments (..., C_out). Exact for inputs independent over channels and positions.
    """
    f, g = border(weight.shape[:2], stride, padding, input_size)
    a, w = _taps(estimate.mean, weight), _taps(estimate.var, weight**2)
    return Moments(_weigh(f, a), _weigh(f, w) + (a * _across(g, a)).sum(axis=0))


@checked(_transport_checks.conv2d_backward)
def conv2d_backward(doutput, estimate, weight, stride, padding, input_size):
    """Gradient of conv2d: destimate, dweight.

    Equations: da_ok = f_k dmean_o + 2 dvar_o sum_l G_kl a_ol ; dw_ok = f_k dvar_o ;
        dW_kco = da_ok mu_c + 2 W v_c dw_ok ; dmu_c = sum_ok W_kco da_ok ; dv_c = sum_ok W_kco^2 dw_ok (C2).
    """
    f, g = border(weight.shape[:2], stride, padding, input_size)
    a = _taps(estimate.mean, weight)
    dmean, dvar = doutput
    da = _each(f, dmean) + 2 * dvar * _across(g, a)
    dw = _each(f, dvar)
    flat = weight.reshape(-1, *weight.shape[2:])  # (K, C_in, C_out)
    dweight = _by_tap(estimate.mean, da) + 2 * flat * _by_tap(estimate.var, dw)
    destimate = Moments(_from_taps(da, flat), _from_taps(dw, flat**2))
    return destimate, dweight.reshape(weight.shape)


def _taps(statistic, weight):
    """sum over the input channels at each tap: (..., C_in) with (kh, kw, C_in, C_out) -> (K, ..., C_out)."""
    taps = statistic.reshape(-1, statistic.shape[-1]) @ weight.reshape(-1, *weight.shape[2:])
    return taps.reshape(-1, *statistic.shape[:-1], weight.shape[-1])


def _weigh(f, taps):
    """sum_k f_k taps_k."""
    return np.tensordot(f, taps, axes=1)


def _across(g, taps):
    """sum_l G_kl taps_l, for each k."""
    return np.tensordot(g, taps, axes=1)


def _each(f, statistic):
    """f_k times the statistic, for each k."""
    return np.multiply.outer(f, statistic)


def _by_tap(statistic, dtaps):
    """Gradient of _taps to the weight: (..., C_in) with (K, ..., C_out) -> (K, C_in, C_out), summed over batches."""
    statistic = statistic.reshape(-1, statistic.shape[-1])
    return statistic.T @ dtaps.reshape(len(dtaps), len(statistic), dtaps.shape[-1])


def _from_taps(dtaps, flat):
    """Gradient of _taps to the statistic: (K, ..., C_out) with (K, C_in, C_out) -> (..., C_in)."""
    batches = dtaps.reshape(len(dtaps), -1, dtaps.shape[-1])
    return (batches @ flat.swapaxes(1, 2)).sum(axis=0).reshape(*dtaps.shape[1:-1], flat.shape[1])
