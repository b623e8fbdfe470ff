"""Leaving out levels of any of several factors: against dense matrices and refits."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.several_factors import crossed_data, nested_data
from mixedar.exceptions import NotComputedError, UnknownColumnError
from mixedar.residual.variance import VarIdent

MODELS: dict[str, tuple[Any, str, str]] = {
    "crossed": (crossed_data, "y ~ x + (x | subj) + (x || item)", "subj"),
    "nested": (nested_data, "y ~ x + (x | school) + (1 | pupil)", "pupil"),
    "labels": (nested_data, "y ~ x + (1 | school/place)", "school:place"),
}
every = pytest.mark.parametrize(
    ("kind", "residual", "by"),
    [
        (kind, residual, by)
        for residual in ("independent", "ar1")
        for kind, by in (
            ("crossed", "subj"),
            ("crossed", "item"),
            ("nested", "school"),
            ("nested", "pupil"),
            ("labels", "school:place"),
        )
    ],
)


@cache
def data_of(kind: str) -> pd.DataFrame:
    data = MODELS[kind][0]()
    if kind == "labels":  # of places that are numbered anew in each school
        data["place"] = data["pupil"].str.split("-").str[1]
        data["school:place"] = list(zip(data["school"], data["place"], strict=True))
    return data


def fit_to(data: pd.DataFrame, kind: str, residual: str, **options: Any) -> Any:
    _, formula, groups = MODELS[kind]
    if kind != "labels":
        options["groups"] = groups
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a level a variance may be zero
        return mar.mixedlm(formula, data, time="t", residual=residual, **options).fit()


@cache
def fitted(kind: str, residual: str) -> Any:
    return fit_to(data_of(kind), kind, residual)


def codes(column: pd.Series) -> Any:
    return pd.factorize(column)[0]


@cache
def dense(kind: str, residual: str) -> tuple[Any, Any, dict[str, Any]]:
    """``V / sigma2``, ``[X y]``, and what each factor adds to ``V``, by its rows."""
    fit, data, groups = fitted(kind, residual), data_of(kind), MODELS[kind][2]
    own = codes(data[groups])
    lag = np.abs(np.subtract.outer(data["t"].to_numpy(), data["t"].to_numpy()))
    rho = float(fit.residual_params.get("rho", 0.0))
    v = (own[:, None] == own) * np.where(lag == 0, 1.0, rho**lag)
    x = np.column_stack([np.ones(len(data)), data["x"]])
    parts = {}
    for factor in fit.varcorr().index.get_level_values(0).unique().drop("Residual"):
        level = codes(data[factor])
        psi = fit.random_covariance(factor).to_numpy() / fit.scale
        z = x[:, : len(psi)]
        parts[factor] = (level[:, None] == level) * (z @ psi @ z.T)
        v = v + parts[factor]
    return v, np.column_stack([x, data["y"]]), parts


def rest_of(v: Any, w: Any) -> tuple[Any, Any, float]:
    """Generalised least squares: estimate, its covariance and residual variance."""
    x, y = w[:, :-1], w[:, -1]
    xvx = x.T @ np.linalg.solve(v, x)
    beta = np.linalg.solve(xvx, x.T @ np.linalg.solve(v, y))
    r = y - x @ beta
    scale = float(r @ np.linalg.solve(v, r)) / (len(y) - x.shape[1])
    return beta, scale * np.linalg.inv(xvx), scale


@every
def test_held_parameters_are_exact(kind: str, residual: str, by: str) -> None:
    fit, data = fitted(kind, residual), data_of(kind)
    v, w, parts = dense(kind, residual)
    found = fit.influence(0, by=by)
    frame, cov = found.summary_frame(), np.asarray(fit.cov_params())[:2, :2]
    assert found.by == by
    x = w[:, :2]
    hat = x @ np.linalg.solve(x.T @ np.linalg.solve(v, x), np.linalg.solve(v, x).T)
    of_effects = parts[by] @ np.linalg.inv(v) @ (np.eye(len(v)) - hat)
    assert len(frame) == data[by].nunique()
    for label in frame.index:
        gone = np.array([one == label for one in data[by]])
        keep = ~gone
        beta, cov_rest, scale = rest_of(v[np.ix_(keep, keep)], w[keep])
        np.testing.assert_allclose(found.params.loc[[label]].iloc[0, :2], beta, 1e-9)
        np.testing.assert_allclose(found.params["scale"][label], scale, 1e-9)
        change = fit.fe_params.to_numpy() - beta
        expected = {
            "nobs": gone.sum(),
            "cooks_d": change @ np.linalg.solve(cov, change) / 2,
            "mdffits": change @ np.linalg.solve(cov_rest, change) / 2,
            "covratio": np.linalg.det(cov_rest) / np.linalg.det(cov),
            "covtrace": abs(np.trace(np.linalg.solve(cov, cov_rest)) - 2),
            "leverage": np.trace(hat[np.ix_(gone, gone)]),
            "leverage_re": np.trace(of_effects[np.ix_(gone, gone)]),
            "dfb_x": change[1] / np.sqrt(cov_rest[1, 1]),
        }
        np.testing.assert_allclose(
            frame.loc[[label], list(expected)].iloc[0].astype(float),
            list(expected.values()),
            rtol=1e-7,
            atol=1e-10,
        )


@every
def test_steps_lead_to_refits(kind: str, residual: str, by: str) -> None:
    fit, data = fitted(kind, residual), data_of(kind)
    found, step = fit.influence(100, by=by), fit.influence(1, by=by)
    errors = np.append(fit.bse, fit.fit.bse_scale)
    labels = found.cooks_distance_theta.sort_values().index
    for label in (labels[0], labels[-1]):
        keep = np.array([one != label for one in data[by]])
        other = fit_to(data[keep], kind, residual)
        expected = np.append(other.params, other.scale)
        values = found.params.loc[[label]].iloc[0]
        np.testing.assert_allclose(values, expected, 1e-4, 1e-4)
        gap = np.abs(step.params.loc[[label]].iloc[0] - expected) / errors
        assert gap.iloc[:2].max() < 0.15
        assert gap.max() < 0.6


def test_slopes_of_linked_levels_are_those_without_them() -> None:
    # where nothing is linked derivatives are exact, else they are differences
    from mixedar.diagnostics.influence.linked import LinkedCoordinates

    fit = fitted("nested", "ar1").fit
    codes = fit.data.terms[0].codes
    at = LinkedCoordinates(fit, codes, "school")
    exact, _ = at.parts(slice(0, 9), derivatives=True)
    step = 1e-4
    for k in range(len(at.theta)):
        gain = []
        for sign in (1.0, -1.0):
            theta = at.theta + sign * step * np.eye(len(at.theta))[k]
            sums = [at.own(level, theta)[0] for level in range(9)]
            gain.append(np.einsum("ia,mij,jb->abm", at.unit, np.array(sums), at.unit))
        slope = (gain[0] - gain[1]) / (2.0 * step)
        np.testing.assert_allclose(exact.s1[k], slope, rtol=1e-5, atol=1e-7)


def test_outermost_levels_are_left_out_by_default() -> None:
    assert fitted("nested", "ar1").influence(0).by == "school"
    assert fitted("crossed", "ar1").influence(0).by == "subj"
    found = fitted("labels", "ar1").influence(0, by="school:place")
    assert found.cooks_distance.index.names == ["school", "place"]
    assert "27 levels of school:place" in repr(found)


@pytest.mark.parametrize("by", ["subj", "item"])
def test_outliers_are_found_and_shifted_means(by: str) -> None:
    data, word = data_of("crossed").copy(), {"subj": "s3", "item": "i2"}[by]
    data.loc[data[by] == word, "y"] += 9.0
    fit = fit_to(data, "crossed", "independent")
    found = fit.influence(by=by)
    assert found.cooks_distance.idxmax() == word
    external = found.outlier_test(external=True)
    assert external["p_adj_re"].idxmin() == word
    assert external.loc[word, "p_adj_re"] < 0.01
    # all parameters held: a mean of the level's own is as many columns of the design
    held = fit.influence(0, by=by).outlier_test()
    gone = (data[by] == word).to_numpy()
    shift = np.eye(len(data))[:, gone]
    v = np.zeros((len(data),) * 2) + np.eye(len(data))
    x = np.column_stack([np.ones(len(data)), data["x"]])
    for factor in ("subj", "item"):
        level, psi = codes(data[factor]), fit.random_covariance(factor) / fit.scale
        v += (level[:, None] == level) * (x @ psi.to_numpy() @ x.T)
    y = data["y"].to_numpy()
    few, many = x, np.column_stack([x, shift])
    rss = [
        rest_of(v, np.column_stack([columns, y]))[2] * (len(y) - columns.shape[1])
        for columns in (few, many)
    ]
    f = (rss[0] - rss[1]) / gone.sum() / (rss[1] / (len(y) - many.shape[1]))
    np.testing.assert_allclose(held.loc[word, "F"], f, rtol=1e-8)


def test_variances_that_differ_and_long_gaps() -> None:
    data = data_of("crossed").assign(
        kind=lambda frame: frame["item"].isin(["i1", "i5"])
    )
    fit = fit_to(data, "crossed", "car1", weights=VarIdent("kind"))
    found = fit.influence(100, by="item")
    label = found.cooks_distance.idxmax()
    keep = data["item"] != label
    other = fit_to(data[keep], "crossed", "car1", weights=VarIdent("kind"))
    np.testing.assert_allclose(
        found.params.loc[label].drop("scale"), other.params, rtol=1e-3, atol=1e-3
    )


def test_pictures_and_refusals() -> None:
    fit = fitted("crossed", "ar1")
    found = fit.influence(0, by="item")
    assert found.plot_index().get_xlabel() == "item"
    found.plot_dfbetas()
    with pytest.raises(UnknownColumnError, match="'item', 'subj'"):
        fit.influence(by="nobody")
    one = mar.mixedlm("y ~ x", data_of("crossed"), groups="subj", time="t").fit()
    with pytest.raises(UnknownColumnError, match="'subj'"):
        one.influence(by="item")
    fit = fit_to(data_of("crossed"), "crossed", "ar1")
    fit.remove_data()
    with pytest.raises(NotComputedError, match="removed"):
        fit.influence()


def test_a_level_that_determines_a_coefficient() -> None:
    data = data_of("crossed").assign(z=lambda frame: frame["item"] == "i4")
    data["z"] *= np.random.default_rng(1).normal(size=len(data))
    fit = mar.mixedlm(
        "y ~ x + z + (1 | subj) + (1 | item)", data, residual="independent"
    ).fit()
    found = fit.influence(by="item")
    assert found.params["z"].isna().equals(found.params.index.to_series() == "i4")
