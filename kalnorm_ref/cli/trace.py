"""The command `trace`."""

import json
import zipfile
from pathlib import Path

import numpy as np

from ..tracing import figures, text
from ..tracing.examples import EXAMPLES, Example
from ..tracing.methods import METHODS, check, run
from .common import InputError, command

USAGE = """examples:
  kalnorm-ref trace kn                                a worked example of two samples, as fractions
  kalnorm-ref trace kn --html kn.html                 the same as a page to step through
  kalnorm-ref trace bn --example two-samples          another example
  kalnorm-ref trace kn --npz mine.npz --out steps.npz your own arrays, every step saved
  kalnorm-ref trace relu --json                       for a program

An npz file for --npz holds the arguments of the method under their names, dy among them; numpy.savez writes one:
  np.savez("mine.npz", x=x, dy=dy, prior_mean=a, prior_var=b, gain=0.1)

"""


def add(commands):
    """Add the command and its options."""
    about = "Show every value of a forward and a backward, in order, with its equation and its line of code."
    listed = "methods and their examples:\n" + "".join(
        f"  {name:<13} {METHODS[name].__doc__}\n" + "".join(f"    {key:<11} {e.about}\n" for key, e in examples.items())
        for name, examples in EXAMPLES.items()
    )
    sub = command(commands, "trace", about, _prepare, "nothing was written", USAGE + listed)
    sub.add_argument("method", choices=tuple(METHODS), metavar="METHOD", help=", ".join(METHODS))
    source = sub.add_mutually_exclusive_group()
    source.add_argument("--example", metavar="NAME", help="a worked example, see below (default: the method's first)")
    source.add_argument("--npz", metavar="FILE", help="take the arguments from an npz file")
    about = "write 7/4 beside 1.75 (default: for the examples in fractions)"
    sub.add_argument("--fractions", action="store_true", help=about)
    sub.add_argument("--html", metavar="FILE", help="write a page to step through; it needs no network")
    sub.add_argument("--out", metavar="FILE", help="save the value of every step as npz")
    sub.add_argument("--json", action="store_true", help="print JSON instead of text")


def _prepare(arguments):
    method = arguments.method
    example = _from_file(method, arguments.npz) if arguments.npz else _worked(method, arguments.example)
    for path in filter(None, (arguments.html, arguments.out)):
        if Path(path).is_dir() or not Path(path).parent.is_dir():
            raise InputError(f"{path}: expected a file in a folder that exists")
    try:
        trace = run(method, example.arguments, example.about)
    except TypeError as error:
        if not arguments.npz:
            raise  # a mistake of this package
        raise InputError(error) from error
    fractions = example.fractions or arguments.fractions

    def work():
        if arguments.html:
            Path(arguments.html).write_text(trace.html(fractions), encoding="utf-8")
        if arguments.out:
            trace.save(arguments.out)
        if arguments.json:
            print(json.dumps(_as_json(trace), allow_nan=False))
        elif not (arguments.html or arguments.out):
            print(trace.text(fractions), end="")
        else:
            print(f"{len(trace.steps)} steps are in {' and '.join(filter(None, (arguments.html, arguments.out)))}")

    return work


def _worked(method, name):
    examples = EXAMPLES[method]
    if name is not None and name not in examples:
        raise InputError(f"{method} has no example {name!r}; expected one of {', '.join(examples)}")
    return examples[name or next(iter(examples))]


def _from_file(method, path):
    """The arguments in an npz file, each of a name that the method takes; arrays of one number are numbers."""
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arguments = {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, ValueError, EOFError, AttributeError, KeyError) as error:
        raise InputError(f"{path} is no npz file of numbers; write one with numpy.savez") from error
    try:
        check(method, arguments)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return Example(Path(path).name, {n: v if v.ndim else v.item() for n, v in arguments.items()}, False)


def _as_json(trace):
    steps = [
        {
            "name": step.name,
            "symbol": step.symbol,
            "equation": step.equation,
            "formula": note.formula,
            "meaning": note.meaning,
            "part": note.part,
            "path": note.path,
            "code": note.code,
            "file": text.short(step.file),
            "line": step.line,
            "uses": [use + 1 for use in note.uses],
            "shape": step.shape,
            "value": figures.listed(step.value),
        }
        for step, note in zip(trace.steps, trace.notes, strict=True)
    ]
    return {"title": trace.title, "about": trace.about, "steps": steps}
