"""Writes docs/api/command_line.md: what each command of kalnorm-ref says to --help."""

import argparse
import os

from outside import DOCS, write

HEAD = """# Command line

After `make demo` the command is `.venv/bin/kalnorm-ref`. What follows is what each command says to `--help`.
"""


def _commands(app, config):
    os.environ["COLUMNS"] = "100"  # the width that argparse fills
    from kalnorm_ref import cli

    top = cli.parser()
    text = [HEAD, _block(top)]
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            text += [f"## {name}\n\n{_block(parser)}{_nested(parser, name)}" for name, parser in action.choices.items()]
    write(DOCS / "api" / "command_line.md", "\n".join(text))


def _nested(parser, name):
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return "".join(f"\n### {name} {one}\n\n{_block(p)}" for action in found for one, p in action.choices.items())


def _block(parser):
    return f"```text\n{parser.format_help()}```\n"


def setup(app):
    app.connect("config-inited", _commands)
    return {"parallel_read_safe": True}
