"""Holds the build to its promise: without a compiler a clear warning, or, where the extension is required, an error."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytest.importorskip("Cython", reason="building needs Cython")

pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="not a source checkout")


def build(tmp_path, required):
    (tmp_path / "kalnorm_ref").mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "kalnorm_ref/_core.pyx"):
        shutil.copy(ROOT / name, tmp_path / name)
    environment = {**os.environ, "CC": "false", "KALNORM_REQUIRE_EXT": required}
    command = [sys.executable, "setup.py", "-q", "build_ext"]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)


def test_no_compiler_warns(tmp_path):
    done = build(tmp_path, required="0")
    assert done.returncode == 0
    assert "WARNING: the compiled backend of kalnorm_ref was not built: " in done.stderr
    assert "WARNING: install a C compiler and reinstall to get the fast one.\n" in done.stderr


def test_no_compiler_is_an_error_where_the_extension_is_required(tmp_path):
    done = build(tmp_path, required="1")
    assert done.returncode != 0
    assert "WARNING: the compiled backend" not in done.stderr
