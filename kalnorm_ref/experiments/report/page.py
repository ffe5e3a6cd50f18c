"""A report as one page without any outside resource, for light and dark, wide and narrow."""

import base64
import re
from html import escape

from ... import __version__
from ...oracle.report_html import STYLE
from .blocks import Folded, Heading, Paragraph, Picture
from .tables import CODE

OWN = """
body { max-width: 76rem; } h2 { margin-top: 2.5rem; font-size: 1.3rem; } h3 { margin: 2rem 0 0.5rem; font-size: 1rem; }
p { max-width: 60rem; }
details { margin-top: 1rem; } summary { cursor: pointer; }
figure { background: none; padding: 0; overflow: hidden; }
figcaption { padding: 0.75rem 1.25rem; background: var(--panel); border-top: 1px solid var(--line); }
img { display: block; width: 100%; min-width: 40rem; height: auto; } .picture { overflow-x: auto; background: #ffffff; }
.wide { width: fit-content; max-width: 100%; } table { width: auto; }
td { text-align: right; } .beside { display: block; color: var(--soft);
  font-size: 0.8em; min-width: 7.5rem; white-space: normal; }
thead th { text-align: right; white-space: nowrap; }
thead th:first-child { text-align: left; background: var(--panel); }
tbody th, thead th:first-child { position: sticky; left: 0; } tbody th { font-weight: 400; background: var(--paper); }
code { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
@media (prefers-color-scheme: dark) { .picture { background: #1c2027; } }
@media (max-width: 40rem) { body { padding: 1rem; } th, td { padding: 0.35rem 0.5rem; } }
"""


def page(title, blocks):
    """The page; pictures are in it, once for each colour scheme."""
    body = "\n".join(map(_block, blocks))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}{OWN}</style></head>
<body><h1>{escape(title)}</h1>
{body}
<p class="soft">kalnorm-ref {__version__} report</p>
</body></html>
"""


def _block(block):
    if isinstance(block, Heading):
        return f"<h2>{escape(block.text)}</h2>"
    if isinstance(block, Folded):
        return f"<details><summary>{escape(block.title)}</summary>{''.join(map(_block, block.blocks))}</details>"
    if isinstance(block, Paragraph):
        return f"<p>{escape(block.text)}</p>"
    if isinstance(block, Picture):
        dark = f'<source media="(prefers-color-scheme: dark)" srcset="{_inline(block.dark)}">'
        image = f'<img src="{_inline(block.light)}" alt="{escape(block.title)}">'
        about = f"<strong>{escape(block.title)}.</strong> {escape(block.caption)}"
        scrolled = f'<div class="picture" {_scrolls(block.title)}><picture>{dark}{image}</picture></div>'
        return f"<figure>{scrolled}<figcaption>{about}</figcaption></figure>"
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in block.heads)
    rows = "\n".join(f'<tr><th scope="row">{_entry(row[0])}</th>{_cells(row[1:])}</tr>' for row in block.rows)
    table = f"<table><thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table>"
    note = f'<p class="soft">{escape(block.note)}</p>' if block.note else ""
    return f'<h3>{escape(block.title)}</h3><div class="wide" {_scrolls(block.title)}>{table}</div>{note}'


def _scrolls(title):
    """Attributes of a part that may be wider than the page: keys can scroll it, and it has a name."""
    return f'tabindex="0" role="region" aria-label="{escape(title)}"'


def _cells(entries):
    return "".join(f"<td>{_entry(entry)}</td>" for entry in entries)


def _entry(entry):
    text = escape(entry.text)
    if entry.kind == CODE:
        return "<code>" + re.sub("([:,])", r"\1<wbr>", text) + "</code>"
    text = f"<strong>{text}</strong>" if entry.kind else text
    return f'{text}<span class="beside">{escape(entry.beside)}</span>' if entry.beside else text


def _inline(png):
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
