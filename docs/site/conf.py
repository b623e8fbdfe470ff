"""Settings of Sphinx; `docs/build.py` puts the pages together first."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import mixedar
from docs.project import url

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
templates_path = [str(Path(__file__).parent / "templates")]
autodoc_typehints = "none"  # numpydoc says what a parameter may be
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_title = "mixedar"
html_static_path = [str(Path(__file__).parents[1] / "_build" / "source" / "_static")]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "github_url": url("Source"),
    "header_links_before_dropdown": 7,
    "navbar_persistent": ["search-button"],
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
}
toc_object_entries_show_parents = "hide"
exclude_patterns = ["_static"]


def drop_fit(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Take the fit off a method's parameters: the method is called on it."""
    first = next((i for i, line in enumerate(lines) if line == "Parameters"), None)
    if what != "method" or first is None:
        return
    start = first + 2
    if not re.match(r"(fit|results) : (Fit|MixedLMARResults)", lines[start]):
        return
    end = start + 1
    while end < len(lines) and (lines[end].startswith(" ") or not lines[end]):
        end += 1
    after = next((line for line in lines[end + 1 :] if line), "")
    # nothing is left of the section
    empty = end < len(lines) and set(after) == {"-"} and lines[end - 1] == ""
    del lines[first if empty else start : end]


def keep_fits(
    app: Any, what: str, name: str, obj: Any, options: Any, args: str, returned: str
) -> tuple[str, str] | None:
    """Keep the signature of a method that takes any number of fits, its own first."""
    if what == "method" and callable(obj):
        first = next(iter(inspect.signature(obj).parameters.values()), None)
        if first is not None and first.kind is first.VAR_POSITIONAL:
            return f"(*{first.name}, {args[1:]}", returned
    return None


def say_which_model(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Begin the text of a function that makes a model with what the model is."""
    model = getattr(obj, "__self__", None)
    if name.startswith("mixedar.formula.api.") and inspect.isclass(model):
        lines[0] = (inspect.getdoc(model) or "").partition("\n")[0]


def setup(app: Any) -> None:
    """Register what is done to docstrings before numpydoc reads them."""
    app.connect("autodoc-process-docstring", drop_fit, priority=100)
    app.connect("autodoc-process-docstring", say_which_model)
    app.connect("autodoc-process-signature", keep_fits)
