"""Words of R, Stata and SAS are refused with what is written here."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import mixedar.formula.api as mar
from mixedar.data.elsewhere import (
    OF_FITS,
    OF_MODELS,
    OF_PANEL_RESULTS,
    OF_RESULTS,
)
from mixedar.datasets import load_orthodont
from mixedar.exceptions import MixedARError, NoParameterError, UnsupportedError

TEETH = load_orthodont().assign(w=1.0)


def model(formula: str = "distance ~ age", **options: Any) -> Any:
    return mar.mixedlm(formula, TEETH, groups="subject", time="occ", **options)


@pytest.fixture(scope="module")
def fit() -> Any:
    return model().fit()


@pytest.mark.parametrize("name", sorted(OF_MODELS))
def test_arguments_of_other_programs_are_told_ours(name: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"argument {name} .* Here write "):
        model(**{name: "x"})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("random", r"\(1 \+ x \| id\)"),
        ("correlation", "residual='ar1'"),
        ("method", r"fit\(reml=False\)"),
        ("na_action", "missing='drop'"),
        ("ddf", "with_df"),
    ],
)
def test_the_spelling_is_the_right_one(name: str, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        model(**{name: "x"})


def test_words_without_a_meaning_have_no_hint() -> None:
    with pytest.raises(UnsupportedError, match=r"initialization$"):
        model(colour="red")


@pytest.mark.parametrize("name", sorted(OF_FITS))
def test_options_of_other_fits_are_told_ours(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name}'. Here write "):
        model().fit(**{name: "x"})


@pytest.mark.parametrize(("method", "reml"), [("ML", False), ("REML", True)])
def test_maximum_likelihood_is_no_optimiser(method: str, reml: bool) -> None:
    with pytest.raises(UnsupportedError, match=rf"fit\(reml={reml}\)"):
        model().fit(method=method)
    assert model().fit(reml=reml).method == method


@pytest.mark.parametrize("name", sorted(OF_RESULTS))
def test_questions_of_other_fits_are_told_ours(fit: Any, name: str) -> None:
    assert not hasattr(fit, name)
    with pytest.raises(AttributeError, match=f"{name}'. Here write "):
        getattr(fit, name)


def test_other_attributes_raise_as_they_did(fit: Any) -> None:
    with pytest.raises(AttributeError, match="colour"):
        _ = fit.colour
    plain = model(residual="independent").fit()
    with pytest.raises(NoParameterError, match="there is no rho"):
        _ = plain.rho
    for other in (pickle.loads(pickle.dumps(fit)), copy.copy(fit)):
        assert other.llf == fit.llf


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("log(distance) ~ age", r"np\.log\(distance\)"),
        ("distance ~ ns(age, 3)", "natural spline"),
        ("distance ~ pol(age, 2)", r"I\(age\*\*2\)"),
        ("distance ~ age + Error(subject)", r"\(1 \| subject\)"),
        ("distance ~ lo(age)", r"s\(age\)"),
        ("cbind(distance, age) ~ sex", "one response"),
        ("distance ~ I(age - mean(age))", r"age\.mean\(\)"),
        ("distance ~ C(sex, ref='Male')", "Treatment"),
        ("distance ~ age + s(subject, bs='re')", r"\(1 \| subject\)"),
    ],
)
def test_formulas_of_other_programs_are_told_ours(formula: str, words: str) -> None:
    with pytest.raises(MixedARError, match=words):
        model(formula)


@pytest.mark.parametrize(
    ("residual", "ours"),
    [
        ("corAR1(form = ~ occ | subject)", "corar1"),
        ("corCAR1()", "corcar1"),
        ("corARMA(p=1, q=1)", None),
        ("ar 1, t(occ)", "ar1"),
        ("sp(pow)(occ)", r"sp\(pow\)"),
    ],
)
def test_calls_of_structures_are_told_the_name(residual: str, ours: str | None) -> None:
    with pytest.raises(
        UnsupportedError, match=f"residual='{ours}'" if ours else "arma"
    ):
        model(residual=residual)
    if ours:
        name = ours.replace("\\", "")
        assert model(residual=name, re_formula="0").residual.label


def test_calls_of_variance_functions_are_told_the_class() -> None:
    with pytest.raises(UnsupportedError, match=r"VarIdent\('sex'\)"):
        model(weights="varIdent(form = ~ 1 | sex)")
    with pytest.raises(UnsupportedError, match=r"VarPower\('age'\)"):
        model(weights="varPower(form = ~ age)")
    with pytest.raises(UnsupportedError, match=r"VarPower\(\)"):
        model(weights="varPower()")


@pytest.mark.parametrize("name", sorted(OF_PANEL_RESULTS))
def test_questions_of_other_panel_fits_are_told_ours(name: str) -> None:
    panel = mar.fixed_effects("distance ~ age", TEETH, "subject", "occ").fit()
    assert not hasattr(panel, name)
    with pytest.raises(AttributeError, match=f"{name}'. Here write "):
        getattr(panel, name)
    assert pickle.loads(pickle.dumps(panel)).params.equals(panel.params)


@pytest.mark.parametrize("word", [{"random": "~1|subject"}, {"correlation": "AR1"}])
def test_words_are_told_before_groups_are_missed(word: dict[str, str]) -> None:
    with pytest.raises(UnsupportedError, match="Here write"):
        mar.mixedlm("distance ~ age", TEETH, **word)


def test_a_misspelt_argument_is_told_its_name() -> None:
    with pytest.raises(UnsupportedError, match=r"argument tim .* Did you mean time=\?"):
        mar.mixedlm("distance ~ age", load_orthodont(), groups="subject", tim="occ")
    with pytest.raises(UnsupportedError, match=r"initialization$"):
        mar.mixedlm("distance ~ age", load_orthodont(), groups="subject", foo=1)
