"""Pieces of series, or some groups, are looked at before the likelihood of all rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.engine.blocks.first_look import in_pieces, some_groups, some_runs
from mixedar.engine.compress import ClusterRows
from mixedar.engine.problem import LikelihoodProblem
from mixedar.residual import AR1, Exponential, Gaussian
from mixedar.residual.base import DataLayout
from mixedar.residual.variance import VarExp


def rows_of(sizes, q, marks=None, weights=None):
    rng, n = np.random.default_rng(2), int(sum(sizes))
    gaps, offsets = np.ones(n), np.concatenate([[0], np.cumsum(sizes)])
    gaps[offsets[:-1]] = 0.0
    if weights is None:
        weights = np.ones(len(sizes))
    w = np.column_stack([np.arange(n), rng.normal(size=n)])
    return ClusterRows(rng.normal(size=(n, q)), w, gaps, offsets, weights, marks)


def bound(structure, marks):
    labels = (None,) * marks.shape[1]
    return structure.bind_layout(DataLayout(np.ones(1), 700, 700.0, marks, labels))


def test_series_are_cut_in_the_order_of_time():
    rows = rows_of([350, 20], q=1)
    cut = in_pieces(rows, Gaussian(nugget=True).bind(rows.gaps))
    np.testing.assert_array_equal(cut.w, rows.w)
    np.testing.assert_array_equal(cut.offsets, rows.offsets)  # effects join the pieces
    lengths = np.diff(np.append(np.flatnonzero(cut.gaps == 0.0), 370))
    assert lengths.max() <= 100
    assert lengths.sum() == 370
    assert lengths[-1] == 20


def test_places_are_cut_into_neighbours():
    marks = np.random.default_rng(3).uniform(size=(700, 2))
    structure = bound(Exponential(coords=("east", "north")), marks)
    cut = in_pieces(rows_of([700], q=0, marks=marks), structure)
    np.testing.assert_array_equal(np.sort(cut.w[:, 0]), np.arange(700))
    np.testing.assert_array_equal(cut.marks, marks[cut.w[:, 0].astype(int)])
    sizes = np.diff(cut.offsets)
    assert sizes.max() <= 100
    extents = [
        np.ptp(cut.marks[a:b], axis=0).prod()
        for a, b in zip(cut.offsets[:-1], cut.offsets[1:], strict=True)
    ]
    assert max(extents) < 0.25
    assert (cut.gaps[cut.offsets[:-1]] == 0.0).all()


@pytest.mark.parametrize(
    ("sizes", "weights"), [([299, 20], None), ([350, 350], [2.0, 0.0])]
)
def test_short_series_and_sums_of_groups_stay(sizes, weights):
    rows = rows_of(sizes, q=0, weights=None if weights is None else np.array(weights))
    assert in_pieces(rows, AR1().bind(rows.gaps)) is None


def test_some_of_very_many_groups():
    rows = rows_of([20] * 4000, q=1)
    some = some_groups(rows, k_theta=3)
    assert 400 <= some.n_clusters <= 1000
    assert some.w[-1, 0] > 0.9 * len(rows.w)  # from everywhere
    np.testing.assert_array_equal(some.z, rows.z[some.w[:, 0].astype(int)])


def test_runs_of_long_series():
    rows = rows_of([79_000, 20, 9_000], q=1)
    time = np.cumsum(rows.gaps) - np.repeat(np.cumsum([0, -1, -1]), [79_000, 20, 9_000])
    some = some_runs(rows)
    kept = some.w[:, 0].astype(int)
    assert 8000 <= len(kept) <= 0.15 * len(rows.w)
    np.testing.assert_array_equal(some.z, rows.z[kept])
    owner = np.searchsorted(rows.offsets, kept, side="right") - 1
    np.testing.assert_array_equal(np.diff(some.offsets), np.bincount(owner))
    starts = np.isin(kept, rows.offsets)
    np.testing.assert_array_equal(some.gaps == 0.0, starts)
    np.testing.assert_array_equal(
        some.gaps[~starts], (time[kept] - time[np.roll(kept, 1)])[~starts]
    )
    # neighbours, and rows far apart
    assert (some.gaps == 1.0).mean() > 0.9
    assert some.gaps.max() > 100.0


@pytest.mark.parametrize(
    ("sizes", "weights"),
    [([70_000], None), ([60] * 1500, None), ([60_000, 60_000], [2.0, 0.0])],
)
def test_all_rows_where_runs_would_not_do(sizes, weights):
    summed = None if weights is None else np.array(weights)
    assert some_runs(rows_of(sizes, q=1, weights=summed)) is None


@pytest.mark.parametrize(
    ("sizes", "k_theta", "weights"),
    [([20] * 1500, 3, None), ([20] * 4000, 30, None), ([20] * 4000, 3, 2.0)],
)
def test_all_groups_where_some_would_not_do(sizes, k_theta, weights):
    many = None if weights is None else np.full(len(sizes), weights)
    assert some_groups(rows_of(sizes, q=1, weights=many), k_theta) is None


def test_the_likelihood_of_many_groups_is_seldom_evaluated(monkeypatch):
    seen, evaluate = [], LikelihoodProblem.evaluate

    def counted(self, theta, *, derivatives):
        seen.append(self.n)
        return evaluate(self, theta, derivatives=derivatives)

    monkeypatch.setattr(LikelihoodProblem, "evaluate", counted)
    rng, n = np.random.default_rng(8), 32_500
    frame = pd.DataFrame({"g": np.arange(n) // 5, "x": rng.uniform(-1.0, 1.0, n)})
    frame["y"] = rng.normal(size=n) * np.exp(0.5 * frame["x"])
    frame["y"] += np.repeat(rng.normal(size=n // 5), 5)
    model = mar.mixedlm("y ~ 1", frame, groups="g", weights=VarExp("x"))
    assert model.fit().converged
    assert 0 < seen.count(n) <= 15 < len(seen) - seen.count(n)
