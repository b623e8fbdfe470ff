"""
Panel models that are one least-squares regression of transformed rows.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from mixedar._types import FloatArray, IntArray
from mixedar.panel.algebra import gaussian_llf, regress, standardize
from mixedar.panel.checks import check_collinear, check_freedom
from mixedar.panel.covariance import CovarianceRequest
from mixedar.panel.estimate import PanelEstimate
from mixedar.panel.estimators.base import PanelModel
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
            ``"driscoll-kraay"``.
        cluster, small_sample, kernel, bandwidth
            See :class:`CovarianceRequest`; clusters are entities and the factor is
            Stata's by default.

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
        n, k = x.shape
        check_freedom(n, k, what)
        standard, panel = standardize(x, constant), self.panel
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
