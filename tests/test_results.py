"""Holds docs/results.md to the stored runs: every table is made anew, and the text has no number that no table has."""

import csv
import importlib.util
import re

import pytest
from pages import ROOT

from kalnorm_ref.experiments.sweep.tables import TABLES

RESULTS = ROOT / "docs" / "results"
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
SETTINGS = {0.1, 0.95, 0.0125}  # initial gains and noise (A5), and a learning rate: not measured
STUDIES = sorted(path.parent.name for path in RESULTS.glob("*/grid.toml"))
spec = importlib.util.spec_from_file_location("make", RESULTS / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)


def test_every_table_is_what_the_stored_runs_say():
    assert make.made(PAGE) == PAGE
    named = {found[1].split()[0] for found in make.MARKED.findall(PAGE)}
    assert named == {*STUDIES, "all"}


def test_a_changed_cell_is_noticed():
    cell = re.search(r"\| (\d\d\.\d\d) ±", PAGE)
    assert cell
    wrong = PAGE[: cell.start(1)] + "12.34" + PAGE[cell.end(1) :]
    assert wrong != PAGE and make.made(wrong) == PAGE


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_holds_its_grid_and_all_tables(study):
    for name, columns in TABLES.items():
        with open(RESULTS / study / name, newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            assert tuple(reader.fieldnames) == columns and (next(reader, None) or name != "runs.csv")
    assert f"sweep docs/results/{study}/grid.toml" in PAGE
    assert all((RESULTS / study / f"{picture}.png").is_file() for picture in make.PICTURES.get(study, ()))


def numbers(text):
    """Numbers with a point, without their signs."""
    return re.findall(r"(?<![\w.])\d+\.\d+(?!\w|\.\d)", text)


def test_numbers_are_found_wherever_they_stand():
    assert numbers("1.5, -2.25 and 11.5. Not 1.2.3, v1.5, 7") == ["1.5", "2.25", "11.5"]


def test_the_text_has_no_number_that_no_table_has():
    tables = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|^(?:\||    ).*$", "", PAGE, flags=re.MULTILINE)
    known = {float(n) for n in numbers(tables)} | SETTINGS
    assert len(known) > 50
    for number in numbers(text):
        digits = len(number.partition(".")[2])
        assert any(round(value, digits) == float(number) for value in known), number
