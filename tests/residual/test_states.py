"""Structures whose correlations pass through a state of few numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helpers.bound_structures import CASES, bound
from mixedar.api import check_structure
from mixedar.exceptions import ContractError, UnsupportedError
from mixedar.residual import (
    AR1,
    ARMA,
    CompoundSymmetry,
    Exponential,
    Gaussian,
    Matern,
    Toeplitz,
    resolve,
)

Array = Any
WITH_STATES = [name for name in CASES if bound(CASES[name])[0].n_states]
TIMES = np.cumsum([0.0, 0.3, 1.0, 0.05, 2.2, 0.7])


def test_which_structures_have_a_state() -> None:
    sizes = {
        AR1(): 1,
        ARMA(2, 1): 2,
        ARMA(1, 3): 4,
        CompoundSymmetry(): 1,
        Exponential(): 1,
        Exponential(coords=("x", "y")): 0,
        Gaussian(): 0,
        Matern(): 0,
        Matern(smoothness=1.0): 0,
        Matern(smoothness=1.5): 2,
        Matern(smoothness=2.5): 3,
        replace(Toeplitz(3), lags=20): 3,
        replace(Toeplitz(), lags=20): 0,
    }
    for structure, size in sizes.items():
        assert structure.n_states == size, structure
    with pytest.raises(UnsupportedError, match="Gaussian residuals have no state"):
        Gaussian().state_space(np.ones((1, 1)), np.zeros(1))


@pytest.mark.parametrize("name", WITH_STATES)
def test_contract_with_gaps(name: str) -> None:
    structure, positions = bound(CASES[name])
    check_structure(structure, positions)
    if structure.integer_time:  # further apart than there are states
        far = positions.copy()
        far[:, 0] = np.cumsum([0, 1, 4, 1, 7, 2])[: len(far)]
        check_structure(structure, far)


@pytest.mark.parametrize("smoothness", [0.5, 1.5, 2.5, 3.5])
@pytest.mark.parametrize("nugget", [False, True])
def test_matern_on_a_line(smoothness: float, nugget: bool) -> None:
    structure = resolve(Matern(smoothness=smoothness, nugget=nugget))
    check_structure(structure, TIMES)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_innovations_of_close_rows_keep_their_digits(order: int) -> None:
    # by Taylor's series the variance is that of the last derivative's integral
    structure = Matern(smoothness=order - 0.5)
    gap = 1e-4
    found = structure.state_space(np.array([[gap]]), np.zeros(1)).innovation.value
    square = {1: 2.0, 2: 4.0, 3: 16.0 / 3.0}[order]
    power = 2 * order - 1
    factor = {1: 1.0, 2: 3.0, 3: 20.0}[order]
    assert found[0, 0, 0] == pytest.approx(square * gap**power / factor, rel=1e-3)


class Wrong(Exponential):
    """Exponential, with a state that forgets too much."""

    def state_space(self, cells: Array, u: Array) -> Any:
        found = super().state_space(cells, u)
        return found._replace(transition=found.transition * 0.9)


class Faster(Exponential):
    """Exponential in the square of the distance: the parent's state is not its own."""

    def cells(self, a: Array, b: Array) -> Array:
        return super().cells(a, b) ** 2


class Weaker(ARMA):
    """ARMA with other correlations: the parent's filter does not make it white."""

    def correlations(self, cells: Array, params: Array) -> Array:
        return 0.9 * super().correlations(cells, params)


def test_other_correlations_do_not_inherit_a_state() -> None:
    assert Faster().n_states == 0
    check_structure(Faster(), TIMES)
    assert Weaker(2, 1).n_states == 0
    assert Weaker(2, 1).innovations(np.zeros(3)) is None
    check_structure(Weaker(2, 1), np.arange(6.0))


class Held(ARMA):
    """ARMA, whose state before the first row is less uncertain than it is."""

    def innovations(self, u: Array) -> Any:
        found = super().innovations(u)
        return found._replace(root=0.9 * found.root)


def test_what_is_new_in_each_row() -> None:
    for orders in (1, 0), (0, 2), (2, 1), (1, 3), (3, 3):
        check_structure(ARMA(*orders), np.arange(6.0))
    check_structure(ARMA(1, 1, phi=[0.6], theta=[0.3], fixed=True), np.arange(6.0))
    with pytest.raises(ContractError, match="not that of a stationary state"):
        check_structure(Held(2, 1), np.arange(6.0))


def test_what_is_wrong_with_a_state() -> None:
    with pytest.raises(ContractError, match="innovation is not P - F P F'"):
        check_structure(Wrong(), TIMES)
