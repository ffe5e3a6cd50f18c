"""Holds the notebooks of tutorials/ to their rules; each rule has a planted breach that it must see.

Running them takes minutes and is `make tutorials`. Their exercises are in test_tutorials_exercises.py, the command that
keeps them is in test_tutorials_manage.py.
"""

import ast
import re
import subprocess
import sys

import pytest
from tutorial_files import EXERCISES, NAMES, ROOT, TUTORIALS, manage, nbformat

LONGEST = 25  # lines of a code cell
URL = manage.repository()
RANDOM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){0,3}(-[0-9a-f]{12})?")  # as nbformat and Jupyter name cells


def taught(notebook, kind):
    """The cells of a kind that are not part of the setup."""
    return [cell for cell in notebook.cells if cell.cell_type == kind and not manage.tagged(cell, "setup")]


def prose(notebook):
    return "\n\n".join(cell.source for cell in taught(notebook, "markdown"))


# ---- the rules: each a function of (name, notebook, text of its file) that yields what is wrong ----------------------


def form(name, notebook, text):
    """Stripped, and as nbformat writes it."""
    if manage.text_of(manage.stripped(notebook)) != text:
        yield "is not in the normal form; python tutorials/manage.py strip"


def identities(name, notebook, text):
    for cell in notebook.cells:
        if RANDOM.fullmatch(cell.id) or not re.fullmatch(r"[a-z0-9-]+", cell.id):
            yield f"cell {cell.id} has no readable id"


def setting_up(name, notebook, text):
    """Badges and installation are those that pyproject.toml asks for."""
    if manage.text_of(manage.with_setup(notebook, f"{name}.ipynb", URL)) != text:
        yield "has other badges or another installation; python tutorials/manage.py setup"


def title(name, notebook, text):
    if not re.match(r"# \S", taught(notebook, "markdown")[0].source):
        yield "does not begin with a title"
    if sum(len(re.findall(r"^# ", cell.source, re.MULTILINE)) for cell in taught(notebook, "markdown")) != 1:
        yield "has more than one title"


def short(name, notebook, text):
    for cell in taught(notebook, "code"):
        lines = cell.source.count("\n") + 1
        if lines > LONGEST:
            yield f"cell {cell.id} has {lines} lines"


def imports_first(name, notebook, text):
    """What has to be installed stands in one place; a function may import what it can do without."""
    for cell in taught(notebook, "code")[1:]:
        imports = [node for node in ast.parse(cell.source).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        foreign = [ast.unparse(node) for node in imports if not ast.unparse(node).split()[1].startswith("kalnorm_ref")]
        if foreign:
            yield f"cell {cell.id} has {foreign[0]}; expected it in the first code cell"


def exercises(name, notebook, text):
    """Each has its function, named like it and unwritten, and is graded right below."""
    code = taught(notebook, "code")
    named = [cell for cell in code if manage.tagged(cell, "exercise") or "exercise" in cell.metadata]
    if [cell.metadata.get("exercise") for cell in named] != EXERCISES.get(name, []):
        yield "has other exercises"
    for cell in named:
        exercise = str(cell.metadata.get("exercise"))
        function = exercise.replace("-", "_")
        *_, body = ast.parse(cell.source).body
        after = code[code.index(cell) + 1 : code.index(cell) + 2]
        if not manage.tagged(cell, "exercise"):
            yield f"{exercise} lacks its tag"
        if getattr(body, "name", None) != function or not ast.get_docstring(body):
            yield f"{exercise} is no function {function} with a docstring"
        elif ast.unparse(body.body[1:]) != "...":
            yield f"{exercise} is written already"
        if not after or f'kr.oracle.grade({function}, "{exercise}")' not in after[0].source:
            yield f"{exercise} is not graded in the next code cell"


def ending(name, notebook, text):
    """What you have seen, three questions with folded answers, and the way on."""
    _, heading, rest = prose(notebook).partition("What you have seen")
    if not heading:
        yield "does not say what you have seen"
    if rest.count("<details>") < 3 or rest.count("<details>") != rest.count("</details>"):
        yield "does not end with three folded answers"
    following = NAMES.index(name) + 1
    if following < len(NAMES) and f"]({NAMES[following]}.ipynb)" not in taught(notebook, "markdown")[-1].source:
        yield "does not lead to the next notebook"


RULES = (form, identities, setting_up, title, short, imports_first, exercises, ending)


def broken(rule, name, notebook):
    """What a rule says of a notebook in memory."""
    text = nbformat.writes(notebook) + "\n"
    return list(rule(name, nbformat.reads(text, as_version=4), text))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_notebook(name, rule):
    text = (TUTORIALS / f"{name}.ipynb").read_text(encoding="utf-8")
    assert list(rule(name, nbformat.reads(text, as_version=4), text)) == []


# ---- planted breaches ------------------------------------------------------------------------------------------------


def small():
    """A notebook with nothing wrong, which stands for the first."""
    code, markdown = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    cells = [markdown("# Title", id="title"), code("import kalnorm_ref as kr", id="imports")]
    for exercise in EXERCISES[NAMES[0]]:
        function = exercise.replace("-", "_")
        metadata = {"tags": ["exercise"], "exercise": exercise}
        cells.append(code(f'def {function}(x):\n    """In and out."""\n    ...', id=exercise, metadata=metadata))
        cells.append(code(f'kr.oracle.grade({function}, "{exercise}")', id=f"{exercise}-grade"))
    answers = "<details><summary>Why?</summary>So.</details>\n" * 3
    cells.append(markdown(f"## What you have seen\n\n{answers}", id="questions"))
    cells.append(markdown(f"See [B5](../docs/equations.md), then [next]({NAMES[1]}.ipynb).", id="next"))
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=manage.METADATA)
    return manage.with_setup(notebook, f"{NAMES[0]}.ipynb", URL)


def cell_of(notebook, name):
    (cell,) = (cell for cell in notebook.cells if cell.id == name)
    return cell


def swap(name, old, new):
    def change(notebook):
        cell = cell_of(notebook, name)
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return change


def drop(name):
    return lambda notebook: notebook.cells.remove(cell_of(notebook, name))


def mark(name, **metadata):
    return lambda notebook: cell_of(notebook, name).metadata.update(metadata)


BREACHES = (
    (form, lambda notebook: cell_of(notebook, "imports").update(execution_count=3)),
    (form, lambda notebook: cell_of(notebook, "imports").outputs.append(nbformat.v4.new_output("stream", text="1"))),
    (form, mark("title", collapsed=True)),
    (form, lambda notebook: notebook.metadata.update(authors=[])),
    (form, lambda notebook: notebook.metadata.kernelspec.update(display_name="mine")),
    (identities, lambda notebook: cell_of(notebook, "imports").update(id="3fa85f64")),
    (identities, lambda notebook: cell_of(notebook, "imports").update(id="3fa85f64-5717-4562-b3fc-2c963f66afa6")),
    (identities, lambda notebook: cell_of(notebook, "imports").update(id="Imports")),
    (setting_up, swap("setup-badges", "OWNER" if "OWNER" in URL else URL.split("/")[3], "somebody")),
    (setting_up, swap("setup-badges", NAMES[0], NAMES[1])),
    (setting_up, swap("setup-install", "./repository", "kalnorm-ref")),
    (setting_up, drop("setup-install")),
    (setting_up, lambda notebook: notebook.cells.insert(0, notebook.cells.pop(2))),
    (title, swap("title", "# ", "")),
    (title, swap("title", "# ", "## ")),
    (title, swap("next", "See", "# Second\n\nSee")),
    (short, swap("imports", "import", "x = 1\n" * LONGEST + "import")),
    (imports_first, swap("bn-forward-grade", "kr.", "import numpy\n\nkr.")),
    (imports_first, swap("bn-forward-grade", "kr.", "from numpy import sqrt\n\nkr.")),
    (exercises, mark("bn-forward", exercise="bn-foreward")),
    (exercises, mark("bn-forward", tags=[])),
    (exercises, lambda notebook: cell_of(notebook, "bn-backward").metadata.clear()),
    (exercises, swap("bn-forward", "bn_forward", "forward")),
    (exercises, swap("bn-forward", "...", "return x")),
    (exercises, swap("bn-forward", '    """In and out."""\n', "")),
    (exercises, swap("bn-forward-grade", '"bn-forward"', '"bn-backward"')),
    (exercises, drop("bn-forward-grade")),
    (exercises, drop("bn-backward")),
    (ending, swap("questions", "have seen", "saw")),
    (ending, swap("questions", "</details>\n", "")),
    (ending, lambda notebook: swap("questions", "<details><summary>Why?</summary>So.</details>\n" * 2, "")(notebook)),
    (ending, swap("next", NAMES[1], NAMES[2])),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_notebook_with_nothing_wrong_passes(rule):
    assert broken(rule, NAMES[0], small()) == []


@pytest.mark.parametrize(
    ("rule", "breach"), BREACHES, ids=[f"{rule.__name__}-{i}" for i, (rule, _) in enumerate(BREACHES)]
)
def test_a_breach_is_seen(rule, breach):
    notebook = small()
    breach(notebook)
    assert broken(rule, NAMES[0], notebook)


def test_every_rule_has_a_breach():
    assert {rule for rule, _ in BREACHES} == set(RULES)


# ---- all of them -----------------------------------------------------------------------------------------------------


def test_names_and_order():
    assert [path.stem for path in manage.notebooks()] == list(NAMES)
    page = (TUTORIALS / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\|[^|]*\]\((\w+)\.ipynb\)", page, re.MULTILINE) == list(NAMES)


@pytest.mark.parametrize("page", manage.PAGES)
def test_the_pages_have_the_badges_of_pyproject(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert f"{manage.BEGIN}\n{manage.badges(URL)}\n{manage.END}" in text
    assert text.count("mybinder.org/v2") == text.count("colab.research.google.com/github") == 1


@pytest.fixture
def ruff():
    pytest.importorskip("ruff", reason="ruff is not installed")

    def ask(command, folder):
        words = [sys.executable, "-m", "ruff", *command, "--no-cache", "-q", str(folder)]
        return subprocess.run(words, capture_output=True, text=True)

    return ask


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["check", "format"])
def test_code_cells_are_clean(ruff, command, tmp_path):
    done = ruff(command, TUTORIALS)
    assert done.returncode == 0, done.stdout + done.stderr
    notebook = small()
    (tmp_path / "ruff.toml").write_text(f"extend = '{TUTORIALS / 'ruff.toml'}'")
    nbformat.write(notebook, tmp_path / "small.ipynb")
    assert ruff(command, tmp_path).returncode == 0
    swap("imports", "import kalnorm_ref as kr", "import numpy\nx = numpy.ones( 3 )\ny = undefined")(notebook)
    nbformat.write(notebook, tmp_path / "small.ipynb")
    assert ruff(command, tmp_path).returncode == 1
