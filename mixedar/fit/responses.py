"""
Drawing responses: random effects of new groups, and correlated residuals.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mixedar._types import FloatArray
from mixedar.data.model_data import ModelData
from mixedar.engine.residuals import correlated_residuals
from mixedar.fit.fit import Fit

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Responses:
    """
    Distribution of the response of the rows of a model.

    Attributes
    ----------
    data : ModelData
    mean : ndarray, shape (n,)
    cov_re : ndarray, shape (k_re, k_re)
        Covariance of the correlated random effects.
    vcomp : ndarray, shape (k_vc,)
        Variance components.
    scale : float
        Residual variance.
    residual_params : ndarray, shape (k_params,)
    term_covs : tuple of ndarray
        Covariance of the effects of each further term.
    """

    data: ModelData
    mean: FloatArray
    cov_re: FloatArray
    vcomp: FloatArray
    scale: float
    residual_params: FloatArray
    term_covs: tuple[FloatArray, ...] = ()

    @classmethod
    def of(cls, fit: Fit) -> Self:
        """The distribution at the estimates of a fit."""
        return cls(
            fit.data,
            fit.fitted_marginal,
            fit.cov_re,
            fit.vcomp,
            fit.scale,
            fit.residual_params,
            fit.term_covs,
        )

    @cached_property
    def _root(self) -> FloatArray:
        """A root of the covariance of the correlated random effects."""
        return _root_of(self.cov_re)

    @cached_property
    def _widths(self) -> list[list[int]]:
        """Number of columns of each component in each group."""
        data = self.data
        if data.component_parts is None:
            return [[len(names) for names in part] for part in data.component_columns]
        groups = range(data.n_groups)
        return [
            [len(part.column_names(i, all_levels=True)) for i in groups]
            for part in data.component_parts
        ]

    def draw(self, rng: np.random.Generator | np.random.RandomState) -> FloatArray:
        """One response, in the caller's row order, shape (n,)."""
        data, y = self.data, self.mean
        if data.exog_re is not None:
            effects = rng.normal(size=(data.n_groups, data.k_re)) @ self._root.T
            y = y + (effects[data.codes] * data.exog_re).sum(axis=1)
        for variance, matrix, widths in zip(
            self.vcomp, data.components.matrices, self._widths, strict=True
        ):
            effects = np.zeros((data.n_groups, matrix.shape[1]))
            for i, width in enumerate(widths):
                effects[i, :width] = rng.normal(size=width)[: matrix.shape[1]]
            y = y + np.sqrt(variance) * (effects[data.codes] * matrix).sum(axis=1)
        for term, cov in zip(data.terms, self.term_covs, strict=True):
            shape = (len(term.levels), len(cov))
            effects = rng.normal(size=shape) @ _root_of(cov).T
            y = y + (effects[term.codes] * term.design).sum(axis=1)
        grouped = data.grouped
        noise = grouped.sort(rng.normal(size=len(y)))
        noise = correlated_residuals(
            noise, grouped, data.residual, self.residual_params
        )
        return np.asarray(y + np.sqrt(self.scale) * grouped.unsort(noise))


def _root_of(cov: FloatArray) -> FloatArray:
    """A root of a covariance."""
    try:
        return np.asarray(np.linalg.cholesky(cov), dtype=np.float64)
    except np.linalg.LinAlgError:  # singular: no Cholesky factor, but a root
        values, vectors = np.linalg.eigh(cov)
        return np.asarray(vectors * np.sqrt(np.clip(values, 0.0, None)))
