"""The command `report`, on a sweep; what `verify` and `judge` write is in `reports`."""

from ..experiments import report
from ..layers.statistics import INFERENCE
from .common import command

EXAMPLES = """examples:
  kalnorm-ref report out/sweep --out out/report
  kalnorm-ref report out/sweep --out out/report --against bn gn --panels running batch
  kalnorm-ref report out/monday out/tuesday --out out/report        several sweeps as one; a run in both counts once

SOURCE is a folder of `kalnorm-ref sweep`, or one with its flat tables:
  runs.csv     a row for each run: its settings, errors in percent in each inference mode, speed
  epochs.csv   a row for each run and epoch, for the curves (may be missing)
  layers.csv   a row for each run, epoch and normalizer, for gain and estimators (may be missing)

DIR receives report.html (one page, nothing outside of it), report.md and its pictures, and summary.csv (every mean and
every difference, in full). The same tables give the same bytes. What the tables say:
  12.30 ± 0.41 (n = 3)             mean over 3 seeds, and half of its 95 % interval by Student's t
  12.30 (n = 1, no interval)       one seed says nothing about the spread
  12.30 ± 2.10 (n = 2); 1 of 3 diverged    the mean is that of the two runs that did not
  bold                             the lowest of its column, where the paired difference to the next excludes 0
"""


def add(commands):
    """Add the command and its options."""
    about = "Tables and figures of a sweep, with intervals over seeds and paired differences between methods."
    sub = command(commands, "report", about, _prepare, "the report in {out} is not whole", EXAMPLES)
    sub.add_argument("sources", nargs="+", metavar="SOURCE", help="folder of a sweep, or of its flat tables")
    sub.add_argument("--out", required=True, metavar="DIR", help="folder of the report; its files there are replaced")
    about = "methods to take differences to, seed by seed; may be repeated (default: bn, where it was run)"
    sub.add_argument("--against", nargs="+", action="extend", metavar="METHOD", help=about)
    about = "inference modes of the first figure, a panel for each (default: running, or the first that was evaluated)"
    sub.add_argument("--panels", nargs="+", choices=INFERENCE, metavar="MODE", help=about)


def _prepare(arguments):
    plan = report.prepare(arguments.sources, arguments.out, arguments.against, arguments.panels)

    def work():
        print(f"{', '.join(sorted(report.write(plan)))} are in {arguments.out}")

    return work
