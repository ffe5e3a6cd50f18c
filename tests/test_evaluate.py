"""Holds inference to its promises: three kinds of statistics, one figure in train and evaluate, clear mistakes."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

import kalnorm_ref as kr
from kalnorm_ref import cli
from kalnorm_ref.experiments import checkpoint, evaluate, settings, train
from kalnorm_ref.experiments import compare as comparison
from kalnorm_ref.inference import normalizers, set_inference

SMALL = settings.make(model="mlp", epochs=2, train_images=330, norm="kn-learned", statistics_batch_size=8)
MODES = ("running", "batch", "population")
WHOLE = 320  # training images in whole gradient batches


def small(**other):
    return dataclasses.replace(SMALL, **other)


def rows_of(folder, *modes, **options):
    return evaluate.evaluate_modes(evaluate.restore(folder, **options), modes or MODES, progress=False)[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train.train(small(epochs=1), folder / "out", progress=False)
    return (folder / "out" / checkpoint.NAME).read_bytes()


class Count:
    """A progress bar that only counts; it stops the run, as Ctrl-C does, at `stop` images."""

    def __init__(self, stop=None):
        self.n, self.stop = 0, stop

    def update(self, images):
        self.n += images
        if self.n == self.stop:
            raise KeyboardInterrupt

    def set_postfix_str(self, text, refresh):
        assert not refresh

    def set_description_str(self, text):
        assert text

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("norm", ["bn", "brn", "kn-learned", "kn-analytic", "kn-released"])
def test_evaluate_repeats_the_last_row_of_train(tmp_path, norm, mode):
    last = train.train(small(norm=norm, inference=mode), tmp_path, progress=False)[-1]
    found = {row["inference"]: row for row in rows_of(tmp_path)}
    assert found[mode] == {name: last[name] for name in ("test_error", "test_loss")} | {"inference": mode}
    assert len({row["test_loss"] for row in found.values()}) == 3


def test_the_mode_changes_no_bit_of_the_weights(tmp_path):
    stored = {}
    for mode in MODES:
        train.train(small(inference=mode), tmp_path / mode, progress=False)
        record, states = checkpoint.load(tmp_path / mode / checkpoint.NAME)
        assert record["settings"]["inference"] == mode
        arrays = states["net"] | states["optimizer"]
        stored[mode] = {name: a.tobytes() for name, a in arrays.items() if "population" not in name}
    assert stored["batch"] == stored["running"] == stored["population"]


def test_batch_mode_takes_whole_statistics_batches_of_the_test_images(monkeypatch):
    """For BN it is what a training forward does; a batch that cuts a statistics batch in two is not."""
    run = train.prepare(small(norm="bn", inference="batch"))
    train.proceed(run, progress=False)
    images, labels = run.dataset.test_images[:496], run.dataset.test_labels[:496]
    found = evaluate.evaluate(run.net, images, labels, 8)[0]
    set_inference(run.net, "running")  # a training forward takes statistics of the batch in any mode
    wanted = float(kr.cross_entropy(run.net.forward(images, training=True), labels)[0])
    assert found == pytest.approx(wanted, rel=1e-6)
    set_inference(run.net, "batch")
    monkeypatch.setattr(evaluate, "multiple", lambda near, size: near)
    assert evaluate.evaluate(run.net, images, labels, 8)[0] != pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("near", "size", "found"), [(100, 1, 100), (100, 8, 96), (100, 128, 128), (32, 20, 20)])
def test_multiples(near, size, found):
    assert evaluate.multiple(near, size) == found


def test_the_population_is_that_of_the_training_images_as_they_are(tmp_path):
    """In order, without augmentation, in whole gradient batches: the last ten images are left out."""
    chosen = small(norm="bn", inference="population", augment=True)
    train.train(chosen, tmp_path, progress=False)
    net = checkpoint.load(tmp_path / checkpoint.NAME)[1]["net"]
    images = train.load_data(chosen).train_images.reshape(330, -1).astype(np.float64)
    x = images @ net["1.weight"].astype(np.float64)
    found = net["2.population_mean"], net["2.population_var"]
    for value, wanted, other in zip(found, (x[:WHOLE].mean(0), x[:WHOLE].var(0)), (x.mean(0), x.var(0)), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)
        assert np.abs(value - other).max() > 1e-3


def test_the_population_goes_in_gradient_batches_of_whole_statistics_batches(monkeypatch):
    for sizes, passed in {(32, 8): [32] * 3, (32, 24): [24] * 4, (16, 50): [50, 50]}.items():
        seen, bar = [], Count()
        monkeypatch.setattr(evaluate, "recompute_population", lambda net, xs, seen=seen: seen.extend(map(len, xs)))
        evaluate.population_pass(None, np.zeros((100, 2, 2, 1)), *sizes, bar.update)
        assert seen == passed and bar.n == sum(passed)


def test_without_batch_normalizers_the_modes_are_one(tmp_path):
    train.train(small(norm="none", inference="population"), tmp_path, progress=False)
    plain = train.train(small(norm="none"), progress=False)[-1]
    rows, gap = evaluate.evaluate_modes(evaluate.restore(tmp_path), progress=False)
    assert [row["test_loss"] for row in rows] == [plain["test_loss"]] * 3 and gap is None


def test_a_method_may_name_its_mode_itself(tmp_path):
    net = settings.build(settings.make(norm="bn:inference=batch", inference="population"), (8, 8, 1), 10, 9)
    assert {layer.inference for _, layer in normalizers(net)} == {"batch"}
    net = settings.build(settings.make(norm="brn", inference="population"), (8, 8, 1), 10, 9)
    assert {layer.inference for _, layer in normalizers(net)} == {"population"}
    found = comparison.compare(
        ["bn", "bn:inference=population", "none"], [0], small(epochs=1), tmp_path, progress=False
    )
    assert found["settings"]["inference"] == "running"
    errors = [summary["test_error"] for summary in found["summary"]]
    assert errors[0] != errors[1]


@pytest.mark.parametrize("norm", ["bn", "none", "bn:inference=running"])
def test_the_bar_of_train_counts_to_its_end(norm):
    run, bar = train.prepare(small(norm=norm, inference="population")), Count()
    train.proceed(run, progress=False, bar=bar)
    assert bar.n == 2 * train.images_per_epoch(run.settings, run.dataset) == 2 * WHOLE * (2 if norm == "bn" else 1)


def test_the_bar_of_compare_counts_to_its_end(monkeypatch):
    bar, totals = Count(), []
    monkeypatch.setattr(comparison, "progress_bar", lambda title, total, progress: totals.append(total) or bar)
    comparison.compare(["bn", "none"], [0, 1], small(inference="population"), progress=False)
    assert totals == [bar.n] == [2 * 2 * 3 * WHOLE]


def test_the_bar_of_evaluate_counts_to_its_end(tmp_path, monkeypatch):
    train.train(SMALL, tmp_path, progress=False)
    bar, totals = Count(), []
    monkeypatch.setattr(evaluate, "progress_bar", lambda title, total, progress: totals.append(total) or bar)
    rows_of(tmp_path)
    assert totals == [bar.n] == [3 * 500 + WHOLE]
    rows_of(tmp_path, "running", "batch")
    assert totals[1] == bar.n - totals[0] == 2 * 500


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_shows_no_bar(trained, tmp_path, monkeypatch, quiet):
    (tmp_path / checkpoint.NAME).write_bytes(trained)
    asked = []
    monkeypatch.setattr(evaluate, "progress_bar", lambda title, total, progress: asked.append(progress) or Count())
    assert cli.main(["evaluate", str(tmp_path), "--inference", "running", *["--quiet"] * quiet]) == 0
    assert asked == [not quiet]


@pytest.mark.parametrize("stop", [WHOLE + 32, 3 * WHOLE + 64])
def test_stopped_in_training_or_in_the_population_pass_and_resumed_to_the_same_bits(tmp_path, stop):
    chosen = small(inference="population")
    train.train(chosen, tmp_path / "whole", progress=False)
    with pytest.raises(KeyboardInterrupt):
        train.proceed(train.prepare(chosen, tmp_path / "cut"), progress=False, bar=Count(stop))
    train.train(chosen, tmp_path / "cut", resume=True, progress=False)
    (record, cut), (wanted, whole) = (checkpoint.load(tmp_path / name / checkpoint.NAME) for name in ("cut", "whole"))
    assert record == wanted
    for name, value in whole["net"].items():
        assert cut["net"][name].tobytes() == value.tobytes(), name


def test_another_statistics_batch_leaves_the_gain_as_it_was_trained(tmp_path):
    train.train(small(norm="kn-analytic"), tmp_path, progress=False)
    restored = evaluate.restore(tmp_path, statistics_batch_size=16)
    layers = [layer for _, layer in normalizers(restored.net)]
    assert {layer.statistics_batch_size for layer in layers} == {16}
    assert layers[1].gain() == 0.1  # built for 16 images it would be 0.95
    before, after = rows_of(tmp_path), rows_of(tmp_path, statistics_batch_size=16)
    assert before[0] == after[0]
    assert all(one["test_loss"] != other["test_loss"] for one, other in zip(before[1:], after[1:], strict=True))


@pytest.mark.parametrize("norm", ["bn", "brn"])
def test_the_gap_is_that_of_running_averages_and_population(tmp_path, norm):
    train.train(small(norm=norm, inference="population"), tmp_path, progress=False)
    _, gap = evaluate.evaluate_modes(evaluate.restore(tmp_path), progress=False)
    net = checkpoint.load(tmp_path / checkpoint.NAME)[1]["net"]
    errors = []
    for path in ("2", "5"):
        for c in range(64):
            mean, var = net[f"{path}.population_mean"][c], net[f"{path}.population_var"][c] + 1e-5
            v = net[f"{path}.running_std"][c] ** 2 if norm == "brn" else net[f"{path}.running_var"][c] + 1e-5
            errors.append(((net[f"{path}.running_mean"][c] - mean) ** 2 / var, np.log(v / var) ** 2))
    assert [gap["mean_error"], gap["log_var_error"]] == pytest.approx(np.mean(errors, axis=0), rel=1e-4)
    assert evaluate.evaluate_modes(evaluate.restore(tmp_path), ["batch"], progress=False)[1] is None


def test_the_command_prints_a_table_or_json_and_writes_nothing(tmp_path, capsys):
    train.train(SMALL, tmp_path, progress=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert cli.main(["evaluate", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    title, head, *lines, gap = printed.out.splitlines()
    assert printed.err == "" and title == "kn-learned on digits, epoch 2, 8 images per statistics batch"
    assert head.split() == ["inference", "test", "error", "%", "test", "loss"]
    arguments = [str(tmp_path / checkpoint.NAME), "--inference", "batch", "running", "--quiet", "--json"]
    assert cli.main(["evaluate", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["inference"] for row in found["modes"]] == ["batch", "running"] and found["population_gap"] is None
    said = {name: [error, loss] for name, error, loss in (line.split() for line in lines)}
    assert list(said) == list(MODES) and gap.startswith("running averages (M, V) against the population (mean, var): ")
    for row in found["modes"]:
        assert said[row["inference"]] == [f"{row['test_error']:.2f}", f"{row['test_loss']:.4f}"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def spoil(folder, change):
    """Write the checkpoint of `folder` anew, changed."""
    record, states = checkpoint.load(folder / checkpoint.NAME)
    change(SimpleNamespace(record=record, fields=record["settings"], net=states["net"]))
    checkpoint.save(folder / checkpoint.NAME, record, **states)


MISTAKES = [
    (["missing"], None, "missing: no such file; expected a checkpoint of `kalnorm-ref train`, or its folder"),
    (["."], None, "checkpoint.npz: no such file; expected a checkpoint of `kalnorm-ref train`, or its folder"),
    (["out/log.csv"], None, "out/log.csv: truncated, damaged or no checkpoint ("),
    (["out", "--inference", "moving"], None, "argument --inference: invalid choice: 'moving' (choose from "),
    (["out", "--statistics-batch-size", "0"], None, "statistics_batch_size is 0; expected at least 1"),
    (
        ["out", "--statistics-batch-size", "331"],
        None,
        "statistics_batch_size is 331; expected at most 330, the training images of digits",
    ),
    (
        ["out"],
        lambda stored: stored.fields.update(colour="red"),
        "out/checkpoint.npz: not a checkpoint that this version can evaluate (",
    ),
    (
        ["out"],
        lambda stored: stored.fields.update(norm="bm"),
        "out/checkpoint.npz: not a checkpoint that this version can evaluate (unknown method 'bm'; ",
    ),
    (
        ["out"],
        lambda stored: stored.record.pop("epoch"),
        "out/checkpoint.npz: not a checkpoint that this version can evaluate ('epoch')",
    ),
    (
        ["out"],
        lambda stored: stored.net.pop("2.gamma"),
        "out/checkpoint.npz: does not fit the network of its settings (the state does not fit this network: missing "
        "['2.gamma'], not known [])",
    ),
    (
        ["out", "--data-dir", "nowhere"],
        lambda stored: stored.fields.update(data="cifar10"),
        "nowhere: no such folder or file; needs a folder with cifar-10-batches-bin or ",
    ),
]


@pytest.mark.parametrize(("arguments", "change", "message"), MISTAKES, ids=[message for *_, message in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(trained, tmp_path, monkeypatch, capsys, arguments, change, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / checkpoint.NAME).write_bytes(trained)
    (tmp_path / "out" / "log.csv").write_text("epoch\n")
    if change is not None:
        spoil(tmp_path / "out", change)
    assert cli.main(["evaluate", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"kalnorm-ref: error: {message}") and printed.err.count("\n") == 1
    assert printed.out == "" and "delete it" not in printed.err


def test_a_diverged_run_reports_its_nan_population(tmp_path):
    chosen = settings.make(norm="bn", epochs=1, lr=1e30, inference="population", train_images=32)
    row = train.train(chosen, tmp_path, progress=False)[-1]
    assert np.isnan(row["test_loss"])
