"""
Predictions of a fit: population, group, and forecasts that use the residuals.

Names are loaded when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixedar._lazy import lazy_names

if TYPE_CHECKING:
    from mixedar.prediction.predict import get_prediction
    from mixedar.prediction.results import PredictionResults


_LATER = {
    "PredictionResults": "mixedar.prediction.results",
    "get_prediction": "mixedar.prediction.predict",
}

__getattr__, __dir__ = lazy_names(globals(), _LATER)

__all__ = ["PredictionResults", "get_prediction"]
