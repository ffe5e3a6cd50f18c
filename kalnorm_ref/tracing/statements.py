"""Which statement stands on a line of a source file, which names it binds, and what it computes them from."""

import ast
import functools
import linecache
import textwrap
from typing import NamedTuple


class Binding(NamedTuple):
    """A name and the expression that it is bound to."""

    name: str
    value: ast.expr


@functools.cache
def by_line(filename):
    """Statements of a file: {line: [statements]}; a compound one has the lines of its head. Empty if unreadable."""
    found = {}
    for node in ast.walk(_tree(filename)):
        if isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            body = getattr(node, "body", None) or getattr(node, "cases", None)
            last = max(node.lineno, _first_line(body[0]) - 1) if body else node.end_lineno
            for line in range(node.lineno, last + 1):
                found.setdefault(line, []).append(node)
    return found


@functools.cache
def definition_lines(filename):
    """Where the head of each function stands: {first line, that of its decorators: (line of def, last line)}."""
    functions = [n for n in ast.walk(_tree(filename)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {
        min([f.lineno, *(d.lineno for d in f.decorator_list)]): (f.lineno, max(f.lineno, f.body[0].lineno - 1))
        for f in functions
    }


def bindings(statement):
    """The names that a statement binds, in order, each with the expression that it gets."""
    targets = [(node.target, node.value) for node in _expressions(statement) if isinstance(node, ast.NamedExpr)]
    if isinstance(statement, ast.Assign):
        targets += [(target, statement.value) for target in statement.targets]
    elif isinstance(statement, ast.AugAssign | ast.AnnAssign) and statement.value is not None:
        targets.append((statement.target, statement if isinstance(statement, ast.AugAssign) else statement.value))
    elif isinstance(statement, ast.For):
        targets.append((statement.target, statement.iter))
    elif isinstance(statement, ast.With):
        targets += [(i.optional_vars, i.context_expr) for i in statement.items if i.optional_vars is not None]
    return [Binding(*pair) for target, value in targets for pair in _pairs(target, value)]


def body(statement):
    """The lines of what a compound statement repeats."""
    return range(statement.body[0].lineno, statement.body[-1].end_lineno + 1)


def uses(value):
    """The names that an expression reads, in order: `x`, and `moments.mean` for an attribute of a name."""
    found = {}
    for node in ast.walk(value):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found[node.lineno, node.col_offset] = f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Name):
            found.setdefault((node.lineno, node.col_offset), node.id)
    return list(dict.fromkeys(found[place] for place in sorted(found)))


def renames(value):
    """Whether an expression computes nothing: names, attributes and tuples of them."""
    if isinstance(value, ast.Tuple | ast.List):
        return all(map(renames, value.elts))
    return isinstance(value, ast.Name) or (isinstance(value, ast.Attribute) and renames(value.value))


def parts(value, count):
    """The elements of an expression that is a tuple of `count`; otherwise the expression for each."""
    whole = isinstance(value, ast.Tuple | ast.List) and len(value.elts) == count
    return value.elts if whole and not any(isinstance(e, ast.Starred) for e in value.elts) else [value] * count


def text(filename, first, last):
    """Lines of a file, without their common indentation."""
    return textwrap.dedent("".join(linecache.getlines(filename)[first - 1 : last])).rstrip()


def segment(filename, node):
    """The text of one expression, on one line."""
    return " ".join((ast.get_source_segment("".join(linecache.getlines(filename)), node) or "").split())


def _tree(filename):
    try:
        return ast.parse("".join(linecache.getlines(filename)))
    except SyntaxError:  # a cell of a notebook with magic commands, for one
        return ast.Module([], [])


def _first_line(node):
    decorators = getattr(node, "decorator_list", [])
    node = getattr(node, "pattern", node)
    return min([node.lineno, *(d.lineno for d in decorators)])


def _expressions(statement):
    """The expressions of a statement, without those of the statements inside it."""
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.expr):
            yield from ast.walk(child)


def _pairs(target, value):
    if isinstance(target, ast.Tuple | ast.List):
        for part, its in zip(target.elts, parts(value, len(target.elts)), strict=True):
            yield from _pairs(part, its)
    elif isinstance(target, ast.Starred | ast.Subscript):
        yield from _pairs(target.value, value)
    elif isinstance(target, ast.Name):
        yield target.id, value
