"""Covariance of one group's observations, against nlme and written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import mixedar.formula.api as mar
from helpers.fitted_models import reference_frame, shared
from mixedar.datasets import load_orthodont
from mixedar.exceptions import NotComputedError, UnknownColumnError, UnsupportedError
from mixedar.residual.variance import VarIdent

# getVarCov of nlme 3.1-162:
# lme(distance ~ age * sex, random = ~ age | subject,
#     correlation = corAR1(form = ~ occ | subject),
#     weights = varIdent(form = ~ 1 | sex))
MARGINAL = [
    [5.4289, 2.6903, 3.3262, 3.2141],
    [2.6903, 5.6263, 3.0380, 3.8240],
    [3.3262, 3.0380, 6.1241, 3.6860],
    [3.2141, 3.8240, 3.6860, 6.9224],
]
CONDITIONAL = [2.26100, -0.50112, 0.11107, -0.024616]
CONDITIONAL_OF_GIRLS = [0.36765, -0.081484, 0.018060, -0.0040027]
# gls(distance ~ age * sex, correlation = corSymm(form = ~ occ | subject),
#     weights = varIdent(form = ~ 1 | occ))
UNSTRUCTURED = [
    [5.4252, 2.7092, 3.8411, 2.7152],
    [2.7092, 4.1906, 2.9745, 3.3137],
    [3.8411, 2.9745, 6.2632, 4.1333],
    [2.7152, 3.3137, 4.1333, 4.9862],
]


def teeth(**options: Any) -> Any:
    data = load_orthodont().sample(frac=1.0, random_state=3)
    options = {"groups": "subject", "time": "occ", **options}
    return mar.mixedlm("distance ~ age * sex", data, **options).fit()


def test_slopes_ar1_and_variances_by_stratum() -> None:
    fit = teeth(re_formula="~age", weights=VarIdent("sex"))
    found = fit.group_covariance("M01")
    assert_allclose(found, MARGINAL, atol=1e-3)
    assert list(found.index) == list(found.columns) == [1, 2, 3, 4]
    assert found.index.name == "occ"
    residual = fit.group_covariance("M01", part="residual")
    assert_allclose(residual.loc[1], CONDITIONAL, atol=1e-4)
    girls = fit.group_covariance("F02", part="residual")
    assert_allclose(girls.loc[1], CONDITIONAL_OF_GIRLS, atol=1e-4)
    random = fit.group_covariance("M01", part="random")
    assert_allclose(random + residual, found)


def test_unstructured_without_random_effects() -> None:
    fit = teeth(residual="un", re_formula="0")
    found = fit.group_covariance("M01")
    assert_allclose(found, UNSTRUCTURED, atol=1e-3)
    deviations = np.sqrt(np.diag(UNSTRUCTURED))
    correlations = fit.group_covariance("F03", correlation=True)
    expected = UNSTRUCTURED / np.outer(deviations, deviations)
    assert_allclose(correlations, expected, atol=1e-3)
    none = fit.group_covariance("M01", part="random")
    assert (none == 0.0).all(axis=None)
    assert fit.group_covariance("M01", "random", correlation=True).isna().all(axis=None)


@pytest.mark.parametrize("name", ["slope", "components", "both", "series", "ols"])
def test_written_out(name: str) -> None:
    fit, data = shared(name), reference_frame()
    rows = data[data["id"] == 7].sort_values(["day", "t"])
    t, day = rows["t"].to_numpy(), rows["day"].to_numpy()
    rho = fit.residual_params.get("rho", 0.0)
    alone = (t[:, None] == t) if rho == 0.0 else rho ** np.abs(t[:, None] - t)
    if name == "series":
        alone = alone * (day[:, None] == day)
    residual = fit.scale * alone
    random = np.zeros_like(residual)
    if fit.k_re:
        x = rows["x"].to_numpy()
        Z = np.column_stack([np.ones(len(x)), x])[:, : fit.k_re]
        random = Z @ np.asarray(fit.cov_re) @ Z.T
    if fit.k_vc:
        random = random + fit.vcomp[0] * (day[:, None] == day)
    for part, expected in (
        ("marginal", random + residual),
        ("random", random),
        ("residual", residual),
    ):
        assert_allclose(fit.group_covariance(7, part), expected, atol=1e-10)


def test_factors_beside_the_groups() -> None:
    rng = np.random.default_rng(2)
    row = np.arange(200)
    data = pd.DataFrame({"person": row // 10, "item": row % 10 // 2})
    data["y"] = rng.normal(size=20)[row // 10] + rng.normal(size=5)[data["item"]]
    data["y"] += rng.normal(size=200)
    fit = mar.mixedlm("y ~ 1 + (1 | person) + (1 | item)", data).fit()
    label = fit.model.group_labels[3]
    found = fit.group_covariance(label)
    rows = data[np.asarray(fit.model.codes) == 3]
    parts = dict(zip(["person", "item"], [0.0, 0.0], strict=True))
    parts |= {k: float(fit.params[f"{k} Var"]) for k in parts}
    expected = fit.scale * np.eye(len(rows))
    for factor, variance in parts.items():
        levels = rows[factor].to_numpy()
        expected = expected + variance * (levels[:, None] == levels)
    assert_allclose(found, expected, atol=1e-10)


def test_labels() -> None:
    fit = mar.mixedlm("distance ~ age", load_orthodont(), groups="subject").fit()
    assert list(fit.group_covariance("F01").index) == [0, 1, 2, 3]
    series = shared("series").group_covariance(7)
    assert series.index.names == ["day", "t"]


def test_refusals() -> None:
    fit = shared("slope")
    with pytest.raises(UnknownColumnError, match="group=99: no group of 'id'"):
        fit.group_covariance(99)
    with pytest.raises(UnsupportedError, match="part='conditional': choose"):
        fit.group_covariance(7, part="conditional")
    with pytest.raises(UnsupportedError, match="correlation="):
        fit.group_covariance(7, correlation="yes")
    gone = mar.mixedlm("distance ~ age", load_orthodont(), groups="subject").fit()
    gone.remove_data()
    with pytest.raises(NotComputedError, match="data were removed"):
        gone.group_covariance("F01")


def test_nested_groups_go_by_the_labels_of_ranef() -> None:
    rng = np.random.default_rng(4)
    index = pd.MultiIndex.from_product([[3, 1], ["x", "y"], range(3)])
    data = index.set_names(["ward", "bed", "day"]).to_frame(index=False)
    data["y"] = rng.normal(size=len(data)) + data["ward"]
    data = data.drop(index=4)
    fit = mar.mixedlm("y ~ day + (1 | ward/bed)", data).fit()
    for label in fit.ranef("ward:bed").index:
        inside = (data["ward"] == label[0]) & (data["bed"] == label[1])
        found = fit.group_covariance(label)
        assert list(found.index) == list(data.index[inside])
        assert_allclose(found, fit.group_covariance(" / ".join(map(str, label))))
    with pytest.raises(UnknownColumnError, match=r"group=\(2, 'x'\)"):
        fit.group_covariance((2, "x"))
