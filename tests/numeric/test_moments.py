"""Means and covariances of columns are those of parts that are merged."""

from __future__ import annotations

import numpy as np

from mixedar.numeric.moments import Moments


def test_parts_make_the_whole_where_means_are_large() -> None:
    rng = np.random.default_rng(1)
    columns = rng.normal([0.0, 1e6, -1e6], size=(1000, 3))
    parts = [
        Moments.of([part[:, 0], part[:, 1:]])
        for part in np.split(columns, [1, 300, 310])
    ]
    found = Moments.merged([Moments.merged(parts[:2]), *parts[2:]])
    assert found.count == 1000
    np.testing.assert_allclose(found.mean, columns.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.cov, np.cov(columns.T), rtol=1e-8, atol=1e-8)
    some = found.taken(np.array([0, 2]))
    np.testing.assert_array_equal(some.cov, found.cov[np.ix_([0, 2], [0, 2])])
