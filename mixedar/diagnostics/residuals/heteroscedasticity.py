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
from scipy import stats

from mixedar._types import FloatArray, IntArray
from mixedar.data.time import time_axis
from mixedar.data.variables import data_column
from mixedar.diagnostics.residuals.normalized import (
    NormalizedResiduals,
    normalized_residuals,
)
from mixedar.diagnostics.residuals.score import ScoreTests, VarianceAlternative
from mixedar.diagnostics.residuals.series import check_whole
from mixedar.diagnostics.residuals.shared import RowClusters
from mixedar.exceptions import (
    MissingDataError,
    NotComputedError,
    UnsupportedError,
    check_alpha,
    check_choice,
    check_flags,
    shown,
)
from mixedar.fit import Fit
from mixedar.hypotheses.result import TestResult, TestText
from mixedar.summary import ResultFrame

# Numbers with more distinct values are put into bins.
_MOST_VALUES = 10
_MOST_STRATA = 60
# Numbers in the products of the groups that are treated at a time.
_NUMBERS = 2**24


@dataclass(frozen=True)
class Stratification:
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


def _stratify(fit: Fit, by: Any, n_bins: int) -> Stratification:
    """The rows of a fit divided by a variable; see :func:`residual_spread`."""
    n_bins = check_whole("n_bins", n_bins)
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
    if pd.api.types.is_complex_dtype(dtype):
        raise UnsupportedError(f"by={name!r} is complex; take a part of it")
    if dtype.kind in "mM" or isinstance(dtype, (pd.PeriodDtype, pd.DatetimeTZDtype)):
        values = time_axis(column, fit.structure, name).values
    elif pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype):
        values = column.to_numpy(dtype=np.float64)
    if values is not None and column.nunique() > _MOST_VALUES:
        bins = pd.qcut(pd.Series(values), n_bins, duplicates="drop")
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
    return Stratification(name, np.asarray(codes, dtype=np.intp), labels, values)


def _column(fit: Fit, by: Any) -> pd.Series:
    data = fit.data
    if isinstance(by, str) and (data.frame is None or by not in data.frame.columns):
        if by == "fitted":
            # with predicted effects it would come from the same errors
            return pd.Series(fit.fitted_marginal, name="fitted")
        if by == "time" and data.time is not None:
            return pd.Series(data.time, name="time")
    return data_column(data, by, "by")


def _is_groups(fit: Fit, by: object) -> bool:
    """Whether `by` means the groups of the model."""
    if not isinstance(by, str):
        return False
    frame = fit.data.frame
    taken = frame is not None and "groups" in frame.columns
    return by == fit.data.groups_name or (by == "groups" and not taken)


def residual_spread(
    fit: Fit, by: Any = "groups", *, n_bins: int = 10, alpha: float = 0.05
) -> pd.DataFrame:
    """
    Residual standard deviations of strata or of groups.

    They are estimated from the normalized residuals and divided by what the
    predicted random effects and estimated fixed effects leave of their variance,
    so that they all estimate the residual standard deviation of the model.

    Parameters
    ----------
    fit : Fit
    by : str or array_like, shape (n,)
        ``"groups"``, the groups of the model; a column of the data;
        ``"fitted"``, which is ``X beta``; ``"time"``; or values.  Numbers with
        more than ten distinct values are put into bins.
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

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
    ... )
    >>> fit = model.fit()
    >>> fit.residual_spread("sex").index.tolist()
    ['Female', 'Male']
    """
    alpha, residuals = check_alpha(alpha), normalized_residuals(fit)
    strata = None if _is_groups(fit, by) else _stratify(fit, by, n_bins)
    return _spread(fit, residuals, strata, alpha)


def _spread(
    fit: Fit,
    residuals: NormalizedResiduals,
    strata: Stratification | None,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Of strata, or of the groups; see :func:`residual_spread`."""
    if strata is None:
        n = np.diff(residuals.rows.offsets)
        return _table(_sums_by_group(residuals), n, fit, alpha, fit.data.group_index)
    codes = residuals.rows.sort(strata.codes)
    index = pd.Index(strata.labels, name=strata.name, tupleize_cols=False)
    sums = _sums_by_stratum(residuals, codes, len(index))
    return _table(sums, np.bincount(codes), fit, alpha, index)


def _sums_by_group(
    residuals: NormalizedResiduals,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sums of squares, ``tr P_i`` and ``tr P_i^2`` of the groups' blocks."""
    factors, offsets = residuals.factors, residuals.rows.offsets
    squares, size = np.add.reduceat(residuals.values**2, offsets[:-1]), np.diff(offsets)
    lost, square = np.empty((2, len(size)))
    step = max(_NUMBERS // max(factors.shape[1] ** 2, 1), 1)
    for first in range(0, len(size), step):
        edges = offsets[first : first + step + 1]
        own, some = factors[edges[0] : edges[-1]], slice(first, first + step)
        inner = RowClusters(edges - edges[0]).products(own, own)
        lost[some] = np.einsum("iaa->i", inner)
        square[some] = np.einsum("iab,iba->i", inner, inner)
    return squares, size - lost, size - 2.0 * lost + square


def _sums_by_stratum(
    residuals: NormalizedResiduals, codes: IntArray, count: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sums of squares, ``tr P_s`` and ``tr P_s^2`` of strata, group by group."""
    squares, trace = np.zeros((2, count))
    np.add.at(squares, codes, residuals.values**2)
    np.add.at(trace, codes, residuals.variance)
    trace2 = np.empty(count)
    clusters = residuals.clusters
    for s in range(count):
        here = (codes == s)[:, None]
        g, f = residuals.g * here, residuals.f * here
        gg = clusters.products(g, g)
        gf = clusters.products(g, f)
        ff = f.T @ f
        trace2[s] = here.sum() - 2.0 * float((g * g).sum()) + float((gg * gg).sum())
        trace2[s] += float((ff * ff).sum()) - 2.0 * float(np.trace(ff))
        trace2[s] += 2.0 * float((gf * gf).sum())
    return squares, trace, trace2


def _table(
    sums: tuple[FloatArray, FloatArray, FloatArray],
    n: IntArray,
    fit: Fit,
    alpha: float,
    index: pd.Index,
) -> pd.DataFrame:
    """Sums of squares as multiples of chi-squares with the same two moments."""
    (squares, trace, trace2), sigma = sums, float(np.sqrt(fit.scale))
    seen = trace > 1e-8 * n
    trace = np.where(seen, trace, np.nan)
    trace2 = np.where(seen, trace2, np.nan)
    df = trace**2 / trace2
    statistic = squares * trace / trace2
    ratio = np.sqrt(squares / trace)
    upper_tail, lower_tail = stats.chi2.sf(statistic, df), stats.chi2.cdf(statistic, df)
    return ResultFrame(
        {
            "n": np.asarray(n, dtype=np.int64),
            "df": df,
            "sd": sigma * ratio,
            "lower": sigma * ratio * np.sqrt(df / stats.chi2.isf(alpha / 2.0, df)),
            "upper": sigma * ratio * np.sqrt(df / stats.chi2.ppf(alpha / 2.0, df)),
            "ratio": ratio,
            "p": np.minimum(2.0 * np.minimum(upper_tail, lower_tail), 1.0),
        },
        index=index,
    )


def heteroscedasticity_test(
    fit: Fit,
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
    fit : Fit
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

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
    ... )
    >>> fit = model.fit()
    >>> test = fit.heteroscedasticity_test("sex")
    >>> test.rejects(0.01)
    False
    """
    return unequal_variances(ScoreTests(fit), by, trend, studentize, n_bins)


def unequal_variances(
    tests: ScoreTests,
    by: Any,
    trend: bool | None = None,
    studentize: bool = True,
    n_bins: int = 10,
) -> TestResult:
    """The test of equal residual variances; see :func:`heteroscedasticity_test`."""
    check_choice("trend", trend, (None, True, False))
    check_flags(studentize=studentize)
    fit, residuals = tests.fit, tests.residuals
    if _is_groups(fit, by):
        return _between_groups(_spread(fit, residuals, None), trend)
    strata = _stratify(fit, by, n_bins)
    table = _spread(fit, residuals, strata)
    if trend and strata.values is None:
        raise UnsupportedError(
            f"trend=True needs numbers, and by={strata.name!r} holds "
            f"{type(strata.labels[0]).__name__}"
        )
    weights = _weights(strata, trend)
    alternatives = [VarianceAlternative(residuals.rows.sort(w)) for w in weights]
    efficient = tests.efficient(alternatives)
    statistic, df = efficient.joint(_kurtosis(residuals) if studentize else 1.0)
    if df == 0:
        raise NotComputedError(
            f"the estimated parameters explain any difference of variances by "
            f"{strata.name!r}: there is nothing left to test"
        )
    how = "rises or falls with" if len(weights) == 1 else "differs by"
    text = TestText(
        "Score test of equal residual variances",
        "the residual variance is the same for all observations",
        f"it {how} {strata.name}",
        "Breusch and Pagan (1979)"
        + (", studentized as by Koenker (1981)" if studentize else ""),
    )
    return text.result(statistic, "chi2", float(df), note="", table=table)


def _weights(strata: Stratification, trend: bool | None) -> list[FloatArray]:
    """Diagonals of the alternatives, in the caller's order."""
    by_number = strata.values is not None and len(np.unique(strata.values)) > 10
    if (by_number if trend is None else trend) and strata.values is not None:
        values = strata.values - strata.values.mean()
        return [values / values.std()]
    return [(strata.codes == s).astype(np.float64) for s in range(len(strata.labels))]


def _kurtosis(residuals: NormalizedResiduals) -> float:
    """Variance of squared residuals relative to that of a normal distribution."""
    variance = residuals.variance
    excess = residuals.values**2 - variance
    return float((excess @ excess) / (2.0 * variance @ variance))


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
    text = TestText(
        "Test of equal residual variances of the groups",
        "all groups have the same residual variance",
        "groups have residual variances of their own",
        "Satterthwaite (1946), for the groups' sums of squares",
    )
    note = "Heavy tails of the residuals lead to rejection as well."
    return text.result(statistic, "chi2", len(used) - 1.0, note=note, table=table)
