"""Refits of the parametric bootstrap find what a full search finds."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.engine.newton import newton
from mixedar.engine.search import find_modes
from mixedar.exceptions import BoundaryWarning
from mixedar.inference.bootstrap import Refitter, bootstrap


def growth_like(seed: int, rho: float, m: int = 30, n: int = 5) -> pd.DataFrame:
    """Random intercepts and slopes with AR(1): surfaces with several maxima."""
    rng = np.random.default_rng(seed)
    group, time = np.repeat(np.arange(m), n), np.tile(np.arange(n), m)
    apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    noise = rng.normal(size=(m, n)) @ np.linalg.cholesky(rho**apart).T
    effects = rng.normal(size=(m, 2)) * [1.0, 0.5]
    y = effects[group, 0] + effects[group, 1] * time + noise.ravel()
    return pd.DataFrame({"id": group, "time": time, "x": group % 2, "y": y})


def fitted(data: pd.DataFrame, **options: object) -> object:
    arguments = {"re_formula": "~time", "groups": "id", "time": "time", **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        return mar.mixedlm("y ~ time * x", data, **arguments).fit()


def test_no_replicate_lies_below_the_full_search() -> None:
    fit = fitted(growth_like(4, 0.8))
    refitter = Refitter(fit.fit)
    distribution = fit.get_distribution()
    rng = np.random.default_rng(1)
    gain = []
    for _ in range(60):
        problem, search = refitter.fit(distribution.rvs(rng=rng))
        assert search.converged
        assert search.llf > find_modes(problem)[0].search.llf - 1e-6

        def evaluate(theta, problem=problem):
            return problem.evaluate(theta, derivatives=True)

        alone = newton(evaluate, refitter.start, gtol=1e-8, polish=False)
        gain.append(search.llf - alone.llf)
    # a search from the estimate alone ends in lower maxima now and then
    assert min(gain) > -1e-6
    assert max(gain) > 0.01


@pytest.mark.parametrize(
    "options",
    [
        {"re_formula": "~1"},
        {"re_formula": "~1", "residual": "independent"},
        {"re_formula": "0"},
        {"residual": "car1"},
        {"re_cov": "diagonal"},
        {"re_formula": "0", "vc_formula": {"slope": "0 + time"}},
    ],
    ids=["intercept", "independent", "no random effects", "car1", "diagonal", "vc"],
)
def test_other_models_agree_with_refit(options: dict[str, object]) -> None:
    fit = fitted(growth_like(2, 0.5), **options)
    draws = bootstrap(fit.fit, 8, seed=3).to_frame()
    distribution, rng = fit.get_distribution(), np.random.default_rng(3)
    for _, row in draws.iterrows():
        other = fit.model.refit(distribution.rvs(rng=rng))
        assert row["llf"] > other.llf - 1e-6
        if abs(row["llf"] - other.llf) < 1e-6:
            assert row["time"] == pytest.approx(other.params["time"], abs=1e-3)
            assert row["scale"] == pytest.approx(other.scale, rel=2e-2)


def test_clusters_too_many_for_dense_matrices() -> None:
    rng = np.random.default_rng(0)
    data = growth_like(1, 0.4, m=120, n=6)
    data["w"] = rng.normal(size=len(data))
    fit = fitted(data, re_formula="~w")
    draws = bootstrap(fit.fit, 4, seed=3).to_frame()
    distribution, rng = fit.get_distribution(), np.random.default_rng(3)
    for llf in draws["llf"]:
        assert llf == pytest.approx(
            fit.model.refit(distribution.rvs(rng=rng)).llf, abs=1e-5
        )


def test_singular_covariances_are_drawn_from() -> None:
    # eigenvalues that are positive by rounding, and no Cholesky factor
    fit = fitted(growth_like(2, 0.5))
    rng = np.random.default_rng(0)
    none = 0
    for _ in range(100):
        root = rng.normal(size=2)
        cov = np.outer(root, root)
        try:
            np.linalg.cholesky(cov)
        except np.linalg.LinAlgError:
            none += np.linalg.eigvalsh(cov)[0] > 0.0
        params = [*fit.fe_params, *cov[np.tril_indices(2)], 0.5]
        y = fit.model.get_distribution(params, 1e-12).rvs(rng=rng)
        assert np.isfinite(y).all()
    assert none > 10
