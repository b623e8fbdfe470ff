"""Predicted random effects and coefficients of groups, as frames and pictures."""

from __future__ import annotations

import json
import pickle
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixedar.formula.api as mar
from helpers.fitted_models import (
    MODELS,
    build,
    every,
    oracle_of,
    reference_frame,
    shared,
)
from helpers.oracle import correlation
from mixedar import MixedLMAR
from mixedar.exceptions import (
    BoundaryWarning,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)

FOLDER = Path(__file__).parents[1] / "reference"
CASES = json.loads((FOLDER / "by_group" / "coef.json").read_text())["cases"]


@cache
def reference_fit(name: str) -> Any:
    case = CASES[name]
    data = pd.read_csv(FOLDER / "mixed" / "data" / f"{case['data']}.csv")
    time = "occ" if case["data"] == "orthodont" else "days"
    options = {key: case[key] for key in ("groups", "re_formula", "residual")}
    return mar.mixedlm(case["formula"], data, time=time, **options).fit()


@cache
def truth(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V of all rows, random-effects design of all groups, their covariance."""
    fit = shared(name)
    problem, at = oracle_of(fit)
    design = fit.fit.data.random_design
    groups = problem.groups
    labels, n, q = np.unique(groups), len(problem.y), design.shape[1]
    inner = np.zeros((q, q))
    k = fit.k_re
    if k:
        inner[:k, :k] = at.cov_re
    for j, (width, value) in enumerate(
        zip(fit.fit.data.components.sizes, fit.vcomp, strict=True)
    ):
        start = k + sum(fit.fit.data.components.sizes[:j])
        inner[start : start + width, start : start + width] = value * np.eye(width)
    z = np.zeros((n, q * len(labels)))
    v = np.zeros((n, n))
    for i, label in enumerate(labels):
        rows = np.flatnonzero(groups == label)
        z[rows, i * q : (i + 1) * q] = design[rows]
        series = groups if problem.series is None else problem.series
        for each in np.unique(np.asarray(series)[rows]):
            here = rows[np.asarray(series)[rows] == each]
            r = np.eye(len(here))
            if problem.time is not None:
                r = correlation(problem.time[here], at.rho)
            v[np.ix_(here, here)] = at.sigma2 * r
    prior = np.kron(np.eye(len(labels)), inner)
    return v + z @ prior @ z.T, z, prior


def prediction_errors(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariance of b_hat - b: beta known, estimated; and weights of y in beta_hat."""
    v, z, prior = truth(name)
    x = np.asarray(shared(name).model.exog)
    inverse = np.linalg.inv(v)
    cov = np.linalg.inv(x.T @ inverse @ x)
    hat = cov @ x.T @ inverse
    gain = prior @ z.T @ inverse
    known = prior - gain @ z @ prior
    projected = inverse - inverse @ x @ hat
    estimated = prior - prior @ z.T @ projected @ z @ prior
    return known, estimated, hat


# Random effects


@every
def test_wide_frame_is_random_effects(name: str) -> None:
    fit = shared(name)
    frame = fit.random_effects_frame()
    assert len(frame) == 40
    assert frame.index.name == "id"
    assert frame.index.tolist() == list(fit.random_effects)
    for label, effects in fit.random_effects.items():
        found = frame.loc[label].dropna()
        pd.testing.assert_series_equal(
            found[list(effects.index)], effects, check_names=False
        )
        assert len(found) == len(effects)


@every
@pytest.mark.parametrize("beta", ["known", "estimated"])
def test_standard_errors(name: str, beta: str) -> None:
    fit = shared(name)
    known, estimated, _ = prediction_errors(name)
    variances = np.diag(known if beta == "known" else estimated)
    frame = fit.random_effects_frame("long", beta=beta, alpha=0.1)
    q = fit.fit.data.random_design.shape[1]
    expected = []
    for i in range(40):
        columns, _names = fit.fit.data.effect_columns(i)
        expected.extend(variances[i * q + np.array(columns, dtype=int)])
    np.testing.assert_allclose(
        frame["std_error"], np.sqrt(expected), rtol=1e-6, atol=1e-9
    )
    half = stats.norm.isf(0.05) * frame["std_error"]
    np.testing.assert_allclose(frame["lower"], frame["predicted"] - half)
    np.testing.assert_allclose(frame["upper"], frame["predicted"] + half)
    wide = fit.random_effects_frame(standard_errors=True, beta=beta)
    if not q:
        assert wide.shape == (40, 0)
        return
    for quantity in ("predicted", "std_error"):
        tall = frame[quantity].unstack("effect")
        pd.testing.assert_frame_equal(
            wide[quantity],
            tall[wide[quantity].columns],
            check_names=False,
            check_column_type=False,
        )


def test_known_errors_are_the_conditional_covariances() -> None:
    fit = shared("slope")
    errors = fit.random_effects_frame(standard_errors=True)["std_error"]
    for label, cov in fit.random_effects_cov.items():
        np.testing.assert_allclose(errors.loc[label], np.sqrt(np.diag(cov)))
    wider = fit.random_effects_frame(standard_errors=True, beta="estimated")
    assert (wider["std_error"] > errors).all(axis=None)


def test_long_frame_names_levels() -> None:
    frame = shared("both").random_effects_frame("long")
    assert frame.index.names == ["id", "effect"]
    names = frame.loc[3].index.tolist()
    assert names == ["id", "day[C(day)[0]]", "day[C(day)[1]]"]


def test_types_of_fits() -> None:
    ml = shared("slope", reml=False)
    assert ml.random_effects_frame("long").notna().all(axis=None)
    data = reference_frame()
    model = MixedLMAR(data["y"], data[["x"]], data["id"], time=data["t"])
    fit = model.fit()
    assert fit.random_effects_frame().index.name == "Group"
    assert list(fit.coef_by_group().columns) == ["x", "Intercept"]
    again = pickle.loads(pickle.dumps(shared("slope")))
    pd.testing.assert_frame_equal(
        again.random_effects_frame("long"), shared("slope").random_effects_frame("long")
    )
    again.remove_data()
    for call in (again.random_effects_frame, again.coef_by_group, again.shrinkage):
        with pytest.raises(NotComputedError, match="data were removed"):
            call()


def test_bad_arguments() -> None:
    fit = shared("slope")
    with pytest.raises(UnsupportedError, match="form="):
        fit.random_effects_frame("tall")
    with pytest.raises(UnsupportedError, match="form="):
        fit.coef_by_group("tall")
    with pytest.raises(UnsupportedError, match="beta="):
        fit.random_effects_frame("long", beta="unknown")
    with pytest.raises(UnsupportedError, match="alpha"):
        fit.random_effects_frame("long", alpha=2.0)


# Coefficients


@pytest.mark.parametrize("name", CASES)
def test_coefficients_against_nlme_and_lme4(name: str) -> None:
    case, fit = CASES[name], reference_fit(name)
    found = fit.coef_by_group()
    assert [str(label) for label in found.index] == case["labels"]
    names = [n.replace("sexMale", "sex[T.Male]") for n in case["names"]]
    assert sorted(found.columns) == sorted(names)
    expected = np.array(case["coef"])
    # the programs stop some digits before the maximum
    np.testing.assert_allclose(found[names], expected, rtol=2e-4, atol=2e-4)
    if case["se_effects"]:
        frame = fit.random_effects_frame(standard_errors=True)["std_error"]
        errors = np.array(case["se_effects"])
        effects = ["subject", "days"][: errors.shape[1]]
        np.testing.assert_allclose(frame[effects], errors, rtol=1e-3)


@pytest.mark.parametrize("name", ["slope", "intercept", "car1", "diagonal", "series"])
def test_coefficients_and_their_errors(name: str) -> None:
    fit = shared(name)
    v, z, prior = truth(name)
    _, _, hat = prediction_errors(name)
    x = np.asarray(fit.model.exog)
    y = reference_frame()["y"].to_numpy()
    inverse = np.linalg.inv(v)
    blup = prior @ z.T @ inverse @ (np.eye(len(y)) - x @ hat)
    frame = fit.coef_by_group("long")
    names = list(fit.model.exog_names)
    q = fit.k_re
    random = {"Intercept": 0, "x": 1}
    for i, label in enumerate(fit.model.group_labels[:10]):
        for j, coefficient in enumerate(names):
            weights, truth_of = hat[j], np.zeros(len(prior))
            k = random.get(coefficient, 99)
            if k < q:
                weights = weights + blup[i * q + k]
                truth_of[i * q + k] = 1.0
            # error: weights (X beta + Z b + e) - beta_j - b_k
            cross = weights @ z @ prior @ truth_of
            variance = weights @ v @ weights - 2 * cross + truth_of @ prior @ truth_of
            found = frame.loc[(label, coefficient)]
            assert found["estimate"] == pytest.approx(weights @ y, rel=1e-6)
            assert found["std_error"] == pytest.approx(np.sqrt(variance), rel=1e-5)
    wide = fit.coef_by_group(standard_errors=True)
    np.testing.assert_array_equal(
        wide["std_error"].to_numpy().ravel(), frame["std_error"]
    )
    np.testing.assert_array_equal(wide["estimate"], fit.coef_by_group())


def test_columns_match_by_what_they_hold() -> None:
    data = reference_frame()
    plain = build(data, re_formula="~ x").fit()
    other = build(data, re_formula="~ I(2 * x / 2)").fit()
    np.testing.assert_allclose(
        other.coef_by_group(), plain.coef_by_group(), rtol=1e-5, atol=1e-6
    )
    assert list(other.coef_by_group().columns) == ["Intercept", "arm[T.b]", "x"]
    # one name, two columns
    design = pd.DataFrame({"one": 1.0, "x": data["x"]}, index=data.index)
    model = MixedLMAR(
        data["y"],
        design,
        data["id"],
        exog_re=pd.DataFrame({"x": 2.0 * data["t"]}, index=data.index),
        residual="independent",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = model.fit()
    coef = fit.coef_by_group()
    assert list(coef.columns) == ["one", "x", "x (random)"]
    assert coef["x"].nunique() == 1
    np.testing.assert_array_equal(
        coef["x (random)"], fit.random_effects_frame().to_numpy()[:, 0]
    )


def test_a_component_of_one_column_is_a_slope() -> None:
    data = reference_frame()
    component = {"slope": "0 + x"}
    fit = build(data, re_formula="1", vc_formula=component).fit()
    same = build(data, re_formula="~ x", re_cov="diagonal").fit()
    np.testing.assert_allclose(
        fit.coef_by_group(), same.coef_by_group(), rtol=1e-4, atol=1e-4
    )
    # levels inside groups are no coefficients of the group
    both = shared("both").coef_by_group()
    assert list(both.columns) == ["Intercept", "arm[T.b]", "x"]
    unmatched = build(data, "y ~ arm", re_formula="1", vc_formula=component).fit()
    assert list(unmatched.coef_by_group().columns) == ["Intercept", "arm[T.b]", "slope"]


def test_without_random_effects() -> None:
    fit = shared("gls")
    coef = fit.coef_by_group("long")
    assert (coef.groupby(level=1)["estimate"].nunique() == 1).all()
    first = coef.loc[0]
    np.testing.assert_allclose(first["estimate"], fit.fe_params[first.index])
    np.testing.assert_allclose(first["std_error"], fit.bse_fe[first.index])
    assert fit.random_effects_frame().shape == (40, 0)
    assert len(fit.random_effects_frame("long")) == 0
    with pytest.raises(UnsupportedError, match="no random effects to draw"):
        fit.plot_random_effects()


# Invariances


def test_invariance() -> None:
    data = reference_frame()
    fit = shared("slope")
    frame, coef = fit.random_effects_frame("long"), fit.coef_by_group("long")
    options = MODELS["slope"]
    other = build(data.sample(frac=1.0, random_state=5), **options).fit()
    close = {"rtol": 1e-5, "atol": 1e-6}
    pd.testing.assert_frame_equal(other.random_effects_frame("long"), frame, **close)
    pd.testing.assert_frame_equal(other.coef_by_group("long"), coef, **close)
    tenfold = build(data.assign(y=10.0 * data["y"]), **options).fit()
    pd.testing.assert_frame_equal(tenfold.coef_by_group("long"), 10.0 * coef, **close)
    renamed = build(data.assign(id=[f"p{90 - k}" for k in data["id"]]), **options).fit()
    np.testing.assert_allclose(
        renamed.coef_by_group().iloc[::-1], fit.coef_by_group(), **close
    )


# Pictures


@pytest.fixture
def plt() -> Any:
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_caterpillar(plt: Any) -> None:
    fit = shared("slope")
    figure = fit.plot_random_effects()
    assert [ax.get_xlabel() for ax in figure.axes] == [
        "id (95% intervals)",
        "x (95% intervals)",
    ]
    ax = fit.plot_random_effects(effect="x", beta="estimated", alpha=0.5)
    frame = fit.random_effects_frame("long", beta="estimated", alpha=0.5)
    part = frame.xs("x", level=1).sort_values("predicted")
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels == [str(label) for label in part.index]
    segments = np.array([s[:, 0] for s in ax.collections[0].get_segments()])
    np.testing.assert_allclose(segments, part[["lower", "upper"]])
    few = fit.plot_random_effects(effect="x", max_groups=11)
    assert few.get_ylabel() == "11 of 40 predictions, evenly by rank"
    mine = plt.subplots()[1]
    assert fit.plot_random_effects(effect="id", ax=mine) is mine
    with pytest.raises(UnknownColumnError, match="'z'"):
        fit.plot_random_effects(effect="z")
    with pytest.raises(UnsupportedError, match="kind="):
        fit.plot_random_effects("dots")
    components = shared("both").plot_random_effects()
    assert [ax.get_xlabel().split()[0] for ax in components.axes] == ["id", "day"]
    assert "predictions, sorted" in components.axes[1].get_ylabel()


def test_quantiles(plt: Any) -> None:
    fit = shared("slope")
    ax = fit.plot_random_effects("qq", "x")
    points = ax.lines[-1].get_xydata()
    _, estimated, _ = prediction_errors("slope")
    _, _, prior = truth("slope")
    # var(b_hat) = Psi - var(b_hat - b)
    spread = np.sqrt(np.diag(prior) - np.diag(estimated))[1::2]
    b = fit.random_effects_frame()["x"].to_numpy()
    np.testing.assert_allclose(points[:, 1], np.sort(b / spread), rtol=1e-5)
    np.testing.assert_allclose(
        points[:, 0], stats.norm.ppf((np.arange(1, 41) - 0.5) / 40)
    )
    # the band is that of order statistics
    draws = np.sort(np.random.default_rng(0).normal(size=(4000, 40)), axis=1)
    band = ax.collections[0].get_paths()[0].vertices
    lower = [v[1] for v in band if np.isclose(v[0], points[3, 0])]
    expected = np.quantile(draws[:, 3], [0.025, 0.975])
    np.testing.assert_allclose([min(lower), max(lower)], expected, atol=0.06)


def test_quantiles_of_an_effect_that_is_zero(plt: Any) -> None:
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(20), 4)
    noise = rng.normal(size=(20, 4))
    noise -= noise.mean(axis=1, keepdims=True)
    data = pd.DataFrame({"y": noise.ravel(), "id": group})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = mar.mixedlm("y ~ 1", data, groups="id", residual="independent").fit()
    ax = fit.plot_random_effects("qq")
    assert "variance zero" in ax.texts[0].get_text()
    assert (fit.random_effects_frame() == 0.0).all(axis=None)
