"""Cholesky factors of sparse matrices against dense ones."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse

from mixedar.numeric.sparse import SparseCholesky


def random_graph(n: int, edges: int, seed: int) -> sparse.csc_array:
    rng = np.random.default_rng(seed)
    i, j = rng.integers(0, n, (2, edges))
    w = sparse.coo_array((rng.normal(size=edges), (i, j)), shape=(n, n)).tocsc()
    return (w @ w.T + sparse.eye_array(n)).tocsc()


def lattice(side: int) -> sparse.csc_array:
    off = -np.ones(side - 1)
    line = sparse.diags_array([off, off], offsets=[-1, 1])
    eye = sparse.eye_array(side)
    w = sparse.kron(line, eye) + sparse.kron(eye, line)
    return (w + 4.1 * sparse.eye_array(side**2)).tocsc()


MATRICES = {
    "one": random_graph(1, 0, 0),
    "diagonal": random_graph(30, 0, 0),
    "dense": random_graph(40, 800, 1),
    "filled at once": random_graph(400, 250, 2),  # a sparse head and a dense tail
    "in pieces": sparse.block_diag(
        [lattice(4), random_graph(30, 40, 3), np.eye(3)], format="csc"
    ),
    "never filled": lattice(30),
}


@pytest.mark.parametrize("name", MATRICES)
def test_determinants_and_solutions(name: str) -> None:
    pattern = MATRICES[name]
    n = pattern.shape[0]
    factors, b = SparseCholesky(pattern), np.random.default_rng(4).normal(size=(n, 3))
    for more in (0.0, 2.0):  # the pattern serves several matrices
        matrix = (pattern + more * sparse.eye_array(n)).tocsc()
        dense = matrix.toarray()
        found = factors.factor(matrix)
        np.testing.assert_allclose(found, np.linalg.slogdet(dense)[1], 1e-12, 1e-12)
        np.testing.assert_allclose(factors.solve(b), np.linalg.solve(dense, b), 1e-9)


@pytest.mark.parametrize("name", ["diagonal", "dense", "filled at once", "in pieces"])
def test_what_is_not_definite_is_refused(name: str) -> None:
    pattern = MATRICES[name]
    n = pattern.shape[0]
    low = float(np.linalg.eigvalsh(pattern.toarray())[0])
    factors = SparseCholesky(pattern)
    with pytest.raises(np.linalg.LinAlgError):
        factors.factor((pattern - (low + 0.01) * sparse.eye_array(n)).tocsc())
    found = factors.factor(pattern)  # and the next one is factored as ever
    np.testing.assert_allclose(found, np.linalg.slogdet(pattern.toarray())[1], 1e-12)


def test_pickles_begin_without_factors() -> None:
    pattern = MATRICES["filled at once"]
    factors = SparseCholesky(pattern)
    first = factors.factor(pattern)
    assert pickle.loads(pickle.dumps(factors)).factor(pattern) == first
