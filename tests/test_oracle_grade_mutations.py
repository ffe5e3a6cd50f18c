"""No answer passes that returns something else: solutions with one operator, constant, name or method changed."""

import ast
import copy

import numpy as np
import pytest
from grading_answers import compiled
from grading_sources import SOURCES

import kalnorm_ref as kr
from kalnorm_ref.oracle.grading.tutor import EXERCISES

OPERATORS = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add, ast.Mult),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult, ast.Sub),
    ast.Pow: (ast.Mult, ast.Add),
    ast.MatMult: (),
}
METHODS = {"mean": "sum", "sum": "mean", "var": "std", "sqrt": "square"}
CONSTANTS = (lambda v: v + 1, lambda v: -v, lambda v: 1 - v)


def changes(node):
    """Functions that change one node in place."""
    if isinstance(node, ast.BinOp):
        for new in OPERATORS[type(node.op)]:
            yield lambda n, new=new: setattr(n, "op", new())
        yield lambda n: (setattr(n, "left", n.right), setattr(n, "right", copy.deepcopy(n.left)))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield lambda n: setattr(n, "op", ast.UAdd())
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        for new in CONSTANTS:
            yield lambda n, new=new: setattr(n, "value", new(n.value))
    elif isinstance(node, ast.Attribute) and node.attr in METHODS:
        yield lambda n: setattr(n, "attr", METHODS[n.attr])


def mutants(source):
    """Sources with one change each, in order."""
    count = len(list(ast.walk(ast.parse(source))))
    for at in range(count):
        for k in range(len(list(changes(list(ast.walk(ast.parse(source)))[at])))):
            tree = ast.parse(source)
            node = list(ast.walk(tree))[at]
            list(changes(node))[k](node)
            yield ast.unparse(ast.fix_missing_locations(tree))
    yield from renamed(source)


def renamed(source):
    """Sources in which one name that is read is another one of the function."""
    tree = ast.parse(source)
    names = sorted({n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} - {"np", "len", "ndtr"})
    reads = [i for i, n in enumerate(ast.walk(tree)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    for at in reads:
        old = list(ast.walk(tree))[at].id
        if old in names:
            other = ast.parse(source)
            list(ast.walk(other))[at].id = names[(names.index(old) + 1) % len(names)]
            yield ast.unparse(other)


def results(function, arguments):
    """What it returns, None where it raises."""
    try:
        with np.errstate(all="ignore"):
            found = function(*arguments.values())
    except Exception:
        return None
    return [np.asarray(a) for a in (found if isinstance(found, tuple) else (found,))]


def fresh(exercise, rng):
    """Other data than those of the exercise, somewhat like them."""
    for data in EXERCISES[exercise].sets:
        other = {}
        for name, a in data.arguments.items():
            positive = name in ("var", "prior_var", "running_std", "r")
            factor = rng.uniform(0.5, 1.5, np.shape(a)) if isinstance(a, np.ndarray) else rng.uniform(0.6, 0.9)
            shift = 0 if positive or not isinstance(a, np.ndarray) else rng.normal(0, 0.1, np.shape(a))
            other[name] = a * factor + shift
        yield other


def returns_something_else(right, mutant, exercise, rng):
    """Whether it differs visibly on some fresh data."""
    for arguments in fresh(exercise, rng):
        want, got = results(right, arguments), results(mutant, arguments)
        if got is None or len(got) != len(want):
            return True
        for a, b in zip(want, got, strict=True):
            if a.shape != b.shape or not np.all(np.abs(a - b) <= 1e-8 * np.max(np.abs(a)) + 1e-300):
                return True
    return False


@pytest.mark.parametrize("exercise", SOURCES)
def test_no_mutant_passes_that_returns_something_else(exercise, monkeypatch):
    monkeypatch.setattr("kalnorm_ref.oracle.grading.tutor._explained", lambda function, exercise, *rest: FAILED)
    rng = np.random.default_rng(8)
    right = compiled(SOURCES[exercise])
    killed, equal = 0, []
    for source in dict.fromkeys(mutants(SOURCES[exercise])):
        mutant = compiled(source)
        different = returns_something_else(right, mutant, exercise, rng)
        passed = kr.oracle.grade(mutant, exercise).passed
        assert not (different and passed), source
        killed += different
        if not different:
            equal.append(source)
    assert killed > 15
    assert len(equal) < killed / 2


@pytest.mark.parametrize("exercise", SOURCES)
def test_mutants_get_an_answer_whatever_they_return(exercise):
    for source in list(dict.fromkeys(mutants(SOURCES[exercise])))[::11]:
        grade = kr.oracle.grade(compiled(source), exercise)
        assert grade.passed or len(grade.sentences) > 0, source
        assert grade.text.startswith(f"{exercise}: ")


class Failed:
    """A grade without its explanation, which takes long."""

    passed = False


FAILED = Failed()
