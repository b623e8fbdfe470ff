"""Information and standard errors of covariance parameters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mixedar.formula.api as mar
from helpers import oracle
from helpers.fitted_models import MODELS, every, oracle_of, reference_frame, shared
from mixedar import AR1
from mixedar.datasets import load_orthodont
from mixedar.exceptions import BoundaryWarning, NotComputedError, UnsupportedError
from mixedar.inference.information import covariance_parameters, information_matrix

Array = np.ndarray

CASES = [*((name, True) for name in MODELS), ("slope", False), ("gls", False)]


def dense(fit: Any) -> tuple[Array, Callable[[Array], oracle.Parameters]]:
    """The estimates in the order of the information, and parameters at others."""
    _, params = oracle_of(fit)
    k, names = fit.k_re, fit.model.exog_vc.names
    diagonal = fit.model.re_cov == "diagonal"
    rows, columns = np.tril_indices(k)
    if diagonal:
        rows = columns = np.arange(k)
    count = len(rows)
    x = [] if k == 0 else list(np.asarray(fit.cov_re)[rows, columns])
    x += list(fit.vcomp)
    free = fit.structure.k_free
    x += list(fit.residual_params) if free else []
    x.append(fit.scale)

    def at(values: Array) -> oracle.Parameters:
        cov = np.zeros((k, k))
        cov[rows, columns] = cov[columns, rows] = values[:count]
        vcomp = dict(zip(names, values[count : count + len(names)], strict=True))
        rho = float(values[-2]) if free else params.rho
        return oracle.Parameters(float(values[-1]), rho, cov if k else None, vcomp)

    return np.array(x), at


def second_differences(f: Callable[[Array], float], x: Array, h: Array) -> Array:
    k = len(x)
    out = np.empty((k, k))
    steps = np.diag(h)
    for i in range(k):
        for j in range(i + 1):
            a, b = steps[i], steps[j]
            total = f(x + a + b) - f(x + a - b) - f(x - a + b) + f(x - a - b)
            out[i, j] = out[j, i] = total / (4.0 * h[i] * h[j])
    return out


@pytest.mark.parametrize(("name", "reml"), CASES)
def test_observed_is_the_dense_hessian(name: str, reml: bool) -> None:
    fit = shared(name, reml)
    problem, _ = oracle_of(fit)
    x, at = dense(fit)
    h = 2e-4 * np.maximum(np.abs(x), 0.3)
    hessian = second_differences(
        lambda v: oracle.loglike(problem, at(v), reml=reml), x, h
    )
    found = fit.information()
    assert len(found) == len(x)
    size = np.sqrt(np.diag(found))
    np.testing.assert_allclose(
        found / np.outer(size, size), -hessian / np.outer(size, size), atol=2e-4
    )


@pytest.mark.parametrize(("name", "reml"), CASES)
def test_expected_is_the_dense_formula(name: str, reml: bool) -> None:
    fit = shared(name, reml)
    problem, _ = oracle_of(fit)
    x, at = dense(fit)

    def covariance(values: Array) -> Array:
        return oracle.covariance(problem, at(values))

    inverse = np.linalg.inv(covariance(x))
    if reml:
        design = problem.X
        middle = np.linalg.inv(design.T @ inverse @ design)
        inverse = inverse - inverse @ design @ middle @ design.T @ inverse
    products = []
    for k, value in enumerate(x):
        h = 1e-5 * max(abs(value), 0.1) * np.eye(len(x))[k]
        slope = (covariance(x + h) - covariance(x - h)) / (2.0 * h[k])
        products.append(inverse @ slope)
    expected = np.array([[0.5 * (a * b.T).sum() for b in products] for a in products])
    np.testing.assert_allclose(fit.information("expected"), expected, rtol=1e-5)


@every
def test_errors_of_the_fit(name: str) -> None:
    fit = shared(name)
    table = fit.covariance_parameters()
    ours = fit.bse.iloc[fit.k_fe :].to_dict() | {"scale": fit.bse_scale}
    inverse = np.linalg.inv(fit.information())
    errors = dict(zip(fit.information().index, np.sqrt(np.diag(inverse)), strict=True))
    for key, se in errors.items():
        assert table.loc[key, "se"] == pytest.approx(se, rel=1e-6)
        assert table.loc[key, "se"] == pytest.approx(ours[key], rel=1e-6)
    assert list(table.index) == list(fit.conf_int_re("wald").index)
    assert ((table["se"] > 0.0) | (table["note"] != "")).all()


def test_delta_method() -> None:
    fit = shared("slope")
    for kind in ("observed", "expected"):
        table = covariance_parameters(fit.fit, kind)
        matrix = information_matrix(fit.fit, kind)
        cov = np.linalg.inv(matrix)
        names = list(matrix.index)
        x = table.loc[names, "estimate"].to_numpy()

        def correlation(v: Array) -> float:
            return float(v[1] / np.sqrt(v[0] * v[2]))

        def deviation(v: Array) -> float:
            return float(np.sqrt(v[2]))

        for name, f in (("corr(id, x)", correlation), ("sd(x)", deviation)):
            steps = 1e-6 * np.eye(len(x)) * x
            gradient = np.array(
                [(f(x + h) - f(x - h)) / (2.0 * h.sum()) for h in steps]
            )
            assert table.loc[name, "estimate"] == pytest.approx(f(x))
            expected = np.sqrt(gradient @ cov @ gradient)
            assert table.loc[name, "se"] == pytest.approx(expected, rel=1e-5)
        assert table.loc["sigma", "se"] == pytest.approx(
            table.loc["scale", "se"] / (2.0 * np.sqrt(fit.scale)), rel=1e-8
        )


def test_units() -> None:
    data = reference_frame()
    options = {"groups": "id", "time": "t", **MODELS["slope"]}
    one = mar.mixedlm("y ~ x + arm", data, **options).fit()
    other = mar.mixedlm(
        "y ~ x + arm", data.assign(y=10.0 * data["y"], x=data["x"] / 4.0), **options
    ).fit()
    # variances by 100, the slope's by 1600, their covariance by 400
    factor = np.array([100.0, 400.0, 1600.0, 1.0, 100.0])
    for kind in ("observed", "expected"):
        scaled = other.information(kind) * np.outer(factor, factor)
        size = np.sqrt(np.diag(scaled))
        np.testing.assert_allclose(
            one.information(kind) / np.outer(size, size),
            scaled / np.outer(size, size),
            atol=1e-5,
        )


def test_boundary_and_refusals() -> None:
    data = reference_frame().assign(
        y=lambda d: d["y"] - d.groupby("id").y.transform("mean")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = mar.mixedlm("y ~ x", data, groups="id", time="t").fit()
    assert fit.at_boundary
    for kind in ("observed", "expected"):
        table = fit.covariance_parameters(kind)
        assert np.isnan(table.loc["id Var", "se"])
        assert "on the boundary" in table.loc["id Var", "note"]
        assert table.loc["sigma", "se"] > 0.0
        assert np.isfinite(fit.information(kind)).all(axis=None)
    # what is known of the fixed effects does not suffer
    p = fit.k_fe
    assert np.isnan(fit.bse["id Var"])
    assert np.isfinite(fit.cov_params()).all(axis=None)
    inner = fit._results  # statsmodels' wrapper wants all parameters
    assert np.isfinite(inner.cov_params(np.eye(len(fit.params))[:p])).all()
    held = mar.mixedlm(
        "y ~ x", reference_frame(), groups="id", time="t", residual=AR1(0.4, fixed=True)
    ).fit()
    assert held.covariance_parameters().loc["rho", "note"] == "held, not estimated"
    assert list(held.information().index) == ["id Var", "scale"]
    with pytest.raises(UnsupportedError, match="kind='both'"):
        held.information("both")
    held.remove_data()
    with pytest.raises(NotComputedError, match="data were removed"):
        held.information()


def test_one_criterion_as_statsmodels_calls_it() -> None:
    fit = mar.mixedlm("distance ~ age", load_orthodont(), groups="subject").fit()
    for name in ("aic", "aicc", "bic", "hqic", "caic"):
        assert fit.info_criteria(name) == fit.information_criteria()[name]
    assert fit.info_criteria("aic", dk_params=2) == fit.aic + 4
    with pytest.raises(UnsupportedError, match="crit='AIC'"):
        fit.info_criteria("AIC")
