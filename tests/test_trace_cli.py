"""Holds `kalnorm-ref trace` to its promises: own arrays in, every step out, one clear line for a mistake."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from kalnorm_ref import cli
from kalnorm_ref.tracing import methods
from kalnorm_ref.tracing.examples import EXAMPLES

DOCS = Path(__file__).parent.parent / "docs"
COMMANDS = re.findall(r"^    (kalnorm-ref .*?)(?:\s+#.*)?$", (DOCS / "trace.md").read_text(), re.MULTILINE)
NEEDED = "kn takes x, dy, prior_mean, prior_var, gain, and if you like gamma, beta, destimate_mean, destimate_var, eps"
ARRAYS = {
    "x": np.array([[6.0, 1.0], [2.0, 4.0]]),
    "dy": np.array([[1.0, -2.0], [0.5, 3.0]]),
    "prior_mean": np.array([3.0, 2.0]),
    "prior_var": np.array([1.0, 2.0]),
    "gain": 0.25,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("mine.npz", **ARRAYS)
    return tmp_path


def answer(capsys, *words):
    """Exit code, standard output and standard error."""
    code = cli.main(["trace", *words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.parametrize("method", EXAMPLES)
def test_every_method_has_an_example_and_prints_it(method, capsys):
    for name, example in EXAMPLES[method].items():
        code, out, err = answer(capsys, method, "--example", name)
        assert (code, err) == (0, "")
        assert out == methods.run(method, example.arguments, example.about).text(example.fractions)
    assert set(EXAMPLES) == set(methods.METHODS)


def test_the_first_example_is_the_one_without_a_name(capsys):
    assert answer(capsys, "kn") == answer(capsys, "kn", "--example", "exact")
    assert "7/2 = 3.5" in answer(capsys, "kn")[1]
    assert "/2 =" not in answer(capsys, "kn", "--example", "decimal")[1]


def test_own_arrays_go_in_and_every_step_comes_out(folder, capsys):
    code, out, _ = answer(capsys, "kn", "--npz", "mine.npz", "--out", "steps.npz", "--html", "kn.html")
    trace = methods.run("kn", ARRAYS)
    assert (code, out) == (0, f"{len(trace.steps)} steps are in kn.html and steps.npz\n")
    with np.load("steps.npz", allow_pickle=False) as stored:
        assert stored["symbols"].tolist() == [step.symbol for step in trace.steps]
        last = stored[f"{len(trace.steps):03d} dx"]
    np.testing.assert_array_equal(last, trace.steps[-1].value)
    assert Path("kn.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "1/4 = 0.25" in answer(capsys, "kn", "--npz", "mine.npz", "--fractions")[1]
    assert answer(capsys, "kn", "--npz", "mine.npz")[1] == trace.text()


def test_numbers_and_words_of_an_npz_file_are_numbers_and_words(folder, capsys):
    for method, name in (("push", "observed"), ("gn", "exact"), ("brn", "exact")):
        arguments = EXAMPLES[method][name].arguments
        np.savez("example.npz", **arguments)
        expected = methods.run(method, arguments, "example.npz").text(fractions=True)
        assert answer(capsys, method, "--npz", "example.npz", "--fractions") == (0, expected, "")


def save(**changes):
    arrays = {name: value for name, value in (ARRAYS | changes).items() if value is not None}
    np.savez("wrong.npz", **arrays)


MISTAKES = [
    (["kn", "--example", "nice"], {}, "kn has no example 'nice'; expected one of exact, decimal, micro-batch"),
    (["kn", "--npz", "none.npz"], {}, "none.npz: no such file"),
    (["kn", "--npz", "wrong.npz"], {"dy": None, "gain": None}, f"wrong.npz: dy, gain missing; {NEEDED}"),
    (["kn", "--npz", "wrong.npz"], {"alpha": 1.0}, f"wrong.npz: alpha unknown; {NEEDED}"),
    (["kn", "--npz", "wrong.npz"], {"gain": 2.0}, "gain has the value 2; expected values in [0, 1]"),
    (["kn", "--npz", "wrong.npz"], {"dy": np.ones((2, 3))}, "dy has shape (2, 3); expected (2, 2), the shape of x"),
    (
        ["kn", "--npz", "wrong.npz"],
        {"x": np.array([[1, 2], [3, 4]])},
        "x has type int64; expected float32, float64, or complex128 with the NumPy backend "
        "(convert with x.astype(np.float32))",
    ),
    (
        ["kn", "--npz", "wrong.npz"],
        {"destimate_mean": np.ones(2)},
        "destimate_mean and destimate_var come together; expected both, or neither",
    ),
    (["kn", "--html", "no/kn.html"], {}, "no/kn.html: expected a file in a folder that exists"),
    (["kn", "--out", "."], {}, ".: expected a file in a folder that exists"),
    (
        ["kn", "--npz", "mine.npz", "--example", "exact"],
        {},
        "argument --example: not allowed with argument --npz (see kalnorm-ref trace --help)",
    ),
]


@pytest.mark.parametrize(("words", "changes", "message"), MISTAKES, ids=[message[:30] for *_, message in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(words, changes, message, folder, capsys):
    save(**changes)
    before = sorted(folder.iterdir())
    assert answer(capsys, *words) == (2, "", f"kalnorm-ref: error: {message}\n")
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("content", [b"", b"no npz", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_npz_is_one_line(content, folder, capsys):
    Path("odd.npz").write_bytes(content)
    code, out, err = answer(capsys, "kn", "--npz", "odd.npz")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err == "kalnorm-ref: error: odd.npz is no npz file of numbers; write one with numpy.savez\n"


def test_pickled_objects_are_never_loaded(folder, capsys):
    np.savez("objects.npz", **ARRAYS | {"dy": np.array([print, None], dtype=object)})
    code, _, err = answer(capsys, "kn", "--npz", "objects.npz")
    assert code == 2 and err.startswith("kalnorm-ref: error: objects.npz is no npz file of numbers")


def test_a_method_that_is_not_is_one_line(capsys):
    code, _, err = answer(capsys, "batch")
    assert code == 2 and err.startswith("kalnorm-ref: error: argument METHOD: invalid choice: 'batch'")


def test_help_teaches_with_every_example(capsys):
    code, out, _ = answer(capsys, "--help")
    assert code == 0
    assert all(f"{name:<11} {e.about}" in out for examples in EXAMPLES.values() for name, e in examples.items())
    for command in re.findall(r"^  kalnorm-ref (trace [\w. -]+?)(?:\s{2,}|  ?your).*$", out, re.MULTILINE):
        assert cli.parser().parse_args(shlex.split(command)).prepare


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_docs_page_work(command, folder, capsys):
    assert cli.main(shlex.split(command)[1:]) == 0
