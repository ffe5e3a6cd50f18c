"""A trace as text for the terminal, in ASCII."""

from . import figures

HEADS = {"given": "Given", "forward": "Forward", "backward": "Backward"}


def render(trace, fractions):
    """All steps, in order, under a heading for each part."""
    lines, part = [f"{trace.title}: {len(trace.steps)} steps"], None
    for number, (step, note) in enumerate(zip(trace.steps, trace.notes, strict=True), 1):
        if note.part != part:
            part = note.part
            lines += ["", HEADS[part], "-" * len(HEADS[part])]
        lines += ["", *block(number, step, note, fractions)]
    return "\n".join(lines) + "\n"


def block(number, step, note, fractions):
    """The lines of one step: equation, origin, value."""
    named = "" if step.symbol == step.name else f"   [{step.name}]"
    head = f"{number:3}  {note.formula or step.symbol}{named}"
    equation = f"({step.equation})" if step.equation else ""
    again = "" if note.same is None else f"  as in step {note.same + 1}"
    part = "" if note.completed is None else f"  in part; completed in step {note.completed + 1}"
    yield f"{head:<68} {equation}{again}{part}".rstrip()
    if note.code:
        yield f"     {short(step.file)}:{step.line}   {note.code}"
    elif note.meaning:
        yield f"     {note.meaning}"
    shape = " x ".join(map(str, step.shape)) or "scalar"
    if step.value.size > figures.MANY:
        yield f"     {shape}: {figures.summary(step.value)}; the first:"
    for index, matrix, cut in figures.tables(step.value):
        if index:
            yield f"       [{', '.join(map(str, index))}]"
        cells = [[figures.number(value, fractions) for value in row] for row in matrix]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            yield "       " + "   ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True))
        if cut:
            yield "       ..."


def short(filename):
    """A file's path from the package's folder on; of another file its name."""
    parts = filename.replace("\\", "/").split("/")
    start = next((i for i in range(len(parts) - 1, -1, -1) if parts[i] == __name__.partition(".")[0]), len(parts) - 1)
    return "/".join(parts[start:])
