"""
Curves of a fit along an axis: of groups, of the population, and forecasts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mixedar._types import FloatArray, IntArray
from mixedar.data.formula.names import read_formula
from mixedar.data.formula.terms import levels_of_formula
from mixedar.data.model_data import ModelData
from mixedar.data.rows import as_frame, row_variable
from mixedar.data.variables import (
    PictureRows,
    data_column,
    plottable,
    varies_in_groups,
)
from mixedar.exceptions import (
    EmptyDataError,
    GroupError,
    UnknownColumnError,
    UnsupportedError,
    check_alpha,
    shown,
)
from mixedar.fit import Fit
from mixedar.fit.linked import group_levels
from mixedar.inference.df import contrast_method, shared_covariance
from mixedar.inference.means import marginal_means
from mixedar.prediction.predict import get_prediction

# Drawn groups are the same every time.
_SEED = 0
# More positions than this are put together before averaging.
_MOST_POSITIONS = 40
# So many neighbours are averaged where each is at a position of its own.
_NEIGHBOURS = 8
# Points of a curve beside the observations.
_POINTS = 41


def sample_codes(count: int, most: int) -> IntArray:
    """At most `most` of ``0, ..., count - 1``, in order: the same draw every time."""
    if count <= most:
        return np.arange(count)
    draw = np.random.default_rng(_SEED).choice(count, most, replace=False)
    return np.sort(draw)


def choose_groups(
    rows: PictureRows, groups: object, most: int
) -> tuple[IntArray, str | None]:
    """
    Numbers of the groups to draw, and what a caption says about the choice.

    Parameters
    ----------
    rows : PictureRows
    groups : iterable of labels, or a label, optional
        All if there are at most `most`, else a random sample of so many.
    most : int

    Returns
    -------
    codes : ndarray of int
    caption : str or None
        None if every group is drawn.

    Raises
    ------
    GroupError
        For a label that no group has, or without any label.
    UnsupportedError
        If `most` is not a positive number.
    """
    if groups is not None:
        return _codes_of(rows, groups), None
    if isinstance(most, bool) or int(most) != most or most < 1:
        raise UnsupportedError(f"{most!r} is not a number of groups; give 1 or more")
    return _sample(np.arange(len(rows.labels)), int(most))


def _sample(codes: IntArray, most: int) -> tuple[IntArray, str | None]:
    count = len(codes)
    if count <= most:
        return codes, None
    drawn = codes[sample_codes(count, most)]
    return drawn, f"{most} of {count:,} groups, drawn at random"


def _codes_of(rows: PictureRows, groups: object) -> IntArray:
    given: Sequence[Hashable] = [groups]
    if not isinstance(groups, (str, bytes)) and isinstance(groups, Iterable):
        given = list(groups)
    where = {label: code for code, label in enumerate(rows.labels)}
    if not given:
        raise GroupError("groups= is empty: name at least one group")
    for label in given:
        if label not in where:
            some = ", ".join(shown(one) for one in rows.labels[:5])
            raise GroupError(
                f"groups: there is no group {shown(label)} in the data; the labels "
                f"begin with {some}"
            )
    return np.array([where[label] for label in dict.fromkeys(given)], dtype=np.intp)


def fitted_curves(
    fit: Fit, rows: PictureRows, chosen: IntArray, points: int = _POINTS
) -> pd.DataFrame:
    """
    Fitted values of the chosen groups, also between their observations.

    Numeric variables run linearly from one observation of a line to the next,
    others keep the value of the observation before, so that the curves go
    through the fitted values.  Where the horizontal variable is a factor of the
    formula, occurs twice in a line, the model has an offset or is from arrays, or
    another factor's levels change along a line, there are only the observations
    themselves.

    Parameters
    ----------
    fit : Fit
    rows : PictureRows
    chosen : ndarray of int
        Numbers of groups.
    points : int
        Points of a curve beside the observations.

    Returns
    -------
    DataFrame, shape (k, 5)
        ``line`` (which line a point belongs to), ``x``, ``population`` (``X beta``),
        ``group`` (``X beta + Z b``), and ``joined``, whether these are curves.
    """
    data = fit.data
    paths = rows.paths(np.flatnonzero(np.isin(rows.codes, chosen)))
    source = np.concatenate(paths)
    line, x = rows.lines[source], rows.x[source]
    tied = bool(((np.diff(line) == 0) & (x[1:] == x[:-1])).any())
    only = data.formula_spec is None or data.offset is not None
    crossed = not tied and _levels_change(data, rows)
    if data.frame is None or only or tied or crossed or is_factor(data, rows):
        means = [fit.fitted_marginal[source], fit.fittedvalues[source]]
    else:
        new, source, x = _between_rows(fit, data.frame, rows, paths, points)
        line = rows.lines[source]
        means = [
            np.asarray(get_prediction(fit, new, level).predicted_mean)
            for level in ("population", "group")
        ]
    frame = pd.DataFrame(
        {"line": line, "x": x, "population": means[0], "group": means[1]}
    )
    frame["joined"] = not (tied or crossed)
    if len(source) > sum(map(len, paths)) or tied or crossed:
        return frame
    # nothing is drawn across occasions that are not there
    parts = rows.paths(np.sort(source), broken=True)
    begins = np.cumsum([len(part) for part in parts])[:-1]
    begins = begins[line[begins] == line[begins - 1]]
    if not len(begins):
        return frame
    holes = frame.iloc[begins].assign(population=np.nan, group=np.nan)
    holes["x"] = x[begins - 1] + (x[begins] - x[begins - 1]) / 2
    holes.index = pd.Index(begins - 0.5)
    return pd.concat([frame, holes]).sort_index(ignore_index=True)


def _levels_change(data: ModelData, rows: PictureRows) -> bool:
    """Whether a random-effects factor takes several levels along a line."""
    terms = [term for term in data.terms if term.smooth is None and term.columns]
    return any(varies_in_groups(pd.Series(one.codes), rows.lines) for one in terms)


def is_factor(data: ModelData, rows: PictureRows) -> bool:
    """Whether the formulas know the horizontal variable by its levels only."""
    return rows.ticks is not None or rows.x_name in _labels_in_formulas(data)


def _labels_in_formulas(data: ModelData) -> set[Any]:
    """Variables that the formulas of the designs read as labels."""
    specs = [spec for spec in (data.formula_spec, data.re_spec) if spec is not None]
    return set().union(*map(levels_of_formula, specs))


def _between_rows(
    fit: Fit,
    frame: pd.DataFrame,
    rows: PictureRows,
    paths: list[IntArray],
    points: int,
) -> tuple[pd.DataFrame, IntArray, NDArray[Any]]:
    """New rows along lines, the observation at or before each, and their places."""
    data, dates = fit.data, rows.x.dtype.kind == "M"
    places = _numbers(rows.x)
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
    held = {*group_levels(fit).names, getattr(data.series, "name", None)}
    held |= _labels_in_formulas(data)
    held |= {name for term in data.terms for name in term.columns}
    for formula in (data.vc_formula or {}).values():
        held |= read_formula(formula, {}).names
    for name in new.columns:
        dtype = frame[name].dtype
        number = pd.api.types.is_numeric_dtype(dtype)
        number = number and not pd.api.types.is_bool_dtype(dtype)
        date = isinstance(dtype, np.dtype) and dtype.kind == "M"
        if name in held or not (number or date):
            continue
        here, there = frame[name].iloc[source], frame[name].iloc[ahead]
        if (here.to_numpy() != there.to_numpy()).any():
            new[name] = _between(here, there, weight, date)
    stamps = x.round().astype(np.int64).astype("datetime64[ns]") if dates else x
    name = rows.x_name
    if name is not None and pd.api.types.is_numeric_dtype(frame[name].dtype):
        new[name] = x
    return new, source, np.asarray(stamps)


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


def _numbers(x: NDArray[Any]) -> FloatArray:
    """Positions as floats: nanoseconds of dates."""
    dates = x.dtype.kind == "M"
    return (x.astype("datetime64[ns]").astype(np.int64) if dates else x).astype(float)


def levels_of(data: ModelData, by: object, most: int) -> pd.Series:
    """
    The rows by the levels of a variable, one level without a variable.

    Parameters
    ----------
    data : ModelData
    by : str or array_like, shape (n,), optional
    most : int
        So many levels can be told apart.

    Returns
    -------
    Series of category, shape (n,)
        Levels that occur, in the order of their categories, or sorted.

    Raises
    ------
    UnsupportedError
        If there are more, or none.
    """
    if by is None:
        return pd.Series(pd.Categorical([""] * data.nobs))
    column = data_column(data, by, "by").reset_index(drop=True)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.cat.remove_unused_categories()
    else:
        order = sorted(column.dropna().unique(), key=lambda v: (isinstance(v, str), v))
        column = column.astype(pd.CategoricalDtype(order))
    count = len(column.cat.categories)
    if not count:
        raise UnsupportedError("by= has missing values only: there is no level to draw")
    if count > most:
        what = by if isinstance(by, str) else "by"
        raise UnsupportedError(
            f"by={shown(what)} has {count} levels; at most {most} can be "
            "told apart: draw some of them, or plot_trajectories"
        )
    return column


def population_means(
    fit: Fit,
    rows: PictureRows,
    levels: pd.Series,
    by: str | None = None,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """
    Means of the population along the horizontal axis, by the levels of a variable.

    If the formula has the horizontal variable, and the factor, these are marginal
    means: other factors averaged with the frequencies of the data, other numeric
    variables at their means.  Otherwise the mean of the fixed part over the rows
    at each position (over neighbouring ones, if there are many positions).

    Parameters
    ----------
    fit : Fit
    rows : PictureRows
    levels : Series of category, shape (n,)
    by : str, optional
        Their column.
    alpha : float
        1 - coverage of the intervals, which are normal.

    Returns
    -------
    DataFrame
        ``level`` (its number), ``x``, ``mean``, ``lower``, ``upper``, and ``low``
        and ``high``, between which the model expects a share of 1 - `alpha` of the
        observations.
    """
    quantile = stats.norm.isf(check_alpha(alpha) / 2.0)
    cov = shared_covariance(fit, contrast_method(fit).cov)
    variance = _row_variances(fit)
    parts = []
    for k, level in enumerate(levels.cat.categories):
        where = np.flatnonzero(levels.cat.codes == k)
        x, design = _grid(fit, rows, where, by, level)
        mean = design @ fit.population.coefficients
        if fit.data.offset is not None:
            offset = fit.data.offset[:, None]
            mean = mean + _observed_places(offset, rows, where)[1][:, 0]
        error = np.einsum("ij,jk,ik->i", design, cov, design)
        half = quantile * np.sqrt(np.maximum(error, 0.0))
        places, code = np.unique(_numbers(rows.x[where]), return_inverse=True)
        average = np.bincount(code, variance[where]) / np.bincount(code)
        width = quantile * np.sqrt(np.interp(_numbers(x), places, average))
        columns = {
            "mean": mean,
            "lower": mean - half,
            "upper": mean + half,
            "low": mean - width,
            "high": mean + width,
        }
        parts.append(pd.DataFrame({"level": k, "x": x, **columns}))
    return pd.concat(parts, ignore_index=True)


def observed_means(rows: PictureRows, levels: pd.Series) -> pd.DataFrame:
    """
    Means of the observations along the horizontal axis, by the levels of a variable.

    At each position, or over some neighbours where positions are of one row each;
    a line alone has none.

    Parameters
    ----------
    rows : PictureRows
    levels : Series of category, shape (n,)

    Returns
    -------
    DataFrame
        ``level`` (its number), ``x`` and ``mean``.
    """
    parts = [pd.DataFrame({"level": [], "x": [], "mean": []})]
    for k in range(len(levels.cat.categories)):
        where = np.flatnonzero(levels.cat.codes == k)
        if len(np.unique(rows.lines[where])) < 2:
            continue
        shared = len(where) >= 2 * len(np.unique(rows.x[where]))
        most = _MOST_POSITIONS if shared else max(len(where) // _NEIGHBOURS, 2)
        x, mean = _observed_places(rows.y[:, None], rows, where, most)
        parts.append(pd.DataFrame({"level": k, "x": x, "mean": mean[:, 0]}))
    frame = pd.concat(parts[1:] or parts, ignore_index=True)
    frame.attrs["what"] = "mean of the observations"
    return frame


def _grid(
    fit: Fit, rows: PictureRows, where: IntArray, by: str | None, level: object
) -> tuple[NDArray[Any], FloatArray]:
    """Places of a level's mean curve, and rows of the design."""
    data = fit.data
    known = () if data.formula_spec is None else data.formula_spec.variables
    stranger = len(where) < data.nobs and by not in known
    dates = rows.x.dtype.kind == "M"
    stranger |= data.offset is not None
    if data.frame is None or rows.x_name not in known or dates or stranger:
        design = np.hstack([data.exog, data.smooth_design])
        return _observed_places(design, rows, where)
    name = str(rows.x_name)
    column = data.frame[name].iloc[where]
    if is_factor(data, rows):
        values = sorted(column.unique().tolist(), key=_rank(data, name))
        x = np.array([rows.x[where][(column == v).to_numpy()][0] for v in values])
    else:
        x = np.linspace(column.min(), column.max(), _POINTS)
        x = np.union1d(x, column.unique()) if len(column) < 1e5 else x
        values = x.tolist()
    at: dict[str, Any] = {name: values}
    if by in known:
        at[str(by)] = [level]
    means = marginal_means(fit, name, at=at, df="normal", weights="proportional")
    return x, means.matrix


def _rank(data: ModelData, name: str) -> Callable[[Any], Any]:
    """Order of the levels of a factor."""
    levels = None if data.formula_spec is None else data.formula_spec.levels.get(name)
    return (lambda v: v) if levels is None else list(levels).index


def _observed_places(
    values: FloatArray, rows: PictureRows, where: IntArray, most: int = _MOST_POSITIONS
) -> tuple[NDArray[Any], FloatArray]:
    """Mean rows of a design at each position, or at so many."""
    heights = rows.x[where]
    places, code = np.unique(heights, return_inverse=True)
    if len(places) > most:
        rank = np.argsort(np.argsort(heights, kind="stable"), kind="stable")
        code = rank * most // len(where)
    count = np.bincount(code)
    design = np.empty((len(count), values.shape[1]))
    for j, column in enumerate(values[where].T):
        design[:, j] = np.bincount(code, column) / count
    if heights.dtype.kind != "M":
        return np.bincount(code, heights) / count, design
    ticks = heights.astype("datetime64[ns]").astype(np.int64)
    middle = np.bincount(code, ticks - ticks.min()) / count
    stamps = middle.round().astype(np.int64) + ticks.min()
    return stamps.astype("datetime64[ns]"), design


def _row_variances(fit: Fit) -> FloatArray:
    """Variance of each row around the population mean, shape (n,)."""
    data = fit.data
    variance = np.full(data.nobs, fit.residual_sd) ** 2
    if data.exog_re is not None:
        variance += np.einsum("ij,jk,ik->i", data.exog_re, fit.cov_re, data.exog_re)
    for value, matrix in zip(fit.vcomp, data.components.matrices, strict=True):
        variance += value * np.einsum("ij,ij->i", matrix, matrix)
    for term, cov in zip(data.terms, fit.term_covs, strict=True):
        if not term.shared:
            variance += np.einsum("ij,jk,ik->i", term.design, cov, term.design)
    return variance


def forecasts(
    fit: Fit,
    rows: PictureRows,
    newdata: object,
    groups: object,
    level: str,
    most: int,
    alpha: float,
    **options: Any,
) -> tuple[pd.DataFrame, str | None]:
    """
    Predictions of new rows of some groups, beside what was observed there.

    Returns
    -------
    frame : DataFrame
        As ``summary_frame`` of a prediction, with ``line`` (its number in `rows`, -1
        for a series that was not observed), ``panel``, the names of group and series,
        ``x`` and, if `newdata` has the response, ``later``.
    caption : str or None
        What to say if groups, or series of theirs, are left out.
    """
    newdata = as_frame(newdata)
    labels = _labels_of(newdata, rows)
    codes, words = _codes_of(rows, labels.unique() if groups is None else groups), None
    if groups is None:
        codes, words = _sample(codes, most)
    here = labels.isin([rows.labels[code] for code in codes]).to_numpy()
    new = newdata[here]
    if not len(new):
        raise EmptyDataError("newdata has no row of the groups to draw")
    frame = get_prediction(fit, new, level, **options).summary_frame(alpha)
    frame = frame.reset_index(drop=True)
    frame["x"] = plottable(new[rows.x_name].reset_index(drop=True))[0]
    where = {label: code for code, label in enumerate(rows.labels)}
    frame["line"] = [where[label] for label in labels[here]]
    frame["panel"] = labels[here].map(str).to_numpy()
    series = options.get("series", getattr(fit.data.series, "name", None))
    if rows.series is not None and series is not None:
        values = list(row_variable("series", series, new).values)
        known = {pair: line for line, pair in enumerate(rows.series)}
        pairs = zip(frame["line"], values, strict=True)
        frame["line"] = [known.get(pair, -1) for pair in pairs]
        frame["panel"] += [f" / {label}" for label in values]
        frame.attrs["panels"] = f"{rows.group_name} / {series}"
    if rows.y_label in new.columns:
        frame["later"] = new[rows.y_label].to_numpy()
    order = {rows.labels[code]: k for k, code in enumerate(codes)}
    rank = labels[here].map(order).to_numpy()
    frame = frame.iloc[np.lexsort((frame["x"], frame["panel"], rank))]
    panels = frame["panel"].unique()
    if groups is None and len(panels) > most:
        words = f"{most} of {len(panels):,} series, drawn at random"
        frame = frame[frame["panel"].isin(panels[sample_codes(len(panels), most)])]
    return frame, words


def _labels_of(newdata: pd.DataFrame, rows: PictureRows) -> pd.Series:
    """Labels of the groups of the new rows."""
    if rows.x_name is None:
        raise UnsupportedError(
            f"{rows.x_label!r}: this is no column of the data, so that new rows "
            "cannot be placed: name a column with x="
        )
    if rows.x_name not in newdata.columns:
        raise UnknownColumnError(f"newdata has no column {rows.x_name!r}")
    return row_variable("groups", rows.group_name, newdata).values
