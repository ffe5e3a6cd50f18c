"""One description of a training run, checked before any work is done or any file is written.

A method is a normalizer's name with options of its own, "kn-analytic:push=released,gain=0.1"; the whole text is its
name in tables and pictures.
"""

import dataclasses
import math
import operator

import numpy as np

from .. import data as datasets
from .. import models, optim
from ..layers.statistics import INFERENCE

DATA = datasets.NAMES
MODELS = ("cnn5", "resnet", "mlp")
SCHEDULES = ("constant", "step", "cosine")
DTYPES = ("float32", "float64")
CHOICES = {"data": DATA, "model": MODELS, "schedule": SCHEDULES, "dtype": DTYPES, "inference": INFERENCE}
METHODS = ("bn", "brn", "kn-shrink", "kn-learned", "kn-analytic")
DROPS = (0.5, 0.75)  # fractions of the steps after which the step schedule divides the learning rate by 10
RAMP = (0.10, 0.40, 0.40)  # BRN's limits: start, end of r_max, end of d_max, as fractions of the steps (A11)

_CIFAR = {
    "model": "resnet",
    "depth": 8,
    "statistics_batch_size": 2,
    "gradient_batch_size": 128,
    "epochs": 4,
    "lr": 0.1,
    "weight_decay": 2e-4,
    "warmup": 0.05,
    "augment": True,
}
DEFAULTS = {"digits": {"model": "cnn5"}, "cifar10": _CIFAR, "cifar100": _CIFAR}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of one run; `make` fills in the defaults of a data set. ValueError, one line, for a bad value."""

    data: str = "digits"
    data_dir: str | None = None  # folder of the CIFAR files; None is the folder of downloads
    model: str = "cnn5"
    depth: int | None = None  # of a resnet, 6n + 2
    norm: str = "bn"  # a method: name[:option=value,...]
    statistics_batch_size: int = 1  # images that share one mean and variance; divides the gradient batch
    gradient_batch_size: int = 32  # images that share one step
    epochs: int = 12
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.0  # fraction of the steps, linear
    clip_norm: float | None = None
    brn_ramp: tuple[int, int, int] | None = None  # steps: start, end of r_max, end of d_max; None is RAMP
    augment: bool = False
    train_images: int | None = None  # the first so many; None is all
    seed: int = 0
    dtype: str = "float32"
    inference: str = "running"  # what batch normalizers evaluate with; no effect on others, or beside inference=

    def __post_init__(self):
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}")
        parse_method(self.norm)
        for name, low in (("statistics_batch_size", 1), ("gradient_batch_size", 1), ("epochs", 1), ("seed", 0)):
            object.__setattr__(self, name, whole(name, getattr(self, name), low))
        if self.train_images is not None:
            object.__setattr__(self, "train_images", whole("train_images", self.train_images, 1))
        for name, high in (("lr", math.inf), ("weight_decay", math.inf), ("momentum", 1), ("warmup", 1)):
            object.__setattr__(self, name, _number(name, getattr(self, name), high))
        if self.clip_norm is not None:
            object.__setattr__(self, "clip_norm", _number("clip_norm", self.clip_norm, math.inf))
        for name in ("lr", "clip_norm"):
            if getattr(self, name) == 0:
                raise ValueError(f"{name} is 0; expected a number above 0")
        if not isinstance(self.augment, bool | np.bool_):
            raise ValueError(f"augment is {self.augment!r}; expected True or False")
        self._check_sizes()
        if self.brn_ramp is not None:
            object.__setattr__(self, "brn_ramp", _ramp(self.brn_ramp))

    def _check_sizes(self):
        if self.gradient_batch_size % self.statistics_batch_size:
            raise ValueError(
                f"statistics_batch_size is {self.statistics_batch_size}; expected a divisor of the gradient batch size,"
                f" {self.gradient_batch_size}"
            )
        if self.train_images is not None and self.train_images < self.gradient_batch_size:
            raise ValueError(
                f"train_images is {self.train_images}; expected at least one gradient batch, {self.gradient_batch_size}"
            )
        if self.model != "resnet" and self.depth is not None:
            raise ValueError(f"depth is {self.depth}; expected none, since only a resnet has a depth, not {self.model}")
        if self.model == "resnet":
            object.__setattr__(self, "depth", whole("depth", self.depth, 1))
            if self.depth < 8 or (self.depth - 2) % 6:
                raise ValueError(f"depth is {self.depth}; expected 6n + 2: 8, 14, 20, 26, ...")

    def to_json(self):
        """The settings as a dict that json can write."""
        fields = dataclasses.asdict(self)
        return fields | {"brn_ramp": None if self.brn_ramp is None else list(self.brn_ramp)}


def make(data="digits", **given):
    """Settings for a data set; whatever is not given, or None, takes that data set's default.

    A resnet without a depth has depth 8. An mlp without a statistics batch size takes statistics over the gradient
    batch, because a single image has no variance there.

    >>> make(norm="kn-learned:gain=0.5").statistics_batch_size
    1
    """
    names = {field.name for field in dataclasses.fields(Settings)}
    unknown = sorted(set(given) - names)
    if unknown:
        raise ValueError(f"unknown setting {unknown[0]}; expected one of {', '.join(sorted(names))}")
    if data not in DATA:
        raise ValueError(f"data is {data!r}; expected one of {', '.join(DATA)}")
    chosen = {name: value for name, value in given.items() if value is not None}
    fields = DEFAULTS[data] | chosen
    if fields["model"] == "resnet":
        fields.setdefault("depth", 8)
    elif "depth" not in chosen:
        fields.pop("depth", None)
    if fields["model"] == "mlp" and "statistics_batch_size" not in chosen:
        fields["statistics_batch_size"] = fields.get("gradient_batch_size", Settings.gradient_batch_size)
    return Settings(data=data, **fields)


def from_json(fields, data_dir=None):
    """Settings from what a checkpoint keeps of them: `to_json` and the backend, without the place of the data.

    Raises: ValueError, TypeError, KeyError or AttributeError for fields that are not those of a Settings.
    """
    known = {name: value for name, value in fields.items() if name != "backend"}
    return Settings(**known, data_dir=data_dir)


def parse_method(spec):
    """Take a method apart into the normalizer's name and its options.

    >>> parse_method("kn-analytic:push=released,gain=0.1")
    ('kn-analytic', {'push': 'released', 'gain': 0.1})
    """
    name, colon, rest = str(spec).partition(":")
    if name not in models.NORMS:
        raise ValueError(f"unknown method {name!r}; expected one of {', '.join(models.NORMS)}")
    options, known = {}, models.norm_options(name)
    for item in rest.split(",") if colon else ():
        key, equals, value = item.partition("=")
        if not (equals and value) or key in options:
            raise ValueError(f"method {spec!r}: {item!r} is no option; expected {name}:option=value,option=value")
        if key not in known:
            listed = ", ".join(known) or "none"
            raise ValueError(f"method {spec!r}: unknown option {key!r}; the options of {name} are: {listed}")
        options[key] = _value(value)
    return name, options


def _value(text):
    """An integer, a number, true, false or none; any other text is itself."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def whole(name, value, low):
    """`value` as an int of at least `low`; ValueError that names it."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; expected an integer") from None
    if number < low:
        raise ValueError(f"{name} is {number}; expected at least {low}")
    return number


def _number(name, value, high):
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ValueError(f"{name} is {value!r}; expected a number")
    if not 0 <= value <= high or math.isinf(value):
        raise ValueError(f"{name} is {value:g}; expected " + ("at least 0" if high == math.inf else f"0 to {high:g}"))
    return float(value)


def _ramp(ramp):
    if np.shape(ramp) != (3,):
        raise ValueError(f"brn_ramp is {ramp!r}; expected three steps: start, end of r_max, end of d_max")
    start, r_end, d_end = (whole("brn_ramp", step, 0) for step in ramp)
    if min(r_end, d_end) < start:
        raise ValueError(f"brn_ramp is {start} {r_end} {d_end}; expected both ends at or after the start, {start}")
    return start, r_end, d_end


def inference_of(settings):
    """What the method evaluates with: its own option, else the setting; None where it has no batch normalizers."""
    name, options = parse_method(settings.norm)
    return options.get("inference", settings.inference) if "inference" in models.norm_options(name) else None


def build(settings, image_shape, classes, steps):
    """The network that the settings describe, for images (H, W, C) and a run of so many steps.

    Raises: ValueError naming the method, for an option that its normalizer does not have or take.
    """
    name, options = parse_method(settings.norm)
    if name == "brn":
        limits = optim.renorm_schedule(*(settings.brn_ramp or (round(part * steps) for part in RAMP)))
        options = dict(zip(("r_max", "d_max"), limits, strict=True)) | options
    if "inference" in models.norm_options(name):
        options = {"inference": settings.inference} | options
    common = {
        "norm": name,
        "in_channels": image_shape[-1],
        "classes": classes,
        "statistics_batch_size": settings.statistics_batch_size,
        "seed": settings.seed,
        "dtype": np.dtype(settings.dtype).type,
    }
    if settings.model == "mlp":
        common["image_size"] = image_shape[:2]
    if settings.model == "resnet":
        common["depth"] = settings.depth
    try:
        return getattr(models, settings.model)(**common, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"method {settings.norm!r}: {error}") from error


def learning_rate(settings, steps):
    """The learning rate as a function of the step."""
    warmup = round(settings.warmup * steps)
    if settings.schedule == "cosine":
        return optim.cosine(settings.lr, steps, warmup)
    if settings.schedule == "step":
        later = optim.step_decay(settings.lr, [round(part * steps) for part in DROPS])
    else:
        later = optim.constant(settings.lr)
    return lambda step: settings.lr * (step + 1) / warmup if step < warmup else later(step)
