"""The index of the equations: which lines of the package cite each number of docs/equations.md, found at every build.

`equation:B5` as the address of a link leads to the section of that number on the equations page.
"""

import functools
import re

from docutils import nodes
from outside import DOCS, ROOT
from sources import files

PAGE = "equations"
_CITED = re.compile(r"\(([A-G]\d+[a-z]?(?:(?:, |-|\.\.)[A-G]?\d+[a-z]?)*)(?:, [^()]*)?\)")
_ONE = re.compile(r"([A-G])(\d+)([a-z]?)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@functools.cache
def anchors():
    """Anchor of each number: that of the heading that names it, else of the section that has it."""
    found, here = {}, ""
    for line in (DOCS / f"{PAGE}.md").read_text(encoding="utf-8").splitlines():
        heading = _HEADING.match(line)
        if heading:
            here = slug(heading[1])
            stated = re.match(r"(?:[A-G]\d+(?:, )?)+", heading[1])
        else:
            stated = re.search(r"\*\*\(?([A-G]\d+[a-z]?)\)?\*\*", line)
        for one in _ONE.finditer(stated[0] if stated else ""):
            found.setdefault(one[0], here)
    return found


def slug(heading):
    """A heading's anchor, as GitHub and MyST make it."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def numbers(text):
    """The numbers that a line cites; C1-C4 are four."""
    for found in _CITED.finditer(text):
        for part in found[1].split(", "):
            ends = _ONE.findall(part)
            if len(ends) == 2:
                letter, first, last = ends[0][0], int(ends[0][1]), int(ends[1][1])
                yield from (f"{letter}{n}" for n in range(first, last + 1))
            elif ends:
                yield "".join(ends[0])


@functools.cache
def citations():
    """{number: {path: [line, ...]}} of the package."""
    index = {number: {} for number in anchors()}
    for path in files():
        if path.startswith("kalnorm_ref/") and not path.endswith(".md"):
            for line, text in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1):
                for number in dict.fromkeys(numbers(text)):
                    index.setdefault(number, {}).setdefault(path, []).append(line)
    return index


def _append(app, docname, source):
    if docname != PAGE:
        return
    unknown = sorted(citations().keys() - anchors().keys())
    if unknown:
        raise ValueError(f"cited in the code, but not on {PAGE}.md: {', '.join(unknown)}")
    lines = ["", "## Where the code cites it", "", "Found in the source when this page was built.", ""]
    lines += ["| number | file, lines |", "|---|---|"]
    for number, cited in sorted(citations().items(), key=lambda one: _order(one[0])):
        where = "; ".join(
            f"[{path.removeprefix('kalnorm_ref/')}](source:{path}) "
            + ", ".join(f"[{line}](source:{path}#line-{line})" for line in found)
            for path, found in cited.items()
        )
        lines.append(f"| [{number}](equation:{number}) | {where or 'not cited'} |")
    source[0] += "\n".join(lines) + "\n"


def _order(number):
    letter, digits, suffix = _ONE.match(number).groups()
    return letter, int(digits), suffix


def _resolve(app, doctree, docname):
    for node in doctree.findall(nodes.reference):
        scheme, _, number = node.get("refuri", "").partition(":")
        if scheme == "equation":
            page = app.builder.get_relative_uri(docname, PAGE) if docname != PAGE else ""
            node["refuri"], node["internal"] = f"{page}#{anchors()[number]}", True


def setup(app):
    app.connect("source-read", _append)
    app.connect("doctree-resolved", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
