"""Smooths in the summary, in warnings and in the picture of a fit."""

from __future__ import annotations

import pytest

import mixedar.formula.api as mar
from helpers.smooth_cases import fitted, noisy, table
from mixedar.datasets import load_orthodont
from mixedar.mixed.fit import SingularCovarianceWarning


def test_summary_has_a_table_of_smooths() -> None:
    fit = fitted("smooth_by_ar1_reml")
    frames = fit.summary().to_frames()
    smooths = frames["smooths"]
    assert list(smooths.index) == [f"s(time):arm{arm}" for arm in "abc"]
    assert list(smooths.columns) == ["EDF", "Ref.df", "F", "P>F", "Variance"]
    # each number stands in one place, and no part of a basis among the effects
    assert list(frames["random_effects"].index) == ["id Intercept", "Residual"]
    effects = ["Intercept", "arm[T.b]", "arm[T.c]", "id Var"]
    assert list(frames["parameters"].index)[:4] == effects
    correlations = frames["fixed_effects_correlation"]
    assert list(correlations.index) == effects[:3]
    assert not any("Fx1" in line for line in str(fit.summary()).splitlines())


def test_summary_without_data() -> None:
    rows = table("smooth_x")
    fit = mar.mixedlm("y ~ s(x, k=6) + (1 | id)", rows).fit()
    before = str(fit.summary())
    fit.remove_data()
    assert str(fit.summary()) == before


def test_a_straight_line_is_named() -> None:
    fit = fitted("smooth_straight_ar1_reml")
    note = "s(x) is a straight line: the variance of its coefficients is zero"
    assert fit.boundary_notes == [note]
    text = " ".join(str(fit.summary()).split())
    assert note in text
    assert fit.summary().to_frame("smooths").iloc[0, -1] == "a straight line"


@pytest.mark.parametrize(
    ("smooth", "what"),
    [
        ('s(u, bs="cc", k=6)', r"s\(u\) is constant"),
        ("s(x, v, k=12)", r"s\(x,v\) is a plane"),
    ],
)
def test_what_is_left_without_variance(smooth: str, what: str) -> None:
    rows = noisy("smooth_x")
    rows = rows.assign(u=(rows["x"] * 7919.0) % 1.0)
    with pytest.warns(SingularCovarianceWarning, match=what):
        mar.mixedlm(f"y ~ {smooth} + (1 | id)", rows, groups="id", time="time").fit()


def test_header_counts_levels_of_the_factor() -> None:
    fit = mar.mixedlm('y ~ s(time, id, bs="fs", k=5)', noisy("smooth_arms")).fit()
    assert "No. levels of id:" in str(fit.summary())
    assert list(fit.summary().to_frame("random_effects").index)[:2] == [
        "s(time,id) constant",
        "s(time,id) line",
    ]


@pytest.mark.filterwarnings("ignore::mixedar.exceptions.BoundaryWarning")
def test_diagnosis_speaks_of_lines() -> None:
    teeth = load_orthodont()
    model = mar.mixedlm(
        "distance ~ sex + s(age, by=sex, k=4)", teeth, groups="subject", time="occ"
    )
    found = model.fit().diagnose()
    effects, boundary = (found[k].sentence for k in ("missing effects", "boundary"))
    assert "a random slope of the line in s(age):sexMale" in effects
    assert "the covariate itself says the same" in boundary
