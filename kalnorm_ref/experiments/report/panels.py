"""Pictures of many small panels: test error by epoch, learned gain by depth, accuracy of the estimators."""

import math
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from ..record_plot import LOOKS, drawable, ticks
from . import draw
from .figures import images

ERROR, GAIN = "test error, %", "gain"
QUANTITIES = {"mean_error": "mean error²\n/ variance", "log_var_error": "log-variance\nerror²"}
WIDE = 5  # panels side by side, of the estimators
DASHES = {"batch": ("-", "o"), "prior": ((0, (6, 2)), "s"), "used": ("-", "^")}


class Panel(NamedTuple):
    """A small panel: its title, what its vertical axis holds, and {name: (x, values of shape (seeds, x))}."""

    title: str
    quantity: str
    lines: dict


def curve_panels(group, epochs):
    """Test error by epoch, a panel for each statistics batch. A run that diverged has no error from there on."""
    rows = {}
    for row in epochs:
        values = [row[name] for name in ("test_error", "test_loss", "train_loss") if row[name] is not None]
        good = row["test_error"] is not None and all(map(math.isfinite, values))
        rows.setdefault(row["id"], {})[row["epoch"]] = row["test_error"] if good else math.nan
    return _by_size(group, {run.id: rows[run.id] for run in group.runs if run.id in rows}, ERROR)


def gain_panels(group, layers):
    """The gain of each normalizer after the last epoch, by its place in the network; a panel for each batch."""
    values = {
        id: {place: row["gain"] for place, row in enumerate(rows, 1) if row["gain"] is not None}
        for id, rows in _last(layers).items()
    }
    kept = {run.id: values[run.id] for run in group.runs if values.get(run.id)}
    return _by_size(group, kept, GAIN)


def _by_size(group, values, quantity):
    """Panels from {run id: {x: value}}: a panel for each statistics batch, a line for each method."""
    panels = []
    for size in group.sizes:
        lines = {}
        for norm in group.methods:
            of = [values[run.id] for run in group.runs if (run.norm, run.size) == (norm, size) and run.id in values]
            if of:
                lines[norm] = _matrix(of)
        if lines:
            panels.append(Panel(images(size), quantity, lines))
    return panels


def _matrix(of):
    """(x, values (seeds, x)) from a {x: value} for each seed; nan where a seed has none."""
    x = sorted(set().union(*of))
    return np.array(x), np.array([[values.get(place, math.nan) for place in x] for values in of], np.float64)


def _last(layers):
    """{run id: its rows of its last epoch, in network order}."""
    newest = {}
    for row in layers:
        newest[row["id"]] = max(row["epoch"], newest.get(row["id"], 0))
    found = {}
    for row in layers:
        if row["epoch"] == newest[row["id"]]:
            found.setdefault(row["id"], []).append(row)
    return found


def recorded_size(group, layers):
    """The smallest statistics batch with a record, where estimates are hardest; None without one."""
    known = {row["id"] for row in layers}
    return min((run.size for run in group.runs if run.id in known), default=None)


def estimator_panels(group, layers, along):
    """Errors of batch statistics, prior and what was used, by "layer" (last epoch) or "epoch" (mean over layers).

    Of the methods with a record, at `recorded_size`; up to five to a row of panels, two rows for the two errors.
    Returns the panels, None where a row ends early, and how many stand side by side.
    """
    size = recorded_size(group, layers)
    runs = [run for run in group.runs if run.size == size]
    of_run = _last(layers) if along == "layer" else {}
    if along == "epoch":
        for row in layers:
            of_run.setdefault(row["id"], []).append(row)
    methods = [norm for norm in group.methods if any(run.norm == norm and run.id in of_run for run in runs)]
    panels, columns = [], -(-len(methods) // -(-len(methods) // WIDE))  # as many in each row, up to WIDE
    for start in range(0, len(methods), columns):
        for error, quantity in QUANTITIES.items():
            for norm in methods[start : start + columns]:
                of = [of_run[run.id] for run in runs if run.norm == norm and run.id in of_run]
                names = {name: [_errors(rows, f"{name}_{error}", along) for rows in of] for name in LOOKS}
                lines = {LOOKS[name][0]: _matrix(found) for name, found in names.items() if any(found)}
                panels.append(Panel(norm if error == "mean_error" else "", quantity, lines))
            panels.extend([None] * (columns - len(methods[start : start + columns])))
    return panels, columns


def _errors(rows, column, along):
    """{x: error} of one run: by place in the network, or by epoch the mean over normalizers.

    Where a method has a prior, the mean is over the normalizers with one, so that its three lines are of the same ones.
    """
    if along == "layer":
        return {place: row[column] for place, row in enumerate(rows, 1) if row[column] is not None}
    fused = any(row["prior_mean_error"] is not None for row in rows)
    found = {}
    for row in rows:
        if row[column] is not None and (row["prior_mean_error"] is not None or not fused):
            found.setdefault(row["epoch"], []).append(row[column])
    return {epoch: math.fsum(values) / len(values) for epoch, values in found.items()}


def estimator_looks(theme):
    """{name of the estimator: Look}, colours as in experiments.record_plot."""
    lift, part, letters = theme.lift
    return {
        name: draw.Look(draw.mixed(colour, lift, part), draw.mixed(colour, lift, letters), *DASHES[key], width)
        for key, (name, colour, width) in LOOKS.items()
    }


def figure(panels, found, columns, title, note, label, theme):
    """The picture of the panels: a line the mean over seeds, a band their range; one scale for each quantity.

    found: {name: Look}; the legend names those that are drawn. label: of the horizontal axis.
    """
    drawn = [panel for panel in panels if panel]
    names = {name: look for name, look in found.items() if any(name in panel.lines for panel in drawn)}
    head = draw.HEAD + draw.legend_shape(list(names))[1] + 0.35
    rows = math.ceil(len(panels) / columns)
    tall, gap = (2.5, 0.75) if columns <= 3 and rows <= 2 else (1.6, 0.65)
    gap += 0.2 * any("\n" in draw.broken(panel.title) for panel in drawn)  # a title of two lines
    result = draw.canvas(head + rows * (tall + gap) + 0.2, theme)
    limits = {q: limits_of([p for p in drawn if p.quantity == q]) for q in {p.quantity for p in drawn}}
    left = draw.LEFT + 0.35 * (drawn[0].quantity in QUANTITIES.values())  # room for two lines of words
    for index, axes in enumerate(draw.grid(result, theme, len(panels), columns, tall, head, left, gap)):
        panel = panels[index]
        if panel is None:
            axes.set_visible(False)
            continue
        _panel(axes, panel, names, limits[panel.quantity], theme)
        axes.tick_params(labelleft=index % columns == 0)
        if index % columns == 0:
            axes.set_ylabel(panel.quantity, fontsize=draw.FONT["tick"], color=theme.ink)
    draw.legend(result, theme, names, draw.HEAD)
    draw.foot(result, theme, label)
    draw.titles(result, theme, title, note)
    return result


def _panel(axes, panel, found, limits, theme):
    for name, (x, values) in panel.lines.items():
        look, error = found[name], panel.quantity == ERROR  # one of 0 is drawn at the lower edge
        values = np.maximum(values, limits[0]) if error else drawable(values, panel.quantity != GAIN)
        if len(values) > 1:
            band = np.fmin.reduce(values), np.fmax.reduce(values)
            axes.fill_between(x, *band, color=look.colour, alpha=0.13, linewidth=0)
        style = {"color": look.colour, "linestyle": look.style, "marker": look.marker, "linewidth": look.width}
        style |= {"markeredgecolor": theme.paper, "markersize": 6, "markevery": max(1, len(x) // 6)}
        axes.plot(x, values.mean(axis=0), **style)
    everything = np.concatenate([x for x, _ in panel.lines.values()])
    margin = 0.05 * max(np.ptp(everything), 1)
    axes.set_xlim(everything.min() - margin, everything.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    if panel.quantity == ERROR:
        draw.error_scale(axes.yaxis, limits)
    elif panel.quantity == GAIN:
        axes.set_ylim(*limits)
        axes.yaxis.set_major_locator(MaxNLocator(4))
    else:
        axes.set(yscale="log", ylim=limits)
        axes.yaxis.set_major_locator(FixedLocator(ticks(*limits)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    title = draw.broken(panel.title)
    room = axes.get_position().width * draw.WIDTH * 72 / 0.62
    size = min(draw.FONT["panel"], room / max(1, *map(len, title.split("\n"))))
    axes.set_title(title, fontsize=size, color=theme.ink, pad=7)


def limits_of(panels):
    """The limits of a vertical axis that all panels of one quantity share."""
    values = np.concatenate([values.ravel() for panel in panels for _, values in panel.lines.values()] or [np.ones(1)])
    if panels[0].quantity == ERROR:
        return draw.error_limits(values[np.isfinite(values)])
    values = drawable(values, panels[0].quantity != GAIN)
    values = values[np.isfinite(values)] if np.isfinite(values).any() else np.ones(1)
    if panels[0].quantity == GAIN:
        return 0.0, 1.08 * max(values.max(), 1e-3)
    low, high = values.min() / 1.4, values.max() * 1.4
    return (low, high) if high / low > 8 else ((low * high) ** 0.5 / 3, (low * high) ** 0.5 * 3)
