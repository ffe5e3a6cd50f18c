"""The command `compare`."""

from ..experiments import compare
from ..experiments import settings as runs
from .common import METHOD_HELP, OPTIONS, add_run, command, settings

EXAMPLES = """examples:
  kalnorm-ref compare --seeds 0 1 2 --out out/digits
  kalnorm-ref compare --methods bn kn-learned:gain=0.5 kn-analytic:push=released,gain=0.1
  kalnorm-ref compare --data cifar10 --train-images 25000 --out out/cifar10

--out receives results.csv (a row for each method, seed and epoch; errors in percent), results.json (settings,
versions, summary) and curves.png, in place of an earlier comparison's. Ctrl-C keeps the runs that are finished.

"""


def add(commands):
    """Add the command and its options."""
    about = "Train the same network on the same batches once per method and seed; table, csv, json and picture."
    sub = command(commands, "compare", about, _prepare, "finished runs are in {out}", EXAMPLES + OPTIONS)
    about = f"{METHOD_HELP} (default: {' '.join(runs.METHODS)})"
    sub.add_argument("--methods", nargs="+", default=runs.METHODS, metavar="METHOD", help=about)
    sub.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED", help="a run for each (default: 0)")
    add_run(sub, "out/compare")


def _prepare(arguments):
    plan = compare.prepare_all(arguments.methods, arguments.seeds, settings(arguments), arguments.out)

    def work():
        found = compare.proceed_all(plan, not arguments.quiet)
        print(compare.to_json(found["summary"]) if arguments.json else compare.table(found["summary"]))
        if not arguments.json:
            print(f"results.csv, results.json and curves.png are in {arguments.out}")

    return work
