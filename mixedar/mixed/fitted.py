"""
Predicted random effects, fitted values and residuals of a fit.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.regression.mixed_linear_model import MixedLMResults

from mixedar._types import FloatArray
from mixedar.data.formula import design_for
from mixedar.engine.effects import whiten_series
from mixedar.exceptions import LengthError, UnsupportedError
from mixedar.fit import Fit
from mixedar.mixed.statsmodels import profile_variance
from mixedar.residual import Heteroscedastic


class PredictedValues(MixedLMResults):
    """What a fit says of groups and observations, in the caller's row order."""

    fit: Fit
    # tables of the data's length: not pickled, made again when asked for
    _row_caches = ("random_effects", "random_effects_cov")

    @property
    def fitted_marginal(self) -> FloatArray:
        """``X beta``, shape (n,)."""
        return self.fit.fitted_marginal

    @property
    def fittedvalues(self) -> FloatArray:
        """``X beta + Z b`` with the predicted random effects, shape (n,)."""
        return self.fit.fittedvalues

    @property
    def resid(self) -> FloatArray:
        """Raw residuals around :attr:`fittedvalues`, shape (n,)."""
        return self.fit.resid

    def residuals(self, kind: str = "raw") -> pd.Series:
        """
        Within-group residuals.

        Parameters
        ----------
        kind : {"raw", "pearson", "normalized"}
            Raw; divided by the row's residual standard deviation, which a
            variance function changes from row to row; or those whitened by the
            residual correlation, in the order of time, which should look like
            independent standard normal values.

        Returns
        -------
        Series, in the caller's row order and index

        Raises
        ------
        UnsupportedError
            For another kind.
        """
        if kind not in ("raw", "pearson", "normalized"):
            raise UnsupportedError(
                f"kind={kind!r}: choose 'raw', 'pearson' or 'normalized'"
            )
        values = self.resid
        if kind == "pearson":
            values = values / self._residual_sd()
        if kind == "normalized":
            grouped = self.fit.data.grouped
            # whitening divides by the rows' relative standard deviations too
            values = grouped.unsort(
                whiten_series(
                    grouped.sort(values / np.sqrt(self.scale)),
                    grouped,
                    self.structure,
                    self.fit.residual_params,
                )
            )
        return pd.Series(values, index=self.fit.data.index, name=kind)

    def _residual_sd(self) -> FloatArray | float:
        """Standard deviations of the residuals, shape (n,) or one for all."""
        sigma, structure = float(np.sqrt(self.scale)), self.structure
        if not isinstance(structure, Heteroscedastic):
            return sigma
        grouped = self.fit.data.grouped
        sd = structure.row_scales(grouped.marks, self.fit.residual_params)
        return sigma * grouped.unsort(sd)

    @cached_property
    def std_residual_quantiles(self) -> pd.Series:
        """Minimum, quartiles and maximum of the Pearson residuals."""
        quantiles = np.quantile(
            self.resid / self._residual_sd(), [0.0, 0.25, 0.5, 0.75, 1.0]
        )
        return pd.Series(quantiles, index=["Min", "Q1", "Med", "Q3", "Max"])

    @cached_property
    def random_effects(self) -> dict[Any, pd.Series]:
        """
        Conditional means of the random effects given the data, by group.

        One table of all groups, ``random_effects_frame()``, is much faster for
        many of them.
        """
        means = self.fit.effects.means
        if not self.k_vc:
            names = pd.Index(self.fit.data.random_names)
            return {
                label: pd.Series(row, index=names)
                for label, row in zip(self.fit.data.group_labels, means, strict=True)
            }
        out = {}
        for i, label in enumerate(self.fit.data.group_labels):
            columns, names = self.fit.data.effect_columns(i)
            out[label] = pd.Series(means[i, columns], index=names)
        return out

    @cached_property
    def random_effects_cov(self) -> dict[Any, pd.DataFrame]:
        """Conditional covariance of the random effects given the data, by group."""
        roots = self.fit.effects.roots
        out = {}
        for i, label in enumerate(self.fit.data.group_labels):
            columns, names = self.fit.data.effect_columns(i)
            root = roots[:, columns, i]
            out[label] = pd.DataFrame(self.scale * root.T @ root, names, names)
        return out

    def predict(
        self, exog: Any = None, transform: bool = True, *args: Any, **kwargs: Any
    ) -> Any:
        """
        Population means ``X beta``.

        Parameters
        ----------
        exog : DataFrame or array_like, optional
            New data for the model's formula, or a design matrix; the model's
            own rows by default.
        transform : bool
            Whether a model from a formula transforms `exog` by it.

        Returns
        -------
        Series or ndarray
            Series with the index of `exog` if that has one.
        """
        if exog is None:
            return pd.Series(self.fitted_marginal, index=self.fit.data.index)
        # a list has .index too, its method
        labelled = isinstance(exog, (pd.Series, pd.DataFrame))
        index = exog.index if labelled else None
        spec = getattr(self.model, "formula_spec", None)
        if spec is not None and transform:
            if not isinstance(exog, pd.DataFrame):
                exog = pd.DataFrame(exog)
                index = exog.index
            matrix, _ = design_for(spec, exog)
        else:
            matrix = np.asarray(exog, dtype=np.float64)
            if matrix.ndim == 1:
                matrix = (
                    matrix[None, :] if len(matrix) == self.k_fe else matrix[:, None]
                )
        if matrix.shape[1] != self.k_fe:
            raise LengthError(
                f"exog has {matrix.shape[1]} columns; the model has {self.k_fe} fixed "
                "effects"
            )
        values = matrix @ self.fe_params
        if index is None or len(index) != len(values):
            return values
        return pd.Series(values, index=index)

    def get_distribution(self, exog: Any = None) -> Any:
        """
        Distribution of the response at the estimates.

        Parameters
        ----------
        exog : array_like, shape (n, p), optional
            The model's by default.

        Returns
        -------
        MixedDistribution
            ``get_distribution().rvs(rng=1)`` simulates a response with random
            effects and correlated residuals.
        """
        params = np.concatenate(
            [
                self.fe_params,
                self.params[self.k_fe : self.k_fe + self.k_re2 + self.k_vc]
                / self.scale,
                self.fit.residual_params,
            ]
        )
        return self.model.get_distribution(params, self.scale, exog)

    def profile_re(
        self,
        re_ix: int | str,
        vtype: str,
        num_low: int = 5,
        dist_low: float = 1.0,
        num_high: int = 5,
        dist_high: float = 1.0,
        **fit_kwargs: Any,
    ) -> FloatArray:
        """
        Profile likelihood of a random-effects variance.

        Parameters
        ----------
        re_ix : int or str
            Index of the random effect, or name of the variance component.
        vtype : {"re", "vc"}
        num_low, num_high : int
            Points below and above the estimate.
        dist_low, dist_high : float
            How far to go below and above.
        **fit_kwargs
            Passed on to the search.

        Returns
        -------
        ndarray, shape (num_low + num_high + 1, 2)
            Variances and log-likelihoods.
        """
        return profile_variance(
            self, re_ix, vtype, num_low, dist_low, num_high, dist_high, **fit_kwargs
        )
