"""Asks normalizers by other people the conformance kit's cases, and writes docs/strangers.md between its markers.

    python -m examples.strangers                 every package that is installed; for the others the page says why not
    python -m examples.strangers --only torch    some packages, and prints

Cases are those of the frozen core, each laid out as the layer wants it. Where PyTorch sees a GPU, its layers are
asked there too, and so are the kernels of examples/triton_kernels.py.
"""

import argparse
import datetime
import functools
import importlib
import platform
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kalnorm_ref import oracle
from kalnorm_ref.oracle import core
from kalnorm_ref.oracle.case import UNITS, channel_axis
from kalnorm_ref.oracle.modules import from_module
from kalnorm_ref.oracle.report_text import HEADINGS, rows
from kalnorm_ref.oracle.verdict import RIGHT, severity

PAGE = Path(__file__).parents[1] / "docs" / "strangers.md"
BEGIN, END = "<!-- examples/strangers.py: begin -->", "<!-- examples/strangers.py: end -->"
SHOWN = 4  # failing tensors of one target
TYPES = {"float64 and float32": ("float64", "float32"), "bfloat16 and float16": ("bfloat16", "float16")}


class Stranger(NamedTuple):
    """A layer to ask: `name` as kalnorm-ref verify takes it, `package` whose version is told."""

    package: str
    name: str
    op: str
    layouts: tuple
    kind: str = "factory"
    device: str = "cpu"
    tiers: tuple = ("core",)
    views: tuple = (None,)
    affine: tuple = (True, False)  # whether the cases have gamma or beta


def layers(device):
    """PyTorch's own."""
    ask = functools.partial(Stranger, "torch", kind="module", device=device, tiers=("core", "extended"))
    dimensions = {1: ("NC", "NCL", "NLC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}
    for n, layouts in dimensions.items():
        yield ask(f"torch.nn:BatchNorm{n}d", "bn", layouts, views=(None, "padded") if n == 2 else (None,))
    yield ask("torch.nn:GroupNorm", "gn", ("NCHW", "NHWC"), affine=(True,), views=(None, "padded"))
    yield ask("torch.nn:GroupNorm", "gn", ("NCHW", "NHWC"), affine=(False,))


STRANGERS = (
    *layers("cpu"),
    Stranger("flax", "examples.peers:flax_batch_norm", "bn", ("NHWC",)),
    Stranger("flax", "examples.peers:flax_batch_norm_two_pass", "bn", ("NHWC",)),
    Stranger("flax", "examples.peers:flax_group_norm", "gn", ("NHWC",)),
    Stranger("flax", "examples.peers:flax_group_norm_two_pass", "gn", ("NHWC",)),
    Stranger("keras", "examples.peers:keras_batch_norm", "bn", ("NHWC",)),
    Stranger("keras", "examples.peers:keras_batch_renorm", "brn", ("NHWC",)),
    Stranger("torchrl", "examples.peers:torchrl_batch_renorm", "brn", ("NC", "NCL")),
    Stranger("torchrl", "examples.peers:torchrl_batch_renorm_warmed_up", "brn", ("NC", "NCL")),
)
ON_GPU = (
    *layers("cuda"),
    Stranger("triton", "examples.triton_kernels:batch_norm", "bn", ("NCHW", "NHWC")),
    Stranger("triton", "examples.triton_kernels:kalman_norm", "kn", ("NCHW", "NHWC")),
)
WITH = {"flax": ("jax", "jaxlib"), "keras": ("torch",), "torchrl": ("torch",), "triton": ("torch",)}


def relaid(case, layout):
    """A case in another layout: positions flattened, or axes of length 1 added. None where that changes its meaning."""
    wanted = len(layout) - 2

    def moved(a):
        a = np.moveaxis(a, channel_axis(case.layout), -1)
        images, *positions, channels = a.shape
        if wanted == 0:
            images, positions = images * int(np.prod(positions)), []
        elif len(positions) > wanted:
            positions = [*positions[: wanted - 1], int(np.prod(positions[wanted - 1 :]))]
        positions = [1] * (wanted - len(positions)) + positions
        a = a.reshape(images, *positions, channels)
        return np.ascontiguousarray(np.moveaxis(a, -1, channel_axis(layout)))

    if wanted == 0 and len(case.layout) > 2 and case.op in ("gn", "gkn"):
        return None
    maps = {role: {**group} for role, group in (("tensors", case.tensors), ("upstream", case.upstream))}
    maps["tensors"]["x"], maps["upstream"]["dy"] = moved(case.tensors["x"]), moved(case.upstream["dy"])
    before = tuple(moved(x) for x in case.before)
    return case._replace(id=f"{case.id}, {layout}", layout=layout, before=before, **maps)


def factory(stranger):
    """Its factory. An ImportError is for the page to tell."""
    module, _, attribute = stranger.name.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    importlib.import_module(stranger.package)
    return from_module(found, stranger.device) if stranger.kind == "module" else found


def asked(stranger):
    """((name, layout), types, Report) for each of its layouts and views; wide and narrow types fail by themselves."""
    make = factory(stranger)
    cases = [case for tier in stranger.tiers for case in core.choose(tier=tier) if case.op == stranger.op]
    cases = [case for case in cases if (not case.tensors.keys().isdisjoint(("gamma", "beta"))) in stranger.affine]
    for layout in stranger.layouts:
        for view in stranger.views:
            laid = [relaid(case, layout) for case in cases if case.view == view]
            for types, names in TYPES.items():
                report = oracle.verify(make, [case for case in laid if case is not None and case.dtype in names])
                yield (called(stranger), f"{layout}, {view}" if view else layout), types, report


# ---- the page ----------------------------------------------------------------------------------------------------


def page(strangers):
    """The lines between the markers."""
    found, missing, packages = {}, [], {"numpy": None}
    for stranger in strangers:
        print(f"asking {called(stranger)}", file=sys.stderr)
        try:
            for row, types, report in asked(stranger):
                found.setdefault(row, {})[types] = report
            packages |= dict.fromkeys((stranger.package, *WITH.get(stranger.package, ())))
        except ImportError as error:
            missing.append(f"{stranger.package} was not asked: {' '.join(str(error).split())}.")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    yield f"{datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}, {versions}."
    yield from ("", *dict.fromkeys(missing), "", "Cases that are right, of those that were asked:", "", *table(found))
    for (name, layout), reports in found.items():
        for types, report in reports.items():
            if report.failures:
                yield from ("", f"### {name}, {layout}, {types}", "", *wrong(report))
    yield from ("", "### Not asked, not returned", "", *left_out(found))


def called(stranger):
    """Its name on the page."""
    name = stranger.name.replace("torch.nn:", "torch.nn.").removeprefix("examples.").replace(":", ".")
    name += "(affine=False)" if stranger.affine == (False,) else ""
    return f"{name} on {stranger.device}" if stranger.device != "cpu" else name


def table(found):
    """One row for each layer and layout, one column for each type."""
    yield f"| layer | layout | {' | '.join(UNITS)} | verdicts |"
    yield "|---" * (len(UNITS) + 3) + "|"
    for (name, layout), reports in found.items():
        cells, judged = [], [r for report in reports.values() for r in report.judged]
        for dtype in UNITS:
            verdicts = [r.verdict in RIGHT for r in judged if r.case.dtype == dtype]
            cells.append(f"{sum(verdicts)}/{len(verdicts)}" if verdicts else "-")
        counts = Counter(r.verdict for r in judged)
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in sorted(counts, key=severity))
        yield f"| {name} | {layout} | {' | '.join(cells)} | {said} |"


def wrong(report):
    """The worst tensors that are wrong."""
    found = rows(report)
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|---" * len(HEADINGS) + "|"
    yield from (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row.cells())} |" for row in found[:SHOWN])
    if len(found) > SHOWN:
        yield f"\nand {len(found) - SHOWN} more wrong tensors."


def left_out(found):
    """Each reason of a SKIP with its number of cases; then what nobody could judge."""
    counts, missing = Counter(), {}
    for (name, _), reports in found.items():
        for report in reports.values():
            counts.update((name, r.note) for r in report.results if r.verdict == "SKIP")
            missing.setdefault(name, set()).update(tensor for r in report.judged for tensor in r.missing)
    yield from (f"- {name}: {note} ({n})" for (name, note), n in counts.items())
    yield from (f"- {name} returns no {', '.join(sorted(tensors))}" for name, tensors in missing.items() if tensors)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="PACKAGE", help="ask these packages only, and print")
    arguments = parser.parse_args(argv)
    strangers = [s for s in (*STRANGERS, *on_gpu()) if arguments.only is None or s.package in arguments.only]
    lines = "\n".join(page(strangers))
    if arguments.only is not None:
        print(lines)
        return
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{lines}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def on_gpu():
    """What is asked only where PyTorch sees a GPU."""
    try:
        import torch
    except ImportError:
        return ()
    return ON_GPU if torch.cuda.is_available() else ()


if __name__ == "__main__":
    main()
