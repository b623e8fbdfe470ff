"""
Own estimates of groups and those of a mixed model: densities, and arrows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from mixedar._types import FloatArray
from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.plotting.style import (
    BAND,
    COLOURS,
    GREY,
    LINES,
    axes,
    chosen,
    label,
    panel_axes,
    picture,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_OWN, _MIXED = COLOURS[1], COLOURS[0]
_GRID = 400
# Part of the own estimates at either end that may lie outside a density's panel.
_OUTSIDE = 0.005


def plot_shrinkage(
    result: Any,
    kind: str = "density",
    coefficients: str | Sequence[str] | None = None,
    *,
    max_groups: int = 150,
    seed: int = 0,
    ax: Any = None,
) -> Any:
    """
    Draw own estimates and those of the mixed model.

    Parameters
    ----------
    result : Shrinkage
    kind : {"density", "arrows"}
        Densities of the estimates of all groups, with that of the random effect in
        the model (a panel for each coefficient); or an arrow for each group from its
        own estimate to that of the mixed model, in the plane of two coefficients,
        or from left to right for one.
    coefficients : str or sequence of str, optional
        All by default; for arrows the first two.
    max_groups : int
        Of more groups so many have arrows, drawn at random.
    seed : int
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
    if kind not in ("density", "arrows"):
        raise UnsupportedError(f"kind={kind!r}: choose 'density' or 'arrows'")
    names = chosen(result.coefficients, coefficients)
    own, mixed = (result.frame(what)[names].to_numpy() for what in ("own", "mixed"))
    if kind == "density":
        panels = panel_axes(len(names), ax, 4.6, 3.6)
        for k, (name, panel) in enumerate(zip(names, panels, strict=True)):
            _densities(panel, result, name, own[:, k], mixed[:, k])
        panels[0].legend(frameon=False, fontsize="small")
        return picture(panels)
    if len(names) > 2:
        if coefficients is not None:
            raise UnsupportedError(
                f"arrows in a plane show two coefficients, not {len(names)}"
            )
        names, own, mixed = names[:2], own[:, :2], mixed[:, :2]
    here = np.flatnonzero(np.isfinite(own).all(axis=1))
    if not len(here):
        raise NotComputedError(
            "no group has an estimate of its own for each of these coefficients"
        )
    total = len(here)
    if total > max_groups:
        here = np.random.default_rng(seed).choice(here, max_groups, replace=False)
    panel = axes(ax, 5.6, 4.6)
    centre = result.population[names].to_numpy()
    draw = _plane if len(names) == 2 else _slopes
    draw(panel, result, names, own[here], mixed[here], centre)
    groups = f"{total:,} groups"
    if len(here) < total:
        groups = f"{len(here):,} of {total:,} groups, drawn at random"
    without = len(own) and result.frame("own").shape[0] - total
    groups += f"; {without:,} without own estimates" if without else ""
    panel.set_title(groups, fontsize="small", color="0.3")
    return panel


def _densities(
    panel: Axes, result: Any, name: str, own: FloatArray, mixed: FloatArray
) -> None:
    own = own[np.isfinite(own)]
    spread = result.measures.loc[name]
    centre = float(result.population[name])
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
    if spread["variance_model"] > 0.0:
        model = stats.norm.pdf(grid, centre, np.sqrt(spread["variance_model"]))
        panel.plot(grid, model, color="black", linestyle=":", label="model")
    panel.axvline(centre, color=GREY, linewidth=1.0, zorder=0, label="population")
    panel.set_ylim(0.0, None)
    panel.set_xlim(grid[0], grid[-1])
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)
    title = None
    if np.isfinite(spread["ratio"]):
        title = f"variance mixed / own = {spread['ratio']:.2f}"
    outside = int(((own < grid[0]) | (own > grid[-1])).sum())
    note = f"\n({outside:,} own estimates lie outside)" if outside else ""
    panel.set_xlabel(f"{name}{note}")
    panel.set_title(title or "", fontsize="medium")
    panel.spines[["top", "right"]].set_visible(False)


def _density(values: FloatArray, grid: FloatArray) -> FloatArray | None:
    """Kernel estimate at the grid, Silverman's rule; None if values are all alike."""
    if len(values) < 2:
        return None
    quartiles = np.quantile(values, [0.25, 0.75])
    spreads = [values.std(ddof=1), float(np.ptp(quartiles)) / 1.34]
    positive = [s for s in spreads if s > 1e-8 * max(abs(float(values.mean())), 1e-300)]
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
    result: Any,
    names: list[str],
    own: FloatArray,
    mixed: FloatArray,
    centre: FloatArray,
) -> None:
    cov = result.cov_re.loc[names, names].to_numpy()
    radius = np.sqrt(stats.chi2.ppf(0.95, 2))
    angle = np.linspace(0.0, 2.0 * np.pi, 200)
    values, vectors = np.linalg.eigh(cov)
    circle = np.sqrt(np.maximum(values, 0.0))[:, None] * [np.cos(angle), np.sin(angle)]
    ellipse = centre[:, None] + radius * vectors @ circle
    panel.plot(*ellipse, color=GREY, linestyle=":", label="95% of groups in the model")
    step = mixed - own
    panel.quiver(
        own[:, 0],
        own[:, 1],
        step[:, 0],
        step[:, 1],
        angles="xy",
        scale_units="xy",
        scale=1.0,
        width=0.0025,
        headwidth=5.0,
        headlength=6.0,
        color=_MIXED,
        alpha=0.7,
    )
    panel.plot(
        own[:, 0],
        own[:, 1],
        linestyle="none",
        marker="o",
        markersize=3.5,
        markerfacecolor="none",
        color=_OWN,
        label="own",
    )
    panel.plot([], [], color=_MIXED, marker=">", markersize=4.0, label="to mixed")
    panel.plot(
        *centre,
        linestyle="none",
        marker="*",
        markersize=13.0,
        color="black",
        label="population",
    )
    label(panel, names[0], names[1], fontsize="small", loc="best")


def _slopes(
    panel: Axes,
    result: Any,
    names: list[str],
    own: FloatArray,
    mixed: FloatArray,
    centre: FloatArray,
) -> None:
    few = len(own) <= 60
    for start, stop in zip(own[:, 0], mixed[:, 0], strict=True):
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
    panel.plot(np.zeros(len(own)), own[:, 0], "o", color=_OWN, markersize=3.5)
    panel.axhline(centre[0], color="black", linewidth=1.2, label="population")
    panel.set_xticks([0.0, 1.0], ["own", "mixed"])
    panel.set_xlim(-0.15, 1.15)
    reach = np.concatenate([own[:, 0], mixed[:, 0], centre])
    pad = 0.05 * float(np.ptp(reach)) or 1.0
    panel.set_ylim(reach.min() - pad, reach.max() + pad)
    label(panel, "", names[0], fontsize="small", loc="best")
