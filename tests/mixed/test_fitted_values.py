"""Predictions, simulated responses, other responses and profiles."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers import oracle
from helpers.fitted_models import (
    MODELS,
    build,
    every,
    oracle_of,
    reference_frame,
    shared,
)
from mixedar import AR1
from mixedar.exceptions import (
    BoundaryWarning,
    LengthError,
    MixedARError,
)


@pytest.fixture
def data() -> pd.DataFrame:
    return reference_frame().copy()


def half(x: Any) -> Any:
    """A function for formulas that pickles have to find again."""
    return np.asarray(x) / 2.0


# Predictions


def test_predict_from_a_frame(data: pd.DataFrame) -> None:
    fit = shared("slope")
    pd.testing.assert_series_equal(
        fit.predict(), fit.fitted_marginal, check_names=False
    )
    found = fit.predict(data.iloc[5:9])
    pd.testing.assert_series_equal(
        found, fit.fitted_marginal.iloc[5:9], check_names=False
    )
    new = pd.DataFrame({"x": [0.0, 1.0], "arm": ["b", "a"]}, index=["u", "v"])
    found = fit.predict(new)
    b = fit.fe_params
    expected = [b["Intercept"] + b["arm[T.b]"], b["Intercept"] + b["x"]]
    np.testing.assert_allclose(found, expected)
    assert list(found.index) == ["u", "v"]
    np.testing.assert_allclose(fit.predict(new.to_dict("list")), expected)
    # one level only, and an unused one
    np.testing.assert_allclose(fit.predict(new.iloc[[0]]), expected[:1])
    category = new.assign(arm=pd.Categorical(["b", "a"], ["b", "a", "c"]))
    np.testing.assert_allclose(fit.predict(category), expected)
    missing = fit.predict(new.assign(x=[np.nan, 1.0]))
    assert np.isnan(missing.iloc[0])
    assert missing.iloc[1] == pytest.approx(expected[1])


def test_predict_from_arrays() -> None:
    fit = shared("slope")
    X = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    np.testing.assert_allclose(
        fit.predict(X, transform=False), X @ fit.fe_params.to_numpy()
    )
    with pytest.raises(LengthError, match=r"the model has 3 \(Intercept"):
        fit.predict(np.ones((2, 4)), transform=False)


def test_predict_from_rows_without_labels() -> None:
    fit = shared("slope")
    rows = [[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    expected = np.array(rows) @ fit.fe_params.to_numpy()
    # lists have a method of the name index
    for exog in (rows, tuple(map(tuple, rows)), np.array(rows)):
        found = fit.predict(exog, transform=False)
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, expected)
    frame = pd.DataFrame(rows, index=["u", "v"])
    assert list(fit.predict(frame, transform=False).index) == ["u", "v"]
    # one row: its labels are those of columns
    one = fit.predict(frame.loc["u"], transform=False)
    np.testing.assert_allclose(one, expected[:1])


def test_predict_refuses_new_levels_and_lost_columns() -> None:
    fit = shared("slope")
    with pytest.raises(MixedARError, match="'q'"):
        fit.predict(pd.DataFrame({"x": [1.0], "arm": ["q"]}))
    with pytest.raises(MixedARError, match="'arm'"):
        fit.predict(pd.DataFrame({"x": [1.0]}))


def test_predict_with_a_users_function(data: pd.DataFrame) -> None:
    fit = build(data, "y ~ half(x) + arm").fit()
    plain = build(data).fit()
    assert fit.fe_params["half(x)"] == pytest.approx(2 * plain.fe_params["x"])
    new = pd.DataFrame({"x": [3.0], "arm": ["a"]})
    np.testing.assert_allclose(fit.predict(new), plain.predict(new), rtol=1e-6)


def test_stateful_transforms_remember(data: pd.DataFrame) -> None:
    fit = build(data, "y ~ center(x) + arm").fit()
    new = data.iloc[:2]
    np.testing.assert_allclose(fit.predict(new), fit.fitted_marginal.iloc[:2])


# Simulation


@pytest.mark.parametrize("name", ["slope", "car1", "both", "series", "gls", "diagonal"])
def test_draws_have_the_covariance_of_the_model(name: str) -> None:
    fit = shared(name)
    problem, at = oracle_of(fit)
    distribution = fit.get_distribution()
    y = np.array([distribution.rvs(rng=k) for k in range(3000)])
    np.testing.assert_allclose(
        y.mean(axis=0), fit.fitted_marginal, atol=5 * y.std() / np.sqrt(3000)
    )
    draws = y - np.asarray(fit.fitted_marginal)
    # the three largest groups, whole blocks of V
    for part in sorted(oracle.parts(problem, at), key=lambda p: -len(p.rows))[:3]:
        found = np.cov(draws[:, part.rows].T)
        sd = np.sqrt(np.diag(part.V))
        error = (found - part.V) / np.outer(sd, sd)
        assert np.abs(error).max() < 5 * np.sqrt(2 / 3000)
    other = np.corrcoef(draws.T)[np.ix_(*two_groups(problem.groups))]
    assert np.abs(other).max() < 5 / np.sqrt(3000)


def two_groups(groups: Any) -> tuple[Any, Any]:
    return np.flatnonzero(groups == 0), np.flatnonzero(groups == 1)


def test_draws_can_be_repeated(data: pd.DataFrame) -> None:
    distribution = shared("slope").get_distribution()
    np.testing.assert_array_equal(distribution.rvs(rng=3), distribution.rvs(rng=3))
    generator = np.random.default_rng(3)
    assert (distribution.rvs(rng=generator) != distribution.rvs(rng=generator)).all()
    with pytest.raises(MixedARError):
        shared("slope").get_distribution(np.ones((5, 3))).rvs()
    design = np.array(shared("slope").model.exog)
    design[:, 0] += 1.0
    shifted = shared("slope").get_distribution(design)
    difference = shifted.rvs(rng=3) - distribution.rvs(rng=3)
    np.testing.assert_allclose(difference, shared("slope").fe_params["Intercept"])


@every
def test_with_endog(name: str, data: pd.DataFrame) -> None:
    fit = shared(name)
    y = fit.get_distribution().rvs(rng=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        other = fit.model.with_endog(y).fit()
        expected = build(data.assign(y=y), **MODELS[name]).fit()
    assert other.llf == pytest.approx(expected.llf, abs=1e-9)
    np.testing.assert_allclose(other.params, expected.params, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(other.resid, expected.resid, rtol=1e-5, atol=1e-6)
    # the model it came from is as it was
    np.testing.assert_array_equal(fit.model.endog, data["y"])
    assert fit.model.loglike(fit.params_object) == pytest.approx(fit.llf, abs=1e-9)


def test_with_endog_checks(data: pd.DataFrame) -> None:
    model = shared("slope").model
    with pytest.raises(LengthError):
        model.with_endog(np.ones(3))
    with pytest.raises(MixedARError, match="missing"):
        model.with_endog(data["y"].to_numpy() * np.nan)
    with pytest.raises(MixedARError, match="constant"):
        model.with_endog(np.ones(len(data)))


# Profiles


@pytest.mark.parametrize(
    ("name", "which", "kind"),
    [
        ("slope", 0, "re"),
        ("slope", 1, "re"),
        ("both", "day", "vc"),
        ("diagonal", 1, "re"),
    ],
)
def test_profile_of_a_variance(name: str, which: Any, kind: str) -> None:
    fit = shared(name)
    estimate = fit.cov_re.iloc[which, which] if kind == "re" else fit.vcomp.item()
    distance = 0.5 * estimate
    curve = fit.profile_re(
        which, kind, num_low=2, dist_low=distance, num_high=2, dist_high=distance
    )
    assert curve.shape == (5, 2)
    assert (np.diff(curve[:, 0]) > 0).all()
    assert curve[2, 0] == pytest.approx(estimate, rel=1e-5)
    assert curve[2, 1] == pytest.approx(fit.llf, abs=1e-8)
    assert (curve[[0, 1, 3, 4], 1] < fit.llf).all()
    assert curve[0, 1] < curve[1, 1]
    assert curve[4, 1] < curve[3, 1]


def test_profile_keeps_the_residual_structure() -> None:
    # a profile that forgot rho would lie below the maximum everywhere
    fit = shared("slope")
    curve = fit.profile_re(0, "re", num_low=1, dist_low=0.1, num_high=1, dist_high=0.1)
    independent = shared("independent")
    assert curve[1, 1] == pytest.approx(fit.llf, abs=1e-8)
    assert curve[1, 1] > independent.llf + 1
    assert fit.model.residual == AR1()


def test_profile_refuses() -> None:
    fit = shared("slope")
    with pytest.raises(MixedARError, match="dist_low"):
        fit.profile_re(0, "re", dist_low=1e6)
    with pytest.raises(MixedARError, match="2 random effects"):
        fit.profile_re(2, "re")
    with pytest.raises(MixedARError, match="variance components"):
        fit.profile_re("nobody", "vc")
