"""Known residual variances, as in a meta-analysis."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

import mixedar.formula.api as mar
from mixedar import MixedLMAR
from mixedar.datasets import load_orthodont
from mixedar.exceptions import IdentificationError, NotComputedError, UnsupportedError


@cache
def trials() -> pd.DataFrame:
    """Effects of 15 studies with the variances of their errors; do not change."""
    rng = np.random.default_rng(7)
    data = pd.DataFrame({"study": np.arange(15), "vi": rng.uniform(0.02, 0.5, 15)})
    data["x"] = rng.normal(size=15)
    data["yi"] = 0.3 + 0.4 * data["x"] + 0.4 * rng.normal(size=15)
    data["yi"] += np.sqrt(data["vi"]) * rng.normal(size=15)
    data["w"] = 1.0 / data["vi"]
    return data


def meta(reml: bool = True, **options: Any) -> Any:
    given = {"groups": "study", "weights": "w", "scale": 1.0, **options}
    return mar.mixedlm("yi ~ x", trials(), **given).fit(reml=reml)


# rma(yi, vi, mods = ~ x, method = ...) of metafor 3.8-1: tau2, coefficients, their
# standard errors, upper limit of confint(type = "PL")
METAFOR = {
    True: (0.1734848269, [0.2399479860, 0.2709049938], [0.2055449851, 0.1790113922]),
    False: (0.1177370835, [0.2392657471, 0.2775407233], [0.1882605722, 0.1647120584]),
}
UPPER = {True: 0.7265443409, False: 0.5392549219}


@pytest.mark.parametrize("reml", [True, False])
def test_metafor(reml: bool) -> None:
    fit = meta(reml)
    tau2, coefficients, errors = METAFOR[reml]
    assert fit.params["study Var"] == pytest.approx(tau2, abs=1e-6)
    assert_allclose(fit.fe_params, coefficients, atol=1e-6)
    assert_allclose(fit.bse_fe, errors, atol=1e-6)
    assert fit.scale == 1.0
    limits = fit.conf_int_re("profile").loc["study Var"]
    assert limits["lower"] == 0.0
    assert limits["upper"] == pytest.approx(UPPER[reml], abs=1e-4)


def test_likelihood_and_what_counts() -> None:
    # logLik and AIC of that fit by ML, and of nlme's with lmeControl(sigma = 1)
    fit = meta(reml=False)
    assert fit.llf == pytest.approx(-13.27110365, abs=1e-7)
    assert fit.aic == pytest.approx(32.5422073, abs=1e-6)
    assert fit.df_modelwc == 3
    fixed = meta(reml=False, re_formula="0")
    x = np.column_stack([np.ones(15), trials()["x"]])
    vi = trials()["vi"].to_numpy()
    cov = np.linalg.inv(x.T @ (x / vi[:, None]))
    assert_allclose(fixed.cov_params(), cov, rtol=1e-10)
    assert fixed.anova(fit)["LR"].iloc[1] == pytest.approx(2 * (fit.llf - fixed.llf))


def dense(data: pd.DataFrame, sigma2: float, reml: bool) -> Any:
    """Maximum over the other parameters of the likelihood written out."""
    X = np.column_stack([np.ones(len(data)), data["age"]])
    y, groups = data["distance"].to_numpy(), data["subject"].to_numpy()
    t = data["occ"].to_numpy(dtype=float)
    same = groups[:, None] == groups
    lag = np.abs(t[:, None] - t)

    def deviance(at: Any) -> float:
        V = same * (np.exp(at[0]) + sigma2 * np.tanh(at[1]) ** lag)
        weighted = np.linalg.solve(V, np.column_stack([X, y]))
        beta = np.linalg.solve(X.T @ weighted[:, :2], X.T @ weighted[:, 2])
        e = y - X @ beta
        out = np.linalg.slogdet(V)[1] + e @ np.linalg.solve(V, e)
        out += (len(y) - 2 * reml) * np.log(2 * np.pi)
        return float(out + reml * np.linalg.slogdet(X.T @ weighted[:, :2])[1])

    found = minimize(deviance, [1.0, 0.1], method="Nelder-Mead", tol=1e-10)
    return -0.5 * found.fun, np.exp(found.x[0]), np.tanh(found.x[1])


@pytest.mark.parametrize("reml", [True, False])
def test_with_correlated_residuals_written_out(reml: bool) -> None:
    data = load_orthodont()
    options = {"groups": "subject", "time": "occ", "scale": 1.44}
    fit = mar.mixedlm("distance ~ age", data, **options).fit(reml=reml)
    llf, variance, rho = dense(data, 1.44, reml)
    assert fit.llf == pytest.approx(llf, abs=1e-6)
    assert fit.params["subject Var"] == pytest.approx(variance, rel=1e-4)
    assert fit.rho == pytest.approx(rho, abs=1e-4)
    # nothing is lost where the variance is the one that is estimated anyway
    free = mar.mixedlm("distance ~ age", data, **{**options, "scale": None}).fit()
    held = mar.mixedlm("distance ~ age", data, **{**options, "scale": free.scale})
    again = held.fit()
    assert again.llf == pytest.approx(free.llf, abs=1e-8)
    assert_allclose(again.params, free.params, atol=1e-5)
    assert again.df_modelwc == free.df_modelwc - 1


def test_slopes_of_nlme() -> None:
    # lme(distance ~ age * sex, random = ~ age | subject, method = "ML",
    #     correlation = corAR1(form = ~ occ | subject),
    #     control = lmeControl(sigma = 1.2)) of nlme 3.1-162
    options = {"groups": "subject", "time": "occ", "re_formula": "~age"}
    model = mar.mixedlm("distance ~ age * sex", load_orthodont(), scale=1.44, **options)
    fit = model.fit(reml=False)
    assert fit.rho == pytest.approx(-0.39078, abs=1e-4)
    assert_allclose(np.diag(fit.cov_re), [8.46833701, 0.0604632760], rtol=1e-4)


def test_degrees_of_freedom_take_the_variance_as_known() -> None:
    """Satterthwaite's from derivatives by differences of ``(X'V^-1 X)^-1``."""
    fit = meta()
    x = np.column_stack([np.ones(15), trials()["x"]])
    vi, tau2 = trials()["vi"].to_numpy(), fit.params["study Var"]

    def cov(at: float) -> Any:
        return np.linalg.inv(x.T @ (x / (vi + at)[:, None]))

    slope = (cov(tau2 + 1e-5) - cov(tau2 - 1e-5)) / 2e-5
    variance = float(fit.cov_params().loc["study Var", "study Var"])
    expected = 2.0 * np.diag(cov(tau2)) ** 2 / (np.diag(slope) ** 2 * variance)
    assert_allclose(fit.with_df("satterthwaite").df, expected, rtol=1e-4)
    inflated = fit.with_df("kenward-roger").bse_fe
    assert (inflated > fit.bse_fe).all()


def test_one_observation_a_group_needs_the_variance() -> None:
    with pytest.raises(IdentificationError, match="residual variance"):
        meta(scale=None, weights=None)
    assert meta(scale=0.1, weights=None).scale == 0.1


def test_what_is_told_and_what_follows() -> None:
    fit = meta()
    assert "1 (known)" in str(fit.summary())
    table = fit.covariance_parameters()
    assert table.loc["scale", "note"] == "held, not estimated"
    with pytest.raises(NotComputedError, match="'scale' is held"):
        fit.profile("scale")
    again = fit.model.refit(trials()["yi"])
    assert again.llf == pytest.approx(fit.llf)
    other = fit.model.with_residual("independent")
    assert other.fit().scale == 1.0
    draws = fit.bootstrap(5, seed=1).to_frame()
    assert (draws["scale"] - 1.0).abs().max() < 1e-12
    assert "scale=1.0" in fit.report(pictures=False)
    frame = fit.get_prediction(trials(), "group").summary_frame()
    sd = frame["obs_ci_upper"] - frame["obs_ci_lower"]
    assert np.corrcoef(sd, trials()["vi"])[0, 1] > 0.9


def test_what_would_estimate_the_variance_is_refused() -> None:
    fit = meta()
    for ask in (
        fit.influence,
        lambda: fit.heteroscedasticity_test(by="x"),
        lambda: fit.model.loglike(np.array([1.0])),
        lambda: fit.profile_re(0, "re"),
        lambda: fit.model.fit(fe_pen=object()),
    ):
        with pytest.raises(UnsupportedError, match="known"):
            ask()


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, "one", True])
def test_impossible_scales(scale: Any) -> None:
    with pytest.raises(UnsupportedError, match="scale="):
        meta(scale=scale)


def test_arrays() -> None:
    data = trials()
    exog = np.column_stack([np.ones(15), data["x"]])
    arrays = data["yi"].to_numpy(), exog, data["study"].to_numpy()
    model = MixedLMAR(*arrays, weights=data["w"].to_numpy(), scale=1)
    assert model.fit().llf == pytest.approx(meta().llf)
