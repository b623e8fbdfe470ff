"""Smooths of each group are variance components of the groups."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

import mixedar.formula.api as mar

FORMULA = 'y ~ s(time, k=5) + s(time, id, bs="fs", k=5)'


@cache
def curves(groups: int = 20) -> pd.DataFrame:
    rng = np.random.default_rng(11)
    time = np.tile(np.arange(8.0), groups) + rng.uniform(0, 0.5, 8 * groups)
    code = np.repeat(np.arange(groups), 8)
    height, turn = rng.normal(size=(2, groups)) * [[0.8], [1.5]]
    y = 2.0 + np.sin(time) + height[code] + np.cos(time + turn[code])
    y += 0.4 * rng.normal(size=len(time))
    return pd.DataFrame(
        {"id": np.array([f"g{k:02d}" for k in code]), "time": time, "y": y}
    )


@cache
def fitted() -> Any:
    return mar.mixedlm(FORMULA, curves(), groups="id", residual="independent").fit()


def dense(fit: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariance of the rows, of groups' curves alone, and what the mean leaves."""
    data, same = fit.fit.data, np.equal.outer(*[curves()["id"].to_numpy()] * 2)
    own = np.zeros((len(same), len(same)))
    for variance, matrix in zip(fit.vcomp, data.components.matrices, strict=True):
        own += variance * (matrix @ matrix.T) * same
    z = data.smooth_design
    v = own + fit.params["s(time) Var"] * z @ z.T + fit.scale * np.eye(len(own))
    x = data.exog
    vx = np.linalg.solve(v, x)
    return v, own, data.endog - x @ np.linalg.solve(x.T @ vx, vx.T @ data.endog)


def test_components_and_their_likelihood() -> None:
    fit = fitted()
    names = ["s(time,id)", "s(time,id) constant", "s(time,id) line"]
    assert fit.model.arrays.component_names == names
    assert [term.factor for term in fit.fit.data.terms] == ["s(time)"]
    v, _, rest = dense(fit)
    x = fit.model.exog
    n, p = x.shape
    llf = np.linalg.slogdet(v)[1] + rest @ np.linalg.solve(v, rest)
    llf += np.linalg.slogdet(x.T @ np.linalg.solve(v, x))[1]
    np.testing.assert_allclose(
        fit.llf, -0.5 * (llf + (n - p) * np.log(2 * np.pi)), rtol=1e-9
    )


def test_predictions_of_known_and_new_groups() -> None:
    fit = fitted()
    v, own, rest = dense(fit)
    of_groups = own @ np.linalg.solve(v, rest)
    np.testing.assert_allclose(
        fit.fittedvalues - fit.fitted_marginal, of_groups, atol=1e-7
    )
    some = curves().iloc[[3, 50]]
    group = fit.get_prediction(some, "group").summary_frame()
    np.testing.assert_allclose(group["mean"], fit.fittedvalues.iloc[[3, 50]], rtol=1e-8)
    new = fit.get_prediction(some.assign(id="new"), "group", unknown="population")
    mean = fit.get_prediction(some).summary_frame()
    frame = new.summary_frame()
    np.testing.assert_allclose(frame["mean"], mean["mean"], rtol=1e-10)
    added = frame["mean_se"] ** 2 - mean["mean_se"] ** 2
    np.testing.assert_allclose(added, np.diag(own)[[3, 50]], rtol=1e-8)


def test_names_and_draws() -> None:
    fit = fitted()
    assert "s(time,id)[1]" in fit.random_effects_frame().columns
    assert "No. levels" not in str(fit.summary())
    draws = fit.simulate(3000, seed=2, newdata=curves().head(8))
    _, own, _ = dense(fit)
    variance = np.diag(own)[:8] + fit.scale
    np.testing.assert_allclose(draws.var(axis=1), variance, rtol=0.15)
