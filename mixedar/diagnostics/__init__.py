"""
What a fit leaves: residual diagnostics, simulation, influence, a diagnosis.

Names are loaded when they are first asked for.
"""

from typing import TYPE_CHECKING

from mixedar.lazy import lazy_names

if TYPE_CHECKING:
    from mixedar.diagnostics.acf import autocorrelation, residual_acf
    from mixedar.diagnostics.heteroscedasticity import (
        heteroscedasticity_test,
        residual_spread,
    )
    from mixedar.diagnostics.normality import normality_test, residual_quantiles
    from mixedar.diagnostics.outcome import DiagnosticTest
    from mixedar.diagnostics.predictive import PredictiveCheck, predictive_check
    from mixedar.diagnostics.serial import serial_correlation_test
    from mixedar.diagnostics.simulation import simulate
    from mixedar.diagnostics.variogram import residual_variogram, semivariogram

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

_LATER = {
    "DiagnosticTest": "mixedar.diagnostics.outcome",
    "PredictiveCheck": "mixedar.diagnostics.predictive",
    "autocorrelation": "mixedar.diagnostics.acf",
    "heteroscedasticity_test": "mixedar.diagnostics.heteroscedasticity",
    "normality_test": "mixedar.diagnostics.normality",
    "predictive_check": "mixedar.diagnostics.predictive",
    "residual_acf": "mixedar.diagnostics.acf",
    "residual_quantiles": "mixedar.diagnostics.normality",
    "residual_spread": "mixedar.diagnostics.heteroscedasticity",
    "residual_variogram": "mixedar.diagnostics.variogram",
    "semivariogram": "mixedar.diagnostics.variogram",
    "serial_correlation_test": "mixedar.diagnostics.serial",
    "simulate": "mixedar.diagnostics.simulation",
}

__getattr__, __dir__ = lazy_names(globals(), _LATER)
