"""The picture of a record: a column for each normalizer, a row for each quantity, epochs from left to right."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from .checkpoint import write_atomic
from .plots import DPI, INK, MARKERS, SIZE, batch, plain, subject, titles

NAME = "record.png"
COLUMNS = 8  # at most, of the normalizers
FONT = {"column": 16, "row": 14, "tick": 13, "legend": 17}
ALONE = "#009E73"
LOOKS = {  # of each estimator: name, colour, line width
    "batch": ("batch statistics", "#E69F00", 5),
    "prior": ("prior", "#0072B2", 3),
    "used": ("used to standardize", "#000000", 1.8),
}
ROWS = (  # label, columns of the record, whether the scale is logarithmic
    ("gain", ("gain",), False),
    ("variance ratio\nprior / batch", ("variance_ratio",), True),
    ("mean error²\n/ variance", tuple(f"{name}_mean_error" for name in LOOKS), True),
    ("log-variance\nerror²", tuple(f"{name}_log_var_error" for name in LOOKS), True),
)


def draw(path, settings, rows):
    """Write record.png, 1600 x 900 pixels, from the rows of a record."""
    figure = figure_of(settings, rows)
    write_atomic(path, lambda stream: figure.savefig(stream, format="png", dpi=DPI))


def figure_of(settings, rows):
    """The figure: figure.axes are its panels, row by row; a quantity that no normalizer has gets no row."""
    figure = Figure(SIZE, DPI, facecolor="white")
    FigureCanvasAgg(figure)
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    shown = [layers[i] for i in np.unique(np.linspace(0, len(layers) - 1, COLUMNS).round().astype(int))]
    kinds = [kind for kind in ROWS if any(row[name] is not None for row in rows for name in kind[1])]
    grid = figure.add_gridspec(len(kinds), len(shown), left=0.09, right=0.98, bottom=0.09, top=0.755, wspace=0.1)
    for line, kind in enumerate(kinds):
        limits = _limits([row[name] for row in rows if row["layer"] in shown for name in kind[1]], kind[2])
        for column, layer in enumerate(shown):
            axes = figure.add_subplot(grid[line, column])
            of_layer = [row for row in rows if row["layer"] == layer]
            _panel(axes, of_layer, kind, limits)
            axes.tick_params(labelleft=column == 0, labelbottom=line == len(kinds) - 1)
            if column == 0:
                axes.set_ylabel(kind[0], fontsize=FONT["row"], color=INK)
            if line == 0:
                axes.set_title(layer, fontsize=FONT["column"], color=INK, pad=10)
    figure.align_ylabels()
    figure.text(0.03, 0.755 + 16 / (SIZE[1] * DPI), "layer", fontsize=FONT["column"], color=INK)
    figure.text(0.535, 0.02, "epoch", fontsize=FONT["legend"], color=INK, ha="center")
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines if line.get_label() in LABELS}
    place = {"loc": "upper left", "bbox_to_anchor": (0.022, 0.86), "ncols": 3, "frameon": False}
    figure.legend(handles=[lines[name] for name in LABELS if name in lines], fontsize=FONT["legend"], **place)
    some = f"{len(shown)} of {len(layers)}" if len(shown) < len(layers) else f"all {len(layers)}"
    title = f"{subject(settings)}, {settings.norm}: the estimators of each normalizer"
    against = "Errors against the moments of the same training images, 256 at most, all together"
    titles(figure, title, f"{against}; {batch(settings)}; {some} normalizers")
    return figure


LABELS = tuple(name for name, _, _ in LOOKS.values())


def _panel(axes, rows, kind, limits):
    """One normalizer's curves of one row of the picture."""
    _, names, logarithmic = kind
    epochs, empty = [row["epoch"] for row in rows], True
    for index, name in enumerate(names):
        drawn = drawable([row[name] for row in rows], logarithmic)
        label, colour, width = LOOKS[name.partition("_")[0]] if len(names) > 1 else ("_", ALONE, 3)
        if not np.isnan(drawn).all():
            look = {"marker": MARKERS[index], "markersize": 7, "markeredgecolor": "white", "linewidth": width}
            empty = False
            axes.plot(epochs, drawn, color=colour, label=label, markevery=max(1, len(epochs) // 6), **look)
    if empty:
        axes.text(0.5, 0.5, "none", fontsize=FONT["row"], color="#777777", transform=axes.transAxes, ha="center")
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator(ticks(*limits)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_ylim(*limits)
    margin = 0.06 * max(epochs[-1] - epochs[0], 1)
    axes.set_xlim(epochs[0] - margin, epochs[-1] + margin)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    plain(axes, FONT["tick"], 5)


def _limits(values, logarithmic):
    """Limits of an axis that all panels of a row share."""
    values = drawable(values, logarithmic)
    values = values[~np.isnan(values)] if np.isfinite(values).any() else np.ones(1)
    if not logarithmic:
        return 0.0, 1.15 * max(values.max(), 1e-3)
    low, high = values.min() / 1.3, values.max() * 1.3
    return (low, high) if high / low > 8 else ((low * high) ** 0.5 / 3, (low * high) ** 0.5 * 3)


def drawable(values, logarithmic):
    """The values as an array, NaN where an axis cannot show them: None, what a diverged run leaves, 0 among powers."""
    values = np.array(values, np.float64)  # None becomes NaN
    return np.where((values >= (1e-30 if logarithmic else 0)) & (values <= 1e30), values, np.nan)


def ticks(low, high):
    """At most five numbers for a logarithmic axis: 1, 2 and 5 times powers of 10, or as many powers as there is room.

    >>> ticks(0.04, 0.9), ticks(0.004, 30)
    ([0.05, 0.1, 0.2, 0.5], [0.01, 0.1, 1.0, 10.0])
    """
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for digits, step in ((("1", "2", "5"), 1), *((("1",), 2**k) for k in range(5))):
        found = [float(f"{digit}e{power}") for power in powers if power % step == 0 for digit in digits]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= 5:
            break
    return found
