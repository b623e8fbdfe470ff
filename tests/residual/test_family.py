"""Every structure that is given by its cells keeps the contract."""

from __future__ import annotations

import pickle
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.tsa.arima_process import arma_acf

from helpers import contracts
from helpers.bound_structures import CASES, FREE, TIME, N, bound
from helpers.cluster_cases import assert_same_sums
from mixedar.engine.blocks import likelihood_blocks
from mixedar.engine.blocks.base import ParameterPoint
from mixedar.engine.blocks.dense import covariance_blocks
from mixedar.engine.blocks.series import SeriesBlock
from mixedar.engine.blocks.states import StateBlock
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.likelihood import cluster_sums
from mixedar.engine.residuals import (
    ResidualMatrices,
    correlated_residuals,
    pair_correlations,
    whiten_series,
)
from mixedar.engine.rows import GroupedRows
from mixedar.exceptions import StructureError, UnsupportedError
from mixedar.residual import (
    AR1,
    ARMA,
    STRUCTURES,
    AnteDependence,
    CompoundSymmetry,
    DataLayout,
    Exponential,
    Heteroscedastic,
    Linear,
    MarkovStructure,
    Matern,
    ResidualStructure,
    Toeplitz,
    Unstructured,
    resolve,
)
from mixedar.residual.variance import VarIdent

Array = Any


def step_of(name: str) -> float:
    """Matern's derivatives by the smoothness are differences themselves."""
    return 1e-4 if name.startswith("mat") else 1e-5


def points(structure: ResidualStructure) -> list[Array]:
    rng = np.random.default_rng(2)
    grid = list(structure.start_grid())
    return [grid[0], grid[0] + rng.normal(scale=0.15, size=structure.k_free)]


def test_every_structure_is_tried() -> None:
    tried = {type(resolve(case)).__name__ for case in CASES.values()}
    tried |= {type(case).__name__ for case in CASES.values()}
    ours = {cls.__name__ for cls in STRUCTURES.values()}
    markov = {c.__name__ for c in STRUCTURES.values() if issubclass(c, MarkovStructure)}
    assert ours - markov - {"Independent"} <= tried


@pytest.mark.parametrize("name", CASES)
def test_registered_objects(name: str) -> None:
    structure, _ = bound(CASES[name])
    assert structure.label
    assert structure.code
    assert structure.k_params == len(set(structure.param_names))
    assert pickle.loads(pickle.dumps(structure)) == structure
    assert hash(structure) == hash(bound(CASES[name])[0])
    assert len(structure.links) == structure.k_params


@pytest.mark.parametrize("n", [2, 3, N])
@pytest.mark.parametrize("name", CASES)
def test_one_matrix(name: str, n: int) -> None:
    structure, positions = bound(CASES[name], n)
    for u in points(structure):
        params = structure.from_unconstrained(u)
        matrix = structure.correlation(positions, params)
        sd = np.sqrt(np.diag(matrix))
        if not isinstance(structure, Heteroscedastic):
            np.testing.assert_array_equal(sd, np.ones(n))
        np.testing.assert_allclose(matrix, matrix.T, rtol=1e-14)
        root: Array = np.linalg.cholesky(matrix)
        gaps = np.diff(positions[:, 0], prepend=positions[0, 0])
        rows = GroupedRows(None, np.array([0, n]), gaps, positions[:, 1:])
        white = whiten_series(root, rows, structure, structure.to_unconstrained(params))
        np.testing.assert_allclose(white, np.eye(n), atol=1e-9)
        drawn = correlated_residuals(np.eye(n), rows, structure, params)
        np.testing.assert_allclose(drawn, root, atol=1e-9)
        first = np.repeat(positions[:1], n - 1, axis=0)
        cross = pair_correlations(structure, first, positions[1:], params)
        expected = matrix[0, 1:] / (sd[0] * sd[1:])
        np.testing.assert_allclose(cross, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", FREE)
def test_parameters(name: str) -> None:
    structure, _ = bound(CASES[name])
    h = 1e-5
    for u in points(structure):
        params = structure.from_unconstrained(u)
        assert params.shape == (structure.k_params,)
        np.testing.assert_allclose(structure.to_unconstrained(params), u, atol=1e-9)
        assert not structure.at_boundary(params)
        here = structure.natural(u)
        np.testing.assert_allclose(here.value, params)
        for k in range(structure.k_free):
            step = h * np.eye(structure.k_free)[k]
            up, down = structure.natural(u + step), structure.natural(u - step)
            contracts.close_to_difference(here.first[k], up.value, down.value, h)
            contracts.close_to_difference(here.second[k], up.first, down.first, h)


@pytest.mark.parametrize("name", FREE)
def test_cells(name: str) -> None:
    structure, positions = bound(CASES[name])
    h = step_of(name)
    rows, columns = np.triu_indices(N, 1)
    cells = structure.cells(positions[rows], positions[columns])
    for u in points(structure):
        here = structure.cell_values(cells, u)
        assert here.k == structure.k_free
        if not isinstance(structure, Heteroscedastic):
            matrix = structure.correlation(positions, structure.from_unconstrained(u))
            np.testing.assert_allclose(here.value, matrix[rows, columns], 1e-11, 1e-14)
        for k in range(structure.k_free):
            step = h * np.eye(structure.k_free)[k]
            up = structure.cell_values(cells, u + step)
            down = structure.cell_values(cells, u - step)
            contracts.close_to_difference(here.first[k], up.value, down.value, h)
            contracts.close_to_difference(here.second[k], up.first, down.first, h)


@pytest.mark.parametrize("name", FREE)
def test_no_step_leaves_the_space(name: str) -> None:
    structure, positions = bound(CASES[name])
    for size in (10.0, 1e3, 1e300):
        for sign in (1.0, -1.0):
            u = np.full(structure.k_free, sign * size)
            params = structure.from_unconstrained(u)
            assert np.isfinite(params).all()
            assert np.isfinite(structure.correlation(positions, params)).all()


def rows_of(structure: ResidualStructure, positions: Array, m: int) -> ClusterRows:
    """Clusters that lack some of the positions, with random designs."""
    rng = np.random.default_rng(8)
    parts, gaps, marks, offsets = [], [], [], [0]
    for i in range(m):
        keep = np.sort(rng.permutation(N)[: (N, N, 4, 3)[i % 4]])
        here = positions[keep].copy()
        if structure.marks and structure.marks[-1].kind == "stratum":
            here[:, -1] = i % 2
        parts.append(rng.normal(size=(len(keep), 5)))
        gaps.append(np.diff(here[:, 0], prepend=here[0, 0]))
        marks.append(here[:, 1:])
        offsets.append(offsets[-1] + len(keep))
    columns = np.concatenate(parts)
    return ClusterRows(
        columns[:, :2],
        columns[:, 2:],
        np.concatenate(gaps),
        np.array(offsets),
        np.ones(m),
        np.concatenate(marks),
    )


@pytest.mark.parametrize("name", CASES)
def test_likelihood_against_dense_matrices(name: str) -> None:
    structure, positions = bound(CASES[name])
    rows = rows_of(structure, positions, 12)
    factor = np.array([[0.9, 0.0], [-0.4, 0.6]])
    u = points(structure)[-1]
    params = structure.from_unconstrained(u)
    d, s = 0.0, np.zeros((3, 3))
    for i in range(rows.n_clusters):
        here = slice(rows.offsets[i], rows.offsets[i + 1])
        assert rows.marks is not None
        time = np.cumsum(rows.gaps[here])
        where = np.column_stack([time, rows.marks[here]])
        root = rows.z[here] @ factor
        h = structure.correlation(where, params) + root @ root.T
        d += float(np.linalg.slogdet(h)[1])
        s += rows.w[here].T @ np.linalg.solve(h, rows.w[here])
    covariance = RandomCovariance.free(2, ())
    blocks = likelihood_blocks(rows, structure)
    sums = cluster_sums(blocks, covariance, factor, u, derivatives=False)
    np.testing.assert_allclose(sums.d, d, rtol=1e-10)
    np.testing.assert_allclose(sums.s, s, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("q", [0, 2])
@pytest.mark.parametrize("name", CASES)
def test_derivatives_of_the_likelihood(name: str, q: int) -> None:
    structure, positions = bound(CASES[name])
    rows = rows_of(structure, positions, 12)
    rows = replace(rows, z=rows.z[:, :q])
    covariance = RandomCovariance.free(q, ())
    blocks = covariance_blocks(rows, structure)
    u = points(structure)[-1]
    psi = np.array([[0.8, 0.1], [0.1, 0.5]])[:q, :q]
    lower = np.tril_indices(q)
    weight = np.array([[2.0, 0.3, 0.1], [0.3, 1.0, -0.2], [0.1, -0.2, 0.7]])

    def at(v: Array, derivatives: bool = True) -> Any:
        inner, k = np.zeros((q, q)), len(lower[0])
        inner[lower] = inner.T[lower] = v[:k]
        factor = np.linalg.cholesky(inner)
        return cluster_sums(blocks, covariance, factor, v[k:], derivatives=derivatives)

    v = np.concatenate([psi[lower], u])
    here, h = at(v), step_of(name)
    np.testing.assert_allclose(
        here.second(weight),
        here.d2 + np.einsum("klab,ab->kl", here.s2, weight),
        rtol=1e-9,
        atol=1e-9,
    )
    for k in range(len(v)):
        step = h * np.eye(len(v))[k]
        up, down = at(v + step), at(v - step)
        contracts.close_to_difference(here.d1[k], up.d, down.d, h)
        contracts.close_to_difference(here.s1[k], up.s, down.s, h)
        contracts.close_to_difference(here.d2[k], up.d1, down.d1, h)
        contracts.close_to_difference(here.s2[k], up.s1, down.s1, h)


def pairs_of_series(name: str) -> tuple[Any, ClusterRows, ParameterPoint]:
    """Return a structure, groups of two series each, and a point."""
    structure, positions = bound(CASES[name])
    rows = rows_of(structure, positions, 12)
    factor = np.array([[0.9, 0.0], [-0.4, 0.6]])
    point = ParameterPoint(RandomCovariance.free(2, ()), factor, points(structure)[-1])
    return (
        structure,
        replace(rows, offsets=rows.offsets[::2], weights=np.ones(6)),
        point,
    )


@pytest.mark.parametrize("name", CASES)
def test_series_by_series_as_whole_groups(name: str) -> None:
    structure, rows, point = pairs_of_series(name)
    series = SeriesBlock(rows, structure)
    blocks = covariance_blocks(rows, structure)
    whole = cluster_sums(blocks, *point[:3], derivatives=True)
    assert_same_sums(series.sums(point, derivatives=True), whole)
    plain = series.sums(point, derivatives=False)
    np.testing.assert_allclose(plain.s, whole.s, rtol=1e-10, atol=1e-10)
    if structure.n_states:
        states = StateBlock(rows, structure)
        assert_same_sums(states.sums(point, derivatives=True), whole)
        plain = states.sums(point, derivatives=False)
        np.testing.assert_allclose(plain.s, whole.s, rtol=1e-10, atol=1e-10)
    # without random effects as well
    rows = replace(rows, z=rows.z[:, :0])
    point = ParameterPoint(RandomCovariance.free(0), np.empty((0, 0)), point.u)
    blocks = covariance_blocks(rows, structure)
    whole = cluster_sums(blocks, *point[:3], derivatives=True)
    assert_same_sums(SeriesBlock(rows, structure).sums(point, derivatives=True), whole)
    if structure.n_states:
        states = StateBlock(rows, structure)
        assert_same_sums(states.sums(point, derivatives=True), whole)


def field(m: int, n: int, width: int, q: int = 0) -> ClusterRows:
    """Return groups of `n` rows each on a line, whose series are of three rows."""
    rng = np.random.default_rng(4)
    gaps = np.tile([0.0, 1.0, 2.0], m * n // 3)
    w, z = rng.normal(size=(m * n, width)), rng.normal(size=(m * n, q))
    marks = rng.uniform(0.0, 10.0, size=(m * n, 2))
    return ClusterRows(z, w, gaps, np.arange(m + 1) * n, np.ones(m), marks)


def peak_of(rows: ClusterRows, structure: ResidualStructure, u: Array) -> float:
    """Return the bytes that first and second derivatives take at most."""
    q = rows.z.shape[1]
    tracemalloc.start()
    blocks = likelihood_blocks(rows, structure)
    found = cluster_sums(
        blocks, RandomCovariance.free(q), np.eye(q), u, derivatives=True
    )
    found.second(np.eye(len(found.s)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return float(peak)


def test_memory_of_many_fixed_effects() -> None:
    # products of all pairs of rows and of columns would be 415 MB
    one = replace(field(1, 120, 60), gaps=np.append(0.0, np.ones(119)))
    structure = resolve(Exponential(coords=("x", "y"), nugget=True))
    assert peak_of(one, structure, np.array([0.2, -1.0])) < 20e6
    # here patterns are short, and those of a Markov structure
    short = replace(field(4, 12, 150), marks=None)
    assert peak_of(short, AR1(), np.array([0.2])) < 60e6


def test_memory_of_many_series_in_a_group() -> None:
    # one matrix of the group would be 32 MB, and its derivatives several of these
    rows = replace(field(1, 2001, 3, q=2), marks=None)
    u = CompoundSymmetry().start_grid()[0]
    assert peak_of(rows, CompoundSymmetry(), u) < 10e6


@pytest.mark.parametrize("width", [2, 9])
@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_of_matrices_alone(name: str, width: int) -> None:
    structure, rows, point = pairs_of_series(name)
    if not structure.k_free:
        return
    w = np.random.default_rng(8).normal(size=(len(rows.w), width))
    rows = replace(rows, w=w)
    factor, u = point.factor, point.u
    k = structure.k_free
    sandwiches, traces = np.zeros((k, k, width, width)), np.zeros((k, k))
    for i in range(rows.n_clusters):
        here = slice(rows.offsets[i], rows.offsets[i + 1])
        one = ResidualMatrices(structure, rows.gaps[None, here], rows.marks[None, here])
        values, z = one.values(u), rows.z[here] @ factor
        h = np.linalg.inv(one.matrices(values, slice(None))[0] + z @ z.T)
        for a in range(k):
            for b in range(k):
                pair = np.array([a]), np.array([b])
                bend = h @ one.second(values, slice(None), *pair)[0, 0]
                traces[a, b] += np.trace(bend)
                sandwiches[a, b] += w[here].T @ bend @ h @ w[here]
    blocks = covariance_blocks(rows, structure)
    ways: list[Any] = [[SeriesBlock(rows, structure)], blocks]
    if structure.n_states:
        ways.append([StateBlock(rows, structure)])
    for found in ways:
        parts = [block.bends(point) for block in found]
        size = {"rtol": 1e-8, "atol": 1e-9}
        np.testing.assert_allclose(sum(s for s, _ in parts), sandwiches, **size)
        np.testing.assert_allclose(sum(t for _, t in parts), traces, **size)


@pytest.mark.parametrize(
    ("metric", "distance"), [("euclidean", 5.0), ("manhattan", 7.0), ("maximum", 4.0)]
)
def test_metrics(metric: Any, distance: float) -> None:
    structure = Exponential(coords=("x", "y"), metric=metric)
    positions = np.array([[0.0, 1.0, 2.0], [1.0, 4.0, 6.0]])
    found = structure.correlation(positions, [3.0])[0, 1]
    assert found == pytest.approx(np.exp(-distance / 3.0))
    layout = DataLayout(np.ones(1), 2, 1.0, positions[:, 1:], (None, None))
    bound_one = structure.bind_layout(layout)
    assert isinstance(bound_one, Exponential)
    for value in (bound_one.reference, bound_one.nearest, bound_one.farthest):
        assert value == pytest.approx(distance)


def test_unknown_metric() -> None:
    with pytest.raises(
        UnsupportedError, match="metric='taxi': choose 'euclidean', 'man"
    ):
        Exponential(coords=("x", "y"), metric="taxi")  # type: ignore[arg-type]


@given(phi=st.floats(-0.9, 0.9), theta=st.floats(-0.9, 0.9), lag=st.integers(0, 12))
def test_arma11_autocorrelation(phi: float, theta: float, lag: int) -> None:
    expected = arma_acf([1.0, -phi], [1.0, theta], lags=lag + 1)[lag]
    found = ARMA(1, 1).correlations(np.array([[float(lag)]]), np.array([phi, theta]))
    np.testing.assert_allclose(found, [expected], atol=1e-12)


def test_equivalences() -> None:
    time = TIME
    rho = 0.6
    ar1 = AR1().correlation(time, [rho])
    np.testing.assert_allclose(ARMA(1, 0).correlation(time, [rho]), ar1)
    np.testing.assert_allclose(
        Exponential().correlation(time, [-1.0 / np.log(rho)]), ar1, rtol=1e-12
    )
    np.testing.assert_allclose(
        Matern(smoothness=0.5).correlation(time, [-1.0 / np.log(rho)]), ar1, rtol=1e-10
    )
    occasions, positions = bound(AnteDependence())
    steps = rho ** np.diff(positions[:, 0])
    np.testing.assert_allclose(
        occasions.correlation(positions, steps),
        AR1().correlation(positions[:, 0], [rho]),
    )
    full, positions = bound(Unstructured())
    lower = np.tril_indices(N, -1)
    matrix = AR1().correlation(positions[:, 0], [rho])
    np.testing.assert_allclose(full.correlation(positions, matrix[lower]), matrix)
    lags, positions = bound(Toeplitz())
    values = rho ** np.arange(1.0, lags.k_params + 1)
    np.testing.assert_allclose(lags.correlation(positions, values), ar1)
    one, positions = bound(Toeplitz(1))
    np.testing.assert_array_equal(one.correlation(positions, []), np.eye(N))
    noisy, positions = bound(AR1(nugget=True))
    np.testing.assert_allclose(noisy.correlation(positions, [rho, 0.0]), ar1)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("corARMA", "arma"),
        ("arma(2,1)", "arma"),
        ("ar2", "arma"),
        ("ma1", "arma"),
        ("corCompSymm", "cs"),
        ("US", "unr+varident"),
        ("un", "unr+varident"),
        ("corSymm", "unr"),
        ("ARH(1)", "ar1+varident"),
        ("ANTE(1)", "ad+varident"),
        ("ad", "ad"),
        ("toep(3)", "toep"),
        ("TOEPH", "toep+varident"),
        ("corExp", "exp"),
        ("sp(gau)", "gau"),
        ("Matern", "mat"),
        ("corSpher", "sph"),
        ("corRatio", "ratio"),
        ("corLin", "lin"),
        ("sp(pow)", "car1"),
    ],
)
def test_names_of_other_programs(name: str, code: str) -> None:
    assert resolve(name).code == code


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: ARMA(0, 0), UnsupportedError, "independent"),
        (lambda: ARMA(-1, 0), UnsupportedError, "p=-1"),
        (lambda: ARMA(1, 1.5), UnsupportedError, "q=1.5"),
        (lambda: ARMA(1, 0, phi=(1.2,)), UnsupportedError, "stationary"),
        (lambda: ARMA(0, 1, theta=(-1.5,)), UnsupportedError, "invertible"),
        (lambda: ARMA(2, 0, phi=(0.2,)), UnsupportedError, "1 values"),
        (lambda: ARMA(1, 1, fixed=True), UnsupportedError, "fixed"),
        (lambda: Exponential(-1.0), UnsupportedError, "positive"),
        (lambda: Exponential("a"), UnsupportedError, "number"),
        (lambda: Exponential(fixed=True), UnsupportedError, "fixed"),
        (lambda: Linear(coords=("x", "y")), StructureError, "Spherical"),
        (lambda: Matern(smoothness=100.0), UnsupportedError, "Gaussian"),
        (lambda: Toeplitz(0), UnsupportedError, "bands"),
        (lambda: CompoundSymmetry(1.0), UnsupportedError, "rho"),
        (lambda: bound(Toeplitz(), 1), StructureError, "two rows"),
        (lambda: bound(Unstructured(), 1), StructureError, "two occasions"),
    ],
)
def test_named_errors(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize("orders", [(1, 1), (2, 0), (1, 3)])
def test_lags_of_any_length(orders: tuple[int, int]) -> None:
    structure, lags = ARMA(*orders), np.array([0.0, 3.0, 1.0, 99.0, 100.0, 3.0])
    u = structure.start_grid()[0] + 2.0
    near = structure.cell_values(lags[:, None], u)
    # where one is too far to be counted to, the others are what they were
    far = structure.cell_values(np.append(lags, 1e9)[:, None], u)[:-1]
    np.testing.assert_allclose(far.value, near.value, 1e-11)
    np.testing.assert_allclose(far.first, near.first, 1e-9, 1e-11)
    np.testing.assert_allclose(far.second, near.second, 1e-8, 1e-10)
    ratio = ARMA(1, 1).correlations(np.array([[1e5], [1.0]]), np.array([0.9999, 0.5]))
    assert ratio[0] / ratio[1] == pytest.approx(0.9999**99_999, rel=1e-9)


def test_heterogeneous_names_are_compositions() -> None:
    assert resolve("ar1h") == Heteroscedastic(AR1(), VarIdent())
