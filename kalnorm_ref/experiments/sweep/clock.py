"""How long the rest of a sweep takes, from the seconds of its runs that are finished.

The cost of a run is epochs x training images x pixels x layers, as far as its settings tell. Seconds over cost are
measured: the median of the finished runs with the same data, model, method and statistics batch, where there is one;
else of those less alike.
"""

import statistics

PIXELS = {"digits": 64, "cifar10": 1024, "cifar100": 1024}
IMAGES = {"digits": 1297, "cifar10": 50000, "cifar100": 50000}
LAYERS = {"cnn5": 5, "mlp": 0.05}  # a matrix product over all pixels is as nothing beside a convolution
LIKENESS = ("dtype", "data", "model", "norm", "statistics_batch_size")  # the last one is given up first


def images(settings):
    """Training images that pass in a run."""
    return settings.epochs * (settings.train_images or IMAGES[settings.data])


def cost(settings):
    """Work of a run, in no unit."""
    return images(settings) * PIXELS[settings.data] * (settings.depth or LAYERS[settings.model])


class Clock:
    """Seconds of finished runs, and what they say of others."""

    def __init__(self):
        self.rates = {}  # the values of the first n of LIKENESS: seconds over cost, of each run
        self.typical = {}  # the same: their median

    def saw(self, settings, seconds):
        """Take in a finished run."""
        for key in _keys(settings):
            self.rates.setdefault(key, []).append(seconds / cost(settings))
            self.typical[key] = statistics.median(self.rates[key])

    def guess(self, settings):
        """Seconds that a run will take; None before any has finished."""
        rate = next((self.typical[key] for key in _keys(settings) if key in self.typical), None)
        return None if rate is None else cost(settings) * rate

    def left(self, waiting, flying=(), workers=1):
        """Seconds that runs will take on so many workers, or None; flying: (Settings, seconds since it began)."""
        guesses = [self.guess(settings) for settings in (*waiting, *(settings for settings, _ in flying))]
        if None in guesses:
            return None
        begun = guesses[len(waiting) :]
        rest = guesses[: len(waiting)] + [max(0.0, g - s) for g, (_, s) in zip(begun, flying, strict=True)]
        return max(sum(rest) / workers, max(rest, default=0.0))


def _keys(settings):
    values = tuple(getattr(settings, name) for name in LIKENESS)
    return [values[:count] for count in range(len(values), -1, -1)]


def words(seconds):
    """A span of time for people.

    >>> words(3), words(150), words(8000), words(None)
    ('3 s', '2 min 30 s', '2 h 13 min', 'unknown')
    """
    if seconds is None:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
