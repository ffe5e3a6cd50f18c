"""A report as Markdown, as GitHub renders it."""

import re
from html import escape

from .blocks import Folded, Heading, Paragraph, Picture
from .tables import CODE


def markdown(title, blocks):
    """The page; pictures are the files beside it."""
    return "\n\n".join([f"# {escaped(title)}", *map(_block, blocks)]) + "\n"


def _block(block):
    if isinstance(block, Heading):
        return f"## {escaped(block.text)}"
    if isinstance(block, Folded):
        inside = "\n\n".join(map(_block, block.blocks))
        return f"<details><summary>{escape(block.title)}</summary>\n\n{inside}\n\n</details>"
    if isinstance(block, Paragraph):
        return escaped(block.text)
    if isinstance(block, Picture):
        return f"![{escaped(block.title)}]({block.name})\n\n*{escaped(block.title)}.* {escaped(block.caption)}"
    lines = [tuple(map(escaped, block.heads)), ("---", *["---:"] * (len(block.heads) - 1))]
    lines += [tuple(map(_entry, row)) for row in block.rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    note = f"\n\n{escaped(block.note)}" if block.note else ""
    return f"### {escaped(block.title)}\n\n{table}{note}"


def _entry(entry):
    if entry.kind == CODE:
        return f"`{entry.text}`"
    text = f"**{escaped(entry.text)}**" if entry.kind else escaped(entry.text)
    return f"{text} ({escaped(entry.beside)})" if entry.beside else text


def escaped(text):
    """Text whose signs are no markup."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)
