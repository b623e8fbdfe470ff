"""
Penalised fits, which statsmodels computes for independent residuals.
"""

from __future__ import annotations

from typing import Any

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
        return super().fit_regularized(*args, **kwargs)

    def _refuse_penalty(self, what: str) -> None:
        if self.residual.k_params:
            raise UnsupportedError(
                f"{what}: penalised likelihoods are available for residual="
                f"'independent' only; statsmodels' penalised fit ignores the "
                f"{self.residual.label} correlation of this model"
            )
