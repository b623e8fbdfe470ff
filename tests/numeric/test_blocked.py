"""Factors and products block by block: NumPy's, in pieces that start no threads."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from mixedar.numeric import blocked
from mixedar.numeric.linalg import THREADS_FROM, THREADS_PAY, product, r_factor

SIZES = [1, 2, 63, 64, 65, 128, 150]


def covariance(n, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, 2 * n))
    return x @ x.T / n + np.eye(n)


@pytest.fixture(params=[THREADS_PAY, 2**12], ids=["blocks", "halves"])
def pay(request, monkeypatch):
    """Matrices cut into blocks of 64, or into halves as only larger ones are."""
    monkeypatch.setattr(blocked, "THREADS_PAY", request.param)


@pytest.mark.parametrize("n", SIZES)
def test_roots_and_what_is_made_of_them(n, pay):
    matrix, other = covariance(n), covariance(n, 1)
    columns = np.random.default_rng(2).normal(size=(n, 3))
    lower = np.linalg.cholesky(matrix)
    inverse, logdet = blocked.inverse_root(matrix)
    white, same = blocked.whitened_columns(matrix, columns)
    np.testing.assert_allclose(inverse @ lower, np.eye(n), atol=1e-12)
    assert not np.triu(inverse, 1).any()
    np.testing.assert_allclose(white, np.linalg.solve(lower, columns), atol=1e-12)
    expected = np.linalg.slogdet(matrix)[1]
    np.testing.assert_allclose([logdet, same], expected, rtol=1e-12)
    between = blocked.between(inverse, other)
    np.testing.assert_allclose(between, inverse @ other @ inverse.T, atol=1e-12)
    gram = blocked.gram_of_lower(inverse)
    np.testing.assert_allclose(gram, np.linalg.inv(matrix), atol=1e-12)
    outer = blocked.outer_of_lower(inverse)
    np.testing.assert_allclose(outer, inverse @ inverse.T, atol=1e-12)


@pytest.mark.parametrize("n", [3, 20, 70])
def test_roots_of_stacks(n):
    stack = np.array([covariance(n, seed) for seed in range(4)])
    inverse, logs = blocked.inverse_roots(stack)
    lower = np.linalg.cholesky(stack)
    np.testing.assert_allclose(inverse @ lower, [np.eye(n)] * 4, atol=1e-12)
    np.testing.assert_allclose(logs, np.linalg.slogdet(stack)[1], rtol=1e-12)
    outer = blocked.outers_of_lower(inverse)
    np.testing.assert_allclose(outer, inverse @ inverse.transpose(0, 2, 1), atol=1e-12)


@pytest.mark.parametrize("n", [3, 100])
def test_no_root_of_a_matrix_that_is_not_definite(n, pay):
    matrix = covariance(n)
    matrix[-1, -1] = 0.0
    with pytest.raises(np.linalg.LinAlgError):
        blocked.inverse_root(matrix)
    with pytest.raises(np.linalg.LinAlgError):
        blocked.whitened_columns(matrix, np.ones((n, 1)))


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 70, 80, 90), (1, 300, 40, 300)])
def test_products_of_stacks(shape):
    g, i, j, k = shape
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(3, g, i, j)), rng.normal(size=(g, j, k))
    np.testing.assert_allclose(blocked.products(a, b), a @ b, atol=1e-12)


class Recorded(np.ndarray):
    """Keeps how many multiplications each product takes."""

    work: ClassVar[list[int]] = []

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        plain = [np.asarray(x) for x in inputs]
        if ufunc is np.matmul:
            self.work.append(plain[0].shape[0] * plain[0].shape[1] * plain[1].shape[1])
        if out is not None:
            kwargs["out"] = tuple(np.asarray(x) for x in out)
        found = getattr(ufunc, method)(*plain, **kwargs)
        return found.view(Recorded)


@pytest.mark.parametrize(
    "shape",
    [(224, 224, 224), (224, 224, 57), (500, 57, 500), (30, 9000, 30), (9000, 9, 90)],
)
def test_pieces_of_a_product_start_no_threads(shape):
    i, j, k = shape
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(i, j)), rng.normal(size=(j, k))
    Recorded.work.clear()
    found = product(a.view(Recorded), b.view(Recorded))
    np.testing.assert_allclose(np.asarray(found), a @ b, atol=1e-10)
    assert max(Recorded.work) <= THREADS_FROM
    assert sum(Recorded.work) == i * j * k


@pytest.mark.parametrize("shape", [(3, 5), (200, 7), (400, 120), (90, 120)])
def test_r_factors(shape):
    x = np.random.default_rng(5).normal(size=shape)
    factor = r_factor(x)
    assert factor.shape == (min(shape), shape[1])
    assert not np.tril(factor, -1).any()
    np.testing.assert_allclose(factor.T @ factor, x.T @ x, atol=1e-10)
