"""
Predictions of a fit for new rows.

The method imports its module when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from statsmodels.regression.mixed_linear_model import MixedLMResults

if TYPE_CHECKING:
    from mixedar.prediction import PredictionResults

__all__ = ["PredictionMethods"]


class PredictionMethods(MixedLMResults):
    """Methods of :mod:`mixedar.prediction` on the results of a mixed model."""

    def get_prediction(
        self,
        newdata: Any = None,
        level: str = "population",
        *,
        exog: Any = None,
        exog_re: Any = None,
        exog_vc: Mapping[str, Any] | None = None,
        groups: Any = None,
        time: Any = None,
        series: Any = None,
        residual_data: Any = None,
        unknown: str = "error",
        include_theta: bool | str = False,
        df: Any = None,
    ) -> PredictionResults:
        """
        Predict with standard errors and intervals.

        ``level="population"`` is ``X beta``, ``"group"`` adds the predicted random
        effects, ``"forecast"`` what the group's residuals tell of residuals at
        other times.

        See :func:`mixedar.prediction.predict.get_prediction`.
        """
        from mixedar.prediction.predict import get_prediction

        return get_prediction(
            self,
            newdata,
            level,
            exog=exog,
            exog_re=exog_re,
            exog_vc=exog_vc,
            groups=groups,
            time=time,
            series=series,
            residual_data=residual_data,
            unknown=unknown,
            include_theta=include_theta,
            df=df,
        )
