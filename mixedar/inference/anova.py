"""
Likelihood-ratio tests of nested fits, and analysis of variance by terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.exceptions import LengthError, UnsupportedError
from mixedar.inference.bootstrap import Refitter, check_count, progress_bar
from mixedar.inference.nulls import NullDistribution, null_distribution, same_columns
from mixedar.inference.terms import anova_terms

__all__ = ["anova", "likelihood_ratio_table", "simulated_null"]

FloatArray = NDArray[np.float64]


def anova(*fits: Any, **options: Any) -> pd.DataFrame:
    """
    Compare fits by likelihood ratios, or test the terms of one fit.

    Parameters
    ----------
    *fits : MixedLMARResults
        One fit: :func:`mixedar.inference.terms.anova_terms` with ``type=`` and
        ``df=``.  Several: :func:`likelihood_ratio_table`.
    **options
        Passed on.

    Returns
    -------
    DataFrame

    Raises
    ------
    UnsupportedError
        Without a fit, or for something that is no fit of this package.
    """
    for fit in fits:
        inner = getattr(fit, "_results", fit)
        if not hasattr(inner, "_contrast_method"):
            raise UnsupportedError(
                f"anova compares fits of MixedLMAR, not {type(fit).__name__}"
            )
    if not fits:
        raise UnsupportedError("anova needs at least one fit")
    allowed = {"type", "df"} if len(fits) == 1 else _LR_OPTIONS
    unknown = sorted(set(options) - allowed)
    if unknown:
        raise UnsupportedError(
            f"anova of {len(fits)} fit{'s' if len(fits) > 1 else ''} has no option "
            f"{unknown[0]!r}; there are {', '.join(sorted(allowed))}"
        )
    if len(fits) == 1:
        return anova_terms(fits[0], **options)
    return likelihood_ratio_table(fits, **options)


_LR_OPTIONS = {"refit", "null", "n_sim", "seed", "progress", "names", "ic"}


def likelihood_ratio_table(
    fits: Sequence[Any],
    *,
    refit: str | None = None,
    null: str = "auto",
    n_sim: int = 1000,
    seed: Any = None,
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
    seed : int or Generator, optional
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
        ``note``.  Of a pair that is not nested, LR and p are missing and the
        note says why.

    Raises
    ------
    UnsupportedError
        If the fits are not comparable: other data, REML and ML, or REML with
        different fixed effects.
    """
    from mixedar.inference.criteria import information_criteria

    if null not in ("auto", "chi2", "simulate"):
        raise UnsupportedError(f"null={null!r}: choose 'auto', 'chi2' or 'simulate'")
    if refit not in (None, "ml"):
        raise UnsupportedError(f"refit={refit!r}: choose None or 'ml'")
    results = [getattr(fit, "_results", fit) for fit in fits]
    labels = [str(k + 1) for k in range(len(fits))] if names is None else list(names)
    if len(labels) != len(results):
        raise LengthError(f"{len(labels)} names for {len(results)} fits")
    _check_data(results, labels)
    if refit == "ml":
        results = [_by_ml(one) for one in results]
    _check_method(results, labels)
    rows: list[list[Any]] = []
    for one in results:
        criteria = information_criteria(one, ic)
        rows.append([one.df_modelwc, criteria["aic"], criteria["bic"], one.llf])
        rows[-1].extend(["", np.nan, np.nan, np.nan, "", ""])
    rng = np.random.default_rng(seed)
    for k, (i, j) in enumerate(pairwise(range(len(results))), start=1):
        small, large = sorted((results[i], results[j]), key=lambda one: one.df_modelwc)
        found = null_distribution(small, large)
        rows[k][4] = f"{labels[i]} vs {labels[j]}"
        rows[k][9] = found.note
        if not found.df:
            continue
        if null == "chi2":
            difference = large.df_modelwc - small.df_modelwc
            found = NullDistribution((difference,), (1.0,), "")
            rows[k][9] = found.note
        statistic = 2.0 * (large.llf - small.llf)
        if statistic < -1e-5:
            rows[k][9] = (
                "the larger model has the lower likelihood: one fit has missed its "
                "maximum, try other starts"
            )
            continue
        statistic = max(statistic, 0.0)
        rows[k][5:7] = statistic, large.df_modelwc - small.df_modelwc
        if null == "simulate":
            draws = simulated_null(small, large, n_sim, seed=rng, progress=progress)
            # the observed statistic is one draw under the hypothesis
            rows[k][7] = (1 + (draws >= statistic).sum()) / (len(draws) + 1)
            rows[k][8], rows[k][9] = f"simulated ({len(draws)})", ""
        else:
            rows[k][7], rows[k][8] = found.sf(statistic), found.label
    columns = ["df", "AIC", "BIC", "logLik", "test", "LR", "LR_df", "p", "null", "note"]
    frame = pd.DataFrame(rows, index=pd.Index(labels, name="fit"), columns=columns)
    frame.attrs["method"] = results[0].method
    return frame


def simulated_null(
    small: Any,
    large: Any,
    n_sim: int = 1000,
    *,
    seed: Any = None,
    progress: bool = False,
) -> FloatArray:
    """
    Likelihood ratios of responses simulated from the smaller model.

    Parameters
    ----------
    small, large : MixedLMARResults
        Fits of nested models to the same rows.
    n_sim : int
    seed : int or Generator, optional
    progress : bool

    Returns
    -------
    ndarray, shape (at most n_sim,)
        Replicates for which a model has no maximum are left out.
    """
    small, large = (getattr(one, "_results", one) for one in (small, large))
    n_sim = check_count(n_sim, "n_sim")
    rng = np.random.default_rng(seed)
    first, second = Refitter(small), Refitter(large)
    distribution = small.get_distribution()
    out = []
    for _ in progress_bar(range(n_sim), progress, "simulated null"):
        endog = distribution.rvs(rng=rng)
        try:
            llf = first.fit(endog)[1].llf
            other = second.fit(endog, at_least=llf - 1e-6)[1].llf
        except (np.linalg.LinAlgError, ValueError):
            continue
        out.append(max(2.0 * (other - llf), 0.0))
    return np.array(out)


def _by_ml(results: Any) -> Any:
    if not results.reml:
        return results
    model, before = results.model, results.model.reml
    fit = model.fit(reml=False, free=results.freepat)
    model.reml = before
    return fit._results


def _check_data(results: Sequence[Any], labels: Sequence[str]) -> None:
    first = results[0].model
    for one, label in zip(results[1:], labels[1:], strict=True):
        endog = one.model.endog
        if endog is None or first.endog is None:
            raise UnsupportedError(
                "the data were removed from a fit: whether the fits are to the same "
                "data cannot be checked"
            )
        if len(endog) != len(first.endog):
            raise UnsupportedError(
                f"fits {labels[0]} and {label} are to different data: "
                f"{len(first.endog)} and {len(endog)} observations; drop the rows "
                "with missing values in any model's variables first"
            )
        if not np.array_equal(endog, first.endog):
            raise UnsupportedError(
                f"fits {labels[0]} and {label} have different responses; their "
                "likelihoods cannot be compared"
            )


def _check_method(results: Sequence[Any], labels: Sequence[str]) -> None:
    methods = {one.reml for one in results}
    if len(methods) > 1:
        which = [x for x, one in zip(labels, results, strict=True) if one.reml]
        raise UnsupportedError(
            f"fits {', '.join(which)} are by REML and the others by ML; their "
            "likelihoods cannot be compared: pass refit='ml'"
        )
    if methods == {False}:
        return
    for one, label in zip(results[1:], labels[1:], strict=True):
        if not same_columns(one.model.exog, results[0].model.exog):
            raise UnsupportedError(
                f"fits {labels[0]} and {label} are by REML and have different fixed "
                "effects; restricted likelihoods cannot be compared then: pass "
                "refit='ml'"
            )
