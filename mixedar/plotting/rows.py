"""
What pictures of data and fit need of the rows: positions, heights, lines.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import (
    GroupError,
    LengthError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
    shown,
)
from mixedar.plotting.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Drawn groups are the same every time.
_SEED = 0


@dataclass(frozen=True)
class PictureRows:
    """
    The rows of a fit as points of a picture, in the caller's order.

    Attributes
    ----------
    x : ndarray, shape (n,)
        Horizontal positions: floats, or ``datetime64``.
    x_name : str or None
        The column behind them; None if it is not one of the data.
    x_label, y_label : str
    ticks : list of str or None
        Names of the positions 0, 1, ... if those are levels of a factor.
    y : ndarray, shape (n,)
        The response.
    codes : ndarray of int, shape (n,)
        Numbers of the groups.
    labels : list
        Labels of the groups.
    lines : ndarray of int, shape (n,)
        Numbers of the series; groups unless the model has ``series=``.
    group_name : str
    """

    x: NDArray[Any]
    x_name: str | None
    x_label: str
    ticks: list[str] | None
    y: FloatArray
    y_label: str
    codes: IntArray
    labels: list[Any]
    lines: IntArray
    group_name: str

    def paths(self, rows: IntArray) -> list[IntArray]:
        """
        Rows of each line, from left to right.

        Parameters
        ----------
        rows : ndarray of int
            The rows to divide.

        Returns
        -------
        list of ndarray of int
        """
        order = rows[np.lexsort((self.x[rows], self.lines[rows]))]
        cuts = np.flatnonzero(np.diff(self.lines[order])) + 1
        return np.split(order, cuts) if len(order) else []


def plottable(column: pd.Series) -> tuple[NDArray[Any], list[str] | None, str]:
    """
    Values that matplotlib can place.

    Parameters
    ----------
    column : Series
        Numbers, dates, periods, durations or labels.

    Returns
    -------
    values : ndarray
        Floats or ``datetime64``.
    ticks : list of str or None
        For labels: the names of 0, 1, ...
    unit : str
        What to add to the name, such as ``" (days)"``.
    """
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        if pd.api.types.is_numeric_dtype(dtype.categories.dtype):
            return column.astype(float).to_numpy(), None, ""
        names = [str(level) for level in dtype.categories]
        return column.cat.codes.to_numpy(dtype=float), names, ""
    if isinstance(dtype, pd.PeriodDtype):
        return pd.PeriodIndex(column).to_timestamp().to_numpy(), None, ""
    if pd.api.types.is_datetime64_any_dtype(dtype):
        stamps = pd.DatetimeIndex(column)
        return stamps.tz_localize(None).to_numpy(), None, ""
    if pd.api.types.is_timedelta64_dtype(dtype):
        days = pd.TimedeltaIndex(column) / pd.Timedelta(days=1)
        return days.to_numpy(dtype=float), None, " (days)"
    if pd.api.types.is_numeric_dtype(dtype):
        return column.to_numpy(dtype=float), None, ""
    if len(column) and not isinstance(column.iloc[0], str):
        for convert in (pd.to_numeric, pd.to_datetime):
            try:
                return plottable(pd.Series(convert(column)))
            except (TypeError, ValueError):
                continue
    return plottable(column.astype("category"))


def data_column(fit: Any, name: Any, what: str) -> pd.Series:
    """
    A variable of the fit's rows.

    Parameters
    ----------
    fit : MixedLMARResults
    name : str or array_like, shape (n,)
        A column of the data, or the values themselves.
    what : str
        The argument's name, for messages.

    Returns
    -------
    Series, shape (n,)

    Raises
    ------
    UnknownColumnError
        If the data have no such column.
    LengthError
        If there is not one value for each row.
    """
    model = fit.model
    if isinstance(name, str):
        frame = getattr(model.data, "frame", None)
        if frame is not None and name in frame.columns:
            return frame[name]
        if frame is not None and name in frame.index.names:
            return pd.Series(frame.index.get_level_values(name), name=name)
        if name == getattr(model, "time_name", None):
            return pd.Series(model.time, name=name)
        known = [] if frame is None else [str(c) for c in frame.columns]
        listed = ", ".join(map(repr, known[:12])) or "no columns: pass an array"
        raise UnknownColumnError(
            f"{what}={name!r} is not a column of the data; there are {listed}"
        )
    column = name if isinstance(name, pd.Series) else pd.Series(np.asarray(name))
    if len(column) != model.nobs:
        raise LengthError(
            f"{what} has {len(column)} values; the model has {model.nobs} rows"
        )
    return column


def picture_rows(fit: Any, x: Any = None) -> PictureRows:
    """
    Places of the rows in a picture of the data.

    Parameters
    ----------
    fit : MixedLMARResults
    x : str or array_like, shape (n,), optional
        What runs from left to right: the model's time by default; without one,
        the first numeric variable of the formula that varies within groups, or
        the order of the rows.

    Returns
    -------
    PictureRows

    Raises
    ------
    NotComputedError
        If the data were removed from the fit.
    """
    fit = getattr(fit, "_results", fit)
    model = fit.model
    if model.endog is None:
        raise NotComputedError(
            "the data were removed from this fit; pictures of them need them"
        )
    if x is None:
        x = _default(fit)
    if x is None:
        position = _occasion(fit)
        values, ticks, name, label = position, None, None, "occasion"
    else:
        column = data_column(fit, x, "x")
        values, ticks, unit = plottable(column)
        named = str(x if isinstance(x, str) else column.name or "")
        if not named:
            named = str(getattr(model, "time_name", None) or "time")
        label = f"{named}{unit}"
        frame = getattr(model.data, "frame", None)
        name = named if frame is not None and named in frame.columns else None
    lines = model._codes
    if model.series is not None:
        pairs = pd.DataFrame({"g": model._codes, "s": np.asarray(model.series)})
        lines = pairs.groupby(["g", "s"], sort=True, observed=True).ngroup().to_numpy()
    return PictureRows(
        np.asarray(values),
        name,
        label,
        ticks,
        np.asarray(model.endog),
        str(model.endog_names),
        np.asarray(model._codes),
        list(model.group_labels),
        np.asarray(lines, dtype=np.intp),
        str(getattr(model, "groups_name", None) or "group"),
    )


def _default(fit: Any) -> Any:
    """The model's time, else a variable that varies within groups, else None."""
    model = fit.model
    if model.time is not None:
        name = getattr(model, "time_name", None)
        frame = getattr(model.data, "frame", None)
        known = frame is not None and name in frame.columns
        return name if known else pd.Series(model.time)
    spec = getattr(model, "formula_spec", None)
    if spec is None:
        return None
    for name in spec.variables:
        column = data_column(fit, name, "x")
        if not pd.api.types.is_numeric_dtype(column.dtype):
            continue
        spread = column.reset_index(drop=True).groupby(model._codes).nunique()
        if (spread > 1).any():
            return name
    return None


def _occasion(fit: Any) -> FloatArray:
    """Position of each row in its group, from 0."""
    grouped = fit.model._grouped
    start = np.repeat(grouped.offsets[:-1], grouped.sizes)
    within = np.arange(len(start), dtype=float) - start
    return np.asarray(grouped.unsort(within))


def sample_codes(count: int, most: int, seed: int = _SEED) -> IntArray:
    """
    At most `most` of the numbers 0, 1, ..., ``count - 1``, in their order.

    The same ones every time: a seeded draw without replacement.
    """
    if count <= most:
        return np.arange(count)
    draw = np.random.default_rng(seed).choice(count, most, replace=False)
    return np.sort(draw)


def choose_groups(
    rows: PictureRows, groups: Any, most: int
) -> tuple[IntArray, str | None]:
    """
    Numbers of the groups to draw, and what the caption says about the choice.

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
    count = len(rows.labels)
    if groups is not None:
        return _codes_of(rows, groups), None
    if isinstance(most, bool) or int(most) != most or most < 1:
        raise UnsupportedError(f"{most!r} is not a number of groups; give 1 or more")
    if count <= most:
        return np.arange(count), None
    drawn = sample_codes(count, int(most))
    return drawn, f"{len(drawn)} of {count:,} groups, drawn at random"


def _codes_of(rows: PictureRows, groups: Any) -> IntArray:
    given: Sequence[Hashable]
    if isinstance(groups, (str, bytes)) or not isinstance(groups, Iterable):
        given = [groups]
    else:
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


def main_factor(fit: Any) -> str | None:
    """
    The first factor of the fixed effects with a few levels, constant in groups.

    Parameters
    ----------
    fit : MixedLMARResults
        None is found if it has no formula, or no data.

    Returns
    -------
    str or None
    """
    spec = getattr(fit.model, "formula_spec", None)
    frame = getattr(fit.model.data, "frame", None)
    if spec is None or frame is None:
        return None
    codes = fit.model._codes
    for name in spec.variables:
        if name not in spec.levels and name not in spec.use.coded:
            continue
        column = pd.Series(pd.factorize(frame[name])[0])
        if not 2 <= column.nunique() <= len(COLOURS):
            continue
        if (column.groupby(codes).nunique() == 1).all():
            return str(name)
    return None


# So many equally spaced positions have a tick each.
_MOST_TICKS = 10
#: Grey of small text that explains a picture.
CAPTION = "0.35"


def mark_positions(ax: Axes, rows: PictureRows, most: int = _MOST_TICKS) -> None:
    """
    Ticks where the observations are, or where dates are round.

    Parameters
    ----------
    ax : Axes
    rows : PictureRows
    most : int
        The largest number of ticks.
    """
    if rows.ticks is not None:
        ax.set_xticks(range(len(rows.ticks)), labels=rows.ticks)
        if sum(map(len, rows.ticks)) > 40 * most / _MOST_TICKS:
            ax.tick_params(axis="x", rotation=90)
        return
    if rows.x.dtype.kind == "M":
        import matplotlib.dates as dates

        locator = dates.AutoDateLocator(minticks=2, maxticks=min(most, 6))
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        return
    places = np.unique(rows.x)
    steps = np.diff(places)
    if 1 < len(places) <= most and np.allclose(steps, steps[0], rtol=1e-6):
        ax.set_xticks(places)


def caption(ax: Axes, text: str) -> None:
    """
    Write small text below the label of the horizontal axis.

    Parameters
    ----------
    ax : Axes
    text : str
    """
    ax.annotate(
        text,
        xy=(0.5, 0.0),
        xycoords=ax.xaxis.get_label(),
        xytext=(0.0, -3.0),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize="small",
        color=CAPTION,
        annotation_clip=False,
    )
