"""
The pictures of a report, each with a sentence on how to read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mixedar.exceptions import MixedARError
from mixedar.plotting.rows import main_factor
from mixedar.report.page import paragraph, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["picture_parts"]

_PANELS = 9


def picture_parts(fit: Any, alpha: float = 0.05) -> list[str]:
    """
    All pictures that suit a fit, as HTML.

    Figures are made without pyplot: no window opens, and nothing stays open.

    Parameters
    ----------
    fit : MixedLMARResults
    alpha : float
        1 - coverage of the intervals.

    Returns
    -------
    list of str
        What cannot be drawn says why in its place.
    """
    parts = []
    for title, size, words, draw in _pictures(fit, alpha):
        figure = _figure(size)
        try:
            draw(figure)
        except MixedARError as error:
            parts.append(paragraph(f"{title}: not drawn, since {error}", "note"))
            continue
        parts.append(picture(figure, f"{title}. {words}"))
    return parts


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


_Picture = tuple[str, tuple[float, float], str, Callable[["Figure"], Any]]


def _pictures(fit: Any, alpha: float) -> Iterator[_Picture]:
    share = f"{100 * (1 - alpha):g}%"
    yield (
        "Overview",
        (9.0, 7.0),
        "The data with the mean of the population, and the normalized residuals: "
        "against fitted values, against normal quantiles, and their autocorrelation. "
        "If the model is right they show no pattern.",
        lambda figure: fit.plot(figure),
    )
    by = main_factor(fit)
    if by is not None:
        yield (
            f"Data and means by {by}",
            (7.0, 4.8),
            f"One thin line a group; bands are {share} intervals of the means.",
            lambda figure: fit.plot_spaghetti(by, ax=figure.subplots(), alpha=alpha),
        )
    drawn = min(_PANELS, fit.n_groups)
    across = min(3, drawn)
    yield (
        "Single groups",
        (1.2 + 2.3 * across, 1.1 + 1.7 * -(-drawn // across)),
        "Observations with the curves of the population and of the group.",
        lambda figure: fit.plot_trajectories(
            n_groups=_PANELS, n_columns=across, figure=figure
        ),
    )
    if fit.k_fe > 1:
        yield (
            "Fixed effects",
            (7.0, 1.2 + 0.4 * fit.k_fe),
            f"Estimates with {share} intervals; the intercept is left out.",
            lambda figure: fit.plot_coefficients(figure.subplots(), alpha=alpha),
        )
    effects = fit.k_re + fit.k_vc
    if effects:
        yield (
            "Random effects",
            (1.0 + 3.0 * effects, 3.4),
            "Predicted random effects against normal quantiles.",
            lambda figure: fit.plot_random_effects(
                "qq", ax=list(np.ravel(figure.subplots(1, effects))), alpha=alpha
            ),
        )
    if fit.structure.k_params:
        yield (
            "Semivariogram",
            (6.5, 4.2),
            "Half the mean squared difference of residuals by their distance in time, "
            "with what the model expects of it.",
            lambda figure: fit.plot_variogram(ax=figure.subplots()),
        )
    targets = fit.k_re2 + fit.k_vc + fit.structure.k_free
    if targets:
        down = -(-(targets + 1) // 3)
        yield (
            "Profile likelihoods",
            (9.0, 0.7 + 2.5 * down),
            "The signed root of twice the fall of the log-likelihood. A straight line "
            "means that Wald intervals will do; a flat one, that the data say little.",
            lambda figure: fit.plot_profiles(alpha=alpha, figure=figure),
        )
