"""Many responses at once have the maxima that fits of one after the other have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.exceptions import (
    LengthError,
    MissingDataError,
    NotComputedError,
    ResponseError,
    UnsupportedError,
)
from mixedar.residual import AR1
from mixedar.residual.variance import VarIdent, VarPower


def rows(groups: int = 20, waves: int = 5, dropped: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    code, time = np.divmod(np.arange(groups * waves), waves)
    data = pd.DataFrame({"id": code, "time": time + 0.0, "item": time % 2})
    data["x"] = rng.normal(size=groups)[code]
    data["school"] = code % 5
    data["arm"] = np.where(code % 3 == 0, "a", "b")
    data["y"] = rng.normal(size=len(data))
    kept = rng.uniform(size=len(data)) >= dropped
    return data[kept].reset_index(drop=True)


def responses(data: pd.DataFrame, count: int, variance: float, rho: float) -> Any:
    """Intercepts, slopes and serial correlation; none of them at variance 0."""
    rng = np.random.default_rng(11)
    groups = int(data["id"].max()) + 1
    code, time = data["id"].to_numpy(), data["time"].to_numpy()
    first, slope = rng.normal(size=(2, groups, count))
    noise = rng.normal(size=(len(data), count))
    for i in range(1, len(data)):
        if code[i] == code[i - 1]:
            noise[i] = rho * noise[i - 1] + np.sqrt(1.0 - rho**2) * noise[i]
    effects = first[code] + 0.4 * slope[code] * time[:, None]
    return 9.0 + 0.5 * time[:, None] + np.sqrt(variance) * effects + noise


DESIGNS: dict[str, dict[str, Any]] = {
    "slope, ar1": {"re_formula": "~time", "residual": "ar1"},
    "slope": {"re_formula": "~time"},
    "intercept, car1": {"residual": "car1"},
    "diagonal": {"re_formula": "~time", "re_cov": "diagonal", "residual": "ar1"},
    "components": {"vc_formula": {"item": "0 + C(item)"}, "residual": "ar1"},
    "ar1 alone": {"re_formula": "0", "residual": "ar1"},
    "least squares": {"re_formula": "0"},
    "cs": {"re_formula": "0", "residual": "cs"},
    "nugget": {"re_formula": "0", "residual": AR1(nugget=True)},
    "toep": {"re_formula": "0", "residual": "toep"},
    "VarIdent": {"residual": "ar1", "weights": VarIdent("arm")},
    "dropout": {"re_formula": "~time", "residual": "ar1", "dropped": 0.25},
    "known": {"residual": "ar1", "scale": 1.0},
    "nested": {"groups": None, "formula": "y ~ time + x + (1 | school/id)"},
    "of fitted values": {"re_formula": "0", "weights": VarPower()},
}
SLOW = ("nested", "of fitted values", "toep", "VarIdent")


def model_of(name: str) -> tuple[Any, pd.DataFrame]:
    options = {"groups": "id", "time": "time", **DESIGNS[name]}
    data = rows(dropped=options.pop("dropped", 0.0))
    formula = options.pop("formula", "y ~ time + x")
    return mar.mixedlm(formula, data, **options), data


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        *((name, 1.0) for name in DESIGNS),
        *((name, 0.0) for name in DESIGNS if name not in SLOW),
        ("slope, ar1", 30.0),
    ],
)
def test_maxima_of_one_after_the_other(name: str, variance: float) -> None:
    model, data = model_of(name)
    count = 2 if name in SLOW else 6
    y = responses(data, count, variance, 0.0 if variance == 0.0 else 0.4)
    reml = variance != 1.0
    many = model.refit_many(y, reml=reml)
    for k in range(count):
        try:
            one = model.refit(y[:, k], reml=reml, gtol=1e-10)
        except np.linalg.LinAlgError:
            assert np.isnan(many.llf[k])
            continue
        assert many.converged[k] == one.converged
        assert many.llf[k] == pytest.approx(one.llf, abs=1e-8)
        estimate = one.fit.estimate
        np.testing.assert_allclose(many.fe_params[k], estimate.beta, atol=1e-4)
        size = np.abs(estimate.cov_beta).max()
        np.testing.assert_allclose(many.cov_fe[k], estimate.cov_beta, atol=1e-3 * size)
        assert many.scale[k] == pytest.approx(one.scale, rel=1e-2)


def test_frames() -> None:
    model, data = model_of("slope, ar1")
    y = pd.DataFrame(responses(data, 4, 1.0, 0.4), columns=list("abcd"))
    fit = model.fit(collected=[])
    for many in (model.refit_many(y), fit.refit_many(y)):
        one = model.refit(y["c"])
        assert list(many.params.index) == list("abcd")
        assert list(many.params.columns) == [*fit.fit.names, "scale"]
        row = many.params.loc["c"]
        np.testing.assert_allclose(row.iloc[:3], one.fe_params, atol=1e-5)
        np.testing.assert_allclose(row["rho"], one.residual_params["rho"], atol=1e-3)
        np.testing.assert_allclose(many.bse_fe.loc["c"], one.bse_fe, rtol=1e-4)
        np.testing.assert_allclose(
            many.tvalues.loc["c"], one.fe_params / one.bse_fe, rtol=1e-3
        )
        expected = one.pvalues.iloc[:3]
        np.testing.assert_allclose(many.pvalues.loc["c"], expected, rtol=1e-3)


def test_results_keep_what_was_held() -> None:
    model, data = model_of("slope, ar1")
    fit = model.fit(reml=False, free=None, collected=[])
    y = responses(data, 3, 1.0, 0.4)
    np.testing.assert_allclose(
        fit.refit_many(y).llf, model.refit_many(y, reml=False).llf, atol=1e-8
    )


def test_an_offset_is_taken_off() -> None:
    data = rows()
    data["shift"] = np.arange(len(data)) % 7 / 3.0
    arguments = {"groups": "id", "time": "time", "residual": "ar1"}
    model = mar.mixedlm("y ~ time", data, offset="shift", **arguments)
    plain = mar.mixedlm("y ~ time", data, **arguments)
    y = responses(data, 3, 1.0, 0.4)
    shifted = y + data[["shift"]].to_numpy()
    found, expected = model.refit_many(shifted).llf, plain.refit_many(y).llf
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_responses_that_cannot_be_fitted() -> None:
    model, data = model_of("slope, ar1")
    y = responses(data, 3, 1.0, 0.4)
    with pytest.raises(LengthError, match="one column of 100 observations"):
        model.refit_many(y[:, 0])
    with pytest.raises(LengthError, match="one column of 100 observations"):
        model.refit_many(y.T)
    frame = pd.DataFrame(y, columns=list("abc"))
    with pytest.raises(ResponseError, match="'b' is constant"):
        model.refit_many(frame.assign(b=1.0))
    with pytest.raises(ResponseError, match="'b' is a linear combination"):
        model.refit_many(frame.assign(b=2.0 * data["time"] + 1.0))
    with pytest.raises(MissingDataError):
        model.refit_many(frame.mask(y > y[4, 0]))
    with pytest.raises(UnsupportedError, match="different row labels"):
        model.refit_many(frame.iloc[::-1])
    assert model.refit_many(y[:, :0]).params.shape == (0, 8)
    fit = model.fit(collected=[])
    fit.remove_data()
    with pytest.raises(NotComputedError):
        fit.refit_many(y)
