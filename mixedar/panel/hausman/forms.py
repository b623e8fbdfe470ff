"""
Forms of Hausman's test: quadratic forms in the difference, augmented regressions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mixedar._types import FloatArray
from mixedar.hypotheses.result import TestResult
from mixedar.panel.algebra import (
    RANK_TOLERANCE,
    Correction,
    Wald,
    cluster_covariance,
    column_sizes,
    regress,
    wald,
)
from mixedar.panel.hausman.comparison import Form, Pair
from mixedar.panel.hausman.result import TEXTS


def scaled_eigenvalues(pair: Pair, form: Form) -> tuple[FloatArray, FloatArray]:
    """
    Of the covariance of the difference, ascending, and the difference along them.

    In units of the standard errors of fixed effects.
    """
    scaled = pair.cov(form) / np.outer(pair.errors, pair.errors)
    values, vectors = np.linalg.eigh((scaled + scaled.T) / 2.0)
    return values, vectors.T @ (pair.difference / pair.errors)


def difference_test(pair: Pair, form: Form) -> TestResult:
    """
    Quadratic form in the difference, its covariance inverted as far as its rank.

    Without a p-value if the statistic is negative, without a statistic if nothing
    is identified.
    """
    text, identified = TEXTS[form], len(pair.identified)
    if identified == 0:
        return text.missing(pair.not_identified(), "chi2", 0)
    values, along = scaled_eigenvalues(pair, form)
    keep = np.abs(values) > RANK_TOLERANCE
    df, negative = int(keep.sum()), int((values < -RANK_TOLERANCE).sum())
    statistic = float((along[keep] ** 2 / values[keep]).sum()) if df else np.nan
    below = f"{negative} of {len(pair.names)} eigenvalues"
    note = None
    if statistic < 0.0:
        reason = (
            "the statistic is negative, because the difference of the covariances is "
            f"not positive semidefinite ({below} are negative), so that it has no "
            "chi-squared distribution; use method='sigmamore' or 'mundlak-robust'"
        )
        return text.result(statistic, "chi2", df, pvalue=np.nan, reason=reason)
    if negative:
        note = (
            f"The difference of the covariances is not positive semidefinite "
            f"({below} are negative): the chi-squared distribution of the "
            f"{form} form is in doubt; sigmamore and the Mundlak forms do not "
            "have this problem."
        )
    elif df > identified:
        note = (
            f"Only {identified} of the {df} degrees of freedom of the {form} form "
            "are differences that the data can show (the others come from the two "
            "residual variances); sigmamore has the right number."
        )
    return text.result(statistic, "chi2", df, note=note)


@dataclass(frozen=True)
class Augmentation:
    """Options of :func:`mixedar.formula.api.hausman` for augmented regressions."""

    correction: Correction
    use_f: bool
    pooled: bool
    plain_constant: bool


def augmented_test(pair: Pair, form: str, options: Augmentation) -> TestResult:
    """Wald test of the regressors that `form` adds to random effects."""
    text, panel = TEXTS[form], pair.re.panel
    robust = form.endswith("-robust")
    if pair.re.estimate.theta is None:
        return text.missing("the fit has no quasi-demeaning, so that none can be done")
    if robust and panel.n_entities < 2:
        return text.missing("clustered covariances need two entities or more")
    tested, (statistic, df) = _augmented(pair, form, options)
    if not tested:
        return text.missing(
            "it is not identified: no regressor varies both within and between "
            "entities, or the model contains their means already, so that there is "
            "nothing to add",
            "chi2",
            0,
        )
    note = None
    if df < tested:
        note = (
            f"The covariance of the {tested} added regressors has rank {df}: there are "
            "too few entities."
        )
    chi2 = text.result(statistic, "chi2", df, note=note)
    if not robust:
        return chi2
    ratio = text.result(statistic / df, "F", (df, panel.n_entities - 1), note=note)
    first, second = (ratio, chi2) if options.use_f else (chi2, ratio)
    details = (
        (f"{second.symbol}({second.df_text})", second.statistic),
        ("its p-value", second.pvalue),
    )
    return replace(first, details=details)


def _augmented(pair: Pair, form: str, options: Augmentation) -> tuple[int, Wald]:
    """
    Add deviations from, or means of, the entities and test their coefficients.

    The response and the regressors are quasi-demeaned (unless `pooled`); what is
    added are the entity-demeaned regressors (auxiliary regression) or the
    quasi-demeaned entity means (Mundlak) of those that vary within entities, as
    far as others do not span them.  The covariance is the classical one or
    clustered.  A plain constant, as plm has it, is not
    quasi-demeaned: with entities of different lengths the statistic then depends
    on the origins of the variables.
    """
    panel, columns = pair.re.panel, pair.re.estimate.columns
    auxiliary = form.startswith("auxiliary")
    plain_constant = options.plain_constant and auxiliary
    x = panel.x[:, columns]
    constant = [j for j, c in enumerate(columns) if c == panel.constant]
    centred = bool(constant) and not plain_constant
    if centred:
        # slopes do not change, and large offsets cost no digits
        shift = x.mean(axis=0)
        shift[constant] = 0.0
        x = x - shift
    means = panel.entity_means(x)
    spread = panel.spread_out(means)
    sizes = column_sizes(x)
    within = x - spread
    varying = column_sizes(within) > RANK_TOLERANCE * sizes
    varying &= np.any(within != 0.0, axis=0)
    varying[constant] = False
    fraction = pair.re.estimate.theta
    if fraction is None or (options.pooled and not auxiliary):
        fraction = np.zeros(panel.n_entities)
    kept_part = panel.spread_out(fraction)[:, None] * spread
    base = x - kept_part
    if plain_constant and constant:
        base[:, constant] = x[:, constant]
    extra = within if auxiliary else spread - kept_part
    design = np.column_stack([base, extra[:, varying]])
    y = panel.y - panel.y.mean() if centred else panel.y
    y = panel.quasi_demean(y, fraction)
    fit = regress(design, y, np.append(sizes, sizes[varying]))
    tested = int(fit.kept[len(columns) :].sum())
    last = slice(fit.rank - tested, fit.rank)
    if not tested:
        return 0, Wald(np.nan, 0)
    cov = fit.ssr / (panel.nobs - fit.rank) * fit.bread
    if form.endswith("-robust"):
        used = design if fit.kept.all() else design[:, fit.kept]
        cov = cluster_covariance(
            used, fit.resid, fit.bread, panel.offsets, options.correction
        )
    return tested, wald(fit.params[last], cov[last, last])
