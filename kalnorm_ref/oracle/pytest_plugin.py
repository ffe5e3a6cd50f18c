"""The tests that `pytest --kalnorm-target` adds: one a case; see kalnorm_ref_pytest.py for the options."""

import sys

import pytest

from . import core
from .catalogue import TIERS
from .report import Failed, Report
from .report_text import case_text, overview
from .runner import ask, diagnosed
from .target import KINDS, TargetError, load

RESULTS = pytest.StashKey()
NAME = "kalnorm"


def tests(session, config):
    """A test for each case that the options choose."""
    option = config.getoption
    for name, allowed in (("kind", KINDS), ("tier", TIERS), ("stats", ("compute", "storage"))):
        if option(f"kalnorm_{name}") not in allowed:
            raise pytest.UsageError(
                f"--kalnorm-{name} is {option(f'kalnorm_{name}')!r}; expected one of {', '.join(allowed)}"
            )
    if str(config.invocation_params.dir) not in sys.path:
        sys.path.insert(0, str(config.invocation_params.dir))
    try:
        factory = load(option("kalnorm_target"), option("kalnorm_kind"))
        cases = core.choose(option("kalnorm_cases"), option("kalnorm_tier"))
    except (TargetError, ValueError) as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[RESULTS] = []
    parent = Cases.from_parent(session, name=NAME, nodeid=NAME)
    return [CaseTest.from_parent(parent, name=case.id, case=case, factory=factory) for case in cases]


class Cases(pytest.Collector):
    """What the tests stand below."""

    def collect(self):
        return []


class CaseTest(pytest.Item):
    """One case."""

    def __init__(self, *, case, factory, **options):
        super().__init__(**options)
        self.case, self.factory = case, factory

    def runtest(self):
        [(case, want)] = core.questions([self.case])
        declared = set()
        result = ask(case, want, self.factory, declared)
        self.config.stash[RESULTS].append((result, declared))
        if result.verdict == "SKIP":
            pytest.skip(result.note)
        report = _report(self.config, diagnosed([result], declared), declared)
        if report.failures:
            raise Failed(case_text(report, report.results[0]))

    def repr_failure(self, excinfo):
        """The lines of the case, and no traceback of the kit."""
        return str(excinfo.value) if isinstance(excinfo.value, Failed) else super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, None, f"{NAME}: {self.name}"


def _report(config, results, declared):
    accepted = ("LOWSTAT",) if config.getoption("kalnorm_stats") == "storage" else ()
    least = config.getoption("kalnorm_min_cases")
    return Report(config.getoption("kalnorm_target"), tuple(results), least, accepted, tuple(sorted(declared)))


def _all(config):
    """The Report of all tests that have run here; each case is diagnosed beside the others."""
    kept = config.stash.get(RESULTS, [])
    declared = set().union(*(names for _, names in kept))
    return _report(config, diagnosed([result for result, _ in kept], declared), declared)


def enough(session):
    """Make a failure of a run of fewer cases than were asked for."""
    if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and _too_few(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _too_few(config):
    """Whether fewer cases were run than asked for; by what was reported, so that it holds with many workers too."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.getoption("collectonly"):
        return False
    reports = [one for kind in ("passed", "failed") for one in reporter.stats.get(kind, ())]
    run = {one.nodeid for one in reports if one.nodeid.startswith(f"{NAME}::")}
    return len(run) < config.getoption("kalnorm_min_cases")


def summary(config):
    """Lines on the whole run: its verdicts, what was not covered, what was skipped."""
    lines = []
    if _too_few(config):
        lines.append(f"kalnorm: fewer than {config.getoption('kalnorm_min_cases')} cases were run")
    if config.stash.get(RESULTS, []):
        report = _all(config)
        lines += [f"kalnorm: {report.summary()}", *overview(report)]
    return lines
