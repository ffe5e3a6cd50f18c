"""The results as tables: for a terminal as they are, on a page as Markdown."""

from . import cases
from .turns import STEADY

FORMATS = {"torch channels_last": "PyTorch, channels last", "torch nchw": "PyTorch, NCHW"}
HEADINGS = {
    "norms": "Normalizers: forward and backward of one map (N, H, W, C), float32",
    "convolution": "Convolutions, 3 x 3: forward, dx and dW, float32",
    "step": "Training step with BN over the whole batch",
    "statistics": "Training step with two images per statistics batch, ours alone",
    "memory": "Resident memory of a fresh process over three training steps with BN",
    "growth": "Growth: straight lines through the medians, ours alone",
}


def tables(results):
    """{part: table} of the parts that were measured, in their order."""
    make = {
        "norms": _norms,
        "convolution": _convolutions,
        "step": _steps,
        "statistics": _statistics,
        "memory": _memory,
        "growth": _growth,
    }
    return {part: table(*make[part](results)) for part in cases.PARTS if part in results}


def text(results):
    """All tables, each under its heading."""
    found = tables(results).items()
    return "\n\n".join([roofline(results), *(f"{HEADINGS[part]}\n\n{lines}" for part, lines in found)])


def table(head, rows):
    """A Markdown table whose columns line up as text too: the first to the left, the others to the right."""
    cells = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in (cells[0], rule, *cells[1:])
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)


def roofline(results):
    """What the machine could do, in a sentence."""
    row = results["roofline"]
    size, mebibytes, unsteady = row["case"]["size"], row["case"]["mebibytes"], note(*row["columns"].values())
    return (
        f"Roofline: SGEMM of {size} x {size} matrices by NumPy's BLAS {figure(row['flops'] / 1e9)} GFLOP/s; copy of "
        f"{mebibytes} MiB {figure(row['bandwidth'] / 1e9)} GB/s read and written; both with all threads"
        + (f" ({unsteady})." if unsteady else ".")
    )


def figure(value):
    """Three figures, with an exponent for tiny values alone.

    >>> figure(0.012345), figure(12.345), figure(12345.6)
    ('0.0123', '12.3', '12346')
    """
    if abs(value) >= 999.5:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"


def milliseconds(column):
    """Median and quartiles."""
    return "{} ({} .. {})".format(*(figure(1000 * column[name]) for name in ("median", "low", "high")))


def note(*columns):
    """What a reader has to know of these columns: that one of them never became steady."""
    spread = max(column["spread"] for column in columns)
    return f"spread {100 * spread:.0f} %" if spread > STEADY else ""


def _peers(results):
    """Names of the peer's columns."""
    return list(FORMATS) if results["settings"]["peer"] == "torch" else []


def _head(results, *ours):
    """The titles of a table where a peer stands beside ours; `_beside` has the cells from the peer on."""
    peers = [title for name in _peers(results) for title in (f"{FORMATS[name]} ms", "ours / it")]
    return [*ours, *peers, "calls", "note"]


def _beside(results, ours, columns):
    """The peer's times and the ratio of ours to them, dashes where it has none; the counted calls; the note."""
    there = [columns.get(name) for name in _peers(results)]
    cells = []
    for column in there:
        cells += [milliseconds(column), f"{ours['median'] / column['median']:.2f}"] if column else ["-", "-"]
    shown = [ours, *filter(None, there)]
    return [*cells, " / ".join(str(column["repeats"]) for column in shown), note(*shown)]


def _share(rate, ceiling):
    return f"{100 * rate / ceiling:.0f} %"


def _norms(results):
    rows = []
    for row in results["norms"]:
        case, columns = row["case"], row["columns"]
        first = case["norms"][0]
        for name in case["norms"]:
            ours = columns[f"ours {name}"]
            label = f"{name.upper()} {'x'.join(map(str, case['shape']))}"
            to_bn = f"{ours['median'] / columns['ours bn']['median']:.2f}" if first == "bn" else "-"
            rate = cases.moved_bytes(case) / ours["median"]
            rates = figure(rate / 1e9), _share(rate, results["roofline"]["bandwidth"])
            beside = _beside(results, ours, columns if name == first else {})
            rows.append([label, milliseconds(ours), to_bn, *rates, *beside])
    return _head(results, "map", "ours ms", "of BN", "GB/s", "of copy"), rows


def _convolutions(results):
    rows = []
    for row in results["convolution"]:
        case, ours = row["case"], row["columns"]["ours conv"]
        label = f"{'x'.join(map(str, case['shape']))} to {case['channels']}, stride {case['stride']}"
        rate = cases.operations(case) / ours["median"]
        rates = figure(rate / 1e9), _share(rate, results["roofline"]["flops"])
        rows.append([label, milliseconds(ours), *rates, *_beside(results, ours, row["columns"])])
    return _head(results, "convolution", "ours ms", "GFLOP/s", "of SGEMM"), rows


def _network(case):
    return f"ResNet-{case['depth']}, batch {case['batch']}"


def _steps(results):
    rows = []
    for row in results["step"]:
        case, ours = row["case"], row["columns"]["ours bn"]
        speed = figure(case["batch"] / ours["median"])
        rows.append([_network(case), milliseconds(ours), speed, *_beside(results, ours, row["columns"])])
    return _head(results, "network", "ours ms", "images/s"), rows


def _statistics(results):
    head = ["network", "ms", "of bn", "images/s", "calls", "note"]
    rows = []
    for row in results["statistics"]:
        case, base = row["case"], row["columns"]["ours bn"]["median"]
        for name in case["norms"]:
            ours = row["columns"][f"ours {name}"]
            speed, ratio = figure(case["batch"] / ours["median"]), f"{ours['median'] / base:.2f}"
            label = f"{_network(case)}, {name}"
            rows.append([label, milliseconds(ours), ratio, speed, ours["repeats"], note(ours)])
    return head, rows


def _memory(results):
    head = ["network", "before the steps MiB", "peak MiB", "difference MiB"]
    names = {"ours": "ours", "torch": FORMATS["torch channels_last"]}
    rows = []
    for row in results["memory"]:
        for side, column in row["columns"].items():
            before, peak = column["before"] / 2**20, column["peak"] / 2**20
            label = f"{_network(row['case'])}, {names[side]}"
            rows.append([label, f"{before:.0f}", f"{peak:.0f}", f"{peak - before:.0f}"])
    return head, rows


def _growth(results):
    head = ["time against", "of", "from .. to", "ms for each", "ms at 0", "R^2", "note"]
    rows = []
    for row in results["growth"]:
        case, fit = row["case"], row["fit"]
        span, r2 = f"{case['sizes'][0]} .. {case['sizes'][-1]}", f"{fit['r2']:.4f}"
        slope, start = figure(1000 * fit["slope"]), figure(1000 * fit["intercept"])
        rows.append([case["over"], case["work"], span, slope, start, r2, note(*row["columns"].values())])
    return head, rows
