"""
Inference: degrees of freedom, intervals, tests.

Names are loaded when they are first asked for.
"""

from __future__ import annotations

from mixedar.lazy import lazy_names

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
    "covariance_parameters": "mixedar.inference.information",
    "information_criteria": "mixedar.inference.criteria",
    "information_matrix": "mixedar.inference.information",
    "likelihood_ratio_table": "mixedar.inference.anova",
    "profile_likelihood": "mixedar.inference.profile",
    "simulated_null": "mixedar.inference.anova",
}

__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = lazy_names(globals(), _EXPORTS)
