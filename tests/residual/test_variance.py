"""Every variance function keeps the contract."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers import contracts
from helpers.cluster_cases import assert_same_sums, psi_of, sums_at
from mixedar import AR1, CAR1, Independent
from mixedar.engine.blocks import scaled
from mixedar.engine.blocks.dense import covariance_blocks
from mixedar.engine.compress import ClusterRows, compress
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.likelihood import cluster_sums
from mixedar.engine.residuals import (
    correlated_residuals,
    relative_sd,
    whiten_series,
)
from mixedar.engine.rows import GroupedRows
from mixedar.exceptions import (
    IdentificationError,
    MissingDataError,
    MixedARError,
    RankDeficiencyError,
    StructureError,
    UnsupportedError,
)
from mixedar.numeric.autodiff import Jet
from mixedar.residual.base import DataLayout
from mixedar.residual.occasions import CompoundSymmetry
from mixedar.residual.variance import (
    VARIANCE_FUNCTIONS,
    KnownWeights,
    VarComb,
    VarConstPower,
    VarExp,
    VarFixed,
    VarianceFunction,
    VarIdent,
    VarLogLinear,
    VarPower,
    formulas_of,
    resolve_variance,
    with_columns,
)
from mixedar.residual.wrapped import Heteroscedastic

Array = NDArray[Any]

LABELS: dict[str | None, tuple[str, ...]] = {
    "sex": ("Female", "Male"),
    "arm": ("a", "b", "c"),
    None: ("8", "10", "12", "14"),
}


def column(name: str | None, n: int, seed: int = 0) -> Array:
    """Values of a mark, by the name of its column."""
    rng = np.random.default_rng([seed, n, *(name or "").encode()])
    if name in LABELS:
        codes = rng.integers(0, len(LABELS[name]), size=n)
        # every level twice at least
        codes[: 2 * len(LABELS[name])] = np.tile(np.arange(len(LABELS[name])), 2)[:n]
        return codes.astype(float)
    if name in ("x", "w1", "w2"):
        return np.asarray(rng.normal(size=n))
    if name == "zero":
        return np.asarray(rng.integers(0, 5, size=n).astype(float))
    return np.asarray(rng.uniform(0.5, 20.0, size=n))


def layout_of(function: VarianceFunction, n: int = 60, **given: Array) -> DataLayout:
    """Columns of data for a function; `given` replaces some."""
    names = [mark.column for mark in function.marks]
    columns = [given.get(str(name), column(name, n)) for name in names]
    size = len(columns[0]) if columns else n
    return DataLayout(
        gaps=np.ones(size - 1),
        longest=4,
        span=3.0,
        marks=np.column_stack(columns) if columns else np.empty((size, 0)),
        labels=tuple(LABELS.get(name) for name in names),
    )


def bound(function: VarianceFunction, **given: Array) -> Any:
    return function.bind_layout(layout_of(function, **given))


@dataclass(frozen=True)
class Case:
    """
    A function, parameters on the user's scale, and what its sd should be.

    `sd` takes the columns of :attr:`VarianceFunction.marks` in their order.
    """

    function: VarianceFunction
    names: tuple[str, ...]
    params: tuple[float, ...]
    sd: Callable[..., Array]

    def __repr__(self) -> str:
        return repr(self.function)


def pick(values: Any, codes: Array) -> Array:
    return np.asarray(values, dtype=float)[codes.astype(int)]


CASES = [
    Case(VarFixed("v"), (), (), lambda v: np.sqrt(v)),
    Case(KnownWeights("w"), (), (), lambda w: 1.0 / np.sqrt(w)),
    Case(VarIdent("sex"), ("sd[Male]",), (1.7,), lambda s: pick([1, 1.7], s)),
    Case(
        VarIdent("arm", reference="b"),
        ("sd[a]", "sd[c]"),
        (0.4, 2.5),
        lambda a: pick([0.4, 1, 2.5], a),
    ),
    Case(
        VarIdent(),
        ("sd[10]", "sd[12]", "sd[14]"),
        (1.2, 0.9, 2.0),
        lambda t: pick([1, 1.2, 0.9, 2.0], t),
    ),
    Case(
        VarIdent(("sex", "arm")),
        ("sd[Female*b]", "sd[Female*c]", "sd[Male*a]", "sd[Male*b]", "sd[Male*c]"),
        (1.1, 1.2, 1.3, 1.4, 1.5),
        lambda s, a: pick([1, 1.1, 1.2, 1.3, 1.4, 1.5], 3 * s + a),
    ),
    Case(VarPower("v"), ("power",), (0.6,), lambda v: v**0.6),
    Case(VarPower("v"), ("power",), (-1.3,), lambda v: v**-1.3),
    Case(
        VarPower("v", by="sex"),
        ("power[Female]", "power[Male]"),
        (0.3, -0.2),
        lambda v, s: v ** pick([0.3, -0.2], s),
    ),
    Case(VarExp("x"), ("expon",), (-0.4,), lambda x: np.exp(-0.4 * x)),
    Case(
        VarExp("x", by=("sex", "arm")),
        tuple(f"expon[{s}*{a}]" for s in ("Female", "Male") for a in "abc"),
        (0.1, 0.2, 0.3, -0.1, -0.2, -0.3),
        lambda x, s, a: np.exp(pick([0.1, 0.2, 0.3, -0.1, -0.2, -0.3], 3 * s + a) * x),
    ),
    Case(VarConstPower("v"), ("const", "power"), (1.5, 0.8), lambda v: 1.5 + v**0.8),
    Case(VarConstPower("zero"), ("const", "power"), (0.5, 0.8), lambda v: 0.5 + v**0.8),
    Case(
        VarConstPower("v", by="sex"),
        ("const[Female]", "const[Male]", "power[Female]", "power[Male]"),
        (0.5, 2.0, 0.8, -0.4),
        lambda v, s: pick([0.5, 2.0], s) + v ** pick([0.8, -0.4], s),
    ),
    Case(
        VarLogLinear(columns=("w1", "v", "w2")),
        ("log_sd[w1]", "log_sd[v]", "log_sd[w2]"),
        (0.3, 0.05, -0.6),
        lambda a, v, b: np.exp(0.3 * a + 0.05 * v - 0.6 * b),
    ),
    Case(
        VarComb(VarIdent("sex"), VarPower("v")),
        ("sd[Male]", "power"),
        (1.7, 0.5),
        lambda s, v: pick([1, 1.7], s) * v**0.5,
    ),
    Case(
        VarComb(
            VarPower("v"),
            KnownWeights("w"),
            VarPower("u2", power=0.25, fixed=True),
            VarLogLinear(columns=("w1",)),
        ),
        ("power(v)", "power(u2)", "log_sd[w1]"),
        (0.5, 0.25, 0.2),
        lambda v, w, u, a: v**0.5 / np.sqrt(w) * u**0.25 * np.exp(0.2 * a),
    ),
]
every_case = pytest.mark.parametrize("case", CASES, ids=repr)
FREE = [case for case in CASES if case.names]
every_free = pytest.mark.parametrize("case", FREE, ids=repr)


def test_every_function_is_tried() -> None:
    assert {type(case.function) for case in CASES} == {*VARIANCE_FUNCTIONS.values()}


# The contract


@every_case
def test_names_and_values(case: Case) -> None:
    function, layout = bound(case.function), layout_of(case.function)
    assert function.param_names == case.names
    assert function.k_params == len(case.names)
    assert function.label
    assert function.code in VARIANCE_FUNCTIONS
    assert function.marks == case.function.marks
    found = function.log_sd(layout.marks, np.array(case.params))
    np.testing.assert_allclose(np.exp(found), case.sd(*layout.marks.T), rtol=1e-12)


@every_case
def test_pickle_hash_and_equality(case: Case) -> None:
    for function in (case.function, bound(case.function)):
        again = pickle.loads(pickle.dumps(function))
        assert again == function
        assert hash(again) == hash(function)
        assert repr(again) == repr(function)
    assert bound(case.function) == bound(case.function)


@every_case
def test_round_trip_of_parameters(case: Case) -> None:
    function = bound(case.function)
    params = np.array(case.params)
    u = function.to_unconstrained(params)
    assert u.shape == (function.k_free,)
    np.testing.assert_allclose(function.natural(u).value, params, rtol=1e-12)
    assert not function.at_boundary(params)


@every_case
def test_derivatives(case: Case) -> None:
    function, marks = bound(case.function), layout_of(case.function).marks[:20]
    u = function.to_unconstrained(np.array(case.params))
    k = function.k_free

    def value(v: Array) -> Array:
        params = function.natural(v).value
        return np.concatenate([params, function.log_sd(marks, params)])

    def gradient(v: Array) -> Array:
        params = function.natural(v)
        logs = function.log_sd(marks, params)
        if not isinstance(logs, Jet):
            logs = Jet.constant(logs, k)
        return np.concatenate([params.first, logs.first], axis=1)

    params = function.natural(u)
    assert params.k == k
    logs = function.log_sd(marks, params)
    if k == 0:
        return
    np.testing.assert_allclose(logs.value, value(u)[len(params) :], rtol=1e-13)
    second = np.concatenate([params.second, logs.second], axis=2)
    for j in range(k):
        step = 1e-5 * np.eye(k)[j]
        slope = (value(u + step) - value(u - step)) / 2e-5
        np.testing.assert_allclose(gradient(u)[j], slope, rtol=1e-7, atol=1e-8)
        bend = (gradient(u + step) - gradient(u - step)) / 2e-5
        np.testing.assert_allclose(second[j], bend, rtol=1e-6, atol=1e-7)


@every_free
def test_starting_values(case: Case) -> None:
    function, marks = bound(case.function), layout_of(case.function).marks
    grid = function.start_grid()
    assert len({tuple(u) for u in grid}) == len(grid) > 1
    for u in grid:
        assert u.shape == (function.k_free,)
        params = function.natural(u)
        assert not function.at_boundary(params.value)
        logs = function.log_sd(marks, params)
        assert np.ptp(logs.value) < 8.0
        # each parameter changes the likelihood at the start
        centred = logs.first - logs.first.mean(axis=1, keepdims=True)
        assert np.linalg.matrix_rank(centred) == function.k_free


@every_free
def test_extreme_steps(case: Case) -> None:
    function, marks = bound(case.function), layout_of(case.function).marks
    for size in (10.0, 1e3, 1e300):
        for sign in (1.0, -1.0):
            params = function.natural(np.full(function.k_free, sign * size)).value
            assert np.isfinite(params).all()
            sd = np.exp(function.log_sd(marks, params))
            assert (np.isfinite(sd**2) & (sd > 0.0)).all()
            if size > 100.0:
                assert function.at_boundary(params)


@pytest.mark.parametrize(
    ("free", "fixed"),
    [
        (VarIdent("sex"), VarIdent("sex", {"Male": 1.7}, fixed=True)),
        (VarIdent("arm"), VarIdent("arm", 1.7, fixed=True)),
        (VarPower("v"), VarPower("v", power=0.4, fixed=True)),
        (VarExp("x", by="sex"), VarExp("x", "sex", 0.4, fixed=True)),
        (
            VarPower("v", by="sex"),
            VarPower("v", by="sex", power={"Male": 1, "Female": 2}, fixed=True),
        ),
        (
            VarConstPower("v"),
            VarConstPower("v", const=0.4, power=0.3, fixed=True),
        ),
        (
            VarLogLinear(columns=("w1", "w2")),
            VarLogLinear(columns=("w1", "w2"), gamma=(0.1, 0.2), fixed=True),
        ),
    ],
    ids=repr,
)
def test_fixed_functions(free: Any, fixed: Any) -> None:
    free, fixed = bound(free), bound(fixed)
    assert fixed.param_names == free.param_names
    assert fixed.k_free == 0
    assert [u.shape for u in fixed.start_grid()] == [(0,)]
    params = fixed.natural(np.empty(0))
    assert (params.k, len(params)) == (0, free.k_params)
    assert fixed.to_unconstrained(params.value).shape == (0,)
    marks = layout_of(free).marks
    np.testing.assert_allclose(
        fixed.log_sd(marks, params).value, free.log_sd(marks, params.value)
    )
    assert params.value.tolist() == fixed.held.tolist()


def test_stratum_values_are_in_the_order_of_the_strata() -> None:
    function = bound(VarPower("v", by="sex", power={"Male": 1, "Female": 2}))
    start = function.natural(function.start_grid()[0]).value
    np.testing.assert_allclose(start, [2.0, 1.0])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (VarIdent("arm", {"b": 2.0, "c": 0.5}), [2.0, 0.5]),
        (VarPower("v", power=-0.7), [-0.7]),
        (VarExp("x", expon=0.7), [0.7]),
        (VarConstPower("v", const=2.0, power=0.3), [2.0, 0.3]),
        (VarLogLinear(columns=("w1", "w2"), gamma=(0.3, -0.3)), [0.3, -0.3]),
    ],
    ids=repr,
)
def test_starting_values_come_first(function: Any, expected: list[float]) -> None:
    function = bound(function)
    first = function.natural(function.start_grid()[0]).value
    np.testing.assert_allclose(first, expected)


# Coordinates


@given(scale=st.floats(1e-6, 1e6), delta=st.floats(-2.0, 2.0), seed=st.integers(0, 99))
def test_coordinates_do_not_depend_on_the_unit(
    scale: float, delta: float, seed: int
) -> None:
    v = np.random.default_rng(seed).uniform(0.5, 4.0, size=30)
    one, other = bound(VarExp("v"), v=v), bound(VarExp("v"), v=scale * v)
    np.testing.assert_allclose(
        one.to_unconstrained([delta]),
        other.to_unconstrained([delta / scale]),
        rtol=1e-9,
        atol=1e-12,
    )


def test_the_power_of_an_outlying_covariate_cannot_overflow() -> None:
    v = np.exp(np.append(np.random.default_rng(0).normal(size=1000), [60.0, -80.0]))
    for function in (VarPower("v"), VarConstPower("v")):
        f = bound(function, v=v)
        for sign in (-1.0, 1.0):
            params = f.natural(np.full(f.k_free, sign * 1e9)).value
            assert np.isfinite(np.exp(2.0 * f.log_sd(v[:, None], params))).all()


def test_a_distant_covariate_cannot_overflow() -> None:
    year = np.arange(1990.0, 2020.0)
    f = bound(VarExp("v"), v=year)
    for sign in (-1.0, 1.0):
        params = f.natural(np.array([sign * 1e9])).value
        assert np.isfinite(np.exp(2.0 * f.log_sd(year[:, None], params))).all()


def test_log_linear_coordinates_are_uncorrelated() -> None:
    age = np.random.default_rng(0).uniform(20.0, 60.0, size=200)
    f = VarLogLinear(columns=("age", "age2"))
    f = bound(f, age=age, age2=age**2)
    marks = np.column_stack([age, age**2])
    logs = f.log_sd(marks, f.natural(np.zeros(2)))
    np.testing.assert_allclose(np.corrcoef(logs.first), np.eye(2), atol=1e-6)


def test_fitted_values_may_be_negative() -> None:
    v = np.array([-3.0, -1.0, 2.0, 5.0])
    for function in (VarPower(), VarConstPower()):
        f = bound(function, fitted=v)
        params = f.natural(f.start_grid()[0]).value
        np.testing.assert_array_equal(
            f.log_sd(v[:, None], params), f.log_sd(np.abs(v)[:, None], params)
        )
    exponential = bound(VarExp(), fitted=v)
    np.testing.assert_allclose(exponential.log_sd(v[:, None], [0.5]), 0.5 * v)


def test_fitted_values_that_are_not_known_yet() -> None:
    for function in (VarPower(), VarExp(), VarConstPower()):
        assert bound(function, fitted=np.ones(8)).k_params == function.k_params


# In a residual structure


STRUCTURES = [Independent(), AR1(), CAR1(), CompoundSymmetry()]


@every_case
@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: s.code)
def test_residual_covariance(case: Case, structure: Any) -> None:
    both, layout = Heteroscedastic(structure, case.function), layout_of(case.function)
    both = both.bind_layout(layout)  # type: ignore[assignment]
    assert both.k_params == structure.k_params + len(case.names)
    inner = np.full(structure.k_params, 0.4)
    params = np.concatenate([inner, case.params])
    time = contracts.times(structure, 4)
    marks = layout.marks[7:11]
    positions = np.column_stack([time, marks])
    sd = case.sd(*marks.T)
    R = structure.correlation(time, inner) * np.outer(sd, sd)
    np.testing.assert_allclose(both.correlation(positions, params), R, rtol=1e-12)
    gaps = np.diff(time, prepend=time[0])
    rows = GroupedRows(None, np.array([0, 4]), gaps, marks)
    white = whiten_series(np.eye(4), rows, both, both.to_unconstrained(params))
    np.testing.assert_allclose(white.T @ white @ R, np.eye(4), atol=1e-10)
    drawn = correlated_residuals(np.eye(4), rows, both, params)
    np.testing.assert_allclose(drawn @ drawn.T, R, rtol=1e-10)
    np.testing.assert_allclose(relative_sd(both, marks, params), sd)
    u = both.to_unconstrained(params)
    np.testing.assert_allclose(both.from_unconstrained(u), params, rtol=1e-12)


def rows_with_marks(function: VarianceFunction, q: int) -> ClusterRows:
    """Some clusters of one or more series each."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 8, size=6)
    n = int(sizes.sum())
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    gaps = rng.integers(1, 3, size=n).astype(float)
    gaps[offsets[:-1]] = 0.0
    gaps[rng.uniform(size=n) < 0.15] = 0.0
    return ClusterRows(
        rng.normal(size=(n, q)),
        rng.normal(size=(n, 3)),
        gaps,
        offsets,
        np.ones(len(sizes)),
        layout_of(function, n).marks,
    )


def dense_sums(rows: ClusterRows, structure: Any, psi: Array, u: Array) -> Array:
    """D and S by definition, in one vector."""
    params = structure.from_unconstrained(u)
    assert rows.marks is not None
    total, sums = 0.0, np.zeros((rows.w.shape[1],) * 2)
    for start, end in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
        gaps = rows.gaps[start:end]
        series = np.cumsum(gaps == 0.0)
        positions = np.column_stack([np.cumsum(gaps), rows.marks[start:end]])
        R = structure.correlation(positions, params)
        H = np.where(series[:, None] == series[None, :], R, 0.0)
        H = H + rows.z[start:end] @ psi @ rows.z[start:end].T
        w = rows.w[start:end]
        total += float(np.linalg.slogdet(H)[1])
        sums += w.T @ np.linalg.solve(H, w)
    return np.append(sums.ravel(), total)


@every_free
@pytest.mark.parametrize("q", [0, 2])
def test_cluster_sums(case: Case, q: int) -> None:
    if len(case.names) > 4 and q:
        return
    rows, cov = rows_with_marks(case.function, q), RandomCovariance.free(q)
    layout = layout_of(case.function, len(rows.z))
    structure: Any = Heteroscedastic(AR1(), case.function).bind_layout(layout)
    k = cov.k_cov
    params = np.concatenate([[0.4], case.params])
    v = np.concatenate([[0.8, 0.2, 0.5][:k], structure.to_unconstrained(params)])
    values, vectors = np.linalg.eigh(psi_of(cov, v))
    found = cluster_sums(
        covariance_blocks(rows, structure),
        cov,
        vectors * np.sqrt(values),
        v[k:],
        derivatives=True,
    )

    def dense(x: Array) -> Array:
        return dense_sums(rows, structure, psi_of(cov, x), x[k:])

    width = rows.w.shape[1]
    here = dense(v)
    np.testing.assert_allclose(np.append(found.s.ravel(), found.d), here, rtol=1e-9)
    eye = np.eye(len(v))
    for i in range(len(v)):
        first = np.append(found.s1[i].ravel(), found.d1[i])
        expected = extrapolated(lambda h, e=eye[i]: difference(dense, v, h * e))
        size = np.abs(expected).max()
        np.testing.assert_allclose(first, expected, rtol=1e-6, atol=1e-7 * size)
        for j in range(i + 1):
            second = np.append(found.s2[i, j].ravel(), found.d2[i, j])

            def bend(h: float, a: Array = eye[i], b: Array = eye[j]) -> Array:
                up = difference(dense, v + h * a, h * b)
                return (up - difference(dense, v - h * a, h * b)) / (2 * h)

            expected = extrapolated(bend, 2e-3)
            size = max(np.abs(expected).max(), 1.0)
            np.testing.assert_allclose(second, expected, rtol=1e-4, atol=1e-4 * size)
            np.testing.assert_allclose(found.s2[i, j], found.s2[j, i], rtol=1e-9,
                                       atol=1e-9 * size)  # fmt: skip
    assert found.s.shape == (width, width)


@pytest.mark.parametrize("numbers", [1, 200, 2**18])
@pytest.mark.parametrize("inner", [AR1(), AR1(0.4, fixed=True), Independent()])
@pytest.mark.parametrize("q", [0, 2])
def test_scaled_neighbours_as_matrices_written_out(
    q: int, inner: Any, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few rows are taken at a time."""
    monkeypatch.setattr(scaled, "_NUMBERS", numbers)
    function, cov = VarConstPower("v"), RandomCovariance.free(q)
    rows = rows_with_marks(function, q)
    layout = layout_of(function, len(rows.z))
    structure: Any = Heteroscedastic(inner, function).bind_layout(layout)
    correlation = None if isinstance(inner, Independent) else inner
    block = scaled.ScaledBlock(rows, structure, correlation)
    u = structure.to_unconstrained([*[0.4][: inner.k_params], 1.5, 0.8])
    psi = psi_of(cov, np.array([0.8, 0.2, 0.5]))
    found = sums_at([block], cov, psi, u)
    assert_same_sums(found, sums_at(covariance_blocks(rows, structure), cov, psi, u))
    root = np.linalg.cholesky(psi)
    plain = cluster_sums([block], cov, root, u, derivatives=False)
    assert plain.d == pytest.approx(found.d, rel=1e-12)
    np.testing.assert_allclose(plain.s, found.s, rtol=1e-12)


def difference(f: Callable[[Array], Array], x: Array, step: Array) -> Array:
    size = float(np.abs(step).max())
    return (f(x + step) - f(x - step)) / (2.0 * size)


def extrapolated(quotient: Callable[[float], Array], h: float = 3e-4) -> Array:
    """Richardson: the error of a central difference falls to the fourth order."""
    return np.asarray((4.0 * quotient(h / 2.0) - quotient(h)) / 3.0)


def test_clusters_are_compressed_by_what_the_function_reads() -> None:
    rng = np.random.default_rng(3)
    m, n = 200, 4
    sex = np.repeat(rng.integers(0, 2, size=m), n).astype(float)
    gaps = np.tile([0.0, 1.0, 1.0, 1.0], m)
    arrays = np.ones((m * n, 1)), rng.normal(size=(m * n, 2))
    y, offsets = rng.normal(size=m * n), np.arange(0, m * n + 1, n)
    rows = compress(*arrays, y, gaps, offsets, sex[:, None])
    assert rows.n_clusters <= 2 * n * 3
    whole = ClusterRows(
        arrays[0], np.column_stack([arrays[1], y]), gaps, offsets, np.ones(m),
        sex[:, None],
    )  # fmt: skip
    function = VarIdent("sex")
    layout = layout_of(function, sex=sex)
    structure: Any = Heteroscedastic(AR1(), function).bind_layout(layout)
    cov, u = RandomCovariance.free(1), np.array([0.3, 0.5])
    few, all_of_them = (
        cluster_sums(
            covariance_blocks(r, structure), cov, np.array([[0.7]]), u, derivatives=True
        )
        for r in (rows, whole)
    )
    assert few.d == pytest.approx(all_of_them.d)
    np.testing.assert_allclose(few.s1, all_of_them.s1, rtol=1e-9)
    np.testing.assert_allclose(few.d2, all_of_them.d2, rtol=1e-9)


# Formulas


def test_columns_of_formulas() -> None:
    function = VarComb(VarLogLinear("~ arm + x"), VarIdent("sex"), VarLogLinear("w"))
    assert formulas_of(function) == ("arm + x", "w")
    names = {"arm + x": ["Intercept", "arm[T.b]", "x"], "w": ["Intercept", "w"]}
    ready: Any = with_columns(function, names)
    assert formulas_of(ready) == formulas_of(VarPower()) == formulas_of(None) == ()
    assert [mark.column for mark in ready.marks] == ["arm[T.b]", "x", "sex", "w"]
    assert ready.param_names == ("log_sd[arm[T.b]]", "log_sd[x]", "log_sd[w]")
    assert with_columns(ready, {}) == ready
    assert "log sd ~ arm + x" in ready.label
    with pytest.raises(UnsupportedError, match="no covariate"):
        with_columns(VarLogLinear("1"), {"1": ["Intercept"]})
    with pytest.raises(UnsupportedError, match="data frame"):
        bound(VarLogLinear("arm"))


# What cannot be


def test_zero_and_negative_covariates() -> None:
    v = np.array([1.0, 2.0, 0.0, 4.0, 0.0])
    with pytest.raises(StructureError, match=r"'v' is 0 in 2 of 5 rows.*VarConstPow"):
        bound(VarPower("v"), v=v)
    with pytest.raises(StructureError, match=r"as low as -3\).*VarExp.*absolute"):
        bound(VarPower("v"), v=-1.0 - v[[0, 1, 2, 1]])
    with pytest.raises(StructureError, match=r"negative.*in 4 of 5 rows"):
        bound(VarConstPower("v"), v=-1.0 + v * [1, -1, 1, -1, 1])
    with pytest.raises(StructureError, match="fitted value is 0 in 2 of 5"):
        bound(VarPower(), fitted=v)
    with pytest.raises(StructureError, match=r"'v' is 0.*VarConstPower"):
        bound(VarFixed("v"), v=v)
    with pytest.raises(StructureError, match=r"negative.*VarExp"):
        bound(VarFixed("v"), v=-1.0 - v)
    with pytest.raises(StructureError, match=r"'w' is 0 in 2 .*Leave these rows out"):
        bound(KnownWeights("w"), w=v)
    with pytest.raises(StructureError, match="weights are positive"):
        bound(KnownWeights("w"), w=-1.0 - v)
    # new rows as well
    function = bound(VarPower("v"), v=v[[0, 1, 3]])
    with pytest.raises(StructureError, match="'v' is 0 in 2 of 5"):
        function.log_sd(v[:, None], [0.5])


@pytest.mark.parametrize("function", [VarExp("v"), VarLogLinear(columns=("v",))])
def test_covariates_far_from_zero(function: Any) -> None:
    year = np.arange(1990.0, 2010.0)
    assert bound(function, v=np.arange(1980.0, 2020.0)).k_params == 1
    with pytest.raises(StructureError, match=r"1990 to 2009.*differences from 2000"):
        bound(function, v=year)
    assert bound(function, v=year - 2000.0).k_params == 1


def test_a_constant_plus_a_power_starts_from_zero() -> None:
    f = bound(VarConstPower("zero"))
    for u in (-1e9, 0.0, 3.0):
        assert f.natural(np.array([0.0, u])).value[1] > 0.0
    sd = np.exp(f.log_sd(np.array([[0.0], [4.0]]), [0.5, 0.5]))
    np.testing.assert_allclose(sd, [0.5, 2.5])
    negative = VarConstPower("zero", const=1.0, power=-0.5)
    with pytest.raises(StructureError, match="start from a positive"):
        bound(negative)
    with pytest.raises(StructureError, match=r"0 or 3 in all rows.*VarIdent"):
        bound(VarConstPower("zero"), zero=np.array([0.0, 3.0, 3.0, 0.0]))


@pytest.mark.parametrize(
    "function",
    [VarFixed("v"), KnownWeights("v"), VarPower("v"), VarExp("v"), VarConstPower("v"),
     VarLogLinear(columns=("v",))],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_missing_values(function: Any, bad: float) -> None:
    v = np.array([1.0, bad, 2.0, 3.0])
    with pytest.raises(MissingDataError, match=r"'v' is missing.* in 1 of 4 rows"):
        bound(function, v=v)


def test_missing_strata() -> None:
    with pytest.raises(MissingDataError, match="'sex' is missing in 1 of 4"):
        bound(VarIdent("sex"), sex=np.array([0.0, 1.0, np.nan, 1.0]))


@pytest.mark.parametrize("cls", [VarPower, VarExp, VarConstPower])
def test_constant_covariates(cls: Any) -> None:
    with pytest.raises(IdentificationError, match="'v' is 3 throughout all rows"):
        bound(cls("v"), v=np.full(5, 3.0))
    with pytest.raises(IdentificationError, match="the fitted value is 3 throughout"):
        bound(cls(), fitted=np.full(5, 3.0))
    v, sex = np.array([1.0, 2.0, 5.0, 5.0]), np.array([0.0, 0.0, 1.0, 1.0])
    with pytest.raises(IdentificationError, match="5 throughout the stratum 'Male'"):
        bound(cls("v", by="sex"), v=v, sex=sex)


def test_strata_that_cannot_be() -> None:
    with pytest.raises(IdentificationError, match="one stratum, 'Male'"):
        bound(VarIdent("sex"), sex=np.ones(5))
    with pytest.raises(IdentificationError, match="'Female' has one observation"):
        bound(VarIdent("sex"), sex=np.array([1.0, 1.0, 0.0]))
    with pytest.raises(IdentificationError, match=r"'Male\*a' .*, as do 2 others"):
        bound(
            VarIdent(("sex", "arm")),
            sex=np.array([0.0, 0.0, 1.0, 1.0, 1.0]),
            arm=np.array([0.0, 0.0, 0.0, 1.0, 2.0]),
        )
    many = DataLayout(
        gaps=np.empty(0),
        longest=1,
        span=0.0,
        marks=np.repeat(np.arange(500.0), 2)[:, None],
        labels=(tuple(map(str, range(500))),),
    )
    with pytest.raises(StructureError, match="500 strata"):
        VarIdent("id").bind_layout(many)
    function = bound(VarIdent("sex"))
    with pytest.raises(StructureError, match=r"1 of 2 rows.*'Female', 'Male'"):
        function.log_sd(np.array([[0.0], [2.0]]), [1.5])
    with pytest.raises(StructureError, match="1 of 2 rows"):
        function.log_sd(np.array([[0.0], [np.nan]]), [1.5])


def test_strata_that_do_not_occur_have_no_parameter() -> None:
    arm = np.array([0.0, 2.0, 2.0, 0.0])
    assert bound(VarIdent("arm"), arm=arm).param_names == ("sd[c]",)
    sex = np.array([1.0, 0.0, 0.0, 1.0])
    f = bound(VarIdent(("sex", "arm")), arm=arm, sex=sex)
    assert f.param_names == ("sd[Male*a]",)
    logs = f.log_sd(np.column_stack([sex, arm]), [2.0])
    np.testing.assert_allclose(np.exp(logs), [2, 1, 1, 2])


def test_log_linear_designs_of_deficient_rank() -> None:
    x = np.random.default_rng(0).normal(size=20)
    f = VarLogLinear(columns=("a", "b"))
    for b in (np.full(20, 3.0), 2.0 * x - 1.0):
        with pytest.raises(RankDeficiencyError, match="'b' is constant or a linear"):
            bound(f, a=x, b=b)
    with pytest.raises(RankDeficiencyError):
        bound(f, a=x[:1], b=x[1:2])


def test_products_of_functions_that_say_the_same() -> None:
    with pytest.raises(UnsupportedError, match="twice"):
        VarComb(VarPower("v"), VarPower("v"))
    same = VarComb(VarIdent("sex"), VarIdent(("sex", "arm")))
    with pytest.raises(IdentificationError, match=r"'sd\[Male\]', 'sd\[Male\*a"):
        bound(same)
    held = VarComb(VarIdent("sex"), VarIdent(("sex", "arm"), 1.5, fixed=True))
    assert bound(held).k_free == 1
    with pytest.raises(IdentificationError, match=r"'expon', 'log_sd\[x\]'"):
        bound(VarComb(VarExp("x"), VarLogLinear(columns=("x",))))


def test_nested_products_are_flat() -> None:
    a, b, c = VarIdent("sex"), VarPower("v"), KnownWeights("w")
    assert VarComb(VarComb(a, b), c) == VarComb(a, b, c)
    assert VarComb(c, VarFixed("v")).fixed
    assert bound(VarComb(c, VarFixed("v"))).start_grid()[0].shape == (0,)


def test_repeated_names_in_products() -> None:
    f = bound(VarComb(VarPower("v"), VarPower("u2"), VarExp("x")))
    assert f.param_names == ("power(v)", "power(u2)", "expon")


@pytest.mark.parametrize(
    "build",
    [
        lambda: VarPower(3),  # type: ignore[arg-type]
        lambda: VarPower("v", power="a"),  # type: ignore[arg-type]
        lambda: VarPower("v", power=True),
        lambda: VarPower("v", power=np.nan),
        lambda: VarPower("v", fixed=True),
        lambda: VarPower("v", by=3),  # type: ignore[arg-type]
        lambda: VarExp("v", by=()),
        lambda: VarExp("v", by=("a", "a")),
        lambda: VarExp("v", fixed=True),
        lambda: VarConstPower("v", const=-1.0, power=1.0),
        lambda: VarConstPower("v", const=1.0),
        lambda: VarConstPower("v", fixed=True),
        lambda: VarIdent("sex", {"Male": -2.0}),
        lambda: VarIdent("sex", fixed=True),
        lambda: VarIdent(["sex", 3]),  # type: ignore[arg-type,list-item]
        lambda: VarFixed(None),  # type: ignore[arg-type]
        lambda: KnownWeights(""),
        lambda: VarLogLinear(),
        lambda: VarLogLinear(" ~ "),
        lambda: VarLogLinear("sigma ~ arm"),
        lambda: VarLogLinear("arm", fixed=True),
        lambda: VarLogLinear("arm", gamma=("a",)),  # type: ignore[arg-type]
        lambda: VarLogLinear(columns="arm"),  # type: ignore[arg-type]
        lambda: VarComb(),
        lambda: VarComb("sex"),  # type: ignore[arg-type]
        lambda: bound(VarIdent("sex", {"Man": 2.0})),
        lambda: bound(VarIdent("arm", {"b": 2.0})),
        lambda: bound(VarIdent("arm", reference="d")),
        lambda: bound(VarPower("v", power={"Male": 2.0})),
        lambda: bound(VarLogLinear(columns=("w1",), gamma=(1.0, 2.0))),
    ],
)
def test_arguments_that_cannot_be(build: Any) -> None:
    with pytest.raises(UnsupportedError):
        build()


# weights=


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (None, None),
        ("w", KnownWeights("w")),
        (" w ", KnownWeights("w")),
        ("varIdent", VarIdent()),
        ("VARPOWER", VarPower()),
        ("varExp", VarExp()),
        ("varConstPower", VarConstPower()),
        (VarIdent, VarIdent()),
        (VarIdent("sex"), VarIdent("sex")),
        (["varIdent", VarPower("v")], VarComb(VarIdent(), VarPower("v"))),
        ((VarIdent("sex"), "w"), VarComb(VarIdent("sex"), KnownWeights("w"))),
        ([1.0, 2.0, 3.0], KnownWeights("weights")),
        ((1, 2), KnownWeights("weights")),
        (np.ones(3), KnownWeights("weights")),
    ],
    ids=repr,
)
def test_resolve(weights: Any, expected: Any) -> None:
    assert resolve_variance(weights) == expected


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (3.0, "VarPower"),
        ({"a": 1}, "VarPower"),
        (np.ones((2, 2)), "VarPower"),
        (object(), "VarPower"),
        ("~ age", r"VarFixed\('age'\).*VarLogLinear\('age'\)"),
        ("varFixed", r"VarFixed\('age'\)"),
        (VarFixed, r"VarFixed\('age'\)"),
        (KnownWeights, r"KnownWeights\('w'\)"),
        ("varComb", "VarComb"),
        ([VarIdent("sex"), np.ones(3)], "list of variance functions"),
        ([VarIdent("sex"), None], "list of variance functions"),
        ([VarIdent("sex"), 2.0], "VarPower"),
        ("", "name of a column"),
    ],
    ids=lambda value: f"{type(value).__name__} {value}"[:30].split(" at ")[0],
)
def test_what_weights_cannot_be(weights: Any, message: str) -> None:
    with pytest.raises(MixedARError, match=message):
        resolve_variance(weights)
