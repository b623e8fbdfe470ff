"""
A statistic of the data among its values in simulated data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mixedar.exceptions import UnknownColumnError
from mixedar.plotting.smooth import legend_above
from mixedar.plotting.style import COLOURS, GREY, axes, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_check"]


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
