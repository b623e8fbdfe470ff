"""
Maximum likelihood of the random-intercept model, by its profile likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from mixedar.panel.crossproducts import WeightedProducts, entity_products
from mixedar.panel.regressions import PanelRegressions

__all__ = ["RandomIntercept", "fit_random_intercept"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RandomIntercept:
    """
    Estimates of ``y = x b + u_i + e``.

    Attributes
    ----------
    sigma2_u, sigma2_e : float
        Variances of effects and errors.
    resid : ndarray, shape (n,)
        ``y - x b``.
    """

    sigma2_u: float
    sigma2_e: float
    resid: FloatArray


def fit_random_intercept(base: PanelRegressions) -> RandomIntercept | None:
    """
    Maximise the likelihood over the ratio of the two variances.

    Parameters
    ----------
    base : PanelRegressions

    Returns
    -------
    RandomIntercept
        ``sigma2_u`` is 0 where the likelihood falls from there on.  None if it
        rises without end, because the within regression leaves no residuals.
    """
    panel = base.panel
    if base.df_within <= 0 or base.within.ssr <= 1e-20 * base.pooled.ssr:
        return None
    columns = np.flatnonzero(base.pooled.kept)
    constant = next((j for j, c in enumerate(columns) if c == panel.constant), None)
    products = entity_products(panel, columns, constant)
    sums = products.weighted(np.ones((1, panel.n_entities)))
    kept = products.kept

    def slope(ratio: float) -> float:
        """Derivative of the profile log-likelihood in the ratio."""
        params, ssr = _gls(sums, kept, ratio)
        shrink = sums.sizes / (1.0 + ratio * sums.sizes)
        direction = np.append(-params, 1.0)
        chosen = np.append(kept, sums.within.shape[1] - 1)
        between = sums.between[0][:, chosen][:, :, chosen]
        squares = np.einsum("i,cij,j->c", direction, between, direction)
        gain = float((shrink**2 * squares).sum()) / ssr
        return 0.5 * (panel.nobs * gain - float((sums.counts[0] * shrink).sum()))

    ratio = 0.0
    if slope(0.0) > 0.0:
        upper = 1.0
        while slope(upper) > 0.0 and upper < 1e12:
            upper *= 8.0
        if slope(upper) > 0.0:
            return None
        ratio = float(brentq(slope, 0.0, upper, xtol=1e-14 * upper, rtol=1e-14))
    params, ssr = _gls(sums, kept, ratio)
    unit = products.scale[-1] / products.scale[kept]
    sigma2_e = ssr / panel.nobs * products.scale[-1] ** 2
    y = panel.y - panel.y.mean() if constant is not None else panel.y
    resid = y - base.x[:, columns[kept]] @ (params * unit)
    return RandomIntercept(ratio * sigma2_e, sigma2_e, resid)


def _gls(
    sums: WeightedProducts, kept: NDArray[np.intp], ratio: float
) -> tuple[FloatArray, float]:
    """Coefficients and residual sum of squares of the quasi-demeaned data."""
    joint = sums.quasi_demeaned(np.array([ratio]))[0]
    gram = joint[np.ix_(kept, kept)]
    right = joint[kept, -1]
    params = np.linalg.solve(gram, right)
    return params, float(joint[-1, -1] - params @ right)
