"""Holds the record of a run to its promises: figures from a second derivation, the same bits, a picture to be read."""

import csv
import dataclasses
import math
import re
import struct

import numpy as np
import pytest

import kalnorm_ref as kr
from kalnorm_ref import cli
from kalnorm_ref.experiments import checkpoint, record, record_plot, settings, train
from kalnorm_ref.layers.statistics import Seen

SMALL = settings.make(model="mlp", epochs=3, train_images=320, norm="kn-learned", statistics_batch_size=8)
COLUMNS = (
    "epoch,layer,gain,variance_ratio,batch_mean_error,batch_log_var_error,"
    "prior_mean_error,prior_log_var_error,used_mean_error,used_log_var_error"
)


def small(**other):
    return dataclasses.replace(SMALL, **other)


def bits(folder):
    """Every array of a checkpoint, as bytes."""
    states = checkpoint.load(folder / checkpoint.NAME)[1]
    return {f"{part}/{name}": a.tobytes() for part, state in states.items() for name, a in state.items()}


class Stop:
    """A progress bar that stops the run, as Ctrl-C does, after so many images."""

    def __init__(self, images):
        self.left = images

    def update(self, images):
        self.left -= images
        if self.left == 0:
            raise KeyboardInterrupt

    def set_postfix_str(self, text, refresh):
        assert text and not refresh


def seen(rng, groups, channels=3, prior=True, gain=0.3):
    """What a normalizer may have met in one forward."""

    def moments():
        return kr.Moments(rng.normal(5, 2, (groups, channels)), rng.uniform(0.1, 9, (groups, channels)))

    return Seen(4, moments(), moments() if prior else None, moments(), gain if prior else None)


def loops(batches, between=True):
    """The row of one normalizer, number by number; `between` False forgets the variance of the batches' means."""
    channels = range(batches[0].observed.mean.shape[1])
    met = [(b, g) for b in batches for g in range(len(b.observed.mean))]
    met_prior = [(b, g) for b, g in met if b.prior is not None]
    population = []
    for c in channels:
        mean = math.fsum(b.observed.mean[g, c] for b, g in met) / len(met)
        within = math.fsum(b.observed.var[g, c] for b, g in met) / len(met)
        spread = math.fsum((b.observed.mean[g, c] - mean) ** 2 for b, g in met) / len(met)
        population.append((mean, within + between * spread))
    row = {}
    for name, field, over in (("batch", "observed", met), ("prior", "prior", met_prior), ("used", "used", met)):
        means, logs = [], []
        for b, g in over:
            for c, (mean, var) in zip(channels, population, strict=True):
                found = getattr(b, field)
                means.append((found.mean[g, c] - mean) ** 2 / var)
                logs.append(math.log(found.var[g, c] / var) ** 2)
        row[f"{name}_mean_error"] = math.fsum(means) / len(means) if means else None
        row[f"{name}_log_var_error"] = math.fsum(logs) / len(logs) if logs else None
    ratios = [b.prior.var[g, c] / b.observed.var[g, c] for b, g in met_prior for c in channels]
    gains = [float(np.broadcast_to(b.gain, b.used.mean.shape)[g, c]) for b, g in met_prior for c in channels]
    row["variance_ratio"] = math.fsum(ratios) / len(ratios) if ratios else None
    row["gain"] = math.fsum(gains) / len(gains) if gains else None
    return row


def batches_of(kind, rng):
    sizes = (4, 4, 2)  # statistics batches in each forward; the last may be smaller
    gains = {"number": 0.3, "channels": np.array([0.1, 0.5, 0.9]), "each": None, "rejected": 0.3, "none": None}
    found = []
    for index, groups in enumerate(sizes):
        prior = kind != "none" and not (kind == "rejected" and index == 1)
        gain = rng.uniform(0, 1, (groups, 3)) if kind == "each" else gains[kind]
        found.append(seen(rng, groups, prior=prior, gain=gain))
    return found


@pytest.mark.parametrize("kind", ["number", "channels", "each", "rejected", "none"])
def test_a_row_against_scalar_loops(kind):
    batches = batches_of(kind, np.random.default_rng(0))
    found, wanted = record.row_of(batches), loops(batches)
    assert found.keys() == wanted.keys() == set(record.COLUMNS[2:])
    missing = {name for name, value in wanted.items() if value is None}
    assert missing == (
        {"gain", "variance_ratio", "prior_mean_error", "prior_log_var_error"} if kind == "none" else set()
    )
    for name in wanted.keys() - missing:
        assert found[name] == pytest.approx(wanted[name], rel=1e-12), name


def test_the_loops_see_a_population_without_the_variance_of_the_means():
    batches = batches_of("number", np.random.default_rng(0))
    found, planted = record.row_of(batches), loops(batches, between=False)
    for name in record.ERRORS:
        assert found[name] != pytest.approx(planted[name], rel=0.01), name


def test_the_first_normalizer_sees_the_first_images(monkeypatch):
    """Its statistics are those of the layer before it; the errors of a training forward by hand."""
    monkeypatch.setattr(record, "IMAGES", 100)
    run = train.prepare(small(norm="bn"))
    images = run.dataset.train_images
    before = {name: a.copy() for name, a in run.net.state().items()}
    rows = record.measure(run.net, images, run.settings)
    assert [row["layer"] for row in rows] == ["2", "5"]
    x = images[:96].reshape(12, 8, -1) @ run.net.params["1.weight"]  # 96: whole statistics batches of 8 in 100
    mean, var = x.mean(axis=1), x.var(axis=1)
    whole = x.reshape(96, -1)
    wanted = np.mean((mean - whole.mean(axis=0)) ** 2 / whole.var(axis=0))
    assert rows[0]["batch_mean_error"] == rows[0]["used_mean_error"] == pytest.approx(wanted, rel=1e-4)
    wanted = np.mean(np.log(var / whole.var(axis=0)) ** 2)
    assert rows[0]["batch_log_var_error"] == pytest.approx(wanted, rel=1e-4)
    for name, a in run.net.state().items():
        np.testing.assert_array_equal(a, before[name])


@pytest.mark.parametrize(
    ("count", "size", "gradient", "passed"),
    [
        (320, 8, 32, [32] * 8),
        (40, 8, 32, [32, 8]),
        (320, 100, 200, [200]),
        (600, 300, 300, [300]),
        (300, 1, 96, [96] * 2 + [64]),
    ],
)
def test_so_many_images_pass(count, size, gradient, passed):
    net, batches = kr.Sequential(), []
    net.forward = lambda x, training: batches.append(len(x)) or training or pytest.fail("not in training mode")
    chosen = settings.make(statistics_batch_size=size, gradient_batch_size=gradient)
    assert record.measure(net, np.zeros((count, 8, 8, 1)), chosen) == [] and batches == passed


@pytest.mark.parametrize("norm", ["bn", "brn", "kn-learned", "kn-analytic", "kn-released"])
def test_a_record_changes_no_bit_of_the_training(tmp_path, norm):
    chosen = small(norm=norm, augment=True)
    plain = train.train(chosen, tmp_path / "plain", progress=False)
    kept = train.train(chosen, tmp_path / "kept", progress=False, record=True)
    assert bits(tmp_path / "plain") == bits(tmp_path / "kept")
    timeless = [[{name: row[name] for name in train.COLUMNS[:4]} for row in rows] for rows in (plain, kept)]
    assert timeless[0] == timeless[1]
    names = ["checkpoint.npz", "log.csv", "record.csv", "record.png"]
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == names


def test_the_csv_has_a_row_an_epoch_and_normalizer_and_empty_cells_without_a_prior(tmp_path):
    run = train.prepare(SMALL, tmp_path, record=True)
    train.proceed(run, progress=False)
    text = (tmp_path / record.NAME).read_text()
    assert text.startswith(COLUMNS + "\n")
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["epoch"], row["layer"]) for row in rows] == [(str(e), layer) for e in (1, 2, 3) for layer in "25"]
    for row in rows:
        empty = [name for name, cell in row.items() if cell == ""]
        first = ["gain", "variance_ratio", "prior_mean_error", "prior_log_var_error"]
        assert empty == (first if row["layer"] == "2" else [])
        assert row["layer"] == "5" or float(row["batch_mean_error"]) == pytest.approx(float(row["used_mean_error"]))
    gain = float(run.net.children["5"].gain())
    assert float(rows[-1]["gain"]) == pytest.approx(gain, rel=1e-6)
    measured = record.measure(run.net, run.dataset.train_images, SMALL)
    assert record.read(tmp_path / record.NAME, 3)[-2:] == [{"epoch": 3} | row for row in measured]


def test_stopped_and_resumed_to_the_same_bytes(tmp_path):
    train.train(SMALL, tmp_path / "whole", progress=False, record=True)
    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        train.proceed(train.prepare(SMALL, cut, record=True), progress=False, bar=Stop(320 + 64))
    assert (cut / record.NAME).read_text().count("\n") == 1 + 2 and (cut / record_plot.NAME).exists()
    train.train(SMALL, cut, resume=True, progress=False, record=True)
    assert (cut / record.NAME).read_bytes() == (tmp_path / "whole" / record.NAME).read_bytes()
    assert bits(cut) == bits(tmp_path / "whole")


def test_killed_between_record_and_checkpoint_and_resumed_to_the_same_bytes(tmp_path, monkeypatch):
    train.train(SMALL, tmp_path / "whole", progress=False, record=True)
    cut, write = tmp_path / "cut", checkpoint.save

    def save(path, stored, **states):
        if stored["epoch"] == 2:
            raise KeyboardInterrupt
        write(path, stored, **states)

    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.raises(KeyboardInterrupt):
        train.train(SMALL, cut, progress=False, record=True)
    monkeypatch.undo()
    assert checkpoint.load(cut / checkpoint.NAME)[0]["epoch"] == 1 and len(record.read(cut / record.NAME, 9)) == 4
    train.train(SMALL, cut, resume=True, progress=False, record=True)
    assert (cut / record.NAME).read_bytes() == (tmp_path / "whole" / record.NAME).read_bytes()


def test_a_record_may_join_at_a_resume_and_a_finished_run_keeps_its_own(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train.proceed(train.prepare(SMALL, tmp_path), progress=False, bar=Stop(320 + 64))
    for _ in range(2):
        train.train(SMALL, tmp_path, resume=True, progress=False, record=True)
        assert [row["epoch"] for row in record.read(tmp_path / record.NAME, 3)] == [2, 2, 3, 3]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "its columns are "),
        ("epoch,layer\n1,2\n", "its columns are epoch, layer"),
        (f"{COLUMNS}\n1,2,much,,1,1,,,1,1\n", "could not convert string to float: 'much'"),
        (f"{COLUMNS}\n1,2,,,1\n", "a row has other than 10 cells"),
        (f"{COLUMNS}\none,2,,,1,1,,,1,1\n", "invalid literal for int() with base 10: 'one'"),
        (f"{COLUMNS}\n1,2,,,1,1,,,1,1,7\n", "a row has other than 10 cells"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, text, reason):
    train.train(SMALL, tmp_path, progress=False)
    (tmp_path / record.NAME).write_text(text)
    start = re.escape(f"{tmp_path / record.NAME}: not the record of a run ({reason}")
    with pytest.raises(ValueError, match=rf"^{start}.*\); delete it to go on without its epochs\Z"):
        train.train(SMALL, tmp_path, resume=True, progress=False, record=True)
    assert (tmp_path / record.NAME).read_text() == text


def test_what_cannot_be_recorded_is_refused_before_any_work(tmp_path):
    with pytest.raises(ValueError, match=r"^method 'none' cannot be recorded; expected one with batch normalizers\Z"):
        train.train(small(norm="none"), tmp_path / "out", record=True)
    with pytest.raises(ValueError, match=r"^a record needs a folder to write into; out is None\Z"):
        train.train(SMALL, record=True)
    assert not (tmp_path / "out").exists()


def test_the_command_keeps_a_record(tmp_path, capsys):
    options = ["--model", "mlp", "--epochs", "1", "--train-images", "320", "--statistics-batch-size", "8", "--quiet"]
    assert cli.main(["train", "--record", "--out", str(tmp_path), *options]) == 0
    assert capsys.readouterr().out.endswith(f"; log.csv, checkpoint.npz, record.csv and record.png are in {tmp_path}\n")
    head = (tmp_path / record_plot.NAME).read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", head[16:24]) == (1600, 900)
    assert cli.main(["train", "--norm", "none", "--record", "--out", str(tmp_path / "other"), *options]) == 2
    assert cli.main(["train", "--out", str(tmp_path / "plain"), *options]) == 0
    capsys.readouterr()
    assert cli.main(["train", "--resume", "--record", "--out", str(tmp_path / "plain"), *options]) == 0
    assert capsys.readouterr().out.endswith(f"; log.csv and checkpoint.npz are in {tmp_path / 'plain'}\n")
    cli.main(["train", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert all(name in words for name in ("record.csv", "record.png", "population", "without augmentation"))
