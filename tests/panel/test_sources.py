"""Panel fits of rows that were read in batches are those of the same rows in memory."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from helpers.panels import growth
from mixedar.exceptions import (
    DroppedRowsWarning,
    DuplicateTimeError,
    EmptyDataError,
    GroupError,
    NotComputedError,
    ResponseError,
    TimeError,
    UnsupportedError,
)
from mixedar.panel import breusch_pagan
from mixedar.streams import Source, source

FRAME = growth(60).assign(
    year=lambda f: 2000 + 2 * f["time"], far=lambda f: 1e5 + f["x"]
)
FORMULA = "y ~ time + x + arm"
NUMBERS = ("scale", "df_resid", "nobs", "n_entities", "rsquared")
SHARES = ("rsquared_within", "rsquared_between", "rsquared_overall")
INCLUSIVE = ("rsquared_inclusive", "rsquared_adj")
Door = Callable[..., Any]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make batches of about 16 entities, some of which straddle two."""
    monkeypatch.setattr(source, "_ROWS", 67)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Source:
    path = tmp_path_factory.mktemp("data") / "rows.parquet"
    FRAME.to_parquet(path)
    return mar.scan(path)


def scanned(frame: pd.DataFrame, folder: Path) -> Source:
    frame.to_parquet(folder / "rows.parquet")
    return mar.scan(folder / "rows.parquet")


def check_equal(there: Any, here: Any) -> None:
    """Compare fits of rows in a source and in memory."""
    assert list(there.params.index) == list(here.params.index)
    np.testing.assert_allclose(there.params, here.params, rtol=1e-10)
    np.testing.assert_allclose(there.cov_params(), here.cov_params(), rtol=1e-9)
    np.testing.assert_allclose(there.bse, here.bse, rtol=1e-10)
    np.testing.assert_allclose(there.df, here.df)
    names = [*NUMBERS, *SHARES, *INCLUSIVE]
    found, expected = ([getattr(f, n) for n in names] for f in (there, here))
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    for name in ("llf", "sigma2_u", "sigma2_e", "f_pooled"):
        found, expected = (getattr(f.estimate, name) for f in (there, here))
        assert (found is None) == (expected is None)
        if found is not None:
            np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(
        there.f_slopes.statistic, here.f_slopes.statistic, rtol=1e-9
    )
    assert str(there.summary()) == str(here.summary())


def fitted(door: Door, data: Any, formula: str, fit: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DroppedRowsWarning)
        return door(formula, data, "id", **options).fit(**fit)


COVARIANCES: list[dict[str, Any]] = [
    {},
    {"cov_type": "robust"},
    {"cov_type": "clustered"},
    {"cov_type": "clustered", "cluster": "id", "small_sample": "sss"},
    {"cov_type": "robust", "small_sample": "HC1"},
]
DOORS = (mar.pooled, mar.fixed_effects, mar.random_effects)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("fit", COVARIANCES)
def test_covariances(rows: Source, door: Door, fit: dict[str, Any]) -> None:
    there, here = (fitted(door, d, FORMULA, fit, time="time") for d in (rows, FRAME))
    check_equal(there, here)


MODELS: list[tuple[str, dict[str, Any]]] = [
    ("y ~ 0 + time + x", {"time": "when"}),
    ("y ~ time * C(site) + np.exp(x) + flag", {}),
    ("y ~ far + year", {"time": "year"}),
    ("y ~ x + C(time)", {"time": "year", "delta": 1}),
    ("np.exp(y / 5) ~ x + real", {"time": "real"}),
    ("y ~ x + C(time) * site", {"subset": "time != 2 or site != 'b'"}),
    ("y ~ x", {"subset": "x > -0.5 and arm == 'drug'", "time": "when"}),
]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("formula", "options"), MODELS)
def test_models(
    rows: Source, door: Door, formula: str, options: dict[str, Any]
) -> None:
    fit = {"cov_type": "clustered"}
    there, here = (fitted(door, d, formula, fit, **options) for d in (rows, FRAME))
    check_equal(there, here)


@pytest.mark.parametrize("formula", [FORMULA, "y ~ x + C(time)", "y ~ 0 + x + time"])
def test_baltagi_and_chang(rows: Source, formula: str) -> None:
    fit = {"unbalanced": "baltagi-chang"}
    there, here = (
        fitted(mar.random_effects, d, formula, fit, time="time") for d in (rows, FRAME)
    )
    check_equal(there, here)


@pytest.mark.parametrize("door", DOORS)
def test_balanced_panels(tmp_path: Path, door: Door) -> None:
    frame = growth(30, 4, missing=0.0)
    data = scanned(frame, tmp_path), frame
    there, here = (
        fitted(door, d, "y ~ x + C(time) * arm", {"cov_type": "clustered"}, time="time")
        for d in data
    )
    check_equal(there, here)


@pytest.mark.parametrize("door", DOORS)
def test_missing_values(tmp_path: Path, door: Door) -> None:
    frame = FRAME.copy()
    frame.loc[frame.index % 9 == 0, "x"] = np.nan
    frame.loc[frame["id"] < 18, "arm"] = None  # whole batches
    rows = scanned(frame, tmp_path)
    with pytest.warns(DroppedRowsWarning, match="rows with missing values"):
        there = door(FORMULA, rows, "id", "time", missing="drop").fit()
    check_equal(there, fitted(door, frame, FORMULA, {}, time="time", missing="drop"))
    with pytest.raises(ValueError, match="missing values in 'x'"):
        door(FORMULA, rows, "id", "time")


@pytest.mark.parametrize("door", DOORS)
def test_missing_labels_do_not_divide_entities(tmp_path: Path, door: Door) -> None:
    pytest.importorskip("duckdb")
    frame = FRAME.assign(id="person " + FRAME["id"].astype(str).str.zfill(3))
    frame.loc[frame.index % 11 == 0, "id"] = None
    fit, options = {"cov_type": "clustered"}, {"time": "time", "missing": "drop"}
    data = scanned(frame, tmp_path), frame
    there, here = (fitted(door, d, FORMULA, fit, **options) for d in data)
    check_equal(there, here)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("cov_type", ["robust", "clustered"])
def test_what_one_cluster_determines(tmp_path: Path, door: Door, cov_type: str) -> None:
    frame = FRAME.assign(one=0.0)
    frame.loc[5 if cov_type == "robust" else frame["id"] == 3, "one"] = 1.0
    frame["one"] *= 1.0 + frame["time"] * (cov_type == "clustered")
    data = scanned(frame, tmp_path), frame
    fit = {"cov_type": cov_type}
    there, here = (fitted(door, d, "y ~ x + one", fit, time="time") for d in data)
    alone = door is not mar.random_effects or cov_type == "clustered"
    assert np.isnan(here.bse["one"]) == alone
    np.testing.assert_allclose(there.bse, here.bse, rtol=1e-9)
    assert there.notes == here.notes


def test_relations_of_duckdb_in_any_order() -> None:
    connection = pytest.importorskip("duckdb").connect()
    shuffled = FRAME.sample(frac=1.0, random_state=1)
    relation = connection.from_df(shuffled)
    fit = {"cov_type": "clustered"}
    there, here = (
        fitted(mar.fixed_effects, d, FORMULA, fit, time="time")
        for d in (relation, FRAME)
    )
    check_equal(there, here)


@pytest.mark.parametrize(
    ("door", "fit", "options", "match"),
    [
        (mar.fixed_effects, {}, {"effects": "twoways"}, r"C\(time\)"),
        (mar.pooled, {}, {"weights": "x"}, "weights="),
        (mar.between, {}, {}, "between effects needs all rows"),
        (mar.first_difference, {}, {}, "first differences needs all rows"),
        (mar.random_effects, {"method": "ml"}, {}, "mar.mixedlm"),
        (mar.mundlak, {}, {}, "OVER"),
        (mar.pooled, {"cov_type": "hac"}, {}, "in several batches"),
        (mar.pooled, {"cov_type": "CR2"}, {}, "matrices of all its rows"),
        (mar.pooled, {"cov_type": "clustered", "cluster": "time"}, {}, "by 'id'"),
        (mar.pooled, {"cov_type": "driscoll-kraay"}, {}, "in several batches"),
    ],
)
def test_what_needs_all_rows(
    rows: Source, door: Door, fit: Any, options: Any, match: str
) -> None:
    with pytest.raises(UnsupportedError, match=match):
        door(FORMULA, rows, "id", "time", **options).fit(**fit)


@pytest.fixture(scope="module")
def pairs(rows: Source) -> list[tuple[Any, Any]]:
    doors = mar.fixed_effects, mar.random_effects
    formula = "y ~ x * flag + C(time)"
    return [
        tuple(door(formula, d, "id").fit() for door in doors) for d in (rows, FRAME)
    ]


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("default", {}),
        ("classical", {}),
        ("auxiliary", {}),
        ("auxiliary-robust", {"plain_constant": True}),
        ("mundlak", {}),
        ("mundlak-robust", {"estimator": "pooled", "correction": "HC1"}),
    ],
)
def test_hausman(pairs: list[Any], method: str, options: dict[str, Any]) -> None:
    there, here = (mar.hausman(*pair, method, **options) for pair in pairs)
    for found, expected in zip(there.tests, here.tests, strict=True):
        np.testing.assert_allclose(found.statistic, expected.statistic, rtol=1e-8)
        assert found.df == expected.df
    assert str(there.summary()) == str(here.summary())


def test_hausman_of_other_rows(pairs: list[Any], rows: Source) -> None:
    (fe, re), (_, here) = pairs
    with pytest.raises(UnsupportedError, match="a frame and the other of a source"):
        mar.hausman(fe, here)
    formula = "y ~ x * flag + C(time)"
    fewer = mar.random_effects(formula, rows, "id", subset="x < 1.5").fit()
    with pytest.raises(UnsupportedError, match="different rows"):
        mar.hausman(fe, fewer)
    with pytest.raises(NotComputedError, match="read from a source"):
        mar.hausman(fe, re, "bootstrap")


def test_fits_side_by_side(pairs: list[Any]) -> None:
    there, here = (mar.compare(list(pair)) for pair in pairs)
    assert str(there) == str(here)
    for found, expected in zip(*pairs, strict=True):
        for table in (mar.tidy, mar.glance):
            pd.testing.assert_frame_equal(table(found), table(expected), rtol=1e-9)


def test_rows_are_not_kept(rows: Source) -> None:
    fit = mar.fixed_effects(FORMULA, rows, "id", "time").fit("clustered")
    questions: list[Callable[[], Any]] = [
        lambda: fit.resid,
        lambda: fit.effects,
        lambda: fit.fittedvalues,
        lambda: fit.predict(),
        lambda: fit.get_prediction(FRAME.head(3), effects=True),
        lambda: fit.wild_bootstrap("x = 0", n_sim=9),
        lambda: breusch_pagan(fit),
        lambda: mar.panel_tests(fit),
    ]
    for question in questions:
        with pytest.raises(NotComputedError, match="read from a source"):
            question()


def test_new_rows(rows: Source) -> None:
    there, here = (
        mar.random_effects(FORMULA, d, "id", "time").fit() for d in (rows, FRAME)
    )
    few = FRAME.head(7)
    np.testing.assert_allclose(there.predict(few), here.predict(few), rtol=1e-10)
    found, expected = (f.get_prediction(few).summary_frame() for f in (there, here))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("door", DOORS)
def test_predictions_batch_by_batch(rows: Source, door: Door, tmp_path: Path) -> None:
    there, here = (door(FORMULA, d, "id", "time").fit() for d in (rows, FRAME))
    found = pd.concat(there.predict(rows))
    np.testing.assert_allclose(found["predicted"], here.fitted_marginal, rtol=1e-10)
    np.testing.assert_array_equal(found[["id", "time"]], FRAME[["id", "time"]])
    assert there.predict(rows, to=tmp_path / "out.parquet") == tmp_path / "out.parquet"
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), found)
    if door is mar.pooled:
        with pytest.raises(UnsupportedError, match="no estimated effects"):
            there.predict(rows, effects=True)
        return
    found = pd.concat(there.predict(rows, effects=True))
    np.testing.assert_allclose(found["predicted"], here.fittedvalues, rtol=1e-9)


def test_a_fit_can_be_stored(rows: Source) -> None:
    fit = mar.random_effects(FORMULA, rows, "id", "time").fit("clustered")
    again = pickle.loads(pickle.dumps(fit))
    assert str(again.summary()) == str(fit.summary())


def test_bad_rows(tmp_path: Path, rows: Source) -> None:
    twice = pd.concat([FRAME, FRAME.tail(1)])
    with pytest.raises(DuplicateTimeError, match="observed twice"):
        mar.pooled(FORMULA, scanned(twice, tmp_path), "id", "time")
    with pytest.raises(ResponseError, match="constant"):
        mar.pooled("y ~ x", scanned(FRAME.assign(y=1.0), tmp_path), "id")
    with pytest.raises(GroupError, match="all rows belong to one id, 3"):
        mar.fixed_effects("y ~ x", rows, "id", subset="id == 3")
    with pytest.raises(EmptyDataError, match="subset="):
        mar.pooled("y ~ x", rows, "id", subset="x > 100")
    with pytest.raises(TimeError, match="delta="):
        mar.pooled("y ~ x", rows, "id", delta=2)
    with pytest.raises(GroupError, match="entity="):
        mar.pooled("y ~ x", rows)
