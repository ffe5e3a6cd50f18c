"""What is measured: the cases of each part, as JSON has them, and the arithmetic and memory traffic that they need."""

PARTS = ("norms", "convolution", "step", "statistics", "memory", "growth")
DEFAULT = PARTS[:-1]
PEERED = ("norms", "convolution", "step")  # parts that PyTorch has too; memory starts processes of its own

MAPS = ((128, 32, 32, 16), (128, 16, 16, 32), (128, 8, 8, 64), (2, 32, 32, 16), (2, 16, 16, 32), (2, 8, 8, 64))
CONVOLUTIONS = (*((shape, shape[-1], 1) for shape in MAPS), ((128, 32, 32, 16), 32, 2), ((128, 16, 16, 32), 64, 2))
GROUPS = 4
SGD = {"lr": 1e-4, "momentum": 0.9, "weight_decay": 1e-4}  # so slow that thousands of steps change little
CARRIED = ("bn", "brn", "kn-shrink", "kn-learned", "kn-analytic", "kn-released")
ROOFLINE = {"kind": "roofline", "size": 2048, "mebibytes": 64}
SMALL_ROOFLINE = {"kind": "roofline", "size": 512, "mebibytes": 8}
MEMORY_CALLS = 3


def cases(part, quick=False):
    """The cases of a part, a list of dicts; `quick` has few of them, and small."""
    return {
        "norms": norms,
        "convolution": convolutions,
        "step": steps,
        "statistics": statistics,
        "memory": memory,
        "growth": growth,
    }[part](quick)


def norms(quick):
    """BN with BRN and KN at every map, and GN at the largest: forward and backward."""
    shapes = MAPS[5:] if quick else MAPS
    grouped = (8, 8, 8, 16) if quick else MAPS[0]
    return [norm(shape, "bn", "brn", "kn") for shape in shapes] + [norm(grouped, "gn") | {"groups": GROUPS}]


def norm(shape, *names):
    """Normalizers on a map (N, H, W, C)."""
    return {"kind": "norms", "shape": list(shape), "norms": list(names)}


def convolutions(quick):
    """3 x 3 convolutions: forward, dx and dW."""
    listed = (CONVOLUTIONS[5], ((2, 16, 16, 32), 64, 2)) if quick else CONVOLUTIONS
    return [{"kind": "convolution", "shape": list(s), "channels": c, "stride": stride} for s, c, stride in listed]


def step(depth, batch, statistics, *names):
    """Training steps of a ResNet with each of the normalizers; `statistics` None: the whole batch."""
    names = list(names)
    return {"kind": "step", "depth": depth, "batch": batch, "statistics": statistics, "norms": names, "sgd": SGD}


def steps(quick):
    """Training steps with BN over the whole batch."""
    if quick:
        return [step(8, 2, None, "bn")]
    return [step(depth, batch, None, "bn") for depth in (8, 20) for batch in (128, 2)]


def statistics(quick):
    """Training steps with two images per statistics batch, the setting that the Kalman normalizers are for."""
    if quick:
        return [step(8, 4, 2, *CARRIED)]
    return [step(depth, 128, 2, *CARRIED) for depth in (8, 20)]


def memory(quick):
    """Training steps in a fresh process, ours and PyTorch's in its faster format."""
    sizes = ((8, 8),) if quick else ((8, 128), (20, 128))
    return [step(depth, batch, None, "bn") | {"formats": ["channels_last"]} for depth, batch in sizes]


def growth(quick):
    """Series of cases in which one size grows."""
    batches = (2, 4, 8) if quick else (16, 32, 64, 128, 256)
    batch = 8 if quick else 128
    counts = [2**k for k in range(3 if quick else 7)]
    depths = (8, 14) if quick else (8, 14, 20, 26)
    channels, rows = ((8, 16, 32), (2, 8, 8)) if quick else ((8, 16, 32, 64, 128, 256), (128, 8, 8))
    made = []
    for name in ("bn", "kn-analytic"):
        work = f"{name}, ResNet-8"
        made += [
            series("images in the gradient batch", work, batches, [step(8, n, 2, name) for n in batches]),
            series("statistics batches", work, counts, [step(8, batch, batch // n, name) for n in counts]),
            series("layers of the ResNet", name, depths, [step(n, batch, 2, name) for n in depths]),
        ]
    maps = [norm((*rows, n), "bn") for n in channels]
    return [*made, series("channels of one map", "bn, kernel", channels, maps)]


def series(over, work, sizes, points):
    """One line of the picture: a case of one work for each size."""
    return {"kind": "series", "over": over, "work": work, "sizes": list(sizes), "points": points}


def moved_bytes(case):
    """Bytes that a normalizer has to move: forward reads x and writes y, backward reads x and dy and writes dx."""
    n, h, w, c = case["shape"]
    return 5 * 4 * n * h * w * c


def operations(case):
    """Multiplications and additions of a convolution's forward, dx and dW, which need equally many."""
    n, h, w, c = case["shape"]
    positions = n * -(-h // case["stride"]) * -(-w // case["stride"])
    return 3 * 2 * 9 * c * case["channels"] * positions
