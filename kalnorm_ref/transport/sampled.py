"""The transition of the authors' released code: moments through a ReLU and a convolution by drawing one synthetic map.

    z = mu + v^(1/2) n ,  n standard normal, one draw for each position and channel
    h = max(z, 0) ;  u = conv(h, W) ;  M = mean u ,  V = mean (u - M)^2  over the P positions of u       (C5)
    du = dM/P + 2 dV (u - M)/P ;  dh, dW = backward of the convolution ;  dz = dh where z > 0
    dmu = sum dz ;  dv = sum dz n / (2 v^(1/2)) ;  dn = v^(1/2) dz

The draws are an argument, so that the function is one; the layers draw them from seeded generators.
"""

import numpy as np

from .. import _transport_checks
from ..backend import checked, twinned
from ..convolution import Conv2dCache, conv2d_backward, conv2d_forward
from ..moments import Moments, observe, observe_backward
from .activation import SMALLEST_VAR


def _draw(estimate, draws):
    """z, as maps (maps, H, W, C), and v^(1/2)."""
    mean, var = (s[..., None, None, :] for s in estimate)
    std = np.sqrt(var)
    return (mean + std * draws).reshape(-1, *draws.shape[-3:]), std


def _positions(u, draws):
    """Maps (maps, H', W', C) as samples (..., H' W', C)."""
    return u.reshape(*draws.shape[:-3], -1, u.shape[-1])


@twinned(_transport_checks.sampled)
def sampled(estimate, draws, weight, stride, padding):
    """Mean and variance over the positions of a synthetic map after ReLU and convolution.

    Equations: z = mu + v^(1/2) n ; u = conv(max(z, 0), W) ; mean and biased variance of u over its positions (C5).
    Shapes: estimate (mu, v) each (..., C_in); draws n (..., H, W, C_in), standard normal; weight (kh, kw, C_in, C_out);
        stride >= 1; padding p or ((top, bottom), (left, right)).
    Returns: Moments (..., C_out).
    Raises: ValueError for mismatched shapes or a negative variance; TypeError for types that are not floating.
    Departs: nothing from the released code. Its expectation over the draws is that of conv2d(relu(estimate)), but for
        the variance of the map's own mean, which a map cannot show.
    Reference: github.com/wanggrun/Kalman-Normalization, the function that transports the state.
    """
    z, _ = _draw(estimate, draws)
    u, _ = conv2d_forward(np.where(z.real <= 0, 0, z), weight, None, stride, padding)
    return observe(_positions(u, draws))


@twinned(_transport_checks.sampled_backward)
def sampled_backward(doutput, estimate, draws, weight, stride, padding):
    """Gradient of sampled: destimate, ddraws, dweight.

    Equations: at the head of this file (C5). At v = 0 the derivative of the root is taken as that at 1e-60.
    """
    z, std = _draw(estimate, draws)
    h = np.where(z.real <= 0, 0, z)
    u, _ = conv2d_forward(h, weight, None, stride, padding)
    samples = _positions(u, draws)
    du = observe_backward(doutput, samples, observe(samples)).reshape(u.shape)
    dh, dweight, _ = conv2d_backward(du, Conv2dCache(h, weight, None, stride, padding))
    dz = np.where(z.real <= 0, 0, dh).reshape(draws.shape)
    floor = np.where(std.real < SMALLEST_VAR**0.5, SMALLEST_VAR**0.5, std)
    dvar = dz * draws / (2 * floor)
    return Moments(dz.sum(axis=(-3, -2)), dvar.sum(axis=(-3, -2))), dz * std, dweight


@checked(_transport_checks.pad_channels)
def pad_concatenated(estimate, before, after):
    """Channels of zeros added as the released code adds them: around all statistics batches laid end to end.

    Equations: with G statistics batches of C channels, the vector of all G C values gets G `before` zeros in front and
        G `after` behind, and is cut into G parts again. For G = 1 this is pad_channels; for more the moments end up in
        the wrong statistics batch and channel.
    Shapes: estimate each (..., C).
    Returns: Moments (..., before + C + after).
    Reference: github.com/wanggrun/Kalman-Normalization, the shortcut between stages.
    """
    return Moments(*(_around(s, before, after) for s in estimate))


def _around(statistic, before, after):
    *lead, c = statistic.shape
    groups = statistic.size // c
    return np.pad(statistic.reshape(-1), (groups * before, groups * after)).reshape(*lead, before + c + after)


@checked(_transport_checks.pad_channels_backward)
def pad_concatenated_backward(doutput, estimate, before, after):
    """Gradient of pad_concatenated to the estimate."""
    shape = estimate.mean.shape
    groups = estimate.mean.size // shape[-1]
    inside = slice(groups * before, groups * before + estimate.mean.size)
    return Moments(*(d.reshape(-1)[inside].reshape(shape) for d in doutput))
