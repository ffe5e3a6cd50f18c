"""Moments through the layers between two normalizers, in closed form: the prior of analytic Kalman normalization.

Every `f` here has an `f_backward(doutput, <arguments of f>)` that returns the gradients of f's array arguments in
their order. Statistics are Moments, each (..., C), taken as Gaussian and as constant over the positions of a map;
results have the widest type of the array arguments. Errors: ValueError for a wrong shape, a negative variance or a
value out of range, TypeError for data that are not floating.

All of it is derived here (docs/equations.md, section C). The paper has a free linear transition instead (`predict`);
the released code of its authors draws samples, which `sampled` and `pad_concatenated` do as it does.
"""

from .activation import dropout, dropout_backward, leaky_relu, leaky_relu_backward, relu, relu_backward
from .linear import conv2d, conv2d_backward, linear, linear_backward
from .mixture import mixture, mixture_backward
from .pooling import (
    add,
    add_backward,
    avg_pool,
    avg_pool_backward,
    max_pool,
    max_pool_backward,
    pad_channels,
    pad_channels_backward,
)
from .push import push, push_backward
from .sampled import pad_concatenated, pad_concatenated_backward, sampled, sampled_backward

__all__ = [
    "add",
    "add_backward",
    "avg_pool",
    "avg_pool_backward",
    "conv2d",
    "conv2d_backward",
    "dropout",
    "dropout_backward",
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
