"""Likelihoods without a maximum are said to have none: what has vanished is named."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.api import AR1, VarIdent
from mixedar.exceptions import (
    ConvergenceWarning,
    NotComputedError,
    ResponseError,
)


def panel(seed: int = 0, n: int = 40, m: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    e = rng.normal(size=(n, m)).cumsum(axis=1) + rng.normal(size=(n, 1))
    data = pd.DataFrame({"id": np.repeat(np.arange(n), m), "v": np.tile(range(m), n)})
    data["arm"] = np.where(data["id"] % 2, "b", "a")
    data["y"] = e.ravel()
    return data


def baseline(data: pd.DataFrame) -> pd.DataFrame:
    """Change from baseline, with the rows of the baseline left in."""
    first = data.groupby("id")["y"].transform("first")
    return data.assign(y=data["y"] - first)


def one_arm_exact(data: pd.DataFrame) -> pd.DataFrame:
    """An arm in which the response follows from the visit."""
    return data.assign(y=np.where(data["arm"] == "b", 1.0 * data["v"], data["y"]))


def copied(data: pd.DataFrame) -> pd.DataFrame:
    """The last visit is the sum of the two before."""
    wide = data["y"].to_numpy().reshape(-1, 4).copy()
    wide[:, 3] = wide[:, 1] + wide[:, 2]
    return data.assign(y=wide.ravel())


def constant_in_groups(data: pd.DataFrame) -> pd.DataFrame:
    return data.assign(y=data.groupby("id")["y"].transform("first"))


CASES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "visit, unstructured": (
        baseline,
        {"residual": "un", "time": "v", "re_formula": "0"},
        "rows with v = 0",
    ),
    "visit, a variance each": (
        baseline,
        {"residual": "independent", "weights": VarIdent("v")},
        "rows with v = 0",
    ),
    "stratum": (
        one_arm_exact,
        {"residual": "independent", "weights": VarIdent("arm"), "re_formula": "0"},
        "rows with arm = b",
    ),
    "combination": (
        copied,
        {"residual": "un", "time": "v", "re_formula": "0"},
        "v = 1, 2, 3",
    ),
    "all": (constant_in_groups, {"residual": "independent"}, "all rows"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_has_no_residual_variation_is_named(case: str) -> None:
    change, arguments, named = CASES[case]
    formula = "y ~ C(v) * arm" if case == "stratum" else "y ~ C(v)"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = mar.mixedlm(formula, change(panel()), groups="id", **arguments).fit()
    (warning,) = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
    assert "no maximum" in str(warning.message)
    assert named in str(warning.message)
    assert "maxiter" not in str(warning.message)
    assert not fit.converged
    assert named in " ".join(str(fit.summary()).split())


@pytest.mark.parametrize("residual", ["un", "ar1h", "csh", "toeph"])
@pytest.mark.parametrize("formula", ["y ~ v", "y ~ C(v)"])
def test_it_is_named_whatever_else_moves_the_fixed_effects(
    formula: str, residual: str
) -> None:
    """
    The other visits pull the estimate off the rows that it could fit exactly.

    They do by a line through all visits, and where visits are missing, by as much as
    the standard deviation that vanishes, so that there is no end to the likelihood.
    """
    data = baseline(panel(1, n=25))
    if formula == "y ~ C(v)":
        data["y"] += 5.0
        data = data.drop(index=range(2, 40, 7))
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        fit = mar.mixedlm(
            formula, data, groups="id", time="v", residual=residual, re_formula="0"
        ).fit()
    assert not fit.converged
    (note,) = fit.boundary_notes
    assert "no maximum" in note
    assert "rows with v = 0" in note


def test_the_remedy_works() -> None:
    data = baseline(panel())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = mar.mixedlm(
            "y ~ C(v)",
            data[data["v"] > 0],
            groups="id",
            time="v",
            residual="un",
            re_formula="0",
        ).fit()
    assert fit.converged


def test_a_constant_response_is_refused() -> None:
    with pytest.raises(ResponseError, match="constant"):
        mar.mixedlm("y ~ C(v)", panel().assign(y=1.0), groups="id")


@pytest.mark.parametrize("small", [1e-3, 1e-5])
def test_small_variation_is_variation(small: float) -> None:
    """A stratum that varies little, beside a nugget of zero."""
    data = panel(3)
    data["y"] *= np.where(data["arm"] == "b", small, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mar.mixedlm(
            "y ~ arm",
            data,
            groups="id",
            time="v",
            re_formula="0",
            residual=AR1(nugget=True),
            weights=VarIdent("arm"),
        ).fit()
    assert fit.converged
    assert not any("no maximum" in note for note in fit.boundary_notes)
    np.testing.assert_allclose(fit.params["sd[b]"], small, rtol=0.5)


def test_the_search_ends_early_and_nothing_has_an_error() -> None:
    """More occasions than groups: some combination of them does not vary."""
    rng = np.random.default_rng(1)
    n, m = 7, 8
    data = pd.DataFrame({"id": np.repeat(np.arange(n), m), "v": np.tile(range(m), n)})
    data["y"] = rng.normal(size=n * m) + rng.normal(size=n)[data["id"]]
    model = mar.mixedlm(
        "y ~ C(v)", data, groups="id", time="v", residual="un", re_formula="0"
    )
    with pytest.warns(ConvergenceWarning, match="no standard errors"):
        fit = model.fit(full_output=True)
    assert fit.hist[0]["iterations"] < 100
    assert fit.bse.isna().all()
    assert fit.pvalues.isna().all()
    assert fit.conf_int().isna().all(axis=None)
    found = fit.conf_int_re()
    assert found["lower"].isna().all()
    assert found["note"].str.contains("no maximum").all()
    tests = fit.anova()
    assert tests["p"].isna().all()
    assert tests["note"].str.contains("no standard error").all()
    with pytest.raises(NotComputedError, match="no standard error"):
        fit.t_test("Intercept = 0")
    for df in ("satterthwaite", "kenward-roger"):
        with pytest.raises(NotComputedError, match="needs a maximum"):
            fit.with_df(df).pvalues  # noqa: B018
    with pytest.raises(NotComputedError, match="needs a maximum"):
        fit.influence()
    with pytest.raises(NotComputedError, match="needs a maximum"):
        fit.posterior(100)
    assert "nan" not in str(fit.summary())
    assert fit.get_prediction().summary_frame()["mean_se"].isna().all()
