"""Holds tutorials/manage.py to its help: what it writes, what it refuses, and when it fails."""

import re
import tomllib

import pytest
from tutorial_files import ROOT, manage, nbformat


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project of two small notebooks, the first with an exercise and its solution."""
    code, markdown = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    exercise = {"tags": ["exercise"], "exercise": "double-it"}
    first = [
        markdown("# First", id="title"),
        code("def double_it(x):\n    ...", id="write", metadata=exercise),
        code("print(double_it(21))", id="call"),
    ]
    second = [markdown("# Second", id="title"), code("x = 1", id="assign")]
    here = tmp_path / "tutorials"
    (here / "solutions").mkdir(parents=True)
    (here / "solutions" / "double_it.py").write_text(
        '"""Twice.\n\nNot squared.\n"""\n\nimport operator\n\n\ndef double_it(x):\n    return operator.mul(2, x)\n'
    )
    for name, cells in (("01_first", first), ("02_second", second)):
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=manage.METADATA), here / f"{name}.ipynb")
    for page in manage.PAGES:
        (tmp_path / page).write_text(f"# Page\n\n{manage.BEGIN}\n{manage.END}\n\nText.\n")
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://github.com/me/mine"\n')
    monkeypatch.setattr(manage, "ROOT", tmp_path)
    monkeypatch.setattr(manage, "HERE", here)
    return here


def change(path, edit):
    notebook = manage.read(path)
    edit(notebook)
    nbformat.write(notebook, path)


def read_all(folder):
    return {path: path.read_text() for path in [*folder.parent.rglob("*.md"), *folder.rglob("*.ipynb")]}


# ---- which -----------------------------------------------------------------------------------------------------------


def test_a_notebook_is_named_by_number_file_or_path(folder, tmp_path):
    second = folder / "02_second.ipynb"
    for name in ("2", "02", "02_second", "02_second.ipynb", str(second)):
        assert manage.notebooks([name]) == [second], name
    assert [path.name for path in manage.notebooks()] == ["01_first.ipynb", "02_second.ipynb"]
    assert [path.name for path in manage.notebooks(["2", "1"])] == ["02_second.ipynb", "01_first.ipynb"]


def test_a_name_unknown_is_an_error(folder):
    with pytest.raises(SystemExit, match=r"there is no notebook 3; expected a path or one of 01_first, 02_second$"):
        manage.notebooks(["3"])


def test_a_folder_without_notebooks_is_an_error(folder):
    for path in folder.glob("*.ipynb"):
        path.unlink()
    with pytest.raises(SystemExit, match=r"has no notebooks$"):
        manage.main(["strip"])


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        manage.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for command in ("run", "strip", "instructor", "setup"):
        assert f"    python tutorials/manage.py {command} " in text and f"\n    {command}" in text


# ---- strip -----------------------------------------------------------------------------------------------------------


def used(notebook):
    """As Jupyter leaves it."""
    notebook.metadata.language_info.version = "3.11.7"
    notebook.cells[0].metadata.collapsed = True
    notebook.cells[1].metadata.execution = {"iopub.execute_input": "2026-01-01"}
    notebook.cells[1].execution_count = 7
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="42\n")]


def test_strip_restores_what_jupyter_left(folder, capsys):
    before = read_all(folder)
    assert manage.main(["strip", "--check"]) == 0
    change(folder / "01_first.ipynb", used)
    left = read_all(folder)
    assert left != before
    assert manage.main(["strip", "--check"]) == 1 and read_all(folder) == left
    assert capsys.readouterr().out == "tutorials/01_first.ipynb would change\n"
    assert manage.main(["strip"]) == 0 and read_all(folder) == before
    assert capsys.readouterr().out == "tutorials/01_first.ipynb renewed\n"


@pytest.mark.parametrize("part", ["outputs", "execution_count", "metadata"])
def test_strip_sees_each_thing_alone(folder, part):
    values = {"outputs": [nbformat.v4.new_output("stream", text="")], "execution_count": 1, "metadata": {"x": 1}}
    change(folder / "02_second.ipynb", lambda notebook: notebook.cells[1].update({part: values[part]}))
    assert manage.main(["strip", "--check", "02"]) == 1 and manage.main(["strip", "--check", "01"]) == 0


# ---- setup -----------------------------------------------------------------------------------------------------------


def test_setup_inserts_and_renews(folder):
    assert manage.main(["setup", "--check"]) == 1
    assert (
        manage.main(["setup"]) == 0
        and manage.main(["setup", "--check"]) == 0
        and manage.main(["strip", "--check"]) == 0
    )
    once = read_all(folder)
    badges, install, *rest = manage.read(folder / "02_second.ipynb").cells
    assert [cell.id for cell in rest] == ["title", "assign"]
    assert "/gh/me/mine/HEAD?labpath=tutorials%2F02_second.ipynb)" in badges.source
    assert "/github/me/mine/blob/main/tutorials/02_second.ipynb)" in badges.source
    assert "!git clone --depth 1 https://github.com/me/mine repository\n" in install.source
    project = folder.parent / "pyproject.toml"
    project.write_text(project.read_text().replace("me/mine", "you/yours"))
    assert manage.main(["setup", "--check"]) == 1 and read_all(folder) == once
    assert manage.main(["setup"]) == 0
    assert {path: text.replace("you/yours", "me/mine") for path, text in read_all(folder).items()} == once


def test_setup_leaves_the_rest_of_a_page_alone(folder):
    manage.main(["setup"])
    text = (folder.parent / "README.md").read_text()
    assert text.startswith(f"# Page\n\n{manage.BEGIN}\n[![Open in Binder]") and text.endswith(
        f"\n{manage.END}\n\nText.\n"
    )
    assert text.count("/gh/me/mine/HEAD?labpath=tutorials)") == 1 and text.count("/01_first.ipynb)") == 1


@pytest.mark.parametrize(("package", "installs"), [("kalnorm_ref", False), ("no_such_package", True)])
def test_the_install_cell_installs_where_the_package_is_missing(package, installs):
    source = manage.INSTALL.format(url="https://github.com/me/mine").replace('"kalnorm_ref"', repr(package))
    asked = []
    exec(re.sub(r"[!%](.*)", r"ask('\1')", source), {"ask": asked.append})
    clone = "git clone --depth 1 https://github.com/me/mine repository"
    assert asked == [clone, "pip install ./repository", "cd repository/tutorials"] * installs
    assert not re.search(r"-q|try|capture|2>", source), "its errors are hidden"


def test_setup_refuses_what_binder_cannot_open(folder):
    (folder.parent / "pyproject.toml").write_text('[project.urls]\nRepository = "https://example.org/mine"\n')
    with pytest.raises(SystemExit, match=r"is https://example\.org/mine; expected https://github\.com/OWNER/NAME, "):
        manage.main(["setup"])


def test_setup_refuses_a_page_without_its_comments(folder):
    (folder.parent / "README.md").write_text("# Page\n")
    with pytest.raises(SystemExit, match=r"README\.md lacks <!-- .*; expected them around its badges$"):
        manage.main(["setup"])


# ---- instructor ------------------------------------------------------------------------------------------------------


def test_instructor_puts_the_solution_in_its_place(folder, tmp_path, capsys):
    manage.main(["setup"])
    before = read_all(folder)
    assert manage.main(["instructor", "--out", str(tmp_path / "instructor")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2] for line in out[-2:]] == ["1 exercise solved", "0 exercises solved"]
    assert read_all(folder) == before
    cells = manage.read(tmp_path / "instructor" / "01_first.ipynb").cells
    assert [cell.id for cell in cells] == ["setup-badges", "setup-install", "title", "write-solved", "write", "call"]
    assert cells[0].source.startswith("*Instructor version of [01_first.ipynb](../tutorials/01_first.ipynb)")
    assert cells[3].cell_type == "markdown" and cells[3].source == "Twice.\n\nNot squared."
    assert cells[4].source == "import operator\n\n\ndef double_it(x):\n    return operator.mul(2, x)"


@pytest.mark.parametrize("words", [["instructor", "--out"], ["run", "02", "--out"]])
def test_no_copy_replaces_a_notebook(folder, words, monkeypatch):
    monkeypatch.setattr(manage, "execute", lambda *arguments: None)
    before = read_all(folder)
    with pytest.raises(SystemExit, match=r"would replace the notebook itself; expected another folder$"):
        manage.main([*words, str(folder)])
    assert read_all(folder) == before


@pytest.mark.parametrize("text", ["x = 1\n", "# only a comment\n"])
def test_a_solution_has_a_docstring(folder, text):
    (folder / "solutions" / "double_it.py").write_text(text)
    with pytest.raises(ValueError, match=r"double_it\.py has no docstring; expected how the solution is derived$"):
        manage.solution("double-it")


# ---- run -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def kernel():
    for module in ("nbclient", "ipykernel"):
        pytest.importorskip(module, reason=f"{module} is not installed")


@pytest.mark.filterwarnings("default")  # those of the kernel's own libraries
def test_run_starts_a_clean_kernel_and_says_what_failed(folder, tmp_path, kernel, capsys):
    def wrong(notebook):
        notebook.cells[1].source = "import sys\n\nprint(1, file=sys.stderr)\ndouble_it(3)"

    out = tmp_path / "executed"
    before = read_all(folder)
    assert manage.main(["run", "--out", str(out)]) == 0
    assert read_all(folder) == before
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["01_first", "02_second", "total"]
    assert manage.read(out / "01_first.ipynb").cells[2].outputs[0].text == "None\n"
    change(folder / "02_second.ipynb", wrong)
    assert manage.main(["run", "2", "1"]) == 1
    text = capsys.readouterr().out
    assert "FAILED\n    cell assign writes to stderr\n    in cell assign:\n" in text
    assert "NameError: name 'double_it' is not defined" in text and "\x1b" not in text
    assert text.index("NameError") < text.index("01_first") < text.index("total")


@pytest.mark.filterwarnings("default")
def test_run_does_not_wait_for_ever(folder, kernel, capsys):
    change(folder / "02_second.ipynb", lambda notebook: notebook.cells[1].update(source="while True:\n    pass"))
    assert manage.main(["run", "02", "--timeout", "1"]) == 1
    text = capsys.readouterr().out
    assert "FAILED\n    in cell assign:\n" in text and "timed out" in text


# ---- Binder ----------------------------------------------------------------------------------------------------------


def test_binder_finds_what_it_wants():
    assert (ROOT / ".binder/runtime.txt").read_text() == "python-3.11\n"
    script = ROOT / ".binder/postBuild"
    assert script.stat().st_mode & 0o111 and script.read_text().startswith("#!/bin/bash\n")
    assert '".[tutorials]"' in script.read_text()
    with open(ROOT / "pyproject.toml", "rb") as stream:
        extras = tomllib.load(stream)["project"]["optional-dependencies"]
    assert {word.partition(">")[0] for word in extras["tutorials"]} >= {
        "jupyterlab",
        "ipykernel",
        "nbclient",
        "nbformat",
    }
    assert not (ROOT / "binder").exists(), "Binder takes one of the two folders only"
