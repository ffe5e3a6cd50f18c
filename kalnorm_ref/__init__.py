"""Batch, batch-renorm and batch-Kalman normalization side by side: explicit forward and backward, NumPy and Cython."""

from . import data, gradcheck, models, optim, transport
from .backend import get_backend, set_num_threads, use_backend
from .batch_norm import batch_norm_backward, batch_norm_forward
from .batch_renorm import batch_renorm_backward, batch_renorm_forward, renorm_corrections
from .kalman_norm import kalman_norm_backward, kalman_norm_forward
from .layers import (
    AvgPool2d,
    BatchNorm,
    BatchRenorm,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Identity,
    KalmanNorm,
    Linear,
    MaxPool2d,
    PadChannels,
    ReLU,
    cross_entropy,
)
from .moments import (
    Moments,
    fuse,
    fuse_backward,
    observe,
    observe_backward,
    predict,
    predict_backward,
    standardize,
    standardize_backward,
)
from .network import Residual, Sequential
from .optim import SGD

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "AvgPool2d",
    "BatchNorm",
    "BatchRenorm",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Identity",
    "KalmanNorm",
    "Linear",
    "MaxPool2d",
    "Moments",
    "PadChannels",
    "ReLU",
    "Residual",
    "Sequential",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_renorm_backward",
    "batch_renorm_forward",
    "cross_entropy",
    "data",
    "fuse",
    "fuse_backward",
    "get_backend",
    "gradcheck",
    "kalman_norm_backward",
    "kalman_norm_forward",
    "models",
    "observe",
    "observe_backward",
    "optim",
    "predict",
    "predict_backward",
    "renorm_corrections",
    "set_num_threads",
    "standardize",
    "standardize_backward",
    "transport",
    "use_backend",
]
