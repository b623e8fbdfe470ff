"""What is asked of fits whose levels are related, against matrices written out."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

import mixedar.formula.api as mar
from mixedar.api import CAR, ICAR, Field, Relationship  # noqa: F401  for formulas
from mixedar.exceptions import (
    GroupError,
    NotComputedError,
    StructureError,
)

SIDE, EACH = 6, 4


def close(found: Any, expected: Any, rtol: float = 1e-8, atol: float = 1e-10) -> None:
    np.testing.assert_allclose(
        np.asarray(found, dtype=float), np.asarray(expected, dtype=float), rtol, atol
    )


@cache
def weights() -> pd.DataFrame:
    names = [f"c{i}{j}" for i in range(SIDE) for j in range(SIDE)]
    w = pd.DataFrame(0.0, names, names)
    for i in range(SIDE):
        for j in range(SIDE):
            for a, b in ((i + 1, j), (i, j + 1)):
                if a < SIDE and b < SIDE:
                    w.loc[f"c{i}{j}", f"c{a}{b}"] = w.loc[f"c{a}{b}", f"c{i}{j}"] = 1.0
    return w


@cache
def places() -> pd.DataFrame:
    """Rows at places that are cells of a lattice too, in no order."""
    rng = np.random.default_rng(7)
    w = weights()
    cells = w.index.tolist()
    where = rng.uniform(0.0, 4.0, (len(cells), 2))
    d = np.sqrt(((where[:, None] - where) ** 2).sum(axis=2))
    field = np.linalg.cholesky(np.exp(-d / 0.6)) @ rng.normal(size=len(cells)) * 2.0
    slopes = 0.5 + 0.7 * rng.normal(size=len(cells))
    laplacian = np.diag(w.sum()) - w.to_numpy()
    field += (
        np.linalg.cholesky(np.linalg.inv(laplacian + 1e-3))
        @ rng.normal(size=len(cells))
        * 3.0
    )
    frame = pd.DataFrame(
        {
            "cell": np.repeat(cells, EACH),
            "time": np.tile(np.arange(EACH), len(cells)),
            "x": rng.normal(size=len(cells) * EACH),
        }
    )
    frame["lon"], frame["lat"] = np.repeat(where, EACH, axis=0).T
    noise = rng.normal(size=len(frame))
    noise[1:] = np.where(
        frame["time"][1:] > 0, 0.5 * noise[:-1] + 0.8 * noise[1:], noise[1:]
    )
    frame["y"] = np.repeat(slopes, EACH) * frame["x"] + np.repeat(field, EACH) + noise
    return frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)


FORMULAS = {
    "car": ("y ~ x + (1 | gr(cell, cov=CAR(weights())))", {}),
    "icar": ("y ~ x + (1 | gr(cell, cov=ICAR(weights()))) + (1 | cell)", {}),
    "slopes": ("y ~ x + (1 + x | gr(cell, cov=Relationship(unequal())))", {}),
    "field": (
        "y ~ x + (1 | gr(cell, cov=Field(('lon', 'lat'))))",
        {"groups": "cell", "time": "time", "residual": "ar1"},
    ),
}
kinds = pytest.mark.parametrize("kind", list(FORMULAS))


@cache
def unequal() -> pd.DataFrame:
    """A covariance whose diagonal is not one."""
    w = weights()
    return pd.DataFrame(
        np.linalg.inv(np.diag(w.sum()) + 0.3 * np.eye(len(w)) - w), w.index, w.index
    )


def model(kind: str, frame: pd.DataFrame) -> Any:
    formula, options = FORMULAS[kind]
    return mar.mixedlm(formula, frame, **options)


@cache
def fitted(kind: str) -> Any:
    return model(kind, places()).fit()


def between(kind: str, fit: Any, rows: pd.DataFrame) -> np.ndarray:
    """Covariance of the effects' sums in rows, one factor's levels related."""
    params, w = fit.params, weights().to_numpy()
    at = weights().index.get_indexer(rows["cell"])
    same = np.equal.outer(at, at)
    if kind == "field":
        where = rows[["lon", "lat"]].to_numpy()
        d = np.sqrt(((where[:, None] - where) ** 2).sum(axis=2))
        return params["cell Var"] * np.exp(-d / params["cell range"])
    if kind == "car":
        k = np.linalg.inv(np.diag(w.sum(axis=1)) - params["cell rho"] * w)
        return params["cell Var"] * k[np.ix_(at, at)]
    if kind == "icar":
        k = np.linalg.pinv(np.diag(w.sum(axis=1)) - w)
        name = next(n for n in params.index if n.startswith("gr(") and "Var" in n)
        return params[name] * k[np.ix_(at, at)] + params["cell Var"] * same
    psi = fit.random_covariance("cell").to_numpy()
    z = np.column_stack([np.ones(len(rows)), rows["x"]])
    return (z @ psi @ z.T) * unequal().to_numpy()[np.ix_(at, at)]


def errors(kind: str, fit: Any, rows: pd.DataFrame) -> np.ndarray:
    if kind != "field":
        return fit.scale * np.eye(len(rows))
    same = np.equal.outer(rows["cell"].to_numpy(), rows["cell"].to_numpy())
    apart = np.abs(np.subtract.outer(rows["time"].to_numpy(), rows["time"].to_numpy()))
    return fit.scale * same * fit.params["rho"] ** apart


def predicted(
    kind: str, fit: Any, old: pd.DataFrame, new: pd.DataFrame, *, noise: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error from the joint normal distribution, beta estimated."""
    every, n = pd.concat([old, new]), len(old)
    b, e = between(kind, fit, every), errors(kind, fit, every)
    v, x = b + e, np.column_stack([np.ones(len(every)), every["x"]])
    wanted = v if noise else b
    inverse = np.linalg.inv(v[:n, :n])
    cov = np.linalg.inv(x[:n].T @ inverse @ x[:n])
    beta = cov @ x[:n].T @ inverse @ old["y"].to_numpy()
    c = wanted[n:, :n] @ inverse
    d = x[n:] - c @ x[:n]
    mean = x[n:] @ beta + c @ (old["y"].to_numpy() - x[:n] @ beta)
    variance = wanted[n:, n:] - c @ wanted[:n, n:] + d @ cov @ d.T
    return mean, np.sqrt(np.diag(variance))


@cache
def without_some(kind: str) -> tuple[Any, pd.DataFrame, pd.DataFrame]:
    frame = places()
    gone = frame["cell"].isin(["c00", "c12", "c44"])
    return model(kind, frame[~gone]).fit(), frame[~gone], frame[gone]


@kinds
def test_predictions_of_levels_without_rows(kind: str) -> None:
    fit, old, new = without_some(kind)
    mean, error = predicted(kind, fit, old, new, noise=False)
    found = fit.get_prediction(new, level="group").summary_frame()
    close(found["mean"], mean)
    close(found["mean_se"], error)
    # beside rows of levels that are in the fit
    both = pd.concat([old.head(7), new.head(3)])
    found = fit.get_prediction(both, level="group").summary_frame()
    mean, error = predicted(kind, fit, old, both, noise=False)
    close(found["mean"], mean)
    close(found["mean_se"], error)


def test_forecast_at_a_new_place_and_at_an_old_one() -> None:
    fit, old, new = without_some("field")
    later = pd.concat([old[old["time"] == 0].head(4).assign(time=6), new.head(5)])
    mean, error = predicted("field", fit, old, later, noise=True)
    frame = fit.get_prediction(later, level="forecast", df="normal").summary_frame()
    close(frame["mean"], mean)
    close((frame["obs_ci_upper"] - frame["mean"]) / 1.959963984540054, error)


def test_include_chooses_related_effects_too() -> None:
    fit, _, new = without_some("field")
    frame = fit.get_prediction(new, level="group", include=["cell"]).summary_frame()
    close(frame, fit.get_prediction(new, level="group").summary_frame())
    left = fit.get_prediction(new, level="group", include=[]).summary_frame()
    close(left["mean"], fit.get_prediction(new).summary_frame()["mean"])


@pytest.mark.parametrize("kind", ["car", "icar", "slopes"])
def test_labels_that_the_relation_has_not(kind: str) -> None:
    fit, _, new = without_some(kind)
    lost = new.head(2).assign(cell="nowhere")
    with pytest.raises(GroupError, match=r"nowhere"):
        fit.get_prediction(lost, level="group")
    frame = fit.get_prediction(lost, level="group", unknown="population")
    close(frame.summary_frame()["mean"], fit.predict(lost))


def test_a_place_that_moved() -> None:
    fit, old, new = without_some("field")
    with pytest.raises(StructureError, match=r"another label"):
        fit.get_prediction(old.head(2).assign(lon=99.0), level="group")
    one = new[new["cell"] == "c00"]
    with pytest.raises(StructureError, match=r"one place"):
        fit.get_prediction(one.assign(lon=np.arange(len(one))), level="group")


@kinds
def test_the_covariance_of_the_parameters_in_predictions(kind: str) -> None:
    fit, _, new = without_some(kind)
    plain = fit.get_prediction(new, level="group").summary_frame()["mean_se"]
    wider = fit.get_prediction(new, level="group", include_theta=True)
    assert (wider.summary_frame()["mean_se"] >= plain).all()


@kinds
def test_draws_have_the_covariance_of_the_model(kind: str) -> None:
    fit, frame = fitted(kind), places()
    n_sim = 4000
    draws = fit.simulate(n_sim, seed=1).to_numpy()
    v = between(kind, fit, frame) + errors(kind, fit, frame)
    # of contrasts, each within five standard errors of its variance
    rng = np.random.default_rng(0)
    contrasts = np.vstack([rng.normal(size=(30, len(frame))), np.ones(len(frame))])
    expected = np.einsum("ki,ij,kj->k", contrasts, v, contrasts)
    found = (contrasts @ draws).var(axis=1, ddof=1)
    assert (np.abs(found / expected - 1.0) < 5.0 * np.sqrt(2.0 / n_sim)).all()
    new = frame.iloc[::3].rename(index=lambda k: f"r{k}")
    draws = fit.simulate(n_sim, seed=2, newdata=new).to_numpy()
    v = between(kind, fit, new) + errors(kind, fit, new)
    contrasts = contrasts[:, : len(new)]
    expected = np.einsum("ki,ij,kj->k", contrasts, v, contrasts)
    found = (contrasts @ draws).var(axis=1, ddof=1)
    assert (np.abs(found / expected - 1.0) < 5.0 * np.sqrt(2.0 / n_sim)).all()


def test_draws_at_stated_parameters_of_a_relation() -> None:
    fit = fitted("field")
    wide = fit.simulate(400, seed=1, params={"cell range": 1e3, "scale": 1e-6})
    alike = wide.sub(fit.fitted_marginal, axis=0)
    assert alike.std(axis=0).mean() < 0.1 * alike.loc[0].std()


@kinds
def test_shares_of_the_variance(kind: str) -> None:
    fit, frame = fitted(kind), places()
    random = np.diag(between(kind, fit, frame)).mean()
    fixed = np.var(fit.fitted_marginal, ddof=1)
    close(fit.r2()["conditional"], (fixed + random) / (fixed + random + fit.scale))
    close(fit.icc()["adjusted"], random / (random + fit.scale))


@kinds
def test_covariance_of_a_group(kind: str) -> None:
    fit, frame = fitted(kind), places()
    rows = frame[frame["cell"] == "c12"].sort_values("time")
    v = between(kind, fit, rows) + errors(kind, fit, rows)
    found = fit.group_covariance("c12")
    order = rows.index if set(found.index) == set(rows.index) else rows["time"]
    close(found.loc[order, order], v)


@kinds
def test_studentized_residuals(kind: str) -> None:
    fit, frame = fitted(kind), places()
    b, e = between(kind, fit, frame), errors(kind, fit, frame)
    inverse = np.linalg.inv(b + e)
    x = np.column_stack([np.ones(len(frame)), frame["x"]])
    xi = inverse @ x
    p = inverse - xi @ np.linalg.solve(x.T @ xi, xi.T)
    variance = np.diag(e @ p @ e)
    close(fit.residuals("studentized"), fit.resid / np.sqrt(variance), 1e-6)


@kinds
def test_robust_errors_of_one_cluster_are_refused(kind: str) -> None:
    with pytest.raises(NotComputedError, match=r"related levels of|crossed factors"):
        fitted(kind).get_robustcov_results()


def test_families_are_clusters() -> None:
    """Levels that nothing relates are independent: CR0 written out."""
    rng = np.random.default_rng(3)
    names = [f"f{i}{k}" for i in range(12) for k in "abc"]
    k = pd.DataFrame(
        np.kron(np.eye(12), 0.5 + 0.5 * np.eye(3)), names, names
    )  # formula reads it
    effects = np.linalg.cholesky(k) @ rng.normal(size=36)
    frame = pd.DataFrame({"id": np.repeat(names, 3), "x": rng.normal(size=108)})
    frame["y"] = frame["x"] + np.repeat(effects, 3) + rng.normal(size=108)
    fit = mar.mixedlm("y ~ x + (1 | gr(id, cov=k))", frame).fit()
    robust = fit.get_robustcov_results("CR0")
    at = np.repeat(np.arange(36), 3)
    v = fit.params["id Var"] * k.to_numpy()[np.ix_(at, at)] + fit.scale * np.eye(108)
    x = np.column_stack([np.ones(108), frame["x"]])
    inverse = np.linalg.inv(v)
    bread = np.linalg.inv(x.T @ inverse @ x)
    resid = frame["y"].to_numpy() - x @ fit.fe_params
    scores = (x * (inverse @ resid)[:, None]).reshape(12, 9, 2).sum(axis=1)
    close(robust.bse_fe, np.sqrt(np.diag(bread @ scores.T @ scores @ bread)), 1e-6)


@pytest.mark.parametrize("kind", ["car", "field"])
def test_refits_and_replicates_have_all_parameters(kind: str) -> None:
    fit = fitted(kind)
    refits = fit.refit_many(fit.simulate(2, seed=1))
    assert list(refits.params) == [*fit.params.index, "scale"]
    own = fit.refit_many(places()[["y"]])
    close(own.params.iloc[0], [*fit.params, fit.scale], 1e-4, 1e-6)
    assert fit.bootstrap(2, seed=1).to_frame().shape == (2, len(fit.params) + 2)


def test_profile_of_a_parameter_of_a_relation() -> None:
    """Where the interval ends the likelihood has fallen by half a quantile."""
    fit = fitted("car")
    table = fit.conf_int_re(parameters=["cell rho"], method="profile")
    upper = table.loc["cell rho", "upper"]
    assert fit.params["cell rho"] < upper <= 1.0
    assert np.isfinite(fit.covariance_parameters().loc["cell rho", "se"])


def test_a_lattice_whose_rho_is_one() -> None:
    """Beyond 1 - 1e-6 rounding is no likelihood: constrained maxima stay smooth."""
    fit = fitted("car").fit
    values = []
    for u in (7.0, 14.0, 17.0):
        theta = fit.theta.copy()
        theta[-1] = u
        values.append(fit.problem.evaluate(theta, derivatives=False).llf)
    np.testing.assert_allclose(values[1:], values[0], atol=1e-4)


def test_kenward_roger_of_a_lattice() -> None:
    """The formulas of the paper with the derivatives of (D - rho W)^-1."""
    fit, frame, w = fitted("car"), places(), weights().to_numpy()
    rho, variance, s2 = fit.params["cell rho"], fit.params["cell Var"], fit.scale
    at = weights().index.get_indexer(frame["cell"])
    z = np.eye(len(w))[at]
    k = np.linalg.inv(np.diag(w.sum(axis=1)) - rho * w)
    slope = k @ w @ k
    n = len(frame)
    v = variance * z @ k @ z.T + s2 * np.eye(n)
    first = [z @ k @ z.T, variance * z @ slope @ z.T, np.eye(n)]
    second = {(0, 1): z @ slope @ z.T, (1, 1): variance * z @ (2 * slope @ w @ k) @ z.T}
    x = np.column_stack([np.ones(n), frame["x"]])
    inverse = np.linalg.inv(v)
    phi = np.linalg.inv(x.T @ inverse @ x)
    big_p = [-x.T @ inverse @ a @ inverse @ x for a in first]
    q, r = np.zeros((2, 3, 3, 2, 2))
    info = np.zeros((3, 3))
    for i, a in enumerate(first):
        for j, b in enumerate(first):
            q[i, j] = x.T @ inverse @ a @ inverse @ b @ inverse @ x
            bend = second.get((min(i, j), max(i, j)))
            if bend is not None:
                r[i, j] = x.T @ inverse @ bend @ inverse @ x
            info[i, j] = 0.5 * (
                np.trace(inverse @ a @ inverse @ b)
                - 2.0 * np.trace(phi @ q[i, j])
                + np.trace(phi @ big_p[i] @ phi @ big_p[j])
            )
    cov = np.linalg.inv(info)
    middle = sum(
        cov[i, j] * (q[i, j] - big_p[i] @ phi @ big_p[j] - r[i, j] / 4.0)
        for i in range(3)
        for j in range(3)
    )
    adjusted = phi + 2.0 * phi @ middle @ phi
    found = fit.with_df("kenward-roger", kr="full", information="expected")
    close(found.bse_fe, np.sqrt(np.diag(adjusted)), 1e-6)
    close(fit.information("expected"), info, 1e-6)


def test_influence_of_levels() -> None:
    """Without a level, its effect and its rows are gone from the equations."""
    frame = places()
    frame = frame[frame["cell"].isin([f"c{i}{j}" for i in range(3) for j in range(3)])]
    fit = model("car", frame).fit()
    found = fit.influence(by="cell", maxiter=0).params.loc["c11"]
    rest = frame[frame["cell"] != "c11"]
    v = between("car", fit, rest) + errors("car", fit, rest)
    x = np.column_stack([np.ones(len(rest)), rest["x"]])
    inverse = np.linalg.inv(v)
    beta = np.linalg.solve(x.T @ inverse @ x, x.T @ inverse @ rest["y"].to_numpy())
    close(found[list(fit.fe_params.index)], beta)


@kinds
def test_influence_finds_the_maximum_without_each_level(kind: str) -> None:
    frame, cell = places(), "c23"
    fit = fitted(kind)
    without = model(kind, frame[frame["cell"] != cell]).fit()
    found = fit.influence(by="cell").params.loc[cell, without.params.index]
    size = np.where(fit.bse > 0.0, fit.bse, 1.0)
    close((found - without.params) / size, 0.0, 0.0, 1e-4)


def test_heritability_with_its_interval() -> None:
    fit = fitted("icar")
    table = fit.icc(ci=0.9)
    plain = fit.icc()
    close(table["estimate"], plain)
    frame = places()
    at = weights().index.get_indexer(frame["cell"])
    w = weights().to_numpy()
    mean = np.diag(np.linalg.pinv(np.diag(w.sum(axis=1)) - w))[at].mean()
    sizes = np.array([mean, 1.0, 1.0])
    names = [n for n in fit.params.index if n.endswith("Var")] + ["scale"]
    order = sorted(names[:2], key=lambda n: not n.startswith("gr("))
    values = np.array([fit.params[order[0]], fit.params[order[1]], fit.scale]) * sizes
    info = fit.information().loc[[*order, "scale"], [*order, "scale"]].to_numpy()
    share = values[0] / values.sum()
    slope = (np.array([1.0, 0.0, 0.0]) - share) / values.sum() * sizes
    error = np.sqrt(slope @ np.linalg.inv(info) @ slope)
    row = table.loc[order[0].removesuffix(" Var")]
    close(row["se"], error, 1e-6)
    half = 1.6448536269514722 * error / (share * (1.0 - share))
    close(row[["lower", "upper"]], expit(logit(share) + np.array([-half, half])), 1e-6)


def test_which_models_are_cases_of_others() -> None:
    frame = places()
    iid = mar.mixedlm("y ~ x + (1 | cell)", frame).fit()
    both = fitted("icar").anova(iid)
    assert both["LR"].notna().sum() == 1
    # no rho makes (D - rho W)^-1 an identity
    apart = fitted("car").anova(iid)
    assert apart["LR"].isna().all()
    assert "not nested" in apart["note"].iloc[-1]
