"""
Data and fitted curves, one panel a group.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixedar.exceptions import (
    EmptyDataError,
    MixedARError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.inference.arguments import check_alpha
from mixedar.plotting.curves import Curves, fitted_curves
from mixedar.plotting.population import plot_spaghetti
from mixedar.plotting.rows import (
    PictureRows,
    choose_groups,
    main_factor,
    mark_positions,
    picture_rows,
    plottable,
)
from mixedar.plotting.style import BAND, COLOURS, GREY, panel_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


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


_LINES = 60


def plot_overview(
    fit: Any, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """
    Four panels on one page.

    The data as lines with the means of the population, by the first factor that
    does not vary within groups; normalized residuals
    against fitted values, against normal quantiles, and their autocorrelation by
    lag, with the band in which the model expects it.

    Parameters
    ----------
    fit : MixedLMARResults
    figure : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure
        A panel that cannot be drawn, such as the autocorrelation of groups with
        one observation, says why.

    Raises
    ------
    NotComputedError
        If the data were removed from the fit.
    """
    fit = getattr(fit, "_results", fit)
    figure, panels = panel_grid(figure, 4, 2, size=(9.6, 7.4))
    data, fitted, normal, lags = panels
    plot_spaghetti(fit, main_factor(fit), ax=data, n_lines=_LINES, explain=False)
    _draw(fitted, lambda ax: fit.plot_residuals(ax=ax))
    _draw(normal, lambda ax: fit.qqplot(ax=ax))
    _draw(lags, lambda ax: fit.plot_acf(ax=ax))
    return figure


def _draw(ax: Axes, draw: Any) -> None:
    """Draw, or say in the panel why not."""
    try:
        draw(ax)
    except MixedARError as error:
        ax.clear()
        ax.set_axis_off()
        ax.text(
            0.5,
            0.5,
            str(error),
            ha="center",
            va="center",
            wrap=True,
            transform=ax.transAxes,
        )


_CURVES = {"population": (COLOURS[1], "--"), "group": (COLOURS[0], "-")}


def plot_trajectories(
    fit: Any,
    groups: Any = None,
    x: Any = None,
    *,
    n_groups: int = 16,
    n_columns: int | None = None,
    curves: tuple[str, ...] = ("population", "group"),
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """
    Observations of each group with the curves of the population and of the group.

    nlme's ``plot(augPred(fit, level = 0:1))``.  Panels share their axes.

    Parameters
    ----------
    fit : MixedLMARResults
    groups : iterable of labels, or a label, optional
        Groups to draw, in this order; all by default, and a random sample of
        `n_groups` if there are more.
    x : str or array_like, shape (n,), optional
        What runs from left to right; the model's time by default.
    n_groups : int
        The largest number of panels without `groups`.
    n_columns : int, optional
        Panels in a row.
    curves : tuple of str
        Which curves: ``"population"`` (fixed effects), ``"group"`` (random
        effects too).

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    GroupError
        For a label that no group has.
    UnsupportedError
        For other curves, or numbers that are none.
    UnknownColumnError
        If `x` is no column of the data.
    """
    unknown = [name for name in curves if name not in _CURVES]
    if unknown:
        raise UnsupportedError(
            f"curves: {unknown[0]!r} is not known; choose from {list(_CURVES)}"
        )
    rows = picture_rows(fit, x)
    chosen, caption = choose_groups(rows, groups, n_groups)
    across = _across(len(chosen)) if n_columns is None else int(n_columns)
    if across < 1:
        raise UnsupportedError(f"n_columns={n_columns!r} is not a number of columns")
    across = min(across, len(chosen))
    down = -(-len(chosen) // across)
    figure, panels = panel_grid(
        figure,
        len(chosen),
        across,
        size=(max(1.2 + 1.7 * across, 4.0), 1.1 + 1.45 * down),
        sharex=True,
        sharey=True,
    )
    drawn = fitted_curves(fit, rows, chosen)
    for ax, code in zip(panels, chosen, strict=True):
        _trajectory_panel(ax, rows, int(code), drawn, curves)
    _trajectory_frame(figure, panels, rows, caption)
    return figure


def _across(count: int) -> int:
    """Columns of a grid somewhat wider than high."""
    return int(np.ceil(np.sqrt(count)))


def _trajectory_panel(
    ax: Axes, rows: PictureRows, code: int, drawn: Curves, curves: tuple[str, ...]
) -> None:
    own = np.flatnonzero(rows.codes == code)
    for name in curves:
        colour, style = _CURVES[name]
        values = getattr(drawn, name)
        for k, line in enumerate(np.unique(rows.lines[own])):
            here = drawn.line == line
            single = drawn.tied or here.sum() == 1
            ax.plot(
                drawn.x[here],
                values[here],
                color=colour,
                linestyle="none" if single else style,
                marker="_" if single else None,
                markersize=12.0,
                linewidth=1.6,
                label=name if k == 0 else None,
            )
    ax.plot(
        rows.x[own],
        rows.y[own],
        "o",
        color="black",
        markersize=3.5,
        label="observed",
        zorder=3,
    )
    ax.set_title(str(rows.labels[code]), fontsize="medium")
    ax.spines[["top", "right"]].set_visible(False)


def _trajectory_frame(
    figure: Figure | SubFigure, panels: Any, rows: PictureRows, caption: str | None
) -> None:
    """What the panels share: names of the axes, legend, caption."""
    figure.supylabel(rows.y_label, fontsize="medium")
    figure.supxlabel(rows.x_label, fontsize="medium")
    for ax in panels:
        mark_positions(ax, rows, most=6)
    handles, names = panels[0].get_legend_handles_labels()
    title = rows.group_name if caption is None else f"{rows.group_name}: {caption}"
    figure.legend(
        handles,
        names,
        loc="outside upper center",
        ncol=len(names),
        frameon=False,
        title=title,
    )
