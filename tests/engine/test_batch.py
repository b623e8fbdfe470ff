"""The likelihood at many points, and for many responses, is that of one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.bound_structures import CASES, FREE, bound
from mixedar.engine.batch import LikelihoodBatch, ManyPoints
from mixedar.numeric.linalg import inverse_choleskys, inverses
from mixedar.relations import Field
from mixedar.residual import AR1, Independent, many
from mixedar.residual.variance import VarExp, VarIdent

Array = Any


@pytest.mark.parametrize("name", FREE)
def test_structures_at_many_points(name: str) -> None:
    structure, positions = bound(CASES[name])
    rng = np.random.default_rng(3)
    u = structure.start_grid()[0] + 0.4 * rng.normal(size=(5, structure.k_free))
    first, second = np.triu_indices(len(positions), 1)
    cells = structure.cells(positions[first], positions[second])
    pairs = [(many.cell_values(structure, cells), structure.cell_values, cells)]
    log_sd = many.log_sd(structure, positions)
    if log_sd is not None:
        pairs.append((log_sd, structure.log_sd, positions))
    for together, one, where in pairs:
        found, each = together(u), [one(where, point) for point in u]
        for place, attribute in enumerate(("value", "first", "second")):
            expected = np.stack([getattr(x, attribute) for x in each], axis=place)
            np.testing.assert_allclose(
                getattr(found, attribute), expected, rtol=1e-9, atol=1e-12
            )


@pytest.mark.parametrize("name", FREE)
def test_parameters_at_many_points(name: str) -> None:
    structure, _ = bound(CASES[name])
    u = structure.start_grid()[0] + np.linspace(-0.4, 0.4, 4)[:, None]
    found, each = structure.natural(u.T), [structure.natural(point) for point in u]
    for attribute in ("value", "first", "second"):
        expected = np.stack([getattr(x, attribute) for x in each], axis=-1)
        np.testing.assert_allclose(getattr(found, attribute), expected, atol=1e-12)


def test_structures_without_free_parameters() -> None:
    cells = np.array([[1.0], [2.0]])
    for structure in (Independent(), AR1(0.5, fixed=True)):
        found = many.cell_values(structure, cells)(np.empty((3, 0)))
        expected = structure.cell_values(cells, np.empty(0)).value
        np.testing.assert_array_equal(found.value, np.tile(expected, (3, 1)))


@pytest.mark.parametrize("n", [1, 4, 30])
def test_small_inverses(n: int) -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, n, n))
    a = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(n)
    a[2] -= 100.0 * np.eye(n)
    with np.errstate(invalid="ignore"):
        inverse, logdet, sound = inverses(a)
        half, pivots, same = inverse_choleskys(a)
    np.testing.assert_array_equal(sound, np.arange(6) != 2)
    np.testing.assert_array_equal(same, sound)
    good = a[sound]
    np.testing.assert_allclose(inverse[sound], np.linalg.inv(good), rtol=1e-8)
    np.testing.assert_allclose(logdet[sound], np.linalg.slogdet(good)[1])
    np.testing.assert_allclose(2.0 * np.log(pivots[sound]).sum(1), logdet[sound])
    eye = half[sound] @ good @ half[sound].transpose(0, 2, 1)
    np.testing.assert_allclose(eye, np.tile(np.eye(n), (5, 1, 1)), atol=1e-8)


def frame(groups: int = 24, waves: int = 5, dropped: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    code, time = np.divmod(np.arange(groups * waves), waves)
    data = pd.DataFrame({"id": code, "time": time.astype(float)})
    data["x"] = rng.normal(size=groups)[code]
    data["arm"] = np.where(code % 3 == 0, "a", "b")
    data["item"] = time % 2
    effects = rng.normal(size=(2, groups))[:, code]
    data["y"] = 1.0 + 0.5 * time + effects[0] + 0.4 * effects[1] * time
    data["y"] += rng.normal(size=len(data))
    kept = rng.uniform(size=len(data)) >= dropped
    return data[kept].reset_index(drop=True)


MODELS: dict[str, dict[str, Any]] = {
    "intercept": {},
    "slope": {"re_formula": "~time"},
    "slope, ar1": {"re_formula": "~time", "residual": "ar1"},
    "slope, car1": {"re_formula": "~time", "residual": "car1"},
    "components": {"vc_formula": {"item": "0 + C(item)"}, "residual": "ar1"},
    "ar1 alone": {"re_formula": "0", "residual": "ar1"},
    "ar1 nugget": {"re_formula": "0", "residual": AR1(nugget=True)},
    "cs": {"re_formula": "0", "residual": "cs"},
    "arma": {"re_formula": "0", "residual": "arma11"},
    "toep": {"re_formula": "0", "residual": "toep"},
    "un": {"re_formula": "0", "residual": "un"},
    "VarIdent": {"residual": "ar1", "weights": VarIdent("arm")},
    "VarExp": {"re_formula": "~time", "weights": VarExp("time")},
    "dropout": {"re_formula": "~time", "residual": "ar1", "dropped": 0.25},
    "known": {"residual": "ar1", "scale": 1.2},
    "held": {"re_formula": "~time", "residual": AR1(0.4, fixed=True)},
}


def model_of(name: str) -> Any:
    options = dict(MODELS[name])
    data = frame(dropped=options.pop("dropped", 0.0))
    return mar.mixedlm("y ~ time + x", data, groups="id", time="time", **options)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_many_points(name: str, reml: bool) -> None:
    fit = model_of(name).fit(reml=reml, collected=[]).fit
    problem = fit.problem
    batch = LikelihoodBatch(problem, fit.data.compressed)
    rng = np.random.default_rng(1)
    theta = fit.theta + 0.2 * rng.normal(size=(7, len(fit.theta)))
    which = np.zeros(7, dtype=int)
    found, left = batch.evaluate(theta, which), batch.profiles(theta, which)
    w_map, p = problem.w_map, len(problem.w_map) - 1
    for k, point in enumerate(theta):
        one = problem.evaluate(point, derivatives=True)
        np.testing.assert_allclose(found.llf[k], one.llf, rtol=1e-12)
        size = np.abs(one.hessian).max(initial=1.0)
        np.testing.assert_allclose(found.gradient[k], one.gradient, atol=1e-10 * size)
        np.testing.assert_allclose(found.hessian[k], one.hessian, atol=1e-10 * size)
        inner = problem.profile_at(point, derivatives=False)
        combined = w_map @ np.append(-inner.beta, 1.0)
        np.testing.assert_allclose(left.beta[k], -combined[:p] / combined[p])
        inverse = w_map[:p, :p] @ inner.sxx_inverse @ w_map[:p, :p].T
        np.testing.assert_allclose(left.root[k] @ left.root[k].T, inverse, atol=1e-12)
        np.testing.assert_allclose(left.logdet_x[k], -np.linalg.slogdet(inverse)[1])
        np.testing.assert_allclose(left.llf[k], one.llf, rtol=1e-12)
        scale = problem.scale or left.rss[k] / batch.df
        logs = batch.df * np.log(2.0 * np.pi * scale) + left.rss[k] / scale
        logs += left.logdet[k] + (left.logdet_x[k] if reml else 0.0)
        np.testing.assert_allclose(-0.5 * logs, one.llf, rtol=1e-10)


def test_points_without_a_likelihood() -> None:
    fit = model_of("toep").fit(collected=[]).fit
    batch = LikelihoodBatch(fit.problem, fit.data.compressed)
    theta = np.stack([fit.theta, np.full(len(fit.theta), np.nan)])
    found = batch.evaluate(theta, np.zeros(2, dtype=int))
    assert np.isfinite(found.llf[0])
    assert found.llf[1] == -np.inf


def places() -> pd.DataFrame:
    """Return rows of sites, items and smooth curves."""
    rng = np.random.default_rng(4)
    site, time = np.divmod(np.arange(96), 6)
    item = rng.integers(5, size=96)
    y = np.sin(time) + rng.normal(size=16)[site] + 0.5 * rng.normal(size=5)[item]
    return pd.DataFrame(
        {
            "y": y + rng.normal(size=96),
            "x": rng.normal(size=96),
            "site": site,
            "time": time,
            "item": item,
            "arm": np.where(site % 2, "a", "b"),
            "east": np.cos(site),
            "north": site % 4,
            "school": site % 5,
        }
    )


NEAR = Field(("east", "north"))
LINKED: dict[str, dict[str, Any]] = {
    "crossed": {"formula": "y ~ x + (x | site) + (1 | item)"},
    "not correlated": {"formula": "y ~ x + (1 | site) + (x || item)"},
    "nested": {"formula": "y ~ x + (time | school/site)", "residual": "ar1"},
    "of parts": {"formula": "y ~ x + (1 | school/site)", "residual": "exponential"},
    "smooth": {"formula": "y ~ arm + s(time, k=4, by=arm)", "groups": "site"},
    "curves": {"formula": "y ~ s(time, k=4) + s(time, site, bs='fs', k=3)"},
    "related": {"formula": "y ~ 1 + (1 | gr(site, cov=NEAR)) + (1 | item)"},
    "scale": {"formula": "y ~ x + (1 | site) + (1 | item)", "scale": 1.0},
    "variances": {
        "formula": "y ~ x + (1 | school/site)",
        "weights": VarIdent("arm"),
        "residual": "ar1",
    },
}


@pytest.mark.parametrize("case", LINKED)
def test_linked_groups_at_many_points(case: str) -> None:
    given = {"time": "time", "residual": "independent", **LINKED[case]}
    model = mar.mixedlm(given.pop("formula"), places(), **given)
    fit = model.fit(reml=case != "nested", collected=[]).fit
    points = ManyPoints(fit.problem, fit.data.compressed)
    theta = fit.theta + 0.2 * np.random.default_rng(2).normal(size=(5, len(fit.theta)))
    found = points.profiles(theta)
    expected = [fit.problem.evaluate(one, derivatives=False).llf for one in theta]
    np.testing.assert_allclose(found.llf, expected, rtol=1e-11)
    # where one has no likelihood the others have theirs
    theta[2] = np.nan
    again = points.profiles(theta).llf
    assert again[2] == -np.inf
    np.testing.assert_allclose(np.delete(again, 2), np.delete(expected, 2), rtol=1e-11)


@pytest.mark.parametrize("several", [False, True])
def test_one_door_for_points(several: bool) -> None:
    data = frame()
    data["school"] = data["id"] % 4
    formula = "y ~ time + x" + (" + (1 | school/id)" if several else "")
    groups = None if several else "id"
    model = mar.mixedlm(formula, data, groups=groups, time="time", residual="ar1")
    fit = model.fit(collected=[]).fit
    problem = fit.problem
    theta = fit.theta + 0.1 * np.random.default_rng(2).normal(size=(4, len(fit.theta)))
    theta[3, 0], theta[0] = 1e4, fit.theta  # one is inverted one by one
    points = ManyPoints(problem, fit.data.compressed)
    found = points.profiles(theta)
    for k, point in enumerate(theta):
        expected = problem.evaluate(point, derivatives=False).llf
        # where a variance is 1e8 the last digits depend on the order of sums
        assert found.llf[k] == pytest.approx(expected, rel=1e-11 if several else 1e-12)
    estimate = fit.estimate
    np.testing.assert_allclose(found.beta[0], estimate.beta, rtol=1e-9)
    df = fit.nobs - fit.k_fe
    assert found.rss[0] / df == pytest.approx(estimate.scale, rel=1e-9)
    cov = found.root[0] @ found.root[0].T * estimate.scale
    np.testing.assert_allclose(cov, estimate.cov_beta, atol=1e-10)
    logs = df * np.log(2.0 * np.pi * found.rss / df) + df + found.logdet
    np.testing.assert_allclose(-0.5 * (logs + found.logdet_x), found.llf, rtol=1e-9)
    bad = points.profiles(np.full((1, len(fit.theta)), np.nan))
    assert bad.llf[0] == -np.inf
    assert points.profiles(theta[:0]).beta.shape == (0, 3)
