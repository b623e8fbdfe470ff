"""
Hausman's test of random effects, in the forms that are in use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from mixedar._lazy import with_near_names
from mixedar._types import BoolArray, FloatArray, Seed, unwrapped
from mixedar.exceptions import UnsupportedError, check_choice, check_flags
from mixedar.hypotheses.result import TestResult
from mixedar.inference.arguments import understands
from mixedar.mixed import MixedLMARResults
from mixedar.panel.algebra import (
    MEANS_TOLERANCE,
    RANK_TOLERANCE,
    Regression,
    column_sizes,
    regress,
    wald,
)
from mixedar.panel.data import PanelData
from mixedar.panel.hausman.bootstrap import bootstrap
from mixedar.panel.hausman.comparison import (
    MUNDLAK,
    Form,
    HausmanResult,
    Pair,
    check_unweighted,
    text_of,
)
from mixedar.panel.hausman.mixed import hausman_mixed
from mixedar.panel.results import PanelResults
from mixedar.panel.summed import SummedPanel, SummedRegression
from mixedar.panel.transformed import (
    Correction,
    TransformedRegression,
    cluster_covariance,
    cluster_factor,
    determined_alone,
)

_HAUSMAN = "Hausman (1978), Econometrica 46, 1251-1271"
_STATA = _HAUSMAN + "; residual variances as Stata's option of this name"
_AUXILIARY = (
    "Wooldridge (2010), Econometric Analysis of Cross Section and Panel Data, "
    "section 10.7.3; Arellano (1993), Journal of Econometrics 59, 87-97"
)
TEXTS = {
    "classical": text_of("Hausman (classical)", _HAUSMAN),
    "sigmamore": text_of("Hausman (sigmamore)", _STATA),
    "sigmaless": text_of("Hausman (sigmaless)", _STATA),
    "auxiliary": text_of("Auxiliary regression", _AUXILIARY),
    "auxiliary-robust": text_of("Auxiliary regression (clustered)", _AUXILIARY),
    "mundlak": text_of("Mundlak", MUNDLAK),
    "mundlak-robust": text_of("Mundlak (clustered)", MUNDLAK),
}


@dataclass(frozen=True)
class Augmentation:
    """Options of :func:`hausman` for augmented regressions."""

    correction: Correction
    use_f: bool
    pooled: bool
    plain_constant: bool


@with_near_names
@understands(seed="rng", reps="n_sim")
def hausman(
    fe: PanelResults,
    re: PanelResults | MixedLMARResults,
    method: str = "default",
    *,
    correction: Correction = "sss",
    use_f: bool = True,
    estimator: Literal["gls", "pooled"] = "gls",
    plain_constant: bool = False,
    n_sim: int = 999,
    rng: Seed = None,
    progress: bool = True,
) -> HausmanResult:
    """
    Test whether fixed and random effects estimate the same coefficients.

    Parameters
    ----------
    fe : PanelResults
        Fit of fixed effects.
    re : PanelResults or MixedLMARResults
        Fit of random effects to the same rows.  With a mixed model (random
        slopes, correlated residuals) the means of the entities are added to it
        and tested jointly; `method` is then ``"default"`` or ``"mundlak"``.
    method : str
        ``"default"``
            ``"sigmamore"`` together with ``"mundlak-robust"``.
        ``"classical"``
            Difference of the two covariances, each with its own residual
            variance; it need not be positive definite.
        ``"sigmamore"``, ``"sigmaless"``
            Both with the residual variance of random effects, or of fixed
            effects, as Stata's options of these names.
        ``"auxiliary"``, ``"auxiliary-robust"``
            Regression on quasi-demeaned data with the entity-demeaned
            regressors added; classical or clustered by entity.
        ``"mundlak"``, ``"mundlak-robust"``
            The same with entity means added, as Stata's ``estat mundlak``.
        ``"bootstrap"``
            Covariance of the difference from drawing entities with replacement,
            variance components estimated anew each time.
    correction : {"sss", "HC1", "HC0"}
        Small-sample factor of the clustered forms: ``G / (G - 1) * (n - 1) /
        (n - k)`` as Stata, ``n / (n - k)``, or 1.
    use_f : bool
        F distribution with one less than the number of entities as denominator
        degrees of freedom for the clustered forms, or chi-squared as Stata.  The
        other one is in the details of the result.
    estimator : {"gls", "pooled"}
        Whether the Mundlak regression is quasi-demeaned or plain least squares.
    plain_constant : bool
        Constant of the auxiliary regression as plm has it, see Notes.
    n_sim : int
        Bootstrap replicates.
    rng : int or Generator, optional
        Of the bootstrap.
    progress : bool
        Progress bar of the bootstrap.

    Returns
    -------
    HausmanResult

    Raises
    ------
    UnsupportedError
        If arguments are swapped, fits differ in rows, response or regressors, or
        a form is asked for that needs classical covariances and does not get
        them.
    NotComputedError
        If the bootstrap cannot estimate the models in its replicates.

    Notes
    -----
    Degrees of freedom are the rank of the comparison.  Regressors that do not
    vary both within and between entities contribute nothing: period dummies or
    trends in a balanced panel, and all that fixed effects absorb.  When nothing
    is left the result has a reason in place of a number.

    In balanced panels sigmaless, auxiliary regression and Mundlak's regression
    give the same number.  With entities of different lengths the auxiliary
    regression equals Mundlak's if its constant is quasi-demeaned as all other
    columns are, which is done here; plm leaves it a constant, and its statistic
    then depends on the origins of the variables.

    References
    ----------
    Hausman, J. A. (1978), Econometrica 46, 1251-1271.
    Mundlak, Y. (1978), Econometrica 46, 69-85.
    Wooldridge, J. M. (2010), Econometric Analysis of Cross Section and Panel
    Data, 2nd ed., section 10.7.3.
    Cameron, A. C. and Trivedi, P. K. (2005), Microeconometrics, section 21.4.3.

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> import mixedar.formula.api as mar
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> fe = mar.fixed_effects("invest ~ value + capital", firms, "firm", "year").fit()
    >>> re = mar.random_effects("invest ~ value + capital", firms, "firm", "year").fit()
    >>> test = mar.hausman(fe, re)
    >>> test.rejects(alpha=0.05)
    False
    """
    name = str(method).lower().replace("_", "-").replace("-clustered", "-robust")
    check_choice("method", name, ("default", *TEXTS, "bootstrap"))
    check_choice("correction", correction, ("HC0", "HC1", "sss"))
    check_choice("estimator", estimator, ("gls", "pooled"))
    check_flags(use_f=use_f, plain_constant=plain_constant, progress=progress)
    first, second = unwrapped(fe), unwrapped(re)
    if isinstance(first, MixedLMARResults):
        raise UnsupportedError(
            "hausman: the first argument is a mixed model; it must be a fit of "
            "fixed_effects(...): call hausman(fe, mixed)"
        )
    if isinstance(second, MixedLMARResults):
        return hausman_mixed(first, second, name, use_f=use_f)
    pair = Pair.of(first, second)
    if name == "bootstrap" and not first.kind.endswith("_ar1"):
        check_unweighted(first.panel)
        return bootstrap(pair, n_sim, rng, progress)
    options = Augmentation(correction, use_f, estimator == "pooled", plain_constant)
    return _compared(pair, name, options)


def _compared(pair: Pair, name: str, options: Augmentation) -> HausmanResult:
    """The forms that need no bootstrap."""
    if pair.fe.kind.endswith("_ar1"):
        if name not in ("default", "classical"):
            raise UnsupportedError(
                f"hausman: method={name!r} is not defined for fits with AR(1) errors: "
                "the two use different transformations of the data. Use "
                "method='classical', or a mixed model with AR(1) residuals as second "
                "argument"
            )
        name = "classical"
    if name.startswith(("auxiliary", "mundlak")):
        tests = [augmented_test(pair, name, options)]
        return pair.result(name, tests, pair.frame(), pair.notes())
    form: Form = "sigmamore" if name == "default" else name  # type: ignore[assignment]
    frame, notes, parts = pair.frame(), pair.notes(), {}
    unlike, robust = pair.unlike(), pair.not_classical(form)
    if robust and not unlike and name != "default":
        raise UnsupportedError(f"hausman: {robust}")
    if unlike or robust:
        tests = [TEXTS[form].missing(unlike or robust or "", "chi2")]
    else:
        tests = [difference_test(pair, form)]
        cov = pd.DataFrame(pair.cov(form), index=pair.names, columns=pair.names)
        frame, notes = pair.frame(cov.to_numpy()), pair.notes(form)
        parts = {
            "cov_difference": cov,
            "eigenvalues": scaled_eigenvalues(pair, form)[0][::-1],
            "identified": len(pair.identified),
        }
    if name == "default":
        tests.append(augmented_test(pair, "mundlak-robust", options))
    if {test.rejects(0.05) for test in tests} == {True, False}:
        notes.append(
            "The two forms disagree at 5 percent: sigmamore needs independent errors "
            "of equal variance, the clustered Mundlak form needs neither but many "
            "entities."
        )
    return pair.result(name, tests, frame, notes, **parts)


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


def augmented_test(pair: Pair, form: str, options: Augmentation) -> TestResult:
    """Wald test of the regressors that `form` adds to random effects."""
    text, panel = TEXTS[form], pair.re.panel
    robust = form.endswith("-robust")
    if pair.re.estimate.theta is None:
        return text.missing("the fit has no quasi-demeaning, so that none can be done")
    if robust and panel.n_entities < 2:
        return text.missing("clustered covariances need two entities or more")
    tested, statistic, df = _augmented(pair, form, options)
    if tested and not df:
        return text.missing(
            "one entity alone determines an added regressor, and its residuals do not "
            "show the error; use method='sigmamore'",
            "F" if options.use_f else "chi2",
        )
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


@dataclass(frozen=True, eq=False)
class Added:
    """
    What is added to quasi-demeaned regressors.

    Attributes
    ----------
    auxiliary : bool
        Deviations from the means of entities, or these means.
    varying : ndarray of bool, shape (k,)
        Of which regressors.
    plain : list of int
        Regressors that are not quasi-demeaned.
    """

    auxiliary: bool
    varying: BoolArray
    plain: list[int]

    def rows(
        self, panel: PanelData, x: FloatArray, y: FloatArray, fraction: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """The design, regressors first, and the response of the rows of a panel."""
        means = panel.entity_means(x)
        kept = panel.per_row(fraction[:, None] * means)
        base = x - kept
        base[:, self.plain] = x[:, self.plain]
        extra = panel.demean(x) if self.auxiliary else panel.per_row(means) - kept
        design = np.column_stack([base, extra[:, self.varying]])
        return panel.by_root(design), panel.by_root(panel.quasi_demean(y, fraction))


def _augmented(pair: Pair, form: str, options: Augmentation) -> tuple[int, float, int]:
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
    constant = [j for j, c in enumerate(columns) if c == panel.constant]
    centred = bool(constant) and not plain_constant
    # slopes do not change, and large offsets cost no digits
    x = (panel.centred if centred else panel.x)[:, columns]
    y = panel.centre(panel.y) if centred else panel.y
    sizes = column_sizes(x)
    within = panel.demean(x)
    varying = column_sizes(within) > RANK_TOLERANCE * sizes
    varying &= np.any(within != 0.0, axis=0)
    varying[constant] = False
    fraction = pair.re.estimate.theta
    if fraction is None or (options.pooled and not auxiliary):
        fraction = np.zeros(len(panel.entity_ones))
    plain = constant if plain_constant else []
    added = Added(auxiliary, varying, plain)
    design, y = added.rows(panel, x, y, fraction)
    # as in `entity_means`; what is added carries so much of the means
    share = float((1.0 - fraction).max()) * MEANS_TOLERANCE / RANK_TOLERANCE
    fit = regress(design, y, np.append(sizes, sizes[varying] * max(share, 1.0)))
    tested = int(fit.kept[len(columns) :].sum())
    last = slice(fit.rank - tested, fit.rank)
    if not tested:
        return 0, np.nan, 0
    cov = fit.ssr / (panel.nobs - fit.rank) * fit.bread
    if form.endswith("-robust"):
        alone, cov = _clustered(pair, fit, design, added, options)
        for directions in alone:
            moved = np.abs(directions) / np.sqrt(np.diag(fit.bread))
            if (moved[:, last] > 1e-6 * moved.max()).any():
                return tested, np.nan, 0
    return tested, *wald(fit.params[last], cov[last, last])


def _clustered(
    pair: Pair, fit: Regression, design: FloatArray, added: Added, options: Augmentation
) -> tuple[list[FloatArray], FloatArray]:
    """
    Directions that one entity alone determines, and the clustered covariance.

    `design` and `fit` are of all rows, or of turned ones; then the rows are read once
    more.
    """
    panel, estimate = pair.re.panel, pair.re.estimate
    used = design if fit.kept.all() else design[:, fit.kept]
    if not isinstance(panel, SummedPanel):
        of_rows = panel.entity, panel.time, panel.times, panel.nobs
        regression = TransformedRegression(used, fit.resid, *of_rows)
        alone = [lost for _, lost in determined_alone(regression, panel.entity)]
        given = fit.bread, panel.entity, options.correction
        return alone, cluster_covariance(used, fit.resid, *given)
    columns, summed = estimate.columns, estimate.regression
    assert isinstance(summed, SummedRegression)
    at, means = summed.at, np.zeros(len(columns) + 1)
    if panel.constant in columns and not added.plain:
        both = np.column_stack([panel.x[:, columns], panel.y])
        means = panel.grand_mean(both)
        means[:-1][columns == panel.constant] = 0.0
    pooled = options.pooled and not added.auxiliary

    def rows(part: PanelData) -> tuple[FloatArray, FloatArray]:
        fraction = at.fractions(part.sizes) * (not pooled)
        given = part.x[:, columns] - means[:-1], part.y - means[-1]
        x, y = added.rows(part, *given, fraction)
        x = x[:, fit.kept]
        return x, y - x @ fit.params

    sums = panel.reader.score_sums(rows, used, np.arange(fit.rank))
    factor = cluster_factor(panel.n_entities, panel.nobs, fit.rank, options.correction)
    return [lost for _, lost in sums.alone], factor * fit.bread @ sums.meat @ fit.bread


__all__ = ["HausmanResult", "hausman"]
