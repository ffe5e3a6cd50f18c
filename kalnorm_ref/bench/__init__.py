"""How long the work takes and how much memory, beside PyTorch: cases, two processes that take turns, tables, a page.

This file imports nothing: PyTorch's process loads modules of this folder without the rest of the package.
"""
