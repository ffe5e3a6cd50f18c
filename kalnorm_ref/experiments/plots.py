"""The picture of a comparison: test error against epoch, each line with its name and final error at its end."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from .checkpoint import write_atomic

NAME = "curves.png"
SIZE, DPI = (16, 9), 100  # 1600 x 900 pixels
# Okabe and Ito's palette, safe for colour-blind eyes, without its yellow, which is too pale for a line on white
COLOURS = ("#D55E00", "#E69F00", "#56B4E9", "#0072B2", "#009E73", "#CC79A7", "#000000")
STYLES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (8, 2, 2, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)  # percent
DENSE = (*(tick * unit for unit in (0.1, 1, 10) for tick in (1, 1.5, 2, 3, 4, 5, 6, 8)), 100)  # for a narrow range
FONT = {"title": 26, "subtitle": 17, "axis": 18, "tick": 17, "label": 19}
INK, PALE = "#222222", "#DDDDDD"
STATISTICS = {"running": "running averages", "batch": "batch statistics", "population": "population statistics"}
TITLES = {"digits": "Digits", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def draw(path, settings, errors):
    """Write curves.png, 1600 x 900 pixels.

    Shapes: errors {method: (seeds, epochs)}, test error in percent; a method's line is the mean over its seeds, its
        band their range.
    """
    figure = figure_of(settings, errors)
    write_atomic(path, lambda stream: figure.savefig(stream, format="png", dpi=DPI))


def figure_of(settings, errors):
    """The figure: figure.texts are the title, the note under it, and a label for each method."""
    figure = Figure(SIZE, DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.07, 0.11, 0.7, 0.70))
    epochs = max(values.shape[1] for values in errors.values())
    low = _axes(axes, errors, epochs)
    for index, (method, values) in enumerate(errors.items()):
        _line(axes, index, method, np.maximum(values, low))
    _titles(figure, settings, max(len(values) for values in errors.values()))
    _labels(figure, axes, errors, low)
    return figure


def _axes(axes, errors, epochs):
    """Scales, ticks and grid; returns the lower limit, where an error of 0 is drawn, as a log axis has no 0."""
    everything = np.concatenate([values.ravel() for values in errors.values()])
    positive = everything[everything > 0]
    high = min(110.0, 1.25 * max(everything.max(), 2.0))
    low = max(TICKS[0], 0.8 * min(positive.min(initial=high), high / 3))
    inside = [[tick for tick in ticks if low <= tick <= high] for ticks in (TICKS, DENSE)]
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(inside[0] if len(inside[0]) > 3 else inside[1]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlim(1 - 0.02 * epochs, epochs + 0.01 * epochs)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.set_xlabel("epoch", fontsize=FONT["axis"], color=INK, labelpad=8)
    plain(axes, FONT["tick"], 8)
    return low


def plain(axes, size, pad):
    """Axes with pale horizontal lines and the lower edge alone; ticks without marks, of a font size, `pad` away."""
    axes.grid(axis="y", color=PALE, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=size, colors=INK, length=0, pad=pad)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(INK)


def _line(axes, index, method, values):
    """Mean over seeds as a line with markers, the range over seeds as a band."""
    x = np.arange(1, values.shape[1] + 1)
    colour = COLOURS[index % len(COLOURS)]
    if len(values) > 1:
        axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.13, linewidth=0)
    axes.plot(
        x,
        values.mean(axis=0),
        color=colour,
        linestyle=STYLES[index % len(STYLES)],
        linewidth=3,
        marker=MARKERS[index % len(MARKERS)],
        markersize=9,
        markeredgecolor="white",
        markevery=max(1, len(x) // 12),
        label=method,
        clip_on=False,
    )


def _titles(figure, settings, seeds):
    title = f"{subject(settings)}: test error with {batch(settings)}"
    over = f"mean and range of {seeds} seeds" if seeds > 1 else "one seed"
    inference = f"{STATISTICS[settings.inference]} at inference; gradient batch {settings.gradient_batch_size}"
    titles(figure, title, f"Test error (%), log scale; {inference}; {over}")


def subject(settings):
    """Data and network in words."""
    network = f"ResNet-{settings.depth}" if settings.model == "resnet" else settings.model
    return f"{TITLES[settings.data]}, {network}"


def batch(settings):
    """The statistics batch in words."""
    size = settings.statistics_batch_size
    return "1 image per statistics batch" if size == 1 else f"{size} images per statistics batch"


def titles(figure, title, note):
    """The title and the note under it, as every picture here has them; smaller where they would not fit."""
    figure.text(0.03, 0.955, title, fontsize=FONT["title"], fontweight="bold", color=INK, va="top")
    figure.text(0.03, 0.885, note, fontsize=FONT["subtitle"], color="#555555", va="top")
    for text in figure.texts[-2:]:
        width = text.get_window_extent(figure.canvas.get_renderer()).width
        text.set_fontsize(text.get_fontsize() * min(1, 0.94 * SIZE[0] * DPI / width))


def _labels(figure, axes, errors, low):
    """Name and final error beside the end of each line, pushed apart where ends meet, in room made for the longest."""
    names, ends = list(errors), [float(np.mean(values[:, -1])) for values in errors.values()]
    pixels = SIZE[0] * DPI, SIZE[1] * DPI
    bottom, top = axes.transAxes.transform([(0, 0), (0, 1)])[:, 1]
    size = min(FONT["label"], (top - bottom) / len(names) / 1.35 * 72 / DPI)
    texts = [
        figure.text(0, 0, f"{name}  {end:.1f} %", fontsize=size, fontweight="bold", va="center", color=_dark(i))
        for i, (name, end) in enumerate(zip(names, ends, strict=True))
    ]
    renderer = figure.canvas.get_renderer()
    widest = max(text.get_window_extent(renderer).width for text in texts)
    if widest > 0.45 * pixels[0]:
        for text in texts:
            text.set_fontsize(size * 0.45 * pixels[0] / widest)
        widest = 0.45 * pixels[0]
    box = axes.get_position()
    axes.set_position((box.x0, box.y0, 1 - box.x0 - (widest + 76) / pixels[0], box.height))
    gap = 1.1 * max(text.get_window_extent(renderer).height for text in texts)
    places = [(len(errors[name][0]), max(end, low)) for name, end in zip(names, ends, strict=True)]
    points = axes.transData.transform(places)
    heights = spread(points[:, 1], gap, bottom, top)
    right = axes.transAxes.transform((1, 0))[0]
    for text, point, height, index in zip(texts, points, heights, range(len(texts)), strict=True):
        text.set_position(((right + 52) / pixels[0], height / pixels[1]))
        leader = np.array([(point[0] + 10, point[1]), (right + 36, height)]) / pixels
        style = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)], "markevery": [1]}
        look = {"linewidth": 1.5, "markersize": 9, "markeredgecolor": "white"}
        figure.add_artist(Line2D(leader[:, 0], leader[:, 1], transform=figure.transFigure, **style, **look))


def _dark(index):
    """A line's colour, darker: letters need more contrast than lines."""
    return tuple(0.75 * part for part in to_rgb(COLOURS[index % len(COLOURS)]))


def spread(heights, gap, low, high):
    """Move the heights as little as possible (least squares) so that neighbours are at least `gap` apart.

    In sorted order, h_k - k gap has to be non-decreasing: an isotonic regression, by pooling adjacent violators. The
    result is then kept within [low, high], where n gaps have to fit.

    >>> spread([5.0, 5.0, 9.0], 2.0, 0.0, 20.0).tolist()
    [4.0, 6.0, 9.0]
    """
    order = np.argsort(heights, kind="stable")
    pools = []  # (sum, count) of neighbours that touch
    for rank, index in enumerate(order):
        pools.append((heights[index] - rank * gap, 1))
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            (a, m), (b, n) = pools.pop(), pools.pop()
            pools.append((a + b, m + n))
    level = np.concatenate([np.full(count, total / count) for total, count in pools])
    level = np.clip(level, low, max(low, high - (len(order) - 1) * gap))
    moved = np.empty(len(order))
    moved[order] = level + gap * np.arange(len(order))
    return moved
