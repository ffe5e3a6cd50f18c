"""What the tests of the documentation share: its pages, the code in them, and the anchors of their headings."""

import json
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FOLDERS = ("", "benchmarks", "docs", "docs/api", "tutorials")
HISTORY = ROOT / "CHANGELOG.md"  # tells of what was
_FENCE = re.compile(r"^(?P<fence>```+|:::+)(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=fence)[ ]*$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:\A|(?<=\n\n))(?: {4}[^\n]*\n|\n(?= {4}))+")


class Block(NamedTuple):
    """A piece of code on a page."""

    line: int  # of the page, from 1
    language: str  # as the fence has it; "" for an indented block
    code: str


def made(path):
    """Whether a file of docs/ is one that a build of the site writes and git does not keep; it may not be there."""
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    kept_out = [line.lstrip("/") for line in lines if line.lstrip("/").startswith("docs/")]
    name = path.relative_to(ROOT).as_posix()
    return any(name.startswith(line) if line.endswith("/") else name == line for line in kept_out)


def pages():
    """Paths of all pages and notebooks of the documentation."""
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.md"))]
    found += sorted((ROOT / "tutorials").glob("[0-9]*.ipynb"))
    return [path for path in found if path != HISTORY and not made(path)]


def text_of(path):
    """The text of a page; of a notebook, that of its Markdown cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = (cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")
    return "\n\n".join("".join(cell["source"]) for cell in cells) + "\n"


def blocks(text):
    """Every Block of a page, in its order."""
    found = [(m.start(), m["info"].strip(), m["code"]) for m in _FENCE.finditer(text)]
    for m in _INDENTED.finditer(_FENCE.sub(lambda fence: re.sub(".", "-", fence[0]), text)):
        found.append((m.start(), "", re.sub(r"^ {4}", "", m[0], flags=re.MULTILINE).rstrip("\n") + "\n"))
    return [Block(text.count("\n", 0, start) + 1, info, code) for start, info, code in sorted(found)]


def prose(text):
    """The page without its blocks; every line keeps its number."""
    return _INDENTED.sub(_blank, _FENCE.sub(_blank, text))


def _blank(match):
    return "\n" * match[0].count("\n")


def anchors(text):
    """The anchors of a page as GitHub makes them: one for each heading, those of equal headings numbered, and ids."""
    found, seen = set(), {}
    text = prose(text)
    for heading in re.findall(r"^#{1,6} +(.*?) *#*$", text, re.MULTILINE):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)|<[^>]*>", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        found.add(slug if slug not in seen else f"{slug}-{seen[slug]}")
        seen[slug] = seen.get(slug, 0) + 1
    return found | set(re.findall(r"<\w+ [^>]*(?:id|name)=\"([^\"]+)\"", text))
