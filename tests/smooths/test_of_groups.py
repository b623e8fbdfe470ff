"""Smooths of each group are variance components of the groups."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.smooth_cases import close, table

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


# tests/reference/smooths/levels.R, mgcv 1.8-41: log-likelihood + log|X'X| / 2; edf of
# the levels, b'V^-1 b, p
CYCLIC = {
    'y ~ s(time, bs="cr", k=6) + s(ph, id, bs="fs", xt="cc", k=6)': (
        *(-350.35097851, 31.17110869033, 119 * 0.465165823298, 7.18300751886e-04),
    ),
    'y ~ s(ph, id, bs="fs", xt="cc", k=5)': (
        *(-359.56147346, 13.9480460143, 95 * 0.196559462218, 0.0706747398837),
    ),
}


@pytest.mark.filterwarnings("ignore::mixedar.exceptions.BoundaryWarning")
@pytest.mark.parametrize("formula", CYCLIC)
def test_cyclic_smooths_of_levels_as_gamm(formula: str) -> None:
    rows = table("smooth_arms").copy()
    rows["ph"] = (rows["time"] - 1) / 12
    code = pd.factorize(rows["id"], sort=True)[0] + 1
    rows["y"] += np.sin(7 * code) * np.sin(2 * np.pi * rows["ph"]) + np.cos(5 * code)
    fit = mar.mixedlm(formula, rows, groups="id", time="time").fit()
    llf, edf, square, p = CYCLIC[formula]
    x = fit.model.exog
    close(fit.llf + 0.5 * np.linalg.slogdet(x.T @ x)[1], llf, 0.0, 1e-6)
    found = fit.smooths.loc["s(ph,id)"]
    close(found["edf"], edf, 1e-4)
    close(found["F"] * found["ref_df"], square, 1e-4)
    close(found["p"], p, 1e-4, 2e-5)


def test_as_nlme_with_the_same_columns() -> None:
    # lme with pdIdent of the columns of each part, AR(1): tests/reference/smooths/fs.R
    rows = table("smooth_arms")
    formula = 'y ~ s(time, bs="cr", k=6) + s(time, id, bs="fs", k=5)'
    fit = mar.mixedlm(formula, rows, groups="id", time="time").fit()
    close(fit.llf, -325.32091533, 0.0, 1e-6)
    close(fit.vcomp, [0.06326258, 0.36701477, 0.10962263], 1e-5)
    close([fit.params["s(time) Var"], fit.scale], [0.02077346, 0.49801382], 1e-5)


def test_beyond_so_many_coefficients_there_is_no_f() -> None:
    rng = np.random.default_rng(5)
    n, code = 1560, np.repeat(np.arange(260), 6)
    rows = pd.DataFrame({"id": code, "x": np.tile(np.arange(6.0), 260)})
    bend, line, level = rng.normal(size=(3, 260))[:, code]
    rows["y"] = 2 * bend * np.sin(rows["x"]) + line * rows["x"] + level
    rows["y"] += rng.normal(size=n)
    formula = 'y ~ x + s(x, id, bs="fs", xt="cr", k=4)'
    fit = mar.mixedlm(formula, rows, groups="id", residual="independent").fit()
    found = fit.smooths.loc["s(x,id)"]
    assert np.isnan(found["F"])
    assert found["note"] == "no F beyond 1,000 coefficients: compare two fits"
