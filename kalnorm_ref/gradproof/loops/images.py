"""Convolution of images and the cross-entropy of a network's output, one multiplication at a time."""

import numpy as np

from .parts import add as add_at
from .parts import at, empty, exp, increase, log, planter, zeros
from .transport.linear import taps

MISTAKES = {
    "conv2d": "flipped bias_of_one_image border_shifted",
    "cross_entropy": "label_forgotten mean_forgotten sign_flipped",
}


def conv2d(x, weight, bias, stride, padding):
    where = list(taps(weight, stride, padding, x.shape[1:3]))
    (rows, columns), outputs = where[-1][0], weight.shape[3]
    y = empty((len(x), rows + 1, columns + 1, outputs), x)
    for n, o in np.ndindex(len(x), outputs):
        for position, inside in where:
            total = at(bias, (), o, default=0.0)
            for tap, u, v in inside:
                for c in range(x.shape[3]):
                    total += x.item((n, u, v, c)) * weight.item((*tap, c, o))
            y[(n, *position, o)] = total
    return y


def conv2d_backward(dy, x, weight, bias, stride, padding, mistake=None):
    fault = planter(mistake)
    dx, dweight, dbias = map(zeros, (x, weight, bias))
    for n, o in np.ndindex(len(x), weight.shape[3]):
        for position, inside in taps(weight, stride, padding, x.shape[1:3]):
            d = dy.item((n, *position, o))
            add_at(dbias, (), o, fault(d, bias_of_one_image=d * (n == 0)))
            for tap, u, v in inside:
                flipped = (weight.shape[0] - 1 - tap[0], weight.shape[1] - 1 - tap[1])
                left = (n, u, max(v - 1, 0))
                for c in range(x.shape[3]):
                    increase(dx, (n, u, v, c), weight.item((*fault(tap, flipped=flipped), c, o)) * d)
                    increase(dweight, (*tap, c, o), x.item((*fault((n, u, v), border_shifted=left), c)) * d)
    return dx, dweight, dbias


def softmax(row):
    total = sum(exp(z) for z in row)
    return [exp(z) / total for z in row]


def cross_entropy(logits, labels):
    """Mean of -log softmax(z)[label]; the largest logit is not subtracted first, as it need not be."""
    rows = [[logits.item((n, k)) for k in range(logits.shape[1])] for n in range(len(logits))]
    return -sum(log(softmax(row)[label]) for row, label in zip(rows, labels, strict=True)) / len(rows)


def cross_entropy_backward(dloss, logits, labels, mistake=None):
    fault, dlogits = planter(mistake), zeros(logits)
    for n, label in enumerate(labels):
        for k, p in enumerate(softmax([logits.item((n, k)) for k in range(logits.shape[1])])):
            d = p - fault(k == label, label_forgotten=0)
            over = fault(len(labels), mean_forgotten=1)
            increase(dlogits, (n, k), fault(dloss, sign_flipped=-dloss) * d / over)
    return (dlogits,)
