"""
Pooled least squares, the between regression, and first differences.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixedar._types import IntArray
from mixedar.exceptions import IdentificationError, TimeError, UnsupportedError
from mixedar.panel.algebra import Standardized, frames, lean, standardize
from mixedar.panel.checks import (
    absorbed_columns,
    check_collinear,
    check_residuals,
    listing,
)
from mixedar.panel.covariance import (
    CovarianceRequest,
    Regression,
    cluster_codes,
    sandwich,
)
from mixedar.panel.data import PanelData
from mixedar.panel.estimators.base import (
    CovarianceInfo,
    Kind,
    PanelEstimate,
    PanelModel,
)
from mixedar.panel.results import PanelResults


class PooledOLS(PanelModel):
    """
    Least squares that takes no notice of the entities.

    Parameters
    ----------
    endog, exog, entity, time, missing
        As in :class:`PanelModel`.
    """

    _needs_entities = False

    def fit(
        self,
        cov_type: str = "classical",
        *,
        cluster: Any = None,
        small_sample: str | None = "default",
        kernel: str = "bartlett",
        bandwidth: float | None = None,
    ) -> PanelResults:
        """
        Estimate the coefficients.

        Parameters
        ----------
        cov_type, cluster, small_sample, kernel, bandwidth
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
            If no degree of freedom is left.
        """
        from linearmodels.panel import PooledOLS as LinearPooledOLS

        request = CovarianceRequest.read(
            cov_type, cluster, small_sample, kernel, bandwidth
        )
        panel = self.panel
        check_collinear(panel.x, panel.names, "the regressors")
        _check_df(panel.nobs, panel.x.shape[1], "observations")
        standard = standardize(panel.x, panel.constant)
        y, x = frames(panel, panel.y, standard.x)
        fit = lean(LinearPooledOLS)(y, x, check_rank=False).fit()
        return _results(
            self,
            fit,
            standard,
            request,
            kind="pooled",
            method="Pooled least squares",
            columns=np.arange(panel.x.shape[1]),
        )


class BetweenOLS(PanelModel):
    """
    Least squares of the means of the entities, each entity counting once.

    Parameters
    ----------
    endog, exog, entity, time, missing
        As in :class:`PanelModel`.
    """

    def fit(
        self, cov_type: str = "classical", *, small_sample: str | None = "default"
    ) -> PanelResults:
        """
        Estimate the coefficients.

        Parameters
        ----------
        cov_type : {"classical", "robust"}
            The means are independent of one another: there is nothing to cluster.
        small_sample : str, optional
            See :class:`CovarianceRequest`.

        Returns
        -------
        PanelResults

        Raises
        ------
        RankDeficiencyError
            If the means of the regressors are collinear, as those of period dummies
            in a balanced panel.
        IdentificationError
            If there are not more entities than regressors.
        """
        from linearmodels.panel import BetweenOLS as LinearBetweenOLS

        request = CovarianceRequest.read(cov_type, small_sample=small_sample)
        if request.cov_type not in ("classical", "robust"):
            raise UnsupportedError(
                f"cov_type={cov_type!r}: the between regression has one row an entity; "
                "choose 'classical' or 'robust'"
            )
        panel = self.panel
        check_collinear(panel.x, panel.names, "the regressors")
        standard = standardize(panel.x, panel.constant)
        _check_df(panel.n_entities, panel.x.shape[1], "entities")
        check_collinear(
            panel.entity_means(standard.x),
            panel.names,
            f"the means over {panel.entity_name} of the regressors",
        )
        y, x = frames(panel, panel.y, standard.x)
        fit = LinearBetweenOLS(y, x, check_rank=False).fit()
        return _results(
            self,
            fit,
            standard,
            request,
            kind="between",
            method="Between regression (means of the entities)",
            columns=np.arange(panel.x.shape[1]),
        )


class FirstDifferenceOLS(PanelModel):
    """
    Least squares of the changes from one observation to the next.

    Parameters
    ----------
    endog, exog, entity, time, missing
        As in :class:`PanelModel`.
    gaps : {"skip", "previous"}
        Differences across a gap in time are left out (Stata's ``D.``) or taken to
        the previous observation, however long ago (plm).
    drift : bool
        Whether the differences have an intercept of their own.  The intercept of
        the formula is differenced away.
    """

    _needs_entities = False
    _needs_repeats = True

    def _init(
        self,
        panel: PanelData,
        gaps: str = "skip",
        drift: bool = False,
        **options: Any,
    ) -> None:
        if gaps not in ("skip", "previous"):
            raise UnsupportedError(f"gaps={gaps!r}: choose 'skip' or 'previous'")
        self.gaps, self.drift = gaps, drift
        super()._init(panel, **options)

    def fit(
        self,
        cov_type: str = "classical",
        *,
        cluster: Any = None,
        small_sample: str | None = "default",
        kernel: str = "bartlett",
        bandwidth: float | None = None,
    ) -> PanelResults:
        """
        Estimate the coefficients.

        Parameters
        ----------
        cov_type, cluster, small_sample, kernel, bandwidth
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
            If no regressor changes over time.
        TimeError
            If no two observations follow one another.
        """
        from linearmodels.panel import PooledOLS as LinearPooledOLS

        request = CovarianceRequest.read(
            cov_type, cluster, small_sample, kernel, bandwidth
        )
        panel = self.panel
        check_collinear(panel.x, panel.names, "the regressors")
        rows, skipped = self._rows()
        constant = panel.constant
        slopes = np.array([j for j in range(panel.x.shape[1]) if j != constant], int)
        levels = panel.x[:, slopes]
        changes = levels[rows] - levels[rows - 1]
        absorbed, collinear = absorbed_columns(levels - levels.mean(axis=0), changes)
        gone = sorted(absorbed + collinear)
        kept = [j for j in range(len(slopes)) if j not in gone]
        if not kept:
            raise IdentificationError(
                f"no regressor changes over time ({listing(panel.names)}): first "
                "differences cannot estimate anything. Use random effects"
            )
        columns, x = slopes[kept], changes[:, kept]
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
        _check_df(len(rows), x.shape[1], "differences")
        standard = standardize(x, position)
        y, frame = frames(panel, panel.y[rows] - panel.y[rows - 1], standard.x, rows)
        fit = lean(LinearPooledOLS)(y, frame, check_rank=False).fit()
        notes = []
        if gone:
            names = ", ".join(panel.names[slopes[j]] for j in gone)
            notes.append(
                f"Without a coefficient: {names} (no changes of their own over time)."
            )
        if skipped:
            notes.append(
                f"{skipped} differences across gaps in {panel.time_name} left out "
                "(gaps='previous' would take them)."
            )
        return _results(
            self,
            fit,
            standard,
            request,
            kind="fd",
            method="First differences",
            columns=columns,
            rows=rows,
            absorbed=tuple(panel.names[slopes[j]] for j in gone),
            notes=tuple(notes),
        )

    def _rows(self) -> tuple[IntArray, int]:
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
                f"no two observations follow one another in {panel.time_name}; "
                "gaps='previous' takes differences across gaps"
            )
        return rows, int(follows.sum()) - len(rows)


def _check_df(rows: int, columns: int, what: str) -> None:
    if rows <= columns:
        raise IdentificationError(
            f"{rows} {what} cannot estimate {columns} coefficients and a variance; use "
            "fewer regressors"
        )


def _results(
    model: Any,
    fit: Any,
    standard: Standardized,
    request: CovarianceRequest,
    *,
    kind: Kind,
    method: str,
    columns: IntArray,
    rows: IntArray | None = None,
    absorbed: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> PanelResults:
    """Results of a least-squares fit of linearmodels."""
    panel: PanelData = model.panel
    df_resid = int(fit.df_resid)
    info = CovarianceInfo(df=float(df_resid))
    cov = fit.cov.to_numpy()
    resid = np.asarray(fit.resids, dtype=np.float64)
    check_residuals(resid, panel)
    if request.cov_type != "classical":
        x, entity, time = standard.x, panel.entity, panel.time
        clusters: list[IntArray] = []
        if request.cov_type == "clustered":
            clusters = cluster_codes(panel, request.cluster, model.data)
        if kind == "between":
            x = panel.entity_means(x)
            entity = time = np.arange(panel.n_entities)
        if rows is not None:
            entity, time = entity[rows], time[rows]
            clusters = [codes[rows] for codes in clusters]
        regression = Regression(x, resid, entity, time, df_resid, x.shape[1])
        cov, info = sandwich(regression, request, clusters)
    estimate = PanelEstimate(
        kind=kind,
        method=method,
        columns=columns,
        params=standard.params(fit.params.to_numpy()),
        cov=standard.cov(cov),
        info=info,
        scale=float(fit.s2),
        df_resid=df_resid,
        nobs=int(fit.nobs),
        absorbed=absorbed,
        notes=notes,
        sigma2_e=float(fit.s2),
        llf=float(fit.loglik),
        rows=rows,
        previous=None if rows is None else rows - 1,
    )
    return PanelResults(model, estimate)
