"""Unstructured correlations of visits that no group has both of."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar._types import FloatArray
from mixedar.exceptions import IdentificationError


def visits() -> pd.DataFrame:
    """Everybody has visits 0 and 1; then either visit 2, or a final visit 3."""
    rng = np.random.default_rng(5)
    root = np.linalg.cholesky(0.5 + 0.5 * np.eye(4))
    rows = []
    for i in range(60):
        y = root @ rng.normal(size=4) * [1.0, 1.2, 0.8, 1.5]
        seen = [0, 1, 3 if i % 3 == 0 else 2]
        rows += [(i, v, y[v] + 0.3 * v) for v in seen]
    return pd.DataFrame(rows, columns=["id", "v", "y"])


def restricted(data: pd.DataFrame, cov: FloatArray) -> float:
    """The restricted log-likelihood, dense, with a mean for each visit."""
    x = pd.get_dummies(data["v"]).to_numpy(dtype=float)
    y, v = data["y"].to_numpy(), data["v"].to_numpy()
    a, c = np.zeros((x.shape[1],) * 2), np.zeros(x.shape[1])
    square = logdet = 0.0
    for rows in data.groupby("id").indices.values():
        inverse = np.linalg.inv(cov[np.ix_(v[rows], v[rows])])
        a += x[rows].T @ inverse @ x[rows]
        c += x[rows].T @ inverse @ y[rows]
        square += y[rows] @ inverse @ y[rows]
        logdet -= np.linalg.slogdet(inverse)[1]
    df = len(y) - x.shape[1]
    rest = square - c @ np.linalg.solve(a, c)
    return -0.5 * (
        df * np.log(2 * np.pi) + logdet + np.linalg.slogdet(a)[1] + float(rest)
    )


def test_the_rest_is_estimated_and_the_pair_is_named() -> None:
    data = visits()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = mar.mixedlm(
            "y ~ 0 + C(v)", data, groups="id", time="v", residual="un", re_formula="0"
        ).fit()
    assert fit.converged
    assert any("'rho(2, 3)'" in note for note in fit.boundary_notes)
    assert "'rho(2, 3)'" in str(fit.summary())
    found = fit.residual_params
    sd = np.sqrt(fit.scale) * np.append(1.0, found[["sd[1]", "sd[2]", "sd[3]"]])

    def at(changes: dict[str, float]) -> float:
        corr = np.eye(4)
        for name, value in {**found, **changes}.items():
            if str(name).startswith("rho"):
                i, j = int(str(name)[4]), int(str(name)[7])
                corr[i, j] = corr[j, i] = value
        return restricted(data, corr * np.outer(sd, sd))

    np.testing.assert_allclose(fit.llf, at({}), rtol=1e-9)
    np.testing.assert_allclose(fit.llf, at({"rho(2, 3)": 0.1}), rtol=1e-9)
    for name in ("rho(0, 1)", "rho(0, 2)", "rho(1, 3)"):
        for step in (-0.02, 0.02):
            assert at({name: found[name] + step}) < fit.llf
    known = [name for name in found.index if name != "rho(2, 3)"]
    assert np.isnan(fit.bse["rho(2, 3)"])
    assert np.isfinite(fit.bse[known]).all()
    for df in ("satterthwaite", "kenward-roger"):
        assert np.isfinite(fit.with_df(df).bse_fe).all()
    intervals = fit.conf_int_re(parameters=["rho(2, 3)", "rho(0, 1)", "sd[2]"])
    assert np.isnan(intervals.loc["rho(2, 3)", "lower"])
    assert np.isfinite(intervals.iloc[1:][["lower", "upper"]].to_numpy(float)).all()
    # five correlations, four variances and four means
    np.testing.assert_allclose(fit.aic, 2 * 13 - 2 * fit.llf)


def test_nothing_is_estimated_from_groups_of_one() -> None:
    data = visits().groupby("id").sample(1, random_state=1)
    with pytest.raises(IdentificationError, match="size one"):
        mar.mixedlm(
            "y ~ 1", data, groups="id", time="v", residual="un", re_formula="0"
        ).fit()


def test_what_is_told_apart_is_not_named() -> None:
    """A random intercept takes part in every correlation; visits 2, 3 are apart."""
    with pytest.raises(IdentificationError) as caught:
        mar.mixedlm("y ~ 1", visits(), groups="id", time="v", residual="un").fit()
    assert "id Var" in str(caught.value)
    assert "rho(2, 3)" not in str(caught.value)
