"""The second derivation: every pair of the package as scalar loops, written from docs/equations.md, sharing no code.

The loops run on Python floats (judge 4) and on 50-digit numbers (judge 3), and can plant mistakes for the judges.
"""
