"""
How many effects are counted, against ranks of dummies and the formulas of xtscc,
plm and reghdfe written out densely.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from statsmodels.regression.linear_model import OLS

import mixedar.formula.api as mar
from helpers.panel_cases import dummies
from mixedar.panel import f_test_effects

EFFECTS = {"entity": ["id"], "time": ["t"], "twoways": ["id", "t"]}


def panel(seed: int = 3, entities: int = 20, periods: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = entities * periods
    who, when = (
        np.repeat(np.arange(entities), periods),
        np.tile(range(periods), entities),
    )
    data = pd.DataFrame({"id": who, "t": when})
    data["x"] = rng.normal(size=n) + 0.5 * (data["id"] % 3)
    data["w"] = rng.normal(size=n)
    data["state"] = data["id"] // 4
    data["y"] = data["x"] + data["id"] % 4 + rng.normal(size=n) * (1 + data["t"] / 4)
    return data[rng.random(n) > 0.1].reset_index(drop=True)


def swept(data: pd.DataFrame, effects: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Regressors and residuals without the effects, by dense dummies."""
    x, y = data[["x", "w"]].to_numpy(), data["y"].to_numpy()
    d = np.ones((len(data), 1))
    if effects is not None:
        d = np.column_stack([dummies(data, name) for name in EFFECTS[effects]])
    x, y = (v - d @ np.linalg.lstsq(d, v, rcond=None)[0] for v in (x, y))
    return x, y - x @ np.linalg.lstsq(x, y, rcond=None)[0]


def driscoll_kraay(data: pd.DataFrame, effects: str | None, k: int) -> np.ndarray:
    """Errors of the slopes by xtscc 1.4: T/(T-1) (n-1)/(n-k), Bartlett weights."""
    x, u = swept(data, effects)
    n, periods = len(data), data["t"].nunique()
    h = pd.DataFrame(x * u[:, None]).groupby(data["t"]).sum().to_numpy()
    lags = int(4 * (periods / 100) ** (2 / 9))
    meat = h.T @ h
    for lag in range(1, lags + 1):
        product = h[lag:].T @ h[:-lag]
        meat += (1 - lag / (lags + 1)) * (product + product.T)
    bread = np.linalg.inv(x.T @ x)
    factor = periods / (periods - 1) * (n - 1) / (n - k)
    return np.sqrt(np.diag(factor * bread @ meat @ bread))


@pytest.mark.parametrize(
    # xtscc: the constant and the dummies of periods count, those of entities do not
    ("effects", "k", "plm"),
    [(None, 3, 3), ("entity", 3, 2), ("time", 8, 2), ("twoways", 8, 2)],
)
def test_driscoll_kraay_is_xtscc(effects: str | None, k: int, plm: int) -> None:
    data = panel()
    if effects is None:
        model: Any = mar.pooled("y ~ x + w", data, "id", "t")
    else:
        model = mar.fixed_effects("y ~ x + w", data, "id", "t", effects=effects)
    slopes = ["x", "w"]
    fit = model.fit("driscoll-kraay")
    assert_allclose(fit.bse[slopes], driscoll_kraay(data, effects, k), rtol=1e-9)
    assert fit.df_inference == data["t"].nunique() - 1
    assert "small sample: stata" in str(fit.summary())
    fit = model.fit("dk", small_sample="sss")
    assert_allclose(fit.bse[slopes], driscoll_kraay(data, effects, plm), rtol=1e-9)


def test_driscoll_kraay_across_a_period_without_rows() -> None:
    """A period that nobody is observed in has no scores, and keeps its place."""
    full = panel(periods=8)
    data = full[full["t"] != 4].reset_index(drop=True)
    x, u = swept(data, "entity")
    h = np.zeros((8, 2))
    np.add.at(h, data["t"].to_numpy(), x * u[:, None])
    meat = h.T @ h
    for lag in (1, 2):
        product = h[lag:].T @ h[:-lag]
        meat += (1 - lag / 3) * (product + product.T)
    bread, n = np.linalg.inv(x.T @ x), len(data)
    cov = 7 / 6 * (n - 1) / (n - 3) * bread @ meat @ bread
    model = mar.fixed_effects("y ~ x + w", data, "id", "t")
    fit = model.fit("driscoll-kraay", bandwidth=2)
    slopes = ["x", "w"]
    assert_allclose(fit.cov_params().loc[slopes, slopes], cov, rtol=1e-9)
    assert any("first after t 3" in note for note in fit.notes)
    other = mar.fixed_effects("y ~ x + w", full, "id", "t").fit("dk", bandwidth=2)
    assert not other.notes


CLUSTERS = {"both": ("id", "t"), "state": ("state",), "two": ("state", "t")}


@pytest.mark.parametrize("effects", ["entity", "time", "twoways"])
@pytest.mark.parametrize("cluster", ["both", "state", "two"])
def test_effects_nested_in_one_clustering_are_not_counted(
    effects: str, cluster: str
) -> None:
    data, names = panel(), CLUSTERS[cluster]
    x, u = swept(data, effects)

    def meat(keys: list[str]) -> np.ndarray:
        sums = pd.DataFrame(x * u[:, None]).groupby([data[k] for k in keys]).sum()
        count = len(sums)
        return np.asarray(sums.T @ sums) * count / (count - 1)

    total = sum(meat([name]) for name in names)
    if len(names) == 2:
        total = total - meat(list(names))
    # reghdfe, fixest, pyfixest: both are nested in one of the clusterings but the
    # periods in that of the states
    loose = dummies(data, "t") if "t" in EFFECTS[effects] and "t" not in names else None
    k = 2 + (1 if loose is None else np.linalg.matrix_rank(loose))
    n = len(data)
    bread = np.linalg.inv(x.T @ x)
    cov = (n - 1) / (n - k) * bread @ total @ bread
    given: Any = cluster if cluster == "both" else names
    model = mar.fixed_effects("y ~ x + w", data, "id", "t", effects=effects)
    fit = model.fit("clustered", cluster=given)
    slopes = ["x", "w"]
    assert_allclose(fit.cov_params().loc[slopes, slopes], cov, rtol=1e-9)


def cohorts(parts: int, firms: int, years: int, seed: int = 5) -> pd.DataFrame:
    """Cohorts that share neither firms nor years, and a few rows lost."""
    rng = np.random.default_rng(seed)
    keys = [range(parts), range(firms), range(years)]
    data = pd.MultiIndex.from_product(keys, names=["c", "f", "s"]).to_frame(index=False)
    data["id"] = data["c"] * firms + data["f"]
    data["t"] = data["c"] * years + data["s"]
    data["x"], data["w"], noise = rng.normal(size=(3, len(data)))
    data["coin"] = rng.integers(0, 9, len(data))
    data["y"] = data["x"] + data["c"] + noise
    lost = (data["f"] == 0) & (data["s"] == 0) & (data["c"] % 2 == 0) & (years > 2)
    return data[~lost].sample(frac=1.0, random_state=seed).reset_index(drop=True)


@pytest.mark.parametrize("shape", [(10, 4, 4), (12, 2, 2), (2, 5, 3), (1, 6, 5)])
def test_parts_of_a_panel(shape: tuple[int, int, int]) -> None:
    data = cohorts(*shape)
    both = np.column_stack([dummies(data, "id"), dummies(data, "t")])
    rank = int(np.linalg.matrix_rank(both))
    assert rank == both.shape[1] - shape[0]
    u, s, _ = np.linalg.svd(both, full_matrices=False)
    basis = u[:, s > 1e-9 * s[0]]
    ols = OLS(data["y"], np.column_stack([data[["x", "w"]], basis])).fit()
    model = mar.fixed_effects("y ~ x + w", data, "id", "t", effects="twoways")
    fit = model.fit()
    assert fit.df_resid == ols.df_resid
    assert_allclose(fit.params[["x", "w"]], ols.params[:2], rtol=1e-9)
    assert_allclose(fit.bse[["x", "w"]], ols.bse[:2], rtol=1e-9)
    assert fit.scale == pytest.approx(ols.mse_resid)
    assert fit.llf == pytest.approx(ols.llf)
    assert_allclose(fit.fittedvalues, ols.fittedvalues, rtol=1e-8, atol=1e-9)
    assert any("parts that share no id" in note for note in fit.notes) == (shape[0] > 1)
    # F tests of both kinds of effects, and of the periods once entities are in
    test = f_test_effects(fit, "twoways")
    plain = OLS(
        data["y"], np.column_stack([np.ones(len(data)), data[["x", "w"]]])
    ).fit()
    within = OLS(data["y"], np.column_stack([data[["x", "w"]], dummies(data, "id")]))
    for small, found in (
        (plain, test),
        (within.fit(), f_test_effects(fit, "twoways", against="entity")),
    ):
        value, _, extra = ols.compare_f_test(small)
        assert found.df == (extra, ols.df_resid)
        assert found.statistic == pytest.approx(value)
    assert fit.estimate.f_pooled == pytest.approx((test.statistic, *test.df))
    # robust, and clusters that split the effects, count the same rank
    names = list(fit.params.index)
    plain_robust = model.fit("robust", small_sample=None)
    ratio = (model.fit("robust").bse / plain_robust.bse) ** 2
    assert_allclose(ratio, len(data) / ols.df_resid * np.ones(len(names)))
    bare = model.fit("clustered", cluster="coin", small_sample=None)
    ratio = (model.fit("clustered", cluster="coin").bse / bare.bse) ** 2
    groups, n = data["coin"].nunique(), len(data)
    expected = groups / (groups - 1) * (n - 1) / ols.df_resid
    assert_allclose(ratio, expected * np.ones(len(names)))
    table = mar.compare([fit])
    aic = 2.0 * (rank + 2 + 1 - ols.llf)
    assert mar.glance(fit)["aic"].iloc[0] == pytest.approx(aic)
    assert str(table)
