"""
Random effects, predictions and new data given draws of the covariance parameters.

Given these everything is normal: its moments are exact, and quantiles are those of
the mixture over draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from mixedar._types import FloatArray, Seed
from mixedar.by_group.factors import ranef as predicted_effects
from mixedar.diagnostics.simulation import draw_responses
from mixedar.engine.search import Optimum
from mixedar.exceptions import UnsupportedError, check_choice, shown
from mixedar.fit import Fit
from mixedar.fit.responses import StatedParameters
from mixedar.hypotheses.df import CONTAINMENT
from mixedar.inference.arguments import check_count, generator, understands
from mixedar.posterior.results import Posterior, percent
from mixedar.prediction.new_rows import NewData, fitted_rows, rows_to_predict
from mixedar.prediction.predict import LEVELS, predictors
from mixedar.summary import ResultFrame

_QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)


def fits(post: Posterior, count: int, *, drawn: bool = False) -> Iterator[Fit]:
    """
    The model at draws of its covariance parameters.

    Fixed effects are the conditional means, with their conditional covariance, or
    `drawn` and known.
    """
    fit, problem, points = post.fit, post.fit.problem, post.points
    count = min(count, len(post))
    some = np.arange(count)
    means, roots = post.target.fixed_effects(
        points.take(some), post.profiles.take(some)
    )
    for k in range(count):
        theta, scale = points.theta[k], float(points.sigma[k] ** 2)
        factor = problem.factor(theta)
        outer = problem.z_map @ factor
        values = problem.value_map() @ problem.values(theta)
        found = fit.parameters.natural(problem.split(theta)[1])
        beta = post.draws.to_numpy()[k, : fit.k_fe] if drawn else means[k]
        cov = np.zeros_like(fit.cov_beta) if drawn else roots[k] @ roots[k].T
        estimate = replace(
            fit.estimate,
            theta=theta,
            beta=beta,
            cov_beta=cov,
            scale=scale,
            psi=outer @ outer.T,
            cov_values=values * scale,
            residual_params=found.value,
            cov_theta=np.full_like(fit.estimate.cov_theta, np.nan),
            zero=np.zeros_like(fit.estimate.zero),
            singular=False,
            at_end=np.zeros_like(fit.estimate.at_end),
        )
        other = replace(
            fit,
            modes=(Optimum(estimate, fit.modes[0].search),),
            factor=factor,
            df_method=CONTAINMENT,
            robust=None,
        )
        other.__dict__["encoder"] = fit.encoder  # of the data alone
        yield other


def _checked(quantiles: Sequence[float]) -> list[float]:
    """Probabilities between 0 and 1, or raise."""
    try:
        out = [float(q) for q in quantiles]
    except (TypeError, ValueError):
        out = [np.nan]
    if not all(0.0 < q < 1.0 for q in out):
        raise UnsupportedError(
            f"quantiles={shown(quantiles)} are not probabilities between 0 and 1"
        )
    return out


def _mixture(
    means: FloatArray, variances: FloatArray, quantiles: Sequence[float]
) -> dict[str, FloatArray]:
    """Moments and quantiles of mixtures of normals, (draws, k) to (k,) each."""
    sd = np.sqrt(np.maximum(variances, 0.0))
    mean = means.mean(axis=0)
    total = np.sqrt(variances.mean(axis=0) + means.var(axis=0))
    sd = np.maximum(sd, 1e-9 * np.where(total > 0.0, total, 1.0))
    out = {"mean": mean, "sd": total}
    for q in quantiles:
        low, high = (means - 9.0 * sd).min(axis=0), (means + 9.0 * sd).max(axis=0)
        for _ in range(48):
            middle = 0.5 * (low + high)
            above = ndtr((middle - means) / sd).mean(axis=0) > q
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        out[percent(q)] = 0.5 * (low + high)
    return out


def ranef(
    post: Posterior,
    factor: str | None = None,
    *,
    quantiles: Sequence[float] = _QUANTILES,
    thetas: int = 400,
) -> pd.DataFrame:
    """
    Posterior of the random effects of the levels of a factor.

    Parameters
    ----------
    post : Posterior
    factor : str, optional
        The groups by default.
    quantiles : sequence of float
    thetas : int
        Number of draws of the covariance parameters; given each the effects are
        normal, with the uncertainty of the fixed effects.

    Returns
    -------
    DataFrame
        A row for each level and effect; ``mean``, ``sd`` and quantiles.

    Raises
    ------
    UnknownColumnError
        If the factor has no random effects.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ").fit()
    >>> effects = fit.posterior(draws=1000, rng=1).ranef(thetas=50)
    >>> effects.shape
    (27, 7)
    """
    wanted = _checked(quantiles)
    frames = [
        predicted_effects(fit, factor, se=True, beta="estimated")
        for fit in fits(post, check_count(thetas, "thetas"))
    ]
    names = frames[0]["predicted"]
    means = np.stack([frame["predicted"].to_numpy().ravel() for frame in frames])
    errors = np.stack([frame["std_error"].to_numpy().ravel() for frame in frames])
    index = pd.MultiIndex.from_tuples(
        [(level, effect) for level in names.index for effect in names.columns],
        names=["level", "effect"],
    )
    return ResultFrame(_mixture(means, errors**2, wanted), index=index)


def predict(
    post: Posterior,
    newdata: object = None,
    level: str = "population",
    *,
    exog: object = None,
    exog_re: object = None,
    exog_vc: Mapping[str, Any] | None = None,
    groups: object = None,
    time: object = None,
    series: object = None,
    residual_data: object = None,
    offset: object = None,
    unknown: str = "error",
    quantiles: Sequence[float] = _QUANTILES,
    thetas: int = 400,
) -> pd.DataFrame:
    """
    Posterior of means, and of new observations.

    Parameters
    ----------
    post : Posterior
    newdata : DataFrame, dict or structured array, optional
        Rows for the model's formulas; those of the fit by default.
    level : {"population", "group", "forecast"}
        As in ``fit.get_prediction``: what is common to all; with the random effects of
        the row's group; or given the group's residuals as well.
    exog, exog_re, exog_vc, groups, time, series, residual_data, offset, unknown
        As in ``fit.get_prediction``.
    quantiles : sequence of float
    thetas : int
        Number of draws of the covariance parameters, given each of which the rest is
        exact.

    Returns
    -------
    DataFrame
        ``mean``, ``sd`` and quantiles of the mean, and ``obs_sd`` and quantiles
        ``obs_...`` of an observation.

    Raises
    ------
    MixedARError
        As ``fit.get_prediction``.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ").fit()
    >>> post = fit.posterior(draws=1000, rng=1)
    >>> later = post.predict(teeth.head(1).assign(age=16, occ=5), level="forecast")
    >>> later[["mean", "obs_sd"]].shape
    (1, 2)
    """
    check_choice("level", level, LEVELS)
    check_choice("unknown", unknown, ("error", "population"))
    wanted = _checked(quantiles)
    given = NewData(
        newdata, exog, exog_re, exog_vc, groups, time, series, residual_data, offset
    )
    rows = rows_to_predict(post.fit, given, level, unknown)
    means, variances, rest = [], [], []
    for fit in fits(post, check_count(thetas, "thetas")):
        if fit.k_vc:  # whose new levels have the variance of the draw
            rows = rows_to_predict(fit, given, level, unknown)
        mean, variance, own = np.empty((3, len(rows.codes)))
        for some, predictor in predictors(fit, rows, level):
            mean[some] = predictor.mean()
            variance[some] = predictor.error_variance(fit.cov_beta)
            own[some] = predictor.residual_variance()
        means.append(mean)
        variances.append(variance)
        rest.append(own)
    m, v = np.stack(means), np.stack(variances)
    out = _mixture(m, v, wanted)
    seen = _mixture(m, v + np.stack(rest), wanted)
    out.update({f"obs_{name}": seen[name] for name in seen if name != "mean"})
    return ResultFrame(out, index=rows.index)


@understands(seed="rng", n_sim="draws", count="draws")
def replicate(post: Posterior, draws: int = 100, rng: Seed = None) -> pd.DataFrame:
    """
    New data from the posterior predictive distribution, for the rows of the fit.

    Each has parameters of one draw, and random effects and residuals of its own.

    Parameters
    ----------
    post : Posterior
    draws : int
        Number of data sets, at most that of the posterior's draws.
    rng : int or Generator, optional

    Returns
    -------
    DataFrame, shape (n, draws)

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ").fit()
    >>> fit.posterior(draws=1000, rng=1).replicate(20, rng=2).shape
    (108, 20)
    """
    stream, rows = generator(rng), fitted_rows(post.fit.data)
    columns = [
        next(draw_responses(fit, rows, 1, stream, False, StatedParameters.of(fit)))
        for fit in fits(post, check_count(draws, "draws"), drawn=True)
    ]
    names = pd.RangeIndex(len(columns), name="draw")
    return pd.DataFrame(np.hstack(columns), index=rows.index, columns=names)
