"""The pictures of a report with their captions: what was measured, on which data, with which seeds."""

import functools
import re

from ..plots import STATISTICS, TITLES
from .blocks import Picture
from .draw import DARK, LIGHT, looks, png
from .figures import error_figure, images, mode_figure, uses_batches
from .panels import curve_panels, estimator_looks, estimator_panels, figure, gain_panels, recorded_size
from .tables import said, titled

DEPTH = "normalizer, from the image to the output"


def subject(runs):
    """Data and networks in words."""
    named = {}
    for run in runs:
        model = run.settings["model"]
        depth = run.settings.get("depth")
        network = f"ResNet-{depth}" if model == "resnet" and depth else model
        named[TITLES.get(run.settings["data"], run.settings["data"]), network] = None
    data, networks = (list(dict.fromkeys(names)) for names in zip(*named, strict=True))
    return f"{' and '.join(data)}, {' and '.join(networks)}"


def seeds(runs):
    """How many seeds there are, and which."""
    found = sorted({run.seed for run in runs})
    return f"seed{'s' * (len(found) > 1)} {', '.join(map(str, found))}"


def slug(name, group):
    """The file name of a group's picture."""
    parts = re.sub(r"[^a-z0-9.]+", "-", said(group.settings).lower()).strip("-")
    return f"{name}-{parts}.png" if parts else f"{name}.png"


def picture(name, group, title, caption, draw):
    """A Picture of a group, drawn in both themes."""
    named = titled(title, group)
    measured = f"{caption} {subject(group.runs)}; {seeds(group.runs)}."
    return Picture(slug(name, group), named, measured, png(draw, LIGHT), png(draw, DARK))


def _about(group):
    """Data and network, and what else sets the group apart, above a picture."""
    rest = {name: text for name, text in group.settings.items() if name not in ("data", "model", "depth")}
    return f"{subject(group.runs)}, {said(rest)}" if rest else subject(group.runs)


def error_picture(group, panels, methods):
    """Error against statistics batch."""
    modes = [mode for mode in panels if mode in group.modes] or group.modes[:1]
    title = f"{_about(group)}: test error against the statistics batch"
    caption = (
        f"Test error after the last epoch, in percent, with {' and '.join(STATISTICS[mode] for mode in modes)} at "
        "inference, against the number of images that share one mean and variance. A dot is a seed, a line the mean "
        "over seeds, a bar its 95 % interval by Student's t (none for one seed; cut where it leaves the picture). A "
        "cross above: a run diverged there, and the mean is that of the others. A line across: a method without batch "
        "statistics."
    )
    draw = functools.partial(error_figure, group, modes, methods, title)
    return picture("error", group, "Test error against the statistics batch", caption, draw)


def other_pictures(group, sweep, methods):
    """The pictures whose data is there."""
    ids = {run.id for run in group.runs}
    epochs, layers = ([row for row in rows if row["id"] in ids] for rows in (sweep.epochs, sweep.layers))
    about = _about(group)
    if len(group.modes) > 1 and any(uses_batches(norm) for norm in group.methods):
        caption = (
            "Test error after the last epoch, mean over the seeds that finished, of the same networks evaluated with "
            f"{', '.join(STATISTICS[mode] for mode in group.modes)}. Methods without batch statistics are left out."
        )
        draw = functools.partial(mode_figure, group, f"{about}: error by statistics at inference")
        yield picture("inference", group, "What each kind of statistics at inference costs", caption, draw)
    found = functools.partial(looks, methods)
    curves = curve_panels(group, epochs)
    if curves:
        yield _curve_picture(group, curves, found, about)
    for along in ("layer", "epoch") if layers else ():
        panels, columns = estimator_panels(group, layers, along)
        if max(len(x) for panel in panels if panel for x, _ in panel.lines.values()) > 1:
            size = recorded_size(group, layers)
            yield _estimator_picture(group, panels, columns, along, size, about)
    gains = gain_panels(group, layers)
    if gains:
        yield _gain_picture(group, gains, found, about)


def _curve_picture(group, panels, found, about):
    modes = sorted({STATISTICS[mode] for mode in map(_evaluated, group.runs) if mode})
    caption = (
        f"Test error after each epoch{', with ' * bool(modes)}{' or '.join(modes)} at inference: the mean over seeds, "
        "and their range as a band. A line ends where a seed diverged."
    )
    words = f"{about}: test error by epoch", "Line: mean over seeds; band: their range; log scale", "epoch"
    draw = functools.partial(_draw, panels, found, min(3, len(panels)), *words)
    return picture("curves", group, "Test error by epoch", caption, draw)


def _evaluated(run):
    """The inference mode that a run was evaluated in after each epoch: the method's own, else the setting."""
    own = re.search(r"[:,]inference=(\w+)", run.norm)
    return own[1] if own else run.settings.get("inference")


def _estimator_picture(group, panels, columns, along, size, about):
    by = {"layer": "by depth, after the last epoch", "epoch": "along training, mean over normalizers"}[along]
    caption = (
        f"Squared errors of batch statistics, prior and what was used to standardize, {by}, against the moments of the "
        f"same training images all together; statistics batch {size}, the smallest that was recorded. Lines are means "
        "over seeds, bands their range."
    )
    if along == "epoch":
        caption += " Where a method has a prior, the mean is over normalizers with one."
    note = f"Errors against population moments, {by}; {images(size)}; log scales"
    words = f"{about}: the estimators", note, DEPTH if along == "layer" else "epoch"
    draw = functools.partial(_draw, panels, estimator_looks, columns, *words)
    return picture(f"estimators-{along}", group, f"Accuracy of the estimators {by}", caption, draw)


def _gain_picture(group, panels, found, about):
    caption = (
        "Gain of each normalizer after the last epoch, mean over its channels; 0 keeps the prior, 1 the batch. The "
        "mean over seeds, and their range as a band. A normalizer without a prior has no gain."
    )
    note = "Line: mean over seeds; band: their range; 0: the prior alone, 1: the batch alone"
    draw = functools.partial(_draw, panels, found, min(3, len(panels)), f"{about}: gain by depth", note, DEPTH)
    return picture("gain", group, "Gain by depth", caption, draw)


def _draw(panels, found, columns, title, note, label, theme):
    return figure(panels, found(theme), columns, title, note, label, theme)
