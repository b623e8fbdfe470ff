r"""
Kenward and Roger's small-sample inference for fixed effects.

The covariance of the fixed effects is corrected for the bias of
``Phi = (X'V^-1 X)^-1`` at estimated covariance parameters,

    Phi_A = Phi + 2 Phi [sum_ij W_ij (Q_ij - P_i Phi P_j - R_ij / 4)] Phi,

``W`` being the covariance of the parameters' estimates; the F statistic is
scaled, and its denominator degrees of freedom match the first two moments of
its approximate distribution (Kenward and Roger, 1997, sections 2 and 3).
``R_ij``, with the second derivatives of ``V``, vanishes where ``V`` is linear
in the parameters.  It does not for AR(1): ``kr="full"`` has it, as SAS'
``ddfm=kr``; ``kr="linear"`` leaves it out, as ``ddfm=kr(linear)`` and pbkrtest.

With ``R_ij`` the result depends on how a nonlinear ``V`` is parametrised
(Kenward and Roger, 2009).  The parameters here are those that the results and
SAS print: variances and covariances of the random effects, ``rho`` at a distance
of one unit of time (so that the unit matters to the term), and the residual
variance.

``W`` is the inverse of the expected information, as in the paper and in
pbkrtest, or of the observed one, as in SAS unless its ``scoring`` option is
given.

References
----------
Kenward, M. G. and Roger, J. H. (1997), Small sample inference for fixed
effects from restricted maximum likelihood, Biometrics 53, 983-997.

Kenward, M. G. and Roger, J. H. (2009), An improved approximation to the
precision of fixed effects from restricted maximum likelihood, Computational
Statistics and Data Analysis 53, 2583-2595.
"""

from __future__ import annotations

import math

import numpy as np

from mixedar._types import FloatArray
from mixedar.engine.precision import PrecisionDerivatives
from mixedar.exceptions import NotComputedError
from mixedar.hypotheses.df import JointDF
from mixedar.inference.df.satterthwaite import SatterthwaiteDF


def adjusted_covariance(
    phi: FloatArray, p: FloatArray, q: FloatArray, r: FloatArray | None, w: FloatArray
) -> FloatArray:
    """
    Bias-corrected covariance of the fixed effects.

    Parameters
    ----------
    phi : ndarray, shape (p, p)
        ``(X'V^-1 X)^-1``.
    p : ndarray, shape (k, p, p)
    q : ndarray, shape (k, k, p, p)
    r : ndarray, shape (k, k, p, p), optional
        Left out for the linear adjustment.
    w : ndarray, shape (k, k)

    Returns
    -------
    ndarray, shape (p, p)
    """
    middle = np.einsum("ij,ijxy->xy", w, q)
    middle -= np.einsum("ij,ixa,ab,jby->xy", w, p, phi, p, optimize=True)
    if r is not None:
        middle -= 0.25 * np.einsum("ij,ijxy->xy", w, r)
    return np.asarray(phi + phi @ (middle + middle.T) @ phi)


def moments_to_f(a1: float, a2: float, rank: int) -> JointDF:
    """
    Denominator degrees of freedom and scaling of a joint F statistic.

    Parameters
    ----------
    a1, a2 : float
        Kenward and Roger's ``A_1`` and ``A_2``.
    rank : int
        Numerator degrees of freedom.

    Returns
    -------
    JointDF

    Raises
    ------
    NotComputedError
        If no F distribution has these moments.
    """
    if a2 <= 0.0:  # the covariance parameters do not matter, or are known
        return JointDF(math.inf, 1.0)
    if rank == 1:  # what the formulas below come to
        return JointDF(2.0 / a2, 1.0)
    b = (a1 + 6.0 * a2) / (2.0 * rank)
    g = ((rank + 1.0) * a1 - (rank + 4.0) * a2) / ((rank + 2.0) * a2)
    denominator = 3.0 * rank + 2.0 * (1.0 - g)
    c1, c2 = g / denominator, (rank - g) / denominator
    c3 = (rank + 2.0 - g) / denominator
    # V* / (2 E*^2) = rho; the zeros of 1 - A2 / q and 1 - c2 B coincide in
    # balanced designs, where their ratio is one
    above, below = 1.0 - a2 / rank, 1.0 - c2 * b
    ratio = 1.0 if max(abs(above), abs(below)) < 1e-10 else _divide(above, below)
    rho = ratio**2 * _divide(1.0 + c1 * b, 1.0 - c3 * b) / rank
    df = 4.0 + _divide(rank + 2.0, rank * rho - 1.0)
    if not df > 0.0:
        raise NotComputedError(
            "no F distribution has the approximate moments of this statistic "
            f"(A1 = {a1:.4g}, A2 = {a2:.4g}): the sample is too small for a joint "
            "Kenward-Roger test; use df='satterthwaite', or test fewer rows"
        )
    if math.isinf(df):
        return JointDF(df, above)
    # the mean of F does not exist at 2 degrees of freedom; pbkrtest does not
    # scale there either
    scaling = 1.0 if abs(df - 2.0) < 1e-2 else df * above / (df - 2.0)
    if not scaling > 0.0:
        raise NotComputedError(
            f"the Kenward-Roger scaling of this F statistic is {scaling:.3g}, not "
            "positive: the sample is too small for the joint test; use "
            "df='satterthwaite', or test fewer rows"
        )
    return JointDF(df, scaling)


def _divide(a: float, b: float) -> float:
    return a / b if b != 0.0 else math.copysign(math.inf, a)


class KenwardRogerDF(SatterthwaiteDF):
    """
    Kenward and Roger's method at the estimate of a fit.

    For one row its degrees of freedom are Satterthwaite's.

    Parameters
    ----------
    derivatives : PrecisionDerivatives
    w : ndarray, shape (k, k)
        Covariance of the covariance parameters.
    full : bool
        With the second-order term ``R_ij``.

    Raises
    ------
    NotComputedError
        If the corrected covariance is not positive definite.
    """

    def __init__(
        self, derivatives: PrecisionDerivatives, w: FloatArray, *, full: bool
    ) -> None:
        d = derivatives
        adjusted = adjusted_covariance(d.phi, d.p, d.q, d.r if full else None, w)
        spectrum = np.linalg.eigvalsh(adjusted)
        if not spectrum[0] > 0.0:
            raise NotComputedError(
                "the Kenward-Roger covariance of the fixed effects is not positive "
                "definite: the covariance parameters are too uncertain for the "
                "correction; leave out its second-order term (kr='linear'), or use "
                "df='satterthwaite'"
            )
        super().__init__(d, w, d.to_user(adjusted))

    def joint(self, matrix: FloatArray, rank: int) -> JointDF:
        """See :meth:`ContrastMethod.joint`."""
        d = self.derivatives
        middle = matrix @ d.to_inner
        # an orthonormal basis in the metric of Phi: Theta = basis' basis
        root = np.linalg.cholesky(d.phi)
        rows = middle @ root
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        _, _, vectors = np.linalg.svd(rows, full_matrices=False)
        whitened = np.einsum(
            "cx,kxy,dy->kcd", vectors[:rank] @ root.T, d.p, vectors[:rank] @ root.T
        )
        a1 = float(np.einsum("kl,kcc,ldd->", self.w, whitened, whitened))
        a2 = float(np.einsum("kl,kcd,ldc->", self.w, whitened, whitened))
        return moments_to_f(a1, a2, rank)
