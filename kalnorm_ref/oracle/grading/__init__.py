"""Exercises, and what a tutor says to an answer: which term is wrong, in which result, on which data, by how much.

exercise.py says what an exercise is; bn_forward.py to linear_moments.py hold the eight of them, each with a table of
the mistakes that students make. calls.py calls the student's function, tolerance.py says how far rounding may lead,
diagnose.py finds the mistake, tutor.py writes the answer.
"""

from .tutor import Grade, grade

__all__ = ["Grade", "grade"]
