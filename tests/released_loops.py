"""The network of the authors' released code a second time, as loops over plain Python floats, to hold `kn-released` to.

Written from the description in docs/paper_and_code.md, one number at a time; nothing is shared with the package, which
lends its parameters and draws only. As in the released code a statistic is one list [statistics batch][channel], laid
end to end. A forward can plant one `mistake`: `fault(right, name=wrong)` is `wrong` where that name is planted.

    images   [image][row][column][channel]
    draws    of each normalizer but the last, for the next convolution: [statistics batch][row][column][channel]
    network  "convolutions": weights [row][column][in][out] ; "norms": (gamma, beta) ; "linear": weight [in][out], bias
    rules    "batches", "prior_weight", "guard" (None: none), "shortcut", "channel_padding", "conv_padding",
             "running_from", "eps", "decay"
"""

import itertools
import math
import operator

FUSION = "cross_term_dropped cross_without_p weights_swapped first_fused batches_interleaved eps_forgotten"
TRANSPORT = "relu_forgotten var_for_std m_minus_one draws_shared push_normalized state_rectified_first"
JOIN = "posterior_on_shortcut means_not_added variances_not_added padded_in_each_batch pooled_variance padded_in_front"
RUNNING = "averaged_over_all averaged_before_fusion decay_of_new"
MISTAKES = f"{FUSION} {TRANSPORT} {JOIN} {RUNNING}".split()
GUARD_MISTAKES = ["guard_ignored", "guard_per_channel", "guard_upside_down", "guard_to_prior"]  # seen where it fires


def planter(mistake):
    """`fault(right, name=wrong, ...)`, which is right unless one of its names is the mistake."""
    return lambda right, **wrong: wrong.get(mistake, right)


def average(values):
    return sum(values) / len(values)


def extent(n, kernel, stride, padding, fault):
    """Outputs along one axis and zeros in front of it. TensorFlow's SAME: the smaller half of the zeros in front."""
    if padding == "symmetric":
        return (n + 2 - kernel) // stride + 1, 1
    outputs = -(-n // stride)
    zeros = max((outputs - 1) * stride + kernel - n, 0)
    return outputs, fault(zeros // 2, padded_in_front=zeros - zeros // 2)


def convolve(image, weight, stride, padding, fault):
    kh, kw, height, width = len(weight), len(weight[0]), len(image), len(image[0])
    rows, top = extent(height, kh, stride, padding, fault)
    columns, left = extent(width, kw, stride, padding, fault)
    taps = list(itertools.product(range(kh), range(kw)))
    outside, outputs = [0.0] * len(image[0][0]), range(len(weight[0][0][0]))
    kernels = [[per_output[o] for a, b in taps for per_output in weight[a][b]] for o in outputs]
    out = [[None] * columns for _ in range(rows)]
    for i, j in itertools.product(range(rows), range(columns)):
        patch = []
        for a, b in taps:
            u, v = i * stride + a - top, j * stride + b - left
            patch += image[u][v] if 0 <= u < height and 0 <= v < width else outside
        out[i][j] = [sum(map(operator.mul, patch, kernel)) for kernel in kernels]
    return out


def each_value(image, f):
    """f(channel, value) everywhere."""
    return [[[f(c, value) for c, value in enumerate(pixel)] for pixel in row] for row in image]


def rectify(image):
    return each_value(image, lambda c, value: max(value, 0.0))


def split(images, batches, fault):
    """The images of each statistics batch, which are consecutive."""
    size = len(images) // batches
    right = [images[g * size : (g + 1) * size] for g in range(batches)]
    return fault(right, batches_interleaved=[images[g::batches] for g in range(batches)])


def moments(groups, less=0):
    """Mean and biased variance of each statistics batch and channel."""
    mean, var = [], []
    for group in groups:
        for c in range(len(group[0][0][0])):
            values = [pixel[c] for image in group for row in image for pixel in row]
            mean.append(average(values))
            var.append(sum((x - mean[-1]) ** 2 for x in values) / max(len(values) - less, 1))
    return mean, var


def fuse(prior, batch, rules, fault):
    """Prior and batch with a constant weight, or the batch alone where the guard says so."""
    p = fault(rules["prior_weight"], weights_swapped=1 - rules["prior_weight"])
    cross = fault(p * (1 - p), cross_term_dropped=0.0, cross_without_p=1 - p)
    mean = [p * a + (1 - p) * x for a, x in zip(prior[0], batch[0], strict=True)]
    var = [
        p * b + (1 - p) * s + cross * (x - a) ** 2
        for a, b, x, s in zip(prior[0], prior[1], batch[0], batch[1], strict=True)
    ]
    if rules["guard"] is None:
        return mean, var
    ratios = [b / s for b, s in zip(prior[1], batch[1], strict=True)]
    ratio = fault(average(ratios), guard_upside_down=1 / average(ratios), guard_ignored=0.0)
    keep = [r < rules["guard"] for r in fault([ratio] * len(ratios), guard_per_channel=ratios)]
    other = fault(batch, guard_to_prior=prior)
    return tuple(
        [f if k else x for k, f, x in zip(keep, *pair, strict=True)] for pair in ((mean, other[0]), (var, other[1]))
    )


def normalize(images, prior, k, run):
    """Images behind normalizer k and its ReLU, and what it normalized with. Records both."""
    rules, fault, (gamma, beta) = run["rules"], run["fault"], run["network"]["norms"][k]
    batch = moments(split(images, rules["batches"], fault))
    if k == 0:
        unit = [0.0] * len(batch[0]), [1.0] * len(batch[0])
        prior = fault(None, first_fused=unit)
    fused = batch if prior is None else fuse(prior, batch, rules, fault)
    run["priors"].append(prior)
    run["fused"].append(fused)
    run["running"].append(running(fault(fused, averaged_before_fusion=batch), run["running_before"][k], rules, fault))
    eps, channels, size = fault(rules["eps"], eps_forgotten=0.0), len(gamma), len(images) // rules["batches"]
    out = []
    for n, image in enumerate(images):
        g = fault(n // size, batches_interleaved=n % rules["batches"])
        mean, var = (s[g * channels : (g + 1) * channels] for s in fused)
        scale = [gamma[c] / math.sqrt(var[c] + eps) for c in range(channels)]
        out.append(each_value(image, lambda c, x, mean=mean, scale=scale: max(scale[c] * (x - mean[c]) + beta[c], 0.0)))
    return out, fused


def running(fused, before, rules, fault):
    """Running mean and variance, from the first statistics batch or the mean over all."""
    channels, decay = len(before[0]), fault(rules["decay"], decay_of_new=1 - rules["decay"])
    first = fault(rules["running_from"], averaged_over_all="all") == "first"
    rows = range(1 if first else rules["batches"])
    return tuple(
        [decay * old[c] + (1 - decay) * average([s[g * channels + c] for g in rows]) for c in range(channels)]
        for old, s in zip(before, fused, strict=True)
    )


def transport(state, k, weight, stride, run):
    """The next prior: moments of a synthetic map, drawn from the state of normalizer k, rectified and convolved."""
    (mean, var), draws, fault = state, run["draws"][k], run["fault"]
    gamma, beta = run["network"]["norms"][k]
    channels, rectified = len(mean) // len(draws), []
    for g, draw in enumerate(draws):
        m, v = (s[g * channels : (g + 1) * channels] for s in (mean, var))
        m = fault(m, push_normalized=beta)
        v = fault(v, push_normalized=[scale**2 for scale in gamma])
        std = fault([math.sqrt(x) for x in v], var_for_std=v)
        drawn = each_value(fault(draw, draws_shared=draws[0]), lambda c, n, m=m, std=std: m[c] + std[c] * n)
        rectified.append(fault(rectify(drawn), relu_forgotten=drawn))
    maps = [[convolve(image, weight, stride, run["rules"]["conv_padding"], fault)] for image in rectified]
    return moments(maps, fault(0, m_minus_one=1))


def convolve_each(images, weight, stride, run):
    return [convolve(image, weight, stride, run["rules"]["conv_padding"], run["fault"]) for image in images]


def block(images, state, widen, first, run):
    """A residual block: images and state behind it."""
    fault, stride, k = run["fault"], 2 if widen else 1, len(run["fused"])
    one, two = next(run["convolutions"]), next(run["convolutions"])
    if first:  # no normalizer of its own; the state is still that of the first convolution, before ReLU
        behind = moments(split(images, run["rules"]["batches"], fault))
        out, k, state = images, k - 1, fault(state, state_rectified_first=behind)
        fused = state
    else:
        out, fused = normalize(images, state, k, run)
    prior = transport(fused, k, one, stride, run)
    out, fused_inside = normalize(convolve_each(out, one, stride, run), prior, k + 1, run)
    added = transport(fused_inside, k + 1, two, 1, run)
    out = convolve_each(out, two, 1, run)
    shortcut = fault(run["rules"]["shortcut"], posterior_on_shortcut="posterior")
    images, side = widened(images, state if shortcut == "prior" else fused, widen, run)
    joined = [
        [[added_to(*pixels) for pixels in zip(*rows, strict=True)] for rows in zip(*pair, strict=True)]
        for pair in zip(out, images, strict=True)
    ]
    mean, var = map(added_to, side, added)
    return joined, (fault(mean, means_not_added=added[0]), fault(var, variances_not_added=added[1]))


def added_to(a, b):
    return [p + q for p, q in zip(a, b, strict=True)]


def pool(image):
    """The mean of each 2 x 2 block."""
    out = []
    for upper, lower in zip(image[::2], image[1::2], strict=True):
        blocks = zip(upper[::2], upper[1::2], lower[::2], lower[1::2], strict=True)
        out.append([[average(four) for four in zip(*block, strict=True)] for block in blocks])
    return out


def widened(images, state, widen, run):
    """The shortcut: where the width doubles, pooled 2 x 2 and with zeros for half the channels on either side."""
    if not widen:
        return images, state
    fault, batches = run["fault"], run["rules"]["batches"]
    half = len(images[0][0][0]) // 2
    pooled = [[[[0.0] * half + pixel + [0.0] * half for pixel in row] for row in pool(image)] for image in images]
    mean, var = state[0], fault(state[1], pooled_variance=[v / 4 for v in state[1]])
    end_to_end = fault(run["rules"]["channel_padding"], padded_in_each_batch="per_batch") == "concatenated"
    return pooled, tuple(padded(s, half, batches, end_to_end) for s in (mean, var))


def padded(statistic, half, batches, end_to_end):
    if end_to_end:
        around = [0.0] * (half * batches)
        return around + statistic + around
    channels, out = len(statistic) // batches, []
    for g in range(batches):
        out += [0.0] * half + statistic[g * channels : (g + 1) * channels] + [0.0] * half
    return out


def resnet(images, network, draws, running_before, rules, mistake=None):
    """logits [image][class], and for each normalizer: priors, fused, running, each (mean, variance)."""
    run = {"rules": rules, "network": network, "draws": draws, "running_before": running_before}
    run |= {"fault": planter(mistake), "convolutions": iter(network["convolutions"])}
    run |= {"priors": [], "fused": [], "running": []}
    units = (len(network["convolutions"]) - 1) // 6  # of each of three stages
    images, state = normalize(convolve_each(images, next(run["convolutions"]), 1, run), None, 0, run)
    for stage in range(3):
        for unit in range(units):
            images, state = block(images, state, stage > 0 and unit == 0, stage == unit == 0, run)
    images, _ = normalize(images, state, len(network["norms"]) - 1, run)
    weight, bias = network["linear"]
    logits = []
    for image in images:
        pooled = [average([pixel[c] for row in image for pixel in row]) for c in range(len(weight))]
        logits.append([b + sum(p * w[o] for p, w in zip(pooled, weight, strict=True)) for o, b in enumerate(bias)])
    return {"logits": logits, **{name: run[name] for name in ("priors", "fused", "running")}}
