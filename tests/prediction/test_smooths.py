"""Curves of smooths: values of mgcv, and matrices written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixedar.formula.api as mar
from helpers.smooth_cases import SAME, case, close, dense, fitted, noisy, table
from mixedar.exceptions import NotComputedError, UnknownColumnError, UnsupportedError


@pytest.mark.parametrize("name", SAME)
def test_terms(name: str) -> None:
    fit, grid = fitted(name), table(f"{name}_grid")
    expected = case(name)["expected"]["grid"]
    rtol = 1e-3 if name == "smooth_tp_gamm4_ml" else 1e-5
    for label, values in expected["terms"].items():
        found = fit.smooth(label, grid, n_sim=100)
        # of other arms the term is zero there, and not asked for here
        own = grid.index.isin(found.index)
        close(found["fit"], np.array(values)[own], rtol, 1e-5)
        close(found["se"], np.array(expected["terms_se"][label])[own], rtol)
    prediction = fit.get_prediction(grid)
    close(prediction.predicted_mean, expected["link"], rtol)
    close(prediction.se_mean, expected["link_se"], rtol)


def test_grids() -> None:
    fit = fitted("smooth_by_ar1_reml")
    curve = fit.smooth("s(time):armb")
    assert list(curve.columns) == [
        *("time", "arm", "fit", "se", "lower", "upper"),
        *("simultaneous_lower", "simultaneous_upper"),
    ]
    assert len(curve) == 100
    assert (curve["time"].min(), curve["time"].max()) == (1.0, 12.0)
    assert set(curve["arm"]) == {"b"}
    for label in ("s(time)", "s(time):arm", "s( time )"):
        every = fit.smooth(label, n=5)
        assert len(every) == 15
        own = every[every["arm"] == "b"].drop(columns="arm").iloc[:, :3]
        at = fit.smooth("s(time):armb", at=own["time"])
        close(own, at[["time", "fit", "se"]], 1e-12)
    some = pd.DataFrame({"time": [2.0, 3.0], "arm": ["b", "a"]}, index=["one", "two"])
    assert fit.smooth("s(time):arma", some).index.tolist() == ["two"]
    close(curve["upper"] - curve["fit"], stats.norm.isf(0.025) * curve["se"], 1e-12)


# The ratio's maximum is at its end, which is named or not by where the search stops.
@pytest.mark.filterwarnings("ignore::mixedar.exceptions.BoundaryWarning")
def test_tensor_product_equals_matrices() -> None:
    rows = table("smooth_x")
    fit = mar.mixedlm("y ~ te(x, time, k=4)", rows, groups="id", time="time").fit()
    columns, cov, _ = dense(fit)
    p = fit.k_fe
    names = fit.params.index[:p]
    own = np.r_[[k for k in range(p) if "te(" in names[k]], p : len(cov)]
    found = fit.smooth("te(x,time)", rows)
    terms = fit.fit.term_effects[0].means.ravel()
    value = columns[:, own] @ np.concatenate([fit.fe_params[1:], terms])
    spread = columns[:, own] @ cov[np.ix_(own, own)] @ columns[:, own].T
    close(found["fit"], value, 1e-8, 1e-9)
    close(found["se"], np.sqrt(np.diag(spread)), 1e-7)
    grid = fit.smooth("te(x,time)", n=6)
    assert len(grid) == 36
    assert grid.columns[:2].tolist() == ["x", "time"]


def levels_fit(**options: Any) -> Any:
    rows = table("smooth_arms")
    return mar.mixedlm(
        'y ~ s(time, k=5) + s(time, id, bs="fs", k=5)', rows, **options
    ).fit()


def test_smooths_of_levels() -> None:
    rows = table("smooth_arms")
    fit = levels_fit()
    columns, cov, _ = dense(fit)
    own = np.arange(fit.k_fe + fit.fit.data.terms[0].copies, len(cov))
    found = fit.smooth("s(time,id)", rows).set_index(["id", "time"])
    key = pd.MultiIndex.from_frame(rows[["id", "time"]])
    se = np.sqrt(np.diag(columns[:, own] @ cov[np.ix_(own, own)] @ columns[:, own].T))
    close(found.loc[key, "se"], se, 1e-7)
    value = found.loc[key, "fit"].to_numpy() + fit.smooth("s(time)", rows)["fit"]
    close(value + fit.fe_params["Intercept"], fit.fittedvalues, 1e-9)
    # the groups have the same smooths as variance components
    other = levels_fit(groups="id", residual="independent")
    again = other.smooth("s(time,id)", rows).set_index(["id", "time"])
    close(again.loc[key, ["fit", "se"]], found.loc[key, ["fit", "se"]], 1e-4, 1e-5)


@pytest.mark.parametrize("bs", ["cr", "cc", "ps", "tp"])
def test_derivatives(bs: str) -> None:
    rows = table("smooth_x")
    fit = mar.mixedlm(f'y ~ s(x, bs="{bs}", k=8) + (1 | id)', rows).fit()
    at = np.linspace(0.05, 0.95, 19)
    found = fit.smooth("s(x)", at, derivative=True)
    h = 1e-5
    high, low = (fit.smooth("s(x)", at + side * h)["fit"] for side in (1.0, -1.0))
    close(found["derivative"], (high - low) / (2.0 * h), 1e-5, 1e-5)
    assert (found["derivative_se"] > 0.0).all()
    width = found["derivative_upper"] - found["derivative_lower"]
    close(width, 2.0 * stats.norm.isf(0.025) * found["derivative_se"], 1e-10)


def test_slope_of_a_straight_line_has_the_error_of_its_coefficient() -> None:
    fit = fitted("smooth_straight_ar1_reml")
    rows = table("smooth_straight")
    line = mar.mixedlm("y ~ x + (1 | id)", rows, groups="id", time="time").fit()
    found = fit.smooth("s(x)", derivative=True)
    close(found["derivative"], np.full(100, line.params["x"]), 1e-5)
    close(found["derivative_se"], np.full(100, line.bse["x"]), 1e-5)
    # one direction: for the whole line as for each point
    close(found["simultaneous_upper"], found["upper"], 0.02, 0.02)


def test_simultaneous_intervals_hold_for_the_whole_curve() -> None:
    fit = fitted("smooth_cr_ar1_reml")
    found = fit.smooth("s(x)", n=40, rng=1, n_sim=20_000)
    critical = found.attrs["critical"]["s(x)"]
    close(found["simultaneous_upper"] - found["fit"], critical * found["se"], 1e-12)
    # other draws, from the covariance of the curve written out
    columns, cov, _ = dense(fit)
    own = np.r_[1, fit.k_fe : len(cov)]
    rows = np.linspace(0, len(columns) - 1, 60).astype(int)
    design = columns[np.ix_(rows, own)]
    cov = design @ cov[np.ix_(own, own)] @ design.T
    rng = np.random.default_rng(7)
    values, vectors = np.linalg.eigh(cov)
    draws = rng.standard_normal((20_000, len(cov))) * np.sqrt(np.maximum(values, 0.0))
    most = np.abs(draws @ vectors.T / np.sqrt(np.diag(cov))).max(axis=1)
    close((most <= critical).mean(), 0.95, 0.0, 0.01)
    again = fit.smooth("s(x)", n=40, rng=1, n_sim=20_000)
    pd.testing.assert_frame_equal(found, again)


def test_units_of_the_covariate_do_not_matter() -> None:
    rows = table("smooth_x")
    formula = 'y ~ s(x, bs="cr", k=8) + (1 | id)'
    one = mar.mixedlm(formula, rows).fit().smooth("s(x)", derivative=True)
    moved = rows.assign(x=1000.0 * rows["x"] - 5e4)
    two = mar.mixedlm(formula, moved).fit().smooth("s(x)", derivative=True)
    close(two["x"], 1000.0 * one["x"] - 5e4, 1e-12)
    close(two[["fit", "se"]], one[["fit", "se"]], 1e-4, 1e-6)
    close(1000.0 * two["derivative"], one["derivative"], 1e-3, 1e-3)


def test_numeric_by() -> None:
    rows = noisy("smooth_x")
    fit = mar.mixedlm('y ~ s(x, by=w, bs="ps", k=8) + (1 | id)', rows).fit()
    at = rows.head(5)
    found = fit.smooth("s(x):w", at)
    plain = fit.smooth("s(x):w", at["x"])
    close(found["fit"], plain["fit"].to_numpy() * at["w"], 1e-10)
    effect = fit.get_prediction(at).predicted_mean - fit.fe_params["Intercept"]
    close(found["fit"], effect, 1e-9)


def test_covariate_as_an_expression() -> None:
    rows = table("smooth_x")
    fit = mar.mixedlm("y ~ s(np.sqrt(x), k=6) + (1 | id)", rows).fit()
    found = fit.smooth("s(np.sqrt(x))", n=4)
    assert found.columns[0] == "x"
    close(found["x"].iloc[-1], rows["x"].max(), 1e-12)


def test_what_cannot_be_asked() -> None:
    fit = fitted("smooth_two_ar1_reml")
    with pytest.raises(
        UnknownColumnError, match=r"no smooth 's\(z\)'; there are 's\(x"
    ):
        fit.smooth("s(z)")
    with pytest.raises(UnknownColumnError, match="no column 'x'"):
        fit.smooth("s(x)", pd.DataFrame({"time": [1.0]}))
    with pytest.raises(UnsupportedError, match="one dimension"):
        fit.smooth("s(x)", np.ones((2, 2)))
    with pytest.raises(UnsupportedError, match="derivative='z'"):
        fit.smooth("s(x)", derivative="z")
    with pytest.raises(UnsupportedError, match="alpha"):
        fit.smooth("s(x)", alpha=2.0)
    plain = mar.mixedlm("y ~ x + (1 | id)", table("smooth_x")).fit()
    with pytest.raises(UnsupportedError, match="no smooths"):
        plain.smooth("s(x)")
    bare = mar.mixedlm("y ~ s(x) + (1 | id)", table("smooth_x")).fit()
    bare.remove_data()
    with pytest.raises(NotComputedError, match="removed"):
        bare.smooth("s(x)")
