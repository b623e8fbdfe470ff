"""Residual structures and variance functions given what they cannot use."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.api as ma
import mixedar.formula.api as mar
from mixedar.exceptions import (
    BoundaryWarning,
    IdentificationError,
    MagnitudeError,
    StructureError,
    TimeError,
    UnsupportedError,
)

N_GROUPS, N_TIMES = 40, 5


def frame(seed: int = 0, rho: float = 0.6) -> pd.DataFrame:
    """Groups with AR(1) residuals, coordinates and strata."""
    rng = np.random.default_rng(seed)
    t = np.tile(np.arange(N_TIMES), N_GROUPS)
    lags = np.abs(np.subtract.outer(np.arange(N_TIMES), np.arange(N_TIMES)))
    root = np.linalg.cholesky(np.power(rho, lags))
    e = (root @ rng.normal(size=(N_TIMES, N_GROUPS))).T.ravel()
    return pd.DataFrame(
        {
            "id": np.repeat(np.arange(N_GROUPS), N_TIMES),
            "t": t,
            "y": 1.0 + 0.3 * t + e,
            "x": rng.uniform(0.0, 3.0, len(t)),
            "z": rng.uniform(0.0, 3.0, len(t)),
            "arm": np.repeat(np.arange(N_GROUPS) % 2, N_TIMES),
            "sex": np.repeat(rng.choice(["F", "M"], N_GROUPS), N_TIMES),
        }
    )


def fit(data: pd.DataFrame, residual: Any = "independent", **more: Any) -> Any:
    arguments = {"groups": "id", "time": "t", "re_formula": "0"} | more
    return mar.mixedlm("y ~ t", data, residual=residual, **arguments).fit()


@pytest.mark.parametrize(
    "residual", [ma.ARMA(2, 1), ma.ARMA(2, 2), ma.ARMA(1, 2)], ids=str
)
def test_higher_orders_are_identified(residual: Any) -> None:
    """Where AR and MA factors cancel is one point, not the model."""
    data = frame()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, fewer = fit(data, residual), fit(data, "arma11")
    assert found.llf >= fewer.llf - 1e-6


def test_sds_by_time_tell_intercept_and_correlation_apart() -> None:
    """Compound symmetry is a random intercept only where variances are equal."""
    data = frame()
    sd = np.array([1.0, 2.0, 0.5, 3.0, 1.5])
    data["y"] *= sd[data["t"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit(data, "csh", re_formula="~1")
    assert found.llf >= fit(data, "csh").llf - 1e-6
    with pytest.raises(IdentificationError, match="'id Var', 'rho'"):
        fit(data, "cs", re_formula="~1")


def test_long_lists_of_parameters_are_cut() -> None:
    with pytest.raises(IdentificationError, match=r"\d others, 'residual variance'"):
        fit(frame(), "un", re_formula="~1")


@pytest.mark.parametrize(
    "residual",
    [
        "exp",
        "gau",
        "sph",
        "lin",
        "ratio",
        ma.Exponential(coords=("t", "z")),
        ma.Gaussian(coords=("t", "z")),
        ma.Spherical(coords=("t", "z")),
    ],
    ids=lambda r: r if isinstance(r, str) else type(r).__name__,
)
def test_no_correlation_is_the_end_of_the_range(residual: Any) -> None:
    """Negative correlations are out of reach: the range has no estimate."""
    data = frame(3, rho=-0.5)
    data["z"] *= 0.1
    with pytest.warns(BoundaryWarning, match="range"):
        found = fit(data, residual)
    assert found.at_boundary
    assert found.llf == pytest.approx(fit(data).llf, abs=1e-5)


@pytest.mark.parametrize("structure", [ma.Linear, ma.Spherical])
def test_corners_do_not_hold_the_search(structure: Any) -> None:
    """The best of a fine grid of ranges is not better than the fit."""
    rng = np.random.default_rng(4)
    data = frame()
    data["y"] = rng.normal(size=len(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit(data, structure(coords=("x",)))
        best = max(
            fit(data, structure(r, coords=("x",), fixed=True)).llf
            for r in np.geomspace(0.005, 5.0, 40)
        )
    # local maxima at corners are many: near the best, and above independence
    assert found.llf >= fit(data).llf - 1e-6
    assert found.llf >= best - 0.2


COORDS = [
    ma.Exponential,
    ma.Gaussian,
    ma.Matern,
    ma.Spherical,
    ma.RationalQuadratic,
]


@pytest.mark.parametrize("structure", COORDS)
def test_coincident_coordinates_need_a_nugget(structure: Any) -> None:
    data = frame()
    data.loc[data.index[7], ["x", "z"]] = data.loc[data.index[5], ["x", "z"]].values
    data = data.sample(frac=1.0, random_state=1)
    rows = sorted(np.flatnonzero(data.index.isin([5, 7])))
    match = rf"rows {rows[0]} and {rows[1]} .*group 1 .*x = .*, z = .*nugget=True"
    with pytest.raises(StructureError, match=match):
        fit(data, structure(coords=("x", "z")))
    with pytest.raises(StructureError, match=match):
        fit(data, structure(coords=("x", "z"), by="arm"), weights=ma.VarIdent("sex"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(data, structure(coords=("x", "z"), nugget=True))


def test_coincident_rows_of_different_groups_are_fine() -> None:
    data = frame()
    data["x"] = data["t"]
    found = fit(data, ma.Exponential(coords=("x",)))
    assert found.llf == pytest.approx(fit(data, "exp").llf, abs=1e-7)


@pytest.mark.parametrize("factor", [1e200, 1e-200])
def test_coordinates_beyond_numbers(factor: float) -> None:
    data = frame()
    data["x"] *= factor
    with pytest.raises(MagnitudeError, match="unit"):
        fit(data, ma.Exponential(coords=("x",)))


@pytest.mark.parametrize(
    "residual",
    [
        ma.Exponential(1e300, fixed=True),
        ma.Exponential(1e-300, fixed=True),
        ma.Gaussian(1000.0, fixed=True),
    ],
    ids=str,
)
def test_fixed_ranges_that_suit_no_distance(residual: Any) -> None:
    with pytest.raises(StructureError, match="fixed"):
        fit(frame(), residual)


@pytest.mark.parametrize("start", [1e-300, 1e300])
def test_absurd_starting_values_are_only_that(start: float) -> None:
    data = frame()
    found = fit(data, ma.Exponential(start))
    assert found.llf == pytest.approx(fit(data, "exp").llf, abs=1e-7)


def test_absurd_starting_powers_are_only_that() -> None:
    data = frame()
    data["x"] += 8.0
    found = fit(data, weights=ma.VarPower("x", power=1e6))
    assert found.llf == pytest.approx(fit(data, weights=ma.VarPower("x")).llf, abs=1e-6)


@pytest.mark.parametrize("nugget", ["yes", 0.3, 2, None])
@pytest.mark.parametrize("cls", [ma.AR1, ma.CAR1, ma.Exponential])
def test_nugget_is_true_or_false(cls: Any, nugget: Any) -> None:
    with pytest.raises(UnsupportedError, match="choose True or False"):
        fit(frame(), cls(nugget=nugget))


def test_nugget_of_numpy() -> None:
    data = frame()
    data["y"] += np.random.default_rng(2).normal(size=len(data))
    found = fit(data, ma.AR1(nugget=np.True_))  # type: ignore[arg-type]
    assert found.llf == fit(data, ma.AR1(nugget=True)).llf


@pytest.mark.parametrize("by", [["arm"], ("arm", "sex"), 3, ""])
def test_by_is_one_column(by: Any) -> None:
    with pytest.raises(UnsupportedError, match="name of one column"):
        fit(frame(), ma.AR1(by=by))


@pytest.mark.parametrize("coords", [3, None, (1, 2), ("x", None), "", ("x", ""), {}])
def test_coordinates_are_columns(coords: Any) -> None:
    with pytest.raises(UnsupportedError, match="names of columns"):
        ma.Exponential(coords=coords)


def test_a_coordinate_occurs_once() -> None:
    with pytest.raises(UnsupportedError, match="twice"):
        ma.Exponential(coords=("x", "x"))


@pytest.mark.parametrize("cls", [ma.ResidualStructure, ma.FormulaStructure])
def test_abstract_classes_are_no_structures(cls: Any) -> None:
    with pytest.raises(UnsupportedError, match="in common"):
        fit(frame(), cls)


@pytest.mark.parametrize("phi", ["a", [[0.1, 0.2]], object()])
def test_starting_values_are_numbers(phi: Any) -> None:
    with pytest.raises(UnsupportedError, match="phi"):
        ma.ARMA(1, 1, phi=phi)


@pytest.mark.parametrize(
    "weights",
    [
        ma.VarLogLinear("sex", gamma=(1e5,), fixed=True),
        ma.VarExp("x", expon=500.0, fixed=True),
        ma.VarPower("x", power=1e6, fixed=True),
        [ma.VarExp("x", expon=500.0, fixed=True), "spread"],
        "spread",
        "huge",
    ],
    ids=str,
)
def test_known_variances_beyond_numbers(weights: Any) -> None:
    data = frame()
    data["spread"], data["huge"] = 10.0 ** (30.0 * data["t"]), 1e250
    with pytest.raises(StructureError, match=r"numbers can hold|tell nothing"):
        fit(data, weights=weights)


def test_covariates_beyond_numbers() -> None:
    data = frame()
    data["x"] *= 1e300
    with pytest.raises(MagnitudeError, match="unit"):
        fit(data, weights=ma.VarExp("x"))


def test_dates_as_occasions_have_short_names() -> None:
    data = frame()
    data["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(30 * data["t"], "D")
    found = fit(data, "ad", time="day")
    assert found.residual_params.index[0] == "rho(2024-01-01, 2024-01-31)"


def test_occasions_have_an_order() -> None:
    data = frame()
    data["wave"] = [f"v{k}" if k else k for k in data["t"]]
    with pytest.raises(TimeError, match="ordered categorical"):
        fit(data, "un", time="wave")


def test_columns_that_are_not_numbers_say_what_to_do() -> None:
    data = frame()
    with pytest.raises(StructureError, match="'sex' has to be numeric"):
        fit(data, ma.Exponential(coords=("x", "sex")))
    with pytest.raises(StructureError, match="'sex' has to be numeric"):
        fit(data, weights=ma.VarPower("sex"))
