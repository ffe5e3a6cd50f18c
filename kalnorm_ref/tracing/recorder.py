"""Runs a function and writes down every value that a definition of the package binds, line by line.

sys.settrace tells when a line is about to run; what it bound is known when the next one is. Only the package's public
definitions, their staged siblings and the function itself are followed; helpers such as samples_sum are one operation.
"""

import ast
import inspect
import re
import sys
import types
from typing import NamedTuple

import numpy as np

from ..backend import use_backend
from ..moments import Moments
from . import equations, statements
from .followed import INNER, PACKAGE, definitions, result_names
from .symbols import meaning, symbol

OWN = __package__  # the functions of methods.py are users of the package, not part of it


class Step(NamedTuple):
    """One value: an argument, or what a line of code made."""

    name: str  # in the code: "delta", "estimate.mean"
    symbol: str  # on the page of equations: "delta", "mu"
    equation: str  # its number there, "B5"; "" where it has none
    shape: tuple
    value: np.ndarray  # a copy, read-only
    file: str
    line: int  # where the statement begins


class Note(NamedTuple):
    """What there is to say about the step of the same index."""

    part: str  # "given", "forward" or "backward"
    path: tuple  # names of the functions, from the outermost inwards
    meaning: str  # of the symbol, in words; may be ""
    formula: str  # the equation itself, in symbols; may be ""
    code: str  # "delta = xbar - a"; "" for an argument
    source: str  # the whole statement, or the head of the function for an argument
    uses: tuple  # indices of the steps that the code reads
    same: int | None  # index of the earlier step of this symbol and value, where the code computes it again
    completed: int | None  # index of the later step that adds what this one lacks of its equation


class _Frame:
    """A running definition: where each of its names was recorded, and the statement under way."""

    def __init__(self, definition, parent):
        self.definition, self.parent = definition, parent
        named = definition.__name__.endswith(("_backward", "_backward_staged"))
        self.backward = named or (parent is not None and parent.backward)
        self.part = "backward" if self.backward else "forward"
        if parent and not parent.backward:
            parent.part = self.part  # what a function of the user's computes belongs to the pass that it called last
        self.path = (*(parent.path if parent else ()), definition.__name__)
        where = definition.__module__ or ""
        module = where.rpartition(".")[2]
        self.ours = where.startswith(f"{PACKAGE}.") and not where.startswith(OWN)
        self.scopes = (f"{module}.{definition.__name__}", definition.__name__, module)
        self.indices, self.made, self.pending, self.called, self.start = {}, {}, [], False, 0


class Recorder:
    """Collects steps and notes while `run` runs a function."""

    def __init__(self):
        self.steps, self.notes = [], []
        self._definitions, self._frames, self._known, self._settled = {}, {}, {}, set()

    def run(self, function, args, kwargs):
        """Result of function(*args, **kwargs) in the NumPy backend. The trace function in force before is put back."""
        own = inspect.unwrap(getattr(function, "__func__", function))
        self._own = own if isinstance(own, types.FunctionType) else None
        self._definitions = definitions() | ({own.__code__: own} if self._own else {})
        before = sys.gettrace()
        with use_backend("numpy"):
            sys.settrace(self._on_call)
            try:
                return function(*args, **kwargs)
            finally:
                sys.settrace(before)

    def _on_call(self, frame, event, _):
        definition = self._definitions.get(frame.f_code)
        if definition is None:
            return None
        parent = self._traced_parent(frame)
        here = self._frames[frame] = _Frame(definition, parent)
        code = frame.f_code
        first, last = statements.definition_lines(code.co_filename).get(code.co_firstlineno, (code.co_firstlineno,) * 2)
        source = statements.text(code.co_filename, first, last)
        count = code.co_argcount + code.co_kwonlyargcount + sum(bool(code.co_flags & f) for f in (4, 8))
        for name in code.co_varnames[:count]:
            for leaf, value in leaves(name, frame.f_locals[name]):
                mark = symbol(leaf, here.scopes)
                at = None if parent is None or parent.ours else self._handed(parent, leaf, mark, value)
                at = self._seen(mark, value) if at is None else at
                if at is None:
                    part, came = "given" if parent is None else here.part, self._renamed(parent, value)
                    formula, uses = ("", ()) if came is None else (f"{mark} = {self.steps[came].symbol}", (came,))
                    note = Note(part, here.path, meaning(mark), formula, "", source, uses, None, None)
                    at = self._add(Step(leaf, mark, "", value.shape, value, code.co_filename, first), note)
                here.indices[leaf] = at
        return self._on_line

    def _handed(self, caller, name, mark, value):
        """Index of the argument of the user's function that came on as `name`: it takes the symbol that it has here."""
        for at in sorted(set(caller.indices.values()), key=lambda i: not _alike(self.steps[i].name, name)):
            step, note = self.steps[at], self.notes[at]
            nameless = step.name == step.symbol and step.value.dtype.kind != "i"  # integers are sizes, often equal
            fits = at not in self._settled and (_alike(step.name, name) or nameless)
            if note.part == "given" and fits and _same(step.value, value):
                self._settled.add(at)
                self.steps[at], self.notes[at] = step._replace(symbol=mark), note._replace(meaning=meaning(mark))
                self._known[step.symbol].remove(at)
                self._known.setdefault(mark, []).append(at)
                return at
        return None

    def _traced_parent(self, frame):
        while (frame := frame.f_back) is not None:
            if frame in self._frames:
                return self._frames[frame]
        return None

    def _on_line(self, frame, event, value):
        here = self._frames[frame]
        if event == "exception":
            here.pending = []
        elif event == "return":
            for statement in here.pending:
                if isinstance(statement, ast.Return):
                    self._results(frame, here, statement, value)
                elif not isinstance(statement, ast.For):
                    self._bound(frame, here, statement)
            del self._frames[frame]
            if here.parent:
                here.parent.called = True
        else:
            now = statements.by_line(frame.f_code.co_filename).get(frame.f_lineno, [])
            if now != here.pending:
                for statement in here.pending:
                    if not isinstance(statement, ast.For) or frame.f_lineno in statements.body(statement):
                        self._bound(frame, here, statement)  # a loop that is over has bound nothing more
                here.pending, here.called, here.start = now, False, len(self.steps)
        return self._on_line

    def _bound(self, frame, here, statement):
        for name, node in statements.bindings(statement):
            if name in frame.f_locals and not name.startswith("_"):
                self._value(frame, here, statement, name, frame.f_locals[name], node)

    def _results(self, frame, here, statement, result):
        if statement.value is None or here.definition.__name__ in INNER:
            return  # the caller binds what a helper returns, under its own names
        several = isinstance(result, tuple) and not hasattr(result, "_fields")
        values = result if several else (result,)
        nodes = statements.parts(statement.value, len(values)) if several else [statement.value]
        for name, node, value in zip(result_names(here.definition, values), nodes, values, strict=True):
            if not statements.renames(node):
                self._value(frame, here, statement, name, value, node, returned=True)

    def _value(self, frame, here, statement, name, value, node, returned=False):
        """New steps for a value that `node` computed; none for what is a step already and only changed hands."""
        found = leaves(name, value)
        built = isinstance(value, Moments) and isinstance(node, ast.Call) and len(node.args) == len(found)
        nodes = node.args if built else statements.parts(node, len(found))
        for (leaf, array), its in zip(found, nodes, strict=True):
            mark = symbol(leaf, here.scopes, returned)
            moved = statements.renames(its)
            if returned and built and moved:
                continue
            at = self._seen(mark, array) if here.called or moved else None
            if at is None and moved and mark == leaf:  # a name without a symbol of its own
                at = next(iter(self._indices(here, statements.uses(its)[-1])), None)
            if at is None and not here.ours and (here.called or returned):
                start = 0 if returned else here.start
                at = next((i for i in range(start, len(self.steps)) if _same(self.steps[i].value, array)), None)
            if at is None:
                at = self._new(frame, here, statement, leaf, mark, array, its, returned)
            here.indices[leaf] = at

    def _new(self, frame, here, statement, name, mark, array, node, returned):
        """Index of the step and the note that are added for one array."""
        filename = frame.f_code.co_filename
        last = statement.body[0].lineno - 1 if getattr(statement, "body", None) else statement.end_lineno
        source = statements.text(filename, statement.lineno, max(last, statement.lineno))
        shared = isinstance(statement, ast.Assign | ast.AugAssign) and node in (statement, statement.value)
        code = statements.segment(filename, statement if shared else node)
        code = code if shared else f"{name} = {code}"
        used = list(dict.fromkeys(i for n in statements.uses(node) for i in self._indices(here, n)))
        same = self._seen(mark, array)
        if same in used and self.notes[same].formula:  # only its shape is another name's
            number, formula, used = self.steps[same].equation, self.notes[same].formula, [same]
        elif used or not statements.renames(node):
            field = name.rpartition(".")[2]
            names = (mark.removeprefix("1/"), name, f"d{field}" if name.startswith("d") else field)
            number, formula, used = self._equation(here, names, source, used, returned)
        else:
            number, formula = "", ""  # kept in a cache, and computed before the trace began
        index, before = len(self.steps), here.made.get(name)
        if formula and before in used and self.notes[before].formula == formula:
            self.notes[before] = self.notes[before]._replace(completed=index)
        here.made[name] = index
        note = Note(here.part, here.path, meaning(mark), formula, code, source, tuple(used), same, None)
        return self._add(Step(name, mark, number, array.shape, array, filename, statement.lineno), note)

    def _equation(self, here, names, source, used, returned):
        """Number and formula of what a statement computes, and the steps of `used` that the formula names."""
        said = re.search(r"#.*?" + equations.NUMBER.pattern, source)
        read = [self.steps[i].symbol.removeprefix("1/") for i in used]
        clause = equations.find(here.definition, names, read, said[1] if said else "")
        formula = in_symbols(clause.text, here.scopes, returned)
        right = {names[0], *equations.right_side(formula)}
        # the rest is read for its shape alone, or for another name that the statement binds
        return clause.number, formula, [i for i in used if formula and self.steps[i].symbol in right] or used

    def _indices(self, here, name):
        return [at for known, at in here.indices.items() if known == name or known.startswith(f"{name}.")]

    def _add(self, step, note):
        self.steps.append(step)
        self.notes.append(note)
        self._known.setdefault(step.symbol, []).append(len(self.steps) - 1)
        return len(self.steps) - 1

    def _seen(self, mark, value):
        """Index of the first step of this symbol and value; a value that was rounded to another type is the same."""
        for at in self._known.get(mark, []):
            if _same(self.steps[at].value, value):
                return at
        return None

    def _renamed(self, caller, value):
        """Index of the one array of the caller that has this value: it comes in under another symbol."""
        found = [i for i in set(caller.indices.values() if caller else ()) if _same(self.steps[i].value, value)]
        return found[0] if len(found) == 1 and value.ndim else None


def leaves(name, value):
    """(name, array) for each array or number in a value: Moments and other tuples by element, caches left out."""
    if isinstance(value, np.ndarray | np.generic | int | float | complex) and not isinstance(value, bool):
        array = np.array(value)
        array.flags.writeable = False
        return [(name, array)] if array.dtype.kind in "iufc" else []  # no masks, no text
    if not isinstance(value, tuple | list) or type(value).__name__.endswith("Cache"):
        return []
    fields = getattr(value, "_fields", None)
    if not fields:  # of a list, the arrays: numbers there are sizes
        value = [v if isinstance(v, np.ndarray | tuple | list) else None for v in value]
    names = [f"{name}.{f}".lstrip(".") for f in fields] if fields else [f"{name}[{i}]" for i in range(len(value))]
    return [leaf for n, v in zip(names, value, strict=True) for leaf in leaves(n, v)]


def in_symbols(formula, scopes, returned):
    """A formula with the words mean, var, dmean and dvar as the symbols that they are in this function."""

    def replaced(match):
        return symbol(match[0], scopes, returned)

    formula = re.sub(r"\bd?mean\b(?=\s*(?:[)=+\-*/^]|$))|\bdmean\b", replaced, formula)
    return re.sub(r"\bd?var\b", replaced, formula)


def _alike(name, other):
    return name.replace(".", "_") == other.replace(".", "_")


def _same(a, b):
    if a.shape != b.shape:
        return False
    rounded = a.dtype.kind == b.dtype.kind  # float32 beside float64
    common = min((a.dtype, b.dtype), key=lambda t: t.itemsize) if rounded else np.result_type(a, b)
    return np.array_equal(a.astype(common), b.astype(common), equal_nan=common.kind in "fc")
