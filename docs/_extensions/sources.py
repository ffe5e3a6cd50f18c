"""Pages of source code, an anchor for every line: `source:kalnorm_ref/moments.py#line-20` leads to one.

A page is made of each file of FOLDERS; `source:` with a folder leads to the list of all files.
"""

import functools
import html
import inspect
import sys
from pathlib import Path

from docutils import nodes
from outside import ROOT, SHOWN
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename

FOLDERS = ("kalnorm_ref", "examples", "tutorials/solutions")
LIST = "source/index"


@functools.cache
def files():
    """Paths of all files that have a page."""
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SHOWN)
    made = {"_core.c"}  # by Cython
    kept = (path for path in found if "__pycache__" not in path.parts and path.name not in made)
    return sorted(path.relative_to(ROOT).as_posix() for path in kept)


def linkcode_resolve(domain, info):
    """Link of an object of the API reference to the line that defines it."""
    try:
        found = functools.reduce(getattr, info["fullname"].split("."), sys.modules[info["module"]])
        found = inspect.unwrap(found.fget if isinstance(found, property) else found)
        path = Path(inspect.getsourcefile(found)).relative_to(ROOT)
        return f"source:{path.as_posix()}#line-{inspect.getsourcelines(found)[1]}"
    except (AttributeError, TypeError, ValueError, OSError):  # a constant, a field, something not of this package
        return None


def _pages(app):
    """Every source page and their list, written as they are: they take no part in the search."""
    formatter = HtmlFormatter(linenos="inline", lineanchors="line", anchorlinenos=True, wrapcode=True)
    listed = []
    for path in files():
        text = (ROOT / path).read_text(encoding="utf-8")
        code = highlight(text, get_lexer_for_filename(path, stripnl=False), formatter)
        body = f'<h1><code>{path}</code></h1><div class="source-page">{code}</div>'
        yield f"source/{path}", {"title": path, "body": body}, "page.html"
        listed.append((path, text))
    yield LIST, {"title": "Source", "body": "<h1>Source</h1>" + _list(listed)}, "page.html"


def _list(listed):
    rows, folder = [], None
    for path, text in sorted(listed, key=lambda one: (one[0].rpartition("/")[0], one[0])):
        here, _, name = path.rpartition("/")
        if here != folder:
            rows.append(("</ul>" if folder else "") + f'<h2 id="{here}"><code>{here}</code></h2><ul>')
            folder = here
        first = text.splitlines()[0].strip('"') if path.endswith(".py") and text.startswith('"""') else ""
        link = path.removeprefix("source/")
        rows.append(f'<li><a href="{link}.html"><code>{name}</code></a> {html.escape(first)}</li>')
    return "\n".join(rows) + "</ul>"


def _resolve(app, doctree, docname):
    """Turn the scheme `source:` into an address relative to the page."""
    for node in doctree.findall(nodes.reference):
        scheme, _, rest = node.get("refuri", "").partition(":")
        if scheme == "source":
            path, _, fragment = rest.partition("#")
            page = f"source/{path}"
            if path not in files():
                page, fragment = LIST, path
            node["refuri"] = app.builder.get_relative_uri(docname, page) + (f"#{fragment}" if fragment else "")
            node["internal"] = True


def setup(app):
    app.connect("html-collect-pages", _pages)
    app.connect("doctree-resolved", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
