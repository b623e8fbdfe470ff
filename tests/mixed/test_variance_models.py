"""
Mixed models with variance functions, against nlme.

Reference cases are compared to 1e-6.  The further fits of nlme 3.1-162 below come
from ``lme`` and ``gls`` with ``lmeControl(tolerance=1e-10, msTol=1e-12,
msMaxIter=500)`` on the same data; where its optimiser stops early, estimates are
good to about four figures.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import mixedar.formula.api as mar
from helpers.reference_cases import load
from mixedar import MixedLMAR
from mixedar.exceptions import BoundaryWarning, IdentificationError, StructureError
from mixedar.residual.variance import (
    KnownWeights,
    VarComb,
    VarConstPower,
    VarExp,
    VarFixed,
    VarIdent,
    VarLogLinear,
    VarPower,
)


@cache
def teeth() -> pd.DataFrame:
    return load("orthodont_ri_ar1_varident_reml").data


@cache
def rats() -> pd.DataFrame:
    data = load("bodyweight_car1_varpower_time_reml").data
    return data.assign(diet=data.diet.astype(str))


def grow(weights: Any, **options: Any) -> Any:
    """Fit Potthoff and Roy's teeth."""
    return fit("distance ~ age * sex", teeth(), "subject", "occ", weights, **options)


def gain(weights: Any, **options: Any) -> Any:
    """Fit Hand and Crowder's body weights of rats."""
    options.setdefault("re_formula", "~time")
    return fit("weight ~ time * diet", rats(), "rat", "time", weights, **options)


def wake(**options: Any) -> Any:
    """Fit Belenky's sleep deprivation with a constant plus a power."""
    data = load("sleepstudy_rs_reml").data
    days = VarConstPower("days")
    return fit("reaction ~ days", data, "subject", "days", days, **options)


def shine() -> Any:
    """Fit the pixel intensities of dogs with a constant plus a power."""
    data = load("pixel_nested_reml").data
    data["d"] = data.day + 1.0
    return fit("pixel ~ day", data, "dog", None, VarConstPower("d"))


def fit(
    formula: str, data: Any, groups: str, time: Any, weights: Any, **options: Any
) -> Any:
    reml = options.pop("reml", True)
    options.setdefault("residual", "independent")
    model = mar.mixedlm(
        formula, data, groups=groups, time=time, weights=weights, **options
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        return model.fit(reml=reml)


# The reference cases


FITS: dict[str, Any] = {
    "orthodont_rs_varident_reml": lambda: grow(VarIdent("sex"), re_formula="~age"),
    "orthodont_ri_ar1_varident_reml": lambda: grow(VarIdent("sex"), residual="ar1"),
    "bodyweight_car1_varpower_time_reml": lambda: gain(
        VarPower("time"), residual="car1"
    ),
    "bodyweight_exp_varpower_fitted_reml": lambda: gain(VarPower(), residual="car1"),
    "orthodont_gls_unstructured_reml": lambda: grow(
        VarIdent(), re_formula="0", residual="unr"
    ),
}
PARAMS: dict[str, Any] = {
    "varIdent": lambda values: [v for v in values.values() if v != 1],
    "varPower": lambda values: [values["power"]],
}
every_reference = pytest.mark.parametrize("name", FITS)


@cache
def reference(name: str) -> Any:
    return FITS[name]()


def tolerance(name: str) -> float:
    # nlme stops iterating the fitted values at 1e-6
    return 3e-5 if "fitted" in name else 1e-6


@every_reference
def test_reference_estimates(name: str) -> None:
    found, expected = reference(name), load(name).expected
    rtol = tolerance(name)
    assert found.llf == pytest.approx(expected["loglike"], rel=0, abs=rtol / 5)
    assert found.scale == pytest.approx(expected["sigma2"], rel=20 * rtol)
    ((kind, values),) = expected["residual_params"]["weights"].items()
    params = PARAMS[kind](values)
    np.testing.assert_allclose(found.residual_params[-len(params) :], params, rtol=rtol)
    if "fitted" in name:
        return  # its effects are named by C(diet)
    order = [effect.replace("C(diet)", "diet") for effect in expected["fixef_names"]]
    se = np.array(list(expected["fixef_se_unadjusted"].values()))
    error = found.fe_params[order] - list(expected["fixef"].values())
    assert np.all(np.abs(error) <= 1e-6 * se)
    np.testing.assert_allclose(found.bse_fe[order], se, rtol=1e-6)
    if expected["cov_re"] is not None:
        np.testing.assert_allclose(found.cov_re, expected["cov_re"], rtol=2e-6)


@every_reference
def test_reference_predictions(name: str) -> None:
    found, expected = reference(name), load(name).expected
    rows, rtol = expected["rows_first10"], 10 * tolerance(name)
    for key, values in (
        ("fitted_marginal", found.fitted_marginal),
        ("fitted_conditional", found.fittedvalues),
        ("residuals_pearson", found.residuals(kind="pearson")),
        ("residuals_normalized", found.residuals(kind="normalized")),
    ):
        np.testing.assert_allclose(
            np.asarray(values)[rows], expected[key], rtol=rtol, atol=rtol
        )
    total = float(np.sum(np.asarray(found.residuals(kind="normalized")) ** 2))
    assert total == pytest.approx(expected["normalized_residual_sumsq"], rel=rtol)


# Further fits of nlme


@dataclass(frozen=True)
class Nlme:
    """
    What nlme says.

    `call` is what differs from ``lme(distance ~ age * sex, random = ~ 1 | subject,
    method = "REML")``, ``lme(weight ~ time * diet, random = ~ time | rat)``,
    ``lme(reaction ~ days, random = ~ 1 | subject)`` and ``lme(pixel ~ day,
    random = ~ 1 | dog)``.
    """

    call: str
    fit: Any
    llf: float
    sigma: float
    params: tuple[float, ...]


NLME = [
    Nlme(
        "corAR1(form = ~ occ), varExp(form = ~ age)",
        lambda: grow(VarExp("age"), residual="ar1"),
        -216.388515799, 2.20915051, (-0.044766458,),
    ),
    Nlme(
        "random = ~ age, varExp(form = ~ age | sex)",
        lambda: grow(VarExp("age", by="sex"), re_formula="~age"),
        -204.42586294, 2.6484451, (-0.130645196, -0.045084803),
    ),
    Nlme(
        "random = ~ age, varPower(form = ~ age | sex), method = 'ML'",
        lambda: grow(VarPower("age", by="sex"), re_formula="~age", reml=False),
        -201.666819926, 7.1322152, (-1.01326954, -0.62657781),
    ),
    Nlme(
        "varFixed(~ age)",
        lambda: grow(VarFixed("age")),
        -218.373085313, 0.429574596, (),
    ),
    Nlme(
        "gls, corAR1(form = ~ occ), varFixed(~ age)",
        lambda: grow(VarFixed("age"), re_formula="0", residual="ar1"),
        -224.306353186, 0.706366947, (),
    ),
    Nlme(
        "corAR1(), varComb(varIdent(form = ~ 1 | sex), varExp(form = ~ age))",
        lambda: grow(VarComb(VarIdent("sex"), VarExp("age")), residual="ar1"),
        -206.939946417, 1.33556099, (2.182964658, -0.049745661),
    ),
    Nlme(
        "varComb(varIdent(form = ~ 1 | sex), varFixed(~ age))",
        lambda: grow([VarIdent("sex"), VarFixed("age")]),
        -209.228808956, 0.243427467, (2.1245256,),
    ),
    Nlme(
        "gls, corAR1(form = ~ occ), varIdent(form = ~ 1 | sex * occ)",
        lambda: grow(VarIdent(("sex", "occ")), re_formula="0", residual="ar1"),
        -213.960124442, 1.80277365,
        (0.82676876, 0.96111765, 1.0298939, 1.7650578, 1.74912118, 1.95594619,
         1.38579177),
    ),
    Nlme(
        "varIdent(form = ~ 1 | occ)",
        lambda: grow("varIdent"),
        -215.899190443, 1.65322112, (0.73582083, 0.89978192, 0.69446681),
    ),
    Nlme(
        "corCAR1(form = ~ time), varPower(form = ~ time | diet)",
        lambda: gain(VarPower("time", by="diet"), residual="car1"),
        -554.840251584, 5.98280761, (-0.166667217, -0.098153884, 0.028138979),
    ),
    Nlme(
        "corCAR1(form = ~ time), varExp(form = ~ time)",
        lambda: gain(VarExp("time"), residual="car1"),
        -566.028491159, 4.52513734, (0.00017379082,),
    ),
    Nlme(
        "corCAR1(form = ~ time), varExp()",
        lambda: gain("varExp", residual="car1"),
        -560.424892113, 2.50272065, (0.0015802225,),
    ),
    Nlme(
        "gls, corCAR1(form = ~ time), varPower()",
        lambda: gain("varPower", re_formula="0", residual="car1"),
        -564.843217065, 0.356058596, (0.76163506,),
    ),
    # nlme's own start, a power of zero, fails where days are zero
    Nlme(
        "varConstPower(1, 1, form = ~ days)",
        lambda: wake(),
        -886.498525953, 0.115431794, (197.5308367, 2.4737742),
    ),
    Nlme(
        "corAR1(form = ~ days), varConstPower(1, 1, form = ~ days)",
        lambda: wake(residual="ar1"),
        -857.415018198, 1.2623861, (20.7962274, 1.4897332),
    ),
    # the power is that of a step: it could be any large one
    Nlme(
        "varConstPower(1, 1, form = ~ d), d = day + 1",
        lambda: shine(),
        -439.346116056, 30.4239736, (0.47131341,),
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", NLME, ids=lambda case: case.call)
def test_further_fits_of_nlme(case: Nlme) -> None:
    found = case.fit()
    assert found.converged
    iterated = "varExp()" in case.call or "varPower()" in case.call
    close = 1e-5 if iterated else 5e-9
    assert found.llf == pytest.approx(case.llf, rel=0, abs=close)
    assert np.sqrt(found.scale) == pytest.approx(case.sigma, rel=5e-4)
    params = found.residual_params.drop("rho", errors="ignore").to_numpy()
    np.testing.assert_allclose(params[: len(case.params)], case.params, rtol=1e-3)


# Models that are the same


def same(a: Any, b: Any, params: bool = True) -> None:
    assert a.llf == pytest.approx(b.llf, abs=1e-8)
    np.testing.assert_allclose(a.fe_params, b.fe_params, rtol=1e-6)
    np.testing.assert_allclose(a.bse_fe, b.bse_fe, rtol=1e-6)
    np.testing.assert_allclose(a.cov_re, b.cov_re, rtol=1e-5)
    if params:
        np.testing.assert_allclose(a.scale, b.scale, rtol=1e-6)
        np.testing.assert_allclose(a.residual_params, b.residual_params, rtol=1e-5)


def test_a_formula_with_one_factor_is_a_standard_deviation_by_stratum() -> None:
    a = grow(VarIdent("sex"), re_formula="~age")
    b = grow(VarLogLinear("~ sex"), re_formula="~age")
    same(a, b, params=False)
    assert b.residual_params.index.to_list() == ["log_sd[sex[T.Male]]"]
    ratio = np.exp(b.residual_params.iloc[0])
    assert ratio == pytest.approx(a.residual_params["sd[Male]"], rel=1e-6)


def test_the_reference_stratum_does_not_matter() -> None:
    a = grow(VarIdent("sex"), residual="ar1")
    b = grow(VarIdent("sex", reference="Male"), residual="ar1")
    same(a, b, params=False)
    ratio = a.residual_params["sd[Male]"]
    assert b.residual_params["sd[Female]"] == pytest.approx(1.0 / ratio, rel=1e-5)
    assert b.scale == pytest.approx(a.scale * ratio**2, rel=1e-5)


def test_a_power_of_one_half_is_proportional_variance() -> None:
    a = grow(VarFixed("age"), residual="ar1")
    b = grow(VarPower("age", power=0.5, fixed=True), residual="ar1")
    same(a, b, params=False)
    assert a.scale == pytest.approx(b.scale)
    assert b.residual_params["power"] == 0.5


@pytest.mark.parametrize("residual", ["independent", "ar1"])
def test_weights_are_inverse_variances(residual: str) -> None:
    data = teeth().assign(w=1.0 / teeth().age)
    model = "distance ~ age * sex", data, "subject", "occ"
    a = fit(*model, VarFixed("age"), residual=residual)
    for weights in ("w", KnownWeights("w"), data.w, data.w.to_numpy(), list(data.w)):
        same(a, fit(*model, weights, residual=residual))


def test_weighted_least_squares() -> None:
    data = teeth().assign(w=np.random.default_rng(2).uniform(0.2, 3.0, size=108))
    ols = sm.WLS.from_formula("distance ~ age * sex", data, weights=data.w).fit()
    ml = fit(
        "distance ~ age * sex", data, "subject", "occ", "w", re_formula="0", reml=False
    )
    assert ml.llf == pytest.approx(ols.llf, abs=1e-8)
    np.testing.assert_allclose(ml.fe_params, ols.params[ml.fe_params.index])
    reml = fit("distance ~ age * sex", data, "subject", "occ", "w", re_formula="0")
    np.testing.assert_allclose(reml.bse_fe, ols.bse[reml.bse_fe.index])
    assert reml.scale == pytest.approx(ols.scale)


def test_arrays() -> None:
    a = grow(VarComb(VarIdent("sex"), VarLogLinear("age")), residual="ar1")
    data = a.model.data.frame
    b = MixedLMAR(
        a.model.endog,
        a.model.exog,
        data.subject,
        time=data.occ,
        residual="ar1",
        weights=VarComb(VarIdent("sex"), VarLogLinear(columns=("age",))),
        residual_data={"sex": teeth().sex, "age": teeth().age},
    ).fit()
    assert b.llf == pytest.approx(a.llf, abs=1e-9)
    np.testing.assert_allclose(b.residual_params, a.residual_params, rtol=1e-6)


# What must not matter


def test_order_of_rows() -> None:
    order = np.random.default_rng(0).permutation(108)
    model = "distance ~ age * sex", teeth().iloc[order], "subject", "occ"
    for weights in (VarComb(VarIdent("sex"), VarPower("age")), VarPower()):
        a, b = grow(weights, residual="ar1"), fit(*model, weights, residual="ar1")
        same(a, b)
        np.testing.assert_allclose(
            b.fittedvalues, np.asarray(a.fittedvalues)[order], rtol=1e-6
        )


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_unit_of_the_covariate(unit: float) -> None:
    data = teeth().assign(v=teeth().age * unit)
    model = "distance ~ age * sex", data, "subject", "occ"
    a = grow(VarPower("age"), residual="ar1")
    b = fit(*model, VarPower("v"), residual="ar1")
    same(a, b, params=False)
    power = b.residual_params["power"]
    assert power == pytest.approx(a.residual_params["power"], rel=1e-5)
    assert b.scale == pytest.approx(a.scale * unit ** (-2.0 * power), rel=1e-5)
    exponential = fit(*model, VarExp("v"), residual="ar1")
    same(grow(VarExp("age"), residual="ar1"), exponential, params=False)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_unit_of_weights(unit: float) -> None:
    data = teeth().assign(w=unit * (1.0 + teeth().age))
    model = "distance ~ age * sex", data, "subject", "occ"
    one = fit(
        *model[:1], data.assign(w=1.0 + data.age), *model[2:], "w", residual="ar1"
    )
    other = fit(*model, "w", residual="ar1")
    same(one, other, params=False)
    assert other.scale == pytest.approx(unit * one.scale, rel=1e-6)
    assert not other.at_boundary


# What cannot be


def test_zero_in_the_data() -> None:
    data = teeth().assign(v=teeth().age - 8.0)
    with pytest.raises(StructureError, match=r"'v' is 0 in 27 of 108 rows.*VarExp"):
        fit("distance ~ age * sex", data, "subject", "occ", VarPower("v"))
    found = fit("distance ~ age * sex", data, "subject", "occ", VarExp("v"))
    assert found.llf == pytest.approx(grow(VarExp("age")).llf, abs=1e-7)


def test_a_stratum_with_one_observation() -> None:
    data = teeth().assign(kind=["odd", *["even"] * 107])
    with pytest.raises(IdentificationError, match="'odd' has one observation"):
        fit("distance ~ age * sex", data, "subject", "occ", VarIdent("kind"))
