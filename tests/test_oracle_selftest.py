"""Holds the conformance kit to what it is for: no seeded bug survives, and no honest computation is called wrong."""

import json
import math
import re

import numpy as np
import pytest

from kalnorm_ref import cli
from kalnorm_ref.oracle import bugs, core, selftest, selftest_text
from kalnorm_ref.oracle.bad_targets import BAD_TARGETS, Tree
from kalnorm_ref.oracle.bugs import Change
from kalnorm_ref.oracle.case import OPS
from kalnorm_ref.oracle.catalogue.build import case
from kalnorm_ref.oracle.selftest import Question
from kalnorm_ref.oracle.verdict import NEUTRAL

FEW = [
    case("bn", "one", "Ordinary."),
    case("bn", "offset", "A large mean.", offset=3000.0),
    case("bn", "inference", "Inference.", training=False),
    case("bn", "exact", "In float64.", dtype="float64"),
    case("bn", "half", "In 16 bits.", dtype="bfloat16"),
]
HARMLESS = Change("harmless", "nothing is wrong", ("bn",), {"y": lambda x_hat, gamma, beta: gamma * x_hat + beta})


@pytest.fixture(scope="module", params=OPS)
def questions(request):
    return [q for q in (Question(*one) for one in core.questions([f"{request.param}/*"])) if q.ordinary]


def test_every_seeded_bug_is_killed_by_a_case_in_float32(questions):
    op = questions[0].case.op
    single = [q for q in questions if q.case.compute_dtype == "float32"]
    alive = [c.name for c in bugs.changes(op) if all(q.under(c.steps).verdict in NEUTRAL for q in single)]
    assert alive == []


def test_no_honest_emulation_is_called_wrong(questions):
    for sums in selftest.SUMS:
        assert selftest.honest(questions[0].case.op, sums, questions).alarms == ()


def test_single_pass_is_found_out_where_it_does_harm_and_nowhere_else(questions):
    op = questions[0].case.op
    found = selftest.single_pass(op, "single pass", questions)
    assert found.alarms == () and found.cases > 40


def test_every_bug_of_a_whole_target_is_killed(questions):
    op = questions[0].case.op
    for bad in BAD_TARGETS:
        factory = bad.factory()
        if op in bad.ops:
            assert any(q.asked(factory).verdict not in NEUTRAL for q in questions), bad.name


def test_what_bad_targets_are_made_of_is_right(questions):
    assert {q.asked(Tree).verdict for q in questions} <= {"PASS", "EXACT"}


def test_bugs_of_targets_differ_from_it_in_what_they_say():
    """A wrapper that is killed for another reason than its own would prove nothing."""
    [(asked, want)] = core.questions([FEW[0]])
    question = Question(asked, want)
    notes = {
        bad.name: {t.name: t.note for t in question.asked(bad.factory()).tensors if t.verdict == "FAIL"}
        for bad in BAD_TARGETS
    }
    assert notes["writes-over-x"]["x"] == notes["writes-over-dy"]["dy"] == "the target changed its input"
    assert notes["gradients-accumulate"].keys() == {"dgamma", "dbeta"}
    assert "second time" in notes["gradients-accumulate"]["dgamma"]
    assert notes["coarser-results"].keys() == {"y", "dx"}
    assert notes["state-in-coarse-type"].keys() == {"running_mean", "running_var"}
    for name in ("ignores-strides", "swallows-nan", "updates-in-inference", "trains-forever", "keeps-first-x"):
        assert notes[name] == {}, name


@pytest.fixture
def few(monkeypatch):
    """Few cases and changes, and no bugs of whole targets; a function that chooses the changes."""
    monkeypatch.setattr(selftest, "BAD_TARGETS", ())
    monkeypatch.setattr(core, "questions", lambda patterns: [(c, core.truth(c)) for c in FEW])
    real = bugs.changes

    def choose(*names, extra=()):
        def changes(op, convention=None):
            return [c for c in real(op, convention) if c.name in names] + list(extra)

        monkeypatch.setattr(bugs, "changes", changes)
        monkeypatch.setattr(bugs, "find", lambda name: next(c for c in changes("bn") if c.name == name))

    return choose


def test_a_bug_that_survives_fails_the_selftest(few, capsys):
    few("dx-lacks-projection", extra=[HARMLESS])
    found = selftest.selftest(("bn",))
    assert [bug.name for bug in found.survivors] == ["harmless"]
    assert not found.passed and found.alarms == []
    assert cli.main(["selftest", "--op", "bn", "--processes", "1", "--quiet"]) == 1
    printed = capsys.readouterr().out
    assert "survives: bn harmless: nothing is wrong\n" in printed
    assert printed.splitlines()[-1].startswith("selftest: FAILED: ")


def test_a_bug_that_only_float64_shows_survives(few):
    def y(x_hat, gamma, beta):
        return (gamma * x_hat + beta) * (1 + 1e-12 if x_hat.dtype == np.float64 else 1)

    few(extra=[Change("slight", "too little for float32", ("bn",), {"y": y})])
    [slight] = selftest.selftest(("bn",)).survivors
    assert slight.killers == ("bn/exact/float64",) and slight.margin == 0 and slight.ratios["bn/exact/float64"] > 1


def test_an_honest_emulation_that_fails_is_an_alarm(few, monkeypatch, capsys):
    class Coarse(selftest.Emulation):
        def forward(self, tensors, training):
            out = super().forward(tensors, training)
            return out | {"y": out["y"] * 1.01}

    few("dx-lacks-projection")
    monkeypatch.setattr(selftest, "Emulation", Coarse)
    found = selftest.selftest(("bn",))
    assert {h.name for h in found.alarms} == {"exact sums", *(f"{sums} sums" for sums in selftest.SUMS)}
    assert found.alarms[0].alarms[0] == ("bn/one/float32", "FAIL")
    assert found.survivors == [] and not found.passed
    assert "false alarm: bn tree sums, bn/one/float32: FAIL" in selftest_text.text(found)


def test_single_pass_that_nobody_notices_is_an_alarm(few, monkeypatch):
    few("dx-lacks-projection")
    monkeypatch.setattr(selftest, "_squares", lambda x, mean, average: average((x - mean) ** 2))
    [alarm] = selftest.selftest(("bn",)).alarms
    assert alarm.name == "single pass" and [name for name, _ in alarm.alarms] == ["bn/offset/float32"]


def test_single_pass_that_is_called_wrong_where_it_does_no_harm_is_an_alarm(few, monkeypatch):
    few("dx-lacks-projection")
    monkeypatch.setattr(selftest, "_squares", lambda x, mean, average: average((x - mean) ** 2) * x.dtype.type(1.01))
    [alarm] = selftest.selftest(("bn",)).alarms
    assert alarm.alarms and dict(alarm.alarms).keys() <= {"bn/one/float32", "bn/half/bfloat16"}


def test_the_matrix_holds_who_kills_whom_and_how_far_off_it_is(few):
    few("dx-lacks-projection", "inference-forgets-eps", "var-is-sum")
    result = selftest.selftest(("bn",))
    alone = "killed by one case alone: bn inference-forgets-eps, by bn/inference/float32"
    assert [line for line in selftest_text.text(result).splitlines() if "alone" in line] == [alone]
    found = {bug.name: bug for bug in result.bugs}
    training = tuple(c.id for c in FEW if c.training)
    assert found["dx-lacks-projection"].killers == training == found["var-is-sum"].killers
    assert found["inference-forgets-eps"].killers == ("bn/inference/float32",)
    bug = found["dx-lacks-projection"]
    assert bug.ratios.keys() == {c.id for c in FEW} and bug.ratios["bn/inference/float32"] < 1
    assert (
        bug.margin
        == max(a for name, a in bug.ratios.items() if not name.endswith("64"))
        < bug.ratios["bn/exact/float64"]
    )
    assert [found[name].diagnosis for name in found] == ["named"] * 3


def test_a_diagnosis_that_is_wrong_is_called_so():
    def result(verdict, note=""):
        return selftest.CaseResult(FEW[0], verdict, (), note)

    assert selftest._called([result("BUG?:a"), result("PASS"), result("NONFINITE")], "a") == "named"
    assert selftest._called([result("CONVENTION:a")], "a") == "named"
    assert selftest._called([result("BUG?:b"), result("BUG?:a")], "a") == "taken for a, b"
    assert selftest._called([result("FAIL")], "a") == "taken for FAIL"
    assert selftest._called([result("BUG?:b", "b or a: x tells them apart")], "a") == "ambiguous: b or a"
    assert selftest._called([result("BUG?:b", "b or c: x tells them apart")], "a") == "taken for b"
    assert selftest._called([result("PASS")], "a") == ""


@pytest.fixture(scope="module")
def of_gn():
    return selftest.selftest(("gn",), processes=2)


def test_several_processes_give_what_one_gives(of_gn):
    for place in (("gn", "seeded", 3), ("gn", "bad_target", 2)):
        one = selftest._run(place)
        [other] = [bug for bug in of_gn.bugs if bug.name == one.name]
        assert other._replace(diagnosis="") == one
    assert selftest._run(("gn", "honest", 1)) in of_gn.honest


def test_group_normalization_passes_with_room_on_both_sides_and_nearly_all_bugs_named(of_gn):
    assert of_gn.passed and min(bug.margin for bug in of_gn.bugs) > 10
    assert max(h.ratio for h in of_gn.honest if h.name != "single pass") < 0.6
    tried = [bug for bug in of_gn.bugs if bug.kind != "target"]
    assert len(tried) == len(bugs.changes("gn"))
    assert sum(bug.diagnosis == "named" or bug.diagnosis.startswith("ambig") for bug in tried) >= 0.95 * len(tried)


def test_the_page_has_a_row_a_bug_and_is_replaced_in_place(of_gn, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{selftest_text.BEGIN}\nold\n{selftest_text.END}\nbehind\n")
    monkeypatch.setattr(selftest, "selftest", lambda *options: of_gn)
    assert cli.main(["selftest", "--markdown", str(page), "--quiet"]) == 0
    written = page.read_text()
    assert written.startswith("before\n") and written.endswith("\nbehind\n") and "old" not in written
    names = [line.split(" | ")[0][2:] for line in written.splitlines() if re.match(r"\| [\w-]+ \| ", line)]
    assert sorted(names) == sorted([bug.name for bug in of_gn.bugs] + ["bug"])
    assert cli.main(["selftest", "--markdown", str(page), "--quiet"]) == 0
    assert page.read_text() == written


def test_json_holds_the_whole_matrix(of_gn, monkeypatch, capsys):
    monkeypatch.setattr(selftest, "selftest", lambda *options: of_gn)
    assert cli.main(["selftest", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] and len(found["bugs"]) == len(of_gn.bugs)
    first, bug = found["bugs"][0], of_gn.bugs[0]
    assert first["killers"] == list(bug.killers) and first["ratios"].keys() == bug.ratios.keys()
    assert math.isclose(float(first["margin"]), bug.margin) and not first["survives"]
    assert [h["name"] for h in found["honest"]] == [h.name for h in of_gn.honest]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--markdown", "missing.md"], "No such file or directory"),
        (["--markdown", "empty.md"], "empty.md has no table to replace; expected the lines <!-- tables of"),
        (["--markdown", "empty.md", "--op", "bn"], "--markdown writes the tables of all operations; leave out --op"),
        (["--op", "ln"], "argument --op: invalid choice: 'ln'"),
        (["--processes", "0"], "processes is 0; expected at least 1"),
    ],
)
def test_mistakes_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.md").touch()
    assert cli.main(["selftest", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
