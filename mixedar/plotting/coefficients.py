"""
Coefficients with intervals, of one fit or of models side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from mixedar.exceptions import UnknownColumnError, UnsupportedError
from mixedar.plotting.style import (
    COLOURS,
    GREY,
    MARKERS,
    axes,
    chosen,
    evenly,
    label,
    panel_axes,
    picture,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


#: Up to this many groups are named on the axis.
LABELLED = 60


def plot_intervals(
    frame: pd.DataFrame,
    coefficients: str | Sequence[str] | None = None,
    *,
    alpha: float = 0.05,
    sort_by: str | None = None,
    max_groups: int = 400,
    ax: Any = None,
) -> Any:
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
    absent = 0
    if not named:
        absent = int(first.isna().sum())
        order = order[: len(order) - absent]
    shown = order[evenly(len(order), max_groups)] if len(order) else order
    height = 1.1 + 0.17 * len(shown) if named else 5.0
    panels = panel_axes(len(names), ax, 3.6, max(height, 2.5), share_y=True)
    for name, panel in zip(names, panels, strict=True):
        part = _part(frame, name)
        draw_intervals(panel, part.iloc[shown], COLOURS[0])
        mean = float(part["estimate"].mean())
        panel.axvline(mean, color=GREY, linewidth=1.0, linestyle="--", zorder=0)
        label(panel, f"{name}\n({100 * (1 - alpha):g}% intervals; dashed: mean)", "")
        panel.tick_params(axis="y", length=0, labelsize="small")
    groups = str(frame.index.names[0])
    if named:
        panels[0].set_yticks(
            np.arange(len(shown)), [str(each) for each in first.index[shown]]
        )
        panels[0].set_ylabel(groups)
    else:
        panels[0].set_yticks([])
        text = f"{groups}: {len(shown):,} of {len(first):,} groups, evenly by rank"
        text += f"\n({absent:,} without an estimate)" if absent else ""
        panels[0].set_ylabel(text)
    return picture(panels)


def _part(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of one coefficient."""
    return frame[frame.index.get_level_values(1) == name].droplevel(1)


def draw_intervals(panel: Axes, part: pd.DataFrame, colour: str) -> None:
    """
    Draw horizontal intervals, one above the other.

    Parameters
    ----------
    panel : Axes
    part : DataFrame
        Columns ``lower``, ``upper`` and, first, the estimate.
    colour : str
    """
    height = np.arange(len(part))
    crowded = len(part) > LABELLED
    panel.hlines(
        height,
        part["lower"],
        part["upper"],
        color=colour,
        linewidth=0.6 if crowded else 1.6,
        alpha=0.5 if crowded else 0.8,
        snap=False,  # else neighbours share or skip a pixel
    )
    panel.plot(
        part.iloc[:, 0],
        height,
        linestyle="none",
        marker="o",
        markersize=1.5 if crowded else 4.0,
        color=colour,
    )
    panel.set_ylim(-0.5 - 0.02 * len(part), len(part) - 0.5 + 0.02 * len(part))


_INTERCEPTS = ("Intercept", "const", "(Intercept)")


def coefficient_frame(fit: Any) -> pd.DataFrame:
    """
    The fixed effects of a mixed model as :func:`plot_coefficients` takes them.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    DataFrame, shape (p, 3)
        Columns by model and ``estimate, std_error, df``.
    """
    fit = getattr(fit, "_results", fit)
    degrees = fit.df.to_numpy(dtype=float)
    columns = {
        "estimate": np.asarray(fit.fe_params),
        "std_error": np.asarray(fit.bse_fe),
        "df": np.where(np.isfinite(degrees), degrees, np.inf),
    }
    frame = pd.DataFrame(columns, index=list(fit.df.index))
    return pd.concat({str(fit.model.endog_names): frame}, axis=1, names=["model"])


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
    if not 0.0 < alpha < 1.0:
        raise UnsupportedError(
            f"plot: alpha={alpha!r} is not between 0 and 1; 0.05 gives 95% intervals"
        )
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
        across = max(1, 48 // (_longest(models) + 3))
        ax.legend(
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            frameon=False,
            ncol=min(across, len(models)),
            columnspacing=0.8,
            handletextpad=0.1,
        )
    return ax


def _longest(names: Iterable[object]) -> int:
    return max((len(str(name)) for name in names), default=0)


def _terms(frame: pd.DataFrame, coefficients: str | Iterable[str] | None) -> list[str]:
    known = list(frame.index)
    if coefficients is None:
        terms = [term for term in known if term not in _INTERCEPTS]
    else:
        given = [coefficients] if isinstance(coefficients, str) else coefficients
        terms = list(dict.fromkeys(given))
    for term in terms:
        if term not in known:
            raise UnknownColumnError(
                f"plot: {term!r} is not in the table; its coefficients are "
                f"{', '.join(map(repr, known))}"
            )
    if not terms:
        raise UnsupportedError(
            "plot: there is no coefficient to draw (the intercept is left out unless "
            "coefficients= names it)"
        )
    return terms
