"""Leaving out groups: against dense matrices, real refits, car and SAS."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

import mixedar.formula.api as mar
from helpers import oracle, simulated
from helpers.effort import calls
from helpers.fitted_models import (
    MODELS,
    build,
    every,
    oracle_of,
    reference_frame,
    shared,
)
from mixedar import MixedLMAR
from mixedar.datasets import load_orthodont
from mixedar.diagnostics.influence.deletion import DeletionCoordinates
from mixedar.engine.compress import compress
from mixedar.engine.covariance import factor_entries
from mixedar.engine.estimate import estimate_at
from mixedar.engine.groups import group_sums, sums_by_engine
from mixedar.engine.newton import newton
from mixedar.engine.problem import LikelihoodProblem
from mixedar.exceptions import (
    BoundaryWarning,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.residual.variance import VarConstPower, VarIdent, VarPower

mpl.use("Agg")

Array = NDArray[Any]
close = np.testing.assert_allclose


SOME = pytest.mark.parametrize(
    ("name", "reml"),
    [*((name, True) for name in MODELS), ("slope", False), ("components", False)],
)


def refits_of(fit: Any) -> pd.DataFrame:
    """Parameters of fits to the other groups, each by a search of its own."""
    fit = fit.fit
    data, grouped = fit.data, fit.data.grouped
    start = factor_entries(fit.cov_re_unscaled, fit.vcomp / fit.scale)
    rows = []
    for group in range(fit.n_groups):
        first, end = grouped.offsets[group : group + 2]
        keep = np.r_[0:first, end : grouped.offsets[-1]]
        sizes = np.delete(grouped.sizes, group)
        # a series may begin anywhere but not before its group: gaps stay as they are
        others = compress(
            grouped.sort(data.random_design)[keep],
            grouped.sort(data.exog)[keep],
            grouped.sort(data.endog)[keep],
            grouped.gaps[keep],
            np.concatenate([[0], np.cumsum(sizes)]),
            None if grouped.marks is None else grouped.marks[keep],
        )
        problem = LikelihoodProblem(
            others, len(keep), fit.structure, fit.layout, reml=fit.reml
        )
        lam, u = problem.split(problem.theta_from(start, fit.residual_params))
        # a standard deviation of zero is a saddle that no gradient leaves
        theta = np.concatenate([np.where(np.abs(lam) < 0.05, 0.05, lam), u])
        if problem.k_theta:
            theta = newton(partial(problem.evaluate, derivatives=True), theta).theta
        one = estimate_at(problem, theta)
        rows.append([*one.beta, *one.cov_values, *one.residual_params, one.scale])
    index = pd.Index(data.group_labels, name=data.groups_name)
    return pd.DataFrame(rows, index=index, columns=[*fit.names, "scale"])


def rows_without(problem: oracle.Problem, keep: Array) -> oracle.Problem:
    """The dense problem on some rows."""

    def part(x: Array | None) -> Array | None:
        return None if x is None else x[keep]

    return oracle.Problem(
        y=problem.y[keep],
        X=problem.X[keep],
        groups=problem.groups[keep],
        Z=part(problem.Z),
        time=part(problem.time),
        series=part(problem.series),
        vc={name: labels[keep] for name, labels in problem.vc.items()},
    )


# sums over groups ---------------------------------------------------------


@SOME
def test_terms_of_groups(name: str, reml: bool) -> None:
    # vectorised, against the likelihood's own sums one group after the other
    check_terms_of_groups(shared(name, reml))


@pytest.mark.parametrize("residual", ["car1", "ar1", "independent"])
def test_terms_of_groups_with_standard_deviations(residual: str) -> None:
    data = simulated.simulate(5, m=14, size=5, sd=(0.8, 0.4), keep=0.8)
    data["v"] = np.exp(0.4 * np.random.default_rng(6).normal(size=len(data)))
    arguments: dict[str, Any] = {"re_formula": "~x", "time": "t", "residual": residual}
    model = mar.mixedlm(
        "y ~ x", data, groups="id", weights=VarConstPower("v"), **arguments
    )
    check_terms_of_groups(model.fit())


def check_terms_of_groups(fit: Any) -> None:
    at = DeletionCoordinates(fit.fit)
    problem = at.problem
    arguments = (
        at.unit_rows(slice(0, fit.n_groups)),
        problem.structure,
        problem.covariance,
        at.factor,
        at.u,
    )
    found, expected = group_sums(*arguments), sums_by_engine(*arguments)
    for part in ("s", "d1", "d2", "s1", "s2", "zz", "zw"):
        close(getattr(found, part), getattr(expected, part), rtol=1e-9, atol=1e-10)
    for part in ("s", "d1", "d2", "s1", "s2"):
        total = getattr(found, part).sum(axis=-1)
        close(total, getattr(at.total, part)[..., 0], rtol=1e-9, atol=1e-9)


def test_groups_that_share_their_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    data = simulated.simulate(4, m=25, size=4, sd=(0.0, 0.5), keep=0.9)
    fit = mar.mixedlm(
        "y ~ x", data, groups="id", re_formula="0", time="t", residual="arma11"
    ).fit()
    at = DeletionCoordinates(fit.fit)
    problem = at.problem
    arguments = (
        at.unit_rows(slice(0, fit.n_groups)),
        problem.structure,
        problem.covariance,
        at.factor,
        at.u,
    )
    together = sums_by_engine(*arguments)
    monkeypatch.setattr("mixedar.engine.groups._SHARED_ROWS", 0)
    alone = sums_by_engine(*arguments)
    for part in ("s", "d1", "d2", "s1", "s2", "zz", "zw"):
        close(getattr(together, part), getattr(alone, part), rtol=1e-8, atol=1e-10)


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = shared("slope")
    whole = fit.influence(1).summary_frame()
    monkeypatch.setattr("mixedar.engine.groups._NUMBERS", 5000)
    parts = fit.influence(1).summary_frame()
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-9)


# fixed effects, covariance parameters held --------------------------------


@SOME
def test_held_parameters_are_exact(name: str, reml: bool) -> None:
    fit = shared(name, reml)
    problem, params = oracle_of(fit)
    full = oracle.solve(problem, params, reml)
    found = fit.influence(0)
    p = fit.k_fe
    for label in list(found.params.index)[::7]:
        rest = rows_without(problem, problem.groups != label)
        best = oracle.profile(rest, params, reml)
        one = oracle.solve(rest, best, reml)
        change = full.fe_params - one.fe_params
        got = found.params.loc[label]
        close(got.iloc[:p], one.fe_params, rtol=1e-10, atol=1e-10)
        close(got["scale"], best.sigma2, rtol=1e-9)
        size = change @ np.linalg.solve(full.cov_params, change) / p
        close(found.cooks_distance[label], size, rtol=1e-8)
        size = change @ np.linalg.solve(one.cov_params, change) / p
        close(found.mdffits[label], size, rtol=1e-8)
        ratio = np.linalg.solve(full.cov_params, one.cov_params)
        close(found.covratio[label], np.linalg.det(ratio), rtol=1e-8)
        close(found.covtrace[label], abs(np.trace(ratio) - p), atol=1e-9)
        close(found.dfbeta.loc[label], change, atol=1e-9)
        errors = np.sqrt(np.diag(one.cov_params))
        close(found.dfbetas.loc[label], change / errors, rtol=1e-7, atol=1e-9)


def test_published_by_sas() -> None:
    # SAS/STAT User's Guide, PROC MIXED, "Influence Analysis for Repeated Measures
    # Data": model y = gender age gender*age / influence(effect=person); repeated /
    # type=un subject=person; method=ml; the first seven girls
    press = [10.1716, 3.8187, 10.8448, 24.0339, 1.6900, 11.8592, 1.1887]
    cook = [0.01539, 0.03988, 0.02891, 0.04515, 0.01613, 0.01634, 0.00521]
    data = load_orthodont()
    fit = mar.mixedlm(
        "distance ~ sex + age + sex:age",
        data,
        groups="subject",
        re_formula="0",
        time="occ",
        residual="un",
    ).fit(reml=False)
    found = fit.influence(0)
    labels = [f"F{k:02d}" for k in range(1, 8)]
    close(found.cooks_distance[labels], cook, atol=6e-6)
    design = pd.DataFrame(fit.model.exog, columns=fit.model.exog_names)
    for label, value in zip(labels, press, strict=True):
        own = (data["subject"] == label).to_numpy()
        fitted = design[own] @ found.params.loc[label, design.columns]
        r = data["distance"][own].to_numpy() - fitted.to_numpy()
        close(r @ r, value, atol=6e-5)


# covariance parameters ----------------------------------------------------


@SOME
def test_steps_lead_to_the_refits(name: str, reml: bool) -> None:
    fit = shared(name, reml)
    refits, steps = refits_of(fit), fit.influence(50)
    size = np.abs(refits).max()
    close(steps.params / size, refits / size, atol=2e-6)
    errors = np.append(np.asarray(fit.bse), fit.bse_scale)
    errors = np.where(np.nan_to_num(errors) > 0.0, errors, np.inf)
    one = fit.influence(1)
    moved = np.abs(refits - steps.params.mean()) / errors
    missed = np.abs(one.params - refits) / errors
    assert missed.to_numpy().max() < 0.05
    assert missed.to_numpy().max() < 0.15 * max(moved.to_numpy().max(), 0.1)
    if name != "ols":  # better than leaving them where they are
        held = np.abs(fit.influence(0).params - refits) / errors
        assert missed.to_numpy().mean() < 0.2 * held.to_numpy().mean()


@pytest.mark.parametrize("residual", ["un", "ar1h", "arma11", "cs", "exp"])
def test_other_structures(residual: str) -> None:
    data = simulated.simulate(4, m=25, size=4, sd=(0.0, 0.5))
    fit = mar.mixedlm(
        "y ~ x", data, groups="id", re_formula="0", time="t", residual=residual
    ).fit()
    refits, steps = refits_of(fit), fit.influence()
    size = np.abs(refits).max()
    close(steps.params / size, refits / size, atol=1e-5)
    one = fit.influence(1).params
    assert (np.abs(one - refits) / size).to_numpy().max() < 0.1
    assert (steps.cooks_distance_theta > 0.0).all()


@pytest.mark.parametrize("weights", ["varIdent", "varPower"])
def test_variance_functions(weights: str) -> None:
    rng = np.random.default_rng(8)
    data = simulated.simulate(4, m=30, size=5, sd=(1.0, 0.0), keep=0.9)
    data["y"] += np.where(data["arm"] == "drug", 2.0, 0.5) * rng.normal(size=len(data))
    data["w"] = 1.0 + data["t"]
    function = VarIdent("arm") if weights == "varIdent" else VarPower("w")
    options = {"groups": "id", "time": "t", "weights": function}
    fit = mar.mixedlm("y ~ x", data, **options).fit()
    refits, steps = refits_of(fit), fit.influence()
    size = np.abs(refits).max()
    close(steps.params / size, refits / size, atol=1e-4)
    rest = data[data["id"] != 3]
    one = mar.mixedlm("y ~ x", rest, **options).fit()
    close(refits.loc[3].drop("scale"), one.params, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["slope", "both", "gls"])
def test_refits_are_fits_of_the_other_groups(name: str) -> None:
    frame = reference_frame()
    refits = refits_of(shared(name))
    for label in (0, 17):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BoundaryWarning)
            one = build(frame[frame["id"] != label], **MODELS[name]).fit()
        got = refits.loc[label]
        close(got.drop("scale"), one.params, rtol=1e-5, atol=1e-6)
        close(got["scale"], one.scale, rtol=1e-6)


@pytest.mark.parametrize(
    ("seed", "m", "sd"),
    [(0, 8, (1.0, 0.5)), (4, 12, (0.5, 0.05)), (5, 20, (0.01, 0.3))],
)
def test_on_the_boundary(seed: int, m: int, sd: tuple[float, float]) -> None:
    fit = simulated.fit(simulated.simulate(seed, m=m, size=5, sd=sd, rho=0.3))
    assert fit.at_boundary
    refits, steps = refits_of(fit), fit.influence()
    scale = np.abs(np.append(np.asarray(fit.params), fit.scale)) + 0.05 * fit.scale
    close(steps.params / scale, refits / scale, atol=1e-3)
    assert (steps.cooks_distance_theta > 0.0).all()
    # not a saddle that one step cannot leave
    one = fit.influence(1)
    error = np.abs(one.params - refits) / scale
    moved = np.abs(refits - np.append(np.asarray(fit.params), fit.scale))
    assert error.to_numpy().mean() < 0.35 * (moved / scale).to_numpy().mean()


def test_against_car() -> None:
    # R: fit <- lme(distance ~ age * Sex, random = ~1 | Subject, correlation =
    #      corAR1(form = ~occ | Subject), data = Orthodont)
    #    car::influence(fit, groups = "Subject"), which refits: fixed effects; standard
    #    deviation, correlation and residual standard deviation; Cook's distance
    #    (car's has the factor (m - p) / m); dfbetas
    text = """
    M13 17.148484714 0.713442281 0.238738936 -0.235140602 1.910426576 -0.154491162
        1.187676541 0.192054527 -0.934456016 1.104156757 0.599696094 -0.708772833
    F10 16.331064582 0.785031553 1.423824707 -0.302560733 1.636944298 -0.023291733
        1.397973303 0.106536757 -0.006059691 0.005185839 -0.240146913 -0.028965134
    M04 15.714306247 0.829932774 1.670625185 -0.351433665 1.859107559 -0.130159246
        1.326970285 0.086333227 0.640823094 -0.605048806 -0.422754455 0.400154316
    """
    words = np.array(text.split()).reshape(3, 13)
    expected = {row[0]: row[1:].astype(float) for row in words}
    data = load_orthodont()
    data["girl"] = (data["sex"] == "Female").astype(float)
    fit = mar.mixedlm("distance ~ age * girl", data, groups="subject", time="occ").fit()
    found, refits = fit.get_influence(), refits_of(fit)
    for label, values in expected.items():
        for row in (found.params.loc[label], refits.loc[label]):
            deviations = np.sqrt([row["subject Var"], row["scale"]])
            got = [*row.iloc[:4], deviations[0], row["rho"], deviations[1]]
            close(got, values[:7], rtol=2e-5, atol=2e-5)
        got = [found.cooks_distance[label] * 23 / 27, *found.dfbetas.loc[label]]
        close(got, values[7:], rtol=2e-5, atol=2e-5)


def test_distance_of_covariance_parameters() -> None:
    fit = shared("slope")
    found = fit.influence()
    k = 5  # two variances, a covariance, rho, the residual variance
    estimate = fit.fit.estimate
    whole = np.append(np.asarray(fit.params)[fit.k_fe :], fit.scale)
    change = whole - found.params.iloc[:, fit.k_fe :].to_numpy()
    size = np.einsum("mi,ij,mj->m", change, np.linalg.inv(estimate.cov_theta), change)
    close(found.cooks_distance_theta, size / k, rtol=1e-8)
    errors = np.sqrt(np.diag(estimate.cov_theta))
    close(found.dftheta, change / errors, rtol=1e-10)
    # what is held has no part in it
    fixed = shared("fixed").influence()
    assert fixed.dftheta["rho"].isna().all()
    assert (fixed.cooks_distance_theta > 0.0).all()


def test_expected_information_agrees_inside() -> None:
    # on the boundary it takes the place of the observed one
    from mixedar.inference.information import information, information_matrix

    fit = simulated.fit(simulated.simulate(2, m=300, size=6, sd=(1.0, 0.8)))
    assert not fit.at_boundary
    observed = information(fit.fit)
    expected = information_matrix(fit.fit, "expected").to_numpy()
    size = np.sqrt(np.diag(observed))
    close(expected / np.outer(size, size), observed / np.outer(size, size), atol=0.2)


# statistics of groups -----------------------------------------------------


@every
def test_leverages(name: str) -> None:
    fit = shared(name)
    problem, params = oracle_of(fit)
    found = fit.influence(0)
    close(found.leverage.sum(), fit.k_fe, rtol=1e-9)
    parts = {part.group: part for part in oracle.parts(problem, params)}
    total = sum(
        problem.X[part.rows].T @ np.linalg.solve(part.V, problem.X[part.rows])
        for part in parts.values()
    )
    for label in list(found.leverage.index)[::9]:
        part, x = parts[label], problem.X[parts[label].rows]
        hat = x @ np.linalg.solve(total, x.T) @ np.linalg.inv(part.V)
        close(found.leverage[label], np.trace(hat), rtol=1e-8)
        effects = part.V - part.residual
        other = effects @ np.linalg.inv(part.V) @ (np.eye(len(x)) - hat)
        close(found.leverage_re[label], np.trace(other), rtol=1e-8, atol=1e-9)


@every
def test_outliers_are_shifted_means(name: str) -> None:
    # F tests of further columns in the whitened regression
    fit = shared(name)
    problem, params = oracle_of(fit)
    table = fit.influence(0).outlier_test("bonferroni")
    parts = list(oracle.parts(problem, params))
    roots = [np.linalg.cholesky(np.linalg.inv(part.V)).T for part in parts]
    X = np.concatenate(
        [r @ problem.X[p.rows] for r, p in zip(roots, parts, strict=True)]
    )
    y = np.concatenate(
        [r @ problem.y[p.rows] for r, p in zip(roots, parts, strict=True)]
    )
    ends = np.cumsum([len(part.rows) for part in parts])

    def rss(columns: Array) -> tuple[float, int]:
        A = np.concatenate([X, columns], axis=1)
        solved, _, rank, _ = np.linalg.lstsq(A, y, rcond=1e-9)
        residual = y - A @ solved
        return float(residual @ residual), int(rank)

    design = np.asarray(fit.fit.data.random_design)
    base, p = rss(X[:, :0])
    for k in (0, 11, 30):
        rows = slice(ends[k] - len(parts[k].rows), ends[k])
        own = np.zeros((len(y), len(parts[k].rows)))
        own[rows] = np.eye(len(parts[k].rows))
        whole, rank = rss(own)
        row = table.loc[parts[k].group]
        df, rest = rank - p, len(y) - rank
        f = (base - whole) / df / (whole / rest)
        close([row["F"], row["df"]], [f, df], rtol=1e-6)
        close(row["p"], stats.f.sf(f, df, rest), rtol=1e-5)
        close(row["p_adj"], min(1.0, row["p"] * len(parts)), rtol=1e-9)
        if design.shape[1] == 0:
            assert np.isnan(row["F_re"])
            continue
        z = np.zeros((len(y), design.shape[1]))
        z[rows] = roots[k] @ design[parts[k].rows]
        effects, rank_re = rss(z)
        df_re = rank_re - p
        f = (base - effects) / df_re / (effects / (len(y) - rank_re))
        close([row["F_re"], row["df_re"]], [f, df_re], rtol=1e-6)
        if df > df_re:
            f = (effects - whole) / (df - df_re) / (whole / rest)
            close([row["F_within"], row["df_within"]], [f, df - df_re], rtol=1e-5)


def test_external_outliers() -> None:
    # distances from what the other groups predict, all parameters theirs
    data = simulated.simulate(5, m=25, size=6)
    data.loc[data["id"] == 3, "y"] += 9.0
    fit = simulated.fit(data)
    found = fit.influence()
    internal = found.outlier_test()
    table = found.outlier_test(external=True)
    assert table.loc[3, "p_re"] < 0.1 * internal.loc[3, "p_re"]
    low = internal[["p", "p_re", "p_within"]].min(axis=1)
    same = low >= 0.05
    pd.testing.assert_frame_equal(
        table[same].filter(like="F"), internal[same].filter(like="F")
    )
    order = np.argsort(data["id"].to_numpy(), kind="stable")
    params = found.params.loc[3]
    names = list(fit.fit.names)
    own = order[data["id"].to_numpy()[order] == 3]
    psi = np.zeros((2, 2))
    psi[np.tril_indices(2)] = params[names[4:7]]
    psi = psi + psi.T - np.diag(np.diag(psi))
    problem = oracle.Problem(
        y=data["y"].to_numpy(),
        X=np.asarray(fit.model.exog),
        groups=data["id"].to_numpy(),
        Z=np.asarray(fit.model.exog_re),
        time=data["t"].to_numpy(dtype=float),
    )
    values = oracle.Parameters(params["scale"], params["rho"], psi)
    others = rows_without(problem, problem.groups != 3)
    cov = oracle.solve(others, values).cov_params
    V = next(p.V for p in oracle.parts(problem, values) if p.group == 3)
    x, z = problem.X[own], problem.Z[own]
    r = problem.y[own] - x @ params.to_numpy()[:4]
    S = np.linalg.inv(V + x @ cov @ x.T)
    distance = r @ S @ r
    score = z.T @ S @ r
    effects = score @ np.linalg.solve(z.T @ S @ z, score)
    # 24 others less an intercept and an arm: Hotelling with 22 degrees of freedom
    f = effects / 2 * 21 / 22
    close(table.loc[3, "F_re"], f, rtol=1e-5)
    close(table.loc[3, "p_re"], stats.f.sf(f, 2, 21), rtol=1e-4)
    close(table.loc[3, "F_within"], (distance - effects) / 4, rtol=1e-4)
    p_within = stats.f.sf((distance - effects) / 4, 4, 150 - 4 - 6)
    close(table.loc[3, "p_within"], p_within, rtol=1e-3)
    close(table.loc[3, "p"], 2.0 * min(table.loc[3, ["p_re", "p_within"]]), rtol=1e-9)


# invariance ---------------------------------------------------------------


def test_order_of_rows_and_unit_of_the_response() -> None:
    data = simulated.reference_data()
    found = simulated.base().influence()
    mixed = data.sample(frac=1.0, random_state=2)
    other = simulated.fit(mixed).influence()
    frame = found.summary_frame().drop(columns="iterations")
    again = other.summary_frame().drop(columns="iterations")
    pd.testing.assert_frame_equal(frame, again, rtol=1e-5, atol=1e-7)
    tenfold = simulated.fit(data.assign(y=10.0 * data["y"] - 3.0)).influence()
    again = tenfold.summary_frame().drop(columns="iterations")
    pd.testing.assert_frame_equal(frame, again, rtol=1e-5, atol=1e-7)
    close(tenfold.params["x"], 10.0 * found.params["x"], rtol=1e-6)
    close(tenfold.params["id Var"], 100.0 * found.params["id Var"], rtol=1e-5)


def test_labels_are_kept() -> None:
    data = simulated.simulate(3, m=20).assign(
        id=lambda d: "g" + d["id"].astype(str).str.zfill(2)
    )
    found = simulated.fit(data).influence()
    assert list(found.params.index) == [f"g{k:02d}" for k in range(20)]
    assert found.params.index.name == "id"
    assert "g" in repr(found)
    assert list(found.summary_frame()["nobs"]) == [6] * 20
    assert list(found.params.columns) == [*found.fit.names, "scale"]


# what cannot be computed --------------------------------------------------


def test_group_that_determines_a_coefficient() -> None:
    data = simulated.simulate(1, m=9)
    data["only"] = (data["id"] == 4) * data["t"] * 1.0
    fit = simulated.fit(data, "y ~ x + t + only")
    for options in ({"maxiter": 0}, {}):
        found = fit.influence(**options)
        lost = found.params.isna().any(axis=1)
        assert list(lost.index[lost]) == [4]
        frame = found.summary_frame()
        assert frame.loc[4, ["cooks_d", "covratio", "mdffits"]].isna().all()
        assert frame.drop(index=4)["cooks_d"].notna().all()
        assert np.isfinite(found.outlier_test(external=True).drop(index=4)["F"]).all()


def test_errors() -> None:
    fit = shared("intercept")
    for wrong in (-1, 1.5, True, "all"):
        with pytest.raises(UnsupportedError, match="maxiter"):
            fit.influence(wrong)
    found = fit.influence(0)
    with pytest.raises(UnsupportedError, match="holm"):
        found.outlier_test("nobody")
    with pytest.raises(UnknownColumnError, match="cooks_d"):
        found.plot_index("cook")
    data = simulated.simulate(1, m=2, size=30)
    one = simulated.fit(data[data["id"] == 0], "y ~ x", re_formula="0")
    with pytest.raises(NotComputedError, match="one group"):
        one.influence()
    fit = simulated.fit(simulated.simulate(1, m=10))
    fit.remove_data()
    with pytest.raises(NotComputedError, match="removed"):
        fit.influence()


def test_two_groups() -> None:
    data = simulated.simulate(3, m=2, size=25, sd=(0.0, 0.0))
    fit = simulated.fit(data, "y ~ x + t", re_formula="0")
    found = fit.influence()
    refits = refits_of(fit)
    close(found.params, refits, rtol=1e-5, atol=1e-6)


def test_long_series_and_many_columns() -> None:
    # one long series a group, gaps of its own; and more columns than rows in groups
    rng = np.random.default_rng(4)
    n, m = 230, 6
    data = pd.DataFrame({"id": np.repeat(np.arange(m), n)})
    data["t"] = rng.exponential(1.0, n * m).cumsum()
    data["x"] = rng.normal(size=n * m)
    noise = np.convolve(rng.normal(size=n * m + 4), np.ones(5), "valid")
    data["y"] = data["x"] + rng.normal(size=m)[data["id"]] + noise
    fit = mar.mixedlm("y ~ x", data, groups="id", time="t", residual="car1").fit()
    close(fit.influence().params, refits_of(fit), atol=1e-4)
    wide = simulated.simulate(6, m=40, size=3, sd=(1.0, 0.0))
    for k in range(5):
        wide[f"z{k}"] = rng.normal(size=len(wide))
    fit = simulated.fit(wide, "y ~ x + z0 + z1 + z2 + z3 + z4", re_formula="1")
    close(fit.influence().params, refits_of(fit), atol=1e-4)


# speed and pictures -------------------------------------------------------


def test_many_groups_are_deleted_together(growth: pd.DataFrame) -> None:
    fit = mar.mixedlm(
        "y ~ time + treatment", growth, groups="id", re_formula="~time", time="time"
    ).fit()
    found, effort = calls(fit.get_influence)
    frame, more = calls(found.summary_frame)
    # all groups are deleted in one pass over the data, if not with the fit's own sums
    assert (effort + more)["cluster_sums"] < 5
    assert len(frame) == 2500
    assert (frame["iterations"] == 1).all()
    sample = found.cooks_distance_theta.nlargest(3).index
    for label in sample:
        rest = growth[growth["id"] != label]
        one = mar.mixedlm(
            "y ~ time + treatment", rest, groups="id", re_formula="~time", time="time"
        ).fit()
        gap = (found.params.loc[label].drop("scale") - one.params) / fit.bse
        assert np.abs(gap).max() < 0.005


@pytest.fixture
def teeth() -> Any:
    data = load_orthodont()
    fit = mar.mixedlm(
        "distance ~ age * sex", data, groups="subject", re_formula="~age", time="occ"
    ).fit()
    return fit.influence()


def test_pictures(teeth: Any) -> None:
    import matplotlib.pyplot as plt

    ax = teeth.plot_index()
    texts = {text.get_text() for text in ax.texts}
    assert texts == set(teeth.cooks_distance.nlargest(5).index)
    assert ax.get_xlabel() == "subject"
    assert "Cook" in ax.get_ylabel()
    _, mine = plt.subplots()
    assert teeth.plot_index("covratio", labels=0, ax=mine) is mine
    assert not mine.texts
    figure = teeth.plot_dfbetas()
    assert [ax.get_title() for ax in figure.axes] == list(teeth.dfbetas.columns)
    figure = teeth.plot_dfbetas(theta=True, labels=1)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown] == list(teeth.dftheta.columns)
    named = {text.get_text() for ax in shown for text in ax.texts}
    assert {"M13", "M09"} <= named
    plt.close("all")


def test_known_outliers(teeth: Any) -> None:
    # Pinheiro and Bates (2000), section 4.3.1: M09's observations scatter, and
    # M13's growth is steep
    table = teeth.outlier_test(external=True)
    assert table["p_adj_within"].idxmin() == "M09"
    assert table.loc["M09", "p_adj_within"] < 1e-4
    assert table["p_re"].idxmin() == "M13"
    assert teeth.cooks_distance.idxmax() == "M13"


def test_known_weights_with_independent_residuals() -> None:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"g": np.repeat(np.arange(8), 5), "x": rng.normal(size=40)})
    frame["w"] = rng.uniform(0.5, 2.0, size=40)
    frame["y"] = frame["x"] + rng.normal(size=40) / np.sqrt(frame["w"])
    frame["y"] += rng.normal(size=8)[frame["g"]]
    options = {"groups": "g", "residual": "independent", "weights": "w"}
    fit = mar.mixedlm("y ~ x", frame, **options).fit()
    one_step = fit.influence(maxiter=50)
    rest = mar.mixedlm("y ~ x", frame[frame["g"] != 3], **options).fit()
    found = one_step.params.loc[3, ["Intercept", "x"]]
    np.testing.assert_allclose(found.astype(float), rest.fe_params, rtol=1e-5)


def test_models_from_arrays() -> None:
    data = simulated.simulate(11, m=40, size=6, sd=(1.5, 0.0))
    fit = mar.mixedlm("y ~ x", data, groups="id", time="t").fit()
    exog = np.column_stack([np.ones(len(data)), data["x"]])
    ids, t = data["id"].to_numpy(), data["t"].to_numpy()
    arrays = MixedLMAR(data["y"].to_numpy(), exog, ids, time=t).fit()
    found, expected = arrays.influence(), fit.influence()
    assert found.cooks_distance.index.name == "Group"
    close(found.cooks_distance, expected.cooks_distance, rtol=1e-6)
    kinds = [(one.name, one.severity) for one in fit.diagnose().findings]
    own = [(one.name, one.severity) for one in arrays.diagnose().findings]
    assert own == kinds
    assert "unknown" not in {severity for _, severity in own}


@pytest.mark.parametrize("groups", [4, 7])
def test_searches_without_a_group_that_find_no_maximum(groups: int) -> None:
    """Of a group fewer an unstructured covariance has a maximum, or it has none."""
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"id": np.repeat(np.arange(groups), 3)})
    data["v"] = np.tile(np.arange(3), groups)
    data["y"] = rng.normal(size=len(data)) + rng.normal(size=groups)[data.id]
    arguments = {"groups": "id", "time": "v", "residual": "un", "re_formula": "0"}
    fit = mar.mixedlm("y ~ C(v)", data, **arguments).fit()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        influence = fit.influence()
    converged, refits = [], []
    for group in range(groups):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            left = mar.mixedlm("y ~ C(v)", data[data.id != group], **arguments).fit()
        converged.append(left.converged)
        refits.append(left.fe_params)
    assert influence.converged.tolist() == converged
    assert influence.converged.index.tolist() == list(range(groups))
    if groups == 7:
        assert not caught
        found = influence.params[fit.fe_params.index]
        np.testing.assert_allclose(found, refits, atol=1e-5)
    else:
        (warning,) = caught
        assert "without id = 0, 1, 2, 3 no maximum" in str(warning.message)
        assert warning.filename == __file__
        # the diagnosis says it, and does not warn
        (finding,) = [
            one for one in fit.diagnose().findings if one.name == "influential groups"
        ]
        assert "Without 4 of 4 groups no maximum was found" in finding.sentence
