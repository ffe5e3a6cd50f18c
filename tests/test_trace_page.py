"""Holds the page of a trace to its promises, in a real browser: keyboard, screen readers, no request, colours."""

import re

import browser as chromium
import numpy as np
import pytest

import kalnorm_ref as kr
from kalnorm_ref.tracing import methods
from kalnorm_ref.tracing.examples import EXAMPLES

LEAST_CONTRAST = 7.0  # WCAG 2.2, level AAA, for the numbers in coloured cells; measured 7.8
STATE = """
const visible = [...document.querySelectorAll('.step')].filter((s) => s.checkVisibility());
const current = [...document.querySelectorAll('nav [aria-current]')];
return {visible: visible.map((s) => s.id), current: current.map((a) => [a.hash, a.ariaCurrent]), hash: location.hash,
  said: document.getElementById('said').textContent, position: document.getElementById('position').textContent,
  equation: [...document.querySelectorAll('aside [aria-current]')].map((a) => a.id)};
"""
CONTRASTS = """
const light = (colour) => {
  const canvas = document.createElement('canvas').getContext('2d');
  canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
return [...document.querySelectorAll('td')].map((cell) => {
  const style = getComputedStyle(cell), [a, b] = [light(style.color), light(style.backgroundColor)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
});
"""


CURRENT = ".step:not([hidden])"


def text_of(tab, selector):
    return tab.run("return document.querySelector(arguments[0]).textContent", selector).strip()


def style_of(tab, selector, name):
    return tab.run("return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, name)


def page_of(method, name):
    example = EXAMPLES[method][name]
    trace = methods.run(method, example.arguments, example.about)
    return trace, trace.html(example.fractions)


@pytest.fixture(scope="module")
def session():
    if not (chromium.CHROMIUM and chromium.DRIVER):
        pytest.skip(chromium.MISSING)
    with chromium.driver() as address:
        browser = chromium.Browser(address)
        yield browser
        browser.close()


@pytest.fixture
def tab(session):
    """The browser as it starts: default preferences, an empty log."""
    session.prefer()
    session.resize(1400, 1000)
    session.open("about:blank")
    session.log()
    return session


@pytest.fixture(scope="module")
def kn(tmp_path_factory):
    """The exact example of KN: its trace and the address of its page."""
    trace, text = page_of("kn", "exact")
    path = tmp_path_factory.mktemp("page") / "kn.html"
    path.write_text(text, encoding="utf-8")
    return trace, path.as_uri()


def test_the_page_asks_for_nothing_and_says_nothing_in_the_console(tab, kn):
    tab.open(kn[1])
    tab.press("ArrowRight", "End", "r", "Home")
    assert tab.log() == []
    assert tab.run("return performance.getEntriesByType('resource').map((e) => e.name)") == []
    assert tab.run("return document.querySelectorAll('[src], link[href^=http], script[src], iframe, img').length") == 0


def test_a_page_that_did_ask_would_be_seen(tab, kn, tmp_path):
    asking = page_of("kn", "exact")[1].replace("<header>", '<header><img src="http://127.0.0.1:9/x.png" alt="">')
    (tmp_path / "asking.html").write_text(asking, encoding="utf-8")
    tab.open((tmp_path / "asking.html").as_uri())
    assert any("Content Security Policy" in entry["message"] for entry in tab.log())


def expect(state, trace, i):
    note, step = trace.notes[i], trace.steps[i]
    assert state["visible"] == [f"step-{i + 1}"]
    assert state["current"] == [[f"#step-{i + 1}", "step"]]
    assert state["position"] == f"Step {i + 1} of {len(trace.steps)}"
    assert state["said"].startswith(f"Step {i + 1} of {len(trace.steps)}, {note.part}: {step.symbol}")
    assert len(state["equation"]) == bool(note.formula and step.equation)
    assert state["hash"] == f"#step-{i + 1}" or (i == 0 and state["hash"] == "")


@pytest.mark.parametrize(("forwards", "backwards"), [("ArrowRight", "ArrowLeft"), ("j", "k"), ("n", "p")])
def test_every_step_is_reached_by_keyboard_forwards_and_backwards(tab, kn, forwards, backwards):
    trace, address = kn
    tab.open(address)
    last = len(trace.steps) - 1
    for i in range(last + 1):
        expect(tab.run(STATE), trace, i)
        tab.press(forwards)
    expect(tab.run(STATE), trace, last)
    for i in reversed(range(last)):
        tab.press(backwards)
        expect(tab.run(STATE), trace, i)
    tab.press("End")
    expect(tab.run(STATE), trace, last)
    tab.press("Home")
    expect(tab.run(STATE), trace, 0)


def test_buttons_links_and_deep_links_lead_to_their_step(tab, kn):
    trace, address = kn
    tab.open(f"{address}#step-12")
    expect(tab.run(STATE), trace, 11)
    for name, expected in (("next", 12), ("back", 11), ("last", len(trace.steps) - 1), ("first", 0)):
        tab.run(f"document.querySelector('[data-to={name}]').click()")
        expect(tab.run(STATE), trace, expected)
    assert tab.run("return document.querySelector('[data-to=first]').ariaDisabled") == "true"
    for chosen, step in (("nav a[href='#step-20']", 19), ("aside a", 10), (".step:not([hidden]) .from a", 0)):
        tab.run(f'document.querySelector("{chosen}").click()')
        tab.run("return new Promise((done) => setTimeout(done, 50))")
        expect(tab.run(STATE), trace, step)
    tab.open(f"{address}#step-999")
    expect(tab.run(STATE), trace, len(trace.steps) - 1)


def test_the_highlighted_equation_is_that_of_the_step(tab, kn):
    trace, address = kn
    index = next(i for i, step in enumerate(trace.steps) if step.symbol == "ddelta")
    tab.open(f"{address}#step-{index + 1}")
    shown = text_of(tab, "aside [aria-current]")
    assert shown == "d\u03b4 = q d\u03bc + 2 p q dv \u03b4(B5)"
    assert text_of(tab, f"{CURRENT} .formula") == f"{shown[:-4]} (B5)"


def test_keys_with_a_modifier_belong_to_the_browser(tab, kn):
    tab.open(kn[1])
    tab.run("dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', altKey: true}))")
    tab.run("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'n', ctrlKey: true, bubbles: true}))")
    expect(tab.run(STATE), kn[0], 0)


def test_focus_is_seen_and_reaches_every_control(tab, kn):
    tab.open(kn[1])
    focus = "const e = document.activeElement; return [e.textContent.trim(), getComputedStyle(e).outlineStyle];"
    for name in ("Skip to the current step", "First", "\u2190 Back", "Next \u2192", "Last"):
        tab.press("Tab")
        assert tab.run(focus) == [name, "solid"]


def test_tables_have_headers_and_the_announcement_is_polite(tab, kn):
    tab.open(f"{kn[1]}#step-1")
    table = "document.querySelector('#step-1 table')"
    heads = tab.run(f"return [...{table}.querySelectorAll('th')].map((h) => [h.scope, h.textContent])")
    assert heads[1:3] == [["col", "channel 0"], ["col", "channel 1"]]
    assert heads[3:] == [["row", "sample 0"], ["row", "sample 1"]]
    assert tab.run(f"return {table}.caption.textContent") == "x"
    assert tab.run("const s = document.getElementById('said'); return [s.role, s.ariaLive]") == ["status", "polite"]
    landmarks = "return ['main', 'nav[aria-label]', 'aside[aria-labelledby]', 'header', 'footer', 'h1']"
    assert tab.run(f"{landmarks}.every((s) => document.querySelectorAll(s).length === 1)")
    unnamed = "return [...document.querySelectorAll('button, input, progress, [role=region]')].filter((e) => !"
    assert tab.run(f"{unnamed}(e.textContent.trim() || e.ariaLabel || e.closest('label'))).length") == 0
    identities = "const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);"
    repeated = f"{identities} return ids.length - new Set(ids).size"
    assert tab.run(repeated) == 0


def test_fractions_stand_above_their_decimals(tab, kn):
    tab.open(kn[1])
    assert (text_of(tab, "#step-1 td"), text_of(tab, "#step-1 td small")) == ("7/23.5", "3.5")


def test_pencil_first_hides_a_result_until_it_is_asked_for(tab, kn):
    trace, address = kn
    computed = next(i for i, note in enumerate(trace.notes) if note.code)
    tab.open(f"{address}#step-{computed + 1}")
    shown = f"return document.querySelector('{CURRENT} .answer').checkVisibility()"
    assert tab.run(shown)
    tab.run("document.getElementById('pencil').click()")
    assert not tab.run(shown)
    tab.press("r")
    assert tab.run(shown) and tab.run("return document.getElementById('said').textContent").startswith("The result: ")
    tab.press("j")
    assert not tab.run(shown)
    tab.press("Home")
    assert tab.run(shown), "what is given is never hidden"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_number_is_readable_on_its_colour(tab, kn, scheme):
    tab.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    tab.open(kn[1])
    contrasts = tab.run(CONTRASTS)
    assert len(contrasts) > 100 and min(contrasts) >= LEAST_CONTRAST
    paper = re.findall(r"\d+", style_of(tab, "body", "backgroundColor"))
    dark = sum(map(int, paper[:3])) < 300
    assert dark == (scheme == "dark")


def test_colours_say_sign_and_size_not_by_red_and_green(tab, kn):
    tab.prefer(prefers_reduced_motion="reduce")
    tab.open(kn[1])
    colours = [style_of(tab, f"td.{kind}[style='--t:1.00']", "backgroundColor") for kind in ("below", "above")]
    below, above = ([float(v) for v in re.findall(r"[\d.]+", colour)[:3]] for colour in colours)
    assert below[2] > 1.5 * above[2], "blue against orange: they differ in blue, which red-green blindness leaves"


def test_reduced_motion_is_respected(tab, kn):
    tab.open(kn[1])
    assert style_of(tab, "td", "transitionDuration") == "0.15s"
    tab.prefer(prefers_reduced_motion="reduce")
    assert style_of(tab, "td", "transitionDuration") == "0s"


@pytest.mark.parametrize("width", [320, 390, 768, 1400])
def test_no_width_needs_sideways_scrolling(tab, kn, width):
    tab.resize(width, 800)
    tab.open(kn[1])
    for _ in kn[0].steps:
        assert tab.run("return document.documentElement.scrollWidth") <= width
        tab.press("ArrowRight")


def test_on_paper_and_without_a_script_every_step_shows(tab, kn):
    tab.open(kn[1])
    tab.devtools("Emulation.setEmulatedMedia", media="print")
    assert len(tab.run(STATE)["visible"]) == len(kn[0].steps)
    tab.devtools("Emulation.setEmulatedMedia", media="")
    tab.devtools("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(kn[1])
    tab.devtools("Emulation.setScriptExecutionDisabled", value=False)
    visible = "return [...document.querySelectorAll('.step')].filter((step) => step.checkVisibility()).length"
    assert tab.run(visible) == len(kn[0].steps)


def test_a_picture_of_the_page_is_not_blank(tab, kn):
    tab.resize(1200, 900)
    tab.open(f"{kn[1]}#step-18")
    picture = tab.screenshot()
    assert picture.startswith(b"\x89PNG") and len(picture) > 20_000


def test_whatever_a_program_holds_is_escaped(tab, tmp_path):
    def hostile(x):
        y = x + len("<script>document.title = 'lost'</script>")  # & "quotes" </code> $script
        return y

    trace = kr.trace(hostile, np.array([1.0, np.nan, -np.inf]))
    text = trace.html()
    (tmp_path / "hostile.html").write_text(text, encoding="utf-8")
    tab.open((tmp_path / "hostile.html").as_uri())
    assert tab.run("return document.title") == "hostile, step by step"
    code = text_of(tab, "#step-2 code")
    assert code == trace.notes[1].source and "<script>document" in code
    cells = "return [...document.querySelectorAll('#step-1 td')].map((cell) => cell.textContent)"
    assert tab.run(cells) == ["1", "nan", "-inf"]
    assert tab.log() == [] and text.count("<script>") == 1
