"""Several fits in one table, and one fit as plain frames."""

from __future__ import annotations

import doctest
import pickle
import re
import warnings
from functools import cache
from importlib import import_module
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

import mixedar.api
import mixedar.formula.api as mar
from mixedar.compare.frames import SampleMismatchError
from mixedar.datasets import load_orthodont
from mixedar.exceptions import (
    EmptyDataError,
    MixedARError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.summary import ResultsSummary

mpl.use("Agg")
FORMULA = "y ~ x1 + x2 + z"
NUMBERS = ["estimate", "std_error", "p_value", "conf_low", "conf_high"]
COLUMNS = [
    "term",
    "group",
    "estimate",
    "std_error",
    "statistic",
    "df",
    "p_value",
    "conf_low",
    "conf_high",
]


def panel(seed: int = 0, entities: int = 40, periods: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = entities * periods
    who = np.repeat(np.arange(entities), periods)
    data = pd.DataFrame(
        {
            "id": who,
            "t": np.tile(np.arange(periods), entities),
            "x1": rng.normal(size=n) + rng.normal(size=entities)[who],
            "x2": rng.normal(size=n),
            "z": rng.normal(size=entities)[who],
            "const": 1.0,
        }
    )
    noise = rng.normal(size=(entities, periods))
    for t in range(1, periods):
        noise[:, t] = 0.5 * noise[:, t - 1] + noise[:, t]
    data["y"] = 1 + data["x1"] - 0.5 * data["x2"] + 0.3 * data["z"] + noise.ravel()
    data["y"] += rng.normal(size=entities)[who]
    data["y"] += 0.6 * rng.normal(size=entities)[who] * data["x2"]
    return data.sample(frac=1.0, random_state=seed)


@cache
def fitted() -> dict[str, Any]:
    import linearmodels.panel as lm

    data = panel()
    where = {"entity": "id", "time": "t"}
    mixed = {"groups": "id", "time": "t"}
    frame = data.set_index(["id", "t"])
    y, x = frame["y"], frame[["const", "x1", "x2"]]
    clustered = {"cov_type": "cluster", "cov_kwds": {"groups": data["id"]}}
    ar = sm.cov_struct.Autoregressive(grid=True)
    in_order = data.sort_values(["id", "t"])
    fits = {
        "ols": smf.ols(FORMULA, data).fit(),
        "ols, clustered": smf.ols(FORMULA, data).fit(**clustered),
        "ols, t": smf.ols(FORMULA, data).fit(use_t=True, **clustered),
        "wls": smf.wls(FORMULA, data, weights=1.0 + data["x2"] ** 2).fit(),
        "gls": smf.gls(FORMULA, data, sigma=1.0 + data["x2"] ** 2).fit(),
        "gee": smf.gee(FORMULA, "id", in_order, cov_struct=ar).fit(),
        "mixedlm": smf.mixedlm(FORMULA, data, groups="id").fit(),
        "pooled": mar.pooled(FORMULA, data, **where).fit(),
        "fe": mar.fixed_effects(FORMULA, data, **where).fit(),
        "fe, clustered": mar.fixed_effects(FORMULA, data, **where).fit("clustered"),
        "re": mar.random_effects(FORMULA, data, **where).fit(),
        "re ml": mar.random_effects(FORMULA, data, **where).fit(method="ml"),
        "re reml": mar.random_effects(FORMULA, data, **where).fit(method="reml"),
        "between": mar.between(FORMULA, data, **where).fit(),
        "fd": mar.first_difference(FORMULA, data, **where).fit(),
        "fe ar1": mar.fixed_effects_ar1(FORMULA, data, **where).fit(),
        "re ar1": mar.random_effects_ar1(FORMULA, data, **where).fit(),
        "mundlak": mar.mundlak(FORMULA, data, **where).fit(),
        "ar1": mar.mixedlm(FORMULA, data, **mixed).fit(),
        "ar1 ml": mar.mixedlm(FORMULA, data, **mixed).fit(reml=False),
        "slope": mar.mixedlm(FORMULA, data, re_formula="~x2", **mixed).fit(),
        "independent": mar.mixedlm(
            FORMULA, data, groups="id", residual="independent"
        ).fit(),
        "lm fe": lm.PanelOLS(y, x, entity_effects=True).fit(),
        "lm fe, clustered": lm.PanelOLS(y, x, entity_effects=True).fit(
            cov_type="clustered", cluster_entity=True, debiased=False
        ),
        "lm twoways": lm.PanelOLS(y, x, entity_effects=True, time_effects=True).fit(),
        "lm re": lm.RandomEffects(y, x).fit(),
        "lm pooled": lm.PooledOLS(y, x).fit(cov_type="robust"),
        "lm between": lm.BetweenOLS(y, x).fit(),
        "lm fd": lm.FirstDifferenceOLS(y, x[["x1", "x2"]]).fit(),
        "lm fama": lm.FamaMacBeth(y, x).fit(),
    }
    fits["robust"] = fits["ar1"].get_robustcov_results()
    return fits


NAMES = [
    *["ols", "ols, clustered", "ols, t", "wls", "gls", "gee", "mixedlm", "pooled"],
    *["fe", "fe, clustered", "re", "re ml", "re reml", "between", "fd", "fe ar1"],
    *["re ar1", "mundlak", "ar1", "ar1 ml", "slope", "independent", "robust"],
    *["lm fe", "lm fe, clustered", "lm twoways", "lm re", "lm pooled", "lm between"],
    *["lm fd", "lm fama"],
]


def some(*names: str) -> dict[str, Any]:
    return {name: fitted()[name] for name in names}


# -- tidy and glance ---------------------------------------------------------------


def test_all_kinds_are_tested() -> None:
    assert sorted(NAMES) == sorted(fitted())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_tidy_has_the_numbers_of_the_fit(name: str, alpha: float) -> None:
    fit = fitted()[name]
    frame = mar.tidy(fit, alpha)
    assert list(frame.columns) == COLUMNS
    fixed = frame[frame["group"] == "fixed"]
    params = fit.fe_params if hasattr(fit, "fe_params") else fit.params
    k = len(params)
    ours = name.startswith("lm ")
    interval = fit.conf_int(1 - alpha) if ours else fit.conf_int(alpha)
    expected = [
        params,
        fit.std_errors if ours else fit.bse,
        fit.pvalues,
        np.asarray(interval)[:, 0],
        np.asarray(interval)[:, 1],
    ]
    assert list(fixed["term"]) == list(params.index)
    for column, values in zip(NUMBERS, expected, strict=True):
        assert_allclose(fixed[column], np.asarray(values)[:k], rtol=1e-9, atol=1e-13)
    assert_allclose(fixed["statistic"], fixed["estimate"] / fixed["std_error"])
    assert frame.loc[frame["group"] != "fixed", "p_value"].isna().all()


@pytest.mark.parametrize("name", NAMES)
def test_glance_has_one_row_and_the_same_columns(name: str) -> None:
    frame = mar.glance(fitted()[name])
    assert list(frame.columns) == list(mar.glance(fitted()["ols"]).columns)
    assert len(frame) == 1
    assert frame["nobs"][0] > 0
    both = pd.concat([frame, mar.glance(fitted()["ols"])], ignore_index=True)
    assert len(both) == 2


def test_glance_of_least_squares_and_of_a_mixed_model() -> None:
    fit = fitted()["ols"]
    row = mar.glance(fit).iloc[0]
    for name in ("nobs", "df_resid", "llf", "aic", "bic", "scale"):
        assert_allclose(row[name], getattr(fit, name))
    assert_allclose(row["rsquared_overall"], fit.rsquared)
    assert row["converged"] is pd.NA
    assert row["n_groups"] is pd.NA
    fit = fitted()["slope"]
    row = mar.glance(fit).iloc[0]
    for name in ("nobs", "n_groups", "llf", "aic", "bic", "scale", "rho"):
        assert_allclose(row[name], getattr(fit, name))
    assert row["method"] == "REML"
    assert bool(row["converged"])


@cache
def crossed() -> dict[str, Any]:
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"a": rng.integers(0, 9, 150), "b": rng.integers(0, 6, 150)})
    data["x"] = rng.normal(size=150)
    data["y"] = data["x"] + rng.normal(size=9)[data["a"]] + rng.normal(size=150)
    data["y"] += rng.normal(size=6)[data["b"]]
    return {
        "ols": smf.ols("y ~ x", data).fit(),
        "none": mar.mixedlm("y ~ x", data, groups="a", re_formula="0").fit(),
        "one": mar.mixedlm("y ~ x + (1 | a)", data).fit(),
        "two": mar.mixedlm("y ~ x + (1 | a) + (1 | b)", data).fit(),
    }


@pytest.mark.parametrize("name", ["one", "two"])
def test_glance_of_explained_variance_and_levels(name: str) -> None:
    fit = crossed()[name]
    row = mar.glance(fit).iloc[0]
    assert row["rsquared_marginal"] == fit.r2()["marginal"]
    assert row["rsquared_conditional"] == fit.r2()["conditional"]
    assert row["icc"] == fit.icc()["adjusted"]
    assert row["n_levels"] == {"one": "a: 9", "two": "a: 9, b: 6"}[name]
    assert pd.isna(row["rsquared_overall"])


def test_glance_has_no_shares_where_there_are_none() -> None:
    row = mar.glance(crossed()["ols"]).iloc[0]
    assert row[["rsquared_marginal", "rsquared_conditional", "icc"]].isna().all()
    assert row["n_levels"] is pd.NA
    fit = crossed()["none"]
    row = mar.glance(fit).iloc[0]
    assert_allclose(row["rsquared_conditional"], row["rsquared_marginal"])
    assert np.isnan(row["icc"])
    assert row["n_levels"] is pd.NA
    bare = pickle.loads(pickle.dumps(crossed()["two"]))
    bare.remove_data()
    row = mar.glance(bare).iloc[0]
    assert row[["rsquared_marginal", "icc", "n_levels"]].isna().all()


def test_compare_has_rows_of_explained_variance_and_levels() -> None:
    fits = crossed()
    table = mar.compare(fits)
    rows = table.statistics
    levels = ["Levels of a", "Levels of b"]
    shares = ["R2 marginal", "R2 conditional", "ICC"]
    assert list(rows.index[:7]) == [
        *["Observations", "Groups", *levels, "R-squared", *shares[:2]]
    ]
    for name in ("one", "two"):
        fit = fits[name]
        want = [*fit.r2(), fit.icc()["adjusted"]]
        assert_allclose(rows.loc[shares, name], want, rtol=1e-14)
    assert rows.loc[levels, "two"].tolist() == [9, 6]
    assert rows.loc["Levels of a", "one"] == 9
    assert rows.loc[[*levels, *shares], "ols"].isna().all()
    lines = [line.split() for line in table.as_text().splitlines()]
    assert ["Levels", "of", "b", "6"] in lines
    share = f"{fits['two'].icc()['adjusted']:.3f}"
    assert next(line for line in lines if line[:1] == ["ICC"])[-1] == share
    plain = mar.compare({"one": fits["one"], "ols": fits["ols"]})
    assert not any(row.startswith("Levels") for row in plain.statistics.index)
    none = mar.compare({"ols": fits["ols"]}).statistics
    assert not set(shares) & set(none.index)
    text = mar.compare(fits, formats={"ICC": ".1f", "Levels of b": ".1f"}).as_text()
    assert "6.0" in text


def test_tidy_of_a_mixed_model_has_all_parameters() -> None:
    fit = fitted()["slope"]
    rows = mar.tidy(fit, 0.1).set_index("term")
    assert list(rows.index) == [*fit.params.index, "Residual Var"]
    assert list(rows["group"]) == ["fixed"] * 4 + ["random"] * 3 + ["residual"] * 2
    interval = fit.conf_int(0.1)
    for name in fit.params.index:
        assert_allclose(rows.loc[name, "estimate"], fit.params[name])
        assert_allclose(rows.loc[name, "std_error"], fit.bse[name])
        found = rows.loc[name, ["conf_low", "conf_high"]].astype(float)
        assert_allclose(found, interval.loc[name])
    last = rows.loc["Residual Var"]
    assert_allclose([last["estimate"], last["std_error"]], [fit.scale, fit.bse_scale])
    half = stats.norm.isf(0.05) * fit.bse_scale / fit.scale
    assert_allclose(np.log(last["conf_high"] / fit.scale), half)


def test_variances_of_statsmodels_are_brought_to_the_scale_of_the_data() -> None:
    ours, theirs = (
        mar.tidy(fitted()[name]).set_index("term")["estimate"]
        for name in ("independent", "mixedlm")
    )
    assert list(ours.index) == list(theirs.index)
    assert_allclose(theirs, ours, rtol=1e-4)
    errors = mar.tidy(fitted()["mixedlm"]).set_index("term")["std_error"]
    assert np.isnan(errors["id Var"])


def test_variance_components_of_panel_fits() -> None:
    for name in ("re", "lm re", "fe", "lm fe"):
        rows = mar.tidy(fitted()[name]).set_index("term")["estimate"]
        same = mar.tidy(fitted()[name.removeprefix("lm ")]).set_index("term")
        parts = fitted()[name.removeprefix("lm ")].variance_decomposition
        if name in ("re", "fe"):
            assert_allclose(rows["id Var"], parts["effects"])
            assert_allclose(rows["Residual Var"], parts["residual"])
        elif name == "lm fe":  # without the regressor that is absorbed
            assert_allclose(
                rows, same.loc[rows.index.str.replace("const", "Intercept")]["estimate"]
            )
    fit = fitted()["re ar1"]
    rows = mar.tidy(fit).set_index("term")["estimate"]
    # of the residuals themselves, not of the innovations
    assert_allclose(rows["Residual Var"] * (1 - fit.rho**2), fit.estimate.sigma2_e)
    assert_allclose(rows["rho"], fit.rho)
    rows = mar.tidy(fitted()["lm fe, clustered"]).set_index("term")["estimate"]
    assert_allclose(rows["Residual Var"], fitted()["lm fe"].s2)


# -- the table -----------------------------------------------------------------------


def test_columns_and_rows_are_in_order() -> None:
    fits = some("mundlak", "ols", "fe", "slope")
    table = mar.compare(fits)
    assert isinstance(table, ResultsSummary)
    terms = ["Intercept", "x1", "x2", "z", "mean(x1)", "mean(x2)"]
    assert list(table.coefficients.index) == terms
    assert list(table.statistics.columns) == list(fits)
    assert list(table.to_frame().columns) == list(fits)
    for name, fit in fits.items():
        params = fit.fe_params if name == "slope" else fit.params
        shown = table.coefficients[name]["estimate"].dropna()
        assert list(shown.index) == [t for t in terms if t in params.index]
        assert_allclose(shown, params[shown.index])
    assert table.to_frame().equals(table.to_frame("models"))
    numbers = table.to_frame()
    assert_allclose(
        numbers.loc[("coefficients", "x1", "std_error"), "ols"], fits["ols"].bse["x1"]
    )
    assert numbers.loc[("statistics", "Observations", "value"), "fe"] == 240
    assert table.methods.loc["Estimator"].tolist() == ["GLS", "OLS", "within", "REML"]
    with pytest.raises(UnknownColumnError, match="no table 'x'"):
        table.to_frame("x")


def test_every_kind_stands_in_one_table() -> None:
    table = mar.compare(fitted(), rename={"const": "Intercept"})
    text = table.as_text()
    assert max(map(len, text.splitlines())) <= 80
    for name in NAMES:
        column = table.coefficients[name]
        rows = mar.tidy(fitted()[name])
        rows = (
            rows[rows["group"] == "fixed"]
            .set_index("term")
            .rename({"const": "Intercept"})
        )
        assert_allclose(
            column["estimate"].dropna(),
            rows["estimate"][column["estimate"].dropna().index],
        )
    heads = [line for line in text.splitlines() if "Estimator" in line]
    assert len(heads) > 3  # blocks of columns


def test_the_text() -> None:
    table = mar.compare(some("ols", "fe", "ar1 ml"), stars=True)
    lines = [line.split() for line in table.as_text().splitlines()]
    ols, fe, ml = fitted()["ols"], fitted()["fe"], fitted()["ar1 ml"]
    at = next(k for k, line in enumerate(lines) if line[:1] == ["x1"])
    shown = [ols.params["x1"], fe.params["x1"], ml.fe_params["x1"]]
    smallest = min(ols.bse["x1"], fe.bse["x1"], ml.bse_fe["x1"])
    places = 1 - int(np.floor(np.log10(smallest)))
    assert lines[at] == ["x1", *(f"{v:.{places}f}***" for v in shown)]
    errors = [ols.bse["x1"], fe.bse["x1"], ml.bse_fe["x1"]]
    assert lines[at + 1] == [f"({v:.{places}f})" for v in errors]
    z = next(line for line in lines if line[:1] == ["z"])
    assert len(z) == 3  # absorbed by fixed effects
    text = " ".join(table.as_text().split())
    assert "fe: the effects absorb z." in text
    assert "* p < 0.05, ** p < 0.01, *** p < 0.001" in text
    sd = next(line for line in lines if line[:1] == ["SD(residual)"])
    assert_allclose(float(sd[1]), np.sqrt(ols.scale), atol=6e-3)
    assert repr(table) == table.as_text()


def test_stars_follow_the_levels() -> None:
    frame = pd.DataFrame({"x": np.arange(6.0), "y": [0.1, 0.9, 2.2, 2.9, 4.2, 4.8]})
    frame["y"] += [0, 0.5, -3, 0, 2, 0]
    fit = smf.ols("y ~ x", frame).fit()
    p = fit.pvalues["x"]
    assert 0.001 < p < 0.1
    for levels, count in (((0.9, p * 1.01), 2), ((p * 0.99,), 0), (False, 0)):
        text = mar.compare({"a": fit}, stars=levels).as_text()
        row = next(line for line in text.splitlines() if line.startswith("x "))
        assert row.count("*") == count
    with pytest.raises(UnsupportedError, match="between 0 and 1"):
        mar.compare({"a": fit}, stars=[5])


def test_rename_keep_drop() -> None:
    fits = some("ols", "lm pooled")
    table = mar.compare(fits, rename={"const": "Intercept"})
    assert list(table.coefficients.index) == ["Intercept", "x1", "x2", "z"]
    renamed = {"x1": "First", "const": "Intercept"}
    table = mar.compare(fits, rename=renamed, drop=["z"], keep=["x2", "x1", "z"])
    assert list(table.coefficients.index) == ["First", "x2"]
    assert list(mar.compare(fits, keep="First", rename=renamed).coefficients.index) == [
        "First"
    ]
    assert len(mar.compare(fits, drop=["const", "Intercept"]).coefficients) == 3
    with pytest.raises(UnknownColumnError, match="did you mean 'x1'"):
        mar.compare(fits, keep=["x11"])
    with pytest.raises(UnknownColumnError, match="rename='q'"):
        mar.compare(fits, rename={"q": "x"})
    with pytest.raises(UnsupportedError, match="several coefficients called 'x1'"):
        mar.compare(fits, rename={"x2": "x1"})


def test_components_as_variances_or_standard_deviations() -> None:
    fit = fitted()["slope"]
    sd = mar.compare({"a": fit}).components["a"]
    assert list(sd.index) == [
        *["SD(id)", "SD(x2)", "Corr(id, x2)", "SD(residual)", "rho"]
    ]
    variances = mar.compare({"a": fit}, components="variance").components["a"]
    cov = np.asarray(fit.cov_re)
    assert_allclose(
        variances, [cov[0, 0], cov[1, 1], cov[0, 1], fit.scale, fit.rho], rtol=1e-12
    )
    assert_allclose(sd[["SD(id)", "SD(x2)"]] ** 2, np.diag(cov))
    assert_allclose(sd.prod() / sd[["SD(residual)", "rho"]].prod(), cov[0, 1])
    with pytest.raises(UnsupportedError, match="'sd' or 'variance'"):
        mar.compare({"a": fit}, components="var")


def test_formats() -> None:
    fits = some("ols", "re")
    formats = {"estimate": ".1f", "x2": ".5f", "component": ".1f", "AIC": ".0f"}
    text = mar.compare(fits, formats=formats).as_text()
    row = {w[0]: w for line in text.splitlines() if (w := line.split())}
    ols = fitted()["ols"]
    assert row["x1"][1] == f"{ols.params['x1']:.1f}"
    assert f"({ols.bse['x2']:.5f})" in text
    assert row["SD(residual)"][1] == f"{np.sqrt(ols.scale):.1f}"
    with pytest.raises(UnknownColumnError, match="no rows of the table"):
        mar.compare(fits, formats={"nothing": ".2f"})
    for bad in ("nonsense", "{:.1f}", 3):
        for row in ("AIC", "estimate"):
            with pytest.raises(UnsupportedError, match=r"formats no number.*'\.2f'"):
                mar.compare(fits, formats={row: bad})  # type: ignore[dict-item]


@pytest.mark.parametrize("statistic", ["t", "p", "ci"])
def test_what_stands_below_the_estimates(statistic: str) -> None:
    fits = some("ols", "fe", "re")
    table = mar.compare(fits, statistic=statistic, stars=True, alpha=0.1)
    text = " ".join(table.as_text().split())
    for fit in (fitted()["ols"], fitted()["fe"], fitted()["re"]):
        low, high = np.asarray(fit.conf_int(0.1).loc["x2"])
        cell = {
            "t": f"({fit.tvalues['x2']:.3f})",
            "p": "(<0.001)" if (p := fit.pvalues["x2"]) < 0.001 else f"({p:.3f})",
            "ci": f"[{low:.3f}, {high:.3f}]",
        }[statistic]
        assert cell in text
    assert {
        "t": "t or z statistics in parentheses; * p",
        "p": "p-values in parentheses; * p",
        "ci": "90% confidence intervals in brackets; * p",
    }[statistic] in text
    # fixed effects do not have z
    column = table.as_text().splitlines()
    below = next(k for k, line in enumerate(column) if line.startswith("z ")) + 1
    assert column[below].count("(") + column[below].count("[") == 2
    assert pickle.loads(pickle.dumps(table)).as_text() == table.as_text()
    estimates = table.to_frame().xs("estimate", level="value")
    assert_allclose(
        estimates.loc[("coefficients", "x1")].iloc[0], fits["ols"].params["x1"]
    )
    custom = mar.compare(fits, statistic="p", formats={"p_value": ".1g"})
    assert f"({fitted()['ols'].pvalues['x1']:.1g})" in custom.as_text()
    with pytest.raises(UnsupportedError, match="statistic='se "):
        mar.compare(fits, statistic="se ")


def test_html_latex_and_pickle() -> None:
    table = mar.compare({"a < b": fitted()["ols"], "RE_1": fitted()["re"]}, stars=True)
    html = table._repr_html_()
    assert "a &lt; b" in html
    assert html.count("<tr>") == len(table.tables[0]) + 1
    latex = table.as_latex("tab:x")
    assert r"RE\_1" in latex
    assert re.search(r"& \$-0\.\d+\$\*\*\*", latex)
    assert r"\label{tab:x}" in latex
    again = pickle.loads(pickle.dumps(table))
    assert again.as_text() == table.as_text()
    assert mar.compare([fitted()["ols"]], title="Title").as_text().split()[0] == "Title"


def test_tidy_of_regressions_by_group() -> None:
    data = panel()
    for pool in (True, False):
        table = mar.tidy(
            mar.by_group("y ~ x1", data, groups="id", pool=pool), alpha=0.1
        )
        assert list(table.columns) == ["id", *COLUMNS]
        assert len(table) == 40 * 2
        one = table[table["id"] == 7].set_index("term")
        ols = smf.ols("y ~ x1", data[data["id"] == 7]).fit()
        assert_allclose(one["estimate"], ols.params)
        assert_allclose(one["df"], 160 if pool else 4)
        if not pool:
            assert_allclose(one["std_error"], ols.bse)
            assert_allclose(one["statistic"], ols.tvalues)
            assert_allclose(one["p_value"], ols.pvalues)
            assert_allclose(one[["conf_low", "conf_high"]], ols.conf_int(0.1))
    named = mar.by_group("y ~ x1", data.rename(columns={"id": "group"}), groups="group")
    assert mar.tidy(named).columns[0] == "level"


# -- likelihoods ---------------------------------------------------------------------


def test_criteria_count_alike() -> None:
    table = mar.compare(some("ols", "pooled", "fe", "lm fe", "lm twoways", "re ml"))
    llf, aic, bic = (table.statistics.loc[r] for r in ("Log-likelihood", "AIC", "BIC"))
    data = panel()
    ols, n = fitted()["ols"], len(data)
    assert_allclose(llf[["ols", "pooled"]], ols.llf)
    assert_allclose(aic[["ols", "pooled"]], ols.aic + 2)
    assert_allclose(bic[["ols", "pooled"]], ols.bic + np.log(n))
    for name, formula in (("fe", "C(id)"), ("lm twoways", "C(id) + C(t)")):
        dummies = smf.ols(f"y ~ x1 + x2 + {formula}", data).fit()
        assert_allclose(llf[name], dummies.llf)
        assert_allclose(aic[name], dummies.aic + 2)
    assert_allclose(aic["lm fe"], aic["fe"])
    assert_allclose(llf["re ml"], fitted()["re ml"].llf)
    assert_allclose(aic["re ml"], 12 - 2 * llf["re ml"])
    assert any("count the residual variance" in note for note in table.notes)


def test_restricted_likelihoods_with_the_same_fixed_effects() -> None:
    table = mar.compare(some("ar1", "slope", "independent", "re reml", "mixedlm"))
    row = table.statistics.loc["Log-likelihood"]
    assert_allclose(row[["ar1", "slope"]], [fitted()[k].llf for k in ("ar1", "slope")])
    assert_allclose(row[["re reml", "mixedlm"]], row["independent"], rtol=1e-7)
    aic = table.statistics.loc["AIC"]
    assert_allclose(aic[["re reml", "mixedlm"]], aic["independent"], rtol=1e-7)
    assert_allclose(aic["slope"], fitted()["slope"].aic)
    bic = table.statistics.loc["BIC"]
    assert_allclose(bic["slope"], fitted()["slope"].bic)


def test_restricted_likelihoods_with_other_fixed_effects_are_left_out() -> None:
    data = panel()
    small = mar.mixedlm("y ~ x1 + x2", data, groups="id", time="t").fit()
    table = mar.compare({"small": small, "large": fitted()["ar1"]})
    assert "Log-likelihood" not in table.statistics.index
    assert any("different fixed effects" in note for note in table.notes)
    table = mar.compare({"small": small, **some("ar1", "slope")})
    row = table.statistics.loc["AIC"]
    assert np.isnan(row["small"])
    assert row[["ar1", "slope"]].notna().all()
    assert any(
        note.startswith("Log-likelihood, AIC and BIC of small") for note in table.notes
    )
    # the same names, another unit: the restricted likelihood is another one
    unit = data.assign(x1=1000 * data["x1"])
    other = mar.mixedlm(FORMULA, unit, groups="id", time="t").fit()
    table = mar.compare({"a": fitted()["ar1"], "b": other})
    assert "AIC" not in table.statistics.index


def test_likelihoods_and_restricted_ones_are_not_mixed() -> None:
    table = mar.compare(some("ols", "ar1 ml", "ar1"))
    row = table.statistics.loc["BIC"]
    assert row[["ols", "ar1 ml"]].notna().all()
    assert np.isnan(row["ar1"])
    assert any("of ar1 are left out" in n and "reml=False" in n for n in table.notes)
    table = mar.compare(some("ols", "ar1"))
    assert "BIC" not in table.statistics.index
    table = mar.compare(some("re", "ar1", "gee"))
    assert "BIC" not in table.statistics.index
    assert any("only ar1 has a likelihood" in note for note in table.notes)
    assert "BIC" in mar.compare(some("ar1")).statistics.index


# -- samples -------------------------------------------------------------------------


def test_different_numbers_of_rows() -> None:
    data = panel()
    fewer = smf.ols(FORMULA, data.drop(index=[3, 17])).fit()
    fits = {"all": fitted()["fe"], "fewer": fewer}
    pattern = r"mismatch: 'all' has 240 rows and 'fewer' 238; rows .* only in 'all'"
    with pytest.raises(SampleMismatchError, match=pattern) as caught:
        mar.compare(fits)
    assert isinstance(caught.value, MixedARError)
    assert "allow_different_samples" in str(caught.value)
    assert re.search(r"rows (3, 17|17, 3) only", str(caught.value))
    table = mar.compare(fits, allow_different_samples=True)
    assert any(note.startswith("Different samples") for note in table.notes)
    assert "AIC" not in table.statistics.index
    table = mar.compare(
        {**fits, "again": fitted()["ols"]}, allow_different_samples=True
    )
    assert table.statistics.loc["AIC"].notna().tolist() == [True, False, True]
    assert any("different data" in note for note in table.notes)


def test_different_responses_and_rows() -> None:
    data = panel()
    scaled = data.assign(w=data["y"] ** 2)
    other = smf.ols("w ~ x1", scaled).fit()
    with pytest.raises(SampleMismatchError, match=r"response 'y' and .* response 'w'"):
        mar.compare({"a": fitted()["ols"], "b": other})
    ends = [smf.ols("y ~ x1", part).fit() for part in (data[:100], data[100:200])]
    with pytest.raises(SampleMismatchError, match="100 different rows of 'y'"):
        mar.compare(ends)
    # the order of the rows does not matter, nor does their index
    again = smf.ols("y ~ x1", data[:100].sort_values("y").reset_index(drop=True)).fit()
    assert mar.compare([ends[0], again]).statistics.loc["AIC"].notna().all()


def test_fits_without_data() -> None:
    data = panel()
    fit = mar.mixedlm(FORMULA, data, groups="id", time="t").fit()
    fit.remove_data()
    table = mar.compare({"a": fit, "b": fitted()["slope"]})
    assert table.statistics.loc["AIC"].notna().all()
    fit = mar.mixedlm(FORMULA, data[:200], groups="id", time="t").fit()
    fit.remove_data()
    with pytest.raises(SampleMismatchError, match="200 rows"):
        mar.compare({"a": fit, "b": fitted()["slope"]})


# -- bad input -----------------------------------------------------------------------


def test_what_is_no_fit() -> None:
    data = panel()
    model = smf.ols("y ~ x1", data)
    quantile = smf.quantreg("y ~ x1", data).fit()
    for value, message in (
        (model.fit_regularized(alpha=0.1), "accepted are results of mixedar"),
        (quantile, r"\(QuantReg\); accepted are .*statsmodels \(OLS"),
        (model, "not fitted"),
        (mar.mixedlm("y ~ x1", data, groups="id"), "not fitted"),
        (mar.fixed_effects("y ~ x1", data, "id", "t"), "not fitted"),
        (type(model), "the class OLS"),
        (3.0, "of type float"),
        (None, "of type NoneType"),
    ):
        for call in (mar.tidy, mar.glance, lambda fit: mar.compare({"name": fit})):
            with pytest.raises(UnsupportedError, match=message):
                call(value)
    with pytest.raises(UnsupportedError, match="compare: 'name' is"):
        mar.compare({"ok": fitted()["ols"], "name": "x"})
    with pytest.raises(UnsupportedError, match="mapping of names"):
        mar.compare(fitted()["ols"])
    with pytest.raises(EmptyDataError, match="no fits"):
        mar.compare({})
    for alpha in (0.0, 1.0, 95, float("nan")):
        with pytest.raises(UnsupportedError, match="not between 0 and 1"):
            mar.tidy(fitted()["ols"], alpha)
        with pytest.raises(UnsupportedError, match="not between 0 and 1"):
            mar.compare(some("ols"), alpha=alpha)


def test_what_a_reader_has_to_know() -> None:
    rng = np.random.default_rng(5)
    data = panel().assign(y=rng.normal(size=240))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixed = mar.mixedlm("y ~ x1", data, groups="id", residual="independent").fit()
        data = data.assign(y=data["y"] - data.groupby("id")["y"].transform("mean"))
        zero = mar.random_effects("y ~ x1", data, "id", "t").fit()
        flat = mar.mixedlm("y ~ x1", data, groups="id", residual="independent").fit()
    table = mar.compare({"RE": zero, "mixed": flat})
    assert "RE: the estimated variance of the effects is zero." in table.notes
    assert any(
        "mixed: The random effects covariance is singular" in n for n in table.notes
    )
    assert (table.components.loc["SD(id)"] == 0.0).all()
    assert mixed.converged
    unbalanced = panel().iloc[:-7]
    table = mar.compare([mar.random_effects(FORMULA, unbalanced, "id", "t").fit()])
    assert "(1): theta is the median over the entities." in table.notes
    table = mar.compare(some("between", "lm between", "fd"))
    assert "between, lm between: observations are means of the entities." in table.notes


def test_models_of_other_shapes() -> None:
    data = panel().assign(half=lambda d: d["t"] % 2)
    vc = {"half": "0 + C(half)"}
    fits = {
        "gls": mar.mixedlm("y ~ x1", data, groups="id", re_formula="0", time="t").fit(),
        "vc": mar.mixedlm("y ~ x1", data, groups="id", vc_formula=vc, time="t").fit(),
        "arrays": sm.OLS(data["y"].to_numpy(), data[["const", "x1"]].to_numpy()).fit(),
        "exchangeable": smf.gee(
            "y ~ x1", "id", data, cov_struct=sm.cov_struct.Exchangeable()
        ).fit(),
        "glsar": sm.GLSAR.from_formula("y ~ x1", data, rho=2).fit(),
    }
    table = mar.compare(fits, rename={"const": "Intercept"})
    assert list(table.coefficients.index) == ["Intercept", "x1"]
    components = table.components
    assert_allclose(components.loc["SD(half)", "vc"] ** 2, fits["vc"].vcomp[0])
    assert_allclose(
        components.loc["rho", ["gls", "vc"]], [fits[k].rho for k in ("gls", "vc")]
    )
    found = components.loc["Exchangeable Corr", "exchangeable"]
    assert_allclose(found, fits["exchangeable"].model.cov_struct.dep_params)
    assert table.statistics.loc["Observations"].tolist() == [240] * 4 + [238]
    assert not components["glsar"].notna().any()


# -- the plot ------------------------------------------------------------------------


def test_plot() -> None:
    import matplotlib.pyplot as plt

    table = mar.compare(some("ols", "fe", "mundlak", "ar1"))
    ax = table.plot(alpha=0.1)
    assert isinstance(ax, mpl.axes.Axes)
    labels = [tick.get_text() for tick in ax.get_yticklabels()]
    assert labels == ["x1", "x2", "z", "mean(x1)", "mean(x2)"]
    handles, names = ax.get_legend_handles_labels()
    assert names == list(table.methods.columns)
    colours = {handle.lines[0].get_color() for handle in handles}
    markers = {handle.lines[0].get_marker() for handle in handles}
    assert len(colours) == len(markers) == 4
    interval = fitted()["ols"].conf_int(0.1).loc["x1"]
    segment = handles[0].lines[2][0].get_segments()[0]
    assert_allclose(segment[:, 0], interval)
    # models from top to bottom
    heights = [handle.lines[0].get_ydata()[0] for handle in handles]
    assert heights == sorted(heights)
    assert ax.yaxis_inverted()
    assert "90%" in ax.get_xlabel()
    figure, own = plt.subplots()
    assert table.plot(own, ["Intercept", "x1"]) is own
    assert [t.get_text() for t in own.get_yticklabels()] == ["Intercept", "x1"]
    with pytest.raises(UnknownColumnError, match="'w' is not in the table"):
        table.plot(coefficients="w")
    with pytest.raises(UnsupportedError, match="no coefficient to draw"):
        mar.compare(some("ols"), keep="Intercept").plot()
    with pytest.raises(UnsupportedError, match="alpha"):
        table.plot(alpha=2)
    figure.canvas.draw()
    plt.close("all")


@pytest.mark.parametrize("name", ["mixedar.compare", "mixedar.compare.frames"])
def test_examples_in_docstrings(name: str) -> None:
    done = doctest.testmod(import_module(name))
    assert done.attempted > 4
    assert done.failed == 0


def test_names_are_exported() -> None:
    for module in (mar, mixedar.api):
        assert {"compare", "tidy", "glance"} <= set(module.__all__)
        assert {"compare", "tidy", "glance"} <= set(dir(module))
        assert module.tidy is mar.tidy
        with pytest.raises(AttributeError, match="nothing"):
            module.nothing  # noqa: B018


@settings(max_examples=25)
@given(
    power=st.integers(-9, 9),
    seed=st.integers(0, 10**6),
    count=st.integers(1, 3),
)
def test_printed_numbers_are_the_numbers(power: int, seed: int, count: int) -> None:
    # whatever the units, two digits of a standard error or more are printed
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(rng.normal(size=(30, 4)), columns=["y", "a", "b", "c"])
    data["a"] *= 10.0**power
    fits = [smf.ols(f, data).fit() for f in ("y ~ a", "y ~ a + b", "y ~ a + b + c")]
    table = mar.compare(fits[:count])
    lines = table.as_text(200).splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith("a "))
    errors = [float(text.strip("()")) for text in lines[at + 1].split()]
    expected = [fit.bse["a"] for fit in fits[:count]]
    assert_allclose(errors, expected, rtol=0.051)
    estimates = [float(text) for text in lines[at].split()[1:]]
    within = [abs(e - fit.params["a"]) for e, fit in zip(estimates, fits, strict=False)]
    assert (np.array(within) <= 0.06 * np.array(expected)).all()


def test_estimating_equations_with_independence() -> None:
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"g": np.repeat(range(10), 4), "x": rng.normal(size=40)})
    data["y"] = data["x"] + rng.normal(size=40)
    fit = smf.gee("y ~ x", "g", data).fit()
    table = mar.compare({"GEE": fit})
    assert table.coefficients.shape[0] > 0
    assert mar.tidy(fit)["estimate"].notna().all()


def test_names_of_covariance_parameters_are_those_of_the_fit() -> None:
    data = load_orthodont()
    exog = np.column_stack([np.ones(108), data["age"]])
    groups = data["subject"].to_numpy()
    fit = mixedar.api.MixedLMAR(data["distance"], exog, groups).fit()
    assert list(mar.tidy(fit)["term"]) == [*fit.params.index, "Residual Var"]
