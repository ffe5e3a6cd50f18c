"""PyTorch's side of the cases: each work with channels last and in NCHW. It imports nothing but torch."""

import contextlib

import torch
from torch.nn import functional

from .torch_resnet import resnet, sgd

FORMATS = {"channels_last": torch.channels_last, "nchw": torch.contiguous_format}


@contextlib.contextmanager
def using(threads, backend):
    """Inside, PyTorch computes with `threads` threads."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    yield


def versions():
    """What the figures depend on."""
    return {"torch": torch.__version__}


def prepare(case):
    """The works of a case: {memory format: function of nothing}."""
    make = {"norms": _norm, "convolution": _convolution, "step": _step}[case["kind"]]
    return {name: make(case, FORMATS[name]) for name in case.get("formats", FORMATS)}


def _images(n, h, w, c, memory_format):
    return torch.normal(3.0, 2.0, (n, c, h, w)).to(memory_format=memory_format)


def _norm(case, memory_format):
    x, dy = (_images(*case["shape"], memory_format) for _ in range(2))
    channels = case["shape"][-1]
    group = case["norms"] == ["gn"]
    norm = torch.nn.GroupNorm(case["groups"], channels) if group else torch.nn.BatchNorm2d(channels)
    return _both_ways(norm, x, dy, norm.weight, norm.bias)


def _convolution(case, memory_format):
    n, h, w, c_in = case["shape"]
    x = _images(n, h, w, c_in, memory_format)
    weight = torch.normal(0.0, 0.1, (case["channels"], c_in, 3, 3)).to(memory_format=memory_format).requires_grad_()

    def conv(x):
        return functional.conv2d(x, weight, stride=case["stride"], padding=1)

    dy = torch.randn_like(conv(x).detach())
    return _both_ways(conv, x, dy, weight)


def _both_ways(forward, x, dy, *params):
    """Forward, then the gradients to x and the parameters."""
    x.requires_grad_()
    return lambda: torch.autograd.grad(forward(x), (x, *params), dy)


def _step(case, memory_format):
    """Forward, cross-entropy, backward and an update."""
    batch = case["batch"]
    net = resnet(case["depth"]).to(memory_format=memory_format).train()
    optimizer = sgd(net, **case["sgd"])
    x, labels = torch.randn(batch, 3, 32, 32).to(memory_format=memory_format), torch.arange(batch) % 10

    def work():
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(net(x), labels).backward()
        optimizer.step()

    return work
