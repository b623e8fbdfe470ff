"""
Random effects of entities, by feasible GLS or maximum likelihood.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import stats

from mixedar._types import FloatArray
from mixedar.exceptions import (
    IdentificationError,
    UnsupportedError,
    check_choice,
)
from mixedar.mixed import MixedLMAR
from mixedar.panel.algebra import (
    Standardized,
    column_sizes,
    gaussian_llf,
    regress,
    standardize,
)
from mixedar.panel.checks import (
    check_collinear,
    singleton_notes,
)
from mixedar.panel.covariance import CovarianceInfo, CovarianceRequest
from mixedar.panel.data import PanelData
from mixedar.panel.estimate import PanelEstimate
from mixedar.panel.estimators.base import PanelModel
from mixedar.panel.linearmodels import RandomFit, fit_swamy_arora
from mixedar.panel.results import PanelResults

_METHODS = {
    "swamy-arora": "Random effects, GLS (Swamy-Arora)",
    "ml": "Random effects, maximum likelihood",
    "reml": "Random effects, restricted maximum likelihood",
}
_UNBALANCED = {"harmonic": "harmonic mean", "baltagi-chang": "Baltagi-Chang"}
_FLAT = (
    "The likelihood is largest where the variance of the effects is zero: the "
    "coefficients are those of pooled least squares."
)
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

    kind = "re"
    _takes_weights = True

    def fit(
        self,
        cov_type: str = "classical",
        *,
        method: str = "swamy-arora",
        unbalanced: str = "harmonic",
        cluster: object = None,
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
        check_choice("method", method, tuple(_METHODS))
        check_choice("unbalanced", unbalanced, tuple(_UNBALANCED))
        observed = cov_type == "observed"
        weighted = self.panel.weights is not None
        if weighted and (observed or unbalanced != "harmonic"):
            raise UnsupportedError(
                "cov_type='observed' and unbalanced='baltagi-chang' are not defined "
                "here for weighted fits; leave them out"
            )
        if observed and method != "ml":
            raise UnsupportedError("cov_type='observed' needs method='ml'")
        cov_type = "classical" if observed else cov_type
        request = CovarianceRequest(cov_type, cluster, small_sample, kernel, bandwidth)
        check_collinear(self.panel.x, self.panel.names, "the regressors")
        return PanelResults(self, self._gls(request, method, unbalanced, observed))

    def _gls(
        self, request: CovarianceRequest, method: str, unbalanced: str, observed: bool
    ) -> PanelEstimate:
        panel = self.panel
        k = panel.x.shape[1]
        standard = standardize(panel.x, panel.constant)
        df_resid = panel.nobs - k
        if df_resid <= 0:
            raise IdentificationError(
                f"{panel.nobs} observations cannot estimate {k} coefficients and two "
                "variances; use fewer regressors"
            )
        if method == "swamy-arora" and panel.weights is not None:
            fit = _weighted_swamy_arora(panel, standard)
        elif method == "swamy-arora":
            fit = fit_swamy_arora(panel, standard.x, unbalanced == "baltagi-chang")
        else:
            fit = fit_likelihood(panel, standard, method == "reml")
        x = panel.by_root(panel.quasi_demean(standard.x, fit.theta))
        y = panel.by_root(panel.quasi_demean(panel.y, fit.theta))
        resid = y - x @ fit.params
        statistics = {}
        if fit.llf is not None and method == "ml":
            lr = _lr_statistic(panel, standard, fit.llf)
            statistics["LR statistic, no effects"] = lr
            statistics["p, chibar2(0, 1)"] = 0.5 * float(stats.chi2.sf(lr, 1))
        words = _METHODS[method]
        if method == "swamy-arora" and np.ptp(panel.sizes) > 0:
            words += f", unbalanced: {_UNBALANCED[unbalanced]}"
        notes = singleton_notes(panel, "inform the variance between entities only")
        if fit.sigma2_u == 0.0:
            notes.append(_ZERO if fit.llf is None else _FLAT)
        estimate = self._estimated(
            request,
            standard,
            fit.params,
            x,
            resid,
            df_resid,
            np.arange(k),
            effects=("entity",),
            classical=fit.cov,
            method=words,
            notes=tuple(notes),
            theta=fit.theta,
            sigma2_u=fit.sigma2_u,
            sigma2_e=fit.sigma2_e,
            llf=fit.llf,
            statistics=statistics,
        )
        if fit.llf is not None:
            estimate = replace(estimate, scale=fit.sigma2_e)
        if observed:
            cov = standard.cov(_observed(panel, standard.x, fit))
            info = CovarianceInfo("observed", label="observed information")
            estimate = replace(estimate, cov=cov, info=info)
        return estimate


def _weighted_swamy_arora(panel: PanelData, standard: Standardized) -> RandomFit:
    """
    Feasible GLS of weighted rows, errors having variances ``sigma2_e / w``.

    The variances are Swamy and Arora's with sums of weights in place of numbers of
    observations; linearmodels takes the numbers.
    """
    x, n, count = standard.x, panel.nobs, panel.n_entities
    sizes = column_sizes(panel.by_root(x))
    y = panel.by_root(panel.demean(panel.y))
    within = regress(panel.by_root(panel.demean(x)), y, sizes)
    between = regress(panel.entity_means(x), panel.entity_means(panel.y))
    df_within, df_between = n - count - within.rank, count - between.rank
    if min(df_within, df_between) <= 0:
        raise IdentificationError(
            f"the variances of the effects and of the errors cannot be estimated from "
            f"{n} observations of {count} entities; use fewer regressors"
        )
    sigma2_e = within.ssr / df_within
    noise = float((1.0 / panel.entity_weights).mean()) * sigma2_e
    sigma2_u = max(0.0, between.ssr / df_between - noise)
    theta = 1.0 - np.sqrt(sigma2_e / (sigma2_e + panel.entity_weights * sigma2_u))
    x = panel.by_root(panel.quasi_demean(x, theta))
    fit = regress(x, panel.by_root(panel.quasi_demean(panel.y, theta)), tolerance=0.0)
    cov = fit.ssr / (n - fit.rank) * fit.bread
    return RandomFit(fit.params, cov, theta, sigma2_u, sigma2_e)


def fit_likelihood(panel: PanelData, standard: Standardized, reml: bool) -> RandomFit:
    """(Restricted) maximum likelihood, by the mixed model."""
    model = MixedLMAR(
        panel.y,
        standard.x,
        groups=panel.entity,
        residual="independent",
        weights=panel.weights,
    )
    # a variance of zero is reported in a note
    fit = model.refit(panel.y, reml=reml)
    k = standard.x.shape[1]
    sigma2_e = float(fit.scale)
    sigma2_u = float(np.asarray(fit.cov_re)[0, 0])
    if sigma2_u < 1e-10 * sigma2_e:
        sigma2_u = 0.0
    theta = 1.0 - np.sqrt(sigma2_e / (sigma2_e + panel.entity_weights * sigma2_u))
    cov = np.asarray(fit.cov_params())[:k, :k]
    llf = float(fit.llf)
    if reml:  # its constant depends on the scale of the columns
        llf += float(np.linalg.slogdet(standard.back)[1])
    return RandomFit(np.asarray(fit.fe_params), cov, theta, sigma2_u, sigma2_e, llf)


def _lr_statistic(panel: PanelData, standard: Standardized, llf: float) -> float:
    """Twice the gain over pooled least squares."""
    x, y = panel.by_root(standard.x), panel.by_root(panel.y)
    ssr = regress(x, y, tolerance=0.0).ssr
    pooled = gaussian_llf(ssr, panel.nobs, panel.weights)
    return max(0.0, 2.0 * (llf - pooled))


def _observed(panel: PanelData, x: FloatArray, fit: RandomFit) -> FloatArray:
    """
    Inverse of the negative Hessian, its block of the coefficients.

    ``V_i = s2e I + s2u J`` has two eigenspaces, deviations and means, on which its
    inverse is ``a = 1 / s2e`` and ``g_i = 1 / (s2e + T_i s2u)``.
    """
    sigma2_u, sigma2_e = fit.sigma2_u, fit.sigma2_e
    e = panel.y - x @ fit.params
    size = panel.sizes.astype(np.float64)
    x_mean, e_mean = panel.entity_means(x), panel.entity_means(e)
    x_dev, e_dev = x - panel.per_row(x_mean), e - panel.per_row(e_mean)
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
