"""
Pictures of a fit: each computes a frame and draws it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixedar._types import Seed
from mixedar.by_group.factors import drawn_effects
from mixedar.by_group.latent import to_lavaan
from mixedar.data.model_data import ModelData
from mixedar.data.variables import main_factor, picture_rows
from mixedar.diagnostics.predictive import predictive_check, response_draws
from mixedar.diagnostics.residuals.autocorrelation import residual_acf
from mixedar.diagnostics.residuals.normality import residual_quantiles
from mixedar.diagnostics.residuals.series import distance_label, variogram_label
from mixedar.diagnostics.residuals.variogram import residual_variogram
from mixedar.diagnostics.simulation import residual_frame, residual_trend
from mixedar.exceptions import (
    UnsupportedError,
    check_alpha,
    check_choice,
    check_flags,
)
from mixedar.fit import Fit
from mixedar.inference.arguments import understands
from mixedar.inference.profile import profiles
from mixedar.inference.smooths import fitted_smooths
from mixedar.inference.wald import coefficient_frame
from mixedar.plotting import COLOURS, correlation, trajectories
from mixedar.plotting import coefficients as draw_coefficients
from mixedar.plotting import paths as draw_paths
from mixedar.plotting import residuals as draw_residuals
from mixedar.plotting import smooths as draw_smooths
from mixedar.prediction.curves import (
    choose_groups,
    fitted_curves,
    forecasts,
    levels_of,
    observed_means,
    population_means,
)
from mixedar.prediction.smooths import smooth_pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def plot(fit: Fit, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
    """
    Four panels: the data and the mean, and three looks at the residuals.

    The data as lines with the means of the population, by the first factor that
    does not vary within groups; normalized residuals against fitted values,
    against normal quantiles, and their autocorrelation by lag, with the band in
    which the model expects it.  A panel of residuals that cannot be drawn says
    why.

    Parameters
    ----------
    figure : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> figure = fit.plot()
    >>> len(figure.axes)
    4
    """
    by = main_factor(fit.data)
    return trajectories.plot_overview(
        [
            lambda ax: plot_spaghetti(
                fit, by, ax=ax, n_lines=60, spread=False, explain=False
            ),
            lambda ax: plot_residuals(fit, ax=ax),
            lambda ax: qqplot(fit, ax=ax),
            lambda ax: plot_acf(fit, ax=ax),
        ],
        figure,
    )


def plot_model(
    data: ModelData,
    by: object = None,
    x: object = None,
    groups: object = None,
    *,
    kind: str | None = None,
    n_groups: int = 16,
    n_lines: int = 100,
    n_columns: int | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """
    The data of a model, before it is fitted.

    Parameters
    ----------
    by : str or array_like, shape (n,), optional
        A factor whose levels have a colour each; by default the first one of the
        formula that does not vary within groups and has at most seven levels.
    x : str or array_like, shape (n,), optional
        What runs from left to right; the model's time by default.
    groups : iterable of labels, or a label, optional
        Groups to draw, in this order; all by default, and a random sample if there
        are more than `n_groups` panels, or `n_lines` lines.
    kind : {"groups", "lines"}, optional
        A panel for each group, by default if groups have several rows; or a thin line
        for each group and the mean of the observations, in a panel for each level of
        `by`.
    n_groups, n_lines : int
        The largest numbers of panels, and of lines.
    n_columns : int, optional
        Panels of groups in a row.
    figure : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure

    Raises
    ------
    UnsupportedError
        If `by` has more levels than can be told apart.
    UnknownColumnError, GroupError
        For a column or a group that the data do not have.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age * sex", teeth, groups="subject", time="occ")
    >>> figure = model.plot(x="age")
    >>> len(figure.axes)
    16
    >>> figure = model.plot(x="age", kind="lines")
    >>> len(figure.axes)
    2
    """
    if kind is None:
        kind = "groups" if data.n_groups < data.nobs else "lines"
    check_choice("kind", kind, ("groups", "lines"))
    by = main_factor(data) if by is None else by
    rows, levels = picture_rows(data, x), levels_of(data, by, len(COLOURS))
    if kind == "groups":
        chosen, caption = choose_groups(rows, groups, n_groups)
        return trajectories.plot_groups(
            rows, chosen, levels, n_columns=n_columns, caption=caption, figure=figure
        )
    if groups is not None:
        chosen, _ = choose_groups(rows, groups, n_lines)
        levels = levels.where(np.isin(rows.codes, chosen))
        levels = levels.cat.remove_unused_categories()
    several = len(levels.cat.categories) > 1
    means = observed_means(rows, levels)
    drawn: Any = trajectories.plot_spaghetti(
        rows, levels, means, n_lines=n_lines, panels=several, figure=figure
    )
    return drawn if several else drawn.figure


def plot_trajectories(
    fit: Fit,
    groups: object = None,
    x: object = None,
    *,
    n_groups: int = 16,
    **options: Any,
) -> Figure | SubFigure:
    """
    Data and fitted curves, a panel a group (nlme's ``augPred``).

    Parameters
    ----------
    groups : iterable of labels, or a label, optional
        Groups to draw, in this order; all by default, and a random sample of
        `n_groups` if there are more.
    x : str or array_like, shape (n,), optional
        What runs from left to right; the model's time by default.
    n_groups : int
        The largest number of panels without `groups`.
    **options
        ``curves`` is a sequence of ``"population"`` (fixed effects) and ``"group"``
        (random effects too); ``n_columns`` is the number of panels in a row;
        ``figure`` is where to draw.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm(
    ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
    ... ).fit()
    >>> figure = fit.plot_trajectories(["F01", "M13"], x="age")
    >>> len(figure.axes)
    2
    """
    if fit.n_groups == fit.nobs:
        raise UnsupportedError(
            "the model has no groups, or each has one row: draw plot_spaghetti() or "
            "plot_smooths()"
        )
    rows = picture_rows(fit.data, x)
    chosen, caption = choose_groups(rows, groups, n_groups)
    drawn = fitted_curves(fit, rows, chosen)
    return trajectories.plot_trajectories(
        rows, chosen, drawn, caption=caption, **options
    )


def plot_forecast(
    fit: Fit,
    newdata: object,
    groups: object = None,
    x: str | None = None,
    *,
    level: str = "forecast",
    n_groups: int = 9,
    n_columns: int = 3,
    alpha: float = 0.05,
    figure: Figure | SubFigure | None = None,
    **options: Any,
) -> Figure | SubFigure:
    """
    Predictions of single groups with intervals, beside their data.

    Series of a group have panels of their own.

    Parameters
    ----------
    newdata : DataFrame
        Rows to predict, as :meth:`get_prediction` takes them.  If it has the
        response, that is drawn as well, to be compared.
    groups : iterable of labels, or a label, optional
        Groups to draw; those of `newdata` by default, and a random sample of
        `n_groups`, or so many series, if there are more.
    x : str, optional
        Column that runs from left to right; the model's time by default.
    level, **options
        As in :meth:`get_prediction`.
    n_groups : int
        The largest number of panels without `groups`.
    n_columns : int
        Panels in a row.
    alpha : float
        1 - coverage of the intervals for observations.
    figure : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> last = teeth[teeth["subject"].isin(["F01", "M13"])].tail(2)
    >>> ahead = last.assign(occ=5, age=16)
    >>> figure = fit.plot_forecast(ahead)
    """
    check_alpha(alpha)
    rows = picture_rows(fit.data, x)
    frame, caption = forecasts(
        fit, rows, newdata, groups, level, n_groups, alpha, **options
    )
    return trajectories.plot_forecast(
        rows,
        frame,
        level=level,
        n_columns=n_columns,
        alpha=alpha,
        caption=caption,
        figure=figure,
    )


def plot_spaghetti(
    fit: Fit,
    by: object = None,
    x: object = None,
    ax: Axes | Sequence[Axes] | None = None,
    *,
    alpha: float = 0.05,
    **options: Any,
) -> Axes | Figure | SubFigure:
    """
    Data as lines, the population mean and its band, by a factor.

    Parameters
    ----------
    by : str or array_like, shape (n,), optional
        A factor: lines and means of its levels in colours of their own, and of more
        than two levels in panels of their own.
    x : str or array_like, shape (n,), optional
        What runs from left to right; the model's time by default.
    ax : Axes or sequence of Axes, optional
        One for all levels, or one for each.
    alpha : float
        1 - coverage of the mean's interval, which is normal.
    **options
        ``n_lines`` is the largest number of lines in all, shared evenly by the levels;
        ``spread`` draws the range in which the model expects observations, as dotted
        lines; ``explain`` says below the axis what bands and lines are; ``panels``
        gives each level a panel of its own, or does not; ``figure`` is where to draw
        without `ax`.

    Returns
    -------
    matplotlib.axes.Axes, Figure or SubFigure
        The figure if there are several panels.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
    ... )
    >>> fit = model.fit()
    >>> ax = fit.plot_spaghetti("sex", x="age")
    >>> ax.get_xlabel()
    'age'
    """
    data = fit.data
    rows, levels = picture_rows(data, x), levels_of(data, by, len(COLOURS))
    factor = by if isinstance(by, str) else None
    means = population_means(fit, rows, levels, factor, alpha)
    return trajectories.plot_spaghetti(rows, levels, means, ax, alpha=alpha, **options)


def plot_coefficients(
    fit: Fit,
    ax: Axes | None = None,
    coefficients: str | Iterable[str] | None = None,
    alpha: float = 0.05,
) -> Axes:
    """
    Fixed effects with their intervals.

    Parameters
    ----------
    ax : matplotlib Axes, optional
    coefficients : str or iterable of str, optional
        Which ones, from top to bottom; all but the intercept by default.
    alpha : float
        1 - coverage of the intervals.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
    ... )
    >>> fit = model.fit()
    >>> ax = fit.plot_coefficients()
    >>> len(ax.get_yticklabels())
    3
    """
    found = coefficient_frame(fit)
    if coefficients is None and fit.has_data:  # linear parts of smooths mean nothing
        parts = [fit.exog_names[k] for one in fitted_smooths(fit) for k in one.fixed]
        found = found.drop(index=parts)
    frame = pd.concat({fit.endog_name: found}, axis=1, names=["model"])
    return draw_coefficients.plot_coefficients(frame, ax, coefficients, alpha)


def plot_profiles(
    fit: Fit,
    parameters: str | Iterable[str] | None = None,
    alpha: float = 0.05,
    **options: Any,
) -> Figure | SubFigure:
    """
    Draw zeta, the signed root of the deviance, by covariance parameter.

    A straight line is a quadratic log-likelihood; a panel for each parameter.

    Parameters
    ----------
    parameters : str or iterable of str, optional
        Which ones; all by default.
    alpha : float
        1 - coverage of the intervals that are shaded.
    **options
        ``figure``, where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> figure = fit.plot_profiles(["rho"])
    >>> len(figure.axes)
    1
    """
    return draw_coefficients.plot_profiles(profiles(fit, parameters), alpha, **options)


def plot_random_effects(
    fit: Fit,
    kind: str = "caterpillar",
    effect: str | None = None,
    *,
    alpha: float = 0.05,
    beta: str = "known",
    max_groups: int = 400,
    ax: Axes | Sequence[Axes] | None = None,
) -> Axes | Figure | SubFigure:
    """
    Draw the predicted random effects: sorted with intervals, or normal QQ plots.

    Parameters
    ----------
    kind : {"caterpillar", "qq"}
        Predictions with intervals, sorted; or standardized predictions against
        normal quantiles, with the band in which each of them lies with probability
        1 - `alpha` if the random effects are normal.
    effect : str, optional
        The random effect to draw; all, one a panel, by default.
    alpha : float
        1 - coverage of intervals and band.
    beta : {"known", "estimated"}
        Whether the errors of the fixed effects count in the intervals.
    max_groups : int
        Of more groups so many intervals are drawn, evenly by rank.
    ax : Axes or sequence of Axes, optional
        One for each panel.

    Returns
    -------
    matplotlib.axes.Axes or Figure
        The figure if there are several panels.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm(
    ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
    ... ).fit()
    >>> figure = fit.plot_random_effects("qq")
    >>> len(figure.axes)
    2
    """
    return draw_coefficients.plot_random_effects(
        drawn_effects(fit, kind, alpha, beta),
        kind,
        effect,
        alpha=alpha,
        max_groups=max_groups,
        ax=ax,
    )


@understands(seed="rng")
def plot_smooths(
    fit: Fit,
    smooths: str | Iterable[str] | None = None,
    *,
    n: int | None = None,
    alpha: float = 0.05,
    rng: Seed = 0,
    **options: Any,
) -> Figure | SubFigure:
    """
    Draw the smooths: curves with their bands, surfaces as contours.

    The inner band is pointwise, the outer one for the whole curve.

    Parameters
    ----------
    smooths : str or iterable of str, optional
        Labels, as :meth:`smooth` takes them; all by default.
    n, alpha, rng
        As in :meth:`smooth`.
    **options
        ``simultaneous=False`` leaves out the outer band; ``max_levels`` is the
        largest number of curves of a factor in a panel, ``n_columns`` that of
        panels in a row; ``figure`` is where to draw.

    Returns
    -------
    matplotlib.figure.Figure or SubFigure

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_bodyweight
    >>> rats = load_bodyweight()
    >>> fit = mar.mixedlm("weight ~ s(time) + (1 + time | rat)", rats).fit()
    >>> figure = fit.plot_smooths()
    >>> len(figure.axes)
    1
    """
    pictures = smooth_pictures(fit, smooths, n=n, alpha=alpha, rng=rng)
    return draw_smooths.plot_smooths(pictures, **options)


def plot_path(
    fit: Fit, times: Iterable[Any] | None = None, *, ax: Axes | None = None
) -> Axes:
    """
    Draw the model as the path diagram of a latent growth curve.

    Squares are what was observed, ellipses the random effects, which are latent
    variables; arrows are loadings and regressions, curved lines with two heads
    covariances.  Of correlated residuals the covariances of neighbours are drawn.

    Parameters
    ----------
    times : sequence, optional
        Times that are waves; all of the data by default.
    ax : Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    UnsupportedError
        Where :meth:`to_lavaan` has no syntax for the model.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     *("distance ~ age * sex", teeth), groups="subject", re_formula="~age",
    ...     time="age", residual="independent",
    ... )
    >>> ax = model.fit(reml=False).plot_path()
    >>> len(ax.texts) > 8
    True
    """
    return draw_paths.plot_paths(to_lavaan(fit, times).paths, ax=ax)


def plot_acf(
    fit: Fit,
    kind: str = "normalized",
    max_lag: float | None = None,
    ax: Axes | None = None,
    **options: Any,
) -> Axes:
    """
    Draw the autocorrelation of the residuals, and the band that the model expects.

    Parameters
    ----------
    kind, max_lag, **options
        As in :meth:`acf`.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> ax = fit.plot_acf(max_lag=3)
    >>> ax.get_ylabel()
    'Autocorrelation'
    """
    table = residual_acf(fit, kind, max_lag, **options)
    return correlation.plot_acf(table, ax, x_label=distance_label(fit, "Lag"))


def plot_variogram(
    fit: Fit,
    kind: str = "pearson",
    max_distance: float | None = None,
    ax: Axes | None = None,
    *,
    smooth: bool = True,
    **options: Any,
) -> Axes:
    """
    Draw the semivariogram: the larger a point, the more pairs of residuals it has.

    Parameters
    ----------
    kind, max_distance, **options
        As in :meth:`variogram`.
    ax : matplotlib Axes, optional
    smooth : bool
        Draw a smooth line through at least eight points.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> ax = fit.plot_variogram()
    >>> ax.get_ylabel()
    'Semivariogram'
    """
    table = residual_variogram(fit, kind, max_distance, **options)
    x_label = variogram_label(fit, options.get("coords"))
    return correlation.plot_variogram(table, ax, smooth=smooth, x_label=x_label)


def plot_residuals(
    fit: Fit,
    x: object = "fitted",
    kind: str = "normalized",
    ax: Axes | None = None,
    *,
    smooth: bool = True,
    n_sim: int = 39,
    max_groups: int = 40,
) -> Axes:
    """
    Draw residuals against fitted values, time, a column, or by group.

    Lines are the local mean and, around it, twice the local standard deviation, each
    on the band in which it lies under the model.

    Parameters
    ----------
    x : str or array_like, shape (n,)
        ``"fitted"``, the fitted values; ``"mean"``, ``X beta``; ``"time"``, if the
        model has one; ``"groups"``; a column of the data; or values.  Categories
        give boxes.
    kind : {"normalized", "pearson", "raw"}
        Of residuals.
    ax : matplotlib Axes, optional
    smooth : bool
        Whether to draw lines and bands.
    n_sim : int
        Responses that are drawn for the bands.
    max_groups : int
        Of more groups so many are drawn, evenly by the median of their residuals.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> ax = fit.plot_residuals("fitted")
    >>> ax.get_xlabel()
    'Fitted values'
    """
    frame = residual_frame(fit, x, kind)
    check_flags(smooth=smooth)
    trend = residual_trend(fit, frame, kind, n_sim) if smooth else None
    return draw_residuals.plot_residuals(
        frame, trend, ax, kind=kind, max_groups=max_groups
    )


def qqplot(
    fit: Fit,
    kind: str = "normalized",
    ax: Axes | None = None,
    *,
    alpha: float = 0.05,
    band: str = "simultaneous",
    labels: int = 3,
) -> Axes:
    """
    Draw residuals against normal quantiles, with a band.

    Parameters
    ----------
    kind : {"normalized", "pearson"}
        Of residuals, each divided by the standard deviation that it has under the
        model.
    ax : matplotlib Axes, optional
    alpha : float
        1 - coverage of the band.
    band : {"simultaneous", "pointwise"}
        Whether all residuals of normal data lie in it with probability 1 - `alpha`,
        or each of them does.
    labels : int
        How many of the most extreme residuals to label.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> ax = fit.qqplot()
    >>> ax.get_ylabel()
    'Standardized residuals'
    """
    table = residual_quantiles(fit, kind, alpha=alpha, band=band)
    name = f"{100.0 * (1.0 - alpha):g}% band"
    return draw_residuals.plot_quantiles(table, ax, labels=labels, band=name)


@understands(seed="rng")
def plot_simulated(
    fit: Fit,
    what: object = "density",
    n_sim: int | None = None,
    rng: Seed = None,
    ax: Axes | None = None,
    *,
    groups: str = "new",
) -> Axes:
    """
    Draw the data among data sets drawn from the fitted model.

    Densities of 50 responses (`what` is ``"density"``) or of their means by group
    (``"group_means"``); or a histogram of 1,000 values of a statistic, as in
    :meth:`predictive_check`.

    Parameters
    ----------
    what : {"density", "group_means"}, statistic of :meth:`predictive_check`
    n_sim : int, optional
        Data sets to draw, 50 or 1,000 by default.
    rng : int or Generator, optional
    ax : matplotlib Axes, optional
    groups : {"new", "conditional"}
        As in :meth:`simulate`.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> ax = fit.plot_simulated("lag1", n_sim=50, rng=1)
    """
    if isinstance(what, str) and what in ("density", "group_means"):
        draws = response_draws(fit, what, n_sim, rng, groups)
        return draw_residuals.plot_draws(draws, ax)
    n_sim = 1000 if n_sim is None else n_sim
    return predictive_check(fit, what, n_sim, rng, groups).plot(ax=ax)
