"""Regressions by group: estimates, errors, groups that lack something, bad input."""

from __future__ import annotations

import json
import pickle
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.regression.linear_model import OLS, WLS
from statsmodels.tools.sm_exceptions import SingularMatrixWarning

import mixedar.formula.api as mar
from mixedar.api import ByGroupOLS, ByGroupResults
from mixedar.exceptions import (
    DroppedRowsWarning,
    EmptyDataError,
    GroupError,
    LengthError,
    MissingDataError,
    MixedARError,
    RankDeficiencyError,
    ResponseError,
    UnknownColumnError,
    UnsupportedError,
)

FOLDER = Path(__file__).parents[1] / "reference"
CASES = json.loads((FOLDER / "by_group" / "by_group.json").read_text())["cases"]


@cache
def source(name: str) -> pd.DataFrame:
    """A data set that must not be changed."""
    return pd.read_csv(FOLDER / "mixed" / "data" / f"{name}.csv")


def case_data(name: str) -> pd.DataFrame:
    if not name.startswith("growth"):
        return source(name.partition("_")[0])
    people = source("seed")
    people = people[people["id"].isin([*range(1, 21), *range(1251, 1271)])]
    if name != "growth":
        people = people[(people["id"] * 7 + people["time"] * 3) % 5 != 0]
    if name == "growth_single":
        last = people.loc[people["id"] == 1, "time"].max()
        people = people[(people["id"] != 1) | (people["time"] == last)]
    return people


def case(name: str) -> tuple[ByGroupResults, dict[str, Any]]:
    expected = CASES[name]
    formula = expected["formula"].replace("age^2", "age**2")
    return mar.by_group(formula, case_data(name), expected["groups"]), expected


def numbers(values: Any) -> np.ndarray:
    """A matrix of the file, null as NaN."""
    return np.array(values, dtype=float)


def messy(seed: int = 0, m: int = 30) -> pd.DataFrame:
    """Groups of 1 to 6 rows, a column constant in some, shuffled, odd index."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, m)
    group = np.repeat(np.arange(m), sizes)
    n = len(group)
    data = pd.DataFrame({"id": group, "x": rng.normal(size=n)})
    data["z"] = np.where(group % 4 == 0, 1.0, rng.integers(0, 3, n))
    data["y"] = 2.0 + group + data["x"] * (group % 3) + rng.normal(size=n)
    data.index = pd.Index([f"r{k}" for k in range(n)])
    return data.sample(frac=1.0, random_state=seed)


# Against R


@pytest.mark.parametrize("name", CASES)
def test_nlme(name: str) -> None:
    fit, expected = case(name)
    assert [str(label) for label in fit.params.index] == expected["labels"]
    assert [n.replace("**", "^").replace(" ", "") for n in fit.params.columns] == (
        expected["names"]
    )
    keep = slice(1, None) if name == "growth_single" else slice(None)
    # nlme counts the coefficient that person 1 lacks
    df = expected["pooled_df"] + (name == "growth_single")
    assert fit.df_resid == df
    ratio = np.sqrt(expected["pooled_df"] / df)
    assert fit.pooled_sd == pytest.approx(expected["pooled_sd"] * ratio, rel=1e-12)
    close = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(
        fit.params.to_numpy()[keep], numbers(expected["coef"])[keep], **close
    )
    shape = fit.params.shape
    se = numbers(expected["se_pooled"]).reshape(shape) * ratio
    np.testing.assert_allclose(fit.bse.to_numpy()[keep], se[keep], **close)
    own = numbers(expected["se_own"]).reshape(shape)
    df_own = fit.groups["df_resid"].to_numpy() > 0
    np.testing.assert_allclose(
        fit.standard_errors(pool=False)[df_own], own[df_own], rtol=1e-7, atol=1e-12
    )
    sigma = numbers(expected["sigma"])
    np.testing.assert_allclose(
        fit.groups["sigma"][df_own], sigma[df_own], rtol=1e-9, atol=1e-12
    )
    if name == "growth_single":
        return
    t = numbers(expected["t_pooled"]).reshape(shape)
    np.testing.assert_allclose(fit.tvalues, t, rtol=1e-8, atol=1e-9)
    p = numbers(expected["p_pooled"]).reshape(shape)
    np.testing.assert_allclose(fit.pvalues, p, rtol=1e-6, atol=1e-12)
    if shape[1] > 1:
        limits = fit.conf_int()
        for side in ("lower", "upper"):
            found = limits[side].to_numpy().reshape(shape)
            # quantiles of t have eight digits before SciPy 1.14
            close = {"rtol": 1e-7, "atol": 1e-7}
            np.testing.assert_allclose(found, numbers(expected[side]), **close)


def test_a_single_row_gives_no_intercept_where_it_depends_on_the_slope() -> None:
    fit, expected = case("growth_single")
    assert expected["coef"][0][0] is not None
    assert fit.params.iloc[0].isna().all()
    assert fit.problems.index.tolist() == [1]
    assert fit.problems["reason"].iloc[0] == "1 row for 2 coefficients"


# Against least squares, one group at a time


def test_every_group_is_its_own_regression() -> None:
    data = messy()
    fit = mar.by_group("y ~ x + z", data, "id", pool=False)
    design = fit.model.exog
    values = fit.params.to_numpy(), fit.bse.to_numpy()
    for i, label in enumerate(fit.params.index):
        rows = np.flatnonzero(data["id"] == label)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SingularMatrixWarning)
            one = OLS(data["y"].to_numpy()[rows], design[rows]).fit()
        # what is identified does not depend on the generalised inverse
        null = np.eye(3) - np.linalg.pinv(design[rows]) @ design[rows]
        known = np.abs(null).max(axis=0) < 1e-8
        np.testing.assert_array_equal(~np.isnan(values[0][i]), known)
        np.testing.assert_allclose(values[0][i][known], one.params[known], rtol=1e-7)
        if one.df_resid > 0:
            np.testing.assert_allclose(values[1][i][known], one.bse[known], rtol=1e-7)
        np.testing.assert_allclose(
            fit.fittedvalues.to_numpy()[rows], one.fittedvalues, rtol=1e-7, atol=1e-9
        )
        record = fit.groups.loc[label]
        assert record["nobs"] == len(rows)
        assert record["rank"] == np.linalg.matrix_rank(design[rows])
        assert (record["reason"] == "") == known.all()
        assert record["ssr"] == pytest.approx(one.ssr, abs=1e-9)
    pd.testing.assert_index_equal(fit.resid.index, data.index)
    np.testing.assert_allclose(fit.resid + fit.fittedvalues, data["y"])
    total = fit.groups["df_resid"].sum()
    assert fit.df_resid == total
    assert fit.scale == pytest.approx(fit.groups["ssr"].sum() / total)


def test_weights() -> None:
    rng = np.random.default_rng(2)
    who = np.repeat(np.arange(6), 8)
    data = pd.DataFrame(
        {"id": who, "x": rng.normal(size=48), "wt": rng.uniform(1, 5, 48)}
    )
    data["y"] = data["x"] * who + rng.normal(size=48)
    data = data.sample(frac=1.0, random_state=1)
    for pool in (False, True):
        fit = mar.by_group("y ~ x", data, "id", weights="wt", pool=pool)
        total = 0.0
        for label, rows in data.groupby("id"):
            wls = WLS.from_formula("y ~ x", rows, weights=rows["wt"]).fit()
            np.testing.assert_allclose(fit.params.loc[label], wls.params)
            np.testing.assert_allclose(fit.fittedvalues[rows.index], wls.fittedvalues)
            if not pool:
                np.testing.assert_allclose(fit.bse.loc[label], wls.bse)
                np.testing.assert_allclose(fit.cov_params(label), wls.cov_params())
            total += wls.ssr
        assert fit.scale == pytest.approx(total / (6 * 6))
    holes = data.assign(wt=data["wt"].where(data.index != 3))
    with pytest.raises(MissingDataError, match="'wt'"):
        mar.by_group("y ~ x", holes, "id", weights="wt")
    with pytest.warns(DroppedRowsWarning, match="1 row"):
        fit = mar.by_group("y ~ x", holes, "id", weights="wt", missing="drop")
    assert fit.nobs == 47
    arrays = ByGroupOLS(data["y"], data[["x"]], data["id"], weights=data["wt"]).fit()
    formula = mar.by_group("y ~ 0 + x", data, "id", weights=data["wt"])
    np.testing.assert_allclose(arrays.params, formula.params)
    with pytest.raises(UnsupportedError, match="must be positive"):
        mar.by_group("y ~ x", data, "id", weights=-data["wt"])


def test_covariance_of_one_group() -> None:
    data = source("orthodont")
    fit = mar.by_group("distance ~ age", data, "subject", pool=False)
    rows = data[data["subject"] == "M05"]
    one = OLS(rows["distance"], fit.model.exog[rows.index]).fit()
    np.testing.assert_allclose(fit.cov_params("M05"), one.cov_params(), rtol=1e-9)
    pooled = fit.cov_params("M05", pool=True)
    np.testing.assert_allclose(pooled, one.normalized_cov_params * fit.scale)
    np.testing.assert_allclose(
        np.sqrt(np.diag(pooled)), fit.standard_errors(pool=True).loc["M05"]
    )
    with pytest.raises(GroupError, match="no group 'M99'"):
        fit.cov_params("M99")


def test_intervals_with_own_deviations() -> None:
    data = source("sleepstudy")
    fit = mar.by_group("reaction ~ days", data, "subject", pool=False)
    rows = data[data["subject"] == 308]
    one = OLS(rows["reaction"], fit.model.exog[rows.index]).fit()
    found = fit.conf_int(alpha=0.1).loc[308]
    np.testing.assert_allclose(found[["lower", "upper"]], one.conf_int(0.1), rtol=1e-9)
    np.testing.assert_allclose(fit.pvalues.loc[308], one.pvalues, rtol=1e-8)
    assert (found["df"] == 8).all()
    wide = fit.conf_int(alpha=0.1, pool=True).loc[308]
    assert (wide["df"] == 144).all()


@given(
    st.integers(0, 10_000),
    st.integers(1, 8),
    st.integers(1, 4),
    st.sampled_from([1e-4, 1.0, 1e4]),
)
def test_any_design(seed: int, m: int, p: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, m, 5 * m)
    n = len(codes)
    x = rng.integers(-1, 3, (n, p)) * scale ** rng.integers(-1, 2, p)
    y = rng.normal(size=n)
    fit = ByGroupOLS(y, x, codes).fit()
    for i, label in enumerate(fit.params.index):
        rows = codes == label
        scaled = x[rows] / np.maximum(np.abs(x).max(axis=0), 1e-300)
        null = np.eye(p) - np.linalg.pinv(scaled) @ scaled
        known = np.abs(null).max(axis=0) < 1e-8
        found = fit.params.to_numpy()[i]
        np.testing.assert_array_equal(~np.isnan(found), known)
        beta = np.linalg.lstsq(scaled, y[rows], rcond=None)[0]
        beta = beta / np.maximum(np.abs(x).max(axis=0), 1e-300)
        np.testing.assert_allclose(found[known], beta[known], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(
            fit.predict(x[rows], codes[rows]), fit.fittedvalues[rows], atol=1e-7
        )


def test_large_offsets_keep_their_digits() -> None:
    # years, with an intercept at the birth of Christ
    rng = np.random.default_rng(1)
    year = np.tile(np.arange(2000.0, 2006.0), 20)
    codes = np.repeat(np.arange(20), 6)
    y = 3.0 + 0.25 * (year - 2000.0) + rng.normal(scale=0.1, size=120)
    at_zero = ByGroupOLS(y, np.column_stack([np.ones(120), year]), codes).fit()
    centred = ByGroupOLS(y, np.column_stack([np.ones(120), year - 2000]), codes).fit()
    np.testing.assert_allclose(at_zero.params["x2"], centred.params["x2"], rtol=1e-10)
    np.testing.assert_allclose(at_zero.bse["x2"], centred.bse["x2"], rtol=1e-9)
    np.testing.assert_allclose(at_zero.fittedvalues, centred.fittedvalues, rtol=1e-11)


# Groups that lack something


def test_reasons() -> None:
    data = pd.DataFrame(
        {
            "id": ["a"] * 3 + ["b"] * 3 + ["c"] * 3 + ["d"] + ["e"] * 2,
            "x": [0.0, 1, 2, 3, 3, 3, 0, 0, 0, 0, 1, 2],
            "w": [0.0, 1, 0, 0, 1, 5, 2, 1, 7, 0, 2, 5],
            "y": np.arange(12.0),
        }
    )
    fit = mar.by_group("y ~ x + w", data, "id")
    assert fit.groups["reason"].to_dict() == {
        "a": "",
        "b": "'x' is proportional to 'Intercept' (known: 'w')",
        "c": "'x' is zero in all rows (known: 'Intercept', 'w')",
        "d": "1 row for 3 coefficients (known: 'Intercept')",
        "e": "2 rows for 3 coefficients",
    }
    assert fit.params.loc["d", "Intercept"] == 9.0
    assert fit.problems.index.tolist() == ["b", "c", "d", "e"]
    known = fit.params.notna()
    assert (fit.bse.notna() == known).all(axis=None)
    data["s"] = data["x"] + 2.0 * data["w"]
    fit = mar.by_group("y ~ x + w + s", data[data["id"] == "a"], "id")
    assert fit.groups["reason"].iloc[0] == (
        "3 rows for 4 coefficients (known: 'Intercept')"
    )
    more = pd.concat([data, data.assign(w=data["w"] ** 2)])
    more["s"] = more["x"] + 2.0 * more["w"]
    fit = mar.by_group("y ~ x + w + s", more[more["id"] == "a"], "id")
    reason = "'s' is a linear combination of 'x', 'w' (known: 'Intercept')"
    assert fit.groups["reason"].iloc[0] == reason


def test_a_covariate_of_the_groups(growth: pd.DataFrame) -> None:
    fit = mar.by_group("y ~ time + treatment", growth, "id")
    alone = mar.by_group("y ~ time", growth, "id")
    np.testing.assert_allclose(fit.params["time"], alone.params["time"])
    assert fit.params["treatment[T.treatment]"].isna().all()
    control = growth.groupby("id")["treatment"].first() == "control"
    assert (fit.params["Intercept"].notna() == control).all()
    assert fit.pooled_sd == pytest.approx(alone.pooled_sd)
    assert fit.df_resid == alone.df_resid == 5000
    assert len(fit.problems) == 2500
    text = str(fit.summary())
    assert "1250 groups lack coefficients, 1, 2, 3, 4, 5 and 1245 more" in text


def test_no_residual_degrees_of_freedom() -> None:
    data = pd.DataFrame({"y": [1.0, 2, 5, 3], "x": [0, 1, 0, 1], "id": [1, 1, 2, 2]})
    fit = mar.by_group("y ~ x", data, "id")
    np.testing.assert_allclose(fit.params, [[1.0, 1.0], [5.0, -2.0]])
    assert fit.df_resid == 0
    assert np.isnan(fit.pooled_sd)
    assert fit.bse.isna().all(axis=None)
    assert fit.pvalues.isna().all(axis=None)
    assert fit.conf_int()["lower"].isna().all()
    assert "there is no residual variance" in str(fit.summary())
    mixed = pd.concat([data, data.assign(id=3, x=[0, 1, 2, 3])])
    fit = mar.by_group("y ~ x", mixed, "id", pool=False)
    assert fit.bse.notna().all(axis=1).tolist() == [False, False, True]
    assert "2 of the groups have no residual degrees" in str(fit.summary())
    assert fit.standard_errors(pool=True).notna().all(axis=None)


def test_one_group() -> None:
    data = source("orthodont")
    fit = mar.by_group("distance ~ age + sex", data, np.ones(len(data)))
    one = OLS(data["distance"], fit.model.exog).fit()
    np.testing.assert_allclose(fit.params.iloc[0], one.params)
    np.testing.assert_allclose(fit.bse.iloc[0], one.bse)
    assert fit.params.index.tolist() == [1.0]
    assert fit.params.index.name == "Group"
    assert "Coefficients" in str(fit.summary())


# Invariances


def test_row_order_and_labels() -> None:
    data = messy(3)
    fit = mar.by_group("y ~ x", data, "id")
    shuffled = data.sample(frac=1.0, random_state=9)
    other = mar.by_group("y ~ x", shuffled, "id")
    pd.testing.assert_frame_equal(other.params, fit.params)
    pd.testing.assert_frame_equal(other.bse, fit.bse)
    pd.testing.assert_series_equal(other.resid.loc[data.index], fit.resid)
    renamed = data.assign(id=[f"g{99 - k}" for k in data["id"]])
    other = mar.by_group("y ~ x", renamed, "id")
    assert other.params.index.tolist() == sorted(renamed["id"].unique())
    np.testing.assert_allclose(other.params, fit.params.iloc[::-1])
    tenfold = mar.by_group("I(10 * y) ~ x", data, "id")
    pd.testing.assert_frame_equal(tenfold.params, 10.0 * fit.params)
    np.testing.assert_allclose(tenfold.bse, 10.0 * fit.bse)
    assert tenfold.model.endog_name == "I(10 * y)"


@pytest.mark.parametrize(
    "convert",
    [
        lambda g: g.astype(str),
        lambda g: g.astype("category"),
        lambda g: pd.Categorical(g, categories=[*range(99, -1, -1)]),
        lambda g: pd.Timestamp("2020-01-01") + pd.to_timedelta(g, unit="D"),
        lambda g: g.astype("Int64"),
        lambda g: g.astype(float) / 2,
        list,
    ],
)
def test_types_of_labels(convert: Any) -> None:
    data = messy(4)
    expected = mar.by_group("y ~ x", data, "id")
    order = expected.params.index.astype(str).argsort()
    groups = convert(data["id"])
    fit = mar.by_group("y ~ x", data.assign(id=groups), "id")
    assert set(fit.params.index) == set(np.asarray(groups).tolist()) or isinstance(
        fit.params.index, pd.DatetimeIndex
    )
    text = isinstance(fit.params.index[0], str)
    values = expected.params.iloc[order] if text else expected.params
    np.testing.assert_allclose(fit.params, values)
    np.testing.assert_allclose(fit.resid, expected.resid)


def test_index_columns_and_combinations_as_groups() -> None:
    data = source("orthodont")
    expected = mar.by_group("distance ~ age", data, "subject")
    indexed = data.set_index("subject")
    fit = mar.by_group("distance ~ age", indexed, "subject")
    pd.testing.assert_frame_equal(fit.params, expected.params)
    fit = mar.by_group("distance ~ age", data, ["sex", "subject"])
    assert fit.params.index[0] == "Female / F01"
    assert fit.params.index.name == "sex / subject"
    np.testing.assert_allclose(fit.params, expected.params)
    np.testing.assert_allclose(fit.predict(data), fit.fittedvalues)
    fit = mar.by_group("distance ~ age", data, data["subject"].to_numpy())
    np.testing.assert_allclose(fit.predict(data, data["subject"]), fit.fittedvalues)


def test_arrays_are_the_formula() -> None:
    data = messy(5)
    expected = mar.by_group("y ~ x", data, "id")
    x = pd.DataFrame({"Intercept": 1.0, "x": data["x"]}, index=data.index)
    fit = ByGroupOLS(data["y"], x, data["id"]).fit()
    pd.testing.assert_frame_equal(fit.params, expected.params)
    pd.testing.assert_series_equal(fit.fittedvalues, expected.fittedvalues)
    plain = ByGroupOLS(list(data["y"]), x.to_numpy(), list(data["id"])).fit()
    np.testing.assert_allclose(plain.params, expected.params)
    assert list(plain.params.columns) == ["x1", "x2"]
    rows, labels = x.to_numpy(), data["id"]
    np.testing.assert_allclose(plain.predict(rows, labels), expected.fittedvalues)
    with pytest.raises(UnknownColumnError, match="columns x1, x2"):
        plain.predict(x, labels)
    turned = x[["x", "Intercept"]].assign(other=3.0)
    pd.testing.assert_series_equal(
        fit.predict(turned, labels), expected.fittedvalues, check_names=False
    )
    single = ByGroupOLS(data["y"], data["x"], data["id"]).fit()
    assert list(single.params.columns) == ["x"]


def test_variables_of_the_caller_and_transforms() -> None:
    data = messy(6)
    shift = 2.0

    def double(x: Any) -> Any:
        return 2.0 * x

    fit = mar.by_group("y ~ double(x) + I(z - shift)", data, "id")
    direct = mar.by_group(
        "y ~ a + b", data.assign(a=2 * data["x"], b=data["z"] - 2), "id"
    )
    np.testing.assert_allclose(fit.params, direct.params)
    np.testing.assert_allclose(
        mar.by_group("y ~ double(x)", data, "id", eval_env=0).params,
        mar.by_group("y ~ double(x)", data, "id", eval_env=locals()).params,
    )
    np.testing.assert_allclose(
        ByGroupOLS.from_formula("y ~ double(x)", data, "id", eval_env=0).fit().params,
        mar.by_group("y ~ double(x)", data, "id").params,
    )
    centred = mar.by_group("y ~ center(x)", data, "id")
    # the mean of all rows, not of each group's
    expected = mar.by_group("y ~ I(x - mean)", data.assign(mean=data["x"].mean()), "id")
    np.testing.assert_allclose(centred.params, expected.params)


# Missing values


def test_missing_values() -> None:
    data = messy(7)
    data = data.assign(y=data["y"].where(data["id"] != 3))
    data.iloc[0, data.columns.get_loc("x")] = np.nan
    with pytest.raises(MissingDataError, match="'y'"):
        mar.by_group("y ~ x", data, "id")
    complete = mar.by_group("y ~ x", data.dropna(), "id")
    with pytest.warns(DroppedRowsWarning, match="rows with missing values"):
        fit = mar.by_group("y ~ x", data, "id", missing="drop")
    assert fit.model.n_dropped == len(data) - len(data.dropna())
    assert fit.n_groups == complete.n_groups + 1
    assert fit.groups.loc[3, "reason"] == "no row without missing values"
    assert fit.params.loc[3].isna().all()
    assert np.isnan(fit.predict(pd.DataFrame({"x": [1.0], "id": [3]}))).all()
    pd.testing.assert_frame_equal(complete.params, fit.params.drop(index=3))
    pd.testing.assert_frame_equal(complete.bse, fit.bse.drop(index=3))
    pd.testing.assert_series_equal(fit.resid, complete.resid)
    assert fit.pooled_sd == pytest.approx(complete.pooled_sd)
    x = np.column_stack([np.ones(len(data)), data["x"]])
    with pytest.warns(DroppedRowsWarning):
        arrays = ByGroupOLS(data["y"], x, data["id"], missing="drop").fit()
    np.testing.assert_allclose(arrays.params, fit.params)
    assert arrays.groups["reason"].tolist() == fit.groups["reason"].tolist()
    with pytest.raises(MissingDataError):
        ByGroupOLS(data["y"], x, data["id"])
    pairs = data.assign(half=data["id"] % 2)
    with pytest.warns(DroppedRowsWarning):
        fit = mar.by_group("y ~ x", pairs, ["half", "id"], missing="drop")
    assert fit.groups.loc["1 / 3", "nobs"] == 0


def test_subset_and_missing_labels() -> None:
    data = messy(8)
    keep = data["id"] > 9
    fit = mar.by_group("y ~ x", data, "id", subset=keep)
    pd.testing.assert_frame_equal(
        fit.params, mar.by_group("y ~ x", data[keep], "id").params
    )
    gone = data.assign(id=data["id"].where(data["id"] != 12), y=data["y"])
    gone.loc[gone["id"] == 14, "y"] = np.nan
    with pytest.raises(MissingDataError, match="'id'"):
        mar.by_group("y ~ x", gone.assign(y=1.0), "id")
    with pytest.warns(DroppedRowsWarning):
        fit = mar.by_group("y ~ x", gone, "id", subset=keep, missing="drop")
    assert fit.params.index.min() == 10
    assert 12 not in fit.params.index
    assert fit.problems.loc[14, "nobs"] == 0


# New rows


def test_predict() -> None:
    data = source("sleepstudy")
    fit = mar.by_group("reaction ~ days", data, "subject")
    new = pd.DataFrame(
        {"subject": [310, 308, 310], "days": [12.0, 0.5, np.nan]}, index=list("abc")
    )
    found = fit.predict(new)
    assert list(found.index) == ["a", "b", "c"]
    coef = fit.params
    expected = [
        coef.loc[310] @ [1.0, 12.0],
        coef.loc[308] @ [1.0, 0.5],
        np.nan,
    ]
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(
        fit.predict(new.drop(columns="subject"), [1] * 3, "nan"), np.nan
    )
    np.testing.assert_allclose(
        fit.predict(new.drop(columns="subject"), new["subject"]), expected
    )
    pd.testing.assert_series_equal(fit.predict(), fit.fittedvalues)
    with pytest.raises(GroupError, match=r"group 999 in row 'b'"):
        fit.predict(new.assign(subject=[310, 999, 310]))
    with pytest.raises(GroupError, match="no column 'subject'"):
        fit.predict(new.drop(columns="subject"))
    with pytest.raises(UnknownColumnError, match="days"):
        fit.predict(new.drop(columns="days"))
    with pytest.raises(EmptyDataError):
        fit.predict(new.iloc[:0])
    with pytest.raises(UnsupportedError, match="unknown="):
        fit.predict(new, unknown="population")


def test_predict_what_a_deficient_group_determines(growth: pd.DataFrame) -> None:
    fit = mar.by_group("y ~ time + treatment", growth, "id")
    np.testing.assert_allclose(fit.predict(growth), fit.fittedvalues)
    other = growth.assign(
        treatment=growth["treatment"].map(
            {"control": "treatment", "treatment": "control"}
        )
    )
    assert fit.predict(other).isna().all()


def test_predict_from_arrays() -> None:
    fit = ByGroupOLS(np.arange(6.0), np.ones(6), list("aabbcc")).fit()
    np.testing.assert_allclose(fit.predict([1.0, 2.0], ["b", "a"]), [2.5, 1.0])
    with pytest.raises(LengthError, match="2 columns"):
        fit.predict(np.ones((3, 2)), list("abc"))
    with pytest.raises(LengthError, match="labels"):
        fit.predict(np.ones(3), list("ab"))
    with pytest.raises(GroupError, match="both"):
        fit.predict(np.ones(3))
    with pytest.raises(EmptyDataError):
        fit.predict(np.ones((0, 1)), [])


# Bad input


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (GroupError, "groups=", lambda d: mar.by_group("y ~ x", d)),
        (UnknownColumnError, "'person'", lambda d: mar.by_group("y ~ x", d, "person")),
        (UnknownColumnError, "'w'", lambda d: mar.by_group("y ~ w", d, "id")),
        (ResponseError, "no response", lambda d: mar.by_group("~ x", d, "id")),
        (RankDeficiencyError, "no column", lambda d: mar.by_group("y ~ 0", d, "id")),
        (
            GroupError,
            "types",
            lambda d: mar.by_group("y ~ x", d, [1, "a"] * (len(d) // 2)),
        ),
        (LengthError, "rows", lambda d: mar.by_group("y ~ x", d, [1, 2, 3])),
        (EmptyDataError, "no rows", lambda d: mar.by_group("y ~ x", d[:0], "id")),
        (MixedARError, "missing=", lambda d: mar.by_group("y ~ x", d, "id", missing=1)),
        (
            ResponseError,
            "numeric",
            lambda d: mar.by_group("y ~ x", d.assign(y="a"), "id"),
        ),
        (
            MissingDataError,
            "infinite",
            lambda d: mar.by_group("y ~ x", d.assign(x=np.inf), "id"),
        ),
        (UnsupportedError, "missing=", lambda d: ByGroupOLS([1.0], [1.0], [1], "no")),
        (GroupError, "groups=", lambda d: ByGroupOLS([1.0], [1.0], None)),
        (LengthError, "exog", lambda d: ByGroupOLS([1.0, 2.0], [1.0], [1, 1])),
        (ResponseError, "shape", lambda d: ByGroupOLS(np.ones((3, 2)), [1.0], [1])),
        (EmptyDataError, "no observations", lambda d: ByGroupOLS([], [], [])),
    ],
)
def test_bad_input(error: type[Exception], match: str, call: Any) -> None:
    data = messy(9)
    data = data.iloc[: 2 * (len(data) // 2)]
    with pytest.raises(error, match=match):
        call(data)


def test_bad_alpha_and_mixed_labels() -> None:
    fit, _ = case("orthodont")
    for alpha in (0.0, 1.0, 95):
        with pytest.raises(UnsupportedError, match="alpha"):
            fit.conf_int(alpha)
    with pytest.raises(GroupError, match=r"types int, str"):
        ByGroupOLS([1.0, 2.0], [1.0, 1.0], [1, "1"])


# Summary, pickles, pictures


def test_summary() -> None:
    fit, _ = case("orthodont")
    summary = fit.summary()
    frames = summary.to_frames()
    assert list(frames) == ["coefficients", "Intercept", "age"]
    assert frames["coefficients"].loc["age", "Mean"] == pytest.approx(0.6601852)
    np.testing.assert_array_equal(frames["age"]["Coef."], fit.params["age"])
    np.testing.assert_allclose(frames["age"]["P>|t|"], fit.pvalues["age"])
    text = str(summary)
    assert "Pooled sd:" in text
    assert "1.31004" in text
    assert list(fit.summary(max_groups=20).to_frames()) == ["coefficients"]
    own = fit.summary(pool=False)
    assert "own sd" in str(own)
    np.testing.assert_allclose(
        own.to_frames()["age"]["Std.Err."], fit.standard_errors(pool=False)["age"]
    )
    assert "<table" in summary.as_html()
    assert "27 groups" in repr(fit)


def test_pickle() -> None:
    fit, _ = case("orthodont")
    again = pickle.loads(pickle.dumps(fit))
    pd.testing.assert_frame_equal(again.params, fit.params)
    data = source("orthodont").head(3)
    pd.testing.assert_series_equal(again.predict(data), fit.predict(data))


def test_plot() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot as plt

    fit, _ = case("orthodont")
    figure = fit.plot()
    assert len(figure.axes) == 2
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == fit.params["Intercept"].sort_values().index.tolist()
    ax = fit.plot("age", sort_by="age", alpha=0.1)
    assert "90% intervals" in ax.get_xlabel()
    segments = np.array([s[:, 0] for s in ax.collections[0].get_segments()])
    frame = fit.conf_int(0.1).xs("age", level=1).sort_values("estimate")
    np.testing.assert_allclose(segments, frame[["lower", "upper"]])
    axes = plt.subplots(1, 2)[1]
    assert fit.plot(ax=axes) is axes[0].figure
    with pytest.raises(UnsupportedError, match="1 axes for 2 panels"):
        fit.plot(ax=axes[0])
    with pytest.raises(UnknownColumnError, match="'height'"):
        fit.plot("height")
    with pytest.raises(UnknownColumnError, match="'height'"):
        fit.plot("age", sort_by="height")
    with pytest.raises(UnsupportedError, match="max_groups"):
        fit.plot("age", max_groups=1)
    plt.close("all")


def test_plot_of_many_groups_says_what_it_leaves_out(growth: pd.DataFrame) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot as plt

    data = growth[(growth["id"] > 10) | (growth["time"] == 3)]
    fit = mar.by_group("y ~ time", data, "id")
    ax = fit.plot("time", max_groups=100)
    assert ax.get_ylabel() == (
        "id: 100 of 2,500 groups, evenly by rank\n(10 without an estimate)"
    )
    assert len(ax.collections[0].get_segments()) == 100
    plt.close("all")


def test_many_groups_at_once() -> None:
    rng = np.random.default_rng(0)
    m, size = 50_000, 4
    y = rng.normal(size=(m, size))
    data = pd.DataFrame(
        {
            "y": y.ravel(),
            "time": np.tile(np.arange(size), m),
            "id": np.repeat(rng.permutation(m), size),
        }
    )
    fit = mar.by_group("y ~ time", data.sample(frac=1.0, random_state=0), "id")
    ids = data["id"].to_numpy()[::size]
    centred = np.arange(size) - 1.5
    slopes = y @ centred / (centred @ centred)
    np.testing.assert_allclose(fit.params["time"].loc[ids], slopes, atol=1e-12)
    intercepts = y.mean(axis=1) - 1.5 * slopes
    np.testing.assert_allclose(fit.params["Intercept"].loc[ids], intercepts, atol=1e-12)
    rest = y - y.mean(axis=1, keepdims=True) - slopes[:, None] * centred
    assert fit.scale == pytest.approx((rest**2).sum() / (m * (size - 2)))
