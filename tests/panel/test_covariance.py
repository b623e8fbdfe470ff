"""
Covariances of panel estimators against linearmodels and dense algebra.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from linearmodels.panel import FirstDifferenceOLS, PanelOLS, PooledOLS, RandomEffects
from numpy.testing import assert_allclose
from scipy import stats

import mixedar.formula.api as mar
from mixedar.exceptions import (
    GroupError,
    LengthError,
    MissingDataError,
    UnknownColumnError,
    UnsupportedError,
)

FORMULA = "y ~ x1 + x2"


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    entities, periods = 30, 8
    n = entities * periods
    frame = pd.DataFrame(
        {
            "id": np.repeat(np.arange(entities), periods),
            "t": np.tile(np.arange(periods), entities),
        }
    )
    frame["x1"] = rng.normal(size=n) + frame["id"] / 10.0
    frame["x2"] = rng.normal(size=n) + frame["t"] / 5.0
    frame["industry"] = frame["id"] % 5
    frame["coin"] = rng.integers(0, 6, n)
    noise = rng.normal(size=n) * (1.0 + 0.5 * np.abs(frame["x1"]))
    effects = np.repeat(rng.normal(size=entities), periods)
    frame["y"] = 1.0 + frame["x1"] - 0.5 * frame["x2"] + effects + noise
    frame = frame[rng.random(n) > 0.15]
    return frame.sample(frac=1.0, random_state=3).reset_index(drop=True)


def arrays(data: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    indexed = data.set_index(["id", "t"]).sort_index()
    x = indexed[["x1", "x2"]].assign(Intercept=1.0)
    return indexed[["y"]], x, indexed


def same(fit: Any, other: Any, rtol: float = 1e-9) -> None:
    names = list(other.params.index)
    assert_allclose(fit.params[names], other.params, rtol=rtol)
    cov = other.cov.loc[names, names]
    assert_allclose(fit.cov_params().loc[names, names], cov, rtol=rtol, atol=1e-13)


FITS = [
    ("fixed_effects", {}, PanelOLS, {"entity_effects": True}),
    (
        "fixed_effects",
        {"effects": "twoways"},
        PanelOLS,
        {"entity_effects": True, "time_effects": True},
    ),
    ("fixed_effects", {"effects": "time"}, PanelOLS, {"time_effects": True}),
    ("random_effects", {}, RandomEffects, {}),
    ("pooled", {}, PooledOLS, {}),
]


@pytest.mark.parametrize(("function", "options", "cls", "arguments"), FITS)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"cov_type": "classical"}, {}),
        ({"cov_type": "robust"}, {"cov_type": "robust"}),
        ({"cov_type": "hac"}, {"cov_type": "ac"}),
        (
            {"cov_type": "hac", "kernel": "parzen", "bandwidth": 3},
            {"cov_type": "ac", "kernel": "parzen", "bandwidth": 3},
        ),
        ({"cov_type": "dk", "small_sample": "dof"}, {"cov_type": "kernel"}),
        (
            {
                "cov_type": "driscoll-kraay",
                "kernel": "quadratic-spectral",
                "small_sample": "dof",
            },
            {"cov_type": "kernel", "kernel": "qs"},
        ),
    ],
)
def test_against_linearmodels(
    data: pd.DataFrame,
    function: str,
    options: dict[str, Any],
    cls: Any,
    arguments: dict[str, Any],
    ours: dict[str, Any],
    theirs: dict[str, Any],
) -> None:
    if ours["cov_type"] == "hac":  # linearmodels counts rows, here it is time
        data = data.assign(t=data.groupby("id")["t"].rank().astype(int))
    y, x, _ = arrays(data)
    fit = getattr(mar, function)(FORMULA, data, "id", "t", **options).fit(**ours)
    same(fit, cls(y, x, **arguments).fit(**theirs))


@pytest.mark.parametrize(("function", "options", "cls", "arguments"), FITS)
@pytest.mark.parametrize("cluster", ["entity", "time", "both", "industry", "two"])
def test_clusters_against_linearmodels(
    data: pd.DataFrame,
    function: str,
    options: dict[str, Any],
    cls: Any,
    arguments: dict[str, Any],
    cluster: str,
) -> None:
    y, x, indexed = arrays(data)
    given: Any = ("industry", "time") if cluster == "two" else cluster
    model = getattr(mar, function)(FORMULA, data, "id", "t", **options)
    fit = model.fit("clustered", cluster=given, small_sample=None)
    their: dict[str, Any] = {
        "cluster_entity": cluster in ("entity", "both"),
        "cluster_time": cluster in ("time", "both"),
    }
    if cluster == "industry":
        their = {"clusters": indexed[["industry"]]}
    elif cluster == "two":
        their = {"clusters": indexed[["industry"]], "cluster_time": True}
    if cls is PanelOLS:
        their |= {"auto_df": False, "count_effects": False}
    other = cls(y, x, **arguments)
    same(fit, other.fit(cov_type="clustered", debiased=False, **their))
    counts = {"entity": 30, "time": 8, "both": 8, "industry": 5, "two": 5}
    assert fit.df_inference == counts[cluster] - 1
    negative = list(fit.bse.index[fit.bse.isna()])
    assert negative == list(fit.bse.index[np.diag(fit.cov_params()) < 0.0])
    assert bool(negative) == any("variance is negative" in n for n in fit.notes)
    assert str(fit.summary())
    assert_allclose(
        fit.pvalues, 2.0 * stats.t.sf(np.abs(fit.tvalues), counts[cluster] - 1)
    )
    sss = model.fit("clustered", cluster=given, small_sample="sss")
    n, k = len(data), 2 if cls is PanelOLS else 3
    debiased = other.fit(
        cov_type="clustered", debiased=False, group_debias=True, **their
    )
    names = list(other.exog.vars)
    assert_allclose(
        sss.cov_params().loc[names, names],
        debiased.cov.loc[names, names] * n / (n - k),
        rtol=1e-9,
        atol=1e-13,
    )


def test_effects_that_clusters_split_are_counted(data: pd.DataFrame) -> None:
    model = mar.fixed_effects(FORMULA, data, "id", "t")
    n, g = len(data), 30
    plain = model.fit("clustered", small_sample=None)
    stata = model.fit("clustered")
    factor = g / (g - 1.0) * (n - 1.0) / (n - 3.0)
    assert_allclose(stata.bse, plain.bse * np.sqrt(factor), rtol=1e-12)
    plain = model.fit("clustered", cluster="time", small_sample=None)
    stata = model.fit("clustered", cluster="time")
    factor = 8.0 / 7.0 * (n - 1.0) / stata.df_resid
    assert_allclose(stata.bse, plain.bse * np.sqrt(factor), rtol=1e-12)


def test_first_differences_against_linearmodels(data: pd.DataFrame) -> None:
    full = data.groupby("id").filter(lambda rows: len(rows) > 1)
    y, x, _ = arrays(full)
    fit = mar.first_difference(FORMULA, full, "id", "t")
    other = FirstDifferenceOLS(y, x[["x1", "x2"]])
    same(fit.fit(), other.fit())
    same(
        fit.fit("clustered", small_sample="HC1"),
        other.fit(cov_type="clustered", cluster_entity=True),
    )
    same(fit.fit("robust"), other.fit(cov_type="robust"))


def test_labels_instead_of_columns(data: pd.DataFrame) -> None:
    model = mar.pooled(FORMULA, data, "id", "t")
    by_name = model.fit("clustered", cluster="coin")
    for labels in (
        data["coin"],
        data["coin"].to_numpy(),
        [f"c{i}" for i in data["coin"]],
    ):
        fit = model.fit("clustered", cluster=labels)
        assert_allclose(fit.bse, by_name.bse, rtol=1e-12)
    both = model.fit("clustered", cluster=["coin", "entity"])
    assert_allclose(both.bse, model.fit("clustered", cluster=("coin", "id")).bse)


def test_dropped_rows_and_cluster_columns(data: pd.DataFrame) -> None:
    missing = data.copy()
    missing.loc[3:20, "x1"] = np.nan
    with pytest.warns(UserWarning, match="18 rows"):
        model = mar.pooled(FORMULA, missing, "id", "t", missing="drop")
    complete = mar.pooled(FORMULA, missing.dropna(), "id", "t")
    fit = model.fit("clustered", cluster="coin")
    assert_allclose(fit.bse, complete.fit("clustered", cluster="coin").bse, rtol=1e-12)
    assert "18 rows" in str(fit.summary())


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"cov_type": "HC3"}, UnsupportedError, "'driscoll-kraay'"),
        ({"cov_type": "robust", "cluster": "id"}, UnsupportedError, "cluster= needs"),
        ({"cov_type": "clustered", "bandwidth": 2}, UnsupportedError, "bandwidth="),
        ({"cov_type": "clustered", "small_sample": "CR2"}, UnsupportedError, "CR2"),
        ({"cov_type": "robust", "small_sample": "sss"}, UnsupportedError, "sss"),
        ({"cov_type": "clustered", "cluster": "firm"}, UnknownColumnError, "'firm'"),
        ({"cov_type": "clustered", "cluster": [1, 2]}, LengthError, "2 labels"),
        ({"cov_type": "clustered", "cluster": []}, UnsupportedError, "one or two"),
        (
            {"cov_type": "clustered", "cluster": np.ones((240, 2))},
            UnsupportedError,
            "one label for each row",
        ),
        ({"cov_type": "dk", "kernel": "flat"}, UnsupportedError, "kernel='flat'"),
        ({"cov_type": "dk", "bandwidth": 8}, UnsupportedError, "below the number"),
        ({"cov_type": "hac", "bandwidth": -1}, UnsupportedError, "bandwidth=-1"),
        ({"cov_type": "hac", "bandwidth": np.nan}, UnsupportedError, "bandwidth=nan"),
        ({"cov_type": "hac", "bandwidth": "auto"}, UnsupportedError, "'auto'"),
        ({"cov_type": "dk", "bandwidth": True}, UnsupportedError, "bandwidth=True"),
        ({"cov_type": "observed"}, UnsupportedError, "cov_type"),
        (
            {"cov_type": "clustered", "cluster": ("id", "t", "coin")},
            UnsupportedError,
            "one or two",
        ),
    ],
)
def test_bad_requests(
    data: pd.DataFrame, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        mar.random_effects(FORMULA, data, "id", "t").fit(**options)


def test_one_cluster(data: pd.DataFrame) -> None:
    with pytest.raises(GroupError, match="only one cluster"):
        mar.pooled(FORMULA, data, "id", "t").fit(
            "clustered", cluster=np.ones(len(data))
        )
    labels = data["coin"].astype(float).where(data["coin"] > 0)
    with pytest.raises(MissingDataError, match="missing labels"):
        mar.pooled(FORMULA, data, "id", "t").fit("clustered", cluster=labels)


def test_between_has_nothing_to_cluster(data: pd.DataFrame) -> None:
    model = mar.between(FORMULA, data, "id", "t")
    with pytest.raises(UnsupportedError, match="one row an entity"):
        model.fit("clustered")
    means = data.groupby("id")[["y", "x1", "x2"]].mean()
    x = np.column_stack([np.ones(30), means[["x1", "x2"]]])
    resid = means["y"] - x @ np.linalg.lstsq(x, means["y"], rcond=None)[0]
    bread = np.linalg.inv(x.T @ x)
    meat = (x * np.asarray(resid)[:, None]).T @ (x * np.asarray(resid)[:, None])
    fit = model.fit("robust", small_sample=None)
    assert_allclose(fit.cov_params(), bread @ meat @ bread, rtol=1e-9)
    assert_allclose(model.fit("robust").bse, fit.bse * np.sqrt(30.0 / 27.0), rtol=1e-12)
