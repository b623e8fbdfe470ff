"""Sums over clusters, by every shortcut, against dense matrices."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.cluster_cases import (
    LAYOUTS,
    STRUCTURES,
    assert_same_sums,
    dense_sums,
    every_layout,
    psi_of,
    random_rows,
    sums_at,
)
from helpers.random_designs import exact, pack, random_design, random_parameters
from mixedar import AR1, CAR1, Independent
from mixedar.engine.blocks import likelihood_blocks, markov, product_blocks, short
from mixedar.engine.blocks.base import LikelihoodBlock
from mixedar.engine.compress import ClusterRows, compress
from mixedar.engine.likelihood import cluster_sums, joint, profile
from mixedar.residual import MarkovStructure

Array = NDArray[Any]

both = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])


@every_layout
@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: f"{s.code}{s.fixed:d}")
@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("choose", [product_blocks, likelihood_blocks])
def test_cluster_sums(
    layout: str, structure: MarkovStructure, singular: bool, choose: Any
) -> None:
    cov = LAYOUTS[layout]
    rows = random_rows(3, cov.order, real=structure.code == "car1")
    blocks = choose(rows, structure)
    rng = np.random.default_rng(9)
    theta = rng.uniform(0.3, 1.2, size=cov.k_cov)
    if singular:
        theta[-1:] = 0.0
    v = np.concatenate([cov.values(theta), np.full(structure.k_free, 0.4)])
    k = cov.k_cov
    found = sums_at(blocks, cov, psi_of(cov, v), v[k:])
    d, s = dense_sums(rows, structure, psi_of(cov, v), v[k:])
    assert found.d == pytest.approx(d, rel=1e-11)
    np.testing.assert_allclose(found.s, s, rtol=1e-10, atol=1e-10)
    fast = cluster_sums(blocks, cov, cov.factor(theta), v[k:], derivatives=False)
    assert fast.d == pytest.approx(d, rel=1e-11)
    np.testing.assert_allclose(fast.s, s, rtol=1e-10, atol=1e-10)
    assert len(found.d1) == len(v)
    if len(v) == 0:
        return

    def dense(x: Array) -> Array:
        value, matrix = dense_sums(rows, structure, psi_of(cov, x), x[k:])
        return np.append(matrix.ravel(), value)

    def slope(x: Array, h: float, e: Array) -> Array:
        return difference(dense, x, h * e) / (2 * h)

    eye = np.eye(len(v))
    width = len(s)
    for i in range(len(v)):

        def first_at(h: float, i: int = i) -> Array:
            return slope(v, h, eye[i])

        first = extrapolated(first_at)
        size = max(np.abs(first).max(), 1.0)
        np.testing.assert_allclose(found.d1[i], first[-1], rtol=1e-6, atol=1e-7 * size)
        np.testing.assert_allclose(
            found.s1[i].ravel(), first[:-1], rtol=1e-6, atol=1e-7 * size
        )
        for j in range(i + 1):

            def second_at(h: float, i: int = i, j: int = j) -> Array:
                up, down = (
                    slope(v + h * eye[i], h, eye[j]),
                    slope(v - h * eye[i], h, eye[j]),
                )
                return (up - down) / (2 * h)

            second = extrapolated(second_at)
            size = max(np.abs(second).max(), 1.0)
            close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5 * size}
            np.testing.assert_allclose(found.d2[i, j], second[-1], **close)
            np.testing.assert_allclose(found.d2[j, i], second[-1], **close)
            for a, b in ((i, j), (j, i)):
                np.testing.assert_allclose(
                    found.s2[a, b], second[:-1].reshape(width, width), **close
                )


def difference(f: Callable[[Array], Array], x: Array, step: Array) -> Array:
    return f(x + step) - f(x - step)


def extrapolated(quotient: Callable[[float], Array], h: float = 3e-4) -> Array:
    """Richardson: the error of a central difference falls to the fourth order."""
    return np.asarray((4.0 * quotient(h / 2.0) - quotient(h)) / 3.0)


def all_blocks(
    rows: ClusterRows, structure: MarkovStructure
) -> dict[str, list[LikelihoodBlock]]:
    """Every kind of block over all clusters."""
    by_products = partial(product_blocks, rows, structure)
    everyone = np.arange(rows.n_clusters)
    distinct = np.unique(rows.gaps[rows.gaps > 0.0])
    halves = np.array_split(everyone, 2)
    return {
        "gap": [markov.GapBlock(rows, everyone, structure, distinct)],
        "two gaps": [markov.GapBlock(rows, h, structure, distinct) for h in halves],
        "row": [markov.RowBlock(rows, everyone, structure)],
        "long": [markov.LongBlock(rows, everyone, structure)],
        "dense": [short.DenseBlock(rows, patterns_of(rows), structure, by_products)],
    }


def patterns_of(rows: ClusterRows) -> list[NDArray[np.intp]]:
    """Clusters that follow the first one of their pattern, which has the weight."""
    starts = np.flatnonzero(rows.weights > 0.0)
    return np.split(np.arange(rows.n_clusters), starts[1:])


@every_layout
@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: f"{s.code}{s.fixed:d}")
@pytest.mark.parametrize("tiny", [False, True])
def test_blocks_agree(
    layout: str,
    structure: MarkovStructure,
    tiny: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if tiny:  # chunks that end inside series, products formed anew
        monkeypatch.setattr(markov, "_CHUNK", 3)
        monkeypatch.setattr(markov, "_MAX_KEPT", 0)
    cov = LAYOUTS[layout]
    rows = random_rows(5, cov.order, m=11, real=structure.code == "car1")
    psi = psi_of(cov, cov.values(np.full(cov.k_cov, 0.7)))
    u = np.full(structure.k_free, -0.8)
    found = {
        name: sums_at(blocks, cov, psi, u)
        for name, blocks in all_blocks(rows, structure).items()
    }
    for name in found:
        assert_same_sums(found[name], found["row"])


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: f"{s.code}{s.fixed:d}")
def test_blocks_agree_on_pseudo_clusters(structure: MarkovStructure) -> None:
    # two patterns of 60 and 40 clusters, compressed, and one cluster of its own
    rng = np.random.default_rng(14)
    pattern = np.repeat([0, 1, 2], [60, 40, 1])
    z = rng.normal(size=(3, 3, 2))[pattern].reshape(-1, 2)
    gaps = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 0.0], [0.0, 3.0, 1.0]])[
        pattern
    ].ravel()
    offsets = np.arange(102) * 3
    x, y = rng.normal(size=(303, 2)), rng.normal(size=303)
    small = compress(z, x, y, gaps, offsets)
    assert small.n_clusters < 25
    full = ClusterRows(z, np.column_stack([x, y]), gaps, offsets, np.ones(101))
    cov = LAYOUTS["two"]
    psi = np.array([[0.8, -0.2], [-0.2, 0.5]])
    u = np.full(structure.k_free, 0.7)
    expected = sums_at(product_blocks(full, structure), cov, psi, u)
    for blocks in (*all_blocks(small, structure).values(),
                   likelihood_blocks(small, structure)):  # fmt: skip
        assert_same_sums(sums_at(blocks, cov, psi, u), expected)


@pytest.mark.parametrize("variance", [1e-10, 1.0, 1e6, 1e10])
@pytest.mark.parametrize("u", [-7.0, 0.0, 7.0])
def test_blocks_agree_far_out(variance: float, u: float) -> None:
    """Large and small random effects, correlations of almost one."""
    rows = random_rows(6, 2, m=30, real=False)
    cov = LAYOUTS["two"]
    factor = np.sqrt(variance) * np.array([[1.0, 0.0], [0.5, 0.3]])
    found = []
    for blocks in all_blocks(rows, AR1()).values():
        sums = cluster_sums(blocks, cov, factor, np.array([u]), derivatives=True)
        found.append(profile(sums, len(rows.gaps), reml=True))
    for other in found[1:]:
        assert other.llf == pytest.approx(found[0].llf, abs=1e-6)
        np.testing.assert_allclose(other.beta, found[0].beta, rtol=1e-5, atol=1e-7)
        size = np.abs(found[0].gradient).max()
        np.testing.assert_allclose(
            other.gradient, found[0].gradient, rtol=1e-4, atol=1e-5 * size
        )


@pytest.mark.parametrize(
    ("sets", "long", "kind"),
    [
        (10**6, 10**9, markov.GapBlock),
        (0, 10**9, markov.RowBlock),
        (0, 0, markov.LongBlock),
    ],
)
def test_thresholds_choose_blocks(
    sets: int, long: int, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mixedar.engine.blocks as moments

    monkeypatch.setattr(moments, "_MAX_GAP_SETS", sets)
    monkeypatch.setattr(moments, "_LONG", long)
    design = random_design(21, q=2, balanced=True, m=30)
    rows = design.model.arrays.compressed
    assert {type(block) for block in product_blocks(rows, AR1())} == {kind}
    rng = np.random.default_rng(1)
    params = random_parameters(rng, design)
    found = design.model.loglike(pack(design, params))
    assert found == pytest.approx(exact(design, params, True), abs=1e-9)
    monkeypatch.setattr(moments, "_DENSE_ROWS", 0)
    fit = design.model.fit()
    monkeypatch.undo()
    assert fit.llf == pytest.approx(design.model.fit().llf, abs=1e-8)


def test_every_cluster_is_in_one_block() -> None:
    rows = random_rows(8, 2, m=50, real=False)
    for structure in (AR1(), Independent()):
        blocks = product_blocks(rows, structure)
        where = np.concatenate([block.clusters for block in blocks])
        assert sorted(where.tolist()) == list(range(50))


def peak_numbers(rows: ClusterRows, u: Array) -> float:
    """Numbers that the likelihood of CAR(1) residuals holds at once."""
    structure = CAR1()
    cov = LAYOUTS["one"]
    tracemalloc.start()
    blocks = likelihood_blocks(rows, structure)
    cluster_sums(blocks, cov, np.eye(1), u, derivatives=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 8


@pytest.mark.parametrize("rho", [0.5, 1.0 - 1e-9])
@pytest.mark.parametrize("p", [2, 60])
def test_memory_grows_with_the_numbers_of_the_rows(rho: float, p: int) -> None:
    """Whichever blocks are chosen, also where matrices written out lose digits."""
    u = CAR1().to_unconstrained(np.array([rho]))
    for m in (100, 400, 1600):
        rows = random_rows(4, 1, p=p, m=m, real=True)
        numbers = rows.z.size + rows.w.size
        # matrices written out are few; no term for each of the distinct gaps
        assert peak_numbers(rows, u) < 20 * numbers + 2**20


# Profiling


@both
def test_profile_is_the_maximum_of_joint(reml: bool) -> None:
    rows = random_rows(4, 1, m=12, real=False)
    cov = LAYOUTS["one"]
    n = len(rows.gaps)
    sums = sums_at(product_blocks(rows, AR1()), cov, np.array([[0.8]]), np.array([0.3]))
    best = profile(sums, n, reml=reml)
    value, gradient, hessian = joint(sums, best.beta, n, reml=reml)
    assert value == pytest.approx(best.llf, abs=1e-11)
    np.testing.assert_allclose(gradient[:2], 0.0, atol=1e-10)
    np.testing.assert_allclose(gradient[2:], best.gradient, rtol=1e-9, atol=1e-9)
    # the profile's Hessian is the Schur complement of the joint one
    a, b, c = hessian[:2, :2], hessian[:2, 2:], hessian[2:, 2:]
    np.testing.assert_allclose(
        c - b.T @ np.linalg.solve(a, b), best.hessian, rtol=1e-8, atol=1e-9
    )
    for shift in np.eye(2) * 0.01:
        assert joint(sums, best.beta + shift, n, reml=reml)[0] < value
