"""Rows with fitted values and residuals, broom's columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from numpy.testing import assert_allclose

import mixedar.api
import mixedar.formula.api as mar
from mixedar.datasets import load_orthodont
from mixedar.exceptions import LengthError, NotComputedError, UnsupportedError

MIXED = [".fitted", ".resid", ".fixed", ".std.resid", ".normalized"]


def shuffled() -> pd.DataFrame:
    return load_orthodont().sample(frac=1.0, random_state=4)


def test_rows_of_a_mixed_model() -> None:
    data = shuffled()
    fit = mar.mixedlm("distance ~ age * sex", data, groups="subject", time="occ").fit()
    rows = mar.augment(fit)
    pd.testing.assert_frame_equal(rows[data.columns], data)
    assert list(rows.columns) == [*data.columns, *MIXED]
    assert_allclose(rows["distance"] - rows[".fitted"], rows[".resid"])
    assert_allclose(rows[".fixed"], fit.predict(data))
    assert_allclose(rows[".std.resid"], rows[".resid"] / np.sqrt(fit.scale))
    assert_allclose(rows[".fitted"], fit.fittedvalues)


def test_dropped_rows_are_missing_beside_all_data() -> None:
    data = shuffled()
    data.iloc[[2, 7], data.columns.get_loc("distance")] = np.nan
    model = mar.mixedlm(
        "distance ~ age", data.dropna(), groups="subject", residual="independent"
    )
    fit = model.fit()
    assert len(mar.augment(fit)) == len(data) - 2
    rows = mar.augment(fit, data)
    assert rows.index.equals(data.index)
    assert rows[".fitted"].isna().sum() == 2
    assert rows[".fitted"].isna().to_numpy()[[2, 7]].all()
    with pytest.raises(LengthError, match="no label"):
        mar.augment(fit, data.set_axis(data.index + 10_000))
    twice = data.set_axis(np.zeros(len(data), dtype=int))
    with pytest.raises(UnsupportedError, match="twice"):
        mar.augment(fit, twice)


def test_models_from_arrays() -> None:
    data = load_orthodont()
    exog = pd.DataFrame({"const": 1.0, "age": data["age"]})
    model = mixedar.api.MixedLMAR(
        data["distance"], exog, data["subject"], residual="independent"
    )
    rows = mixedar.api.augment(model.fit())
    assert list(rows.columns) == ["distance", "const", "age", *MIXED]
    assert_allclose(rows["age"], data["age"])


@pytest.mark.parametrize("kind", ["fixed_effects", "random_effects", "pooled"])
def test_rows_of_a_panel(kind: str) -> None:
    data = shuffled()
    fit = getattr(mar, kind)("distance ~ age", data, "subject", "occ").fit()
    rows = mar.augment(fit)
    assert rows.index.equals(data.index)
    assert_allclose(rows["distance"] - rows[".fitted"], rows[".resid"])
    assert_allclose(rows[".fixed"], fit.fitted_marginal)


def test_differences_and_means() -> None:
    data = load_orthodont()
    fit = mar.first_difference("distance ~ age", data, "subject", "occ").fit()
    rows = mar.augment(fit)
    assert len(rows) == len(data)
    assert (rows[".fitted"].isna() == (data["occ"] == data["occ"].min())).all()
    between = mar.between("distance ~ sex", data, "subject", "occ").fit()
    assert mar.augment(between).shape == (27, 3)


def test_regressions_by_group() -> None:
    data = shuffled()
    rows = mar.augment(mar.by_group("distance ~ age", data, groups="subject"))
    assert rows.index.equals(data.index)
    assert (rows["subject"] == data["subject"].astype(object)).all()
    assert_allclose(rows["distance"] - rows[".fitted"], rows[".resid"])


@pytest.mark.parametrize(
    "fit",
    [
        lambda data: smf.ols("distance ~ age", data).fit(),
        lambda data: smf.mixedlm("distance ~ age", data, groups="subject").fit(),
        lambda data: sm.OLS(data["distance"], sm.add_constant(data["age"])).fit(),
    ],
)
def test_results_of_statsmodels(fit: Any) -> None:
    data = shuffled()
    rows = mar.augment(fit(data))
    assert rows.index.equals(data.index)
    assert_allclose(rows["distance"] - rows[".fitted"], rows[".resid"], atol=1e-12)


def test_what_has_no_rows_is_refused() -> None:
    model = mar.mixedlm("distance ~ age", load_orthodont(), groups="subject")
    with pytest.raises(UnsupportedError, match="not fitted"):
        mar.augment(model)
    fit = model.fit()
    fit.remove_data()
    with pytest.raises(NotComputedError, match="removed"):
        mar.augment(fit)
