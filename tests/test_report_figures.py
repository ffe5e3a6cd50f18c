"""Holds the pictures of a report to their promises: what is drawn is what was measured, and words stay apart."""

import functools
import math

import made_sweeps as made
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from kalnorm_ref.experiments import report
from kalnorm_ref.experiments.report import pictures
from kalnorm_ref.experiments.report.blocks import Picture
from kalnorm_ref.experiments.report.draw import DARK, DPI, LIGHT, looks, png
from kalnorm_ref.experiments.report.figures import error_figure, images, mode_figure, uses_batches
from kalnorm_ref.experiments.report.panels import (
    ERROR,
    Panel,
    curve_panels,
    estimator_looks,
    estimator_panels,
    gain_panels,
)
from kalnorm_ref.experiments.report.panels import figure as panel_figure
from kalnorm_ref.experiments.report.read import read
from kalnorm_ref.experiments.report.statistics import estimate, groups

LONG = "kn-analytic:push=released,gain=0.1,shortcut=prior,eps=0.00001,decay=0.95"
SMALL = made.sweep(("bn", "kn-learned", "gn"), (1, 4), (0, 1))
LOST = "bn.1.1"


def group_of(folder, rows, curves=None, recorded=None):
    sweep = read([made.write(folder, list(rows), curves, recorded)])
    [group] = groups(sweep.runs)
    return group, sweep


@pytest.mark.parametrize(
    ("curves", "recorded", "names"),
    [
        (False, None, {"error", "inference"}),
        (True, None, {"error", "inference", "curves"}),
        (False, (6,), {"error", "inference", "estimators-layer", "gain"}),
        (True, (1, 6), {"error", "inference", "curves", "estimators-layer", "estimators-epoch", "gain"}),
    ],
)
def test_a_picture_is_there_only_if_its_data_is(tmp_path, monkeypatch, curves, recorded, names):
    monkeypatch.setattr(pictures, "png", lambda draw, theme: b"")
    folder = made.write(
        tmp_path, SMALL, made.epochs(SMALL) if curves else None, recorded and made.layers(SMALL, recorded)
    )
    blocks = [b for b in report.blocks_of(report.prepare([folder], tmp_path / "out")) if isinstance(b, Picture)]
    assert {block.name for block in blocks} == {f"{name}.png" for name in names}
    assert all(block.caption.endswith("Digits, cnn5; seeds 0, 1.") for block in blocks)


def test_methods_without_statistics_have_no_modes_to_draw(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "png", lambda draw, theme: b"")
    folder = made.write(tmp_path, made.sweep(("gn", "none"), (1,), (0, 1)))
    blocks = report.blocks_of(report.prepare([folder], tmp_path / "out"))
    assert [block.name for block in blocks if isinstance(block, Picture)] == ["error.png"]


# ---- what is drawn ----


def lines_at(axes, colour, marker):
    return [line for line in axes.lines if line.get_color() == colour and line.get_marker() == marker]


def test_the_first_picture_draws_seeds_means_and_intervals(tmp_path):
    rows = [made.diverge(row) if row["id"] == LOST else row for row in SMALL]
    group, _ = group_of(tmp_path, rows)
    figure = error_figure(group, ["running", "batch"], group.methods, "title", LIGHT)
    assert len(figure.axes) == 2
    for axes, mode in zip(figure.axes, ("running", "batch"), strict=True):
        for norm, look in looks(group.methods, LIGHT).items():
            cells = [group.cell(norm, size, mode) for size in (1, 4)]
            [line] = [line for line in lines_at(axes, look.colour, look.marker) if line.get_linewidth() == 2.4]
            found = [estimate([e for e in cell.values() if math.isfinite(e)]) for cell in cells]
            np.testing.assert_allclose(line.get_ydata(), [e.mean for e in found])
            np.testing.assert_allclose(np.round(line.get_xdata()), [0, 2])
            dots = [line.get_ydata() for line in lines_at(axes, look.colour, "o") if line.get_markersize() == 3.5]
            drawn = sorted(float(y) for ys in dots for y in ys)
            assert drawn == sorted(e for cell in cells for e in cell.values() if math.isfinite(e))
            bars = [
                line.get_ydata() for line in axes.lines if line.get_color() == look.colour and line.get_alpha() == 0.55
            ]
            low, high = axes.get_ylim()
            wanted = [np.clip([e.mean - e.half, e.mean + e.half], low, high) for e in found if e.half is not None]
            np.testing.assert_allclose(bars, wanted)
            crosses = lines_at(axes, look.colour, "x")
            assert len(crosses) == (norm == "bn")
    assert sum("a run diverged" in text.get_text() for axes in figure.axes for text in axes.texts) == 2


def test_a_method_without_statistics_run_once_is_a_line_across(tmp_path):
    rows = [*made.sweep(("bn",), (1, 4), (0, 1)), *made.sweep(("gn", "brn"), (1,), (0, 1))]
    group, _ = group_of(tmp_path, rows)
    [axes] = error_figure(group, ["running"], group.methods, "title", LIGHT).axes
    mean = estimate(list(group.cell("gn", 1, "running").values())).mean
    across = [line for line in axes.lines if list(line.get_xdata()) == [0, 1]]
    assert [list(line.get_ydata()) for line in across] == [[mean, mean]]
    assert uses_batches("bn") and uses_batches("kn-learned:gain=0.5")
    assert not any(map(uses_batches, ("gn", "gkn", "none", "ln", "in")))


def test_the_picture_of_modes_draws_each_mean(tmp_path):
    group, _ = group_of(tmp_path, SMALL)
    figure = mode_figure(group, "title", LIGHT)
    for axes, size in zip(figure.axes, (1, 4), strict=True):
        assert axes.get_title() == images(size)
        drawn = sorted(float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() in ("o", "s", "D"))
        cells = [group.cell(norm, size, mode) for norm in ("bn", "kn-learned") for mode in made.MODES]
        assert drawn == pytest.approx(sorted(estimate(list(cell.values())).mean for cell in cells))


def test_a_curve_is_the_mean_over_seeds_and_ends_where_one_diverged(tmp_path):
    group, sweep = group_of(tmp_path, SMALL, made.epochs(SMALL, {LOST}))
    panels = curve_panels(group, sweep.epochs)
    assert [panel.title for panel in panels] == ["1 image a batch", "4 images a batch"]
    figure = panel_figure(panels, looks(group.methods, LIGHT), 2, "t", "n", "epoch", LIGHT)
    for axes, size in zip(figure.axes, (1, 4), strict=True):
        for line, norm in zip(axes.lines, ("bn", "kn-learned", "gn"), strict=True):
            of = {
                e: [r["test_error"] for r in sweep.epochs if r["epoch"] == e and r["id"].startswith(f"{norm}.{size}.")]
                for e in range(1, 7)
            }
            wanted = [math.nan if (norm, size) == ("bn", 1) and e >= 3 else np.mean(of[e]) for e in of]
            np.testing.assert_allclose(line.get_ydata(), wanted)


def test_an_error_of_zero_is_drawn_at_the_lower_edge():
    panels = [Panel("t", ERROR, {"bn": (np.array([1, 2]), np.array([[20.0, 0.0]]))})]
    [axes] = panel_figure(panels, looks(["bn"], LIGHT), 1, "t", "n", "epoch", LIGHT).axes
    assert axes.lines[0].get_ydata().tolist() == [20.0, axes.get_ylim()[0]]


def test_gain_and_estimators_are_those_of_the_last_epoch_by_depth(tmp_path):
    group, sweep = group_of(tmp_path, SMALL, None, made.layers(SMALL, (1, 6)))
    panels = gain_panels(group, sweep.layers)
    assert [list(panel.lines) for panel in panels] == [["kn-learned"]] * 2
    x, values = panels[1].lines["kn-learned"]
    assert x.tolist() == [2, 3, 4, 5, 6, 7]  # the first normalizer has no prior
    rows = [r for r in sweep.layers if r["id"] == "kn-learned.4.1" and r["epoch"] == 6]
    np.testing.assert_array_equal(values[1], [row["gain"] for row in rows[1:]])
    panels, columns = estimator_panels(group, sweep.layers, "layer")
    assert columns == 2 and [panel.title for panel in panels] == ["bn", "kn-learned", "", ""]
    rows = [r for r in sweep.layers if r["id"] == "kn-learned.1.0" and r["epoch"] == 6]
    np.testing.assert_array_equal(panels[3].lines["prior"][1][0], [row["prior_log_var_error"] for row in rows[1:]])
    assert list(panels[0].lines) == ["batch statistics", "used to standardize"]


def test_along_training_the_three_estimators_are_of_the_same_normalizers(tmp_path):
    group, sweep = group_of(tmp_path, SMALL, None, made.layers(SMALL, (1, 6)))
    panels, _ = estimator_panels(group, sweep.layers, "epoch")
    for name, column in (("batch statistics", "batch_mean_error"), ("prior", "prior_mean_error")):
        x, values = panels[1].lines[name]
        of = [[r[column] for r in sweep.layers if r["id"] == "kn-learned.1.0" and r["epoch"] == e][1:] for e in (1, 6)]
        assert x.tolist() == [1, 6]
        np.testing.assert_allclose(values[0], np.mean(of, axis=1))
    of_bn = [r["batch_mean_error"] for r in sweep.layers if r["id"] == "bn.1.0" and r["epoch"] == 6]
    assert panels[0].lines["batch statistics"][1][0, -1] == pytest.approx(np.mean(of_bn))


# ---- words ----


def boxes_of(figure):
    """(text, box) of every word that is drawn."""
    shown = [axes for axes in figure.axes if axes.get_visible()]
    texts = [*figure.texts, *(text for axes in shown for text in (*axes.texts, axes.title))]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    for axis in (axis for axes in shown for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        texts += [axis.label, *(tick.label1 for tick in ticks if tick.label1.get_visible())]
    renderer = figure.canvas.get_renderer()
    return [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_text()]


@pytest.mark.parametrize("methods", [("bn",), made.METHODS, (*made.METHODS, LONG)], ids=["1", "10", "11"])
@pytest.mark.parametrize("kind", ["error", "modes", "curves", "estimators"])
def test_words_never_overlap_nor_leave_the_picture(tmp_path, methods, kind):
    rows = [
        made.diverge(row) if row["norm"] == "bn" and row["seed"] else row
        for row in made.sweep(methods, (1, 2, 16), (0, 1))
    ]
    finite = made.sweep(methods, (1, 2, 16), (0, 1))
    group, sweep = group_of(tmp_path, rows, made.epochs(finite[:6]), made.layers(finite))
    panel = functools.partial(panel_figure, title="A title", note="A note", label="label", theme=DARK)
    if kind == "error":
        figure = error_figure(group, ["running", "population"], group.methods, "A title " * 12, LIGHT)
    elif kind == "modes":
        figure = mode_figure(group, "A title", DARK)
    elif kind == "curves":
        figure = panel(curve_panels(group, made_epochs(sweep)), looks(group.methods, DARK), 3)
    else:
        panels, columns = estimator_panels(group, sweep.layers, "layer")
        figure = panel(panels, estimator_looks(DARK), columns)
    figure.draw_without_rendering()
    boxes, (wide, high) = boxes_of(figure), figure.get_size_inches() * DPI
    assert [text for text, b in boxes if b.x0 < 0 or b.x1 > wide or b.y0 < 0 or b.y1 > high] == []
    pairs = [(one, other) for i, (one, box) in enumerate(boxes) for other, at in boxes[:i] if box.overlaps(at)]
    assert pairs == []


def made_epochs(sweep):
    """A curve for every run of a sweep."""
    return [
        {"id": run.id, "epoch": epoch, "train_loss": 1.0, "test_loss": 1.0, "test_error": 50.0 / epoch}
        for run in sweep.runs
        for epoch in (1, 2, 3)
    ]


def test_methods_keep_their_looks_apart():
    names = [f"kn-learned:gain=0.{i:02}" for i in range(40)]
    for theme in (LIGHT, DARK):
        found = looks(names, theme)
        assert len({(look.colour, look.style, look.marker) for look in found.values()}) == 40
        assert min(contrast(look.letters, theme.paper) for look in found.values()) > 3
    assert min(contrast(look.colour, DARK.paper) for look in looks(names, DARK).values()) > 2.5


def contrast(one, other):
    """The ratio of two colours' luminance, as WCAG has it."""
    linear = [
        np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        for c in map(np.array, map(to_rgb, (one, other)))
    ]
    a, b = (float(c @ [0.2126, 0.7152, 0.0722]) + 0.05 for c in linear)
    return max(a, b) / min(a, b)


@pytest.mark.parametrize("errors", [[0.0, 0.0], [math.nan, math.nan], [100.0, 0.0]])
def test_extreme_errors_are_drawn(tmp_path, errors):
    rows = [row | {f"test_error_{mode}": errors[row["seed"]] for mode in made.MODES} for row in SMALL]
    group, _ = group_of(tmp_path, rows)
    for draw in (
        functools.partial(error_figure, group, ["running"], group.methods, "t"),
        functools.partial(mode_figure, group, "t"),
    ):
        assert png(draw, LIGHT).startswith(b"\x89PNG")
