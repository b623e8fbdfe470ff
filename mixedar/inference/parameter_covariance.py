"""
Asymptotic covariance of the covariance parameters, on and off the boundary.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixedar.exceptions import NotComputedError
from mixedar.inference.derivatives import PrecisionDerivatives

__all__ = ["parameter_covariance"]

FloatArray = NDArray[np.float64]

# Directions with less information than this, relative to the largest, have none.
_FLAT = 1e-11


def parameter_covariance(
    derivatives: PrecisionDerivatives, information: str
) -> FloatArray:
    """
    Inverse information of ``theta``.

    The observed information is inverted in the coordinates of the covariance's
    triangular factor.  Inside the parameter space that changes nothing; where
    the covariance is singular it keeps the directions in which the estimate can
    move, as lmerTest does.  The expected information exists on the boundary as
    it does inside, and all parameters are kept there, as in pbkrtest.

    Parameters
    ----------
    derivatives : PrecisionDerivatives
    information : {"observed", "expected"}

    Returns
    -------
    ndarray, shape (k, k)
        Zero for parameters that are held.

    Raises
    ------
    NotComputedError
        If the information has negative directions (the estimate is no maximum),
        or none for something that moves the fixed effects' precision.
    """
    d = derivatives
    if information == "expected" and d.unrestricted:
        used = d.estimated
        jacobian = np.eye(len(used))[:, used]
        matrix = d.expected[np.ix_(used, used)]
    elif information == "expected":
        jacobian = d.jacobian
        matrix = jacobian.T @ d.expected @ jacobian
    else:
        jacobian = d.jacobian
        matrix = jacobian.T @ d.observed @ jacobian + d.curvature
    size = np.sqrt(np.abs(np.diag(matrix)))
    size[size == 0.0] = 1.0
    values, vectors = np.linalg.eigh(matrix / np.outer(size, size))
    largest = max(float(values[-1]), _FLAT)
    if not np.isfinite(values).all() or values[0] < -1e-6 * largest:
        raise NotComputedError(
            f"the {information} information of the covariance parameters is not "
            "positive definite: the fit is not at a maximum, or the data cannot tell "
            "the parameters apart; use df='containment'"
        )
    keep = values > _FLAT * largest
    moves = jacobian @ (vectors[:, ~keep] / size[:, None])
    # how far a direction without information moves the precision
    change = np.einsum("ka,kxy->axy", moves, d.p)
    steps = np.abs(np.einsum("axy,yz->axz", change, d.phi)).max(initial=0.0)
    if steps > 1e-5:
        raise NotComputedError(
            "the data hold no information on covariance parameters that the standard "
            "errors of the fixed effects depend on: they have no degrees of freedom "
            "of this kind; use df='containment', or a model with fewer random effects"
        )
    root = jacobian @ (vectors[:, keep] / size[:, None] / np.sqrt(values[keep]))
    return np.asarray(root @ root.T)
