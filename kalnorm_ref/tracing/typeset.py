"""An equation in the letters of docs/equations.md as HTML: mu as a Greek letter, r^2 with a superscript."""

import re
from html import escape

GREEK = {
    "mu": "\u03bc",
    "gamma": "\u03b3",
    "beta": "\u03b2",
    "delta": "\u03b4",
    "rho": "\u03c1",
    "eps": "\u03b5",
    "Sigma": "\u03a3",
    "Phi": "\u03a6",
    "phi": "\u03c6",
    "xbar": "x\u0304",
    "x_hat": "x\u0302",
    "Sg": "\u03c3\u0304",
}
WORDS = {"mean", "var", "clip", "diag", "max", "conv", "exp", "sqrt"}  # set upright, as are longer names
SIGNS = {"-": "\u2212", "*": "\u2217", "<-": "\u2190", ">=": "\u2265", "<=": "\u2264"}
_TOKEN = re.compile(
    r"\^\((?P<power>[^()]*)\)|\^(?P<exponent>\w)|(?P<name>[A-Za-z]\w*)(?P<prime>'?)|(?P<sign><-|>=|<=|[-*])|(?P<other>.)"
)


def typeset(text):
    """HTML of a formula or a symbol; everything in it is escaped."""
    text = re.sub(r"\b1/2\b", "\u00bd", text.replace(" . ", " \u00b7 "))
    text = re.sub(r"<(\w[^<>]*)>", "\u27e8\\1\u27e9", text)
    return "".join(map(_token, _TOKEN.finditer(text)))


def _token(found):
    if found["power"] is not None:
        return f"<sup>{typeset(found['power'])}</sup>"
    if found["exponent"]:
        return f"<sup>{escape(found['exponent'])}</sup>"
    if found["name"]:
        return _name(found["name"]) + ("\u2032" if found["prime"] else "")
    return SIGNS[found["sign"]] if found["sign"] else escape(found["other"])


def _name(word):
    if word in GREEK:
        return f"<var>{GREEK[word]}</var>"
    if word in WORDS:
        return word
    base, _, index = word.partition("_")
    if word[0] == "d" and (word[1:] in GREEK or base[1:] in GREEK or len(base) == 2):
        return "d" + _name(word[1:])
    if base == "sum":
        base = "\u2211"
    elif base in GREEK or len(base) == 1:
        base = f"<var>{GREEK.get(base, base)}</var>"
    elif index:
        return escape(word)  # a longer name of the code
    return f"{base}<sub>{GREEK.get(index, escape(index))}</sub>" if index else base
