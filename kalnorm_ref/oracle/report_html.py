"""A report as one page without any outside resource: the table, and for each failing tensor its error by channel."""

import itertools
from html import escape

import numpy as np

from .. import __version__
from .case import MAPS, channel_axis
from .report_text import HEADINGS, overview, ratio, rows
from .runner import declared_steps, truth_of
from .verdict import NEUTRAL, shaped

PLOTTED = 30  # failing tensors with a picture
LISTED = 200  # failing tensors in the table
BARS = 160  # in a picture; more channels share bars, each as high as its worst
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 170, 56, 12, 14, 32
LOWEST = 1e-3  # errors below this part of the budget are drawn there

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --panel: #f5f6f8; --ink: #15181d; --soft: #4f5864; --line: #cfd5dd;
  --right: #3f7fb8; --wrong: #c2410c; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171c; --panel: #1c2027; --ink: #eceff3; --soft: #a9b3bf; --line: #3a424d;
    --right: #7fb2e5; --wrong: #f2a65a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 90rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin: 2rem 0 0.5rem; }
p { margin: 0.25rem 0; } .soft { color: var(--soft); }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 0.875rem; }
th, td { text-align: left; padding: 0.35rem 0.75rem; border-top: 1px solid var(--line); vertical-align: top; }
thead th { border-top: 0; background: var(--panel); font-weight: 600; }
td { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: nowrap; }
td.number { text-align: right; } td.why { font-family: inherit; white-space: normal; min-width: 16rem; }
td.name { white-space: normal; min-width: 9rem; }
.verdict { font-weight: 600; } .verdict.wrong { color: var(--wrong); } a { color: inherit; }
figure { margin: 1rem 0 0; padding: 0.75rem; border: 1px solid var(--line); border-radius: 8px;
  background: var(--panel); }
figcaption { font-size: 0.875rem; overflow-wrap: anywhere; }
.pictures { display: grid; gap: 0 1rem; grid-template-columns: repeat(auto-fill, minmax(min(30rem, 100%), 1fr)); }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.grid { stroke: var(--line); stroke-width: 1; } .limit { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 5 3; }
svg .limit-label { fill: var(--ink); } .right { fill: var(--right); } rect.wrong { fill: var(--wrong); }
rect.lost { fill: none; stroke: var(--wrong); stroke-width: 1.5; }
"""


def html(report):
    """The page."""
    found = rows(report)
    head = "".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS)
    pictures = [picture(report, row, f"picture{i}") for i, row in enumerate(found[:PLOTTED])]
    body = "\n".join(_line(row, i, i < PLOTTED and pictures[i]) for i, row in enumerate(found[:LISTED]))
    more = f"<p>and {len(found) - LISTED} more failing tensors</p>" if len(found) > LISTED else ""
    table = f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>{more}'
    verdicts = "".join(f"<tr>{_verdict(name)}<td class='number'>{n}</td></tr>" for name, n in report.counts().items())
    notes = "\n".join(f"<p>{escape(line)}</p>" for line in overview(report)[len(report.counts()) :])
    drawn = "\n".join(filter(None, pictures))
    title = escape(report.target)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: conformance</title><style>{STYLE}</style></head>
<body><h1>{title}</h1><p>{escape(report.summary())}</p><p class="soft">kalnorm-ref {__version__}</p>
{f"<h2>What fails</h2>{table}" if found else "<p>Nothing fails.</p>"}
{f'<h2>Error by channel</h2><p>{ABOUT}</p><div class="pictures">{drawn}</div>' if drawn else ""}
<h2>Verdicts</h2><div class="wide"><table><tbody>{verdicts}</tbody></table></div>
{notes}
</body></html>
"""


ABOUT = """The largest error over its budget in each channel, on a logarithmic scale. Above the dashed line it is wrong;
where only an outline stands, it is not finite."""


def _verdict(name):
    return f'<td class="name verdict{"" if name in NEUTRAL else " wrong"}">{escape(name)}</td>'


def _line(row, i, drawn):
    _, case, tensor, size, place, got, want, why = map(escape, row.cells())
    tensor = f'<a href="#picture{i}">{tensor}</a>' if drawn else tensor
    cells = f'<td class="name">{case}</td><td>{tensor}</td><td class="number">{size}</td><td>{place}</td>'
    cells += "".join(f'<td class="number">{a}</td>' for a in (got, want))
    return f'<tr>{_verdict(row.verdict)}{cells}<td class="why">{why}</td></tr>'


def channel_errors(report, row):
    """(axis name, the largest error over budget at each place along it), or None where nothing can be drawn."""
    result, t = row
    case = result.case
    if t is None or t.index == () or t.name not in result.returned:
        return None
    truth = truth_of(case, declared_steps(case.op, set(report.declared)))
    got, dtype = result.returned[t.name]
    ratios = truth.ratios(t.name, shaped(got, truth.want[t.name]), dtype)
    axis, name = _axis(case, t.name, ratios.ndim)
    return name, ratios.max(axis=tuple(i for i in range(ratios.ndim) if i != axis))


def _axis(case, name, ndim):
    """The axis that a picture keeps, and what it counts."""
    if name in MAPS:
        return channel_axis(case.layout), "channel"
    if name == "dtransition":
        return 0, "group" if case.op == "gkn" else "channel"
    own = "group" if case.op == "gkn" and name not in ("dgamma", "dbeta") else "channel"
    return ndim - 1, f"{own} of the previous normalizer" if name.startswith("dprevious") else own


def picture(report, row, name):
    """A figure with the errors of one tensor by channel; an empty string where there is nothing to draw."""
    found = channel_errors(report, row)
    if found is None:
        return ""
    axis, errors = found
    label = f"{row.result.case.id}: {row.tensor.name}"
    svg = bars(errors, axis, f"{label}, error over budget by {axis}")
    return f'<figure id="{name}"><figcaption>{escape(label)}, {escape(row.verdict)}</figcaption>{svg}</figure>'


def bars(errors, axis, title):
    """An SVG bar chart on a logarithmic scale, with the line at 1; what is not finite reaches the top."""
    count = len(errors)
    edges = np.linspace(0, count, min(count, BARS) + 1).astype(int)
    heights = np.array([errors[a:b].max() for a, b in itertools.pairwise(edges)])
    finite = heights[np.isfinite(heights)]
    top = int(np.ceil(np.log10(max(10.0, finite.max(initial=1.0) * 1.2))))
    bottom = int(np.log10(LOWEST))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def level(a):
        part = (np.log10(max(a, LOWEST)) - bottom) / (top - bottom)
        return TOP + high * (1 - min(part, 1.0))

    parts = []
    step = -(-(top - bottom) // 6)
    for power in range(0, top + 1, step):
        parts.append(_ruled(level(10.0**power), f"1e{power}" if power else "", "grid"))
    parts.append(_ruled(level(LOWEST), f"1e{bottom}", "grid"))
    each = wide / len(heights)
    for i, a in enumerate(heights):
        first, last = edges[i], edges[i + 1] - 1
        y = level(a) if np.isfinite(a) else TOP
        x, width = LEFT + i * each, max(each - 2, each * 0.7)
        place = f"{axis} {first}" if first == last else f"{axis} {first} to {last}"
        about = f"{place}: {f'{ratio(a)} of the budget' if np.isfinite(a) else 'not finite'}"
        kind = "right" if a <= 1 else "wrong" if np.isfinite(a) else "lost"
        shape = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{max(TOP + high - y, 1):.1f}"'
        parts.append(f'<rect class="{kind}" {shape}><title>{escape(about)}</title></rect>')
    y = level(1.0)
    parts.append(_ruled(y, "budget", "limit"))
    for i in sorted({0, (len(heights) - 1) // 2, len(heights) - 1}):
        middle = LEFT + (i + 0.5) * each
        parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 17}" text-anchor="middle">{edges[i]}</text>')
    parts.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 3}" text-anchor="middle">{escape(axis)}</text>')
    about = f"<title>{escape(title)}</title>"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{about}{"".join(parts)}</svg>'


def _ruled(y, label, kind):
    """A line across with its label at the left."""
    line = f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + f'<text class="{kind}-label" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
