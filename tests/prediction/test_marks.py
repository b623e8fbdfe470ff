"""What the residual structure reads of new rows: occasions, strata, columns."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.prediction_cases import (
    CASES,
    LEVELS,
    asked,
    design,
    fit_to,
    fitted,
    observed,
)
from helpers.reference_cases import load
from mixedar import MixedLMAR
from mixedar.exceptions import (
    LengthError,
    MissingDataError,
    NotComputedError,
    StructureError,
    TimeError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.residual import AR1, Exponential
from mixedar.residual.variance import KnownWeights, VarIdent, VarLogLinear, VarPower

SPACE = Exponential(coords=("east", "north"), nugget=True)


@pytest.fixture
def new() -> pd.DataFrame:
    return asked(5).copy()


def forecast(fit: Any, new: Any, level: str = "forecast", **options: Any) -> Any:
    options = {"unknown": "population", **options}
    return fit.get_prediction(new, level, **options).summary_frame()


# nlme


# R 4.2, nlme 3.1-162, lmeControl(tolerance = 1e-12, msTol = 1e-14, msMaxIter = 1000):
#   lme(distance ~ age * Sex, Orthodont, ~ 1 | Subject,
#       corAR1(form = ~ occ | Subject), varIdent(form = ~ 1 | Sex))
#   lme(weight ~ Time * Diet, BodyWeight, ~ Time | Rat,
#       corCAR1(form = ~ Time), varPower(form = ~ Time)), and with varPower()
# predict(m, new, level = 0:1), sqrt(diag(X vcov(m) X')), quantile(pearson residuals)
NLME: dict[str, Any] = {
    "ident": (
        [28.8880235656, 23.4124279187, 26.9686465442, 22.6472722340],
        [31.1396188688, 25.6640232219, 23.0081540756, 21.4619215229],
        [0.705944626993, 0.546990169268, 0.747905264940, 0.566731359132],
        [-2.92572835611, -0.658098127535, 0.0476244757, 0.5253065179, 3.00032394221],
    ),
    "power": (
        [260.900220779, 276.987357354, 571.893702207, 453.114934682],
        [257.498505536, 278.702013608, 595.116200188, 407.779616091],
        [12.9438020406, 13.6243597083, 20.7046335343, 18.5177833559],
        [-3.72392743954, -0.4697032170, 0.0133465893, 0.5395062085, 2.2213783145],
    ),
    "fitted": (
        [260.732728320, 277.230415165, 570.991501382, 453.258924830],
        [257.040162073, 279.544189476, 592.444925627, 408.485390508],
        [12.9247371884, 13.5412550596, 20.6701027042, 18.5359720825],
        [-2.9193248073, -0.4734473015, 0.0231885003, 0.5277585991, 1.9726009486],
    ),
}


@pytest.mark.parametrize("name", NLME)
def test_nlme(name: str) -> None:
    if name == "ident":
        data = load("orthodont_ri_ar1_varident_reml").data
        model = mar.mixedlm(
            "distance ~ age * sex",
            data,
            groups="subject",
            time="occ",
            weights=VarIdent("sex", reference="Male"),
        )
        new = pd.DataFrame({"subject": ["M01", "M01", "F10", "F01"]})
        new = new.assign(age=[16, 9, 20, 11], sex=["Male"] * 2 + ["Female"] * 2)
    else:
        data = load("bodyweight_car1_varpower_time_reml").data
        model = mar.mixedlm(
            "weight ~ time * C(diet)",
            data,
            groups="rat",
            re_formula="~time",
            time="time",
            residual="car1",
            weights=VarPower("time") if name == "power" else VarPower(),
        )
        new = pd.DataFrame({"rat": [1, 1, 16, 9], "time": [25.5, 71, 100, 1]})
        new = new.assign(diet=[1, 1, 3, 2])
    fit = model.fit()
    population, group, errors, quantiles = NLME[name]
    close = {"rtol": 1e-5 if name == "fitted" else 1e-6}
    found = fit.get_prediction(new)
    np.testing.assert_allclose(found.predicted_mean, population, **close)
    np.testing.assert_allclose(found.se_mean, errors, rtol=1e-4)
    found = fit.get_prediction(new, "group")
    np.testing.assert_allclose(found.predicted_mean, group, **close)
    np.testing.assert_allclose(fit.std_residual_quantiles, quantiles, rtol=2e-4)


# Occasions


KINDS: dict[str, Any] = {
    "floats": lambda t: t / 10.0,
    "other decimals": lambda t: t * 0.1,
    "text": lambda t: "visit " + t.astype(str),
    "categories": lambda t: pd.Series(
        pd.Categorical("v" + t.astype(str), [f"v{k}" for k in range(6)], ordered=True),
        index=t.index,
    ),
    "dates": lambda t: pd.Timestamp("2024-01-31") + pd.to_timedelta(30 * t, "D"),
    "zoned": lambda t: (
        pd.Timestamp("2024-01-31", tz="Asia/Tokyo") + pd.to_timedelta(30 * t, "D")
    ),
    "periods": lambda t: pd.Series(
        [pd.Period("2024Q1", "Q") + int(k) for k in t], index=t.index
    ),
    "python dates": lambda t: pd.Series(
        [(pd.Timestamp("2020-01-30") + pd.Timedelta(days=k)).date() for k in t],
        t.index,
        dtype=object,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_occasions(kind: str, new: pd.DataFrame) -> None:
    change = KINDS[kind]
    fit = fit_to(
        observed().assign(t=change(observed()["t"])), residual="un", re_formula="0"
    )
    # what is 0.3 in one place may be 3 * 0.1 in the other
    again = KINDS["floats"] if kind == "other decimals" else change
    for level in LEVELS:
        found = forecast(fit, new.assign(t=again(new["t"])), level)
        expected = forecast(fitted("un"), new, level)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-4)


def test_categories_in_new_rows(new: pd.DataFrame) -> None:
    fit = fitted("ident by occasion")
    expected = forecast(fit, new)
    found = forecast(fit, new.assign(t=new["t"].astype("category")))
    pd.testing.assert_frame_equal(found, expected)
    found = forecast(fitted("ident"), new.assign(sex=new["sex"].astype("category")))
    pd.testing.assert_frame_equal(found, forecast(fitted("ident"), new))


@pytest.mark.parametrize("name", ["un", "ident by occasion", "ante"])
def test_an_occasion_that_is_not_in_the_fit(name: str, new: pd.DataFrame) -> None:
    fit = fitted(name)
    later = new.assign(t=[7, *new["t"].iloc[1:]])
    message = rf"'t' is 7 in row '{new.index[0]}'.*'0', '1', '2', '3', '4', '5'"
    with pytest.raises(TimeError, match=message):
        forecast(fit, later)
    # the mean needs no variance
    for level in LEVELS[:2]:
        found = fit.get_prediction(later, level, unknown="population")
        expected = fit.get_prediction(new, level, unknown="population")
        np.testing.assert_array_equal(found.se_mean, expected.se_mean)
        if name == "ante":  # has one variance
            np.testing.assert_array_equal(found.se_obs, expected.se_obs)
            continue
        frame = found.summary_frame()
        assert frame[["obs_ci_lower", "obs_ci_upper"]].isna().all(axis=None)
        assert frame.iloc[:, :4].notna().all(axis=None)
        assert "is 7 in row" in found.notes[-1]
        assert "is 7 in row" in str(found).replace("\n", " ")
        for ask in (lambda f=found: f.se_obs, lambda f=found: f.conf_int(obs=True)):
            with pytest.raises(TimeError, match="is 7 in row"):
                ask()
        pickle.loads(pickle.dumps(found)).conf_int()


@pytest.mark.parametrize("residual", ["ar1", "ad"])
def test_occasions_without_times(residual: str) -> None:
    # complete series, so that the order of rows says what time says
    data = observed().groupby("id").filter(lambda part: len(part) == 6)
    data = data.sort_values(["t", "id"])
    short = data[(data["t"] < 4) | (data["id"] % 2 == 0)]
    first, second = (
        fit_to(short, residual=residual, weights=VarIdent(), time=time)
        for time in ("t", None)
    )
    ids = np.sort(short["id"][short["id"] % 2 == 1].unique())[:2]
    new = data[data["id"].isin(ids) & (data["t"] >= 4)]
    new = pd.concat([new, asked(5)[asked(5)["id"] == 99].sort_values("t")])
    pd.testing.assert_frame_equal(
        forecast(second, new), forecast(first, new), rtol=1e-5, atol=1e-5
    )
    pd.testing.assert_frame_equal(
        forecast(second, new, time=new["t"]), forecast(second, new)
    )
    pd.testing.assert_frame_equal(
        forecast(second, new, "group"), forecast(first, new, "group"), rtol=1e-5
    )
    with pytest.raises(TimeError, match=r"number 7 of its series.* 6 occasions"):
        forecast(second, pd.concat([new, new.iloc[:1]]))
    # of the population no series is known
    with pytest.raises(LengthError, match="time= is missing"):
        second.get_prediction(new).conf_int(obs=True)
    found = second.get_prediction(new, time=new["t"])
    np.testing.assert_allclose(
        found.se_obs, first.get_prediction(new).se_obs, rtol=1e-5
    )


# Strata and columns


def test_strata_of_other_types(new: pd.DataFrame) -> None:
    expected = forecast(fitted("ident"), new)
    for change in (
        lambda c: c == "m",
        lambda c: (c == "m").astype(int),
        lambda c: (c == "m") * 0.5,
        lambda c: c.astype("category"),
    ):
        fit = fit_to(observed().assign(sex=change(observed()["sex"])), **FIT["ident"])
        found = forecast(fit, new.assign(sex=change(new["sex"])))
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5, atol=1e-6)


FIT = {name: case.options for name, case in CASES.items()}
BAD: dict[str, Any] = {
    "unknown stratum": ("ident", {"sex": "x"}, StructureError, "'x'.*'f', 'm'"),
    "no stratum": ("ident", {"sex": None}, MissingDataError, "'sex'.*missing"),
    "no number": ("power", {"v": np.nan}, MissingDataError, "'v'.*missing"),
    "infinite": ("power", {"v": np.inf}, MissingDataError, "'v'.*infinite"),
    "text": ("power", {"v": "many"}, StructureError, "'v'.*numeric"),
    "formula": ("log linear", {"v": np.nan}, MissingDataError, "'v'"),
    "coordinates": ("exponential", {"east": np.nan}, MissingDataError, "'east'"),
    "other stratum": ("by arm", {"arm": "b"}, StructureError, "'b' in row.*'a' in all"),
    "too long lag": ("toeplitz", {"t": 6}, TimeError, "beyond lag 5"),
}


@pytest.mark.parametrize("kind", BAD)
def test_values_that_cannot_be(kind: str, new: pd.DataFrame) -> None:
    name, change, error, message = BAD[kind]
    fit = fitted(name)
    new = new[new["id"].isin([1, 2])].copy()
    row = new.index[4]
    for column, value in change.items():
        values = new[column].astype(object)
        values.loc[row] = value
        new[column] = values.infer_objects()
    with pytest.raises(error, match=message) as caught:
        forecast(fit, new)
    if kind != "too long lag":
        assert repr(row) in str(caught.value)
    # means that do not read it are there
    if kind not in ("other stratum",):
        assert forecast(fit, new, "group")["mean"].notna().all()


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.reads])
def test_columns_that_are_missing(name: str, new: pd.DataFrame) -> None:
    fit, case = fitted(name), CASES[name]
    column = case.reads[0]
    without = new.drop(columns=column)
    correlated = name != "independent weights"
    if correlated:
        with pytest.raises(UnknownColumnError, match=column):
            forecast(fit, without)
    variance = "weights" in case.options
    for level in LEVELS[: 2 if correlated else 3]:
        found = fit.get_prediction(without, level, unknown="population")
        expected = fit.get_prediction(new, level, unknown="population")
        np.testing.assert_array_equal(found.predicted_mean, expected.predicted_mean)
        np.testing.assert_array_equal(found.se_mean, expected.se_mean)
        if not variance or (name == "combined" and column == "east"):
            np.testing.assert_array_equal(found.se_obs, expected.se_obs)
            continue
        with pytest.raises(UnknownColumnError, match=f"'{column}'"):
            found.conf_int(obs=True)
    # beside the frame
    for extra in (new[[column]], {column: new[column].to_numpy()}):
        found = forecast(fit, without, residual_data=extra)
        pd.testing.assert_frame_equal(found, forecast(fit, new))


@pytest.mark.parametrize("value", [0.0, -1.0])
@pytest.mark.parametrize("name", ["weights", "power", "combined"])
def test_values_without_a_variance(name: str, value: float, new: pd.DataFrame) -> None:
    column = "v" if name == "power" else "w"
    new.loc[new.index[3], column] = value
    message = f"'{column}'.* is .*{abs(value):g}"
    with pytest.raises(StructureError, match=message):
        forecast(fitted(name), new)
    with pytest.raises(StructureError, match=message):
        fitted(name).get_prediction(new).conf_int(obs=True)
    with pytest.raises(StructureError, match=message):
        fitted(name).simulate(newdata=new)


def test_residual_data_is_checked(new: pd.DataFrame) -> None:
    fit = fitted("weights")
    with pytest.raises(LengthError, match=r"residual_data\['w'\].*3 values"):
        forecast(fit, new, residual_data={"w": [1.0, 2.0, 3.0]})
    with pytest.raises(UnsupportedError, match="DataFrame or a mapping"):
        forecast(fit, new, residual_data=[1.0, 2.0])
    with pytest.raises(UnsupportedError, match="residual_data="):
        fit.get_prediction(residual_data={"w": [1.0]})
    # it comes before a column
    found = forecast(fit, new.assign(w=7.0), residual_data={"w": new["w"]})
    pd.testing.assert_frame_equal(found, forecast(fit, new))


def test_weights_from_an_array(new: pd.DataFrame) -> None:
    w = observed()["w"].to_numpy()
    fit = fit_to(observed().copy(), weights=w)
    with pytest.raises(UnknownColumnError, match=r"'weights'.*residual_data"):
        forecast(fit, new)
    expected = forecast(fitted("weights"), new)
    for options in ({"residual_data": {"weights": new["w"]}}, {}):
        frame = new if options else new.assign(weights=new["w"])
        pd.testing.assert_frame_equal(
            forecast(fit, frame, **options), expected, rtol=1e-6
        )


def test_models_from_arrays(new: pd.DataFrame) -> None:
    data = observed()
    variance: Any = VarLogLinear(columns=("arm_b", "log_v"))
    columns = {"arm_b": data["arm"] == "b", "log_v": np.log(data["v"])}
    model = MixedLMAR(
        data["y"],
        design(data),
        data["id"],
        time=data["t"],
        weights=variance,
        residual_data=columns,
    )
    fit = model.fit()
    asked_columns = {"arm_b": new["arm"] == "b", "log_v": np.log(new["v"])}
    for level in LEVELS:
        found = fit.get_prediction(
            design(new),
            level,
            groups=new["id"].to_numpy(),
            time=new["t"].to_numpy(),
            residual_data=pd.DataFrame(asked_columns).reset_index(drop=True),
            unknown="population",
        )
        expected = fitted("log linear").get_prediction(new, level, unknown="population")
        np.testing.assert_allclose(
            found.predicted_mean, expected.predicted_mean, rtol=1e-6
        )
        np.testing.assert_allclose(found.se_obs, expected.se_obs, rtol=1e-5)
    with pytest.raises(UnknownColumnError, match="arm_b"):
        fit.get_prediction(design(new)).conf_int(obs=True)


def test_coordinates_need_no_times(new: pd.DataFrame) -> None:
    fit = fitted("exponential")
    untimed = fit_to(observed().drop(columns="t"), "z", residual=SPACE, time=None)
    pd.testing.assert_frame_equal(
        forecast(untimed, new.drop(columns="t")), forecast(fit, new), rtol=1e-5
    )
    forecast(fit, new.drop(columns="t"))
    text = fit_to(observed().assign(t="some day"), "z", residual=SPACE)
    pd.testing.assert_frame_equal(forecast(text, new), forecast(fit, new), rtol=1e-5)


def test_series_inside_groups(new: pd.DataFrame) -> None:
    data = observed().assign(person=lambda f: f["id"] // 2, side=lambda f: f["id"] % 2)
    new = new[new["id"] < 40].assign(
        person=lambda f: f["id"] // 2, side=lambda f: f["id"] % 2
    )
    for options in ({"residual": "un", "re_formula": "1"}, {"weights": VarIdent()}):
        fit = fit_to(data, groups="person", series="side", **options)
        by_id = fit_to(data, groups="person", series="id", **options)
        pd.testing.assert_frame_equal(
            forecast(fit, new), forecast(by_id, new), rtol=1e-6
        )
        fit_to(data, groups="person", series="side", time=None, weights=VarIdent())
        with pytest.raises(UnknownColumnError, match="'side'"):
            forecast(fit, new.drop(columns="side"))


def test_fits_from_pickles_and_without_data(new: pd.DataFrame) -> None:
    for name in ("ident", "ident by occasion", "log linear", "weights"):
        fit = fit_to(observed().copy(), **FIT[name])
        expected = forecast(fit, new)
        loaded = pickle.loads(pickle.dumps(fit))
        pd.testing.assert_frame_equal(forecast(loaded, new), expected)
        population = fit.get_prediction(new).summary_frame()
        fit.remove_data()
        found = fit.get_prediction(new).summary_frame()
        pd.testing.assert_frame_equal(found, population)
        with pytest.raises(NotComputedError, match="removed"):
            forecast(fit, new, "group")
        if name == "ident":
            with pytest.raises(StructureError, match="'x'"):
                fit.get_prediction(new.assign(sex="x")).conf_int(obs=True)


# Long series


def test_long_series() -> None:
    rng = np.random.default_rng(4)
    n = 5000
    frame = pd.DataFrame({"t": np.tile(np.arange(n), 2), "id": np.repeat([0, 1], n)})
    frame["w"] = rng.uniform(0.5, 2.0, size=2 * n)
    frame["y"] = rng.normal(size=2 * n) / np.sqrt(frame["w"])
    model = mar.mixedlm(
        "y ~ t",
        frame,
        groups="id",
        time="t",
        weights=KnownWeights("w"),
        residual=AR1(0.6, fixed=True),
        re_formula="0",
    )
    fit = model.fit()
    last = frame["y"].iloc[-1] - fit.fitted_marginal.iloc[-1]
    new = pd.DataFrame({"id": 1, "t": [n, n + 1], "w": [1.0, 4.0]})
    found = fit.get_prediction(new, "forecast")
    sd = frame["w"].iloc[-1] ** -0.5
    expected = np.array([0.6, 0.36 / 2.0]) * last / sd
    np.testing.assert_allclose(
        found.predicted_mean - fit.predict(new).to_numpy(), expected, rtol=1e-6
    )
    np.testing.assert_allclose(
        found.var_resid, fit.scale * np.array([1 - 0.36, (1 - 0.36**2) / 4.0])
    )


# Simulation of new rows


def test_draws_of_impossible_rows(new: pd.DataFrame) -> None:
    with pytest.raises(TimeError, match="is 7 in row"):
        fitted("un").simulate(newdata=new.assign(t=7))
    with pytest.raises(StructureError, match=r"'x'.*'f', 'm'"):
        fitted("ident").simulate(newdata=new.assign(sex="x"))
    with pytest.raises(UnknownColumnError, match="'w'"):
        fitted("weights").simulate(newdata=new.drop(columns="w"))
    with pytest.raises(StructureError, match="'arm' changes within a series"):
        fitted("by arm").simulate(newdata=new.assign(arm=np.resize(["a", "b"], 42)))
    data = observed().copy()
    data["y"] -= 0.9 * data.groupby("id")["y"].transform("mean")
    fit = fit_to(data, residual="cs", re_formula="0")
    assert -0.2 < fit.residual_params["rho"] < -0.12
    with pytest.raises(StructureError, match="so many rows"):
        fit.simulate(
            newdata=pd.DataFrame({"id": 1, "t": range(12), "x": 0, "arm": "a"})
        )
