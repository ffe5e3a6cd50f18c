"""Our side of the cases, in the backend asked for; BLAS on one thread inside our own threads, as in training."""

import concurrent.futures
import contextlib

import numpy as np
import scipy
from threadpoolctl import ThreadpoolController

import kalnorm_ref as kr

from ..backend import get_num_threads, instruction_set
from ..convolution import conv2d_backward, conv2d_forward


@contextlib.contextmanager
def using(threads, backend):
    """Inside, the kernels have `threads` threads and `backend` answers."""
    before = get_num_threads()
    kr.set_num_threads(threads)
    try:
        with kr.use_backend(backend), ThreadpoolController().limit(limits=1, user_api="blas"):
            yield
    finally:
        kr.set_num_threads(before)


def versions():
    """What the figures depend on."""
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    blas = sorted({f"{library.internal_api} {library.version}" for library in libraries})
    return {
        "kalnorm_ref": kr.__version__,
        "instruction_set": instruction_set() if kr.get_backend() == "cython" else None,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "blas": ", ".join(blas),
    }


def prepare(case):
    """The works of a case: {name: function of nothing}."""
    return {"norms": _norms, "convolution": _convolution, "step": _steps, "roofline": _roofline, "series": _series}[
        case["kind"]
    ](case)


def _series(case):
    """The points of a series, each a case of one work."""
    return {str(i): work for i, point in enumerate(case["points"]) for work in prepare(point).values()}


def _norms(case):
    """Forward and backward of each normalizer in case["norms"] on one map, all as one statistics batch."""
    rng = np.random.default_rng(0)
    n, h, w, c = case["shape"]
    x, dy = (rng.normal(3, 2, (n, h * w, c)).astype(np.float32) for _ in range(2))
    rows, drows = x.reshape(-1, c), dy.reshape(-1, c)
    gamma, beta, mean, var, corr_r, corr_d = (rng.uniform(0.5, 2, c).astype(np.float32) for _ in range(6))

    def bn():
        *_, cache = kr.batch_norm_forward(rows, gamma, beta)
        kr.batch_norm_backward(drows, cache)

    def brn():
        *_, cache = kr.batch_renorm_forward(rows, gamma, beta, corr_r, corr_d)
        kr.batch_renorm_backward(drows, cache)

    def kn():
        *_, cache = kr.kalman_norm_forward(rows, gamma, beta, kr.Moments(mean, var), 0.5)
        kr.kalman_norm_backward(drows, kr.Moments(beta, gamma), cache)

    def gn():
        *_, cache = kr.group_norm_forward(x, gamma, beta, case["groups"])
        kr.group_norm_backward(dy, cache)

    works = {"bn": bn, "brn": brn, "kn": kn, "gn": gn}
    return {name: works[name] for name in case["norms"]}


def _convolution(case):
    """Forward, dx and dW of a 3 x 3 convolution."""
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, case["shape"]).astype(np.float32)
    weight = rng.normal(0, 0.1, (3, 3, case["shape"][-1], case["channels"])).astype(np.float32)
    stride = case["stride"]
    dy = rng.normal(size=conv2d_forward(x, weight, None, stride, 1)[0].shape).astype(np.float32)

    def conv():
        _, cache = conv2d_forward(x, weight, None, stride, 1)
        conv2d_backward(dy, cache)

    return {"conv": conv}


def _steps(case):
    """A training step of the ResNet with each normalizer: forward, cross-entropy, backward and an update."""
    batch = case["batch"]
    x = np.random.default_rng(0).normal(size=(batch, 32, 32, 3)).astype(np.float32)
    return {norm: _step(case, norm, x, np.arange(batch) % 10) for norm in case["norms"]}


def _step(case, norm, x, labels):
    net = kr.models.resnet(case["depth"], norm, statistics_batch_size=case["statistics"])
    optimizer = kr.SGD(net, **case["sgd"])

    def work():
        _, dlogits = kr.cross_entropy(net.forward(x, training=True), labels)
        net.backward(dlogits, input_gradient=False)
        optimizer.step()

    return work


def _roofline(case):
    """What the machine can do: a product of square matrices by NumPy's BLAS, and a copy, both with all our threads."""
    rng, threads, size = np.random.default_rng(0), get_num_threads(), case["size"]
    a, b = (rng.normal(size=(size, size)).astype(np.float32) for _ in range(2))
    source = np.ones(case["mebibytes"] * 2**20 // 4, np.float32)
    target = np.empty_like(source)
    controller, pool = ThreadpoolController(), concurrent.futures.ThreadPoolExecutor(threads)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))

    def sgemm():
        with controller.limit(limits=threads, user_api="blas"):
            a @ b

    def copy():
        list(pool.map(lambda part: np.copyto(*part), parts))

    return {"sgemm": sgemm, "copy": copy}
