"""
Predictions of panel fits against dummies and the mixed model; R squared with effects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from statsmodels.regression.linear_model import WLS

import mixedar.formula.api as mar
from helpers.panel_cases import FORMULA, design, dummies, panel_data
from mixedar.exceptions import (
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)

SLOPES = ["C(g)[T.b]", "C(g)[T.c]", "x1", "x2"]


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    frame = panel_data(3)
    return frame.assign(wt=rng.uniform(0.3, 3.0, len(frame)))


def new_rows(data: pd.DataFrame) -> pd.DataFrame:
    """Rows at entities and periods of the data, some of which never met."""
    rng = np.random.default_rng(1)
    rows = data.sample(12, random_state=2)
    return rows.assign(
        t=rng.choice(data["t"].unique(), 12),
        x1=rng.normal(size=12),
        x2=rng.normal(size=12),
    )


def least_squares(
    data: pd.DataFrame, rows: pd.DataFrame, effects: str, weights: Any
) -> Any:
    """Predictions by regression on dummies, of the data and of new rows."""
    parts, new = [], []
    for name in {"entity": ["id"], "time": ["t"], "twoways": ["id", "t"]}[effects]:
        levels = np.unique(data[name])
        first = int(len(parts) > 0)
        parts.append(dummies(data, name)[:, first:])
        new.append((rows[name].to_numpy()[:, None] == levels).astype(float)[:, first:])
    slopes = SLOPES if effects != "time" else [*SLOPES, "z"]
    x = np.column_stack([design(data)[slopes], *parts])
    fit = WLS(data["y"], x, weights=weights).fit()
    z = np.column_stack([design(rows)[slopes], *new])
    return fit, fit.get_prediction(z)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("effects", ["entity", "time", "twoways"])
def test_fixed_effects_predict_as_dummies(
    data: pd.DataFrame, effects: str, weighted: bool
) -> None:
    model = mar.fixed_effects(
        FORMULA, data, "id", "t", effects=effects, weights="wt" if weighted else None
    )
    fit, rows = model.fit(), new_rows(data)
    weights = data["wt"] / data["wt"].mean() if weighted else np.ones(len(data))
    ols, expected = least_squares(data, rows, effects, weights)
    found = fit.get_prediction(rows, effects=True)
    assert_allclose(found.predicted_mean, expected.predicted_mean, rtol=1e-8)
    assert_allclose(found.se_mean, expected.se_mean, rtol=1e-8)
    assert_allclose(found.conf_int(), expected.conf_int(), rtol=1e-7)
    assert list(found.row_labels) == list(rows.index)
    predicted = fit.predict(rows, effects=True)
    assert_allclose(predicted, expected.predicted_mean, rtol=1e-8)
    if weighted:
        with pytest.raises(NotComputedError, match="weights"):
            found.conf_int(obs=True)
    else:
        assert_allclose(found.conf_int(obs=True), expected.conf_int(obs=True))
    # the fit's own rows, in the caller's order
    own = fit.get_prediction(effects=True)
    assert_allclose(own.predicted_mean, fit.fittedvalues, rtol=1e-9, atol=1e-9)
    assert_allclose(own.se_mean, ols.get_prediction().se_mean, rtol=1e-8)
    assert_allclose(fit.predict(effects=True), fit.fittedvalues, atol=1e-9)
    # R squared with effects: areg, reghdfe, fixest
    assert fit.rsquared_inclusive == pytest.approx(ols.rsquared)
    assert fit.rsquared_adj == pytest.approx(ols.rsquared_adj)
    assert "R-squared with effects:" in str(fit.summary())
    # within: what the slopes explain once effects are removed
    d = np.asarray(ols.model.exog)[:, len(fit.params) - 1 :]
    alone = WLS(data["y"], d, weights=weights).fit()
    assert fit.rsquared == pytest.approx(1.0 - ols.ssr / alone.ssr)


@pytest.mark.parametrize("cov_type", ["classical", "clustered", "CR2", "robust"])
@pytest.mark.parametrize("function", ["pooled", "fixed_effects", "random_effects"])
def test_population_predictions(
    data: pd.DataFrame, function: str, cov_type: str
) -> None:
    fit = getattr(mar, function)(FORMULA, data, "id", "t").fit(cov_type)
    rows = new_rows(data)
    x = design(rows)[list(fit.params.index)].to_numpy()
    found = fit.get_prediction(rows)
    assert_allclose(found.predicted_mean, x @ fit.params)
    assert_allclose(found.predicted_mean, fit.predict(rows))
    variance = np.einsum("ij,jk,ik->i", x, fit.cov_params(), x)
    assert_allclose(found.var_pred_mean, variance)
    assert_allclose(found.df, fit.t_test(x).df_denom if fit.use_t else np.inf)
    parts = fit.variance_decomposition
    if function == "pooled":
        assert_allclose(found.var_resid, fit.scale)
    elif function == "random_effects":
        assert_allclose(found.var_resid, parts[["effects", "residual"]].sum())
    else:
        with pytest.raises(NotComputedError, match="effects=True"):
            found.conf_int(obs=True)
    assert len(found.summary_frame()) == 12
    assert "Population" in str(found)


def test_random_effects_predict_as_the_mixed_model(data: pd.DataFrame) -> None:
    mixed = mar.mixedlm(FORMULA, data, groups="id", residual="independent")
    mixed_fit = mixed.fit(reml=False)
    fit = mar.random_effects(FORMULA, data, "id", "t").fit(method="ml")
    rows = new_rows(data)
    expected = mixed_fit.get_prediction(rows, level="group")
    found = fit.get_prediction(rows, effects=True)
    assert_allclose(found.predicted_mean, expected.predicted_mean, rtol=1e-5)
    assert_allclose(found.se_mean, expected.se_mean, rtol=1e-5)
    assert_allclose(found.se_obs, expected.se_obs, rtol=1e-5)
    # an entity that nobody has seen: no effect, and the variance of one
    other = rows.assign(id="nobody")
    found = fit.get_prediction(other, effects=True)
    plain = fit.get_prediction(other)
    assert_allclose(found.predicted_mean, plain.predicted_mean)
    effects = fit.variance_decomposition["effects"]
    assert_allclose(found.var_pred_mean, plain.var_pred_mean + effects)
    assert "12; their effect is predicted as zero" in " ".join(found.notes)


def test_unknown_entities_and_parts(data: pd.DataFrame) -> None:
    fit = mar.fixed_effects(FORMULA, data, "id", "t").fit()
    rows = new_rows(data)
    rows.iloc[3, rows.columns.get_loc("id")] = "nobody"
    found = fit.get_prediction(rows, effects=True)
    assert list(np.isnan(found.predicted_mean)) == [k == 3 for k in range(12)]
    assert list(np.isnan(found.se_mean)) == [k == 3 for k in range(12)]
    assert "No prediction for 1 rows of a id" in " ".join(found.notes)
    assert np.isnan(fit.predict(rows, effects=True).iloc[3])
    # entities and periods that no chain of rows connects cannot be compared
    early = data[(data["t"] < 2004) & (data["id"] < "e012")]
    late = data[(data["t"] >= 2004) & (data["id"] >= "e012")]
    both = pd.concat([early, late])
    fit = mar.fixed_effects("y ~ x1", both, "id", "t", effects="twoways").fit()
    rows = both.head(2).assign(t=[both["t"].iloc[0], 2005])
    predicted = fit.predict(rows, effects=True)
    assert list(predicted.isna()) == [False, True]
    assert list(np.isnan(fit.get_prediction(rows, effects=True).se_mean)) == [
        False,
        True,
    ]


def test_index_levels_and_arrays(data: pd.DataFrame) -> None:
    indexed = data.set_index(["id", "t"])
    fit = mar.fixed_effects("y ~ x1 + x2", indexed).fit()
    rows = indexed.head(4)
    assert_allclose(
        fit.predict(rows, effects=True), fit.fittedvalues.iloc[:4], rtol=1e-8
    )
    with pytest.raises(UnknownColumnError, match="'id'"):
        fit.predict(data[["x1", "x2"]], effects=True)
    with pytest.raises(UnknownColumnError, match="DataFrame"):
        fit.predict(np.ones((2, 3)), effects=True)
    plain = fit.get_prediction(np.ones((2, 3)))
    assert_allclose(plain.predicted_mean, fit.predict(np.ones((2, 3))))


def test_what_has_no_effects_says_so(data: pd.DataFrame) -> None:
    for function in ("pooled", "between", "first_difference"):
        fit = getattr(mar, function)("y ~ x1", data, "id", "t").fit()
        with pytest.raises(UnsupportedError, match="no estimated effects"):
            fit.predict(data, effects=True)
        assert np.isfinite(fit.get_prediction(data).se_mean).all()
    clustered = mar.fixed_effects("y ~ x1", data, "id", "t").fit("clustered")
    with pytest.raises(UnsupportedError, match="cov_type='classical'"):
        clustered.get_prediction(data, effects=True)
    assert_allclose(
        clustered.predict(data, effects=True), clustered.fittedvalues, atol=1e-9
    )
    ar1 = mar.fixed_effects_ar1("y ~ x1", data, "id", "t").fit()
    with pytest.raises(UnsupportedError, match="AR"):
        ar1.get_prediction(data, effects=True)
    assert_allclose(ar1.predict(data, effects=True), ar1.fittedvalues, atol=1e-9)


def test_rsquared_of_other_estimators(data: pd.DataFrame) -> None:
    pooled = mar.pooled(FORMULA, data, "id", "t").fit()
    ols = WLS(data["y"], design(data)).fit()
    for found, expected in (
        (pooled.rsquared, ols.rsquared),
        (pooled.rsquared_inclusive, ols.rsquared),
        (pooled.rsquared_adj, ols.rsquared_adj),
        (pooled.rsquared, pooled.rsquared_overall),
    ):
        assert found == pytest.approx(expected)
    fe = mar.fixed_effects(FORMULA, data, "id", "t").fit()
    assert fe.rsquared == pytest.approx(fe.rsquared_within)
    re = mar.random_effects(FORMULA, data, "id", "t").fit()
    assert np.isnan(re.rsquared_inclusive)
    assert 0.0 < re.rsquared < 1.0
