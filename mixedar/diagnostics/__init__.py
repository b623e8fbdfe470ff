"""
What a fit leaves: residual diagnostics, simulation, influence, a diagnosis.

Names are loaded when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixedar._lazy import lazy_names

if TYPE_CHECKING:
    from mixedar.diagnostics.predictive import PredictiveCheck, predictive_check
    from mixedar.diagnostics.residuals.acf import autocorrelation, residual_acf
    from mixedar.diagnostics.residuals.heteroscedasticity import (
        heteroscedasticity_test,
        residual_spread,
    )
    from mixedar.diagnostics.residuals.normality import (
        normality_test,
        residual_quantiles,
    )
    from mixedar.diagnostics.residuals.serial import serial_correlation_test
    from mixedar.diagnostics.residuals.variogram import (
        residual_variogram,
        semivariogram,
    )
    from mixedar.diagnostics.simulation import simulate
    from mixedar.hypotheses.result import DiagnosticTest


_LATER = {
    "DiagnosticTest": "mixedar.hypotheses.result",
    "PredictiveCheck": "mixedar.diagnostics.predictive",
    "autocorrelation": "mixedar.diagnostics.residuals.acf",
    "heteroscedasticity_test": "mixedar.diagnostics.residuals.heteroscedasticity",
    "normality_test": "mixedar.diagnostics.residuals.normality",
    "predictive_check": "mixedar.diagnostics.predictive",
    "residual_acf": "mixedar.diagnostics.residuals.acf",
    "residual_quantiles": "mixedar.diagnostics.residuals.normality",
    "residual_spread": "mixedar.diagnostics.residuals.heteroscedasticity",
    "residual_variogram": "mixedar.diagnostics.residuals.variogram",
    "semivariogram": "mixedar.diagnostics.residuals.variogram",
    "serial_correlation_test": "mixedar.diagnostics.residuals.serial",
    "simulate": "mixedar.diagnostics.simulation",
}

__getattr__, __dir__ = lazy_names(globals(), _LATER)

__all__ = [
    "DiagnosticTest",
    "PredictiveCheck",
    "autocorrelation",
    "heteroscedasticity_test",
    "normality_test",
    "predictive_check",
    "residual_acf",
    "residual_quantiles",
    "residual_spread",
    "residual_variogram",
    "semivariogram",
    "serial_correlation_test",
    "simulate",
]
