"""The command `gradproof`."""

from pathlib import Path

from .. import gradproof
from ..gradproof import report
from .common import add_quiet, around_tables, command

EXAMPLES = """examples:
  kalnorm-ref gradproof                              every gradient before every judge
  kalnorm-ref gradproof kalman_norm transport        some pairs only
  kalnorm-ref gradproof --markdown docs/gradproof.md

exit code 1 if a figure exceeds its bound or a judge misses a planted mistake. A judge that cannot be asked (50 digits
need mpmath, the twin the compiled backend) is named, and does not fail.
"""


def add(commands):
    """Add the command and its options."""
    about = "Hold every gradient against complex step, central difference, 50 digits, a second derivation and its twin."
    sub = command(commands, "gradproof", about, _prepare, "nothing was written", EXAMPLES)
    about = "names of pairs, or transport for all of it (default: every pair)"
    sub.add_argument("pairs", nargs="*", metavar="PAIR", help=about)
    about = "write the table of all pairs into FILE, in place of the one that it holds"
    sub.add_argument("--markdown", metavar="FILE", help=about)
    add_quiet(sub)
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _prepare(arguments):
    names = arguments.pairs or None
    gradproof.choose(names)
    if arguments.markdown and names:
        raise ValueError("--markdown writes the table of all pairs; leave out their names")
    around = around_tables(arguments.markdown, report.BEGIN, report.END) if arguments.markdown else None

    def work():
        proof = gradproof.prove(names, progress=not arguments.quiet)
        if around:
            before, after = around
            Path(arguments.markdown).write_text(before + report.markdown(proof) + after, encoding="utf-8")
        print(report.as_json(proof) if arguments.json else report.text(proof))
        return 1 if gradproof.failures(proof) else 0

    return work
