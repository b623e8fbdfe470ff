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
from mixedar.engine.effects import PredictedEffects, predict_effects, whiten_series
from mixedar.exceptions import LengthError, NotComputedError, UnsupportedError
from mixedar.mixed.statsmodels import profile_variance
from mixedar.residual import Heteroscedastic


class PredictedValues(MixedLMResults):
    """What a fit says of groups and observations, in the caller's row order."""

    # arrays of the data's length: not pickled, made again when asked for
    _row_caches = (
        "fitted_marginal",
        "fittedvalues",
        "resid",
        "_effects",
        "random_effects",
        "random_effects_cov",
    )

    @cached_property
    def _effects(self) -> PredictedEffects:
        model = self.model
        if model.endog is None:
            raise NotComputedError(
                "the data were removed from this fit; random effects, fitted values "
                "and residuals need them"
            )
        grouped = model._grouped
        return predict_effects(
            grouped.sort(model._random_design()),
            grouped.sort(model.endog - self.fitted_marginal),
            grouped,
            self.structure,
            self._u,
            self._z_map,
            self._factor,
        )

    @cached_property
    def fitted_marginal(self) -> FloatArray:
        """``X beta``, shape (n,)."""
        if self.model.exog is None:
            raise NotComputedError("the data were removed from this fit")
        return np.asarray(self.model.exog @ self.fe_params)

    @cached_property
    def fittedvalues(self) -> FloatArray:
        """``X beta + Z b`` with the predicted random effects, shape (n,)."""
        effects = self._effects.means[self.model._codes]
        design = self.model._random_design()
        return self.fitted_marginal + np.einsum("ij,ij->i", design, effects)

    @cached_property
    def resid(self) -> FloatArray:
        """Raw residuals around :attr:`fittedvalues`, shape (n,)."""
        return self.model.endog - self.fittedvalues

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
            grouped = self.model._grouped
            # whitening divides by the rows' relative standard deviations too
            values = grouped.unsort(
                whiten_series(
                    grouped.sort(values / np.sqrt(self.scale)),
                    grouped,
                    self.structure,
                    self._residual_values,
                )
            )
        return pd.Series(values, index=self.model.data.row_labels, name=kind)

    def _residual_sd(self) -> FloatArray | float:
        """Standard deviations of the residuals, shape (n,) or one for all."""
        sigma, structure = float(np.sqrt(self.scale)), self.structure
        if not isinstance(structure, Heteroscedastic):
            return sigma
        grouped = self.model._grouped
        sd = structure.row_scales(grouped.marks, self._residual_values)
        return sigma * grouped.unsort(sd)

    @cached_property
    def std_residual_quantiles(self) -> pd.Series:
        """Minimum, quartiles and maximum of the Pearson residuals."""
        quantiles = np.quantile(
            self.resid / self._residual_sd(), [0.0, 0.25, 0.5, 0.75, 1.0]
        )
        return pd.Series(quantiles, index=["Min", "Q1", "Med", "Q3", "Max"])

    def _effect_columns(self, group: int) -> tuple[list[int], list[str]]:
        """Design columns that exist in a group, and their names."""
        model = self.model
        columns = list(range(self.k_re))
        names = list(model.data.exog_re_names)
        first = self.k_re
        for j, name in enumerate(model.exog_vc.names):
            labels = self._component_names(j, group)
            columns.extend(range(first, first + len(labels)))
            names.extend(f"{name}[{label}]" for label in labels)
            first += model._vc.sizes[j]
        return columns, names

    def _component_names(self, component: int, group: int) -> list[str]:
        parts = self.model._components
        if parts is not None:
            return parts[component].column_names(group)
        return list(self.model.exog_vc.colnames[component][group])

    @cached_property
    def random_effects(self) -> dict[Any, pd.Series]:
        """
        Conditional means of the random effects given the data, by group.

        One table of all groups, ``random_effects_frame()``, is much faster for
        many of them.
        """
        means = self._effects.means
        if not self.k_vc:
            names = pd.Index(self.model.data.exog_re_names)
            return {
                label: pd.Series(row, index=names)
                for label, row in zip(self.model.group_labels, means, strict=True)
            }
        out = {}
        for i, label in enumerate(self.model.group_labels):
            columns, names = self._effect_columns(i)
            out[label] = pd.Series(means[i, columns], index=names)
        return out

    @cached_property
    def random_effects_cov(self) -> dict[Any, pd.DataFrame]:
        """Conditional covariance of the random effects given the data, by group."""
        roots = self._effects.roots
        out = {}
        for i, label in enumerate(self.model.group_labels):
            columns, names = self._effect_columns(i)
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
            return pd.Series(self.fitted_marginal, index=self.model.data.row_labels)
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
                self._residual_values,
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
