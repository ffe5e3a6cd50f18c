"""A normalizer and the ReLU behind it as one computation, which moves each map once where two would move it twice.

    forward   y = max(normalizer(x), 0)
    backward  dy counts where y > 0, then the normalizer's own backward ; dx + plus                               (E3)

`forward` and `backward` take the normalizer's function and its arguments. The compiled twins have the ReLU in their
innermost loops; going back they find its mask from x, and never read y (all but standardize_backward). With `later`
they do not even write y: it is a Deferred, which the convolution behind computes from x while it reads it, see
convolution.convolve; np.asarray gives its y.
"""

from . import backend
from .maps import add, relu_backward, relu_forward
from .moments import standardize_backward


def forward(function, *arguments, later=False, observed=None):
    """The results of a normalizer's forward, the first of them, y, rectified.

    observed: what the convolution before has seen of x while it wrote it, or None.
    """
    if backend.runs_compiled(function):
        return backend.compiled(function, "rectified_forward", arguments, later, observed)
    y, *rest = function(*arguments)
    return relu_forward(y), *rest


def backward(function, dy, y, *arguments, plus=None):
    """The results of a normalizer's backward for the gradient of its rectified y; y is what `forward` returned.

    plus, of as many numbers as dx, is added to dx: what comes back along the shortcut of a residual block.
    """
    if backend.runs_compiled(function) and function is not standardize_backward:
        return backend.compiled(function, "rectified_backward", (dy, *arguments), plus)
    dx, *rest = function(relu_backward(dy, y), *arguments)
    return dx if plus is None else add(dx, plus.reshape(dx.shape)), *rest
