"""The layers of the networks: explicit forward and backward, one cache each."""

from .activation import Dropout, ReLU
from .base import Estimate, Identity, Layer
from .convolution import Conv2d
from .group import GroupKalmanNorm, GroupNorm, InstanceNorm, LayerNorm
from .image import ImageKalmanNorm
from .kalman import KalmanNorm
from .linear import Flatten, Linear
from .loss import cross_entropy
from .normalization import BatchNorm, BatchRenorm
from .pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d, PadChannels

__all__ = [
    "AvgPool2d",
    "BatchNorm",
    "BatchRenorm",
    "Conv2d",
    "Dropout",
    "Estimate",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupKalmanNorm",
    "GroupNorm",
    "Identity",
    "ImageKalmanNorm",
    "InstanceNorm",
    "KalmanNorm",
    "Layer",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "PadChannels",
    "ReLU",
    "cross_entropy",
]
