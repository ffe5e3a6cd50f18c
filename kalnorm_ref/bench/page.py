"""The page of results: how to read and repeat it, the machine, the roofline, a table for each part."""

from pathlib import Path

from ..experiments import checkpoint
from ..experiments.compare import to_json
from . import growth_plot
from .tables import HEADINGS, roofline, tables

PAGE, RESULTS = "README.md", "results.json"
MARK = "<!-- kalnorm-ref bench wrote this page and will write over it -->"
HEAD = Path(__file__).with_name("head.md")


def write(out, results):
    """Write results.json, the page and, with growth, its picture into the folder `out`; an older picture goes."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.write_text(out / PAGE, page(results))
    checkpoint.write_text(out / RESULTS, to_json(results) + "\n")
    if "growth" in results:
        growth_plot.draw(out / growth_plot.NAME, results["growth"])
    else:
        (out / growth_plot.NAME).unlink(missing_ok=True)


def check(out):
    """ValueError for a folder that holds a README.md or results.json of something else, which would be lost."""
    found = out / PAGE
    ours = found.exists() and MARK in found.read_text(encoding="utf-8", errors="replace")
    for path in (found, out / RESULTS):
        if path.exists() and not ours:
            raise ValueError(f"{path} is not from kalnorm-ref bench and would be lost; name another folder")


def page(results):
    """The page as Markdown."""
    head = HEAD.read_text(encoding="utf-8")
    parts = [MARK, "", head, "## The machine\n", *_machine(results), "", roofline(results), ""]
    for part, lines in tables(results).items():
        parts += [f"## {HEADINGS[part]}\n", lines, ""]
        if part == "growth":
            parts += [f"![{growth_plot.TITLE}]({growth_plot.NAME})", ""]
    return "\n".join(parts)


def _machine(results):
    """A line for each thing that figures depend on."""
    machine, settings = results["machine"], results["settings"]
    versions = [f"{name} {machine[name]}" for name in ("python", "numpy", "scipy", "torch") if name in machine]
    pace = settings["pace"]
    each = f"{pace['repeats']} calls" if pace["repeats"] else f"{pace['seconds']:g} s"
    code = f"kalnorm_ref {machine['kalnorm_ref']}, backend {machine['backend']}"
    finish = [] if results["complete"] else ["- not finished: parts are missing"]
    return [
        f"- {machine['cpu']}, {machine['cores']} cores, {machine['system']}; {machine['threads']} threads on each side",
        f"- {', '.join(filter(None, (code, machine['instruction_set'])))}",
        f"- {', '.join(versions)}; BLAS {machine['blas']}",
        f"- load {', '.join(map(str, machine['load']))} (1, 5, 15 minutes) at the start; {machine['date']}",
        f"- {each} for each column, in {pace['turns']} turns{'; small shapes (--quick)' if settings['quick'] else ''}",
        *finish,
    ]
