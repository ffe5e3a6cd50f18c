"""The picture of growth: time against each size that grows, with the straight line through it."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..experiments.checkpoint import write_atomic
from ..experiments.plots import COLOURS, DPI, INK, MARKERS, SIZE, plain, titles

NAME = "growth.png"
TITLE = "Time against batch, statistics batches, depth and channels"
FONT = {"axis": 16, "tick": 15, "label": 15}
PANELS = ((0.06, 0.50), (0.555, 0.50), (0.06, 0.085), (0.555, 0.085))  # left and lower edge


def draw(path, rows):
    """Write growth.png, 1600 x 900 pixels, from the rows of the part growth."""
    figure = figure_of(rows)
    write_atomic(path, lambda stream: figure.savefig(stream, format="png", dpi=DPI))


def figure_of(rows):
    """The figure: a panel for each size that grows, in each a line for each work."""
    figure = Figure(SIZE, DPI, facecolor="white")
    FigureCanvasAgg(figure)
    overs = list(dict.fromkeys(row["case"]["over"] for row in rows))
    for over, (left, low) in zip(overs, PANELS, strict=False):
        axes = figure.add_axes((left, low, 0.42, 0.26))
        for index, row in enumerate(row for row in rows if row["case"]["over"] == over):
            _line(axes, index, row)
        _finish(axes, over)
    titles(figure, TITLE, "Milliseconds, median and quartiles, with the straight line of least squares")
    return figure


def _line(axes, index, row):
    sizes, columns, fit = np.array(row["case"]["sizes"]), list(row["columns"].values()), row["fit"]
    low, median, high = (1000 * np.array([c[name] for c in columns]) for name in ("low", "median", "high"))
    colour = COLOURS[(0, 3)[index % 2]]
    ends = np.array([0, sizes.max()])
    axes.plot(ends, 1000 * (fit["intercept"] + fit["slope"] * ends), color=colour, linewidth=2, alpha=0.5)
    axes.errorbar(
        sizes,
        median,
        yerr=(median - low, high - median),
        color=colour,
        linestyle="none",
        marker=MARKERS[index],
        markersize=9,
        markeredgecolor="white",
        elinewidth=2,
        label=f"{row['case']['work']}: {1000 * fit['slope']:.3g} ms each, R² {fit['r2']:.3f}",
        clip_on=False,
    )


def _finish(axes, over):
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    axes.set_xlim(0, 1.02 * axes.get_xlim()[1])
    axes.set_xlabel(over, fontsize=FONT["axis"], color=INK, labelpad=4)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    above = {"loc": "lower left", "bbox_to_anchor": (-0.02, 0.98), "borderaxespad": 0}
    axes.legend(**above, fontsize=FONT["label"], frameon=False, labelcolor=INK, handletextpad=0.3)
    plain(axes, FONT["tick"], 5)
