"""
The summary of a mixed model: which numbers stand in which table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixedar.exceptions import LengthError, NotComputedError
from mixedar.inference.df.methods import df_notes
from mixedar.summary import ResultsSummary, SummaryTable


def summarize(
    results: Any,
    yname: str | None,
    xname_fe: Sequence[str] | None,
    xname_re: Sequence[str] | None,
    title: str | None,
    alpha: float,
) -> ResultsSummary:
    """
    Build the summary.  Arguments as in ``MixedLMARResults.summary``.

    Returns
    -------
    ResultsSummary
    """
    p = results.k_fe
    k_cov = results.k_re2 + results.k_vc
    names = list(results._names)
    names[:p] = _renamed(names[:p], xname_fe, "xname_fe")
    names[p:] = _renamed(names[p:], xname_re, "xname_re", k_cov)
    endog, structure, unit = results._labels
    header = {
        "Model:": "MixedLMAR",
        "Dep. variable:": endog if yname is None else yname,
        "Method:": results.method,
        "No. observations:": results.nobs,
        "No. groups:": results.n_groups,
        "Group size min/mean/max:": "{} / {:.4g} / {}".format(*results._group_sizes),
        "Log-likelihood:": f"{results.llf:.4f}",
        "AIC:": f"{results.aic:.4f}",
        "BIC:": f"{results.bic:.4f}",
        "Scale:": f"{results.scale:.6g}",
        "Residuals:": structure,
        "Converged:": "Yes" if results.converged else "No",
    }
    if results.structure.k_params:
        header["Time unit:"] = "as given" if unit == "1" else unit
    if results.df_method != "containment":
        header["DF method:"] = results._df_spec.label
    tables = [_parameters(results, names, alpha)]
    if k_cov or results.structure.k_params == 0 or results.structure.k_params:
        tables.append(_random_effects(results))
    if p > 1:
        tables.append(_correlations(results, names[:p]))
    quantiles = _quantiles(results)
    if quantiles is not None:
        tables.append(quantiles)
    if title is None:
        what = "Linear mixed model" if results.k_re + results.k_vc else "Linear model"
        if results.structure.k_params:
            title = f"{what} with {structure} residuals"
        else:
            title = what
    return ResultsSummary(
        title=title, header=header, tables=tables, notes=_notes(results)
    )


def _renamed(
    names: list[str], given: Sequence[str] | None, what: str, length: int | None = None
) -> list[str]:
    if given is None:
        return names
    allowed = {len(names)} if length is None else {length, len(names)}
    if len(given) not in allowed:
        raise LengthError(
            f"{what} should be a list of length {min(allowed)}, not {len(given)}"
        )
    return [*given, *names[len(given) :]]


def _parameters(results: Any, names: Sequence[str], alpha: float) -> SummaryTable:
    """All parameters: fixed effects first, then variances, residual parameters."""
    k = len(names)
    df = np.full(k, np.nan)
    df[: results.k_fe] = results._df_fe
    interval = results.conf_int(alpha)
    columns = {
        "Coef.": np.asarray(results.params),
        "Std.Err.": np.where(
            np.asarray(results.bse) > 0.0, np.asarray(results.bse), np.nan
        ),
    }
    if results.df_method == "normal":
        columns |= {"z": results.tvalues, "P>|z|": results.pvalues}
    else:
        columns |= {"DF": df, "t": results.tvalues, "P>|t|": results.pvalues}
    columns[f"[{alpha / 2:.4g}"] = interval[:, 0]
    columns[f"{1 - alpha / 2:.4g}]"] = interval[:, 1]
    frame = pd.DataFrame(columns, index=list(names))
    return SummaryTable(frame, title="Parameters", name="parameters")


def _random_effects(results: Any) -> SummaryTable:
    """Variances, standard deviations and correlations, as nlme's VarCorr."""
    k_re = results.k_re
    variances = np.concatenate(
        [np.diag(results.cov_re), results.vcomp, [results.scale]]
    )
    names = [
        *results.model.data.exog_re_names,
        *results.model.exog_vc.names,
        "Residual",
    ]
    deviations = np.sqrt(variances)
    data = {"Variance": variances, "Std.Dev.": deviations}
    formats = {}
    for j in range(k_re - 1):
        column = np.full(len(variances), np.nan)
        for i in range(j + 1, k_re):
            product = deviations[i] * deviations[j]
            if product > 0.0:
                column[i] = results.cov_re[i, j] / product
        label = "Corr" if j == 0 else f"Corr {j + 1}"
        data[label] = column
        formats[label] = ".3f"
    frame = pd.DataFrame(data, index=names)
    return SummaryTable(
        frame, title="Random effects", name="random_effects", formats=formats
    )


def _correlations(results: Any, names: Sequence[str]) -> SummaryTable:
    cov = results.cov_params()[: results.k_fe, : results.k_fe]
    deviations = np.sqrt(np.diag(cov))
    frame = pd.DataFrame(
        cov / np.outer(deviations, deviations), index=list(names), columns=list(names)
    )
    return SummaryTable(
        frame,
        title="Correlation of fixed effects",
        name="fixed_effects_correlation",
        lower_triangle=True,
    )


def _quantiles(results: Any) -> SummaryTable | None:
    try:
        values = results.std_residual_quantiles
    except NotComputedError:
        return None
    return SummaryTable(
        pd.DataFrame([values.to_numpy()], index=["residuals"], columns=values.index),
        title="Standardized within-group residuals",
        name="residual_quantiles",
        formats=dict.fromkeys(values.index, ".4f"),
        index_header="Standardized",
    )


def _notes(results: Any) -> list[str]:
    tests, *others = df_notes(results.fit)
    notes = [
        f"{tests} Intervals of variances are on the log scale, of residual "
        "parameters on the unconstrained scale.",
        *others,
    ]
    notes.extend(f"{note}." for note in results.boundary_notes)
    if len(results.modes) > 1:
        lower = ", ".join(f"{llf:.4f}" for llf in results.modes["llf"].iloc[1:])
        notes.append(
            f"The likelihood has {len(results.modes)} maxima; the best is shown, "
            f"others have the log-likelihood {lower} (see modes)."
        )
    if not results.converged:
        notes.append("The optimiser did not reach a maximum: do not use these numbers.")
    return notes
