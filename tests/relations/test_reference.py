"""Covariances between the levels of a factor: values of nlme and lme4."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.api import CAR, ICAR, Field, Relationship

ROOT = Path(__file__).parent.parent / "reference" / "relations"
NAMES = sorted(path.stem for path in ROOT.glob("*.json"))
every = pytest.mark.parametrize("name", NAMES)


@cache
def case(name: str) -> dict[str, Any]:
    return json.loads((ROOT / f"{name}.json").read_text())


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "data" / f"{name}.csv")


def relation(cov: dict[str, Any]) -> Any:
    kind = cov["type"]
    if kind == "matrix":
        frame = table(cov["file"])
        return frame.set_axis(frame.columns)
    if kind in ("exponential", "matern32"):
        return Field(tuple(cov["coords"]), "matern" if "32" in kind else kind)
    edges = table(cov["edges"])
    if kind == "car":
        return CAR.from_edges(edges["from"], edges["to"])
    if kind == "regularised_laplacian":
        names = sorted({*edges["from"], *edges["to"]})
        w = pd.DataFrame(0.0, names, names)
        for one, other in edges.itertuples(index=False):
            w.loc[one, other] = w.loc[other, one] = 1.0
        precision = np.eye(len(w)) + np.diag(w.sum()) - w
        return Relationship(precision=precision)
    return ICAR.from_edges(edges["from"], edges["to"])


@cache
def fitted(name: str) -> Any:
    found = case(name)
    first, *others = found["random"]
    factor, K = first["groups"][0], relation(first["cov"])  # noqa: F841  the formula
    formula = f"{found['formula']} + (1 | gr({factor}, cov=K))"
    if others:
        formula += f" + (1 | {factor})"
    options: dict[str, Any] = {}
    if found["residual"]:
        options = {"groups": factor, "time": found["time"], "residual": "ar1"}
    return mar.mixedlm(formula, table(found["data"]), **options).fit(reml=found["reml"])


def factors(name: str) -> list[str]:
    first, *others = case(name)["random"]
    factor = first["groups"][0]
    return [f"gr({factor}, K)", factor] if others else [factor]


def close(found: Any, expected: Any, rtol: float, atol: float = 0.0) -> None:
    np.testing.assert_allclose(
        np.asarray(found, dtype=float), np.asarray(expected, dtype=float), rtol, atol
    )


@every
def test_estimates(name: str) -> None:
    fit, expected = fitted(name), case(name)["expected"]
    assert fit.converged
    close(fit.llf, expected["loglike"], 0.0, 1e-7)
    close([fit.aic, fit.bic], [expected["aic"], expected["bic"]], 1e-9)
    order = expected["fixef_names"]
    close(fit.fe_params[order], list(expected["fixef"].values()), 1e-6, 1e-9)
    close(fit.bse_fe[order], list(expected["fixef_se_unadjusted"].values()), 1e-6)
    close(fit.scale, expected["sigma2"], 1e-6)
    for factor, cov in zip(
        factors(name), expected["cov_re_levels"].values(), strict=True
    ):
        close(fit.random_covariance(factor), cov, 1e-6, 1e-8)
    close(fit.residual_params, list(expected["residual_params"].values()), 1e-6)
    for factor, values in expected.get("known_params", {}).items():
        names = [f"{factor} {key}" for key in values]
        close(fit.params[names], list(values.values()), 1e-6)


@every
def test_standard_errors_of_covariance_parameters(name: str) -> None:
    fit, expected = fitted(name), case(name)["expected"]
    table = fit.conf_int_re(method="wald")
    errors = expected["theta_se"]
    for factor, key in zip(factors(name), expected["cov_re_levels"], strict=True):
        close(fit.bse[f"{factor} Var"], errors[f"var({key}.Intercept)"], 1e-5)
        assert table.loc[f"{factor} Var", "lower"] < fit.params[f"{factor} Var"]
    for factor, values in expected.get("known_params", {}).items():
        for key in values:
            close(fit.bse[f"{factor} {key}"], errors[f"{key}({factor})"], 1e-5)


@every
def test_predicted_effects(name: str) -> None:
    fit, expected = fitted(name), case(name)["expected"]
    rows = expected["rows_first10"]
    close(fit.fitted_marginal[rows], expected["fitted_marginal"], 1e-6)
    close(fit.fittedvalues[rows], expected["fitted_conditional"], 1e-5)
    for key, part, beta in (
        ("ranef", "predicted", "known"),
        ("ranef_sd_conditional", "std_error", "known"),
        ("ranef_sd_prediction_error", "std_error", "estimated"),
    ):
        for factor, levels in zip(factors(name), expected[key].values(), strict=True):
            frame = fit.ranef(factor, se=True, beta=beta)[part]
            for level, effects in levels.items():
                close(frame.loc[level], list(effects.values()), 1e-5, 1e-7)


@pytest.mark.parametrize("name", ["animal_reml", "animal_ml"])
def test_a_pedigree_gives_the_matrix(name: str) -> None:
    pedigree = table("animal_pedigree")
    A = Relationship.from_pedigree(  # noqa: F841  the formula reads it
        pedigree.iloc[:, 0], pedigree["sire"], pedigree["dam"]
    )
    formula = f"{case(name)['formula']} + (1 | gr(animal, cov=A)) + (1 | animal)"
    fit = mar.mixedlm(formula, table("animal")).fit(reml=case(name)["reml"])
    close(fit.llf, case(name)["expected"]["loglike"], 0.0, 1e-7)


@pytest.mark.parametrize(
    "name",
    [name for name in NAMES if "satterthwaite_df" in case(name)["expected"]],
)
def test_satterthwaite(name: str) -> None:
    expected = case(name)["expected"]
    found = fitted(name).with_df("satterthwaite").df
    close(found, list(expected["satterthwaite_df"].values()), 1e-5)
