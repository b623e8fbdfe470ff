"""
What a fit says of itself: influence of its groups, and a diagnosis.

Every method imports its module when it is called.
"""

from __future__ import annotations

from typing import Any

from statsmodels.regression.mixed_linear_model import MixedLMResults

__all__ = ["InfluenceMethods"]


class InfluenceMethods(MixedLMResults):
    """Methods of :mod:`mixedar.diagnostics` on the results of a mixed model."""

    def influence(
        self,
        maxiter: int | None = None,
        *,
        refit: bool = False,
        progress: bool = False,
    ) -> Any:
        """
        Influence of each group on all estimates.

        See :func:`mixedar.diagnostics.influence.influence`.
        """
        from mixedar.diagnostics.influence import influence

        return influence(self, maxiter, refit=refit, progress=progress)

    def get_influence(self) -> Any:
        """
        Influence of each group, under statsmodels' name.

        See :func:`mixedar.diagnostics.influence.influence`.
        """
        return self.influence()

    def diagnose(self, alpha: float = 0.01) -> Any:
        """
        What may be wrong with this fit, in plain words.

        See :func:`mixedar.diagnostics.diagnosis.diagnose`.
        """
        from mixedar.diagnostics.diagnosis import diagnose

        return diagnose(self, alpha)
