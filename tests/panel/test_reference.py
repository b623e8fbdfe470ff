"""
Panel estimators against the reference cases of R's plm, nlme and lme4.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose

from helpers.panel_reference import (
    block,
    case,
    check_coefficients,
    check_components,
    check_robust,
    check_shape,
    model_of,
    table,
)
from mixedar.exceptions import IdentificationError, RankDeficiencyError

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
    check_coefficients(
        model_of("grunfeld_fd", "first_difference", formula).fit(), expected
    )
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
        with pytest.raises(
            RankDeficiencyError, match=r"'x3' \(a combination of x1, x2"
        ):
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
