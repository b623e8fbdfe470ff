"""
What the likelihood-ratio statistic of two nested models follows.

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

from dataclasses import dataclass

import numpy as np
from scipy import stats

from mixedar._types import FloatArray
from mixedar.fit import Fit
from mixedar.residual import Nesting, nesting


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


def same_columns(a: FloatArray | None, b: FloatArray | None) -> bool:
    """Whether two designs have the same columns, in any order."""
    a, b = _columns(a), _columns(b)
    return a.shape == b.shape and _contains(a, b)


def _columns(x: FloatArray | None) -> FloatArray:
    return np.empty((0, 0)) if x is None else np.asarray(x).T


def _contains(outer: FloatArray, inner: FloatArray) -> bool:
    """Whether every row of `inner` is one of `outer`'s."""
    return all(any(np.array_equal(row, other) for other in outer) for row in inner)


def _inside(small: FloatArray, large: FloatArray) -> bool:
    """Whether the columns of `small` lie in the span of those of `large`."""
    if small is large:
        return True
    if small.shape[1] > large.shape[1]:
        return False
    if _contains(large.T, small.T):
        return True
    basis, _ = np.linalg.qr(large)
    rest = small - basis @ (basis.T @ small)
    size = np.sqrt((small**2).sum(axis=0))
    return bool((np.sqrt((rest**2).sum(axis=0)) <= 1e-8 * size).all())


def null_distribution(small: Fit, large: Fit) -> NullDistribution:
    """
    Null distribution of the likelihood ratio of two fits, of which one is a case.

    Without components if the models are not nested; `known` is False if only the
    naive chi-square, which is conservative, can be offered.
    """
    difference = large.k_estimated - small.k_estimated
    reason = _not_nested(small, large)
    if reason:
        return NullDistribution((), (), f"not nested: {reason}", False)
    if difference <= 0:
        return NullDistribution((), (), "no parameter is tested", False)
    plain = NullDistribution((difference,), (1.0,), "")
    boundary = small.singular or small.residual_at_boundary
    added = _free_entries(large)[0] - _free_entries(small)[0]
    found = _residual_nesting(small, large)
    edges = added + len(found.edges)
    if edges == 0 and not found.irregular:
        return plain
    if edges == 1 and not found.irregular and (found.edges or not boundary):
        note = "a variance of zero is on the boundary"
        return _half(difference, found.edges[0] if found.edges else note)
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


def _free_entries(fit: Fit) -> tuple[int, int]:
    """Numbers of estimated variances, and covariances of random effects."""
    free = fit.layout.is_free
    rows, columns = fit.layout.tril
    block = free[: len(rows)]
    variances = int(block[rows == columns].sum()) + int(free[len(rows) :].sum())
    return variances, int(block[rows != columns].sum())


def _residual_nesting(small: Fit, large: Fit) -> Nesting:
    """How the residual structure of one is a case of the other's."""
    return nesting(small.structure, large.structure, large.data.grouped.gaps)


def _not_nested(small: Fit, large: Fit) -> str:
    """Why one model is no case of the other; empty if it is."""
    a, b = small.data, large.data
    if not _inside(a.exog, b.exog):
        return "the fixed effects of one are not among those of the other"
    inner, outer = _columns(a.exog_re), _columns(b.exog_re)
    if len(inner) > len(outer) or not _contains(outer, inner):
        return "the random effects of one are not among those of the other"
    if len(inner) and not np.array_equal(a.codes, b.codes):
        return "the groups differ"
    if not set(a.component_names) <= set(b.component_names):
        return "the variance components of one are not among those of the other"
    if _free_entries(small)[1] > _free_entries(large)[1]:
        return "the smaller model has more covariances of random effects"
    if not _same_series(small, large):
        return "times or series of the residuals differ"
    return _residual_nesting(small, large).apart


def _same_series(small: Fit, large: Fit) -> bool:
    """Whether two structures that read times see the rows in the same order."""
    if not all(
        one.structure.needs_distinct_times
        and (
            one.structure.uses_time
            or any(mark.kind == "level" for mark in one.structure.marks)
        )
        for one in (small, large)
    ):
        return True
    a, b = small.data.grouped, large.data.grouped
    orders = [np.arange(len(g.gaps)) if g.order is None else g.order for g in (a, b)]
    same = np.array_equal(orders[0], orders[1])
    return same and np.array_equal(a.first_of_series, b.first_of_series)
