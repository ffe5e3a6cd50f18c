"""The transport a second time, as loops over channels and positions, number by number.

As in normalizers.py nothing is shared with what is judged, and a backward can plant one `mistake` of those in MISTAKES.
"""

from .activation import MISTAKES as ACTIVATION
from .activation import dropout, dropout_backward, leaky_relu, leaky_relu_backward, relu, relu_backward
from .linear import MISTAKES as LINEAR
from .linear import conv2d, conv2d_backward, linear, linear_backward
from .mixture import MISTAKES as MIXTURE
from .mixture import mixture, mixture_backward
from .pooling import MISTAKES as POOLING
from .pooling import (
    add,
    add_backward,
    avg_pool,
    avg_pool_backward,
    largest_of_4,
    max_pool,
    max_pool_backward,
    pad_channels,
    pad_channels_backward,
)
from .push import MISTAKES as PUSH
from .push import push, push_backward
from .sampled import MISTAKES as SAMPLED
from .sampled import pad_concatenated, pad_concatenated_backward, sampled, sampled_backward

MISTAKES = ACTIVATION | LINEAR | MIXTURE | POOLING | PUSH | SAMPLED

__all__ = [
    "MISTAKES",
    "add",
    "add_backward",
    "avg_pool",
    "avg_pool_backward",
    "conv2d",
    "conv2d_backward",
    "dropout",
    "dropout_backward",
    "largest_of_4",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "max_pool",
    "max_pool_backward",
    "mixture",
    "mixture_backward",
    "pad_channels",
    "pad_channels_backward",
    "pad_concatenated",
    "pad_concatenated_backward",
    "push",
    "push_backward",
    "relu",
    "relu_backward",
    "sampled",
    "sampled_backward",
]
