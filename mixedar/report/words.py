"""
Methods and results of a fit as a paragraph each.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import pandas as pd
from scipy import stats

from mixedar.diagnostics.checkup.finding import joined, number, sentence_case
from mixedar.exceptions import MixedARError
from mixedar.fit import Fit
from mixedar.fit.boundary import boundary_notes
from mixedar.hypotheses.df import METHODS
from mixedar.inference.anova import anova_terms
from mixedar.inference.explained import r2
from mixedar.inference.smooths import fitted_smooths
from mixedar.inference.wald import coefficient_frame
from mixedar.prediction.smooth_table import smooth_tests
from mixedar.summary import in_words

# More coefficients are left to the tests of their terms.
_MOST = 8
_WIDTH = 88


def methods(fit: Fit, alpha: float = 0.05) -> str:
    """What was fitted to what, and how it was tested."""
    sentences = [_fitted(fit), _fixed(fit), _random(fit), _residuals(fit)]
    sentences.append(_tests(fit, alpha))
    return " ".join(filter(None, sentences))


def results_of(
    fit: Fit, covariances: pd.DataFrame, alarms: Sequence[str], alpha: float
) -> str:
    """
    Estimates, tests, what varies between groups, and whether anything is wrong.

    Parameters
    ----------
    fit : Fit
    covariances : DataFrame
        Of :func:`mixedar.inference.intervals.conf_int_re`.
    alarms : sequence of str
        Names of the checks of the diagnosis that raised one.
    alpha : float
        1 - coverage of the intervals.
    """
    sentences = [] if fit.converged else [_NOT_CONVERGED]
    sentences += [_coefficients(fit, alpha), _terms(fit), _smooths(fit)]
    sentences += [_covariances(fit, covariances, alpha), _explained(fit)]
    sentences += [f"{sentence_case(note)}." for note in boundary_notes(fit)]
    named = f"an alarm: {joined(list(alarms))}" if alarms else "no alarm"
    sentences.append(f"The diagnosis of the fit raised {named}.")
    return " ".join(filter(None, sentences))


def pasted(paragraphs: Sequence[str]) -> str:
    """Paragraphs as plain text, wrapped."""
    filled = [
        textwrap.fill(part, _WIDTH, break_long_words=False) for part in paragraphs
    ]
    return "\n\n".join(filled) + "\n"


_NOT_CONVERGED = (
    "The search for the maximum did not converge: these numbers are not to be reported."
)


def _fitted(fit: Fit) -> str:
    kind = "linear mixed model" if fit.effect_names else "linear model"
    how = "restricted maximum likelihood" if fit.reml else "maximum likelihood"
    rows = f"{fit.nobs:,} observations"
    if 1 < fit.n_groups < fit.nobs:
        name = fit.data.groups_name if fit.data.formula is not None else ""
        of = f" ({name})" if name else ""
        rows += f" of {fit.n_groups:,} groups{of}"
    return (
        f"{fit.endog_name} was analysed with a {kind}, fitted to {rows} by {how} "
        f"(mixedar {version('mixedar')})."
    )


def _fixed(fit: Fit) -> str:
    names = [name for name in _term_names(fit) if name != "Intercept"]
    names += [one.smooth.label for one in fitted_smooths(fit)]
    if not names:
        return "Its mean was constant."
    return f"Its mean depended on {joined(names)}."


def _term_names(fit: Fit) -> list[str]:
    """Terms of the formula, or names of the columns."""
    try:
        return [str(name) for name in anova_terms(fit, 3).index]
    except MixedARError:
        return list(fit.exog_names)


def _random(fit: Fit) -> str:
    """Which effects vary between the levels of which factors."""
    smooths = {one.smooth.label for one in fitted_smooths(fit)}
    by_factor: dict[str, list[str]] = {}
    for factor, effect in fit.effect_labels:
        if factor not in smooths:
            by_factor.setdefault(str(factor), []).append(str(effect))
    parts = []
    for factor, effects in by_factor.items():
        plain = {"Intercept": "intercepts", "": "effects"}
        words = [plain.get(one, f"slopes of {one}") for one in effects]
        parts.append(f"random {joined(words)} by {factor}")
    if not parts:
        return ""
    found = joined(parts)
    cov = {"diagonal": ", uncorrelated", "compound": ", with compound symmetry"}
    several = any(len(one) > 1 for one in by_factor.values())
    return f"There were {found}{cov.get(fit.data.re_cov, '') * several}."


def _residuals(fit: Fit) -> str:
    label = fit.structure.label
    if not fit.structure.k_params:
        return "Residuals were independent."
    data = fit.data
    along = ""
    if fit.structure.uses_time:
        along = " along the order of the rows"
        if data.time is not None:
            name = data.time_name or getattr(data.time, "name", None) or "time"
            unit = "" if fit.time_unit in ("1", "occasion") else fit.time_unit
            along = f" along {name}" + (f", in units of {unit}" if unit else "")
    inside = " of each series" if data.series is not None else ""
    return f"The structure of the residuals{inside}{along} was {label}."


def _tests(fit: Fit, alpha: float) -> str:
    method = fit.df_method
    if method.name == "normal":
        tests = "Tests and intervals of the fixed effects used the normal distribution"
    elif method.name == "given":
        tests = f"Tests of the fixed effects had {method.value:g} degrees of freedom"
    else:
        name = METHODS[method.name]
        tests = f"Tests of the fixed effects had {name} degrees of freedom"
    if fit.robust is not None:
        tests += f" and cluster-robust standard errors ({fit.robust.cov_type})"
    return f"{tests}; intervals have a level of {100 * (1 - alpha):g}%."


def _coefficients(fit: Fit, alpha: float) -> str:
    """Estimates with their intervals and tests, if there are not too many."""
    frame = coefficient_frame(fit)
    linear = {int(k) for one in fitted_smooths(fit) for k in one.fixed}
    shown = [
        name
        for k, name in enumerate(frame.index)
        if k not in linear and (name not in ("Intercept", "const") or len(frame) == 1)
    ]
    if not 0 < len(shown) <= _MOST:
        return ""
    return f"Estimates: {'; '.join(_one(frame, name, alpha) for name in shown)}."


def _one(frame: pd.DataFrame, name: str, alpha: float) -> str:
    """An estimate with standard error, interval and test."""
    row = frame.loc[name, ["estimate", "std_error", "df"]]
    value, error, df = map(float, row.to_numpy())
    if not error > 0.0 or not df > 0.0:
        return f"{name} {number(value)}"
    half = stats.t.isf(alpha / 2.0, df) * error
    texts = _alike([value, error, value - half, value + half], error)
    t, p = value / error, 2.0 * stats.t.sf(abs(value / error), df)
    which = f"t({_df(df)})" if np.isfinite(df) else "z"
    level = f"{100 * (1 - alpha):g}% CI"
    return (
        f"{name} {texts[0]} (SE {texts[1]}, {level} {texts[2]} to {texts[3]}, "
        f"{which} = {t:.2f}, {in_words('p', p)})"
    )


def _alike(values: Sequence[float], error: float) -> list[str]:
    """Numbers with as many decimals as show two digits of their standard error."""
    decimals = max(1 - math.floor(math.log10(error)), 0)
    if decimals > 6 or max(map(abs, values)) >= 1e9:
        return [number(value) for value in values]
    return [f"{round(value, decimals) + 0.0:,.{decimals}f}" for value in values]


def _df(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.1f}"


def _terms(fit: Fit) -> str:
    """F tests of the terms, if the coefficients do not say it all."""
    try:
        frame = anova_terms(fit, 3)
    except MixedARError:
        return ""
    frame = frame[frame.index != "Intercept"]
    single = (frame["num_df"] == 1).all() and ":" not in "".join(map(str, frame.index))
    if single and len(frame) <= _MOST:
        return ""
    texts = [
        f"{name} {_f(row)}, {in_words('p', row['p'])}"
        for name, row in frame.iterrows()
        if np.isfinite(row["F"])
    ]
    return f"Tests of terms, each after all others: {'; '.join(texts)}." * bool(texts)


def _f(row: pd.Series) -> str:
    numerator, denominator, value = row[["num_df", "den_df", "F"]].astype(float)
    if not np.isfinite(denominator):
        return f"chi2({_df(numerator)}) = {value * numerator:.2f}"
    return f"F({_df(numerator)}, {_df(denominator)}) = {value:.2f}"


def _smooths(fit: Fit) -> str:
    frame = smooth_tests(fit)
    texts = [
        f"{label} ({row['edf']:.1f} effective degrees of freedom, "
        f"F = {row['F']:.2f}, {in_words('p', row['p'])})"
        for label, row in frame.iterrows()
        if np.isfinite(row["F"])
    ]
    return f"Smooths: {'; '.join(texts)}." * bool(texts)


def _covariances(fit: Fit, frame: pd.DataFrame, alpha: float) -> str:
    """Standard deviations, correlations and residual parameters with intervals."""
    residual = set(fit.residual_names)
    kept = [
        name
        for name in frame.index
        if str(name).startswith(("sd(", "corr(")) or name in ("sigma", *residual)
    ]
    if len(kept) > _MOST:
        return ""
    texts = []
    for name in kept:
        low, high = frame.loc[name, ["lower", "upper"]].astype(float)
        text = f"{name} {number(float(frame.loc[name, 'estimate']))}"
        if np.isfinite(low) or np.isfinite(high):
            text += f" ({number(low)} to {number(high)})"
        texts.append(text)
    level = f"{100 * (1 - alpha):g}% intervals"
    return (
        f"Standard deviations, correlations and residual parameters with {level}: "
        f"{'; '.join(texts)}."
    )


def _explained(fit: Fit) -> str:
    try:
        found = r2(fit)
    except MixedARError:
        return ""
    text = f"The fixed effects explained {100 * found['marginal']:.0f}% of the variance"
    if fit.effect_names:
        text += f", together with the random effects {100 * found['conditional']:.0f}%"
    return text + "."
