"""Mixed models with correlated residuals, and panel estimators beside them."""

from __future__ import annotations

import warnings

# statsmodels and NumPy put filters of warnings before those of the user
with warnings.catch_warnings():
    from mixedar.mixed import MixedLMAR, MixedLMARResults
    from mixedar.residual import AR1, ARMA, CAR1, Independent
    from mixedar.residual.variance import VarIdent, VarPower

__version__ = "0.1.0"

__all__ = [
    "AR1",
    "ARMA",
    "CAR1",
    "Independent",
    "MixedLMAR",
    "MixedLMARResults",
    "VarIdent",
    "VarPower",
]
