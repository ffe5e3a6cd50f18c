"""A report as JUnit XML, which continuous integration shows case by case."""

from xml.etree import ElementTree

from .report_text import case_text

LEGAL = {"\t", "\n"}  # of the control characters, in XML


def junit(report):
    """XML text: one testcase a case; a failure with its table, an error for what raised, a skip with its reason."""
    suite = ElementTree.Element("testsuite", name=_legal(report.target), tests=str(len(report.results)))
    failing = {id(result) for result in report.failures}
    for result in report.results:
        attributes = {"classname": f"kalnorm.{result.case.op}", "name": result.case.id}
        case = ElementTree.SubElement(suite, "testcase", attributes | {"time": f"{result.seconds:.4f}"})
        if result.verdict == "SKIP":
            ElementTree.SubElement(case, "skipped", message=_legal(result.note))
        elif id(result) in failing:
            kind = "error" if result.verdict == "ERROR" else "failure"
            message = f"{result.verdict} {result.note}".strip()
            element = ElementTree.SubElement(case, kind, type=_legal(result.verdict), message=_legal(message))
            element.text = _legal(case_text(report, result))
    if report.too_few:
        case = ElementTree.SubElement(suite, "testcase", classname="kalnorm", name="min_cases")
        ElementTree.SubElement(case, "failure", type="min_cases", message=_legal(report.summary()))
        suite.set("tests", str(len(report.results) + 1))
    for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{kind}"))))
    suite.set("time", f"{sum(result.seconds for result in report.results):.4f}")
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def _legal(a):
    """Text without the control characters that XML has no way to write; messages of a target may hold any."""
    return "".join(c if c.isprintable() or c in LEGAL else repr(c)[1:-1] for c in a)
