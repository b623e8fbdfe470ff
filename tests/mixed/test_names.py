"""Columns that are called like parameters, or like one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import mixedar.formula.api as mar
from helpers.bad_data import make
from mixedar import MixedLMAR
from mixedar.by_group import ByGroupOLS
from mixedar.exceptions import UnsupportedError
from mixedar.panel import PooledOLS

DATA = make(seed=7)
WHERE = {"groups": "id", "time": "t"}


def plain() -> Any:
    return mar.mixedlm("y ~ w", DATA, **WHERE).fit()


@pytest.mark.parametrize("name", ["rho", "scale", "sigma", "llf", "converged"])
def test_covariates_called_like_parameters(name: str, tmp_path: Path) -> None:
    expected = plain()
    fit = mar.mixedlm(f"y ~ {name}", DATA.rename(columns={"w": name}), **WHERE).fit()
    names = list(fit.params.index)
    assert names[:3] == ["Intercept", name, "id Var"]
    rho = "rho (residual)" if name == "rho" else "rho"
    assert names[3:] == [rho]
    assert_allclose(fit.params, expected.params)
    assert fit.rho == pytest.approx(expected.rho)
    for test in (fit.t_test(f"{name} = 0"), fit.t_test({name: 0.0})):
        assert_allclose(test.effect, expected.params["w"])
    rows = fit.conf_int(cols=[name, rho])
    assert list(rows.index) == [name, rho]
    assert_allclose(rows, expected.conf_int(cols=["w", "rho"]))
    intervals = fit.conf_int_re(method="wald")
    assert intervals.index.is_unique
    assert_allclose(
        intervals.loc[rho, ["lower", "upper"]].astype(float),
        expected.conf_int_re(method="wald")
        .loc["rho", ["lower", "upper"]]
        .astype(float),
    )
    assert list(fit.conf_int_re("wald", parameters=rho).index) == [rho]
    assert fit.modes.columns.is_unique
    frame = fit.bootstrap(2, seed=1).to_frame()
    assert frame.columns.is_unique
    assert_allclose(frame["scale"], expected.bootstrap(2, seed=1).to_frame()["scale"])
    assert mar.tidy(fit)["term"].is_unique
    assert_allclose(mar.glance(fit)["rho"], expected.rho)
    page = fit.diagnose()["identifiability"]
    assert page.severity == expected.diagnose()["identifiability"].severity
    fit.report(tmp_path / "words.txt", format="text")
    words = " ".join((tmp_path / "words.txt").read_text().split())
    assert f"95% intervals: {rho} " in words


def test_covariates_called_like_variances() -> None:
    exog = pd.DataFrame({"one": 1.0, "Group Var": DATA["w"]})
    fit = MixedLMAR(DATA["y"], exog, DATA["id"]).fit()
    assert list(fit.params.index) == ["one", "Group Var", "Group Var (covariance)"]
    free = MixedLMAR(DATA["y"], exog.set_axis(["one", "w"], axis=1), DATA["id"]).fit()
    assert_allclose(fit.params, free.params)
    assert_allclose(
        fit.conf_int().loc["Group Var (covariance)"], free.conf_int().loc["Group Var"]
    )


def test_panels_with_such_covariates() -> None:
    data = DATA.rename(columns={"w": "rho", "x": "theta"})
    fit = mar.random_effects_ar1("y ~ rho + theta", data, "id", "t").fit()
    other = mar.random_effects_ar1("y ~ w + x", DATA, "id", "t").fit()
    assert_allclose(fit.params, other.params)
    assert fit.rho == pytest.approx(other.rho)
    assert_allclose(mar.glance(fit)["rho"], other.rho)
    assert_allclose(fit.t_test("rho = 0").effect, other.params["w"])


def test_a_column_called_intercept() -> None:
    data = DATA.rename(columns={"w": "Intercept"})
    for call in (mar.mixedlm, mar.pooled, mar.by_group):
        given = {"entity": "id"} if call == mar.pooled else {"groups": "id"}
        with pytest.raises(UnsupportedError, match="'Intercept' has the name"):
            call("y ~ Intercept", data, **given)
    with pytest.raises(UnsupportedError, match="'Intercept' has the name"):
        mar.mixedlm("y ~ x", data, re_formula="~ Intercept", **WHERE)
    # the remedies of the message
    assert_allclose(mar.mixedlm("y ~ w", DATA, **WHERE).fit().llf, plain().llf)
    fit = mar.mixedlm("y ~ 0 + Intercept", data, re_formula="0 + Intercept", **WHERE)
    assert fit.fit().params.index[1] == "Intercept Var"
    # names that hold it are left alone
    renamed = DATA.rename(columns={"w": "Intercepts"})
    fit = mar.mixedlm("y ~ x", renamed, re_formula="~ Intercepts", **WHERE).fit()
    assert list(fit.cov_re.index) == ["id", "Intercepts"]


def test_two_columns_of_one_name() -> None:
    twice = pd.DataFrame(
        np.column_stack([np.ones(len(DATA)), DATA["x"], DATA["w"]]),
        columns=["one", "x", "x"],
    )
    for call in (
        lambda: MixedLMAR(DATA["y"], twice, DATA["id"]),
        lambda: MixedLMAR(DATA["y"], twice[["one"]], DATA["id"], exog_re=twice),
        lambda: PooledOLS(DATA["y"], twice, DATA["id"]),
        lambda: ByGroupOLS(DATA["y"], twice, DATA["id"]),
    ):
        with pytest.raises(UnsupportedError, match="2 columns named 'x'"):
            call()
