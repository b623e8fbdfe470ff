"""
Checks of single groups: outlying ones, and influential ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixedar.diagnostics.checkup.finding import Finding, joined, number
from mixedar.diagnostics.checkup.search import gain_of_serial
from mixedar.diagnostics.checkup.slopes import missed_effects
from mixedar.diagnostics.influence.results import GroupInfluence
from mixedar.diagnostics.residuals.autocorrelation import serial_correlation_test
from mixedar.diagnostics.residuals.heteroscedasticity import heteroscedasticity_test
from mixedar.engine.residuals import is_independent
from mixedar.exceptions import MixedARError, shown
from mixedar.hypotheses.result import TestResult

# Changes by one group, in standard errors, that matter: of fixed effects (worth
# a note, a warning) and of covariance parameters.  With few groups each of them
# matters more even if all is well: the other limit falls with the root of their
# number, and is passed by one correct model in about a hundred.
_NOTED, _FIXED, _THETA = 0.5, 1.0, 2.0
_CHANCE, _CHANCE_THETA = 6.0, 12.0
# Groups that are named.
_NAMED = 3


def outlying(influence: GroupInfluence, alpha: float) -> Finding:
    """
    Whether groups are too far out to belong to the model.

    Parameters
    ----------
    influence : GroupInfluence
    alpha : float
        Level of all tests together.

    Returns
    -------
    Finding
    """
    name, measure = "outlying groups", "smallest p-value, adjusted"
    table = influence.outlier_test(external=True)
    parts = table[["p_adj_re", "p_adj_within"]]
    # two tests a group
    p = (2.0 * parts.min(axis=1)).clip(upper=1.0)
    smallest = float(p.min()) if p.notna().any() else np.nan
    far = table[p < alpha]
    if len(far) == 0:
        text = "No group lies farther out than chance would have it."
        return Finding(name, "ok", smallest, measure, text)
    order = p[far.index].sort_values(kind="stable").index
    told = []
    for label in order[:_NAMED]:
        effects = float(table.loc[label, "p_adj_re"])
        within = float(table.loc[label, "p_adj_within"])
        if np.nan_to_num(effects, nan=1.0) <= np.nan_to_num(within, nan=1.0):
            how = "its level" if influence.fit.k_re < 2 else "its level or slope"
        else:
            how = "its scatter around its own level"
        told.append(f"{shown(label)} ({how})")
    more = f" and {len(order) - _NAMED} more" if len(order) > _NAMED else ""
    one = len(order) == 1
    are, data, them = (
        ("lies", "its data", "it") if one else ("lie", "their data", "them")
    )
    return Finding(
        name,
        "warning",
        smallest,
        measure,
        f"Group{'' if one else 's'} {joined(told)}{more} {are} farther out "
        f"than the normal distribution allows. Look at {data}: an error of recording, "
        "another population, or heavy tails. Outlying groups inflate the variances; "
        f"report the fit without {them} as well.",
    )


def influential(influence: GroupInfluence) -> Finding:
    """
    Whether an estimate rests on a single group.

    Parameters
    ----------
    influence : GroupInfluence

    Returns
    -------
    Finding
    """
    name, measure = "influential groups", "largest change, in standard errors"
    fit = influence.fit
    # with the errors of the fit: those without the group vary too
    fixed = influence.dfbeta.div(np.asarray(fit.bse_fe), axis=1)
    theta = influence.dftheta
    lost = influence.params[list(fixed.columns)].isna().any(axis=1)
    if lost.any():
        labels = [shown(label) for label in lost.index[lost][:_NAMED]]
        return Finding(
            name,
            "warning",
            np.inf,
            measure,
            f"Without group {joined(labels, 'or')} a fixed effect could not be "
            "estimated: it rests on that group alone. Drop the coefficient, or say so.",
        )
    root = np.sqrt(len(fixed))
    of_fixed, of_theta = _largest(fixed), _largest(theta)
    value = abs(of_fixed[2])
    told = []
    if abs(of_fixed[2]) > max(_NOTED, _CHANCE / root):
        told.append(_without(influence, *of_fixed))
    if abs(of_theta[2]) > max(_THETA, _CHANCE_THETA / root):
        told.append(_without(influence, *of_theta))
        value = max(value, abs(of_theta[2]))
    if not told:
        text = (
            "No single group moves a fixed effect by more than "
            f"{number(abs(of_fixed[2]), 2)} standard errors."
        )
        return Finding(name, "ok", value, measure, text)
    text = joined(told)
    moves = abs(of_fixed[2]) > max(_FIXED, _CHANCE / root)
    return Finding(
        name,
        "warning" if moves else "note",
        value,
        measure,
        f"{text[0].upper() + text[1:]}. Look at that group, and report the estimates "
        "with and without it; fit.influence().plot_index() shows all groups.",
    )


def _without(influence: GroupInfluence, group: int, name: str, change: float) -> str:
    """What an estimate would be without a group, in words."""
    fit, params = influence.fit, influence.params
    k = list(params.columns).index(name)
    whole = float(np.append(np.asarray(fit.params), fit.scale)[k])
    return (
        f"without group {shown(params.index[group])} {name!r} would be "
        f"{number(float(params[name].iloc[group]))} instead of {number(whole)} "
        f"({abs(change):.1f} standard errors)"
    )


def _largest(frame: pd.DataFrame) -> tuple[int, str, float]:
    """Group, column and value of the largest change."""
    values = np.nan_to_num(frame.to_numpy(dtype=float))
    if values.size == 0:
        return 0, "", 0.0
    i, k = divmod(int(np.argmax(np.abs(values))), values.shape[1])
    return i, str(frame.columns[k]), float(values[i, k])


# Autocorrelations, ratios of standard deviations, and variation by a random
# effect in residual standard deviations that matter little.
_SMALL_ACF, _SMALL_RATIO, _SMALL_EFFECT = 0.05, 1.1, 0.1
# Columns of the design whose two values may differ in variance.
_MOST_FACTORS = 4


def autocorrelation(fit: Any, alpha: float) -> Finding:
    """
    Whether serial correlation is left in the residuals.

    Parameters
    ----------
    fit : MixedLMARResults
    alpha : float
        Level of the test.

    Returns
    -------
    Finding
    """
    name = "autocorrelation"
    if is_independent(fit.structure):
        gain = gain_of_serial(fit)
        if gain is not None:
            measure = "p-value of serial correlation"
            if not gain.p < alpha:
                text = "Serial correlation would not improve the model."
                return Finding(name, "ok", gain.p, measure, text)
            small = abs(gain.value) < _SMALL_ACF
            return Finding(
                name,
                "note" if small else "warning",
                gain.p,
                measure,
                f"With serially correlated residuals the log-likelihood is higher by "
                f"{number(gain.llf)} (correlation of neighbours {gain.value:.2f}). "
                "Standard errors that ignore it are wrong: fit with residual='ar1', or "
                "'car1' for irregular times, and compare. A random slope that is "
                "missing looks much the same.",
            )
    test = serial_correlation_test(fit.fit)
    measure = "p-value of the score test"
    if not test.pvalue < alpha:
        text = "The normalized residuals look like noise."
        return Finding(name, "ok", test.pvalue, measure, text)
    excess = (test.table["acf"] - test.table["expected"]).abs()
    row = test.table.iloc[int(np.argmax(excess.to_numpy()))]
    at = f"at lag {number(float(np.asarray(row.name)))}"
    values = f"{row['acf']:.2f}, where the model expects {row['expected']:.2f}"
    if excess.max() < _SMALL_ACF:
        return Finding(
            name,
            "note",
            test.pvalue,
            measure,
            f"There is serial correlation left, but little: {at} the residuals' "
            f"autocorrelation is {values}. With so many observations that shows; it "
            "hardly matters.",
        )
    if is_independent(fit.structure):
        advice = "Fit with residual='ar1', or 'car1' for irregular times"
    else:
        advice = (
            f"{fit.structure.label} residuals do not do: a random slope, a trend or "
            "a season may be missing in the model, or there is measurement error on "
            "top of the correlated residual"
        )
    return Finding(
        name,
        "warning",
        test.pvalue,
        measure,
        f"{at.capitalize()} the normalized residuals have the autocorrelation "
        f"{values}. Standard errors may be wrong. {advice}.",
    )


def random_effects(fit: Any, alpha: float) -> Finding:
    """
    Whether a coefficient varies between groups and has no random effect.

    Parameters
    ----------
    fit : MixedLMARResults
    alpha : float
        Level of all tests together.

    Returns
    -------
    Finding
    """
    name, measure = "missing effects", "smallest p-value, times their number"
    table = missed_effects(fit)
    if len(table) == 0:
        return Finding(
            name,
            "ok",
            np.nan,
            measure,
            "Every coefficient that could vary between groups has a random effect.",
        )
    p = float(min(table["p"].min() * len(table), 1.0))
    if not p < alpha:
        text = "No other coefficient varies noticeably between groups."
        return Finding(name, "ok", p, measure, text)
    low = table[table["p"] * len(table) < alpha].sort_values("gain", ascending=False)
    # correlated covariates stand in for one another: name the best few
    rows = [
        f"{label} (standard deviation about {number(row['sd'], 2)}, log-likelihood "
        f"higher by {number(row['gain'])})"
        for label, row in low.head(2).iterrows()
    ]
    small = float(low["size"].max()) < _SMALL_EFFECT
    return Finding(
        name,
        "note" if small else "warning",
        p,
        measure,
        f"The data ask for {joined(rows, 'or')}. Without it the standard error of that "
        "coefficient is too small, and the residuals look correlated for longer than "
        "they are: add it to re_formula and compare.",
    )


def heteroscedasticity(fit: Any, alpha: float) -> Finding:
    """
    Whether the residual variance differs.

    Parameters
    ----------
    fit : MixedLMARResults
    alpha : float
        Level of all tests together.

    Returns
    -------
    Finding

    Raises
    ------
    MixedARError
        If no test can be computed.
    """
    name, measure = "equal variances", "smallest p-value, times their number"
    tests: dict[str, TestResult] = {}
    error: MixedARError | None = None
    for label, arguments in _variance_tests(fit).items():
        try:
            tests[label] = heteroscedasticity_test(fit.fit, **arguments)
        except MixedARError as problem:
            error = problem
    if not tests:
        assert error is not None
        raise error
    p = {label: test.pvalue * len(tests) for label, test in tests.items()}
    worst = min(p, key=lambda label: p[label])
    value = min(p[worst], 1.0)
    if not p[worst] < alpha:
        text = "The residual variance does not differ by " + joined(list(tests), "or")
        return Finding(name, "ok", value, measure, text + ".")
    table = tests[worst].table
    table = table[table["ratio"].notna()]
    low, high = _extremes(table)
    ratio = float(table["sd"].loc[high] / table["sd"].loc[low])
    if worst == "group":
        text = (
            f"Residuals scatter more in some groups than in others (standard deviation "
            f"{number(float(table['sd'].loc[high]))} in group {high}, "
            f"{number(float(table['sd'].loc[low]))} in group {low})"
        )
        advice = (
            "Look for outlying observations first (heavy tails look the same), then "
            "for a covariate that explains it; fit.get_robustcov_results() has "
            "standard errors that do not need equal variances"
        )
    else:
        text = (
            f"The residual standard deviation differs by {worst}: "
            f"{number(float(table['sd'].loc[low]))} at {low}, "
            f"{number(float(table['sd'].loc[high]))} at {high}"
        )
        advice = (
            "A variance function (weights=), or a transformation of the response such "
            "as its logarithm, would suit; fit.get_robustcov_results() has standard "
            "errors that do not need equal variances"
        )
    severity = "warning" if ratio > _SMALL_RATIO else "note"
    return Finding(name, severity, value, measure, f"{text}. {advice}.")


def _extremes(table: pd.DataFrame) -> tuple[Any, Any]:
    """Strata with the smallest and the largest standard deviation, well known."""
    known = table[table["df"] >= min(5.0, float(table["df"].max()))]
    return known["sd"].idxmin(), known["sd"].idxmax()


def _variance_tests(fit: Any) -> dict[str, dict[str, Any]]:
    """By what the variance may differ: in words, and as arguments of the test."""
    model = fit.model
    out: dict[str, dict[str, Any]] = {"fitted value": {"by": "fitted", "trend": True}}
    if model.time is not None:
        out["time"] = {"by": pd.Series(model.time).reset_index(drop=True)}
    if model.n_groups >= 3:
        out["group"] = {"by": model.groups_name or "groups"}
    for k, column in enumerate(model.exog_names):
        values = np.asarray(model.exog)[:, k]
        if len(out) >= 3 + _MOST_FACTORS:
            break
        if len(np.unique(values[:50])) <= 2 and len(np.unique(values)) == 2:
            by = pd.Series(values, name=str(column))
            out[f"{column!r}"] = {"by": by}
    return out
