"""One residual parameter at the end of its range leaves the others estimated."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.api import AR1, CAR1, VarConstPower, VarIdent, VarPower
from mixedar.residual.arma import ARMA

# A pair of models: the larger one with a parameter at its end, the smaller without it.
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no nugget": ({"residual": AR1(nugget=True)}, {"residual": "ar1"}, "nugget"),
    "no serial correlation": (
        {"residual": "car1", "weights": VarIdent("arm")},
        {"residual": "independent", "weights": VarIdent("arm")},
        "rho",
    ),
    "nor a nugget that it could be told from": (
        {"residual": CAR1(nugget=True), "weights": VarIdent("arm")},
        {"residual": "independent", "weights": VarIdent("arm")},
        "rho",
    ),
    "no constant": (
        {"residual": "independent", "weights": VarConstPower("w")},
        {"residual": "independent", "weights": VarPower("w")},
        "const",
    ),
}


def made(kind: str) -> pd.DataFrame:
    """Data whose likelihood is highest at the end."""
    rng = np.random.default_rng(8 if kind == "no constant" else 3)
    n, m = 14, 6
    data = pd.DataFrame({"id": np.repeat(np.arange(n), m), "t": np.tile(range(m), n)})
    data["g"] = data["id"] % 2
    data["arm"] = np.where(data["g"] == 1, "b", "a")
    data["w"] = rng.uniform(1.0, 5.0, n * m)
    e = rng.normal(size=(n, m))
    if kind == "no nugget":
        for j in range(1, m):
            e[:, j] = 0.6 * e[:, j - 1] + 0.8 * e[:, j]
    elif kind == "no constant":
        e = e * data["w"].to_numpy().reshape(n, m) ** 1.2
    else:
        e[:, 1:] = (e[:, 1:] - 0.5 * e[:, :-1]) * np.where(np.arange(n) % 2, 3.0, 1.0)[
            :, None
        ]
    data["y"] = 1.0 + 0.2 * data["t"] + e.ravel()
    return data


@pytest.mark.parametrize("kind", PAIRS)
def test_the_rest_is_that_of_the_model_without_it(kind: str) -> None:
    large, small, name = PAIRS[kind]
    data = made(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a, b = (
            mar.mixedlm(
                "y ~ t + g", data, groups="id", time="t", re_formula="0", **part
            ).fit()
            for part in (large, small)
        )
    np.testing.assert_allclose(a.llf, b.llf, atol=1e-5)
    assert a.at_boundary
    assert not b.at_boundary
    (note,) = a.boundary_notes
    kept = list(b.residual_params.index)
    assert f"{name} = " in note
    assert not any(f"{other} = " in note for other in kept)
    for df in ("satterthwaite", "kenward-roger"):
        large_test, small_test = a.with_df(df), b.with_df(df)
        np.testing.assert_allclose(large_test.df, small_test.df, rtol=1e-3)
        np.testing.assert_allclose(large_test.bse_fe, small_test.bse_fe, rtol=1e-4)
        assert f"{name!r}" in str(large_test.summary())
    assert np.isnan(a.bse[name])
    np.testing.assert_allclose(a.bse[kept], b.bse[kept], rtol=1e-3)
    np.testing.assert_allclose(
        a.conf_int().loc[kept], b.conf_int().loc[kept], rtol=1e-2
    )
    wanted = b.conf_int_re()
    found = a.conf_int_re()
    columns = ["estimate", "lower", "upper"]
    np.testing.assert_allclose(
        found.loc[wanted.index, columns].to_numpy(dtype=float),
        wanted[columns].to_numpy(dtype=float),
        rtol=1e-3,
    )
    assert found.loc[wanted.index, "note"].str.contains("count as known").all()


def test_the_interval_of_a_parameter_at_its_end_is_one_sided() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mar.mixedlm(
            "y ~ t + g",
            made("no nugget"),
            groups="id",
            time="t",
            re_formula="0",
            residual=AR1(nugget=True),
        ).fit()
    row = fit.conf_int_re().loc["nugget"]
    assert row["lower"] < 1e-6
    assert 0.01 < row["upper"] < 0.9
    assert "one-sided" in row["note"]
    # the profile falls by half the quantile of chi-square at the end of the interval
    profile = fit.profile("nugget").to_frame()
    at = np.interp(row["upper"], profile["value"], profile["llf"])
    np.testing.assert_allclose(fit.llf - at, 1.9207, rtol=1e-2)


def test_a_moving_average_at_the_edge_is_said() -> None:
    """Over-differenced noise: the best theta is minus one, at any seed."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        data = pd.DataFrame(
            {"id": np.repeat(np.arange(5), 12), "t": np.tile(range(12), 5)}
        )
        noise = rng.normal(size=(5, 13))
        data["y"] = np.diff(noise, axis=1).ravel()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = mar.mixedlm(
                "y ~ 1",
                data,
                groups="id",
                time="t",
                re_formula="0",
                residual=ARMA(0, 1),
            ).fit()
        if abs(fit.params["theta1"]) < 0.999:
            continue
        assert fit.at_boundary
        assert "theta1" in fit.boundary_notes[0]
        assert np.isnan(fit.bse["theta1"])
        break
    else:
        pytest.fail("no seed reaches the edge")
