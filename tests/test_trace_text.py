"""Holds what a trace writes to the numbers and equations behind it: text, JSON, HTML, and the page of the docs."""

import base64
import hashlib
import itertools
import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest

import kalnorm_ref as kr
from kalnorm_ref import cli
from kalnorm_ref.tracing import equations, figures, methods, typeset
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


def test_a_formula_is_the_one_whose_symbols_the_code_reads():
    def formulas(method, name):
        trace = traced(method, name)
        return {step.symbol: note.formula for step, note in zip(trace.steps, trace.notes, strict=True)}

    assert formulas("push", "belief")["dgamma"] == "dgamma = 2 gamma v r^2 dtv"
    assert formulas("push", "observed")["dgamma"] == "dgamma = (xbar - mu) r dtm + 2 gamma S r^2 dtv"
    assert formulas("push", "observed")["tm"] == "tm = beta + gamma (xbar - mu) r"
    assert formulas("bn", "exact")["x_hat"] == "x_hat = (x - mu) r"
    assert formulas("brn", "exact")["x_hat"] == "x_hat = z r + d"

    def otherwise(z, corr_r, corr_d):
        x_hat = z * corr_r + corr_d
        return x_hat

    trace = kr.trace(otherwise, np.ones((2, 3)), 2.0, 0.5)
    assert trace.steps[-1].symbol == "x_hat" and trace.notes[-1].formula == "", "its own docstring says nothing of it"


def test_text_has_a_heading_for_each_part_and_points_to_other_steps():
    lines = traced("kn", "exact").text().splitlines()
    heads = [line for line, below in itertools.pairwise(lines) if below and set(below) == {"-"}]
    assert heads == ["Given", "Forward", "Backward"]
    begun = next(line for line in lines if "in part; completed in step" in line)
    number, _, completed = begun.strip().partition("  ")[0], *begun.rsplit(" ", 1)
    assert f"{completed:>3}  dmu = G_mu - r sum g" in "\n".join(lines) and int(completed) == int(number) + 2
    again = next(line for line in lines if "as in step" in line)
    assert lines[lines.index(again) + 2] == next(b for a, b in zip(lines, lines[2:], strict=False) if " 18  x_hat" in a)


@pytest.mark.parametrize(
    ("name", "path", "shape", "words"),
    [
        ("x", ("batch_norm_forward",), (4, 2), ("sample", "channel", "batch")),
        ("x", ("batch_norm_forward",), (3, 4, 2), ("sample", "channel", "batch")),
        ("gain", ("fuse",), (2,), ("", "channel", "")),
        ("dtransition", ("predict_backward",), (2, 3), ("to channel", "from channel", "batch")),
        ("x", ("run_gn",), (2, 3, 4), ("position", "channel", "sample")),
        ("prior_mean", ("run_gkn",), (2, 2), ("sample", "group", "")),
        ("x", ("group_norm_forward", "batch_norm_forward"), (2, 6, 2), ("value", "group", "sample")),
        ("prior_cov", ("run_full_kn",), (2, 2), ("channel", "channel", "batch")),
        ("w", ("kalman_norm_backward",), (2, 2), ("channel", "channel", "batch")),
        ("w", ("conv2d",), (3, 2), ("tap", "channel", "")),
        ("draws", ("run_sampled", "sampled"), (2, 2, 3), ("column", "channel", "row")),
    ],
)
def test_axes_have_the_names_of_what_they_count(name, path, shape, words):
    assert figures.axes(name, path, np.zeros(shape)) == words


def test_large_arrays_are_summarized():
    x = np.random.default_rng(3).normal(5, 3, (40, 30))
    text = kr.trace(kr.observe, x).text()
    low, high, mean = (figures.decimal(f(x)) for f in (np.min, np.max, np.mean))
    assert f"40 x 30: 1200 values from {low} to {high}, mean {mean}; the first:" in text
    assert text.count("\n       ...\n") == 1
    assert max(map(len, text.splitlines())) < 600 and text.isascii()
    with_nan = figures.summary(np.array([1.0, np.nan, 3.0]))
    assert with_nan == "3 values from 1 to 3, mean 2, 1 not finite"


def test_the_excerpt_on_the_docs_page_is_current():
    page = (DOCS / "trace.md").read_text()
    excerpt = re.search(r"<!-- trace kn -->\n```text\n(.*?)```", page, re.DOTALL)[1]
    assert len(excerpt.splitlines()) > 10
    assert excerpt in traced("kn", "exact").text(fractions=True)


def test_json_is_the_trace(capsys):
    assert cli.main(["trace", "bn", "--json"]) == 0
    found, trace = json.loads(capsys.readouterr().out), traced("bn", "exact")
    assert [step["symbol"] for step in found["steps"]] == [step.symbol for step in trace.steps]
    for step, mine in zip(found["steps"], trace.steps, strict=True):
        np.testing.assert_array_equal(step["value"], mine.value)
        assert step["shape"] == list(mine.shape) and step["line"] == mine.line
    assert found["steps"][-1]["formula"] == "dx = r (g - mean g - x_hat mean(g x_hat))"


def test_the_policy_allows_the_pages_own_script_alone():
    text = traced("bn", "exact").html()
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text
    assert not re.findall(r"(?:src|href)=\"(?!#|data:,)", text) and "url(" not in text and "@import" not in text


@pytest.mark.parametrize("method", EXAMPLES)
def test_every_example_makes_a_page_that_parses(method):
    for name in EXAMPLES[method]:
        trace = traced(method, name)
        text = trace.html(fractions=True)
        assert text.count('<section class="step') == len(trace.steps)
        for tag in ("section", "table", "figure", "ol", "li", "a", "div", "tr", "td", "th"):
            assert len(re.findall(rf"<{tag}[ >]", text)) == text.count(f"</{tag}>"), tag


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("dmu = G_mu - r sum g", "d\u03bc = G\u03bc \u2212 r \u2211 g"),
        ("r = (v + eps)^(-1/2)", "r = (v + \u03b5)\u2212\u00bd"),
        ("dA = da mu'^T + 2 A * (db v'^T)", "dA = da \u03bc\u2032T + 2 A \u2217 (db v\u2032T)"),
        ("xbar = 1/m sum_i x_i", "x\u0304 = 1/m \u2211i xi"),
        ("dx_hat, r_max, running_mean, delta^2", "dx\u0302, rmax, running_mean, \u03b42"),
        ("a < b & c > d", "a < b & c > d"),
        ("dq = delta . dmu + <U, S>", "dq = \u03b4 \u00b7 d\u03bc + \u27e8U, S\u27e9"),
    ],
)
def test_formulas_are_set_in_the_letters_of_mathematics(text, shown):
    html = typeset.typeset(text)
    assert unescape(re.sub(r"</?(?:var|sub|sup)>", "", html)) == shown
    assert "<" not in re.sub(r"</?(?:var|sub|sup)>", "", html)
