"""
Random effects of entities, by feasible GLS or maximum likelihood.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy import stats

from mixedar._types import FloatArray
from mixedar.exceptions import BoundaryWarning, IdentificationError, UnsupportedError
from mixedar.panel.algebra import Standardized, frames, lean, standardize
from mixedar.panel.checks import check_collinear, check_residuals, singleton_notes
from mixedar.panel.covariance import (
    CovarianceRequest,
    Regression,
    cluster_codes,
    sandwich,
)
from mixedar.panel.data import PanelData
from mixedar.panel.estimators.base import CovarianceInfo, PanelEstimate, PanelModel
from mixedar.panel.results import PanelResults

_METHODS = {
    "swamy-arora": "Random effects, GLS (Swamy-Arora)",
    "ml": "Random effects, maximum likelihood",
    "reml": "Random effects, restricted maximum likelihood",
}
_ZERO = (
    "The estimated variance of the effects is negative and has been set to zero: "
    "theta is 0 and the coefficients are those of pooled least squares."
)


class RandomEffects(PanelModel):
    """
    Regression with random effects: ``y_it = x_it'b + u_i + e_it``.

    Parameters
    ----------
    endog, exog, entity, time, missing
        As in :class:`PanelModel`.

    References
    ----------
    Swamy, P. A. V. B. and Arora, S. S. (1972), The exact finite sample properties
    of the estimators of coefficients in the error components regression models,
    Econometrica 40, 261-275.
    Baltagi, B. H. and Chang, Y. (1994), Incomplete panels: a comparative study of
    alternative estimators for the unbalanced one-way error component regression
    model, Journal of Econometrics 62, 67-89.
    """

    def fit(
        self,
        cov_type: str = "classical",
        *,
        method: str = "swamy-arora",
        unbalanced: str = "harmonic",
        cluster: Any = None,
        small_sample: str | None = "default",
        kernel: str = "bartlett",
        bandwidth: float | None = None,
    ) -> PanelResults:
        """
        Estimate the coefficients.

        Parameters
        ----------
        cov_type : str
            ``"classical"``, ``"robust"``, ``"clustered"``, ``"hac"`` or
            ``"driscoll-kraay"``; with ``method="ml"`` also ``"observed"``, the
            inverse of the observed information of coefficients and variances
            (Stata's ``xtreg, mle``).
        method : {"swamy-arora", "ml", "reml"}
            Feasible GLS with the variances of Swamy and Arora, or (restricted)
            maximum likelihood.
        unbalanced : {"harmonic", "baltagi-chang"}
            Swamy and Arora's variance of the effects when entities have different
            numbers of observations: by their harmonic mean (Stata's ``xtreg, re``,
            linearmodels) or as Baltagi and Chang (plm, Stata's ``sa``).  They are
            equal if all have the same number.
        cluster, small_sample, kernel, bandwidth
            See :class:`CovarianceRequest`; clusters are entities and the factor is
            Stata's by default.

        Returns
        -------
        PanelResults

        Raises
        ------
        RankDeficiencyError
            If columns are collinear.
        IdentificationError
            If the variances cannot be estimated.
        """
        if method not in _METHODS:
            raise UnsupportedError(
                f"method={method!r}: choose 'swamy-arora', 'ml' or 'reml'"
            )
        if unbalanced not in ("harmonic", "baltagi-chang"):
            raise UnsupportedError(
                f"unbalanced={unbalanced!r}: choose 'harmonic' or 'baltagi-chang'"
            )
        observed = cov_type == "observed"
        if observed and method != "ml":
            raise UnsupportedError("cov_type='observed' needs method='ml'")
        request = CovarianceRequest.read(
            "classical" if observed else cov_type,
            cluster,
            small_sample,
            kernel,
            bandwidth,
        )
        panel = self.panel
        clusters = []
        if request.cov_type == "clustered":
            clusters = cluster_codes(panel, request.cluster, self.data)
        check_collinear(panel.x, panel.names, "the regressors")
        standard = standardize(panel.x, panel.constant)
        df_resid = panel.nobs - panel.x.shape[1]
        if df_resid <= 0:
            raise IdentificationError(
                f"{panel.nobs} observations cannot estimate {panel.x.shape[1]} "
                "coefficients and two variances; use fewer regressors"
            )
        if method == "swamy-arora":
            numbers = _swamy_arora(panel, standard, unbalanced == "baltagi-chang")
        else:
            numbers = _likelihood(panel, standard, method == "reml")
        gls, cov, theta, sigma2_u, sigma2_e, llf = numbers
        x = panel.quasi_demean(standard.x, theta)
        resid = panel.quasi_demean(panel.y, theta) - x @ gls
        check_residuals(resid, panel)
        info = CovarianceInfo()
        if request.cov_type != "classical":
            regression = Regression(
                x, resid, panel.entity, panel.time, df_resid, x.shape[1], use_t=False
            )
            cov, info = sandwich(regression, request, clusters)
        elif observed:
            cov = _observed(panel, standard.x, gls, sigma2_u, sigma2_e)
            info = CovarianceInfo("observed", label="observed information")
        method_text = _METHODS[method]
        notes = singleton_notes(panel, "inform the variance between entities only")
        if method == "swamy-arora" and np.ptp(panel.sizes):
            name = {"harmonic": "harmonic mean", "baltagi-chang": "Baltagi-Chang"}
            method_text += f", unbalanced: {name[unbalanced]}"
        if sigma2_u == 0.0:
            notes.append(
                _ZERO
                if method == "swamy-arora"
                else "The likelihood is largest where the variance of the effects is "
                "zero: the coefficients are those of pooled least squares."
            )
        statistics = {}
        if method == "ml":
            statistics["LR statistic, no effects"] = _lr_statistic(panel, standard, llf)
            statistics["p, chibar2(0, 1)"] = 0.5 * float(
                stats.chi2.sf(statistics["LR statistic, no effects"], 1)
            )
        estimate = PanelEstimate(
            kind="re",
            method=method_text,
            columns=np.arange(panel.x.shape[1]),
            params=standard.params(gls),
            cov=standard.cov(cov),
            info=info,
            scale=float(resid @ resid) / df_resid
            if method == "swamy-arora"
            else sigma2_e,
            df_resid=df_resid,
            nobs=panel.nobs,
            notes=tuple(notes),
            effects=("entity",),
            theta=theta,
            sigma2_u=sigma2_u,
            sigma2_e=sigma2_e,
            llf=llf,
            statistics=statistics,
        )
        return PanelResults(self, estimate)


Numbers = tuple[FloatArray, FloatArray, FloatArray, float, float, float | None]


def _swamy_arora(
    panel: PanelData, standard: Standardized, baltagi_chang: bool
) -> Numbers:
    """Coefficients of standardised columns, covariance, theta and variances."""
    from linearmodels.panel import RandomEffects as LinearRandomEffects

    y, x = frames(panel, panel.y, standard.x)
    try:
        fit = lean(LinearRandomEffects)(y, x, check_rank=False).fit(
            small_sample=baltagi_chang
        )
    except ValueError as error:
        raise IdentificationError(
            f"the variances of the effects and of the errors cannot be estimated from "
            f"{panel.nobs} observations of {panel.n_entities} entities: {error}"
        ) from error
    parts = fit.variance_decomposition
    return (
        fit.params.to_numpy(),
        fit.cov.to_numpy(),
        fit.theta.to_numpy()[:, 0],
        float(parts["Effects"]),
        float(parts["Residual"]),
        None,
    )


def _likelihood(panel: PanelData, standard: Standardized, reml: bool) -> Numbers:
    """The same by maximum likelihood, through the mixed model."""
    from mixedar.mixed import MixedLMAR

    with warnings.catch_warnings():
        # a variance of zero is reported in a note
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = MixedLMAR(
            panel.y, standard.x, groups=panel.entity, residual="independent"
        ).fit(reml=reml)
    k = standard.x.shape[1]
    sigma2_e = float(fit.scale)
    sigma2_u = float(np.asarray(fit.cov_re)[0, 0])
    if sigma2_u < 1e-10 * sigma2_e:
        sigma2_u = 0.0
    theta = 1.0 - np.sqrt(sigma2_e / (sigma2_e + panel.sizes * sigma2_u))
    cov = np.asarray(fit.cov_params())[:k, :k]
    llf = float(fit.llf)
    if reml:  # its constant depends on the scale of the columns
        llf += float(np.linalg.slogdet(standard.back)[1])
    return np.asarray(fit.fe_params), cov, theta, sigma2_u, sigma2_e, llf


def _lr_statistic(panel: PanelData, standard: Standardized, llf: float | None) -> float:
    """Twice the gain over pooled least squares."""
    resid = panel.y - standard.x @ np.linalg.lstsq(standard.x, panel.y, rcond=None)[0]
    n = panel.nobs
    pooled = -0.5 * n * (np.log(2.0 * np.pi * (resid @ resid) / n) + 1.0)
    gain = 0.0 if llf is None else 2.0 * (llf - float(pooled))
    return max(0.0, gain)


def _observed(
    panel: PanelData,
    x: FloatArray,
    params: FloatArray,
    sigma2_u: float,
    sigma2_e: float,
) -> FloatArray:
    """
    Inverse of the negative Hessian, its block of the coefficients.

    ``V_i = s2e I + s2u J`` has two eigenspaces, deviations and means, on which its
    inverse is ``a = 1 / s2e`` and ``g_i = 1 / (s2e + T_i s2u)``.
    """
    e = panel.y - x @ params
    size = panel.sizes.astype(np.float64)
    x_mean, e_mean = panel.entity_means(x), panel.entity_means(e)
    x_dev, e_dev = x - panel.spread_out(x_mean), e - panel.spread_out(e_mean)
    a, g = 1.0 / sigma2_e, 1.0 / (sigma2_e + size * sigma2_u)
    k = x.shape[1]
    info = np.zeros((k + 2, k + 2))
    info[:k, :k] = a * x_dev.T @ x_dev + (x_mean * (g * size)[:, None]).T @ x_mean
    info[:k, k] = a**2 * x_dev.T @ e_dev + x_mean.T @ (g**2 * size * e_mean)
    info[:k, k + 1] = x_mean.T @ (g**2 * size**2 * e_mean)
    cubes = g**3 * size * e_mean**2
    info[k, k] = a**3 * (e_dev @ e_dev) + cubes.sum()
    info[k, k] -= 0.5 * ((size - 1.0) * a**2 + g**2).sum()
    info[k, k + 1] = (size * cubes - 0.5 * size * g**2).sum()
    info[k + 1, k + 1] = (size**2 * cubes - 0.5 * size**2 * g**2).sum()
    if sigma2_u == 0.0:  # the variance is no free parameter on the boundary
        info = info[: k + 1, : k + 1]
    upper = np.triu(info)
    return np.linalg.inv(upper + np.triu(info, 1).T)[:k, :k]
