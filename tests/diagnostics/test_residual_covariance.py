"""What the model says of its residuals, against matrices of full size."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import mixedar.diagnostics.residuals.normalized as module
import mixedar.formula.api as mar
from helpers import oracle
from helpers.fitted_models import dense, every, fit_named, reference_frame, shared
from helpers.structure_cases import residual_covariance
from mixedar import AR1, CAR1
from mixedar.datasets import load_growth, load_orthodont
from mixedar.diagnostics.residuals.normalized import (
    covariance_factors,
    normalized_residuals,
    sample_of_groups,
)
from mixedar.diagnostics.residuals.score import (
    ScoreTests,
    VarianceAlternative,
    lag_alternatives,
)
from mixedar.diagnostics.residuals.series import choose_bins
from mixedar.diagnostics.residuals.variogram import residual_variogram
from mixedar.diagnostics.simulation import simulated_residuals
from mixedar.exceptions import BoundaryWarning, UnsupportedError
from mixedar.fit import Fit
from mixedar.residual import Exponential
from mixedar.residual.variance import VarIdent, VarPower

RNG = np.random.default_rng(0)
SCORED = ("slope", "diagonal", "gls", "car1", "both", "series", "fixed", "independent")


@cache
def written_out(name: str, reml: bool = True) -> oracle.DenseResiduals:
    return dense(shared(name, reml))


def results(name: str, reml: bool = True) -> Fit:
    return shared(name, reml).fit


@every
def test_normalized_residuals_and_their_covariance(name: str) -> None:
    model, residuals = written_out(name), normalized_residuals(results(name))
    assert_allclose(
        residuals.rows.unsort(residuals.values), model.normalized, atol=1e-7
    )
    factors = residuals.rows.unsort(residuals.factors)
    # columns of G belong to clusters, those of F to all
    groups = model.problem.groups[:, None] == model.problem.groups
    q = residuals.g.shape[1]
    g, f = factors[:, :q], factors[:, q:]
    cov = np.eye(model.n) - np.where(groups, g @ g.T, 0.0) - f @ f.T
    assert_allclose(cov, model.cov_normalized, atol=1e-7)
    assert_allclose(
        residuals.rows.unsort(residuals.variance),
        np.diag(model.cov_normalized),
        atol=1e-7,
    )


@every
def test_covariance_of_pearson_residuals(name: str) -> None:
    model, fit = written_out(name), results(name)
    rows = normalized_residuals(fit).rows
    factors = rows.unsort(covariance_factors(fit, "pearson"))
    groups = model.problem.groups[:, None] == model.problem.groups
    q = factors.shape[1] - fit.k_fe
    g, f = factors[:, :q], factors[:, q:]
    cov = model.R - np.where(groups, g @ g.T, 0.0) - f @ f.T
    assert_allclose(cov, model.cov_pearson, atol=1e-7)


@every
def test_studentized_residuals(name: str) -> None:
    model, fit = written_out(name), shared(name)
    error = np.sqrt(np.diag(model.cov_pearson))
    found = fit.residuals("studentized")
    assert_allclose(found, fit.residuals("pearson") / error, rtol=1e-6)
    assert found.index.equals(fit.resid.index)


def test_studentized_residuals_are_lme4_s() -> None:
    # rstudent(lmer(distance ~ age + (1 | Subject), Orthodont)) of subject F01, lme4 1.1
    fit = mar.mixedlm(
        "distance ~ age", load_orthodont(), groups="subject", residual="independent"
    ).fit()
    expected = [1.069708614537, -0.784240445492, -0.641515946917, -0.503641695499]
    assert_allclose(fit.residuals("studentized").iloc[:4], expected, rtol=1e-5)
    with pytest.raises(UnsupportedError, match="'normalized' or 'studentized'"):
        fit.residuals("student")


def test_a_row_without_residual_has_no_studentized_one() -> None:
    data = load_orthodont().assign(first=0.0)
    data.loc[0, "first"] = 1.0
    fit = mar.mixedlm("distance ~ age + first", data, groups="subject").fit()
    found = fit.residuals("studentized")
    assert np.isnan(found[0])
    assert np.isfinite(found[1:]).all()


@pytest.mark.parametrize(
    ("name", "reml"),
    [(name, True) for name in SCORED] + [(name, False) for name in ("slope", "gls")],
)
def test_efficient_scores(name: str, reml: bool) -> None:
    model, fit = written_out(name, reml), results(name, reml)
    frame = ScoreTests(fit)
    rows = frame.residuals.rows
    weights = RNG.normal(size=model.n)
    lags = lag_alternatives(rows, choose_bins(rows.gaps), [1, 2, 3])
    alternatives = [*lags.values(), VarianceAlternative(rows.sort(weights))]
    found = frame.efficient(alternatives)
    score, variance = model.efficient(
        [*(model.lag(k) for k in (1, 2, 3)), np.diag(weights)]
    )
    size = np.sqrt(np.diag(variance))
    assert_allclose(found.score / size, score / size, atol=2e-4)
    both = np.outer(size, size)
    assert_allclose(found.variance / both, variance / both, atol=1e-5)
    alone = frame.efficient(alternatives, joint=False)
    assert_allclose(alone.score, found.score)
    assert_allclose(np.diag(alone.variance), np.diag(found.variance))


@every
def test_scores_of_estimated_parameters_vanish(name: str) -> None:
    frame = ScoreTests(results(name))
    assert_allclose(frame.nuisance_scores, 0.0, atol=1e-4)


def test_joint_statistic_drops_what_parameters_span() -> None:
    # with a random intercept and all lags, ones everywhere are no news
    data = load_growth().head(400)
    fit = mar.mixedlm(
        "y ~ time", data, groups="id", residual="independent", time="time"
    ).fit()
    frame = ScoreTests(fit.fit)
    rows = frame.residuals.rows
    lags = lag_alternatives(rows, choose_bins(rows.gaps), [1, 2, 3])
    found = frame.efficient(list(lags.values()))
    _, df = found.joint()
    assert df == 2
    assert found.tested.all()
    values = np.linalg.eigvalsh(found.variance)
    assert abs(values[0]) < 1e-8 * values[-1]


def test_long_series_are_cut_where_it_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(size=1200)
    for k in range(1, 1200):
        noise[k] += 0.6 * noise[k - 1]
    time = np.cumsum(rng.uniform(0.5, 1.5, size=1200))
    frame = pd.DataFrame({"y": noise, "time": time, "id": np.arange(1200) // 600})
    fit = mar.mixedlm(
        "y ~ 1", frame, groups="id", time="time", residual="car1", re_formula="0"
    ).fit()
    score = ScoreTests(fit.fit)
    rows = score.residuals.rows
    lags = lag_alternatives(rows, choose_bins(rows.gaps), [1, 2])
    exact = score.efficient(list(lags.values()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LENGTHS", (64,))
        cut = ScoreTests(fit.fit).efficient(list(lags.values()))
    assert_allclose(np.diag(cut.variance), np.diag(exact.variance), rtol=0.05)


def test_a_sample_of_groups_has_about_the_same_standard_errors() -> None:
    fit = mar.mixedlm(
        "y ~ time", load_growth(), groups="id", time="time", re_formula="~time"
    ).fit()
    residuals = normalized_residuals(fit.fit)
    assert sample_of_groups(residuals) is residuals
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ENOUGH_ROWS", 2000)
        some = sample_of_groups(residuals)
    assert some.n == 2000
    assert len(some.rows.offsets) == 501
    bins = choose_bins(residuals.rows.gaps)
    sizes = []
    for part in (residuals, some):
        lags = lag_alternatives(part.rows, bins, [1, 2, 3])
        found = ScoreTests(fit.fit, part).efficient(list(lags.values()))
        counts = np.array([lag.count for lag in lags.values()])
        sizes.append(np.diag(found.variance) / counts)
    assert_allclose(sizes[0], sizes[1], rtol=0.01)


@pytest.mark.parametrize("name", ["slope", "both", "series"])
@pytest.mark.parametrize("kind", ["normalized", "pearson", "raw"])
def test_simulated_residuals_have_the_residuals_covariance(
    name: str, kind: str
) -> None:
    model, fit = written_out(name), results(name)
    residuals = normalized_residuals(fit)
    count = 2000
    drawn, fitted = simulated_residuals(
        fit, residuals, count, np.random.default_rng(1), kind
    )
    expected = model.cov_normalized if kind == "normalized" else model.cov_pearson
    if kind == "raw":
        expected = expected * fit.scale
    some = np.argsort(model.series, kind="stable")[:25]
    found = drawn[some] @ drawn[some].T / count
    size = np.sqrt(np.diag(expected)[some])
    error = (found - expected[np.ix_(some, some)]) / np.outer(size, size)
    assert np.abs(error).max() < 5.0 * np.sqrt(2.0 / count)
    # raw residuals and fitted values add up to the response
    if kind == "raw":
        y = drawn + fitted
        spread = np.cov(y[some])
        size = np.sqrt(np.diag(model.V)[some])
        error = (spread - model.V[np.ix_(some, some)]) / np.outer(size, size)
        assert np.abs(error).max() < 5.0 * np.sqrt(2.0 / count)


def test_row_order_does_not_matter() -> None:
    data = reference_frame()
    fit = fit_named("slope")
    other = mar.mixedlm(
        "y ~ x + arm",
        data.iloc[::-1],
        groups="id",
        time="t",
        re_formula="~ x",
    ).fit()
    one, two = (
        normalized_residuals(fit.fit),
        normalized_residuals(other.fit),
    )
    assert_allclose(one.rows.unsort(one.variance), two.rows.unsort(two.variance)[::-1])


# Other residual structures, and variance functions


@cache
def varied_frame() -> pd.DataFrame:
    """Rows out of order, with gaps, coordinates, and two variances."""
    rng = np.random.default_rng(5)
    m, size = 30, 5
    noise = rng.normal(size=(m, size))
    for k in range(1, size):
        noise[:, k] = 0.5 * noise[:, k - 1] + np.sqrt(0.75) * noise[:, k]
    frame = pd.DataFrame(
        {
            "g": np.repeat(np.arange(m), size),
            "t": np.tile(np.arange(size), m),
            "x": rng.normal(size=m * size),
            "c1": rng.uniform(size=m * size),
            "c2": rng.uniform(size=m * size),
        }
    )
    frame["arm"] = np.where(frame["g"] % 2, "a", "b")
    sd = np.where(frame["arm"] == "a", 1.0, 1.6)
    frame["w"] = 1.0 / sd**2
    intercept = rng.normal(size=m)[frame["g"]]
    frame["y"] = 10.0 + 0.5 * frame["x"] + noise.ravel() * sd + intercept
    keep = rng.uniform(size=len(frame)) < 0.9
    return frame[keep].sample(frac=1.0, random_state=1)


VARIED: dict[str, dict[str, Any]] = {
    "compound symmetry": {"residual": "cs", "re_formula": "0"},
    "ARMA": {"residual": "arma11", "re_formula": "0"},
    "Toeplitz": {"residual": "toep", "re_formula": "0"},
    "unstructured": {"residual": "un", "re_formula": "0"},
    "by occasion": {"residual": "ar1h"},
    "by arm": {"residual": "ar1", "weights": VarIdent("arm")},
    "weights": {"residual": "independent", "weights": "w"},
    "power": {"residual": "ar1", "weights": VarPower()},
    "spatial": {"residual": Exponential(coords=("c1", "c2"))},
    "nugget": {"residual": CAR1(nugget=True), "re_formula": "0"},
    "strata": {"residual": AR1(by="arm"), "re_formula": "0"},
}


@cache
def varied(name: str) -> tuple[Fit, oracle.DenseResiduals]:
    """A fit, and its residuals written out."""
    data = varied_frame()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        model = mar.mixedlm("y ~ x + arm", data, groups="g", time="t", **VARIED[name])
        results = model.fit()
    assert not results.at_boundary, "choose data with a maximum inside"
    fit = results.fit
    problem = oracle.Problem(
        y=data["y"].to_numpy(),
        X=fit.data.exog,
        groups=data["g"].to_numpy(),
        time=data["t"].to_numpy(dtype=float),
        Z=fit.data.exog_re if fit.k_re else None,
    )
    at = oracle.Parameters(fit.scale, cov_re=fit.cov_re)

    def residual(u: Any) -> Any:
        return residual_covariance(fit, fit.structure.from_unconstrained(u))

    return fit, oracle.DenseResiduals(problem, at, fit.u, residual)


@pytest.mark.parametrize("name", VARIED)
def test_other_structures(name: str) -> None:
    fit, model = varied(name)
    residuals = normalized_residuals(fit)
    rows = residuals.rows
    assert_allclose(rows.unsort(residuals.values), model.normalized, atol=1e-7)
    assert_allclose(
        rows.unsort(residuals.variance), np.diag(model.cov_normalized), atol=1e-7
    )
    # Pearson residuals are divided by the standard deviation of their row
    factors = covariance_factors(fit, "pearson")
    variance = 1.0 - (factors**2).sum(axis=1)
    expected = np.diag(model.cov_pearson) / model.sd**2
    assert_allclose(rows.unsort(variance), expected, atol=1e-7)
    sigma = np.sqrt(fit.scale)
    assert_allclose(fit.residuals("pearson"), fit.resid / sigma / model.sd, atol=1e-10)


@pytest.mark.parametrize("name", VARIED)
def test_scores_of_other_structures(name: str) -> None:
    fit, model = varied(name)
    frame = ScoreTests(fit)
    rows = frame.residuals.rows
    weights = RNG.normal(size=model.n)
    lags = lag_alternatives(rows, choose_bins(rows.gaps), [1, 2])
    found = frame.efficient([*lags.values(), VarianceAlternative(rows.sort(weights))])
    alternatives = [model.lag(1), model.lag(2), np.diag(weights)]
    score, variance = model.efficient(alternatives)
    assert_allclose(frame.nuisance_scores, 0.0, atol=1e-3)
    size = np.sqrt(np.diag(variance))
    assert_allclose(found.score / size, score / size, atol=1e-4)
    assert_allclose(found.variance, variance, atol=1e-5 * float(size.max()) ** 2)


@pytest.mark.parametrize("name", VARIED)
@pytest.mark.parametrize("kind", ["raw", "pearson"])
def test_variogram_of_other_structures(name: str, kind: str) -> None:
    fit, model = varied(name)
    sd = np.sqrt(fit.scale) * (np.ones(model.n) if kind == "raw" else 1.0 / model.sd)
    if kind == "pearson":
        sd = 1.0 / model.sd
    found = residual_variogram(fit, kind).set_index("distance")
    for distance in (1.0, 3.0):
        pairs = model.distance == distance
        for column, matrix in (("model", model.R), ("expected", model.cov_pearson)):
            cov = matrix * np.outer(sd, sd)
            half = 0.5 * (np.diag(cov)[:, None] + np.diag(cov)) - cov
            assert found[column][distance] == pytest.approx(half[pairs].mean())


@pytest.mark.parametrize("name", ["by arm", "power", "compound symmetry", "spatial"])
def test_simulated_residuals_of_other_structures(name: str) -> None:
    fit, model = varied(name)
    residuals = normalized_residuals(fit)
    count = 3000
    drawn, _ = simulated_residuals(
        fit, residuals, count, np.random.default_rng(3), "pearson"
    )
    expected = model.cov_pearson / np.outer(model.sd, model.sd)
    found = drawn @ drawn.T / count
    size = np.sqrt(np.diag(expected))
    error = (found - expected) / np.outer(size, size)
    assert np.abs(error).max() < 6.0 * np.sqrt(2.0 / count)
