"""How long each normalizer takes, forward and backward together, in both backends: a look, not a benchmark suite."""

import statistics
import time

import numpy as np
from threadpoolctl import threadpool_limits

import kalnorm_ref as kr

SHAPES = ((128, 32, 32, 16), (128, 8, 8, 64), (2, 32, 32, 16))  # feature maps (N, H, W, C) of a CIFAR ResNet
NORMALIZERS = ("bn", "brn", "kn")


def bench(repeats=10, shapes=None):
    """Median milliseconds of a forward and a backward in float32: a list of dicts, one a shape and normalizer.

    `shapes` None is SHAPES. The keys are shape, normalizer, and a backend each: numpy, cython; None where the compiled
    backend is not built.
    """
    backends = {"numpy": True, "cython": compiled()}
    return [
        {"shape": list(shape), "normalizer": name}
        | {which: measure(name, shape, which, repeats) if there else None for which, there in backends.items()}
        for shape in shapes or SHAPES
        for name in NORMALIZERS
    ]


def compiled():
    """Whether the compiled backend is built."""
    try:
        kr.use_backend("cython")
    except ImportError:
        return False
    return True


def measure(name, shape, which, repeats):
    """Median milliseconds of one normalizer on x of `shape`, as one statistics batch."""
    run = _work(name, shape)
    times = []
    with kr.use_backend(which), threadpool_limits(1, "blas"):
        run()
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def _work(name, shape):
    """A function of nothing that runs forward and backward once."""
    rng = np.random.default_rng(0)
    channels = shape[-1]
    x, dy = (rng.normal(3, 2, shape).astype(np.float32).reshape(-1, channels) for _ in range(2))
    gamma, beta, mean, var = (rng.uniform(0.5, 2, channels).astype(np.float32) for _ in range(4))

    def bn():
        *_, cache = kr.batch_norm_forward(x, gamma, beta)
        kr.batch_norm_backward(dy, cache)

    def brn():
        corr_r, corr_d = kr.renorm_corrections(kr.observe(x), mean, np.sqrt(var), 3.0, 5.0)
        *_, cache = kr.batch_renorm_forward(x, gamma, beta, corr_r, corr_d)
        kr.batch_renorm_backward(dy, cache)

    def kn():
        *_, cache = kr.kalman_norm_forward(x, gamma, beta, kr.Moments(mean, var), 0.5)
        kr.kalman_norm_backward(dy, kr.Moments(beta, gamma), cache)

    return {"bn": bn, "brn": brn, "kn": kn}[name]


def table(rows):
    """The rows of `bench` as text."""
    lines = [f"{'shape':<16}{'':<6}{'numpy ms':>10}{'cython ms':>11}{'ratio':>8}"]
    for row in rows:
        shape = "x".join(map(str, row["shape"]))
        fast = row["cython"]
        right = f"{'-':>11}{'-':>8}" if fast is None else f"{fast:>11.3f}{row['numpy'] / fast:>8.1f}"
        lines.append(f"{shape:<16}{row['normalizer']:<6}{row['numpy']:>10.3f}{right}")
    return "\n".join(lines)
