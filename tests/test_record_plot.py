"""Holds the picture of a record to its promises: every line its column, one scale a row, words that stay apart."""

import math

import numpy as np
import pytest

from kalnorm_ref.experiments import record, record_plot, settings


def rows_for(layers, epochs, prior=True, rng=None):
    rng = rng or np.random.default_rng(1)
    rows = []
    for epoch in range(1, epochs + 1):
        for index in range(layers):
            values = dict(zip(record.COLUMNS[2:], rng.uniform(1e-3, 2, 8), strict=True))
            if index == 0 or not prior:
                values |= dict.fromkeys(("gain", "variance_ratio", "prior_mean_error", "prior_log_var_error"))
            rows.append({"epoch": epoch, "layer": f"{index}.main.{index}"} | values)
    return rows


@pytest.mark.parametrize(("layers", "epochs", "prior"), [(1, 1, False), (5, 12, True), (19, 200, True), (7, 3, False)])
def test_the_picture_shows_at_most_eight_normalizers_and_its_words_stay_apart(layers, epochs, prior):
    chosen = settings.make("cifar10", norm="kn-analytic:push=released,gain=0.1,shortcut=prior,eps=0.00001,decay=0.95")
    figure = record_plot.figure_of(chosen, rows_for(layers, epochs, prior))
    figure.draw_without_rendering()
    shown, lines = min(layers, 8), 4 if prior else 2
    assert len(figure.axes) == shown * lines
    titles = [axes.title for axes in figure.axes[:shown]]
    assert titles[0].get_text() == "0.main.0" and titles[-1].get_text() == f"{layers - 1}.main.{layers - 1}"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["batch statistics", *["prior"] * prior, "used to standardize"]
    boxes = [text.get_window_extent() for text in (*figure.texts, *titles, *figure.legends[0].get_texts())]
    assert all(box.x0 >= 0 and box.x1 <= 1600 and box.y0 >= 0 and box.y1 <= 900 for box in boxes)
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_a_line_holds_its_column_and_a_row_of_panels_one_scale():
    rows = rows_for(3, 5)
    figure = record_plot.figure_of(settings.make(), rows)
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[2 * 3 + 1].lines}
    of_layer = [row for row in rows if row["layer"] == "1.main.1"]
    for label, name in {"batch statistics": "batch", "prior": "prior", "used to standardize": "used"}.items():
        np.testing.assert_array_equal(drawn[label], [row[f"{name}_mean_error"] for row in of_layer])
    assert figure.axes[0].lines[:] == [] and figure.axes[0].texts[0].get_text() == "none"
    for line in range(4):
        panels = figure.axes[3 * line : 3 * line + 3]
        ((low, high),) = {axes.get_ylim() for axes in panels}
        values = np.concatenate([curve.get_ydata() for axes in panels for curve in axes.lines])
        assert low <= values.min() and values.max() <= high


@pytest.mark.parametrize("value", [0.0, math.inf, math.nan, 1e-300, 1e300])
def test_numbers_that_cannot_be_drawn_are_left_out(value):
    rows = rows_for(2, 3)
    rows[3] |= {"gain": value, "used_mean_error": value, "batch_log_var_error": value}
    record_plot.figure_of(settings.make(), rows).draw_without_rendering()
    rows = [row | {name: value for name in record.COLUMNS[2:] if row[name] is not None} for row in rows]
    record_plot.figure_of(settings.make(), rows).draw_without_rendering()


@pytest.mark.parametrize(("low", "high"), [(1e-9, 1e9), (0.3, 2.5), (7e-31, 2e30), (4.1, 37.0)])
def test_a_scale_has_two_to_five_numbers(low, high):
    found = record_plot.ticks(low, high)
    assert 2 <= len(found) <= 5 and low <= found[0] < found[-1] <= high


def test_a_gain_of_zero_is_drawn_and_an_error_of_zero_is_not():
    np.testing.assert_array_equal(record_plot.drawable([0.0, 0.5, None, math.inf], False), [0, 0.5, math.nan, math.nan])
    np.testing.assert_array_equal(
        record_plot.drawable([0.0, 0.5, None, 1e31], True), [math.nan, 0.5, math.nan, math.nan]
    )
