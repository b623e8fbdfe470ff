"""Intervals for variances, correlations and residual parameters; profiles."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from statsmodels.regression.mixed_linear_model import MixedLMParams

import mixedar.formula.api as mar
from helpers import oracle
from helpers.effort import calls
from helpers.reference_cases import case_names, load, oracle_parameters, oracle_problem
from helpers.reference_fits import NAMES, RECORDED, fitted
from mixedar import AR1
from mixedar.api import VarConstPower, VarIdent
from mixedar.datasets import load_orthodont
from mixedar.exceptions import (
    BoundaryWarning,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.inference.bootstrap import bootstrap
from mixedar.inference.constrained import starts_of
from mixedar.inference.profile import ProfileEngine

LR = float(stats.chi2.isf(0.05, 1)) / 2.0
WITH_INTERVALS = [name for name in RECORDED if load(name).expected.get("intervals")]


def simulated(
    n_groups: int = 30, n_times: int = 5, rho: float = 0.5, seed: int = 3
) -> pd.DataFrame:
    """Random intercept and slope, AR(1) residuals."""
    rng = np.random.default_rng(seed)
    b = rng.normal(size=(n_groups, 2)) * [1.0, 0.4]
    e = rng.normal(size=(n_groups, n_times))
    for k in range(1, n_times):
        e[:, k] = rho * e[:, k - 1] + np.sqrt(1 - rho**2) * e[:, k]
    t = np.tile(np.arange(n_times), n_groups)
    g = np.repeat(np.arange(n_groups), n_times)
    y = 1 + 0.5 * t + b[g, 0] + b[g, 1] * t + e.ravel()
    return pd.DataFrame({"id": g, "t": t, "y": y})


@pytest.mark.parametrize("name", WITH_INTERVALS)
def test_wald_is_nlme_s_with_exact_derivatives(name: str) -> None:
    case, fit = load(name), fitted(name)
    if "boundary" in case.kinds:
        return
    found = fit.conf_int_re("wald")
    expected = {"sigma": case.expected["intervals"]["sigma"]}
    for values in (case.expected["intervals"].get("correlation") or {}).values():
        expected["rho"] = values
    effects = fit.model.data.exog_re_names
    levels = case.expected["intervals"].get("random_sd_cor") or {}
    for level, block in levels.items():
        inner = case.nested is not None and level == case.nested[1]
        for key, values in block.items():
            kind, _, rest = key.rstrip(")").partition("(")
            names = [
                effects[0] if part == "Intercept" else part for part in rest.split(",")
            ]
            if inner:
                assert case.nested is not None
                names = [case.nested[1]]
            label = "corr" if kind == "cor" else "sd"
            expected[f"{label}({', '.join(names)})"] = values
    assert set(expected) <= set(found.index)
    for label, values in expected.items():
        row = found.loc[label, ["lower", "estimate", "upper"]].to_numpy(dtype=float)
        np.testing.assert_allclose(row, values, rtol=1e-4, atol=1e-4)


def test_wald_interval_of_the_growth_data() -> None:
    row = fitted("seed_ar1_reml").conf_int_re("wald", parameters="rho").loc["rho"]
    assert (round(row.lower, 3), round(row.upper, 3)) == (0.563, 0.762)
    assert "flat" in row.note


def test_all_profile_intervals_of_the_growth_model_take_few_passes() -> None:
    fit = fitted("seed_ar1_reml")
    found, effort = calls(fit.conf_int_re)
    assert 0 < effort["cluster_sums"] < 600
    assert np.isfinite(found[["lower", "upper"]].to_numpy(dtype=float)).all()
    assert (found.lower <= found.estimate).all()
    assert (found.estimate <= found.upper).all()
    assert found.attrs["condition"] > 100.0
    # a standard deviation and its square share their path
    np.testing.assert_allclose(
        found.loc["sd(id)", ["lower", "upper"]].to_numpy(dtype=float) ** 2,
        found.loc["id Var", ["lower", "upper"]].to_numpy(dtype=float),
    )


def test_profile_is_lme4_s() -> None:
    # confint(profile(lmer(..., REML = FALSE), which = "theta_", prof.scale =
    # "sdcor")); lme4 interpolates, so to four figures
    found = fitted("sleepstudy_rs_ml").conf_int_re()
    expected = {
        "sd(subject)": (14.3814811, 37.7160187),
        "corr(subject, days)": (-0.4815004, 0.6849861),
        "sd(days)": (3.8011648, 8.7533667),
        "sigma": (22.8982662, 28.8579973),
    }
    for name, values in expected.items():
        row = found.loc[name, ["lower", "upper"]].to_numpy(dtype=float)
        np.testing.assert_allclose(row, values, rtol=5e-5, atol=5e-5)


def dense_profile(name: str, held: str, value: float) -> float:
    """Maximise the textbook likelihood with one parameter held."""
    case = load(name)
    problem, at = oracle_problem(case), oracle_parameters(case)
    assert at.cov_re is not None
    q = len(at.cov_re)
    lower = np.linalg.cholesky(at.cov_re)
    index = np.tril_indices(q)
    start = np.concatenate([lower[index], [np.arctanh(at.rho), np.log(at.sigma2)]])
    position = {"sd": 0, "rho": len(start) - 2, "sigma": len(start) - 1}[held]
    fixed = value
    if held != "sd":
        fixed = np.arctanh(value) if held == "rho" else 2.0 * np.log(value)

    def minus(x: Any) -> float:
        full = np.insert(x, position, fixed)
        factor = np.zeros((q, q))
        factor[index] = full[:-2]
        params = oracle.Parameters(
            sigma2=float(np.exp(full[-1])),
            rho=float(np.tanh(full[-2])),
            cov_re=factor @ factor.T,
        )
        return -oracle.solve(problem, params, case.reml).loglike

    best = optimize.minimize(
        minus, np.delete(start, position), method="BFGS", options={"gtol": 1e-4}
    )
    return -float(best.fun)


@pytest.mark.parametrize(
    ("name", "parameter", "held"),
    [
        ("orthodont_ri_ar1_ml", "rho", "rho"),
        ("orthodont_ri_ar1_ml", "sd(subject)", "sd"),
        ("orthodont_rs_ar1_reml", "rho", "rho"),
        ("predict_orthodont", "sigma", "sigma"),
    ],
)
def test_profile_against_a_dense_evaluation(
    name: str, parameter: str, held: str
) -> None:
    fit = fitted(name)
    row = fit.conf_int_re(parameters=parameter).loc[parameter]
    for end in (row.lower, row.upper):
        assert dense_profile(name, held, end) == pytest.approx(fit.llf - LR, abs=1e-4)


@pytest.mark.parametrize(
    "name", ["sleepstudy_rs_reml", "bodyweight_car1_reml", "sim_nested_ar1_reml"]
)
def test_surface_derivatives(name: str) -> None:
    fit = fitted(name)
    engine = ProfileEngine(fit.fit)
    rng, start = np.random.default_rng(1), starts_of(fit.fit)[0]
    for target in engine.parameters:
        path = engine.path(target)
        x = path.nodes[path.center].x
        x = x + 0.02 * rng.normal(size=len(x)) * path.likelihood.natural(start.s)
        t = path.center + 0.1 * path.standard_error
        point = path.likelihood.evaluate(x, t)
        h = 1e-6

        def slope(d: Any, x: Any = x, t: Any = t, path: Any = path) -> Any:
            ahead, back = (path.likelihood.evaluate(x + s * d, t) for s in (1, -1))
            return (
                (ahead.llf - back.llf) / 2e-6,
                (ahead.gradient - back.gradient) / 2e-6,
            )

        for k, direction in enumerate(np.eye(len(x)) * h):
            first, second = slope(direction)
            size = 1.0 + np.abs(point.gradient).max()
            assert abs(first - point.gradient[k]) < 1e-5 * size
            size = 1.0 + np.abs(point.hessian).max()
            assert np.abs(second - point.hessian[k]).max() < 1e-5 * size
        along = (
            path.likelihood.evaluate(x, t + h).llf
            - path.likelihood.evaluate(x, t - h).llf
        )
        assert abs(along / (2 * h) - point.slope) < 1e-5 * (1 + abs(point.slope))
        ahead, back = (
            path.likelihood.evaluate(x, t + step).gradient for step in (h, -h)
        )
        size = 1.0 + np.abs(point.cross).max(initial=0.0)
        assert np.abs((ahead - back) / (2 * h) - point.cross).max() < 1e-5 * size


@pytest.mark.parametrize("name", [n for n in NAMES if "crossed" not in n])
def test_never_fails_and_says_why(name: str) -> None:
    fit = fitted(name)
    for method in ("profile", "wald"):
        found = fit.conf_int_re(method)
        ends = found[["lower", "upper"]].astype(float)
        missing = ~np.isfinite(ends).all(axis=1)
        assert (found.note[missing] != "").all()
        if method == "profile":
            assert found.note[missing].isin(["held, not estimated"]).all()
            assert (ends.lower[~missing] <= found.estimate[~missing] + 1e-9).all()
            assert (ends.upper[~missing] >= found.estimate[~missing] - 1e-9).all()


@pytest.mark.parametrize("name", case_names("ar1", "boundary"))
def test_boundary_gives_one_sided_intervals(name: str) -> None:
    fit = fitted(name)
    found = fit.conf_int_re()
    assert found.note.str.contains("one-sided").any()
    wald = fit.conf_int_re("wald")
    assert wald.note.str.contains("method='profile'").any()


def test_large_samples_profile_and_wald_agree() -> None:
    fit = fitted("seed_gls_ar1_reml")
    profile, wald = fit.conf_int_re(), fit.conf_int_re("wald")
    width = (wald.upper - wald.lower).astype(float)
    for end in ("lower", "upper"):
        assert (np.abs(profile[end] - wald[end]) < 0.05 * width).all()


def test_profile_object() -> None:
    fit = fitted("orthodont_ri_ar1_ml")
    profile = fit.profile("rho")
    frame = profile.to_frame()
    assert list(frame.columns) == ["value", "zeta", "llf"]
    assert (np.diff(frame.value) > 0).all()
    assert (np.diff(frame.zeta) > 0).all()
    np.testing.assert_allclose(
        2 * (fit.llf - frame.llf), frame.zeta**2, rtol=1e-6, atol=1e-9
    )
    for alpha, tolerance in ((0.05, 1e-6), (0.1, 1e-3), (0.01, 1e-3)):
        exact = fit.conf_int_re(alpha=alpha, parameters="rho").loc["rho"]
        np.testing.assert_allclose(
            profile.conf_int(alpha), [exact.lower, exact.upper], atol=tolerance
        )
    again = pickle.loads(pickle.dumps(profile))
    np.testing.assert_array_equal(again.zeta, profile.zeta)
    # slopes of zeta against differences
    middle = np.diff(profile.zeta) / np.diff(profile.grid)
    inner = (profile.slope[1:] + profile.slope[:-1]) / 2
    ok = np.isfinite(inner)
    np.testing.assert_allclose(middle[ok], inner[ok], rtol=0.02)
    with pytest.raises(UnsupportedError, match="beyond the grid"):
        profile.conf_int(1e-6)


def test_profile_plot() -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    axes = fitted("orthodont_ri_ar1_ml").profile("sd(subject)").plot()
    assert [axis.get_xlabel() for axis in axes] == ["sd(subject)"] * 2
    assert [axis.get_ylabel() for axis in axes] == ["zeta", "log-likelihood"]
    plt.close("all")


def test_correlation_is_flat_where_a_variance_may_vanish() -> None:
    profile = fitted("seed_ar1_reml").profile("corr(id, time)")
    # far below, the best fit has no intercept variance, and correlation is moot
    low = profile.likelihood[profile.grid < -0.4]
    assert np.ptp(low) < 1e-6
    assert (profile.likelihood >= low.max() - 1e-6).all()


def test_variance_at_zero_is_named() -> None:
    data = simulated(seed=1)
    model = mar.mixedlm("y ~ t", data, groups="id", time="t")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = model.fit()
    found = fit.conf_int_re(parameters=["sd(id)"])
    if fit.at_boundary:
        assert found.lower.iloc[0] == 0.0
        assert "one-sided" in found.note.iloc[0]


def test_bootstrap_keeps_the_residual_correlation() -> None:
    data = simulated()
    model = mar.mixedlm("y ~ t", data, groups="id", time="t")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = model.fit()
    draws, effort = calls(lambda: fit.bootstrap(200, seed=1))
    assert 0 < effort["cluster_sums"] < 25 * 200
    frame = draws.to_frame()
    assert list(frame.columns) == [*fit.params.index, "scale", "llf"]
    again = bootstrap(fit.fit, 200, seed=1).to_frame()
    pd.testing.assert_frame_equal(frame, again)
    # around the truth that was simulated from
    error = frame["t"].std() / fit.bse_fe["t"]
    assert 0.8 < error < 1.25
    assert abs(frame["rho"].median() - fit.rho) < 0.15
    found = fit.conf_int_re("bootstrap", n_boot=100, seed=1, progress=False)
    assert (found.lower <= found.upper).all()


def test_bootstrap_finds_what_refit_finds() -> None:
    data = simulated(rho=0.3)
    fit = mar.mixedlm("y ~ t", data, groups="id", re_formula="~t", time="t")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = fit.fit()
    draws = bootstrap(fit.fit, 15, seed=7).to_frame()
    rng = np.random.default_rng(7)
    distribution = fit.get_distribution()
    for llf, rho in zip(draws.llf, draws.rho, strict=True):
        other = fit.model.refit(distribution.rvs(rng=rng))
        assert other.llf == pytest.approx(llf, abs=1e-5)
        assert other.rho == pytest.approx(rho, abs=1e-3)


def test_held_patterns() -> None:
    rng = np.random.default_rng(0)
    data = simulated(60, 6, seed=4)
    w = rng.normal(size=len(data))
    data["w"], b = w, rng.normal(size=60)
    data["y"] += b[data["id"]] * w
    model = mar.mixedlm("y ~ t", data, groups="id", re_formula="~t + w", time="t")
    pattern = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 1.0]])
    free = MixedLMParams.from_components(fe_params=np.ones(2), cov_re=pattern)
    fit = model.fit(free=free)
    found = fit.conf_int_re()
    assert found.loc["rho", "method"] == "profile"
    # rows of this factor cannot be reordered: Wald, and it says so
    assert found.loc["sd(w)", "method"] == "wald"
    assert "no profile" in found.loc["sd(w)", "note"]
    row = fit.conf_int_re("wald").loc["sd(w)"]
    assert found.loc["sd(w)", "lower"] == row.lower
    assert found.loc["corr(id, t)", "note"] == "held, not estimated"
    diagonal = mar.mixedlm(
        "y ~ t", data, groups="id", re_formula="~t + w", time="t", re_cov="diagonal"
    ).fit()
    found = diagonal.conf_int_re()
    names = ["sd(id)", "sd(t)", "sd(w)", "rho", "sigma"]
    assert (found.loc[names, "method"] == "profile").all()
    assert np.isfinite(found.loc[names, "upper"].to_numpy(dtype=float)).all()


def test_fixed_rho_is_not_profiled() -> None:
    data = simulated(40, 6, seed=2)
    model = mar.mixedlm(
        "y ~ t", data, groups="id", re_formula="~t", time="t", residual=AR1(0.3, True)
    )
    found = model.fit().conf_int_re()
    assert found.loc["rho", "note"] == "held, not estimated"
    assert np.isfinite(found.drop(index="rho").upper.astype(float)).all()


def test_units_do_not_matter() -> None:
    data = simulated(40, 6, rho=0.3, seed=5)
    options = {"groups": "id", "time": "t", "re_formula": "~t"}
    one = mar.mixedlm("y ~ t", data, **options).fit()
    other = mar.mixedlm("y ~ t", data.assign(y=data["y"] * 1e5), **options).fit()
    a, b = one.conf_int_re(), other.conf_int_re()
    for name, factor in (("sigma", 1e5), ("sd(t)", 1e5), ("rho", 1.0), ("scale", 1e10)):
        for end in ("lower", "upper"):
            assert b.loc[name, end] == pytest.approx(
                factor * a.loc[name, end], rel=1e-4
            )


def test_bad_arguments() -> None:
    fit = fitted("orthodont_ri_ar1_ml")
    with pytest.raises(UnsupportedError, match="method"):
        fit.conf_int_re("exact")
    with pytest.raises(UnsupportedError, match="alpha"):
        fit.conf_int_re(alpha=5)
    with pytest.raises(UnknownColumnError, match="did you mean 'rho'"):
        fit.profile("rhoo")
    with pytest.raises(UnsupportedError, match="n_sim"):
        fit.bootstrap(0)
    fixed = fitted("ovary_diag_ar1_reml")
    with pytest.raises(NotComputedError, match="held"):
        fixed.profile("corr(mare, sin2pit)")


def test_removed_data_are_named() -> None:
    data = simulated(rho=0.2, seed=8)
    model = mar.mixedlm("y ~ t", data, groups="id", time="t")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = model.fit()
    fit.remove_data()
    with pytest.raises(NotComputedError, match="removed"):
        fit.conf_int_re()
    assert np.isfinite(fit.conf_int_re("wald", parameters="sigma").lower).all()


def test_profile_at_other_levels() -> None:
    # where the profile bends, a cubic through its nodes may leave them
    fit = fitted("seed_ar1_reml")
    for name in ("rho", "corr(id, time)", "sd(id)"):
        profile = fit.profile(name)
        widths = []
        for alpha in (0.3, 0.1, 0.05, 0.01):
            found = profile.conf_int(alpha)
            exact = fit.conf_int_re(alpha=alpha, parameters=name)
            exact = exact[["lower", "upper"]].to_numpy(float)[0]
            width = exact[1] - exact[0]
            np.testing.assert_allclose(found, exact, atol=0.01 * width)
            widths.append(found)
        lower, upper = np.array(widths).T
        assert (np.diff(lower) <= 0.0).all()
        assert (np.diff(upper) >= 0.0).all()
        # no gap in zeta that a plot would bridge by a line
        assert np.abs(np.diff(profile.zeta)).max() < 1.0


def test_profile_that_ends_before_the_level() -> None:
    # a variance of zero is not rejected at 1%, and every correlation with it
    profile = fitted("orthodont_rs_ar1_reml").profile("corr(subject, age)")
    np.testing.assert_allclose(profile.conf_int(0.01), [-1.0, 1.0])


def test_a_parameter_of_several_coordinates_has_its_range() -> None:
    # brute force over the power; a constant of zero is not rejected
    rng = np.random.default_rng(4)
    n, m = 12, 6
    data = pd.DataFrame({"id": np.repeat(np.arange(n), m)})
    data["v"] = rng.uniform(0.2, 4, n * m)
    data["y"] = rng.normal(size=n * m) * (1 + data.v**1.5)
    free = VarConstPower("v")
    model = mar.mixedlm("y ~ 1", data, groups="id", re_formula="0", weights=free)
    fit = model.fit()
    found = fit.conf_int_re(parameters="const").loc["const"]
    assert found["lower"] == 0.0
    assert "the lower end of the range is not rejected" in found["note"]
    upper = found["upper"]

    def profiled(const: float) -> float:
        def lack(power: float) -> float:
            held = VarConstPower("v", const=const, power=power, fixed=True)
            return -float(model.with_residual("independent", weights=held).fit().llf)

        return -float(optimize.minimize_scalar(lack, bracket=(1.0, 2.0)).fun)

    np.testing.assert_allclose(fit.llf - profiled(upper), LR, atol=1e-4)
    assert fit.llf - profiled(1e-9 * upper) < LR


def test_a_constant_beside_a_power_at_the_end_of_its_range() -> None:
    # however small the constant is there
    data = load_orthodont()
    weights = VarConstPower("age")
    with pytest.warns(BoundaryWarning, match="power"):
        fit = mar.mixedlm(
            "distance ~ age", data, groups="subject", weights=weights
        ).fit()
    # nlme stops lower, at -223.471, as at the power alone
    assert fit.converged
    assert -223.3275 < fit.llf < -223.3260
    at_8 = (data.age == 8).astype(int).rename("at_8")
    step = mar.mixedlm(
        "distance ~ age",
        data.join(at_8),
        groups="subject",
        residual="independent",
        weights=VarIdent("at_8"),
    ).fit()  # what the power tends to
    np.testing.assert_allclose(fit.llf, step.llf, atol=1e-4)
    np.testing.assert_allclose(fit.fe_params, step.fe_params, rtol=1e-4)
    found = fit.conf_int_re(parameters=["const", "power"])
    assert found.lower["const"] > 0.0
    assert found.estimate["const"] < found.upper["const"]
