"""
Inference: degrees of freedom, intervals, tests.

Names are loaded when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Public names, and the modules that define them.
_EXPORTS = {
    "DFMethod": "mixedar.inference.df",
    "resolve_df": "mixedar.inference.df",
    "BootstrapDraws": "mixedar.inference.bootstrap",
    "MarginalMeans": "mixedar.inference.means",
    "Profile": "mixedar.inference.profile",
    "RobustResults": "mixedar.inference.robust",
    "anova_terms": "mixedar.inference.terms",
    "conf_int_re": "mixedar.inference.intervals",
    "information_criteria": "mixedar.inference.criteria",
    "likelihood_ratio_table": "mixedar.inference.anova",
    "profile_likelihood": "mixedar.inference.profile",
    "simulated_null": "mixedar.inference.anova",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
