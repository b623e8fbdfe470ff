"""Series with a row at every step, against matrices and what is known of AR(2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mixedar.engine.blocks import curvature_blocks
from mixedar.engine.blocks.even import EvenBlock
from mixedar.engine.blocks.states import StateBlock
from mixedar.engine.compress import ClusterRows
from mixedar.residual import ARMA, DataLayout, Heteroscedastic, resolve
from mixedar.residual.variance import VarIdent

Array = Any
# clusters of two series each
LENGTHS = np.array([40, 1, 2, 37, 60, 60])


def even_rows(lengths: Array = LENGTHS, q: int = 2) -> ClusterRows:
    """Return rows at every step of their series."""
    rng, n = np.random.default_rng(5), int(lengths.sum())
    starts = np.cumsum(lengths) - lengths
    gaps = np.ones(n)
    gaps[starts] = 0.0
    offsets = np.append(starts[::2], n)
    z, w = rng.normal(size=(n, q)), rng.normal(size=(n, 3))
    return ClusterRows(z, w, gaps, offsets, np.ones(len(offsets) - 1))


@pytest.mark.parametrize("orders", [(1, 0), (0, 2), (2, 1), (1, 3), (3, 3)])
def test_products(orders: tuple[int, int]) -> None:
    structure, rows = resolve(ARMA(*orders)), even_rows()
    u = structure.start_grid()[0] + 0.3
    found = EvenBlock(rows, structure).at(u, derivatives=True)
    # values by matrices
    params, y, first = structure.from_unconstrained(u), [], 0
    logdet = 0.0
    for length in LENGTHS:
        here = slice(first, first := first + length)
        columns = np.concatenate([rows.z[here], rows.w[here]], axis=1)
        matrix = structure.correlation(np.arange(length), params)
        y.append(columns.T @ np.linalg.solve(matrix, columns))
        logdet += np.linalg.slogdet(matrix)[1]
    by_cluster = np.array(y).reshape(3, 2, 5, 5).sum(axis=1)
    np.testing.assert_allclose(found.ww[0], by_cluster[:, 2:, 2:].sum(axis=0), 1e-10)
    zz, zw = (np.moveaxis(x[0], -1, 0) for x in (found.zz, found.zw))
    np.testing.assert_allclose(zz, by_cluster[:, :2, :2], 1e-10)
    np.testing.assert_allclose(zw, by_cluster[:, 2:, :2], 1e-9, 1e-11)
    assert found.logdet[0] == pytest.approx(logdet, rel=1e-11)
    # derivatives by recursions from row to row
    other = StateBlock(rows, structure).at(u, derivatives=True)
    for name in ("zz", "zw", "ww", "logdet"):
        a, b = getattr(found, name), getattr(other, name)
        np.testing.assert_allclose(a, b, 1e-8, 1e-10 * np.abs(b).max())
    # and values alone
    alone = EvenBlock(rows, structure).at(u, derivatives=False)
    np.testing.assert_allclose(alone.ww, found.ww[:1], rtol=1e-13)
    assert alone.logdet == pytest.approx(found.logdet[:1])


@pytest.mark.parametrize("u", [np.array([5.0, -6.0]), np.array([7.0, -7.0])])
def test_where_a_process_is_hardly_stationary(u: Array) -> None:
    structure, n = resolve(ARMA(2, 0)), 50
    block = EvenBlock(even_rows(np.array([n, n]), q=0), structure)
    found = block.at(u, derivatives=True)
    # |R| = (1 - r_1^2)^(n - 1) (1 - r_2^2)^(n - 2), r = tanh(u)
    by_log = -4.0 * np.array([n - 1, n - 2])
    assert found.logdet[0] == pytest.approx(by_log @ np.log(np.cosh(u)), rel=1e-13)
    np.testing.assert_allclose(found.logdet[1:3], by_log * np.tanh(u), rtol=1e-12)


def test_what_a_state_cannot_tell_from_its_rows() -> None:
    # common factors of both sides: independent residuals, whatever they are
    structure, rows = resolve(ARMA(1, 1)), even_rows(q=0)
    for u in (0.3, 7.0):
        block = EvenBlock(rows, structure)
        found = block.at(np.array([u, -u]), derivatives=False)
        np.testing.assert_allclose(found.ww[0], rows.w.T @ rows.w, 1e-12)
        assert found.logdet[0] == pytest.approx(0.0, abs=1e-12)


def test_held_coefficients() -> None:
    params, rows = np.array([0.5, 0.2, 0.4]), even_rows()
    held = resolve(ARMA(2, 1, phi=params[:2], theta=params[2:], fixed=True))
    free = resolve(ARMA(2, 1))
    found = EvenBlock(rows, held).at(np.empty(0), derivatives=True)
    u = free.to_unconstrained(params)
    expected = EvenBlock(rows, free).at(u, derivatives=False)
    np.testing.assert_allclose(found.zw, expected.zw, rtol=1e-12)


def test_which_series_are_filtered() -> None:
    structure, rows = resolve(ARMA(2, 1)), even_rows(np.array([400, 300]))
    assert isinstance(curvature_blocks(rows, structure)[0], EvenBlock)
    late = rows.gaps.copy()
    late[7] = 2.0
    marks = np.arange(700)[:, None] % 2.0
    layout = DataLayout(rows.gaps, 400, 400.0, marks, (("a", "b"),))
    variance = VarIdent("arm").bind_layout(layout)
    for other, residual in (
        (replace(rows, gaps=late), structure),
        (replace(rows, marks=marks), Heteroscedastic(structure, variance)),
    ):
        block = curvature_blocks(other, residual)[0]
        assert isinstance(block, StateBlock)
        assert not isinstance(block, EvenBlock)
