"""How the site is built: `make docs`. Pages are docs/*.md and docs/api/*.md; what lies elsewhere is brought in by the
modules of _extensions when a build starts: tutorials, benchmarks, changes, source pages, the index of the equations."""

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

from sources import linkcode_resolve  # noqa: F401  # read by sphinx.ext.linkcode

import kalnorm_ref

project = "kalnorm_ref"
author = "The kalnorm_ref authors"
copyright = "BSD-3-Clause, " + author
version = release = kalnorm_ref.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.linkcode",
    "sphinx.ext.mathjax",
    "docstrings",
    "outside",
    "sources",
    "citations",
    "commands",
]
exclude_patterns = ["_build", "_extensions"]

myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]  # formulas as GitHub documents them
myst_heading_anchors = 4
myst_url_schemes = {"http": None, "https": None, "mailto": None, "source": None, "equation": None}
nb_execution_mode = "force"  # nothing shown is older than the package
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
nitpick_ignore_regex = [("py:.*", r"(np|numpy|argparse|tqdm|collections|pathlib)\..*")]
highlight_language = "text"

html_theme = "pydata_sphinx_theme"
html_title = "kalnorm_ref"
# MathJax as part of the site, which so needs no network. As an extension the package would forbid reading in parallel.
html_static_path = ["_static", str(Path(find_spec("sphinx-mathjax-offline").origin).parent / "static")]
mathjax_path = "mathjax/tex-chtml.js"
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_prev_next": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}
