"""Linear mixed models with correlated residuals: the model and its results."""

from __future__ import annotations

from mixedar.mixed.model import MixedLMAR
from mixedar.mixed.results import MixedLMARResults
from mixedar.mixed.statsmodels_results import MixedLMARResultsWrapper

__all__ = ["MixedLMAR", "MixedLMARResults", "MixedLMARResultsWrapper"]
