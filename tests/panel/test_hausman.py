"""Hausman tests against reference values, by hand, and with bad input."""

from __future__ import annotations

import dataclasses
import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import mixedar.formula.api as mar
from helpers.reference_cases import read_csv
from mixedar import VarPower
from mixedar.exceptions import MixedARError, NotComputedError, UnsupportedError
from mixedar.panel import FixedEffects, RandomEffects
from mixedar.panel.hausman import HausmanResult, hausman
from mixedar.panel.hausman.bootstrap import (
    drawn_differences,
    entity_products,
    estimates,
)
from mixedar.residual.variance import VarLogLinear

FOLDER = Path(__file__).parents[1] / "reference" / "panel"
FORMS = ["classical", "sigmamore", "sigmaless"]
CORRECTIONS = ["HC0", "HC1", "sss"]


def names_of(kind: str) -> list[str]:
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        if json.loads(path.read_text(encoding="utf-8"))["kind"] == kind:
            found.append(path.stem)
    return found


HAUSMAN = names_of("hausman")


@cache
def case(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def data_of(name: str) -> pd.DataFrame:
    return read_csv(FOLDER / case(name)["data"])


@cache
def fits(name: str) -> tuple[Any, Any]:
    raw = case(name)
    where = {"entity": raw["entity"], "time": raw["time"], "missing": "drop"}
    data = data_of(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows left out
        fe = mar.fixed_effects(raw["formula"], data, **where).fit()
        re = mar.random_effects(raw["formula"], data, **where)
    return fe, re.fit(unbalanced="baltagi-chang")


def simulated(
    n: int = 60, periods: int = 5, link: float = 0.0, seed: int = 1
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    effect = rng.normal(size=n)
    rows = pd.DataFrame(
        {"id": np.repeat(np.arange(n), periods), "t": np.tile(np.arange(periods), n)}
    )
    between = rng.normal(size=n)[rows["id"]]
    rows["x1"] = rng.normal(size=len(rows)) + between + link * effect[rows["id"]]
    rows["x2"] = rng.normal(size=len(rows)) + 0.3 * rows["t"]
    rows["y"] = 1 + rows["x1"] - rows["x2"] + effect[rows["id"]]
    rows["y"] += rng.normal(size=len(rows))
    return rows


def pair(data: pd.DataFrame, formula: str = "y ~ x1 + x2", **fit: Any) -> Any:
    where = {"entity": "id", "time": "t"}
    fe = mar.fixed_effects(formula, data, **where).fit()
    return fe, mar.random_effects(formula, data, **where).fit(**fit)


# -- reference values ---------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", HAUSMAN)
def test_quadratic_forms(name: str, form: str) -> None:
    raw = case(name)["expected"]
    want = raw["hausman"][form]
    got = hausman(*fits(name), form)
    assert_allclose(got.eigenvalues, want["scaled_eigenvalues"], atol=1e-9)
    assert list(got.comparison.index) == raw["hausman"]["common_params"] or set(
        got.comparison.index
    ) == set(raw["hausman"]["common_params"])
    if want["rank"] == 0:
        assert np.isnan(got.statistic)
        assert np.isnan(got.pvalue)
        assert got.df == 0
        assert "not identified" in str(got.reason)
        return
    assert_allclose(got.statistic, want["chisq_pinv"], rtol=1e-6)
    if want["chisq_signed"] is not None:
        assert_allclose(got.statistic, want["chisq_signed"], rtol=1e-6)
    assert got.df == want["rank"]
    if want["p_pinv"] is None:
        assert np.isnan(got.pvalue)
        assert "negative" in str(got.reason)
    else:
        assert_allclose(got.pvalue, want["p_pinv"], rtol=1e-6, atol=1e-12)
        assert got.reason is None


def check_augmented(got: HausmanResult, want: dict[str, Any]) -> None:
    assert_allclose(got.pvalue, want.get("p_F", want["p"]), rtol=1e-6, atol=1e-12)
    if "F" in want:
        assert_allclose(got.statistic, want["F"], rtol=1e-6)
        assert got.df == (want["df1"], want["df2"])
        assert_allclose(dict(got.test.details)[f"chi2({want['df']})"], want["chisq"])
    else:
        assert_allclose(got.statistic, want["chisq"], rtol=1e-6)
        assert got.df == want["df"]


@pytest.mark.parametrize("name", HAUSMAN)
def test_auxiliary_regression(name: str) -> None:
    expected = case(name)["expected"]["hausman"]
    for key in ("aux_regression", "aux_regression_transformed_constant"):
        want = expected.get(key)
        if want is None:
            continue
        options: dict[str, Any] = {"plain_constant": key == "aux_regression"}
        if "error" in want:
            got = hausman(*fits(name), "auxiliary", **options)
            assert "not identified" in str(got.reason)
            continue
        check_augmented(hausman(*fits(name), "auxiliary", **options), want["classical"])
        for correction in CORRECTIONS:
            got = hausman(
                *fits(name), "auxiliary-robust", correction=correction, **options
            )
            check_augmented(got, want[f"cluster_{correction}"])


@pytest.mark.parametrize("name", HAUSMAN)
def test_mundlak(name: str) -> None:
    want = case(name)["expected"].get("mundlak")
    if want is None:
        return
    if "error" in want:
        got = hausman(*fits(name), "mundlak-robust")
        assert "not identified" in str(got.reason)
        return
    random = want["random"]
    check_augmented(hausman(*fits(name), "mundlak"), random["wald_means_classical"])
    for correction in CORRECTIONS:
        for estimator, block in (("gls", random), ("pooled", want["pooled"])):
            got = hausman(
                *fits(name),
                "mundlak_robust",
                correction=correction,
                estimator=estimator,
            )
            check_augmented(got, block[f"wald_means_cluster_{correction}"])


def test_mundlak_produc() -> None:
    want = case("produc_mundlak")["expected"]
    got = hausman(*fits("produc_hausman"), "mundlak-robust", use_f=False)
    sss = want["random"]["wald_means_cluster_sss"]
    assert_allclose(got.statistic, sss["chisq"], rtol=1e-6)
    assert_allclose(got.pvalue, sss["p"], rtol=1e-6)
    assert got.df == 4
    other = dict(got.test.details)
    assert_allclose(other["F(4, 47)"], sss["F"], rtol=1e-6)
    assert_allclose(other["its p-value"], sss["p_F"], rtol=1e-6)


@pytest.mark.parametrize("name", [n for n in HAUSMAN if n.startswith("sim_")])
def test_verdicts(name: str) -> None:
    reject = case(name)["expected"]["must_reject"]
    for method in ("default", "sigmaless", "auxiliary", "mundlak", "mundlak-robust"):
        got = hausman(*fits(name), method)
        for test in got.tests:
            assert test.rejects(0.01 if reject else 0.05) is reject


def test_plm_takes_the_wrong_coefficients() -> None:
    # plm's auxiliary form tests others when a regressor is time-invariant
    expected = case("sim_uncorr_hausman")["expected"]["hausman"]
    got = hausman(*fits("sim_uncorr_hausman"), "auxiliary")
    assert_allclose(got.statistic, expected["aux_regression"]["classical"]["chisq"])
    assert got.statistic < 0.2 < expected["plm_phtest_aux"]["default"]["statistic"]


def test_plain_constant_depends_on_the_origin() -> None:
    data = simulated().iloc[np.r_[0:3, 7:200]]
    moved = data.assign(x1=data["x1"] + 3.0)
    plain = [
        hausman(*pair(d), "auxiliary", plain_constant=True).statistic
        for d in (data, moved)
    ]
    assert abs(plain[0] / plain[1] - 1.0) > 1e-6
    ours = [hausman(*pair(d), "auxiliary").statistic for d in (data, moved)]
    assert_allclose(ours[0], ours[1], rtol=1e-9)


# -- the result ---------------------------------------------------------------


def test_default_is_sigmamore_and_clustered_mundlak() -> None:
    got = hausman(*fits("grunfeld_hausman"))
    names = ["Hausman (sigmamore)", "Mundlak (clustered)"]
    assert [test.name for test in got.tests] == names
    assert_allclose(got.statistic, 2.129946, rtol=1e-6)
    assert got.df == 2
    assert got.rejects() is False
    frame = got.to_frame()
    assert list(frame.index) == names
    assert_allclose(frame["df_denom"], [np.nan, 9.0])
    assert_allclose(
        got.comparison["difference"], got.comparison["fe"] - got.comparison["re"]
    )
    assert_allclose(got.comparison["std_err"] ** 2, np.diag(got.cov_difference))


def test_printed_result_says_what_it_means() -> None:
    got = hausman(*fits("sim_corr_hausman"))
    text = " ".join(str(got).split())
    assert "asks whether the effects of the entities are unrelated" in text
    assert "a rejection means" in text
    assert "not rejecting is no proof of random effects" in text
    assert "x1, x2" in text
    assert got.meaning.count(". ") == 0
    assert "<table" in got._repr_html_()
    assert "tabular" in got.summary().as_latex()
    assert max(map(len, str(got).splitlines())) <= 80


def test_growth_is_not_identified() -> None:
    got = hausman(*fits("seed_hausman"))
    assert np.isnan(got.pvalue)
    assert got.rejects() is None
    assert got.identified == 0
    text = " ".join(str(got).split())
    assert (
        "not identified: fixed and random effects agree to rounding error on time"
        in (text)
    )


def test_time_dummies_have_two_degrees_of_freedom() -> None:
    got = hausman(*fits("timedummies_hausman"))
    assert got.df == 2
    assert got.identified == 2
    assert "2 independent directions" in str(got).replace("\n", " ")
    classical = hausman(*fits("timedummies_hausman"), "classical")
    assert "Only 2 of the 6 degrees of freedom" in str(classical.test.note)


def test_indefinite_difference_is_said() -> None:
    got = hausman(*fits("produc_hausman"), "classical")
    assert got.statistic > 0
    assert "not positive semidefinite (1 of 4" in str(got.test.note)


def test_zero_variance_is_said() -> None:
    data = read_csv(FOLDER / "data" / "sim_negvar.csv")
    got = hausman(*pair(data))
    assert "pooled least squares" in " ".join(got.notes)
    assert np.isfinite(got.pvalue)


def test_disagreement_is_said() -> None:
    rng = np.random.default_rng(5)
    data = simulated(link=0.3, seed=3)
    for _ in range(8):
        data["y"] += 0.3 * rng.normal(size=len(data))
        got = hausman(*pair(data))
        verdicts = {test.rejects() for test in got.tests}
        said = any("disagree" in note for note in got.notes)
        assert said == (len(verdicts) == 2)


def test_results_are_frozen() -> None:
    got = hausman(*fits("grunfeld_hausman"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        got.method = "x"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        got.test.pvalue = 0.0  # type: ignore[misc]


@settings(max_examples=8)
@given(
    scale=st.floats(1e-4, 1e4),
    shift=st.floats(-1e6, 1e6),
    seed=st.integers(0, 50),
)
def test_units_and_origins_do_not_matter(scale: float, shift: float, seed: int) -> None:
    data = simulated(n=20, link=0.5, seed=seed).sample(frac=0.8, random_state=seed)
    other = data.assign(x1=data["x1"] * scale + shift, y=data["y"] * 3.0 - shift)
    for method in ("sigmamore", "auxiliary-robust", "mundlak-robust"):
        a, b = (hausman(*pair(d), method).statistic for d in (data, other))
        assert_allclose(a, b, rtol=1e-4)


def test_order_of_rows_does_not_matter() -> None:
    data = simulated(link=0.4)
    shuffled = data.sample(frac=1.0, random_state=2)
    fe, _ = pair(data)
    _, re = pair(shuffled)
    assert_allclose(hausman(fe, re).statistic, hausman(*pair(data)).statistic)


def test_ml_random_effects() -> None:
    data = simulated(n=200, link=0.0)
    fe, re = pair(data, method="ml")
    got = hausman(fe, re)
    assert_allclose(got.statistic, hausman(*pair(data)).statistic, rtol=0.05)
    with pytest.raises(NotComputedError, match="Swamy and Arora"):
        hausman(fe, re, "bootstrap", reps=20, progress=False)


def test_ar1_fits_have_the_classical_form_only() -> None:
    data = simulated(n=80, periods=8, link=0.8)
    where = {"entity": "id", "time": "t"}
    fe = mar.fixed_effects_ar1("y ~ x1 + x2", data, **where).fit()
    re = mar.random_effects_ar1("y ~ x1 + x2", data, **where).fit()
    got = hausman(fe, re)
    assert [test.name for test in got.tests] == ["Hausman (classical)"]
    d = (fe.params - re.params)[["x1", "x2"]]
    cov = (fe.cov_params() - re.cov_params()).loc[["x1", "x2"], ["x1", "x2"]]
    assert_allclose(got.statistic, d @ np.linalg.solve(cov, d), rtol=1e-6)
    with pytest.raises(UnsupportedError, match=r"AR\(1\) errors"):
        hausman(fe, re, "sigmamore")
    with pytest.raises(UnsupportedError, match="both or neither"):
        hausman(pair(data)[0], re)


# -- bootstrap ----------------------------------------------------------------


@pytest.mark.parametrize("components", ["harmonic", "baltagi-chang"])
def test_bootstrap_replicates_are_the_estimators(components: str) -> None:
    data = simulated(n=25, link=0.6).sample(frac=0.7, random_state=3)
    data["z"] = (data["id"] % 3).astype(float)
    formula = "y ~ x1 + x2 + z"
    fe, re = pair(data, formula, unbalanced=components)
    panel = re.panel
    products = entity_products(panel, re.estimate.columns, panel.constant)
    rng = np.random.default_rng(0)
    for _ in range(5):
        drawn = rng.integers(0, panel.n_entities, panel.n_entities)
        weights = np.bincount(drawn, minlength=panel.n_entities).astype(float)
        got = estimates(products, weights[None], components)  # type: ignore[arg-type]
        parts = []
        for copy, which in enumerate(drawn):
            part = data[data["id"] == panel.entity_labels[which]]
            parts.append(part.assign(id=copy))
        fe_new, re_new = pair(pd.concat(parts), formula, unbalanced=components)
        slopes = ["x1", "x2"]
        where = [panel.names.index(name) for name in slopes]
        assert_allclose(got.fe[0, where], fe_new.params[slopes], rtol=1e-8)
        assert_allclose(got.re[0, where], re_new.params[slopes], rtol=1e-8)
        assert_allclose(got.sigma2_u[0], re_new.estimate.sigma2_u, rtol=1e-8)
        assert_allclose(got.sigma2_e[0], re_new.estimate.sigma2_e, rtol=1e-8)
    assert fe.nobs == panel.nobs


def test_bootstrap_result(capsys: pytest.CaptureFixture[str]) -> None:
    fe, re = pair(simulated(n=150, link=0.7))
    got = hausman(fe, re, "bootstrap", reps=299, seed=3)
    assert "299" in capsys.readouterr().err
    again = hausman(fe, re, "bootstrap", reps=299, seed=3, progress=False)
    assert capsys.readouterr().err == ""
    assert got.statistic == again.statistic
    other = hausman(fe, re, "bootstrap", reps=299, seed=4, progress=False)
    assert got.statistic != other.statistic
    assert got.df == 2
    assert got.draws is not None
    assert got.draws.shape == (299, 2)
    assert_allclose(got.cov_difference, got.draws.cov())
    difference = got.comparison["difference"].to_numpy()
    by_hand = difference @ np.linalg.solve(got.draws.cov(), difference)
    assert_allclose(got.statistic, by_hand)
    assert got.pvalue < 0.01
    assert dict(got.test.details)["p-value from the replicates"] < 0.05
    # entities differ, so that it need not equal the others, but it is near
    assert_allclose(
        got.comparison["std_err"], hausman(fe, re).comparison["std_err"], rtol=0.5
    )


def test_bootstrap_with_period_dummies() -> None:
    got = hausman(
        *fits("timedummies_hausman"), "bootstrap", seed=1, reps=199, progress=False
    )
    assert got.df == 2
    assert 0.3 < got.pvalue < 1.0


def test_bootstrap_without_identification() -> None:
    got = hausman(*fits("seed_hausman"), "bootstrap", progress=False)
    assert np.isnan(got.pvalue)
    assert "not identified" in str(got.reason)


def test_bootstrap_counts_failed_replicates() -> None:
    data = simulated(n=12)
    data["rare"] = ((data["id"] == 3) & (data["t"] > 2)) * 1.0
    fe, re = pair(data, "y ~ x1 + rare")
    got = hausman(fe, re, "bootstrap", reps=200, seed=0, progress=False)
    assert got.draws is not None
    assert 100 < len(got.draws) < 150  # (11 / 12)^12 = 35 percent have no such entity
    assert "could not be estimated" in str(got.test.note)


def test_bootstrap_that_mostly_fails() -> None:
    data = simulated(n=12)
    data["rare"] = ((data["id"] == 3) & (data["t"] > 2)) * 1.0
    _, re = pair(data, "y ~ x1 + rare")
    panel = re.panel
    products = entity_products(panel, re.estimate.columns, panel.constant)
    with pytest.raises(NotComputedError, match="of 10 bootstrap replicates"):
        drawn_differences(
            products,
            np.array([1, 2]),
            "harmonic",
            n_sim=10,
            rng=0,
            progress=False,
        )


def test_bootstrap_in_blocks() -> None:
    fe, re = pair(simulated(n=30))
    panel = re.panel
    products = entity_products(panel, re.estimate.columns, panel.constant)
    whole = estimates(products, np.ones((3, 30)), "harmonic")
    assert_allclose(whole.fe[0, 1:], fe.params[1:], rtol=1e-10)
    assert_allclose(whole.re[2, 1:], re.params[1:], rtol=1e-10)
    assert not whole.failed.any()


# -- mixed models -------------------------------------------------------------


@pytest.mark.parametrize(("link", "reject"), [(0.0, False), (0.8, True)])
def test_mixed_model_with_slopes_and_ar1(link: float, reject: bool) -> None:
    data = simulated(n=150, link=link, seed=11)
    slopes = np.random.default_rng(1).normal(size=150)
    data["y"] += slopes[data["id"]] * data["x2"]
    fe, _ = pair(data)
    mixed = mar.mixedlm(
        "y ~ x1 + x2",
        data.sample(frac=1.0, random_state=0),
        groups="id",
        re_formula="~x2",
        time="t",
    ).fit()
    got = hausman(fe, mixed)
    assert got.rejects(0.01 if reject else 0.05) is reject
    assert isinstance(got.df, tuple)
    assert got.df[0] == 2
    assert got.mixed.fe_params.shape == (5,)
    assert "mean(x1), mean(x2)" in " ".join(got.notes)
    assert "AR(1) residuals" in " ".join(got.notes)
    by_hand = data.assign(
        m1=data.groupby("id")["x1"].transform("mean"),
        m2=data.groupby("id")["x2"].transform("mean"),
    )
    long = mar.mixedlm(
        "y ~ x1 + x2 + m1 + m2", by_hand, groups="id", re_formula="~x2", time="t"
    ).fit()
    want = long.wald_test("m1 = 0, m2 = 0", use_f=False)
    chi2 = hausman(fe, mixed, "mundlak", use_f=False)
    assert_allclose(chi2.statistic, want.statistic, rtol=1e-6)
    assert_allclose(chi2.pvalue, want.pvalue, rtol=1e-6)
    assert "no proof of the mixed model" in got.meaning


def test_random_intercept_mixed_model_agrees_with_mundlak() -> None:
    data = simulated(n=300, link=0.2, seed=4)
    fe, re = pair(data)
    mixed = mar.mixedlm("y ~ x1 + x2", data, groups="id", residual="independent").fit()
    got = hausman(fe, mixed, use_f=False)
    # same regression, variances by REML instead of Swamy and Arora
    assert_allclose(got.statistic, hausman(fe, re, "mundlak").statistic, rtol=0.02)


def test_growth_with_mixed_model(growth_small: pd.DataFrame) -> None:
    where = {"entity": "id", "time": "time"}
    fe = mar.fixed_effects("y ~ time + treatment", growth_small, **where).fit()
    mixed = mar.mixedlm(
        "y ~ time + treatment",
        growth_small,
        groups="id",
        re_formula="~time",
        time="time",
    ).fit()
    got = hausman(fe, mixed)
    assert "no mean can be added" in str(got.reason)
    assert np.isnan(got.pvalue)


def test_boundary_is_noted_and_does_not_warn() -> None:
    data = simulated(n=150, seed=11)
    fe, _ = pair(data)
    model = mar.mixedlm("y ~ x1 + x2", data, groups="id", re_formula="~x2", time="t")
    with pytest.warns(UserWarning, match="singular"):
        mixed = model.fit()
    assert "covariance is singular" in " ".join(hausman(fe, mixed).notes)


def test_mixed_model_without_random_effects() -> None:
    data = simulated(n=80, link=0.9)
    fe, _ = pair(data)
    gls = mar.mixedlm("y ~ x1 + x2", data, groups="id", re_formula="0", time="t").fit()
    assert hausman(fe, gls).rejects(0.01) is True


def test_mixed_model_errors() -> None:
    data = simulated()
    fe, re = pair(data)
    mixed = mar.mixedlm("y ~ x1 + x2", data, groups="id", time="t").fit()
    with pytest.raises(UnsupportedError, match="first argument is a mixed model"):
        hausman(mixed, fe)
    with pytest.raises(UnsupportedError, match="method='sigmamore' is not defined"):
        hausman(fe, mixed, "sigmamore")
    with pytest.raises(UnsupportedError, match="first argument must be"):
        hausman(re, mixed)
    less = mar.mixedlm("y ~ x1 + x2", data[data["id"] > 0], groups="id", time="t").fit()
    with pytest.raises(UnsupportedError, match="are not the entities"):
        hausman(fe, less)
    rows = data.drop(index=7)
    less = mar.mixedlm("y ~ x1 + x2", rows, groups="id", time="t").fit()
    with pytest.raises(UnsupportedError, match=r"first id 1 at t 2"):
        hausman(fe, less)
    untimed = mar.mixedlm("y ~ x1 + x2", rows, groups="id").fit()
    with pytest.raises(UnsupportedError, match="different rows or responses"):
        hausman(fe, untimed)
    assert np.isfinite(
        hausman(fe, mar.mixedlm("y ~ x1 + x2", data, groups="id").fit()).pvalue
    )
    other = mar.mixedlm("y ~ x1", data, groups="id", time="t").fit()
    with pytest.raises(UnsupportedError, match=r"\['x2'\].*the mixed model"):
        hausman(fe, other)
    doubled = pd.concat([data.assign(s=0), data.assign(s=1)])
    series = mar.mixedlm(
        "y ~ x1 + x2", doubled, groups="id", time="t", series="s"
    ).fit()
    with pytest.raises(UnsupportedError, match="several series"):
        hausman(fe, series)


# -- bad input ----------------------------------------------------------------


def test_swapped_and_wrong_kinds() -> None:
    data = simulated()
    fe, re = pair(data)
    with pytest.raises(UnsupportedError, match="swapped"):
        hausman(re, fe)
    pooled = mar.pooled("y ~ x1 + x2", data, entity="id", time="t").fit()
    with pytest.raises(UnsupportedError, match="first argument is pooled"):
        hausman(pooled, re)
    with pytest.raises(UnsupportedError, match="second argument is pooled"):
        hausman(fe, pooled)
    with pytest.raises(MixedARError, match="second argument is dict"):
        hausman(fe, {})
    for effects, what in (("time", "periods only"), ("twoways", "C\\(time\\)")):
        model = mar.fixed_effects(
            "y ~ x1 + x2", data, entity="id", time="t", effects=effects
        )
        with pytest.raises(UnsupportedError, match=what):
            hausman(model.fit(), re)


def test_unknown_options() -> None:
    fe, re = pair(simulated())
    with pytest.raises(UnsupportedError, match="method='hausmann': choose"):
        hausman(fe, re, "hausmann")
    with pytest.raises(UnsupportedError, match="correction='HC3'"):
        hausman(fe, re, "mundlak-robust", correction="HC3")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="estimator='ols'"):
        hausman(fe, re, "mundlak", estimator="ols")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="n_sim=2"):
        hausman(fe, re, "bootstrap", reps=2)


def test_samples_must_match() -> None:
    data = simulated()
    fe, re = pair(data)
    _, less = pair(data.drop(index=[8, 9]))
    with pytest.raises(UnsupportedError, match=r"2 of the 300 rows of fe.*id 1 at t 3"):
        hausman(fe, less)
    fe_less, _ = pair(data.drop(index=[8, 9]))
    with pytest.raises(UnsupportedError, match="2 of the 300 rows of re"):
        hausman(fe_less, re)
    _, other = pair(data.assign(y=data["y"] ** 2))
    with pytest.raises(UnsupportedError, match="responses differ"):
        hausman(fe, other)


def test_regressors_must_match() -> None:
    data = simulated()
    data["z"] = (data["id"] % 2).astype(float)
    fe, re = pair(data)
    _, short = pair(data, "y ~ x1")
    with pytest.raises(UnsupportedError, match=r"\['x2'\].*random"):
        hausman(fe, short)
    fe_short, _ = pair(data, "y ~ x1")
    with pytest.raises(UnsupportedError, match=r"\['x2'\].*fixed"):
        hausman(fe_short, re)
    # one that does not vary within entities may be missing
    _, more = pair(data, "y ~ x1 + x2 + z")
    assert hausman(fe, more).df == 2


def test_robust_covariances() -> None:
    data = simulated(link=0.8)
    where = {"entity": "id", "time": "t"}
    fe = mar.fixed_effects("y ~ x1 + x2", data, **where).fit(cov_type="clustered")
    re = mar.random_effects("y ~ x1 + x2", data, **where).fit()
    for form in FORMS:
        with pytest.raises(UnsupportedError, match="fe has cov_type='clustered'"):
            hausman(fe, re, form)
    got = hausman(fe, re)
    assert "classical covariances" in str(got.tests[0].reason)
    assert got.test.name == "Mundlak (clustered)"
    assert got.rejects(0.01) is True
    want = hausman(*pair(data), "mundlak-robust")
    assert_allclose(got.statistic, want.statistic)
    assert got.eigenvalues is None
    boot = hausman(fe, re, "bootstrap", reps=99, seed=1, progress=False)
    assert_allclose(
        boot.statistic,
        hausman(*pair(data), "bootstrap", reps=99, seed=1, progress=False).statistic,
    )


def test_arrays_as_well() -> None:
    data = simulated(link=0.5)
    x = np.column_stack([np.ones(len(data)), data[["x1", "x2"]]])
    where = {"entity": data["id"].to_numpy(), "time": data["t"].to_numpy()}
    fe = FixedEffects(data["y"].to_numpy(), x, **where).fit()
    re = RandomEffects(data["y"].to_numpy(), x, **where).fit()
    assert_allclose(hausman(fe, re).statistic, hausman(*pair(data)).statistic)


def test_front_door() -> None:
    assert mar.hausman is hausman
    assert {"hausman", "panel_tests"} <= set(dir(mar)) & set(mar.__all__)
    with pytest.raises(AttributeError, match="no attribute 'hausmann'"):
        mar.hausmann  # noqa: B018


@pytest.mark.parametrize("method", ["default", "classical", "sigmaless", "bootstrap"])
def test_coefficients_of_another_meaning_are_not_compared(method: str) -> None:
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"id": np.repeat(range(12), 5), "t": np.tile(range(5), 12)})
    data["x"], data["z"] = rng.normal(size=(2, 60))
    data["m"] = data["x"] + data.groupby("id")["x"].transform("mean")
    data["y"] = data["x"] + data["z"] + rng.normal(size=60)
    fits = [
        estimator("y ~ x + z + m", data, entity="id", time="t").fit()
        for estimator in (mar.fixed_effects, mar.random_effects)
    ]
    found = mar.hausman(*fits, method=method)
    assert method == "default" or np.isnan(found.statistic)
    assert "left out m (collinear" in " ".join(str(found).split())


# Rounding, and mixed models with weights


def spread(noise: float, seed: int = 3) -> pd.DataFrame:
    """A balanced panel whose trend has entity means that differ by `noise`."""
    rng = np.random.default_rng(seed)
    i, t = np.repeat(np.arange(40), 6), np.tile(np.arange(6), 40)
    a = rng.normal(size=40)[i]
    x = rng.normal(size=240) + a
    z = t * (1.0 + noise * rng.normal(size=40)[i])
    y = 1.0 + x + 0.3 * z + a + rng.normal(size=240)
    return pd.DataFrame({"y": y, "x": x, "z": z, "i": i, "t": t, "w": 1.0 + x**2})


@pytest.mark.parametrize(("noise", "count"), [(0.0, 1), (1e-7, 1), (1e-3, 2)])
def test_means_that_differ_by_rounding_say_nothing(noise: float, count: int) -> None:
    data = spread(noise)
    fe = mar.fixed_effects("y ~ x + z", data, "i", "t").fit()
    re = mar.random_effects("y ~ x + z", data, "i", "t").fit()
    mixed = mar.mixedlm("y ~ x + z", data, groups="i", time="t").fit()
    for form in ("sigmamore", "auxiliary", "mundlak"):
        assert mar.hausman(fe, re, form).tests[0].df == count
    for form in ("auxiliary-robust", "mundlak-robust"):
        assert mar.hausman(fe, re, form).tests[0].df == (count, 39)
    assert mar.hausman(fe, mixed).identified == count
    means = ("mean(x)", "mean(z)")[:count]
    assert mar.mundlak("y ~ x + z", data, "i", "t").means == means
    if count == 1:  # what rounding adds changes nothing else
        exact = spread(0.0).assign(y=data["y"])
        fits = (
            getattr(mar, kind)("y ~ x + z", exact, "i", "t").fit()
            for kind in ("fixed_effects", "random_effects")
        )
        expected = mar.hausman(*fits, "mundlak").tests[0].statistic
        found = mar.hausman(fe, re, "mundlak").tests[0].statistic
        assert_allclose(found, expected, rtol=0.02)


@pytest.mark.parametrize("weights", ["w", VarPower("w"), VarLogLinear("~ w + x")])
def test_mixed_models_whose_weights_read_a_column(weights: Any) -> None:
    data = spread(0.1)
    where = {"groups": "i", "time": "t", "weights": weights}
    fe = mar.fixed_effects("y ~ x + z", data, "i", "t").fit()
    found = mar.hausman(fe, mar.mixedlm("y ~ x + z", data, **where).fit())
    means = data.groupby("i")[["x", "z"]].transform("mean")
    full = data.assign(mx=means["x"], mz=means["z"])
    fit = mar.mixedlm("y ~ x + z + mx + mz", full, **where).fit()
    expected = fit.wald_test("mx = 0, mz = 0")
    assert_allclose(found.tests[0].statistic, float(expected.statistic), rtol=1e-6)
    labels = pd.Series(data["w"].to_numpy(), data.index)
    if isinstance(weights, str):
        own = mar.mixedlm("y ~ x + z", data, **{**where, "weights": labels}).fit()
        again = mar.hausman(fe, own).tests[0].statistic
        assert_allclose(again, found.tests[0].statistic)
