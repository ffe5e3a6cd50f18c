"""The network of models.resnet in PyTorch, layer for layer: what a training step of ours is timed against.

It imports nothing but torch. A parameter has the path that it has in ours, with weight for gamma and bias for beta.
"""

import torch
from torch import nn

NAMES = {"gamma": "weight", "beta": "bias"}


class Residual(nn.Module):
    """y = main(x) + shortcut(x)."""

    def __init__(self, main, shortcut):
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x):
        return self.main(x) + self.shortcut(x)


class PadChannels(nn.Module):
    """Add `side` channels of zeros before and after."""

    def __init__(self, side):
        super().__init__()
        self.side = side

    def forward(self, x):
        return nn.functional.pad(x, (0, 0, 0, 0, self.side, self.side))


class GlobalAvgPool2d(nn.Module):
    """Mean over all positions: (N, C, H, W) to (N, C)."""

    def forward(self, x):
        return x.mean(dim=(2, 3))


def resnet(depth=20, in_channels=3, classes=10):
    """Pre-activation ResNet for 32 x 32 images with batch normalization; see models.resnet.

    Shapes: x (N, in_channels, H, W) with H, W multiples of 4 -> logits (N, classes).
    """
    layers, width = [conv(in_channels, 16), nn.BatchNorm2d(16), relu()], 16
    for stage in range(3):
        for unit in range((depth - 2) // 6):
            before, width = width, 16 * 2**stage
            widen = width != before
            lead = [] if stage == unit == 0 else [nn.BatchNorm2d(before), relu()]
            first = conv(before, width, 2 if widen else 1)
            main = nn.Sequential(*lead, first, nn.BatchNorm2d(width), relu(), conv(width, width))
            side = (width - before) // 2
            layers.append(Residual(main, nn.Sequential(nn.AvgPool2d(2), PadChannels(side)) if widen else nn.Identity()))
    return nn.Sequential(*layers, nn.BatchNorm2d(width), relu(), GlobalAvgPool2d(), nn.Linear(width, classes))


def conv(c_in, c_out, stride=1):
    """A 3 x 3 convolution without bias, normal with variance 2 / (9 c_out), He fan-out."""
    made = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made


def relu():
    """A ReLU in place: what stands before it, a batch normalization, does not need its own output again."""
    return nn.ReLU(inplace=True)


def sgd(net, lr, momentum, weight_decay):
    """Stochastic gradient descent that decays the weights of convolutions and linear layers alone, as ours."""
    weights = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=lr, momentum=momentum)


def load(net, params):
    """Copy parameters of ours, {path: array}, into the network."""
    with torch.no_grad():
        for path, array in params.items():
            net.get_parameter(torch_path(path)).copy_(torch.tensor(torch_layout(array)))


def torch_path(path):
    """Where a parameter of ours stands in this network: 3.main.0.gamma at 3.main.0.weight."""
    layer, _, name = path.rpartition(".")
    return f"{layer}.{NAMES.get(name, name)}"


def torch_layout(array):
    """A weight of ours with PyTorch's axes: (kh, kw, c_in, c_out) to (c_out, c_in, kh, kw), (c_in, c_out) turned."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
