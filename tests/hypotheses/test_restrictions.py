"""Hypotheses on the fixed effects as users write them, right and wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.fitted_models import shared
from mixedar.exceptions import (
    LengthError,
    MissingDataError,
    MixedARError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
    check_alpha,
)
from mixedar.hypotheses.restrictions import restrictions
from mixedar.inference.arguments import positions

NAMES = ["Intercept", "arm[T.b]", "x"]
OTHERS = ["id Var", "rho"]


def read(hypothesis: Any) -> tuple[list[list[float]], list[float]]:
    matrix, values = restrictions(hypothesis, NAMES, OTHERS)
    return matrix.tolist(), values.tolist()


@pytest.mark.parametrize(
    ("hypothesis", "matrix", "values"),
    [
        ("x = 0.5", [[0, 0, 1]], [0.5]),
        (["x = 0", "arm[T.b] = 2"], [[0, 0, 1], [0, 1, 0]], [0, 2]),
        ({"x": 1.5}, [[0, 0, 1]], [1.5]),
        ([0, 1, -1], [[0, 1, -1]], [0]),
        (np.eye(3)[1:], [[0, 1, 0], [0, 0, 1]], [0, 0]),
        (([[0, 0, 1]], 3), [[0, 0, 1]], [3]),
        ((np.eye(3)[:2], [1, 2]), [[1, 0, 0], [0, 1, 0]], [1, 2]),
        ([0, 0, 1, 0, 0], [[0, 0, 1]], [0]),  # a column for every parameter
        (pd.Series({"x": 1.0, "Intercept": 2.0}), [[2, 0, 1]], [0]),
        (
            pd.DataFrame({"x": [1, 0], "arm[T.b]": [0, 1]}),
            [[0, 0, 1], [0, 1, 0]],
            [0, 0],
        ),
        (pd.DataFrame([[0, 0, 1]]), [[0, 0, 1]], [0]),
        (pd.Series({"x": 1.0, "rho": 0.0}), [[0, 0, 1]], [0]),
    ],
)
def test_what_is_read(
    hypothesis: Any, matrix: list[list[float]], values: list[float]
) -> None:
    assert read(hypothesis) == (matrix, values)


@pytest.mark.parametrize(
    ("hypothesis", "error", "message"),
    [
        ("nothing = 0", UnknownColumnError, "the fixed effects are Intercept, arm"),
        ("Intercpt = 0", UnknownColumnError, "'Intercpt', .* mean 'Intercept'"),
        ("x = 0, arm = 2", UnknownColumnError, r"'arm', .* mean 'arm\[T\.b\]'"),
        (["x", "log(z) = 1e3"], UnknownColumnError, "no fixed effect 'log'"),
        ({"xx": 0.0}, UnknownColumnError, "no fixed effect 'xx'.* mean 'x'"),
        ("x = = 0", MixedARError, "cannot be read: a restriction is a sum"),
        ("x < 0", MixedARError, r"as in '2 \* x = 1', .* separated by commas"),
        ("x = 0; x = 1e3", MixedARError, "cannot be read: a restriction is a sum"),
        ("", MixedARError, "is empty"),
        ("rho = 0", UnsupportedError, "'rho' is a covariance parameter.*anova"),
        ([0, 0, 0, 0, 1], UnsupportedError, "should have 3 columns.*'rho' is a cov"),
        (pd.Series({"rho": 1.0, "x": 1.0}), UnsupportedError, "'rho' is a cov"),
        ([1, 2], UnsupportedError, "should have 3 columns.*it has 2"),
        (np.ones((1, 1, 3)), UnsupportedError, r"the shape \(1, 1, 3\)"),
        (np.empty((0, 3)), UnsupportedError, r"the shape \(0, 3\)"),
        ([], UnsupportedError, r"the shape \(0,\)"),
        (None, UnsupportedError, "this one is None"),
        ([["a", "b", "c"]], UnsupportedError, "text, numbers, or a pair"),
        ([[0, 0, 1 + 1j]], UnsupportedError, "text, numbers, or a pair"),
        ([[0, 0, 0]], NotComputedError, "its row is zero"),
        ([[0, np.nan, 1]], MissingDataError, "row 0 .* has nan for 'arm"),
        ([[1, 0, 0], [0, 0, np.inf]], MissingDataError, "row 1 .* has inf for 'x'"),
        ((np.eye(3), [1, 2]), LengthError, "3 rows and 2 right-hand sides"),
        ((np.eye(3), "a"), UnsupportedError, "right-hand side"),
        (([0, 0, 1], np.nan), MissingDataError, "right-hand side"),
        ((np.eye(3), 0, 0), UnsupportedError, "this tuple has 3 parts"),
        (pd.Series({"x": 1.0, "z": 1.0}), UnknownColumnError, "no 'z' among"),
        (
            pd.DataFrame([[1, 1]], columns=["x", "x"]),
            UnknownColumnError,
            "each of them once",
        ),
    ],
)
def test_what_is_refused(hypothesis: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read(hypothesis)


@pytest.mark.parametrize("test", ["t_test", "f_test", "wald_test"])
def test_labels_are_matched_in_every_test(test: str) -> None:
    fit = shared("slope")
    found = getattr(fit, test)(pd.Series({"x": 1.0}))
    assert float(np.ravel(found.pvalue)[0]) == pytest.approx(fit.pvalues["x"], rel=1e-8)
    robust = fit.get_robustcov_results("CR2")
    asked = robust.t_test if test == "t_test" else robust.wald_test
    p = float(np.ravel(asked(pd.Series({"x": 1.0})).pvalue)[0])
    assert p == pytest.approx(robust.pvalues["x"], rel=1e-8)


def test_panel_fits_read_hypotheses_alike() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame(rng.normal(size=(40, 3)), columns=["y", "x", "z"])
    data["id"] = np.repeat(np.arange(10), 4)
    fit = mar.random_effects("y ~ x + z", data, "id").fit()
    named = fit.t_test(pd.Series({"z": 1.0}))
    assert float(np.squeeze(named.pvalue)) == pytest.approx(fit.pvalues["z"])
    for hypothesis, error, message in (
        (pd.Series({"x": 1.0, "w": 1.0}), UnknownColumnError, "of the coefficients"),
        ([0, np.nan, 1], MissingDataError, "has nan for 'x'"),
        ([0, 0, 0], NotComputedError, "involves no coefficient"),
        ([0, 1], UnsupportedError, "has 2 columns"),
        ("w = 0", MixedARError, "the coefficients are Intercept, x, z"),
    ):
        for ask in (fit.t_test, fit.f_test, fit.wald_test):
            with pytest.raises(error, match=message):
                ask(hypothesis)


def test_wald_test_of_a_given_covariance() -> None:
    fit = shared("slope")
    matrix = np.eye(3)[1:]
    p = fit.k_fe
    cov = np.asarray(fit.cov_params())[:p, :p]
    usual = fit.wald_test(matrix)
    given = fit.wald_test(matrix, cov_p=cov)
    inverse = fit.wald_test(matrix, invcov=np.linalg.inv(matrix @ cov @ matrix.T))
    assert given.statistic == pytest.approx(usual.statistic, rel=1e-10)
    assert inverse.statistic == pytest.approx(usual.statistic, rel=1e-8)
    with pytest.raises(LengthError, match=r"cov_p has the shape \(2, 2\)"):
        fit.wald_test(matrix, cov_p=np.eye(2))
    with pytest.raises(LengthError, match="one for each restriction"):
        fit.wald_test(matrix, invcov=np.eye(3))
    with pytest.raises(MissingDataError, match="cov_p holds missing"):
        fit.wald_test(matrix, cov_p=np.full((3, 3), np.nan))
    with pytest.raises(NotComputedError, match="2 restrictions is singular"):
        fit.wald_test(matrix, cov_p=np.ones((3, 3)))
    with pytest.raises(UnsupportedError, match="df_constraints=0 is not positive"):
        fit.wald_test(matrix, df_constraints=0)


def test_dependent_rows_count_once() -> None:
    fit = shared("slope")
    rows = np.array([[0, 1.0, 0], [0, 0, 1e-6], [0, 2.0, 1e-6]])
    for df in ("containment", "satterthwaite", "kenward-roger", "normal"):
        once, again = fit.f_test(rows[:2], df=df), fit.f_test(rows, df=df)
        assert (again.df_num, once.df_num) == (2, 2)
        assert again.statistic == pytest.approx(once.statistic, rel=1e-6)
        if df != "satterthwaite":  # Fai and Cornelius' depend on the scale of the rows
            assert again.df_denom == pytest.approx(once.df_denom, rel=1e-6)
    with pytest.raises(NotComputedError, match="contradict one another"):
        fit.f_test((rows, [0, 0, 1]))


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 2, np.nan, "0.05", None, True])
def test_alpha(alpha: Any) -> None:
    fit = shared("slope")
    for ask in (
        lambda: check_alpha(alpha),
        lambda: fit.conf_int(alpha),
        lambda: fit.summary(alpha=alpha),
        lambda: fit.conf_int_re("wald", alpha),
        lambda: fit.get_robustcov_results().conf_int(alpha),
        lambda: fit.marginal_means("arm").to_frame(alpha),
    ):
        with pytest.raises(UnsupportedError, match="alpha="):
            ask()


def test_parameters_by_name_or_position() -> None:
    names = ["a", "b", "c"]
    assert positions("b", names).tolist() == [1]
    assert positions(-1, names).tolist() == [-1]
    assert positions(["c", 0], names).tolist() == [2, 0]
    for wrong in ("d", 3, [0, 1.5], ["a", None]):
        with pytest.raises(UnknownColumnError, match=r"there are 3 .*: a, b, c"):
            positions(wrong, names)
    results = shared("slope")
    everything = results.conf_int()
    np.testing.assert_array_equal(results.conf_int(cols=["x"]), everything[2:3])
    with pytest.raises(UnknownColumnError, match="no parameter 99"):
        results.conf_int(cols=[0, 99])


def test_lists_of_the_wrong_kind() -> None:
    fit = shared("slope")
    with pytest.raises(UnsupportedError, match="pair of a name and restrictions"):
        fit.wald_test_terms(extra_constraints=[np.eye(3)])
    with pytest.raises(UnsupportedError, match="parameters=3: give names"):
        fit.conf_int_re(parameters=3)
    with pytest.raises(UnsupportedError, match="name columns"):
        fit.marginal_means(None)
    with pytest.raises(UnsupportedError, match="name columns"):
        fit.marginal_means("arm", at=[1])
    means = fit.marginal_means("arm")
    with pytest.raises(UnsupportedError, match="list of numbers"):
        means.contrast("a - b")
    with pytest.raises(MissingDataError, match="weight of the contrast"):
        means.contrast([1, np.nan])
    with pytest.raises(UnsupportedError, match="at least one contrast"):
        means.contrast({})


@pytest.mark.parametrize(
    "hypothesis",
    [
        pd.DataFrame([[0.0, 1.0, 0.0]], columns=["a", "b", "c"]),
        pd.Series([1.0, 0.0], index=["y", "z"]),
        pd.DataFrame([[0.0, 1.0, 0.0]], columns=[3, 4, 5]),
    ],
)
def test_labels_that_are_no_coefficients(hypothesis: Any) -> None:
    with pytest.raises(UnknownColumnError, match="labels of the hypothesis"):
        read(hypothesis)


def test_rows_of_both_sides_by_label() -> None:
    matrix = pd.DataFrame({"x": [1.0, 0.0], "arm[T.b]": [0.0, 1.0]}, index=["p", "q"])
    sides = pd.Series([0.5, 0.25], index=["p", "q"])
    assert read((matrix, sides)) == ([[0, 0, 1], [0, 1, 0]], [0.5, 0.25])
    with pytest.raises(UnsupportedError, match="different labels"):
        read((matrix, sides.iloc[::-1]))
    # numbers that pandas gives go by position
    assert read(pd.Series([0.0, 1.0, 0.0])) == ([[0, 1, 0]], [0])


def test_numbers_that_are_none() -> None:
    hidden = np.ma.masked_array([[0.0, 1.0, 0.0]], mask=[[False, True, False]])
    with pytest.raises(MissingDataError, match=r"nan for 'arm\[T.b\]'"):
        read(hidden)
    for wrong in ([["0", "1", "0"]], np.array([[0, 1, 0]], dtype="m8[D]")):
        with pytest.raises(UnsupportedError, match="text, numbers"):
            read(wrong)
    with pytest.raises(UnsupportedError, match="right-hand side"):
        read(([[0, 1, 0]], ["1"]))


@pytest.mark.parametrize("kind", ["pooled", "fixed_effects", "random_effects"])
def test_panel_fits_read_hypotheses_by_name(kind: str) -> None:
    rng = np.random.default_rng(2)
    data = pd.DataFrame(rng.normal(size=(60, 3)), columns=["y", "x", "w"])
    data = data.assign(id=np.repeat(np.arange(12), 5), t=np.tile(np.arange(5), 12))
    fit = getattr(mar, kind)("y ~ x + w", data, "id", "t").fit()
    named = pd.DataFrame([[1.0, 0.0, 0.0]], columns=["x", "Intercept", "w"])
    for hypothesis in (named, pd.Series({"x": 1.0}), "x = 0", {"x": 0.0}):
        np.testing.assert_allclose(fit.t_test(hypothesis).effect, fit.params["x"])
        f = float(np.squeeze(fit.f_test(hypothesis).fvalue))
        np.testing.assert_allclose(f, fit.tvalues["x"] ** 2)
    for wrong in ([[np.nan, 1, 0]], ([[0, 1, 0]], [np.nan])):
        with pytest.raises(MissingDataError):
            fit.t_test(wrong)
    with pytest.raises(NotComputedError, match="no coefficient"):
        fit.wald_test([[0, 0, 0]])
    for wrong in ([[0, 1]], ([[0, 1, 0]], [1], [2]), np.ones((1, 1, 3))):
        with pytest.raises(UnsupportedError):
            fit.t_test(wrong)
    with pytest.raises(LengthError):
        fit.t_test(([[0, 1, 0]], [1, 2]))
