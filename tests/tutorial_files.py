"""What the tests of the notebooks share: their names, the command that keeps them, the headings of a page."""

import importlib.util
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "tutorials"
NAMES = (
    "01_batch_norm_by_hand",
    "02_small_batches",
    "03_batch_renorm",
    "04_kalman_filter",
    "05_batch_kalman_norm",
    "06_moments_through_a_network",
    "07_micro_batches",
    "08_numerics",
    "09_test_your_own_kernel",
)
EXERCISES = {
    "01_batch_norm_by_hand": ["bn-forward", "bn-backward"],
    "03_batch_renorm": ["brn-corrections", "brn-backward"],
    "05_batch_kalman_norm": ["kn-fuse", "kn-backward"],
    "06_moments_through_a_network": ["relu-moments", "linear-moments"],
}

_spec = importlib.util.spec_from_file_location("tutorials_manage", TUTORIALS / "manage.py")
manage = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(manage)
