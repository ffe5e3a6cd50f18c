"""Holds the description of a sweep to its promises: what is crossed, in which order, and the line for every mistake."""

import dataclasses
import re

import pytest
from sweep_runs import SMALL

import kalnorm_ref as kr
from kalnorm_ref import cli
from kalnorm_ref.experiments import settings
from kalnorm_ref.experiments.sweep.grid import FIELDS, crossed, from_toml
from kalnorm_ref.experiments.sweep.store import address, identity

GRID = """
[base]
model = "mlp"
train_images = 320
epochs = 3
[[grid]]
norm = ["bn", "kn-learned:gain=0.1"]
statistics_batch_size = [16, 8]
epochs = 2
[[grid]]
statistics_batch_size = 8
norm = ["gn", "bn"]
epochs = 2
[[grid]]
norm = "brn"
brn_ramp = [[1, 2, 3], [2, 3, 4]]
[[grid]]
norm = "brn"
brn_ramp = [1, 2, 3]
"""


def write(tmp_path, text):
    path = tmp_path / "grid.toml"
    path.write_text(text)
    return path


def test_lists_are_crossed_and_a_run_of_two_tables_is_there_once(tmp_path):
    runs = from_toml(write(tmp_path, GRID))
    assert [(run.norm, run.statistics_batch_size, run.epochs, run.brn_ramp) for run in runs] == [
        ("bn", 16, 2, None),
        ("bn", 8, 2, None),
        ("kn-learned:gain=0.1", 16, 2, None),
        ("kn-learned:gain=0.1", 8, 2, None),
        ("gn", 8, 2, None),
        ("brn", 32, 3, (1, 2, 3)),
        ("brn", 32, 3, (2, 3, 4)),
    ]
    assert {(run.model, run.train_images) for run in runs} == {("mlp", 320)}


def test_the_place_of_the_data_can_be_told_from_outside(tmp_path):
    path = write(tmp_path, "[base]\ndata_dir = 'here'\n[[grid]]\nseed = [0, 1]\n")
    assert [run.data_dir for run in from_toml(path)] == ["here", "here"]
    assert [run.data_dir for run in from_toml(path, "there")] == ["there", "there"]


def test_a_file_that_is_no_toml_is_named_with_the_place(tmp_path):
    path = write(tmp_path, "[[grid]]\nseed =\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}: not TOML (") + r".*line 2.*\)\Z"):
        from_toml(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no [[grid]]; expected at least one"),
        ("seed = 1\n[[grid]]\n", "unknown table or key 'seed'; expected [base] and [[grid]]"),
        ("base = 3\n[[grid]]\n", "base is 3; expected a table, [base]"),
        ("[grid]\nseed = 1\n", "grid is no list of tables; expected [[grid]], in double brackets"),
        ("[base]\nseed = [0, 1]\n[[grid]]\n", "[base]: seed is a list; expected one value, lists stand in [[grid]]"),
        ("[base]\nsteps = 1\n[[grid]]\n", f"[base]: unknown key 'steps'; expected one of {', '.join(FIELDS)}"),
        ("[[grid]]\n[[grid]]\nseeds = 1\n", f"[[grid]] 2: unknown key 'seeds'; expected one of {', '.join(FIELDS)}"),
        ("[[grid]]\nseed = []\n", "[[grid]] 1: seed is an empty list; expected at least one value"),
        ("[[grid]]\nseed = [0, 1, 0]\n", "[[grid]] 1: seed: 0 is there twice; expected each value once"),
        ("[[grid]]\nseed.a = 1\n", "[[grid]] 1: seed is a table; expected a value or a list of values"),
        (
            "[[grid]]\ndata_dir = ['a']\n",
            "[[grid]] 1: data_dir is a list; expected one folder, since it decides no result",
        ),
        ("[[grid]]\nlr = [0.1, 0]\n", "[[grid]] 1: lr is 0; expected a number above 0"),
        ("[[grid]]\nlr = 'fast'\n", "[[grid]] 1: lr is 'fast'; expected a number"),
        ("[[grid]]\nlr = 2020-01-01\n", "[[grid]] 1: lr is datetime.date(2020, 1, 1); expected a number"),
        ("[[grid]]\nepochs = true\n", "[[grid]] 1: epochs is True; expected an integer"),
        ("[[grid]]\ndata = 3\n", "[[grid]] 1: data is 3; expected one of digits, cifar10, cifar100"),
        ("[[grid]]\ndata_dir = 3\n", "[[grid]] 1: data_dir is 3; expected the name of a folder"),
        (
            "[[grid]]\nnorm = ['bn', 'bm']\n",
            f"[[grid]] 1: norm: unknown method 'bm'; expected one of {', '.join(kr.models.NORMS)}",
        ),
        (
            "[[grid]]\nnorm = 'none:eps=1'\n",
            "[[grid]] 1: norm: method 'none:eps=1': unknown option 'eps'; the options of none are: none",
        ),
        (
            "[[grid]]\nstatistics_batch_size = [1, 3]\n",
            "[[grid]] 1: statistics_batch_size is 3; expected a divisor of the gradient batch size, 32",
        ),
        (
            "[[grid]]\ndepth = 8\n",
            "[[grid]] 1: depth is 8; expected none, since only a resnet has a depth, not cnn5",
        ),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_file_table_and_key(tmp_path, text, message, capsys):
    path = write(tmp_path, text)
    assert cli.main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"kalnorm-ref: error: {path}: {message}\n"
    assert [item.name for item in tmp_path.iterdir()] == ["grid.toml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.toml"], "missing.toml: no such file; expected a grid in TOML"),
        (["grid.toml", "--epochs", "3"], "--epochs beside grid.toml; expected it in the file"),
        (["grid.toml", "--data", "digits"], "--data beside grid.toml; expected it in the file"),
        (["grid.toml", "--seeds", "3"], "--seeds beside grid.toml; expected it in the file"),
        (["--seeds", "3", "3"], "options: seed: 3 is there twice; expected each value once"),
        (["--depths", "8", "14"], "options: depth is 8; expected none, since only a resnet has a depth, not cnn5"),
        (
            ["--statistics-batch-sizes", "1", "--statistics-batch-size", "1"],
            "--statistics-batch-sizes and --statistics-batch-size are both there; expected one of them",
        ),
        (["--workers", "-1"], "workers is -1; expected at least 0"),
        (
            ["--methods", "bn", "kn-learned:gain=7"],
            "method 'kn-learned:gain=7': gain is 7; expected a value in [0, 1]",
        ),
        (
            ["--train-images", "1298"],
            "train_limit: got 1298, needs 1..1297, the training images of digits",
        ),
    ],
)
def test_a_mistake_in_the_options_is_one_line_and_nothing_written(tmp_path, monkeypatch, capsys, arguments, message):
    write(tmp_path, "[[grid]]\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", *arguments]) == 2
    assert capsys.readouterr().err == f"kalnorm-ref: error: {message}\n"
    assert [item.name for item in tmp_path.iterdir()] == ["grid.toml"]


OTHER = {
    "data": "cifar10",
    "model": "cnn5",
    "depth": 14,
    "norm": "brn",
    "statistics_batch_size": 2,
    "gradient_batch_size": 64,
    "epochs": 3,
    "lr": 0.06,
    "momentum": 0.8,
    "weight_decay": 1e-4,
    "schedule": "step",
    "warmup": 0.1,
    "clip_norm": 1.0,
    "brn_ramp": (1, 2, 3),
    "augment": True,
    "train_images": 640,
    "seed": 1,
    "dtype": "float64",
    "inference": "batch",
}


def test_the_address_follows_every_setting_but_the_place_of_the_data():
    base = settings.make(model="resnet", depth=8, norm="bn", statistics_batch_size=4)
    own, found = address(identity(base)), {}
    assert set(OTHER) == set(FIELDS) - {"data_dir"}
    for name, value in OTHER.items():
        more = {"depth": None} if name == "model" else {}
        found[name] = address(identity(dataclasses.replace(base, **{name: value} | more)))
    assert len({own, *found.values()}) == 1 + len(OTHER)
    assert address(identity(dataclasses.replace(base, data_dir="elsewhere"))) == own
    assert re.fullmatch("[0-9a-f]{16}", own)


def test_the_address_follows_backend_instruction_set_and_version():
    what = identity(settings.make())
    assert what["backend"] == kr.get_backend() and what["version"] == kr.__version__
    assert (
        len({address(what), *(address(what | {name: "x"}) for name in ("backend", "instruction_set", "version"))}) == 4
    )
    with kr.use_backend("numpy"):
        assert identity(settings.make())["instruction_set"] is None


def test_crossing_keeps_the_order_of_the_keys():
    runs = crossed({"seed": [1, 0], "norm": ["gn", "bn"], **SMALL}, "here")
    assert [(run.seed, run.norm) for run in runs] == [(1, "gn"), (1, "bn"), (0, "gn"), (0, "bn")]
