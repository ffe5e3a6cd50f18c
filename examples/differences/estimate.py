"""What the fused estimate is, against a Kalman filter; its gain and noise; inference from one image."""

import numpy as np

import kalnorm_ref as kr
from kalnorm_ref import inference
from kalnorm_ref.data import batches
from kalnorm_ref.gradcheck import max_error

from .common import UNIT

CHANNELS = (16, None), (32, 16)  # of a normalizer, and of the one before it


def virtual_samples():
    norm = kr.KalmanNorm(1, 1, "released", gain=0.1, gain_kind="pseudo_count")
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 1))
    norm.carry(x, kr.layers.Estimate(kr.Moments(*np.ones((2, 1, 1))), "sampled"), training=True)
    rows = []
    for images in (1, 2, 8, 128):
        m = images * 32 * 32
        claims = [("{:.0f}", m * p / (1 - p)) for p in (0.9, 0.05)]
        rows.append((f"{images} of 32 x 32, m = {m}", *claims, ("{:.2f}", norm.gain(m))))
    return ("images", "n0, p = 0.9", "n0, p = 0.05", "q, n0 = 18432"), rows


def posterior():
    x = np.array([[9.0], [11.0]])
    _, fused, _ = kr.kalman_norm_forward(x, None, None, UNIT, 0.5)
    _, filtered, _ = kr.kalman_filter_norm_forward(x, None, None, UNIT)
    names = {"prior": UNIT, "fusion, q = 1/2": fused, "Kalman filter": filtered}
    return ("prior N(0, 1), batch 9 and 11", "mean", "variance"), [
        (name, *(("{:.2f}", s[0]) for s in moments)) for name, moments in names.items()
    ]


def mixture():
    rng = np.random.default_rng(0)
    real, virtual = rng.normal(3, 2, (6, 4)), rng.normal(-1, 1, (10, 4))
    fused, pooled = kr.fuse(kr.observe(virtual), kr.observe(real), 6 / 16), kr.observe(np.concatenate([real, virtual]))
    apart = kr.fuse(UNIT, kr.Moments(np.ones(1), np.ones(1)), 0.5).var[0]
    return ("variance of the fusion", "value"), [
        ("difference from 6 real and 10 virtual samples pooled", ("< 1e-12", max_error(fused, pooled))),
        ("share of the disagreement, one sd apart, q = 1/2", ("{:.0f} %", 100 * (1 - 1 / apart))),
    ]


def noise():
    rows = []
    for name, rho in (("R = I", 1.0), ("R = 0.1 I", 0.1)):
        estimate = UNIT
        for _ in range(30):
            estimate = kr.fuse(kr.predict(estimate, np.ones(1), rho), UNIT, 0.1)
        rows.append((name, ("{:.2f}", estimate.var[0]), ("{:.2f}", estimate.var[0] ** -0.5)))
    return ("A = I, q = 0.1, every batch N(0, 1)", "variance at layer 31", "sd of its output"), rows


def noise_parameters():
    rows = []
    for name, options in (("one a layer", {}), ('`noise="shared"`', {"noise": "shared"})):
        names = kr.models.resnet(32, "kn-learned", **options).params
        rows.append((name, ("{:.0f}", sum(key.endswith("log_noise") for key in names))))
    return ("values of rho in a ResNet-32", "number"), rows


def two_convolutions(norm):
    made = {"statistics_batch_size": 1, "dtype": np.float32}
    norms = [kr.BatchNorm(c, **made) if norm == "bn" else kr.KalmanNorm(c, before, **made) for c, before in CHANNELS]
    rng = np.random.default_rng(0)
    first, second = (kr.Conv2d(i, o, 3, s, 1, rng=rng, dtype=np.float32) for i, o, s in ((1, 16, 1), (16, 32, 2)))
    head = kr.GlobalAvgPool2d(), kr.Linear(32, 10, rng=rng, dtype=np.float32)
    return kr.Sequential(first, norms[0], kr.ReLU(), second, norms[1], kr.ReLU(), *head)


def one_image():
    rows, data = [], kr.data.load("digits")
    for norm, bounds in (("bn", ("> 40 %", "< 25 %")), ("kn-learned", ("< 20 %", "< 20 %"))):
        net, cells = two_convolutions(norm), []
        optimizer = kr.SGD(net, lr=0.1, momentum=0.9, weight_decay=1e-4)
        for epoch in range(6):
            for x, labels in batches(data.train_images, data.train_labels, 32, 0, epoch):
                net.backward(kr.cross_entropy(net.forward(x, training=True), labels)[1])
                optimizer.step()
        for mode, bound in zip(("running", "batch"), bounds, strict=True):
            inference.set_inference(net, mode)
            wrong = net.forward(data.test_images).argmax(axis=-1) != data.test_labels
            cells.append((bound, 100 * wrong.mean()))
        rows.append((f"`{norm}`", *cells))
    return ("test error on digits", "running averages", "the image's own"), rows
