"""Brings pages that lie outside docs/ into the site, and makes every relative link lead to a page of the site.

Copies are written when a build starts and are not kept: tutorials to docs/tutorials/, the pages of PAGES to docs/.
"""

import json
import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = {  # path in the repository: page of the site
    "benchmarks/README.md": "benchmarks.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "tutorials/README.md": "tutorials/index.md",
}
INSTEAD = {"README.md": "index.md", "tutorials": "tutorials/index.md"}  # the site has a page of its own
ADDED = {  # what the site's page has besides
    "tutorials/index.md": "\n```{toctree}\n:hidden:\n:glob:\n\n[0-9]*\n../teaching\n```\n",
}
SHOWN = {".py", ".pyx", ".pyi", ".h", ".c", ".md"}  # what has a source page
_BADGE = re.compile(r"\[!\[([^]]*)\]\([^)]*\)\]\(([^)]*)\)")
_LINK = re.compile(r"(?<=\]\()([^()\s]+)(?=\))")


def page_of(path):
    """Where a path of the repository is in docs/; None for one that is no page of its own."""
    if path in PAGES or path in INSTEAD:
        return PAGES.get(path) or INSTEAD[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return path if path.startswith("tutorials/") and path.endswith(".ipynb") else None


def relinked(text, path, page):
    """`text` of the file `path` of the repository with the links that it needs as `page` of docs/."""

    def link(found):
        target, hash_sign, fragment = found[1].partition("#")
        if not target or re.match(r"\w+:", target):
            return found[1]
        there = os.path.normpath(os.path.join(os.path.dirname(path), target))
        if not (ROOT / there).exists():
            return found[1]  # the build warns of it
        known = page_of(there)
        if known is None and ((ROOT / there).is_dir() or Path(there).suffix in SHOWN):
            line = re.fullmatch(r"L(\d+)(?:-L\d+)?", fragment)
            return f"source:{there}" + (f"#line-{line[1]}" if line else "")
        new = os.path.relpath(DOCS / known if known else ROOT / there, (DOCS / page).parent)
        return new + hash_sign + fragment

    return _LINK.sub(link, text)


def bring(app, config):
    """Write the copies."""
    (DOCS / "tutorials").mkdir(exist_ok=True)
    for path, page in PAGES.items():
        text = relinked((ROOT / path).read_text(encoding="utf-8"), path, page)
        write(DOCS / page, _BADGE.sub(r"[\1](\2)", text) + ADDED.get(page, ""))
    folder = DOCS / "tutorials"
    notebooks = {path.name: path for path in (ROOT / "tutorials").glob("[0-9]*.ipynb")}
    for old in folder.glob("*.ipynb"):
        if old.name not in notebooks:
            old.unlink()
    for name, path in notebooks.items():
        write(folder / name, _notebook(path))


def _notebook(notebook):
    path = f"tutorials/{notebook.name}"
    content = json.loads(notebook.read_text(encoding="utf-8"))
    cells, badges = [], []
    for cell in content["cells"]:
        text = "".join(cell["source"])
        if "setup" in cell["metadata"].get("tags", ()):  # installs the package; its badges become links
            badges += [f"[{alt}]({url})" for alt, url in _BADGE.findall(text)]
            continue
        if cell["cell_type"] == "markdown":
            text = relinked(text, path, path)
            if badges and text.startswith("# "):
                title, _, rest = text.partition("\n")
                text, badges = f"{title}\n\n{' · '.join(badges)}\n{rest}", []
        cells.append(cell | {"source": text.splitlines(keepends=True)})
    return json.dumps(content | {"cells": cells}, indent=1, ensure_ascii=False) + "\n"


def write(path, text):
    """Only what changed, so that the next build is short."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _own_links(app, docname, source):
    """Links of the pages that lie in docs/ themselves."""
    path = Path(app.env.doc2path(docname)).relative_to(DOCS).as_posix()
    if path not in PAGES.values() and path.endswith(".md"):
        source[0] = relinked(source[0], f"docs/{path}", path)


def setup(app):
    app.connect("config-inited", bring)
    app.connect("source-read", _own_links)
    return {"parallel_read_safe": True}
