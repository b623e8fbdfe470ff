"""
A fit beside other rows than those it was fitted to.
"""

from __future__ import annotations

import copy

from mixedar.data.model_data import ModelData
from mixedar.fit.fit import ROW_CACHES, Fit


def looked_at(fit: Fit) -> Fit:
    """The fit itself, or beside the first groups where rows were not kept."""
    if fit.held_data is None or fit.has_data:
        return fit
    return beside(fit, fit.data.first_groups)


def beside(fit: Fit, data: ModelData) -> Fit:
    """
    The same estimates, and other rows whose effects and residuals are asked for.

    Parameters
    ----------
    fit : Fit
    data : ModelData
        Of whole groups, encoded as those of the fit.

    Returns
    -------
    Fit
        Its tests of fixed effects, and what else is known of the estimates, stay those
        of the rows of the fit.
    """
    fit.unbounded, fit.population, fit.unseen_correlations  # noqa: B018
    # tests go on with what the likelihood needs of the fitted rows
    data.__dict__["compressed"] = fit.data.compressed
    data.__dict__["df_containment"] = fit.df_containment
    if fit.df_method.name == "between-within":
        data.__dict__["constant_columns"] = fit.data.constant_columns
    kept = {k: v for k, v in fit.__dict__.items() if k not in (*ROW_CACHES, "encoder")}
    other = copy.copy(fit)
    other.__dict__.clear()
    other.__dict__.update(kept, held_data=data)
    return other
