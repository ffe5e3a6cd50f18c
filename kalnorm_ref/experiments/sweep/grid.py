"""The runs of a sweep out of a small TOML file or out of flags: which settings are crossed, and which stay the same.

    [base]                                shared by all tables
    data = "cifar10"
    [[grid]]                              each table by itself: its lists are crossed, the last one varies fastest
    norm = ["bn", "kn-learned:gain=0.1"]
    statistics_batch_size = [1, 2, 4]
    epochs = 8

Keys are the fields of settings.Settings. A run that two tables describe is there once, where it came first.
"""

import itertools
import tomllib
from dataclasses import fields
from pathlib import Path

from ..settings import Settings, make, parse_method

FIELDS = tuple(field.name for field in fields(Settings))
TABLES = ("base", "grid")


def from_toml(path, data_dir=None):
    """The Settings of every run that the file describes, in its order; data_dir, if given, takes the file's place.

    Raises: ValueError, one line with file, table and key, for a file that describes no runs or bad ones.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected a grid in TOML")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML ({error})") from error
    for name in tables:
        if name not in TABLES:
            raise ValueError(f"{path}: unknown table or key {name!r}; expected [base] and [[grid]]")
    base, grids = tables.get("base", {}), tables.get("grid", [])
    if not isinstance(base, dict):
        raise ValueError(f"{path}: base is {base!r}; expected a table, [base]")
    if not isinstance(grids, list) or not all(isinstance(grid, dict) for grid in grids):
        raise ValueError(f"{path}: grid is no list of tables; expected [[grid]], in double brackets")
    if not grids:
        raise ValueError(f"{path}: no [[grid]]; expected at least one")
    for name, value in base.items():
        if choices(f"{path}: [base]", name, value) != [value]:
            raise ValueError(f"{path}: [base]: {name} is a list; expected one value, lists stand in [[grid]]")
    override = {} if data_dir is None else {"data_dir": data_dir}
    numbered = enumerate(grids, 1)
    return joined(crossed(base | grid | override, f"{path}: [[grid]] {number}") for number, grid in numbered)


def crossed(table, place):
    """Settings for every choice out of the lists of one table, in order; `place` opens what an error says.

    >>> [(s.norm, s.seed) for s in crossed({"norm": ["bn", "brn"], "seed": [0, 1]}, "here")]
    [('bn', 0), ('bn', 1), ('brn', 0), ('brn', 1)]
    """
    listed = [choices(place, name, value) for name, value in table.items()]
    runs = []
    for values in itertools.product(*listed):
        chosen = dict(zip(table, values, strict=True))
        try:
            runs.append(make(**chosen))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
    return runs


def choices(place, name, value):
    """The values that a key of a table takes, one after the other."""
    if name not in FIELDS:
        raise ValueError(f"{place}: unknown key {name!r}; expected one of {', '.join(FIELDS)}")
    several = isinstance(value, list | tuple)
    if several and name == "brn_ramp":
        several = any(isinstance(item, list | tuple) for item in value)  # one ramp is a list itself
    if several and name == "data_dir":
        raise ValueError(f"{place}: data_dir is a list; expected one folder, since it decides no result")
    values = list(value) if several else [value]
    if not values:
        raise ValueError(f"{place}: {name} is an empty list; expected at least one value")
    for index, item in enumerate(values):
        if any(item == other and type(item) is type(other) for other in values[:index]):
            raise ValueError(f"{place}: {name}: {item!r} is there twice; expected each value once")
        if isinstance(item, dict):
            raise ValueError(f"{place}: {name} is a table; expected a value or a list of values")
        if name == "data_dir" and not isinstance(item, str):
            raise ValueError(f"{place}: data_dir is {item!r}; expected the name of a folder")
        if name == "norm":
            try:
                parse_method(item)
            except ValueError as error:
                raise ValueError(f"{place}: norm: {error}") from error
    return values


def joined(parts):
    """The runs of all parts, each once."""
    return list(dict.fromkeys(run for part in parts for run in part))
