"""A normalizer and the ReLU behind it as one computation, which moves each map once where two would move it twice.

    forward   y = max(normalizer(x), 0)
    backward  dy counts where y > 0, then the normalizer's own backward                                          (E3)

`forward` and `backward` take the normalizer's function and its arguments. The compiled twins have the ReLU in their
innermost loops; going back they find its mask from x, and never read y.
"""

from . import backend
from .maps import relu_backward, relu_forward


def forward(function, *arguments):
    """The results of a normalizer's forward, the first of them, y, rectified."""
    if backend.runs_compiled(function):
        return backend.compiled(function, "rectified_forward", arguments)
    y, *rest = function(*arguments)
    return relu_forward(y), *rest


def backward(function, dy, y, *arguments):
    """The results of a normalizer's backward for the gradient of its rectified y; y is what `forward` returned."""
    if backend.runs_compiled(function):
        return backend.compiled(function, "rectified_backward", (dy, *arguments))
    return function(relu_backward(dy, y), *arguments)
