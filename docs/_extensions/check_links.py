"""Checks a built site: every link to a file of the site, and to a place in it, must lead somewhere.

python docs/_extensions/check_links.py docs/_build/html
"""

import functools
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit


class Page(HTMLParser):
    """The links of a page, and the places in it that a link may name."""

    def __init__(self, text):
        super().__init__()
        self.links, self.places = set(), {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.add(value)
            elif name == "id" or (name == "name" and tag == "a"):
                self.places.add(value)


@functools.cache
def page(path):
    return Page(path.read_text(encoding="utf-8"))


def pages_of(root):
    """All pages but those of the theme, which are templates."""
    return sorted(path for path in root.rglob("*.html") if "_static" not in path.parts)


def broken(root):
    """Pairs of a page and a link of it that leads nowhere."""
    for path in pages_of(root):
        for link in sorted(page(path).links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            address, fragment = urldefrag(link)
            target = path.parent / unquote(urlsplit(address).path) if urlsplit(address).path else path
            target = target / "index.html" if target.is_dir() else target
            named = unquote(fragment) if target.suffix == ".html" else ""
            if not target.exists() or (named and named not in page(target).places):
                yield path.relative_to(root), link


def main(folder):
    root = Path(folder).resolve()
    pages = pages_of(root)
    if not pages:
        raise SystemExit(f"{folder} has no page")
    found = list(broken(root))
    for path, link in found:
        print(f"{path}: {link} leads nowhere")
    print(f"{len(pages)} pages, {sum(len(page(path).links) for path in pages)} links, {len(found)} broken")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
