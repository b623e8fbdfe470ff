"""The public check of a structure accepts ours and says what is wrong with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from helpers.bound_structures import CASES, TIME, bound
from mixedar.exceptions import ContractError, MixedARError
from mixedar.numeric.autodiff import Jet, clip, stack
from mixedar.residual import AR1, FormulaStructure, check_structure
from mixedar.residual.base import Parametric

Array = Any


@pytest.mark.parametrize("name", CASES)
def test_ours_pass(name: str) -> None:
    structure, positions = bound(CASES[name])
    found = check_structure(CASES[name], positions)
    assert found.k_params == structure.k_params
    u = structure.start_grid()[-1]
    check_structure(structure, positions, structure.from_unconstrained(u))


@dataclass(frozen=True)
class Decay(FormulaStructure):
    """A right one: exponential decay with a sill."""

    code: ClassVar[str] = "decay"
    label: ClassVar[str] = "decay"
    param_names: ClassVar[tuple[str, ...]] = ("range", "sill")

    def start_grid(self) -> Sequence[Array]:
        return [np.zeros(2), np.array([1.0, 0.5])]

    def to_unconstrained(self, params: Any) -> Array:
        scale, sill = np.asarray(params)
        return np.array([np.log(scale), np.arctanh(2.0 * sill - 1.0)])

    def from_variables(self, u: Jet) -> Jet:
        u = clip(u, -9.0, 9.0)
        return stack([np.exp(u[0]), 0.5 * (np.tanh(u[1]) + 1.0)], u.k)

    def correlations(self, cells: Array, params: Any) -> Any:
        return params[1] * np.exp(-cells[:, 0] / params[0])

    def at_boundary(self, params: Any) -> bool:
        scale, sill = np.asarray(params)
        return not (1e-3 < scale < 1e3 and 1e-6 < sill < 1.0 - 1e-6)


def test_a_right_one_passes() -> None:
    check_structure(Decay, TIME, [0.7, 0.3])
    check_structure(Decay(), TIME[:, None])


class Inverse(Decay):
    def to_unconstrained(self, params: Any) -> Array:
        return np.asarray(params)


class Names(Decay):
    param_names = ("range", "range")


class Starts(Decay):
    def start_grid(self) -> Sequence[Array]:
        return [np.zeros(3)]


class NoStarts(Decay):
    def start_grid(self) -> Sequence[Array]:
        return []


class EdgeStarts(Decay):
    def start_grid(self) -> Sequence[Array]:
        return [np.array([9.0, 0.0])]


class Links(Decay):
    @property
    def links(self) -> Any:
        return ("positive", "share")


class Unlabelled(Decay):
    label = ""


class Mutable(Decay):
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class Slopes(Decay):
    def cell_values(self, cells: Array, u: Array) -> Jet:
        good = super().cell_values(cells, u)
        return Jet(good.value, 1.01 * good.first, good.second)


class Bends(Decay):
    def cell_values(self, cells: Array, u: Array) -> Jet:
        good = super().cell_values(cells, u)
        return Jet(good.value, good.first, good.second + 0.1)


class ShapesOfDerivatives(Decay):
    def cell_values(self, cells: Array, u: Array) -> Jet:
        good = super().cell_values(cells, u)
        return Jet(good.value, good.first[:1], good.second)


class Natural(Decay):
    def from_unconstrained(self, u: Any) -> Array:
        return super().from_unconstrained(u) * 1.001


class Order(Decay):
    def cells(self, a: Array, b: Array) -> Array:
        return np.abs(a[:, :1] - 0.9 * b[:, :1])


class FlatCells(Decay):
    def cells(self, a: Array, b: Array) -> Array:
        return np.abs(a[:, 0] - b[:, 0])


class TooLarge(Decay):
    def correlations(self, cells: Array, params: Any) -> Any:
        return 4.0 * super().correlations(cells, params)


class Indefinite(Decay):
    def correlations(self, cells: Array, params: Any) -> Any:
        return -0.95 + 0.0 * super().correlations(cells, params)


class Values(Decay):
    def correlations(self, cells: Array, params: Any) -> Any:
        out = super().correlations(cells, params)
        return out if isinstance(out, Jet) else 0.5 * out


class Unclipped(Decay):
    def from_variables(self, u: Jet) -> Jet:
        return stack([np.exp(u[0]), 0.5 * (np.tanh(u[1]) + 1.0)], u.k)


class Neither(Decay):
    from_variables = Parametric.from_variables


class Diagonal(Decay):
    def correlation(self, time: Array, params: Any) -> Array:
        return 2.0 * super().correlation(time, params)


@pytest.mark.parametrize(
    ("structure", "match"),
    [
        (Inverse, "does not undo"),
        (Names, "different names"),
        (Starts, "2 finite numbers"),
        (NoStarts, "empty"),
        (EdgeStarts, "at the boundary"),
        (Links, "one of 'identity', .*'correlation', 'share'"),
        (Unlabelled, "no text"),
        (Mutable, "frozen dataclass"),
        (Slopes, "first derivatives of cell_values .* range"),
        (Bends, "second derivatives of cell_values"),
        (ShapesOfDerivatives, "for 2 free parameters"),
        (Natural, "does not undo|differs from from_unconstrained"),
        (Order, "which comes first"),
        (FlatCells, "shape"),
        (TooLarge, "no correlations"),
        (Indefinite, "smallest eigenvalue is -"),
        (Values, "correlations.* differ from cell_values"),
        (Unclipped, "Clip"),
        (Neither, "neither from_variables nor natural"),
        (Diagonal, "differs from cell_values|diagonal"),
    ],
)
def test_what_is_wrong_is_said(structure: type, match: str) -> None:
    with pytest.raises(ContractError, match=match):
        check_structure(structure, TIME)


def test_positions() -> None:
    with pytest.raises(ContractError, match="three rows"):
        check_structure("ar1", [0.0, 1.0])
    with pytest.raises(ContractError, match="1 marks"):
        check_structure("ad", TIME)
    with pytest.raises(ContractError, match="increase"):
        check_structure("ar1", TIME[::-1])


def test_a_local_class_cannot_be_pickled() -> None:
    @dataclass(frozen=True)
    class Local(Decay):
        pass

    with pytest.raises(ContractError, match="top of a module"):
        check_structure(Local, TIME)


def test_markov_step() -> None:
    with pytest.raises(ContractError, match="complement"):
        check_structure(WrongStep(), TIME)


@dataclass(frozen=True)
class WrongStep(AR1):
    def step(self, gaps: Array, u: Array) -> Any:
        return super().step(gaps, u)._replace(complement=np.ones(len(gaps)))


def test_error_is_of_both_kinds() -> None:
    assert issubclass(ContractError, AssertionError)
    assert issubclass(ContractError, MixedARError)
