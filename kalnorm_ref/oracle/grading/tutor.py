"""The tutor's answer to one function."""

import functools
import html

import numpy as np

from . import bn_backward, bn_forward, brn_backward, brn_corrections, kn_backward, kn_fuse, linear_moments, relu_moments
from .calls import ask, copes, outside_numbers, quoted, signature_fault
from .diagnose import diagnosis
from .exercise import results
from .residual import described
from .rounding import rounds_to_float32
from .tolerance import CANCELLED, LEVELS, tolerance

ALL = (
    bn_forward.EXERCISE,
    bn_backward.EXERCISE,
    brn_corrections.EXERCISE,
    brn_backward.EXERCISE,
    kn_fuse.EXERCISE,
    kn_backward.EXERCISE,
    relu_moments.EXERCISE,
    linear_moments.EXERCISE,
)
EXERCISES = {exercise.name: exercise for exercise in ALL}
NEARLY = 1e-6  # of the size of a result: no mistake in a term is as small on all data sets
SHOWN = 3  # elements of a wrong result, largest error first


class Grade:
    """What a tutor says. `passed`, whether the answer is right; `text`, what is shown."""

    def __init__(self, name, passed, sentences=(), table=()):
        self.name, self.passed, self.sentences, self.table = name, passed, tuple(sentences), tuple(table)

    @property
    def text(self):
        """The answer as lines of text."""
        blocks = [f"{self.name}: {'right' if self.passed else 'not right yet'}", *self.sentences]
        return "\n\n".join([*blocks, "\n".join(self.table)] if self.table else blocks)

    def __bool__(self):
        return self.passed

    def __repr__(self):
        return self.text

    def _repr_html_(self):
        colour = "#117733" if self.passed else "#cc6677"
        body = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in self.sentences)
        table = f"<pre>{html.escape(chr(10).join(self.table))}</pre>" if self.table else ""
        head = html.escape(f"{self.name}: {'right' if self.passed else 'not right yet'}")
        return f'<div style="border-left: 4px solid {colour}; padding-left: 1em"><b>{head}</b>{body}{table}</div>'


def grade(student_function, exercise):
    """Grade an answer to an exercise, as a tutor would who does not give the solution away.

    student_function: a function with the signature of the exercise; NumPy arrays in, NumPy arrays out. exercise: its
    name, "bn-backward" for instance.
    Returns: Grade: passed, and text, which says which term is missing, wrong or too many, in which result, on which
    data, and by how much. A function that is not written yet (returns None or ...) and one that raises are graded too.
    Raises: ValueError for an unknown name, TypeError for something that is no function.

    >>> import kalnorm_ref as kr
    >>> def linear_moments(mean, var, weight, bias):
    ...     return mean @ weight + bias, var @ weight
    >>> kr.oracle.grade(linear_moments, "linear-moments").passed
    False
    """
    if exercise not in EXERCISES:
        raise ValueError(f"no exercise is called {exercise!r}; expected one of {', '.join(EXERCISES)}")
    if not callable(student_function):
        raise TypeError(f"student_function is {type(student_function).__name__}; expected a function")
    exercise = EXERCISES[exercise]
    fault = signature_fault(student_function, exercise)
    if fault:
        return Grade(exercise.name, False, [fault])
    answers = ask(student_function, exercise)
    if not any(a.written for a in answers):
        return Grade(exercise.name, False, ["Not written yet: the function returns nothing."])
    return _judged(student_function, exercise, answers)


@np.errstate(all="ignore")  # what is not finite is judged
def _judged(function, exercise, answers):
    faults = list(dict.fromkeys(a.fault for a in answers if a.fault))
    missing = [a for a in answers if not a.written]
    if missing:
        faults.append(f"The function returns nothing on {quoted(missing[0].data)}.")
    given = [a for a in answers if a.results is not None]
    if not given:
        return Grade(exercise.name, False, [*faults[:1], *_outside(function)])
    level = _level(function, exercise, given)
    if level is not None and not faults:
        remarks = [level.remark] if level.remark else []
        if level.dtype == "float64":
            remarks += [edge.remark for edge in exercise.edges if not copes(function, edge)]
        return Grade(exercise.name, True, [_praise(exercise, given), *remarks])
    if level is not None:
        return Grade(exercise.name, False, faults[:2])
    return _explained(function, exercise, given, faults[:1])


def _level(function, exercise, answers):
    """The level of accuracy that all results have, None if they have none."""
    for level in LEVELS:
        if level.dtype == "float32" and not rounds_to_float32(function, exercise, answers):
            continue
        if all(_within(exercise, a, level) for a in answers):
            return level
    return None


def _within(exercise, answer, level):
    want, bound = _expected(exercise.name, exercise.sets.index(answer.data)), _bounds(exercise, answer.data, level)
    return all(_right(answer.results[name], want[name], bound[name]).all() for name in want)


def _right(got, want, bound):
    return np.abs(got - want) <= bound  # NaN is not


@functools.cache
def _expected(name, index):
    exercise = EXERCISES[name]
    return results(exercise, exercise.sets[index])


def _bounds(exercise, data, level):
    return _cached_bounds(exercise.name, exercise.sets.index(data), level)


@functools.cache
def _cached_bounds(name, index, level):
    exercise = EXERCISES[name]
    return tolerance(exercise, exercise.sets[index], level)


def _praise(exercise, answers):
    count = len(exercise.outputs)
    return f"{count} result{'s' * (count > 1)} on {len(answers)} data sets, each within what rounding may cost."


def _outside(function):
    found = outside_numbers(function)
    return [
        f"The function reads {name} (= {np.array2string(np.asarray(value), threshold=4)}) from outside; it should take "
        "what it needs from its arguments."
        for name, value in found.items()
    ]


# ---- what is wrong -------------------------------------------------------------------------------------------------


def _explained(function, exercise, answers, faults):
    single = rounds_to_float32(function, exercise, answers)
    level = LEVELS[2] if single else LEVELS[0]
    table, right, wrong = [], [], {}
    width = max(len(o.name) for o in exercise.outputs)
    for output in exercise.outputs:
        rows = [_row(exercise, a, output.name, level) for a in answers]
        bad = [row for row in rows if row[4] > 1]
        if not bad:
            right.append(output.name)
            table.append(f"{output.name:<{width}}  right on all {len(answers)} data sets")
            continue
        wrong[output.name] = rows
        table += _lines(output.name, width, bad, rows)
    if wrong and max(_relative(row) for rows in wrong.values() for row in rows) < NEARLY:
        return Grade(exercise.name, False, [*faults, _nearly(level.dtype)], table)
    cancels = "x" in exercise.parameters or exercise.difference is not None
    if single and cancels and all(_within(exercise, a, CANCELLED) for a in answers):
        return Grade(exercise.name, False, [*faults, CANCELLED.remark], table)
    sentences, unexplained = diagnosis(exercise, answers, level.dtype, right)
    sentences += _nonfinite(wrong)
    for name in unexplained:
        rows = wrong[name]
        if all(np.isfinite(row[1]).all() for row in rows):
            sentences += described(name, [row[:4] for row in rows]) or [_unknown(name, rows)]
    if unexplained:
        sentences.append(exercise.advice)
    return Grade(exercise.name, False, [*faults, *sentences, *_outside(function)], table)


def _row(exercise, answer, name, level):
    """(data, got, want, tolerance, largest error over the tolerance)."""
    got, want = answer.results[name], _expected(exercise.name, exercise.sets.index(answer.data))[name]
    bound = _bounds(exercise, answer.data, level)[name]
    ratio = np.abs(got - want) / bound
    return answer.data, got, want, bound, float(np.max(np.where(np.isnan(ratio), np.inf, ratio)))


def _lines(name, width, bad, rows):
    """Where a result is wrong, and its largest errors on the data set where they are largest against its size."""
    worst = max(bad, key=_relative)
    data, got, want = worst[:3]
    head = f"{name:<{width}}  wrong on {len(bad)} of {len(rows)} data sets, most on {quoted(data)}"
    off = np.abs(got - want).ravel()
    order = np.argsort(np.where(np.isnan(off), np.inf, off))[::-1][:SHOWN]
    lines = [head]
    for at in order:
        index = np.unravel_index(at, got.shape)
        off_by = f", off by {(got - want)[index]:+.3g}" if np.isfinite(got[index]) else ""
        lines.append(f"{'':<{width}}    {_place(name, index)} is {got[index]:.6g}{off_by}")
    return lines


def _place(name, index):
    return name + (f"[{', '.join(map(str, index))}]" if index else "")


def _relative(row):
    _, got, want, _, _ = row
    off = np.abs(got - want)
    size = np.sqrt(np.mean(want**2)) + 1e-300
    return float(np.max(np.where(np.isfinite(off), off, np.inf)) / size)


def _nonfinite(wrong):
    for name, rows in wrong.items():
        for data, got, *_ in rows:
            if not np.isfinite(got).all():
                at = tuple(np.argwhere(~np.isfinite(got))[0])
                place = _place(name, at)
                return [f"{place} is {got[at]} on {quoted(data)}: a division by zero, a bad root or an overflow."]
    return []


def _nearly(dtype):
    return (
        f"Nearly: the errors are small, but larger than the rounding of {dtype} can make them. Is a constant given "
        "with too few digits, something small added that does not belong there, or an integral or a series cut short?"
    )


def _unknown(name, rows):
    """Where it is right, if it is anywhere."""
    right = [f"“{row[0].name}”" for row in rows if row[4] <= 1]
    if right:
        return f"{name} is right on the data sets {', '.join(right)} and wrong on the others. What is different there?"
    return f"{name} is wrong on all data sets, and not in a way that is known here."
