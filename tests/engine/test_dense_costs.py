"""What fits with dense matrices compute, by counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import mixedar.formula.api as mar
from mixedar.api import Gaussian
from mixedar.engine.blocks import dense
from mixedar.engine.blocks.base import ParameterPoint
from mixedar.engine.blocks.dense import covariance_blocks
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.level import Apart, Together
from mixedar.numeric.autodiff import Deferred
from mixedar.residual import AnteDependence, Unstructured


def visits(groups, waves, keep=None):
    """Groups at some of their visits, all of them by default."""
    rng = np.random.default_rng(4)
    seen = np.ones((groups, waves), dtype=bool) if keep is None else keep
    index, visit = np.nonzero(seen)
    gaps = np.ones(len(visit))
    sizes = seen.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    gaps[offsets[:-1]] = 0.0
    w = rng.normal(size=(len(visit), 2)) + index[:, None]
    marks = visit[:, None].astype(float)
    return ClusterRows(w[:, :0], w, gaps, offsets, np.ones(groups), marks)


def named(waves):
    return tuple(str(k) for k in range(waves))


def test_groups_at_the_same_visits_share_a_matrix():
    keep = np.ones((7, 4), dtype=bool)
    keep[[1, 4], 2] = False
    blocks = covariance_blocks(visits(7, 4, keep), Unstructured(occasions=named(4)))
    counts = np.concatenate([block.multiplicity for block in blocks])
    assert sorted(counts) == [2.0, 5.0]
    assert max(block.w.shape[2] for block in blocks) == 5


@pytest.mark.parametrize("structure", [Unstructured, AnteDependence])
def test_no_second_derivatives_of_correlations_are_written_out(structure, monkeypatch):
    def written(_):
        raise AssertionError("second derivatives were written out")

    monkeypatch.setattr(Deferred, "second", property(written))
    rng = np.random.default_rng(5)
    frame = {
        "g": np.repeat(np.arange(40), 6),
        "t": np.tile(np.arange(6), 40),
        "y": rng.normal(size=(40, 6)).cumsum(axis=1).ravel(),
    }
    model = mar.mixedlm(
        "y ~ 1", frame, groups="g", time="t", re_formula="0", residual=structure()
    )
    assert model.fit().converged


def test_long_series_are_searched_in_pieces(monkeypatch):
    orders = []
    roots = dense.inverse_roots

    def counted(matrices):
        orders.extend([matrices.shape[1]] * len(matrices))
        return roots(matrices)

    monkeypatch.setattr(dense, "inverse_roots", counted)
    rng, n = np.random.default_rng(6), 310
    time = np.sort(rng.uniform(0.0, n, n))
    waves = np.sin(time / 2.0) + rng.normal(0.0, 0.5, n)
    frame = {"g": np.zeros(n), "t": time, "y": waves}
    residual = Gaussian(nugget=True)
    model = mar.mixedlm(
        "y ~ 1", frame, groups="g", time="t", re_formula="0", residual=residual
    )
    fit = model.fit()
    assert fit.converged
    assert 0 < orders.count(n) <= 20
    assert sum(order <= 100 for order in orders) > orders.count(n)


@pytest.mark.parametrize(("q", "k", "pays"), [(9, 45, True), (30, 1, False)])
def test_traces_by_pairs_of_entries_where_these_are_fewer(q, k, pays, monkeypatch):
    rng, m = np.random.default_rng(7), 50
    u = rng.normal(size=(q, q, m))
    u = u + u.transpose(1, 0, 2)
    directions = rng.normal(size=(k, q, q))
    directions = directions + directions.transpose(0, 2, 1)
    apart, one_by_one = [], Apart.traces

    def counted(self, *of):
        apart.append(1)
        return one_by_one(self, *of)

    monkeypatch.setattr(Apart, "traces", counted)
    found = Together(np.ones(m)).traces(u, directions)
    assert bool(apart) != pays
    both = np.einsum("abm,kbc->kacm", u, directions)
    expected = np.einsum("kacm,lcam->kl", both, both)
    np.testing.assert_allclose(
        found, expected, rtol=1e-9, atol=1e-9 * abs(expected).max()
    )


@pytest.mark.parametrize("waves", [2, 4])
def test_second_derivatives_by_products_of_pairs_of_rows(waves, monkeypatch):
    keep = np.random.default_rng(8).random((30, waves)) < 0.7
    keep[:, 0] = True
    structure = Unstructured(occasions=named(waves))
    u = 0.3 * np.random.default_rng(9).normal(size=structure.k_free)
    point = ParameterPoint(RandomCovariance.free(0), np.empty((0, 0)), u, ())
    rows = visits(30, waves, keep)
    rng = np.random.default_rng(10)
    rows = replace(rows, w=rng.normal(size=(len(rows.w), 7)))

    def sums():
        blocks = covariance_blocks(rows, structure)
        return sum(dense.PatternCurvature(block, point).arrays() for block in blocks)

    once, grams = sums(), []
    monkeypatch.setattr(dense, "_PAIRS", 0)
    monkeypatch.setattr(dense, "_pair_products", grams.append)
    np.testing.assert_allclose(once, sums(), atol=1e-10)
    assert not grams
