"""
What a fit leaves: residual diagnostics, simulation, influence, a diagnosis.

Those of a fit are methods of its results; names are loaded when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixedar._lazy import lazy_names

if TYPE_CHECKING:
    from mixedar.diagnostics.residuals.autocorrelation import autocorrelation
    from mixedar.diagnostics.residuals.variogram import semivariogram

_LATER = {
    "autocorrelation": "mixedar.diagnostics.residuals.autocorrelation",
    "semivariogram": "mixedar.diagnostics.residuals.variogram",
}

__getattr__, __dir__ = lazy_names(globals(), _LATER)

__all__ = ["autocorrelation", "semivariogram"]
