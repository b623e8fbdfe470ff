"""Tests of residuals with random effects of several factors."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.several_factors import crossed_data, nested_data
from mixedar.diagnostics.checkup.residuals import gain_of_effect
from mixedar.diagnostics.residuals.normality import residual_quantiles
from mixedar.diagnostics.residuals.normalized import (
    covariance_factors,
    normalized_residuals,
)
from mixedar.diagnostics.residuals.series import series_rows
from mixedar.diagnostics.simulation import simulated_residuals
from mixedar.engine.problem import LikelihoodProblem
from mixedar.exceptions import BoundaryWarning, UnsupportedError

#: formula, groups, how one factor says the same
CASES = {
    "crossed": (
        crossed_data,
        "y ~ x + (1 | subj) + (1 | item)",
        "subj",
        {"groups": "one", "series": "subj", "re_formula": "0"},
        {"subj": "0 + C(subj)", "item": "0 + C(item)"},
    ),
    "nested": (
        nested_data,
        "y ~ x + (1 | school) + (1 | pupil)",
        "pupil",
        {"groups": "school", "series": "pupil", "re_formula": "1"},
        {"pupil": "0 + C(pupil)"},
    ),
}
every = pytest.mark.parametrize(
    ("kind", "residual"), [(k, r) for k in CASES for r in ("independent", "ar1")]
)


def both(kind: str, residual: str) -> tuple[Any, Any, pd.DataFrame]:
    make, formula, groups, options, parts = CASES[kind]
    data = make()
    several = mar.mixedlm(formula, data, groups=groups, time="t", residual=residual)
    one = mar.mixedlm(
        "y ~ x", data, time="t", residual=residual, vc_formula=parts, **options
    )
    return several.fit(), one.fit(), data


@every
def test_the_same_as_columns_of_one_factor(kind: str, residual: str) -> None:
    several, one, _ = both(kind, residual)
    np.testing.assert_allclose(several.llf, one.llf, rtol=1e-10)
    for ask in (
        lambda fit: fit.acf(max_lag=3),
        lambda fit: fit.variogram(),
        lambda fit: fit.variogram(kind="pearson"),
        lambda fit: fit.serial_correlation_test(lags=3).table,
        lambda fit: fit.heteroscedasticity_test("fitted").table,
        lambda fit: fit.normality_test().table,
        lambda fit: fit.residual_spread("t"),
    ):
        found, expected = ask(several), ask(one)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-6)
    for ask in (
        lambda fit: fit.serial_correlation_test(lags=3),
        lambda fit: fit.heteroscedasticity_test("fitted"),
        lambda fit: fit.heteroscedasticity_test("t", studentize=False),
        lambda fit: fit.normality_test(),
    ):
        found, expected = ask(several), ask(one)
        np.testing.assert_allclose(found.statistic, expected.statistic, rtol=1e-4)
        assert found.df == expected.df


FORMULAS = {
    "crossed": "y ~ x + (x | subj) + (x || item)",
    "nested": "y ~ x + (x | school) + (x | pupil)",
}


@cache
def dense(kind: str, residual: str) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
    """
    A fit with slopes, ``L``, ``P = Cov(u)`` and what the parameters do to ``V``.

    In the caller's order.
    """
    make, _, groups, _, _ = CASES[kind]
    data = make()
    fit = mar.mixedlm(
        FORMULAS[kind], data, groups=groups, time="t", residual=residual
    ).fit()
    n = len(data)
    same = data[groups].to_numpy()[:, None] == data[groups].to_numpy()
    lag = np.abs(np.subtract.outer(data["t"].to_numpy(), data["t"].to_numpy()))
    rho = float(fit.residual_params.get("rho", 0.0))
    r = same * np.where(lag == 0, 1.0, rho**lag)
    order = np.lexsort((data["t"], data[groups]))  # whitened in the order of time
    root = np.zeros((n, n))
    root[np.ix_(order, order)] = np.linalg.cholesky(r[np.ix_(order, order)])
    changes = {}
    if residual == "ar1":
        changes["rho"] = same * np.where(lag == 0, 0.0, lag * rho ** (lag - 1.0))
    v = r.copy()
    for factor in fit.varcorr().index.get_level_values(0).unique().drop("Residual"):
        column = data[factor].to_numpy()
        level = column[:, None] == column
        psi = fit.random_covariance(factor).to_numpy() / fit.scale
        z = np.column_stack([np.ones(n), data["x"]])
        v += level * (z @ psi @ z.T)
        for a in range(2):
            for b in range(a + 1):
                if a == b or psi[a, b] != 0.0:
                    e = np.zeros((2, 2))
                    e[a, b] = e[b, a] = 1.0
                    changes[f"{factor} {a}{b}"] = level * (z @ e @ z.T)
    changes["scale"] = v
    x = np.column_stack([np.ones(n), data["x"]])
    inverse = np.linalg.inv(v)
    bread = np.linalg.inv(x.T @ inverse @ x)
    p = root.T @ (inverse - inverse @ x @ bread @ x.T @ inverse) @ root
    white = np.linalg.inv(root)
    changes = {name: white @ d @ white.T for name, d in changes.items()}
    return fit, root, p, same & (lag == 1), changes


@every
def test_covariance_against_matrices(kind: str, residual: str) -> None:
    fit, root, p, _, _ = dense(kind, residual)
    rows = series_rows(fit.fit)
    order = rows.sort(np.arange(rows.n))
    at = np.ix_(order, order)
    linked = normalized_residuals(fit.fit).clusters.codes
    together = linked[:, None] == linked  # the columns of effects are a cluster's own
    for kind_, whole, expected in (
        ("normalized", np.eye(rows.n), p),
        ("pearson", (root @ root.T)[at], root @ p @ root.T),
    ):
        a = covariance_factors(fit.fit, kind_)
        g, f = a[:, :-2], a[:, -2:]
        found = whole - together * (g @ g.T) - f @ f.T
        np.testing.assert_allclose(found, expected[at], atol=1e-7)


@every
def test_scores_against_matrices(kind: str, residual: str) -> None:
    fit, _, p, neighbours, changes = dense(kind, residual)
    u = fit.residuals("normalized")
    u = np.asarray(u, dtype=float)

    def statistic(a: Any) -> float:
        matrices = [a, *changes.values()]
        images = [p @ b for b in matrices]
        table = np.array([[(b * c.T).sum() for c in images] for b in images]) / 2
        score = np.array([u @ b @ u - (p * b).sum() for b in matrices]) / 2
        weights = table[0, 1:] @ np.linalg.pinv(table[1:, 1:], hermitian=True)
        left = score[0] - weights @ score[1:]
        return left**2 / (table[0, 0] - weights @ table[1:, 0])

    test = fit.serial_correlation_test(lags=1)
    np.testing.assert_allclose(
        test.statistic, statistic(neighbours.astype(float)), rtol=1e-5
    )
    mean = np.asarray(fit.fitted_marginal)
    weights = np.diag((mean - mean.mean()) / mean.std())
    test = fit.heteroscedasticity_test("fitted", trend=True, studentize=False)
    np.testing.assert_allclose(test.statistic, statistic(weights), rtol=1e-5)


@every
def test_spread_of_groups_against_matrices(kind: str, residual: str) -> None:
    fit, _, p, _, _ = dense(kind, residual)
    codes = fit.model.arrays.codes
    u = np.asarray(fit.residuals("normalized"), dtype=float)
    found = fit.residual_spread("groups")
    for k in range(codes.max() + 1):
        here = np.flatnonzero(codes == k)
        own = p[np.ix_(here, here)]
        trace, squares = np.trace(own), (own**2).sum()
        np.testing.assert_allclose(found["df"].iloc[k], trace**2 / squares, rtol=1e-6)
        ratio = np.sqrt((u[here] ** 2).sum() / trace)
        np.testing.assert_allclose(found["ratio"].iloc[k], ratio, rtol=1e-6)


@every
def test_studentized_residuals_and_quantiles(kind: str, residual: str) -> None:
    fit, root, p, _, _ = dense(kind, residual)
    variance = np.diag(root @ p @ root.T) / np.diag(root @ root.T)
    expected = np.asarray(fit.residuals("pearson")) / np.sqrt(variance)
    np.testing.assert_allclose(fit.residuals("studentized"), expected, rtol=1e-6)
    table = residual_quantiles(fit.fit, "pearson")
    scaled = np.sort(expected) / np.sqrt((expected**2).mean())
    np.testing.assert_allclose(table["observed"], scaled, rtol=1e-5, atol=1e-6)


def test_too_many_linked_effects_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, _, _ = both("crossed", "independent")
    monkeypatch.setattr("mixedar.diagnostics.residuals.shared._NUMBERS", 100)
    for ask in (
        fit.serial_correlation_test,
        fit.normality_test,
        fit.residual_spread,
        fit.acf,
        fit.variogram,
    ):
        with pytest.raises(UnsupportedError, match=r"21 effects in .* rows"):
            ask()
    assert len(fit.acf(bounds="white"))


def test_draws_have_the_residuals_covariance() -> None:
    fit, _, p, _, _ = dense("crossed", "ar1")
    found = normalized_residuals(fit.fit)
    rng = np.random.default_rng(1)
    draws, _ = simulated_residuals(fit.fit, found, 20_000, rng, "normalized")
    np.testing.assert_allclose(np.cov(draws), p, atol=0.06)


def test_gain_of_a_slope_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = crossed_data()
    formula = "y ~ x + (1 | subj) + (x || item)"
    fit = mar.mixedlm(formula, data, groups="subj").fit()
    larger = mar.mixedlm("y ~ x + (x || subj) + (x || item)", data, groups="subj").fit()
    seen, evaluate = [], LikelihoodProblem.evaluate

    def counted(self, theta, *, derivatives):
        seen.append(theta)
        return evaluate(self, theta, derivatives=derivatives)

    monkeypatch.setattr(LikelihoodProblem, "evaluate", counted)
    gain = gain_of_effect(fit.fit, data["x"].to_numpy())
    assert 0 < len(seen) <= 12  # the search begins at the fit
    np.testing.assert_allclose(gain.llf, larger.llf - fit.llf, rtol=1e-4)
    sd = np.sqrt(larger.random_covariance("subj").loc["x", "x"])
    np.testing.assert_allclose(gain.value, sd, rtol=1e-3)


def test_some_pairs_are_enough_for_the_correlations_powers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit, _, _ = both("crossed", "independent")
    every = fit.normality_test().table
    monkeypatch.setattr("mixedar.diagnostics.residuals.normality._MOST_PAIRS", 4000)
    some = fit.normality_test().table
    assert (every["n"] != some["n"]).any()
    np.testing.assert_allclose(some["n"], every["n"], rtol=0.03)


def test_advice_on_a_variance_of_a_further_factor_that_is_zero() -> None:
    data = crossed_data()
    data["y"] -= data.groupby("item")["y"].transform("mean")
    model = mar.mixedlm("y ~ x + (1 | subj) + (1 | item)", data, groups="subj")
    with pytest.warns(BoundaryWarning, match="item Var"):
        fit = model.fit()
    assert fit.varcorr().loc[("item", "Intercept"), "variance"] == pytest.approx(0.0)
    assert "leave the term out" in fit.diagnose()["boundary"].sentence
