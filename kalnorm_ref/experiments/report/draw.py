"""What the pictures of a report share: two themes, a look for each method, a grid of panels, words that stay apart."""

import io
import math
from typing import NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..plots import COLOURS, DENSE, INK, MARKERS, PALE, STYLES, TICKS, spread

WIDTH, DPI = 10, 160  # inches, and pixels of each
MORE = ("#882255", "#7F7F7F", "#8C6D31")  # for the methods after the seventh
LABEL = 2.3  # inches, at most, of a label beside a line
FONT = {"title": 19, "note": 12.5, "axis": 14, "tick": 13, "label": 14, "panel": 14}
LEFT, HEAD, FOOT = 0.8, 1.15, 0.75  # inches beside the panels


class Theme(NamedTuple):
    """Colours of paper and ink; lines of a method are mixed with `lift`, its letters more."""

    paper: str
    ink: str
    soft: str
    grid: str
    lift: tuple  # a colour, its part in lines, its part in letters


LIGHT = Theme("#ffffff", INK, "#555555", PALE, ("#000000", 0, 0.25))
DARK = Theme("#1c2027", "#eceff3", "#a9b3bf", "#3a424d", ("#ffffff", 0.2, 0.4))


class Look(NamedTuple):
    """How a method is drawn, in every picture of a report."""

    colour: str
    letters: str
    style: object
    marker: str
    width: float = 2


def mixed(colour, lift, part):
    """A colour moved towards another by a part of the way; black, which a dark page would swallow, goes all of it."""
    a, b = to_rgb(colour), to_rgb(lift)
    part = 0.9 if a == (0, 0, 0) and part else part
    return to_hex([(1 - part) * x + part * y for x, y in zip(a, b, strict=True)])


def looks(methods, theme):
    """{method: Look}; as in experiments.plots, by place among all methods of the report, but with more colours."""
    lift, lines, letters = theme.lift
    colours, found = COLOURS + MORE, {}
    for index, norm in enumerate(methods):
        colour = colours[index % len(colours)]
        style, marker = STYLES[index % len(STYLES)], MARKERS[index % len(MARKERS)]
        found[norm] = Look(mixed(colour, lift, lines), mixed(colour, lift, letters), style, marker)
    return found


def png(draw, theme):
    """Bytes of the figure that draw(theme) returns: the same from the same numbers, whatever matplotlibrc says."""
    stream = io.BytesIO()
    with matplotlib.style.context("default"), np.errstate(all="ignore"):
        draw(theme).savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()


def canvas(height, theme):
    """An empty figure, `height` inches high."""
    figure = Figure((WIDTH, height), DPI, facecolor=theme.paper)
    FigureCanvasAgg(figure)
    return figure


def panel(figure, theme, left, top, width, height):
    """Axes at a place in inches from the upper left corner, without frame but for the lower edge."""
    high = figure.get_figheight()
    axes = figure.add_axes((left / WIDTH, 1 - (top + height) / high, width / WIDTH, height / high))
    axes.set_facecolor(theme.paper)
    axes.grid(axis="y", color=theme.grid, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=FONT["tick"], colors=theme.ink, length=0, pad=6)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.soft)
    return axes


def grid(figure, theme, count, columns, height, head, left=LEFT, gap=0.65):
    """`count` panels, `columns` side by side, each `height` inches high, below `head` inches."""
    width = (WIDTH - left - 0.3 - 0.3 * (columns - 1)) / columns
    places = [divmod(index, columns) for index in range(count)]
    return [
        panel(figure, theme, left + column * (width + 0.3), head + row * (height + gap), width, height)
        for row, column in places
    ]


def titles(figure, theme, title, note):
    """The title and the note under it; smaller where they would not fit."""
    high = figure.get_figheight()
    figure.text(
        0.3 / WIDTH, 1 - 0.25 / high, title, fontsize=FONT["title"], fontweight="bold", color=theme.ink, va="top"
    )
    figure.text(0.3 / WIDTH, 1 - 0.65 / high, note, fontsize=FONT["note"], color=theme.soft, va="top")
    for text in figure.texts[-2:]:
        width = text.get_window_extent(figure.canvas.get_renderer()).width
        text.set_fontsize(text.get_fontsize() * min(1, (WIDTH - 0.6) * DPI / width))


def foot(figure, theme, text):
    """A label under all panels."""
    figure.text(0.5, 0.2 / figure.get_figheight(), text, fontsize=FONT["axis"], color=theme.ink, ha="center")


def error_limits(values):
    """Limits of a logarithmic axis of errors in percent. An error of 0 is drawn at the lower one."""
    values = np.asarray(values, np.float64)
    high = min(110.0, 1.15 * max(values.max(initial=0), 2.0))
    positive = values[values > 0]
    return max(TICKS[0], 0.85 * min(positive.min(initial=high), high / 3)), high


def error_scale(axis, limits, few=False):
    """A logarithmic axis (axes.xaxis or axes.yaxis) of errors in percent, with plain numbers."""
    low, high = limits
    inside = [[tick for tick in ticks if low <= tick <= high] for ticks in (TICKS, DENSE)]
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": limits})
    axis.set_major_locator(FixedLocator(inside[0] if few or len(inside[0]) > 3 else inside[1]))
    axis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
    axis.set_minor_locator(NullLocator())


def legend_shape(names):
    """(columns, inches) of a legend with these names: as many columns, up to five, as there is room for."""
    for columns in range(min(len(names), 5), 0, -1):
        parts = [names[part[0] : part[-1] + 1] for part in np.array_split(range(len(names)), columns)]
        if columns == 1 or sum(0.85 + 0.108 * max(map(len, part)) for part in parts) < WIDTH - 0.4:
            return columns, 0.15 + 0.27 * math.ceil(len(names) / columns)


def legend(figure, theme, found, top):
    """Names with their lines, `top` inches from above; found: {name: Look}."""
    handles = [
        Line2D([], [], color=k.colour, linestyle=k.style, marker=k.marker, label=name, linewidth=2.5)
        for name, k in found.items()
    ]
    place = {"loc": "upper left", "bbox_to_anchor": (0.2 / WIDTH, 1 - top / figure.get_figheight()), "frameon": False}
    style = {"fontsize": FONT["note"], "labelcolor": theme.ink, "handlelength": 2.6, "columnspacing": 1.4}
    figure.legend(handles=handles, ncols=legend_shape(list(found))[0], borderaxespad=0, **place, **style)


def broken(name):
    """A method in two lines, its options in the second, where it has some."""
    return name.replace(":", ":\n", 1)


def label_sizes(figure, names, size=FONT["label"]):
    """({name: font size}, inches) of labels beside a panel; smaller letters for a name that would take too much."""
    sizes, room = {}, 0
    for name in names:
        text = figure.text(0, 0, broken(name), fontsize=size, fontweight="bold")
        width = text.get_window_extent(figure.canvas.get_renderer()).width / DPI
        text.remove()
        sizes[name], room = size * min(1, LABEL / width), max(room, min(width, LABEL))
    return sizes, room


def label_ends(figure, axes, ends, found, sizes):
    """The name of each line beside its end, pushed apart where ends meet; ends: {name: (x, y) in data}."""
    bottom, top = axes.transAxes.transform([(0, 0), (0, 1)])[:, 1]
    lines = [name for name in ends for _ in broken(name).split("\n")]
    size = min(FONT["label"], (top - bottom) / len(lines) / 1.3 * 72 / DPI)
    points = {name: axes.transData.transform(end) for name, end in ends.items()}
    right = axes.transAxes.transform((1, 0))[0]
    heights = spread(np.array([points[name][1] for name in lines]), 1.3 * size / 72 * DPI, bottom, top)
    pixels = np.array([WIDTH, figure.get_figheight()]) * DPI
    for name, point in points.items():
        look, height = found[name], np.mean([h for h, line in zip(heights, lines, strict=True) if line == name])
        across = "center" if ":" in name else "center_baseline"
        style = {"va": across, "color": look.letters, "fontweight": "bold", "linespacing": 1.1}
        place = (right + 62) / pixels[0], height / pixels[1]
        figure.text(*place, broken(name), fontsize=min(size, sizes[name]), **style)
        leader = np.array([(point[0] + 10, point[1]), (right + 46, height)]) / pixels
        style = {"color": look.colour, "marker": look.marker, "markevery": [1], "markeredgecolor": axes.get_facecolor()}
        line = Line2D(*leader.T, transform=figure.transFigure, linewidth=1.2, markersize=8, **style)
        figure.add_artist(line)
