"""Correlation matrices of given rows, before and after a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.bound_structures import CASES, TIME, bound
from mixedar.api import (
    AR1,
    CompoundSymmetry,
    Exponential,
    Unstructured,
    VarIdent,
    VarPower,
)
from mixedar.exceptions import MixedARError, StructureError, UnsupportedError
from mixedar.residual import resolve
from mixedar.residual.registry import combine

Array = Any


@pytest.mark.parametrize("name", CASES)
def test_every_structure_before_the_fit(name: str) -> None:
    # as it comes from the user, nothing bound: the bound one's matrix
    structure, positions = bound(CASES[name])
    params = structure.from_unconstrained(structure.start_grid()[-1])
    expected = structure.correlation(positions, params)
    where: dict[str, Any] = {"time": TIME}
    for k, mark in enumerate(structure.marks, start=1):
        if mark.column is not None:
            where[mark.column] = positions[:, k]
    if "by" in name:  # one stratum alone
        params = params[: len(params) // 2]
        structure, positions = bound(CASES[name])
        half = structure.from_unconstrained(structure.start_grid()[-1])
        expected = structure.correlation(positions, half)
    raw = CASES[name]
    found = (resolve(raw) if isinstance(raw, str) else raw).correlation(where, params)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    if len(where) == 1:
        found = (resolve(raw) if isinstance(raw, str) else raw).correlation(
            TIME, params
        )
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_nugget_strata_and_coordinates_before_the_fit() -> None:
    found = AR1(nugget=True).correlation([0, 1, 1], [0.5, 0.2])
    np.testing.assert_allclose(found, [[1, 0.4, 0.4], [0.4, 1, 0.8], [0.4, 0.8, 1]])
    place = np.array([[0.0, 0.0], [3.0, 4.0]])
    soil = Exponential(coords=("x", "y"), nugget=True)
    for where in (place, pd.DataFrame(place, columns=["x", "y"])):
        found = soil.correlation(where, [5.0, 0.1])
        np.testing.assert_allclose(found[0, 1], 0.9 * np.exp(-1.0))
    two = AR1(by="arm").correlation({"time": [0, 2], "arm": ["b", "b"]}, [0.5])
    np.testing.assert_allclose(two, [[1.0, 0.25], [0.25, 1.0]])


def test_variances_before_the_fit() -> None:
    un = resolve("un").correlation(["pre", "post"], [0.5, 2.0])
    np.testing.assert_allclose(un, [[1.0, 1.0], [1.0, 4.0]])
    power = combine(CompoundSymmetry(), VarPower("dose"))
    found = power.correlation({"dose": [1.0, 4.0]}, [0.3, 0.5])
    np.testing.assert_allclose(found, [[1.0, 0.6], [0.6, 4.0]])
    sexes = combine(AR1(), VarIdent("sex"))
    where = pd.DataFrame({"time": [0, 1], "sex": ["f", "m"]})
    found = sexes.correlation(where, [0.5, 3.0])
    np.testing.assert_allclose(found, [[1.0, 1.5], [1.5, 9.0]])


def waves(seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": np.repeat(np.arange(25), 4),
            "visit": np.tile([2, 4, 6, 10], 25),
            "y": rng.normal(size=100),
        }
    )
    for _, rows in frame.groupby("id"):  # neighbours are alike
        frame.loc[rows.index, "y"] = rows["y"].cumsum()
    frame["arm"] = np.where(frame["id"] % 2, "new", "old")
    frame["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame["visit"], "D")
    return frame


@pytest.mark.parametrize("name", ["un", "unr", "ar1h", "csh", "adh", "exp", "car1"])
def test_times_as_the_data_name_them_after_the_fit(name: str) -> None:
    fit = mar.mixedlm(
        "y ~ 1", waves(), groups="id", time="visit", re_formula="0", residual=name
    ).fit()
    grouped = fit.fit.data.grouped
    positions = np.cumsum(grouped.gaps[:4])[:, None]
    if grouped.marks is not None:
        positions = np.column_stack([positions, grouped.marks[:4]])
    whole = fit.structure.correlation(positions, fit.residual_params)
    for times in ([2, 4, 6, 10], [2.0, 4.0, 6.0, 10.0]):
        found = fit.structure.correlation(times, fit.residual_params)
        np.testing.assert_allclose(found, whole, rtol=1e-12)
    some = fit.structure.correlation([10, 4], fit.residual_params)
    np.testing.assert_allclose(some, whole[np.ix_([3, 1], [3, 1])], rtol=1e-12)


def test_dates_and_strata_after_the_fit() -> None:
    frame = waves()
    arguments = {"groups": "id", "re_formula": "0"}
    fit = mar.mixedlm(
        "y ~ 1", frame, time="day", residual=Unstructured(), **arguments
    ).fit()
    days = frame["day"].iloc[[3, 0]]
    for where in (days, days.to_numpy(), ["2024-01-11", "2024-01-03"]):
        found = fit.structure.correlation(where, fit.residual_params)
        assert found[0, 1] == fit.residual_params["rho(2024-01-03, 2024-01-11)"]
    fit = mar.mixedlm(
        "y ~ 1", frame, time="visit", residual=AR1(by="arm"), **arguments
    ).fit()
    where = {"time": [0, 2], "arm": ["old", "old"]}
    found = fit.structure.correlation(where, fit.residual_params)
    assert found[0, 1] == pytest.approx(fit.residual_params["rho[old]"] ** 2)


@pytest.mark.parametrize(
    ("structure", "where", "params", "kind", "match"),
    [
        ("un", [1, 2], [0.5], UnsupportedError, r"2 parameters \(rho\(1, 2\), sd\[2\]"),
        ("unr", [1, 2, 3], [0.5], UnsupportedError, "3 parameters .* 1 are given"),
        ("ar1", [0, 1], [0.5, 0.1], UnsupportedError, r"1 parameters \(rho\)"),
        (AR1(by="arm"), [0, 1], [0.5], UnsupportedError, "dict or DataFrame .* 'time'"),
        (AR1(by="arm"), {"time": [0]}, [0.5], UnsupportedError, "read 'arm'"),
        (Exponential(coords="x"), [0.0, 1.0], [1.0], UnsupportedError, "read 'x'"),
        ("ar1", pd.date_range("2024", periods=2), [0.5], UnsupportedError, "numbers"),
        ("ar1", np.zeros((2, 3)), [0.5], UnsupportedError, "1 columns"),
    ],
)
def test_what_is_refused(
    structure: Any, where: Any, params: Any, kind: type[MixedARError], match: str
) -> None:
    with pytest.raises(kind, match=match):
        resolve(structure).correlation(where, params)


def test_an_occasion_that_was_never_seen() -> None:
    fit = mar.mixedlm(
        "y ~ 1", waves(), groups="id", time="visit", re_formula="0", residual="un"
    ).fit()
    with pytest.raises(StructureError, match="nothing is known of 5, only of 2, 4, 6,"):
        fit.structure.correlation([2, 5], fit.residual_params)


def test_named_parameters_go_by_name() -> None:
    expected = AR1(nugget=True).correlation([0, 1, 3], [0.5, 0.2])
    named = {"nugget": 0.2, "rho": 0.5}
    for params in (named, pd.Series(named), pd.Series(named)[["rho", "nugget"]]):
        found = AR1(nugget=True).correlation([0, 1, 3], params)
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(UnsupportedError, match=r"\(rho, nugget\).* rho, sill are"):
        AR1(nugget=True).correlation([0, 1, 3], {"rho": 0.5, "sill": 0.2})
    # names of the fit that differ from the structure's, beside a column called rho
    own = pd.Series([0.5], index=["rho (residual)"])
    np.testing.assert_allclose(AR1().correlation([0, 1], own)[0, 1], 0.5)
