"""Holds the README to the truth: its Python runs, its commands parse, its files and make targets exist."""

import re
import shlex
from pathlib import Path

import pytest

from kalnorm_ref import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^    (kalnorm-ref .*?)(?:\s+#.*)?$", README, re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_runs_and_prints_what_it_says(block, capsys):
    exec(block, {})
    said = "".join(line + "\n" for line in re.findall(r"print\(.*?\)\s+# (.*)", block))
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command, capsys):
    words = shlex.split(command)[1:]
    if "--help" in words:
        assert cli.main(words) == 0
        assert words[0] in capsys.readouterr().out
    else:
        assert cli.parser().parse_args(words).prepare


def test_links_lead_to_files():
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", README) if not t.startswith("http")]
    assert targets
    assert [t for t in targets if not (ROOT / t.partition("#")[0]).exists()] == []


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert f"\n{target}: " in makefile


def test_the_patterns_of_this_file_find_something():
    assert len(BLOCKS) >= 2 and len(COMMANDS) >= 5
