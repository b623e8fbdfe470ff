"""
Are residuals normal?

Under the model normalized residuals are normal with known variances and, within
groups, known correlations (``normalized.py``).  Divided by their
standard deviations they can be held against normal quantiles, and sums of
Hermite polynomials of them, skewness and kurtosis, have the variances

    Var(sum H_k(z)) = k! sum_{s,t} corr(z_s, z_t)^k,

whatever was estimated: linear and quadratic functions, such as estimated
coefficients and variances, are uncorrelated with those of third and fourth order.

References
----------
Aldor-Noiman, S., Brown, L. D., Buja, A., Rolke, W. and Stine, R. A. (2013), The
power to see: a new graphical test of normality, The American Statistician 67,
249-260.

D'Agostino, R. B., Belanger, A. and D'Agostino, R. B. Jr. (1990), A suggestion for
using powerful and informative tests of normality, The American Statistician 44,
316-321.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from scipy import special, stats

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.diagnostics.residuals.normalized import (
    NormalizedResiduals,
    covariance_factors,
    normalized_residuals,
)
from mixedar.diagnostics.residuals.series import series_rows
from mixedar.exceptions import (
    NotComputedError,
    check_alpha,
    check_choice,
)
from mixedar.fit import Fit
from mixedar.hypotheses.result import TestResult, TestText
from mixedar.summary import ResultFrame

# Samples by which a simultaneous band is calibrated, and their size at most.
_DRAWS = 1000
_LARGEST_SAMPLE = 1000
# Ranks at which the band of a long sample is computed, as many in either tail.
_KNOTS = 1000
# Observations with less variance left than this have no residual.
_NO_RESIDUAL = 1e-6
# Correlations of groups are summed through tensors of so many columns at most.
_TENSOR = 5
_BLOCK = 1024
# With several factors more pairs are sampled.
_MOST_PAIRS = 5e7


def residual_quantiles(
    fit: Fit,
    kind: str = "normalized",
    *,
    alpha: float = 0.05,
    band: str = "simultaneous",
) -> pd.DataFrame:
    """
    Standardized residuals against normal quantiles, with a band.

    Parameters
    ----------
    fit : Fit
    kind : {"normalized", "pearson"}
        Residuals, each divided by the standard deviation that it has under the
        model.
    alpha : float
        1 - coverage of the band.
    band : {"simultaneous", "pointwise"}
        A band within which all points lie with probability 1 - `alpha`, equally
        likely to be left everywhere (Aldor-Noiman et al., 2013); or an interval
        for each point.  They allow for the estimated mean and variance, and are
        otherwise those of independent values: good for normalized residuals, a
        little narrow for Pearson residuals, which are correlated.

    Returns
    -------
    DataFrame, one row an observation
        ``theoretical``, ``observed``, ``lower``, ``upper``, in increasing order;
        the index is the observation's label.

    Raises
    ------
    UnsupportedError
        For options that are not known.
    NotComputedError
        If the data were removed, or no residual is left.
    """
    alpha = check_alpha(alpha)
    check_choice("kind", kind, ("normalized", "pearson"))
    check_choice("band", band, ("simultaneous", "pointwise"))
    rows = series_rows(fit)
    factors = covariance_factors(fit, kind)
    variance = 1.0 - np.einsum("ij,ij->i", factors, factors)
    z = np.full(len(variance), np.nan)
    left = variance > _NO_RESIDUAL
    values = rows.sort(fit.residuals(kind))
    z[left] = values[left] / np.sqrt(variance[left])
    z = rows.unsort(z / np.sqrt(np.nanmean(z**2)))
    labels = fit.data.row_index
    order = np.argsort(z, kind="stable")[: int(left.sum())]
    n = len(order)
    if n < 2:
        raise NotComputedError("the model leaves no residuals: nothing to draw")
    ranks = np.arange(1, n + 1)
    if band == "simultaneous":
        alpha = simultaneous_level(min(n, _LARGEST_SAMPLE), alpha)
    return ResultFrame(
        {
            "theoretical": stats.norm.ppf((ranks - 0.375) / (n + 0.25)),
            "observed": z[order],
            "lower": _band(alpha / 2.0, ranks, n),
            "upper": _band(1.0 - alpha / 2.0, ranks, n),
        },
        index=labels[order],
    )


def _band(share: float, ranks: IntArray, n: int) -> FloatArray:
    """
    Quantiles of the order statistics of standardized normal values.

    Those of independent values with known mean and variance, drawn towards the
    centre by the share of the variance that estimating the two takes away.
    """
    if len(ranks) > 4 * _KNOTS:  # smooth in the rank; the tails one by one
        middle = np.linspace(_KNOTS, len(ranks) - _KNOTS - 1, _KNOTS).astype(np.intp)
        some = np.concatenate([ranks[:_KNOTS], ranks[middle], ranks[-_KNOTS:]])
        x, _ = _centre(ranks, n)
        return np.asarray(np.interp(x, _centre(some, n)[0], _band(share, some, n)))
    plain = stats.norm.ppf(special.betaincinv(ranks, n + 1 - ranks, share))
    centre, kept = _centre(ranks, n)
    return np.asarray(centre + kept * (plain - centre))


def _centre(ranks: IntArray, n: int) -> tuple[FloatArray, FloatArray]:
    """
    Expected order statistics, and the share of their standard deviation left.

    A quantile ``x`` at the share ``p`` has the variance ``p (1 - p) / phi(x)^2``
    by ``n``; after standardizing ``1 + x^2 / 2`` less (David and Nagaraja, 2003,
    Order Statistics, Wiley, section 10.4).
    """
    share = (ranks - 0.375) / (n + 0.25)
    x = stats.norm.ppf(share)
    lost = (1.0 + 0.5 * x**2) * stats.norm.pdf(x) ** 2 / (share * (1.0 - share))
    return x, np.sqrt(np.maximum(1.0 - lost, 0.01))


@cache
def simultaneous_level(n: int, alpha: float) -> float:
    """
    Level of each order statistic at which all of them keep the level `alpha`.

    The `alpha` quantile of the smallest two-sided p-value in 1,000 standardized
    samples of `n` normal values, n up to 1,000; beyond, it hardly changes.
    """
    rng = np.random.default_rng(20130801)
    draws = np.sort(rng.standard_normal((_DRAWS, n)), axis=1)
    draws -= draws.mean(axis=1, keepdims=True)
    draws /= draws.std(axis=1, ddof=1, keepdims=True)
    ranks = np.arange(1, n + 1)
    centre, kept = _centre(ranks, n)
    uniform = special.ndtr(centre + (draws - centre) / kept)
    tail = special.betainc(ranks, n + 1 - ranks, uniform)
    smallest = 2.0 * np.minimum(tail, 1.0 - tail).min(axis=1)
    return float(np.quantile(smallest, alpha))


def normality_test(fit: Fit) -> TestResult:
    """
    Test the normality of the errors by skewness and kurtosis.

    D'Agostino's transformations of the skewness and the kurtosis of the
    normalized residuals, with sample sizes that allow for their correlation.
    Random effects that are not normal show in it as well, more so in short
    series.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    TestResult
        ``table`` has skewness and excess kurtosis: ``value``, ``z``, ``p`` and
        ``n``, the number of independent observations to which they are worth.

    Raises
    ------
    NotComputedError
        If the data were removed, or there are fewer than 20 residuals.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
    ... )
    >>> fit = model.fit()
    >>> test = fit.normality_test()
    >>> test.rejects(0.001)
    True
    """
    residuals = normalized_residuals(fit)
    left = residuals.variance > _NO_RESIDUAL
    n = int(left.sum())
    if n < 20:
        raise NotComputedError(
            f"{n} residuals are too few for a test of normality; look at qqplot()"
        )
    scale = np.sqrt(np.where(left, residuals.variance, np.inf))
    z = (residuals.values / scale)[left]
    third, fourth = _power_sums(residuals, scale, left)
    skewness, kurtosis = float(stats.skew(z)), float(stats.kurtosis(z))
    worth = np.array([n * n / third, n * n / fourth])
    scores = np.array(
        [_skewness_score(skewness, worth[0]), _kurtosis_score(kurtosis, worth[1])]
    )
    table = pd.DataFrame(
        {
            "value": [skewness, kurtosis],
            "z": scores,
            "p": 2.0 * stats.norm.sf(np.abs(scores)),
            "n": worth,
        },
        index=["skewness", "excess kurtosis"],
    )
    text = TestText(
        "Test of normal residuals",
        "errors and random effects are normal",
        "they are skewed, or have heavier or lighter tails",
        "D'Agostino, Belanger and D'Agostino (1990)",
    )
    return text.result(float(scores @ scores), "chi2", 2.0, note="", table=table)


def _power_sums(
    residuals: NormalizedResiduals, scale: FloatArray, left: BoolArray
) -> tuple[float, float]:
    """Sums of third and fourth powers of all correlations within groups."""
    g = residuals.g / scale[:, None]
    n, q = float(left.sum()), g.shape[1]
    if q == 0:
        return n, n
    own = np.einsum("ij,ij->i", g, g)
    if q <= _TENSOR:
        # (g_s'g_t)^3 is an inner product of third powers
        pairs2 = np.einsum("ia,ib->iab", g, g).reshape(len(g), q * q)
        cubes = residuals.clusters.products(pairs2, g)
        squares = residuals.clusters.products(pairs2, pairs2)
        third, fourth = float((cubes**2).sum()), float((squares**2).sum())
    else:
        third = fourth = 0.0
        share, rng = _sampled_share(residuals), np.random.default_rng(0)
        for rows in residuals.clusters:
            here = g[rows]
            chosen = np.arange(len(here))
            if share < 1.0:
                chosen = np.sort(rng.permutation(chosen)[: int(share * len(here)) + 1])
            times = len(here) / len(chosen)
            for first in range(0, len(chosen), _BLOCK):
                some = chosen[first : first + _BLOCK]
                products = here[some] @ here.T
                products[np.arange(len(some)), some] = 0.0
                squares = products * products
                third += times * float(np.vdot(squares, products))
                fourth += times * float(np.vdot(squares, squares))
        return max(n - third, 0.05 * n), max(n + fourth, n)
    third = n - (third - float((own**3).sum()))
    fourth = n + (fourth - float((own**4).sum()))
    return max(third, 0.05 * n), max(fourth, n)


def _sampled_share(residuals: NormalizedResiduals) -> float:
    """Share of the rows whose pairs with all others are enough for a sum."""
    clusters = residuals.clusters
    if len(clusters) == residuals.rows.grouped.n_groups:
        return 1.0
    pairs = float((np.diff(clusters.offsets) ** 2.0).sum())
    return min(_MOST_PAIRS / pairs, 1.0)


def _skewness_score(b: float, n: float) -> float:
    """D'Agostino's normal score of a skewness."""
    n = max(n, 9.0)
    y = b * np.sqrt((n + 1.0) * (n + 3.0) / (6.0 * (n - 2.0)))
    beta = 3.0 * (n * n + 27.0 * n - 70.0) * (n + 1.0) * (n + 3.0)
    beta /= (n - 2.0) * (n + 5.0) * (n + 7.0) * (n + 9.0)
    w2 = np.sqrt(2.0 * (beta - 1.0)) - 1.0
    delta = 1.0 / np.sqrt(0.5 * np.log(w2))
    a = np.sqrt(2.0 / (w2 - 1.0))
    return float(delta * np.arcsinh(y / a))


def _kurtosis_score(excess: float, n: float) -> float:
    """Anscombe and Glynn's normal score of an excess kurtosis."""
    n = max(n, 9.0)
    mean = 3.0 * (n - 1.0) / (n + 1.0)
    variance = 24.0 * n * (n - 2.0) * (n - 3.0)
    variance /= (n + 1.0) ** 2 * (n + 3.0) * (n + 5.0)
    x = (excess + 3.0 - mean) / np.sqrt(variance)
    skew = 6.0 * (n * n - 5.0 * n + 2.0) / ((n + 7.0) * (n + 9.0))
    skew *= np.sqrt(6.0 * (n + 3.0) * (n + 5.0) / (n * (n - 2.0) * (n - 3.0)))
    a = 6.0 + 8.0 / skew * (2.0 / skew + np.sqrt(1.0 + 4.0 / skew**2))
    ratio = (1.0 - 2.0 / a) / (1.0 + x * np.sqrt(2.0 / (a - 4.0)))
    centre = 1.0 - 2.0 / (9.0 * a)
    return float((centre - np.cbrt(ratio)) / np.sqrt(2.0 / (9.0 * a)))
