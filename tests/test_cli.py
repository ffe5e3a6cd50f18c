"""Holds what a user sees to its promises: exit codes, one line for a mistake, nothing half-written, clear pictures."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import kalnorm_ref as kr
from kalnorm_ref import backend, cli
from kalnorm_ref.experiments import checkpoint, plots, settings, train
from kalnorm_ref.experiments.compare import to_json

SMALL = ["--model", "mlp", "--epochs", "2", "--train-images", "320", "--statistics-batch-size", "8"]
METHODS = ", ".join(kr.models.NORMS)


def program(*arguments, folder):
    """The command line as a process of its own, in an empty folder."""
    environment = os.environ | {"PYTHONPATH": str(Path(kr.__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-m", "kalnorm_ref", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


MISTAKES = [
    ([], "the following arguments are required: COMMAND (see kalnorm-ref --help)"),
    (["compare", "--colour", "red"], "unrecognized arguments: --colour red (see kalnorm-ref --help)"),
    (["train", "--epochs", "many"], "argument --epochs: invalid int value: 'many' (see kalnorm-ref train --help)"),
    (["compare", "--methods", "bn", "bm"], f"unknown method 'bm'; expected one of {METHODS}"),
    (
        ["compare", "--statistics-batch-size", "3"],
        "statistics_batch_size is 3; expected a divisor of the gradient batch size, 32",
    ),
    (["train", "--norm", "none:eps=1"], "method 'none:eps=1': unknown option 'eps'; the options of none are: none"),
    (["train", "--norm", "kn-learned:gain=2"], "method 'kn-learned:gain=2': gain is 2; expected a value in [0, 1]"),
    (["train", "--train-images", "1298"], "train_limit: got 1298, needs 1..1297, the training images of digits"),
    (
        ["train", "--batch-size", "2048"],
        "gradient_batch_size is 2048; expected at most 1297, the training images of digits",
    ),
    (["train", "--threads", "0"], "number of threads is 0; expected at least 1"),
    (["train", "--out", "file"], "file is a file; expected a folder to write into"),
    (["compare", "--out", "file/deep"], "file is a file; expected a folder to write into"),
    (
        ["compare", "--data", "cifar10", "--data-dir", "missing"],
        "missing: no such folder or file; needs a folder with cifar-10-batches-bin or cifar-10-binary.tar.gz; "
        "get it with `kalnorm-ref data fetch cifar10`",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[message[:30] for _, message in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2_and_nothing_written(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err == f"kalnorm-ref: error: {message}\n" and printed.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (["frobnicate"], "argument COMMAND: invalid choice: 'frobnicate'"),
        (["compare", "--methods", "bm"], "unknown method 'bm'; expected one of"),
        (["data", "check", "cifar10", "--dir", "missing"], "missing: no such folder or file; needs"),
    ],
)
def test_exit_codes_of_the_process(arguments, start, tmp_path):
    process = program(*arguments, folder=tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and out == ""
    assert err.startswith(f"kalnorm-ref: error: {start}") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_version_names_backend_instructions_and_threads(capsys):
    assert cli.main(["--version"]) == 0
    name, used, instructions, threads = capsys.readouterr().out.strip().split(", ")
    assert name.startswith("kalnorm-ref ") and used == f"backend {kr.get_backend()}"
    assert len(instructions.split()) == 2 and threads == f"{backend.get_num_threads()} threads"


@pytest.mark.parametrize("command", [[], ["compare"], ["train"], ["evaluate"], ["bench"], ["data"], ["data", "fetch"]])
def test_help_teaches_with_an_example(command, capsys):
    assert cli.main([*command, "--help"]) == 0
    assert " ".join(["\n  kalnorm-ref", *command]) in capsys.readouterr().out


def test_the_help_of_brn_ramp_names_the_steps_of_the_paper(capsys):
    cli.main(["compare", "--help"])
    assert "5000 40000 25000" in " ".join(capsys.readouterr().out.split())


def test_compare_prints_a_table_or_json(tmp_path, capsys):
    arguments = ["compare", "--methods", "bn", "kn-shrink", "--out", str(tmp_path), "--quiet", *SMALL]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    head, _, *lines = printed.out.splitlines()
    assert head.split() == ["method", "test", "error", "%", "range", "train", "loss", "images/s"]
    assert [line.split()[0] for line in lines[:2]] == ["bn", "kn-shrink"]
    assert cli.main([*arguments, "--json"]) == 0
    summaries = json.loads(capsys.readouterr().out)
    for line, summary in zip(lines, summaries, strict=False):
        assert line.split()[1] == f"{summary['test_error_mean']:.2f}"


def test_train_says_each_epoch_and_refuses_to_overwrite(tmp_path, capsys):
    arguments = ["train", "--norm", "bn", "--out", str(tmp_path / "run"), *SMALL]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.err.splitlines()] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert printed.out.startswith("bn, epoch 2: test error ")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint.npz", "log.csv"]
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.endswith("holds a checkpoint; go on from it with --resume, or name another folder\n")
    assert cli.main([*arguments, "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epoch"] == 2


def test_a_run_has_the_same_bits_at_any_number_of_threads(tmp_path):
    before = backend.get_num_threads()
    stored = []
    try:
        for threads in ("1", "2"):
            out = str(tmp_path / threads)
            assert cli.main(["train", "--threads", threads, "--quiet", "--out", out, *SMALL]) == 0
            stored.append(checkpoint.load(tmp_path / threads / checkpoint.NAME)[1]["net"])
    finally:
        backend.set_num_threads(before)
    for name, value in stored[0].items():
        assert value.tobytes() == stored[1][name].tobytes(), name


def test_ctrl_c_keeps_the_runs_that_are_finished(tmp_path):
    seeds = [str(seed) for seed in range(200)]
    process = program("compare", "--methods", "bn", "--seeds", *seeds, "--out", "out", *SMALL, folder=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "results.json").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert err.splitlines()[-1] == "kalnorm-ref: stopped; finished runs are in out"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["curves.png", "results.csv", "results.json"]
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    finished = len(stored["summary"][0]["seeds"])
    assert not stored["complete"] and 0 < finished < 200
    assert (tmp_path / "out" / "results.csv").read_text().count("\n") == 1 + 2 * finished


def test_a_mistake_of_the_package_keeps_its_traceback(tmp_path, monkeypatch):
    def broken(run, progress):
        raise ValueError("shapes do not match")

    monkeypatch.setattr(train, "proceed", broken)
    with pytest.raises(ValueError, match=r"^shapes do not match\Z"):
        cli.main(["train", "--out", str(tmp_path / "run"), *SMALL])


def test_data_check_counts(capsys):
    assert cli.main(["data", "check", "digits"]) == 0
    assert capsys.readouterr().out == "digits: 1297 training and 500 test images of 8x8x1, 10 classes\n"
    assert cli.main(["data", "check", "digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["image_shape"] == [8, 8, 1]


def test_data_fetch_passes_on_where_and_prints_the_path(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(kr.data, "fetch", lambda *given, **named: asked.append((given, named)) or tmp_path / "a.tar.gz")
    assert cli.main(["data", "fetch", "cifar10", "--dir", str(tmp_path), "--quiet"]) == 0
    assert asked == [(("cifar10", str(tmp_path)), {"progress": False})]
    assert capsys.readouterr().out == f"{tmp_path / 'a.tar.gz'}\n"


def test_one_backend_is_chosen_for_the_whole_run(tmp_path):
    assert cli.main(["train", "--backend", "numpy", "--quiet", "--out", str(tmp_path), *SMALL]) == 0
    record, states = checkpoint.load(tmp_path / checkpoint.NAME)
    assert record["settings"]["backend"] == "numpy" and all(np.isfinite(a).all() for a in states["net"].values())


def test_json_has_no_word_for_nan():
    assert json.loads(to_json({"a": [float("nan"), 1.5], "b": float("inf")})) == {"a": [None, 1.5], "b": None}


@pytest.mark.parametrize("count", [1, 5, 12])
def test_labels_of_a_picture_never_overlap_nor_leave_it(count):
    rng = np.random.default_rng(count)
    errors = {f"kn-analytic:push=released,gain=0.{i}": rng.uniform(1.9, 2.1, (3, 4)) for i in range(count)}
    errors["bn"] = np.full((3, 4), 90.0)
    errors["perfect"] = np.zeros((3, 4))
    figure = plots.figure_of(settings.make(), errors)
    boxes = [text.get_window_extent(figure.canvas.get_renderer()) for text in figure.texts]
    assert len(boxes) == len(errors) + 2
    assert all(box.x0 >= 0 and box.x1 <= 1600 and box.y0 >= 0 and box.y1 <= 900 for box in boxes)
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert ticks_of(figure) == ["2", "5", "10", "20", "50", "100"]


@pytest.mark.parametrize("mode", ["running averages", "batch statistics", "population statistics"])
def test_a_picture_names_what_inference_took(mode):
    figure = plots.figure_of(settings.make(inference=mode.split()[0]), {"bn": np.array([[70.0, 65.0]])})
    assert f"; {mode} at inference; gradient batch 32; one seed" in figure.texts[1].get_text()


def ticks_of(figure):
    return [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def test_a_narrow_range_has_ticks_enough_and_one_epoch_is_a_picture_too():
    assert ticks_of(plots.figure_of(settings.make(), {"bn": np.array([[70.0, 65.0]])})) == [
        "30",
        "40",
        "50",
        "60",
        "80",
    ]
    assert len(ticks_of(plots.figure_of(settings.make(), {"bn": np.array([[0.0]])}))) > 3


def test_labels_move_as_little_as_possible():
    np.testing.assert_allclose(plots.spread(np.array([9.0, 5, 5, 30]), 2, 0, 40), [9, 4, 6, 30])
    np.testing.assert_allclose(plots.spread(np.array([5.0, 5, 5]), 2, 4, 40), [4, 6, 8])
