"""A hunt for a seeded bug: methods.py has the implementations, experiments.py what can be tried, rules.py the rules."""

from .rules import Accusation, Hunt, hunt

__all__ = ["Accusation", "Hunt", "hunt"]
