"""Proof of every gradient: each pair f, f_backward of the package before four judges, and its compiled twin beside it.

    judges.py  the four judges      loops/  a second derivation, as scalar loops      cases/  the table of pairs
    proof.py   measures, compares   report.py  says it as text, Markdown and JSON

docs/gradproof.md tells what each judge is for and holds the table.

>>> from kalnorm_ref.gradproof import failures, prove
>>> proof = prove(["observe"])
>>> [row.argument for row in proof.rows], failures(proof)
(['x', 'result'], [])
"""

from .cases import PAIRS
from .proof import BOUNDS, choose, failures, prove, worst

__all__ = ["BOUNDS", "PAIRS", "choose", "failures", "prove", "worst"]
