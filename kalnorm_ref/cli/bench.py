"""The command `bench`."""

import sys

from .. import backend
from ..bench import page, suite, tables
from ..bench.cases import DEFAULT, PARTS
from ..bench.turns import Pace
from ..bench.worker import STATUS
from ..experiments.compare import to_json
from ..experiments.train import output_folder
from .common import add_backend, add_common, add_quiet, command

EXAMPLES = """examples:
  kalnorm-ref bench                          every part but growth; ten minutes, more on a busy machine
  kalnorm-ref bench --quick                  a few small shapes, under half a minute
  kalnorm-ref bench step --threads 1         training steps alone, one thread on each side
  kalnorm-ref bench all --out benchmarks     everything, with a page, its figures as JSON and a picture

parts:
  norms        BN, BRN, KN and GN, forward and backward
  convolution  forward and both gradients
  step         training step of ResNet-8 and ResNet-20
  statistics   the same with two images per statistics batch, every method against bn
  memory       resident memory of training steps
  growth       time against batch, statistics batches, depth and channels
"""
QUICK = Pace(seconds=0.15, turns=2, tries=1)


def add(commands):
    """Add the command and its options."""
    about = (
        "Measure time and memory of normalizers, convolutions and training steps, beside PyTorch where it is installed."
    )
    sub = command(commands, "bench", about, _prepare, "nothing was written", EXAMPLES)
    about = f"{', '.join(PARTS)}, or all of them (default: {' '.join(DEFAULT)})"
    sub.add_argument("parts", nargs="*", metavar="PART", help=about)
    sub.add_argument("--quick", action="store_true", help="few and small shapes, measured briefly and once")
    length = sub.add_mutually_exclusive_group()
    about = f"time for each column of a case (default: {Pace().seconds:g}; quick {QUICK.seconds:g})"
    length.add_argument("--seconds", type=float, metavar="S", help=about)
    length.add_argument("--repeats", type=int, metavar="N", help="at least so many calls of each, in place of a time")
    about = "what to compare with (default: torch where it is installed)"
    sub.add_argument("--peer", choices=("torch", "none"), help=about)
    about = f"write {page.PAGE}, {page.RESULTS} and, with growth, its picture into this folder (default: write nothing)"
    sub.add_argument("--out", metavar="DIR", help=about)
    add_quiet(sub)
    add_backend(sub)
    add_common(sub)


def _prepare(arguments):
    plan, out = _plan(arguments), None
    if arguments.out is not None:
        out = output_folder(arguments.out)
        page.check(out)
        arguments.kept = "finished parts are in {out}"

    def work():
        if arguments.peer is None and plan.peer == "none":
            about = "PyTorch is not installed, so there is nothing to compare with; to get it: pip install torch"
            print(f"kalnorm-ref: {about}", file=sys.stderr)
        finished = (lambda results: None) if out is None else (lambda results: page.write(out, results))
        results = suite.run(plan, not arguments.quiet, finished)
        print(to_json(results) if arguments.json else tables.text(results))

    return work


def _plan(arguments):
    """The Plan that the options ask for; ValueError for one that cannot be."""
    for name, value, low in (("repeats", arguments.repeats, 1), ("seconds", arguments.seconds, 0.001)):
        if value is not None and not low <= value < float("inf"):
            raise ValueError(f"{name} is {value}; expected at least {low}")
    parts = arguments.parts or DEFAULT
    unknown = [part for part in parts if part not in (*PARTS, "all")]
    if unknown:
        raise ValueError(f"unknown part {unknown[0]!r}; expected one of {', '.join(PARTS)}, all")
    parts = PARTS if "all" in parts else tuple(part for part in PARTS if part in parts)
    if "memory" in parts and not STATUS.exists():
        raise ValueError(f"memory is read from {STATUS}, which this system does not have; name the other parts")
    peer = arguments.peer or ("torch" if suite.installed("torch") else "none")
    if peer == "torch" and not suite.installed("torch"):
        raise ValueError("PyTorch is not installed; to get it: pip install torch; or compare with --peer none")
    pace = QUICK if arguments.quick else Pace()
    given = {name: getattr(arguments, name) for name in ("seconds", "repeats") if getattr(arguments, name) is not None}
    return suite.Plan(
        parts=parts,
        threads=backend.get_num_threads(),
        backend=backend.get_backend(),
        peer=peer,
        quick=arguments.quick,
        pace=pace._replace(**given),
    )
