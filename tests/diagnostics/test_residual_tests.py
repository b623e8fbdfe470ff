"""Tests of serial correlation, equal variances and normality of residuals."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats

import mixedar.formula.api as mar
from helpers.fitted_models import dense, reference_frame, shared
from mixedar.datasets import load_growth, load_orthodont
from mixedar.diagnostics.residuals.normality import (
    _kurtosis_score,
    _power_sums,
    _skewness_score,
    simultaneous_level,
)
from mixedar.diagnostics.residuals.normalized import normalized_residuals
from mixedar.exceptions import (
    BoundaryWarning,
    LengthError,
    MissingDataError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.residual.variance import VarIdent

SETTINGS: dict[str, dict[str, Any]] = {
    "intercept": {"m": 20, "size": 6, "re_formula": "1"},
    "slope": {"m": 40, "size": 4, "re_formula": "~ t"},
    "none": {"m": 10, "size": 15, "re_formula": "0"},
}


def draw(
    rng: np.random.Generator, m: int, size: int, re_formula: str, second: float = 0.0
) -> pd.DataFrame:
    """AR(1) errors, with `second` AR(2) ones, and random effects as fitted."""
    noise = rng.normal(size=(m, size + 20))
    errors = noise.copy()
    for k in range(2, size + 20):
        errors[:, k] += 0.5 * errors[:, k - 1] + second * errors[:, k - 2]
    group, time = np.repeat(np.arange(m), size), np.tile(np.arange(size), m)
    y = errors[:, 20:].ravel()
    if re_formula != "0":
        y = y + rng.normal(size=m)[group]
    if "t" in re_formula:
        y = y + 0.3 * rng.normal(size=m)[group] * time
    return pd.DataFrame({"y": y, "t": time, "g": group, "x": rng.normal(size=m * size)})


@cache
def replicates(name: str, count: int = 60, second: float = 0.0) -> list[Any]:
    """Fits of the model that made the data."""
    out = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(count):
            options = SETTINGS[name]
            data = draw(np.random.default_rng(seed), second=second, **options)
            model = mar.mixedlm(
                "y ~ t + x",
                data,
                groups="g",
                time="t",
                re_formula=options["re_formula"],
            )
            out.append(model.fit())
    return out


@cache
def growth_fit(residual: str = "ar1") -> Any:
    return mar.mixedlm(
        "y ~ time + treatment",
        load_growth(),
        groups="id",
        re_formula="~ time",
        time="time",
        residual=residual,
    ).fit()


def within(rate: float, level: float, count: int) -> bool:
    """Whether a rate of rejections suits a level, by three and a half errors."""
    return abs(rate - level) < 3.5 * np.sqrt(level * (1.0 - level) / count)


# Serial correlation


@pytest.mark.parametrize("name", SETTINGS)
def test_size_of_the_serial_test(name: str) -> None:
    fits = replicates(name)
    p = np.array([fit.serial_correlation_test().pvalue for fit in fits])
    assert within((p < 0.1).mean(), 0.1, len(p))
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_power_of_the_serial_test() -> None:
    fits = replicates("none", 30, 0.35)
    p = np.array([fit.serial_correlation_test().pvalue for fit in fits])
    assert (p < 0.05).mean() > 0.5


def test_white_noise_bounds_would_mislead() -> None:
    # the model is true; autocorrelations are far outside of the usual bounds
    found = growth_fit().acf(bounds="white").iloc[1:]
    assert (found["acf"] < found["lower"]).all()
    honest = growth_fit().acf().iloc[1:]
    assert ((honest["acf"] > honest["lower"]) & (honest["acf"] < honest["upper"])).all()


def test_score_test_and_likelihood_ratio_agree() -> None:
    # against independence; one is a parabola at the null, the other the surface
    plain, full = growth_fit("independent"), growth_fit()
    test = plain.serial_correlation_test()
    assert test.df == 2
    assert "2 of 3 lags" in test.note
    assert test.statistic == pytest.approx(2.0 * (full.llf - plain.llf), rel=0.02)
    assert test.pvalue < 1e-40
    assert test.rejects()
    assert not full.serial_correlation_test().rejects()


def test_table_of_the_serial_test() -> None:
    fit = shared("slope")
    test = fit.serial_correlation_test(3)
    acf = fit.acf(max_lag=3).set_index("lag").loc[1:]
    table = test.table
    assert table.index.tolist() == [1.0, 2.0, 3.0]
    assert_allclose(table["acf"], acf["acf"])
    assert_allclose(table["expected"], acf["expected"])
    assert_allclose(table["pairs"], acf["pairs"])
    half = (acf["upper"] - acf["lower"]) / 2.0
    assert_allclose(table["se"], half / stats.norm.isf(0.025))
    model = dense(fit)
    score, variance = model.efficient([model.lag(k) for k in (1, 2, 3)])
    assert_allclose(table["z"], score / np.sqrt(np.diag(variance)), rtol=1e-3)
    assert test.statistic == pytest.approx(
        score @ np.linalg.solve(variance, score), rel=1e-3
    )
    assert_allclose(table["p"], 2.0 * stats.norm.sf(np.abs(table["z"])))
    text = str(test)
    assert "Breusch and Pagan" in text
    assert "Alternative: they are correlated" in text
    one = fit.serial_correlation_test([2.0])
    assert one.table.index.tolist() == [2.0]
    assert one.statistic == pytest.approx(one.table["z"].iloc[0] ** 2)


def test_serial_test_of_rows_without_times_and_with_irregular_ones() -> None:
    data = reference_frame()
    rows = mar.mixedlm("y ~ x", data, groups="id").fit().serial_correlation_test()
    assert rows.table.index.tolist() == [1.0, 2.0, 3.0, 4.0]
    rng = np.random.default_rng(1)
    moved = data.assign(t=data["t"] + rng.uniform(0.0, 0.9, size=len(data)))
    fit = mar.mixedlm("y ~ x", moved, groups="id", time="t", residual="car1").fit()
    found = fit.serial_correlation_test(2, bin_width=1.0)
    assert len(found.table) == 2
    assert 0.0 < found.pvalue < 1.0


@pytest.mark.parametrize(
    ("lags", "words"),
    [(0, "lags=0"), (True, "lags=True"), ([], "lags"), ([-1.0], "lags"), ([99], "99")],
)
def test_serial_test_refuses(lags: Any, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        shared("slope").serial_correlation_test(lags)


def test_serial_test_with_nothing_to_test() -> None:
    pairs = load_growth().query("time < 2").head(400)
    fit = mar.mixedlm(
        "y ~ time", pairs, groups="id", time="time", residual="independent"
    ).fit()
    with pytest.raises(NotComputedError, match="nothing left"):
        fit.serial_correlation_test()


# Equal variances


@pytest.mark.parametrize("by", ["x", "t", "half", "groups"])
@pytest.mark.parametrize("name", ["intercept", "none"])
def test_size_of_the_variance_test(name: str, by: str) -> None:
    fits = replicates(name)
    p = []
    for fit in fits:
        key: Any = by
        if by == "half":
            key = pd.Series(np.asarray(fit.model.groups) % 2, name="half")
        p.append(fit.heteroscedasticity_test(key).pvalue)
    assert within(np.mean(np.array(p) < 0.1), 0.1, len(p))


@cache
def unequal() -> Any:
    """Residual standard deviations of 1 and 2 by arm, rising with x."""
    rng = np.random.default_rng(3)
    data = draw(rng, 60, 6, "1")
    data["arm"] = np.where(data["g"] % 2, "b", "a")
    errors = rng.normal(size=len(data)) * np.where(data["arm"] == "b", 2.0, 1.0)
    data["y"] = errors * np.exp(0.3 * data["x"]) + rng.normal(size=60)[data["g"]]
    data.index = [f"r{k}" for k in range(len(data))]
    return mar.mixedlm(
        "y ~ t + x", data, groups="g", time="t", residual="independent"
    ).fit()


def test_variances_that_differ_are_found() -> None:
    fit = unequal()
    assert fit.heteroscedasticity_test("arm").pvalue < 1e-5
    assert fit.heteroscedasticity_test("x").pvalue < 1e-3
    assert fit.heteroscedasticity_test("groups").pvalue < 1e-6
    assert fit.heteroscedasticity_test("t").pvalue > 0.01
    spread = fit.residual_spread("arm")
    assert spread.index.tolist() == ["a", "b"]
    assert spread["sd"]["b"] / spread["sd"]["a"] == pytest.approx(2.0, abs=0.25)
    assert (spread["lower"] < spread["sd"]).all()
    assert (spread["sd"] < spread["upper"]).all()
    assert (spread["p"] < 0.01).all()
    # a model with a variance for each arm leaves nothing by arm
    data = fit.model.data.frame
    better = mar.mixedlm(
        "y ~ t + x",
        data,
        groups="g",
        time="t",
        residual="independent",
        weights=VarIdent("arm"),
    ).fit()
    assert better.heteroscedasticity_test("x").pvalue < 1e-3
    with pytest.raises(NotComputedError, match="nothing left"):
        better.heteroscedasticity_test("arm")


@pytest.mark.parametrize("name", ["slope", "both", "gls"])
def test_spread_by_definition(name: str) -> None:
    model, fit = dense(shared(name)), shared(name)
    data = reference_frame()
    for by, codes in (("arm", data["arm"]), ("groups", data["id"])):
        table = fit.residual_spread(by)
        for label, rows in data.reset_index().groupby(codes.to_numpy()).groups.items():
            part = model.cov_normalized[np.ix_(rows, rows)]
            square = float((model.normalized[rows] ** 2).sum())
            row = table.loc[label]
            assert row["n"] == len(rows)
            ratio = np.sqrt(square / np.trace(part))
            assert row["ratio"] == pytest.approx(ratio, rel=1e-5)
            assert row["sd"] == pytest.approx(ratio * np.sqrt(fit.scale), rel=1e-5)
            df = np.trace(part) ** 2 / np.sum(part**2)
            assert row["df"] == pytest.approx(df, rel=1e-5)
            tail = stats.chi2.cdf(square / np.trace(part) * row["df"], row["df"])
            assert row["p"] == pytest.approx(2 * min(tail, 1 - tail), rel=1e-4)


def test_trends_and_strata() -> None:
    fit = shared("slope")
    model = dense(fit)
    weights = reference_frame()["x"].to_numpy()
    weights = weights - weights.mean()
    score, variance = model.efficient([np.diag(weights)])
    plain = fit.heteroscedasticity_test("x", studentize=False)
    assert plain.statistic == pytest.approx(score[0] ** 2 / variance[0, 0], rel=1e-3)
    assert plain.df == 1
    robust = fit.heteroscedasticity_test("x")
    excess = model.normalized**2 - np.diag(model.cov_normalized)
    inflation = excess @ excess / (2.0 * np.sum(np.diag(model.cov_normalized) ** 2))
    assert robust.statistic == pytest.approx(plain.statistic / inflation, rel=1e-4)
    assert "Koenker" in robust.reference
    # few numbers are strata, unless a trend is asked for
    assert fit.heteroscedasticity_test("t").df == 7
    assert fit.heteroscedasticity_test("t", trend=True).df == 1
    assert fit.heteroscedasticity_test("x", trend=False, n_bins=4).df == 3
    assert len(fit.residual_spread("x", n_bins=4)) == 4
    by_mean = fit.heteroscedasticity_test("fitted")
    by_values = fit.heteroscedasticity_test(np.asarray(fit.fitted_marginal))
    assert by_mean.statistic == pytest.approx(by_values.statistic)
    by_time = fit.heteroscedasticity_test("time").statistic
    assert by_time == pytest.approx(fit.heteroscedasticity_test("t").statistic)
    days = pd.to_timedelta(reference_frame()["t"].to_numpy(), unit="D")
    dates = pd.Series(pd.Timestamp("2024-01-01") + days, reference_frame().index)
    by_date = fit.heteroscedasticity_test(dates, trend=True)
    by_number = fit.heteroscedasticity_test("t", trend=True)
    assert by_date.statistic == pytest.approx(by_number.statistic)


@pytest.mark.parametrize(
    ("by", "options", "error", "words"),
    [
        ("nothing", {}, UnknownColumnError, "nothing"),
        ([1, 2], {}, LengthError, "by has 2"),
        ("arm", {"trend": True}, UnsupportedError, "trend"),
        ("groups", {"trend": True}, UnsupportedError, "trend"),
        ("x", {"n_bins": 1}, UnsupportedError, "two bins"),
        ("x", {"n_bins": 2.5}, UnsupportedError, "n_bins"),
    ],
)
def test_variance_test_refuses(
    by: Any, options: dict[str, Any], error: type, words: str
) -> None:
    with pytest.raises(error, match=words):
        shared("slope").heteroscedasticity_test(by, **options)


def test_strata_that_are_none() -> None:
    fit, n = shared("slope"), len(reference_frame())
    with pytest.raises(UnsupportedError, match="all rows"):
        fit.residual_spread(np.zeros(n))
    with pytest.raises(UnsupportedError, match="coarser"):
        fit.residual_spread([f"label {k}" for k in range(n)])
    values = np.arange(float(n))
    values[3] = np.nan
    with pytest.raises(MissingDataError, match="row number 3"):
        fit.residual_spread(values)


def test_two_groups_are_too_few() -> None:
    data = load_growth().head(40)
    data["half"] = np.repeat([0, 1], 20)
    data["time"] = np.tile(np.arange(20), 2)
    fit = mar.mixedlm(
        "y ~ time", data, groups="half", time="time", re_formula="0"
    ).fit()
    with pytest.raises(UnsupportedError, match="three groups"):
        fit.heteroscedasticity_test("groups")


# Normality


@pytest.mark.parametrize("n", [20, 57, 400])
def test_scores_of_skewness_and_kurtosis(n: int) -> None:
    x = np.random.default_rng(n).gamma(3.0, size=n)
    assert _skewness_score(float(stats.skew(x)), n) == pytest.approx(
        stats.skewtest(x).statistic
    )
    assert _kurtosis_score(float(stats.kurtosis(x)), n) == pytest.approx(
        stats.kurtosistest(x).statistic
    )


@pytest.mark.parametrize("name", ["slope", "both", "components", "gls", "series"])
def test_powers_of_correlations(name: str) -> None:
    model, residuals = (
        dense(shared(name)),
        normalized_residuals(shared(name).fit),
    )
    groups = model.problem.groups[:, None] == model.problem.groups
    size = np.sqrt(np.diag(model.cov_normalized))
    c = np.where(groups, model.cov_normalized / np.outer(size, size), 0.0)
    scale = np.sqrt(residuals.variance)
    found = _power_sums(residuals, scale, np.ones(model.n, dtype=bool))
    # the fixed effects' share of the correlations is left out
    assert_allclose(found, [(c**3).sum(), (c**4).sum()], rtol=0.02)


@pytest.mark.parametrize("name", SETTINGS)
def test_size_of_the_normality_test(name: str) -> None:
    p = np.array([fit.normality_test().pvalue for fit in replicates(name)])
    assert within((p < 0.1).mean(), 0.1, len(p))


def test_errors_that_are_not_normal_are_found() -> None:
    rng = np.random.default_rng(2)
    data = draw(rng, 50, 6, "0")
    intercept = rng.normal(size=50)[data["g"]]
    outcomes = {}
    for name, errors in {
        "heavy": rng.standard_t(3, size=len(data)),
        "skewed": rng.exponential(size=len(data)),
    }.items():
        frame = data.assign(y=errors + intercept)
        model = mar.mixedlm("y ~ t", frame, groups="g", residual="independent")
        outcomes[name] = model.fit().normality_test()
    assert outcomes["heavy"].pvalue < 1e-4
    assert outcomes["heavy"].table["value"]["excess kurtosis"] > 1.0
    assert outcomes["skewed"].table["p"]["skewness"] < 1e-4
    assert "D'Agostino" in str(outcomes["heavy"])


def test_quantiles_of_a_fit() -> None:
    fit = shared("slope")
    model = dense(fit)
    table = residual_table(fit)
    z = model.normalized / np.sqrt(np.diag(model.cov_normalized))
    z = z / np.sqrt(np.mean(z**2))
    expected = pd.Series(z, index=reference_frame().index).sort_values()
    assert_allclose(table["observed"], expected, atol=1e-6)
    assert table.index.tolist() == expected.index.tolist()
    assert_allclose(table["theoretical"], -table["theoretical"][::-1], atol=1e-12)
    assert (table["lower"] < table["theoretical"]).all()
    assert (table["theoretical"] < table["upper"]).all()
    narrow = residual_table(fit, band="pointwise")
    assert (narrow["upper"] < table["upper"]).all()
    wide = residual_table(fit, alpha=0.01)
    assert (wide["upper"] >= table["upper"]).all()


def residual_table(fit: Any, kind: str = "normalized", **options: Any) -> pd.DataFrame:
    from mixedar.diagnostics.residuals.normality import residual_quantiles

    return residual_quantiles(fit.fit, kind, **options)


def test_bands_hold_their_level() -> None:
    # normal samples, standardized: all points inside with probability 95%
    from mixedar.diagnostics.residuals.normality import _band

    rng = np.random.default_rng(5)
    for n in (30, 3000):
        level = simultaneous_level(min(n, 1000), 0.05)
        ranks = np.arange(1, n + 1)
        z = np.sort(rng.normal(size=(400, n)), axis=1)
        z = (z - z.mean(axis=1)[:, None]) / z.std(axis=1, ddof=1)[:, None]
        low, high = _band(level / 2.0, ranks, n), _band(1.0 - level / 2.0, ranks, n)
        outside = ((z < low) | (z > high)).any(axis=1).mean()
        assert within(outside, 0.05, 400)
        low, high = _band(0.025, ranks, n), _band(0.975, ranks, n)
        assert ((z < low) | (z > high)).mean() == pytest.approx(0.05, abs=0.01)


def test_bands_hold_their_level_for_residuals() -> None:
    outside = []
    for fit in replicates("intercept"):
        table = residual_table(fit, band="pointwise")
        out = (table["observed"] < table["lower"]) | (
            table["observed"] > table["upper"]
        )
        outside.append(out.mean())
    assert np.mean(outside) == pytest.approx(0.05, abs=0.02)


def test_normality_refuses() -> None:
    fit = shared("slope")
    with pytest.raises(UnsupportedError, match="kind"):
        residual_table(fit, "raw")
    with pytest.raises(UnsupportedError, match="band"):
        residual_table(fit, band="narrow")
    with pytest.raises(UnsupportedError, match="alpha"):
        residual_table(fit, alpha=2.0)
    small = load_orthodont().head(16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        few = mar.mixedlm("distance ~ age", small, groups="subject").fit()
    with pytest.raises(NotComputedError, match="too few"):
        few.normality_test()
