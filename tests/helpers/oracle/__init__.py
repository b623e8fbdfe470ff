"""
The linear mixed model written out densely, as a textbook states it.

For each group, y = X beta + Z b + sum_k W_k u_k + e with independent
b ~ N(0, G), u_k ~ N(0, s_k I), e ~ N(0, sigma2 R), so that
V = Z G Z' + sum_k s_k W_k W_k' + sigma2 R.  Within a series
R_ij = rho^|t_i - t_j|, or what the caller writes down; between series it is zero.
Every matrix is built and solved as it stands: slow, and meant to be obviously
right.  Nothing here comes from the package that it checks.

Covariances are on the scale of the data (``cov_re`` is G, not G / sigma2).

``model`` states the model, ``likelihood`` estimates and predicts effects,
``residuals`` gives what is known of residuals, ``prediction`` predicts new rows.
"""

from __future__ import annotations

from helpers.oracle.likelihood import Solution, loglike, maximize, profile, solve
from helpers.oracle.model import (
    Parameters,
    Part,
    Problem,
    Structure,
    correlation,
    covariance,
    parts,
    stacked,
)
from helpers.oracle.prediction import Predictions, predict, predict_from
from helpers.oracle.residuals import DenseResiduals

__all__ = [
    "DenseResiduals",
    "Parameters",
    "Part",
    "Predictions",
    "Problem",
    "Solution",
    "Structure",
    "correlation",
    "covariance",
    "loglike",
    "maximize",
    "parts",
    "predict",
    "predict_from",
    "profile",
    "solve",
    "stacked",
]
