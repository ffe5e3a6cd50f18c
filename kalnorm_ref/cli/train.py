"""The command `train`."""

import sys

from ..experiments import train
from ..experiments.compare import to_json
from .common import METHOD_HELP, OPTIONS, add_run, command, settings

EXAMPLES = """examples:
  kalnorm-ref train --norm kn-learned --out out/kn
  kalnorm-ref train --norm kn-learned --out out/kn --resume      go on after a stop, to the same bits
  kalnorm-ref train --norm kn-analytic --record --inference population --out out/kn-analytic
  kalnorm-ref train --data cifar10 --norm brn --brn-ramp 500 2000 2000 --epochs 20 --schedule step

--out receives log.csv (a row for each epoch) and checkpoint.npz (weights, running averages, optimizer). With --record
also record.csv: the first 256 training images pass through the network in training mode after each epoch; a mean error
is the mean over channels and statistics batches of (mean - m)^2 / v, a log_var_error that of (log var - log v)^2,
with m and v the moments of all those images together; for the batch statistics, the prior, and what was used. Where it
joins at a --resume, it holds the epochs from there.

"""


def add(commands):
    """Add the command and its options."""
    kept = "finished epochs are in {out}, go on with --resume"
    sub = command(commands, "train", "Train one network.", _prepare, kept, EXAMPLES + OPTIONS)
    sub.add_argument("--norm", default="kn-learned", metavar="METHOD", help=f"{METHOD_HELP} (default: kn-learned)")
    sub.add_argument("--seed", type=int, help="of weights, order and augmentation (default: 0)")
    sub.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out, to the same bits")
    about = (
        "also keep record.csv and record.png in --out: gain, prior variance / batch variance and errors of the"
        " estimators, for each epoch and batch normalizer; the same bits are trained"
    )
    sub.add_argument("--record", action="store_true", help=about)
    add_run(sub, "out/train")


def _prepare(arguments):
    run = train.prepare(settings(arguments), arguments.out, arguments.resume, record=arguments.record)

    def work():
        if arguments.resume and not run.rows:
            print(f"no checkpoint in {run.out}: starting at the first epoch", file=sys.stderr)
        last = train.proceed(run, not arguments.quiet)[-1]
        if arguments.json:
            print(to_json({"method": run.settings.norm, "seed": run.settings.seed} | last))
            return
        error, loss = f"test error {last['test_error']:.2f} %", f"training loss {last['train_loss']:.4f}"
        files = "log.csv, checkpoint.npz, record.csv and record.png" if run.recorded else "log.csv and checkpoint.npz"
        print(f"{run.settings.norm}, epoch {last['epoch']}: {error}, {loss}; {files} are in {run.out}")

    return work
