"""
Smooths as curves and surfaces, a panel each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from mixedar._types import FloatArray
from mixedar.plotting import BAND, COLOURS, GREY, caption, evenly, label, panel_grid
from mixedar.prediction.smooths import SmoothPicture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Farther from the data, in ranges of the covariates, no contours are drawn.
_FAR = 0.1


def plot_smooths(
    pictures: Sequence[SmoothPicture],
    *,
    simultaneous: bool = True,
    max_levels: int = 60,
    n_columns: int = 3,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """
    Draw smooths: curves with bands and the places of the data, surfaces as contours.

    Curves share the vertical axis.

    Parameters
    ----------
    pictures : sequence of SmoothPicture
    simultaneous : bool
        Whether the band for the whole curve is drawn around the pointwise one.
    max_levels : int
        Curves of a factor in one panel, of more a choice.
    n_columns : int
        Panels in a row.
    figure : Figure or SubFigure, optional

    Returns
    -------
    matplotlib.figure.Figure or SubFigure
    """
    across = min(n_columns, len(pictures))
    figure, panels = panel_grid(figure, len(pictures), across, (3.6, 3.0))
    flat = []
    for ax, one in zip(panels, pictures, strict=True):
        if len(one.covariates) > 1:
            _surface(ax, one)
            continue
        flat.append(ax)
        if one.factor:
            _lines(ax, one, max_levels)
        else:
            _curve(ax, one, simultaneous)
        _rug(ax, np.unique(one.rug[:, 0]))
        label(ax, one.covariates[0], one.title)
    if flat:
        low, high = zip(*(ax.get_ylim() for ax in flat), strict=True)
        for ax in flat:
            ax.set_ylim(min(low), max(high))
    return figure


def _curve(ax: Axes, one: SmoothPicture, simultaneous: bool) -> None:
    """A curve in its bands."""
    frame, blue = one.frame, COLOURS[0]
    x = frame[one.covariates[0]].to_numpy()
    ax.axhline(0.0, color=GREY, linewidth=0.8, linestyle=":")
    bands = ["simultaneous_lower", "simultaneous_upper"], ["lower", "upper"]
    for low, high in bands if simultaneous else bands[1:]:
        ax.fill_between(
            x, frame[low], frame[high], color=blue, alpha=BAND, linewidth=0.0
        )
    ax.plot(x, frame["fit"], color=blue, linewidth=1.6)


def _lines(ax: Axes, one: SmoothPicture, max_levels: int) -> None:
    """A curve for each level."""
    levels = one.frame[one.factor].unique()
    for k in evenly(len(levels), max_levels):
        own = one.frame[one.frame[one.factor] == levels[k]]
        x = own[one.covariates[0]].to_numpy()
        ax.plot(x, own["fit"], color=COLOURS[0], linewidth=0.8, alpha=0.6)
    if len(levels) > max_levels:
        caption(ax, f"{max_levels} of {len(levels)} levels of {one.factor}")


def _surface(ax: Axes, one: SmoothPicture) -> None:
    """Contours near the places of the data."""
    first, second = one.covariates
    frame, span = one.frame, np.ptp(one.rug, axis=0)
    near = cKDTree(one.rug / span).query(frame[one.covariates] / span)[0] <= _FAR
    shown = frame.assign(fit=frame["fit"].where(near))
    values = shown.pivot(index=second, columns=first, values="fit")
    x, y = values.columns.to_numpy(), values.index.to_numpy()
    ax.plot(one.rug[:, 0], one.rug[:, 1], ".", color=GREY, markersize=2.0, alpha=0.5)
    lines = ax.contour(x, y, values.to_numpy(), levels=9, colors=COLOURS[0])
    ax.clabel(lines, fontsize="x-small")
    label(ax, first, second, one.title)


def _rug(ax: Axes, x: FloatArray) -> None:
    """Ticks where the data are, along the lower edge."""
    ax.plot(
        x,
        np.zeros(len(x)),
        "|",
        color=GREY,
        markersize=6.0,
        transform=ax.get_xaxis_transform(),
    )
