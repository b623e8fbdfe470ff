"""Frames of other packages, and which of their rows: the same numbers as pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import mixedar.api as ma
import mixedar.formula.api as mar
from mixedar.data.given import subset_rows
from mixedar.datasets import load_orthodont
from mixedar.exceptions import EmptyDataError, UnsupportedError

TEETH = load_orthodont().astype({"subject": str, "sex": str})
CALL: dict[str, Any] = {"groups": "subject", "time": "occ"}
FIT = mar.mixedlm("distance ~ age * sex", TEETH, **CALL).fit()


def polars_frame() -> Any:
    return pytest.importorskip("polars").from_pandas(TEETH)


def lazy_frame() -> Any:
    return polars_frame().lazy()


def arrow_table() -> Any:
    return pytest.importorskip("pyarrow").Table.from_pandas(TEETH)


def narwhals_frame() -> Any:
    return pytest.importorskip("narwhals").from_native(polars_frame())


def narwhals_lazy() -> Any:
    return pytest.importorskip("narwhals").from_native(lazy_frame())


def duckdb_relation() -> Any:
    return pytest.importorskip("duckdb").connect().from_df(TEETH)


@pytest.mark.parametrize(
    "make",
    [
        polars_frame,
        lazy_frame,
        arrow_table,
        narwhals_frame,
        narwhals_lazy,
        duckdb_relation,
    ],
)
def test_every_question_takes_every_frame(make: Any) -> None:
    frame = make()
    fit = mar.mixedlm("distance ~ age * sex", frame, **CALL).fit()
    assert_allclose(fit.params, FIT.params)
    assert_allclose(FIT.predict(frame), FIT.predict(TEETH))
    for level in ("population", "group", "forecast"):
        found = FIT.get_prediction(frame, level).predicted_mean
        assert_allclose(found, FIT.get_prediction(TEETH, level).predicted_mean)
    drawn = FIT.simulate(2, seed=1, newdata=frame)
    assert_allclose(drawn, FIT.simulate(2, seed=1, newdata=TEETH))
    panel = mar.fixed_effects("distance ~ age", frame, entity="subject").fit()
    expected = mar.fixed_effects("distance ~ age", TEETH, entity="subject").fit()
    assert_allclose(panel.params, expected.params)
    assert_allclose(panel.predict(frame), expected.predict(TEETH))
    groups = mar.by_group("distance ~ age", frame, groups="subject")
    assert_allclose(groups.predict(frame), groups.predict(TEETH))


@pytest.mark.parametrize("make", [polars_frame, arrow_table])
def test_columns_of_other_frames_are_arrays(make: Any) -> None:
    frame = make()
    fit = mar.mixedlm(
        "distance ~ age * sex", TEETH, groups=frame["subject"], time=frame["occ"]
    ).fit()
    assert_allclose(fit.params, FIT.params)
    assert_allclose(FIT.model.refit(frame["distance"]).params, FIT.params)
    exog = TEETH[["age"]].assign(const=1.0)
    given = TEETH["distance"], exog, TEETH["subject"]
    wanted = {"residual_data": TEETH[["sex"]], "weights": ma.VarIdent("sex")}
    expected = ma.MixedLMAR(*given, **wanted).fit()
    wanted["residual_data"] = frame.select(["sex"])
    assert_allclose(ma.MixedLMAR(*given, **wanted).fit().params, expected.params)


BOYS = TEETH["sex"] == "Male"


@pytest.mark.parametrize("model", [mar.mixedlm, mar.by_group])
def test_masks_of_any_package_choose_rows(model: Any) -> None:
    polars, pyarrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    expected = model("distance ~ age", TEETH[BOYS], groups="subject")
    labelled = TEETH.set_axis([f"row {k}" for k in range(len(TEETH))])
    masks = polars.Series(BOYS), pyarrow.array(BOYS), pyarrow.chunked_array([BOYS])
    for data in (TEETH, labelled, polars.from_pandas(TEETH)):
        for mask in (*masks, BOYS.to_numpy(), BOYS.tolist()):
            found = model("distance ~ age", data, groups="subject", subset=mask)
            assert same(found, expected)
    polars_data = polars.from_pandas(TEETH)
    assert same(
        model("distance ~ age", polars_data, groups="subject", subset=BOYS), expected
    )


def same(found: Any, expected: Any) -> bool:
    if hasattr(found, "exog"):
        return bool((found.endog == expected.endog).all())
    return bool(np.allclose(found.params, expected.params))


def test_conditions_choose_rows() -> None:
    late = 9
    expected = TEETH[BOYS & (TEETH["age"] > late)]
    condition = "sex == 'Male' and age > @late"
    model = mar.mixedlm("distance ~ age", TEETH, groups="subject", subset=condition)
    assert model.endog.tolist() == expected["distance"].tolist()
    groups = mar.by_group("distance ~ age", TEETH, groups="subject", subset=condition)
    assert_allclose(
        groups.params, mar.by_group("distance ~ age", expected, groups="subject").params
    )
    panel = mar.pooled(
        "distance ~ age", TEETH, "subject", "occ", subset=condition
    ).fit()
    again = mar.pooled("distance ~ age", expected, "subject", "occ").fit()
    assert_allclose(panel.params, again.params)
    gaps = TEETH.assign(age=TEETH["age"].where(TEETH["age"] > 8))
    model = mar.mixedlm("distance ~ age", gaps, groups="subject", subset="age > 8")
    assert model.nobs == 81


def test_labels_stay_labels() -> None:
    labelled = TEETH.set_axis([f"age > {k}" for k in range(len(TEETH))])
    assert subset_rows("age > 8", labelled).tolist() == [8]


@pytest.mark.parametrize(
    ("subset", "words"),
    [
        ("agee > 8", "neither a label .* 'agee' is not defined"),
        ("age >", "neither a label"),
        ("age + 8", "no condition"),
        ("age > @nobody", "neither a label"),
    ],
)
def test_what_is_no_condition_is_refused(subset: str, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        mar.mixedlm("distance ~ age", TEETH, groups="subject", subset=subset)


def test_conditions_without_rows_and_expressions_are_refused() -> None:
    with pytest.raises(EmptyDataError, match="no rows"):
        mar.mixedlm("distance ~ age", TEETH, groups="subject", subset="age > 80")
    polars = pytest.importorskip("polars")
    chosen = polars.col("sex") == "Male"
    with pytest.raises(UnsupportedError, match="filter"):
        mar.mixedlm("distance ~ age", TEETH, groups="subject", subset=chosen)
    boys = polars.from_pandas(TEETH).filter(chosen)
    assert mar.mixedlm("distance ~ age", boys, groups="subject").nobs == int(BOYS.sum())


def test_plans_of_other_packages() -> None:
    frames = TEETH, polars_frame()
    powers = [
        mar.power(
            frame,
            {"sex[T.Male]": 2.0},
            formula="distance ~ sex",
            groups="subject",
            params={"Intercept": 1, "subject Var": 1, "scale": 1},
            n_sim=20,
            rng=1,
        ).frame
        for frame in frames
    ]
    pd.testing.assert_frame_equal(*powers)
