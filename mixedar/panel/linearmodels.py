"""
Where linearmodels estimates fixed and random effects, and what is kept from it.

linearmodels judges columns by their length, offset included, and solves least
squares with a tolerance relative to the largest column, so that it gets
standardised ones; its test of rank is left out, as the panel's own names the
columns.  R squared and the F test of all slopes take more than half of the time of
a fit: here they are computed when they are asked for.  The methods that do so are
linearmodels' own internals; should they be renamed, fits are slower again and
nothing else.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.exceptions import IdentificationError
from mixedar.panel.algebra import MEANS_TOLERANCE, column_sizes
from mixedar.panel.data import PanelData


class WithinFit(NamedTuple):
    """Estimates of fixed effects; `f_pooled` is None if there is no such test."""

    params: FloatArray
    cov: FloatArray
    resid: FloatArray
    scale: float
    df_resid: int
    llf: float
    f_pooled: tuple[float, float, float] | None


class RandomFit(NamedTuple):
    """Estimates of random effects; `llf` is None but for maximum likelihood."""

    params: FloatArray
    cov: FloatArray
    theta: FloatArray
    sigma2_u: float
    sigma2_e: float
    llf: float | None = None


def fit_within(panel: PanelData, x: FloatArray, effects: tuple[str, ...]) -> WithinFit:
    """Regression of the panel's response on `x` and fixed effects."""
    from linearmodels.panel import PanelOLS

    options = {}
    if len(effects) > 1:  # its two-way algorithm, chosen without its warning
        small = min(panel.n_entities, panel.n_periods)
        options["low_memory"] = 8 * small * panel.nobs > 2**30
    model = _lean(PanelOLS)(
        *_frames(panel, x),
        entity_effects="entity" in effects,
        time_effects="time" in effects,
        drop_absorbed=True,
        check_rank=False,
    )
    fit = model.fit(**options)
    test = fit.f_pooled
    has_test = getattr(test, "df_denom", None) is not None
    return WithinFit(
        fit.params.to_numpy(),
        fit.cov.to_numpy(),
        np.asarray(fit.resids, dtype=np.float64),
        float(fit.s2),
        int(fit.df_resid),
        float(fit.loglik),
        (float(test.stat), float(test.df), float(test.df_denom)) if has_test else None,
    )


def fit_swamy_arora(panel: PanelData, x: FloatArray, baltagi_chang: bool) -> RandomFit:
    """Feasible GLS of the panel's response on `x`."""
    from linearmodels.panel import RandomEffects

    # means that differ by rounding are no regressors between entities
    means = panel.entity_means(x)
    away = means - means.mean(axis=0)
    limit = MEANS_TOLERANCE * column_sizes(x - x.mean(axis=0)) / np.sqrt(len(x))
    away[:, np.abs(away).max(axis=0) > limit] = 0.0
    clean = x - panel.per_row(away)
    model = _lean(RandomEffects)(*_frames(panel, clean), check_rank=False)
    try:
        fit = model.fit(small_sample=baltagi_chang)
    except ValueError as error:
        raise IdentificationError(
            f"the variances of the effects and of the errors cannot be estimated from "
            f"{panel.nobs} observations of {panel.n_entities} entities: {error}"
        ) from error
    parts = fit.variance_decomposition
    params, cov = fit.params.to_numpy(), fit.cov.to_numpy()
    theta = fit.theta.to_numpy()[:, 0]
    if away.any():  # the residual variance is that of the regressors themselves
        y = panel.quasi_demean(panel.y, theta)
        own, there = (
            float(((y - panel.quasi_demean(part, theta) @ params) ** 2).sum())
            for part in (x, clean)
        )
        cov = cov * (own / there if there > 0.0 else 1.0)
    return RandomFit(
        params,
        cov,
        theta,
        float(parts["Effects"]),
        float(parts["Residual"]),
    )


def _frames(panel: PanelData, x: FloatArray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Response and columns, indexed by entity and period numbers."""
    codes: Any = [panel.entity, panel.time]
    levels: Any = [range(panel.n_entities), range(panel.n_periods)]
    # nothing is factorised again
    index = pd.MultiIndex(
        levels=levels, codes=codes, names=["entity", "time"], verify_integrity=False
    )
    names = pd.Index([f"x{j}" for j in range(x.shape[1])])
    return (
        pd.DataFrame(panel.y[:, None], index=index, columns=["y"], copy=False),
        pd.DataFrame(x, index=index, columns=names, copy=False),
    )


def _lean(model: type[Any]) -> type[Any]:
    """A linearmodels estimator without R squared and F at each fit."""
    from linearmodels.shared.hypotheses import InapplicableTestStatistic

    nothing = (float("nan"),) * 3

    class Lean(model):
        def _rsquared(self, *args: Any, **kwargs: Any) -> tuple[float, float, float]:
            return nothing

        _rsquared_corr = _rsquared

        def _f_statistic(self, *args: Any, **kwargs: Any) -> Any:
            return InapplicableTestStatistic(reason="left out", name="F")

    return Lean
