"""A trace as one page of HTML on which one steps forwards and backwards: page.html, page.css and page.js, filled in.

Without JavaScript, and on paper, the page shows all steps one below the other.
"""

import base64
import hashlib
from html import escape
from importlib.resources import files
from string import Template

import numpy as np

from . import figures
from .text import HEADS, short
from .typeset import typeset


def render(trace, fractions):
    """The page as text. Its content security policy allows its own script and no request at all."""
    from .. import __version__  # here, because the package imports this module

    script, style, template = (_part(name) for name in ("page.js", "page.css", "page.html"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(template).substitute(
        title=escape(trace.title),
        about=escape(f"{trace.about[:1].upper()}{trace.about[1:]}. " * bool(trace.about) + "Every value, in order."),
        count=len(trace.steps),
        steps="\n".join(_step(trace, i, fractions) for i in range(len(trace.steps))),
        contents=_contents(trace),
        equations=_equations(trace),
        version=escape(__version__),
        style=style,
        script=script,
        script_hash=f"sha256-{digest}",
    )


def _part(name):
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _parts(trace):
    """The steps in runs of one part: (part, indices)."""
    runs = []
    for i, note in enumerate(trace.notes):
        if not runs or runs[-1][0] != note.part:
            runs.append((note.part, []))
        runs[-1][1].append(i)
    return runs


def _contents(trace):
    """The list of all steps."""
    lists = []
    for part, indices in _parts(trace):
        items = "\n".join(f'<li><a href="#step-{i + 1}">{_listed(trace.steps[i], i)}</a></li>' for i in indices)
        lists.append(f"<h2>{HEADS[part]}</h2>\n<ol>\n{items}\n</ol>")
    return "\n".join(lists)


def _listed(step, i):
    name = "" if step.name == step.symbol else f'<span class="name">{escape(step.name)}</span>'
    return f'<span class="at">{i + 1}</span><span class="math">{typeset(step.symbol)}</span>{name}'


def _equation_ids(trace):
    """For each equation that a step states, in order: {(part, formula, number): (id, index of its first step)}."""
    found = {}
    for i, (step, note) in enumerate(zip(trace.steps, trace.notes, strict=True)):
        if note.formula and step.equation:
            key = (note.part, note.formula, step.equation)
            found.setdefault(key, (f"equation-{len(found) + 1}", i))
    return found


def _equations(trace):
    """The list of the equations, in the order of their first use; each leads to that step."""
    known, lists = _equation_ids(trace), []
    for part in dict.fromkeys(key[0] for key in known):
        items = "\n".join(
            f'<li><a id="{mark}" href="#step-{i + 1}"><span class="math">{typeset(formula)}</span>'
            f'<span class="number">({escape(number)})</span></a></li>'
            for (its, formula, number), (mark, i) in known.items()
            if its == part
        )
        lists.append(f"<h3>{HEADS[part]}</h3>\n<ol>\n{items}\n</ol>")
    return "\n".join(lists)


def _step(trace, i, fractions):
    """One step: where it stands, its equation, what it is made from, its value, its line of code."""
    step, note = trace.steps[i], trace.notes[i]
    mark, _ = _equation_ids(trace).get((note.part, note.formula, step.equation), ("", 0))
    said = f"Step {i + 1} of {len(trace.steps)}, {note.part}: {step.symbol}"
    said += f", {note.meaning}" * bool(note.meaning) + f". {note.formula}" * bool(note.formula)
    asks = " asks" if note.code else ""
    lines = [
        f'<section class="step{asks}" id="step-{i + 1}" aria-labelledby="title-{i + 1}" '
        f'data-equation="{mark}" data-said="{escape(said)}">',
        f'<p class="part">{escape(_place(note))}</p>',
        f'<h2 id="title-{i + 1}">{typeset(step.symbol)}<span class="name">{_code_name(step)}</span></h2>',
    ]
    if note.meaning:
        lines.append(f'<p class="meaning">{escape(note.meaning)}</p>')
    if note.formula or step.equation:
        number = f'<span class="number">({escape(step.equation)})</span>' if step.equation else ""
        text = typeset(note.formula) or '<span class="remark">a step on the way to the equation</span>'
        lines.append(f'<p class="formula">{text} {number}</p>')
    for other, words in ((note.same, "The same value as in"), (note.completed, "In part; completed in")):
        if other is not None:
            lines.append(f'<p class="remark">{words} <a href="#step-{other + 1}">step {other + 1}</a>.</p>')
    if note.uses:
        made = "\n".join(_figure(trace, use, fractions, small=True) for use in note.uses)
        lines.append(f'<h3>Made from</h3>\n<div class="from">\n{made}\n</div>')
    lines.append(f"<h3>{'Result' if note.code else 'Value'}</h3>")
    lines.append(f'<div class="answer">{_figure(trace, i, fractions)}</div>')
    ask = '<p class="ask"><button type="button" data-to="reveal" aria-keyshortcuts="r">Show the result</button></p>'
    return "\n".join([*lines, *[ask] * bool(note.code), _code(step, note), "</section>"])


def _place(note):
    path = [name for name in note.path if not name.startswith("run_")]
    return " \u203a ".join([HEADS[note.part], *path])


def _code_name(step):
    return "" if step.name == step.symbol else escape(step.name)


def _code(step, note):
    """The statement that made the value, the expression marked; of an argument the head of its function."""
    source, expression = escape(note.source), escape(note.code.partition(" = ")[2])
    if expression:
        source = source.replace(expression, f"<mark>{expression}</mark>", 1)
    where = f'<p class="where">{escape(short(step.file))}, line {step.line}</p>'
    return f'<h3>Code</h3>\n{where}\n<pre tabindex="0"><code>{source}</code></pre>'


def _figure(trace, i, fractions, small=False):
    """The array of a step as tables, coloured by size; small ones carry a link to their step."""
    step, note = trace.steps[i], trace.notes[i]
    shape = f"shape {step.shape}" if step.shape else "a number"
    shape += f", {figures.summary(step.value)}; a corner of it" if step.value.size > figures.MANY else ""
    link = f'<a href="#step-{i + 1}" class="math">{typeset(step.symbol)}</a> ' if small else ""
    largest = _largest(step.value)
    tables = "\n".join(_table(step, note, *table, largest, fractions) for table in figures.tables(step.value))
    scale = ""
    if largest and not small and step.value.size > 1:
        end = figures.decimal(largest)
        scale = f'<div class="scale" aria-hidden="true">-{end}<i></i>{end}</div>\n'
    caption = f"<figcaption>{link}{escape(shape)}</figcaption>"
    return f'<figure>\n{caption}\n<div class="tables">\n{tables}\n</div>\n{scale}</figure>'


def _table(step, note, index, matrix, cut, largest, fractions):
    """One matrix, with a header for each row and column that its axes have."""
    rows, columns, pages = figures.axes(step.name, note.path, step.value)
    caption = f"{pages} {', '.join(map(str, index))}" if index else step.symbol
    head = ""
    if step.value.ndim:
        heads = "".join(f'<th scope="col">{columns} {c}</th>' for c in range(matrix.shape[1]))
        head = f"<thead><tr>{_corner(rows)}{heads}</tr></thead>"
    body = ""
    for r, row in enumerate(matrix):
        first = f'<th scope="row">{rows} {r}</th>' if rows else ""
        body += f"<tr>{first}{''.join(_cell(value, largest, fractions) for value in row)}</tr>\n"
    seen = f'<div class="where">{escape(caption)}</div>' if index else ""
    more = '<div class="where">and more</div>' if cut else ""
    wide = f' tabindex="0" role="region" aria-label="{escape(caption)}"' if matrix.shape[1] > 4 else ""
    return (
        f'<div>{seen}<div class="scroll"{wide}><table>'
        f'<caption class="unseen">{escape(caption)}</caption>{head}<tbody>\n{body}</tbody></table></div>{more}</div>'
    )


def _corner(rows):
    return '<th scope="col"><span class="unseen">index</span></th>' if rows else ""


def _cell(value, largest, fractions):
    """One number: the fraction above the decimal where there is one; its colour by sign and size."""
    text, exact = figures.decimal(value), figures.fraction(value) if fractions else None
    inside = escape(text) if exact is None or "/" not in exact else f"{escape(exact)}<small>{escape(text)}</small>"
    real = value.real
    if not np.isfinite(value):
        return f'<td class="odd">{inside}</td>'
    size = abs(float(real)) / largest if largest else 0.0
    kind = "above" if real > 0 else "below" if real < 0 else ""
    colour = f' class="{kind}" style="--t:{size:.2f}"' if kind else ""
    return f'<td{colour} title="{escape(str(value))}">{inside}</td>'


def _largest(array):
    real = array.real[np.isfinite(array.real)]
    return float(np.abs(real).max()) if real.size else 0.0
