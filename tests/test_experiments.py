"""Holds training to its promises: settings refused early, the same bits for one seed, a stop that costs nothing."""

import csv
import dataclasses
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import kalnorm_ref as kr
from kalnorm_ref.experiments import checkpoint, settings, train
from kalnorm_ref.experiments.compare import compare

SMALL = settings.make(model="mlp", epochs=2, train_images=320, norm="kn-learned", statistics_batch_size=8)
TIMES = ("seconds", "images_per_second")
METHODS = ", ".join(kr.models.NORMS)


def exactly(message):
    return "^" + re.escape(message) + r"\Z"


def timeless(rows):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def states(folder):
    """Everything in a checkpoint that has to have the same bits."""
    record, parts = checkpoint.load(folder / checkpoint.NAME)
    arrays = {f"{part}/{name}": value for part, state in parts.items() for name, value in state.items()}
    return timeless(record["rows"]), arrays


def same_bits(found, wanted):
    assert found[0] == wanted[0]
    assert found[1].keys() == wanted[1].keys()
    for name, value in wanted[1].items():
        assert found[1][name].dtype == value.dtype and found[1][name].tobytes() == value.tobytes(), name


def test_defaults_are_those_of_the_data_set():
    digits, cifar = settings.make(), settings.make("cifar10")
    assert (digits.model, digits.statistics_batch_size, digits.gradient_batch_size, digits.epochs) == (
        "cnn5",
        1,
        32,
        12,
    )
    assert (digits.lr, digits.warmup, digits.weight_decay, digits.augment) == (0.05, 0.0, 0.0, False)
    assert (cifar.model, cifar.depth, cifar.statistics_batch_size, cifar.gradient_batch_size) == ("resnet", 8, 2, 128)
    assert (cifar.lr, cifar.warmup, cifar.weight_decay, cifar.augment) == (0.1, 0.05, 2e-4, True)
    assert settings.make(model="mlp", gradient_batch_size=64).statistics_batch_size == 64
    assert settings.make("cifar100", model="cnn5").depth is None


def test_a_method_carries_its_options():
    assert settings.parse_method("bn") == ("bn", {})
    spec = "kn-analytic:push=released,gain=0.1,decay=none,unbiased_running_var=true"
    options = {"push": "released", "gain": 0.1, "decay": None, "unbiased_running_var": True}
    assert settings.parse_method(spec) == ("kn-analytic", options)
    assert isinstance(settings.parse_method("brn:r_max=3")[1]["r_max"], int)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"norm": "bm"}, f"unknown method 'bm'; expected one of {METHODS}"),
        ({"norm": "bn:eps"}, "method 'bn:eps': 'eps' is no option; expected bn:option=value,option=value"),
        ({"norm": "bn:"}, "method 'bn:': '' is no option; expected bn:option=value,option=value"),
        ({"norm": "none:eps=1"}, "method 'none:eps=1': unknown option 'eps'; the options of none are: none"),
        ({"data": "mnist"}, "data is 'mnist'; expected one of digits, cifar10, cifar100"),
        ({"gradient_batch_size": 30, "statistics_batch_size": 4}, None),
        ({"statistics_batch_size": 0}, "statistics_batch_size is 0; expected at least 1"),
        ({"epochs": 1.5}, "epochs is 1.5; expected an integer"),
        ({"seed": -1}, "seed is -1; expected at least 0"),
        ({"lr": 0}, "lr is 0; expected a number above 0"),
        ({"lr": float("nan")}, "lr is nan; expected at least 0"),
        ({"momentum": 1.5}, "momentum is 1.5; expected 0 to 1"),
        ({"warmup": "long"}, "warmup is 'long'; expected a number"),
        ({"depth": 8}, "depth is 8; expected none, since only a resnet has a depth, not cnn5"),
        ({"model": "resnet", "depth": 9}, "depth is 9; expected 6n + 2: 8, 14, 20, 26, ..."),
        ({"brn_ramp": (9, 5, 20)}, "brn_ramp is 9 5 20; expected both ends at or after the start, 9"),
        ({"brn_ramp": (9, 5)}, "brn_ramp is (9, 5); expected three steps: start, end of r_max, end of d_max"),
        ({"train_images": 31}, "train_images is 31; expected at least one gradient batch, 32"),
        ({"dtype": "float16"}, "dtype is 'float16'; expected one of float32, float64"),
        ({"inference": "moving"}, "inference is 'moving'; expected one of running, batch, population"),
        ({"augment": "yes"}, "augment is 'yes'; expected True or False"),
    ],
)
def test_bad_settings_are_refused(given, message):
    message = message or "statistics_batch_size is 4; expected a divisor of the gradient batch size, 30"
    with pytest.raises(ValueError, match=exactly(message)):
        settings.make(**given)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match=r"^unknown setting epoch; expected one of .*, weight_decay\Z"):
        settings.make(epoch=3)


def test_the_limits_of_brn_grow_between_10_and_40_percent_of_the_steps():
    chosen = settings.make(norm="brn")
    r_max, d_max = settings.build(chosen, (8, 8, 1), 10, 1000).layers[1].limits
    assert [r_max(step) for step in (0, 100, 250, 400, 1000)] == [1, 1, 2, 3, 3]
    assert [d_max(step) for step in (0, 100, 250, 400, 1000)] == [0, 0, 2.5, 5, 5]
    chosen = dataclasses.replace(chosen, brn_ramp=(10, 20, 30))
    r_max, d_max = settings.build(chosen, (8, 8, 1), 10, 1000).layers[1].limits
    assert [r_max(15), d_max(20), d_max(30)] == [2, 2.5, 5]
    assert settings.build(settings.make(norm="brn:r_max=2"), (8, 8, 1), 10, 9).layers[1].limits[0] == 2


def test_schedules():
    rate = settings.learning_rate(settings.make(lr=0.1, schedule="step", warmup=0.1), 100)
    np.testing.assert_allclose([rate(0), rate(9), rate(49), rate(50), rate(75)], [0.01, 0.1, 0.1, 0.01, 0.001])
    rate = settings.learning_rate(settings.make(lr=0.1, warmup=0.1), 100)
    np.testing.assert_allclose([rate(0), rate(9), rate(55), rate(100)], [0.01, 0.1, 0.05, 0], atol=1e-12)
    assert settings.learning_rate(settings.make(lr=0.1, schedule="constant"), 100)(99) == 0.1


@pytest.mark.parametrize("norm", ["bn", "brn", "kn-analytic"])
def test_a_run_is_a_function_of_its_seed(tmp_path, norm):
    chosen = dataclasses.replace(SMALL, norm=norm, augment=True)
    rows = train.train(chosen, tmp_path / "a", progress=False)
    train.train(chosen, tmp_path / "b", progress=False)
    other = train.train(dataclasses.replace(chosen, seed=1), progress=False)
    same_bits(states(tmp_path / "a"), states(tmp_path / "b"))
    assert timeless(rows) != timeless(other)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] < 3


def test_rows_say_what_they_promise(tmp_path):
    run = train.prepare(SMALL, tmp_path)
    rows = train.proceed(run, progress=False)
    logits = run.net.forward(run.dataset.test_images, training=False)
    wrong = 100 * np.mean(logits.argmax(axis=1) != run.dataset.test_labels)
    assert rows[-1]["test_error"] == pytest.approx(wrong, abs=1e-12)
    assert rows[-1]["test_loss"] == pytest.approx(float(kr.cross_entropy(logits, run.dataset.test_labels)[0]), rel=1e-5)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[0]["images_per_second"] * rows[0]["seconds"] == pytest.approx(320)
    with (tmp_path / "log.csv").open() as stream:
        logged = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    assert logged == rows and tuple(rows[0]) == train.COLUMNS


def test_a_run_that_diverges_is_reported_as_it_is():
    row = train.train(dataclasses.replace(SMALL, lr=1e30, norm="bn"), progress=False)[-1]
    labels = train.load_data(SMALL).test_labels
    assert np.isnan(row["train_loss"]) and np.isnan(row["test_loss"])
    assert row["test_error"] == pytest.approx(100 * np.mean(labels != 0))


def test_killed_in_an_epoch_and_resumed_ends_in_the_same_bits(tmp_path):
    """kill -9, three times, at moments that nobody chose; the settings have a state of every kind."""
    chosen = dataclasses.replace(SMALL, epochs=40, augment=True, norm="brn")
    train.train(chosen, tmp_path / "whole", progress=False)
    code = (
        "import sys; from kalnorm_ref.experiments import settings, train\n"
        f"train.train(settings.Settings(**{dataclasses.asdict(chosen)}), sys.argv[1], resume=True, progress=False)"
    )
    stopped, seen = tmp_path / "stopped", 0
    environment = os.environ | {"PYTHONPATH": str(Path(kr.__file__).parents[1])}
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code, str(stopped)], env=environment)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if (stopped / checkpoint.NAME).exists():
                epochs = checkpoint.load(stopped / checkpoint.NAME)[0]["epoch"]
                if epochs > seen:
                    break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        seen = checkpoint.load(stopped / checkpoint.NAME)[0]["epoch"]
    assert seen < chosen.epochs
    rows = train.train(chosen, stopped, resume=True, progress=False)
    assert len(rows) == chosen.epochs
    same_bits(states(stopped), states(tmp_path / "whole"))
    assert sorted(path.name for path in stopped.iterdir()) == ["checkpoint.npz", "log.csv"]
    assert train.train(chosen, stopped, resume=True, progress=False) == rows  # a finished run stays as it is


@pytest.mark.parametrize("part", ["net", "optimizer"])
def test_the_comparison_of_bits_sees_a_state_that_was_not_restored(tmp_path, part):
    train.train(SMALL, tmp_path, progress=False)
    whole = states(tmp_path)
    record, parts = checkpoint.load(tmp_path / checkpoint.NAME)
    name = next(name for name, value in parts[part].items() if name.endswith("gamma"))
    parts[part][name] = np.nextafter(parts[part][name], np.float32(9))
    checkpoint.save(tmp_path / checkpoint.NAME, record, **parts)
    with pytest.raises(AssertionError, match=name):
        same_bits(states(tmp_path), whole)


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 3), ("norm", "bn"), ("seed", 1), ("brn_ramp", (1, 2, 3)), ("inference", "batch")]
)
def test_resuming_with_other_settings_is_refused(tmp_path, name, value):
    train.train(SMALL, tmp_path, progress=False)
    before = states(tmp_path)
    shown = list(value) if isinstance(value, tuple) else value
    message = (
        f"{tmp_path / checkpoint.NAME} was written with {name} {getattr(SMALL, name)}, not {shown}; "
        "resume with the same settings"
    )
    with pytest.raises(ValueError, match=exactly(message)):
        train.train(dataclasses.replace(SMALL, **{name: value}), tmp_path, resume=True, progress=False)
    with pytest.raises(ValueError, match=r"holds a checkpoint; go on from it with --resume, or name another folder\Z"):
        train.train(SMALL, tmp_path, progress=False)
    same_bits(states(tmp_path), before)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named(tmp_path, part):
    train.train(SMALL, tmp_path, progress=False)
    path = tmp_path / checkpoint.NAME
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    message = re.escape(f"{path}: truncated, damaged or no checkpoint (") + r".*\); delete it to start over\Z"
    with pytest.raises(ValueError, match="^" + message):
        train.train(SMALL, tmp_path, resume=True, progress=False)


def test_a_checkpoint_is_never_unpickled(tmp_path):
    np.savez(tmp_path / checkpoint.NAME, record=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"no checkpoint \(it is not an npz file of arrays\)\Z"):
        checkpoint.load(tmp_path / checkpoint.NAME)


def test_a_checkpoint_that_holds_something_else_is_named(tmp_path):
    np.savez(tmp_path / checkpoint.NAME, record=np.array("{}"), **{"other/x": np.zeros(1)})
    with pytest.raises(ValueError, match=r"npz: truncated, damaged or no checkpoint \(holds other/x\)\Z"):
        checkpoint.load(tmp_path / checkpoint.NAME)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    checkpoint.write_text(tmp_path / "a", "old")

    def fail(stream):
        stream.write(b"half of the ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match=exactly("disk full")):
        checkpoint.write_atomic(tmp_path / "a", fail)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_compare_writes_a_row_a_method_seed_and_epoch_and_a_summary_that_agrees(tmp_path):
    methods, seeds = ["bn", "kn-learned:gain=0.5"], [3, 0]
    found = compare(methods, seeds, SMALL, tmp_path / "new" / "out", progress=False)
    out = tmp_path / "new" / "out"
    assert sorted(path.name for path in out.iterdir()) == ["curves.png", "results.csv", "results.json"]
    text = (out / "results.csv").read_text()
    assert text.startswith("method,seed,epoch,train_loss,test_loss,test_error,seconds,images_per_second\n")
    rows = list(csv.DictReader(text.splitlines()))
    keys = [(row["method"], int(row["seed"]), int(row["epoch"])) for row in rows]
    assert keys == [(method, seed, epoch) for method in methods for seed in seeds for epoch in (1, 2)]
    stored = json.loads((out / "results.json").read_text())
    assert stored == found
    for summary in stored["summary"]:
        last = [row for row in rows if row["method"] == summary["method"] and row["epoch"] == "2"]
        errors = [float(row["test_error"]) for row in last]
        assert summary["test_error"] == errors and summary["seeds"] == seeds
        assert summary["test_error_mean"] == pytest.approx(np.mean(errors))
        assert (summary["test_error_min"], summary["test_error_max"]) == (min(errors), max(errors))
        assert summary["train_loss_mean"] == pytest.approx(np.mean([float(row["train_loss"]) for row in last]))
    assert (
        stored["complete"] and stored["backend"] == kr.get_backend() and set(stored["versions"]) >= {"numpy", "scipy"}
    )
    alone = train.train(dataclasses.replace(SMALL, norm=methods[1], seed=3), progress=False)
    assert [float(row["test_loss"]) for row in rows[4:6]] == [row["test_loss"] for row in alone]
    head = (out / "curves.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", head[16:24]) == (1600, 900)


def test_compare_refuses_before_it_writes(tmp_path):
    for methods, seeds, message in (
        (["bn", "bn"], [0], "methods: bn is there twice; expected each of them once"),
        ([], [0], "methods is []; expected at least one, as a list"),
        (["bn", "kn-learned:gain=7"], [0], "method 'kn-learned:gain=7': gain is 7; expected a value in [0, 1]"),
    ):
        with pytest.raises(ValueError, match=exactly(message)):
            compare(methods, seeds, SMALL, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
