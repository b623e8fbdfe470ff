"""Designs equal statsmodels' own, for both formula engines, and bad input."""

import copy
import pickle
import re
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import sparse
from statsmodels.regression.mixed_linear_model import MixedLM

from mixedar.data.formula import (
    Design,
    build_design,
    capture_namespace,
)
from mixedar.data.formula import spec as spec_module
from mixedar.data.formula.components import vc_spec
from mixedar.data.formula.names import indicator_factor, read_formula, split_formula
from mixedar.exceptions import (
    EmptyDataError,
    GroupError,
    LengthError,
    MissingDataError,
    MixedARError,
    ResponseError,
    UnknownColumnError,
    UnsupportedError,
)


def times_two(x):
    return 2 * x


NAMES = {"np": np, "times_two": times_two, "offset": 3.0}


@pytest.fixture(params=["patsy", "formulaic"])
def engine(request) -> Iterator[str]:
    options = statsmodels.formula.options
    before = options.formula_engine
    options.formula_engine = request.param
    yield request.param
    options.formula_engine = before


def make_data(n_groups: int = 12, seed: int = 3, shuffle: bool = False):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 7, n_groups)
    ids = np.repeat(np.arange(n_groups), sizes)
    n = len(ids)
    data = pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "id": ids * 7 % 101,
            "person": [f"p{i:02d}" for i in ids],
            "time": np.concatenate([np.arange(k) for k in sizes]),
            "x": rng.uniform(0.5, 2.0, n),
            "z": rng.normal(size=n).astype(np.float32),
            "k": rng.integers(1, 4, n),
            "treatment": rng.choice(["drug", "placebo", "Other", "ärzte"], n),
            "obj": rng.choice(["u", "v", "w"], n).astype(object),
            "cat": pd.Categorical(
                rng.choice(["lo", "mid", "hi"], n), ["lo", "mid", "hi", "never"]
            ),
            "flag": rng.random(n) < 0.5,
            "mixed": rng.choice(np.array([1, 2, True], dtype=object), n),
        }
    )
    if shuffle:
        data = data.sample(frac=1.0, random_state=seed)
    return data


def parent(formula, data, **kwargs) -> SimpleNamespace:
    model = MixedLM.from_formula(formula, data, eval_env=dict(NAMES), **kwargs)
    vc = model.exog_vc
    return SimpleNamespace(
        endog=model.endog,
        endog_name=model.endog_names,
        exog=model.exog,
        exog_names=model.exog_names,
        exog_re=model.exog_re if model.k_re else None,
        exog_re_names=list(model.data.exog_re_names),
        groups=model.groups,
        vc=vc,
    )


# With levels, or combinations of levels, that have no rows (or one alone).
EMPTY = ["y ~ treatment*obj*x", "y ~ cat + time", "y ~ C(cat)", "z ~ x + mixed"]


def with_rows(formula: str, expected: SimpleNamespace) -> SimpleNamespace:
    """What the parent has, less columns of levels (and combinations) without rows."""
    if formula not in EMPTY:
        return expected
    kept: list[int] = []
    for j in range(expected.exog.shape[1]):
        if np.linalg.matrix_rank(expected.exog[:, [*kept, j]]) > len(kept):
            kept.append(j)
    expected.exog = expected.exog[:, kept]
    expected.exog_names = [expected.exog_names[j] for j in kept]
    return expected


def assert_same(
    design: Design, expected: SimpleNamespace, use_sparse: bool = False
) -> None:
    assert_array_equal(design.endog, expected.endog)
    assert design.endog_name == expected.endog_name
    assert_array_equal(design.exog, expected.exog)
    assert design.exog_names == expected.exog_names
    if expected.exog_re is None:
        assert design.exog_re is None
    else:
        assert_array_equal(design.exog_re, expected.exog_re)
    assert design.exog_re_names == expected.exog_re_names
    assert_array_equal(design.group_values, expected.groups)
    vc = vc_spec(design.vc, use_sparse)
    assert vc.names == expected.vc.names
    for j, part in enumerate(design.vc):
        names, matrices = expected.vc.colnames[j], expected.vc.mats[j]
        assert len(vc.mats[j]) == len(matrices)
        dense = [b.toarray() if sparse.issparse(b) else b for b in matrices]
        # levels, and combinations of them, without rows in any group are left out
        pairs = list(zip(names, dense, strict=True))
        seen = {n for k, b in pairs for n, v in zip(k, b.T, strict=True) if v.any()}
        for i, (each, b) in enumerate(pairs):
            at = [k for k, n in enumerate(each) if part.codes is not None or n in seen]
            assert vc.colnames[j][i] == [each[k] for k in at]
            a = vc.mats[j][i]
            assert sparse.issparse(a) == sparse.issparse(matrices[i])
            assert_array_equal(a.toarray() if sparse.issparse(a) else a, b[:, at])


FORMULAS = [
    "y ~ time + treatment",
    "y~time",
    "y ~ 1",
    "y ~ 0 + time",
    "y ~ treatment - 1",
    "y ~ 0 + treatment + obj",
    "y ~ time * treatment",
    "y ~ x:z + obj:time",
    "y ~ treatment*obj*x",
    "y ~ (x + z + time)**2",
    "y ~ C(k)",
    "y ~ C(k) + k",
    "y ~ C(k):x",
    "y ~ 0 + C(k) + C(treatment)",
    "y ~ C(treatment, Treatment('placebo'))",
    "y ~ C(treatment, Treatment(reference='placebo')) + x",
    "y ~ C(obj, levels=['w', 'u', 'v'])",
    "y ~ C(obj, Sum) + time",
    "y ~ cat + time",
    "y ~ C(cat)",
    "y ~ flag",
    "y ~ C(flag) + x",
    "y ~ np.log(x) + I(x**2)",
    "y ~ I(x + z) + np.exp(np.sqrt(x))",
    "np.log(x) ~ time",
    "I(y + x) ~ time",
    "y ~ times_two(x) + time",
    "y ~ center(x) + time",
    "y ~ bs(x, df=4)",
    "y ~ x.clip(1, 1.5) + time",
    "y ~ I(treatment == 'drug') + time",
    "y ~ treatment + I(treatment == 'drug')",
    "y ~ np.where(time > 2, x, z)",
    "z ~ x + mixed",
]


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_fixed_part_is_the_parents(engine, formula, shuffle):
    data = make_data(shuffle=shuffle)
    expected = with_rows(formula, parent(formula, data, groups="id"))
    design = build_design(formula, data, groups="id", eval_env=NAMES)
    assert_same(design, expected)
    assert design.frame is data
    assert design.n_dropped == 0
    assert design.index.equals(data.index)
    assert_array_equal(design.model_spec.matrix(data), expected.exog)


@pytest.mark.parametrize("formula", FORMULAS)
def test_blocks_change_nothing(engine, formula, monkeypatch):
    data = make_data()
    monkeypatch.setattr(spec_module, "BLOCK", 7)
    design = build_design(formula, data, groups="id", eval_env=NAMES)
    assert_same(design, with_rows(formula, parent(formula, data, groups="id")))


RE_FORMULAS = [
    None,
    "1",
    "~1",
    "time",
    "~time",
    "1 + time",
    "0 + z",
    "~ treatment",
    "0 + treatment",
    "~ time + np.log(x)",
    "~ times_two(x)",
]


@pytest.mark.parametrize("re_formula", RE_FORMULAS)
@pytest.mark.parametrize("groups", ["person", "id", "array", "series"])
def test_random_part_is_the_parents(engine, re_formula, groups):
    data = make_data(shuffle=True)
    labels = {
        "array": data["id"].to_numpy(),
        "series": data["person"],
    }.get(groups, groups)
    design = build_design(
        "y ~ x", data, groups=labels, re_formula=re_formula, eval_env=NAMES
    )
    assert_same(design, parent("y ~ x", data, groups=labels, re_formula=re_formula))
    assert design.groups_name == (groups if groups in data else "Group")


@pytest.mark.parametrize("text", ["0", "~0", "-1", "~ -1"])
def test_no_random_effects(engine, text):
    design = build_design("y ~ x", make_data(), groups="id", re_formula=text)
    assert design.exog_re is None
    assert design.exog_re_names == []


VC = [
    {"k": "0 + C(k)"},
    {"k": "0+C( k )", "obj": "C(obj) - 1"},
    {"b": "0 + obj", "a": "0 + treatment"},
    {"cat": "0 + cat", "ccat": "0 + C(cat)"},
    {"z": "0 + C(zz)"},
    {"time": "0 + time"},
    {"time": "~ time", "one": "1"},
    {"all": "0 + x + z + x:z + I(time**2) + np.log(x)"},
    {"flag": "0 + flag", "cflag": "0 + C(flag)"},
    {"k": "C(k)"},
    {"k": "obj"},
    {"ab": "0 + C(k):C(obj)"},
    {"slope": "0 + C(k):x"},
    {"centred": "0 + center(x)"},
    {"own": "0 + times_two(x)", "sum": "0 + I(x - x.mean())"},
    {"mixed": "0 + C(mixed)"},
]


@pytest.mark.parametrize("vc_formula", VC)
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("use_sparse", [False, True])
def test_variance_components_are_the_parents(engine, vc_formula, shuffle, use_sparse):
    data = make_data(n_groups=4, shuffle=shuffle)
    data["zz"] = data["k"] / 2
    design = build_design(
        "y ~ x",
        data,
        groups="id",
        vc_formula=vc_formula,
        eval_env=NAMES,
    )
    expected = parent(
        "y ~ x", data, groups="id", vc_formula=vc_formula, use_sparse=use_sparse
    )
    assert_same(design, expected, use_sparse)
    assert [part.name for part in design.vc] == sorted(vc_formula)
    assert design.exog_re is None


def test_variance_component_layouts():
    data = make_data(n_groups=6)
    design = build_design(
        "y ~ x",
        data,
        groups="id",
        re_formula="1",
        vc_formula={"c": "0 + cat", "d": "0 + time", "e": "C(k)"},
    )
    c, d, e = design.vc
    assert c.codes is not None
    assert d.codes is e.codes is None
    assert design.exog_re is not None
    labels = np.unique(design.group_values)
    for i, label in enumerate(labels):
        here = data[data["id"] == label]
        # Only the levels of the group, unlike statsmodels' zero columns.
        assert c.n_columns[i] == here["cat"].nunique()
        names = c.column_names(i)
        codes = c.codes[(data["id"] == label).to_numpy()]
        assert [f"cat[{v}]" for v in here["cat"]] == [names[j] for j in codes]
        assert_array_equal(c.group_matrix(i).sum(axis=1), 1.0)
        width = e.n_columns[i]
        rows = (data["id"] == label).to_numpy()
        assert not e.matrix[rows, width:].any()
    mats = vc_spec(design.vc).mats[0]
    assert len(mats[1:3]) == 2
    assert_array_equal(mats[-1], mats[len(mats) - 1])
    with pytest.raises(IndexError):
        mats[len(mats)]


def test_components_of_many_groups_are_quick():
    n = 60_000
    ids = np.repeat(np.arange(n // 6), 6)
    rng = np.random.default_rng(0)
    data = pd.DataFrame(
        {"y": rng.normal(size=n), "id": ids, "room": ids * 10 + rng.integers(0, 3, n)}
    )
    (part,) = build_design(
        "y ~ 1", data, groups="id", vc_formula={"room": "0 + C(room)"}
    ).vc
    expected = data.groupby("id")["room"].nunique().to_numpy()
    assert_array_equal(part.n_columns, expected)
    assert_array_equal(
        part.codes, data.groupby("id")["room"].rank("dense").to_numpy() - 1
    )


# Data in many shapes ---------------------------------------------------------


def test_kinds_of_data_agree():
    data = make_data().drop(columns=["cat", "mixed", "flag"])
    base = build_design("y ~ x + treatment", data, groups="id", time="time")
    kinds = [
        data.to_dict("list"),
        {name: data[name].to_numpy() for name in data},
        data.to_records(index=False),
        data.convert_dtypes(),
        data.convert_dtypes(dtype_backend="pyarrow"),
        data.astype({"treatment": "category", "id": "category"}),
        data.set_index(np.repeat(5, len(data))),
        data.set_index(["id", "time"]),
    ]
    for kind in kinds:
        design = build_design("y ~ x + treatment", kind, groups="id", time="time")
        assert_array_equal(design.exog, base.exog)
        assert_array_equal(design.endog, base.endog)
        assert design.exog_names == base.exog_names
        assert_array_equal(np.asarray(design.group_values), base.group_values)
        assert_array_equal(np.asarray(design.time, dtype=int), base.time)
        assert design.groups_name == "id"
        assert design.time_name == "time"


def test_nullable_columns_with_missing_values():
    data = make_data().convert_dtypes()
    data.loc[[3, 5], "k"] = pd.NA
    data.loc[7, "flag"] = pd.NA
    data.loc[9, "treatment"] = pd.NA
    design = build_design("y ~ k + flag + treatment", data, groups="id", missing="drop")
    assert design.n_dropped == 4
    kept = data.drop(index=[3, 5, 7, 9]).astype({"flag": bool, "k": int})
    expected = build_design("y ~ k + flag + treatment", kept, groups="id")
    assert_array_equal(design.exog, expected.exog)
    assert design.exog_names == expected.exog_names
    with pytest.raises(MissingDataError, match=r"1 missing value in 'flag' \(row 7\)"):
        build_design("y ~ k + flag", data, groups="id")


def test_times_keep_their_type():
    data = make_data()
    days = pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(data["time"], "D")
    data["day"] = days
    data["month"] = pd.PeriodIndex(days.dt.tz_localize(None), freq="M")
    for name in ("day", "month"):
        design = build_design("y ~ x", data, groups="id", time=name)
        pd.testing.assert_series_equal(design.time, data[name])
    design = build_design("y ~ x", data, groups="id", time=days.to_numpy())
    assert design.time_name is None
    assert len(design.time) == len(data)
    data.loc[4, "day"] = pd.NaT
    design = build_design("y ~ x", data, groups="id", time="day", missing="drop")
    assert design.n_dropped == 1
    assert 4 not in design.index


def test_series_from_several_columns():
    data = make_data()
    design = build_design("y ~ x", data, groups="id", series=["id", "flag"])
    assert design.series.name == "id / flag"
    expected = data.groupby(["id", "flag"]).ngroup()
    table = pd.crosstab(design.series, expected)
    assert ((table > 0).sum(axis=0) == 1).all()
    assert ((table > 0).sum(axis=1) == 1).all()
    assert str(design.series.iloc[0]) == f"{data['id'][0]} / {data['flag'][0]}"
    data["a"] = ["1 / 2", "1", *["3"] * (len(data) - 2)]
    data["b"] = ["3", "2 / 3", *["3"] * (len(data) - 2)]
    data.loc[5, "b"] = None
    design = build_design("y ~ x", data, groups="id", series=["a", "b"], missing="drop")
    assert design.series.nunique() == 3
    assert design.n_dropped == 1
    alone = build_design("y ~ x", data, groups="id", series="k")
    assert_array_equal(alone.series, data["k"])


def test_groups_may_be_absent():
    design = build_design("y ~ x", make_data(), require_groups=False)
    assert design.group_values is None
    assert design.exog_re is None
    assert design.exog_re_names == []
    with pytest.raises(GroupError, match="groups="):
        build_design("y ~ x", make_data())
    with pytest.raises(GroupError, match="groups="):
        build_design(
            "y ~ x", make_data(), vc_formula={"a": "0 + k"}, require_groups=False
        )


# Subset and missing values ---------------------------------------------------


@pytest.mark.parametrize(
    "subset",
    [
        lambda d: d["time"] > 0,
        lambda d: (d["time"] > 0).to_numpy(),
        lambda d: (d["time"] > 0).tolist(),
        lambda d: (d["time"] > 0).sample(frac=1, random_state=1),
        lambda d: d.index[5:20],
        lambda d: slice(d.index[3], d.index[17]),
        lambda d: [d.index[9], d.index[2], d.index[11], d.index[10]],
    ],
)
def test_subset_is_loc(subset):
    data = make_data(shuffle=True)
    chosen = subset(data)
    design = build_design(
        "y ~ x + treatment",
        data,
        groups=data["id"].to_numpy(),
        time="time",
        subset=chosen,
        re_formula="~time",
        extra={"w": data["z"], "two": data[["x", "z"]]},
    )
    part = data.loc[chosen]
    expected = build_design("y ~ x + treatment", part, groups="id", re_formula="~time")
    assert_array_equal(design.exog, expected.exog)
    assert design.exog_names == expected.exog_names
    assert_array_equal(design.group_values, part["id"])
    assert_array_equal(design.time, part["time"])
    assert_array_equal(design.extra["w"], part["z"])
    assert_array_equal(design.extra["two"], part[["x", "z"]])
    assert design.index.equals(part.index)
    pd.testing.assert_frame_equal(design.frame, part)
    assert design.n_dropped == 0


def test_bad_subsets():
    data = make_data()
    with pytest.raises(LengthError, match="subset="):
        build_design("y ~ x", data, groups="id", subset=[True, False])
    with pytest.raises(UnknownColumnError, match="999"):
        build_design("y ~ x", data, groups="id", subset=[1, 999])
    with pytest.raises(EmptyDataError, match="subset"):
        build_design("y ~ x", data, groups="id", subset=data["x"] > 99)
    mask = pd.array([True, None] + [False] * (len(data) - 2), dtype="boolean")
    with pytest.raises(MissingDataError, match="subset"):
        build_design("y ~ x", data, groups="id", subset=mask)
    mask = (data["x"] > 1).set_axis(np.arange(len(data)) + 5)
    with pytest.raises(LengthError, match="index of subset="):
        build_design("y ~ x", data, groups="id", subset=mask)


def test_rows_are_dropped_jointly(engine):
    data = make_data(shuffle=True)
    gone = data.index[[0, 4, 5, 8, 11, 13, 17]]
    for row, name in zip(
        gone, ["y", "x", "treatment", "z", "obj", "person", "time"], strict=True
    ):
        data[name] = data[name].astype(float if name == "time" else data[name].dtype)
        data.loc[row, name] = None if data[name].dtype == object else np.nan
    data.loc[data.index[15], "k"] = 99  # not missing
    weights = data["x"].to_numpy().copy()
    weights[20] = np.nan
    arguments = {
        "groups": "person",
        "re_formula": "0 + z",
        "vc_formula": {"v": "0 + obj"},
        "time": "time",
        "extra": {"w": weights},
    }
    design = build_design("y ~ x + treatment", data, missing="drop", **arguments)
    assert design.n_dropped == 8
    complete = data.drop(index=[*gone, data.index[20]])
    arguments["extra"] = {}
    expected = parent(
        "y ~ x + treatment",
        complete,
        **{k: v for k, v in arguments.items() if k not in ("time", "extra")},
    )
    assert_same(design, expected)
    assert design.index.equals(complete.index)
    assert_array_equal(design.index, complete.index)
    lost = [0, 4, 5, 8, 11, 13, 17, 20]
    assert_array_equal(design.extra["w"], np.delete(weights, lost))
    pd.testing.assert_frame_equal(design.frame, complete)
    for missing in ("none", "raise"):
        with pytest.raises(MissingDataError) as caught:
            build_design("y ~ x + treatment", data, missing=missing, **arguments)
        for name, row in zip(["y", "x", "treatment"], gone, strict=False):
            assert f"1 missing value in '{name}' (row {row})" in str(caught.value)


def test_unused_columns_do_not_matter():
    data = make_data()
    data["z"] = np.nan
    assert build_design("y ~ x", data, groups="id", missing="drop").n_dropped == 0
    build_design("y ~ x", data, groups="id")


def test_levels_that_go_with_dropped_rows_leave_no_column(engine):
    data = make_data()
    data.loc[data["treatment"] == "placebo", "x"] = -1.0
    design = build_design(
        "y ~ np.log(x) + treatment", data, groups="id", missing="drop", eval_env=NAMES
    )
    assert design.n_dropped == (data["treatment"] == "placebo").sum()
    expected = parent("y ~ np.log(x) + treatment", data[data["x"] > 0], groups="id")
    assert_same(design, expected)
    with pytest.raises(MissingDataError, match=r"np\.log\(x\)"):
        build_design("y ~ np.log(x)", data, groups="id", eval_env=NAMES)


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ times_two(np.log(x)) + treatment + z",
        "y ~ C(treatment.where(x > 1)) + z",
    ],
)
def test_missing_results_under_repeated_labels(engine, formula):
    data = make_data(shuffle=True)
    data["x"] -= 0.2
    if "log" in formula:
        data["x"] -= 0.4
    repeated = data.set_index(np.repeat(7, len(data)))
    gone = (data["x"] <= 1) if "log" not in formula else (data["x"] <= 0)
    design = build_design(
        formula, repeated, groups="id", missing="drop", eval_env=NAMES
    )
    assert_same(design, parent(formula, data[~gone], groups="id"))
    assert design.n_dropped == gone.sum()
    with pytest.raises(
        MissingDataError, match=rf"{gone.sum()} missing values in the result"
    ):
        build_design(formula, repeated, groups="id", eval_env=NAMES)


def test_functions_may_deal_with_missing_values(engine):
    data = make_data()
    data.loc[[2, 6], "x"] = np.nan
    design = build_design("y ~ x.fillna(0)", data, groups="id")
    assert_array_equal(design.exog[:, 1], data["x"].fillna(0))
    with pytest.raises(
        MissingDataError, match=r"2 missing values in 'x' \(rows 2, 6\)"
    ):
        build_design("y ~ times_two(x)", data, groups="id", eval_env=NAMES)
    design = build_design(
        "y ~ center(x)", data, groups="id", missing="drop", eval_env=NAMES
    )
    assert design.n_dropped == 2
    assert abs(design.exog[:, 1].mean()) < 1e-12


@pytest.mark.parametrize("missing", ["none", "raise", "drop"])
def test_infinite_values_are_errors(engine, missing):
    data = make_data()
    data.loc[3, "x"] = 0.0
    with pytest.raises(MissingDataError, match=r"infinite value.*np\.log\(x\).*row 3"):
        build_design(
            "y ~ np.log(x)", data, groups="id", missing=missing, eval_env=NAMES
        )
    data.loc[3, "z"] = np.inf
    with pytest.raises(MissingDataError, match=r"infinite value.*'z'.*row 3"):
        build_design("y ~ 1", data, groups="id", re_formula="z", missing=missing)
    with pytest.raises(MissingDataError, match=r"infinite value.*'z'.*row 3"):
        build_design("z ~ 1", data, groups="id", missing=missing)
    with pytest.raises(MissingDataError, match=r"infinite value.*'z'.*row 3"):
        build_design("y ~ 1", data, groups="id", time="z", missing=missing)
    extra = {"w": data["z"].to_numpy()}
    with pytest.raises(MissingDataError, match=r"infinite value.*w=.*row 3"):
        build_design("y ~ 1", data, groups="id", extra=extra, missing=missing)
    data.loc[3, "y"] = np.nan
    if missing == "drop":
        assert build_design("y ~ z", data, groups="id", missing="drop").n_dropped == 1


def test_nothing_left():
    data = make_data()
    data["x"] = np.nan
    with pytest.raises(EmptyDataError):
        build_design("y ~ x", data, groups="id", missing="drop")
    with pytest.raises(EmptyDataError, match="no rows"):
        build_design("y ~ x", data.iloc[:0], groups="id")


# Bad input -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "name", "near"),
    [
        ({"formula": "y ~ tme"}, "tme", "time"),
        ({"formula": "yy ~ time"}, "yy", "y"),
        ({"formula": "y ~ np.log(xx)"}, "xx", "x"),
        ({"formula": "y ~ C(treatmnt)"}, "treatmnt", "treatment"),
        ({"formula": "y ~ times_two(tim)"}, "tim", "time"),
        ({"formula": "y ~ tims_two(x)"}, "tims_two", ""),
        ({"groups": "identity"}, "identity", "id"),
        ({"time": "tine"}, "tine", "time"),
        ({"series": ["id", "kk"]}, "kk", "k"),
        ({"re_formula": "~tme"}, "tme", "time"),
        ({"vc_formula": {"a": "0 + C(objj)"}}, "objj", "obj"),
        ({"vc_formula": {"a": "0 + times_two(objj)"}}, "objj", "obj"),
        ({"extra": {"w": "wait"}}, "wait", ""),
    ],
)
def test_unknown_columns(engine, arguments, name, near):
    arguments = {"formula": "y ~ x", "groups": "id", "eval_env": NAMES, **arguments}
    with pytest.raises(UnknownColumnError) as caught:
        build_design(data=make_data(), **arguments)
    assert f"'{name}'" in str(caught.value)
    assert near in str(caught.value)


@pytest.mark.parametrize(
    "formula",
    [
        "treatment ~ x",
        "cat ~ x",
        "flag ~ x",
        "obj ~ x",
        "y + x ~ time",
        "~ x",
        "x",
        "mixed ~ x",
        "C(k) ~ x",
        "y ~ x ~ time",
    ],
)
def test_bad_responses(engine, formula):
    with pytest.raises(ResponseError):
        build_design(formula, make_data(), groups="id")


def test_other_bad_input(engine):
    data = make_data()
    with pytest.raises(LengthError, match=r"groups= has 3 values.*rows"):
        build_design("y ~ x", data, groups=[1, 2, 3])
    with pytest.raises(LengthError, match="time="):
        build_design("y ~ x", data, groups="id", time=data["time"].iloc[:-1])
    with pytest.raises(LengthError, match="'b' 3"):
        build_design("a ~ b", {"a": [1, 2], "b": [1, 2, 3]}, require_groups=False)
    with pytest.raises(UnsupportedError, match="another order"):
        build_design("y ~ x", data, groups=data["id"].iloc[::-1])
    with pytest.raises(MixedARError, match=r"evaluated|complex"):
        build_design("y ~ w", data.assign(w=data["x"] + 1j), groups="id")
    with pytest.raises(ResponseError, match="complex"):
        build_design("w ~ x", data.assign(w=data["x"] + 1j), groups="id")
    with pytest.raises(MixedARError, match="missing="):
        build_design("y ~ x", data, groups="id", missing="dropp")
    with pytest.raises(MixedARError, match="DataFrame"):
        build_design("y ~ x", 3, groups="id")
    with pytest.raises(MixedARError, match="string"):
        build_design(3, data, groups="id")
    with pytest.raises(MixedARError, match="dict"):
        build_design("y ~ x", data, groups="id", vc_formula="0 + k")
    with pytest.raises(UnsupportedError, match="one-sided"):
        build_design("y ~ x", data, groups="id", re_formula="y ~ x")
    with pytest.raises(UnsupportedError, match="eval_env"):
        build_design("y ~ x", data, groups="id", eval_env=-3)
    with pytest.raises(MixedARError, match="cannot be evaluated"):
        build_design("y ~ x +* time", data, groups="id")
    with pytest.raises(MixedARError, match="cannot be evaluated"):
        build_design("y ~ times_two()", data, groups="id", eval_env=NAMES)
    twice = pd.concat([data, data[["x"]]], axis=1)
    with pytest.raises(UnknownColumnError, match="several"):
        build_design("y ~ x", twice, groups="id")
    with pytest.raises(MixedARError, match="one dimension"):
        build_design("y ~ x", data, groups=data[["id", "k"]])
    labels = np.array([1, "a"] * len(data), dtype=object)[: len(data)]
    with pytest.raises(GroupError, match="sorted"):
        build_design("y ~ x", data, groups=labels, vc_formula={"k": "0 + C(k)"})


# Variables of the caller -----------------------------------------------------


def test_capture_namespace():
    local = object()

    def inner():
        hidden = 1
        return capture_namespace(1), capture_namespace(0), hidden

    outer, own, hidden = inner()
    assert outer["local"] is local
    assert own["hidden"] == hidden
    assert "hidden" not in outer
    assert outer["make_data"] is make_data
    assert capture_namespace()["local"] is local
    assert "__name__" in capture_namespace(10_000)


def test_patsy_environment_and_arrays_of_the_caller(engine):
    from patsy import EvalEnvironment

    data = make_data(shuffle=True)
    doubled = 2 * data["x"].to_numpy()
    data.loc[data.index[3], "y"] = np.nan
    kept = data.dropna(subset="y").assign(doubled=np.delete(doubled, 3))
    for env in (EvalEnvironment.capture(), {"doubled": doubled}):
        design = build_design(
            "y ~ doubled", data, groups="id", missing="drop", eval_env=env
        )
        assert_same(design, parent("y ~ doubled", kept, groups="id"))


def test_prediction_on_new_rows(engine):
    data = make_data()
    design = build_design(
        "y ~ time + treatment + C(k) + np.log(x)",
        data,
        groups="id",
        eval_env=NAMES,
    )
    new = data.iloc[[5, 3, 1]].copy()
    matrix, names = design.model_spec.matrix(new), design.model_spec.column_names
    assert names == design.exog_names
    assert_array_equal(matrix, design.exog[[5, 3, 1]])
    one_level = new.iloc[:1].astype({"treatment": "category"})
    assert_array_equal(design.model_spec.matrix(one_level), design.exog[[5]])
    row = data.iloc[4]
    assert_array_equal(design.model_spec.matrix(row), design.exog[[4]])
    as_dict = {name: row[name] for name in ("time", "treatment", "k", "x")}
    assert_array_equal(design.model_spec.matrix(as_dict), design.exog[[4]])
    new.loc[new.index[1], "treatment"] = None
    matrix = design.model_spec.matrix(new)
    assert np.isnan(matrix[1]).all()
    assert_array_equal(matrix[[0, 2]], design.exog[[5, 1]])
    empty = design.model_spec.matrix(new.iloc[:0])
    assert empty.shape == (0, design.exog.shape[1])
    new["treatment"] = "aspirin"
    with pytest.raises(UnsupportedError, match=r"'treatment'.*'aspirin'.*'drug'"):
        design.model_spec.matrix(new)
    with pytest.raises(UnknownColumnError, match="'k'"):
        design.model_spec.matrix(data.drop(columns="k"))
    with pytest.raises(MixedARError, match="numeric"):
        design.model_spec.matrix(data.assign(time="long ago"))
    missing_only = data.iloc[:2].assign(x=np.nan)
    assert np.isnan(design.model_spec.matrix(missing_only)).all()


@pytest.mark.parametrize("formula", FORMULAS)
def test_specifications_survive_pickling(engine, formula):
    data = make_data()
    design = build_design(formula, data, groups="id", eval_env=NAMES)
    spec = pickle.loads(pickle.dumps(design.model_spec))
    rows = [4, 2, 9]
    expected = design.model_spec.matrix(data.iloc[rows])
    matrix, names = spec.matrix(data.iloc[rows]), spec.column_names
    assert_array_equal(matrix, expected)
    assert names == design.exog_names
    np.testing.assert_allclose(matrix, design.exog[rows], rtol=1e-14, atol=1e-14)
    again = pickle.loads(pickle.dumps(spec))
    assert_array_equal(again.matrix(data.iloc[rows]), expected)


def test_small_pickles_unless_a_transform_needs_the_data():
    data = pd.concat([make_data()] * 50, ignore_index=True)
    small = build_design("y ~ x + treatment + C(k)", data, groups="id").model_spec
    large = build_design("y ~ center(x)", data, groups="id").model_spec
    assert len(pickle.dumps(small)) < 5_000
    assert len(pickle.dumps(large)) > 8 * len(data)


def test_variables_that_cannot_be_pickled(engine):
    data = make_data()
    env = {"own": lambda x: x + 1}
    design = build_design("y ~ own(x)", data, groups="id", eval_env=env)
    spec = pickle.loads(pickle.dumps(design)).model_spec
    with pytest.raises(UnsupportedError, match=r"'own'.*importable module"):
        spec.matrix(data)
    assert_array_equal(design.model_spec.matrix(data), design.exog)


def test_a_design_pickles_and_remembers_its_engine(engine):
    design = build_design(
        "y ~ x + treatment",
        make_data(),
        groups="id",
        vc_formula={"k": "0 + C(k)"},
        eval_env=NAMES,
    )
    restored = pickle.loads(pickle.dumps(design))
    other = {"patsy": "formulaic", "formulaic": "patsy"}[engine]
    statsmodels.formula.options.formula_engine = other
    assert_array_equal(restored.model_spec.matrix(make_data()), design.exog)
    assert restored.model_spec.engine == engine
    assert restored.model_spec.engine_spec is not None
    assert restored.vc[0].column_names(0) == design.vc[0].column_names(0)


# Reading formulas ------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "rowwise", "names"),
    [
        ("a + b:c", True, "abc"),
        ("C(a, Treatment('a'))", True, "a"),
        ("C(a, Treatment('b')) + I(c**2)", True, "ac"),
        ("np.log(a) + np.sqrt(b)", True, "ab"),
        ("a.clip(0)", False, "a"),
        ("f(a, key=b)", False, "ab"),
        ("a[0] + b", False, "ab"),
        ("center(a)", False, "a"),
        ("Q('a') + b", False, "ab"),
        ("I(a if b else c)", True, "abc"),
        ("np.add(a, b)", False, "ab"),
        ("C(a + b)", False, "ab"),
        ("C(np.log(a))", False, "a"),
        ("(a + b)**2", True, "ab"),
        ("{a + b}", False, "ab"),
        ("`a` + b", True, "ab"),
        ("1e3 + 2.5", True, ""),
    ],
)
def test_reading_formulas(formula, rowwise, names):
    use = read_formula(formula, {"np": np})
    assert use.is_rowwise("abc") is rowwise
    assert use.names & set("abc") == set(names)


def test_splitting_formulas():
    assert split_formula("y ~ x + z") == ("y", "x + z")
    assert split_formula("~x") == (None, "x")
    assert split_formula("Q('a ~ b') ~ x") == ("Q('a ~ b')", "x")
    assert indicator_factor("~ 0 + C(room)") == ("room", True)
    assert indicator_factor("room - 1") == ("room", False)
    assert indicator_factor("C(room)") is None
    assert indicator_factor("0 + 1") is None


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=3),
        min_size=2,
        max_size=20,
    )
)
def test_any_text_is_coded_as_by_the_engine(labels):
    # patsy itself takes texts that float() reads as NaN for missing
    assume(not any(label.strip().lower().lstrip("+-") == "nan" for label in labels))
    n = len(labels)
    data = pd.DataFrame(
        {"y": np.arange(n) * 1.5, "g": np.arange(n) // 2, "text": labels}
    )
    data["text"] = data["text"].astype(object)
    ours = build_design("y ~ text", data, groups="g")
    expected = parent("y ~ text", data, groups="g")
    assert_array_equal(ours.exog, expected.exog)
    assert ours.exog_names == expected.exog_names


def test_names_that_are_not_identifiers(engine):
    data = make_data(shuffle=True).rename(columns={"x": "my x", "z": "a:b"})
    data.loc[data.index[2], "my x"] = np.nan
    kept = data.dropna()
    names = ["Q('my x')", "Q('a:b')"]
    if engine == "formulaic":
        names = ["`my x`", "`a:b`"]
    formulas = [f"{names[1]} ~ time + Q('my x')", f"y ~ time + np.log({names[0]})"]
    if engine == "patsy":  # statsmodels loses formulaic's backquotes here
        formulas.append(f"y ~ treatment + {names[0]}")
    for formula in formulas:
        ours = build_design(formula, data, groups="id", missing="drop", eval_env=NAMES)
        assert_same(ours, parent(formula, kept, groups="id"))


@pytest.mark.parametrize("ordering", ["degree", "sort", "none"])
def test_formulaic_orderings(ordering):
    options = statsmodels.formula.options
    before = options.formula_engine, options.ordering
    data = make_data()
    formula = "y ~ x:z + treatment + time + C(k)"
    try:
        options.formula_engine, options.ordering = "formulaic", ordering
        design = build_design(formula, data, groups="id")
        assert_same(design, parent(formula, data, groups="id"))
        spec = pickle.loads(pickle.dumps(design.model_spec))
        assert_array_equal(spec.matrix(data), design.exog)
    finally:
        options.formula_engine, options.ordering = before


def test_designs_do_not_share_the_response():
    data = {"y": np.arange(6.0), "x": np.arange(6.0) ** 2}
    design = build_design("y ~ x", data, groups=[0, 0, 1, 1, 2, 2])
    data["y"][:] = -1.0
    assert_array_equal(design.endog, np.arange(6.0))
    design.endog[0] = 3.0


def test_levels_of_the_index_in_formulas():
    data = make_data()
    indexed = data.set_index(["id", "time"])
    design = build_design("y ~ time + x", indexed, groups="id", time="time")
    assert_array_equal(
        design.exog, build_design("y ~ time + x", data, groups="id").exog
    )
    matrix = design.model_spec.matrix(indexed.iloc[:3])
    assert_array_equal(matrix, design.exog[:3])


def test_copies_of_specifications_keep_their_functions():
    data = make_data()
    env = {"own": lambda x: x + 1}
    spec = build_design("y ~ own(x)", data, groups="id", eval_env=env).model_spec
    for same in (copy.copy(spec), copy.deepcopy(spec)):
        assert_array_equal(same.matrix(data), spec.matrix(data))
    assert repr(spec) == "FormulaSpec('own(x)', columns=['Intercept', 'own(x)'])"


def test_messages_are_short():
    data = make_data()
    data["x"] = np.nan
    with pytest.raises(MissingDataError) as caught:
        build_design("y ~ x", data, groups="id")
    assert re.search(
        r"\d+ missing values in 'x' \(rows 0, 1, 2, 3, 4, \.\.\.\)", str(caught.value)
    )
    assert len(str(caught.value)) < 150


def test_a_lag_loses_its_first_row_only():
    data = pd.DataFrame({"y": np.arange(8.0) ** 2, "x": np.arange(8.0), "g": 1})
    design = build_design("y ~ x.shift(1)", data, groups="g", missing="drop")
    assert design.n_dropped == 1
    assert_array_equal(design.exog[:, 1], np.arange(7.0))
    assert_array_equal(design.endog, data["y"][1:])
    assert list(design.index) == list(range(1, 8))
    assert len(design.group_values) == 7
