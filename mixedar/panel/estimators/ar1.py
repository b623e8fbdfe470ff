"""
Fixed and random effects with AR(1) errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import block_diag

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import IdentificationError, UnsupportedError, check_choice
from mixedar.panel.algebra import standardize
from mixedar.panel.checks import (
    check_collinear,
    check_residuals,
    listing,
    singleton_notes,
    varying_columns,
)
from mixedar.panel.covariance import CovarianceRequest, TransformedRegression
from mixedar.panel.data import PanelData
from mixedar.panel.estimate import PanelEstimate, squared
from mixedar.panel.estimators.ar1_rho import (
    ar1_transform,
    check_steps,
    durbin_watson_lbi,
    estimate_rho,
)
from mixedar.panel.estimators.base import PanelModel
from mixedar.panel.results import PanelResults


@dataclass(frozen=True, eq=False)
class Correlation:
    """
    What the within regression says about the errors.

    Attributes
    ----------
    kept : ndarray of int
        Columns of the panel that vary within entities.
    gone : tuple of str
        Names of those that do not, the constant aside.
    rho : float
    statistics : dict of str to float
        Durbin-Watson and LBI statistics.
    """

    kept: IntArray
    gone: tuple[str, ...]
    rho: float
    statistics: dict[str, float]


class AR1Model(PanelModel):
    """A panel whose times lie on a grid, and the within regression that gives rho."""

    _needs_repeats = True

    def _check_panel(self) -> None:
        super()._check_panel()
        check_steps(self.panel)

    def correlation(
        self, rho: float | None, method: str, two_step: bool
    ) -> Correlation:
        """Rho, as given or as the within regression estimates it."""
        panel, slopes = self.panel, self.panel.slopes
        check_collinear(panel.x, panel.names, "the regressors")
        centred = panel.x[:, slopes] - panel.x[:, slopes].mean(axis=0)
        x, y = panel.demean(centred), panel.demean(panel.y)
        found = varying_columns(centred, x)
        x = x[:, found.kept]
        x = x / np.sqrt((x**2).mean(axis=0))
        resid = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        check_residuals(resid, panel)
        dw, lbi = durbin_watson_lbi(panel, resid)
        if rho is None:
            rho = estimate_rho(panel, y, x, method, two_step)
        elif not -1.0 < rho < 1.0:
            raise UnsupportedError(f"rho={rho!r} is not between -1 and 1")
        return Correlation(
            slopes[found.kept],
            tuple(panel.names[slopes[j]] for j in found.gone),
            float(rho),
            {"Durbin-Watson (BFN)": dw, "Baltagi-Wu LBI": lbi},
        )

    def transformed(self, x: FloatArray, rho: float) -> tuple[FloatArray, ...]:
        """Columns, response and effects of the entities, errors uncorrelated."""
        panel = self.panel
        data = np.column_stack([x, panel.y, np.ones(panel.nobs)])
        data = ar1_transform(data, rho, panel.gaps)
        return data[:, :-2], data[:, -2], data[:, -1]

    def gaps_note(self) -> list[str]:
        """Say how many gaps there are, if any."""
        count = int((self.panel.gaps > 1.0).sum())
        if not count:
            return []
        return [f"Gaps in {self.panel.time_name}: {count}; errors are correlated "
                "across them by rho to the power of the distance."]  # fmt: skip


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
            See :func:`mixedar.panel.estimators.ar1_rho.estimate_rho`.
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
        check_choice("first", first, ("drop", "keep"))
        request = CovarianceRequest(cov_type, cluster, small_sample, kernel, bandwidth)
        errors = self.correlation(rho, rho_method, two_step)
        if not len(errors.kept):
            raise IdentificationError(
                f"the effects absorb every regressor ({listing(self.panel.names)}); "
                "use random effects"
            )
        follows = self.panel.gaps > 0.0
        rows = np.flatnonzero(follows | (first == "keep"))
        return PanelResults(self, self._estimate_within(request, errors, rows))

    def _estimate_within(
        self, request: CovarianceRequest, errors: Correlation, rows: IntArray
    ) -> PanelEstimate:
        panel, columns, k = self.panel, errors.kept, len(errors.kept)
        entity = panel.entity[rows]
        standard = standardize(panel.x[:, columns], None, center=True)
        x_all, y_all, loading = (
            part[rows] for part in self.transformed(standard.x, errors.rho)
        )
        squares = np.bincount(entity, loading**2, panel.n_entities).astype(np.float64)
        x = _project(x_all, loading, squares, entity)
        y = _project(y_all[:, None], loading, squares, entity)[:, 0]
        count = int((squares > 0.0).sum())
        df_resid = len(rows) - count - k
        if df_resid <= 0:
            raise IdentificationError(
                f"{len(rows)} rows cannot estimate {count} effects, {k} coefficients "
                "and a variance; use fewer regressors"
            )
        coef: FloatArray = np.linalg.lstsq(x, y, rcond=None)[0]  # type: ignore[assignment]
        resid = y - x @ coef
        check_residuals(resid, panel)
        regression = TransformedRegression(
            x, resid, entity, panel.time[rows], df_resid, k, ("entity",)
        )
        cov, info = self._covariance(request, regression, rows=rows)
        scale = float(resid @ resid) / df_resid
        params, cov = standard.params(coef), standard.cov(cov)
        if panel.constant is not None:
            columns, params, cov = self._with_level(
                errors, params, cov, rows, loading, y_all, scale
            )
        levels = panel.y - panel.x[:, columns] @ params
        # an entity without a row in the regression: the mean of what it has
        effects = panel.entity_means(levels)
        counts = np.bincount(entity, minlength=panel.n_entities)
        sums = np.bincount(entity, levels[rows], panel.n_entities)
        effects[counts > 0] = sums[counts > 0] / counts[counts > 0]
        return PanelEstimate(
            kind="fe_ar1",
            method="Fixed effects with AR(1) errors",
            columns=columns,
            params=params,
            cov=cov,
            info=info,
            scale=scale,
            df_resid=df_resid,
            nobs=len(rows),
            absorbed=errors.gone,
            notes=self._notes(errors, panel.nobs - len(rows)),
            effects=("entity",),
            sigma2_u=float(np.var(effects[counts > 0], ddof=1)),
            sigma2_e=scale,
            rho=errors.rho,
            statistics=errors.statistics,
            entity_effects=effects,
            rsquared=_stata_rsquared(panel, columns, params, rows, errors.rho),
        )

    def _notes(self, errors: Correlation, lost: int) -> tuple[str, ...]:
        notes = self.gaps_note() + singleton_notes(
            self.panel, "do not take part: nothing is left of them"
        )
        if lost:
            notes.append(
                f"First observations of the entities, left out by the transformation: "
                f"{lost}."
            )
        if errors.gone:
            names = ", ".join(errors.gone)
            notes.append(f"Absorbed by the effects, without a coefficient: {names}.")
        return tuple(notes)

    def _with_level(
        self,
        errors: Correlation,
        params: FloatArray,
        cov: FloatArray,
        rows: IntArray,
        loading: FloatArray,
        y: FloatArray,
        scale: float,
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """Columns, coefficients and covariance with the average effect among them."""
        panel, weight, k = self.panel, loading @ loading, len(params)
        x = panel.x[:, errors.kept]
        shift = x.mean(axis=0)
        moved = ar1_transform(x - shift, errors.rho, panel.gaps)[rows]
        # the mean of y, weighted by the loadings, is independent of the slopes
        back = np.eye(k + 1)
        back[k, :k] = -(loading @ moved / weight + shift)
        back[k] /= panel.x[0, panel.constant]
        assert panel.constant is not None
        columns = np.append(errors.kept, panel.constant).astype(np.intp)
        order = np.argsort(columns)
        back = back[order]
        cov = back @ block_diag(cov, scale / weight) @ back.T
        params = back @ np.append(params, loading @ y / weight)
        return columns[order], params, 0.5 * (cov + cov.T)


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
        request = CovarianceRequest(cov_type, cluster, small_sample, kernel, bandwidth)
        errors = self.correlation(rho, rho_method, two_step)
        return PanelResults(self, self._estimate_gls(request, errors))

    def _estimate_gls(
        self, request: CovarianceRequest, errors: Correlation
    ) -> PanelEstimate:
        panel = self.panel
        standard = standardize(panel.x, panel.constant)
        k = panel.x.shape[1]
        df_resid = panel.nobs - k
        if df_resid <= 0 or panel.nobs <= panel.n_entities:
            raise IdentificationError(
                f"{panel.nobs} observations of {panel.n_entities} entities cannot "
                f"estimate {k} coefficients and two variances; use fewer regressors"
            )
        x, y, loading = self.transformed(standard.x, errors.rho)
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
        y_gls = y - share * panel.spread_out(panel.entity_sums(y * loading))
        sums = panel.entity_sums(x * loading[:, None])
        x_gls = x - share[:, None] * panel.spread_out(sums)
        coef = np.linalg.lstsq(x_gls, y_gls, rcond=None)[0]
        resid = y_gls - x_gls @ coef
        check_residuals(resid, panel)
        regression = TransformedRegression(
            x_gls, resid, panel.entity, panel.time, df_resid, k, use_t=False
        )
        cov, info = self._covariance(request, regression)
        combined = panel.entity_sums(loading * (y - x @ coef))
        return PanelEstimate(
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
            rho=errors.rho,
            statistics=errors.statistics,
            entity_effects=sigma2_u * combined / (sigma2_u * squares + sigma2_e),
        )


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
