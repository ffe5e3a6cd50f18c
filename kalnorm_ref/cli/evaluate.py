"""The command `evaluate`."""

from ..experiments import evaluate
from ..experiments.compare import to_json
from ..layers.statistics import INFERENCE
from .common import INFERENCE_HELP, add_backend, add_common, add_data_dir, add_quiet, command

EXAMPLES = """examples:
  kalnorm-ref evaluate out/kn
  kalnorm-ref evaluate out/kn/checkpoint.npz --inference running batch --json
  kalnorm-ref evaluate out/kn --inference batch --statistics-batch-size 8
"""


def add(commands):
    """Add the command and its options."""
    about = "Evaluate a network that train has written, with each kind of statistics at inference."
    sub = command(commands, "evaluate", about, _prepare, "nothing was written", EXAMPLES)
    sub.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint.npz of `train`, or the folder that holds it")
    about = f"{INFERENCE_HELP} (default: all three)"
    sub.add_argument("--inference", nargs="+", choices=INFERENCE, default=INFERENCE, metavar="MODE", help=about)
    add_data_dir(sub)
    about = "images that share one mean and variance, for batch and population (default: as in training)"
    sub.add_argument("--statistics-batch-size", type=int, metavar="N", help=about)
    add_quiet(sub)
    add_backend(sub)
    add_common(sub)


def _prepare(arguments):
    restored = evaluate.restore(arguments.checkpoint, arguments.data_dir, arguments.statistics_batch_size)

    def work():
        found = evaluate.evaluate_modes(restored, arguments.inference, not arguments.quiet)
        print(to_json(evaluate.results(restored, *found)) if arguments.json else evaluate.table(restored, *found))

    return work
