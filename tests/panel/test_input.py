"""
What panel estimators take: formulas, arrays, indexes, times; and bad input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import mixedar.formula.api as mar
from helpers.panel_cases import FORMULA, FUNCTIONS, design, panel_data
from mixedar.datasets import load_orthodont
from mixedar.exceptions import (
    DroppedRowsWarning,
    DuplicateTimeError,
    EmptyDataError,
    GroupError,
    IdentificationError,
    LengthError,
    MagnitudeError,
    MissingDataError,
    RankDeficiencyError,
    ResponseError,
    TimeError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.panel import (
    BetweenOLS,
    FirstDifferenceOLS,
    FixedEffects,
    PooledOLS,
    RandomEffects,
)


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return panel_data()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_multiindex(data: pd.DataFrame, function: str) -> None:
    build = getattr(mar, function)
    fit = build("y ~ x1 + x2 + t", data, "id", "t").fit()
    for index in (["id", "t"], [data["id"].to_numpy(), data["t"].to_numpy()]):
        indexed = data.set_index(index)
        formula = "y ~ x1 + x2 + t"
        if index[0] is not data["id"] and "t" not in indexed.index.names:
            indexed = indexed.assign(t=data["t"].to_numpy())
        other = build(formula, indexed).fit()
        assert_allclose(fit.params, other.params, rtol=1e-12)
        assert other.panel.n_entities == fit.panel.n_entities


def test_arrays_as_statsmodels_takes_them(data: pd.DataFrame) -> None:
    x = design(data)
    classes = {
        "fixed_effects": FixedEffects,
        "random_effects": RandomEffects,
        "pooled": PooledOLS,
        "between": BetweenOLS,
        "first_difference": FirstDifferenceOLS,
    }
    for function, cls in classes.items():
        fit = getattr(mar, function)(FORMULA, data, "id", "t").fit()
        other = cls(data["y"], x, data["id"], data["t"]).fit()
        assert_allclose(other.params[fit.params.index], fit.params, rtol=1e-9)
        assert list(other.resid.index) == list(fit.resid.index)
    bare = PooledOLS(
        data["y"].to_numpy(), x.to_numpy(), data["id"].to_numpy(), data["t"].to_numpy()
    ).fit()
    assert list(bare.params.index) == ["const", "x1", "x2", "x3", "x4", "x5"]
    indexed = data.set_index(["id", "t"])
    by_index = RandomEffects(indexed["y"], x.set_axis(indexed.index)).fit()
    assert by_index.panel.entity_name == "id"
    assert by_index.panel.time_name == "t"


def test_time_may_be_a_regressor_and_dates(data: pd.DataFrame) -> None:
    fit = mar.random_effects("y ~ t + x1", data, "id", "t").fit()
    assert "t" in fit.params
    dated = data.assign(day=pd.to_datetime(data["t"].astype(str) + "-01-01"))
    other = mar.first_difference("y ~ x1", dated, "id", "day").fit()
    assert_allclose(
        other.params, mar.first_difference("y ~ x1", data, "id", "t").fit().params
    )
    assert other.panel.time_unit == "1 year"
    assert isinstance(other.panel.time_labels[0], np.datetime64)


def test_rows_are_the_time_without_one(data: pd.DataFrame) -> None:
    ordered = data.sort_values(["id", "t"])
    fit = mar.fixed_effects("y ~ x1", ordered, "id").fit()
    assert not fit.panel.has_time
    same = mar.fixed_effects("y ~ x1", ordered, "id", "t").fit()
    assert_allclose(fit.params, same.params, rtol=1e-12)
    rows = mar.first_difference("y ~ x1", ordered, "id").fit()
    previous = mar.first_difference("y ~ x1", ordered, "id", "t", gaps="previous").fit()
    assert_allclose(rows.params, previous.params, rtol=1e-12)


def test_missing_values(data: pd.DataFrame) -> None:
    holes = data.copy()
    holes.loc[holes.index[[2, 7]], "x1"] = np.nan
    holes.loc[holes.index[9], "id"] = None
    with pytest.raises(MissingDataError, match="x1"):
        mar.fixed_effects(FORMULA, holes, "id", "t")
    with pytest.warns(UserWarning, match="3 rows"):
        model = mar.fixed_effects(FORMULA, holes, "id", "t", missing="drop")
    fit, complete = model.fit(), mar.fixed_effects(FORMULA, holes.dropna(), "id", "t")
    assert_allclose(fit.params, complete.fit().params, rtol=1e-12)
    assert "3 rows with missing values" in str(fit.summary())
    with pytest.warns(UserWarning, match="3 rows"):
        array = PooledOLS(
            holes["y"], design(holes), holes["id"], holes["t"], missing="drop"
        )
    assert array.panel.nobs == len(data) - 3
    # means are those of the rows that are used
    with pytest.warns(UserWarning, match="3 rows"):
        mundlak = mar.mundlak("y ~ x1", holes, "id", "t", missing="drop")
    frame = holes.dropna()
    column = mundlak.panel.names.index("mean(x1)")
    found = mundlak.panel.unsort(mundlak.panel.x[:, column])
    assert_allclose(found, frame.groupby("id")["x1"].transform("mean"), rtol=1e-12)


def test_formulas_mean_the_same_everywhere(data: pd.DataFrame) -> None:
    power = 2.0
    fit = mar.pooled("np.exp(y / 9) ~ I(x1 ** power) + x2:z", data, "id", "t").fit()
    assert list(fit.params.index) == ["Intercept", "I(x1 ** power)", "x2:z"]
    assert power == 2.0
    none = mar.fixed_effects("y ~ 0 + x1", data, "id", "t").fit()
    assert list(none.params.index) == ["x1"]
    some = mar.fixed_effects("y ~ x1", data, "id", "t").fit()
    assert none.params["x1"] == pytest.approx(some.params["x1"], rel=1e-12)
    assert_allclose(none.effects, some.effects + some.params["Intercept"], rtol=1e-9)
    subset = mar.pooled("y ~ x1", data, "id", "t", subset=data["t"] > 2003).fit()
    assert subset.nobs == (data["t"] > 2003).sum()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_duplicates(data: pd.DataFrame, function: str) -> None:
    twice = pd.concat([data, data.iloc[[4]]])
    when, who = data["t"].iloc[4], data["id"].iloc[4]
    with pytest.raises(
        DuplicateTimeError, match=f"'{who}' is observed twice at t {when}"
    ):
        getattr(mar, function)("y ~ x1", twice, "id", "t").fit()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_texts_as_times(data: pd.DataFrame, function: str) -> None:
    with pytest.raises(TimeError, match="'when'"):
        getattr(mar, function)(
            "y ~ x1", data.assign(when="y" + data["t"].astype(str)), "id", "when"
        )


@pytest.mark.parametrize(
    "function", ["fixed_effects", "random_effects", "between", "fixed_effects_ar1"]
)
def test_one_entity(data: pd.DataFrame, function: str) -> None:
    one = data[data["id"] == data["id"].iloc[0]]
    with pytest.raises(GroupError, match="all rows belong to one id"):
        getattr(mar, function)("y ~ x1", one, "id", "t")


@pytest.mark.parametrize("function", ["fixed_effects", "first_difference"])
def test_one_period(data: pd.DataFrame, function: str) -> None:
    one = data[data["t"] == 2003]
    with pytest.raises(TimeError, match="observed once only"):
        getattr(mar, function)("y ~ x1", one, "id", "t")


def test_one_period_elsewhere(data: pd.DataFrame) -> None:
    one = data[data["t"] == 2003]
    with pytest.raises(IdentificationError, match="cannot be estimated"):
        mar.random_effects("y ~ x1", one, "id", "t").fit()
    assert mar.pooled("y ~ x1", one, "id", "t").fit().nobs == len(one)
    with pytest.raises(TimeError, match="one period"):
        mar.fixed_effects("y ~ x1", one, "id", "t", effects="time")
    with pytest.raises(TimeError, match="needs time="):
        mar.fixed_effects("y ~ x1", data, "id", effects="twoways")


@pytest.mark.parametrize("function", ["fixed_effects", "first_difference", "mundlak"])
def test_nothing_varies_over_time(data: pd.DataFrame, function: str) -> None:
    with pytest.raises(IdentificationError, match="z"):
        getattr(mar, function)("y ~ z", data, "id", "t").fit()


def test_few_observations(data: pd.DataFrame) -> None:
    pairs = data.sort_values(["id", "t"]).groupby("id").head(2).groupby("id")
    few = pairs.filter(lambda rows: len(rows) == 2).iloc[:4]
    with pytest.raises(IdentificationError, match="4 observations"):
        mar.fixed_effects("y ~ x1 + x2", few, "id", "t").fit()
    with pytest.raises(IdentificationError, match="2 entities"):
        mar.between("y ~ x1 + x2", few, "id", "t").fit()
    with pytest.raises(IdentificationError):
        mar.random_effects("y ~ x1 + x2 + t", few, "id", "t").fit()


def test_means_that_are_collinear() -> None:
    balanced = panel_data(2, keep=1.1)
    with pytest.raises(RankDeficiencyError, match="means over id"):
        mar.between("y ~ x1 + C(t)", balanced, "id", "t").fit()
    # without means of their own, period dummies get none in Mundlak's model
    model = mar.mundlak("y ~ x1 + C(t)", balanced, "id", "t")
    assert list(model.means) == ["mean(x1)"]


def test_responses(data: pd.DataFrame) -> None:
    with pytest.raises(ResponseError, match="constant"):
        mar.pooled("y ~ x1", data.assign(y=3.0), "id", "t")
    exact = data.assign(y=2.0 * data["x1"] + data["z"])
    for function in ("fixed_effects", "fixed_effects_ar1"):
        with pytest.raises(ResponseError, match="no residual variation"):
            getattr(mar, function)("y ~ x1", exact, "id", "t").fit()
    with pytest.raises(ResponseError, match="no residual variation"):
        mar.pooled("y ~ x1 + z", exact, "id", "t").fit()
    with pytest.raises(ResponseError, match="not numeric"):
        PooledOLS(data["g"], design(data), data["id"])
    with pytest.raises(ResponseError, match="one column"):
        PooledOLS(data[["y", "x1"]], design(data), data["id"])


def test_arguments(data: pd.DataFrame) -> None:
    with pytest.raises(GroupError, match="entity= is missing"):
        mar.pooled("y ~ x1", data)
    with pytest.raises(UnknownColumnError, match="firm"):
        mar.pooled("y ~ x1", data, "firm", "t")
    with pytest.raises(UnsupportedError, match="effects='both'"):
        mar.fixed_effects("y ~ x1", data, "id", "t", effects="both")
    with pytest.raises(UnknownColumnError, match="weights='w' is not a column"):
        mar.pooled("y ~ x1", data, "id", "t", weights="w")
    with pytest.raises(UnsupportedError, match="'gaps' is not known to PooledOLS"):
        mar.pooled("y ~ x1", data, "id", "t", gaps="skip")
    with pytest.raises(UnsupportedError, match="method='swar'"):
        mar.random_effects("y ~ x1", data, "id", "t").fit(method="swar")
    with pytest.raises(UnsupportedError, match="unbalanced='sa'"):
        mar.random_effects("y ~ x1", data, "id", "t").fit(unbalanced="sa")
    with pytest.raises(UnsupportedError, match="needs method='ml'"):
        mar.random_effects("y ~ x1", data, "id", "t").fit("observed")
    with pytest.raises(UnsupportedError, match="gaps='fill'"):
        mar.first_difference("y ~ x1", data, "id", "t", gaps="fill")
    with pytest.raises(UnsupportedError, match="drift=True needs"):
        mar.first_difference("y ~ 0 + x1", data, "id", "t", drift=True).fit()
    with pytest.raises(RankDeficiencyError, match="drift"):
        mar.first_difference("y ~ x1 + t", data, "id", "t", drift=True).fit()
    with pytest.raises(UnsupportedError, match="model='fe'"):
        mar.mundlak("y ~ x1", data, "id", "t", model="fe")
    with pytest.raises(UnsupportedError, match="missing='skip'"):
        PooledOLS(data["y"], design(data), data["id"], missing="skip")
    with pytest.raises(UnsupportedError, match="different row labels"):
        PooledOLS(data["y"], design(data).iloc[::-1], data["id"])
    with pytest.raises(UnsupportedError, match="exog is not numeric"):
        PooledOLS(data["y"], data[["g"]], data["id"])
    with pytest.raises(LengthError, match="entity has 3 rows"):
        PooledOLS(data["y"], design(data), [1, 2, 3])
    with pytest.raises(EmptyDataError):
        PooledOLS(np.empty(0), np.empty((0, 2)), np.empty(0))
    with pytest.raises(MagnitudeError, match="x1"):
        mar.pooled("y ~ x1", data.assign(x1=1e40 * data["x1"]), "id", "t")
    with pytest.raises(TimeError, match="gaps='previous'"):
        mar.first_difference(
            "y ~ x1", data.assign(w=2 * data["t"] + data["t"] // 2), "id", "w",
        ).fit()  # fmt: skip


def test_entities_and_times_swapped(data: pd.DataFrame) -> None:
    with pytest.raises(TimeError, match="'id'"):
        mar.fixed_effects("y ~ x1", data, "t", "id")


def test_frozen_data(data: pd.DataFrame) -> None:
    fit: Any = mar.pooled("y ~ x1", data, "id", "t").fit()
    with pytest.raises(AttributeError):
        fit.panel.y = 0
    before = fit.panel.y.copy()
    changed = data.copy()
    model = mar.pooled("y ~ x1", changed, "id", "t")
    changed["y"] = 0.0
    assert_allclose(model.panel.y, before)


def test_incomplete_rows_are_dropped_from_arrays() -> None:
    data = load_orthodont()
    y, x = data["distance"].to_numpy(float), data[["age"]].to_numpy(float)
    y, x = y.copy(), x.copy()
    y[3], x[5, 0] = np.nan, np.nan
    rows = y, x, data["subject"].to_numpy(), data["occ"].to_numpy()
    with pytest.warns(DroppedRowsWarning, match="2 rows"):
        fit = FixedEffects(*rows, missing="drop").fit()
    assert fit.nobs == len(data) - 2
    indexed = data.set_index(["subject", "occ"])
    fit = FixedEffects(indexed["distance"], indexed[["age"]], missing="drop").fit()
    assert fit.nobs == len(data)


@pytest.mark.parametrize("effects", ["entity", "time", "twoways"])
def test_no_regressor_beside_the_intercept(effects: str) -> None:
    model = mar.fixed_effects("y ~ 1", panel_data(), "id", "t", effects=effects)
    with pytest.raises(IdentificationError, match="absorb every regressor"):
        model.fit()


def test_labels_of_a_series_in_another_order_are_those_of_entity() -> None:
    data = panel_data()
    with pytest.raises(UnsupportedError, match=r"entity and data .*entity\.reindex\("):
        mar.pooled(FORMULA, data, data["id"].iloc[::-1], "t")


def test_infinite_values_are_no_missing_ones() -> None:
    """Arrays and formulas alike: dropping rows drops what is missing only."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"id": np.repeat(range(8), 4), "x": rng.normal(size=32)})
    data["y"] = data["x"] + rng.normal(size=32)
    data.loc[3, "x"] = np.inf
    with pytest.raises(MissingDataError, match=r"[Ii]nfinite.*[Cc]orrect or remove"):
        mar.fixed_effects("y ~ x", data, entity="id", missing="drop")
    with pytest.raises(MissingDataError, match=r"infinite.*correct or remove"):
        FixedEffects(data["y"], data[["x"]], entity=data["id"], missing="drop")


def test_labels_of_another_type_are_not_new_entities() -> None:
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"id": np.repeat(range(8), 4), "x": rng.normal(size=32)})
    data["y"] = data["x"] + rng.normal(size=32)
    for function in (mar.random_effects, mar.fixed_effects):
        fit = function("y ~ x", data, entity="id").fit()
        text = data[:3].assign(id=data["id"][:3].astype(str))
        for predict in (fit.predict, fit.get_prediction):
            with pytest.raises(GroupError, match=r"string.*integer.*convert"):
                predict(text, effects=True)
            predict(data[:3].assign(id=[0.0, 1.0, 99.0]), effects=True)
