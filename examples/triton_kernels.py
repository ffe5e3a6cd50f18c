"""Batch normalization and Kalman normalization as one pair of Triton kernels: a hand-written backward to verify.

    kalnorm-ref verify examples.triton_kernels:batch_norm
    kalnorm-ref verify examples.triton_kernels:kalman_norm

Without Triton or a GPU every case is skipped, with the reason. They have not been run on a GPU: they were compiled for
one, and checked in Triton's interpreter (TRITON_INTERPRET=1), which computes on the CPU. They are written to be read,
not to be fast: one program per channel reads x three times forwards and twice backwards. Batch normalization is the
gain 1 of (B5).
"""

from __future__ import annotations  # tl.constexpr stands in annotations, also where there is no Triton

import os

import torch

from examples.torch_modules import KalmanNorm, Normalizer
from kalnorm_ref.oracle.modules import from_module

try:
    import triton
    from triton import language as tl
except ImportError:
    triton = None

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BLOCK = 256


def jit(kernel):
    return kernel if triton is None else triton.jit(kernel)


@jit
def offsets(start, m, positions, image, step, BLOCK: tl.constexpr):
    """Where the samples start, start + 1, ... of one channel and statistics batch are, and which of them exist."""
    i = start + tl.arange(0, BLOCK).to(tl.int64)
    return i // positions * image + i % positions * step, i < m


@jit
def forward_kernel(
    x, y, gamma, beta, prior_mean, prior_var, gain, moments, m, positions, image, row, step, eps, BLOCK: tl.constexpr
):
    """y, and mean, var, xbar, S as moments (4, B, C)."""
    c, b, channels, batches = tl.program_id(0), tl.program_id(1), tl.num_programs(0), tl.num_programs(1)
    k = b * channels + c
    first = b.to(tl.int64) * (m // positions) * image + c * row
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, m, BLOCK):
        at, there = offsets(start, m, positions, image, step, BLOCK)
        total += tl.load(x + first + at, there, 0.0).to(tl.float32)
    xbar = tl.sum(total) / m
    squares = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, m, BLOCK):
        at, there = offsets(start, m, positions, image, step, BLOCK)
        centred = tl.where(there, tl.load(x + first + at, there, 0.0).to(tl.float32) - xbar, 0.0)
        squares += centred * centred
    s = tl.sum(squares) / m
    q, a = tl.load(gain + c), tl.load(prior_mean + k)
    mean = a + q * (xbar - a)
    var = (1 - q) * tl.load(prior_var + k) + q * s + q * (1 - q) * (xbar - a) * (xbar - a)
    size = batches * channels
    tl.store(moments + k, mean)
    tl.store(moments + size + k, var)
    tl.store(moments + 2 * size + k, xbar)
    tl.store(moments + 3 * size + k, s)
    r, scale, shift = 1 / tl.sqrt_rn(var + eps), tl.load(gamma + c), tl.load(beta + c)
    for start in range(0, m, BLOCK):
        at, there = offsets(start, m, positions, image, step, BLOCK)
        x_hat = (tl.load(x + first + at, there, 0.0).to(tl.float32) - mean) * r
        tl.store(y + first + at, (scale * x_hat + shift).to(y.dtype.element_ty), there)


@jit
def backward_kernel(
    x,
    dy,
    dx,
    gamma,
    prior_mean,
    prior_var,
    gain,
    moments,
    into_mean,
    into_var,
    out,
    m,
    positions,
    image,
    row,
    step,
    eps,
    BLOCK: tl.constexpr,
):
    """dx, and dgamma, dbeta, dprior_mean, dprior_var, dgain of each statistics batch as out (5, B, C)."""
    c, b, channels, batches = tl.program_id(0), tl.program_id(1), tl.num_programs(0), tl.num_programs(1)
    k, size = b * channels + c, batches * channels
    first = b.to(tl.int64) * (m // positions) * image + c * row
    mean, var = tl.load(moments + k), tl.load(moments + size + k)
    xbar, s = tl.load(moments + 2 * size + k), tl.load(moments + 3 * size + k)
    r = 1 / tl.sqrt_rn(var + eps)
    sum_dy, sum_dy_x_hat = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for start in range(0, m, BLOCK):
        at, there = offsets(start, m, positions, image, step, BLOCK)
        dyi = tl.load(dy + first + at, there, 0.0).to(tl.float32)
        sum_dy += dyi
        sum_dy_x_hat += tl.where(there, dyi * (tl.load(x + first + at, there, 0.0).to(tl.float32) - mean) * r, 0.0)
    dbeta, dgamma = tl.sum(sum_dy), tl.sum(sum_dy_x_hat)
    g, q, b_prior = tl.load(gamma + c) * r, tl.load(gain + c), tl.load(prior_var + k)
    delta = xbar - tl.load(prior_mean + k)
    dmu = tl.load(into_mean + k) - g * dbeta
    dv = tl.load(into_var + k) - g * r * dgamma / 2
    ddelta = q * dmu + 2 * q * (1 - q) * dv * delta
    tl.store(out + k, dgamma)
    tl.store(out + size + k, dbeta)
    tl.store(out + 2 * size + k, dmu - ddelta)
    tl.store(out + 3 * size + k, (1 - q) * dv)
    tl.store(out + 4 * size + k, dmu * delta + dv * (s - b_prior + (1 - 2 * q) * delta * delta))
    for start in range(0, m, BLOCK):
        at, there = offsets(start, m, positions, image, step, BLOCK)
        centred = tl.load(x + first + at, there, 0.0).to(tl.float32) - xbar
        dxi = g * tl.load(dy + first + at, there, 0.0).to(tl.float32) + ddelta / m + 2 * q * dv / m * centred
        tl.store(dx + first + at, dxi.to(dx.dtype.element_ty), there)


class Normalize(torch.autograd.Function):
    """y and the estimate (mean, var) of x (N, C, positions), with a prior (B, C) and a gain (C,)."""

    @staticmethod
    def forward(ctx, x, gamma, beta, prior_mean, prior_var, gain, eps):
        (batches, channels), (n, _, positions) = prior_mean.shape, x.shape
        y, moments = alike(x), gamma.new_empty(4, batches, channels)
        ctx.numbers = n // batches * positions, positions, *x.stride(), eps
        given = x, y, gamma, beta, prior_mean, prior_var, gain, moments
        forward_kernel[channels, batches](*given, *ctx.numbers, BLOCK=BLOCK)
        ctx.save_for_backward(x, gamma, prior_mean, prior_var, gain, moments)
        return y, moments[0].clone(), moments[1].clone()

    @staticmethod
    def backward(ctx, dy, into_mean, into_var):
        x, *statistics = ctx.saved_tensors
        batches, channels = into_mean.shape
        dx, out = alike(x), into_mean.new_empty(5, batches, channels)
        given = x, alike(x).copy_(dy), dx, *statistics, into_mean.contiguous(), into_var.contiguous(), out
        backward_kernel[channels, batches](*given, *ctx.numbers, BLOCK=BLOCK)
        return dx, out[0].sum(0), out[1].sum(0), out[2], out[3], out[4].sum(0), None


def alike(x):
    """An empty tensor with the strides of x."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)


def normalized(norm, x, prior=None, gain=None):
    """y and the estimate (mean, var), each (B, C), of a training step of a normalizer of torch_modules."""
    if x.numel() == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected at least one image")
    channels, batches = x.shape[1], 1 if norm.statistics_batch_size is None else len(x) // norm.statistics_batch_size
    zeros = torch.zeros(batches, channels, device=x.device)
    prior = (zeros, zeros) if prior is None else tuple(a.expand(batches, channels).contiguous() for a in prior)
    gain = torch.ones(channels, device=x.device) if gain is None else gain.expand(channels).contiguous()
    rows = x.reshape(len(x), channels, x[0, 0].numel())
    y, mean, var = Normalize.apply(rows, norm.weight, norm.bias, *prior, gain, norm.eps)
    norm.track(running_mean=mean, running_var=var)
    return y.reshape(x.shape), (mean, var)


class TritonBatchNorm(Normalizer):
    """Batch normalization; running_var is biased."""

    def forward(self, x):
        if not self.training:
            return self.fixed(x, self.running_mean, (self.running_var + self.eps).sqrt())
        return normalized(self, x)[0]


class TritonKalmanNorm(KalmanNorm):
    """KalmanNorm of torch_modules, with the kernels in training."""

    def forward(self, x, previous=None):
        if not self.training or self.transition is None:
            return normalized(self, x) if self.training else super().forward(x)
        return normalized(self, x, self.predict(*previous), self.gain)


# ---- what `kalnorm-ref verify` imports ---------------------------------------------------------------------------


def made(make):
    """A function of a case that returns a module, or why there is none."""

    def module(case):
        if triton is None:
            return "Triton is not installed"
        if INTERPRETED and case.dtype == "bfloat16":
            return "Triton's interpreter cuts off the digits that a GPU rounds to bfloat16"
        return "the kernels compute in float32" if case.dtype == "float64" else make(case)

    return module


def kalman(case):
    previous = case.tensors.get("previous_mean")
    return TritonKalmanNorm(case.channels, None if previous is None else previous.shape[-1])


DEVICE = "cpu" if INTERPRETED else "cuda"
batch_norm = from_module(made(lambda case: TritonBatchNorm(case.channels)), DEVICE)
kalman_norm = from_module(made(kalman), DEVICE)
