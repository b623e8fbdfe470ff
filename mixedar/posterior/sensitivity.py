"""
How the posterior moves where prior or likelihood count more or less.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.exceptions import UnsupportedError, shown
from mixedar.posterior.psis import smoothed
from mixedar.posterior.results import Posterior
from mixedar.summary import ResultFrame

_NOTICEABLE = 0.05


def prior_sensitivity(post: Posterior, step: float = 0.01) -> pd.DataFrame:
    """
    Sensitivity of each parameter to powers of the prior and of the likelihood.

    Parameters
    ----------
    post : Posterior
    step : float
        Densities are raised to ``1 + step`` and ``1 / (1 + step)``.

    Returns
    -------
    DataFrame, a row a parameter
        ``prior`` and ``likelihood``: distance (the square root of the cumulative
        Jensen-Shannon divergence) by doubling of the power; ``diagnosis``: empty, or
        what values of at least 0.05 mean.

    Raises
    ------
    UnsupportedError
        For a step that is not positive.

    References
    ----------
    Kallioinen, N., Paananen, T., Buerkner, P.-C. and Vehtari, A. (2024), Detecting and
    diagnosing prior and likelihood sensitivity with power-scaling, Statistics and
    Computing 34, 57.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ").fit()
    >>> found = fit.posterior(draws=4000, rng=1).prior_sensitivity()
    >>> bool(found.loc["age", "prior"] < found.loc["age", "likelihood"])
    True
    """
    if isinstance(step, bool) or not isinstance(step, (int, float)) or not step > 0.0:
        raise UnsupportedError(f"step={shown(step)} is not positive")
    out = pd.DataFrame(index=post.draws.columns)
    for name, logs in zip(("prior", "likelihood"), post.log_densities, strict=True):
        up = np.exp(smoothed(step * logs)[0])
        down = np.exp(smoothed((1.0 / (1.0 + step) - 1.0) * logs)[0])
        out[name] = [
            (_distance(x, up) + _distance(x, down)) / (2.0 * np.log2(1.0 + step))
            for x in post.draws.to_numpy().T
        ]
    moved = out >= _NOTICEABLE
    out["diagnosis"] = np.select(
        [moved["prior"] & moved["likelihood"], moved["prior"]],
        ["prior and data may disagree", "the prior tells more than the data"],
        "",
    )
    return ResultFrame.of(out)


def _distance(x: FloatArray, weights: FloatArray) -> float:
    """Between a sample and itself weighted: the larger of both tails' distances."""
    return max(_one_sided(x, weights), _one_sided(-x, weights))


def _one_sided(x: FloatArray, weights: FloatArray) -> float:
    order = np.argsort(x)
    width = np.diff(x[order])
    p = np.arange(1, len(x)) / len(x)
    q = np.cumsum(weights[order])[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = np.log2(0.5 * (p + q))
        forth = np.where(p > 0.0, p * (np.log2(p) - middle), 0.0)
        back = np.where(q > 0.0, q * (np.log2(q) - middle), 0.0)
    p_area, q_area = float(p @ width), float(q @ width)
    # the terms of the two areas cancel in the sum of both directions
    total = float((forth + back) @ width)
    bound = p_area + q_area
    return float(np.sqrt(max(total, 0.0) / bound)) if bound > 0.0 else 0.0
