"""Holds the tables of a report to their promises: every cell there, its seeds counted, what diverged named, one number
in every format."""

import csv
import math
import re

import made_sweeps as made
import pytest

from kalnorm_ref.experiments import report
from kalnorm_ref.experiments.report import pictures
from kalnorm_ref.experiments.report.blocks import Heading, Paragraph, Picture
from kalnorm_ref.experiments.report.page import page
from kalnorm_ref.experiments.report.read import _run
from kalnorm_ref.experiments.report.statistics import Group, estimate
from kalnorm_ref.experiments.report.tables import HOW_AGAINST, Entry, Table, signed
from kalnorm_ref.experiments.report.text import markdown


def errors(norm, size, *values, **other):
    """Rows of runs.csv, a seed for each error with running averages; None is a run that diverged."""
    for seed, value in enumerate(values):
        row = made.run(norm, size, seed, **other)
        row |= {
            "test_error_batch": "",
            "test_error_population": "",
            "test_error_running": 0.0 if value is None else value,
        }
        yield made.diverge(row) | {"test_error_batch": "", "test_error_population": ""} if value is None else row


ROWS = (
    *errors("bn", 1, 40.0, 42.0, 47.0),
    *errors("kn-learned", 1, 12.0, 12.5, 13.5),
    *errors("kn-released", 1, 30.0, None, None),
    *errors("brn", 1, None, None),
    *errors("bn", 4, 9.0, 9.4, 9.1),
    *errors("kn-learned", 4, 9.1, 9.2, 9.3),
    *errors("brn", 4, 8.0),
)


RESNET = made.run("bn", 1, 0, data="cifar10", model="resnet", depth=20)


def plan(folder, rows=ROWS, curves=None, recorded=None, **options):
    return report.prepare([made.write(folder / "src", list(rows), curves, recorded)], folder / "out", **options)


def tables(found):
    """{title: {method: entries}} of the tables of a plan."""
    blocks = report.blocks_of(found)
    return {b.title: {row[0].text: row[1:] for row in b.rows} for b in blocks if isinstance(b, Table)}


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures take the time of this file; here only words count."""
    monkeypatch.setattr(pictures, "png", lambda draw, theme: b"")


def test_every_cell_says_its_mean_interval_seeds_and_what_diverged(tmp_path, undrawn):
    found = tables(plan(tmp_path))
    cells = found["Test error in percent, running averages at inference"]
    assert list(cells) == ["bn", "kn-learned", "kn-released", "brn"]
    half = estimate([40.0, 42.0, 47.0]).half
    assert cells["bn"][0] == Entry(f"43.00 ± {half:.2f}", "", "n = 3") and f"{half:.2f}" == "8.96"
    assert cells["kn-learned"][0] == Entry("12.67 ± 1.90", "bold", "n = 3")
    assert cells["kn-released"] == (Entry("30.00", "", "n = 1, no interval; 2 of 3 diverged"), Entry("not run"))
    assert cells["brn"] == (Entry("2 of 2 diverged"), Entry("8.00", "", "n = 1, no interval"))
    assert cells["bn"][1].kind == cells["kn-learned"][1].kind == ""
    assert not any("batch statistics" in title or "population" in title for title in found)


def test_differences_are_of_the_same_seeds(tmp_path, undrawn):
    found = tables(plan(tmp_path, against=["kn-learned", "bn"]))
    cells = found["Test error minus that of bn, in percent points, running averages at inference"]
    wanted = estimate([-28.0, -29.5, -33.5])
    assert cells["kn-learned"][0] == Entry(f"-30.33 ± {wanted.half:.2f}", "bold", "n = 3")
    assert cells["kn-learned"][1] == Entry(f"+0.03 ± {estimate([0.1, -0.2, 0.2]).half:.2f}", "", "n = 3")
    assert cells["kn-released"] == (Entry("-10.00", "", "n = 1, no interval"), Entry("-"))
    assert cells["brn"] == (Entry("-"), Entry("-1.00", "", "n = 1, no interval"))
    assert "bn" not in cells
    assert "Test error minus that of kn-learned, in percent points, running averages at inference" in found


def test_without_bn_there_are_differences_only_when_asked_for(tmp_path, undrawn):
    rows = [row for row in ROWS if row["norm"] != "bn"]
    chosen = plan(tmp_path, rows)
    assert not any("minus" in title for title in tables(chosen))
    assert Paragraph(HOW_AGAINST) not in report.blocks_of(chosen)
    assert any("minus that of brn" in title for title in tables(plan(tmp_path, rows, against=["brn"])))


def test_runs_that_diverged_are_named_with_their_epoch(tmp_path, undrawn):
    finite = [row | {"test_error_running": 50.0} for row in ROWS]
    found = plan(tmp_path, curves=made.epochs(finite, {"brn.1.0", "kn-released.1.2"}))
    cells = tables(found)["Runs that diverged"]
    assert sorted(cells) == ["brn.1.0", "brn.1.1", "kn-released.1.1", "kn-released.1.2"]
    assert [entry.text for entry in cells["brn.1.0"]] == ["brn", "1", "0", "running", "3"]
    assert cells["kn-released.1.2"][-1].text == "3" and cells["brn.1.1"][-1].text == "-"
    assert "4 diverged; they are named below." in report.blocks_of(found)[0].text
    rest = [row for row in ROWS if not math.isnan(row["train_loss"])]
    calm = plan(tmp_path / "calm", rest)
    assert "None diverged." in report.blocks_of(calm)[0].text and "Runs that diverged" not in tables(calm)


def test_a_setting_that_varies_gives_each_its_tables_and_pictures(tmp_path, undrawn):
    rows = [row | {"id": f"{row['id']}.{lr}", "lr": lr} for row in ROWS[:6] for lr in (0.1, 0.05)]
    blocks = report.blocks_of(plan(tmp_path, rows))
    assert blocks[1].text == "What else varies: lr 0.05; lr 0.1. Each has its own tables."
    titles = [block.title for block in blocks if isinstance(block, Table)]
    for lr in ("0.05", "0.1"):
        assert f"Test error in percent, running averages at inference; lr {lr}" in titles
    assert [block.name for block in blocks if isinstance(block, Picture)] == ["error-lr-0.05.png", "error-lr-0.1.png"]


def test_a_group_that_was_never_evaluated_has_no_picture(tmp_path, undrawn):
    empty = {f"test_{what}_{mode}": "" for what in ("error", "loss") for mode in made.MODES}
    rows = [*ROWS[:3], *(row | empty | {"id": f"{row['id']}.more", "epochs": 9} for row in ROWS[:3])]
    blocks = report.blocks_of(plan(tmp_path, rows))
    assert [block.name for block in blocks if isinstance(block, Picture)] == ["error-epochs-6.png"]


@pytest.mark.parametrize(
    ("norm", "inference", "words"),
    [
        ("bn", "population", "with population statistics at inference"),
        ("bn:inference=batch", "running", "with batch statistics at inference"),
        ("kn-learned:gain=0.5,inference=batch", "running", "with batch statistics at inference"),
    ],
)
def test_the_curves_name_what_inference_took(tmp_path, undrawn, norm, inference, words):
    rows = made.sweep((norm,), (4,), (0, 1), inference=inference)
    blocks = report.blocks_of(plan(tmp_path, rows, made.epochs(rows)))
    [caption] = [block.caption for block in blocks if isinstance(block, Picture) and block.name == "curves.png"]
    assert words in caption


def test_each_inference_mode_has_its_table(tmp_path, undrawn):
    found = tables(plan(tmp_path, made.sweep(("bn", "gn"), (1, 2), (0, 1))))
    for mode in ("running averages", "batch statistics", "population statistics"):
        assert f"Test error in percent, {mode} at inference" in found


def test_settings_speed_and_time(tmp_path, undrawn):
    rows = [row | {"images_per_second": 100.0 * (i + 1), "seconds": 1800.0} for i, row in enumerate(ROWS[:3])]
    folded = report.blocks_of(plan(tmp_path, rows))[1]
    settings, speed = ({row[0].text: [e.text for e in row[1:]] for row in table.rows} for table in folded.blocks)
    assert speed == {"bn": ["3", "200", "1.5 hours"]}
    assert settings["data"] == ["digits"] and settings["lr"] == ["0.05"] and settings["clip_norm"] == ["none"]
    assert not {"norm", "seed", "statistics_batch_size"} & set(settings)


def test_what_sets_a_group_apart_is_said_once():
    run = _run("runs.csv", 2, {name: str(value) for name, value in RESNET.items()})
    assert pictures._about(Group({}, (run,))) == "CIFAR-10, ResNet-20"
    assert pictures._about(Group({"depth": "20", "lr": "0.1"}, (run,))) == "CIFAR-10, ResNet-20, lr 0.1"


@pytest.mark.parametrize(("value", "text"), [(-0.001, "0.00"), (0.004, "0.00"), (1.255, "+1.25"), (-10.0, "-10.00")])
def test_a_rounded_zero_has_no_sign(value, text):
    assert signed(value) == text


def test_the_summary_holds_every_number_of_the_tables_in_full(tmp_path, undrawn):
    chosen = plan(tmp_path, against=["bn"])
    report.write(chosen)
    with (tmp_path / "out" / "summary.csv").open(newline="") as stream:
        rows = {(r["method"], r["statistics_batch_size"], r["against"]): r for r in csv.DictReader(stream)}
    assert rows["kn-released", "1", ""] | {"inference": ""} == dict(
        inference="", method="kn-released", statistics_batch_size="1", against="", runs="3", diverged="2", n="1",
        mean="30.0", half_width="",
    )  # fmt: skip
    assert float(rows["bn", "1", ""]["half_width"]) == estimate([40.0, 42.0, 47.0]).half
    assert float(rows["kn-learned", "1", "bn"]["mean"]) == pytest.approx(-91 / 3)
    assert ("bn", "1", "bn") not in rows and ("kn-released", "4", "") not in rows
    assert rows["brn", "1", ""]["mean"] == "" and rows["brn", "1", ""]["diverged"] == "2"
    text = (tmp_path / "out" / "report.md").read_text()
    for row in rows.values():
        if row["mean"]:
            assert (f"{float(row['mean']):+.2f}" if row["against"] else f"{float(row['mean']):.2f}") in text


def test_markdown_and_html_hold_the_same_cells_and_no_markup_of_theirs():
    odd = Table("a*b", ("x|y", "z"), ((Entry("kn:a=1,b=2", "code"), Entry("<1>_2", "bold", "n = 2")),), "note <b>")
    text, html = markdown("t", [Heading("h"), odd]), page("t", [Heading("h"), odd])
    assert "| `kn:a=1,b=2` | **\\<1\\>\\_2** (n = 2) |" in text and "| x\\|y | z |" in text
    assert "<code>kn:<wbr>a=1,<wbr>b=2</code>" in html
    assert '<td><strong>&lt;1&gt;_2</strong><span class="beside">n = 2</span></td>' in html
    assert "note &lt;b&gt;" in html


def test_the_markdown_names_pictures_that_are_there_and_its_tables_are_whole(tmp_path, undrawn):
    rows = made.sweep(("bn", "kn-learned"), (1, 2), (0, 1))
    report.write(plan(tmp_path, rows, made.epochs(rows), made.layers(rows)))
    text = (tmp_path / "out" / "report.md").read_text()
    named = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert sorted(named) == sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert named == ["error.png", "inference.png", "curves.png", "estimators-layer.png", "gain.png"]
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
