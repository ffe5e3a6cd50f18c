"""Holds the gradient proof to its promise: every pair and every judge is in it, and the page says what it says."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest
from twin_cases import TWINNED

import kalnorm_ref as kr
from kalnorm_ref import cli, gradproof, transport
from kalnorm_ref.cli.common import around_tables
from kalnorm_ref.gradproof import BOUNDS, PAIRS, judges, report
from kalnorm_ref.gradproof.loops import parts

PAGE = Path(__file__).parent.parent / "docs" / "gradproof.md"
FOUR = list(BOUNDS)[:4]
CASES = [case for pair in PAIRS.values() for case in pair.cases()]


@pytest.fixture(scope="module")
def whole():
    """The proof of every pair."""
    return gradproof.prove()


def run(capsys, *words):
    """Exit code and lines of `kalnorm-ref gradproof`."""
    code = cli.main(["gradproof", *words])
    return code, capsys.readouterr().out.splitlines()


def public_pairs():
    """Every f_backward beside its f, in the modules of the package but the layers', which keep state."""
    for module in pkgutil.walk_packages(kr.__path__, "kalnorm_ref."):
        if not re.search(r"\._|\.layers|\.gradproof", module.name):
            functions = vars(importlib.import_module(module.name))
            for name, function in functions.items():
                forward = name.removesuffix("_backward")
                own = inspect.isfunction(function) and function.__module__ == module.name
                paired = forward in functions or f"{forward}_forward" in functions
                if own and paired and name.endswith("_backward") and not name.startswith("_"):
                    yield name, function


def test_every_public_pair_is_in_the_table():
    proved = {id(getattr(pair.owner, pair.backward, None)) for pair in PAIRS.values()}
    found = list(public_pairs())
    assert len(found) == len(PAIRS) - 1  # the loss returns its gradient itself
    assert [name for name, function in found if id(function) not in proved] == []


def test_every_public_backward_of_the_namespaces_is_in_the_table():
    names = {f"{prefix}{name}" for prefix, space in (("", kr), ("transport.", transport)) for name in space.__all__}
    assert {name.removesuffix("_backward") for name in names if name.endswith("_backward")} <= set(PAIRS)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_the_table_knows_the_twins(pair):
    function = getattr(pair.owner, pair.backward, None) or getattr(pair.owner, pair.forward)
    assert pair.twin == any(function is twinned for twinned in TWINNED.values())


def test_everything_is_within_its_bounds(whole):
    assert gradproof.failures(whole) == [] and whole.absent == {}
    assert [(row.pair, row.case, row.argument) for row in whole.rows] == expected_rows()
    assert {m.pair for m in whole.mistakes} == set(PAIRS)


def expected_rows():
    return [(c.pair.name, c.label, name) for c in CASES for name in [n for _, n in judges.places(c)] + ["result"]]


def test_every_gradient_is_before_every_judge_that_applies(whole):
    for row in whole.rows:
        expected = set(FOUR[2:] if row.argument == "result" else FOUR) | ({"twin"} if PAIRS[row.pair].twin else set())
        assert set(row.figures) == expected
    assert all(set(mistake.figures) == set(FOUR) for mistake in whole.mistakes)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_case_can_show_a_mistake(case):
    """x far from zero, no gamma of ones, nothing from above that is zero or one."""
    arguments = dict(zip(case.pair.names, case.arguments, strict=False))
    for name in ("x", "x_hat"):
        if name in arguments:
            assert abs(arguments[name].mean()) > 1.5 * arguments[name].std()
    if arguments.get("gamma") is not None:
        assert np.ptp(arguments["gamma"]) > 0.5
    for leaf in kr.gradcheck.leaves(case.given):
        assert not np.isin(leaf, (0, 1)).any()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_fifty_digits_use_no_function_of_floats(case, monkeypatch):
    monkeypatch.setattr(parts, "math", None)
    gradients, results = judges.fifty_digits(case)
    assert len(gradients) == len(judges.places(case)) and results


# ---- the command and the page -------------------------------------------------------------------------------------


def test_a_group_of_pairs_is_chosen_by_its_prefix(capsys):
    code, lines = run(capsys, "full", "fuse")
    named = {re.split(r"[ ,]", line)[0] for line in lines[1 : lines.index("") - 1]}
    assert code == 0 and named == {"fuse", *(name for name in PAIRS if name.startswith("full."))}


def test_an_unknown_pair_is_one_line(capsys):
    assert cli.main(["gradproof", "fused"]) == 2
    expected = f"kalnorm-ref: error: there is no pair 'fused'; there are {', '.join(PAIRS)}\n"
    assert capsys.readouterr().err == expected


def test_markdown_replaces_the_table_and_nothing_else(tmp_path, whole, monkeypatch, capsys):
    monkeypatch.setattr(gradproof, "prove", lambda *a, **k: whole)
    file = tmp_path / "page.md"
    file.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    assert run(capsys, "--markdown", str(file))[0] == 0
    before, table, after = re.split(f"{report.BEGIN}|{report.END}", file.read_text())
    assert (before, after) == ("before\n", "\nafter\n")
    assert "old" not in table and read_table(table) == [title(*row) for row in expected_rows()]


@pytest.mark.parametrize(
    ("words", "text", "message"),
    [
        ((), "no table", "has no table to replace; expected the lines"),
        (("fuse",), f"{report.BEGIN}\n{report.END}", "--markdown writes the table of all pairs; leave out their names"),
    ],
)
def test_markdown_refuses_before_any_work(words, text, message, tmp_path, capsys):
    file = tmp_path / "page.md"
    file.write_text(text)
    assert cli.main(["gradproof", *words, "--markdown", str(file)]) == 2
    assert message in capsys.readouterr().err and file.read_text() == text


def title(pair, case, argument):
    return (f"{pair}, {case}" if case else pair), argument


def cells(text):
    """The rows of the table with figures: lists of cells."""
    table = text[text.index("| pair | argument |") :].split("\n\n")[0]
    return [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]


def read_table(text):
    return [tuple(row[:2]) for row in cells(text)[1:]]


def test_the_page_holds_every_row_within_its_bounds():
    before, after = around_tables(PAGE, report.BEGIN, report.END)
    table = PAGE.read_text().removeprefix(before).removesuffix(after)
    assert read_table(table) == [title(*row) for row in expected_rows()]
    bounds, *rows = cells(table)
    assert [float(b) for b in bounds[2:]] == list(BOUNDS.values())
    for (pair, _, argument), row in zip(expected_rows(), rows, strict=True):
        applies = [argument != "result"] * 2 + [True, True, PAIRS[pair].twin]
        assert [figure != "-" for figure in row[2:]] == applies
        assert all(float(f) <= b for f, b in zip(row[2:], BOUNDS.values(), strict=True) if f != "-")
    assert "- gradproof: passed: " in table


def test_links_of_the_page_lead_to_files():
    targets = re.findall(r"\]\(([^)]+)\)", PAGE.read_text())
    assert targets and [t for t in targets if not (PAGE.parent / t.partition("#")[0]).exists()] == []
