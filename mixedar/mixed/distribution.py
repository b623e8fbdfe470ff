"""
Drawing data from a mixed model, correlated residuals included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from statsmodels.regression.mixed_linear_model import MixedLMParams
from statsmodels.tools.rng_qrng import check_random_state

from mixedar.exceptions import NotComputedError
from mixedar.simulate import correlated_residuals
from mixedar.validate import check_lengths

__all__ = ["MixedDistribution"]

FloatArray = NDArray[np.float64]


class MixedDistribution:
    """
    Distribution of the response of a mixed model.

    Parameters
    ----------
    model : MixedLMAR
    params : array_like
        Fixed effects; lower triangle of the random-effects covariance and
        variance components, divided by `scale`; residual parameters, which
        may be left out if they are fixed.
    scale : float
        Residual variance.
    exog : array_like, shape (n, p), or None
        Fixed-effects design; the model's by default.
    """

    def __init__(
        self, model: Any, params: ArrayLike, scale: float, exog: ArrayLike | None
    ) -> None:
        values = np.asarray(params, dtype=np.float64)
        k = model.k_fe + model.k_re2 + model.k_vc
        packed = MixedLMParams.from_packed(
            values[:k], model.k_fe, model.k_re, False, True
        )
        self.model = model
        if model.exog is None:
            raise NotComputedError("the data were removed from this model")
        self.exog = model.exog if exog is None else np.asarray(exog)
        check_lengths(model.nobs, exog=self.exog)
        self.fe_params = packed.fe_params
        self.cov_re = scale * packed.cov_re
        self.vcomp = scale * packed.vcomp
        self.scale = scale
        self.residual_params = values[k:]

    def rvs(self, n: Any = None, rng: Any = None) -> FloatArray:
        """
        Draw one response.

        Parameters
        ----------
        n : object
            Not used; statsmodels' interface has it.
        rng : int, Generator or RandomState, optional

        Returns
        -------
        ndarray, shape (n,)
            In the model's row order.
        """
        model = self.model
        rng = check_random_state(rng)
        y = self.exog @ self.fe_params
        if model.k_re:
            effects = rng.normal(size=(model.n_groups, model.k_re))
            try:
                root = np.linalg.cholesky(self.cov_re)
            except np.linalg.LinAlgError:  # singular: no Cholesky factor, but a root
                values, vectors = np.linalg.eigh(self.cov_re)
                root = vectors * np.sqrt(np.clip(values, 0.0, None))
            effects = effects @ root.T
            y = y + (effects[model._codes] * model.exog_re).sum(axis=1)
        for j, (variance, matrix) in enumerate(
            zip(self.vcomp, model._vc.matrices, strict=True)
        ):
            size = [mat.shape[1] for mat in model.exog_vc.mats[j]]
            effects = np.zeros((model.n_groups, matrix.shape[1]))
            for i, width in enumerate(size):
                effects[i, :width] = rng.normal(size=width)[: matrix.shape[1]]
            y = y + np.sqrt(variance) * (effects[model._codes] * matrix).sum(axis=1)
        noise = rng.normal(size=len(y))
        grouped = model._grouped
        noise = grouped.unsort(
            correlated_residuals(
                grouped.sort(noise), grouped, model.residual, self.residual_params
            )
        )
        return np.asarray(y + np.sqrt(self.scale) * noise)
