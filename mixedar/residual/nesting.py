"""
Which residual structures are special cases of which others.

The likelihood ratio of two structures has its usual chi-square distribution
only if the smaller one lies inside the parameter space of the larger one, with
all parameters identified there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixedar._types import FloatArray
from mixedar.residual.ar1 import AR1, CAR1
from mixedar.residual.arma import ARMA
from mixedar.residual.base import ResidualStructure
from mixedar.residual.markov import Independent
from mixedar.residual.occasions import (
    AnteDependence,
    CompoundSymmetry,
    Toeplitz,
    Unstructured,
)
from mixedar.residual.spatial import DistanceStructure, Exponential, Matern
from mixedar.residual.variance.base import FITTED, VarianceFunction
from mixedar.residual.variance.covariate import CovariateVariance
from mixedar.residual.variance.ident import VarIdent
from mixedar.residual.variance.log_linear import VarLogLinear
from mixedar.residual.variance.of_covariate import VarConstPower, VarExp, VarPower
from mixedar.residual.variance.product import VarComb
from mixedar.residual.wrapped import Heteroscedastic, Nugget, Stratified


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
        count = len(two.scales)
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


_INSIDE = Nesting()


@dataclass(frozen=True)
class _Place:
    """What nesting depends on beside the structures: the gaps of the data."""

    gaps: FloatArray

    @property
    def equal_gaps(self) -> bool:
        return len(self.gaps) == 0 or float(np.ptp(self.gaps)) == 0.0

    @property
    def lattice(self) -> tuple[int, bool]:
        """Common step of whole times, and whether it is a gap itself."""
        if len(self.gaps) == 0:
            return 1, True
        whole = np.unique(self.gaps).astype(np.int64)
        step = int(np.gcd.reduce(whole))
        return step, int(whole[0]) == step


def nesting(
    small: ResidualStructure, large: ResidualStructure, gaps: FloatArray
) -> Nesting:
    """
    Whether one residual structure is a case of another, and where.

    Parameters
    ----------
    small, large : ResidualStructure
        Bound to the same data, variance functions included.
    gaps : ndarray
        Distances between neighbouring times, as the larger one sees them.

    Returns
    -------
    Nesting
    """
    one, first = _parts(small)
    two, second = _parts(large)
    place = _Place(gaps[gaps > 0.0])
    return _correlations(one, two, place).and_also(variance_nesting(first, second))


def _parts(structure: Any) -> tuple[Any, Any]:
    """Correlation and variance function."""
    if isinstance(structure, Heteroscedastic):
        return structure.structure, structure.variance
    return structure, None


def _apart(small: ResidualStructure, large: ResidualStructure) -> Nesting:
    if isinstance(large, Independent):
        return Nesting(apart=f"residuals are {small.label} in the smaller model only")
    return Nesting(
        apart=f"residuals are {small.label} in one and {large.label} in the other"
    )


def _correlations(small: Any, large: Any, place: _Place) -> Nesting:
    if small == large:
        return _INSIDE
    if isinstance(large, Stratified):
        if isinstance(small, Stratified):
            if small.by != large.by:
                return Nesting(apart=f"strata are {small.by!r} and {large.by!r}")
            small = small.structure
        return _correlations(small, large.structure, place).times(len(large.strata))
    if isinstance(small, Stratified):
        return Nesting(apart=f"only the smaller model has parameters by {small.by!r}")
    if _is_held(small) or _is_held(large):
        return _held(small, large, place)
    if isinstance(large, Nugget):
        return _into_nugget(small, large, place)
    if isinstance(small, Nugget):
        return _from_nugget(small, large)
    if isinstance(small, Independent):
        return _from_independent(large, place)
    return _plain(small, large)


def _is_held(structure: Any) -> bool:
    return structure.k_params > 0 and structure.k_free == 0


def _held(small: Any, large: Any, place: _Place) -> Nesting:
    """Parameters held at values lie inside the range of free ones."""
    if _is_held(large) or not hasattr(small, "fixed"):
        return Nesting(apart="parameters are held at values of their own")
    return _correlations(replace(small, fixed=False), large, place)


def _into_nugget(small: Any, large: Nugget, place: _Place) -> Nesting:
    inner = large.structure
    if isinstance(small, Nugget):
        return _correlations(small.structure, inner, place)
    if isinstance(small, Independent):
        return Nesting(
            irregular=f"without correlation the parameters of {large.label} cannot be "
            "told apart"
        )
    edge = Nesting(edges=("a nugget of zero is on the boundary",))
    return _correlations(small, inner, place).and_also(edge)


def _from_nugget(small: Nugget, large: Any) -> Nesting:
    inner = small.structure
    if isinstance(large, Unstructured) and _by_occasion(inner):
        return _INSIDE
    if isinstance(large, Toeplitz) and _every_lag(large) and _by_lag(inner):
        return _INSIDE
    # AR(1) plus noise is an ARMA(1, 1) process (Granger and Morris, 1976)
    if isinstance(inner, AR1) and isinstance(large, ARMA) and large.p and large.q:
        return _INSIDE
    return _apart(small, large)


def _from_independent(large: Any, place: _Place) -> Nesting:
    if isinstance(large, (CompoundSymmetry, Toeplitz, AnteDependence, Unstructured)):
        return _INSIDE
    if isinstance(large, AR1):
        return _into_ar1(place)
    if isinstance(large, ARMA):
        if large.p and large.q:
            return Nesting(
                irregular=f"without correlation the parameters of {large.label} cannot "
                "be told apart"
            )
        return _INSIDE
    line = isinstance(large, CAR1) or (
        isinstance(large, Exponential) and not large.coords
    )
    if line and place.equal_gaps:
        what = "CAR(1)" if isinstance(large, CAR1) else "exponential correlation"
        return Nesting(edges=(f"rho = 0 is the lower end of the range of {what}",))
    if line and isinstance(large, CAR1):
        return Nesting(
            irregular="CAR(1) on unequal gaps has no regular limit at rho = 0"
        )
    if isinstance(large, DistanceStructure):
        return Nesting(
            irregular="correlation by distance has no regular limit at a range of 0"
        )
    return Nesting(
        apart=f"it is not known whether {large.label} residuals can be independent"
    )


def _into_ar1(place: _Place) -> Nesting:
    step, is_gap = place.lattice
    if not is_gap:
        return Nesting(
            irregular="AR(1) without neighbours at its step has no regular limit at "
            "rho = 0"
        )
    if step % 2 == 0:
        return Nesting(
            edges=(
                f"with gaps of {step} only rho^{step} matters, which is not negative",
            )
        )
    return _INSIDE


def _plain(small: Any, large: Any) -> Nesting:
    """Two structures with free parameters, neither of them wrapped."""
    if isinstance(large, Unstructured) and _by_occasion(small):
        return _INSIDE
    if isinstance(large, Toeplitz):
        return _INSIDE if _inside_toeplitz(small, large) else _apart(small, large)
    if isinstance(large, AnteDependence):
        inside = isinstance(small, (AR1, CAR1)) or _on_the_line(small)
        return _INSIDE if inside else _apart(small, large)
    if isinstance(large, (AR1, ARMA)):
        return _into_arma(small, large)
    if isinstance(large, (CAR1, DistanceStructure)):
        return _into_distances(small, large)
    same = type(small) is type(large) and not isinstance(large, Independent)
    return _INSIDE if same else _apart(small, large)


def _orders(structure: Any) -> tuple[int, int] | None:
    if isinstance(structure, ARMA):
        return structure.p, structure.q
    # on a grid of times CAR(1) is AR(1) with positive rho
    single = isinstance(structure, (AR1, CAR1)) or _on_the_line(structure)
    return (1, 0) if single else None


def _into_arma(small: Any, large: Any) -> Nesting:
    one, two = _orders(small), _orders(large)
    assert two is not None
    if one is None or one[0] > two[0] or one[1] > two[1]:
        return _apart(small, large)
    if one[0] < two[0] and one[1] < two[1]:
        return Nesting(
            irregular=f"added orders on both sides cancel out: {large.label} is not "
            f"identified at {small.label}"
        )
    return _INSIDE


def _inside_toeplitz(small: Any, large: Toeplitz) -> bool:
    if _every_lag(large):
        return _by_lag(small)
    if isinstance(small, Toeplitz):
        return small.k_params <= large.k_params
    return isinstance(small, ARMA) and small.p == 0 and small.q <= large.k_params


def _into_distances(small: Any, large: Any) -> Nesting:
    coords = getattr(large, "coords", ())
    if getattr(small, "coords", ()) != coords:
        return _apart(small, large)
    exponential = isinstance(small, (CAR1, Exponential))
    if isinstance(large, Matern):
        free = large.smoothness is None
        if isinstance(small, Matern) and (free or small.smoothness == large.smoothness):
            return _INSIDE
        half = free or large.smoothness == 0.5
        return _INSIDE if exponential and half else _apart(small, large)
    if isinstance(large, (CAR1, Exponential)):
        half = isinstance(small, Matern) and small.smoothness == 0.5
        return _INSIDE if exponential or half else _apart(small, large)
    return _INSIDE if type(small) is type(large) else _apart(small, large)


def _on_the_line(structure: Any) -> bool:
    return isinstance(structure, Exponential) and not structure.coords


def _by_lag(structure: Any) -> bool:
    """Whether correlations depend on the difference of times alone."""
    if isinstance(structure, DistanceStructure):
        return not structure.coords
    return isinstance(structure, (AR1, CAR1, ARMA, CompoundSymmetry, Toeplitz))


def _by_occasion(structure: Any) -> bool:
    """Whether correlations depend on the pair of times alone."""
    return _by_lag(structure) or isinstance(structure, (AnteDependence, Unstructured))


def _every_lag(structure: Toeplitz) -> bool:
    return structure.k_params >= structure.lags
