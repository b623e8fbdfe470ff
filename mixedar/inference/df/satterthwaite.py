"""
Satterthwaite's degrees of freedom for contrasts of fixed effects.

A contrast's estimated variance ``l'Phi l`` is taken as a multiple of a
chi-square variable with ``nu = 2 (l'Phi l)^2 / Var(l'Phi l)`` degrees of
freedom; the variance follows from the delta method, here with the analytic
gradient ``-l'Phi P_i Phi l`` (Giesbrecht and Burns, 1985).  Several rows
are rotated into uncorrelated ones, whose degrees of freedom are pooled so that
the F distribution has the mean of the sum of squared t's (Fai and Cornelius,
1996).

References
----------
Fai, A. H.-T. and Cornelius, P. L. (1996), Approximate F-tests of multiple
degree of freedom hypotheses in generalized least squares analyses of
unbalanced split-plot experiments, Journal of Statistical Computation and
Simulation 54, 363-378.

Giesbrecht, F. G. and Burns, J. C. (1985), Two-stage analysis based on a mixed
model: large-sample asymptotic theory and small-sample simulation results,
Biometrics 41, 477-486.

Kuznetsova, A., Brockhoff, P. B. and Christensen, R. H. B. (2017), lmerTest
package: tests in linear mixed effects models, Journal of Statistical Software
82(13).
"""

from __future__ import annotations

import numpy as np

from mixedar._types import FloatArray
from mixedar.engine.precision import PrecisionDerivatives
from mixedar.hypotheses.df import ContrastMethod, JointDF


def satterthwaite_df(
    contrasts: FloatArray, phi: FloatArray, p: FloatArray, w: FloatArray
) -> FloatArray:
    """
    Degrees of freedom of single contrasts.

    Parameters
    ----------
    contrasts : ndarray, shape (c, p)
    phi : ndarray, shape (p, p)
        Covariance of the fixed effects.
    p : ndarray, shape (k, p, p)
        Derivatives of its inverse by the covariance parameters.
    w : ndarray, shape (k, k)
        Covariance of the covariance parameters.

    Returns
    -------
    ndarray, shape (c,)
        Infinite where the variance does not depend on the parameters.
    """
    half = contrasts @ phi
    variance = np.einsum("cx,cx->c", half, contrasts)
    gradient = np.einsum("cx,kxy,cy->ck", half, p, half)
    uncertainty = np.einsum("ck,kl,cl->c", gradient, w, gradient)
    with np.errstate(divide="ignore"):
        return 2.0 * variance**2 / uncertainty


def pooled_df(nu: FloatArray) -> float:
    """
    Denominator degrees of freedom from those of independent components.

    Parameters
    ----------
    nu : ndarray, shape (r,)

    Returns
    -------
    float
        ``2 E / (E - r)`` with ``E = sum nu / (nu - 2)``; 2 if a component has
        no more than that, as in lmerTest.
    """
    if len(nu) == 1 or not np.isfinite(nu).any() or float(np.ptp(nu)) < 1e-8:
        return float(nu.mean())
    if (nu <= 2.0).any():
        return 2.0
    # E - r = sum 2 / (nu - 2), without cancellation and with infinite nu
    excess = float((2.0 / (nu - 2.0)).sum())
    return 2.0 * (excess + len(nu)) / excess


class SatterthwaiteDF(ContrastMethod):
    """
    Satterthwaite's method at the estimate of a fit.

    Parameters
    ----------
    derivatives : PrecisionDerivatives
    w : ndarray, shape (k, k)
        Covariance of the covariance parameters.
    cov : ndarray, shape (p, p)
        Covariance of the fixed effects on the user's scale.
    """

    def __init__(
        self, derivatives: PrecisionDerivatives, w: FloatArray, cov: FloatArray
    ) -> None:
        self.derivatives = derivatives
        self.w = w
        self.cov = cov
        self.notes: list[str] = []

    def single(self, matrix: FloatArray) -> FloatArray:
        """See :meth:`ContrastMethod.single`."""
        d = self.derivatives
        return satterthwaite_df(d.contrasts(matrix), d.phi, d.p, self.w)

    def joint(self, matrix: FloatArray, rank: int) -> JointDF:
        """
        Fai and Cornelius' degrees of freedom, as ``contestMD`` of lmerTest.

        The rotation depends on how the rows are scaled; rows whose scales differ
        by more than 1e6 are brought to unit variance first.
        """
        middle = matrix @ self.cov @ matrix.T
        lengths = np.sqrt(np.diag(middle))
        if lengths.max() > 1e6 * lengths.min():
            matrix = matrix / lengths[:, None]
            middle = middle / np.outer(lengths, lengths)
        _, vectors = np.linalg.eigh(middle)
        rotated = vectors[:, len(vectors) - rank :].T @ matrix
        return JointDF(pooled_df(self.single(rotated)), 1.0)
