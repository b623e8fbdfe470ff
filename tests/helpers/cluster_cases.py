"""Clusters, layouts of Psi, and the sums over clusters by definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mixedar import AR1, CAR1
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.likelihood import ClusterSums, cluster_sums
from mixedar.residual import ResidualStructure

Array = NDArray[Any]

both = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])


def random_rows(
    seed: int, q: int, p: int = 2, m: int = 7, *, real: bool
) -> ClusterRows:
    """Clusters of one or two series each, uncompressed."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, size=m)
    n = int(sizes.sum())
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    gaps: Array = rng.uniform(0.1, 3.0, size=n)
    if not real:
        gaps = np.ceil(gaps)
    gaps[offsets[:-1]] = 0.0
    inner = rng.uniform(size=n) < 0.15  # another series begins
    gaps[inner] = 0.0
    return ClusterRows(
        rng.normal(size=(n, q)),
        rng.normal(size=(n, p + 1)),
        gaps,
        offsets,
        np.ones(m),
    )


def dense_sums(
    rows: ClusterRows, structure: ResidualStructure, psi: Array, u: Array
) -> tuple[float, Array]:
    """Definition of D and S."""
    params = structure.from_unconstrained(u)
    total, sums = 0.0, np.zeros((rows.w.shape[1],) * 2)
    for start, end in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
        gaps = rows.gaps[start:end]
        series = np.cumsum(gaps == 0.0)
        R = structure.correlation(np.cumsum(gaps), params)
        H = np.where(series[:, None] == series[None, :], R, 0.0)
        H = H + rows.z[start:end] @ psi @ rows.z[start:end].T
        w = rows.w[start:end]
        total += float(np.linalg.slogdet(H)[1])
        sums += w.T @ np.linalg.solve(H, w)
    return total, sums


LAYOUTS = {
    "none": RandomCovariance.free(0),
    "one": RandomCovariance.free(1),
    "two": RandomCovariance.free(2),
    "three": RandomCovariance.free(3),
    "component": RandomCovariance.free(0, (3,)),
    "mixed": RandomCovariance.free(2, (2, 1)),
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
STRUCTURES = [AR1(), CAR1(), AR1(0.4, fixed=True)]


def psi_of(layout: RandomCovariance, v: Array) -> Array:
    return np.asarray(np.tensordot(v[: layout.k_cov], layout.directions, axes=1))


def sums_at(blocks: Any, layout: RandomCovariance, psi: Array, u: Array) -> ClusterSums:
    values, vectors = np.linalg.eigh(psi) if len(psi) else (np.empty(0), psi)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    return cluster_sums(blocks, layout, root, u, derivatives=True)


def assert_same_sums(found: ClusterSums, expected: ClusterSums) -> None:
    for name in ("d", "s", "d1", "s1", "d2", "s2"):
        a, b = getattr(found, name), getattr(expected, name)
        if np.size(a) == np.size(b) == 0:
            continue
        np.testing.assert_allclose(
            a, b, rtol=1e-9, atol=1e-10 * max(np.abs(b).max(initial=0.0), 1.0),
            err_msg=name,
        )  # fmt: skip
