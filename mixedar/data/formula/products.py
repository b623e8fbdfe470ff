"""
Designs of patsy as products of columns, for many rows at once.

Patsy checks and copies every factor of every batch of rows.  Where rows are evaluated
one by one, a column of a design is a product of numbers and of entries of contrast
matrices, which is all that is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray

#: Rows for which columns are compared with those of the engine.
FEW = 50


@dataclass(frozen=True)
class DesignColumns:
    """
    The columns of a design, each a product.

    Attributes
    ----------
    factors : mapping of factor to str or None
        Columns with the levels of factors, None for numbers.
    states : mapping of factor to object
        With which patsy evaluates numbers.
    columns : list of list of (factor, ndarray or None)
        The factors of each column; values of the levels, and NaN for none, for those
        that have levels.
    """

    factors: Mapping[Any, str | None]
    states: Mapping[Any, Any]
    columns: list[list[tuple[Any, FloatArray | None]]]

    @classmethod
    def of(cls, info: Any, frame: pd.DataFrame) -> DesignColumns | None:
        """
        Of patsy's description of a design; None if it has other factors.

        Parameters
        ----------
        info : patsy.DesignInfo
        frame : DataFrame
            Rows as the formula takes them.
        """
        factors: dict[Any, str | None] = {}
        states = {}
        for factor, known in info.factor_infos.items():
            name = factor.name()
            states[factor] = known.state
            if known.type == "numerical":
                if known.num_columns != 1:
                    return None
                factors[factor] = None
                continue
            if name.startswith("C(") and name.endswith(")"):
                name = name[2:-1]
            dtype = frame.dtypes.get(name)
            if not isinstance(dtype, pd.CategoricalDtype):
                return None
            if list(dtype.categories) != list(known.categories):
                return None
            factors[factor] = name
        columns = []
        for term in info.terms:
            for part in info.term_codings[term]:
                columns += _columns_of(part)
        return cls(factors, states, columns)

    def matrix(self, frame: pd.DataFrame) -> FloatArray:
        """The design of some rows, NaN where a level is missing."""
        found = {
            factor: (
                np.asarray(factor.eval(self.states[factor], frame), dtype=np.float64)
                if name is None
                else frame[name].cat.codes.to_numpy()
            )
            for factor, name in self.factors.items()
        }
        out = np.empty((len(frame), len(self.columns)), order="F")
        for j, parts in enumerate(self.columns):
            out[:, j] = 1.0 if not parts else _values(found, parts[0])
            for part in parts[1:]:
                out[:, j] *= _values(found, part)
        return out


def checked(info: Any, few: pd.DataFrame, matrix: FloatArray) -> DesignColumns | None:
    """The columns, if they give what the engine gives for a few rows."""
    found = DesignColumns.of(info, few)
    if found is None:
        return None
    same = np.allclose(found.matrix(few), matrix, 1e-14, 0.0, equal_nan=True)
    return found if same else None


def _values(
    found: Mapping[Any, Any], part: tuple[Any, FloatArray | None]
) -> FloatArray:
    """A factor's part in a column, shape (n,)."""
    factor, levels = part
    own: FloatArray = found[factor] if levels is None else levels[found[factor]]
    return own


def _columns_of(part: Any) -> list[list[tuple[Any, FloatArray | None]]]:
    """The columns of a part of a term, that of the first factor changing fastest."""
    choices: list[list[tuple[Any, FloatArray | None]]] = []
    for factor in part.factors:
        contrast = part.contrast_matrices.get(factor)
        if contrast is None:
            choices.append([(factor, None)])
            continue
        # the last entry is that of a missing level, number -1
        levels = np.vstack([contrast.matrix, np.full(contrast.matrix.shape[1], np.nan)])
        choices.append([(factor, np.ascontiguousarray(c)) for c in levels.T])
    return [list(reversed(each)) for each in product(*reversed(choices))]
