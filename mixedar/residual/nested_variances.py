"""
Which variance functions are special cases of which others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mixedar.variance.base import FITTED, VarianceFunction
from mixedar.variance.combination import VarComb
from mixedar.variance.const_power import VarConstPower
from mixedar.variance.covariate import CovariateVariance
from mixedar.variance.exponential import VarExp
from mixedar.variance.ident import VarIdent
from mixedar.variance.log_linear import VarLogLinear
from mixedar.variance.power import VarPower

__all__ = ["Nesting", "variance_nesting"]


@dataclass(frozen=True)
class Nesting:
    """
    Whether a smaller model is a case of a larger one, and where in its space.

    Attributes
    ----------
    edges : tuple of str
        Parameters of the larger model that are at an end of their range.
    irregular : str
        Why the likelihood ratio has no regular distribution; empty if it has.
    apart : str
        Why it is no case at all; empty if it is.
    """

    edges: tuple[str, ...] = ()
    irregular: str = ""
    apart: str = ""

    @property
    def holds(self) -> bool:
        """Whether the smaller model is a case of the larger one."""
        return not self.apart

    def times(self, count: int) -> Nesting:
        """The same in each of several strata."""
        return Nesting(self.edges * count, self.irregular, self.apart)

    def and_also(self, other: Nesting) -> Nesting:
        """Both at once."""
        return Nesting(
            self.edges + other.edges,
            self.irregular or other.irregular,
            self.apart or other.apart,
        )


def variance_nesting(
    small: VarianceFunction | None, large: VarianceFunction | None
) -> Nesting:
    """
    Whether one variance function is a case of another.

    Parameters
    ----------
    small, large : VarianceFunction or None
        Bound to the same data; None stands for one variance.

    Returns
    -------
    Nesting
    """
    rest = _functions(large)
    out = Nesting()
    unmatched = []
    for one in _functions(small):
        twin = next((two for two in rest if _same(one, two)), None)
        if twin is None:
            unmatched.append(one)
        else:
            rest.remove(twin)
    for one in unmatched:
        wider = next((two for two in rest if _inside(one, two) is not None), None)
        if wider is None:
            return Nesting(apart=f"only the smaller model has {one.label}")
        rest.remove(wider)
        found = _inside(one, wider)
        assert found is not None
        out = out.and_also(found)
    for two in rest:
        out = out.and_also(_from_constant(two))
    if rest and any(mark.column == FITTED for two in rest for mark in two.marks):
        irregular = "the variance function reads fitted values, which differ"
        out = out.and_also(Nesting(irregular=irregular))
    return out


def _functions(variance: VarianceFunction | None) -> list[VarianceFunction]:
    if variance is None:
        return []
    return list(variance.functions) if isinstance(variance, VarComb) else [variance]


def _same(one: Any, two: Any) -> bool:
    if type(one) is not type(two) or one.marks != two.marks:
        return False
    if one.k_free != two.k_free:
        # held at values that lie inside the range of free ones
        return bool(one.k_free == 0)
    return bool(one.k_free > 0 or one == two)


def _inside(one: Any, two: Any) -> Nesting | None:
    """A function that another one contains; None if it does not."""
    if one.k_free == 0 or two.k_free == 0:
        return None
    kinds = type(one), type(two)
    if kinds == (VarPower, VarConstPower) and one.marks == two.marks:
        count = len(two.moments)
        return Nesting(edges=("a constant of zero is on the boundary",)).times(count)
    if kinds == (VarIdent, VarIdent) and _strata(one) < _strata(two):
        return Nesting()
    if kinds == (VarLogLinear, VarLogLinear) and set(one.columns) <= set(two.columns):
        return Nesting()
    covariates = isinstance(one, CovariateVariance) and isinstance(two, type(one))
    if covariates and one.column == two.column and one.by is None:
        return Nesting()
    return None


def _strata(function: VarIdent) -> set[str | None]:
    """Columns whose combinations are the strata; None stands for the time."""
    return {mark.column for mark in function.marks}


def _from_constant(large: Any) -> Nesting:
    """Whether one variance for all is a case of a function."""
    if large.k_free and isinstance(large, (VarIdent, VarPower, VarExp, VarLogLinear)):
        return Nesting()
    if large.k_free and isinstance(large, VarConstPower):
        return Nesting(
            irregular="with one variance for all the parameters of constant plus power "
            "cannot be told apart"
        )
    return Nesting(apart=f"only the larger model has {large.label}")
