"""
What fixed and random effects with AR(1) errors share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import IdentificationError, UnsupportedError
from mixedar.panel.algebra import standardize
from mixedar.panel.checks import (
    absorbed_columns,
    check_collinear,
    check_residuals,
    listing,
    singleton_notes,
)
from mixedar.panel.covariance import (
    CovarianceRequest,
    Regression,
    cluster_codes,
    sandwich,
)
from mixedar.panel.data import PanelData
from mixedar.panel.estimators.ar1_rho import (
    ar1_transform,
    check_steps,
    durbin_watson_lbi,
    estimate_rho,
)
from mixedar.panel.estimators.base import PanelEstimate, PanelModel
from mixedar.panel.results import PanelResults, squared


@dataclass(frozen=True, eq=False)
class WithinFit:
    """
    The within regression.

    Attributes
    ----------
    slopes : ndarray of int
        Columns of the panel but the constant.
    kept, gone : list of int
        Positions in `slopes` with and without variation within entities.
    rho : float
    statistics : dict of str to float
        Durbin-Watson and LBI statistics.
    """

    slopes: IntArray
    kept: list[int]
    gone: list[int]
    rho: float
    statistics: dict[str, float]


class AR1Model(PanelModel):
    """A panel whose times lie on a grid, and the within regression that gives rho."""

    _needs_repeats = True

    def _check_panel(self) -> None:
        super()._check_panel()
        check_steps(self.panel)

    def fit_within(self, rho: float | None, method: str, two_step: bool) -> WithinFit:
        """
        Within regression and rho.

        Parameters
        ----------
        rho : float or None
            A value to be used instead of an estimate.
        method : str
        two_step : bool
            See :func:`estimate_rho`.

        Returns
        -------
        WithinFit

        Raises
        ------
        RankDeficiencyError
            If columns are collinear.
        IdentificationError
            If rho cannot be estimated.
        UnsupportedError
            If `rho` is not between -1 and 1.
        """
        panel = self.panel
        check_collinear(panel.x, panel.names, "the regressors")
        slopes = np.array(
            [j for j in range(panel.x.shape[1]) if j != panel.constant], dtype=np.intp
        )
        centred = panel.x[:, slopes] - panel.x[:, slopes].mean(axis=0)
        x, y = panel.demean(centred), panel.demean(panel.y)
        absorbed, collinear = absorbed_columns(centred, x)
        gone = sorted(absorbed + collinear)
        kept = [j for j in range(len(slopes)) if j not in gone]
        x = x[:, kept] / np.sqrt((x[:, kept] ** 2).mean(axis=0))
        resid = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        check_residuals(resid, panel)
        dw, lbi = durbin_watson_lbi(panel, resid)
        statistics = {"Durbin-Watson (BFN)": dw, "Baltagi-Wu LBI": lbi}
        if rho is None:
            rho = estimate_rho(panel, y, x, method, two_step)
        elif not -1.0 < rho < 1.0:
            raise UnsupportedError(f"rho={rho!r} is not between -1 and 1")
        return WithinFit(slopes, kept, gone, float(rho), statistics)

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
