"""
Single groups: how much they matter, and how far a mixed model draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import FloatArray, Seed
from mixedar.exceptions import (
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
    check_choice,
)
from mixedar.inference.arguments import generator
from mixedar.plotting import (
    BAND,
    COLOURS,
    GREY,
    LINES,
    axes,
    chosen,
    label,
    name_point,
    panel_axes,
    panel_grid,
    picture,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


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
    frame: pd.DataFrame, y_var: str = "cooks_d", labels: int = 5, ax: Axes | None = None
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


def plot_dfbetas(frame: pd.DataFrame, labels: int = 3) -> Figure | SubFigure:
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
    frame = frame.loc[:, frame.notna().any()]
    count = frame.shape[1]
    across = min(2 if count == 4 else _ACROSS, max(count, 1))
    figure, panels = panel_grid(
        None, count, across, (3.6, 2.8), (0.4, 0.0), sharex=True
    )
    limit = 2.0 / np.sqrt(len(frame))
    for k, (ax, name) in enumerate(zip(panels, frame, strict=True)):
        _stems(ax, frame[name], 0.0, labels)
        for side in (-limit, limit):
            ax.axhline(side, color=GREY, linestyle="--", linewidth=1.0)
        groups = _group_axis(ax, frame.index, _NAMED_IN_PANEL)
        last = k + across >= count
        y_label = "" if k % across else "Change (standard errors)"
        label(ax, groups if last else "", y_label, str(name))
        ax.tick_params(axis="x", labelbottom=last)
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
        shift = (5 if x[k] <= middle else -5, 2 if up else -2)
        va = "bottom" if up else "top"
        name_point(ax, str(values.index[k]), (x[k], y[k]), shift, va)
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


_OWN, _MIXED = COLOURS[1], COLOURS[0]
_GRID = 400
# Part of the own estimates at either end that may lie outside a density's panel.
_OUTSIDE = 0.005


def plot_shrinkage(
    own: pd.DataFrame,
    mixed: pd.DataFrame,
    population: pd.Series,
    measures: pd.DataFrame,
    cov_re: pd.DataFrame,
    kind: str = "density",
    coefficients: str | Sequence[str] | None = None,
    *,
    max_groups: int = 150,
    rng: Seed = 0,
    ax: Axes | Sequence[Axes] | None = None,
) -> Axes | Figure | SubFigure:
    """
    Draw own estimates and those of the mixed model.

    Parameters
    ----------
    own, mixed : DataFrame, shape (m, k)
        Estimates of the groups, a column a coefficient.
    population : Series, shape (k,)
    measures : DataFrame, shape (k, 8)
        Of ``Shrinkage``.
    cov_re : DataFrame, shape (k, k)
        Of the random effects in the model.
    kind : {"density", "arrows"}
        Densities of the estimates of all groups, with that of the random effect in
        the model (a panel for each coefficient); or an arrow for each group from its
        own estimate to that of the mixed model, in the plane of two coefficients,
        or from left to right for one.
    coefficients : str or sequence of str, optional
        All by default; for arrows the first two.
    max_groups : int
        Of more groups so many have arrows, drawn at random.
    rng : int or Generator
        Of this choice.
    ax : Axes or sequence of Axes, optional
        One for each panel.

    Returns
    -------
    matplotlib.axes.Axes or Figure
        The figure if there are several panels.

    Raises
    ------
    UnknownColumnError, UnsupportedError
        For coefficients that do not exist, too few axes, or another `kind`.
    NotComputedError
        If no group has an estimate of its own.
    """
    check_choice("kind", kind, ("density", "arrows"))
    names = chosen(list(map(str, own)), coefficients)
    if kind == "density":
        panels = panel_axes(len(names), ax, 4.6, 3.6)
        for name, panel in zip(names, panels, strict=True):
            _densities(
                panel,
                own[name].dropna().to_numpy(),
                mixed[name].to_numpy(),
                float(population[name]),
                measures.T[name],
            )
        panels[0].legend(frameon=False, fontsize="small")
        return picture(panels)
    if len(names) > 2:
        if coefficients is not None:
            raise UnsupportedError(
                f"arrows in a plane show two coefficients, not {len(names)}"
            )
        names = names[:2]
    known = own[names].notna().all(axis=1).to_numpy()
    here = np.flatnonzero(known)
    if not len(here):
        raise NotComputedError(
            "no group has an estimate of its own for each of these coefficients"
        )
    total = len(here)
    if total > max_groups:
        here = generator(rng).choice(here, max_groups, replace=False)
    [panel] = panel_axes(1, ax, 5.6, 4.6)
    draw = _plane if len(names) == 2 else _slopes
    starts, stops = own[names].iloc[here], mixed[names].iloc[here]
    draw(panel, starts, stops, population[names], cov_re.loc[names, names])
    groups = f"{total:,} groups"
    if len(here) < total:
        groups = f"{len(here):,} of {total:,} groups, drawn at random"
    without = len(own) - total
    groups += f"; {without:,} without own estimates" if without else ""
    panel.set_title(groups, fontsize="small", color="0.3")
    return panel


def _densities(
    panel: Axes, own: FloatArray, mixed: FloatArray, centre: float, measures: pd.Series
) -> None:
    every = np.concatenate([own, mixed])
    low, high = np.quantile(every, [_OUTSIDE, 1.0 - _OUTSIDE])
    pad = (0.12 + 0.5 * len(own) ** -0.5) * (high - low) or 1.0  # tails of kernels
    grid = np.linspace(low - pad, high + pad, _GRID)
    series = (("own", own, _OWN, LINES[1]), ("mixed", mixed, _MIXED, LINES[0]))
    for what, values, colour, line in series:
        height = _density(values, grid)
        if height is None:  # all alike
            panel.axvline(values[0], color=colour, linestyle=line, label=what)
            continue
        panel.fill_between(grid, height, color=colour, alpha=BAND, linewidth=0.0)
        panel.plot(grid, height, color=colour, linestyle=line, label=what)
    if measures["variance_model"] > 0.0:
        model = stats.norm.pdf(grid, centre, np.sqrt(measures["variance_model"]))
        panel.plot(grid, model, color="black", linestyle=":", label="model")
    panel.axvline(centre, color=GREY, linewidth=1.0, zorder=0, label="population")
    panel.set_ylim(0.0, None)
    panel.set_xlim(grid[0], grid[-1])
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)
    title = None
    if np.isfinite(measures["ratio"]):
        title = f"variance mixed / own = {measures['ratio']:.2f}"
    outside = int(((own < grid[0]) | (own > grid[-1])).sum())
    note = f"\n({outside:,} own estimates lie outside)" if outside else ""
    panel.set_xlabel(f"{measures.name}{note}")
    panel.set_title(title or "", fontsize="medium")
    panel.spines[["top", "right"]].set_visible(False)


def _density(values: FloatArray, grid: FloatArray) -> FloatArray | None:
    """Kernel estimate at the grid, Silverman's rule; None if values are all alike."""
    if len(values) < 2:
        return None
    quartiles = np.quantile(values, [0.25, 0.75])
    sds = [values.std(ddof=1), float(np.ptp(quartiles)) / 1.34]
    positive = [s for s in sds if s > 1e-8 * max(abs(float(values.mean())), 1e-300)]
    if not positive:
        return None
    width = 0.9 * min(positive) * len(values) ** -0.2
    # counts in narrow bins make the cost independent of the number of groups
    edges = np.linspace(grid[0] - 5.0 * width, grid[-1] + 5.0 * width, 4001)
    counts, _ = np.histogram(values, edges)
    middle = 0.5 * (edges[1:] + edges[:-1])
    used = np.flatnonzero(counts)
    kernel = stats.norm.pdf(grid[:, None], middle[used], width)
    return np.asarray(kernel @ counts[used] / len(values))


def _plane(
    panel: Axes,
    own: pd.DataFrame,
    mixed: pd.DataFrame,
    centre: pd.Series,
    cov: pd.DataFrame,
) -> None:
    radius = np.sqrt(stats.chi2.ppf(0.95, 2))
    angle = np.linspace(0.0, 2.0 * np.pi, 200)
    values, vectors = np.linalg.eigh(cov.to_numpy())
    circle = np.sqrt(np.maximum(values, 0.0))[:, None] * [np.cos(angle), np.sin(angle)]
    ellipse = centre.to_numpy()[:, None] + radius * vectors @ circle
    panel.plot(*ellipse, color=GREY, linestyle=":", label="95% of groups in the model")
    x, y = own.to_numpy().T
    panel.quiver(
        x,
        y,
        *(mixed - own).to_numpy().T,
        angles="xy",
        scale_units="xy",
        scale=1.0,
        width=0.0025,
        headwidth=5.0,
        headlength=6.0,
        color=_MIXED,
        alpha=0.7,
    )
    panel.plot(x, y, "o", ms=3.5, mfc="none", color=_OWN, label="own")
    panel.plot([], [], color=_MIXED, marker=">", markersize=4.0, label="to mixed")
    panel.plot(*centre, "k*", markersize=13.0, label="population")
    label(panel, *own.columns, fontsize="small", loc="best")


def _slopes(
    panel: Axes,
    own: pd.DataFrame,
    mixed: pd.DataFrame,
    centre: pd.Series,
    cov: pd.DataFrame,
) -> None:
    few = len(own) <= 60
    starts, stops = own.to_numpy()[:, 0], mixed.to_numpy()[:, 0]
    for start, stop in zip(starts, stops, strict=True):
        panel.annotate(
            "",
            xy=(1.0, stop),
            xytext=(0.0, start),
            arrowprops={
                "arrowstyle": "->",
                "color": _MIXED,
                "alpha": 0.8 if few else 0.45,
                "linewidth": 1.2 if few else 0.7,
                "shrinkA": 0.0,
                "shrinkB": 0.0,
            },
        )
    panel.plot(np.zeros(len(own)), starts, "o", color=_OWN, markersize=3.5)
    panel.axhline(centre.iloc[0], color="black", linewidth=1.2, label="population")
    panel.set_xticks([0.0, 1.0], ["own", "mixed"])
    panel.set_xlim(-0.15, 1.15)
    reach = np.concatenate([starts, stops, centre])
    pad = 0.05 * float(np.ptp(reach)) or 1.0
    panel.set_ylim(reach.min() - pad, reach.max() + pad)
    label(panel, "", own.columns[0], fontsize="small", loc="best")
