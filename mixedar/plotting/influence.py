"""
Pictures of how much single groups matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mixedar.exceptions import UnknownColumnError
from mixedar.plotting.style import COLOURS, GREY, axes, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# With more groups their labels do not fit below the axis.
_NAMED = 40
# Columns of panels, and groups that can be named below such a panel.
_ACROSS = 3
_NAMED_IN_PANEL = 12

_AXES = {
    "cooks_d": "Cook's distance, fixed effects",
    "cooks_d_theta": "Cook's distance, covariance parameters",
    "mdffits": "MDFFITS",
    "covratio": "Covariance ratio",
    "covtrace": "Covariance trace",
    "leverage": "Leverage, fixed effects",
    "leverage_re": "Leverage, random effects",
    "outlier_F": "F statistic of the group as an outlier",
}


def plot_index(
    frame: pd.DataFrame,
    y_var: str = "cooks_d",
    labels: int = 5,
    ax: Axes | None = None,
) -> Axes:
    """
    A measure of influence by group.

    Parameters
    ----------
    frame : DataFrame
        Of ``GroupInfluence.summary_frame``.
    y_var : str
        A column of it.
    labels : int
        How many of the largest values to label.
    ax : Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A broken line at four divided by the number of groups marks large
        distances, by a common rule of thumb.

    Raises
    ------
    UnknownColumnError
        If there is no such column.
    """
    if y_var not in frame.columns:
        raise UnknownColumnError(
            f"y_var={y_var!r}: choose one of {', '.join(map(repr, frame.columns))}"
        )
    ax = axes(ax, 7.0)
    base = 1.0 if y_var == "covratio" else 0.0
    _stems(ax, frame[y_var].astype(float), base, labels)
    if y_var.startswith("cooks_d"):
        ax.axhline(4.0 / len(frame), color=GREY, linestyle="--", linewidth=1.0)
    return label(ax, _group_axis(ax, frame.index), _AXES.get(y_var, y_var))


def plot_dfbetas(frame: pd.DataFrame, labels: int = 3) -> Figure:
    """
    Changes of the estimates by group, a panel a parameter.

    Parameters
    ----------
    frame : DataFrame
        Changes in standard errors, a column a parameter.
    labels : int
        How many of the largest changes to label in each panel.

    Returns
    -------
    matplotlib.figure.Figure
        Broken lines at two divided by the root of the number of groups mark
        large changes, by a common rule of thumb.
    """
    import matplotlib.pyplot as plt

    frame = frame.loc[:, frame.notna().any()]
    columns = list(frame.columns)
    across = min(2 if len(columns) == 4 else _ACROSS, max(len(columns), 1))
    down = -(-max(len(columns), 1) // across)
    figure, grid = plt.subplots(
        down,
        across,
        figsize=(3.6 * across + 0.4, 2.8 * down),
        layout="constrained",
        sharex=True,
        squeeze=False,
    )
    for ax, name in zip(grid.flat, columns, strict=False):
        _stems(ax, frame[name], 0.0, labels)
        for side in (-1.0, 1.0):
            ax.axhline(
                side * 2.0 / np.sqrt(len(frame)),
                color=GREY,
                linestyle="--",
                linewidth=1.0,
            )
        label(ax, _group_axis(ax, frame.index, _NAMED_IN_PANEL), "", str(name))
    for k, ax in enumerate(grid.flat):
        ax.set_visible(k < len(columns))
        if k + across < len(columns):
            ax.set_xlabel("")
        ax.tick_params(axis="x", labelbottom=k + across >= len(columns))
    for ax in grid[:, 0]:
        ax.set_ylabel("Change (standard errors)")
    return figure


def _stems(ax: Axes, values: pd.Series, base: float, labels: int) -> None:
    """Lines from `base` to each value, the farthest of them named."""
    y = values.to_numpy()
    x = np.arange(len(y))
    far = np.nan_to_num(np.abs(y - base), nan=-1.0)
    chosen = np.argsort(-far, kind="stable")[: max(labels, 0)]
    chosen = chosen[far[chosen] > 0.0]
    thin = len(y) > 150
    ax.vlines(x, base, y, color=GREY, linewidth=0.6 if thin else 1.2)
    ax.plot(
        x, y, "o", color=COLOURS[0], markersize=2.0 if thin else 4.0, linestyle="none"
    )
    ax.plot(x[chosen], y[chosen], "D", color=COLOURS[1], markersize=5.0)
    ax.axhline(base, color=GREY, linewidth=0.8)
    middle = 0.5 * (len(y) - 1)
    for k in chosen:
        up = y[k] >= base
        ax.annotate(
            str(values.index[k]),
            (x[k], y[k]),
            xytext=(5 if x[k] <= middle else -5, 2 if up else -2),
            textcoords="offset points",
            ha="left" if x[k] <= middle else "right",
            va="bottom" if up else "top",
            fontsize="small",
        )
    ax.margins(x=0.03, y=0.12)
    if len(y) and np.nanmin(y, initial=np.inf) >= base:
        ax.set_ylim(bottom=base - 0.02 * (np.nanmax(y) - base))


def _group_axis(ax: Axes, index: pd.Index, most: int = _NAMED) -> str:
    """Name the groups below the axis, or say that they stand in order."""
    name = str(index.name or "group")
    if len(index) > most:
        return f"{name} (position)"
    ax.set_xticks(np.arange(len(index)), [str(k) for k in index])
    ax.tick_params(axis="x", labelrotation=90, labelsize="small")
    return name
