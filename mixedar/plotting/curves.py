"""
Fitted curves between the observations, of a population and of groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray, IntArray
from mixedar.data.formula.names import read_formula
from mixedar.plotting.rows import PictureRows


@dataclass(frozen=True)
class Curves:
    """
    Fitted values along some lines of a picture.

    Attributes
    ----------
    line : ndarray of int, shape (k,)
        Which line a point belongs to.
    x : ndarray, shape (k,)
        Floats or ``datetime64``, increasing within a line.
    population : ndarray, shape (k,)
        ``X beta``.
    group : ndarray, shape (k,)
        ``X beta + Z b``.
    tied : bool
        Whether a position occurs twice in a line, so that points are no curve.
    """

    line: IntArray
    x: NDArray[Any]
    population: FloatArray
    group: FloatArray
    tied: bool


def fitted_curves(
    fit: Any, rows: PictureRows, chosen: IntArray, points: int = 41
) -> Curves:
    """
    Fitted values of the chosen groups, also between their observations.

    Numeric variables run linearly from one observation of a line to the next,
    others keep the value of the observation before, so that the curves go
    through the fitted values.  Where the horizontal variable is a factor of the
    formula, or the model was built from arrays, there are only the
    observations themselves.

    Parameters
    ----------
    fit : MixedLMARResults
    rows : PictureRows
    chosen : ndarray of int
        Numbers of groups.
    points : int
        Points of a curve beside the observations.

    Returns
    -------
    Curves
    """
    fit = getattr(fit, "_results", fit)
    where = np.flatnonzero(np.isin(rows.codes, chosen))
    paths = rows.paths(where)
    order = np.concatenate(paths)
    line = rows.lines[order]
    x = rows.x[order]
    tied = bool(((np.diff(line) == 0) & (x[1:] == x[:-1])).any())
    frame = getattr(fit.model.data, "frame", None)
    spec = getattr(fit.model, "formula_spec", None)
    if frame is None or spec is None or tied or is_factor(fit, rows):
        marginal = np.asarray(fit.fitted_marginal)[order]
        return Curves(line, x, marginal, np.asarray(fit.fittedvalues)[order], tied)
    new, source, x = spread_out(fit, rows, paths, points)
    return Curves(
        rows.lines[source],
        x,
        _predicted(fit, new, "population"),
        _predicted(fit, new, "group"),
        tied,
    )


def _predicted(fit: Any, new: pd.DataFrame, level: str) -> FloatArray:
    """Means of new rows; the only use of predictions here."""
    return np.asarray(fit.get_prediction(new, level=level).predicted_mean)


def is_factor(fit: Any, rows: PictureRows) -> bool:
    """Whether the formulas know the horizontal variable by its levels only."""
    if rows.ticks is not None:
        return True
    specs = [fit.model.formula_spec, getattr(fit.model, "re_spec", None)]
    return any(
        rows.x_name in spec.levels or rows.x_name in spec.use.coded
        for spec in specs
        if spec is not None
    )


def spread_out(
    fit: Any, rows: PictureRows, paths: list[IntArray], points: int
) -> tuple[pd.DataFrame, IntArray, NDArray[Any]]:
    """
    New rows along lines, the observations among them.

    Parameters
    ----------
    fit : MixedLMARResults
    rows : PictureRows
    paths : list of ndarray of int
        Rows of each line, from left to right.
    points : int

    Returns
    -------
    new : DataFrame, shape (k, columns of the data)
    source : ndarray of int, shape (k,)
        The observation at or before each new row.
    x : ndarray, shape (k,)
    """
    frame = fit.model.data.frame
    dates = rows.x.dtype.kind == "M"
    places = rows.x.astype("datetime64[ns]").astype(np.int64) if dates else rows.x
    places = np.asarray(places, dtype=float)
    grids, sources, weights = [], [], []
    for path in paths:
        own = places[path]
        grid = np.union1d(np.linspace(own[0], own[-1], points), own)
        before = np.searchsorted(own, grid, side="right") - 1
        after = np.minimum(before + 1, len(own) - 1)
        width = np.where(after > before, own[after] - own[before], 1.0)
        grids.append(grid)
        sources.append(np.stack([path[before], path[after]]))
        weights.append((grid - own[before]) / width)
    x = np.concatenate(grids)
    source, ahead = np.concatenate(sources, axis=1)
    weight = np.concatenate(weights)
    new = frame.iloc[source].reset_index(drop=True)
    held = _held(fit)
    for name in new.columns:
        column = frame[name]
        number = pd.api.types.is_numeric_dtype(column.dtype) and (
            not pd.api.types.is_bool_dtype(column.dtype)
        )
        date = isinstance(column.dtype, np.dtype) and column.dtype.kind == "M"
        if name in held or not (number or date):
            continue
        here, there = column.iloc[source], column.iloc[ahead]
        if (here.to_numpy() != there.to_numpy()).any():
            new[name] = _between(here, there, weight, date)
    stamps = x.round().astype(np.int64).astype("datetime64[ns]") if dates else x
    if rows.x_name is not None and pd.api.types.is_numeric_dtype(
        frame[rows.x_name].dtype
    ):
        new[rows.x_name] = x
    return new, source, np.asarray(stamps)


def _held(fit: Any) -> set[Any]:
    """Columns that are labels, though they may be numbers."""
    model = fit.model
    held = {getattr(model, "groups_name", None), getattr(model.series, "name", None)}
    for spec in (model.formula_spec, getattr(model, "re_spec", None)):
        if spec is not None:
            held |= spec.use.coded | set(spec.levels)
    for formula in (getattr(model, "vc_formula", None) or {}).values():
        held |= read_formula(formula, {}).names
    return held


def _between(
    here: pd.Series, there: pd.Series, weight: FloatArray, date: bool
) -> pd.Series:
    if date:
        first = here.to_numpy().astype("datetime64[ns]")
        step = (there.to_numpy().astype("datetime64[ns]") - first).astype(np.int64)
        ahead = (weight * step).round().astype("timedelta64[ns]")
        return pd.Series(first + ahead)
    low, high = here.to_numpy(dtype=float), there.to_numpy(dtype=float)
    return pd.Series(low + weight * (high - low))
