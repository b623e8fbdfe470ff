"""
Draws for ArviZ.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from mixedar._types import FloatArray, Seed
from mixedar.exceptions import NotComputedError
from mixedar.inference.arguments import check_count, understands
from mixedar.posterior.given import replicate
from mixedar.posterior.leave_out import log_likelihood
from mixedar.posterior.results import Posterior

_CHAINS = 4  # of which ArviZ tells whether they agree


@understands(seed="rng", n_sim="draws")
def to_arviz(post: Posterior, draws: int = 1000, rng: Seed = 0) -> Any:
    """
    The posterior as ArviZ has it.

    Draws are independent, and stand in four chains, a quarter of them in each, as
    ArviZ computes R-hat of several.

    Parameters
    ----------
    post : Posterior
    draws : int
        How many of the draws to take at most, in multiples of four.
    rng : int or Generator, optional
        Of the posterior predictive draws.

    Returns
    -------
    arviz.InferenceData, or DataTree with ArviZ 1
        ``posterior``, ``observed_data``, ``posterior_predictive``, and where groups
        are independent ``log_likelihood`` by group.

    Raises
    ------
    NotComputedError
        If ArviZ is not installed.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ").fit()
    >>> post = fit.posterior(draws=1000, rng=1)
    >>> data = post.to_arviz(draws=200)  # doctest: +SKIP
    """
    try:
        arviz = import_module("arviz")
    except ImportError as error:
        raise NotComputedError(
            "to_arviz() needs ArviZ: pip install 'mixedar[arviz]'"
        ) from error
    count = min(check_count(draws, "draws"), len(post))
    chains = min(_CHAINS, count)
    count -= count % chains

    def by_chain(values: FloatArray) -> FloatArray:
        return values.reshape(chains, count // chains, *values.shape[1:])

    name, data = post.fit.endog_name, post.fit.data
    some = post.draws.iloc[:count]
    simulated = replicate(post, count, rng).to_numpy().T
    groups: dict[str, dict[str, Any]] = {
        "posterior": {str(c): by_chain(some[c].to_numpy()) for c in some},
        "posterior_predictive": {name: by_chain(simulated)},
        "observed_data": {name: np.asarray(data.endog)},
    }
    if not data.terms:
        logs = log_likelihood(post, draws=count).to_numpy()
        groups["log_likelihood"] = {name: by_chain(logs)}
    if int(str(arviz.__version__).partition(".")[0]) >= 1:
        return arviz.from_dict(groups)
    return arviz.from_dict(**groups)
