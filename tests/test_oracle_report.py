"""Holds the reports of the conformance kit to their promises: complete, worst first, well-formed in every format."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from conformance_targets import NothingButY, Refuses, Right, WithoutProjection, raises

from kalnorm_ref import oracle
from kalnorm_ref.oracle import report_html, report_text
from kalnorm_ref.oracle.catalogue.build import case
from kalnorm_ref.oracle.report_html import bars, channel_errors, html
from kalnorm_ref.oracle.report_junit import junit
from kalnorm_ref.oracle.report_text import markdown, overview, rows, text
from kalnorm_ref.oracle.verdict import CaseResult, TensorResult

CASES = [
    case("bn", "one", "The reason of one."),
    case("bn", "offset", "The reason of offset.", offset=100.0),
    case("bn", "inference", "The reason of inference.", training=False),
    case("bn", "half", "The reason of half.", dtype="float16"),
]


@pytest.fixture(scope="module")
def wrong():
    return oracle.verify(WithoutProjection, CASES, name="mine:wrong")


def made(*verdicts):
    """A report of cases with one tensor each, of these verdicts and errors over budget."""
    results = []
    for i, (verdict, ratio) in enumerate(verdicts):
        tensor = TensorResult("y", verdict, ratio, 1.0, (0, i), 2.0, 3.0, f"note {i}")
        results.append(CaseResult(CASES[0]._replace(id=f"bn/{i}"), verdict, (tensor,)))
    return oracle.Report("made", tuple(results))


def test_rows_come_worst_first():
    report = made(("FAIL", 5.0), ("PASS", 0.5), ("NONFINITE", np.inf), ("FAIL", 70.0), ("BUG?:a", 900.0))
    assert [row.result.case.id for row in rows(report)] == ["bn/2", "bn/3", "bn/0", "bn/4"]
    head, *lines = text(report).splitlines()[2:7]
    assert head.split() == list(report_text.HEADINGS)
    assert [line.split()[1] for line in lines] == ["bn/2", "bn/3", "bn/0", "bn/4"]
    assert lines[1].split(maxsplit=8) == ["FAIL", "bn/3", "y", "70.00", "(0,", "3)", "2", "3", "note 3"]


def test_the_table_stops_and_counts_what_it_leaves_out():
    report = made(*(("FAIL", 2.0 + i) for i in range(23)))
    assert "\nand 3 more failing tensors\n" in text(report) and text(report).count("FAIL  ") == 20
    assert "\nand 3 more failing tensors\n" in markdown(report)
    assert "more failing" not in text(made(*(("FAIL", 2.0 + i) for i in range(20))))
    assert "and 2 more failing tensors" in text(report, shown=21)


def test_what_is_accepted_is_no_row_and_no_failure():
    report = made(("LOWSTAT", 5.0), ("PASS", 0.5))
    assert report.exit_code == 1 and len(rows(report)) == 1
    accepting = report._replace(accepted=("LOWSTAT",))
    assert accepting.exit_code == 0 and rows(accepting) == []
    [result] = made(("FAIL", 5.0)).results
    both = result._replace(tensors=(*result.tensors, result.tensors[0]._replace(name="dx", verdict="LOWSTAT")))
    assert [row.tensor.name for row in rows(accepting._replace(results=(both,)))] == ["y"]
    assert ElementTree.fromstring(junit(accepting)).get("failures") == "0"


def test_the_overview_counts_what_was_not_asked_and_not_returned(wrong):
    lines = overview(oracle.verify(NothingButY, CASES))
    assert "     2  PASS" in lines and "     2  SKIP" in lines
    everything = "dx, dgamma, dbeta, mean, var, rstd, running_mean, running_var"
    assert f"not covered: {everything} in 2 cases (bn/one/float32, bn/offset/float32)" in lines
    assert "skipped: 1 case (bn/inference/float32): the target does not list bn.eval" in lines
    assert "skipped: 1 case (bn/half/float16): the target does not list float16" in lines
    room = re.search(r"room left: .* at most (0\.\d\d) .*\(bn/(one|offset)/float32: y\)", "\n".join(lines))
    assert 0 < float(room[1]) < 1


def test_the_room_that_is_left_is_that_of_the_right_tensor_nearest_to_its_budget():
    report = made(("PASS", 0.2), ("PASS", 0.75), ("PASS:serial", 1.84), ("FAIL", 5.0))
    assert overview(report)[-1] == "room left: right tensors use at most 0.75 of their budget (bn/1: y)"
    assert "room" not in "".join(overview(made(("FAIL", 5.0))))


def test_of_several_lacking_capabilities_the_first_is_the_reason():
    lines = overview(oracle.verify(Refuses, CASES))
    assert [line for line in lines if "skipped" in line] == [
        "skipped: 3 cases (bn/one/float32, bn/offset/float32, bn/half/float16): the target does not list bn.train",
        "skipped: 1 case (bn/inference/float32): the target does not list bn.eval",
    ]


def test_a_failing_case_is_shown_with_its_reason_and_what_explains_it(wrong):
    [first] = [result for result in wrong.failures if result.case.id == "bn/one/float32"]
    shown = report_text.case_text(wrong, first)
    assert "asked because: The reason of one." in shown and "dx-lacks-projection" in shown
    assert "offset" not in shown.partition("\nkalnorm-ref explain")[0]


def test_a_case_that_raised_has_a_row_without_a_tensor():
    report = oracle.verify(raises, CASES[:1])
    [row] = rows(report)
    assert row.cells()[:4] == ("ERROR", "bn/one/float32", "-", "-")
    assert row.why == "the factory raised RuntimeError: no <device> & no \x1b memory"


def test_markdown_is_one_table_with_as_many_cells_in_each_line(wrong):
    report = oracle.verify(raises, CASES[:1], name="a|b_c")
    table = [line for line in markdown(report).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {9}
    assert markdown(report).startswith("# a\\|b\\_c\n") and "no \\<device>" in markdown(report)
    assert len(rows(wrong)) == sum(line.startswith("| ") for line in markdown(wrong).splitlines()) - 1


def test_junit_has_a_testcase_a_case(wrong):
    suite = ElementTree.fromstring(junit(wrong))
    found = {one.get("name"): one for one in suite}
    assert list(found) == [c.id for c in CASES] and suite.get("tests") == "4"
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("2", "0", "1")
    failure = found["bn/one/float32"].find("failure")
    assert failure.get("type") == "BUG?:dx-lacks-projection" and "The reason of one." in failure.text
    assert "float16" in found["bn/half/float16"].find("skipped").get("message")
    assert len(found["bn/inference/float32"]) == 0
    assert all(float(one.get("time")) >= 0 for one in suite)


def test_junit_calls_what_raised_an_error_and_an_empty_run_a_failure():
    suite = ElementTree.fromstring(junit(oracle.verify(raises, CASES[:1])))
    assert suite.get("errors") == "1" and "\\x1b" in suite.find("testcase/error").get("message")
    suite = ElementTree.fromstring(junit(oracle.verify(Refuses, CASES)))
    assert [one.get("name") for one in suite if one.find("failure") is not None] == ["min_cases"]
    assert suite.get("tests") == "5" and suite.get("failures") == "1"


def test_json_holds_every_tensor_and_no_word_for_nan(wrong):
    stored = json.loads(json.dumps(wrong.as_dict(), allow_nan=False))
    assert stored["exit_code"] == 1 and stored["declared"] == [] and len(stored["cases"]) == 4
    assert {t["name"] for t in stored["cases"][0]["tensors"]} >= {"y", "dx", "running_var"}
    raised = json.loads(json.dumps(made(("NONFINITE", np.inf)).as_dict(), allow_nan=False))
    assert raised["cases"][0]["tensors"][0]["ratio"] == "inf"


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.links, self.ids = [], [], [], set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        attributes = dict(attributes)
        self.links += [attributes[name] for name in ("href", "src", "data", "action") if name in attributes]
        self.ids.add(attributes.get("id"))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_from_outside(wrong):
    page = html(wrong)
    parsed = Page(page)
    assert parsed.open == [] and "script" not in parsed.tags
    assert not re.search(r"https?:|url\(|@import|@font-face", page)
    assert parsed.links and {link.lstrip("#") for link in parsed.links} <= parsed.ids
    assert parsed.tags.count("svg") == len(rows(wrong)) == 2
    assert "prefers-color-scheme: dark" in page and "skipped: 1 case (bn/half/float16)" in page


def test_what_a_target_says_does_not_become_part_of_the_page():
    page = html(oracle.verify(raises, CASES[:1], name="<b>mine</b>"))
    assert "<b>" not in page and "<device>" not in page and "&lt;device&gt;" in page
    assert Page(page).open == []


def test_a_right_target_has_a_page_without_tables_of_failures():
    page = html(oracle.verify(Right, CASES[:1]))
    assert "Nothing fails." in page and "<svg" not in page and Page(page).open == []


def test_pictures_stop_at_their_number(monkeypatch, wrong):
    monkeypatch.setattr(report_html, "PLOTTED", 1)
    parsed = Page(html(wrong))
    assert parsed.tags.count("svg") == 1 and parsed.links == ["#picture0"]
    monkeypatch.setattr(report_html, "LISTED", 1)
    assert "and 1 more failing tensors" in html(wrong) and Page(html(wrong)).open == []


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_the_errors_of_a_picture_are_those_of_the_channels(layout):
    class OneChannel(Right):
        def backward(self, dy, **upstream):
            out = super().backward(dy, **upstream)
            at = (slice(None),) * layout.index("C")
            out["dx"][(*at, 4)] += 0.25
            return out

    asked = case("bn", "one", "One channel is off.", layout=layout, shape=(4, 3, 5, 6))
    report = oracle.verify(OneChannel, [asked])
    [row] = rows(report)
    axis, errors = channel_errors(report, row)
    assert axis == "channel" and errors.shape == (6,)
    assert errors[4] == row.tensor.ratio > 1000 and (np.delete(errors, 4) < 1).all()


def test_errors_of_a_transition_are_by_row_and_of_an_estimate_by_previous_channel():
    class Scaled(Right):
        def backward(self, dy, **upstream):
            out = super().backward(dy, **upstream)
            out["dtransition"][2] *= 2
            out["dprevious_mean"][5] *= 2
            return out

    report = oracle.verify(Scaled, [case("kn", "one", "Two tensors are off.", previous=8)])
    found = {row.tensor.name: channel_errors(report, row) for row in rows(report)}
    axis, errors = found["dtransition"]
    assert (axis, len(errors), errors.argmax()) == ("channel", 6, 2)
    axis, errors = found["dprevious_mean"]
    assert (axis, len(errors), errors.argmax()) == ("channel of the previous normalizer", 8, 5)


def test_errors_under_a_declared_convention_are_against_it():
    class Declares(Right):
        conventions = ("running-var-unbiased",)

        def __init__(self, case):
            super().__init__(case, {"y": lambda x_hat, gamma, beta: 2 * gamma * x_hat + beta})

        def get_state(self):
            return self.state

    report = oracle.verify(Declares, [CASES[0]])
    assert report.declared == ("running-var-unbiased",)
    assert "running_var" in [row.tensor.name for row in rows(report)]
    biased = oracle.verify(Right, [CASES[0]])
    got = report.results[0].returned["running_var"][0]
    np.testing.assert_allclose(got, biased.results[0].returned["running_var"][0])
    _, errors = channel_errors(report, next(row for row in rows(report) if row.tensor.name == "running_var"))
    assert errors.min() > 1


def heights(svg):
    """(class, top) of each bar."""
    return [(one[0], float(one[1])) for one in re.findall(r'<rect class="(\w+)" x="[\d.]+" y="([\d.]+)"', svg)]


def test_bars_stand_on_a_logarithmic_scale_and_change_colour_at_the_line():
    svg = bars(np.array([1e-9, 0.1, 1.0, 1.01, 10.0, 100.0, np.inf]), "channel", "t")
    ElementTree.fromstring(svg)
    kinds, tops = zip(*heights(svg), strict=True)
    assert kinds == ("right",) * 3 + ("wrong",) * 3 + ("lost",)
    assert tops[6] == report_html.TOP == min(tops)
    assert tops[4] - tops[5] == pytest.approx(tops[2] - tops[4], abs=0.11)
    assert tops[1] - tops[2] == pytest.approx(tops[4] - tops[5], abs=0.11)
    line = float(re.search(r'class="limit" [^>]*y1="([\d.]+)"', svg)[1])
    assert line == tops[2]
    assert "channel 6: not finite" in svg and "channel 5: 1.0e2 of the budget" in svg


def test_many_channels_share_bars_that_are_as_high_as_the_worst():
    errors = np.full(1000, 0.1)
    errors[777] = 50.0
    svg = bars(errors, "channel", "t")
    kinds = [kind for kind, _ in heights(svg)]
    assert len(kinds) == report_html.BARS and kinds.count("wrong") == 1
    first, last = map(int, re.search(r"channel (\d+) to (\d+): 50.00 of the budget", svg).groups())
    assert first <= 777 <= last
