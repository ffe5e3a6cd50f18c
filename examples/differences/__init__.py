"""The measurements behind docs/paper_and_code.md, for examples/paper_and_code.py."""
