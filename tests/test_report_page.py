"""Holds the page of a report to its promises: the same bytes every time, nothing from outside, and in a real browser
readable wide and narrow, light and dark."""

import re

import browser as chromium
import made_sweeps as made
import matplotlib
import pytest

from kalnorm_ref.experiments import report

SMALL = made.sweep(("bn", "kn-learned", "gn"), (1, 4), (0, 1))
LOST = "bn.1.1"


def write(folder):
    """A report of runs, one of them diverged, with all tables; returns its folder."""
    rows = [made.diverge(row) if row["id"] == LOST else row for row in SMALL]
    made.write(folder / "src", rows, made.epochs(SMALL, {LOST}), made.layers(SMALL, (1, 2)))
    report.write(report.prepare([folder / "src"], folder / "out"))
    return folder / "out"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("written"))


def test_the_same_tables_give_the_same_bytes(written, tmp_path):
    with matplotlib.rc_context(
        {"font.size": 30, "font.family": "serif", "axes.facecolor": "red", "lines.linewidth": 9, "savefig.dpi": 20}
    ):
        again = write(tmp_path)
    names = sorted(path.name for path in written.iterdir())
    assert names == sorted(path.name for path in again.iterdir()) and len(names) == 9
    for name in names:
        assert (written / name).read_bytes() == (again / name).read_bytes(), name


def test_a_png_has_no_date_and_no_version_in_it(written):
    for path in written.glob("*.png"):
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG") and not re.search(rb"tEXt|iTXt|tIME", content), path.name


def test_the_page_asks_for_nothing(written):
    text = (written / "report.html").read_text()
    links = re.findall(r'(?:src|srcset|href|action|data)="([^"]*)"', text)
    assert len(links) == 12 and all(link.startswith("data:image/png;base64,") for link in links)
    text = re.sub(r"data:image/png;base64,[\w+/=]*", "", text)
    assert "<script" not in text and "@import" not in text and "url(" not in text and "http" not in text


@pytest.fixture(scope="module")
def tab():
    if not (chromium.CHROMIUM and chromium.DRIVER):
        pytest.skip(chromium.MISSING)
    with chromium.driver() as address:
        session = chromium.Browser(address)
        yield session
        session.close()


PICTURES = """
return Promise.all([...document.images].map((i) => i.decode().then(() => [i.naturalWidth, i.currentSrc.length,
  i.getBoundingClientRect().width, i.alt])))
"""
CONTRAST = """
const light = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const paper = light(getComputedStyle(document.body).backgroundColor);
return [...document.querySelectorAll('p, td, th, .beside, h1, h2, h3, figcaption')].map((e) => {
  const ink = light(getComputedStyle(e).color);
  return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
});
"""
SCROLLED = "return [...document.querySelectorAll('.picture, .wide')].map((e) => getComputedStyle(e).overflowX)"
WIDTHS = "return [document.documentElement.scrollWidth, innerWidth]"


def test_the_page_in_a_browser_wide_and_narrow_light_and_dark(written, tab):
    sources = {}
    for scheme in ("light", "dark"):
        for width in (1400, 390):
            tab.prefer(prefers_color_scheme=scheme)
            tab.resize(width, 900)
            tab.open((written / "report.html").as_uri())
            found, inner = tab.run(WIDTHS)
            assert found <= inner
            pictures = tab.run(PICTURES)
            assert len(pictures) == 6
            for natural, source, shown, alt in pictures:
                assert natural == 1600 and shown >= 600 and alt
                sources.setdefault(alt, {}).setdefault(scheme, source)
            assert min(tab.run(CONTRAST)) > 4.5
            assert set(tab.run(SCROLLED)) == {"auto"}
    assert all(of["light"] != of["dark"] for of in sources.values())
    assert tab.log() == []
    cells = tab.run("return [...document.querySelectorAll('td')].map((e) => e.innerText)")
    assert any("1 of 2 diverged" in cell for cell in cells)
