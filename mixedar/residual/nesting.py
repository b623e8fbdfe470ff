"""
Which residual structures are special cases of which others.

The likelihood ratio of two structures has its usual chi-square distribution
only if the smaller one lies inside the parameter space of the larger one, with
all parameters identified there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
        return replace(self, edges=self.edges * count)

    def and_also(self, other: Nesting) -> Nesting:
        """Both at once."""
        return Nesting(
            self.edges + other.edges,
            self.irregular or other.irregular,
            self.apart or other.apart,
        )


_INSIDE = Nesting()


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
    (one, first), (two, second) = _parts(small), _parts(large)
    return _correlations(one, two, gaps[gaps > 0.0]).and_also(_variances(first, second))


def _parts(
    structure: ResidualStructure,
) -> tuple[ResidualStructure, Sequence[VarianceFunction]]:
    """The correlation, and the functions whose product the standard deviation is."""
    if not isinstance(structure, Heteroscedastic):
        return structure, ()
    variance = structure.variance
    functions = variance.functions if isinstance(variance, VarComb) else (variance,)
    return structure.structure, functions


def _variances(
    small: Sequence[VarianceFunction], large: Sequence[VarianceFunction]
) -> Nesting:
    """Whether one product of variance functions is a case of another."""
    out, left, rest = _INSIDE, list(small), list(large)
    for case in (_same, _inside):
        for one in list(left):
            for two in rest:
                found = case(one, two)
                if found is not None:
                    out = out.and_also(found)
                    left.remove(one)
                    rest.remove(two)
                    break
    if left:
        return Nesting(apart=f"only the smaller model has {left[0].label}")
    for two in rest:
        out = out.and_also(_from_constant(two))
    if any(mark.column == FITTED for two in rest for mark in two.marks):
        irregular = "the variance function reads fitted values, which differ"
        out = out.and_also(Nesting(irregular=irregular))
    return out


def _same(one: VarianceFunction, two: VarianceFunction) -> Nesting | None:
    """Two functions of one kind that read the same; None for others."""
    if type(one) is not type(two) or one.marks != two.marks:
        return None
    # values that are held lie inside the range of free ones
    free = one.k_free, two.k_free
    same = free[0] == 0 if free[0] != free[1] else free[0] > 0 or one == two
    return _INSIDE if same else None


def _inside(one: VarianceFunction, two: VarianceFunction) -> Nesting | None:
    """A function that another one contains; None if it does not."""
    if one.k_free == 0 or two.k_free == 0:
        return None
    if isinstance(one, VarPower) and isinstance(two, VarConstPower):
        edge = Nesting(edges=("a constant of zero is on the boundary",))
        return edge.times(len(two.scales)) if one.marks == two.marks else None
    if isinstance(one, VarIdent) and isinstance(two, VarIdent):
        inside = set(one.marks) < set(two.marks)
    elif isinstance(one, VarLogLinear) and isinstance(two, VarLogLinear):
        inside = set(one.columns) <= set(two.columns)
    elif isinstance(one, CovariateVariance) and isinstance(two, type(one)):
        inside = one.column == two.column and one.by is None
    else:
        return None
    return _INSIDE if inside else None


def _from_constant(large: VarianceFunction) -> Nesting:
    """Whether one variance for all is a case of a function."""
    if large.k_free and isinstance(large, (VarIdent, VarPower, VarExp, VarLogLinear)):
        return _INSIDE
    if large.k_free and isinstance(large, VarConstPower):
        return Nesting(
            irregular="with one variance for all the parameters of constant plus power "
            "cannot be told apart"
        )
    return Nesting(apart=f"only the larger model has {large.label}")


def _correlations(
    small: ResidualStructure, large: ResidualStructure, gaps: FloatArray
) -> Nesting:
    """Whether one correlation is a case of another, whatever they are wrapped in."""
    if small == large:
        return _INSIDE
    if isinstance(large, Stratified):
        if isinstance(small, Stratified):
            if small.by != large.by:
                return Nesting(apart=f"strata are {small.by!r} and {large.by!r}")
            small = small.structure
        return _correlations(small, large.structure, gaps).times(len(large.strata))
    if isinstance(small, Stratified):
        return Nesting(apart=f"only the smaller model has parameters by {small.by!r}")
    if _is_held(large):
        return Nesting(apart="parameters are held at values of their own")
    if _is_held(small):  # at values inside the range of free parameters
        free = replace(small, fixed=False)  # type: ignore[type-var]
        return _correlations(free, large, gaps)
    if isinstance(large, Nugget):
        inner = large.structure
        if isinstance(small, Nugget):
            return _correlations(small.structure, inner, gaps)
        if isinstance(small, Independent):
            return _not_told_apart(large)
        edge = Nesting(edges=("a nugget of zero is on the boundary",))
        return _correlations(small, inner, gaps).and_also(edge)
    if isinstance(small, Independent):
        return _from_independent(large, gaps)
    if isinstance(small, Nugget):
        inside = _with_nugget(small.structure, large)
    else:
        orders, more = _orders(small), _orders(large)
        inside = _without_nugget(small, large)
        if inside and orders and more and orders[0] < more[0] and orders[1] < more[1]:
            return Nesting(
                irregular=f"added orders on both sides cancel out: {large.label} is "
                f"not identified at {small.label}"
            )
    if inside:
        return _INSIDE
    if isinstance(large, Independent):
        return Nesting(apart=f"residuals are {small.label} in the smaller model only")
    return Nesting(
        apart=f"residuals are {small.label} in one and {large.label} in the other"
    )


def _is_held(structure: ResidualStructure) -> bool:
    return structure.k_params > 0 and structure.k_free == 0


def _not_told_apart(large: ResidualStructure) -> Nesting:
    return Nesting(
        irregular=f"without correlation the parameters of {large.label} cannot be told "
        "apart"
    )


def _from_independent(large: ResidualStructure, gaps: FloatArray) -> Nesting:
    """Whether independence is a case of a structure, at an end of its range or not."""
    if isinstance(large, (CompoundSymmetry, Toeplitz, AnteDependence, Unstructured)):
        return _INSIDE
    if isinstance(large, AR1):
        return _into_ar1(gaps)
    if isinstance(large, ARMA):
        return _not_told_apart(large) if large.p and large.q else _INSIDE
    line = isinstance(large, CAR1) or _on_the_line(large)
    if line and (len(gaps) == 0 or float(np.ptp(gaps)) == 0.0):
        what = "CAR(1)" if isinstance(large, CAR1) else "exponential correlation"
        return Nesting(edges=(f"rho = 0 is the lower end of the range of {what}",))
    if isinstance(large, CAR1):
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


def _into_ar1(gaps: FloatArray) -> Nesting:
    whole = np.unique(gaps).astype(np.int64)
    step = int(np.gcd.reduce(whole)) if len(whole) else 1
    if len(whole) and whole[0] != step:
        return Nesting(
            irregular="AR(1) without neighbours at its step has no regular limit at "
            "rho = 0"
        )
    if step % 2:
        return _INSIDE
    edge = f"with gaps of {step} only rho^{step} matters, which is not negative"
    return Nesting(edges=(edge,))


def _with_nugget(inner: ResidualStructure, large: ResidualStructure) -> bool:
    """Whether a structure contains another one plus measurement error."""
    if isinstance(large, Unstructured):
        return _by_occasion(inner)
    if isinstance(large, Toeplitz):
        return _every_lag(large) and _by_lag(inner)
    # AR(1) plus noise is an ARMA(1, 1) process (Granger and Morris, 1976)
    both = isinstance(large, ARMA) and bool(large.p and large.q)
    return both and isinstance(inner, AR1)


def _without_nugget(small: ResidualStructure, large: ResidualStructure) -> bool:
    """Whether a structure with free parameters contains another one."""
    if isinstance(large, Unstructured):
        return _by_occasion(small)
    if isinstance(large, Toeplitz):
        if _every_lag(large):
            return _by_lag(small)
        if isinstance(small, Toeplitz):
            return small.k_params <= large.k_params
        return isinstance(small, ARMA) and small.p == 0 and small.q <= large.k_params
    if isinstance(large, AnteDependence) and not isinstance(small, AnteDependence):
        return isinstance(small, (AR1, CAR1)) or _on_the_line(small)
    if isinstance(large, (AR1, ARMA)):
        one, two = _orders(small), _orders(large)
        assert two is not None
        return one is not None and one[0] <= two[0] and one[1] <= two[1]
    if _distances(small) != _distances(large):
        return False
    v, w = _smoothness(small), _smoothness(large)
    if v is None or w is None:
        return type(small) is type(large)
    return w == np.inf or v == w


def _orders(structure: ResidualStructure) -> tuple[int, int] | None:
    """Orders of an ARMA process on a grid of times, where CAR(1) is AR(1)."""
    if isinstance(structure, ARMA):
        return structure.p, structure.q
    single = isinstance(structure, (AR1, CAR1)) or _on_the_line(structure)
    return (1, 0) if single else None


def _distances(structure: ResidualStructure) -> tuple[tuple[str, ...], str]:
    """Coordinates, and how their differences make a distance."""
    if not isinstance(structure, DistanceStructure):
        return (), ""
    return structure.coords, structure.metric if len(structure.coords) > 1 else ""


def _smoothness(structure: ResidualStructure) -> float | None:
    """Of a case of Matern's; infinite if it is estimated."""
    if isinstance(structure, Matern):
        return np.inf if structure.smoothness is None else structure.smoothness
    return 0.5 if isinstance(structure, (CAR1, Exponential)) else None


def _on_the_line(structure: ResidualStructure) -> bool:
    return isinstance(structure, Exponential) and not structure.coords


def _by_lag(structure: ResidualStructure) -> bool:
    """Whether correlations depend on the difference of times alone."""
    if isinstance(structure, DistanceStructure):
        return not structure.coords
    return isinstance(structure, (AR1, CAR1, ARMA, CompoundSymmetry, Toeplitz))


def _by_occasion(structure: ResidualStructure) -> bool:
    """Whether correlations depend on the pair of times alone."""
    return _by_lag(structure) or isinstance(structure, (AnteDependence, Unstructured))


def _every_lag(structure: Toeplitz) -> bool:
    return structure.k_params >= structure.lags
