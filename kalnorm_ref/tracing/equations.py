"""The equations as the docstrings of the package state them: which one made a value, and under which number.

A docstring names its equations after "Equations:", or the head of its file does. They are clauses `left = right`, put
apart by " ; " or " , ", and the number in brackets that follows them is theirs.
"""

import functools
import inspect
import re
from typing import NamedTuple

NUMBER = re.compile(r"\(((?:[A-G]\.?\d+[a-z]?(?:, )?)+)(?:, [^()]*)?\)")
_CLOSING = re.compile(NUMBER.pattern + r"(?=\s*(?:[.,:;]|\n|$))")  # one in the middle of a sentence refers elsewhere
_LABEL = re.compile(r"^\s*[a-z]\w*\s{2,}")
_SECTION = re.compile(r"\bEquations(?: \(([^)]*)\))?:(.*?)(?=\n[A-Z][a-z]+(?:, [A-Z][a-z]+)*:|\n\s*\n|\Z)", re.DOTALL)
_INDEX = re.compile(r"_(?:i|c|o|k|g|ok|kco|n)\b")


class Clause(NamedTuple):
    """One equation: the symbols on its left, its text, its number."""

    left: tuple
    text: str
    number: str


def find(definition, names, used, number=""):
    """The clause that defines the first of `names` with one: of the function, of its file, or of a primitive.

    That of a primitive counts only where the code reads all that it names (`used`, in symbols); so in every normalizer
    x_hat = (x - mu) r, but not where x_hat comes otherwise. With `number`, only a clause of that number.
    Returns: Clause; without text where there is none, and then with the function's number if it has but one.
    """
    from .. import moments  # here, because the package imports this module

    own, head = of_function(definition), of_text(getattr(inspect.getmodule(definition), "__doc__", None) or "")
    primitives = of_text(moments.__doc__) + tuple(c for f in _public(moments) for c in of_function(f))
    primitives = tuple(c for c in primitives if right_side(c.text) <= {*used})
    for clauses in (own, head, primitives):
        for name in names:
            fitting = [clause for clause in clauses if name in clause.left and number in clause.number]
            if used:  # one name may have several equations, such as those of the modes of push
                fitting = [c for c in fitting if {names[0], *c.left, *right_side(c.text)} & {*used}]
            if fitting:
                return min(fitting, key=lambda clause: len(right_side(clause.text).symmetric_difference(used)))
    stated = {found[1] for found in NUMBER.finditer(definition.__doc__ or "")}
    stated = stated or {clause.number for clause in head}
    return Clause((), "", number or (stated.pop() if len(stated) == 1 else ""))


def right_side(formula):
    """The symbols on the right of a formula."""
    names = re.findall(r"[A-Za-z]\w*[+']?", formula.partition(" = ")[2])
    return {_INDEX.sub("", name) for name in names} - {"sum", "mean", "diag"}


@functools.cache
def of_function(definition):
    """The clauses in the docstring of a function."""
    text = inspect.cleandoc(definition.__doc__ or "")
    section = _SECTION.search(text)
    if section is None:
        return of_text(text.partition("\n\n")[0].partition(": ")[2].replace("\n", " "))
    numbers = {section[1]} if section[1] else {found[1] for found in NUMBER.finditer(text)}
    stated = f" ({numbers.pop()})" if len(numbers) == 1 else ""  # under another heading, when not with the equations
    return of_text(" ".join(section[2].split()) + stated)


@functools.cache
def of_text(text):
    """The clauses in lines of text; a number belongs to what stands before it, the last one also to what follows."""
    text = "\n".join(_LABEL.sub("", line) for line in text.splitlines())
    pieces = _CLOSING.split(text)  # text, its number, text, its number, ..., text
    found = []
    for i in range(0, len(pieces) if len(pieces) > 1 else 0, 2):
        parts = re.split(r"\s+[;,]\s+|\s{3,}(?=[^\s=])|\n|\.\s+(?=[a-z]+: )", pieces[i])
        number = pieces[min(i + 1, len(pieces) - 2)]
        found += [clause for part in parts if (clause := _clause(part, number))]
    return tuple(found)


def _clause(part, number):
    left, equals, right = part.partition(" = ")
    left = re.split(r"[.:]\s", left)[-1].strip()
    names = re.findall(r"[A-Za-z]\w*[+']?", left)
    if not equals or not re.fullmatch(r"\(?[A-Za-z]\w*[+']?(?:, [A-Za-z]\w*[+']?)*\)?", left):
        return None
    formula = f"{left} = {_upto_prose(' '.join(right.split()))}"
    return Clause((*names, *(_INDEX.sub("", name) for name in names)), formula, number)


def _upto_prose(text):
    """`text` up to a comma, a full stop or a word like "for" that no bracket encloses."""
    depth = 0
    hidden = re.sub(r"<\w[^<>]*>", lambda product: "(" + "_" * (len(product[0]) - 2) + ")", text)
    for i, c in enumerate(hidden):
        depth += (c in "([{") - (c in ")]}")
        if depth == 0 and re.match(r"[,.:](?:\s|$)|\s(?:for|with|over|at)\s", hidden[i:]) and hidden[i - 1] != " ":
            return text[:i].strip()
    return text.strip()


def _public(module):
    functions = map(inspect.unwrap, vars(module).values())
    return [f for f in functions if inspect.isfunction(f) and f.__module__ == module.__name__]
