"""Cases of the transport."""

from ... import transport
from ...transport.push import MODES
from ..loops import transport as loops
from ..pairs import C, G, pair

OUT = 2  # channels


@pair(transport, "transport.relu", "estimate", loops)
def relu(draw):
    yield "", (draw.gaussian(G, 4),), (draw.gradient(G, 4),)


@pair(transport, "transport.leaky_relu", "estimate", loops)
def leaky_relu(draw):
    yield "", (draw.gaussian(G, 4), 0.1), (draw.gradient(G, 4),)


@pair(transport, "transport.linear", "estimate weight bias", loops)
def linear(draw):
    weight, bias = draw.normal(C, OUT, mean=0.4, std=0.7), draw.normal(OUT)
    yield "", (draw.moments(G, C), weight, bias), (draw.gradient(G, OUT),)


@pair(transport, "transport.dropout", "estimate", loops)
def dropout(draw):
    yield "", (draw.moments(G, C), 0.7), (draw.gradient(G, C),)


@pair(transport, "transport.conv2d", "estimate weight", loops)
def conv2d(draw):
    weight = draw.normal(3, 2, C, OUT, mean=0.4, std=0.7)
    yield "", (draw.moments(G, C), weight, 2, ((0, 2), (1, 0)), (5, 4)), (draw.gradient(G, OUT),)


@pair(transport, "transport.avg_pool", "estimate", loops)
def avg_pool(draw):
    yield "", (draw.moments(G, C), 3, 0.3), (draw.gradient(G, C),)


@pair(transport, "transport.max_pool", "estimate", loops)
def max_pool(draw):
    yield "", (draw.moments(G, C), 2), (draw.gradient(G, C),)


@pair(transport, "transport.add", "a b", loops)
def add(draw):
    yield "", (draw.moments(C), draw.moments(G, C)), (draw.gradient(G, C),)


@pair(transport, "transport.pad_channels", "estimate", loops)
def pad_channels(draw):
    yield "", (draw.moments(G, C), 2, 1), (draw.gradient(G, C + 3),)


@pair(transport, "transport.mixture", "estimate", loops)
def mixture(draw):
    yield "", (draw.moments(5, C), 2), (draw.gradient(3, C),)


@pair(transport, "transport.push", "estimate observed gamma beta", loops)
def push(draw):
    for mode in MODES:
        observed = draw.moments(G, C) if mode == "observed" else None
        yield mode, (mode, draw.moments(G, C), observed, draw.gamma(), draw.beta(), 0.1), (draw.gradient(G, C),)


@pair(transport, "transport.sampled", "estimate draws weight", loops, twin=True)
def sampled(draw):
    weight = draw.normal(2, 3, C, OUT, mean=0.3, std=0.7)
    yield "", (draw.gaussian(G, C), draw.normal(G, 4, 3, C), weight, 2, ((1, 0), (0, 2))), (draw.gradient(G, OUT),)


@pair(transport, "transport.pad_concatenated", "estimate", loops)
def pad_concatenated(draw):
    yield "", (draw.moments(G, C), 2, 1), (draw.gradient(G, C + 3),)
