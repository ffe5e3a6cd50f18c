"""What `verify` and `judge` share: the options of a report, and how it is shown."""

import sys
from pathlib import Path

from tqdm import tqdm

from ..oracle.report_html import html
from ..oracle.report_junit import junit
from ..oracle.report_text import markdown, text
from .common import InputError, add_quiet

FORMATS = {"text": text, "json": lambda report: report.as_json() + "\n", "junit": junit, "md": markdown, "html": html}
BY_ENDING = {".txt": "text", ".json": "json", ".xml": "junit", ".md": "md", ".html": "html"}


def add_report(sub):
    """Options --min-cases, --stats, --format, --out and --quiet."""
    about = "fewer cases that are run are exit code 3 (default: 1)"
    sub.add_argument("--min-cases", type=int, default=1, metavar="N", help=about)
    about = "storage: statistics kept in the type of x pass too (LOWSTAT); compute: they fail (default: compute)"
    sub.add_argument("--stats", choices=("compute", "storage"), default="compute", help=about)
    about = "of the report (default: what the ending of --out says, else text)"
    sub.add_argument("--format", choices=tuple(FORMATS), help=about)
    sub.add_argument("--out", metavar="FILE", help="write the report into FILE")
    add_quiet(sub)


def wanted(arguments, title):
    """(verdicts that pass, progress, show) as the options of add_report ask; show(report) returns the exit code."""
    if arguments.min_cases < 1:
        raise InputError(f"min_cases is {arguments.min_cases}; expected at least 1")
    out = Path(arguments.out) if arguments.out else None
    if out and (out.is_dir() or not out.parent.is_dir()):
        raise InputError(f"{out}: expected a file in a folder that exists")
    write = FORMATS[arguments.format or (out and BY_ENDING.get(out.suffix)) or "text"]

    def progress(questions):
        hidden = True if arguments.quiet else None  # None: where stderr is no terminal
        return tqdm(questions, title, unit="case", disable=hidden, dynamic_ncols=True)

    def show(report):
        if out:
            out.write_text(write(report), encoding="utf-8")
            print(f"{report.summary()}; the report is in {out}")
        else:
            print(write(report).rstrip("\n"))
        if report.exit_code:
            print(f"kalnorm-ref: {report.summary()}", file=sys.stderr)
        return report.exit_code

    return ("LOWSTAT",) if arguments.stats == "storage" else (), progress, show
