"""Holds what a trace says to the numbers and equations behind it: text, JSON, and the page of the docs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import kalnorm_ref as kr
from kalnorm_ref import cli
from kalnorm_ref.tracing import equations, figures, methods
from kalnorm_ref.tracing.examples import EXAMPLES

DOCS = Path(__file__).parent.parent / "docs"


def traced(method, name):
    return methods.run(method, EXAMPLES[method][name].arguments)


def test_clauses_of_a_docstring():
    clauses = equations.of_text("mean = 1/m sum_i x_i ; var = f(a, b), in two passes (B1). Here a = 3 (of prose).")
    assert [(c.text, c.number) for c in clauses] == [("mean = 1/m sum_i x_i", "B1"), ("var = f(a, b)", "B1")]
    assert equations.of_text("(xbar, S) = observe(x) ;  q = <U, S> . r   (B3)")[1].text == "q = <U, S> . r"
    assert equations.of_text("nothing = here") == ()


NUMBERS = {
    1.75: ("1.75", "7/4"),
    -2.0: ("-2", "-2"),
    1 / 3: ("0.333333", "1/3"),
    np.pi: ("3.14159", None),
    0.1 + 0.2: ("0.3", "3/10"),
    np.nan: ("nan", None),
    -0.0: ("0", "0"),
    1 + 2j: ("1+2i", None),
    1 - 0.5j: ("1-0.5i", None),
    np.inf: ("inf", None),
}


@pytest.mark.parametrize(("value", "expected"), NUMBERS.items())
def test_numbers_are_written_plainly(value, expected):
    scalar = np.asarray(value)[()]
    assert (figures.decimal(scalar), figures.fraction(scalar)) == expected
    assert figures.decimal(np.int64(12)) == "12"


def test_large_arrays_are_summarized():
    x = np.random.default_rng(3).normal(5, 3, (40, 30))
    text = kr.trace(kr.observe, x).text()
    low, high, mean = (figures.decimal(f(x)) for f in (np.min, np.max, np.mean))
    assert f"40 x 30: 1200 values from {low} to {high}, mean {mean}; the first:" in text
    assert max(map(len, text.splitlines())) < 600 and text.isascii()
    with_nan = figures.summary(np.array([1.0, np.nan, 3.0]))
    assert with_nan == "3 values from 1 to 3, mean 2, 1 not finite"


def test_the_excerpt_on_the_docs_page_is_current():
    page = (DOCS / "trace.md").read_text()
    excerpt = re.search(r"<!-- trace kn -->\n```text\n(.*?)```", page, re.DOTALL)[1]
    assert len(excerpt.splitlines()) > 10
    assert excerpt in traced("kn", "exact").text(fractions=True)


def test_the_python_on_the_docs_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "trace.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})
    assert {path.suffix for path in tmp_path.iterdir()} == {".html", ".npz"}


def test_json_is_the_trace(capsys):
    assert cli.main(["trace", "bn", "--json"]) == 0
    found, trace = json.loads(capsys.readouterr().out), traced("bn", "exact")
    assert [step["symbol"] for step in found["steps"]] == [step.symbol for step in trace.steps]
    for step, mine in zip(found["steps"], trace.steps, strict=True):
        np.testing.assert_array_equal(step["value"], mine.value)
        assert step["shape"] == list(mine.shape) and step["line"] == mine.line
    assert found["steps"][-1]["formula"] == "dx = r (g - mean g - x_hat mean(g x_hat))"
