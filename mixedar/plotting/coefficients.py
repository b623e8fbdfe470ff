"""
Coefficients with intervals, of one fit or of models side by side.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from mixedar.exceptions import UnknownColumnError, UnsupportedError
from mixedar.plotting.style import COLOURS, GREY, MARKERS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["coefficient_frame", "plot_coefficients"]

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
    degrees = fit.df_resid.to_numpy(dtype=float)
    columns = {
        "estimate": np.asarray(fit.fe_params),
        "std_error": np.asarray(fit.bse_fe),
        "df": np.where(np.isfinite(degrees), degrees, np.inf),
    }
    frame = pd.DataFrame(columns, index=list(fit.df_resid.index))
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
