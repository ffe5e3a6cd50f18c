"""The command line: the same work as the functions of kalnorm_ref.experiments, with one clear line for every mistake.

Exit codes: 0 done, 2 usage or bad input, 130 stopped with Ctrl-C. A command is a pair: the first function looks at all
input and writes nothing, and returns the second, which works. A ValueError of the second is a mistake of this package
and keeps its traceback.
"""

import argparse
import dataclasses
import json
import platform
import sys

import numpy as np

from . import __version__, backend, data, models
from .data.cifar import LAYOUTS
from .experiments import bench, compare, train
from .experiments import settings as runs

EXAMPLES = {
    "main": """examples:
  kalnorm-ref compare                      five methods on the embedded digits, one image per statistics batch
  kalnorm-ref train --norm kn-learned      one network, with a log and checkpoints
  kalnorm-ref data fetch cifar10           download CIFAR-10
  kalnorm-ref COMMAND --help               all that a command can do, with examples
""",
    "compare": """examples:
  kalnorm-ref compare --seeds 0 1 2 --out out/digits
  kalnorm-ref compare --methods bn kn-learned:gain=0.5 kn-analytic:push=released,gain=0.1
  kalnorm-ref compare --data cifar10 --train-images 25000 --out out/cifar10

--out receives results.csv (a row for each method, seed and epoch; errors in percent), results.json (settings,
versions, summary) and curves.png, in place of an earlier comparison's. Ctrl-C keeps the runs that are finished.

""",
    "train": """examples:
  kalnorm-ref train --norm kn-learned --out out/kn
  kalnorm-ref train --norm kn-learned --out out/kn --resume      go on after a stop, to the same bits
  kalnorm-ref train --data cifar10 --norm brn --brn-ramp 500 2000 2000 --epochs 20 --schedule step

--out receives log.csv (a row for each epoch) and checkpoint.npz (weights, running averages, optimizer).

""",
    "bench": "example:\n  kalnorm-ref bench --threads 1 --json\n",
    "data": """examples:
  kalnorm-ref data fetch cifar10 --dir ~/datasets
  kalnorm-ref data check cifar10 --dir ~/datasets
""",
}

OPTIONS = "options of the methods:\n" + "".join(
    f"  {norm}: {', '.join(models.norm_options(norm)) or 'none'}\n" for norm in models.NORMS
)
METHOD_HELP = f"{', '.join(models.NORMS)}; with options of its own, NAME:option=value,option=value"


class InputError(Exception):
    """A mistake in what the user asked for; the text is the line to print."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message):
        raise InputError(f"{message} (see {self.prog} --help)")


def main(argv=None):
    """Run the command line on `argv` (None: the process's own arguments) and return the exit code."""
    kept = "nothing was written"
    try:
        arguments = parser().parse_args(argv)
        with backend.use_backend(getattr(arguments, "backend", None) or backend.get_backend()):
            work = _checked(arguments)
            if backend.get_backend() == "numpy" and getattr(arguments, "backend", "numpy") is None:
                print("kalnorm-ref: the compiled backend is not built; NumPy computes, more slowly", file=sys.stderr)
            kept = arguments.kept.format(**vars(arguments))
            work()
    except SystemExit as stop:  # --help and --version
        return stop.code or 0
    except (InputError, data.DataError, ImportError, OSError) as error:
        print("kalnorm-ref: error: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"kalnorm-ref: stopped; {kept}", file=sys.stderr)
        return 130
    return 0


def _checked(arguments):
    try:
        if getattr(arguments, "threads", None) is not None:
            backend.set_num_threads(arguments.threads)
        return arguments.prepare(arguments)
    except ValueError as error:
        raise InputError(error) from error


def version():
    """One line: version of the package, backend, widest instruction set that NumPy found, threads."""
    sets = np.show_config(mode="dicts").get("SIMD Extensions", {})
    widest = (sets.get("found") or sets.get("baseline") or ["unknown"])[-1]
    return (
        f"kalnorm-ref {__version__}, backend {backend.get_backend()}, "
        f"{platform.machine()} {widest}, {backend.get_num_threads()} threads"
    )


def parser():
    """The parser of the whole command line."""
    about = "Normalizers that carry statistics across layers, beside those that do not: trained, compared, timed."
    top = Parser(prog="kalnorm-ref", description=about, epilog=EXAMPLES["main"])
    about = "version, backend, instruction set, threads"
    top.add_argument("--version", action="version", version=version(), help=about)
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    about = "Train the same network on the same batches once per method and seed; table, csv, json and picture."
    sub = _command(commands, "compare", about, _compare, "finished runs are in {out}")
    default = " ".join(runs.METHODS)
    about = f"{METHOD_HELP} (default: {default})"
    sub.add_argument("--methods", nargs="+", default=runs.METHODS, metavar="METHOD", help=about)
    sub.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED", help="a run for each (default: 0)")
    _add_run(sub, "out/compare")

    sub = _command(commands, "train", "Train one network.", _train, "finished epochs are in {out}, go on with --resume")
    sub.add_argument("--norm", default="kn-learned", metavar="METHOD", help=f"{METHOD_HELP} (default: kn-learned)")
    sub.add_argument("--seed", type=int, help="of weights, order and augmentation (default: 0)")
    sub.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out, to the same bits")
    _add_run(sub, "out/train")

    about = "Time each normalizer, forward and backward, in both backends."
    sub = _command(commands, "bench", about, _bench, "nothing was written")
    sub.add_argument("--repeats", type=int, default=10, help="the median of so many is printed (default: 10)")
    _add_common(sub, backends=False)

    about = "Download CIFAR (the official binary release), or check what is there."
    actions = commands.add_parser("data", help=about, description=about, epilog=EXAMPLES["data"])
    actions = actions.add_subparsers(metavar="ACTION", required=True)
    about = "Download an archive, or finish a download that was cut; its MD5 sum is checked."
    fetch = _command(actions, "fetch", about, _fetch, "what has come is kept, run again to go on")
    fetch.add_argument("--quiet", action="store_true", help="no progress bar")
    check = _command(actions, "check", "Read a data set whole and print what it holds.", _check, "nothing was written")
    check.add_argument("--json", action="store_true", help="print JSON")
    fetch.add_argument("name", choices=tuple(LAYOUTS), help="the data set")
    check.add_argument("name", choices=data.NAMES, help="the data set")
    for sub in (fetch, check):
        sub.add_argument("--dir", help="folder of the archive (default: $KALNORM_DATA, else ~/.cache/kalnorm_ref)")
    return top


def _command(commands, name, about, prepare, kept):
    epilog = EXAMPLES.get(name, EXAMPLES["data"]) + (OPTIONS if name in ("compare", "train") else "")
    sub = commands.add_parser(name, help=about, description=about, epilog=epilog)
    sub.set_defaults(prepare=prepare, kept=kept)
    return sub


def _add_run(sub, out):
    """Options of a training run. None means the default of the data set, named in the help."""
    add = sub.add_argument
    add("--data", default="digits", choices=runs.DATA, help="data set (default: digits, embedded)")
    add("--data-dir", metavar="DIR", help="folder with the CIFAR files (default: where `data fetch` puts them)")
    add("--model", choices=runs.MODELS, help="network (default: cnn5 for digits, resnet for cifar)")
    add("--depth", type=int, help="of a resnet, 6n + 2 (default: 8)")
    about = "images that share one mean and variance (default: digits 1, cifar 2; for mlp the gradient batch)"
    add("--statistics-batch-size", type=int, metavar="N", help=about)
    about = "images in one step (default: digits 32, cifar 128)"
    add("--gradient-batch-size", "--batch-size", type=int, metavar="N", help=about)
    add("--epochs", type=int, metavar="N", help="(default: digits 12, cifar 4)")
    add("--lr", type=float, help="learning rate at its highest (default: digits 0.05, cifar 0.1)")
    add("--momentum", type=float, help="(default: 0.9)")
    add("--weight-decay", type=float, help="of convolution and linear weights (default: digits 0, cifar 2e-4)")
    about = "of the learning rate; step divides by 10 at 50 %% and 75 %% of the steps (default: cosine)"
    add("--schedule", choices=runs.SCHEDULES, help=about)
    add("--warmup", type=float, metavar="PART", help="part of the steps, linear (default: digits 0, cifar 0.05)")
    add("--clip-norm", type=float, metavar="NORM", help="largest norm of all gradients together (default: none)")
    about = (
        "steps between which brn's limits grow, r_max 1 to 3 and d_max 0 to 5 (default: 10 %% and 40 %% of the steps;"
        " Ioffe's long runs: 5000 40000 25000)"
    )
    add("--brn-ramp", type=int, nargs=3, metavar=("START", "R_END", "D_END"), help=about)
    about = "random crop and flip (default: digits no, cifar yes)"
    add("--augment", action=argparse.BooleanOptionalAction, default=None, help=about)
    add("--train-images", type=int, metavar="N", help="train on the first N images only (default: all)")
    add("--dtype", choices=runs.DTYPES, help="(default: float32)")
    add("--out", default=out, metavar="DIR", help=f"folder of the results (default: {out})")
    add("--quiet", action="store_true", help="no progress on stderr")
    _add_common(sub)


def _add_common(sub, backends=True):
    if backends:
        about = f"of the computations (default: cython where it is built; here {backend.get_backend()})"
        sub.add_argument("--backend", choices=backend.BACKENDS, help=about)
    sub.add_argument("--threads", type=int, metavar="N", help="of the compiled backend (default: all cores)")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _settings(arguments):
    names = {field.name for field in dataclasses.fields(runs.Settings)}
    return runs.make(**{name: value for name, value in vars(arguments).items() if name in names})


def _compare(arguments):
    plan = compare.prepare_all(arguments.methods, arguments.seeds, _settings(arguments), arguments.out)

    def work():
        found = compare.proceed_all(plan, not arguments.quiet)
        print(compare.to_json(found["summary"]) if arguments.json else compare.table(found["summary"]))
        if not arguments.json:
            print(f"results.csv, results.json and curves.png are in {arguments.out}")

    return work


def _train(arguments):
    run = train.prepare(_settings(arguments), arguments.out, arguments.resume)

    def work():
        if arguments.resume and not run.rows:
            print(f"no checkpoint in {run.out}: starting at the first epoch", file=sys.stderr)
        last = train.proceed(run, not arguments.quiet)[-1]
        if arguments.json:
            print(compare.to_json({"method": run.settings.norm, "seed": run.settings.seed} | last))
            return
        error, loss = f"test error {last['test_error']:.2f} %", f"training loss {last['train_loss']:.4f}"
        print(
            f"{run.settings.norm}, epoch {last['epoch']}: {error}, {loss}; log.csv and checkpoint.npz are in {run.out}"
        )

    return work


def _bench(arguments):
    if arguments.repeats < 1:
        raise ValueError(f"repeats is {arguments.repeats}; expected at least 1")

    def work():
        rows = bench.bench(arguments.repeats)
        print(compare.to_json(rows) if arguments.json else bench.table(rows))
        if not bench.compiled() and not arguments.json:
            print("the compiled backend is not built: install a C compiler and reinstall to see it here")

    return work


def _fetch(arguments):
    return lambda: print(data.fetch(arguments.name, arguments.dir, progress=not arguments.quiet))


def _check(arguments):
    found = data.load(arguments.name, arguments.dir)
    counts = {
        "name": found.name,
        "training_images": len(found.train_labels),
        "test_images": len(found.test_labels),
        "image_shape": list(found.train_images.shape[1:]),
        "classes": list(found.classes),
    }
    text = (
        f"{counts['name']}: {counts['training_images']} training and {counts['test_images']} test images of "
        f"{'x'.join(map(str, counts['image_shape']))}, {len(counts['classes'])} classes"
    )
    return lambda: print(json.dumps(counts) if arguments.json else text)
