"""
Likelihood-ratio tests of nested fits, and what their statistic follows.

A variance of zero lies on the edge of its range, and the statistic then follows
a mixture of chi-square distributions.

References
----------
Self, S. G. and Liang, K.-Y. (1987), Asymptotic properties of maximum likelihood
estimators and likelihood ratio tests under nonstandard conditions, Journal of
the American Statistical Association 82, 605-610.

Stram, D. O. and Lee, J. W. (1994), Variance components testing in the
longitudinal mixed effects model, Biometrics 50, 1171-1177.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import FloatArray, Seed
from mixedar.exceptions import (
    LengthError,
    NotComputedError,
    UnsupportedError,
    check_choice,
    check_flags,
)
from mixedar.fit import Fit
from mixedar.fit.beside import looked_at
from mixedar.fit.maximise import maximise
from mixedar.fit.responses import Responses
from mixedar.inference.arguments import (
    check_count,
    generator,
    progress_bar,
    understands,
)
from mixedar.inference.bootstrap import Refitter
from mixedar.inference.comparable import (
    ZERO_VARIANCE,
    matching_rows,
    model_nesting,
    same_columns,
)
from mixedar.inference.information import information_criteria

#: Options of :func:`likelihood_ratio_table`.
LR_OPTIONS = {"refit", "null", "n_sim", "rng", "seed", "progress", "names", "ic"}


@dataclass(frozen=True)
class NullDistribution:
    """
    Mixture of chi-square distributions, or the reason why there is none.

    Attributes
    ----------
    df : tuple of int
        Degrees of freedom of the components; 0 is a point mass at zero.
    weights : tuple of float
    note : str
        What is tested, or why the distribution is not known.
    known : bool
    """

    df: tuple[int, ...]
    weights: tuple[float, ...]
    note: str
    known: bool = True

    @property
    def label(self) -> str:
        """The distribution as tables print it."""
        if not self.df:
            return ""
        parts = [
            f"chi2({df})" if weight == 1.0 else f"{weight:g} chi2({df})"
            for df, weight in zip(self.df, self.weights, strict=True)
        ]
        return " + ".join(parts)

    def sf(self, statistic: float) -> float:
        """Probability of a statistic as large; NaN without a distribution."""
        if not self.df:
            return np.nan
        total = 0.0
        for df, weight in zip(self.df, self.weights, strict=True):
            tail = float(statistic <= 0.0) if df == 0 else stats.chi2.sf(statistic, df)
            total += weight * float(tail)
        return total


def null_distribution(small: Fit, large: Fit) -> NullDistribution:
    """
    Null distribution of the likelihood ratio of two fits, of which one is a case.

    Without components if the models are not nested; `known` is False if only the
    naive chi-square, which is conservative, can be offered.
    """
    difference = large.k_estimated - small.k_estimated
    found = model_nesting(small, large)
    if found.apart:
        return NullDistribution((), (), f"not nested: {found.apart}", False)
    if difference <= 0:
        return NullDistribution((), (), "no parameter is tested", False)
    boundary = small.singular or small.estimate.residual_at_boundary
    edges, added = len(found.edges), found.edges.count(ZERO_VARIANCE)
    grew = large.layout.is_free.sum() > small.layout.is_free.sum()
    if edges == 0 and not found.irregular and not (grew and small.singular):
        return NullDistribution((difference,), (1.0,), "")
    if edges == 1 and not found.irregular and not (added and boundary):
        return _half(difference, found.edges[0])
    naive = "the naive chi-square is conservative; null='simulate' is exact"
    if found.irregular:
        what = found.irregular
        naive = "the chi-square is an approximation; null='simulate' is exact"
    elif boundary:
        what = "the smaller model itself lies on the boundary"
    elif added == edges:
        what = f"{added} variances are on the boundary, the mixture is not known"
    else:
        what = f"{edges} parameters are on the boundary, the mixture is not known"
    return NullDistribution((difference,), (1.0,), f"{what}: {naive}", False)


def _half(difference: int, note: str) -> NullDistribution:
    return NullDistribution((difference - 1, difference), (0.5, 0.5), note)


class LikelihoodRatio(NamedTuple):
    """A likelihood ratio with its p-value and the number of parameters it tests."""

    statistic: float
    pvalue: float
    df_diff: float


def compare_lr_test(results: Any, restricted: Any, **options: Any) -> LikelihoodRatio:
    """
    Likelihood-ratio test of a restricted model, as statsmodels' method of this name.

    Parameters
    ----------
    results : MixedLMARResults
    restricted : MixedLMARResults
        A case of the model, fitted to the same data.
    **options
        As in ``anova(restricted, ...)``: ``refit="ml"`` where fixed effects differ and
        the fits are by REML, ``null="simulate"`` and the like.

    Returns
    -------
    LikelihoodRatio
        ``statistic, pvalue, df_diff``.  Where a variance of zero is tested the
        p-value is by the mixture of Self and Liang; :meth:`anova` names it.

    Raises
    ------
    NotComputedError
        If the models are not nested, or a fit has not converged.
    UnsupportedError
        If the fits are not comparable, or `restricted` is not the smaller one.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> small, large = (
    ...     mar.mixedlm(formula, teeth, groups="subject").fit(reml=False)
    ...     for formula in ("distance ~ age", "distance ~ age * sex")
    ... )
    >>> statistic, pvalue, df = large.compare_lr_test(small)
    >>> round(statistic, 2), df
    (14.75, 2.0)
    """
    if not isinstance(getattr(restricted, "fit", None), Fit):
        raise UnsupportedError(
            "compare_lr_test takes the fit of the smaller model, as in "
            f"large.compare_lr_test(small), not {type(restricted).__name__}"
        )
    if restricted.fit.k_estimated >= results.fit.k_estimated:
        raise UnsupportedError(
            f"the restricted model has {restricted.fit.k_estimated} parameters, this "
            f"one {results.fit.k_estimated}: ask the larger fit, "
            "large.compare_lr_test(small)"
        )
    row = likelihood_ratio_table([restricted, results], **options).iloc[1]
    if not np.isfinite(row["LR"]):
        raise NotComputedError(f"there is no likelihood ratio: {row['note']}")
    return LikelihoodRatio(float(row["LR"]), float(row["p"]), float(row["LR_df"]))


@understands(seed="rng")
def likelihood_ratio_table(
    fits: Sequence[Any],
    *,
    refit: str | None = None,
    null: str = "auto",
    n_sim: int = 1000,
    rng: Seed = None,
    progress: bool = False,
    names: Sequence[str] | None = None,
    ic: str = "nlme",
) -> pd.DataFrame:
    """
    Likelihood-ratio tests of neighbouring fits.

    Parameters
    ----------
    fits : sequence of MixedLMARResults
        To the same data, each compared with the one before.
    refit : {"ml"}, optional
        Fit by maximum likelihood first what was fitted by REML; needed when
        fixed effects differ.
    null : {"auto", "chi2", "simulate"}
        Null distribution: chi-square or, where a variance is tested, the
        50:50 mixture of Self and Liang; always the naive chi-square; or by
        simulation from the smaller model.
    n_sim : int
        Number of simulated responses.
    rng : int or Generator, optional
    progress : bool
        Progress bar of the simulation.
    names : sequence of str, optional
        Of the rows; ``"1"``, ``"2"``, ... by default.
    ic : {"nlme", "lme4", "sas"}
        Convention of AIC and BIC.

    Returns
    -------
    DataFrame
        Columns ``df`` (number of parameters), ``AIC``, ``BIC``, ``logLik``,
        ``test``, ``LR``, ``LR_df``, ``p``, ``null`` (distribution) and
        ``note``.  Of a pair that is not nested, or a fit that has not converged,
        LR and p are missing and the note says why.  Rows of the data are matched by
        their labels, or their responses, in any order.

    Raises
    ------
    UnsupportedError
        If the fits are not comparable: other data, REML and ML, or REML with
        different fixed effects.
    """
    check_choice("null", null, ("auto", "chi2", "simulate"))
    check_choice("refit", refit, (None, "ml"))
    check_flags(progress=progress)
    compared: list[Fit] = [one.fit for one in fits]
    labels = [str(k + 1) for k in range(len(fits))] if names is None else list(names)
    if len(labels) != len(compared):
        raise LengthError(f"{len(labels)} names for {len(compared)} fits")
    _check_comparable(compared, labels, refit)
    if refit == "ml":
        compared = [_by_ml(one) for one in compared]
    tests: list[tuple[Any, ...]] = [("", np.nan, np.nan, np.nan, "", "")]
    rng = generator(rng)
    for pair, which in zip(pairwise(compared), pairwise(labels), strict=True):
        small, large = sorted(pair, key=lambda one: one.k_estimated)
        found = _ratio(small, large, null, n_sim, rng, progress)
        tests.append((" vs ".join(which), *found))
    rows = []
    for one, test in zip(compared, tests, strict=True):
        criteria = information_criteria(one, ic)
        own = one.k_estimated, criteria["aic"], criteria["bic"], one.llf
        rows.append((*own, *test))
    columns = ["df", "AIC", "BIC", "logLik", "test", "LR", "LR_df", "p", "null", "note"]
    frame = pd.DataFrame(rows, index=pd.Index(labels, name="fit"), columns=columns)
    frame.attrs["method"] = "REML" if compared[0].reml else "ML"
    return frame


def _ratio(
    small: Fit,
    large: Fit,
    null: str,
    n_sim: int,
    rng: np.random.Generator,
    progress: bool,
) -> tuple[float, float, float, str, str]:
    """Statistic, degrees of freedom, p-value, distribution and note of a pair."""
    missing, found = (np.nan, np.nan, np.nan, ""), null_distribution(small, large)
    if not found.df:
        return *missing, found.note
    if not (small.converged and large.converged):
        note = "a fit has not converged: pass maxiter=1000 to fit(), or another start"
        return *missing, note
    difference = large.k_estimated - small.k_estimated
    if null == "chi2":
        found = NullDistribution((difference,), (1.0,), "")
    statistic = 2.0 * (large.llf - small.llf)
    if statistic < -1e-5:
        note = (
            "the larger model has the lower likelihood: one fit has missed its "
            "maximum, try other starts"
        )
        return *missing, note
    statistic = max(statistic, 0.0)
    if null != "simulate":
        p = found.sf(statistic)
        return statistic, difference, p, found.label, found.note
    draws = simulated_null(small, large, n_sim, rng=rng, progress=progress)
    # the observed statistic is one draw under the hypothesis
    p = (1 + (draws >= statistic).sum()) / (len(draws) + 1)
    return statistic, difference, p, f"simulated ({len(draws)})", ""


@understands(seed="rng")
def simulated_null(
    small: Fit,
    large: Fit,
    n_sim: int = 1000,
    *,
    rng: Seed = None,
    progress: bool = False,
) -> FloatArray:
    """
    Likelihood ratios of responses simulated from the smaller model.

    Parameters
    ----------
    small, large : Fit
        Of nested models to the same rows.
    n_sim : int
    rng : int or Generator, optional
    progress : bool

    Returns
    -------
    ndarray, shape (at most n_sim,)
        Replicates for which a model has no maximum are left out.
    """
    n_sim = check_count(n_sim, "n_sim")
    rng = generator(rng)
    first, second = Refitter(small), Refitter(large)
    responses = Responses.of(small)
    rows = matching_rows(large, small)
    steps, out = progress_bar(range(n_sim), progress, "simulated null"), []
    for endogs in responses.some(rng, steps, min(first.at_once, second.at_once)):
        llf = first.many(endogs).llf
        least = np.where(np.isfinite(llf), llf - 1e-6, -np.inf)
        other = second.many(endogs[rows], least).llf
        out.append(np.maximum(2.0 * (other - llf), 0.0))
    ratios = np.concatenate(out)
    return ratios[np.isfinite(ratios)]


def _by_ml(fit: Fit) -> Fit:
    if not fit.reml:
        return fit
    return maximise(fit.data, reml=False, layout=fit.layout, gtol=1e-10)


def _check_comparable(
    fits: Sequence[Fit], labels: Sequence[str], refit: str | None
) -> None:
    """Raise unless the likelihoods are of the same data, and of the same kind."""
    fits, matched = [looked_at(one) for one in fits], []
    for one, label in zip(fits[1:], labels[1:], strict=True):
        try:
            matched.append(matching_rows(fits[0], one))
        except UnsupportedError as error:
            raise UnsupportedError(f"fits {labels[0]} and {label}: {error}") from error
    restricted = [label for label, one in zip(labels, fits, strict=True) if one.reml]
    if refit == "ml" or not restricted:
        return
    if len(restricted) < len(fits):
        raise UnsupportedError(
            f"fits {', '.join(restricted)} are by REML and the others by ML; their "
            "likelihoods cannot be compared: pass refit='ml'"
        )
    for one, label, rows in zip(fits[1:], labels[1:], matched, strict=True):
        if not same_columns(one.data.exog[rows], fits[0].data.exog):
            raise UnsupportedError(
                f"fits {labels[0]} and {label} are by REML and have different fixed "
                "effects; restricted likelihoods cannot be compared then: pass "
                "refit='ml'"
            )
