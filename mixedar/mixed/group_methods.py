"""
What a fit says of single groups: their effects, coefficients and shrinkage.

Every method imports its module when it is called.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from statsmodels.regression.mixed_linear_model import MixedLMResults

__all__ = ["GroupMethods"]


class GroupMethods(MixedLMResults):
    """Methods of :mod:`mixedar.by_group` on the results of a mixed model."""

    def random_effects_frame(
        self,
        form: str = "wide",
        *,
        standard_errors: bool = False,
        beta: str = "known",
        alpha: float = 0.05,
    ) -> pd.DataFrame:
        """
        Predicted random effects of all groups, with standard errors.

        See :func:`mixedar.by_group.effects.random_effects_frame`.
        """
        from mixedar.by_group.effects import random_effects_frame

        return random_effects_frame(
            self, form, standard_errors=standard_errors, beta=beta, alpha=alpha
        )

    def coef_by_group(
        self,
        form: str = "wide",
        *,
        standard_errors: bool = False,
        alpha: float = 0.05,
    ) -> pd.DataFrame:
        """
        Coefficients of every group: fixed plus predicted random effects.

        See :func:`mixedar.by_group.effects.coef_by_group`.
        """
        from mixedar.by_group.effects import coef_by_group

        return coef_by_group(self, form, standard_errors=standard_errors, alpha=alpha)

    def shrinkage(self, by_group: Any = None) -> Any:
        """
        Compare the groups' coefficients with regressions of their own.

        See :func:`mixedar.by_group.shrinkage.shrinkage`.
        """
        from mixedar.by_group.shrinkage import shrinkage

        return shrinkage(self, by_group)

    def plot_random_effects(
        self,
        kind: str = "caterpillar",
        effect: str | None = None,
        *,
        alpha: float = 0.05,
        beta: str = "known",
        max_groups: int = 400,
        ax: Any = None,
    ) -> Any:
        """
        Draw the predicted random effects: sorted with intervals, or normal QQ plots.

        See :func:`mixedar.plotting.random_effects.plot_random_effects`.
        """
        from mixedar.by_group.effects import plot_data
        from mixedar.plotting.random_effects import plot_random_effects

        return plot_random_effects(
            plot_data(self, kind, alpha, beta),
            kind,
            effect,
            alpha=alpha,
            max_groups=max_groups,
            ax=ax,
        )
