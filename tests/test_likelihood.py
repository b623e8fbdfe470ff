"""The likelihood, its derivatives and its shortcuts against dense matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.regression.mixed_linear_model import MixedLMParams, VCSpec

import oracle
from mixedar import AR1, CAR1, Independent, MixedLMAR
from mixedar.compress import ClusterRows, compress
from mixedar.covariance import RandomCovariance
from mixedar.estimate import estimate_at
from mixedar.likelihood import ClusterSums, cluster_sums, joint, profile
from mixedar.moments import gap_block, long_block, moment_blocks, row_block
from mixedar.moments.block import MomentBlock
from mixedar.problem import LikelihoodProblem
from mixedar.residual import MarkovStructure, ResidualStructure

Array = NDArray[np.float64]


# Designs


@dataclass(frozen=True)
class Design:
    """A model, the same for the oracle, and how components are laid out."""

    model: Any
    problem: oracle.Problem
    structure: str


def random_design(
    seed: int,
    *,
    structure: str = "ar1",
    q: int = 1,
    n_vc: int = 0,
    with_series: bool = False,
    balanced: bool = False,
    p: int = 2,
    m: int = 6,
) -> Design:
    """Unbalanced groups with gaps, rows in any order."""
    rng = np.random.default_rng([seed, q, n_vc, m])
    sizes = np.full(m, 4) if balanced else rng.integers(1, 8, size=m)
    if not balanced:
        sizes[0] = max(sizes[0], 4 + q)
    groups = np.repeat(np.arange(m), sizes)
    n = len(groups)
    series = rng.integers(0, 2, size=n) if with_series else None
    time = np.empty(n)
    for group in range(m):
        rows = np.flatnonzero(groups == group)
        if balanced:
            time[rows] = np.arange(4)
        elif structure == "car1":
            time[rows] = rng.uniform(-3.0, 9.0, size=len(rows))
        else:
            time[rows] = rng.choice(np.arange(-4, 12), size=len(rows), replace=False)
    if balanced:
        Z = np.column_stack([np.ones(n), time, time**2])[:, :q]
    else:
        Z = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])[:, :q]
    X = np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))])
    y = X.sum(axis=1) + rng.normal(size=m)[groups] + rng.normal(size=n)
    vc = {f"v{k}": rng.integers(0, 2 + k, size=n) for k in range(n_vc)}
    if not balanced:
        order = rng.permutation(n)
        groups, time, Z, X, y = groups[order], time[order], Z[order], X[order], y[order]
        series = None if series is None else series[order]
        vc = {name: labels[order] for name, labels in vc.items()}
    exog_vc = None
    if vc:
        mats, colnames = [], []
        for labels in vc.values():
            levels = [np.unique(labels[groups == g]) for g in range(m)]
            mats.append(
                [
                    (labels[groups == g][:, None] == lev[None, :]).astype(float)
                    for g, lev in enumerate(levels)
                ]
            )
            colnames.append([[str(a) for a in lev] for lev in levels])
        exog_vc = VCSpec(list(vc), colnames, mats)
    model = MixedLMAR(
        y, X, groups, exog_re=Z, exog_vc=exog_vc, time=time, residual=structure,
        series=series, use_sqrt=False,
    )  # fmt: skip
    problem = oracle.Problem(
        y=y, X=X, groups=groups, Z=Z if q else None, time=time, series=series, vc=vc
    )
    return Design(model, problem, structure)


def random_parameters(
    rng: np.random.Generator, design: Design, *, singular: bool = False
) -> oracle.Parameters:
    """Relative to a residual variance of one."""
    q = design.problem.n_re
    root = rng.normal(size=(q, q))
    if singular and q:
        root[:, -1] = 0.0
    rho = 0.0
    if design.structure == "ar1":
        rho = rng.uniform(-0.9, 0.9)
    elif design.structure == "car1":
        rho = rng.uniform(0.05, 0.95)
    vcomp = {name: rng.uniform(0.1, 2.0) for name in design.problem.vc}
    if singular and vcomp:
        vcomp[next(iter(vcomp))] = 0.0
    return oracle.Parameters(1.0, float(rho), root @ root.T if q else None, vcomp)


def pack(design: Design, params: oracle.Parameters, beta: Array | None = None) -> Array:
    q = design.problem.n_re
    rows, columns = np.tril_indices(q)
    cov = np.empty(0) if params.cov_re is None else params.cov_re[rows, columns]
    rho = [] if design.structure == "independent" else [params.rho]
    parts = [[] if beta is None else beta, cov, list(params.vcomp.values()), rho]
    return np.concatenate([np.asarray(part, dtype=float) for part in parts])


def unpack(design: Design, values: Array) -> oracle.Parameters:
    q = design.problem.n_re
    rows, columns = np.tril_indices(q)
    cov = np.zeros((q, q))
    cov[rows, columns] = cov[columns, rows] = values[: len(rows)]
    names = list(design.problem.vc)
    vcomp = dict(zip(names, values[len(rows) :], strict=False))
    rho = 0.0 if design.structure == "independent" else float(values[-1])
    return oracle.Parameters(1.0, rho, cov if q else None, vcomp)


def exact(design: Design, params: oracle.Parameters, reml: bool) -> float:
    best = oracle.profile(design.problem, params, reml)
    return oracle.loglike(design.problem, best, reml)


def exact_at(
    design: Design, params: oracle.Parameters, beta: Array, reml: bool
) -> float:
    """Fixed effects given, only the residual variance profiled."""
    n, p = design.problem.X.shape
    r = design.problem.y - design.problem.X @ beta
    rss = logdet = 0.0
    xvx = np.zeros((p, p))
    for part in oracle._parts(design.problem, params):
        rss += r[part.rows] @ np.linalg.solve(part.V, r[part.rows])
        logdet += np.linalg.slogdet(part.V)[1]
        x = design.problem.X[part.rows]
        xvx += x.T @ np.linalg.solve(part.V, x)
    df = n - p if reml else n
    if reml:
        logdet += np.linalg.slogdet(xvx)[1]
    return float(-0.5 * (df * (1 + np.log(2 * np.pi * rss / df)) + logdet))


def gradient_of(value: Callable[[Array], float], x: Array, h: float = 1e-5) -> Array:
    eye = np.eye(len(x)) * h
    return np.array([(value(x + e) - value(x - e)) / (2 * h) for e in eye])


def slopes_of(value: Callable[[Array], Array], x: Array, h: float = 1e-5) -> Array:
    """Derivatives of a vector; row k holds those of its entry k."""
    eye = np.eye(len(x)) * h
    columns = [(value(x + e) - value(x - e)) / (2 * h) for e in eye]
    return np.array(columns).T


DESIGNS = [
    {"q": 0},
    {"q": 1},
    {"q": 2},
    {"q": 3, "m": 9},
    {"q": 1, "n_vc": 1},
    {"q": 0, "n_vc": 2},
    {"q": 2, "n_vc": 1, "with_series": True},
    {"q": 1, "with_series": True},
    {"q": 2, "balanced": True, "m": 40},
    {"q": 1, "p": 1},
]
every_design = pytest.mark.parametrize(
    "kind", DESIGNS, ids=lambda kind: "-".join(f"{k}{v}" for k, v in kind.items())
)
every_structure = pytest.mark.parametrize("structure", ["independent", "ar1", "car1"])
both = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])


# The public methods


@every_design
@every_structure
@both
def test_loglike(kind: dict[str, Any], structure: str, reml: bool) -> None:
    if structure == "independent":
        kind = {**kind, "with_series": False}
    design = random_design(1, structure=structure, **kind)
    design.model.reml = reml
    rng = np.random.default_rng(2)
    for singular in (False, True):
        params = random_parameters(rng, design, singular=singular)
        expected = exact(design, params, reml)
        packed = pack(design, params)
        assert design.model.loglike(packed) == pytest.approx(expected, abs=1e-9)
        as_object = MixedLMParams.from_components(
            cov_re=params.cov_re, vcomp=np.array(list(params.vcomp.values()))
        )
        as_object.residual_params = np.array(
            [] if structure == "independent" else [params.rho]
        )
        assert design.model.loglike(as_object) == pytest.approx(expected, abs=1e-9)
        beta = rng.normal(size=design.problem.X.shape[1])
        expected = exact_at(design, params, beta, reml)
        as_object.fe_params = beta
        found = design.model.loglike(as_object, profile_fe=False)
        assert found == pytest.approx(expected, abs=1e-9)


@every_design
@pytest.mark.parametrize("structure", ["ar1", "car1"])
@both
def test_score(kind: dict[str, Any], structure: str, reml: bool) -> None:
    design = random_design(3, structure=structure, **kind)
    design.model.reml = reml
    params = random_parameters(np.random.default_rng(4), design)
    packed = pack(design, params)

    def value(x: Array) -> float:
        return exact(design, unpack(design, x), reml)

    expected = gradient_of(value, packed)
    found = design.model.score(packed)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@every_design
@both
def test_score_and_hessian_at_given_fixed_effects(
    kind: dict[str, Any], reml: bool
) -> None:
    design = random_design(5, **kind)
    design.model.reml = reml
    rng = np.random.default_rng(6)
    params = random_parameters(rng, design)
    p = design.problem.X.shape[1]
    packed = pack(design, params, rng.normal(size=p))

    def value(x: Array) -> float:
        return exact_at(design, unpack(design, x[p:]), x[:p], reml)

    found = design.model.score(packed, profile_fe=False)
    np.testing.assert_allclose(found, gradient_of(value, packed), rtol=1e-5, atol=1e-5)
    hessian, singular = design.model.hessian(packed)
    assert not singular
    numeric = slopes_of(lambda x: design.model.score(x, False), packed)
    scale = np.abs(hessian).max()
    np.testing.assert_allclose(hessian, numeric, rtol=1e-5, atol=1e-6 * scale)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-9, atol=1e-9 * scale)


@both
def test_score_in_the_factor(reml: bool) -> None:
    design = random_design(7, q=2, n_vc=1)
    model = design.model
    model.reml, model.use_sqrt = reml, True
    rng = np.random.default_rng(8)
    packed = np.concatenate([rng.uniform(0.3, 1.0, size=4), [0.4]])

    def value(x: Array) -> float:
        return float(model.loglike(x))

    np.testing.assert_allclose(
        model.score(packed), gradient_of(value, packed), rtol=1e-5, atol=1e-6
    )


def test_a_singular_covariance_is_said_to_be() -> None:
    design = random_design(9, q=2)
    params = random_parameters(np.random.default_rng(1), design, singular=True)
    _, singular = design.model.hessian(pack(design, params, np.ones(2)))
    assert singular


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    q=st.integers(0, 3),
    n_vc=st.integers(0, 2),
    with_series=st.booleans(),
    structure=st.sampled_from(["ar1", "car1"]),
    reml=st.booleans(),
    singular=st.booleans(),
)
def test_loglike_of_any_design(
    seed: int,
    q: int,
    n_vc: int,
    with_series: bool,
    structure: str,
    reml: bool,
    singular: bool,
) -> None:
    design = random_design(
        seed, structure=structure, q=q, n_vc=n_vc, with_series=with_series, m=8
    )
    design.model.reml = reml
    params = random_parameters(np.random.default_rng(seed), design, singular=singular)
    found = design.model.loglike(pack(design, params))
    assert found == pytest.approx(exact(design, params, reml), abs=1e-8)


@both
def test_estimate_at_a_point(reml: bool) -> None:
    # scale and fixed effects on the way back from internal coordinates
    design = random_design(11, q=2)
    model = design.model
    problem = LikelihoodProblem(
        model._rows, model.nobs, model.residual, model._layout(None, None), reml=reml
    )
    theta = np.array([0.6, -0.2, 0.4, 0.5])
    estimate = estimate_at(problem, theta)
    at = oracle.Parameters(
        estimate.scale, float(estimate.residual_params[0]), estimate.scale * estimate.psi
    )
    solution = oracle.solve(design.problem, at, reml)
    assert estimate.llf == pytest.approx(solution.loglike, abs=1e-9)
    np.testing.assert_allclose(estimate.beta, solution.fe_params, rtol=1e-9)
    np.testing.assert_allclose(estimate.cov_beta, solution.cov_params, rtol=1e-9)
    assert oracle.profile(design.problem, at, reml).sigma2 == pytest.approx(
        estimate.scale
    )


@both
@every_design
def test_derivatives_in_the_optimisers_coordinates(
    kind: dict[str, Any], reml: bool
) -> None:
    model = random_design(12, **kind).model
    problem = LikelihoodProblem(
        model._rows, model.nobs, model.residual, model._layout(None, None), reml=reml
    )
    theta = np.random.default_rng(3).normal(scale=0.7, size=problem.k_theta)
    here = problem.evaluate(theta, derivatives=True)

    def value(x: Array) -> float:
        return problem.evaluate(x, derivatives=False).llf

    scale = max(np.abs(here.hessian).max(), 1.0)
    np.testing.assert_allclose(
        here.gradient, gradient_of(value, theta), rtol=1e-6, atol=1e-6 * scale
    )
    numeric = slopes_of(lambda x: problem.evaluate(x, derivatives=True).gradient, theta)
    np.testing.assert_allclose(here.hessian, numeric, rtol=1e-5, atol=1e-7 * scale)


# Sums over clusters


def random_rows(seed: int, q: int, p: int = 2, m: int = 7, *, real: bool) -> ClusterRows:
    """Clusters of one or two series each, uncompressed."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, size=m)
    n = int(sizes.sum())
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    gaps = rng.uniform(0.1, 3.0, size=n) if real else rng.integers(1, 4, size=n) * 1.0
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


def sums_at(
    blocks: Any, layout: RandomCovariance, psi: Array, u: Array
) -> ClusterSums:
    values, vectors = np.linalg.eigh(psi) if len(psi) else (np.empty(0), psi)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    return cluster_sums(blocks, layout, root, u, derivatives=True)


@every_layout
@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: f"{s.code}{s.fixed:d}")
@pytest.mark.parametrize("singular", [False, True])
def test_cluster_sums(layout: str, structure: MarkovStructure, singular: bool) -> None:
    cov = LAYOUTS[layout]
    rows = random_rows(3, cov.order, real=structure.code == "car1")
    blocks = moment_blocks(rows, structure)
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
    fast = cluster_sums(
        blocks, cov, cov.factor(theta), v[k:], derivatives=False
    )
    assert fast.d == pytest.approx(d, rel=1e-11)
    np.testing.assert_allclose(fast.s, s, rtol=1e-10, atol=1e-10)
    assert len(found.d1) == len(v)
    if len(v) == 0:
        return

    def dense(x: Array) -> Array:
        value, matrix = dense_sums(rows, structure, psi_of(cov, x), x[k:])
        return np.append(matrix.ravel(), value)

    eye = np.eye(len(v))
    width = len(s)
    for i in range(len(v)):
        first = extrapolated(lambda h, e=eye[i]: difference(dense, v, h * e) / (2 * h))
        size = max(np.abs(first).max(), 1.0)
        np.testing.assert_allclose(found.d1[i], first[-1], rtol=1e-6, atol=1e-7 * size)
        np.testing.assert_allclose(
            found.s1[i].ravel(), first[:-1], rtol=1e-6, atol=1e-7 * size
        )
        for j in range(i + 1):

            def slope(x: Array, h: float, e: Array = eye[j]) -> Array:
                return difference(dense, x, h * e) / (2 * h)

            second = extrapolated(
                lambda h, e=eye[i], f=slope: (f(v + h * e, h) - f(v - h * e, h)) / (2 * h)
            )
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
    }


def assert_same_sums(found: ClusterSums, expected: ClusterSums) -> None:
    for name in ("d", "s", "d1", "s1", "d2", "s2"):
        a, b = getattr(found, name), getattr(expected, name)
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
    rows = replace(rows, weights=np.where(np.arange(11) % 3 == 0, 2.5, 0.0))
    psi = psi_of(cov, cov.values(np.full(cov.k_cov, 0.7)))
    u = np.full(structure.k_free, -0.8)
    found = {
        name: sums_at(blocks, cov, psi, u)
        for name, blocks in all_blocks(rows, structure).items()
    }
    for name in found:
        assert_same_sums(found[name], found["row"])


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
    assert_same_sums(
        sums_at(moment_blocks(small, model.residual), cov, psi, u),
        sums_at(moment_blocks(full, model.residual), cov, psi, u),
    )


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
    gaps = rng.integers(1, 4, size=(n_patterns, size)) * 1.0
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
    for derivatives in (small, full):
        assert (derivatives.offsets[1:] > derivatives.offsets[:-1]).all()
    assert_same_sums(
        sums_at(moment_blocks(small, AR1()), cov, psi, u),
        sums_at(moment_blocks(full, AR1()), cov, psi, u),
    )


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
