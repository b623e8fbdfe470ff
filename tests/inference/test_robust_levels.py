"""Cluster-robust covariances with random effects of several factors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.exceptions import NotComputedError
from mixedar.inference.sandwich import COV_TYPES


def school_data(seed: int = 1) -> pd.DataFrame:
    """Pupils and teachers cross within schools of unequal size."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"k{school}", f"p{school}-{pupil}", f"m{school}-{(pupil + t) % 3}", t)
        for school in range(12)
        for pupil in range(3 + school % 3)
        for t in range(4)
    ]
    frame = pd.DataFrame(rows, columns=["school", "pupil", "teacher", "t"])
    frame["x"] = rng.normal(size=len(frame))
    frame["z"] = frame["school"].str[1:].astype(int) % 2
    y = 1.0 + 0.5 * frame["x"] + 0.7 * rng.normal(size=len(frame))
    for column in ("school", "pupil", "teacher"):
        codes = pd.factorize(frame[column])[0]
        effects = rng.normal(size=(codes.max() + 1, 2))
        y += effects[codes, 0] + 0.6 * effects[codes, 1] * frame["x"]
    return frame.assign(y=y).sample(frac=1.0, random_state=seed)


FORMULAS = {
    "nested": "y ~ x + z + (x | school/pupil)",
    "crossed within": "y ~ x + z + (1 | school) + (x | pupil) + (1 | teacher)",
    "no outermost": "y ~ x + z + (x | pupil) + (1 | teacher)",
}


def fit_of(kind: str, residual: str) -> tuple[Any, pd.DataFrame]:
    data = school_data()
    options = {}
    if residual == "ar1" and kind != "nested":
        options = {"groups": "pupil"}
    model = mar.mixedlm(FORMULAS[kind], data, time="t", residual=residual, **options)
    return model.fit(), data


def covariance(fit: Any, data: pd.DataFrame) -> np.ndarray:
    """Covariance of all rows, relative to the residual variance."""
    same = data["pupil"].to_numpy()[:, None] == data["pupil"].to_numpy()
    lag = np.abs(np.subtract.outer(data["t"].to_numpy(), data["t"].to_numpy()))
    rho = float(fit.residual_params.get("rho", 0.0))
    out = same * np.where(lag == 0, 1.0, rho**lag)
    for factor in fit.varcorr().index.get_level_values(0).unique().drop("Residual"):
        column = data[factor.split(":")[-1]].to_numpy()
        psi = fit.random_covariance(factor)
        z = np.column_stack([np.ones(len(data)), data["x"]])[:, : len(psi)]
        out += (column[:, None] == column) * (z @ psi.to_numpy() @ z.T) / fit.scale
    return out


def dense(fit: Any, data: pd.DataFrame) -> dict[str, tuple[Any, Any]]:
    """Robust covariances, and Satterthwaite's degrees of freedom of coefficients."""
    v = covariance(fit, data)
    x = np.column_stack([np.ones(len(data)), data["x"], data["z"]])
    inverse = np.linalg.inv(v)
    bread = np.linalg.inv(x.T @ inverse @ x)
    e = data["y"].to_numpy() - x @ fit.fe_params.to_numpy()
    middle = v - x @ bread @ x.T
    schools = [np.flatnonzero(data["school"] == s) for s in data["school"].unique()]
    n, p, m = len(data), x.shape[1], len(schools)
    factors = {
        "CR0": 1.0,
        "CR1": m / (m - 1),
        "CR1p": m / (m - p),
        "CR1S": m * (n - 1) / ((m - 1) * (n - p)),
    }
    out = {}
    for cov_type in COV_TYPES:
        steps = np.zeros((m, p, n))  # of all residuals
        for i, rows in enumerate(schools):
            xi, own = x[rows], np.ix_(rows, rows)
            w = np.linalg.inv(v[own])
            a = np.eye(len(rows))
            if cov_type == "CR2":
                values, vectors = np.linalg.eigh(v[own])
                d = (vectors * np.sqrt(values)) @ vectors.T
                b, q = np.linalg.eigh(d @ middle[own] @ d)
                keep = b > 1e-10 * b.max()
                a = d @ (q[:, keep] / np.sqrt(b[keep])) @ q[:, keep].T @ d
            elif cov_type == "CR3":
                a = np.linalg.inv(a - xi @ bread @ xi.T @ w)
            steps[i][:, rows] = bread @ xi.T @ w @ a
        found = steps @ e
        df = []
        for k in range(p):
            inner = steps[:, k] @ middle @ steps[:, k].T
            df.append(np.trace(inner) ** 2 / (inner**2).sum())
        out[cov_type] = factors.get(cov_type, 1.0) * found.T @ found, df
    return out


@pytest.mark.parametrize("residual", ["independent", "ar1"])
@pytest.mark.parametrize("kind", FORMULAS)
def test_against_dense_sums(kind: str, residual: str) -> None:
    fit, data = fit_of(kind, residual)
    for cov_type, (cov, df) in dense(fit, data).items():
        found = fit.get_robustcov_results(cov_type)
        se = np.sqrt(np.diag(cov))
        mine = found.cov_params().iloc[:3, :3] / np.outer(se, se)
        np.testing.assert_allclose(mine, cov / np.outer(se, se), atol=1e-7)
        np.testing.assert_allclose(found.df, df, rtol=1e-6)


def test_the_same_as_components_of_one_group() -> None:
    data = school_data()
    bars = mar.mixedlm("y ~ x + z + (1 | school/pupil)", data).fit()
    parts = {"pupil": "0 + C(pupil)"}
    other = mar.mixedlm(
        "y ~ x + z", data, groups="school", re_formula="1", vc_formula=parts
    ).fit()
    for cov_type in COV_TYPES:
        one, two = (f.get_robustcov_results(cov_type) for f in (bars, other))
        np.testing.assert_allclose(one.bse_fe, two.bse_fe, rtol=1e-5)
        np.testing.assert_allclose(one.df, two.df, rtol=1e-5)
        one, two = (f.wald_test("x, z") for f in (one, two))
        np.testing.assert_allclose(one.statistic, two.statistic, rtol=1e-5)
        np.testing.assert_allclose(one.df_denom, two.df_denom, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nested", "12 levels of school"),
        ("crossed within", "12 levels of school"),
        ("no outermost", "12 sets of levels that meet"),
    ],
)
def test_summary_names_the_clusters(kind: str, words: str) -> None:
    fit, _ = fit_of(kind, "independent")
    text = " ".join(str(fit.get_robustcov_results("CR1").summary()).split())
    assert f"clusters are the {words}" in text


def test_coefficient_that_one_school_determines() -> None:
    data = school_data()
    data["one"] = (data["school"] == "k3") * data["x"]
    fit = mar.mixedlm("y ~ x + one + (1 | school/pupil)", data).fit()
    found = fit.get_robustcov_results("CR2")
    assert np.isnan(found.bse_fe["one"])
    assert "without school 'k3'" in " ".join(str(found.summary()).split())
    with pytest.raises(NotComputedError, match="without school 'k3'"):
        fit.get_robustcov_results("CR3")


@pytest.mark.parametrize("cov_type", COV_TYPES)
def test_crossed_factors_have_no_clusters(cov_type: str) -> None:
    data = school_data()
    data["item"] = np.arange(len(data)) % 5
    fit = mar.mixedlm("y ~ x + (1 | pupil) + (1 | item)", data).fit()
    with pytest.raises(NotComputedError, match="pupil, item"):
        fit.get_robustcov_results(cov_type)


def test_large_components_have_no_cr2(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, data = fit_of("nested", "independent")
    monkeypatch.setattr("mixedar.inference.sandwich._LARGEST", 10)
    most = data["school"].value_counts().max()
    with pytest.raises(NotComputedError, match=f"order {most}.*largest cluster"):
        fit.get_robustcov_results("CR2")
