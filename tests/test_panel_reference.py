"""
Panel estimators against the reference cases of R's plm, nlme and lme4.

``tests/reference/panel/README.md`` describes the files and suggests the
tolerances: 1e-8 for coefficients, standard errors and variances, 1e-6 for
maximum likelihood and for p-values.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import mixedar.formula.api as mar
from mixedar.exceptions import (
    DroppedRowsWarning,
    IdentificationError,
    RankDeficiencyError,
)
from mixedar.panel import PanelResults
from reference_cases import read_csv

FOLDER = Path(__file__).parent / "reference" / "panel"


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


def model_of(name: str, function: str, formula: str | None = None, **options: Any) -> Any:
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


WITHIN = [
    ("grunfeld_within", "", "entity"),
    ("grunfeld_within_twoways", "", "twoways"),
    ("grunfeld_within_twoways", "variants/time_only", "time"),
    ("unbal_within", "", "entity"),
    ("unbal_within", "variants/twoways", "twoways"),
    ("na_shuffled", "fe", "entity"),
    ("nonpsd_hausman", "fe", "entity"),
    ("produc_hausman", "fe", "entity"),
    ("seed_hausman", "fe", "entity"),
    ("sim_corr_hausman", "fe", "entity"),
    ("sim_uncorr_hausman", "fe", "entity"),
    ("timedummies_hausman", "fe", "entity"),
]


@pytest.mark.parametrize(("name", "path", "effects"), WITHIN)
def test_fixed_effects(name: str, path: str, effects: str) -> None:
    expected = block(name, path)
    model = model_of(name, "fixed_effects", effects=effects)
    fit = model.fit()
    check_coefficients(fit, expected)
    check_shape(fit, expected)
    check_robust(model, expected)
    level = expected.get("overall_intercept")
    if level is not None:
        assert fit.params["Intercept"] == pytest.approx(level["estimate"], rel=1e-8)
        assert fit.bse["Intercept"] == pytest.approx(level["std_error"], rel=1e-8)
    assert fit.absorbed == expected.get("dropped_by_fe", fit.absorbed)
    if effects == "twoways" and not expected["balanced"]:
        return  # plm's are no least-squares effects there, see the next test
    for key, values in (("individual", fit.effects), ("time", fit.time_effects)):
        effect = expected.get(f"fixed_effects_{key}")
        if effect is None or values is None:
            continue
        assert len(values) == effect["n"]
        labels = {str(label): value for label, value in values.items()}
        for label, value in effect["dmean_first5"].items():
            assert labels[label] == pytest.approx(value, rel=1e-8)


def test_two_way_effects_are_least_squares() -> None:
    fit = model_of("unbal_within", "fixed_effects", effects="twoways").fit()
    panel = fit.panel
    dummies = np.zeros((panel.nobs, panel.n_entities + panel.n_periods))
    dummies[np.arange(panel.nobs), panel.entity] = 1.0
    dummies[np.arange(panel.nobs), panel.n_entities + panel.time] = 1.0
    xb = panel.sort(fit.fitted_marginal.to_numpy())
    both = dummies @ np.linalg.lstsq(dummies, panel.y - xb, rcond=None)[0]
    assert_allclose(panel.sort(fit.fittedvalues.to_numpy()), xb + both, rtol=1e-9)
    assert_allclose(dummies.T @ panel.sort(fit.resid.to_numpy()), 0.0, atol=1e-10)


def test_levels_of_effects_without_intercept() -> None:
    expected = block("unbal_within", "")["fixed_effects_individual"]["level_first5"]
    raw = case("unbal_within")
    formula = raw["formula"].replace("~ ", "~ 0 + ")
    # without intercept g is coded in full: its levels sum to the constant
    formula = formula.replace(" + g", " + I(1.0*(g == 'low')) + I(1.0*(g == 'mid'))")
    fit = model_of("unbal_within", "fixed_effects", formula).fit()
    assert_allclose(fit.effects[list(expected)], list(expected.values()), rtol=1e-8)


def test_singletons_change_corrections_only() -> None:
    expected = block("unbal_within", "variants/singletons_removed")
    data = table(case("unbal_within")["data"])
    data = data[data.groupby("unit")["unit"].transform("size") > 1]
    model = model_of("unbal_within", "fixed_effects", data=data)
    check_coefficients(model.fit(), expected)
    check_robust(model, expected)
    full = model_of("unbal_within", "fixed_effects").fit()
    single = block("unbal_within", "")["singletons"]
    assert full.panel.singletons == single
    assert any("5" in n and single[0] in n and single[-1] in n for n in full.notes)


SWAMY_ARORA = [
    ("grunfeld_random", "", "baltagi-chang"),
    ("grunfeld_random", "", "harmonic"),
    ("unbal_random", "", "baltagi-chang"),
    ("unbal_random", "variants/stata_default", "harmonic"),
    ("negvar_random", "", "harmonic"),
    ("na_shuffled", "re", "baltagi-chang"),
    ("nonpsd_hausman", "re", "baltagi-chang"),
    ("produc_hausman", "re", "harmonic"),
    ("seed_hausman", "re", "harmonic"),
    ("seed_time_invariant_only", "re_by_hand", "harmonic"),
    ("sim_corr_hausman", "re", "harmonic"),
    ("sim_uncorr_hausman", "re", "baltagi-chang"),
    ("timedummies_hausman", "re", "harmonic"),
]


@pytest.mark.parametrize(("name", "path", "unbalanced"), SWAMY_ARORA)
def test_random_effects(name: str, path: str, unbalanced: str) -> None:
    expected = block(name, path)
    model = model_of(name, "random_effects")
    fit = model.fit(unbalanced=unbalanced)
    check_coefficients(fit, expected)
    check_shape(fit, expected)
    check_robust(model, expected, unbalanced=unbalanced)
    check_components(fit, expected)
    assert fit.llf is None
    zero = [note for note in fit.notes if "set to zero" in note]
    assert bool(zero) == (name == "negvar_random")


def test_random_effects_on_two_regressors() -> None:
    expected = block("unbal_random", "variants/swar_x1_x2")
    model = model_of("unbal_random", "random_effects", "y ~ x1 + x2")
    fit = model.fit(unbalanced="baltagi-chang")
    check_coefficients(fit, expected)
    check_components(fit, expected)


def test_negative_variance_gives_pooled_least_squares() -> None:
    random = model_of("negvar_random", "random_effects").fit()
    pooled = model_of("negvar_random", "pooled").fit()
    assert_allclose(random.params, pooled.params, rtol=1e-12)
    assert_allclose(random.bse, pooled.bse, rtol=1e-12)


ML = ["grunfeld_random_ml", "unbal_random_ml", "seed_random_ml"]


@pytest.mark.parametrize("name", ML)
def test_maximum_likelihood(name: str) -> None:
    expected = block(name, "")
    model = model_of(name, "random_effects")
    fit, observed = model.fit(method="ml"), model.fit("observed", method="ml")
    names = list(expected["params"])
    assert_allclose(fit.params[names], list(expected["params"].values()), rtol=1e-8)
    for found, key in ((fit, "expected"), (observed, "observed")):
        values = expected[f"std_errors_{key}"]
        assert_allclose(found.bse[list(values)], list(values.values()), rtol=1e-6)
    parts = fit.variance_decomposition
    assert parts is not None
    assert fit.llf == pytest.approx(expected["loglik"], rel=1e-9)
    assert parts["effects"] == pytest.approx(expected["sigma_u"] ** 2, rel=1e-6)
    assert parts["residual"] == pytest.approx(expected["sigma_e"] ** 2, rel=1e-6)
    assert parts["fraction"] == pytest.approx(expected["rho"], rel=1e-6)
    statistics = fit.estimate.statistics
    assert statistics["LR statistic, no effects"] == pytest.approx(
        expected["lr_test"]["chibar2"], rel=1e-6
    )
    assert statistics["p, chibar2(0, 1)"] == pytest.approx(
        expected["lr_test"]["p"], rel=1e-6, abs=1e-12
    )


@pytest.mark.parametrize("name", ML)
def test_restricted_maximum_likelihood(name: str) -> None:
    expected = block(name, "reml")
    fit = model_of(name, "random_effects").fit(method="reml")
    assert_allclose(
        fit.params[list(expected["params"])],
        list(expected["params"].values()),
        rtol=1e-4,
    )
    assert fit.llf == pytest.approx(expected["loglik"], rel=1e-8)


def test_maximum_likelihood_on_the_boundary() -> None:
    expected = block("negvar_random", "ml")
    fit = model_of("negvar_random", "random_effects").fit(method="ml")
    assert fit.llf == pytest.approx(expected["loglik"], rel=1e-9)
    assert fit.variance_decomposition["effects"] == 0.0
    assert any("zero" in note for note in fit.notes)
    names = list(expected["params"])
    assert_allclose(fit.params[names], list(expected["params"].values()), rtol=1e-8)


@pytest.mark.parametrize(
    ("name", "path", "function"),
    [
        ("grunfeld_between", "", "between"),
        ("unbal_between", "", "between"),
        ("seed_time_invariant_only", "between", "between"),
        ("grunfeld_pooling", "", "pooled"),
        ("seed_time_invariant_only", "pooling", "pooled"),
    ],
)
def test_least_squares(name: str, path: str, function: str) -> None:
    expected = block(name, path)
    model = model_of(name, function)
    fit = model.fit()
    check_coefficients(fit, expected)
    check_shape(fit, expected)
    if function == "pooled":
        check_robust(model, expected)


def test_first_differences() -> None:
    expected = block("grunfeld_fd", "")
    model = model_of("grunfeld_fd", "first_difference")
    check_coefficients(model.fit(), expected)
    check_robust(model, expected)
    # the intercept of the formula is differenced away
    formula = case("grunfeld_fd")["formula"].replace("0 + ", "")
    check_coefficients(model_of("grunfeld_fd", "first_difference", formula).fit(), expected)
    drift = model_of("grunfeld_fd", "first_difference", formula, drift=True)
    check_coefficients(drift.fit(), expected["variants"]["with_intercept"])
    check_robust(drift, expected["variants"]["with_intercept"])


def test_first_differences_across_gaps() -> None:
    expected = block("unbal_fd_gaps", "")
    previous = model_of("unbal_fd_gaps", "first_difference", gaps="previous")
    check_coefficients(previous.fit(), expected)
    fit = model_of("unbal_fd_gaps", "first_difference").fit()
    consecutive = expected["variants"]["consecutive_years_only"]
    check_coefficients(fit, consecutive)
    assert fit.nobs == consecutive["nobs"]
    assert any("78 differences across gaps" in note for note in fit.notes)


MUNDLAK = [
    ("grunfeld_hausman", "mundlak"),
    ("na_shuffled", "mundlak"),
    ("nonpsd_hausman", "mundlak"),
    ("produc_mundlak", ""),
    ("sim_corr_hausman", "mundlak"),
    ("sim_uncorr_hausman", "mundlak"),
    ("timedummies_hausman", "mundlak"),
    ("unbal_hausman", "mundlak"),
]


@pytest.mark.parametrize(("name", "path"), MUNDLAK)
@pytest.mark.parametrize("kind", ["random", "pooled", "within_between"])
def test_mundlak(name: str, path: str, kind: str) -> None:
    expected = block(name, path)
    if kind not in expected:
        assert kind == "within_between"
        return
    function = "within_between" if kind == "within_between" else "mundlak"
    which = "pooled" if kind == "pooled" else "re"
    model = model_of(name, function, model=which)
    assert sorted(model.means) == sorted(expected["means_added"])
    options = {} if which == "pooled" else {"unbalanced": "baltagi-chang"}
    fit = model.fit(**options)
    values = expected[kind]
    names = list(values["params"])
    assert sorted(names) == sorted(fit.params.index)
    size = np.maximum(np.abs(fit.params[names]), fit.bse[names])
    error = fit.params[names] - list(values["params"].values())
    assert (np.abs(error) <= 1e-8 * size).all()
    if "std_errors" in values:
        assert_allclose(fit.bse[names], list(values["std_errors"].values()), rtol=1e-8)
    check_robust(model, values, **options)


def test_collinear_columns_are_named() -> None:
    for function in ("fixed_effects", "random_effects", "pooled", "between"):
        with pytest.raises(RankDeficiencyError, match=r"'x3' \(a combination of x1, x2"):
            model_of("collinear", function).fit()
    with pytest.raises(RankDeficiencyError, match=r"'zc' \(a combination of z\)"):
        model_of("collinear", "random_effects", "y ~ x1 + z + zc").fit()
    for path, function in (
        ("within", "fixed_effects"),
        ("random", "random_effects"),
        ("pooling", "pooled"),
    ):
        fit = model_of("collinear", function, "y ~ x1 + x2 + z").fit()
        check_coefficients(fit, block("collinear", path))


def test_large_offset_is_not_absorbed() -> None:
    expected = block("collinear", "large_mean")
    # the data themselves are rounded at 1e6: fewer digits
    model = model_of("collinear", "fixed_effects", expected["formula"])
    fit = model.fit()
    assert fit.absorbed == []
    names = list(expected["within"]["params"])
    assert_allclose(
        fit.params[names], list(expected["within"]["params"].values()), rtol=1e-8
    )
    level = expected["within"]["overall_intercept"]
    assert fit.params["Intercept"] == pytest.approx(level["estimate"], rel=1e-8)
    assert fit.bse["Intercept"] == pytest.approx(level["std_error"], rel=1e-8)


def test_time_invariant_only() -> None:
    with pytest.raises(IdentificationError, match="treatment"):
        model_of("seed_time_invariant_only", "fixed_effects").fit()


def test_no_warnings_from_linearmodels() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = model_of("seed_hausman", "fixed_effects").fit()
    assert fit.absorbed == ["treatment[T.treatment]"]
    assert "treatment[T.treatment]" in str(fit.summary())
