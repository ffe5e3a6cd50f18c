"""The commands `list` and `explain`: what the kit asks, and why."""

import json
from difflib import get_close_matches
from fnmatch import fnmatchcase

from ..oracle import bugs, core
from ..oracle.explanation import about, explained, lines
from .common import InputError, command

LIST = """examples:
  kalnorm-ref list                        every case, a line each
  kalnorm-ref list "bn/*" --why           those of batch normalization, each with its reason
  kalnorm-ref list --conventions          names that a target may declare, and what they mean
  kalnorm-ref list --bugs --json          the seeded bugs, for a program
"""
EXPLAIN = """examples:
  kalnorm-ref explain bn/ordinary/float32       its reason, parameters, conditioning, budgets, and the bugs it kills

kappa = rms(x)/(var + eps)^(1/2) is what multiplies rounding; budgets are the largest errors that pass: of sums like
trees, and of sums in one accumulator.
"""


def add(commands):
    """Add the commands and their options."""
    what = "Show the cases, the names of conventions, or the seeded bugs."
    sub = command(commands, "list", what, _prepare_list, "nothing was written", LIST)
    sub.add_argument("patterns", nargs="*", metavar="PATTERN", help="ids or names, with * and ? (default: all)")
    sub.add_argument("--why", action="store_true", help="the reason of each case")
    other = sub.add_mutually_exclusive_group()
    other.add_argument("--conventions", action="store_true", help="conventions in place of cases")
    other.add_argument("--bugs", action="store_true", help="seeded bugs in place of cases")
    sub.add_argument("--json", action="store_true", help="print JSON instead of text")
    what = "Explain one case: its reason, what it holds, how exact an answer must be, and which bugs it kills."
    sub = command(commands, "explain", what, _prepare_explain, "nothing was written", EXPLAIN)
    sub.add_argument("case", metavar="CASE", help="its id, as `kalnorm-ref list` shows it")
    sub.add_argument("--json", action="store_true", help="print JSON instead of text")


def _prepare_list(arguments):
    if arguments.conventions or arguments.bugs:
        found = _changes(arguments.patterns, arguments.conventions)
        texts = _aligned([(c["name"], ", ".join(c["ops"]), c["text"]) for c in found])
    else:
        found = [about(case) for case in core.choose(arguments.patterns or None)]
        columns = ("id", "layout", "shape", "why") if arguments.why else ("id", "layout", "shape")
        texts = _aligned([[_short(case[name]) for name in columns] for case in found])

    def work():
        print(json.dumps(found) if arguments.json else "\n".join(texts))

    return work


def _changes(patterns, convention):
    found = [c for c in bugs.ALL if c.convention == convention]
    for pattern in patterns:
        if not any(fnmatchcase(c.name, pattern) for c in found):
            raise InputError(
                f"no {'convention' if convention else 'bug'} is called {pattern!r}; leave it out to see all"
            )
    chosen = [c for c in found if not patterns or any(fnmatchcase(c.name, pattern) for pattern in patterns)]
    return [{"name": c.name, "ops": list(c.ops), "text": c.text} for c in chosen]


def _short(a):
    return a if isinstance(a, str) else "x".join(map(str, a))


def _aligned(table):
    """Lines whose columns but the last are aligned."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]) - 1)]
    return ["  ".join([*(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in table]


def _prepare_explain(arguments):
    known = {case.id: case for case in core.choose()}
    if arguments.case not in known:
        near = get_close_matches(arguments.case, known, 3, 0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; kalnorm-ref list shows all"
        raise InputError(f"no case is called {arguments.case!r}{hint}")

    def work():
        found = explained(known[arguments.case])
        print(json.dumps(found) if arguments.json else "\n".join(lines(found)))

    return work
