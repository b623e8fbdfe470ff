"""
Predictions at three levels: population, group, forecast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mixedar._types import FloatArray
from mixedar.data.formula import capture_namespace
from mixedar.exceptions import MixedARError, UnsupportedError
from mixedar.fit import Fit
from mixedar.hypotheses.df import ContrastMethod
from mixedar.inference.df.methods import contrast_method
from mixedar.numeric.linalg import product
from mixedar.prediction.conditional import (
    GroupPredictor,
    prior_variance,
    residual_variance,
    theta_variance,
)
from mixedar.prediction.new_rows import NewData, NewRows, rows_to_predict
from mixedar.prediction.results import PredictionResults

LEVELS = ("population", "group", "forecast")
_THETA = {False: 0.0, True: 1.0, "prasad-rao": 2.0}


def get_prediction(
    fit: Fit,
    newdata: Any = None,
    level: str = "population",
    *,
    exog: Any = None,
    exog_re: Any = None,
    exog_vc: Any = None,
    groups: Any = None,
    time: Any = None,
    series: Any = None,
    residual_data: Any = None,
    unknown: str = "error",
    include_theta: bool | str = False,
    df: Any = None,
) -> PredictionResults:
    """
    Predict with standard errors and intervals.

    Parameters
    ----------
    fit : Fit
    newdata : DataFrame, dict or structured array, optional
        Rows for the model's formulas; the rows of the fit by default.  For a
        model from arrays, the same as `exog`.
    level : {"population", "group", "forecast"}
        ``X beta``; ``X beta + Z b`` with the predicted random effects of the
        row's group; or the conditional mean given the group's random effects
        and its residuals, which are correlated with those of other times.
    exog, exog_re : array_like, shapes (k, p) and (k, q), optional
        Designs of new rows instead of `newdata`.
    exog_vc : mapping of str to array_like, optional
        With them, columns of each variance component in the order of the row's
        group, shape (k, columns).
    groups, time, series : str or array_like, optional
        Columns of `newdata`, or one value a row; the columns of the fit by
        default.  Times of the fit's kind; without times in the fit, new rows
        continue their series.
    residual_data : DataFrame or mapping of str to array_like, optional
        Columns that the residual structure and the variance function read
        (coordinates, strata, covariates, weights) and `newdata` has not.
    unknown : {"error", "population"}
        What to do with groups that are not in the fit: raise, or predict random
        effects of zero with their variance.
    include_theta : bool or "prasad-rao"
        Add the variance that the estimation of the covariance parameters
        brings, once or twice; see :mod:`mixedar.prediction.conditional`.
    df : str, float or DFMethod, optional
        Degrees of freedom of the intervals, as in ``t_test``: those of the
        fixed part of each row, at all levels.

    Returns
    -------
    PredictionResults

    Raises
    ------
    UnsupportedError
        For options that are not known.
    UnknownColumnError, MissingDataError, EmptyDataError, LengthError
        If new rows lack columns or values.
    GroupError
        If a group is not in the fit and `unknown` is ``"error"``.
    TimeError
        If a time does not suit those of the fit, or is an occasion of which the
        residual structure knows nothing.
    StructureError
        If a row belongs to an unknown stratum of the residual structure.
    NotComputedError
        If the data that a level needs were removed from the fit.

    Notes
    -----
    At levels ``"population"`` and ``"group"`` columns that the residual structure
    reads are not needed for the mean.  Where they are missing, ``obs_ci`` is NaN in
    ``summary_frame`` and ``conf_int(obs=True)`` says what is missing.

    With ``include_theta`` the fixed effects enter with their model-based
    covariance, else with that of the method of degrees of freedom.

    References
    ----------
    Goldberger, A. S. (1962), Best linear unbiased prediction in the generalized
    linear regression model, Journal of the American Statistical Association 57,
    369-375.

    Robinson, G. K. (1991), That BLUP is a good thing: the estimation of random
    effects, Statistical Science 6, 15-32.
    """
    for what, value, choices in (
        ("level", level, LEVELS),
        ("unknown", unknown, ("error", "population")),
        ("include_theta", include_theta, tuple(_THETA)),
    ):
        if not any(value is name or value == name for name in choices):
            names = ", ".join(repr(name) for name in choices)
            raise UnsupportedError(f"{what}={value!r}: choose one of {names}")
    given = NewData(
        newdata,
        exog,
        exog_re,
        exog_vc,
        groups,
        time,
        series,
        residual_data,
        capture_namespace(),
    )
    rows = rows_to_predict(fit, given, level, unknown)
    method = contrast_method(fit, df)
    cov = fit.cov_beta if include_theta else method.cov
    moments = np.full((3, len(rows.codes)), np.nan)
    reason: MixedARError | None = None
    known, others = rows.split()
    for some, predict in ((others, _unknown), (known, _known)):
        if len(some):
            part = rows.take(some)
            moments[:2, some], residual = predict(
                fit, part, level, cov, _THETA[include_theta]
            )
            try:
                moments[2, some] = residual()
            except MixedARError as error:
                reason = reason or error
    mean, variance, rest = moments
    notes = _notes(rows, level, include_theta, reason)
    df_rows = _degrees_of_freedom(method, rows.exog)
    return PredictionResults(
        mean, variance, rest, df_rows, rows.index, level, notes, reason
    )


_Moments = tuple[FloatArray, Callable[[], FloatArray]]


def _known(
    fit: Fit, rows: NewRows, level: str, cov: FloatArray, factor: float
) -> _Moments:
    """Means and variances in groups of the fit; what an observation adds."""
    predictor = GroupPredictor(fit, rows, level == "forecast")
    variance = predictor.error_variance(cov)
    if factor:
        variance += factor * theta_variance(fit, predictor.mean_at)
    return np.stack([predictor.mean(), variance]), predictor.residual_variance


def _unknown(
    fit: Fit, rows: NewRows, level: str, cov: FloatArray, factor: float
) -> _Moments:
    """As :func:`_known`, for rows of which the fixed part alone is known."""
    x = rows.exog
    mean = x @ fit.fe_params
    variance = np.einsum("ij,ij->i", product(x, cov), x)
    if factor:
        variance += factor * theta_variance(fit, lambda point: x @ point.beta)
    effects = prior_variance(fit, rows)
    if level == "population":  # whose mean has no random effects
        return np.stack([mean, variance]), (
            lambda: residual_variance(fit, rows, mean) + effects
        )
    return np.stack([mean, variance + effects]), (
        lambda: residual_variance(fit, rows, mean)
    )


def _degrees_of_freedom(method: ContrastMethod, exog: FloatArray) -> FloatArray:
    """Degrees of freedom of each row's fixed part."""
    out = np.full(len(exog), np.inf)
    used = np.abs(exog).max(axis=1, initial=0.0) > 0.0
    if used.any():
        out[used] = method.single(exog[used])
    return out


def _notes(
    rows: NewRows,
    level: str,
    include_theta: bool | str,
    reason: MixedARError | None,
) -> tuple[str, ...]:
    notes = []
    if level != "population":
        count = int((rows.codes < 0).sum())
        if count:
            notes.append(
                f"{count} rows belong to groups that are not in the fit: their random "
                "effects are predicted by zero."
            )
    if include_theta:
        twice = ", twice (Prasad and Rao)" if include_theta == "prasad-rao" else ""
        notes.append(
            "Standard errors include the uncertainty of the covariance parameters"
            f"{twice}."
        )
    if reason is not None:
        notes.append(f"No intervals for observations: {reason}.")
    return tuple(notes)
