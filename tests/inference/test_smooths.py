"""Degrees of freedom and tests of smooths: values of mgcv, and matrices written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixedar.formula.api as mar
from helpers.smooth_cases import SAME, case, close, dense, fitted, noisy, table
from mixedar.inference.smooths import positive_probability
from mixedar.mixed.fit import SingularCovarianceWarning

# summary(gamm(y ~ ..., random = list(id = ~1), corAR1(form = ~ time | id), method =
# "REML")$gam)$s.table of mgcv 1.8-41 on `noisy` data: edf, Ref.df, F, p; its p-values
# are those of Davies' algorithm with a tolerance of 2e-5
GAMM: dict[tuple[str, str], list[list[float]]] = {
    ("smooth_x", 'y ~ s(x, bs="cr", k=10)'): [
        [4.39506940343, 4.39506940343, 6.30388059649, 4.9122864986e-05]
    ],
    ("smooth_x", 'y ~ s(x, bs="tp", k=8)'): [
        [4.40628360284, 4.40628360284, 6.38496528002, 4.22511980321e-05]
    ],
    ("smooth_x", 'y ~ s(x, bs="cc", k=8)'): [
        [3.2262365742, 6.0, 4.60273755606, 2.84815337115e-06]
    ],
    ("smooth_x", 'y ~ s(x, by=w, bs="ps", k=8)'): [
        [4.03369272071, 4.03369272071, 6.78171787713, 2.15860212042e-05]
    ],
    ("smooth_arms", 'y ~ arm + s(time, by=arm, bs="cr", k=7)'): [
        [2.81438611278, 2.81438611278, 4.31610355330, 0.00412947086168],
        [1.00001817158, 1.00001817158, 2.57638902710, 0.10980668330103],
        [2.15959935254, 2.15959935254, 5.78962402067, 0.00261004731822],
    ],
    ("smooth_x", "y ~ s(x, v, k=12)"): [
        [2.00000105613, 2.00000105613, 6.23941423023, 0.00221623168423]
    ],
}


@pytest.mark.filterwarnings("ignore::mixedar.exceptions.BoundaryWarning")
@pytest.mark.parametrize("key", GAMM, ids=" ".join)
def test_no_effect_as_gamm(key: tuple[str, str]) -> None:
    data, formula = key
    fit = mar.mixedlm(f"{formula} + (1 | id)", noisy(data), groups="id", time="time")
    found = fit.fit().smooths
    edf, df, f, p = np.transpose(GAMM[key])
    close(found["edf"], edf, 3e-5)
    close(found["ref_df"], df, 3e-5)
    close(found["F"], f, 3e-5)
    close(found["p"], p, 1e-4, 2e-5)


@pytest.mark.parametrize("name", SAME)
def test_edf(name: str) -> None:
    fit, expected = fitted(name), case(name)["expected"]
    found = fit.smooths
    close(found.attrs["edf_total"], expected["edf_total"], 1e-6)
    for smooth in expected["smooths"]:
        row = found.loc[smooth["label"]]
        close(row["edf"], smooth["edf"], 1e-6)
        if name != "smooth_tp_gamm4_ml" and smooth["smoothing_parameter"]:
            close(row["smoothing"], smooth["smoothing_parameter"], 1e-5)


# The ratio has its maximum where it grows without bound; which values are named as
# its end depends on where the search stops.
at_the_end = pytest.mark.filterwarnings("ignore::mixedar.exceptions.BoundaryWarning")


def surface(**options: Any) -> Any:
    return mar.mixedlm("y ~ te(x, time, k=4)", table("smooth_x"), **options).fit()


@at_the_end
@pytest.mark.parametrize("residual", ["ar1", "independent"])
def test_edf_is_a_trace(residual: str) -> None:
    options = {"groups": "id", "time": "time", "residual": residual}
    fit = surface(**options)
    _, cov, penalty = dense(fit)
    influence = np.eye(len(cov)) - cov @ penalty
    p = fit.k_fe
    own = np.r_[[k for k in range(p) if "te(" in fit.params.index[k]], p : len(cov)]
    close(fit.smooths["edf"], [np.trace(influence[np.ix_(own, own)])], 1e-6)
    close(fit.smooths.attrs["edf_total"], np.trace(influence), 1e-6)


def test_edf_of_levels_is_a_trace() -> None:
    rows = table("smooth_arms")
    model = mar.mixedlm('y ~ s(time, k=5) + s(time, id, bs="fs", k=5)', rows)
    fit = model.fit()
    _, cov, penalty = dense(fit)
    trace = np.trace(np.eye(len(cov)) - cov @ penalty)
    close(fit.smooths.attrs["edf_total"], trace, 1e-7)
    # Wood's test that no level has a curve: b'V^-1 b by the spread of the estimates
    own = np.arange(fit.k_fe + fit.fit.data.terms[0].copies, len(cov))
    here = np.ix_(own, own)
    b = np.concatenate([e.means.ravel() for e in fit.fit.term_effects[1:]])
    square = b @ np.linalg.solve(cov[here], b)
    spread = np.linalg.solve(cov[here], (cov - cov @ penalty @ cov)[here])
    weights = np.append(np.linalg.eigvals(spread).real, -square / round(245 - trace))
    found = fit.smooths.loc["s(time,id)"]
    close(found["F"] * found["ref_df"], square, 1e-7)
    df = np.append(np.ones(len(own)), round(245 - trace))
    close(found["p"], positive_probability(weights, df), 1e-6)
    # the groups have the same smooths as variance components
    other = mar.mixedlm(
        'y ~ s(time, k=5) + s(time, id, bs="fs", k=5)',
        rows,
        groups="id",
        residual="independent",
    ).fit()
    found = other.smooths.loc[fit.smooths.index]
    for column in ("edf", "ref_df", "F", "p", "variance", "LR", "line_p"):
        close(found[column], fit.smooths[column], 1e-4)


def test_a_straight_line_is_tested_by_the_likelihood_ratio() -> None:
    rows = noisy("smooth_x")
    fit = mar.mixedlm('y ~ s(x, bs="cr", k=10) + (1 | id)', rows).fit(reml=False)
    line = mar.mixedlm("y ~ x + (1 | id)", rows).fit(reml=False)
    found = fit.smooths.loc["s(x)"]
    ratio = 2.0 * (fit.llf - line.llf)
    close(found["LR"], ratio, 1e-6)
    close(found["line_p"], 0.5 * stats.chi2.sf(ratio, 1), 1e-5)


@at_the_end
def test_a_tensor_product_loses_two_parameters() -> None:
    rows = table("smooth_x")
    fit = surface(groups="id", residual="ar1", time="time")
    small = mar.mixedlm("y ~ x * time", rows, groups="id", residual="ar1", time="time")
    found, ratio = fit.smooths.iloc[0], fit.llf - small.fit().llf
    exogs = fit.model.exog, small.exog
    first, second = (np.linalg.slogdet(x.T @ x)[1] for x in exogs)
    ratio = 2.0 * (ratio + 0.5 * (first - second))  # REML depends on the columns
    close(found["LR"], ratio, 1e-6)
    p = 0.5 * (stats.chi2.sf(ratio, 1) + stats.chi2.sf(ratio, 2))
    close(found["line_p"], p, 1e-5)


def test_a_ratio_that_does_not_matter_stays_finite() -> None:
    with pytest.warns(SingularCovarianceWarning, match="product of straight lines"):
        fit = mar.mixedlm("y ~ te(x, time, k=4) + (1 | id)", noisy("smooth_arms")).fit()
    assert np.isfinite(fit.params).all()


def test_at_the_boundary() -> None:
    found = fitted("smooth_straight_ar1_reml").smooths.loc["s(x)"]
    assert found["note"] == "a straight line"
    assert found["edf"] == found["ref_df"] == 1.0
    assert (found["LR"], found["line_p"], found["variance"]) == (0.0, 1.0, 0.0)
    # F is the square of the t of a line
    rows = table("smooth_straight")
    line = mar.mixedlm("y ~ x + (1 | id)", rows, groups="id", time="time").fit()
    close(found["F"], line.tvalues["x"] ** 2, 1e-6)


@pytest.mark.parametrize("bs", ["cr", "cc", "ps", "tp"])
def test_units_of_the_covariate_do_not_matter(bs: str) -> None:
    rows = noisy("smooth_x")
    formula = f'y ~ s(x, bs="{bs}", k=8) + (1 | id)'
    one = mar.mixedlm(formula, rows).fit().smooths
    two = mar.mixedlm(formula, rows.assign(x=1000.0 * rows["x"] - 5e4)).fit().smooths
    columns = ["edf", "ref_df", "F", "p", "LR", "line_p"]
    close(two[columns], one[columns], 1e-4)


def test_without_smooths() -> None:
    fit = mar.mixedlm("y ~ x + (1 | id)", table("smooth_x")).fit()
    assert fit.smooths.empty
    assert "Smooths" not in str(fit.summary())


def test_probability_of_a_quadratic_form() -> None:
    for x, a, b in ((3.0, 2, 10), (50.0, 4, 200), (0.01, 5, 3), (1.2, 200, 10**6)):
        found = positive_probability(np.array([1.0, -x * a / b]), np.array([a, b]))
        close(found, stats.f.sf(x, a, b), 1e-9)
    # mgcv's psum.chisq, tol=1e-11, of a test with 4.395 degrees of freedom
    part = 0.395069403
    high = (1.0 + part + np.sqrt((1.0 + part) * (1.0 - part))) / 2.0
    weights = [1.0, 1.0, 1.0, high, 1.0 + part - high, -6.303880596 * 4.395069 / 295]
    found = positive_probability(np.array(weights), np.array([1, 1, 1, 1, 1, 295]))
    close(found, 4.61942715565e-05, 1e-7)


def test_frame_is_complete() -> None:
    found = fitted("smooth_two_ar1_reml").smooths
    assert list(found.columns) == [
        *("edf", "ref_df", "F", "p", "LR", "line_p", "variance", "smoothing", "note")
    ]
    assert list(found.index) == ["s(x)", "s(time)"]
    assert isinstance(found, pd.DataFrame)
