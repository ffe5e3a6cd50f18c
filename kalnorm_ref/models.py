"""The networks of the experiments: a multilayer perceptron, a five-layer CNN and the authors' CIFAR ResNet.

Each takes the name of its normalizer, so that methods are compared in one and the same network.
"""

import inspect

import numpy as np

from . import _arguments
from .layers.activation import ReLU
from .layers.base import Identity
from .layers.convolution import Conv2d
from .layers.group import GroupKalmanNorm, GroupNorm, InstanceNorm, LayerNorm
from .layers.image import ImageKalmanNorm
from .layers.kalman import KalmanNorm
from .layers.linear import Flatten, Linear
from .layers.normalization import BatchNorm, BatchRenorm
from .layers.options import OPTIONS, choice
from .layers.pooling import AvgPool2d, GlobalAvgPool2d, PadChannels
from .layers.statistics import BatchNormalizer
from .network import Residual, Sequential

# name -> (layer, fixed options)
NORMS = {
    "bn": (BatchNorm, {}),
    "brn": (BatchRenorm, {}),
    "kn-learned": (KalmanNorm, {"variant": "learned"}),
    "kn-shrink": (KalmanNorm, {"variant": "learned", "transition": "zero"}),
    "kn-released": (KalmanNorm, {"variant": "released"}),
    "kn-analytic": (KalmanNorm, {"variant": "analytic"}),
    "kn-filter": (KalmanNorm, {"variant": "filter"}),
    "gn": (GroupNorm, {}),
    "ln": (LayerNorm, {}),
    "in": (InstanceNorm, {}),
    "gkn": (GroupKalmanNorm, {}),
    "none": (None, {}),
}
GROUPS = 4  # of gn and gkn, unless told otherwise: the authors' choice
PLACED = {"self", "channels", "previous_channels", "previous_groups", "statistics_batch_size", "channel_axis", "dtype"}
PLACED |= {"variant", "seed"}
GAINED = ("learned", "analytic", "released")
LIMITED = {  # options of KalmanNorm that not every variant has
    "covariance": ("learned",),
    "preset": ("released",),
    "gain": GAINED,
    "gain_kind": GAINED,
}
OF_NETWORKS = {  # options of the network around the normalizers, and who has them
    "conv_padding": ("kn-released",),
    "first": ("bn", "brn", "kn-learned", "kn-shrink", "kn-analytic"),
}


def norm_options(norm):
    """Names of the options that the normalizer `norm` takes; ValueError for a normalizer that does not exist."""
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}; expected one of {', '.join(NORMS)}")
    layer, fixed = NORMS[norm]
    if layer is None:
        return []
    options = set(inspect.signature(layer.__init__).parameters) - PLACED - set(fixed)
    if layer is KalmanNorm:
        variant = fixed["variant"]
        options -= set().union(*OPTIONS.values()) - set(OPTIONS[variant])
        options = {name for name in options if variant in LIMITED.get(name, (variant,))}
    return sorted(options | {name for name, norms in OF_NETWORKS.items() if norm in norms})


def _check(in_channels, classes, seed, dtype):
    for name, value, low in (("in_channels", in_channels, 1), ("classes", classes, 1), ("seed", seed, 0)):
        _arguments.whole(name, value, low)
    if np.dtype(dtype).type not in _arguments.FLOATING:
        raise TypeError(f"dtype is {np.dtype(dtype)}; expected float32, float64, or complex128 with the NumPy backend")


def norm_maker(norm, statistics_batch_size, dtype, options, seed=0):
    """A function of the channels that makes the next normalizer of the chain.

    first "batch", the default, or "image": the first normalizer's mean and variance are those of each image by itself,
    in training and in inference; see layers/image.py.
    """
    known = norm_options(norm)
    for name in options:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise ValueError(f"norm option {name!r} does not exist for {norm}; its options are: {listed}")
    layer, fixed = NORMS[norm]
    given = {name: value for name, value in options.items() if name not in OF_NETWORKS}
    by_image = choice("first", options.get("first", "batch"), ("batch", "image")) == "image"
    shared = layer is KalmanNorm and given.get("noise") == "shared"
    chain, lenders = [], []

    def make(channels):
        if layer is None:
            return Identity()
        placed = {"dtype": dtype}
        if by_image and not chain and layer is not KalmanNorm:
            chain.append(channels)
            return InstanceNorm(channels, **{name: given[name] for name in ("eps",) if name in given}, **placed)
        if issubclass(layer, BatchNormalizer):
            placed["statistics_batch_size"] = statistics_batch_size
        if layer is KalmanNorm:
            placed["previous_channels"] = chain[-1] if chain else None
        if layer in (GroupNorm, GroupKalmanNorm):
            placed["groups"] = given.get("groups", GROUPS)
        if layer is GroupKalmanNorm:
            placed["previous_groups"] = placed["groups"] if chain else None
        if fixed.get("variant") == "released":
            placed["seed"] = [seed, len(chain)]
        if shared:
            placed["noise"] = lenders[0] if lenders else None
        kind = ImageKalmanNorm if by_image and not chain else layer
        made = kind(channels, **fixed, **(given | placed))
        if shared and chain:
            lenders.append(made)
        chain.append(channels)
        return made

    return make


def _conv_maker(options, dtype, rng):
    """A function (c_in, c_out, stride) that makes the next 3 x 3 convolution, without bias.

    conv_padding "symmetric" pads a pixel on each side; "same", TensorFlow's, pads an even map none above and left and
    one below and right where the stride is 2. preset="as_released" brings it with it.
    """
    padding = options.get("conv_padding", "same" if options.get("preset") == "as_released" else "symmetric")
    if padding not in ("symmetric", "same"):
        raise ValueError(f"conv_padding is {padding!r}; expected 'symmetric' or 'same'")

    def make(c_in, c_out, stride=1):
        pads = ((0, 1), (0, 1)) if padding == "same" and stride == 2 else 1
        return Conv2d(c_in, c_out, 3, stride, pads, rng=rng, dtype=dtype)

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
    rng = np.random.default_rng(seed)
    make, conv = (
        norm_maker(norm, statistics_batch_size, dtype, norm_options, seed),
        _conv_maker(norm_options, dtype, rng),
    )
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
    rng = np.random.default_rng(seed)
    make, conv = (
        norm_maker(norm, statistics_batch_size, dtype, norm_options, seed),
        _conv_maker(norm_options, dtype, rng),
    )
    layers, before = [], in_channels
    for width, stride in zip((16, 16, 32, 32, 64), (1, 1, 2, 1, 2), strict=True):
        layers += [conv(before, width, stride), make(width), ReLU()]
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
    for name in OF_NETWORKS.keys() & norm_options.keys():
        raise ValueError(f"norm option {name!r} is for networks with convolutions; an mlp has none")
    guess = {1: (8, 8), 3: (32, 32)}.get(in_channels, (1, 1))
    height, width = guess if image_size is None else image_size
    make, rng = norm_maker(norm, statistics_batch_size, dtype, norm_options, seed), np.random.default_rng(seed)
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
