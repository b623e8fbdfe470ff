"""
Profile likelihoods of covariance parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.fit.parameters import parameters_of, select
from mixedar.inference.arguments import check_alpha
from mixedar.plotting.rows import CAPTION
from mixedar.plotting.style import BAND, COLOURS, GREY, label, panel_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def plot_profile(profile: Any, axes: Any = None, alpha: float = 0.05) -> Any:
    """
    Zeta and log-likelihood by the value of a parameter.

    Parameters
    ----------
    profile : Profile
    axes : sequence of two matplotlib Axes, optional
    alpha : float
        1 - coverage of the interval that is shaded.

    Returns
    -------
    ndarray of matplotlib Axes, shape (2,)
    """
    if axes is None:
        import matplotlib.pyplot as plt

        _, axes = plt.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained")
    axes = np.ravel(np.asarray(axes, dtype=object))
    level = _level(alpha)
    first, last = axes[0], axes[-1]
    _zeta(first, profile, alpha)
    last.plot(profile.grid, profile.likelihood, ".-", color=COLOURS[0])
    last.axhline(profile.llf - 0.5 * level**2, color=GREY, linewidth=0.8, ls="--")
    _mark(last, profile, alpha)
    label(first, profile.parameter, "zeta")
    last.ticklabel_format(axis="y", useOffset=False)
    label(last, profile.parameter, "log-likelihood")
    return axes


def plot_profiles(
    fit: Any,
    parameters: str | Iterable[str] | None = None,
    alpha: float = 0.05,
    *,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """
    Zeta by the value of each covariance parameter, a panel a parameter.

    Parameters
    ----------
    fit : MixedLMARResults
    parameters : str or iterable of str, optional
        Names from ``conf_int_re().index``; standard deviations, correlations
        and residual parameters by default.
    alpha : float
        1 - coverage of the intervals that are shaded.
    figure : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure

    Raises
    ------
    UnknownColumnError
        For a parameter that the model has not.
    NotComputedError
        If a parameter that is named cannot be profiled, or none can.
    """
    from matplotlib.ticker import MaxNLocator

    found = profiles(fit, parameters)
    across = min(len(found), 3)
    down = -(-len(found) // across)
    figure, panels = panel_grid(
        figure,
        len(found),
        across,
        size=(0.6 + 3.0 * across, 0.7 + 2.5 * down),
        sharey=True,
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


def profiles(fit: Any, parameters: str | Iterable[str] | None = None) -> list[Any]:
    """
    Profiles of several parameters.

    Parameters
    ----------
    fit : MixedLMARResults
    parameters : str or iterable of str, optional
        Standard deviations, correlations and residual parameters by default, as
        far as they can be profiled.

    Returns
    -------
    list of Profile

    Raises
    ------
    UnknownColumnError, NotComputedError
        As :func:`plot_profiles`.
    """
    fit = getattr(fit, "_results", fit)
    targets = parameters_of(fit.fit)
    if parameters is not None:
        asked = parameters if isinstance(parameters, str) else list(parameters)
        return [fit.profile(target.name) for target in select(targets, asked)]
    found, refused = [], []
    for target in targets:
        if target.kind not in ("sd", "corr", "residual", "sigma"):
            continue
        try:
            found.append(fit.profile(target.name))
        except NotComputedError as error:
            refused.append(str(error))
    if not found:
        raise NotComputedError("no profile to draw: " + "; ".join(refused))
    return found


def _level(alpha: float) -> float:
    return float(stats.norm.isf(check_alpha(alpha) / 2.0))


def _zeta(ax: Axes, profile: Any, alpha: float) -> None:
    level = _level(alpha)
    ax.plot(profile.grid, profile.zeta, ".-", color=COLOURS[0])
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    for sign in (-1.0, 1.0):
        ax.axhline(sign * level, color=GREY, linewidth=0.8, linestyle="--")
    _mark(ax, profile, alpha)


def _mark(ax: Axes, profile: Any, alpha: float) -> None:
    """The estimate, and the interval within the grid."""
    ax.axvline(profile.estimate, color=GREY, linewidth=0.8)
    try:
        low, high = profile.conf_int(alpha)
    except UnsupportedError:
        return  # the interval ends beyond the grid
    low, high = max(low, profile.grid.min()), min(high, profile.grid.max())
    ax.axvspan(low, high, color=COLOURS[0], alpha=BAND, linewidth=0)
