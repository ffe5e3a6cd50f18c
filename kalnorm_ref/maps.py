"""What happens to feature maps between normalizers and convolutions: pure pairs for rectifying, pooling and adding.

relu      y = max(x, 0) ;  dx = 0 where y <= 0, else dy
avg_pool  y = mean over each block of high x wide positions ;  dx = dy / (high wide) at each of them
pad       y = (0, x, 0), zeros before and after the channels ;  dx = what stands between them in dy
add       y = a + b ;  da = db = dy                                                                          (E3)
"""

import numpy as np

from . import _checks
from .backend import twinned


@twinned(_checks.relu_forward)
def relu_forward(x):
    """Rectify.

    Equations: y = max(x, 0) (E3); NaN stays NaN; the sign of a complex x is that of its real part.
    Shapes: x (...), any.
    Returns: y, the shape of x.
    Raises: TypeError for types that are not floating.
    Departs: nothing.
    Reference: Nair and Hinton 2010, Rectified linear units.
    """
    return np.where(x.real <= 0, 0, x)


@twinned(_checks.relu_backward)
def relu_backward(dy, y):
    """Gradient of the rectifier, from its result.

    Equations: dx = 0 where y <= 0, else dy (E3): it passes where y is NaN.
    Shapes: dy, y (...), equal.
    Returns: dx.
    Raises: ValueError if dy and y differ in shape.
    Departs: nothing; at x = 0 the gradient is 0, as in PyTorch.
    Reference: the chain rule.
    """
    return np.where(y.real <= 0, 0, dy)


@twinned(_checks.avg_pool_forward)
def avg_pool_forward(x, high, wide):
    """Average each block of high x wide positions.

    Equations: y[n,i,j,c] = mean_{a < high, b < wide} x[n, i high + a, j wide + b, c] (E3).
    Shapes: x (N, H, W, C), H a multiple of high, W of wide.
    Returns: y (N, H/high, W/wide, C).
    Raises: ValueError for another shape.
    Departs: nothing.
    Reference: the definition.
    """
    n, h, w, c = x.shape
    return x.reshape(n, h // high, high, w // wide, wide, c).mean(axis=(2, 4))


@twinned(_checks.avg_pool_backward)
def avg_pool_backward(dy, high, wide):
    """Gradient of avg_pool_forward.

    Equations: dx = dy / (high wide) at each position of the block (E3).
    Shapes: dy (N, H', W', C).
    Returns: dx (N, H' high, W' wide, C).
    Raises: ValueError for another shape.
    Departs: nothing.
    Reference: the chain rule.
    """
    return np.repeat(np.repeat(dy / (high * wide), high, axis=1), wide, axis=2)


@twinned(_checks.pad_channels_forward)
def pad_channels_forward(x, before, after):
    """Add channels of zeros, where a shortcut meets a wider map.

    Equations: y[..., before : before + C] = x, else 0 (E3).
    Shapes: x (..., C); before, after >= 0.
    Returns: y (..., before + C + after).
    Raises: ValueError for a negative number of channels.
    Departs: nothing.
    Reference: He et al. 2015, arXiv 1512.03385, shortcut A.
    """
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(before, after)])


@twinned(_checks.pad_channels_backward)
def pad_channels_backward(dy, before, after):
    """Gradient of pad_channels_forward.

    Equations: dx = dy[..., before : before + C] (E3).
    Shapes: dy (..., before + C + after).
    Returns: dx (..., C).
    Raises: ValueError for fewer channels than were added.
    Departs: nothing.
    Reference: the chain rule.
    """
    return dy[..., before : dy.shape[-1] - after].copy()


@twinned(_checks.add)
def add(a, b):
    """Add two maps, where the branches of a residual block meet.

    Equations: y = a + b (E3).
    Shapes: a, b (...), equal.
    Returns: y.
    Raises: ValueError if they differ in shape.
    Departs: nothing.
    Reference: He et al. 2015, arXiv 1512.03385.
    """
    return a + b
