"""
What was observed of some groups, and what is predicted for other times.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.exceptions import EmptyDataError, UnknownColumnError, UnsupportedError
from mixedar.inference.arguments import check_alpha
from mixedar.plotting.grid import panel_grid
from mixedar.plotting.horizontal import mark_positions
from mixedar.plotting.rows import (
    PictureRows,
    choose_groups,
    picture_rows,
    plottable,
)
from mixedar.plotting.style import BAND, COLOURS, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["plot_forecast"]

IntArray = NDArray[np.intp]


def plot_forecast(
    fit: Any,
    newdata: pd.DataFrame,
    groups: Any = None,
    x: str | None = None,
    *,
    level: str = "forecast",
    n_groups: int = 9,
    n_columns: int = 3,
    alpha: float = 0.05,
    figure: Figure | SubFigure | None = None,
    **options: Any,
) -> Figure | SubFigure:
    """
    Predictions of single groups with intervals, after or between their data.

    Parameters
    ----------
    fit : MixedLMARResults
        Of a model from a formula.
    newdata : DataFrame
        Rows to predict, as ``get_prediction`` takes them.  If it has the response,
        that is drawn as well, to be compared.
    groups : iterable of labels, or a label, optional
        Groups to draw; those of `newdata` by default, and a random sample of
        `n_groups` if there are more.
    x : str, optional
        Column that runs from left to right; the model's time by default.
    level : {"forecast", "group", "population"}
        As in ``get_prediction``.
    n_groups : int
        The largest number of panels without `groups`.
    n_columns : int
        Panels in a row.
    alpha : float
        1 - coverage of the intervals for observations.
    figure : Figure or SubFigure, optional
        Where to draw; a new figure by default.
    **options
        Passed to ``get_prediction``.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure

    Raises
    ------
    UnknownColumnError
        If `newdata` lacks the column of the groups or of the horizontal axis.
    EmptyDataError
        If it has no row of the groups.
    UnsupportedError
        If `newdata` is no DataFrame, or for numbers that are none.
    MixedARError
        As ``get_prediction``.
    """
    check_alpha(alpha)
    if isinstance(n_columns, bool) or int(n_columns) != n_columns or n_columns < 1:
        raise UnsupportedError(f"n_columns={n_columns!r} is not a number of columns")
    fit = getattr(fit, "_results", fit)
    rows = picture_rows(fit, x)
    labels = _labels(newdata, rows)
    given = list(pd.unique(labels)) if groups is None else groups
    chosen, _ = choose_groups(rows, given, n_groups)
    caption = None
    if groups is None and len(chosen) > n_groups:
        part = np.random.default_rng(0).choice(len(chosen), n_groups, replace=False)
        caption = f"{n_groups} of {len(chosen):,} groups, drawn at random"
        chosen = chosen[np.sort(part)]
    wanted = [rows.labels[code] for code in chosen]
    new = newdata[labels.isin(wanted).to_numpy()]
    if not len(new):
        raise EmptyDataError("newdata has no row of the groups to draw")
    frame = fit.get_prediction(new, level=level, **options).summary_frame(alpha)
    frame = frame.reset_index(drop=True)
    frame["x"] = plottable(new[rows.x_name].reset_index(drop=True))[0]
    frame["group"] = labels[labels.isin(wanted)].to_numpy()
    if rows.y_label in new.columns:
        frame["later"] = new[rows.y_label].to_numpy()
    across = min(int(n_columns), len(chosen))
    down = -(-len(chosen) // across)
    figure, panels = panel_grid(
        figure,
        len(chosen),
        across,
        size=(max(1.2 + 2.1 * across, 4.5), 1.1 + 1.6 * down),
        sharex=True,
        sharey=True,
    )
    everywhere = replace(rows, x=np.concatenate([rows.x, frame["x"].to_numpy()]))
    for ax, code in zip(panels, chosen, strict=True):
        _panel(ax, rows, int(code), frame, level)
        mark_positions(ax, everywhere, most=6)
    _frame(figure, panels, rows, caption, alpha)
    return figure


def _labels(newdata: Any, rows: PictureRows) -> pd.Series:
    """Labels of the groups of the new rows."""
    if not isinstance(newdata, pd.DataFrame):
        raise UnsupportedError(
            f"newdata is a {type(newdata).__name__}; a picture needs a DataFrame"
        )
    if rows.x_name is None:
        raise UnsupportedError(
            f"{rows.x_label!r} is no column of the data, so that new rows cannot be "
            "placed: name a column with x="
        )
    for name in (rows.group_name, rows.x_name):
        if name not in newdata.columns:
            raise UnknownColumnError(f"newdata has no column {name!r}")
    return newdata[rows.group_name]


def _panel(
    ax: Axes, rows: PictureRows, code: int, frame: pd.DataFrame, level: str
) -> None:
    own = np.flatnonzero(rows.codes == code)
    own = own[np.argsort(rows.x[own], kind="stable")]
    ax.plot(rows.x[own], rows.y[own], "-", color=GREY, linewidth=0.8)
    ax.plot(
        rows.x[own], rows.y[own], "o", color="black", markersize=3.5, label="observed"
    )
    part = frame[frame["group"] == rows.labels[code]].sort_values("x")
    single = len(part) == 1
    what = {"forecast": "forecast", "group": "predicted"}.get(level, "population")
    if single:
        half = part["obs_ci_upper"] - part["mean"]
        ax.errorbar(
            part["x"], part["mean"], half, color=COLOURS[0], fmt="D", ms=4, label=what
        )
    else:
        ax.fill_between(
            part["x"].to_numpy(),
            part["obs_ci_lower"],
            part["obs_ci_upper"],
            color=COLOURS[0],
            alpha=BAND,
            linewidth=0,
        )
        ax.plot(part["x"].to_numpy(), part["mean"], color=COLOURS[0], label=what)
    if "later" in part:
        ax.plot(
            part["x"].to_numpy(),
            part["later"],
            "o",
            markerfacecolor="white",
            markeredgecolor=COLOURS[1],
            markersize=4.5,
            label="came out",
        )
    ax.set_title(str(rows.labels[code]), fontsize="medium")
    ax.spines[["top", "right"]].set_visible(False)


def _frame(
    figure: Figure | SubFigure,
    panels: list[Axes],
    rows: PictureRows,
    caption: str | None,
    alpha: float,
) -> None:
    figure.supylabel(rows.y_label, fontsize="medium")
    figure.supxlabel(rows.x_label, fontsize="medium")
    found = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    names = sorted(found, key=lambda name: (name == "came out", name != "observed"))
    title = rows.group_name if caption is None else f"{rows.group_name}: {caption}"
    figure.legend(
        [found[name] for name in names],
        names,
        loc="outside upper center",
        ncol=len(names),
        frameon=False,
        title=f"{title}; {100 * (1 - alpha):g}% intervals for observations",
    )
