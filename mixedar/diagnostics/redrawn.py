"""
Residuals and fitted values of responses drawn from the model.

What a picture of residuals would look like if the model were true: covariance
parameters are those of the fit, fixed and random effects are estimated from each
drawn response.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.diagnostics.theory import ResidualTheory, row_sd
from mixedar.linalg import product
from mixedar.simulate import correlated_residuals

__all__ = ["redrawn_residuals"]

FloatArray = NDArray[np.float64]


def redrawn_residuals(
    fit: Any,
    theory: ResidualTheory,
    count: int,
    rng: np.random.Generator,
    kind: str,
) -> tuple[FloatArray, FloatArray]:
    """
    Residuals and fitted values of drawn responses.

    Parameters
    ----------
    fit : MixedLMARResults
    theory : ResidualTheory
        Of the fit.
    count : int
        Number of responses.
    rng : Generator
    kind : {"raw", "pearson", "normalized"}

    Returns
    -------
    residuals, fitted : ndarray, shape (n, count)
        In the caller's order.
    """
    rows = theory.rows
    q, m = theory.z.shape[1], len(rows.offsets) - 1
    white = rng.standard_normal((theory.n, count))  # L^-1 (y - X beta) / sigma
    if q:
        codes = np.repeat(np.arange(m), np.diff(rows.offsets))
        root = fit._z_map @ fit._factor
        effects = np.einsum("ab,bik->aik", root, rng.standard_normal((q, m, count)))
        for a in range(q):
            white += theory.z[:, a : a + 1] * effects[a][codes]
    left = theory.shrink(white) - product(theory.f, product(theory.f.T, white))
    fitted = np.sqrt(fit.scale) * _coloured(fit, theory, white - left)
    fitted += rows.sort(np.asarray(fit.fitted_marginal))[:, None]
    if kind != "normalized":
        left = _coloured(fit, theory, left)
    if kind == "pearson":
        left = left / rows.sort(row_sd(fit))[:, None]
    if kind == "raw":
        left = left * np.sqrt(fit.scale)
    return rows.unsort(left), rows.unsort(fitted)


def _coloured(fit: Any, theory: ResidualTheory, x: FloatArray) -> FloatArray:
    """Columns multiplied by the Cholesky factor of each series' R."""
    coloured = correlated_residuals(
        theory.to_model(x), theory.model, fit.structure, fit._residual_values
    )
    return theory.from_model(coloured)
