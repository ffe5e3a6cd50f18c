"""What the paper computes and the code does not; what the code pushes into the next layer."""

import numpy as np

import kalnorm_ref as kr
from kalnorm_ref import inference, transport
from kalnorm_ref.gradcheck import max_error

from .common import ERRORS, UNIT, averaged, change, digits, mlp, mlp_data, resnet, seen_by, squared_errors

PUSHED = {
    "`bn`": ("bn", {}),
    "`kn-analytic`, belief": ("kn-analytic", {"push": "belief"}),
    "`kn-analytic`, released": ("kn-analytic", {"push": "released"}),
    "`kn-released`": ("kn-released", {}),
    "`kn-learned`": ("kn-learned", {}),
}


def parameters():
    rows = []
    kinds = {"`bn`": {}, "`kn-released`": {}, "`kn-learned`": {}, "`kn-learned`, full R": {"covariance": "full"}}
    for name, options in kinds.items():
        noise = {"noise_form": "cholesky"} if options else {}
        net = kr.models.resnet(32, name.split("`")[1], **options, **noise)
        one = sum(a.size for key, a in net.params.items() if key.startswith("15.main.3."))
        every = sum(a.size for _, layer in inference.normalizers(net) for a in layer.params.values())
        share = 100 * every / sum(a.size for a in net.params.values())
        rows.append((name, ("{:.0f}", one), ("{:.1f} %", share)))
    return ("parameters", "64 to 64 channels", "share of a ResNet-32"), rows


def linear_transition():
    means = transport.relu(UNIT).mean[0], kr.predict(UNIT, np.ones(1), 0.1).mean[0]
    names = "ReLU", "linear transition, any A"
    return ("N(0, 1) behind", "mean"), [(name, ("{:.2f}", mean)) for name, mean in zip(names, means, strict=True)]


def covariance():
    rng, c, rows = np.random.default_rng(0), 64, []
    for name, shift in (("of mean 0", 0.0), ("of a mean of half their sd", 0.5)):
        weight, ratios = rng.normal(shift, 1, (c, c)), []
        for rho in (0.1, 0.3):
            cov = (1 - rho) * np.eye(c) + rho
            full = np.diag(kr.full.predict(np.zeros(c), cov, weight, np.zeros((c, c)))[1])
            diagonal = kr.predict(kr.Moments(np.zeros(c), np.ones(c)), weight, 0.0).var
            ratios.append(("{:.2f}", np.median(full / diagonal)))
        rows.append((name, *ratios))
    return ("transition with weights", "correlation 0.1", "correlation 0.3"), rows


def scale():
    rows, x = [], mlp_data()
    for name, (norm, options) in PUSHED.items():
        y = mlp(norm, **options).forward(x, training=True)
        weight = max_error(mlp(norm, 7.0, **options).forward(x, training=True), y)
        data = max_error(mlp(norm, **options).forward(20 * x, training=True), y)
        rows.append((name, change(weight, 1e-10), change(data, 1e-10)))
    return ("output change", "7 W_2", "20 x"), rows


def ratios():
    rows, x = [], mlp_data()
    for name in ("`kn-analytic`, belief", "`kn-analytic`, released", "`kn-released`"):
        norm, options = PUSHED[name]
        for case, factor, of_data in (("", 1, 1), (", 7 W_2", 7, 1), (", 20 x", 1, 20)):
            layers = list(seen_by(mlp(norm, factor, **options), of_data * x).values())[1:]
            found = [np.mean(s.prior.var / s.observed.var) for s in layers]
            rows.append((name + case, *(("{:.2f}" if r < 10 else "{:.0f}" if r < 1e4 else "{:.1e}", r) for r in found)))
    return ("prior variance / batch variance", "layer 2", "layer 3", "layer 4"), rows


def memory():
    rows, other = [], np.random.default_rng(1).exponential(3, (256, 1, 1, 64))
    for name in ("`kn-analytic`, belief", "`kn-analytic`, released"):
        norm, options = PUSHED[name]
        last = [list(seen_by(mlp(norm, **options), x).values())[-1].prior for x in (mlp_data(), other)]
        rows.append((name, change(max_error(last[1], last[0]), 1e-9)))
    return ("other data", "change of the last prior"), rows


def without_prior(net, x):
    return "{:.0f}", sum(s.prior is None for s in seen_by(net, x).values()) - 1  # the first never has one


def guard():
    net, layers = resnet(preset="as_released"), [without_prior(mlp(factor=f, guard=100), mlp_data()) for f in (1, 7)]
    normalizers = [without_prior(net, digits(128))]
    net.params["3.main.0.weight"][...] *= 20
    normalizers.append(without_prior(net, digits(128)))
    channels = []
    for dead in (False, True):
        norm = kr.KalmanNorm(64, 64, "released", gain=0.5, guard=100)
        x = np.random.default_rng(0).normal(size=(512, 64))
        x[:, 0] = 3.0 if dead else x[:, 0]
        arrived = kr.layers.Estimate(kr.Moments(np.ones((1, 64)), np.ones((1, 64))), "sampled")
        _, estimate = norm.carry(x, arrived, training=True)
        channels.append(("{:.0f}", np.sum(estimate.moments.mean[0] == kr.observe(x).mean)))
    return ("without prior, of", "as it is", "changed"), [
        ("3 layers; 7 W_2", *layers),
        ("18 normalizers of a ResNet-20; 20 times the second convolution", *normalizers),
        ("64 channels of a layer; one of them dead", *channels),
    ]


def accuracy():
    """Eight convolutions of 32 channels on 1/f images, each layer normalized with the statistics of all the images."""
    rng, c = np.random.default_rng(0), 32
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(16), np.fft.fftfreq(16)))[None, :, :, None]
    f[0, 0, 0, 0] = 1 / 16
    x = np.real(np.fft.ifft2(np.fft.fft2(rng.standard_normal((192, 16, 16, 3)), axes=(1, 2)) / f, axes=(1, 2)))
    x *= 0.5 / x.std()
    found, carried = {}, {}
    for layer in range(8):
        conv = kr.Conv2d(x.shape[-1], c, 3, padding=1, rng=rng)
        x = conv.forward(x)
        truth, micro = kr.observe(x.reshape(-1, c)), kr.observe(x.reshape(96, -1, c))
        for mode, p in (("belief", 0.05), ("belief", 0.9), ("released", 0.05), ("released", 0.9)):
            key, fused = f"fused, {mode} push, p = {p:g}", micro
            if layer:
                pushed = transport.push(mode, *carried[key], np.ones(c), np.zeros(c))
                prior = transport.conv2d(transport.relu(pushed), conv.params["weight"], 1, 1, (16, 16))
                fused = kr.fuse(prior, micro, 1 - p)
                named = {"two images": micro, key: fused} | ({f"prior, {mode} push": prior} if p == 0.9 else {})
                for name, estimate in named.items():
                    found.setdefault(name, []).append(squared_errors(estimate, truth))
            carried[key] = fused, micro
        x = np.maximum(kr.standardize(x.reshape(-1, c), truth, None, None, 1e-5)[0].reshape(x.shape), 0)
    return ("squared error", *ERRORS), [(name, *averaged(errors)) for name, errors in found.items()]
