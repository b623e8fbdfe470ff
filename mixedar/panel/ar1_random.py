"""
Random effects with AR(1) errors and gaps in time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.exceptions import IdentificationError
from mixedar.panel.adapter import standardize
from mixedar.panel.ar1 import AR1Model
from mixedar.panel.ar1_rho import ar1_transform
from mixedar.panel.checks import check_residuals
from mixedar.panel.covariance import (
    CovarianceRequest,
    Regression,
    cluster_codes,
    sandwich,
)
from mixedar.panel.data import PanelData
from mixedar.panel.estimate import PanelEstimate
from mixedar.panel.results import PanelResults

__all__ = ["RandomEffectsAR1"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


class RandomEffectsAR1(AR1Model):
    """
    Random effects with AR(1) errors, Stata's ``xtregar, re``.

    Parameters
    ----------
    endog, exog, entity, time, missing
        As in :class:`PanelModel`; times must be whole or equally spaced.

    References
    ----------
    Baltagi, B. H. and Wu, P. X. (1999), Unequally spaced panel data
    regressions with AR(1) disturbances, Econometric Theory 15, 814-823.
    """

    def fit(
        self,
        cov_type: str = "classical",
        *,
        rho: float | None = None,
        rho_method: str = "dw",
        two_step: bool = False,
        cluster: Any = None,
        small_sample: str | None = "default",
        kernel: str = "bartlett",
        bandwidth: float | None = None,
    ) -> PanelResults:
        """
        Estimate rho, the variances, and the coefficients by GLS.

        Parameters
        ----------
        cov_type, cluster, small_sample, kernel, bandwidth
            See :class:`CovarianceRequest`; of the transformed regression.
        rho, rho_method, two_step
            As in :meth:`FixedEffectsAR1.fit`.

        Returns
        -------
        PanelResults
            ``theta`` refers to the transformed data; the residual variance of the
            decomposition is that of the innovations.

        Raises
        ------
        IdentificationError
            If no degree of freedom is left, or rho is not between -1 and 1.
        """
        request = CovarianceRequest.read(
            cov_type, cluster, small_sample, kernel, bandwidth
        )
        panel, within = self.panel, self.fit_within(rho, rho_method, two_step)
        standard = standardize(panel.x, panel.constant)
        k = panel.x.shape[1]
        df_resid = panel.nobs - k
        if df_resid <= 0 or panel.nobs <= panel.n_entities:
            raise IdentificationError(
                f"{panel.nobs} observations of {panel.n_entities} entities cannot "
                f"estimate {k} coefficients and two variances; use fewer regressors"
            )
        data = ar1_transform(
            np.column_stack([standard.x, panel.y, np.ones(panel.nobs)]),
            within.rho,
            panel.gaps,
        )
        x, y, loading = data[:, :k], data[:, k], data[:, k + 1]
        squares = panel.entity_sums(loading**2)
        sigma2_u, sigma2_e = _components(panel, x, y, loading, squares)
        notes = self.gaps_note()
        if sigma2_u < 0.0:
            sigma2_u = 0.0
            notes.append(
                "The estimated variance of the effects is negative and has been set to "
                "zero: the fit is pooled least squares with AR(1) errors."
            )
        theta = 1.0 - np.sqrt(sigma2_e / (squares * sigma2_u + sigma2_e))
        share = panel.spread_out(theta / squares) * loading
        sums = panel.entity_sums(data[:, : k + 1] * loading[:, None])
        clean = data[:, : k + 1] - share[:, None] * panel.spread_out(sums)
        x_gls, y_gls = clean[:, :k], clean[:, k]
        coef = np.linalg.lstsq(x_gls, y_gls, rcond=None)[0]
        resid = y_gls - x_gls @ coef
        check_residuals(resid, panel)
        clusters: list[IntArray] = []
        if request.cov_type == "clustered":
            clusters = cluster_codes(panel, request.cluster, self.data)
        cov, info = sandwich(
            Regression(
                x_gls, resid, panel.entity, panel.time, df_resid, k, use_t=False
            ),
            request,
            clusters,
        )
        combined = panel.entity_sums(loading * (y - x @ coef))
        estimate = PanelEstimate(
            kind="re_ar1",
            method="Random effects with AR(1) errors, GLS (Baltagi-Wu)",
            columns=np.arange(k),
            params=standard.params(coef),
            cov=standard.cov(cov),
            info=info,
            scale=float(resid @ resid) / df_resid,
            df_resid=df_resid,
            nobs=panel.nobs,
            notes=tuple(notes),
            effects=("entity",),
            theta=theta,
            sigma2_u=sigma2_u,
            sigma2_e=sigma2_e,
            rho=within.rho,
            statistics=within.statistics,
            entity_effects=sigma2_u * combined / (sigma2_u * squares + sigma2_e),
        )
        return PanelResults(self, estimate)


def _components(
    panel: PanelData,
    x: FloatArray,
    y: FloatArray,
    loading: FloatArray,
    squares: FloatArray,
) -> tuple[float, float]:
    """Variances of effects and innovations from pooled residuals (may be < 0)."""
    u = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    explained = float((panel.entity_sums(loading * u) ** 2 / squares).sum())
    sigma2_e = (float(u @ u) - explained) / (panel.nobs - panel.n_entities)
    sigma2_u = (explained - panel.n_entities * sigma2_e) / float(squares.sum())
    return sigma2_u, sigma2_e
