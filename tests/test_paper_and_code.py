"""Holds docs/paper_and_code.md to the truth: its tables are those that the script measures, its options exist."""

import importlib
import re
import sys
from pathlib import Path

import pytest

import kalnorm_ref as kr

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "paper_and_code.md").read_text()
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
SETTINGS = {"0.05", "0.1", "0.5", "0.9"}  # numbers of the prose that are chosen, not measured
HALF_A_UNIT = 0.51  # of the last digit printed; a value may lie on the edge of two


def examples():
    """The script as a module, without leaving its folder on the path."""
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        return importlib.import_module("paper_and_code")
    finally:
        sys.path.pop(0)


SCRIPT = examples()
MEASURES = {measure.__name__: measure for measure in SCRIPT.TABLES}


def tables(text):
    """Rows of cells of every table, by the cells of its head."""
    found = {}
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, _, *rows = (tuple(cell.strip() for cell in line.strip("|\n").split("|")) for line in block.splitlines())
        assert head not in found
        found[head] = rows
    return found


def agrees(cell, form, value):
    """Whether a cell of the page says what was measured: the same words, and the value to the digits that it prints."""
    if NUMBER.sub("#", cell) != NUMBER.sub("#", form.format(value)):
        return False
    (number,) = NUMBER.findall(cell)
    if cell[0] in "<>":
        return cell == form and (value < float(number) if cell[0] == "<" else value > float(number))
    digits, _, exponent = number.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    return abs(value - float(number)) <= HALF_A_UNIT * unit


@pytest.mark.parametrize("name", MEASURES)
def test_table_is_as_measured(name):
    head, rows = MEASURES[name]()
    printed = tables(PAGE)[head]
    assert [row[0] for row in printed] == [label for label, *_ in rows]
    for (label, *cells), (_, *measured) in zip(printed, rows, strict=True):
        assert [agrees(cell, *pair) for cell, pair in zip(cells, measured, strict=True)] == [True] * len(cells), label


@pytest.mark.parametrize(
    ("cell", "form", "value", "right"),
    [
        ("0.40", "{:.2f}", 0.3989, True),
        ("0.41", "{:.2f}", 0.3989, False),
        ("0.4", "{:.2f}", 0.3989, True),
        ("5.3 %", "{:.1f} %", 5.3499, True),
        ("5.3", "{:.1f} %", 5.3, False),
        ("1.6e+05", "{:.1e}", 163000.0, True),
        ("1.6e+05", "{:.1e}", 166000.0, False),
        ("1.6e+04", "{:.1e}", 163000.0, False),
        ("< 1e-10", "< 1e-10", 2e-14, True),
        ("< 1e-10", "< 1e-10", 2e-10, False),
        ("< 1e-10", "{:.2f}", 0.5, False),
        ("< 1e-9", "< 1e-10", 2e-14, False),
        ("> 20 %", "> 20 %", 38.8, True),
        ("> 20 %", "> 20 %", 18.8, False),
    ],
)
def test_a_wrong_number_is_seen(cell, form, value, right):
    assert agrees(cell, form, value) is right


def test_the_page_has_no_number_that_nothing_measures():
    """Its tables are the script's and that of the options; decimals between the tables are settings."""
    heads = tables(PAGE)
    assert len(heads) == len(MEASURES) + 1
    prose = re.sub(r"^\|.*\n|arXiv \d+\.\d+|\(\S+\)", "", PAGE, flags=re.MULTILINE)
    assert set(re.findall(r"\d+\.\d+", prose)) <= SETTINGS
    assert set(re.findall(r"[\d.]+ ?%", prose)) == set()


def test_the_script_prints_its_tables(monkeypatch, capsys):
    monkeypatch.setattr(SCRIPT, "TABLES", SCRIPT.TABLES[:2])
    SCRIPT.main()
    printed = tables(capsys.readouterr().out)
    assert printed == {head: tables(PAGE)[head] for head in list(printed)}
    assert len(printed) == 2


def options():
    """option = value as in the code, and corrected, of every row of the first table that has both."""
    for label, code, corrected, _ in tables(PAGE)[("", "as in the code", "corrected", "as in the paper")]:
        given = re.fullmatch(r"`(\w+)=(.+)`", code)
        if given:
            yield label, given[1], *(eval(word.strip("`")) for word in (given[2], corrected))


def test_options_exist_and_have_these_values():
    named = {name: (code, corrected) for _, name, code, corrected in options()}
    assert len(named) == 6
    preset, default = (
        kr.models.resnet(8, "kn-released", **made).layers[4].head.norm for made in ({"preset": "as_released"}, {})
    )
    for name, (code, corrected) in named.items():
        kr.models.resnet(8, "kn-released", **{name: code})
        if name in preset.options:
            assert (preset.options[name], default.options[name]) == (code, corrected)
    assert set(named) - set(preset.options) == {"gain_kind", "conv_padding"}
    assert kr.KalmanNorm(1, 1, "released", gain_kind=named["gain_kind"][1]).gain_rule.kind == "pseudo_count"


def test_links_lead_somewhere():
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", PAGE) if not t.startswith("http")]
    assert len(targets) >= 4
    for file, _, anchor in (target.partition("#") for target in targets):
        text = (ROOT / "docs" / file).read_text() if file else PAGE
        titles = [re.sub(r"\]\(.*?\)", "", title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
        anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors
