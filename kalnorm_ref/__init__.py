"""Batch, batch-renorm and batch-Kalman normalization side by side: explicit forward and backward, NumPy and Cython."""

from . import data, gradcheck, models, optim, transport
from . import full_covariance as full
from .backend import get_backend, set_num_threads, use_backend
from .batch_norm import batch_norm_backward, batch_norm_forward
from .batch_renorm import batch_renorm_backward, batch_renorm_forward, renorm_corrections
from .group_kalman_norm import group_kalman_norm_backward, group_kalman_norm_forward
from .group_norm import collapse, collapse_backward, group_norm_backward, group_norm_forward
from .inference import recompute_population, set_inference
from .kalman_filter import kalman_filter_norm_backward, kalman_filter_norm_forward
from .kalman_norm import kalman_norm_backward, kalman_norm_forward
from .layers import (
    AvgPool2d,
    BatchNorm,
    BatchRenorm,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    GroupKalmanNorm,
    GroupNorm,
    Identity,
    InstanceNorm,
    KalmanNorm,
    LayerNorm,
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
from .tracing import trace

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
    "GroupKalmanNorm",
    "GroupNorm",
    "Identity",
    "InstanceNorm",
    "KalmanNorm",
    "LayerNorm",
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
    "collapse",
    "collapse_backward",
    "cross_entropy",
    "data",
    "full",
    "fuse",
    "fuse_backward",
    "get_backend",
    "gradcheck",
    "group_kalman_norm_backward",
    "group_kalman_norm_forward",
    "group_norm_backward",
    "group_norm_forward",
    "kalman_filter_norm_backward",
    "kalman_filter_norm_forward",
    "kalman_norm_backward",
    "kalman_norm_forward",
    "models",
    "observe",
    "observe_backward",
    "optim",
    "oracle",
    "predict",
    "predict_backward",
    "recompute_population",
    "renorm_corrections",
    "set_inference",
    "set_num_threads",
    "standardize",
    "standardize_backward",
    "trace",
    "transport",
    "use_backend",
]


def __getattr__(name):
    if name == "oracle":  # the conformance kit is imported when it is first asked for: nothing else here needs it
        from importlib import import_module

        return import_module(".oracle", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
