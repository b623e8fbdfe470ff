"""
Observed responses against responses drawn from the fitted model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.exceptions import UnknownColumnError
from mixedar.plotting.style import COLOURS, GREY, axes, label, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_check(
    check: Any, statistic: str | None = None, ax: Axes | None = None
) -> Axes:
    """
    Histogram of a statistic in the draws, and its value in the data.

    Parameters
    ----------
    check : PredictiveCheck
    statistic : str, optional
        The first one by default.
    ax : Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    UnknownColumnError
        If there is no such statistic.
    """
    names = list(check.observed.index)
    name = names[0] if statistic is None else statistic
    if name not in names:
        raise UnknownColumnError(
            f"statistic={name!r}: this check has {', '.join(map(repr, names))}"
        )
    draws = check.simulated[name].to_numpy()
    value = float(check.observed[name])
    ax = axes(ax)
    text = f"observed: {value:.4g} (p = {check.pvalues[name]:.2g})"
    bins = int(np.clip(np.sqrt(len(draws)), 8, 40))
    ax.hist(draws, bins=bins, color=COLOURS[5], alpha=0.6, label="simulated")
    for q in np.quantile(draws, [0.025, 0.975]):
        ax.axvline(q, color=GREY, linestyle="--", linewidth=1.0)
    ax.axvline(value, color=COLOURS[1], linewidth=2.4, label=text)
    low, high = min(draws.min(), value), max(draws.max(), value)
    ax.set_xlim(low - 0.08 * (high - low or 1.0), high + 0.08 * (high - low or 1.0))
    ax.margins(y=0.15)
    return label(ax, str(name), "Simulated data sets", **legend_above())


_GRID = 256


def plot_draws(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """
    Draw the density of the data among those of drawn data sets.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`mixedar.diagnostics.predictive.response_draws`.
    ax : Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    draws = frame.drop(columns="observed")
    low, high = float(frame.to_numpy().min()), float(frame.to_numpy().max())
    ax = axes(ax)
    for k, name in enumerate(draws):
        ax.plot(
            *density(draws[name].to_numpy(), low, high),
            color=COLOURS[5],
            linewidth=0.8,
            alpha=max(0.25, min(0.7, 15.0 / draws.shape[1])),
            label="simulated" if k == 0 else None,
        )
    observed = density(frame["observed"].to_numpy(), low, high)
    ax.plot(*observed, color="black", linewidth=2.2, label="observed")
    ax.set_ylim(bottom=0.0)
    ax.margins(x=0.0)
    ax = label(ax, str(frame.columns.name), "Density", **legend_above())
    legend = ax.get_legend()
    if legend is not None:  # thin lines are hard to see in a legend
        for handle in legend.get_lines():
            handle.set_alpha(1.0)
            handle.set_linewidth(2.0)
    return ax


def density(x: FloatArray, low: float, high: float) -> tuple[FloatArray, FloatArray]:
    """
    Gaussian kernel density on a grid, from counts: linear in the observations.

    Parameters
    ----------
    x : ndarray, shape (n,)
    low, high : float
        What the grid has to cover; it reaches three bandwidths beyond.

    Returns
    -------
    grid, values : ndarray, shape (256,)
    """
    quartiles = np.quantile(x, [0.25, 0.75])
    spread = min(float(np.std(x)), float(quartiles[1] - quartiles[0]) / 1.349)
    if not spread > 0.0:
        spread = max(float(np.std(x)), 1e-3 * max(high - low, abs(high), 1e-300))
    width = 0.9 * spread * len(x) ** -0.2  # Silverman's rule
    grid = np.linspace(low - 3.0 * width, high + 3.0 * width, _GRID)
    step = grid[1] - grid[0]
    # each observation is shared between the two nearest points
    place = np.clip((x - grid[0]) / step, 0.0, _GRID - 1.001)
    left = place.astype(np.intp)
    rest = place - left
    counts = np.bincount(left, 1.0 - rest, minlength=_GRID)
    counts += np.bincount(left + 1, rest, minlength=_GRID)
    kernel = np.exp(-0.5 * ((grid[:, None] - grid) / width) ** 2)
    return grid, kernel @ counts / (len(x) * width * np.sqrt(2.0 * np.pi))
