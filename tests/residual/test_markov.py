"""Independent and Markov structures keep the contract; names are understood."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import contracts, oracle
from mixedar.exceptions import MixedARError, UnsupportedError
from mixedar.residual import (
    AR1,
    CAR1,
    STRUCTURES,
    Independent,
    MarkovStructure,
    ResidualStructure,
    resolve,
)

# Parameters at which each structure is tried; test_residual_family.py has the rest.
PARAMETERS: dict[str, list[list[float]]] = {
    "independent": [[]],
    "ar1": [[0.0], [0.6], [-0.7], [0.99], [-0.99], [1e-8]],
    "car1": [[0.05], [0.6], [0.99], [1e-4]],
}
MODERATE: dict[str, list[list[float]]] = {
    code: [p for p in values if not p or 0.01 < abs(p[0]) < 0.98 or p[0] == 0.0]
    for code, values in PARAMETERS.items()
}

CASES = [
    pytest.param(STRUCTURES[code](), np.array(p, dtype=float), id=f"{code}{p}")
    for code in PARAMETERS
    for p in PARAMETERS[code]
]
MODERATE_CASES = [
    pytest.param(STRUCTURES[code](), np.array(p, dtype=float), id=f"{code}{p}")
    for code in PARAMETERS
    for p in MODERATE[code]
]
INTEGER_GAPS = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
REAL_GAPS = np.array([0.01, 0.3, 1.0, 1.7, 2.5, 9.0])


@pytest.mark.parametrize("code", STRUCTURES)
def test_registry(code: str) -> None:
    cls = STRUCTURES[code]
    structure = resolve(code)
    assert type(structure) is cls
    assert structure.code == code
    assert structure.label
    assert resolve(structure) is structure
    assert resolve(cls) == structure == resolve(code.upper())
    assert cls.__doc__
    assert pickle.loads(pickle.dumps(structure)) == structure
    assert hash(structure) == hash(resolve(code))


@pytest.mark.parametrize("n", contracts.SIZES)
@pytest.mark.parametrize(("structure", "params"), MODERATE_CASES)
def test_whitening(structure: ResidualStructure, params: Any, n: int) -> None:
    contracts.check_structure(structure, params, contracts.times(structure, n))


@pytest.mark.parametrize(("structure", "params"), CASES)
def test_whitening_keeps_its_argument(
    structure: ResidualStructure, params: Any
) -> None:
    contracts.check_whitening_leaves_input(structure, params)


@pytest.mark.parametrize("n", contracts.SIZES)
@pytest.mark.parametrize(("structure", "params"), CASES)
def test_pair_correlations(structure: ResidualStructure, params: Any, n: int) -> None:
    time = contracts.times(structure, n)
    contracts.check_pair_correlations(structure, params, time)


@pytest.mark.parametrize(("structure", "params"), CASES)
def test_round_trip_of_parameters(structure: ResidualStructure, params: Any) -> None:
    contracts.check_parameters(structure, params)


@pytest.mark.parametrize("code", PARAMETERS)
def test_extreme_steps(code: str) -> None:
    contracts.check_extremes(resolve(code))


@pytest.mark.parametrize("code", PARAMETERS)
@pytest.mark.parametrize("gap", [1.0, 7.0, 30.0, 365.0])
def test_starting_values(code: str, gap: float) -> None:
    contracts.check_starts(resolve(code))
    bound = resolve(code).bind(np.array([gap, gap, 2.0 * gap]))
    contracts.check_starts(bound)
    if bound.k_free:
        # whatever the unit of time, starts differ in what neighbours share
        near = [
            bound.correlation(np.array([0.0, gap]), bound.from_unconstrained(u))[0, 1]
            for u in bound.start_grid()
        ]
        assert max(near) > 0.7
        assert np.ptp(near) > 0.5


@pytest.mark.parametrize(("structure", "params"), CASES)
def test_derivatives(structure: ResidualStructure, params: Any) -> None:
    if not isinstance(structure, MarkovStructure):
        return
    u = structure.to_unconstrained(params)
    gaps = INTEGER_GAPS if structure.integer_time else REAL_GAPS
    contracts.check_derivatives(structure, u, gaps)


@pytest.mark.parametrize("code", PARAMETERS)
def test_a_fixed_structure_has_nothing_to_estimate(code: str) -> None:
    if not STRUCTURES[code].param_names:
        return
    structure: Any = STRUCTURES[code]
    fixed = structure(0.4, fixed=True)
    assert fixed.k_free == 0
    assert fixed.k_params == 1
    contracts.check_starts(fixed)
    contracts.check_parameters(fixed, np.array([0.4]))
    contracts.check_structure(fixed, np.array([0.4]), contracts.times(fixed, 7))
    contracts.check_derivatives(fixed, np.empty(0), INTEGER_GAPS)
    np.testing.assert_array_equal(fixed.from_unconstrained(np.empty(0)), [0.4])


@pytest.mark.parametrize(
    ("structure", "scale"), [(CAR1(), 0.01), (CAR1(), 1.0), (CAR1(), 365.0)]
)
def test_binding_changes_the_coordinates_not_the_model(
    structure: CAR1, scale: float
) -> None:
    bound = structure.bind(scale * np.array([0.5, 1.0, 3.0]))
    rho = 0.5 ** (1.0 / scale)
    time = scale * contracts.times(structure, 7)
    contracts.check_structure(bound, np.array([rho]), time)
    contracts.check_parameters(bound, np.array([rho]))
    contracts.check_starts(bound)
    contracts.check_derivatives(bound, bound.to_unconstrained([rho]), scale * REAL_GAPS)
    np.testing.assert_allclose(
        bound.correlation(time, [rho]), structure.correlation(time, [rho])
    )


@given(
    rho=st.floats(-0.99, 0.99),
    gaps=st.lists(st.integers(1, 9), min_size=0, max_size=12),
)
def test_ar1_is_the_textbook_matrix(rho: float, gaps: list[int]) -> None:
    time = np.cumsum([3, *gaps]).astype(float)
    np.testing.assert_allclose(
        AR1().correlation(time, [rho]), oracle.correlation(time, rho), rtol=1e-12
    )
    contracts.check_structure(AR1(), np.array([rho]), time)


@given(
    rho=st.floats(0.01, 0.99),
    gaps=st.lists(st.floats(0.02, 20.0), min_size=0, max_size=12),
)
def test_car1_is_the_textbook_matrix(rho: float, gaps: list[float]) -> None:
    time = np.cumsum([-2.5, *gaps])
    np.testing.assert_allclose(
        CAR1().correlation(time, [rho]), oracle.correlation(time, rho), rtol=1e-12
    )
    contracts.check_structure(CAR1(), np.array([rho]), time)


@given(u=st.floats(-4.0, 4.0), gap=st.integers(1, 6))
def test_ar1_derivatives_anywhere(u: float, gap: int) -> None:
    contracts.check_derivatives(AR1(), np.array([u]), np.array([float(gap)]))


@given(u=st.floats(-5.0, 5.0), gap=st.floats(0.1, 6.0))
def test_car1_derivatives_anywhere(u: float, gap: float) -> None:
    contracts.check_derivatives(CAR1(), np.array([u]), np.array([gap]))


def test_car1_is_ar1_on_integers() -> None:
    rho = 0.63
    first, second = AR1(), CAR1()
    gaps = INTEGER_GAPS
    a = first.step(gaps, first.to_unconstrained([rho]))
    b = second.step(gaps, second.to_unconstrained([rho]))
    np.testing.assert_allclose(a.phi, b.phi)
    np.testing.assert_allclose(a.complement, b.complement)
    # one parameter, two coordinates: derivatives differ by the chain rule
    slope_a = first.natural(first.to_unconstrained([rho])).first[0, 0]
    slope_b = second.natural(second.to_unconstrained([rho])).first[0, 0]
    np.testing.assert_allclose(a.d1 / slope_a, b.d1 / slope_b)


def test_complement_keeps_its_digits() -> None:
    # 1 - phi^2 where phi rounds to one
    structure = CAR1()
    u = np.array([12.0])
    value = structure.step(np.array([1e-9]), u)
    expected = -np.expm1(-2e-9 * np.log1p(np.exp(-12.0)))
    np.testing.assert_allclose(value.complement, expected, rtol=1e-10)


def test_independent_ignores_times() -> None:
    structure = Independent()
    assert not structure.needs_distinct_times
    np.testing.assert_array_equal(structure.correlation(np.zeros(3), []), np.eye(3))


@pytest.mark.parametrize(
    "name", ["AR1", "ar(1)", "corAR1", " ar1 ", "CAR1", "corCAR1", "OU", "iid", "none"]
)
def test_aliases(name: str) -> None:
    assert resolve(name).code in STRUCTURES


@pytest.mark.parametrize("name", ["ar", "", "arr1", "ar 1 2", 3, ["ar1"], int])
def test_unknown_structures(name: Any) -> None:
    with pytest.raises(UnsupportedError, match="'ar1'"):
        resolve(name)


def test_near_misses_are_suggested() -> None:
    with pytest.raises(UnsupportedError, match="did you mean 'ar1'"):
        resolve("arr1")


@pytest.mark.parametrize(
    "rho", [1.0, -1.0, 2, float("nan"), float("inf"), "a", [0.5, 1]]
)
def test_ar1_refuses(rho: Any) -> None:
    with pytest.raises(MixedARError, match="rho"):
        AR1(rho)


@pytest.mark.parametrize("rho", [0.0, 1.0, -0.3, float("nan"), "a"])
def test_car1_refuses(rho: Any) -> None:
    with pytest.raises(MixedARError, match="rho"):
        CAR1(rho)


@pytest.mark.parametrize("structure", [AR1, CAR1])
def test_fixed_needs_a_value(structure: Any) -> None:
    with pytest.raises(UnsupportedError, match="fixed"):
        structure(fixed=True)


def test_a_starting_value_comes_first() -> None:
    for structure in (AR1(-0.35), CAR1(0.35)):
        first = structure.from_unconstrained(structure.start_grid()[0])
        assert structure.rho is not None
        np.testing.assert_allclose(first, [structure.rho])
    assert AR1(0.2).k_free == 1
