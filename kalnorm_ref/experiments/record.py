"""What the estimators of each batch normalizer are worth, epoch by epoch: gain, variance ratio, errors; as a csv.

The same images pass once in training mode. For one normalizer, with (xbar, S) of each statistics batch g,

    mu_pop = mean_g xbar       v_pop = mean_g S + mean_g (xbar - mu_pop)^2       the moments of all that it saw
    mean error         = mean over g and channels of (mu_g - mu_pop)^2 / v_pop
    log-variance error = mean over g and channels of (log v_g - log v_pop)^2
    variance ratio     = mean over g and channels of the prior's variance / S

where (mu_g, v_g) is the batch's (xbar, S), the prior, or what x was standardized with.
"""

import csv

import numpy as np

from ..inference import watch
from .evaluate import multiple

NAME = "record.csv"
IMAGES = 256
ESTIMATORS = ("batch", "prior", "used")
ERRORS = tuple(f"{estimator}_{error}" for estimator in ESTIMATORS for error in ("mean_error", "log_var_error"))
COLUMNS = ("epoch", "layer", "gain", "variance_ratio", *ERRORS)


def measure(net, images, settings):
    """A row (dict) for each batch normalizer, in network order, but for its epoch; None where there is no prior.

    The first 256 images (as many whole statistics batches of them as there are, at least one) pass in gradient batches.
    Nothing of the network changes but what the last forward keeps for a backward.
    """
    count = multiple(min(IMAGES, len(images)), settings.statistics_batch_size)
    seen = {}
    with watch(net, lambda path, batch: seen.setdefault(path, []).append(batch)):
        for start in range(0, count, settings.gradient_batch_size):
            net.forward(images[start : min(count, start + settings.gradient_batch_size)], training=True)
    return [{"layer": path} | row_of(batches) for path, batches in seen.items()]


def row_of(batches):
    """Gain, variance ratio and errors of one normalizer, from what it saw in each gradient batch."""
    fused = [batch for batch in batches if batch.prior is not None]  # not all: the released code's guard rejects some
    mean, var = _joined(batches, "observed")
    population = mean.mean(axis=0), var.mean(axis=0) + mean.var(axis=0)
    row = {"gain": None, "variance_ratio": None} | dict.fromkeys(ERRORS)
    for estimator, name, of in (("batch", "observed", batches), ("prior", "prior", fused), ("used", "used", batches)):
        if of:
            means, variances = _joined(of, name)
            row[f"{estimator}_mean_error"] = float(np.mean((means - population[0]) ** 2 / population[1]))
            row[f"{estimator}_log_var_error"] = float(np.mean((np.log(variances) - np.log(population[1])) ** 2))
    if fused:
        row["variance_ratio"] = float(np.mean(_joined(fused, "prior")[1] / _joined(fused, "observed")[1]))
        gains = [np.mean(batch.gain, dtype=np.float64) for batch in fused]
        row["gain"] = float(np.average(gains, weights=[len(batch.used.mean) for batch in fused]))
    return row


def _joined(batches, name):
    """Means and variances of all statistics batches, (G, C) in float64."""
    means, variances = zip(*(getattr(batch, name) for batch in batches), strict=True)
    return np.concatenate(means).astype(np.float64), np.concatenate(variances).astype(np.float64)


def read(path, epochs):
    """The rows of record.csv up to that many epochs; none where it is missing. ValueError if it is something else."""
    if not path.exists():
        return []
    try:
        with path.open(newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ValueError(f"its columns are {', '.join(reader.fieldnames or ())}")
            rows = [_parsed(row) for row in reader]
    except (csv.Error, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not the record of a run ({error}); delete it to go on without its epochs") from error
    return [row for row in rows if row["epoch"] <= epochs]


def _parsed(row):
    if None in row or None in row.values():
        raise ValueError(f"a row has other than {len(COLUMNS)} cells")
    numbers = {name: float(row[name]) if row[name] else None for name in COLUMNS[2:]}
    return {"epoch": int(row["epoch"]), "layer": row["layer"]} | numbers
