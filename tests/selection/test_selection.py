"""Several residual structures side by side, and models that differ in nothing else."""

from __future__ import annotations

import importlib
import pickle
import warnings
from functools import cache
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest

import mixedar.api as ma
import mixedar.formula.api as mar
from mixedar import AR1, MixedLMAR
from mixedar._types import UNCHANGED
from mixedar.datasets import load_orthodont
from mixedar.exceptions import (
    BoundaryWarning,
    LengthError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.residual import CAR1, Exponential
from mixedar.residual.variance import VarIdent, VarLogLinear, VarPower
from mixedar.selection import DEFAULT_STRUCTURES, select_residual

matplotlib.use("Agg")
Array = Any
GRAMS = 1000.0


@cache
def teeth() -> pd.DataFrame:
    """Shuffled, so that nothing works because rows are sorted by chance."""
    frame = load_orthodont().sample(frac=1.0, random_state=4)
    frame.index = pd.Index([f"row{k}" for k in range(len(frame))])
    return frame


def model(residual: Any = "ar1", **options: Any) -> Any:
    data = options.pop("data", None)
    given = {"groups": "subject", "time": "occ", "re_formula": "0"} | options
    data = teeth().copy() if data is None else data
    return mar.mixedlm("distance ~ age * sex", data, residual=residual, **given)


@cache
def selection() -> Any:
    return mar.select_residual(model())


def note(chosen: Any, name: str) -> str:
    return str(chosen.table.loc[name, "note"])


# Another structure for the same model ----------------------------------------


def assert_same_model(found: Any, expected: Any) -> None:
    one, two = found.fit(), expected.fit()
    assert one.llf == pytest.approx(two.llf, abs=1e-9)
    assert list(one.params.index) == list(two.params.index)
    np.testing.assert_allclose(one.params, two.params, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(one.bse, two.bse, rtol=1e-7, atol=1e-9)
    assert str(one.summary()) == str(two.summary())
    for kind in ("raw", "normalized"):
        np.testing.assert_allclose(one.residuals(kind), two.residuals(kind), atol=1e-8)
    assert found.time_unit == expected.time_unit


STRUCTURES = [
    "independent",
    "car1",
    "cs",
    "arma11",
    "toeplitz",
    "un",
    "adh",
    AR1(by="sex"),
    Exponential(coords=("age", "occ"), nugget=True),
]


@pytest.mark.parametrize("residual", STRUCTURES, ids=str)
def test_sibling_is_a_fresh_model(residual: Any) -> None:
    assert_same_model(model().with_residual(residual), model(residual))


@pytest.mark.parametrize("before", ["un", "independent", "cs", AR1(by="sex")], ids=str)
def test_from_any_structure(before: Any) -> None:
    assert_same_model(model(before).with_residual("ar1"), model("ar1"))


def test_the_model_itself_stays() -> None:
    one = model("un")
    before, text = one.fit(), str(one.fit().summary())
    names = list(one.data.param_names)
    one.with_residual("ar1").fit(reml=False)
    assert list(one.data.param_names) == names
    assert str(one.fit().summary()) == text
    assert one.fit().llf == before.llf


def test_random_effects_series_and_components() -> None:
    data = teeth().assign(half=lambda d: d["occ"] // 2)
    options: dict[str, Any] = {"data": data, "re_formula": "~ age"}
    for more in (
        {"re_cov": "diagonal"},
        {"series": "half"},
        {"vc_formula": {"half": "0 + C(half)"}, "re_formula": "0"},
    ):
        found = model("independent", **options | more).with_residual("ar1")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BoundaryWarning)
            assert_same_model(found, model("ar1", **options | more))


def test_weights_stay_unless_they_are_named() -> None:
    one = model("ar1", weights=VarIdent("sex"))
    assert_same_model(one.with_residual("cs"), model("cs", weights=VarIdent("sex")))
    assert_same_model(one.with_residual("cs", weights=None), model("cs"))
    other = one.with_residual("ar1", weights=VarPower("age"))
    assert_same_model(other, model("ar1", weights=VarPower("age")))
    assert_same_model(other.with_residual("cs"), model("cs", weights=VarPower("age")))
    # variances that belong to a name go with it
    assert_same_model(model("ar1h").with_residual("cs"), model("cs"))
    with pytest.raises(UnsupportedError, match="variances by occasion already"):
        one.with_residual("un")


def test_formulas_of_variances() -> None:

    weights = VarLogLinear("sex + I(age / GRAMS)")
    one = model("ar1", weights=weights)
    expected = model("cs", weights=weights)
    assert_same_model(one.with_residual("cs"), expected)
    assert_same_model(model("ar1").with_residual("cs", weights=weights), expected)


def test_fitted_values() -> None:
    expected = model("cs", weights=VarPower())
    assert_same_model(model("ar1").with_residual("cs", weights=VarPower()), expected)


def test_from_arrays() -> None:
    data = teeth()
    exog = np.column_stack([np.ones(len(data)), data["age"]])
    options: dict[str, Any] = {
        "groups": data["subject"],
        "time": data["occ"],
        "exog_re": np.empty((len(data), 0)),
    }

    def build(residual: Any, **more: Any) -> Any:
        return MixedLMAR(data["distance"], exog, residual=residual, **options, **more)

    columns = {"sex": data["sex"], "place": data["age"]}
    found = build("ar1").with_residual(AR1(by="sex"), residual_data=columns)
    expected = build(AR1(by="sex"), residual_data=columns)
    assert_same_model(found, expected)
    # the columns that a model reads are at hand
    assert_same_model(
        expected.with_residual(CAR1(by="sex")),
        build(CAR1(by="sex"), residual_data=columns),
    )
    with pytest.raises(UnknownColumnError, match="'sex'"):
        build("ar1").with_residual(AR1(by="sex"))
    with pytest.raises(LengthError):
        build("ar1").with_residual(AR1(by="sex"), residual_data={"sex": ["a", "b"]})


def test_rows_that_were_dropped() -> None:
    data = teeth().copy()
    data.loc["row5", "distance"] = np.nan
    data.loc["row9", "age"] = np.nan
    with pytest.warns(UserWarning, match="2 rows"):
        found = model("ar1", data=data, missing="drop")
    expected = model(AR1(by="sex"), data=data.dropna())
    assert_same_model(found.with_residual(AR1(by="sex")), expected)
    with pytest.raises(UnknownColumnError, match="'arm'"):
        found.with_residual(AR1(by="arm"))


def test_another_response_and_another_structure() -> None:
    one = model("ar1")
    found = one.with_residual("un").with_endog(10.0 * teeth()["distance"]).fit()
    expected = one.with_endog(10.0 * teeth()["distance"]).with_residual("un").fit()
    assert found.llf == pytest.approx(expected.llf, abs=1e-9)
    assert one.with_residual("cs").refit(teeth()["distance"]).llf == pytest.approx(
        model("cs").fit().llf
    )


def test_data_are_shared() -> None:
    one = model("ar1")
    other = one.with_residual("arma11")
    assert other.arrays.compressed is one.arrays.compressed
    assert other.arrays.grouped is one.arrays.grouped
    assert other.exog is one.exog
    assert one.with_residual("un").arrays.compressed is not one.arrays.compressed


def test_without_data() -> None:
    fit = model().fit()
    fit.remove_data()
    with pytest.raises(NotComputedError, match="removed"):
        fit.model.with_residual("cs")


def test_option_that_says_nothing() -> None:
    assert repr(UNCHANGED) == "unchanged"
    assert pickle.loads(pickle.dumps(UNCHANGED)) is UNCHANGED


# The selection -----------------------------------------------------------------


def test_table_is_of_single_fits() -> None:
    table = selection().table
    assert list(table.index) == list(DEFAULT_STRUCTURES)
    for name in DEFAULT_STRUCTURES:
        fit = model(name).fit()
        row = table.loc[name]
        assert row["logLik"] == pytest.approx(fit.llf, abs=1e-8)
        assert row["AIC"] == pytest.approx(fit.aic, abs=1e-7)
        assert row["BIC"] == pytest.approx(fit.bic, abs=1e-7)
        assert row["parameters"] == fit.structure.k_free
        assert row["df"] == fit.df_modelwc
        assert row["converged"]
        assert row["label"] == fit.structure.label
        assert selection()[name].llf == row["logLik"]


def test_likelihood_ratios_are_anova_s() -> None:
    tests = selection().tests
    assert len(tests) == 17
    for _, test in tests.iterrows():
        small, large = (selection()[test[key]] for key in ("small", "large"))
        row = small.anova(large).iloc[1]
        assert test["LR"] == pytest.approx(row["LR"], abs=1e-9)
        assert test["df"] == row["LR_df"]
        assert test["p"] == pytest.approx(row["p"], abs=1e-12)
        assert test["null"] == row["null"]


def test_each_row_has_its_nearest_test() -> None:
    table = selection().table
    assert table["against"].to_dict() == {
        "independent": "",
        "ar1": "independent",
        "car1": "independent",
        "cs": "independent",
        "arma11": "ar1",
        "toeplitz": "arma11",
        "un": "toeplitz",
    }
    un = table.loc["un"]
    assert un["LR"] == pytest.approx(
        2 * (un["logLik"] - table.loc["toeplitz", "logLik"])
    )
    assert un["LR_df"] == 6
    assert table.loc["car1", "null"] == "0.5 chi2(0) + 0.5 chi2(1)"


def test_best() -> None:
    chosen = selection()
    assert chosen.best().aic == pytest.approx(chosen.table["AIC"].min())
    assert chosen.best("BIC").bic == pytest.approx(chosen.table["BIC"].min())
    ranking = chosen.ranking("aicc")
    assert ranking.is_monotonic_increasing
    assert chosen.best("aicc") is chosen[ranking.index[0]]
    with pytest.raises(UnsupportedError, match="'aicc'"):
        chosen.best("cp")


def test_as_a_container() -> None:
    chosen = selection()
    assert list(chosen) == list(DEFAULT_STRUCTURES)
    assert len(chosen) == 7
    assert "cs" in chosen
    with pytest.raises(UnknownColumnError, match="'nothing'"):
        chosen["nothing"]


def test_summary() -> None:
    chosen = selection()
    text = str(chosen)
    assert text == chosen.summary().as_text() == repr(chosen)
    assert max(map(len, text.splitlines())) <= 80
    assert "unstructured, sd by time" in text
    assert "Smallest AIC: toeplitz; smallest BIC: cs." in text
    assert "nan" not in text.lower().split()
    assert "<table" in chosen._repr_html_()
    assert "tabular" in chosen.summary().as_latex()
    frames = chosen.summary().to_frames()
    assert list(frames) == ["criteria", "tests"]
    assert len(frames["criteria"]) == 7


def test_other_conventions() -> None:
    chosen = select_residual(model(), ["ar1", "cs"], ic="sas", reml=False)
    for name in ("ar1", "cs"):
        expected = model(name).fit(reml=False).information_criteria("sas")
        assert chosen.table.loc[name, "BIC"] == pytest.approx(expected["bic"])
    assert "ML" in str(chosen)
    with pytest.raises(UnsupportedError, match="'sas'"):
        select_residual(model(), ic="stata")


def test_formulas_are_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = importlib.import_module("mixedar.mixed.model")

    calls = []
    build = module.build_design

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return build(*args, **kwargs)

    monkeypatch.setattr(module, "build_design", counted)
    chosen = select_residual(model())
    assert len(calls) == 1
    rows = {id(fit.model.arrays.compressed) for fit in chosen.fits.values()}
    # rows by themselves, in the order of times, and with occasions
    assert len(rows) == 3


# What cannot be fitted ---------------------------------------------------------


def test_reasons_stand_in_the_row() -> None:
    chosen = select_residual(model(re_formula="1"), [*DEFAULT_STRUCTURES, "arr"])
    table = chosen.table
    for name, reason in [
        ("cs", "cannot tell apart 'subject Var', 'rho'"),
        ("un", "cannot tell apart"),
        ("arr", "did you mean 'ar1'"),
    ]:
        assert reason in note(chosen, name)
        assert pd.isna(table.loc[name, "logLik"])
        assert not table.loc[name, "converged"]
        assert name not in chosen
        assert f"{name}: not fitted" in str(chosen)
        with pytest.raises(NotComputedError, match="could not be fitted"):
            chosen[name]
    assert {"independent", "ar1", "arma11"} <= set(chosen.fits)


def test_nothing_can_be_fitted() -> None:
    chosen = select_residual(model(), ["arr", 5])
    assert len(chosen) == 0
    assert "not fitted" in str(chosen)
    with pytest.raises(NotComputedError, match="did you mean"):
        chosen.best()
    with pytest.raises(NotComputedError):
        chosen.plot()


def test_irregular_times() -> None:
    rng = np.random.default_rng(0)
    data = teeth().assign(t=lambda d: d["occ"] + rng.uniform(0, 0.5, len(d)))
    chosen = select_residual(model("car1", data=data, time="t"), progress=False)
    assert "use residual='car1'" in note(chosen, "ar1")
    assert "more than 60 occasions" in note(chosen, "un")
    assert set(chosen.fits) == {"independent", "car1", "cs"}
    assert "no regular limit" in " ".join(str(chosen).split())


def test_warnings_become_notes() -> None:
    # alternating residuals: CAR(1) ends at rho = 0
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g": np.repeat(np.arange(30), 6), "t": np.tile(range(6), 30)})
    data["y"] = rng.normal(size=180) + 2.0 * np.where(data["t"] % 2, 1, -1) * np.repeat(
        rng.normal(size=30), 6
    )
    base = mar.mixedlm("y ~ 1", data, groups="g", time="t", re_formula="0")
    chosen = select_residual(base, ["ar1", "car1"])
    assert chosen.table.loc["car1", "at_boundary"]
    assert "end of their range" in note(chosen, "car1")
    assert "car1: The residual parameter" in str(chosen)


def test_arguments() -> None:
    with pytest.raises(UnsupportedError, match="takes a MixedLMAR model, not int"):
        select_residual(5)
    with pytest.raises(UnsupportedError, match="empty"):
        select_residual(model(), [])
    with pytest.raises(UnsupportedError, match="'ar1' twice"):
        select_residual(model(), ["ar1", "ar1"])
    with pytest.raises(UnsupportedError, match="not int"):
        select_residual(model(), 5)  # type: ignore[arg-type]


def test_names_of_structures() -> None:
    structures = [
        "ar1",
        AR1(by="sex"),
        CAR1,
        None,
        ("ar1", VarIdent("sex")),
        ("cs", None),
        ("cs", "varIdent"),
    ]
    chosen = select_residual(model(), structures)
    assert list(chosen.fits) == [
        "ar1",
        "AR(1)",
        "car1",
        "independent",
        "ar1 + sd by sex",
        "cs",
        "cs + varIdent",
    ]
    tests = chosen.tests.set_index(["small", "large"])
    assert tests.loc[("ar1", "AR(1)"), "df"] == 1
    assert tests.loc[("ar1", "ar1 + sd by sex"), "df"] == 1
    mapped = select_residual(model(), {"one": "ar1", "two": ("ar1", VarIdent("sex"))})
    assert mapped.table.loc["two", "against"] == "one"
    assert list(select_residual(model(), "cs").fits) == ["cs"]


def test_weights_of_all() -> None:
    base = model(weights=VarIdent("sex"))
    kept = select_residual(base, ["ar1", "un"])
    assert kept["ar1"].llf == pytest.approx(base.fit().llf, abs=1e-9)
    assert "variances by occasion already" in note(kept, "un")
    plain = select_residual(base, ["ar1", "un"], weights=None)
    assert plain["ar1"].llf == pytest.approx(model().fit().llf, abs=1e-9)
    assert "un" in plain


def test_from_results_and_pickled() -> None:
    chosen = select_residual(model("cs").fit(), ["ar1", "un"])
    twin = pickle.loads(pickle.dumps(chosen))
    assert str(twin) == str(chosen)
    pd.testing.assert_frame_equal(twin.table, chosen.table)
    assert twin.best().llf == chosen.best().llf


def test_options_reach_the_fit() -> None:
    with pytest.raises(UnsupportedError, match="maxiter"):
        model().fit(maxiter=0)
    chosen = select_residual(model(), ["ar1"], maxiter=0)
    assert "maxiter=0" in note(chosen, "ar1")


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    select_residual(model(), ["ar1", "cs"], progress=True)
    assert "residual structures" in capsys.readouterr().err
    select_residual(model(), ["ar1"])
    assert not capsys.readouterr().err


def test_public_names() -> None:
    assert mar.select_residual is ma.select_residual is select_residual


# Correlations by lag -----------------------------------------------------------


def dense(fit: Any, lags: list[float]) -> Array:
    """Average covariances over average variances, from dense matrices."""
    one, grouped, data = fit.fit.data, fit.fit.data.grouped, teeth()
    sums = np.zeros((len(lags), 3))
    z = one.exog_re
    for group in range(one.n_groups):
        rows = np.flatnonzero(one.codes == group)
        rows = rows[np.argsort(data["occ"].to_numpy()[rows])]
        time = data["occ"].to_numpy(dtype=float)[rows]
        where = time
        if grouped.marks is not None:
            where = np.column_stack([time, grouped.unsort(grouped.marks)[rows]])
        v = fit.structure.correlation(where, fit.fit.residual_params)
        if fit.k_re:
            v = v + z[rows] @ np.asarray(fit.cov_re_unscaled) @ z[rows].T
        for a in range(len(rows)):
            for b in range(a + 1, len(rows)):
                k = lags.index(time[b] - time[a])
                sums[k] += v[a, b], v[a, a], v[b, b]
    return sums[:, 0] / np.sqrt(sums[:, 1] * sums[:, 2])


@pytest.mark.parametrize("re_formula", ["0", "~ age"])
def test_correlations_against_dense_matrices(re_formula: str) -> None:
    structures = ["independent", "ar1", "ar1h", AR1(by="sex")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        chosen = select_residual(model(re_formula=re_formula), structures)
    frame = chosen.correlations()
    assert frame.index.tolist() == [1.0, 2.0, 3.0]
    assert frame["pairs"].tolist() == [81, 54, 27]
    for name, fit in chosen.fits.items():
        np.testing.assert_allclose(frame[name], dense(fit, [1, 2, 3]), rtol=1e-10)
    best = max(chosen.fits.values(), key=lambda fit: fit.llf)
    wide = (
        teeth()
        .assign(r=teeth()["distance"] - best.fitted_marginal)
        .pivot(index="subject", columns="occ", values="r")
        .to_numpy()
    )
    for lag in (1, 2, 3):
        a, b = wide[:, :-lag].ravel(), wide[:, lag:].ravel()
        r = (a @ b) / np.sqrt((a @ a) * (b @ b))
        assert frame.loc[lag, "empirical"] == pytest.approx(r)


def test_standard_errors_are_the_jackknife_s() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(400, 4)) + rng.normal(size=(400, 1))
    data = pd.DataFrame(
        {"y": noise.ravel(), "g": np.repeat(range(400), 4), "t": np.tile(range(4), 400)}
    )
    base = mar.mixedlm("y ~ 1", data, groups="g", time="t", re_formula="0")
    frame = select_residual(base, ["cs"]).correlations()
    wide = noise - noise.mean()
    for lag in (1, 2, 3):
        a, b = wide[:, :-lag], wide[:, lag:]
        products = np.array([(a * b).sum(1), (a * a).sum(1), (b * b).sum(1)])
        rest = products.sum(axis=1, keepdims=True) - products
        values = rest[0] / np.sqrt(rest[1] * rest[2])
        jackknife = np.sqrt((len(values) - 1) * values.var())
        assert frame.loc[lag, "std_error"] == pytest.approx(jackknife, rel=0.02)


def test_many_distances_become_ranges() -> None:
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"g": np.repeat(range(20), 15)})
    data["t"] = rng.uniform(0.0, 9.0, len(data))
    data["y"] = rng.normal(size=len(data))
    base = mar.mixedlm("y ~ 1", data, groups="g", time="t", residual="independent")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        chosen = select_residual(base, ["independent", "car1"])
    frame = chosen.correlations()
    assert len(frame) == 20
    assert frame["pairs"].sum() == 20 * 15 * 14 // 2
    assert frame.index.is_monotonic_increasing
    near = chosen.correlations("car1", max_lag=2.0)
    assert near.index.max() <= 2.0
    assert "independent" not in near.columns
    with pytest.raises(NotComputedError, match=r"at most 1e-09 apart"):
        chosen.correlations(max_lag=1e-9)


@pytest.mark.parametrize("kind", ["text", "date", "category", "none"])
def test_kinds_of_times(kind: str) -> None:
    data = teeth().copy()
    options: dict[str, Any] = {"time": "visit"}
    visits = [f"V{k}" for k in data["occ"]]
    if kind == "text":
        data["visit"] = visits
    elif kind == "category":
        data["visit"] = pd.Categorical(visits, ["V1", "V2", "V3", "V4"], ordered=True)
    elif kind == "date":
        days = pd.to_timedelta(7 * data["occ"].to_numpy(), unit="D")
        data["visit"] = pd.Timestamp("2020-01-01") + days
    else:
        data, options = data.sort_values("occ"), {"time": None}
    chosen = select_residual(
        model("cs", data=data, **options), ["independent", "un", "cs", "ar1"]
    )
    assert "independent" in chosen
    assert chosen["un"].llf == pytest.approx(selection()["un"].llf, abs=1e-7)
    assert ("ar1" in chosen) == (kind != "text")  # whose distances nobody knows
    frame = chosen.correlations()
    np.testing.assert_allclose(frame["un"], selection().correlations()["un"], rtol=1e-6)


def test_plot() -> None:
    import matplotlib.pyplot as plt

    ax = selection().plot()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [*DEFAULT_STRUCTURES, "empirical"]
    assert ax.get_xlabel() == "Lag in occ"
    lines = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_allclose(
        lines["un"].get_ydata(), selection().correlations()["un"]
    )
    _, other = plt.subplots()
    assert selection().plot(other, ["ar1", "un"], max_lag=2) is other
    assert len(other.get_legend().get_texts()) == 3
    plt.close("all")
