"""
Fixed effects with AR(1) errors and gaps in time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.exceptions import IdentificationError, UnsupportedError
from mixedar.panel.adapter import standardize
from mixedar.panel.ar1 import AR1Model, WithinFit
from mixedar.panel.ar1_rho import ar1_transform
from mixedar.panel.checks import check_residuals, listing, singleton_notes
from mixedar.panel.covariance import (
    CovarianceRequest,
    Regression,
    cluster_codes,
    sandwich,
)
from mixedar.panel.data import PanelData
from mixedar.panel.effects import squared
from mixedar.panel.estimate import PanelEstimate
from mixedar.panel.results import PanelResults

__all__ = ["FixedEffectsAR1"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


class FixedEffectsAR1(AR1Model):
    """
    Fixed effects with AR(1) errors, Stata's ``xtregar, fe``.

    ``y_it = a_i + x_it'b + e_it`` with ``e_it = rho e_i,t-1 + eta_it``.  Baltagi and
    Wu's transformation removes the correlation; what it makes of the effects is
    then projected out, which with gaps is not the mean.

    Parameters
    ----------
    endog, exog, entity, time, missing
        As in :class:`PanelModel`; times must be whole or equally spaced.

    Notes
    -----
    Without gaps all estimates are Stata's, except for the standard error of the
    intercept: ``xtregar`` divides the estimate by ``1 - rho`` but the error of the
    mean in its standard error not.  With gaps Stata subtracts plain means, which
    leaves a part of the effects in the data.

    References
    ----------
    Baltagi, B. H. and Wu, P. X. (1999), Unequally spaced panel data regressions
    with AR(1) disturbances, Econometric Theory 15, 814-823.
    """

    def fit(
        self,
        cov_type: str = "classical",
        *,
        rho: float | None = None,
        rho_method: str = "dw",
        two_step: bool = False,
        first: str = "drop",
        cluster: Any = None,
        small_sample: str | None = "default",
        kernel: str = "bartlett",
        bandwidth: float | None = None,
    ) -> PanelResults:
        """
        Estimate rho and the coefficients.

        Parameters
        ----------
        cov_type, cluster, small_sample, kernel, bandwidth
            See :class:`CovarianceRequest`; of the transformed regression.
        rho : float, optional
            Use this value and do not estimate it.
        rho_method, two_step
            See :func:`mixedar.panel.ar1_rho.estimate_rho`.
        first : {"drop", "keep"}
            The first observation of each entity is left out (Cochrane and Orcutt,
            Stata) or kept (Prais and Winsten, generalised least squares).

        Returns
        -------
        PanelResults
            ``scale`` is the variance of the innovations eta; ``effects`` are means
            of ``y - x b`` (Stata's).

        Raises
        ------
        IdentificationError
            If every regressor is absorbed, or rho is not between -1 and 1.
        """
        if first not in ("drop", "keep"):
            raise UnsupportedError(f"first={first!r}: choose 'drop' or 'keep'")
        request = CovarianceRequest.read(
            cov_type, cluster, small_sample, kernel, bandwidth
        )
        panel, within = self.panel, self.fit_within(rho, rho_method, two_step)
        columns = within.slopes[within.kept]
        if not len(columns):
            raise IdentificationError(
                f"the effects absorb every regressor ({listing(panel.names)}); use "
                "random effects"
            )
        standard = standardize(panel.x[:, columns], None, center=True)
        rows = np.flatnonzero(panel.gaps > 0.0) if first == "drop" else np.arange(
            panel.nobs
        )  # fmt: skip
        entity = panel.entity[rows]
        transformed = ar1_transform(
            np.column_stack([standard.x, panel.y, np.ones(panel.nobs)]),
            within.rho,
            panel.gaps,
        )[rows]
        loading = transformed[:, -1]
        squares = np.bincount(entity, loading**2, panel.n_entities).astype(np.float64)
        clean = _project(transformed[:, :-1], loading, squares, entity)
        x, y = clean[:, :-1], clean[:, -1]
        count = int((squares > 0.0).sum())
        df_resid = len(rows) - count - len(columns)
        if df_resid <= 0:
            raise IdentificationError(
                f"{len(rows)} rows cannot estimate {count} effects, {len(columns)} "
                "coefficients and a variance; use fewer regressors"
            )
        coef = np.asarray(np.linalg.lstsq(x, y, rcond=None)[0], dtype=np.float64)
        resid = y - x @ coef
        check_residuals(resid, panel)
        clusters: list[IntArray] = []
        if request.cov_type == "clustered":
            clusters = [
                codes[rows]
                for codes in cluster_codes(panel, request.cluster, self.data)
            ]
        cov, info = sandwich(
            Regression(
                x, resid, entity, panel.time[rows], df_resid, len(columns), ("entity",)
            ),
            request,
            clusters,
        )
        scale = float(resid @ resid) / df_resid
        params, cov = standard.params(coef), standard.cov(cov)
        levels = panel.y - panel.x[:, columns] @ params
        if panel.constant is not None:
            columns, params, cov = self._with_level(
                columns, params, cov, scale, rows, loading, transformed[:, -2], within
            )
            levels = panel.y - panel.x[:, columns] @ params
        notes = self.gaps_note()
        notes += singleton_notes(panel, "do not take part: nothing is left of them")
        lost = panel.nobs - len(rows)
        if lost:
            notes.append(
                f"First observations of the entities, left out by the transformation: "
                f"{lost}."
            )
        if within.gone:
            names = ", ".join(panel.names[within.slopes[j]] for j in within.gone)
            notes.append(f"Absorbed by the effects, without a coefficient: {names}.")
        sums = np.bincount(entity, levels[rows], panel.n_entities)
        counts = np.bincount(entity, minlength=panel.n_entities)
        # an entity without a row in the regression: the mean of what it has
        effects = panel.entity_means(levels)
        effects[counts > 0] = sums[counts > 0] / counts[counts > 0]
        estimate = PanelEstimate(
            kind="fe_ar1",
            method="Fixed effects with AR(1) errors",
            columns=columns,
            params=params,
            cov=cov,
            info=info,
            scale=scale,
            df_resid=df_resid,
            nobs=len(rows),
            absorbed=tuple(panel.names[within.slopes[j]] for j in within.gone),
            notes=tuple(notes),
            effects=("entity",),
            sigma2_u=float(np.var(effects[counts > 0], ddof=1)),
            sigma2_e=scale,
            rho=within.rho,
            statistics=within.statistics,
            entity_effects=effects,
            rsquared=_stata_rsquared(panel, columns, params, rows, within.rho),
        )
        return PanelResults(self, estimate)

    def _with_level(
        self,
        columns: IntArray,
        params: FloatArray,
        cov: FloatArray,
        scale: float,
        rows: IntArray,
        loading: FloatArray,
        y: FloatArray,
        within: WithinFit,
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """Add the average effect, weighted by the loadings, and its variance."""
        panel, weight = self.panel, loading @ loading
        constant = panel.constant
        assert constant is not None
        shift = panel.x[:, columns].mean(axis=0)
        x = ar1_transform(panel.x[:, columns] - shift, within.rho, panel.gaps)[rows]
        mean = loading @ x / weight + shift
        level = float(loading @ y / weight - mean @ params)
        value = panel.x[0, constant]
        position = int(np.searchsorted(columns, constant))
        row = -(mean @ cov)
        variance = scale / weight + mean @ cov @ mean
        out = np.insert(np.insert(cov, position, row, axis=0), position, 0.0, axis=1)
        out[:, position] = np.insert(row, position, variance) / value
        out[position] = out[:, position]
        out[position, position] = variance / value**2
        return (
            np.insert(columns, position, constant),
            np.insert(params, position, level / value),
            out,
        )


def _stata_rsquared(
    panel: PanelData, columns: IntArray, params: FloatArray, rows: IntArray, rho: float
) -> tuple[float, float, float]:
    """Within of the transformed data, between and overall of the rows used."""
    both = np.column_stack([panel.y, panel.x[:, columns] @ params])
    codes, entity = np.unique(panel.entity[rows], return_inverse=True)
    counts = np.bincount(entity)

    def means(values: FloatArray) -> FloatArray:
        return np.column_stack([np.bincount(entity, v) / counts for v in values.T])

    inner = ar1_transform(both - both.mean(axis=0), rho, panel.gaps)[rows]
    inner -= means(inner)[entity]
    outer = means(both[rows])
    within = squared(inner[:, 0], inner[:, 1])
    between = squared(outer[:, 0], outer[:, 1]) if len(codes) > 1 else np.nan
    return within, between, squared(both[rows, 0], both[rows, 1])


def _project(
    values: FloatArray, loading: FloatArray, squares: FloatArray, entity: IntArray
) -> FloatArray:
    """Residuals of each entity's rows on its loadings, shape of `values`."""
    out = np.empty_like(values)
    for j in range(values.shape[1]):
        sums = np.bincount(entity, loading * values[:, j], len(squares))
        mean = sums / np.where(squares > 0.0, squares, 1.0)
        out[:, j] = values[:, j] - loading * mean[entity]
    return out
