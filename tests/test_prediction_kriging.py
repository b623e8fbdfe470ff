"""Kriging weights: neighbours against dense algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixedar import AR1, CAR1, Independent
from mixedar.prediction import kriging


def series_of(times: list[list[float]]) -> tuple[Any, Any]:
    number = np.repeat(np.arange(len(times)), [len(t) for t in times])
    return number, np.array([x for t in times for x in sorted(t)], dtype=float)


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
    when = np.array([t for _, t in new], dtype=float)
    structures: list[Any] = [AR1()] + ([CAR1()] if rho > 0.0 else [])
    for structure in structures:
        few = kriging._neighbours(structure, np.array([rho]), observed, (number, when))
        all_ = kriging._dense(structure, np.array([rho]), observed, (number, when))
        np.testing.assert_allclose(
            few.weights.toarray(), all_.weights.toarray(), atol=1e-9
        )
        np.testing.assert_allclose(few.share, all_.share, atol=1e-9)


def test_by_hand() -> None:
    observed = series_of([[0.0, 4.0]])
    number, when = np.zeros(5, dtype=int), np.array([4.0, 6.0, -1.0, 2.0, 0.0])
    found = kriging.krige(CAR1(), np.array([0.5]), observed, (number, when))
    middle = 0.25 / (1.0 + 0.25**2)
    np.testing.assert_allclose(
        found.weights.toarray(),
        [[0, 1], [0, 0.25], [0.5, 0], [middle, middle], [1, 0]],
    )
    rest = 1.0 - 2.0 * 0.25 * middle
    np.testing.assert_allclose(found.share, [0, 1 - 0.25**2, 0.75, rest, 0])


def test_close_to_one_loses_no_digits() -> None:
    # between two observations of a nearly constant series
    rho = 1.0 - 1e-7
    number, when = np.zeros(1, dtype=int), np.array([1.0])
    observed = series_of([[0.0, 3.0]])
    found = kriging.krige(AR1(), np.array([rho]), observed, (number, when))
    # linear interpolation, and the bridge of a random walk
    np.testing.assert_allclose(found.weights.toarray(), [[2 / 3, 1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(found.share, 2e-7 * 2 / 3, rtol=1e-6)


def test_nothing_to_learn_from() -> None:
    empty = np.empty(0, dtype=int), np.empty(0)
    number, when = np.array([0, 1]), np.array([1.0, 2.0])
    for structure, params, observed in (
        (Independent(), np.empty(0), (number, when)),
        (AR1(), np.array([0.5]), empty),
    ):
        found = kriging.krige(structure, params, observed, (number, when))
        np.testing.assert_array_equal(found.share, 1.0)
        assert found.weights.shape == (2, len(observed[0]))
        assert found.weights.count_nonzero() == 0
    none = kriging.krige(AR1(), np.array([0.5]), (number, when), empty)
    assert none.weights.shape == (0, 2)


@pytest.mark.parametrize("kind", ["markov", "dense"])
def test_only_the_own_series(kind: str) -> None:
    observed = series_of([[0.0, 1.0], [0.0, 2.0]])
    number, when = np.array([1, -1, 0]), np.array([1.0, 1.0, 5.0])
    how = kriging._neighbours if kind == "markov" else kriging._dense
    found = how(AR1(), np.array([0.5]), observed, (number, when))
    weights = found.weights.toarray()
    assert (weights[0, :2] == 0.0).all()
    assert (weights[1] == 0.0).all()
    assert found.share[1] == 1.0
    assert (weights[2] != 0.0).tolist() == [False, True, False, False] or np.allclose(
        weights[2, [0, 2, 3]], 0.0, atol=1e-12
    )
