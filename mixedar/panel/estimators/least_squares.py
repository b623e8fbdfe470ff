"""
Panel models that are one least-squares regression of transformed rows.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

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
    MEANS_TOLERANCE,
    check_collinear,
    check_freedom,
    column_sizes,
    gaussian_llf,
    regress,
    standardize,
    varying_columns,
)
from mixedar.panel.covariance import CovarianceRequest
from mixedar.panel.data import PanelData
from mixedar.panel.estimate import PanelEstimate
from mixedar.panel.estimators import PanelModel
from mixedar.panel.results import PanelResults


class LeastSquaresModel(PanelModel):
    """A panel model whose fit has no options but those of the covariance."""

    def fit(
        self,
        cov_type: str = "classical",
        *,
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
            ``"driscoll-kraay"``; of the between regression, whose rows are
            independent means, one of the first two.
        cluster : str, array_like or tuple of two
            Of ``"clustered"``: ``"entity"`` (by default), ``"time"``, ``"both"``, a
            column of the data, or labels, one a row; two of them for two-way
            clustering.
        small_sample : {"stata", "sss", "HC1", "dof"}, optional
            Factor of the covariance with n rows, k columns and G clusters:
            ``"sss"`` (plm) is ``G / (G - 1) (n - 1) / (n - k)``; ``"stata"``, the
            default, the same with the constant, and effects that are nested in no
            clustering, counted in k; ``"HC1"`` is ``n / (n - k)``, ``"dof"``
            ``n / df_resid``, and None one.
        kernel : {"bartlett", "parzen", "quadratic-spectral"}
            Weights of the lags of ``"hac"`` and ``"driscoll-kraay"``.
        bandwidth : float, optional
            Largest lag; ``floor(4 (T / 100)^(2/9))`` by default.

        Returns
        -------
        PanelResults

        Raises
        ------
        RankDeficiencyError
            If columns are collinear, between entities also as means.
        IdentificationError
            If nothing is left of any regressor, or no degree of freedom.
        TimeError
            If first differences find no two observations that follow one another.

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> model = mar.pooled("invest ~ value + capital", firms, "firm", "year")
        >>> fit = model.fit("clustered", cluster="firm")
        >>> fit.cov_type
        'clustered'
        """
        request = CovarianceRequest(cov_type, cluster, small_sample, kernel, bandwidth)
        check_collinear(self.panel.x, self.panel.names, "the regressors")
        return PanelResults(self, self._estimate(request))

    @abstractmethod
    def _estimate(self, request: CovarianceRequest) -> PanelEstimate:
        """The estimate with the covariance asked for."""

    def _least_squares(
        self,
        request: CovarianceRequest,
        y: FloatArray,
        x: FloatArray,
        columns: IntArray,
        constant: int | None,
        what: str,
        rows: IntArray | None = None,
        **parts: Any,
    ) -> PanelEstimate:
        """
        Least squares of rows made of the panel; `what` says of which.

        `constant` is its position in `x`, `columns` are those of the panel; from
        `rows` of the panel the rows before them are subtracted, None for levels.
        """
        panel, levels = self.panel, what == "observations"
        n, k = panel.nobs if levels else len(x), x.shape[1]
        check_freedom(n - k, f"{n} {what}", f"{k} coefficients and a variance")
        ones = None if panel.has_rows else panel.ones
        standard = standardize(x, constant, ones=ones)
        x, y = panel.by_root(standard.x), panel.by_root(y)
        fit = regress(x, y, tolerance=0.0)
        scale = fit.ssr / (n - k)
        used = slice(None) if rows is None else rows
        return self._estimated(
            request,
            standard,
            fit.params,
            x,
            fit.resid,
            n - k,
            columns,
            classical=scale * fit.bread,
            # a mean of an entity stands where its first row does
            used=panel.offsets[:-1] if what == "entities" else used,
            sigma2_e=scale,
            llf=gaussian_llf(fit.ssr, n, panel.weights),
            rows=rows,
            **parts,
        )


class PooledOLS(LeastSquaresModel):
    """
    Least squares that takes no notice of the entities.

    Parameters
    ----------
    endog, exog, entity, time, delta, weights, missing
        As in :class:`PanelModel`.

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> from mixedar.api import PooledOLS
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> exog = firms[["value", "capital"]].assign(const=1.0)
    >>> fit = PooledOLS(firms["invest"], exog, firms["firm"], firms["year"]).fit()
    >>> fit.params.round(2).to_dict()
    {'value': 0.11, 'capital': 0.23, 'const': -38.41}
    """

    kind = "pooled"
    method = "Pooled least squares"
    _takes_weights = _takes_sources = True
    _needs_entities = False

    def _estimate(self, request: CovarianceRequest) -> PanelEstimate:
        panel = self.panel
        columns = np.arange(panel.x.shape[1])
        return self._least_squares(
            request, panel.y, panel.x, columns, panel.constant, "observations"
        )


class BetweenOLS(LeastSquaresModel):
    """
    Least squares of the means of the entities, each entity counting once.

    Parameters
    ----------
    endog, exog, entity, time, delta, weights, missing
        As in :class:`PanelModel`.

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> from mixedar.api import BetweenOLS
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> exog = firms[["value", "capital"]].assign(const=1.0)
    >>> fit = BetweenOLS(firms["invest"], exog, firms["firm"], firms["year"]).fit()
    >>> fit.params.round(2).to_dict()
    {'value': 0.13, 'capital': 0.03, 'const': -7.38}
    """

    kind = "between"
    method = "Between regression (means of the entities)"

    def _estimate(self, request: CovarianceRequest) -> PanelEstimate:
        if request.cov_type not in ("classical", "robust"):
            raise UnsupportedError(
                f"cov_type={request.cov_type!r}: the between regression has one row an "
                "entity; choose 'classical' or 'robust'"
            )
        panel = self.panel
        k = panel.x.shape[1]
        parts = f"{k} coefficients and a variance"
        check_freedom(panel.n_entities - k, f"{panel.n_entities} entities", parts)
        # offsets cost no digits in the means
        means, shift = panel.entity_means(panel.centred), panel.x[0] - panel.centred[0]
        what = f"the means over {panel.entity_name} of the regressors"
        lengths = column_sizes(panel.centred - panel.centred.mean(axis=0))
        rounding = np.ptp(means, axis=0) <= MEANS_TOLERANCE * lengths / panel.nobs**0.5
        equal = np.where(rounding, means.mean(axis=0), means)
        check_collinear(equal, panel.names, what)
        y, x = panel.entity_means(panel.y), means + shift
        return self._least_squares(
            request, y, x, np.arange(k), panel.constant, "entities"
        )


class FirstDifferenceOLS(LeastSquaresModel):
    """
    Least squares of the changes from one observation to the next.

    Parameters
    ----------
    endog, exog, entity, time, delta, weights, missing
        As in :class:`PanelModel`.
    gaps : {"skip", "previous"}
        Differences across a gap in time are left out (Stata's ``D.``) or taken to
        the previous observation, however long ago (plm).
    drift : bool
        Whether the differences have an intercept of their own.  The intercept of
        the formula is differenced away.

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> from mixedar.api import FirstDifferenceOLS
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> exog = firms[["value", "capital"]].assign(const=1.0)
    >>> model = FirstDifferenceOLS(firms["invest"], exog, firms["firm"], firms["year"])
    >>> list(model.fit().params.index)
    ['value', 'capital']
    """

    kind = "fd"
    method = "First differences"
    _needs_entities = False
    _needs_repeats = True

    def _init(
        self, panel: PanelData, gaps: str = "skip", drift: bool = False, **options: Any
    ) -> None:
        check_choice("gaps", gaps, ("skip", "previous"))
        check_flags(drift=drift)
        self.gaps, self.drift = gaps, drift
        super()._init(panel, **options)

    def _estimate(self, request: CovarianceRequest) -> PanelEstimate:
        panel = self.panel
        rows, skipped = self._pairs()
        slopes, constant = panel.slopes, panel.constant
        levels = panel.x[:, slopes]
        changes = levels[rows] - levels[rows - 1]
        found = varying_columns(levels - levels.mean(axis=0), changes)
        if not found.kept:
            raise IdentificationError(
                f"no regressor changes over time ({listing(panel.names)}): first "
                "differences cannot estimate anything. Use random effects"
            )
        columns, x = slopes[found.kept], changes[:, found.kept]
        position = None
        if self.drift:
            if constant is None:
                raise UnsupportedError(
                    "drift=True needs a formula with an intercept, which then is the "
                    "drift; leave out '0 +'"
                )
            check_collinear(
                np.column_stack([np.ones(len(rows)), x]),
                ["the drift", *(panel.names[j] for j in columns)],
                "the changes of the regressors",
            )
            position = int(np.searchsorted(columns, constant))
            columns = np.insert(columns, position, constant)
            x = np.insert(x, position, 1.0, axis=1)
        gone = tuple(panel.names[slopes[j]] for j in found.gone)
        notes = panel.order_notes
        if gone:
            notes.append(
                f"Without a coefficient: {', '.join(gone)} (no changes of their own "
                "over time)."
            )
        if skipped:
            notes.append(
                f"{skipped} differences across gaps in {panel.time_name} left out "
                "(gaps='previous' would take them)."
            )
        y = panel.y[rows] - panel.y[rows - 1]
        return self._least_squares(
            request,
            y,
            x,
            columns,
            position,
            "differences",
            rows,
            absorbed=gone,
            notes=tuple(notes),
        )

    def _pairs(self) -> tuple[IntArray, int]:
        """Rows with a predecessor, and the number lost to gaps."""
        panel = self.panel
        follows = panel.gaps > 0.0
        rows = np.flatnonzero(follows)
        if self.gaps == "skip" and panel.has_time:
            # one step of the grid is the smallest distance between two periods
            distances = np.diff(np.unique(panel.times))
            step = 1.0 if panel.on_grid else float(distances.min())
            rows = np.flatnonzero(follows & (panel.gaps <= step * (1.0 + 1e-9)))
        if not len(rows):
            raise TimeError(
                f"{panel.no_neighbours()}, or gaps='previous', which takes differences "
                "across gaps"
            )
        return rows, int(follows.sum()) - len(rows)
