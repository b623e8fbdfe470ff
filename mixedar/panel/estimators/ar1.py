"""
Fixed and random effects with AR(1) errors, and how their rho is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import (
    IdentificationError,
    TimeError,
    UnsupportedError,
    check_choice,
    check_flags,
    listing,
)
from mixedar.panel.algebra import (
    check_collinear,
    check_freedom,
    regress,
    standardize,
    varying_columns,
)
from mixedar.panel.covariance import CovarianceRequest
from mixedar.panel.data import PanelData
from mixedar.panel.estimate import PanelEstimate, linear_prediction, squared
from mixedar.panel.estimators import PanelModel
from mixedar.panel.results import PanelResults

RHO_METHODS = ("dw", "regress", "freg", "tscorr", "theil", "nagar", "onestep")
# As Stata's prais: steps end when rho changes by less.
_TOLERANCE = 1e-6
_STEPS = 100


def ar1_transform(values: FloatArray, rho: float, gaps: FloatArray) -> FloatArray:
    """
    Remove the correlation of AR(1) errors; Baltagi and Wu's ``C_i(rho)``.

    An entity's first row becomes ``sqrt(1 - rho^2) v_1``, a row that follows at
    the distance d ``sqrt((1 - rho^2) / (1 - rho^(2d))) (v_t - rho^d v_(t-d))``.
    Transformed errors are uncorrelated with the variance of the innovations.

    Parameters
    ----------
    values : ndarray, shape (n,) or (n, k)
        Sorted by entity and time.
    rho : float
        Between -1 and 1.
    gaps : ndarray, shape (n,)
        Whole distances to the entity's row before, 0 at its first.

    Returns
    -------
    ndarray, shape of `values`

    References
    ----------
    Baltagi, B. H. and Wu, P. X. (1999), Unequally spaced panel data regressions
    with AR(1) disturbances, Econometric Theory 15, 814-823.
    """
    power = np.where(gaps > 0.0, np.power(rho, gaps), 0.0)
    scale = np.sqrt((1.0 - rho) * (1.0 + rho) / ((1.0 - power) * (1.0 + power)))
    # no correlation with anything before: the error keeps its full variance
    scale[gaps == 0.0] = np.sqrt((1.0 - rho) * (1.0 + rho))
    shape = (-1,) + (1,) * (values.ndim - 1)
    out = values * scale.reshape(shape)
    out[1:] -= (scale[1:] * power[1:]).reshape(shape) * values[:-1]
    return out


def estimate_rho(
    panel: PanelData, y: FloatArray, x: FloatArray, method: str, two_step: bool
) -> float:
    """
    Estimate rho from the within regression, as Stata's ``xtregar``.

    Residuals of the entity-demeaned data give rho; Prais and Winsten's regression
    with that rho gives new residuals, until rho settles.

    Parameters
    ----------
    panel : PanelData
    y : ndarray, shape (n,)
        Entity-demeaned response.
    x : ndarray, shape (n, k)
        Entity-demeaned regressors of full rank.
    method : str
        With e the residuals, l those one unit before, sums of products over the m
        pairs one unit apart, n rows and k columns:

        - ``"dw"``: ``1 - d / 2``, d the Durbin-Watson statistic;
        - ``"regress"``: ``sum(e l) / sum(l^2)``;
        - ``"freg"``: the same for l on e;
        - ``"tscorr"``: ``sum(e l) / sum(e^2)``, the denominator over all rows;
        - ``"theil"``: ``tscorr (n - k) / n``;
        - ``"nagar"``: ``(dw n^2 + k^2) / (n^2 - k^2)``;
        - ``"onestep"``: ``tscorr n / m``, Baltagi and Wu's, without iteration.
    two_step : bool
        Stop after the first regression with transformed data.

    Returns
    -------
    float

    Raises
    ------
    UnsupportedError
        For an unknown method.
    IdentificationError
        If the estimate is not between -1 and 1, or does not settle.
    """
    check_choice("rho_method", method, RHO_METHODS)
    follows = np.flatnonzero(panel.neighbours)

    def prais(values: FloatArray, rho: float) -> FloatArray:
        # a row after a gap starts anew
        out = values * np.sqrt((1.0 - rho) * (1.0 + rho))
        out[follows] = values[follows] - rho * values[follows - 1]
        return out

    def residuals(rho: float) -> FloatArray:
        coef = np.linalg.lstsq(prais(x, rho), prais(y, rho), rcond=None)[0]
        return y - x @ coef

    rho = 0.0
    for step in range(_STEPS + 1):
        before, rho = rho, _rho(residuals(rho), follows, x.shape[1], method)
        if not -1.0 < rho < 1.0:
            raise IdentificationError(
                f"rho_method={method!r} gives rho = {rho:.6g}, which no stationary "
                "AR(1) has; choose another method or pass rho="
            )
        settled = step > 0 and (two_step or abs(rho - before) < _TOLERANCE)
        if settled or method == "onestep":
            return rho
    raise IdentificationError(
        f"the estimate of rho does not settle within {_STEPS} steps; pass "
        "two_step=True, another rho_method= or rho="
    )


def _rho(e: FloatArray, follows: NDArray[np.intp], k: int, method: str) -> float:
    n, now, before = len(e), e[follows], e[follows - 1]
    cross, total = float(now @ before), float(e @ e)
    if method in ("dw", "nagar"):
        change = now - before
        dw = 1.0 - 0.5 * float(change @ change) / total
        return dw if method == "dw" else (dw * n**2 + k**2) / (n**2 - k**2)
    if method == "regress":
        return cross / float(before @ before)
    if method == "freg":
        return cross / float(now @ now)
    factor = {"tscorr": 1.0, "theil": (n - k) / n, "onestep": n / len(follows)}
    return factor[method] * cross / total


def durbin_watson_lbi(panel: PanelData, resid: FloatArray) -> tuple[float, float]:
    """
    Durbin-Watson and locally best invariant statistics of within residuals.

    Parameters
    ----------
    panel : PanelData
    resid : ndarray, shape (n,)
        Residuals of the within regression.

    Returns
    -------
    dw : float
        Bhargava, Franzini and Narendranathan's, modified for gaps.
    lbi : float
        Baltagi and Wu's; both are near 2 without autocorrelation.

    References
    ----------
    Bhargava, A., Franzini, L. and Narendranathan, W. (1982), Serial correlation and
    the fixed effects model, Review of Economic Studies 49, 533-549.
    Baltagi and Wu (1999), as in :func:`ar1_transform`, equation 16.
    """
    gaps = panel.gaps
    first = gaps == 0.0
    before = np.zeros_like(resid)
    before[1:] = resid[:-1]
    change = resid - np.where(panel.neighbours, before, 0.0)
    total = float(resid @ resid)
    dw = float((change[~first] ** 2).sum()) / total
    last = panel.offsets[1:] - 1
    apart = ~(panel.neighbours | first)
    ends = (before[apart] ** 2).sum() + (resid[first] ** 2).sum()
    return dw, dw + float(ends + (resid[last] ** 2).sum()) / total


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
        panel = self.panel
        if not panel.on_grid:
            raise TimeError(
                f"AR(1) errors need whole or equally spaced times, and "
                f"{panel.time_name!r} is neither; {panel.spacing_remedy}"
            )
        if not panel.neighbours.any():
            raise TimeError(f"rho cannot be estimated: {panel.no_neighbours()}")

    def correlation(
        self, request: CovarianceRequest, rho: float | None, method: str, two_step: bool
    ) -> Correlation:
        """Rho, as given or as the within regression estimates it."""
        check_flags(two_step=two_step)
        if request.cov_type == "CR2":
            raise UnsupportedError(
                "CR2 is not defined here for fits with AR(1) errors; use "
                "cov_type='clustered'"
            )
        panel, slopes = self.panel, self.panel.slopes
        check_collinear(panel.x, panel.names, "the regressors")
        centred = panel.x[:, slopes] - panel.x[:, slopes].mean(axis=0)
        x, y = panel.demean(centred), panel.demean(panel.y)
        found = varying_columns(centred, x)
        x = x[:, found.kept]
        x = x / np.sqrt((x**2).mean(axis=0))
        resid = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        self.check_residuals(resid)
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
        count = int((self.panel.gaps > 1.5).sum())
        if not count:
            return self.panel.order_notes
        return [
            f"Gaps in {self.panel.time_name}: {count}; errors are correlated across "
            "them by rho to the power of the distance."
        ]


class FixedEffectsAR1(AR1Model):
    """
    Fixed effects with AR(1) errors, Stata's ``xtregar, fe``.

    ``y_it = a_i + x_it'b + e_it`` with ``e_it = rho e_i,t-1 + eta_it``.  Baltagi and
    Wu's transformation removes the correlation; what it makes of the effects is
    then projected out, which with gaps is not the mean.

    Parameters
    ----------
    endog, exog, entity, time, delta, weights, missing
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

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> from mixedar.api import FixedEffectsAR1
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> exog = firms[["value", "capital"]].assign(const=1.0)
    >>> model = FixedEffectsAR1(firms["invest"], exog, firms["firm"], firms["year"])
    >>> list(model.fit().params.index)
    ['value', 'capital', 'const']
    """

    kind = "fe_ar1"
    method = "Fixed effects with AR(1) errors"

    def fit(
        self,
        cov_type: str = "classical",
        *,
        rho: float | None = None,
        rho_method: str = "dw",
        two_step: bool = False,
        first: str = "drop",
        cluster: object = None,
        small_sample: str | None = "default",
        kernel: str = "bartlett",
        bandwidth: float | None = None,
    ) -> PanelResults:
        """
        Estimate rho and the coefficients.

        Parameters
        ----------
        cov_type, cluster, small_sample, kernel, bandwidth
            As in :meth:`PooledOLS.fit`, of the transformed regression.
        rho : float, optional
            Use this value and do not estimate it.
        rho_method : str
            How residuals e, with l those one unit before, give rho: by the
            Durbin-Watson statistic, ``"dw"``; by regression of e on l, ``"regress"``,
            or of l on e, ``"freg"``; by ``sum(e l) / sum(e^2)``, ``"tscorr"``, and its
            corrections for n rows and k columns, ``"theil"`` and ``"nagar"``; or
            Baltagi and Wu's ``"onestep"``.
        two_step : bool
            Stop after the first regression with transformed data.
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

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> model = mar.fixed_effects_ar1(
        ...     "invest ~ value + capital", firms, "firm", "year"
        ... )
        >>> fit = model.fit()
        >>> round(fit.rho, 2)
        0.67
        """
        check_choice("first", first, ("drop", "keep"))
        request = CovarianceRequest(cov_type, cluster, small_sample, kernel, bandwidth)
        errors = self.correlation(request, rho, rho_method, two_step)
        if not len(errors.kept):
            raise IdentificationError(
                f"the effects absorb every regressor ({listing(self.panel.names)}); "
                "use random effects"
            )
        rows = np.flatnonzero((self.panel.gaps > 0.0) | (first == "keep"))
        return PanelResults(self, self._estimate_within(request, errors, rows))

    def _estimate_within(
        self, request: CovarianceRequest, errors: Correlation, rows: IntArray
    ) -> PanelEstimate:
        panel, k = self.panel, len(errors.kept)
        entity = panel.entity[rows]
        standard = standardize(panel.x[:, errors.kept], None, center=True)
        x, y, loading = self.transformed(standard.x, errors.rho)
        x, y, loading = x[rows], y[rows], loading[rows]
        squares = np.bincount(entity, loading**2, panel.n_entities).astype(np.float64)
        count = int((squares > 0.0).sum())
        df_resid = len(rows) - count - k
        parts = f"{count} effects, {k} coefficients and a variance"
        check_freedom(df_resid, f"{len(rows)} rows", parts)
        share = np.divide(1.0, squares, out=np.zeros_like(squares), where=squares > 0.0)
        within = _less_effects(np.column_stack([x, y]), loading, share, entity)
        fit = regress(within[:, :-1], within[:, -1], tolerance=0.0)
        estimate = self._estimated(
            request,
            standard,
            fit.params,
            within[:, :-1],
            fit.resid,
            df_resid,
            errors.kept,
            effects=("entity",),
            used=rows,
            absorbed=errors.gone,
            notes=self._notes(errors, panel.nobs - len(rows)),
            rho=errors.rho,
            statistics=errors.statistics,
        )
        if panel.constant is not None:
            estimate = self._with_level(estimate, errors.rho, rows, loading, y)
        levels = panel.y - linear_prediction(panel, estimate)
        # an entity without a row in the regression: the mean of what it has
        effects = panel.entity_means(levels)
        counts = np.bincount(entity, minlength=panel.n_entities)
        sums = np.bincount(entity, levels[rows], panel.n_entities)
        effects[counts > 0] = sums[counts > 0] / counts[counts > 0]
        return replace(
            estimate,
            sigma2_u=float(np.var(effects[counts > 0], ddof=1)),
            sigma2_e=estimate.scale,
            entity_effects=effects,
            rsquared=_stata_rsquared(panel, panel.y - levels, rows, errors.rho),
        )

    def _notes(self, errors: Correlation, lost: int) -> tuple[str, ...]:
        notes = self.gaps_note() + self.singleton_notes(
            "do not take part: nothing is left of them"
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
        estimate: PanelEstimate,
        rho: float,
        rows: IntArray,
        loading: FloatArray,
        y: FloatArray,
    ) -> PanelEstimate:
        """The estimate with the average effect among its coefficients."""
        panel, weight, k = self.panel, loading @ loading, len(estimate.params)
        assert panel.constant is not None
        x = panel.x[:, estimate.columns]
        shift = x.mean(axis=0)
        moved = ar1_transform(x - shift, rho, panel.gaps)[rows]
        # the mean of y, weighted by the loadings, is independent of the slopes
        back = np.eye(k + 1)
        back[k, :k] = -(loading @ moved / weight + shift)
        back[k] /= panel.x[0, panel.constant]
        columns = np.append(estimate.columns, panel.constant).astype(np.intp)
        order = np.argsort(columns)
        back = back[order]
        cov = back @ block_diag(estimate.cov, estimate.scale / weight) @ back.T
        return replace(
            estimate,
            columns=columns[order],
            params=back @ np.append(estimate.params, loading @ y / weight),
            cov=0.5 * (cov + cov.T),
        )


def _stata_rsquared(
    panel: PanelData, xb: FloatArray, rows: IntArray, rho: float
) -> tuple[float, float, float]:
    """Within of the transformed data, between and overall of the rows used."""
    both = np.column_stack([panel.y, xb])
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


def _less_effects(
    values: FloatArray, loading: FloatArray, share: FloatArray, entity: IntArray
) -> FloatArray:
    """
    Columns less a part of their entities' sums along the loadings.

    Residuals if `share` is one over the sum of squared loadings, shape (N,); for GLS
    theta times that.
    """
    out = np.empty_like(values)
    for j, column in enumerate(values.T):
        sums = np.bincount(entity, loading * column, len(share))
        out[:, j] = column - loading * (share * sums)[entity]
    return out


class RandomEffectsAR1(AR1Model):
    """
    Random effects with AR(1) errors, Stata's ``xtregar, re``.

    Parameters
    ----------
    endog, exog, entity, time, delta, weights, missing
        As in :class:`PanelModel`; times must be whole or equally spaced.

    References
    ----------
    Baltagi, B. H. and Wu, P. X. (1999), Unequally spaced panel data
    regressions with AR(1) disturbances, Econometric Theory 15, 814-823.

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> from mixedar.api import RandomEffectsAR1
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> exog = firms[["value", "capital"]].assign(const=1.0)
    >>> model = RandomEffectsAR1(firms["invest"], exog, firms["firm"], firms["year"])
    >>> list(model.fit().params.index)
    ['value', 'capital', 'const']
    """

    kind = "re_ar1"
    method = "Random effects with AR(1) errors, GLS (Baltagi-Wu)"

    def fit(
        self,
        cov_type: str = "classical",
        *,
        rho: float | None = None,
        rho_method: str = "dw",
        two_step: bool = False,
        cluster: object = None,
        small_sample: str | None = "default",
        kernel: str = "bartlett",
        bandwidth: float | None = None,
    ) -> PanelResults:
        """
        Estimate rho, the variances, and the coefficients by GLS.

        Parameters
        ----------
        cov_type, cluster, small_sample, kernel, bandwidth
            As in :meth:`PooledOLS.fit`, of the transformed regression.
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

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> model = mar.random_effects_ar1(
        ...     "invest ~ value + capital", firms, "firm", "year"
        ... )
        >>> fit = model.fit()
        >>> round(fit.rho, 2)
        0.67
        """
        request = CovarianceRequest(cov_type, cluster, small_sample, kernel, bandwidth)
        errors = self.correlation(request, rho, rho_method, two_step)
        return PanelResults(self, self._estimate_gls(request, errors))

    def _estimate_gls(
        self, request: CovarianceRequest, errors: Correlation
    ) -> PanelEstimate:
        panel = self.panel
        standard = standardize(panel.x, panel.constant)
        k = panel.x.shape[1]
        df_resid = panel.nobs - k
        check_freedom(
            min(df_resid, panel.nobs - panel.n_entities),
            f"{panel.nobs} observations of {panel.n_entities} entities",
            f"{k} coefficients and two variances",
        )
        x, y, loading = self.transformed(standard.x, errors.rho)
        squares = panel.entity_sums(loading**2)
        # variances by the residuals of pooled least squares
        u = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        explained = float((panel.entity_sums(loading * u) ** 2 / squares).sum())
        sigma2_e = (float(u @ u) - explained) / (panel.nobs - panel.n_entities)
        sigma2_u = (explained - panel.n_entities * sigma2_e) / float(squares.sum())
        notes = self.gaps_note()
        if sigma2_u < 0.0:
            sigma2_u = 0.0
            notes.append(
                "The estimated variance of the effects is negative and has been set to "
                "zero: the fit is pooled least squares with AR(1) errors."
            )
        theta = 1.0 - np.sqrt(sigma2_e / (squares * sigma2_u + sigma2_e))
        both = np.column_stack([x, y])
        both = _less_effects(both, loading, theta / squares, panel.entity)
        x_gls, y_gls = both[:, :-1], both[:, -1]
        fit = regress(x_gls, y_gls, tolerance=0.0)
        combined = panel.entity_sums(loading * (y - x @ fit.params))
        return self._estimated(
            request,
            standard,
            fit.params,
            x_gls,
            fit.resid,
            df_resid,
            np.arange(k),
            effects=("entity",),
            notes=tuple(notes),
            theta=theta,
            sigma2_u=sigma2_u,
            sigma2_e=sigma2_e,
            rho=errors.rho,
            statistics=errors.statistics,
            entity_effects=sigma2_u * combined / (sigma2_u * squares + sigma2_e),
        )
