"""Cases of the primitives, the normalizers, convolution and the loss."""

import numpy as np

from ... import batch_norm, batch_renorm, convolution, kalman_norm, moments
from ...layers import loss
from ..loops import images, normalizers
from ..pairs import EPS, C, G, M, pair


@pair(moments, "observe", "x", normalizers, "result", twin=True)
def observe(draw):
    yield "", (draw.x(G, M, C),), (draw.gradient(G, C),)


@pair(moments, "fuse", "prior observed gain", normalizers, twin=True)
def fuse(draw):
    yield "a gain each", (draw.moments(C), draw.moments(G, C), draw.gains()), (draw.gradient(G, C),)
    yield "one gain", (draw.moments(G, C), draw.moments(G, C), 0.3), (draw.gradient(G, C),)


@pair(moments, "predict", "estimate transition noise", normalizers, twin=True)
def predict(draw):
    yield "matrix", (draw.moments(G, 4), draw.normal(C, 4), draw.positive(C)), (draw.gradient(G, C),)
    yield "diagonal", (draw.moments(G, C), draw.normal(C), 0.3), (draw.gradient(G, C),)


@pair(moments, "affine", "x_hat gamma beta", normalizers)
def affine(draw):
    yield "", (draw.x(G, M, C), draw.gamma(), draw.beta()), (draw.normal(G, M, C),)


@pair(moments, "standardize", "x moments gamma beta", normalizers, "cache", twin=True)
def standardize(draw):
    yield "", (draw.x(G, M, C), draw.moments(C), draw.gamma(), draw.beta(), EPS), (draw.normal(G, M, C),)


@pair(batch_norm, "batch_norm", "x gamma beta", normalizers, "cache", twin=True)
def normalize(draw):
    yield "", (draw.x(G, M, C), draw.gamma(), draw.beta(), EPS), (draw.normal(G, M, C),)


@pair(batch_renorm, "batch_renorm", "x gamma beta", normalizers, "cache", twin=True)
def renormalize(draw):
    corrections = np.array([0.4, 1.0, 3.0]), draw.normal(C)
    yield "", (draw.x(G, M, C), draw.gamma(), draw.beta(), *corrections, EPS), (draw.normal(G, M, C),)


@pair(kalman_norm, "kalman_norm", "x gamma beta prior gain", normalizers, "cache", twin=True)
def kalman_normalize(draw):
    x, gamma, beta, above = draw.x(G, M, C), draw.gamma(), draw.beta(), (draw.normal(G, M, C), draw.gradient(G, C))
    yield "a prior each", (x, gamma, beta, draw.moments(G, C), draw.gains(), EPS), above
    yield "one prior", (x, gamma, beta, draw.moments(C), 0.4, EPS), above
    yield "no prior", (x, gamma, beta, None, None, EPS), above


@pair(convolution, "conv2d", "x weight bias", images, "cache", twin=True)
def convolve(draw):
    weight, bias = draw.normal(2, 3, C, 2, mean=0.3, std=0.6), draw.normal(2)
    yield "", (draw.x(2, 4, 3, C), weight, bias, 2, ((1, 0), (0, 2))), (draw.normal(2, 2, 2, 2),)


@pair(loss, "cross_entropy", "logits", images, "loss")
def cross_entropy(draw):
    yield "", (draw.normal(4, C, mean=3.0, std=2.0), np.array([2, 0, 1, 2])), (1.7,)
