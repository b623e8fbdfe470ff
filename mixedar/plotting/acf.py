"""
Autocorrelation by lag, with its bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixedar.diagnostics.rows import rows_of
from mixedar.plotting.smooth import legend_above
from mixedar.plotting.style import BAND, COLOURS, GREY, axes, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["distance_label", "plot_acf"]


def distance_label(fit: Any, what: str) -> str:
    """
    Name of an axis of distances in time.

    Parameters
    ----------
    fit : MixedLMARResults
    what : str
        Such as ``"Lag"``.

    Returns
    -------
    str
        With the unit of time, or the name of the time variable.
    """
    unit = rows_of(fit).unit
    if unit == "row":
        return f"{what} (rows)"
    if unit is None:
        name = getattr(fit.model, "time_name", None)
        name = name or getattr(fit.model.time, "name", None)
        return f"{what} in {name}" if name else f"{what} in time"
    unit = str(unit).replace("step of", "steps of")
    if unit.startswith("1 "):
        unit = f"{unit[2:]}s"
    return f"{what} ({unit})"


def plot_acf(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    x_label: str = "Lag",
    title: str | None = None,
) -> Axes:
    """
    Draw autocorrelations as stems, and the band in which they should lie.

    Parameters
    ----------
    table : DataFrame
        Of :func:`mixedar.diagnostics.acf.residual_acf` or
        :func:`~mixedar.diagnostics.acf.autocorrelation`.
    ax : Axes, optional
    x_label, title : str, optional

    Returns
    -------
    matplotlib.axes.Axes
        Lag 0, which is always one, is left out.
    """
    part = table[table["lag"] > 0.0]
    lag, acf = part["lag"].to_numpy(), part["acf"].to_numpy()
    lower, upper = part["lower"].to_numpy(), part["upper"].to_numpy()
    ax = axes(ax)
    width = _width(lag)
    ax.bar(
        lag,
        upper - lower,
        width,
        lower,
        color=COLOURS[5],
        alpha=BAND + 0.1,
        linewidth=0.0,
        label="under the model" if "expected" in part else "white noise",
    )
    if "expected" in part:
        ax.hlines(
            part["expected"],
            lag - 0.5 * width,
            lag + 0.5 * width,
            color=GREY,
            linestyle="--",
            linewidth=1.2,
            label="expected",
        )
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    ax.vlines(lag, 0.0, acf, color=COLOURS[0], linewidth=1.4)
    out = (acf < lower) | (acf > upper)
    ax.plot(
        lag[~out], acf[~out], "o", color=COLOURS[0], markersize=5, label="residuals"
    )
    if out.any():
        ax.plot(
            lag[out], acf[out], "D", color=COLOURS[1], markersize=6, label="outside"
        )
    if len(lag) <= 15 and (lag == np.rint(lag)).all() and np.ptp(lag) <= 15:
        ax.set_xticks(lag)
    ends = np.concatenate([acf, lower, upper, [0.0]])
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    ax.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    beyond = max(0.6 * width, 0.02 * float(np.ptp(lag)))
    ax.set_xlim(lag.min() - beyond, lag.max() + beyond)
    return label(ax, x_label, "Autocorrelation", title, **legend_above(title))


def _width(lag: np.ndarray) -> float:
    """Bars that touch where lags are equally spaced, and are seen where not."""
    if len(lag) == 1:
        return float(lag[0])
    steps = np.diff(lag)
    if np.ptp(steps) < 0.2 * steps.max():
        return float(steps.min())
    return max(0.8 * float(steps.min()), float(np.ptp(lag)) / 80.0)
