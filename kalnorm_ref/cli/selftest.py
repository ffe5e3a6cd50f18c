"""The command `selftest`."""

import json
import os
from pathlib import Path

from tqdm import tqdm

from ..oracle import selftest, selftest_text
from ..oracle.case import OPS
from .common import add_quiet, around_tables, command

EXAMPLES = """examples:
  kalnorm-ref selftest                                  every seeded bug before every case, and every honest computation
  kalnorm-ref selftest --op bn gn                       some operations only
  kalnorm-ref selftest --markdown docs/kill_matrix.md   renew the page that says which case kills which bug

exit code 1 if a bug survives, that is, no case in float32 kills it, or if an honest emulation is not found right.
"""


def add(commands):
    """Add the command and its options."""
    about = "Try the kit itself: does it find every seeded bug, and does it leave honest rounding alone?"
    sub = command(commands, "selftest", about, _prepare, "nothing was written", EXAMPLES)
    sub.add_argument("--op", nargs="+", choices=OPS, metavar="OP", help=f"{', '.join(OPS)} (default: all)")
    about = "write the tables of all operations into FILE, in place of those that it holds"
    sub.add_argument("--markdown", metavar="FILE", help=about)
    sub.add_argument("--processes", type=int, metavar="N", help="at the same time (default: one a core)")
    add_quiet(sub)
    sub.add_argument("--json", action="store_true", help="print JSON, with the whole matrix, instead of text")


def _prepare(arguments):
    if arguments.markdown and arguments.op:
        raise ValueError("--markdown writes the tables of all operations; leave out --op")
    if arguments.processes is not None and arguments.processes < 1:
        raise ValueError(f"processes is {arguments.processes}; expected at least 1")
    around = around_tables(arguments.markdown, selftest_text.BEGIN, selftest_text.END) if arguments.markdown else None
    ops = tuple(op for op in OPS if op in (arguments.op or OPS))
    processes = arguments.processes or os.cpu_count() or 1

    def progress(work, total):
        hidden = True if arguments.quiet else None  # None: where stderr is no terminal
        return tqdm(work, "selftest", total, unit="run", disable=hidden, dynamic_ncols=True)

    def work():
        found = selftest.selftest(ops, processes, progress)
        if around:
            before, after = around
            Path(arguments.markdown).write_text(before + selftest_text.markdown(found) + after, encoding="utf-8")
        print(
            json.dumps(selftest_text.as_dict(found), allow_nan=False) if arguments.json else selftest_text.text(found)
        )
        return 0 if found.passed else 1

    return work
