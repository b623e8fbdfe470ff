"""Settings of Sphinx; `docs/build.py` puts the pages together first."""

from __future__ import annotations

from pathlib import Path

import mixedar

project = "mixedar"
author = "mixedar developers"
copyright = author  # noqa: A001
version = release = mixedar.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_design",
]
# Pages are written for GitHub as well: its anchors, its mathematics.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 6

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc says what a parameter may be
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_title = "mixedar"
html_static_path = [str(Path(__file__).parents[1] / "_build" / "source" / "_static")]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 7,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
}
exclude_patterns = ["_static"]
