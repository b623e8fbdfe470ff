"""Kriging weights: neighbours against dense algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixedar import AR1, CAR1, Independent
from mixedar.engine import kriging
from mixedar.exceptions import StructureError, TimeError
from mixedar.residual import (
    ARMA,
    CompoundSymmetry,
    Exponential,
    Gaussian,
    Heteroscedastic,
    Nugget,
    Stratified,
    Toeplitz,
)
from mixedar.residual.variance import VarFixed, VarPower

Array = Any


def positions(times: Any, marks: Any = None) -> Array:
    times = np.asarray(times, dtype=float)[:, None]
    return times if marks is None else np.column_stack([times, marks])


def series_of(times: list[list[float]]) -> tuple[Any, Any]:
    number = np.repeat(np.arange(len(times)), [len(t) for t in times])
    return number, positions([x for t in times for x in sorted(t)])


whole = st.lists(
    st.lists(st.integers(-20, 20), min_size=1, max_size=6, unique=True),
    min_size=1,
    max_size=4,
)
asked = st.lists(
    st.tuples(st.integers(-1, 3), st.integers(-25, 25)), min_size=1, max_size=8
)


@settings(max_examples=60)
@given(
    times=whole, new=asked, rho=st.floats(-0.95, 0.95).filter(lambda r: abs(r) > 0.01)
)
def test_neighbours_suffice(times: Any, new: Any, rho: float) -> None:
    observed = series_of(times)
    number = np.array([i if i < len(times) else -1 for i, _ in new])
    when = positions([t for _, t in new])
    structures: list[Any] = [AR1()] + ([CAR1()] if rho > 0.0 else [])
    for structure in structures:
        few = kriging.krige(structure, np.array([rho]), observed, (number, when))
        weights, share = kriging.dense_weights(
            structure, np.array([rho]), observed, (number, when)
        )
        np.testing.assert_allclose(few.weights.toarray(), weights.toarray(), atol=1e-9)
        np.testing.assert_allclose(few.share, share, atol=1e-9)


def brute(C: Array, cross: Array, v: Array) -> tuple[Array, Array]:
    """Weights and remaining variances by the formula."""
    c = np.linalg.solve(C, cross.T).T
    return c, v - (c * cross).sum(axis=1)


@settings(max_examples=40)
@given(
    data=st.data(),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    wrapped=st.sampled_from(["plain", "nugget", "strata"]),
    variance=st.booleans(),
)
def test_every_wrapping(data: Any, sizes: Any, wrapped: str, variance: bool) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    series = np.repeat(np.arange(len(sizes)), sizes)
    n, k = len(series), data.draw(st.integers(1, 12))
    inner = Exponential(coords=("u", "v"))
    structure: Any = inner
    params = np.array([0.7])
    if wrapped == "nugget":
        structure, params = Nugget(inner), np.array([0.7, 0.3])
    stratum = rng.integers(0, 2, size=len(sizes))
    if wrapped == "strata":
        structure = Stratified(inner, "arm", ("a", "b"))
        params = np.array([0.7, 2.0])
    # repeated places, as on a grid
    number = rng.integers(-1, len(sizes), size=k)
    old, new = (rng.integers(0, 4, size=(size, 2)).astype(float) for size in (n, k))
    if wrapped != "nugget":
        old += rng.uniform(size=(n, 2))
    x_old, x_new = rng.uniform(1.0, 2.0, size=n), rng.uniform(1.0, 2.0, size=k)
    columns_old, columns_new = [old], [new]
    if wrapped == "strata":
        columns_old.append(stratum[series][:, None])
        columns_new.append(stratum[number][:, None])
    if variance:
        structure = Heteroscedastic(structure, VarPower("x"))
        params = np.append(params, 0.8)
        columns_old.append(x_old[:, None])
        columns_new.append(x_new[:, None])
    else:
        x_old, x_new = np.ones(n), np.ones(k)
    found = kriging.krige(
        structure,
        params,
        (series, positions(rng.normal(size=n), np.hstack(columns_old))),
        (number, positions(rng.normal(size=k), np.hstack(columns_new))),
    )
    weights = found.weights.toarray()
    for i in range(k):
        rows = np.flatnonzero(series == number[i])
        assert (weights[i, series != number[i]] == 0.0).all()
        if number[i] < 0:
            assert found.share[i] == pytest.approx(x_new[i] ** 1.6)
            continue
        reach = 2.0 if wrapped == "strata" and stratum[number[i]] else 0.7
        noise = 0.3 if wrapped == "nugget" else 0.0
        places = np.vstack([old[rows], new[i]])
        apart = np.linalg.norm(places[:, None] - places, axis=2)
        R = (1 - noise) * np.exp(-apart / reach)
        np.fill_diagonal(R, 1.0)
        sd = np.append(x_old[rows], x_new[i]) ** 0.8
        R *= np.outer(sd, sd)
        c, rest = brute(R[:-1, :-1], R[-1:, :-1], R[-1:, -1])
        np.testing.assert_allclose(weights[i, rows], c[0], atol=1e-9)
        np.testing.assert_allclose(found.share[i], rest[0], atol=1e-9)


@pytest.mark.parametrize("at_once", [1, 7, 2**20])
def test_batches(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # the same whatever is computed at a time
    rng = np.random.default_rng(2)
    observed = series_of([[0, 1, 4], [2, 3, 6], [0, 5], [1, 2, 3, 9], [7], [3, 4, 7]])
    number = rng.integers(-1, 6, size=40)
    when = positions(rng.integers(-3, 14, size=40))
    params = np.array([0.6, 0.3])
    expected = kriging.krige(ARMA(1, 1), params, observed, (number, when))
    monkeypatch.setattr(kriging, "_AT_ONCE", at_once)
    found = kriging.krige(ARMA(1, 1), params, observed, (number, when))
    np.testing.assert_allclose(
        found.weights.toarray(), expected.weights.toarray(), atol=1e-12
    )
    np.testing.assert_allclose(found.share, expected.share, atol=1e-12)


def test_by_hand() -> None:
    observed = series_of([[0.0, 4.0]])
    number, when = np.zeros(5, dtype=int), positions([4.0, 6.0, -1.0, 2.0, 0.0])
    found = kriging.krige(CAR1(), np.array([0.5]), observed, (number, when))
    middle = 0.25 / (1.0 + 0.25**2)
    np.testing.assert_allclose(
        found.weights.toarray(),
        [[0, 1], [0, 0.25], [0.5, 0], [middle, middle], [1, 0]],
    )
    rest = 1.0 - 2.0 * 0.25 * middle
    np.testing.assert_allclose(found.share, [0, 1 - 0.25**2, 0.75, rest, 0])


def test_variances_by_hand() -> None:
    # twice as large residuals follow with twice the weight
    structure = Heteroscedastic(AR1(), VarFixed("x"))
    observed = np.zeros(1, dtype=int), positions([0.0], [[1.0]])
    number, when = np.zeros(2, dtype=int), positions([1.0, 1.0], [[1.0], [4.0]])
    found = kriging.krige(structure, np.array([0.5]), observed, (number, when))
    np.testing.assert_allclose(found.weights.toarray(), [[0.5], [1.0]])
    np.testing.assert_allclose(found.share, [0.75, 3.0])


def test_close_to_one_loses_no_digits() -> None:
    # between two observations of a nearly constant series
    rho = 1.0 - 1e-7
    number, when = np.zeros(1, dtype=int), positions([1.0])
    observed = series_of([[0.0, 3.0]])
    found = kriging.krige(AR1(), np.array([rho]), observed, (number, when))
    # linear interpolation, and the bridge of a random walk
    np.testing.assert_allclose(found.weights.toarray(), [[2 / 3, 1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(found.share, 2e-7 * 2 / 3, rtol=1e-6)


def test_nothing_to_learn_from() -> None:
    empty = np.empty(0, dtype=int), np.empty((0, 1))
    number, when = np.array([0, 1]), positions([1.0, 2.0])
    for structure, params, observed in (
        (Independent(), np.empty(0), (number, when)),
        (AR1(), np.array([0.5]), empty),
        (CompoundSymmetry(), np.array([0.5]), empty),
    ):
        found = kriging.krige(structure, params, observed, (number, when))
        np.testing.assert_array_equal(found.share, 1.0)
        assert found.weights.shape == (2, len(observed[0]))
        assert found.weights.count_nonzero() == 0
    for structure in (AR1(), CompoundSymmetry()):
        none = kriging.krige(structure, np.array([0.5]), (number, when), empty)
        assert none.weights.shape == (0, 2)


@pytest.mark.parametrize("structure", [AR1(), ARMA(1, 0)])
def test_only_the_own_series(structure: Any) -> None:
    observed = series_of([[0.0, 1.0], [0.0, 2.0]])
    number, when = np.array([1, -1, 0]), positions([1.0, 1.0, 5.0])
    found = kriging.krige(structure, np.array([0.5]), observed, (number, when))
    weights = found.weights.toarray()
    assert (weights[0, :2] == 0.0).all()
    assert (weights[1] == 0.0).all()
    assert found.share[1] == 1.0
    np.testing.assert_allclose(weights[2], [0.0, 0.5**4, 0.0, 0.0], atol=1e-12)


def test_correlations_that_one_row_more_cannot_have() -> None:
    # three rows cannot all have the correlation -0.9
    observed = series_of([[0.0, 1.0]])
    question = np.zeros(1, dtype=int), positions([2.0])
    with pytest.raises(StructureError, match="old and the new rows"):
        kriging.krige(CompoundSymmetry(), np.array([-0.9]), observed, question)


def test_lags_of_which_nothing_is_known() -> None:
    structure, params = Toeplitz(unit=2, lags=2), np.array([0.5, 0.2])
    observed = series_of([[0.0, 2.0, 4.0]])
    number = np.zeros(1, dtype=int)
    inside = kriging.krige(structure, params, observed, (number, positions([0.0])))
    np.testing.assert_allclose(inside.weights.toarray(), [[1, 0, 0]], atol=1e-12)
    for when, message in ((3.0, "multiples of 2"), (6.0, "beyond lag 2")):
        with pytest.raises(TimeError, match=message):
            kriging.krige(structure, params, observed, (number, positions([when])))


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    long = np.zeros(20_000, dtype=int), positions(np.arange(20_000))
    one = np.zeros(1, dtype=int), positions([20_001])
    params = np.array([0.5])
    with pytest.raises(StructureError, match="matrices of order 20000"):
        kriging.krige(Gaussian(), params, long, one)
    # structures with a state take any length
    for structure, values in ((AR1(), params), (ARMA(1, 1), np.array([0.5, 0.0]))):
        found = kriging.krige(structure, values, long, one)
        assert found.share[0] == pytest.approx(1.0 - 0.5**4)
    monkeypatch.setattr(kriging, "_MOST_BYTES", 2**20)
    short = np.zeros(100, dtype=int), positions(np.arange(100))
    many = np.zeros(1000, dtype=int), positions(np.arange(1000))
    with pytest.raises(StructureError, match="fewer rows at a time"):
        kriging.krige(Gaussian(), params, short, many)
