"""Measures every number of docs/paper_and_code.md: where the paper, the authors' code and a Kalman filter part ways.

    python examples/paper_and_code.py

prints the tables of that page, about 20 seconds. Seeds are fixed. A bound (< or >) stands where digits would depend on
the machine.
"""

import functools

import numpy as np

import kalnorm_ref as kr
from kalnorm_ref import inference, transport
from kalnorm_ref.data import batches
from kalnorm_ref.experiments.evaluate import evaluate
from kalnorm_ref.gradcheck import max_error
from kalnorm_ref.running import running_average, unbiased

UNIT = kr.Moments(np.zeros(1), np.ones(1))
ERRORS = "mean", "log variance"
ROUNDING = 1e-8  # less than this is rounding, whose digits nobody prints


def seen_by(net, x):
    """What each normalizer meets in one training forward, by path."""
    found = {}
    with inference.watch(net, found.__setitem__):
        net.forward(x, training=True)
    return found


@functools.cache
def digits(count):
    return kr.data.load("digits", dtype=np.float64).train_images[:count]


def resnet(depth=20, norm="kn-released", **options):
    made = {"in_channels": 1, "statistics_batch_size": 2, "dtype": np.float64, "seed": 1} | options
    return kr.models.resnet(depth, norm, **made)


def mlp(norm="kn-released", factor=1.0, **options):
    """Four rectified layers, p = 1/2; `factor` multiplies the second weight."""
    half = {} if norm == "bn" else {"gain": 0.5, "gain_kind": "constant"}
    made = {"in_channels": 64, "image_size": (1, 1), "eps": 1e-12, "dtype": np.float64} | half | options
    net = kr.models.mlp((64,) * 4, norm, **made)
    net.params["4.weight"][...] *= factor
    return net


def mlp_data():
    return np.random.default_rng(0).normal(0.5, 1, (256, 1, 1, 64))


def squared_errors(value, truth):
    """Mean over the channels of (mean error)^2 / variance and of (log variance error)^2, to 3 decimals."""
    errors = np.mean((value.mean - truth.mean) ** 2 / truth.var), np.mean(np.log(value.var / truth.var) ** 2)
    return [("{:.3f}", error) for error in errors]


def small(error, bound):
    return (f"< {bound:g}" if error < ROUNDING else "{:.2f}"), error


# Every function returns the head of a table and its rows: a label, then cells (form, value).
# ---- the computation ----------------------------------------------------------------------------------------------------


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
    return ("normalizer", "64 to 64 channels", "share of a ResNet-32"), rows


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


PUSHED = {
    "`bn`": ("bn", {}),
    "`kn-analytic`, belief": ("kn-analytic", {"push": "belief"}),
    "`kn-analytic`, released": ("kn-analytic", {"push": "released"}),
    "`kn-released`": ("kn-released", {}),
    "`kn-learned`": ("kn-learned", {}),
}


def scale():
    rows, x = [], mlp_data()
    for name, (norm, options) in PUSHED.items():
        y = mlp(norm, **options).forward(x, training=True)
        weight = max_error(mlp(norm, 7.0, **options).forward(x, training=True), y)
        data = max_error(mlp(norm, **options).forward(20 * x, training=True), y)
        rows.append((name, small(weight, 1e-10), small(data, 1e-10)))
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
        rows.append((name, small(max_error(last[1], last[0]), 1e-9)))
    return ("other data", "change of the last prior"), rows


def guard():
    rows, net = [], resnet(preset="as_released")
    without = lambda net, x: ("{:.0f}", sum(s.prior is None for s in seen_by(net, x).values()) - 1)  # noqa: E731
    rows.append(("of 3 layers; 7 W_2", *(without(mlp(factor=f, guard=100), mlp_data()) for f in (1, 7))))
    before = without(net, digits(128))
    net.params["3.main.0.weight"][...] *= 20
    rows.append(
        ("of 18 normalizers of a ResNet-20; 20 times the second convolution", before, without(net, digits(128)))
    )
    ignored = []
    for dead in (False, True):
        norm, x = (
            kr.KalmanNorm(64, 64, "released", gain=0.5, guard=100),
            np.random.default_rng(0).normal(size=(512, 64)),
        )
        x[:, 0] = 3.0 if dead else x[:, 0]
        arrived = kr.layers.Estimate(kr.Moments(np.ones((1, 64)), np.ones((1, 64))), "sampled")
        _, estimate = norm.carry(x, arrived, training=True)
        ignored.append(("{:.0f}", np.sum(estimate.moments.mean[0] == kr.observe(x).mean)))
    rows.append(("of 64 channels of a layer; one is dead", *ignored))
    return ("without prior", "as it is", "changed"), rows


def accuracy():
    """Eight convolutions of 32 channels on 1/f images, each layer normalized with the statistics of all the images."""
    rng, c = np.random.default_rng(0), 32
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(16), np.fft.fftfreq(16)))[None, :, :, None]
    f[0, 0, 0, 0] = 1 / 16
    x = np.real(np.fft.ifft2(np.fft.fft2(rng.standard_normal((192, 16, 16, 3)), axes=(1, 2)) / f, axes=(1, 2)))
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
                    found.setdefault(name, []).append([error for _, error in squared_errors(estimate, truth)])
            carried[key] = fused, micro
        x = np.maximum(kr.standardize(x.reshape(-1, c), truth, None, None, 1e-5)[0].reshape(x.shape), 0)
    rows = [(name, *(("{:.3f}", e) for e in np.mean(errors, axis=0))) for name, errors in found.items()]
    return ("squared error", *ERRORS), rows


# ---- the network around it ----------------------------------------------------------------------------------------------


def shortcut():
    net = resnet(statistics_batch_size=128, gain=0.95, shortcut="prior")
    heads = [s for path, s in seen_by(net, digits(128)).items() if path.endswith("main.0")]
    rows = []
    for name, field in (("the incoming prior", "prior"), ("the posterior", "used")):
        errors = np.mean([[e for _, e in squared_errors(getattr(s, field), s.observed)] for s in heads], axis=0)
        rows.append((name, *(("{:.3f}", e) for e in errors)))
    return ("squared error of", *ERRORS), rows


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
        cells = drawn.mean.std(axis=0) / sd, drawn.var.std(axis=0) / closed.var, np.abs(inside.mean - closed.mean) / sd
        forms = "{:.2f} sd", "{:.0f} %", "{:.2f} sd", "{:.0f} %"
        means = [
            np.mean(cell) * (100 if "%" in form else 1) for form, cell in zip(forms, (*cells, border), strict=True)
        ]
        rows.append((f"{size} x {size} x {c}", *zip(forms, means, strict=True)))
    return ("map", "mean", "variance", "border: mean", "border: variance"), rows


def same_padding():
    rows = []
    for depth in (8, 20):
        nets = [resnet(depth, gain=1.0, conv_padding=padding) for padding in ("same", "symmetric")]
        rows.append((f"ResNet-{depth}", ("{:.2f}", max_error(*(n.forward(digits(64), training=True) for n in nets)))))
    return ("same weights", "change of the logits"), rows


# ---- the estimate -------------------------------------------------------------------------------------------------------


def virtual_samples():
    norm = kr.KalmanNorm(1, 1, "released", gain=0.1, gain_kind="pseudo_count")
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 1))
    norm.carry(x, kr.layers.Estimate(kr.Moments(*np.ones((2, 1, 1))), "sampled"), training=True)
    rows = []
    for images in (1, 2, 8, 128):
        m = images * 32 * 32
        claims = [("{:.0f}", m * p / (1 - p)) for p in (0.9, 0.05)]
        rows.append((f"{images} images, m = {m}", *claims, ("{:.2f}", norm.gain(m))))
    return ("statistics batch", "p = 0.9", "p = 0.05", "gain that adapts"), rows


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


def first_normalizer():
    rows = []
    for images, size in ((128, 32), (2, 32), (2, 8), (1, 4)):
        m = images * size**2
        rows.append((f"{images} of {size} x {size}", ("{:.2g} %", 100 * (unbiased(1.0, m) - 1))))
    return ("images", "variance larger by"), rows


def first_gradient():
    rows, gradients = [], {}
    for p in (0.9, 0.05):
        for cut in (False, True):
            net = resnet(preset="as_released", gain=1 - p)
            first = net.layers[1]
            if cut:
                first.carry_backward = lambda dy, dmoments, first=first: first.fork_backward(dy, None, None)
            labels = np.arange(64) % 10
            net.backward(kr.cross_entropy(net.forward(digits(64), training=True), labels)[1])
            gradients[cut] = net.grads["0.weight"].copy()
        change = np.linalg.norm(gradients[True] - gradients[False]) / np.linalg.norm(gradients[False])
        rows.append((f"p = {p:g}", ("{:.2f}", change)))
    return ("path cut", "change of the gradient"), rows


def one_image():
    rows, data = [], kr.data.load("digits")
    bounds = {"bn": ("> 20 %", "< 10 %"), "kn-learned": ("< 10 %", "< 10 %")}
    for norm in ("bn", "kn-learned"):
        net = kr.models.cnn5(norm, in_channels=1, statistics_batch_size=1, seed=1)
        optimizer, errors = kr.SGD(net, lr=0.1, momentum=0.9, weight_decay=1e-4), []
        for epoch in range(4):
            for x, labels in batches(data.train_images, data.train_labels, 32, 1, epoch):
                net.backward(kr.cross_entropy(net.forward(x, training=True), labels)[1])
                optimizer.step()
        for mode, bound in zip(("running", "batch"), bounds[norm], strict=True):
            inference.set_inference(net, mode)
            errors.append((bound, evaluate(net, data.test_images, data.test_labels)[1]))
        rows.append((f"`{norm}`", *errors))
    return ("test error on digits", "running averages", "the image's own"), rows


TABLES = (
    *(parameters, linear_transition, covariance, scale, ratios, memory, guard, accuracy),
    *(shortcut, first_block, concatenated, pooling, running_averages, sampling, same_padding),
    *(virtual_samples, posterior, mixture, noise, noise_parameters, first_normalizer, first_gradient, one_image),
)


def main():
    for table in TABLES:
        head, rows = table()
        print("|", " | ".join(head), "|")
        print("|---" * len(head) + "|")
        for label, *cells in rows:
            print("|", " | ".join([label, *(form.format(value) for form, value in cells)]), "|")
        print()


if __name__ == "__main__":
    main()
