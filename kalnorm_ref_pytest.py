"""Options of pytest that make one test of each case of the conformance kit.

    pytest --kalnorm-target my_norm:factory

pytest reads this file whenever kalnorm-ref is installed, so that it imports nothing of the package before it must: the
work is in kalnorm_ref/oracle/pytest_plugin.py.
"""

import pytest


def pytest_addoption(parser):
    add = parser.getgroup("kalnorm", "conformance of a normalizer").addoption
    about = "package.module:name of a normalizer; every case that the kit has becomes a test"
    add("--kalnorm-target", metavar="TARGET", help=about)
    about = "what the name is: factory, function or module (default: factory)"
    add("--kalnorm-kind", metavar="KIND", default="factory", help=about)
    about = "ids of cases, with * and ?; may be given several times (default: all)"
    add("--kalnorm-cases", metavar="PATTERN", action="append", help=about)
    add("--kalnorm-tier", metavar="TIER", default="core", help="core or extended (default: core)")
    about = "compute or storage: with storage, statistics kept in the type of x pass too (default: compute)"
    add("--kalnorm-stats", metavar="TYPE", default="compute", help=about)
    about = "fail if fewer cases are run, the others skipped (default: 1)"
    add("--kalnorm-min-cases", metavar="N", type=int, default=1, help=about)


@pytest.hookimpl(tryfirst=True)  # before -k chooses
def pytest_collection_modifyitems(session, config, items):
    if config.getoption("kalnorm_target"):
        from kalnorm_ref.oracle.pytest_plugin import tests

        items[:] = [*items, *tests(session, config)]


def pytest_sessionfinish(session):
    if session.config.getoption("kalnorm_target"):
        from kalnorm_ref.oracle.pytest_plugin import enough

        enough(session)


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("kalnorm_target"):
        from kalnorm_ref.oracle.pytest_plugin import summary

        for line in summary(config):
            terminalreporter.write_line(line)
