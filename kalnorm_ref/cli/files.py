"""The commands `export`, `judge` and `regen`: cases as files."""

from pathlib import Path

from ..oracle import core, regen
from ..oracle.export import FORMATS, check_empty, export
from ..oracle.judge import check_conventions, exported, scored
from ..oracle.report import Report
from .common import command
from .reports import add_report, wanted

EXPORT = """examples:
  kalnorm-ref export --out cases                            every case: an npz each, and manifest.json
  kalnorm-ref export --format bin --cases "bn/*" --out cases    raw files, for C; kalnorm_cases.h reads them

With --format bin the folder also holds kalnorm_cases.h and example_bn.c, a program that answers the cases of batch
normalization; the whole way there and back:

  kalnorm-ref export --format bin --cases "bn/*/float32" --out cases
  cc -std=c99 -O2 cases/example_bn.c -o example_bn -lm
  ./example_bn cases
  kalnorm-ref judge cases

"""
JUDGE = """examples:
  kalnorm-ref judge cases                                   the table of what fails, worst first
  kalnorm-ref judge cases --format junit --out report.xml --min-cases 100    in continuous integration
  kalnorm-ref judge cases --conventions running-var-unbiased    let a convention of yours pass

A program writes PATH.returned.npz beside PATH.npz, or in the folder of a case files and returned.txt, a line each:
tensor NAME TYPE NDIM DIMS... FILE. A case without them is skipped.

exit code 0: everything that was written is right. 1: something is not, and the table says what and why. 2: a mistake in
the command, or no export. 3: fewer cases than --min-cases have results.
"""
REGEN = """examples:
  kalnorm-ref regen --check          hold the frozen core against the catalogue and the reference
  kalnorm-ref regen                  write it anew, after a change of the catalogue
  kalnorm-ref regen --out core       write it into another folder

--check fails (exit code 1) if a case is missing or new, if an input differs in a bit, or if an expected value differs
by more than the float64 budget; another machine adds sums in another order, and may be off by less.
"""


def add(commands):
    """Add the three commands and their options."""
    _add_export(commands)
    _add_judge(commands)
    _add_regen(commands)


def _add_export(commands):
    about = "Write cases as files, for a normalizer that does not run in Python."
    sub = command(commands, "export", about, _prepare_export, "what is in {out} is not whole", EXPORT)
    about = "npz: a file a case; bin: a folder a case, with a raw file a tensor, and a reader in C (default: npz)"
    sub.add_argument("--format", choices=FORMATS, default="npz", help=about)
    sub.add_argument("--cases", nargs="+", metavar="PATTERN", help="ids of cases, with * and ? (default: all)")
    about = "core: small and fixed; extended: larger, with other draws, in every type (default: core)"
    sub.add_argument("--tier", choices=core.catalogue.TIERS, default="core", help=about)
    sub.add_argument("--with-expected", action="store_true", help="write the expected values too, in float64")
    sub.add_argument("--out", required=True, metavar="DIR", help="a new or empty folder")


def _add_judge(commands):
    about = "Score what a program wrote beside exported cases."
    sub = command(commands, "judge", about, _prepare_judge, "nothing was written", JUDGE)
    sub.add_argument("folder", metavar="DIR", help="the folder of an export")
    about = "conventions that the program follows on purpose"
    sub.add_argument("--conventions", nargs="+", default=(), metavar="NAME", help=about)
    add_report(sub)


def _add_regen(commands):
    about = "Make the frozen core of cases anew, or check that it is what the catalogue and the reference say."
    sub = command(commands, "regen", about, _prepare_regen, "run it again: the files may not be whole", REGEN)
    sub.add_argument("--check", action="store_true", help="write nothing; compare")
    sub.add_argument("--out", metavar="DIR", help="folder of the core (default: the one of this package)")


def _prepare_export(arguments):
    check_empty(arguments.out)
    cases = core.choose(arguments.cases, arguments.tier)

    def work():
        count = export(cases, arguments.out, arguments.format, arguments.tier, arguments.with_expected)
        print(f"{count} cases are in {arguments.out}")

    return work


def _prepare_judge(arguments):
    accepted, progress, show = wanted(arguments, "judge")
    check_conventions(arguments.conventions)
    found = exported(arguments.folder)

    def work():
        results = scored(arguments.folder, *found, arguments.conventions, progress)
        declared = tuple(sorted(arguments.conventions))
        return show(Report(arguments.folder, results, arguments.min_cases, accepted, declared))

    return work


def _prepare_regen(arguments):
    folder = Path(arguments.out or core.FROZEN)
    stored = regen.read(folder) if arguments.check else None

    def check():
        found = regen.compare(stored, regen.build())
        print(found)
        return 1 if found.problems else 0

    def work():
        built = regen.build()
        size = regen.write(built, folder)
        print(f"{len(built.records)} cases, {size} bytes, are in {folder}")

    return check if arguments.check else work
