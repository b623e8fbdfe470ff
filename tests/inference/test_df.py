"""
Degrees of freedom: reference values, dense formulas, exact cases, refusals.

The dense implementation below writes Kenward and Roger (1997) out as printed,
with every V, its inverse and its derivatives as full matrices, from the oracle's
problems; it shares nothing with the package.
"""

from __future__ import annotations

import pickle
import warnings
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

import mixedar.formula.api as mar
from helpers import oracle
from helpers.reference_cases import case_names, load, oracle_parameters, oracle_problem
from helpers.reference_fits import fitted
from mixedar import AR1, CAR1, MixedLMAR
from mixedar.exceptions import BoundaryWarning, NotComputedError, UnsupportedError
from mixedar.inference import DFMethod, resolve_df
from mixedar.inference.df import moments_to_f, pooled_df

Array = NDArray[np.float64]

REFERENCE = [
    (name, key, method)
    for name in case_names("independent", without=("weights",))
    for key, method in (
        ("satterthwaite", "satterthwaite"),
        ("kenward_roger", "kenward-roger"),
    )
    if load(name).expected.get(key)
]


@pytest.mark.parametrize(("name", "key", "method"), REFERENCE)
def test_lmertest_and_pbkrtest(name: str, key: str, method: str) -> None:
    fit, expected = fitted(name), load(name).expected
    found = fit.with_df(method)
    table = pd.DataFrame(expected[key]["coef"]).T.loc[list(fit.fe_params.index)]
    np.testing.assert_allclose(found.df, table["df"], rtol=2e-6)
    np.testing.assert_allclose(found.bse_fe, table["se"], rtol=1e-6)
    names = list(fit.fe_params.index)
    p = found.pvalues[names]
    np.testing.assert_allclose(p, table["p"], rtol=1e-4, atol=1e-12)
    if key == "kenward_roger":
        order = [expected["fixef_names"].index(effect) for effect in names]
        adjusted = np.array(expected[key]["cov_fixef_adjusted"])[np.ix_(order, order)]
        cov = np.asarray(found.cov_params())[: len(names), : len(names)]
        se = np.sqrt(np.diag(adjusted))
        np.testing.assert_allclose(
            cov / np.outer(se, se), adjusted / np.outer(se, se), rtol=0, atol=2e-6
        )


@pytest.mark.parametrize(("name", "key", "method"), REFERENCE)
def test_terms_with_several_columns(name: str, key: str, method: str) -> None:
    terms = load(name).expected[key]["anova_type3"] or {}
    names = list(fitted(name).fe_params.index)
    for term, row in terms.items():
        parts = term.split(":")
        columns = [
            k
            for k, effect in enumerate(names)
            if [piece.split("[")[0] for piece in effect.split(":")] == parts
        ]
        # lower terms of interactions with treatment contrasts are other hypotheses
        if any(term != t and set(parts) < set(t.split(":")) for t in terms):
            continue
        assert len(columns) == row["numDF"]
        test = fitted(name).f_test(np.eye(len(names))[columns], df=method)
        assert test.fvalue == pytest.approx(row["F"], rel=2e-6)
        assert test.df_denom == pytest.approx(row["denDF"], rel=2e-6)
        assert test.pvalue == pytest.approx(row["p"], rel=1e-4, abs=1e-14)


class Dense(NamedTuple):
    """Matrices of the paper, by (covariances, components, rho, sigma2)."""

    phi: Array
    p: Array
    q: Array
    r: Array
    expected: Array
    observed: Array


def dense(problem: oracle.Problem, at: oracle.Parameters, has_rho: bool) -> Dense:
    """Kenward and Roger's quantities with N x N matrices."""
    n, X, y = len(problem.y), problem.X, problem.y
    same = problem.groups[:, None] == problem.groups[None, :]
    series = same.copy()
    if problem.series is not None:
        series &= problem.series[:, None] == problem.series[None, :]
    time = np.zeros(n) if problem.time is None else problem.time
    d = np.abs(time[:, None] - time[None, :])
    together = series & (d > 0) if has_rho else np.zeros((n, n), dtype=bool)
    apart = np.where(together, d, 1.0)
    R = np.where(together, at.rho**apart, np.eye(n))
    R1 = np.where(together, apart * at.rho ** (apart - 1.0), 0.0)
    bent = apart * (apart - 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        R2 = np.where(together & (bent != 0), bent * at.rho ** (apart - 2.0), 0.0)
    first: list[Array] = []
    V = at.sigma2 * R
    if problem.Z is not None:
        assert at.cov_re is not None
        V = V + same * (problem.Z @ at.cov_re @ problem.Z.T)
        for i in range(problem.n_re):
            for j in range(i + 1):
                E = np.zeros((problem.n_re, problem.n_re))
                E[i, j] = E[j, i] = 1.0
                first.append(same * (problem.Z @ E @ problem.Z.T))
    for name, labels in problem.vc.items():
        first.append(same * (labels[:, None] == labels[None, :]).astype(float))
        V = V + at.vcomp[name] * first[-1]
    first += [at.sigma2 * R1, R] if has_rho else [R]
    k = len(first)
    second = np.zeros((k, k, n, n))
    if has_rho:
        second[k - 2, k - 2] = at.sigma2 * R2
        second[k - 2, k - 1] = second[k - 1, k - 2] = R1
    inverse = np.linalg.inv(V)
    phi = np.linalg.inv(X.T @ inverse @ X)
    left = X.T @ inverse
    shares = [inverse @ v for v in first]
    p = np.array([-left @ v @ left.T for v in first])
    q = np.array([[left @ a @ b @ left.T for b in shares] for a in first])
    r = np.array([[left @ second[a, b] @ left.T for b in range(k)] for a in range(k)])
    projector = inverse - left.T @ phi @ left
    expected, observed = np.zeros((2, k, k))
    py = projector @ y
    for a in range(k):
        for b in range(k):
            expected[a, b] = 0.5 * (
                np.sum(shares[a] * shares[b].T)
                - 2 * np.trace(phi @ q[a, b])
                + np.trace(phi @ p[a] @ phi @ p[b])
            )
            pa, pb = projector @ first[a], projector @ first[b]
            observed[a, b] = 0.5 * (
                np.sum(projector * second[a, b])
                - np.sum(pa * pb.T)
                + 2 * py @ first[a] @ projector @ first[b] @ py
                - py @ second[a, b] @ py
            )
    return Dense(phi, p, q, r, expected, observed)


def adjusted(d: Dense, w: Array, full: bool) -> Array:
    """Equation of section 2 of the paper, term by term."""
    middle = np.zeros_like(d.phi)
    for i in range(len(w)):
        for j in range(len(w)):
            term = d.q[i, j] - d.p[i] @ d.phi @ d.p[j]
            middle += w[i, j] * (term - d.r[i, j] / 4 if full else term)
    return np.asarray(d.phi + 2 * d.phi @ middle @ d.phi)


def scaled_f(
    d: Dense, w: Array, cov: Array, beta: Array, matrix: Array
) -> tuple[float, float]:
    """F and denominator degrees of freedom by the formulas of section 3."""
    count = len(matrix)
    theta = matrix.T @ np.linalg.inv(matrix @ d.phi @ matrix.T) @ matrix
    a1 = a2 = 0.0
    for i in range(len(w)):
        for j in range(len(w)):
            left = theta @ d.phi @ d.p[i] @ d.phi
            right = theta @ d.phi @ d.p[j] @ d.phi
            a1 += w[i, j] * np.trace(left) * np.trace(right)
            a2 += w[i, j] * np.trace(left @ right)
    b = (a1 + 6 * a2) / (2 * count)
    g = ((count + 1) * a1 - (count + 4) * a2) / ((count + 2) * a2)
    c = np.array([g, count - g, count + 2 - g]) / (3 * count + 2 * (1 - g))
    mean = 1 / (1 - a2 / count)
    variance = 2 / count * (1 + c[0] * b) / ((1 - c[1] * b) ** 2 * (1 - c[2] * b))
    rho = variance / (2 * mean**2)
    m = 4 + (count + 2) / (count * rho - 1)
    effect = matrix @ beta
    wald = effect @ np.linalg.solve(matrix @ cov @ matrix.T, effect) / count
    return float(m / (mean * (m - 2)) * wald), float(m)


def compare(
    fit: Any, problem: oracle.Problem, at: oracle.Parameters, rho: bool, tol: float
) -> None:
    """Everything that Satterthwaite and Kenward-Roger give, against dense."""
    d = dense(problem, at, rho)
    p = len(d.phi)
    for information in ("expected", "observed"):
        w = np.linalg.inv(getattr(d, information))
        gradient = np.array([np.diag(d.phi @ each @ d.phi) for each in d.p])
        nu = 2 * np.diag(d.phi) ** 2 / np.einsum("ip,ij,jp->p", gradient, w, gradient)
        satterthwaite = fit.with_df("satterthwaite", information=information)
        np.testing.assert_allclose(satterthwaite.df, nu, rtol=tol)
        for kr in ("full", "linear"):
            cov = adjusted(d, w, kr == "full")
            found = fit.with_df("kenward-roger", kr=kr, information=information)
            se = np.sqrt(np.diag(cov))
            np.testing.assert_allclose(
                np.asarray(found.cov_params())[:p, :p] / np.outer(se, se),
                cov / np.outer(se, se),
                rtol=0,
                atol=tol,
            )
            np.testing.assert_allclose(found.df, nu, rtol=tol)
            np.testing.assert_allclose(found.bse_fe, se, rtol=tol)
            if p > 1:
                matrix = np.eye(p)[1:]
                test = found.f_test(matrix)
                beta = np.asarray(fit.fe_params)
                value, m = scaled_f(d, w, cov, beta, matrix)
                assert test.fvalue == pytest.approx(value, rel=tol)
                assert test.df_denom == pytest.approx(m, rel=tol)


@pytest.mark.parametrize(
    "name",
    [
        "oxboys_gaps_ar1_reml",
        "orthodont_rs_ar1_reml",
        "bodyweight_car1_reml",
        "ovary_ri_ar1_reml",
        "sim_boundary_gls_ar1_reml",
        "sleepstudy_rs_reml",
        "oats_nested_reml",
    ],
)
def test_dense_formulas(name: str) -> None:
    case, fit = load(name), fitted(name)
    at = oracle_parameters(case)
    # the recorded maxima are good to about 1e-7, information to less
    compare(fit, oracle_problem(case), at, case.structure != "independent", 1e-4)


def frame(seed: int, m: int = 12, rho: float = 0.5, days: int = 1) -> pd.DataFrame:
    """Unbalanced groups with gaps, in shuffled rows."""
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(m):
        times = np.flatnonzero(rng.uniform(size=9) < 0.6)
        times = times if len(times) > 2 else np.array([0, 2, 3])
        R = rho ** np.abs(np.subtract.outer(times, times)).astype(float)
        noise = np.linalg.cholesky(R) @ rng.normal(size=len(times))
        x = rng.normal(size=len(times))
        y = 1 + 0.2 * times + rng.normal() + rng.normal() * x + noise
        parts.append(pd.DataFrame({"y": y, "t": times * days, "x": x, "id": i}))
    data = pd.concat(parts, ignore_index=True)
    data["arm"] = data["id"] % 2
    return data.sample(frac=1.0, random_state=seed).reset_index(drop=True)


def at_estimate(fit: Any, data: pd.DataFrame, has_z: bool) -> Any:
    """The oracle's problem and parameters at a fit's own estimate."""
    model = fit.model
    problem = oracle.Problem(
        y=model.endog,
        X=model.exog,
        groups=data["id"].to_numpy(),
        Z=model.exog_re if has_z else None,
        time=data["t"].to_numpy(dtype=float),
        series=data["part"].to_numpy() if "part" in data else None,
    )
    rho = float(fit.rho) if fit.structure.param_names else 0.0
    cov_re = np.asarray(fit.cov_re) if has_z else None
    return problem, oracle.Parameters(fit.scale, rho, cov_re)


@pytest.mark.parametrize(
    ("seed", "residual", "re_formula", "rho"),
    [
        (1, "ar1", "~x", 0.6),  # a random slope on a covariate of its own
        (2, "car1", "~x", 0.6),
        (3, "ar1", "~1", -0.5),
        (4, "ar1", "0", 0.8),
        (5, "car1", "0", 0.3),
    ],
)
def test_dense_formulas_with_gaps(
    seed: int, residual: str, re_formula: str, rho: float
) -> None:
    data = frame(seed, m=20, rho=rho)
    if residual == "car1":  # distances below and above one, of any size
        data["t"] = data["t"] * 0.45 + 0.1 * np.sin(data["t"] + data["id"])
    fit = mar.mixedlm(
        "y ~ x + t + arm",
        data,
        groups="id",
        re_formula=re_formula,
        time="t",
        residual=residual,
    ).fit()
    assert not fit.at_boundary
    problem, at = at_estimate(fit, data, re_formula != "0")
    compare(fit, problem, at, True, 1e-8)


def test_series_inside_groups() -> None:
    data = frame(8, m=16)
    data["part"] = (data["t"] > 4).astype(int)
    fit = mar.mixedlm(
        "y ~ x + t", data, groups="id", re_formula="~1", time="t", series="part"
    ).fit()
    assert not fit.at_boundary
    problem, at = at_estimate(fit, data, True)
    compare(fit, problem, at, True, 1e-8)


def test_few_long_series() -> None:
    # gaps of their own and more than 200 rows a series
    rng = np.random.default_rng(4)
    times = [np.cumsum(rng.uniform(0.2, 2.0, size=260)) for _ in range(2)]
    noise = []
    for time in times:
        correlation = 0.7 ** np.abs(np.subtract.outer(time, time))
        noise.append(np.linalg.cholesky(correlation) @ rng.normal(size=260))
    data = pd.DataFrame({"y": np.concatenate(noise), "t": np.concatenate(times)})
    data["id"], data["x"] = np.repeat([0, 1], 260), rng.normal(size=520)
    fit = mar.mixedlm(
        "y ~ x", data, groups="id", re_formula="0", time="t", residual="car1"
    ).fit()
    problem, at = at_estimate(fit, data, False)
    compare(fit, problem, at, True, 1e-8)


def test_fixed_correlation_is_known() -> None:
    data = frame(3, m=15)
    options: dict[str, Any] = {"groups": "id", "re_formula": "~1", "time": "t"}
    fit = mar.mixedlm("y ~ x + t", data, residual=AR1(0.4, fixed=True), **options).fit()
    problem, at = at_estimate(fit, data, True)
    d = dense(problem, at, True)
    keep = np.ix_([0, 2], [0, 2])  # random-intercept variance and sigma2
    w = np.zeros((3, 3))
    w[keep] = np.linalg.inv(d.expected[keep])
    found = fit.with_df("kr")
    np.testing.assert_allclose(
        found.bse_fe, np.sqrt(np.diag(adjusted(d, w, True))), rtol=1e-10
    )


def test_uncorrelated_random_effects() -> None:
    # held covariances are known, here and for the dense formulas
    case = load("ovary_diag_ar1_reml")
    fit, d = (
        fitted(case.name),
        dense(oracle_problem(case), oracle_parameters(case), True),
    )
    used = [0, 2, 3, 4]
    w = np.zeros((5, 5))
    w[np.ix_(used, used)] = np.linalg.inv(d.expected[np.ix_(used, used)])
    se = np.sqrt(np.diag(adjusted(d, w, True)))
    full = fit.with_df("kr", kr="full", information="expected")
    np.testing.assert_allclose(full.bse_fe, se, rtol=1e-5)


# --- designs in which the classical test is exact


def nested_frame(seed: int, arms: int, subjects: int, rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    arm = np.repeat(np.arange(arms), subjects * rows)
    subject = np.repeat(np.arange(arms * subjects), rows)
    y = 3.0 * rng.normal(size=arms * subjects)[subject] + rng.normal(size=len(arm))
    data = pd.DataFrame({"y": y, "arm": arm, "id": subject})
    data["block"] = np.tile(np.arange(rows), arms * subjects)
    return data


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(3, 6), st.integers(2, 5))
def test_balanced_anova_is_exact(
    seed: int, arms: int, subjects: int, rows: int
) -> None:
    data = nested_frame(seed, arms, subjects, rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = mar.mixedlm(
            "y ~ C(arm) + C(block)", data, groups="id", residual="independent"
        ).fit()
    assume(not fit.at_boundary)
    means = data.groupby(["arm", "id"])["y"].mean()
    samples = [means[arm].to_numpy() for arm in range(arms)]
    classical = stats.f_oneway(*samples)
    between = np.eye(arms + rows - 1)[1:arms]
    df = arms * (subjects - 1)
    for method in ("containment", "bw", "satterthwaite", "kenward-roger"):
        test = fit.f_test(between, df=method)
        assert test.fvalue == pytest.approx(classical.statistic, rel=1e-6)
        assert test.df_denom == pytest.approx(df, rel=1e-6)
        assert test.pvalue == pytest.approx(classical.pvalue, rel=1e-5)
        within = fit.f_test(np.eye(arms + rows - 1)[arms:], df=method)
        assert within.df_denom == pytest.approx(
            (rows - 1) * (arms * subjects - 1), rel=1e-6
        )


def test_kenward_roger_is_hotelling() -> None:
    # random coefficients, balanced: T-squared with q = 2 and 17 (1997, section 3)
    test = fitted("sleepstudy_rs_reml").f_test(np.eye(2), df="kr")
    assert test.df_denom == pytest.approx(18 - 2, rel=1e-8)
    assert test.scaling == pytest.approx(16 / 17, rel=1e-8)


def test_one_row_is_a_t_test() -> None:
    fit = fitted("oxboys_gaps_ar1_reml")
    row = [[1.0, -0.5, 0.2]]
    for method in ("satterthwaite", "kr", "containment", 7.5):
        t, f = fit.t_test(row, df=method), fit.f_test(row, df=method)
        assert f.fvalue == pytest.approx(float(t.tvalue[0]) ** 2, rel=1e-9)
        assert f.df_denom == pytest.approx(t.df_denom[0], rel=1e-9)
        assert f.pvalue == pytest.approx(float(t.pvalue), rel=1e-8)
    assert moments_to_f(0.125, 0.125, 1) == (16.0, 1.0)


def test_pooled_df() -> None:
    nu = np.array([5.0, 12.0, 30.0])
    e = (nu / (nu - 2)).sum()
    assert pooled_df(nu) == pytest.approx(2 * e / (e - 3), rel=1e-12)
    assert pooled_df(np.array([1.5, 12.0])) == 2.0
    assert pooled_df(np.array([9.0, 9.0])) == 9.0
    assert pooled_df(np.array([np.inf, np.inf])) == np.inf
    assert pooled_df(np.array([6.0, np.inf])) == pytest.approx(2 * 2.5 / 0.5)


# --- what must not matter


def test_order_scale_and_origin_do_not_matter() -> None:
    data = frame(6, m=20)
    build: dict[str, Any] = {"groups": "id", "re_formula": "~t", "time": "t"}
    changed = data.sample(frac=1.0, random_state=9)
    changed = changed.assign(
        y=1e4 * changed["y"] + 7.0, x=1e-3 * changed["x"] + 2.0, t=changed["t"] + 2020
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        one = mar.mixedlm("y ~ x + t", data, **build).fit()
        two = mar.mixedlm("y ~ x + t", changed, **build).fit()
    rows = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    for method in ("satterthwaite", "kr"):
        a, b = one.t_test(rows, df=method), two.t_test(rows, df=method)
        np.testing.assert_allclose(a.df_denom, b.df_denom, rtol=1e-5)
        np.testing.assert_allclose(a.tvalue, b.tvalue, rtol=1e-5)
        a, b = one.f_test(rows, df=method), two.f_test(rows, df=method)
        assert a.fvalue == pytest.approx(b.fvalue, rel=1e-5)
        assert a.df_denom == pytest.approx(b.df_denom, rel=1e-5)


@cache
def conditions() -> pd.DataFrame:
    """Effects of conditions that vary between groups, each by its own variance."""
    rng = np.random.default_rng(8)
    data = pd.DataFrame(
        {"id": np.repeat(np.arange(18), 15), "cond": np.tile(list("pqrst"), 54)}
    )
    data["x"] = rng.normal(size=len(data))
    own = rng.normal(size=(18, 5)) * [1.5, 0.3, 1.0, 0.1, 0.6]
    data["y"] = own[data["id"], data["cond"].map("pqrst".index)]
    data["y"] += rng.normal(size=18)[data["id"]] + rng.normal(size=len(data))
    # two variables for the random effects, the same however the factor is coded
    data["z"] = data["cond"].map(dict(zip("pqrst", [1, 0, 1, 0, -2], strict=True)))
    data["w"] = data["cond"].map(dict(zip("pqrst", [0, 1, 0, 0, 1], strict=True)))
    data["km"], data["turned"] = (
        data["x"] / 1000,
        pd.Categorical(data["cond"], list("tprqs")),
    )
    return data[rng.uniform(size=len(data)) > 0.2]


def varying(formula: str) -> Any:
    return mar.mixedlm(
        formula,
        conditions(),
        groups="id",
        re_formula="~z + w",
        re_cov="diagonal",
        residual="independent",
    ).fit()


@pytest.mark.parametrize("information", ["observed", "expected"])
def test_several_rows_do_not_depend_on_the_coding(information: str) -> None:
    df = DFMethod("satterthwaite", information=information)
    codings = ["cond", "C(cond, Sum)", "C(cond, Helmert)", "C(cond, Treatment('r'))"]
    fits = [varying(f"y ~ x + {factor}") for factor in codings]
    fits += [varying(f"y ~ 0 + {factor} + x") for factor in ("cond", "C(cond, Poly)")]
    fits += [varying(f"y ~ {factor} + km") for factor in ("turned", "C(turned, Diff)")]
    expected = principal_contrasts(fits[0], df)
    for fit in fits:
        for kind in (2, 3):
            row = fit.anova(type=kind, df=df).query("num_df == 4").iloc[0]
            np.testing.assert_allclose([row.den_df, row.F], expected, rtol=1e-5)
    rows = np.eye(6)[
        [k for k, name in enumerate(fits[0].fe_params.index) if "[" in name]
    ]
    mixed = np.random.default_rng(4).normal(size=(4, 4)) @ rows
    again = np.concatenate([mixed, mixed[:2] + mixed[2:]])
    for matrix in (rows, 1e-5 * mixed, again):
        test = fits[0].f_test(matrix, df=df)
        np.testing.assert_allclose([test.df_denom, test.fvalue], expected, rtol=1e-5)


def principal_contrasts(fit: Any, df: DFMethod) -> list[float]:
    """The pooled DF of contrasts uncorrelated in the model and by least squares."""
    names = list(fit.fe_params.index)
    rows = np.eye(len(names))[[k for k, name in enumerate(names) if "[" in name]]
    x, cov = fit.model.exog, np.asarray(fit.cov_params())[: len(names), : len(names)]
    model, plain = rows @ cov @ rows.T, rows @ np.linalg.inv(x.T @ x) @ rows.T
    _, vectors = scipy.linalg.eigh(model, plain)
    tests = fit.t_test(vectors.T @ rows, df=df)
    return [pooled_df(tests.df_denom), float((tests.tvalue**2).mean())]


def test_rows_that_no_basis_tells_apart() -> None:
    """Balanced data whose variances by condition are equal: any basis is principal."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame(
        {"id": np.repeat(np.arange(10), 12), "cond": np.tile(list("pqr"), 40)}
    )
    data["y"] = rng.normal(size=10)[data["id"]] + rng.normal(size=120)
    tests = []
    for factor in ("cond", "C(cond, Sum)", "C(cond, Helmert)"):
        fit = mar.mixedlm(
            f"y ~ {factor}", data, groups="id", residual="independent"
        ).fit()
        tests.append(
            fit.anova(df="satterthwaite").iloc[1][["den_df", "F"]].astype(float)
        )
    # the classical analysis of variance: 120 - 10 - 2
    np.testing.assert_allclose(tests, [[108.0, tests[0]["F"]]] * 3, rtol=1e-6)


@pytest.mark.parametrize("residual", ["ar1", "car1"])
def test_unit_of_time(residual: str) -> None:
    # in days or weeks the same, but for the term that depends on the parameter
    weeks, days = frame(6, m=20), frame(6, m=20, days=7)
    options: dict[str, Any] = {"groups": "id", "time": "t", "residual": residual}
    one = mar.mixedlm("y ~ x", weeks, **options).fit()
    two = mar.mixedlm("y ~ x", days, **options).fit()
    for method in (DFMethod("satterthwaite"), DFMethod("kr", kr="linear")):
        a, b = one.with_df(method), two.with_df(method)
        np.testing.assert_allclose(a.df, b.df, rtol=1e-5)
        np.testing.assert_allclose(a.bse_fe, b.bse_fe, rtol=1e-6)
    assert abs(two.with_df("kr").bse_fe["x"] / one.with_df("kr").bse_fe["x"] - 1) < 0.1
    problem, at = at_estimate(two, days, True)
    compare(two, problem, at, True, 1e-6)


def test_compression_does_not_matter() -> None:
    # one pattern for all groups, and rows that no two groups share
    data = nested_frame(1, 2, 25, 4)
    rng = np.random.default_rng(0)
    data["z"] = 1.0 + 1e-9 * rng.normal(size=len(data))
    build: dict[str, Any] = {"groups": "id", "time": "block"}
    one = mar.mixedlm("y ~ block + arm", data, **build).fit()
    two = mar.mixedlm("y ~ block + arm", data, re_formula="0 + z", **build).fit()
    assert len(one.fit.data.compressed.weights) < len(two.fit.data.compressed.weights)
    for method in ("satterthwaite", "kr"):
        a, b = one.with_df(method), two.with_df(method)
        np.testing.assert_allclose(a.df, b.df, rtol=1e-5)
        np.testing.assert_allclose(a.bse_fe, b.bse_fe, rtol=1e-6)


# --- the boundary: values of lmerTest 3.1-3 and pbkrtest 0.5-2 on the same rows

_ZERO = (
    [0] * 4 + [1] * 4 + [2] * 3 + [3] * 4 + [4] * 4 + [5] * 4 + [6] * 4 + [7] * 4,
    [0, 1, 2, 3, 0, 1, 2, 3, 0, 2, 3] + [0, 1, 2, 3] * 5,
    [10.1, 9.3, 10.3, 11.4, 9.1, 10.4, 11.1, 11.5, 9.5, 11.9, 11.8, 9.2, 11.2, 10.5,
     12.4, 8.9, 11.4, 11.0, 10.3, 9.7, 10.6, 11.3, 10.5, 8.9, 10.7, 10.5, 11.7, 10.8,
     8.9, 11.3, 12.7],
)  # fmt: skip
_LINE = (
    [0] * 4 + [1] * 4 + [2] * 4 + [3] * 3 + [4] * 4 + [5] * 3 + [6] * 4 + [7] * 4,
    [0, 1, 2, 3] * 3 + [0, 2, 3, 0, 1, 2, 3, 0, 1, 3] + [0, 1, 2, 3] * 2,
    [7.5, 11.3, 10.3, 10.3, 9.5, 9.1, 10.1, 11.2, 10.1, 10.2, 10.9, 11.7, 11.8, 13.3,
     14.4, 9.1, 11.4, 11.8, 11.7, 9.6, 11.5, 12.5, 11.0, 11.1, 12.3, 13.1, 10.1, 10.4,
     12.1, 13.7],
)  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "re_formula", "method", "df", "se", "joint"),
    [
        (_ZERO, "~1", "satterthwaite", [28, 28, 28],
         [0.2587619086, 0.1157218435, 0.2621893679], (28, 16.97883058)),
        (_ZERO, "~1", "kr", [17.818281386, 22.096766647, 5.942011614],
         [0.2598163437, 0.1157777494, 0.2628056681], (11.78589006, 16.05655258)),
        (_LINE, "~t", "satterthwaite", [6.083436904, 17.088394041, 5.920607603],
         [0.5212965802, 0.1151574759, 0.7289449309], (8.224084483, 25.06064443)),
        (_LINE, "~t", "kr", [6.056235166, 6.990621016, 5.997033595],
         [0.5621498515, 0.1152425964, 0.8421794260], (7.915561473, 23.06068103)),
    ],
)  # fmt: skip
def test_singular_covariance(
    rows: Any, re_formula: str, method: str, df: Any, se: Any, joint: Any
) -> None:
    data = pd.DataFrame(dict(zip(("id", "t", "y"), rows, strict=True)))
    data["g"] = data["id"] % 2
    model = mar.mixedlm(
        "y ~ t + g", data, groups="id", re_formula=re_formula, residual="independent"
    )
    with pytest.warns(BoundaryWarning):
        fit = model.fit()
    found = fit.with_df(method)
    np.testing.assert_allclose(found.df, df, rtol=1e-5)
    np.testing.assert_allclose(found.bse_fe, se, rtol=1e-5)
    test = found.f_test(np.eye(3)[1:])
    assert (test.df_denom, test.fvalue) == pytest.approx(joint, rel=1e-5)
    word = "as known" if method == "satterthwaite" else "on the boundary too"
    assert word in " ".join(found.summary().as_text().split())


@pytest.mark.parametrize("name", case_names("ar1", "boundary"))
@pytest.mark.parametrize("information", ["observed", "expected"])
def test_boundary_with_autocorrelation(name: str, information: str) -> None:
    fit = fitted(name)
    for method in (
        DFMethod("satterthwaite", information=information),
        DFMethod("kr", kr="linear", information=information),
    ):
        found = fit.with_df(method)
        assert (found.df > 0).all()
        assert np.isfinite(found.bse_fe).all()
        assert np.isfinite(found.f_test(np.eye(len(found.fe_params))).pvalue)
    if name == "sleepstudy_ar1_reml" and information == "expected":
        # balanced: as many as 18 intercepts and slopes leave
        np.testing.assert_allclose(found.df, 17.0, rtol=1e-6)


def test_correction_that_is_no_covariance() -> None:
    fit = fitted("oxboys_bimodal_ar1_reml")  # rho 0.98, and a flat likelihood
    method = DFMethod("kenward-roger", "full", "expected")
    with pytest.raises(NotComputedError, match=r"not positive definite.*kr='linear'"):
        fit.with_df(method)
    with pytest.raises(NotComputedError, match="kr='linear'"):
        fit.summary(df=method)
    assert (fit.with_df("kr").bse_fe > 0.0).all()


def test_correlation_at_the_end_of_its_range() -> None:
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"id": np.repeat(np.arange(20), 5)})
    data["t"] = np.tile(np.arange(5), 20)
    step = np.where(data["t"] % 2 == 0, 1.0, -1.0)  # strictly alternating, and noise
    data["y"] = rng.normal(size=20)[data["id"]] * step + 0.3 * rng.normal(size=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        noisy: dict[str, Any] = {"residual": AR1(nugget=True), "re_formula": "0"}
        model = mar.mixedlm("y ~ t", data, groups="id", time="t", **noisy)
        fit = model.fit()
        # with rho = -1 the alternating part is a random coefficient
        same = mar.mixedlm("y ~ t", data.assign(z=step), groups="id", re_formula="0+z")
    assert fit.at_boundary
    expected = same.fit()
    np.testing.assert_allclose(fit.llf, expected.llf, atol=1e-5)
    for method in ("satterthwaite", "kr"):
        found = fit.with_df(method)
        text = " ".join(found.summary().as_text().split())
        assert "end of its range, as known" in text
        np.testing.assert_allclose(found.df, expected.with_df(method).df, rtol=1e-4)


# --- simple methods


def test_residual_normal_and_given() -> None:
    fit = fitted("orthodont_rs_ar1_reml")
    n, p = int(fit.nobs), len(fit.fe_params)
    assert (fit.with_df("residual").df == n - p).all()
    assert (fit.with_df(11).df == 11.0).all()
    np.testing.assert_allclose(
        fit.with_df(11).pvalues[:p], 2 * stats.t.sf(np.abs(fit.tvalues[:p]), 11)
    )
    normal = fit.with_df("normal")
    np.testing.assert_allclose(
        normal.pvalues[:p], 2 * stats.norm.sf(np.abs(fit.tvalues[:p]))
    )
    half = (normal.conf_int().iloc[:p, 1] - fit.fe_params) / fit.bse_fe
    np.testing.assert_allclose(half, stats.norm.isf(0.025), rtol=1e-10)
    assert normal.t_test(np.eye(p)).distribution == "norm"
    joint = normal.wald_test(np.eye(p))
    assert joint.distribution == "chi2"
    as_f = fit.f_test(np.eye(p), df="normal")
    assert as_f.pvalue == pytest.approx(float(joint.pvalue), rel=1e-10)


def test_between_within() -> None:
    fit = fitted("sim_dropout_ar1_reml")
    data = load("sim_dropout_ar1_reml").data
    groups, exog = fit.fit.data.codes, pd.DataFrame(fit.model.exog)
    constant = (exog.groupby(groups).nunique() == 1).all()
    m = int(groups.max()) + 1
    found = fit.with_df("between-within").df
    between = m - constant.sum()
    rest = fit.nobs - len(constant) - between
    assert found.tolist() == [between if c else rest for c in constant]
    assert len(data) >= fit.nobs


def test_names_and_options() -> None:
    linear = resolve_df("KR")
    assert (linear.kr, linear.information) == ("linear", "expected")
    full = resolve_df("Kenward_Roger", kr="full")
    assert (full.kr, full.information) == ("full", "observed")
    assert resolve_df("satterthwaite").information == "observed"
    assert resolve_df(DFMethod("kr", information="observed")).information == "observed"
    assert resolve_df(3.5).label == "3.5"
    for bad in ("kenwood", "", None, True, -1.0, np.nan, ["satterthwaite"]):
        with pytest.raises(UnsupportedError, match="degrees of freedom"):
            resolve_df(bad)
    with pytest.raises(UnsupportedError, match="option of df='kenward-roger'"):
        resolve_df("satterthwaite", kr="full")
    with pytest.raises(UnsupportedError, match="option of df="):
        resolve_df("containment", information="observed")
    with pytest.raises(UnsupportedError, match="'full' or 'linear'"):
        resolve_df("kr", kr="second")
    with pytest.raises(UnsupportedError, match="'observed' or 'expected'"):
        resolve_df("kr", information="fisher")


# --- the results


def test_with_df_is_a_copy() -> None:
    fit = fitted("oxboys_gaps_ar1_reml")
    before = fit.bse_fe.copy(), fit.df.copy(), fit.pvalues.copy()
    found = fit.with_df("kenward-roger", kr="linear", information="observed")
    assert (fit.df_method, found.df_method) == ("containment", "kenward-roger")
    assert (found.bse_fe > fit.bse_fe).all()
    assert list(found.bse.index) == list(fit.bse.index)
    np.testing.assert_allclose(found.bse[:3], found.bse_fe)
    np.testing.assert_array_equal(found.fe_params, fit.fe_params)
    for old, new in zip(before, (fit.bse_fe, fit.df, fit.pvalues), strict=True):
        np.testing.assert_array_equal(old, new)
    back = found.with_df("containment")
    np.testing.assert_allclose(back.bse_fe, fit.bse_fe, rtol=1e-14)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.df, found.df)
    assert again.df_method == "kenward-roger"


def test_arguments_agree_with_the_copy() -> None:
    fit = fitted("oxboys_gaps_ar1_reml")
    found = fit.with_df("satterthwaite")
    pd.testing.assert_frame_equal(fit.conf_int(df="satterthwaite"), found.conf_int())
    frames = [fit.summary(df="satterthwaite"), found.summary()]
    first, second = (frame.to_frames()["parameters"] for frame in frames)
    pd.testing.assert_frame_equal(first, second)
    one, two = fit.t_test(np.eye(3), df="satterthwaite"), found.t_test(np.eye(3))
    np.testing.assert_array_equal(one.df_denom, two.df_denom)
    interval = np.asarray(found.conf_int())[:3]
    np.testing.assert_allclose(two.conf_int(), interval, rtol=1e-10)


def test_summary_says_which() -> None:
    fit = fitted("oxboys_gaps_ar1_reml")
    text = " ".join(fit.summary(df="kr").as_text().split())
    assert "Kenward-Roger (linear, expected information)" in text
    assert "Standard errors hold the Kenward-Roger correction, without its" in text
    assert "DF method" not in fit.summary().as_text()
    assert "use containment degrees of freedom" in fit.summary().as_text()
    normal = fit.summary(df="normal")
    columns = list(normal.to_frames()["parameters"].columns)
    assert {"z", "P>|z|"} <= set(columns)
    assert "DF" not in columns


def test_refusals() -> None:
    reml = fitted("oxboys_gaps_ar1_reml")
    ml = fitted("oxboys_gaps_car1_age_ml")
    with pytest.raises(NotComputedError, match="REML"):
        ml.with_df("kr")
    assert (ml.with_df("satterthwaite").df > 0).all()
    with pytest.raises(NotComputedError, match="row is zero"):
        reml.t_test([[0.0, 0.0, 0.0]])
    with pytest.raises(NotComputedError, match="row is zero"):
        reml.f_test([[0.0, 0.0, 0.0]], df="kr")
    with pytest.raises(UnsupportedError, match="own covariance"):
        reml.f_test(np.eye(3), cov_p=np.eye(3), df="satterthwaite")
    rows = np.array([[0, 1, 0], [0, 2, 0]])
    with pytest.raises(NotComputedError, match="contradict"):
        reml.f_test((rows, [0.0, 1.0]), df="kr")


def test_redundant_rows() -> None:
    fit = fitted("oxboys_gaps_ar1_reml")
    rows = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    more = np.vstack([rows, rows[0] - 2 * rows[1]])
    for method in ("satterthwaite", "kr", "containment"):
        one, two = fit.f_test(rows, df=method), fit.f_test(more, df=method)
        assert two.df_num == 2
        assert two.fvalue == pytest.approx(one.fvalue, rel=1e-8)
        if method != "satterthwaite":  # its rotation depends on the rows
            assert two.df_denom == pytest.approx(one.df_denom, rel=1e-8)
    # Kenward and Roger's test is one of the hypothesis, not of its rows
    mixed = fit.f_test([[0.0, 1.0, 1.0], [0.0, 3.0, -1e3]], df="kr")
    assert mixed.fvalue == pytest.approx(fit.f_test(rows, df="kr").fvalue, rel=1e-8)


def test_one_group_and_removed_data() -> None:
    data = frame(5, m=10)
    options: dict[str, Any] = {"re_formula": "0", "time": "t", "series": "id"}
    one = mar.mixedlm("y ~ x", data.assign(all=1), groups="all", **options).fit()
    with pytest.raises(NotComputedError, match="several groups"):
        one.with_df("bw")
    assert (one.with_df("kr").df > 0).all()
    fit = mar.mixedlm("y ~ x", data, groups="id", time="t").fit()
    ready = fit.with_df("satterthwaite").df
    other = mar.mixedlm("y ~ x", data, groups="id", time="t").fit()
    other.remove_data()
    for method in ("satterthwaite", "kr", "bw"):
        with pytest.raises(NotComputedError, match="removed"):
            other.with_df(method)
    fit.remove_data()
    np.testing.assert_array_equal(fit.with_df("satterthwaite").df, ready)


def test_exhausted_stratum() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"id": np.repeat([0, 1, 2], 6), "t": np.tile(np.arange(6), 3)})
    data["a"], data["b"] = (data["id"] == 1) * 1.0, (data["id"] == 2) * 1.0
    data["y"] = rng.normal(size=18)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        fit = mar.mixedlm("y ~ t + a + b", data, groups="id", residual="ar1").fit()
    with pytest.raises(NotComputedError, match="no degrees of freedom are left"):
        fit.t_test("a = 0")
    assert "No degrees of freedom are left for a, b" in " ".join(
        fit.summary().as_text().split()
    )


def test_not_a_maximum() -> None:
    data = frame(7, m=15)
    fit = MixedLMAR(
        data["y"],
        np.column_stack([np.ones(len(data)), data["x"]]),
        groups=data["id"],
        time=data["t"],
        residual=CAR1(),
    ).fit(do_cg=False, start_params=np.array([5.0, 0.999]))
    with pytest.raises(NotComputedError, match="not at a maximum"):
        fit.with_df("satterthwaite")
