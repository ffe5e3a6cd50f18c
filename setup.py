"""Builds the compiled twin, kalnorm_ref/_core.pyx. Everything else about the package is in pyproject.toml.

Without a working C compiler the package installs with the NumPy backend alone and says so.
KALNORM_REQUIRE_EXT=1 turns that into an error.
"""

import glob
import os
import sys

import numpy as np
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

REQUIRED = os.environ.get("KALNORM_REQUIRE_EXT") == "1"
HEADERS = sorted(glob.glob("kalnorm_ref/_kernels*.h"))
GCC = sys.platform.startswith("linux")


class OptionalBuild(build_ext):
    """build_ext that goes on without the extension, loudly, unless it is required."""

    def run(self):
        self._try(super().run)

    def build_extension(self, ext):
        self._try(lambda: build_ext.build_extension(self, ext))

    def _try(self, build):
        try:
            build()
        except Exception as error:
            if REQUIRED:
                raise
            print(
                f"\nWARNING: the compiled backend of kalnorm_ref was not built: {error}\n"
                "WARNING: kalnorm_ref will use its NumPy backend, which gives the same results, more slowly.\n"
                "WARNING: install a C compiler and reinstall to get the fast one.\n",
                file=sys.stderr,
            )


setup(
    ext_modules=[
        Extension(
            "kalnorm_ref._core",
            ["kalnorm_ref/_core.pyx"],
            include_dirs=[np.get_include(), "kalnorm_ref"],
            depends=HEADERS,
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
            extra_compile_args=["-O3", "-fopenmp", "-ffp-contract=off"] if GCC else [],
            extra_link_args=["-fopenmp"] if GCC else [],
        )
    ],
    cmdclass={"build_ext": OptionalBuild},
)
