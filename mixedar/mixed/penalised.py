"""
Penalised fits, which statsmodels computes for independent residuals.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixedar.exceptions import UnsupportedError
from mixedar.mixed.arrays import ModelArrays

__all__ = ["PenalisedFits"]


class PenalisedFits(ModelArrays):
    """Delegates to the parent, or says why it cannot."""

    def fit_regularized(self, *args: Any, **kwargs: Any) -> Any:
        """
        Penalised fit by statsmodels; independent residuals only.

        Raises
        ------
        UnsupportedError
            For correlated residuals.
        """
        self._refuse_penalty("fit_regularized")
        if isinstance(self.data.orig_exog, pd.DataFrame):
            # the parent indexes labelled coefficients by position
            plain = self._without_labels()
            return super(PenalisedFits, plain).fit_regularized(*args, **kwargs)
        return super().fit_regularized(*args, **kwargs)

    def _without_labels(self) -> PenalisedFits:
        """The same model from plain arrays, with the names of this one."""
        plain = type(self)(
            self.endog,
            self.exog,
            self._codes,
            exog_re=self.exog_re,
            exog_vc=self.exog_vc if self.k_vc else None,
            residual=self.residual,
            use_sqrt=self.use_sqrt,
        )
        plain.group_labels = self.group_labels
        plain.data.param_names = self.data.param_names
        plain.data.exog_re_names = self.data.exog_re_names
        plain.data.exog_re_names_full = self.data.exog_re_names_full
        return plain

    def _refuse_penalty(self, what: str) -> None:
        if self.residual.k_params:
            raise UnsupportedError(
                f"{what}: penalised likelihoods are available for residual="
                f"'independent' only; statsmodels' penalised fit ignores the "
                f"{self.residual.label} correlation of this model"
            )
