"""Groups at some of common visits: the sums of patterns, however they are summed."""

from __future__ import annotations

import numpy as np
import pytest

from mixedar.engine.blocks import grid
from mixedar.engine.blocks.base import ParameterPoint
from mixedar.engine.blocks.dense import covariance_blocks
from mixedar.engine.blocks.grid import common_positions, with_groups_summed
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.likelihood import cluster_sums
from mixedar.residual import (
    AnteDependence,
    Heteroscedastic,
    Toeplitz,
    Unstructured,
)
from mixedar.residual.variance import VarExp

VISITS = 5
NAMED = tuple(str(k) for k in range(VISITS))


def visits(q, *, marks, seed=0):
    """Twelve groups that miss some of five visits, but never the first."""
    rng = np.random.default_rng(seed)
    seen = rng.random((12, VISITS)) < 0.7
    seen[:, 0] = True
    _, visit = np.nonzero(seen)
    offsets = np.concatenate([[0], np.cumsum(seen.sum(axis=1))])
    gaps = np.diff(visit, prepend=0).astype(float)
    gaps[offsets[:-1]] = 0.0
    z = visit[:, None] ** np.arange(q, dtype=float)
    w = rng.normal(size=(len(visit), 3))
    shown = np.repeat(visit[:, None].astype(float), marks, axis=1)
    return ClusterRows(z, w, gaps, offsets, np.ones(12), shown if marks else None)


STRUCTURES = {
    "toep": (Toeplitz(unit=1, lags=VISITS - 1), 0),
    "ad": (AnteDependence(occasions=NAMED), 1),
    "un": (
        Heteroscedastic(Unstructured(occasions=NAMED), VarExp("visit")),
        2,
    ),
}


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("q", [0, 2])
def test_sums_and_derivatives_are_those_of_patterns(name, q, monkeypatch):
    monkeypatch.setattr(grid, "_WORTH", 0.0)
    monkeypatch.setattr(grid, "grid_pays", lambda *_: True)
    structure, marks = STRUCTURES[name]
    rows = visits(q, marks=marks)
    blocks = covariance_blocks(rows, structure)
    summed = with_groups_summed(rows, structure, blocks)
    assert len(summed) == 1
    assert summed[0] is not blocks[0]
    covariance = RandomCovariance.free(q)
    rng = np.random.default_rng(1)
    factor = np.tril(rng.normal(size=(q, q)))
    point = ParameterPoint(covariance, factor, 0.3 * rng.normal(size=structure.k_free))
    weight = rng.normal(size=(3, 3))
    weight = weight + weight.T
    for derivatives in (False, True):
        ours, theirs = (
            cluster_sums(b, *point[:3], derivatives=derivatives)
            for b in (summed, blocks)
        )
        for part in ("d", "s", "d1", "s1"):
            np.testing.assert_allclose(
                getattr(ours, part), getattr(theirs, part), rtol=1e-9, atol=1e-10
            )
    for contracted in (None, weight):
        np.testing.assert_allclose(
            ours.second(contracted), theirs.second(contracted), rtol=1e-8, atol=1e-9
        )
    np.testing.assert_allclose(ours.s2, theirs.s2, rtol=1e-9, atol=1e-10)


def test_positions_that_are_not_common():
    structure = STRUCTURES["ad"][0]
    rows = visits(0, marks=1)
    assert len(common_positions(rows, structure).gaps) == VISITS
    twice = rows.marks.copy()
    twice[rows.offsets[1] - 1] = twice[rows.offsets[1] - 2]
    vars(rows)["marks"] = twice
    assert common_positions(rows, structure) is None
    rows.gaps[1] = 0.0  # a group of two series
    assert common_positions(rows, structure) is None


def test_sums_pay_for_many_patterns_and_parameters():
    rows = visits(0, marks=1)
    structure = STRUCTURES["ad"][0]
    blocks = covariance_blocks(rows, structure)
    assert with_groups_summed(rows, structure, blocks) is blocks  # hardly any work
    assert grid.grid_pays(blocks * 100, 400, VISITS)
    assert not grid.grid_pays(blocks * 100, 1, 60)
