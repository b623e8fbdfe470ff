"""Growth curves as latent variables, against lavaan (tests/reference/growth)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import mixedar.api as ma
import mixedar.formula.api as mar
from mixedar.datasets import load_orthodont
from mixedar.exceptions import UnsupportedError

FOLDER = Path(__file__).parents[1] / "reference" / "growth"
CASES = sorted(path.stem for path in FOLDER.glob("growth_*.json"))
TEETH = load_orthodont()


def fitted(case: str) -> tuple[dict[str, Any], Any]:
    """Return a record, and the fit of its model."""
    record = json.loads((FOLDER / f"{case}.json").read_text(encoding="utf-8"))
    data = pd.read_csv(FOLDER / "data" / f"{record['data']}.csv")
    residual = record["residual"]
    model = mar.mixedlm(
        record["formula"],
        data,
        groups="id",
        re_formula="~time",
        time="time",
        residual=residual["type"].lower() if residual else "independent",
    )
    return record["expected"] | {"syntax": record["lavaan_syntax"]}, model.fit(
        reml=False
    )


@pytest.mark.parametrize("case", CASES)
def test_moments_are_those_of_lavaan(case: str) -> None:
    expected, fit = fitted(case)
    assert fit.llf == pytest.approx(expected["loglike"], abs=1e-7)
    found = fit.implied_moments()
    np.testing.assert_allclose(found.mean["implied"], expected["implied_mean"])
    np.testing.assert_allclose(
        found.covariance, expected["implied_covariance"], rtol=1e-7
    )
    given = fit.implied_moments(covariates="given").covariance
    np.testing.assert_allclose(given, expected["conditional_covariance"], rtol=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_the_syntax_is_that_which_lavaan_fitted(case: str) -> None:
    expected, fit = fitted(case)
    written = fit.to_lavaan()
    lines = {line.replace(" ", "") for line in str(written).splitlines()}
    fitted_by_lavaan = {
        line.replace(" ", "") for line in expected["syntax"].splitlines()
    }
    assert fitted_by_lavaan <= lines
    # what lavaan::growth adds by itself
    assert lines - fitted_by_lavaan == {"i~1", "s~1", "i~~i", "s~~i", "s~~s"}
    assert len(written.data) == fit.n_groups


def test_standard_errors_are_those_of_sums_of_parameters() -> None:
    _, fit = fitted("growth_linear_ml")
    found = fit.implied_moments(covariates="given")
    cov = fit.fit.estimate.cov_theta
    # at time 0 the variance is that of the intercept and the residual
    first = np.sqrt(cov[0, 0] + 2.0 * cov[0, -1] + cov[-1, -1])
    assert found.covariance_se.iloc[0, 0] == pytest.approx(first, rel=1e-5)
    x = np.array([1.0, 2.0])
    second = np.sqrt(x @ np.asarray(fit.fit.cov_beta) @ x)
    assert found.mean["std_error"].iloc[2] == pytest.approx(second)
    data = fit.fit.data
    wide = pd.DataFrame({"g": data.codes, "t": data.time, "y": data.endog}).pivot(
        index="g", columns="t", values="y"
    )
    np.testing.assert_allclose(found.sample_covariance, wide.cov(ddof=0))
    assert "Implied covariance" in str(found.summary())


def test_unequal_variances_have_no_common_label() -> None:
    model = mar.mixedlm(
        "distance ~ age",
        TEETH,
        groups="subject",
        re_formula="~age",
        time="age",
        residual="independent",
        weights=ma.VarIdent("age"),
    )
    lines = str(model.fit(reml=False).to_lavaan()).splitlines()
    assert "y1 ~~ y1" in lines
    assert not any("c0" in line for line in lines)


@pytest.mark.filterwarnings("ignore::mixedar.exceptions.MixedARWarning")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"residual": "arma11"}, "AR\\(1\\)"),
        ({"re_formula": "0 + I(age * (sex == 'Male'))"}, "differ between groups"),
        ({"formula": "distance ~ age + I(distance ** 2)"}, "time course"),
        ({"weights": ma.VarExp("age"), "residual": "independent"}, "VarIdent"),
        ({"residual": ma.AR1(0.5, fixed=True), "time": "occ"}, "held"),
        ({"re_formula": "0 + early + late", "re_cov": "compound"}, "compound"),
    ],
)
def test_what_is_no_growth_curve_is_refused(options: dict[str, Any], text: str) -> None:
    default = {"groups": "subject", "re_formula": "~age", "time": "age"}
    if options.get("residual") == "arma11":
        default["time"] = "occ"
    formula = options.pop("formula", "distance ~ age")
    data = TEETH.assign(early=TEETH["age"] < 11, late=TEETH["age"] > 11)
    data = data.astype({"early": float, "late": float})
    model = mar.mixedlm(formula, data, **{**default, **options})
    with pytest.raises(UnsupportedError, match=text):
        model.fit(reml=False).to_lavaan()


WRITTEN = json.loads((FOLDER / "written.json").read_text(encoding="utf-8"))
del WRITTEN["missing waves ar1"]["semopy"]  # which stops on its way


@pytest.fixture(scope="module")
def cases() -> Any:
    """Return the file that made the values, as a module."""
    spec = importlib.util.spec_from_file_location("written", FOLDER / "written.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", WRITTEN)
def test_what_is_written_is_the_model_that_was_fitted(case: str, cases: Any) -> None:
    # lavaan and semopy fitted these lines: the same maximum, the same parameters
    record, fit = WRITTEN[case], cases.fitted(case)
    written = fit.to_lavaan()
    assert str(written).splitlines() == record["syntax"]
    assert written.semopy.splitlines() == record["semopy_syntax"]
    assert len(written.data) == fit.n_groups
    ar1 = any("==" in line for line in record["syntax"])  # met to about 1e-8
    loose = 6e-5 if ar1 else 1e-7
    assert fit.llf == pytest.approx(record["lavaan"]["loglike"], abs=loose)
    if "semopy" in record:
        assert fit.llf == pytest.approx(record["semopy"]["loglike"], abs=2e-6)
    found = record["lavaan"]["params"]
    means = [found[f"{latent}~1"] for latent in "is" if f"{latent}~1" in found]
    if means:
        np.testing.assert_allclose(fit.fe_params.iloc[0], means[0], rtol=1e-4)
    if "i~~i" in found and "s~~s" in found:
        variances = np.diag(fit.cov_re)
        expected = [found["i~~i"], found["s~~s"]]
        np.testing.assert_allclose(variances, expected, rtol=5e-4)
    assert fit.scale == pytest.approx(found["y1~~y1"], rel=5e-4)


def test_groups_without_some_waves_are_written_with_gaps(cases: Any) -> None:
    fit = cases.fitted("missing waves")
    data = fit.to_lavaan().data
    assert data.filter(regex=r"^y\d").notna().to_numpy().sum() == fit.nobs
    assert data[["w", "z"]].notna().all(axis=None)
    # moments are of the groups that have all of them
    assert fit.implied_moments().n_groups == data.dropna().shape[0]


def test_unbalanced_times_and_missing_times_are_refused() -> None:
    fit = mar.mixedlm("distance ~ age", TEETH, groups="subject").fit()
    with pytest.raises(UnsupportedError, match="time"):
        fit.implied_moments()
    fit = mar.mixedlm("distance ~ age", TEETH, groups="subject", time="occ").fit()
    with pytest.raises(UnsupportedError, match="99"):
        fit.implied_moments([1, 99])


def test_a_covariate_named_like_a_wave_is_none() -> None:
    data = TEETH.assign(y9=(TEETH["sex"] == "Male").astype(float))
    model = mar.mixedlm(
        "distance ~ age + y9",
        data,
        groups="subject",
        re_formula="~age",
        time="occ",
        residual="independent",
    )
    written = model.fit(reml=False).to_lavaan()
    means = [line for line in written.semopy.splitlines() if line.endswith("~ 0*1")]
    assert means == [f"y{wave} ~ 0*1" for wave in (1, 2, 3, 4)]
    assert written.data.columns.tolist() == ["y1", "y2", "y3", "y4", "one", "y9_"]


def teeth_fit(**options: Any) -> Any:
    """Return a growth curve of the teeth with a covariate."""
    given = {"groups": "subject", "re_formula": "~age", "time": "occ", **options}
    return mar.mixedlm("distance ~ age * sex", TEETH, **given).fit(reml=False)


def test_paths_are_what_the_fit_found() -> None:
    fit = teeth_fit(residual="ar1")
    found = fit.to_lavaan().paths.set_index(["lhs", "op", "rhs"])["value"]
    assert found["s", "=~", "y3"] == 12.0
    assert found["i", "~1", ""] == fit.fe_params["Intercept"]
    assert found["s", "~", "sex_T_Male"] == fit.fe_params["age:sex[T.Male]"]
    assert found["i", "~~", "s"] == pytest.approx(fit.cov_re.iloc[1, 0])
    assert found["y2", "~~", "y2"] == pytest.approx(fit.scale)
    lag = found["y1", "~~", "y3"] / found["y1", "~~", "y1"]
    assert lag == pytest.approx(fit.residual_params["rho"] ** 2)
    # with them come the moments that the model implies
    mean = [8.0 + 2.0 * wave for wave in range(4)]
    loadings = np.column_stack([np.ones(4), mean])
    cross = found["i", "~~", "s"]
    psi = np.array([[found["i", "~~", "i"], cross], [cross, found["s", "~~", "s"]]])
    theta = [
        [found[f"y{min(j, k)}", "~~", f"y{max(j, k)}"] for j in range(1, 5)]
        for k in range(1, 5)
    ]
    implied = fit.implied_moments(covariates="given").covariance
    np.testing.assert_allclose(loadings @ psi @ loadings.T + theta, implied)


def test_path_diagrams_have_a_node_and_a_number_for_each_path() -> None:
    fit = teeth_fit(residual="independent")
    ax = fit.plot_path()
    texts = [text.get_text() for text in ax.texts if text.get_text()]
    names = [text.splitlines()[0] for text in texts]
    assert {"i", "s", "y1", "y2", "y3", "y4", "sex_T_Male"} <= set(names)
    assert names.count("e") == 4
    assert f"{fit.fe_params['sex[T.Male]']:.3g}" in texts
    assert f"i\nmean {fit.fe_params['Intercept']:.3g}" in texts[0]
    # eight loadings, two regressions, one covariance, four residuals
    assert sum(not text.get_text() for text in ax.texts) == 15
    _, mine = plt.subplots()
    correlated = teeth_fit(residual="ar1", re_formula="~1")
    assert correlated.plot_path([1, 2, 3], ax=mine) is mine
    # of neighbours: two more than loadings, regressions, residuals
    arrows = sum(not text.get_text() for text in mine.texts)
    paths = correlated.to_lavaan([1, 2, 3]).paths
    assert arrows == 3 + 2 + (paths["op"].isin(["=~", "~"])).sum()
    with pytest.raises(UnsupportedError, match="has no time"):
        teeth_fit(time=None, residual="independent").plot_path()
    plt.close("all")
