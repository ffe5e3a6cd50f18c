"""Holds the figures of docs/results.md to the stored runs: the report makes each of them anew."""

import csv
import re

import pytest
from pages import ROOT

from kalnorm_ref import cli

PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
MODES = ("running", "batch", "population")


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    out = tmp_path_factory.mktemp("page")
    assert cli.main(["report", str(ROOT / "docs" / "results" / "two_images"), "--out", str(out)]) == 0
    with open(out / "summary.csv", newline="") as stream:
        return {(row["method"], row["inference"], row["against"]): row for row in csv.DictReader(stream)}


def test_the_table_is_what_the_report_says(summary):
    section = PAGE.partition("## Two images")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", section, re.MULTILINE)
    assert [method for method, _ in rows] == ["bn", "brn", "kn-shrink", "kn-learned", "kn-analytic"]
    for method, cells in rows:
        made = [summary[method, mode, ""] for mode in MODES]
        expected = [f"{float(cell['mean']):.2f} ± {float(cell['half_width']):.2f}" for cell in made]
        assert cells.split(" | ") == expected
        assert all(cell["n"] == "3" and cell["diverged"] == "0" for cell in made)


@pytest.mark.parametrize("method", ["kn-analytic", "kn-learned", "kn-shrink"])
def test_the_differences_are_what_the_report_says(summary, method):
    row = summary[method, "running", "bn"]
    better = f"{abs(float(row['mean'])):.1f} ± {float(row['half_width']):.1f}"
    assert float(row["mean"]) < 0.05 and re.search(rf"`{method}`[^`]*?{re.escape(better)}", PAGE)
