"""Many levels of crossed factors: lme4's values."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar

ROOT = Path(__file__).parent.parent / "reference" / "ratings"


@cache
def ratings() -> pd.DataFrame:
    return pd.read_csv(ROOT / "ratings.csv")


def close(found: Any, expected: Any, rtol: float, atol: float = 0.0) -> None:
    np.testing.assert_allclose(np.asarray(found, dtype=float), expected, rtol, atol)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_as_lme4(method: str) -> None:
    expected = json.loads((ROOT / f"{method}.json").read_text())
    model = mar.mixedlm(expected["formula"], ratings(), residual="independent")
    assert model.arrays.groups_name == "s"  # of most levels
    fit = model.fit(reml=method == "reml")
    assert fit.converged
    close(fit.llf, expected["loglike"], 0.0, 1e-6)
    close(fit.fe_params, list(expected["fixef"].values()), 1e-6)
    close(fit.bse_fe, list(expected["fixef_se"].values()), 1e-5)
    table = fit.varcorr()["variance"].droplevel("effect")
    variances = expected["variances"]
    close(table[list(variances)], list(variances.values()), 2e-5)
    for factor, values in expected["ranef"].items():
        found = fit.ranef(factor, se=True)
        labels = [
            tuple(map(int, text.split(":"))) if ":" in text else int(text)
            for text in values["level"]
        ]
        rows = found.loc[labels]
        close(rows["predicted", "Intercept"], values["mean"], 1e-4, 1e-7)
        close(rows["std_error", "Intercept"], values["se"], 1e-4)


def test_the_order_of_ratings_may_matter() -> None:
    # AR(1) over a student's ratings, of which there is none: nothing else moves
    data = ratings().query("s <= 80")
    data = data.assign(order=data.groupby("s").cumcount())
    formula = "y ~ service + (1 | s) + (1 | d) + (1 | dept:service)"
    plain = mar.mixedlm(formula, data, residual="independent").fit()
    fit = mar.mixedlm(formula, data, groups="s", time="order").fit()
    assert 2.0 * (fit.llf - plain.llf) < 6.6  # chi-square, one degree of freedom
    assert abs(fit.rho) < 0.1
    gap = (fit.fe_params - plain.fe_params) / plain.bse_fe
    assert np.abs(gap).max() < 0.1
