"""Makes the package's docstrings, which are plain text, into reStructuredText for the API reference.

A section is a line "Name: text" and the indented lines after it. Equations stay as they are written, in their columns;
numbers in brackets lead to the equations page; indented text is code; a single backtick means code.
"""

import inspect
import re
import sys
import textwrap

from docutils import nodes

SECTIONS = "Equations|Shapes|Returns|Raises|Departs|Reference|References|Gradient|Gradients|Example|Examples"
_SECTION = re.compile(rf"({SECTIONS})( \([^)]*\))?: ?(.*)")
_INLINE = re.compile(r"(`[^`]+`)|\(((?:[A-G]\d+[a-z]?(?:, )?)+)\)")


def _process(app, what, name, obj, options, lines):
    if lines and lines[0].startswith("Alias for field number"):
        lines[:] = [_comment(name)]
    lines[:] = _converted([line.rstrip() for line in lines])


def _comment(name):
    """What the source says behind a field of a NamedTuple."""
    module, kind, field = name.rsplit(".", 2)
    source = inspect.getsource(getattr(sys.modules[module], kind))
    found = re.search(rf"^    {field}: .*?#\s*(.*)$", source, re.MULTILINE)
    return found[1] if found else ""


def _converted(lines):
    out, i = [], 0
    while i < len(lines):
        section = _SECTION.fullmatch(lines[i])
        if lines[i].lstrip().startswith(">>>"):
            block, i = _upto_blank(lines, i)
            out += ["", *textwrap.dedent("\n".join(block)).splitlines(), ""]
        elif section:
            block, i = _indented(lines, i + 1)
            body = textwrap.dedent("\n".join(block)).splitlines()
            out += ["", *_section(section[1] + (section[2] or ""), [section[3], *body]), ""]
        elif lines[i].startswith("    "):
            block, i = _indented(lines, i)
            out += ["", *_literal(textwrap.dedent("\n".join(block)).splitlines()), ""]
        else:
            out.append(inline(lines[i]))
            i += 1
    return out


def _section(title, body):
    while body and not body[0]:
        body.pop(0)
    if title.startswith("Equations"):
        return [f"**{title}**", "", *_literal(_clauses(body))]
    doctest = [line for line in body if line.lstrip().startswith(">>>")]
    if doctest:
        return [f"**{title}**", "", *body]
    return [f":{title}:", *("    " + inline(line) for line in body)]


def _clauses(body):
    """Equations written in a running text, a clause a line; those in columns as they are."""
    text = " ".join(line.strip() for line in body)
    if any("   " in line.strip() for line in body):
        return body
    return [line for clause in text.split(" ; ") for line in textwrap.wrap(clause, 96, subsequent_indent="    ")]


def _literal(lines):
    return ["::", "", *("    " + line for line in lines)]


def _indented(lines, i):
    block = []
    while i < len(lines) and (lines[i].startswith("    ") or not lines[i]):
        block.append(lines[i])
        i += 1
    while block and not block[-1]:
        block.pop()
        i -= 1
    return block, i


def _upto_blank(lines, i):
    block = []
    while i < len(lines) and lines[i]:
        block.append(lines[i])
        i += 1
    return block, i


def inline(text):
    """A line of plain text as reStructuredText: code as code, numbers as links, everything else as it stands."""
    parts, end = [], 0
    for found in _INLINE.finditer(text):
        parts.append(_escaped(text[end : found.start()]))
        if found[1]:
            parts.append(f"``{found[1].strip('`')}``")
        else:
            parts.append("(" + ", ".join(f":equation:`{n}`" for n in found[2].split(", ")) + ")")
        end = found.end()
    return "".join(parts) + _escaped(text[end:])


def _escaped(text):
    return re.sub(r"([\\*_|`])", r"\\\1", text)


def _equation(name, rawtext, text, lineno, inliner, options=None, content=None):
    return [nodes.reference(rawtext, text, refuri=f"equation:{text}")], []


def setup(app):
    app.connect("autodoc-process-docstring", _process)
    app.add_role("equation", _equation)
    return {"parallel_read_safe": True}
