"""Fits by place in a field, against nlme's."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.api import Exponential, RationalQuadratic, Spherical
from mixedar.exceptions import BoundaryWarning

PLACES = Path(__file__).parents[1] / "reference" / "spatial"
WHERE = {"coords": ("latitude", "longitude"), "nugget": True}
STRUCTURES = {
    "sph": Spherical(**WHERE),
    "ratio": RationalQuadratic(**WHERE),
    "manhattan": Exponential(**WHERE, metric="manhattan"),
    "maximum": Exponential(**WHERE, metric="maximum"),
}


@cache
def expected() -> dict[str, Any]:
    return json.loads((PLACES / "wheat.json").read_text())


@cache
def model(name: str) -> Any:
    wheat = pd.read_csv(PLACES / "wheat.csv").assign(field="one")
    return mar.mixedlm(
        "Q('yield') ~ 0 + C(variety)",
        wheat,
        groups="field",
        re_formula="0",
        residual=STRUCTURES[name],
    )


@pytest.mark.parametrize("name", ["ratio", "manhattan", "maximum"])
def test_fits_of_a_field(name: str) -> None:
    fit, nlme = model(name).fit(), expected()[name]
    assert fit.converged
    assert fit.llf == pytest.approx(nlme["llf"][0], abs=1e-6)
    np.testing.assert_allclose(fit.residual_params, nlme["params"], rtol=1e-4)
    assert fit.scale**0.5 == pytest.approx(nlme["sigma"][0], rel=1e-4)
    np.testing.assert_allclose(fit.bse_fe.iloc[:3], nlme["se"], rtol=1e-4)


def test_a_maximum_above_nlme_s() -> None:
    nlme = expected()["sph"]
    with pytest.warns(BoundaryWarning, match="range = "):  # it rises for ever
        fit = model("sph").fit()
    assert fit.converged
    assert fit.llf > nlme["llf"][0] + 0.1
    # at nlme's parameters the likelihood is nlme's
    u = fit.structure.to_unconstrained(nlme["params"])
    there = fit.fit.problem.evaluate(u, derivatives=False)
    assert there.llf == pytest.approx(nlme["llf"][0], abs=1e-8)
