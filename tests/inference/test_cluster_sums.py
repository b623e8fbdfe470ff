"""Bias-reduced sums of clusters against the matrices written out."""

from __future__ import annotations

import numpy as np
import pytest

from mixedar._types import FloatArray
from mixedar.inference.cluster_sums import adjusted_products


def clusters(
    rho: float, n: int, *, m: int = 5, p: int = 3
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Designs, residuals, covariances and ``M`` of m clusters of n rows."""
    rng = np.random.default_rng(n)
    h = rho ** np.abs(np.subtract.outer(range(n), range(n))) + 0.5
    x, e = rng.normal(size=(m, n, p)), rng.normal(size=(m, n))
    x[:, :, 0] = 1.0
    precision = np.einsum("mna,mnb->ab", x, np.linalg.solve(h, x))
    return x, e, np.repeat(h[None], m, axis=0), np.linalg.inv(precision)


def geometric_mean(h: FloatArray, v: FloatArray) -> FloatArray:
    """The symmetric ``A`` with ``A V A = H``."""
    root = np.linalg.cholesky(v)
    inverse = np.linalg.inv(root)
    values, vectors = np.linalg.eigh(root.T @ h @ root)
    return inverse.T @ (vectors * np.sqrt(values)) @ vectors.T @ inverse


@pytest.mark.parametrize(
    ("rho", "n", "rtol"),
    [(0.6, 8, 1e-9), (0.6, 120, 1e-9), (-0.5, 150, 1e-9), (0.995, 120, 1e-4)],
)
@pytest.mark.parametrize("alike", [True, False])
def test_adjusted_products(rho: float, n: int, rtol: float, alike: bool) -> None:
    x, e, h, bread = clusters(rho, n)
    if not alike:
        h = h * np.array([1.0, 1.0, 1.0, 1.0, 1.5])[:, None, None]
    scores, quadratic, linear = adjusted_products(x, e, h, bread)
    for i in range(len(x)):
        a = geometric_mean(h[i], h[i] - x[i] @ bread @ x[i].T)
        ax = a @ np.linalg.solve(h[i], x[i])
        for found, expected in (
            (scores, ax.T @ e[i]),
            (quadratic, ax.T @ h[i] @ ax),
            (linear, x[i].T @ ax),
        ):
            atol = rtol * np.abs(expected).max()
            np.testing.assert_allclose(found[..., i], expected, atol=atol)


@pytest.mark.parametrize("n", [10, 130])
def test_a_coefficient_of_one_cluster_is_left_out(n: int) -> None:
    x, e, h, _ = clusters(0.7, n, p=2)
    x[1:, :, 1] = 0.0
    bread = np.linalg.inv(np.einsum("mna,mnb->ab", x, np.linalg.solve(h, x)))
    whitened = np.linalg.solve(h[0], x[0])
    scores, quadratic, _ = adjusted_products(x, e, h, bread)
    v = h[0] - x[0] @ bread @ x[0].T
    # A V A = H on what is left
    values, vectors = np.linalg.eigh(h[0])
    root = (vectors * np.sqrt(values)) @ vectors.T
    b, q = np.linalg.eigh(root @ v @ root)
    a = root @ (q[:, 1:] / np.sqrt(b[1:])) @ q[:, 1:].T @ root
    np.testing.assert_allclose(scores[:, 0], (a @ whitened).T @ e[0], rtol=1e-6)
    expected = (a @ whitened).T @ h[0] @ (a @ whitened)
    np.testing.assert_allclose(quadratic[..., 0], expected, rtol=1e-6)
