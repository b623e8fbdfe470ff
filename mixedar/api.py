"""Classes for arrays; ``import mixedar.api as ma``."""

from mixedar.mixed import MixedLMAR, MixedLMARResults
from mixedar.residual import AR1, CAR1, Independent, ResidualStructure

__all__ = [
    "AR1",
    "CAR1",
    "Independent",
    "MixedLMAR",
    "MixedLMARResults",
    "ResidualStructure",
]
