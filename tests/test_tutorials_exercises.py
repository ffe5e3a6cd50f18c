"""Holds the exercises of the notebooks to the grader: a solution passes, and with one operator changed it does not."""

import ast

import pytest
from tutorial_files import EXERCISES, TUTORIALS, manage, nbformat

import kalnorm_ref as kr
from kalnorm_ref.oracle.grading.tutor import EXERCISES as GRADED

ALL = [name for names in EXERCISES.values() for name in names]
OTHER = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}


def function_of(tree, exercise):
    """What the code of a solution defines."""
    values = {}
    exec(compile(ast.fix_missing_locations(tree), exercise, "exec"), values)
    return values[exercise.replace("-", "_")]


def operators(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and type(node.op) in OTHER]


def mistakes(exercise):
    """(what was changed, the function with that operator replaced)."""
    source = manage.solution(exercise)[1]
    for at in range(len(operators(ast.parse(source)))):
        tree = ast.parse(source)
        node = operators(tree)[at]
        before = ast.unparse(node)
        node.op = OTHER[type(node.op)]()
        yield f"{before} -> {ast.unparse(node)}", function_of(tree, exercise)


def test_notebooks_solutions_and_grader_have_the_same_exercises():
    files = sorted(path.stem.replace("_", "-") for path in (TUTORIALS / "solutions").glob("*.py"))
    assert files == sorted(ALL) == sorted(GRADED)


@pytest.mark.parametrize("exercise", ALL)
def test_a_solution_is_a_derivation_and_one_function(exercise):
    derivation, code = manage.solution(exercise)
    assert len(derivation.split()) > 40
    *imports, function = ast.parse(code).body
    assert all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in imports)
    assert function.name == exercise.replace("-", "_")
    assert "kalnorm_ref" not in code, "it is solved by calling the package"


@pytest.mark.parametrize("exercise", ALL)
def test_a_solution_passes(exercise):
    answer = kr.oracle.grade(function_of(ast.parse(manage.solution(exercise)[1]), exercise), exercise)
    assert answer.passed, answer.text


@pytest.mark.parametrize("exercise", ALL)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # roots of less than nothing
def test_no_mistake_in_a_solution_passes(exercise):
    tried = {what: kr.oracle.grade(function, exercise) for what, function in mistakes(exercise)}
    assert len(tried) >= 2
    assert [what for what, answer in tried.items() if answer.passed] == []
    for what, answer in tried.items():
        assert answer.sentences, what


@pytest.mark.parametrize("exercise", ALL)
def test_an_unwritten_function_is_graded(exercise):
    notebook = next(name for name, names in EXERCISES.items() if exercise in names)
    (cell,) = (
        cell for cell in manage.read(TUTORIALS / f"{notebook}.ipynb").cells if cell.metadata.get("exercise") == exercise
    )
    answer = kr.oracle.grade(function_of(ast.parse(cell.source), exercise), exercise)
    assert not answer.passed and "not written yet" in answer.text.lower()


# ---- instructor versions ---------------------------------------------------------------------------------------------


def unwritten(notebook):
    """The functions whose body is `...`."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and not manage.tagged(cell, "setup"):
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.FunctionDef) and ast.unparse(node.body[-1]) == "...":
                    yield node.name.replace("_", "-")


@pytest.mark.parametrize("path", manage.notebooks(), ids=lambda path: path.stem)
def test_instructor_versions_are_solved(path):
    exercises = EXERCISES.get(path.stem, [])
    assert list(unwritten(manage.read(path))) == exercises
    solved, count = manage.with_solutions(manage.read(path), path.name)
    assert count == len(exercises) and list(unwritten(solved)) == []
    nbformat.validate(solved)
    assert len({cell.id for cell in solved.cells}) == len(solved.cells)
    for exercise in exercises:
        (at,) = (i for i, cell in enumerate(solved.cells) if cell.metadata.get("exercise") == exercise)
        derivation, code = manage.solution(exercise)
        assert (solved.cells[at - 1].source, solved.cells[at].source) == (derivation, code)
