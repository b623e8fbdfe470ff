"""
Estimated marginal means: a grid of values, averaged over the other factors.

References
----------
Searle, S. R., Speed, F. M. and Milliken, G. A. (1980), Population marginal means
in the linear model: an alternative to least squares means, The American
Statistician 34, 216-221.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.design import design_for
from mixedar.exceptions import (
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.inference.means import MarginalMeans, without_rounding

__all__ = ["marginal_means"]

FloatArray = NDArray[np.float64]

# A numeric variable with more distinct values wants at=.
_MOST_VALUES = 10
_LARGEST_GRID = 100_000


def marginal_means(
    results: Any,
    variables: str | Sequence[str],
    *,
    at: Mapping[str, Any] | None = None,
    by: str | Sequence[str] | None = None,
    df: Any = None,
    cov_type: str | None = None,
    weights: str = "equal",
) -> MarginalMeans:
    """
    Estimated marginal means of a fit from a formula.

    Factors that are not asked for are averaged over, numeric variables are held
    at their means.

    Parameters
    ----------
    results : MixedLMARResults
    variables : str or sequence of str
        Columns of the data, such as ``"treatment"``.
    at : mapping, optional
        A value or several for each column named: of a column asked for, the
        values of the grid; of another, what to hold it at or average over.
    by : str or sequence of str, optional
        Further columns of the grid; pairs are compared within their values.
    df : str, float or DFMethod, optional
        Degrees of freedom; those of the results by default.
    cov_type : str, optional
        Robust covariance such as ``"CR2"``, with its own degrees of freedom.
    weights : {"equal", "proportional"}
        Average over the other factors' levels alike, or by their frequency
        in the data.

    Returns
    -------
    MarginalMeans

    Raises
    ------
    NotComputedError
        If the model was not built from a formula.
    UnknownColumnError
        If a column is not in the formula.
    UnsupportedError
        For a numeric column of many values without `at`, or options that are
        not known.
    """
    results = getattr(results, "_results", results)
    spec = getattr(results.model, "formula_spec", None)
    data = getattr(results.model.data, "frame", None)
    if spec is None:
        raise NotComputedError(
            "marginal means need a model from a formula; with arrays use t_test with "
            "the rows of your own grid"
        )
    if data is None:
        raise NotComputedError(
            "the data were removed from this fit; marginal means need them"
        )
    if weights not in ("equal", "proportional"):
        raise UnsupportedError(f"weights={weights!r}: choose 'equal' or 'proportional'")
    if cov_type is not None and df is not None:
        raise UnsupportedError(
            f"cov_type={cov_type!r} has degrees of freedom of its own; leave df= out"
        )
    _check_kinds(variables, at)
    asked = [variables] if isinstance(variables, str) else list(variables)
    strata = [] if by is None else [by] if isinstance(by, str) else list(by)
    held = dict(at or {})
    for name in [*asked, *strata, *held]:
        if name not in spec.variables:
            raise UnknownColumnError(
                f"{name!r} is not in the fixed effects {spec.formula!r}; there are "
                f"{', '.join(repr(known) for known in spec.variables)}"
            )
    focus = list(dict.fromkeys([*asked, *strata]))
    if not focus:
        raise UnsupportedError("name at least one variable")
    values = {
        name: _values(spec, data, name, held, name in focus) for name in spec.variables
    }
    others = [name for name in spec.variables if name not in focus]
    size = int(np.prod([len(v) for v in values.values()], dtype=float))
    if size > _LARGEST_GRID:
        raise UnsupportedError(
            f"the grid has {size} rows; hold some variables with at="
        )
    order = [*focus, *others]
    cells = pd.DataFrame(list(product(*(values[name] for name in order))))
    cells.columns = pd.Index(order)
    design, _ = design_for(spec, cells)
    inner = size // max(int(np.prod([len(values[n]) for n in focus])), 1)
    share = np.full(inner, 1.0 / inner)
    if weights == "proportional":
        share = _frequencies(data, cells.iloc[:inner], others, values)
    matrix = np.einsum("kip,i->kp", design.reshape(-1, inner, design.shape[1]), share)
    if not np.isfinite(matrix).all():
        raise NotComputedError(
            "the design at the grid is not finite: choose other values with at="
        )
    grid = cells[focus].iloc[::inner].reset_index(drop=True)
    rest = {name: values[name] for name in others}
    return MarginalMeans(
        grid, without_rounding(matrix), strata, rest, results, df, cov_type
    )


def _check_kinds(variables: Any, at: Any) -> None:
    if isinstance(variables, Iterable) and isinstance(at or {}, Mapping):
        return
    raise UnsupportedError(
        f"variables={variables!r}, at={at!r}: name columns, such as 'treatment', and "
        "values by column, such as at={'time': [0, 1]}"
    )


def _values(
    spec: Any, data: pd.DataFrame, name: str, held: Mapping[str, Any], focus: bool
) -> list[Any]:
    """Values of a variable in the grid."""
    if name in held:
        given = held[name]
        if isinstance(given, str) or not np.iterable(given):
            given = [given]
        given = list(given)
        if not given:
            raise UnsupportedError(f"at: no value for {name!r}")
        return given
    if name in spec.levels:
        return list(spec.levels[name])
    column = pd.Series(data[name]).dropna()
    kind = getattr(column.dtype, "kind", "O")
    if name in spec.use.coded or kind in "bO":
        return sorted(column.unique().tolist())
    if not focus:
        return [column.mean()]
    distinct = sorted(column.unique().tolist())
    if len(distinct) > _MOST_VALUES:
        raise UnsupportedError(
            f"{name!r} has {len(distinct)} values: say which with "
            f"at={{{name!r}: [...]}}"
        )
    return distinct


def _frequencies(
    data: pd.DataFrame,
    cells: pd.DataFrame,
    others: Sequence[str],
    values: Mapping[str, list[Any]],
) -> FloatArray:
    """Share of each combination of the averaged factors in the data."""
    factors = [name for name in others if len(values[name]) > 1]
    if not factors:
        return np.full(len(cells), 1.0 / len(cells))
    counts = data.groupby(factors, observed=True).size()
    keys = [tuple(row) for row in cells[factors].itertuples(index=False)]
    found = np.array(
        [counts.get(key if len(factors) > 1 else key[0], 0) for key in keys], float
    )
    if not found.sum() > 0.0:
        raise NotComputedError(
            "weights='proportional': the grid's values do not occur in the data"
        )
    return found / found.sum()
