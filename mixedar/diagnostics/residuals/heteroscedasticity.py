"""
Do residuals have the same variance everywhere?

If the whitened errors of an observation had the variance ``1 + delta w``, the
derivative of the restricted log-likelihood by ``delta`` would be half the
weighted sum of squares of the normalized residuals less its expectation: Breusch
and Pagan's test, with the variance that the random effects and estimated
parameters leave it (:mod:`mixedar.diagnostics.residuals.score`).

References
----------
Breusch, T. S. and Pagan, A. R. (1979), A simple test for heteroscedasticity and
random coefficient variation, Econometrica 47, 1287-1294.

Koenker, R. (1981), A note on studentizing a test for heteroscedasticity, Journal
of Econometrics 17, 107-112.

Satterthwaite, F. E. (1946), An approximate distribution of estimates of variance
components, Biometrics Bulletin 2, 110-114.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mixedar._types import FloatArray, IntArray
from mixedar.data.time import time_axis
from mixedar.diagnostics.residuals.alternatives import WeightDirection
from mixedar.diagnostics.residuals.covariance import (
    ResidualTheory,
    cluster_products,
    residual_theory,
)
from mixedar.diagnostics.residuals.score import EfficientScore, score_frame
from mixedar.diagnostics.residuals.series import unwrapped
from mixedar.exceptions import (
    MissingDataError,
    NotComputedError,
    UnsupportedError,
    shown,
)
from mixedar.hypotheses.result import TestResult
from mixedar.inference.arguments import check_alpha
from mixedar.plotting.rows import data_column

# Numbers with more distinct values are put into bins.
_MOST_VALUES = 10
_MOST_STRATA = 60


@dataclass(frozen=True)
class Strata:
    """
    Rows divided by a variable.

    Attributes
    ----------
    name : str
    codes : ndarray of int, shape (n,)
        Strata of the rows, in the caller's order.
    labels : list
        Names of the strata.
    values : ndarray, shape (n,), or None
        The variable itself if it is a number for which a trend makes sense.
    """

    name: str
    codes: IntArray
    labels: list[Any]
    values: FloatArray | None


def read_strata(fit: Any, by: Any, n_bins: int = _MOST_VALUES) -> Strata:
    """
    Divide the rows of a fit.

    Parameters
    ----------
    fit : MixedLMARResults
    by : str or array_like, shape (n,)
        A column of the data, ``"fitted"`` for ``X beta``, ``"time"`` for the
        times of the model unless a column has these names, or values.
        (Fitted values with predicted random effects are no covariate: they and
        the residuals come from the same errors.)
    n_bins : int
        Numbers with more than ten distinct values are put into so many bins of
        about the same size.

    Returns
    -------
    Strata

    Raises
    ------
    UnknownColumnError, LengthError
        If there is no such column, or not one value a row.
    MissingDataError
        If values are missing.
    UnsupportedError
        If all rows are in one stratum, or there are very many.
    """
    if isinstance(n_bins, bool) or not isinstance(n_bins, (int, np.integer)):
        raise UnsupportedError(f"n_bins={n_bins!r} is not a whole number")
    if n_bins < 2:
        raise UnsupportedError(f"n_bins={n_bins}: use at least two bins")
    column = _column(fit, by)
    name = str(by if isinstance(by, str) else column.name or "by")
    column = column.reset_index(drop=True)
    missing = column.isna().to_numpy()
    if missing.any():
        raise MissingDataError(
            f"by={name!r} is missing in {int(missing.sum())} rows of the fit, first in "
            f"row number {int(np.argmax(missing))}"
        )
    values = None
    dtype = column.dtype
    if dtype.kind in "mM" or isinstance(dtype, (pd.PeriodDtype, pd.DatetimeTZDtype)):
        values = time_axis(column, fit.structure, name).values
    elif pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype):
        values = column.to_numpy(dtype=np.float64)
    if values is not None and column.nunique() > _MOST_VALUES:
        bins = pd.qcut(pd.Series(values), int(n_bins), duplicates="drop")
        codes = np.asarray(bins.cat.codes, dtype=np.intp)
        labels = [f"{cut.left:.4g} to {cut.right:.4g}" for cut in bins.cat.categories]
    elif isinstance(dtype, pd.CategoricalDtype):
        used = column.cat.remove_unused_categories()
        codes, labels = np.asarray(used.cat.codes), list(used.cat.categories)
    else:
        codes, distinct = pd.factorize(column, sort=True)
        labels = list(distinct)
    if len(labels) < 2:
        raise UnsupportedError(
            f"by={name!r} is {shown(labels[0])} in all rows: there is nothing to "
            "compare"
        )
    if len(labels) > _MOST_STRATA:
        raise UnsupportedError(
            f"by={name!r} has {len(labels)} different values; for the groups of the "
            "model use by='groups', otherwise choose a coarser variable"
        )
    return Strata(name, np.asarray(codes, dtype=np.intp), labels, values)


def _column(fit: Any, by: Any) -> pd.Series:
    if isinstance(by, str):
        frame = getattr(fit.model.data, "frame", None)
        known = frame is not None and by in frame.columns
        if by == "fitted" and not known:
            return pd.Series(np.asarray(fit.fitted_marginal), name="fitted")
        if by == "time" and not known and fit.model.time is not None:
            return pd.Series(fit.model.time, name="time")
    return data_column(fit, by, "by")


def residual_spread(
    fit: Any, by: Any = "groups", *, n_bins: int = 10, alpha: float = 0.05
) -> pd.DataFrame:
    """
    Residual standard deviations of strata or of groups.

    They are estimated from the normalized residuals and divided by what the
    predicted random effects and estimated fixed effects leave of their variance,
    so that they all estimate the residual standard deviation of the model.

    Parameters
    ----------
    fit : MixedLMARResults
    by : str or array_like, shape (n,)
        ``"groups"``, the groups of the model; a column of the data;
        ``"fitted"``, ``"time"``; or values.  Numbers with more than ten distinct
        values are put into bins.
    n_bins : int
        Number of those bins.
    alpha : float
        1 - coverage of the intervals.

    Returns
    -------
    DataFrame, one row a stratum
        ``n``; ``df``, to what number of independent squares the sum of squares
        is equivalent (Satterthwaite, 1946); ``sd``, with ``lower`` and ``upper``;
        ``ratio`` to that of the model; ``p``, two-sided, for a ratio of one.

    Raises
    ------
    MixedARError
        If the data were removed, or `by` does not describe strata.
    """
    fit = unwrapped(fit)
    alpha = check_alpha(alpha)
    theory = residual_theory(fit)
    sigma = float(np.sqrt(fit.scale))
    if _is_groups(fit, by):
        return _by_group(fit, theory, sigma, alpha)
    strata = read_strata(fit, by, n_bins)
    codes = _sorted_codes(theory, strata)
    squares, trace, trace2 = _moments_by_stratum(theory, codes, len(strata.labels))
    out = _table(squares, trace, trace2, np.bincount(codes), sigma, alpha)
    out.index = pd.Index(strata.labels, name=strata.name)
    return out


def _sorted_codes(theory: ResidualTheory, strata: Strata) -> NDArray[np.intp]:
    order = theory.rows.grouped.order
    return strata.codes if order is None else strata.codes[order]


def _is_groups(fit: Any, by: Any) -> bool:
    """Whether `by` means the groups of the model."""
    if not isinstance(by, str):
        return False
    frame = getattr(fit.model.data, "frame", None)
    taken = frame is not None and "groups" in frame.columns
    return by == getattr(fit.model, "groups_name", None) or (
        by == "groups" and not taken
    )


def _by_group(
    fit: Any, theory: ResidualTheory, sigma: float, alpha: float
) -> pd.DataFrame:
    offsets = theory.rows.offsets
    squares = np.add.reduceat(theory.values**2, offsets[:-1])
    trace, trace2 = _group_traces(theory)
    out = _table(squares, trace, trace2, np.diff(offsets), sigma, alpha)
    name = getattr(fit.model, "groups_name", None)
    out.index = pd.Index(fit.model.group_labels, name=name)
    return out


def _group_traces(theory: ResidualTheory) -> tuple[FloatArray, FloatArray]:
    """``tr P_i`` and ``tr P_i^2`` of the groups' blocks of ``Cov(u)``."""
    inner = cluster_products(theory.factors, theory.factors, theory.rows.offsets)
    size = np.diff(theory.rows.offsets)
    lost = np.einsum("iaa->i", inner)
    return size - lost, size - 2.0 * lost + np.einsum("iab,iba->i", inner, inner)


def _moments_by_stratum(
    theory: ResidualTheory, codes: NDArray[np.intp], count: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sums of squares, ``tr P_s`` and ``tr P_s^2`` of strata, group by group."""
    q = theory.g.shape[1]
    squares: FloatArray = np.zeros(count)
    trace: FloatArray = np.zeros(count)
    np.add.at(squares, codes, theory.values**2)
    np.add.at(trace, codes, theory.variance)
    trace2 = np.empty(count)
    for s in range(count):
        here = (codes == s)[:, None]
        g, f = theory.g * here, theory.f * here
        gg = cluster_products(g, g, theory.rows.offsets)
        gf = cluster_products(g, f, theory.rows.offsets)
        ff = f.T @ f
        trace2[s] = here.sum() - 2.0 * float((g * g).sum()) + float((gg * gg).sum())
        trace2[s] += float((ff * ff).sum()) - 2.0 * float(np.trace(ff))
        trace2[s] += 2.0 * float((gf * gf).sum()) if q else 0.0
    return squares, trace, trace2


def _table(
    squares: FloatArray,
    trace: FloatArray,
    trace2: FloatArray,
    n: NDArray[Any],
    sigma: float,
    alpha: float,
) -> pd.DataFrame:
    """Sums of squares as multiples of chi-squares with the same two moments."""
    seen = trace > 1e-8 * n
    trace = np.where(seen, trace, np.nan)
    trace2 = np.where(seen, trace2, np.nan)
    df = trace**2 / trace2
    statistic = squares * trace / trace2
    ratio = np.sqrt(squares / trace)
    upper_tail, lower_tail = stats.chi2.sf(statistic, df), stats.chi2.cdf(statistic, df)
    return pd.DataFrame(
        {
            "n": np.asarray(n, dtype=np.int64),
            "df": df,
            "sd": sigma * ratio,
            "lower": sigma * ratio * np.sqrt(df / stats.chi2.isf(alpha / 2.0, df)),
            "upper": sigma * ratio * np.sqrt(df / stats.chi2.ppf(alpha / 2.0, df)),
            "ratio": ratio,
            "p": np.minimum(2.0 * np.minimum(upper_tail, lower_tail), 1.0),
        }
    )


def heteroscedasticity_test(
    fit: Any,
    by: Any = "fitted",
    *,
    trend: bool | None = None,
    studentize: bool = True,
    n_bins: int = 10,
) -> TestResult:
    """
    Score test of equal residual variances.

    Parameters
    ----------
    fit : MixedLMARResults
    by : str or array_like, shape (n,)
        As in :func:`residual_spread`.  For ``"groups"`` the alternative is that
        each group has a variance of its own.
    trend : bool, optional
        Whether the variance may rise or fall with a numeric variable (one
        degree of freedom), or differ between strata.  By default the former for
        numbers with more than ten distinct values.
    studentize : bool
        Koenker's version, whose size does not depend on the kurtosis of the
        residuals.  Not for ``by="groups"``.
    n_bins : int
        As in :func:`residual_spread`; of the table, and of strata of numbers.

    Returns
    -------
    TestResult
        ``table`` is that of :func:`residual_spread`.

    Raises
    ------
    UnsupportedError
        For a trend of something that is not a number, or ``by="groups"`` with
        fewer than three groups.
    NotComputedError
        If the data were removed, or the parameters leave nothing to test.
    MixedARError
        If `by` does not describe strata.
    """
    fit = unwrapped(fit)
    table = residual_spread(fit, by, n_bins=n_bins)
    if _is_groups(fit, by):
        return _between_groups(table, trend)
    strata = read_strata(fit, by, n_bins)
    if trend and strata.values is None:
        raise UnsupportedError(
            f"trend=True needs numbers, and by={strata.name!r} holds "
            f"{type(strata.labels[0]).__name__}"
        )
    frame = score_frame(fit)
    weights = _weights(strata, trend)
    directions = [WeightDirection(frame.theory.rows.sort(w)) for w in weights]
    efficient: EfficientScore = frame.efficient(directions)
    inflation = _kurtosis(frame.theory) if studentize else 1.0
    statistic, df = efficient.joint(inflation)
    if df == 0:
        raise NotComputedError(
            f"the estimated parameters explain any difference of variances by "
            f"{strata.name!r}: there is nothing left to test"
        )
    how = "rises or falls with" if len(weights) == 1 else "differs by"
    return TestResult(
        name="Score test of equal residual variances",
        statistic=statistic,
        df=float(df),
        pvalue=float(stats.chi2.sf(statistic, df)),
        null="the residual variance is the same for all observations",
        alternative=f"it {how} {strata.name}",
        table=table,
        reference="Breusch and Pagan (1979)"
        + (", studentized as by Koenker (1981)" if studentize else ""),
        note="",
    )


def _weights(strata: Strata, trend: bool | None) -> list[FloatArray]:
    """Diagonals of the directions, in the caller's order."""
    by_number = strata.values is not None and len(np.unique(strata.values)) > 10
    if (by_number if trend is None else trend) and strata.values is not None:
        values = strata.values - strata.values.mean()
        return [values / values.std()]
    return [(strata.codes == s).astype(np.float64) for s in range(len(strata.labels))]


def _kurtosis(theory: ResidualTheory) -> float:
    """Variance of squared residuals relative to that of a normal distribution."""
    excess = theory.values**2 - theory.variance
    return float((excess @ excess) / (2.0 * theory.variance @ theory.variance))


def _between_groups(table: pd.DataFrame, trend: bool | None) -> TestResult:
    """Dispersion of the groups' sums of squares on the normal scale."""
    if trend:
        raise UnsupportedError("trend=True needs numbers; the groups are labels")
    used = table[table["df"].notna()]
    if len(used) < 3:
        raise UnsupportedError(
            f"by='groups' needs at least three groups with residuals, not {len(used)}"
        )
    square = used["ratio"] ** 2 * used["df"]
    upper = stats.chi2.sf(square, used["df"])
    lower = stats.chi2.cdf(square, used["df"])
    tiny = np.finfo(float).tiny
    z = np.where(
        upper < 0.5,
        stats.norm.isf(np.maximum(upper, tiny)),
        stats.norm.ppf(np.maximum(lower, tiny)),
    )
    statistic = float(((z - z.mean()) ** 2).sum())
    df = len(used) - 1
    return TestResult(
        name="Test of equal residual variances of the groups",
        statistic=statistic,
        df=float(df),
        pvalue=float(stats.chi2.sf(statistic, df)),
        null="all groups have the same residual variance",
        alternative="groups have residual variances of their own",
        table=table,
        reference="Satterthwaite (1946), for the groups' sums of squares",
        note="Heavy tails of the residuals lead to rejection as well.",
    )
