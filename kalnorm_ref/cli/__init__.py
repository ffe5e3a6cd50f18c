"""The command line: the same work as the functions of kalnorm_ref.experiments, with one clear line for every mistake.

Exit codes: 0 done, 1 a check or a run of a sweep failed, 2 usage or bad input, 3 fewer cases than asked for, 4 a target
that cannot be imported, 130 stopped with Ctrl-C. A command is a module of this package with a function `add`, which
gives its options to the parser, and a pair: the first function looks at all input and writes nothing, and returns the
second, which works and returns the exit code (None: 0). A ValueError of the second is a mistake of this package and
keeps its traceback.
"""

import platform
import sys

from .. import __version__, backend
from ..data import DataError
from . import (
    bench,
    cases,
    compare,
    data,
    evaluate,
    files,
    gradproof,
    selftest,
    sweep,
    sweep_report,
    trace,
    train,
    verify,
)
from .common import InputError, Parser

COMMANDS = (
    compare,
    train,
    evaluate,
    sweep,
    sweep_report,
    bench,
    gradproof,
    trace,
    data,
    verify,
    cases,
    files,
    selftest,
)

EXAMPLES = """examples:
  kalnorm-ref compare                      five methods on the embedded digits, one image per statistics batch
  kalnorm-ref train --norm kn-learned      one network, with a log and checkpoints
  kalnorm-ref evaluate out/train           its test error with each kind of statistics at inference
  kalnorm-ref sweep --seeds 0 1 2          a grid of runs, on processes or a cluster; stopped, it goes on
  kalnorm-ref report out/sweep --out page  its tables and figures, with intervals, as a page
  kalnorm-ref trace kn --html kn.html      every step of a worked example, as a page to step through
  kalnorm-ref verify my_norm:factory       is a normalizer of your own right, how wrong is it, and why
  kalnorm-ref data fetch cifar10           download CIFAR-10
  kalnorm-ref COMMAND --help               all that a command can do, with examples
"""


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
            return work() or 0
    except SystemExit as stop:  # --help and --version
        return stop.code or 0
    except (InputError, DataError, ImportError, OSError) as error:
        print("kalnorm-ref: error: " + " ".join(str(error).split()), file=sys.stderr)
        return getattr(error, "exit_code", 2)
    except KeyboardInterrupt:
        print(f"kalnorm-ref: stopped; {kept}", file=sys.stderr)
        return 130


def _checked(arguments):
    try:
        if getattr(arguments, "threads", None) is not None:
            backend.set_num_threads(arguments.threads)
        return arguments.prepare(arguments)
    except ValueError as error:
        raise InputError(error) from error


def version():
    """One line: version of the package, backend, instruction set of its kernels, threads."""
    kernels = backend.instruction_set() or "no kernels"
    return (
        f"kalnorm-ref {__version__}, backend {backend.get_backend()}, "
        f"{platform.machine()} {kernels}, {backend.get_num_threads()} threads"
    )


def parser():
    """The parser of the whole command line."""
    about = "Normalizers that carry statistics across layers, beside those that do not: trained, compared, timed."
    top = Parser(prog="kalnorm-ref", description=about, epilog=EXAMPLES)
    about = "version, backend, instruction set, threads"
    top.add_argument("--version", action="version", version=version(), help=about)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add(commands)
    return top
