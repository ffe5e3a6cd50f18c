"""Runs, cleans and prepares the notebooks of this folder, so that they cannot rot.

    python tutorials/manage.py strip                      after you changed a notebook in Jupyter
    python tutorials/manage.py run 03 5                   does it still run, and how long?
    python tutorials/manage.py instructor --out DIR       before a class: the exercises solved
    python tutorials/manage.py setup                      after Repository in pyproject.toml changed

A notebook is named by its number, its file name or its path; with none named, all are meant.
"""

import argparse
import ast
import re
import sys
import time
import tomllib
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT = ("tags", "exercise")  # of a cell's metadata
BEGIN, END = "<!-- tutorials/manage.py setup: begin -->", "<!-- tutorials/manage.py setup: end -->"
PAGES = ("README.md", "tutorials/README.md")
INSTALL = """\
# For Colab: installs the package, which compiles for a minute or two. Elsewhere it does nothing.
from importlib.util import find_spec

if find_spec("kalnorm_ref") is None:
    !git clone --depth 1 {url} repository
    %pip install ./repository
    %cd repository/tutorials
"""


# ---- which, and in which form --------------------------------------------------------------------


def notebooks(names=()):
    """The paths of the notebooks named, by default all. Raises: SystemExit where there is none."""
    here = sorted(HERE.glob("[0-9][0-9]_*.ipynb"))
    if not here:
        raise SystemExit(f"{HERE} has no notebooks")
    return [find(name, here) for name in names] or here


def find(name, here):
    if name.endswith(".ipynb") and Path(name).is_file():
        return Path(name).resolve()
    number = f"{int(name):02}" if name.isdigit() else name
    fitting = [path for path in here if number in (path.name, path.stem, path.name[:2])]
    if not fitting:
        known = ", ".join(path.stem for path in here)
        raise SystemExit(f"there is no notebook {name}; expected a path or one of {known}")
    return fitting[0]


def read(path):
    return nbformat.read(path, as_version=4)


def text_of(notebook):
    """The file's text. Raises: nbformat.ValidationError where it is no notebook of format 4."""
    nbformat.validate(notebook)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def save(notebook, path):
    """Write a copy. Raises: SystemExit where it would replace a notebook of this folder."""
    if path.resolve().parent == HERE:
        raise SystemExit(f"{path} would replace the notebook itself; expected another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text_of(notebook), encoding="utf-8")


def tagged(cell, tag):
    return tag in cell.metadata.get("tags", ())


def put(changed, check):
    """Write each {path: text} that differs from its file, or only name it. Returns: exit code."""
    stale = [path for path, text in changed.items() if path.read_text(encoding="utf-8") != text]
    for path in stale:
        if not check:
            path.write_text(changed[path], encoding="utf-8")
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        print(f"{shown} {'would change' if check else 'renewed'}")
    return 1 if check and stale else 0


# ---- run -----------------------------------------------------------------------------------------


def run(names, out=None, timeout=600):
    """Run notebooks, each from a clean kernel in its own folder; a line each with its seconds.

    Exit code 1 where a cell raised, took longer than the timeout or killed its kernel: that cell
    is shown with its error, and the other notebooks still run.
    """
    failed, total = 0, 0.0
    for path in notebooks(names):
        notebook = read(path)
        began = time.perf_counter()
        error = execute(notebook, path.parent, timeout)
        seconds = time.perf_counter() - began
        total += seconds
        print(f"{path.stem:34}{seconds:7.1f} s{'  FAILED' if error else ''}", flush=True)
        for cell in notebook.cells:
            if any(output.get("name") == "stderr" for output in cell.get("outputs", ())):
                print(f"    cell {cell.id} writes to stderr")
        if error:
            failed += 1
            print(error, flush=True)
        if out:
            save(notebook, out / path.name)
    print(f"{'total':34}{total:7.1f} s")
    return 1 if failed else 0


def execute(notebook, folder, timeout):
    """Fill in the outputs. Returns: None, or the cell that failed and its error."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    at = []
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # it warns of the transport that it got
        on_cell_execute=lambda cell, cell_index: at.append(cell.id),
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        reason = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
        return "".join(f"    {line}\n" for line in f"in cell {at[-1]}:\n{reason}".splitlines())


# ---- strip ---------------------------------------------------------------------------------------


def strip(names, check=False):
    """Take out outputs, execution counts and stray metadata, in place."""
    return put({path: text_of(stripped(read(path))) for path in notebooks(names)}, check)


def stripped(notebook):
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        kept = {key: cell.metadata[key] for key in KEPT if key in cell.metadata}
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


# ---- instructor ----------------------------------------------------------------------------------


def instructor(names, out):
    """Write notebooks with each exercise solved from solutions/, its derivation above it.

    Links stay right in a folder beside tutorials/.
    """
    for path in notebooks(names):
        solved, count = with_solutions(read(path), path.name)
        save(solved, out / path.name)
        print(f"{out / path.name}: {count} exercise{'s' * (count != 1)} solved")
    return 0


def with_solutions(notebook, name):
    cells, count = [], 0
    for cell in notebook.cells:
        if tagged(cell, "setup") and cell.cell_type == "markdown":
            student = f"[{name}](../tutorials/{name})"
            cell.source = f"*Instructor version of {student}: the exercises are solved.*"
        elif tagged(cell, "exercise"):
            derivation, cell.source = solution(cell.metadata["exercise"])
            above = {"id": f"{cell.id}-solved", "metadata": {"tags": ["solution"]}}
            cells.append(nbformat.v4.new_markdown_cell(derivation, **above))
            count += 1
        cells.append(cell)
    notebook.cells = cells
    return notebook, count


def solution(exercise):
    """The docstring of a file of solutions/, and the code below it."""
    path = HERE / "solutions" / f"{exercise.replace('-', '_')}.py"
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    if not ast.get_docstring(tree):
        raise ValueError(f"{path} has no docstring; expected how the solution is derived")
    code = "".join(text.splitlines(keepends=True)[tree.body[0].end_lineno :])
    return ast.get_docstring(tree), code.strip()


# ---- setup ---------------------------------------------------------------------------------------


def setup(names, check=False):
    """Insert or renew the first two cells of each notebook, badges and installation for Colab,
    and the badges of README.md and tutorials/README.md.

    The repository is named in one place: Repository in pyproject.toml.
    """
    url = repository()
    changed = {path: text_of(with_setup(read(path), path.name, url)) for path in notebooks(names)}
    for page in (ROOT / name for name in PAGES):
        before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        if not begin or END not in rest:
            raise SystemExit(f"{page} lacks {BEGIN} and {END}; expected them around its badges")
        changed[page] = f"{before}{BEGIN}\n{badges(url)}\n{END}{rest.partition(END)[2]}"
    return put(changed, check)


def repository():
    """Repository in pyproject.toml. Raises: SystemExit where Binder and Colab cannot open it."""
    with open(ROOT / "pyproject.toml", "rb") as stream:
        url = tomllib.load(stream)["project"]["urls"]["Repository"]
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", url):
        expected = "https://github.com/OWNER/NAME, which Binder and Colab open"
        raise SystemExit(f"Repository in pyproject.toml is {url}; expected {expected}")
    return url


def badges(url, name=None):
    """Markdown that opens a notebook on Binder and on Colab; unnamed the folder and the first."""
    repo = url.removeprefix("https://github.com/")
    folder = f"https://mybinder.org/v2/gh/{repo}/HEAD?labpath=tutorials"
    binder = f"{folder}%2F{name}" if name else folder
    colab = f"https://colab.research.google.com/github/{repo}/blob/main/tutorials"
    return (
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})\n"
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"({colab}/{name or notebooks()[0].name})"
    )


def with_setup(notebook, name, url):
    new = {"metadata": {"tags": ["setup"]}}
    first = nbformat.v4.new_markdown_cell(badges(url, name), id="setup-badges", **new)
    second = nbformat.v4.new_code_cell(INSTALL.format(url=url).strip(), id="setup-install", **new)
    rest = (cell for cell in notebook.cells if not tagged(cell, "setup"))
    notebook.cells = [first, second, *rest]
    return notebook


# ---- the command ---------------------------------------------------------------------------------


def parser():
    head, _, tail = __doc__.partition("\n\n")
    main = argparse.ArgumentParser(
        "manage.py", description=head, epilog=tail, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = main.add_subparsers(dest="command", required=True)

    def command(function, about, **options):
        sub = commands.add_parser(function.__name__, help=about, description=function.__doc__)
        which = "03, a file name or a path; all by default"
        sub.add_argument("names", nargs="*", metavar="NOTEBOOK", help=which)
        for name, settings in options.items():
            sub.add_argument(f"--{name}", **settings)
        sub.set_defaults(function=function)

    check = {"action": "store_true", "help": "change nothing; exit 1 where something would change"}
    folder = {"type": Path, "metavar": "DIR"}
    command(
        run,
        "run notebooks from a clean kernel, with times",
        out=folder | {"help": "write the executed copies here"},
        timeout={"type": int, "default": 600, "metavar": "S", "help": "seconds for a cell, 600"},
    )
    command(strip, "take out outputs, counts and metadata", check=check)
    needed = folder | {"required": True, "help": "where to"}
    command(instructor, "write versions with the exercises solved", out=needed)
    command(setup, "renew the badges and the install cells", check=check)
    return main


def main(words=None):
    arguments = vars(parser().parse_args(words))
    arguments.pop("command")
    return arguments.pop("function")(**arguments)


if __name__ == "__main__":
    sys.exit(main())
