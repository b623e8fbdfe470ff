"""
Estimates with their intervals: coefficients, random effects, profile likelihoods.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mixedar.exceptions import UnsupportedError, check_alpha, check_choice
from mixedar.inference.profile import Profile
from mixedar.plotting import (
    BAND,
    CAPTION,
    COLOURS,
    GREY,
    MARKERS,
    axes,
    chosen,
    evenly,
    label,
    legend_above,
    panel_axes,
    panel_grid,
    picture,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


# Points at either end of a QQ plot that are drawn however many there are.
_TAIL = 200
_INTERCEPTS = ("Intercept", "const", "(Intercept)")
# Up to this many groups are named on the axis.
LABELLED = 60


def plot_intervals(
    frame: pd.DataFrame,
    coefficients: str | Sequence[str] | None = None,
    *,
    alpha: float = 0.05,
    sort_by: str | None = None,
    max_groups: int = 400,
    ax: Axes | Sequence[Axes] | None = None,
) -> Axes | Figure | SubFigure:
    """
    Draw intervals of coefficients, a line for each group.

    Parameters
    ----------
    frame : DataFrame
        Of ``ByGroupResults.conf_int``; the picture is nlme's
        ``plot(intervals(fm))``.
    coefficients : str or sequence of str, optional
        Coefficients to draw, one a panel; all by default.
    alpha : float
        1 - coverage, for the label.
    sort_by : str, optional
        The coefficient whose estimates order the groups, in all panels alike; the
        first one drawn by default.
    max_groups : int
        Of more groups so many are drawn, evenly by rank.
    ax : Axes or sequence of Axes, optional
        One for each panel.

    Returns
    -------
    matplotlib.axes.Axes or Figure
        The figure if there are several panels.

    Raises
    ------
    UnknownColumnError, UnsupportedError
        For coefficients that do not exist, or too few axes.
    """
    known = list(frame.index.get_level_values(1).unique())
    names = chosen(known, coefficients)
    leading = names[0] if sort_by is None else chosen(known, sort_by)[0]
    first = _part(frame, leading)["estimate"]
    order = np.argsort(first.to_numpy(), kind="stable")  # missing ones last
    named = len(order) <= min(LABELLED, max_groups)
    absent = 0 if named else int(first.isna().sum())
    order = order[: len(order) - absent]
    shown = order[evenly(len(order), max_groups)] if len(order) else order
    height = _height(len(shown), named)
    panels = panel_axes(len(names), ax, 3.6, height, share_y=True)
    for name, panel in zip(names, panels, strict=True):
        part = _part(frame, name)
        _draw_intervals(panel, part.iloc[shown])
        mean = float(part["estimate"].mean())
        panel.axvline(mean, color=GREY, linewidth=1.0, linestyle="--", zorder=0)
        label(panel, f"{name}\n({100 * (1 - alpha):g}% intervals; dashed: mean)", "")
        panel.tick_params(axis="y", length=0, labelsize="small")
    text, labels = str(frame.index.names[0]), [str(k) for k in first.index[shown]]
    if not named:
        text += f": {len(shown):,} of {len(first):,} groups, evenly by rank"
        text += f"\n({absent:,} without an estimate)" if absent else ""
    _name_rows(panels[0], labels if named else [], text)
    return picture(panels)


def plot_means(
    frame: pd.DataFrame,
    what: str,
    names: Sequence[str],
    alpha: float = 0.05,
    ax: Axes | None = None,
) -> Axes:
    """
    Draw means or slopes with their intervals.

    Parameters
    ----------
    frame : DataFrame
        Columns `what`, ``lower``, ``upper`` and those of `names`.
    what : str
        ``"mean"`` or ``"slope"``.
    names : sequence of str
        The first goes along the axis, joined by lines if it is numeric;
        combinations of the others have a colour each.
    alpha : float
        1 - coverage, for the label.
    ax : Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    UnsupportedError
        If there are more combinations than can be told apart.
    """
    first, *others = names
    where = frame[first]
    numeric = pd.api.types.is_numeric_dtype(where) and not pd.api.types.is_bool_dtype(
        where
    )
    ticks = list(dict.fromkeys(where))
    x = (
        where.to_numpy(float)
        if numeric
        else np.array([*map(ticks.index, where)], float)
    )
    labels = [", ".join(map(str, row)) for row in frame[others].to_numpy(dtype=object)]
    series = list(dict.fromkeys(labels))
    if len(series) > len(COLOURS):
        raise UnsupportedError(
            f"{len(series)} combinations of {', '.join(others)}; at most "
            f"{len(COLOURS)} can be told apart: hold some of them with at="
        )
    ax = axes(ax)
    gap = 0.12 * (np.diff(np.unique(x)).min() if len(ticks) > 1 else 1.0)
    for k, name in enumerate(series):
        here = np.array([one == name for one in labels])
        middle = frame[what].to_numpy(float)[here]
        ends = frame.loc[here, ["lower", "upper"]].to_numpy(float).T
        ax.errorbar(
            x[here] + gap * (k - (len(series) - 1) / 2.0),
            middle,
            yerr=np.abs(ends - middle),
            fmt=MARKERS[k] + ("-" if numeric else ""),
            color=COLOURS[k],
            capsize=3,
            markersize=5,
            label=f"{', '.join(others)}: {name}" if others else None,
        )
    if not numeric:
        ax.set_xticks(range(len(ticks)), list(map(str, ticks)))
        ax.set_xlim(-0.5, len(ticks) - 0.5)
    elif len(ticks) <= 10:
        ax.set_xticks(ticks)
    coverage = f"{what} with {100 * (1 - alpha):g}% intervals"
    return label(ax, first, coverage, **legend_above())


def _height(rows: int, named: bool) -> float:
    """Of a panel with a row for each group."""
    return max(1.1 + 0.17 * rows, 2.5) if named else 5.0


def _name_rows(panel: Axes, labels: Sequence[str], text: str) -> None:
    panel.set_yticks(np.arange(len(labels)), labels)
    panel.set_ylabel(text)


def _part(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of one coefficient."""
    return frame[frame.index.get_level_values(1) == name].droplevel(1)


def _draw_intervals(panel: Axes, part: pd.DataFrame) -> None:
    """Horizontal intervals, one above the other; the first column is the estimate."""
    height = np.arange(len(part))
    crowded = len(part) > LABELLED
    panel.hlines(
        height,
        part["lower"],
        part["upper"],
        color=COLOURS[0],
        linewidth=0.6 if crowded else 1.6,
        alpha=0.5 if crowded else 0.8,
        snap=False,  # else neighbours share or skip a pixel
    )
    size = 1.5 if crowded else 4.0
    panel.plot(part.iloc[:, 0], height, "o", markersize=size, color=COLOURS[0])
    panel.set_ylim(-0.5 - 0.02 * len(part), len(part) - 0.5 + 0.02 * len(part))


def plot_coefficients(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    coefficients: str | Iterable[str] | None = None,
    alpha: float = 0.05,
) -> Axes:
    """
    Draw coefficients with their intervals, models side by side.

    Parameters
    ----------
    frame : DataFrame
        Columns by model and ``estimate, std_error, df``, such as
        ``Comparison.coefficients``.
    ax : matplotlib Axes, optional
    coefficients : str or iterable of str, optional
        Which ones, from top to bottom; all but the intercept by default.
    alpha : float
        1 - coverage of the intervals.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    UnknownColumnError
        For a coefficient that is not in the frame.
    UnsupportedError
        If nothing is left to draw, or `alpha` is not between 0 and 1.
    """
    check_alpha(alpha)
    terms = _terms(frame, coefficients)
    models = list(dict.fromkeys(frame.columns.get_level_values("model")))
    new = ax is None
    width = 5.0 + 0.07 * (_longest(terms) + _longest(models))
    height = 1.2 + len(terms) * (0.2 + 0.16 * len(models))
    ax = axes(ax, width, height)
    base = np.arange(len(terms), dtype=float)
    # the models of one coefficient share 0.8 of the distance to the next
    offsets = 0.8 * ((np.arange(len(models)) + 0.5) / len(models) - 0.5)
    ax.axvline(0.0, color=GREY, linewidth=0.8, zorder=0)
    for row in base[1:]:
        ax.axhline(row - 0.5, color="0.9", linewidth=0.8, zorder=0)
    for k, model in enumerate(models):
        part = frame[model].loc[terms]
        half = stats.t.isf(alpha / 2.0, part["df"]) * part["std_error"]
        ax.errorbar(
            part["estimate"],
            base + offsets[k],
            xerr=np.nan_to_num(half.to_numpy()),
            label=model,
            color=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)],
            markersize=5.0,
            linestyle="none",
            elinewidth=1.4,
        )
    ax.set_yticks(base, labels=[str(term) for term in terms])
    ax.set_ylim(len(terms) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(f"Estimate with {100 * (1 - alpha):g}% interval")
    ax.spines[["top", "right", "left"]].set_visible(False)
    if len(models) == 1:
        ax.set_title(models[0], fontsize="medium")
    elif new:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    else:  # there may be other axes to the right
        ax.legend(frameon=False, **legend_above(names=models))
    return ax


def _longest(names: Iterable[object]) -> int:
    return max((len(str(name)) for name in names), default=0)


def _terms(frame: pd.DataFrame, coefficients: str | Iterable[str] | None) -> list[str]:
    terms = list(dict.fromkeys(chosen(list(frame.index), coefficients)))
    if coefficients is None:
        terms = [term for term in terms if term not in _INTERCEPTS]
    if not terms:
        raise UnsupportedError(
            "plot: there is no coefficient to draw (the intercept is left out unless "
            "coefficients= names it)"
        )
    return terms


def plot_random_effects(
    frame: pd.DataFrame,
    kind: str = "caterpillar",
    effect: str | None = None,
    *,
    alpha: float = 0.05,
    max_groups: int = 400,
    ax: Axes | Sequence[Axes] | None = None,
) -> Axes | Figure | SubFigure:
    """
    Draw predicted random effects.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`mixedar.by_group.factors.drawn_effects`.
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
    check_choice("kind", kind, ("caterpillar", "qq"))
    names = chosen(list(frame["effect"].unique()), effect)
    parts = [frame[frame["effect"] == name] for name in names]
    if kind == "qq":
        panels = panel_axes(len(names), ax, 4.2, 3.8)
        for name, part, panel in zip(names, parts, panels, strict=True):
            _quantiles(panel, part, name, alpha)
        return picture(panels)
    most = max(len(part) for part in parts)
    panels = panel_axes(len(names), ax, 3.8, _height(most, most <= LABELLED))
    for name, part, panel in zip(names, parts, panels, strict=True):
        _caterpillar(panel, part, name, alpha, max_groups)
    return picture(panels)


def _caterpillar(
    panel: Axes, part: pd.DataFrame, name: str, alpha: float, max_groups: int
) -> None:
    part = part.sort_values("predicted", kind="stable")
    total = len(part)
    part = part.iloc[evenly(total, max_groups)]
    _draw_intervals(panel, part[["predicted", "lower", "upper"]])
    panel.axvline(0.0, color=GREY, linewidth=1.0, linestyle="--", zorder=0)
    label(panel, f"{name} ({100 * (1 - alpha):g}% intervals)", "")
    if total <= min(LABELLED, max_groups):
        _name_rows(panel, list(part["label"]), "")
        panel.tick_params(axis="y", length=0, labelsize="small")
    elif len(part) == total:
        _name_rows(panel, [], f"{total:,} predictions, sorted")
    else:
        text = f"{len(part):,} of {total:,} predictions, evenly by rank"
        _name_rows(panel, [], text)


def _quantiles(panel: Axes, part: pd.DataFrame, name: str, alpha: float) -> None:
    label(panel, "Normal quantile", "Standardized prediction", name)
    part = part.dropna()
    n = len(part)
    if not n:
        panel.set_axis_off()
        text = "variance zero:\nall predictions are zero"
        panel.text(0.5, 0.5, text, ha="center", transform=panel.transAxes)
        return
    rank = np.arange(n)
    drawn = np.minimum(rank, n - 1 - rank) < _TAIL
    drawn[evenly(n, 1000)] = True
    part = part[drawn]
    x, low, high = part["theoretical"], part["lower"], part["upper"]
    words = f"{100 * (1 - alpha):g}% band, point by point"
    panel.fill_between(x, low, high, color=GREY, alpha=BAND, linewidth=0.0, label=words)
    panel.plot(x, x, color=GREY, linewidth=1.0)
    panel.plot(x, part["standardized"], "o", markersize=3.0, color=COLOURS[0])
    panel.legend(frameon=False, loc="upper left", fontsize="small")


def plot_profile(
    profile: Profile, ax: Axes | Sequence[Axes] | None = None, alpha: float = 0.05
) -> Axes | NDArray[Any]:
    """
    Draw a profile: zeta, the signed root of the deviance, and the log-likelihood.

    Parameters
    ----------
    profile : Profile
    ax : Axes, or sequence of two Axes, optional
        One for zeta alone, or one for each; a new figure with both by default.
    alpha : float
        1 - coverage of the interval that is shaded.

    Returns
    -------
    matplotlib.axes.Axes, or ndarray of them, shape (2,)
        As given, zeta first.
    """
    single = ax is not None and np.size(np.asarray(ax, dtype=object)) == 1
    panels = panel_axes(1 if single else 2, ax, 4.5, 3.6)
    level = _level(alpha)
    first, last = panels[0], panels[-1]
    _zeta(first, profile, alpha)
    label(first, profile.parameter, "zeta")
    if single:
        return first
    last.plot(profile.grid, profile.likelihood, ".-", color=COLOURS[0])
    last.axhline(profile.llf - 0.5 * level**2, color=GREY, linewidth=0.8, ls="--")
    _mark(last, profile, alpha)
    last.ticklabel_format(axis="y", useOffset=False)
    label(last, profile.parameter, "log-likelihood")
    return np.array(panels, dtype=object)


def plot_profiles(
    found: Sequence[Profile],
    alpha: float = 0.05,
    *,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """
    Draw zeta, the signed root of the deviance, by parameter, a panel for each.

    Parameters
    ----------
    found : sequence of Profile
        See :func:`mixedar.inference.profile.profiles`.
    alpha : float
        1 - coverage of the intervals that are shaded.
    figure : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure
    """
    from matplotlib.ticker import MaxNLocator

    across = min(len(found), 3)
    figure, panels = panel_grid(
        figure, len(found), across, (3.0, 2.5), (0.6, 0.7), sharey=True
    )
    for k, (ax, profile) in enumerate(zip(panels, found, strict=True)):
        _zeta(ax, profile, alpha)
        label(ax, profile.parameter, "" if k % across else "zeta")
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    figure.supxlabel(
        f"shaded: {100 * (1 - alpha):g}% interval, where zeta lies between the dashed "
        "lines",
        fontsize="small",
        color=CAPTION,
    )
    return figure


def _level(alpha: float) -> float:
    return float(stats.norm.isf(check_alpha(alpha) / 2.0))


def _zeta(ax: Axes, profile: Profile, alpha: float) -> None:
    level = _level(alpha)
    ax.plot(profile.grid, profile.zeta, ".-", color=COLOURS[0])
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    for sign in (-1.0, 1.0):
        ax.axhline(sign * level, color=GREY, linewidth=0.8, linestyle="--")
    _mark(ax, profile, alpha)


def _mark(ax: Axes, profile: Profile, alpha: float) -> None:
    """The estimate, and the interval within the grid."""
    ax.axvline(profile.estimate, color=GREY, linewidth=0.8)
    try:
        low, high = profile.conf_int(alpha)
    except UnsupportedError:
        return  # the interval ends beyond the grid
    low, high = max(low, profile.grid.min()), min(high, profile.grid.max())
    ax.axvspan(low, high, color=COLOURS[0], alpha=BAND, linewidth=0)
