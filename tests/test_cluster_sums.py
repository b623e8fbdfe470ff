"""Sums over clusters, by every shortcut, against dense matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mixedar import AR1, CAR1, Independent
from mixedar.compress import ClusterRows, compress
from mixedar.covariance import RandomCovariance
from mixedar.likelihood import ClusterSums, cluster_sums, joint, profile
from mixedar.moments import (
    dense_block,
    gap_block,
    likelihood_blocks,
    long_block,
    moment_blocks,
    row_block,
)
from mixedar.moments.block import MomentBlock
from mixedar.problem import LikelihoodProblem
from mixedar.residual import MarkovStructure, ResidualStructure
from random_designs import exact, pack, random_design, random_parameters

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


@every_layout
@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: f"{s.code}{s.fixed:d}")
@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("choose", [moment_blocks, likelihood_blocks])
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
) -> dict[str, list[MomentBlock]]:
    """Every kind of block over all clusters."""
    everyone = np.arange(rows.n_clusters)
    distinct = np.unique(rows.gaps[rows.gaps > 0.0])
    halves = np.array_split(everyone, 2)
    return {
        "gap": [gap_block.GapBlock(rows, everyone, structure, distinct)],
        "two gaps": [gap_block.GapBlock(rows, h, structure, distinct) for h in halves],
        "row": [row_block.RowBlock(rows, everyone, structure)],
        "long": [long_block.LongBlock(rows, everyone, structure)],
        "dense": [dense_block.DenseBlock(rows, patterns_of(rows), structure)],
    }


def patterns_of(rows: ClusterRows) -> list[NDArray[np.intp]]:
    """Clusters that follow the first one of their pattern, which has the weight."""
    starts = np.flatnonzero(rows.weights > 0.0)
    return np.split(np.arange(rows.n_clusters), starts[1:])


def assert_same_sums(found: ClusterSums, expected: ClusterSums) -> None:
    for name in ("d", "s", "d1", "s1", "d2", "s2"):
        a, b = getattr(found, name), getattr(expected, name)
        if np.size(a) == np.size(b) == 0:
            continue
        np.testing.assert_allclose(
            a, b, rtol=1e-9, atol=1e-10 * max(np.abs(b).max(initial=0.0), 1.0),
            err_msg=name,
        )  # fmt: skip


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
        monkeypatch.setattr(long_block, "_CHUNK", 3)
        monkeypatch.setattr(row_block, "_MAX_KEPT", 0)
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
    expected = sums_at(moment_blocks(full, structure), cov, psi, u)
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
        (10**6, 10**9, gap_block.GapBlock),
        (0, 10**9, row_block.RowBlock),
        (0, 0, long_block.LongBlock),
    ],
)
def test_thresholds_choose_blocks(
    sets: int, long: int, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mixedar.moments as moments

    monkeypatch.setattr(moments, "_MAX_GAP_SETS", sets)
    monkeypatch.setattr(moments, "_LONG", long)
    design = random_design(21, q=2, balanced=True, m=30)
    rows = design.model._rows
    assert {type(block) for block in moment_blocks(rows, AR1())} == {kind}
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
        blocks = moment_blocks(rows, structure)
        where = np.concatenate([block.clusters for block in blocks])
        assert sorted(where.tolist()) == list(range(50))


# Compression


def uncompressed(model: Any) -> ClusterRows:
    sort = model._grouped.sort
    return ClusterRows(
        sort(model._random_design()),
        np.column_stack([sort(model.exog), sort(model.endog)]),
        model._grouped.gaps,
        model._grouped.offsets,
        np.ones(model.n_groups),
    )


@pytest.mark.parametrize("structure", ["ar1", "independent"])
@pytest.mark.parametrize(
    "kind",
    [
        {"q": 0, "balanced": True, "m": 60},
        {"q": 2, "balanced": True, "m": 60},
        {"q": 3, "balanced": True, "m": 60, "p": 1},
        {"q": 1, "m": 300},
        {"q": 2, "m": 60},
    ],
)
def test_compression_loses_nothing(kind: dict[str, Any], structure: str) -> None:
    model = random_design(31, structure=structure, **kind).model
    full, small = uncompressed(model), model._rows
    if kind.get("balanced"):
        assert small.n_clusters < 20
    assert small.weights.sum() == full.weights.sum() == model.n_groups
    cov = model._layout(None, None)
    psi = psi_of(cov, cov.values(np.full(cov.k_cov, 0.6)))
    u = np.full(model.residual.k_free, 0.3)
    expected = sums_at(moment_blocks(full, model.residual), cov, psi, u)
    for choose in (moment_blocks, likelihood_blocks):
        assert_same_sums(sums_at(choose(small, model.residual), cov, psi, u), expected)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    m=st.integers(1, 60),
    n_patterns=st.integers(1, 3),
    size=st.integers(1, 4),
    p=st.integers(0, 2),
)
def test_compression_of_a_few_patterns(
    seed: int, m: int, n_patterns: int, size: int, p: int
) -> None:
    rng = np.random.default_rng(seed)
    pattern = rng.integers(0, n_patterns, size=m)
    z = rng.normal(size=(n_patterns, size, 2))[pattern].reshape(-1, 2)
    gaps: Array = rng.integers(1, 4, size=(n_patterns, size)) * 1.0
    gaps[:, 0] = 0.0
    x, y = rng.normal(size=(m * size, p)), rng.normal(size=m * size)
    if p:
        x[:, 0] = 1.0
    offsets = np.arange(m + 1) * size
    full = ClusterRows(
        z, np.column_stack([x, y]), gaps[pattern].ravel(), offsets, np.ones(m)
    )
    small = compress(z, x, y, gaps[pattern].ravel(), offsets)
    assert small.n_clusters <= m
    cov = LAYOUTS["two"]
    psi = np.array([[1.0, 0.3], [0.3, 0.5]])
    u = np.array([-0.6])
    for rows in (small, full):
        assert (rows.offsets[1:] > rows.offsets[:-1]).all()
    expected = sums_at(moment_blocks(full, AR1()), cov, psi, u)
    for choose in (moment_blocks, likelihood_blocks):
        assert_same_sums(sums_at(choose(small, AR1()), cov, psi, u), expected)


def test_compression_of_large_and_small_columns() -> None:
    # columns of very different sizes, and one that is the same everywhere
    rng = np.random.default_rng(2)
    m, size = 400, 4
    x = np.column_stack(
        [
            np.ones(m * size),
            2000.0 + np.tile(np.arange(size), m),
            1e-7 * rng.normal(size=m * size),
            1e8 * rng.normal(size=m * size),
        ]
    )
    y = 1e5 + rng.normal(size=m * size)
    z = np.tile(np.column_stack([np.ones(size), 2000.0 + np.arange(size)]), (m, 1))
    gaps = np.tile([0.0, 1.0, 1.0, 1.0], m)
    offsets = np.arange(m + 1) * size
    full = ClusterRows(z, np.column_stack([x, y]), gaps, offsets, np.ones(m))
    small = compress(z, x, y, gaps, offsets)
    assert small.n_clusters < 30
    cov = LAYOUTS["two"]
    found = []
    for rows in (small, full):
        problem = LikelihoodProblem(rows, m * size, AR1(), cov, reml=True)
        theta = problem.theta_from(np.array([0.5, 0.1, 0.3]), np.array([0.4]))
        found.append(problem.evaluate(theta, derivatives=True))
    assert found[0].llf == pytest.approx(found[1].llf, abs=1e-6)
    # the sign of a column of the factor is a matter of taste
    np.testing.assert_allclose(
        np.abs(found[0].gradient), np.abs(found[1].gradient), rtol=1e-6, atol=1e-5
    )


# Profiling


@both
def test_profile_is_the_maximum_of_joint(reml: bool) -> None:
    rows = random_rows(4, 1, m=12, real=False)
    cov = LAYOUTS["one"]
    n = len(rows.gaps)
    sums = sums_at(moment_blocks(rows, AR1()), cov, np.array([[0.8]]), np.array([0.3]))
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
