"""What the commands share: a parser whose errors are one line, and the options of every training run."""

import argparse
import dataclasses
from pathlib import Path

from .. import backend, models
from ..experiments import settings as runs
from ..layers.statistics import INFERENCE

OPTIONS = "options of the methods:\n" + "".join(
    f"  {norm}: {', '.join(models.norm_options(norm)) or 'none'}\n" for norm in models.NORMS
)
METHOD_HELP = f"{', '.join(models.NORMS)}; with options of its own, NAME:option=value,option=value"
INFERENCE_HELP = (
    "what batch normalizers evaluate with: the running averages of training; the statistics of each statistics batch of"
    " test images (batch; kn fuses them with its prior, brn does not correct them); or the statistics of the training"
    " images, from one more pass over them before each evaluation, in order, without augmentation, in whole gradient"
    " batches (population). gn, ln, in, gkn and none know no difference"
)


class InputError(Exception):
    """A mistake in what the user asked for; the text is the line to print."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message):
        raise InputError(f"{message} (see {self.prog} --help)")


def command(commands, name, about, prepare, kept, epilog):
    """Add the command `name`; returns its parser, for its options.

    prepare(arguments) looks at all input and returns a function of nothing, which works. kept: what Ctrl-C leaves, a
    text with the arguments' names in braces.
    """
    sub = commands.add_parser(name, help=about, description=about, epilog=epilog)
    sub.set_defaults(prepare=prepare, kept=kept)
    return sub


def add_run(sub, out):
    """Options of a training run. None means the default of the data set, named in the help."""
    add = sub.add_argument
    add("--data", default="digits", choices=runs.DATA, help="data set (default: digits, embedded)")
    add_data_dir(sub)
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
    add("--inference", choices=INFERENCE, help=f"{INFERENCE_HELP} (default: running)")
    add("--out", default=out, metavar="DIR", help=f"folder of the results (default: {out})")
    add_quiet(sub)
    add_backend(sub)
    add_common(sub)


def add_data_dir(sub):
    """Option --data-dir."""
    about = "folder with the CIFAR files (default: where `data fetch` puts them)"
    sub.add_argument("--data-dir", metavar="DIR", help=about)


def add_quiet(sub):
    """Option --quiet."""
    sub.add_argument("--quiet", action="store_true", help="no progress on stderr")


def add_backend(sub):
    """Option --backend, which `main` obeys."""
    about = f"of the computations (default: cython where it is built; here {backend.get_backend()})"
    sub.add_argument("--backend", choices=backend.BACKENDS, help=about)


def add_common(sub):
    """Options --threads, which `main` obeys, and --json."""
    sub.add_argument("--threads", type=int, metavar="N", help="of the compiled backend (default: all cores)")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")


def settings(arguments):
    """The Settings that the options of `add_run` ask for."""
    names = {field.name for field in dataclasses.fields(runs.Settings)}
    return runs.make(**{name: value for name, value in vars(arguments).items() if name in names})


def around_tables(path, begin, end):
    """What stands before and behind the tables of a page, between the lines `begin` and `end`; ValueError without."""
    before, found, rest = Path(path).read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path} has no table to replace; expected the lines {begin} and {end}")
    return before, after
