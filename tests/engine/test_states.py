"""Long series by their states, against matrices and a filter written out as a loop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.engine.blocks import curvature_blocks
from mixedar.engine.blocks.states import StateBlock, states_pay
from mixedar.engine.compress import ClusterRows
from mixedar.engine.kriging import dense_weights, krige
from mixedar.engine.residuals import correlated_residuals, whiten_series
from mixedar.engine.rows import GroupedRows
from mixedar.engine.smoothing import state_weights
from mixedar.exceptions import StructureError
from mixedar.fit.maximise import Start, maximise
from mixedar.residual import (
    AR1,
    ARMA,
    CompoundSymmetry,
    DataLayout,
    Exponential,
    Gaussian,
    Heteroscedastic,
    Matern,
    ResidualStructure,
    Toeplitz,
    resolve,
)
from mixedar.residual.variance import VarIdent

Array = Any
REFERENCE = Path(__file__).parents[1] / "reference" / "long"
N = 60  # rows of a series, more than are taken by matrices
STRUCTURES = {
    "arma": ARMA(2, 1),
    "exp nugget": Exponential(nugget=True),
    "matern": Matern(smoothness=1.5),
    "matern nugget": Matern(smoothness=2.5, nugget=True),
    "ar1 nugget": AR1(nugget=True),
    "cs": CompoundSymmetry(),
    "toep": Toeplitz(3),
    "ar1 by": AR1(by="arm"),
}


def long_series(name: str) -> tuple[ResidualStructure, GroupedRows, Array]:
    """Return a bound structure, three series with gaps, and their times."""
    structure = resolve(STRUCTURES[name])
    rng = np.random.default_rng(3)
    time = np.sort([rng.choice(90, N, replace=False) for _ in range(3)], axis=1) * 1.0
    if not structure.integer_time:
        time += np.sort(rng.uniform(0.0, 0.9, (3, N)), axis=1)
    gaps = np.diff(time, axis=1, prepend=time[:, :1]).ravel()
    marks = np.repeat([[0.0], [1.0], [0.0]], N, axis=0)[:, : len(structure.marks)]
    names = (("a", "b"),)[: len(structure.marks)]
    starts = np.arange(3) * N
    layout = DataLayout(gaps[gaps > 0.0], N, 90.0, marks, names, starts)
    rows = GroupedRows(None, np.arange(4) * N, gaps, marks)
    return structure.bind_layout(layout), rows, time.ravel()


@pytest.mark.parametrize("name", STRUCTURES)
def test_whitening_and_drawing(name: str) -> None:
    structure, rows, time = long_series(name)
    u = structure.start_grid()[0] + 0.1
    params = structure.from_unconstrained(u)
    x = np.random.default_rng(1).normal(size=(3 * N, 2))
    assert rows.marks is not None
    positions = np.column_stack([time, rows.marks])
    for series in range(3):
        here = slice(series * N, (series + 1) * N)
        root = np.linalg.cholesky(structure.correlation(positions[here], params))
        white = whiten_series(x, rows, structure, u)
        np.testing.assert_allclose(white[here], np.linalg.solve(root, x[here]), 1e-7)
        drawn = correlated_residuals(x, rows, structure, params)
        np.testing.assert_allclose(drawn[here], root @ x[here], 1e-9, 1e-11)
    assert whiten_series(x[:, :0], rows, structure, u).shape == (3 * N, 0)
    one = whiten_series(x[:, 0], rows, structure, u)
    np.testing.assert_allclose(one, white[:, 0], rtol=1e-12)


@pytest.mark.parametrize("name", STRUCTURES)
def test_kriging(name: str) -> None:
    structure, rows, time = long_series(name)
    params = structure.from_unconstrained(structure.start_grid()[0] + 0.1)
    assert rows.marks is not None
    series = np.repeat(np.arange(3), N)
    wanted = np.array([0, 0, 1, 1, 2, 2, -1, 1])
    # ahead, before, between, at an observed time, and two at one time
    when = np.array([95.0, -4.0, 200.0, 50.0, time[2 * N], time[-1], 3.0, 200.0])
    if not structure.integer_time:
        when[:4] += 0.37
    there = np.where(wanted == 1, 1.0, 0.0)[:, None][:, : len(structure.marks)]
    observed = series, np.column_stack([time, rows.marks])
    asked = wanted, np.column_stack([when, there])
    expected, share = dense_weights(structure, params, observed, asked)
    weights, left = state_weights(structure, params, observed, asked)
    y = np.random.default_rng(2).normal(size=(3 * N, 2))
    np.testing.assert_allclose(weights @ y, expected @ y, 1e-8, 1e-10)
    np.testing.assert_allclose(weights @ y[:, 0], expected @ y[:, 0], 1e-8, 1e-10)
    assert (weights @ y[:, :0]).shape == (8, 0)
    np.testing.assert_allclose(left, share, 1e-9, 1e-10)


def test_kriging_with_variances() -> None:
    structure, rows, time = long_series("exp nugget")
    variance = VarIdent("arm").bind_layout(
        DataLayout(rows.gaps, N, 90.0, np.arange(3 * N)[:, None] % 2, (("a", "b"),))
    )
    both = Heteroscedastic(structure, variance)
    params = np.append(structure.from_unconstrained(structure.start_grid()[0]), 2.0)
    series, stratum = np.repeat(np.arange(3), N), np.arange(3 * N) % 2
    observed = series, np.column_stack([time, stratum])
    asked = np.array([1, 1]), np.array([[99.0, 0.0], [99.0, 1.0]])
    found = krige(both, params, observed, asked)
    alone = krige(
        structure, params[:-1], (series, time[:, None]), (asked[0], asked[1][:, :1])
    )
    y = np.random.default_rng(2).normal(size=3 * N)
    plain = alone.weights @ (y / np.where(stratum == 1, 2.0, 1.0))
    np.testing.assert_allclose(found.weights @ y, plain * [1.0, 2.0])
    np.testing.assert_allclose(found.share, alone.share * [1.0, 4.0])


def test_compound_symmetry_has_no_room_for_more_rows() -> None:
    structure, _, time = long_series("cs")
    observed = np.repeat(np.arange(3), N), time[:, None]
    lowest = np.array([-1.0 / (N - 1) + 1e-9])
    with pytest.raises(StructureError, match="not possible for the old and the new"):
        state_weights(
            structure, lowest, observed, (np.zeros(1, int), np.array([[99.0]]))
        )


def sized(groups: int, n: int, q: int = 1) -> ClusterRows:
    """Return groups of `n` rows each at times of their own."""
    rng = np.random.default_rng(4)
    gaps = rng.uniform(0.1, 2.0, (groups, n))
    gaps[:, 0] = 0.0
    z, w = rng.normal(size=(groups * n, q)), rng.normal(size=(groups * n, 3))
    offsets = np.arange(groups + 1) * n
    return ClusterRows(z, w, gaps.ravel(), offsets, np.ones(groups))


@pytest.mark.parametrize(
    ("groups", "n", "pay"),
    [(1, 10, False), (500, 5, False), (1, 1000, True), (50, 300, True)],
)
def test_recursions_where_they_cost_less(groups: int, n: int, pay: bool) -> None:
    structure = resolve(Exponential(nugget=True))
    rows = sized(groups, n)
    assert states_pay(rows, structure) is pay
    blocks = curvature_blocks(rows, structure)
    assert any(isinstance(block, StateBlock) for block in blocks) is pay
    assert not states_pay(rows, Gaussian())
    # more work for more states and parameters
    other = replace(Toeplitz(25), lags=1000)
    assert not states_pay(rows, other)


def test_columns_that_series_share() -> None:
    structure, count, n = resolve(ARMA(2, 1)), 3, 50
    rng, gaps = np.random.default_rng(8), np.ones((count, n))
    gaps[:, 0] = 0.0
    one, x = np.ones((count * n, 1)), rng.normal(size=(count * n, 1))
    offsets, weights = np.arange(count + 1) * n, np.ones(count)

    def products(by: Array) -> Any:
        z, w = one * by, np.concatenate([one, x], axis=1) * by
        rows = ClusterRows(z, w, gaps.ravel(), offsets, weights)
        return StateBlock(rows, structure).at(
            np.array([0.5, 0.3, -0.4]), derivatives=True
        )

    # an intercept is one column; with another size in each series it is not
    size = np.array([1.0, 2.0, 3.0])
    shared, apart = products(1.0), products(np.repeat(size, n)[:, None])
    np.testing.assert_allclose(apart.zz, shared.zz * size**2, rtol=1e-11)
    np.testing.assert_allclose(apart.zw, shared.zw * size**2, rtol=1e-9, atol=1e-9)
    # Z is the first column of W
    together = shared.zw[:, :, 0].sum(axis=-1)
    np.testing.assert_allclose(together, shared.ww[:, 0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", sorted(path.stem for path in REFERENCE.glob("*.json")))
def test_likelihood_of_long_series(case: str) -> None:
    wanted = json.loads((REFERENCE / f"{case}.json").read_text())
    name, _ = case.rsplit("_", 1)
    frame = pd.read_csv(REFERENCE / "data" / f"{name}.csv.gz")
    frame["u"] = frame["time"] / 1000.0
    random = wanted["random"][0]
    residual = {"arma21": ARMA(2, 1), "exp_nugget": Exponential(nugget=True)}
    model = mar.mixedlm(
        wanted["formula"],
        frame,
        groups="series",
        re_formula=random["re_formula"],
        re_cov="diagonal" if random["cov"] == "diagonal" else "unstructured",
        time="time",
        residual=residual.get(name, AR1(nugget=True)),
    )
    expected = wanted["expected"]
    params = np.concatenate(
        [np.ravel(value) for value in expected["residual_params"].values()]
    )
    cov = np.array(expected["cov_re_levels"]["series"]) / expected["sigma2"]
    layout = model.arrays.layout()
    start = Start(layout.root_entries(cov, np.empty(0)), params)
    fit = maximise(
        model.arrays, reml=wanted["reml"], layout=layout, start=start, optimise=False
    )
    assert fit.llf == pytest.approx(expected["loglike"], abs=1e-6)
    np.testing.assert_allclose(fit.fe_params, list(expected["fixef"].values()), 1e-7)
    assert fit.scale == pytest.approx(expected["sigma2"], rel=1e-7)
    # a maximum: the gradient promises nothing
    point = fit.problem.evaluate(fit.theta, derivatives=True)
    promised = point.gradient @ np.linalg.solve(-point.hessian, point.gradient)
    assert 0.0 <= promised < 1e-8
