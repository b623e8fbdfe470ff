"""
The summary of a mixed model: which numbers stand in which table.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np
import pandas as pd

from mixedar._types import BoolArray
from mixedar.engine.residuals import correlation_of, markov_of
from mixedar.exceptions import LengthError
from mixedar.fit import Fit
from mixedar.fit.boundary import boundary_notes
from mixedar.fit.maximise import maximise
from mixedar.fit.parameters import correlation_columns
from mixedar.inference.df import contrast_method, covariance, df_notes
from mixedar.inference.wald import conf_int, pvalues, tvalues
from mixedar.summary import ResultsSummary, SummaryTable

# Fixed effects up to which their correlations are printed, as lme4.
_CORRELATED = 20


def summarize(
    fit: Fit,
    quantiles: pd.Series | None,
    smooths: pd.DataFrame | None = None,
    *,
    yname: str | None = None,
    xname_fe: Sequence[str] | None = None,
    xname_re: Sequence[str] | None = None,
    title: str | None = None,
    alpha: float = 0.05,
) -> ResultsSummary:
    """
    Build the summary.  Arguments as in ``MixedLMARResults.summary``.

    Parameters
    ----------
    fit : Fit
    quantiles : Series or None
        Of the standardized residuals.
    smooths : DataFrame or None
        Of :func:`mixedar.prediction.smooth_table.smooth_tests`.

    Returns
    -------
    ResultsSummary
    """
    p, structure = fit.k_fe, fit.structure
    k_cov = fit.layout.k_cov
    names = list(fit.names)
    names[:p] = _renamed(names[:p], xname_fe, "xname_fe")
    names[p:] = _renamed(names[p:], xname_re, "xname_re", k_cov)
    mean = fit.nobs / fit.n_groups
    header = {
        "Model:": "MixedLMAR",
        "Dep. variable:": fit.endog_name if yname is None else yname,
        "Method:": fit.method,
        "No. observations:": fit.nobs,
        "No. groups:": fit.n_groups,
        "Group size min/mean/max:": f"{fit.smallest_group} / {mean:.4g} / "
        f"{fit.largest_group}",
        "Log-likelihood:": f"{fit.llf:.4f}",
        "AIC:": f"{fit.aic:.4f}",
        "BIC:": f"{fit.bic:.4f}",
        "Scale:": f"{fit.scale:.6g}" + (" (known)" if fit.scale_known else ""),
        "Residuals:": structure.label,
        "Converged:": "Yes" if fit.converged else "No",
    }
    header |= {
        f"No. levels of {name}:": n for name, n in dict(fit.factor_levels).items()
    }
    if structure.k_params:
        unit = fit.time_unit
        header["Time unit:"] = "as given" if unit == "1" else unit
    if fit.df_method.name != "containment":
        header["DF method:"] = fit.df_method.label
    labels = [] if smooths is None else list(smooths.index)
    # the linear part of a smooth means nothing by itself
    own = np.array([not _is_part(name, labels) for name in fit.names])
    tables = [_parameters(fit, names, alpha, own)]
    if smooths is not None and labels:
        tables.append(_smooths(smooths))
    tables.append(_random_effects(fit, labels))
    if 1 < own[:p].sum() <= _CORRELATED:
        tables.append(_correlations(fit, names[:p], own[:p]))
    if quantiles is not None:
        tables.append(_quantiles(quantiles))
    if title is None:
        title = "Linear mixed model" if fit.effect_names else "Linear model"
        if structure.k_params:
            title += f" with {structure.label} residuals"
    return ResultsSummary(title=title, header=header, tables=tables, notes=_notes(fit))


def _renamed(
    names: list[str], given: Sequence[str] | None, what: str, length: int | None = None
) -> list[str]:
    if given is None:
        return names
    allowed = {len(names)} if length is None else {length, len(names)}
    if isinstance(given, str) or np.size(given) not in allowed:
        raise LengthError(
            f"{what} should be a list of length {min(allowed)}, not {given!r}"
        )
    return [*given, *names[len(given) :]]


def _is_part(name: str, labels: Sequence[str]) -> bool:
    """Whether a name is that of the linear part of a smooth."""
    label, _, number = name.rpartition("Fx")
    return label in labels and number.isdigit()


def _parameters(
    fit: Fit, names: Sequence[str], alpha: float, shown: BoolArray
) -> SummaryTable:
    """All parameters: fixed effects first, then variances, residual parameters."""
    p = fit.k_fe
    df = np.full(len(names), np.nan)
    df[:p] = contrast_method(fit).single(np.eye(p))
    interval = conf_int(fit, alpha)
    bse = np.sqrt(np.diag(covariance(fit)))
    columns = {"Coef.": fit.params, "Std.Err.": np.where(bse > 0.0, bse, np.nan)}
    if fit.df_method.name == "normal":
        columns |= {"z": tvalues(fit), "P>|z|": pvalues(fit)}
    else:
        columns |= {"DF": df, "t": tvalues(fit), "P>|t|": pvalues(fit)}
    columns[f"[{alpha / 2:.4g}"] = interval[:, 0]
    columns[f"{1 - alpha / 2:.4g}]"] = interval[:, 1]
    frame = pd.DataFrame(columns, index=list(names))[shown]
    return SummaryTable(frame, title="Parameters", name="parameters")


def _smooths(smooths: pd.DataFrame) -> SummaryTable:
    """Degrees of freedom and tests of the smooths, as mgcv's summary."""
    columns = {"EDF": "edf", "Ref.df": "ref_df", "F": "F", "P>F": "p"}
    columns |= {"Variance": "variance", "": "note"}
    frame = pd.DataFrame({new: smooths[old] for new, old in columns.items()})
    if not (frame[""] != "").any():
        frame = frame.drop(columns="")
    frame.index = list(smooths.index)
    return SummaryTable(
        frame,
        title="Smooths",
        name="smooths",
        formats={"EDF": ".3f", "Ref.df": ".3f"},
    )


def _random_effects(fit: Fit, without: Sequence[str]) -> SummaryTable:
    """Variances, standard deviations and correlations, as nlme's VarCorr."""
    variances = np.append(np.diag(fit.effect_cov), fit.scale)
    data = {"Variance": variances, "Std.Dev.": np.sqrt(variances)}
    formats = {}
    for j, column in enumerate(correlation_columns(fit)):
        label = "Corr" if j == 0 else f"Corr {j + 1}"
        data[label] = np.append(column, np.nan)
        formats[label] = "share"
    parts = tuple(f"{label} " for label in without)
    names = [
        factor if f"{factor} ".startswith(parts) else f"{factor} {effect}".strip()
        for factor, effect in fit.effect_labels
    ]
    frame = pd.DataFrame(data, index=[*names, "Residual"])
    kept = [name not in without for name in (*fit.effect_names, "Residual")]
    frame = frame[kept]
    return SummaryTable(
        frame, title="Random effects", name="random_effects", formats=formats
    )


def _correlations(fit: Fit, names: Sequence[str], shown: BoolArray) -> SummaryTable:
    cov = contrast_method(fit).cov[np.ix_(shown, shown)]
    deviations, names = np.sqrt(np.diag(cov)), list(compress(names, shown))
    frame = pd.DataFrame(
        cov / np.outer(deviations, deviations), index=names, columns=names
    )
    return SummaryTable(
        frame,
        title="Correlation of fixed effects",
        name="fixed_effects_correlation",
        lower_triangle=True,
    )


def _quantiles(values: pd.Series) -> SummaryTable:
    return SummaryTable(
        pd.DataFrame([values.to_numpy()], index=["residuals"], columns=values.index),
        title="Standardized within-group residuals",
        name="residual_quantiles",
        formats=dict.fromkeys(values.index, ".4f"),
        index_header="Standardized",
    )


def _notes(fit: Fit) -> list[str]:
    tests, *others = df_notes(fit)
    notes = [
        f"{tests} Intervals of variances are on the log scale, of residual "
        "parameters on the unconstrained scale.",
        *others,
    ]
    if fit.k_fe > _CORRELATED:
        notes.append(
            f"Correlations of more than {_CORRELATED} fixed effects are not printed; "
            "cov_params() has their covariances."
        )
    if fit.formula_spec is not None:
        notes.extend(fit.formula_spec.notes())
    if fit.has_data and fit.data.re_spec is not None:
        notes.extend(f"Random effects: {note}" for note in fit.data.re_spec.notes())
    notes.extend(fit.notes)
    if fit.crosses_factors and fit.df_method.name == "containment":
        notes.append(
            "Containment knows of nested factors only, and these are crossed: prefer "
            "df='satterthwaite' or 'kenward-roger'."
        )
    across = _across_steps(fit)
    if across:
        notes.append(across)
    notes.extend(f"{note}." for note in boundary_notes(fit))
    if len(fit.modes) > 1:
        lower = ", ".join(f"{mode.estimate.llf:.4f}" for mode in fit.modes[1:])
        notes.append(
            f"The likelihood has {len(fit.modes)} maxima; the best is shown, "
            f"others have the log-likelihood {lower} (see modes)."
        )
    if not fit.converged:
        notes.append("The optimiser did not reach a maximum: do not use these numbers.")
    return notes


def _across_steps(fit: Fit) -> str | None:
    """
    Say if the correlations of a model that counts common steps are more likely.

    Where the step is an even number of units no correlation per unit expresses a
    negative one across it.
    """
    structure = fit.structure
    reads = structure.integer_time and not structure.counts_steps
    if not (reads and fit.has_data and structure.k_free and fit.data.delta is None):
        return None
    gaps = np.unique(fit.data.grouped.gaps)
    step = int(np.gcd.reduce(np.rint(gaps[gaps > 0.0]).astype(np.int64)))
    if fit.data.time is None or step == 0 or step % 2:
        return None
    data = fit.data.changed(delta="auto")
    data = data.with_residual(structure, data.residual_data, data.variance_specs)
    other = maximise(data, reml=fit.reml, layout=fit.layout)
    if other.llf <= fit.llf + 1e-4:
        return None
    what = "Correlations of its multiples have"
    if markov_of(correlation_of(structure)) is not None:
        what = "A negative correlation across it has"
    return (
        f"The common step of the times is {data.time_unit.removeprefix('step of ')}. "
        f"{what} a higher log-likelihood, {other.llf:.4f}, which no parameters per "
        "unit of time express: pass delta='auto', which makes the step the unit."
    )
