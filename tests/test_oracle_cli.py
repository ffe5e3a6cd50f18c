"""Holds `verify`, `list`, `explain` and the plugin of pytest to their promises: exit codes, one line for a mistake."""

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from kalnorm_ref import cli
from kalnorm_ref.oracle import bugs, core
from kalnorm_ref.oracle.reference import expected

pytest_plugins = ["pytester"]
ROOT, TESTS = Path(cli.__file__).parents[2], Path(__file__).parent
SOME = ["--cases", "bn/ordinary/*", "bn/inference/float32", "--quiet"]


@pytest.fixture(autouse=True)
def same_path(monkeypatch):
    """`verify` puts the folder at hand on the path."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def verify(name, *arguments):
    return cli.main(["verify", f"conformance_targets:{name}", *SOME, *arguments])


def test_a_right_target_is_exit_code_0(capsys):
    assert verify("Right") == 0
    printed = capsys.readouterr()
    assert printed.err == "" and printed.out.startswith("conformance_targets:Right: 0 of 5 cases fail (")


def test_a_wrong_target_is_exit_code_1_with_a_table_and_a_line(capsys):
    assert verify("WithoutProjection") == 1
    printed = capsys.readouterr()
    summary = "conformance_targets:WithoutProjection: 3 of 4 cases fail (3 BUG?:dx-lacks-projection, 1 PASS, 1 SKIP)"
    assert printed.err == f"kalnorm-ref: {summary}\n"
    assert printed.out.startswith(summary) and printed.out.count("dx lacks the projection term") == 3


def test_a_target_that_raises_is_exit_code_1_without_a_traceback(capsys):
    assert verify("raises") == 1
    printed = capsys.readouterr()
    assert "5 ERROR" in printed.err and printed.err.count("\n") == 1 and "Traceback" not in printed.out


def test_too_few_cases_are_exit_code_3(capsys):
    assert verify("Refuses") == 3
    chosen = "0 cases were run; expected at least 1 (5 chosen, the others skipped)"
    assert capsys.readouterr().err == f"kalnorm-ref: conformance_targets:Refuses: {chosen}\n"
    assert verify("Right", "--min-cases", "6") == 3
    assert verify("Right", "--min-cases", "5") == 0
    assert verify("WithoutProjection", "--min-cases", "6") == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "nowhere.at_all:factory",
            "target 'nowhere.at_all:factory': cannot import nowhere.at_all: No module named 'nowhere'",
        ),
        ("conformance_targets:Nobody", "target 'conformance_targets:Nobody': conformance_targets has no Nobody"),
        ("conformance_targets", "target is 'conformance_targets'; expected package.module:name"),
        ("broken:factory", "target 'broken:factory': cannot import broken: SyntaxError: "),
        ("without_device:factory", "target 'without_device:factory': cannot import without_device: OSError: no device"),
        ("conformance_targets:SOME_NUMBER", "target 'conformance_targets:SOME_NUMBER': conformance_targets has no"),
        ("math:pi", "target is float; expected a function of a case that returns a target"),
    ],
)
def test_what_cannot_be_imported_is_exit_code_4(target, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text("def factory(:\n")
    Path("without_device.py").write_text("raise OSError('no device')\n")
    assert cli.main(["verify", target, "--quiet"]) == 4
    error = capsys.readouterr().err
    assert error.startswith(f"kalnorm-ref: error: {message}") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "nn/*"], "no case is called 'nn/*'; kalnorm-ref list shows all"),
        (["--min-cases", "0"], "min_cases is 0; expected at least 1"),
        (["--out", "missing/report.html"], "missing/report.html: expected a file in a folder that exists"),
        (["--out", "."], ".: expected a file in a folder that exists"),
        (["--format", "pdf"], "argument --format: invalid choice: 'pdf'"),
        (["--kind", "class"], "argument --kind: invalid choice: 'class'"),
    ],
)
def test_a_mistake_is_exit_code_2_and_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["verify", "conformance_targets:Right", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"kalnorm-ref: error: {message}") and printed.err.count("\n") == 1
    assert printed.out == "" and list(tmp_path.iterdir()) == []


def test_the_folder_at_hand_is_searched_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("my_own_norm.py").write_text("from conformance_targets import Right as factory\n")
    assert cli.main(["verify", "my_own_norm:factory", *SOME]) == 0


def test_a_plain_function_is_asked_what_it_can_answer(capsys):
    assert cli.main(["verify", "conformance_targets:function", "--kind", "function", "--cases", "bn/*", "--quiet"]) == 0
    assert "not covered: dx, " in capsys.readouterr().out


def test_statistics_in_the_type_of_x_pass_only_where_they_may(capsys):
    arguments = ["verify", "conformance_targets:CoarseStatistics", "--cases", "bn/ordinary/float16", "--quiet"]
    assert cli.main(arguments) == 1
    assert "1 LOWSTAT" in capsys.readouterr().err
    assert cli.main([*arguments, "--stats", "storage"]) == 0
    assert verify("WithoutProjection", "--stats", "storage") == 1


@pytest.mark.parametrize(
    ("file", "begin"),
    [("r.html", "<!DOCTYPE html>"), ("r.xml", "<?xml"), ("r.md", "# conformance"), ("r.json", "{"), ("r.txt", "conf")],
)
def test_the_ending_says_the_format(file, begin, tmp_path, capsys):
    assert verify("WithoutProjection", "--out", str(tmp_path / file)) == 1
    assert (tmp_path / file).read_text().startswith(begin)
    assert capsys.readouterr().out.endswith(f"; the report is in {tmp_path / file}\n")


def test_formats_can_be_printed_and_beat_the_ending(tmp_path, capsys):
    assert verify("WithoutProjection", "--format", "json") == 1
    assert json.loads(capsys.readouterr().out)["counts"]["BUG?:dx-lacks-projection"] == 3
    assert verify("WithoutProjection", "--format", "junit") == 1
    assert ElementTree.fromstring(capsys.readouterr().out).get("failures") == "3"
    assert verify("Right", "--format", "md", "--out", str(tmp_path / "r.html")) == 0
    assert (tmp_path / "r.html").read_text().startswith("# ")


def test_the_extended_tier_asks_other_cases(monkeypatch, capsys):
    make = core.catalogue.cases
    monkeypatch.setattr(core.catalogue, "cases", lambda op=None, tier="core", seed=0: make("gn", tier, seed))
    arguments = ["verify", "conformance_targets:Right", "--tier", "extended", "--cases", "gn/ordinary*", "--quiet"]
    assert cli.main([*arguments, "--format", "json"]) == 0
    ids = {one["id"] for one in json.loads(capsys.readouterr().out)["cases"]}
    assert ids and not ids & {case.id for case in core.choose()}


@pytest.mark.parametrize("command", ["verify", "list", "explain", "selftest"])
def test_help_teaches_with_an_example(command, capsys):
    assert cli.main([command, "--help"]) == 0
    assert f"\n  kalnorm-ref {command}" in capsys.readouterr().out


def test_list_shows_every_case_and_pattern_choose(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [case.id for case in core.choose()]
    assert cli.main(["list", "bn/ordinary/float32", "--why"]) == 0
    case = core.choose(["bn/ordinary/float32"])[0]
    shape = "x".join(map(str, case.tensors["x"].shape))
    assert capsys.readouterr().out.split(maxsplit=3) == [case.id, case.layout, shape, case.why + "\n"]
    assert cli.main(["list", "gn/*", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["op"] for one in found} == {"gn"} and all(one["why"] and one["dtype"] for one in found)


def test_list_shows_conventions_and_bugs_apart(capsys):
    listed = {}
    for option in ("--conventions", "--bugs"):
        assert cli.main(["list", option]) == 0
        listed[option] = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed["--conventions"] == [c.name for c in bugs.ALL if c.convention]
    assert listed["--bugs"] == [c.name for c in bugs.ALL if not c.convention]
    assert cli.main(["list", "--bugs", "dx-lacks-*", "--json"]) == 0
    assert all(c["name"].startswith("dx-lacks-") and c["text"] for c in json.loads(capsys.readouterr().out))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "nn/*"], "no case is called 'nn/*'; kalnorm-ref list shows all"),
        (["list", "--bugs", "nothing"], "no bug is called 'nothing'; leave it out to see all"),
        (["list", "--bugs", "--conventions"], "argument --conventions: not allowed with argument --bugs"),
        (
            ["explain", "bn/ordinary/float31"],
            "no case is called 'bn/ordinary/float31'; did you mean bn/ordinary/float32 or ",
        ),
        (["explain", "?"], "no case is called '?'; kalnorm-ref list shows all"),
    ],
)
def test_mistakes_in_names_are_one_line(arguments, message, capsys):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"kalnorm-ref: error: {message}") and error.count("\n") == 1


def test_explain_says_what_a_case_holds_and_kills(capsys):
    assert cli.main(["explain", "bn/ordinary/float32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    [case] = core.choose(["bn/ordinary/float32"])
    x = np.moveaxis(case.tensors["x"], case.layout.index("C"), -1).reshape(-1, case.channels)
    kappa = np.sqrt((x**2).mean(axis=0) / (x.var(axis=0) + case.params["eps"]))
    np.testing.assert_allclose(found["kappa"], [kappa.min(), kappa.max()])
    assert found["m"] == len(x) and found["params"] == case.params and found["why"] == case.why
    assert found["budgets"].keys() == expected(case).keys()
    for budget in found["budgets"].values():
        assert 0 < budget["tree"]["median"] <= budget["tree"]["max"] < budget["serial"]["max"]
    assert "dx-lacks-projection" in found["kills"] and "inference-forgets-eps" not in found["kills"]
    assert cli.main(["explain", "bn/ordinary/float32"]) == 0
    text = capsys.readouterr().out
    assert case.why in text and "\n  decay: weight of the old running value\n" in text and "dx-lacks-projection" in text


@pytest.mark.parametrize(
    "name", ["bn/empty-batch-inference/float32", "bn/twenty-steps/float64", "gkn/ordinary/float16"]
)
def test_explain_knows_unusual_cases(name, capsys):
    assert cli.main(["explain", name]) == 0
    assert capsys.readouterr().out.startswith(f"{name}\n")


# ---- the plugin of pytest ----------------------------------------------------------------------------------------


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest in a folder of its own, with the plugin."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{TESTS}")

    def run(*arguments):
        return pytester.runpytest_subprocess("-p", "kalnorm_ref_pytest", "-p", "no:cacheprovider", *arguments)

    return run


def test_pytest_makes_one_test_a_case(run):
    chosen = ["--kalnorm-cases", "bn/ordinary/*", "--kalnorm-cases", "bn/inference/float32"]
    result = run("--kalnorm-target", "conformance_targets:WithoutProjection", *chosen, "-v", "-rs")
    result.assert_outcomes(passed=1, failed=3, skipped=1)
    assert result.ret == 1
    output = result.stdout.str()
    assert "kalnorm::bn/inference/float32 PASSED" in output and "def runtest" not in output
    assert "asked because: " in output and "dx-lacks-projection" in output
    assert "the target does not list float16" in output
    assert "kalnorm: conformance_targets:WithoutProjection: 3 of 4 cases fail (3 BUG?:dx-lacks-projection" in output


def test_pytest_chooses_among_cases_by_name_and_runs_other_tests_too(run, pytester):
    pytester.makepyfile(test_own="def test_own_float32(): pass")
    chosen = ["--kalnorm-target", "conformance_targets:Right", "--kalnorm-cases", "bn/ordinary/*"]
    run(*chosen, "-k", "float32").assert_outcomes(passed=2, deselected=3)


def test_a_run_of_pytest_that_skips_every_case_fails(run):
    chosen = ["--kalnorm-cases", "bn/ordinary/*"]
    result = run("--kalnorm-target", "conformance_targets:Refuses", *chosen)
    assert result.ret == 1 and "fewer than 1 cases were run" in result.stdout.str()
    assert run("--kalnorm-target", "conformance_targets:Right", *chosen, "--kalnorm-min-cases", "5").ret == 1
    assert run("--kalnorm-target", "conformance_targets:Right", *chosen, "--kalnorm-min-cases", "4").ret == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kalnorm-target", "nowhere:f"], "cannot import nowhere"),
        (["--kalnorm-target", "conformance_targets:Right", "--kalnorm-cases", "nn/*"], "no case is called 'nn/*'"),
        (
            ["--kalnorm-target", "conformance_targets:Right", "--kalnorm-kind", "class"],
            "--kalnorm-kind is 'class'; expected",
        ),
    ],
)
def test_a_mistake_in_the_options_of_pytest_is_one_line(run, arguments, message):
    result = run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str() and "Traceback" not in result.stderr.str()


def test_without_its_option_the_plugin_imports_nothing(run, pytester):
    pytester.makepyfile(
        "import sys\ndef test_it(): assert not any(name.startswith('kalnorm_ref.') for name in sys.modules)"
    )
    result = run()
    result.assert_outcomes(passed=1)
    assert "kalnorm:" not in result.stdout.str()
