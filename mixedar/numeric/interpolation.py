"""
Smooth functions of many numbers, by their values at few.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mixedar._types import FloatArray

# Chebyshev points of a panel, and its width as a logarithm: a function that is smooth
# on this scale is followed to the last digits.
_POINTS, _WIDTH = 18, 0.5


def by_logarithm(
    function: Callable[[FloatArray], FloatArray], x: FloatArray
) -> FloatArray:
    """
    Functions that are smooth in the logarithm of their argument.

    Parameters
    ----------
    function : callable
        Its `m` values at k positive numbers, shape (m, k).
    x : ndarray, shape (l,)
        Positive; many more than there are factors of 1.6 between the smallest and the
        largest.

    Returns
    -------
    ndarray, shape (m, l)

    References
    ----------
    Trefethen, L. N. (2013), Approximation Theory and Approximation Practice, SIAM,
    chapter 8.
    """
    t = np.log(x)
    t -= t.min()
    t /= _WIDTH
    panel = t.astype(np.int32)
    order = np.argsort(panel, kind="stable")
    used, starts = np.unique(panel[order], return_index=True)
    angles = (np.arange(_POINTS) + 0.5) * (np.pi / _POINTS)
    at = used[:, None] + 0.5 * (1.0 + np.cos(angles))
    values = function(float(x.min()) * np.exp(_WIDTH * at.ravel()))
    cosines = np.cos(np.outer(np.arange(_POINTS), angles)) * (2.0 / _POINTS)
    cosines[0] *= 0.5
    coefficients = values.reshape(len(values), len(used), _POINTS) @ cosines.T
    inside = (2.0 * (t - panel) - 1.0)[order]
    polynomials = np.empty((_POINTS, len(x)))
    polynomials[0], polynomials[1] = 1.0, inside
    for k in range(2, _POINTS):
        np.multiply(2.0 * inside, polynomials[k - 1], out=polynomials[k])
        polynomials[k] -= polynomials[k - 2]
    out = np.empty((len(values), len(x)))
    for k, (start, end) in enumerate(zip(starts, [*starts[1:], len(x)], strict=True)):
        out[:, order[start:end]] = coefficients[:, k] @ polynomials[:, start:end]
    return out
