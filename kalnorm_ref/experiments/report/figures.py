"""The pictures of test errors: against the statistics batch, by inference mode."""

import math

import numpy as np
from matplotlib.ticker import FixedLocator

from ... import models
from ..plots import STATISTICS
from . import draw
from .statistics import estimate, finite

MODES = {"running": ("o", "#0072B2"), "batch": ("s", "#D55E00"), "population": ("D", "#009E73")}


def uses_batches(norm):
    """Whether a method takes statistics over images, so that the statistics batch means something to it."""
    name = norm.partition(":")[0]
    return name not in models.NORMS or "inference" in models.norm_options(name)


def error_figure(group, modes, methods, title, theme):
    """Error against statistics batch, a panel for each mode: a dot a seed, a line the means, a bar the interval."""
    found, tall = draw.looks(methods, theme), 5.2
    above = 0.25 if len(modes) == 1 else 0.7  # room for crosses, and for the name of a panel over them
    figure = draw.canvas(draw.HEAD + draw.FOOT + len(modes) * (tall + above) + (len(modes) - 1) * 0.4, theme)
    label_sizes, room = draw.label_sizes(figure, group.methods)
    cells = {mode: {norm: [group.cell(norm, s, mode) for s in group.sizes] for norm in group.methods} for mode in modes}
    drawn = [e for of in cells.values() for line in of.values() for cell in line for e in finite(cell).values()]
    limits = draw.error_limits(drawn)
    for index, mode in enumerate(modes):
        top = draw.HEAD + above + index * (tall + above + 0.4)
        axes = draw.panel(figure, theme, draw.LEFT, top, draw.WIDTH - draw.LEFT - max(room, 1.0) - 0.65, tall)
        draw.error_scale(axes.yaxis, limits)
        _sizes_axis(axes, group.sizes)
        ends = _error_lines(axes, group, cells[mode], found, limits)
        axes.set_ylabel("test error, %", fontsize=draw.FONT["axis"], color=theme.ink)
        if len(modes) > 1:
            axes.set_title(STATISTICS[mode], fontsize=draw.FONT["panel"], color=theme.ink, loc="left", pad=26)
        if ends:
            draw.label_ends(figure, axes, ends, found, label_sizes)
        _crosses(axes, group, cells[mode], found, theme)
    draw.foot(figure, theme, "images that share one mean and variance (log scale)")
    at = "" if len(modes) > 1 else f"{STATISTICS[modes[0]]} at inference; "
    draw.titles(figure, theme, title, f"{at}dots: seeds; lines: means; bars: 95 % interval of the mean; log scales")
    return figure


def _sizes_axis(axes, sizes):
    places = np.log2(sizes)
    axes.set_xlim(places[0] - 0.4, places[-1] + 0.4)
    axes.xaxis.set_major_locator(FixedLocator(list(places)))
    axes.set_xticklabels([str(size) for size in sizes])


def _dodge(group):
    """{method: shift on the log2 axis}, so that methods of equal error stay to be told apart."""
    nearest, count = min(np.diff(np.log2(group.sizes)), default=1.0), len(group.methods)
    shifts = np.linspace(-0.5, 0.5, count) if count > 1 else np.zeros(1)
    return dict(zip(group.methods, (min(nearest, 1.0) * min(0.45, 0.06 * count) * shifts).tolist(), strict=True))


def _error_lines(axes, group, cells, found, limits):
    """Draw every method; returns {method: end of its line}."""
    ends = {}
    for norm, shift in _dodge(group).items():
        look = found[norm]
        line = [(math.log2(s) + shift, list(finite(c).values())) for s, c in zip(group.sizes, cells[norm], strict=True)]
        line = [(x, values) for x, values in line if values]
        if not line:
            continue
        means = [(x, max(estimate(values).mean, limits[0])) for x, values in line]
        for x, values in line:
            _seeds(axes, x, values, look.colour, limits)
        style = {"color": look.colour, "linestyle": look.style, "marker": look.marker}
        style |= {"markeredgecolor": axes.get_facecolor()}
        if len(line) == 1 and not uses_batches(norm):
            axes.axhline(means[0][1], color=look.colour, linestyle=look.style, linewidth=1.5, alpha=0.8)
        axes.plot(*zip(*means, strict=True), linewidth=2.4, markersize=8, **style)
        ends[norm] = means[-1]
    return ends


def _seeds(axes, x, values, colour, limits):
    """A dot for each seed, and a bar for the interval of their mean."""
    seeds = np.maximum(values, limits[0])
    axes.plot([x] * len(values), seeds, "o", color=colour, alpha=0.45, markersize=3.5)
    _, mean, half = estimate(values)
    if half is not None:
        bar = np.clip([mean - half, mean + half], *limits)
        axes.plot([x, x], bar, color=colour, alpha=0.55, linewidth=2, solid_capstyle="butt")


def _crosses(axes, group, cells, found, theme):
    """A cross above the panel for each cell of which a run diverged."""
    any_lost = False
    for norm, shift in _dodge(group).items():
        for size, errors in zip(group.sizes, cells[norm], strict=True):
            if len(finite(errors)) < len(errors):
                any_lost = True
                place = {"transform": axes.get_xaxis_transform(), "clip_on": False}
                style = {"marker": "x", "markersize": 8, "markeredgewidth": 2.2, "color": found[norm].colour}
                axes.plot([math.log2(size) + shift], [1.03], **place, **style)
    if any_lost:
        place = {"transform": axes.transAxes, "va": "center", "ha": "left"}
        axes.text(1.0, 1.03, " ✕ a run diverged", fontsize=draw.FONT["note"], color=theme.soft, **place)


def mode_figure(group, title, theme):
    """Error in each inference mode: a panel for each statistics batch, a row for each method that has modes."""
    methods = [norm for norm in group.methods if uses_batches(norm)]
    columns, tall = min(3, len(group.sizes)), 0.2 + 0.42 * len(methods)
    rows, head = math.ceil(len(group.sizes) / columns), draw.HEAD + 0.7
    figure = draw.canvas(head + rows * (tall + 0.75) + 0.15, theme)
    label_sizes, room = draw.label_sizes(figure, methods, draw.FONT["tick"])
    found = {
        mode: draw.Look(draw.mixed(colour, *theme.lift[:2]), theme.ink, "none", marker)
        for mode, (marker, colour) in MODES.items()
        if mode in group.modes
    }
    places = [(s, norm, mode) for s in group.sizes for norm in methods for mode in group.modes]
    cells = {place: finite(group.cell(place[1], place[0], place[2])) for place in places}
    limits = draw.error_limits([error for errors in cells.values() for error in errors.values()])
    panels = draw.grid(figure, theme, len(group.sizes), columns, tall, head, left=room + 0.3, gap=0.75)
    for index, (axes, s) in enumerate(zip(panels, group.sizes, strict=True)):
        axes.grid(False, axis="y")
        axes.grid(True, axis="x", color=theme.grid, linewidth=1)
        draw.error_scale(axes.xaxis, limits, few=True)
        axes.set_ylim(len(methods) - 0.5, -0.5)
        axes.yaxis.set_major_locator(FixedLocator(range(len(methods))))
        axes.set_yticklabels(map(draw.broken, methods) if index % columns == 0 else [])
        for norm, label in zip(methods, axes.get_yticklabels(), strict=True):
            label.set_fontsize(label_sizes[norm])
        axes.set_title(images(s), fontsize=draw.FONT["panel"], color=theme.ink, pad=8)
        for row, norm in enumerate(methods):
            _mode_row(axes, row, {mode: cells[s, norm, mode] for mode in group.modes}, found, limits, theme)
    draw.legend(figure, theme, {STATISTICS[mode]: look for mode, look in found.items()}, draw.HEAD)
    draw.foot(figure, theme, "test error, % (log scale), mean over seeds")
    draw.titles(figure, theme, title, "A row: one method's networks, evaluated with each kind of statistics")
    return figure


def _mode_row(axes, row, errors, found, limits, theme):
    """One method's means, joined by a line."""
    means = {mode: max(estimate(list(e.values())).mean, limits[0]) for mode, e in errors.items() if e}
    if not means:
        place = {"transform": axes.get_yaxis_transform(), "va": "center"}
        axes.text(0.02, row, "none finished", fontsize=draw.FONT["note"], color=theme.soft, **place)
        return
    heights = dict(zip(found, row + np.linspace(-0.22, 0.22, len(found)), strict=True))
    axes.plot(list(means.values()), [heights[mode] for mode in means], color=theme.soft, linewidth=1.2)
    for mode, mean in means.items():
        look = found[mode]
        axes.plot([mean], [heights[mode]], look.marker, color=look.colour, markersize=8, markeredgecolor=theme.paper)


def images(size):
    """The statistics batch in words, above a panel."""
    return f"{size} image{'s' * (size > 1)} a batch"
