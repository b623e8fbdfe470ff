"""Which residual structures are cases of which others, checked by fitting one to the
other's covariance matrices."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from scipy.optimize import least_squares

from mixedar.residual import (
    AR1,
    ARMA,
    CAR1,
    AnteDependence,
    CompoundSymmetry,
    DataLayout,
    Exponential,
    Gaussian,
    Independent,
    Matern,
    ResidualStructure,
    Spherical,
    Toeplitz,
    Unstructured,
    combine,
    nesting,
    resolve,
)
from mixedar.residual.variance import (
    KnownWeights,
    VarComb,
    VarConstPower,
    VarExp,
    VarIdent,
    VarLogLinear,
    VarPower,
)

Array = Any
TIME = np.arange(4.0)
# a series for each of two strata
ROWS = np.tile(TIME, 2)
STRATUM = np.repeat([0.0, 1.0], len(TIME))
X = np.random.default_rng(3).uniform(0.5, 2.5, len(ROWS))
Z = np.random.default_rng(4).uniform(0.5, 2.5, len(ROWS))


def bound(given: Any, variance: Any = None) -> tuple[ResidualStructure, Array]:
    """A structure bound to two series, and the positions of their rows."""
    structure = combine(resolve(given), variance)
    columns: list[Array] = []
    labels: list[tuple[str, ...] | None] = []
    for mark in structure.marks:
        if mark.kind == "level":
            columns.append(ROWS)
            labels.append(tuple(f"{t:g}" for t in TIME))
        elif mark.kind == "stratum":
            columns.append(STRATUM if mark.column == "arm" else ROWS)
            count = 2 if mark.column == "arm" else len(TIME)
            labels.append(tuple("abcdefg"[:count]))
        else:
            columns.append(X if mark.column == "x" else Z)
            labels.append(None)
    marks = np.column_stack(columns) if columns else np.empty((len(ROWS), 0))
    gaps = np.tile([1.0], 2 * len(TIME) - 2)
    # as if every row were there twice: a stratum has more than one
    twice = np.tile(marks, (2, 1))
    layout = DataLayout(gaps, len(TIME), TIME[-1], twice, tuple(labels))
    return structure.bind_layout(layout), np.column_stack([ROWS, marks])


def matrices(case: tuple[ResidualStructure, Array], u: Array) -> Array:
    """Covariances of both series, as one vector."""
    structure, positions = case
    params = structure.from_unconstrained(u)
    out = []
    for stratum in (0, 1):
        here = stratum == STRATUM
        where = positions[here] if positions.shape[1] > 1 else positions[here, 0]
        out.append(structure.correlation(where, params)[np.tril_indices(len(TIME))])
    return np.concatenate(out)


def reached(small: Any, large: Any, seed: int = 0) -> bool:
    """Whether the larger structure gives covariances of the smaller one."""
    one, two = bound(*small), bound(*large)
    rng = np.random.default_rng(seed)
    target = matrices(one, rng.uniform(0.2, 0.5, one[0].k_free))

    def off(v: Array) -> Array:
        return np.exp(v[-1]) * matrices(two, v[:-1]) - target

    for start in two[0].start_grid():
        try:
            fit = least_squares(off, np.append(start, 0.0), xtol=1e-15)
        except (ValueError, np.linalg.LinAlgError):
            continue
        if fit.cost < 1e-10:
            return True
    return False


CASES: dict[str, Any] = {
    "independent": (Independent(),),
    "ar1": (AR1(),),
    "car1": (CAR1(),),
    "cs": (CompoundSymmetry(),),
    "arma11": (ARMA(1, 1),),
    "ma1": (ARMA(0, 1),),
    "ar2": (ARMA(2, 0),),
    "toep": (Toeplitz(),),
    "toep2": (Toeplitz(2),),
    "ad": (AnteDependence(),),
    "unr": (Unstructured(),),
    "exp": (Exponential(),),
    "gau": (Gaussian(),),
    "sph": (Spherical(),),
    "mat": (Matern(),),
    "ar1 nugget": (AR1(nugget=True),),
    "gau nugget": (Gaussian(nugget=True),),
    "ar1 by": (AR1(by="arm"),),
    "cs by": (CompoundSymmetry(by="arm"),),
    "unr by": (Unstructured(by="arm"),),
    "ar1h": ("ar1h",),
    "un": ("un",),
    "adh": ("adh",),
    "fixed": (AR1(0.4, fixed=True),),
    "power": ("ar1", VarPower("x")),
    "power by": ("ar1", VarPower("x", by="arm")),
    "exponential": ("ar1", VarExp("x")),
    "constant": ("ar1", VarConstPower("x")),
    "ident": ("ar1", VarIdent("arm")),
    "ident2": ("ar1", VarIdent(("arm", "wave"))),
    "both": ("arma11", VarComb(VarIdent("arm"), VarPower("x"))),
    "linear": ("ar1", VarLogLinear(columns=("x",))),
    "linear2": ("ar1", VarLogLinear(columns=("x", "z"))),
    "known": ("ar1", KnownWeights("x")),
    "known ident": ("ar1", VarComb(KnownWeights("x"), VarIdent("arm"))),
}

GAPS = np.ones(3)


def found(small: str, large: str, gaps: Array = GAPS) -> Any:
    return nesting(bound(*CASES[small])[0], bound(*CASES[large])[0], gaps)


def regular(small: str, large: str) -> bool:
    result = found(small, large)
    return result.holds and not result.edges and not result.irregular


REGULAR = [
    (small, large)
    for small in CASES
    for large in CASES
    if small != large and regular(small, large)
]


def test_there_are_many_regular_pairs() -> None:
    assert len(REGULAR) > 150


@pytest.mark.parametrize("large", [name for name in CASES if name != "unr by"])
def test_regular_cases_are_reached(large: str) -> None:
    for small, other in REGULAR:
        if other == large:
            assert reached(CASES[small], CASES[large]), small


APART = """
    ar1 < cs, cs < ar1, cs < ad, cs < exp, ar1 < ma1, ma1 < ar1, ar1 < toep2
    ar2 < toep2, arma11 < ar2, ar2 < arma11, toep < arma11, toep < ad, ad < toep
    unr < toep, un < unr, ar1 by < ar1, ar1 by < unr, ar1h < ar1, ar1h < unr
    power < ar1, power < ident, ident < power, power by < power, constant < power
    linear2 < linear, both < ident, known < ar1, ar1 < known, gau < exp, exp < gau
    ar1 nugget < ar1, gau nugget < arma11, ar1 < independent, unr < independent
    ar1 < fixed, fixed < cs, independent < known
"""


@pytest.mark.parametrize("pair", re.findall(r"\w[^,\n]* < [^,\n]+", APART))
def test_apart(pair: str) -> None:
    small, large = pair.split(" < ")
    result = found(small, large)
    assert not result.holds
    assert result.apart


@pytest.mark.parametrize(
    ("small", "large", "edges"),
    [
        ("independent", "car1", 1),
        ("independent", "exp", 1),
        ("ar1", "ar1 nugget", 1),
        ("gau", "gau nugget", 1),
        ("power", "constant", 1),
    ],
)
def test_on_the_edge(small: str, large: str, edges: int) -> None:
    result = found(small, large)
    assert result.holds
    assert len(result.edges) == edges
    assert not result.irregular


def test_edges_are_counted() -> None:
    by = nesting(Independent(), bound(CAR1(by="arm"))[0], GAPS)
    assert len(by.edges) == 2
    both = nesting(
        Independent(), bound(CAR1(), VarConstPower("x"))[0], np.array([1.0, 2.0])
    )
    assert both.irregular
    power = nesting(
        bound(Gaussian(), VarPower("x"))[0],
        bound(Gaussian(nugget=True), VarConstPower("x"))[0],
        GAPS,
    )
    assert len(power.edges) == 2


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ("independent", "arma11"),
        ("independent", "ar1 nugget"),
        ("independent", "gau"),
        ("independent", "mat"),
        ("ar1", "constant"),
    ],
)
def test_not_identified(small: str, large: str) -> None:
    assert found(small, large).holds
    assert found(small, large).irregular


def test_gaps_matter() -> None:
    unequal, doubled, odd = np.array([1.0, 2.0]), np.full(3, 2.0), np.array([2.0, 3.0])
    assert found("independent", "car1", unequal).irregular
    assert found("independent", "exp", unequal).irregular
    assert not found("independent", "ar1", unequal).edges
    # rho and -rho are one model
    assert len(found("independent", "ar1", doubled).edges) == 1
    assert found("independent", "ar1", odd).irregular
    assert not found("independent", "ar1", np.empty(0)).irregular


def test_orders() -> None:
    for small, large, holds, plain in [
        (ARMA(1, 0), ARMA(2, 0), True, True),
        (ARMA(1, 1), ARMA(2, 2), True, False),
        (ARMA(1, 1), ARMA(1, 3), True, True),
        (ARMA(2, 1), ARMA(1, 3), False, False),
    ]:
        result = nesting(small, large, GAPS)
        assert result.holds is holds
        assert (not result.irregular and result.holds) is plain


def test_fitted_values_are_no_regular_comparison() -> None:
    one, two = bound(AR1())[0], combine(AR1(), VarPower())
    assert "fitted values" in nesting(one, two, GAPS).irregular


def test_a_structure_of_ones_own_is_not_known() -> None:
    class Own(AR1):
        code = "own"
        label = "own"

    result = nesting(Independent(), Own(), GAPS)
    assert result.holds  # it is an AR(1)
    assert not nesting(CompoundSymmetry(), Own(), GAPS).holds


def test_metrics_are_of_different_models() -> None:
    gaps = np.ones(1)
    place = {"coords": ("x", "y"), "nugget": True}
    one = resolve(Exponential(**place, metric="manhattan"))
    assert nesting(one, resolve(Exponential(**place)), gaps).apart
    assert not nesting(one, resolve(Matern(**place, metric="manhattan")), gaps).apart
    # on a line they are the same
    line = resolve(Exponential(coords="x", metric="manhattan"))
    assert not nesting(line, resolve(Matern(coords="x")), gaps).apart
