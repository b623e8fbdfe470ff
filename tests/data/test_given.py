"""Arrays beside one another: rows by their labels, and numbers that are numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import sparse

import mixedar.formula.api as mar
from helpers.bad_data import make
from mixedar import AR1, MixedLMAR, VarIdent, VarPower
from mixedar.by_group import ByGroupOLS
from mixedar.datasets import load_orthodont
from mixedar.diagnostics.residuals.autocorrelation import autocorrelation
from mixedar.exceptions import (
    DroppedRowsWarning,
    GroupError,
    LengthError,
    MissingDataError,
    MixedARError,
    ResponseError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.panel import FixedEffects, PooledOLS, RandomEffects

DATA = make(seed=3).assign(
    size=lambda d: 1.0 + d["x"] ** 2, arm=lambda d: np.where(d["id"] % 2, "b", "a")
)
DATA.index = pd.Index(np.arange(len(DATA)) * 3 + 7, name="row")
DESIGN = pd.DataFrame({"one": 1.0, "x": DATA["x"]})
TURNED = DATA.sample(frac=1.0, random_state=1)


def arrays(**given: Any) -> Any:
    own = {
        "endog": DATA["y"],
        "exog": DESIGN,
        "groups": DATA["id"],
        "time": DATA["t"],
        "residual": "ar1",
    }
    return MixedLMAR(**{**own, **given}).fit()


def by_formula(**given: Any) -> Any:
    own = {"groups": "id", "time": "t", "residual": "ar1"}
    return mar.mixedlm("y ~ x", DATA, **{**own, **given}).fit()


MIXED = {
    "groups": lambda d: {"groups": d["id"]},
    "time": lambda d: {"time": d["t"]},
    "series": lambda d: {"series": d["arm"]},
    "weights": lambda d: {"weights": d["size"]},
    "exog_re": lambda d: {"exog_re": pd.DataFrame({"one": 1.0, "w": d["w"]})},
    "exog": lambda d: {"exog": pd.DataFrame({"one": 1.0, "x": d["x"]})},
    "residual_data": lambda d: {
        "weights": VarPower("size"),
        "residual_data": d[["size"]],
    },
}


@pytest.mark.parametrize("name", MIXED)
def test_rows_of_mixed_models_go_by_label(name: str) -> None:
    with pytest.raises(UnsupportedError, match=r"another order.*reindex\(endog.index"):
        arrays(**MIXED[name](TURNED))
    other = DATA.reset_index(drop=True)
    with pytest.raises(UnsupportedError, match=r"different row labels.*to_numpy"):
        arrays(**MIXED[name](other))
    # the remedy of the message
    llf = arrays(**MIXED[name](DATA)).llf
    assert_allclose(arrays(**MIXED[name](TURNED.reindex(DATA.index))).llf, llf)


@pytest.mark.parametrize("name", ["groups", "time", "series", "weights"])
def test_rows_beside_a_formula_go_by_label(name: str) -> None:
    with pytest.raises(UnsupportedError, match=r"another order.*reindex\(data.index"):
        by_formula(**MIXED[name](TURNED))
    # numbers that pandas gives are labels too
    with pytest.raises(UnsupportedError, match=r"different row labels.*to_numpy"):
        by_formula(**MIXED[name](DATA.reset_index(drop=True)))
    (key, value), *_ = MIXED[name](DATA).items()
    expected = by_formula(**{key: value}).llf
    assert_allclose(by_formula(**{key: value.to_numpy()}).llf, expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda d: FixedEffects(DATA["y"], DATA[["x"]], d["id"]),
        lambda d: RandomEffects(DATA["y"], DESIGN, DATA["id"], d["t"]),
        lambda d: PooledOLS(DATA["y"].to_numpy(), DESIGN, d["id"]),
        lambda d: mar.pooled("y ~ x", DATA, d["id"], "t"),
        lambda d: mar.fixed_effects("y ~ x", DATA, "id", d["t"]),
        lambda d: ByGroupOLS(DATA["y"], DESIGN, d["id"]),
        lambda d: mar.by_group("y ~ x", DATA, d["id"]),
        lambda d: autocorrelation(DATA["y"], groups=d["id"], time=DATA["t"]),
        lambda d: by_formula().get_prediction(DATA, "group", groups=d["id"]),
        lambda d: by_formula().heteroscedasticity_test(by=d["size"]),
        lambda d: arrays().model.with_residual(
            "ar1", VarPower("size"), residual_data=d[["size"]]
        ),
        lambda d: arrays().model.refit(d["y"]),
        lambda d: mar.by_group("y ~ x", DATA, "id").predict(DATA, d["id"]),
    ],
)
def test_rows_go_by_label_elsewhere(call: Callable[[pd.DataFrame], Any]) -> None:
    call(DATA)
    for other in (TURNED, DATA.reset_index(drop=True)):
        with pytest.raises(UnsupportedError, match="different row labels"):
            call(other)


def test_clusters_are_matched_by_label() -> None:
    state = pd.Series(DATA["id"] % 7, name="state")
    model = mar.fixed_effects("y ~ x", DATA.assign(state=state), "id", "t")
    expected = model.fit("clustered", cluster="state").bse
    for labels in (state, state.sample(frac=1.0, random_state=2), state.to_numpy()):
        assert_allclose(model.fit("clustered", cluster=labels).bse, expected)
    two = model.fit("clustered", cluster=("state", "time")).bse
    turned = pd.DataFrame({"state": state, "t": DATA["t"]}).iloc[::-1]
    assert_allclose(model.fit("clustered", cluster=turned).bse, two)
    with pytest.raises(UnsupportedError, match="different row labels"):
        model.fit("clustered", cluster=state.reset_index(drop=True))
    # the index says which rows were left out
    gone = DATA.assign(state=state, x=DATA["x"].where(DATA.index != 10))
    with pytest.warns(DroppedRowsWarning):
        less = mar.fixed_effects("y ~ x", gone, "id", "t", missing="drop")
    assert_allclose(
        less.fit("clustered", cluster=state).bse,
        less.fit("clustered", cluster="state").bse,
    )
    part = mar.fixed_effects("y ~ x", gone, "id", "t", subset=gone["id"] > 3)
    assert_allclose(
        part.fit("clustered", cluster=state.iloc[::-1]).bse,
        part.fit("clustered", cluster="state").bse,
    )
    with pytest.raises(LengthError, match="cluster= has 150 labels"):
        less.fit("clustered", cluster=state.to_numpy())
    with pytest.raises(UnsupportedError, match="name a column"):
        model.fit("clustered", cluster=3)
    # 1 and "1" are two clusters
    mixed = [str(k) if j % 2 else k for j, k in enumerate(state)]
    info = model.fit("clustered", cluster=mixed).estimate.info
    assert info.clusters == (14,)


# What is no number


@pytest.mark.parametrize(
    "column",
    [
        DATA["y"] + 1j,
        pd.Timestamp("2020-01-01") + pd.to_timedelta(DATA["t"], unit="D"),
        pd.to_timedelta(DATA["t"], unit="D"),
        DATA["y"].astype(str),
        DATA["y"].astype(str).astype(object),
        DATA["t"].astype("category"),
        pd.Series([np.timedelta64(k, "D") for k in range(150)], DATA.index, object),
    ],
    ids=["complex", "date", "duration", "text", "object", "category", "objects"],
)
def test_what_is_no_number_is_refused(column: pd.Series) -> None:
    exog = pd.DataFrame({"one": 1.0, "x": column})
    for call in (
        lambda: RandomEffects(column, DESIGN, DATA["id"], DATA["t"]),
        lambda: PooledOLS(DATA["y"], exog, DATA["id"]),
        lambda: PooledOLS(DATA["y"].to_numpy(), exog.to_numpy(), DATA["id"]),
        lambda: ByGroupOLS(DATA["y"], exog, DATA["id"]),
        lambda: arrays(endog=column),
        lambda: arrays(exog=exog),
        lambda: arrays(exog_re=exog),
    ):
        if column.dtype == "category" and call.__code__.co_names[-1] == "to_numpy":
            continue
        with pytest.raises((ResponseError, UnsupportedError), match="not numeric"):
            call()


def test_a_response_of_text_names_what_is_no_number() -> None:
    data = DATA.assign(y=DATA["y"].astype(str))
    with pytest.raises(ResponseError, match=r"not numeric; convert it.*astype"):
        mar.mixedlm("y ~ x", data, groups="id")
    data.loc[data.index[2], "y"] = "n/k"
    with pytest.raises(ResponseError, match=r"holds 'n/k': .*to_numeric\(data\['y'\]"):
        mar.mixedlm("y ~ x", data, groups="id")
    data["y"] = pd.to_numeric(data["y"], errors="coerce")
    with pytest.warns(DroppedRowsWarning, match="1 row with"):
        mar.mixedlm("y ~ x", data, groups="id", missing="drop")


def test_numbers_of_other_types() -> None:
    expected = PooledOLS(DATA["y"], DESIGN, DATA["id"]).fit().params
    for exog in (
        DESIGN.convert_dtypes(),
        DESIGN.astype(object),
        DESIGN.assign(one=True),
        DESIGN.astype(np.float64).astype(">f8"),
    ):
        found = PooledOLS(DATA["y"], exog, DATA["id"]).fit().params
        assert_allclose(found, expected)
        assert_allclose(arrays(exog=exog).llf, arrays().llf)
    missing = DESIGN.convert_dtypes()
    missing.iloc[3, 1] = pd.NA
    with pytest.raises(MissingDataError, match="'x'"):
        PooledOLS(DATA["y"], missing, DATA["id"])


def masked(column: pd.Series, row: int, value: Any) -> np.ma.MaskedArray:
    values = column.to_numpy().copy()
    values[row] = value
    return np.ma.masked_array(values, mask=np.arange(len(values)) == row)


def test_masked_labels_are_missing() -> None:
    rng = np.random.default_rng(3)
    y, x, t = rng.normal(size=40), np.ones((40, 1)), np.tile(np.arange(5), 8)
    names = np.repeat(list("abcdefgh"), 5)
    masked = np.ma.array(names, mask=np.arange(40) == 7)
    for build in (
        lambda: MixedLMAR(y, x, masked),
        lambda: MixedLMAR(y, x, np.repeat([0, 1], 20), time=t, series=masked),
        lambda: PooledOLS(y, x, masked, t),
        lambda: ByGroupOLS(y, x, masked),
        lambda: mar.mixedlm("y ~ 1", {"y": y}, groups=masked),
    ):
        with pytest.raises(MissingDataError, match="missing"):
            build()
    fit = mar.mixedlm("y ~ 1", {"y": y, "g": names}, groups="g", re_formula="0").fit()
    with pytest.raises(MissingDataError, match="missing labels"):
        mar.cross_validate(fit, folds=masked)
    days = np.datetime64("2024-01-01") + t.astype("m8[D]")
    with pytest.raises(MissingDataError, match="is missing in 1 rows"):
        MixedLMAR(y, x, names, time=np.ma.array(days, mask=masked.mask))


def test_masked_values_are_missing() -> None:
    y, n = masked(DATA["y"], 3, 1e6), len(DATA)
    x, ids = DESIGN.to_numpy(), DATA["id"].to_numpy()
    kept = np.arange(n) != 3
    for model in (MixedLMAR, PooledOLS, ByGroupOLS):
        with pytest.raises(MissingDataError):
            model(y, x, ids)
        with pytest.warns(DroppedRowsWarning, match="1 row"):
            found = model(y, x, ids, missing="drop").fit()
        expected = model(y.data[kept], x[kept], ids[kept]).fit()
        assert_allclose(np.asarray(found.params), np.asarray(expected.params))
    for name, column in {"groups": "id", "time": "t", "series": "t"}.items():
        with pytest.raises(MissingDataError, match=r"missing"):
            arrays(**{name: masked(DATA[column], 5, 1)})
        with pytest.raises(MissingDataError, match="issing"):
            by_formula(**{name: masked(DATA[column], 5, 1)})
    with pytest.raises(MissingDataError, match="cluster="):
        mar.pooled("y ~ x", DATA, "id", "t").fit(
            "clustered", cluster=masked(DATA["id"], 5, 1)
        )
    # a mask that hides nothing is none
    plain = np.ma.masked_array(DATA["id"].to_numpy())
    assert_allclose(arrays(groups=plain).llf, arrays().llf)


def test_other_kinds_of_arrays() -> None:
    n, x = len(DATA), DESIGN.to_numpy()
    with pytest.raises(LengthError, match="exog is missing"):
        arrays(exog=None)
    with pytest.raises(LengthError, match="3 dimensions"):
        arrays(exog=x[:, :, None])
    with pytest.raises(UnsupportedError, match="toarray"):
        arrays(exog=sparse.csr_array(x))
    with pytest.raises(UnsupportedError, match="toarray"):
        PooledOLS(DATA["y"], sparse.csr_array(x), DATA["id"])
    big = DATA["id"].to_numpy().astype(">i8")
    assert_allclose(arrays(groups=big, time=DATA["t"].to_numpy().astype(">i4")).llf,
                    arrays().llf)  # fmt: skip
    with pytest.raises(GroupError, match="cannot be told apart"):
        by_formula(groups=pd.Series([[k] for k in range(n)], DATA.index))
    with pytest.raises(MixedARError, match="dict of names"):
        mar.mixedlm("y ~ x", DATA, groups="id", vc_formula={3: "0 + C(arm)"})
    with pytest.raises(UnsupportedError, match="2 columns named"):
        PooledOLS(DATA["y"], DESIGN.set_axis(["x", "x"], axis=1), DATA["id"])
    with pytest.raises(UnknownColumnError, match="'size'"):
        arrays(weights=VarPower("size"))


def test_frames_of_other_packages() -> None:
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    nw = pytest.importorskip("narwhals")
    plain = DATA.reset_index(drop=True)
    table = pl.from_pandas(plain)
    expected = arrays()
    y, x, ids, t = table["y"], pl.from_pandas(DESIGN), table["id"], table["t"]
    found = MixedLMAR(y, x, ids, time=t, residual="ar1").fit()
    assert_allclose(found.llf, expected.llf)
    assert list(found.params.index) == list(expected.params.index)
    beside = arrays(exog=x, groups=ids)  # without labels of their own
    assert_allclose(beside.llf, expected.llf)
    fit = by_formula()
    right = fit.predict(DATA).to_numpy()
    for frame in (
        table,
        pa.Table.from_pandas(plain),
        nw.from_native(table),
        dict(plain),
    ):
        got = fit.predict(frame)
        assert isinstance(got, pd.Series)
        assert_allclose(got, right)
        assert_allclose(fit.get_prediction(frame).predicted_mean, right)
    panel = mar.pooled("y ~ x", table, "id", "t").fit()
    got = panel.predict(table)
    assert isinstance(got, pd.Series)
    assert_allclose(got, mar.pooled("y ~ x", DATA, "id", "t").fit().predict(DATA))
    own = mar.by_group("y ~ x", table, "id").predict(table)
    assert_allclose(own, mar.by_group("y ~ x", DATA, "id").predict(DATA))


def test_fewer_rows_are_no_other_order() -> None:
    frame = pd.DataFrame({"y": [0.3, 1.2, 0.1, 2.0] * 3, "id": [0, 0, 1, 1, 2, 2] * 2})
    model = MixedLMAR.from_formula("y ~ 1", frame, groups="id")
    with pytest.raises(LengthError, match=r"5 rows but .* has 12"):
        model.refit(frame["y"][:5])
    with pytest.raises(LengthError, match=r"5 .* 12 rows|5 rows but .* 12"):
        MixedLMAR.from_formula("y ~ 1", frame, groups=frame["id"][:5])
    with pytest.raises(LengthError, match=r"14 rows but .* has 12"):
        model.refit(pd.Series(range(14)))


def test_lazy_frames_are_collected() -> None:
    polars = pytest.importorskip("polars")
    teeth = load_orthodont()
    lazy = polars.from_pandas(teeth.astype({"subject": str})).lazy()
    call: dict[str, Any] = {"groups": "subject", "time": "occ"}
    fit = mar.mixedlm("distance ~ age", lazy, **call).fit()
    expected = mar.mixedlm("distance ~ age", teeth, **call).fit()
    np.testing.assert_allclose(fit.params, expected.params, rtol=1e-6)
    np.testing.assert_allclose(fit.predict(lazy.head(3)), expected.predict(teeth[:3]))


@pytest.mark.parametrize(
    "model",
    [
        {"weights": VarIdent("nobody")},
        {"weights": VarPower("nobody")},
        {"residual": AR1(by="nobody")},
    ],
)
def test_columns_of_structures_are_named_with_their_argument(model: Any) -> None:
    with pytest.raises(UnknownColumnError, match="residual= or weights='nobody' is"):
        mar.mixedlm(
            "distance ~ age", load_orthodont(), groups="subject", time="occ", **model
        )


@pytest.mark.parametrize(
    ("weights", "hint"),
    [
        ("ww", "'varIdent', 'varPower'"),
        ("varpow", "mean the variance function 'varPower'"),
        ("agee", "mean 'age'"),
        (["varIdent", "ww"], "'varIdent', 'varPower'"),
    ],
)
def test_texts_that_are_no_weights(weights: Any, hint: str) -> None:
    message = f"weights=.* neither a column of the data nor a variance.*{hint}"
    model = mar.mixedlm("distance ~ age", load_orthodont(), groups="subject")
    with pytest.raises(UnknownColumnError, match=message):
        mar.mixedlm(
            "distance ~ age", load_orthodont(), groups="subject", weights=weights
        )
    with pytest.raises(UnknownColumnError, match=message):
        model.with_residual("independent", weights=weights)


def test_groups_of_several_columns_are_told_the_bars() -> None:
    teeth = load_orthodont().assign(site=lambda data: data["sex"])
    with pytest.raises(GroupError, match=r"add \(1 \| site/subject\)"):
        mar.mixedlm("distance ~ age", teeth, groups=["site", "subject"])
    mar.mixedlm("distance ~ age + (1 | site/subject)", teeth)


def test_labels_of_several_levels_are_no_labels_of_rows() -> None:
    levels = pd.MultiIndex.from_frame(DATA[["id", "t"]])
    given = DATA["size"].set_axis(levels)
    calls: list[Callable[[], Any]] = [
        lambda: by_formula(offset=given),
        lambda: by_formula(weights=given),
        lambda: arrays(groups=DATA["id"].set_axis(levels)),
        lambda: mar.pooled("y ~ x", DATA, "id", "t", weights=given),
        lambda: mar.pooled("y ~ x", DATA, "id", "t").fit("clustered", cluster=given),
    ]
    for call in calls:
        with pytest.raises(MixedARError, match=r"labels of 2 levels \('id', 't'\)"):
            call()


def test_messages_do_not_write_out_whole_columns() -> None:
    calls: list[Callable[[], Any]] = [
        lambda: by_formula().influence(DATA["arm"]),
        lambda: mar.cross_validate(by_formula().model, by=DATA["arm"]),
        lambda: mar.pooled("y ~ x", DATA, "id", "t").fit(
            "clustered", cluster=DATA[["id", "t"]].to_numpy()
        ),
    ]
    for call in calls:
        with pytest.raises(MixedARError, match=f"of length {len(DATA)}") as caught:
            call()
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("estimator", [mar.mixedlm, mar.fixed_effects, mar.by_group])
def test_a_warning_is_of_the_line_that_called(estimator) -> None:
    frame = pd.DataFrame({"y": np.arange(12.0) % 5.0, "x": np.arange(12.0)})
    frame["g"], frame.loc[3, "y"] = np.repeat(range(4), 3), np.nan
    name = "entity" if estimator is mar.fixed_effects else "groups"
    with pytest.warns(DroppedRowsWarning) as caught:
        estimator("y ~ x", frame, **{name: "g"}, missing="drop")
    assert caught[0].filename == __file__
