"""Holds the links of the documentation to the truth: every file, heading and line that one leads to is there."""

import re

import pytest
from pages import ROOT, anchors, blocks, made, pages, prose, text_of

PAGES = pages()
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)|<(?:img|a|source)\b[^>]*?(?:src|href)=\"([^\"]+)\"")
DEFINED = re.compile(r"^\[[^\]]+\]: +(\S+)", re.MULTILINE)


def links(text):
    """The relative links of a page; what stands in code is none."""
    text = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", prose(text))
    found = [a or b for a, b in LINK.findall(text)] + DEFINED.findall(text)
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def wrong(path, text):
    """The links of a page that lead nowhere, with the reason."""
    for target in links(text):
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        if not found.is_relative_to(ROOT):
            yield f"{target}: no such file"
        elif made(found):
            continue  # a build of the site writes it
        elif not found.exists():
            yield f"{target}: no such file"
        elif anchor and found.suffix in (".md", ".ipynb"):
            if anchor not in anchors(text if found == path else text_of(found)):
                yield f"{target}: no such heading"
        elif anchor:
            numbers = re.fullmatch(r"L(\d+)(?:-L(\d+))?", anchor)
            lines = found.read_text(encoding="utf-8").count("\n") if found.is_file() else 0
            if not numbers or not all(1 <= int(n) <= lines for n in numbers.groups() if n):
                yield f"{target}: no such line"


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_links_lead_somewhere(path):
    assert list(wrong(path, text_of(path))) == []


def test_there_are_pages_with_links():
    assert {ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "equations.md"} <= set(PAGES)
    assert sum(len(links(text_of(path))) for path in PAGES) > 100


PAGE = "# One\n\n## Two `a_b`, [C](c.md)\n\n## Two `a_b`, [C](c.md)\n\n"


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        ("[a](equations.md) [b](../README.md#why) [c](https://arxiv.org/abs/1802.03133)", None),
        ("[a](#one) [b](#two-a_b-c) [c](#two-a_b-c-1)", None),
        ("[a](../kalnorm_ref/moments.py#L1) [b](../kalnorm_ref/moments.py#L1-L20) [c](../kalnorm_ref)", None),
        ("`[a](nowhere.md)` and ``[a](nowhere.md) ` [a](nowhere.md)``", None),
        ("```text\n[a](nowhere.md)\n# Three\n```\n", None),
        ("[a](_build/nothing.html)", None),
        ("[a](equation.md)", "equation.md: no such file"),
        ("![a](images/nothing.png)", "images/nothing.png: no such file"),
        ('<img alt="a" src="images/nothing.png">', "images/nothing.png: no such file"),
        ("[a]\n\n[a]: nowhere.md\n", "nowhere.md: no such file"),
        ("[a](../../elsewhere.md)", "../../elsewhere.md: no such file"),
        ("[a](equations.md#b5)", "equations.md#b5: no such heading"),
        ("[a](#two)", "#two: no such heading"),
        ("[a](#two-a_b-c-2)", "#two-a_b-c-2: no such heading"),
        ("[a](#three)\n\n```text\n# Three\n```\n", "#three: no such heading"),
        ("[a](../kalnorm_ref/moments.py#L100000)", "../kalnorm_ref/moments.py#L100000: no such line"),
        ("[a](../kalnorm_ref/moments.py#observe)", "../kalnorm_ref/moments.py#observe: no such line"),
    ],
)
def test_a_link_that_leads_nowhere_is_seen(link, complaint):
    page = PAGE.replace("c.md", "trace.md") + link
    assert list(wrong(ROOT / "docs" / "trace.md", page)) == ([complaint] if complaint else [])


def test_blocks_are_told_from_prose():
    text = "a\n\n    b\n\n    c\n\nd\n```python x\ne\n```\n- f\n    g\n"
    assert [tuple(block) for block in blocks(text)] == [(3, "", "b\n\nc\n"), (8, "python x", "e\n")]
    assert prose(text).split() == ["a", "d", "-", "f", "g"] and prose(text).count("\n") == text.count("\n")
