"""Softmax cross-entropy, the loss of the networks here."""

import numpy as np

from .. import _arguments


def cross_entropy(logits, labels):
    """Mean over the batch of -log softmax(logits)[label], and its gradient.

    Equations: loss = 1/N sum_n (log sum_k exp(z_nk) - z_n,label) ; dz_nk = (softmax(z_n)_k - [k = label_n]) / N
        (E2). The largest logit is subtracted first, so that no exponential overflows.
    Shapes: logits (N, K); labels (N,) integers in 0..K-1.
    Returns: loss (a number), dlogits (N, K).
    Raises: ValueError for a wrong shape, no example or a label out of range; TypeError for labels not integer.
    Departs: nothing.
    Reference: the definition.
    """
    logits, labels = _arguments.array("logits", logits), np.asarray(labels)
    if logits.ndim != 2 or logits.shape[0] == 0:
        raise ValueError(f"logits has shape {logits.shape}; expected (N, K), N >= 1 examples and K classes")
    n, k = logits.shape
    if labels.shape != (n,):
        raise ValueError(f"labels has shape {labels.shape}; expected ({n},), one for each row of logits")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels has type {labels.dtype}; expected integers")
    if labels.min() < 0 or labels.max() >= k:
        raise ValueError(f"labels has values from {labels.min()} to {labels.max()}; expected 0 to {k - 1}")
    z = logits.astype(np.result_type(logits, np.float64))
    rows = np.arange(n)
    with np.errstate(all="ignore"):  # NaN and Inf are results here, not accidents
        z = z - z.real.max(axis=1, keepdims=True)
        exp = np.exp(z)
        total = exp.sum(axis=1, keepdims=True)
        loss = (np.log(total[:, 0]) - z[rows, labels]).mean()
        dlogits = exp / total
    dlogits[rows, labels] -= 1
    return loss.item(), (dlogits / n).astype(logits.dtype)
