"""Smooths are part of the population's mean, whatever is asked; by dense algebra."""

from __future__ import annotations

import pickle
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.data.variables import picture_rows
from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.prediction.curves import levels_of, population_means

FORMULA = 'y ~ arm + s(time, by=arm, bs="cr", k=6) + (1 | id)'
NEW = pd.DataFrame({"arm": ["a", "b", "b"], "time": [2.5, 3.5, 9.0]})


@cache
def arms(groups: int = 24, seed: int = 4) -> pd.DataFrame:
    """Two arms with curves of their own, groups observed at some of ten times."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(groups):
        times = np.sort(rng.choice(10, size=6, replace=False))
        noise = rng.normal(size=10)
        for t in range(1, 10):
            noise[t] = 0.5 * noise[t - 1] + np.sqrt(0.75) * noise[t]
        level, arm = rng.normal(), "ab"[i % 2]
        curve = np.sin(times / 1.5) if arm == "a" else 1.5 * np.cos(times / 2.0)
        y = 3.0 + curve + level + 0.7 * noise[times]
        rows.append(pd.DataFrame({"id": f"u{i}", "time": times, "arm": arm, "y": y}))
    return pd.concat(rows, ignore_index=True)


@cache
def with_sites() -> pd.DataFrame:
    """The same, and sites with levels and slopes of their own."""
    rng, own = np.random.default_rng(8), arms().copy()
    own["site"] = own["id"].str[1:].astype(int) % 6
    levels, slopes = rng.normal(size=(2, 6)) * [[1.5], [0.3]]
    own["y"] += levels[own["site"]] + slopes[own["site"]] * own["time"]
    return own


@cache
def fitted(formula: str = FORMULA) -> Any:
    return mar.mixedlm(formula, arms(), time="time").fit()


class Dense:
    """Henderson's equations, with the covariance of residuals and groups' effects."""

    def __init__(self, fit: Any) -> None:
        data = fit.fit.data
        own = arms()
        times, same = (
            own["time"].to_numpy(),
            np.equal.outer(*[own["id"].to_numpy()] * 2),
        )
        lag = np.abs(np.subtract.outer(times, times))
        self.h = same * (fit.params["id Var"] + fit.scale * fit.rho**lag)
        self.design = np.hstack([data.exog, data.smooth_design])
        variances = [
            fit.params[f"{term.factor} Var"]
            for term in data.terms
            for _ in range(term.copies)
        ]
        self.penalty = np.diag(
            np.concatenate([np.zeros(data.k_fe), 1 / np.array(variances)])
        )
        self.inverse = np.linalg.inv(self.h)
        self.cov = np.linalg.inv(
            self.design.T @ self.inverse @ self.design + self.penalty
        )
        self.coefficients = self.cov @ self.design.T @ self.inverse @ data.endog
        self.groups = pd.factorize(own["id"])[0]

    def rows(self, fit: Any, table: pd.DataFrame) -> np.ndarray:
        spec = fit.fit.formula_spec
        return np.hstack([spec.matrix(table), fit.fit.population.columns(table)])


def test_likelihood() -> None:
    fit, dense = fitted(), Dense(fitted())
    data = fit.fit.data
    z, p = data.smooth_design, data.k_fe
    variances = 1.0 / np.diag(dense.penalty)[p:]
    v = dense.h + (z * variances) @ z.T
    x, y = data.exog, data.endog
    vx = np.linalg.solve(v, x)
    rest = y - x @ np.linalg.solve(x.T @ vx, vx.T @ y)
    llf = np.linalg.slogdet(v)[1] + np.linalg.slogdet(x.T @ vx)[1]
    llf += rest @ np.linalg.solve(v, rest) + (len(y) - p) * np.log(2 * np.pi)
    np.testing.assert_allclose(fit.llf, -0.5 * llf, rtol=1e-9)


def test_predictions_have_smooths_at_every_door() -> None:
    fit, dense = fitted(), Dense(fitted())
    rows = dense.rows(fit, NEW)
    mean, error = rows @ dense.coefficients, np.sqrt(np.diag(rows @ dense.cov @ rows.T))
    found = fit.get_prediction(NEW).summary_frame()
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-8)
    np.testing.assert_allclose(found["mean_se"], error, rtol=1e-7)
    np.testing.assert_allclose(fit.predict(NEW), mean, rtol=1e-8)
    own = dense.design @ dense.coefficients
    np.testing.assert_allclose(fit.fitted_marginal, own, rtol=1e-8)
    np.testing.assert_allclose(fit.predict(), own, rtol=1e-8)
    np.testing.assert_allclose(fit.predict(arms()), own, rtol=1e-8)


def test_marginal_means_and_their_contrasts() -> None:
    fit, dense = fitted(), Dense(fitted())
    means = fit.marginal_means("arm", at={"time": [2, 7]})
    grid = pd.DataFrame({"arm": list("aabb"), "time": [2, 7, 2, 7]})
    rows = dense.rows(fit, grid).reshape(2, 2, -1).mean(axis=1)
    np.testing.assert_allclose(
        means.to_frame()["mean"], rows @ dense.coefficients, rtol=1e-8
    )
    pair = means.pairwise().iloc[0]
    row = rows[0] - rows[1]
    np.testing.assert_allclose(pair["difference"], row @ dense.coefficients, rtol=1e-7)
    np.testing.assert_allclose(pair["se"], np.sqrt(row @ dense.cov @ row), rtol=1e-7)


def test_contrast_without_fixed_part_is_normal() -> None:
    fit = fitted('y ~ arm + s(time, bs="cc", k=6) + (1 | id)')
    means = fit.marginal_means("time", at={"time": [2, 5]})
    pair = means.pairwise().iloc[0]
    assert np.isinf(pair["df"])
    at = [fit.predict(NEW.assign(time=t, arm="a"))[0] for t in (2, 5)]
    np.testing.assert_allclose(pair["difference"], at[0] - at[1], rtol=1e-9)


def test_draws_keep_the_curve() -> None:
    fit = fitted()
    draws = fit.simulate(4000, seed=1)
    spread = np.sqrt(fit.params["id Var"] + fit.scale)
    z = (draws.mean(axis=1) - fit.fitted_marginal) / spread * np.sqrt(4000)
    assert np.abs(z).max() < 4.5
    np.testing.assert_allclose(draws.std(axis=1).mean(), spread, rtol=0.02)
    new = fit.simulate(4000, seed=1, newdata=arms().head(6))
    np.testing.assert_allclose(
        new.mean(axis=1), fit.fitted_marginal[:6], atol=5 * spread / np.sqrt(4000)
    )
    stated = {"s(time):arma Var": 2.0}
    with pytest.raises(UnsupportedError, match="stays as it was estimated"):
        fit.simulate(1, params=stated)
    fit.simulate(1, params=fit.params)


def test_shares_of_variance_and_covariance_of_a_group() -> None:
    fit = fitted()
    groups, rest = fit.params["id Var"], fit.scale
    fixed = np.var(fit.fitted_marginal, ddof=1)
    np.testing.assert_allclose(
        fit.r2()["marginal"], fixed / (fixed + groups + rest), rtol=1e-10
    )
    assert list(fit.icc().index) == ["id", "adjusted", "unadjusted"]
    np.testing.assert_allclose(fit.icc()["id"], groups / (groups + rest), rtol=1e-10)
    variances = np.diag(fit.group_covariance("u0"))
    np.testing.assert_allclose(variances, groups + rest, rtol=1e-10)


def test_no_factor_is_made_of_a_smooth() -> None:
    fit = fitted()
    assert "No. levels" not in str(fit.summary())
    assert not fit.fit.crosses_factors
    assert fit.ranef().index.name == "id"
    with pytest.raises(UnsupportedError, match="has no levels"):
        fit.coef("s(time):arma")
    plain = mar.mixedlm("y ~ arm * time + (1 | id)", arms(), time="time").fit()
    assert fit.df["arm[T.b]"] == plain.df["arm[T.b]"]


@pytest.mark.parametrize("kind", ["CR0", "CR2"])
def test_robust_errors_cluster_by_groups(kind: str) -> None:
    fit, dense = fitted(), Dense(fitted())
    x, bread, h = dense.design, dense.cov, dense.h
    rest = arms()["y"].to_numpy() - x @ dense.coefficients
    meat, weight = np.zeros_like(bread), np.zeros_like(bread)
    for g in range(24):
        rows = np.flatnonzero(dense.groups == g)
        here = np.ix_(rows, rows)
        left = x[rows].T @ np.linalg.inv(h[here])
        weight += left @ x[rows]
        adjust = np.eye(len(rows))
        if kind == "CR2":  # the symmetric A with A (H - X C X') A = H, by H's root
            root = np.linalg.cholesky(h[here])
            inner = root.T @ (h[here] - x[rows] @ bread @ x[rows].T) @ root
            values, vectors = np.linalg.eigh(inner)
            adjust = root @ (vectors / np.sqrt(values)) @ vectors.T @ root.T
        score = left @ adjust @ rest[rows]
        meat += np.outer(score, score)
    cov = bread @ meat @ bread + bread - bread @ weight @ bread
    robust = fit.get_robustcov_results(kind)
    p = len(fit.fe_params)
    np.testing.assert_allclose(robust.bse_fe, np.sqrt(np.diag(cov)[:p]), rtol=1e-6)
    rows = dense.rows(fit, NEW)
    found = robust.get_prediction(NEW).summary_frame()["mean_se"]
    np.testing.assert_allclose(found, np.sqrt(np.diag(rows @ cov @ rows.T)), rtol=1e-6)


def test_robust_errors_beside_another_factor() -> None:
    formula = "y ~ s(time, k=5) + (1 | id) + (1 + time | site)"
    fit = mar.mixedlm(formula, with_sites(), groups="id", time="time").fit()
    with pytest.raises(NotComputedError, match="smooths beside random effects"):
        fit.get_robustcov_results()


def test_leaving_a_group_out_is_a_parameter_for_each_of_its_rows() -> None:
    fit = fitted("y ~ s(time, k=5) + (1 | id)")
    rows = np.flatnonzero(arms()["id"] == "u3")
    data = arms().copy()
    for k, row in enumerate(rows):
        data[f"row{k}"] = np.arange(len(data)) == row
        data[f"row{k}"] = data[f"row{k}"].astype(float)
    dummies = " + ".join(f"row{k}" for k in range(len(rows)))
    formula = f"y ~ {dummies} + s(time, k=5) + (1 | id)"
    without = mar.mixedlm(formula, data, time="time").fit()
    found = fit.influence().params.loc["u3"]
    for name in ("Intercept", "s(time)Fx1", "id Var", "s(time) Var", "rho"):
        np.testing.assert_allclose(found[name], without.params[name], rtol=2e-4)


def test_likelihood_ratio_of_a_line() -> None:
    line = mar.mixedlm("y ~ time + (1 | id)", arms(), time="time").fit(reml=False)
    model = mar.mixedlm("y ~ s(time, k=5) + (1 | id)", arms(), time="time")
    table = line.anova(model.fit(reml=False))
    assert table["null"].iloc[1] == "0.5 chi2(0) + 0.5 chi2(1)"
    assert table["LR_df"].iloc[1] == 1
    own = arms().assign(x=np.random.default_rng(1).uniform(-2, 2, size=len(arms())))
    own["y"] += np.sin(own["time"] / 2.0) * own["x"] ** 2
    flat = mar.mixedlm("y ~ time * x + (1 | id)", own, time="time").fit(reml=False)
    surface = mar.mixedlm("y ~ te(time, x, k=4) + (1 | id)", own, time="time")
    note = flat.anova(surface.fit(reml=False))["note"].iloc[1]
    assert "no meaning where its variance is zero" in note


def test_without_data_and_pickled() -> None:
    fit = pickle.loads(pickle.dumps(fitted()))
    before = fit.get_prediction(NEW).summary_frame()
    fit.remove_data()
    for one in (fit, pickle.loads(pickle.dumps(fit))):
        after = one.get_prediction(NEW).summary_frame()
        np.testing.assert_allclose(after, before, rtol=1e-10)
        np.testing.assert_allclose(one.predict(NEW), before["mean"], rtol=1e-10)


def test_band_of_the_population_has_the_variance_of_all_factors() -> None:
    formula = "y ~ time + (1 | id) + (1 + time | site)"
    fit = mar.mixedlm(formula, with_sites(), groups="id", time="time").fit().fit
    frame = population_means(fit, picture_rows(fit.data), levels_of(fit.data, None, 1))
    at = frame[frame["x"] == 9.0].iloc[0]
    z = np.array([1.0, 9.0])
    variance = fit.scale + fit.cov_re[0, 0] + z @ fit.term_covs[0] @ z
    np.testing.assert_allclose(
        (at["high"] - at["low"]) / 2.0, 1.959964 * np.sqrt(variance), rtol=1e-5
    )


def test_every_question_has_an_answer() -> None:
    fit = fitted()
    for name in ("diagnose", "predictive_check", "normality_test", "shrinkage"):
        assert getattr(fit, name)() is not None
    for kind in ("raw", "pearson", "normalized", "studentized"):
        assert np.isfinite(fit.residuals(kind)).all()
    ahead = arms().iloc[[5]].assign(time=12)
    ahead_of = fit.get_prediction(ahead, "forecast").predicted_mean[0]
    of_group = fit.get_prediction(ahead, "group").predicted_mean[0]
    assert 0.0 < abs(ahead_of - of_group) < 1.0
    table = mar.compare({"smooth": fit}).statistics
    assert not any("Levels of" in str(row) for row in table.index)
