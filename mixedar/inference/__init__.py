"""
Inference: degrees of freedom, intervals, tests.

Names are loaded when they are first asked for.
"""

from __future__ import annotations

from mixedar._lazy import lazy_names

# Public names, and the modules that define them.
_EXPORTS = {
    "DFMethod": "mixedar.hypotheses.df",
    "resolve_df": "mixedar.hypotheses.df",
    "BootstrapDraws": "mixedar.inference.bootstrap",
    "MarginalMeans": "mixedar.inference.contrasts",
    "Profile": "mixedar.inference.profile",
    "anova_terms": "mixedar.inference.anova",
    "conf_int_re": "mixedar.inference.intervals",
    "covariance_parameters": "mixedar.inference.information",
    "information_criteria": "mixedar.inference.information",
    "information_matrix": "mixedar.inference.information",
    "likelihood_ratio_table": "mixedar.inference.likelihood_ratio",
    "profile_likelihood": "mixedar.inference.profile",
    "simulated_null": "mixedar.inference.likelihood_ratio",
}

__getattr__, __dir__ = lazy_names(globals(), _EXPORTS)

__all__ = sorted(_EXPORTS)
