"""
Checks of what the model leaves: serial correlation, effects that vary between
groups, variances that differ.

With few enough (compressed) rows serial correlation, or the variance of a further
random effect, is added to the likelihood and everything is estimated anew: far
from the estimate that says much more than a score does, because a random slope
that was left out has made rho large, and a missed correlation the variance of a
slope.

If the coefficient of a covariate ``w`` varied, the covariance of a group would
have the term ``tau w w'``.  Where fitting it would take long, the derivative by
``tau`` at zero is tested.  That score is a quadratic form in the residuals, freed
of what the estimated parameters explain.  Such forms are skewed with few groups,
so they are compared with the chi-squared distribution of the same mean and
variance.

References
----------
Stram, D. O. and Lee, J. W. (1994), Variance components testing in the
longitudinal mixed effects model, Biometrics 50, 1171-1177.

Verbeke, G. and Molenberghs, G. (2003), The use of score tests for inference on
variance components, Biometrics 59, 254-262.

Lin, X. (1997), Variance component testing in generalised linear models with
random effects, Biometrika 84, 309-326.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import FloatArray, IntArray
from mixedar.data.component_columns import ComponentColumns
from mixedar.data.model_data import ModelData
from mixedar.diagnostics.checkup.finding import Check, Finding, joined, number
from mixedar.diagnostics.checkup.search import highest_maximum
from mixedar.diagnostics.residuals.autocorrelation import remaining_correlation
from mixedar.diagnostics.residuals.heteroscedasticity import unequal_variances
from mixedar.diagnostics.residuals.score import Alternative, ScoreTests
from mixedar.diagnostics.residuals.series import Rows, SeriesRows, series_rows
from mixedar.diagnostics.residuals.shared import RowClusters
from mixedar.engine.residuals import is_correlated, whiten_series
from mixedar.exceptions import MixedARError
from mixedar.fit import Fit
from mixedar.hypotheses.result import TestResult
from mixedar.residual import resolve

# Autocorrelations, ratios of standard deviations, and variation by a random
# effect in residual standard deviations that matter little.
_SMALL_ACF, _SMALL_RATIO, _SMALL_EFFECT = 0.05, 1.1, 0.1
_NO_TIME = (
    "No time= was given: if the rows of a group do not follow one another in time, as "
    "with crossed factors, this says nothing of serial correlation, but an effect "
    "that runs along the rows may be missing; if they do, name the column with the "
    "times, time=, and compare."
)
# Columns of the design whose two values may differ in variance.
_MOST_FACTORS = 4
# The standard deviation of a new effect where its search begins.
_NEW = 0.3
# Covariates whose coefficients may vary, and groups in which they have to.
_MOST_COVARIATES, _FEWEST_GROUPS = 8, 3


@dataclass(frozen=True)
class Gain:
    """
    A richer model against the fitted one.

    Attributes
    ----------
    llf : float
        Gain of the log-likelihood.
    value : float
        The new parameter: a standard deviation, or a correlation.
    p : float
        Of the likelihood-ratio test; for a variance the mixture of chi-squared
        distributions with zero and one degrees of freedom.
    """

    llf: float
    value: float
    p: float


def gain_of_effect(fit: Fit, column: FloatArray) -> Gain | None:
    """
    Let the coefficient of a column, shape (n,), vary between groups.

    None if that would take long.
    """
    data, layout = fit.data, fit.layout
    parts = data.components
    parts = ComponentColumns([*parts.matrices, column[:, None]], parts.levels)
    sizes, at = (*layout.vc_sizes, 1), layout.k_groups
    fixed = np.insert(layout.fixed, at, np.nan)
    rows = replace(data, components=parts).compressed
    place = int(layout.is_free[:at].sum())
    layout = replace(layout, vc_sizes=sizes, fixed=fixed)
    starts = [np.insert(mode.search.theta, place, _NEW) for mode in fit.modes]
    best = highest_maximum(fit, rows, fit.structure, layout, starts)
    if best is None:
        return None
    gain = max(best.llf - fit.llf, 0.0)
    sd = float(np.sqrt(max(best.cov_values[at], 0.0)))
    p = 0.5 * float(stats.chi2.sf(2.0 * gain, 1)) if gain > 1e-8 else 1.0
    return Gain(gain, sd, p)


def gain_of_serial(fit: Fit) -> Gain | None:
    """
    Let independent residuals be correlated in time.

    AR(1) for equally spaced times, CAR(1) for others; the value is the correlation
    a typical gap apart.  None if two observations share their time, or it would
    take long.
    """
    grouped = series_rows(fit).grouped
    inside = grouped.gaps[~grouped.first_of_series]
    if len(inside) == 0 or not (inside > 0.0).all():
        return None
    whole = bool((inside == np.rint(inside)).all())
    structure = resolve("ar1" if whole else "car1").bind(inside)
    data = fit.data.changed(grouped=grouped)
    best = highest_maximum(fit, data.compressed, structure, fit.layout)
    if best is None:
        return None
    gain = max(best.llf - fit.llf, 0.0)
    times = np.array([0.0, float(np.median(inside))])
    value = float(structure.correlation(times, best.residual_params)[0, 1])
    return Gain(gain, value, float(stats.chi2.sf(2.0 * gain, 1)))


def autocorrelation(tests: ScoreTests, alpha: float) -> Finding:
    """Whether serial correlation is left in the residuals."""
    fit = tests.fit
    independent = not (is_correlated(fit.structure) or fit.structure.marks)
    gain = gain_of_serial(fit) if independent else None
    by_row = " in the order of the rows" if fit.data.time is None else ""
    if gain is not None:
        check = Check("autocorrelation", "p-value of serial correlation")
        if not gain.p < alpha:
            text = f"Serial correlation{by_row} would not improve the model."
            return check.ok(gain.p, text)
        if by_row:
            return check.note(
                gain.p,
                f"Correlated by the order of the rows, the residuals would raise the "
                f"log-likelihood by {number(gain.llf)} (correlation of neighbours "
                f"{gain.value:.2f}). {_NO_TIME}",
            )
        return check.found(
            "note" if abs(gain.value) < _SMALL_ACF else "warning",
            gain.p,
            f"With serially correlated residuals the log-likelihood is higher by "
            f"{number(gain.llf)} (correlation of neighbours {gain.value:.2f}). "
            "Standard errors that ignore it are wrong: fit with residual='ar1', or "
            "'car1' for irregular times, and compare. A random slope that is "
            "missing looks much the same.",
        )
    check = Check("autocorrelation", "p-value of the score test")
    test = remaining_correlation(tests)
    if not test.pvalue < alpha:
        text = f"The normalized residuals look like noise{by_row}."
        return check.ok(test.pvalue, text)
    table = test.table
    excess = (table["acf"] - table["expected"]).abs()
    row = table.iloc[int(np.argmax(excess.to_numpy()))]
    at = f"at lag {number(float(np.asarray(row.name)))}"
    values = f"{row['acf']:.2f}, where the model expects {row['expected']:.2f}"
    if excess.max() < _SMALL_ACF:
        return check.note(
            test.pvalue,
            f"There is serial correlation left, but little: {at} the residuals' "
            f"autocorrelation is {values}. With so many observations that shows; it "
            "hardly matters.",
        )
    advice = (
        f"{fit.structure.label} residuals do not do: a random slope, a trend or "
        "a season may be missing in the model, or there is measurement error on "
        "top of the correlated residual"
    )
    left = f"the normalized residuals have the autocorrelation {values}"
    if independent and by_row:
        text = f"{at.capitalize()}{by_row} {left}. {_NO_TIME}"
        return check.note(test.pvalue, text)
    if independent:
        advice = "Fit with residual='ar1', or 'car1' for irregular times"
    return check.warning(
        test.pvalue,
        f"{at.capitalize()} {left}. Standard errors may be wrong. {advice}.",
    )


def random_effects(tests: ScoreTests, alpha: float) -> Finding:
    """Whether a coefficient varies between groups and has no random effect."""
    check = Check("missing effects", "smallest p-value, times their number")
    table = missed_effects(tests)
    if len(table) == 0:
        return check.ok(
            np.nan,
            "Every coefficient that could vary between groups has a random effect.",
        )
    p = float(min(table["p"].min() * len(table), 1.0))
    if not p < alpha:
        text = "No other coefficient varies noticeably between groups."
        return check.ok(p, text)
    low = table[table["p"] * len(table) < alpha].sort_values("gain", ascending=False)
    # correlated covariates stand in for one another: name the best few
    rows = [
        f"{label} (standard deviation about {number(row['sd'], 2)}, log-likelihood "
        f"higher by {number(row['gain'])})"
        for label, row in low.head(2).iterrows()
    ]
    return check.found(
        "note" if float(low["size"].max()) < _SMALL_EFFECT else "warning",
        p,
        f"The data ask for {joined(rows, 'or')}. Without it the standard error of that "
        "coefficient is too small, and the residuals look correlated for longer than "
        "they are: add it to the random effects and compare.",
    )


@dataclass(frozen=True)
class EffectAlternative(Alternative):
    """
    ``w w'`` in every group, for a whitened column ``w``.

    Attributes
    ----------
    column : ndarray, shape (n,)
        In sorted order.
    rows : SeriesRows
    """

    column: FloatArray
    rows: SeriesRows

    def apply(self, x: FloatArray) -> FloatArray:
        """``A x`` for sorted columns, shape (n, k)."""
        inner = RowClusters(self.rows.offsets).products(self.column[:, None], x)[:, 0]
        return self.column[:, None] * inner[self.rows.groups]

    def entries(self, later: Rows, earlier: Rows) -> FloatArray:
        """``A_ts`` of pairs of rows of a series."""
        return self.column[later] * self.column[earlier]

    def inner(self, other: Alternative) -> float:
        """``tr(A B)``."""
        return float(self.column @ other.apply(self.column[:, None])[:, 0])


def missed_effects(tests: ScoreTests) -> pd.DataFrame:
    """
    Tests of coefficients that might vary between groups.

    Returns
    -------
    DataFrame
        A row a covariate that varies within groups and has no random effect:
        ``sd``, the standard deviation that its coefficient might have; ``gain``,
        of the log-likelihood; ``p``; ``test``, ``"likelihood ratio"``, or for
        large data ``"score"`` with the `sd` and `gain` of one scoring step;
        ``size``, by how much that varies the response, in residual standard
        deviations.  Empty if there is none.
    """
    fit, rows = tests.fit, series_rows(tests.fit)
    out: dict[str, tuple[float, float, float, str, float]] = {}
    for name, column in _candidates(fit, rows).items():
        gain, how = gain_of_effect(fit, rows.unsort(column)), "likelihood ratio"
        if gain is None:
            gain, how = effect_score_test(tests, column), "score"
        if gain is not None:
            size = gain.value * float(np.sqrt((column**2).mean() / fit.scale))
            out[name] = gain.value, gain.llf, gain.p, how, size
    return pd.DataFrame.from_dict(
        out, orient="index", columns=["sd", "gain", "p", "test", "size"]
    )


def effect_score_test(tests: ScoreTests, column: FloatArray) -> Gain | None:
    """
    Score test of a coefficient that might vary, by one scoring step.

    Of a column in the order of time, shape (n,).  None if the estimated parameters
    explain all of it.
    """
    fit, residuals = tests.fit, tests.residuals
    white = residuals.from_grouped(
        whiten_series(
            residuals.to_grouped(column), residuals.grouped, fit.structure, fit.u
        )
    )
    alternative = EffectAlternative(white, residuals.rows)
    efficient = tests.efficient([alternative], joint=False)
    if not efficient.tested[0]:
        return None
    score, variance = float(efficient.score[0]), float(efficient.variance[0, 0])
    # the mean of u'Au, which is twice the score above it
    factors = residuals.factors
    mean = float(white @ white - (factors * alternative.apply(factors)).sum())
    df = 0.5 * mean**2 / variance
    p = float(stats.chi2.sf(df * (1.0 + 2.0 * score / mean), df))
    up = max(score, 0.0)
    return Gain(0.5 * up**2 / variance, float(np.sqrt(up / variance * fit.scale)), p)


def _candidates(fit: Fit, rows: SeriesRows) -> dict[str, FloatArray]:
    """
    Columns whose coefficients might vary, in the order of time.

    Of each, what its group's level and random effects do not span already.
    """
    data, n = fit.data, fit.nobs
    out: dict[str, FloatArray] = {}
    if fit.n_groups < _FEWEST_GROUPS:
        return out
    ones = np.ones((n, 1))
    effects = ones[:, :0] if data.exog_re is None else rows.sort(data.exog_re)
    left = _beyond(ones[:, 0], effects, rows.offsets)
    if not left @ left < 1e-8 * n:
        out["a random intercept"] = ones[:, 0]
    columns: dict[str, FloatArray] = {}
    if data.time is not None and data.series is None:
        columns["time"] = rows.time
    x = rows.sort(data.exog)
    smooths = () if data.formula_spec is None else data.formula_spec.smooths
    lines = {
        name: f"the line in {name.rpartition('Fx')[0]}"
        for one in smooths
        for name in one.fixed_names
    }
    columns |= {
        lines.get(name, f"{name!r}"): x[:, k] for k, name in enumerate(data.exog_names)
    }
    basis = np.concatenate([ones, effects], axis=1)
    for name, column in columns.items():
        if len(out) >= _MOST_COVARIATES:
            break
        left = _beyond(column, basis, rows.offsets)
        squares = np.add.reduceat(left**2, rows.offsets[:-1])
        size = float(column @ column)
        varying = int((squares > 1e-10 * size / n).sum())
        if varying < _FEWEST_GROUPS or squares.sum() < 1e-8 * size:
            continue
        if not any(_same(left, other) for other in out.values()):
            out[f"a random slope of {name}"] = left
    return out


def _beyond(column: FloatArray, basis: FloatArray, offsets: IntArray) -> FloatArray:
    """Residuals of a column on others, within every group."""
    if basis.shape[1] == 0:
        return column
    groups = RowClusters(offsets)
    gram = groups.products(basis, basis)
    cross = groups.products(basis, column[:, None])
    scale = np.sqrt(np.maximum((basis**2).mean(axis=0), 1e-300))
    inverse = np.linalg.pinv(gram / np.outer(scale, scale), 1e-10, hermitian=True)
    weights = (inverse @ (cross / scale[:, None]))[:, :, 0] / scale
    return column - np.einsum("ij,ij->i", basis, weights[groups.codes])


def _same(a: FloatArray, b: FloatArray) -> bool:
    """Whether two columns are multiples of one another."""
    return bool((a @ b) ** 2 > (1.0 - 1e-8) * (a @ a) * (b @ b))


def equal_variances(tests: ScoreTests, alpha: float) -> Finding:
    """
    Whether the residual variance differs.

    Raises
    ------
    MixedARError
        If no test can be computed.
    """
    check = Check("equal variances", "smallest p-value, times their number")
    found: dict[str, TestResult] = {}
    error: MixedARError | None = None
    for label, arguments in _variance_tests(tests.fit.data).items():
        try:
            found[label] = unequal_variances(tests, **arguments)
        except MixedARError as problem:
            error = problem
    if not found:
        assert error is not None
        raise error
    worst = min(found, key=lambda label: found[label].pvalue)
    p = found[worst].pvalue * len(found)
    if not p < alpha:
        text = "The residual variance does not differ by " + joined(list(found), "or")
        return check.ok(min(p, 1.0), text + ".")
    table = found[worst].table
    known = table[table["ratio"].notna()]
    known = known[known["df"] >= min(5.0, float(known["df"].max()))]
    low, high = known["sd"].idxmin(), known["sd"].idxmax()
    smallest, largest = float(known["sd"].min()), float(known["sd"].max())
    robust = (
        "fit.get_robustcov_results() has standard errors that do not need equal "
        "variances"
    )
    if worst == "group":
        text = (
            f"Residuals scatter more in some groups than in others (standard deviation "
            f"{number(largest)} in group {high}, {number(smallest)} in group {low}). "
            "Look for outlying observations first (heavy tails look the same), then "
            "for a covariate that explains it"
        )
    else:
        text = (
            f"The residual standard deviation differs by {worst}: {number(smallest)} "
            f"at {low}, {number(largest)} at {high}. A variance function (weights=), "
            "or a transformation of the response such as its logarithm, would suit"
        )
    severity = "warning" if largest / smallest > _SMALL_RATIO else "note"
    return check.found(severity, p, f"{text}; {robust}.")


def _variance_tests(data: ModelData) -> dict[str, dict[str, Any]]:
    """By what the variance may differ: in words, and as arguments of the test."""
    out: dict[str, dict[str, Any]] = {"fitted value": {"by": "fitted", "trend": True}}
    if data.time is not None:
        out["time"] = {"by": pd.Series(np.asarray(data.time), data.index)}
    if data.n_groups >= 3:
        out["group"] = {"by": data.groups_name or "groups"}
    for name, values in zip(data.exog_names, data.exog.T, strict=True):
        if len(out) >= 3 + _MOST_FACTORS:
            break
        if len(np.unique(values[:50])) <= 2 and len(np.unique(values)) == 2:
            out[f"{name!r}"] = {"by": pd.Series(values, data.index, name=str(name))}
    return out
