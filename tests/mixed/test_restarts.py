"""Searches over several residual parameters find what random restarts find."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.api import ARMA, Exponential, VarConstPower, VarExp, VarIdent
from mixedar.engine.newton import newton
from mixedar.engine.problem import ThetaEvaluation

MODELS: dict[str, dict[str, Any]] = {
    "nugget": {"residual": Exponential(nugget=True), "weights": VarExp("w")},
    "nugget and strata": {"residual": Exponential(nugget=True, by="arm")},
    "ante-dependence": {"residual": "ad", "weights": VarIdent("arm")},
    "unstructured": {"residual": "un"},
    "mixed": {"residual": ARMA(1, 1, by="arm"), "re_formula": "1"},
    # variances that are steep in few rows, a nugget that is nearly all
    "steep": {"residual": "gau", "weights": VarConstPower("w"), "re_formula": "1"},
    "large nugget": {"residual": Exponential(nugget=True), "re_formula": "1"},
}
CASES = [(kind, seed) for kind in list(MODELS)[:5] for seed in range(3)]
CASES += [("steep", 9), ("large nugget", 3)]


def made(seed: int) -> pd.DataFrame:
    """Few groups, some rows lost: likelihoods with several maxima."""
    rng = np.random.default_rng(seed)
    n, m = 11, 4
    data = pd.DataFrame({"id": np.repeat(np.arange(n), m), "t": np.tile(range(m), n)})
    data["arm"] = np.where(data["id"] % 2, "b", "a")
    data["w"] = rng.uniform(1.0, 5.0, n * m)
    noise = rng.normal(size=(n, m)) @ np.linalg.cholesky(0.6 + 0.4 * np.eye(m)).T
    data["y"] = 0.3 * data["t"] + noise.ravel()
    return data[rng.random(n * m) < 0.85].reset_index(drop=True)


@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_restarts_find_nothing_higher(kind: str, seed: int) -> None:
    arguments = {"re_formula": "0", **MODELS[kind]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = mar.mixedlm("y ~ t", made(seed), groups="id", time="t", **arguments)
        fit = model.fit()
    if not fit.converged:
        assert "no maximum" in fit.boundary_notes[0]
        return
    problem, rng = fit.fit.problem, np.random.default_rng(seed + 100)

    def evaluate(theta: Any) -> ThetaEvaluation:
        return problem.evaluate(theta, derivatives=True)

    for _ in range(8):
        theta = rng.normal(size=problem.k_theta)
        try:
            path = newton(evaluate, theta)
        except np.linalg.LinAlgError:
            continue
        assert path.llf < fit.llf + 1e-4
