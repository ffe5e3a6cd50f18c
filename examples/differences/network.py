"""How the code carries statistics through a network: shortcut, padding, pooling, running averages, draws."""

import numpy as np

import kalnorm_ref as kr
from kalnorm_ref import transport
from kalnorm_ref.gradcheck import max_error
from kalnorm_ref.running import running_average, unbiased

from .common import ERRORS, UNIT, averaged, digits, resnet, seen_by, squared_errors


def shortcut():
    rows = []
    for p in (0.05, 0.9):
        net = resnet(statistics_batch_size=128, gain=1 - p, shortcut="prior")
        heads = [s for path, s in seen_by(net, digits(128)).items() if path.endswith("main.0")]
        for name, field in (("incoming prior", "prior"), ("posterior", "used")):
            errors = [squared_errors(getattr(s, field), s.observed) for s in heads]
            rows.append((f"{name}, p = {p:g}", *averaged(errors)))
    return ("squared error on the shortcut", *ERRORS), rows


def first_block():
    rows = []
    for name, factor in (("as they are", 1), ("doubled", 2)):
        x, estimate, net = factor * digits(128), None, resnet(preset="as_released")
        for layer in net.layers[:3]:
            x, estimate = layer.carry(x, estimate, training=True)
        actual, carried = kr.observe(x.reshape(64, -1, 16)), estimate.moments
        off = np.mean(np.abs(carried.mean - actual.mean) / np.sqrt(actual.var))
        rows.append((name, ("{:.2f} sd", off), ("{:.3f}", np.median(carried.var / actual.var))))
    return ("images", "carried mean off by", "carried variance / variance"), rows


def concatenated():
    rows, rng = [], np.random.default_rng(0)
    for s in (1, 2, 64):
        estimate = kr.Moments(*rng.uniform(1, 2, (2, s, 16)))
        right, theirs = (pad(estimate, 8, 8).var for pad in (transport.pad_channels, transport.pad_concatenated))
        placed, empty = 100 * np.mean((theirs == right)[right != 0]), np.sum(~theirs.any(axis=1))
        rows.append((f"{s}", ("{:.0f} %", placed), ("{:.0f}", empty)))
    return ("statistics batches", "values in the right place", "batches left with zeros only"), rows


def pooling():
    x, net = digits(512), resnet(8, "bn", statistics_batch_size=None)
    for layer in net.layers[:4]:
        x = layer.forward(x, training=True)
    pooled = kr.AvgPool2d(2).forward(x)
    measured = np.median(kr.observe(pooled.reshape(-1, 16)).var / kr.observe(x.reshape(-1, 16)).var)
    theirs, independent = (transport.avg_pool(UNIT, 2, c).var[0] for c in (1.0, 0.0))
    names = {
        "as the code has it": theirs,
        "independent pixels": independent,
        "digits, behind the first block": measured,
    }
    return ("2 x 2 pooling", "variance kept"), [(name, ("{:.2f}", kept)) for name, kept in names.items()]


def running_averages():
    rows, rng = [], np.random.default_rng(0)
    for name, count in (("the first of 64 statistics batches", 1), ("all 64", 64)):
        average, late = np.zeros(500), []
        for step in range(400):
            average = running_average(average, rng.standard_normal((count, 500)).mean(axis=0), 0.9, step)
            late.append(average)
        rows.append((name, ("{:.1f} %" if count == 1 else "{:.2f} %", 100 * np.mean(np.square(late[100:])))))
    return ("average of", "variance kept"), rows


def sampling():
    rows, rng = [], np.random.default_rng(0)
    for size, c in ((32, 16), (16, 32), (8, 64), (4, 64)):
        weight = kr.Conv2d(c, c, 3, rng=rng).params["weight"]
        estimate = kr.Moments(rng.normal(0, 0.5, c), rng.uniform(0.5, 1.5, c))
        many = kr.Moments(*(np.broadcast_to(s, (50, c)) for s in estimate))
        drawn = transport.sampled(many, rng.standard_normal((50, size, size, c)), weight, 1, 1)
        rectified = transport.relu(estimate)
        closed = transport.conv2d(rectified, weight, 1, 1, (size, size))
        inside = transport.linear(kr.Moments(*(np.tile(s, 9) for s in rectified)), weight.reshape(-1, c))
        sd, border = np.sqrt(closed.var), np.abs(inside.var / closed.var - 1)
        means = drawn.mean.std(axis=0) / sd, np.abs(inside.mean - closed.mean) / sd
        variances = drawn.var.std(axis=0) / closed.var, border
        cells = [(("{:.2f} sd", m.mean()), ("{:.0f} %", 100 * v.mean())) for m, v in zip(means, variances, strict=True)]
        rows.append((f"{size} x {size} x {c}", *cells[0], *cells[1]))
    return ("map", "draws: mean", "variance", "no border: mean", "variance"), rows


def same_padding():
    rows = []
    for depth in (8, 20):
        nets = [resnet(depth, gain=1.0, conv_padding=padding) for padding in ("same", "symmetric")]
        rows.append((f"ResNet-{depth}", ("{:.2f}", max_error(*(n.forward(digits(64), training=True) for n in nets)))))
    return ("same weights", "change of the logits"), rows


def first_normalizer():
    rows = []
    for images, size in ((128, 32), (2, 32), (2, 8)):
        m = images * size**2
        rows.append((f"{images} of {size} x {size}", ("{:.2g} %", 100 * (unbiased(1.0, m) - 1))))
    return ("images", "variance larger by"), rows


def first_gradient():
    rows, gradients = [], {}
    for p in (0.9, 0.05):
        for cut in (False, True):
            net = resnet(8, preset="as_released", gain=1 - p)
            first = net.layers[1]
            if cut:
                first.carry_backward = lambda dy, dmoments, first=first: first.fork_backward(dy, None, None)
            labels = np.arange(64) % 10
            net.backward(kr.cross_entropy(net.forward(digits(64), training=True), labels)[1])
            gradients[cut] = net.grads["0.weight"].copy()
        change = np.linalg.norm(gradients[True] - gradients[False]) / np.linalg.norm(gradients[False])
        rows.append((f"p = {p:g}", ("{:.2f} %", 100 * change)))
    return ("path cut", "change of the gradient"), rows
