"""
Few clusters: CR2 against dense algebra, and coefficients of one cluster alone.

The dense CR2 below agrees with R's clubSandwich 0.5 (vcovCR of plm and lm fits) in
standard errors and degrees of freedom, random effects included.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import mixedar.formula.api as mar
from helpers.panel_cases import dummies
from mixedar.exceptions import NotComputedError, UnsupportedError


def panel(seed: int = 4, entities: int = 12, periods: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = entities * periods
    who, when = (
        np.repeat(np.arange(entities), periods),
        np.tile(range(periods), entities),
    )
    data = pd.DataFrame({"id": who, "t": when, "state": who // 3})
    data["x"] = rng.normal(size=n) + rng.normal(size=entities)[who]
    data["w"] = rng.normal(size=n)
    data["arm"] = np.where(who == 4, "b", "a")
    data["post"] = 1.0 * ((who == 7) & (when > 1))
    data["y"] = data["x"] + rng.normal(size=entities)[who] + rng.normal(size=n)
    keep = rng.random(n) > 0.1
    return data[keep].sample(frac=1.0, random_state=seed).reset_index(drop=True)


def root(matrix: np.ndarray, power: float) -> np.ndarray:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    keep = values > 1e-9
    return (vectors[:, keep] * values[keep] ** power) @ vectors[:, keep].T


def dense(
    x: np.ndarray, y: np.ndarray, v: np.ndarray, labels: Any, contrast: np.ndarray
) -> tuple[float, float]:
    """Variance and degrees of freedom of a contrast, Pustejovsky and Tipton (2018)."""
    w = np.linalg.inv(v)
    bread = np.linalg.pinv(x.T @ w @ x)
    e = y - x @ bread @ x.T @ w @ y
    maker = np.eye(len(y)) - x @ bread @ x.T @ w
    labels = np.asarray(labels)
    steps, vectors = [], []
    for label in np.unique(labels):
        g = np.flatnonzero(labels == label)
        vg, wg = v[np.ix_(g, g)], w[np.ix_(g, g)]
        d = np.linalg.cholesky(vg).T
        a = d.T @ root(d @ (vg - x[g] @ bread @ x[g].T) @ d.T, -0.5) @ d
        weights = a.T @ wg @ x[g] @ bread @ contrast
        steps.append(weights @ e[g])
        vectors.append(maker[g].T @ weights)
    omega = np.array(vectors) @ v @ np.array(vectors).T
    return float(np.sum(np.square(steps))), float(
        np.trace(omega) ** 2 / np.sum(omega**2)
    )


def check(fit: Any, x: np.ndarray, y: Any, v: np.ndarray, labels: Any) -> None:
    for j, name in enumerate(["x", "w"]):
        contrast = np.eye(x.shape[1])[j]
        variance, df = dense(x, np.asarray(y), v, labels, contrast)
        assert fit.bse[name] == pytest.approx(np.sqrt(variance), rel=1e-7)
        assert fit.df[name] == pytest.approx(df, rel=1e-6)
    variance, df = dense(
        x, np.asarray(y), v, labels, np.eye(x.shape[1])[:2].sum(axis=0)
    )
    test = fit.t_test("x + w = 0")
    assert float(np.squeeze(test.sd)) == pytest.approx(np.sqrt(variance), rel=1e-7)
    assert float(np.squeeze(test.df_denom)) == pytest.approx(df, rel=1e-6)


@pytest.mark.parametrize("effects", ["entity", "time", "twoways"])
@pytest.mark.parametrize("cluster", ["entity", "time", "state"])
def test_cr2_of_fixed_effects_is_that_of_dummies(effects: str, cluster: str) -> None:
    data = panel()
    parts = {"entity": ["id"], "time": ["t"], "twoways": ["id", "t"]}[effects]
    x = np.column_stack([data[["x", "w"]], *(dummies(data, name) for name in parts)])
    labels = data[{"entity": "id", "time": "t"}.get(cluster, cluster)]
    model = mar.fixed_effects("y ~ x + w", data, "id", "t", effects=effects)
    fit = model.fit("CR2", cluster=cluster)
    check(fit, x, data["y"], np.eye(len(data)), labels)
    half = fit.conf_int()[1] - fit.params
    assert (fit.conf_int(0.01)[1] - fit.params > half).all()
    assert "CR2 (Bell-McCaffrey)" in str(fit.summary())
    table = mar.tidy(fit).set_index("term")
    assert_allclose(table.loc[list(fit.df.index), "df"], fit.df)


def test_cr2_of_pooled_and_random_effects() -> None:
    data = panel()
    x = np.column_stack([data[["x", "w"]], np.ones(len(data))])
    fit = mar.pooled("y ~ x + w", data, "id", "t").fit("cr2")
    check(fit, x, data["y"], np.eye(len(data)), data["id"])
    for cluster in ("id", "state"):
        model = mar.random_effects("y ~ x + w", data, "id", "t")
        fit = model.fit("CR2", cluster=cluster)
        parts = fit.variance_decomposition
        d = dummies(data, "id")
        v = parts["effects"] * d @ d.T + parts["residual"] * np.eye(len(data))
        check(fit, x, data["y"], v, data[cluster])


def test_joint_tests_of_cr2_are_htz() -> None:
    # with one restriction HTZ is the square of t with Satterthwaite's df
    data = panel()
    fit = mar.fixed_effects("y ~ x + w", data, "id", "t").fit("CR2")
    one = fit.wald_test("x = 0.5")
    t = fit.t_test("x = 0.5")
    assert float(one.fvalue) == pytest.approx(float(np.squeeze(t.tvalue)) ** 2)
    assert one.df_denom == pytest.approx(float(np.squeeze(t.df_denom)))
    both = fit.f_test("x = 0, w = 0")
    assert 1.0 < both.df_denom < 11.0
    assert both.df_num == 2


def test_cr2_is_refused_where_it_is_not_defined() -> None:
    data = panel()
    model = mar.fixed_effects("y ~ x", data, "id", "t")
    with pytest.raises(UnsupportedError, match="one dimension"):
        model.fit("CR2", cluster="both")
    with pytest.raises(UnsupportedError, match="correction of its own"):
        model.fit("CR2", small_sample="stata")
    with pytest.raises(UnsupportedError, match="AR"):
        mar.fixed_effects_ar1("y ~ x", data, "id", "t").fit("CR2")


ALONE = [
    ("pooled", "y ~ x + arm", {}, "clustered", {}, "arm[T.b]", "id 4"),
    ("pooled", "y ~ x + arm", {}, "CR2", {}, "arm[T.b]", "id 4"),
    ("random_effects", "y ~ x + arm", {}, "clustered", {}, "arm[T.b]", "id 4"),
    ("pooled", "y ~ x + arm", {}, "clustered", {"cluster": "both"}, "arm[T.b]", "id 4"),
    ("pooled", "y ~ x + C(t)", {}, "clustered", {"cluster": "time"}, "C(t)[T.2]", "t"),
    ("pooled", "y ~ x + C(t)", {}, "driscoll-kraay", {}, "C(t)[T.2]", "t"),
    ("fixed_effects", "y ~ x + post", {}, "clustered", {}, "post", "id 7"),
    (
        "fixed_effects",
        "y ~ x + post",
        {"effects": "twoways"},
        "clustered",
        {},
        "post",
        "id 7",
    ),
    ("fixed_effects", "y ~ x + post", {}, "CR2", {"cluster": "state"}, "post", "id"),
    ("between", "y ~ x + arm", {}, "robust", {}, "arm[T.b]", "id 4"),
]


@pytest.mark.parametrize(
    ("function", "formula", "options", "cov_type", "clusters", "name", "who"), ALONE
)
def test_coefficients_of_one_cluster_have_no_standard_error(
    function: str,
    formula: str,
    options: dict[str, Any],
    cov_type: str,
    clusters: dict[str, Any],
    name: str,
    who: str,
) -> None:
    data = panel()
    model = getattr(mar, function)(formula, data, "id", "t", **options)
    fit = model.fit(cov_type, **clusters)
    assert np.isnan(fit.bse[name])
    assert np.isnan(fit.pvalues[name])
    assert np.isnan(fit.conf_int().loc[name]).all()
    (note,) = [note for note in fit.notes if "alone determines" in note]
    assert name.split("[")[0] in note
    assert who in note
    assert "alone" in " ".join(str(fit.summary()).split())
    # the others keep theirs, and tests say what is wrong
    assert fit.bse["x"] > 0.0
    assert np.isfinite(fit.t_test("x = 0").pvalue)
    with pytest.raises(NotComputedError, match="no standard error"):
        fit.f_test(f"{name} = 0, x = 0")
    # what the note advises works
    assert np.isfinite(model.fit("classical").bse[name])


def test_nearly_collinear_columns_keep_their_errors() -> None:
    data = panel(entities=6, periods=9).assign(year=lambda d: d["t"] + 2000.0)
    for effects in ("entity", "twoways"):
        formula = "y ~ x + I(x + 1e-3 * w)"
        model = mar.fixed_effects(formula, data, "id", "t", effects=effects)
        for cluster in ("entity", "time"):
            fit = model.fit("clustered", cluster=cluster)
            assert np.isfinite(fit.bse).all()
    fit = mar.pooled("y ~ x + year + I(year**2)", data, "id", "t").fit("clustered")
    assert np.isfinite(fit.bse).all()


def test_two_entities_in_an_arm_are_enough() -> None:
    data = panel().assign(arm=lambda d: np.where(d["id"] < 2, "b", "a"))
    for cov_type in ("clustered", "CR2", "robust", "dk"):
        fit = mar.pooled("y ~ x + arm", data, "id", "t").fit(cov_type)
        assert np.isfinite(fit.bse).all()
        assert not fit.notes


def slopes_and_t(
    x: np.ndarray, y: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, float]:
    """Residuals, and t of the first coefficient, clustered without a factor."""
    bread = np.linalg.pinv(x.T @ x)
    b = bread @ x.T @ y
    e = y - x @ b
    steps = [bread[0] @ x[labels == g].T @ e[labels == g] for g in np.unique(labels)]
    return e, float(b[0] / np.sqrt(np.sum(np.square(steps))))


@pytest.mark.parametrize("effects", [None, "entity", "twoways"])
@pytest.mark.parametrize("impose_null", [True, False])
def test_wild_bootstrap_is_that_of_refits(
    effects: str | None, impose_null: bool
) -> None:
    """Cameron, Gelbach and Miller (2008), all 2^7 samples refitted with dummies."""
    data = panel(entities=7)
    labels, y, value = data["id"].to_numpy(), data["y"].to_numpy(), 0.6
    parts = {None: [], "entity": ["id"], "twoways": ["id", "t"]}[effects]
    d = [dummies(data, name) for name in parts] or [np.ones((len(data), 1))]
    x = np.column_stack([data[["x", "w"]], *d])
    moved = y - value * data["x"].to_numpy()
    e, t = slopes_and_t(x, moved, labels)
    null = moved - x[:, 1:] @ np.linalg.lstsq(x[:, 1:], moved, rcond=None)[0]
    null = null if impose_null else e
    count = 0
    for signs in itertools.product([-1.0, 1.0], repeat=7):
        found = slopes_and_t(x, null * np.array(signs)[labels], labels)[1]
        count += abs(found) >= abs(t) * (1 - 1e-9)
    if effects is None:
        fit = mar.pooled("y ~ x + w", data, "id", "t").fit("clustered")
    else:
        fit = mar.fixed_effects("y ~ x + w", data, "id", "t", effects=effects).fit()
    test = fit.wild_bootstrap(f"x = {value}", impose_null=impose_null)
    assert test.pvalue == count / 2**7
    factor = (
        fit.model.fit("clustered").bse
        / fit.model.fit("clustered", small_sample=None).bse
    )
    assert test.statistic == pytest.approx(t / factor["x"])
    assert "every sign once" in str(test.note)
    # the interval holds the values that are not rejected
    details = dict(test.details)
    for end, inside in (("lower", 0.02), ("upper", -0.02)):
        if np.isfinite(details[end]):
            for shift, kept in ((inside, True), (-inside, False)):
                other = fit.wild_bootstrap(
                    f"x = {details[end] + shift}", impose_null=impose_null
                )
                assert (other.pvalue > 0.05) == kept


def test_wild_bootstrap_with_random_weights() -> None:
    data = panel(entities=30)
    fit = mar.random_effects("y ~ x + w", data, "id", "t").fit("clustered")
    for weights in ("rademacher", "webb"):
        test = fit.wild_bootstrap("w = 0", reps=499, weights=weights, seed=3)
        assert test == fit.wild_bootstrap("w = 0", reps=499, weights=weights, seed=3)
        assert 0.2 < test.pvalue / fit.pvalues["w"] < 5.0
        assert fit.wild_bootstrap("x = 0", reps=499, seed=1).pvalue < 0.01
        assert "499 replicates" in str(test)
    first = mar.first_difference("y ~ x + w", data, "id", "t").fit("clustered")
    assert first.wild_bootstrap("x = 0", reps=199, seed=2).pvalue < 0.05
    states = fit.wild_bootstrap({"w": 0}, cluster="state", reps=199, seed=2)
    assert "10 clusters" in str(states.note)


def test_wild_bootstrap_refuses() -> None:
    data = panel()
    fit = mar.pooled("y ~ x + arm", data, "id", "t").fit("clustered")
    with pytest.raises(UnsupportedError, match="one restriction"):
        fit.wild_bootstrap("x = 0, arm[T.b] = 0")
    with pytest.raises(NotComputedError, match="alone determines"):
        fit.wild_bootstrap("arm[T.b] = 0")
    with pytest.raises(UnsupportedError, match="one dimension"):
        fit.wild_bootstrap("x = 0", cluster="both")
    with pytest.raises(UnsupportedError, match="weights='normal'"):
        fit.wild_bootstrap("x = 0", weights="normal")
    with pytest.raises(UnsupportedError, match="n_sim=1"):
        fit.wild_bootstrap("x = 0", reps=1)
    with pytest.raises(UnsupportedError, match="not defined for"):
        mar.between("y ~ x", data, "id", "t").fit().wild_bootstrap("x = 0")


def test_the_clustered_hausman_test_needs_two_entities() -> None:
    # what one entity alone received says nothing about the error of its mean
    data = panel(entities=30)
    fe = mar.fixed_effects("y ~ x + post", data, "id", "t").fit()
    re = mar.random_effects("y ~ x + post", data, "id", "t").fit()
    for form in ("mundlak-robust", "auxiliary-robust"):
        (test,) = mar.hausman(fe, re, form).tests
        assert np.isnan(test.pvalue)
        assert "one entity alone" in str(test.reason)
    both = mar.hausman(fe, re)
    assert [np.isfinite(test.pvalue) for test in both.tests] == [True, False]
    assert "one entity alone" in " ".join(str(both).split())
    fe = mar.fixed_effects("y ~ x + w", data, "id", "t").fit()
    re = mar.random_effects("y ~ x + w", data, "id", "t").fit()
    assert all(np.isfinite(test.pvalue) for test in mar.hausman(fe, re).tests)
