"""Linear mixed models with correlated residuals: the model and its results."""

from mixedar.mixed.model import MixedLMAR
from mixedar.mixed.results import MixedLMARResults, MixedLMARResultsWrapper

__all__ = ["MixedLMAR", "MixedLMARResults", "MixedLMARResultsWrapper"]
