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

from mixedar.fit import Fit
from mixedar.inference.terms.comparable import ZERO_VARIANCE, model_nesting


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
    boundary = small.singular or small.residual_at_boundary
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
