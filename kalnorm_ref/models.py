"""The networks of the experiments: a multilayer perceptron, a five-layer CNN and the authors' CIFAR ResNet.

Each takes the name of its normalizer, so that methods are compared in one and the same network.
"""

import inspect

import numpy as np

from . import _arguments
from .layers.activation import ReLU
from .layers.base import Identity
from .layers.convolution import Conv2d
from .layers.kalman import KalmanNorm
from .layers.linear import Flatten, Linear
from .layers.normalization import BatchNorm, BatchRenorm
from .layers.pooling import AvgPool2d, GlobalAvgPool2d, PadChannels
from .network import Residual, Sequential

# name -> (layer, fixed options)
NORMS = {
    "bn": (BatchNorm, {}),
    "brn": (BatchRenorm, {}),
    "kn-learned": (KalmanNorm, {"variant": "learned"}),
    "kn-shrink": (KalmanNorm, {"variant": "learned", "transition": "zero"}),
    "kn-analytic": (KalmanNorm, {"variant": "analytic"}),
    "none": (None, {}),
}
PLACED = {"self", "channels", "previous_channels", "statistics_batch_size", "channel_axis", "dtype", "variant"}
OF_LEARNED, OF_ANALYTIC = {"transition", "noise"}, {"push", "shortcut"}


def norm_options(norm):
    """Names of the options that the normalizer `norm` takes; ValueError for a normalizer that does not exist."""
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}; this version has {', '.join(NORMS)}")
    layer, fixed = NORMS[norm]
    if layer is None:
        return []
    options = set(inspect.signature(layer.__init__).parameters) - PLACED - set(fixed)
    if layer is KalmanNorm:
        options -= OF_ANALYTIC if fixed["variant"] == "learned" else OF_LEARNED
    return sorted(options)


def _check(in_channels, classes, seed, dtype):
    for name, value, low in (("in_channels", in_channels, 1), ("classes", classes, 1), ("seed", seed, 0)):
        _arguments.whole(name, value, low)
    if np.dtype(dtype).type not in _arguments.FLOATING:
        raise TypeError(f"dtype is {np.dtype(dtype)}; expected float32, float64, or complex128 with the NumPy backend")


def norm_maker(norm, statistics_batch_size, dtype, options):
    """A function of the channels that makes the next normalizer of the chain."""
    known = norm_options(norm)
    for name in options:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise ValueError(f"norm option {name!r} does not exist for {norm}; its options are: {listed}")
    layer, fixed = NORMS[norm]
    chain = []

    def make(channels):
        if layer is None:
            return Identity()
        previous = {"previous_channels": chain[-1] if chain else None} if layer is KalmanNorm else {}
        chain.append(channels)
        common = {"statistics_batch_size": statistics_batch_size, "dtype": dtype}
        return layer(channels, **previous, **fixed, **common, **options)

    return make


def resnet(
    depth=20, norm="bn", in_channels=3, classes=10, statistics_batch_size=None, seed=0, dtype=np.float32, **norm_options
):
    """Pre-activation ResNet for 32 x 32 images.

    3 stages of n = (depth - 2) / 6 units of two 3x3 convolutions, widths 16, 32, 64; normalizer and ReLU after the
    first convolution and before global pooling. The first unit has no leading normalizer; later units fork the shortcut
    before theirs. Where the width doubles: stride 2, and a shortcut of 2x2 average pooling and zero-padded channels.
    Shapes: x (N, H, W, in_channels) with H, W multiples of 4 -> logits (N, classes).
    Reference: the network of the authors' released code for arXiv 1802.03133; He et al. 2016, arXiv 1603.05027.
    """
    depth = _arguments.whole("depth", depth, 8)
    if (depth - 2) % 6:
        raise ValueError(f"depth is {depth}; expected 6 n + 2: 8, 14, 20, 26, 32, ...")
    _check(in_channels, classes, seed, dtype)
    make, rng = norm_maker(norm, statistics_batch_size, dtype, norm_options), np.random.default_rng(seed)

    def conv(c_in, c_out, stride=1):
        return Conv2d(c_in, c_out, 3, stride, padding=1, rng=rng, dtype=dtype)

    layers = [conv(in_channels, 16), make(16), ReLU()]
    width = 16
    for stage in range(3):
        for unit in range((depth - 2) // 6):
            before, width = width, 16 * 2**stage
            widen = width != before
            lead = [] if stage == unit == 0 else [make(before), ReLU()]
            first = conv(before, width, 2 if widen else 1)
            main = Sequential(*lead, first, make(width), ReLU(), conv(width, width))
            side = (width - before) // 2
            layers.append(Residual(main, Sequential(AvgPool2d(2), PadChannels(side, side)) if widen else Identity()))
    head = [make(width), ReLU(), GlobalAvgPool2d(), Linear(width, classes, rng=rng, dtype=dtype)]
    return Sequential(*layers, *head)


def cnn5(norm="bn", in_channels=3, classes=10, statistics_batch_size=None, seed=0, dtype=np.float32, **norm_options):
    """Five 3x3 convolutions of 16, 16, 32, 32, 64 channels, strides 1 1 2 1 2, each normalized and rectified; global
    average pooling; linear.

    Shapes: x (N, H, W, in_channels) -> logits (N, classes).
    """
    _check(in_channels, classes, seed, dtype)
    make, rng = norm_maker(norm, statistics_batch_size, dtype, norm_options), np.random.default_rng(seed)
    layers, before = [], in_channels
    for width, stride in zip((16, 16, 32, 32, 64), (1, 1, 2, 1, 2), strict=True):
        layers += [Conv2d(before, width, 3, stride, padding=1, rng=rng, dtype=dtype), make(width), ReLU()]
        before = width
    return Sequential(*layers, GlobalAvgPool2d(), Linear(before, classes, rng=rng, dtype=dtype))


def mlp(
    hidden=(64, 64),
    norm="bn",
    in_channels=3,
    classes=10,
    statistics_batch_size=None,
    seed=0,
    dtype=np.float32,
    image_size=None,
    **norm_options,
):
    """Multilayer perceptron on flattened images: linear, normalizer and ReLU for each hidden width, then linear.

    Shapes: x (N, H, W, in_channels) or (N, features) -> logits (N, classes). image_size (H, W) says how many features
        there are; None: 8 x 8 for one channel (digits), 32 x 32 for three (CIFAR), one position for any other number,
        until the first batch says otherwise: the first weight is then drawn anew in its size.
    """
    _check(in_channels, classes, seed, dtype)
    if np.ndim(hidden) != 1:
        raise ValueError(f"hidden is {hidden!r}; expected a sequence of widths, such as (64, 64)")
    if image_size is not None and np.shape(image_size) != (2,):
        raise ValueError(f"image_size is {image_size!r}; expected (H, W)")
    guess = {1: (8, 8), 3: (32, 32)}.get(in_channels, (1, 1))
    height, width = guess if image_size is None else image_size
    make, rng = norm_maker(norm, statistics_batch_size, dtype, norm_options), np.random.default_rng(seed)
    layers, before = [Flatten()], in_channels * height * width
    for wide in hidden:
        _arguments.whole("hidden", wide, 1)
        layers += [Linear(before, wide, bias=False, scale=2.0, rng=rng, dtype=dtype), make(wide), ReLU()]
        before = wide
    layers.append(Linear(before, classes, rng=rng, dtype=dtype))
    if image_size is None:
        first = next(layer for layer in layers if isinstance(layer, Linear))
        first.fits_first_batch(seed)
    return Sequential(*layers)
