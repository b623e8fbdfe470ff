"""
Reading and comparing the cases in ``tests/reference/panel``.

``tests/reference/panel/README.md`` describes the files and suggests the
tolerances: 1e-8 for coefficients, standard errors and variances, 1e-6 for
maximum likelihood and for p-values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import mixedar.formula.api as mar
from helpers.reference_cases import read_csv
from mixedar.exceptions import DroppedRowsWarning
from mixedar.panel import PanelResults

FOLDER = Path(__file__).parents[1] / "reference" / "panel"


@cache
def case(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


@cache
def table(path: str) -> pd.DataFrame:
    return read_csv(FOLDER / path)


def block(name: str, path: str) -> Mapping[str, Any]:
    found: Any = case(name)["expected"]
    for key in filter(None, path.split("/")):
        found = found[key]
    return dict(found)


def model_of(
    name: str, function: str, formula: str | None = None, **options: Any
) -> Any:
    raw = case(name)
    options = {"entity": raw["entity"], "time": raw["time"], **options}
    data = options.pop("data", None)
    data = table(raw["data"]) if data is None else data
    if name == "na_shuffled":
        with pytest.warns(DroppedRowsWarning, match="8 rows"):
            return getattr(mar, function)(
                formula or raw["formula"], data, missing="drop", **options
            )
    return getattr(mar, function)(formula or raw["formula"], data, **options)


def check_coefficients(fit: PanelResults, expected: Mapping[str, Any]) -> None:
    names = list(expected["params"])
    slopes = [name for name in fit.params.index if name != "Intercept"]
    assert sorted(slopes) == sorted(set(names) - {"Intercept"})
    assert_allclose(fit.params[names], list(expected["params"].values()), rtol=1e-8)
    if "std_errors" in expected:
        assert_allclose(
            fit.bse[names], list(expected["std_errors"].values()), rtol=1e-8
        )
    if "pvalues" in expected:
        assert_allclose(
            fit.pvalues[names],
            list(expected["pvalues"].values()),
            rtol=1e-6,
            atol=1e-12,
        )
        assert_allclose(fit.tvalues[names], list(expected["tstats"].values()), 1e-8)
        assert fit.use_t == (expected["pvalue_distribution"] == "t")
    if "vcov" in expected:
        order = expected["vcov"]["names"]
        size = np.outer(fit.bse[order], fit.bse[order])
        assert_allclose(
            fit.cov_params().loc[order, order] / size,
            np.array(expected["vcov"]["matrix"]) / size,
            atol=1e-8,
        )
    if "df_resid" in expected:
        assert fit.df_resid == expected["df_resid"]
    if "sigma2" in expected:
        assert fit.scale == pytest.approx(expected["sigma2"], rel=1e-8)


def check_shape(fit: PanelResults, expected: Mapping[str, Any]) -> None:
    if "n_entities" not in expected:
        return
    assert fit.nobs == expected["nobs"]
    assert fit.n_entities == expected["n_entities"]
    assert fit.panel.n_periods == expected["n_periods"]
    assert fit.n_times.min == expected["T_min"]
    assert fit.n_times.max == expected["T_max"]
    assert fit.panel.is_balanced == expected["balanced"]
    if "corr" in expected.get("r2", {}):
        r2 = expected["r2"]["corr"]
        found = (fit.rsquared_within, fit.rsquared_between, fit.rsquared_overall)
        for value, key in zip(found, ("within", "between", "overall"), strict=True):
            # R has no correlation where x b does not vary; it explains nothing
            assert value == pytest.approx(r2[key] or 0.0, rel=1e-8)
    if "f_test" in expected:
        test = fit.f_slopes
        if fit.use_t:
            assert float(test.fvalue) == pytest.approx(expected["f_test"]["stat"], 1e-8)
        else:
            wald = expected["wald_test"]
            assert float(test.statistic) == pytest.approx(wald["chisq"], 1e-8)


def check_robust(model: Any, expected: Mapping[str, Any], **options: Any) -> None:
    groups = expected.get("cluster_entity", {})
    factors = {"HC0": None, "HC1": "HC1", "sss": "sss", "stata": "stata"}
    for key, factor in factors.items():
        values = expected.get(f"cluster_se_{key}", groups.get(key))
        if values is None:
            continue
        if key == "HC1" and "HC1_n_over_n_minus_k" in groups:
            values = groups["HC1_n_over_n_minus_k"]
        fit = model.fit("clustered", small_sample=factor, **options)
        assert_allclose(fit.bse[list(values)], list(values.values()), rtol=1e-8)
        assert fit.df_inference == fit.n_entities - 1
    if "white_HC0" in expected:
        fit = model.fit("robust", small_sample=None, **options)
        values = expected["white_HC0"]
        assert_allclose(fit.bse[list(values)], list(values.values()), rtol=1e-8)


def check_components(fit: PanelResults, expected: Mapping[str, Any]) -> None:
    parts = expected["ercomp"]
    assert fit.variance_decomposition is not None
    assert fit.theta is not None
    assert fit.variance_decomposition["residual"] == pytest.approx(parts["idios"], 1e-8)
    assert fit.variance_decomposition["effects"] == pytest.approx(
        parts["individual"], rel=1e-8
    )
    sizes = fit.panel.sizes
    for size, value in parts.get("theta_by_T", {}).items():
        assert_allclose(fit.theta[sizes == int(size)], value, rtol=1e-8)
    labels = {str(label): value for label, value in fit.effects.items()}
    for label, value in expected.get("random_effects_first5", {}).items():
        assert labels[label] == pytest.approx(value, rel=1e-8, abs=1e-12)
