"""What the model says of its residuals, against matrices of full size."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import mixedar.diagnostics.slopes as slopes
import mixedar.diagnostics.theory as theory_module
import mixedar.formula.api as mar
from dense_residuals import DenseModel, dense
from fitted_models import MODELS, every, fit_named, reference_frame, shared
from mixedar.datasets import load_growth
from mixedar.diagnostics.directions import WeightDirection, lag_directions
from mixedar.diagnostics.lags import choose_bins
from mixedar.diagnostics.redrawn import redrawn_residuals
from mixedar.diagnostics.rows import rows_of
from mixedar.diagnostics.score import score_frame
from mixedar.diagnostics.theory import (
    residual_factors,
    residual_theory,
    thinned,
)

RNG = np.random.default_rng(0)


@cache
def written_out(name: str, reml: bool = True) -> DenseModel:
    return dense(shared(name, reml))


def results(name: str, reml: bool = True) -> Any:
    return shared(name, reml)._results


@every
def test_normalized_residuals_and_their_covariance(name: str) -> None:
    model, theory = written_out(name), residual_theory(results(name))
    assert_allclose(theory.rows.unsort(theory.values), model.normalized, atol=1e-7)
    factors = theory.rows.unsort(theory.factors)
    # columns of G belong to clusters, those of F to all
    groups = model.problem.groups[:, None] == model.problem.groups
    q = theory.g.shape[1]
    g, f = factors[:, :q], factors[:, q:]
    cov = np.eye(model.n) - np.where(groups, g @ g.T, 0.0) - f @ f.T
    assert_allclose(cov, model.cov_normalized, atol=1e-7)
    assert_allclose(
        theory.rows.unsort(theory.variance), np.diag(model.cov_normalized), atol=1e-7
    )


@every
def test_covariance_of_pearson_residuals(name: str) -> None:
    model, fit = written_out(name), results(name)
    rows = rows_of(fit)
    factors = rows.unsort(residual_factors(fit, rows, whitened=False))
    groups = model.problem.groups[:, None] == model.problem.groups
    q = factors.shape[1] - fit.k_fe
    g, f = factors[:, :q], factors[:, q:]
    cov = model.R - np.where(groups, g @ g.T, 0.0) - f @ f.T
    assert_allclose(cov, model.cov_pearson, atol=1e-7)


@every
@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
def test_efficient_scores(name: str, reml: bool) -> None:
    model, fit = written_out(name, reml), results(name, reml)
    frame = score_frame(fit)
    rows = frame.theory.rows
    weights = RNG.normal(size=model.n)
    lags = lag_directions(rows, choose_bins(rows.gaps), [1, 2, 3])
    directions = [*lags.values(), WeightDirection(rows.sort(weights))]
    found = frame.efficient(directions)
    score, variance = model.efficient(
        [*(model.lag(k) for k in (1, 2, 3)), np.diag(weights)]
    )
    size = np.sqrt(np.diag(variance))
    assert_allclose(found.score / size, score / size, atol=2e-4)
    both = np.outer(size, size)
    assert_allclose(found.variance / both, variance / both, atol=1e-5)
    alone = frame.efficient(directions, joint=False)
    assert_allclose(alone.score, found.score)
    assert_allclose(np.diag(alone.variance), np.diag(found.variance))


@every
def test_scores_of_estimated_parameters_vanish(name: str) -> None:
    frame = score_frame(results(name))
    assert_allclose(frame.nuisance_scores, 0.0, atol=1e-4)


def test_joint_statistic_drops_what_parameters_span() -> None:
    # with a random intercept and all lags, ones everywhere are no news
    data = load_growth().head(400)
    fit = mar.mixedlm(
        "y ~ time", data, groups="id", residual="independent", time="time"
    ).fit()
    frame = score_frame(fit._results)
    rows = frame.theory.rows
    lags = lag_directions(rows, choose_bins(rows.gaps), [1, 2, 3])
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
    score = score_frame(fit._results)
    rows = score.theory.rows
    lags = lag_directions(rows, choose_bins(rows.gaps), [1, 2])
    exact = score.efficient(list(lags.values()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slopes, "_LENGTHS", (64,))
        cut = score_frame(fit._results).efficient(list(lags.values()))
    assert_allclose(np.diag(cut.variance), np.diag(exact.variance), rtol=0.05)


def test_a_sample_of_groups_has_about_the_same_standard_errors() -> None:
    fit = mar.mixedlm(
        "y ~ time", load_growth(), groups="id", time="time", re_formula="~time"
    ).fit()
    theory = residual_theory(fit._results)
    assert thinned(theory) is theory
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theory_module, "_ENOUGH_ROWS", 2000)
        some = thinned(theory)
    assert some.n == 2000
    assert len(some.rows.offsets) == 501
    bins = choose_bins(theory.rows.gaps)
    sizes = []
    for part in (theory, some):
        lags = lag_directions(part.rows, bins, [1, 2, 3])
        found = score_frame(fit._results, part).efficient(list(lags.values()))
        counts = np.array([lag.count for lag in lags.values()])
        sizes.append(np.diag(found.variance) / counts)
    assert_allclose(sizes[0], sizes[1], rtol=0.01)


@pytest.mark.parametrize("name", ["slope", "car1", "both", "series", "gls"])
@pytest.mark.parametrize("kind", ["normalized", "pearson", "raw"])
def test_redrawn_residuals_have_the_residuals_covariance(name: str, kind: str) -> None:
    model, fit = written_out(name), results(name)
    theory = residual_theory(fit)
    count = 4000
    drawn, fitted = redrawn_residuals(
        fit, theory, count, np.random.default_rng(1), kind
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
    one, two = residual_theory(fit._results), residual_theory(other._results)
    assert_allclose(one.rows.unsort(one.variance), two.rows.unsort(two.variance)[::-1])
    assert set(MODELS) >= {"slope"}
