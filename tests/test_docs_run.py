"""Holds the documentation to the truth: its Python runs, its commands run or, where that takes too long, are at least
commands.

The blocks of a page are run in their order, in one empty folder that holds `my_norm`, the reader's own kernel. What is
not run to its end is named in SHORTER and PARSED.
"""

import contextlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
from pages import ROOT, blocks, pages, prose, text_of

from kalnorm_ref import cli

PAGES = pages()
SHORTER = {  # what is added to the command
    "train": ["--epochs", "1", "--train-images", "64"],
    "compare": ["--epochs", "1", "--train-images", "32"],
    "sweep": ["--epochs", "1", "--train-images", "64", "--workers", "0"],
    "gradproof": ["kalman_norm"],
    "verify": ["--cases", "bn/ordinary/*", "bn/offset*"],
}
PARSED = {  # what is found in the command, and why only its options are read
    "bench": "takes minutes",
    "selftest": "takes minutes; the gate runs it",
    "data fetch": "downloads",
    "--data cifar10": "needs what `data fetch` downloads",
    "docs/results/": "is run from the repository, the sweep with CIFAR-10; test_results.py does the report",
}
FIGURES = {  # indented blocks that are no commands: the page, and how the first line begins
    ("docs/conformance.md", "capabilities "),
    ("docs/conformance.md", "|y' - y|"),
}
SHOWN = ("text", "math", "mermaid")  # languages of fences that nobody runs; {directives} are the site's
PROGRAM = re.compile(r"(?:\.venv/bin/)?(kalnorm-ref|make|pytest|pip|python3?|jupyter)(?= |$)")
PRINTED = re.compile(r"print\(.*?\)\s+# ([-(\[{\d'\"].*)")  # a comment that begins like a value is what is printed
MY_NORM = (
    (ROOT / "examples" / "numpy_target.py").read_text(encoding="utf-8")
    + """

factory = BatchNorm


def batch_norm(x, gamma, beta, eps):
    over = tuple(range(x.ndim - 1))
    mean, var = x.mean(over), x.var(over)
    return (x - mean) / np.sqrt(var + eps) * gamma + beta
"""
)


def command(line):
    """The words of a line of a shell, without its comment; None for what is no command."""
    return shlex.split(line, comments=True) if PROGRAM.match(line) else None


# ---- what each program is held to: functions of the words after its name, which raise where something is wrong -----


def run_kalnorm_ref(words):
    """Run it, in short where SHORTER has it; read the options of what stands in PARSED."""
    line = " ".join(words)
    needs_torch = "torch.nn:" in line and importlib.util.find_spec("torch") is None
    if needs_torch or any(name in line for name in PARSED):
        assert cli.parser().parse_args(words).prepare
        return
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = cli.main([*words, *SHORTER.get(words[0], [])])
    assert code == 0, f"exit code {code}: {said.getvalue()}"


def run_make(words):
    """Its targets and variables stand in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        variable, given, _ = word.partition("=")
        there = f"$({variable})" in makefile if given else f"\n{word}:" in makefile
        assert there, f"the Makefile has no {variable}"


def run_pytest(words):
    started(
        [sys.executable, "-m", "pytest", "-p", "kalnorm_ref_pytest", "-p", "no:cacheprovider", "-k", "ordinary", *words]
    )


def run_pip(words):
    """What is installed is this package, with extras that it has, or something that it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = {re.match(r"[\w-]+", need)[0] for needs in (project["dependencies"], *extras.values()) for need in needs}
    subcommand, *what = words
    assert subcommand == "install" and what
    for one in what:
        own = re.fullmatch(r"\.(?:\[([\w,]+)\])?", one)
        if own:
            assert set((own[1] or "test").split(",")) <= set(extras), f"no such extra: {one}"
        else:
            assert one in {"-e"} | named, f"pyproject.toml does not name {one}"


def run_python(words):
    """The file is there; one that reads options reads these."""
    name, *options = words[1:] if words[0] == "-m" else words
    name = name.replace(".", "/") + ".py" if words[0] == "-m" else name
    assert_there([name])
    if "argparse" in (ROOT / name).read_text(encoding="utf-8"):
        started([sys.executable, str(ROOT / name), *options, "--help"])


def run_jupyter(words):
    """It opens a file that is there."""
    assert words[0] in ("lab", "notebook"), f"no such command: jupyter {words[0]}"
    assert_there(words[1:])


def assert_there(names):
    missing = [name for name in names if not (ROOT / name).exists()]
    assert not missing, f"no such file: {missing[0]}"


def started(words):
    """Run a program beside us. AssertionError with what it said, unless it ends well."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), str(ROOT)])}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


RUN = {
    "kalnorm-ref": run_kalnorm_ref,
    "make": run_make,
    "pytest": run_pytest,
    "pip": run_pip,
    "python": run_python,
    "python3": run_python,
    "jupyter": run_jupyter,
}


def run_line(line):
    words = command(line)
    RUN[PROGRAM.match(line)[1]](words[1:])


def run_python_block(code):
    """Run it. Where it says behind prints what they print, so it must be."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "a block of Python", "exec"), {})
    lines = iter(said.getvalue().splitlines())
    for told in PRINTED.findall(code):
        assert told in lines, f"{told!r} is not what it prints: {said.getvalue()!r}"


# ---- a page ----------------------------------------------------------------------------------------------------------


def wrong(text, page=""):
    """Run the blocks of a page in the folder at hand, and yield what is wrong with them."""
    for block in blocks(text):
        lines = [line for line in block.code.splitlines() if line.strip()]
        language = block.language.split()[0] if block.language else ""
        commands = [line for line in lines if command(line)]
        try:
            if language == "python":
                run_python_block(block.code)
            elif language in ("bash", "sh", "console") or (not language and commands):
                assert commands == lines, "not every line is a command"
                for line in lines:
                    run_line(line)
            elif language:
                assert language in SHOWN or language.startswith("{"), f"nobody reads {language}"
            else:
                figure = any(page == name and lines[0].startswith(start) for name, start in FIGURES)
                assert figure, "neither a command nor a known figure"
        except Exception as error:
            yield f"line {block.line}: {type(error).__name__}: {error}\n{block.code}"


def mentions(text):
    """The commands within the sentences of a page."""
    found = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(text))
    return [code for code in dict.fromkeys(found) if PROGRAM.match(code) and len(code.split()) > 1]


def wrong_mention(code):
    """What is wrong with a command in a sentence, which may be the beginning of one; None if nothing is."""
    program, words = PROGRAM.match(code)[1], command(code)[1:]
    try:
        if program == "kalnorm-ref" and len(words) > 1 and "--help" not in words:
            cli.parser().parse_args(words)
        elif program == "kalnorm-ref":
            with contextlib.redirect_stdout(io.StringIO()):
                assert cli.main([words[0], "--help"]) == 0, "no such command"
        elif program == "pytest":
            assert_there(word for word in words if "/" in word)
        else:
            RUN[program](words)
    except Exception as error:
        return f"{code}: {type(error).__name__}: {error}"
    return None


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder at hand, with the reader's kernel in it."""
    (tmp_path / "my_norm.py").write_text(MY_NORM, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(ROOT), *sys.path])
    monkeypatch.delitem(sys.modules, "my_norm", raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_norm", None)


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_code_runs(path, folder):
    text = text_of(path)
    assert list(wrong(text, path.relative_to(ROOT).as_posix())) == []
    assert [complaint for complaint in map(wrong_mention, mentions(text)) if complaint] == []


def test_the_pages_have_code():
    found = [block for path in PAGES for block in blocks(text_of(path))]
    assert sum(block.language == "python" for block in found) >= 5
    assert sum(bool(command(line)) for block in found for line in block.code.splitlines()) >= 30


def test_every_exception_is_one():
    text = "\n".join(
        line for path in PAGES for b in blocks(text_of(path)) for line in b.code.splitlines() if command(line)
    )
    assert [name for name in (*PARSED, *SHORTER) if name not in text] == []
    starts = {(path.relative_to(ROOT).as_posix(), b.code) for path in PAGES for b in blocks(text_of(path))}
    assert [f for f in FIGURES if not any(f[0] == page and code.startswith(f[1]) for page, code in starts)] == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\nprint(1 + 1)  # 2\n```\n", None),
        ("```python\nprint(1 + 1)  # a sum\nprint([3])  # [3]\n```\n", None),
        ("```python\nprint(1 + 1)  # 3\n```\n", "'3' is not what it prints: '2"),
        ("```python\nprint(1)  # 1\nprint(2)  # 2\nprint(1)  # 1\nprint(2)  # 1\n```\n", "is not what it prints"),
        ("```python\nimport kalnorm_ref as kr\n\nkr.kalman_normalize()\n```\n", "has no attribute 'kalman_normalize'"),
        ("```python\nimport numpy as np\nx = [\n```\n", "SyntaxError"),
        ("```cobol\nSTOP RUN.\n```\n", "nobody reads cobol"),
        ("    kalnorm-ref trace bn --example two-samples    # zero\n", None),
        ("    kalnorm-ref trace bn --example two-samples    zero\n", "unrecognized arguments: zero"),
        ("    kalnorm-ref trace bm\n", "exit code 2"),
        ("    kalnorm-ref train --norm kn-analytical --out out\n", "exit code 2"),
        ("    kalnorm-ref evaluate out/nothing\n", "exit code 2"),
        ("    kalnorm-ref data fetch cifar11\n", "cifar11"),
        ("    kalnorm-ref bench --fast\n", "--fast"),
        ("    kalnorm-ref trace bn\n    and this\n", "not every line is a command"),
        ("```bash\ncurl http://127.0.0.1\n```\n", "not every line is a command"),
        ("    x = 1\n", "neither a command nor a known figure"),
        ("    make test PYTEST=-x\n", None),
        ("    make tests\n", "tests"),
        ("    pytest --kalnorm-target my_norm:batch\n", "my_norm"),
        ("    pip install '.[test]' torch\n", None),
        ("    pip install '.[tests]'\n", "no such extra"),
        ("    pip install pytroch\n", "does not name pytroch"),
        ("    python -m examples.blind_test\n", None),
        ("    python examples/blind_tests.py\n", "no such file"),
        ("    .venv/bin/jupyter lab tutorials/manage.py\n", None),
        ("    jupyter lab tutorials/00_nothing.ipynb\n", "no such file"),
    ],
)
def test_a_planted_mistake_is_seen(text, complaint, folder):
    found = list(wrong(text))
    assert len(found) == bool(complaint) and all(complaint in one for one in found), found


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("kalnorm-ref list --conventions", None),
        ("kalnorm-ref verify", None),
        ("kalnorm-ref judge DIR", None),
        ("kalnorm-ref verifies", "no such command"),
        ("kalnorm-ref list --whys", "--whys"),
        ("make demos", "demos"),
        ("python examples/paper.py", "no such file"),
        ("pytest tests/test_nothing.py", "no such file"),
    ],
)
def test_a_planted_mistake_in_a_sentence_is_seen(code, complaint, folder):
    (found,) = map(wrong_mention, mentions(f"Say `{code}` or so.\n"))
    assert complaint in found if complaint else found is None
