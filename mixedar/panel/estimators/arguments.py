"""
What users may pass as the arrays of a panel.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.data.checks import float_array
from mixedar.data.given import row_labels
from mixedar.exceptions import GroupError, ResponseError, UnsupportedError


def from_index(
    data: object, entity: object, time: object, columns: Collection[Any] = ()
) -> tuple[Any, Any]:
    """Take what is not given from the levels of a MultiIndex, by name if it can be."""
    index = row_labels(data)
    names = list(index.names) if isinstance(index, pd.MultiIndex) else []

    def level(k: int) -> Any:
        assert index is not None
        by_name = len(columns) and isinstance(names[k], str) and names[k] not in columns
        return names[k] if by_name else index.get_level_values(k)

    own = isinstance(entity, str) and entity in names and entity not in columns
    if names and (entity is None or (own and time is None)):
        if len(names) != 2:
            raise GroupError(
                f"the index of the data has {len(names)} levels "
                f"({', '.join(map(str, names))}), and a panel has two: name those of "
                "entities and periods as entity= and time="
            )
        place = names.index(entity) if own else 0
        entity, time = level(place), level(1 - place) if time is None else time
    if entity is None:
        raise GroupError(
            "entity= is missing: pass the name of the column with the labels of the "
            "entities, or data with a MultiIndex (entity, time)"
        )
    return entity, time


def name_of(values: object, otherwise: str) -> str:
    """The name of a column, if it has one."""
    return str(getattr(values, "name", None) or otherwise)


def regressors_of(exog: object) -> tuple[FloatArray, Sequence[str]]:
    """Regressors and their names."""
    try:
        x = np.array(float_array(exog, "exog"), order="C")
    except ResponseError as error:
        raise UnsupportedError(str(error)) from None
    x = x[:, None] if x.ndim == 1 else x
    if isinstance(exog, pd.DataFrame):
        return x, [str(name) for name in exog.columns]
    if isinstance(exog, pd.Series) and exog.name is not None:
        return x, [str(exog.name)]
    # statsmodels' names: a constant is "const", the others x1, x2, ...
    names = [f"x{j + 1}" for j in range(x.shape[1])]
    constant = [j for j in range(x.shape[1]) if len(x) and np.ptp(x[:, j]) == 0.0]
    if constant:
        names = names[:-1]
        names.insert(constant[0], "const")
    return x, names
