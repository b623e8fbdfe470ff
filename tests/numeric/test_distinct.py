"""Distinct numbers and rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mixedar.numeric.linalg import distinct, unique_rows


@pytest.mark.parametrize(
    "x",
    [
        np.array([3.0, 0.0, 3.0, 65_535.0]),
        np.array([3.0, 1e9, 3.0]),
        np.array([2.5, 1.0, 2.5]),
        np.array([-1.0, 2.0, -1.0]),
        np.array([4, 2, 4, 9]),
        np.array([1.0, np.nan, 1.0]),
        np.empty(0),
    ],
)
def test_distinct_numbers_as_numpy_finds_them(x: NDArray[Any]) -> None:
    values, which = distinct(x)
    expected, places = np.unique(x, return_inverse=True)
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(which, places)
    assert values.dtype == x.dtype


def test_distinct_rows() -> None:
    x = np.array([[1.0, 0.5], [2.0, 0.5], [1.0, 0.5], [1.0, 0.25]])
    found, which = unique_rows(x)
    assert len(found) == 3
    np.testing.assert_array_equal(found[which], x)
