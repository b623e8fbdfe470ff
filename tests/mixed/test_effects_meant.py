"""Random effects that are easily written otherwise than meant."""

from __future__ import annotations

import re
import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar import MixedLMAR
from mixedar.exceptions import BoundaryWarning, GroupError


@cache
def pupils() -> pd.DataFrame:
    """Pupils in classes in schools; must not be changed."""
    rng = np.random.default_rng(13)
    school, rest = np.divmod(np.arange(240), 24)
    data = pd.DataFrame(
        {"school": school, "class": rest // 6, "seat no": rest // 2 % 3}
    )
    levels = rng.normal(size=10)[school] + rng.normal(size=40)[np.arange(240) // 6]
    data["y"] = 5.0 + levels + rng.normal(size=240)
    data["x"] = rng.normal(size=240)
    return data


def nested(data: pd.DataFrame) -> Any:
    """The two levels written out with labels of one's own."""
    parts = {"class": "0 + C(room)"}
    own = data.assign(room=data["class"])
    return mar.mixedlm("y ~ 1", own, groups="school", re_formula="1", vc_formula=parts)


SEVERAL: dict[str, Any] = {
    "list": lambda d: ["school", "class"],
    "tuple": lambda d: ("school", "class"),
    "slash": lambda d: "school/class",
    "label of combinations": lambda d: "school / class",
    "frame": lambda d: d[["school", "class"]],
    "list of columns": lambda d: [d["school"], d["class"]],
    "index": lambda d: pd.MultiIndex.from_frame(d[["school", "class"]]),
}


@pytest.mark.parametrize("how", SEVERAL)
def test_several_columns_of_groups_are_refused_with_a_remedy(how: str) -> None:
    data = pupils()
    with pytest.raises(GroupError, match="groups= takes one column") as caught:
        mar.mixedlm("y ~ 1", data, groups=SEVERAL[how](data))
    remedy = re.search(r"add (\(1 \| .*\)) to the formula", str(caught.value))
    assert remedy is not None
    found = mar.mixedlm(f"y ~ 1 + {remedy[1]}", data).fit()
    assert found.llf == pytest.approx(nested(data).fit().llf, abs=1e-8)
    made = re.search(r"(data\[.*?\] = .*), and pass (groups='.*')", str(caught.value))
    assert made is not None
    space = {"data": data.copy()}
    exec(made[1], space)
    one = eval(f"mar.mixedlm('y ~ 1', data, {made[2]})", {**space, "mar": mar})
    assert one.n_groups == 40


@pytest.mark.parametrize("how", ["frame", "list of columns", "index"])
def test_arrays_of_several_columns_are_refused(how: str) -> None:
    data = pupils()
    given = SEVERAL[how](data)
    for groups in (given, np.column_stack([data["school"], data["class"]])):
        with pytest.raises(GroupError, match="groups= takes one column"):
            MixedLMAR(data["y"], np.ones(240), groups=groups)
        with pytest.raises(GroupError, match="entity= takes one column"):
            mar.PooledOLS(data["y"], data[["x"]], entity=groups)


def test_three_levels_and_awkward_names() -> None:
    data = pupils()
    with pytest.raises(GroupError) as caught:
        mar.mixedlm("y ~ 1", data, groups=["school", "class", "seat no"])
    remedy = re.search(r"add (\(1 \| .*\)) to the formula", str(caught.value))
    assert remedy is not None
    model = mar.mixedlm(f"y ~ 1 + {remedy[1]}", data)
    names = ["school Var", "school:class Var", "school:class:seat no Var"]
    assert sorted(model.data.param_names[1:]) == sorted(names)


@pytest.mark.parametrize("entity", [["school", "class"], "school/class"])
def test_entities_of_several_columns_are_refused(entity: Any) -> None:
    with pytest.raises(GroupError, match=r"entity= takes one.*entity='school_class'"):
        mar.fixed_effects("y ~ x", pupils(), entity=entity)


def test_a_list_or_frame_of_one_column_is_the_column() -> None:
    data = pupils()
    expected = mar.mixedlm("y ~ 1", data, groups="school")
    for groups in (["school"], data[["school"]]):
        found = mar.mixedlm("y ~ 1", data, groups=groups)
        assert found.group_labels == expected.group_labels
    assert mar.fixed_effects("y ~ x", data, entity=["school"]).fit().nobs == 240


@cache
def plates() -> pd.DataFrame:
    """Wafers, numbered anew in each lot, measured on two sides; must not be changed."""
    rng = np.random.default_rng(3)
    row = np.arange(240)
    data = pd.DataFrame({"lot": row // 24, "wafer": row % 24 // 6})
    data["side"] = np.where(row % 2, "a", "b")
    data["arm"] = np.where(row % 6 < 3, "u", "v")
    data["x"] = rng.normal(size=240)
    levels = rng.normal(size=10)[row // 24] + rng.normal(size=40)[row // 6]
    data["y"] = levels + rng.normal(size=240)
    return data


CONTRASTS = ["C(side)", "side", "~ C(side)", "1 + C(side)", "0 + C(side, Sum)"]
CONTRASTS += ["C(side) + x", "0 + C(side) + C(arm)", "C(side):C(arm)"]


@pytest.mark.parametrize("formula", CONTRASTS)
def test_contrasts_in_place_of_levels_are_said(formula: str) -> None:
    options: dict[str, Any] = {"groups": "lot", "re_formula": "1"}
    model = mar.mixedlm("y ~ x", plates(), vc_formula={"part": formula}, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BoundaryWarning)
        text = " ".join(str(model.fit().summary()).split())
    remedy = re.search(r"differ in variance; .* write vc_formula=({.*?})\.", text)
    assert remedy is not None
    parts = eval(remedy[1].replace("' '", ""))
    model = mar.mixedlm("y ~ x", plates(), vc_formula=parts, **options)
    for mats in model.exog_vc.mats:
        ones = (mats[0] != 0.0).sum(axis=1)
        assert (ones == ones[0]).all()
    assert not model.arrays.effect_notes


def test_a_numeric_component_is_said_to_be_a_slope() -> None:
    options: dict[str, Any] = {"groups": "lot", "re_formula": "1"}
    data = plates().assign(**{"class": plates()["wafer"]})
    for column, label in (("wafer", "wafer"), ("Q('class')", "class")):
        parts = {"part": f"0 + {column}"}
        fit = mar.mixedlm("y ~ x", data, vc_formula=parts, **options).fit()
        text = str(fit.summary()).replace("\n", " ")
        assert f"random slope of the numbers in '{label}'" in text
        fit.remove_data()
        assert "random slope of the numbers" in str(fit.summary()).replace("\n", " ")
    # a slope that has a mean, one of decimals, one of a group's indicator
    data["two"] = (data["arm"] == "u").astype(int)
    for fixed, part in (("wafer", "0 + wafer"), ("1", "0 + x"), ("1", "0 + two")):
        parts = {"part": part}
        model = mar.mixedlm(f"y ~ {fixed}", data, vc_formula=parts, **options)
        assert not model.arrays.effect_notes


def test_components_without_re_formula_say_that_groups_have_no_effect() -> None:
    parts = {"wafer": "0 + C(wafer)"}
    fit = mar.mixedlm("y ~ x", plates(), groups="lot", vc_formula=parts).fit()
    assert fit.k_re == 0
    assert "re_formula='1' adds a random intercept" in " ".join(
        str(fit.summary()).split()
    )
    for other in ({"re_formula": "1"}, {"re_formula": "0"}):
        model = mar.mixedlm("y ~ x", plates(), groups="lot", vc_formula=parts, **other)
        assert not model.arrays.effect_notes
    level = {**parts, "lot": "1"}
    model = mar.mixedlm("y ~ x", plates(), groups="lot", vc_formula=level)
    assert not model.arrays.effect_notes
    one = plates().assign(all=1)
    model = mar.mixedlm("y ~ x", one, groups="all", vc_formula=parts)
    assert not model.arrays.effect_notes
