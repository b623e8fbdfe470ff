"""
Predicted random effects: caterpillars and normal quantiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from mixedar.exceptions import UnsupportedError
from mixedar.plotting.coefficients import LABELLED, draw_intervals
from mixedar.plotting.style import (
    BAND,
    COLOURS,
    GREY,
    chosen,
    evenly,
    label,
    panel_axes,
    picture,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Points at either end of a QQ plot that are drawn however many there are.
_TAIL = 200


def plot_random_effects(
    frame: pd.DataFrame,
    kind: str = "caterpillar",
    effect: str | None = None,
    *,
    alpha: float = 0.05,
    max_groups: int = 400,
    ax: Any = None,
) -> Any:
    """
    Draw predicted random effects.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`mixedar.by_group.effects.plot_data`.
    kind : {"caterpillar", "qq"}
        Predictions with intervals, sorted; or standardized predictions against
        normal quantiles, with the band in which each of them lies with probability
        1 - `alpha` if the random effects are normal (so that some 5 in 100 points
        lie outside of a 95% band).
    effect : str, optional
        The random effect to draw; all, one a panel, by default.  Levels of a
        variance component share a panel.
    alpha : float
        1 - coverage of intervals and band.
    max_groups : int
        Of more groups so many intervals are drawn, evenly by rank.
    ax : Axes or sequence of Axes, optional
        One for each panel.

    Returns
    -------
    matplotlib.axes.Axes or Figure
        The figure if there are several panels.

    Raises
    ------
    UnknownColumnError, UnsupportedError
        For an effect that does not exist, too few axes, or another `kind`.
    """
    if kind not in ("caterpillar", "qq"):
        raise UnsupportedError(f"kind={kind!r}: choose 'caterpillar' or 'qq'")
    names = chosen(list(frame["effect"].unique()), effect)
    parts = [frame[frame["effect"] == name] for name in names]
    if kind == "qq":
        panels = panel_axes(len(names), ax, 4.2, 3.8)
        for name, part, panel in zip(names, parts, panels, strict=True):
            _quantiles(panel, part["standardized"], name, alpha)
        return picture(panels)
    most = max(len(part) for part in parts)
    height = 1.1 + 0.17 * most if most <= LABELLED else 5.0
    panels = panel_axes(len(names), ax, 3.8, max(height, 2.5))
    for name, part, panel in zip(names, parts, panels, strict=True):
        _caterpillar(panel, part, name, alpha, max_groups)
    return picture(panels)


def _caterpillar(
    panel: Axes, part: pd.DataFrame, name: str, alpha: float, max_groups: int
) -> None:
    part = part.sort_values("predicted", kind="stable")
    total = len(part)
    part = part.iloc[evenly(total, max_groups)]
    draw_intervals(panel, part[["predicted", "lower", "upper"]], COLOURS[0])
    panel.axvline(0.0, color=GREY, linewidth=1.0, linestyle="--", zorder=0)
    label(panel, f"{name} ({100 * (1 - alpha):g}% intervals)", "")
    if total <= min(LABELLED, max_groups):
        panel.set_yticks(np.arange(total), part["label"])
        panel.tick_params(axis="y", length=0, labelsize="small")
        return
    panel.set_yticks([])
    what = f"{total:,} predictions, sorted"
    if len(part) < total:
        what = f"{len(part):,} of {total:,} predictions, evenly by rank"
    panel.set_ylabel(what)


def _quantiles(panel: Axes, values: pd.Series, name: str, alpha: float) -> None:
    label(panel, "Normal quantile", "Standardized prediction", name)
    observed = np.sort(values.dropna().to_numpy())
    n = len(observed)
    if not n:
        panel.set_axis_off()
        text = "variance zero:\nall predictions are zero"
        panel.text(0.5, 0.5, text, ha="center", transform=panel.transAxes)
        return
    rank = np.arange(1, n + 1)
    drawn = np.minimum(rank, n + 1 - rank) <= _TAIL
    drawn[evenly(n, 1000)] = True
    observed, rank = observed[drawn], rank[drawn]
    middle = stats.norm.ppf((rank - 0.5) / n)
    # the i-th smallest of n uniform numbers has a beta distribution
    lower, upper = (
        stats.norm.ppf(stats.beta.ppf(q, rank, n + 1 - rank))
        for q in (alpha / 2.0, 1.0 - alpha / 2.0)
    )
    panel.fill_between(
        middle,
        lower,
        upper,
        color=GREY,
        alpha=BAND,
        linewidth=0.0,
        label=f"{100 * (1 - alpha):g}% band, point by point",
    )
    panel.plot(middle, middle, color=GREY, linewidth=1.0)
    panel.plot(
        middle,
        observed,
        linestyle="none",
        marker="o",
        markersize=3.0,
        color=COLOURS[0],
    )
    panel.legend(frameon=False, loc="upper left", fontsize="small")
