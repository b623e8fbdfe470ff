"""Estimated marginal means, contrasts and multiplicity."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

import mixedar.formula.api as mar
from helpers.reference_cases import load
from helpers.reference_fits import fitted
from mixedar import MixedLMAR
from mixedar.exceptions import (
    BoundaryWarning,
    LengthError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.inference.contrasts import studentized_range
from mixedar.inference.means import marginal_means


@pytest.fixture(scope="module")
def trial() -> Any:
    """Three arms, two sites of unequal size, four visits."""
    rng = np.random.default_rng(11)
    m = 45
    person = pd.DataFrame(
        {
            "id": np.arange(m),
            "arm": np.tile(["a", "b", "c"], m // 3),
            "site": np.where(np.arange(m) % 5 == 0, "north", "south"),
            "age": rng.normal(50, 9, size=m).round(),
        }
    )
    data = person.loc[person.index.repeat(4)].reset_index(drop=True)
    data["visit"] = np.tile(np.arange(4), m)
    effect = rng.normal(size=m)
    data["y"] = (
        effect[data["id"]]
        + data["arm"].map({"a": 0.0, "b": 0.5, "c": 1.0}) * data["visit"]
        + 0.02 * data["age"]
        + rng.normal(size=len(data))
    )
    model = mar.mixedlm(
        "y ~ arm * C(visit) + site + age", data, groups="id", time="visit"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        return model.fit()


def test_means_by_hand(trial: Any) -> None:
    found = marginal_means(trial.fit, "arm").to_frame().set_index("arm")
    data = trial.model.data.frame
    for arm in "abc":
        cells = [
            {"arm": arm, "visit": visit, "site": site, "age": data["age"].mean()}
            for visit in range(4)
            for site in ("north", "south")
        ]
        expected = trial.predict(pd.DataFrame(cells)).mean()
        assert found.loc[arm, "mean"] == pytest.approx(expected, rel=1e-10)


def test_errors_are_t_test_s(trial: Any) -> None:
    means = trial.marginal_means("arm")
    frame = means.to_frame(alpha=0.1)
    test = trial.t_test(means.matrix)
    np.testing.assert_allclose(frame["se"], test.sd)
    np.testing.assert_allclose(frame["df"], np.ravel(test.df_denom))
    width = stats.t.isf(0.05, frame["df"]) * frame["se"]
    np.testing.assert_allclose(frame["upper"] - frame["mean"], width)


def test_degrees_of_freedom_are_the_chosen_ones(trial: Any) -> None:
    for df in ("satterthwaite", "kenward-roger", "residual"):
        means = trial.marginal_means("arm", df=df)
        expected = trial.t_test(means.matrix, df=df)
        frame = means.to_frame()
        np.testing.assert_allclose(frame["df"], np.ravel(expected.df_denom))
        np.testing.assert_allclose(frame["se"], expected.sd)
    normal = trial.marginal_means("arm", df="normal")
    assert np.isinf(normal.to_frame()["df"]).all()
    pairs = normal.pairwise()
    np.testing.assert_allclose(pairs["p"], 2 * stats.norm.sf(np.abs(pairs["t"])))


def test_robust_means(trial: Any) -> None:
    means = trial.marginal_means("arm", cov_type="CR2")
    expected = trial.get_robustcov_results("CR2").t_test(means.matrix)
    np.testing.assert_allclose(means.to_frame()["se"], expected.sd)
    np.testing.assert_allclose(means.to_frame()["df"], np.ravel(expected.df_denom))
    with pytest.raises(UnsupportedError, match="leave df= out"):
        trial.marginal_means("arm", cov_type="CR2", df="residual")


def test_pairwise_and_adjustment(trial: Any) -> None:
    means = trial.marginal_means("arm")
    for method in ("holm", "bonferroni", "sidak", "fdr_bh"):
        pairs = means.pairwise(adjust=method)
        assert pairs["contrast"].tolist() == ["a - b", "a - c", "b - c"]
        expected = multipletests(pairs["p"], method=method)[1]
        np.testing.assert_allclose(pairs["p_adjusted"], expected)
    frame = means.to_frame()
    np.testing.assert_allclose(
        means.pairwise()["difference"],
        [
            frame["mean"][0] - frame["mean"][1],
            frame["mean"][0] - frame["mean"][2],
            frame["mean"][1] - frame["mean"][2],
        ],
    )
    plain = means.pairwise(adjust=None)
    assert "p_adjusted" not in plain
    wide = means.pairwise(adjust="bonferroni")
    assert ((wide["upper"] - wide["lower"]) > (plain["upper"] - plain["lower"])).all()
    with pytest.raises(UnsupportedError, match="adjust='scheffe'"):
        means.pairwise(adjust="scheffe")


def test_tukey_is_emmeans_s() -> None:
    # R emmeans 1.8.4, pairs(emmeans(lmer(grain ~ nitro * variety + (1 | block)), ~
    # variety, lmer.df = "satterthwaite")) and its confint, on nlme's Oats without the
    # rows 1, 5, 6, 20, 33, 50, 51, 70
    data = load("oats_nested_reml").data
    data = data.drop(index=data.index[[0, 4, 5, 19, 32, 49, 50, 69]])
    fit = mar.mixedlm(
        "grain ~ nitro * variety", data, groups="block", residual="independent"
    ).fit()
    means = fit.marginal_means("variety", df="satterthwaite")
    found = means.pairwise("tukey")
    expected = [
        [-4.57894522074, 5.04581281824, 53.0014007406, 0.6380139552819],
        [6.69555627394, 4.99195554613, 53.0200533310, 0.3790123229852],
        [11.27450149468, 4.99365288600, 53.0276219786, 0.0708554934046],
    ]
    columns = ["difference", "se", "df", "p_adjusted"]
    np.testing.assert_allclose(found[columns], expected, rtol=2e-5)
    ends = [
        [-16.745724484491, 7.5878340430],
        [-5.341237493250, 18.7323500411],
        [-0.766335680342, 23.3153386697],
    ]
    np.testing.assert_allclose(found[["lower", "upper"]], ends, rtol=2e-5)
    # two means: nothing to adjust
    two = fit.marginal_means("variety", at={"variety": ["Victory", "Marvellous"]})
    pair = two.pairwise("tukey")
    assert pair["p_adjusted"][0] == pytest.approx(pair["p"][0], rel=1e-6)
    # R: qtukey(0.95, 3, Inf), ptukey(0.9 * sqrt(2), 3, Inf, lower.tail = FALSE)
    width, p = studentized_range([0.9], [np.inf], 3, 0.05)
    np.testing.assert_allclose(
        [width[0] * np.sqrt(2.0), p[0]], [3.314493157553, 0.640299227907], rtol=1e-5
    )
    with pytest.raises(UnsupportedError, match="for all pairs 'tukey'"):
        means.contrast([1, -1, 0], adjust="tukey")


def test_by(trial: Any) -> None:
    means = trial.marginal_means("arm", by="visit")
    assert len(means.grid) == 12
    pairs = means.pairwise()
    assert len(pairs) == 12
    assert pairs.groupby("visit").size().tolist() == [3, 3, 3, 3]
    last = pairs[pairs["visit"] == 3]
    expected = multipletests(last["p"], method="holm")[1]
    np.testing.assert_allclose(last["p_adjusted"], expected)
    # the interaction at visit 3 against its coefficients
    b = trial.fe_params
    row = last[last["contrast"] == "a - c"].iloc[0]
    assert row.difference == pytest.approx(
        -(b["arm[T.c]"] + b["arm[T.c]:C(visit)[T.3]"])
    )


def test_at(trial: Any) -> None:
    old = trial.marginal_means("arm", at={"age": 70, "site": "south"}).to_frame()
    young = trial.marginal_means("arm", at={"age": 20, "site": "south"}).to_frame()
    np.testing.assert_allclose(old["mean"] - young["mean"], 50 * trial.fe_params["age"])
    two = trial.marginal_means("age", at={"age": [40, 60]})
    assert two.grid["age"].tolist() == [40, 60]
    subset = trial.marginal_means("arm", at={"arm": ["a", "c"]})
    assert subset.grid["arm"].tolist() == ["a", "c"]


def test_weights(trial: Any) -> None:
    equal = trial.marginal_means("arm").to_frame()["mean"]
    proportional = trial.marginal_means("arm", weights="proportional")
    share = (trial.model.data.frame["site"] == "south").mean()
    shift = (share - 0.5) * trial.fe_params["site[T.south]"]
    np.testing.assert_allclose(proportional.to_frame()["mean"] - equal, shift)


def test_custom_contrasts(trial: Any) -> None:
    means = trial.marginal_means("arm")
    found = means.contrast({"linear": [-1, 0, 1], "bend": [1, -2, 1]}, adjust="holm")
    assert found["contrast"].tolist() == ["linear", "bend"]
    pair = means.pairwise().iloc[1]
    assert found["difference"][0] == pytest.approx(-pair.difference)
    assert means.contrast([-1, 0, 1])["p"][0] == pytest.approx(pair.p)
    with pytest.raises(LengthError, match="3 weights"):
        means.contrast([1, -1])


def test_growth_data() -> None:
    # a difference of means is the coefficient, with its DF
    fit = fitted("seed_ar1_reml")
    means = fit.marginal_means("treatment")
    row = means.pairwise().iloc[0]
    name = "treatment[T.treatment]"
    assert abs(row.difference) == pytest.approx(abs(fit.fe_params[name]))
    assert row.se == pytest.approx(fit.bse_fe[name])
    assert row.df == fit.df[name]
    assert row.p == pytest.approx(fit.pvalues[name], abs=1e-12)
    assert "treatment" in repr(means)


def test_formulaic_engine() -> None:
    from statsmodels.formula import options

    data = load("orthodont_ri_ar1_ml").data
    before = options.formula_engine
    try:
        options.formula_engine = "formulaic"
        fit = mar.mixedlm("distance ~ age * sex", data, groups="subject").fit()
        means = fit.marginal_means("sex", at={"age": 10}).to_frame()
    finally:
        options.formula_engine = before
    other = mar.mixedlm("distance ~ age * sex", data, groups="subject").fit()
    expected = other.marginal_means("sex", at={"age": 10}).to_frame()
    np.testing.assert_allclose(means["mean"], expected["mean"])
    np.testing.assert_allclose(fit.anova().F, other.anova().F, rtol=1e-6)


def test_named_reasons(trial: Any) -> None:
    with pytest.raises(UnknownColumnError, match="'dose' is not in the fixed effects"):
        trial.marginal_means("dose")
    with pytest.raises(UnknownColumnError, match="'id'"):
        trial.marginal_means("arm", at={"id": 1})
    with pytest.raises(UnsupportedError, match="say which with"):
        trial.marginal_means("age")
    with pytest.raises(UnsupportedError, match="weights="):
        trial.marginal_means("arm", weights="cells")
    with pytest.raises(UnsupportedError, match="no value"):
        trial.marginal_means("arm", at={"age": []})
    with pytest.raises(UnsupportedError, match="at least one variable"):
        trial.marginal_means([])
    with pytest.raises(UnsupportedError):
        trial.marginal_means("arm", at={"site": "east"})
    with pytest.raises(NotComputedError, match="no pair"):
        trial.marginal_means("arm", at={"arm": "a"}).pairwise()
    data = load("orthodont_ri_ar1_ml").data
    x = np.column_stack([np.ones(len(data)), data["age"]])
    arrays = MixedLMAR(data["distance"], x, data["subject"], time=data["occ"]).fit()
    with pytest.raises(NotComputedError, match="model from a formula"):
        arrays.marginal_means("age")
